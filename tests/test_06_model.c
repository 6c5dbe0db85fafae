/* The model: presets and their known sizes, the tensor table, config errors
   with their sentences, the memory plan, initial values, dropout, and what
   happens when there is no memory. */
#include "test.h"

static void *test_malloc(size_t n);
static void test_free(void *p);
#define VIT_MALLOC(n) test_malloc(n)
#define VIT_FREE(p) test_free(p)
#define VIT_STATIC
#define VIT_IMPLEMENTATION
#include "../vit.h"
#include "changed.h"

/* ---- an allocator that counts, and that fails on demand ------------------ */

static struct {
  int calls, live, fail_at; /* fail_at 1: the first call fails; 0: none */
  size_t bytes;             /* of the last call */
} heap;

static void *test_malloc(size_t n) {
  heap.calls++;
  heap.bytes = n;
  if (heap.calls == heap.fail_at) return NULL;
  if (n > ((size_t)1 << 30)) return NULL; /* no test needs a gigabyte */
  heap.live++;
  return malloc(n);
}

static void test_free(void *p) {
  CHECK(p != NULL, "NULL was freed");
  heap.live--;
  free(p);
}

static void heap_reset(int fail_at) {
  CHECK(heap.live == 0, "%d blocks were not freed", heap.live);
  heap.calls = heap.live = 0;
  heap.fail_at = fail_at;
}

/* The code and the sentence of a failure. */
static int fails(vit_result have, vit_result want, const char *sentence) {
  return CHECK(have == want && (have == VIT_OK || !strcmp(vit_error(), sentence)),
               "result %d \"%s\",\n    expected %d \"%s\"", (int)have, vit_error(),
               (int)want, sentence);
}

/* All sizes differ, every kind of tensor exists. */
static vit_config small_config(void) {
  return changed(vit_config_tutorial(),
                 "image_height=6 image_width=10 channels=2 patch_height=3 "
                 "patch_width=5 classes=7 width=8 depth=3 heads=2 head_dim=3 "
                 "mlp_width=11 positions=2 final_norm=1 head=0");
}

/* ---- presets and the tensor table ---------------------------------------- */

static void test_parameter_counts(void) {
  /* ViT family: as timm counts vit_*_patch16_224 with 1000 classes */
  static const struct { const char *name; unsigned long count; } known[] = {
      {"tutorial", 5689},      {"mnist", 205962},     {"cifar_mean", 507210},
      {"cifar_cls", 119098},   {"local", 86567656},   {"post_norm", 86386408},
      {"ti16", 5717416},       {"s16", 22050664},     {"b16", 86567656},
      {"l16", 304326632}};
  int presets = 0;
  for (; vit_preset_at(presets); presets++) {
    const vit_preset *p = vit_preset_at(presets);
    vit_config c = p->make();
    int found = 0;
    CHECK(!vit_config_resolve(&c), "%s: %s", p->name, vit_error());
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
      if (strcmp(known[i].name, p->name)) continue;
      found = 1;
      CHECK(vit_parameter_count(&c) == known[i].count,
            "%s has %lu parameters, expected %lu", p->name,
            (unsigned long)vit_parameter_count(&c), known[i].count);
    }
    CHECK(found, "preset %s is not known here", p->name);
  }
  CHECK(presets == (int)(sizeof known / sizeof *known), "%d presets", presets);
  CHECK(!vit_preset_at(-1) && !vit_preset_at(presets), "presets past the end");
}

/* Names are unique, offsets are without gaps, sizes are products of shapes. */
static void check_table(const vit_config *c, const char *what) {
  vit_tensor t, same;
  size_t offset = 0;
  int n = 0, layer = -1;
  for (; vit_tensor_at(c, n, &t); n++) {
    size_t count = 1;
    for (int d = 0; d < t.dims; d++) count *= (size_t)t.shape[d];
    CHECK(t.dims >= 1 && t.dims <= 4 && count == t.count && t.count > 0,
          "%s: %s has %d dimensions, count %lu", what, t.name, t.dims,
          (unsigned long)t.count);
    for (int d = t.dims; d < 4; d++)
      CHECK(t.shape[d] == 0, "%s: %s has shape[%d] %d", what, t.name, d, t.shape[d]);
    CHECK(t.offset == offset, "%s: %s is at %lu, expected %lu", what, t.name,
          (unsigned long)t.offset, (unsigned long)offset);
    CHECK(!vit_tensor_find(c, t.name, &same) && same.offset == t.offset,
          "%s: the name %s is not unique", what, t.name);
    CHECK(t.decay == (t.dims == 2 || t.dims == 4), /* not tokens, positions */
          "%s: %s has decay %d", what, t.name, t.decay);
    if (!strncmp(t.name, "blocks.", 7)) layer = atoi(t.name + 7);
    CHECK(t.layer == (strncmp(t.name, "blocks.", 7) ? -1 : layer),
          "%s: %s has layer %d", what, t.name, t.layer);
    offset += t.count;
  }
  CHECK(offset == vit_parameter_count(c), "%s: %lu in the table, %lu in all",
        what, (unsigned long)offset, (unsigned long)vit_parameter_count(c));
  CHECK(layer == c->depth - 1, "%s: last layer %d", what, layer);
  CHECK(!vit_tensor_at(c, -1, &t) && !vit_tensor_at(c, n + 1, &t), "past the end");
}

static void test_tensor_table(void) {
  vit_config c = small_config(), d;
  vit_tensor t;
  for (int i = 0; vit_preset_at(i); i++) {
    vit_config p = vit_preset_at(i)->make();
    vit_config_resolve(&p);
    check_table(&p, vit_preset_at(i)->name);
  }
  vit_config_resolve(&c);
  check_table(&c, "small");
  d = changed(c, "dist_token=1 reg_tokens=3 pre_norm=1");
  check_table(&d, "distilled");
  CHECK(!vit_tensor_find(&d, "reg_token", &t) && t.dims == 3 && t.shape[1] == 3 &&
            !vit_tensor_find(&d, "pos_embed", &t) && t.shape[1] == 5,
        "registers have positions");
  CHECK(!vit_tensor_find(&c, "blocks.2.attn.qkv.weight", &t) && t.dims == 2 &&
            t.shape[0] == 3 * 2 * 3 && t.shape[1] == 8,
        "shape [%d,%d]", t.shape[0], t.shape[1]);
  CHECK(!vit_tensor_find(&c, "patch_embed.proj.weight", &t) && t.dims == 4 &&
            t.shape[0] == 8 && t.shape[1] == 2 && t.shape[2] == 3 && t.shape[3] == 5,
        "shape of the patch projection");
  CHECK(!vit_tensor_find(&c, "pos_embed", &t) && t.dims == 3 && t.shape[0] == 1 &&
            t.shape[1] == 5 && t.shape[2] == 8,
        "shape of the positions");
  fails(vit_tensor_find(&c, "blocks.3.attn.qkv.weight", &t), VIT_ERR_CONFIG,
        "this model has no tensor \"blocks.3.attn.qkv.weight\"");
}

/* The order in memory is timm's. */
static void test_tensor_order(void) {
  static const char *const stem[] = {"cls_token", "pos_embed",
                                     "patch_embed.proj.weight",
                                     "patch_embed.proj.bias"};
  static const char *const block[] = {
      "norm1.weight",     "norm1.bias",     "attn.qkv.weight", "attn.qkv.bias",
      "attn.proj.weight", "attn.proj.bias", "norm2.weight",    "norm2.bias",
      "mlp.fc1.weight",   "mlp.fc1.bias",   "mlp.fc2.weight",  "mlp.fc2.bias"};
  static const char *const tail[] = {"norm.weight", "norm.bias", "head.weight",
                                     "head.bias"};
  static const char *const more[] = {"cls_token",       "dist_token",      "reg_token",
                                     "pos_embed",       "patch_embed.proj.weight",
                                     "norm_pre.weight", "norm_pre.bias"};
  static const char *const end[] = {"norm.weight", "norm.bias",        "head.weight",
                                    "head.bias",   "head_dist.weight", "head_dist.bias"};
  vit_config c = small_config();
  vit_tensor t;
  vit_config_resolve(&c);
  for (int i = 0; i < 4 + 3 * 12 + 4; i++) {
    char name[60];
    int n = i - 4;
    if (n < 0)
      snprintf(name, sizeof name, "%s", stem[i]);
    else if (n < 36)
      snprintf(name, sizeof name, "blocks.%d.%s", n / 12, block[n % 12]);
    else
      snprintf(name, sizeof name, "%s", tail[n - 36]);
    CHECK(vit_tensor_at(&c, i, &t) && !strcmp(t.name, name),
          "tensor %d is %s, expected %s", i, t.name, name);
  }
  CHECK(!vit_tensor_at(&c, 44, &t), "more tensors");
  c = changed(c, "dist_token=1 reg_tokens=2 pre_norm=1 depth=1");
  for (int i = 0; i < 7 + 12 + 6; i++)
    CHECK(vit_tensor_at(&c, i, &t) &&
              (i < 7 ? !strcmp(t.name, more[i]) : i < 19 || !strcmp(t.name, end[i - 19])),
          "tensor %d is %s", i, t.name);
  CHECK(!vit_tensor_at(&c, 25, &t), "more tensors");
}

/* The struct's pointers are where the table says, in every layer. */
static void check_pointers(const vit_config *config) {
  vit_model m;
  vit_tensor t;
  vit_tensors layer;
  const char *prefix = "";
  char name[80];
  if (!CHECK(!vit_model_create(&m, config, 1), "%s", vit_error())) return;
  for (int l = 0; l < m.config.depth; l++) {
    char block[20];
    layer = vit_layer(&m.params, l);
    snprintf(block, sizeof block, "blocks.%d.", l);
#define POINTER(field, text, where, exists, d0, d1, d2, d3, init, decay)       \
  prefix = strcmp(#where, "BLOCK") ? "" : block;                               \
  snprintf(name, sizeof name, "%s%s", prefix, text);                           \
  if (vit_tensor_find(&m.config, name, &t))                                    \
    CHECK(layer.field == NULL, "%s points somewhere", name);                   \
  else                                                                         \
    CHECK(layer.field == m.params.block + t.offset, "%s is at %ld, not %ld",   \
          name, (long)(layer.field - m.params.block), (long)t.offset);
    VIT_TENSORS(POINTER)
#undef POINTER
  }
  vit_model_free(&m);
}

static void test_pointers(void) {
  vit_config c = small_config();
  heap_reset(0);
  check_pointers(&c);
  c = changed(c, "class_token=0 pool=1 positions=0 qkv_bias=0 final_norm=0");
  check_pointers(&c);
  c = changed(c, "depth=1 final_norm=1 fc_norm=1 reg_tokens=1");
  check_pointers(&c);
  c = changed(small_config(), "dist_token=1 reg_tokens=2 pre_norm=1");
  check_pointers(&c);
  heap_reset(0);
}

/* ---- config -------------------------------------------------------------- */

static void test_config_fields(void) {
  vit_config c = vit_config_b16(), d = vit_config_tutorial();
  const char *name, *about;
  double value, other;
  int n = 0;
  for (; vit_config_field(&c, n, &name, &about, &value); n++) {
    char text[40];
    CHECK(*about, "%s has no explanation", name);
    snprintf(text, sizeof text, "%.9g", value);
    CHECK(!vit_config_set(&d, name, text), "%s", vit_error());
    CHECK(vit_config_field(&d, n, &name, &about, &other) && other == value,
          "%s is %g after it was set to %g", name, other, value);
  }
  CHECK(n == 35, "%d fields", n);
  CHECK(!memcmp(&c, &d, sizeof c), "the copy differs");
  CHECK(!vit_config_field(&c, -1, &name, &about, &value), "field -1");
  CHECK(vit_config_set(&c, "widht", "3") == VIT_ERR_CONFIG &&
            !strncmp(vit_error(), "the config has no field \"widht\"; it has image_height", 52) &&
            !strcmp(vit_error() + strlen(vit_error()) - 10, " zero_head"),
        "%s", vit_error());
  fails(vit_config_set(&c, "width", "wide"), VIT_ERR_CONFIG,
        "config field width needs a number, not \"wide\"");
  fails(vit_config_set(&c, "width", ""), VIT_ERR_CONFIG,
        "config field width needs a number, not \"\"");
  fails(vit_config_set(&c, "width", "12x"), VIT_ERR_CONFIG,
        "config field width needs a number, not \"12x\"");
  fails(vit_config_set(&c, "pos_drop", "nan"), VIT_ERR_CONFIG,
        "config field pos_drop needs a number, not \"nan\"");
  fails(vit_config_set(&c, "pos_drop", "1e99"), VIT_ERR_CONFIG,
        "config field pos_drop needs a number, not \"1e99\", which is too large");
  /* a whole number is not made from a part of one */
  CHECK(vit_config_set(&c, "width", "2.5") == VIT_ERR_CONFIG, "width became %d",
        c.width);
  CHECK(c.width == 768, "a failure changed width to %d", c.width);
}

static void test_resolve(void) {
  vit_config c = vit_config_tutorial();
  CHECK(!vit_config_resolve(&c) && c.head_dim == 3 && c.mlp_width == 36,
        "head_dim %d, mlp_width %d", c.head_dim, c.mlp_width);
  CHECK(vit_config_patches(&c) == 4 && vit_config_tokens(&c) == 5, "tokens");
  c = changed(vit_config_tutorial(), "heads=4 head_dim=2 mlp_width=1");
  CHECK(!vit_config_resolve(&c) && c.head_dim == 2 && c.mlp_width == 1,
        "own sizes were changed");
}

static void test_config_errors(void) {
  static const struct { const char *pairs, *sentence; } bad[] = {
      {"image_height=30", "image height 30 is not a multiple of patch height 16"},
      {"image_width=33", "image width 33 is not a multiple of patch width 16"},
      {"patch_height=64", "image height 32 is not a multiple of patch height 64"},
      {"width=10", "width 10 is not a multiple of heads 3; set head_dim to choose "
                   "the width of a head yourself"},
      {"image_height=0", "image_height is 0; it must be from 1 to 1048576"},
      {"image_width=-32", "image_width is -32; it must be from 1 to 1048576"},
      {"channels=0", "channels is 0; it must be from 1 to 1048576"},
      {"patch_height=0", "patch_height is 0; it must be from 1 to 1048576"},
      {"patch_width=-1", "patch_width is -1; it must be from 1 to 1048576"},
      {"classes=0", "classes is 0; it must be from 1 to 1048576"},
      {"width=0", "width is 0; it must be from 1 to 1048576"},
      {"width=-9", "width is -9; it must be from 1 to 1048576"},
      {"depth=0", "depth is 0; it must be from 1 to 1048576"},
      {"depth=1048577", "depth is 1048577; it must be from 1 to 1048576"},
      {"heads=0", "heads is 0; it must be from 1 to 1048576"},
      {"heads=-3", "heads is -3; it must be from 1 to 1048576"},
      {"head_dim=-1", "head_dim is -1; it must be from 1 to 1048576"},
      {"mlp_width=-5", "mlp_width is -5; it must be from 1 to 1048576"},
      {"width=900000000", "width is 900000000; it must be from 1 to 1048576"},
      {"local_mask=2", "local_mask is 2; it must be an odd number (or 0 for no "
                       "mask), so that each patch is the centre of its window"},
      {"local_mask=-1", "local_mask is -1; it must be an odd number (or 0 for no "
                        "mask), so that each patch is the centre of its window"},
      {"pos_drop=-0.5", "pos_drop is -0.5; a dropout rate must be from 0 to 1"},
      {"attn_drop=1.5", "attn_drop is 1.5; a dropout rate must be from 0 to 1"},
      {"proj_drop=2", "proj_drop is 2; a dropout rate must be from 0 to 1"},
      {"hidden_drop=-1", "hidden_drop is -1; a dropout rate must be from 0 to 1"},
      {"mlp_drop=9", "mlp_drop is 9; a dropout rate must be from 0 to 1"},
      {"block_drop=-2", "block_drop is -2; a dropout rate must be from 0 to 1"},
      {"drop_path=7", "drop_path is 7; a dropout rate must be from 0 to 1"},
      {"norm_eps=0", "norm_eps is 0; it must be above 0 and below 1"},
      {"norm_eps=2", "norm_eps is 2; it must be above 0 and below 1"},
      {"class_token=0", "pool is the class token, but class_token is 0; use mean "
                        "pooling"},
      {"class_token=2", "class_token is 2; it must be from 0 to 1"},
      {"positions=4", "positions is 4; it must be from 0 to 3"},
      {"positions=3", "2-D sin-cos positions need a width that is a multiple of "
                      "4; width is 9"},
      {"qkv_bias=-1", "qkv_bias is -1; it must be from 0 to 1"},
      {"norm=2", "norm is 2; it must be from 0 to 1"},
      {"final_norm=3", "final_norm is 3; it must be from 0 to 1"},
      {"gelu=3", "gelu is 3; it must be from 0 to 2"},
      {"reg_tokens=65", "reg_tokens is 65; it must be from 0 to 64"},
      {"reg_tokens=-1", "reg_tokens is -1; it must be from 0 to 64"},
      {"pre_norm=2", "pre_norm is 2; it must be from 0 to 1"},
      {"fc_norm=-1", "fc_norm is -1; it must be from 0 to 1"},
      {"dist_token=2", "dist_token is 2; it must be from 0 to 1"},
      {"dist_token=1 pool=1", "the head of dist_token stands beside one that reads the "
                              "class token: dist_token needs pool 0 and fc_norm 0; they "
                              "are 1 and 0"},
      {"dist_token=1 fc_norm=1", "the head of dist_token stands beside one that reads the "
                                 "class token: dist_token needs pool 0 and fc_norm 0; they "
                                 "are 0 and 1"},
      {"dist_token=1 class_token=0", "pool is the class token, but class_token is 0; use "
                                     "mean pooling"},
      {"local_mask=3 reg_tokens=4", "local_mask is 3, but knows patches and the class token "
                                    "alone; set it, or dist_token (0) and reg_tokens (4), to "
                                    "0"},
      {"mlp_last_gelu=2", "mlp_last_gelu is 2; it must be from 0 to 1"},
      {"pool=2", "pool is 2; it must be from 0 to 1"},
      {"head=2", "softmax_before_loss is 2; it must be from 0 to 1"},
      {"init=3", "init is 3; it must be from 0 to 2"},
      {"zero_head=2", "zero_head is 2; it must be from 0 to 1"}};
  heap_reset(0);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    vit_config c = changed(vit_config_tutorial(), bad[i].pairs), d = c;
    vit_gradient_report report;
    vit_memory plan;
    vit_model m;
    fails(vit_config_resolve(&d), VIT_ERR_CONFIG, bad[i].sentence);
    fails(vit_model_create(&m, &c, 1), VIT_ERR_CONFIG, bad[i].sentence);
    CHECK(!m.params.block && !m.arena.block, "%s left a model", bad[i].pairs);
    fails(vit_memory_plan(&c, 1, &plan), VIT_ERR_CONFIG, bad[i].sentence);
    fails(vit_gradient_check(&c, &vit_naive, 1, 1, &report), VIT_ERR_CONFIG,
          bad[i].sentence);
  }
  CHECK(heap.calls == 0, "%d allocations", heap.calls);
}

/* What vit_config_set would not let through. */
static void test_config_not_a_number(void) {
  vit_config c = vit_config_tutorial(), d = c;
  c.hidden_drop = (float)NAN;
  CHECK(vit_config_resolve(&c) == VIT_ERR_CONFIG &&
            strstr(vit_error(), "hidden_drop is ") &&
            strstr(vit_error(), "a dropout rate must be from 0 to 1"),
        "NaN: %s", vit_error());
  d.norm_eps = (float)NAN;
  CHECK(vit_config_resolve(&d) == VIT_ERR_CONFIG &&
            strstr(vit_error(), "it must be above 0 and below 1"),
        "NaN: %s", vit_error());
  d = vit_config_tutorial();
  d.drop_path = (float)INFINITY;
  fails(vit_config_resolve(&d), VIT_ERR_CONFIG,
        "drop_path is inf; a dropout rate must be from 0 to 1");
  d = vit_config_tutorial();
  d.width = INT_MIN;
  CHECK(vit_config_resolve(&d) == VIT_ERR_CONFIG, "width INT_MIN");
}

/* Sizes that are each allowed, but not together. */
static void test_overflow(void) {
  static const char *const huge[] = {
      "width=65536 heads=1 depth=1",
      "width=1048576 heads=1 mlp_width=1048576 depth=1048576 classes=1048576",
      "heads=1048576 head_dim=1048576 width=1048576 mlp_width=1048576",
      "classes=1048576 width=3072",
      /* 2^40 tokens: their number does not fit into an int */
      "image_height=1048576 image_width=1048576 patch_height=1 patch_width=1",
      "image_height=1048576 image_width=1048576 patch_height=1 patch_width=1 "
      "positions=0",
      "image_height=1048576 image_width=1048576 patch_height=1 patch_width=1 "
      "positions=2 pool=1",
      "image_height=65536 image_width=65536 patch_height=1 patch_width=1 "
      "local_mask=3",
      /* 2^32 tokens: as an int that is 0; then -2^16 */
      "image_height=65536 image_width=65536 patch_height=1 patch_width=1 "
      "class_token=0 pool=1",
      "image_height=65536 image_width=65535 patch_height=1 patch_width=1 "
      "class_token=0 pool=1"};
  vit_config c;
  vit_memory plan;
  vit_model m;
  vit_state s;
  heap_reset(0);
  for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
    vit_result r;
    c = changed(vit_config_tutorial(), huge[i]);
    r = vit_model_create(&m, &c, 1);
    CHECK(r == VIT_ERR_OVERFLOW && strstr(vit_error(), "make "),
          "%s: result %d, %s", huge[i], (int)r, vit_error());
    if (!r) vit_model_free(&m);
    r = vit_memory_plan(&c, 1, &plan);
    CHECK(r == VIT_ERR_OVERFLOW && plan.parameters == 0, "%s: planned %lu bytes", huge[i],
          (unsigned long)plan.parameters);
    CHECK(vit_parameter_count(&c) == 0 && vit_config_resolve(&c) == VIT_ERR_OVERFLOW, "%s: counted", huge[i]);
  }
  c = changed(vit_config_tutorial(), "width=1048575 depth=1 mlp_width=1024");
  fails(vit_model_create(&m, &c, 1), VIT_ERR_OVERFLOW,
        "the model would hold 4400476060409 numbers; the most is 2147483647: "
        "make the batch, the image or the model smaller");

  /* the model is small, its batch is not */
  c = vit_config_tutorial();
  CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
  if (sizeof(size_t) > 4) {
    fails(vit_memory_plan(&c, 1 << 20, &plan), VIT_OK, "");
    CHECK(plan.training > 1000000000u, "planned %lu bytes", (unsigned long)plan.training);
  }
  CHECK(vit_state_create(&s, &m, 1 << 20, VIT_FOR_TRAINING, 1) ==
            (sizeof(size_t) > 4 ? VIT_ERR_NO_MEMORY : VIT_ERR_OVERFLOW),
        "%s", vit_error());
  vit_model_free(&m);
  c = changed(vit_config_tutorial(), "image_height=128 image_width=128");
  CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
  fails(vit_state_create(&s, &m, 1 << 20, 0, 1), VIT_ERR_OVERFLOW,
        "activation patches would hold 17179869184 numbers; the most is "
        "2147483647: make the batch, the image or the model smaller");
  CHECK(!s.arena.block && !s.capacity, "a state is left");
  fails(vit_memory_plan(&c, 1 << 20, &plan), VIT_ERR_OVERFLOW,
        "activation patches would hold 17179869184 numbers; the most is "
        "2147483647: make the batch, the image or the model smaller");
  vit_model_free(&m);
  heap_reset(0);
}

/* ---- batches ------------------------------------------------------------- */

static void test_batch_errors(void) {
  vit_config c = small_config();
  static float images[4 * 2 * 6 * 10];
  vit_memory plan;
  vit_model m;
  vit_state s;
  int classes[4];
  heap_reset(0);
  CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
  fails(vit_state_create(&s, &m, 0, 0, 1), VIT_ERR_CONFIG,
        "batch is 0; it must be from 1 to 1048576");
  fails(vit_state_create(&s, &m, -2, VIT_FOR_TRAINING, 1), VIT_ERR_CONFIG,
        "batch is -2; it must be from 1 to 1048576");
  fails(vit_memory_plan(&c, 0, &plan), VIT_ERR_CONFIG,
        "batch is 0; it must be from 1 to 1048576");
  CHECK(!vit_state_create(&s, &m, 3, 0, 1), "%s", vit_error());
  fails(vit_forward(&m, &s, images, 0), VIT_ERR_CONFIG,
        "batch of 0 images, but this state was created for 1 to 3");
  fails(vit_forward(&m, &s, images, 4), VIT_ERR_CONFIG,
        "batch of 4 images, but this state was created for 1 to 3");
  fails(vit_predict(&m, &s, images, 4, classes, NULL), VIT_ERR_CONFIG,
        "batch of 4 images, but this state was created for 1 to 3");
  CHECK(!vit_forward(&m, &s, images, 3), "%s", vit_error());
  vit_state_free(&s);
  vit_state_free(&s); /* twice does no harm */
  vit_model_free(&m);
  vit_model_free(&m);
  heap_reset(0);
}

/* ---- memory -------------------------------------------------------------- */

static size_t in_lines(size_t floats) { return (floats * 4 + 63) / 64 * 64; }

/* vit_memory_plan says what creation then asks for. */
static void check_plan(vit_config c, int batch, const char *what) {
  vit_optimizer_config adam = vit_optimizer_defaults(VIT_ADAMW);
  vit_optimizer_config sgd = vit_optimizer_defaults(VIT_SGD);
  vit_optimizer o;
  vit_memory plan;
  vit_model m;
  vit_state s;
  size_t T;
  const size_t slack = 64; /* what an arena adds to start on a line */
  heap_reset(0);
  CHECK(!vit_memory_plan(&c, batch, &plan) && heap.calls == 0, "%s", vit_error());
  if (!CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error())) return;
  T = (size_t)vit_config_tokens(&m.config);
  CHECK(plan.constants == (m.fixed_pos ? in_lines(T * (size_t)c.width) : 0) +
                              (m.mask ? in_lines(T * T) : 0),
        "%s: fixed positions and mask of %lu bytes", what,
        (unsigned long)plan.constants);
  CHECK(heap.calls == 1 && heap.bytes == plan.parameters + plan.constants + slack,
        "%s: %d allocations, the model has %lu bytes, planned %lu", what,
        heap.calls, (unsigned long)heap.bytes, (unsigned long)plan.parameters);
  CHECK(plan.parameters == in_lines(vit_parameter_count(&m.config)),
        "%s: parameters of %lu bytes", what, (unsigned long)plan.parameters);
  CHECK(!vit_state_create(&s, &m, batch, VIT_FOR_TRAINING, 1), "%s", vit_error());
  CHECK(heap.calls == 2 && heap.bytes == plan.training + plan.gradients + slack,
        "%s: training has %lu bytes, planned %lu + %lu", what,
        (unsigned long)heap.bytes, (unsigned long)plan.training,
        (unsigned long)plan.gradients);
  vit_state_free(&s);
  CHECK(!vit_state_create(&s, &m, batch, VIT_FOR_INFERENCE, 1), "%s", vit_error());
  CHECK(heap.calls == 3 && heap.bytes == plan.inference + slack,
        "%s: inference has %lu bytes, planned %lu", what,
        (unsigned long)heap.bytes, (unsigned long)plan.inference);
  vit_state_free(&s);
  CHECK(!vit_optimizer_create(&o, &m, &adam), "%s", vit_error());
  CHECK(heap.calls == 4 && heap.bytes == plan.moments + slack,
        "%s: Adam has %lu bytes, planned %lu", what, (unsigned long)heap.bytes,
        (unsigned long)plan.moments);
  vit_optimizer_free(&o);
  CHECK(!vit_optimizer_create(&o, &m, &sgd), "%s", vit_error());
  CHECK(heap.calls == 5 && heap.bytes == plan.moments / 2 + slack,
        "%s: SGD has %lu bytes", what, (unsigned long)heap.bytes);
  vit_optimizer_free(&o);
  vit_model_free(&m);
  heap_reset(0);
}

static void test_memory_plan(void) {
  check_plan(vit_config_tutorial(), 128, "tutorial");
  check_plan(vit_config_mnist(), 5, "mnist");
  check_plan(vit_config_cifar_mean(), 3, "cifar_mean");
  check_plan(vit_config_cifar_cls(), 1, "cifar_cls");
  check_plan(small_config(), 7, "small");
  check_plan(changed(small_config(), "dist_token=1 reg_tokens=5 pre_norm=1"), 3, "distilled");
  check_plan(changed(small_config(), "fc_norm=1 reg_tokens=5 positions=1"), 3, "registers");
  check_plan(changed(vit_config_local(), "image_height=32 image_width=48 width=24 "
                                         "depth=2 mlp_width=10 classes=3"),
             2, "local");
  check_plan(changed(vit_config_post_norm(), "image_height=32 image_width=48 "
                                             "width=24 depth=2 mlp_width=10"),
             2, "post_norm");
}

/* Every pointer of a state is on a 64-byte line and none overlaps the next. */
static void test_alignment(void) {
  vit_config c = changed(small_config(), "attn_drop=0.1 mlp_last_gelu=1");
  vit_model m;
  vit_state s;
  CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
  CHECK(!vit_state_create(&s, &m, 3, VIT_FOR_TRAINING | VIT_INPUT_GRADIENT, 1),
        "%s", vit_error());
  CHECK((uintptr_t)m.params.block % 64 == 0, "parameters are not aligned");
  CHECK((uintptr_t)s.grads.block % 64 == 0, "gradients are not aligned");
#define ALIGNED(field, where, unit, exists, floats)                            \
  CHECK((uintptr_t)s.field % 64 == 0, #field " is not aligned");
  VIT_ACTIVATIONS(ALIGNED)
#undef ALIGNED
  vit_state_free(&s);
  vit_model_free(&m);
  heap_reset(0);
}

static void test_no_allocation_while_running(void) {
  vit_config c = changed(small_config(), "attn_drop=0.1 drop_path=0.2 local_mask=1");
  vit_optimizer_config oc = vit_optimizer_defaults(VIT_ADAMW);
  static float images[3 * 2 * 6 * 10];
  const int labels[3] = {1, 6, 0};
  int classes[3], before;
  vit_optimizer o;
  vit_model m;
  vit_state s;
  double loss;
  oc.clip_norm = 0.01f;
  heap_reset(0);
  test_random(images, 3 * 2 * 6 * 10, 1, 1);
  CHECK(!vit_model_create(&m, &c, 1) && !vit_optimizer_create(&o, &m, &oc) &&
            !vit_state_create(&s, &m, 3, VIT_FOR_TRAINING, 1),
        "%s", vit_error());
  before = heap.calls;
  vit_zero_gradients(&s);
  vit_forward(&m, &s, images, 3);
  vit_loss(&m, &s, labels, 0.1f, &loss);
  vit_backward(&m, &s, 1);
  CHECK(!vit_optimizer_step(&o, &m, &s, 0.01f), "%s", vit_error());
  vit_predict(&m, &s, images, 3, classes, NULL);
  CHECK(heap.calls == before, "%d allocations", heap.calls - before);
  vit_state_free(&s);
  vit_optimizer_free(&o);
  vit_model_free(&m);
  heap_reset(0);
}

/* ---- no memory ----------------------------------------------------------- */

static char idx_images[80], idx_labels[80];

static vit_result run_model(void) {
  vit_config c = changed(small_config(), "local_mask=3 positions=1");
  vit_model m;
  vit_result r = vit_model_create(&m, &c, 1);
  if (r) CHECK(!m.params.block && !m.config.width, "the model is not zeroed");
  vit_model_free(&m);
  return r;
}

static vit_result run_state(void) {
  vit_config c = small_config();
  vit_model m;
  vit_state s;
  vit_result r = vit_model_create(&m, &c, 1);
  if (r) return r;
  r = vit_state_create(&s, &m, 2, VIT_FOR_TRAINING, 1);
  if (r) CHECK(!s.logits && !s.capacity, "the state is not zeroed");
  vit_state_free(&s);
  vit_model_free(&m);
  return r;
}

static vit_result run_optimizer(void) {
  vit_config c = small_config();
  vit_optimizer_config oc = vit_optimizer_defaults(VIT_ADAM);
  vit_optimizer o;
  vit_model m;
  vit_result r = vit_model_create(&m, &c, 1);
  if (r) return r;
  r = vit_optimizer_create(&o, &m, &oc);
  if (r) CHECK(!o.m.block && !o.v.block, "the optimiser is not zeroed");
  vit_optimizer_free(&o);
  vit_model_free(&m);
  return r;
}

static vit_result run_gradient_check(void) {
  vit_config c = changed(vit_config_tutorial(), "image_height=2 image_width=2 "
                                                "patch_height=1 patch_width=1 "
                                                "width=3 heads=1 depth=1");
  vit_gradient_report report;
  return vit_gradient_check(&c, &vit_naive, 2, 1, &report);
}

static vit_dataset few_images(uint8_t *pixels, uint8_t *labels, int count) {
  vit_dataset d;
  memset(&d, 0, sizeof d);
  d.count = count;
  d.channels = 2;
  d.height = 6;
  d.width = 10;
  d.classes = 7;
  d.pixels = pixels;
  d.labels = labels;
  for (int i = 0; i < count * 120; i++) pixels[i] = (uint8_t)(i * 37 % 251);
  for (int i = 0; i < count; i++) labels[i] = (uint8_t)(i % 7);
  for (int i = 0; i < 3; i++) d.std[i] = 1;
  return d;
}

static vit_result run_fit(void) {
  static uint8_t pixels[5 * 120], labels[5];
  vit_dataset d = few_images(pixels, labels, 5);
  vit_config c = small_config();
  vit_fit_config f = vit_fit_defaults();
  vit_history h;
  vit_model m;
  vit_result r = vit_model_create(&m, &c, 1);
  if (r) return r;
  m.threads = 1;
  f.epochs = 2;
  f.batch = 2;
  r = vit_fit(&m, &f, &d, &d, &h);
  CHECK(r || h.epochs == 2, "%d epochs", h.epochs);
  vit_history_free(&h);
  vit_model_free(&m);
  return r;
}

static vit_result run_evaluate(void) {
  static uint8_t pixels[5 * 120], labels[5];
  vit_dataset d = few_images(pixels, labels, 5);
  vit_config c = small_config();
  double loss, accuracy;
  vit_model m;
  vit_result r = vit_model_create(&m, &c, 1);
  if (r) return r;
  r = vit_evaluate(&m, &d, &loss, &accuracy, NULL, NULL, NULL);
  vit_model_free(&m);
  return r;
}

static vit_result run_dataset(void) {
  vit_dataset d;
  vit_result r = vit_dataset_idx(&d, idx_images, idx_labels, 10);
  if (r) {
    CHECK(!d.pixels && !d.labels && !d.count, "a failure left a dataset");
    return r;
  }
  r = vit_dataset_resize(&d, 7, 5);
  CHECK(d.pixels && d.labels && d.count == 3, "the dataset is lost");
  CHECK(d.height == (r ? 4 : 7) && d.width == (r ? 6 : 5), "size %d x %d",
        d.height, d.width);
  vit_dataset_free(&d);
  return r;
}

static vit_result run_safetensors(void) {
  vit_safetensors f;
  vit_result r =
      vit_safetensors_open(&f, "tests/fixtures/model_c.safetensors");
  if (r) CHECK(!f.bytes && !f.entries && !f.count, "a failure left a file");
  vit_safetensors_close(&f);
  return r;
}

/* Let the first allocation fail, then the second, ... until all succeed. */
static void check_failing(vit_result (*run)(void), int at_least) {
  int n = 1;
  for (; n < 200; n++) {
    vit_result r;
    heap_reset(n);
    r = run();
    CHECK(heap.live == 0, "%d blocks are left after allocation %d failed",
          heap.live, n);
    heap.live = 0;
    if (heap.calls < n) {
      CHECK(r == VIT_OK, "without a failure: %s", vit_error());
      break;
    }
    CHECK(r == VIT_ERR_NO_MEMORY && !strncmp(vit_error(), "out of memory: ", 15),
          "allocation %d failed: result %d, %s", n, (int)r, vit_error());
  }
  CHECK(n > at_least && n < 200, "%d allocations, expected %d", n - 1, at_least);
  heap_reset(0);
}

static void test_failing_model(void) { check_failing(run_model, 1); }
static void test_failing_state(void) { check_failing(run_state, 2); }
static void test_failing_optimizer(void) { check_failing(run_optimizer, 2); }
static void test_failing_gradient_check(void) {
  check_failing(run_gradient_check, 4);
}
static void test_failing_fit(void) { check_failing(run_fit, 3); }
static void test_failing_evaluate(void) { check_failing(run_evaluate, 3); }
static void test_failing_safetensors(void) { check_failing(run_safetensors, 1); }

static void test_failing_dataset(void) {
  static const unsigned char head[16] = {0, 0, 8, 3, 0, 0, 0, 3,
                                         0, 0, 0, 4, 0, 0, 0, 6};
  static const unsigned char names[11] = {0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9};
  unsigned char pixels[3 * 4 * 6];
  FILE *f;
  vit_make_dir("build");
  snprintf(idx_images, sizeof idx_images, "build/test_06_%ld_images", (long)getpid());
  snprintf(idx_labels, sizeof idx_labels, "build/test_06_%ld_labels", (long)getpid());
  memset(pixels, 99, sizeof pixels);
  f = fopen(idx_images, "wb");
  if (!CHECK(f != NULL, "cannot write %s", idx_images)) return;
  fwrite(head, 1, sizeof head, f);
  fwrite(pixels, 1, sizeof pixels, f);
  fclose(f);
  f = fopen(idx_labels, "wb");
  if (!CHECK(f != NULL, "cannot write %s", idx_labels)) return;
  fwrite(names, 1, sizeof names, f);
  fclose(f);
  check_failing(run_dataset, 3);
  remove(idx_images);
  remove(idx_labels);
}

/* ---- initial values ------------------------------------------------------ */

static float largest(const float *x, size_t n) {
  float top = 0;
  for (size_t i = 0; i < n; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
  return top;
}

static double spread(const float *x, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
  return sqrt(sum / (double)n);
}

/* Biases 0, norm weights 1; weights within `limit` (or of this std, if
   `normal`). */
static void check_weight(const vit_model *m, const char *name, float limit,
                         int normal) {
  vit_tensor t;
  const float *w;
  vit_tensor_find(&m->config, name, &t);
  w = m->params.block + t.offset;
  if (normal)
    CHECK(fabs(spread(w, t.count) / (double)limit - 1) < 0.1, "%s: std %g, not %g",
          name, spread(w, t.count), (double)limit);
  else
    CHECK(largest(w, t.count) <= limit && largest(w, t.count) > 0.9f * limit,
          "%s: largest %g, limit %g", name, (double)largest(w, t.count),
          (double)limit);
}

static void test_initial_values(void) {
  vit_config c = changed(vit_config_mnist(), "depth=2 dist_token=1 reg_tokens=9 pre_norm=1");
  vit_tensor t;
  vit_model m;
  float same = 0;
  heap_reset(0);
  for (int init = 0; init < 3; init++) {
    c.init = (vit_init)init;
    CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
    for (int i = 0; vit_tensor_at(&m.config, i, &t); i++) {
      const float *w = m.params.block + t.offset;
      int bias = strstr(t.name, "bias") != NULL, norm = strstr(t.name, "norm") != NULL;
      for (size_t j = 0; norm && j < t.count; j++)
        CHECK(w[j] == (bias ? 0 : 1), "%s starts at %g", t.name, (double)w[j]);
      if (bias && init != VIT_INIT_TORCH)
        CHECK(largest(w, t.count) == 0, "%s does not start at 0", t.name);
      if (!bias || (init == VIT_INIT_TORCH && !norm))
        CHECK(largest(w, t.count) > 0, "%s starts at 0", t.name);
    }
    if (init == VIT_INIT_VIT) {
      check_weight(&m, "blocks.1.attn.qkv.weight", 0.02f, 1);
      check_weight(&m, "pos_embed", 0.02f, 1);
      check_weight(&m, "patch_embed.proj.weight", 0.02f, 1);
    } else if (init == VIT_INIT_TORCH) { /* 1 / sqrt(inputs), biases as well */
      check_weight(&m, "blocks.1.mlp.fc2.weight", 1 / sqrtf(128), 0);
      check_weight(&m, "blocks.1.mlp.fc2.bias", 1 / sqrtf(128), 0);
      check_weight(&m, "patch_embed.proj.weight", 1 / sqrtf(16), 0);
      check_weight(&m, "pos_embed", 1, 1);
      check_weight(&m, "reg_token", 1, 1);
      check_weight(&m, "head_dist.bias", 0.125f, 0);
    } else { /* sqrt(6 / (inputs + outputs)) */
      check_weight(&m, "blocks.0.mlp.fc1.weight", sqrtf(6.0f / 192), 0);
      check_weight(&m, "blocks.0.attn.qkv.weight", sqrtf(6.0f / 128), 0);
      check_weight(&m, "head.weight", sqrtf(6.0f / 74), 0);
    }
    /* no two tensors begin alike */
    CHECK(m.params.block[m.params.count / 2] != same, "tensors repeat");
    same = m.params.block[m.params.count / 2];
    vit_model_free(&m);
  }
  c = changed(c, "init=1 zero_head=1");
  CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
  CHECK(largest(m.params.head_w, 640) == 0 && largest(m.params.head_b, 10) == 0 &&
            largest(m.params.head_dist_w, 640) == 0,
        "the head does not start at zero");
  vit_model_free(&m);
  heap_reset(0);
}

static void test_seeds(void) {
  vit_config c = small_config();
  vit_model a, b, other;
  CHECK(!vit_model_create(&a, &c, 5) && !vit_model_create(&b, &c, 5) &&
            !vit_model_create(&other, &c, (uint64_t)5 << 32),
        "%s", vit_error());
  CHECK_SAME_BITS("seed 5", a.params.block, b.params.block, a.params.count);
  CHECK(memcmp(a.params.patch_w, other.params.patch_w, 100), "seeds give the same");
  vit_model_free(&a);
  vit_model_free(&b);
  vit_model_free(&other);
  heap_reset(0);
}

/* ---- dropout, predict, attention ----------------------------------------- */

static void test_dropout(void) {
  static const char *const kinds[] = {"pos_drop",    "attn_drop", "proj_drop",
                                      "hidden_drop", "mlp_drop",  "block_drop",
                                      "drop_path"};
  static float images[3 * 120];
  test_random(images, 3 * 120, 1, 4);
  heap_reset(0);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    const float rates[3] = {0, 0.4f, 1};
    float first[21], plain[21];
    for (int n = 0; n < 3; n++) {
      vit_config c = changed(small_config(), "norm_eps=0.001");
      char text[40];
      vit_model m;
      vit_state s, infer;
      int classes[3];
      snprintf(text, sizeof text, "%s=%g", kinds[i], (double)rates[n]);
      c = changed(c, text);
      CHECK(!vit_model_create(&m, &c, 3), "%s", vit_error());
      m.threads = 1;
      CHECK(!vit_state_create(&s, &m, 3, VIT_FOR_TRAINING, 8), "%s", vit_error());
      CHECK(!vit_state_create(&infer, &m, 3, VIT_FOR_INFERENCE, 9), "%s", vit_error());
      vit_forward(&m, &infer, images, 3);
      memcpy(plain, infer.logits, sizeof plain);
      vit_forward(&m, &s, images, 3);
      memcpy(first, s.logits, sizeof first);
      for (int k = 0; k < 21; k++)
        CHECK(fabsf(first[k]) < 1e6f, "%s: logit %g", text, (double)first[k]);
      CHECK((memcmp(first, plain, sizeof plain) != 0) == (rates[n] > 0),
            "%s: dropout %s", text, rates[n] > 0 ? "does nothing" : "is not off");
      vit_forward(&m, &s, images, 3); /* the next pass has another mask */
      if (n == 1)
        CHECK(memcmp(first, s.logits, sizeof first), "%s: the mask repeats", text);
      s.forwards = 0; /* and the first pass has its own again */
      vit_forward(&m, &s, images, 3);
      CHECK_SAME_BITS(text, s.logits, first, 21);
      CHECK(!vit_predict(&m, &s, images, 3, classes, NULL), "%s", vit_error());
      CHECK_SAME_BITS("predict is without dropout", s.logits, plain, 21);
      CHECK(s.dropout == 1, "predict left dropout off");
      s.dropout = 0;
      vit_forward(&m, &s, images, 3);
      CHECK_SAME_BITS("dropout switched off", s.logits, plain, 21);
      vit_state_free(&s);
      vit_state_free(&infer);
      vit_model_free(&m);
    }
  }
  heap_reset(0);
}

/* What is not dropped grows by 1 / (1 - rate), so that the mean stays. */
static void test_dropout_scale(void) {
  const vit_kernels *tables[2] = {&vit_naive, vit_best_kernels()};
  vit_config c = changed(small_config(), "pos_drop=0.4 width=80 heads=4");
  static float images[6 * 120];
  const int n = 6 * 5 * 80; /* B, T, D */
  test_random(images, 6 * 120, 1, 4);
  heap_reset(0);
  for (int i = 0; i < 2; i++) {
    int dropped = 0;
    vit_model m;
    vit_state s, infer;
    CHECK(!vit_model_create(&m, &c, 3), "%s", vit_error());
    m.kernels = tables[i];
    m.threads = 1;
    CHECK(!vit_state_create(&s, &m, 6, VIT_FOR_TRAINING, 8) &&
              !vit_state_create(&infer, &m, 6, VIT_FOR_INFERENCE, 9),
          "%s", vit_error());
    vit_forward(&m, &infer, images, 6);
    vit_forward(&m, &s, images, 6);
    for (int k = 0; k < n; k++) {
      float want = infer.tokens[k] / 0.6f;
      dropped += s.tokens[k] == 0;
      CHECK(s.tokens[k] == 0 || fabsf(s.tokens[k] - want) < 1e-5f,
            "%s: token %g became %g", tables[i]->name, (double)infer.tokens[k],
            (double)s.tokens[k]);
    }
    CHECK(abs(dropped - n * 2 / 5) < n / 25, "%d of %d were dropped", dropped, n);
    vit_state_free(&s);
    vit_state_free(&infer);
    vit_model_free(&m);
  }
  heap_reset(0);
}

static void test_predict(void) {
  vit_config c = small_config();
  static float images[4 * 120], p[28];
  int classes[4];
  vit_model m;
  vit_state s;
  heap_reset(0);
  test_random(images, 4 * 120, 2, 11);
  CHECK(!vit_model_create(&m, &c, 3) && !vit_state_create(&s, &m, 5, 0, 1), "%s",
        vit_error());
  CHECK(!vit_predict(&m, &s, images, 4, classes, p), "%s", vit_error());
  for (int b = 0; b < 4; b++) {
    double sum = 0;
    for (int k = 0; k < 7; k++) {
      sum += (double)p[b * 7 + k];
      CHECK(p[b * 7 + k] <= p[b * 7 + classes[b]], "image %d: not the largest", b);
    }
    CHECK(fabs(sum - 1) < 1e-5, "image %d: probabilities sum to %g", b, sum);
  }
  /* of equal logits, the first class */
  memset(m.params.head_w, 0, 7 * 8 * sizeof(float));
  memset(m.params.head_b, 0, 7 * sizeof(float));
  vit_predict(&m, &s, images, 4, classes, NULL);
  CHECK(classes[0] == 0 && classes[3] == 0, "class %d", classes[0]);
  vit_state_free(&s);
  vit_model_free(&m);
  heap_reset(0);
}

static void test_attention(void) {
  vit_config c = changed(small_config(), "image_height=9 image_width=15 "
                                         "local_mask=3 positions=1");
  static float images[2 * 2 * 9 * 15];
  const int T = 10;
  vit_model m;
  vit_state s;
  heap_reset(0);
  test_random(images, 2 * 270, 2, 12);
  CHECK(!vit_model_create(&m, &c, 3) &&
            !vit_state_create(&s, &m, 3, VIT_KEEP_ATTENTION, 1),
        "%s", vit_error());
  CHECK(!vit_attention(&m, &s, 0, 0, 0), "attention before the first pass");
  vit_forward(&m, &s, images, 2);
  CHECK(!vit_attention(&m, &s, -1, 0, 0) && !vit_attention(&m, &s, 3, 0, 0) &&
            !vit_attention(&m, &s, 0, -1, 0) && !vit_attention(&m, &s, 0, 2, 0) &&
            !vit_attention(&m, &s, 0, 0, -1) && !vit_attention(&m, &s, 0, 0, 2),
        "attention outside the model");
  for (int l = 0; l < 3; l++)
    for (int h = 0; h < 2; h++) {
      const float *p = vit_attention(&m, &s, l, 1, h);
      if (!CHECK(p != NULL, "no attention")) continue;
      CHECK(l == 0 || memcmp(p, vit_attention(&m, &s, 0, 1, h), (size_t)(T * T) * sizeof *p) != 0,
            "layer %d has the attention of layer 0", l);
      for (int i = 0; i < T; i++) {
        double sum = 0;
        for (int j = 0; j < T; j++) {
          const float a = p[i * T + j];
          /* patches 0 (corner) and 8 (the other corner) are 2 apart */
          const int far = i && j && (abs((i - 1) / 3 - (j - 1) / 3) > 1 ||
                                     abs((i - 1) % 3 - (j - 1) % 3) > 1);
          CHECK(far ? a == 0 : a > 0, "token %d looks at %d with %g", i, j,
                (double)a);
          sum += (double)a;
        }
        CHECK(fabs(sum - 1) < 1e-5, "row %d sums to %g", i, sum);
      }
    }
  vit_model_free(&m);
  CHECK(!vit_attention(&m, &s, 0, 0, 0), "attention of no model");
  c.depth = 30;
  CHECK(!vit_model_create(&m, &c, 3), "%s", vit_error());
  CHECK(!vit_attention(&m, &s, 29, 0, 0) && strstr(vit_error(), "another model"), "%s", vit_error());
  vit_state_free(&s);
  vit_model_free(&m);
  memset(&c, 0, sizeof c);
  CHECK(vit_config_patches(&c) == 0 && vit_config_tokens(&c) == 0, "patches of nothing");
  heap_reset(0);
}

/* Of the last block only the class token is read, so only its row of attention
   is there in every state, and all rows where they are asked for. Asking changes
   no bit of what is trained. */
static void test_class_attention(void) {
  const vit_kernels *tables[2] = {&vit_naive, vit_best_kernels()};
  static const int flags[4] = {VIT_FOR_TRAINING,
                               VIT_FOR_TRAINING | VIT_KEEP_ATTENTION,
                               VIT_FOR_INFERENCE, VIT_KEEP_ATTENTION};
  static float images[3 * 270];
  const int labels[3] = {1, 0, 2}, T = 10;
  heap_reset(0);
  test_random(images, 3 * 270, 2, 12);
  for (int kind = 0; kind < 8; kind++) {
    vit_config c = changed(small_config(), "image_height=9 image_width=15 "
                                           "attn_drop=0.2 hidden_drop=0.1");
    vit_model m;
    vit_state s[4];
    double loss;
    c.norm = kind & 1 ? VIT_NORM_POST : VIT_NORM_PRE;
    c.local_mask = kind & 2 ? 3 : 0;
    if (!CHECK(!vit_model_create(&m, &c, 3), "%s", vit_error())) return;
    m.kernels = tables[kind / 4];
    for (int i = 0; i < 4; i++) {
      CHECK(!vit_state_create(&s[i], &m, 3, flags[i], 1), "%s", vit_error());
      CHECK(!vit_class_attention(&m, &s[i], 0, 0), "attention of no forward");
      CHECK(!vit_forward(&m, &s[i], images, 3), "%s", vit_error());
      for (int h = 0; h < c.heads; h++) {
        const float *row = vit_class_attention(&m, &s[i], 2, h);
        const float *all = vit_attention(&m, &s[i], c.depth - 1, 2, h);
        double sum = 0;
        if (!CHECK(row != NULL, "%s", vit_error())) continue;
        for (int t = 0; t < T; t++) sum += (double)row[t];
        CHECK(fabs(sum - 1) < 1e-5, "the class token's row sums up to %g", sum);
        CHECK((all != NULL) == (flags[i] & VIT_KEEP_ATTENTION) / 2,
              "state %d: attention of the last block", i);
        if (all) CHECK_SAME_BITS("row 0", all, row, T);
        if (i % 2) /* the states 0, 1 have dropout, 2 and 3 have none */
          CHECK_SAME_BITS("in both states", row,
                          vit_class_attention(&m, &s[i - 1], 2, h), T);
        if (all) CHECK(all[T] > 0 && memcmp(all, all + T, (size_t)T * sizeof *all),
                       "row 1 is row 0");
      }
      if (i == 0 && !vit_attention(&m, &s[i], c.depth - 1, 0, 0))
        CHECK(strstr(vit_error(), "vit_class_attention"), "%s", vit_error());
      CHECK(!vit_class_attention(&m, &s[i], 3, 0), "attention of a fourth image");
      if (i > 1) continue;
      CHECK(!vit_loss(&m, &s[i], labels, 0, &loss) && !vit_backward(&m, &s[i], 1),
            "%s", vit_error());
    }
    CHECK_SAME_BITS("gradients", s[0].grads.block, s[1].grads.block, s[0].grads.count);
    for (int i = 0; i < 4; i++) vit_state_free(&s[i]);
    vit_model_free(&m);
  }
  heap_reset(0);
}

/* Registers and a distillation token: T counts them, attention has rows for them.
   Where two heads read two tokens, the last block makes all rows. */
static void test_extra_tokens(void) {
  static const char *const kinds[] = {"reg_tokens=3", "reg_tokens=2 dist_token=1"};
  static float images[2 * 120];
  heap_reset(0);
  test_random(images, 2 * 120, 2, 12);
  for (int kind = 0; kind < 2; kind++) {
    vit_config c = changed(small_config(), kinds[kind]);
    vit_model m;
    vit_state train, infer;
    const float *row, *all, *x;
    double sum = 0;
    if (!CHECK(!vit_model_create(&m, &c, 3) && vit_config_tokens(&m.config) == 8 &&
                   !vit_state_create(&train, &m, 2, VIT_FOR_TRAINING, 1) &&
                   !vit_state_create(&infer, &m, 2, VIT_FOR_INFERENCE, 1) &&
                   !vit_forward(&m, &train, images, 2) && !vit_forward(&m, &infer, images, 2),
               "%s", vit_error()))
      return;
    row = vit_class_attention(&m, &train, 1, 1);
    all = vit_attention(&m, &train, c.depth - 1, 1, 1);
    for (int t = 0; row && t < 8; t++) sum += (double)row[t];
    CHECK(fabs(sum - 1) < 1e-5, "the class token's row sums up to %g", sum);
    CHECK(kind ? row == all : !all, "%s: attention of the last block", kinds[kind]);
    CHECK((vit_class_attention(&m, &infer, 1, 1) == NULL) == kind, "%s in inference", kinds[kind]);
    x = train.tokens + 2 * 8 * c.width; /* the last tokens of image 1 */
    CHECK_SAME_BITS("registers", x - m.config.reg_tokens * c.width, m.params.reg_token,
                    m.config.reg_tokens * c.width);
    if (kind) CHECK_SAME_BITS("distillation", x - 3 * c.width, m.params.dist_token, c.width);
    vit_state_free(&train);
    vit_state_free(&infer);
    vit_model_free(&m);
  }
  heap_reset(0);
}

/* Its gradients would go to tensors that are not there, or to the wrong ones. */
static void test_state_of_another_model(void) {
  static const char *const other[] = {"qkv_bias=0", "positions=0", "depth=2", "head_dim=6",
                                      "reg_tokens=1", "dist_token=1", "pre_norm=1", "fc_norm=1",
                                      "pool=1"};
  static float images[2 * 120];
  vit_config c = small_config();
  vit_model m, n;
  vit_state s;
  vit_tensor t;
  heap_reset(0);
  CHECK(!vit_model_create(&m, &c, 3) && !vit_state_create(&s, &m, 2, VIT_FOR_TRAINING, 1), "%s",
        vit_error());
  for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
    vit_config d = changed(small_config(), other[i]);
    CHECK(!vit_model_create(&n, &d, 3), "%s", vit_error());
    CHECK(vit_forward(&n, &s, images, 1) == VIT_ERR_STATE, "%s is taken", other[i]);
    vit_model_free(&n);
  }
  vit_state_free(&s);
  vit_model_free(&m);
  c.heads = 5;
  c.head_dim = 0;
  CHECK(vit_tensor_find(&c, "head.weight", &t) && !strstr(vit_error(), "no tensor"), "%s", vit_error());
  heap_reset(0);
}

/* ---- packed for inference ------------------------------------------------ */

static void check_refused(vit_result r, const char *what) {
  CHECK(r == VIT_ERR_STATE && strstr(vit_error(), "packed"), "%s: %d, %s", what,
        (int)r, vit_error());
}

/* A packed model gives the same bits, refuses what needs its weights in order,
   and is the same model again when it is unpacked. */
static void test_packed(void) {
  vit_config c = changed(small_config(), "width=32 heads=2 head_dim=8 "
                                         "mlp_width=48 classes=7");
  static float images[4 * 120], plain[28], before[20000];
  vit_optimizer_config oc = vit_optimizer_defaults(VIT_ADAMW);
  vit_optimizer o;
  vit_model m;
  vit_state s, train;
  double loss;
  const int labels[2] = {0, 1};
  heap_reset(0);
  test_random(images, 4 * 120, 2, 13);
  for (int naive = 0; naive < 2; naive++) {
    CHECK(!vit_model_create(&m, &c, 3) && !vit_state_create(&s, &m, 4, 0, 1) &&
              !vit_state_create(&train, &m, 2, VIT_FOR_TRAINING, 1) &&
              !vit_optimizer_create(&o, &m, &oc),
          "%s", vit_error());
    if (naive) m.kernels = &vit_naive;
    CHECK(m.params.count <= 20000, "%.0f parameters", (double)m.params.count);
    memcpy(before, m.params.block, m.params.count * sizeof(float));
    vit_forward(&m, &s, images, 4);
    memcpy(plain, s.logits, sizeof plain);
    vit_forward(&m, &train, images, 2);
    vit_loss(&m, &train, labels, 0, &loss);
    CHECK(!vit_model_pack(&m) && !vit_model_pack(&m), "%s", vit_error());
    CHECK(memcmp(before, m.params.block, m.params.count * sizeof(float)),
          "packing moved nothing");
    CHECK(!vit_forward(&m, &s, images, 4), "%s", vit_error());
    CHECK_SAME_BITS("packed", s.logits, plain, 28);
    check_refused(vit_backward(&m, &train, 1), "backward");
    check_refused(vit_optimizer_step(&o, &m, &train, 0.1f), "step");
    vit_state_free(&train);
    check_refused(vit_state_create(&train, &m, 2, VIT_FOR_TRAINING, 1), "state");
    CHECK(!vit_model_unpack(&m) && !vit_model_unpack(&m), "%s", vit_error());
    CHECK_SAME_BITS("unpacked", m.params.block, before, m.params.count);
    vit_optimizer_free(&o);
    vit_state_free(&s);
    vit_model_free(&m);
  }
  CHECK(vit_model_pack(&m) == VIT_ERR_STATE, "packed what is not there");
  heap_reset(0);
}

/* Many tokens: the queries of a head go in several parts, in one place if the
   probabilities are not kept. No bit may depend on that, or on the threads. */
static void test_many_tokens(void) {
  vit_config c = changed(small_config(), "image_height=51 image_width=100 "
                                         "depth=2 classes=3");
  float *images, logits[6];
  vit_model m;
  vit_state s;
  int T = vit_config_tokens(&c);
  heap_reset(0);
  CHECK(T > 300, "%d tokens", T);
  images = (float *)malloc(2 * 2 * 51 * 100 * sizeof *images);
  test_random(images, 2 * 2 * 51 * 100, 2, 14);
  CHECK(!vit_model_create(&m, &c, 3), "%s", vit_error());
  for (int way = 0; way < 9; way++) {
    static const int flags[3] = {VIT_FOR_TRAINING | VIT_KEEP_ATTENTION,
                                 VIT_KEEP_ATTENTION, VIT_FOR_INFERENCE};
    if (vit_state_create(&s, &m, 2, flags[way % 3], 1)) break;
    m.threads = 1 + way / 3 * 2; /* 1, 3, 5: also more than images, than heads */
    vit_forward(&m, &s, images, 2);
    if (way == 0) memcpy(logits, s.logits, sizeof logits);
    CHECK_SAME_BITS("logits", s.logits, logits, 6);
    if (way % 3 < 2) {
      const float *p = vit_attention(&m, &s, 1, 1, 1);
      for (int i = 0; p && i < T; i++) {
        double sum = 0;
        for (int j = 0; j < T; j++) sum += (double)p[i * T + j];
        CHECK(fabs(sum - 1) < 1e-5, "way %d, row %d sums to %g", way, i, sum);
      }
    }
    vit_state_free(&s);
  }
  vit_model_free(&m);
  free(images);
  heap_reset(0);
}

/* Names that fields had in files of before. */
static void test_old_names(void) {
  vit_config c = vit_config_tutorial();
  CHECK(!vit_config_set(&c, "head", "0") && c.softmax_before_loss == 0, "head: %s", vit_error());
  CHECK(!vit_config_set(&c, "layer_drop", "0.25") && c.block_drop == 0.25f, "layer_drop: %s",
        vit_error());
}

/* A table with a hole, or none: what is missing has a name. */
static void test_missing_kernels(void) {
  const vit_config c = changed(vit_config_tutorial(), "depth=1");
  static float image[32 * 32];
  vit_kernels own = vit_naive;
  vit_gradient_report report;
  vit_model m;
  vit_state s;
  int guess;
  CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
  CHECK(!vit_state_create(&s, &m, 1, VIT_FOR_TRAINING, 1), "%s", vit_error());
  m.kernels = NULL;
  fails(vit_predict(&m, &s, image, 1, &guess, NULL), VIT_ERR_CONFIG,
        "the model's kernels are NULL; point them at a table, such as vit_best_kernels()");
  own.name = "my own";
  own.gelu_forward = NULL;
  m.kernels = &own;
  fails(vit_forward(&m, &s, image, 1), VIT_ERR_CONFIG,
        "the kernel table \"my own\" has no gelu_forward; begin with a copy of a whole table, such "
        "as vit_naive, and replace kernels in it");
  CHECK(vit_gradient_check(&c, &own, 2, 1, &report) == VIT_ERR_CONFIG, "checked with a hole");
  memset(&own, 0, sizeof own);
  CHECK(vit_forward(&m, &s, image, 1) == VIT_ERR_CONFIG && strstr(vit_error(), "table \"\" has no"),
        "an empty table: %s", vit_error());
  vit_state_free(&s);
  vit_model_free(&m);
}

/* A pixel or a weight that is not a finite number gives no class. */
static void test_not_finite(void) {
  static const float bad[] = {NAN, INFINITY, -INFINITY};
  const vit_kernels *tables[] = {&vit_naive, vit_best_kernels()};
  static float images[2 * 32 * 32];
  const vit_config c = vit_config_tutorial();
  vit_model m;
  vit_state s;
  int classes[2];
  CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
  CHECK(!vit_state_create(&s, &m, 2, VIT_FOR_INFERENCE, 1), "%s", vit_error());
  for (int i = 0; i < 6; i++) {
    float *weight = m.params.head_w + 3, was = *weight;
    m.kernels = tables[i % 2];
    images[1024 + 77] = bad[i / 2];
    fails(vit_predict(&m, &s, images, 2, classes, NULL), VIT_ERR_DIVERGED,
          "a logit of image 1 is not a finite number: are all pixels and all weights finite?");
    images[1024 + 77] = 0;
    *weight = bad[i / 2];
    CHECK(vit_predict(&m, &s, images, 2, classes, NULL) == VIT_ERR_DIVERGED, "weight %g", (double)*weight);
    *weight = was;
    CHECK(!vit_predict(&m, &s, images, 2, classes, NULL), "%s", vit_error());
  }
  vit_state_free(&s);
  vit_model_free(&m);
}

static void test_max_difference(void) {
  const float a[] = {1, -2, 3, 4}, b[] = {1, 2, 3, 3.5f}, c[] = {NAN, 0, 0, 0};
  CHECK(vit_max_difference(a, b, 4) == 4 && vit_max_difference(a, b, 1) == 0, "difference %g",
        vit_max_difference(a, b, 4));
  for (int i = 0; i < 2; i++) { /* what is not a number stays, whatever follows */
    const double d = i ? vit_max_difference(a, c, 4) : vit_max_difference(c, a, 4);
    CHECK(d != d, "difference %g from NaN", d);
  }
}

int main(void) {
  RUN(test_parameter_counts);
  RUN(test_tensor_table);
  RUN(test_tensor_order);
  RUN(test_pointers);
  RUN(test_config_fields);
  RUN(test_resolve);
  RUN(test_config_errors);
  RUN(test_config_not_a_number);
  RUN(test_overflow);
  RUN(test_batch_errors);
  RUN(test_memory_plan);
  RUN(test_alignment);
  RUN(test_no_allocation_while_running);
  RUN(test_failing_model);
  RUN(test_failing_state);
  RUN(test_failing_optimizer);
  RUN(test_failing_gradient_check);
  RUN(test_failing_fit);
  RUN(test_failing_evaluate);
  RUN(test_failing_safetensors);
  RUN(test_failing_dataset);
  RUN(test_initial_values);
  RUN(test_seeds);
  RUN(test_dropout);
  RUN(test_dropout_scale);
  RUN(test_predict);
  RUN(test_attention);
  RUN(test_class_attention);
  RUN(test_extra_tokens);
  RUN(test_state_of_another_model);
  RUN(test_packed);
  RUN(test_many_tokens);
  RUN(test_old_names);
  RUN(test_missing_kernels);
  RUN(test_not_finite);
  RUN(test_max_difference);
  return test_end("06_model");
}
