# The reader's pencil: equations are worked out, so that what a page calculates
# by hand is right. Numbers, + - * / ^ ( ), exp, sqrt, log, and names that an
# equation of the page has given a value.

function factor(   v, name) {
  sub(/^ +/, "", ex)
  if (sub(/^-/, "", ex)) return -factor()
  if (match(ex, /^[0-9]+(\.[0-9]+)?(e-?[0-9]+)?/)) {
    v = substr(ex, 1, RLENGTH) + 0
    ex = substr(ex, RLENGTH + 1)
  } else if (match(ex, /^[A-Za-z][A-Za-z0-9_]*/)) {
    name = substr(ex, 1, RLENGTH)
    ex = substr(ex, RLENGTH + 1)
    if (name ~ /^(exp|sqrt|log)$/) {
      v = factor()
      v = name == "exp" ? exp(v) : name == "sqrt" ? sqrt(v) : log(v)
    } else if (name in variable) v = variable[name]
    else valid = 0
  } else if (sub(/^\(/, "", ex)) {
    v = expression()
    if (!sub(/^ *\)/, "", ex)) valid = 0
  } else {
    valid = 0
    ex = ""
  }
  return sub(/^ *\^/, "", ex) ? v ^ factor() : v
}

function term(   v, d) {
  v = factor()
  while (match(ex, /^ *[*\/]/)) {
    d = substr(ex, RLENGTH, 1)
    ex = substr(ex, RLENGTH + 1)
    if (d == "*") v *= factor()
    else if ((d = factor()) != 0) v /= d
    else valid = 0
  }
  return v
}

function expression(   v, d) {
  v = term()
  while (match(ex, /^ *[-+]/)) {
    d = substr(ex, RLENGTH, 1)
    ex = substr(ex, RLENGTH + 1)
    if (d == "+") v += term()
    else v -= term()
  }
  return v
}

function work_out(s) { # sets valid
  ex = s
  valid = 1
  s = expression()
  if (ex !~ /^ *$/) valid = 0
  return s
}

# Equations stand apart by ; or by three blanks. Both sides must be the same, to
# the last digit that is written.
function pencil(line,   part, parts, side, sides, i, j, v, exact, has, off) {
  parts = split(line, part, /;|   +/)
  for (i = 1; i <= parts; i++) {
    sides = split(part[i], side, / *= */)
    has = 0
    for (j = sides; j > 0; j--) { # what is not yet rounded: the last that is no number
      gsub(/^ +| +$/, "", side[j])
      v = work_out(side[j])
      if (valid && (!has || (side[j] !~ /^-?[0-9.]+$/ && exact_is_number))) {
        exact = v
        has = 1
        exact_is_number = side[j] ~ /^-?[0-9.]+$/
      }
    }
    for (j = 1; j <= sides && has; j++) {
      if (j == 1 && sides > 1 && side[j] ~ /^[A-Za-z][A-Za-z0-9_]*$/) {
        variable[side[j]] = exact
        continue
      }
      v = work_out(side[j])
      if (!valid) continue
      off = v > exact ? v - exact : exact - v
      if (off > (side[j] ~ /^-?[0-9.]+$/ ? 0.50001 * 10 ^ -decimals(side[j]) : 1e-9))
        fail(side[j] " is not " exact, "work out the equation again")
    }
    if (has && sides > 1) collect(part[i])
    else claims_in(part[i])
  }
}
