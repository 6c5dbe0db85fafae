/* Models of other libraries: fixtures/pretrained has one of each family, tiny,
   with what the library computes in double; see fixtures/make_pretrained.py.
   Also what is refused, and with which sentence; positions at other sizes; and
   what is written for others. */
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

/* Logits of two images, compared with the file of what is expected. */
static void same_logits(const vit_model *m, const char *name) {
  char key[100];
  const vit_config *c = &m->config;
  float *x = images(c->image_height, c->image_width, c->channels), *want;
  vit_safetensor t;
  vit_state s;
  snprintf(key, sizeof key, "logits/%s", name);
  if (!CHECK(!vit_safetensors_find(&expected, key, &t), "%s", vit_error())) return;
  if (!CHECK(t.dims == 2 && t.shape[0] == 2 && t.shape[1] == c->classes, "%s: %d classes, not %d", name, c->classes, t.shape[1])) return;
  want = (float *)malloc(t.count * sizeof *want);
  if (!want) exit(1);
  memcpy(want, t.data, t.count * sizeof *want);
  CHECK(!vit_state_create(&s, m, 2, VIT_FOR_INFERENCE, 0) && !vit_forward(m, &s, x, 2), "%s: %s", name, vit_error());
  CHECK_CLOSE(name, s.logits, want, (int)t.count, 1e-5, 1e-5);
  vit_state_free(&s);
  free(want);
  free(x);
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
    char path[200];
    vit_model m;
    vit_pretrained_report p;
    snprintf(path, sizeof path, HERE "%s%s", name, families[i].file);
    if (folder_of_it) snprintf(path, sizeof path, HERE "timm_clip_quick");
    if (!CHECK(!vit_pretrained_open(&m, path, &c, NULL, &p), "%s: %s", name, vit_error())) continue;
    same_logits(&m, name);
    CHECK(!strcmp(p.dialect, families[i].dialect) && !strcmp(p.prefix, families[i].prefix) && p.folded == families[i].folded &&
              p.left == families[i].left && p.head == families[i].head && !p.resampled && p.rows == 4 && p.cols == 4,
          "%s: %s", name, p.text);
    vit_model_free(&m);
  }
  no_leak("families");
}

int main(void) {
  snprintf(folder, sizeof folder, "build/test_13_pretrained_%ld", (long)getpid());
  folder_of("");
  if (vit_safetensors_open(&expected, HERE "expected.safetensors")) return puts(vit_error()), 1;
  heap.live = 0;
  RUN(test_families);
  remove_all();
  return test_end("13_pretrained");
}
