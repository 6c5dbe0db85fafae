// Training in the page: a lesson from the controls, steps in slices of time, the
// curves, and a memory of earlier parameters to go back to.
'use strict';

const train = {
  lesson: null,
  running: false,
  begun: false,
  past: [],
  at: 0,
  every: 1,
  losses: [],
  judged: [],
  before: null,  // the curves of the run before
  watching: false,
  smooth: 0
};

const MODELS = [ // the controls' ranges and the rest of the recipe
  { heads: [1, 3, 9], rate: 0.005, images: 3000, judges: 500, epochs: 40, batch: 32, accumulate: 1 },
  { heads: [2, 4, 8], rate: 0.003, images: 3000, judges: 500, epochs: 30, batch: 8, accumulate: 4 }]; // smaller slices
const MISTAKES = ['none', 'scale', 'gelu', 'norm', 'keys', 'overwrite'];

// In the order of glue.c's struct, and of its numbers.
const LESSON = [
  'small', 'rate', 'depth', 'heads', 'positions', 'softmax', 'mistake', 'images', 'judges', 'epochs', 'batch',
  'accumulate'
];
const NUMBERS =
    ['done', 'epoch', 'batch', 'loss', 'step', 'rate', 'epochs', 'train_loss', 'val_loss', 'val_accuracy'];

const task = () => new Promise((done) => setTimeout(done, 0));

train.numbers = () => {
  const values = engine.doubles(engine.train_numbers(), NUMBERS.length);
  return Object.fromEntries(NUMBERS.map((name, i) => [name, values[i]]));
};

train.fromControls = () => {
  const kind = +by('kind').value, model = MODELS[kind];
  return {
    small: kind,
    rate: 10 ** by('rate').value,
    depth: +by('depth').value,
    heads: model.heads[by('head-count').value],
    positions: +by('positions').checked,
    softmax: +by('softmax').checked,
    mistake: +by('mistake').value,
    images: model.images,
    judges: model.judges,
    epochs: model.epochs,
    batch: model.batch,
    accumulate: model.accumulate
  };
};
train.showControls = () => {
  const l = train.fromControls();
  by('rate-is').textContent = l.rate.toPrecision(2), by('depth-is').textContent = l.depth,
  by('heads-is').textContent = l.heads;
};

train.send = (lesson) => {
  engine.doubles(engine.scratch, LESSON.length).set(LESSON.map((name) => lesson[name]));
  engine.try('train_begin', engine.scratch);
};

// Forget the pupil; the next step begins a new one with what the controls say. Who
// looked at the old one sees the new one, untrained; its curves stay as pale lines.
train.reset = () => {
  train.stop();
  train.lesson = null;
  engine.train_end();
  if (train.losses.length > 1) train.before = { losses: train.losses, judged: train.judged, steps: train.steps };
  Object.assign(train, { begun: false, past: [], at: 0, every: 1, losses: [], judged: [], smooth: 0 });
  train.failed = null;
  train.showControls();
  try {
    if (train.watching) {
      train.send(train.fromControls());
      train.watch();
      views.refresh();
    }
  } catch (e) { train.failed = e.message; }
  train.showState(train.failed || train.readyText());
  train.showCurves();
};

train.readyText = () =>
    (train.watching ? t('begun_anew') : t('ready_to_train')) + (train.before ? t('gap') + t('cleared') : '');

train.begin = async (turn) => {
  const lesson = train.lesson = train.fromControls();
  train.send(lesson);
  const all = lesson.images + lesson.judges;
  for (let left = all; left > 0;) {
    engine.timed(() => {
      const end = performance.now() + 16;
      while (left > 0 && performance.now() < end) left = engine.train_draw(2);
    });
    if (left < 0) throw new Error(engine.error());
    train.showState(t('drawing', { n: all - left, all }));
    await task();
    if (turn !== train.turn) {  // somebody stopped it, opened a model, or began anew
      if (train.lesson === lesson) train.showState(train.readyText());
      return false;
    }
  }
  engine.timed(() => engine.try('train_ready'));
  train.begun = true;
  train.steps = Math.ceil(lesson.images / lesson.batch / lesson.accumulate);
  train.watch();
  train.remember();
  return true;
};

// The views look at the pupil from now on.
train.watch = () => {
  engine.try('train_watch');
  train.watching = true;
  views.build();
  files.showModel();
};
train.put = (parameters) => {
  engine.floats(engine.seen_parameters(), engine.train_count()).set(parameters);
  views.refresh();
};

// Keep the parameters of this moment; when there are too many, every other one goes.
train.remember = () => {
  const n = train.numbers();
  train.past.push(
      { step: n.step, numbers: n, parameters: engine.copy(engine.train_parameters(), engine.train_count()) });
  if (train.past.length > 120) train.past = train.past.filter((_, i) => i % 2 === 0), train.every *= 2;
  train.at = train.past.length - 1;
};

train.one = () => {
  const before = train.numbers();
  engine.try('train_step');
  const n = train.numbers();
  if (n.batch !== before.batch) train.smooth = train.smooth ? 0.9 * train.smooth + 0.1 * n.loss : n.loss;
  if (n.step > before.step) {
    train.losses.push(train.smooth);
    if (n.step % train.every === 0) train.remember();
  }
  if (n.epochs > before.epochs)
    train.judged.push({ step: n.step, loss: n.val_loss, accuracy: n.val_accuracy });
  return n;
};

train.run = async (only) => {
  const turn = train.turn = (train.turn || 0) + 1;
  train.running = !only;
  by('go').textContent = t(only ? 'go' : 'pause');
  try {
    if (!train.begun && !(await train.begin(turn))) return;
    if (turn !== train.turn) return;
    if (!train.watching) train.watch();
    let n, shown = 0, start = performance.now(), images = 0;
    do {
      const slowly = only || by('slowly').checked;
      engine.timed(() => {
        const end = performance.now() + 16;
        const { step } = train.numbers();
        do {
          n = train.one();
          images += train.lesson.batch;
        } while (!n.done && (slowly ? n.step === step : performance.now() < end));
      });
      if (slowly || n.done || performance.now() - shown > 250) {
        await task();
        if (turn !== train.turn) break;  // another model is looked at, perhaps
        train.speed = images / ((performance.now() - start) / 1000);
        train.show(n);
        shown = performance.now();
      }
      await (by('slowly').checked ? new Promise((done) => setTimeout(done, 150)) : task());
    } while (train.running && !n.done && turn === train.turn);
    if (n.done && turn === train.turn) train.showState(t('lesson_done'), true);
  } catch (e) {
    train.showState(e.message);
    train.failed = e.message;
  }
  if (turn === train.turn) train.stop();
};
// The pupil as it is now.
train.show = (n) => {
  engine.timed(() => {
    train.at = train.past.length - 1;
    if (n.step !== train.past[train.at].step) train.remember();
    train.put(train.past[train.at].parameters);
  });
  train.showProgress(n);
  train.showRunning(n);
  train.showCurves();
};
train.pause = () => {
  train.stop();
  if (train.begun && train.watching) train.show(train.numbers());
};
train.stop = () => {
  train.running = false, train.turn = (train.turn || 0) + 1;
  by('running').hidden = true, by('go').textContent = t('go');
};

train.showState = (text, keep) => {
  if (keep) by('progress').append(t('gap') + text);
  else by('progress').replaceChildren(text);
};
train.showProgress = (n) => {
  const number = (text, which) => {
    const b = el('button', { className: 'number', style: 'width:auto' }, text);
    b.onclick = () => formula.loss(which);
    return b;
  };
  const judged = n.epochs > 0;
  by('progress')
      .replaceChildren(
          t('progress', {
            epoch: n.epoch + (n.done ? 0 : 1),
            epochs: train.lesson.epochs,
            step: n.step,
            loss: say(train.smooth)
          }),
          t('gap'),
          ...(judged ?
                  [
                    t('on_others') + ' ', number(say(n.val_loss), 'loss'), t('comma'), t('accuracy') + ' ',
                    number(percent(n.val_accuracy), 'accuracy'), t('stop')
                  ] :
                  []),
          t('speed',
            { n: Math.round(train.speed || 0), ms: Math.round(Math.max(...engine.spans.slice(-500))) }));
};

// Away from the controls, a small box says that it goes on, and stops it.
train.showRunning = (n) => {
  const { top, bottom } = by('train').getBoundingClientRect();
  by('running').hidden = !train.running || (bottom > 0 && top < innerHeight);
  by('running-is').textContent =
      t('running', { epoch: n.epoch + 1 }) + (n.epochs ? `, ${percent(n.val_accuracy)}` : '');
};

// Since which epoch the loss on unseen digits rises while that in training falls; 0: it does not.
train.byHeart = () => {
  const last = train.judged.at(-1);
  if (!last) return 0;
  const least = train.judged.reduce((a, b) => (b.loss < a.loss ? b : a));
  const falls = train.losses[last.step - 1] < train.losses[least.step - 1];
  return falls && last.loss > 1.05 * least.loss ? train.judged.indexOf(least) + 1 : 0;
};

// Two figures: the loss, with the loss on digits it has not seen, and the accuracy.
train.showCurves = () => {
  const old = train.before || { losses: [], judged: [] }, perEpoch = train.steps || old.steps || 1;
  const steps = Math.max(train.losses.length, old.losses.length, perEpoch * 2),
        most = Math.max(2.5, ...train.losses.slice(0, 5));
  const at = train.past[train.at], here = at ? at.step : 0, W = 330, H = 150, left = 40, low = H - 24;
  const x = (step) => left + step / steps * (W - left - 8);
  const figure = (title, top, label, lines, dots, oldLines, oldDots) => {
    const y = (v) => low - Math.min(1, v / top) * (low - 10);
    const path = (points) =>
        points.map(([a, b], i) => `${i ? 'L' : 'M'}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join('');
    const ticks = [0, 0.5, 1]
                      .map(
                          (p) => `<line x1="${left}" x2="${W - 8}" y1="${y(p * top)}" y2="${
                              y(p * top)}" stroke="var(--line)"/>
      <text x="${left - 5}" y="${y(p * top) + 4}" text-anchor="end">${label(p * top)}</text>`)
                      .join('');
    const epochs = Math.floor(steps / perEpoch), each = Math.max(1, Math.ceil(epochs / 6));
    const across =
        Array.from({ length: Math.floor(epochs / each) + 1 }, (_, i) => i * each)
            .map(
                (e) => `<text x="${x(e * perEpoch)}" y="${H - 8}" text-anchor="middle">${e}</text>`)
            .join('');
    return `<figure><figcaption>${title}</figcaption><svg viewBox="0 0 ${W} ${H}" width="${
        W}" style="max-width:100%" role="img" aria-label="${title}">
      ${ticks}${across}
      <g class="before"><path d="${path(oldLines)}" fill="none" stroke="var(--plus)" stroke-width="1.6"/>
      <path d="${path(oldDots)}" fill="none" stroke="var(--minus)" stroke-width="1.8" stroke-dasharray="5 3"/></g>
      <path d="${path(lines)}" fill="none" stroke="var(--plus)" stroke-width="1.6"/>
      <path d="${path(dots)}" fill="none" stroke="var(--minus)" stroke-width="1.8" stroke-dasharray="5 3"/>
      ${dots.map(([a, b]) => `<circle cx="${x(a)}" cy="${y(b)}" r="2.6" fill="var(--minus)"/>`).join('')}
      ${
        at ? `<line x1="${x(here)}" x2="${x(here)}" y1="8" y2="${
                 low}" stroke="var(--mark)" stroke-width="2" stroke-dasharray="2 3"/>` :
             ''}
      </svg></figure>`;
  };
  const thinned = (losses) =>
      losses.map((v, i) => [i + 1, v]).filter((_, i) => i % (Math.ceil(losses.length / 300) || 1) === 0);
  const points = (judged, name) => judged.map((j) => [j.step, j[name]]);
  by('curves').innerHTML = figure(
                               t('curve_loss'), most, (v) => v.toFixed(1),
                               thinned(train.losses), points(train.judged, 'loss'), thinned(old.losses),
                               points(old.judged, 'loss')) +
      figure(t('curve_accuracy'), 1, (v) => Math.round(100 * v) + ' %', [],
             points(train.judged, 'accuracy'), [], points(old.judged, 'accuracy'));
  by('pale').textContent = train.before ? t('pale') : '';
  const since = train.byHeart();
  by('by-heart').textContent = since ? t('by_heart', { epoch: since }) : '';
  const scrub = by('scrub');
  scrub.disabled = train.past.length < 2, scrub.max = Math.max(0, train.past.length - 1),
  scrub.value = train.at;
  by('scrub-is').textContent =
      at ? t('at_step', { step: at.step, epoch: (at.step / (train.steps || 1)).toFixed(1) }) : '';
};

train.scrub = (i) => {
  train.stop();
  if (!train.past[i]) return;
  if (!train.watching) train.watch();
  train.at = i;
  train.put(train.past[i].parameters);
  train.showCurves();
};

train.labels = () => {
  const mistake = by('mistake'), chosen = mistake.value || 0;
  mistake.replaceChildren(...MISTAKES.map((m, i) => el('option', { value: i }, t('mistake_' + m))));
  mistake.value = chosen;
  if (!train.begun) train.showState(train.readyText());
  by('go').textContent = t(train.running ? 'pause' : 'go');
  train.showControls();
  train.showCurves();
};

train.start = () => {
  by('go').onclick = () =>
      (train.running ? train.pause() : train.run(false));
  by('running-pause').onclick = train.pause;
  by('step').onclick = () => {
    if (!train.running) train.run(true);
  };
  by('reset').onclick = train.reset;
  by('kind').onchange = () => {
    by('rate').value = Math.log10(MODELS[by('kind').value].rate).toFixed(1);
    train.reset();
  };
  for (const id of ['rate', 'depth', 'head-count'])
    by(id).oninput = train.showControls, by(id).onchange = train.reset;
  for (const id of ['positions', 'softmax', 'mistake']) by(id).onchange = train.reset;
  by('scrub').oninput = (e) => train.scrub(+e.target.value);
};
