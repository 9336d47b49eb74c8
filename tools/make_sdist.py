# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Packs the tracked files into a source distribution. The same commit gives the same bytes.

    python tools/make_sdist.py OUT_FOLDER [NAME]

It is lathe-VERSION.tar.gz; pip installs it too (pyproject.toml, tools/build_backend.py), for which it holds PKG-INFO.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import make_wheel

ROOT = make_wheel.ROOT


def git(*words: str) -> str:
    try:
        return subprocess.run(["git", "-C", ROOT, *words], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", None) or error
        raise SystemExit(f"make_sdist: a source distribution is made in a clone, of the files that git knows: {told}") from None


def pack(out: Path, name: str = "lathe") -> Path:
    root = f"{name}-{make_wheel.version()}"
    names = sorted(filter(None, git("ls-files", "-z").split("\0")))
    time = int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct"))
    out.mkdir(parents=True, exist_ok=True)
    archive = out / f"{root}.tar.gz"
    fresh = archive.with_suffix(".part")
    with (
        open(fresh, "wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):

        def add(path: str, data: bytes, mode: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
            info = tarfile.TarInfo(f"{root}/{path}")
            info.size, info.mtime, info.mode, info.type, info.linkname = len(data), time, mode, kind, link
            tar.addfile(info, io.BytesIO(data))

        add("PKG-INFO", make_wheel.metadata().encode(), 0o644)
        for path in names:
            source = ROOT / path
            if source.is_symlink():
                add(path, b"", 0o777, tarfile.SYMTYPE, os.readlink(source))
            else:
                add(path, source.read_bytes(), 0o755 if os.access(source, os.X_OK) else 0o644)
    fresh.rename(archive)
    return archive


if __name__ == "__main__":
    made = pack(Path(sys.argv[1]), *sys.argv[2:])
    print(f"{made}: {made.stat().st_size / 1e6:.1f} MB")
