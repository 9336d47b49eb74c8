# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs lathe_ops_tool and finds the zoo for the tests of the op definitions."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IN_CI = os.environ.get("CI") == "true"


def absent(what):
    """Skips with a clear word; on CI an absent part is a failure."""
    if IN_CI:
        pytest.fail(f"{what}, and CI=true forbids skipping")
    pytest.skip(what)


def program():
    build = os.environ.get("LATHE_BUILD_DIR", str(ROOT / "build" / "release"))
    path = Path(build) / "bin" / "lathe_ops_tool"
    if not path.exists():
        absent(f"{path} is not built (set LATHE_BUILD_DIR to another build folder)")
    return path


def ops_tool(*args, check=True):
    """The program's output: one JSON value a line."""
    result = subprocess.run([program(), *map(str, args)], capture_output=True, text=True, check=False)
    if check and result.returncode != 0:
        raise AssertionError(f"lathe_ops_tool {' '.join(map(str, args))}: {result.stderr or result.stdout}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def zoo_dir():
    """The folder that holds zoo.tar.xz and zoo_fill.py."""
    folder = Path(os.environ.get("LATHE_ZOO", ROOT.parent / "shared"))
    if not (folder / "zoo.tar.xz").exists():
        absent(f"no zoo.tar.xz in {folder} (set LATHE_ZOO)")
    return folder


def unpack_zoo(target, wanted):
    """Unpacks the members whose file name `wanted` accepts; returns {file name: path}."""
    found = {}
    with tarfile.open(zoo_dir() / "zoo.tar.xz") as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and wanted(name):
                member.name = name
                archive.extract(member, target, filter="data")
                found[name] = Path(target) / name
    return found
