#!/bin/sh
# Fuzzes everything that reads files of strangers: fuzz.sh [seconds for each target] [target ...]. With clang by libFuzzer, which searches by
# coverage and keeps what it finds in build/asan/corpus (findings in build/asan/findings); else by the sanitizers of g++ and plain mutation.
# FUZZ_SEED chooses libFuzzer's random numbers, else its clock does.
# An input that was a finding goes into src/<folder>/<target>_corpus with the fix: tests run those.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
. tools/sanitizer_options.sh
if command -v clang++ >/dev/null; then
  build=build/asan
  [ -e $build/build.ninja ] || cmake --preset asan -DLATHE_CUDA=OFF >/dev/null
else
  build=build/fuzz
  echo "fuzz: no clang++, so inputs are mutated without regard to coverage" >&2
  cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DLATHE_FUZZ=ON -DLATHE_SANITIZE="address;undefined" -DLATHE_PYTHON=OFF -DLATHE_ONEDNN=OFF \
    -DLATHE_TESTS=OFF -DLATHE_CUDA=OFF >/dev/null
fi
cmake --build $build -j "$(nproc)" --target fuzzers
for source in src/*/*_fuzz.cpp; do
  name=$(basename "$source" .cpp)
  case " $* " in "  " | *" $name "*) ;; *) continue ;; esac
  corpus=$build/corpus/$name
  mkdir -p "$corpus" $build/findings
  seeds=$(find src -type d -name "${name}_corpus")
  case $name in
    engine_fuzz) seeds="$seeds tests/golden" ;;
    check_fuzz) seeds=src/onnx/reader_fuzz_corpus ;;
    pipeline_fuzz)
      # Every graph of the rewrites' cases is a small model.
      mkdir -p $build/seeds/$name
      awk -v out="$build/seeds/$name/" '/^graph /{n++} /^graph /,/^}/{print > (out n ".txt")}' src/passes/*_cases.txt
      seeds="$seeds src/onnx/reader_fuzz_corpus $build/seeds/$name"
      ;;
  esac
  dictionary=""
  [ -e "src/$(basename "$(dirname "$source")")/$name.dict" ] && dictionary="-dict=src/$(basename "$(dirname "$source")")/$name.dict"
  echo "fuzz: $name"
  # shellcheck disable=SC2086
  if [ $build = build/asan ]; then
    $build/"$name" -seed="${FUZZ_SEED:-0}" -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=3000 -print_final_stats=0 -verbosity=0 $dictionary \
      -artifact_prefix=$build/findings/"$name"- "$corpus" $seeds
  else
    $build/"$name" -seconds="$seconds" -runs=100000000 "$corpus" $seeds
  fi
done
