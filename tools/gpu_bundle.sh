#!/bin/sh
# Packs the command, the library, the GPU tests and the shared libraries that other systems may lack into one relocatable archive.
#   tools/gpu_bundle.sh BUILD_FOLDER ARCHIVE.tar.xz
# Unpack it anywhere: lathe-gpu/bin/lathe, lathe-gpu/bin/gpu_test. The GPU's driver must be there; NVRTC where engines are built.
set -eu
build=$1
archive=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/lathe-gpu
mkdir -p "$root/bin" "$root/lib" "$root/include" "$(dirname "$archive")"
cp "$build/bin/lathe" "$build/tests/gpu_test" "$root/bin/"
cp -P "$build"/liblathe.so* "$root/lib/" 2>/dev/null || true
cp -r "$(dirname "$0")/../include/lathe" "$root/include/"
# Everything that they link except the C and C++ run time, which every system has.
ldd "$root/bin/lathe" "$root/bin/gpu_test" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
  grep -v -E '/(libc|libm|libstdc\+\+|libgcc_s|libpthread|libdl|ld-linux[^/]*)\.so' | while read -r library; do cp -L "$library" "$root/lib/"; done
strip "$root"/bin/* 2>/dev/null || true
tar cJf "$archive" -C "$work" lathe-gpu
echo "$archive: $(du -k "$archive" | cut -f1) KiB"
