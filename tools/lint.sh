#!/bin/sh
# Formatting and static checks: clang-format and ruff over everything, clang-tidy over the C++ files that differ from the main branch.
#   tools/lint.sh            fails when something is found
#   tools/lint.sh --all      clang-tidy over every file (about 20 minutes on two cores)
#   tools/lint.sh --fix      reformats, and repairs what ruff can
set -eu
cd "$(dirname "$0")/.."
files=$(git ls-files '*.cpp' '*.h' '*.c' '*.cu' '*.cuh')
if [ "${1:-}" = "--fix" ]; then
  echo "$files" | xargs clang-format -i
  .venv/bin/ruff check --fix .
  .venv/bin/ruff format .
  exit 0
fi

status=0
echo "lint: clang-format"
echo "$files" | xargs clang-format --dry-run -Werror || status=1

if [ "${1:-}" = "--all" ]; then
  changed=$files
else
  base=$(git merge-base HEAD origin/main 2>/dev/null || git merge-base HEAD main 2>/dev/null || git rev-parse HEAD)
  changed=$(git diff --name-only --diff-filter=d "$base" -- '*.cpp' '*.c')
fi
# Files for wider instruction sets need g++'s flags; what no target compiles has no command.
checked=""
for file in $changed; do
  case $file in *_avx2.cpp | *_avx512.cpp | *_avx512bf16.cpp) continue ;; esac
  grep -q "/$file\"" build/release/compile_commands.json && checked="$checked $file"
done
echo "lint: clang-tidy over $(echo "$checked" | wc -w) files"
if [ -n "$checked" ]; then
  echo "$checked" | tr ' ' '\n' | grep . | xargs -P "$(nproc)" -n 4 clang-tidy -p build/release --quiet --warnings-as-errors='*' || status=1
fi

echo "lint: ruff"
.venv/bin/ruff check . || status=1
.venv/bin/ruff format --check . || status=1
exit $status
