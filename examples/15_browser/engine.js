// vit.h inside the page: its functions by name, its arrays as Float32Array.
'use strict';

const engine = {};

// One byte that only WebAssembly with SIMD128 can read: (v128.const ...).
engine.hasSimd = () => WebAssembly.validate(new Uint8Array([
  0, 97, 115, 109, 1,  0, 0, 0, 1,  5, 1,   96, 0,   1,  123, 3,
  2, 1,  0,   10,  10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11
]));

engine.bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

// The functions of glue.c: name, type of the result, types of the arguments.
const FUNCTIONS = [
  ['error', 'string'],
  ['simd', 'string'],
  ['picture', 'number'],
  ['draw_digit', null, 'number', 'number', 'number'],
  ['prepare', 'number', 'number', 'number', 'number'],
  ['open', 'number', 'string'],
  ['save', 'number', 'string'],
  ['look', 'number'],
  ['pixels', 'number'],
  ['at_once', 'number'],
  ['image', 'number'],
  ['mean', 'number'],
  ['std', 'number'],
  ['class', 'string', 'number'],
  ['source', 'string'],
  ['config', 'number', 'string'],
  ['attention', 'number', 'number', 'number'],
  ['map', 'number'],
  ['logits', 'number'],
  ['rollout', 'number'],
  ['relevance', 'number', 'number'],
  ['lens', 'number', 'number'],
  ['occlusion', 'number', 'number', 'number'],
  ['train_begin', 'number', 'number'],
  ['train_draw', 'number', 'number'],
  ['train_step', 'number'],
  ['train_ready', 'number'],
  ['train_numbers', 'number'],
  ['train_parameters', 'number'],
  ['train_count', 'number'],
  ['train_watch', 'number'],
  ['train_end', null],
  ['seen_parameters', 'number'],
  ['forwards', 'number', 'number', 'number'],
];

engine.start = async () => {
  const simd = engine.hasSimd() && !location.hash.includes('plain');
  const wasmBinary = engine.bytesOf(simd ? WASM_SIMD : WASM_PLAIN);
  const vit = engine.vit = await createVit({ wasmBinary });
  for (const [name, result, ...types] of FUNCTIONS) engine[name] = vit.cwrap('page_' + name, result, types);
  engine.scratch = vit._malloc(1 << 20);  // for pictures and settings on their way in
};

// What returns 0 when all is well, else an Error with vit.h's sentence.
engine.try = (name, ...args) => {
  if (engine[name](...args)) throw new Error(engine.error());
};

// `count` numbers at an address. A view is good until memory grows: use it, do not keep it.
engine.floats = (at, count) => new Float32Array(engine.vit.HEAPU8.buffer, at, count);
engine.bytes = (at, count) => new Uint8Array(engine.vit.HEAPU8.buffer, at, count);
engine.doubles = (at, count) => new Float64Array(engine.vit.HEAPU8.buffer, at, count);
engine.copy = (at, count) => engine.floats(at, count).slice();

// A block's activation or a tensor of parameters; null where this model has none.
engine.activation = (name, layer, count) => {
  const at = engine.vit.ccall('page_activation', 'number', ['string', 'number'], [name, layer]);
  return at ? engine.copy(at, count) : null;
};
engine.parameter = (name, count) => {
  const at = engine.vit.ccall('page_parameter', 'number', ['string'], [name]);
  return at ? engine.copy(at, count) : null;
};

// The sizes of the model that is looked at, with vit.h's letters.
engine.sizes = () => {
  const c = engine.config;
  const s = {
    D: c('width'),
    H: c('heads'),
    L: c('depth'),
    M: c('mlp_width'),
    Dh: c('head_dim'),
    K: c('classes'),
    N: c('patches'),
    T: c('tokens'),
    height: c('image_height'),
    width: c('image_width'),
    PH: c('patch_height'),
    PW: c('patch_width'),
    cls: c('class_token')
  };
  s.rows = s.height / s.PH, s.cols = s.width / s.PW, s.I = s.H * s.Dh;
  s.extras = s.T - s.N - s.cls;  // distillation token and registers, at the end
  return s;
};

// Files go through emscripten's memory file system.
engine.openBytes = (bytes, name) => {
  if (!bytes.length) throw new Error(t('empty_file', { name }));
  const path = name.replace(/[^\w.-]/g, '_').slice(-60);
  engine.vit.FS.writeFile(path, bytes);
  try {
    engine.try('open', path);
  } finally { engine.vit.FS.unlink(path); }
};
engine.saveBytes = () => {
  engine.try('save', '/out.safetensors');
  return engine.vit.FS.readFile('/out.safetensors');
};

// Work is done in slices of time, so that the page never freezes. How long they
// were is kept for who wants to know.
engine.spans = [];
engine.timed = (work) => {
  const start = performance.now();
  work();
  engine.spans.push(performance.now() - start);
  if (engine.spans.length > 5000) engine.spans.splice(0, 2500);
};
// `work` returns false when nothing is left to do.
engine.slices = (work, budget = 20) => {
  const slice = () => {
    let more = true;
    engine.timed(() => {
      const end = performance.now() + budget;
      while (more && performance.now() < end) more = work();
    });
    if (more) setTimeout(slice, 0);
  };
  setTimeout(slice, 0);
};
