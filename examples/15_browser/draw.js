// The paper: a pen for mouse, finger and stylus; ten digits and arrow keys for the keyboard.
'use strict';

const pad = {
  strokes: [],
  example: null,
  moved: [0, 0],
  number: 1,
  prepared: true,
  empty: true
};
const PAPER = 280, SIDE = 28;

pad.start = () => {
  pad.canvas = document.getElementById('pad');
  pad.g = pad.canvas.getContext('2d', { willReadFrequently: true });
  let down = false;
  const place = (e) => {
    const box = pad.canvas.getBoundingClientRect();
    return [(e.clientX - box.left) / box.width * PAPER, (e.clientY - box.top) / box.height * PAPER];
  };
  pad.canvas.addEventListener('pointerdown', (e) => {
    down = true;
    pad.canvas.setPointerCapture(e.pointerId);
    if (pad.example) pad.wipe();  // a pen starts a digit of one's own
    pad.strokes.push([place(e)]);
    pad.changed();
  });
  pad.canvas.addEventListener('pointermove', (e) => {
    if (!down) return;
    for (const each of e.getCoalescedEvents ? e.getCoalescedEvents() : [e])
      pad.strokes.at(-1).push(place(each));
    pad.changed();
  });
  for (const end of ['pointerup', 'pointercancel'])
    pad.canvas.addEventListener(end, () => {
      down = false;
    });
  pad.canvas.addEventListener('keydown', (e) => {
    const step = { ArrowUp: [0, -10], ArrowDown: [0, 10], ArrowLeft: [-10, 0], ArrowRight: [10, 0] }[e.key];
    if (step) pad.moved = pad.moved.map((v, i) => Math.max(-90, Math.min(90, v + step[i]))), pad.changed();
    else if (/^[0-9]$/.test(e.key)) pad.take(+e.key);
    else if (e.key === 'Delete' || e.key === 'Backspace') pad.wipe(), pad.changed();
    else return;
    e.preventDefault();
  });
  document.getElementById('clear').onclick = () => {
    pad.wipe();
    pad.changed();
  };
  document.getElementById('another').onclick = () => {
    pad.number++;
    pad.take(pad.example ? pad.example.digit : 7);
  };
  document.getElementById('prepared').onchange = (e) => {
    pad.prepared = e.target.checked;
    pad.changed();
  };
  const row = document.getElementById('examples');
  for (let d = 0; d < 10; d++) {
    const b = document.createElement('button');
    b.textContent = d;
    b.onclick = () => pad.take(d);
    row.append(b);
  }
};

pad.wipe = () => {
  pad.strokes = [], pad.example = null, pad.moved = [0, 0];
};

// One of the generator's digits, from number `pad.number` of its hands.
pad.take = (digit) => {
  pad.wipe();
  engine.draw_digit(engine.scratch, digit, pad.number * 10 + digit);
  pad.example = { digit, pixels: engine.bytes(engine.scratch, SIDE * SIDE).slice() };
  pad.changed();
};

pad.paint = () => {
  const { g } = pad;
  g.setTransform(1, 0, 0, 1, 0, 0);
  g.fillStyle = '#fff', g.fillRect(0, 0, PAPER, PAPER);
  g.setTransform(1, 0, 0, 1, ...pad.moved);
  if (pad.example) {
    const small = document.createElement('canvas'), image = new ImageData(SIDE, SIDE);
    small.width = small.height = SIDE;
    pad.example.pixels.forEach((v, i) => image.data.set([255 - v, 255 - v, 255 - v, 255], 4 * i));
    small.getContext('2d').putImageData(image, 0, 0);
    g.drawImage(small, 0, 0, PAPER, PAPER);
  }
  g.strokeStyle = g.fillStyle = '#111', g.lineWidth = 22, g.lineCap = g.lineJoin = 'round';
  for (const stroke of pad.strokes) {
    g.beginPath();
    stroke.forEach(([x, y], i) => (i ? g.lineTo(x, y) : g.moveTo(x, y)));
    if (stroke.length === 1) g.lineTo(stroke[0][0] + 0.1, stroke[0][1]);
    g.stroke();
  }
};

// What lies on the paper becomes the picture that the model gets.
pad.give = () => {
  const picture = engine.bytes(engine.picture(), SIDE * SIDE);
  pad.empty = !pad.example && !pad.strokes.length;
  if (pad.empty) return picture.fill(0);
  if (pad.example && pad.prepared) return picture.set(pad.example.pixels);  // is as MNIST's already
  const data = pad.g.getImageData(0, 0, PAPER, PAPER).data;
  if (pad.prepared) {
    const grey = engine.bytes(engine.scratch, PAPER * PAPER);
    for (let i = 0; i < grey.length; i++) grey[i] = data[4 * i];
    if (engine.prepare(engine.scratch, PAPER, PAPER)) {
      pad.empty = true;
      picture.fill(0);
    }
    return null;
  }
  const step = PAPER / SIDE;  // not prepared: each pixel is the mean of ten by ten
  for (let y = 0; y < SIDE; y++)
    for (let x = 0; x < SIDE; x++) {
      let sum = 0;
      for (let i = 0; i < step * step; i++)
        sum += 255 - data[4 * ((y * step + Math.floor(i / step)) * PAPER + x * step + i % step)];
      picture[y * SIDE + x] = sum / (step * step);
    }
  return null;
};

pad.changed = () => {
  if (pad.waiting) return;
  pad.waiting = true;
  requestAnimationFrame(() => {
    pad.waiting = false;
    engine.timed(() => {
      pad.paint(), pad.give(), views.refresh();
    });
  });
};
