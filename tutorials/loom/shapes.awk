# Draws the pictures that example 12 learns from in the book: a folder for each
# class, whose folders are there already. Whole numbers alone: the same bytes
# everywhere.
#
#   LC_ALL=C awk -v dir=DIR -v each=40 -f shapes.awk

function below(n) { # 0 .. n - 1 (Lehmer 1951)
  seed = seed * 16807 % 2147483647
  return int(seed / 128) % n
}

function colour(c, least,   k) {
  for (k = 1; k <= 3; k++) c[k] = least + below(100)
}

function inside(class, x, y, r,   d) { # of a shape of radius r around (0, 0)
  d = x * x + y * y
  if (class == "disc") return d < r * r
  if (class == "ring") return d < r * r && 4 * d > r * r
  if (class == "square") return x * x < r * r * 3 / 4 && y * y < r * r * 3 / 4
  if (class == "cross") return (16 * x * x < r * r || 16 * y * y < r * r) && d < r * r
  return y < r / 2 && 2 * y + r > (x < 0 ? -3 : 3) * x # triangle
}

BEGIN {
  seed = 1
  classes = split("cross disc ring square triangle", class, " ")
  for (n = 0; n < each * classes; n++) {
    name = class[n % classes + 1]
    w = 64 + 16 * below(3)
    h = 64
    file = dir "/" name "/" 1000 + n ".ppm"
    colour(above, 20)
    colour(ground, 20)
    colour(paint, 140)
    r = 16 + below(12)
    x0 = int(w / 2) + below(17) - 8
    y0 = 32 + below(17) - 8
    text = sprintf("P6\n%d %d\n255\n", w, h)
    for (y = 0; y < h; y++)
      for (x = 0; x < w; x++) {
        on = inside(name, x - x0, y - y0, r)
        for (k = 1; k <= 3; k++)
          text = text sprintf("%c", (on ? paint[k] : int((above[k] * (h - y) + ground[k] * y) / h)) + below(13) - 6)
      }
    printf "%s", text >file
    close(file)
  }
}
