#!/bin/sh
# get.sh DEST DIGITS: puts MNIST into DEST/mnist, or, where no mirror answers, drawn digits into DEST/digits.
#
#   DEST          folder for the data, normally `data`
#   DIGITS        the program built from digits.c
#   VIT_DATA      data that is already there, MNIST or drawn digits: nothing is fetched
#   VIT_MIRRORS   addresses to fetch from, instead of those below, separated by spaces
#
# A file gets its final name only after the SHA-256 of its unpacked bytes was right. What was fetched before an
# interruption stays in a .part file, and the next run goes on from there.

mirrors=${VIT_MIRRORS:-"https://ossci-datasets.s3.amazonaws.com/mnist
                        https://storage.googleapis.com/cvdf-datasets/mnist"}

# name, SHA-256 and size, unpacked
files="train-images-idx3-ubyte ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db 47040016
train-labels-idx1-ubyte 65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5 60008
t10k-images-idx3-ubyte 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7 7840016
t10k-labels-idx1-ubyte ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2 10008"
names=$(echo "$files" | cut -d ' ' -f 1)

fail() { echo "get.sh: $1" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
field() { echo "$files" | grep "^$1 " | cut -d ' ' -f "$2"; }

sha256() {
    if has sha256sum; then sha256sum <"$1"
    elif has shasum; then shasum -a 256 <"$1"
    else openssl dgst -sha256 <"$1" | sed 's/.*= *//'
    fi 2>/dev/null | cut -d ' ' -f 1
}

right() { [ -f "$mnist/$1" ] && [ "$(sha256 "$mnist/$1")" = "$(field "$1" 2)" ]; }

# all FOLDER TEST: does TEST hold for each of the four names in FOLDER?
all() { for n in $names; do "$2" "$1" "$n" || return 1; done; }
there() { [ -s "$1/$2" ] || [ -s "$1/$2.gz" ]; }
complete() { [ -f "$1/$2" ] && [ "$(wc -c <"$1/$2")" -eq "$(field "$2" 3)" ]; }
verified() { right "$2"; }

# Fetches $1 into $2, from where $2 ends. 0: done; 1: no answer or cut off; 2: the mirror refused; 3: cannot write.
download() {
    if has curl; then
        if [ -t 2 ]; then look='-#'; else look=-s; fi
        curl -fL $look --connect-timeout 5 --speed-limit 1000 --speed-time 15 -C - -o "$2" "$1"
        case $? in 0) return 0 ;; 22 | 33 | 36) return 2 ;; 23) return 3 ;; *) return 1 ;; esac
    fi
    limits='-T 15'
    if wget --help 2>&1 | grep -q -e --read-timeout; then
        limits='-t 1 --dns-timeout=5 --connect-timeout=2 --read-timeout=15'  # connect: for each address of a host
    fi
    wget -q -c $limits -O "$2" "$1" 2>/dev/null
    case $? in 0) return 0 ;; 3) return 3 ;; 8) return 2 ;; *) return 1 ;; esac
}

# Unpacks $mnist/$1.part, and gives it its name if its bytes are right.
unpack() {
    if ! gzip -dc <"$mnist/$1.part" >"$mnist/$1.new" 2>/dev/null; then
        rm -f "$mnist/$1.new"
        if gzip -t <"$mnist/$1.part" 2>/dev/null; then fail "cannot write $mnist/$1.new (disk full?)"; fi
        return 1
    fi
    if [ "$(sha256 "$mnist/$1.new")" = "$(field "$1" 2)" ]; then
        mv -f "$mnist/$1.new" "$mnist/$1" || fail "cannot rename $mnist/$1.new"
        rm -f "$mnist/$1.part"
        return 0
    fi
    rm -f "$mnist/$1.new"
    return 1
}

forget() { mirrors=$(for m in $mirrors; do [ "$m" = "$1" ] || echo "$m"; done); }

# Fetches $1 from the first mirror that has it; one that does not answer, or gives wrong bytes, is not asked again.
get() {
    if [ -f "$mnist/$1.kept" ]; then mv -f "$mnist/$1.kept" "$mnist/$1"; right "$1" && return 0; fi
    if [ -s "$mnist/$1.part" ] && unpack "$1"; then return 0; fi
    for mirror in $mirrors; do
        for attempt in 1 2; do
            old=; [ -s "$mnist/$1.part" ] && old=1
            echo "MNIST: ${old:+continuing }$1 from $mirror"
            download "${mirror%/}/$1.gz" "$mnist/$1.part"
            case $? in
                0) unpack "$1" && return 0
                   rm -f "$mnist/$1.part"
                   [ "$old" ] || { echo "MNIST: wrong bytes from $mirror"; forget "$mirror"; } ;;
                1) echo "MNIST: no answer, or cut off: $mirror"
                   forget "$mirror"
                   break ;;
                2) rm -f "$mnist/$1.part"
                   [ "$old" ] || echo "MNIST: refused by $mirror" ;;
                3) fail "cannot write $mnist/$1.part (disk full?)" ;;
            esac
            [ "$old" ] || break  # try again only if an old .part was to blame
        done
    done
    return 1
}

get_all() {
    for n in $names; do right "$n" || get "$n" || return 1; done
}

[ $# -eq 2 ] || fail "usage: sh get.sh DEST DIGITS"
dest=$1 digits=$2 mnist=$1/mnist

if [ "$VIT_DATA" ]; then
    for folder in "$VIT_DATA/mnist" "$VIT_DATA" "$VIT_DATA/digits"; do
        if all "$folder" there; then echo "data: using $folder (from VIT_DATA), nothing to fetch"; exit 0; fi
    done
    fail "VIT_DATA is $VIT_DATA, which holds neither MNIST nor digits; unset it to fetch MNIST into ./$dest"
fi

has sha256sum || has shasum || has openssl || fail "sha256sum, shasum or openssl is needed to check what is fetched"
if all "$mnist" verified; then echo "MNIST: complete in $mnist"; exit 0; fi

mkdir -p "$mnist" 2>/dev/null && [ -w "$mnist" ] || fail "cannot write in $mnist"
trap 'rm -f "$mnist"/*.new; exit 1' HUP INT TERM
if has curl || has wget; then
    if get_all; then echo "MNIST: complete in $mnist"; exit 0; fi
else
    echo "MNIST: neither curl nor wget is here to fetch it"
fi

# MNIST as a whole or not at all: a half of it would be mixed with digits. The next run goes on with what is there.
for n in $names; do [ ! -f "$mnist/$n" ] || mv -f "$mnist/$n" "$mnist/$n.kept"; done
rmdir "$mnist" 2>/dev/null
if all "$dest/digits" complete; then
    echo "MNIST could not be fetched; the drawn digits in $dest/digits will do"
    exit 0
fi
echo "MNIST could not be fetched; drawing digits into $dest/digits instead"
[ -x "$digits" ] || fail "there is no program $digits to draw them"
mkdir -p "$dest/digits" 2>/dev/null || fail "cannot write in $dest/digits"
case $digits in */*) ;; *) digits=./$digits ;; esac
exec "$digits" "$dest/digits"
