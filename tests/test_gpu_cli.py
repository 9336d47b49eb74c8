# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The command on machines that lack something of a GPU, and `lathe profile` on one: through the driver that checks calls and runs nothing
(tests/fake_cuda). Each lack is one clear error with a remedy, and exit code 3."""

import json
import os
import subprocess

import numpy as np
import pytest

import models
from zoo import absent, build_dir, program

FAKE = build_dir() / "tests" / "liblathe_fake_cuda.so"
# Without native code: here what is compiled is asked for (tests/test_engine_cli.py has the other).
BUILD = ["--device", "cuda", "--budget", "0", "--no-verify", "--no-cache", "--no-native", "-q"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    if not FAKE.exists():
        absent(f"{FAKE} is not built")
    folder = tmp_path_factory.mktemp("gpu")
    models.save(models.relu_add(), folder / "m.onnx")
    np.save(folder / "x.npy", np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32))
    done = run(folder, "build", "m.onnx", "-o", "m.engine", *BUILD)
    assert done.returncode == 0, done.stderr
    done = run(folder, "build", "m.onnx", "-o", "cpu.engine", "--budget", "0", "--no-cache", "-q")
    assert done.returncode == 0, done.stderr
    return folder


def run(folder, *arguments, cache="cache", tool="lathe", **knobs):
    environment = {
        **os.environ,
        "LATHE_CUDA_DRIVER": str(FAKE),
        "LATHE_CUBLASLT": "none",
        "LATHE_CUDNN": "none",
        "LATHE_CACHE_DIR": str(folder / cache),
        **knobs,
    }
    command = [str(program("lathe")), *arguments] if tool == "lathe" else [str(folder / "bin" / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120, check=False)


def fails(done, *says):
    assert done.returncode == 3, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    assert done.stdout == "" and done.stderr.startswith("lathe: ") and done.stderr.count("\n") == 1, done.stderr
    for word in says:
        assert word in done.stderr, f"{word!r} is not in: {done.stderr}"


RUN = ["run", "m.engine", "--input", "x=x.npy"]


def test_no_driver(shelf):
    fails(run(shelf, "build", "m.onnx", "-o", "no.engine", *BUILD, LATHE_CUDA_DRIVER="none"), "the device cuda cannot be used", "--device cpu")
    fails(run(shelf, "build", "m.onnx", "-o", "no.engine", *BUILD, LATHE_CUDA_DRIVER="/nowhere/libcuda.so.1"), "/nowhere/libcuda.so.1", "NVIDIA driver")
    assert not (shelf / "no.engine").exists()
    fails(run(shelf, *RUN, "--device", "cuda", LATHE_CUDA_DRIVER="none"), "the device cuda cannot be used", "--device cpu")
    # Where the device is left open it runs on the CPU, and says so.
    done = run(shelf, *RUN, "--output", "y.npy", LATHE_CUDA_DRIVER="none")
    assert done.returncode == 0 and "cpu-generic" in done.stderr and "needs an NVIDIA GPU" in done.stderr, done.stderr
    np.testing.assert_array_equal(np.load(shelf / "y.npy"), models.relu_add_answer(np.load(shelf / "x.npy")))


def test_no_such_gpu(shelf):
    fails(run(shelf, "build", "m.onnx", "-o", "no.engine", "--device", "cuda:6", *BUILD[2:]), "cuda:6", "1 GPU", "lathe devices")
    fails(run(shelf, *RUN, "--device", "cuda:6"), "GPU 6, the driver shows 1")
    fails(run(shelf, "run", "cpu.engine", "--input", "x=x.npy", "--device", "cuda"), "no section for a GPU", "--device cuda")


def test_no_nvrtc(shelf):
    lacks = {"LATHE_NVRTC": "none", "cache": "fresh"}
    fails(run(shelf, "build", "m.onnx", "-o", "no.engine", *BUILD, **lacks), "fused region", "LATHE_NVRTC", "pip install nvidia-cuda-nvrtc")
    # An engine from elsewhere whose regions were never compiled here.
    fails(run(shelf, *RUN, **lacks), "fused region", "pip install nvidia-cuda-nvrtc", "LATHE_CACHE_DIR")
    fails(run(shelf, *RUN, LATHE_NVRTC="/nowhere/libnvrtc.so.13", cache="fresh"), "/nowhere/libnvrtc.so.13", "nvidia-cuda-nvrtc")
    # Compiled once, it runs without.
    assert run(shelf, *RUN, cache="warm").returncode == 0
    done = run(shelf, *RUN, LATHE_NVRTC="none", cache="warm")
    assert done.returncode == 0, done.stderr
    assert run(shelf, *RUN, "--device", "cpu", **lacks).returncode == 0


def test_a_damaged_cache_of_code_is_made_anew(shelf):
    assert run(shelf, *RUN, cache="damaged").returncode == 0
    kept = list((shelf / "damaged" / "cuda").glob("*.cubin"))
    assert kept
    for file in kept:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    assert run(shelf, *RUN, cache="damaged").returncode == 0
    for file in kept:
        file.write_bytes(b"")
    fails(run(shelf, *RUN, cache="damaged", LATHE_NVRTC="none"), "fused region")


def test_profile(shelf):
    done = run(shelf, "profile", "m.engine", "--time", "50ms", "--json", "--shape", "x:2x4")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["replayed"] is True and report["runs"] >= 3 and report["run_ms"] > 0
    assert report["gbytes_per_s"] > 0 and "measured" in report["gbytes_per_s_is"] and "listed" in report["gflops_peak_is"]
    timed = [step for step in report["steps"] if step["ms"] > 0]
    assert timed and all(step["floor_ms"] > 0 and step["time_over_floor"] == pytest.approx(step["ms"] / step["floor_ms"]) for step in timed if step["bytes"])
    assert sum(step["ms"] for step in report["steps"]) == pytest.approx(report["steps_ms"])
    assert report["outside_steps_ms"] == pytest.approx(report["run_ms"] - report["steps_ms"])
    assert {"relu", "add"} <= {node for step in report["steps"] for node in step["onnx_nodes"]}
    done = run(shelf, "profile", "m.engine", "--time", "50ms", "--by", "lost", "--top", "3")
    assert done.returncode == 0 and "as one CUDA graph" in done.stdout and "lost" in done.stdout, done.stdout + done.stderr


def test_outputs_that_data_shape_are_measured(shelf):
    models.save(models.choice(), shelf / "choice.onnx")
    done = run(shelf, "build", "choice.onnx", "-o", "choice.engine", *BUILD)
    assert done.returncode == 0, done.stderr
    for command in ("profile", "bench"):
        done = run(shelf, command, "choice.engine", "--time", "0.1s", "--json")
        assert done.returncode == 0 and json.loads(done.stdout), done.stderr


def test_trtexec_and_onnx2trt_take_the_gpu(shelf):
    assert run(shelf, "install-shims", "bin").returncode == 0
    build = ["--onnx=m.onnx", "--fp16", "--shapes=x:2x4", "--saveEngine=t.engine", "--budget=0", "--no-verify"]
    timed = ["--iterations=5", "--duration=0", "--warmUp=0", "--streams=2", "--exportTimes=times.json", "--exportProfile=profile.json"]
    done = run(shelf, *build, *timed, tool="trtexec")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "Device: cuda" in done.stdout and "Precision: fp16" in done.stdout and "Engine runs by its section cuda:sm_90" in done.stdout
    times = json.loads((shelf / "times.json").read_text())
    assert len(times) == 10 and all(t["inMs"] > 0 and t["outMs"] > 0 and t["computeMs"] >= t["enqMs"] > 0 for t in times)
    assert len(json.loads((shelf / "profile.json").read_text())) > 1
    done = run(shelf, "--loadEngine=t.engine", *timed, "--noDataTransfers", "--device=0", tool="trtexec")
    assert done.returncode == 0, done.stderr
    assert all(t["inMs"] == t["outMs"] == 0 and t["computeMs"] > 0 for t in json.loads((shelf / "times.json").read_text()))
    done = run(shelf, *build, *timed, "--device=6", tool="trtexec")
    assert done.returncode == 3 and "cuda:6" in done.stderr and "&&&& FAILED" in done.stdout
    done = run(shelf, "m.onnx", "-o", "o.trt", "-d", "16", "--budget", "0", "--no-verify", tool="onnx2trt")
    assert done.returncode == 0 and done.stderr == "" and "for cuda, fp16" in done.stdout, done.stderr
