#!/bin/sh
# Fuzzes everything that reads files of strangers: fuzz.sh [seconds for each target]. With clang by libFuzzer, which searches by coverage
# and keeps what it finds in build/fuzz/corpus; else by the sanitizers of g++ and plain mutation.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
if command -v clang++ >/dev/null; then
  cmake --preset fuzz >/dev/null
else
  echo "fuzz: no clang++, so inputs are mutated without regard to coverage" >&2
  cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DLATHE_FUZZ=ON -DLATHE_SANITIZE="address;undefined" -DLATHE_PYTHON=OFF -DLATHE_ONEDNN=OFF -DLATHE_TESTS=OFF >/dev/null
fi
cmake --build build/fuzz --target fuzzers
for program in build/fuzz/*_fuzz; do
  name=$(basename "$program")
  corpus=build/fuzz/corpus/$name
  mkdir -p "$corpus"
  # Seeds beside the target, where it has some (src/<folder>/<name>_corpus); engines of released versions for the engine's.
  seeds=$(find src -type d -name "${name}_corpus")
  [ "$name" = engine_fuzz ] && [ -d tests/golden ] && seeds="$seeds tests/golden"
  [ "$name" = check_fuzz ] && seeds=src/onnx/reader_fuzz_corpus
  echo "fuzz: $name"
  if command -v clang++ >/dev/null; then
    "$program" -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=3000 "$corpus" $seeds
  else
    "$program" -seconds="$seconds" -runs=100000000 "$corpus" $seeds
  fi
done
