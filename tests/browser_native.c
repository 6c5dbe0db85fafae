/* What the page computes, computed here: tests/test_browser.sh compares them.
     browser_native logits FILE   ten of the page's digits: logits, a line each
     browser_native occlusion FILE DIGIT   vit_occlusion's map of one of them
     browser_native make FILE FIELD=VALUE...   an untrained model for digits; int8=1 quantizes it
     browser_native time          ms of a forward of the MNIST model: B = 1, 8 */
#include "../examples/15_browser/glue.c"

static int give(int digit) {
  page_draw_digit(picture, digit, 10 + digit);
  return page_look();
}

static int print_logits(void) {
  for (int digit = 0; digit < 10; digit++) {
    if (give(digit)) return 1;
    for (int k = 0; k < seen.model.config.classes; k++) printf("%.9g ", (double)seen.state.logits[k]);
    puts("");
  }
  return 0;
}

static int print_occlusion(int digit) {
  vit_question q;
  if (give(digit)) return 1;
  q.m = &seen.model, q.s = &seen.group, q.image = seen.image, q.baseline = seen.baseline, q.k = digit;
  if (page_result(vit_occlusion(&q, seen.map))) return 1;
  for (int n = 0; n < vit_config_patches(&seen.model.config); n++) printf("%.9g ", (double)seen.map[n]);
  puts("");
  return 0;
}

static int print_times(void) {
  for (int B = 1; B <= 8; B += 7) {
    double best = 1e9;
    for (int i = 0; i < 100; i++) {
      const double start = vit_seconds();
      double t;
      if (page_forwards(B, B > 1 ? 1 : 5)) return 1;
      t = (vit_seconds() - start) / (B > 1 ? 1 : 5);
      if (t < best) best = t;
    }
    printf("%.5f\n", 1e3 * best);
  }
  return 0;
}

/* Its parameters are large enough that attention is not flat. */
static int make(const char *file, char **settings, int count) {
  vit_config c = vit_config_mnist();
  vit_model m;
  vit_rng rng = vit_rng_create(3, 0);
  int quantize = 0;
  c.width = 12, c.depth = 2, c.heads = 3, c.mlp_width = 20, c.patch_height = c.patch_width = 7, c.head_dim = 0;
  for (int i = 0; i < count; i++) {
    char *value = strchr(settings[i], '=');
    if (!value) return page_fail("FIELD=VALUE, please");
    *value = 0;
    if (!strcmp(settings[i], "int8")) quantize = 1;
    else if (page_result(vit_config_set(&c, settings[i], value + 1))) return 1;
  }
  if (page_result(vit_model_create(&m, &c, 1))) return 1;
  for (size_t i = 0; i < m.params.count; i++) m.params.block[i] += 0.3f * vit_random_normal(&rng);
  if (quantize && page_result(vit_model_quantize(&m))) return 1;
  return page_result(vit_model_save(&m, NULL, file));
}

int main(int argc, char **argv) {
  int wrong;
  if (argc < 2) return 1;
  if (!strcmp(argv[1], "make")) wrong = argc > 2 ? make(argv[2], argv + 3, argc - 3) : 1;
  else wrong = argc > 2 ? page_open(argv[2]) : 0;
  if (!wrong && !strcmp(argv[1], "logits")) wrong = print_logits();
  if (!wrong && !strcmp(argv[1], "occlusion")) wrong = print_occlusion(atoi(argv[3]));
  if (!wrong && !strcmp(argv[1], "time")) wrong = print_times();
  if (wrong) puts(page_error());
  return wrong;
}
