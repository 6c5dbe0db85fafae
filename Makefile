# Builds the examples and the tests of vit.h. `make` alone lists what there is.
# vit.h itself needs no build: #include it, and link with -lm.

CFLAGS ?= -O2
BUILD ?= build
ifeq ($(origin CC),default)
CC := $(firstword $(foreach c,cc gcc clang,$(if $(shell command -v $(c) 2>&-),$(c))) cc)
endif
export CC CFLAGS STB

# The optional libraries: looked for once, and only when something is
# compiled, so that `make mnist` sees what `make deps` has just installed.
PROBE = CC='$(CC)' STB='$(STB)' sh .ci/deps.sh
STB_DIR = $(eval STB_DIR := $$(shell $$(PROBE) stb))$(STB_DIR)
OPENMP_FLAGS = $(eval OPENMP_FLAGS := $$(if $$(filter 0,$$(OPENMP)),,$$(shell $$(PROBE) openmp)))$(OPENMP_FLAGS)
BLAS_FLAGS = $(eval BLAS_FLAGS := $$(if $$(filter 0,$$(BLAS)),,$$(shell $$(PROBE) blas)))$(BLAS_FLAGS)
STB_SYSTEM = $(filter-out /usr/include /usr/local/include,$(STB_DIR))
STB_FLAGS = $(if $(STB_DIR),-DVIT_HAVE_STB $(STB_SYSTEM:%=-isystem %))

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion $(if $(WERROR),-Werror)
COMPILE = $(CC) -std=c99 $(WARNINGS) $(CFLAGS) $(CPPFLAGS) $(STB_FLAGS)
LINK = $(OPENMP_FLAGS) $(LDFLAGS) -lm

EXAMPLES := $(patsubst examples/%.c,$(BUILD)/%,$(filter-out %/14_cluster.c,$(sort $(wildcard examples/[0-9][0-9]_*.c))))
TESTS := $(patsubst tests/%.c,$(BUILD)/%,$(sort $(wildcard tests/test_*.c)))
SUBMAKE = $(MAKE) --no-print-directory
# under this name, a dry run does not run the tests
GNU_MAKE := $(MAKE)

help: ## this list
	@echo 'vit.h: a Vision Transformer in one C header'
	@echo
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { sub("%", "NN", $$1); printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Settings'
	@echo '  CC=clang      the compiler          CFLAGS="-O3"  its flags, -O2 if not set'
	@echo '  OPENMP=0      one thread            STB=DIR       where stb_image.h is'
	@echo '  VIT_DATA=DIR  data that you have    ARGS="..."    of make mnist: try --help'
	@echo '  DEPS=0        install nothing       PYTHON=...    with PyTorch, for make bench'
	@echo
	@echo 'This machine'
	@$(PROBE) report '$(OPENMP_FLAGS)' '$(STB_DIR)'

mnist: PRESET = quick
mnist: train-mnist ## train on MNIST, a minute or two: accuracy and figures

mnist-best: PRESET = best
mnist-best: train-mnist ## the same, longer: 80 epochs instead of 6

train-mnist:
	@[ '$(DEPS)' = 0 ] || sh .ci/deps.sh install quiet
	@+$(SUBMAKE) data
	@+$(SUBMAKE) $(BUILD)/09_mnist
	@$(BUILD)/09_mnist --preset $(PRESET) $(ARGS)

examples: $(EXAMPLES) ## build all examples and say what each one shows
	@for program in $(EXAMPLES); do \
	  sed -n '1{s|^/[/*] *||;s| *\*/$$||;p;}' examples/$${program##*/}.c | \
	  while read -r line; do printf '  %-22s %s\n' $$program "$$line"; done; done

figures: data examples ## run all examples but 12; what they draw is in out/NN-name/
	@for program in $(filter-out %/12_photos,$(EXAMPLES)); do name=$${program##*/}; \
	  dir=out/$$(echo $$name | tr _ -); mkdir -p $$dir; \
	  $$program >$$dir/output.txt 2>&1 || { cat $$dir/output.txt; exit 1; }; \
	  echo "  $$dir: $$(find $$dir -name '*.png' | grep -c .) figures, output.txt"; done

data: $(BUILD)/digits ## get MNIST, or draw digits where there is no network
	@sh data/get.sh data $(BUILD)/digits

# mpirun of Open MPI waits for root to say that he knows what he does.
RANKS ?= 2
MPIRUN = mpirun -q --oversubscribe $(if $(filter 0,$(shell id -u)),--allow-run-as-root)
cluster: ## train on RANKS=2 programs by MPI, with the bits of one
	@[ '$(DEPS)' = 0 ] || sh .ci/deps.sh install mpi quiet
	@+$(SUBMAKE) data
	@+$(SUBMAKE) $(BUILD)/14_cluster
	@$(MPIRUN) -n $(RANKS) $(BUILD)/14_cluster $(ARGS)

browser: ## the model in one page of HTML: out/15-browser/index.html
	@[ '$(DEPS)' = 0 ] || sh .ci/deps.sh install browser quiet
	@command -v emcc >/dev/null || { echo 'There is no emcc, so no page can be made. Try: make deps BROWSER=1'; exit 1; }
	@+$(SUBMAKE) $(BUILD)/digits $(BUILD)/09_mnist
	@BUILD='$(BUILD)' sh examples/15_browser/build.sh

book: book-pages ## make the book of tutorials/ as one page: out/book/index.html
	@sh tutorials/loom/html.sh

book-write: book-pages ## weave the pages and figures of tutorials/ anew
	@sh tutorials/loom/loom.sh write

check-%: ## try a kernel of your own on chapter NN, with OWN=my.c
	@sh tutorials/loom/check.sh $* '$(OWN)'

deps: ## install if missing: compiler, stb_image, gnuplot, curl, pandoc
	@sh .ci/deps.sh install $(if $(TEST),test) $(if $(MPI),mpi) $(if $(BROWSER),browser)

test: ## every test, in every way that vit.h can be compiled
	@[ '$(DEPS)' = 0 ] || sh .ci/deps.sh install test quiet
	@MAKE='$(GNU_MAKE)' sh tests/run.sh

asan: ## the tests with AddressSanitizer and UBSan alone
	@MAKE='$(GNU_MAKE)' sh tests/run.sh asan

# NATIVE=1: vit.h with all that this CPU has, such as AVX-512, in a folder of its own.
BENCH = $(BUILD)$(if $(NATIVE),/native)/bench
NATIVE_FLAGS = $(if $(NATIVE),BUILD='$(BUILD)/native' CFLAGS='$(CFLAGS) -march=native')
# OpenBLAS' idle threads fall asleep after 2^20 cycles: they would disturb others.
bench: ## time every kernel and model against the machine and its peers
	@+$(SUBMAKE) $(NATIVE_FLAGS) $(BENCH)
	@OPENBLAS_THREAD_TIMEOUT=20 $(BENCH) $(if $(NATIVE),--out out/bench-native) $(ARGS)

clean: ## remove build/ and out/; data/ stays
	@rm -rf $(BUILD) out

# ---- what tests/run.sh calls ---------------------------------------------------

tests: $(TESTS)
programs: $(EXAMPLES) $(BUILD)/digits

$(EXAMPLES): $(BUILD)/%: examples/%.c vit.h $(wildcard examples/*.h) $(BUILD)/.flags
$(TESTS): $(BUILD)/%: tests/%.c vit.h $(wildcard tests/*.h) $(BUILD)/.flags
$(BUILD)/digits: $(BUILD)/%: data/%.c $(BUILD)/.flags
$(BUILD)/bench: $(wildcard tests/bench/*.[ch]) examples/ladder.h vit.h $(BUILD)/.flags $(BUILD)/.blas
	@echo '  build   $@'
	@rm -f $@
	@$(COMPILE) $(if $(BLAS_FLAGS),-DBENCH_OPENBLAS) $(filter %.c,$^) -o $@ $(LINK) $(BLAS_FLAGS)
$(EXAMPLES) $(TESTS) $(BUILD)/digits:
	@echo '  build   $@'
	@rm -f $@
	@$(COMPILE) $< -o $@ $(LINK)

# mpicc is a compiler that knows where MPI is; it is told to use this one.
$(BUILD)/14_cluster: examples/14_cluster.c vit.h $(wildcard examples/*.h) $(BUILD)/.flags
	@command -v mpicc >/dev/null || { echo 'There is no mpicc, so nothing can be built for a cluster: make deps MPI=1'; exit 1; }
	@echo '  build   $@'
	@rm -f $@
	@OMPI_CC='$(CC)' MPICH_CC='$(CC)' mpicc $(patsubst $(CC)%,%,$(COMPILE)) $< -o $@ $(LINK)

book-pages: $(BUILD)/digits

# Changes when the command line does, so that `make CC=clang` builds anew.
$(BUILD)/.flags: FORCE
	@mkdir -p $(BUILD)
	@command -v $(firstword $(CC)) >/dev/null || \
	  { echo "There is no C compiler ($(CC)). Try: make deps"; exit 1; }
	@line='$(COMPILE) $(LINK)'; \
	  [ "$$(cat $@ 2>/dev/null)" = "$$line" ] || printf '%s\n' "$$line" >$@
$(BUILD)/.blas: FORCE
	@mkdir -p $(BUILD)
	@[ -f $@ ] && [ "$$(cat $@)" = '$(BLAS_FLAGS)' ] || echo '$(BLAS_FLAGS)' >$@

FORCE:
.PHONY: help mnist mnist-best train-mnist examples figures data cluster browser book book-write book-pages deps test asan bench clean tests programs FORCE
.DELETE_ON_ERROR:
