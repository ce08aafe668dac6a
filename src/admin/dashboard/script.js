// --- Live -------------------------------------------------------------------------------------

function append(list, news, most) {
  const last = list.length ? list[list.length - 1].seq : 0;
  list.push(...news.filter((item) => item.seq > last));
  list.splice(0, Math.max(0, list.length - most));
}

function receive(live) {
  if (live.began_ms !== state.began) {
    Object.assign(state, { began: live.began_ms, hour: [], day: [], rows: [], skipped: 0 });
    shownSeq = -1;
  }
  const first = state.rows.length === 0;
  append(state.hour, live.hour, KEPT_POINTS);
  append(state.day, live.day, KEPT_POINTS);
  append(state.rows, live.requests, KEPT_ROWS);
  if (!first) state.skipped += live.skipped;
  state.live = live;
  const filter = $('outcome-filter');
  if (filter.options.length === 1) {
    filter.append(...live.outcomes.map((outcome) => el('option', { value: outcome }, outcome)));
  }
  if (!document.hidden) render();
}

function link(kind, text) {
  $('link').dataset.state = kind;
  say('link', text);
}

function listen() {
  const events = new EventSource('/api/v1/events');
  events.addEventListener('live', (event) => {
    receive(JSON.parse(event.data));
    link('live', 'live');
  });
  events.addEventListener('error', () => {
    link('lost', 'not connected, trying again');
    // The browser tries again by itself unless it was refused.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  });
}

// --- Light and dark ---------------------------------------------------------------------------

const darkSystem = matchMedia('(prefers-color-scheme: dark)');
function theme() {
  const chosen = localStorage.getItem('reprise-theme');
  const dark = chosen ? chosen === 'dark' : darkSystem.matches;
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  $('theme').textContent = dark ? 'Light' : 'Dark';
}

// --- Beginning --------------------------------------------------------------------------------

legend('rate-legend', TIERS);
legend('latency-legend', CURVES.map((curve) => ({ ...curve, line: true })));
for (const id of ['similarity-legend', 'belief-legend']) {
  legend(id, [{ name: 'served', style: 'semantic' }, { name: 'passed by', style: 'missed' }]);
}
theme();
darkSystem.addEventListener('change', theme);
$('theme').addEventListener('click', () => {
  const dark = document.documentElement.dataset.theme === 'dark';
  localStorage.setItem('reprise-theme', dark ? 'light' : 'dark');
  theme();
});
for (const input of document.getElementsByName('span')) {
  input.addEventListener('change', () => { state.span = input.value; render(); });
}
$('budget-outcome').addEventListener('change', render);
$('outcome-filter').addEventListener('change', () => { shownSeq = -1; renderLatest(); });
$('pause').addEventListener('click', () => {
  const paused = $('pause').getAttribute('aria-pressed') !== 'true';
  $('pause').setAttribute('aria-pressed', paused);
  $('pause').textContent = paused ? 'Go on' : 'Pause';
  renderLatest();
});
$('latest').addEventListener('click', (event) => {
  const button = event.target.closest('button[data-entry]');
  if (button) showEntry(button.dataset.entry);
});
$('entry-delete').addEventListener('click', deleteEntry);
$('entry-right').addEventListener('click', () => feedback(true));
$('entry-wrong').addEventListener('click', () => feedback(false));
$('explain').addEventListener('submit', explain);
$('explain-nearest').addEventListener('click', (event) => {
  const button = event.target.closest('button[data-entry]');
  if (button) showEntry(button.dataset.entry);
});
$('purge-by').addEventListener('change', choose);
$('purge').addEventListener('submit', purge);
document.addEventListener('visibilitychange', () => { if (!document.hidden) render(); });
choose();
listen();
