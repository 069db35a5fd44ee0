// One neuron: where it fires, how it is distributed by class, and what it ranks for. And the frame
// around all views.

function contextLine(page, context) {
  const scale = page.scale || 1;
  const words = context.words.map((w, i) => {
    const focus = i === context.focus;
    const traced = context.colours.length > 0;
    const part = traced ? context.colours[i] / 127 : focus ? Math.max(-1, Math.min(1, (context.value ?? 0) / scale)) : 0;
    const value = focus ? number(context.value) : traced ? number(part * scale, 2) : null;
    const word = h('span', { class: 'w ' + (part < 0 ? 'neg' : 'pos') + (focus ? ' focus' : '') + (Math.abs(part) > 0.55 ? ' strong' : ''), dir: 'auto', title: value }, D.words[w]);
    if (part) word.style.setProperty('--a', (100 * Math.abs(part)).toFixed(0) + '%');
    return [word, ' '];
  });
  return h('li', {}, h('span', { class: 'value' }, padded(context.value)), h('p', { class: 'text' }, words),
    h('span', { class: 'where', title: `document ${context.document}, sentence ${context.sentence}, both counted from 0` }, `${context.document}:${context.sentence}`));
}

function contexts(page) {
  if (!page || !(page.top.length || page.bottom.length)) return section('Contexts', 'No contexts were kept for this neuron; the tables hold those of the best neurons of each concept.');
  const place = h('div');
  let side = page.top.length ? 'top' : 'bottom';
  const draw = () => place.replaceChildren(h('ol', { class: 'contexts' }, page[side].map((c) => contextLine(page, c))));
  draw();
  const legend = h('span', { class: 'legend' }, number(-page.scale, 2), h('span', { class: 'diverging' }), '+' + number(page.scale, 2));
  return section('Where it fires', 'The rows with the highest and the lowest activation, each word coloured by its own; the colours span the neuron\u2019s range over the corpus.',
    h('div', { class: 'controls' }, page.top.length && page.bottom.length ? choice('activation', [['top', 'highest'], ['bottom', 'lowest']], side, (s) => { side = s; draw(); }) : null, legend), place);
}

function distributions(page) {
  const all = page && page.histograms.find((x) => x.concept === '*' && x.label === '');
  if (!all || !all.counts.length) return null;
  const domain = domainOf(all);
  const own = page.histograms.filter((x) => x !== all);
  const rowsIn = (x) => x.counts.reduce((a, b) => a + b, 0);
  const tone = (x) => {
    const mine = (standing.get(page.neuron) || []).find((s) => s.ranking.sign[s.place] && D.concepts[s.ranking.concept].label === x.label && D.concepts[s.ranking.concept].name === x.concept);
    return !mine ? 'plain' : mine.ranking.sign[mine.place] > 0 ? 'up' : 'down';
  };
  const figures = own.map((x) => h('figure', {}, h('figcaption', {}, link(conceptHash({ label: x.label, name: x.concept }), { class: 'concept' }, h('span', { class: 'at' }, x.label + ' '), x.concept),
    h('span', { class: 'n' }, count(rowsIn(x)))), densityChart(all, x, tone(x), domain, `activation on ${x.concept} against all rows`)));
  if (!own.length) figures.push(h('figure', {}, h('figcaption', {}, 'all rows'), densityChart(all, null, 'plain', domain, 'activation on all rows')));
  return section('Activations by class', 'Densities of the activation on the rows of a class, over that on all rows in grey. Each has area one; the outermost two rows in a thousand are cut off.',
    h('div', { class: 'charts' }, figures));
}

function standings(n) {
  const mine = (standing.get(n) || []).map(({ ranking, place }) => ({ ranking, place, concept: D.concepts[ranking.concept] }));
  if (!mine.length) return null;
  return section('What it ranks for', `Lists of the ${D.listed} best neurons in which it stands.`, sortable([
    { title: 'concept', key: (r) => r.concept.label + '\u0001' + r.concept.name, cell: (r) => link(conceptHash(r.concept), { class: 'concept' }, h('span', { class: 'at' }, r.concept.label + ' '), conceptName(r.concept)) },
    { title: 'method', key: (r) => D.methods[r.ranking.method], cell: (r) => D.methods[r.ranking.method] },
    { title: 'rank', num: true, key: (r) => r.ranking.rank[r.place], cell: (r) => String(r.ranking.rank[r.place]) },
    { title: 'sign', key: (r) => r.ranking.sign[r.place], cell: (r) => signMark(r.ranking.sign[r.place]) },
    { title: 'score', num: true, down: true, key: (r) => r.ranking.score[r.place], cell: (r) => padded(r.ranking.score[r.place], 4) },
    { title: 'p', num: true, key: (r) => r.ranking.p[r.place], cell: (r) => probability(r.ranking.p[r.place]) },
    { title: 'q', num: true, key: (r) => r.ranking.q[r.place], cell: (r) => probability(r.ranking.q[r.place]) },
  ], mine, { by: 2, class: 'ranking', first: 15 }));
}

function showNeuron(n) {
  const N = D.neurons;
  const page = pageOf.get(n);
  const known = N.n[n] !== null;
  const quantiles = N.quantiles[n];
  const best = (standing.get(n) || []).filter((s) => !isBaseline(s.ranking.method)).sort((a, b) => a.ranking.rank[a.place] - b.ranking.rank[b.place])[0];
  const c = best && D.concepts[best.ranking.concept];
  return [
    h('p', { class: 'crumbs' }, link('', {}, 'Overview'), c ? [' / ', link(conceptHash(c), {}, c.label + ' ' + conceptName(c))] : null),
    h('h1', { class: 'name' }, h('span', { class: 'at' }, siteOf(n).name + '.'), String(N.index[n])),
    best ? h('p', { class: 'lead' }, `Rank ${best.ranking.rank[best.place]} for `, link(conceptHash(c), {}, h('b', {}, conceptName(c)), ` (${c.label})`), ` by ${D.methods[best.ranking.method]}`,
      best.ranking.sign[best.place] > 0 ? ', firing more on its rows.' : best.ranking.sign[best.place] < 0 ? ', firing less on its rows.' : '.') : null,
    N.constant[n] ? h('p', { class: 'warning' }, 'This neuron is constant over the corpus.') : null,
    N.non_finite[n] ? h('p', { class: 'warning' }, `${count(N.non_finite[n])} activations were not finite and stand outside all numbers here.`) : null,
    known ? h('div', { class: 'tiles small' }, tile(number(N.mean[n]), 'mean'), tile(number(N.sd[n]), 'standard deviation'),
      tile(number(N.min[n]), 'least'), quantiles.length === 7 ? tile(number(quantiles[3]), 'median') : null, tile(number(N.max[n]), 'largest'),
      tile(percent(N.rate[n]), 'above zero'), tile(count(N.n[n]), 'rows')) : null,
    contexts(page),
    distributions(page),
    standings(n),
  ];
}

function drawNav(current) {
  const groups = labels.map((label) => h('div', { class: 'group' }, h('h2', {}, label), h('ul', {}, conceptsOf(label).map((c) =>
    h('li', {}, link(conceptHash(D.concepts[c]), { 'aria-current': c === current ? 'page' : null }, h('span', {}, conceptName(D.concepts[c])), h('span', { class: 'n' }, D.concepts[c].name === '*' ? '' : count(rowsOf(c)))))))));
  const narrow = window.matchMedia('(max-width: 860px)').matches;
  document.getElementById('nav').replaceChildren(h('details', { open: !narrow }, h('summary', {}, 'Concepts'), groups));
}

function drawTop() {
  const find = h('input', { type: 'search', placeholder: 'concept or neuron', 'aria-label': 'find a concept or neuron', list: 'known' });
  const known = h('datalist', { id: 'known' }, D.concepts.map((c) => h('option', { value: c.label + ' ' + c.name })), D.pages.map((p) => h('option', { value: neuronName(p.neuron) })));
  find.addEventListener('change', () => {
    const wanted = find.value.trim();
    const c = D.concepts.find((x) => x.label + ' ' + x.name === wanted || x.name === wanted);
    if (c) location.hash = conceptHash(c);
    else if (neuronByName.has(wanted)) location.hash = neuronHash(neuronByName.get(wanted));
  });
  document.getElementById('top').replaceChildren(link('', { class: 'brand' }, h('b', {}, 'electrode'), h('span', {}, title())), find, known);
}

// `#c=label/concept`, `#n=neuron`, else the overview. What is not known is the overview.
function view() {
  let parts = [];
  try { parts = location.hash.slice(3).split('/').map(decodeURIComponent); } catch { parts = []; }
  const is = location.hash.slice(1, 3);
  const concept = is === 'c=' ? D.concepts.findIndex((c) => c.label === parts[0] && c.name === parts[1]) : -1;
  const neuron = is === 'n=' ? neuronByName.get(parts.join('/')) : undefined;
  const has = concept >= 0 && table[concept].some((r) => r);
  const content = neuron !== undefined ? showNeuron(neuron) : has ? showConcept(concept) : showOverview();
  const what = neuron !== undefined ? neuronName(neuron) + ' \u2013 ' : has ? D.concepts[concept].label + ' ' + conceptName(D.concepts[concept]) + ' \u2013 ' : '';
  document.title = plainText(what + title());
  drawNav(has ? concept : -1);
  fill(document.getElementById('main'), [document.getElementById('main').replaceChildren(), content]);
  window.scrollTo(0, 0);
}

drawTop();
view();
window.addEventListener('hashchange', view);
