// Data, text and tables. Text from the run reaches the document through text nodes only.
const D = JSON.parse(document.getElementById('data').textContent);
const M = D.manifest;

// Characters that are not seen, or that turn the direction of what stands beside them, are shown
// by their number. The two joiners stay: Persian and emoji need them.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/u;

function visible(text) {
  const nodes = [];
  let plain = '';
  const flush = () => { if (plain) { nodes.push(document.createTextNode(plain)); plain = ''; } };
  for (const char of text) {
    if (!HIDDEN.test(char)) { plain += char; continue; }
    flush();
    const chip = document.createElement('span');
    chip.className = 'chip';
    chip.textContent = 'U+' + char.codePointAt(0).toString(16).toUpperCase().padStart(4, '0');
    nodes.push(chip);
  }
  flush();
  return nodes;
}

// For attributes and the window's title, which take no nodes.
function plainText(text) {
  return visible(String(text)).map((node) => node.textContent).join('');
}

function fill(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    if (child instanceof Node) element.append(child);
    else element.append(...visible(String(child)));
  }
  return element;
}

const ATTRIBUTES = new Set(['class', 'title', 'scope', 'type', 'for', 'id', 'placeholder', 'open',
  'aria-label', 'aria-pressed', 'aria-sort', 'aria-current', 'dir', 'colspan', 'list', 'value', 'role', 'selected']);

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (!ATTRIBUTES.has(name)) throw new Error('attribute ' + name);
    element.setAttribute(name, value === true ? '' : plainText(value));
  }
  return fill(element, children);
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, plainText(value));
  }
  return fill(element, children);
}

// A link inside the page: a fragment, never an address.
function link(hash, attributes, ...children) {
  const a = h('a', attributes, ...children);
  a.setAttribute('href', '#' + hash);
  return a;
}

const MINUS = '\u2212';
function signed(text) { return text.replace(/^-/, MINUS).replace(/e-/, 'e' + MINUS); }

function number(x, digits = 3) {
  if (x === null || x === undefined) return '\u2013';
  if (x === 0) return '0';
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-3) return signed(x.toExponential(digits - 1).replace('e+', 'e'));
  return signed(Number(x.toPrecision(digits)).toLocaleString('en-US', { maximumFractionDigits: 6 }));
}
// A probability of 0 is one below the smallest number of the tables: nothing is impossible here.
function probability(x) { return typeof x === 'number' && x < 1e-300 ? '<1e\u2212300' : number(x, 2); }
// The same digits in each row, so that columns line up.
function padded(x, digits = 3) {
  const size = Math.abs(x ?? 0);
  if (size >= 1e6 || size < 1e-3) return number(x, digits);
  return signed(x.toLocaleString('en-US', { minimumSignificantDigits: digits, maximumSignificantDigits: digits }));
}
function count(x) { return x === null || x === undefined ? '\u2013' : x.toLocaleString('en-US').replace(/,/g, '\u202f'); }
function percent(x) {
  if (!Number.isFinite(x)) return '\u2013';
  const v = 100 * x;
  return (v === 0 ? '0' : v >= 99.95 && v < 100 ? '>99.9' : v < 0.01 ? '<0.01' : v.toLocaleString('en-US', { maximumFractionDigits: v < 1 ? 2 : 1 })) + '\u202f%';
}
function bytes(x) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let i = 0;
  while (x >= 1000 && i < 4) { x /= 1000; i++; }
  return number(x) + '\u202f' + units[i];
}
function duration(s) {
  if (!(s >= 0)) return '\u2013';
  if (s < 90) return number(s, 3) + '\u202fs';
  if (s < 5400) return Math.round(s / 60) + '\u202fmin';
  return number(s / 3600, 3) + '\u202fh';
}

// Names.
const siteOf = (n) => D.sites[D.neurons.site[n]];
const neuronName = (n) => siteOf(n).name + '.' + D.neurons.index[n];
const conceptName = (c) => (c.name === '*' ? 'all classes' : c.name);
const neuronHash = (n) => 'n=' + encodeURIComponent(neuronName(n));
const conceptHash = (c) => 'c=' + encodeURIComponent(c.label) + '/' + encodeURIComponent(c.name);
const neuronByName = new Map(D.neurons.site.map((_, n) => [neuronName(n), n]));
const pageOf = new Map(D.pages.map((page) => [page.neuron, page]));
const layers = [...new Set(D.sites.map((s) => s.layer).filter((l) => l !== null))].sort((a, b) => a - b);
const kinds = [...new Set(D.sites.map((s) => s.kind))];

// rankings[concept][method], and the lists each neuron stands in.
const table = D.concepts.map(() => []);
const standing = new Map();
D.rankings.forEach((ranking) => {
  table[ranking.concept][ranking.method] = ranking;
  ranking.neuron.forEach((n, place) => {
    if (!standing.has(n)) standing.set(n, []);
    standing.get(n).push({ ranking, place });
  });
});

// Random and bottom lists are yardsticks: they are shown, but no summary is made of them.
const isBaseline = (m) => /^(random|bottom)\b/.test(D.methods[m]);

function neuronLink(n, attributes) {
  const known = pageOf.has(n);
  return link(neuronHash(n), { class: known ? 'neuron' : 'neuron plainlink', title: known ? 'contexts and histogram' : 'ranks and moments', ...attributes },
    h('span', { class: 'at' }, siteOf(n).name + '.'), String(D.neurons.index[n]));
}

function kindMark(kind) {
  return h('span', { class: 'mark k' + (kinds.indexOf(kind) % 8), title: kind });
}

function signMark(sign) {
  if (sign > 0) return h('span', { class: 'sign up', title: 'fires more with the concept' }, '+');
  if (sign < 0) return h('span', { class: 'sign down', title: 'fires less with the concept' }, MINUS);
  return h('span', { class: 'sign', title: 'the score has no direction' }, '\u00b7');
}

function bar(share, tone) {
  const element = h('span', { class: 'bar ' + (tone || '') });
  element.style.setProperty('--w', (100 * Math.max(0, Math.min(1, share || 0))).toFixed(1) + '%');
  return element;
}

// A table whose heads sort. Columns: { title, key(row), cell(row), num, hint, down }.
function sortable(columns, rows, options = {}) {
  const body = h('tbody');
  let by = options.by ?? -1;
  let down = options.down ?? false;
  const heads = columns.map((column, i) => {
    const head = h('th', { scope: 'col', class: [column.num ? 'num' : '', column.class || ''].join(' ').trim(), title: column.hint });
    if (!column.key) return fill(head, [column.title]);
    const button = h('button', { type: 'button', class: 'sort' }, column.title);
    button.addEventListener('click', () => {
      down = by === i ? !down : !!column.down;
      by = i;
      draw();
    });
    head.append(button);
    return head;
  });
  function draw() {
    const order = rows.map((row, i) => i);
    if (by >= 0) {
      const keys = rows.map(columns[by].key);
      const empty = (k) => k === null || k === undefined || Number.isNaN(k);
      order.sort((a, b) => {
        const [x, y] = [keys[a], keys[b]];
        if (empty(x) || empty(y)) return empty(x) - empty(y) || a - b;
        const way = typeof x === 'string' ? x.localeCompare(y) : x - y;
        return (down ? -way : way) || a - b;
      });
    }
    heads.forEach((head, i) => {
      if (i === by) head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    });
    body.replaceChildren(...order.map((i, at) =>
      h('tr', { class: at >= options.first ? 'beyond' : null }, columns.map((column) => h('td', { class: [column.num ? 'num' : '', column.class || '', column.tone ? column.tone(rows[i]) : ''].join(' ').trim() }, column.cell(rows[i]))))));
  }
  draw();
  const all = h('div', { class: 'scroll' }, h('table', { class: options.class }, h('thead', {}, h('tr', {}, heads)), body));
  if (!(rows.length > options.first + 3)) return all;
  const more = h('button', { type: 'button', class: 'more' }, `show all ${rows.length}`);
  all.classList.add('cut');
  more.addEventListener('click', () => { all.classList.remove('cut'); more.remove(); });
  return h('div', {}, all, more);
}

// A row of buttons of which one is pressed.
function choice(label, items, chosen, onChoose) {
  const buttons = items.map(([value, title]) => {
    const button = h('button', { type: 'button', 'aria-pressed': String(value === chosen) }, title);
    button.addEventListener('click', () => {
      buttons.forEach((b) => b.setAttribute('aria-pressed', String(b === button)));
      onChoose(value);
    });
    return button;
  });
  return h('div', { class: 'choice', role: 'group', 'aria-label': label }, h('span', { class: 'choicelabel' }, label), buttons);
}

function section(title, note, ...content) {
  return h('section', {}, h('h2', {}, title), note ? h('p', { class: 'note' }, note) : null, content);
}

function tile(value, title, hint) {
  return h('div', { class: 'tile', title: hint }, h('b', {}, value), h('span', {}, title));
}
