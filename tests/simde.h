/* simde.h - AVX-512 for a CPU that lacks it, in plain C: SIMD Everywhere
   (github.com/simd-everywhere/simde, Debian's libsimde-dev). vit.h takes it in
   place of <immintrin.h>:

       cc -DVIT_SIMD_AVX512 -DVIT_SIMD_HEADER='"tests/simde.h"' ...

   Version 0.7.4 has no masked loads and stores, no conversions of 512 bits and no
   shuffle of groups, and rounds a * b + c twice: these stand here. It brings the I
   of <complex.h>: away with it. */
#ifndef TEST_SIMDE_H
#define TEST_SIMDE_H

#if defined(__GNUC__)
#pragma GCC system_header /* its warnings are its own */
#endif

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/avx2.h>
#include <simde/x86/fma.h>

#include <math.h>
#include <string.h>

#undef I
#ifndef _MM_FROUND_NO_EXC
#define _MM_FROUND_NO_EXC 0x08
#endif
#define __mmask16 uint16_t

#undef _mm512_cvtss_f32
#undef _mm512_fmadd_ps
#undef _mm512_maskz_loadu_ps
#undef _mm512_mask_storeu_ps
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtps_epi32
#undef _mm512_shuffle_f32x4
#undef _mm512_madd_epi16
#define _mm512_madd_epi16 simde_mm512_madd_epi16 /* its own name has two arguments too many */
#define _mm512_cvtss_f32 test_simde_first
#define _mm512_fmadd_ps test_simde_fma
#define _mm512_maskz_loadu_ps test_simde_load
#define _mm512_mask_storeu_ps test_simde_store
#define _mm512_cvtepi32_ps test_simde_to_float
#define _mm512_cvtps_epi32 test_simde_to_int
#define _mm512_shuffle_f32x4 test_simde_shuffle

static inline float test_simde_first(__m512 a) {
  float lane[16];
  memcpy(lane, &a, sizeof a);
  return lane[0];
}

static inline __m512 test_simde_fma(__m512 a, __m512 b, __m512 c) {
  float x[16], y[16], z[16];
  memcpy(x, &a, sizeof a);
  memcpy(y, &b, sizeof b);
  memcpy(z, &c, sizeof c);
  for (int i = 0; i < 16; i++) z[i] = fmaf(x[i], y[i], z[i]);
  memcpy(&c, z, sizeof c);
  return c;
}

static inline __m512 test_simde_load(unsigned mask, const float *p) {
  float lane[16];
  __m512 a;
  for (int i = 0; i < 16; i++) lane[i] = mask >> i & 1 ? p[i] : 0;
  memcpy(&a, lane, sizeof a);
  return a;
}

static inline void test_simde_store(float *p, unsigned mask, __m512 a) {
  float lane[16];
  memcpy(lane, &a, sizeof a);
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) p[i] = lane[i];
}

static inline __m512 test_simde_to_float(__m512i a) {
  int32_t from[16];
  float to[16];
  __m512 b;
  memcpy(from, &a, sizeof a);
  for (int i = 0; i < 16; i++) to[i] = (float)from[i];
  memcpy(&b, to, sizeof b);
  return b;
}

/* What does not fit in 32 bits, and NaN, becomes the smallest number. */
static inline __m512i test_simde_to_int(__m512 a) {
  float from[16];
  int32_t to[16];
  __m512i b;
  memcpy(from, &a, sizeof a);
  for (int i = 0; i < 16; i++)
    to[i] = fabsf(from[i]) < 2147483648.0f ? (int32_t)lrintf(from[i]) : INT32_MIN;
  memcpy(&b, to, sizeof b);
  return b;
}

/* Groups of four lanes: two of a, two of b, by two bits of `which` each. */
static inline __m512 test_simde_shuffle(__m512 a, __m512 b, int which) {
  float x[16], y[16], to[16];
  memcpy(x, &a, sizeof a);
  memcpy(y, &b, sizeof b);
  for (int g = 0; g < 4; g++)
    memcpy(to + 4 * g, (g < 2 ? x : y) + 4 * (which >> 2 * g & 3), 4 * sizeof *to);
  memcpy(&a, to, sizeof a);
  return a;
}

#endif /* TEST_SIMDE_H */
