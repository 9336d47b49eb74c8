#!/bin/sh
# Everything in C++ that is tested, under sanitizers of clang, and a short run of every fuzzer: sanitize.sh [seconds for each fuzzer]
#   1. one build with address, undefined behaviour and coverage (preset asan): the tests, leaks included, then the fuzzers
#   2. a small one for threads (preset tsan): the pool, and many contexts on many threads, on the CPU and on a driver without a GPU
# CUDA kernels are not compiled here. Where the release build has them they are taken from there; without, the tests of the driver that need
# one are skipped, and say so. See tools/README.md.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-20}
jobs=$(nproc)
. tools/sanitizer_options.sh

configure() {
  cuda=OFF
  if [ -n "$(find build/release/gen/cuda -name '*.key' 2>/dev/null | head -1)" ]; then
    cuda=ON
    mkdir -p "build/$1/gen/cuda"
    # Each is asked for once all the same; its key then tells whether the copy is what its source says.
    cp -n build/release/gen/cuda/*.bin build/release/gen/cuda/*.key "build/$1/gen/cuda/"
  else
    echo "sanitize: no CUDA kernels in build/release: the tests that load one are skipped"
  fi
  cmake --preset "$1" -DLATHE_CUDA=$cuda >"build/$1.configure.log" 2>&1 || { cat "build/$1.configure.log"; exit 3; }
}

step() { echo "sanitize: $(($(date +%s) - started)) s: $*"; }
started=$(date +%s)
mkdir -p build

step "address and undefined behaviour: build"
configure asan
ASAN_OPTIONS=detect_leaks=0 cmake --build build/asan -j "$jobs" --target checked
step "address and undefined behaviour: tests"
ctest --test-dir build/asan --output-on-failure -j "$jobs" --timeout 1200
step "fuzzers, $seconds s each"
FUZZ_SEED=1 tools/fuzz.sh "$seconds"

step "threads: build"
configure tsan
cmake --build build/tsan -j "$jobs" --target base_test runtime_test api_test cuda_engine_test
step "threads: tests"
build/tsan/base_test --gtest_brief=1
build/tsan/runtime_test --gtest_brief=1
build/tsan/api_test --gtest_brief=1
build/tsan/tests/cuda_engine_test --gtest_brief=1
step "nothing found"
