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
const dollars = new Intl.NumberFormat('en', { style: 'currency', currency: 'USD' });
const percent = (share) => (share * 100).toFixed(1) + ' %';
const digits = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

function time(ms) {
  if (ms === null || ms === undefined) return '-';
  if (ms === 0) return '0';
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

