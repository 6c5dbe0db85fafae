// The start, the language, and the theme.
'use strict';

const page = {};

page.labels = () => {
  document.documentElement.lang = language.now === 1 ? 'zh-CN' : 'en';
  document.title = t('page_title');
  for (const e of document.querySelectorAll('[data-s]')) e.textContent = t(e.dataset.s);
  for (const e of document.querySelectorAll('[data-s-label]'))
    e.setAttribute('aria-label', t(e.dataset.sLabel));
  for (const a of document.querySelectorAll('a.chapter[data-chapter]')) chapterLink(a, a.dataset.chapter);
  pad.canvas.setAttribute('aria-label', t('pad_label'));
  by('theme').textContent =
      t(document.documentElement.dataset.theme === 'dark' ? 'theme_light' : 'theme_dark');
  const simd = engine.simd();
  by('engine').textContent = simd === 'none' ? t('engine_plain') : t('engine_simd', { simd });
  formula.close();
  train.labels();
  if (views.sizes) {
    views.build();
    views.refresh();
    files.showModel();
  }
  if (tour.step >= 0) tour.text();
};

page.theme = (dark) => {
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  by('theme').textContent = t(dark ? 'theme_light' : 'theme_dark');
  if (views.shown) views.refresh();
};

page.start = async () => {
  try {
    await engine.start();
    page.theme(matchMedia('(prefers-color-scheme: dark)').matches);
    if (navigator.language.startsWith('zh')) language.now = 1;
    pad.start(), views.start(), formula.start(), train.start(), files.start(), tour.start();
    files.opened = { bytes: engine.bytesOf(START_MODEL), name: 'start.safetensors' };
    engine.openBytes(files.opened.bytes, files.opened.name);
    views.sizes = engine.sizes();
    page.labels();
    pad.take(7);
    by('language').onclick = () => {
      language.now = 1 - language.now;
      page.labels();
    };
    by('theme').onclick = () => page.theme(document.documentElement.dataset.theme !== 'dark');
    page.started = true;
  } catch (e) {
    by('trouble').hidden = false;
    by('trouble').textContent = `${t('cannot_start')} ${e.message}`;
  }
};
page.start();
