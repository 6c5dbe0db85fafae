/* Chapter 11: the limits of the fast path. A machine without SIMD, odd numbers of
   threads, batches larger than planned, a state that is used again and again. */

#include "test.h"

/* What a CPU without AVX2 answers. vit.h asks through this builtin. */
static int has_features = 1;
#define __builtin_cpu_supports(feature) (has_features && feature[0] != 0)

#define VIT_IMPLEMENTATION
#include "../vit.h"

#include "changed.h"

enum { IMAGES = 6, CLASSES = 5 };
static float images[IMAGES * 12 * 16];
static const int labels[IMAGES] = {0, 1, 2, 3, 4, 0};

static vit_config small_model(void) {
  return changed(vit_config_mnist(), "image_height=12 image_width=16 depth=2 "
                                     "width=20 heads=2 head_dim=5 mlp_width=24 "
                                     "classes=5 hidden_drop=0.1");
}

/* Some steps of training, then the logits of all images. */
static vit_result run(const vit_kernels *kernels, int threads, float *logits,
                      float *weights) {
  vit_config c = small_model();
  vit_optimizer_config oc = vit_optimizer_defaults(VIT_ADAMW);
  vit_model m;
  vit_state s;
  vit_optimizer o;
  double loss;
  int classes[IMAGES];
  vit_result r = vit_model_create(&m, &c, 7);
  if (!r) r = vit_optimizer_create(&o, &m, &oc);
  if (!r) r = vit_state_create(&s, &m, IMAGES, VIT_FOR_TRAINING, 7);
  if (!CHECK(!r, "%s", vit_error())) return r;
  if (kernels) m.kernels = kernels;
  m.threads = threads;
  for (int i = 0; i < 3 && !r; i++) {
    vit_zero_gradients(&s);
    r = vit_forward(&m, &s, images, IMAGES - i % 2 * 5); /* also one image */
    if (!r) r = vit_loss(&m, &s, labels, 0, &loss);
    if (!r) r = vit_backward(&m, &s, 1);
    if (!r) r = vit_optimizer_step(&o, &m, &s, 0.01f);
  }
  if (!r) r = vit_predict(&m, &s, images, IMAGES, classes, NULL);
  if (!r) memcpy(logits, s.logits, IMAGES * CLASSES * sizeof *logits);
  if (!r && weights) memcpy(weights, m.params.block, m.params.count * sizeof *weights);
  vit_optimizer_free(&o);
  vit_state_free(&s);
  vit_model_free(&m);
  return r;
}

/* Without AVX2 the naive kernels are chosen, and the model works. The other
   dialects are compiled where the CPU is known to have them, and do not ask. */
static void test_cpu_without_simd(void) {
  const int asks = !strcmp(vit_simd_name(), "AVX2+FMA");
  float masked[IMAGES * CLASSES], naive[IMAGES * CLASSES];
  has_features = 0;
  CHECK(vit_best_kernels() == (asks || vit_simd_lanes() == 1 ? &vit_naive : &vit_simd),
        "the %s kernels were chosen", vit_best_kernels()->name);
  CHECK(!run(asks ? NULL : &vit_naive, 1, masked, NULL), "%s", vit_error());
  has_features = 1;
  CHECK(!run(&vit_naive, 1, naive, NULL), "%s", vit_error());
  CHECK_SAME_BITS("logits", masked, naive, IMAGES * CLASSES);
}

/* 0 is all of them; more than images, heads or cores change no bit. */
static void test_threads(void) {
  static const int threads[] = {0, 2, 3, 7, 61, 1024};
  static float one[20000], many[20000];
  float a[IMAGES * CLASSES], b[IMAGES * CLASSES];
  vit_config c = small_model();
  size_t count = vit_parameter_count(&c);
  if (!CHECK(count <= 20000, "%.0f parameters", (double)count)) return;
  CHECK(!run(NULL, 1, a, one), "%s", vit_error());
  for (int i = 0; i < 6; i++) {
    CHECK(!run(NULL, threads[i], b, many), "%s", vit_error());
    CHECK_SAME_BITS("logits", b, a, IMAGES * CLASSES);
    CHECK_SAME_BITS("weights", many, one, count);
  }
}

static void test_threads_out_of_range(void) {
  static const int wrong[] = {-1, 1025, 2147483647, -2147483647 - 1};
  float logits[IMAGES * CLASSES];
  char number[20];
  for (int i = 0; i < 4; i++) {
    snprintf(number, sizeof number, "%d", wrong[i]);
    CHECK(run(NULL, wrong[i], logits, NULL) == VIT_ERR_CONFIG &&
              strstr(vit_error(), number) && strstr(vit_error(), "threads"),
          "%d threads: %s", wrong[i], vit_error());
  }
}

/* A batch larger than planned is refused; what was there stays usable. */
static void test_batch_larger_than_planned(void) {
  vit_config c = small_model();
  vit_model m;
  vit_state s;
  int classes[IMAGES];
  CHECK(!vit_model_create(&m, &c, 1) && !vit_model_pack(&m) &&
            !vit_state_create(&s, &m, 2, VIT_FOR_INFERENCE, 1),
        "%s", vit_error());
  CHECK(vit_predict(&m, &s, images, 3, classes, NULL) == VIT_ERR_CONFIG &&
            strstr(vit_error(), "batch of 3") && strstr(vit_error(), "1 to 2"),
        "%s", vit_error());
  CHECK(vit_predict(&m, &s, images, 0, classes, NULL) == VIT_ERR_CONFIG, "0");
  CHECK(!vit_predict(&m, &s, images, 2, classes, NULL), "%s", vit_error());
  vit_state_free(&s);
  vit_model_free(&m);
}

int main(void) {
  test_random(images, IMAGES * 12 * 16, 1, 1);
  RUN(test_cpu_without_simd);
  RUN(test_threads);
  RUN(test_threads_out_of_range);
  RUN(test_batch_larger_than_planned);
  return test_end("11_speed");
}
