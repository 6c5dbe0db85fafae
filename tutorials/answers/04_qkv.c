int my_qkv_at(int t, int which, int h, int d, int H, int Dh) {
  return ((t * 3 + which) * H + h) * Dh + d;
}
static void from_place(int place, int *t, int *which, int *h, int *d, int H, int Dh) {
  *d = place % Dh;
  *h = place / Dh % H;
  *which = place / (Dh * H) % 3;
  *t = place / (Dh * H * 3);
}
