// Models as safetensors files: from a dialog or dropped onto the page, and back.
'use strict';

const files = {
  opened: null
};

files.showModel = (sentence) => {
  const s = views.sizes, about = t('model_is', {
                           D: s.D,
                           L: s.L,
                           H: s.H,
                           n: engine.config('parameters'),
                           size: `${s.height}×${s.width}`,
                           patch: `${s.PH}×${s.PW}`,
                           N: s.N,
                           source: train.watching && !train.begun ? t('untrained') : engine.source()
                         });
  by('model-is').textContent = sentence ||
      about +
          (engine.source().includes('start.safetensors') ? t('gap') + t('start_about', { p: START_ACCURACY }) :
                                                           '');
};

files.use = (bytes, name) => {
  try {
    engine.openBytes(bytes, name);
  } catch (e) {
    files.failed = e.message;
    const page = /^\s*<(!doctype|html)/i.test(new TextDecoder().decode(bytes.subarray(0, 200)));
    files.showModel(t('not_opened', { name, why: e.message }) + (page ? t('gap') + t('is_a_page') : ''));
    return false;
  }
  files.opened = { bytes, name };
  train.stop();
  train.watching = false;
  views.build();
  pad.give();
  views.refresh();
  files.showModel();
  return true;
};

files.read = async (file) => {
  if (!file) return;
  if (file.size > 100e6) files.showModel(t('too_large', { name: file.name, n: Math.round(file.size / 1e6) }));
  else files.use(new Uint8Array(await file.arrayBuffer()), file.name);
};

files.save = () => {
  let bytes;
  try {
    bytes = engine.saveBytes();
  } catch (e) { return files.showModel(e.message); }
  const a = el('a', { href: URL.createObjectURL(new Blob([bytes])), download: 'page.safetensors' });
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 1000);
};

files.start = () => {
  by('open').onchange = async (e) => {
    await files.read(e.target.files[0]);
    e.target.value = '';
  };
  by('save').onclick = files.save;
  by('start-model').onclick = () => files.use(engine.bytesOf(START_MODEL), 'start.safetensors');
  addEventListener('dragover', (e) => {
    e.preventDefault();
    document.body.classList.add('dropping');
  });
  addEventListener('dragleave', (e) => {
    if (!e.relatedTarget) document.body.classList.remove('dropping');
  });
  addEventListener('drop', (e) => {
    e.preventDefault();
    document.body.classList.remove('dropping');
    files.read(e.dataTransfer.files[0]);
    by('files').scrollIntoView();
  });
};
