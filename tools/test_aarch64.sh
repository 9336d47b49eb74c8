#!/bin/sh
# What `make test-aarch64` runs: Lathe built for 64-bit Arm by Debian's cross compiler, and its tests under qemu-user: test_aarch64.sh [seed]
#   1. the C++ tests that a CPU can change, with a tenth of the long sweeps, chosen by the seed
#   2. tests/test_aarch64.py: references, engines of x86-64, engines of its own beside this machine's
# The programs of this machine come from the release build, which Makefile makes first.
set -eu
cd "$(dirname "$0")/.."
seed=${1:-$(date +%j)}
jobs=$(nproc)
step() { echo "aarch64: $(($(date +%s) - started)) s: $*"; }
started=$(date +%s)
# What the verifier or the builder finds in its own data is the same on every CPU and takes long: left out, as are the drivers without a GPU.
programs="base ir loops ops onnx passes plan regions kernels backend_cpu engine runtime api"

step "build"
cmake --preset aarch64 >build/aarch64.configure.log 2>&1 || { cat build/aarch64.configure.log; exit 3; }
# shellcheck disable=SC2046
cmake --build build/aarch64 -j "$jobs" --target lathe lathe_ops_tool c_api_test $(for name in $programs; do echo "${name}_test"; done)
step "C++ tests, a tenth of the sweeps by seed $seed"
# qemu has a thread of its own, ends where it may start no more, and its memory holds the code that it translated.
GTEST_FILTER=-ThreadPool.ALimitOfThreadsMakesASmallerPool:SteadyState.ProcessHasPoolAndCallersOnly:SteadyState.CyclesOfCreateRunDestroyDoNotGrow \
  LATHE_SWEEP="10:$seed" LATHE_CUDA_DRIVER=none ctest --test-dir build/aarch64 --output-on-failure -j "$jobs" --timeout 900 \
  -R "^($(echo "$programs c_api" | tr ' ' '|'))\$"
step "beside this machine's programs"
LATHE_SWEEP="10:$seed" LATHE_AARCH64=build/aarch64 .venv/bin/python -m pytest -q tests/test_aarch64.py
step "passed"
