/* What the page computes, computed here: tests/test_browser.sh compares them.
     browser_native logits FILE   ten of the page's digits: logits, a line each
     browser_native occlusion FILE DIGIT   vit_occlusion's map of one of them
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
    for (int i = 0; i < 40; i++) {
      const double start = vit_seconds();
      double t;
      if (page_forwards(B, 10)) return 1;
      t = (vit_seconds() - start) / 10;
      if (t < best) best = t;
    }
    printf("%.5f\n", 1e3 * best);
  }
  return 0;
}

int main(int argc, char **argv) {
  int wrong;
  if (argc < 2) return 1;
  wrong = argc > 2 ? page_open(argv[2]) : 0;
  if (!wrong && !strcmp(argv[1], "logits")) wrong = print_logits();
  if (!wrong && !strcmp(argv[1], "occlusion")) wrong = print_occlusion(atoi(argv[3]));
  if (!wrong && !strcmp(argv[1], "time")) wrong = print_times();
  if (wrong) puts(page_error());
  return wrong;
}
