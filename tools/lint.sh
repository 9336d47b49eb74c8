#!/bin/sh
# Formatting and static checks. `tools/lint.sh --fix` rewrites.
set -eu
cd "$(dirname "$0")/.."
files=$(git ls-files '*.cpp' '*.h' '*.hpp')
if [ "${1:-}" = "--fix" ]; then
  command -v clang-format >/dev/null && echo "$files" | xargs clang-format -i
  .venv/bin/ruff check --fix . && .venv/bin/ruff format .
  exit 0
fi
status=0
if command -v clang-format >/dev/null; then
  echo "$files" | xargs clang-format --dry-run -Werror || status=1
else
  echo "lint: clang-format is not installed (Debian package clang-format): C++ formatting was not checked"
fi
if command -v clang-tidy >/dev/null && [ -e build/release/compile_commands.json ]; then
  git ls-files 'src/*.cpp' | grep -v -E '_(avx2|avx512|avx512bf16)\.cpp$' | xargs clang-tidy -p build/release --quiet || status=1
else
  echo "lint: clang-tidy or build/release is missing: static checks were not run"
fi
.venv/bin/ruff check . || status=1
exit $status
