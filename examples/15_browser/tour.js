// Eight steps, each with a question to think about before the answer is computed.
'use strict';

const tour = {
  step: -1,
  picked: null
};

const strongest = (values) => values.indexOf(Math.max(...values));
const patchesOf = (values) => Array.from(values).slice(views.sizes.cls, views.sizes.cls + views.sizes.N);
const nameOf = (n) => views.token(views.sizes.cls + n);

// A step: the panel it is about, what it puts there, and its answer: which of the
// choices is right, and the values for the sentence that reveals it. All are read
// from the model that is looked at.
const STEPS = [
  {
    panel: 'patches',
    set: () => pad.take(7),
    choices: () => ['7', String(views.sizes.PH * views.sizes.PW), String(views.sizes.N)],
    answer: () => ({ right: 2, rows: views.sizes.rows, cols: views.sizes.cols, n: views.sizes.N })
  },
  {
    panel: 'tokens',
    set: () => views.ask(0),
    answer: () => {
      const before = engine.activation('tokens', 0, views.sizes.D);
      pad.take(1), pad.paint(), pad.give(), views.refresh();
      const after = engine.activation('tokens', 0, views.sizes.D);
      return { right: 1, difference: Math.max(...before.map((v, i) => Math.abs(v - after[i]))) };
    }
  },
  {
    panel: 'draw',
    set: () => {
      by('prepared').checked = pad.prepared = false;
      pad.take(4);
    },
    answer: () => {
      const best = engine.class(views.best), p = percent(views.probs[views.best]);
      pad.moved = [50, -50], pad.paint(), pad.give(), views.refresh();
      const now = engine.class(views.best);
      return { right: now === best ? 0 : 1, best, p, now, q: percent(views.probs[views.best]) };
    },
    leave: () => {
      by('prepared').checked = pad.prepared = true;
      pad.take(4);
    }
  },
  {
    panel: 'attention',
    set: () => {
      pad.take(3);
      views.ask(0);
    },
    answer: () => {
      const row = views.maps[0].slice(0, views.sizes.T);
      return { right: 0, n: views.sizes.T, sum: row.reduce((a, b) => a + b, 0).toFixed(4) };
    }
  },
  {
    panel: 'attention',
    set: () => views.ask(views.sizes.cls + strongest(Array.from(views.pixels.length ? tour.ink() : [0]))),
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
    set: () => {
      pad.take(8);
      views.ask(0);
    },
    answer: () => {
      const s = views.sizes, l = s.L - 1;
      const names = Array.from(
          { length: s.H }, (_, h) => nameOf(strongest(patchesOf(views.maps[l * s.H + h].slice(0, s.T)))));
      return { right: new Set(names).size > 1 ? 1 : 0, n: new Set(names).size, names: names.join('; ') };
    }
  },
  {
    panel: 'methods',
    set: () => pad.take(9),
    answer: () => {
      const a = strongest(patchesOf(views.rolloutValues)), b = strongest(Array.from(views.occlusionValues));
      return {
        right: a === b ? 0 : 1,
        a: nameOf(a),
        b: nameOf(b),
        fall: say(views.occlusionValues[a], 2),
        most: say(views.occlusionValues[b], 2)
      };
    }
  },
  {
    panel: 'lens',
    set: () => pad.take(5),
    choices: () => Array.from({ length: views.sizes.L }, (_, l) => t('block_n', { n: l + 1 })),
    answer: () => {
      const s = views.sizes, best = views.best;
      let l = s.L - 1;
      while (l > 0 && strongest(Array.from(views.lensValues.slice((l - 1) * s.K, l * s.K))) === best) l--;
      return {
        right: l,
        n: l + 1,
        name: engine.class(best),
        list: Array.from({ length: s.L }, (_, i) => percent(views.lensValues[i * s.K + best])).join(', ')
      };
    }
  },
];

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
  if (tour.step >= 0 && STEPS[tour.step].leave && tour.picked !== null) STEPS[tour.step].leave();
  if (i >= STEPS.length) return tour.end(t('tour_over'));
  tour.step = i, tour.picked = null;
  formula.close();
  if (i === 0 && views.sizes.N < 16) files.use(engine.bytesOf(START_MODEL), 'start.safetensors');
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
  by('tour-reveal').textContent = t(choice === answer.right ? 'you_are_right' : 'not_so') + ' ' +
      t(`tour_${tour.step + 1}_reveal`, answer);
  tour.answer = answer;
};

tour.end = (text) => {
  tour.step = -1;
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
