/* A number of IEEE binary16: a sign, 5 bits of the exponent, 10 of the mantissa. */
float my_half(unsigned h) {
  const int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
  float size = e ? ldexpf((float)(1024 + m), e - 25) : ldexpf((float)m, -24);
  if (e == 31) size = m ? NAN : INFINITY;
  return h >> 15 ? -size : size;
}
