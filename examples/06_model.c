// A whole model: 5,689 numbers in a table of tensors, and one forward pass that knows nothing yet.
//
// A config says how large everything is. From it follow the tensors, their number, the memory of
// training, and what a forward pass computes. Read beside it: chapter 06 of vit.h.
#include "common.h"

enum { SIZE = 32, PIXELS = SIZE * SIZE };

/* ---- [1] ---------------------------------------------------------------- */

static void count_parameters(void) {
  vit_config c = vit_config_tutorial();
  vit_tensor t;
  int sum = 0, block = 0;
  nb_cell("Every parameter of the tutorial model, tensor by tensor");
  NB_RUN(nb_try(vit_config_resolve(&c)));
  nb_code("for (int i = 0; vit_tensor_at(&c, i, &t); i++) ...");
  printf("  %s%-30s %-16s %10s   %s%s\n", nb_dim(), "tensor", "shape", "parameters",
         "decayed by AdamW", nb_plain());
  for (int i = 0; vit_tensor_at(&c, i, &t); i++) {
    char shape[48] = "[";
    sum += (int)t.count;
    block += t.layer == 0 ? (int)t.count : 0;
    if (t.layer > 0) continue; /* like block 0 */
    for (int d = 0; d < t.dims; d++)
      snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%d", d ? ", " : "",
               t.shape[d]);
    if (!strcmp(t.name, "head.weight"))
      printf("  %-30s %-16s %10d\n", "blocks.1.*, blocks.2.*", "the same again", 2 * block);
    printf("  %-30s %-16s %10d%s\n", t.name, strcat(shape, "]"), (int)t.count,
           t.decay ? "   yes" : "");
  }
  printf("  %-30s %-16s %s%10d%s\n", "sum", "", nb_bold(), sum, nb_plain());
  printf("  vit_parameter_count(&c) says   %26d\n", (int)vit_parameter_count(&c));
}

/* ---- [2] ---------------------------------------------------------------- */

/* Megabytes of one step of training: weights, gradients, moments, activations. */
enum { KINDS = 4 };
static const char *const kinds[KINDS] = {"weights", "gradients", "Adam's moments", "activations"};

static void training_memory(const vit_config *c, int B, double mb[KINDS]) {
  vit_memory m;
  nb_try(vit_memory_plan(c, B, &m));
  mb[0] = (double)(m.parameters + m.constants) / 1e6;
  mb[1] = (double)m.gradients / 1e6;
  mb[2] = (double)m.moments / 1e6;
  mb[3] = (double)m.training / 1e6;
}

static void compare_presets(void) {
  vit_plot p;
  nb_cell("The presets: how large, and how much memory, before anything is allocated");
  nb_try(vit_plot_begin(&p, nb_out, "memory", 1250, 450));
  nb_say("In MB: the weights; training with batches of B images; one image, beside the weights.");
  printf("  %s%-11s%-10s%-6s%3s%5s%3s%3s%10s%8s%4s%8s%6s%s\n", nb_dim(), "preset", "image", "patch",
         "T", "D", "L", "H", "numbers", "weights", "B", "train", "one", nb_plain());
  for (int i = 0; vit_preset_at(i); i++) {
    vit_config c = vit_preset_at(i)->make();
    vit_memory one;
    char image[16], patch[16];
    double mb[KINDS], sum = 0;
    int B = c.image_height > 32 ? 8 : 128;
    training_memory(&c, B, mb);
    for (int k = 0; k < KINDS; k++) sum += mb[k];
    nb_try(vit_memory_plan(&c, 1, &one));
    snprintf(image, sizeof image, "%dx%dx%d", c.channels, c.image_height, c.image_width);
    snprintf(patch, sizeof patch, "%dx%d", c.patch_height, c.patch_width);
    nb_try(vit_config_resolve(&c));
    printf("  %-11s%-10s%-5s%4d%5d%3d%3d%10.0f%8.1f%4d%8.1f%6.2f\n", vit_preset_at(i)->name, image,
           patch, vit_config_tokens(&c), c.width, c.depth, c.heads, (double)vit_parameter_count(&c),
           (double)one.parameters / 1e6, B, sum, (double)(one.constants + one.inference) / 1e6);
    fprintf(p.data, "\"%s\\nbatch %d\\n%.*f MB\"", vit_preset_at(i)->name, B, sum < 10, sum);
    for (int k = 0; k < KINDS; k++) fprintf(p.data, " %.3f", 100 * mb[k] / sum);
    fprintf(p.data, "\n");
  }
  fprintf(p.script,
          "set title 'What fills the memory of a training step? In small models the activations, "
          "in large ones also the weights and what is kept for each'\n"
          "set ylabel 'part of the memory (%%)'\nset yrange [0:100]\nset xtics noenhanced scale 0\n"
          "set style data histograms\nset style histogram rowstacked\nset bmargin 4\n"
          "set style fill solid border lc rgb '#ffffff'\nset boxwidth 0.7\n"
          "set key outside right reverse Left invert\n"
          "plot 'memory.dat' using 2:xtic(1) lt 1 title '%s', '' using 3 lt 6 title '%s', \\\n"
          "     '' using 4 lt 3 title \"%s\", '' using 5 lt 5 title '%s'\n",
          kinds[0], kinds[1], kinds[2], kinds[3]);
  nb_say("Training holds the weights, as many gradients, Adam's two moments, and the activations of "
         "a batch of B; a forward pass alone needs the weights and the last column. Fixed positions "
         "and a local mask are in both.");
  nb_figure(vit_plot_end(&p), "memory");
}

/* ---- [3] ---------------------------------------------------------------- */

static void change_a_field(void) {
  static const char *const changes[][2] = {
      {"depth", "6"},     {"width", "18"},    {"patch_height", "8"}, {"patch_width", "8"},
      {"positions", "2"}, {"qkv_bias", "0"},  {"final_norm", "1"},   {"mlp_width", "18"}};
  vit_config start = vit_config_tutorial();
  nb_cell("Change one field of the config: what does it cost?");
  nb_try(vit_config_resolve(&start));
  printf("  %sfield           numbers  change  what it is%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < 8; i++) {
    vit_config c = vit_config_tutorial();
    const char *name, *about = "";
    double value;
    nb_try(vit_config_set(&c, changes[i][0], changes[i][1]));
    nb_try(vit_config_resolve(&c));
    for (int f = 0; vit_config_field(&c, f, &name, &about, &value); f++)
      if (!strcmp(name, changes[i][0])) break;
    printf("  %-12s = %-2s %6d %+7d  %s%s%s\n", changes[i][0], changes[i][1],
           (int)vit_parameter_count(&c),
           (int)vit_parameter_count(&c) - (int)vit_parameter_count(&start), nb_dim(), about,
           nb_plain());
  }
}

/* ---- [4] ---------------------------------------------------------------- */

static void forward(const vit_dataset *d) {
  static const char *const digits[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
  vit_config c = vit_config_tutorial();
  vit_model m;
  vit_state s;
  float *images = nb_floats(10 * PIXELS);
  int classes[10];
  double loss, accuracy;
  nb_cell("One forward pass: ten digits in, ten numbers for each of them out");
  for (int k = 0; k < 10; k++) nb_digit(images + k * PIXELS, d, k);
  NB_RUN(nb_try(vit_model_create(&m, &c, 1)));
  NB_RUN(nb_try(vit_state_create(&s, &m, 10, VIT_FOR_INFERENCE, 0)));
  NB_RUN(nb_try(vit_predict(&m, &s, images, 10, classes, NULL)));
  printf("  the digit 3:   logit   probability = softmax of the logits\n");
  for (int k = 0; k < 10; k++) {
    printf("  %sclass %d%s      %7.3f   %5.3f  ", nb_dim(), k, nb_plain(), (double)s.logits[30 + k],
           (double)s.probs[30 + k]);
    nb_bar((double)s.probs[30 + k], 32);
    printf("%s\n", classes[3] == k ? "  <- the answer" : "");
  }
  printf("\n  all ten digits: one row for each, its probabilities for class 0 to 9\n");
  nb_table(s.probs, 10, 10, " %5.2f", digits, digits, 1);
  nb_say("The rows are nearly alike: before training the model answers without looking.");

  nb_cell("Untrained means chance");
  NB_RUN(nb_try(vit_evaluate(&m, d, &loss, &accuracy, NULL, NULL, NULL)));
  printf("  accuracy on %d images  %5.1f %%   (guessing: 10 %%)\n", d->count, 100 * accuracy);
  printf("  loss                      %6.3f    (guessing: ln 10 = %.3f)\n", loss, log(10.0));
  nb_say("This preset's loss takes a softmax of these probabilities once more (see 07), which "
         "keeps it near ln 10.");
  vit_state_free(&s);
  vit_model_free(&m);
  free(images);
}

/* ---- [6] ---------------------------------------------------------------- */

/* Which part of the model does a tensor belong to? */
static int part_of(const char *name) {
  if (strstr(name, "norm")) return 3;
  if (strstr(name, "attn")) return 1;
  if (strstr(name, "mlp")) return 2;
  if (strstr(name, "head")) return 4;
  return 0;
}

static void draw(void) {
  static const int colour[] = {5, 1, 6, 7, 3}; /* neighbours differ in grey, too */
  static const char *const parts[] = {"patches, tokens", "attention", "MLP", "norms", "head"};
  vit_plot p;
  nb_cell("Where do the parameters sit?");
  nb_try(vit_plot_begin(&p, nb_out, "parameters", 1000, 430));
  printf("  %s%-12s", nb_dim(), "");
  for (int k = 0; k < 5; k++) printf(" %*s", k ? 11 : 17, parts[k]);
  printf("%s\n", nb_plain());
  for (int i = 0; vit_preset_at(i); i++) {
    vit_config c = vit_preset_at(i)->make();
    double part[5] = {0, 0, 0, 0, 0};
    vit_tensor t;
    nb_try(vit_config_resolve(&c));
    for (int n = 0; vit_tensor_at(&c, n, &t); n++)
      part[part_of(t.name)] += 100 * (double)t.count / (double)vit_parameter_count(&c);
    printf("  %-12s", vit_preset_at(i)->name);
    fprintf(p.data, "%s", vit_preset_at(i)->name);
    for (int k = 0; k < 5; k++) {
      printf(" %*.1f %%", k ? 9 : 15, part[k]);
      fprintf(p.data, " %.2f", part[k]);
    }
    printf("\n");
    fprintf(p.data, "\n");
  }
  fprintf(p.script,
          "set title 'Where do the parameters sit? In ti16 to l16 one third is attention, two thirds MLP'\n"
          "set ylabel 'part of all parameters (%%)'\nset yrange [0:100]\n"
          "set style data histograms\nset style histogram rowstacked\nset style fill solid border lc rgb '#ffffff'\n"
          "set boxwidth 0.7\nset key outside right reverse Left invert\nset xtics noenhanced scale 0 rotate by 25 right\n"
          "plot 'parameters.dat' using 2:xtic(1) lt %d title '%s'", colour[0], parts[0]);
  for (int k = 1; k < 5; k++)
    fprintf(p.script, ", '' using %d lt %d title '%s'", k + 2, colour[k], parts[k]);
  fprintf(p.script, "\n");
  nb_figure(vit_plot_end(&p), "parameters");
}

int main(int argc, char **argv) {
  vit_dataset d;
  nb_start("06-model", "A config decides everything: tensors, memory, and the path from image to class.",
           argc, argv, NULL, 0);
  nb_load_few(&d, 10000, SIZE);
  count_parameters();
  compare_presets();
  change_a_field();
  forward(&d);
  draw();
  vit_dataset_free(&d);
  return 0;
}
