# What weave.awk and prose.awk share.

BEGIN { NUMBER = "[0-9][0-9,]*(\\.[0-9]+)?(e[-+]?[0-9]+)?" }

# One sentence: file, line, what is wrong, the cure.
function fail(what, cure) {
  printf "%s:%d: %s; %s\n", FILENAME, FNR, what, cure >"/dev/stderr"
  bad = 1
}

function load(file,   line, n) { # text[file, 1 .. count[file]]
  if (file in count) return count[file] > 0
  while ((getline line <file) > 0) text[file, ++n] = line
  close(file)
  count[file] = n + 0
  return n > 0
}

# The words of a mark: arg[1 .. args]. "..." is one word. What follows from, to,
# in, after and but is an option; bare and volatile are switches.
function parse(s,   word, option) {
  split("", arg)
  split("", opt)
  args = 0
  while (match(s, /"[^"]*"|[^ ]+/)) {
    word = substr(s, RSTART, RLENGTH)
    s = substr(s, RSTART + RLENGTH)
    if (option) {
      gsub(/^"|"$/, "", word)
      opt[option] = word
      option = ""
    } else if (word ~ /^(from|to|in|after|but)$/) option = word
    else if (word ~ /^(bare|volatile)$/) opt[word] = 1
    else {
      gsub(/^"|"$/, "", word)
      arg[++args] = word
    }
  }
}

# The numbers in s, without commas; returns how many.
function numbers(s, list,   n) {
  split("", list)
  while (match(s, NUMBER)) {
    list[++n] = substr(s, RSTART, RLENGTH)
    s = substr(s, RSTART + RLENGTH)
    gsub(/,/, "", list[n])
  }
  return n + 0
}

function decimals(x) {
  sub(/e.*/, "", x)
  return x ~ /\./ ? length(x) - index(x, ".") : 0
}

# Does a block of code begin or end in this line? Within one, fence is its mark.
function is_fence(line,   mark) {
  mark = substr(line, 1, 3)
  if (mark !~ /^(```|~~~)$/ || (fence != "" && fence != mark)) return 0
  fence = fence == "" ? mark : ""
  return 1
}
