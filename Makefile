# The two commands: `make demo` (the main job, end to end) and `make test`. Both set up what they need on first use.
SHELL := /bin/sh
PYTHON := .venv/bin/python
PRESET ?= release
BUILD := build/$(PRESET)
JOBS ?= $(shell nproc)
# ccache then knows the same file in another clone, and in an unpacked source distribution.
export CCACHE_BASEDIR ?= $(CURDIR)

.PHONY: help demo test zoo build setup lint bench sanitize fuzz clean docs cuda-compile-all test-gpu test-aarch64 gpu-bundle wheel wheel-test sdist install
help:
	@echo "make demo      PyTorch detector -> engine -> boxes on a picture -> speed table (installs PyTorch: see requirements/export.txt)"
	@echo "make test      everything that is tested, on the CPU"
	@echo "make build     the command build/release/bin/lathe and the Python package"
	@echo "make bench     paired measurements into bench/results"
	@echo "make zoo       every model of the zoo against ONNX Runtime, at two weight seeds, and docs/zoo.md (hours; goes on where it was stopped; LATHE_ZOO: where the zoo lies)"
	@echo "make lint      clang-format, ruff; clang-tidy over changed files (ALL=1: over every file)"
	@echo "make sanitize  the C++ tests under address, undefined-behaviour and thread sanitizers, and a short run of every fuzzer (clang)"
	@echo "make fuzz      everything that reads files of strangers, by libFuzzer (SECONDS_EACH=60; TARGETS=\"engine_fuzz ...\")"
	@echo "make cuda-compile-all  CUDA kernels against their limits, without a GPU: all for sm_90a, a tenth by turns for the others (ALL=1: all; SEED=...)"
	@echo "make test-gpu  on a machine with an NVIDIA GPU: kernels against the interpreter, engines, contexts, memory"
	@echo "make test-aarch64  cross-built for 64-bit Arm: C++ tests under qemu-user with a tenth of the sweeps (SEED=...), engines beside this machine's"
	@echo "make gpu-bundle  command, library and GPU tests in one archive for another x86-64 Linux: out/lathe-gpu.tar.xz"
	@echo "make wheel     out/wheels/lathe_engine-*.whl: command, library, Python package, oneDNN (make wheel-test: installed in empty environments)"
	@echo "make sdist     out/lathe-VERSION.tar.gz: the source, built offline once its dependencies are there; pip installs it too"
	@echo "make install   command, liblathe.so, headers, CMake package, lathe.pc into PREFIX (default /usr/local; DESTDIR is heeded)"
	@echo "make docs      regenerate docs/{ops,knobs,cli,python,api,zoo}.md and the tables of README and docs/gpu.md"

setup:
	@tools/setup.sh build

build: setup | build/
	@cmake --preset $(PRESET) $(CMAKE_FLAGS) > $(BUILD).configure.log 2>&1 || { cat $(BUILD).configure.log; exit 3; }
	@cmake --build $(BUILD) -j $(JOBS)

demo: build
	@tools/setup.sh test export bench
	@$(PYTHON) examples/yolov5/demo.py

test:
	@tools/setup.sh build test wheel $(if $(filter true,$(CI)),export)
	@$(MAKE) --no-print-directory build
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS) --timeout 600
	@$(PYTHON) -m pytest -q tests examples

zoo: build
	@tools/setup.sh test
	@$(PYTHON) tests/zoo_sweep.py $(MODELS)
	@$(PYTHON) tests/zoo_decoders.py
	@$(PYTHON) tests/zoo_sweep.py --summary
	@$(PYTHON) tools/make_docs.py

lint:
	@tools/setup.sh build test lint
	@mkdir -p build && cmake --preset release > build/release.configure.log && cmake --build build/release --target lathe_engine_schema > /dev/null
	@tools/lint.sh $(if $(ALL),--all)

bench: build
	@tools/setup.sh test bench
	@$(PYTHON) bench/run.py

docs: build
	@$(PYTHON) tools/make_docs.py

sanitize:
	@tools/setup.sh build sanitize
	@tools/sanitize.sh $(or $(SECONDS_EACH),20)

fuzz:
	@tools/setup.sh build sanitize
	@tools/fuzz.sh $(or $(SECONDS_EACH),60) $(TARGETS)

cuda-compile-all: setup | build/
	@cmake --preset $(PRESET) $(CMAKE_FLAGS) > $(BUILD).configure.log 2>&1 || { cat $(BUILD).configure.log; exit 3; }
	@cmake --build $(BUILD) -j $(JOBS) --target lathe_cuda_compile lathe_cuda_regions
	@$(PYTHON) tools/cuda_compile_all.py $(BUILD) --jobs $(JOBS) $(if $(ALL),--all) $(if $(SEED),--seed $(SEED))

test-gpu: build
	@cmake --build $(BUILD) -j $(JOBS) --target gpu_test
	@$(BUILD)/tests/gpu_test --gtest_brief=1

test-aarch64: build
	@tools/setup.sh build test aarch64
	@tools/test_aarch64.sh $(SEED)

gpu-bundle: build
	@cmake --build $(BUILD) -j $(JOBS) --target gpu_test
	@tools/gpu_bundle.sh $(BUILD) out/lathe-gpu.tar.xz

# Of the tree only what goes in, and the extension by the stable ABI where CMake found a Python for it.
wheel: | build/
	@tools/setup.sh build wheel
	@cmake --preset $(PRESET) $(CMAKE_FLAGS) > $(BUILD).configure.log 2>&1 || { cat $(BUILD).configure.log; exit 3; }
	@cmake --build $(BUILD) -j $(JOBS) --target lathe lathe_shared _lathe $$(grep -q '^-- Stable ABI' $(BUILD).configure.log && echo _lathe_abi3)
	@$(PYTHON) tools/make_wheel.py $(BUILD) out/wheels

wheel-test: wheel
	@tools/setup.sh test export
	@LATHE_WHEELS=out/wheels $(PYTHON) -m pytest -q tests/test_wheel.py

sdist:
	@python3 tools/make_sdist.py out

PREFIX ?= /usr/local
install: setup | build/
	@cmake --preset $(PRESET) $(CMAKE_FLAGS) > $(BUILD).configure.log 2>&1 || { cat $(BUILD).configure.log; exit 3; }
	@cmake --build $(BUILD) -j $(JOBS) --target lathe lathe_shared
	@cmake --install $(BUILD) --prefix $(PREFIX) --strip

clean:
	rm -rf build out

build/:
	@mkdir -p build
