/* Draws the results: a gnuplot script beside its data for each figure. */
#include "bench.h"

#define BLUE "#0072B2"
#define ORANGE "#D55E00"
#define GREEN "#009E73"
#define GREY "#999999"

static void begin(vit_plot *p, const char *name, int width, int height) {
  bench_try(vit_plot_begin(p, bench.out, name, width, height));
  fprintf(p->script, "set grid lt 1 lc rgb '#dddddd' lw 1\n");
}

/* Without gnuplot there is a script and a sentence. */
static void end(vit_plot *p) {
  char name[64];
  vit_result r;
  snprintf(name, sizeof name, "%s", p->name);
  r = vit_plot_end(p);
  if (r == VIT_ERR_GNUPLOT) printf("  %s\n", vit_error());
  else bench_try(r);
  if (!r) printf("  figure %s/%s.png\n", bench.out, name);
}

/* The rows of one group and unit, as a list to walk over. */
static const bench_row *next_row(int *i, const char *group, const char *unit) {
  const bench_row *r;
  while ((r = bench_row_at((*i)++)) != NULL)
    if (!strcmp(r->group, group) && !strcmp(r->unit, unit)) return r;
  return NULL;
}

/* ---- roofline ------------------------------------------------------------------- */

/* A point and its name; x and y in pixels from the lower left corner. */
typedef struct {
  const char *name, *colour;
  double intensity, simd, naive; /* FLOP/byte, GFLOP/s */
  double x, y, text_x, text_y;   /* the text's left end and middle */
} spot;
enum { SPOTS = 64, PLOT_WIDTH = 1120, PLOT_HEIGHT = 720, LINE = 14 };
static const double left_end = 0.09, right_end = 160, letter = 6.7;
static double lower_end, upper_end; /* GFLOP/s: where the points are */

static double pixel_x(double intensity) {
  return PLOT_WIDTH * log(intensity / left_end) / log(right_end / left_end);
}
static double pixel_y(double flops) {
  return PLOT_HEIGHT * log(flops / lower_end) / log(upper_end / lower_end);
}
static double value_x(double pixel) {
  return left_end * pow(right_end / left_end, pixel / PLOT_WIDTH);
}
static double value_y(double pixel) {
  return lower_end * pow(upper_end / lower_end, pixel / PLOT_HEIGHT);
}

static const char *spot_colour(const char *name) {
  if (strstr(name, "_step") || strstr(name, "sum_squares")) return GREEN;
  return strstr(name, "_backward") ? ORANGE : BLUE;
}

/* The points of all kernels that compute something; names of the others. */
static int collect_spots(spot *s, char *others, size_t size) {
  const bench_row *r;
  int n = 0;
  *others = '\0';
  for (int i = 0; (r = next_row(&i, "kernels", "FLOP/byte")) != NULL && n < SPOTS;) {
    const bench_row *naive = bench_find("kernels", r->what, "naive", 1, "GFLOP/s");
    const bench_row *simd = bench_find("kernels", r->what, "simd", 1, "GFLOP/s");
    if (r->median <= 0) {
      snprintf(others + strlen(others), size - strlen(others), "%s%s", *others ? ", " : "",
               r->what);
      continue;
    }
    s[n].name = r->what;
    s[n].colour = spot_colour(r->what);
    s[n].intensity = r->median;
    s[n].naive = naive ? naive->median : NAN;
    s[n].simd = simd ? simd->median : s[n].naive;
    n++;
  }
  return n;
}

/* The range of the figure, and with it where each point is. */
static void place_spots(spot *s, int n) {
  lower_end = 0.5;
  upper_end = bench_peak(1) / 1e9 * 2;
  for (int i = 0; i < n; i++) {
    lower_end = fmin(lower_end, 0.6 * s[i].simd);
    upper_end = fmax(upper_end, 1.5 * s[i].simd);
  }
  for (int i = 0; i < n; i++) {
    s[i].x = pixel_x(s[i].intensity);
    s[i].y = pixel_y(s[i].simd);
    s[i].text_x = s[i].x + 10;
    s[i].text_y = s[i].y;
  }
}

static double text_width(const spot *s) { return letter * (double)strlen(s->name); }

/* Does a text cross the line of the roof, or is it above it? */
static int is_at_roof(double x, double y, double width) {
  const double peak = bench_peak(1) / 1e9, slope = bench_bandwidth(1) / 1e9;
  const double left = value_x(x) * slope, right = value_x(x + width) * slope;
  return y + 9 > pixel_y(left < peak ? left : peak) || (y + 9 > pixel_y(peak) && right > peak);
}

/* May the text of spot `me` stand there? Not on a point, not on a text before it. */
static int is_free(const spot *s, int n, int me, double x, double y) {
  const double width = text_width(s + me);
  if (is_at_roof(x, y, width)) return 0;
  if (x < 4 || x + width > PLOT_WIDTH - 4 || y < LINE || y > PLOT_HEIGHT - LINE) return 0;
  for (int i = 0; i < n; i++) {
    if (s[i].x > x - 8 && s[i].x < x + width + 8 &&
        (fabs(s[i].y - y) < 11 || fabs(pixel_y(s[i].naive) - y) < 8))
      return 0;
    if (i < me && s[i].text_x < x + width + 4 && x < s[i].text_x + text_width(s + i) + 4 &&
        fabs(s[i].text_y - y) < LINE)
      return 0;
  }
  return 1;
}

/* From a point to the nearest end of its text; beside it is better than below. */
static double distance(const spot *s, double x, double y) {
  const double end = x + text_width(s);
  const double beside = x > s->x ? x - s->x : end < s->x ? s->x - end : 0;
  return hypot(beside, 1.5 * (y - s->y)) + (x < s->x ? 2 : 0);
}

/* Each text as near to its point as the others leave room. */
static void place_names(spot *s, int n) {
  for (int me = 0; me < n; me++) {
    double nearest = 1e9;
    for (int dy = -240; dy <= 240; dy += 3)
      for (int dx = -340; dx <= 100; dx += 5) {
        const double x = s[me].x + dx, y = s[me].y + dy, far = distance(s + me, x, y);
        if (far >= nearest || !is_free(s, n, me, x, y)) continue;
        nearest = far;
        s[me].text_x = x;
        s[me].text_y = y;
      }
  }
}

/* The text, and where it is far from its point a thin line to it. */
static void write_name(vit_plot *p, const spot *s) {
  const double end = s->text_x + text_width(s);
  const double x = s->text_x > s->x ? s->text_x - 2 : end < s->x ? end + 2 : s->x;
  const double y = x == s->x ? s->text_y + (s->text_y > s->y ? -7 : 7) : s->text_y;
  fprintf(p->script, "set label '%s' at %g,%g left noenhanced font ',9' tc rgb '%s' front\n",
          s->name, value_x(s->text_x), value_y(s->text_y), s->colour);
  if (hypot(x - s->x, y - s->y) > 14)
    fprintf(p->script, "set arrow from %g,%g to %g,%g nohead lw 0.7 lc rgb '%s'\n",
            s->intensity, s->simd, value_x(x), value_y(y), s->colour);
}

static void write_roofs(vit_plot *p, const char *others) {
  const double peak = bench_peak(1) / 1e9, bandwidth = bench_bandwidth(1) / 1e9;
  const double slope = atan2(pixel_y(bandwidth) - pixel_y(bandwidth / 2),
                             pixel_x(1) - pixel_x(0.5));
  fprintf(p->script,
          "set title \"Each kernel of vit.h on one thread, under the roofs of this machine\"\n"
          "set xlabel \"arithmetic intensity: operations for each byte of memory (FLOP/byte)"
          "%s%s\" noenhanced\n"
          "set ylabel \"speed (GFLOP/s)\"\n"
          "set logscale xy\nset xrange [%g:%g]\nset yrange [%g:%g]\n"
          "set lmargin at screen 0.064\nset rmargin at screen 0.976\n"
          "set bmargin at screen %g\nset tmargin at screen 0.953\n"
          "set xtics (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)\n"
          "set key bottom right Left reverse box lc rgb '#cccccc' opaque width 1\n"
          "set samples 2000\n",
          *others ? "\\nwithout a point, because they only move numbers: " : "", others, left_end,
          right_end, lower_end, upper_end, 0.107);
  fprintf(p->script,
          "set label 'memory: %.0f GB/s' at %g,%g rotate by %g center font ',10' front\n",
          bandwidth, 0.14 * pow(2, 0.1), 0.14 * bandwidth * 1.5, slope * 180 / 3.14159265);
  fprintf(p->script,
          "set label 'multiply-adds in registers: %.0f GFLOP/s' at %g,%g right font ',10' front\n",
          peak, right_end * 0.9, peak * 1.2);
  fprintf(p->script, "roof(x) = x * %g < %g ? x * %g : %g\n", bandwidth, peak, bandwidth, peak);
}

void plot_roofline(void) {
  static const char *const colours[] = {BLUE, ORANGE, GREEN};
  static const char *const titles[] = {"SIMD, forward", "SIMD, backward", "SIMD, optimiser"};
  spot spots[SPOTS];
  char others[200];
  vit_plot p;
  const int n = collect_spots(spots, others, sizeof others);
  if (n == 0 || bench_bandwidth(1) <= 0) return;
  begin(&p, "roofline", 1228, 850);
  place_spots(spots, n);
  place_names(spots, n);
  write_roofs(&p, others);
  fprintf(p.data, "# flop_per_byte  naive_gflops  simd_gflops  kernel\n");
  for (int c = 0; c < 3; c++) {
    for (int i = 0; i < n; i++)
      if (!strcmp(spots[i].colour, colours[c]))
        fprintf(p.data, "%g %g %g %s\n", spots[i].intensity, spots[i].naive, spots[i].simd,
                spots[i].name);
    fprintf(p.data, "\n\n");
  }
  for (int i = 0; i < n; i++) write_name(&p, spots + i);
  fprintf(p.script, "plot roof(x) lc rgb 'black' lw 2.5 title 'roof', \\\n");
  for (int c = 0; c < 3; c++)
    fprintf(p.script,
            "  '%s.dat' index %d using 1:3 with points pt 7 ps 1.3 lc rgb '%s' title '%s', \\\n",
            p.name, c, colours[c], titles[c]);
  fprintf(p.script,
          "  'roofline.dat' using 1:2 with points pt 6 ps 0.9 lw 1.2 lc rgb '%s' title 'naive'\n",
          GREY);
  end(&p);
}

/* ---- matmul ------------------------------------------------------------------------ */

/* How each contender looks: the rungs get darker upwards. */
static const struct {
  const char *name, *style, *title;
  int all; /* of all threads: an open sign */
} marks[] = {{"naive", "pt 5 ps 0.7 lc rgb '#c8c8c8'", "naive", 0},
             {"loop order", "pt 9 ps 0.9 lc rgb '#b0b0b0'", "loop order", 0},
             {"blocked", "pt 11 ps 0.9 lc rgb '#909090'", "blocked", 0},
             {"packed", "pt 13 ps 1.0 lc rgb '#686868'", "packed", 0},
             {"SIMD", "pt 5 ps 0.9 lc rgb '#303030'", "SIMD", 0},
             {"vit.h", "pt 7 ps 1.5 lc rgb '" BLUE "'", "vit.h", 0},
             {"vit.h packed", "pt 3 ps 1.1 lw 1.5 lc rgb '" GREEN "'", "vit.h, W packed", 0},
             {"OpenBLAS", "pt 13 ps 1.7 lc rgb '" ORANGE "'", "OpenBLAS", 0},
             {"vit.h", "pt 6 ps 1.5 lw 2 lc rgb '" BLUE "'", "vit.h, all threads", 1},
             {"OpenBLAS", "pt 12 ps 1.7 lw 2 lc rgb '" ORANGE "'", "OpenBLAS, all threads", 1}};
enum { MARKS = sizeof marks / sizeof marks[0] };

/* The shapes of a form, from top to bottom: "what" without the form. */
static int collect_shapes(char shapes[16][32], const char *form) {
  const bench_row *r;
  int n = 0;
  for (int i = 0; (r = next_row(&i, "matmul", "% of peak")) != NULL && n < 16;) {
    const size_t length = strcspn(r->what, " ");
    if (strcmp(r->what + length + 1, form)) continue;
    if (n && !strncmp(shapes[n - 1], r->what, length) && shapes[n - 1][length] == '\0') continue;
    snprintf(shapes[n++], sizeof shapes[0], "%.*s", (int)(length < 31 ? length : 31), r->what);
  }
  return n;
}

/* One panel: a line for each shape, a sign for each contender. */
static void matmul_panel(vit_plot *p, int panel, const char *form, const char *title) {
  char shapes[16][32], what[64];
  const int n = collect_shapes(shapes, form);
  int plotted = 0;
  fprintf(p->script, "set title \"%s\"\nset yrange [%g:-0.5]\nset ytics (", title, n - 0.5);
  for (int i = 0; i < n; i++)
    fprintf(p->script, "%s'%s' %d", i ? ", " : "", panel ? "" : shapes[i], i);
  fprintf(p->script, ")\nplot ");
  for (int m = 0; m < MARKS; m++) {
    const int threads = marks[m].all ? bench.threads : 1, index = panel * MARKS + m;
    int any = 0;
    fprintf(p->data, "# %s %s: percent_of_peak  row\n", form, marks[m].title);
    for (int i = 0; i < n && !(marks[m].all && threads == 1); i++) {
      const bench_row *r;
      snprintf(what, sizeof what, "%s %s", shapes[i], form);
      r = bench_find("matmul", what, marks[m].name, threads, "% of peak");
      if (r) fprintf(p->data, "%g %d\n", r->median, i), any = 1;
    }
    if (!any) fprintf(p->data, "NaN 0\n");
    fprintf(p->data, "\n\n");
    if (any)
      fprintf(p->script, "%s'matmul.dat' index %d with points %s title '%s'",
              plotted++ ? ", \\\n  " : "", index,
              marks[m].style, marks[m].title);
  }
  fprintf(p->script, "\n");
}

void plot_matmul(void) {
  static const char *const forms[] = {"forward", "dX", "dW"};
  static const char *const titles[] = {"forward: Y = X W^T, the ladder", "backward: dX = dY W",
                                       "backward: dW += dY^T X"};
  vit_plot p;
  begin(&p, "matmul", 1350, 620);
  fprintf(p.script,
          "set termoption noenhanced\n"
          "set multiplot title \"Matrix products: how much of the machine's peak is reached "
          "(%.0f GFLOP/s on a thread)\" font ',13'\n"
          "set xrange [0:100]\nset xlabel \"percent of the peak of the threads that run\"\n"
          "set tmargin at screen 0.86\nset bmargin at screen 0.23\n",
          bench_peak(1) / 1e9);
  for (int i = 0; i < 3; i++) {
    const double left = i == 0 ? 0.12 : i == 1 ? 0.49 : 0.75,
        right = i == 0 ? 0.46 : i == 1 ? 0.72 : 0.98;
    fprintf(p.script, "set lmargin at screen %g\nset rmargin at screen %g\n", left, right);
    if (i == 0)
      fprintf(p.script, "set ylabel \"rows x in x out\" offset 0.5\n"
                        "set key at screen 0.98,0.08 right vertical maxrows 2 samplen 1 Left reverse\n");
    else fprintf(p.script, "unset ylabel\nunset key\n");
    matmul_panel(&p, i, forms[i], titles[i]);
  }
  fprintf(p.script, "unset multiplot\n");
  end(&p);
}

/* ---- bars: training and inference ------------------------------------------------------ */

static const char *bar_colour(const char *implementation) {
  if (!strcmp(implementation, "vit.h simd")) return "0x0072B2";
  if (!strcmp(implementation, "PyTorch eager")) return "0xD55E00";
  if (!strcmp(implementation, "PyTorch compile")) return "0xE69F00";
  if (!strcmp(implementation, "ONNX Runtime")) return "0x009E73";
  if (!strcmp(implementation, "OpenVINO")) return "0xCC79A7";
  if (!strcmp(implementation, "vit.h int8")) return "0x56B4E9";
  return strcmp(implementation, "ONNX Runtime int8") ? "0xAAAAAA" : "0x66C2A5";
}

/* 1, 2 or 5 times a power of ten, so that there are up to five steps. */
static double nice_step(double most) {
  double step = pow(10, floor(log10(most / 5)));
  return step * (most / step <= 5 ? 1 : most / step <= 10 ? 2 : most / step <= 25 ? 5 : 10);
}

/* One panel of horizontal bars for one case, from its low to its high a whisker. */
static void bar_panel(vit_plot *p, int panel, const char *group, const char *what) {
  const bench_row *r;
  double most = 0;
  int n = 0, last = 0;
  fprintf(p->data, "# %s: row  median  low  high  colour  implementation  value\n", what);
  for (int i = 0; (r = next_row(&i, group, "images/s")) != NULL;) {
    if (strcmp(r->what, what)) continue;
    if (n && r->threads != last) n++; /* a gap between one thread and all */
    fprintf(p->data, "%d %g %g %g %s \"%s, %d thread%s\" \"%s\"\n", n++, r->median, r->low,
            r->high, bar_colour(r->implementation), r->implementation, r->threads,
            r->threads > 1 ? "s" : "", bench_number(r->median));
    last = r->threads;
    if (r->high > most) most = r->high;
  }
  fprintf(p->data, "\n\n");
  fprintf(p->script,
          "set title \"%s\"\nset yrange [%g:-0.6]\nset xrange [0:%g]\nset xtics %g\n"
          "plot '%s.dat' index %d using (0):1:(0):2:($1-0.4):($1+0.4):5 with boxxyerror "
          "fs solid noborder lc rgb variable notitle, \\\n"
          "  '' index %d using 2:1:3:4 with xerrorbars pt -1 lw 1 lc rgb 'black' notitle, \\\n"
          "  '' index %d using 4:1:7 with labels left offset 0.7,0 notitle, \\\n"
          "  '' index %d using (NaN):1:ytic(6) with points notitle\n",
          what, n - 0.4, most * 1.4, nice_step(most * 1.4), p->name, panel, panel, panel, panel);
}

static void plot_bars(const char *group, const char *title, int columns, int width, int height) {
  char what[8][64];
  const bench_row *r;
  vit_plot p;
  int n = 0, lines;
  for (int i = 0; (r = next_row(&i, group, "images/s")) != NULL && n < 8;)
    if (n == 0 || strcmp(what[n - 1], r->what)) snprintf(what[n++], sizeof what[0], "%s", r->what);
  if (n == 0) return;
  if (n < columns) columns = n;
  lines = (n + columns - 1) / columns;
  begin(&p, group, width * columns, height * lines + 50);
  fprintf(p.script,
          "set termoption noenhanced\n"
          "set multiplot layout %d,%d title \"%s\" font ',13'\n"
          "set xlabel \"images per second: longer is better\"\nset ytics scale 0\n"
          "set lmargin 28\nset rmargin 3\nunset grid\nset grid x\n",
          lines, columns, title);
  for (int i = 0; i < n; i++) bar_panel(&p, i, group, what[i]);
  fprintf(p.script, "unset multiplot\n");
  end(&p);
}

void plot_training(void) {
  plot_bars("training", "Training: one step of the optimiser on images in memory", 3, 520, 330);
}

void plot_inference(void) {
  plot_bars("inference", "Inference: 224 x 224 images", 2, 580, 400);
}

/* ---- scaling ----------------------------------------------------------------------------- */

/* The points of all cases that start with `prefix`: number after it or the
   threads, value. Returns how many. */
static int write_curve(vit_plot *p, const char *prefix, const char *unit, int by_threads) {
  const bench_row *r;
  int n = 0;
  double first = 1;
  fprintf(p->data, "# %s (%s)\n", prefix, by_threads ? "times the speed of one thread" : unit);
  for (int i = 0; (r = next_row(&i, "scaling", unit)) != NULL;) {
    if (strncmp(r->what, prefix, strlen(prefix))) continue;
    if (n++ == 0 && by_threads) first = r->median;
    fprintf(p->data, "%g %g %g %g\n", by_threads ? r->threads : atof(r->what + strlen(prefix)),
            r->median / first, r->low / first, r->high / first);
  }
  fprintf(p->data, "\n\n");
  return n;
}

static void scaling_panel(vit_plot *p, int index, const char *title, const char *x) {
  fprintf(p->script,
          "set title \"%s\"\nset xlabel \"%s\"\nset ylabel \"GFLOP/s, %d thread%s\"\n"
          "set logscale x 2\n"
          "set xrange [*:*]\nset yrange [0:%g]\nset xtics autofreq\n"
          "plot %g with lines dt 2 lc rgb 'black' lw 1.5 title 'peak of the machine', \\\n"
          "  '%s.dat' index %d using 1:2:3:4 with yerrorlines lc rgb '%s' pt 7 ps 1.2 title 'vit.h'\n",
          title, x, bench.threads, bench.threads > 1 ? "s" : "",
          bench_peak(bench.threads) / 1e9 * 1.3, bench_peak(bench.threads) / 1e9, p->name, index,
          BLUE);
}

void plot_scaling(void) {
  vit_plot p;
  begin(&p, "scaling", 1350, 470);
  write_curve(&p, "threads MNIST", "images/s", 1);
  write_curve(&p, "threads B/16", "images/s", 1);
  write_curve(&p, "tokens ", "GFLOP/s", 0);
  write_curve(&p, "batch ", "GFLOP/s", 0);
  fprintf(p.script,
          "set multiplot layout 1,3 title \"How vit.h scales (a level line: the time grows as the "
          "arithmetic does)\" font ',13'\n"
          "set key top left Left reverse\nset xrange [0.8:%d.2]\nset yrange [0:%g]\nset xtics 1\n"
          "set title \"more threads\"\nset xlabel \"threads\"\n"
          "set ylabel \"times the speed of one thread\"\n"
          "plot x with lines dt 2 lc rgb 'black' lw 1.5 title 'as many times as threads', \\\n"
          "  'scaling.dat' index 0 with linespoints lc rgb '%s' pt 7 ps 1.2 title 'MNIST, training', \\\n"
          "  '' index 1 with linespoints lc rgb '%s' pt 5 ps 1.2 title 'B/16, one image'\n",
          bench.threads, bench.threads * 1.3, BLUE, ORANGE);
  scaling_panel(&p, 2, "more tokens: Ti/16, images of 112 to 512 pixels",
                "tokens (factors of two)");
  scaling_panel(&p, 3, "more images at once: MNIST model, inference", "batch (factors of two)");
  fprintf(p.script, "unset multiplot\n");
  end(&p);
}
