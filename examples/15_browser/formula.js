// Any number that is clicked: its formula, the same with its values, the largest
// terms, and the chapter that explains it. Everything is computed here once more
// from what the number was made of; the result has to be the number.
'use strict';

const formula = {
  computed: null,
  shown: null
};

const CHAPTERS = {
  '01': 'patches',
  '02': 'tokens',
  '03': 'attention',
  '04': 'heads',
  '05': 'encoder',
  '06': 'model',
  '07': 'gradients',
  '08': 'training',
  '09': 'mnist',
  '10': 'inside',
  '13': 'pretrained'
};
// The book lies beside the page when `make book` was run: out/book/index.html.
const chapterLink = (a, number) => {
  a.href = `../book/index.html#${number}`, a.target = 'book';
  a.title = t('book_hint');
  a.textContent = t('chapter', { number, name: CHAPTERS[number] });
};

const num = (x) => `<b>${say(x)}</b>`;
const dot = (a, b, n, x = 0, y = 0) => {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += a[x + i] * b[y + i];
  return sum;
};

// title, html of the formula, html with the values, the number as computed here and as the
// model has it, chapter, terms: [name, factor, factor, product]
formula.show = ({ title, maths, filled, computed, value, chapter, terms, heads, note }) => {
  formula.computed = computed, formula.shown = value;
  const box = by('formula-text'), link = el('a', { className: 'chapter' });
  chapterLink(link, chapter);
  const words = el(
      'div', {}, el('p', {}, el('b', {}, title), ' ', link),
      el('p', { className: 'maths', innerHTML: maths }), el('p', { className: 'maths', innerHTML: filled }));
  box.replaceChildren(words);
  if (terms) {
    const most = [...terms].sort((a, b) => Math.abs(b.at(-1)) - Math.abs(a.at(-1))).slice(0, 6);
    const rest = terms.length - most.length;
    const table = el('table', {}, el('tr', {}, ...heads.map((h) => el('th', { innerHTML: h }))));
    for (const row of most)
      table.append(el('tr', {}, ...row.map((v) => el('td', {}, typeof v === 'number' ? say(v) : v))));
    const side = el('div', {}, table);
    box.append(side);
    if (rest > 0) {
      const left = terms.reduce((a, row) => a + row.at(-1), 0) - most.reduce((a, row) => a + row.at(-1), 0);
      side.append(el('p', { className: 'quiet' }, t('other_terms', { n: rest, v: say(left) })));
    }
  }
  if (note) words.append(el('p', { className: 'quiet' }, note));
  by('formula').hidden = false;
};

formula.close = () => {
  by('formula').hidden = true;
};
formula.start = () => {
  by('formula-close').onclick = formula.close;
  addEventListener('keydown', (e) => {
    if (e.key === 'Escape') formula.close();
  });
};

formula.pixel = (y, x) => {
  const s = views.sizes, v = views.pixels[y * s.width + x], mean = engine.mean(), std = engine.std();
  const value = engine.floats(engine.image(), s.height * s.width)[y * s.width + x],
        computed = (v / 255 - mean) / std;
  formula.show({
    title: t('f_pixel', { row: y + 1, col: x + 1 }),
    chapter: '01',
    computed,
    value,
    maths: `x = (<i>${t('grey')}</i> / 255 − <i>${t('mean')}</i>) / <i>${t('deviation')}</i>`,
    filled: `= (${v} / 255 − ${say(mean)}) / ${say(std)} = ${num(computed)}`
  });
};

formula.projected = (n, d) => {
  const s = views.sizes, P = s.PH * s.PW;
  const w = engine.parameter('patch_embed.proj.weight', s.D * P),
        b = engine.parameter('patch_embed.proj.bias', s.D);
  const x = engine.activation('patches', 0, s.N * P),
        value = engine.activation('patch_embed', 0, s.N * s.D)[n * s.D + d];
  const bias = b ? b[d] : 0, sum = dot(w, x, P, d * P, n * P);
  formula.show({
    title: t('f_projected', { token: views.token(n + s.cls), d: d + 1 }),
    chapter: '01',
    value,
    computed: bias + sum,
    maths: 'y<sub>d</sub> = b<sub>d</sub> + Σ<sub>k</sub> w<sub>d,k</sub> x<sub>k</sub>',
    filled: `= ${say(bias)} + ${say(sum)} = ${num(bias + sum)}`,
    heads: [t('pixel'), 'w', 'x', 'w x'],
    terms: Array.from(
        { length: P },
        (_, k) =>
            [`${Math.floor(k / s.PW) + 1},${k % s.PW + 1}`, w[d * P + k], x[n * P + k],
             w[d * P + k] * x[n * P + k]])
  });
};

// Number d of patch n's token; -1 is the class token, after the patches come the extra ones.
formula.withoutPosition = (n, d) => {
  const s = views.sizes, dist = engine.config('dist_token');
  if (n < 0) return engine.parameter('cls_token', s.D)[d];
  if (n < s.N) return engine.activation('patch_embed', 0, s.N * s.D)[n * s.D + d];
  if (dist && n === s.N) return engine.parameter('dist_token', s.D)[d];
  return engine.parameter('reg_token', s.extras * s.D)[(n - s.N - dist) * s.D + d];
};

formula.token = (i, d) => {
  const s = views.sizes, value = engine.activation('tokens', 0, s.T * s.D)[i * s.D + d], n = i - s.cls;
  const count = (s.N + s.cls) * s.D;
  const pos = engine.parameter('pos_embed', count) || engine.parameter('fixed_pos', count);
  const place = pos && i < s.N + s.cls ? pos[i * s.D + d] : 0;
  const own = formula.withoutPosition(n, d);
  const title = t('f_token', { token: views.token(i), d: d + 1 });
  if (engine.config('pre_norm')) {  // a layer norm before the first block
    const mean = engine.activation('placed_mean', 0, s.T)[i],
          rstd = engine.activation('placed_rstd', 0, s.T)[i];
    const w = engine.parameter('norm_pre.weight', s.D)[d], b = engine.parameter('norm_pre.bias', s.D)[d],
          computed = (own + place - mean) * rstd * w + b;
    formula.show({
      title,
      chapter: '05',
      value,
      computed,
      maths: `x = (<i>${t('stage_projected')}</i> + <i>${t('position')}</i> − μ) / σ · w + b`,
      filled: `= (${say(own)} + ${say(place)} − ${say(mean)}) · ${say(rstd)} · ${say(w)} + ${say(b)} = ${
          num(computed)}`
    });
    return;
  }
  formula.show({
    title,
    chapter: '02',
    value,
    computed: own + place,
    maths:
        `x = <i>${n < 0 || n >= s.N ? views.token(i) : t('stage_projected')}</i> + <i>${t('position')}</i>`,
    filled: `= ${say(own)} + ${say(place)} = ${num(own + place)}`,
    note: pos ? null : t('no_positions')
  });
};

formula.block = (l, i, d) => {
  const s = views.sizes, alone = views.stages[2 + l].alone, rows = alone ? 1 : s.T, r = alone ? 0 : i;
  const value = engine.activation('out', l, rows * s.D)[r * s.D + d];
  const before = l ? engine.activation('out', l - 1, s.T * s.D) : engine.activation('tokens', 0, s.T * s.D);
  if (engine.config('norm') === 1) {
    formula.show({
      title: t('f_block', { n: l + 1, token: views.token(i), d: d + 1 }),
      chapter: '05',
      value,
      computed: value,
      maths: 'y = norm(x + attention(x)),&ensp; out = norm(y + MLP(y))',
      filled: `= ${num(value)}`
    });
    return;
  }
  const x = before[i * s.D + d], middle = engine.activation('residual2', l, rows * s.D)[r * s.D + d];
  formula.show({
    title: t('f_block', { n: l + 1, token: views.token(i), d: d + 1 }),
    chapter: '05',
    value,
    computed: x + (middle - x) + (value - middle),
    maths: `out = x + attention(norm(x)) + MLP(norm(…))`,
    filled: `= ${say(x)} + ${say(middle - x)} + ${say(value - middle)} = ${num(value)}`,
    note: t('f_block_note')
  });
};

// Where queries and keys lie: the last block of a model that reads the class token keeps
// keys and values in `qkv` and all queries in `all_q`.
formula.queryKey = (l, h) => {
  const s = views.sizes, alone = views.stages[2 + l].alone, parts = alone ? 2 : 3;
  const qkv = engine.activation('qkv', l, s.T * parts * s.I);
  const q = alone ? engine.activation('all_q', 0, s.T * s.I) : qkv;
  return {
    query: (i) => q.subarray((alone ? i * s.I : i * 3 * s.I) + h * s.Dh),
    key: (j) => qkv.subarray(j * parts * s.I + (alone ? 0 : s.I) + h * s.Dh)
  };
};

formula.attention = (l, h, i, j) => {
  const s = views.sizes, { query, key } = formula.queryKey(l, h), q = query(i), k = key(j),
        value = views.attentionAt(l, h, i, j);
  const scores = Array.from({ length: s.T }, (_, n) => dot(q, key(n), s.Dh) / Math.sqrt(s.Dh));
  const seen = scores.map((v, n) => (views.attentionAt(l, h, i, n) > 0 ? Math.exp(v) : 0));  // 0: a mask
  const sum = seen.reduce((a, b) => a + b, 0), score = scores[j], computed = seen[j] / sum;
  formula.show({
    title: t('f_attention', { n: l + 1, h: h + 1, from: views.theToken(i), to: views.theToken(j) }),
    chapter: '03',
    value,
    computed,
    maths:
        's<sub>ij</sub> = q<sub>i</sub> · k<sub>j</sub> / √Dh,&ensp; p<sub>ij</sub> = exp(s<sub>ij</sub>) / Σ<sub>n</sub> exp(s<sub>in</sub>)',
    filled: `s = ${say(score * Math.sqrt(s.Dh))} / √${s.Dh} = ${say(score)},&ensp; p = ${
        say(Math.exp(score))} / ${say(sum)} = ${num(computed)}`,
    heads: ['d', 'q', 'k', 'q k'],
    terms: Array.from({ length: s.Dh }, (_, d) => [String(d + 1), q[d], k[d], q[d] * k[d]]),
    note: t('attention_note')
  });
};

formula.logit = (k) => {
  const s = views.sizes, w = engine.parameter('head.weight', s.K * s.D),
        b = engine.parameter('head.bias', s.K), x = engine.activation('pooled', 0, s.D);
  const sum = dot(w, x, s.D, k * s.D), value = views.logits[k], both = engine.config('dist_token') === 1;
  formula.show({
    title: t('f_logit', { name: engine.class(k) }),
    chapter: '06',
    value,
    computed: both ? value : b[k] + sum,
    maths: 'l<sub>k</sub> = b<sub>k</sub> + Σ<sub>d</sub> w<sub>k,d</sub> x<sub>d</sub>',
    filled: `= ${say(b[k])} + ${say(sum)} = ${num(b[k] + sum)}`,
    heads: ['d', 'w', 'x', 'w x'],
    terms:
        Array.from({ length: s.D }, (_, d) => [String(d + 1), w[k * s.D + d], x[d], w[k * s.D + d] * x[d]]),
    note: both ? t('two_heads') : null
  });
};

const softmaxFilled = (logits, k) => {
  const most = Math.max(...logits), e = Array.from(logits, (x) => Math.exp(x - most)),
        sum = e.reduce((a, b) => a + b, 0);
  return {
    computed: e[k] / sum,
    html: `= exp(${say(logits[k] - most)}) / ${say(sum)} = ${say(e[k])} / ${say(sum)} = ${num(e[k] / sum)}`
  };
};
const softmaxMaths =
    'p<sub>k</sub> = exp(l<sub>k</sub> − m) / Σ<sub>j</sub> exp(l<sub>j</sub> − m),&ensp; m = max l';

formula.probability = (k) => {
  const { computed, html } = softmaxFilled(views.logits, k);
  formula.show({
    title: t('f_probability', { name: engine.class(k) }),
    chapter: '03',
    value: views.probs[k],
    computed,
    maths: softmaxMaths,
    filled: html,
    heads: [t('class_'), t('logit'), 'exp(l − m)'],
    terms: Array.from(views.logits, (l, j) => [engine.class(j), l, Math.exp(l - Math.max(...views.logits))])
  });
};

formula.lens = (l, k) => {
  const s = views.sizes, logits = views.lensLogits.slice(l * s.K, (l + 1) * s.K),
        { computed, html } = softmaxFilled(logits, k);
  formula.show({
    title: t('f_lens', { n: l + 1, name: engine.class(k) }),
    chapter: '10',
    value: views.lensValues[l * s.K + k],
    computed,
    maths:
        `l = head(norm(<i>${t('class_token')}</i> ${t('after_block', { n: l + 1 })})),&ensp; ${softmaxMaths}`,
    filled: html,
    note: t('lens_note')
  });
};

// Rollout once more: R = (A_L + 1)/2 · ... · (A_1 + 1)/2, A the mean over the heads.
formula.rollout = (j) => {
  const s = views.sizes, T = s.T;
  const layer = (l) => {  // [T,T], rows sum to 1
    const a = new Float64Array(T * T);
    for (let h = 0; h < s.H; h++)
      views.maps[l * s.H + h].forEach((p, n) => {
        a[n] += p / s.H;
      });
    return a.map((p, n) => (p + (Math.floor(n / T) === n % T ? 1 : 0)) / 2);
  };
  let R = layer(0);
  for (let l = 1; l < s.L - 1; l++) {
    const a = layer(l);
    R = Float64Array.from({ length: T * T }, (_, n) => {
      let sum = 0;
      for (let m = 0; m < T; m++) sum += a[Math.floor(n / T) * T + m] * R[m * T + n % T];
      return sum;
    });
  }
  const last = layer(s.L - 1), value = views.rolloutValues[j];
  const rows = engine.config('pool') === 0 ? (engine.config('dist_token') ? [0, s.cls + s.N] : [0]) :
                                             Array.from({ length: s.N }, (_, n) => s.cls + n);
  const w = Array.from({ length: T }, (_, m) => rows.reduce((a, i) => a + last[i * T + m], 0) / rows.length);
  const terms = w.map(
      (p, m) =>
          [views.token(m), p, s.L > 1 ? R[m * T + j] : +(m === j),
           p * (s.L > 1 ? R[m * T + j] : +(m === j))]);
  const computed = terms.reduce((a, row) => a + row[3], 0);
  formula.show({
    title: t('f_rollout', { token: views.token(j) }),
    chapter: '10',
    value,
    computed,
    maths: 'R<sub>l</sub> = ½ (A<sub>l</sub> + 1) R<sub>l−1</sub>',
    filled: `R = Σ<sub>m</sub> ½ (A<sub>${s.L}</sub> + 1)<sub>m</sub> R<sub>${s.L - 1}</sub>[m] = ${
        num(computed)}`,
    heads: ['m', `½ (A + 1)`, `R<sub>${s.L - 1}</sub>`, t('product')],
    terms,
    note: t('rollout_note')
  });
};

formula.relevance = (j) => formula.show({
  title: t('f_relevance', { token: views.token(j), name: engine.class(views.lastClass()) }),
  chapter: '10',
  value: views.relevanceValues[j],
  computed: views.relevanceValues[j],
  maths: `R ← R + mean<sub>h</sub>(max(0, A<sub>h</sub> ∂l<sub>k</sub>/∂A<sub>h</sub>)) R`,
  filled: `R = ${num(views.relevanceValues[j])}`,
  note: t('relevance_note')
});

formula.occlusion = (n) => {
  const k = views.lastClass(), fall = views.occlusionValues[n], l = views.logits[k];
  formula.show({
    title: t('f_occlusion', { token: views.token(views.sizes.cls + n), name: engine.class(k) }),
    chapter: '10',
    value: fall,
    computed: l - (l - fall),
    maths: `l<sub>k</sub>(<i>${t('picture')}</i>) − l<sub>k</sub>(<i>${t('without_patch')}</i>)`,
    filled: `= ${say(l)} − ${say(l - fall)} = ${num(fall)}`,
    note: t('occlusion_note')
  });
};

formula.loss = (which) => {
  const n = train.numbers();
  formula.show(
      which === 'accuracy' ? {
        title: t('accuracy'),
        chapter: '08',
        value: n.val_accuracy,
        computed: n.val_accuracy,
        maths: `<i>${t('right_ones')}</i> / <i>${t('all')}</i>`,
        filled: `= ${Math.round(n.val_accuracy * train.lesson.judges)} / ${train.lesson.judges} = ${
            num(n.val_accuracy)}`
      } :
                             {
                               title: t('loss'),
                               chapter: '07',
                               value: n.val_loss,
                               computed: n.val_loss,
                               maths: `<i>${t('mean')}</i>(−ln p<sub>${t('true_class')}</sub>)`,
                               filled: `= ${num(n.val_loss)}`,
                               note: t('loss_note')
                             });
};
