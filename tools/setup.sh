#!/bin/sh
# Installs what Lathe needs on Debian 12: system packages, then a .venv with pinned Python packages.
#   tools/setup.sh build [test] [export] [bench] [lint] [sanitize] [wheel] [aarch64]
# Each part is done once: a stamp in .venv keeps the hash of what was asked for. Sizes are in requirements/README.md.
set -eu
cd "$(dirname "$0")/.."

packages="g++ cmake ninja-build make pkg-config ccache python3-venv python3-dev
  libprotozero-dev libflatbuffers-dev flatbuffers-compiler libhwy-dev libcli11-dev libfmt-dev nlohmann-json3-dev
  libxxhash-dev libsodium-dev libgtest-dev libre2-dev libutf8proc-dev
  libpng-dev zlib1g-dev libjpeg62-turbo-dev libwebp-dev libopenjp2-7-dev"
for part in "$@"; do
  case $part in
    lint) packages="$packages clang-format clang-tidy git" ;;
    aarch64) packages="$packages g++-aarch64-linux-gnu qemu-user" ;;
    sanitize) packages="$packages clang libclang-rt-14-dev llvm" ;; # sanitizers' runtimes and libFuzzer; names for addresses
    build | test | export | bench | wheel) ;;
    *) echo "setup: there is no part '$part'; the parts are build, test, export, bench, lint, sanitize, wheel, aarch64" >&2; exit 2 ;;
  esac
done

missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ]; then sudo=""; elif command -v sudo >/dev/null; then sudo="sudo"; else
    echo "setup: these Debian packages are missing and this user can neither be root nor use sudo:$missing" >&2
    exit 3
  fi
  echo "setup: installing Debian packages:$(echo "$missing" | tr '\n' ' ')"
  $sudo apt-get update -q >/dev/null
  # shellcheck disable=SC2086
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >/dev/null
fi

[ -x .venv/bin/python ] || { echo "setup: creating .venv"; python3 -m venv .venv; }
for part in "$@"; do
  [ "$part" = aarch64 ] && tools/aarch64_sysroot.sh build/aarch64-sysroot
  file="requirements/$part.txt"
  [ -e "$file" ] || continue
  stamp=".venv/.stamp-$part-$(sha256sum "$file" | cut -c1-16)"
  [ -e "$stamp" ] && continue
  echo "setup: installing Python packages of $file"
  .venv/bin/python -m pip install -q --disable-pip-version-check -r "$file"
  rm -f .venv/.stamp-"$part"-*
  touch "$stamp"
done
# The build tree's package is importable from the .venv.
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
echo "$PWD/build/release/python" > "$site/lathe-build.pth"
