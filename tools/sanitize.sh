#!/bin/sh
# The C++ tests under address + undefined-behaviour sanitizers, then the concurrent ones under the thread sanitizer.
set -eu
cd "$(dirname "$0")/.."
jobs=$(nproc)
cmake --preset asan >/dev/null
cmake --build build/asan -j "$jobs"
UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 ctest --test-dir build/asan --output-on-failure -j "$jobs"
cmake --preset tsan >/dev/null
cmake --build build/tsan -j "$jobs" --target base_test runtime_test
for program in base_test runtime_test; do
  build/tsan/$program --gtest_brief=1
done
