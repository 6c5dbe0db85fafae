/* Chapter 01: cutting an image into patches, the linear layer, the matrix
   product, the Conv2d view, and Pillow's resize that comes before them. */

#include "kernels.h"

/* ---- the kernels --------------------------------------------------------- */

/* sizes: C, PH, PW; a grid of 2 x 3 patches. Of large patches, few channels:
   they only repeat. */
enum { ROWS = 2, COLS = 3 };
static int few(int C, int PH, int PW) { return PH * PW > 500 ? C % 4 + 1 : C; }
static void call_patchify(const vit_kernels *k, float *const *a,
                          const k_case *c) {
  k->patchify_forward(a[0], a[1], c->size[0], ROWS * c->size[1],
                      COLS * c->size[2], c->size[1], c->size[2]);
}
static void patchify(k_case *c, int channels, int PH, int PW) {
  const int C = few(channels, PH, PW);
  size_t n = k_n(C, ROWS * COLS) * k_n(PH, PW);
  k_begin(c, "patchify_forward", call_patchify, C, PH, PW);
  k_out(c, "y", n, K_EXACT, 0);
  k_in(c, "x", n);
}

static void call_patchify_backward(const vit_kernels *k, float *const *a,
                                   const k_case *c) {
  k->patchify_backward(a[0], a[1], c->size[0], ROWS * c->size[1],
                       COLS * c->size[2], c->size[1], c->size[2]);
}
static void patchify_backward(k_case *c, int channels, int PH, int PW) {
  const int C = few(channels, PH, PW);
  size_t n = k_n(C, ROWS * COLS) * k_n(PH, PW);
  k_begin(c, "patchify_backward", call_patchify_backward, C, PH, PW);
  k_out(c, "dx", n, K_EXACT, 0);
  k_in(c, "dy", n);
}

/* sizes: rows, in, out */
static void call_linear(const vit_kernels *k, float *const *a, const k_case *c) {
  k->linear_forward(a[0], a[1], a[2], a[3], c->size[0], c->size[1], c->size[2]);
}
static void linear(k_case *c, int rows, int in, int out) {
  k_begin(c, "linear_forward", call_linear, rows, in, out);
  k_out(c, "y", k_n(rows, out), K_SUMS, k_chain(in + 1));
  k_in(c, "x", k_n(rows, in));
  k_in(c, "w", k_n(out, in));
  k_in(c, "b", (size_t)out);
}
static void linear_no_bias(k_case *c, int rows, int in, int out) {
  linear(c, rows, in, out);
  c->array[3].n = 0;
}

/* out is made a multiple of vit_panel(). */
static void call_linear_packed(const vit_kernels *k, float *const *a,
                               const k_case *c) {
  k->linear_packed_forward(a[0], a[1], a[2], a[3], c->size[0], c->size[1],
                           c->size[2]);
}
static void linear_packed(k_case *c, int rows, int in, int out) {
  linear(c, rows, in, (out + vit_panel() - 1) / vit_panel() * vit_panel());
  c->name = "linear_packed_forward";
  c->call = call_linear_packed;
}

static void call_linear_input(const vit_kernels *k, float *const *a,
                              const k_case *c) {
  k->linear_backward_input(a[0], a[1], a[2], c->size[0], c->size[1], c->size[2]);
}
static void linear_input(k_case *c, int rows, int in, int out) {
  k_begin(c, "linear_backward_input", call_linear_input, rows, in, out);
  k_out(c, "dx", k_n(rows, in), K_SUMS, k_chain(out));
  k_in(c, "dy", k_n(rows, out));
  k_in(c, "w", k_n(out, in));
}

/* sizes: rows, in, out, dy_stride */
static void call_linear_weight(const vit_kernels *k, float *const *a,
                               const k_case *c) {
  k->linear_backward_weight(a[0], a[1], a[2], a[3], c->size[0], c->size[1],
                            c->size[2], c->size[3]);
}
static void linear_weight_stride(k_case *c, int rows, int in, int out,
                                 int stride) {
  k_begin(c, "linear_backward_weight", call_linear_weight, rows, in, out);
  c->size[3] = stride;
  k_add_array(c, "dw", K_ADD, k_n(out, in), K_SUMS, k_chain(rows + 1));
  k_add_array(c, "db", K_ADD, (size_t)out, K_SUMS, k_chain(rows + 1));
  k_in(c, "dy", k_strided(rows, out, stride));
  k_in(c, "x", k_n(rows, in));
}
static void linear_weight(k_case *c, int rows, int in, int out) {
  linear_weight_stride(c, rows, in, out, out);
}
static void linear_weight_part(k_case *c, int rows, int in, int out) {
  linear_weight_stride(c, rows, in, out, out + 5); /* some of the columns */
}
static void linear_weight_no_bias(k_case *c, int rows, int in, int out) {
  linear_weight(c, rows, in, out);
  c->array[1].n = 0;
}

/* ---- SIMD against naive -------------------------------------------------- */

static void test_patchify_simd(void) {
  K_NEEDS_SIMD;
  k_compare_sizes(patchify, 3);
  k_compare_sizes(patchify_backward, 3);
  k_compare_nan(patchify, 2, 3, 9);
  k_compare_nan(patchify_backward, 2, 3, 9);
}

static void test_linear_simd(void) {
  K_NEEDS_SIMD;
  k_compare_sizes(linear, 3);
  k_compare_sizes(linear_no_bias, 3);
  k_compare_nan(linear, 7, 11, 13);
  k_compare_sizes(linear_packed, 3);
  k_compare_nan(linear_packed, 7, 11, 32);
}

static void test_linear_backward_simd(void) {
  K_NEEDS_SIMD;
  k_compare_sizes(linear_input, 3);
  k_compare_sizes(linear_weight, 3);
  k_compare_sizes(linear_weight_part, 3);
  k_compare_sizes(linear_weight_no_bias, 3);
  k_compare_nan(linear_input, 7, 11, 13);
  k_compare_nan(linear_weight, 7, 11, 13);
}

/* The product runs over K in parts of 256; beside them, and real layers. */
static void test_linear_large_simd(void) {
  static const k_describe kinds[] = {linear, linear_input, linear_weight_part,
                                     linear_packed};
  static const int edges[] = {255, 256, 257, 511, 512, 513, 600};
  K_NEEDS_SIMD;
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 7; j++) {
      k_compare_one(kinds[i], edges[j], 5, 3);
      k_compare_one(kinds[i], 3, edges[j], 5);
      k_compare_one(kinds[i], 5, 3, edges[j]);
    }
    k_compare_one(kinds[i], 65, 257, 259);
    if (test_quick()) continue;
    k_compare_one(kinds[i], 197, 768, 250); /* B/16: T, D, a part of 3 D */
    k_compare_one(kinds[i], 50, 192, 576);  /* Ti/16 on 112 pixels */
    k_compare_one(kinds[i], 6400, 64, 96);  /* many rows */
  }
}

/* The packed form is the plain one with its weights in another order. */
static void test_linear_packed_is_linear(void) {
  enum { R = 7, IN = 13, OUT = 64 };
  const vit_kernels *tables[2];
  float x[R * IN], w[OUT * IN], packed[OUT * IN], back[OUT * IN], b[OUT];
  float want[R * OUT], y[R * OUT];
  test_random(x, R * IN, 1, 1);
  test_random(w, OUT * IN, 1, 2);
  test_random(b, OUT, 1, 3);
  vit_pack_linear(packed, w, IN, OUT);
  vit_unpack_linear(back, packed, IN, OUT);
  CHECK_SAME_BITS("unpacked", back, w, OUT * IN);
  CHECK(packed[1] == w[IN] && packed[vit_panel()] == w[1] &&
            packed[vit_panel() * IN] == w[vit_panel() * IN],
        "not panels of %d outputs", vit_panel());
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    tables[t]->linear_forward(want, x, w, b, R, IN, OUT);
    tables[t]->linear_packed_forward(y, x, packed, b, R, IN, OUT);
    CHECK_SAME_BITS(tables[t]->name, y, want, R * OUT);
  }
}

/* One row of a product does not depend on how many rows are computed with it:
   this is what makes the result the same with any number of threads. */
static void test_linear_rows_are_independent(void) {
  const vit_kernels *tables[2];
  enum { R = 29, IN = 300, OUT = 19 };
  float *x = k_floats(R * IN), *w = k_floats(OUT * IN), b[OUT];
  float all[R * OUT], part[R * OUT];
  test_random(x, R * IN, 1, 1);
  test_random(w, OUT * IN, 1, 2);
  test_random(b, OUT, 1, 3);
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    tables[t]->linear_forward(all, x, w, b, R, IN, OUT);
    for (int first = 0, size = 1; first < R; first += size, size++) {
      if (size > R - first) size = R - first;
      tables[t]->linear_forward(part + first * OUT, x + first * IN, w, b, size,
                                IN, OUT);
    }
    CHECK_SAME_BITS(tables[t]->name, part, all, R * OUT);
  }
  free(x);
  free(w);
}

/* ---- what they compute --------------------------------------------------- */

/* A 4 x 6 image of two channels whose pixels say where they are: 100 c + 10 y
   + x. */
static void test_patchify_order(void) {
  const vit_kernels *tables[2];
  float image[2 * 4 * 6], patches[2 * 4 * 6], back[2 * 4 * 6];
  static const float second[12] = {3,   4,   5,   13,  14,  15, /* channel 0 */
                                   103, 104, 105, 113, 114, 115};
  static const float third[3] = {20, 21, 22};
  for (int c = 0; c < 2; c++)
    for (int y = 0; y < 4; y++)
      for (int x = 0; x < 6; x++)
        image[(c * 4 + y) * 6 + x] = (float)(100 * c + 10 * y + x);
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    tables[t]->patchify_forward(patches, image, 2, 4, 6, 2, 3);
    CHECK_SAME_BITS("second patch", patches + 12, second, 12);
    CHECK_SAME_BITS("third patch", patches + 24, third, 3);
    tables[t]->patchify_backward(back, patches, 2, 4, 6, 2, 3);
    CHECK_SAME_BITS("there and back", back, image, 48);
  }
}

static void test_linear_by_hand(void) {
  const vit_kernels *tables[2];
  static const float x[4] = {1, 2, 3, 4}, w[6] = {1, 0, 0, 1, 2, -1};
  static const float b[3] = {10, 20, 30}, want[6] = {11, 22, 30, 13, 24, 32};
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    float y[6];
    tables[t]->linear_forward(y, x, w, b, 2, 2, 3);
    CHECK_SAME_BITS(tables[t]->name, y, want, 6);
  }
}

static void test_linear_fixture(void) {
  k_case c;
  linear(&c, 7, 13, 10);
  CHECK(k_fixture(&c, "linear", NULL, 0) > 0, "nothing was compared");
  linear_input(&c, 7, 13, 10);
  CHECK(k_fixture(&c, "linear", NULL, 0) > 0, "nothing was compared");
  linear_weight(&c, 7, 13, 10);
  CHECK(k_fixture(&c, "linear", NULL, 0) > 1, "nothing was compared");
}

/* nn.Conv2d with stride = kernel: PyTorch's, ours, and patches times weights.
   Here PyTorch's order is [B,D,N]; ours is [B,N,D]. */
static void test_conv2d_fixture(void) {
  enum { B = 2, C = 3, HEIGHT = 12, WIDTH = 10, PH = 4, PW = 5, D = 8, N = 6 };
  enum { P = C * PH * PW, PIXELS = C * HEIGHT * WIDTH };
  const vit_kernels *tables[2];
  float *x = k_need("conv2d", "x", B * PIXELS), *w = k_need("conv2d", "w", D * P);
  float *b = k_need("conv2d", "b", D), *y = k_need("conv2d", "y", B * N * D);
  float *dy = k_need("conv2d", "dy", B * N * D);
  for (int t = 0, count = k_tables(tables); t < count; t++) {
    const vit_kernels *k = tables[t];
    float patches[N * P], out[N * D], conv[N * D], want[N * D], up[N * D];
    float dpatches[N * P], dx[B * PIXELS], dw[D * P], db[D];
    memset(dw, 0, sizeof dw);
    memset(db, 0, sizeof db);
    for (int i = 0; i < B; i++) {
      const float *image = x + i * PIXELS;
      for (int n = 0; n < N; n++)
        for (int d = 0; d < D; d++) {
          want[n * D + d] = y[(i * D + d) * N + n];
          up[n * D + d] = dy[(i * D + d) * N + n];
        }
      k->patchify_forward(patches, image, C, HEIGHT, WIDTH, PH, PW);
      k->linear_forward(out, patches, w, b, N, P, D);
      vit_conv2d_patches(conv, image, w, b, C, HEIGHT, WIDTH, PH, PW, D);
      CHECK_CLOSE("patches W^T + b", out, want, N * D, K_RTOL, K_ATOL);
      CHECK_CLOSE("convolution", conv, want, N * D, K_RTOL, K_ATOL);
      CHECK_CLOSE("two views", out, conv, N * D, 1e-6, 4e-6);
      if (k == &vit_naive) CHECK_SAME_BITS("two views", out, conv, N * D);
      k->linear_backward_input(dpatches, up, w, N, P, D);
      k->patchify_backward(dx + i * PIXELS, dpatches, C, HEIGHT, WIDTH, PH, PW);
      k->linear_backward_weight(dw, db, up, patches, N, P, D, D);
    }
    k_close_to("conv2d", "dx", dx, B * PIXELS);
    k_close_to("conv2d", "dw", dw, D * P);
    k_close_to("conv2d", "db", db, D);
  }
  free(x);
  free(w);
  free(b);
  free(y);
  free(dy);
}

static void test_conv2d_no_bias(void) {
  float image[2 * 6 * 8], w[5 * 2 * 3 * 4], zero[5] = {0}, y[4 * 5], z[4 * 5];
  test_random(image, 96, 1, 1);
  test_random(w, 120, 1, 2);
  vit_conv2d_patches(y, image, w, NULL, 2, 6, 8, 3, 4, 5);
  vit_conv2d_patches(z, image, w, zero, 2, 6, 8, 3, 4, 5);
  CHECK_SAME_BITS("no bias", y, z, 20);
}

/* ---- gradients ----------------------------------------------------------- */

static void test_patchify_gradient(void) {
  k_case f, b;
  patchify(&f, 2, 3, 5);
  patchify_backward(&b, 2, 3, 5);
  k_gradient(&f, &b, 11);
}

static void test_linear_gradient(void) {
  k_case f, b;
  linear(&f, 5, 11, 9);
  linear_input(&b, 5, 11, 9);
  k_gradient(&f, &b, 12);
  linear_weight(&b, 5, 11, 9);
  k_gradient(&f, &b, 13);
  linear_no_bias(&f, 3, 4, 17);
  linear_weight_no_bias(&b, 3, 4, 17);
  k_gradient(&f, &b, 14);
}

/* ---- Pillow's resize ----------------------------------------------------- */

/* Byte for byte, also where it shrinks and where the shape changes. */
static void test_resize_is_pillows(void) {
  static const struct { const char *from, *to; int h, w, oh, ow; } cases[] = {
      {"in_28", "to_32", 28, 28, 32, 32},
      {"in_28", "to_20", 28, 28, 20, 20},
      {"in_13x17", "to_9x31", 13, 17, 9, 31},
      {"in_28", "in_28", 28, 28, 28, 28}};
  for (int i = 0; i < 4; i++) {
    size_t in = k_n(cases[i].h, cases[i].w), out = k_n(cases[i].oh, cases[i].ow);
    float *from = k_need("resize", cases[i].from, 4 * in);
    float *to = k_need("resize", cases[i].to, 4 * out);
    uint8_t bytes[1024], got[1024];
    for (size_t p = 0; p < 4; p++) {
      int wrong = 0;
      for (size_t j = 0; j < in; j++) bytes[j] = (uint8_t)from[p * in + j];
      if (!CHECK(!vit_resize(got, bytes, 1, cases[i].h, cases[i].w, cases[i].oh,
                             cases[i].ow, VIT_BILINEAR),
                 "%s", vit_error()))
        break;
      for (size_t j = 0; j < out; j++) wrong += (float)got[j] != to[p * out + j];
      CHECK(wrong == 0, "%s picture %lu: %d bytes differ from Pillow's",
            cases[i].to, (unsigned long)p, wrong);
    }
    free(from);
    free(to);
  }
}

int main(void) {
  RUN(test_patchify_order);
  RUN(test_patchify_simd);
  RUN(test_patchify_gradient);
  RUN(test_linear_by_hand);
  RUN(test_linear_simd);
  RUN(test_linear_backward_simd);
  RUN(test_linear_large_simd);
  RUN(test_linear_packed_is_linear);
  RUN(test_linear_rows_are_independent);
  RUN(test_linear_gradient);
  RUN(test_linear_fixture);
  RUN(test_conv2d_fixture);
  RUN(test_conv2d_no_bias);
  RUN(test_resize_is_pillows);
  k_close_file();
  return test_end("01_patches");
}
