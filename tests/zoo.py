# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The zoo for Python tests: real exports whose weights were taken out (zoo.tar.xz) and seeded ones put back (zoo_fill.py). Both are looked
for in LATHE_ZOO, by default ../shared beside the repository. Unpacked and filled files are kept in a cache folder across runs."""

import fcntl
import importlib
import importlib.util
import os
import tarfile
import tempfile
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).resolve().parents[1]
IN_CI = os.environ.get("CI") == "true"
FULL = os.environ.get("LATHE_TEST_FULL") == "1"

# The models that this milestone must handle; `x.dynamo` is the newer exporter.
PART_6 = tuple(
    [
        "yolov5",
        "alexnet",
        "vgg",
        "resnet",
        "resnext",
        "densenet",
        "mobilenet",
        "mnasnet",
        "shufflenet",
        "squeezenet",
        "googlenet",
        "inception_v3",
        "efficientnet",
        "convnext",
        "unet",
        "dcgan",
        "espcn",
        "hf_vit",
        "rnn_",
    ]
)


def absent(what):
    """Skips with a clear word; on CI an absent part is a failure."""
    if IN_CI:
        pytest.fail(f"{what}, and CI=true forbids skipping")
    pytest.skip(what, allow_module_level=True)


def need(package, where):
    """The imported package, or absent()."""
    try:
        return importlib.import_module(package)
    except ImportError:
        absent(f"{package} is not installed ({where})")


def build_dir():
    return Path(os.environ.get("LATHE_BUILD_DIR", ROOT / "build" / "release"))


def program(name):
    """A built program, by the build folder that LATHE_BUILD_DIR names."""
    path = build_dir() / "bin" / name
    if not path.exists():
        absent(f"{path} is not built (set LATHE_BUILD_DIR to another build folder)")
    return path


def zoo_dir():
    folder = Path(os.environ.get("LATHE_ZOO", ROOT.parent / "shared"))
    for name in ("zoo.tar.xz", "zoo_fill.py"):
        if not (folder / name).exists():
            absent(f"no {name} in {folder} (set LATHE_ZOO)")
    return folder


@contextmanager
def locked(folder):
    """Test processes that run side by side fill the cache one after the other."""
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@lru_cache(maxsize=1)
def cache_dir():
    archive = (zoo_dir() / "zoo.tar.xz").stat()
    base = Path(os.environ.get("LATHE_TEST_CACHE", Path(tempfile.gettempdir()) / f"lathe-tests-{os.getuid()}"))
    folder = base / f"zoo-{archive.st_size}-{int(archive.st_mtime)}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@lru_cache(maxsize=1)
def _unpacked():
    folder = cache_dir()
    with locked(folder):
        if not (folder / ".complete").exists():
            with tarfile.open(zoo_dir() / "zoo.tar.xz") as archive:
                for member in archive:
                    if member.isfile() and member.name.endswith(".onnx"):
                        (folder / Path(member.name).name).write_bytes(archive.extractfile(member).read())
            (folder / ".complete").touch()
    return folder


def names():
    """Every model of the zoo, without suffix."""
    return sorted(p.name.removesuffix(".onnx") for p in _unpacked().glob("*.onnx"))


def part_6():
    return [n for n in names() if n.startswith(PART_6)]


def stripped(name):
    """The model as stored: structure and small constants, no weights."""
    return _unpacked() / f"{name}.onnx"


@lru_cache(maxsize=1)
def _fill():
    spec = importlib.util.spec_from_file_location("zoo_fill", zoo_dir() / "zoo_fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tensors(graph):
    """Every TensorProto of a graph and of the graphs nested in its nodes."""
    return _fill().tensors(graph)


def load_filled(name, seed=0):
    """A ModelProto with weights; another `seed` draws others from the same distributions."""
    model = onnx.load(stripped(name), load_external_data=False)
    if seed:
        for tensor in tensors(model.graph):
            for entry in tensor.external_data:
                if entry.key == "seed":
                    entry.value = str(int(entry.value) + 1000003 * seed)
    return _fill().fill(model)


def filled(name, seed=0):
    """A file with weights, kept in the cache."""
    folder = cache_dir() / f"seed-{seed}"
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        part = folder / f"{name}.{os.getpid()}.part"
        onnx.save(load_filled(name, seed), part)
        part.rename(path)
    return path
