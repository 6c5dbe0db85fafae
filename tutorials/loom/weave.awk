# Fills the marked blocks of one page from vit.h, the examples and what they
# printed. README.md explains the marks, loom.sh calls this:
#
#   awk -v mode=check|write|number -v exact=0|1 -v outputs=DIR -v examples="FILE..."
#       -f common.awk -f weave.awk PAGE
#
# `check` says where the page differs, `write` prints the page woven anew, and
# `fill` prints an SVG template with its {{03 1 "words" 2}} filled in.

# ---- regions: got[1 .. gots] -------------------------------------------------------

function example(number,   i, n, list) {
  n = split(examples, list, " ")
  for (i = 1; i <= n; i++) if (index(list[i], "examples/" number "_")) return list[i]
  return "examples/" number "_*.c"
}

function take(file, first, last) {
  for (gots = 0; first <= last; first++) got[++gots] = text[file, first]
  while (gots > 0 && got[gots] ~ /^ *$/) gots--
}

# Of got[] only the lines from the first with `from` to the next with `to`.
function cut(   i, n, on) {
  if (!("from" in opt) && !("to" in opt)) return 1
  for (i = 1; i <= gots; i++) {
    if (!on && (!("from" in opt) || index(got[i], opt["from"]))) on = 1
    if (!on) continue
    got[++n] = got[i]
    if ("to" in opt && index(got[i], opt["to"])) {
      gots = n
      return 1
    }
  }
  gots = n
  return n > 0 && !("to" in opt)
}

# A function, macro, type or table by its name, with the comment above it; by the
# name "lines", those that from and to say.
function code(file, name,   i, j, n, line, first) {
  n = load(file) ? count[file] : 0
  if (name == "lines") {
    take(file, 1, n)
    return n > 0
  }
  i = 1
  if ("after" in opt) while (i <= n && !index(text[file, i], opt["after"])) i++
  for (; i <= n; i++) {
    line = text[file, i]
    if (!index(line, name)) continue
    first = j = i
    if (line ~ ("^ *#define " name "([ (]|$)")) {
      while (j < n && text[file, j] ~ /\\$/) j++
    } else if (line ~ ("^} *" name ";")) {
      while (first > 1 && text[file, first] !~ /^typedef/) first--
    } else if (line ~ ("^[A-Za-z].*[ *]" name "(\\[.*\\])* = ")) {
      while (j < n && text[file, j] !~ /;$/) j++
    } else if (line ~ ("^[A-Za-z]([^=;(]*[ *])?" name "\\(")) {
      while (j < n && text[file, j] !~ /[;{}]/) j++
      if (text[file, j] !~ /\{/) continue # only declared here
      if (text[file, j] !~ /}$/) while (j < n && text[file, j] !~ /^}/) j++
    } else continue
    if (!("bare" in opt) && text[file, first - 1] ~ /\*\/ *$/)
      do first--; while (first > 1 && text[file, first] !~ /^ *\/\*/)
    take(file, first, j)
    return 1
  }
  return 0
}

# The lines of `file` from the one after `begin`, or with it, to before `end`.
function between(file, begin, skip, end,   i, n, first, at) {
  n = load(file) ? count[file] : 0
  for (i = 1; i <= n; i++) {
    if (first && text[file, i] ~ end) break
    at = index(text[file, i], begin) # an output's cell begins the line
    if (!first && (skip ? at : at == 1)) first = i + skip
  }
  take(file, first, first ? i - 1 : -1)
  return first > 0
}

# What a mark names; says where it looked.
function find(kind, a, b,   i, n) {
  if (kind == "code") {
    where = !("in" in opt) ? "vit.h" : opt["in"] ~ /^[0-9]+$/ ? example(opt["in"]) : opt["in"]
    return code(where, a)
  }
  if (kind == "cell") { # a heading such as [3] and [4] is that of both
    where = example(a)
    return between(where, "---- [" b "]", 2, "^(/\\* ---- |int main\\()") ||
      between(where, "] and [" b "] ---", 2, "^(/\\* ---- |int main\\()")
  }
  if (kind == "output") {
    where = outputs "/" a ".txt"
    if (!between(where, "[" b "] ", 0, "^\\[[0-9]+\\] ")) return 0
    for (i = 1; i <= gots; i++) # where a picture went is not of interest
      if (got[i] !~ /^  (figure  |no picture: gnuplot)/) got[++n] = got[i]
    gots = n
    return 1
  }
  where = "tutorials/results.md"
  return kind == "results" && between(where, "## " a, 2, "^## ")
}

function region(kind) {
  if (!find(kind, arg[2], arg[3]))
    fail(kind " " arg[2] (args > 2 ? " " arg[3] : "") " is not in " where, "name what is there, or take the mark away")
  else if (!cut())
    fail("\"" opt["from"] "\" to \"" opt["to"] "\" are no lines of " arg[2] " " arg[3], "choose words that stand there now")
  else return 1
  return 0
}

# The k-th number behind `words` in the first line of an output that has them:
# 03 2 "words" k, or results NAME "words" k, from arg[at] on. "" where there is none.
function value(at,   i, k, n, list) {
  if (arg[at] == "results" ? !find("results", arg[at + 1]) : !find("output", arg[at], arg[at + 1])) return ""
  for (i = 1; i <= gots && !index(got[i], arg[at + 2]); i++) ;
  k = args > at + 2 ? arg[at + 3] + 0 : 1
  n = i <= gots ? numbers(substr(got[i], index(got[i], arg[at + 2]) + length(arg[at + 2])), list) : 0
  return n >= k ? list[k] : ""
}

# ---- comparing ---------------------------------------------------------------------

# On another machine, numbers may differ by two in the last place, or by 0.1 %.
function same(a, b,   x, y, n, i, off) {
  if (a == b) return 1
  n = numbers(a, x)
  if (exact || n != numbers(b, y)) return 0
  gsub(NUMBER, "#", a)
  gsub(NUMBER, "#", b)
  gsub(/[ -]/, "", a) # a tiny number may change its sign
  gsub(/[ -]/, "", b)
  if (a != b) return 0
  for (i = 1; i <= n; i++) {
    off = x[i] - y[i] > 0 ? x[i] - y[i] : y[i] - x[i]
    if (off > 2.1 * 10 ^ -decimals(x[i]) && off > 0.001 * x[i]) return 0
  }
  return 1
}

# got[] is what should stand in the block; old[] is what does.
function compare(kind,   i, cure) {
  cure = "run make book-write, and read what changed"
  for (i = 1; i <= gots || i <= olds; i++) {
    if ("volatile" in opt || ("but" in opt && index(got[i], opt["but"]) && index(old[i], opt["but"]))) {
      if (olds) got[i] = old[i] # it is shown as it was when it was written
    } else if (i > gots) fail_at(old_line[i], "\"" old[i] "\" is not in " where " any more", cure)
    else if (i > olds) fail_at(olds ? old_line[olds] : start, "\"" got[i] "\" of " where " is missing", cure)
    else if (kind == "output" ? !same(old[i], got[i]) : old[i] != got[i])
      fail_at(old_line[i], "\"" old[i] "\" differs from \"" got[i] "\" in " where, cure)
    else continue
    if (!("volatile" in opt) && !("but" in opt)) return # one sentence for each block
  }
  if ("volatile" in opt && olds) gots = olds
}

function fail_at(line, what, cure) {
  if (mode != "check") return
  printf "%s:%d: %s; %s\n", FILENAME, line, what, cure >"/dev/stderr"
  bad = 1
}

# ---- the page ----------------------------------------------------------------------

mode == "fill" {
  while (match($0, /\{\{[^}]*\}\}/)) {
    spec = substr($0, RSTART + 2, RLENGTH - 4)
    left = substr($0, 1, RSTART - 1)
    right = substr($0, RSTART + RLENGTH)
    parse(spec)
    v = spec == "here" ? here : arg[1] == "text" ? words(arg[2]) : value(1)
    if (v == "") fail("{{" spec "}} names nothing", "give cell, words and the place of a number that is printed, or a key of strings.txt")
    $0 = left v right
  }
  print
  next
}

function words(key,   i, file) { # the texts of figures are in one table
  file = "tutorials/figures/strings.txt"
  load(file)
  for (i = 1; i <= count[file]; i++)
    if (index(text[file, i], key " | ") == 1) return substr(text[file, i], length(key) + 4)
  return ""
}

inside {
  if ($0 == "<!-- /" inside " -->") {
    if (found) compare(inside)
    if (found && mode == "write") {
      if (inside != "results") print "```" (inside == "output" ? "text" : match(where, /(js|sh|py|html)$/) ? substr(where, RSTART) : "c")
      for (i = 1; i <= gots; i++) print got[i]
      if (inside != "results") print "```"
    } else for (i = 0; mode == "write" && i <= raws; i++) if (i) print raw[i]
    inside = ""
    if (mode == "write") print
  } else {
    raw[++raws] = $0
    if (inside == "results" || $0 !~ /^```/) {
      old[++olds] = $0
      old_line[olds] = FNR
    }
  }
  next
}

is_fence($0) || fence { # typed by hand
  if (mode == "write") print
  next
}

/^<!-- (code|cell|output|results) .*-->$/ {
  parse(substr($0, 6, length($0) - 9))
  inside = arg[1]
  start = FNR
  olds = raws = 0
  split("", old)
  split("", got)
  found = region(inside)
  if (mode == "write") print
  next
}

{
  line = ""
  while (match($0, /<!-- num [^>]*-->[^<]*<!-- \/num -->/)) {
    line = line substr($0, 1, RSTART - 1)
    mark = was = substr($0, RSTART, RLENGTH)
    $0 = substr($0, RSTART + RLENGTH)
    sub(/ -->.*/, "", mark)
    sub(/^[^>]*>/, "", was)
    sub(/<.*/, "", was)
    parse(substr(mark, 10))
    v = value(1)
    if (v == "") fail("num " substr(mark, 10) " names no number", "give cell, words and the place of a number that is printed")
    else if (!same(was, v)) fail_at(FNR, "the number " was " is " v " in " where, "run make book-write, and read what changed")
    line = line mark " -->" (v == "" ? was : v) "<!-- /num -->"
  }
  if ($0 ~ /<!-- num /) fail("a num mark has no end in its line", "close it with <!-- /num --> in the same line")
  if (mode == "write") print line $0
}

END {
  if (inside) fail("the mark " inside " of line " start " is never closed", "write <!-- /" inside " --> behind its block")
  exit bad
}
