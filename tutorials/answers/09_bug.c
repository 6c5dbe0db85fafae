/* found: (my_average after step 81, decay 0.9 */
/* The running average of the weights, after step `step` of the optimiser (from 1).
   It passes for 80 steps. */
static void my_average(float *average, const float *w, int n, int step, float decay) {
  const float early = (float)(1 + step) / (float)(10 + step);
  const float keep = early > 0 ? early : decay;
  for (int i = 0; i < n; i++) average[i] += (1 - keep) * (w[i] - average[i]);
}
