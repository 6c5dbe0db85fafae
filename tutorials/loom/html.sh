#!/bin/sh
# Makes one HTML book of tutorials/: out/book/index.html, which needs no other
# file and no network. Wants pandoc.
#
#   sh tutorials/loom/html.sh

set -u
cd "$(dirname "$0")/../.." || exit 1
command -v pandoc >/dev/null 2>&1 || {
  echo "pandoc is missing, so there is no HTML book: make deps installs it, or read tutorials/README.md."
  exit 1
}
out=out/book
mkdir -p $out build/book
cd tutorials || exit 1

# Each page becomes a part with anchors of its own; the answers follow their chapter.
pages='README.md fifteen-minutes.md'
for page in [0-9][0-9]-*.md; do
  [ -f "$page" ] || continue
  pages="$pages $page"
  if [ -f "answers/${page%%-*}.md" ]; then pages="$pages answers/${page%%-*}.md"; fi
done
for page in published-[a-e].md what-next.md teachers.md reference.md results.md glossary.md; do if [ -f $page ]; then pages="$pages $page"; fi; done
cat >../build/book/pages.awk <<'END_OF_AWK'
  function part(page) { # of the book: 03, answers-03, glossary
    if (page ~ /answers\/[0-9]/) { sub(/.*answers\//, "", page); sub(/\.md.*/, "", page); return "answers-" page }
    sub(/.*\//, "", page)
    if (page ~ /^[0-9][0-9]/) return substr(page, 1, 2)
    sub(/\.md.*/, "", page)
    return tolower(page)
  }
  function anchor(s) {
    gsub(/^#+ *| *$/, "", s)
    s = tolower(s)
    gsub(/[^a-z0-9_ -]/, "", s)
    gsub(/ /, "-", s)
    return s
  }
  # What a link leads to inside of the book, "" where that is not in the book.
  function target(to,   at, page) {
    if (to ~ /^(https?|mailto):/) return to
    at = index(to, "#")
    page = at ? substr(to, 1, at - 1) : to
    if (page == "") page = FILENAME
    else if (page !~ /\.md$/ || page ~ /loom\//) return ""
    else if (FILENAME ~ /^answers/ && page !~ /^\.\./) page = "answers/" page
    return "#" part(page) (at ? "-" substr(to, at + 1) : "")
  }
  FNR == 1 { fence = 0; print "\n<section id=\"" part(FILENAME) "\">\n" }
  /^```/ { fence = !fence; if (fence && id != "") print "{#" id "}"; id = "" }
  fence { print; next }
  /^<!-- (code|cell|output) / { id = part(FILENAME) "-" $2 "-" $3 ($2 == "code" ? "" : "-" $4); gsub(/[^a-zA-Z0-9_-]/, "", id); if (ids[id]++) id = id "-" ids[id]; next }
  /^<!-- .* -->$/ { next }
  {
    gsub(/<!--[^>]*-->/, "")
    if (/^#+ /) { name = part(FILENAME) "-" anchor($0); if (ids[name]++) name = name "-" (ids[name] - 1); print $0 " {#" name "}"; next }
    line = ""
    while (match($0, /!?\[[^]\[]*\]\([^)]*\)/)) {
      link = substr($0, RSTART, RLENGTH)
      line = line substr($0, 1, RSTART - 1)
      $0 = substr($0, RSTART + RLENGTH)
      at = index(link, "](")
      to = substr(link, at + 2, length(link) - at - 2)
      if (link ~ /^!/) {
        name = to
        gsub(/.*\/|\.[a-z]*$/, "", name)
        name = "figure-" name
        line = line link (ids[name]++ ? "" : "{#" name "}")
      } else if ((to = target(to)) != "") line = line substr(link, 1, at) "(" to ")"
      else line = line substr(link, 2, at - 2)
    }
    print line $0
  }
  END { print "" }
END_OF_AWK
for page in $pages; do
  awk -f ../build/book/pages.awk "$page"
  printf '\n</section>\n'
done >../build/book/book.md

pandoc --from gfm+attributes+tex_math_dollars --to html5 --mathml --standalone --self-contained --toc --toc-depth 2 \
  --resource-path=.:answers --template loom/book.html --metadata title='vit.h, the book' \
  ../build/book/book.md -o ../$out/index.html 2>../build/book/pandoc.log || { cat ../build/book/pandoc.log; exit 1; }
grep -v 'This document format requires' ../build/book/pandoc.log
cd ..

# Every link leads to an anchor, and nothing is fetched.
awk '{
    line = $0
    while (match(line, / id="[^"]*"/)) { id[substr(line, RSTART + 5, RLENGTH - 6)] = 1; line = substr(line, RSTART + RLENGTH) }
    line = $0
    while (match(line, /href="#[^"]*"/)) { link[substr(line, RSTART + 7, RLENGTH - 8)] = 1; line = substr(line, RSTART + RLENGTH) }
    if (match($0, /(src|srcset|data)="(https?:)?\/\/[^"]*"|url\(["'"'"']?https?:|<link [^>]*href="http/)) { print "the book would fetch " substr($0, RSTART, RLENGTH); bad = 1 }
  }
  END { for (name in link) if (!(name in id)) { print "the book has no anchor #" name; bad = 1 }; exit bad }' $out/index.html || exit 1
echo "  $out/index.html: $(wc -c <$out/index.html) bytes, $(grep -c '<h1' $out/index.html) parts"
