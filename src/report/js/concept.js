// One concept: its best neurons by each method, how far the methods agree, and their layers.

function rankingTable(concept, ranking) {
  const others = D.methods.map((_, m) => m).filter((m) => m !== ranking.method && table[concept][m]);
  const rankIn = others.map((m) => new Map(table[concept][m].neuron.map((n, i) => [n, table[concept][m].rank[i]])));
  const most = Math.max(...ranking.score.map((s) => Math.abs(s ?? 0)), 1e-300);
  const rows = ranking.neuron.map((n, i) => ({ n, i, elsewhere: rankIn.map((ranks) => ranks.get(n)) }));
  const has = (column) => column.some((v) => v !== null);
  return sortable([
    { title: '#', num: true, key: (r) => ranking.rank[r.i], cell: (r) => String(ranking.rank[r.i]) },
    { title: 'neuron', key: (r) => neuronName(r.n), cell: (r) => [kindMark(siteOf(r.n).kind), neuronLink(r.n)] },
    { title: 'layer', num: true, key: (r) => siteOf(r.n).layer ?? -1, cell: (r) => siteOf(r.n).layer ?? '\u2013' },
    { title: 'sign', key: (r) => ranking.sign[r.i], cell: (r) => signMark(ranking.sign[r.i]) },
    { title: 'score', num: true, down: true, key: (r) => ranking.score[r.i], cell: (r) => padded(ranking.score[r.i], 4) },
    { title: '', cell: (r) => bar(Math.abs(ranking.score[r.i] ?? 0) / most, ranking.sign[r.i] > 0 ? 'up' : ranking.sign[r.i] < 0 ? 'down' : ''), class: 'barcell' },
    ...(has(ranking.p) ? [{ title: 'p', num: true, key: (r) => ranking.p[r.i], cell: (r) => probability(ranking.p[r.i]), hint: 'probability of a score this far out if the neuron knew nothing of the concept' }] : []),
    ...(has(ranking.q) ? [{ title: 'q', num: true, key: (r) => ranking.q[r.i], cell: (r) => probability(ranking.q[r.i]), hint: 'false discovery rate (Benjamini and Hochberg) over all neurons' }] : []),
    ...others.map((m, i) => ({ title: h('span', { class: 'turned' }, D.methods[m]), class: 'rank', hint: 'rank by ' + D.methods[m], key: (r) => r.elsewhere[i],
      tone: (r) => (r.elsewhere[i] ? step(1 - (r.elsewhere[i] - 1) / D.listed) : ''), cell: (r) => (r.elsewhere[i] ? String(r.elsewhere[i]) : '') })),
  ], rows, { class: 'ranking', by: 0, first: 15 });
}

function showConcept(concept) {
  const C = D.concepts[concept];
  const present = D.methods.map((_, m) => m).filter((m) => table[concept][m]);
  let chosen = table[concept][method] ? method : present[0];
  const any = table[concept][chosen];
  const place = h('div');
  const charts = h('div', { class: 'charts' });
  const lists = present.map((m) => table[concept][m]);
  const most = Math.max(1, ...lists.flatMap((r) => layerCounts(r.neuron).map((x) => x.total)));
  function draw() {
    place.replaceChildren(rankingTable(concept, table[concept][chosen]));
    charts.replaceChildren(...present.map((m) => h('figure', { class: m === chosen ? 'chosen' : '' },
      h('figcaption', {}, D.methods[m]), layerChart(table[concept][m].neuron, most, 'neurons per layer by ' + D.methods[m]))));
  }
  draw();
  const shown = kinds.filter((kind) => lists.some((r) => r.neuron.some((n) => siteOf(n).kind === kind)));
  return [
    h('p', { class: 'crumbs' }, link('', {}, 'Overview'), ' / ', C.label),
    h('h1', {}, h('span', { class: 'at' }, C.label + ' '), conceptName(C)),
    h('p', { class: 'lead' }, C.name === '*' ? `${count(any.n)} labelled rows.` : [h('b', {}, count(any.n_concept)), ` rows of ${count(any.n)} labelled ones (${percent(any.n_concept / any.n)}).`]),
    section('Best neurons', 'By the method chosen; the columns on the right give the rank of the same neuron by the other methods.', h('div', { class: 'controls' }, choice('method', present.map((m) => [m, D.methods[m]]), chosen, (m) => { chosen = m; if (!isBaseline(m)) method = m; draw(); })), place),
    section('Layers', `Where the ${D.listed} best neurons of each method sit.`, kindLegend(shown), charts),
    present.length > 1 ? agreementSection([concept], present, `How far the lists of two methods for ${conceptName(C)} overlap.`) : null,
  ];
}
