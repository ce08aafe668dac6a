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
  belief: new Chart('belief', 'Histogram of believed probabilities. Arrow keys read single bars.'),
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

// Served below, passed by on top; `line` is where serving begins, with its words.
function renderBins(chart, bins, marks, line, empty) {
  const { from, step, served, passed_by: passed } = bins;
  const width = served.length * step;
  const share = (value) => (value - from) / width;
  chart.begin();
  for (const mark of marks) chart.mark(share(mark), mark);
  const most = Math.max(...served.map((value, bin) => value + passed[bin]));
  if (most) {
    chart.level(0, '0');
    chart.level(1, count(most));
    const wide = Math.max(1, chart.x(1 / served.length) - chart.x(0) - 1);
    served.forEach((value, bin) => {
      let base = 0;
      for (const [style, height] of [['semantic', value], ['missed', passed[bin]]]) {
        if (!height) continue;
        const top = chart.y((base + height) / most);
        chart.add(draw('rect', { class: style, x: chart.x(bin / served.length), y: top,
          width: wide, height: Math.max(1, chart.y(base / most) - top) }));
        base += height;
      }
    });
  }
  if (line !== null) {
    const x = chart.x(share(line));
    chart.add(draw('line', { class: 'cross', x1: x, x2: x, y1: chart.y(0), y2: chart.y(1) }),
      draw('text', { x: x - 4, y: EDGE.top + 10, 'text-anchor': 'end' },
        'served from ' + line.toFixed(2)));
  }
  if (!most) { chart.empty(empty); return; }
  const places = served.map((_, bin) => (bin + 0.5) / served.length);
  chart.readable(places, (bin) => {
    const [low, high] = [from + bin * step, from + (bin + 1) * step].map((it) => it.toFixed(2));
    const range = bin === 0 ? `below ${high}` : `${low} to ${high}`;
    return `${range}: ${count(served[bin])} served, ${count(passed[bin])} passed by`;
  });
}

function renderSimilarity(stats) {
  const { policy, min_similarity: line } = stats.semantic;
  renderBins(charts.similarity, stats.similarity, [0.5, 0.6, 0.7, 0.8, 0.9, 1],
    policy === 'threshold' ? line : null, 'no neighbour found yet');
}

function renderBelief(stats) {
  const { belief } = stats;
  // The line moves with what is learned: shown is where it has been lowest.
  const lowest = belief.served.findIndex((value) => value > 0);
  const line = lowest < 0 ? null : belief.from + lowest * belief.step;
  renderBins(charts.belief, belief, [0, 0.25, 0.5, 0.75, 1], line, 'no verdict yet');
}

