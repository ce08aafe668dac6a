// --- Writing ----------------------------------------------------------------------------------

async function send(method, path, body, extra) {
  const headers = { ...extra };
  if ($('token').value) headers.authorization = `Bearer ${$('token').value}`;
  if (body) headers['content-type'] = 'application/json';
  const text = typeof body === 'string' ? body : body && JSON.stringify(body);
  const answer = await fetch(path, { method, headers, body: text });
  const json = await answer.json();
  if (answer.status === 401) $('token-label').hidden = false;
  if (!answer.ok) throw new Error(json.error.message);
  return json;
}

function tell(id, text, kind) {
  $(id).dataset.kind = kind || '';
  $(id).textContent = text;
}

function choose() {
  const by = $('purge-by').value;
  const value = $('purge-value');
  $('purge-value-label').hidden = by === 'all';
  value.required = by !== 'all';
  value.type = by === 'before' ? 'datetime-local' : 'text';
}

async function purge(event) {
  event.preventDefault();
  const by = $('purge-by').value;
  const text = $('purge-value').value;
  const value = { all: true, before: new Date(text).getTime() }[by] || text;
  const words = $('purge-by').selectedOptions[0].textContent + (by === 'all' ? '' : ` ${text}`);
  try {
    const { entries } = await send('POST', '/api/v1/purge', { [by]: value, dry_run: true });
    if (!entries) { tell('purge-result', `Nothing to delete: ${words}.`); return; }
    say('confirm-text', `This deletes ${count(entries)} entries: ${words}. It cannot be undone.`);
    if (await ask('Delete?', 'Delete') !== 'delete') { tell('purge-result', 'Nothing was deleted.'); return; }
    const done = await send('POST', '/api/v1/purge', { [by]: value });
    tell('purge-result', `Deleted ${count(done.entries)} entries: ${words}.`);
  } catch (error) {
    tell('purge-result', error.message, 'error');
  }
}

function ask(title, verb) {
  const dialog = $('confirm');
  say('confirm-title', title);
  say('confirm-do', verb);
  dialog.returnValue = 'cancel';
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener('close', () => resolve(dialog.returnValue), { once: true }));
}

async function showEntry(id) {
  tell('entry-result', '');
  facts('entry-fields', [['Id', id]]);
  $('entry').dataset.entry = id;
  $('entry').showModal();
  try {
    const entry = await send('GET', `/api/v1/entries/${id}`);
    const date = (ms) => new Date(ms).toLocaleString([], { hour12: false });
    facts('entry-fields', [['Id', entry.id], ['Tier', entry.tier], ['Model', entry.model],
      ['Upstream', entry.route], ['Tenant', entry.tenant], ['Tags', entry.tags.join(', ') || '-'],
      ['Made', date(entry.generated_ms)], ['Fresh until', date(entry.expires_ms)],
      ['Size', bytes(entry.bytes)], ...(entry.question ? [['Prompt', entry.question]] : [])]);
  } catch (error) {
    tell('entry-result', error.message, 'error');
  }
}

async function deleteEntry() {
  try {
    await send('DELETE', `/api/v1/entries/${$('entry').dataset.entry}`);
    tell('entry-result', 'Deleted.');
  } catch (error) {
    tell('entry-result', error.message, 'error');
  }
}


// A wrong answer goes at once, and is remembered as wrong: asked twice before it does.
async function feedback(correct) {
  const id = $('entry').dataset.entry;
  if (!correct) {
    say('confirm-text', `The answer of entry ${id.slice(0, 8)} is deleted and counted as a wrong hit.`);
    if (await ask('Is it wrong?', 'It is wrong') !== 'delete') {
      tell('entry-result', 'Nothing was changed.');
      return;
    }
  }
  try {
    const done = await send('POST', '/api/v1/feedback', { entry: id, correct });
    tell('entry-result', correct ? 'Noted: right.' : `Noted: wrong. ${count(done.removed)} removed.`);
  } catch (error) {
    tell('entry-result', error.message, 'error');
  }
}

async function explain(event) {
  event.preventDefault();
  tell('explain-result', '');
  facts('explain-fields', []);
  $('explain-table').hidden = true;
  const credential = $('explain-credential').value;
  const headers = credential ? { 'x-client-authorization': credential } : {};
  const path = `/api/v1/explain?path=${encodeURIComponent($('explain-path').value)}`;
  try {
    show(await send('POST', path, $('explain-body').value, headers));
  } catch (error) {
    tell('explain-result', error.message, 'error');
  }
}

function show(told) {
  tell('explain-result', `${told.outcome} (${told.detail}): ${told.why}`);
  const { verdict, took_us: took } = told;
  const list = [['Upstream', `${told.route}, ${told.dialect}`], ['Model', told.model || '-'],
    ['Its entry', told.entry || '-']];
  if (verdict) {
    list.push(['Verdict', `${verdict.ruling} by ${verdict.policy}, ${verdict.trust}`],
      ['Similarity', `${verdict.similarity.toFixed(4)}, rival ${verdict.rival.toFixed(4)}`],
      ['Believed right', verdict.alpha.toFixed(4) +
        (verdict.line === null ? '' : `, asked for ${verdict.line.toFixed(4)}`)],
      ['Guards', verdict.guards.join(', ') || 'none objects'],
      ['Wrong hits here', verdict.wrong_hits.map(percent).join(' / ') + ' (low, point, high)']);
  }
  list.push(['Took', Object.entries(took).map(([step, us]) => `${step} ${time(us / 1000)}`).join(', ')]);
  facts('explain-fields', list);
  $('explain-table').hidden = told.nearest.length === 0;
  $('explain-nearest').replaceChildren(...told.nearest.map((near) => el('tr', null,
    el('td', null, el('button', { type: 'button', 'data-entry': near.answer, title: near.answer },
      near.entry.slice(0, 8))),
    el('td', null, near.similarity.toFixed(4)), el('td', null, near.guards.join(', ') || '-'),
    el('td', null, near.guards_off.join(', ') || '-'), el('td', null, near.question || '-'))));
}
