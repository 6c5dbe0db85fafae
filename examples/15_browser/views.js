// What is seen of the model: the picture and its patches, attention, the methods
// of chapter 10, the logit lens, the tokens, the probabilities. All of it follows
// the picture, the parameters and one focus: the token that is asked about.
'use strict';

const views = {
  focus: 0,
  direction: 'from',
  why: -1,
  sizes: null,
  best: 0
};

const el = (tag, attributes = {}, ...children) => {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) k in e ? (e[k] = v) : e.setAttribute(k, v);
  e.append(...children);
  return e;
};
const by = (id) => document.getElementById(id);

// "class token", "patch 3,4": tokens by their names. Rows and columns count from 1.
views.token = (i) => {
  const s = views.sizes;
  if (s.cls && i === 0) return t('class_token');
  const n = i - s.cls;
  return n < s.N ? t('patch_at', { row: Math.floor(n / s.cols) + 1, col: n % s.cols + 1 }) :
                   t('extra_token', { n: n - s.N + 1 });
};

views.theToken = (i) => (views.sizes.cls && i === 0 ? t('the_class_token') : views.token(i));

// Another model: its sizes, and grids that fit it.
views.build = () => {
  const s = views.sizes = engine.sizes();
  if (views.focus >= s.T || !views.shown) views.focus = 0;
  if (!(views.patchNumber < s.N))
    views.patchNumber = Math.floor(s.rows / 2) * s.cols + Math.floor(s.cols / 2);
  views.buildPatches(s);
  views.buildHeads(s);
  views.buildMethods(s);
  views.buildLens(s);
  views.buildTokens(s);
  views.buildAnswer(s);
};

// The digit that maps of patches lie on.
views.over = () => {
  const { height, width } = views.sizes;
  return { height, width, pixels: engine.bytes(engine.pixels(), height * width) };
};

views.buildPatches = (s) => {
  views.seen = new Grid(by('seen'), {
    rows: s.height,
    cols: s.width,
    cell: Math.floor(280 / s.width),
    grey: true,
    lines: [s.PH, s.PW],
    name: () => t('seen'),
    tip: (r, c) => t('pixel_is', { row: r + 1, col: c + 1, v: views.pixels[r * s.width + c] }),
    point: (r, c) => views.ask(s.cls + Math.floor(r / s.PH) * s.cols + Math.floor(c / s.PW)),
    click: (r, c) => formula.pixel(r, c)
  });
  views.patch = new Grid(by('patch'), {
    rows: s.PH,
    cols: s.PW,
    cell: Math.floor(140 / s.PW),
    grey: true,
    name: () => t('one_patch'),
    tip: (r, c) => t('pixel_is', { row: r + 1, col: c + 1, v: say(views.patchValues[r * s.PW + c], 0) }),
    click: (r, c) => {
      const [y, x] = views.patchPlace();
      formula.pixel(y + r, x + c);
    }
  });

  const wide = s.D % 8 ? (s.D % 3 ? s.D : 3) : 8;
  views.projected = new Grid(by('projected'), {
    rows: Math.ceil(s.D / wide),
    cols: wide,
    cell: Math.floor(140 / wide),
    name: () => t('projected_patch', { D: s.D }),
    tip: (r, c) => t('number_is', {
      token: views.token(s.cls + views.patchNumber),
      d: r * wide + c + 1,
      v: say(views.projected.values[r * wide + c])
    }),
    click: (r, c) => formula.projected(views.patchNumber, r * wide + c)
  });
  by('projected-name').textContent = t('projected_patch', { D: s.D });
};

views.buildHeads = (s) => {
  by('heads').replaceChildren();
  views.heads = [];
  const cell = Math.floor(112 / s.cols);
  for (let l = 0; l < s.L; l++) {
    const row = el('div', { className: 'row maps', style: `--maps:${Math.min(4, s.H)}` });
    by('heads').append(el('div', { className: 'block' }, el('p', {}, t('block_n', { n: l + 1 })), row));
    for (let h = 0; h < s.H; h++) {
      const host = el('div'), note = el('figcaption'), rest = el('div', { className: 'extras' });
      row.append(el('figure', {}, note, host, rest));
      const place = (n) => (views.direction === 'from' ? [views.focus, s.cls + n] : [s.cls + n, views.focus]);
      const grid = new Grid(host, {
        rows: s.rows,
        cols: s.cols,
        cell,
        over: views.over,
        name: () => t('head_map', { layer: l + 1, head: h + 1, token: views.token(views.focus) }),
        tip: (r, c) => `${views.token(s.cls + r * s.cols + c)}: ${
            percent(views.attentionAt(l, h, ...place(r * s.cols + c)))}`,
        click: (r, c) => formula.attention(l, h, ...place(r * s.cols + c))
      });
      views.heads.push({ l, h, grid, note, rest });
    }
  }
};

views.buildMethods = (s) => {
  const map = (host, cell, name, value, click) => new Grid(host, {
    rows: s.rows,
    cols: s.cols,
    cell,
    name,
    over: views.over,
    tip: (r, c) => `${views.token(s.cls + r * s.cols + c)}: ${value(r * s.cols + c)}`,
    point: (r, c) => views.ask(s.cls + r * s.cols + c),
    click: (r, c) => click(r * s.cols + c)
  });
  const why = by('why');
  why.replaceChildren(el('option', { value: -1 }, t('best_class')));
  for (let k = 0; k < s.K; k++) why.append(el('option', { value: k }, engine.class(k)));
  why.value = views.why = views.why < s.K ? views.why : -1;
  const size = Math.floor(154 / s.cols);
  views.rollout =
      map(by('rollout'), size, () => t('rollout'), (n) => percent(views.rolloutValues[s.cls + n]),
          (n) => formula.rollout(s.cls + n));
  views.relevance =
      map(by('relevance'), size, () => t('relevance'), (n) => say(views.relevanceValues[s.cls + n]),
          (n) => formula.relevance(s.cls + n));
  views.occlusion =
      map(by('occlusion'), size, () => t('occlusion'), (n) => say(views.occlusionValues[n]),
          (n) => formula.occlusion(n));
};

views.buildLens = (s) => {
  const lensCell = Math.max(22, Math.min(44, Math.floor((by('lens').clientWidth - 96) / s.K)));
  views.lens = new Grid(by('lens-table'), {
    rows: s.L,
    cols: s.K,
    cell: lensCell,
    name: () => t('lens'),
    text: (r, c) => (100 * views.lensValues[r * s.K + c]).toFixed(0),
    tip: (r, c) =>
        t('lens_is', { n: r + 1, name: engine.class(c), p: percent(views.lensValues[r * s.K + c]) }),
    click: (r, c) => formula.lens(r, c)
  });
  by('lens-head').style.gridTemplateColumns = `repeat(${s.K}, ${lensCell}px)`;
  by('lens-head').replaceChildren(...Array.from({ length: s.K }, (_, k) => el('b', {}, engine.class(k))));
  by('lens-side')
      .replaceChildren(...Array.from({ length: s.L }, (_, l) => el('span', {}, t('block_n', { n: l + 1 }))));
};

views.buildTokens = (s) => {
  by('stages').replaceChildren();
  const square = Math.max(2, Math.min(14, Math.floor(165 / s.D)));
  views.stages = views.stageList().map((stage) => {
    const host = el('div');
    by('stages').append(el('figure', {}, el('figcaption', {}, stage.title), host));
    const grid = new Grid(host, {
      rows: stage.rows,
      cols: s.D,
      cell: square,
      name: () => stage.title,
      tip: (r, c) => t(
          'number_is', { token: views.token(stage.first + r), d: c + 1, v: say(stage.values[r * s.D + c]) }),
      point: (r) => views.ask(stage.first + r),
      click: (r, c) => stage.click(stage.first + r, c)
    });
    return Object.assign(stage, { grid });
  });
};

views.buildAnswer = (s) => {
  by('probabilities').replaceChildren();
  views.bars = Array.from({ length: s.K }, (_, k) => {
    const fill = el('div', { className: 'fill' }), p = el('button', { className: 'number' }),
          l = el('button', { className: 'number' });
    const bar =
        el('div', { className: 'bar' }, el('b', {}, engine.class(k)), el('div', { className: 'track' }, fill),
           p, l);
    p.onclick = () => formula.probability(k), l.onclick = () => formula.logit(k);
    by('probabilities').append(bar);
    return { bar, fill, p, l };
  });
  by('probabilities')
      .prepend(
          el('div', { className: 'bar quiet' }, el('span'), el('span'),
             el('span', { style: 'text-align:right' }, t('probability')),
             el('span', { style: 'text-align:right' }, t('logit'))));
};

// The tokens on their way: projected, with positions, after each block.
views.stageList = () => {
  const s = views.sizes, pooled = engine.config('pool') === 0 && !engine.config('dist_token');
  const list = [
    {
      title: t('stage_projected'),
      rows: s.N,
      first: s.cls,
      read: () => engine.activation('patch_embed', 0, s.N * s.D),
      click: (i, d) => formula.projected(i - s.cls, d)
    },
    {
      title: t('stage_tokens'),
      rows: s.T,
      first: 0,
      read: () => engine.activation('tokens', 0, s.T * s.D),
      click: (i, d) => formula.token(i, d)
    }
  ];
  for (let l = 0; l < s.L; l++) {
    const alone = pooled && l === s.L - 1;  // the last block makes the class token alone
    list.push({
      title: t(alone ? 'stage_last' : 'stage_block', { n: l + 1 }),
      rows: alone ? 1 : s.T,
      first: 0,
      alone,
      read: () => engine.activation('out', l, (alone ? 1 : s.T) * s.D),
      click: (i, d) => formula.block(l, i, d)
    });
  }
  return list;
};

views.patchPlace = () => {
  const s = views.sizes, n = views.patchNumber;
  return [Math.floor(n / s.cols) * s.PH, n % s.cols * s.PW];
};
views.attentionAt = (l, h, i, j) => views.maps[l * views.sizes.H + h][i * views.sizes.T + j];
views.lastClass = () => (views.why >= 0 ? views.why : views.best);

// The picture or the parameters have changed: everything anew.
views.refresh = () => {
  const s = views.sizes;
  engine.try('look');
  views.shown = true;
  views.pixels = engine.bytes(engine.pixels(), s.height * s.width).slice();
  views.logits = engine.activation('logits', 0, s.K);
  views.probs = engine.activation('probs', 0, s.K);
  views.best = views.probs.indexOf(Math.max(...views.probs));
  views.maps = [];
  for (let l = 0; l < s.L; l++)
    for (let h = 0; h < s.H; h++) views.maps.push(engine.copy(engine.attention(l, h), s.T * s.T));
  views.lensValues = new Float32Array(s.L * s.K);
  views.lensLogits = new Float32Array(s.L * s.K);
  for (let l = 0; l < s.L; l++) {
    engine.try('lens', l);
    const logits = engine.copy(engine.logits(), s.K);
    views.lensLogits.set(logits, l * s.K);
    views.lensValues.set(softmax(logits), l * s.K);
  }
  views.showAnswer();
  views.seen.show(views.pixels, 255);
  views.lens.show(views.lensValues, 1);
  views.showFocus();
  views.askWhy();
  clearTimeout(views.later);  // the tokens are many squares: they may come a little later
  views.later = setTimeout(views.showTokens, 60);
};

const softmax = (logits) => {
  const most = Math.max(...logits), e = Array.from(logits, (x) => Math.exp(x - most)),
        sum = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / sum);
};

views.showAnswer = () => {
  views.bars.forEach(({ bar, fill, p, l }, k) => {
    bar.classList.toggle('best', k === views.best && !pad.empty);
    fill.style.width = 100 * views.probs[k] + '%';
    p.textContent = percent(views.probs[k]), l.textContent = say(views.logits[k], 2);
    p.setAttribute('aria-label', t('probability_of', { name: engine.class(k), p: percent(views.probs[k]) }));
    l.setAttribute('aria-label', t('logit_of', { name: engine.class(k), v: say(views.logits[k], 2) }));
  });
  by('verdict').replaceChildren(...(pad.empty ? [t('nothing_drawn')] : [
    t('it_is') + ' ', el('b', {}, engine.class(views.best)), ` ${percent(views.probs[views.best])}`
  ]));
};

views.showTokens = () => {
  for (const stage of views.stages) {
    stage.values = stage.read();
    if (stage.values) stage.grid.show(stage.values);
  }
};

// Another token is asked about.
views.ask = (i) => {
  if (i === views.focus) return;
  views.focus = i;
  views.showFocus();
};

views.showFocus = () => {
  const s = views.sizes, i = views.focus, n = i - s.cls, onPatch = n >= 0 && n < s.N;
  if (onPatch) views.patchNumber = n;  // the last patch stays enlarged
  const [y, x] = views.patchPlace();
  by('attention-of').textContent =
      t(views.direction === 'from' ? 'looks_from' : 'looks_to', { token: views.theToken(i) });
  by('token-of').textContent = t('token_row', { token: views.token(i) });
  by('patch-name').textContent = t('patch_enlarged', { patch: views.token(s.cls + views.patchNumber) });
  views.seen.mark = onPatch ? [y, x, s.PH, s.PW] : null;
  views.seen.draw();
  views.patchValues = new Float32Array(s.PH * s.PW);
  for (let k = 0; k < s.PH * s.PW; k++)
    views.patchValues[k] = views.pixels[(y + Math.floor(k / s.PW)) * s.width + x + k % s.PW];
  views.patch.show(views.patchValues, 255);
  const projected = engine.activation('patch_embed', 0, s.N * s.D);
  views.projected.show(
      projected.slice(views.patchNumber * s.D, (views.patchNumber + 1) * s.D),
      Math.max(...projected.map(Math.abs)));
  const place = onPatch ? [Math.floor(n / s.cols), n % s.cols] : null;
  for (const head of views.heads) {
    const all = Float32Array.from(
        { length: s.T },
        (_, j) =>
            (views.direction === 'from' ? views.attentionAt(head.l, head.h, i, j) :
                                          views.attentionAt(head.l, head.h, j, i)));
    head.grid.mark = place;
    head.grid.show(all.slice(s.cls, s.cls + s.N));
    head.note.replaceChildren(
        el('b', {}, t('head_n', { n: head.h + 1 })), el('br'),
        t('up_to', { p: percent(Math.max(...all.slice(s.cls, s.cls + s.N))) }));
    head.rest.replaceChildren();
    for (let j = 0; j < s.T; j++) {
      if (j >= s.cls && j < s.cls + s.N) continue;
      const pair = views.direction === 'from' ? [i, j] : [j, i];
      const b = el(
          'button', { className: 'number', style: 'text-align:left;font-size:.85rem', title: views.token(j) },
          `${j < s.cls ? '‹cls›' : views.token(j)} ${percent(all[j])}`);
      b.setAttribute('aria-label', `${views.token(j)} ${percent(all[j])}`);
      b.onclick = () => formula.attention(head.l, head.h, ...pair);
      head.rest.append(b);
    }
  }
  for (const map of [views.rollout, views.relevance, views.occlusion]) map.mark = place, map.draw();
  for (const stage of views.stages) {
    const r = i - stage.first;
    stage.grid.mark = r >= 0 && r < stage.rows && stage.rows > 1 ? [r, 0, 1, s.D] : null;
    stage.grid.draw();
  }
};

// Why this class? Rollout and relevance at once, occlusion in slices.
views.askWhy = () => {
  const s = views.sizes, k = views.lastClass(), turn = views.turn = (views.turn || 0) + 1;
  engine.try('rollout');
  views.rolloutValues = engine.copy(engine.map(), s.T);
  engine.try('relevance', k);
  views.relevanceValues = engine.copy(engine.map(), s.T);
  views.rollout.show(views.rolloutValues.slice(s.cls, s.cls + s.N));
  views.relevance.show(views.relevanceValues.slice(s.cls, s.cls + s.N));
  const most = (values) => Math.max(...values.slice(s.cls, s.cls + s.N));
  by('rollout-most').textContent = t('up_to', { p: percent(most(views.rolloutValues)) });
  by('relevance-most').textContent = t('up_to', { p: say(most(views.relevanceValues)) });
  let first = 0;
  const values = new Float32Array(s.N);
  engine.slices(() => {
    if (turn !== views.turn) return false;  // the picture has changed meanwhile
    first = views.occlude(k, first, values);
    if (first < s.N) return true;
    views.occlusionValues = values;
    views.occlusion.show(values);
    by('occlusion-most').textContent = t('up_to', { p: say(Math.max(...values)) });
    return false;
  });
};
views.occlude = (k, first, values) => {  // a few patches; where to go on
  const { N, T } = views.sizes, n = Math.min(engine.at_once(), N - first);
  engine.try('occlusion', k, first);
  values.set(engine.floats(engine.map(), T).subarray(first, first + n), first);
  return first + n;
};
views.occludeAll = (k) => {
  const { N } = views.sizes, values = new Float32Array(N);
  for (let first = 0; first < N;) first = views.occlude(k, first, values);
  return values;
};

views.setDirection = (direction) => {
  views.direction = direction;
  for (const radio of document.getElementsByName('direction')) radio.checked = radio.value === direction;
  views.showFocus();
};
views.setWhy = (k) => {
  by('why').value = views.why = k < views.sizes.K ? k : -1;
  views.askWhy();
};

views.start = () => {
  for (const radio of document.getElementsByName('direction'))
    radio.onchange = () => {
      views.setDirection(radio.value);
    };
  by('ask-class').onclick = () => views.ask(0);
  by('why').onchange = (e) => {
    views.setWhy(+e.target.value);
  };
};
