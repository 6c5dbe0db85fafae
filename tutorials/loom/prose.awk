# Checks one woven page: numbers, sizes, links, figures, length, and whether each
# cell and each kernel of its chapter is quoted. The rules are in
# README.md; loom.sh calls this:
#
#   awk -v chapter=03 -v outputs=DIR -f common.awk -f pencil.awk -f prose.awk PAGE

function collect(s,   list, n) {
  for (n = numbers(s, list); n > 0; n--) known[list[n]] = 1
}

# Numbers that count: with a point or an exponent, or of three digits and more.
# Years, and numbers of sections, equations, versions and names do not.
function claims_in(s,   x, before) {
  gsub(/([Ss]ections?|sec\.|eq\.|[Ee]quations?|version|Figure|Table|arXiv:) *[0-9][0-9.]*/, "", s)
  while (match(s, NUMBER)) {
    x = substr(s, RSTART, RLENGTH)
    before = RSTART > 1 ? substr(s, RSTART - 1, 1) : " "
    s = substr(s, RSTART + RLENGTH)
    gsub(/,/, "", x)
    if (before ~ /[A-Za-z_]/ || (x !~ /[.e]/ && (length(x) < 3 || (x >= 1940 && x < 2040)))) continue
    claim[++claims] = x
    claim_at[claims] = FNR
  }
}

function count_words(s,   list, n) {
  gsub(/^[ \t>|*-]+|[ \t|]+$/, "", s)
  return s == "" ? 0 : split(s, list, /[ \t]+/)
}

# A shape names sizes as the header does.
function sizes(s, formula,   group, list, n, i, cure) {
  cure = "use the header's letters: B N T D H Dh I M K L C PH PW P Q"
  if (formula && match(s, /d_k|d_v|[dDnN]_\{?(h|ff|model|\\(text|mathrm)\{model\})\}?/))
    fail("the formula has the size " substr(s, RSTART, RLENGTH), cure)
  while (match(s, /\[[A-Za-z0-9_*+, \/-]+\]/)) {
    group = substr(s, RSTART + 1, RLENGTH - 2)
    s = substr(s, RSTART + RLENGTH)
    n = split(group, list, /[^A-Za-z_]+/)
    for (i = 1; i <= n; i++)
      if (list[i] ~ /^[A-Z]/ && list[i] !~ /^([BNTDHIMKLCPQ]|Dh|PH|PW)$/)
        fail("the shape [" group "] has the size " list[i], cure)
  }
}

function anchor(s) { # of a heading, as GitHub and pandoc make it
  gsub(/<!--[^>]*-->/, "", s)
  gsub(/^#+ *| *$/, "", s)
  s = tolower(s)
  gsub(/[^a-z0-9_ -]/, "", s)
  gsub(/ /, "-", s)
  return s
}

function has_anchor(file, name,   i, fence) {
  load(file)
  for (i = 1; i <= count[file]; i++) {
    if (text[file, i] ~ /^(```|~~~)/) fence = !fence
    if (!fence && text[file, i] ~ /^#+ / && anchor(text[file, i]) == name) return 1
    if (index(text[file, i], "id=\"" name "\"")) return 1
  }
  return 0
}

function link(to,   file, name) {
  if (to ~ /^(https?|mailto):/) return
  name = to ~ /#/ ? substr(to, index(to, "#") + 1) : ""
  file = FILENAME
  sub(/#.*/, "", to)
  if (to != "" && !sub(/[^\/]*$/, to, file)) file = to
  if (system("test -e '" file "'"))
    fail("the link " to " leads nowhere", "name a file as seen from the folder of this page")
  else if (name != "" && !has_anchor(file, name))
    fail("the link to #" name " finds no such heading", "write the heading in small letters with - for blanks")
}

function figure(mark,   alt, n, name) {
  alt = substr(mark, 3, index(mark, "](") - 3)
  name = substr(mark, index(mark, "](") + 2)
  sub(/\)$/, "", name)
  n = count_words(alt)
  if (n < 8 || n > 40) fail("the text of figure " name " has " n " words", "say in 8 to 40 words what it shows")
  link(name)
  claims_in(alt)
  if (name !~ /-here\.svg$/) figures++
  gsub(/.*\/|\..*/, "", name)
  drawn[name] = 1
  shown()
}

function shown() {
  stretch = 0
  since = FNR
}

function prose(s,   t) {
  while (match(s, /!\[[^\]]*\]\([^)]*\)/)) {
    t = substr(s, RSTART, RLENGTH)
    s = substr(s, 1, RSTART - 1) substr(s, RSTART + RLENGTH)
    figure(t)
  }
  while (match(s, /\]\([^)]*\)/)) {
    t = substr(s, RSTART + 2, RLENGTH - 3)
    s = substr(s, 1, RSTART) substr(s, RSTART + RLENGTH)
    link(t)
  }
  gsub(/<[^>]*>/, "", s)
  claims_in(s)
  t = s
  while (match(t, /`[^`]+`|\$[^$]+\$/)) {
    s = substr(t, RSTART, RLENGTH)
    t = substr(t, 1, RSTART - 1) "symbols" substr(t, RSTART + RLENGTH)
    sizes(s, s ~ /^\$/)
  }
  if (t ~ /^\|/) shown()
  if (t ~ /^## /) unbroken = t ~ /^## (Test yourself|Exercises)/
  words += count_words(t)
  if (unbroken) shown()
  else stretch += count_words(t)
  if (stretch <= 250 || FILENAME ~ /glossary.md$/) return
  fail("no block, formula or figure for more than 250 words, since line " since, "show something, or say less")
  shown()
}

# ---- the page ----------------------------------------------------------------------

!fence && /^<!-- (code|cell|output|results|pencil)( .*)?-->$/ {
  parse(substr($0, 6, length($0) - 9))
  kind = arg[1]
  if (kind ~ /cell|output/) quoted[arg[2] + 0, arg[3]] = 1
  if (kind == "code") explained[arg[2]] = 1
  blocks++
  shown()
  next
}
!fence && /^<!-- \/[a-z]+ -->$/ { kind = ""; next }
kind == "pencil" { if ($0 !~ /^```/) pencil($0); next }
kind { collect($0); next }

is_fence($0) {
  if (fence && $0 !~ /^...(sh|c)$/)
    fail("a block is typed by hand", "weave it, mark it pencil, or say sh or c behind its ```")
  blocks += fence != ""
  shown()
  next
}
fence { next }
/^\$\$/ { if ($0 !~ /^\$\$.+\$\$$/) display = !display; sizes($0, 1); shown(); next }
display { sizes($0, 1); claims_in($0); next }
{
  s = $0
  while (match(s, /<!-- num [^>]*-->[^<]*/)) { # its number is woven
    mark = substr(s, RSTART, RLENGTH)
    s = substr(s, RSTART + RLENGTH)
    parse(substr(mark, 10))
    if (arg[1] != "results") quoted[arg[1] + 0, arg[2]] = 1
    sub(/^[^>]*>/, "", mark)
    collect(mark)
  }
  prose($0)
}

# Every cell that the example prints, unless its figure is shown, and every naive
# kernel of the chapter in vit.h.
function covers(file,   i, k, line, here, name) {
  for (i = 1; load(file) && i <= count[file]; i++) {
    line = text[file, i]
    if (line ~ /^\[[0-9]+\] /) k = substr(line, 2) + 0
    if (!sub(/^  (figure .*\/|no picture: .*gnuplot -d )/, "", line)) continue
    sub(/\..*/, "", line)
    if (chapter "-" line in drawn) quoted[chapter + 0, k] = 1
  }
  for (i = 1; load(file) && i <= count[file]; i++) {
    line = text[file, i]
    k = substr(line, 2) + 0
    if (line ~ /^\[[0-9]+\] / && !((chapter + 0, k) in quoted))
      fail("cell " line " is quoted nowhere", "quote it: <!-- output " chapter " " k " -->")
  }
  load("vit.h")
  for (i = 1; i <= count["vit.h"]; i++) {
    line = text["vit.h", i]
    if (line ~ /^\/\*  >>/) here = index(line, ">>" chapter " ") > 0
    if (!here || !match(line, /^static void vit_naive_[a-z0-9_]*\(/)) continue
    name = substr(line, 13, RLENGTH - 13)
    if (!(name in explained)) fail("the kernel " name " is quoted nowhere", "quote it: <!-- code " name " -->")
  }
}

END {
  for (i = 1; i <= claims; i++) {
    if (claim[i] in known) continue
    printf "%s:%d: the number %s stands in no block of this page; %s\n", FILENAME, claim_at[i], claim[i], "pull it from an output, or leave it out" >"/dev/stderr"
    bad = 1
  }
  if (chapter != "") {
    covers(outputs "/" chapter ".txt")
    if (words < 2500 || words > 4000) fail("the chapter has " words " words", "write 2,500 to 4,000")
    if (blocks < 12) fail("the chapter has " blocks " blocks", "show 12 or more")
    if (figures < 2) fail("the chapter has " figures + 0 " figures", "show 2 to 4")
    printf "  %-30s %5d words %3d blocks %2d figures\n", FILENAME, words, blocks, figures
  }
  exit bad
}
