# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What pip calls to build from source (PEP 517, pyproject.toml): CMake makes what a wheel holds, make_wheel.py packs it.

The Debian packages of tools/setup.sh must be there; the PyPI packages are asked for below, or taken from this environment with --no-build-isolation,
which needs no network. `--config-settings cmake=-DNAME=VALUE` (repeatable) goes to CMake, `build-dir=FOLDER` names a build tree in the place of build/wheel.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import make_sdist
import make_wheel

ROOT = make_wheel.ROOT
TARGETS = ["lathe", "lathe_shared", "_lathe"]


def get_requires_for_build_wheel(config_settings: dict | None = None) -> list[str]:
    lines = [line for part in ("build", "wheel") for line in (ROOT / "requirements" / f"{part}.txt").read_text().splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "auditwheel"))]


def build(folder: Path, options: list[str]) -> None:
    for words in (
        ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DLATHE_TESTS=OFF", "-DLATHE_EXAMPLES=OFF",
         f"-DLATHE_PACKAGES={sys.prefix}", f"-DPython_EXECUTABLE={sys.executable}", *options],
        ["cmake", "--build", folder, "--target", *TARGETS],
    ):  # fmt: skip
        try:
            failed = subprocess.run([str(word) for word in words], check=False).returncode
        except FileNotFoundError as error:
            raise SystemExit(f"lathe: building from source needs {error.filename}: tools/setup.sh build installs what is missing") from None
        if failed:
            raise SystemExit(f"lathe: {words[0]} failed (above); docs/install.md lists what building from source needs")


def build_wheel(wheel_directory: str, config_settings: dict | None = None, metadata_directory: str | None = None) -> str:
    settings = config_settings or {}
    options = settings.get("cmake", [])
    options = [options] if isinstance(options, str) else list(options)
    folder = Path(settings.get("build-dir") or ROOT / "build" / "wheel").resolve()
    build(folder, options)
    return make_wheel.pack_own(folder, Path(wheel_directory)).name


def build_sdist(sdist_directory: str, config_settings: dict | None = None) -> str:
    return make_sdist.pack(Path(sdist_directory), make_wheel.NAME).name
