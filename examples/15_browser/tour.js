// Eight steps, each with a question to think about before the answer is computed.
'use strict';

const tour = {
  step: -1,
  picked: null,
  before: null  // what was there before the tour
};
const SURE = 0.1;  // a block knows when its leader leads by so much

const strongest = (values) => values.indexOf(Math.max(...values));
const patchesOf = (values) => Array.from(values).slice(views.sizes.cls, views.sizes.cls + views.sizes.N);
const nameOf = (n) => views.token(views.sizes.cls + n);

// A step: the panel it is about, what it puts there, and its answer: which of the
// choices is right, and the values for the sentence that reveals it. All are read
// from the model that is looked at.
const STEPS = [
  {
    panel: 'patches',
    set: () => tour.put(7),
    choices: () => ['7', String(views.sizes.PH * views.sizes.PW), String(views.sizes.N)],
    answer: () => ({ right: 2, rows: views.sizes.rows, cols: views.sizes.cols, n: views.sizes.N })
  },
  {
    panel: 'tokens',
    set: () => tour.put(7),
    answer: () => {
      const before = engine.activation('tokens', 0, views.sizes.D).slice();
      tour.put(1);
      const after = engine.activation('tokens', 0, views.sizes.D);
      return { right: 1, difference: Math.max(...before.map((v, i) => Math.abs(v - after[i]))) };
    }
  },
  {
    panel: 'draw',
    set: () => tour.put(4, false),
    answer: () => {
      const best = engine.class(views.best), p = percent(views.probs[views.best]);
      pad.moved = [50, -50], pad.paint(), pad.give(), views.refresh();
      const now = engine.class(views.best);
      return { right: now === best ? 0 : 1, best, p, now, q: percent(views.probs[views.best]) };
    }
  },
  {
    panel: 'attention',
    set: () => tour.put(3),
    answer: () => {
      const row = views.maps[0].slice(0, views.sizes.T);
      return { right: 0, n: views.sizes.T, sum: row.reduce((a, b) => a + b, 0).toFixed(4) };
    }
  },
  {
    panel: 'attention',
    set: () => {
      tour.put(3);
      views.ask(views.sizes.cls + strongest(tour.ink()));
    },
    answer: () => {
      const s = views.sizes, i = views.focus, row = patchesOf(views.maps[0].slice(i * s.T, (i + 1) * s.T));
      row[i - s.cls] = 0;
      const j = s.cls + strongest(row);
      return {
        right: 1,
        a: views.token(i),
        b: views.token(j),
        p: percent(views.attentionAt(0, 0, i, j)),
        q: percent(views.attentionAt(0, 0, j, i))
      };
    }
  },
  {
    panel: 'attention',
    set: () => tour.put(8),
    answer: () => {
      const s = views.sizes, l = s.L - 1;
      const names = Array.from(
          { length: s.H }, (_, h) => nameOf(strongest(patchesOf(views.maps[l * s.H + h].slice(0, s.T)))));
      return { right: new Set(names).size > 1 ? 1 : 0, n: new Set(names).size, names: names.join(t('between')) };
    }
  },
  {
    panel: 'methods',
    set: () => tour.put(9),
    answer: () => {
      views.setWhy(-1);
      const values = views.occludeAll(views.best);
      const a = strongest(patchesOf(views.rolloutValues)), b = strongest(Array.from(values));
      const change = (v) => t(v < 0 ? 'rises_by' : 'falls_by', { v: say(Math.abs(v), 2) });
      return {
        right: a === b ? 0 : 1,
        a: nameOf(a),
        b: nameOf(b),
        name: engine.class(views.best),
        fall: change(values[a]),
        most: change(values[b])
      };
    }
  },
  {
    panel: 'lens',
    set: () => tour.put(7),
    choices: () => Array.from({ length: views.sizes.L }, (_, l) => t('block_n', { n: l + 1 })),
    answer: () => {
      const s = views.sizes, best = views.best;
      const rows = Array.from({ length: s.L }, (_, i) => Array.from(views.lensValues.slice(i * s.K, (i + 1) * s.K)));
      const knows = (row) => row.every((p, k) => k === best || row[best] - p >= SURE);
      let l = s.L - 1;
      while (l > 0 && knows(rows[l - 1])) l--;
      return {
        right: l,
        n: l + 1,
        name: engine.class(best),
        list: rows.map((row, i) => {
                    const leader = strongest(row);
                    return t(leader === best ? 'lens_leads' : 'lens_other', {
                      n: i + 1,
                      leader: engine.class(leader),
                      p: percent(row[leader]),
                      name: engine.class(best),
                      q: percent(row[best])
                    });
                  }).join(t('between'))
      };
    }
  },
];

// What every step begins with: a digit by the first hand, prepared or not, and the
// class token asked about the answer.
tour.put = (digit, prepared = true) => {
  tour.prepare(prepared);
  pad.number = 1, pad.take(digit);
  views.setDirection('from'), views.setWhy(-1);
  pad.paint(), pad.give(), views.refresh();
  views.ask(0);
};
tour.prepare = (on) => {
  by('prepared').checked = pad.prepared = on;
};

// The tour leaves no trace: the paper, the controls and the model come back.
tour.keep = () => {
  tour.before = {
    paper: { strokes: pad.strokes, example: pad.example, moved: pad.moved, number: pad.number },
    prepared: pad.prepared,
    focus: views.focus,
    why: views.why,
    direction: views.direction
  };
  if (views.sizes.N >= 16) return;
  if (train.watching)
    tour.before.parameters = engine.copy(engine.seen_parameters(), engine.config('parameters'));
  else tour.before.file = files.opened;
  files.use(engine.bytesOf(START_MODEL), 'start.safetensors');
};
tour.restore = () => {
  const old = tour.before;
  if (!old) return;
  tour.before = null;
  if (old.parameters && train.begun) {
    train.watch();
    train.put(old.parameters);
  } else if (old.file) files.use(old.file.bytes, old.file.name);
  Object.assign(pad, old.paper), tour.prepare(old.prepared);
  views.setDirection(old.direction), views.setWhy(old.why);
  pad.paint(), pad.give(), views.refresh();
  views.ask(Math.min(old.focus, views.sizes.T - 1));
};

tour.ink = () => {  // how much ink each patch has
  const s = views.sizes;
  return Array.from({ length: s.N }, (_, n) => {
    let sum = 0;
    for (let k = 0; k < s.PH * s.PW; k++)
      sum +=
          views
              .pixels[(Math.floor(n / s.cols) * s.PH + Math.floor(k / s.PW)) * s.width + n % s.cols * s.PW + k % s.PW];
    return sum;
  });
};

tour.text = () => {
  const i = tour.step, step = STEPS[i];
  by('tour-place').textContent = t('tour_place', { n: i + 1, all: STEPS.length });
  by('tour-title').textContent = t(`tour_${i + 1}_title`);
  by('tour-text').textContent = t(`tour_${i + 1}_text`);
  by('tour-ask').textContent = t(`tour_${i + 1}_ask`);
  const choices = step.choices ? step.choices() : t(`tour_${i + 1}_choices`).split('|');
  by('tour-choices').replaceChildren(...choices.map((text, c) => {
    const b = el('button', {}, text);
    b.onclick = () => tour.reveal(c);
    return b;
  }));
  by('tour-reveal').textContent = '';
  by('tour-back').disabled = i === 0;
  by('tour-next').textContent = t(i === STEPS.length - 1 ? 'tour_finish' : 'next');
};

tour.go = (i) => {
  if (i >= STEPS.length) return tour.end(t('tour_over'));
  tour.step = i, tour.picked = null;
  formula.close();
  if (!tour.before) tour.keep();
  by('tour').hidden = false;
  for (const lit of document.querySelectorAll('section.lit')) lit.classList.remove('lit');
  const panel = by(STEPS[i].panel);
  panel.classList.add('lit');
  panel.before(by('tour'));  // the question stands above what it is about
  STEPS[i].set();
  tour.text();
  by('tour').scrollIntoView({ block: 'start' });
  by('tour-title').focus({ preventScroll: true });
};

tour.reveal = (choice) => {
  if (tour.picked !== null) return;
  tour.picked = choice;
  const answer = STEPS[tour.step].answer();
  [...by('tour-choices').children].forEach((b, c) => {
    b.disabled = c !== choice && c !== answer.right;
    b.classList.toggle('picked', c === choice), b.classList.toggle('right', c === answer.right);
  });
  const text = t(`tour_${tour.step + 1}_reveal`, answer);
  by('tour-reveal').textContent = t(choice === answer.right ? 'you_are_right' : 'not_so') + t('gap') +
      text[0].toUpperCase() + text.slice(1);
  tour.answer = answer;
};

tour.end = (text) => {
  tour.step = -1;
  tour.restore();
  by('tour').hidden = true;
  for (const lit of document.querySelectorAll('section.lit')) lit.classList.remove('lit');
  if (text) by('train').scrollIntoView(), live.say(text), train.showState(text);
};

tour.start = () => {
  by('tour-start').onclick = () => tour.go(0);
  by('tour-back').onclick = () => tour.go(tour.step - 1);
  by('tour-next').onclick = () => tour.go(tour.step + 1);
  by('tour-end').onclick = () => tour.end();
};
