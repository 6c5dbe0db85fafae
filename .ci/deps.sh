#!/bin/sh
# Finds what the programs around vit.h can use, and installs what is missing.
#
#   deps.sh stb              the folder that holds stb_image.h, or nothing
#   deps.sh openmp           the flags that switch OpenMP on, or nothing
#   deps.sh blas             the flags that bring OpenBLAS, or nothing
#   deps.sh report FLAGS DIR what there is, for `make help`
#   deps.sh install [test] [mpi] [browser] [quiet]
#        one line for each part: found, installed or missing, and what works
#        without it; `quiet` leaves out what was found, `test` adds what only
#        the tests need, `mpi` and `browser` what `make cluster` and `make browser`
#        do. Fails only when there is no C compiler.
#
# From the environment: CC, and STB, the folder of stb_image.h (0: do not use).

set -u
: "${CC:=cc}" "${STB:=}"

have() { command -v "$1" >/dev/null 2>&1; }

# Can this compiler make a program of this text?   links SOURCE COMPILER FLAGS...
links() {
  scratch=$(mktemp -d) || return 1
  printf '%b\n' "$1" >"$scratch/probe.c"
  compiler=$2
  shift 2
  $compiler "$scratch/probe.c" -o "$scratch/probe" "$@" >/dev/null 2>&1
  ok=$?
  rm -rf "$scratch"
  return $ok
}

find_stb() {
  if [ -n "$STB" ]; then
    set -- "$STB" "$STB/stb"
  else
    prefix=$(brew --prefix 2>/dev/null) || prefix=/usr/local
    set -- $(pkg-config --cflags-only-I stb 2>/dev/null | sed 's/-I//g') \
      /usr/include/stb /usr/include /usr/local/include/stb /usr/local/include \
      "$prefix/include/stb" "$prefix/include"
  fi
  for dir in "$@"; do
    if [ -f "$dir/stb_image.h" ]; then echo "$dir" && return; fi
  done
  if [ -n "$STB" ] && [ "$STB" != 0 ]; then
    echo "STB=$STB holds no stb_image.h; going on without it." >&2
  fi
}

find_openmp() {
  source='#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }'
  prefix=$(brew --prefix 2>/dev/null) || prefix=/usr/local
  libomp=$prefix/opt/libomp
  for flags in "-fopenmp" "-Xpreprocessor -fopenmp -lomp" \
    "-Xpreprocessor -fopenmp -isystem $libomp/include -L$libomp/lib -lomp"; do
    if links "$source" "$CC" $flags; then echo "$flags" && return; fi
  done
}

# Only for `make bench`, which compares with it.
find_blas() {
  source='#include <cblas.h>\nint main(void) { openblas_set_num_threads(1); return 0; }'
  packaged=$(pkg-config --cflags --libs openblas 2>/dev/null)
  prefix=$(brew --prefix 2>/dev/null) || prefix=/usr/local
  openblas=$prefix/opt/openblas
  for flags in "-lopenblas" "$packaged" "-isystem $openblas/include -L$openblas/lib -lopenblas" \
    "-isystem /usr/include/openblas -lopenblas"; do
    if [ -n "$flags" ] && links "$source" "$CC" $flags; then echo "$flags" && return; fi
  done
}

# ---- installing ----------------------------------------------------------------

manager=none
for m in apt-get dnf pacman brew; do
  if have $m; then manager=$m && break; fi
done
updated=0

# A command as root; a password is asked for only where somebody can type it.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif ! have sudo || [ "${refused:-}" ]; then return 1
  elif [ -t 0 ]; then sudo true || { refused=1; return 1; }; sudo "$@"
  else sudo -n "$@"; fi
}

# Install packages. Nothing is shown: the line that follows says how it went.
fetch() {
  case $manager in
  apt-get)
    apt='env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120'
    if [ $updated = 0 ]; then as_root $apt update; updated=1; fi
    as_root $apt install -y --no-install-recommends "$@" ;;
  dnf) as_root dnf install -q -y "$@" ;;
  pacman)
    if [ $updated = 0 ]; then as_root pacman -Sy --noconfirm; updated=1; fi
    as_root pacman -S --noconfirm --needed "$@" ;;
  brew) HOMEBREW_NO_AUTO_UPDATE=1 brew install -q "$@" ;;
  *) return 1 ;;
  esac >/dev/null 2>&1
}

# What stood in the way, if it is known.
why_not() {
  if [ $manager != brew ] && [ "$(id -u)" != 0 ] && ! as_root true 2>/dev/null; then
    echo " (not root, and sudo is not possible)"
  fi
}

say() { printf '  %-10s %-20s %s\n' "$1" "$2" "${3:-}"; }

# part NAME CHECK WITHOUT APT DNF PACMAN BREW
#   CHECK    a command that succeeds when the part is there
#   WITHOUT  what is the case as long as it is not
#   then its packages for each package manager, "" where it has none
part() {
  name=$1 check=$2 without=$3
  case $manager in
  apt-get) packages=$4 ;; dnf) packages=$5 ;; pacman) packages=$6 ;; brew) packages=$7 ;;
  *) packages= ;;
  esac
  if $check; then
    [ "$quiet" = 1 ] || say found "$name"
    return 0
  fi
  if [ -n "$packages" ]; then
    if [ "$(id -u)" != 0 ] && [ $manager != brew ] && have sudo && [ -t 0 ]; then
      echo "  sudo may ask for your password, to install $packages"
    fi
    fetch $packages
    if $check; then
      say installed "$name" "$packages"
      return 0
    fi
    say missing "$name" "could not install $packages$(why_not): $without"
  else
    say missing "$name" "no package for it is known here: $without"
  fi
  return 1
}

has_compiler() { links 'int main(void) { return 0; }' "$CC"; }
has_openmp() { [ -n "$(find_openmp)" ]; }
has_stb() { [ -n "$(find_stb 2>/dev/null)" ]; }
has_gnuplot() { have gnuplot; }
has_pandoc() { have pandoc; }
has_curl() { have curl || have wget; }
has_gzip() { have gzip; }
has_cxx() { have c++ || have g++ || have clang++; }
has_sanitizers() { links 'int main(void) { return 0; }' "$CC" -fsanitize=address,undefined; }
has_clang() { links 'int main(void) { return 0; }' clang; }
has_clang_openmp() { (CC=clang && has_openmp); }
has_arm_compiler() { links '#include <math.h>\nint main(void) { return 0; }' aarch64-linux-gnu-gcc -static -lm; }
has_qemu() { have qemu-aarch64 || have qemu-aarch64-static; }
has_simde() { echo '#include <simde/x86/avx512.h>' | $CC -E -x c - >/dev/null 2>&1; }
has_avx512() { $CC -march=native -dM -E -x c /dev/null 2>/dev/null | grep -q __AVX512F__ || has_simde; }
has_wasm() { have emcc && have node; }
has_emcc() { have emcc; }
has_chromium() { have chromium || have chromium-browser || have google-chrome; }
has_venv() { python3 -c 'import venv, ensurepip' 2>/dev/null; }
has_mingw() { have x86_64-w64-mingw32-gcc; }
has_mingw_cxx() { have x86_64-w64-mingw32-g++; }
has_tcc() { have tcc; }
has_s390x() { links '#include <math.h>\nint main(void) { return 0; }' s390x-linux-gnu-gcc -static -lm; }
has_qemu_s390x() { have qemu-s390x || have qemu-s390x-static; }
has_fuzzer() { links '#include <stdint.h>\n#include <stddef.h>\nint LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) { (void)p; return (int)(n & 0); }' clang -fsanitize=fuzzer; }
# The run-time library of the clang that is installed, such as libclang-rt-14-dev.
fuzzer_package() { clang -dumpversion 2>/dev/null | sed -n 's/^\([0-9]*\)\..*/libclang-rt-\1-dev/p'; }
has_mpi() { have mpirun && have mpicc; }
is_arm() { case $(uname -m) in aarch64 | arm64) true ;; *) false ;; esac; }

install_parts() {
  compiler=gcc
  case $CC in *clang*) compiler=clang ;; esac
  if ! part "C compiler $CC" has_compiler "nothing can be built" \
    "$compiler libc6-dev" "$compiler glibc-devel" "$compiler" ""; then
    if [ "$(uname)" = Darwin ]; then echo "  Try: xcode-select --install"; fi
    exit 1
  fi
  part OpenMP has_openmp "the programs run on one thread" \
    libomp-dev "libgomp libomp-devel" openmp libomp
  [ "${STB:-}" = 0 ] || part stb_image has_stb "no photos, no .gz files; STB=DIR says where stb_image.h is" \
    libstb-dev stb-devel stb stb
  part gnuplot has_gnuplot "figures stay scripts beside their data" \
    gnuplot-nox gnuplot gnuplot gnuplot
  part curl has_curl "MNIST cannot be fetched; digits are drawn instead" \
    "curl ca-certificates" "curl" curl curl
  part gzip has_gzip "MNIST cannot be unpacked; digits are drawn instead" \
    gzip gzip gzip gzip
  [ "$quiet" = 1 ] || part pandoc has_pandoc "make book makes no HTML; the pages are readable as they are" \
    pandoc pandoc pandoc-cli pandoc
  [ "$for_tests$for_mpi" = 00 ] || part MPI has_mpi "make cluster cannot run" \
    "openmpi-bin libopenmpi-dev" "openmpi openmpi-devel" openmpi open-mpi
  [ "$for_tests$for_browser" = 00 ] || part emcc has_emcc "make browser makes no page" \
    emscripten "" emscripten emscripten
  [ "$for_tests" = 1 ] || return 0

  part "C++ compiler" has_cxx "the tests of C++ are skipped" g++ gcc-c++ gcc ""
  part "sanitizers" has_sanitizers "the tests with sanitizers are skipped" \
    libc6-dev "libasan libubsan" "" ""
  part clang has_clang "the tests with clang are skipped" clang clang clang ""
  part "OpenMP for clang" has_clang_openmp "clang is tested without threads" \
    libomp-dev libomp-devel openmp libomp
  part "fuzzing with clang" has_fuzzer "the readers of files are not fuzzed" \
    "$(fuzzer_package)" compiler-rt compiler-rt ""
  part SIMDe has_avx512 "AVX-512 is not tested where the CPU lacks it" \
    libsimde-dev simde-devel simde simde
  part "emcc and node" has_wasm "the tests of WebAssembly are skipped" \
    "emscripten nodejs" "" "" ""
  part chromium has_chromium "the page is not tested" chromium chromium chromium ""
  part "Python's venv" has_venv "the page is not tested" "python3 python3-venv" python3 python ""
  part MinGW has_mingw "Windows is not tested" \
    "gcc-mingw-w64-x86-64" mingw64-gcc mingw-w64-gcc mingw-w64
  part "MinGW, C++" has_mingw_cxx "Windows is not tested in C++" \
    "g++-mingw-w64-x86-64" mingw64-gcc-c++ mingw-w64-gcc mingw-w64
  part tcc has_tcc "the tests with tcc are skipped" tcc tcc tcc ""
  part "s390x compiler" has_s390x "the order of bytes is not tested" \
    "gcc-s390x-linux-gnu libc6-dev-s390x-cross" gcc-s390x-linux-gnu "" ""
  part "qemu for s390x" has_qemu_s390x "the order of bytes is not tested" \
    qemu-user qemu-user qemu-user ""
  is_arm && return 0 # NEON is tested by the machine itself
  part "AArch64 compiler" has_arm_compiler "the tests of NEON are skipped" \
    "gcc-aarch64-linux-gnu libc6-dev-arm64-cross" gcc-aarch64-linux-gnu \
    aarch64-linux-gnu-gcc ""
  part qemu has_qemu "the tests of NEON are skipped" qemu-user qemu-user qemu-user ""
}

case ${1:-} in
stb) find_stb ;;
openmp) find_openmp ;;
blas) find_blas ;;
report)
  if has_compiler; then version=$($CC --version 2>/dev/null | head -n 1); else version="no: try make deps"; fi
  printf '  %-14s %s\n' \
    "compiler" "$version" \
    "OpenMP" "${2:-no: one thread}" \
    "stb_image" "${3:-no: no photos, no .gz files}" \
    "gnuplot" "$(gnuplot --version 2>/dev/null || echo 'no: figures stay scripts')" ;;
install)
  for_tests=0 for_mpi=0 for_browser=0 quiet=0
  for word in "$@"; do
    case $word in test) for_tests=1 ;; mpi) for_mpi=1 ;; browser) for_browser=1 ;; quiet) quiet=1 ;; esac
  done
  install_parts || true ;;
*)
  echo "usage: deps.sh stb | openmp | blas | report FLAGS DIR | install [test] [mpi] [browser] [quiet]" >&2
  exit 1 ;;
esac
