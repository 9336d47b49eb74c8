#!/bin/sh
# Packs what a GPU machine needs for tests and measurements into one relocatable archive: command, library, GPU tests, the shared libraries that other
# systems may lack, the scripts of bench/gpu, and the Python package as sources beside Lathe's static libraries.
#   tools/gpu_bundle.sh BUILD_FOLDER ARCHIVE.tar.xz
# Unpack it anywhere: lathe-gpu/bin/lathe, lathe-gpu/bin/gpu_test, lathe-gpu/bench/gpu/evidence.py. The GPU's driver must be there; NVRTC where engines
# are built; g++ and Python's headers where the Python package is (lathe-gpu/python/build.sh does it, for whatever Python is there).
set -eu
build=$1
archive=$2
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/lathe-gpu
mkdir -p "$root/bin" "$root/lib" "$root/include" "$root/bench" "$root/tests" "$root/examples" "$root/python/lib" "$(dirname "$archive")"
cp "$build/bin/lathe" "$build/tests/gpu_test" "$root/bin/"
cp -P "$build"/liblathe.so* "$root/lib/" 2>/dev/null || true
cp -r "$source/include/lathe" "$root/include/"
# Everything that they link except the C and C++ run time, which every system has.
ldd "$root/bin/lathe" "$root/bin/gpu_test" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
  grep -v -E '/(libc|libm|libstdc\+\+|libgcc_s|libpthread|libdl|ld-linux[^/]*)\.so' | while read -r library; do cp -L "$library" "$root/lib/"; done
strip "$root"/bin/* "$root"/lib/liblathe.so* 2>/dev/null || true
cp -r "$source/bench/gpu" "$root/bench/"
mkdir "$root/tests/gpu"
cp "$source/tests/models.py" "$source/tests/zoo_inputs.py" "$root/tests/"
cp "$source/tests/gpu/interop.py" "$root/tests/gpu/"
cp -r "$source/examples/yolov5" "$root/examples/"

# The Python package: its sources, the headers that they include, nanobind, and the static libraries in the order in which they are linked.
nanobind=$("$source/.venv/bin/python" -c 'import nanobind, pathlib; print(pathlib.Path(nanobind.__file__).parent)' 2>/dev/null || true)
libraries=$(sed -n '/^build python\/lathe\/_lathe/,/^$/s/^  LINK_LIBRARIES = //p' "$build/build.ninja")
if [ -n "$nanobind" ] && [ -n "$libraries" ]; then
  cp -r "$source/python/lathe" "$source/python/src" "$root/python/"
  mkdir "$root/python/nanobind"
  cp -r "$nanobind/src" "$nanobind/include" "$nanobind/ext" "$root/python/nanobind/"
  (cd "$source/src" && find . -name '*.h' | tar cf - -T -) | (mkdir "$root/python/include" && tar xf - -C "$root/python/include")
  order=""
  for library in $libraries; do
    case $library in
    *libnanobind* | -Wl,-rpath*) ;;
    -*) order="$order $library" ;;
    *.a)
      case $library in /*) archived=$library ;; *) archived=$build/$library ;; esac
      [ -f "$root/python/lib/$(basename "$library")" ] || { cp "$archived" "$root/python/lib/" && strip --strip-debug "$root/python/lib/$(basename "$library")"; }
      order="$order lib/$(basename "$library")"
      ;;
    # Under the name that it is looked for by, as the command's are.
    *.so*) order="$order ../lib/$(objdump -p "$library" | awk '$1 == "SONAME" {print $2}')" ;;
    esac
  done
  cat > "$root/python/build.sh" <<EOF
#!/bin/sh
# Builds the package lathe for this machine's Python (PYTHON, default python3) beside this script: put the folder on PYTHONPATH.
set -eu
cd "\$(dirname "\$0")"
python=\${PYTHON:-python3}
headers=\$("\$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
suffix=\$("\$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
flags="-std=c++20 -O1 -fPIC -fvisibility=hidden -DNDEBUG -fno-strict-aliasing -Inanobind/include -Inanobind/ext/robin_map/include -I../include -Iinclude -I\$headers"
mkdir -p objects
pids=""
for file in nanobind/src/nb_combined.cpp src/*.cpp; do
  g++ \$flags -c "\$file" -o "objects/\$(basename "\$file" .cpp).o" &
  pids="\$pids \$!"
done
for pid in \$pids; do wait "\$pid"; done
g++ -shared -o "lathe/_lathe\$suffix" objects/*.o $order -Wl,--gc-sections -Wl,--exclude-libs,ALL -Wl,-rpath,'\$ORIGIN/../../lib'
EOF
  chmod +x "$root/python/build.sh"
fi
# A large window: the same kernels lie in several of the files.
tar cf - -C "$work" lathe-gpu | xz -T1 --lzma2=preset=6,dict=128MiB > "$archive"
echo "$archive: $(du -k "$archive" | cut -f1) KiB"
