'use strict';
(() => {
  const SVG = 'http://www.w3.org/2000/svg';
  const KEPT_POINTS = 360;
  const KEPT_ROWS = 200;
  const SHOWN_ROWS = 50;
  const $ = (id) => document.getElementById(id);

  // What is known. The server numbers points and requests; `began` tells a restart.
  const state = { began: 0, live: null, hour: [], day: [], rows: [], skipped: 0, span: 'hour' };

  // --- Making elements: text only, never markup -------------------------------------------------

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }
  const el = (name, attributes, ...children) =>
    fill(document.createElement(name), attributes, children);
  const draw = (name, attributes, ...children) =>
    fill(document.createElementNS(SVG, name), attributes, children);

  function say(id, text) {
    const node = $(id);
    if (node.textContent !== text) node.textContent = text;
  }

  // --- Numbers for people -----------------------------------------------------------------------

  const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
  const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
  const count = (value) => (value < 100000 ? whole : short).format(value);
  const percent = (share) => (share * 100).toFixed(1) + ' %';
  const digits = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

  function time(ms) {
    if (ms === null || ms === undefined) return '-';
    if (ms < 1) return digits(ms * 1000) + ' µs';
    if (ms < 1000) return digits(ms) + ' ms';
    return span(ms / 1000);
  }
  function span(seconds) {
    if (seconds < 120) return digits(seconds) + ' s';
    if (seconds < 7200) return (seconds / 60).toFixed(0) + ' min';
    if (seconds < 172800) return (seconds / 3600).toFixed(1) + ' h';
    return (seconds / 86400).toFixed(1) + ' days';
  }
  function bytes(value) {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let unit = 0;
    while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
    return (unit === 0 ? value : value.toFixed(1)) + ' ' + units[unit];
  }
  const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

  // --- The tiers, in the order of the charts ----------------------------------------------------

  const TIERS = [
    { outcome: 'hit_exact', name: 'exact', style: 'exact' },
    { outcome: 'hit_semantic', name: 'semantic', style: 'semantic' },
    { outcome: 'hit_stale', name: 'stale', style: 'stale' },
    { outcome: 'collapsed', name: 'joined', style: 'collapsed' },
  ];
  const STYLE_OF = {
    hit_exact: 'exact', hit_semantic: 'semantic', hit_stale: 'stale', collapsed: 'collapsed',
    miss: 'missed', bypass: 'bypass', error: 'error',
  };

  function legend(id, items) {
    const swatch = (item) => {
      const style = 'curve ' + item.style;
      return item.line
        ? draw('line', { x1: 0, y1: 6, x2: 24, y2: 6, class: style })
        : draw('rect', { x: 6, width: 12, height: 12, class: item.style });
    };
    $(id).replaceChildren(...items.map((item) => el('li', null,
      draw('svg', { width: 24, height: 12, 'aria-hidden': 'true' }, swatch(item)), item.name)));
  }

  // --- Charts -----------------------------------------------------------------------------------

  const EDGE = { left: 46, right: 8, top: 8, bottom: 20 };

  // A chart that can be read with the pointer and with the arrow keys: `tell(index)` is its text.
  class Chart {
    constructor(id, label) {
      this.node = $(id + '-chart');
      this.readout = id + '-readout';
      this.svg = draw('svg', { role: 'img', tabindex: 0, 'aria-label': label });
      this.node.append(this.svg);
      this.at = null;
      const leave = () => { this.at = null; this.point(); };
      this.svg.addEventListener('pointermove', (event) => this.hover(event));
      this.svg.addEventListener('pointerleave', leave);
      this.svg.addEventListener('blur', leave);
      this.svg.addEventListener('keydown', (event) => this.key(event));
      new ResizeObserver(() => { if (state.live) render(); }).observe(this.node);
    }
    begin() {
      this.width = Math.max(160, this.node.clientWidth);
      this.height = Math.max(120, this.node.clientHeight);
      this.svg.setAttribute('viewBox', `0 0 ${this.width} ${this.height}`);
      this.svg.replaceChildren();
      this.count = 0;
    }
    x(share) { return EDGE.left + share * (this.width - EDGE.left - EDGE.right); }
    y(share) { return this.height - EDGE.bottom - share * (this.height - EDGE.top - EDGE.bottom); }
    add(...nodes) { this.svg.append(...nodes); }
    level(share, text) {
      const y = this.y(share);
      this.add(draw('line', { class: 'grid', x1: this.x(0), x2: this.x(1), y1: y, y2: y }),
        draw('text', { x: EDGE.left - 6, y: y + 4, 'text-anchor': 'end' }, text));
    }
    mark(share, text, anchor) {
      const place = { x: this.x(share), y: this.height - 5, 'text-anchor': anchor || 'middle' };
      this.add(draw('text', place, text));
    }
    empty(text) {
      const place = { x: this.width / 2, y: this.height / 2, 'text-anchor': 'middle' };
      this.add(draw('text', place, text));
      say(this.readout, '');
    }
    // `places[i]` is the horizontal share of the thing that `tell(i)` tells.
    readable(places, tell) {
      this.count = places.length;
      this.places = places;
      this.tell = tell;
      this.cross = draw('line', { class: 'cross', y1: this.y(0), y2: this.y(1), visibility: 'hidden' });
      this.add(this.cross);
      this.point();
    }
    point() {
      if (!this.count) return;
      const index = this.at === null ? this.count - 1 : Math.min(this.at, this.count - 1);
      const x = this.x(this.places[index]);
      this.cross.setAttribute('x1', x);
      this.cross.setAttribute('x2', x);
      this.cross.setAttribute('visibility', this.at === null ? 'hidden' : 'visible');
      // Not while it only follows the clock: a screen reader would read it out each time.
      $(this.readout).setAttribute('aria-live', this.at === null ? 'off' : 'polite');
      say(this.readout, this.tell(index));
    }
    hover(event) {
      if (!this.count) return;
      const box = this.svg.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width * this.width - this.x(0)) /
        (this.x(1) - this.x(0));
      let best = 0;
      this.places.forEach((place, index) => {
        if (Math.abs(place - share) < Math.abs(this.places[best] - share)) best = index;
      });
      this.at = best;
      this.point();
    }
    key(event) {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (event.key === 'Escape') { this.at = null; this.point(); }
      if (step === undefined || !this.count) return;
      event.preventDefault();
      const from = this.at === null ? this.count - 1 : this.at;
      this.at = Math.max(0, Math.min(this.count - 1, from + step));
      this.point();
    }
  }

  const charts = {
    rate: new Chart('rate', 'Hit rate by tier over time. Arrow keys read single points.'),
    latency: new Chart('latency', 'Latency over time. Arrow keys read single points.'),
    similarity: new Chart('similarity', 'Histogram of similarities. Arrow keys read single bars.'),
  };

  // Points are an even distance apart and the newest is at the right edge. A young process fills
  // the chart too: it is as wide as what there is, but not narrower than this.
  const NARROWEST = 30;
  const SECONDS_A_POINT = { hour: 10, day: 240 };
  const gaps = (points) => Math.max(NARROWEST, points.length) - 1;
  const spread = (points) =>
    points.map((_, index) => 1 - (points.length - 1 - index) / gaps(points));

  function timeAxis(chart, points) {
    const seconds = (gaps(points) + 1) * SECONDS_A_POINT[state.span];
    chart.mark(0, `${span(seconds)} ago`, 'start');
    chart.mark(0.5, `${span(seconds / 2)} ago`);
    chart.mark(1, 'now', 'end');
  }

  const nothing = () => (state[state.span].length ? 'no cacheable request yet'
    : `the first point comes after ${span(SECONDS_A_POINT[state.span])}`);

  // Runs of neighbouring points that have a value.
  function runs(values) {
    const all = [];
    let run = null;
    values.forEach((value, index) => {
      if (value === null) { run = null; return; }
      if (!run) { run = []; all.push(run); }
      run.push(index);
    });
    return all;
  }

  function renderRate(points) {
    const chart = charts.rate;
    chart.begin();
    for (const share of [0, 0.25, 0.5, 0.75, 1]) chart.level(share, (share * 100) + ' %');
    timeAxis(chart, points);
    const order = state.live.outcomes;
    const of = (point, outcome) => point.requests[order.indexOf(outcome)];
    const hits = (point) => TIERS.reduce((sum, tier) => sum + of(point, tier.outcome), 0);
    const asked = (point) => hits(point) + of(point, 'miss');
    if (!points.some(asked)) { chart.empty(nothing()); return; }
    const places = spread(points);
    const shares = points.map((point) => (asked(point) ? 0 : null));
    for (const tier of TIERS) {
      const below = shares.slice();
      points.forEach((point, index) => {
        if (shares[index] !== null) shares[index] += of(point, tier.outcome) / asked(point);
      });
      for (const run of runs(shares)) {
        // A point alone still shows: as wide as its interval.
        const edge = (index, side) =>
          places[index] + (run.length === 1 ? side * 0.5 / gaps(points) : 0);
        const line = (values, side) => run.map((index) =>
          `${chart.x(edge(index, side))},${chart.y(values[index])}`);
        const [left, right] = run.length === 1
          ? [line(shares, -1).concat(line(shares, 1)), line(below, 1).concat(line(below, -1))]
          : [line(shares, 0), line(below, 0).reverse()];
        chart.add(draw('polygon',
          { class: 'area ' + tier.style, points: left.concat(right).join(' ') }));
      }
    }
    chart.readable(places, (index) => {
      const point = points[index];
      if (!asked(point)) return `${clock(point.at_ms)}: nothing asked`;
      const parts = TIERS.filter((tier) => of(point, tier.outcome))
        .map((tier) => `${tier.name} ${percent(of(point, tier.outcome) / asked(point))}`);
      const rate = percent(hits(point) / asked(point));
      return [`${clock(point.at_ms)}: ${rate} of ${count(asked(point))}`, ...parts].join(', ');
    });
  }

  const CURVES = [
    { group: 'hits', key: 'p50_ms', style: 'exact p50', name: 'hit p50' },
    { group: 'hits', key: 'p95_ms', style: 'exact p95', name: 'hit p95' },
    { group: 'hits', key: 'p99_ms', style: 'exact p99', name: 'hit p99' },
    { group: 'misses', key: 'p50_ms', style: 'missed p50', name: 'miss p50' },
    { group: 'misses', key: 'p95_ms', style: 'missed p95', name: 'miss p95' },
    { group: 'misses', key: 'p99_ms', style: 'missed p99', name: 'miss p99' },
  ];

  function renderLatency(points) {
    const chart = charts.latency;
    chart.begin();
    timeAxis(chart, points);
    const value = (point, curve) => (point[curve.group] ? point[curve.group][curve.key] : null);
    const all = points.flatMap((point) => CURVES.map((curve) => value(point, curve)))
      .filter((ms) => ms !== null);
    if (!all.length) { chart.empty(nothing()); return; }
    const low = Math.floor(Math.log10(Math.min(...all)));
    const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...all))));
    const share = (ms) => (Math.log10(ms) - low) / (high - low);
    for (let power = low; power <= high; power += 1) {
      const ms = 10 ** power;
      const text = ms < 1 ? `${+(ms * 1000).toPrecision(1)} µs`
        : ms < 1000 ? `${ms} ms` : `${ms / 1000} s`;
      chart.level(share(ms), text);
    }
    const places = spread(points);
    for (const curve of CURVES) {
      const values = points.map((point) => value(point, curve));
      for (const run of runs(values)) {
        const dots = run.map((index) => `${chart.x(places[index])},${chart.y(share(values[index]))}`);
        if (run.length === 1) dots.push(dots[0].replace(/^[^,]+/, chart.x(places[run[0]]) - 3));
        chart.add(draw('polyline', { class: 'curve ' + curve.style, points: dots.join(' ') }));
      }
    }
    chart.readable(places, (index) => {
      const point = points[index];
      const group = (name, latency) => (latency
        ? `${name} p50 ${time(latency.p50_ms)}, p95 ${time(latency.p95_ms)}, p99 ${time(latency.p99_ms)}`
        : `no ${name}`);
      return `${clock(point.at_ms)}: ${group('hit', point.hits)}; ${group('miss', point.misses)}`;
    });
  }

  function renderSimilarity(stats) {
    const chart = charts.similarity;
    const { from, step, served, passed_by: passed } = stats.similarity;
    const line = stats.semantic.min_similarity;
    chart.begin();
    for (const tenth of [0.5, 0.6, 0.7, 0.8, 0.9, 1]) chart.mark((tenth - from) / (1 - from), tenth);
    const most = Math.max(...served.map((value, bin) => value + passed[bin]));
    if (most) {
      chart.level(0, '0');
      chart.level(1, count(most));
      const width = Math.max(1, chart.x(1 / served.length) - chart.x(0) - 1);
      served.forEach((value, bin) => {
        let base = 0;
        for (const [style, height] of [['semantic', value], ['missed', passed[bin]]]) {
          if (!height) continue;
          const top = chart.y((base + height) / most);
          chart.add(draw('rect', { class: style, x: chart.x(bin / served.length), y: top, width,
            height: Math.max(1, chart.y(base / most) - top) }));
          base += height;
        }
      });
    }
    if (stats.semantic.policy !== 'off') {
      const x = chart.x((line - from) / (1 - from));
      chart.add(draw('line', { class: 'cross', x1: x, x2: x, y1: chart.y(0), y2: chart.y(1) }),
        draw('text', { x: x - 4, y: EDGE.top + 10, 'text-anchor': 'end' }, 'served from ' +
          line.toFixed(2)));
    }
    if (!most) { chart.empty('no neighbour found yet'); return; }
    const places = served.map((_, bin) => (bin + 0.5) / served.length);
    chart.readable(places, (bin) => {
      const [low, high] = [from + bin * step, from + (bin + 1) * step].map((it) => it.toFixed(2));
      const range = bin === 0 ? `below ${high}` : `${low} to ${high}`;
      return `${range}: ${count(served[bin])} served, ${count(passed[bin])} passed by`;
    });
  }

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
    say('saved-time', span(stats.saved.upstream_seconds));
    say('uptime', `up ${span(stats.uptime_seconds)}`);
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
      el('tr', null, el('td', null, upstream.name), el('td', null, replica.url),
        el('td', null, count(replica.in_flight)), el('td', null, count(replica.idle_connections)),
        el('td', null, count(replica.shared_connections)),
        el('td', null, count(replica.connections_total)))));
    $('upstreams').replaceChildren(...rows);
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
    if (embed) {
      list.push(['Embedder', ...state(embed)], ['', `${embed.model}, ${embed.dimension} d, ` +
        `${embed.threads} threads, ${count(embed.queued)} of ${count(embed.queue_max)} waiting`]);
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
    renderBudget(stats);
    renderSimilarity(stats);
    renderUpstreams(stats);
    renderParts(stats);
    renderReasons(stats);
    renderLatest();
  }

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

  // --- Writing ----------------------------------------------------------------------------------

  async function send(method, path, body) {
    const headers = {};
    if ($('token').value) headers.authorization = `Bearer ${$('token').value}`;
    if (body) headers['content-type'] = 'application/json';
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
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
      if (await ask() !== 'delete') { tell('purge-result', 'Nothing was deleted.'); return; }
      const done = await send('POST', '/api/v1/purge', { [by]: value });
      tell('purge-result', `Deleted ${count(done.entries)} entries: ${words}.`);
    } catch (error) {
      tell('purge-result', error.message, 'error');
    }
  }

  function ask() {
    const dialog = $('confirm');
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
  legend('similarity-legend',
    [{ name: 'served', style: 'semantic' }, { name: 'passed by', style: 'missed' }]);
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
  $('purge-by').addEventListener('change', choose);
  $('purge').addEventListener('submit', purge);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) render(); });
  choose();
  listen();
})();
