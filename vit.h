/* vit.h - a Vision Transformer in one C header, to read, train and look inside

   Do this once, in one C or C++ file:

       #define VIT_IMPLEMENTATION
       #include "vit.h"

   and only #include "vit.h" in the others. Build with `cc -O2 lab.c -lm`.
   No other flag is needed: the fast path (AVX2+FMA, NEON) is chosen when the
   program runs. Add -fopenmp to use all cores; -march=native may bring AVX-512,
   emcc's -msimd128 the SIMD of WebAssembly.

   QUICK START

       vit_config c = vit_config_tutorial();        // or any other preset
       vit_dataset train, test;
       vit_model model;
       vit_fit_config f = vit_fit_defaults();
       vit_history h;

       c.softmax_before_loss = 0;                   // learns better: chapter 07
       if (vit_dataset_mnist(&train, "data", VIT_TRAIN) ||
           vit_dataset_mnist(&test, "data", VIT_TEST) ||
           vit_dataset_resize(&train, 32, 32) ||
           vit_dataset_resize(&test, 32, 32) ||
           vit_model_create(&model, &c, 1) ||
           vit_fit(&model, &f, &train, &test, &h)) {
         puts(vit_error());                         // one sentence
         return 1;
       }
       printf("accuracy %.2f %%\n", 100 * h.epoch[h.epochs - 1].val_accuracy);

   BEFORE YOU INCLUDE IT, YOU MAY

       #define STB_IMAGE_IMPLEMENTATION
       #include "stb_image.h"    to read pictures and .gz files
       #define VIT_STATIC        every function private to this file
       #define VIT_NO_SIMD       compile the plain loops alone
       #define VIT_SIMD_AVX2     AVX2 where -march=native would bring AVX-512
       #define VIT_MALLOC(n), VIT_FREE(p)    your own allocator: both or none

   <complex.h>, if you need it, comes after vit.h: its macro I is a size here.

   HOW TO READ IT

   The file is a book in three parts; search for the lines that are named here.

       PART ONE     declarations: the table of contents     about 1330 lines
       PART TWO     the model, 00 to 07: read it in a row   about 3690 lines
       PART THREE   the lab, 08 to 13: when it is needed    about 6040 lines

       >>00 foundations   errors, memory, random numbers, threads, SIMD, kernels
       >>01 patches       image -> patches -> linear projection
       >>02 tokens        class token and positions
       >>03 attention     softmax, scores, weighted values: one head
       >>04 heads         many heads from one fused projection, side by side
       >>05 encoder       layer norm, GELU, "-- the block", "-- the last block"
       >>06 model         config, tensor table, memory plan, "-- forward"
       >>07 gradients     the loss, backward through the model, gradient check
       >>08 training      optimisers and schedules
       >>09 mnist         data, augmentation, the loop, "-- checkpoints"
       >>10 inside        what a model looks at, and which method to believe;
                          "-- plots" through gnuplot
       >>11 speed         the matrix product, from registers to caches; int8
       >>12 photos        resizing, CIFAR-10, pictures and folders of them
       >>13 pretrained    safetensors; models of timm, Hugging Face, torchvision

   Each kernel is written twice, one under the other. vit_naive_NAME is plain
   loops that look like the formula above it: it is the definition.
   vit_simd_NAME does the same with vectors. Both have the same signature and
   stand in a table (vit_naive, vit_simd), so you can call both on the same
   numbers and compare. The backward of a kernel stands beside its forward, that
   of a block beside the block's. The SIMD twins of the linear layer are the
   matrix product: chapter 11.

   To add       write
   a field      a line of VIT_CONFIG_FIELDS; no other list repeats it
   a tensor     a line of VIT_TENSORS; use it in the forward and the backward
   an activation   a line of VIT_ACTIVATIONS
   a kernel     a line of VIT_KERNELS, vit_naive_NAME and vit_simd_NAME
   a dialect    one more block of words in "-- the SIMD vocabulary"

   Sizes have one letter each, everywhere:
       B images in a batch   N patches     R registers
       T tokens: class token, N patches, E extras (distillation, registers)
       D model width         H heads       Dh width of one head   I = H * Dh
       M width of the MLP    K classes     L layers   C channels
       PH x PW patch         P = C * PH * PW   Q queries at a time
       rows: any number of rows, such as B * T

   CONTRACTS

   Errors    What can fail returns a vit_result, 0 when all is well. vit_error()
             is the last failure of this thread as one sentence. The header
             never prints, never exits, and never asserts on your input.
             Kernels trust their sizes: vit_model_create has checked them.
   Memory    A model and a state allocate once, when they are created. Forward,
             backward and the optimiser's step allocate nothing.
   Threads   Each number is computed by one owner in a fixed order: the result
             has the same bits with any number of threads. No more are started
             than there are cores. Threads of your own need a stack of 1 MB.
   Pointers  No alignment is required. Outputs must not overlap inputs, except
             where a kernel's comment says "in place".
   Numbers   Naive kernels carry a sum over a row, or for one output, in double.
   Locale    Files and settings are written with a decimal point. A program that
             calls setlocale must keep LC_NUMERIC at "C".

   Licence: MIT or public domain, as you like; see the end of the file. */

#ifndef VIT_H
#define VIT_H
#define VIT_VERSION "0.14"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef VIT_STATIC
#if defined(__GNUC__)
#define VIT_DEF __attribute__((unused)) static
#else
#define VIT_DEF static
#endif
#elif defined(__cplusplus)
#define VIT_DEF extern "C"
#else
#define VIT_DEF extern
#endif

/* How the two kernel tables are declared and defined. C++ has no forward
   declaration of a static constant, but it has unnamed namespaces. */
#if defined(VIT_STATIC) && defined(__cplusplus)
#define VIT__TABLE_BEGIN   namespace {
#define VIT__TABLE_END     }
#define VIT__TABLE_DECLARE extern const
#define VIT__TABLE_DEFINE  extern const
#else
#define VIT__TABLE_BEGIN
#define VIT__TABLE_END
#define VIT__TABLE_DECLARE VIT_DEF const
#ifdef VIT_STATIC
#define VIT__TABLE_DEFINE VIT_DEF const
#else
#define VIT__TABLE_DEFINE const
#endif
#endif

/* ======================================================================== */
/*  PART ONE: DECLARATIONS                                                  */
/* ======================================================================== */

/* ---- 00 foundations ---------------------------------------------------- */

/* Signed index, as wide as a pointer: a product such as b * T * D does not
   overflow in it. */
typedef ptrdiff_t vit_idx;

/* What can go wrong, once: the code and its short description. */
#define VIT_RESULTS(X)                                                         \
  X(VIT_OK, "no error")                                                        \
  X(VIT_ERR_CONFIG, "a size, rate or option does not fit")                     \
  X(VIT_ERR_STATE, "the calls came in an order that makes no sense")           \
  X(VIT_ERR_OVERFLOW, "a product of sizes does not fit in memory")             \
  X(VIT_ERR_NO_MEMORY, "out of memory")                                        \
  X(VIT_ERR_FILE, "a file could not be opened, read or written")               \
  X(VIT_ERR_FORMAT, "a file does not hold what it should")                     \
  X(VIT_ERR_DIVERGED, "the loss is not a finite number any more")              \
  X(VIT_ERR_GNUPLOT, "gnuplot is missing or failed")                           \
  X(VIT_STOPPED, "the callback, or Ctrl-C, asked to stop")

#define VIT__ENUM(name, text) name,
typedef enum { VIT_RESULTS(VIT__ENUM) VIT_RESULT_COUNT } vit_result;
#undef VIT__ENUM

/* Sentence about the last failure in this thread, "" if there was none. */
VIT_DEF const char *vit_error(void);
/* Short description of a code, such as "out of memory". */
VIT_DEF const char *vit_result_text(vit_result r);

/* Random numbers by Philox2x32-10 (Salmon et al. 2011, "Parallel random
   numbers: as easy as 1, 2, 3"). The generator has no hidden state: number
   `index` of a stream is a function of (seed, stream, index). So any thread may
   compute any number, and a dropout mask is never stored. */
typedef struct {
  uint32_t key, stream, index;
} vit_rng;
VIT_DEF vit_rng vit_rng_create(uint64_t seed, uint32_t stream);
VIT_DEF uint32_t vit_philox(uint32_t key, uint32_t stream, uint32_t index);
VIT_DEF uint32_t vit_random_u32(vit_rng *rng);
VIT_DEF uint32_t vit_random_below(vit_rng *rng, uint32_t n); /* 0 .. n-1 */
VIT_DEF float vit_random_uniform(vit_rng *rng);              /* [0, 1) */
VIT_DEF float vit_random_normal(vit_rng *rng);               /* mean 0, std 1 */
VIT_DEF void vit_shuffle(int *order, int n, vit_rng *rng);   /* 0..n-1, mixed */

/* Wall clock in seconds, and how many threads OpenMP would use (1 without). */
VIT_DEF double vit_seconds(void);
VIT_DEF int vit_max_threads(void);
/* "AVX2+FMA", "AVX-512", "NEON", "WebAssembly SIMD128" or "none": what the SIMD
   kernels were compiled for. Their results differ in the last bits, since they
   add in other orders, and WebAssembly has no fused multiply-add. */
VIT_DEF const char *vit_simd_name(void);
/* Floats in one SIMD vector; 1 when SIMD was not compiled. */
VIT_DEF int vit_simd_lanes(void);

/* One block of memory, handed out in order. A plan is a function that takes
   its arrays from an arena. It runs twice: with base == NULL it only measures,
   then it assigns. Every array starts on a multiple of 64 bytes. */
typedef struct {
  unsigned char *base; /* NULL while measuring */
  void *block;         /* what the allocator returned */
  size_t used, size;   /* bytes */
  int overflow;        /* a product of sizes did not fit */
} vit_arena;
VIT_DEF int vit_checked_mul(size_t a, size_t b, size_t *product); /* 1: fits */
VIT_DEF void *vit_arena_take(vit_arena *a, size_t count, size_t size);
VIT_DEF vit_result vit_arena_allocate(vit_arena *a, const char *what);
VIT_DEF void vit_arena_free(vit_arena *a);

/* Largest |a_i - b_i| of n numbers, NaN where one of them is none: to compare
   two kernels. */
VIT_DEF double vit_max_difference(const float *a, const float *b, size_t n);

/* ---- the kernel table -------------------------------------------------- */

/* Constants of one Adam step; correction = 1 - beta^t. */
typedef struct {
  float rate, beta1, beta2, eps, decay, correction1, correction2;
  int decoupled; /* 1: AdamW, 0: Adam, where decay is added to the gradient */
} vit_adam_constants;

/* Every hot kernel, once: its name and its arguments. Shapes are in the
   comments of the chapters. A `d` in front means "gradient of the loss by".
   Gradients of parameters are added (+=); gradients of data are written (=),
   except layernorm_backward's dx, which is added. */
#define VIT_KERNELS(X)                                                         \
  X(patchify_forward, (float *patches, const float *image, int C, int height,  \
                          int width, int PH, int PW))                          \
  X(patchify_backward, (float *dimage, const float *dpatches, int C,           \
                           int height, int width, int PH, int PW))             \
  X(linear_forward, (float *y, const float *x, const float *w, const float *b, \
                        int rows, int in, int out))                            \
  X(linear_packed_forward, (float *y, const float *x, const float *packed,     \
                               const float *b, int rows, int in, int out))     \
  X(quantize_rows, (void *q, const float *x, int rows, int in))                \
  X(linear_int8_forward,                                                       \
      (float *y, const void *x, const void *w, const float *b, int rows,       \
          int in, int first, int out))                                         \
  X(linear_backward_input,                                                     \
      (float *dx, const float *dy, const float *w, int rows, int in, int out)) \
  X(linear_backward_weight,                                                    \
      (float *dw, float *db, const float *dy, const float *x, int rows,        \
          int in, int out, int dy_stride))                                     \
  X(tokens_forward, (float *x, const float *embed, const float *cls,           \
                        const float *pos, int N, int D))                       \
  X(tokens_backward, (float *dembed, float *dcls, float *dpos,                 \
                         const float *dx, int N, int D))                       \
  X(softmax_forward, (float *p, const float *s, int rows, int cols))           \
  X(softmax_backward,                                                          \
      (float *ds, const float *dp, const float *p, int rows, int cols))        \
  X(attention_scores_forward,                                                  \
      (float *p, const float *q, const float *k, const float *mask, int rows,  \
          int T, int Dh, int stride))                                          \
  X(attention_scores_backward,                                                 \
      (float *dq, float *dk, float *dp, const float *p, const float *q,        \
          const float *k, int rows, int T, int Dh, int stride))                \
  X(attention_values_forward,                                                  \
      (float *o, const float *p, const float *v, int rows, int T, int Dh,      \
          int stride, int o_stride))                                           \
  X(attention_values_backward,                                                 \
      (float *dp, float *dv, const float *d_o, const float *p, const float *v, \
          int rows, int T, int Dh, int stride, int o_stride))                  \
  X(layernorm_forward,                                                         \
      (float *y, float *mean, float *rstd, const float *x, const float *w,     \
          const float *b, int rows, int D, float eps))                         \
  X(layernorm_backward, (float *dx, float *dw, float *db, const float *dy,     \
                            const float *x, const float *w, const float *mean, \
                            const float *rstd, int rows, int D))               \
  X(gelu_forward, (float *y, const float *x, int n))                           \
  X(gelu_backward, (float *dx, const float *dy, const float *x, int n))        \
  X(gelu_tanh_forward, (float *y, const float *x, int n))                      \
  X(gelu_tanh_backward, (float *dx, const float *dy, const float *x, int n))   \
  X(gelu_quick_forward, (float *y, const float *x, int n))                     \
  X(gelu_quick_backward, (float *dx, const float *dy, const float *x, int n))  \
  X(uniform, (float *x, int n, uint32_t key, uint32_t stream, uint32_t first)) \
  X(dropout, (float *y, const float *x, int n, float rate, uint32_t key,       \
                 uint32_t stream, uint32_t first))                             \
  X(residual_forward,                                                          \
      (float *y, const float *x, const float *f, float scale, int n))          \
  X(scale, (float *y, const float *x, float factor, int n))                    \
  X(mean_forward, (float *y, const float *x, int N, int D))                    \
  X(mean_backward, (float *dx, const float *dy, int N, int D))                 \
  X(crossentropy_forward, (double *losses, float *p, const float *logits,      \
                              const float *targets, int rows, int K))          \
  X(crossentropy_backward,                                                     \
      (float *dlogits, const float *p, const float *targets, float factor,     \
          int rows, int K))                                                    \
  X(sgd_step, (float *w, float *m, const float *g, int n, float rate,          \
                  float momentum, float decay))                                \
  X(adam_step, (float *w, float *m, float *v, const float *g, int n,           \
                   const vit_adam_constants *a))                               \
  X(sum_squares, (double *sum, const float *x, int n))

#define VIT__FIELD(name, args) void(*name) args;
typedef struct vit_kernels {
  const char *name; /* "naive" or "simd" */
  VIT_KERNELS(VIT__FIELD)
} vit_kernels;
#undef VIT__FIELD

/* The two tables. On a machine without such vectors, or with VIT_NO_SIMD,
   vit_simd must not be called: ask vit_best_kernels(), which asks the CPU. */
VIT__TABLE_BEGIN VIT__TABLE_DECLARE vit_kernels vit_naive, vit_simd;
VIT__TABLE_END
VIT_DEF const vit_kernels *vit_best_kernels(void);

/* ---- 01 patches -------------------------------------------------------- */

/* The same patch projection as a convolution whose stride is its kernel size.
   image [C,height,width], w [D,C,PH,PW], b [D] -> y [N,D]. */
VIT_DEF void vit_conv2d_patches(float *y, const float *image, const float *w,
    const float *b, int C, int height, int width, int PH, int PW, int D);

/* ---- 02 tokens --------------------------------------------------------- */

/* Fixed positions, pos [T,D]. Sinusoid: Vaswani et al. 2017, section 3.5; with
   an odd D the last column is a sine. */
VIT_DEF void vit_positions_sinusoid(float *pos, int T, int D);
/* 2-D sine-cosine of a rows x cols grid (MoCo v3, Chen et al. 2021): quarters
   sin x, cos x, sin y, cos y with x the column, as in MAE's code (MoCo v3's has
   x and y the other way round); D % 4 == 0. With `class_token`, a row of zeros
   comes first. pos [class_token + rows*cols, D]. */
VIT_DEF void vit_positions_sincos2d(
    float *pos, int rows, int cols, int D, int class_token);

/* ---- 03 attention ------------------------------------------------------ */

/* Local attention of model D: mask [T,T], 0 where token i may look at token j
   and -INFINITY where not. Patches see the k x k window around them (k odd);
   the class token sees all and is seen by all. */
VIT_DEF void vit_local_mask(
    float *mask, int rows, int cols, int k, int class_token);

/* 04 heads and 05 encoder have nothing but the kernels of the table above. */

/* ---- 06 model ---------------------------------------------------------- */

typedef enum {
  VIT_POSITIONS_NONE,
  VIT_POSITIONS_SINUSOID,
  VIT_POSITIONS_LEARNED,
  VIT_POSITIONS_SINCOS2D
} vit_positions;
typedef enum { VIT_NORM_PRE, VIT_NORM_POST } vit_norm;
typedef enum { VIT_GELU_ERF, VIT_GELU_TANH, VIT_GELU_QUICK } vit_gelu;
typedef enum { VIT_POOL_CLS, VIT_POOL_MEAN } vit_pool;
typedef enum {
  VIT_INIT_VIT,   /* normal, std 0.02; biases 0 */
  VIT_INIT_TORCH, /* nn.Linear's default: uniform +- 1/sqrt(inputs); class
                     token and learned positions normal, std 1 */
  VIT_INIT_GLOROT /* Keras' default: uniform +- sqrt(6/(in+out)); biases 0 */
} vit_init;

/* The config, once: type, field, value in the tutorial preset, range, does it
   change the shape of something, meaning. A range is the largest of 0, 1, ...,
   or one of these kinds: a size from 1 to 2^20, an odd size or 0, a rate from 0
   to 1, and what lies between 0 and 1. */
enum { VIT_SIZE = -1, VIT_ODD = -2, VIT_RATE = -3, VIT_EPSILON = -4 };
#define VIT_CONFIG_FIELDS(X)                                                   \
  X(int, image_height, 32, VIT_SIZE, 1,                                        \
      "rows of pixels, a multiple of patch_height")                            \
  X(int, image_width, 32, VIT_SIZE, 1,                                         \
      "columns of pixels, a multiple of patch_width")                          \
  X(int, channels, 1, VIT_SIZE, 1, "C: 1 for grey, 3 for RGB")                 \
  X(int, patch_height, 16, VIT_SIZE, 1, "PH: rows of a patch")                 \
  X(int, patch_width, 16, VIT_SIZE, 1, "PW: columns of a patch")               \
  X(int, classes, 10, VIT_SIZE, 1, "K: number of classes")                     \
  X(int, width, 9, VIT_SIZE, 1, "D: numbers per token")                        \
  X(int, depth, 3, VIT_SIZE, 1, "L: encoder blocks")                           \
  X(int, heads, 3, VIT_SIZE, 1, "H: attention heads per block")                \
  X(int, head_dim, 0, VIT_SIZE, 1, "Dh: width of a head; 0 = width / heads")   \
  X(int, mlp_width, 0, VIT_SIZE, 1,                                            \
      "M: hidden width of the MLP; 0 = 4 * width")                             \
  X(int, class_token, 1, 1, 1,                                                 \
      "1 = a learned token is put before the patches")                         \
  X(int, dist_token, 0, 1, 1,                                                  \
      "1 = a distillation token, whose own head has half a say")               \
  X(int, reg_tokens, 0, 64, 1,                                                 \
      "R: registers, learned tokens that have no position")                    \
  X(vit_positions, positions, VIT_POSITIONS_SINUSOID, 3, 0,                    \
      "0 none, 1 sinusoid, 2 learned, 3 2-D sin-cos")                          \
  X(int, qkv_bias, 1, 1, 1, "1 = query, key and value have a bias")            \
  X(int, local_mask, 0, VIT_ODD, 0,                                            \
      "k, odd: a patch sees k x k neighbours; 0 = all")                        \
  X(int, pre_norm, 0, 1, 1,                                                    \
      "1 = a layer norm before block 0; patches without a bias")               \
  X(vit_norm, norm, VIT_NORM_PRE, 1, 1, "0 pre-norm, 1 post-norm")             \
  X(int, final_norm, 0, 1, 1, "1 = one more layer norm after the last block")  \
  X(int, fc_norm, 0, 1, 1, "1 = a layer norm after the pooling")               \
  X(float, norm_eps, 1e-5f, VIT_EPSILON, 0, "epsilon of every layer norm")     \
  X(vit_gelu, gelu, VIT_GELU_ERF, 2, 0,                                        \
      "0 exact (erf), 1 tanh form, 2 quick (logistic)")                        \
  X(int, mlp_last_gelu, 0, 1, 1, "1 = GELU after the second MLP layer too")    \
  X(vit_pool, pool, VIT_POOL_CLS, 1, 1,                                        \
      "0 class token, 1 mean over the patches")                                \
  X(int, softmax_before_loss, 1, 1, 0,                                         \
      "1 = the loss takes probabilities for logits")                           \
  X(float, pos_drop, 0, VIT_RATE, 0,                                           \
      "dropout rate after the positions are added")                            \
  X(float, attn_drop, 0, VIT_RATE, 0,                                          \
      "dropout rate on the attention probabilities")                           \
  X(float, proj_drop, 0, VIT_RATE, 0,                                          \
      "dropout rate after the attention's projection")                         \
  X(float, hidden_drop, 0, VIT_RATE, 0,                                        \
      "dropout rate after the MLP's first GELU")                               \
  X(float, mlp_drop, 0, VIT_RATE, 0, "dropout rate at the end of the MLP")     \
  X(float, block_drop, 0, VIT_RATE, 0,                                         \
      "dropout rate on the output of each block")                              \
  X(float, drop_path, 0, VIT_RATE, 0,                                          \
      "stochastic depth: rate in the last block")                              \
  X(vit_init, init, VIT_INIT_TORCH, 2, 0,                                      \
      "0 ViT, 1 PyTorch's default, 2 Glorot")                                  \
  X(int, zero_head, 0, 1, 0, "1 = the head's weights start at zero")

#define VIT__FIELD(type, name, value, range, shapes, text) type name;
typedef struct vit_config {
  VIT_CONFIG_FIELDS(VIT__FIELD)
} vit_config;
#undef VIT__FIELD

/* Presets: five published walkthroughs, a model for MNIST, the ViT family. */
VIT_DEF vit_config vit_config_tutorial(void);   /* A: 5,689 parameters */
VIT_DEF vit_config vit_config_cifar_mean(void); /* B: 507,210 parameters */
VIT_DEF vit_config vit_config_cifar_cls(void);  /* C: 119,098 parameters */
VIT_DEF vit_config vit_config_local(void);      /* D: B/16 with a local mask */
VIT_DEF vit_config vit_config_post_norm(void);  /* E: post-norm, 8 heads */
VIT_DEF vit_config vit_config_mnist(void);      /* 28x28, patch 4, D 64, L 6 */
VIT_DEF vit_config vit_config_ti16(void);
VIT_DEF vit_config vit_config_s16(void);
VIT_DEF vit_config vit_config_b16(void);
VIT_DEF vit_config vit_config_l16(void);
/* All presets by name: preset i, or NULL past the end. */
typedef struct {
  const char *name;
  vit_config (*make)(void);
} vit_preset;
VIT_DEF const vit_preset *vit_preset_at(int i);

/* Fill in the defaults (head_dim, mlp_width) and check everything; an image and
   the model have at most INT_MAX numbers each. */
VIT_DEF vit_result vit_config_resolve(vit_config *c);
/* Field i as name, text and current value; 0 past the end. */
VIT_DEF int vit_config_field(const vit_config *c, int i, const char **name,
    const char **text, double *value);
/* Set a field by its name, as checkpoints and command lines do. */
VIT_DEF vit_result vit_config_set(
    vit_config *c, const char *name, const char *value);
VIT_DEF int vit_config_patches(const vit_config *c); /* N */
VIT_DEF int vit_config_tokens(const vit_config *c);  /* T */

/* -- tensors, memory, forward -------------------------------------------- */

/* Every parameter tensor, once, in the order in memory and in a checkpoint:
     field, timm's name, where, does it exist, dimensions, initialiser, decay
   Unused dimensions are 0. BLOCK tensors exist in each of the L blocks and are
   called "blocks.{i}." + name. Decay: does AdamW's weight decay act on it? */
#define VIT_TENSORS(X)                                                         \
  X(cls_token, "cls_token", STEM, c->class_token, 1, 1, D, 0, TOKEN, 0)        \
  X(dist_token, "dist_token", STEM, c->dist_token, 1, 1, D, 0, TOKEN, 0)       \
  X(reg_token, "reg_token", STEM, c->reg_tokens, 1, R, D, 0, TOKEN, 0)         \
  X(pos_embed, "pos_embed", STEM, c->positions == VIT_POSITIONS_LEARNED, 1,    \
      T - E, D, 0, POSITION, 0)                                                \
  X(patch_w, "patch_embed.proj.weight", STEM, 1, D, C, PH, PW, WEIGHT, 1)      \
  X(patch_b, "patch_embed.proj.bias", STEM, !c->pre_norm, D, 0, 0, 0, BIAS, 0) \
  X(norm_pre_w, "norm_pre.weight", STEM, c->pre_norm, D, 0, 0, 0, ONE, 0)      \
  X(norm_pre_b, "norm_pre.bias", STEM, c->pre_norm, D, 0, 0, 0, ZERO, 0)       \
  X(norm1_w, "norm1.weight", BLOCK, 1, D, 0, 0, 0, ONE, 0)                     \
  X(norm1_b, "norm1.bias", BLOCK, 1, D, 0, 0, 0, ZERO, 0)                      \
  X(qkv_w, "attn.qkv.weight", BLOCK, 1, 3 * I, D, 0, 0, WEIGHT, 1)             \
  X(qkv_b, "attn.qkv.bias", BLOCK, c->qkv_bias, 3 * I, 0, 0, 0, BIAS, 0)       \
  X(proj_w, "attn.proj.weight", BLOCK, 1, D, I, 0, 0, WEIGHT, 1)               \
  X(proj_b, "attn.proj.bias", BLOCK, 1, D, 0, 0, 0, BIAS, 0)                   \
  X(norm2_w, "norm2.weight", BLOCK, 1, D, 0, 0, 0, ONE, 0)                     \
  X(norm2_b, "norm2.bias", BLOCK, 1, D, 0, 0, 0, ZERO, 0)                      \
  X(fc1_w, "mlp.fc1.weight", BLOCK, 1, M, D, 0, 0, WEIGHT, 1)                  \
  X(fc1_b, "mlp.fc1.bias", BLOCK, 1, M, 0, 0, 0, BIAS, 0)                      \
  X(fc2_w, "mlp.fc2.weight", BLOCK, 1, D, M, 0, 0, WEIGHT, 1)                  \
  X(fc2_b, "mlp.fc2.bias", BLOCK, 1, D, 0, 0, 0, BIAS, 0)                      \
  X(norm_w, "norm.weight", TAIL, c->final_norm, D, 0, 0, 0, ONE, 0)            \
  X(norm_b, "norm.bias", TAIL, c->final_norm, D, 0, 0, 0, ZERO, 0)             \
  X(fc_norm_w, "fc_norm.weight", TAIL, c->fc_norm, D, 0, 0, 0, ONE, 0)         \
  X(fc_norm_b, "fc_norm.bias", TAIL, c->fc_norm, D, 0, 0, 0, ZERO, 0)          \
  X(head_w, "head.weight", TAIL, 1, K, D, 0, 0, HEAD, 1)                       \
  X(head_b, "head.bias", TAIL, 1, K, 0, 0, 0, HEAD_BIAS, 0)                    \
  X(head_dist_w, "head_dist.weight", TAIL, c->dist_token, K, D, 0, 0, HEAD, 1) \
  X(head_dist_b, "head_dist.bias", TAIL, c->dist_token, K, 0, 0, 0, HEAD_BIAS, \
      0)

/* The same tensors as pointers into one block of floats. A BLOCK field points
   at block 0; vit_layer() gives the fields of block l. Parameters, gradients
   and the two moments of Adam are four blocks of this one layout. */
#define VIT__FIELD(field, name, where, exists, d0, d1, d2, d3, init, decay)    \
  float *field;
typedef struct vit_tensors {
  float *block;        /* all tensors, back to back, no gaps */
  size_t count;        /* floats in it */
  size_t layer_stride; /* floats from one encoder block to the next */
  VIT_TENSORS(VIT__FIELD)
} vit_tensors;
#undef VIT__FIELD
VIT_DEF vit_tensors vit_layer(const vit_tensors *t, int l);

/* One row of the tensor table for a given config. */
typedef struct {
  char name[48]; /* "blocks.2.attn.qkv.weight" */
  int dims, shape[4];
  size_t offset, count; /* in floats from the start of the block */
  int layer;            /* -1 outside the encoder blocks */
  int init;             /* private code of the initialiser */
  int decay;
  int is_matrix; /* 1: the weight [out,in] of a linear layer */
} vit_tensor;
/* Tensor i of a config; 0 past the last one, or when the config is wrong. */
VIT_DEF int vit_tensor_at(const vit_config *c, int i, vit_tensor *t);
VIT_DEF vit_result vit_tensor_find(
    const vit_config *c, const char *name, vit_tensor *t);
/* 0 when the config is wrong. */
VIT_DEF size_t vit_parameter_count(const vit_config *c);

/* What a config will need, in bytes, before anything is allocated. */
typedef struct {
  size_t parameters, gradients, moments; /* moments: both of Adam's */
  size_t quantized;                      /* parameters, after quantizing */
  size_t constants;                      /* fixed positions, local mask */
  size_t training;                       /* activations and scratch, batch B */
  size_t inference;                      /* the same without a backward */
} vit_memory;
/* Fails where the config or the batch is impossible, also if only for training.
   It does not ask whether there is so much memory. */
VIT_DEF vit_result vit_memory_plan(
    const vit_config *c, int batch, vit_memory *m);

typedef struct vit_model {
  vit_config config;          /* resolved */
  const vit_kernels *kernels; /* which table runs; you may change it */
  int threads;   /* work is cut for: 0 = as many as OpenMP offers */
  int packed;    /* 1: after vit_model_pack */
  int quantized; /* 1: after vit_model_quantize: no weight of a linear layer is
                    a float in params, and no vit_tensor's offset fits */
  vit_tensors params;
  float *fixed_pos; /* [T-E,D] or NULL */
  float *mask;      /* [T,T] or NULL */
  vit_arena arena;
} vit_model;
/* Allocate and initialise. On failure nothing is allocated, *m is zeroed. */
VIT_DEF vit_result vit_model_create(
    vit_model *m, const vit_config *c, uint64_t seed);
VIT_DEF void vit_model_free(vit_model *m);
/* Threads that m runs on: as many as m->threads asks for and cores allow. */
VIT_DEF int vit_model_threads(const vit_model *m);

/* Activations, once: field, where, what there is one of it for, does it exist,
   floats of one. BLOCK fields exist for each layer when training, MODEL ones
   once; when inferring all layers share one. So do the heads' `attn`, Q queries
   at a time, unless you ask to keep them. `grad` is 1 in training. The names
   are llm.c's and timm's.

   Where the class token alone is read, the last block makes only what it needs:
   K and V of all tokens (its qkv is [B*T,2,H,Dh]), and after that a row an
   image: what it and the final norm write from the heads on is [B,..]. */
#define VIT__LAST (c->pool == VIT_POOL_CLS && !c->dist_token)
#define VIT_ACTIVATIONS(X)                                                     \
  X(patches, MODEL, PATCH, 1, P)          /* pixels of each patch */           \
  X(patch_embed, MODEL, PATCH, 1, D)      /* projected patches */              \
  X(placed, MODEL, TOKEN, c->pre_norm, D) /* tokens before norm_pre */         \
  X(placed_mean, MODEL, TOKEN, c->pre_norm, 1)                                 \
  X(placed_rstd, MODEL, TOKEN, c->pre_norm, 1)                                 \
  X(tokens, MODEL, TOKEN, 1, D) /* input of block 0 */                         \
  X(norm1, BLOCK, TOKEN, 1, D)  /* layer norm 1 */                             \
  X(norm1_mean, BLOCK, TOKEN, 1, 1)                                            \
  X(norm1_rstd, BLOCK, TOKEN, 1, 1)                                            \
  X(qkv, BLOCK, TOKEN, 1, 3 * I) /* Q, K, V, each head-major */                \
  X(attn, BLOCK, HEAD, 1, (s->trains || s->keep_attn ? T : Q) * T)             \
  /* attention probabilities */                                                \
  X(attn_used, BLOCK, HEAD, grad && c->attn_drop > 0,                          \
      T * T)                       /* with dropout */                          \
  X(atty, BLOCK, TOKEN, 1, I)      /* outputs of the heads */                  \
  X(residual2, BLOCK, TOKEN, 1, D) /* x + attention */                         \
  X(norm2, BLOCK, TOKEN, c->norm == VIT_NORM_PRE, D) /* layer norm 2 */        \
  X(norm2_mean, BLOCK, TOKEN, 1, 1)                                            \
  X(norm2_rstd, BLOCK, TOKEN, 1, 1)                                            \
  X(fch, BLOCK, TOKEN, 1, M)                   /* MLP before GELU */           \
  X(fch_gelu, BLOCK, TOKEN, 1, M)              /* MLP after GELU */            \
  X(fcproj, BLOCK, TOKEN, c->mlp_last_gelu, D) /* before the last GELU */      \
  X(residual3, BLOCK, TOKEN, c->norm == VIT_NORM_POST, D) /* norm1 + MLP */    \
  X(out, BLOCK, TOKEN, 1, D)             /* output of the block */             \
  X(branch, MODEL, TOKEN, 1, D)          /* scratch: a residual branch */      \
  X(norm, TAIL, TOKEN, c->final_norm, D) /* final layer norm */                \
  X(norm_mean, TAIL, TOKEN, c->final_norm, 1)                                  \
  X(norm_rstd, TAIL, TOKEN, c->final_norm, 1)                                  \
  X(class_x, MODEL, IMAGE, VIT__LAST, D)   /* class token: block's input, */   \
  X(class_in, MODEL, IMAGE, VIT__LAST, D)  /* what its query is made of, */    \
  X(class_q, MODEL, IMAGE, VIT__LAST, I)   /* its query, */                    \
  X(class_attn, MODEL, HEAD, VIT__LAST, T) /* its probabilities */             \
  X(all_q, MODEL, TOKEN, VIT__LAST && s->keep_attn, I) /* all queries */       \
  X(fc, MODEL, IMAGE, c->fc_norm, D) /* pooled, before fc_norm */              \
  X(fc_mean, MODEL, IMAGE, c->fc_norm, 1)                                      \
  X(fc_rstd, MODEL, IMAGE, c->fc_norm, 1)                                      \
  X(pooled, MODEL, IMAGE, 1, D)                  /* what the head sees */      \
  X(pooled_dist, MODEL, IMAGE, c->dist_token, D) /* what head_dist sees */     \
  X(logits_dist, MODEL, IMAGE, c->dist_token, K) /* what it says */            \
  X(logits, MODEL, IMAGE, 1, K)                                                \
  X(probs, MODEL, IMAGE, 1, K)        /* softmax of the logits */              \
  X(loss_softmax, MODEL, IMAGE, 1, K) /* softmax inside the loss */            \
  X(targets, MODEL, IMAGE, 1, K)      /* what the loss wants */                \
  X(dlogits, MODEL, IMAGE, grad, K)                                            \
  X(dhead, MODEL, IMAGE, grad && c->dist_token, K) /* by each head's logits */ \
  X(dpooled, MODEL, IMAGE, grad, D)                                            \
  X(dpooled_dist, MODEL, IMAGE, grad && c->dist_token, D)                      \
  X(dfc, MODEL, IMAGE, grad && c->fc_norm, D)                                  \
  X(dresidual, MODEL, TOKEN, grad, D) /* by the residual path */               \
  X(dfcproj, MODEL, TOKEN, grad, D)   /* by the MLP's branch */                \
  X(dattproj, MODEL, TOKEN, grad, D)  /* by the attention's branch */          \
  X(dnorm, MODEL, TOKEN, grad, D)     /* by a layer norm's output */           \
  X(dfch, MODEL, TOKEN, grad, M)                                               \
  X(datty, MODEL, TOKEN, grad, I)                                              \
  X(dqkv, MODEL, TOKEN, grad, 3 * I)                                           \
  X(dattn, MODEL, HEAD, grad, T *T)                                            \
  X(dattn_kept, BLOCK, HEAD, grad && s->keep_attn, T * T) /* by attn */        \
  X(dclass_x, MODEL, IMAGE, grad &&VIT__LAST, D)                               \
  X(dclass_q, MODEL, IMAGE, grad &&VIT__LAST, I)                               \
  X(dpatch_embed, MODEL, PATCH, grad, D)                                       \
  X(dpatches, MODEL, PATCH, grad && s->input_gradient, P)                      \
  X(dimages, MODEL, PATCH, grad && s->input_gradient, P)                       \
  X(norm_sums, MODEL, ALL, grad, 4 * VIT__PARTS * D) /* dw, db of two norms */

#define VIT__FIELD(field, where, unit, exists, floats)                         \
  float *field;                                                                \
  size_t field##_stride;
typedef struct vit_state {
  vit_config config;   /* of the model that it was made for */
  int capacity;        /* largest batch */
  int queries;         /* Q: of a head at a time, where attention is not kept */
  int trains;          /* 1: can do backward */
  int input_gradient;  /* 1: backward also fills dimages */
  int keep_attn;       /* keep every layer's attention, all its rows */
  int dropout;         /* 1: dropout is on (training only); set 0 to evaluate */
  int freeze;          /* backward stops there: see VIT_OPTIMIZER_FIELDS */
  int probe;           /* 1: room for the head alone: see VIT_FIT_FIELDS */
  int forward_dropout; /* 1: it was on in the last forward */
  uint32_t key, forwards; /* of the dropout masks: seed, forwards done */
  int batch;              /* of the last forward, 0 before the first */
  int shared, first;      /* of a batch that several programs share: its images
                             in all, and the place of the first one here; 0 */
  int loss_known;         /* of the last forward */
  int went_back;          /* 1: there was a backward after the last forward */
  double loss;            /* mean over the batch */
  double *losses;         /* [B] */
  vit_tensors grads;      /* same layout as the parameters; training only */
  float *part_grads; /* small models: gradients of each part of the batch */
  VIT_ACTIVATIONS(VIT__FIELD)
  vit_arena arena;
} vit_state;
#undef VIT__FIELD

typedef enum {
  VIT_FOR_INFERENCE = 0,
  VIT_FOR_TRAINING = 1,
  VIT_KEEP_ATTENTION = 2, /* keep the probabilities of all layers and tokens */
  VIT_INPUT_GRADIENT = 4  /* with training: fill dimages [B,C,height,width] */
} vit_state_flags;
VIT_DEF vit_result vit_state_create(
    vit_state *s, const vit_model *m, int batch, int flags, uint64_t seed);
VIT_DEF void vit_state_free(vit_state *s);

/* images [B,C,height,width] -> s->logits, s->probs [B,K]. 1 <= B <= capacity.
   Afterwards every activation of a training state can be read: block l's part
   of a BLOCK field is at s->FIELD + l * s->FIELD_stride. See vit_attention. */
VIT_DEF vit_result vit_forward(
    const vit_model *m, vit_state *s, const float *images, int B);
/* Attention probabilities [T,T] of one head after a forward; row i: what token
   i looks at. NULL, with a sentence in vit_error(), where there is none: in
   inference, and in the last block of a model that pools the class token, only
   VIT_KEEP_ATTENTION keeps them. */
VIT_DEF const float *vit_attention(
    const vit_model *m, const vit_state *s, int layer, int image, int head);
/* What the class token looks at in the last block, [T]: in every state of a
   model whose head reads it alone; else row 0 of vit_attention. */
VIT_DEF const float *vit_class_attention(
    const vit_model *m, const vit_state *s, int image, int head);
/* A forward without dropout: the most probable class of each image; classes
   and p [B,K] may be NULL. VIT_ERR_DIVERGED where a logit is not finite. */
VIT_DEF vit_result vit_predict(const vit_model *m, vit_state *s,
    const float *images, int B, int *classes, float *p);

/* ---- 07 gradients ------------------------------------------------------ */

/* Mean cross entropy of the last forward, with label smoothing in 0..1. With
   softmax_before_loss it takes the probabilities for logits, as A does. */
VIT_DEF vit_result vit_loss(const vit_model *m, vit_state *s, const int *labels,
    float smoothing, double *loss);
/* The same with a probability for each class: targets [B,K], each row sums up
   to 1. Mixup and cutmix want such a thing. */
VIT_DEF vit_result vit_loss_targets(
    const vit_model *m, vit_state *s, const float *targets, double *loss);
VIT_DEF void vit_zero_gradients(vit_state *s);
/* grads += factor * d loss / d parameters. factor 1/n when n batches add up. */
VIT_DEF vit_result vit_backward(const vit_model *m, vit_state *s, float factor);
/* The same without a loss, from any gradient of the logits, dlogits [B,K]:
   grads += factor * d (sum of dlogits * logits) / d parameters. A 1 at class k
   asks what makes the logit of k larger. A softmax_before_loss is left out. */
VIT_DEF vit_result vit_backward_logits(
    const vit_model *m, vit_state *s, const float *dlogits, float factor);
/* After either: the gradient by the attention probabilities of one head [T,T],
   in a state made with VIT_FOR_TRAINING and VIT_KEEP_ATTENTION; else NULL, with
   a sentence. Where the head reads the class token alone, only row 0 of the
   last block reaches the logits: the others are 0. */
VIT_DEF const float *vit_attention_gradient(
    const vit_model *m, const vit_state *s, int layer, int image, int head);

/* Analytic against numeric gradient, tensor by tensor, on random images.
   error = |analytic - numeric| / (largest |analytic| of the tensor + 0.001).
   Up to 24 elements of each tensor are looked at. Below 0.01 is right; a wrong
   sign gives about 2. (A layer norm of fewer than 6 numbers bends so much that
   a right gradient may seem wrong.) The model gets random parameters of healthy
   size, and the loss a label smoothing of 0.1. */
typedef struct {
  int tensors, elements; /* how many were compared */
  double worst;          /* largest error */
  char name[48];         /* where */
  int index;
  double analytic, numeric;
} vit_gradient_report;
VIT_DEF vit_result vit_gradient_check(const vit_config *c, const vit_kernels *k,
    int batch, uint64_t seed, vit_gradient_report *r);

/* ---- 08 training ------------------------------------------------------- */

typedef enum { VIT_SGD, VIT_ADAM, VIT_ADAMW } vit_algorithm;

/* The settings of an optimiser, once: type, field, default (of algorithm a),
   the name under which a resume compares it, smallest and largest value, this
   range in words (NULL: "from .. to .."). SGD has the momentum; Adam and AdamW
   have beta1, beta2 and eps; clip_norm 0 means no clipping. There are depth + 2
   groups, as in timm: the stem, each block (the final norm goes with the last),
   the head. In a loop of your own set the state's freeze, too. */
#define VIT_OPTIMIZER_FIELDS(X)                                                \
  X(vit_algorithm, algorithm, a, "optimizer", 0, VIT_ADAMW,                    \
      "VIT_SGD, VIT_ADAM or VIT_ADAMW")                                        \
  X(float, momentum, 0.9f, "momentum", 0, VIT__BELOW(1), VIT__BELOW_1)         \
  X(float, beta1, 0.9f, "beta1", 0, VIT__BELOW(1), VIT__BELOW_1)               \
  X(float, beta2, 0.999f, "beta2", 0, VIT__BELOW(1), VIT__BELOW_1)             \
  X(float, eps, 1e-8f, "eps", 1e-45, FLT_MAX, "above 0 and finite")            \
  X(float, weight_decay, a == VIT_ADAMW ? 0.01f : 0, "weight_decay", 0,        \
      VIT__BELOW(1e6), "at least 0 and below 1e+06")                           \
  /* 1: decay every tensor, as AdamW(parameters()) */                          \
  X(int, decay_all, 0, "decay_all", 0, 1, NULL)                                \
  X(float, clip_norm, 0, "clip_norm", 0, VIT__BELOW(1e30),                     \
      "at least 0 and below 1e+30")                                            \
  /* fine-tuning: each group learns at this times the rate of the group */     \
  /* behind it (Bao et al. 2022); 0: all at the same */                        \
  X(float, layer_decay, 0, "layer_decay", 0, 1, NULL)                          \
  /* so many groups from the front stay as they are: all but the head at */    \
  /* depth + 1 */                                                              \
  X(int, freeze, 0, "freeze", 0, VIT__MOST, NULL)

#define VIT__MEMBER(type, field, ...) type field;
typedef struct {
  VIT_OPTIMIZER_FIELDS(VIT__MEMBER)
} vit_optimizer_config;
VIT_DEF vit_optimizer_config vit_optimizer_defaults(vit_algorithm a);

typedef struct {
  vit_optimizer_config config;
  vit_tensors m, v; /* first and second moment; SGD has only m */
  int step;         /* steps done */
  double norm;      /* gradient norm of the last step, before clipping */
  vit_arena arena;
} vit_optimizer;
VIT_DEF vit_result vit_optimizer_create(
    vit_optimizer *o, const vit_model *m, const vit_optimizer_config *c);
VIT_DEF void vit_optimizer_free(vit_optimizer *o);
VIT_DEF vit_result vit_optimizer_step(
    vit_optimizer *o, vit_model *m, vit_state *s, float rate);
/* Norm over all gradients; scales them so that it is at most `limit`, which is
   0 or more. 0 where there is no model, and in a state that does not train. */
VIT_DEF double vit_clip_gradients(
    const vit_model *m, vit_state *s, float limit);

typedef enum {
  VIT_CONSTANT,
  VIT_LINEAR, /* warm-up, then down to `floor` in a line at step `total` */
  VIT_COSINE, /* warm-up, then down to `floor` in half a cosine */
  VIT_STEP,   /* times `factor` every `every` steps */
  VIT_PLATEAU /* times `factor` when the loss has not sunk for `patience` */
} vit_schedule_kind;

/* The settings of a schedule, once: type, field, default, the name under which
   a resume compares it, meaning. */
#define VIT_SCHEDULE_FIELDS(X)                                                 \
  X(vit_schedule_kind, kind, VIT_CONSTANT, "schedule", "see above")            \
  X(float, rate, highest, "rate", "the highest learning rate")                 \
  X(float, floor, 0, "rate_floor", "the lowest")                               \
  X(float, factor, 0.1f, "rate_factor", "of VIT_STEP and VIT_PLATEAU")         \
  X(int, warmup, 0, "warmup_steps", "steps from 0 to the highest rate")        \
  X(int, every, 1, "rate_every", "steps")                                      \
  X(int, patience, 1, "rate_patience", "epochs")                               \
  X(int, total, 0, "", "steps; compared where the rate falls until then")

typedef struct {
  VIT_SCHEDULE_FIELDS(VIT__MEMBER)
} vit_schedule;
VIT_DEF vit_schedule vit_schedule_constant(float highest);
/* Others start from a constant one:
     vit_schedule s = vit_schedule_constant(3e-4f);
     s.kind = VIT_COSINE; s.warmup = 500; s.total = 0;
   total 0 is the whole run of vit_fit; in a loop of your own the rate then does
   not fall. With a warm-up the rate of step 0 is 0. Only VIT_LINEAR and
   VIT_COSINE know a warm-up; VIT_CONSTANT and VIT_STEP know no floor. */

/* What VIT_PLATEAU remembers; all zero at the start. */
typedef struct {
  double best;         /* the lowest loss so far, once `started` */
  int started, waited; /* waited: epochs since then, or since it was lowered */
  int lowered;         /* how often the rate was */
} vit_plateau;
/* Rate of step 0, 1, 2, ...; p may be NULL: nothing was lowered. */
VIT_DEF float vit_schedule_rate(
    const vit_schedule *s, const vit_plateau *p, int step);
/* Tell the plateau the loss of an epoch; 1 if that lowered the rate. */
VIT_DEF int vit_plateau_observe(
    vit_plateau *p, const vit_schedule *s, double loss);

/* ---- 09 mnist ---------------------------------------------------------- */

VIT_DEF vit_result vit_make_dir(const char *dir); /* with its parents */

/* Images as bytes, labels 0 .. classes-1. */
typedef enum { VIT_TRAIN, VIT_TEST } vit_split;
enum { VIT_NAME_SIZE = 64 };
typedef struct {
  int count, channels, height, width, classes;
  uint8_t *pixels;              /* [count,C,height,width] */
  uint8_t *labels;              /* [count] */
  char (*names)[VIT_NAME_SIZE]; /* [classes], or NULL: they are just numbers */
  float mean[3], std[3]; /* of pixel / 255, per channel; 0 and 1 at first */
  int skipped, enlarged; /* files and images, by vit_dataset_folder */
  char source[256];      /* what it is and where it came from, one line */
} vit_dataset;
/* IDX files (LeCun's format), plain or .gz. Labels must be 0..classes-1. */
VIT_DEF vit_result vit_dataset_idx(
    vit_dataset *d, const char *images, const char *labels, int classes);
/* MNIST or the drawn digits below `dir`: dir/mnist, dir, dir/digits. dir NULL:
   the environment's VIT_DATA, then ./data. Other data under MNIST's names is
   read, too; `source` tells which of the three it is. */
VIT_DEF vit_result vit_dataset_mnist(
    vit_dataset *d, const char *dir, vit_split split);
/* Name of class k, "7" where classes are just numbers, "?" where there is no
   class k. It lives as long as the dataset and the calling thread, a number
   until that of a class 1024 further is asked for. */
VIT_DEF const char *vit_class_name(const vit_dataset *d, int k);
/* Move `held_back` images, chosen at random, from d to *held. Each class gives
   its part; both keep their order. */
VIT_DEF vit_result vit_dataset_split(
    vit_dataset *d, int held_back, uint64_t seed, vit_dataset *held);
/* Set d's mean and std to those of the pixels of `from`, which may be d itself:
   for a test set take the training set. A std of 0 becomes 1. */
VIT_DEF vit_result vit_dataset_normalize(
    vit_dataset *d, const vit_dataset *from);
VIT_DEF void vit_dataset_limit(vit_dataset *d, int n); /* the first n; 0: all */
VIT_DEF void vit_dataset_free(vit_dataset *d);
/* images [n,C,height,width] = (pixel/255 - mean) / std, labels [n], of the
   dataset's images order[0..n-1]. */
VIT_DEF void vit_dataset_batch(
    const vit_dataset *d, const int *order, int n, float *images, int *labels);

/* How training images are changed at random, once: field, largest value and
   meaning. 0 is off for each. */
#define VIT_AUGMENT_FIELDS(X)                                                  \
  X(shift, 1, "move by up to this part of the width and height")               \
  X(rotate, 180, "turn by up to this many degrees")                            \
  X(scale, 2, "resize by a factor of up to 1 + this, or one over that")        \
  X(shear, 60, "slant by up to this many degrees")                             \
  X(elastic, 16, "bend: pixels move by about this many (standard deviation)")  \
  X(elastic_width, 16, "pixels over which the bending is smooth; 0 = 4")       \
  X(crop, 1, "random resized crop: smallest part of the area; 0 = none")       \
  X(flip, 1, "probability of a mirror image, left to right")                   \
  X(flip_vertical, 1, "probability of a mirror image, top to bottom")          \
  X(brightness, 1, "multiply by 1 - this to 1 + this")                         \
  X(contrast, 1,                                                               \
      "stretch from the mean of all channels by 1 - this to 1 + this")         \
  X(erase, 1, "probability that a rectangle is erased")                        \
  X(rand_ops, 10, "RandAugment: how many changes are drawn for each image")    \
  X(rand_strength, 10, "RandAugment: how strong, 0 to 10")                     \
  X(mixup, 2, "alpha of mixup: pairs of images are blended; 0 = none")         \
  X(cutmix, 2, "alpha of cutmix: pairs exchange a rectangle; 0 = none")

/* To change images in a way of your own, set `image` to a function like
   vit_augment_image. It may call that first, and must take all its random
   numbers from rng. Threads call it at the same time, each with its scratch.

       static void darken(float *out, const vit_dataset *d, int i,
           const vit_augment *a, vit_rng *rng, float *scratch) {
         const float factor = *(const float *)a->user * vit_random_uniform(rng);
         vit_augment_image(out, d, i, a, rng, scratch);
         for (int j = 0; j < d->height * d->width; j++) out[j] -= factor;
       }
       a.image = darken, a.user = &strength, a.name = "darken 0.5"; */
#define VIT__FIELD(name, largest, text) float name;
typedef struct vit_augment {
  VIT_AUGMENT_FIELDS(VIT__FIELD)
  void (*image)(float *out, const vit_dataset *d, int i,
      const struct vit_augment *a, vit_rng *rng, float *scratch); /* or NULL */
  void *user;       /* for the function */
  const char *name; /* what a resume compares; wanted where `image` is set */
} vit_augment;
#undef VIT__FIELD
/* Field i as name, text and pointer to its value; 0 past the end. */
VIT_DEF int vit_augment_field(
    vit_augment *a, int i, const char **name, const char **text, float **value);
VIT_DEF vit_result vit_augment_check(const vit_augment *a);

/* Image i of a dataset, changed: out [C,height,width], normalised as
   vit_dataset_batch does. Mixup and cutmix need pairs: see vit_loader_batch.
   scratch: vit_augment_scratch() floats. */
VIT_DEF void vit_augment_image(float *out, const vit_dataset *d, int i,
    const vit_augment *a, vit_rng *rng, float *scratch);
VIT_DEF size_t vit_augment_scratch(const vit_dataset *d);

/* Batches of a dataset in a new order each epoch, augmented. What image is next
   and how it is changed depends on seed, epoch and place in the order alone:
   any batch can be made again, by any number of threads or machines. */
typedef struct {
  const vit_dataset *data;
  vit_augment augment;
  int batch, classes; /* most images in a batch; K of the model */
  int threads;        /* that `scratch` was made for: not to be changed */
  float smoothing;    /* of the labels */
  uint64_t seed;
  int epoch, *order; /* [count] of this epoch */
  float *images;     /* [batch,C,height,width] */
  float *targets;    /* [batch,K] for vit_loss_targets */
  float *scratch;    /* for each thread */
  vit_arena arena;
} vit_loader;
VIT_DEF vit_result vit_loader_create(vit_loader *l, const vit_dataset *d,
    const vit_model *m, const vit_augment *a, int batch, float smoothing,
    uint64_t seed);
VIT_DEF void vit_loader_epoch(vit_loader *l, int epoch); /* shuffle */
/* Fill images and targets with number first .. first + n - 1 of the order;
   fails where n is more than `batch` or the order ends before. */
VIT_DEF vit_result vit_loader_batch(vit_loader *l, int first, int n);
VIT_DEF void vit_loader_free(vit_loader *l);

/* Loss and accuracy (0..1) over a dataset; classes [count], p [count,K] and
   logits [count,K] may be NULL. VIT_ERR_DIVERGED: a logit is not finite. */
VIT_DEF vit_result vit_evaluate(const vit_model *m, const vit_dataset *d,
    double *loss, double *accuracy, int *classes, float *p, float *logits);
/* What the head sees of each image, its labels unread: features [count,D], and
   with dist_token [count,2,D], for each of both heads. */
VIT_DEF vit_result vit_features(
    const vit_model *m, const vit_dataset *d, float *features);
/* counts [K,K] += 1 at row true class, column predicted class; both are below
   K, the classes of the model. */
VIT_DEF void vit_confusion(
    int *counts, const int *predicted, const uint8_t *labels, int n, int K);
/* Of class k: precision, how many of those called k are k; recall, how many of
   those that are k are called k; F1, their harmonic mean. 0 where 0 / 0. */
typedef struct {
  int count;
  double precision, recall, f1;
} vit_class_score;
VIT_DEF vit_class_score vit_score_class(const int *counts, int K, int k);
/* Part of the images whose label is among the n_best most probable classes;
   p [n,K]. */
VIT_DEF double vit_top_accuracy(
    const float *p, const uint8_t *labels, int n, int K, int n_best);

/* What is known of each epoch, once: field and meaning. */
#define VIT_EPOCH_FIELDS(X)                                                    \
  X(train_loss, "mean over the epoch's batches, with their augmentation")      \
  X(val_loss, "on the images that judge the epochs, after the epoch")          \
  X(val_accuracy, "the same: part of them that is right, 0..1")                \
  X(val_top5, "the same: the true class is among the five most probable")      \
  X(rate, "learning rate of the last step")                                    \
  X(seconds, "since the training began, less what was cut off")

#define VIT__FIELD(name, text) double name;
typedef struct vit_epoch {
  VIT_EPOCH_FIELDS(VIT__FIELD)
} vit_epoch;
#undef VIT__FIELD
typedef struct {
  int epochs;        /* finished */
  int best;          /* the epoch, from 1, with the best accuracy; 0: none */
  vit_epoch *epoch;  /* [epochs] */
  char kernels[128]; /* that computed it: see vit_fit */
} vit_history;
VIT_DEF void vit_history_free(vit_history *h);
/* As a table: a line of names, then a line per epoch with commas between. */
VIT_DEF vit_result vit_history_write(const vit_history *h, const char *path);
/* Read what vit_history_write has written. */
VIT_DEF vit_result vit_history_read(vit_history *h, const char *path);

typedef struct {
  int epoch, epochs, step, steps; /* 1-based epoch; step and steps of it */
  int epoch_done;                 /* 1: last call of this epoch */
  double loss;                    /* mean training loss of this epoch so far */
  double rate, images_per_second, seconds, seconds_left;
  const vit_epoch *result; /* when epoch_done, else NULL */
  const vit_history *history;
  const vit_model *model; /* as of now; averaged when epoch_done */
} vit_progress;

/* The settings of a run that are numbers, once: type, field, default, the name
   under which a resume compares it ("": it may change; the seed is compared in
   three parts), smallest and largest value, what a message calls it, its range
   in words (NULL: "from .. to .."). */
#define VIT_FIT_FIELDS(X)                                                      \
  X(int, epochs, 5, "", 1, VIT__MOST, "epochs", NULL)                          \
  X(int, batch, 128, "batch", 1, VIT__MOST, "batch", NULL)                     \
  /* batches per optimiser step */                                             \
  X(int, accumulate, 1, "accumulate", 1, VIT__MOST, "accumulate", NULL)        \
  X(float, smoothing, 0, "smoothing", 0, 1, "label smoothing", NULL)           \
  /* decay of the averaged weights; 0 = no average */                          \
  X(float, ema, 0, "ema", 0, VIT__BELOW(1),                                    \
      "the decay of the averaged weights", "from 0 to below 1")                \
  /* 1: end with the weights of the best epoch */                              \
  X(int, keep_best, 0, "keep_best", 0, 1, "keep_best", NULL)                   \
  /* end after so many epochs without a better one */                          \
  X(int, early_stop, 0, "", 0, INT_MAX, "early_stop",                          \
      "0, never, or the epochs to wait for a better one")                      \
  /* 1: a linear probe: the head alone learns, from vit_features of each */    \
  /* image, made once when it begins; nothing can change images then */        \
  X(int, probe, 0, "probe", 0, 1, "probe", NULL)                               \
  /* of the shuffling, the dropout, the augmentation */                        \
  X(uint64_t, seed, 1, "", 0, 2e19, "seed", NULL)                              \
  /* a cluster shares out each batch: this program computes part `part` */     \
  X(int, parts, 1, "", 1, VIT__MOST, "parts", NULL)                            \
  X(int, part, 0, "", 0, c->parts - 1, "part", NULL)                           \
  /* 1: go on from dir/last.safetensors, if it is there */                     \
  X(int, resume, 0, "", 0, 1, "resume", NULL)

typedef struct {
  VIT_FIT_FIELDS(VIT__MEMBER)
  vit_augment augment; /* of the training images */
  vit_optimizer_config optimizer;
  vit_schedule schedule;
  const char *dir; /* of the checkpoints; NULL: none are written */
  int (*callback)(const vit_progress *p, void *user); /* not 0: stop */
  /* The hook between gradients and optimiser: may change all count numbers of
     g, which lie in memory as the parameters do. An error ends the run. */
  vit_result (*gradients)(float *g, size_t count, void *user);
  /* For a batch that is shared: the losses of its images, 0 for those of other
     programs, whose losses are to be added. */
  vit_result (*losses)(double *losses, int count, void *user);
  void *user; /* of all three */
} vit_fit_config;
#undef VIT__MEMBER
/* The tutorial's recipe: 5 epochs, batch 128, Adam, rate 0.005. Two numbers are
   not the published ones. beta2 is 0.95 instead of 0.999: with the tutorial's
   softmax a class dies early, and Adam's long memory of its first, large
   gradients keeps it dead; with the shorter memory it comes back. And the rate
   sinks to its half during the run, which steadies the last epochs: if you
   change schedule.rate, change schedule.floor, 0.0025, too. */
VIT_DEF vit_fit_config vit_fit_defaults(void);
/* Are the settings possible? Asks what can be known before there are a model
   and images; vit_fit asks it as well. */
VIT_DEF vit_result vit_fit_check(const vit_fit_config *c);
/* Train. `val` holds the images that judge each epoch; if it is NULL, their
   losses and accuracies are NAN. To choose among epochs or settings (keep_best,
   early_stop, VIT_PLATEAU) hold back training images for it with
   vit_dataset_split, and look at the real test set once, at the end.

   The best epoch has the highest accuracy, of equals the lowest loss. With
   `ema` it is the averaged weights that are judged, and with which the model
   ends.

   With `dir` three files are kept up to date after each epoch and when the
   callback stops it: last.safetensors, from which `resume` goes on as if it had
   never stopped, history.csv, and, with `val`, best.safetensors, the model of
   the best epoch. Each is replaced as a whole: a crash leaves the old one.
   While one run is at work in `dir`, another is refused. Resumed runs have the
   bits of runs that never stopped if the kernels are the same: history.kernels
   names them, "simd AVX2+FMA", in order and with commas where they changed.

   The history (its old content is not freed) holds the finished epochs, also
   when the callback stopped it (VIT_STOPPED) or the loss went bad. */
VIT_DEF vit_result vit_fit(vit_model *m, const vit_fit_config *c,
    const vit_dataset *train, const vit_dataset *val, vit_history *h);

/* The same in steps, so that a page can train in slices of time:

     r = vit_trainer_create(&t, &model, &f, &train, &val, &history);
     while (!r && !t.done) r = vit_trainer_step(&t);
     vit_trainer_free(&t);

   A step is one batch of training or, after an epoch's last one, one batch of
   judging; `done` is set by the first step that finds nothing to do. Between
   two steps everything may be read; what was given has to stay where it is.
   After VIT_STOPPED it can go on, after an error it cannot.

   On a cluster all programs have the same seed, images and settings, but each
   its `part` of so many `parts` and a `dir` of its own: it computes its part of
   the images of each batch, and the hooks add up g and the losses over all
   programs, such as with MPI_Allreduce. So all have the same weights after each
   step. They have the bits of one program alone if the model has at most 2^20
   numbers, there are 2, 4, 8 or 16 parts, added as a binary tree, ((0 + 1) +
   (2 + 3)) + ..., and accumulate is 1. Mixup and cutmix make pairs within a
   part; without the hook `losses` the losses in training are those of the part,
   so that VIT_PLATEAU needs `val`. */
typedef struct {
  int images, right, top5; /* how many were judged, how many are right */
  double loss;             /* sum over them */
} vit_judged;
typedef struct {
  vit_model *model;
  vit_fit_config config; /* a copy */
  vit_schedule schedule; /* its schedule, with the total known */
  const vit_dataset *train, *val;
  vit_history *history;
  vit_progress progress; /* what the callback was told last */
  int done, failed;      /* 1: nothing is left to do; a step has failed */
  int stop;         /* 1: the callback said so: after the optimiser's step */
  int epoch, batch; /* epochs finished; batches done of the next one */
  double loss, loss_sum; /* of the last batch; over the images of the epoch */
  vit_judged judged;     /* after its last batch */
  double images;         /* shown since this start */
  double start, before;  /* clock; seconds of finished epochs before a resume */
  vit_state state;
  vit_optimizer optimizer;
  vit_plateau plateau;
  vit_loader loader;
  float *average, *best; /* weights, or NULL: averaged; of the best epoch */
  float *features[2];    /* of a probe: of train and of val */
  vit_model averaged;    /* the model as it is judged, with these weights */
  vit_epoch *table;      /* the history as it stands in a checkpoint */
  vit_arena arena;       /* the memory of all these */
  int locked, lock;      /* 1: the folder is ours, by this file */
} vit_trainer;
VIT_DEF vit_result vit_trainer_create(vit_trainer *t, vit_model *m,
    const vit_fit_config *c, const vit_dataset *train, const vit_dataset *val,
    vit_history *h);
VIT_DEF vit_result vit_trainer_step(vit_trainer *t);
/* The model ends with the averaged weights, or those of the best epoch, if the
   settings say so. */
VIT_DEF void vit_trainer_free(vit_trainer *t);

/* ---- 10 inside --------------------------------------------------------- */

/* What does a model look at? Chapter 10 has formulas and sources. In a map over
   the tokens, [T], the class token is number 0, patch n number class_token + n.
   Whose map it is: that of a token, or, VIT_POOLED, of what the head reads: the
   class token, or the mean of the maps of pooled patches, or of class and
   distillation token. The first five read the last forward of a state, which
   most of them want with VIT_FOR_TRAINING and VIT_KEEP_ATTENTION. */
enum { VIT_POOLED = -1, VIT_ALL_HEADS = -1 };
/* A row of a head's attention, or of the mean of VIT_ALL_HEADS: sums to 1. */
VIT_DEF vit_result vit_attention_row(const vit_model *m, const vit_state *s,
    int layer, int image, int head, int token, float *map);
/* The rows of all layers multiplied, residual paths included: sums to 1. */
VIT_DEF vit_result vit_attention_rollout(
    const vit_model *m, const vit_state *s, int image, int token, float *map);
/* Which tokens make that larger whose gradient went back last. For class k call
   vit_backward_logits with 1 at k first. The token itself has 1 and more. */
VIT_DEF vit_result vit_attention_relevance(
    const vit_model *m, const vit_state *s, int image, int token, float *map);
/* How far the patches of the last batch look in one head, mean in pixels. */
VIT_DEF vit_result vit_attention_distance(const vit_model *m,
    const vit_state *s, int layer, int head, double *pixels);
/* What the head would say if block `layer` were the last: logits [B,K]. */
VIT_DEF vit_result vit_logit_lens(
    const vit_model *m, const vit_state *s, int layer, float *logits);

/* Two looks at the parameters. The filters of the patch projection that differ
   most: filters [count,C,PH,PW], principal components of length 1, and what
   part of the variance each explains, parts [count]; count <= D and <= P. */
VIT_DEF vit_result vit_patch_filters(
    const vit_model *m, float *filters, float *parts, int count);
/* Cosine of the positions of any two patches, likeness [N,N]. */
VIT_DEF vit_result vit_position_likeness(const vit_model *m, float *likeness);

/* Why class k? Asked by images that are changed: a patch that is taken away
   gets the pixels of `baseline`, an image with nothing to see, such as a black
   one. They run forwards of their own, up to the state's capacity at a time. */
typedef struct {
  const vit_model *m;
  vit_state *s;
  const float *image, *baseline; /* [C,height,width] as for vit_forward */
  int k;
} vit_question;
/* How far the logit of k falls when patch n alone is taken away: map [N]. */
VIT_DEF vit_result vit_occlusion(const vit_question *q, float *map);
/* The gradient by the pixels, from baseline to image in so many steps, summed
   over each patch: map [N]. Its sum should be by how much the logit differs:
   *error is how far off it is, as a part of that (not finite where both logits
   are the same). The state was made with VIT_FOR_TRAINING and
   VIT_INPUT_GRADIENT; its grads are 0 afterwards. */
VIT_DEF vit_result vit_integrated_gradients(
    const vit_question *q, int steps, float *map, double *error);
/* To judge a map [N]: the probability of k when 0, 1, ..., N patches are taken
   away, or with `insert` put into the baseline, the highest of the map first:
   curve [N+1], and the area below it, 0 to 1. A good map has a small area when
   patches are taken away and a large one when they are put in. */
VIT_DEF vit_result vit_deletion_curve(const vit_question *q, const float *map,
    int insert, float *curve, double *area);

/* -- plots --------------------------------------------------------------- */

/* A figure is a gnuplot script beside its data: DIR/NAME.gp, DIR/NAME.dat and
   the picture DIR/NAME.png. Write both files, then call vit_plot_end. gnuplot
   reads no start-up file of yours (-d): a figure looks the same everywhere.
   Wider than 960 pixels, its type is too small on a page. */
typedef struct {
  FILE *script, *data;
  char dir[256], name[64];
} vit_plot;
VIT_DEF vit_result vit_plot_begin(
    vit_plot *p, const char *dir, const char *name, int width, int height);
/* Close both files and run gnuplot. VIT_ERR_GNUPLOT: there is no picture, but
   both files are there; VIT_STOPPED: Ctrl-C ended gnuplot. */
VIT_DEF vit_result vit_plot_end(vit_plot *p);
/* Loss, accuracy and learning rate over the epochs, the best epoch marked;
   `judge` names what judged them, such as "held-back images". If nothing did
   (h->best is 0), only the loss in training and the rate are drawn. c is the
   model's config or NULL: with a softmax before the loss no loss can be 0, so
   the least possible one is drawn and the axis starts below it. */
VIT_DEF vit_result vit_plot_history(const char *dir, const char *name,
    const vit_history *h, const char *judge, const vit_config *c);
/* The same for `count` runs in one figure, run i called names[i]. The loss axis
   starts where the curves do. */
VIT_DEF vit_result vit_plot_histories(const char *dir, const char *name,
    const vit_history *const *h, const char *const *names, int count,
    const char *judge);
/* counts [K,K]: row true class, column predicted class; d, or NULL, knows the
   names of the classes. Mistakes have a colour scale of their own, apart from
   the right answers, so that a few of them are seen too. Above 100 classes
   there is no room for names and numbers. */
VIT_DEF vit_result vit_plot_confusion(const char *dir, const char *name,
    const int *counts, int K, const vit_dataset *d);
/* A grid of pictures: values [rows*cols][channels][height][width], 1 channel is
   grey, 3 are red, green and blue. `black` and `white` are the values of these
   colours; if they are equal, each picture goes from its own smallest value
   (black) to its largest (white). A weight of 0 or more per region,
   glow [rows*cols][glow_rows][glow_cols], shines orange over it: the largest in
   the figure lets a quarter of the picture through, and a bar says how large
   it is. glow and titles (one or two lines below each) may be NULL. */
VIT_DEF vit_result vit_plot_tiles(const char *dir, const char *name,
    const char *title, const float *values, const float *glow, int glow_rows,
    int glow_cols, const char *const *titles, int rows, int cols, int channels,
    int height, int width, float black, float white);

/* ---- 11 speed ---------------------------------------------------------- */

/* Rearrange w [out,in] for linear_packed_forward: vit_panel() outputs at a
   time, packed [out / vit_panel(), in, vit_panel()]; `out` is a multiple of it.
   It is 16, or 32 with AVX-512. */
VIT_DEF int vit_panel(void);
VIT_DEF void vit_pack_linear(float *packed, const float *w, int in, int out);
VIT_DEF void vit_unpack_linear(float *w, const float *packed, int in, int out);
/* For inference alone: rearrange the weights of the linear layers, in place, as
   the matrix product reads them. The results are the same to the bit, and come
   sooner; layers whose outputs are no multiple of vit_panel() stay as they are.
   What trains, loads or saves refuses a packed model. */
VIT_DEF vit_result vit_model_pack(vit_model *m);
VIT_DEF vit_result vit_model_unpack(vit_model *m);

/* For inference alone, and for good: the weights of the linear layers become
   whole numbers from -64 to 64 with a scale for each output, a quarter of the
   memory; their inputs become numbers from 0 to 127 with a scale and a zero
   point for each row, as they pass. All else stays as it is. It is faster and a
   little less exact: chapter 11 says how. While it works, both models are in
   memory; on failure m is as it was. vit_model_save and vit_model_open know
   such models; what trains, packs or loads refuses them. */
VIT_DEF vit_result vit_model_quantize(vit_model *m);
/* The same for arrays of your own. vit_int8_size: bytes that `count` rows or
   outputs of `in` numbers take, in <= 262,128; outputs are counted up to a
   multiple of vit_panel(). Quantize the rows by the kernel quantize_rows, the
   weights w [out,in] by this, and multiply them by linear_int8_forward. */
VIT_DEF size_t vit_int8_size(int count, int in);
VIT_DEF void vit_quantize_linear(void *q, const float *w, int in, int out);
VIT_DEF void vit_dequantize_linear(float *w, const void *q, int in, int out);

/* ---- 12 photos --------------------------------------------------------- */

/* Resize as Pillow 13 does, to the bit: the filter grows when shrinking.
   in [planes,height,width] -> out [planes,out_height,out_width], sizes from 1
   to 32768. VIT_BICUBIC is Pillow's BICUBIC (a = -0.5). A dataset is resized
   by VIT_BILINEAR, its sides up to 4096. */
typedef enum { VIT_BILINEAR, VIT_BICUBIC } vit_filter;
VIT_DEF vit_result vit_resize(uint8_t *out, const uint8_t *in, vit_idx planes,
    int height, int width, int out_height, int out_width, vit_filter filter);
VIT_DEF vit_result vit_dataset_resize(vit_dataset *d, int height, int width);
/* The binary version of CIFAR-10, 32 x 32 x 3, below `dir`: dir,
   dir/cifar-10-batches-bin, dir/cifar10. dir NULL: as for MNIST. */
VIT_DEF vit_result vit_dataset_cifar10(
    vit_dataset *d, const char *dir, vit_split split);
/* A picture (JPEG, PNG, GIF, BMP, PGM, ..., whatever its name) through
   stb_image: pixels [C,H,W] with channels C = 1 or 3, to be freed by
   vit_image_free. Colours become grey, and grey becomes colour, as in Pillow's
   convert("L") and convert("RGB"); alpha is dropped, or with C = 2 or 4 it is
   the last plane (0: not seen). Of 16 bits the upper 8 are kept, of a GIF the
   first image, and a JPEG is turned as its Exif orientation says. Sides up to
   32768, 134 million pixels. A file that is cut off, whose checksum is wrong,
   or that stb_image would read wrongly is refused. */
VIT_DEF vit_result vit_image_load(
    const char *path, int channels, uint8_t **pixels, int *height, int *width);
VIT_DEF void vit_image_free(uint8_t *pixels);
/* A photo of one digit, prepared as MNIST was: grey [height,width], dark on
   light or light on dark -> out [28,28], white ink on black. The ink's box is
   fitted into 20 x 20 pixels, its centre of mass put into the middle. A slope
   of the light does no harm; sides from 1 to 32768. VIT_ERR_FORMAT: there is no
   digit. Lay a transparent picture over white first: see vit_image_load. */
VIT_DEF vit_result vit_digit_prepare(
    uint8_t *out, const uint8_t *grey, int height, int width);
/* What becomes of each picture of a folder: its shorter side is resized to
   `resize` pixels, and height x width are cut out of the middle, as torchvision
   does with Resize(resize) and CenterCrop. */
typedef struct {
  int channels, height, width; /* 1 or 3, sides up to 4096 */
  int resize;                  /* 0: the smallest that covers height x width */
  vit_filter filter;
  /* Told of each file that cannot be read, in their order, from the calling
     thread; may be NULL. */
  void (*skipped)(const char *sentence, void *user);
  void *user;
} vit_folder_config;
VIT_DEF vit_folder_config vit_folder_defaults(void); /* 3 x 224 x 224 */
/* Photos in a folder per class: dir/CLASS/FILE, subfolders of a class too. The
   order is that of strcmp, whatever the number of threads; names that start
   with a dot are left out. d->skipped files could not be read; d->enlarged
   images were too small. 2 to 256 classes, each with at least one image. All
   threads decode: allocators of your own must allow that. */
VIT_DEF vit_result vit_dataset_folder(
    vit_dataset *d, const char *dir, const vit_folder_config *c);

/* ---- 13 pretrained: safetensors ---------------------------------------- */

/* A file of named tensors with text metadata, as Hugging Face defines it: 8
   bytes header length, JSON, data. What opens here is what their library 0.8.0
   opens, and no name may be there twice. The file is mapped into memory where
   the system can, so that opening it reads its header alone; else it is read.
   Do not write into a file that is open: replace it, by renaming another.
   Machines that store the big end of a number first cannot open any. */
typedef struct {
  const char *name;   /* UTF-8; U+0000 in it stands as C0 80 */
  int dims, shape[8]; /* dims -1: more than 8, or a size above INT_MAX */
  size_t count;
  const void *data; /* little-endian; not aligned */
  char type[16];    /* "F32", "I64", "F8_E4M3", ... */
} vit_safetensor;
typedef struct {
  unsigned char *bytes; /* all of the file */
  size_t size, data;    /* its bytes, and where those of the tensors begin */
  int file;             /* the open file while it is mapped, or -1 */
  int count, notes;     /* tensors, and pairs of the metadata */
  char *header;         /* its strings */
  vit_safetensor *entries;
  struct vit__name *names;
} vit_safetensors;
VIT_DEF vit_result vit_safetensors_open(vit_safetensors *f, const char *path);
/* Tensor i in the header's order; 0 if there is none. */
VIT_DEF int vit_safetensors_at(
    const vit_safetensors *f, int i, vit_safetensor *t);
VIT_DEF vit_result vit_safetensors_find(
    const vit_safetensors *f, const char *name, vit_safetensor *t);
/* Value of a metadata key, NULL if it is not there. */
VIT_DEF const char *vit_safetensors_metadata(
    const vit_safetensors *f, const char *key);
VIT_DEF void vit_safetensors_close(vit_safetensors *f);
/* Write such a file: a temporary one of this call, flushed to the disk, is
   renamed to PATH, so that PATH is the old file or the whole new one at any
   moment, whoever else writes it. metadata: key, value, ..., NULL. */
VIT_DEF vit_result vit_safetensors_write(const char *path,
    const vit_safetensor *tensors, int count, const char *const *metadata);
/* Copy the parameters of a model from a file that has timm's names, each with
   `prefix` ("" for none) in front. NaN and infinity are refused. On failure the
   model is as it was. */
VIT_DEF vit_result vit_model_load(
    vit_model *m, const vit_safetensors *f, const char *prefix);
/* A model alone as a file; `d` (or NULL) gives mean, std and the class names.
   Such a file holds, and vit_model_open wants:
     tensors       all parameters, F32, under timm's names; others do no harm.
                   Of a quantized model the weights of linear layers are I8, and
                   NAME_scale, F32 [out,1], has a scale for each output
     config.FIELD  a field of vit_config as text, "config.depth": "6". Needed
                   are image_height, image_width and heads. The tensors tell
                   width, depth, mlp_width, head_dim, classes, channels,
                   patch_height, patch_width, class_token, qkv_bias, final_norm,
                   whether positions are learned and, without class token, pool.
                   The rest is as in VIT_CONFIG_FIELDS. head and layer_drop are
                   old names of softmax_before_loss and block_drop.
     mean, std     of pixel / 255, "0.5 0.4 0.4", or one number if the model is
                   grey; 0 and 1 where they are not there
     class.0, ...  names of the classes; without class.0 they are numbers */
VIT_DEF vit_result vit_model_save(
    const vit_model *m, const vit_dataset *d, const char *path);
/* Make the model that such a file, or a checkpoint, describes. `about` (or
   NULL) becomes a dataset without images: channels, height, width, classes,
   names, mean, std, source. Free both. */
VIT_DEF vit_result vit_model_open(
    vit_model *m, const char *path, vit_dataset *about);

/* -- models of other libraries ------------------------------------------- */

/* What a file of another library does not tell, or what you want otherwise. */
typedef struct {
  int image_height, image_width; /* 0: of its positions; else resampled */
  int rows, cols; /* grid of its positions, if that is no square */
  int heads;      /* 0: config.json, or width / 64 where that is safe */
  int channels;   /* 0: as it has; 1: its filters are summed, for grey images */
  int classes;    /* above 0: a new head, at random, of so many */
  uint64_t seed;  /* of the new head */
} vit_pretrained_config;
VIT_DEF vit_pretrained_config vit_pretrained_defaults(void);

typedef enum { VIT_HEAD_READ, VIT_HEAD_NEW, VIT_HEAD_NONE } vit_pretrained_head;
typedef struct {
  const char *dialect; /* whose names: "timm", "Hugging Face ViT", ... */
  char prefix[64];     /* in front of them */
  int used, left;      /* tensors read; tensors that do no harm, left out */
  int folded;          /* layer scales: they are in the layers before them */
  int rows, cols;      /* of its positions */
  int resampled;       /* 1: they were */
  int normalized;      /* 1: mean and std of its pixels were told */
  vit_pretrained_head head; /* none: the logits are the features, K = D */
  char text[320];           /* all of this in one line */
} vit_pretrained_report;

/* Make the model that a file of timm, Hugging Face (ViT, DeiT, MAE, DINOv2,
   CLIP and SigLIP "gap", the image tower) or torchvision holds:
   FILE.safetensors, FILE.safetensors.index.json with its shards, or a folder of
   one of these; config.json and preprocessor_config.json beside it are read.
   F16, BF16 and F64 become F32. What vit.h has not is refused by name, a tensor
   may not be left over, and a new head must be asked for. `about` is as
   vit_model_open makes it, its mean and std are 0 and 1 where no file tells
   them; c, about and report may be NULL. vit.h's own files open, too. What
   changes no shape may be set in m->config afterwards: norm_eps; gelu, which
   timm's CLIP without a config.json does not tell (OpenAI's is
   VIT_GELU_QUICK). */
VIT_DEF vit_result vit_pretrained_open(vit_model *m, const char *path,
    const vit_pretrained_config *c, vit_dataset *about,
    vit_pretrained_report *report);

/* Write a model so that timm's load_state_dict(strict=True) takes it, or, as
   DIR/model.safetensors with DIR/config.json, which is written beside it, the
   from_pretrained of ViTForImageClassification. What they cannot express is
   refused by name. For timm vit_model_save does as well, where there are no
   registers, no distillation token and no fixed positions. vit_model_open
   opens both. */
typedef enum { VIT_NAMES_TIMM, VIT_NAMES_HF } vit_names;
VIT_DEF vit_result vit_pretrained_save(const vit_model *m, const vit_dataset *d,
    const char *path, vit_names names);

/* Positions from [from_rows*from_cols,D] to [rows*cols,D] by timm's rule:
   bicubic (Keys 1981, a = -0.5), wider when shrinking. */
VIT_DEF vit_result vit_resample_positions(float *to, int rows, int cols,
    const float *from, int from_rows, int from_cols, int D);

/* -- pictures as they have seen them */

/* How those who published a model prepare a picture. It is resized so that what
   is cut out of its middle is `part` of the shorter side, as by torchvision's
   Resize and CenterCrop: for 224 pixels and part 0.9 to 248. With part 0 all of
   it is squashed. Then (pixel / 255 - mean) / std of each channel. The bytes
   are those of Pillow; what resizes tensors instead is up to 3 levels off, and
   Hugging Face's CenterCrop rounds down: it may be a pixel to the left. */
typedef struct {
  const char *name, *from; /* who prepares pictures so */
  vit_filter filter;
  double part;
  float mean[3], std[3];
} vit_preprocess;
/* Number i of those that are known; NULL past the end. */
VIT_DEF const vit_preprocess *vit_preprocess_at(int i);
/* By its name; NULL, and a sentence that lists all, where there is none. */
VIT_DEF const vit_preprocess *vit_preprocess_find(const char *name);
/* pixels [channels,h,w], 1 to 3 channels -> out [channels,height,width] */
VIT_DEF vit_result vit_preprocess_image(float *out, const uint8_t *pixels,
    int channels, int h, int w, const vit_preprocess *p, int height, int width);

#endif /* VIT_H */

/* ======================================================================== */
/*  PART TWO: THE MODEL                                                     */
/* ======================================================================== */
#if defined(VIT_IMPLEMENTATION) && !defined(VIT_IMPLEMENTED)
#define VIT_IMPLEMENTED

/* Guards against a diverging run compare with NaN, which must stay one. */
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "vit.h needs NaN and infinity: use -O2 or -O3, not -Ofast or -ffast-math"
#endif

#include <errno.h>
#include <float.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#ifdef _WIN32
#include <direct.h>
#include <fcntl.h>
#include <io.h>
#include <process.h>
#include <share.h>
#include <time.h>
#ifndef S_ISDIR /* MinGW has it, Microsoft has not */
#define S_ISDIR(mode) (((mode)&_S_IFMT) == _S_IFDIR)
#endif
#else
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

/* ------------------------------------------------------------------------ */
/*  >>00 foundations                                                        */
/* ------------------------------------------------------------------------ */

#if defined(VIT_MALLOC) != defined(VIT_FREE)
#error "define VIT_MALLOC and VIT_FREE both, or neither"
#endif
#ifndef VIT_MALLOC
#define VIT_MALLOC(n) malloc(n)
#define VIT_FREE(p)   free(p)
#endif

#define VIT_PI 3.14159265358979323846

/* Sums over a batch are made in this many fixed parts, whatever the number of
   threads, so that the bits do not depend on it. Small models, those with at
   most VIT__SMALL parameters, keep the gradients of each part. */
enum { VIT__PARTS = 16, VIT__SMALL = 1 << 20, VIT__MOST_THREADS = 1024 };

/* What fits the second-level cache: rows of a small model with what a block
   makes of them, attention probabilities of some queries. */
enum {
  VIT__ROWS_AT_ONCE = 512,
  VIT__PROBS_AT_ONCE = 1 << 16,
  VIT__QUERIES_AT_ONCE = 128
};

/* Floats that can be counted in bytes; the rest of a plan is done in double. */
#define VIT__MOST_FLOATS ((double)(SIZE_MAX / 8))

/* The + makes an int of an enum: C++ has no arithmetic of two enums. */
#define VIT__MIN(a, b)   ((a) < (b) ? +(a) : +(b))
#define VIT__COUNT(list) ((int)(sizeof(list) / sizeof *(list)))
/* Is x a number, and not infinite? Within low .. high? Both say no to NaN. */
#define VIT__IS_FINITE(x)            (fabs((double)(x)) <= DBL_MAX)
#define VIT__IS_WITHIN(x, low, high) ((x) >= +(low) && (x) <= +(high))

/* -- errors: a code and one sentence ------------------------------------- */

#if defined(__cplusplus)
#define VIT__THREAD_LOCAL thread_local
#elif defined(_MSC_VER)
#define VIT__THREAD_LOCAL __declspec(thread)
#elif defined(__TINYC__)
#define VIT__THREAD_LOCAL /* tcc has no such thing, nor OpenMP */
#else
#define VIT__THREAD_LOCAL __thread
#endif
static VIT__THREAD_LOCAL char vit__message[512];

VIT_DEF const char *vit_error(void) { return vit__message; }

VIT_DEF const char *vit_result_text(vit_result r) {
#define VIT__TEXT(name, text) text,
  static const char *const texts[] = {VIT_RESULTS(VIT__TEXT)};
#undef VIT__TEXT
  return (int)r >= 0 && r < VIT_RESULT_COUNT ? texts[r] : "unknown result";
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static vit_result
vit__fail(vit_result r, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(vit__message, sizeof vit__message, format, args);
  va_end(args);
  return r;
}

/* -- memory: measure, allocate once, assign ------------------------------ */

VIT_DEF int vit_checked_mul(size_t a, size_t b, size_t *product) {
  if (b && a > SIZE_MAX / b) return 0;
  *product = a * b;
  return 1;
}

/* Take `count` things of `size` bytes. NULL while measuring. */
VIT_DEF void *vit_arena_take(vit_arena *a, size_t count, size_t size) {
  const size_t start = a->used, most = SIZE_MAX / 2 - 64;
  if (start > most || (size && count > (most - start) / size)) {
    a->overflow = 1;
    return NULL;
  }
  a->used = start + (count * size + 63) / 64 * 64;
  return a->base && count && size ? a->base + start : NULL;
}

/* Between the two walks: allocate what the first one measured. The memory is
   zeroed. */
VIT_DEF vit_result vit_arena_allocate(vit_arena *a, const char *what) {
  if (a->overflow)
    return vit__fail(VIT_ERR_OVERFLOW,
        "the %s needs more bytes than a size_t can count; make the sizes "
        "smaller",
        what);
  a->size = a->used;
  a->block = VIT_MALLOC(a->size + 64);
  if (!a->block)
    return vit__fail(VIT_ERR_NO_MEMORY,
        "out of memory: the %s needs %.1f MB; make the batch or the model "
        "smaller",
        what, (double)a->size / 1e6);
  a->base = (unsigned char *)a->block;
  a->base += 64 - (size_t)((uintptr_t)a->base % 64);
  memset(a->base, 0, a->size);
  a->used = 0;
  return VIT_OK;
}

VIT_DEF void vit_arena_free(vit_arena *a) {
  if (a->block) VIT_FREE(a->block);
  memset(a, 0, sizeof *a);
}

static void *vit__allocate(size_t count, size_t size, const char *what) {
  const int fits = !size || count <= (SIZE_MAX - 1) / size;
  void *p = fits ? VIT_MALLOC(count * size + 1) : NULL;
  if (!p)
    vit__fail(VIT_ERR_NO_MEMORY, "out of memory: no room for %s (%.1f MB)",
        what, (double)count * (double)size / 1e6);
  return p;
}

/* -- random numbers ------------------------------------------------------ */

#define VIT__PHILOX_M 0xD256D193u /* multiplier of a round */
#define VIT__PHILOX_W 0x9E3779B9u /* what the key grows by */
enum { VIT__PHILOX_ROUNDS = 10 };

/* Philox2x32-10: ten rounds of multiply and xor on the counter (index, stream)
   under a key. Returns the first of its two words. */
VIT_DEF uint32_t vit_philox(uint32_t key, uint32_t stream, uint32_t index) {
  uint32_t x0 = index, x1 = stream;
  for (int round = 0; round < VIT__PHILOX_ROUNDS; round++) {
    uint64_t product = (uint64_t)VIT__PHILOX_M * x0;
    x0 = (uint32_t)(product >> 32) ^ key ^ x1;
    x1 = (uint32_t)product;
    key += VIT__PHILOX_W;
  }
  return x0;
}

/* 24 random bits as a float in [0, 1). */
static float vit__unit(uint32_t bits) {
  return (float)(bits >> 8) * (1.0f / 16777216.0f);
}

/* Uses of one seed that must not meet the same numbers. */
#define VIT__SALT_DROPOUT 0x44524F50u
#define VIT__SALT_SHUFFLE 0x53485546u
#define VIT__SALT_AUGMENT 0x4155474Du
#define VIT__SALT_MIX     0x4D495855u
#define VIT__SALT_SPLIT   0x53504C49u

VIT_DEF vit_rng vit_rng_create(uint64_t seed, uint32_t stream) {
  vit_rng rng;
  rng.key = vit_philox((uint32_t)seed, (uint32_t)(seed >> 32), 0);
  rng.stream = stream;
  rng.index = 0;
  return rng;
}

VIT_DEF uint32_t vit_random_u32(vit_rng *rng) {
  return vit_philox(rng->key, rng->stream, rng->index++);
}

VIT_DEF uint32_t vit_random_below(vit_rng *rng, uint32_t n) {
  const uint64_t bits = vit_philox(rng->key, rng->stream, rng->index++);
  return (uint32_t)((bits * n) >> 32);
}

VIT_DEF float vit_random_uniform(vit_rng *rng) {
  return vit__unit(vit_random_u32(rng));
}

/* Box and Muller 1958: two uniform numbers make one normal number. */
VIT_DEF float vit_random_normal(vit_rng *rng) {
  double u = 1.0 - (double)vit_random_uniform(rng); /* (0, 1]: log is finite */
  double v = (double)vit_random_uniform(rng);
  return (float)(sqrt(-2.0 * log(u)) * cos(2.0 * VIT_PI * v));
}

/* Fisher and Yates: each of the n! orders is equally likely. */
VIT_DEF void vit_shuffle(int *order, int n, vit_rng *rng) {
  for (int i = 0; i < n; i++) order[i] = i;
  for (int i = n - 1; i > 0; i--) {
    int j = (int)vit_random_below(rng, (uint32_t)i + 1);
    int t = order[i];
    order[i] = order[j];
    order[j] = t;
  }
}

/* -- clock and threads --------------------------------------------------- */

VIT_DEF double vit_seconds(void) {
#ifdef _OPENMP
  return omp_get_wtime();
#elif defined(_WIN32)
  return (double)clock() / CLOCKS_PER_SEC;
#else
  struct timeval t;
  gettimeofday(&t, NULL);
  return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
#endif
}

/* VIT__PARALLEL_FOR stands in front of a loop whose rounds are independent.
   `threads` is a variable of the surrounding function. Without OpenMP the loop
   runs as it stands. */
#ifdef _OPENMP
#define VIT__PARALLEL_FOR                                                      \
  _Pragma("omp parallel for schedule(static) num_threads(threads)")
static int vit__cores(void) { return omp_get_num_procs(); }
VIT_DEF int vit_max_threads(void) {
  const int threads = omp_get_max_threads();   /* an OMP_NUM_THREADS of 2^31 */
  return threads > 0 ? threads : vit__cores(); /* and more wraps round */
}
#else
#define VIT__PARALLEL_FOR (void)threads;
static int vit__cores(void) { return 1; }
VIT_DEF int vit_max_threads(void) { return 1; }
#endif

/* Threads that are worth starting for this many parts of work: with more than
   there are cores, the ones that run would wait for those that do not. */
static int vit__threads(int parts) {
  return parts > 1 ? VIT__MIN(parts, vit__cores()) : 1;
}

VIT_DEF double vit_max_difference(const float *a, const float *b, size_t n) {
  double most = 0;
  for (size_t i = 0; i < n; i++) {
    const double d = fabs((double)a[i] - (double)b[i]);
    if (!(d <= most)) most = d;
    if (most != most) break;
  }
  return most;
}

/* Items first .. first + count - 1 of `all` are part i of `parts`. The first
   parts are of one size, a multiple of `multiple`; then one may be smaller, and
   the rest are empty (count 0). */
static void vit__part(
    int all, int parts, int i, int multiple, int *first, int *count) {
  vit_idx each = ((vit_idx)all + parts - 1) / parts, begin, end;
  each = (each + multiple - 1) / multiple * multiple;
  begin = VIT__MIN(each * i, all);
  end = VIT__MIN(begin + each, all);
  *first = (int)begin, *count = (int)(end - begin);
}

/* All parallel work of the model goes through here: task 0 .. count - 1, which
   are independent of each other, on so many threads. */
typedef void vit__task(const void *work, int i);
static void vit__each(int parts, int count, vit__task *task, const void *work) {
#ifdef _OPENMP
  const int threads = vit__threads(parts);
  if (threads > 1) {
    VIT__PARALLEL_FOR
    for (int i = 0; i < count; i++) task(work, i);
    return;
  }
#endif
  (void)parts;
  for (int i = 0; i < count; i++) task(work, i);
}

/* -- the SIMD vocabulary ------------------------------------------------- */

/* A vector of floats (vit_vec), one of unsigned 32-bit integers (vit_ivec), and
   32 words: what can be done with them. Every SIMD kernel is written once, in
   these words. A dialect says them in the intrinsics of one instruction set:

   vit_set, load, store   x in all lanes; from and to memory, of any alignment
   add sub mul div sqrt
   fma                    a * b + c, rounded once (WebAssembly: twice)
   max, min               a NaN in b comes through
   if_less                lane by lane: a < b ? x : y
   round                  to the nearest whole number, halves to the even one
   pow2                   2^a for a whole number a: put in the exponent bits
   iset iadd ixor imul    of integers, for the random numbers
   imulhi, ihigh24        high half of each 32 x 32 bit product; 24 high bits
   iload, ifloat          from memory; signed integers as floats
   dot                    of bytes: lane i of `sum` and the four products of
                          bytes 4 i .. 4 i + 3 of a and b, and those of c and d;
                          a and c from 0 to 127, b and d from -64 to 64
   store_bytes            whole numbers from 0 to 127 as so many bytes
   zip_low, zip_high      of each four lanes: a0 b0 a1 b1, and a2 b2 a3 b3
   fours_even, fours_odd  every second group of four lanes, of a and then of b
   load_part, store_part  n lanes, 0 < n < VIT_LANES, the others are 0; no byte
                          past the n-th lane is touched
   sum, top               sum and maximum of the lanes, always in one order

   One more dialect is one more column: #elif, constants, words; nothing else in
   the file knows of it. VIT__HAS_SIMD says whether this CPU can run it, and
   chapter 11 what the tile and the panel are.

   AVX-512 is taken where the compiler was told that the CPU has it, as by
   -march=native. VIT_SIMD_AVX2 keeps AVX2 there, VIT_SIMD_AVX512 forces the
   other, and VIT_SIMD_HEADER says who has its intrinsics: tests emulate them.

   On Windows, gcc keeps vectors of 32 bytes on a stack that is aligned to 16
   (GCC bug 54412), and crashes. There the plain loops run, until VIT_SIMD_AVX2
   says that -Wa,-muse-unaligned-vector-move was given. clang is right. */
#ifndef VIT_SIMD_HEADER
#define VIT_SIMD_HEADER <immintrin.h>
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && !defined(VIT_SIMD_AVX2)
#define VIT_SIMD_AVX512
#endif

/* Short loops over arrays that shall live in registers, written out. */
#if defined(__clang__)
#define VIT__UNROLL _Pragma("clang loop unroll(full)")
#else
#define VIT__UNROLL _Pragma("GCC unroll 16")
#endif

/* clang-format off */
/* Words of the usual kinds in one line: the name, and what is returned. */
#define VIT__OP VIT__SIMD inline __attribute__((always_inline))
#define VIT__V(word, is) VIT__OP vit_vec vit_##word(vit_vec a) { return is; }
#define VIT__VV(word, is)                                                      \
  VIT__OP vit_vec vit_##word(vit_vec a, vit_vec b) { return is; }
#define VIT__VVV(word, is)                                                     \
  VIT__OP vit_vec vit_##word(vit_vec a, vit_vec b, vit_vec c) { return is; }
#define VIT__VVVV(word, is) VIT__OP vit_vec                                    \
  vit_##word(vit_vec a, vit_vec b, vit_vec x, vit_vec y) { return is; }
#define VIT__I(word, is) VIT__OP vit_vec vit_##word(vit_ivec a) { return is; }
#define VIT__II(word, is)                                                      \
  VIT__OP vit_ivec vit_##word(vit_ivec a, vit_ivec b) { return is; }
#define VIT__DOT(is)                                                           \
  VIT__OP vit_ivec vit_dot(vit_ivec sum, vit_ivec a, vit_ivec b, vit_ivec c,   \
      vit_ivec d) { return is; }

/* Over the lanes by the words: groups of four, then pairs; lane 0 has it. */
#define VIT__ACROSS(word, add, first)                                          \
  VIT__OP float vit_##word(vit_vec a) {                                        \
    for (int i = 4; i < VIT_LANES; i *= 2)                                     \
      a = vit_##add(vit_fours_even(a, a), vit_fours_odd(a, a));                \
    a = vit_##add(vit_zip_low(a, a), vit_zip_high(a, a));                      \
    return first(vit_##add(vit_zip_low(a, a), vit_zip_high(a, a)));            \
  }

#if defined(VIT_NO_SIMD) || !defined(__GNUC__) ||                              \
    (defined(_WIN32) && !defined(__clang__) && !defined(VIT_SIMD_AVX2))
#elif defined(__x86_64__) && !defined(VIT_SIMD_AVX512)
#include VIT_SIMD_HEADER
#define VIT__SIMD_NAME "AVX2+FMA"
#define VIT__HAS_SIMD                                                          \
  (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#define VIT__SIMD __attribute__((target("avx2,fma"))) static
typedef __m256 vit_vec; typedef __m256i vit_ivec;
enum { VIT_LANES = 8, VIT_TILE_ROWS = 6, VIT_INT8_ROWS = 3, VIT__PANEL = 16 };
#define VIT__LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
VIT__OP vit_vec vit_set(float a) { return _mm256_set1_ps(a); }
VIT__OP vit_vec vit_load(const float *p) { return _mm256_loadu_ps(p); }
VIT__OP void vit_store(float *p, vit_vec a) { _mm256_storeu_ps(p, a); }
VIT__VV(add, _mm256_add_ps(a, b)) VIT__VV(sub, _mm256_sub_ps(a, b))
VIT__VV(mul, _mm256_mul_ps(a, b)) VIT__VV(div, _mm256_div_ps(a, b))
VIT__V(sqrt, _mm256_sqrt_ps(a)) VIT__VVV(fma, _mm256_fmadd_ps(a, b, c))
VIT__VV(max, _mm256_max_ps(a, b)) VIT__VV(min, _mm256_min_ps(a, b))
VIT__VVVV(if_less, _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ)))
VIT__V(round, _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT))
VIT__V(pow2, _mm256_castsi256_ps(_mm256_slli_epi32(
    _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127)), 23)))
VIT__OP vit_ivec vit_iset(uint32_t a) { return _mm256_set1_epi32((int)a); }
VIT__II(iadd, _mm256_add_epi32(a, b)) VIT__II(ixor, _mm256_xor_si256(a, b))
VIT__II(imul, _mm256_mullo_epi32(a, b))
VIT__II(imulhi, _mm256_blend_epi32(
    _mm256_srli_epi64(_mm256_mul_epu32(a, b), 32),
    _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)), 0xAA))
VIT__I(ihigh24, _mm256_cvtepi32_ps(_mm256_srli_epi32(a, 8)))
VIT__OP vit_ivec vit_iload(const void *p) {
  return _mm256_loadu_si256((const __m256i *)p);
}
VIT__I(ifloat, _mm256_cvtepi32_ps(a))
VIT__DOT(_mm256_add_epi32(sum, /* four products are at most 127 * 64 * 4 */
    _mm256_madd_epi16(_mm256_set1_epi16(1), _mm256_add_epi16(
        _mm256_maddubs_epi16(a, b), _mm256_maddubs_epi16(c, d)))))
VIT__OP void vit_store_bytes(void *p, vit_vec a) {
  const __m256i n = _mm256_cvtps_epi32(a);
  const __m128i high = _mm256_extracti128_si256(n, 1);
  const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(n), high);
  _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(half, half));
}
VIT__VV(zip_low, _mm256_unpacklo_ps(a, b))
VIT__VV(zip_high, _mm256_unpackhi_ps(a, b))
VIT__VV(fours_even, _mm256_permute2f128_ps(a, b, 0x20))
VIT__VV(fours_odd, _mm256_permute2f128_ps(a, b, 0x31))
VIT__OP vit_vec vit_load_part(const float *p, vit_idx n) {
  static const int mask[2 * VIT_LANES] = {-1, -1, -1, -1, -1, -1, -1, -1};
  const void *m = mask + VIT_LANES - n;
  return _mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)m));
}
VIT__OP void vit_store_part(float *p, vit_vec a, vit_idx n) {
  __m128 h = _mm256_castps256_ps128(a); /* n in binary: 4 lanes, 2, 1 */
  if (n & 4) _mm_storeu_ps(p, h), p += 4, h = _mm256_extractf128_ps(a, 1);
  if (n & 2) _mm_storel_pi((__m64 *)p, h), p += 2, h = _mm_movehl_ps(h, h);
  if (n & 1) _mm_store_ss(p, h);
}
#define VIT__FOLD(word, op) /* halves, then quarters, then the last two */     \
  VIT__OP float vit_##word(vit_vec a) {                                        \
    __m128 h = _mm256_extractf128_ps(a, 1);                                    \
    h = _mm_##op##_ps(_mm256_castps256_ps128(a), h);                           \
    h = _mm_##op##_ps(h, _mm_movehl_ps(h, h));                                 \
    return _mm_cvtss_f32(_mm_##op##_ss(h, _mm_movehdup_ps(h)));                \
  }
VIT__FOLD(sum, add) VIT__FOLD(top, max)

#elif defined(VIT_SIMD_AVX512)
#include VIT_SIMD_HEADER
#define VIT__SIMD_NAME "AVX-512"
#define VIT__HAS_SIMD  1
#define VIT__SIMD      static
typedef __m512 vit_vec; typedef __m512i vit_ivec;
enum { VIT_LANES = 16, VIT_TILE_ROWS = 14, VIT_INT8_ROWS = 6, VIT__PANEL = 32 };
#define VIT__LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
VIT__OP vit_vec vit_set(float a) { return _mm512_set1_ps(a); }
VIT__OP vit_vec vit_load(const float *p) { return _mm512_loadu_ps(p); }
VIT__OP void vit_store(float *p, vit_vec a) { _mm512_storeu_ps(p, a); }
VIT__VV(add, _mm512_add_ps(a, b)) VIT__VV(sub, _mm512_sub_ps(a, b))
VIT__VV(mul, _mm512_mul_ps(a, b)) VIT__VV(div, _mm512_div_ps(a, b))
VIT__V(sqrt, _mm512_sqrt_ps(a)) VIT__VVV(fma, _mm512_fmadd_ps(a, b, c))
VIT__VV(max, _mm512_max_ps(a, b)) VIT__VV(min, _mm512_min_ps(a, b))
VIT__VVVV(if_less, _mm512_mask_blend_ps(_mm512_cmplt_ps_mask(a, b), y, x))
VIT__V(round, _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT))
VIT__V(pow2, _mm512_castsi512_ps(_mm512_slli_epi32(
    _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127)), 23)))
VIT__OP vit_ivec vit_iset(uint32_t a) { return _mm512_set1_epi32((int)a); }
VIT__II(iadd, _mm512_add_epi32(a, b)) VIT__II(ixor, _mm512_xor_si512(a, b))
VIT__II(imul, _mm512_mullo_epi32(a, b))
VIT__II(imulhi, _mm512_mask_blend_epi32(0xAAAA,
    _mm512_srli_epi64(_mm512_mul_epu32(a, b), 32),
    _mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32))))
VIT__I(ihigh24, _mm512_cvtepi32_ps(_mm512_srli_epi32(a, 8)))
VIT__OP vit_ivec vit_iload(const void *p) { return _mm512_loadu_si512(p); }
VIT__I(ifloat, _mm512_cvtepi32_ps(a))
#ifdef __AVX512VNNI__
VIT__DOT(_mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, a, b), c, d))
#else /* as AVX2 */
VIT__DOT(_mm512_add_epi32(sum,
    _mm512_madd_epi16(_mm512_set1_epi16(1), _mm512_add_epi16(
        _mm512_maddubs_epi16(a, b), _mm512_maddubs_epi16(c, d)))))
#endif
VIT__OP void vit_store_bytes(void *p, vit_vec a) {
  _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a)));
}
VIT__VV(zip_low, _mm512_unpacklo_ps(a, b))
VIT__VV(zip_high, _mm512_unpackhi_ps(a, b))
VIT__VV(fours_even, _mm512_shuffle_f32x4(a, b, 0x88))
VIT__VV(fours_odd, _mm512_shuffle_f32x4(a, b, 0xDD))
VIT__OP vit_vec vit_load_part(const float *p, vit_idx n) {
  return _mm512_maskz_loadu_ps((__mmask16)((1 << n) - 1), p);
}
VIT__OP void vit_store_part(float *p, vit_vec a, vit_idx n) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1 << n) - 1), a);
}
VIT__ACROSS(sum, add, _mm512_cvtss_f32) VIT__ACROSS(top, max, _mm512_cvtss_f32)

#elif defined(__aarch64__)
#include <arm_neon.h>
#define VIT__SIMD_NAME "NEON"
#define VIT__HAS_SIMD  1
#define VIT__SIMD      static
typedef float32x4_t vit_vec; typedef uint32x4_t vit_ivec;
enum { VIT_LANES = 4, VIT_TILE_ROWS = 6, VIT_INT8_ROWS = 4, VIT__PANEL = 16 };
#define VIT__LANE_NUMBERS 0, 1, 2, 3
VIT__OP vit_vec vit_set(float a) { return vdupq_n_f32(a); }
VIT__OP vit_vec vit_load(const float *p) { return vld1q_f32(p); }
VIT__OP void vit_store(float *p, vit_vec a) { vst1q_f32(p, a); }
VIT__VV(add, vaddq_f32(a, b)) VIT__VV(sub, vsubq_f32(a, b))
VIT__VV(mul, vmulq_f32(a, b)) VIT__VV(div, vdivq_f32(a, b))
VIT__V(sqrt, vsqrtq_f32(a)) VIT__VVV(fma, vfmaq_f32(c, a, b))
VIT__VV(max, vmaxq_f32(a, b)) VIT__VV(min, vminq_f32(a, b))
VIT__VVVV(if_less, vbslq_f32(vcltq_f32(a, b), x, y))
VIT__V(round, vrndnq_f32(a))
VIT__V(pow2, vreinterpretq_f32_s32(
    vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(a), vdupq_n_s32(127)), 23)))
VIT__OP vit_ivec vit_iset(uint32_t a) { return vdupq_n_u32(a); }
VIT__II(iadd, vaddq_u32(a, b)) VIT__II(ixor, veorq_u32(a, b))
VIT__II(imul, vmulq_u32(a, b))
VIT__II(imulhi, vuzp2q_u32(
    vreinterpretq_u32_u64(vmull_u32(vget_low_u32(a), vget_low_u32(b))),
    vreinterpretq_u32_u64(vmull_high_u32(a, b))))
VIT__I(ihigh24, vcvtq_f32_u32(vshrq_n_u32(a, 8)))
VIT__OP vit_ivec vit_iload(const void *p) {
  return vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)p));
}
VIT__I(ifloat, vcvtq_f32_s32(vreinterpretq_s32_u32(a)))
VIT__OP vit_ivec vit_dot(
    vit_ivec sum, vit_ivec a, vit_ivec b, vit_ivec c, vit_ivec d) {
  const int8x16_t a8 = vreinterpretq_s8_u32(a), b8 = vreinterpretq_s8_u32(b);
  const int8x16_t c8 = vreinterpretq_s8_u32(c), d8 = vreinterpretq_s8_u32(d);
  const int32x4_t start = vreinterpretq_s32_u32(sum);
#ifdef __ARM_FEATURE_DOTPROD
  return vreinterpretq_u32_s32(vdotq_s32(vdotq_s32(start, a8, b8), c8, d8));
#else /* pairs, as AVX2 */
  const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(a8), vget_low_s8(b8)),
      vget_low_s8(c8), vget_low_s8(d8));
  const int16x8_t high = vmlal_high_s8(vmull_high_s8(a8, b8), c8, d8);
  return vreinterpretq_u32_s32(vpadalq_s16(start, vpaddq_s16(low, high)));
#endif
}
VIT__OP void vit_store_bytes(void *p, vit_vec a) {
  const uint16x4_t half = vmovn_u32(vcvtq_u32_f32(a));
  const uint8x8_t bytes = vmovn_u16(vcombine_u16(half, half));
  const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
  memcpy(p, &four, sizeof four);
}
VIT__VV(zip_low, vzip1q_f32(a, b)) VIT__VV(zip_high, vzip2q_f32(a, b))
VIT__VV(fours_even, ((void)b, a)) VIT__VV(fours_odd, ((void)a, b))
VIT__OP vit_vec vit_load_part(const float *p, vit_idx n) {
  const float lane[] = {p[0], n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, 0};
  return vit_load(lane);
}
VIT__OP void vit_store_part(float *p, vit_vec a, vit_idx n) {
  if (n & 2) vst1_f32(p, vget_low_f32(a)), p += 2, a = vit_zip_high(a, a);
  if (n & 1) vst1q_lane_f32(p, a, 0);
}
VIT__OP float vit_sum(vit_vec a) { return vaddvq_f32(a); }
VIT__OP float vit_top(vit_vec a) { return vmaxvq_f32(a); }

#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#define VIT__SIMD_NAME "WebAssembly SIMD128"
#define VIT__HAS_SIMD  1
#define VIT__SIMD      static
typedef v128_t vit_vec; typedef v128_t vit_ivec; /* 16 registers */
enum { VIT_LANES = 4, VIT_TILE_ROWS = 2, VIT_INT8_ROWS = 2, VIT__PANEL = 16 };
#define VIT__LANE_NUMBERS 0, 1, 2, 3
VIT__OP vit_vec vit_set(float a) { return wasm_f32x4_splat(a); }
VIT__OP vit_vec vit_load(const float *p) { return wasm_v128_load(p); }
VIT__OP void vit_store(float *p, vit_vec a) { wasm_v128_store(p, a); }
VIT__VV(add, wasm_f32x4_add(a, b)) VIT__VV(sub, wasm_f32x4_sub(a, b))
VIT__VV(mul, wasm_f32x4_mul(a, b)) VIT__VV(div, wasm_f32x4_div(a, b))
VIT__V(sqrt, wasm_f32x4_sqrt(a)) VIT__VVV(fma, vit_add(vit_mul(a, b), c))
VIT__VV(max, wasm_f32x4_pmax(b, a)) VIT__VV(min, wasm_f32x4_pmin(b, a))
VIT__VVVV(if_less, wasm_v128_bitselect(x, y, wasm_f32x4_lt(a, b)))
VIT__V(round, wasm_f32x4_nearest(a))
VIT__V(pow2, wasm_i32x4_shl(
    wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(a), wasm_i32x4_splat(127)), 23))
VIT__OP vit_ivec vit_iset(uint32_t a) { return wasm_u32x4_splat(a); }
VIT__II(iadd, wasm_i32x4_add(a, b)) VIT__II(ixor, wasm_v128_xor(a, b))
VIT__II(imul, wasm_i32x4_mul(a, b))
VIT__II(imulhi, wasm_i32x4_shuffle(wasm_u64x2_extmul_low_u32x4(a, b),
    wasm_u64x2_extmul_high_u32x4(a, b), 1, 3, 5, 7))
VIT__I(ihigh24, wasm_f32x4_convert_u32x4(wasm_u32x4_shr(a, 8)))
VIT__OP vit_ivec vit_iload(const void *p) { return wasm_v128_load(p); }
VIT__I(ifloat, wasm_f32x4_convert_i32x4(a))
#define VIT__EVEN(a) wasm_i16x8_shr(wasm_i16x8_shl(a, 8), 8)
#define VIT__ODD(a)  wasm_i16x8_shr(a, 8)
#define VIT__PAIRS(a, b) wasm_i32x4_add(                                       \
    wasm_i32x4_dot_i16x8(VIT__EVEN(a), VIT__EVEN(b)),                          \
    wasm_i32x4_dot_i16x8(VIT__ODD(a), VIT__ODD(b)))
VIT__DOT(wasm_i32x4_add(
    wasm_i32x4_add(sum, VIT__PAIRS(a, b)), VIT__PAIRS(c, d)))
VIT__OP void vit_store_bytes(void *p, vit_vec a) {
  const v128_t n = wasm_u32x4_trunc_sat_f32x4(a);
  const v128_t half = wasm_u16x8_narrow_i32x4(n, n);
  wasm_v128_store32_lane(p, wasm_u8x16_narrow_i16x8(half, half), 0);
}
#define VIT__FMA(a, b, c) ((a) * (b) + (c)) /* twice, as vit_fma */
VIT__VV(zip_low, wasm_i32x4_shuffle(a, b, 0, 4, 1, 5))
VIT__VV(zip_high, wasm_i32x4_shuffle(a, b, 2, 6, 3, 7))
VIT__VV(fours_even, ((void)b, a)) VIT__VV(fours_odd, ((void)a, b))
VIT__OP vit_vec vit_load_part(const float *p, vit_idx n) {
  return wasm_f32x4_make(p[0], n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, 0);
}
VIT__OP void vit_store_part(float *p, vit_vec a, vit_idx n) {
  if (n & 2) wasm_v128_store64_lane(p, a, 0), p += 2, a = vit_zip_high(a, a);
  if (n & 1) wasm_v128_store32_lane(p, a, 0);
}
#define VIT__FIRST(a) wasm_f32x4_extract_lane(a, 0)
VIT__ACROSS(sum, add, VIT__FIRST) VIT__ACROSS(top, max, VIT__FIRST)
#endif
/* clang-format on */

#ifndef VIT__FMA /* of floats, with the bits of vit_fma */
#define VIT__FMA(a, b, c) fmaf(a, b, c)
#endif
#ifndef VIT__HAS_SIMD /* the plain loops alone */
#define VIT__SIMD_NAME "none"
enum { VIT_LANES = 1, VIT_TILE_ROWS = 6, VIT_INT8_ROWS = 1, VIT__PANEL = 16 };
#else
    /* a hint: what stands there will be needed soon */
    VIT__OP void vit_prefetch(const float *p) {
  __builtin_prefetch(p);
}

/* a, a + 1, a + 2, ... */
VIT__OP vit_ivec vit_icount(uint32_t a) {
  static const uint32_t lane[VIT_LANES] = {VIT__LANE_NUMBERS};
  vit_ivec count;
  memcpy(&count, lane, sizeof count);
  return vit_iadd(vit_iset(a), count);
}

/* The 24 high bits of each lane as a float in [0, 1). */
VIT__OP vit_vec vit_iunit(vit_ivec a) {
  return vit_mul(vit_ihigh24(a), vit_set(1.0f / 16777216.0f));
}

/* The end of a row: the first n lanes only, all of them from VIT_LANES on, and
   none below 1. Lanes past n read as zero, or as `other`, where n >= 1. */
VIT__OP vit_vec vit_load_n(const float *p, vit_idx n) {
  if (n >= VIT_LANES) return vit_load(p);
  return n > 0 ? vit_load_part(p, n) : vit_set(0);
}
VIT__OP void vit_store_n(float *p, vit_vec a, vit_idx n) {
  if (n >= VIT_LANES) vit_store(p, a);
  else if (n > 0) vit_store_part(p, a, n);
}
VIT__OP vit_vec vit__load_or(const float *p, vit_idx n, float other) {
  static const float lane[VIT_LANES] = {VIT__LANE_NUMBERS};
  if (n >= VIT_LANES) return vit_load(p);
  return vit_if_less(
      vit_load(lane), vit_set((float)n), vit_load_part(p, n), vit_set(other));
}

/* Turn a square of VIT_LANES rows round: row i becomes column i. First squares
   of four by four change places, then pairs of numbers in each, then pairs of
   pairs. */
VIT__OP void vit_transpose(vit_vec v[VIT_LANES]) {
  VIT__UNROLL
  for (int far = 4; far < VIT_LANES; far *= 2)
    for (int first = 0; first < VIT_LANES; first += 2 * far)
      for (int i = first; i < first + far; i++) {
        const vit_vec a = v[i], b = v[i + far];
        v[i] = vit_fours_even(a, b), v[i + far] = vit_fours_odd(a, b);
      }
  VIT__UNROLL
  for (int i = 0; i < VIT_LANES; i += 4) {
    const vit_vec a = vit_zip_low(v[i], v[i + 2]);
    const vit_vec b = vit_zip_high(v[i], v[i + 2]);
    const vit_vec c = vit_zip_low(v[i + 1], v[i + 3]);
    const vit_vec d = vit_zip_high(v[i + 1], v[i + 3]);
    v[i] = vit_zip_low(a, c), v[i + 1] = vit_zip_high(a, c);
    v[i + 2] = vit_zip_low(b, d), v[i + 3] = vit_zip_high(b, d);
  }
}

/* e^x for x <= 88, to about 2 units in the last place. x = n ln 2 + r with n a
   whole number, so that e^x = 2^n e^r with |r| <= 0.35, where eight terms of
   the Taylor series are enough. They are added up in pairs, which need not wait
   for each other: (1 + r) + r^2 ((1/2 + r/6) + r^2 (...)). Below -88 the
   exponent bits of 2^n are 0, and so is the result, which a mask of -INFINITY
   relies on. */
VIT__OP vit_vec vit_exp(vit_vec x) {
  vit_vec y = vit_max(vit_set(-88.03f), x); /* n >= -127 */
  vit_vec n = vit_round(vit_mul(y, vit_set(1.44269504f)));
  vit_vec r = vit_fma(n, vit_set(-0.693359375f), y); /* ln 2 in two parts: */
  vit_vec r2, p01, p23, p45, p67;                    /* n * 0.6933.. is exact */
  r = vit_fma(n, vit_set(2.12194440e-4f), r);
  r2 = vit_mul(r, r);
  p01 = vit_add(r, vit_set(1.0f));
  p23 = vit_fma(r, vit_set(1.0f / 6), vit_set(0.5f));
  p45 = vit_fma(r, vit_set(1.0f / 120), vit_set(1.0f / 24));
  p67 = vit_fma(r, vit_set(1.0f / 5040), vit_set(1.0f / 720));
  p45 = vit_fma(p67, r2, p45);
  p23 = vit_fma(p45, r2, p23);
  p01 = vit_fma(p23, r2, p01);
  return vit_mul(p01, vit_pow2(n));
}
#endif /* VIT__HAS_SIMD */

/* Rows are shared out in whole tiles of the matrix product. */
enum { VIT__ROW_MULTIPLE = VIT_TILE_ROWS };

VIT_DEF int vit_simd_lanes(void) { return VIT_LANES; }
VIT_DEF const char *vit_simd_name(void) { return VIT__SIMD_NAME; }

/* The compiler's builtin, which VIT__HAS_SIMD calls where the CPU may be too
   old, also asks whether the operating system saves the wide registers. */
VIT_DEF const vit_kernels *vit_best_kernels(void) {
#ifdef VIT__HAS_SIMD
  if (VIT__HAS_SIMD) return &vit_simd;
#endif
  return &vit_naive;
}

/* What the SIMD kernels of all chapters need of chapter 11: where a matrix is,
   and the product of two. Element (i, j) is at p[i * row + j * col], so `row`
   floats lead to the next row, `col` to the next column. Packed weights are
   panels of VIT__PANEL columns, one after another: there it holds for the first
   column of a panel only, j a multiple of VIT__PANEL. */
typedef struct {
  const float *p;
  vit_idx row, col;
  int packed;
} vit__matrix;

/* Where a thread puts the part of a matrix that the product is at: panels of
   floats or rows of bytes, 256 KB. */
enum {
  VIT__DEPTH = 256,
  VIT__WIDTH = 256,
  VIT__INT8_MOST = 4 * VIT__DEPTH * VIT__WIDTH - 16 /* bytes of a row */
};
static VIT__THREAD_LOCAL float vit__packed_b[VIT__DEPTH * VIT__WIDTH];

#ifdef VIT__HAS_SIMD
static vit__matrix vit__at(const float *p, vit_idx row, vit_idx col) {
  vit__matrix m;
  m.p = p, m.row = row, m.col = col, m.packed = 0;
  return m;
}

/* c [M,N] = (bias [N], or c if add, or 0) + a [M,K] b [K,N] */
VIT__SIMD void vit__matmul(float *c, vit_idx c_row, vit__matrix a,
    vit__matrix b, const float *bias, int add, vit_idx M, vit_idx N, vit_idx K);
#endif

/* -- the two kernel tables ----------------------------------------------- */

/* Every kernel of every chapter, declared by the list in part one. */
#define VIT__DECLARE_NAIVE(name, args) static void vit_naive_##name args;
#define VIT__NAIVE_ENTRY(name, args)   vit_naive_##name,
VIT_KERNELS(VIT__DECLARE_NAIVE)
#ifdef VIT__HAS_SIMD
#define VIT__DECLARE_SIMD(name, args) VIT__SIMD void vit_simd_##name args;
#define VIT__SIMD_ENTRY(name, args)   vit_simd_##name,
#define VIT__SIMD_TITLE               "simd"
VIT_KERNELS(VIT__DECLARE_SIMD)
#else /* nothing else was compiled */
#define VIT__SIMD_ENTRY VIT__NAIVE_ENTRY
#define VIT__SIMD_TITLE "naive"
#endif
VIT__TABLE_BEGIN
VIT__TABLE_DEFINE vit_kernels vit_naive = {
    "naive", VIT_KERNELS(VIT__NAIVE_ENTRY)};
VIT__TABLE_DEFINE vit_kernels vit_simd = {
    VIT__SIMD_TITLE, VIT_KERNELS(VIT__SIMD_ENTRY)};
VIT__TABLE_END

/* ------------------------------------------------------------------------ */
/*  >>01 patches                                                            */
/* ------------------------------------------------------------------------ */

/* patchify: cut an image into N = (height/PH) * (width/PW) patches, row by row.
   image [C,height,width] -> patches [N, C*PH*PW], each in the order of a
   Conv2d's weight: channel, row, column. (Dosovitskiy et al. 2021, sec. 3.1) */
static void vit_naive_patchify_forward(float *patches, const float *image,
    int C, int height, int width, int PH, int PW) {
  float *p = patches;
  for (vit_idx top = 0; top + PH <= height; top += PH)
    for (vit_idx left = 0; left + PW <= width; left += PW)
      for (vit_idx c = 0; c < C; c++)
        for (vit_idx y = 0; y < PH; y++)
          for (vit_idx x = 0; x < PW; x++)
            *p++ = image[(c * height + top + y) * width + left + x];
}

/* Each pixel is in one patch, so its gradient is copied back. */
static void vit_naive_patchify_backward(float *dimage, const float *dpatches,
    int C, int height, int width, int PH, int PW) {
  const float *p = dpatches;
  for (vit_idx top = 0; top + PH <= height; top += PH)
    for (vit_idx left = 0; left + PW <= width; left += PW)
      for (vit_idx c = 0; c < C; c++)
        for (vit_idx y = 0; y < PH; y++)
          for (vit_idx x = 0; x < PW; x++)
            dimage[(c * height + top + y) * width + left + x] = *p++;
}

#ifdef VIT__HAS_SIMD
/* The innermost loop (x) copies VIT_LANES pixels at once. */
VIT__SIMD void vit_simd_patchify_forward(float *patches, const float *image,
    int C, int height, int width, int PH, int PW) {
  float *p = patches;
  for (vit_idx top = 0; top + PH <= height; top += PH)
    for (vit_idx left = 0; left + PW <= width; left += PW)
      for (vit_idx c = 0; c < C; c++)
        for (vit_idx y = 0; y < PH; y++, p += PW) {
          const float *row = image + (c * height + top + y) * width + left;
          for (vit_idx x = 0; x < PW; x += VIT_LANES)
            vit_store_n(p + x, vit_load_n(row + x, PW - x), PW - x);
        }
}

VIT__SIMD void vit_simd_patchify_backward(float *dimage, const float *dpatches,
    int C, int height, int width, int PH, int PW) {
  const float *p = dpatches;
  for (vit_idx top = 0; top + PH <= height; top += PH)
    for (vit_idx left = 0; left + PW <= width; left += PW)
      for (vit_idx c = 0; c < C; c++)
        for (vit_idx y = 0; y < PH; y++, p += PW) {
          float *row = dimage + (c * height + top + y) * width + left;
          for (vit_idx x = 0; x < PW; x += VIT_LANES)
            vit_store_n(row + x, vit_load_n(p + x, PW - x), PW - x);
        }
}
#endif

/* linear: y = x W^T + b, as torch.nn.Linear.
   x [rows,in], w [out,in], b [out] or NULL -> y [rows,out]. The projection of
   the patches is this layer on [N, C*PH*PW]. */
static void vit_naive_linear_forward(float *y, const float *x, const float *w,
    const float *b, int rows, int in, int out) {
  for (vit_idx r = 0; r < rows; r++)
    for (vit_idx o = 0; o < out; o++) {
      double sum = b ? (double)b[o] : 0.0;
      for (vit_idx i = 0; i < in; i++)
        sum += (double)x[r * in + i] * (double)w[o * in + i];
      y[r * out + o] = (float)sum;
    }
}

/* dx = dy W. dy [rows,out], w [out,in] -> dx [rows,in] */
static void vit_naive_linear_backward_input(
    float *dx, const float *dy, const float *w, int rows, int in, int out) {
  for (vit_idx r = 0; r < rows; r++)
    for (vit_idx i = 0; i < in; i++) {
      double sum = 0;
      for (vit_idx o = 0; o < out; o++)
        sum += (double)dy[r * out + o] * (double)w[o * in + i];
      dx[r * in + i] = (float)sum;
    }
}

/* dW += dy^T x, db += sum of dy over the rows. dw [out,in], db [out] or NULL.
   dy_stride: floats from one row of dy to the next; it is `out`, unless the
   caller works on some of the columns only. */
static void vit_naive_linear_backward_weight(float *dw, float *db,
    const float *dy, const float *x, int rows, int in, int out, int dy_stride) {
  for (vit_idx o = 0; o < out; o++) {
    double bias = 0;
    for (vit_idx i = 0; i < in; i++) {
      double sum = 0;
      for (vit_idx r = 0; r < rows; r++)
        sum += (double)dy[r * dy_stride + o] * (double)x[r * in + i];
      dw[o * in + i] += (float)sum;
    }
    for (vit_idx r = 0; r < rows; r++) bias += (double)dy[r * dy_stride + o];
    if (db) db[o] += (float)bias;
  }
}

/* Not used by the model: it shows that a convolution gives the same numbers. */
VIT_DEF void vit_conv2d_patches(float *y, const float *image, const float *w,
    const float *b, int C, int height, int width, int PH, int PW, int D) {
  vit_idx cols = width / PW;
  for (vit_idx n = 0; n < (height / PH) * cols; n++)
    for (vit_idx d = 0; d < D; d++) {
      double sum = b ? (double)b[d] : 0.0;
      for (vit_idx c = 0; c < C; c++)
        for (vit_idx i = 0; i < PH; i++)
          for (vit_idx j = 0; j < PW; j++) {
            vit_idx row = n / cols * PH + i, col = n % cols * PW + j;
            sum += (double)image[(c * height + row) * width + col] *
                   (double)w[((d * C + c) * PH + i) * PW + j];
          }
      y[n * D + d] = (float)sum;
    }
}

/* ------------------------------------------------------------------------ */
/*  >>02 tokens                                                             */
/* ------------------------------------------------------------------------ */

/* pos[t][2i] = sin(t / 10000^(2i/D)), pos[t][2i+1] = cos(the same). */
VIT_DEF void vit_positions_sinusoid(float *pos, int T, int D) {
  for (vit_idx t = 0; t < T; t++)
    for (vit_idx d = 0; d < D; d++) {
      double angle = (double)t / pow(10000.0, (double)(d - d % 2) / (double)D);
      pos[t * D + d] = (float)(d % 2 ? cos(angle) : sin(angle));
    }
}

/* sin, cos of col * omega_d, then of row * omega_d; omega_d = 10000^(-4d/D). */
VIT_DEF void vit_positions_sincos2d(
    float *pos, int rows, int cols, int D, int class_token) {
  vit_idx quarter = D / 4;
  for (vit_idx d = 0; class_token && d < D; d++) *pos++ = 0;
  for (vit_idx row = 0; row < rows; row++)
    for (vit_idx col = 0; col < cols; col++, pos += D)
      for (vit_idx d = 0; d < quarter; d++) {
        double omega = 1.0 / pow(10000.0, (double)d / (double)quarter);
        pos[d] = (float)sin((double)col * omega);
        pos[quarter + d] = (float)cos((double)col * omega);
        pos[2 * quarter + d] = (float)sin((double)row * omega);
        pos[3 * quarter + d] = (float)cos((double)row * omega);
      }
}

/* tokens: z0 = [class token; patches] + positions (ViT paper, eq. 1).
   embed [N,D]: the projected patches; cls [D] or NULL, pos [T,D] or NULL -> x
   [T,D] */
static void vit_naive_tokens_forward(float *x, const float *embed,
    const float *cls, const float *pos, int N, int D) {
  vit_idx first = cls ? 1 : 0; /* where the patches begin */
  for (vit_idx t = 0; t < N + first; t++)
    for (vit_idx d = 0; d < D; d++) {
      float token = t < first ? cls[d] : embed[(t - first) * D + d];
      x[t * D + d] = pos ? token + pos[t * D + d] : token;
    }
}

/* dembed = dx of the patches; dcls += dx of token 0; dpos += dx. dcls and
   dpos may be NULL; without a class token dcls is NULL, and with one it is
   not. */
static void vit_naive_tokens_backward(
    float *dembed, float *dcls, float *dpos, const float *dx, int N, int D) {
  vit_idx first = dcls ? 1 : 0;
  for (vit_idx t = 0; t < N + first; t++)
    for (vit_idx d = 0; d < D; d++) {
      float g = dx[t * D + d];
      if (t < first) dcls[d] += g;
      if (t >= first) dembed[(t - first) * D + d] = g;
      if (dpos) dpos[t * D + d] += g;
    }
}

#ifdef VIT__HAS_SIMD
/* Row by row, VIT_LANES columns (d) at once. */
VIT__SIMD void vit_simd_tokens_forward(float *x, const float *embed,
    const float *cls, const float *pos, int N, int D) {
  vit_idx first = cls ? 1 : 0;
  for (vit_idx t = 0; t < N + first; t++) {
    const float *from = t < first ? cls : embed + (t - first) * D;
    for (vit_idx d = 0; d < D; d += VIT_LANES) {
      vit_vec token = vit_load_n(from + d, D - d);
      if (pos) token = vit_add(token, vit_load_n(pos + t * D + d, D - d));
      vit_store_n(x + t * D + d, token, D - d);
    }
  }
}

VIT__SIMD void vit_simd_tokens_backward(
    float *dembed, float *dcls, float *dpos, const float *dx, int N, int D) {
  vit_idx first = dcls ? 1 : 0;
  for (vit_idx t = 0; t < N + first; t++)
    for (vit_idx d = 0; d < D; d += VIT_LANES) {
      vit_idx n = D - d;
      vit_vec g = vit_load_n(dx + t * D + d, n);
      if (t < first)
        vit_store_n(dcls + d, vit_add(vit_load_n(dcls + d, n), g), n);
      if (t >= first) vit_store_n(dembed + (t - first) * D + d, g, n);
      if (dpos) {
        float *to = dpos + t * D + d;
        vit_store_n(to, vit_add(vit_load_n(to, n), g), n);
      }
    }
}
#endif

/* ------------------------------------------------------------------------ */
/*  >>03 attention                                                          */
/* ------------------------------------------------------------------------ */

/* Each token is projected to a query, a key and a value (chapter 04). Row i of
   the probabilities P says how much token i takes from each token j: the
   softmax of query i . key j. Its output is that average of the values. A head
   is one such attention, Dh numbers wide. */

/* softmax: p_j = exp(s_j) / sum exp(s), row by row. The largest s is taken off
   first, which changes nothing but keeps exp finite. In place is allowed.
   s, p [rows,cols] */
static void vit_naive_softmax_forward(
    float *p, const float *s, int rows, int cols) {
  for (vit_idx r = 0; r < rows; r++, p += cols, s += cols) {
    double sum = 0;
    float top = s[0];
    for (vit_idx j = 1; j < cols; j++) top = s[j] > top ? s[j] : top;
    for (vit_idx j = 0; j < cols; j++) {
      double e = exp((double)s[j] - (double)top);
      p[j] = (float)e;
      sum += e;
    }
    for (vit_idx j = 0; j < cols; j++) p[j] = (float)((double)p[j] / sum);
  }
}

/* ds_j = p_j (dp_j - sum over i of dp_i p_i). In place is allowed. */
static void vit_naive_softmax_backward(
    float *ds, const float *dp, const float *p, int rows, int cols) {
  for (vit_idx r = 0; r < rows; r++, ds += cols, dp += cols, p += cols) {
    double dot = 0;
    for (vit_idx j = 0; j < cols; j++) dot += (double)dp[j] * (double)p[j];
    for (vit_idx j = 0; j < cols; j++)
      ds[j] = (float)((double)p[j] * ((double)dp[j] - dot));
  }
}

#ifdef VIT__HAS_SIMD
/* Scores j, j + 1, ... of a row before the softmax: factor s + mask. The last
   vector may be short: its missing lanes must not win the maximum nor add to
   the sum of exponentials, so they are -INFINITY. */
VIT__OP vit_vec vit__scores(
    const float *s, const float *mask, float factor, vit_idx j, vit_idx cols) {
  vit_vec v =
      vit_mul(vit__load_or(s + j, cols - j, -INFINITY), vit_set(factor));
  return mask ? vit_add(v, vit_load_n(mask + j, cols - j)) : v;
}

VIT__OP vit_vec vit__highest(
    const float *s, const float *mask, float factor, vit_idx cols) {
  vit_vec top = vit_set(-INFINITY);
  for (vit_idx j = 0; j < cols; j += VIT_LANES)
    top = vit_max(top, vit__scores(s, mask, factor, j, cols));
  return vit_set(vit_top(top));
}

/* p = softmax(factor s + mask), mask [rows,cols] or NULL. The maximum of the
   next row is taken early, so that this row's exp need not wait for its own;
   the last vector of a row stays in a register until it is scaled. */
VIT__SIMD void vit__softmax(float *p, const float *s, const float *mask,
    float factor, int rows, int cols) {
  const vit_idx end = (cols - 1) / VIT_LANES * VIT_LANES; /* the last vector */
  vit_vec next = vit__highest(s, mask, factor, cols);
  for (vit_idx r = 0; r < rows; r++, p += cols, s += cols) {
    const float *m = mask ? mask + r * cols : NULL;
    vit_vec top = next, sum = vit_set(0), last, scale;
    if (r + 1 < rows)
      next = vit__highest(s + cols, m ? m + cols : NULL, factor, cols);
    for (vit_idx j = 0; j < end; j += VIT_LANES) {
      vit_vec e = vit_exp(vit_sub(vit__scores(s, m, factor, j, cols), top));
      vit_store(p + j, e);
      sum = vit_add(sum, e);
    }
    last = vit_exp(vit_sub(vit__scores(s, m, factor, end, cols), top));
    scale = vit_div(vit_set(1), vit_set(vit_sum(vit_add(sum, last))));
    for (vit_idx j = 0; j < end; j += VIT_LANES)
      vit_store(p + j, vit_mul(vit_load(p + j), scale));
    vit_store_n(p + end, vit_mul(last, scale), cols - end);
  }
}

VIT__SIMD void vit_simd_softmax_forward(
    float *p, const float *s, int rows, int cols) {
  vit__softmax(p, s, NULL, 1, rows, cols);
}

/* ds = factor p (dp - sum of dp p) */
VIT__SIMD void vit__softmax_backward(float *ds, const float *dp, const float *p,
    float factor, int rows, int cols) {
  const vit_vec f = vit_set(factor);
  for (vit_idx r = 0; r < rows; r++, ds += cols, dp += cols, p += cols) {
    vit_vec dot = vit_set(0);
    for (vit_idx j = 0; j < cols; j += VIT_LANES)
      dot = vit_fma(
          vit_load_n(dp + j, cols - j), vit_load_n(p + j, cols - j), dot);
    dot = vit_set(vit_sum(dot));
    for (vit_idx j = 0; j < cols; j += VIT_LANES) {
      vit_vec d = vit_mul(vit_sub(vit_load_n(dp + j, cols - j), dot), f);
      vit_store_n(ds + j, vit_mul(vit_load_n(p + j, cols - j), d), cols - j);
    }
  }
}

VIT__SIMD void vit_simd_softmax_backward(
    float *ds, const float *dp, const float *p, int rows, int cols) {
  vit__softmax_backward(ds, dp, p, 1, rows, cols);
}
#endif

/* attention scores of one head: P = softmax(Q K^T / sqrt(Dh) + mask)
   (Vaswani et al. 2017, eq. 1). q [rows,Dh], k [T,Dh], row t at q + t * stride;
   mask [rows,T] of 0 and -INFINITY, or NULL -> p [rows,T], row i sums to 1.
   `rows` is T, or less to ask for some of the queries. */
static void vit_naive_attention_scores_forward(float *p, const float *q,
    const float *k, const float *mask, int rows, int T, int Dh, int stride) {
  double scale = 1.0 / sqrt((double)Dh);
  for (vit_idx i = 0; i < rows; i++)
    for (vit_idx j = 0; j < T; j++) {
      double dot = 0;
      for (vit_idx d = 0; d < Dh; d++)
        dot += (double)q[i * stride + d] * (double)k[j * stride + d];
      p[i * T + j] = (float)(dot * scale) + (mask ? mask[i * T + j] : 0);
    }
  vit_naive_softmax_forward(p, p, rows, T);
}

/* dS = softmax backward of dP, written over dP; then, with scale 1/sqrt(Dh),
   dQ = scale dS K,  dK = scale dS^T Q. p, dp [rows,T]; q, dq [rows,Dh];
   k, dk [T,Dh]; all with the same stride. */
static void vit_naive_attention_scores_backward(float *dq, float *dk, float *dp,
    const float *p, const float *q, const float *k, int rows, int T, int Dh,
    int stride) {
  double scale = 1.0 / sqrt((double)Dh);
  vit_naive_softmax_backward(dp, dp, p, rows, T);
  for (vit_idx d = 0; d < Dh; d++) {
    for (vit_idx i = 0; i < rows; i++) {
      double sum = 0;
      for (vit_idx j = 0; j < T; j++)
        sum += (double)dp[i * T + j] * (double)k[j * stride + d];
      dq[i * stride + d] = (float)(sum * scale);
    }
    for (vit_idx j = 0; j < T; j++) {
      double sum = 0;
      for (vit_idx i = 0; i < rows; i++)
        sum += (double)dp[i * T + j] * (double)q[i * stride + d];
      dk[j * stride + d] = (float)(sum * scale);
    }
  }
}

/* attention values of one head: O = P V. p [rows,T], v [T,Dh] (row t at
   v + t * stride) -> o [rows,Dh] (row t at o + t * o_stride) */
static void vit_naive_attention_values_forward(float *o, const float *p,
    const float *v, int rows, int T, int Dh, int stride, int o_stride) {
  for (vit_idx i = 0; i < rows; i++)
    for (vit_idx d = 0; d < Dh; d++) {
      double sum = 0;
      for (vit_idx j = 0; j < T; j++)
        sum += (double)p[i * T + j] * (double)v[j * stride + d];
      o[i * o_stride + d] = (float)sum;
    }
}

/* dP = dO V^T, dV = P^T dO. d_o [rows,Dh] (row t at d_o + t * o_stride),
   p [rows,T], v [T,Dh] -> dp [rows,T], dv [T,Dh] with v's stride. (`do` is a
   word of C.) */
static void vit_naive_attention_values_backward(float *dp, float *dv,
    const float *d_o, const float *p, const float *v, int rows, int T, int Dh,
    int stride, int o_stride) {
  for (vit_idx i = 0; i < rows; i++)
    for (vit_idx j = 0; j < T; j++) {
      double dot = 0;
      for (vit_idx d = 0; d < Dh; d++)
        dot += (double)d_o[i * o_stride + d] * (double)v[j * stride + d];
      dp[i * T + j] = (float)dot;
    }
  for (vit_idx j = 0; j < T; j++)
    for (vit_idx d = 0; d < Dh; d++) {
      double sum = 0;
      for (vit_idx i = 0; i < rows; i++)
        sum += (double)p[i * T + j] * (double)d_o[i * o_stride + d];
      dv[j * stride + d] = (float)sum;
    }
}

#ifdef VIT__HAS_SIMD
/* Each sum over an index above is one matrix product; row and column strides
   say how it lies. */
VIT__SIMD void vit_simd_attention_scores_forward(float *p, const float *q,
    const float *k, const float *mask, int rows, int T, int Dh, int stride) {
  vit__matmul(
      p, T, vit__at(q, stride, 1), vit__at(k, 1, stride), NULL, 0, rows, T, Dh);
  vit__softmax(p, p, mask, (float)(1.0 / sqrt((double)Dh)), rows, T);
}

VIT__SIMD void vit_simd_attention_scores_backward(float *dq, float *dk,
    float *dp, const float *p, const float *q, const float *k, int rows, int T,
    int Dh, int stride) {
  vit__softmax_backward(dp, dp, p, (float)(1.0 / sqrt((double)Dh)), rows, T);
  vit__matmul(dq, stride, vit__at(dp, T, 1), vit__at(k, stride, 1), NULL, 0,
      rows, Dh, T);
  vit__matmul(dk, stride, vit__at(dp, 1, T), vit__at(q, stride, 1), NULL, 0, T,
      Dh, rows);
}

VIT__SIMD void vit_simd_attention_values_forward(float *o, const float *p,
    const float *v, int rows, int T, int Dh, int stride, int o_stride) {
  vit__matmul(o, o_stride, vit__at(p, T, 1), vit__at(v, stride, 1), NULL, 0,
      rows, Dh, T);
}

VIT__SIMD void vit_simd_attention_values_backward(float *dp, float *dv,
    const float *d_o, const float *p, const float *v, int rows, int T, int Dh,
    int stride, int o_stride) {
  vit__matmul(dp, T, vit__at(d_o, o_stride, 1), vit__at(v, 1, stride), NULL, 0,
      rows, T, Dh);
  vit__matmul(dv, stride, vit__at(p, 1, T), vit__at(d_o, o_stride, 1), NULL, 0,
      T, Dh, rows);
}
#endif

/* Local attention: patches i and j see each other when they are at most k/2
   rows and k/2 columns apart. */
VIT_DEF void vit_local_mask(
    float *mask, int rows, int cols, int k, int class_token) {
  vit_idx first = class_token ? 1 : 0, T = (vit_idx)rows * cols + first;
  for (vit_idx i = 0; i < T; i++)
    for (vit_idx j = 0; j < T; j++) {
      vit_idx a = i - first, b = j - first;
      vit_idx down = a / cols - b / cols, right = a % cols - b % cols;
      int close =
          down <= k / 2 && -down <= k / 2 && right <= k / 2 && -right <= k / 2;
      mask[i * T + j] = i < first || j < first || close ? 0 : -INFINITY;
    }
}

/* ------------------------------------------------------------------------ */
/*  >>04 heads                                                              */
/* ------------------------------------------------------------------------ */

/* Tensors: of the STEM in front of the blocks, of each BLOCK, of the TAIL
   behind them. Activations: one for each BLOCK, or one for the MODEL. Then what
   there is one of them for. */
enum { VIT__STEM, VIT__BLOCK, VIT__TAIL, VIT__MODEL };
enum { VIT__ALL, VIT__IMAGE, VIT__PATCH, VIT__TOKEN, VIT__HEAD };
enum { VIT__BEFORE_HEADS, VIT__AFTER_HEADS }; /* the two halves of a block */
enum { VIT__CUT, VIT__PROJECT, VIT__PLACE };  /* how patches become tokens */

/* What a kernel's caller needs, in one place: the sizes, and where the tensors
   and activations of some images are; inside a block, those of this block (see
   vit__block_at), of all its rows or of some (vit__rows). */
typedef struct {
  const vit_model *m;
  const vit_kernels *k;
  const vit_state *s;
  int B, N, T, D, H, Dh, I, M, K, P; /* B: images of this view */
  int row, rows;  /* tokens row .. row + rows - 1 of the state's batch */
  int threads;    /* parts that work is cut into; see vit__each */
  int parts;      /* of a block's rows in the backward */
  int dropout;    /* 1: on */
  int l, stage;   /* which block, and which step of the task at hand */
  int class_only; /* 1: of this block only the class token is read */
  const float *images;
  const float *x;   /* what block l reads */
  vit_tensors w, g; /* parameters and gradients */
#define VIT__FIELD(field, where, unit, exists, floats) float *field;
  VIT_ACTIVATIONS(VIT__FIELD)
#undef VIT__FIELD
} vit__view;

/* Name the sizes as the table of activations does. */
#define VIT__NAMES(v)                                                          \
  const vit_idx T = (v)->T, D = (v)->D, I = (v)->I, M = (v)->M, K = (v)->K,    \
                P = (v)->P, Q = (v)->s->queries;                               \
  const vit_state *s = (v)->s;                                                 \
  (void)T, (void)D, (void)I, (void)M, (void)K, (void)P, (void)Q, (void)s

/* Sites where a forward draws random numbers; each forward has streams of its
   own. The positions' dropout is site -1 of block 0. */
enum {
  VIT__SITE_POS = -1,
  VIT__SITE_ATTN,
  VIT__SITE_PROJ,
  VIT__SITE_HIDDEN,
  VIT__SITE_MLP,
  VIT__SITE_BLOCK,
  VIT__SITE_PATH1,
  VIT__SITE_PATH2,
  VIT__SITES
};

static uint32_t vit__stream(const vit__view *v, int site) {
  const uint32_t sites = 1 + (uint32_t)(v->m->config.depth * VIT__SITES);
  return v->s->forwards * sites + 1 + (uint32_t)(v->l * VIT__SITES + site);
}

/* Attention dropout: used = n probabilities, some of them 0. `at` is the place
   of the first one in the view's attn. The backward calls it on the gradient,
   in place. */
static void vit__drop_attn(
    const vit__view *b, float *used, const float *p, int n, vit_idx at) {
  const vit_idx row = b->row + (vit_idx)b->s->first * b->T;
  const vit_idx before = row * b->H * b->T; /* rows: T a head */
  b->k->dropout(used, p, n, b->m->config.attn_drop, b->s->key,
      vit__stream(b, VIT__SITE_ATTN), (uint32_t)(before + at));
}

/* Many heads from one fused projection. A row of qkv [B*T,3,H,Dh] is a token's
   Q, K and V side by side, each with its heads side by side (head-major). So
   head h reads Dh columns from h * Dh on, with a stride of 3 I, and writes its
   output into columns h * Dh .. of atty [B*T,I]: there the heads stand side by
   side, which is their concatenation (Vaswani et al. 2017, section 3.2.2).

   Work is cut into pieces: Q queries of one head of one image. Piece p is head
   p / pieces, queries from p % pieces * Q on. Where the probabilities are not
   kept, each part i has one place for those it is at: at most B * H parts then.
   */
static void vit__heads_forward(const void *block, int i) {
  const vit__view *b = (const vit__view *)block;
  const int T = b->T, Dh = b->Dh, I = b->I, all_heads = b->B * b->H;
  const int keeps = b->s->trains || b->s->keep_attn, Q = b->s->queries;
  const int pieces = (T + Q - 1) / Q;
  const int drops = b->dropout && b->m->config.attn_drop > 0;
  int first, n;
  vit__part(all_heads * pieces,
      keeps ? b->threads : VIT__MIN(b->threads, all_heads), i, 1, &first, &n);
  for (int piece = first; piece < first + n; piece++) {
    const vit_idx head = piece / pieces, t = piece % pieces * Q;
    const vit_idx row = head / b->H * T, column = head % b->H * Dh;
    const vit_idx at = keeps ? (head * T + t) * T : (vit_idx)i * Q * T;
    const int rows = (int)VIT__MIN(Q, T - t);
    const float *q = b->qkv + row * 3 * I + column, *k = q + I, *v = k + I;
    float *p = b->attn + at, *used = drops ? b->attn_used + at : p;
    b->k->attention_scores_forward(p, q + t * 3 * I, k,
        b->m->mask ? b->m->mask + t * T : NULL, rows, T, Dh, 3 * I);
    if (drops) vit__drop_attn(b, used, p, rows * T, at);
    b->k->attention_values_forward(
        b->atty + (row + t) * I + column, used, v, rows, T, Dh, 3 * I, I);
  }
}

/* Head `head` % H of image `head` / H: datty -> dqkv, through the values, the
   dropout and the scores. */
static void vit__heads_backward(const void *block, int head) {
  const vit__view *b = (const vit__view *)block;
  const int T = b->T, Dh = b->Dh, I = b->I;
  const int drops = b->dropout && b->m->config.attn_drop > 0;
  const vit_idx at = (vit_idx)head * T * T, column = head % b->H * (vit_idx)Dh;
  const vit_idx row = (vit_idx)(head / b->H) * T, place = row * 3 * I + column;
  const float *q = b->qkv + place, *k = q + I, *v = k + I, *p = b->attn + at;
  float *dq = b->dqkv + place, *dk = dq + I, *dv = dk + I, *dp = b->dattn + at;
  b->k->attention_values_backward(dp, dv, b->datty + row * I + column,
      drops ? b->attn_used + at : p, v, T, T, Dh, 3 * I, I);
  if (drops) vit__drop_attn(b, dp, dp, T * T, at);
  if (b->dattn_kept) /* the scores write over dp */
    memcpy(b->dattn_kept + at, dp, (size_t)T * (size_t)T * sizeof *dp);
  b->k->attention_scores_backward(dq, dk, dp, p, q, k, T, T, Dh, 3 * I);
}

/* ------------------------------------------------------------------------ */
/*  >>05 encoder                                                            */
/* ------------------------------------------------------------------------ */

/* layer norm (Ba et al. 2016): y = (x - mean) * rstd * w + b, row by row, with
   rstd = 1 / sqrt(variance + eps). x, y [rows,D]; w, b [D]; mean, rstd [rows]
   are kept for the backward. */
static void vit_naive_layernorm_forward(float *y, float *mean, float *rstd,
    const float *x, const float *w, const float *b, int rows, int D,
    float eps) {
  for (vit_idx r = 0; r < rows; r++, y += D, x += D) {
    double m = 0, variance = 0, s;
    for (vit_idx d = 0; d < D; d++) m += (double)x[d];
    m /= D;
    for (vit_idx d = 0; d < D; d++)
      variance += ((double)x[d] - m) * ((double)x[d] - m);
    s = 1.0 / sqrt(variance / D + (double)eps);
    for (vit_idx d = 0; d < D; d++)
      y[d] = (float)(((double)x[d] - m) * s * (double)w[d] + (double)b[d]);
    mean[r] = (float)m;
    rstd[r] = (float)s;
  }
}

/* With n = (x - mean) * rstd and g = dy * w:
   dx += rstd (g - average(g) - n average(g n)), dw += dy n, db += dy. */
static void vit_naive_layernorm_backward(float *dx, float *dw, float *db,
    const float *dy, const float *x, const float *w, const float *mean,
    const float *rstd, int rows, int D) {
  for (vit_idx d = 0; d < D; d++) {
    double sum_w = 0, sum_b = 0;
    for (vit_idx r = 0; r < rows; r++) {
      double n = ((double)x[r * D + d] - (double)mean[r]) * (double)rstd[r];
      sum_w += (double)dy[r * D + d] * n;
      sum_b += (double)dy[r * D + d];
    }
    dw[d] += (float)sum_w;
    db[d] += (float)sum_b;
  }
  for (vit_idx r = 0; r < rows; r++, dx += D, dy += D, x += D) {
    double m = (double)mean[r], s = (double)rstd[r], sum_g = 0, sum_gn = 0;
    for (vit_idx d = 0; d < D; d++) {
      double n = ((double)x[d] - m) * s, g = (double)dy[d] * (double)w[d];
      sum_g += g;
      sum_gn += g * n;
    }
    for (vit_idx d = 0; d < D; d++) {
      double n = ((double)x[d] - m) * s, g = (double)dy[d] * (double)w[d];
      dx[d] += (float)(s * (g - sum_g / D - n * sum_gn / D));
    }
  }
}

#ifdef VIT__HAS_SIMD
VIT__SIMD void vit_simd_layernorm_forward(float *y, float *mean, float *rstd,
    const float *x, const float *w, const float *b, int rows, int D,
    float eps) {
  for (vit_idx r = 0; r < rows; r++, y += D, x += D) {
    vit_vec sum = vit_set(0), variance = vit_set(0), m, s;
    float off;
    for (vit_idx d = 0; d < D; d += VIT_LANES)
      sum = vit_add(sum, vit_load_n(x + d, D - d));
    mean[r] = vit_sum(sum) / (float)D;
    m = vit_set(mean[r]);
    sum = vit_set(0);
    for (vit_idx d = 0; d < D;
         d += VIT_LANES) { /* missing lanes: mean - mean */
      vit_vec c = vit_sub(vit__load_or(x + d, D - d, mean[r]), m);
      sum = vit_add(sum, c);
      variance = vit_fma(c, c, variance);
    }
    off = vit_sum(sum) / (float)D; /* what rounding left of the mean */
    mean[r] += off;
    m = vit_set(mean[r]);
    rstd[r] = vit_sum(variance) / (float)D - off * off;
    rstd[r] = 1.0f / sqrtf((rstd[r] < 0 ? 0 : rstd[r]) + eps);
    s = vit_set(rstd[r]);
    for (vit_idx d = 0; d < D; d += VIT_LANES) {
      vit_vec n = vit_mul(vit_sub(vit_load_n(x + d, D - d), m), s);
      n = vit_fma(n, vit_load_n(w + d, D - d), vit_load_n(b + d, D - d));
      vit_store_n(y + d, n, D - d);
    }
  }
}

VIT__SIMD void vit_simd_layernorm_backward(float *dx, float *dw, float *db,
    const float *dy, const float *x, const float *w, const float *mean,
    const float *rstd, int rows, int D) {
  for (vit_idx r = 0; r < rows; r++, dx += D, dy += D, x += D) {
    const vit_vec m = vit_set(mean[r]), s = vit_set(rstd[r]);
    vit_vec sum_g = vit_set(0), sum_gn = vit_set(0);
    for (vit_idx d = 0; d < D; d += VIT_LANES) {
      vit_idx k = D - d; /* missing lanes have dy = 0, so they add nothing */
      vit_vec n = vit_mul(vit_sub(vit_load_n(x + d, k), m), s);
      vit_vec y = vit_load_n(dy + d, k), g = vit_mul(y, vit_load_n(w + d, k));
      sum_g = vit_add(sum_g, g);
      sum_gn = vit_fma(g, n, sum_gn);
      vit_store_n(dw + d, vit_fma(y, n, vit_load_n(dw + d, k)), k);
      vit_store_n(db + d, vit_add(y, vit_load_n(db + d, k)), k);
    }
    sum_g = vit_set(vit_sum(sum_g) / (float)D);
    sum_gn = vit_set(vit_sum(sum_gn) / (float)D);
    for (vit_idx d = 0; d < D; d += VIT_LANES) {
      vit_idx k = D - d;
      vit_vec n = vit_mul(vit_sub(vit_load_n(x + d, k), m), s);
      vit_vec g = vit_mul(vit_load_n(dy + d, k), vit_load_n(w + d, k));
      g = vit_sub(vit_sub(g, sum_g), vit_mul(n, sum_gn));
      vit_store_n(dx + d, vit_fma(s, g, vit_load_n(dx + d, k)), k);
    }
  }
}
#endif

/* GELU, exact (Hendrycks and Gimpel 2016): y = x Phi(x), where
   Phi(x) = (1 + erf(x / sqrt 2)) / 2 is the normal distribution function.
   In place is allowed. */
static void vit_naive_gelu_forward(float *y, const float *x, int n) {
  for (vit_idx i = 0; i < n; i++)
    y[i] = (float)(0.5 * (double)x[i] * (1.0 + erf((double)x[i] / sqrt(2.0))));
}

/* dx = dy (Phi(x) + x phi(x)), phi(x) = exp(-x^2/2) / sqrt(2 pi). In place
   (dx = dy) is allowed. */
static void vit_naive_gelu_backward(
    float *dx, const float *dy, const float *x, int n) {
  for (vit_idx i = 0; i < n; i++) {
    double v = (double)x[i];
    double Phi = 0.5 * (1.0 + erf(v / sqrt(2.0)));
    double phi = exp(-0.5 * v * v) / sqrt(2.0 * VIT_PI);
    dx[i] = (float)((double)dy[i] * (Phi + v * phi));
  }
}

/* GELU, tanh form (same paper, section 2):
   y = x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3). In place allowed. */
#define VIT__GELU_CUBE 0.044715
#define VIT__SQRT_2_PI 0.79788456080286535588 /* sqrt(2/pi) */
static void vit_naive_gelu_tanh_forward(float *y, const float *x, int n) {
  for (vit_idx i = 0; i < n; i++) {
    double v = (double)x[i];
    double u = VIT__SQRT_2_PI * (v + VIT__GELU_CUBE * v * v * v);
    y[i] = (float)(0.5 * v * (1.0 + tanh(u)));
  }
}

/* dx = dy ((1 + tanh u)/2 + x/2 (1 - tanh^2 u) u'),
   u' = sqrt(2/pi) (1 + 3 * 0.044715 x^2). In place allowed. */
static void vit_naive_gelu_tanh_backward(
    float *dx, const float *dy, const float *x, int n) {
  for (vit_idx i = 0; i < n; i++) {
    double v = (double)x[i];
    double t = tanh(VIT__SQRT_2_PI * (v + VIT__GELU_CUBE * v * v * v));
    double du = VIT__SQRT_2_PI * (1.0 + 3.0 * VIT__GELU_CUBE * v * v);
    dx[i] = (float)((double)dy[i] *
                    (0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * du));
  }
}

/* GELU, quick form (same paper, section 2): y = x s with the logistic function
   s = 1 / (1 + exp(-1.702 x)). In place allowed. */
#define VIT__GELU_QUICK 1.702
static void vit_naive_gelu_quick_forward(float *y, const float *x, int n) {
  for (vit_idx i = 0; i < n; i++) {
    double v = (double)x[i];
    y[i] = (float)(v / (1.0 + exp(-VIT__GELU_QUICK * v)));
  }
}

/* dx = dy (s + 1.702 x s (1 - s)). In place allowed. */
static void vit_naive_gelu_quick_backward(
    float *dx, const float *dy, const float *x, int n) {
  for (vit_idx i = 0; i < n; i++) {
    double v = (double)x[i], s = 1.0 / (1.0 + exp(-VIT__GELU_QUICK * v));
    dx[i] = (float)((double)dy[i] * (s + VIT__GELU_QUICK * v * s * (1.0 - s)));
  }
}

#ifdef VIT__HAS_SIMD
/* Phi(x) from erf by Abramowitz and Stegun 1964, formula 7.1.26, whose error is
   at most 1.5e-7: erf(z) = 1 - (a1 t + ... + a5 t^5) exp(-z^2), z >= 0, with
   t = 1 / (1 + 0.3275911 z). For z = |x| / sqrt 2 the exponential is
   exp(-x^2/2): *bell, which the backward needs as well. */
VIT__OP vit_vec vit__normal_cdf(vit_vec x, vit_vec *bell) {
  const vit_vec zero = vit_set(0), one = vit_set(1);
  vit_vec abs = vit_max(vit_sub(zero, x), x);
  vit_vec z = vit_mul(abs, vit_set(0.70710678f));
  vit_vec t = vit_div(one, vit_fma(vit_set(0.3275911f), z, one));
  vit_vec p = vit_set(1.061405429f), tail;
  p = vit_fma(p, t, vit_set(-1.453152027f));
  p = vit_fma(p, t, vit_set(1.421413741f));
  p = vit_fma(p, t, vit_set(-0.284496736f));
  p = vit_fma(p, t, vit_set(0.254829592f));
  *bell = vit_exp(vit_mul(vit_mul(x, x), vit_set(-0.5f)));
  tail =
      vit_mul(vit_mul(vit_mul(p, t), *bell), vit_set(0.5f)); /* 1 - Phi(|x|) */
  return vit_if_less(x, zero, tail, vit_sub(one, tail));
}

VIT__SIMD void vit_simd_gelu_forward(float *y, const float *x, int n) {
  for (vit_idx i = 0; i < n; i += VIT_LANES) {
    vit_vec v = vit_load_n(x + i, n - i), bell;
    vit_store_n(y + i, vit_mul(v, vit__normal_cdf(v, &bell)), n - i);
  }
}

VIT__SIMD void vit_simd_gelu_backward(
    float *dx, const float *dy, const float *x, int n) {
  const vit_vec phi0 = vit_set(0.39894228f); /* phi(0) = 1 / sqrt(2 pi) */
  for (vit_idx i = 0; i < n; i += VIT_LANES) {
    vit_vec v = vit_load_n(x + i, n - i), bell;
    vit_vec Phi = vit__normal_cdf(v, &bell);
    vit_vec slope = vit_fma(vit_mul(v, phi0), bell, Phi);
    vit_store_n(dx + i, vit_mul(vit_load_n(dy + i, n - i), slope), n - i);
  }
}

VIT__OP vit_vec vit__clamp(vit_vec v, float most) {
  return vit_min(vit_set(most), vit_max(vit_set(-most), v));
}

/* (1 + tanh u) / 2 = 1 / (1 + exp(-2u)): the logistic function of 2u. Past +-10
   the tanh is +-1 to the last bit; a larger x^3 could overflow. */
VIT__OP vit_vec vit__gelu_gate(vit_vec v) {
  vit_vec c = vit__clamp(v, 10), c2 = vit_mul(c, c);
  vit_vec u = vit_mul(c, vit_set((float)(-2 * VIT__SQRT_2_PI)));
  u = vit_mul(u, vit_fma(c2, vit_set((float)VIT__GELU_CUBE), vit_set(1)));
  u = vit_div(vit_set(1), vit_add(vit_set(1), vit_exp(u)));
  return vit_if_less(v, vit_set(-10), vit_set(0), u);
}

VIT__SIMD void vit_simd_gelu_tanh_forward(float *y, const float *x, int n) {
  for (vit_idx i = 0; i < n; i += VIT_LANES) {
    vit_vec v = vit_load_n(x + i, n - i);
    vit_store_n(y + i, vit_mul(v, vit__gelu_gate(v)), n - i);
  }
}

/* With the gate s = (1 + tanh u)/2: (1 - tanh^2 u)/2 = 2 s (1 - s). */
VIT__SIMD void vit_simd_gelu_tanh_backward(
    float *dx, const float *dy, const float *x, int n) {
  for (vit_idx i = 0; i < n; i += VIT_LANES) {
    vit_vec v = vit_load_n(x + i, n - i), s = vit__gelu_gate(v);
    vit_vec c = vit__clamp(v, 10);
    vit_vec du = vit_fma(vit_mul(c, c),
        vit_set((float)(6 * VIT__SQRT_2_PI * VIT__GELU_CUBE)),
        vit_set((float)(2 * VIT__SQRT_2_PI)));
    vit_vec bend = vit_mul(vit_mul(s, vit_sub(vit_set(1), s)), du);
    vit_vec slope = vit_fma(c, bend, s);
    vit_store_n(dx + i, vit_mul(vit_load_n(dy + i, n - i), slope), n - i);
  }
}

/* s; below -50 it is less than 1e-36, and exp would soon overflow. */
VIT__OP vit_vec vit__quick_gate(vit_vec v) {
  vit_vec u = vit_mul(vit__clamp(v, 50), vit_set((float)-VIT__GELU_QUICK));
  u = vit_div(vit_set(1), vit_add(vit_set(1), vit_exp(u)));
  return vit_if_less(v, vit_set(-50), vit_set(0), u);
}

VIT__SIMD void vit_simd_gelu_quick_forward(float *y, const float *x, int n) {
  for (vit_idx i = 0; i < n; i += VIT_LANES) {
    vit_vec v = vit_load_n(x + i, n - i);
    vit_store_n(y + i, vit_mul(v, vit__quick_gate(v)), n - i);
  }
}

VIT__SIMD void vit_simd_gelu_quick_backward(
    float *dx, const float *dy, const float *x, int n) {
  for (vit_idx i = 0; i < n; i += VIT_LANES) {
    vit_vec v = vit_load_n(x + i, n - i), s = vit__quick_gate(v);
    vit_vec u = vit_mul(vit__clamp(v, 50), vit_set((float)VIT__GELU_QUICK));
    vit_vec bend = vit_mul(u, vit_sub(vit_set(1), s));
    vit_vec slope = vit_fma(s, bend, s);
    vit_store_n(dx + i, vit_mul(vit_load_n(dy + i, n - i), slope), n - i);
  }
}
#endif

/* x[i] = random number `first + i` of a stream, 0 <= x < 1. */
static void vit_naive_uniform(
    float *x, int n, uint32_t key, uint32_t stream, uint32_t first) {
  for (vit_idx i = 0; i < n; i++)
    x[i] = vit__unit(vit_philox(key, stream, first + (uint32_t)i));
}

/* dropout (Srivastava et al. 2014), inverted: y = x / (1 - rate), or 0 with
   probability rate. Element i is decided by random number `first + i` of the
   stream, so the backward calls this same function on dy and meets the same
   mask. In place is allowed. */
static void vit_naive_dropout(float *y, const float *x, int n, float rate,
    uint32_t key, uint32_t stream, uint32_t first) {
  float keep = rate < 1 ? 1 / (1 - rate) : 0;
  for (vit_idx i = 0; i < n; i++) {
    float u = vit__unit(vit_philox(key, stream, first + (uint32_t)i));
    y[i] = u < rate ? 0 : x[i] * keep;
  }
}

/* residual connection: y = x + scale f. The scale is 1, but for stochastic
   depth (Huang et al. 2016), where it is 0 or 1 / (1 - rate). In place (y = x)
   is allowed. The gradient by x is dy itself; the one by f is scale dy. */
static void vit_naive_residual_forward(
    float *y, const float *x, const float *f, float scale, int n) {
  for (vit_idx i = 0; i < n; i++) y[i] = x[i] + scale * f[i];
}

/* y = factor x. In place is allowed. */
static void vit_naive_scale(float *y, const float *x, float factor, int n) {
  for (vit_idx i = 0; i < n; i++) y[i] = factor * x[i];
}

#ifdef VIT__HAS_SIMD
/* vit_naive_uniform for VIT_LANES counters: vit_philox on all of them. */
VIT__OP vit_vec vit__uniforms(uint32_t key, uint32_t stream, uint32_t first) {
  const vit_ivec m = vit_iset(VIT__PHILOX_M);
  vit_ivec x0 = vit_icount(first), x1 = vit_iset(stream);
  for (int round = 0; round < VIT__PHILOX_ROUNDS; round++) {
    vit_ivec high = vit_imulhi(x0, m), low = vit_imul(x0, m);
    x0 = vit_ixor(vit_ixor(high, vit_iset(key)), x1);
    x1 = low;
    key += VIT__PHILOX_W;
  }
  return vit_iunit(x0);
}

VIT__SIMD void vit_simd_uniform(
    float *x, int n, uint32_t key, uint32_t stream, uint32_t first) {
  for (vit_idx i = 0; i < n; i += VIT_LANES)
    vit_store_n(x + i, vit__uniforms(key, stream, first + (uint32_t)i), n - i);
}

VIT__SIMD void vit_simd_dropout(float *y, const float *x, int n, float rate,
    uint32_t key, uint32_t stream, uint32_t first) {
  const vit_vec keep = vit_set(rate < 1 ? 1 / (1 - rate) : 0);
  for (vit_idx i = 0; i < n; i += VIT_LANES) {
    vit_vec u = vit__uniforms(key, stream, first + (uint32_t)i);
    vit_vec v;
    v = vit_mul(vit_load_n(x + i, n - i), keep);
    v = vit_if_less(u, vit_set(rate), vit_set(0), v);
    vit_store_n(y + i, v, n - i);
  }
}

VIT__SIMD void vit_simd_residual_forward(
    float *y, const float *x, const float *f, float scale, int n) {
  const vit_vec s = vit_set(scale);
  for (vit_idx i = 0; i < n; i += VIT_LANES) {
    vit_vec v = vit_load_n(f + i, n - i);
    v = vit_fma(s, v, vit_load_n(x + i, n - i));
    vit_store_n(y + i, v, n - i);
  }
}

VIT__SIMD void vit_simd_scale(float *y, const float *x, float factor, int n) {
  const vit_vec f = vit_set(factor);
  for (vit_idx i = 0; i < n; i += VIT_LANES)
    vit_store_n(y + i, vit_mul(f, vit_load_n(x + i, n - i)), n - i);
}
#endif

/* -- what a block is made of --------------------------------------------- */

/* As bytes: floats that a row or an output of `in` numbers takes, two and the
   bytes, up to a multiple of 16; and the product (chapter 11). */
static vit_idx vit__int8_floats(vit_idx in) { return 2 + (in + 15) / 16 * 4; }
static void vit__linear_int8(const vit_kernels *k, float *y, const float *x,
    const float *w, const float *b, int rows, int in, int first, int out);

/* Which weights vit_model_pack rearranges. */
static int vit__packs(int out) { return out % VIT__PANEL == 0; }

/* y = x W^T + b on the rows of a view, for n outputs from `first` on, of all
   `out`; W may be packed or quantized for inference. y [rows,n] */
static void vit__linear_some(const vit__view *v, float *y, const float *x,
    const float *w, const float *b, int rows, int in, int out, int first,
    int n) {
  const float *from = w + (vit_idx)first * in, *bias = b ? b + first : NULL;
  if (v->m->quantized) vit__linear_int8(v->k, y, x, w, b, rows, in, first, n);
  else if (v->m->packed && vit__packs(out))
    v->k->linear_packed_forward(y, x, from, bias, rows, in, n);
  else v->k->linear_forward(y, x, from, bias, rows, in, n);
}

static void vit__linear(const vit__view *v, float *y, const float *x,
    const float *w, const float *b, int rows, int in, int out) {
  vit__linear_some(v, y, x, w, b, rows, in, out, 0, out);
}

/* Q, K, V of rows x, or without Q where only the class token is read. */
static void vit__qkv_forward(const vit__view *r, const float *x) {
  const int I = r->I, D = r->D, n = r->rows, first = r->class_only ? I : 0;
  const vit_tensors *w = &r->w;
  vit__linear_some(
      r, r->qkv, x, w->qkv_w, w->qkv_b, n, D, 3 * I, first, 3 * I - first);
  if (r->class_only && r->all_q)
    vit__linear_some(r, r->all_q, x, w->qkv_w, w->qkv_b, n, D, 3 * I, 0, I);
}

/* dqkv -> dnorm, the gradient by those rows. dclass_x has what the class tokens
   get through their queries. */
static void vit__qkv_backward(const vit__view *r) {
  const int I = r->I, D = r->D, first = r->class_only ? I : 0;
  r->k->linear_backward_input(r->dnorm, r->dqkv,
      r->w.qkv_w + (vit_idx)first * D, r->rows, D, 3 * I - first);
  for (vit_idx t = 0; r->class_only && t < r->rows; t++) {
    const vit_idx image = (r->row + t) / r->T;
    float *dx = r->dnorm + t * D;
    if ((r->row + t) % r->T == 0)
      r->k->residual_forward(dx, dx, r->s->dclass_x + image * D, 1, D);
  }
}

/* Dropout in place on the view's rows of `cols` numbers. */
static void vit__drop(
    const vit__view *r, float *x, float rate, int site, int cols) {
  if (rate > 0)
    r->k->dropout(x, x, r->rows * cols, rate, r->s->key, vit__stream(r, site),
        (uint32_t)((r->row + (vit_idx)r->s->first * r->T) * cols));
}

/* Stochastic depth: what an image's branch is multiplied with. The rate grows
   in a line from 0 in the first block to drop_path in the last, as in timm
   (Huang et al. 2016, section 3, begin at 1/L). */
static float vit__path_scale(const vit__view *r, int site, int image) {
  const vit_config *c = &r->m->config;
  float rate = c->drop_path;
  if (c->depth > 1) rate *= (float)r->l / (float)(c->depth - 1);
  return vit__unit(vit_philox(
             r->s->key, vit__stream(r, site), (uint32_t)image)) < rate
             ? 0
             : 1 / (1 - rate);
}

/* y = x + scale f, or, without x, y = scale f: a residual connection and its
   gradient by the branch f. With stochastic depth each image has its own scale,
   without it all rows go together. y, x, f [rows,D] */
static void vit__branch(
    const vit__view *r, int site, float *y, const float *x, const float *f) {
  const int paths = r->dropout && r->m->config.drop_path > 0;
  for (int done = 0, n; done < r->rows; done += n) {
    const int image = (r->row + done) / r->T, end = (image + 1) * r->T - r->row;
    const float scale =
        paths ? vit__path_scale(r, site, r->s->first + image) : 1;
    const vit_idx at = (vit_idx)done * r->D;
    n = (paths ? VIT__MIN(end, r->rows) : r->rows) - done;
    if (x) r->k->residual_forward(y + at, x + at, f + at, scale, n * r->D);
    else r->k->scale(y + at, f + at, scale, n * r->D);
  }
}

/* The MLP on rows x, into r->branch: fc1, GELU, fc2. */
static void vit__mlp_forward(const vit__view *r, const float *x) {
  const vit_config *c = &r->m->config;
  const int n = r->rows, D = r->D, M = r->M;
  float *y = c->mlp_last_gelu ? r->fcproj : r->branch;
  void (*gelu)(float *, const float *, int) =
      c->gelu == VIT_GELU_ERF    ? r->k->gelu_forward
      : c->gelu == VIT_GELU_TANH ? r->k->gelu_tanh_forward
                                 : r->k->gelu_quick_forward;
  vit__linear(r, r->fch, x, r->w.fc1_w, r->w.fc1_b, n, D, M);
  gelu(r->fch_gelu, r->fch, n * M);
  if (r->dropout)
    vit__drop(r, r->fch_gelu, c->hidden_drop, VIT__SITE_HIDDEN, M);
  vit__linear(r, y, r->fch_gelu, r->w.fc2_w, r->w.fc2_b, n, M, D);
  if (c->mlp_last_gelu) gelu(r->branch, y, n * D);
  if (r->dropout) vit__drop(r, r->branch, c->mlp_drop, VIT__SITE_MLP, D);
}

/* The same from the last step to the first: dresidual -> dnorm, the gradient by
   the rows x. */
static void vit__mlp_backward(const vit__view *r) {
  const vit_config *c = &r->m->config;
  const int n = r->rows, D = r->D, M = r->M;
  void (*gelu)(float *, const float *, const float *, int) =
      c->gelu == VIT_GELU_ERF    ? r->k->gelu_backward
      : c->gelu == VIT_GELU_TANH ? r->k->gelu_tanh_backward
                                 : r->k->gelu_quick_backward;
  vit__branch(r, VIT__SITE_PATH2, r->dfcproj, NULL, r->dresidual);
  if (r->dropout) vit__drop(r, r->dfcproj, c->mlp_drop, VIT__SITE_MLP, D);
  if (c->mlp_last_gelu) gelu(r->dfcproj, r->dfcproj, r->fcproj, n * D);
  r->k->linear_backward_input(r->dfch, r->dfcproj, r->w.fc2_w, n, M, D);
  if (r->dropout) vit__drop(r, r->dfch, c->hidden_drop, VIT__SITE_HIDDEN, M);
  gelu(r->dfch, r->dfch, r->fch, n * M);
  r->k->linear_backward_input(r->dnorm, r->dfch, r->w.fc1_w, n, D, M);
}

/* Layer norm 1 or 2 of a block backward, dx +=. Each part of the rows adds up a
   dw and db of its own, norm_sums [parts,2,2,D]: see vit__norm_gradients. */
static void vit__norm_backward(const vit__view *r, int part, int norm,
    float *dx, const float *dy, const float *x) {
  float *dw = r->norm_sums + (vit_idx)(2 * part + norm - 1) * 2 * r->D;
  r->k->layernorm_backward(dx, dw, dw + r->D, dy, x,
      norm == 1 ? r->w.norm1_w : r->w.norm2_w,
      norm == 1 ? r->norm1_mean : r->norm2_mean,
      norm == 1 ? r->norm1_rstd : r->norm2_rstd, r->rows, r->D);
}

/* The same for post-norm, where the norm lies in the residual path itself: dx,
   the gradient by the norm's output, becomes that by its input x. dnorm is
   scratch. */
static void vit__norm_replace(
    const vit__view *r, int part, int norm, float *dx, const float *x) {
  const size_t bytes = (size_t)r->rows * (size_t)r->D * sizeof *dx;
  memset(r->dnorm, 0, bytes);
  vit__norm_backward(r, part, norm, r->dnorm, dx, x);
  memcpy(dx, r->dnorm, bytes);
}

/* -- the block ----------------------------------------------------------- */

/* Block l of a view: its tensors, its activations, and its input, which is what
   the block before wrote. In inference x and out are one array from block 1 on:
   nothing may read x after out is written.

   b[VIT__BEFORE_HEADS] has all rows, b[VIT__AFTER_HEADS] those that go on: the
   same, or, where only the class token is read, one row an image, as if T were
   1. Then a row of image i is row i of its array, not row i T. In training the
   arrays of a block are its own, and image 0 is the batch's first; so a view
   that starts at row i T must go back to row i, by i (T - 1) rows. Elsewhere a
   view counts from its own first row, where no other thread is. */
static void vit__block_at(const vit__view *v, int l, vit__view b[2]) {
  const vit_config *c = &v->m->config;
  vit_idx back; /* by so many rows */
  VIT__NAMES(v);
  *b = *v;
  b->l = l;
  b->class_only = VIT__LAST && l == c->depth - 1;
  b->x = l ? v->out + (size_t)(l - 1) * s->out_stride : v->tokens;
#define VIT__MOVE(field, where, unit, exists, floats)                          \
  if (VIT__##where == VIT__BLOCK && b->field)                                  \
    b->field += (size_t)l * s->field##_stride;
  VIT_ACTIVATIONS(VIT__MOVE)
#undef VIT__MOVE
#define VIT__MOVE(field, name, where, exists, d0, d1, d2, d3, init, decay)     \
  if (VIT__##where == VIT__BLOCK && b->w.field)                                \
    b->w.field += (size_t)l * b->w.layer_stride;                               \
  if (VIT__##where == VIT__BLOCK && b->g.field)                                \
    b->g.field += (size_t)l * b->g.layer_stride;
  VIT_TENSORS(VIT__MOVE)
#undef VIT__MOVE
  b->stage = VIT__BEFORE_HEADS;
  b[1] = b[0];
  b[1].stage = VIT__AFTER_HEADS;
  if (!b->class_only) return;
  b[1].T = 1, b[1].row = v->row / v->T, b[1].rows = v->B;
  b[1].x = v->class_x;
  back = s->trains ? v->row - b[1].row : 0;
  if (s->trains) b->qkv -= v->row * I; /* rows of 2 I, not of 3 I */
#define VIT__MOVE(field, where, unit, exists, floats)                          \
  if (VIT__##unit == VIT__TOKEN && VIT__##where != VIT__MODEL && b[1].field)   \
    b[1].field -= back * (vit_idx)(floats);
  VIT_ACTIVATIONS(VIT__MOVE)
#undef VIT__MOVE
}

/* Part i of a block's rows: what there is one of for each token moves on. */
static vit__view vit__rows(const vit__view *b, int parts, int i) {
  vit__view r = *b;
  int first;
  VIT__NAMES(b);
  vit__part(b->B * b->T, parts, i, VIT__ROW_MULTIPLE, &first, &r.rows);
  r.row += first;
  r.x += (vit_idx)first * b->D;
  if (b->class_only) /* their rows have 2 I floats, not 3 I as below */
    r.qkv -= first * I, r.dqkv -= r.dqkv ? first * I : 0;
#define VIT__MOVE(field, where, unit, exists, floats)                          \
  if (VIT__##unit == VIT__TOKEN && r.field)                                    \
    r.field += (vit_idx)first * (vit_idx)(floats);
  VIT_ACTIVATIONS(VIT__MOVE)
#undef VIT__MOVE
  return r;
}

/* Pre-norm (ViT paper, eq. 2 and 3):
       residual2 = x + attention(norm1(x))
       out = residual2 + MLP(norm2(residual2))
   All but the heads works on each row alone, so a block is three steps: what
   stands before the heads (by rows), the heads, what stands after them (by
   rows). Dropout follows the projection, the MLP and `out`; drop path scales a
   branch. */
static void vit__pre_norm_forward(const void *block, int i) {
  const vit__view *b = (const vit__view *)block;
  const vit__view r = vit__rows(b, b->threads, i);
  const vit_tensors *w = &r.w;
  const vit_config *c = &r.m->config;
  if (r.rows == 0) return;
  if (r.stage == VIT__BEFORE_HEADS) {
    r.k->layernorm_forward(r.norm1, r.norm1_mean, r.norm1_rstd, r.x, w->norm1_w,
        w->norm1_b, r.rows, r.D, c->norm_eps);
    vit__qkv_forward(&r, r.norm1);
  } else {
    vit__linear(&r, r.branch, r.atty, w->proj_w, w->proj_b, r.rows, r.I, r.D);
    if (r.dropout) vit__drop(&r, r.branch, c->proj_drop, VIT__SITE_PROJ, r.D);
    vit__branch(&r, VIT__SITE_PATH1, r.residual2, r.x, r.branch);
    r.k->layernorm_forward(r.norm2, r.norm2_mean, r.norm2_rstd, r.residual2,
        w->norm2_w, w->norm2_b, r.rows, r.D, c->norm_eps);
    vit__mlp_forward(&r, r.norm2);
    vit__branch(&r, VIT__SITE_PATH2, r.out, r.residual2, r.branch);
    if (r.dropout) vit__drop(&r, r.out, c->block_drop, VIT__SITE_BLOCK, r.D);
  }
}

/* The same steps from the last to the first. dresidual is the gradient by the
   residual path (x, then residual2, then out): by `out` at first, by x at the
   end. A residual connection hands it on as it is, and adds what comes back
   through the branch. */
static void vit__pre_norm_backward(const void *block, int i) {
  const vit__view *b = (const vit__view *)block;
  const vit__view r = vit__rows(b, b->parts, i);
  const vit_config *c = &r.m->config;
  if (r.rows == 0) return;
  if (r.stage == VIT__AFTER_HEADS) {
    if (r.dropout)
      vit__drop(&r, r.dresidual, c->block_drop, VIT__SITE_BLOCK, r.D);
    vit__mlp_backward(&r);
    vit__norm_backward(&r, i, 2, r.dresidual, r.dnorm, r.residual2);
    vit__branch(&r, VIT__SITE_PATH1, r.dattproj, NULL, r.dresidual);
    if (r.dropout) vit__drop(&r, r.dattproj, c->proj_drop, VIT__SITE_PROJ, r.D);
    r.k->linear_backward_input(
        r.datty, r.dattproj, r.w.proj_w, r.rows, r.I, r.D);
  } else {
    vit__qkv_backward(&r);
    vit__norm_backward(&r, i, 1, r.dresidual, r.dnorm, r.x);
  }
}

/* Post-norm (Vaswani et al. 2017, section 3.1):
       norm1 = LayerNorm(residual2), residual2 = x + attention(x)
       out = LayerNorm(residual3), residual3 = norm1 + MLP(norm1) */
static void vit__post_norm_forward(const void *block, int i) {
  const vit__view *b = (const vit__view *)block;
  const vit__view r = vit__rows(b, b->threads, i);
  const vit_tensors *w = &r.w;
  const vit_config *c = &r.m->config;
  if (r.rows == 0) return;
  if (r.stage == VIT__BEFORE_HEADS) {
    vit__qkv_forward(&r, r.x);
  } else {
    vit__linear(&r, r.branch, r.atty, w->proj_w, w->proj_b, r.rows, r.I, r.D);
    if (r.dropout) vit__drop(&r, r.branch, c->proj_drop, VIT__SITE_PROJ, r.D);
    vit__branch(&r, VIT__SITE_PATH1, r.residual2, r.x, r.branch);
    r.k->layernorm_forward(r.norm1, r.norm1_mean, r.norm1_rstd, r.residual2,
        w->norm1_w, w->norm1_b, r.rows, r.D, c->norm_eps);
    vit__mlp_forward(&r, r.norm1);
    vit__branch(&r, VIT__SITE_PATH2, r.residual3, r.norm1, r.branch);
    r.k->layernorm_forward(r.out, r.norm2_mean, r.norm2_rstd, r.residual3,
        w->norm2_w, w->norm2_b, r.rows, r.D, c->norm_eps);
    if (r.dropout) vit__drop(&r, r.out, c->block_drop, VIT__SITE_BLOCK, r.D);
  }
}

/* The same steps from the last to the first. The norms lie in the residual
   path, so each replaces dx; what comes back through a branch is added to it.
   */
static void vit__post_norm_backward(const void *block, int i) {
  const vit__view *b = (const vit__view *)block;
  const vit__view r = vit__rows(b, b->parts, i);
  const vit_config *c = &r.m->config;
  float *dx = r.dresidual;
  if (r.rows == 0) return;
  if (r.stage == VIT__AFTER_HEADS) {
    if (r.dropout) vit__drop(&r, dx, c->block_drop, VIT__SITE_BLOCK, r.D);
    vit__norm_replace(&r, i, 2, dx, r.residual3);
    vit__mlp_backward(&r);
    r.k->residual_forward(dx, dx, r.dnorm, 1, r.rows * r.D);
    vit__norm_replace(&r, i, 1, dx, r.residual2);
    vit__branch(&r, VIT__SITE_PATH1, r.dattproj, NULL, r.dresidual);
    if (r.dropout) vit__drop(&r, r.dattproj, c->proj_drop, VIT__SITE_PROJ, r.D);
    r.k->linear_backward_input(
        r.datty, r.dattproj, r.w.proj_w, r.rows, r.I, r.D);
  } else {
    vit__qkv_backward(&r);
    r.k->residual_forward(dx, dx, r.dnorm, 1, r.rows * r.D);
  }
}

/* dw, db of a linear layer: part i of `parts` of its outputs. */
static void vit__weight_part(const vit__view *v, int i, int parts, float *dw,
    float *db, const float *dy, const float *x, int rows, int in, int out) {
  int first, n;
  vit__part(out, parts, i, VIT__ROW_MULTIPLE, &first, &n);
  if (n > 0)
    v->k->linear_backward_weight(dw + (vit_idx)first * in,
        db ? db + first : NULL, dy + first, x, rows, in, n, out);
}

/* Weights of the four linear layers: task i is part i / 4 of layer i % 4 (qkv,
   proj, fc1, fc2). Reads what the backward of the rows left. */
static void vit__block_weights(const void *block, int i) {
  const vit__view *b = (const vit__view *)block, *after = b + 1;
  const int rows = b->B * b->T, on = b->B * after->T, D = b->D, I = b->I;
  const int parts = b->threads, part = i / 4;
  const int post = b->m->config.norm == VIT_NORM_POST;
  const float *in1 = post ? b->x : b->norm1;
  const float *in2 = post ? after->norm1 : after->norm2;
  const vit_tensors *g = &b->g;
  if (i % 4 == 0 && b->class_only) {
    vit__weight_part(b, part, parts, g->qkv_w, g->qkv_b, b->dclass_q,
        b->class_in, b->B, D, I);
    vit__weight_part(b, part, parts, g->qkv_w + (vit_idx)I * D,
        g->qkv_b ? g->qkv_b + I : NULL, b->dqkv, in1, rows, D, 2 * I);
  } else if (i % 4 == 0)
    vit__weight_part(
        b, part, parts, g->qkv_w, g->qkv_b, b->dqkv, in1, rows, D, 3 * I);
  else if (i % 4 == 1)
    vit__weight_part(b, part, parts, g->proj_w, g->proj_b, after->dattproj,
        after->atty, on, I, D);
  else if (i % 4 == 2)
    vit__weight_part(
        b, part, parts, g->fc1_w, g->fc1_b, after->dfch, in2, on, D, b->M);
  else
    vit__weight_part(b, part, parts, g->fc2_w, g->fc2_b, after->dfcproj,
        after->fch_gelu, on, b->M, D);
}

/* Add up what the parts have of norm 1 or 2, in their order: the same bits with
   any number of threads. */
static void vit__norm_gradients(
    const vit__view *v, int norm, float *dw, float *db) {
  const vit_idx D = v->D;
  for (vit_idx part = 0; part < v->parts; part++) {
    const float *from = v->norm_sums + (2 * part + norm - 1) * 2 * D;
    for (vit_idx d = 0; d < D; d++) {
      dw[d] += from[d];
      db[d] += from[D + d];
    }
  }
}

/* -- the last block, where the class token is pooled --------------------- */

/* Nobody reads what it makes of the patches. So it needs K and V of all tokens,
   qkv [B*T,2,H,Dh], but only the class token's query, class_q [B,I], and from
   the heads on only its row. That is so little work that one thread does it.
   `b` is the pair of vit__block_at. With VIT_KEEP_ATTENTION the rows of all
   tokens are made as well, to be looked at; one by one, since Q and K have
   different strides there. */
static void vit__class_forward(const vit__view *b) {
  const int T = b->T, D = b->D, Dh = b->Dh, I = b->I;
  const size_t bytes = (size_t)D * sizeof(float);
  const float *in = b->m->config.norm == VIT_NORM_POST ? b->x : b->norm1;
  const float *mask = b->m->mask;
  const int drops = b->dropout && b->m->config.attn_drop > 0;
  for (vit_idx image = 0; image < b->B; image++) {
    memcpy(b->class_x + image * D, b->x + image * T * D, bytes);
    memcpy(b->class_in + image * D, in + image * T * D, bytes);
  }
  vit__linear_some(
      b, b->class_q, b->class_in, b->w.qkv_w, b->w.qkv_b, b->B, D, 3 * I, 0, I);
  for (vit_idx head = 0; head < (vit_idx)b->B * b->H; head++) {
    const vit_idx image = head / b->H, column = head % b->H * Dh;
    const vit_idx at = head * T * T; /* as in the other blocks */
    const float *k = b->qkv + image * T * 2 * I + column;
    float *p = b->class_attn + head * T, *used = drops ? b->attn_used + at : p;
    b->k->attention_scores_forward(
        p, b->class_q + image * I + column, k, mask, 1, T, Dh, 2 * I);
    if (drops) vit__drop_attn(b, used, p, T, at);
    b->k->attention_values_forward(
        b[VIT__AFTER_HEADS].atty + image * I + column, used, k + I, 1, T, Dh,
        2 * I, I);
    for (vit_idx t = 0; b->s->keep_attn && t < T; t++)
      b->k->attention_scores_forward(b->attn + at + t * T,
          b->all_q + (image * T + t) * I + column, k,
          mask ? mask + t * T : NULL, 1, T, Dh, 2 * I);
  }
}

/* The same backward: datty -> dclass_q and dqkv. Then dresidual, so far one row
   an image, gets its other rows: only class tokens have a residual path here,
   the others 0. dclass_x is a copy of it for a moment; what stays there is the
   gradient that the class tokens get through their queries. */
static void vit__class_backward(const vit__view *b) {
  const int T = b->T, D = b->D, Dh = b->Dh, I = b->I;
  const size_t bytes = (size_t)D * sizeof(float);
  const int drops = b->dropout && b->m->config.attn_drop > 0;
  for (vit_idx head = 0; head < (vit_idx)b->B * b->H; head++) {
    const vit_idx image = head / b->H, column = head % b->H * Dh;
    const vit_idx key = image * T * 2 * I + column, at = head * T * T;
    const vit_idx query = image * I + column;
    const float *p = b->class_attn + head * T, *k = b->qkv + key;
    float *dk = b->dqkv + key, *dp = b->dattn + at;
    b->k->attention_values_backward(dp, dk + I,
        b[VIT__AFTER_HEADS].datty + query, drops ? b->attn_used + at : p, k + I,
        1, T, Dh, 2 * I, I);
    if (drops) vit__drop_attn(b, dp, dp, T, at);
    if (b->dattn_kept) { /* no other row reaches the logits: 0 */
      memset(b->dattn_kept + at, 0, (size_t)T * (size_t)T * sizeof *dp);
      memcpy(b->dattn_kept + at, dp, (size_t)T * sizeof *dp);
    }
    b->k->attention_scores_backward(
        b->dclass_q + query, dk, dp, p, b->class_q + query, k, 1, T, Dh, 2 * I);
  }
  memcpy(b->dclass_x, b->dresidual, (size_t)b->B * bytes);
  memset(b->dresidual, 0, (size_t)b->rows * bytes);
  for (vit_idx image = 0; image < b->B; image++)
    memcpy(b->dresidual + image * T * D, b->dclass_x + image * D, bytes);
  b->k->linear_backward_input(b->dclass_x, b->dclass_q, b->w.qkv_w, b->B, D, I);
}

/* ------------------------------------------------------------------------ */
/*  >>06 model                                                              */
/* ------------------------------------------------------------------------ */

/* mean pooling: y [D] = average of the rows of x [N,D] */
static void vit_naive_mean_forward(float *y, const float *x, int N, int D) {
  for (vit_idx d = 0; d < D; d++) {
    double sum = 0;
    for (vit_idx i = 0; i < N; i++) sum += (double)x[i * D + d];
    y[d] = (float)(sum / N);
  }
}

/* dx [N,D]: every row is dy / N */
static void vit_naive_mean_backward(float *dx, const float *dy, int N, int D) {
  for (vit_idx i = 0; i < N; i++)
    for (vit_idx d = 0; d < D; d++) dx[i * D + d] = dy[d] / (float)N;
}

#ifdef VIT__HAS_SIMD
VIT__SIMD void vit_simd_mean_forward(float *y, const float *x, int N, int D) {
  for (vit_idx d = 0; d < D; d += VIT_LANES) {
    vit_vec sum = vit_set(0);
    for (vit_idx i = 0; i < N; i++)
      sum = vit_add(sum, vit_load_n(x + i * D + d, D - d));
    vit_store_n(y + d, vit_div(sum, vit_set((float)N)), D - d);
  }
}

VIT__SIMD void vit_simd_mean_backward(
    float *dx, const float *dy, int N, int D) {
  for (vit_idx i = 0; i < N; i++)
    for (vit_idx d = 0; d < D; d += VIT_LANES) {
      vit_vec g = vit_div(vit_load_n(dy + d, D - d), vit_set((float)N));
      vit_store_n(dx + i * D + d, g, D - d);
    }
}
#endif

/* -- config -------------------------------------------------------------- */

VIT_DEF vit_config vit_config_tutorial(void) {
#define VIT__VALUE(type, name, value, range, shapes, text) c.name = value;
  vit_config c;
  VIT_CONFIG_FIELDS(VIT__VALUE)
#undef VIT__VALUE
  return c;
}

/* The ViT paper's model in timm's form: square images and patches, an MLP of
   mlp_width (0: four times as wide), learned positions, a final norm. */
static vit_config vit__family(int image, int patch, int channels, int classes,
    int width, int depth, int heads, int mlp_width) {
  vit_config c = vit_config_tutorial();
  c.image_height = c.image_width = image;
  c.patch_height = c.patch_width = patch;
  c.channels = channels, c.classes = classes;
  c.width = width, c.depth = depth, c.heads = heads, c.mlp_width = mlp_width;
  c.positions = VIT_POSITIONS_LEARNED, c.init = VIT_INIT_VIT;
  c.final_norm = 1, c.norm_eps = 1e-6f;
  c.softmax_before_loss = 0;
  return c;
}

VIT_DEF vit_config vit_config_ti16(void) {
  return vit__family(224, 16, 3, 1000, 192, 12, 3, 0);
}
VIT_DEF vit_config vit_config_s16(void) {
  return vit__family(224, 16, 3, 1000, 384, 12, 6, 0);
}
VIT_DEF vit_config vit_config_b16(void) {
  return vit__family(224, 16, 3, 1000, 768, 12, 12, 0);
}
VIT_DEF vit_config vit_config_l16(void) {
  return vit__family(224, 16, 3, 1000, 1024, 24, 16, 0);
}
VIT_DEF vit_config vit_config_mnist(void) {
  return vit__family(28, 4, 1, 10, 64, 6, 4, 128);
}

VIT_DEF vit_config vit_config_cifar_mean(void) {
  vit_config c = vit__family(32, 4, 3, 10, 64, 6, 4, 128);
  c.head_dim = 64; /* Keras' key_dim: the heads are wider than width / heads */
  c.class_token = 0, c.pool = VIT_POOL_MEAN;
  c.mlp_last_gelu = c.zero_head = 1;
  c.pos_drop = 0.2f;
  c.attn_drop = c.hidden_drop = c.mlp_drop = 0.1f;
  c.init = VIT_INIT_GLOROT;
  return c;
}

VIT_DEF vit_config vit_config_cifar_cls(void) {
  vit_config c = vit__family(32, 4, 3, 10, 48, 4, 4, 192);
  c.final_norm = 0;
  c.norm_eps = 1e-5f;
  c.gelu = VIT_GELU_TANH;
  return c;
}

VIT_DEF vit_config vit_config_local(void) {
  vit_config c = vit_config_b16();
  c.local_mask = 3;
  c.norm_eps = 1e-12f;
  c.pos_drop = c.attn_drop = c.proj_drop = c.mlp_drop = 0.1f;
  c.block_drop = c.drop_path = 0.1f;
  return c;
}

VIT_DEF vit_config vit_config_post_norm(void) {
  vit_config c = vit_config_b16();
  c.heads = 8;
  c.class_token = 0, c.pool = VIT_POOL_MEAN;
  c.positions = VIT_POSITIONS_SINUSOID;
  c.norm = VIT_NORM_POST, c.norm_eps = 1e-5f;
  c.final_norm = c.qkv_bias = 0;
  c.softmax_before_loss = 1;
  c.init = VIT_INIT_TORCH;
  return c;
}

VIT_DEF const vit_preset *vit_preset_at(int i) {
  static const vit_preset presets[] = {{"tutorial", vit_config_tutorial},
      {"mnist", vit_config_mnist}, {"cifar_mean", vit_config_cifar_mean},
      {"cifar_cls", vit_config_cifar_cls}, {"local", vit_config_local},
      {"post_norm", vit_config_post_norm}, {"ti16", vit_config_ti16},
      {"s16", vit_config_s16}, {"b16", vit_config_b16},
      {"l16", vit_config_l16}};
  return i >= 0 && i < VIT__COUNT(presets) ? presets + i : NULL;
}

VIT_DEF int vit_config_field(const vit_config *c, int i, const char **name,
    const char **text, double *value) {
  int n = 0;
#define VIT__READ(type, field, start, range, shapes, about)                    \
  if (n++ == i) {                                                              \
    *name = #field;                                                            \
    *text = about;                                                             \
    *value = (double)c->field;                                                 \
    return 1;                                                                  \
  }
  VIT_CONFIG_FIELDS(VIT__READ)
#undef VIT__READ
  return 0;
}

/* Files and settings have a point in their numbers. */
static vit_result vit__check_point(void) {
  const char *point = localeconv()->decimal_point;
  if (!strcmp(point, ".")) return VIT_OK;
  return vit__fail(VIT_ERR_CONFIG,
      "this program's locale writes numbers with \"%.8s\" instead of a point; "
      "call setlocale(LC_NUMERIC, \"C\") first",
      point);
}

/* Fields that had another name in files of before. */
static const char *const vit__renamed[][2] = {
    {"head", "softmax_before_loss"}, {"layer_drop", "block_drop"}};

/* The number in a text, for a field that may want a whole one. */
static vit_result vit__parse_field(
    const char *name, const char *text, int whole, double *number) {
  char *end;
  *number = strtod(text, &end);
  if (end == text || *end || !(fabs(*number) < 1e9))
    return vit__fail(VIT_ERR_CONFIG,
        "config field %.40s needs a number, not \"%.40s\"%s", name, text,
        end == text || *end || *number != *number ? ""
                                                  : ", which is too large");
  if (whole && *number != floor(*number))
    return vit__fail(VIT_ERR_CONFIG,
        "config field %.40s needs a whole number, not \"%.40s\"", name, text);
  return VIT_OK;
}

VIT_DEF vit_result vit_config_set(
    vit_config *c, const char *name, const char *value) {
  double number;
  if (vit__check_point()) return VIT_ERR_CONFIG;
  for (int i = 0; i < VIT__COUNT(vit__renamed); i++)
    if (!strcmp(name, vit__renamed[i][0])) name = vit__renamed[i][1];
#define VIT__WRITE(type, field, start, range, shapes, about)                   \
  if (!strcmp(name, #field)) {                                                 \
    const int whole = (double)(type)0.5f == 0; /* all but float */             \
    if (vit__parse_field(name, value, whole, &number)) return VIT_ERR_CONFIG;  \
    c->field = whole ? (type)(int)number : (type)number;                       \
    return VIT_OK;                                                             \
  }
  VIT_CONFIG_FIELDS(VIT__WRITE)
#undef VIT__WRITE
#define VIT__LIST(type, field, start, range, shapes, about) " " #field
  return vit__fail(VIT_ERR_CONFIG,
      "the config has no field \"%.40s\"; it has" VIT_CONFIG_FIELDS(VIT__LIST),
      name);
#undef VIT__LIST
}

VIT_DEF int vit_config_patches(const vit_config *c) {
  if (c->patch_height < 1 || c->patch_width < 1) return 0;
  return (c->image_height / c->patch_height) *
         (c->image_width / c->patch_width);
}

/* E: tokens without a position, which stand behind the patches. */
static int vit__extras(const vit_config *c) {
  return c->dist_token + c->reg_tokens;
}

VIT_DEF int vit_config_tokens(const vit_config *c) {
  return vit_config_patches(c) + (c->class_token ? 1 : 0) + vit__extras(c);
}

/* A size is a whole number from 1 to this. */
enum { VIT__MOST = 1 << 20 };

static vit_result vit__check_int(const char *what, double floats) {
  if (floats <= (double)INT_MAX) return VIT_OK;
  return vit__fail(VIT_ERR_OVERFLOW,
      "%s would hold %.0f numbers; the most is %d: make the batch, the image "
      "or the model smaller",
      what, floats, INT_MAX);
}

/* Is a field in its range? */
static vit_result vit__check_field(const char *name, double v, int range) {
  const double low = range == VIT_SIZE;
  const double high = range >= 0 ? range : range == VIT_SIZE ? VIT__MOST : 1;
  int good = VIT__IS_WITHIN(v, low, high);
  const char *must = NULL;
  if (range == VIT_RATE) must = "a dropout rate must be from 0 to 1";
  if (range == VIT_EPSILON) {
    good = v > 0 && v < 1;
    must = "it must be above 0 and below 1";
  }
  if (range == VIT_ODD) {
    good = v == 0 || (VIT__IS_WITHIN(v, 1, VIT__MOST) && fmod(v, 2) == 1);
    must = "it must be an odd number (or 0 for no mask), so that each patch is "
           "the centre of its window";
  }
  if (good) return VIT_OK;
  if (must) return vit__fail(VIT_ERR_CONFIG, "%s is %g; %s", name, v, must);
  return vit__fail(VIT_ERR_CONFIG, "%s is %.0f; it must be from %.0f to %.0f",
      name, v, low, high);
}

/* Fields that are each in their range, together. */
static vit_result vit__check_together(const vit_config *c) {
  if (c->image_height % c->patch_height)
    return vit__fail(VIT_ERR_CONFIG,
        "image height %d is not a multiple of patch height %d", c->image_height,
        c->patch_height);
  if (c->image_width % c->patch_width)
    return vit__fail(VIT_ERR_CONFIG,
        "image width %d is not a multiple of patch width %d", c->image_width,
        c->patch_width);
  if (c->pool == VIT_POOL_CLS && !c->class_token)
    return vit__fail(VIT_ERR_CONFIG,
        "pool is the class token, but class_token is 0; use mean pooling");
  if (c->dist_token && (c->pool != VIT_POOL_CLS || c->fc_norm))
    return vit__fail(VIT_ERR_CONFIG,
        "the head of dist_token stands beside one that reads the class token: "
        "dist_token needs pool 0 and fc_norm 0; they are %d and %d",
        (int)c->pool, c->fc_norm);
  if (c->local_mask && vit__extras(c))
    return vit__fail(VIT_ERR_CONFIG,
        "local_mask is %d, but knows patches and the class token alone; "
        "set it, or dist_token (%d) and reg_tokens (%d), to 0",
        c->local_mask, c->dist_token, c->reg_tokens);
  if (c->positions == VIT_POSITIONS_SINCOS2D && c->width % 4)
    return vit__fail(VIT_ERR_CONFIG,
        "2-D sin-cos positions need a width that is a multiple of 4; width is "
        "%d",
        c->width);
  return vit__check_int(
      "an image", (double)c->image_height * c->image_width * c->channels);
}

static double vit__count_numbers(const vit_config *c);

VIT_DEF vit_result vit_config_resolve(vit_config *c) {
  vit_result r = VIT_OK;
  if (c->head_dim == 0 && c->heads > 0 && c->width > 0) {
    if (c->width % c->heads)
      return vit__fail(VIT_ERR_CONFIG,
          "width %d is not a multiple of heads %d; set head_dim to choose the "
          "width of a head yourself",
          c->width, c->heads);
    c->head_dim = c->width / c->heads;
  }
  if (c->mlp_width == 0 && c->width > 0 && c->width <= VIT__MOST)
    c->mlp_width = 4 * c->width;
#define VIT__CHECK(type, field, start, range, shapes, about)                   \
  if (!r) r = vit__check_field(#field, (double)c->field, range);
  VIT_CONFIG_FIELDS(VIT__CHECK)
#undef VIT__CHECK
  if (!r) r = vit__check_together(c);
  if (!r) r = vit__check_int("the model", vit__count_numbers(c));
  return r;
}

/* -- the tensor table ---------------------------------------------------- */

enum { /* initialisers of the table */
  VIT__INIT_ZERO,
  VIT__INIT_ONE,
  VIT__INIT_TOKEN,
  VIT__INIT_POSITION,
  VIT__INIT_WEIGHT,
  VIT__INIT_BIAS,
  VIT__INIT_HEAD,
  VIT__INIT_HEAD_BIAS
};

/* The alphabet of sizes, as doubles: their products are exact up to 2^53, and
   a larger one is seen as too large instead of wrapping round. */
typedef struct {
  double B, N, T, D, H, I, M, K, L, P, C, PH, PW, Q, R, E;
} vit__sizes;

static vit__sizes vit__sizes_of(const vit_config *c, int batch) {
  vit__sizes z;
  int tokens, most, parts;
  z.B = batch;
  z.N = (double)(c->image_height / c->patch_height) *
        (double)(c->image_width / c->patch_width);
  z.R = c->reg_tokens, z.E = vit__extras(c);
  z.T = z.N + c->class_token + z.E;
  z.D = c->width, z.M = c->mlp_width, z.K = c->classes, z.L = c->depth;
  z.H = c->heads, z.I = (double)c->heads * c->head_dim;
  z.C = c->channels, z.PH = c->patch_height, z.PW = c->patch_width;
  z.P = z.C * z.PH * z.PW;
  /* Queries of a head at a time: few enough that their probabilities stay in
     the cache between the softmax and the values, and in equal parts. */
  tokens = (int)VIT__MIN(z.T, (double)VIT__MOST);
  most = VIT__MIN(VIT__QUERIES_AT_ONCE, 1 + VIT__PROBS_AT_ONCE / tokens);
  parts = VIT__ROW_MULTIPLE * ((tokens + most - 1) / most); /* their rows */
  z.Q = VIT__MIN(tokens, (tokens + parts - 1) / parts * VIT__ROW_MULTIPLE);
  return z;
}

/* Name the sizes as the tables do. */
#define VIT__SIZES(z)                                                          \
  const double B = (z).B, N = (z).N, T = (z).T, D = (z).D, H = (z).H,          \
               I = (z).I, M = (z).M, K = (z).K, P = (z).P, C = (z).C,          \
               PH = (z).PH, PW = (z).PW, Q = (z).Q, R = (z).R, E = (z).E;      \
  (void)B, (void)N, (void)T, (void)D, (void)H, (void)I, (void)M, (void)K;      \
  (void)P, (void)C, (void)PH, (void)PW, (void)Q, (void)R, (void)E

/* A row of the table with its sizes worked out; VIT__ROWS of them. */
typedef struct {
  const char *name;
  int where, init, decay;
  double d[4], count; /* count 0: the tensor does not exist */
  double floats;      /* that it takes in the block */
} vit__row;
#define VIT__ONE(field, name, where, exists, d0, d1, d2, d3, init, decay) +1
enum { VIT__ROWS = 0 VIT_TENSORS(VIT__ONE) };
#undef VIT__ONE

static int vit__is_matrix(const vit__row *r) {
  return r->init == VIT__INIT_WEIGHT || r->init == VIT__INIT_HEAD;
}

static void vit__table(
    const vit_config *c, int quantized, vit__row rows[VIT__ROWS]) {
  vit__row *r = rows;
  const double panel = VIT__PANEL; /* see vit__int8_floats */
  VIT__SIZES(vit__sizes_of(c, 1));
#define VIT__FILL(field, text, place, exists, d0, d1, d2, d3, start, decays)   \
  r->name = text, r->where = VIT__##place;                                     \
  r->init = VIT__INIT_##start, r->decay = decays;                              \
  r->d[0] = d0, r->d[1] = d1, r->d[2] = d2, r->d[3] = d3;                      \
  r->count = exists ? 1 : 0;                                                   \
  for (int i = 0; i < 4; i++) r->count *= r->d[i] > 0 ? r->d[i] : 1;           \
  r->floats = r->count;                                                        \
  if (quantized && vit__is_matrix(r))                                          \
    r->floats = ceil(r->d[0] / panel) * panel *                                \
                (2 + 4 * ceil(r->count / r->d[0] / 16));                       \
  r++;
  VIT_TENSORS(VIT__FILL)
#undef VIT__FILL
}

static double vit__count_numbers(const vit_config *c) {
  vit__row rows[VIT__ROWS];
  double total = 0;
  vit__table(c, 0, rows);
  for (const vit__row *r = rows; r < rows + VIT__ROWS; r++)
    total += r->count * (r->where == VIT__BLOCK ? c->depth : 1);
  return total;
}

static void vit__describe(
    vit_tensor *t, const vit__row *r, int l, double offset) {
  memset(t, 0, sizeof *t);
  if (r->where == VIT__BLOCK)
    snprintf(t->name, sizeof t->name, "blocks.%d.%s", l, r->name);
  else snprintf(t->name, sizeof t->name, "%s", r->name);
  for (; t->dims < 4 && r->d[t->dims] > 0; t->dims++)
    t->shape[t->dims] = (int)r->d[t->dims];
  t->offset = (size_t)offset;
  t->count = (size_t)r->count;
  t->layer = r->where == VIT__BLOCK ? l : -1;
  t->init = r->init;
  t->decay = r->decay;
  t->is_matrix = vit__is_matrix(r);
}

static int vit__tensor_at(
    const vit_config *config, int quantized, int i, vit_tensor *t) {
  vit_config c = *config;
  vit__row rows[VIT__ROWS];
  double offset = 0;
  if (i < 0 || vit_config_resolve(&c)) return 0;
  vit__table(&c, quantized, rows);
  for (int part = VIT__STEM; part <= VIT__TAIL; part++)
    for (int l = 0; l < (part == VIT__BLOCK ? c.depth : 1); l++)
      for (const vit__row *r = rows; r < rows + VIT__ROWS; r++) {
        if (r->where != part || r->count == 0) continue;
        if (i-- == 0) {
          vit__describe(t, r, l, offset);
          return 1;
        }
        offset += r->floats;
      }
  return 0;
}

VIT_DEF int vit_tensor_at(const vit_config *c, int i, vit_tensor *t) {
  return vit__tensor_at(c, 0, i, t);
}

VIT_DEF vit_result vit_tensor_find(
    const vit_config *config, const char *name, vit_tensor *t) {
  vit_config c = *config;
  vit_result r = vit_config_resolve(&c);
  if (r) return r;
  for (int i = 0; vit_tensor_at(&c, i, t); i++)
    if (!strcmp(t->name, name)) return VIT_OK;
  return vit__fail(VIT_ERR_CONFIG, "this model has no tensor \"%.60s\"", name);
}

VIT_DEF size_t vit_parameter_count(const vit_config *config) {
  vit_config c = *config;
  return vit_config_resolve(&c) ? 0 : (size_t)vit__count_numbers(&c);
}

/* Take one block of floats for all tensors and point the fields into it. */
static void vit__take_tensors(
    vit_tensors *t, const vit_config *c, int quantized, vit_arena *a) {
  vit__row rows[VIT__ROWS];
  double total = 0, layer = 0, offset = 0;
  int n = 0;
  vit__table(c, quantized, rows);
  for (int i = 0; i < VIT__ROWS; i++) {
    if (rows[i].where == VIT__BLOCK) layer += rows[i].floats;
    total += rows[i].floats * (rows[i].where == VIT__BLOCK ? c->depth : 1);
  }
  if (total > VIT__MOST_FLOATS) a->overflow = 1, total = 0;
  t->count = (size_t)total;
  t->block = (float *)vit_arena_take(a, t->count, sizeof(float));
  t->layer_stride = total > 0 ? (size_t)layer : 0;
#define VIT__POINT(field, text, place, exists, d0, d1, d2, d3, init, decay)    \
  if (VIT__##place == VIT__TAIL && rows[n - 1].where == VIT__BLOCK)            \
    offset += layer * (c->depth - 1); /* jump over the other blocks */         \
  t->field = t->block && rows[n].count > 0 ? t->block + (size_t)offset : NULL; \
  offset += rows[n++].floats;
  VIT_TENSORS(VIT__POINT)
#undef VIT__POINT
}

VIT_DEF vit_tensors vit_layer(const vit_tensors *t, int l) {
  vit_tensors out = *t;
  size_t skip = (size_t)l * t->layer_stride;
#define VIT__SHIFT(field, name, where, exists, d0, d1, d2, d3, init, decay)    \
  if (VIT__##where == VIT__BLOCK && out.field) out.field += skip;
  VIT_TENSORS(VIT__SHIFT)
#undef VIT__SHIFT
  return out;
}

/* The same layout in another block. */
static vit_tensors vit__tensors_at(const vit_tensors *t, float *block) {
  vit_tensors out = *t;
#define VIT__MOVE(field, name, where, exists, d0, d1, d2, d3, init, decay)     \
  if (out.field) out.field = block + (out.field - t->block);
  VIT_TENSORS(VIT__MOVE)
#undef VIT__MOVE
  out.block = block;
  return out;
}

/* -- initial values ------------------------------------------------------ */

static void vit__fill_normal(float *w, size_t n, float std, vit_rng *rng) {
  for (size_t i = 0; i < n; i++) w[i] = std * vit_random_normal(rng);
}

static void vit__fill_uniform(float *w, size_t n, float limit, vit_rng *rng) {
  for (size_t i = 0; i < n; i++)
    w[i] = limit * (2 * vit_random_uniform(rng) - 1);
}

/* Fill tensor t. in, out: inputs and outputs of its layer, read from `weight`,
   the last one seen, since a bias follows its weight. Patches count as a
   Conv2d: out is D * PH * PW. Class token and positions: normal, 0.02, with
   TORCH 1. */
static void vit__fill_tensor(float *w, const vit_tensor *t,
    const vit_tensor *weight, const vit_config *c, vit_rng *rng) {
  int is_bias = t->init == VIT__INIT_BIAS || t->init == VIT__INIT_HEAD_BIAS;
  int is_head = t->init == VIT__INIT_HEAD || t->init == VIT__INIT_HEAD_BIAS;
  float in = 1, out;
  for (int i = 1; i < weight->dims; i++) in *= (float)weight->shape[i];
  out = in > 0 ? (float)weight->shape[0] : 1;
  if (weight->dims == 4) out *= (float)(weight->shape[2] * weight->shape[3]);
  if (strstr(t->name, "qkv")) out /= 3; /* three layers in one */
  if (t->init == VIT__INIT_ZERO || (is_head && c->zero_head)) return;
  if (t->init == VIT__INIT_ONE) {
    for (size_t i = 0; i < t->count; i++) w[i] = 1;
  } else if (t->init == VIT__INIT_TOKEN || t->init == VIT__INIT_POSITION) {
    vit__fill_normal(
        w, t->count, c->init == VIT_INIT_TORCH ? 1.0f : 0.02f, rng);
  } else if (c->init == VIT_INIT_TORCH) {
    vit__fill_uniform(w, t->count, 1 / sqrtf(in), rng);
  } else if (is_bias) {
    return;
  } else if (c->init == VIT_INIT_GLOROT) {
    vit__fill_uniform(w, t->count, sqrtf(6 / (in + out)), rng);
  } else {
    vit__fill_normal(w, t->count, 0.02f, rng);
  }
}

/* Tensor i draws from stream i, so its values do not depend on others. */
static void vit__initialise(vit_model *m, uint64_t seed) {
  vit_tensor t, weight;
  memset(&weight, 0, sizeof weight);
  for (int i = 0; vit_tensor_at(&m->config, i, &t); i++) {
    vit_rng rng = vit_rng_create(seed, (uint32_t)i);
    if (t.dims >= 2) weight = t;
    vit__fill_tensor(m->params.block + t.offset, &t, &weight, &m->config, &rng);
  }
}

/* -- memory plans -------------------------------------------------------- */

static void vit__plan_model(vit_model *m, vit_arena *a) {
  const vit_config *c = &m->config;
  double T = vit__sizes_of(c, 1).T;
  if (T * T > VIT__MOST_FLOATS || T * c->width > VIT__MOST_FLOATS)
    a->overflow = 1, T = 0;
  vit__take_tensors(&m->params, c, m->quantized, a);
  m->fixed_pos = m->mask = NULL;
  if (c->positions == VIT_POSITIONS_SINUSOID ||
      c->positions == VIT_POSITIONS_SINCOS2D)
    m->fixed_pos =
        (float *)vit_arena_take(a, (size_t)(T * c->width), sizeof(float));
  if (c->local_mask)
    m->mask = (float *)vit_arena_take(a, (size_t)(T * T), sizeof(float));
}

static vit_result vit__plan_state(
    vit_state *s, const vit_config *c, vit_arena *a) {
  const int grad = s->trains, batch = s->capacity;
  VIT__SIZES(vit__sizes_of(c, batch));
  const double count[] = {1, B, B * N, B * T, B * H}; /* VIT__ALL, ... */
  s->queries = (int)Q;
#define VIT__PLAN(field, where, unit, exists, floats)                          \
  {                                                                            \
    const int each = VIT__##where == VIT__BLOCK &&                             \
                     (grad || (s->keep_attn && VIT__##unit == VIT__HEAD));     \
    const int kept = (exists) && (!s->probe || VIT__##unit <= VIT__IMAGE);     \
    double size = kept ? count[VIT__##unit] * (double)(floats) : 0;            \
    if (size > (double)INT_MAX)                                                \
      return vit__check_int("activation " #field, size);                       \
    s->field##_stride = each ? (size_t)size : 0;                               \
    size *= each ? (double)c->depth : 1;                                       \
    if (size > VIT__MOST_FLOATS) a->overflow = 1, size = 0;                    \
    s->field = (float *)vit_arena_take(a, (size_t)size, sizeof(float));        \
  }
  VIT_ACTIVATIONS(VIT__PLAN)
#undef VIT__PLAN
  s->losses = (double *)vit_arena_take(a, (size_t)batch, sizeof(double));
  if (grad) vit__take_tensors(&s->grads, c, 0, a);
  if (grad && s->grads.count <= VIT__SMALL)
    s->part_grads =
        (float *)vit_arena_take(a, VIT__PARTS * s->grads.count, sizeof(float));
  return VIT_OK;
}

static vit_result vit__check_batch(int batch) {
  if (batch >= 1 && batch <= VIT__MOST) return VIT_OK;
  return vit__fail(
      VIT_ERR_CONFIG, "batch is %d; it must be from 1 to %d", batch, VIT__MOST);
}

VIT_DEF vit_result vit_memory_plan(
    const vit_config *config, int batch, vit_memory *out) {
  vit_arena a[4], q; /* parameters, model, states without and with backward */
  vit_model m;
  vit_state s;
  vit_result r;
  memset(out, 0, sizeof *out);
  memset(a, 0, sizeof a);
  memset(&q, 0, sizeof q);
  m.config = *config, m.quantized = 0;
  r = vit_config_resolve(&m.config);
  if (!r) r = vit__check_batch(batch);
  if (!r) vit__take_tensors(&m.params, &m.config, 0, &a[0]);
  if (!r) vit__take_tensors(&m.params, &m.config, 1, &q);
  if (!r) vit__plan_model(&m, &a[1]);
  for (int trains = 0; !r && trains < 2; trains++) {
    memset(&s, 0, sizeof s);
    s.capacity = batch;
    s.trains = trains;
    r = vit__plan_state(&s, &m.config, &a[2 + trains]);
  }
  if (!r && (a[1].overflow || a[2].overflow || a[3].overflow))
    r = vit__fail(VIT_ERR_OVERFLOW,
        "this model needs more bytes than a size_t can count; make it smaller");
  if (r) return r;
  out->parameters = out->gradients = a[0].used;
  out->moments = 2 * a[0].used, out->quantized = q.used;
  out->constants = a[1].used - a[0].used;
  out->inference = a[2].used, out->training = a[3].used - a[0].used;
  return VIT_OK;
}

/* Of a quantized model: sums over the inputs of a layer must fit in 32 bits. */
static vit_result vit__check_inputs(const vit_config *c) {
  const vit__sizes z = vit__sizes_of(c, 1);
  const double most = fmax(fmax(z.P, z.D), fmax(z.I, z.M));
  if (most <= +VIT__INT8_MOST) return VIT_OK;
  return vit__fail(VIT_ERR_CONFIG,
      "a linear layer of this model has %.0f inputs; quantized they may be at "
      "most %d, or their sums would not fit in 32 bits",
      most, VIT__INT8_MOST);
}

/* Memory of a model, filled with what is constant. */
static vit_result vit__allocate_model(
    vit_model *m, const vit_config *config, int quantized) {
  vit_config c = *config;
  vit_result r = vit_config_resolve(&c);
  int rows, cols; /* of patches */
  memset(m, 0, sizeof *m);
  if (!r && quantized) r = vit__check_inputs(&c);
  if (r) return r;
  m->config = c, m->quantized = quantized;
  m->kernels = vit_best_kernels();
  vit__plan_model(m, &m->arena);
  r = vit_arena_allocate(&m->arena, "model");
  if (r) memset(m, 0, sizeof *m);
  if (r) return r;
  vit__plan_model(m, &m->arena);
  rows = c.image_height / c.patch_height, cols = c.image_width / c.patch_width;
  if (c.positions == VIT_POSITIONS_SINUSOID)
    vit_positions_sinusoid(
        m->fixed_pos, vit_config_tokens(&c) - vit__extras(&c), c.width);
  if (c.positions == VIT_POSITIONS_SINCOS2D)
    vit_positions_sincos2d(m->fixed_pos, rows, cols, c.width, c.class_token);
  if (m->mask) vit_local_mask(m->mask, rows, cols, c.local_mask, c.class_token);
  return VIT_OK;
}

VIT_DEF vit_result vit_model_create(
    vit_model *m, const vit_config *config, uint64_t seed) {
  const vit_result r = vit__allocate_model(m, config, 0);
  if (!r) vit__initialise(m, seed);
  return r;
}

VIT_DEF void vit_model_free(vit_model *m) {
  vit_arena_free(&m->arena);
  memset(m, 0, sizeof *m);
}

/* Is there a model, and a kernel in every place of its table? */
static vit_result vit__check_model(const vit_model *m) {
  const char *missing = NULL;
  if (!m->params.block)
    return vit__fail(VIT_ERR_STATE,
        "there is no model: vit_model_create failed or was not called");
  if (m->threads < 0 || m->threads > VIT__MOST_THREADS)
    return vit__fail(VIT_ERR_CONFIG,
        "the model's threads are %d; they must be from 0 (all) to %d",
        m->threads, VIT__MOST_THREADS);
  if (!m->kernels)
    return vit__fail(VIT_ERR_CONFIG,
        "the model's kernels are NULL; point them at a table, such as "
        "vit_best_kernels()");
#define VIT__MISSING(kernel, args)                                             \
  if (!m->kernels->kernel) missing = #kernel;
  VIT_KERNELS(VIT__MISSING)
#undef VIT__MISSING
  if (!missing) return VIT_OK;
  return vit__fail(VIT_ERR_CONFIG,
      "the kernel table \"%.40s\" has no %s; begin with a copy of a whole "
      "table, such as vit_naive, and replace kernels in it",
      m->kernels->name ? m->kernels->name : "", missing);
}

/* In how many parts work is cut. */
static int vit__parts(const vit_model *m) {
  return VIT__MIN(
      m->threads > 0 ? m->threads : vit_max_threads(), VIT__MOST_THREADS);
}

VIT_DEF int vit_model_threads(const vit_model *m) {
  return vit__threads(vit__parts(m));
}

/* For what needs the weights as they are in the table of tensors. */
static vit_result vit__check_plain(const vit_model *m) {
  if (m->quantized)
    return vit__fail(VIT_ERR_STATE,
        "this model is quantized for inference, and for good; take the model "
        "that it was made from");
  if (!m->packed) return VIT_OK;
  return vit__fail(VIT_ERR_STATE,
      "this model is packed for inference; call vit_model_unpack first");
}

VIT_DEF vit_result vit_state_create(
    vit_state *s, const vit_model *m, int batch, int flags, uint64_t seed) {
  vit_result r = vit__check_batch(batch);
  memset(s, 0, sizeof *s);
  if (!r) r = vit__check_model(m);
  if (!r && (flags & VIT_FOR_TRAINING)) r = vit__check_plain(m);
  if (r) return r;
  s->config = m->config;
  s->capacity = batch;
  s->trains = (flags & VIT_FOR_TRAINING) != 0;
  s->input_gradient = (flags & VIT_INPUT_GRADIENT) != 0;
  s->keep_attn = (flags & VIT_KEEP_ATTENTION) != 0;
  s->dropout = s->trains;
  s->key = vit_rng_create(seed ^ VIT__SALT_DROPOUT, 0).key;
  r = vit__plan_state(s, &m->config, &s->arena);
  if (!r)
    r = vit_arena_allocate(
        &s->arena, s->trains ? "training state" : "inference state");
  if (!r) r = vit__plan_state(s, &m->config, &s->arena);
  if (r) memset(s, 0, sizeof *s);
  return r;
}

VIT_DEF void vit_state_free(vit_state *s) {
  vit_arena_free(&s->arena);
  memset(s, 0, sizeof *s);
}

/* -- forward ------------------------------------------------------------- */

/* A view of images first .. first + n - 1 of the last forward's batch. */
static vit__view vit__view_of(const vit_model *m, const vit_state *state,
    const float *images, int first, int n) {
  const vit_config *c = &m->config;
  vit__view v;
  v.m = m, v.k = m->kernels, v.s = state;
  v.w = m->params, v.g = state->grads;
  v.B = n, v.D = c->width, v.M = c->mlp_width, v.K = c->classes;
  v.H = c->heads, v.Dh = c->head_dim, v.I = c->heads * c->head_dim;
  v.P = c->channels * c->patch_height * c->patch_width;
  v.N = vit_config_patches(c);
  v.T = vit_config_tokens(c);
  v.row = first * v.T;
  v.rows = n * v.T;
  v.images = images ? images + (vit_idx)first * v.N * v.P : NULL;
  v.threads = vit__parts(m);
  v.parts = VIT__PARTS;
  v.dropout = 0; /* 1: on, and a rate is above 0 */
#define VIT__DROPS(type, field, start, range, shapes, about)                   \
  v.dropout |= state->forward_dropout && (range) == VIT_RATE && c->field > 0;
  VIT_CONFIG_FIELDS(VIT__DROPS)
#undef VIT__DROPS
  v.l = v.stage = v.class_only = 0;
  {
    const vit_idx each[] = {
        0, 1, v.N, v.T, v.H}; /* VIT__ALL, VIT__IMAGE, ... */
    VIT__NAMES(&v);
#define VIT__MOVE(field, where, unit, exists, floats)                          \
  v.field = s->field;                                                          \
  if (v.field) v.field += first * each[VIT__##unit] * (vit_idx)(floats);
    VIT_ACTIVATIONS(VIT__MOVE)
#undef VIT__MOVE
  }
  v.x = v.tokens;
  return v;
}

/* dist_token and reg_token, [E,D] in one piece, if there are any. */
static float *vit__extra_tokens(const vit_tensors *t) {
  return t->dist_token ? t->dist_token : t->reg_token;
}

/* Patches, projection and positions (ViT paper, eq. 1) in three stages: cut up
   image i; project part i of all patches; put class token and positions to
   image i, and behind them what has no position: attention does not ask for an
   order (registers: Darcet et al. 2024). */
static void vit__embed_forward(const void *view, int i) {
  const vit__view *v = (const vit__view *)view;
  const vit_config *c = &v->m->config;
  const vit_idx pixels = (vit_idx)v->N * v->P, TD = (vit_idx)v->T * v->D;
  int first = 0, n = 0;
  if (v->stage == VIT__CUT) {
    v->k->patchify_forward(v->patches + i * pixels, v->images + i * pixels,
        c->channels, c->image_height, c->image_width, c->patch_height,
        c->patch_width);
  } else if (v->stage == VIT__PROJECT) {
    vit__part(v->B * v->N, v->threads, i, VIT__ROW_MULTIPLE, &first, &n);
    if (n > 0)
      vit__linear(v, v->patch_embed + (vit_idx)first * v->D,
          v->patches + (vit_idx)first * v->P, v->w.patch_w, v->w.patch_b, n,
          v->P, v->D);
  } else {
    const vit_idx ED = (vit_idx)vit__extras(c) * v->D;
    float *x = (c->pre_norm ? v->placed : v->tokens) + i * TD;
    v->k->tokens_forward(x, v->patch_embed + (vit_idx)i * v->N * v->D,
        v->w.cls_token, v->w.pos_embed ? v->w.pos_embed : v->m->fixed_pos, v->N,
        v->D);
    if (ED > 0)
      memcpy(x + TD - ED, vit__extra_tokens(&v->w), (size_t)ED * sizeof *x);
  }
}

/* The head: pooled -> logits. A distillation token has one of its own: the
   logits are the mean of both (Touvron et al. 2021, section 4). */
static void vit__head_forward(const vit__view *v) {
  const int n = v->B * v->K;
  vit__linear(
      v, v->logits, v->pooled, v->w.head_w, v->w.head_b, v->B, v->D, v->K);
  if (!v->m->config.dist_token) return;
  vit__linear(v, v->logits_dist, v->pooled_dist, v->w.head_dist_w,
      v->w.head_dist_b, v->B, v->D, v->K);
  v->k->residual_forward(v->logits, v->logits, v->logits_dist, 1, n);
  v->k->scale(v->logits, v->logits, 0.5f, n);
}

/* Final norm, pooling and head (ViT paper, eq. 4), from the rows x that a block
   put out. */
static void vit__classify_forward(const vit__view *v, const float *x) {
  const vit_config *c = &v->m->config;
  const vit_idx D = v->D, skip = c->class_token * D;
  float *pooled = c->fc_norm ? v->fc : v->pooled;
  if (c->final_norm) {
    v->k->layernorm_forward(v->norm, v->norm_mean, v->norm_rstd, x, v->w.norm_w,
        v->w.norm_b, v->rows, v->D, c->norm_eps);
    x = v->norm;
  }
  for (vit_idx i = 0; i < v->B; i++, x += v->T * D) {
    if (c->pool == VIT_POOL_CLS)
      memcpy(pooled + i * D, x, (size_t)D * sizeof *x);
    else /* over the patches alone */
      v->k->mean_forward(pooled + i * D, x + skip, v->N, v->D);
    if (c->dist_token)
      memcpy(
          v->pooled_dist + i * D, x + skip + v->N * D, (size_t)D * sizeof *x);
  }
  if (c->fc_norm)
    v->k->layernorm_forward(v->pooled, v->fc_mean, v->fc_rstd, v->fc,
        v->w.fc_norm_w, v->w.fc_norm_b, v->B, v->D, c->norm_eps);
  vit__head_forward(v);
}

/* The whole model, from pixels to probabilities (ViT paper, eq. 1 to 4). */
static void vit__forward(vit__view v) {
  const vit_config *c = &v.m->config;
  vit__view b[2];
  for (v.stage = VIT__CUT; v.stage <= VIT__PLACE; v.stage++)
    vit__each(v.threads, v.stage == VIT__PROJECT ? v.threads : v.B,
        vit__embed_forward, &v);
  if (v.dropout)
    vit__drop(
        &v, c->pre_norm ? v.placed : v.tokens, c->pos_drop, VIT__SITE_POS, v.D);
  if (c->pre_norm)
    v.k->layernorm_forward(v.tokens, v.placed_mean, v.placed_rstd, v.placed,
        v.w.norm_pre_w, v.w.norm_pre_b, v.rows, v.D, c->norm_eps);
  for (int l = 0; l < c->depth; l++) { /* three forks of the threads a block */
    vit__task *rows = c->norm == VIT_NORM_PRE ? vit__pre_norm_forward
                                              : vit__post_norm_forward;
    vit__block_at(&v, l, b);
    vit__each(v.threads, v.threads, rows, &b[VIT__BEFORE_HEADS]);
    if (b->class_only) vit__class_forward(b);
    else vit__each(v.threads, v.threads, vit__heads_forward, b);
    vit__each(v.threads, v.threads, rows, &b[VIT__AFTER_HEADS]);
  }
  vit__classify_forward(&b[VIT__AFTER_HEADS], b[1].out);
  v.k->softmax_forward(v.probs, v.logits, v.B, v.K);
}

/* Part i of the images all the way on one thread: of a large model all at once,
   so that the weights are read once; of a small one as many as leave the
   activations of a block in the cache. */
static void vit__forward_images(const void *whole, int i) {
  const vit__view *v = (const vit__view *)whole;
  const int small = v->m->params.count <= VIT__SMALL;
  int first, n, parts;
  vit__part(v->B, v->threads, i, 1, &first, &n);
  parts = small ? n * v->T / VIT__ROWS_AT_ONCE + 1 : 1;
  for (int part = 0; part < parts; part++) {
    int begin, count;
    vit__view some;
    vit__part(n, parts, part, 1, &begin, &count);
    if (count == 0) return;
    some = vit__view_of(v->m, v->s, v->images, first + begin, count);
    some.threads = 1;
    vit__forward(some);
  }
}

/* Was this state made for this model? Rates may change, sizes may not;
   attention dropout needs a state that was made with it. */
static vit_result vit__check_state(const vit_model *m, const vit_state *s) {
  const vit_config *a = &m->config, *b = &s->config;
  vit_result r = vit__check_model(m);
  int same = (a->positions == VIT_POSITIONS_LEARNED) ==
                 (b->positions == VIT_POSITIONS_LEARNED) &&
             (a->attn_drop <= 0 || b->attn_drop > 0);
#define VIT__SAME(type, field, start, range, shapes, about)                    \
  same &= !(shapes) || a->field == b->field;
  VIT_CONFIG_FIELDS(VIT__SAME)
#undef VIT__SAME
  if (r) return r;
  if (!same)
    return vit__fail(VIT_ERR_STATE,
        "this state was made for another model; make one with "
        "vit_state_create");
  if (s->dropout && !s->trains)
    return vit__fail(VIT_ERR_STATE,
        "dropout is on in a state for inference; it needs VIT_FOR_TRAINING");
  return VIT_OK;
}

/* A probe's state (chapter 09) has the head alone. */
static vit_result vit__check_whole(const vit_state *s) {
  if (!s->probe) return VIT_OK;
  return vit__fail(VIT_ERR_STATE,
      "this is the state of a linear probe, which runs the head alone; create "
      "another one for the whole model");
}

VIT_DEF vit_result vit_forward(
    const vit_model *m, vit_state *s, const float *images, int B) {
  vit__view v;
  vit_result r = vit__check_state(m, s);
  if (!r) r = vit__check_whole(s);
  if (r) return r;
  if (B < 1 || B > s->capacity)
    return vit__fail(VIT_ERR_CONFIG,
        "batch of %d images, but this state was created for 1 to %d", B,
        s->capacity);
  s->forwards++;
  s->forward_dropout = s->dropout;
  s->batch = B, s->loss_known = s->went_back = 0;
  v = vit__view_of(m, s, images, 0, B);
  if (B >= v.threads) /* whole images per thread; else rows and heads */
    vit__each(v.threads, v.threads, vit__forward_images, &v);
  else vit__forward(v);
  return VIT_OK;
}

static vit_result vit__check_place(
    const vit_state *s, const vit_config *c, int layer, int image, int head) {
  if (s->probe) return vit__check_whole(s);
  if (layer >= 0 && layer < c->depth && image >= 0 && image < s->batch &&
      head >= 0 && head < c->heads)
    return VIT_OK;
  return vit__fail(VIT_ERR_CONFIG,
      "there is no attention of layer %d, image %d, head %d: the last "
      "forward had %d layers, %d images and %d heads",
      layer, image, head, c->depth, s->batch, c->heads);
}

VIT_DEF const float *vit_attention(
    const vit_model *m, const vit_state *s, int layer, int image, int head) {
  const vit_config *c = &m->config;
  vit_idx T;
  if (vit__check_state(m, s)) return NULL;
  if (!s->trains && !s->keep_attn) {
    vit__fail(VIT_ERR_STATE, "this state keeps no attention; create it with "
                             "VIT_FOR_TRAINING or VIT_KEEP_ATTENTION");
    return NULL;
  }
  if (!s->keep_attn && VIT__LAST && layer == c->depth - 1) {
    vit__fail(VIT_ERR_STATE,
        "of the last block, layer %d, only the class token's attention was "
        "needed: see vit_class_attention, or create the state with "
        "VIT_KEEP_ATTENTION",
        layer);
    return NULL;
  }
  if (vit__check_place(s, c, layer, image, head)) return NULL;
  T = vit_config_tokens(c);
  return s->attn + (size_t)layer * s->attn_stride +
         ((vit_idx)image * c->heads + head) * T * T;
}

VIT_DEF const float *vit_class_attention(
    const vit_model *m, const vit_state *s, int image, int head) {
  const vit_config *c = &m->config;
  if (vit__check_state(m, s)) return NULL;
  if (!c->class_token) {
    vit__fail(VIT_ERR_STATE, "this model has no class token");
    return NULL;
  }
  if (!VIT__LAST) return vit_attention(m, s, c->depth - 1, image, head);
  if (vit__check_place(s, c, c->depth - 1, image, head)) return NULL;
  return s->class_attn +
         ((vit_idx)image * c->heads + head) * vit_config_tokens(c);
}

/* The class with the largest of K logits, the first of equals; -1 where one of
   them is not a finite number. */
static int vit__class_of(const float *logits, int K) {
  int best = 0;
  for (int k = 0; k < K; k++) {
    if (!VIT__IS_FINITE(logits[k])) return -1;
    if (logits[k] > logits[best]) best = k;
  }
  return best;
}

VIT_DEF vit_result vit_predict(const vit_model *m, vit_state *s,
    const float *images, int B, int *classes, float *p) {
  const int K = m->config.classes, dropout = s->dropout;
  vit_result r;
  s->dropout = 0;
  r = vit_forward(m, s, images, B);
  s->dropout = dropout;
  for (vit_idx b = 0; !r && b < B; b++) {
    const int best = vit__class_of(s->logits + b * K, K);
    if (classes) classes[b] = best;
    if (best < 0)
      r = vit__fail(VIT_ERR_DIVERGED,
          "a logit of image %d is not a finite number: are all pixels and all "
          "weights finite?",
          (int)b);
  }
  if (!r && p) memcpy(p, s->probs, (size_t)B * (size_t)K * sizeof *p);
  return r;
}

/* ------------------------------------------------------------------------ */
/*  >>07 gradients                                                          */
/* ------------------------------------------------------------------------ */

/* cross entropy on logits: loss = - sum over k of q_k log p_k, where
   p = softmax(logits) and the targets q of a row sum up to 1.
   logits [rows,K], targets [rows,K] -> losses [rows], p [rows,K] */
static void vit_naive_crossentropy_forward(double *losses, float *p,
    const float *logits, const float *targets, int rows, int K) {
  vit_naive_softmax_forward(p, logits, rows, K);
  for (vit_idx r = 0; r < rows; r++) {
    const float *z = logits + r * K, *q = targets + r * K;
    double top = (double)z[0], sum = 0, wanted = 0;
    for (vit_idx k = 1; k < K; k++)
      top = (double)z[k] > top ? (double)z[k] : top;
    for (vit_idx k = 0; k < K; k++) {
      sum += exp((double)z[k] - top);
      wanted += (double)q[k] * ((double)z[k] - top);
    }
    losses[r] = log(sum) - wanted; /* log p_k = z_k - top - log sum */
  }
}

/* dlogits = factor (p - q) */
static void vit_naive_crossentropy_backward(float *dlogits, const float *p,
    const float *targets, float factor, int rows, int K) {
  for (vit_idx i = 0; i < (vit_idx)rows * K; i++)
    dlogits[i] = factor * (p[i] - targets[i]);
}

#ifdef VIT__HAS_SIMD
VIT__SIMD void vit_simd_crossentropy_forward(double *losses, float *p,
    const float *logits, const float *targets, int rows, int K) {
  for (vit_idx r = 0; r < rows; r++, p += K, logits += K, targets += K) {
    vit_vec top = vit_set(-INFINITY), sum = vit_set(0), wanted = sum, scale;
    float highest;
    for (vit_idx k = 0; k < K; k += VIT_LANES)
      top = vit_max(top, vit__load_or(logits + k, K - k, -INFINITY));
    highest = vit_top(top);
    top = vit_set(highest);
    for (vit_idx k = 0; k < K; k += VIT_LANES) {
      vit_vec z = vit_sub(vit__load_or(logits + k, K - k, -INFINITY), top);
      vit_vec e = vit_exp(z);
      vit_store_n(p + k, e, K - k);
      sum = vit_add(sum, e);
      /* past the row's end z is -INFINITY, and 0 times that is not a number */
      z = vit_sub(vit__load_or(logits + k, K - k, highest), top);
      wanted = vit_fma(vit_load_n(targets + k, K - k), z, wanted);
    }
    scale = vit_div(vit_set(1), vit_set(vit_sum(sum)));
    for (vit_idx k = 0; k < K; k += VIT_LANES)
      vit_store_n(p + k, vit_mul(vit_load_n(p + k, K - k), scale), K - k);
    losses[r] = log((double)vit_sum(sum)) - (double)vit_sum(wanted);
  }
}

VIT__SIMD void vit_simd_crossentropy_backward(float *dlogits, const float *p,
    const float *targets, float factor, int rows, int K) {
  const vit_idx n = (vit_idx)rows * K;
  const vit_vec f = vit_set(factor);
  for (vit_idx i = 0; i < n; i += VIT_LANES)
    vit_store_n(dlogits + i,
        vit_mul(f,
            vit_sub(vit_load_n(p + i, n - i), vit_load_n(targets + i, n - i))),
        n - i);
}
#endif

/* The loss for s->targets. */
static vit_result vit__take_loss(
    const vit_model *m, vit_state *s, double *loss) {
  const float *z = m->config.softmax_before_loss ? s->probs : s->logits;
  double sum = 0;
  if (s->batch < 1)
    return vit__fail(VIT_ERR_STATE,
        "there is no forward pass to take the loss of; call vit_forward first");
  m->kernels->crossentropy_forward(
      s->losses, s->loss_softmax, z, s->targets, s->batch, m->config.classes);
  for (int b = 0; b < s->batch; b++) sum += s->losses[b];
  s->loss_known = 1;
  *loss = s->loss = sum / s->batch;
  return VIT_OK;
}

VIT_DEF vit_result vit_loss_targets(
    const vit_model *m, vit_state *s, const float *targets, double *loss) {
  const int K = m->config.classes;
  vit_result r = vit__check_state(m, s);
  for (vit_idx b = 0; !r && b < s->batch; b++) {
    double sum = 0;
    for (vit_idx k = 0; k < K; k++) sum += (double)targets[b * K + k];
    if (!(fabs(sum - 1) <= 1e-3))
      r = vit__fail(VIT_ERR_CONFIG,
          "the targets of image %d sum up to %g; they are probabilities and "
          "must give 1",
          (int)b, sum);
  }
  if (r) return r;
  memcpy(s->targets, targets, (size_t)s->batch * (size_t)K * sizeof *targets);
  return vit__take_loss(m, s, loss);
}

/* What a label asks for, with smoothing e (Szegedy et al. 2016, section 7):
   (1 - e) [k is the label] + e / K. targets [K] */
static void vit__set_targets(
    float *targets, int label, float smoothing, int K) {
  for (int k = 0; k < K; k++)
    targets[k] = smoothing / (float)K + (k == label ? 1 - smoothing : 0);
}

static vit_result vit__check_smoothing(float smoothing) {
  if (smoothing >= 0 && smoothing <= 1) return VIT_OK;
  return vit__fail(VIT_ERR_CONFIG,
      "label smoothing is %g; it must be from 0 to 1", (double)smoothing);
}

VIT_DEF vit_result vit_loss(const vit_model *m, vit_state *s, const int *labels,
    float smoothing, double *loss) {
  const int K = m->config.classes;
  vit_result r = vit__check_state(m, s);
  if (!r) r = vit__check_smoothing(smoothing);
  for (int b = 0; !r && b < s->batch; b++)
    if (labels[b] < 0 || labels[b] >= K)
      r = vit__fail(VIT_ERR_CONFIG,
          "label %d of image %d is not a class from 0 to %d", labels[b], b,
          K - 1);
  if (r) return r;
  for (vit_idx b = 0; b < s->batch; b++)
    vit__set_targets(s->targets + b * K, labels[b], smoothing, K);
  return vit__take_loss(m, s, loss);
}

VIT_DEF void vit_zero_gradients(vit_state *s) {
  if (s->grads.block) memset(s->grads.block, 0, s->grads.count * sizeof(float));
}

/* -- backward through the model ------------------------------------------ */

/* A layer norm of rows x outside the blocks works as norm 1 of one. */
static void vit__outer_norm_rows(const void *rows, int i) {
  const vit__view *v = (const vit__view *)rows;
  const vit__view r = vit__rows(v, v->parts, i);
  if (r.rows > 0) vit__norm_replace(&r, i, 1, r.dresidual, r.x);
}

/* dresidual, the gradient by the norm's output, becomes that by x. */
static void vit__outer_norm_backward(vit__view v, const float *x, float *mean,
    float *rstd, float *w, float *dw, float *db) {
  v.x = x, v.norm1_mean = mean, v.norm1_rstd = rstd, v.w.norm1_w = w;
  memset(v.norm_sums, 0, (size_t)(4 * v.parts * v.D) * sizeof(float));
  vit__each(v.threads, v.parts, vit__outer_norm_rows, &v);
  vit__norm_gradients(&v, 1, dw, db);
}

/* Head backward, from dlogits: fills dpooled, and dpooled_dist. */
static void vit__head_backward(const vit__view *v) {
  const vit_config *c = &v->m->config;
  const float *dlogits = v->dlogits;
  if (c->dist_token) {
    v->k->scale(v->dhead, v->dlogits, 0.5f, v->B * v->K);
    dlogits = v->dhead;
    v->k->linear_backward_weight(v->g.head_dist_w, v->g.head_dist_b, dlogits,
        v->pooled_dist, v->B, v->D, v->K, v->K);
    v->k->linear_backward_input(
        v->dpooled_dist, dlogits, v->w.head_dist_w, v->B, v->D, v->K);
  }
  v->k->linear_backward_weight(
      v->g.head_w, v->g.head_b, dlogits, v->pooled, v->B, v->D, v->K, v->K);
  v->k->linear_backward_input(
      v->dpooled, dlogits, v->w.head_w, v->B, v->D, v->K);
}

/* Pooling and final norm backward, into the rows that the last block put out:
   fills their dresidual. */
static void vit__pool_backward(const vit__view *v) {
  const vit_config *c = &v->m->config;
  const vit_idx D = v->D, skip = c->class_token * D;
  if (c->fc_norm) {
    memset(v->dfc, 0, (size_t)(v->B * D) * sizeof(float));
    v->k->layernorm_backward(v->dfc, v->g.fc_norm_w, v->g.fc_norm_b, v->dpooled,
        v->fc, v->w.fc_norm_w, v->fc_mean, v->fc_rstd, v->B, v->D);
  }
  memset(v->dresidual, 0, (size_t)(v->rows * D) * sizeof(float));
  for (vit_idx i = 0; i < v->B; i++) {
    const float *dpooled = (c->fc_norm ? v->dfc : v->dpooled) + i * D;
    float *dx = v->dresidual + i * v->T * D;
    if (c->pool == VIT_POOL_CLS) memcpy(dx, dpooled, (size_t)D * sizeof *dx);
    else v->k->mean_backward(dx + skip, dpooled, v->N, v->D);
    if (c->dist_token)
      memcpy(dx + skip + v->N * D, v->dpooled_dist + i * D,
          (size_t)D * sizeof *dx);
  }
  if (c->final_norm)
    vit__outer_norm_backward(*v, v->out, v->norm_mean, v->norm_rstd,
        v->w.norm_w, v->g.norm_w, v->g.norm_b);
}

/* Two stages: part i of the projection's weights; the gradient of image i. */
static void vit__embed_backward(const void *view, int i) {
  const vit__view *v = (const vit__view *)view;
  const vit_config *c = &v->m->config;
  const vit_idx pixels = (vit_idx)v->N * v->P;
  float *dpatches;
  if (v->stage == 0) {
    vit__weight_part(v, i, v->threads, v->g.patch_w, v->g.patch_b,
        v->dpatch_embed, v->patches, v->B * v->N, v->P, v->D);
    return;
  }
  dpatches = v->dpatches + i * pixels;
  v->k->linear_backward_input(dpatches,
      v->dpatch_embed + (vit_idx)i * v->N * v->D, v->w.patch_w, v->N, v->P,
      v->D);
  v->k->patchify_backward(v->dimages + i * pixels, dpatches, c->channels,
      c->image_height, c->image_width, c->patch_height, c->patch_width);
}

/* The whole model, from the logits to the first weights: head, blocks from the
   last to the first, then positions, class token, projection (and images). It
   ends before what is frozen. */
static void vit__backward(vit__view v) {
  const vit_config *c = &v.m->config;
  const vit_idx TD = (vit_idx)v.T * v.D, ND = (vit_idx)v.N * v.D;
  const int ED = vit__extras(c) * v.D;
  float *dextra = vit__extra_tokens(&v.g);
  vit__head_backward(&v);
  for (int l = c->depth - 1; l >= 0; l--) {
    vit__task *rows = c->norm == VIT_NORM_PRE ? vit__pre_norm_backward
                                              : vit__post_norm_backward;
    vit__view b[2];
    if (l + 1 < v.s->freeze) return;
    vit__block_at(&v, l, b);
    if (l == c->depth - 1) vit__pool_backward(&b[VIT__AFTER_HEADS]);
    memset(b->norm_sums, 0, (size_t)(4 * v.parts * v.D) * sizeof(float));
    vit__each(v.threads, v.parts, rows, &b[VIT__AFTER_HEADS]);
    if (b->class_only) vit__class_backward(b);
    else vit__each(v.threads, v.B * v.H, vit__heads_backward, b);
    vit__each(v.threads, v.parts, rows, &b[VIT__BEFORE_HEADS]);
    vit__each(v.threads, 4 * v.threads, vit__block_weights, b);
    vit__norm_gradients(b, 1, b->g.norm1_w, b->g.norm1_b);
    vit__norm_gradients(b, 2, b->g.norm2_w, b->g.norm2_b);
  }
  if (v.s->freeze) return;
  if (c->pre_norm)
    vit__outer_norm_backward(v, v.placed, v.placed_mean, v.placed_rstd,
        v.w.norm_pre_w, v.g.norm_pre_w, v.g.norm_pre_b);
  if (v.dropout) vit__drop(&v, v.dresidual, c->pos_drop, VIT__SITE_POS, v.D);
  for (vit_idx b = 0; b < v.B; b++) {
    v.k->tokens_backward(v.dpatch_embed + b * ND, v.g.cls_token, v.g.pos_embed,
        v.dresidual + b * TD, v.N, v.D);
    if (ED > 0)
      v.k->residual_forward(
          dextra, dextra, v.dresidual + (b + 1) * TD - ED, 1, ED);
  }
  v.stage = 0;
  vit__each(v.threads, v.threads, vit__embed_backward, &v);
  v.stage = 1;
  if (v.s->input_gradient) vit__each(v.threads, v.B, vit__embed_backward, &v);
}

/* Part i of the images, as far as it is here: a batch that is shared has the
   parts that it would have in one program. */
static int vit__images_of_part(const vit__view *v, int i, int *first) {
  const vit_state *s = v->s;
  int n;
  vit__part(s->shared ? s->shared : v->B, VIT__PARTS, i, 1, first, &n);
  n = VIT__MIN(*first + n - s->first, v->B);
  *first = *first > s->first ? *first - s->first : 0;
  return n > *first ? n - *first : 0;
}

/* Small models: part i of the images adds up its own gradients, so one thread
   takes an image all the way. The parts do not depend on the threads. */
static void vit__backward_part(const void *whole, int i) {
  const vit__view *all = (const vit__view *)whole;
  const size_t count = all->g.count;
  float *grads = all->s->part_grads + (size_t)i * count;
  int first;
  const int n = vit__images_of_part(all, i, &first);
  vit__view v;
  if (n == 0) return;
  memset(grads, 0, count * sizeof(float));
  v = vit__view_of(all->m, all->s, NULL, first, n);
  v.g = vit__tensors_at(&all->g, grads);
  v.norm_sums += (vit_idx)i * 4 * v.D;
  v.threads = v.parts = 1;
  vit__backward(v);
}

/* Part i of the parameters: add up the sixteen parts of the images as a binary
   tree, ((0 + 1) + (2 + 3)) + ... A program that has some of the parts climbs
   its branch of the same tree. 1024 parameters at a time stay in the cache. */
static void vit__add_parts(const void *whole, int i) {
  const vit__view *v = (const vit__view *)whole;
  const size_t count = v->g.count;
  int first, n, unused, begin = 0, end = VIT__PARTS; /* parts that are here */
  vit__part((int)count, v->threads, i, 64, &first, &n);
  while (!vit__images_of_part(v, begin, &unused)) begin++;
  while (!vit__images_of_part(v, end - 1, &unused)) end--;
  for (int at = first; at < first + n; at += 1024) {
    const int size = VIT__MIN(1024, first + n - at);
    float *parts = v->s->part_grads + at, *to = v->g.block + at;
    for (int step = 1; step < VIT__PARTS; step *= 2)
      for (int part = 0; part + step < end; part += 2 * step) {
        float *a = parts + (size_t)part * count, *b = a + (size_t)step * count;
        if (part + step > begin) v->k->residual_forward(a, a, b, 1, size);
        else if (part + 2 * step > begin)
          memcpy(a, b, (size_t)size * sizeof *a);
      }
    v->k->residual_forward(to, to, parts, 1, size);
  }
}

static vit_result vit__check_freeze(const vit_model *m, int freeze) {
  const int most = m->config.depth + 1;
  if (freeze >= 0 && freeze <= most) return VIT_OK;
  return vit__fail(VIT_ERR_CONFIG,
      "freeze is %d; the model has a stem, %d blocks and a head: it must be "
      "from 0, all learn, to %d, the head alone learns",
      freeze, most - 1, most);
}

static vit_result vit__check_backward(const vit_model *m, const vit_state *s) {
  vit_result r = vit__check_state(m, s);
  if (!r) r = vit__check_plain(m);
  if (!r) r = vit__check_freeze(m, s->freeze);
  if (!r && s->freeze && s->input_gradient)
    r = vit__fail(VIT_ERR_STATE,
        "the gradient by the images is wanted, but backward would stop before "
        "them: the state's freeze is %d; set it to 0",
        s->freeze);
  if (!r && (s->first < 0 || s->shared < 0 ||
                s->first > (s->shared ? s->shared - s->batch : 0)))
    r = vit__fail(VIT_ERR_CONFIG,
        "these %d images are number %d and following of a shared batch of %d: "
        "set the state's first and shared to a place in it, or both to 0",
        s->batch, s->first, s->shared);
  if (r || s->trains) return r;
  return vit__fail(VIT_ERR_STATE,
      "this state was created for inference; backward needs VIT_FOR_TRAINING");
}

/* From s->dlogits on. */
static vit_result vit__backward_all(const vit_model *m, vit_state *s) {
  vit__view v = vit__view_of(m, s, NULL, 0, s->batch);
  s->went_back = 1;
  if (s->part_grads) {
    vit__each(v.threads, VIT__PARTS, vit__backward_part, &v);
    vit__each(v.threads, v.threads, vit__add_parts, &v);
  } else vit__backward(v);
  return VIT_OK;
}

VIT_DEF vit_result vit_backward(
    const vit_model *m, vit_state *s, float factor) {
  const int B = s->batch, K = m->config.classes;
  const int images = s->shared ? s->shared : B; /* the loss is their mean */
  vit_result r = vit__check_backward(m, s);
  if (r) return r;
  if (!s->loss_known)
    return vit__fail(VIT_ERR_STATE,
        "there is no loss to differentiate; call vit_forward and vit_loss "
        "first");
  m->kernels->crossentropy_backward(
      s->dlogits, s->loss_softmax, s->targets, factor / (float)images, B, K);
  if (m->config.softmax_before_loss)
    m->kernels->softmax_backward(s->dlogits, s->dlogits, s->probs, B, K);
  return vit__backward_all(m, s);
}

VIT_DEF vit_result vit_backward_logits(
    const vit_model *m, vit_state *s, const float *dlogits, float factor) {
  vit_result r = vit__check_backward(m, s);
  if (r) return r;
  if (s->batch < 1)
    return vit__fail(VIT_ERR_STATE,
        "there are no logits to go back from; call vit_forward first");
  m->kernels->scale(s->dlogits, dlogits, factor, s->batch * m->config.classes);
  return vit__backward_all(m, s);
}

VIT_DEF const float *vit_attention_gradient(
    const vit_model *m, const vit_state *s, int layer, int image, int head) {
  const vit_idx T = vit_config_tokens(&m->config), H = m->config.heads;
  if (vit__check_state(m, s) ||
      vit__check_place(s, &m->config, layer, image, head))
    return NULL;
  if (s->dattn_kept && s->went_back && layer + 1 >= s->freeze)
    return s->dattn_kept + (size_t)layer * s->dattn_kept_stride +
           (image * H + head) * T * T;
  vit__fail(VIT_ERR_STATE,
      s->dattn_kept ? "there was no backward as far as this layer after the "
                      "last forward; call "
                      "vit_backward or vit_backward_logits first, with freeze 0"
                    : "this state keeps no gradient of the attention; create "
                      "it with VIT_FOR_TRAINING and VIT_KEEP_ATTENTION");
  return NULL;
}

/* -- gradient check ------------------------------------------------------ */

/* What a check works on. */
typedef struct {
  vit_model m;
  vit_state s;
  float *images;
  int *labels, batch;
} vit__gradcheck;

static double vit__gradcheck_loss(vit__gradcheck *k) {
  double loss = 0;
  k->s.forwards = 0; /* the same dropout masks each time */
  vit_forward(&k->m, &k->s, k->images, k->batch);
  vit_loss(&k->m, &k->s, k->labels, 0.1f, &loss);
  return loss;
}

/* Random images, labels and parameters of healthy size: the usual initial
   values are so small that rounding would hide the gradient. */
static void vit__gradcheck_fill(
    vit__gradcheck *k, size_t pixels, uint64_t seed) {
  vit_rng rng = vit_rng_create(seed, 1000000);
  vit_tensor t;
  vit__fill_normal(k->images, pixels, 1, &rng);
  for (int b = 0; b < k->batch; b++)
    k->labels[b] = (int)vit_random_below(&rng, (uint32_t)k->m.config.classes);
  for (int i = 0; vit_tensor_at(&k->m.config, i, &t); i++) {
    float *w = k->m.params.block + t.offset, in = 1, std;
    for (int d = 1; d < t.dims; d++) in *= (float)t.shape[d];
    std = t.dims < 2 ? 0.1f : t.dims == 3 ? 0.5f : 1 / sqrtf(in);
    vit__fill_normal(w, t.count, std, &rng);
    for (size_t j = 0; t.init == VIT__INIT_ONE && j < t.count; j++) w[j] += 1;
  }
}

/* d loss / d w from four losses: the error is of fourth order in h. */
static double vit__numeric_gradient(vit__gradcheck *k, float *w) {
  const float start = *w, h = 0.01f;
  const float at[4] = {start + h, start - h, start + 2 * h, start - 2 * h};
  double loss[4];
  for (int i = 0; i < 4; i++) {
    *w = at[i];
    loss[i] = vit__gradcheck_loss(k);
  }
  *w = start;
  return (8 * (loss[0] - loss[1]) - (loss[2] - loss[3])) /
         (6 * ((double)at[0] - (double)at[1]));
}

/* Compare up to 24 elements of a tensor, spread over it. */
static void vit__gradcheck_tensor(
    vit__gradcheck *k, const vit_tensor *t, vit_gradient_report *r) {
  const float *g = k->s.grads.block + t->offset;
  float *w = k->m.params.block + t->offset;
  const size_t step = t->count / 24 + 1;
  double largest = 0;
  for (size_t i = 0; i < t->count; i++)
    largest = fmax(largest, fabs((double)g[i]));
  for (size_t i = t->count % step / 2; i < t->count; i += step) {
    const double numeric = vit__numeric_gradient(k, w + i);
    const double error = fabs((double)g[i] - numeric) / (largest + 1e-3);
    r->elements++;
    if (error <= r->worst || r->worst != r->worst) continue; /* NaN stays */
    r->worst = error, r->index = (int)i;
    r->analytic = (double)g[i], r->numeric = numeric;
    memcpy(r->name, t->name, sizeof r->name);
  }
  r->tensors++;
}

VIT_DEF vit_result vit_gradient_check(const vit_config *c,
    const vit_kernels *kernels, int batch, uint64_t seed,
    vit_gradient_report *report) {
  vit__gradcheck k;
  vit_tensor t;
  vit_result r;
  size_t pixels;
  memset(report, 0, sizeof *report);
  memset(&k, 0, sizeof k);
  r = vit_model_create(&k.m, c, seed);
  if (!r) r = vit_state_create(&k.s, &k.m, batch, VIT_FOR_TRAINING, seed);
  if (!r) {
    pixels = (size_t)batch * (size_t)c->channels * (size_t)c->image_height *
             (size_t)c->image_width;
    k.batch = batch;
    k.m.kernels = kernels;
    k.images = (float *)vit__allocate(pixels, sizeof(float), "test images");
    k.labels = (int *)vit__allocate((size_t)batch, sizeof(int), "test labels");
    if (!k.images || !k.labels) r = VIT_ERR_NO_MEMORY;
  }
  if (!r) {
    vit__gradcheck_fill(&k, pixels, seed);
    vit__gradcheck_loss(&k);
    r = vit_backward(&k.m, &k.s, 1);
  }
  for (int i = 0; !r && vit_tensor_at(&k.m.config, i, &t); i++)
    vit__gradcheck_tensor(&k, &t, report);
  if (k.images) VIT_FREE(k.images);
  if (k.labels) VIT_FREE(k.labels);
  vit_state_free(&k.s);
  vit_model_free(&k.m);
  return r;
}

/* ======================================================================== */
/*  PART THREE: THE LAB                                                     */
/* ======================================================================== */

/* ------------------------------------------------------------------------ */
/*  >>08 training                                                           */
/* ------------------------------------------------------------------------ */

/* SGD with momentum (as torch.optim.SGD): m = momentum m + g + decay w,
   w -= rate m. All [n]. */
static void vit_naive_sgd_step(float *w, float *m, const float *g, int n,
    float rate, float momentum, float decay) {
  for (vit_idx i = 0; i < n; i++) {
    m[i] = momentum * m[i] + (g[i] + decay * w[i]);
    w[i] -= rate * m[i];
  }
}

/* Adam (Kingma and Ba 2015, algorithm 1): m and v are running averages of the
   gradient and of its square, corrected for their start at zero,
       w -= rate (m / correction1) / (sqrt(v / correction2) + eps).
   AdamW (Loshchilov and Hutter 2019, algorithm 2) shrinks w by rate * decay
   instead of adding decay * w to the gradient. All [n]. */
static void vit_naive_adam_step(float *w, float *m, float *v, const float *g,
    int n, const vit_adam_constants *a) {
  for (vit_idx i = 0; i < n; i++) {
    float slope = g[i];
    if (a->decoupled) w[i] -= a->rate * a->decay * w[i];
    if (!a->decoupled) slope += a->decay * w[i];
    m[i] = a->beta1 * m[i] + (1 - a->beta1) * slope;
    v[i] = a->beta2 * v[i] + (1 - a->beta2) * slope * slope;
    w[i] -= a->rate * (m[i] / a->correction1) /
            (sqrtf(v[i] / a->correction2) + a->eps);
  }
}

/* *sum = x_0^2 + ... + x_{n-1}^2 */
static void vit_naive_sum_squares(double *sum, const float *x, int n) {
  *sum = 0;
  for (vit_idx i = 0; i < n; i++) *sum += (double)x[i] * (double)x[i];
}

#ifdef VIT__HAS_SIMD
VIT__SIMD void vit_simd_sgd_step(float *w, float *m, const float *g, int n,
    float rate, float momentum, float decay) {
  const vit_vec mu = vit_set(momentum), wd = vit_set(decay);
  const vit_vec down = vit_set(-rate);
  for (vit_idx i = 0; i < n; i += VIT_LANES) {
    vit_vec x = vit_load_n(w + i, n - i);
    vit_vec slope = vit_fma(wd, x, vit_load_n(g + i, n - i));
    vit_vec speed = vit_fma(mu, vit_load_n(m + i, n - i), slope);
    vit_store_n(m + i, speed, n - i);
    vit_store_n(w + i, vit_fma(down, speed, x), n - i);
  }
}

VIT__SIMD void vit_simd_adam_step(float *w, float *m, float *v, const float *g,
    int n, const vit_adam_constants *a) {
  const vit_vec beta1 = vit_set(a->beta1), rest1 = vit_set(1 - a->beta1);
  const vit_vec beta2 = vit_set(a->beta2), rest2 = vit_set(1 - a->beta2);
  const vit_vec shrink = vit_set(a->decoupled ? -a->rate * a->decay : 0);
  const vit_vec decay = vit_set(a->decoupled ? 0 : a->decay);
  const vit_vec down = vit_set(-a->rate), eps = vit_set(a->eps);
  const vit_vec c1 = vit_set(a->correction1), c2 = vit_set(a->correction2);
  for (vit_idx i = 0; i < n; i += VIT_LANES) {
    vit_idx k = n - i;
    vit_vec x = vit_load_n(w + i, k), slope, mean, square, size;
    x = vit_fma(shrink, x, x);
    slope = vit_fma(decay, x, vit_load_n(g + i, k));
    mean = vit_fma(beta1, vit_load_n(m + i, k), vit_mul(rest1, slope));
    square = vit_mul(rest2, vit_mul(slope, slope));
    square = vit_fma(beta2, vit_load_n(v + i, k), square);
    vit_store_n(m + i, mean, k);
    vit_store_n(v + i, square, k);
    size = vit_add(vit_sqrt(vit_div(square, c2)), eps);
    x = vit_fma(down, vit_div(vit_div(mean, c1), size), x);
    vit_store_n(w + i, x, k);
  }
}

/* Float sums of 256 numbers, added up in double. */
VIT__SIMD void vit_simd_sum_squares(double *sum, const float *x, int n) {
  *sum = 0;
  for (vit_idx i = 0; i < n; i += 256) {
    vit_idx end = VIT__MIN(n, i + 256);
    vit_vec part = vit_set(0);
    for (vit_idx j = i; j < end; j += VIT_LANES) {
      vit_vec v = vit_load_n(x + j, end - j);
      part = vit_fma(v, v, part);
    }
    *sum += (double)vit_sum(part);
  }
}
#endif

/* -- optimisers ---------------------------------------------------------- */

#define VIT__BELOW(x) ((x) * (1 - DBL_EPSILON)) /* the last before x */
#define VIT__BELOW_1  "at least 0 and below 1"

#define VIT__START(type, field, start, ...) c.field = start;
VIT_DEF vit_optimizer_config vit_optimizer_defaults(vit_algorithm a) {
  vit_optimizer_config c;
  VIT_OPTIMIZER_FIELDS(VIT__START)
  return c;
}

/* Is a setting in its range? A whole number is written with all its digits. */
static vit_result vit__check_setting(const char *what, double value, double low,
    double high, int whole, const char *range) {
  char from_to[64];
  if (VIT__IS_WITHIN(value, low, high)) return VIT_OK;
  snprintf(from_to, sizeof from_to, "from %.10g to %.10g", low, high);
  return vit__fail(VIT_ERR_CONFIG, "%s is %.*g; it must be %s", what,
      whole ? 10 : 6, value, range ? range : from_to);
}

VIT_DEF vit_result vit_optimizer_create(
    vit_optimizer *o, const vit_model *m, const vit_optimizer_config *c) {
  vit_fit_config all = vit_fit_defaults();
  vit_result r;
  all.optimizer = *c;
  memset(o, 0, sizeof *o);
  o->config = all.optimizer;
  r = vit_fit_check(&all);
  if (!r) r = vit__check_model(m);
  if (!r) r = vit__check_freeze(m, c->freeze);
  for (int walk = 0; !r && walk < 2; walk++) {
    vit__take_tensors(&o->m, &m->config, 0, &o->arena);
    if (o->config.algorithm != VIT_SGD)
      vit__take_tensors(&o->v, &m->config, 0, &o->arena);
    if (walk == 0) r = vit_arena_allocate(&o->arena, "optimiser");
  }
  if (r) memset(o, 0, sizeof *o);
  return r;
}

VIT_DEF void vit_optimizer_free(vit_optimizer *o) {
  vit_arena_free(&o->arena);
  memset(o, 0, sizeof *o);
}

/* Sums over fixed parts, so that the norm does not depend on the threads. */
VIT_DEF double vit_clip_gradients(
    const vit_model *m, vit_state *s, float limit) {
  const int threads = vit__threads(vit__parts(m));
  const int count = (int)s->grads.count;
  float *g = s->grads.block;
  double sums[VIT__PARTS], norm = 0;
  if (vit__check_model(m) || !g) return 0;
  VIT__PARALLEL_FOR
  for (int i = 0; i < VIT__PARTS; i++) {
    int first, n;
    vit__part(count, VIT__PARTS, i, 64, &first, &n);
    m->kernels->sum_squares(&sums[i], g + first, n);
  }
  for (int i = 0; i < VIT__PARTS; i++) norm += sums[i];
  norm = sqrt(norm);
  if (limit >= 0 && norm > (double)limit) /* as PyTorch */
    m->kernels->scale(g, g, (float)((double)limit / (norm + 1e-6)), count);
  return norm;
}

static vit_result vit__check_step(const vit_optimizer *o, const vit_model *m,
    const vit_state *s, float rate) {
  const vit_optimizer_config *c = &o->config;
  vit_result r = vit__check_state(m, s);
  if (!r) r = vit__check_plain(m);
  if (!r)
    r = vit__check_setting("the learning rate", (double)rate, 0,
        (double)FLT_MAX, 0, "finite and at least 0");
  if (r) return r;
  if (!s->trains || s->grads.count != o->m.count ||
      m->params.count != o->m.count)
    return vit__fail(VIT_ERR_STATE,
        "this optimiser was made for %.0f parameters, the model has %.0f, the "
        "state %.0f gradients",
        (double)o->m.count, (double)m->params.count, (double)s->grads.count);
  if ((c->algorithm == VIT_SGD) != !o->v.block)
    return vit__fail(VIT_ERR_STATE,
        "this optimiser was made for %s; to change that, make another",
        o->v.block ? "Adam or AdamW" : "SGD");
  if (s->freeze == c->freeze) return VIT_OK;
  return vit__fail(VIT_ERR_STATE,
      "the optimiser's freeze is %d and the state's %d; set both the same",
      c->freeze, s->freeze);
}

/* Which group of fine-tuning a tensor is in: 0 the stem, l + 1 block l, depth
   + 1 the head; l is depth - 1 for the final norm, as timm has it. */
static int vit__group(const vit__row *row, int l, int depth) {
  if (row->init == VIT__INIT_HEAD || row->init == VIT__INIT_HEAD_BIAS)
    return depth + 1;
  return row->where == VIT__STEM ? 0 : l + 1;
}

VIT_DEF vit_result vit_optimizer_step(
    vit_optimizer *o, vit_model *m, vit_state *s, float rate) {
  const vit_optimizer_config *c = &o->config;
  const int parts = vit__parts(m), threads = vit__threads(parts);
  const int sgd = c->algorithm == VIT_SGD, step = o->step + 1;
  const int depth = m->config.depth;
  const vit_adam_constants constants = {rate, c->beta1, c->beta2, c->eps, 0,
      (float)(1 - pow((double)c->beta1, step)),
      (float)(1 - pow((double)c->beta2, step)), c->algorithm == VIT_ADAMW};
  const vit_kernels *k = m->kernels;
  const vit_idx stride = (vit_idx)m->params.layer_stride;
  float *w = m->params.block, *g = s->grads.block;
  float *mean = o->m.block, *square = o->v.block;
  vit__row rows[VIT__ROWS];
  vit_result r = vit__check_step(o, m, s, rate);
  if (r) return r;
  o->norm = vit_clip_gradients(m, s, c->clip_norm > 0 ? c->clip_norm : FLT_MAX);
  if (!VIT__IS_WITHIN(o->norm, 0, (double)FLT_MAX)) /* the weights wait */
    return vit__fail(VIT_ERR_DIVERGED,
        "the gradient's norm in step %d is %g: training diverged; the weights "
        "are as before; a smaller learning rate may help",
        step, fabs(o->norm));
  o->step = step;
  vit__table(&m->config, 0, rows);
  VIT__PARALLEL_FOR
  for (int part = 0; part < parts; part++) { /* its part of each tensor */
    vit_adam_constants a = constants;
    vit_idx tensor = 0; /* where it stands, in layer 0 */
    for (const vit__row *row = rows; row < rows + VIT__ROWS; row++) {
      const int end = row->where == VIT__STEM ? 1 : depth; /* of its layers */
      int first, n, l = row->where == VIT__TAIL ? depth - 1 : 0;
      vit__part((int)row->count, parts, part, 64, &first, &n);
      a.decay = row->decay || c->decay_all ? c->weight_decay : 0;
      for (; n > 0 && l < end; l++) {
        const vit_idx at = tensor + first + l * stride;
        const int group = vit__group(row, l, depth);
        if (group < c->freeze) continue;
        if (c->layer_decay > 0)
          a.rate = rate * powf(c->layer_decay, (float)(depth + 1 - group));
        if (sgd)
          k->sgd_step(
              w + at, mean + at, g + at, n, a.rate, c->momentum, a.decay);
        else k->adam_step(w + at, mean + at, square + at, g + at, n, &a);
      }
      tensor += (vit_idx)row->count;
    }
  }
  return VIT_OK;
}

/* -- schedules ----------------------------------------------------------- */

VIT_DEF vit_schedule vit_schedule_constant(float highest) {
  vit_schedule c;
  VIT_SCHEDULE_FIELDS(VIT__START)
  return c;
}

/* What the plateau has made of the rate: factor * factor * ... */
static float vit__plateau_scale(const vit_schedule *s, int lowered) {
  float scale = 1;
  while (lowered-- > 0) scale *= s->factor;
  return scale;
}

/* Warm-up as in Hugging Face's get_linear_schedule_with_warmup: step 0 has
   rate 0. */
VIT_DEF float vit_schedule_rate(
    const vit_schedule *s, const vit_plateau *p, int step) {
  const double rate = (double)s->rate, floor = (double)s->floor;
  const int falls = s->kind == VIT_LINEAR || s->kind == VIT_COSINE;
  double part;
  if (s->kind == VIT_PLATEAU)
    return (float)fmax(
        floor, p ? rate * (double)vit__plateau_scale(s, p->lowered) : rate);
  if (s->kind == VIT_STEP && s->every > 0)
    return (float)(rate * pow((double)s->factor, step / s->every));
  if (falls && step < s->warmup) return (float)(rate * step / s->warmup);
  if (!falls || s->total <= s->warmup) return s->rate; /* no end is known */
  part = fmin((double)(step - s->warmup) / (double)(s->total - s->warmup), 1);
  if (s->kind == VIT_LINEAR)
    return (float)(floor + (rate - floor) * (1 - part));
  return (float)(floor + (rate - floor) * 0.5 * (1 + cos(VIT_PI * part)));
}

VIT_DEF int vit_plateau_observe(
    vit_plateau *p, const vit_schedule *s, double loss) {
  const float was = vit_schedule_rate(s, p, 0);
  if (s->kind != VIT_PLATEAU) return 0;
  if (loss == loss && (!p->started || loss < p->best)) { /* not NaN */
    p->started = 1, p->best = loss, p->waited = 0;
  } else if (++p->waited >= s->patience) {
    p->lowered++, p->waited = 0;
  }
  return vit_schedule_rate(s, p, 0) < was;
}

/* ------------------------------------------------------------------------ */
/*  >>09 mnist                                                              */
/* ------------------------------------------------------------------------ */

/* -- files that are replaced as a whole ---------------------------------- */

static void vit__free(void *p) {
  if (p) VIT_FREE(p);
}

/* Bytes or text that grow; a 0 follows the `used` ones. `failed`: no memory. */
typedef struct {
  char *at;
  size_t used, size;
  int failed;
} vit__text;

static void vit__text_free(vit__text *t) {
  vit__free(t->at);
  memset(t, 0, sizeof *t);
}

/* Append n bytes, or only make room for them; 0 if there is no memory. */
static int vit__text_add(vit__text *t, const void *more, size_t n) {
  if (!t->failed && t->size - t->used <= n) {
    const size_t size = t->size / 2 * 3 + n + 256;
    char *bigger = (char *)vit__allocate(size, 1, "what a file holds");
    if (bigger && t->at) memcpy(bigger, t->at, t->used);
    if (bigger) vit__free(t->at), t->at = bigger, t->size = size;
    t->failed = !bigger;
  }
  if (t->failed || !more) return !t->failed;
  memcpy(t->at + t->used, more, n);
  t->at[t->used += n] = '\0';
  return 1;
}

/* At most 500 bytes at a time. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
vit__text_print(vit__text *t, const char *format, ...) {
  char more[512];
  va_list args;
  va_start(args, format);
  vsnprintf(more, sizeof more, format, args);
  va_end(args);
  vit__text_add(t, more, strlen(more));
}

#ifdef __cplusplus
extern "C" {
#endif
#ifdef _WIN32 /* all of <windows.h> would be too much */
__declspec(dllimport) int __stdcall MoveFileExA(
    const char *from, const char *to, unsigned long flags);
#define VIT__OS(name)    _##name
#define VIT__MKDIR(path) _mkdir(path)
#define VIT__FLUSH(file) _commit(file)
/* 1: in the place of the other, 8: on the disk */
#define VIT__RENAME(a, b) (errno = EACCES, !MoveFileExA(a, b, 1 | 8))
#define VIT__NEW          _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY, 0600
#else /* POSIX, but hidden by <unistd.h> in strict C99 */
int fsync(int file);
#define VIT__OS(name)     name
#define VIT__MKDIR(path)  mkdir(path, 0777)
#define VIT__FLUSH(file)  fsync(file)
#define VIT__RENAME(a, b) rename(a, b)
#define VIT__NEW          O_WRONLY | O_CREAT | O_EXCL, 0666
#endif
#ifdef __cplusplus
}
#endif

/* The pieces, one after another, become the file PATH, as described at
   vit_safetensors_write. They are written to PATH.PROCESS-NUMBER.tmp, which
   this call has made: threads or processes that replace PATH at the same time
   have another, and what a crash left behind is passed over. */
typedef struct {
  const void *data;
  size_t size;
} vit__piece;
static vit_result vit__replace_file(
    const char *path, const vit__piece *pieces, int count) {
  char temporary[560], *slash;
  int file = -1, good, why;
  if (strlen(path) > 500)
    return vit__fail(VIT_ERR_FILE,
        "the file name %.100s... is longer than 500 characters", path);
  for (int i = 0; file < 0 && i < 10000 && (!i || errno == EEXIST); i++) {
    snprintf(temporary, sizeof temporary, "%s.%ld-%d.tmp", path,
        (long)VIT__OS(getpid)(), i);
    file = VIT__OS(open)(temporary, VIT__NEW);
  }
  if ((good = file >= 0)) errno = 0;
  for (int i = 0; good && i < count; i++)
    for (size_t at = 0; good && at < pieces[i].size;) {
      const char *p = (const char *)pieces[i].data + at;
      const size_t part = VIT__MIN(pieces[i].size - at, (size_t)1 << 28);
      const ptrdiff_t done = VIT__OS(write)(file, p, (unsigned)part);
      if (done > 0) at += (size_t)done;
      good = done > 0 || (done < 0 && errno == EINTR);
    }
  while (good && VIT__FLUSH(file)) good = errno == EINTR;
  if (file >= 0 && VIT__OS(close)(file)) good = 0;
  if (good && !VIT__RENAME(temporary, path)) {
    /* a name is on the disk when its folder is; Windows opens no folder */
    if ((slash = strrchr(temporary, '/'))) slash[1] = '\0';
    file = VIT__OS(open)(slash ? temporary : ".", O_RDONLY);
    if (file >= 0) (void)!VIT__FLUSH(file), VIT__OS(close)(file);
    return VIT_OK;
  }
  why = errno;
  if (file >= 0) remove(temporary);
  return vit__fail(VIT_ERR_FILE,
      "cannot write %.300s: %.100s; what was there before is still there", path,
      why ? strerror(why) : "the disk may be full");
}

/* A text becomes the file PATH, and is freed. */
static vit_result vit__write_text(vit__text *t, const char *path) {
  const vit__piece piece = {t->at, t->used};
  const vit_result r =
      t->failed ? VIT_ERR_NO_MEMORY : vit__replace_file(path, &piece, 1);
  return vit__text_free(t), r;
}

VIT_DEF vit_result vit_make_dir(const char *dir) {
  char path[512];
  const size_t n = strlen(dir);
  struct stat info;
  int why = ENOTDIR; /* or the first other thing that went wrong */
  if (n == 0 || n >= sizeof path)
    return vit__fail(VIT_ERR_FILE,
        "a folder's name has %.0f characters; it must have 1 to 511",
        (double)n);
  for (size_t i = 1; i <= n; i++) {
    if (dir[i] != '/' && dir[i] != '\0') continue;
    snprintf(path, i + 1, "%s", dir);
    if (VIT__MKDIR(path) && errno != EEXIST && why == ENOTDIR) why = errno;
  }
  if (!stat(dir, &info) && S_ISDIR(info.st_mode)) return VIT_OK;
  return vit__fail(VIT_ERR_FILE, "cannot make the folder %.200s: %.100s", dir,
      strerror(why));
}

/* The whole file in memory; free it with VIT_FREE. */
static vit_result vit__read_file(
    const char *path, unsigned char **bytes, size_t *size) {
  vit_result r = VIT_OK;
  long length = -1;
  FILE *f = fopen(path, "rb");
  *bytes = NULL;
  if (!f)
    return vit__fail(
        VIT_ERR_FILE, "cannot open %.200s: %.100s", path, strerror(errno));
  if (!fseek(f, 0, SEEK_END)) length = ftell(f);
  *size = (size_t)length;
  if (length < 0 || length == LONG_MAX || fseek(f, 0, SEEK_SET))
    r = vit__fail(
        VIT_ERR_FILE, "cannot read %.200s: it is not a plain file", path);
  else if (!(*bytes = (unsigned char *)vit__allocate(*size, 1, path)))
    r = VIT_ERR_NO_MEMORY;
  else if (fread(*bytes, 1, *size, f) != *size)
    r = vit__fail(VIT_ERR_FILE, "cannot read all %.0f bytes of %.200s",
        (double)*size, path);
  fclose(f);
  if (r) vit__free(*bytes), *bytes = NULL;
  return r;
}

/* -- gzip ---------------------------------------------------------------- */

/* A number of some bytes, the highest one first (big) or last. */
static uint32_t vit__number(const unsigned char *p, int bytes, int big) {
  uint32_t n = 0;
  for (int i = 0; i < bytes; i++) n = n << 8 | p[big ? i : bytes - 1 - i];
  return n;
}

#ifdef STBI_INCLUDE_STB_IMAGE_H
/* CRC-32 of gzip (RFC 1952, section 8) and PNG. */
static uint32_t vit__crc32(const unsigned char *p, size_t n) {
  uint32_t table[256], crc = 0xFFFFFFFFu;
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
    table[i] = c;
  }
  for (size_t i = 0; i < n; i++) crc = table[(crc ^ p[i]) & 255] ^ crc >> 8;
  return ~crc;
}

/* Length of the gzip header at p (RFC 1952, section 2.3); 0 if it is none. */
static size_t vit__gzip_header(const unsigned char *p, size_t size) {
  size_t at = 10;
  if (size < 18 || memcmp(p, "\x1F\x8B\x08", 3) || p[3] & 0xE0) return 0;
  if (p[3] & 4) at += 2 + (size_t)(p[10] | p[11] << 8); /* extra field */
  for (int bit = 8; bit <= 16; bit *= 2) /* name, comment: end with a zero */
    for (int more = p[3] & bit; more; at++) more = at < size && p[at];
  if (p[3] & 2) at += 2; /* checksum of the header */
  return at + 8 <= size ? at : 0;
}

/* Inflate the member of a gzip file that begins at p, behind what `out` holds.
   stb_image tells how many bytes that gives, but not how many it took: the
   member ends at the trailer of 8 bytes that names their checksum and number,
   and behind which nothing is but zeros, with which tar fills up, and another
   member. Returns the bytes from p to there; 0 if it is damaged. When it gives
   more than `room` bytes, it is done again with more room. */
static size_t vit__gunzip_member(
    vit__text *out, const unsigned char *p, size_t size, size_t room) {
  /* a byte of deflate gives at most 1032 bytes */
  const size_t most = 1032 * VIT__MIN(size, INT_MAX / 2 / 1032);
  size_t at = vit__gzip_header(p, size), next; /* it has been found before */
  uint32_t crc;
  int n = -1;
  for (; n < 0; room *= 2) {
    room = VIT__MIN(room, most);
    if (!vit__text_add(out, NULL, room)) return 0;
    n = stbi_zlib_decode_noheader_buffer(
        out->at + out->used, (int)room, (const char *)p + at, (int)(size - at));
    if (n < 0 && room == most) return 0;
  }
  crc = vit__crc32((unsigned char *)out->at + out->used, (size_t)n);
  out->used += (size_t)n;
  for (; at + 8 <= size; at++) {
    if (vit__number(p + at, 4, 0) != crc) continue;
    if (vit__number(p + at + 4, 4, 0) != (uint32_t)n) continue;
    for (next = at + 8; next < size && !p[next];) next++;
    if (next == size || vit__gzip_header(p + next, size - next)) return next;
    at = next - 8; /* what ends in these zeros has nothing else behind it */
  }
  return 0;
}
#endif

/* If the file is gzip, replace its bytes by the unpacked ones. */
static vit_result vit__gunzip(
    const char *path, unsigned char **bytes, size_t *size) {
  if (*size < 2 || (*bytes)[0] != 0x1F || (*bytes)[1] != 0x8B) return VIT_OK;
#ifndef STBI_INCLUDE_STB_IMAGE_H
  return vit__fail(VIT_ERR_FORMAT,
      "%.200s is compressed; unpack it with gunzip, or define "
      "STB_IMAGE_IMPLEMENTATION and include stb_image.h before vit.h",
      path);
#else
  const unsigned char *p = *bytes;
  const size_t n = *size;
  const uint32_t last = n < 18 ? 0 : vit__number(p + n - 4, 4, 0);
  size_t took = 1;
  vit__text out = {NULL, 0, 0, 0};
  if (!vit__gzip_header(p, n) || last / 1032 > n)
    return vit__fail(VIT_ERR_FORMAT, "%.200s is a damaged gzip file", path);
  if (n > INT_MAX / 2 || last > INT_MAX / 2)
    return vit__fail(VIT_ERR_FORMAT,
        "%.200s is too large to be unpacked here; unpack it with gunzip", path);
  for (size_t at = 0; took && at < n; at += took)
    took = vit__gunzip_member(&out, p + at, n - at, last | 0xFFFF);
  VIT_FREE(*bytes);
  *bytes = (unsigned char *)out.at; /* the caller's, damaged or not */
  *size = out.used;
  if (took) return VIT_OK;
  if (out.failed) return VIT_ERR_NO_MEMORY;
  return vit__fail(VIT_ERR_FORMAT,
      "%.200s is damaged: its bytes do not give the %u bytes or the checksum "
      "that it promises; get it again",
      path, (unsigned)last);
#endif
}

/* -- datasets: IDX files and MNIST --------------------------------------- */

/* The values of an IDX file of bytes with so many dimensions, which become
   shape. The caller frees them, on failure too. */
static vit_result vit__read_idx(
    const char *path, int dims, int *shape, uint8_t **values) {
  const size_t header = 4 + 4 * (size_t)dims;
  double expected = 1;
  size_t size = 0;
  uint32_t magic;
  vit_result r = vit__read_file(path, values, &size);
  if (!r) r = vit__gunzip(path, values, &size);
  if (r) return r;
  if (size >= 4 && size < header)
    return vit__fail(VIT_ERR_FORMAT,
        "%.200s is cut off: it has %.0f bytes, its header alone needs %.0f",
        path, (double)size, (double)header);
  magic = size < 4 ? 0 : vit__number(*values, 4, 1);
  if (magic != 0x800u + (uint32_t)dims)
    return vit__fail(VIT_ERR_FORMAT,
        "%.200s is not an IDX file of %s: it starts with %u instead of %u",
        path, dims == 3 ? "images" : "labels", magic, 0x800u + (unsigned)dims);
  for (int d = 0; d < dims; d++) {
    const uint32_t n = vit__number(*values + 4 + 4 * d, 4, 1);
    const uint32_t most = d ? 4096 : 100000000;
    if (n < 1 || n > most)
      return vit__fail(VIT_ERR_FORMAT,
          "%.200s says its dimension %d is %u; it must be from 1 to %u", path,
          d, n, most);
    shape[d] = (int)n;
    expected *= n;
  }
  size -= header;
  if ((double)size != expected)
    return vit__fail(VIT_ERR_FORMAT,
        "%.200s should hold %.0f bytes after its header, but holds %.0f; get "
        "it again",
        path, expected, (double)size);
  memmove(*values, *values + header, size);
  return VIT_OK;
}

enum { VIT__MOST_CLASSES = 256 }; /* a label is one byte */

VIT_DEF vit_result vit_dataset_idx(
    vit_dataset *d, const char *images, const char *labels, int classes) {
  int shape[3] = {0, 0, 0};
  vit_result r;
  memset(d, 0, sizeof *d);
  if (classes < 1 || classes > VIT__MOST_CLASSES)
    return vit__fail(
        VIT_ERR_CONFIG, "classes is %d; it must be from 1 to 256", classes);
  r = vit__read_idx(images, 3, shape, &d->pixels);
  if (!r) r = vit__read_idx(labels, 1, &d->count, &d->labels);
  if (!r && d->count != shape[0])
    r = vit__fail(VIT_ERR_FORMAT,
        "%.150s holds %d images, but %.150s holds %d labels", images, shape[0],
        labels, d->count);
  for (int i = 0; !r && i < d->count; i++)
    if (d->labels[i] >= classes)
      r = vit__fail(VIT_ERR_FORMAT,
          "label %d of image %d in %.200s is not a class from 0 to %d",
          d->labels[i], i, labels, classes - 1);
  d->channels = 1, d->height = shape[1], d->width = shape[2];
  d->classes = classes;
  for (int c = 0; c < 3; c++) d->std[c] = 1;
  snprintf(d->source, sizeof d->source, "%.250s", images);
  if (r) vit_dataset_free(d);
  return r;
}

/* The folder of the data: dir, or VIT_DATA, or ./data; NULL with a sentence if
   its name is too long. */
static const char *vit__data_dir(const char *dir) {
  if (!dir) dir = getenv("VIT_DATA");
  if (!dir || !*dir) dir = "data";
  if (strlen(dir) <= 200) return dir;
  vit__fail(VIT_ERR_FILE,
      "the name of the folder of the data has %.0f characters; it must have at "
      "most 200",
      (double)strlen(dir));
  return NULL;
}

/* DIR/FOLDER/NAME or DIR/FOLDER/NAME.gz, where it is. */
static int vit__find_data(
    char path[300], const char *dir, const char *folder, const char *name) {
  FILE *f = NULL;
  for (int packed = 0; !f && packed < 2; packed++) {
    snprintf(path, 300, "%s%s/%s%s", dir, folder, name, packed ? ".gz" : "");
    f = fopen(path, "rb");
  }
  return f && !fclose(f);
}

/* What these images are, by their labels: MNIST's are known, and data/digits.c
   draws each digit once among every ten, in an order that changes. */
static const char *vit__digits_name(const vit_dataset *d, int train) {
  const char *known = train ? "\5\0\4\1\11\2\1\3" : "\7\2\1\0\4\1\4\11";
  int mixed = d->count >= 20 && memcmp(d->labels, d->labels + 10, 10) != 0;
  if (d->count >= 8 && !memcmp(d->labels, known, 8)) return "MNIST";
  for (int i = 0, seen = 0; i < d->count / 10 * 10; i++) {
    seen = (i % 10 ? seen : 0) | 1 << d->labels[i];
    if (i % 10 == 9 && seen != 1023) mixed = 0;
  }
  return mixed ? "drawn digits (not MNIST)"
               : "images in MNIST's files (not MNIST)";
}

VIT_DEF vit_result vit_dataset_mnist(
    vit_dataset *d, const char *dir, vit_split split) {
  static const char *const folders[] = {"/mnist", "", "/digits"};
  const char *stem = split == VIT_TRAIN ? "train" : "t10k";
  char name[40], images[300], labels[300];
  int i = 0;
  vit_result r;
  memset(d, 0, sizeof *d);
  if (!(dir = vit__data_dir(dir))) return VIT_ERR_FILE;
  snprintf(name, sizeof name, "%s-images-idx3-ubyte", stem);
  while (i < 3 && !vit__find_data(images, dir, folders[i], name)) i++;
  if (i == 3)
    return vit__fail(VIT_ERR_FILE,
        "found no %s (or .gz) in %.120s/mnist, %.120s or %.120s/digits; run "
        "`make data` in vit.h's folder and set VIT_DATA to its data/",
        name, dir, dir, dir);
  snprintf(name, sizeof name, "%s-labels-idx1-ubyte", stem);
  if (!vit__find_data(labels, dir, folders[i], name))
    return vit__fail(VIT_ERR_FILE,
        "found %.250s, but not its labels %s (or .gz)", images, name);
  r = vit_dataset_idx(d, images, labels, 10);
  if (!r)
    snprintf(d->source, sizeof d->source, "%s, %d %s images of %d x %d, %.150s",
        vit__digits_name(d, split == VIT_TRAIN), d->count,
        split == VIT_TRAIN ? "training" : "test", d->height, d->width, images);
  return r;
}

VIT_DEF void vit_dataset_free(vit_dataset *d) {
  vit__free(d->pixels), vit__free(d->labels), vit__free(d->names);
  memset(d, 0, sizeof *d);
}

VIT_DEF void vit_dataset_limit(vit_dataset *d, int n) {
  if (n > 0 && n < d->count) d->count = n;
}

VIT_DEF const char *vit_class_name(const vit_dataset *d, int k) {
  static VIT__THREAD_LOCAL char numbers[1024][12];
  if (k < 0 || k >= d->classes) return "?";
  if (d->names) return d->names[k];
  snprintf(numbers[k % 1024], sizeof numbers[0], "%d", k);
  return numbers[k % 1024];
}

/* Room for the names of d->classes classes, all "". */
static vit_result vit__allocate_names(vit_dataset *d) {
  const size_t size = (size_t)d->classes * VIT_NAME_SIZE;
  void *names = vit__allocate(size, 1, "the names of the classes");
  if (names) memset(names, 0, size);
  d->names = (char(*)[VIT_NAME_SIZE])names;
  return names ? VIT_OK : VIT_ERR_NO_MEMORY;
}

/* Bytes of one image. */
static size_t vit__image_size(const vit_dataset *d) {
  return (size_t)d->channels * (size_t)d->height * (size_t)d->width;
}

/* Room for `count` images of d's sizes. */
static vit_result vit__allocate_images(vit_dataset *d, int count) {
  const size_t n = (size_t)count;
  d->pixels = (uint8_t *)vit__allocate(n, vit__image_size(d), "the images");
  if (d->pixels) d->labels = (uint8_t *)vit__allocate(n, 1, "the labels");
  return d->labels ? VIT_OK : VIT_ERR_NO_MEMORY;
}

VIT_DEF void vit_dataset_batch(
    const vit_dataset *d, const int *order, int n, float *images, int *labels) {
  const vit_idx plane = (vit_idx)d->height * d->width, C = d->channels;
  for (vit_idx c = 0; c < C; c++) {
    float value[256]; /* what each grey level becomes */
    for (int v = 0; v < 256; v++)
      value[v] = ((float)v / 255.0f - d->mean[c % 3]) / d->std[c % 3];
    for (vit_idx i = 0; i < n; i++) {
      const uint8_t *p = d->pixels + (order[i] * C + c) * plane;
      float *to = images + (i * C + c) * plane;
      for (vit_idx j = 0; j < plane; j++) to[j] = value[p[j]];
    }
  }
  for (vit_idx i = 0; labels && i < n; i++) labels[i] = d->labels[order[i]];
}

/* Does a dataset fit a model? */
static vit_result vit__check_dataset(
    const vit_model *m, const vit_dataset *d, const char *what) {
  const vit_config *c = &m->config;
  vit_result r = vit__check_model(m);
  if (r) return r;
  if (d->count < 1)
    return vit__fail(VIT_ERR_CONFIG, "the %s set is empty", what);
  if (d->channels != c->channels || d->height != c->image_height ||
      d->width != c->image_width)
    return vit__fail(VIT_ERR_CONFIG,
        "the %s images are %d x %d x %d (channels, height, width), the model "
        "wants %d x %d x %d%s",
        what, d->channels, d->height, d->width, c->channels, c->image_height,
        c->image_width,
        d->channels != c->channels ? "" : "; vit_dataset_resize can help");
  for (int k = 0; k < VIT__MIN(d->channels, 3); k++)
    if (!VIT__IS_FINITE(d->mean[k]) || !VIT__IS_FINITE(d->std[k]) ||
        d->std[k] <= 0)
      return vit__fail(VIT_ERR_CONFIG,
          "mean and std of channel %d of the %s set are %g and %g; mean must "
          "be finite, std finite and above 0 (0 and 1 for none)",
          k, what, (double)d->mean[k], (double)d->std[k]);
  if (d->classes > c->classes)
    return vit__fail(VIT_ERR_CONFIG,
        "the %s set has %d classes, the model only %d", what, d->classes,
        c->classes);
  return VIT_OK;
}

/* How many of `held` images each class gives, in proportion to counts, whose
   sum is `all`: rounded down; what is left goes to the largest remainders. */
static void vit__set_quotas(int *quotas, const int *counts, int held, int all) {
  int64_t rest[VIT__MOST_CLASSES];
  int left = held, most;
  for (int k = 0; k < VIT__MOST_CLASSES; k++) {
    rest[k] = (int64_t)held * counts[k];
    quotas[k] = (int)(rest[k] / all);
    rest[k] %= all;
    left -= quotas[k];
  }
  for (; left > 0; left--, quotas[most]++, rest[most] = 0)
    for (int k = most = 0; k < VIT__MOST_CLASSES; k++)
      if (rest[k] > rest[most]) most = k;
}

VIT_DEF vit_result vit_dataset_split(
    vit_dataset *d, int held_back, uint64_t seed, vit_dataset *held) {
  int counts[VIT__MOST_CLASSES] = {0}, quotas[VIT__MOST_CLASSES];
  vit_rng rng = vit_rng_create(seed, VIT__SALT_SPLIT);
  const vit_idx size = (vit_idx)vit__image_size(d);
  const vit_dataset all = *d;
  vit_result r;
  *held = all;
  held->pixels = held->labels = NULL, held->names = NULL;
  held->count = held->skipped = held->enlarged = 0;
  if (held_back < 1 || held_back >= all.count)
    r = vit__fail(VIT_ERR_CONFIG,
        "cannot hold back %d of %d images; it must be at least 1, and at least "
        "1 must stay",
        held_back, all.count);
  else r = vit__allocate_images(held, held_back);
  if (!r && all.names) r = vit__allocate_names(held);
  if (r) return vit_dataset_free(held), r;
  for (int k = 0; all.names && k < all.classes; k++)
    memcpy(held->names[k], all.names[k], VIT_NAME_SIZE);
  for (int i = 0; i < all.count; i++) counts[all.labels[i]]++;
  vit__set_quotas(quotas, counts, held_back, all.count);
  d->count = 0;
  for (int i = 0; i < all.count; i++) {
    /* Knuth's selection sampling: of the images of a class that are still to
       come, each is as likely to be taken. */
    const int k = all.labels[i];
    const uint32_t at = vit_random_below(&rng, (uint32_t)counts[k]--);
    vit_dataset *to = at < (uint32_t)quotas[k] ? held : d;
    quotas[k] -= to == held;
    memmove(to->pixels + to->count * size, all.pixels + i * size, (size_t)size);
    to->labels[to->count++] = (uint8_t)k;
  }
  snprintf(held->source, sizeof held->source, "%d of %d held back from %.200s",
      held->count, all.count, all.source);
  snprintf(d->source, sizeof d->source, "%d of %d left of %.200s", d->count,
      all.count, all.source);
  return VIT_OK;
}

VIT_DEF vit_result vit_dataset_normalize(
    vit_dataset *d, const vit_dataset *from) {
  const vit_idx plane = (vit_idx)from->height * from->width;
  const double all = (double)from->count * (double)plane;
  if (d->channels != from->channels || d->channels > 3 || from->count < 1)
    return vit__fail(VIT_ERR_CONFIG,
        "cannot normalise images of %d channels by %d images of %d; the "
        "channels must agree, 1 to 3 of them",
        d->channels, from->count, from->channels);
  for (int c = 0; c < from->channels; c++) {
    uint64_t counts[256] = {0}; /* of each value: exact */
    double mean = 0, variance = 0;
    for (vit_idx i = 0; i < from->count; i++) {
      const uint8_t *p = from->pixels + (i * from->channels + c) * plane;
      for (vit_idx j = 0; j < plane; j++) counts[p[j]]++;
    }
    for (int v = 0; v < 256; v++) mean += (double)counts[v] * v / all;
    for (int v = 0; v < 256; v++)
      variance += (double)counts[v] * (v - mean) * (v - mean) / all;
    d->mean[c] = (float)(mean / 255);
    /* one value everywhere gives a variance of 0, but for rounding */
    d->std[c] = variance > 1e-9 ? (float)(sqrt(variance) / 255) : 1;
  }
  return VIT_OK;
}

/* -- augmentation: one image --------------------------------------------- */

VIT_DEF int vit_augment_field(vit_augment *a, int i, const char **name,
    const char **text, float **value) {
#define VIT__GIVE(field, largest, meaning)                                     \
  if (i-- == 0) return *name = #field, *text = meaning, *value = &a->field, 1;
  VIT_AUGMENT_FIELDS(VIT__GIVE)
  return 0;
}

VIT_DEF vit_result vit_augment_check(const vit_augment *a) {
#define VIT__LIMIT(field, largest, meaning)                                    \
  if (!VIT__IS_WITHIN(a->field, 0, largest))                                   \
    return vit__fail(VIT_ERR_CONFIG,                                           \
        "augmentation: %s is %g; it must be from 0 to %d", #field,             \
        (double)a->field, largest);
  VIT_AUGMENT_FIELDS(VIT__LIMIT)
  if (a->rand_ops != floorf(a->rand_ops))
    return vit__fail(VIT_ERR_CONFIG,
        "augmentation: rand_ops is %g; it must be a whole number",
        (double)a->rand_ops);
  if (a->rand_ops > 0 && !(a->rand_strength > 0))
    return vit__fail(VIT_ERR_CONFIG,
        "augmentation: rand_ops is %g, but rand_strength is 0 and changes "
        "nothing; set it to 1 to 10",
        (double)a->rand_ops);
  if (!a->image != !(a->name && *a->name))
    return vit__fail(VIT_ERR_CONFIG,
        "augmentation: there is %s; set image, a function of your own, and "
        "name, by which a resume knows it, both or neither",
        a->image ? "a function without a name" : "a name without a function");
  return VIT_OK;
}

/* What was drawn for one image. Where each pixel of the output comes from: its
   (x, y), measured from the centre in half widths and half heights, becomes
   from * (x, y, 1) in the input. */
typedef struct {
  double from[2][3];
  int moves; /* `from` is not the identity */
  float brightness, contrast;
  int erases;
} vit__draw;

/* First (x, y) -> (xx x + xy y + x0, yx x + yy y + y0), then the old `from`. */
static void vit__move(vit__draw *w, double xx, double xy, double yx, double yy,
    double x0, double y0) {
  for (int i = 0; i < 2; i++) {
    double *to = w->from[i], a = to[0], b = to[1];
    to[0] = a * xx + b * yx;
    to[1] = a * xy + b * yy;
    to[2] = a * x0 + b * y0 + to[2];
  }
  w->moves = 1;
}

static void vit__turn(vit__draw *w, double degrees, double aspect) {
  double c = cos(degrees * VIT_PI / 180), s = sin(degrees * VIT_PI / 180);
  vit__move(w, c, -s / aspect, s * aspect, c, 0, 0);
}

/* -most .. most */
static double vit__spread(vit_rng *rng, double most) {
  return most * (2 * (double)vit_random_uniform(rng) - 1);
}

/* RandAugment (Cubuk et al. 2020): one of these at a given strength, 0..1. */
static void vit__random_change(
    vit__draw *w, double strength, double aspect, vit_rng *rng) {
  const uint32_t which = vit_random_below(rng, 10);
  const double v = vit_random_u32(rng) & 1 ? strength : -strength;
  const double s = v > 0 ? 1 + 0.5 * v : 1 / (1 - 0.5 * v);
  if (which == 0) return; /* as it is */
  if (which == 1) vit__turn(w, 30 * v, aspect);
  if (which == 2) vit__move(w, 1, 0.3 * v / aspect, 0, 1, 0, 0);
  if (which == 3) vit__move(w, 1, 0, 0.3 * v * aspect, 1, 0, 0);
  if (which == 4) vit__move(w, 1, 0, 0, 1, 0.9 * v, 0);
  if (which == 5) vit__move(w, 1, 0, 0, 1, 0, 0.9 * v);
  if (which == 6) vit__move(w, s, 0, 0, s, 0, 0);
  if (which == 7) w->brightness *= (float)(1 + 0.9 * v);
  if (which == 8) w->contrast *= (float)(1 + 0.9 * v);
  if (which == 9 && strength > 0) w->erases = 1;
}

static vit__draw vit__draw_changes(
    const vit_augment *a, const vit_dataset *d, vit_rng *rng) {
  const double aspect = (double)d->width / d->height;
  vit__draw w = {{{1, 0, 0}, {0, 1, 0}}, 0, 1, 1, 0};
  double v;
  if (a->crop > 0) {
    /* Random resized crop (Szegedy et al. 2015): a part of the area from `crop`
       to 1, its sides 3:4 to 4:3 or, where that is too long, as the image's. */
    const double least = a->crop;
    const double area = least + (1 - least) * (double)vit_random_uniform(rng);
    const double ratio = exp(vit__spread(rng, log(4.0 / 3)));
    const double sy = fmin(area / fmin(sqrt(area * ratio), 1), 1);
    const double sx = area / sy;
    v = vit__spread(rng, 1 - sx);
    vit__move(&w, sx, 0, 0, sy, v, vit__spread(rng, 1 - sy));
  }
  if (a->shift > 0) {
    v = vit__spread(rng, 2 * (double)a->shift);
    vit__move(&w, 1, 0, 0, 1, v, vit__spread(rng, 2 * (double)a->shift));
  }
  if (a->rotate > 0) vit__turn(&w, vit__spread(rng, a->rotate), aspect);
  if (a->scale > 0) {
    v = exp(vit__spread(rng, log(1 + (double)a->scale)));
    vit__move(&w, v, 0, 0, v, 0, 0);
  }
  if (a->shear > 0) {
    v = tan(vit__spread(rng, a->shear) * VIT_PI / 180);
    vit__move(&w, 1, v / aspect, 0, 1, 0, 0);
  }
  if (vit_random_uniform(rng) < a->flip) vit__move(&w, -1, 0, 0, 1, 0, 0);
  if (vit_random_uniform(rng) < a->flip_vertical)
    vit__move(&w, 1, 0, 0, -1, 0, 0);
  w.brightness += (float)vit__spread(rng, a->brightness);
  w.contrast += (float)vit__spread(rng, a->contrast);
  w.erases = vit_random_uniform(rng) < a->erase;
  for (int i = 0; i < (int)a->rand_ops; i++)
    vit__random_change(&w, (double)a->rand_strength / 10, aspect, rng);
  return w;
}

/* out[x][y] = sum over i of weight[|y - i|] in[i][x]: along the columns, and
   turned round, so that the same once more goes along the rows. in [h,w],
   out [w,h]. Four columns at a time: where fewer are left, up to three floats
   behind `in` are read, and not used. */
static void vit__smooth(
    float *out, const float *in, int h, int w, const float *weight, int reach) {
  for (int x = 0; x < w; x += 4)
    for (int y = 0; y < h; y++) {
      const int last = VIT__MIN(y + reach, h - 1);
      float sum[4] = {0, 0, 0, 0};
      for (int i = y > reach ? y - reach : 0; i <= last; i++) {
        const float *p = in + i * (vit_idx)w + x, f = weight[abs(i - y)];
        for (int j = 0; j < 4; j++) sum[j] += f * p[j];
      }
      for (int j = 0; j < VIT__MIN(4, w - x); j++)
        out[(x + j) * (vit_idx)h + y] = sum[j];
    }
}

/* Elastic bending (Simard et al. 2003, section 2): each pixel gets a random
   displacement, and a Gaussian makes neighbours alike. The factor at the end
   gives them the standard deviation `elastic`: uniform numbers of -1..1 have
   sqrt(1/3), and the Gaussian leaves 1/(2 sqrt(pi) width) of it. Both [h,w]. */
static void vit__bend(float *field, float *room, const vit_dataset *d,
    const vit_augment *a, vit_rng *rng) {
  const double width = a->elastic_width > 0 ? (double)a->elastic_width : 4;
  const int reach = VIT__MIN((int)ceil(2.5 * width), 63);
  const int h = d->height, w = d->width, n = h * w;
  const float factor =
      (float)((double)a->elastic * sqrt(3.0) * 2 * sqrt(VIT_PI) * width);
  float weight[64], sum = 0;
  for (int i = 0; i <= reach; i++) {
    weight[i] = (float)exp(-0.5 * i * i / (width * width));
    sum += i ? 2 * weight[i] : weight[i];
  }
  for (int i = 0; i <= reach; i++) weight[i] /= sum;
  vit_best_kernels()->uniform(room, n, rng->key, rng->stream, rng->index);
  rng->index += (uint32_t)n;
  for (int i = 0; i < n; i++) room[i] = 2 * room[i] - 1;
  vit__smooth(field, room, h, w, weight, reach);
  vit__smooth(room, field, w, h, weight, reach);
  for (int i = 0; i < n; i++) field[i] = factor * room[i];
}

/* Grey levels of the moved and bent picture, each from a place between four
   pixels of the input; outside, that goes on as it is at its edge. bend
   [2,height,width] or NULL. */
static void vit__warp(float *out, const uint8_t *pixels, const vit_dataset *d,
    const double from[2][3], const float *bend) {
  const vit_idx h = d->height, w = d->width, size[2] = {w, h};
  for (vit_idx y = 0, i = 0; y < h; y++)
    for (vit_idx x = 0; x < w; x++, i++) {
      const double u = (double)(2 * x + 1 - w) / (double)w; /* -1 .. 1 */
      const double v = (double)(2 * y + 1 - h) / (double)h;
      const uint8_t *p = pixels;
      vit_idx a[2], b[2]; /* the pixels before and behind that place */
      float f[2];
      for (int axis = 0; axis < 2; axis++) {
        const double *m = from[axis], n = (double)size[axis];
        double at = ((m[0] * u + m[1] * v + m[2]) * n + n - 1) / 2;
        if (bend) at += (double)bend[axis * h * w + i];
        at = at > 0 ? at < n - 1 ? at : n - 1 : 0;
        a[axis] = (vit_idx)at, f[axis] = (float)(at - (double)a[axis]);
        b[axis] = VIT__MIN(a[axis] + 1, size[axis] - 1);
      }
      for (vit_idx c = 0; c < d->channels; c++, p += h * w) {
        const uint8_t *up = p + a[1] * w, *down = p + b[1] * w;
        float top = (float)up[a[0]] * (1 - f[0]) + (float)up[b[0]] * f[0];
        float low = (float)down[a[0]] * (1 - f[0]) + (float)down[b[0]] * f[0];
        out[c * h * w + i] = top * (1 - f[1]) + low * f[1];
      }
    }
}

/* Images a and b exchange a box of a part `area` of each, its sides 1 : ratio,
   anywhere; without b it becomes 0. Returns the part that it really has. */
static float vit__exchange(float *a, float *b, const vit_dataset *d,
    double area, double ratio, vit_rng *rng) {
  const int h = d->height, w = d->width;
  const int box_w = VIT__MIN((int)(sqrt(area / ratio) * w + 0.5), w);
  const int box_h = VIT__MIN((int)(sqrt(area * ratio) * h + 0.5), h);
  const int x0 = (int)vit_random_below(rng, (uint32_t)(w - box_w) + 1);
  const int y0 = (int)vit_random_below(rng, (uint32_t)(h - box_h) + 1);
  for (vit_idx c = 0; c < d->channels; c++)
    for (int y = y0; y < y0 + box_h; y++)
      for (int x = x0; x < x0 + box_w; x++) {
        const vit_idx i = (c * h + y) * w + x;
        const float from_b = b ? b[i] : 0;
        if (b) b[i] = a[i];
        a[i] = from_b;
      }
  return (float)(box_w * box_h) / (float)(h * w);
}

VIT_DEF size_t vit_augment_scratch(const vit_dataset *d) {
  return 3 * (size_t)d->height * (size_t)d->width + 3; /* see vit__smooth */
}

VIT_DEF void vit_augment_image(float *out, const vit_dataset *d, int index,
    const vit_augment *a, vit_rng *rng, float *scratch) {
  const vit_idx plane = (vit_idx)d->height * d->width, n = plane * d->channels;
  const uint8_t *pixels = d->pixels + index * n;
  const vit__draw draw = vit__draw_changes(a, d, rng);
  const int bends = a->elastic > 0;
  double sum = 0;
  float mean;
  for (int axis = 0; bends && axis < 2; axis++)
    vit__bend(scratch + axis * plane, scratch + 2 * plane, d, a, rng);
  if (draw.moves || bends)
    vit__warp(out, pixels, d, draw.from, bends ? scratch : NULL);
  else
    for (vit_idx i = 0; i < n; i++) out[i] = (float)pixels[i];
  if (draw.brightness != 1 || draw.contrast != 1) {
    /* Brightness multiplies, contrast stretches from the mean of all channels;
       both cut the levels off at 0 and 255. */
    for (vit_idx i = 0; i < n; i++) {
      out[i] = fminf(fmaxf(out[i] * draw.brightness, 0), 255);
      sum += (double)out[i];
    }
    mean = (float)(sum / (double)n);
    for (vit_idx i = 0; i < n; i++)
      out[i] = fminf(fmaxf(mean + draw.contrast * (out[i] - mean), 0), 255);
  }
  for (vit_idx c = 0; c < d->channels; c++)
    for (vit_idx i = c * plane; i < (c + 1) * plane; i++)
      out[i] = (out[i] / 255.0f - d->mean[c % 3]) / d->std[c % 3];
  if (draw.erases) {
    /* Random erasing (Zhong et al. 2020): 2 to 33 % of the area become the
       mean, which is 0 after normalising. */
    const double area = 0.02 + 0.31 * (double)vit_random_uniform(rng);
    const double ratio = exp(vit__spread(rng, log(3.0)));
    vit__exchange(out, NULL, d, area, ratio, rng);
  }
}

/* -- pairs of images, and batches ---------------------------------------- */

/* A number from Beta(alpha, alpha), 0 < alpha <= 2 (Joehnk 1964). */
static double vit__beta(double alpha, vit_rng *rng) {
  for (;;) {
    double x = pow((double)vit_random_uniform(rng), 1 / alpha);
    double y = pow((double)vit_random_uniform(rng), 1 / alpha);
    if (x + y > 0 && x + y <= 1) return x / (x + y);
    if (!(x + y > 0)) return vit_random_u32(rng) & 1; /* tiny alpha: 0 or 1 */
  }
}

/* a' = lambda a + (1 - lambda) b, and b' the other way round. */
static void vit__blend(float *a, float *b, vit_idx n, float lambda) {
  for (vit_idx i = 0; i < n; i++) {
    const float from_a = a[i], from_b = b[i];
    a[i] = lambda * from_a + (1 - lambda) * from_b;
    b[i] = lambda * from_b + (1 - lambda) * from_a;
  }
}

/* Mix images i and n - 1 - i of a batch: mixup (Zhang et al. 2018) blends them,
   cutmix (Yun et al. 2019) exchanges a box of 1 - lambda of the area. Their
   targets are blended in the same parts. */
static void vit__mix(vit_loader *l, int i, int n, vit_rng rng) {
  const vit_dataset *d = l->data;
  const float mixup = l->augment.mixup, cutmix = l->augment.cutmix;
  const vit_idx pixels = (vit_idx)vit__image_size(d), j = n - 1 - i;
  float *a = l->images + i * pixels, *b = l->images + j * pixels;
  const int cuts = cutmix > 0 && (!(mixup > 0) || (vit_random_u32(&rng) & 1));
  float lambda = (float)vit__beta(cuts ? cutmix : mixup, &rng);
  if (!cuts) vit__blend(a, b, pixels, lambda);
  if (cuts) lambda = 1 - vit__exchange(a, b, d, 1 - (double)lambda, 1, &rng);
  vit__blend(l->targets + (vit_idx)i * l->classes, l->targets + j * l->classes,
      l->classes, lambda);
}

static void vit__plan_loader(vit_loader *l, vit_arena *a) {
  const vit_dataset *d = l->data;
  const size_t B = (size_t)l->batch, one = sizeof(float);
  const size_t pixels = (size_t)d->height * (size_t)d->width;
  l->order = (int *)vit_arena_take(a, (size_t)d->count, sizeof(int));
  l->images = (float *)vit_arena_take(a, B * (size_t)d->channels * pixels, one);
  l->targets = (float *)vit_arena_take(a, B * (size_t)l->classes, one);
  l->scratch = (float *)vit_arena_take(
      a, (size_t)l->threads * vit_augment_scratch(d), one);
}

VIT_DEF vit_result vit_loader_create(vit_loader *l, const vit_dataset *d,
    const vit_model *m, const vit_augment *a, int batch, float smoothing,
    uint64_t seed) {
  vit_result r = vit__check_batch(batch);
  memset(l, 0, sizeof *l);
  if (!r) r = vit__check_dataset(m, d, "training");
  if (!r) r = vit_augment_check(a);
  if (!r) r = vit__check_smoothing(smoothing);
  if (r) return r;
  l->data = d, l->augment = *a, l->batch = batch, l->seed = seed;
  l->classes = m->config.classes, l->smoothing = smoothing;
  l->threads = vit_model_threads(m);
  vit__plan_loader(l, &l->arena);
  r = vit_arena_allocate(&l->arena, "batch");
  if (!r) vit__plan_loader(l, &l->arena);
  if (!r) vit_loader_epoch(l, 0);
  return r;
}

VIT_DEF void vit_loader_free(vit_loader *l) {
  vit_arena_free(&l->arena);
  memset(l, 0, sizeof *l);
}

VIT_DEF void vit_loader_epoch(vit_loader *l, int epoch) {
  vit_rng rng = vit_rng_create(l->seed ^ VIT__SALT_SHUFFLE, (uint32_t)epoch);
  vit_shuffle(l->order, l->data->count, &rng);
  l->epoch = epoch;
}

static int vit__changes(const vit_augment *a) {
#define VIT__OR(field, largest, meaning) || a->field > 0
  return a->image != NULL VIT_AUGMENT_FIELDS(VIT__OR);
}

VIT_DEF vit_result vit_loader_batch(vit_loader *l, int first, int n) {
  const int threads = l->threads;
  const vit_dataset *d = l->data;
  const vit_augment *a = &l->augment;
  const int changes = vit__changes(a);
  uint32_t place; /* of the first image in all epochs: its random numbers */
  if (!l->order)
    return vit__fail(VIT_ERR_STATE,
        "there is no loader: vit_loader_create failed or was not called");
  if (first < 0 || n < 1 || n > l->batch || first > d->count - n)
    return vit__fail(VIT_ERR_CONFIG,
        "images %d to %.0f are no batch: there are %d, and room for 1 to %d at "
        "a time",
        first, (double)first + n - 1, d->count, l->batch);
  place = (uint32_t)l->epoch * (uint32_t)d->count + (uint32_t)first;
  for (int i = 0; i < n; i++)
    vit__set_targets(l->targets + (vit_idx)i * l->classes,
        d->labels[l->order[first + i]], l->smoothing, l->classes);
  if (!changes) {
    vit_dataset_batch(d, l->order + first, n, l->images, NULL);
    return VIT_OK;
  }
  VIT__PARALLEL_FOR
  for (int t = 0; t < threads; t++)
    for (int i = t; i < n; i += threads) {
      vit_rng rng =
          vit_rng_create(l->seed ^ VIT__SALT_AUGMENT, place + (uint32_t)i);
      (a->image ? a->image : vit_augment_image)(
          l->images + (size_t)i * vit__image_size(d), d, l->order[first + i], a,
          &rng, l->scratch + (size_t)t * vit_augment_scratch(d));
    }
  if (!(a->mixup > 0) && !(a->cutmix > 0)) return VIT_OK;
  VIT__PARALLEL_FOR
  for (int t = 0; t < threads; t++)
    for (int i = t; i < n / 2; i += threads)
      vit__mix(l, i, n,
          vit_rng_create(l->seed ^ VIT__SALT_MIX, place + (uint32_t)i));
  return VIT_OK;
}

/* -- judging ------------------------------------------------------------- */

VIT_DEF void vit_confusion(
    int *counts, const int *predicted, const uint8_t *labels, int n, int K) {
  for (int i = 0; i < n; i++) counts[labels[i] * (vit_idx)K + predicted[i]]++;
}

VIT_DEF vit_class_score vit_score_class(const int *counts, int K, int k) {
  vit_class_score s = {0, 0, 0, 0};
  double called = 0, right = counts[k * (vit_idx)K + k];
  for (vit_idx j = 0; j < K; j++) {
    s.count += counts[k * (vit_idx)K + j];
    called += counts[j * K + k];
  }
  if (called > 0) s.precision = right / called;
  if (s.count > 0) s.recall = right / s.count;
  if (right > 0) s.f1 = 2 * s.precision * s.recall / (s.precision + s.recall);
  return s;
}

/* Is p[label] among the n_best? Of equals, the lower class is the better one,
   as for vit_predict. NaN never is, and NaN of another class is better. */
static int vit__among_best(const float *p, int label, int K, int n_best) {
  int better = 0;
  for (int k = 0; k < K; k++)
    better += !(p[k] <= p[label]) || (p[k] == p[label] && k < label);
  return p[label] == p[label] && better < n_best;
}

VIT_DEF double vit_top_accuracy(
    const float *p, const uint8_t *labels, int n, int K, int n_best) {
  int right = 0;
  for (vit_idx i = 0; i < n; i++)
    right += vit__among_best(p + i * K, labels[i], K, n_best);
  return n > 0 ? (double)right / n : 0;
}

enum { VIT__JUDGE_BATCH = 128 };

/* Forward of n images or, in a probe, of the head on their features, which are
   those of order[0..n-1]. */
static vit_result vit__forward_some(const vit_model *m, vit_state *s,
    const float *images, const float *features, const int *order, int n) {
  const vit_idx D = m->config.width, heads = 1 + m->config.dist_token;
  const size_t bytes = (size_t)D * sizeof *features;
  vit__view v;
  if (!features) return vit_forward(m, s, images, n);
  for (vit_idx b = 0; b < n; b++) {
    const float *x = features + order[b] * heads * D;
    memcpy(s->pooled + b * D, x, bytes);
    if (s->pooled_dist) memcpy(s->pooled_dist + b * D, x + D, bytes);
  }
  s->batch = n, s->loss_known = 0;
  v = vit__view_of(m, s, NULL, 0, n);
  vit__head_forward(&v);
  v.k->softmax_forward(v.probs, v.logits, n, v.K);
  return VIT_OK;
}

/* The next batch of d, in its order; `images` has room for one, `features` are
   a probe's, or NULL. A training state judges without dropout, and as if it had
   not: no mask changes. */
static vit_result vit__judge(vit_judged *j, const vit_model *m, vit_state *s,
    float *images, const vit_dataset *d, const float *features, int *classes,
    float *p, float *logits) {
  const int K = m->config.classes, dropout = s->dropout, at = j->images;
  const int most = VIT__MIN(s->capacity, (int)VIT__JUDGE_BATCH);
  const int B = VIT__MIN(most, d->count - at);
  const uint32_t forwards = s->forwards;
  const size_t size = (size_t)B * (size_t)K * sizeof(float);
  int order[VIT__JUDGE_BATCH], labels[VIT__JUDGE_BATCH];
  double mean = 0;
  vit_result r;
  for (int b = 0; b < B; b++) order[b] = at + b;
  vit_dataset_batch(d, order, B, images, labels);
  s->dropout = 0;
  r = vit__forward_some(m, s, images, features, order, B);
  if (!r) r = vit_loss(m, s, labels, 0, &mean);
  s->dropout = dropout;
  s->forwards = forwards;
  for (vit_idx b = 0; !r && b < B; b++) {
    const int k = vit__class_of(s->logits + b * K, K);
    if (k < 0)
      r = vit__fail(VIT_ERR_DIVERGED,
          "a logit of image %.0f is not a finite number: are all pixels and "
          "all weights finite?",
          (double)(at + b));
    j->right += k == labels[b];
    j->top5 += vit__among_best(s->logits + b * K, labels[b], K, 5);
    if (classes) classes[at + b] = k;
  }
  if (r) return r;
  if (p) memcpy(p + (vit_idx)at * K, s->probs, size);
  if (logits) memcpy(logits + (vit_idx)at * K, s->logits, size);
  j->loss += mean * B, j->images += B;
  return VIT_OK;
}

VIT_DEF vit_result vit_evaluate(const vit_model *m, const vit_dataset *d,
    double *loss, double *accuracy, int *classes, float *p, float *logits) {
  const int batch = VIT__MIN((int)VIT__JUDGE_BATCH, d->count);
  vit_judged j = {0, 0, 0, 0};
  vit_state s;
  float *images;
  vit_result r = vit__check_dataset(m, d, "test");
  if (!r) r = vit_state_create(&s, m, batch, VIT_FOR_INFERENCE, 0);
  if (r) return r;
  images = (float *)vit__allocate((size_t)batch * vit__image_size(d),
      sizeof *images, "the images of a batch");
  if (!images) r = VIT_ERR_NO_MEMORY;
  while (!r && j.images < d->count)
    r = vit__judge(&j, m, &s, images, d, NULL, classes, p, logits);
  if (!r) *loss = j.loss / d->count, *accuracy = (double)j.right / d->count;
  vit__free(images);
  vit_state_free(&s);
  return r;
}

VIT_DEF vit_result vit_features(
    const vit_model *m, const vit_dataset *d, float *features) {
  const vit_idx D = m->config.width;
  const size_t bytes = (size_t)D * sizeof *features;
  const int batch = VIT__MIN((int)VIT__JUDGE_BATCH, d->count);
  int order[VIT__JUDGE_BATCH];
  vit_dataset all = *d;
  vit_state s;
  float *images;
  vit_result r;
  all.classes = 0; /* the head does not matter */
  r = vit__check_dataset(m, &all, "given");
  if (!r) r = vit_state_create(&s, m, batch, VIT_FOR_INFERENCE, 0);
  if (r) return r;
  images = (float *)vit__allocate((size_t)batch * vit__image_size(d),
      sizeof *images, "the images of a batch");
  if (!images) r = VIT_ERR_NO_MEMORY;
  for (int at = 0, n; !r && at < d->count; at += n) {
    n = VIT__MIN(batch, d->count - at);
    for (int b = 0; b < n; b++) order[b] = at + b;
    vit_dataset_batch(d, order, n, images, NULL);
    r = vit_forward(m, &s, images, n);
    for (int b = 0; !r && b < n; b++) {
      memcpy(features, s.pooled + b * D, bytes);
      features += D;
      if (s.pooled_dist) memcpy(features, s.pooled_dist + b * D, bytes);
      if (s.pooled_dist) features += D;
    }
  }
  vit__free(images);
  vit_state_free(&s);
  return r;
}

/* -- histories ----------------------------------------------------------- */

enum { VIT__EPOCH_NUMBERS = sizeof(vit_epoch) / sizeof(double) };

VIT_DEF void vit_history_free(vit_history *h) {
  vit__free(h->epoch);
  memset(h, 0, sizeof *h);
}

/* Is the last epoch the best so far? */
static int vit__is_best(vit_history *h) {
  const vit_epoch *e = h->epoch + h->epochs - 1;
  const vit_epoch *best = h->epoch + (h->best ? h->best : 1) - 1;
  int better = e->val_accuracy > best->val_accuracy;
  if (e->val_accuracy == best->val_accuracy)
    better = e->val_loss < best->val_loss;
  if (h->best == 0) better = e->val_accuracy >= 0; /* NaN: not judged */
  if (better) h->best = h->epochs;
  return better;
}

#define VIT__COLUMN(name, text) "," #name
static const char vit__history_title[] =
    "epoch" VIT_EPOCH_FIELDS(VIT__COLUMN) "\n";

VIT_DEF vit_result vit_history_write(const vit_history *h, const char *path) {
  vit__text t = {NULL, 0, 0, 0};
  vit_result r = vit__check_point();
  if (r) return r;
  vit__text_print(&t, "%s", vit__history_title);
  for (int i = 0; i < h->epochs; i++) {
    const double *x = (const double *)(h->epoch + i);
    vit__text_print(&t, "%d", i + 1);
    for (int k = 0; k < VIT__EPOCH_NUMBERS; k++)
      vit__text_print(&t, ",%.9g", x[k]);
    vit__text_print(&t, "\n");
  }
  return vit__write_text(&t, path);
}

/* No number may begin with a blank, which strtol and strtod would skip; the
   last character ends a line. */
VIT_DEF vit_result vit_history_read(vit_history *h, const char *path) {
  const size_t title = sizeof vit__history_title - 1;
  unsigned char *bytes = NULL;
  char *at, *start;
  size_t size = 0, n = 0; /* n: lines */
  int good;
  vit_result r = vit__check_point();
  memset(h, 0, sizeof *h);
  if (!r) r = vit__read_file(path, &bytes, &size);
  if (r) return r;
  for (size_t i = 0; i < size; i++) n += bytes[i] == '\n';
  good = size >= title && !memcmp(bytes, vit__history_title, title) &&
         bytes[size - 1] == '\n' && n <= (size_t)VIT__MOST;
  if (good) /* one too many */
    h->epoch = (vit_epoch *)vit__allocate(n, sizeof *h->epoch, "the history");
  if (good && !h->epoch) r = VIT_ERR_NO_MEMORY;
  at = (char *)bytes + title;
  while (!r && good && at < (char *)bytes + size) {
    double *x = (double *)(h->epoch + h->epochs);
    good = *at > ' ' && strtol(at, &at, 10) == h->epochs + 1;
    for (int k = 0; good && k < VIT__EPOCH_NUMBERS; k++) {
      good = *at == ',' && at[1] > ' ';
      start = at + 1;
      if (good) x[k] = strtod(start, &at);
      good = good && at > start && !(fabs(x[k]) > DBL_MAX);
    }
    good = good && *at++ == '\n';
    if (good) h->epochs++, vit__is_best(h);
  }
  if (!good)
    r = vit__fail(VIT_ERR_FORMAT,
        "%.200s is not what vit_history_write writes: look at line %d", path,
        h->epoch ? h->epochs + 2 : 1);
  if (r) vit_history_free(h);
  VIT_FREE(bytes);
  return r;
}

/* -- checkpoints --------------------------------------------------------- */

/* A checksum of 24 bits (FNV-1a) that tells one set of images from another: the
   labels, normalisation, about every 100th byte of the pixels, all columns. */
static uint32_t vit__checksum(const vit_dataset *d) {
  const vit_idx floats = d->channels * (vit_idx)sizeof(float);
  const void *const bytes[] = {d->labels, d->mean, d->std, d->pixels};
  const vit_idx size[] = {
      d->count, floats, floats, d->count * (vit_idx)vit__image_size(d)};
  uint32_t sum = 0x811C9DC5u;
  for (int k = 0; k < 4; k++)
    for (vit_idx i = 0; i < size[k]; i += k < 3 ? 1 : d->width % 97 ? 97 : 101)
      sum = (sum ^ ((const uint8_t *)bytes[k])[i]) * 0x01000193u;
  return sum >> 8;
}

/* What must be the same when a run goes on: name and value, as in the file. */
typedef struct {
  char name[48], value[64];
} vit__compared;
enum { VIT__COMPARED = 100 }; /* more than there are */

static void vit__set(
    vit__compared **s, const char *group, const char *name, double value) {
  if (!*name) return; /* it may change */
  snprintf((*s)->name, sizeof(*s)->name, "%s.%s", group, name);
  snprintf((*s)->value, sizeof(*s)->value, "%.9g", value);
  ++*s;
}

/* Images, settings, augmentation and config of a run; returns how many. */
static int vit__recipe(const vit_trainer *t, vit__compared *list) {
  const vit_fit_config *c = &t->config;
  const vit_dataset *d = t->train, *v = t->val;
  const int falls =
      c->schedule.kind == VIT_LINEAR || c->schedule.kind == VIT_COSINE;
  const double epochs = falls && !c->schedule.total ? c->epochs : 0;
  vit_augment augment = c->augment;
  const char *name, *text;
  float *number;
  double value;
  vit__compared *s = list;
  vit__set(&s, "recipe", "images", d->count);
  vit__set(&s, "recipe", "epochs", epochs);
  /* the seed in three parts that "%.9g" can hold */
  vit__set(&s, "recipe", "seed", (double)(c->seed & 0xFFFFFF));
  vit__set(&s, "recipe", "seed_middle", (double)(c->seed >> 24 & 0xFFFFFF));
  vit__set(&s, "recipe", "seed_high", (double)(c->seed >> 48));
  vit__set(&s, "recipe", "mean", (double)d->mean[0]);
  vit__set(&s, "recipe", "std", (double)d->std[0]);
  vit__set(&s, "recipe", "checksum", vit__checksum(d));
  vit__set(&s, "recipe", "val_images", v ? v->count : 0);
  vit__set(&s, "recipe", "val_checksum", v ? vit__checksum(v) : 0);
#define VIT__FIT(type, field, start, same, ...)                                \
  vit__set(&s, "recipe", same, (double)c->field);
#define VIT__OPTIMIZER(type, field, start, same, ...)                          \
  vit__set(&s, "recipe", same, (double)c->optimizer.field);
#define VIT__SCHEDULE(type, field, start, same, ...)                           \
  vit__set(&s, "recipe", same, (double)c->schedule.field);
  VIT_FIT_FIELDS(VIT__FIT)
  VIT_OPTIMIZER_FIELDS(VIT__OPTIMIZER)
  VIT_SCHEDULE_FIELDS(VIT__SCHEDULE)
  vit__set(&s, "recipe", "total_steps", falls ? t->schedule.total : 0);
  for (int i = 0; vit_augment_field(&augment, i, &name, &text, &number); i++)
    vit__set(&s, "augment", name, (double)*number);
  vit__set(&s, "augment", "image", 0); /* a function of one's own has a name */
  snprintf(s[-1].value, sizeof s->value, "%.60s",
      c->augment.image ? c->augment.name : "");
  for (int i = 0; vit_config_field(&t->model->config, i, &name, &text, &value);
       i++)
    vit__set(&s, "config", name, value);
  return (int)(s - list);
}

/* Numbers that say where a run stands: type, name and place. Together with the
   tensors they are all that the rest of the run depends on. */
#define VIT__RUN_NUMBERS(X)                                                    \
  X(int, "training.epoch", t->epoch)                                           \
  X(int, "training.batch", t->batch)                                           \
  X(double, "training.loss_sum", t->loss_sum)                                  \
  X(int, "training.step", t->optimizer.step)                                   \
  X(uint32_t, "training.forward_passes", t->state.forwards)                    \
  X(int, "training.best_epoch", t->history->best)                              \
  X(int, "training.plateau_started", t->plateau.started)                       \
  X(double, "training.plateau_best", t->plateau.best)                          \
  X(int, "training.plateau_waited", t->plateau.waited)                         \
  X(float, "training.plateau_scale", scale)

static vit_safetensor vit__block_tensor(
    const char *name, const void *data, size_t count) {
  const vit_safetensor t = {name, 1, {(int)count}, count, data, "F32"};
  return t;
}

/* What a checkpoint holds beside the parameters; returns how many. */
enum { VIT__RUN_TENSORS = 5 };
static int vit__run_tensors(vit_trainer *t, vit_safetensor *list) {
  const size_t n = t->model->params.count;
  const size_t numbers = (size_t)t->epoch * VIT__EPOCH_NUMBERS;
  const vit_safetensor all[VIT__RUN_TENSORS] = {
      vit__block_tensor("training.first_moment", t->optimizer.m.block, n),
      vit__block_tensor("training.second_moment", t->optimizer.v.block, n),
      vit__block_tensor("training.average", t->average, n),
      vit__block_tensor("training.best", t->best, n),
      {"training.history", 2, {t->epoch, VIT__EPOCH_NUMBERS}, numbers, t->table,
          "F64"}};
  int count = 0;
  for (int i = 0; i < VIT__RUN_TENSORS; i++)
    if (all[i].data) list[count++] = all[i];
  return count;
}

/* DIR/NAME, of a checkpoint. */
static const char *vit__run_path(
    const vit_trainer *t, const char *name, char path[512]) {
  snprintf(path, 512, "%.440s/%.60s", t->config.dir, name);
  return path;
}

static void vit__note(vit__text *notes, const char *key, const char *value);
static void vit__note_dataset(vit__text *notes, const vit_dataset *d);
typedef struct vit__source vit__source;
static vit_result vit__write_model(const char *path, const vit_model *m,
    const vit__source *as, vit__text *notes, const vit_safetensor *add, int n);
static vit_result vit__take_numbers(
    vit_result r, const vit_safetensor *t, float *to);

/* history.csv and last.safetensors of a checkpoint. They are saved without
   the clock: the same run makes the same file. */
static vit_result vit__write_checkpoint(vit_trainer *t) {
  const float scale = vit__plateau_scale(&t->schedule, t->plateau.lowered);
  vit__compared list[VIT__COMPARED];
  const int settings = vit__recipe(t, list);
  vit_safetensor extra[VIT__RUN_TENSORS];
  vit__text notes = {NULL, 0, 0, 0};
  char path[512], number[32];
  vit_result r;
  for (int i = 0; i < settings; i++)
    if (*list[i].value) vit__note(&notes, list[i].name, list[i].value);
#define VIT__NOTE_NUMBER(type, name, place)                                    \
  snprintf(number, sizeof number, "%.17g", (double)(place));                   \
  vit__note(&notes, name, number);
  VIT__RUN_NUMBERS(VIT__NOTE_NUMBER)
  vit__note(&notes, "training.kernels", t->history->kernels);
  vit__note_dataset(&notes, t->train);
  for (int i = 0; i < t->epoch; i++)
    t->table[i] = t->history->epoch[i], t->table[i].seconds = 0;
  /* the history first: it may know an epoch more */
  r = vit_history_write(t->history, vit__run_path(t, "history.csv", path));
  if (!r)
    return vit__write_model(vit__run_path(t, "last.safetensors", path),
        t->model, NULL, &notes, extra, vit__run_tensors(t, extra));
  vit__text_free(&notes);
  return r;
}

/* A value of the recipe, for a message. */
static void vit__show(char text[64], const char *value, int digits) {
  char *end;
  const double number = strtod(value, &end);
  snprintf(text, 64, "%.60s", *value ? value : "not there");
  if (*value && !*end) snprintf(text, 64, "%.*g", digits, number);
}

/* Is the checkpoint of this recipe? */
static vit_result vit__check_recipe(
    const vit_trainer *t, const vit_safetensors *f, const char *path) {
  vit__compared list[VIT__COMPARED];
  const int n = vit__recipe(t, list);
  for (const vit__compared *s = list; s < list + n; s++) {
    const char *was = vit_safetensors_metadata(f, s->name);
    char before[64] = "", now[64] = "", old[64];
    for (int k = 0; !was && k < VIT__COUNT(vit__renamed); k++) {
      if (strcmp(s->name + sizeof "config", vit__renamed[k][1])) continue;
      snprintf(old, sizeof old, "config.%s", vit__renamed[k][0]);
      was = vit_safetensors_metadata(f, old);
    }
    if (!was) /* a setting that is younger than the file was off: 0 */
      was = strcmp(s->value, "0") ? "" : "0";
    if (!strcmp(was, s->value)) continue;
    for (int digits = 6; !strcmp(before, now) && digits < 10; digits++) {
      vit__show(before, was, digits);
      vit__show(now, s->value, digits); /* so many that they differ */
    }
    return vit__fail(VIT_ERR_CONFIG,
        "cannot resume from %.200s: its %s is %s, here it is %s; use the "
        "settings and images that it was made with, or another folder",
        path, s->name, before, now);
  }
  return VIT_OK;
}

/* Where does the checkpoint stand? */
static vit_result vit__read_numbers(
    vit_trainer *t, const vit_safetensors *f, const char *path) {
  float scale;
#define VIT__READ_NUMBER(type, key, place)                                     \
  {                                                                            \
    const char *number = vit_safetensors_metadata(f, key);                     \
    const double value = number ? strtod(number, NULL) : (double)NAN;          \
    if (!(value >= 0 && value <= (sizeof(type) == 8 ? DBL_MAX : INT_MAX)) ||   \
        ((type)0.5 == 0 && value != floor(value)))                             \
      return vit__fail(VIT_ERR_FORMAT,                                         \
          "cannot resume from %.200s: its %s is %.40s", path, key,             \
          number ? number : "not there");                                      \
    place = (type)value;                                                       \
  }
  VIT__RUN_NUMBERS(VIT__READ_NUMBER)
  if (t->epoch > t->config.epochs || t->batch > t->progress.steps ||
      t->history->best > t->epoch ||
      t->optimizer.step > (double)t->config.epochs * t->progress.steps)
    return vit__fail(VIT_ERR_FORMAT,
        "cannot resume from %.200s: it stands at epoch %d, batch %d; this run "
        "has %d epochs of %d batches",
        path, t->epoch, t->batch, t->config.epochs, t->progress.steps);
  while (t->plateau.lowered < t->epoch &&
         vit__plateau_scale(&t->schedule, t->plateau.lowered) > scale)
    t->plateau.lowered++;
  return VIT_OK;
}

/* Names of the kernels: those of before, and these where they are others. The
   clock: what it was stands in history.csv alone. */
static vit_result vit__join_history(vit_trainer *t, const char *kernels) {
  vit_history *h = t->history, csv;
  const char *last = strrchr(kernels, ',');
  char path[512], now[64];
  vit_result r;
  snprintf(now, sizeof now, "%.60s", h->kernels);
  snprintf(h->kernels, sizeof h->kernels, "%.62s", kernels);
  if (strcmp(last ? last + 2 : kernels, now))
    snprintf(h->kernels, sizeof h->kernels, "%.62s, %.60s", kernels, now);
  memcpy(h->epoch, t->table, (size_t)t->epoch * sizeof *t->table);
  h->epochs = t->epoch;
  r = vit_history_read(&csv, vit__run_path(t, "history.csv", path));
  for (int i = 0; i < VIT__MIN(t->epoch, csv.epochs); i++)
    t->before = h->epoch[i].seconds = csv.epoch[i].seconds;
  vit_history_free(&csv);
  return r == VIT_ERR_NO_MEMORY ? r : VIT_OK; /* it may be broken, or gone */
}

/* The model comes last: it changes only if all was good. */
static vit_result vit__load_run(
    vit_trainer *t, const vit_safetensors *f, const char *path) {
  const char *kernels = vit_safetensors_metadata(f, "training.kernels");
  vit_safetensor list[VIT__RUN_TENSORS], is;
  vit_model best = *t->model;
  char best_path[512];
  vit_result r = vit__check_recipe(t, f, path);
  if (!r) r = vit__read_numbers(t, f, path);
  for (int i = 0, n = vit__run_tensors(t, list); !r && i < n; i++) {
    const int numbers = i == n - 1; /* of the history: doubles */
    r = vit_safetensors_find(f, list[i].name, &is);
    if (!r && (strcmp(is.type, list[i].type) || is.count != list[i].count))
      r = vit__fail(VIT_ERR_FORMAT, "tensor %.60s holds %.0f %s, not %.0f %s",
          is.name, (double)is.count, is.type, (double)list[i].count,
          list[i].type);
    if (!r && !numbers) r = vit__take_numbers(VIT_ERR_FORMAT, &is, NULL);
    if (!r) memcpy((void *)list[i].data, is.data, is.count * (numbers ? 8 : 4));
  }
  if (!r) r = vit__join_history(t, kernels ? kernels : "unknown");
  if (!r && t->best && t->history->best) { /* the file may be another run's */
    best.params = vit__tensors_at(&best.params, t->best);
    r = vit_model_save(
        &best, t->train, vit__run_path(t, "best.safetensors", best_path));
  }
  return r ? r : vit_model_load(t->model, f, "");
}

/* Take the folder for one run at a time: it holds DIR/lock, of which the system
   lets go when the program ends, however it does. */
static vit_result vit__lock_run(vit_trainer *t) {
  char path[512];
  int held;
  vit__run_path(t, "lock", path);
#ifdef _WIN32
  t->lock = _sopen(path, _O_RDWR | _O_CREAT | _O_TEMPORARY, _SH_DENYRW,
      _S_IREAD | _S_IWRITE);
  held = t->lock < 0 && errno == EACCES;
#else
  t->lock = open(path, O_RDWR | O_CREAT, 0666);
  if (t->lock >= 0) (void)fcntl(t->lock, F_SETFD, FD_CLOEXEC);
  held =
      t->lock >= 0 && flock(t->lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
#endif
  t->locked = t->lock >= 0;
  if (held)
    return vit__fail(VIT_ERR_FILE,
        "another training run is at work in %.300s; wait until it has ended, "
        "or choose another folder",
        t->config.dir);
  return t->locked ? VIT_OK
                   : vit__fail(VIT_ERR_FILE, "cannot write %.300s: %.100s",
                         path, strerror(errno));
}

/* Take the folder, and go on from the checkpoint in it. */
static vit_result vit__open_run(vit_trainer *t) {
  vit_safetensors f;
  struct stat info;
  char path[512];
  vit_result r = vit_make_dir(t->config.dir);
  if (!r) r = vit__lock_run(t);
  vit__run_path(t, "last.safetensors", path);
  if (r || !t->config.resume || (stat(path, &info) && errno == ENOENT))
    return r; /* nothing there: begin */
  r = vit_safetensors_open(&f, path);
  if (!r) r = vit__load_run(t, &f, path);
  vit_safetensors_close(&f);
  if (r) t->history->epochs = t->history->best = 0;
  return r;
}

/* -- the loop ------------------------------------------------------------ */

VIT_DEF vit_fit_config vit_fit_defaults(void) {
  vit_fit_config c;
  memset(&c, 0, sizeof c);
  VIT_FIT_FIELDS(VIT__START)
  c.optimizer = vit_optimizer_defaults(VIT_ADAM);
  c.optimizer.beta2 = 0.95f;
  c.schedule = vit_schedule_constant(0.005f);
  c.schedule.kind = VIT_LINEAR, c.schedule.floor = 0.0025f;
  return c;
}

enum { VIT__RUN_DIR = 440 }; /* characters; leaves room for the names in it */

VIT_DEF vit_result vit_fit_check(const vit_fit_config *c) {
  const vit_schedule *s = &c->schedule;
  const double rate = (double)s->rate, floor = (double)s->floor;
  const int total = s->total ? s->total : INT_MAX; /* 0: the images decide */
  const int falls = s->kind == VIT_LINEAR || s->kind == VIT_COSINE;
  vit_result r = vit_augment_check(&c->augment);
#define VIT__CHECK_FIT(type, field, start, same, low, high, what, range)       \
  if (!r)                                                                      \
    r = vit__check_setting(                                                    \
        what, (double)c->field, low, high, (type)0.5f == 0, range);
  VIT_FIT_FIELDS(VIT__CHECK_FIT)
#define VIT__CHECK_OPTIMIZER(type, field, start, same, low, high, range)       \
  if (!r)                                                                      \
    r = vit__check_setting("the optimiser's " #field,                          \
        (type)0.5f == 0 ? (int)c->optimizer.field                              \
                        : (double)c->optimizer.field,                          \
        low, high, (type)0.5f == 0, range);
  VIT_OPTIMIZER_FIELDS(VIT__CHECK_OPTIMIZER)
  if (r) return r;
  if (!VIT__IS_WITHIN(rate, 0, 1e6) || !VIT__IS_WITHIN(floor, 0, 1e6))
    return vit__fail(VIT_ERR_CONFIG,
        "the learning rate is %g and its floor %g; both must be from 0 to 1e6",
        rate, floor);
  if ((falls || s->kind == VIT_PLATEAU) && floor > rate)
    return vit__fail(VIT_ERR_CONFIG,
        "the learning rate is %g, below its floor %g; lower schedule.floor too",
        rate, floor);
  if (!VIT__IS_WITHIN(s->factor, 0, 1) ||
      !VIT__IS_WITHIN((int)s->kind, VIT_CONSTANT, VIT_PLATEAU))
    return vit__fail(VIT_ERR_CONFIG,
        "the schedule's kind is %d and its factor %g; they must be from 0 to "
        "%d and from 0 to 1",
        (int)s->kind, (double)s->factor, VIT_PLATEAU);
  if (falls && (s->warmup < 0 || total <= s->warmup))
    return vit__fail(VIT_ERR_CONFIG,
        "the schedule warms up for %d of %d steps; warmup must be from 0 to "
        "total - 1",
        s->warmup, total);
  if ((s->kind == VIT_STEP && s->every < 1) ||
      (s->kind == VIT_PLATEAU && s->patience < 1))
    return vit__fail(VIT_ERR_CONFIG,
        "the schedule lowers the rate every %d steps or after %d epochs; both "
        "must be at least 1",
        s->every, s->patience);
  if (c->probe && vit__changes(&c->augment))
    return vit__fail(VIT_ERR_CONFIG,
        "a probe makes the features of each image once, so nothing can change "
        "the images: set augment to zeros, or let freeze, not probe, be set");
  if (c->resume && !c->dir)
    return vit__fail(VIT_ERR_CONFIG,
        "resume is set, but not dir, the folder of the run to go on with");
  if (c->dir && strlen(c->dir) > VIT__RUN_DIR)
    return vit__fail(VIT_ERR_CONFIG,
        "the folder of the checkpoints has %.0f characters; it must have at "
        "most %d",
        (double)strlen(c->dir), VIT__RUN_DIR);
  return c->dir ? vit__check_point() : VIT_OK;
}

/* Tell the callback of a batch, or of an epoch that has ended. */
static int vit__report(vit_trainer *t, const vit_epoch *e, double rate) {
  const vit_fit_config *c = &t->config;
  const double now = vit_seconds() - t->start, all = t->train->count;
  const double shown = fmin((double)t->batch * c->batch, all);
  const double left = (c->epochs - t->epoch) * all - shown;
  vit_progress *p = &t->progress;
  p->epoch_done = e != NULL, p->result = e;
  p->epoch = e ? t->epoch : t->epoch + 1, p->step = e ? p->steps : t->batch;
  p->model = e ? &t->averaged : t->model;
  p->loss = e ? e->train_loss : t->loss_sum / shown;
  p->rate = rate;
  p->seconds = t->before + now;
  p->images_per_second = now > 0 ? t->images / now : 0;
  p->seconds_left = t->images > 0 && left > 0 ? now * left / t->images : 0;
  return c->callback(p, c->user);
}

/* average = decay average + (1 - decay) weights, after every step (Polyak and
   Juditsky 1992). The first steps count more, as TensorFlow does it. */
static void vit__average(vit_trainer *t) {
  const double step = t->optimizer.step, early = (1 + step) / (10 + step);
  const float rest = 1 - (float)fmin((double)t->config.ema, early);
  const float *w = t->model->params.block;
  for (size_t i = 0; i < t->model->params.count; i++)
    t->average[i] += rest * (w[i] - t->average[i]);
}

/* This program's part of a batch of B images: n from `first` on. Up to sixteen
   programs share by the parts in which the gradients are added up. */
static int vit__own_part(const vit_trainer *t, int B, int *first) {
  const vit_fit_config *c = &t->config;
  const int each = VIT__PARTS / c->parts;
  int n, end;
  vit__part(B, c->parts, c->part, 1, first, &n);
  if (each * c->parts != VIT__PARTS) return n;
  vit__part(B, VIT__PARTS, c->part * each, 1, first, &n);
  vit__part(B, VIT__PARTS, (c->part + 1) * each - 1, 1, &end, &n);
  return end + n - *first;
}

/* The mean loss of the whole batch. */
static vit_result vit__share_losses(vit_trainer *t, int first, int n, int B) {
  double *losses = t->state.losses, sum = 0;
  vit_result r;
  memmove(losses + first, losses, (size_t)n * sizeof *losses);
  for (int i = 0; i < B; i++)
    if (i < first || i >= first + n) losses[i] = 0;
  r = t->config.losses(losses, B, t->config.user);
  for (int i = 0; i < B; i++) sum += losses[i];
  t->loss = sum / B;
  return r;
}

/* One batch: forward, loss, backward. `accumulate` of them are the group of an
   optimiser's step, in which each image weighs the same; a run can stop between
   two groups only. Weights that are no numbers end it, unjudged and unsaved. */
static vit_result vit__train_step(vit_trainer *t) {
  const vit_fit_config *c = &t->config;
  const int count = t->train->count, first = t->batch * c->batch;
  const int B = VIT__MIN(c->batch, count - first);
  const vit_idx most = (vit_idx)c->batch * c->accumulate;
  const vit_idx from = first / most * most, end = VIT__MIN(from + most, count);
  const int last = first + B == end;
  const float rate =
      vit_schedule_rate(&t->schedule, &t->plateau, t->optimizer.step);
  vit_model *m = t->model;
  vit_state *s = &t->state;
  double squares = 0;
  int own; /* this program's part of the batch, if it shares */
  const int n = vit__own_part(t, B, &own);
  vit_result r = VIT_OK;
  if (c->parts > 1) s->shared = B, s->first = own;
  if (t->loader.epoch != t->epoch) vit_loader_epoch(&t->loader, t->epoch);
  if (first == from) vit_zero_gradients(s);
  if (n > 0) r = vit_loader_batch(&t->loader, first + own, n);
  if (!r && n > 0)
    r = vit__forward_some(m, s, t->loader.images, t->features[0],
        t->loader.order + first + own, n);
  if (n == 0) s->forwards++; /* the same dropout as in the other programs */
  if (!r && n > 0) r = vit_loss_targets(m, s, t->loader.targets, &t->loss);
  if (!r && c->losses) r = vit__share_losses(t, own, n, B);
  if (!r && !VIT__IS_WITHIN(t->loss, -1e30, 1e30))
    r = vit__fail(VIT_ERR_DIVERGED,
        "the loss of step %.0f is %g: training diverged; a smaller learning "
        "rate may help",
        (double)t->epoch * t->progress.steps + t->batch + 1, fabs(t->loss));
  if (!r && n > 0)
    r = vit_backward(m, s, (float)((double)B / (double)(end - from)));
  s->shared = s->first = 0;
  if (!r && last && c->gradients)
    r = c->gradients(s->grads.block, s->grads.count, c->user);
  if (!r && last) r = vit_optimizer_step(&t->optimizer, m, s, rate);
  if (!r && last)
    m->kernels->sum_squares(&squares, m->params.block, (int)m->params.count);
  if (!VIT__IS_FINITE(squares))
    r = vit__fail(VIT_ERR_DIVERGED,
        "the weights after step %d of the optimiser are too large: training "
        "diverged; a smaller learning rate may help",
        t->optimizer.step);
  if (r) return r;
  if (last && t->average) vit__average(t);
  t->loss_sum += t->loss * B, t->images += B, t->batch++;
  if (c->callback) t->stop |= vit__report(t, NULL, (double)rate);
  if (!t->stop || !last) return VIT_OK;
  t->stop = 0;
  if (c->dir) r = vit__write_checkpoint(t);
  return r ? r
           : vit__fail(VIT_STOPPED, "stopped at epoch %d, step %d",
                 t->epoch + 1, t->batch);
}

/* All batches are done, those that judge too. */
static vit_result vit__finish_epoch(vit_trainer *t) {
  const double n = t->val ? t->val->count : (double)NAN;
  const vit_model *m = &t->averaged;
  vit_epoch *e = t->history->epoch + t->epoch;
  char path[512];
  vit_result r = VIT_OK;
  e->train_loss = t->loss_sum / t->train->count;
  e->val_loss = t->judged.loss / n;
  e->val_accuracy = t->judged.right / n;
  e->val_top5 = t->judged.top5 / n;
  e->rate = (double)vit_schedule_rate(
      &t->schedule, &t->plateau, t->optimizer.step - 1);
  e->seconds = t->before + vit_seconds() - t->start;
  t->history->epochs++;
  if (t->val && vit__is_best(t->history)) {
    if (t->best)
      memcpy(t->best, m->params.block, m->params.count * sizeof(float));
    if (t->config.dir)
      r = vit_model_save(
          m, t->train, vit__run_path(t, "best.safetensors", path));
  }
  if (t->schedule.kind == VIT_PLATEAU)
    vit_plateau_observe(
        &t->plateau, &t->schedule, t->val ? e->val_loss : e->train_loss);
  t->epoch++, t->batch = 0, t->loss_sum = 0;
  memset(&t->judged, 0, sizeof t->judged);
  if (!r && t->config.dir) r = vit__write_checkpoint(t);
  if (!r && t->config.callback && vit__report(t, e, e->rate))
    r = vit__fail(VIT_STOPPED, "stopped after epoch %d", t->epoch);
  return r;
}

VIT_DEF vit_result vit_trainer_step(vit_trainer *t) {
  const vit_history *h = t->history;
  const int patience = t->config.early_stop, val = t->val ? t->val->count : 0;
  double loss = 0; /* on the images that judge, so far */
  vit_result r = VIT_OK;
  if (t->failed || !t->model)
    return vit__fail(VIT_ERR_STATE,
        "this training has failed, or was not begun; create another trainer");
  t->done = t->epoch >= t->config.epochs ||
            (patience && h->best && t->epoch - h->best >= patience);
  if (t->done) return VIT_OK;
  t->averaged = *t->model;
  if (t->average)
    t->averaged.params = vit__tensors_at(&t->model->params, t->average);
  if (t->batch < t->progress.steps) {
    r = vit__train_step(t);
  } else if (t->judged.images < val) {
    r = vit__judge(&t->judged, &t->averaged, &t->state, t->loader.images,
        t->val, t->features[1], NULL, NULL, NULL);
    loss = r ? (double)NAN : t->judged.loss / val;
  }
  if ((!r || r == VIT_ERR_DIVERGED) && !VIT__IS_WITHIN(loss, -1e30, 1e30))
    r = vit__fail(VIT_ERR_DIVERGED,
        "the loss on the images that judge epoch %d is %g: training diverged; "
        "a smaller learning rate may help",
        t->epoch + 1, fabs(loss));
  if (!r && t->batch == t->progress.steps && t->judged.images == val)
    r = vit__finish_epoch(t);
  t->failed = r && r != VIT_STOPPED;
  return r;
}

/* Everything that the run needs is in one block of memory. */
static vit_result vit__plan_run(vit_trainer *t) {
  const vit_fit_config *c = &t->config;
  const vit_config *m = &t->model->config;
  const size_t n = t->model->params.count, epochs = (size_t)c->epochs;
  vit_loader *l = &t->loader;
  vit_state *s = &t->state;
  vit_arena *a = &t->arena;
  vit_result r = VIT_OK;
  l->data = t->train, l->classes = m->classes, l->augment = c->augment;
  l->seed = c->seed, l->smoothing = c->smoothing, l->epoch = -1;
  l->batch = s->capacity = c->batch;
  l->threads = vit__threads(vit__parts(t->model));
  s->config = *m, s->trains = s->dropout = 1;
  s->freeze = c->optimizer.freeze, s->probe = c->probe;
  s->key = vit_rng_create(c->seed ^ VIT__SALT_DROPOUT, 0).key;
  t->optimizer.config = c->optimizer;
  for (int walk = 0; !r && walk < 2; walk++) {
    vit__plan_loader(l, a);
    r = vit__plan_state(s, m, a);
    vit__take_tensors(&t->optimizer.m, m, 0, a);
    if (c->optimizer.algorithm != VIT_SGD)
      vit__take_tensors(&t->optimizer.v, m, 0, a);
    if (c->ema > 0) t->average = (float *)vit_arena_take(a, n, sizeof(float));
    if (c->keep_best) t->best = (float *)vit_arena_take(a, n, sizeof(float));
    t->table = (vit_epoch *)vit_arena_take(a, epochs, sizeof *t->table);
    for (int k = 0; k < 2 && c->probe; k++)
      t->features[k] = (float *)vit_arena_take(a,
          (size_t)(k ? t->val ? t->val->count : 0 : t->train->count) *
              (size_t)(m->width * (1 + m->dist_token)),
          sizeof(float));
    if (!r && walk == 0) r = vit_arena_allocate(a, "training run");
  }
  if (!r && t->average)
    memcpy(t->average, t->model->params.block, n * sizeof(float));
  t->history->epoch = (vit_epoch *)vit__allocate(
      epochs, sizeof *t->history->epoch, "the history");
  return !r && !t->history->epoch ? VIT_ERR_NO_MEMORY : r;
}

VIT_DEF vit_result vit_trainer_create(vit_trainer *t, vit_model *m,
    const vit_fit_config *c, const vit_dataset *train, const vit_dataset *val,
    vit_history *h) {
  vit_fit_config known = *c; /* with the total of its schedule */
  double steps;              /* of the optimiser, in the whole run */
  vit_result r = vit_fit_check(c);
  memset(t, 0, sizeof *t);
  memset(h, 0, sizeof *h);
  if (!r) r = vit__check_dataset(m, train, "training");
  if (!r && val) r = vit__check_dataset(m, val, "validation");
  if (!r) r = vit__check_plain(m);
  if (!r) r = vit__check_freeze(m, c->optimizer.freeze);
  if (!r && !val && (c->early_stop || c->keep_best))
    r = vit__fail(VIT_ERR_CONFIG,
        "early_stop is %d and keep_best %d, but there are no images that judge "
        "an epoch; hold some back",
        c->early_stop, c->keep_best);
  if (r) return r;
  t->progress.model = t->model = m;
  t->progress.history = t->history = h;
  t->config = *c, t->train = train, t->val = val;
  if (c->probe) t->config.optimizer.freeze = m->config.depth + 1;
  t->progress.epochs = c->epochs;
  t->progress.steps = (int)ceil((double)train->count / c->batch);
  steps = ceil((double)t->progress.steps / c->accumulate) * c->epochs;
  if (c->schedule.total == 0) known.schedule.total = (int)fmin(steps, INT_MAX);
  t->schedule = known.schedule;
  r = vit_fit_check(&known);
  if (!r) r = vit__plan_run(t);
  snprintf(h->kernels, sizeof h->kernels, "%.20s%s%s", m->kernels->name,
      m->kernels == &vit_naive ? "" : " ",
      m->kernels == &vit_naive ? "" : vit_simd_name());
  if (!r && c->dir) r = vit__open_run(t);
  t->start = vit_seconds();
  if (!r && c->probe) r = vit_features(m, train, t->features[0]);
  if (!r && c->probe && val) r = vit_features(m, val, t->features[1]);
  if (!r) return VIT_OK;
  t->average = t->best = NULL; /* the model stays as it was */
  vit_trainer_free(t);
  return r;
}

VIT_DEF void vit_trainer_free(vit_trainer *t) {
  const float *end = t->best && t->history->best ? t->best : t->average;
  if (end)
    memcpy(t->model->params.block, end, t->model->params.count * sizeof *end);
  if (t->locked) VIT__OS(close)(t->lock); /* Windows then removes it */
  vit_arena_free(&t->arena);
  memset(t, 0, sizeof *t);
}

VIT_DEF vit_result vit_fit(vit_model *m, const vit_fit_config *c,
    const vit_dataset *train, const vit_dataset *val, vit_history *h) {
  vit_trainer t;
  vit_result r = vit_trainer_create(&t, m, c, train, val, h);
  while (!r && !t.done) r = vit_trainer_step(&t);
  vit_trainer_free(&t);
  return r;
}

/* ------------------------------------------------------------------------ */
/*  >>10 inside                                                             */
/* ------------------------------------------------------------------------ */

/* What a model looks at can be read off (attention, lens), gone back through
   (rollout, relevance, gradients) or tried (occlusion). The answers differ, and
   none is the truth: vit_deletion_curve judges them.

   Three of them are rows of matrices over the tokens. With A_l the mean over
   the heads of layer l's attention [T,T]:
     attention   of one layer: A_l, or one head of it
     rollout     (I + A_L) / 2 ... (I + A_1) / 2: of what a block puts out, half
                 comes through the residual path (Abnar and Zuidema 2020). A row
                 of A sums to 1, so does a row of the product: there is nothing
                 to normalise.
     relevance   (I + R_L) ... (I + R_1) with R_l the mean over the heads of the
                 positive part of gradient times attention, both of layer l
                 (Chefer et al. 2021, "Generic attention-model explainability",
                 eq. 5 and 6). Rows do not sum to 1.
   One row is all that is asked for, so the product is taken from the left, a
   row times a matrix: L T^2 steps instead of L T^3. Where patches are pooled it
   is the mean of their rows, which begins with 1/N at each patch. */
enum { VIT__ROW, VIT__ROLLOUT, VIT__RELEVANCE };

/* The row that the product begins with: the token's row of I, or the mean of
   those that heads read. r [T] */
static vit_result vit__first_row(const vit_model *m, int token, double *r) {
  const vit_config *c = &m->config;
  const int T = vit_config_tokens(c), N = vit_config_patches(c);
  const int mean = c->pool == VIT_POOL_MEAN, n = token < 0 && mean ? N : 1;
  const int first = token >= 0 ? token : mean ? c->class_token : 0;
  if (token < VIT_POOLED || token >= T)
    return vit__fail(VIT_ERR_CONFIG,
        "there is no token %d: this model has tokens 0 to %d, and VIT_POOLED",
        token, T - 1);
  memset(r, 0, (size_t)T * sizeof *r);
  for (int t = first; t < first + n; t++) r[t] = 1.0 / n;
  if (token < 0 && c->dist_token) r[0] = r[c->class_token + N] = 0.5;
  return VIT_OK;
}

/* to = the row r times the matrix of a layer, of n heads from `first` on. */
static vit_result vit__through_layer(const vit_model *m, const vit_state *s,
    int kind, int l, int image, int first, int n, const double *r, double *to) {
  const vit_idx T = vit_config_tokens(&m->config);
  const double path = kind == VIT__ROW ? 0 : kind == VIT__ROLLOUT ? 0.5 : 1;
  const double part = (kind == VIT__ROLLOUT ? 0.5 : 1) / n;
  const int relevance = kind == VIT__RELEVANCE;
  for (vit_idx j = 0; j < T; j++) to[j] = path * r[j];
  for (int h = first; h < first + n; h++) {
    const float *p = vit_attention(m, s, l, image, h), *g = p;
    if (p && relevance) g = vit_attention_gradient(m, s, l, image, h);
    if (!g) return VIT_ERR_STATE;
    for (vit_idx i = 0; i < T; i++)
      for (vit_idx j = 0; r[i] != 0 && j < T; j++) {
        const double a = (double)p[i * T + j], d = (double)g[i * T + j];
        to[j] += part * r[i] * (relevance ? fmax(a * d, 0) : a);
      }
  }
  return VIT_OK;
}

/* The row of a product over n layers from `layer` on. */
static vit_result vit__rows_product(const vit_model *m, const vit_state *s,
    int kind, int layer, int n, int image, int head, int token, float *map) {
  const int all = head == VIT_ALL_HEADS, T = vit_config_tokens(&m->config);
  vit_result r = vit__check_state(m, s);
  double *row, *next;
  if (!r) r = vit__check_place(s, &m->config, layer, image, all ? 0 : head);
  if (r) return r;
  row = (double *)vit__allocate(2 * (size_t)T, sizeof *row, "row of a map");
  if (!row) return VIT_ERR_NO_MEMORY;
  next = row + T;
  r = vit__first_row(m, token, row);
  for (int l = layer + n - 1; !r && l >= layer; l--) {
    r = vit__through_layer(m, s, kind, l, image, all ? 0 : head,
        all ? m->config.heads : 1, row, next);
    memcpy(row, next, (size_t)T * sizeof *row);
  }
  for (int t = 0; !r && t < T; t++) map[t] = (float)row[t];
  VIT_FREE(row);
  return r;
}

VIT_DEF vit_result vit_attention_row(const vit_model *m, const vit_state *s,
    int layer, int image, int head, int token, float *map) {
  return vit__rows_product(m, s, VIT__ROW, layer, 1, image, head, token, map);
}

VIT_DEF vit_result vit_attention_rollout(
    const vit_model *m, const vit_state *s, int image, int token, float *map) {
  return vit__rows_product(
      m, s, VIT__ROLLOUT, 0, m->config.depth, image, VIT_ALL_HEADS, token, map);
}

VIT_DEF vit_result vit_attention_relevance(
    const vit_model *m, const vit_state *s, int image, int token, float *map) {
  return vit__rows_product(m, s, VIT__RELEVANCE, 0, m->config.depth, image,
      VIT_ALL_HEADS, token, map);
}

/* Attention distance (ViT paper, figure 11): mean over the patches i of
     sum over j of p_ij |i - j| / sum over j of p_ij
   with |i - j| between the middles of two patches. Only patches have a place:
   what goes to other tokens is left out, and the rest of a row normalised. */
VIT_DEF vit_result vit_attention_distance(const vit_model *m,
    const vit_state *s, int layer, int head, double *pixels) {
  const vit_config *c = &m->config;
  const vit_idx T = vit_config_tokens(c), N = vit_config_patches(c);
  double mean = 0;
  for (int image = 0; image < s->batch || image == 0; image++) {
    const float *p = vit_attention(m, s, layer, image, head);
    const vit_idx cols = p ? c->image_width / c->patch_width : 0;
    if (!p) return VIT_ERR_STATE;
    p += c->class_token * (T + 1);
    for (vit_idx i = 0; i < N; i++, p += T) {
      double sum = 0, far = 0;
      for (vit_idx j = 0; j < N; j++) {
        const double y = (double)((i / cols - j / cols) * c->patch_height);
        const double x = (double)((i % cols - j % cols) * c->patch_width);
        sum += (double)p[j];
        far += (double)p[j] * sqrt(x * x + y * y);
      }
      mean += sum > 0 ? far / sum : 0;
    }
  }
  *pixels = mean / (double)(s->batch * N);
  return VIT_OK;
}

/* Logit lens (nostalgebraist 2020, for language models): each block only adds
   to the residual path, so the final norm and the head can read it after any
   block. After the last one they say what the model says, to the bit. */
VIT_DEF vit_result vit_logit_lens(
    const vit_model *m, const vit_state *s, int layer, float *logits) {
  vit_result r = vit__check_state(m, s);
  vit_state room; /* for the rest of a forward: s stays as it is */
  vit__view b[2], v;
  if (!r) r = vit__check_place(s, &m->config, layer, 0, 0);
  if (!r && !s->trains)
    r = vit__fail(VIT_ERR_STATE, "this state keeps no outputs of blocks; "
                                 "create it with VIT_FOR_TRAINING");
  if (!r) r = vit_state_create(&room, m, s->batch, VIT_FOR_INFERENCE, 0);
  if (r) return r;
  v = vit__view_of(m, s, NULL, 0, s->batch);
  vit__block_at(&v, layer, b);
  v = vit__view_of(m, &room, NULL, 0, s->batch);
  v.T = b[VIT__AFTER_HEADS].T, v.rows = b[VIT__AFTER_HEADS].rows;
  vit__classify_forward(&v, b[VIT__AFTER_HEADS].out);
  memcpy(logits, room.logits, (size_t)(v.B * v.K) * sizeof *logits);
  vit_state_free(&room);
  return VIT_OK;
}

/* -- two looks at the parameters ----------------------------------------- */

/* Take away from v [n] what it has in common with `count` orthonormal rows, and
   make its length 1; returns the length before that. */
static double vit__orthonormal(
    float *v, const float *rows, vit_idx count, vit_idx n) {
  double length = 0;
  for (; count > 0; count--, rows += n) {
    double dot = 0;
    for (vit_idx i = 0; i < n; i++) dot += (double)v[i] * (double)rows[i];
    for (vit_idx i = 0; i < n; i++) v[i] -= (float)dot * rows[i];
  }
  for (vit_idx i = 0; i < n; i++) length += (double)v[i] * (double)v[i];
  length = sqrt(length);
  for (vit_idx i = 0; i < n && length > 0; i++)
    v[i] = (float)((double)v[i] / length);
  return length;
}

/* Principal components of the D filters (ViT paper, figure 7): with W [D,P] the
   filters less their mean, the eigenvectors of W^T W with the largest values.
   Orthogonal iteration: rows V [count,P] become V W^T W, are made orthonormal,
   and again until they stay. Both products are kernels of a linear layer. */
VIT_DEF vit_result vit_patch_filters(
    const vit_model *m, float *filters, float *parts, int count) {
  const vit_config *c = &m->config;
  const int D = c->width, P = c->channels * c->patch_height * c->patch_width;
  const size_t size = (size_t)D * (size_t)P, rows = (size_t)VIT__MIN(D, P);
  vit_rng rng = vit_rng_create(1, 0);
  float *w, *x, *y, moved = 1;
  double all = 0;
  vit_result r = vit__check_model(m);
  if (!r) r = vit__check_plain(m);
  if (!r && (count < 1 || count > (int)rows))
    r = vit__fail(VIT_ERR_CONFIG,
        "%d filters were asked for; a projection of %d pixels to %d numbers "
        "has 1 to %d",
        count, P, D, (int)rows);
  if (r) return r;
  w = (float *)vit__allocate(
      size + rows * (size_t)(D + P), sizeof *w, "principal components");
  if (!w) return VIT_ERR_NO_MEMORY;
  x = w + size, y = x + rows * (size_t)D;
  for (vit_idx p = 0; p < P; p++) {
    double mean = 0;
    for (vit_idx d = 0; d < D; d++)
      mean += (double)m->params.patch_w[d * P + p] / D;
    for (vit_idx d = 0; d < D; d++) {
      w[d * P + p] = m->params.patch_w[d * P + p] - (float)mean;
      all += (double)w[d * P + p] * (double)w[d * P + p];
    }
  }
  vit__fill_normal(y, (size_t)count * (size_t)P, 1, &rng);
  for (int step = 0; step < 1000 && moved > 3e-7f; step++) {
    for (vit_idx k = 0; k < count; k++)
      parts[k] =
          (float)(vit__orthonormal(y + k * P, y, k, P) / fmax(all, DBL_MIN));
    if (step > 0)
      moved = (float)vit_max_difference(y, filters, (size_t)(count * P));
    memcpy(filters, y, (size_t)count * (size_t)P * sizeof *y);
    m->kernels->linear_forward(x, filters, w, NULL, count, P, D);
    m->kernels->linear_backward_input(y, x, w, count, P, D);
  }
  VIT_FREE(w);
  for (vit_idx k = 0; k < count; k++, filters += P) {
    float top = filters[0]; /* of two signs that which makes it positive */
    for (vit_idx p = 1; p < P; p++)
      if (fabsf(filters[p]) > fabsf(top)) top = filters[p];
    for (vit_idx p = 0; top < 0 && p < P; p++) filters[p] = -filters[p];
  }
  return VIT_OK;
}

VIT_DEF vit_result vit_position_likeness(const vit_model *m, float *likeness) {
  const vit_idx N = vit_config_patches(&m->config), D = m->config.width;
  const float *pos = m->params.pos_embed ? m->params.pos_embed : m->fixed_pos;
  vit_result r = vit__check_model(m);
  if (!r && !pos)
    r = vit__fail(VIT_ERR_STATE, "this model has no positions to compare");
  if (r) return r;
  pos += m->config.class_token * D;
  for (vit_idx i = 0; i < N; i++)
    for (vit_idx j = 0; j < N; j++) {
      double ab = 0, aa = 0, bb = 0;
      for (vit_idx d = 0; d < D; d++) {
        const double a = (double)pos[i * D + d], b = (double)pos[j * D + d];
        ab += a * b, aa += a * a, bb += b * b;
      }
      likeness[i * N + j] = (float)(ab / fmax(sqrt(aa * bb), DBL_MIN));
    }
  return VIT_OK;
}

/* -- by images that are changed ------------------------------------------ */

/* Is there such a class, and room for n images, with n * K numbers more? */
static float *vit__question_room(
    const vit_question *q, int n, vit_idx *pixels, vit_result *r) {
  const vit_config *c = &q->m->config;
  float *room;
  *r = vit__check_state(q->m, q->s);
  if (!*r && (q->k < 0 || q->k >= c->classes))
    *r = vit__fail(VIT_ERR_CONFIG,
        "there is no class %d: this model has classes 0 to %d", q->k,
        c->classes - 1);
  if (*r) return NULL;
  *pixels = (vit_idx)c->channels * c->image_height * c->image_width;
  room = (float *)vit__allocate((size_t)n * (size_t)(*pixels + c->classes),
      sizeof *room, "changed images");
  if (!room) *r = VIT_ERR_NO_MEMORY;
  return room;
}

/* Row y of the C * PH rows of patch n: where it begins in an image. */
static vit_idx vit__patch_row(const vit_config *c, vit_idx n, vit_idx y) {
  const vit_idx PH = c->patch_height, cols = c->image_width / c->patch_width;
  const vit_idx row = y / PH * c->image_height + n / cols * PH + y % PH;
  return row * c->image_width + n % cols * c->patch_width;
}

/* out [N+1] of class k: in image i patch i - 1 is taken away, in image 0 none,
   and out is the logit; or, with ranks, all patches with a rank below i, or
   with `insert` all others, and out is the probability. */
static vit_result vit__take_away(
    const vit_question *q, const int *rank, int insert, float *out) {
  const vit_config *c = &q->m->config;
  const int N = vit_config_patches(c), most = VIT__MIN(q->s->capacity, N + 1);
  const vit_idx rows = (vit_idx)c->channels * c->patch_height;
  const size_t bytes = (size_t)c->patch_width * sizeof(float);
  vit_idx pixels;
  vit_result r;
  float *images = vit__question_room(q, most, &pixels, &r);
  if (!images) return r;
  for (int first = 0, n; !r && first <= N; first += n) {
    n = VIT__MIN(most, N + 1 - first);
    for (int i = first; i < first + n; i++) {
      float *image = images + (i - first) * pixels;
      memcpy(image, q->image, (size_t)pixels * sizeof *image);
      for (int j = 0; j < N; j++) {
        if (rank ? (rank[j] < i) == insert : j != i - 1) continue;
        for (vit_idx y = 0; y < rows; y++) {
          const vit_idx at = vit__patch_row(c, j, y);
          memcpy(image + at, q->baseline + at, bytes);
        }
      }
    }
    r = vit_predict(q->m, q->s, images, n, NULL, NULL);
    for (vit_idx i = 0; !r && i < n; i++)
      out[first + i] =
          (rank ? q->s->probs : q->s->logits)[i * c->classes + q->k];
  }
  VIT_FREE(images);
  return r;
}

/* Occlusion (Zeiler and Fergus 2014, section 4.2). */
VIT_DEF vit_result vit_occlusion(const vit_question *q, float *map) {
  const int N = vit_config_patches(&q->m->config);
  float *logit = (float *)vit__allocate((size_t)N + 1, sizeof *logit, "logits");
  vit_result r = logit ? vit__take_away(q, NULL, 0, logit) : VIT_ERR_NO_MEMORY;
  for (int n = 0; !r && n < N; n++) map[n] = logit[0] - logit[n + 1];
  vit__free(logit);
  return r;
}

/* Integrated gradients (Sundararajan et al. 2017): pixel i of the image x, with
   the baseline x', has
     (x_i - x'_i) times the mean of df/dx_i along the way from x' to x,
   here in the middle of each of `steps` parts of it. Over all pixels that sums
   up to f(x) - f(x'), with enough steps: their completeness. The last two of
   steps + 2 images are x and x' themselves, whose gradient is not asked for. */
VIT_DEF vit_result vit_integrated_gradients(
    const vit_question *q, int steps, float *map, double *error) {
  const vit_config *c = &q->m->config;
  const vit_idx K = c->classes, N = vit_config_patches(c);
  const vit_idx rows = (vit_idx)c->channels * c->patch_height;
  vit_idx pixels;
  double rise = 0, sum = 0;
  int all, most;
  float *images, *ask;
  vit_result r;
  if (steps < 1 || steps > VIT__MOST)
    return vit__fail(VIT_ERR_CONFIG,
        "integrated gradients in %d steps; they must be from 1 to %d", steps,
        VIT__MOST);
  if (!q->s->input_gradient || !q->s->trains)
    return vit__fail(VIT_ERR_STATE,
        "this state has no gradient by the pixels; create it with "
        "VIT_FOR_TRAINING and VIT_INPUT_GRADIENT");
  all = steps + 2, most = VIT__MIN(q->s->capacity, all);
  images = vit__question_room(q, most, &pixels, &r);
  if (!images) return r;
  ask = images + most * pixels;
  for (vit_idx n = 0; n < N; n++) map[n] = 0;
  for (int first = 0, n; !r && first < all; first += n) {
    n = VIT__MIN(most, all - first);
    memset(ask, 0, (size_t)(n * K) * sizeof *ask);
    for (int i = 0; i < n; i++) {
      const int step = first + i;
      const float on = step < steps ? ((float)step + 0.5f) / (float)steps
                                    : (float)(step == steps);
      float *image = images + i * pixels;
      for (vit_idx p = 0; p < pixels; p++)
        image[p] = q->baseline[p] + on * (q->image[p] - q->baseline[p]);
      if (step < steps) ask[i * K + q->k] = 1 / (float)steps;
    }
    r = vit_predict(q->m, q->s, images, n, NULL, NULL);
    if (!r) r = vit_backward_logits(q->m, q->s, ask, 1);
    for (vit_idx i = 0; !r && i < n; i++) {
      const float *dimage = q->s->dimages + i * pixels;
      const double f = (double)q->s->logits[i * K + q->k];
      rise += first + i < steps ? 0 : first + i == steps ? f : -f;
      for (vit_idx j = 0; j < N; j++) {
        double part = 0;
        for (vit_idx y = 0; y < rows; y++)
          for (vit_idx x = 0; x < c->patch_width; x++) {
            const vit_idx at = vit__patch_row(c, j, y) + x;
            part += ((double)q->image[at] - (double)q->baseline[at]) *
                    (double)dimage[at];
          }
        map[j] += (float)part, sum += part;
      }
    }
  }
  VIT_FREE(images);
  if (!r) *error = fabs(sum - rise) / fabs(rise);
  vit_zero_gradients(q->s);
  return r;
}

/* Deletion and insertion (Petsiuk et al. 2018, "RISE", section 4.3). */
VIT_DEF vit_result vit_deletion_curve(const vit_question *q, const float *map,
    int insert, float *curve, double *area) {
  const int N = vit_config_patches(&q->m->config);
  int *rank = (int *)vit__allocate((size_t)N, sizeof *rank, "ranks of patches");
  vit_result r = rank ? VIT_OK : VIT_ERR_NO_MEMORY;
  if (rank) memset(rank, 0, (size_t)N * sizeof *rank);
  for (int n = 0; !r && n < N; n++) {
    /* how many patches come before; of equals the first */
    for (int j = 0; j < N; j++)
      rank[n] += map[j] > map[n] || (map[j] == map[n] && j < n);
    if (!VIT__IS_FINITE(map[n]))
      r = vit__fail(VIT_ERR_DIVERGED,
          "the map to be judged is not a finite number at patch %d", n);
  }
  if (!r) r = vit__take_away(q, rank, insert != 0, curve);
  *area = 0;
  for (int n = 0; !r && n < N; n++)
    *area += ((double)curve[n] + (double)curve[n + 1]) / (2.0 * N);
  vit__free(rank);
  return r;
}

/* -- plots --------------------------------------------------------------- */

VIT_DEF vit_result vit_plot_begin(
    vit_plot *p, const char *dir, const char *name, int width, int height) {
  static const char *const letters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  vit_result r = vit__check_point();
  memset(p, 0, sizeof *p);
  if (!r) r = vit_make_dir(dir);
  if (!r && name[strspn(name, letters)])
    r = vit__fail(VIT_ERR_FILE,
        "the name of a figure may hold letters, digits, - and _, but it is "
        "\"%.60s\"",
        name);
  if (!r && (strlen(dir) >= sizeof p->dir || strlen(name) >= sizeof p->name))
    r = vit__fail(VIT_ERR_FILE,
        "the name of figure %.60s in %.200s is too long", name, dir);
  for (int i = 0; !r && i < 2; i++) {
    char path[340];
    FILE **f = i ? &p->data : &p->script;
    snprintf(path, sizeof path, "%s/%s.%s", dir, name, i ? "dat" : "gp");
    if ((*f = fopen(path, "w")) == NULL)
      r = vit__fail(
          VIT_ERR_FILE, "cannot write %.300s: %.100s", path, strerror(errno));
  }
  if (r && p->script) fclose(p->script), p->script = NULL;
  if (r) return r;
  snprintf(p->dir, sizeof p->dir, "%s", dir);
  snprintf(p->name, sizeof p->name, "%s", name);
  fprintf(p->script,
      "# Draw again with: gnuplot -d %s.gp\n"
      "set terminal pngcairo size %d,%d font 'sans,11' background 'white'\n"
      "set output '%s.png'; set encoding utf8; set border lw 0.8\n"
      "set tics nomirror; set key noenhanced; set linetype cycle 7\n"
      "# colours that differ for the colour-blind, too (Okabe and Ito 2008)\n"
      "colors = '0072B2 D55E00 009E73 CC79A7 E69F00 56B4E9 000000'\n"
      "do for [i=1:7] { set linetype i lw 2.5 ps 0.8 \\\n"
      "  lc rgb '#'.word(colors, i) pt int(word('7 5 9 11 13 4 6', i)) }\n",
      name, width, height, name);
  return VIT_OK;
}

VIT_DEF vit_result vit_plot_end(vit_plot *p) {
  char command[1400];
  int status, bad;
  if (!p->script)
    return vit__fail(VIT_ERR_STATE,
        "there is no figure: vit_plot_begin failed or was not called");
  bad = ferror(p->script) || ferror(p->data);
  bad |= (fclose(p->script) | fclose(p->data)) != 0;
  p->script = p->data = NULL;
  if (bad)
    return vit__fail(VIT_ERR_FILE,
        "cannot write the figure %s in %s; is the disk full?", p->name, p->dir);
#ifdef _WIN32
  snprintf(command, sizeof command, "cd /d \"%s\" && gnuplot -d %s.gp 2>NUL",
      p->dir, p->name);
  status = system(command);
#else
  char dir[4 * sizeof p->dir] = "", *to = dir; /* a quote in it becomes '\'' */
  for (const char *from = p->dir; *from; from++)
    to += snprintf(to, 5, "%s%c", *from == '\'' ? "'\\'" : "", *from);
  snprintf(command, sizeof command,
      "CDPATH= cd -- '%s' && gnuplot -d %s.gp 2>/dev/null", dir, p->name);
  status =
      system(command); /* which ignores SIGINT; the shell or gnuplot tell */
  if (status == 2 || status == 130 << 8)
    return vit__fail(VIT_STOPPED, "stopped while gnuplot drew %s", p->name);
#endif
  if (status == 0) return VIT_OK;
  return vit__fail(VIT_ERR_GNUPLOT,
      "no picture: gnuplot %s `gnuplot -d %s.gp` in %s",
      status == 127 << 8 || status == 127 ? "is missing; install it, then run"
                                          : "failed; to see why, run",
      p->name, p->dir);
}

/* A text for gnuplot; a quote in it would end the string. */
static void vit__plot_text(FILE *f, const char *command, const char *text) {
  fprintf(f, "%s \"", command);
  for (; *text; text++) /* in quotes, gnuplot runs what backquotes enclose */
    if (*text == '\n') fputs("\\n", f);
    else fputc(strchr("\"\\`", *text) ? '\'' : *text, f);
  fputc('"', f);
}

/* What gnuplot draws of histories, run i at index i - 1 of the data. One run
   has a colour for each curve, several have a colour for each run. */
static const char vit__runs_script[] =
    "set termoption noenhanced; set style data linespoints\n"
    "set multiplot layout 1, judged ? 3 : 2\n"
    "color(i, curve) = runs > 1 ? i : curve\n"
    "first(i, text) = i > 1 ? '' : text\n"
    "mark(i, epoch, y) = epoch == best[i] ? y : NaN\n"
    "set grid ytics lt 1 lw 1 lc rgb '#dddddd'; set key bmargin center\n"
    "set bmargin 4.5 + rows; set lmargin 9.5; set rmargin 2\n"
    "stats data using 1 nooutput; epochs = STATS_max\n"
    "set xrange [0.8-epochs/50.0:1.02*epochs+0.2]; set xlabel 'epoch'\n"
    "set xtics int(epochs + 4) / 5; set offsets 0, 0, graph 0.05, 0\n"
    "set title 'Loss'; set ylabel 'cross entropy (nats)'\n"
    "if (runs == 1) set yrange [floor(10 * least) / 10.0:*]\n"
    "plot for [i=1:runs] data index i-1 using 1:2 dt 2 lt color(i, 1) \\\n"
    "       title first(i, 'training (mean of the epoch)'), \\\n"
    "     for [i=1:runs] data index i-1 using 1:3 lt color(i, 2) \\\n"
    "       title best[i] ? name[i] : '', \\\n"
    "     for [i=1:runs] data index i-1 using 1:(mark(i, $1, $3)) \\\n"
    "       with points lt 7 ps 2.2 title first(i, judged ? 'best' : ''), \\\n"
    "     least > 0 ? least : NaN with lines lt 7 lw 1 dt 3 \\\n"
    "       title least > 0 ? sprintf('least possible: %.3f', least) : ''\n"
    "set title judge; set ylabel 'right answers (%)'; set yrange [*:*<100]\n"
    "if (judged) plot for [i=1:runs] data index i-1 using 1:4 \\\n"
    "       lt color(i, 3) title !best[i] ? '' : \\\n"
    "       sprintf('%s: best %.2f %%', name[i], top[i]), \\\n"
    "     for [i=1:runs] data index i-1 using 1:(mark(i, $1, $4)) \\\n"
    "       with points lt 7 ps 2.2 title first(i, 'best')\n"
    "set title 'Learning rate, last step'; unset ylabel; set yrange [0:*]\n"
    "plot for [i=1:runs] data index i-1 using 1:5 lt color(i, 4) \\\n"
    "       title runs > 1 ? name[i] : ''; unset multiplot\n";

static vit_result vit__plot_runs(const char *dir, const char *name,
    const vit_history *const *h, const char *const *names, int count,
    const char *judge, double least) {
  vit_plot p;
  vit_result r;
  int judged = 0;
  if (count < 1)
    return vit__fail(VIT_ERR_CONFIG, "there are %d runs to draw", count);
  for (int i = 0; i < count; i++) {
    if (h[i]->epochs < 1)
      return vit__fail(VIT_ERR_CONFIG, "there is no finished epoch to draw");
    judged |= h[i]->best > 0;
  }
  if (!judge) judge = "images that judge the epochs";
  r = vit_plot_begin(&p, dir, name, judged ? 960 : 700, 420 + 20 * count);
  if (r) return r;
  fprintf(p.script,
      "data = '%s.dat'\nruns = %d\njudged = %d\nleast = %.6f\nrows = %d\n"
      "array best[runs]\narray top[runs]\narray name[runs]\n",
      name, count, judged, least, 1 + judged * (1 + count) + (least > 0));
  vit__plot_text(p.script, "judge = 'Accuracy on the '.", judge);
  fprintf(p.data,
      "# epoch  train_loss  val_loss  val_accuracy_percent  rate  seconds\n");
  for (int i = 0; i < count; i++) {
    const int best = h[i]->best;
    const vit_epoch *x = h[i]->epoch;
    fprintf(p.script, "\nbest[%d] = %d\ntop[%d] = %.3f\nname[%d]", i + 1, best,
        i + 1, best ? 100 * x[best - 1].val_accuracy : 0, i + 1);
    vit__plot_text(p.script, " =", names ? names[i] : judge);
    for (int e = 1; e <= h[i]->epochs; e++, x++)
      fprintf(p.data, "%d %.6f %.6f %.3f %g %.2f\n", e, x->train_loss,
          x->val_loss, 100 * x->val_accuracy, x->rate, x->seconds);
    fputs("\n\n", p.data); /* gnuplot: the next index */
  }
  fprintf(p.script, "\n%s", vit__runs_script);
  return vit_plot_end(&p);
}

VIT_DEF vit_result vit_plot_history(const char *dir, const char *name,
    const vit_history *h, const char *judge, const vit_config *c) {
  return vit__plot_runs(dir, name, &h, NULL, 1, judge,
      c && c->softmax_before_loss ? log(exp(1.0) + c->classes - 1) - 1 : 0);
}

VIT_DEF vit_result vit_plot_histories(const char *dir, const char *name,
    const vit_history *const *h, const char *const *names, int count,
    const char *judge) {
  return vit__plot_runs(dir, name, h, names, count, judge, 0);
}

VIT_DEF vit_result vit_plot_confusion(const char *dir, const char *name,
    const int *counts, int K, const vit_dataset *d) {
  const int few = K <= 100; /* there is room for names and numbers */
  const int size = K < 6 ? 480 : few ? 150 + 55 * K : 1200;
  int all = 0, wrong = 0;
  double most = 0; /* the largest part of a class that is one mistake, in % */
  vit_plot p;
  vit_result r = vit_plot_begin(&p, dir, name, size + 60, size);
  if (r) return r;
  fputs("# predicted  true  count  percent_of_true_class\n", p.data);
  for (int t = 0; t < K; t++, counts += K) {
    int sum = 0;
    for (int k = 0; k < K; k++) sum += counts[k];
    for (int k = 0; k < K; k++) {
      const double percent = sum ? 100.0 * counts[k] / sum : 0;
      fprintf(p.data, "%d %d %d %.2f\n", k, t, counts[k], percent);
      if (k != t) most = fmax(most, percent);
    }
    wrong += sum - counts[t], all += sum;
  }
  fprintf(p.script,
      "K = %d; step = %d; set termoption noenhanced; unset key\n"
      "set title 'Which class is taken for which? %d of %d images are wrong'\n"
      "set xlabel 'predicted class (blue: right answers)'\n"
      "set ylabel 'true class'; set cblabel 'mistakes, %% of the true class'\n"
      "set xrange [-0.5:K-0.5]; set yrange [K-0.5:-0.5]; set size ratio 1\n"
      "set xtics step scale 0; set ytics step scale 0\nset cbrange [0:%g]\n"
      "set palette defined (0 '#ffffff', 1 '#fdebd8', 30 '#f0a860', 100 "
      "'#d55e00')\n",
      K, few ? 1 : K / 10, wrong, all, most > 0 ? most : 1);
  for (int k = 0; few && d && d->names && k < VIT__MIN(K, d->classes); k++)
    for (int y = 0; y < 2; y++) {
      vit__plot_text(
          p.script, y ? "set ytics add (" : "set xtics add (", d->names[k]);
      fprintf(p.script, " %d)%s\n", k, y ? "" : " rotate by 45 right");
    }
  fprintf(p.script,
      "plot '%s.dat' using 1:2:($1 == $2 ? NaN : $4) with image, \\\n"
      "     '' using ($1 == $2 ? $1 : NaN):2:(0.5):(0.5) with boxxyerror "
      "lc rgb '#b9dcf2' fs solid noborder, \\\n"
      "     '' using 1:(K > 100 || $3 == 0 && $1 != $2 ? NaN : $2): \\\n"
      "       (sprintf($1 == $2 ? \"%%d\\n%%.1f%%%%\" : '%%d', $3, $4)) "
      "with labels font ',10'\n",
      name);
  return vit_plot_end(&p);
}

/* A figure around pictures of wide x deep pixels: the lines of its title above,
   a bar on the right. */
typedef struct {
  double left, top, width, height;
} vit__frame;

static vit__frame vit__plot_frame(
    const char *title, double wide, double deep, int bar) {
  double lines = 0, area = wide;
  for (const char *end; *title; title = end + (*end == '\n'), lines++) {
    end = title + strcspn(title, "\n");
    area = fmax(area, 8.2 * (double)(end - title));
  }
  vit__frame f;
  f.left = 8 + (area - wide) / 2;
  f.top = 16 + 20 * lines;
  f.width = 16 + area + 120 * bar;
  f.height = f.top + deep + 8;
  return f;
}

/* The title of each tile: of tile 0 around (x, y), the next `across` away. */
static void vit__plot_labels(FILE *f, const char *const *titles, int tiles,
    int cols, int across, int down, double x, double y) {
  for (int i = 0; titles && i < tiles; i++) {
    if (!titles[i]) continue;
    vit__plot_text(f, "set label", titles[i]);
    fprintf(f, " noenhanced at %g,%g center front font ',%d'\n",
        i % cols * across + x, i / cols * down + y, cols > 6 ? 9 : 11);
  }
}

VIT_DEF vit_result vit_plot_tiles(const char *dir, const char *name,
    const char *title, const float *values, const float *glow, int glow_rows,
    int glow_cols, const char *const *titles, int rows, int cols, int channels,
    int height, int width, float black, float white) {
  static const double orange[3] = {255, 170, 0};
  const vit_idx plane = (vit_idx)height * width, size = plane * channels;
  const int tiles = rows * cols, gap = 1 + width / 16;
  const int band = titles ? 1 + height * 4 / 10 : gap; /* two lines */
  const int across = width + gap, down = height + band;
  const double scale = fmin(150.0 / width, 820.0 / (cols * across));
  const double wide = cols * across * scale, deep = rows * down * scale;
  double low = (double)black, high = (double)white, most = 0;
  for (vit_idx i = 0; glow && i < (vit_idx)tiles * glow_rows * glow_cols; i++)
    most = fmax(most, (double)glow[i]);
  const vit__frame f = vit__plot_frame(title, wide, deep, most > 0);
  vit_plot p;
  vit_result r = vit_plot_begin(&p, dir, name, (int)f.width, (int)f.height);
  if (r) return r;
  fputs("# x y red green blue\n", p.data);
  for (int y = 0; y < rows * down; y++)
    for (int x = 0; x < cols * across; x++) {
      const vit_idx tile = (vit_idx)(y / down) * cols + x / across;
      const int row = y % down, col = x % across;
      const int inside = row < height && col < width; /* else it is white */
      const float *v = values + tile * size;
      const vit_idx region =
          (tile * glow_rows + row * glow_rows / height) * glow_cols +
          col * glow_cols / width;
      /* of the largest glow, a quarter of the picture is left */
      const double w =
          inside && most > 0 ? 0.75 * fmax((double)glow[region] / most, 0) : 0;
      int rgb[3] = {255, 255, 255};
      for (vit_idx i = 0; black == white && col == 0 && i < size; i++) {
        low = i ? fmin(low, (double)v[i]) : (double)v[i];
        high = i ? fmax(high, (double)v[i]) : (double)v[i];
      }
      for (int c = 0; inside && c < 3; c++) {
        const vit_idx at = row * width + col + (channels == 3 ? c * plane : 0);
        double color = high > low ? ((double)v[at] - low) / (high - low) : 0;
        color = 255 * fmin(fmax(color, 0), 1);
        rgb[c] = (int)(0.5 + color * (1 - w) + w * orange[c]);
      }
      fprintf(p.data, "%d %d %d %d %d\n", x, y, rgb[0], rgb[1], rgb[2]);
    }
  vit__plot_labels(p.script, titles, tiles, cols, across, down,
      (width - 1) / 2.0, height + band * 0.3);
  vit__plot_text(p.script, "set title", title);
  fprintf(p.script, /* with a glow its bar, as it shines over black */
      " noenhanced\nunset key; unset tics; unset border\n"
      "set xrange [-0.5:%d-0.5]\nset yrange [%d-0.5:-0.5]\n"
      "set lmargin at screen %.4f\nset rmargin at screen %.4f\n"
      "set tmargin at screen %.4f\nset bmargin at screen %.4f\n"
      "set cbrange [0:%g]\nset cbtics\nset cblabel 'weight of a region'\n"
      "set palette defined (0 '#000000', 1 '#bf8000')\n"
      "plot '%s.dat' using 1:2:3:4:5 with rgbimage%s\n",
      cols * across, rows * down, f.left / f.width, (f.left + wide) / f.width,
      1 - f.top / f.height, 8 / f.height, most, name,
      most > 0 ? ", NaN with lines lc palette" : "");
  return vit_plot_end(&p);
}

/* ------------------------------------------------------------------------ */
/*  >>11 speed                                                              */
/* ------------------------------------------------------------------------ */

/* The same with packed weights: output o's weights stand VIT__PANEL apart. */
static void vit_naive_linear_packed_forward(float *y, const float *x,
    const float *packed, const float *b, int rows, int in, int out) {
  for (vit_idx r = 0; r < rows; r++)
    for (vit_idx o = 0; o < out; o++) {
      const float *w = packed + (o - o % VIT__PANEL) * in + o % VIT__PANEL;
      double sum = b ? (double)b[o] : 0.0;
      for (vit_idx i = 0; i < in; i++)
        sum += (double)x[r * in + i] * (double)w[i * VIT__PANEL];
      y[r * out + o] = (float)sum;
    }
}

VIT_DEF int vit_panel(void) { return VIT__PANEL; }

VIT_DEF void vit_pack_linear(float *packed, const float *w, int in, int out) {
  for (vit_idx first = 0; first < out; first += VIT__PANEL)
    for (vit_idx i = 0; i < in; i++)
      for (vit_idx o = first; o < first + VIT__PANEL; o++)
        *packed++ = w[o * in + i];
}

VIT_DEF void vit_unpack_linear(float *w, const float *packed, int in, int out) {
  for (vit_idx first = 0; first < out; first += VIT__PANEL)
    for (vit_idx i = 0; i < in; i++)
      for (vit_idx o = first; o < first + VIT__PANEL; o++)
        w[o * in + i] = *packed++;
}

#ifdef VIT__HAS_SIMD
/* All matrix products end here, so this is where the time goes.

       C[m,n] = start + sum over k of A[m,k] B[k,n]

   A core with AVX2 can do 16 multiply-adds in a cycle, but fetch only a few
   numbers. So each number that is fetched must serve many products, at every
   level of memory. From the inside out (Goto and van de Geijn 2008):

   tile   VIT_TILE_ROWS x VIT_TILE_COLS numbers of C stay in registers while k
          runs: a number of A serves VIT_TILE_COLS products, one of B serves
          VIT_TILE_ROWS. A multiply-add takes about 4 cycles and 2 start in
          each, so at least 8 vectors of C must be under way, and all must fit
          in registers: AVX2 has 12 here, AVX-512 28, NEON 24, WebAssembly 8.
   panel  The VIT_TILE_COLS columns of B that a tile reads are copied side by
          side ("packed"), VIT__DEPTH rows at a time: 16 KB, or 32 with AVX-512,
          which stay in the first-level cache while VIT__HEIGHT rows of A pass.
   block  Those rows of A, 96 KB, stay in the second-level cache while the
          panels of VIT__WIDTH columns of B, 256 KB in vit__packed_b, pass by.
          They are read where they are, unless k runs across the rows (dy^T x):
          then they are packed into vit__packed_a, tile by tile.

   A dimension that is no multiple of its block only makes the last block
   smaller (vit_load_n and vit_store_n leave out what is not there); a product
   of one panel, as in small heads, has no blocks at all. Strides say where
   A[m,k] and B[k,n] are, so that one function does x W^T, dy W and dy^T x;
   examples/11_speed.c climbs up to it step by step. */
enum {
  VIT_TILE_COLS = VIT__PANEL,
  VIT_TILE_VECS = VIT_TILE_COLS / (int)VIT_LANES,
  VIT__A_TILES = 96 / VIT_TILE_ROWS,
  VIT__HEIGHT = VIT__A_TILES * VIT_TILE_ROWS,
  VIT__SKINNY = 32, /* so few columns that packing A costs more */
  VIT__A_TILE = (int)VIT_TILE_ROWS * VIT__DEPTH + VIT_LANES
};

/* Where a thread packs A; with vit__packed_b 360 KB. With glibc they are taken
   from the stack of each thread of the program, which has 8 MB unless it asks
   for less. */
static VIT__THREAD_LOCAL float vit__packed_a[VIT__A_TILES * VIT__A_TILE];

static vit__matrix vit__panels(const float *packed, vit_idx in) {
  vit__matrix m = vit__at(packed, VIT__PANEL, in);
  m.packed = 1;
  return m;
}

/* The part of m that starts at element (i, j). */
static vit__matrix vit__from(vit__matrix m, vit_idx i, vit_idx j) {
  m.p += i * m.row + j * m.col;
  return m;
}

/* One tile of `vecs` vectors a row: the naive line
       sum += x[r * in + i] * w[o * in + i]
   for VIT_TILE_ROWS rows r and VIT_TILE_COLS outputs o at once, with k for i.
   Rows past `rows` repeat the last row, columns past `cols` are whatever the
   panel holds there: neither is stored. */
VIT__OP void vit__tile(float *c, vit_idx c_row, vit__matrix a,
    const float *panel, const float *bias, int add, vit_idx rows, vit_idx cols,
    vit_idx depth, const int vecs) {
  vit_vec sum[VIT_TILE_ROWS][VIT_TILE_VECS];
  const float *ar[VIT_TILE_ROWS];
  VIT__UNROLL
  for (int r = 0; r < VIT_TILE_ROWS; r++) {
    vit_idx row = r < rows ? r : rows - 1;
    ar[r] = a.p + row * a.row;
    VIT__UNROLL
    for (int v = 0; v < vecs; v++) {
      vit_idx n = v * VIT_LANES;
      sum[r][v] = bias ? vit_load_n(bias + n, cols - n) : vit_set(0);
    }
    vit_prefetch(c + row * c_row); /* far away, and needed at the end */
  }
  for (vit_idx k = 0, ak = 0; k < depth; k++, ak += a.col) {
    vit_vec b[VIT_TILE_VECS]; /* row k of the panel, for all rows of the tile */
    VIT__UNROLL
    for (int v = 0; v < vecs; v++)
      b[v] = vit_load(panel + k * VIT_TILE_COLS + v * VIT_LANES);
    VIT__UNROLL
    for (int r = 0; r < VIT_TILE_ROWS; r++) {
      vit_vec x = vit_set(ar[r][ak]);
      VIT__UNROLL
      for (int v = 0; v < vecs; v++) sum[r][v] = vit_fma(x, b[v], sum[r][v]);
    }
  }
  VIT__UNROLL
  for (int r = 0; r < VIT_TILE_ROWS; r++) {
    if (r >= rows) continue;
    VIT__UNROLL
    for (int v = 0; v < vecs; v++) {
      const vit_idx n = cols - v * VIT_LANES;
      float *to = c + r * c_row + v * VIT_LANES;
      if (add) sum[r][v] = vit_add(vit_load_n(to, n), sum[r][v]);
      vit_store_n(to, sum[r][v], n);
    }
  }
}

/* Copy a depth x cols part of B into a panel, filled up to whole vectors. First
   where the rows of B lie in one piece, then where its columns do. */
VIT__SIMD void vit__pack_panel(
    float *panel, vit__matrix b, vit_idx depth, vit_idx cols) {
  if (b.col == 1) {
    for (vit_idx k = 0; k < depth; k++)
      for (vit_idx n = 0; n < cols; n += VIT_LANES)
        vit_store(panel + k * VIT_TILE_COLS + n,
            vit_load_n(b.p + k * b.row + n, cols - n));
    return;
  }
  for (vit_idx n = 0; n < cols; n += VIT_LANES)
    for (vit_idx k = 0; k < depth; k += VIT_LANES) {
      vit_vec v[VIT_LANES];
      for (vit_idx i = 0; i < VIT_LANES; i++)
        v[i] =
            vit_load_n(b.p + (n + i) * b.col + k, n + i < cols ? depth - k : 0);
      vit_transpose(v);
      for (vit_idx i = 0; i < VIT_LANES && k + i < depth; i++)
        vit_store(panel + (k + i) * VIT_TILE_COLS + n, v[i]);
    }
}

/* Copy rows x depth of A, tile by tile, so that each k finds the rows of a tile
   side by side. Vectors of 8 store rows of 6 numbers: the rest runs into the
   place of the next k, which is written later, and after the last k into the
   VIT_LANES floats that VIT__A_TILE has for it. */
VIT__SIMD void vit__pack_rows(
    float *to, vit__matrix a, vit_idx rows, vit_idx depth) {
  for (vit_idx k = 0; k < depth; k++, to += VIT_TILE_ROWS, a.p += a.col)
    for (vit_idx m = 0, t = 0; m < rows; m += VIT_TILE_ROWS, t += VIT__A_TILE)
      for (vit_idx r = 0; r < VIT_TILE_ROWS; r += VIT_LANES)
        vit_store(to + t + r, vit_load_n(a.p + m + r, rows - m - r));
}

/* All tiles of a block: rows 0 .. M-1 of A against the packed columns of B.
   a_tile, b_step: floats from one tile of A, one column of B, to the next. */
VIT__SIMD void vit__block(float *c, vit_idx c_row, vit__matrix a,
    vit_idx a_tile, const float *packed, vit_idx b_step, const float *bias,
    int add, vit_idx M, vit_idx N, vit_idx depth) {
  for (vit_idx n = 0; n < N; n += VIT_TILE_COLS) {
    const float *panel = packed + n * b_step;
    const float *start = bias ? bias + n : NULL;
    vit__matrix tile = a;
    for (vit_idx m = 0; m < M; m += VIT_TILE_ROWS, tile.p += a_tile) {
      const vit_idx rows = M - m, cols = N - n;
      float *to = c + m * c_row + n;
      if (rows >= VIT_TILE_ROWS && cols >= VIT_TILE_COLS) /* the usual case */
        vit__tile(to, c_row, tile, panel, start, add, VIT_TILE_ROWS,
            VIT_TILE_COLS, depth, VIT_TILE_VECS);
      else if (cols > VIT_LANES)
        vit__tile(to, c_row, tile, panel, start, add, rows, cols, depth,
            VIT_TILE_VECS);
      else vit__tile(to, c_row, tile, panel, start, add, rows, cols, depth, 1);
    }
  }
}

/* C [M,N] = (bias, or C if add, or 0) + A [M,K] B [K,N]. k runs in order, and
   after each VIT__DEPTH terms their sum is added to C. That order does not
   depend on M or N: a caller may split the rows among threads and gets the same
   bits. */
VIT__SIMD void vit__matmul(float *c, vit_idx c_row, vit__matrix a,
    vit__matrix b, const float *bias, int add, vit_idx M, vit_idx N,
    vit_idx K) {
  const int pack_a = a.col != 1 && N > VIT__SKINNY;
  const vit_idx a_tile = pack_a ? (vit_idx)VIT__A_TILE : VIT_TILE_ROWS * a.row;
  const vit_idx b_step = b.packed ? K : (vit_idx)VIT__DEPTH;
  if (N <= VIT_TILE_COLS && K <= VIT__DEPTH && !b.packed) { /* a single panel */
    vit__pack_panel(vit__packed_b, b, K, N);
    vit__block(c, c_row, a, a_tile, vit__packed_b, b_step, bias, add, M, N, K);
    return;
  }
  for (vit_idx k = 0; k < K; k += VIT__DEPTH)
    for (vit_idx n = 0; n < N; n += VIT__WIDTH) {
      const vit_idx depth = VIT__MIN(K - k, VIT__DEPTH);
      const vit_idx cols = VIT__MIN(N - n, VIT__WIDTH);
      const float *start = bias && k == 0 ? bias + n : NULL;
      const float *packed = b.packed ? vit__from(b, k, n).p : vit__packed_b;
      for (vit_idx i = 0; i < cols && !b.packed; i += VIT_TILE_COLS)
        vit__pack_panel(vit__packed_b + i * VIT__DEPTH, vit__from(b, k, n + i),
            depth, VIT__MIN(cols - i, VIT_TILE_COLS));
      for (vit_idx m = 0; m < M; m += VIT__HEIGHT) {
        const vit_idx rows = VIT__MIN(M - m, VIT__HEIGHT);
        vit__matrix part = vit__from(a, m, k);
        if (pack_a) {
          vit__pack_rows(vit__packed_a, part, rows, depth);
          part = vit__at(vit__packed_a, 1, VIT_TILE_ROWS);
        }
        vit__block(c + m * c_row + n, c_row, part, a_tile, packed, b_step,
            start, add || k > 0, rows, cols, depth);
      }
    }
}

/* A = x, B = W^T */
VIT__SIMD void vit_simd_linear_forward(float *y, const float *x, const float *w,
    const float *b, int rows, int in, int out) {
  vit__matmul(
      y, out, vit__at(x, in, 1), vit__at(w, 1, in), b, 0, rows, out, in);
}

/* The same, but the panels of B are there. */
VIT__SIMD void vit_simd_linear_packed_forward(float *y, const float *x,
    const float *packed, const float *b, int rows, int in, int out) {
  vit__matmul(
      y, out, vit__at(x, in, 1), vit__panels(packed, in), b, 0, rows, out, in);
}

/* A = dy, B = W */
VIT__SIMD void vit_simd_linear_backward_input(
    float *dx, const float *dy, const float *w, int rows, int in, int out) {
  vit__matmul(
      dx, in, vit__at(dy, out, 1), vit__at(w, in, 1), NULL, 0, rows, in, out);
}

/* db += the sums of n columns of dy, n <= 4 VIT_LANES */
VIT__OP void vit__add_columns(
    float *db, const float *dy, vit_idx dy_stride, vit_idx rows, vit_idx n) {
  vit_vec sum[4] = {vit_set(0), vit_set(0), vit_set(0), vit_set(0)};
  for (vit_idx r = 0; r < rows; r++) {
    VIT__UNROLL
    for (vit_idx v = 0; v < 4; v++)
      sum[v] = vit_add(sum[v],
          vit_load_n(dy + r * dy_stride + v * VIT_LANES, n - v * VIT_LANES));
  }
  for (vit_idx v = 0; v * VIT_LANES < n; v++) {
    vit_idx left = n - v * VIT_LANES;
    float *to = db + v * VIT_LANES;
    vit_store_n(to, vit_add(vit_load_n(to, left), sum[v]), left);
  }
}

/* A = dy^T, B = x; then db */
VIT__SIMD void vit_simd_linear_backward_weight(float *dw, float *db,
    const float *dy, const float *x, int rows, int in, int out, int dy_stride) {
  vit__matmul(dw, in, vit__at(dy, 1, dy_stride), vit__at(x, in, 1), NULL, 1,
      out, in, rows);
  if (!db) return;
  for (vit_idx o = 0; o < out; o += 4 * VIT_LANES)
    if (out - o >= 4 * VIT_LANES) /* the compiler drops the tails */
      vit__add_columns(db + o, dy + o, dy_stride, rows, 4 * VIT_LANES);
    else vit__add_columns(db + o, dy + o, dy_stride, rows, out - o);
}
#endif

/* -- int8: numbers of one byte ------------------------------------------- */

/* Inference can do with fewer bits. A row x [in] becomes whole numbers u from 0
   to 127 with a scale s and a zero point z, the weights of output o whole
   numbers q from -64 to 64 with a scale t (Jacob et al. 2018, section 2):

       x_i = s (u_i - z)      w_oi = t_o q_oi
       y_o = s t_o (sum over i of u_i q_oi - z * sum over i of q_oi) + b_o

   An instruction multiplies four times as many bytes as floats, and a quarter
   of the memory is read. Sums of whole numbers are exact in any order, so naive
   and SIMD give the same bits. The zero point lets u use its whole range for
   numbers that are mostly positive, as after GELU. It is 7 bits and not 8 since
   AVX2 adds products of bytes in 16 bits, where four of them fit (127 * 64 * 4
   is 32,512): none saturates, in any dialect. With up to VIT__INT8_MOST inputs
   the sum of products fits in 32 bits, that of q in a float, and a row in
   vit__packed_b.

   In memory a row is s and z as floats and its bytes, filled up with z, which
   stands for 0 (the weights there are 0 anyway).
   Weights are panels of VIT__PANEL outputs: their t, their sums of q, then
   bytes [in / 4, VIT__PANEL, 4]. Both take as many floats for each output or
   row, vit__int8_floats. */
#define VIT__INT8_X 127 /* largest u, and q */
#define VIT__INT8_W 64

VIT_DEF size_t vit_int8_size(int count, int in) {
  return (size_t)count * (size_t)vit__int8_floats(in) * sizeof(float);
}

/* Where panels hold t of output o, in floats (its sum of q is VIT__PANEL
   further), and q_oi, in bytes. */
static vit_idx vit__int8_scale(vit_idx o, vit_idx in) {
  return o / VIT__PANEL * VIT__PANEL * vit__int8_floats(in) + o % VIT__PANEL;
}
static vit_idx vit__int8_byte(vit_idx o, vit_idx i, vit_idx in) {
  const vit_idx panel = 4 * vit__int8_scale(o - o % VIT__PANEL, in);
  return panel + ((2 + i / 4) * VIT__PANEL + o % VIT__PANEL) * 4 + i % 4;
}

/* s and z of a row whose numbers lie in low .. high, 0 among them. Returns 1/s,
   or 0 where a number is not finite: then s is NaN, and so are the results.
   Both ends are divided first: high - low may be too large for a float. */
static float vit__int8_begin(
    float *row, float low, float high, int finite, int in) {
  float s = high / VIT__INT8_X - low / VIT__INT8_X;
  if (s < FLT_MIN) s = 1; /* all are 0, or as good as that */
  if (!finite) {
    memset(row, 0, vit_int8_size(1, in));
    row[0] = NAN;
    return 0;
  }
  row[0] = s, row[1] = rintf((0 - low) / s); /* never -0 */
  return 1 / s;
}

/* u = round(x / s + z). x [rows,in] */
static void vit_naive_quantize_rows(void *q, const float *x, int rows, int in) {
  const vit_idx floats = vit__int8_floats(in), bytes = 4 * (floats - 2);
  float *row = (float *)q;
  for (vit_idx r = 0; r < rows; r++, x += in, row += floats) {
    uint8_t *u = (uint8_t *)(row + 2);
    float low = 0, high = 0, inverse;
    int finite = 1;
    for (vit_idx i = 0; i < in; i++) {
      if (x[i] < low) low = x[i];
      if (x[i] > high) high = x[i];
      finite &= VIT__IS_FINITE(x[i]);
    }
    inverse = vit__int8_begin(row, low, high, finite, in);
    for (vit_idx i = 0; finite && i < bytes; i++) {
      const float n = rintf(VIT__FMA(i < in ? x[i] : 0, inverse, row[1]));
      u[i] = (uint8_t)fminf(fmaxf(n, 0), VIT__INT8_X);
    }
  }
}

/* y = s t (u q^T - z sum of q) + b, for `out` outputs from `first` on of those
   that w and b have. y [rows,out] */
static void vit_naive_linear_int8_forward(float *y, const void *x,
    const void *w, const float *b, int rows, int in, int first, int out) {
  const int8_t *q = (const int8_t *)w;
  for (vit_idx r = 0; r < rows; r++)
    for (vit_idx o = first; o < first + out; o++) {
      const float *row = (const float *)x + r * vit__int8_floats(in);
      const float *t = (const float *)w + vit__int8_scale(o, in);
      const uint8_t *u = (const uint8_t *)(row + 2);
      int32_t sum = 0;
      for (vit_idx i = 0; i < in; i++)
        sum += u[i] * q[vit__int8_byte(o, i, in)];
      *y++ = VIT__FMA(VIT__FMA(-row[1], t[VIT__PANEL], (float)sum), row[0] * *t,
          b ? b[o] : 0);
    }
}

#ifdef VIT__HAS_SIMD
VIT__SIMD void vit_simd_quantize_rows(
    void *q, const float *x, int rows, int in) {
  const vit_idx floats = vit__int8_floats(in), bytes = 4 * (floats - 2);
  float *row = (float *)q;
  for (vit_idx r = 0; r < rows; r++, x += in, row += floats) {
    uint8_t *u = (uint8_t *)(row + 2);
    vit_vec low = vit_set(0), high = low, none = low, n;
    float inverse;
    for (vit_idx i = 0; i < in; i += VIT_LANES) {
      n = vit_load_n(x + i, in - i);
      low = vit_max(low, vit_sub(vit_set(0), n)), high = vit_max(high, n);
      none = vit_fma(n, vit_set(0), none); /* NaN, if one is not finite */
    }
    inverse = vit__int8_begin(
        row, -vit_top(low), vit_top(high), vit_sum(none) == 0, in);
    for (vit_idx i = 0; inverse > 0 && i < bytes; i += VIT_LANES) {
      n = vit_load_n(x + i, in - i);
      n = vit_round(vit_fma(n, vit_set(inverse), vit_set(row[1])));
      n = vit_min(vit_max(n, vit_set(0)), vit_set(VIT__INT8_X));
      vit_store_bytes(u + i, n);
    }
  }
}

/* As vit__tile: VIT_INT8_ROWS rows against a panel. The line
       sum += u[i] * q[vit__int8_byte(o, i, in)]
   for eight i at once, four in each half of a vit_dot. b [VIT__PANEL] */
VIT__OP void vit__int8_tile(float *y, vit_idx y_row, const float *x,
    const float *panel, const float *b, vit_idx rows, vit_idx in) {
  const int8_t *q = (const int8_t *)(panel + 2 * VIT__PANEL);
  const float *row[VIT_INT8_ROWS];
  vit_ivec sum[VIT_INT8_ROWS][VIT_TILE_VECS];
  VIT__UNROLL
  for (int r = 0; r < VIT_INT8_ROWS; r++) {
    row[r] = x + VIT__MIN(r, rows - 1) * vit__int8_floats(in);
    VIT__UNROLL
    for (int v = 0; v < VIT_TILE_VECS; v++) sum[r][v] = vit_iset(0);
  }
  for (vit_idx i = 0; i < in; i += 8, q += 8 * VIT__PANEL) {
    vit_ivec half[2][VIT_TILE_VECS];
    VIT__UNROLL
    for (int v = 0; v < VIT_TILE_VECS; v++) {
      half[0][v] = vit_iload(q + 4 * v * VIT_LANES);
      half[1][v] = vit_iload(q + 4 * (VIT__PANEL + v * VIT_LANES));
    }
    VIT__UNROLL
    for (int r = 0; r < VIT_INT8_ROWS; r++) {
      uint32_t four[2]; /* inputs in each, for all outputs */
      memcpy(four, (const uint8_t *)(row[r] + 2) + i, sizeof four);
      VIT__UNROLL
      for (int v = 0; v < VIT_TILE_VECS; v++)
        sum[r][v] = vit_dot(sum[r][v], vit_iset(four[0]), half[0][v],
            vit_iset(four[1]), half[1][v]);
    }
  }
  VIT__UNROLL
  for (int r = 0; r < VIT_INT8_ROWS; r++) {
    if (r >= rows) continue;
    VIT__UNROLL
    for (int v = 0; v < VIT_TILE_VECS; v++) {
      const float *t = panel + v * VIT_LANES;
      vit_vec n = vit_fma(
          vit_set(-row[r][1]), vit_load(t + VIT__PANEL), vit_ifloat(sum[r][v]));
      n = vit_fma(n, vit_mul(vit_set(row[r][0]), vit_load(t)),
          vit_load(b + v * VIT_LANES));
      vit_store(y + r * y_row + v * VIT_LANES, n);
    }
  }
}

/* A panel stays in the first-level cache while all rows pass. Of the first and
   the last one some outputs may not be wanted: these go through `part`. */
VIT__SIMD void vit_simd_linear_int8_forward(float *y, const void *x,
    const void *w, const float *b, int rows, int in, int first, int out) {
  const vit_idx end = first + out;
  for (vit_idx n, o = first; o < end; o += n) {
    const vit_idx skip = o % VIT__PANEL;
    const float *panel = (const float *)w + vit__int8_scale(o - skip, in);
    float bias[VIT__PANEL] = {0}, part[VIT_INT8_ROWS * VIT__PANEL];
    n = VIT__MIN(VIT__PANEL - skip, end - o);
    if (b) memcpy(bias + skip, b + o, (size_t)n * sizeof *b);
    for (vit_idx r = 0; r < rows; r += VIT_INT8_ROWS) {
      const float *row = (const float *)x + r * vit__int8_floats(in);
      const vit_idx m = VIT__MIN(rows - r, VIT_INT8_ROWS);
      float *to = y + r * out + o - first;
      if (n == VIT__PANEL && m == VIT_INT8_ROWS) { /* the usual case */
        vit__int8_tile(to, out, row, panel, bias, VIT_INT8_ROWS, in);
        continue;
      }
      vit__int8_tile(part, VIT__PANEL, row, panel, bias, m, in);
      for (vit_idx i = 0; i < m; i++)
        memcpy(
            to + i * out, part + i * VIT__PANEL + skip, (size_t)n * sizeof *to);
    }
  }
}
#endif

/* Rows of floats, some at a time, through bytes. */
static void vit__linear_int8(const vit_kernels *k, float *y, const float *x,
    const float *w, const float *b, int rows, int in, int first, int out) {
  const int most = (int)(sizeof vit__packed_b / vit_int8_size(1, in));
  for (vit_idx r = 0; r < rows; r += most) {
    const int n = (int)VIT__MIN(most, rows - r);
    k->quantize_rows(vit__packed_b, x + r * in, n, in);
    k->linear_int8_forward(y + r * out, vit__packed_b, w, b, n, in, first, out);
  }
}

/* After the bytes of output o are there. */
static void vit__int8_finish(void *q, vit_idx o, vit_idx in, float scale) {
  float *t = (float *)q + vit__int8_scale(o, in);
  int32_t sum = 0;
  for (vit_idx i = 0; i < in; i++)
    sum += ((const int8_t *)q)[vit__int8_byte(o, i, in)];
  t[0] = scale, t[VIT__PANEL] = (float)sum;
}

VIT_DEF void vit_quantize_linear(void *q, const float *w, int in, int out) {
  int8_t *bytes = (int8_t *)q;
  const int panels = (out + VIT__PANEL - 1) / VIT__PANEL;
  memset(q, 0, (size_t)panels * vit_int8_size(VIT__PANEL, in));
  for (vit_idx o = 0; o < out; o++, w += in) {
    float most = 0, scale;
    for (vit_idx i = 0; i < in; i++)
      if (fabsf(w[i]) > most) most = fabsf(w[i]);
    scale = most / VIT__INT8_W;
    if (scale < FLT_MIN) scale = 1;
    for (vit_idx i = 0; i < in; i++)
      bytes[vit__int8_byte(o, i, in)] = (int8_t)rintf(w[i] / scale);
    vit__int8_finish(q, o, in, scale);
  }
}

VIT_DEF void vit_dequantize_linear(float *w, const void *q, int in, int out) {
  const int8_t *bytes = (const int8_t *)q;
  for (vit_idx o = 0; o < out; o++)
    for (vit_idx i = 0; i < in; i++)
      *w++ = ((const float *)q)[vit__int8_scale(o, in)] *
             bytes[vit__int8_byte(o, i, in)];
}

VIT_DEF vit_result vit_model_quantize(vit_model *m) {
  vit_model q;
  vit_tensor from, to;
  vit_result r = vit__check_model(m);
  if (!r) r = vit__check_plain(m);
  for (int i = 0; !r && vit_tensor_at(&m->config, i, &from); i++) {
    const vit_safetensor t =
        vit__block_tensor(from.name, m->params.block + from.offset, from.count);
    r = vit__take_numbers(VIT_ERR_DIVERGED, &t, NULL);
  }
  if (!r) r = vit__allocate_model(&q, &m->config, 1);
  if (r) return r;
  for (int i = 0; vit_tensor_at(&m->config, i, &from); i++) {
    const float *w = m->params.block + from.offset;
    const int out = from.shape[0], in = (int)(from.count / (size_t)out);
    vit__tensor_at(&q.config, 1, i, &to);
    if (from.is_matrix)
      vit_quantize_linear(q.params.block + to.offset, w, in, out);
    else memcpy(q.params.block + to.offset, w, from.count * sizeof *w);
  }
  q.kernels = m->kernels, q.threads = m->threads;
  vit_model_free(m);
  *m = q;
  return VIT_OK;
}

/* -- packed models -------------------------------------------------------- */

/* A panel of packed weights takes the place of the rows that it is made of, so
   one panel at a time is copied out and written back. */
static void vit__repack_tensor(
    float *w, const vit_tensor *t, float *copy, int pack) {
  const int out = t->shape[0], in = (int)(t->count / (size_t)out);
  const vit_idx panel = (vit_idx)VIT__PANEL * in;
  if (!t->is_matrix || !vit__packs(out)) return;
  for (vit_idx at = 0; at < (vit_idx)t->count; at += panel) {
    memcpy(copy, w + at, (size_t)panel * sizeof *w);
    if (pack) vit_pack_linear(w + at, copy, in, VIT__PANEL);
    else vit_unpack_linear(w + at, copy, in, VIT__PANEL);
  }
}

static vit_result vit__repack(vit_model *m, int pack) {
  size_t longest = 0;
  vit_tensor t;
  float *copy;
  vit_result r = vit__check_model(m);
  if (!r && m->quantized) r = vit__check_plain(m);
  if (r || m->packed == pack) return r;
  for (int i = 0; vit_tensor_at(&m->config, i, &t); i++) {
    size_t in = t.count / (size_t)t.shape[0];
    if (t.is_matrix && in > longest) longest = in;
  }
  copy = (float *)vit__allocate(
      longest * VIT__PANEL, sizeof *copy, "repacking the weights");
  if (!copy) return VIT_ERR_NO_MEMORY;
  for (int i = 0; vit_tensor_at(&m->config, i, &t); i++)
    vit__repack_tensor(m->params.block + t.offset, &t, copy, pack);
  VIT_FREE(copy);
  m->packed = pack;
  return VIT_OK;
}

VIT_DEF vit_result vit_model_pack(vit_model *m) { return vit__repack(m, 1); }
VIT_DEF vit_result vit_model_unpack(vit_model *m) { return vit__repack(m, 0); }

/* ------------------------------------------------------------------------ */
/*  >>12 photos                                                             */
/* ------------------------------------------------------------------------ */

enum { VIT__MOST_SIDE = 32768, VIT__MOST_PIXELS = 1 << 27 }; /* of a picture */
enum { VIT__MOST_CROP = 4096 }; /* a side of a dataset's images */
enum { VIT__MOST_PATH = 4096, VIT__MOST_DEPTH = 8 /* folders in a class */ };
enum { VIT__RESIZE_BITS = 22 }; /* of Pillow's fixed-point weights */

/* -- data: Pillow's resize ----------------------------------------------- */

/* One axis of a resize from `in` to `full` pixels, of which only `out` are
   made, from number `at` on. Each has a row in the plan: the first input that
   it is made of, how many these are, and their weights. */
typedef struct {
  int in, full, at, out, row;
  int32_t *plan; /* [out,row] */
} vit__axis;

/* A triangle from -1 to 1, or the cubic of Keys 1981 from -2 to 2. */
static double vit__filter_value(vit_filter filter, double x) {
  x = fabs(x);
  if (filter == VIT_BILINEAR) return x < 1 ? 1 - x : 0;
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/* The filter around the output's place in the input, which grows with the scale
   when shrinking; normalised, then rounded to VIT__RESIZE_BITS, away from 0. */
static vit_result vit__plan_axis(vit__axis *f, vit_filter filter) {
  const double scale = (double)f->in / f->full, wide = scale < 1 ? 1 : scale;
  const double narrow = 1 / wide, reach = (1 + (filter == VIT_BICUBIC)) * wide;
  f->row = 2 + VIT__MIN(f->in, (int)ceil(reach) * 2 + 1);
  f->plan = (int32_t *)vit__allocate(
      (size_t)f->out, (size_t)f->row * sizeof *f->plan, "resizing");
  for (int x = 0; f->plan && x < f->out; x++) {
    const double centre = (x + f->at + 0.5) * scale;
    const int low = (int)fmax(centre - reach + 0.5, 0);
    const int high = VIT__MIN((int)(centre + reach + 0.5), f->in);
    int32_t *row = f->plan + (vit_idx)x * f->row;
    double sum = 0;
    *row++ = low, *row++ = high - low;
    for (int i = low; i < high; i++)
      sum += vit__filter_value(filter, (i - centre + 0.5) * narrow);
    for (int i = low; i < high; i++) {
      double w = vit__filter_value(filter, (i - centre + 0.5) * narrow) / sum;
      w *= (double)(1 << VIT__RESIZE_BITS);
      *row++ = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
  }
  return f->plan ? VIT_OK : VIT_ERR_NO_MEMORY;
}

/* Resize one axis: the columns if `down`, else the rows; `lines` of them. */
static void vit__resize_axis(
    uint8_t *to, const uint8_t *from, const vit__axis *f, int lines, int down) {
  const vit_idx rows = down ? f->out : lines, columns = down ? lines : f->out;
  const vit_idx step = down ? columns : 1; /* from one input to the next */
  for (vit_idx y = 0; y < rows; y++)
    for (vit_idx x = 0; x < columns; x++) {
      const int32_t *plan = f->plan + (down ? y : x) * f->row;
      const uint8_t *p = from + plan[0] * step + (down ? x : y * f->in);
      int32_t sum = 1 << (VIT__RESIZE_BITS - 1);
      for (vit_idx i = 0; i < plan[1]; i++)
        sum += (int32_t)p[i * step] * plan[2 + i];
      sum = sum < 0 ? 0 : sum >> VIT__RESIZE_BITS;
      *to++ = (uint8_t)VIT__MIN(sum, 255);
    }
}

/* `planes` pictures; axis: down, across. The rows come first, but, as in Pillow
   since version 13, the columns where that saves work: where the height sinks
   by more than twice as many pixels as the width. */
static vit_result vit__resize(uint8_t *out, const uint8_t *in, vit_idx planes,
    vit__axis axis[2], vit_filter filter, int most) {
  const int threads = vit__threads((int)VIT__MIN(most, planes));
  const int sinks = axis[0].in - axis[0].full;
  const int down = sinks > 0 && sinks > 2 * (axis[1].in - axis[1].full);
  const vit__axis *first = axis + !down, *second = axis + down;
  const size_t between = (size_t)first->out * (size_t)second->in;
  uint8_t *mid = (uint8_t *)vit__allocate(between, (size_t)threads, "resizing");
  vit_result r = mid ? VIT_OK : VIT_ERR_NO_MEMORY;
  for (int i = 0; !r && i < 2; i++) r = vit__plan_axis(axis + i, filter);
  VIT__PARALLEL_FOR
  for (int t = 0; t < threads; t++)
    for (vit_idx i = t; !r && i < planes; i += threads) {
      uint8_t *own = mid + (size_t)t * between;
      const uint8_t *from = in + i * axis[0].in * axis[1].in;
      uint8_t *to = out + i * axis[0].out * axis[1].out;
      vit__resize_axis(own, from, first, second->in, down);
      vit__resize_axis(to, own, second, first->out, !down);
    }
  vit__free(mid), vit__free(axis[0].plan), vit__free(axis[1].plan);
  return r;
}

/* As torchvision's Resize and CenterCrop: the shorter side becomes `side`, or,
   with 0, the smallest for which it and the longer one cover what is cut out,
   over `part`. The longer one is rounded down, halves to the even number.
   Returns whether the picture grows. */
static int vit__plan_crop(vit__axis axis[2], int64_t side, double part) {
  vit__axis *shorter = axis, *longer = axis + 1;
  if (longer->in <= shorter->in) shorter++, longer--;
  if (!side) {
    side = ((int64_t)longer->out * shorter->in + longer->in - 1) / longer->in;
    if (side < shorter->out) side = shorter->out;
    side = (int64_t)((double)side / part);
  }
  shorter->full = (int)side;
  longer->full = (int)(side * longer->in / shorter->in);
  for (int i = 0; i < 2; i++) {
    const int rest = axis[i].full - axis[i].out;
    axis[i].at = rest / 2 + (rest & rest / 2 & 1);
  }
  return side > shorter->in;
}

VIT_DEF vit_result vit_resize(uint8_t *out, const uint8_t *in, vit_idx planes,
    int height, int width, int out_height, int out_width, vit_filter filter) {
  vit__axis axis[2] = {{height, out_height, 0, out_height, 0, NULL},
      {width, out_width, 0, out_width, 0, NULL}};
  for (int i = 0; i < 2; i++)
    if (VIT__MIN(axis[i].in, axis[i].out) < 1 || axis[i].in > VIT__MOST_SIDE ||
        axis[i].out > VIT__MOST_SIDE)
      return vit__fail(VIT_ERR_CONFIG,
          "cannot resize %d x %d pixels to %d x %d; sizes must be from 1 to %d",
          height, width, out_height, out_width, VIT__MOST_SIDE);
  if (filter != VIT_BILINEAR && filter != VIT_BICUBIC)
    return vit__fail(VIT_ERR_CONFIG,
        "filter %d is not known; there are VIT_BILINEAR and VIT_BICUBIC",
        (int)filter);
  return vit__resize(out, in, planes, axis, filter, vit_max_threads());
}

VIT_DEF vit_result vit_dataset_resize(vit_dataset *d, int height, int width) {
  const vit_idx planes = (vit_idx)d->count * d->channels;
  uint8_t *pixels, *old = d->pixels;
  vit_result r;
  if (height == d->height && width == d->width) return VIT_OK;
  if (height < 1 || width < 1 || height > VIT__MOST_CROP ||
      width > VIT__MOST_CROP)
    return vit__fail(VIT_ERR_CONFIG,
        "cannot resize images to %d x %d; sizes must be from 1 to %d", height,
        width, VIT__MOST_CROP);
  pixels = (uint8_t *)vit__allocate(
      (size_t)planes, (size_t)height * (size_t)width, "the resized images");
  if (!pixels) return VIT_ERR_NO_MEMORY;
  r = vit_resize(
      pixels, old, planes, d->height, d->width, height, width, VIT_BILINEAR);
  if (!r) d->pixels = pixels, d->height = height, d->width = width;
  VIT_FREE(r ? pixels : old);
  return r;
}

/* -- CIFAR-10 ------------------------------------------------------------ */

enum { VIT__CIFAR_IMAGE = 3 * 32 * 32 };

/* Add the records of a file: a label and an image each. */
static vit_result vit__read_cifar(
    vit__text *labels, vit__text *images, const char *path) {
  const size_t record = 1 + VIT__CIFAR_IMAGE;
  unsigned char *bytes = NULL;
  size_t size = 0;
  vit_result r = vit__read_file(path, &bytes, &size);
  if (!r) r = vit__gunzip(path, &bytes, &size);
  if (!r && (size % record || size < 1 || size > INT_MAX))
    r = vit__fail(VIT_ERR_FORMAT,
        "%.200s has %.0f bytes; CIFAR-10 has %d for each image, and 10000 "
        "images in a file: get it again",
        path, (double)size, (int)record);
  for (size_t at = 0; !r && at < size; at += record) {
    vit__text_add(labels, bytes + at, 1);
    vit__text_add(images, bytes + at + 1, VIT__CIFAR_IMAGE);
    if (bytes[at] > 9)
      r = vit__fail(VIT_ERR_FORMAT,
          "label %d of image %d in %.200s is not a class from 0 to 9; is it "
          "the binary version of CIFAR-10?",
          bytes[at], (int)(at / record), path);
  }
  vit__free(bytes);
  return !r && (labels->failed || images->failed) ? VIT_ERR_NO_MEMORY : r;
}

VIT_DEF vit_result vit_dataset_cifar10(
    vit_dataset *d, const char *dir, vit_split split) {
  static const char *const classes[] = {"airplane", "automobile", "bird", "cat",
      "deer", "dog", "frog", "horse", "ship", "truck"};
  static const char *const folders[] = {
      "", "/cifar-10-batches-bin", "/cifar10"};
  static const char *const batches[] = {"test_batch.bin", "data_batch_1.bin",
      "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
      "data_batch_5.bin"};
  const int train = split == VIT_TRAIN, files = train ? 5 : 1;
  const char *const *names = batches + train;
  vit__text labels = {NULL, 0, 0, 0}, images = {NULL, 0, 0, 0};
  char path[300];
  int f = 0;
  vit_result r;
  memset(d, 0, sizeof *d);
  dir = vit__data_dir(dir);
  if (!dir) return VIT_ERR_FILE;
  while (f < 3 && !vit__find_data(path, dir, folders[f], *names)) f++;
  if (f == 3)
    return vit__fail(VIT_ERR_FILE,
        "found no %s in %.100s, %.100s%s or %.100s%s; unpack "
        "cifar-10-binary.tar.gz there, or set VIT_DATA to where it is",
        *names, dir, dir, folders[1], dir, folders[2]);
  d->channels = 3, d->height = d->width = 32, d->classes = 10;
  for (int c = 0; c < 3; c++) d->std[c] = 1;
  r = vit__allocate_names(d);
  for (int k = 0; !r && k < 10; k++)
    snprintf(d->names[k], VIT_NAME_SIZE, "%s", classes[k]);
  for (int i = 0; !r && i < files; i++)
    r = vit__find_data(path, dir, folders[f], names[i])
            ? vit__read_cifar(&labels, &images, path)
            : vit__fail(VIT_ERR_FILE,
                  "found %s, but not %s, in %.200s%s; unpack all of "
                  "cifar-10-binary.tar.gz there",
                  *names, names[i], dir, folders[f]);
  d->labels = (uint8_t *)labels.at, d->pixels = (uint8_t *)images.at;
  d->count = (int)labels.used;
  snprintf(d->source, sizeof d->source,
      "CIFAR-10, %d %s images of 32 x 32 x 3, %.150s%s", d->count,
      train ? "training" : "test", dir, folders[f]);
  if (r) vit_dataset_free(d);
  return r;
}

/* -- one picture --------------------------------------------------------- */

#ifdef STBI_INCLUDE_STB_IMAGE_H
/* The orientation, 1 to 8, in an Exif block (a small TIFF file): the header
   says where a table is, its entry 0x0112 has the value. 1 if there is none. */
static int vit__exif_orientation(const unsigned char *p, size_t size) {
  const int big = size > 0 && p[0] == 'M';
  uint32_t entries, value;
  size_t at;
  if (size < 8 || memcmp(p, big ? "MM\0*" : "II*\0", 4)) return 1;
  at = vit__number(p + 4, 4, big);
  if (at > size - 2) return 1;
  entries = vit__number(p + at, 2, big);
  for (at += 2; entries-- > 0 && size - at >= 12; at += 12) {
    const uint32_t type = vit__number(p + at + 2, 2, big); /* short, long */
    if (vit__number(p + at, 2, big) != 0x0112) continue;
    value = vit__number(p + at + 8, type == 3 ? 2 : type == 4 ? 4 : 0, big);
    return value >= 1 && value <= 8 ? (int)value : 1;
  }
  return 1;
}

/* stb_image trusts a file: it checks no sums, and reads outside of a JPEG's
   tables. So we scan a file first. A scan returns why it is refused, or NULL;
   this where the mark of its end is missing. */
static const char vit__no_end[] = "have no end marker";

/* Tables of a JPEG, as bits: 0 to 3 quantisation, 4 to 7 Huffman codes of DC,
   8 to 11 of AC. Returns those in a segment; 0 if it is damaged, or if
   stb_image has no room: for more codes than their lengths have, for more than
   256, or, in its table of codes up to 9 bits, for the 256th. */
static unsigned vit__jpeg_tables(
    const unsigned char *p, size_t n, int huffman) {
  unsigned tables = 0;
  for (size_t size; n > 0; p += size, n -= size) {
    int codes = 0, room = 1;
    size = huffman ? 17 : p[0] < 16 ? 65 : 129;
    for (int bits = 1; huffman && n >= size && bits <= 16; bits++) {
      codes += p[bits];
      room = 2 * room - p[bits];
      if (room < 0 || codes > (bits > 9 ? 256 : 255)) return 0;
    }
    size += (size_t)codes;
    if (n < size) return 0;
    tables |= 1u << ((p[0] & 3) + (!huffman ? 0 : p[0] < 16 ? 4 : 8));
  }
  return tables;
}

/* The colours [bits] whose data begins in this scan of a JPEG; all bits if the
   scan is damaged or wants a table that is not there. */
static unsigned vit__jpeg_scan(const unsigned char *p, size_t n,
    const unsigned char *frame, unsigned tables) {
  unsigned begun = 0;
  if (!frame || n < 6 || n != 4 + 2 * (size_t)p[0]) return ~0u;
  for (const unsigned char *c = p + 1; c < p + n - 3; c += 2) {
    const int progressive = frame[-3] == 0xC2, first = p[n - 3] == 0;
    unsigned need, k = 0;
    while (k < frame[5] && frame[6 + 3 * k] != c[0]) k++;
    if (k == frame[5]) return ~0u;
    need = 1u << (frame[8 + 3 * k] & 3);
    if (first && !(progressive && p[n - 1] >> 4))
      need |= 16u << (c[1] >> 4 & 3), begun |= 1u << k;
    if (!first || !progressive) need |= 256u << (c[1] & 3);
    if (need & ~tables) return ~0u;
  }
  return begun;
}

/* ISO/IEC 10918-1, annex B: segments of a marker, a length and data; behind a
   scan's header also data without a length, in which 0xFF is followed by 0 or
   by a restart marker. */
static const char *vit__scan_jpeg(
    const unsigned char *p, size_t size, int *orientation) {
  const unsigned char *end = p + size, *frame = NULL;
  unsigned tables = 0, begun = 0, found;
  int inks = -1, turned = 0;
  size_t n = 0;
  for (p += 2;; p += n) {
    while (end - p >= 2 && (p[0] != 0xFF || p[1] == 0xFF || p[1] == 0 ||
                               (p[1] >= 0xD0 && p[1] <= 0xD7)))
      p++;
    if (end - p >= 2 && p[1] == 0xD9) break;
    n = end - p >= 4 ? vit__number(p + 2, 2, 1) : 0;
    if (n < 2 || n > (size_t)(end - p) - 2) return vit__no_end;
    p += 4, n -= 2;
    if (p[-3] >= 0xC0 && p[-3] <= 0xC2) { /* others stb_image does not read */
      if (n < 6 || p[5] > 4 || n != 6 + 3 * (size_t)p[5])
        return "its header is damaged";
      frame = p;
    } else if (p[-3] == 0xC4 || p[-3] == 0xDB) {
      tables |= found = vit__jpeg_tables(p, n, p[-3] == 0xC4);
      if (!found) return "a table in it is damaged";
    } else if (p[-3] == 0xDA) {
      begun |= found = vit__jpeg_scan(p, n, frame, tables);
      if (found == ~0u) return "a table in it is missing";
    } else if (p[-3] == 0xE1 && n >= 6 && !turned && !memcmp(p, "Exif\0", 6)) {
      *orientation = vit__exif_orientation(p + 6, n - 6), turned = 1;
    } else if (p[-3] == 0xEE && n >= 12 && !memcmp(p, "Adobe", 6)) {
      inks = p[11];
    }
  }
  if (frame && frame[5] == 4 && inks != 0 && inks != 2)
    return "four inks, but no marker of Adobe's that says how they count";
  if (frame && begun != (1u << frame[5]) - 1)
    return "one of its colours is missing";
  return NULL;
}

/* PNG specification, section 5: chunks of a length, a name, data and a CRC. */
static const char *vit__scan_png(const unsigned char *p, size_t size) {
  if (size >= 16 && memcmp(p + 12, "IHDR", 4)) return "its header is missing";
  for (size_t at = 8, n; size - at >= 12; at += 12 + n) {
    n = vit__number(p + at, 4, 1);
    if (n > size - at - 12) break;
    if (vit__crc32(p + at + 4, n + 4) != vit__number(p + at + 8 + n, 4, 1))
      return "a checksum in it is wrong";
    if (!memcmp(p + at + 4, "IEND", 4)) return NULL;
  }
  return vit__no_end;
}

/* GIF89a, appendix A: a header, then images and extensions, each with blocks
   of data that begin with their length, up to one of length 0. */
static const char *vit__scan_gif(const unsigned char *p, size_t size) {
  size_t at = 13;
  if (size >= at && p[10] & 0x80) at += (size_t)6 << (p[10] & 7); /* colours */
  for (; at < size && p[at] != 0x3B; at++) {
    const int image = p[at] == 0x2C;
    if (!image && p[at] != 0x21) return "an unknown block in it";
    if (size - at < 10) break;
    if (image && p[at + 9] & 0x80) at += (size_t)6 << (p[at + 9] & 7);
    at += image ? 11 : 2;
    while (at < size && p[at]) at += 1 + (size_t)p[at];
  }
  return at < size && p[at] == 0x3B ? NULL : vit__no_end;
}

/* Width, height and largest value, with blanks and notes in front of each. */
static const char *vit__scan_pnm(const unsigned char *p, size_t size) {
  double n = 0;
  size_t at = 2;
  for (int i = 0; i < 3; i++) {
    for (int note = 0; at < size; at++) {
      note = p[at] == '#' || (note && p[at] != '\n' && p[at] != '\r');
      if (!note && !(p[at] && strchr(" \t\n\v\f\r", p[at]))) break;
    }
    for (n = 0; at < size && p[at] >= '0' && p[at] <= '9'; at++)
      n = 10 * n + p[at] - '0';
    if (n > (double)VIT__MOST_PIXELS) return "its header is damaged";
  }
  return at == size || n == 255 ? NULL : "its largest value is not 255";
}

/* What is wrong with a file, if stb_image would not see it, or read it wrongly;
   and how it is turned. */
static const char *vit__scan_picture(
    const unsigned char *p, size_t n, int *turn) {
  if (n >= 3 && !memcmp(p, "\xFF\xD8\xFF", 3))
    return vit__scan_jpeg(p, n, turn);
  if (n == 0 || p[0] == 0xFF) return "unknown image type";
  if (n >= 8 && !memcmp(p, "\x89PNG\r\n\x1A\n", 8)) return vit__scan_png(p, n);
  if (n >= 4 && !memcmp(p, "GIF8", 4)) return vit__scan_gif(p, n);
  if (n >= 2 && p[0] == 'P' && (p[1] == '5' || p[1] == '6'))
    return vit__scan_pnm(p, n);
  if (n >= 30 && p[0] == 'B' && p[1] == 'M') {
    const uint32_t header = vit__number(p + 14, 4, 0);
    if (header == 12 && p[24] < 24) return "a palette of OS/2 in it";
    if (header > 12 && p[28] < 16 && vit__number(p + 10, 4, 0) < header + 18)
      return "its palette is missing";
  } else if (n >= 18 && p[1] < 2 && (p[2] & ~8u) - 1 < 3) { /* a TGA */
    if (p[17] & 0xD0) return "its rows run from right to left";
    if (p[1] && vit__number(p + 3, 2, 0)) return "a gap in its palette";
  }
  return NULL;
}

/* The bytes of a file for stb_image, which fills up with zeros what is cut off:
   `beyond` says that it asked for more than there are. What it reads into its
   own `buffer` is ahead of need, and may be less than it asks for. */
typedef struct {
  const unsigned char *at;
  size_t left;
  char *buffer;
  int beyond;
} vit__bytes;

static int vit__bytes_read(void *user, char *to, int size) {
  vit__bytes *b = (vit__bytes *)user;
  const size_t n = VIT__MIN((size_t)size, b->left);
  if (!b->buffer) b->buffer = to;
  if (n < (size_t)size && (n == 0 || to != b->buffer)) b->beyond = 1;
  if (to) memcpy(to, b->at, n);
  b->at += n, b->left -= n;
  return (int)n;
}
static void vit__bytes_skip(void *b, int n) { vit__bytes_read(b, NULL, n); }
static int vit__bytes_end(void *b) { return ((vit__bytes *)b)->left == 0; }

/* image [h,w,parts] (1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha) ->
   planes [channels,h,w] of the same parts, or [channels,w,h] where the
   orientation is on its side. Orientations (Exif 2.3, section 4.6.4): 1
   upright, 2 mirrored, 3 half a turn, 4 = 3 mirrored, 5 transposed, 6 to be
   turned right, 7 = 5 by half a turn, 8 to be turned left. */
static void vit__planes(uint8_t *planes, const uint8_t *image, int h, int w,
    int parts, int channels, int orientation) {
  const int up = strchr("\3\4\6\7", orientation) != NULL; /* last row first */
  const int back = strchr("\2\3\7\b", orientation) != NULL;
  const int side = orientation >= 5;        /* rows become columns */
  const int colours = channels > 2 ? 3 : 1; /* the rest is alpha */
  const vit_idx plane = (vit_idx)h * w, down = up ? -w : w, on = back ? -1 : 1;
  const vit_idx dy = side ? on : down, dx = side ? down : on;
  image += parts * ((up ? plane - w : 0) + (back ? w - 1 : 0));
  for (int y = 0; y < (side ? w : h); y++)
    for (int x = 0; x < (side ? h : w); x++, planes++) {
      const uint8_t *p = image + parts * (y * dy + x * dx);
      uint32_t grey = p[0];
      if (parts > 2)
        grey = (19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 0x8000u) >> 16;
      for (int c = 0; c < colours; c++)
        planes[c * plane] = parts < 3 || colours < 3 ? (uint8_t)grey : p[c];
      if (colours < channels)
        planes[colours * plane] = parts % 2 ? 255 : p[parts - 1];
    }
}

/* The picture in the bytes of a file: pixels [channels,height,width]. */
static vit_result vit__decode(const char *path, const unsigned char *bytes,
    size_t size, int channels, uint8_t **pixels, int *height, int *width) {
  static const stbi_io_callbacks io = {
      vit__bytes_read, vit__bytes_skip, vit__bytes_end};
  const int n = (int)VIT__MIN(size, (size_t)INT_MAX);
  vit__bytes b = {bytes, size, NULL, 0};
  stbi_uc *image = NULL;
  int h = 0, w = 0, parts = 0, turn = 1;
  const char *wrong = vit__scan_picture(bytes, size, &turn);
  /* The size first: a huge picture should not be unpacked. Of a damaged JPEG,
     not even that is safe. */
  if ((!wrong || (size > 0 && bytes[0] != 0xFF)) &&
      stbi_info_from_memory(bytes, n, &w, &h, &parts)) {
    const double rows = fabs((double)h); /* below 0: a BMP, top row first */
    if (rows > (double)VIT__MOST_SIDE || w > VIT__MOST_SIDE ||
        rows * w > (double)VIT__MOST_PIXELS)
      return vit__fail(VIT_ERR_FORMAT,
          "%.200s is too large: %.0f x %d pixels; at most %d on a side and %d "
          "in all can be read",
          path, rows, w, VIT__MOST_SIDE, VIT__MOST_PIXELS);
    if (!wrong && (h == 0 || w < 1)) wrong = "it has no pixels";
  } else if (!wrong) {
    wrong = stbi_failure_reason();
  }
  if (!wrong) image = stbi_load_from_callbacks(&io, &b, &w, &h, &parts, 0);
  if (!wrong && !image) wrong = stbi_failure_reason();
  if (b.beyond) wrong = "end before the picture does";
  if (!wrong)
    *pixels =
        (uint8_t *)vit__allocate((size_t)h * (size_t)w, (size_t)channels, path);
  if (*pixels) {
    vit__planes(*pixels, image, h, w, parts, channels, turn);
    *height = turn >= 5 ? w : h, *width = turn >= 5 ? h : w;
  }
  if (image) stbi_image_free(image);
  if (!wrong) return *pixels ? VIT_OK : VIT_ERR_NO_MEMORY;
  if (b.beyond || wrong == vit__no_end)
    return vit__fail(VIT_ERR_FORMAT,
        "%.200s is cut off: its %.0f bytes %s; get it again", path,
        (double)size, wrong);
  /* stb_image does not say so in all places */
  if (!strcmp(wrong, "outofmem") || !strcmp(wrong, "Out of memory"))
    return vit__fail(
        VIT_ERR_NO_MEMORY, "out of memory: no room for %.200s", path);
  return vit__fail(VIT_ERR_FORMAT,
      "cannot read %.200s as a picture (%.60s); remove it, or get it as a PNG "
      "or JPEG",
      path, *wrong ? wrong : "damaged");
}
#endif

VIT_DEF vit_result vit_image_load(
    const char *path, int channels, uint8_t **pixels, int *height, int *width) {
  *pixels = NULL, *height = *width = 0;
  if (channels < 1 || channels > 4)
    return vit__fail(VIT_ERR_CONFIG,
        "channels is %d; a picture has 1 (grey) or 3 (RGB), 2 or 4 with alpha",
        channels);
#ifdef STBI_INCLUDE_STB_IMAGE_H
  unsigned char *bytes = NULL;
  size_t size = 0;
  vit_result r = vit__read_file(path, &bytes, &size);
  if (!r) r = vit__decode(path, bytes, size, channels, pixels, height, width);
  vit__free(bytes);
  return r;
#else
  return vit__fail(VIT_ERR_FORMAT,
      "cannot read %.200s: pictures need stb_image; define "
      "STB_IMAGE_IMPLEMENTATION and include stb_image.h before vit.h",
      path);
#endif
}

VIT_DEF void vit_image_free(uint8_t *pixels) { vit__free(pixels); }

/* -- a photo of a digit, as MNIST was made ------------------------------- */

/* The light on paper often falls off to one side. Its slope is the plane that
   comes closest to all pixels; with x and y from the middle each number of it
   is found alone: down = sum v y / sum y^2, sum y^2 = n (rows^2 - 1) / 12. */
static void vit__level_light(uint8_t *p, int rows, int cols) {
  const double my = (rows - 1) / 2.0, mx = (cols - 1) / 2.0;
  const double n = (double)rows * cols / 12;
  double down = 0, across = 0;
  for (int i = 0; i < rows * cols; i++) {
    down += p[i] * (i / cols - my);
    across += p[i] * (i % cols - mx);
  }
  if (rows > 1) down /= n * ((double)rows * rows - 1);
  if (cols > 1) across /= n * ((double)cols * cols - 1);
  for (int i = 0; i < rows * cols; i++) {
    const double level = down * (i / cols - my) + across * (i % cols - mx);
    p[i] = (uint8_t)fmax(0, fmin(p[i] - level + 0.5, 255));
  }
}

/* Otsu (1979): of two classes, the levels below a threshold t and the others,
   the means differ most where n0 n1 (mean1 - mean0)^2 is largest. Returns t, or
   0 where there are no two classes: the means have to be 20 levels apart, and 4
   times what the pixels deviate from theirs (for noise that is 2.7 times, for
   levels that are all as frequent 3.5 times). */
static int vit__otsu(const uint8_t *p, int n, double mean[2]) {
  double count[256] = {0}, sum = 0, squares = 0, n0 = 0, sum0 = 0, best = 0;
  int at = 0;
  for (int i = 0; i < n; i++) {
    count[p[i]]++;
    sum += p[i], squares += (double)p[i] * p[i];
  }
  for (int t = 1; t < 256; t++) {
    double m0, m1, between;
    n0 += count[t - 1], sum0 += count[t - 1] * (t - 1);
    if (n0 < 1 || n0 > n - 1) continue;
    m0 = sum0 / n0, m1 = (sum - sum0) / (n - n0);
    between = n0 * (n - n0) * (m1 - m0) * (m1 - m0);
    if (between > best) best = between, at = t, mean[0] = m0, mean[1] = m1;
  }
  if (at) { /* what is not variance between the classes is inside them */
    const double inside = squares / n - sum / n * sum / n - best / n / n;
    const double apart = mean[1] - mean[0];
    if (apart < 20 || apart * apart < 16 * inside) at = 0;
  }
  return at;
}

/* Paper becomes 0 and ink 255; the ramp between keeps the soft edge of a stroke
   and begins halfway to the threshold, above most of the paper's noise. Paper
   is what most of the rim shows. Returns 0 where there is no ink. */
static int vit__ink(uint8_t *p, int rows, int cols) {
  double mean[2] = {0, 0}, low, high;
  const int at = vit__otsu(p, rows * cols, mean);
  int light = 0; /* pixels of the rim, less dark ones */
  for (int i = 0; i < rows * cols; i++) {
    const int y = i / cols, x = i % cols;
    if (y == 0 || y == rows - 1 || x == 0 || x == cols - 1)
      light += p[i] < at ? -1 : 1;
  }
  low = (mean[light > 0] + at) / 2, high = mean[light <= 0];
  for (int i = 0; at && i < rows * cols; i++)
    p[i] = (uint8_t)(255 * fmax(0, fmin((p[i] - low) / (high - low), 1)) + 0.5);
  return at;
}

/* From which line to which there is ink, rows or columns, less those at either
   end that hold 1/200 of it, which is dirt. */
static void vit__ink_range(int range[2], const uint8_t *p, int lines, int down,
    int length, int along) {
  double all = 0, seen = 0;
  for (int i = 0; i < lines * length; i++) all += p[i] > 127;
  for (int i = 0; i < lines; i++) {
    if (seen <= all / 200) range[0] = i;
    if (seen < all - all / 200) range[1] = i;
    for (int j = 0; j < length; j++) seen += p[i * down + j * along] > 127;
  }
}

enum { VIT__DIGIT = 28, VIT__DIGIT_BOX = 20, VIT__DIGIT_PHOTO = 512 };

/* The ink's box, its longer side 20 pixels, into out, its centre of mass in the
   middle of pixel 14, 14. */
static vit_result vit__fit_ink(uint8_t *out, uint8_t *p, int rows, int cols) {
  uint8_t box[VIT__DIGIT_BOX * VIT__DIGIT_BOX];
  int y[2] = {0, 0}, x[2] = {0, 0}, h, w, longer, top, left, brightest = 1;
  double mass = 0, my = 0, mx = 0;
  vit_result r;
  vit__ink_range(y, p, rows, cols, cols, 1);
  vit__ink_range(x, p, cols, 1, rows, cols);
  rows = y[1] - y[0] + 1, w = x[1] - x[0] + 1;
  for (int i = 0; i < rows; i++) /* the box alone, one row after the other */
    memmove(p + i * w, p + (y[0] + i) * cols + x[0], (size_t)w);
  cols = w, longer = rows > cols ? rows : cols;
  h = (2 * rows * VIT__DIGIT_BOX + longer) / (2 * longer);
  w = (2 * cols * VIT__DIGIT_BOX + longer) / (2 * longer);
  h += h == 0, w += w == 0;
  r = vit_resize(box, p, 1, rows, cols, h, w, VIT_BILINEAR);
  for (int i = 0; !r && i < h * w; i++) {
    mass += box[i], my += box[i] * (i / w), mx += box[i] * (i % w);
    if (box[i] > brightest) brightest = box[i];
  }
  top = VIT__MIN((int)(14.5 - my / fmax(mass, 1)), VIT__DIGIT - h);
  left = VIT__MIN((int)(14.5 - mx / fmax(mass, 1)), VIT__DIGIT - w);
  memset(out, 0, VIT__DIGIT * VIT__DIGIT);
  for (int i = 0; !r && i < h * w; i++) /* a thin line, too, becomes white */
    out[(top + i / w) * VIT__DIGIT + left + i % w] =
        (uint8_t)(box[i] * 255 / brightest);
  return r;
}

VIT_DEF vit_result vit_digit_prepare(
    uint8_t *out, const uint8_t *grey, int height, int width) {
  const int64_t longer = height > width ? height : width;
  const int64_t side = VIT__MIN(longer, VIT__DIGIT_PHOTO);
  int rows, cols;
  uint8_t *p;
  vit_result r = vit_resize(NULL, NULL, 0, height, width, 1, 1, VIT_BILINEAR);
  if (r) return r; /* its sentence says which sizes there may be */
  rows = (int)((height * side + longer - 1) / longer);
  cols = (int)((width * side + longer - 1) / longer);
  p = (uint8_t *)vit__allocate((size_t)rows, (size_t)cols, "a photo");
  if (!p) return VIT_ERR_NO_MEMORY;
  r = vit_resize(p, grey, 1, height, width, rows, cols, VIT_BILINEAR);
  if (!r) vit__level_light(p, rows, cols);
  if (!r && !vit__ink(p, rows, cols))
    r = vit__fail(VIT_ERR_FORMAT,
        "found no digit in a picture of %d x %d pixels: its grey levels are "
        "not those of ink and paper; take a photo of one dark digit on light "
        "paper, or a light one on dark, with nothing else on it",
        height, width);
  if (!r) r = vit__fit_ink(out, p, rows, cols);
  VIT_FREE(p);
  return r;
}

/* -- a folder per class -------------------------------------------------- */

VIT_DEF vit_folder_config vit_folder_defaults(void) {
  vit_folder_config c = {3, 224, 224, 0, VIT_BILINEAR, NULL, NULL};
  return c;
}

#if !defined(_WIN32) && defined(STBI_INCLUDE_STB_IMAGE_H)
#include <strings.h>

/* What is below a folder: CLASS and CLASS/FILE. First as it comes, each with
   its 0, then the files in order. */
typedef struct {
  const char *dir;
  vit__text names;
  int count;                       /* of both, then files */
  const char **path;               /* [count] */
  int in_class[VIT__MOST_CLASSES]; /* files */
} vit__tree;

/* Add what is in a folder: of dir itself (depth 0) the folders, else the files
   and those of its folders. What is neither file nor folder, such as a socket,
   is left out: to open it may block. */
static vit_result vit__list_folder(vit__tree *t, char *path, int depth) {
  const size_t end = strlen(path), room = VIT__MOST_PATH - end;
  const size_t base = strlen(t->dir) + 1; /* where CLASS/FILE begins */
  struct dirent *entry;
  struct stat info;
  vit_result r = VIT_OK;
  DIR *folder = opendir(path);
  if (!folder)
    return vit__fail(VIT_ERR_FILE, "cannot open the folder %.200s: %.100s",
        path, strerror(errno));
  while (!r && (entry = readdir(folder)) != NULL) {
    const int n = snprintf(path + end, room, "/%s", entry->d_name);
    const int known = !stat(path, &info); /* else it will not open either */
    const int is_folder = known && S_ISDIR(info.st_mode);
    const int is_file = depth > 0 && (!known || S_ISREG(info.st_mode));
    if (entry->d_name[0] == '.' || !(is_folder || is_file)) continue;
    if ((size_t)n >= room)
      r = vit__fail(VIT_ERR_FILE,
          "a path in %.200s is longer than %d characters", t->dir,
          VIT__MOST_PATH - 1);
    else if (is_folder && depth > VIT__MOST_DEPTH)
      r = vit__fail(VIT_ERR_FILE,
          "%.200s is more than %d folders inside its class; is there a link "
          "back to a folder above?",
          path, VIT__MOST_DEPTH);
    else if (is_folder && depth > 0) r = vit__list_folder(t, path, depth + 1);
    else if (t->count == INT_MAX)
      r = vit__fail(VIT_ERR_OVERFLOW, "there are more than %d files", INT_MAX);
    else if (vit__text_add(&t->names, path + base, end + (size_t)n + 1 - base))
      t->count++;
    if (t->names.failed) r = VIT_ERR_NO_MEMORY;
  }
  closedir(folder);
  path[end] = '\0';
  return r;
}

/* The folders in dir are the classes; then what is in each. */
static vit_result vit__walk(vit__tree *t, vit_dataset *d) {
  char path[VIT__MOST_PATH];
  size_t at = 0; /* in the names, which move when they grow */
  vit_result r;
  snprintf(path, sizeof path, "%s", t->dir);
  r = vit__list_folder(t, path, 0);
  d->classes = t->count;
  if (!r && (d->classes < 2 || d->classes > VIT__MOST_CLASSES))
    r = vit__fail(VIT_ERR_CONFIG, "%.200s holds %d folders%s", t->dir, t->count,
        t->count < 2 ? "; it needs one for each class, at least 2"
                     : ", one for each class; there may be at most 256");
  for (int k = 0; !r && k < d->classes; k++) {
    snprintf(path, sizeof path, "%s/%s", t->dir, t->names.at + at);
    at += strlen(t->names.at + at) + 1;
    r = vit__list_folder(t, path, 1);
  }
  return r;
}

/* By class, then by path, each as strcmp does: a slash ends the class. */
static int vit__compare_paths(const void *a, const void *b) {
  const char *x = *(const char *const *)a, *y = *(const char *const *)b;
  while (*x == *y && *x && *x != '/') x++, y++;
  if (!*x || !*y || (*x == '/') == (*y == '/')) return strcmp(x, y);
  return *x == '/' ? -1 : 1;
}

/* Sort what was found: names of classes, and the list of files, each with its
   label, as if all could be read. */
static vit_result vit__sort_tree(vit__tree *t, vit_dataset *d) {
  const char *at = t->names.at;
  int k = -1, n = t->count;
  vit_result r = VIT_OK;
  t->path = (const char **)vit__allocate(
      (size_t)n, sizeof *t->path, "the list of files");
  if (!t->path) return VIT_ERR_NO_MEMORY;
  for (int i = 0; i < n; i++, at += strlen(at) + 1) t->path[i] = at;
  qsort((void *)t->path, (size_t)n, sizeof *t->path, vit__compare_paths);
  t->count = 0;
  for (int i = 0; !r && i < n; i++) {
    const char *path = t->path[i];
    if (!strchr(path, '/')) {
      const int length = (int)strlen(path);
      snprintf(d->names[++k], VIT_NAME_SIZE, "%s", path);
      if (length >= VIT_NAME_SIZE)
        r = vit__fail(VIT_ERR_CONFIG,
            "the name of class %.100s in %.200s has %d characters; rename the "
            "folder to at most %d",
            path, t->dir, length, VIT_NAME_SIZE - 1);
      for (int j = 0; !r && j < k; j++)
        if (!strcasecmp(d->names[j], d->names[k]))
          r = vit__fail(VIT_ERR_CONFIG,
              "the classes %s and %s in %.200s differ only in upper and lower "
              "case; rename one, or put them together",
              d->names[j], d->names[k], t->dir);
    } else {
      t->in_class[k]++;
      d->labels[t->count] = (uint8_t)k;
      t->path[t->count++] = path;
    }
  }
  for (k = 0; !r && k < d->classes; k++)
    if (!t->in_class[k])
      r = vit__fail(VIT_ERR_CONFIG,
          "class %s in %.200s has no files; put pictures into it, or move it "
          "elsewhere",
          d->names[k], t->dir);
  return r;
}

/* A file as an image. Returns 0, -1 if it had to grow, or why it failed. */
static int vit__read_photo(uint8_t *out, const char *dir, const char *file,
    const vit_folder_config *c) {
  vit__axis axis[2] = {
      {0, 0, 0, c->height, 0, NULL}, {0, 0, 0, c->width, 0, NULL}};
  char path[VIT__MOST_PATH];
  uint8_t *pixels;
  int grows;
  vit_result r;
  snprintf(path, sizeof path, "%s/%s", dir, file);
  r = vit_image_load(path, c->channels, &pixels, &axis[0].in, &axis[1].in);
  if (r) return (int)r;
  grows = vit__plan_crop(axis, c->resize, 1);
  r = vit__resize(out, pixels, c->channels, axis, c->filter, 1);
  vit_image_free(pixels);
  return r ? (int)r : -grows;
}

/* Decode in parallel, each file to where it will stay if all can be read; then,
   in their order, close the gaps. What failed is read again for its sentence,
   which is with the thread that failed. */
static vit_result vit__read_photos(
    vit_dataset *d, const vit__tree *t, const vit_folder_config *c) {
  const int threads = vit__threads(VIT__MIN(vit_max_threads(), t->count));
  const vit_idx image = (vit_idx)vit__image_size(d);
  int read[VIT__MOST_CLASSES] = {0};
  vit_result r = VIT_OK;
  int *state = (int *)vit__allocate(
      (size_t)t->count, sizeof *state, "the list of pictures");
  if (!state) return VIT_ERR_NO_MEMORY;
  VIT__PARALLEL_FOR
  for (int own = 0; own < threads; own++)
    for (int i = own; i < t->count; i += threads)
      state[i] = vit__read_photo(d->pixels + i * image, t->dir, t->path[i], c);
  for (int i = 0; !r && i < t->count; i++) {
    uint8_t *pixels = d->pixels + i * image;
    const uint8_t label = d->labels[i];
    if (state[i] > 0 && state[i] != VIT_ERR_NO_MEMORY)
      state[i] = vit__read_photo(pixels, t->dir, t->path[i], c);
    if (state[i] == VIT_ERR_NO_MEMORY) {
      r = vit__fail(VIT_ERR_NO_MEMORY,
          "out of memory: no room for %.100s/%.200s", t->dir, t->path[i]);
    } else if (state[i] > 0) {
      d->skipped++;
      if (c->skipped) c->skipped(vit_error(), c->user);
    } else {
      memmove(d->pixels + d->count * image, pixels, (size_t)image);
      d->labels[d->count++] = label;
      d->enlarged += state[i] < 0;
      read[label]++;
    }
  }
  VIT_FREE(state);
  for (int k = 0; !r && k < d->classes; k++)
    if (!read[k])
      r = vit__fail(VIT_ERR_FORMAT,
          "none of the %d files of class %s in %.200s can be read as a "
          "picture; is this a folder of photos? Put others into it, or move it "
          "elsewhere",
          t->in_class[k], d->names[k], t->dir);
  return r;
}
#endif

VIT_DEF vit_result vit_dataset_folder(
    vit_dataset *d, const char *dir, const vit_folder_config *c) {
  memset(d, 0, sizeof *d);
  (void)c;
#if defined(_WIN32)
  return vit__fail(VIT_ERR_FILE,
      "cannot walk through the folder %.200s: this needs a POSIX system; load "
      "the pictures with vit_image_load",
      dir);
#elif !defined(STBI_INCLUDE_STB_IMAGE_H)
  return vit__fail(VIT_ERR_FORMAT,
      "cannot read the pictures in %.200s without stb_image; define "
      "STB_IMAGE_IMPLEMENTATION and include stb_image.h before vit.h",
      dir);
#else
  const int side = c->height > c->width ? c->height : c->width;
  vit__tree t;
  vit_result r = VIT_OK;
  memset(&t, 0, sizeof t);
  t.dir = dir;
  if ((c->channels != 1 && c->channels != 3) || c->height < 1 || c->width < 1 ||
      side > VIT__MOST_CROP)
    r = vit__fail(VIT_ERR_CONFIG,
        "cannot make images of %d x %d x %d (height, width, channels); there "
        "are 1 or 3 channels, and sides from 1 to %d",
        c->height, c->width, c->channels, VIT__MOST_CROP);
  else if (c->resize && (c->resize < side || c->resize > VIT__MOST_CROP))
    r = vit__fail(VIT_ERR_CONFIG,
        "resize is %d, but %d x %d pixels are cut out; it must be from %d to "
        "%d, or 0 for the smallest that will do",
        c->resize, c->height, c->width, side, VIT__MOST_CROP);
  else /* of no picture: is the filter known? */
    r = vit_resize(NULL, NULL, 0, 1, 1, 1, 1, c->filter);
  d->channels = c->channels, d->height = c->height, d->width = c->width;
  for (int i = 0; i < 3; i++) d->std[i] = 1;
  if (!r) r = vit__walk(&t, d);
  if (!r) r = vit__allocate_names(d);
  if (!r) r = vit__allocate_images(d, t.count - d->classes);
  if (!r) r = vit__sort_tree(&t, d);
  if (!r) r = vit__read_photos(d, &t, c);
  snprintf(d->source, sizeof d->source,
      "photos, %d images of %d x %d x %d in %d classes, %.150s", d->count,
      d->height, d->width, d->channels, d->classes, dir);
  if (t.path) VIT_FREE((void *)t.path);
  vit__text_free(&t.names);
  if (r) vit_dataset_free(d);
  return r;
#endif
}

/* ------------------------------------------------------------------------ */
/*  >>13 pretrained                                                         */
/* ------------------------------------------------------------------------ */

/* A name for "%.60s%s", which says whether it was cut. */
#define VIT__CUT(name) name, strlen(name) > 60 ? "..." : ""

/* A pair of the metadata, or a tensor's name and the tensor. */
typedef struct vit__name {
  const char *name, *text;
  const vit_safetensor *tensor;
} vit__name;

/* -- reading JSON (RFC 8259) --------------------------------------------- */

/* `at` walks over a header that a zero ends. */
typedef struct {
  char *at;
  const vit_safetensors *f;
  const char *path, *what; /* the file, and what it is if it is wrong */
  vit_result r;
} vit__json;

/* After the first error nothing follows any more: no other call has to ask. */
static int vit__json_must(vit__json *j, int good) {
  if (!good && !j->r)
    j->r = vit__fail(VIT_ERR_FORMAT, "%.200s: %s near byte %.0f", j->path,
        j->what, (double)(j->at - j->f->header) + (j->f->data ? 8 : 0));
  if (!good) j->at += strlen(j->at);
  return good;
}

/* Pass over blanks, and over `text` if it follows. */
static int vit__json_is(vit__json *j, const char *text) {
  const size_t n = strlen(text);
  j->at += strspn(j->at, " \n\r\t");
  if (strncmp(j->at, text, n)) return 0;
  j->at += n;
  return 1;
}

/* Bytes of the UTF-8 character at s (RFC 3629), 0 if it is none: cut off,
   longer than it must be, half of a pair of surrogates, past the last one. */
static size_t vit__utf8(const char *s) {
  static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
  const unsigned first = (unsigned char)*s;
  const size_t n = (size_t) "\1\1\1\1\1\1\1\1\0\0\0\0\2\2\3\4"[first >> 4];
  unsigned code = first & 0xFFu >> n;
  for (size_t i = 1; i < n; i++) {
    if ((s[i] & 0xC0) != 0x80) return 0;
    code = code << 6 | (unsigned)(s[i] & 63);
  }
  return code < least[n] || code > 0x10FFFF || code >> 11 == 27 ? 0 : n;
}

/* \u1234 as UTF-8; two of a pair of surrogates are one character. A string ends
   with a zero, so that U+0000 is put as C0 80, which nothing else is. */
static char *vit__json_unicode(vit__json *j, char *to) {
  unsigned code = 0, high;
  int more; /* bytes after the first */
  do {
    char digits[5] = "";
    if (!strncmp(j->at, "\\u", 2)) snprintf(digits, 5, "%.4s", j->at + 2);
    vit__json_must(j, strspn(digits, "0123456789abcdefABCDEF") == 4);
    high = code;
    code = (unsigned)strtoul(digits, NULL, 16);
    if (!vit__json_must(j, !j->r && (code >> 10 == 55) == (high > 0)))
      return to;
    if (high) code = 0x10000 + ((high & 0x3FF) << 10 | (code & 0x3FF));
    j->at += 6;
  } while (code >> 10 == 54);
  more = code - 1 < 0x7F ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  *to++ = (char)(more ? 0xFF00u >> (more + 1) | code >> 6 * more : code);
  while (more-- > 0) *to++ = (char)(0x80 | (code >> 6 * more & 63));
  return to;
}

/* A string, unescaped in its place and ended with a zero; `then` follows it. */
static const char *vit__json_string(vit__json *j, const char *then) {
  static const char letters[] = "nrtbf\"\\/", meant[] = "\n\r\t\b\f\"\\/";
  const char *letter;
  char *start, *to;
  vit__json_must(j, vit__json_is(j, "\""));
  for (start = to = j->at; *j->at != '"';) {
    size_t n = vit__utf8(j->at);
    if (!vit__json_must(j, n && (unsigned char)*j->at >= ' ')) return "";
    if (*j->at != '\\') {
      while (n-- > 0) *to++ = *j->at++;
    } else if ((letter = strchr(letters, j->at[1])) != NULL && *letter) {
      *to++ = meant[letter - letters];
      j->at += 2;
    } else {
      to = vit__json_unicode(j, to);
    }
  }
  j->at++;
  *to = '\0';
  vit__json_must(j, vit__json_is(j, then));
  return start;
}

/* Member n of an array "[]" or an object "{}": its name, "" in an array; NULL
   where it ends instead. */
static const char *vit__json_next(vit__json *j, const char *brackets, int n) {
  const char open[] = {brackets[0], 0}, close[] = {brackets[1], 0}, *name = "";
  if (n == 0) vit__json_must(j, vit__json_is(j, open));
  if (vit__json_is(j, close)) return NULL;
  if (n > 0) vit__json_must(j, vit__json_is(j, ","));
  if (*open == '{') name = vit__json_string(j, ":");
  vit__json_is(j, ""); /* the value comes next */
  return j->r ? NULL : name;
}

/* Any value is passed over; `depth` more arrays and objects may begin in it. */
static void vit__json_any(vit__json *j, int depth) {
  if (*j->at == '[' || *j->at == '{') {
    const char *brackets = *j->at == '[' ? "[]" : "{}";
    vit__json_must(j, depth > 0);
    for (int n = 0; vit__json_next(j, brackets, n); n++)
      vit__json_any(j, depth - 1);
  } else if (*j->at == '"') {
    vit__json_string(j, "");
  } else if (!vit__json_is(j, "null") && !vit__json_is(j, "true") &&
             !vit__json_is(j, "false")) {
    /* strtod takes more than JSON has: 01, 0x1, .5, 1., inf */
    const char *c = j->at + (*j->at == '-'), *digits = "0123456789";
    const size_t n = strspn(c, digits);
    if (vit__json_must(j, n && (n == 1 || *c != '0') && !strchr("xX", c[n])) &&
        vit__json_must(j, c[n] != '.' || strspn(c + n + 1, digits)))
      vit__json_must(j, VIT__IS_FINITE(strtod(j->at, &j->at)));
  }
}

/* Names and texts in an object. VIT__DEEP: in some of those inside, too;
   VIT__TEXTS: there is nothing else. */
enum { VIT__FLAT, VIT__DEEP, VIT__TEXTS };
static void vit__json_pairs(vit__json *j, vit__text *pairs, int kind) {
  static const char *const inside[] = {"vision_config", "pretrained_cfg",
      "model_args", "id2label", "weight_map"};
  vit__name pair = {NULL, NULL, NULL};
  for (int n = 0; (pair.name = vit__json_next(j, "{}", n)) != NULL; n++) {
    int i = kind == VIT__DEEP ? 0 : 5;
    while (i < 5 && strcmp(pair.name, inside[i])) i++;
    pair.text = j->at;
    if (i < 5 && *j->at == '{') vit__json_pairs(j, pairs, VIT__FLAT);
    else if (*j->at == '"' || kind == VIT__TEXTS)
      pair.text = vit__json_string(j, "");
    else vit__json_any(j, 125);
    if (i == 5 || *pair.text != '{') vit__text_add(pairs, &pair, sizeof pair);
  }
}

/* Whole numbers [2, 3]: how many, the first eight of them, and their product,
   SIZE_MAX if it is too large. */
static int vit__json_sizes(vit__json *j, size_t list[8], size_t *product) {
  int n = 0, fits = 1;
  *product = 1;
  for (; vit__json_next(j, "[]", n); n++) {
    const char *c = j->at;
    unsigned long long size;
    errno = 0;
    size = strtoull(c, &j->at, 10);
    vit__json_must(j, *c >= '0' && *c <= '9' && (*c != '0' || j->at == c + 1) &&
                          !errno && (size_t)size == size);
    fits &= vit_checked_mul(*product, (size_t)size, product);
    if (n < 8) list[n] = (size_t)size;
  }
  if (!fits) *product = SIZE_MAX;
  return n;
}

/* -- the header of a file ------------------------------------------------ */

/* Bits of one element, the number in its name; 0 for a type not known. */
static size_t vit__type_bits(const char *type) {
  static const char *const types[] = {"BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8",
      "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
      "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64",
      "U64"};
  for (int i = 0; i < VIT__COUNT(types); i++)
    if (!strcmp(type, types[i]))
      return i ? (size_t)atoi(strpbrk(type, "123468")) : 8;
  return 0;
}

/* {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} in any order, each
   once; other fields do no harm. */
static void vit__json_tensor(vit__json *j, vit_safetensor *t) {
  static const char *const fields[] = {"dtype", "shape", "data_offsets"};
  const size_t data = j->f->size - j->f->data;
  size_t list[8], place[8], bits, product;
  double bytes;
  int found = 0; /* bit i: fields[i] */
  const char *key;
  memset(t->shape, 0, sizeof t->shape);
  for (int n = 0; (key = vit__json_next(j, "{}", n)) != NULL; n++) {
    int i = 0;
    while (i < 3 && strcmp(key, fields[i])) i++;
    vit__json_must(j, i == 3 || !(found >> i & 1));
    found |= 1 << i;
    if (i == 0) snprintf(t->type, 16, "%s", vit__json_string(j, ""));
    if (i == 1) t->dims = vit__json_sizes(j, list, &t->count);
    if (i == 2) vit__json_must(j, vit__json_sizes(j, place, &product) == 2);
    if (i == 3) vit__json_any(j, 125); /* as serde_json: 127 in all */
    for (int d = 0; i == 1 && d < t->dims; d++) {
      if (t->dims > 8 || list[d] > INT_MAX) t->dims = -1;
      if (t->dims > 0) t->shape[d] = (int)list[d];
    }
  }
  if (!vit__json_must(j, (found & 7) == 7) || j->r) return;
  bits = vit__type_bits(t->type);
  bytes = (double)t->count * (double)bits / 8;
  t->data = j->f->bytes + j->f->data + VIT__MIN(place[0], data);
  if (!bits)
    j->r = vit__fail(VIT_ERR_FORMAT,
        "%.150s: tensor %.60s%s has type %s, which is not known", j->path,
        VIT__CUT(t->name), t->type);
  else if (place[0] > place[1] || place[1] > data ||
           (double)(place[1] - place[0]) != bytes)
    j->r = vit__fail(VIT_ERR_FORMAT,
        "%.150s: tensor %.60s%s needs %.15g bytes, but is said to be at %.0f "
        "to %.0f of %.0f",
        j->path, VIT__CUT(t->name), bytes, (double)place[0], (double)place[1],
        (double)data);
}

/* By the first field, which is all that bsearch gives. */
static int vit__by_name(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Of tensors that begin at the same byte, the empty ones come first. */
static int vit__by_place(const void *a, const void *b) {
  const vit_safetensor *x = ((const vit__name *)a)->tensor;
  const vit_safetensor *y = ((const vit__name *)b)->tensor;
  const ptrdiff_t apart = (const char *)x->data - (const char *)y->data;
  return apart ? (apart > 0) - (apart < 0) : (x->count > 0) - (y->count > 0);
}

/* Sort the lists of names. Each byte of the data must belong to one tensor, and
   no name may be there twice. */
static vit_result vit__sort_names(const vit_safetensors *f, const char *path) {
  vit__name *list = f->names + f->notes;
  const unsigned char *start = f->bytes + f->data;
  double at = 0; /* where the tensor before ends */
  qsort(list, (size_t)f->count, sizeof *list, vit__by_place);
  for (int i = 0; i <= f->count; i++) {
    const vit_safetensor *t = i < f->count ? list[i].tensor : NULL;
    const void *begin = t ? t->data : f->bytes + f->size;
    const double next = (double)((const unsigned char *)begin - start);
    if (at != next)
      return vit__fail(VIT_ERR_FORMAT,
          "%.200s: bytes %.0f to %.0f of its data belong to %s", path,
          fmin(at, next), fmax(at, next),
          at < next ? "no tensor" : "two tensors");
    if (t) at += (double)t->count * (double)vit__type_bits(t->type) / 8;
  }
  qsort(f->names, (size_t)f->notes, sizeof *list, vit__by_name);
  qsort(list, (size_t)f->count, sizeof *list, vit__by_name);
  for (int i = 1; i < f->notes + f->count; i++)
    if (i != f->notes && !vit__by_name(f->names + i - 1, f->names + i))
      return vit__fail(VIT_ERR_FORMAT, "%.200s: \"%.60s%s\" is there twice",
          path, VIT__CUT(f->names[i].name));
  return VIT_OK;
}

/* What people have instead of safetensors, by its first bytes, and the way out.
   A pickle is never read: it may run any code. */
static vit_result vit__not_safetensors(
    const vit_safetensors *f, const char *path, double header) {
#define VIT__TORCH_CURE                                                        \
  "a file of torch.save; in Python: import torch, safetensors.torch as s; "    \
  "w = torch.load(\"IN\", weights_only=True); w = w.get(\"model\", w); "       \
  "s.save_file({k: v.contiguous() for k, v in w.items()}, "                    \
  "\"OUT.safetensors\")"
  static const char *const known[][2] = {{"PK", VIT__TORCH_CURE},
      {"\x80\2", VIT__TORCH_CURE},
      {"PK",
          "an archive of NumPy; in Python: import timm, safetensors.torch as "
          "s; m = timm.create_model(\"vit_base_patch16_224\"); "
          "m.load_pretrained(\"IN\"); s.save_file(m.state_dict(), "
          "\"OUT.safetensors\")"},
      {"GGUF", "made for llama.cpp (GGUF); take what it was made from"},
      {"version https://git-lfs", "a pointer of Git LFS; run: git lfs pull"},
      {"<", "a web page: take the link with /resolve/ in place of /blob/"},
      {"{", "JSON; an index of shards is opened by vit_pretrained_open"}};
  const size_t n = strlen(path);
  for (int i = 0; i < VIT__COUNT(known); i++) {
    const size_t size = strlen(known[i][0]);
    if (i == 0 && n > 4 && !strcmp(path + n - 4, ".npz")) continue;
    if (f->size >= size && !memcmp(f->bytes, known[i][0], size))
      return vit__fail(VIT_ERR_FORMAT, "%.150s is %s", path, known[i][1]);
  }
  return vit__fail(VIT_ERR_FORMAT,
      "%.200s is not a safetensors file, or is cut off: its header should "
      "have %.0f bytes (at most 1e8), the file has %.0f",
      path, header, (double)f->size);
}

/* Read the header of a file whose bytes are in memory or mapped. */
static vit_result vit__read_header(vit_safetensors *f, const char *path) {
  vit__text tensors = {NULL, 0, 0, 0}, names = tensors;
  const uint16_t one = 1;
  vit__json j = {
      NULL, f, path, "its header is not the JSON of safetensors", VIT_OK};
  uint64_t n = 0;
  int metadata = 0;
  vit_safetensor t;
  if (*(const unsigned char *)&one == 0) /* numbers are used as they are */
    return vit__fail(VIT_ERR_FILE,
        "cannot read or write %.200s: safetensors files have the small end of "
        "a number first, this machine has its big end first",
        path);
  for (int i = 7; i >= 0 && f->size >= 8; i--) n = n << 8 | f->bytes[i];
  if (f->size < 8 || n > f->size - 8 || n > 100000000)
    return vit__not_safetensors(f, path, (double)n);
  f->data = 8 + (size_t)n;
  f->header = j.at = (char *)vit__allocate(f->data, 1, path);
  if (!j.at) return VIT_ERR_NO_MEMORY;
  memcpy(j.at, f->bytes + 8, (size_t)n);
  j.at[n] = '\0';
  vit__text_add(&names, "", 0); /* a list of nothing has an address, too */
  for (int i = 0; (t.name = vit__json_next(&j, "{}", i)) != NULL; i++) {
    if (strcmp(t.name, "__metadata__")) {
      vit__json_tensor(&j, &t);
      if (!j.r) vit__text_add(&tensors, &t, sizeof t);
    } else if (vit__json_must(&j, !metadata++) && !vit__json_is(&j, "null")) {
      vit__json_pairs(&j, &names, VIT__TEXTS);
    }
  }
  vit__json_must(&j, vit__json_is(&j, "") && j.at == f->header + n);
  f->entries = (vit_safetensor *)(void *)tensors.at;
  f->count = (int)(tensors.used / sizeof t);
  f->notes = (int)(names.used / sizeof *f->names);
  for (int i = 0; i < f->count; i++) {
    const vit__name pair = {f->entries[i].name, NULL, f->entries + i};
    vit__text_add(&names, &pair, sizeof pair);
  }
  f->names = (vit__name *)(void *)names.at;
  if (!j.r && (tensors.failed || names.failed)) j.r = VIT_ERR_NO_MEMORY;
  return j.r ? j.r : vit__sort_names(f, path);
}

VIT_DEF vit_result vit_safetensors_open(vit_safetensors *f, const char *path) {
  vit_result r = VIT_OK;
  memset(f, 0, sizeof *f);
  f->file = -1;
#ifndef _WIN32
  struct stat info;
  f->file = open(path, O_RDONLY);
  if (f->file >= 0 && !fstat(f->file, &info) && info.st_size < PTRDIFF_MAX) {
    const size_t size = (size_t)info.st_size;
    void *at = mmap(NULL, size, PROT_READ, MAP_PRIVATE, f->file, 0);
    if (at != MAP_FAILED) f->bytes = (unsigned char *)at, f->size = size;
  }
  if (f->file >= 0 && !f->bytes) close(f->file), f->file = -1;
#endif
  if (!f->bytes) r = vit__read_file(path, &f->bytes, &f->size);
  if (!r) r = vit__read_header(f, path);
  if (r) vit_safetensors_close(f);
  return r;
}

VIT_DEF void vit_safetensors_close(vit_safetensors *f) {
#ifndef _WIN32
  if (f->bytes && f->file >= 0)
    munmap(f->bytes, f->size), close(f->file), f->bytes = NULL;
#endif
  vit__free(f->bytes), vit__free(f->header);
  vit__free(f->entries), vit__free(f->names);
  memset(f, 0, sizeof *f);
}

VIT_DEF int vit_safetensors_at(
    const vit_safetensors *f, int i, vit_safetensor *t) {
  if (i < 0 || i >= f->count) return 0;
  return *t = f->entries[i], 1;
}

static const vit_safetensor *vit__find(
    const vit_safetensors *f, const char *name) {
  const void *found = bsearch(&name, f->names + f->notes, (size_t)f->count,
      sizeof *f->names, vit__by_name);
  return found ? ((const vit__name *)found)->tensor : NULL;
}

static vit_result vit__no_tensor(const char *name) {
  return vit__fail(
      VIT_ERR_FORMAT, "the file has no tensor \"%.60s%s\"", VIT__CUT(name));
}

VIT_DEF vit_result vit_safetensors_find(
    const vit_safetensors *f, const char *name, vit_safetensor *t) {
  const vit_safetensor *found = vit__find(f, name);
  if (found) return *t = *found, VIT_OK;
  return vit__no_tensor(name);
}

VIT_DEF const char *vit_safetensors_metadata(
    const vit_safetensors *f, const char *key) {
  const void *found =
      bsearch(&key, f->names, (size_t)f->notes, sizeof *f->names, vit__by_name);
  return found ? ((const vit__name *)found)->text : NULL;
}

/* -- names of other libraries -------------------------------------------- */

/* A model's file, or the shards of one, and how its tensors are called. */
struct vit__source {
  vit_safetensors *files;
  int count;
  const char *path;
  int dialect;
  char prefix[448]; /* in front of every name that does not begin at the root */
  int native;       /* 1: vit.h has written it, and its config */
  char *used;       /* a flag for each tensor of the files; NULL: nobody asks */
  uint64_t seed;
  int new_head, headless, channels; /* of the projection in the file */
  int rows, cols, before; /* of its positions: the grid, and rows before it */
  int folded, left;       /* layer scales; tensors left out */
  vit__text open, pairs;  /* files; what the JSON files beside them say */
  unsigned char *json[3]; /* their bytes */
};

/* What a module is called, once: a row for each, a column for each dialect. '|'
   stands between tensors that are one here; what begins with '/' does not stand
   below the prefix; "" is not there. A second row is another name. */
enum { VIT__TIMM, VIT__HF, VIT__DINOV2, VIT__CLIP, VIT__TORCH, VIT__DIALECTS };
static const char *const vit__dialects[VIT__DIALECTS] = {"timm",
    "Hugging Face ViT", "Hugging Face DINOv2", "Hugging Face CLIP",
    "torchvision"};
#define VIT__HF_QKV                                                            \
  "attention.attention.query.|attention.attention.key."                        \
  "|attention.attention.value."
#define VIT__HF_PATCH "embeddings.patch_embeddings.projection."
static const char *const vit__modules[][VIT__DIALECTS] = {
    {"patch_embed.proj.", VIT__HF_PATCH, VIT__HF_PATCH,
        "embeddings.patch_embedding.", "conv_proj."},
    {"blocks.", "encoder.layer.", "encoder.layer.", "encoder.layers.",
        "encoder.layers.encoder_layer_"},
    {"cls_token", "embeddings.cls_token", "embeddings.cls_token",
        "embeddings.class_embedding", "class_token"},
    {"dist_token", "embeddings.distillation_token", "", "", ""},
    {"reg_token", "", "embeddings.register_tokens", "", ""},
    {"pos_embed", "embeddings.position_embeddings",
        "embeddings.position_embeddings",
        "embeddings.position_embedding.weight", "encoder.pos_embedding"},
    {"norm_pre.", "", "", "pre_layrnorm.", ""},
    {"norm1.", "layernorm_before.", "norm1.", "layer_norm1.", "ln_1."},
    {"attn.qkv.", VIT__HF_QKV, VIT__HF_QKV,
        "self_attn.q_proj.|self_attn.k_proj.|self_attn.v_proj.",
        "self_attention.in_proj_"},
    {"attn.proj.", "attention.output.dense.", "attention.output.dense.",
        "self_attn.out_proj.", "self_attention.out_proj."},
    {"ls1.gamma", "", "layer_scale1.lambda1", "", ""},
    {"norm2.", "layernorm_after.", "norm2.", "layer_norm2.", "ln_2."},
    {"mlp.fc1.", "intermediate.dense.", "mlp.fc1.", "mlp.fc1.", "mlp.0."},
    {"mlp.fc2.", "output.dense.", "mlp.fc2.", "mlp.fc2.", "mlp.3."},
    {"ls2.gamma", "", "layer_scale2.lambda1", "", ""},
    {"norm.", "layernorm.", "layernorm.", "post_layernorm.", "encoder.ln."},
    {"fc_norm.", "", "", "", ""},
    {"head.", "/classifier.", "/classifier.", "/classifier.", "heads.head."},
    {"head.", "/cls_classifier.", "", "/visual_projection.", ""},
    {"head_dist.", "/distillation_classifier.", "", "", ""}};

/* Parts of names: tensors that do no harm, and what vit.h has not. */
static const char *const vit__harmless[] = {"text_model.", "text_projection.",
    "logit_scale", "logit_bias", "decoder", "mask_token", "pooler.",
    "position_ids"};
#define VIT__GATED "a gated MLP (SwiGLU)"
static const char *const vit__foreign[][2] = {
    {"relative_position", "relative positions (BEiT, Swin)"},
    {".rel_pos", "relative positions"}, {"rope", "rotary positions"},
    {"gamma_1", "rotary or relative positions (BEiT, EVA, DINOv3)"},
    {"q_bias", "rotary or relative positions (BEiT, EVA)"},
    {"up_proj.", VIT__GATED}, {"fc1_g.", VIT__GATED}, {"w12.", VIT__GATED},
    {"weights_in.", VIT__GATED}, {"attn_pool.", "attention pooling"},
    {"head.probe", "attention pooling"}, {"q_norm.", "norms of queries"},
    {"transformers.0.", "pooling between its stages (PiT)"},
    {"downsample.", "stages of several sizes (Swin)"},
    {"backbone.", "a convolutional network before it (hybrid)"},
    {"resblocks.", "open_clip's names; take it from timm or Hugging Face"}};

/* `name`: what the file calls part `part` of one of our tensors, by the n-th
   row that knows it. 0 if it has no such name. */
static int vit__their_name(
    const vit__source *s, const char *ours, int n, int part, char name[512]) {
  const char *rest = ours, *their = "", *ending;
  char block[64] = "";
  int row = 0, root;
  if (!strncmp(ours, "blocks.", 7) && (ending = strchr(ours + 7, '.'))) {
    rest = ending + 1;
    snprintf(block, sizeof block, "%s%.*s", vit__modules[1][s->dialect],
        (int)(rest - ours - 7), ours + 7);
  }
  for (; row < VIT__COUNT(vit__modules); row++)
    if (!strncmp(rest, vit__modules[row][0], strlen(vit__modules[row][0])) &&
        *vit__modules[row][s->dialect] && n-- == 0)
      break;
  if (row < VIT__COUNT(vit__modules)) their = vit__modules[row][s->dialect];
  for (; their && part > 0; part--)
    if ((their = strchr(their, '|'))) their++;
  if (!their || !*their) return 0;
  root = *their == '/';
  snprintf(name, 512, "%.400s%s%.*s%s", root ? "" : s->prefix, block,
      (int)strcspn(their, "|") - root, their + root,
      rest + strlen(vit__modules[row][0]));
  return 1;
}

/* The file's tensor for a part of one of ours, or NULL; `name`, its name there.
   use: it is read, and not left over. */
static const vit_safetensor *vit__find_part(
    const vit__source *s, const char *ours, int part, int use, char name[512]) {
  snprintf(name, 512, "%s", ours);
  for (int n = 0; vit__their_name(s, ours, n, part, name); n++)
    for (int f = 0, at = 0; f < s->count; at += s->files[f++].count) {
      const vit_safetensor *t = vit__find(s->files + f, name);
      if (t && use && s->used) s->used[at + (t - s->files[f].entries)] = 1;
      if (t) return t;
    }
  return NULL;
}

static int vit__parts_of(const vit__source *s, const char *ours) {
  char name[512];
  int parts = 1;
  while (s && vit__their_name(s, ours, 0, parts, name)) parts++;
  return parts;
}

/* Size `dim` of one of our tensors in the file, -1: the last; 0: not there. */
static int vit__told(const vit__source *s, const char *ours, int dim) {
  char name[512];
  const vit_safetensor *t = vit__find_part(s, ours, 0, 0, name);
  if (!t || t->dims < 1) return 0;
  return VIT__MIN(t->shape[dim < 0 ? t->dims - 1 : dim], 1 << 24) *
         (dim ? 1 : vit__parts_of(s, ours));
}

/* -- writing ------------------------------------------------------------- */

/* `before` and a string of JSON: quoted, with what must be escaped. A byte that
   is no UTF-8, as in the names of old files, becomes the sign for that. */
static void vit__text_string(vit__text *t, const char *before, const char *s) {
  vit__text_print(t, "%s\"", before);
  for (size_t n; *s; s += n ? n : 1) {
    n = vit__utf8(s);
    if (n == 0 || *s == '"' || *s == '\\' || (unsigned char)*s < ' ')
      vit__text_print(t, "\\u%04x", n ? (unsigned)*s : 0xFFFD);
    else vit__text_add(t, s, n);
  }
  vit__text_add(t, "\"", 1);
}

/* A pair of the metadata. The first one begins the file: eight characters where
   the length of the header will stand, then the header. */
#define VIT__OPENING "(length){\"__metadata__\":{"
static void vit__note(vit__text *notes, const char *key, const char *value) {
  vit__text_string(notes, notes->used ? "," : VIT__OPENING, key);
  vit__text_string(notes, ":", value);
}

/* ,"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]} for the header, and
   a piece of data, before which `at` bytes stand. */
static vit_result vit__add_tensor(const char *path, const vit_safetensor *t,
    vit__text *header, vit__text *pieces, double *at) {
  const size_t bits = vit__type_bits(t->type);
  const vit__piece piece = {t->data, t->count * bits / 8};
  double elements = t->dims >= 0 && t->dims <= 8 ? 1 : -1;
  for (int d = 0; d < t->dims && elements >= 0; d++)
    elements = t->shape[d] < 0 ? -1 : elements * t->shape[d];
  if (!bits || elements != (double)t->count || t->count * bits % 8)
    return vit__fail(VIT_ERR_CONFIG,
        "cannot write %.150s: tensor %.60s%s holds %.0f elements of type "
        "%.15s, its shape says %.0f",
        path, VIT__CUT(t->name), (double)t->count, t->type, elements);
  vit__text_add(pieces, &piece, sizeof piece);
  vit__text_string(header, ",", t->name);
  vit__text_print(header, ":{\"dtype\":\"%s\",\"shape\":[", t->type);
  for (int d = 0; d < t->dims; d++)
    vit__text_print(header, "%s%d", d ? "," : "", t->shape[d]);
  vit__text_print(
      header, "],\"data_offsets\":[%.0f,%.0f]}", *at, *at + (double)piece.size);
  *at += (double)piece.size;
  return VIT_OK;
}

/* IEEE 754 binary16. 2^112 is how far the exponents are apart; the product is
   exact, that of subnormal numbers too. */
static float vit__half(unsigned h) {
  const uint32_t bits = (h & 0x8000u) << 16 | (h & 0x7FFFu) << 13;
  float x;
  memcpy(&x, &bits, sizeof x);
  x *= 5192296858534827628530496329220096.0f;
  return (h & 0x7C00u) == 0x7C00u ? x * FLT_MAX : x; /* not finite */
}

/* A tensor's numbers as floats into `to`, or NULL; r if one is not finite. */
static vit_result vit__take_numbers(
    vit_result r, const vit_safetensor *t, float *to) {
  const size_t size = vit__type_bits(t->type) / 8;
  float w[256];
  double wide;
  for (size_t at = 0, n; at < t->count; at += n) {
    const unsigned char *p = (const unsigned char *)t->data + at * size;
    n = VIT__MIN(t->count - at, sizeof w / sizeof *w);
    if (size == 4) memcpy(w, p, n * size);
    for (size_t i = 0; i < n && size != 4; i++, p += size) {
      const unsigned half = p[0] | (unsigned)p[1] << 8;
      const uint32_t bits = (uint32_t)half << 16;
      if (size == 8) memcpy(&wide, p, size), w[i] = (float)wide;
      else if (*t->type == 'F') w[i] = vit__half(half);
      else memcpy(w + i, &bits, sizeof bits);
    }
    for (size_t i = 0; i < n; i++)
      if (!VIT__IS_FINITE(w[i]))
        return vit__fail(r,
            "tensor %.60s%s: number %.0f of %.0f is %g; a model is saved, "
            "loaded and quantized with finite numbers alone",
            VIT__CUT(t->name), (double)(at + i), (double)t->count,
            (double)w[i]);
    if (to) memcpy(to + at, w, n * sizeof *w);
  }
  return VIT_OK;
}

/* Weights of a quantized model as files have them, in the order of the rows,
   and their scales. They are put at `to`, which moves on. */
static vit_safetensor vit__int8_tensor(const vit_model *m, const vit_tensor *p,
    int bytes, const char *name, char **to) {
  const vit_idx out = p->shape[0], in = (vit_idx)p->count / out;
  const float *q = m->params.block + p->offset;
  vit_safetensor t;
  float *scales = (float *)(void *)*to;
  t = vit__block_tensor(name, scales, bytes ? p->count : (size_t)out);
  if (bytes) strcpy(t.type, "I8");
  t.dims = bytes ? p->dims : 2;
  t.shape[1] = 1;
  if (bytes) memcpy(t.shape, p->shape, sizeof p->shape);
  for (vit_idx o = 0; o < out; o++) {
    if (!bytes) scales[o] = q[vit__int8_scale(o, in)];
    for (vit_idx i = 0; bytes && i < in; i++)
      (*to)[o * in + i] = ((const char *)q)[vit__int8_byte(o, i, in)];
  }
  *to += t.count * (bytes ? 1 : sizeof(float));
  return t;
}

/* The parameters of a model under their names, or all but the positions under
   those of `as`: first what is F32, so that it lies even, then, if it is
   quantized, I8. `to` has room for as much as they take in m. */
static vit_result vit__add_parameters(const char *path, const vit_model *m,
    const vit__source *as, vit__text *header, vit__text *pieces, double *data,
    char *to) {
  vit_tensor p;
  vit_result r = VIT_OK;
  for (int bytes = 0; bytes <= m->quantized; bytes++)
    for (int i = 0; !r && vit__tensor_at(&m->config, m->quantized, i, &p);
         i++) {
      const int int8 = m->quantized && p.is_matrix;
      const int parts = vit__parts_of(as, p.name);
      if ((bytes && !int8) || (as && !strcmp(p.name, "pos_embed"))) continue;
      for (int part = 0; !r && part < parts; part++) {
        const size_t n = p.count / (size_t)parts;
        char name[512];
        vit_safetensor t = vit__block_tensor(
            name, m->params.block + p.offset + n * (size_t)part, n);
        t.dims = p.dims;
        memcpy(t.shape, p.shape, sizeof p.shape);
        t.shape[0] /= parts;
        snprintf(name, 64, int8 && !bytes ? "%s_scale" : "%s", p.name);
        if (as) vit__their_name(as, p.name, 0, part, name);
        if (int8) t = vit__int8_tensor(m, &p, bytes, name, &to);
        if (!bytes) r = vit__take_numbers(VIT_ERR_DIVERGED, &t, NULL);
        if (!r) r = vit__add_tensor(path, &t, header, pieces, data);
      }
    }
  return r;
}

/* Write the notes, the parameters of m (or NULL) under their names, and n more
   tensors. Frees the notes. */
static vit_result vit__write_model(const char *path, const vit_model *m,
    const vit__source *as, vit__text *notes, const vit_safetensor *add, int n) {
  vit__piece first = {NULL, 0}, *all;
  vit__text pieces = {NULL, 0, 0, 0};
  char *q = NULL;
  vit_safetensors f;
  vit_result r = VIT_OK;
  double data = 0;
  if (m) vit__note(notes, "format", "pt"); /* transformers asks for it */
  vit__text_print(notes, notes->used ? "}" : VIT__OPENING "}");
  vit__text_add(&pieces, &first, sizeof first);
  if (m && m->quantized) {
    q = (char *)vit__allocate(m->params.count, sizeof(float), path);
    if (!q) r = VIT_ERR_NO_MEMORY;
  }
  if (!r && m) r = vit__add_parameters(path, m, as, notes, &pieces, &data, q);
  for (int i = 0; !r && i < n; i++)
    r = vit__add_tensor(path, add + i, notes, &pieces, &data);
  /* the data begins even */
  vit__text_add(notes, "}       ", 8 - notes->used % 8);
  if (!r && (notes->failed || pieces.failed)) r = VIT_ERR_NO_MEMORY;
  memset(&f, 0, sizeof f);
  if (!r) {
    for (int i = 0; i < 8; i++)
      notes->at[i] = (char)((uint64_t)(notes->used - 8) >> 8 * i);
    f.bytes = (unsigned char *)notes->at;
    f.size = notes->used + (size_t)data;
    all = (vit__piece *)(void *)pieces.at;
    all->data = notes->at, all->size = notes->used;
    r = vit__read_header(&f, path); /* with a name twice it would not open */
    if (!r) r = vit__replace_file(path, all, (int)(pieces.used / sizeof *all));
    f.bytes = NULL; /* the notes' own */
  }
  vit_safetensors_close(&f);
  vit__free(q), vit__text_free(&pieces), vit__text_free(notes);
  return r;
}

VIT_DEF vit_result vit_safetensors_write(const char *path,
    const vit_safetensor *tensors, int count, const char *const *metadata) {
  vit__text notes = {NULL, 0, 0, 0};
  if (count < 0)
    return vit__fail(VIT_ERR_CONFIG,
        "cannot write %.150s: it would hold %d tensors", path, count);
  for (int i = 0; metadata && metadata[i] && metadata[i + 1]; i += 2)
    vit__note(&notes, metadata[i], metadata[i + 1]);
  return vit__write_model(path, NULL, NULL, &notes, tensors, count);
}

/* -- whose names -------------------------------------------------------- */

/* Which dialect, and what stands before its names: the patch projection tells,
   and the first norm, since Hugging Face has two. */
static vit_result vit__find_dialect(vit__source *s) {
  vit__source best = *s;
  char name[512];
  int found = 0;
  for (s->dialect = 0; s->dialect < VIT__DIALECTS; s->dialect++)
    for (int f = 0; f < s->count; f++)
      for (int i = 0; i < s->files[f].count; i++) {
        const char *have = s->files[f].entries[i].name;
        size_t n, all = strlen(have);
        s->prefix[0] = '\0';
        vit__their_name(s, "patch_embed.proj.weight", 0, 0, name);
        n = strlen(name);
        if (all < n || strcmp(have + all - n, name) || all - n >= 64) continue;
        snprintf(s->prefix, 64, "%.*s", (int)(all - n), have);
        if (!vit__told(s, "blocks.0.norm1.weight", 0)) continue;
        if (!found++ || strlen(s->prefix) < strlen(best.prefix)) best = *s;
      }
  *s = best;
  if (found || s->native) return VIT_OK;
  return vit__fail(VIT_ERR_FORMAT,
      "%.200s is no Vision Transformer that is known: it has no patch "
      "projection and first block under names of timm, Hugging Face (ViT, "
      "DeiT, MAE, DINOv2, CLIP, SigLIP) or torchvision",
      s->path);
}

/* Refuse what is known by name, and, `after` all is read, what is left over: it
   may be a part of the model that is missing here, and make others numbers. */
static vit_result vit__check_rest(vit__source *s, int after) {
  s->left = 0;
  for (int f = 0, at = 0; f < s->count; f++)
    for (int i = 0; i < s->files[f].count; i++, at++) {
      const char *name = s->files[f].entries[i].name;
      int harmless = s->used[at] || s->native;
      s->left += !s->used[at];
      for (int k = 0; k < VIT__COUNT(vit__harmless); k++)
        harmless |= strstr(name, vit__harmless[k]) != NULL;
      for (int k = 0; !harmless && k < VIT__COUNT(vit__foreign); k++)
        if (strstr(name, vit__foreign[k][0]))
          return vit__fail(VIT_ERR_FORMAT,
              "%.200s has a tensor %.60s%s, so it has %s; vit.h has not",
              s->path, VIT__CUT(name), vit__foreign[k][1]);
      if (!harmless && after)
        return vit__fail(VIT_ERR_FORMAT,
            "%.200s: tensor %.60s%s is left over; the model would be another "
            "one without it",
            s->path, VIT__CUT(name));
    }
  return VIT_OK;
}

/* -- tensors in files ---------------------------------------------------- */

/* The sizes of a shape, as "768,3072". */
static const char *vit__shape_text(char *text, const int *size, int dims) {
  char *to = text;
  *to = 0;
  for (int i = 0; i < dims; i++)
    to += snprintf(to, 13, i ? ",%d" : "%d", size[i]);
  return text;
}

/* Is it of this type (NULL: what can become F32) and shape, but for leading
   sizes of 1? A projection may be a matrix. */
static vit_result vit__check_tensor(const vit_safetensor *t, const char *type,
    const vit_tensor *want, int parts) {
  const int *x = t->shape, *y = want->shape;
  int a = 0, b = 0, good = (double)t->count * parts == (double)want->count;
  if (type) good = good && !strcmp(t->type, type);
  else good = good && strchr("FB", *t->type) && vit__type_bits(t->type) >= 16;
  while (a < t->dims - 1 && x[a] == 1) a++;
  while (b < want->dims - 1 && y[b] == 1) b++;
  if (want->dims == 4 && t->dims == 2) good = good && x[0] == y[0];
  else good = good && t->dims - a == want->dims - b;
  for (int i = b; good && t->dims - a == want->dims - b && i < want->dims; i++)
    good = x[a + i - b] == y[i] / (i ? 1 : parts);
  if (good) return VIT_OK;
  const int part[4] = {y[0] / parts, y[1], y[2], y[3]};
  char have[50], need[50]; /* 4 sizes */
  return vit__fail(VIT_ERR_FORMAT,
      "tensor %.60s%s is %s [%s] in the file, the model wants %s [%s]",
      VIT__CUT(t->name), t->type, vit__shape_text(have, x, t->dims),
      type ? type : "F32", vit__shape_text(need, part, want->dims));
}

/* One of our tensors, all its parts, into `to`, or (NULL) only looked at; its
   numbers are, where `values` or `to` is given. Some models have no biases. */
static vit_result vit__read_tensor(
    const vit__source *s, const vit_tensor *want, float *to, int values) {
  const int parts = vit__parts_of(s, want->name);
  const int may_miss = s->used && !s->native && strstr(want->name, ".bias");
  const size_t each = want->count / (size_t)parts;
  vit_result r = VIT_OK;
  for (int part = 0; !r && part < parts; part++) {
    char name[512];
    const vit_safetensor *t = vit__find_part(s, want->name, part, 1, name);
    float *at = to ? to + (size_t)part * each : NULL;
    if (t) r = vit__check_tensor(t, NULL, want, parts);
    else if (!may_miss) r = vit__no_tensor(name);
    else if (at) memset(at, 0, each * sizeof *at);
    if (!r && t && (to || values)) r = vit__take_numbers(VIT_ERR_FORMAT, t, at);
  }
  return r;
}

/* Bytes and scales of a layer: into q, or (NULL) only look at them. */
static vit_result vit__read_int8(
    const vit__source *s, const vit_tensor *want, float *q) {
  const vit_idx out = want->shape[0], in = (vit_idx)want->count / out;
  const vit_safetensor *t[2];
  vit_tensor rows = *want;
  rows.dims = 2, rows.shape[1] = 1, rows.count = (size_t)out;
  rows.shape[2] = rows.shape[3] = 0;
  for (int i = 0; i < 2; i++) {
    char ours[64], name[512];
    vit_result r;
    snprintf(ours, sizeof ours, i ? "%s_scale" : "%s", want->name);
    if (!(t[i] = vit__find_part(s, ours, 0, 1, name)))
      return vit__no_tensor(name);
    r = vit__check_tensor(t[i], i ? "F32" : "I8", i ? &rows : want, 1);
    if (r) return r;
  }
  for (vit_idx o = 0; o < out; o++) {
    const int8_t *row = (const int8_t *)t[0]->data + o * in;
    float scale;
    memcpy(&scale, (const char *)t[1]->data + o * 4, sizeof scale);
    if (!VIT__IS_FINITE(scale) || scale <= 0)
      return vit__fail(VIT_ERR_FORMAT,
          "tensor %.60s%s: scale %.0f is %g; it must be finite and above 0",
          VIT__CUT(t[1]->name), (double)o, (double)scale);
    for (vit_idx i = 0; i < in; i++) {
      if (row[i] < -VIT__INT8_W || row[i] > VIT__INT8_W)
        return vit__fail(VIT_ERR_FORMAT,
            "tensor %.60s%s: number %.0f is %d; a quantized model has numbers "
            "from -%d to %d",
            VIT__CUT(t[0]->name), (double)(o * in + i), row[i], VIT__INT8_W,
            VIT__INT8_W);
      if (q) ((int8_t *)q)[vit__int8_byte(o, i, in)] = row[i];
    }
    if (q) vit__int8_finish(q, o, in, scale);
  }
  return VIT_OK;
}

/* -- positions ----------------------------------------------------------- */

VIT_DEF vit_result vit_resample_positions(float *to, int rows, int cols,
    const float *from, int from_rows, int from_cols, int D) {
  vit__axis down = {from_rows, rows, 0, rows, 0, NULL};
  vit__axis across = {from_cols, cols, 0, cols, 0, NULL};
  vit_result r = vit__plan_axis(&down, VIT_BICUBIC);
  if (!r) r = vit__plan_axis(&across, VIT_BICUBIC);
  for (vit_idx n = 0; !r && n < (vit_idx)rows * cols; n++) {
    const int32_t *y = down.plan + n / cols * down.row;
    const int32_t *x = across.plan + n % cols * across.row;
    for (vit_idx d = 0; d < D; d++) {
      double sum = 0;
      for (vit_idx i = 0; i < y[1]; i++)
        for (vit_idx j = 0; j < x[1]; j++)
          sum += (double)y[2 + i] * x[2 + j] *
                 (double)from[((y[0] + i) * from_cols + x[0] + j) * D + d];
      to[n * D + d] = (float)ldexp(sum, -2 * VIT__RESIZE_BITS);
    }
  }
  vit__free(down.plan), vit__free(across.plan);
  return r;
}

/* Positions of the file's grid into those of the model. Registers and a
   distillation token have none here: theirs are added to the tokens. */
static vit_result vit__read_positions(const vit__source *s, const vit_config *c,
    const vit_tensors *params, float *to) {
  const int D = c->width;
  const vit_idx first = c->class_token * D, before = (vit_idx)s->before * D;
  const vit_idx n = s->before + (vit_idx)s->rows * s->cols;
  vit_tensor want;
  float *from, *extra = NULL;
  vit_result r;
  memset(&want, 0, sizeof want);
  strcpy(want.name, "pos_embed");
  want.dims = 2, want.shape[0] = (int)n, want.shape[1] = D;
  want.count = (size_t)(n * D);
  if (!to) return vit__read_tensor(s, &want, NULL, 0);
  from = (float *)vit__allocate(want.count, sizeof *from, "positions");
  r = from ? vit__read_tensor(s, &want, from, 1) : VIT_ERR_NO_MEMORY;
  if (!r && before >= first) memcpy(to, from, sizeof *to * (size_t)first);
  if (!r)
    r = vit_resample_positions(to + first, c->image_height / c->patch_height,
        c->image_width / c->patch_width, from + before, s->rows, s->cols, D);
  if (!r && before > first) /* one lies behind the other */
    extra = params->dist_token ? params->dist_token : params->reg_token;
  for (vit_idx i = first; extra && i < before; i++) *extra++ += from[i];
  vit__free(from);
  return r;
}

/* -- models in files ----------------------------------------------------- */

/* A tensor that is not in a foreign file as it is here: 1 if it is done. */
static int vit__read_special(const vit__source *s, const vit_config *c,
    vit_tensor *want, const vit_tensors *params, vit_result *r) {
  float *to = params ? params->block + want->offset : NULL;
  const int is_head = !strncmp(want->name, "head", 4);
  char name[512];
  if (!strcmp(want->name, "pos_embed"))
    return *r = vit__read_positions(s, c, params, to), 1;
  if (!strcmp(want->name, "reg_token") && !c->dist_token &&
      vit__told(s, "dist_token", -1))
    strcpy(want->name, "dist_token"); /* without its head: a register */
  if (is_head && s->new_head) {
    vit_rng rng = vit_rng_create(s->seed, 0);
    vit_config plain = *c;
    plain.init = VIT_INIT_VIT;
    vit__find_part(s, want->name, 0, 1, name);
    if (to) vit__fill_tensor(to, want, want, &plain, &rng);
    return 1;
  }
  if (is_head && s->headless) {
    for (int d = 0; to && want->is_matrix && d < c->width; d++)
      to[(vit_idx)d * c->width + d] = 1;
    return 1;
  }
  if (want->dims == 4 && s->channels != c->channels) {
    const size_t n = want->count / (size_t)want->shape[0]; /* of a filter */
    const size_t of = (size_t)s->channels;
    float *w = (float *)vit__allocate(want->count, of * sizeof *w, "filters");
    want->shape[1] = s->channels, want->count *= of;
    *r = w ? vit__read_tensor(s, want, w, 1) : VIT_ERR_NO_MEMORY;
    for (size_t i = 0; !*r && to && i < want->count; i++)
      to[i / (n * of) * n + i % n] += w[i];
    return vit__free(w), 1;
  }
  return 0;
}

/* Layer scale, x + g * f(x): g goes into the layer that f ends with. */
static vit_result vit__fold_layer_scale(
    vit__source *s, const vit_config *c, const vit_tensors *params) {
  float *g = (float *)vit__allocate((size_t)c->width, sizeof *g, "layer scale");
  vit_result r = g ? VIT_OK : VIT_ERR_NO_MEMORY;
  s->folded = 0;
  for (int i = 0; !r && i < 2 * c->depth; i++) {
    const int mlp = i % 2, in = mlp ? c->mlp_width : c->heads * c->head_dim;
    vit_tensor want;
    vit_tensors w;
    memset(&want, 0, sizeof want);
    snprintf(
        want.name, sizeof want.name, "blocks.%d.ls%d.gamma", i / 2, mlp + 1);
    if (!vit__told(s, want.name, 0)) continue;
    want.dims = 1, want.shape[0] = c->width, want.count = (size_t)c->width;
    r = vit__read_tensor(s, &want, g, 1);
    s->folded++;
    if (r || !params) continue;
    w = vit_layer(params, i / 2);
    for (vit_idx d = 0; d < c->width; d++) {
      float *row = (mlp ? w.fc2_w : w.proj_w) + d * in;
      for (int k = 0; k < in; k++) row[k] *= g[d];
      (mlp ? w.fc2_b : w.proj_b)[d] *= g[d];
    }
  }
  vit__free(g);
  return r;
}

/* Copy the tensors of a model into its block, or (NULL) only look whether they
   are all there and, if asked, finite. */
static vit_result vit__read_weights(vit__source *s, const vit_config *c,
    int quantized, const vit_tensors *params, int numbers) {
  vit_tensor want;
  vit_result r = VIT_OK;
  for (int i = 0; !r && vit__tensor_at(c, quantized, i, &want); i++) {
    float *to = params ? params->block + want.offset : NULL;
    if (quantized && want.is_matrix) r = vit__read_int8(s, &want, to);
    else if (!s->used || !vit__read_special(s, c, &want, params, &r))
      r = vit__read_tensor(s, &want, to, numbers);
#ifndef _WIN32 /* mapped anew, no page of it is in memory beside the model */
    for (int f = 0; f < s->count; f++)
      if (s->files[f].file >= 0)
        (void)!mmap(s->files[f].bytes, s->files[f].size, PROT_READ,
            MAP_PRIVATE | MAP_FIXED, s->files[f].file, 0);
#endif
  }
  return r || !s->used ? r : vit__fold_layer_scale(s, c, params);
}

VIT_DEF vit_result vit_model_load(
    vit_model *m, const vit_safetensors *f, const char *prefix) {
  vit_result r = vit__check_model(m);
  vit_safetensors file = *f;
  vit__source s;
  memset(&s, 0, sizeof s);
  s.files = &file, s.count = 1;
  snprintf(s.prefix, sizeof s.prefix, "%.400s", prefix);
  if (!r) r = vit__check_plain(m);
  if (!r) r = vit__read_weights(&s, &m->config, 0, NULL, 1);
  if (!r) r = vit__read_weights(&s, &m->config, 0, &m->params, 1);
  return r;
}

/* What the model was trained on: normalisation and names of the classes. */
static void vit__note_dataset(vit__text *notes, const vit_dataset *d) {
  char key[24], value[64];
  for (int std = 0; std < 2; std++) {
    const float *v = std ? d->std : d->mean;
    snprintf(value, sizeof value, "%.9g %.9g %.9g", (double)v[0], (double)v[1],
        (double)v[2]);
    vit__note(notes, std ? "std" : "mean", value);
  }
  for (int k = 0; d->names && k < d->classes; k++) {
    snprintf(key, sizeof key, "class.%d", k);
    vit__note(notes, key, d->names[k]);
  }
}

/* The config, and that. */
static vit_result vit__note_model(
    vit__text *notes, const vit_model *m, const vit_dataset *d) {
  const char *name, *text;
  double value;
  vit__compared one, *s;
  if (vit__check_point()) return VIT_ERR_CONFIG;
  for (int i = 0; vit_config_field(&m->config, i, &name, &text, &value); i++) {
    s = &one;
    vit__set(&s, "config", name, value);
    vit__note(notes, one.name, one.value);
  }
  if (d) vit__note_dataset(notes, d);
  return VIT_OK;
}

VIT_DEF vit_result vit_model_save(
    const vit_model *m, const vit_dataset *d, const char *path) {
  vit__text notes = {NULL, 0, 0, 0};
  vit_result r = vit__check_model(m);
  if (!r && m->packed) r = vit__check_plain(m);
  if (!r) r = vit__note_model(&notes, m, d);
  return r ? r : vit__write_model(path, m, NULL, &notes, NULL, 0);
}

/* -- the config of a file ------------------------------------------------ */

/* What a JSON file beside the model or the file's metadata says, or NULL. */
static const char *vit__said(const vit__source *s, const char *key) {
  const vit__name *pair = (const vit__name *)(const void *)s->pairs.at;
  if (s->native) return vit_safetensors_metadata(s->files, key);
  for (size_t i = 0; i < s->pairs.used / sizeof *pair; i++)
    if (!strcmp(pair[i].name, key)) return pair[i].text;
  return NULL;
}

/* The first number of it, that of [14, 14] too. */
static double vit__said_number(
    const vit__source *s, const char *key, double otherwise) {
  const char *text = vit__said(s, key);
  const double x = text ? strtod(text + strspn(text, "[ \n"), NULL) : otherwise;
  return fmin(fmax(x, -1e9), 1e9);
}

/* What the shapes tell. */
static void vit__read_shapes(vit_config *c, const vit__source *s) {
  char block[48];
  const char *projection = "patch_embed.proj.weight";
  *c = vit_config_tutorial();
  c->width = vit__told(s, projection, 0);
  c->channels = vit__told(s, projection, 1);
  c->patch_height = vit__told(s, projection, 2);
  c->patch_width = vit__told(s, projection, 3);
  if (!c->patch_height && c->channels && s->dialect != VIT__CLIP) {
    c->patch_height = c->patch_width = (int)sqrt(c->channels / 3.0);
    c->channels = 3; /* it is a matrix [D,P] */
  }
  c->classes = vit__told(s, "head.weight", 0);
  c->mlp_width = vit__told(s, "blocks.0.mlp.fc1.weight", 0);
  c->class_token = vit__told(s, "cls_token", 0) > 0;
  c->dist_token = vit__told(s, "head_dist.weight", 0) > 0;
  c->reg_tokens = vit__told(s, "reg_token", 1) +
                  (!c->dist_token && vit__told(s, "dist_token", 0));
  c->pre_norm = vit__told(s, "norm_pre.weight", 0) > 0;
  c->fc_norm = vit__told(s, "fc_norm.weight", 0) > 0;
  c->qkv_bias = vit__told(s, "blocks.0.attn.qkv.bias", 0) > 0;
  c->final_norm = vit__told(s, "norm.weight", 0) > 0;
  if (vit__told(s, "pos_embed", 0)) c->positions = VIT_POSITIONS_LEARNED;
  if (!c->class_token) c->pool = VIT_POOL_MEAN;
  c->depth = -1;
  do snprintf(block, sizeof block, "blocks.%d.norm1.weight", ++c->depth);
  while (vit__told(s, block, 0));
}

/* Do the shapes and config.json tell the same? */
static vit_result vit__check_said(const vit__source *s, const vit_config *c) {
  static const char *const keys[] = {"hidden_size", "num_features",
      "num_hidden_layers", "intermediate_size", "num_channels", "patch_size"};
  const int is[] = {
      c->width, c->width, c->depth, c->mlp_width, c->channels, c->patch_height};
  for (int i = 0; i < VIT__COUNT(keys); i++)
    if (vit__said_number(s, keys[i], is[i]) != is[i])
      return vit__fail(VIT_ERR_FORMAT,
          "%.200s: config.json says %s %g, the tensors say %d", s->path,
          keys[i], vit__said_number(s, keys[i], 0), is[i]);
  return VIT_OK;
}

/* Activation and pooling. timm's config.json names the model alone, and that
   tells it: quickgelu, and the SigLIPs that have the tanh form. */
static vit_result vit__read_said(const vit__source *s, vit_config *c) {
  static const char *const tanh_form[] = {"tanh", "gelu_new", "patch32_siglip",
      "so400m_patch16", "giantopt", "large_patch16_siglip_512",
      "large_patch16_siglip_gap_512"};
  const char *pool = vit__said(s, "global_pool");
  const char *act = vit__said(s, "hidden_act");
  if (!act) act = vit__said(s, "act_layer");
  if (act && strncmp(act, "gelu", 4) && strcmp(act, "quick_gelu"))
    return vit__fail(VIT_ERR_FORMAT,
        "%.200s: config.json says that its activation is %.40s; vit.h has "
        "gelu, gelu_tanh and quick_gelu",
        s->path, act);
  if (act) c->gelu = VIT_GELU_ERF;
  else act = vit__said(s, "architecture");
  if (act && strstr(act, "quick")) c->gelu = VIT_GELU_QUICK;
  for (int i = 0; act && i < VIT__COUNT(tanh_form); i++)
    if (strstr(act, tanh_form[i])) c->gelu = VIT_GELU_TANH;
  if (pool) c->pool = strcmp(pool, "avg") ? VIT_POOL_CLS : VIT_POOL_MEAN;
  return VIT_OK;
}

/* A file of another library: options that its tensors do not tell. */
static vit_result vit__read_foreign(
    vit_config *c, vit__source *s, const vit_pretrained_config *hints) {
  char name[512];
  const int half = 2 * vit__told(s, "blocks.0.mlp.fc2.weight", -1);
  const int head = vit__told(s, "head.weight", -1);
  vit_result r = vit__check_said(s, c);
  c->softmax_before_loss = 0, c->init = VIT_INIT_VIT;
  c->norm_eps = s->dialect == VIT__HF ? 1e-12f : c->pre_norm ? 1e-5f : 1e-6f;
  if (s->dialect == VIT__CLIP)
    c->gelu = c->pre_norm ? VIT_GELU_QUICK : VIT_GELU_TANH;
  if (c->fc_norm) c->pool = VIT_POOL_MEAN;
  if (!r) r = vit__read_said(s, c);
  c->norm_eps =
      (float)vit__said_number(s, "layer_norm_eps", (double)c->norm_eps);
  c->heads = (int)vit__said_number(
      s, "num_attention_heads", vit__said_number(s, "num_heads", 0));
  if (s->dialect == VIT__CLIP && c->class_token && head &&
      vit__find_part(s, "head.weight", 0, 0, name) &&
      strstr(name, "classifier")) { /* it reads patches without a norm */
    c->pool = VIT_POOL_MEAN, c->final_norm = 0;
    vit__find_part(s, "norm.weight", 0, 1, name);
    vit__find_part(s, "norm.bias", 0, 1, name);
  }
  if (hints->heads) c->heads = hints->heads;
  if (!r && !c->heads && (c->width % 64 || c->width < 192 || c->width > 1024))
    return vit__fail(VIT_ERR_CONFIG,
        "%.200s does not say how many heads it has, and of width %d there are "
        "models with other heads than of 64 (ViT-H/14 has 16 of 80, so400m 16 "
        "of 72): set heads",
        s->path, c->width);
  if (!c->heads) c->heads = c->width / 64;
  if (!r && half && half == c->mlp_width)
    return vit__fail(VIT_ERR_FORMAT,
        "%.200s has a gated MLP (SwiGLU); vit.h has not", s->path);
  if (!r && !hints->classes && head == 2 * c->width)
    return vit__fail(VIT_ERR_FORMAT,
        "the head of %.200s reads the class token and the mean of the patches, "
        "%d numbers; vit.h has no such head: set classes for a new one",
        s->path, head);
  return r;
}

/* What vit.h has written. */
static vit_result vit__read_native(vit_config *c, const vit__source *s) {
  const vit_safetensors *f = s->files;
  vit_result r = VIT_OK;
  for (int i = 0; !r && i < f->notes; i++)
    if (!strncmp(f->names[i].name, "config.", 7))
      r = vit_config_set(c, f->names[i].name + 7, f->names[i].text);
  if (c->head_dim == 0 && c->heads > 0)
    c->head_dim = vit__told(s, "blocks.0.attn.qkv.weight", 0) / 3 / c->heads;
  return r;
}

/* How the positions of the file lie. In front of those of the patches may stand
   one of the class token, or one of each other token. */
static vit_result vit__find_grid(
    vit__source *s, const vit_config *c, const vit_pretrained_config *hints) {
  const int tokens = c->class_token + c->dist_token + c->reg_tokens;
  const int before[] = {tokens, c->class_token, 0};
  const char *size = vit__said(s, "image_size");
  char name[512];
  const vit_safetensor *t = vit__find_part(s, "pos_embed", 0, 0, name);
  const int n = t ? (int)VIT__MIN(t->count / (size_t)c->width, 1u << 20) : 0;
  int height = 0, width = 0;
  if (size && sscanf(size, " [ %d , %d", &height, &width) < 2)
    height = width = atoi(size);
  if (!size && (size = vit__said(s, "input_size")) != NULL) /* of timm */
    (void)!sscanf(size, " [ %*d , %d , %d", &height, &width);
  if (s->native) height = c->image_height, width = c->image_width;
  s->rows = height / c->patch_height, s->cols = width / c->patch_width;
  if (hints && hints->rows > 0) s->rows = hints->rows, s->cols = hints->cols;
  if (s->native && (!t || c->positions != VIT_POSITIONS_LEARNED)) return VIT_OK;
  if (!t)
    return vit__fail(VIT_ERR_FORMAT,
        "%.200s has no positions: they may be rotary or relative ones, which "
        "vit.h has not",
        s->path);
  for (int i = 0; i < 3; i++) {
    const int left = n - (s->before = before[i]);
    const int side = (int)sqrt(fmax(left, 0));
    const int rows = s->rows ? s->rows : side, cols = s->rows ? s->cols : side;
    if (left > 0 && rows > 0 && cols > 0 && (double)rows * cols == left)
      return s->rows = rows, s->cols = cols, VIT_OK;
  }
  return vit__fail(VIT_ERR_FORMAT,
      s->rows
          ? "%.200s has %d positions, which are not %d x %d"
          : "%.200s has %d positions, which is no square: set rows and cols "
            "to the patches down and across of its images",
      s->path, n, s->rows, s->cols);
}

static vit_result vit__read_config(
    vit_config *c, vit__source *s, const vit_pretrained_config *hints) {
  vit_result r;
  vit__read_shapes(c, s);
  r = s->native ? vit__read_native(c, s) : vit__read_foreign(c, s, hints);
  s->channels = c->channels;
  if (!r && c->width > 0 && c->patch_height > 0 && c->patch_width > 0) {
    r = vit__find_grid(s, c, hints);
    c->image_height = (int)fmin((double)s->rows * c->patch_height, 1e9);
    c->image_width = (int)fmin((double)s->cols * c->patch_width, 1e9);
  }
  if (hints && hints->image_height) c->image_height = hints->image_height;
  if (hints && hints->image_width) c->image_width = hints->image_width;
  if (!r && hints && hints->channels && hints->channels != c->channels) {
    c->channels = hints->channels;
    if (c->channels != 1)
      r = vit__fail(VIT_ERR_CONFIG,
          "%.200s is for images of %d channels; it can be read for these or "
          "for 1, not for %d",
          s->path, s->channels, c->channels);
  }
  s->new_head = hints && hints->classes > 0;
  s->headless = !s->native && !s->new_head && c->classes == 0;
  if (s->new_head) c->classes = hints->classes, s->seed = hints->seed;
  if (s->headless) c->classes = c->width;
  return r ? r : vit_config_resolve(c);
}

/* -- opening ------------------------------------------------------------- */

static void vit__close_source(vit__source *s) {
  for (int f = 0; f < s->count; f++) vit_safetensors_close(s->files + f);
  for (int i = 0; i < 3; i++) vit__free(s->json[i]);
  vit__free(s->used);
  vit__text_free(&s->open);
  vit__text_free(&s->pairs);
  s->count = 0;
}

static vit_result vit__open_shard(vit__source *s, const char *path) {
  vit_safetensors f;
  vit_result r = vit_safetensors_open(&f, path);
  if (r) return r;
  if (!vit__text_add(&s->open, &f, sizeof f))
    return vit_safetensors_close(&f), VIT_ERR_NO_MEMORY;
  s->files = (vit_safetensors *)(void *)s->open.at;
  s->count++;
  return VIT_OK;
}

/* JSON file number `which`, where it is there. */
static vit_result vit__read_json(
    vit__source *s, int which, const char *folder, const char *name) {
  char path[1024];
  vit_safetensors f;
  vit__json j = {NULL, &f, path, "it is not JSON", VIT_OK};
  memset(&f, 0, sizeof f);
  snprintf(path, sizeof path, "%s%s", folder, name);
  j.r = vit__read_file(path, &s->json[which], &f.size);
  if (j.r) return j.r == VIT_ERR_FILE ? VIT_OK : j.r;
  f.header = j.at = (char *)s->json[which];
  j.at[f.size] = '\0';
  vit__json_pairs(&j, &s->pairs, VIT__DEEP);
  vit__json_must(&j, vit__json_is(&j, "") && j.at == f.header + f.size);
  return !j.r && s->pairs.failed ? VIT_ERR_NO_MEMORY : j.r;
}

/* The shards that an index names. */
static vit_result vit__open_index(
    vit__source *s, const char *folder, const char *name) {
  const vit__name *pair;
  vit_result r = vit__read_json(s, 2, folder, name);
  size_t n = s->pairs.used / sizeof *pair;
  for (size_t i = 0, k; !r && i < n; i++) {
    char path[1024];
    pair = (const vit__name *)(const void *)s->pairs.at;
    k = strlen(pair[i].text);
    if (k < 12 || strcmp(pair[i].text + k - 12, ".safetensors")) continue;
    for (k = 0; strcmp(pair[k].text, pair[i].text);) k++;
    if (k < i) continue; /* it is open */
    snprintf(path, sizeof path, "%s%.255s", folder, pair[i].text);
    r = vit__open_shard(s, path);
    if (r == VIT_ERR_FILE)
      return vit__fail(r,
          "%.150s is an index of shards, but %.100s is not beside it: get all "
          "files that it names",
          s->path, pair[i].text);
  }
  if (r || s->count) return r;
  return vit__fail(VIT_ERR_FORMAT,
      "%.200s: no index of shards is there, or it names none", s->path);
}

/* A file, the shards of an index, or a folder of Hugging Face; then what is
   said beside it. vit.h's own files say all themselves. */
static vit_result vit__open_source(vit__source *s, const char *path) {
  static const char *const names[] = {"model.safetensors",
      "model.safetensors.index.json", "pytorch_model.bin", "model.safetensors"};
  char folder[600], at[640];
  struct stat info;
  size_t n = strlen(path), tensors = 0;
  vit_result r;
  memset(s, 0, sizeof *s);
  s->path = path;
  while (n > 0 && path[n - 1] != '/') n--;
  snprintf(folder, sizeof folder, "%.*s", (int)VIT__MIN(n, 500), path);
  snprintf(at, sizeof at, "%.600s", path);
  if (!stat(path, &info) && S_ISDIR(info.st_mode)) {
    snprintf(folder, sizeof folder, "%.500s/", path);
    for (int i = 0; i < 4; i++) {
      snprintf(at, sizeof at, "%s%s", folder, names[i]);
      if (!stat(at, &info)) break;
    }
  }
  n = strlen(folder);
  if (strlen(at) > 5 && !strcmp(at + strlen(at) - 5, ".json"))
    r = vit__open_index(s, folder, at + n);
  else r = vit__open_shard(s, at);
  for (int f = 0; f < s->count; f++) tensors += (size_t)s->files[f].count;
  s->used = (char *)vit__allocate(tensors, 1, path);
  if (r || !s->used) return r ? r : VIT_ERR_NO_MEMORY;
  memset(s->used, 0, tensors);
  s->native = vit_safetensors_metadata(s->files, "config.heads") != NULL;
  if (s->native) return VIT_OK;
  r = vit__read_json(s, 0, folder, "config.json");
  return r ? r : vit__read_json(s, 1, folder, "preprocessor_config.json");
}

/* Mean, std, names of the classes: vit__note_dataset or JSON files say them. */
static vit_result vit__read_dataset(
    vit_dataset *d, const vit_config *m, const vit__source *s) {
  static const char *const keys[][2] = {
      {"mean", "image_mean"}, {"std", "image_std"}};
  const char *prefix = s->native ? "class." : "", *name;
  char key[24];
  vit_result r;
  d->channels = m->channels, d->classes = m->classes;
  d->height = m->image_height, d->width = m->image_width;
  snprintf(d->source, sizeof d->source, "%.250s", s->path);
  for (int std = 0; std < 2; std++) {
    const char *text = vit__said(s, keys[std][0]), *at;
    float *v = std ? d->std : d->mean;
    char *end;
    int n = 0;
    if (!text) text = vit__said(s, keys[std][1]);
    if (!text) text = std ? "1 1 1" : "0 0 0";
    for (at = text; n < 3; n++, at = end) {
      at += strspn(at, " [,\n\t");
      v[n] = strtof(at, &end);
      if (end == at) break;
    }
    at += strspn(at, " ,\n\t");
    if (n == 1 && d->channels == 1) v[1] = v[2] = v[0], n = 3;
    if ((*at && *at != ']') || n != 3)
      return vit__fail(VIT_ERR_FORMAT,
          "%.200s: its %s is \"%.60s\"; it must be three numbers, or one for a "
          "grey model",
          s->path, keys[std][0], text);
    for (int c = 0; c < 3; c++)
      if (!VIT__IS_FINITE(v[c]) || (std && v[c] <= 0))
        return vit__fail(VIT_ERR_FORMAT, "%.200s: its %s of channel %d is %g",
            s->path, keys[std][0], c, (double)v[c]);
  }
  snprintf(key, sizeof key, "%s0", prefix);
  if (!vit__said(s, key) || s->new_head || s->headless) return VIT_OK;
  r = vit__allocate_names(d);
  for (int k = 0; !r && k < d->classes; k++) {
    snprintf(key, sizeof key, "%s%d", prefix, k);
    name = vit__said(s, key);
    snprintf(d->names[k], VIT_NAME_SIZE, "%.63s",
        name ? name : key + strlen(prefix));
  }
  return r;
}

static void vit__fill_report(
    vit_pretrained_report *p, const vit__source *s, const vit_config *c) {
  const int rows = c->image_height / c->patch_height;
  const int cols = c->image_width / c->patch_width;
  static const char *const heads[] = {"head read", "head new, at random",
      "no head: the logits are the features"};
  p->dialect = s->native ? "vit.h" : vit__dialects[s->dialect];
  snprintf(p->prefix, sizeof p->prefix, "%.63s", s->prefix);
  for (int f = 0; f < s->count; f++) p->used += s->files[f].count;
  p->used -= p->left = s->left;
  p->folded = s->folded;
  p->rows = s->rows, p->cols = s->cols;
  p->resampled = rows != s->rows || cols != s->cols;
  p->head = s->headless ? VIT_HEAD_NONE : VIT_HEAD_READ;
  if (s->new_head) p->head = VIT_HEAD_NEW;
  p->normalized = vit__said(s, "mean") || vit__said(s, "image_mean");
  snprintf(p->text, sizeof p->text,
      "names of %s%s%s, %d tensors read, %d left out, %d layer scales folded, "
      "positions %d x %d %s %d x %d, %s",
      p->dialect, *p->prefix ? " below " : "", p->prefix, p->used, p->left,
      p->folded, s->rows, s->cols, p->resampled ? "resampled to" : "as", rows,
      cols, heads[p->head]);
}

VIT_DEF vit_pretrained_config vit_pretrained_defaults(void) {
  const vit_pretrained_config c = {0, 0, 0, 0, 0, 0, 0, 0};
  return c;
}

/* hints NULL: vit.h must have written it. */
static vit_result vit__open_model(vit_model *m, const char *path,
    const vit_pretrained_config *hints, vit_dataset *about,
    vit_pretrained_report *report) {
  static const char *const needed[] = {
      "config.image_height", "config.image_width", "config.heads"};
  vit_config c;
  vit__source s;
  int quantized = 0;
  vit_result r = vit__open_source(&s, path);
  memset(m, 0, sizeof *m);
  if (report) memset(report, 0, sizeof *report);
  if (about) memset(about, 0, sizeof *about);
  for (int i = 0; !r && (!hints || s.native) && i < 3; i++)
    if (!vit_safetensors_metadata(s.files, needed[i]))
      r = vit__fail(VIT_ERR_FORMAT,
          "%.200s does not say its %s: it was not written by vit.h; "
          "vit_pretrained_open reads such a model, or create it and use "
          "vit_model_load",
          path, needed[i]);
  if (!r) r = vit__check_point();
  if (!r) r = vit__check_rest(&s, 0);
  if (!r) r = vit__find_dialect(&s);
  if (!r) r = vit__read_config(&c, &s, hints);
  if (!r && s.native) {
    char name[512];
    const vit_safetensor *t = vit__find_part(&s, "head.weight", 0, 0, name);
    quantized = t && !strcmp(t->type, "I8");
    if (quantized && s.new_head)
      r = vit__fail(VIT_ERR_STATE,
          "%.200s is quantized for inference: it takes no new head", path);
  }
  if (!r) r = vit__read_weights(&s, &c, quantized, NULL, 0);
  if (!r) r = vit__check_rest(&s, 1);
  if (!r && about) r = vit__read_dataset(about, &c, &s);
  if (!r) r = vit__allocate_model(m, &c, quantized); /* all is looked at */
  if (!r) r = vit__read_weights(&s, &c, quantized, &m->params, 1);
  if (!r && report) vit__fill_report(report, &s, &c);
  if (r) vit_model_free(m);
  if (r && about) vit_dataset_free(about);
  vit__close_source(&s);
  return r;
}

VIT_DEF vit_result vit_model_open(
    vit_model *m, const char *path, vit_dataset *about) {
  return vit__open_model(m, path, NULL, about, NULL);
}

VIT_DEF vit_result vit_pretrained_open(vit_model *m, const char *path,
    const vit_pretrained_config *c, vit_dataset *about,
    vit_pretrained_report *report) {
  const vit_pretrained_config plain = vit_pretrained_defaults();
  return vit__open_model(m, path, c ? c : &plain, about, report);
}

/* -- writing for other libraries ----------------------------------------- */

/* What a model has that the library has not. */
static vit_result vit__check_names(const vit_config *c, int hf) {
  const struct {
    int has;
    const char *what;
  } all[] = {{c->local_mask, "a local mask"},
      {c->norm == VIT_NORM_POST, "post-norm"},
      {c->mlp_last_gelu, "a GELU at the end of its MLP"},
      {c->heads * c->head_dim != c->width, "heads that are not width / heads"},
      {c->dist_token && c->reg_tokens, "registers and a distillation token"},
      {c->fc_norm && c->final_norm, "norms before and after the pooling"},
      {hf && c->reg_tokens, "registers"},
      {hf && c->dist_token, "a distillation token"},
      {hf && c->pre_norm, "a norm before block 0"},
      {hf && c->fc_norm, "a norm after the pooling"},
      {hf && c->pool != VIT_POOL_CLS, "mean pooling"},
      {hf && !c->final_norm, "no final norm"}};
  for (int i = 0; i < VIT__COUNT(all); i++)
    if (all[i].has)
      return vit__fail(VIT_ERR_CONFIG,
          "this model has %s, which %s cannot express; vit_model_save writes "
          "it for vit.h",
          all[i].what, hf ? "ViTForImageClassification" : "timm");
  return VIT_OK;
}

/* config.json of Hugging Face, in the folder of PATH. */
static vit_result vit__write_hf_config(
    const vit_config *c, const vit_dataset *d, const char *path) {
  static const char *const acts[] = {"gelu", "gelu_pytorch_tanh", "quick_gelu"};
  const char *slash = strrchr(path, '/');
  char name[600];
  vit__text t = {NULL, 0, 0, 0};
  vit__text_print(&t,
      "{\"architectures\":[\"ViTForImageClassification\"],"
      "\"model_type\":\"vit\",\"hidden_size\":%d,\"num_hidden_layers\":%d,"
      "\"num_attention_heads\":%d,\"intermediate_size\":%d,",
      c->width, c->depth, c->heads, c->mlp_width);
  vit__text_print(&t,
      "\"image_size\":[%d,%d],\"patch_size\":[%d,%d],\"num_channels\":%d,"
      "\"qkv_bias\":%s,\"layer_norm_eps\":%.9g,\"hidden_act\":\"%s\"",
      c->image_height, c->image_width, c->patch_height, c->patch_width,
      c->channels, c->qkv_bias ? "true" : "false", (double)c->norm_eps,
      acts[c->gelu]);
  for (int k = 0; k < c->classes; k++) {
    const char *label = d ? vit_class_name(d, k) : NULL;
    vit__text_print(&t, "%s\"%d\":", k ? "," : ",\"id2label\":{", k);
    snprintf(name, sizeof name, "%d", k);
    vit__text_string(&t, "", label ? label : name);
  }
  vit__text_print(&t, "}}\n");
  snprintf(name, sizeof name, "%.*sconfig.json",
      slash ? (int)VIT__MIN(slash - path + 1, 500) : 0, path);
  return vit__write_text(&t, name);
}

VIT_DEF vit_result vit_pretrained_save(const vit_model *m, const vit_dataset *d,
    const char *path, vit_names names) {
  const int hf = names == VIT_NAMES_HF, D = m->config.width;
  const int T = vit_config_tokens(&m->config);
  const vit_idx all = (vit_idx)T * D, first = m->config.class_token * D;
  const vit_idx left =
      all - (vit_idx)vit_config_patches(&m->config) * D - first;
  const float *from = m->fixed_pos ? m->fixed_pos : m->params.pos_embed;
  char name[512];
  float *pos;
  vit__text notes = {NULL, 0, 0, 0};
  vit__source s;
  vit_safetensor t;
  vit_result r = vit__check_model(m);
  memset(&s, 0, sizeof s);
  s.dialect = hf ? VIT__HF : VIT__TIMM;
  strcpy(s.prefix, hf ? "vit." : "");
  if (!r) r = vit__check_plain(m);
  if (!r) r = vit__check_names(&m->config, hf);
  if (!r) r = vit__note_model(&notes, m, d);
  if (r) return r;
  /* class token, tokens that have no position, patches */
  pos = (float *)vit__allocate((size_t)all, sizeof *pos, path);
  if (!pos) return vit__text_free(&notes), VIT_ERR_NO_MEMORY;
  for (vit_idx i = 0; i < all; i++) {
    const int none = !from || (i >= first && i < first + left);
    pos[i] = none ? 0 : from[i < first ? i : i - left];
  }
  vit__their_name(&s, "pos_embed", 0, 0, name);
  t = vit__block_tensor(name, pos, (size_t)all);
  t.dims = 3, t.shape[0] = 1, t.shape[1] = T, t.shape[2] = D;
  r = vit__write_model(path, m, &s, &notes, &t, 1);
  if (!r && hf) r = vit__write_hf_config(&m->config, d, path);
  vit__free(pos);
  return r;
}

/* -- pictures as published models have seen them ------------------------- */

#define VIT__HALF                                                              \
  {0.5f, 0.5f, 0.5f}, { 0.5f, 0.5f, 0.5f }
#define VIT__IMAGENET                                                          \
  {0.485f, 0.456f, 0.406f}, { 0.229f, 0.224f, 0.225f }
static const vit_preprocess vit__preprocess[] = {
    {"timm", "timm: ViT", VIT_BICUBIC, 0.9, VIT__HALF},
    {"deit", "timm: DeiT, DINO, MAE", VIT_BICUBIC, 0.9, VIT__IMAGENET},
    {"dino", "authors of DINO; DINOv2 at 224", VIT_BICUBIC, 0.875,
        VIT__IMAGENET},
    {"dinov2", "timm: DINOv2, 518 pixels", VIT_BICUBIC, 1, VIT__IMAGENET},
    {"clip", "authors of CLIP", VIT_BICUBIC, 1,
        {0.48145466f, 0.4578275f, 0.40821073f},
        {0.26862954f, 0.26130258f, 0.27577711f}},
    {"siglip", "Hugging Face: SigLIP", VIT_BICUBIC, 0, VIT__HALF},
    {"torchvision", "torchvision", VIT_BILINEAR, 0.875, VIT__IMAGENET},
    {"hf", "Hugging Face: ViT", VIT_BILINEAR, 0, VIT__HALF},
    {"plain", "vit_dataset_folder", VIT_BILINEAR, 1, {0, 0, 0}, {1, 1, 1}}};

VIT_DEF const vit_preprocess *vit_preprocess_at(int i) {
  return i >= 0 && i < VIT__COUNT(vit__preprocess) ? vit__preprocess + i : NULL;
}

VIT_DEF const vit_preprocess *vit_preprocess_find(const char *name) {
  const vit_preprocess *p;
  char known[200] = "";
  for (int i = 0; (p = vit_preprocess_at(i)) != NULL; i++) {
    const size_t used = strlen(known);
    if (!strcmp(name, p->name)) return p;
    snprintf(known + used, sizeof known - used, i ? ", %s" : "%s", p->name);
  }
  vit__fail(VIT_ERR_CONFIG,
      "no way to prepare pictures is called %.60s; there are %s", name, known);
  return NULL;
}

VIT_DEF vit_result vit_preprocess_image(float *out, const uint8_t *pixels,
    int channels, int h, int w, const vit_preprocess *p, int rows, int cols) {
  vit__axis axis[2] = {
      {h, rows, 0, rows, 0, NULL}, {w, cols, 0, cols, 0, NULL}};
  const vit_idx plane = (vit_idx)rows * cols;
  uint8_t *bytes;
  /* of no picture: are the sizes and the filter known? */
  vit_result r = vit_resize(NULL, NULL, 0, h, w, rows, cols, p->filter);
  if (r) return r;
  if (channels < 1 || channels > 3 || !(p->part >= 0 && p->part <= 1))
    return vit__fail(VIT_ERR_CONFIG,
        "%d channels and part %g: a picture has 1 to 3 channels, and 0 to 1 of "
        "its shorter side is kept",
        channels, p->part);
  bytes =
      (uint8_t *)vit__allocate((size_t)plane, (size_t)channels, "a picture");
  if (!bytes) return VIT_ERR_NO_MEMORY;
  if (p->part > 0) vit__plan_crop(axis, 0, p->part);
  r = vit__resize(bytes, pixels, channels, axis, p->filter, 1);
  for (vit_idx i = 0; !r && i < channels * plane; i++)
    out[i] = ((float)bytes[i] / 255 - p->mean[i / plane]) / p->std[i / plane];
  VIT_FREE(bytes);
  return r;
}

#endif /* VIT_IMPLEMENTATION */

/* ---------------------------------------------------------------------------
   Take this file under whichever of two licences you prefer.

   ---- A: MIT License. Copyright (c) 2026 the vit.h authors ----

   Permission is hereby granted, free of charge, to any person obtaining a copy
   of this software and associated documentation files (the "Software"), to deal
   in the Software without restriction, including without limitation the rights
   to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
   copies of the Software, and to permit persons to whom the Software is
   furnished to do so, subject to the following conditions:

   The above copyright notice and this permission notice shall be included in
   all copies or substantial portions of the Software.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
   IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
   FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
   AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
   LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
   SOFTWARE.

   ---- B: Public Domain (www.unlicense.org) ----

   This is free and unencumbered software released into the public domain.

   Anyone is free to copy, modify, publish, use, compile, sell, or distribute
   this software, either in source code form or as a compiled binary, for any
   purpose, commercial or non-commercial, and by any means.

   In jurisdictions that recognize copyright laws, the author or authors of this
   software dedicate any and all copyright interest in the software to the
   public domain. We make this dedication for the benefit of the public at large
   and to the detriment of our heirs and successors. We intend this dedication
   to be an overt act of relinquishment in perpetuity of all present and future
   rights to this software under copyright law.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
   IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
   FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
   AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN
   ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
   WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
   ------------------------------------------------------------------------ */
