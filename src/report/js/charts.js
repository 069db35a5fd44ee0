// Pictures: heat maps as tables, bars and densities as SVG. Colours come from classes, so that
// light and dark follow the reader's system.

// One of eleven steps of the sequential scale.
const step = (share) => 'q' + Math.max(0, Math.min(10, Math.round(10 * share)));

// rows: [{ head, cells: [{ share, text, title, hash }] }]
function heatMap(columns, rows, options = {}) {
  const head = h('tr', {}, h('th', {}), columns.map((c) => h('th', { scope: 'col', title: c.hint }, c.title ?? c)));
  const body = rows.map((row) => row.group !== undefined
    ? h('tr', { class: 'group' }, h('th', { scope: 'rowgroup', colspan: columns.length + 1 }, row.group))
    : h('tr', {}, h('th', { scope: 'row' }, row.head), row.cells.map((cell) =>
      h('td', { class: cell ? step(cell.share) : 'none', title: cell && cell.title },
        cell ? (cell.hash ? link(cell.hash, {}, cell.text) : cell.text) : ''))));
  return h('div', { class: 'scroll' }, h('table', { class: 'heat ' + (options.class || '') }, h('thead', {}, head), h('tbody', {}, body)));
}

function scaleLegend(low, high) {
  return h('span', { class: 'legend' }, low, h('span', { class: 'ramp' },
    Array.from({ length: 11 }, (_, i) => h('i', { class: 'q' + i }))), high);
}

function kindLegend(shown) {
  return h('div', { class: 'kinds' }, shown.map((kind) => h('span', {}, kindMark(kind), kind)));
}

// Neurons per layer, stacked by kind of site. Sites without a layer stand at the left end.
function layerCounts(neurons) {
  const places = [...(D.sites.some((s) => s.layer === null) ? [null] : []), ...layers];
  return places.map((layer) => {
    const here = neurons.filter((n) => siteOf(n).layer === layer);
    return { layer, total: here.length, parts: kinds.map((kind) => here.filter((n) => siteOf(n).kind === kind).length) };
  });
}

function layerChart(neurons, most, label) {
  const counts = layerCounts(neurons);
  const [width, height, left, foot, top] = [300, 112, 22, 18, 6];
  const slot = (width - left) / Math.max(1, counts.length);
  const size = Math.min(slot * 0.78, 26);
  const y = (v) => top + (height - foot - top) * (1 - v / Math.max(1, most));
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, class: 'layers', role: 'img', 'aria-label': label });
  for (const v of [...new Set([0, Math.round(most / 2), most])]) {
    picture.append(svg('line', { x1: left, x2: width, y1: y(v), y2: y(v), class: v ? 'grid' : 'axis' }));
    picture.append(svg('text', { x: left - 4, y: y(v) + 3, class: 'tick end' }, String(v)));
  }
  const every = Math.ceil(counts.length / 13);
  counts.forEach((count, i) => {
    const x = left + slot * i + (slot - size) / 2;
    let base = 0;
    count.parts.forEach((part, k) => {
      if (!part) return;
      const bar = svg('rect', { x, width: size, y: y(base + part), height: y(base) - y(base + part), class: 'f' + (k % 8) });
      bar.append(svg('title', {}, `${count.layer === null ? 'no layer' : 'layer ' + count.layer}, ${kinds[k]}: ${part}`));
      picture.append(bar);
      base += part;
    });
    if (i % every === 0) picture.append(svg('text', { x: x + size / 2, y: height - 5, class: 'tick mid' }, count.layer === null ? '\u2013' : String(count.layer)));
  });
  return picture;
}

// Rows per unit of activation, so that bins of different width compare.
function densities(histogram, domain) {
  const total = histogram.counts.reduce((a, b) => a + b, 0);
  const least = (domain[1] - domain[0]) / 200;
  return histogram.counts.map((n, i) => {
    const [from, to] = [histogram.edges[i], histogram.edges[i + 1]];
    return { from, to: Math.max(to, from + least), n, density: total ? n / total / Math.max(to - from, least) : 0 };
  });
}

// Where all but the outermost two in a thousand rows lie: one outlier shall not flatten the rest.
function domainOf(histogram) {
  const total = histogram.counts.reduce((a, b) => a + b, 0);
  let [seen, low, high] = [0, histogram.edges[0], histogram.edges.at(-1)];
  histogram.counts.forEach((n, i) => {
    if (seen <= 0.002 * total) low = histogram.edges[i];
    if (seen < 0.998 * total) high = histogram.edges[i + 1];
    seen += n;
  });
  if (!(high > low)) { high = low + 1e-6; low -= 1e-6; }
  const room = 0.04 * (high - low);
  return [low - room, high + room];
}

function outline(bars, x, y, closed) {
  const shown = bars.filter((b) => b.n > 0 || closed);
  if (!shown.length) return '';
  let path = `M${x(shown[0].from).toFixed(1)} ${y(0).toFixed(1)}`;
  for (const b of shown) path += `V${y(b.density).toFixed(1)}H${x(b.to).toFixed(1)}`;
  return path + `V${y(0).toFixed(1)}` + (closed ? 'Z' : '');
}

// The class in colour over all rows in grey; both have area one.
function densityChart(all, own, tone, domain, label) {
  const [width, height, foot, top] = [300, 118, 18, 8];
  const back = densities(all, domain);
  const front = own ? densities(own, domain) : [];
  const inside = (b) => b.to > domain[0] && b.from < domain[1];
  const most = Math.max(...[...back, ...front].filter(inside).map((b) => b.density), 1e-12);
  const x = (v) => (Math.max(domain[0], Math.min(domain[1], v)) - domain[0]) / (domain[1] - domain[0]) * width;
  const y = (v) => top + (height - foot - top) * (1 - v / most);
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, class: 'density', role: 'img', 'aria-label': label });
  picture.append(svg('path', { d: outline(back.filter(inside), x, y, true), class: 'all' }));
  if (own) picture.append(svg('path', { d: outline(front.filter(inside), x, y, true), class: 'own ' + tone }));
  if (domain[0] < 0 && domain[1] > 0) picture.append(svg('line', { x1: x(0), x2: x(0), y1: top, y2: height - foot, class: 'zero' }));
  picture.append(svg('line', { x1: 0, x2: width, y1: height - foot, y2: height - foot, class: 'axis' }));
  const room = 0.04 / 1.08 * (domain[1] - domain[0]);
  picture.append(svg('text', { x: 2, y: height - 5, class: 'tick' }, number(domain[0] + room, 2)));
  picture.append(svg('text', { x: width - 2, y: height - 5, class: 'tick end' }, number(domain[1] - room, 2)));
  if (domain[0] < 0 && domain[1] > 0 && x(0) > 45 && x(0) < width - 45) picture.append(svg('text', { x: x(0), y: height - 5, class: 'tick mid' }, '0'));
  return picture;
}

// Overlap of two lists of neurons, best first.
function jaccard(a, b, s) {
  const [x, y] = [new Set(a.slice(0, s)), new Set(b.slice(0, s))];
  const both = [...x].filter((n) => y.has(n)).length;
  const either = x.size + y.size - both;
  return either ? both / either : NaN;
}

// Mean over k = 1..s of the share that the first k of both lists have in common
// (Wu, Bailey and Webber's average overlap): agreement at the head counts most.
function averageOverlap(a, b, s) {
  const depth = Math.min(s, Math.max(a.length, b.length));
  const [x, y] = [new Set(), new Set()];
  let [both, sum] = [0, 0];
  for (let k = 0; k < depth; k++) {
    if (k < a.length) { x.add(a[k]); if (y.has(a[k])) both++; }
    if (k < b.length) { y.add(b[k]); if (x.has(b[k]) ) both++; }
    sum += both / (k + 1);
  }
  return depth ? sum / depth : NaN;
}
const AGREEMENTS = { overlap: ['average overlap', averageOverlap], jaccard: ['Jaccard', jaccard] };

// lists: [concept][method] of neurons. Means over the concepts that both methods rank.
function agreementMap(concepts, methods, kind, s) {
  const measure = AGREEMENTS[kind][1];
  const rows = methods.map((a) => ({
    head: D.methods[a],
    cells: methods.map((b) => {
      const values = concepts.map((c) => [table[c][a], table[c][b]]).filter(([p, q]) => p && q)
        .map(([p, q]) => measure(p.neuron, q.neuron, s)).filter(Number.isFinite);
      if (!values.length) return null;
      const mean = values.reduce((p, q) => p + q, 0) / values.length;
      if (a === b) return { share: 1, text: '\u00b7', title: D.methods[a] };
      return { share: mean, text: mean.toFixed(2).replace(/^0/, ''), title: `${D.methods[a]} and ${D.methods[b]}: ${mean.toFixed(3)}` };
    }),
  }));
  return heatMap(methods.map((m) => ({ title: h('span', { class: 'turned' }, D.methods[m]) })), rows, { class: 'agreement' });
}

function agreementSection(concepts, methods, note) {
  const place = h('div');
  const depths = [5, 10, 20, 50].filter((s) => s <= D.listed);
  let [kind, s] = ['overlap', Math.min(20, D.listed)];
  const draw = () => place.replaceChildren(agreementMap(concepts, methods, kind, s));
  draw();
  return section('Agreement between methods', note,
    h('div', { class: 'controls' },
      choice('measure', Object.entries(AGREEMENTS).map(([k, v]) => [k, v[0]]), kind, (k) => { kind = k; draw(); }),
      choice('neurons', depths.map((d) => [d, String(d)]), s, (d) => { s = d; draw(); })),
    place);
}
