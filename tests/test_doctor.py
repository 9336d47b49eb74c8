# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""`lathe doctor`: what it finds, what it misses, and that nothing broken breaks it."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from zoo import absent, build_dir, program


def doctor(*words, code=0, **variables):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LATHE_")}
    environment = {**clean, "LATHE_CUDA_DRIVER": "none", "LATHE_PYTHON": sys.executable, **variables}
    done = subprocess.run([program("lathe"), "doctor", *words], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stderr == ""
    return done.stdout


def facts(code=0, **variables):
    return json.loads(doctor("--json", code=code, **variables))


def missing(found):
    return {entry["what"] for entry in found["missing"]}


def cut(source, target):
    """A library that ends in its middle: opening it is a bus error."""
    data = source.read_bytes()
    target.write_bytes(data[: len(data) // 3])
    return str(target)


def test_what_is_here(tmp_path):
    found = facts(LATHE_CACHE_DIR=str(tmp_path / "cache"))
    assert found["able"] and found["self_test"]["passed"]
    assert f"lathe {found['version']}" in subprocess.run([program("lathe"), "--version"], capture_output=True, text=True, check=True).stdout
    assert found["command"]["file"] == str(program("lathe").resolve()) and re.fullmatch(r"\d+\.\d+", found["engine_format"])
    assert found["library"]["found"] and found["library"]["version"] == found["version"] and found["library"]["file"].startswith(str(build_dir().resolve()))
    assert found["cpu"]["threads"] >= 1 and found["cpu"]["allowed"] == len(os.sched_getaffinity(0)) and found["cpu"]["level"] in found["cpu"]["features"]
    assert 0 < found["memory"]["available_bytes"] <= found["memory"]["total_bytes"]
    assert found["cache"] == {**found["cache"], "there": False, "writable": True, "files": 0} and found["cache"]["free_bytes"] > 0
    assert not (tmp_path / "cache").exists()  # looking makes nothing
    assert found["python"]["program"] == sys.executable and found["python"]["why"] == "the knob LATHE_PYTHON"
    assert found["python"]["lathe"]["version"] == found["version"] and "onnx" in found["python"]["packages"]
    assert found["knobs"].keys() == {"LATHE_CUDA_DRIVER", "LATHE_PYTHON", "LATHE_CACHE_DIR"}
    if (build_dir() / "lib" / "libdnnl.so.3").exists():
        assert re.fullmatch(r"3\.\d+\.\d+", found["onednn"]["version"]) and found["onednn"]["file"].startswith("/")
    for entry in found["missing"]:
        assert entry["needed_for"] and entry["install"] and not entry["required"]


def test_the_report_says_the_same():
    text = doctor()
    found = facts()
    for part in (found["version"], found["cpu"]["model"], found["command"]["file"], found["cache"]["folder"], found["python"]["program"]):
        assert part in text
    assert {line[2:] for line in re.findall(r"^  .*(?=\n    for )", text, re.M)} == missing(found)
    assert text.endswith("Engines can be built and run on this CPU.\nErrors that are met most, with causes and remedies: docs/troubleshooting.md\n")


def test_a_cache_is_measured(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_bytes(bytes(1000))
    (tmp_path / "b").write_bytes(bytes(24))
    cache = facts(LATHE_CACHE_DIR=str(tmp_path))["cache"]
    assert (cache["there"], cache["bytes"], cache["files"], cache["writable"]) == (True, 1024, 2, True)
    found = facts(LATHE_CACHE_DIR="/proc/self/cache")
    assert not found["cache"]["writable"] and "a writable cache folder" in missing(found)


def test_knobs_switch_off():
    found = facts(LATHE_ONEDNN="none", LATHE_NVRTC="none", LATHE_CUBLASLT="none", LATHE_CUDNN="none", LATHE_CPU_FEATURES="generic", LATHE_THREADS="1")
    assert not {"oneDNN", "NVRTC", "cuBLASLt", "cuDNN", "the NVIDIA driver"} & missing(found)  # as asked for
    assert found["cpu"]["level"] == "generic" and found["cpu"]["threads"] == 1 and "hardware" in found["cpu"]


def test_a_driver_and_its_gpu():
    """The driver without a GPU that the tests have stands in for one."""
    fake = build_dir() / "tests" / "liblathe_fake_cuda.so"
    if not fake.exists():
        absent(f"{fake} is not built")
    found = facts(LATHE_CUDA_DRIVER=str(fake))
    assert found["cuda"]["driver"]["found"] and found["cuda"]["driver"]["file"] == str(fake.resolve())
    (device, *_) = found["cuda"]["devices"]
    assert device["device"] == "cuda:0" and device["arch"].startswith("sm_") and device["memory_bytes"] > 0
    kernels = found["cuda"]["kernels"]
    assert (kernels["images"] > 0) == device["supported"] and ("CUDA kernels in this build" in missing(found)) == (kernels["images"] == 0)
    assert device["name"] in doctor(LATHE_CUDA_DRIVER=str(fake))


@pytest.mark.parametrize("knob", ["LATHE_CUDA_DRIVER", "LATHE_NVRTC", "LATHE_CUBLASLT", "LATHE_CUDNN"])
def test_broken_libraries_of_nvidias(tmp_path, knob):
    part = {"LATHE_CUDA_DRIVER": "driver", "LATHE_NVRTC": "nvrtc", "LATHE_CUBLASLT": "cublaslt", "LATHE_CUDNN": "cudnn"}[knob]
    whole = (build_dir() / "liblathe.so").resolve()
    (tmp_path / "text.so").write_text("not a library\n" * 10)
    for file, words in (
        (cut(whole, tmp_path / "cut.so"), "signal|too short|invalid"),
        (str(tmp_path / "text.so"), "invalid ELF"),
        (str(tmp_path / "none.so"), "No such file"),
    ):
        found = facts(**{knob: file})
        assert not found["cuda"][part]["found"] and re.search(words, found["cuda"][part]["why_none"]), found["cuda"][part]
        assert found["able"] and missing(found)


def test_a_broken_onednn_is_what_the_cpu_needs(tmp_path):
    whole = (build_dir() / "lib" / "libdnnl.so.3").resolve()
    if not whole.exists():
        pytest.skip("oneDNN is not in this build")
    file = cut(whole, tmp_path / "libdnnl.so.3")
    found = facts(code=3, LATHE_ONEDNN=file)
    assert not found["able"] and [e["what"] for e in found["missing"] if e["required"]] == ["a sound oneDNN"]
    assert "can NOT be built and run" in doctor(code=3, LATHE_ONEDNN=file)


def test_pythons(tmp_path):
    found = facts(LATHE_PYTHON=str(tmp_path / "absent"))
    assert not found["python"]["found"] and "Python 3.11 or newer" in missing(found) and found["able"]
    odd = tmp_path / "odd"
    odd.write_text("#!/bin/sh\necho no JSON\n")
    odd.chmod(0o755)
    assert "cannot be read" in facts(LATHE_PYTHON=str(odd))["python"]["why_none"]
    # One that has NumPy's neighbours, but no package of Lathe's: the command lies beside none then.
    (tmp_path / "bin").mkdir()
    shutil.copy(program("lathe"), tmp_path / "bin" / "lathe")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LATHE_")}
    done = subprocess.run([tmp_path / "bin" / "lathe", "doctor", "--json"], capture_output=True, text=True, check=False,
                          env={**clean, "LATHE_CUDA_DRIVER": "none", "LATHE_PYTHON": "/usr/bin/python3"})  # fmt: skip
    found = json.loads(done.stdout)
    assert "the Python package lathe" in missing(found) and "No module named 'lathe'" in found["python"]["why_no_lathe"]
    assert not found["library"]["found"]


def test_another_command_in_front(tmp_path):
    other = tmp_path / "lathe"
    other.write_bytes(b"\x7fELF")
    other.chmod(0o755)
    found = facts(PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert found["command"]["first_on_path"] == str(other) and "this command in front on the PATH" in missing(found)
