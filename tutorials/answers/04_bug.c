/* found: number 0 of head 0 of token 1's Q is at 3, should be at 6 */
static int my_qkv_at(int t, int which, int h, int d, int H, int Dh) {
  int token = t * 3 * Dh;
  int part = which * H * Dh;
  return token + part + h * Dh + d;
}
