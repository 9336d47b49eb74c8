#!/bin/sh
# Unpacks Debian's arm64 packages of the libraries that Lathe is built with into a folder of the build tree, for the toolchain file
# cmake/aarch64-linux-gnu.cmake. The system's own packages and its list of architectures stay as they are: apt works in folders of
# its own, with the sources that the system has, and nothing that it fetches is configured. The C and C++ libraries are the cross
# compiler's.
#   tools/aarch64_sysroot.sh FOLDER
set -eu
folder=$1
packages="libhwy-dev libhwy1 libfmt-dev libfmt9 libgtest-dev libgmock-dev libxxhash-dev libsodium-dev libflatbuffers-dev libprotozero-dev libcli11-dev nlohmann-json3-dev
  libre2-dev libre2-9 libutf8proc-dev libutf8proc2 libpng-dev libpng16-16 zlib1g-dev zlib1g libjpeg62-turbo-dev libjpeg62-turbo libwebp-dev libwebp7
  libopenjp2-7-dev libopenjp2-7"

stamp="$folder/.stamp-$(echo "$packages" | cat - "$0" | sha256sum | cut -c1-16)"
[ -e "$stamp" ] && exit 0
echo "setup: unpacking arm64 packages into $folder"
rm -rf "$folder"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial"
folder=$(cd "$folder" && pwd)
: > "$folder/apt/status"
log="$folder/apt/log"
arm64() {
  apt-get -q -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State="$folder/apt" -o Dir::State::status="$folder/apt/status" \
    -o Dir::State::lists="$folder/apt/lists" -o Dir::Cache="$folder/apt" -o APT::Sandbox::User= -o APT::Update::Post-Invoke= "$@" >> "$log" 2>&1 ||
    { cat "$log" >&2; echo "setup: arm64 packages could not be had; the sources of apt must offer this architecture" >&2; exit 3; }
}
arm64 update
# shellcheck disable=SC2086
(cd "$folder/apt" && arm64 download $packages)
for file in "$folder"/apt/*.deb; do dpkg-deb -x "$file" "$folder"; done
# As on a merged system: a library that a package puts into /lib is found beside the others.
if [ -d "$folder/lib" ]; then cp -a "$folder/lib/." "$folder/usr/lib/"; rm -r "$folder/lib"; ln -s usr/lib "$folder/lib"; fi
# Links that name a place of the whole system would lead to this machine's.
find "$folder" -type l -lname '/*' | while read -r link; do ln -sfn "$folder$(readlink "$link")" "$link"; done
rm -rf "$folder/apt"
: > "${stamp}"
