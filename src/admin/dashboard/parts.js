// --- Everything else --------------------------------------------------------------------------

function renderTiles(stats) {
  const sum = (outcomes) => outcomes.reduce((total, name) => total + stats.requests[name], 0);
  const all = sum(Object.keys(stats.requests));
  const hits = sum(TIERS.map((tier) => tier.outcome));
  const asked = hits + stats.requests.miss;
  say('hit-rate', asked ? percent(stats.hit_rate) : '-');
  const tiers = TIERS.filter((tier) => stats.requests[tier.outcome]);
  say('hit-note', asked
    ? tiers.map((tier) => `${tier.name} ${count(stats.requests[tier.outcome])}`)
      .concat(`miss ${count(stats.requests.miss)}`).join(', ')
    : 'of the requests that the cache was asked for');
  const split = $('hit-split');
  if (!split.childElementCount) {
    split.append(...TIERS.map((tier) => el('span', { class: tier.style })),
      el('span', { class: 'missed' }));
  }
  [...TIERS.map((tier) => tier.outcome), 'miss'].forEach((outcome, index) => {
    split.children[index].style.flexGrow = asked ? stats.requests[outcome] / asked : 0;
  });
  say('requests-total', count(all));
  say('requests-note',
    `${count(stats.requests.bypass)} passed by, ${count(stats.requests.error)} errors`);
  const [hit, miss] = [stats.latency.hit_exact, stats.latency.miss];
  say('speedup', hit ? time(hit.p50_ms) : '-');
  say('speedup-note', hit && miss
    ? `exact hit; a miss takes ${time(miss.p50_ms)}` : 'exact hit against miss');
  say('saved-tokens', count(stats.saved.tokens));
  const { usd, unpriced_tokens: unpriced, priced_at: date } = stats.saved;
  say('saved-usd', usd || date ? dollars.format(usd) : '-');
  if (usd || date) {
    say('saved-usd-note', (date ? `prices of ${date}` : 'by [prices]') +
      (unpriced ? `; ${count(unpriced)} tokens have none` : ''));
  }
  renderWrongHits(stats.semantic.wrong_hits);
  say('saved-time', span(stats.saved.upstream_seconds));
  say('uptime', `up ${span(stats.uptime_seconds)}`);
}

// With its interval: a rate without one says nothing while little was audited.
function renderWrongHits(rates) {
  const all = rates && rates[0];
  if (!all || !all.audited) {
    say('wrong-hits', '-');
    say('wrong-hits-note', 'no semantic hit was audited yet');
    return;
  }
  say('wrong-hits', percent(all.point));
  say('wrong-hits-note', `between ${percent(all.low)} and ${percent(all.high)} (95 %), ` +
    `${count(Math.round(all.audited))} audited`);
}

function renderPercentiles(stats) {
  const rows = state.live.outcomes.filter((outcome) => stats.latency[outcome]).map((outcome) => {
    const [whole, first] = [stats.latency[outcome], stats.first_token[outcome]];
    const mark = el('span', { class: 'mark ' + STYLE_OF[outcome], 'aria-hidden': 'true' });
    return el('tr', null, el('th', { scope: 'row' }, mark, outcome),
      ...['p50_ms', 'p95_ms', 'p99_ms'].map((key) => el('td', null, time(whole[key]))),
      el('td', null, time(first && first.p50_ms)), el('td', null, time(first && first.p99_ms)),
      el('td', null, count(whole.count)));
  });
  $('percentiles').replaceChildren(...rows);
  const gap = stats.inter_token;
  say('inter-token', gap ? `Between two tokens of a stream: p50 ${time(gap.p50_ms)}, ` +
    `p95 ${time(gap.p95_ms)}, p99 ${time(gap.p99_ms)}.` : '');
}

const FIVE = ['pre_processing', 'network', 'queueing', 'inference', 'post_processing'];

function renderFive(stats, outcome) {
  const parts = stats.parts[outcome] || {};
  const total = stats.stages[outcome].total.count;
  const adds = FIVE.map((part) => (parts[part] ? parts[part].mean_ms * parts[part].count / total : 0));
  const bar = $('five');
  if (!bar.childElementCount) bar.append(...FIVE.map((part) => el('span', { class: part })));
  const whole = adds.reduce((sum, add) => sum + add, 0) || 1;
  // Factors that sum to less than 1 would leave a part of the bar empty.
  adds.forEach((add, index) => { bar.children[index].style.flexGrow = add / whole; });
  const words = FIVE.map((part, index) => `${part.replace('_', '-')} ${time(adds[index])}`);
  bar.setAttribute('aria-label', `The five parts of the mean request: ${words.join(', ')}`);
  legend('five-legend', FIVE.map((part, index) => ({ style: part, name: words[index] })));
  $('slo').replaceChildren(...stats.slo.map((slo) => {
    const blame = Object.entries(slo.broken_by).sort((one, other) => other[1] - one[1])[0];
    const burn = `burns ${slo.burn_rate_5m.toFixed(2)} (5 min), ${slo.burn_rate_1h.toFixed(2)} (1 h)`;
    return el('li', { class: slo.burn_rate_5m > 1 ? 'bad' : null },
      el('span', null, `${slo.route}: ${time(slo.budget_ms)} for ${percent(slo.share)}`),
      el('span', null, `${burn}${blame ? `, mostly by ${blame[0]}` : ''}`));
  }));
}

// The stages that are the model's and the network's; all others are our own.
const UPSTREAM_STAGES = ['queue', 'connect', 'first', 'body'];

function renderBudget(stats) {
  const choice = $('budget-outcome');
  for (const outcome of state.live.outcomes) {
    const known = [...choice.options].some((option) => option.value === outcome);
    if (stats.stages[outcome] && !known) choice.append(el('option', { value: outcome }, outcome));
  }
  const stages = stats.stages[choice.value];
  if (!stages) { say('budget-note', 'no request yet'); return; }
  renderFive(stats, choice.value);
  const { total } = stages;
  // A stage that only some requests go through adds its share to the mean request.
  const adds = (stage) => stages[stage].mean_ms * stages[stage].count / total.count;
  const most = Math.max(total.mean_ms, 1e-9);
  let offset = 0;
  let own = 0;
  const row = (name, latency, from, add, style) => {
    const piece = el('span', { class: style });
    piece.style.left = `${Math.min(100, from / most * 100)}%`;
    piece.style.width = `${Math.min(100, add / most * 100)}%`;
    const track = el('div', { class: 'track', 'aria-hidden': 'true' }, piece);
    return el('tr', null, el('th', { scope: 'row' }, name),
      el('td', { class: 'chartcol' }, track), el('td', null, time(add)),
      ...['p50_ms', 'p95_ms', 'p99_ms'].map((key) => el('td', null, time(latency[key]))),
      el('td', null, count(latency.count)));
  };
  const rows = state.live.stages.filter((stage) => stage !== 'total' && stages[stage])
    .map((stage) => {
      const theirs = UPSTREAM_STAGES.includes(stage);
      const add = adds(stage);
      const from = offset;
      offset += add;
      if (!theirs) own += add;
      return row(stage, stages[stage], from, add, theirs ? 'missed' : 'exact');
    });
  $('budget').replaceChildren(...rows, row('total', total, 0, total.mean_ms, 'reach'));
  say('budget-note', `Reprise itself takes ${time(own)} of the mean ${time(total.mean_ms)} ` +
    `(${percent(own / most)}); the rest is the connection's and the model's.`);
}

function renderUpstreams(stats) {
  const rows = stats.upstreams.flatMap((upstream) => upstream.replicas.map((replica) =>
    upstreamRow(upstream.name, replica)));
  $('upstreams').replaceChildren(...rows);
}

function upstreamRow(name, replica) {
  const server = replica.server || {};
  const known = (value, text) => (value === null || value === undefined ? '-' : text(value));
  const memory = known(server.gpu_memory, bytes) +
    known(server.gpu_memory_max, (most) => ` of ${bytes(most)}`).replace('-', '');
  const queue = known(server.waiting, (waiting) => `${count(waiting)} waiting`) +
    known(server.running, (running) => `, ${count(running)} running`).replace('-', '');
  const cells = [replica.url, replica.state, count(replica.in_flight),
    replica.first_byte_us ? time(replica.first_byte_us / 1000) : '-', count(replica.failures_total),
    count(replica.idle_connections), count(replica.shared_connections),
    count(replica.connections_total), queue, known(server.kv_cache, percent), memory];
  return el('tr', { class: replica.state === 'ejected' ? 'bad' : null },
    el('td', null, name), ...cells.map((cell) => el('td', null, cell)));
}

function facts(id, list) {
  $(id).replaceChildren(...list.flatMap(([name, value, style]) =>
    [el('dt', null, name), el('dd', { class: style }, value)]));
}

function renderParts(stats) {
  const { memory, store, embed, flights, writes, semantic } = stats;
  const state = (part) => (part.trouble ? [part.trouble, 'bad'] : ['ok', 'good']);
  const list = [
    ['Memory', `${count(memory.entries)} entries, ${bytes(memory.bytes)} of ${bytes(memory.max_bytes)}`],
    ['Matching', semantic.policy === 'off' ? 'exact repeats only'
      : `${semantic.policy} from ${semantic.min_similarity.toFixed(2)}, ${semantic.mode}`],
  ];
  if (store) {
    list.push(['Store', ...state(store)],
      ['', `${store.kind}, ${count(store.records)} records, ${bytes(store.disk_bytes)}`]);
  } else {
    list.push(['Store', 'none']);
  }
  list.push(['Writes', `${count(writes.queued)} waiting, ${count(writes.written_total)} written, ` +
    `${count(writes.dropped_total)} dropped, ${count(writes.failed_total)} failed`,
  writes.dropped_total || writes.failed_total ? 'bad' : null]);
  const evicted = Object.entries(writes.evicted_total).filter(([, number]) => number);
  if (evicted.length) {
    list.push(['Evicted', evicted.map(([reason, number]) => `${count(number)} ${reason}`).join(', ')]);
  }
  if (embed) {
    list.push(['Embedder', ...state(embed)], ['', `${embed.model}, ${embed.dimension} d, ` +
      `${embed.threads} threads, ${count(embed.queued)} of ${count(embed.queue_max)} waiting, ` +
      `${count(embed.texts.vector || 0)} embedded`]);
  } else {
    list.push(['Embedder', 'none']);
  }
  list.push(['In flight', `${count(flights.running)} running, ${bytes(flights.bytes)} of ` +
    `${bytes(flights.max_bytes)}, ${count(flights.joined_total)} joined`]);
  facts('parts', list);
}

function renderReasons(stats) {
  const reasons = Object.entries(stats.bypass_reasons).filter(([, value]) => value)
    .sort((one, other) => other[1] - one[1]);
  $('reasons').replaceChildren(...(reasons.length
    ? reasons.map(([name, value]) => el('li', null, el('span', null, name),
      el('span', null, count(value))))
    : [el('li', null, 'never yet')]));
}

let shownSeq = -1;
function renderLatest() {
  const table = $('latest');
  const filter = $('outcome-filter').value;
  const newest = state.rows.length ? state.rows[state.rows.length - 1].seq : 0;
  // A row that somebody reads, marks or stands on must not move away.
  const busy = $('pause').getAttribute('aria-pressed') === 'true' ||
    table.contains(document.activeElement) ||
    (!getSelection().isCollapsed && table.contains(getSelection().anchorNode));
  if (busy && newest > shownSeq && shownSeq >= 0) {
    say('skipped', `held, ${count(newest - shownSeq)} newer`);
    return;
  }
  if (newest === shownSeq) return;
  shownSeq = newest;
  const rows = state.rows.filter((row) => !filter || row.outcome === filter)
    .slice(-SHOWN_ROWS).reverse();
  table.replaceChildren(...rows.map((row) => {
    const why = [row.reason, row.fault, row.end === 'complete' ? null : row.end];
    const entry = row.entry
      ? el('button', { type: 'button', 'data-entry': row.entry, title: row.entry },
        row.entry.slice(0, 8)) : '-';
    const mark = el('span', { class: 'mark ' + STYLE_OF[row.outcome], 'aria-hidden': 'true' });
    return el('tr', null, el('td', null, clock(row.at_ms)), el('td', null, mark, row.outcome),
      el('td', null, why.filter(Boolean).join(', ') || '-'),
      el('td', { title: row.model }, row.model || '-'), el('td', null, row.route),
      el('td', null, row.status || '-'), el('td', null, time(row.first_token_ms)),
      el('td', null, time(row.total_ms)),
      el('td', null, row.similarity === null ? '-' : row.similarity.toFixed(3)),
      el('td', null, entry), el('td', { title: row.request_id }, row.request_id));
  }));
  say('skipped', state.skipped ? `${count(state.skipped)} more were too many to show` : '');
}

function render() {
  if (!state.live) return;
  const { stats } = state.live;
  const points = state[state.span];
  renderTiles(stats);
  renderRate(points);
  renderLatency(points);
  renderPercentiles(stats);
  renderBudget(stats);
  renderSimilarity(stats);
  renderBelief(stats);
  renderUpstreams(stats);
  renderParts(stats);
  renderReasons(stats);
  renderLatest();
}

