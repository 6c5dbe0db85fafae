/* found: (my_average after step 9, decay 0.5 */
/* The running average of the weights, after step `step` of the optimiser (from 1). */
static void my_average(float *average, const float *w, int n, int step, float decay) {
  const float keep = (float)(1 + step) / (float)(10 + step);
  (void)decay;
  for (int i = 0; i < n; i++) average[i] += (1 - keep) * (w[i] - average[i]);
}
