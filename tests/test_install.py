# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What `make install` puts in place, moved elsewhere and used by find_package(lathe), by pkg-config and from C. The application is the one that
docs/install.md shows."""

import json
import os
import re
import shutil
from pathlib import Path

import onnx
import pytest

import models
from programs import compiler, started
from zoo import ROOT, absent, build_dir, program

PAGE = (ROOT / "docs" / "install.md").read_text()


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    program("lathe")
    folder = tmp_path_factory.mktemp("install")
    started("cmake", "--install", build_dir(), "--prefix", folder / "first", "--strip")
    return (folder / "first").rename(folder / "moved")


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    folder = tmp_path_factory.mktemp("application")
    for language, file in (("cmake", "CMakeLists.txt"), ("cpp", "first.cpp")):
        (folder / file).write_text(re.search(rf"```{language}\n(.*?)```", PAGE, re.S)[1])
    onnx.save(models.relu_add(), folder / "model.onnx")
    return folder


def by_cmake(source, build, prefix):
    options = [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_CXX_COMPILER={compiler('CXX')}", f"-DCMAKE_C_COMPILER={compiler('C')}", "-G", "Ninja"]
    if ccache := shutil.which("ccache"):
        options.append(f"-DCMAKE_CXX_COMPILER_LAUNCHER={ccache}")
    started("cmake", "-S", source, "-B", build, *options)
    started("cmake", "--build", build)


def pkg_config(prefix, *words):
    return started("pkg-config", *words, "lathe", PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig")).stdout.split()


def test_find_package(prefix, application, tmp_path):
    by_cmake(application, tmp_path / "build", prefix)
    assert started(tmp_path / "build" / "first", application / "model.onnx").stdout == "y: 2 axes, first value 2\n"
    done = started(tmp_path / "build" / "first", application / "absent.onnx", code=1)
    assert "absent.onnx" in done.stderr and not done.stdout
    used = started("ldd", tmp_path / "build" / "first").stdout
    assert f"liblathe.so.0 => {prefix}/lib/liblathe.so.0" in used


def test_pkg_config(prefix, application, tmp_path):
    assert pkg_config(prefix, "--modversion") == [re.search(r"^project\(lathe VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(), re.M)[1]]
    flags = [*pkg_config(prefix, "--cflags", "--libs"), f"-Wl,-rpath,{prefix}/lib"]
    started(compiler("CXX"), "-std=c++20", application / "first.cpp", "-o", tmp_path / "first", *flags)
    assert started(tmp_path / "first", application / "model.onnx").stdout == "y: 2 axes, first value 2\n"
    started(compiler("C"), "-std=c11", "-D_GNU_SOURCE", ROOT / "tests" / "c_api_test.c", "-o", tmp_path / "c", *flags, "-pthread")
    started(tmp_path / "c", cwd=tmp_path)


def test_the_examples_of_the_api(prefix, application, tmp_path):
    """The programs that docs/api.md shows."""
    page = (ROOT / "docs" / "api.md").read_text()
    flags = [*pkg_config(prefix, "--cflags", "--libs"), f"-Wl,-rpath,{prefix}/lib"]
    for language, in_cmake, standard, says in (("cpp", "CXX", "c++20", "y: float, 2 axes\n"), ("c", "C", "c11", "2 axes of type 1\n")):
        source = tmp_path / f"run.{language}"
        source.write_text(re.search(rf"```{language}\n(.*?)```", page, re.S)[1])
        started(compiler(in_cmake), f"-std={standard}", "-Wall", "-Wextra", "-Werror", source, "-o", tmp_path / language, *flags)
        assert started(tmp_path / language, application / "model.onnx", cwd=tmp_path).stdout == says
        assert "absent.onnx" in started(tmp_path / language, "absent.onnx", cwd=tmp_path, code=1).stderr


def test_the_example_builds_by_itself(prefix, tmp_path):
    if not list(Path("/usr/include").glob("png.h")):
        absent("libpng's headers are not installed (tools/setup.sh)")
    by_cmake(ROOT / "examples" / "yolov5" / "cpp", tmp_path / "build", prefix)
    detect = tmp_path / "build" / "bin" / "detect"
    assert "usage: detect" in started(detect, "--help").stdout
    (tmp_path / "no.engine").write_bytes(b"no engine")
    (tmp_path / "p.ppm").write_bytes(b"P6 2 2 255\n" + bytes(12))
    assert "no.engine" in started(detect, "--engine", tmp_path / "no.engine", "--source", tmp_path / "p.ppm", code=1).stderr


def test_the_library_shows_its_api_alone(prefix):
    library = prefix / "lib" / "liblathe.so"
    assert re.search(r"SONAME\s+liblathe\.so\.0$", started("objdump", "-p", library).stdout, re.M)
    names = re.findall(r"^\w* *[A-Za-z] (.*)$", started("nm", "-DC", "--defined-only", library).stdout, re.M)
    assert len(names) > 50 and any(name.startswith("lathe_engine_load") for name in names)
    strange = [n for n in names if not re.match(r"(lathe::|lathe_|LATHE_0\.1|(typeinfo|typeinfo name|vtable) for lathe::Error)", n)]
    assert not strange
    assert not [n for n in names if re.match(r"lathe::(ir|ops|plan|builder|runtime|cuda|cpu|os|passes|onnx|loops|engine)::", n)]


def test_the_command_runs_from_there(prefix, application, tmp_path):
    command = prefix / "bin" / "lathe"
    started(command, "build", application / "model.onnx", "-o", tmp_path / "m.engine", "--budget", "0", "-q", "--no-cache")
    done = started(command, "devices", "--json", LD_DEBUG="files")
    if (build_dir() / "lib" / "libdnnl.so.3").exists():
        assert json.loads(done.stdout)["cpu"]["onednn"][0].isdigit()
        assert f"calling init: {prefix}/lib/lathe/libdnnl.so.3" in done.stderr
    # No file that a compiler or a linker reads names the place where it was installed first, or this source tree.
    for file in [*prefix.rglob("*.cmake"), *prefix.rglob("*.pc"), command, prefix / "lib" / "liblathe.so"]:
        for place in (ROOT, prefix.with_name("first")):
            assert os.fsencode(place) + b"/" not in file.read_bytes(), f"{file} names {place}"
