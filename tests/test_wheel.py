# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The wheel in an environment that has nothing else, with no compiler on the path: command, package, neighbours in one process, old scripts.

LATHE_WHEELS names a folder of packed wheels (`make wheel-test`); without it one is packed from the build tree, hardly compressed, for this
Python alone."""

import glob
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

import models
from zoo import ROOT, absent, build_dir, filled, need, program

ort = need("onnxruntime", "requirements/test.txt")
sys.path.insert(0, str(ROOT / "tools"))
import make_wheel

SITE = next(path for path in sys.path if path.endswith("site-packages"))  # NumPy and the neighbours
QUICK = ["--budget", "0", "-q"]
# {model: extents of its free axes}
ZOO = {"squeezenet1_1": {"batch": 1, "height": 96, "width": 64}, "espcn.dynamo": {"batch": 2, "h": 24, "w": 40}, "rnn_lstm": {"batch": 3, "time": 7}}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    if folder := os.environ.get("LATHE_WHEELS"):
        found = sorted(Path(folder).resolve().glob("lathe_engine-*.whl"))
        assert found, f"there is no wheel in {folder}"
        return found
    program("lathe")
    return [make_wheel.pack_own(build_dir().resolve(), tmp_path_factory.mktemp("wheels"), level=1)]


class Environment:
    """A virtual environment with the wheel and nothing else. Its processes see no variable of this one."""

    def __init__(self, folder, wheel, python, *more):
        self.folder = folder
        self.bin = folder / "env" / "bin"
        subprocess.run([python, "-m", "venv", "--without-pip", folder / "env"], check=True)
        self.pip("--no-deps", "--no-index", wheel)
        for package in more:
            self.pip(package)

    def pip(self, *words):
        options = ["--python", self.bin / "python", "install", "-q", "--disable-pip-version-check", "--no-compile"]
        subprocess.run([sys.executable, "-m", "pip", *options, *words], check=True)

    def __call__(self, *words, code=0, **variables):
        environment = {"PATH": str(self.bin), "HOME": str(self.folder), "LATHE_CUDA_DRIVER": "none", **variables}
        words = [str(self.bin / words[0]), *map(str, words[1:])]
        done = subprocess.run(words, capture_output=True, text=True, cwd=self.folder, env=environment, timeout=300, check=False)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done


@pytest.fixture(scope="module")
def own(wheels, tmp_path_factory):
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    wheel = next((wheel for wheel in wheels if f"-{tag}-{tag}-" in wheel.name), None)
    assert wheel, f"no wheel for {tag} among {wheels}"
    return Environment(tmp_path_factory.mktemp("own"), wheel, sys.executable)


def draw(file, free):
    """Seeded inputs, and what ONNX Runtime makes of them."""
    random = np.random.default_rng(1)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    feeds = {}
    for entry in session.get_inputs():
        shape = [free[extent] if isinstance(extent, str) else extent for extent in entry.shape]
        feeds[entry.name] = random.integers(0, 10, shape) if entry.type == "tensor(int64)" else random.standard_normal(shape).astype(np.float32)
    return feeds, dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds)))


def same(got, wanted):
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        assert got[name].shape == value.shape
        assert np.abs(got[name] - value).max() <= 1e-3 * max(np.abs(value).max(), 1e-6), name


# The files ----------------------------------------------------------------------------------------------------------


def test_tag_is_what_auditwheel_finds(wheels):
    need("auditwheel", "requirements/wheel.txt")
    for wheel in wheels:
        text = subprocess.run([sys.executable, "-m", "auditwheel", "show", wheel], capture_output=True, text=True, check=True).stdout
        tag = re.search(r"platform\s+tag:?\s+\"?(manylinux_\w+)", text)
        assert tag and wheel.name.endswith(f"-{tag[1]}.whl"), text


def test_what_is_inside(wheels):
    for wheel in wheels:
        assert not os.environ.get("LATHE_WHEELS") or wheel.stat().st_size < 60e6
        names = zipfile.ZipFile(wheel).namelist()
        package = {name.removeprefix("lathe/") for name in names if name.startswith("lathe/")}
        tracked = {str(f.relative_to(ROOT / "python" / "lathe")) for f in (ROOT / "python" / "lathe").rglob("*") if f.suffix in (".py", ".pyi", ".typed")}
        assert tracked <= package
        assert {"compat/tensorrt/__init__.py", "compat/pycuda/autoinit.py", "bin/lathe", "lib/liblathe.so.0", "include/lathe/lathe.hpp"} <= package
        # Whose library is inside has its licence inside.
        licences = {"libdnnl": "onednn_cpu_gomp", "libgomp": "libgomp1", "libfmt": "libfmt", "libhwy": "libhwy", "liblathe": "LICENSE"}
        licences |= {"libre2": "libre2", "libutf8proc": "libutf8proc", "libpng16": "libpng", "libz": "zlib1g"}
        licences |= {"libjpeg": "libjpeg62-turbo", "libwebp": "libwebp", "libopenjp2": "libopenjp2-7"}
        for library in (name for name in package if name.startswith("lib/")):
            licence = licences[Path(library).name.split(".")[0]]
            assert any(re.search(rf"\.dist-info/licenses/{licence}(\.txt)?$", name) for name in names), library


# The command --------------------------------------------------------------------------------------------------------


def test_the_command_needs_nothing_else(own):
    assert own("lathe", "--version").stdout.strip() == f"lathe {make_wheel.version()}"
    done = own("lathe", "devices", "--json", LD_DEBUG="files")
    devices = json.loads(done.stdout)
    libraries = set(re.findall(r"calling init: (/\S+)", done.stderr))
    strange = [x for x in libraries if not x.startswith(str(own.folder)) and not make_wheel.SYSTEM.search(x)]
    # The launcher is Python: what Python itself links is the system's.
    assert not [x for x in strange if not x.startswith((sys.base_prefix, "/lib", "/usr/lib"))], strange
    for name in ("libfmt.so.9", "libhwy.so.1"):
        assert [x for x in libraries if x.endswith(name) and x.startswith(str(own.folder))], libraries
    if (build_dir() / "lib" / "libdnnl.so.3").exists():
        assert re.fullmatch(r"3\.\d+\.\d+", devices["cpu"]["onednn"])
        for name in ("libdnnl.so.3", "libgomp.so.1"):
            assert [x for x in libraries if x.endswith(name) and x.startswith(str(own.folder))], libraries


@pytest.mark.parametrize("name", ZOO)
def test_zoo_models_by_the_command(own, name):
    feeds, wanted = draw(filled(name), ZOO[name])
    for key, array in feeds.items():
        np.save(own.folder / f"{key}.npy", array)
    shutil.copyfile(filled(name), own.folder / "m.onnx")
    own("lathe", "check", "m.onnx")
    own("lathe", "simplify", "m.onnx", "s.onnx")
    own("lathe", "build", "s.onnx", "-o", "m.engine", *QUICK)
    own("lathe", "run", "m.engine", *(word for key in feeds for word in ("-i", f"{key}={key}.npy")), "-o", "y.npz")
    same(dict(np.load(own.folder / "y.npz")), wanted)


def test_what_needs_the_package_finds_it(own):
    """Through pip's command the environment's Python; through a link to the program itself too."""
    (own.folder / "s.py").write_text("import sys, tensorrt\nprint(sys.prefix, tensorrt.__version__)\n")
    inside = next((own.folder / "env").glob("lib/python3.*/site-packages/lathe/bin/lathe"))
    link = own.bin / "direct"
    link.symlink_to(inside)
    for command in ("lathe", "direct"):
        done = own(command, "python", "s.py", "--tensorrt", "10", PYTHONPATH=SITE)
        assert re.fullmatch(rf"{re.escape(str(own.folder / 'env'))} 10\.\S+", done.stdout.strip())
    link.unlink()


def test_doctor(own):
    """Knows the environment's Python, finds the library and oneDNN in the package, and misses what nothing brought."""
    facts = json.loads(own("lathe", "doctor", "--json").stdout)
    inside = str(own.folder / "env" / "lib")
    assert facts["able"] and facts["library"]["file"].startswith(inside) and facts["library"]["version"] == make_wheel.version()
    if (build_dir() / "lib" / "libdnnl.so.3").exists():
        assert facts["onednn"]["file"].startswith(inside)
    assert facts["python"]["program"].startswith(str(own.folder / "env"))
    assert {"numpy", "torch", "onnx", "onnxruntime"} <= {entry["what"] for entry in facts["missing"]}
    assert not facts["python"]["packages"] and facts["python"]["lathe"]["file"].startswith(inside)
    facts = json.loads(own("lathe", "doctor", "--json", PYTHONPATH=SITE).stdout)
    assert "numpy" in facts["python"]["packages"] and facts["python"]["lathe"]["file"].startswith(inside)


def test_signals_are_the_systems(own):
    """A closed pipe ends the command, as it ends others: the Python that starts it leaves nothing behind."""
    for command in (own.bin / "lathe", next((own.folder / "env").glob("lib/python3.*/site-packages/lathe/bin/lathe"))):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([command, "ops"], stdout=writer, stderr=subprocess.PIPE, cwd=own.folder, timeout=60, check=False)
        os.close(writer)
        assert done.returncode == -signal.SIGPIPE and not done.stderr, done


def test_nvidias_packages_beside_it_are_found(own):
    packages = Path(SITE) / "nvidia"
    if not list(packages.glob("cu1*/lib/libnvrtc.so.*")):
        pytest.skip("nvidia-cuda-nvrtc is not installed (requirements/build.txt: x86-64 alone)")
    assert "nvidia-cuda-nvrtc brings it" in json.loads(own("lathe", "devices", "--json").stdout)["cuda"]["nvrtc"]
    link = next((own.folder / "env").glob("lib/python3.*/site-packages")) / "nvidia"
    link.symlink_to(packages)
    try:
        assert re.fullmatch(r"1\d\.\d+", json.loads(own("lathe", "devices", "--json").stdout)["cuda"]["nvrtc"])
    finally:
        link.unlink()


def test_the_guides_commands(own):
    onnx.save(models.relu_add(), own.folder / "m.onnx")
    own("lathe", "install-shims", own.bin)
    own("onnx2trt", "m.onnx", "-o", "m.trt", "-b", "1")
    assert "PASSED" in own("trtexec", "--loadEngine=m.trt", "--iterations=2", "--duration=0", "--warmUp=0").stdout


# The package --------------------------------------------------------------------------------------------------------

NEIGHBOURS = ["torch", "onnx", "onnxruntime", "google.protobuf"]
BESIDE = """
import importlib, json, sys
before, after, file, feeds = json.loads(sys.argv[1])
for name in before:
    importlib.import_module(name)
import numpy as np
import lathe
assert lathe.__file__.startswith(sys.prefix), lathe.__file__
feeds = dict(np.load(feeds))
first = lathe.build(file, budget=0).run(feeds)
modules = [importlib.import_module(name) for name in before + after]
# The neighbours still work, and so does a second engine after them.
import onnx, onnxruntime
onnx.checker.check_model(onnx.load(file), full_check=True)
wanted = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, feeds)
if "torch" in before + after:
    import torch
    assert torch.nn.functional.conv2d(torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3)).sum() == 4 * 6 * 6 * 27
second = lathe.build(onnx.load(file), budget=0, cache=False).run(feeds)
for got in (first, second):
    for array, right in zip(got.values(), wanted):
        assert np.abs(array - right).max() <= 1e-3 * np.abs(right).max()
try:
    lathe.load("absent.engine")
except lathe.Error as error:  # exceptions find their way in company too
    assert error.code
else:
    raise AssertionError
print(lathe.__version__)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_neighbours_in_one_process(own, when):
    there = []
    for name in NEIGHBOURS:
        try:
            importlib.metadata.distribution(name.split(".")[-1])
        except importlib.metadata.PackageNotFoundError:
            if os.environ.get("CI") == "true":
                absent(f"{name} is not installed (requirements/export.txt)")
            continue
        there.append(name)
    file = filled("espcn.dynamo")
    np.savez(own.folder / "feeds.npz", **draw(file, ZOO["espcn.dynamo"])[0])
    lists = [there, []] if when == "before" else [[], there]
    done = own("python", "-c", BESIDE, json.dumps([*lists, str(file), "feeds.npz"]), PYTHONPATH=SITE)
    assert done.stdout.strip() == make_wheel.version()


def test_an_old_script(own):
    """PyCUDA and TensorRT 8 by name, with Lathe in their place."""
    x = np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32)
    np.savez(own.folder / "in.npz", x=x)
    onnx.save(models.relu_add(), own.folder / "r.onnx")
    script = ROOT / "tests" / "compat_scripts" / "classic_8.py"
    words = ["r.onnx", "r.trt", "in.npz", "out.npz", "--profile", "x:1x4:2x4:4x4", "--sync", "--tensorrt", "8", "--budget", "0"]
    own("lathe", "python", script, *words, PYTHONPATH=SITE)
    np.testing.assert_array_equal(np.load(own.folder / "out.npz")["y"], models.relu_add_answer(x))


def test_the_library(own):
    """liblathe.so by itself, beside the extension in one process."""
    code = "import ctypes, sys, lathe; x = ctypes.CDLL(lathe.__path__[0] + '/lib/liblathe.so.0', ctypes.RTLD_GLOBAL); x.lathe_version.restype = ctypes.c_char_p; print(x.lathe_version().decode(), lathe.__version__)"
    assert own("python", "-c", code).stdout.split() == [make_wheel.version()] * 2


# The stable ABI -----------------------------------------------------------------------------------------------------


def later_pythons():
    """CPython 3.12 and newer ones, where they are: on the path or pyenv's."""
    names = [f"python3.{minor}" for minor in range(12, 16)]
    for python in [*filter(None, map(shutil.which, names)), *glob.glob(os.path.expanduser("~/.pyenv/versions/3.1[2-9].*/bin/python3"))]:
        done = subprocess.run([python, "-c", "import sys; print(sys.version_info >= (3, 12))"], capture_output=True, text=True, check=False)
        if done.stdout.strip() == "True":
            yield python


def test_one_wheel_for_later_pythons(wheels, tmp_path):
    wheel = next((wheel for wheel in wheels if "-cp312-abi3-" in wheel.name), None)
    if wheel is None:
        pytest.skip("no wheel by the stable ABI is packed here (make wheel-test packs one where there is a CPython from 3.12 on)")
    file = filled("espcn.dynamo")
    feeds, wanted = draw(file, ZOO["espcn.dynamo"])
    np.savez(tmp_path / "feeds.npz", **feeds)
    code = """
import sys, numpy as np, lathe
got = lathe.build(sys.argv[1], budget=0).run(dict(np.load(sys.argv[2])))
np.savez(sys.argv[3], **got)
"""
    pythons = list(later_pythons())
    assert pythons
    for index, python in enumerate(pythons):
        (tmp_path / str(index)).mkdir()
        environment = Environment(tmp_path / str(index), wheel, python, "numpy")
        assert environment("lathe", "--version").stdout.strip() == f"lathe {make_wheel.version()}"
        environment("python", "-c", code, file, tmp_path / "feeds.npz", tmp_path / "y.npz")
        same(dict(np.load(tmp_path / "y.npz")), wanted)
