/* Models of other libraries: fixtures/pretrained has one of each family, tiny,
   with what the library computes in double; see fixtures/make_pretrained.py.
   Also what is refused, and with which sentence; positions at other sizes; and
   what is written for others. */
#if !defined(_XOPEN_SOURCE) && !defined(_GNU_SOURCE)
#define _XOPEN_SOURCE 700 /* getrusage */
#endif
#ifndef _WIN32
#include <sys/resource.h>
#include <sys/wait.h>
#endif
#include "files.h"
#include "changed.h"

#define HERE "tests/fixtures/pretrained/"

static vit_safetensors expected;

/* As images() in make_pretrained.py: from -1 to 1, [2,C,height,width]. */
static float *images(int height, int width, int channels) {
  const size_t n = (size_t)(2 * channels * height * width);
  float *x = (float *)malloc(n * sizeof *x);
  if (!x) exit(1);
  for (size_t i = 0; i < n; i++)
    x[i] = (float)((uint32_t)((uint64_t)i * 2654435761u) >> 8) / 8388608.0f - 1.0f;
  return x;
}

static float *logits_of(const vit_model *m, const float *x) {
  const size_t n = (size_t)(2 * m->config.classes);
  float *y = (float *)calloc(n, sizeof *y);
  vit_state s;
  if (!y) exit(1);
  CHECK(!vit_state_create(&s, m, 2, VIT_FOR_INFERENCE, 0) && !vit_forward(m, &s, x, 2), "%s", vit_error());
  if (s.logits) memcpy(y, s.logits, n * sizeof *y);
  vit_state_free(&s);
  return y;
}

/* Logits of two images, compared with the file of what is expected. */
static double worst; /* of the last comparison */
static void same_logits(const vit_model *m, const char *name) {
  char key[100];
  const vit_config *c = &m->config;
  float *x, *want, *y;
  vit_safetensor t;
  snprintf(key, sizeof key, "logits/%s", name);
  if (!CHECK(!vit_safetensors_find(&expected, key, &t), "%s", vit_error())) return;
  if (!CHECK(t.dims == 2 && t.shape[0] == 2 && t.shape[1] == c->classes, "%s: %d classes, not %d", name, c->classes, t.shape[1])) return;
  want = (float *)malloc(t.count * sizeof *want);
  if (!want) exit(1);
  memcpy(want, t.data, t.count * sizeof *want);
  x = images(c->image_height, c->image_width, c->channels);
  y = logits_of(m, x);
  CHECK_CLOSE(name, y, want, (int)t.count, 1e-5, 1e-5);
  worst = 0;
  for (size_t i = 0; i < t.count; i++) worst = fmax(worst, fabs((double)y[i] - (double)want[i]));
  free(want);
  free(x);
  free(y);
}

/* VIT_WRITTEN names a folder: what is written for others is left there, with two
   images and their logits, for fixtures/check_written.py. */
static const char *written(const char *name, const vit_model *m, char path[400]) {
  const char *keep = getenv("VIT_WRITTEN");
  const vit_config *c = &m->config;
  char dir[300];
  float *x, *y;
  vit_safetensor list[2];
  if (!keep) return NULL;
  snprintf(dir, sizeof dir, "%s/%s", keep, name);
  vit_make_dir(dir);
  snprintf(path, 400, "%s/logits.safetensors", dir);
  x = images(c->image_height, c->image_width, c->channels), y = logits_of(m, x);
  list[0] = vit__block_tensor("images", x, (size_t)(2 * c->channels * c->image_height * c->image_width));
  list[1] = vit__block_tensor("logits", y, (size_t)(2 * c->classes));
  list[0].dims = 4, list[0].shape[0] = 2, list[0].shape[1] = c->channels, list[0].shape[2] = c->image_height, list[0].shape[3] = c->image_width;
  list[1].dims = 2, list[1].shape[0] = 2, list[1].shape[1] = c->classes;
  CHECK(!vit_safetensors_write(path, list, 2, NULL), "%s", vit_error());
  free(x), free(y);
  snprintf(path, 400, "%s/model.safetensors", dir);
  return path;
}

static vit_pretrained_config two_heads(void) {
  vit_pretrained_config c = vit_pretrained_defaults();
  c.heads = 2;
  return c;
}

/* Every family: its file or folder, and what the report says. */
static const struct {
  const char *name, *file, *dialect, *prefix;
  int folded, left;
  vit_pretrained_head head;
} families[] = {
    {"timm_augreg", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_f16", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_bf16", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_f64", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_nobias", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_linear", ".safetensors", "timm", "model.", 0, 0, VIT_HEAD_READ},
    {"timm_deit", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_deit3", ".safetensors", "timm", "", 4, 0, VIT_HEAD_READ},
    {"timm_distilled", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_dino", ".safetensors", "timm", "", 0, 0, VIT_HEAD_NONE},
    {"timm_dinov2", ".safetensors", "timm", "", 4, 0, VIT_HEAD_NONE},
    {"timm_dinov2_reg", ".safetensors", "timm", "", 4, 0, VIT_HEAD_NONE},
    {"timm_reg_positions", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_mae", ".safetensors", "timm", "", 0, 0, VIT_HEAD_NONE},
    {"timm_clip", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_clip_quick/model", "/", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_siglip_gap", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"timm_reg_gap", ".safetensors", "timm", "", 4, 0, VIT_HEAD_READ},
    {"timm_avg", ".safetensors", "timm", "", 0, 0, VIT_HEAD_READ},
    {"hf_vit", "", "Hugging Face ViT", "vit.", 0, 0, VIT_HEAD_READ},
    {"hf_vit_tanh", "", "Hugging Face ViT", "vit.", 0, 0, VIT_HEAD_READ},
    {"hf_vit_shards", "", "Hugging Face ViT", "vit.", 0, 0, VIT_HEAD_READ},
    {"hf_vit_base", "", "Hugging Face ViT", "", 0, 2, VIT_HEAD_NONE},
    {"hf_deit", "", "Hugging Face ViT", "deit.", 0, 0, VIT_HEAD_READ},
    {"hf_deit_teacher", "", "Hugging Face ViT", "deit.", 0, 0, VIT_HEAD_READ},
    {"hf_mae", "", "Hugging Face ViT", "vit.", 0, 24, VIT_HEAD_NONE},
    {"hf_dinov2", "", "Hugging Face DINOv2", "", 4, 1, VIT_HEAD_NONE},
    {"hf_dinov2_reg", "", "Hugging Face DINOv2", "", 4, 1, VIT_HEAD_NONE},
    {"hf_clip", "", "Hugging Face CLIP", "vision_model.", 0, 0, VIT_HEAD_READ},
    {"hf_clip_base", "", "Hugging Face CLIP", "", 0, 0, VIT_HEAD_NONE},
    {"hf_clip_text", "", "Hugging Face CLIP", "vision_model.", 0, 22, VIT_HEAD_READ},
    {"hf_clip_head", "", "Hugging Face CLIP", "vision_model.", 0, 0, VIT_HEAD_READ},
    {"hf_siglip", "", "Hugging Face CLIP", "", 0, 0, VIT_HEAD_NONE},
    {"hf_siglip_head", "", "Hugging Face CLIP", "vision_model.", 0, 0, VIT_HEAD_READ},
    {"torchvision", ".safetensors", "torchvision", "", 0, 0, VIT_HEAD_READ}};
enum { FAMILIES = sizeof families / sizeof *families };

static void test_families(void) {
  for (int i = 0; i < FAMILIES; i++) {
    const char *name = families[i].name;
    const int folder_of_it = families[i].file[0] == '/';
    vit_pretrained_config c = families[i].file[0] == '.' ? two_heads() : vit_pretrained_defaults();
    char path[400], flat[100];
    vit_model m;
    vit_pretrained_report p;
    snprintf(path, sizeof path, HERE "%s%s", name, families[i].file);
    if (folder_of_it) snprintf(path, sizeof path, HERE "timm_clip_quick");
    if (!CHECK(!vit_pretrained_open(&m, path, &c, NULL, &p), "%s: %s", name, vit_error())) continue;
    same_logits(&m, name);
    CHECK(!strcmp(p.dialect, families[i].dialect) && !strcmp(p.prefix, families[i].prefix) && p.folded == families[i].folded &&
              p.left == families[i].left && p.head == families[i].head && !p.resampled && p.rows == 4 && p.cols == 4,
          "%s: %s", name, p.text);
    snprintf(flat, sizeof flat, "read_%s", folder_of_it ? "timm_clip_quick" : name);
    if (written(flat, &m, path)) CHECK(!vit_pretrained_save(&m, NULL, path, VIT_NAMES_TIMM), "%s", vit_error());
    vit_model_free(&m);
  }
  no_leak("families");
}

/* ---- positions, channels, heads, labels ---------------------------------- */

static void test_resample(void) {
  static const int grids[][2] = {{5, 7}, {10, 7}, {3, 7}, {2, 3}, {13, 20}, {1, 1}};
  float table[5 * 7 * 4], have[13 * 20 * 4], want[13 * 20 * 4];
  vit_safetensor t;
  CHECK(!vit_safetensors_find(&expected, "positions/table", &t) && t.count == 140, "%s", vit_error());
  memcpy(table, t.data, sizeof table);
  for (int i = 0; i < 6; i++) {
    const int rows = grids[i][0], cols = grids[i][1];
    char name[40];
    snprintf(name, sizeof name, "positions/%dx%d", rows, cols);
    CHECK(!vit_safetensors_find(&expected, name, &t) && t.count == (size_t)(rows * cols * 4), "%s", vit_error());
    memcpy(want, t.data, t.count * sizeof *want);
    CHECK(!vit_resample_positions(have, rows, cols, table, 5, 7, 4), "%s", vit_error());
    CHECK_CLOSE(name, have, want, rows * cols * 4, 1e-6, 2e-6);
  }
  no_leak("resample");
}

/* Trained on 56 x 56, used at other sizes: timm's numbers. */
static void test_sizes(void) {
  static const int sizes[][2] = {{56, 56}, {40, 40}, {56, 80}, {96, 96}};
  vit_model m;
  vit_pretrained_report p;
  for (int i = 0; i < 4; i++) {
    vit_pretrained_config c = two_heads();
    char name[40];
    c.image_height = sizes[i][0], c.image_width = sizes[i][1];
    snprintf(name, sizeof name, "timm_sizes@%dx%d", sizes[i][0], sizes[i][1]);
    if (!CHECK(!vit_pretrained_open(&m, HERE "timm_sizes.safetensors", &c, NULL, &p), "%s", vit_error())) return;
    CHECK(p.rows == 14 && p.cols == 14 && p.resampled == (i > 0), "%s", p.text);
    same_logits(&m, name);
    vit_model_free(&m);
  }
  for (int i = 0; i < 3; i++) { /* 3 x 4 patches and a class token */
    vit_pretrained_config c = two_heads();
    vit_result r;
    if (i) c.rows = 3, c.cols = i == 1 ? 4 : 5;
    r = vit_pretrained_open(&m, HERE "timm_wide.safetensors", &c, NULL, &p);
    if (i == 0) fails(r, VIT_ERR_FORMAT, "%s has 13 positions, which is no square: set rows and cols to the patches down and across of its images", HERE "timm_wide.safetensors");
    if (i == 1 && CHECK(!r, "%s", vit_error())) same_logits(&m, "timm_wide@12x16"), vit_model_free(&m);
    if (i == 2) fails(r, VIT_ERR_FORMAT, "%s has 13 positions, which are not 3 x 5", HERE "timm_wide.safetensors");
  }
  no_leak("sizes");
}

/* A grey image gives what three equal channels give. */
static void test_grey(void) {
  vit_pretrained_config c = two_heads();
  vit_model colour, grey;
  float *x = images(16, 16, 1), *rgb = (float *)malloc(6 * 256 * sizeof *rgb), *a, *b;
  if (!rgb) exit(1);
  for (int i = 0; i < 6; i++) memcpy(rgb + i * 256, x + i / 3 * 256, 256 * sizeof *x);
  CHECK(!vit_pretrained_open(&colour, HERE "timm_augreg.safetensors", &c, NULL, NULL), "%s", vit_error());
  c.channels = 1;
  CHECK(!vit_pretrained_open(&grey, HERE "timm_augreg.safetensors", &c, NULL, NULL), "%s", vit_error());
  a = logits_of(&colour, rgb), b = logits_of(&grey, x);
  CHECK(grey.config.channels == 1, "%d channels", grey.config.channels);
  CHECK_CLOSE("grey", b, a, 10, 1e-5, 1e-5);
  vit_model_free(&colour);
  vit_model_free(&grey);
  free(a), free(b), free(x), free(rgb);
  c.channels = 4;
  fails(vit_pretrained_open(&grey, HERE "timm_augreg.safetensors", &c, NULL, NULL), VIT_ERR_CONFIG,
        "%s is for images of 3 channels; it can be read for these or for 1, not for 4", HERE "timm_augreg.safetensors");
  no_leak("grey");
}

static void test_new_head(void) {
  static const char *const files[] = {"timm_augreg.safetensors", "timm_distilled.safetensors", "hf_dinov2_head", "hf_clip", "timm_dino.safetensors"};
  for (int i = 0; i < 5; i++)
    for (int classes = 5; classes < 8; classes += 2) { /* 5 old and 5 new ones have the same shape */
      vit_pretrained_config c = two_heads();
      vit_pretrained_report p;
      vit_model m, again;
      vit_dataset about;
      char path[200];
      double sum = 0;
      snprintf(path, sizeof path, HERE "%s", files[i]);
      c.classes = classes, c.seed = 3;
      if (!CHECK(!vit_pretrained_open(&m, path, &c, &about, &p), "%s", vit_error())) continue;
      for (int k = 0; k < classes * 16; k++) sum += fabs((double)m.params.head_w[k]) / (classes * 16);
      CHECK(p.head == VIT_HEAD_NEW && m.config.classes == classes && !about.names && about.classes == classes && sum > 0.01 && sum < 0.03,
            "%s: mean %g", p.text, sum);
      CHECK(!vit_pretrained_open(&again, path, &c, NULL, NULL), "%s", vit_error());
      CHECK_SAME_BITS("the same seed", again.params.block, m.params.block, m.params.count);
      vit_model_free(&m);
      vit_model_free(&again);
      vit_dataset_free(&about);
    }
  no_leak("new head");
}

static void test_about(void) {
  vit_model m;
  vit_dataset about;
  vit_pretrained_report p;
  CHECK(!vit_pretrained_open(&m, HERE "hf_vit", NULL, &about, &p), "%s", vit_error());
  CHECK(about.classes == 5 && about.names && !strcmp(about.names[0], "a cat") && !strcmp(about.names[2], "a \xC3\xBC") && about.height == 16 &&
            about.channels == 3 && !p.normalized && about.std[0] == 1,
        "another dataset");
  CHECK(m.config.norm_eps == 1e-12f && m.config.gelu == VIT_GELU_ERF, "eps %g", (double)m.config.norm_eps);
  vit_model_free(&m);
  vit_dataset_free(&about);
  CHECK(!vit_pretrained_open(&m, HERE "timm_clip_quick", NULL, &about, &p), "%s", vit_error());
  CHECK(p.normalized && about.mean[0] == 0.48145466f && about.std[2] == 0.27577711f && !about.names, "mean %g", (double)about.mean[0]);
  vit_model_free(&m);
  vit_dataset_free(&about);
  no_leak("about");
}

/* ---- what is refused ----------------------------------------------------- */

enum { NAMES = 64 };
/* A fixture whose tensor OLD is called NEW (NULL: left out), or with NEW beside
   it (`more`), or with another type (only its name: F8 has 8 bits). */
static const char *renamed(const char *from, const char *old, const char *new_name, int more, const char *type) {
  const char *path = path_of("renamed.safetensors");
  vit_safetensors f;
  vit_safetensor list[NAMES];
  int n = 0;
  CHECK(!vit_safetensors_open(&f, from), "%s", vit_error());
  for (int i = 0; i < f.count && n < NAMES - 1; i++) {
    vit_safetensor t = f.entries[i];
    if (!strcmp(t.name, old)) {
      if (more) list[n++] = t;
      if (!new_name) continue;
      t.name = new_name;
      if (type) snprintf(t.type, sizeof t.type, "%s", type);
    }
    list[n++] = t;
  }
  CHECK(!vit_safetensors_write(path, list, n, NULL), "%s", vit_error());
  vit_safetensors_close(&f);
  return path;
}

/* It fails, with this in its sentence, and nothing is left. */
static void refused(const char *path, const vit_pretrained_config *c, vit_result want, const char *part) {
  vit_model m;
  vit_dataset about;
  vit_pretrained_report p;
  const int live = heap.live;
  const vit_result r = vit_pretrained_open(&m, path, c, &about, &p);
  CHECK(r == want && strstr(vit_error(), part), "result %d \"%s\",\n    expected %d \"... %s ...\"", (int)r, vit_error(), (int)want, part);
  CHECK(strlen(vit_error()) < 500, "cut: %s", vit_error());
  CHECK(!m.params.block && !about.names && heap.live == live, "half a model is left");
  if (!r) vit_model_free(&m), vit_dataset_free(&about);
}

static void test_refused_by_name(void) {
  static const char *const names[][2] = {{"blocks.0.attn.relative_position_bias_table", "relative positions (BEiT, Swin)"},
      {"rope.freqs", "rotary positions"}, {"blocks.0.attn.q_bias", "rotary or relative positions (BEiT, EVA)"},
      {"blocks.1.mlp.w12.weight", "a gated MLP (SwiGLU)"}, {"blocks.1.mlp.fc1_g.weight", "a gated MLP (SwiGLU)"},
      {"attn_pool.latent", "attention pooling"}, {"vision_model.head.probe", "attention pooling"},
      {"transformers.0.blocks.0.norm1.weight", "pooling between its stages (PiT)"},
      {"layers.1.downsample.norm.weight", "stages of several sizes (Swin)"}, {"blocks.0.attn.q_norm.weight", "norms of queries"},
      {"blocks.0.gamma_1", "(BEiT, EVA, DINOv3)"}, {"visual.transformer.resblocks.0.ln_1.weight", "open_clip's names"},
      {"patch_embed.backbone.stem.conv.weight", "a convolutional network before it"}};
  const vit_pretrained_config c = two_heads();
  const char *from = HERE "timm_augreg.safetensors";
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    refused(renamed(from, "norm.bias", names[i][0], 1, NULL), &c, VIT_ERR_FORMAT, names[i][1]);
  refused(renamed(from, "norm.bias", "something.else", 1, NULL), &c, VIT_ERR_FORMAT,
          "tensor something.else is left over; the model would be another one without it");
  refused(renamed(from, "blocks.1.norm1.weight", NULL, 0, NULL), &c, VIT_ERR_FORMAT, "tensor blocks.1.");
  refused(renamed(from, "blocks.1.norm2.weight", NULL, 0, NULL), &c, VIT_ERR_FORMAT, "the file has no tensor \"blocks.1.norm2.weight\"");
  refused(renamed(from, "blocks.0.norm2.weight", "blocks.0.layernorm_after.weight", 0, NULL), &c, VIT_ERR_FORMAT,
          "the file has no tensor \"blocks.0.norm2.weight\""); /* two dialects mixed */
  refused(renamed(from, "pos_embed", NULL, 0, NULL), &c, VIT_ERR_FORMAT, "has no positions: they may be rotary or relative");
  refused(renamed(from, "patch_embed.proj.weight", "stem.weight", 0, NULL), &c, VIT_ERR_FORMAT, "is no Vision Transformer that is known");
  refused(renamed(HERE "timm_f16.safetensors", "norm.weight", "norm.weight", 0, "I16"), &c, VIT_ERR_FORMAT,
          "tensor norm.weight is I16 [16] in the file, the model wants F32 [16]");
  refused(HERE "timm_augreg.safetensors", NULL, VIT_ERR_CONFIG, "does not say how many heads it has, and of width 16 there are");
  refused(HERE "hf_dinov2_head", NULL, VIT_ERR_FORMAT, "reads the class token and the mean of the patches, 32 numbers");
  {
    vit_pretrained_config five = c;
    five.heads = 5;
    refused(from, &five, VIT_ERR_CONFIG, "width 16 is not a multiple of heads 5");
    five = c, five.image_height = 18;
    refused(from, &five, VIT_ERR_CONFIG, "image height 18 is not a multiple of patch height 4");
  }
  no_leak("refused");
}

/* F8 weights: the same bytes under another type. */
static void test_f8(void) {
  static const char *const types[] = {"F8_E4M3", "I8", "BOOL"};
  const vit_pretrained_config c = two_heads();
  vit_safetensors f;
  vit_safetensor list[NAMES];
  CHECK(!vit_safetensors_open(&f, HERE "timm_augreg.safetensors"), "%s", vit_error());
  for (int k = 0; k < 3; k++) {
    const char *path = path_of("f8.safetensors");
    char part[100];
    for (int i = 0; i < f.count && i < NAMES; i++) {
      list[i] = f.entries[i];
      snprintf(list[i].type, sizeof list[i].type, "%s", types[k]);
    }
    CHECK(!vit_safetensors_write(path, list, f.count, NULL), "%s", vit_error());
    snprintf(part, sizeof part, "is %s [", types[k]);
    refused(path, &c, VIT_ERR_FORMAT, part);
  }
  vit_safetensors_close(&f);
  no_leak("F8");
}

/* Other files, by their first bytes; each sentence has the way out. */
static void test_refused_by_bytes(void) {
  static const struct {
    const char *file, *bytes, *part;
  } all[] = {{"a.pth", "PK\3\4..........", "is a file of torch.save; in Python: import torch, safetensors.torch as s;"},
      {"pytorch_model.bin", "PK\3\4..........", "\"OUT.safetensors\")"}, {"old.pth", "\x80\2\x8A\nl\xFC\x9C" "F........", "is a file of torch.save"},
      {"vit.npz", "PK\3\4..........", "m.load_pretrained(\"IN\")"}, {"vit.gguf", "GGUF\3...........", "is made for llama.cpp (GGUF)"},
      {"lfs.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run: git lfs pull"},
      {"page.safetensors", "<!DOCTYPE html><html>", "is a web page"}, {"list.safetensors", "{\"metadata\": {}, ", "an index of shards"},
      {"short.safetensors", "abc", "is not a safetensors file, or is cut off"},
      {"empty.safetensors", "", "is not a safetensors file, or is cut off"}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    refused(write_file(all[i].file, all[i].bytes, strlen(all[i].bytes)), NULL, VIT_ERR_FORMAT, all[i].part);
  refused(folder, NULL, VIT_ERR_FORMAT, "is a file of torch.save"); /* it has a pytorch_model.bin */
  remove(path_of("pytorch_model.bin"));
  refused(folder, NULL, VIT_ERR_FILE, "model.safetensors: No such file or directory");
  refused("nowhere.safetensors", NULL, VIT_ERR_FILE, "cannot open nowhere.safetensors");
  no_leak("bytes");
}

/* ---- what stands beside a model ------------------------------------------ */

static void copy(const char *from, const char *to) {
  unsigned char *bytes;
  size_t size;
  if (CHECK(!vit__read_file(from, &bytes, &size), "%s", vit_error())) write_file(to, bytes, size), test_free(bytes);
}
static void config_is(const char *text) { write_file("model/config.json", text, strlen(text)); }

static void test_config_json(void) {
  static const char *const wrong[][2] = {{"{\"hidden_size\": 17}", "config.json says hidden_size 17, the tensors say 16"},
      {"{\"num_hidden_layers\": 3}", "config.json says num_hidden_layers 3, the tensors say 2"},
      {"{\"vision_config\": {\"intermediate_size\": 9}}", "config.json says intermediate_size 9, the tensors say 24"},
      {"{\"patch_size\": [8, 8]}", "config.json says patch_size 8, the tensors say 4"},
      {"{\"num_attention_heads\": 2, \"image_size\": 20}", "has 17 positions, which are not 5 x 5"}, {"{\"num_attention_heads\": 2, \"image_size\": [8, 12]}", "which are not 2 x 3"},
      {"{\"num_attention_heads\": 3}", "width 16 is not a multiple of heads 3"},
      {"{\"hidden_act\": \"silu\", \"num_attention_heads\": 2}", "its activation is silu; vit.h has gelu"},
      {"{\"hidden_size\": 16", "config.json: it is not JSON near byte 16"}, {"[]", "it is not JSON near byte 0"}, {"", "it is not JSON"},
      {"{} {}", "it is not JSON"}, {"{\"a\": \"\\ud800\"}", "it is not JSON"}, {"{}", "set heads"}};
  const char *dir = folder_of("model");
  copy(HERE "hf_vit/model.safetensors", "model/model.safetensors");
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    config_is(wrong[i][0]);
    refused(dir, NULL, i == 6 || i == 13 ? VIT_ERR_CONFIG : VIT_ERR_FORMAT, wrong[i][1]);
  }
  config_is("{\"image_size\": [16, 16], \"num_attention_heads\": 2, \"id2label\": {\"0\": \"zero\", \"7\": \"no\"}, \"deep\": [[{\"id2label\": 3}]]}");
  {
    vit_model m;
    vit_dataset about;
    const char *more = "{\"image_mean\": [0.5, 0.25, 0.125], \"image_std\": [1, 2, 3]}";
    write_file("model/preprocessor_config.json", more, strlen(more));
    if (CHECK(!vit_pretrained_open(&m, dir, NULL, &about, NULL), "%s", vit_error())) {
      CHECK(about.names && !strcmp(about.names[0], "zero") && !strcmp(about.names[1], "1") && about.mean[2] == 0.125f && about.std[2] == 3,
            "names %s", about.names ? about.names[1] : "none");
      same_logits(&m, "hf_vit");
      vit_model_free(&m), vit_dataset_free(&about);
    }
    write_file("model/preprocessor_config.json", "{\"image_mean\": [0.5, 2]}", 24);
    refused(dir, NULL, VIT_ERR_FORMAT, "its mean is \"[0.5, 2]");
    remove(path_of("model/preprocessor_config.json"));
  }
  no_leak("config.json");
}

/* Without config.json, as their libraries would have it. */
static void test_no_config(void) {
  static const struct {
    const char *name;
    vit_gelu gelu;
    float eps;
  } all[] = {{"hf_clip", VIT_GELU_QUICK, 1e-5f}, {"hf_siglip", VIT_GELU_TANH, 1e-6f}, {"hf_dinov2", VIT_GELU_ERF, 1e-6f},
      {"hf_vit", VIT_GELU_ERF, 1e-12f}};
  for (int i = 0; i < 4; i++) {
    const vit_pretrained_config c = two_heads();
    char from[200], to[100];
    vit_model m;
    snprintf(from, sizeof from, HERE "%s/model.safetensors", all[i].name);
    snprintf(to, sizeof to, "%s.safetensors", all[i].name);
    copy(from, to);
    if (!CHECK(!vit_pretrained_open(&m, path_of(to), &c, NULL, NULL), "%s", vit_error())) continue;
    CHECK(m.config.gelu == all[i].gelu && m.config.norm_eps == all[i].eps, "%s: gelu %d, eps %g", to, (int)m.config.gelu,
          (double)m.config.norm_eps);
    same_logits(&m, all[i].name);
    vit_model_free(&m);
  }
  no_leak("no config");
}

static void test_shards(void) {
  static const char *const files[] = {"config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors"};
  char from[200], to[100];
  const char *dir = folder_of("shards"), *lost;
  for (int i = 0; i < 4; i++) {
    snprintf(from, sizeof from, HERE "hf_vit_shards/%s", files[i]);
    snprintf(to, sizeof to, "shards/%s", files[i]);
    copy(from, to);
  }
  refused(path_of("shards/model-00001-of-00002.safetensors"), NULL, VIT_ERR_FORMAT, "");
  lost = path_of("shards/model-00002-of-00002.safetensors");
  remove(lost);
  refused(dir, NULL, VIT_ERR_FILE, "is an index of shards, but model-00002-of-00002.safetensors is not beside it: get all files that it names");
  refused(path_of("shards/model.safetensors.index.json"), NULL, VIT_ERR_FILE, "is an index of shards");
  write_file("shards/model.safetensors.index.json", "{\"weight_map\": {\"a\": 3, \"b\": 0}}", 32);
  refused(dir, NULL, VIT_ERR_FORMAT, "no index of shards is there, or it names none");
  no_leak("shards");
}

/* Every allocation fails once: a sentence, and nothing is left. */
static void test_without_memory(void) {
  static const char *const files[] = {"hf_vit_shards", "hf_dinov2_reg", "hf_clip_text"};
  for (int i = 0; i < 3; i++) {
    char path[200];
    vit_model m;
    vit_dataset about;
    vit_result r = VIT_ERR_NO_MEMORY;
    int n = 1;
    snprintf(path, sizeof path, HERE "%s", files[i]);
    for (; n < 300 && r == VIT_ERR_NO_MEMORY; n++) {
      heap.calls = 0, heap.fail_at = n;
      r = vit_pretrained_open(&m, path, NULL, &about, NULL);
      heap.fail_at = 0;
      if (r) CHECK(heap.live == 0 && !m.params.block && !about.names, "allocation %d leaks", n);
    }
    CHECK(!r && n > 8, "%s: result %d after %d: %s", path, (int)r, n, vit_error());
    if (!r) vit_model_free(&m), vit_dataset_free(&about);
  }
  no_leak("without memory");
}

/* ---- writing ------------------------------------------------------------- */

/* What is written for others opens here as what it was. */
static void test_written(void) {
  static const struct {
    const char *kind;
    int hf, plain; /* it has that name; vit_model_save is enough for timm */
  } kinds[] = {{"positions=2", 1, 1}, {"positions=1", 1, 0}, {"positions=3 class_token=0 pool=1", 0, 0}, {"positions=0", 1, 0},
      {"reg_tokens=3", 0, 0}, {"dist_token=1", 0, 0}, {"pre_norm=1 gelu=2", 0, 1}, {"fc_norm=1 pool=1 final_norm=0", 0, 1},
      {"qkv_bias=0 gelu=1 norm_eps=0.001", 1, 1}, {"patch_height=2 reg_tokens=1 positions=3", 0, 0}};
  for (int i = 0; i < 10; i++) {
    vit_config c = changed(vit_config_tutorial(), "image_height=8 image_width=12 patch_height=4 patch_width=4 channels=3 classes=5 "
                                                  "width=16 depth=2 heads=2 mlp_width=24 final_norm=1 head=0 positions=2");
    float *x = images(8, 12, 3), *a, *b;
    vit_model m, again;
    c = changed(c, kinds[i].kind);
    CHECK(!vit_model_create(&m, &c, 7), "%s", vit_error());
    for (size_t k = 0; k < m.params.count; k++) m.params.block[k] += 0.2f * (float)((k * 7919) % 13) / 13 - 0.1f;
    a = logits_of(&m, x);
    for (int way = 0; way < 3; way++) { /* timm, Hugging Face, vit_model_save */
      char dir[40], path[400];
      const vit_names names = way == 1 ? VIT_NAMES_HF : VIT_NAMES_TIMM;
      vit_result r;
      snprintf(dir, sizeof dir, "written_%d_%s", i, way == 1 ? "hf" : way ? "plain" : "timm");
      if (way == 2 && !kinds[i].plain) continue;
      if ((way == 1 && !kinds[i].hf) || !written(dir, &m, path)) snprintf(path, sizeof path, "%s", path_of("model.safetensors"));
      r = way == 2 ? vit_model_save(&m, NULL, path) : vit_pretrained_save(&m, NULL, path, names);
      if (way == 1 && !kinds[i].hf) {
        CHECK(r == VIT_ERR_CONFIG && strstr(vit_error(), "which ViTForImageClassification cannot express"), "%s: %s", kinds[i].kind, vit_error());
        CHECK(!exists(path), "a file is left");
        continue;
      }
      if (!CHECK(!r, "%s: %s", kinds[i].kind, vit_error()) || !CHECK(!vit_model_open(&again, path, NULL), "%s", vit_error())) continue;
      b = logits_of(&again, x);
      CHECK_CLOSE(kinds[i].kind, b, a, 10, 1e-6, 1e-6);
      CHECK(!memcmp(&again.config, &m.config, sizeof m.config), "another config");
      vit_model_free(&again);
      free(b);
      remove(path_of("model.safetensors"));
      remove(path_of("config.json"));
    }
    vit_model_free(&m);
    free(a), free(x);
  }
  no_leak("written");
}

static void test_not_written(void) {
  static const char *const kinds[][2] = {{"local_mask=3", "a local mask"}, {"norm=1", "post-norm"}, {"mlp_last_gelu=1", "a GELU at the end of its MLP"},
      {"head_dim=5", "heads that are not width / heads"}, {"dist_token=1 reg_tokens=2", "registers and a distillation token"},
      {"fc_norm=1 final_norm=1", "norms before and after the pooling"}};
  for (int i = 0; i < 6; i++) {
    vit_model m;
    char sentence[300];
    vit_config c = changed(vit_config_tutorial(), kinds[i][0]);
    CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
    snprintf(sentence, sizeof sentence, "this model has %s, which timm cannot express; vit_model_save writes it for vit.h", kinds[i][1]);
    fails(vit_pretrained_save(&m, NULL, path_of("no.safetensors"), VIT_NAMES_TIMM), VIT_ERR_CONFIG, sentence, "");
    CHECK(!exists(path_of("no.safetensors")), "a file is left");
    vit_model_free(&m);
  }
  no_leak("not written");
}

/* ---- full size ----------------------------------------------------------- */

#ifndef _WIN32
/* Open and run one model of full size in a process of its own: 0 if all is well. */
static int full_size(const char *name, const char *path) {
  vit_model m;
  vit_pretrained_report p;
  struct rusage usage;
  unsigned char *bytes;
  size_t size;
  double reading, opening, most;
  clock_t start = clock(); /* of this process: others share the machine */
  test__state.name = name, test__state.failures = 0;
  if (!CHECK(!vit__read_file(path, &bytes, &size), "%s", vit_error())) return 1;
  reading = (double)(clock() - start) / CLOCKS_PER_SEC;
  test_free(bytes);
  start = clock();
  if (!CHECK(!vit_pretrained_open(&m, path, NULL, NULL, &p), "%s", vit_error())) return 1;
  opening = (double)(clock() - start) / CLOCKS_PER_SEC;
  getrusage(RUSAGE_SELF, &usage);
  most = (double)usage.ru_maxrss * 1024 / (double)size;
  same_logits(&m, name);
  printf("  %s: %.0f MB, read in %.2f s, opened in %.2f s, peak %.2f x its size, logits within %.1e; %s\n", name,
         (double)size / 1e6, reading, opening, most, worst, p.text);
  CHECK(opening - reading < 0.3, "opening took %.2f s beyond reading", opening - reading);
  CHECK(most < 1.15 || size < 100000000, "peak %.2f x the weights", most);
  fflush(stdout);
  return test__state.failures > 0;
}

/* VIT_FULL names the folder that make_pretrained.py --full wrote. */
static void test_full_size(void) {
  static const char *const names[] = {"ti16", "s14_reg", "b16", "clip_b16"};
  const char *where = getenv("VIT_FULL");
  char path[300];
  if (!where) SKIP("VIT_FULL is not set");
  vit_safetensors_close(&expected);
  snprintf(path, sizeof path, "%s/expected.safetensors", where);
  if (!CHECK(!vit_safetensors_open(&expected, path), "%s", vit_error())) return;
  for (int i = 0; i < 4; i++) {
    int status = 1;
    snprintf(path, sizeof path, "%s/%s%s", where, names[i], i == 3 ? "/model.safetensors" : ".safetensors");
    fflush(stdout);
    if (fork() == 0) _exit(full_size(names[i], path));
    wait(&status);
    CHECK(status == 0, "%s failed", names[i]);
  }
  vit_safetensors_close(&expected);
  CHECK(!vit_safetensors_open(&expected, HERE "expected.safetensors"), "%s", vit_error());
  heap.live = 0;
}
#endif

int main(void) {
  snprintf(folder, sizeof folder, "build/test_13_pretrained_%ld", (long)getpid());
  folder_of("");
  if (vit_safetensors_open(&expected, HERE "expected.safetensors")) return puts(vit_error()), 1;
  heap.live = 0;
#ifndef _WIN32
  RUN(test_full_size); /* first: it forks, and threads do not come along */
#endif
  RUN(test_families);
  RUN(test_resample);
  RUN(test_sizes);
  RUN(test_grey);
  RUN(test_new_head);
  RUN(test_about);
  RUN(test_refused_by_name);
  RUN(test_f8);
  RUN(test_refused_by_bytes);
  RUN(test_config_json);
  RUN(test_no_config);
  RUN(test_shards);
  RUN(test_without_memory);
  RUN(test_written);
  RUN(test_not_written);
  remove_all();
  return test_end("13_pretrained");
}
