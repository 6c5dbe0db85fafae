// A table of numbers as a picture: squares with a shade, a cursor that follows
// the mouse, the finger or the arrow keys, and a click that asks for the formula.
'use strict';

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// "0.123", "12.3 %": a number for people.
const say = (x, digits = 3) => !Number.isFinite(x)        ? String(x) :
    Math.abs(x) >= 1e4 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(1) :
                                                            x.toFixed(digits);
const percent = (p) => (100 * p).toFixed(1) + '\u202f%';  // a thin space that does not break

const live = {
  text: ''
};
live.say = (text) => {
  document.getElementById('say').textContent = live.text = text;
};

class Grid {
  // options: rows, cols, cell (pixels), name(): what it is, tip(r, c): a cell in words,
  // point(r, c): the cursor is there, leave(): it is gone, click(r, c), text(r, c): written
  // into the cell, lines: draw a line every so many cells, picture: 28 x 28 bytes drawn over
  constructor(host, options) {
    Object.assign(
        this, { text: null, lines: 0, signed: false, largest: 0, cursor: null, mark: null }, options);
    this.canvas = document.createElement('canvas');
    this.canvas.className = 'grid';
    this.values = null;
    host.replaceChildren(this.canvas);
    const alive = this.click || this.point;
    if (alive) {
      this.canvas.tabIndex = 0;
      this.canvas.setAttribute('role', 'application');
      this.canvas.addEventListener('pointermove', (e) => this.move(...this.at(e), false));
      this.canvas.addEventListener('pointerdown', (e) => this.move(...this.at(e), false));
      this.canvas.addEventListener('pointerleave', () => this.out());
      this.canvas.addEventListener('focus', () => {  // coming by Tab changes nothing
        if (!this.cursor) this.move(...(this.mark ? this.mark.slice(0, 2) : [0, 0]), true, true);
      });
      this.canvas.addEventListener('blur', () => this.out());
      this.canvas.addEventListener('click', (e) => this.click && this.click(...this.at(e)));
      this.canvas.addEventListener('keydown', (e) => this.key(e));
    } else this.canvas.setAttribute('role', 'img');
  }

  at(e) {
    const box = this.canvas.getBoundingClientRect();
    const clamp = (v, n) => Math.max(0, Math.min(n - 1, Math.floor(v)));
    return [
      clamp((e.clientY - box.top) / box.height * this.rows, this.rows),
      clamp((e.clientX - box.left) / box.width * this.cols, this.cols)
    ];
  }

  key(e) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
    let [r, c] = this.cursor || [0, 0];
    if (step) {
      r = Math.max(0, Math.min(this.rows - 1, r + step[0]));
      c = Math.max(0, Math.min(this.cols - 1, c + step[1]));
      this.move(r, c, true);
    } else if (e.key === 'Home' || e.key === 'End') this.move(r, e.key === 'Home' ? 0 : this.cols - 1, true);
    else if ((e.key === 'Enter' || e.key === ' ') && this.click) this.click(r, c);
    else return;
    e.preventDefault();
  }

  move(r, c, aloud, still) {
    if (this.cursor && this.cursor[0] === r && this.cursor[1] === c) return;
    this.cursor = [r, c];
    if (this.tip) {
      const text = this.tip(r, c);
      this.canvas.title = text;
      if (aloud) live.say(text);
    }
    if (this.point && !still) this.point(r, c);
    this.draw();
  }
  out() {
    this.cursor = null;
    if (this.leave) this.leave();
    this.draw();
  }

  // values [rows * cols]; `signed`: colours from the largest |value| down to its negative.
  show(values, largest) {
    this.values = values;
    this.largest = largest || 0;
    this.canvas.setAttribute('aria-label', this.name ? this.name() : '');
    this.draw();
  }

  draw() {
    const { rows, cols, cell, canvas } = this, scale = Math.min(2, Math.ceil(devicePixelRatio || 1));
    if (canvas.width !== cols * cell * scale || canvas.height !== rows * cell * scale) {
      canvas.width = cols * cell * scale, canvas.height = rows * cell * scale;
      canvas.style.width = cols * cell + 'px';
    }
    if (!this.values) return;
    const g = canvas.getContext('2d'), paint = Grid.colours();
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, cols * cell, rows * cell);
    let most = this.largest;
    if (!most)
      for (const v of this.values)
        if (Number.isFinite(v)) most = Math.max(most, Math.abs(v));
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < cols; c++) {
        const v = this.values[r * cols + c], x = c * cell, y = r * cell;
        const part = most > 0 ? Math.min(1, Math.abs(v) / most) : 0;
        if (!Number.isFinite(v)) {
          g.fillStyle = paint.none;
          g.fillRect(x, y, cell, cell);
          continue;
        }
        g.fillStyle = this.grey ? paint.grey(part) : v < 0 ? paint.minus(part) : paint.plus(part);
        g.fillRect(x, y, cell, cell);
        if (v < 0 && part > 0.12 && cell >= 4) {  // a stroke says "negative" without colour
          g.strokeStyle = paint.stroke, g.lineWidth = 1;
          g.beginPath(), g.moveTo(x, y + cell), g.lineTo(x + cell, y), g.stroke();
        }
        if (this.text) {
          g.fillStyle = part > 0.55 ? paint.onStrong : paint.ink;
          g.font = `${Math.min(13, Math.max(10, cell * 0.42))}px system-ui, sans-serif`;
          g.textAlign = 'center', g.textBaseline = 'middle';
          g.fillText(this.text(r, c), x + cell / 2, y + cell / 2);
        }
      }
    if (this.over) this.overlay(g, paint);
    if (this.lines) this.rule(g, paint);
    for (const [place, colour, dash] of [[this.mark, paint.mark, []], [this.cursor, paint.cursor, []]]) {
      if (!place) continue;
      const [r, c, h = 1, w = 1] = place;
      g.setLineDash(dash), g.strokeStyle = colour, g.lineWidth = cell < 8 ? 1 : 2;
      const inset = cell < 8 ? -0.5 : 1;  // around a small square, inside a large one
      g.strokeRect(c * cell + inset, r * cell + inset, w * cell - 2 * inset, h * cell - 2 * inset);
    }
  }

  // The digit, faintly, over a map of its patches.
  overlay(g, paint) {
    const { height, width, pixels } = this.over(), w = this.cols * this.cell / width,
                                  h = this.rows * this.cell / height;
    g.fillStyle = paint.digit;
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const v = pixels[y * width + x];
        if (v < 60) continue;
        g.globalAlpha = 0.35 * v / 255;
        g.fillRect(x * w, y * h, w, h);
      }
    g.globalAlpha = 1;
  }

  rule(g, paint) {
    const { rows, cols, cell } = this, [down, across] = this.lines;
    g.strokeStyle = paint.rule, g.lineWidth = 1, g.setLineDash([]);
    g.beginPath();
    for (let r = down; r < rows; r += down) g.moveTo(0, r * cell), g.lineTo(cols * cell, r * cell);
    for (let c = across; c < cols; c += across) g.moveTo(c * cell, 0), g.lineTo(c * cell, rows * cell);
    g.stroke();
  }
}

// Shades from the page's background to the two strong colours of Okabe and Ito.
Grid.colours = () => {
  if (Grid.cache && Grid.cache.theme === document.documentElement.dataset.theme) return Grid.cache;
  const rgb = (name) => css(name).match(/\w\w/g).map((h) => parseInt(h, 16));
  const ground = rgb('--cell'), plus = rgb('--plus'), minus = rgb('--minus');
  const mix = (to) => (p) => `rgb(${ground.map((a, i) => Math.round(a + (to[i] - a) * p))})`;
  return Grid.cache = {
    theme: document.documentElement.dataset.theme,
    plus: mix(plus),
    minus: mix(minus),
    grey: (p) => `rgb(${[0, 0, 0].map(() => Math.round(255 * p))})`,
    none: css('--line'),
    stroke: css('--ground'),
    ink: css('--ink'),
    digit: css('--digit'),
    onStrong: css('--on-strong'),
    rule: css('--rule'),
    cursor: css('--cursor'),
    mark: css('--mark')
  };
};
