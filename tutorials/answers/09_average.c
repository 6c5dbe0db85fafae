/* The running average of the weights, after step `step` of the optimiser (from 1). */
static void my_average(float *average, const float *w, int n, int step, float decay) {
  const float early = (float)(1 + step) / (float)(10 + step);
  const float keep = early < decay ? early : decay;
  for (int i = 0; i < n; i++) average[i] = keep * average[i] + (1 - keep) * w[i];
}
