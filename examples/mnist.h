/* The recipes of 09 for digits, which 14 trains on a cluster. Include it instead of
   lab.h. */
#ifndef MNIST_H
#define MNIST_H

#include "lab.h"

/* Two published models of photos, made small enough for digits: what tells them
   apart stays, a local mask with dropout everywhere, or post-norm with sinusoids,
   a mean over the patches and a softmax before the loss. Their own rate, 3e-5, is
   for weights that were trained before; from scratch it has to be higher. */
static void recipe_small(lab *l, vit_config published, int heads) {
  l->config = published;
  l->config.image_height = l->config.image_width = 28;
  l->config.channels = 1;
  l->config.classes = 10;
  l->config.patch_height = l->config.patch_width = 4;
  l->config.width = 64;
  l->config.depth = 6;
  l->config.heads = heads;
  l->fit.epochs = 4;
  l->fit.batch = 64;
  l->fit.optimizer = vit_optimizer_defaults(VIT_ADAMW);
  l->fit.schedule = vit_schedule_constant(1e-3f);
  l->fit.schedule.kind = VIT_LINEAR;
  l->warmup = 0.05f; /* as published: 500 steps of 10,000 */
}

/* The recipes. quick and best were chosen on held-back training images. */
static lab recipe(const char *preset, int argc, char **argv) {
  lab l = lab_begin(preset, argc, argv);
  if (!strcmp(preset, "tutorial")) {
    l.config = vit_config_tutorial();
    return l;
  }
  if (!strcmp(preset, "local")) recipe_small(&l, vit_config_local(), 4);
  if (!strcmp(preset, "post-norm")) recipe_small(&l, vit_config_post_norm(), 8);
  if (l.warmup > 0) return l;
  if (strcmp(preset, "quick") && strcmp(preset, "best"))
    nb_stop("--preset must be tutorial, quick, best, local or post-norm");
  l.config = vit_config_mnist();
  l.normalize = 1;
  l.config.init = VIT_INIT_TORCH; /* starts faster than 0.02 at so small a width */
  l.fit.optimizer = vit_optimizer_defaults(VIT_ADAMW);
  l.fit.optimizer.weight_decay = 0.05f;
  l.fit.optimizer.clip_norm = 1;
  l.fit.schedule = vit_schedule_constant(3e-3f);
  l.fit.schedule.kind = VIT_COSINE;
  l.warmup = 0.03f;
  l.fit.ema = 0.999f;
  l.fit.augment.rotate = l.fit.augment.shear = 8;
  l.fit.augment.shift = 0.08f;
  l.fit.augment.scale = 0.09f;
  l.fit.augment.elastic = 0.8f;
  l.fit.batch = 64;
  l.config.patch_height = l.config.patch_width = 7; /* 2.7 times as fast as 4 x 4 */
  l.fit.epochs = 80;
  if (!strcmp(preset, "quick")) { /* less is learnt from harder images in six epochs */
    l.fit.epochs = 6;
    l.fit.augment.rotate = l.fit.augment.shear = 7;
    l.fit.augment.shift = 0.06f;
    l.fit.augment.scale = 0.07f;
    l.fit.augment.elastic = 0.5f;
  }
  return l;
}

#endif
