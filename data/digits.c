/* digits.c: draws handwritten-like digits, for machines that cannot fetch MNIST.

       digits OUT_DIR [--seed N] [--train N] [--test N] [--help]

   It writes four IDX files under MNIST's official names, with 28x28 pixels, white on black, and as many images of
   each class as of any other. Every digit is made in five steps, and the file has them in this order:

       styles     one of several ways to write the digit: a few points on paper, given as text
       pen path   the points are shaken, then joined by a smooth curve
       hand       the curve is bent, slanted, turned, widened, and pulled about by a smooth random field
       ink        a round pen of changing width runs along the curve on fine paper, 8x8 dots for each pixel
       pixels     as MNIST did it: fitted into 20x20 with grey edges, then centred by mass in 28x28

   The same seed gives the same bytes on every machine: all arithmetic is on integers (fixed point), there is no
   floating point anywhere, and every shift is on unsigned numbers. C99, no library but C's own.

   Licence: public domain, or MIT; see the end of vit.h. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- numbers -----------------------------------------------------------------------------------------------------

   A fix is a number with 16 binary places: ONE is 1.0. Lengths on the writer's paper run from 0 to 100, so products
   stay far from the limits of 64 bits. Division rounds toward zero, as C99 defines it. */

typedef int64_t fix;
#define ONE ((fix)65536)
#define PERCENT(n) ((fix)(n) * ONE / 100)

static fix mul(fix a, fix b) { return a * b / ONE; }
static fix quotient(fix a, fix b) { return a * ONE / b; }
static fix clamp(fix a, fix low, fix high) { return a < low ? low : a > high ? high : a; }

/* PCG32, a permuted congruential generator (O'Neill, 2014): 64 bits of state, 32 bits out. */
typedef struct { uint64_t state, stream; } pcg32;

static uint32_t pcg32_next(pcg32 *g) {
    uint64_t s = g->state;
    g->state = s * 6364136223846793005u + g->stream;
    uint32_t mixed = (uint32_t)(((s >> 18) ^ s) >> 27);
    uint32_t turn = (uint32_t)(s >> 59);
    return (mixed >> turn) | (mixed << ((32u - turn) & 31u));
}

static pcg32 pcg32_start(uint64_t seed, uint64_t stream) {
    pcg32 g = { 0, 2 * stream + 1 };  /* the increment has to be odd */
    pcg32_next(&g);
    g.state += seed;
    pcg32_next(&g);
    return g;
}

/* A whole number in 0 .. n-1. */
static int below(pcg32 *g, int n) { return (int)(((uint64_t)pcg32_next(g) * (uint64_t)n) >> 32); }

static int chance(pcg32 *g, int percent) { return below(g, 100) < percent; }

/* A number in [low, high). */
static fix uniform(pcg32 *g, fix low, fix high) {
    return low + mul(high - low, (fix)(pcg32_next(g) & 0xffffu));
}

/* A normal number of mean 0 and deviation `sigma`: twelve uniform ones add up to mean 6 and variance 1. */
static fix normal(pcg32 *g, fix sigma) {
    fix sum = -6 * ONE;
    for (int i = 0; i < 6; i++) {
        uint32_t u = pcg32_next(g);
        sum += (fix)(u & 0xffffu) + (fix)(u >> 16);
    }
    return mul(sum, sigma);
}

/* ---- styles ------------------------------------------------------------------------------------------------------

   The points "x,y" that the pen goes through, on paper of 100 by 100, y down. Between points the path is a smooth
   curve; "/" after a point makes it a corner; "|" lifts the pen. The weight says how often a style is chosen among
   those of its digit. The comments name the kinds that occur. */

static const struct { int digit, weight; const char *path; } styles[] = {
    /* 0: closed, overlapping at the top, open, starting with a hook, round, thin, ending inside, flat hook */
    { 0, 5, "52,1 26,12 12,36 12,66 28,92 52,99 76,88 88,62 86,32 72,9 52,2" },
    { 0, 4, "66,8 40,4 17,24 10,56 22,88 50,99 78,82 90,50 80,18 58,5 34,14" },
    { 0, 3, "44,6 22,22 10,54 22,90 50,98 78,80 90,46 82,16 62,4" },
    { 0, 2, "20,12 10,44 18,84 50,99 82,82 88,46 76,12 54,4 34,12" },
    { 0, 3, "50,8 22,18 4,50 20,84 50,93 80,84 96,50 80,18 50,8" },
    { 0, 2, "52,0 38,20 32,52 38,84 52,99 66,82 70,50 66,18 52,1" },
    { 0, 2, "38,24 50,10 66,6 82,22 88,52 74,86 46,98 20,84 12,52 24,20 48,4 66,10" },
    { 0, 2, "60,3 32,14 14,42 14,74 34,97 62,92 84,62 88,30 72,6 52,6 46,20 54,32" },
    { 0, 2, "70,0 48,10 20,34 8,66 24,94 54,96 82,72 88,44 72,20 48,16 30,24 26,34" },
    { 0, 1, "56,20 74,6 84,26 86,58 66,92 38,98 14,74 12,40 30,14 52,8 60,22" },

    /* 1: a bare stroke, bent, with a flag, with flag and foot */
    { 1, 14, "50,0 50,50 50,100" },
    { 1, 5, "53,0 49,34 48,68 50,100" },
    { 1, 3, "47,0 51,32 52,66 50,100" },
    { 1, 2, "50,0 50,84 54,97 62,98" },
    { 1, 3, "32,22 44,14 54,0 / 52,50 52,100" },
    { 1, 1, "24,32 40,20 56,0 / 55,50 54,100" },
    { 1, 1, "14,40 34,24 54,0 / 52,50 50,100" },
    { 1, 1, "28,24 42,14 52,0 / 52,50 52,97 | 22,98 50,97 82,96" },
    { 1, 1, "26,8 56,2 / 52,50 48,97 | 10,98 46,97 84,96" },
    { 1, 1, "28,20 54,2 / 50,50 46,96 / 22,97 10,97 46,97 84,96" },

    /* 2: straight foot, wavy foot, loop at the bottom left, big loop, narrow, Z-like, hooked start */
    { 2, 4, "14,24 26,8 48,2 72,10 78,30 64,54 38,78 12,96 / 46,95 90,94" },
    { 2, 3, "18,30 26,10 48,1 70,10 74,32 58,60 30,84 8,97 / 34,90 62,96 94,90" },
    { 2, 4, "16,20 36,4 62,4 76,22 68,48 46,74 22,95 8,90 14,78 34,78 58,92 92,92" },
    { 2, 3, "22,16 44,2 66,8 70,30 56,58 32,86 14,97 6,86 18,74 40,80 66,94 90,84" },
    { 2, 3, "14,12 44,4 76,4 / 54,38 30,68 10,96 / 50,96 92,95" },
    { 2, 3, "30,28 24,12 42,1 66,6 72,26 62,52 42,78 22,96 / 48,92 80,96" },
    { 2, 2, "10,30 24,14 44,12 62,24 64,48 48,72 20,90 6,82 14,70 38,76 60,90 96,98" },
    { 2, 2, "8,18 38,6 70,6 84,20 72,44 44,66 14,88 / 22,97 60,93 98,94" },
    { 2, 4, "18,18 40,2 66,8 70,34 60,60 42,86 20,96 6,82 16,66 40,70 66,86 96,92" },
    { 2, 3, "10,16 36,2 62,10 66,36 58,64 40,90 18,98 2,84 14,66 38,68 64,82 98,84" },
    { 2, 2, "26,10 54,2 78,12 76,36 58,64 36,90 16,94 12,78 30,70 52,82 84,99" },
    { 2, 2, "2,44 10,24 34,16 54,24 58,44 46,66 22,82 6,74 24,66 56,78 98,82" },
    { 2, 2, "12,24 40,6 68,6 / 66,36 44,66 14,96 / 50,92 96,98" },
    { 2, 2, "20,8 50,2 76,16 74,50 56,82 28,99 8,88 16,66 40,62 66,74 92,98" },
    { 2, 2, "20,30 40,8 62,10 64,32 44,60 16,86 / 44,88 94,86" },
    { 2, 2, "6,20 30,4 60,6 72,22 52,42 22,66 2,90 24,97 60,86 100,84" },
    { 2, 1, "30,40 14,28 28,6 54,4 66,24 58,52 36,80 14,96 / 50,96 84,98" },
    { 2, 1, "20,14 38,4 50,16 44,46 20,80 6,94 / 50,84 96,80" },
    { 2, 2, "22,34 34,28 36,14 50,2 70,6 78,26 66,54 40,80 12,96 / 50,92 92,96" },

    /* 3: two arcs with a corner, with a loop, rounded, flat top, large bottom, large top, flowing */
    { 3, 5, "16,14 38,2 66,4 76,20 66,38 38,47 / 68,52 82,70 70,92 42,99 12,90" },
    { 3, 3, "14,16 40,3 68,8 72,26 56,42 38,48 46,52 38,46 62,50 82,68 72,92 42,98 10,88" },
    { 3, 3, "18,10 46,2 72,12 70,32 48,44 / 74,50 84,72 66,94 36,99 10,94" },
    { 3, 2, "14,6 46,4 78,5 / 60,26 42,42 / 68,48 82,66 74,90 44,99 12,90" },
    { 3, 2, "24,12 48,2 66,12 60,30 36,40 / 66,42 88,62 82,88 50,99 10,92" },
    { 3, 2, "12,20 34,3 66,2 86,18 78,38 50,52 / 70,56 78,74 62,94 34,99 14,92" },
    { 3, 2, "16,14 40,2 66,8 70,28 56,44 68,56 76,74 62,94 36,99 12,90" },
    { 3, 2, "22,20 34,6 60,3 70,20 54,40 30,50 48,44 74,56 74,80 48,98 20,94 10,80" },
    { 3, 3, "22,12 46,0 66,8 62,28 42,44 / 60,52 66,68 50,88 24,99 6,92" },
    { 3, 2, "18,18 40,2 64,6 66,22 46,42 / 64,54 62,74 46,94 30,99 24,92" },
    { 3, 2, "4,10 34,6 66,8 / 54,28 40,44 / 66,52 74,68 64,88 46,99" },
    { 3, 2, "14,10 40,0 64,8 58,28 40,42 / 58,48 64,64 58,84 52,99" },
    { 3, 1, "12,4 44,2 70,4 / 46,38 / 72,48 82,70 66,92 36,99 10,92" },
    { 3, 2, "20,24 14,10 40,1 66,10 62,30 44,42 / 72,46 88,66 76,90 44,99 16,90 22,78" },
    { 3, 1, "8,24 30,6 60,4 62,24 34,46 / 58,50 66,72 46,94 20,98 8,90" },

    /* 4: open with straight parts, open and round, closed in one or two strokes, cup-shaped, narrow */
    { 4, 5, "22,6 16,30 12,56 / 48,56 88,50 | 74,8 68,50 62,99" },
    { 4, 4, "24,4 14,34 24,54 50,54 74,42 | 80,4 72,46 64,99" },
    { 4, 3, "22,8 16,30 18,50 36,58 58,50 72,32 80,4 / 72,44 66,99" },
    { 4, 4, "62,2 34,32 8,64 / 50,64 94,62 | 66,4 64,50 62,99" },
    { 4, 2, "56,98 60,50 66,2 / 36,34 10,64 / 50,66 92,62" },
    { 4, 3, "30,2 20,28 8,58 / 50,56 96,48 | 62,24 54,60 46,99" },
    { 4, 3, "34,4 16,40 20,54 46,52 82,40 | 84,2 62,50 42,98" },
    { 4, 2, "18,4 18,28 20,50 / 50,50 78,48 | 80,2 79,50 78,99" },
    { 4, 2, "54,10 30,26 16,48 30,56 58,48 74,26 80,2 / 68,48 58,98" },
    { 4, 2, "20,10 24,34 40,46 62,38 78,14 / 72,50 66,98" },

    /* 5: cap in one stroke, cap drawn last, rounded like an S, small belly, large belly, hanging cap */
    { 5, 4, "82,4 56,5 30,6 / 26,26 22,46 / 46,38 70,46 78,68 64,92 38,99 12,90" },
    { 5, 4, "32,8 28,28 24,46 / 48,40 70,50 74,72 58,94 32,99 10,92 | 32,8 60,6 90,3" },
    { 5, 3, "84,6 56,2 34,12 26,32 40,46 64,54 74,72 60,94 34,99 10,90" },
    { 5, 3, "94,2 66,8 44,12 / 38,30 32,44 / 54,50 64,66 52,88 28,98 6,90" },
    { 5, 2, "88,10 60,4 30,8 / 22,30 18,52 / 40,40 68,42 84,64 74,90 44,99 14,92" },
    { 5, 3, "40,16 34,34 28,50 / 52,54 62,70 50,90 26,98 6,88 | 38,16 66,14 96,6" },
    { 5, 2, "76,2 52,3 26,2 / 24,24 22,42 / 52,40 74,58 72,82 48,99 22,96 14,82" },
    { 5, 2, "98,4 70,2 46,14 40,32 54,46 66,62 56,84 30,98 4,92" },
    { 5, 2, "44,22 40,40 34,56 / 56,52 72,64 64,86 38,98 10,92 | 50,18 76,12 100,2" },
    { 5, 2, "22,30 18,48 20,58 44,54 72,60 72,80 46,97 16,92 | 24,26 56,16 84,10" },
    { 5, 2, "78,0 50,14 32,30 40,46 58,60 60,80 44,98 22,92 20,78" },
    { 5, 3, "60,10 40,16 34,32 28,48 / 50,44 66,56 62,78 40,96 10,98 | 44,14 70,8 100,4" },
    { 5, 2, "86,4 54,2 28,8 16,26 30,42 58,52 76,70 68,92 40,99 10,90" },
    { 5, 1, "80,6 50,4 26,8 / 22,30 20,48 / 46,38 74,50 78,76 54,98 26,94 20,78 34,70" },

    /* 6: curved back with round belly, straight back, small belly, large belly, leaning, open, hooked */
    { 6, 5, "66,2 42,18 24,44 18,72 32,95 56,98 76,82 74,62 54,54 32,64 20,80" },
    { 6, 3, "46,0 34,26 26,54 26,82 44,98 66,94 76,76 66,60 46,62 30,78" },
    { 6, 3, "72,2 48,22 26,50 16,76 28,96 50,96 66,82 60,66 42,66 24,82" },
    { 6, 3, "74,8 54,2 32,20 16,52 22,84 48,99 76,88 82,66 66,48 40,52 20,68" },
    { 6, 2, "84,2 52,24 28,50 14,78 30,97 62,92 84,74 76,60 52,64 32,80 24,94" },
    { 6, 2, "58,0 34,28 18,62 24,92 50,98 72,82 68,62 46,58 26,74" },
    { 6, 2, "50,2 34,30 24,62 30,92 52,98 70,86 68,68 52,62 36,72" },
    { 6, 2, "36,0 20,30 12,62 22,92 52,99 84,86 86,66 62,56 44,68 42,86 52,98" },
    { 6, 2, "28,4 16,36 14,72 34,97 66,94 88,74 76,56 54,62 44,82 54,96" },
    { 6, 2, "56,0 40,30 30,60 30,90 50,99 72,86 66,68 42,70 14,90" },
    { 6, 2, "40,2 22,26 6,58 8,86 34,97 64,86 86,66 84,50 60,52 38,72 34,94" },
    { 6, 2, "64,0 46,28 34,58 28,86 36,99 54,92 66,76 52,66 36,78" },
    { 6, 1, "62,12 50,2 30,22 18,54 22,86 46,98 74,84 76,58 52,48 24,62 20,82" },

    /* 7: corner, hooked start, serif, round shoulder, with a bar, with bar and hook, curved leg */
    { 7, 5, "12,10 48,8 84,6 / 66,48 48,99" },
    { 7, 4, "14,24 20,8 52,10 86,6 / 68,46 56,98" },
    { 7, 3, "14,14 46,6 76,8 78,28 66,62 56,99" },
    { 7, 3, "10,28 14,8 / 48,8 82,6 / 74,50 70,99" },
    { 7, 2, "10,8 48,8 86,5 / 58,40 40,72 36,99" },
    { 7, 2, "12,10 48,8 86,4 / 68,48 50,99 | 36,52 60,50 86,46" },
    { 7, 1, "14,24 18,8 50,10 82,6 / 62,50 48,99 | 28,54 54,52 80,48" },
    { 7, 2, "6,20 32,8 64,12 94,2 / 60,48 28,98" },
    { 7, 2, "22,18 32,4 48,14 62,16 78,4 / 70,40 62,70 60,99" },
    { 7, 2, "8,44 12,16 30,12 / 58,18 92,6 / 64,52 40,99" },
    { 7, 2, "20,40 24,12 / 34,28 60,24 84,6 / 62,54 44,99" },
    { 7, 2, "10,14 48,10 84,4 / 60,48 42,99 | 20,56 56,56 90,54" },
    { 7, 2, "8,30 10,12 34,14 66,8 / 56,40 48,70 44,99" },
    { 7, 2, "10,12 44,12 72,4 / 58,44 46,99 | 16,60 46,52 76,50" },
    { 7, 1, "6,36 30,18 60,12 90,2 / 66,40 34,80" },
    { 7, 2, "18,34 30,10 56,2 74,12 70,44 60,72 54,99" },

    /* 8: one stroke from the top right, from the middle, two rings, open top, small head, narrow, leaning */
    { 8, 5, "70,12 50,2 30,12 32,30 54,46 74,66 70,90 48,99 26,88 28,68 50,48 70,30 72,14" },
    { 8, 4, "80,10 56,1 34,8 28,24 42,40 60,56 68,78 52,98 30,92 28,72 46,52 68,34 82,10" },
    { 8, 3, "50,46 30,32 32,10 52,1 72,12 68,34 50,46 28,62 22,84 46,99 74,88 74,64 50,46" },
    { 8, 2, "50,2 30,10 28,32 48,46 70,34 72,12 52,2 | 48,46 24,60 22,84 48,99 76,86 76,62 50,46" },
    { 8, 3, "86,8 60,2 38,12 38,30 54,48 58,74 44,96 22,96 16,80 30,60 58,38 84,18" },
    { 8, 2, "62,8 46,2 34,14 40,28 60,42 84,62 80,88 48,99 20,88 22,64 46,42 62,26 62,10" },
    { 8, 4, "90,12 62,2 36,10 30,26 46,42 66,60 66,84 42,98 22,90 24,72 44,54 66,36 94,4" },
    { 8, 3, "78,22 66,6 42,2 26,14 34,34 56,50 68,72 56,94 32,96 24,80 40,60 62,44 90,24" },
    { 8, 3, "88,6 64,20 46,40 28,66 26,90 46,98 62,84 58,60 42,38 30,18 44,2 66,8 70,26" },
    { 8, 2, "22,4 34,30 52,52 68,74 60,96 38,98 30,80 46,56 62,36 80,6 52,2 26,2" },
    { 8, 3, "98,14 70,2 38,8 24,24 44,40 60,58 54,84 30,99 12,88 24,66 50,48 76,34 90,20" },
    { 8, 2, "84,4 60,0 36,10 36,28 56,42 76,60 72,88 44,99 22,86 34,62 60,44 78,26 72,14" },
    { 8, 2, "64,26 44,34 24,24 28,6 52,0 70,10 66,30 50,48 40,70 40,92 56,99 66,84 54,58 34,32" },
    { 8, 1, "30,6 24,30 44,44 66,32 64,10 44,2 28,12 36,40 46,56 62,76 52,98 34,90 42,62 60,40" },
    { 8, 2, "70,20 52,10 24,2 6,14 24,36 54,52 78,74 66,96 40,96 34,78 52,54 76,30 96,10" },
    { 8, 2, "70,36 40,40 16,24 30,4 66,2 84,18 66,42 44,60 34,82 46,99 62,90 60,68 44,44" },
    { 8, 2, "76,20 62,4 38,4 24,20 34,38 58,50 66,72 54,94 36,96 32,78 46,56 66,38 74,18" },
    { 8, 2, "60,10 48,2 40,14 44,32 52,48 60,68 58,90 48,99 38,88 40,66 50,48 60,30 60,12" },

    /* 9: round head and straight leg, curved leg, hooked leg, big head, small head, open head, leaning */
    { 9, 5, "72,16 52,4 30,14 22,36 36,52 58,44 72,20 / 70,58 66,99" },
    { 9, 4, "74,12 50,4 28,20 24,42 42,52 64,38 76,10 / 68,52 52,98" },
    { 9, 3, "70,14 48,2 26,14 22,38 42,50 66,38 72,14 76,40 72,72 54,96 28,96" },
    { 9, 3, "78,10 54,2 26,12 14,34 28,52 56,46 78,14 / 70,56 64,99" },
    { 9, 3, "62,10 44,4 30,18 34,34 52,32 64,12 / 64,54 62,99" },
    { 9, 2, "76,20 66,4 42,6 22,28 28,48 54,44 76,22 76,50 62,80 40,99" },
    { 9, 3, "80,8 52,10 26,28 18,46 40,50 66,34 84,4 / 62,50 38,98" },
    { 9, 2, "56,4 30,16 24,40 42,50 64,36 74,8 / 72,50 70,99" },
    { 9, 2, "70,4 44,12 20,30 16,46 40,48 64,32 76,14 / 72,56 70,99" },
    { 9, 2, "66,16 44,2 20,10 10,34 28,48 54,38 66,18 / 74,54 88,99" },
    { 9, 2, "84,2 56,8 30,20 22,38 46,44 70,34 / 62,60 48,99" },
    { 9, 3, "72,22 58,4 34,8 20,28 30,44 54,40 72,18 / 70,44 68,72 46,97 22,94" },
    { 9, 2, "60,2 34,14 22,38 38,48 62,36 78,12 / 76,40 70,99" },
    { 9, 1, "74,14 52,2 26,6 24,24 44,36 70,28 76,12 76,50 66,88 38,99 18,86" },
    { 9, 1, "66,44 44,54 28,36 40,8 64,4 76,28 74,62 62,99" },
};

/* ---- pen path ---------------------------------------------------------------------------------------------------- */

enum { MAX_POINTS = 48, STEPS = 8, MAX_PATH = MAX_POINTS * STEPS };

typedef struct { fix x, y; } point;
typedef struct { point at[MAX_PATH]; char up[MAX_PATH]; int count; } path;  /* up: the pen is lifted after this point */

/* Point number i/STEPS of the way from b to c on the curve that goes through a, b, c, d (Catmull-Rom). */
static fix curve(fix a, fix b, fix c, fix d, int i) {
    fix t = ONE * i / STEPS, t2 = mul(t, t), t3 = mul(t2, t);
    return (2 * b * ONE + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t2 + (3 * b - a - 3 * c + d) * t3) / (2 * ONE);
}

/* The curve through points[0 .. n-1], whose ends are ends or corners, appended to p. */
static void path_append(path *p, const point *points, int n, int up) {
    for (int i = 0; i + 1 < n; i++) {
        point b = points[i], c = points[i + 1];
        point a = i > 0 ? points[i - 1] : b, d = i + 2 < n ? points[i + 2] : c;
        for (int k = i > 0; k <= STEPS && p->count < MAX_PATH; k++) {
            p->up[p->count] = (char)(up && i + 2 == n && k == STEPS);
            p->at[p->count].x = curve(a.x, b.x, c.x, d.x, k);
            p->at[p->count++].y = curve(a.y, b.y, c.y, d.y, k);
        }
    }
}

/* A style as a curve, each point moved by about `shake`. A careless hand makes corners round. */
static void path_from_style(path *p, const char *text, fix shake, pcg32 *g) {
    point run[MAX_POINTS];
    int n = 0, careless = chance(g, 25);
    p->count = 0;
    while (*text) {
        char *end;
        if (*text == '|' || (*text == '/' && !careless)) {
            path_append(p, run, n, *text == '|');
            run[0] = run[n - 1];
            n = *text == '|' ? 0 : 1;
        }
        if (*text == ' ' || *text == '/' || *text == '|') { text++; continue; }
        run[n].x = strtol(text, &end, 10) * ONE + normal(g, shake);
        run[n++].y = strtol(end + 1, &end, 10) * ONE + normal(g, shake);
        text = end;
    }
    path_append(p, run, n, 1);
}

/* ---- hand -------------------------------------------------------------------------------------------------------- */

enum { FIELD = 7 };  /* random arrows on 7x7 knots, 25 apart, from -25 to 125 */

/* Weights of the four knots around a place t in [0, 1) between the second and the third: a cubic B-spline. */
static void spline_weights(fix t, fix w[4]) {
    fix s = ONE - t, t2 = mul(t, t), t3 = mul(t2, t);
    w[0] = mul(mul(s, s), s) / 6;
    w[1] = (3 * t3 - 6 * t2 + 4 * ONE) / 6;
    w[2] = (3 * t2 + 3 * t - 3 * t3 + ONE) / 6;
    w[3] = t3 / 6;
}

/* Moves every point by a smooth random field (elastic deformation). */
static void path_pull(path *p, fix sigma, pcg32 *g) {
    point arrow[FIELD][FIELD];
    for (int i = 0; i < FIELD; i++) {
        for (int j = 0; j < FIELD; j++) {
            arrow[i][j].x = normal(g, sigma);
            arrow[i][j].y = normal(g, sigma);
        }
    }
    for (int n = 0; n < p->count; n++) {
        fix x = clamp(p->at[n].x / 25, 0, 4 * ONE - 1), y = clamp(p->at[n].y / 25, 0, 4 * ONE - 1);
        int column = (int)(x / ONE), row = (int)(y / ONE);
        fix wx[4], wy[4];
        spline_weights(x % ONE, wx);
        spline_weights(y % ONE, wy);
        for (int i = 0; i < 4; i++) {
            for (int j = 0; j < 4; j++) {
                fix w = mul(wy[i], wx[j]);
                p->at[n].x += mul(w, arrow[row + i][column + j].x);
                p->at[n].y += mul(w, arrow[row + i][column + j].y);
            }
        }
    }
}

/* Everything that makes two hands differ, from large to small. */
static void path_handwrite(path *p, int digit, pcg32 *g) {
    fix middle = normal(g, PERCENT(12));                      /* the waist sits lower or higher */
    fix side = normal(g, PERCENT(8));                         /* the belly sits left or right */
    fix widen = normal(g, PERCENT(10));                       /* the foot is wider than the head */
    fix bow = normal(g, digit == 1 ? PERCENT(3) : PERCENT(5));/* a vertical line bends */
    fix aspect = clamp(PERCENT(92) + normal(g, PERCENT(20)), PERCENT(58), PERCENT(150));
    fix slant = clamp(PERCENT(20) + normal(g, PERCENT(24)), PERCENT(-45), PERCENT(85));
    fix half = normal(g, PERCENT(5));                         /* tangent of half the angle that the paper is turned */
    fix cosine = quotient(ONE - mul(half, half), ONE + mul(half, half));
    fix sine = quotient(2 * half, ONE + mul(half, half));

    path_pull(p, 5 * ONE, g);
    for (int n = 0; n < p->count; n++) {
        fix x = (p->at[n].x - 50 * ONE) / 50, y = (p->at[n].y - 50 * ONE) / 50;  /* now in -1 .. 1 */
        fix in_x = ONE - mul(x, x), in_y = ONE - mul(y, y);
        x += mul(side, in_x) + mul(bow, in_y) + mul(mul(widen, y), x);
        y += mul(middle, in_y);
        x = mul(aspect, x) - mul(slant, y);
        p->at[n].x = mul(cosine, x) - mul(sine, y);
        p->at[n].y = mul(sine, x) + mul(cosine, y);
    }
}

/* ---- ink --------------------------------------------------------------------------------------------------------- */

enum { DOTS = 8, BOX = 20, SIDE = 28, PAPER = BOX * DOTS };

typedef unsigned char sheet[PAPER][PAPER];

/* A round dot; the radius is in eighths of a dot of paper. */
static void ink_dot(sheet ink, int x, int y, int radius) {
    int w = (radius + 7) / 8;
    for (int dy = 0; dy <= radius / 8; dy++) {
        while (w > 0 && 64 * (w * w + dy * dy) > radius * radius) w--;
        int left = x - w < 0 ? 0 : x - w, right = x + w >= PAPER ? PAPER - 1 : x + w;
        if (left > right) continue;
        size_t width = (size_t)(right - left + 1);
        if (y - dy >= 0 && y - dy < PAPER) memset(&ink[y - dy][left], 1, width);
        if (y + dy >= 0 && y + dy < PAPER) memset(&ink[y + dy][left], 1, width);
    }
}

/* Fits the path into the box, pen width included, and runs the pen along it. */
static void ink_path(sheet ink, const path *p, int radius, pcg32 *g) {
    point low = p->at[0], high = p->at[0];
    for (int n = 1; n < p->count; n++) {
        point q = p->at[n];
        low.x = q.x < low.x ? q.x : low.x, high.x = q.x > high.x ? q.x : high.x;
        low.y = q.y < low.y ? q.y : low.y, high.y = q.y > high.y ? q.y : high.y;
    }
    fix mid_x = (low.x + high.x) / 2, mid_y = (low.y + high.y) / 2;
    fix size = high.x - low.x > high.y - low.y ? high.x - low.x : high.y - low.y;
    fix scale = quotient((PAPER - 1) * ONE - radius * ONE / 4, size + 1);
    int taper = chance(g, 30), gap = chance(g, 4) ? below(g, p->count) : -1;
    int bump = 0;  /* the pen's pressure wanders */

    memset(ink, 0, sizeof(sheet));
    for (int n = 0; n + 1 < p->count; n++) {
        int last = p->up[n + 1] || n + 2 == p->count;
        if (p->up[n] || n == gap || n == gap + 1) continue;
        point a = p->at[n], b = p->at[n + 1];
        fix ax = mul(a.x - mid_x, scale), ay = mul(a.y - mid_y, scale);
        fix bx = mul(b.x - mid_x, scale), by = mul(b.y - mid_y, scale);
        fix wide = bx > ax ? bx - ax : ax - bx, tall = by > ay ? by - ay : ay - by;
        int steps = (int)((wide > tall ? wide : tall) / (3 * ONE)) + 1;
        bump += below(g, 5) - 2 - bump / 4;
        for (int i = 0; i < steps + last; i++) {
            int x = (int)((ax + (bx - ax) * i / steps + PAPER / 2 * ONE) / ONE);
            int y = (int)((ay + (by - ay) * i / steps + PAPER / 2 * ONE) / ONE);
            int thin = taper && last ? radius * i / (3 * steps) : 0;
            ink_dot(ink, x, y, radius - thin + bump * radius / 64);
        }
    }
}

/* ---- pixels ------------------------------------------------------------------------------------------------------ */

/* Fine paper to grey pixels: count the inked dots of each pixel, soften, then centre by mass. */
static void pixels_from_ink(unsigned char image[SIDE * SIDE], sheet ink, pcg32 *g) {
    int grey[BOX + 2][BOX + 2] = { { 0 } }, soft[BOX][BOX];
    for (int y = 0; y < PAPER; y++) {
        for (int x = 0; x < BOX; x++) {
            const unsigned char *dot = &ink[y][x * DOTS];
            grey[y / DOTS + 1][x + 1] += dot[0] + dot[1] + dot[2] + dot[3] + dot[4] + dot[5] + dot[6] + dot[7];
        }
    }
    int blur = below(g, 3), centre = 16 - 2 * blur, white = 270 + below(g, 90), peak = 1;
    int mass = 0, mass_x = 0, mass_y = 0;
    for (int y = 0; y < BOX; y++) {
        for (int x = 0; x < BOX; x++) {
            int sum = 0;
            for (int i = 0; i < 3; i++) {
                int w = i == 1 ? centre : blur;
                sum += w * (blur * grey[y + i][x] + centre * grey[y + i][x + 1] + blur * grey[y + i][x + 2]);
            }
            soft[y][x] = sum;
            if (sum > peak) peak = sum;
        }
    }
    for (int y = 0; y < BOX; y++) {
        for (int x = 0; x < BOX; x++) {
            int v = soft[y][x] * white / peak - 10;  /* the thinnest line, too, has white in its middle */
            if (v > 0) v += below(g, 9) - 4;
            soft[y][x] = v = v < 0 ? 0 : v > 255 ? 255 - below(g, 4) : v;
            mass += v;
            mass_x += v * (2 * x + 1);
            mass_y += v * (2 * y + 1);
        }
    }
    memset(image, 0, SIDE * SIDE);
    if (mass == 0) return;
    int left = (int)clamp(((SIDE + 2) * mass - mass_x) / (2 * mass), 0, SIDE - BOX);  /* the middle of pixel 14 */
    int top = (int)clamp(((SIDE + 2) * mass - mass_y) / (2 * mass), 0, SIDE - BOX);
    for (int y = 0; y < BOX; y++) {
        for (int x = 0; x < BOX; x++) image[(top + y) * SIDE + left + x] = (unsigned char)soft[y][x];
    }
}

/* One digit, all steps. */
static void digit_draw(unsigned char image[SIDE * SIDE], int digit, pcg32 *g) {
    static path p;
    static sheet ink;
    int total = 0, style = 0;
    for (size_t i = 0; i < COUNT(styles); i++) total += styles[i].digit == digit ? styles[i].weight : 0;
    int pick = below(g, total);
    while (styles[style].digit != digit || (pick -= styles[style].weight) >= 0) style++;

    fix care = uniform(g, ONE, 5 * ONE);  /* a tidy hand, or a hasty one */
    path_from_style(&p, styles[style].path, care, g);
    path_handwrite(&p, digit, g);

    fix pen = normal(g, ONE);
    fix width = 72 * ONE + 20 * pen + (pen > 0 ? (digit == 1 ? 14 : 9) * mul(pen, pen) : 0);
    ink_path(ink, &p, (int)(clamp(width, 40 * ONE, (digit == 8 ? 115 : 150) * ONE) / ONE), g);
    pixels_from_ink(image, ink, g);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static int fail(const char *what, const char *name) {
    fprintf(stderr, "digits: cannot %s %s: %s\n", what, name, errno ? strerror(errno) : "write error");
    return 0;
}

static void put_u32(unsigned char *b, uint32_t v) {
    for (int i = 0; i < 4; i++) b[i] = (unsigned char)(v >> (24 - 8 * i) & 255u);
}

/* Image i of a set depends on the seed, the set and i alone; every ten labels hold each digit once. So the first
   images are the same, and balanced, whatever the count; and vit.h knows by it that the digits are drawn. */
static int write_set(FILE *images, FILE *labels, uint64_t seed, int set, long count) {
    unsigned char head[16], image[SIDE * SIDE], order[10];
    pcg32 shuffle = pcg32_start(seed, (uint64_t)set);
    put_u32(head, 0x0803);  /* IDX: unsigned bytes, three dimensions */
    put_u32(head + 4, (uint32_t)count);
    put_u32(head + 8, SIDE);
    put_u32(head + 12, SIDE);
    if (fwrite(head, 16, 1, images) != 1) return 0;
    put_u32(head, 0x0801);  /* one dimension */
    if (fwrite(head, 8, 1, labels) != 1) return 0;
    for (long i = 0; i < count; i++) {
        int at = (int)(i % 10);
        if (at == 0) {
            for (int k = 0; k < 10; k++) {
                int other = below(&shuffle, k + 1);
                order[k] = order[other];
                order[other] = (unsigned char)k;
            }
        }
        pcg32 g = pcg32_start(seed, ((uint64_t)i + 1) * 4 + (uint64_t)set);
        digit_draw(image, order[at], &g);
        if (fwrite(image, sizeof image, 1, images) != 1) return 0;
        if (fwrite(&order[at], 1, 1, labels) != 1) return 0;
    }
    return 1;
}

static const char *const official[4] = {
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
};

/* Writes all four under temporary names, and renames them only when all are complete. */
static int write_files(const char *folder, uint64_t seed, const long count[2]) {
    FILE *file[4] = { NULL, NULL, NULL, NULL };
    char *name[4], *temporary[4];
    int ok = 1, made = 0;
    size_t room = strlen(folder) + 40;
    char *names = malloc(8 * room);
    if (!names) return fail("name files in", folder);
    for (int i = 0; i < 4; i++) {
        name[i] = names + (size_t)i * room;
        temporary[i] = names + (size_t)(4 + i) * room;
        sprintf(name[i], "%s/%s", folder, official[i]);
        sprintf(temporary[i], "%s.new", name[i]);
    }
    for (; ok && made < 4; made++) {
        errno = 0;
        file[made] = fopen(temporary[made], "wb");
        if (!file[made]) {
            ok = fail("create", temporary[made]);
            break;
        }
    }
    for (int set = 0; ok && set < 2; set++) {
        errno = 0;
        if (!write_set(file[2 * set], file[2 * set + 1], seed, set, count[set])) ok = fail("write", temporary[2 * set]);
    }
    for (int i = 0; i < made; i++) {
        errno = 0;
        if (fclose(file[i]) != 0 && ok) ok = fail("write", temporary[i]);
    }
    for (int i = 0; ok && i < 4; i++) {
        errno = 0;
        if (rename(temporary[i], name[i]) != 0) ok = fail("rename", temporary[i]);
    }
    for (int i = 0; !ok && i < made; i++) remove(temporary[i]);
    free(names);
    return ok;
}

/* ---- command line ------------------------------------------------------------------------------------------------ */

static const char usage[] =
    "usage: digits OUT_DIR [--seed N] [--train N] [--test N] [--help]\n"
    "Draws handwritten-like digits, 28x28, as IDX files with MNIST's names.\n"
    "  --seed N    another set of digits (1)\n"
    "  --train N   training images (60000)\n"
    "  --test N    test images (10000)\n";

/* Digits only: no sign, no space, nothing after. */
static int parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *value) {
    uint64_t v = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9'; c++) {
        uint64_t d = (uint64_t)(*c - '0');
        if (v > (high - d) / 10) return 0;
        v = 10 * v + d;
    }
    if (*c || c == text || v < low) return 0;
    *value = v;
    return 1;
}

int main(int argc, char **argv) {
    const struct { const char *name; uint64_t low, high; } flags[3] = {
        { "--seed", 0, UINT64_MAX }, { "--train", 1, 10000000 }, { "--test", 1, 10000000 }
    };
    uint64_t value[3] = { 1, 60000, 10000 };
    const char *folder = NULL;
    for (int i = 1; i < argc; i++) {
        int f = 0;
        if (!strcmp(argv[i], "--help")) {
            errno = 0;
            return fputs(usage, stdout) < 0 || fflush(stdout) != 0 ? !fail("write", "the help") : 0;
        }
        while (f < 3 && strcmp(argv[i], flags[f].name) != 0) f++;
        if (f < 3) {
            const char *text = i + 1 < argc ? argv[++i] : "";
            if (!parse_number(text, flags[f].low, flags[f].high, &value[f])) {
                fprintf(stderr, "digits: %s takes a whole number from %llu to %llu, not \"%s\"\n", flags[f].name,
                        (unsigned long long)flags[f].low, (unsigned long long)flags[f].high, text);
                return 1;
            }
        } else if (argv[i][0] == '-' || !argv[i][0]) {
            fprintf(stderr, "digits: unknown flag \"%s\" (--help lists them)\n", argv[i]);
            return 1;
        } else if (folder) {
            fprintf(stderr, "digits: one folder, please, not both \"%s\" and \"%s\"\n", folder, argv[i]);
            return 1;
        } else {
            folder = argv[i];
        }
    }
    if (!folder) {
        fputs("digits: where to? Give a folder (--help says more)\n", stderr);
        return 1;
    }
    const long count[2] = { (long)value[1], (long)value[2] };
    return write_files(folder, value[0], count) ? 0 : 1;
}
