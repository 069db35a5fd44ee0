// The first page: what ran, where concepts live, and how far the methods agree.

const labels = [...new Set(D.concepts.map((c) => c.label))];
const conceptsOf = (label) => D.concepts.map((c, i) => i).filter((i) => D.concepts[i].label === label)
  .sort((a, b) => (D.concepts[b].name === '*') - (D.concepts[a].name === '*') || (rowsOf(b) ?? 0) - (rowsOf(a) ?? 0));
function rowsOf(concept) {
  const any = table[concept].find((ranking) => ranking);
  return any ? any.n_concept : null;
}
const ownMethods = () => D.methods.map((_, m) => m).filter((m) => !isBaseline(m));
// The method whose list is shown; kept from view to view.
let method = ownMethods()[0] ?? 0;

function corpusLine() {
  const c = M.corpus.counts;
  const parts = [c.documents && count(c.documents) + ' documents', c.sentences && count(c.sentences) + ' sentences',
    c.words && count(c.words) + ' words'].filter(Boolean);
  return (parts.length ? parts.join(', ') + ' and ' : '') + count(c.tokens) + ' tokens';
}

function lost() {
  const c = M.corpus.counts;
  return c.dropped_words + c.truncated_words;
}

function hero() {
  const c = M.corpus.counts;
  const model = M.model;
  const partial = M.plan.done < M.plan.blocks;
  return [
    h('h1', {}, title()),
    h('p', { class: 'lead' }, h('b', {}, model.path), ` (${model.architecture}, ${model.layers} layers of width ${count(model.width)}, ${model.dtype}) over ${corpusLine()}.`),
    partial ? h('p', { class: 'warning' }, `Partial result: ${M.plan.done} of ${M.plan.blocks} blocks of the corpus.`) : null,
    h('div', { class: 'tiles' },
      tile(count(model.neurons), 'neurons watched', M.sites.map((s) => s.site).join(', ')),
      tile(count(D.concepts.filter((x) => x.name !== '*').length), 'concepts', labels.join(', ')),
      tile(count(D.methods.length), 'methods', D.methods.join(', ')),
      tile(count(c.rows), 'rows scored', 'positions offered to the statistics'),
      tile(c.words ? percent(1 - lost() / c.words) : '\u2013', 'words covered', 'share of words neither dropped nor truncated'),
      tile(count(Math.round(M.timings.tokens_per_second)), 'tokens per second', duration(M.timings.seconds) + ' in all')),
  ];
}

const title = () => (M.config && typeof M.config.name === 'string' && M.config.name) || 'electrode report';

function conceptHeat() {
  const place = h('div');
  let kind = '*';
  function draw() {
    const places = [...(D.sites.some((s) => s.layer === null && (kind === '*' || s.kind === kind)) ? [null] : []), ...layers];
    const data = [];
    for (const label of labels) {
      data.push({ group: label });
      for (const c of conceptsOf(label)) {
        const ranking = table[c][method];
        if (!ranking) continue;
        const neurons = ranking.neuron.filter((n) => kind === '*' || siteOf(n).kind === kind);
        const counts = places.map((layer) => neurons.filter((n) => siteOf(n).layer === layer).length);
        data.push({ c, counts, total: ranking.neuron.length });
      }
    }
    const most = Math.max(1, ...data.flatMap((row) => row.counts || []));
    const rows = data.map((row) => row.group !== undefined ? row : {
      head: link(conceptHash(D.concepts[row.c]), {}, conceptName(D.concepts[row.c])),
      cells: row.counts.map((n, i) => ({ share: n / most, text: n ? String(n) : '', hash: n ? conceptHash(D.concepts[row.c]) : null,
        title: `${conceptName(D.concepts[row.c])}, ${places[i] === null ? 'no layer' : 'layer ' + places[i]}: ${n} of the ${row.total} best neurons` })),
    });
    place.replaceChildren(heatMap(places.map((l) => ({ title: l === null ? '\u2013' : String(l), hint: l === null ? 'sites without a layer' : 'layer ' + l })), rows, { class: 'where' }),
      h('p', { class: 'below' }, scaleLegend('0', String(most)), ` of the ${D.listed} best neurons are in this layer`));
  }
  draw();
  return { place, controls: kinds.length > 1 ? [choice('site', [['*', 'all'], ...kinds.map((k) => [k, k])], kind, (k) => { kind = k; draw(); })] : [], draw };
}

// Mean average overlap between all pairs of methods, the yardsticks left out.
function meanAgreement(concept) {
  const lists = ownMethods().map((m) => table[concept][m]).filter(Boolean).map((r) => r.neuron);
  const values = [];
  lists.forEach((a, i) => lists.slice(i + 1).forEach((b) => values.push(averageOverlap(a, b, 20))));
  return values.length ? values.reduce((p, q) => p + q, 0) / values.length : null;
}

function conceptTable() {
  const rows = D.concepts.map((concept, c) => {
    const ranking = table[c][method];
    return { c, concept, ranking, rows: rowsOf(c), agree: meanAgreement(c) };
  }).filter((row) => row.ranking && row.ranking.neuron.length);
  return sortable([
    { title: 'concept', key: (r) => r.concept.label + '\u0001' + r.concept.name, cell: (r) => link(conceptHash(r.concept), { class: 'concept' }, h('span', { class: 'at' }, r.concept.label + ' '), conceptName(r.concept)) },
    { title: 'rows', num: true, down: true, key: (r) => r.rows, cell: (r) => count(r.rows) },
    { title: 'best neuron', key: (r) => neuronName(r.ranking.neuron[0]), cell: (r) => [kindMark(siteOf(r.ranking.neuron[0]).kind), neuronLink(r.ranking.neuron[0])] },
    { title: 'sign', cell: (r) => signMark(r.ranking.sign[0]) },
    { title: 'score', num: true, down: true, key: (r) => r.ranking.score[0], cell: (r) => padded(r.ranking.score[0]) },
    { title: 'q', num: true, key: (r) => r.ranking.q[0], cell: (r) => probability(r.ranking.q[0]), hint: 'false discovery rate (Benjamini and Hochberg)' },
    { title: 'agreement', down: true, hint: 'mean average overlap of the first 20 neurons over all pairs of methods, random and bottom left out', key: (r) => r.agree, cell: (r) => [r.agree === null ? '\u2013' : r.agree.toFixed(2), bar(r.agree)] , class: 'withbar' },
  ], rows, { class: 'concepts', first: 24 });
}

function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.filter((p) => p[1] !== null && p[1] !== undefined && p[1] !== '').map(([k, v]) => [h('dt', {}, k), h('dd', {}, v)]));
}

function fileTable(files) {
  return sortable([
    { title: 'file', key: (f) => f.name, cell: (f) => h('code', {}, f.name) },
    { title: 'size', num: true, down: true, key: (f) => f.bytes, cell: (f) => bytes(f.bytes) },
    { title: 'hash', cell: (f) => h('code', { class: 'hash', title: f.sha256 ? 'SHA-256' : 'BLAKE3' }, f.sha256 || f.blake3 || '') },
  ], files);
}

function folded(name, ...content) {
  return h('details', {}, h('summary', {}, name), content);
}

function details() {
  const c = M.corpus.counts;
  const left = M.labels.flatMap((l) => l.classes.filter((k) => !k.ranked).map((k) => `${l.column}=${k.name} (${count(k.rows)})`));
  return section('The run', null,
    h('div', { class: 'columns' },
      h('div', {}, h('h3', {}, 'Coverage'), facts([
        ['documents', count(c.documents)], ['sentences', count(c.sentences)], ['sequences', count(c.sequences)], ['words', count(c.words)],
        ['tokens run', count(c.tokens)], ['rows scored', count(c.rows)], ['words without a token', count(c.dropped_words)],
        ['words cut off by length', count(c.truncated_words)], ['rows left out by position', count(c.excluded_rows)], ['unreadable lines', count(c.bad)],
        ['blocks', `${count(M.plan.done)} of ${count(M.plan.blocks)}`]])),
      h('div', {}, h('h3', {}, 'Model'), facts([
        ['model', M.model.path], ['architecture', M.model.architecture], ['layers', count(M.model.layers)], ['width', count(M.model.width)],
        ['parameters', count(M.model.parameters)], ['computed in', M.model.dtype], ['watched', M.sites.length + ' sites, ' + count(M.model.neurons) + ' neurons']])),
      h('div', {}, h('h3', {}, 'Machine and time'), facts([
        ['started', M.timings.start], ['took', duration(M.timings.seconds)], ['speed', count(Math.round(M.timings.tokens_per_second)) + ' tokens/s'],
        ['processor', M.machine.cpu], ['threads', `${M.machine.threads} of ${M.machine.cores} cores`], ['memory', M.machine.memory && bytes(M.machine.memory)],
        ['electrode', M.electrode.version + (M.electrode.git ? ' (' + M.electrode.git.slice(0, 10) + ')' : '') + ', ' + M.electrode.build], ['run', h('code', {}, M.run_id)]]))),
    left.length ? h('p', { class: 'note' }, 'Classes with too few rows to be ranked: ', left.slice(0, 60).join(', '), left.length > 60 ? ` and ${left.length - 60} more` : '', '.') : null,
    D.pages_left_out ? h('p', { class: 'note' }, `${count(D.pages_left_out)} further neurons have contexts in the tables but no page here.`) : null,
    folded('Files', h('h3', {}, 'Model'), fileTable(M.model.files), h('h3', {}, 'Corpus'), fileTable(M.corpus.files), h('h3', {}, 'Results'), fileTable(M.outputs)),
    folded('Configuration', h('pre', {}, JSON.stringify(M.config, null, 2).split('\n').map((line) => [line, h('br')]))));
}

function showOverview() {
  const heat = conceptHeat();
  const list = h('div');
  const drawList = () => list.replaceChildren(conceptTable());
  drawList();
  const choose = () => choice('method', ownMethods().map((m) => [m, D.methods[m]]), method, (m) => { method = m; heat.draw(); drawList(); });
  const ranked = D.rankings.length > 0;
  return [
    hero(),
    ranked ? section('Where concepts live', 'For each concept, how many of its best neurons sit in each layer. Choose a concept to see them.', h('div', { class: 'controls' }, choose(), heat.controls), heat.place) : null,
    ranked ? section('Concepts', 'The single best neuron for each concept by the method chosen above, and how far the methods agree on the concept.', list) : section('No rankings', 'This run ranked no neurons.'),
    D.methods.length > 1 ? agreementSection(D.concepts.map((_, c) => c), D.methods.map((_, m) => m), 'How far the lists of two methods overlap, as the mean over concepts. The random list shows what chance would give.') : null,
    details(),
  ];
}
