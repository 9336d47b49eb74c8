# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""onnx2trt, trtexec and onnxsim: the guides' command lines against what lathe itself gives, the forms that scripts read, and one line for each flag
that has no effect here."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import models
from zoo import program

COMMANDS = ["onnx2trt", "trtexec", "onnxsim"]
NO_GPU = "no GPU is usable here"


@pytest.fixture(scope="module")
def bin_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shims") / "bin"
    done = subprocess.run([program("lathe"), "install-shims", folder], capture_output=True, text=True, check=True)
    assert f'export PATH="{folder}:$PATH"' in done.stdout and all(str(folder / name) in done.stdout for name in COMMANDS)
    return folder


class Tools:
    def __init__(self, folder, bin_dir):
        self.folder, self.bin_dir = folder, bin_dir

    def __call__(self, tool, *words):
        environment = {**os.environ, "LATHE_CACHE_DIR": str(self.folder / "cache"), "PATH": f"{self.bin_dir}:{os.environ['PATH']}"}
        return subprocess.run([tool, *map(str, words)], capture_output=True, text=True, cwd=self.folder, env=environment, timeout=120, check=False)

    def ok(self, tool, *words):
        done = self(tool, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def lathe_run(self, model, **inputs):
        for name, array in inputs.items():
            np.save(self.folder / f"{name}.npy", array)
        self.ok(
            program("lathe"),
            "run",
            model,
            *[word for name in inputs for word in ("-i", f"{name}={name}.npy")],
            "-o",
            "run.npz",
            *([] if model.endswith((".trt", ".engine")) else ["--budget", "0"]),
        )
        with np.load(self.folder / "run.npz") as arrays:
            return dict(arrays)


@pytest.fixture
def tools(tmp_path, bin_dir):
    models.save(models.relu_add(), tmp_path / "relu.onnx")
    models.save(models.convolutions(), tmp_path / "conv.onnx")
    models.save(models.two_in_two_out(), tmp_path / "two.onnx")
    return Tools(tmp_path, bin_dir)


X = np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32)


# install-shims ----------------------------------------------------------------------------------------------------


def test_installing_keeps_foreign_files(tmp_path):
    lathe = str(program("lathe"))

    def install(*words):
        return subprocess.run(
            [lathe, "install-shims", *words], capture_output=True, text=True, cwd=tmp_path, check=False, env={**os.environ, "PATH": f"{tmp_path}/here"}
        )

    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "trtexec").write_text("another's")
    done = install("here")
    assert done.returncode == 2 and "trtexec" in done.stderr and "--force" in done.stderr and done.stdout == ""
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["trtexec"] and (tmp_path / "here" / "trtexec").read_text() == "another's"
    done = install("here", "--force")
    assert done.returncode == 0 and "is on your PATH" in done.stdout, done.stderr
    links = {path.name: os.readlink(path) for path in (tmp_path / "here").iterdir()}
    assert sorted(links) == sorted(COMMANDS) and set(links.values()) == {str(Path(lathe).resolve())}
    assert install("here").returncode == 0, "its own links may be made again"
    (tmp_path / "here" / "onnxsim").unlink()
    (tmp_path / "here" / "onnxsim").symlink_to("/usr/bin/env")
    assert install("here").returncode == 2
    (tmp_path / "folder" / "onnxsim").mkdir(parents=True)
    assert install("folder", "--force").returncode == 2
    assert install("/proc/nothing").returncode == 1
    assert install().returncode == 2


@pytest.mark.parametrize("tool", COMMANDS)
def test_help_and_versions(tools, tool):
    text = tools.ok(tool, "--help").stdout
    assert text.startswith(f"{tool}: ") and "Usage: " in text and "Taken without effect" in text
    done = tools(tool)
    assert done.returncode == 2 and "Usage: " in done.stderr and done.stdout == ""


@pytest.mark.parametrize(("tool", "words"), [("onnx2trt", ["relu.onnx", "-o", "m.trt", "--bacth"]), ("trtexec", ["--onnx=relu.onnx", "--fp61"]), ("onnxsim", ["relu.onnx", "s.onnx", "--skip-fuse-bm"])])  # fmt: skip
def test_unknown_flags_name_the_nearest(tools, tool, words):
    done = tools(tool, *words)
    assert done.returncode == 2 and words[-1] in done.stderr and f"{tool} --help" in done.stderr and done.stderr.count("\n") == 1
    assert ("did you mean" in done.stderr) == (tool != "onnx2trt"), done.stderr
    assert not {path.name for path in tools.folder.iterdir()} & {"m.trt", "s.onnx"}


# onnx2trt ---------------------------------------------------------------------------------------------------------


def test_onnx2trt_builds_engines(tools):
    done = tools.ok("onnx2trt", "relu.onnx", "-o", "m.trt", "-b", "4", "-d", "16", "-w", "1000000", "-v", "-l", "--budget", "0")
    assert "r = Relu(x)" in done.stdout and "verified" in done.stdout and ">>>" in done.stdout and done.stdout.endswith("All done\n")
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and all(line.startswith("onnx2trt: ") for line in lines)
    assert "-w" in lines[0] and "lathe show" in lines[0] and NO_GPU in lines[1] and "-d 16" in lines[2] and "float32" in lines[2]
    np.testing.assert_array_equal(tools.lathe_run("m.trt", x=X)["y"], models.relu_add_answer(X))
    assert "batch: 1..4, tuned at 4" in tools.ok(program("lathe"), "show", "m.trt").stdout
    done = tools.ok("onnx2trt", "conv.onnx", "-oc.trt", "-b8", "-qg", "--budget", "0", "--no-verify")
    assert "fixes the batch of 'image' at 1" in done.stderr and "-g: " in done.stderr and done.stdout == ""
    assert (tools.folder / "c.trt").exists()
    done = tools.ok("onnx2trt", "relu.onnx", "-o", "r.trt", "--shape", "x:1x4:2x4:9x4", "-b", "2", "--device", "cpu", "--budget", "0")
    assert (
        done.stderr == "onnx2trt: -b: --shape says which batches the engine takes.\n"
        and "batch: 1..9, tuned at 2" in tools.ok(program("lathe"), "show", "r.trt").stdout
    )


def test_onnx2trt_writes_models_and_text(tools):
    model = models.make(
        [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["y"])],
        {"x": (TensorProto.FLOAT, [2])}, {"y": (TensorProto.FLOAT, [2])},
    )  # fmt: skip
    models.save(model, tools.folder / "chain.onnx")
    tools.ok("onnx2trt", "chain.onnx", "-m", "same.onnx", "-t", "same.txt")
    tools.ok("onnx2trt", "chain.onnx", "-m", "less.onnx", "-T", "less.txt", "-O", "eliminate_identity;fuse_bn_into_conv")
    assert [len(onnx.load(tools.folder / name).graph.node) for name in ("same.onnx", "less.onnx")] == [3, 1]
    assert "Identity(" in (tools.folder / "same.txt").read_text() and "Identity(" not in (tools.folder / "less.txt").read_text()
    assert re.search(r"^fold-batch-norm +\S", tools.ok("onnx2trt", "-p").stdout, re.M)
    assert re.fullmatch(r"onnx2trt of lathe [\d.]+\n", tools.ok("onnx2trt", "-V").stdout)
    for words, says in [
        (["relu.onnx"], "nothing is to be written"), (["relu.onnx", "conv.onnx", "-o", "m.trt"], "one word too many"), (["-o", "m.trt"], "no ONNX file"),
        (["relu.onnx", "-o"], "needs a value"), (["relu.onnx", "-o", "m.trt", "-d", "8"], "-d 8"), (["relu.onnx", "-o", "m.trt", "-b", "many"], "-b takes a number"),
        (["relu.onnx", "-o", "m.trt", "--device", "abacus"], "abacus"),
    ]:  # fmt: skip
        done = tools("onnx2trt", *words)
        assert done.returncode == 2 and says in done.stderr, done.stderr
    assert tools("onnx2trt", "none.onnx", "-o", "m.trt").returncode == 1 and tools("onnx2trt", "relu.onnx", "-o", "no/m.trt").returncode == 1
    done = tools("onnx2trt", "relu.onnx", "-o", "m.trt", "--device", "cuda")
    assert done.returncode == 3 and not (tools.folder / "m.trt").exists()


# trtexec ----------------------------------------------------------------------------------------------------------

FAST = ["--iterations=6", "--duration=0", "--warmUp=0", "--budget", "0"]
NUMBER = r"[\d.e+-]+"
LATENCY = (
    rf"{{}}: min = {NUMBER} ms, max = {NUMBER} ms, mean = {NUMBER} ms, median = {NUMBER} ms, percentile\(90%\) = {NUMBER} ms, percentile\(99%\) = {NUMBER} ms$"
)


def test_trtexec_builds_times_and_exports(tools):
    words = [
        "--onnx=relu.onnx", "--saveEngine=m.engine", "--fp16", "--int8", "--workspace=1024", "--minShapes=x:1x4", "--optShapes=x:2x4", "--maxShapes=x:8x4",
        "--shapes='x':2x4", "--percentile=90,99", "--exportTimes=times.json", "--exportOutput=out.json", "--exportProfile=profile.json",
        "--exportLayerInfo=layers.json", "--dumpProfile", "--dumpLayerInfo", "--dumpOutput", "--avgRuns=2", "--loadInputs=x:x.bin", "--useCudaGraph", "--verbose",
    ]  # fmt: skip
    X.tofile(tools.folder / "x.bin")
    done = tools.ok("trtexec", *words, *FAST)
    lines = done.stdout.splitlines()
    shown = f"# trtexec {' '.join([*words, *FAST])}"
    assert lines[0].startswith("&&&& RUNNING TensorRT.trtexec [Lathe v") and lines[0].endswith(shown)
    assert lines[-1].startswith("&&&& PASSED TensorRT.trtexec [Lathe v") and lines[-1].endswith(shown)
    form = re.compile(r"^\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] \[[IW]\] (.*)$")
    said = [match[1] for line in lines if (match := form.match(line))]
    assert any(re.match(rf"^Throughput: {NUMBER} qps$", line) for line in said), said
    for what in ("Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency"):
        assert any(re.match(LATENCY.format(what), line) for line in said), (what, said)
    assert sum(line.startswith("Average on 2 runs - GPU latency: ") for line in said) == 3
    assert "=== Performance summary ===" in said and any("verified" in line for line in said) and any("=== Profile (" in line for line in said)
    notes = done.stderr.splitlines()
    assert [note.split(": ")[1].split(" ")[0] for note in notes] == ["--int8", "--workspace", "--useCudaGraph", "no", "--fp16"], notes

    def read(name):
        return json.loads((tools.folder / name).read_text())

    answer = models.relu_add_answer(X)
    (out,) = read("out.json")
    assert out["name"] == "y" and out["dimensions"] == "2x4" and out["values"] == answer.ravel().tolist()
    assert " ".join(f"{value:g}" for value in answer.ravel()) in lines
    times = read("times.json")
    assert len(times) == 6 and all(
        t["latencyMs"] == pytest.approx(t["inMs"] + t["computeMs"] + t["outMs"]) and t["endComputeMs"] >= t["startComputeMs"] for t in times
    )
    assert times[0]["startInMs"] == 0 and {"startH2dMs", "endOutMs", "h2dMs", "startEnqMs"} <= set(times[0])
    count, *layers = read("profile.json")
    assert (
        count["count"] >= 3
        and sum(layer["percentage"] for layer in layers) == pytest.approx(100)
        and {"name", "timeMs", "averageMs", "medianMs"} <= set(layers[0])
    )
    info = read("layers.json")
    assert info["Bindings"] == ["x", "y"] and info["Layers"][0]["OnnxNodes"] == ["relu", "add"] and info["Layers"][0]["Outputs"][0]["Name"] == "y"
    np.testing.assert_array_equal(tools.lathe_run("m.engine", x=X)["y"], answer)
    # The engine again, in the other spelling, on more contexts at once.
    np.save(tools.folder / "x.npy", X[:1])
    done = tools.ok(
        "trtexec",
        "--loadEngine",
        "m.engine",
        "--shapes",
        "x:1x4",
        "--loadInputs",
        "x:x.npy",
        "--streams",
        "3",
        "--exportOutput",
        "one.json",
        "--exportTimes",
        "t.json",
        *FAST[:3],
    )
    assert read("one.json")[0]["values"] == answer[0].tolist() and len(read("t.json")) == 18 and "Average on" not in done.stdout
    done = tools.ok("trtexec", "--onnx=relu.onnx", "--buildOnly", "--saveEngine=b.engine", "--batch=3", "--bf16", "--device=0", "--budget=0")
    assert "Skipped inference" in done.stdout and "Throughput" not in done.stdout and (tools.folder / "b.engine").exists()
    assert "batch: 1..3, tuned at 3" in tools.ok(program("lathe"), "show", "b.engine").stdout
    done = tools.ok("trtexec", "--onnx=two.onnx", *FAST)
    assert "[W] Dynamic dimensions required for input: left" in done.stdout


def test_trtexec_says_what_is_wrong(tools):
    (tools.folder / "plan.engine").write_bytes(b"ptrt" + bytes(64))
    np.save(tools.folder / "wide.npy", np.zeros((2, 5), np.float32))
    for code, words, says in [
        (2, ["--fp16"], "neither a model nor an engine"), (2, ["--onnx=relu.onnx", "--loadEngine=m.engine"], "both"), (1, ["--onnx=none.onnx"], "none.onnx"),
        (1, ["--loadEngine=plan.engine"], "no engine of Lathe's"), (2, ["--onnx=relu.onnx", "--shapes=2x4"], "NAME:SHAPE"), (2, ["--onnx=relu.onnx", "--shapes=x:2xq"], "2xq"),
        (2, ["--onnx=relu.onnx", "--optShapes=z:2x4"], "'z'"), (2, ["--onnx=relu.onnx", "--minShapes=x:4x4", "--optShapes=x:2x4"], "does not hold"),
        (2, ["--onnx=relu.onnx", "--iterations=none"], "--iterations"), (2, ["--onnx=relu.onnx", "--percentile=101"], "--percentile"), (3, ["--onnx=relu.onnx", "--device=7"], "cuda"),
        (1, ["--onnx=relu.onnx", "--shapes=x:2x4", "--loadInputs=x:wide.npy"], "wide.npy"), (2, ["--onnx=relu.onnx", "--loadInputs=q:wide.npy"], "--loadInputs"),
        (1, ["--onnx=relu.onnx", "--saveEngine=no/m.engine"], "no/m.engine"), (1, ["--onnx=relu.onnx", "--exportTimes=no/t.json"], "no/t.json"),
    ]:  # fmt: skip
        done = tools("trtexec", *FAST, *words)
        assert done.returncode == code and says in done.stderr, (words, done.returncode, done.stderr)
        assert done.stdout.splitlines()[-1].startswith("&&&& FAILED TensorRT.trtexec"), done.stdout
    assert {path.name for path in tools.folder.iterdir()} == {"relu.onnx", "conv.onnx", "two.onnx", "plan.engine", "wide.npy", "cache"} or not list(
        tools.folder.glob("*.json")
    )


# onnxsim ----------------------------------------------------------------------------------------------------------


def norm_chain():
    """Convolution, BatchNormalization, a constant branch and an Identity, for float[batch, 3, 8, 8]."""
    rng = np.random.default_rng(3)
    weights = {"w": rng.standard_normal((4, 3, 3, 3)), "scale": rng.random(4) + 0.5, "shift": rng.random(4), "mean": rng.random(4), "var": rng.random(4) + 0.5}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]),
        helper.make_node("Identity", ["n"], ["i"]), helper.make_node("Exp", ["shape"], ["e"]), helper.make_node("Expand", ["e", "wide"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["s"], keepdims=0), helper.make_node("Add", ["i", "s"], ["y"]),
    ]  # fmt: skip
    arrays = {**{name: array.astype(np.float32) for name, array in weights.items()}, "shape": np.ones(1, np.float32), "wide": np.array([16], np.int64)}
    return models.make(nodes, {"x": (TensorProto.FLOAT, ["batch", 3, 8, 8])}, {"y": (TensorProto.FLOAT, ["batch", 4, 6, 6])}, arrays)


def test_onnxsim_simplifies_checks_and_shows(tools):
    models.save(norm_chain(), tools.folder / "in.onnx")
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    wanted = tools.lathe_run("in.onnx", x=x)["y"]

    def ops(name):
        return sorted(node.op_type for node in onnx.load(tools.folder / name).graph.node)

    done = tools.ok("onnxsim", "in.onnx", "out.onnx", "3")
    assert done.stdout.startswith("Simplifying...\nFinish! Here is the difference:\n┏") and done.stderr == ""
    assert re.search(r"│ BatchNormalization │ 1 +│ 0 +│", done.stdout) and re.search(r"│ Model Size +│ [\d.]+(B|KiB) +│ [\d.]+(B|KiB) +│", done.stdout)
    assert "equal the original's on 4 input sets" in done.stdout  # three, and one of another batch
    assert ops("out.onnx") == ["Conv"]
    np.testing.assert_allclose(tools.lathe_run("out.onnx", x=x)["y"], wanted, rtol=1e-4, atol=1e-4)
    tools.ok("onnxsim", "in.onnx", "fixed.onnx", "--overwrite-input-shape", "2,3,8,8")
    assert [dim.dim_value for dim in onnx.load(tools.folder / "fixed.onnx").graph.input[0].type.tensor_type.shape.dim] == [2, 3, 8, 8]
    tools.ok("onnxsim", "in.onnx", "named.onnx", "--input-shape", "x:5,3,8,8", "--skip-fuse-bn")
    assert "BatchNormalization" in ops("named.onnx") and onnx.load(tools.folder / "named.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_value == 5
    tools.ok("onnxsim", "in.onnx", "tested.onnx", "--test-input-shape", "x:4,3,8,8", "--skip-optimization", "fuse_bn_into_conv")
    assert (
        "BatchNormalization" in ops("tested.onnx") and onnx.load(tools.folder / "tested.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    )
    tools.ok("onnxsim", "in.onnx", "free.onnx", "--overwrite-input-shape", "x:-1,3,8,8")
    assert onnx.load(tools.folder / "free.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    tools.ok("onnxsim", "in.onnx", "raw.onnx", "--skip-optimization")
    assert "BatchNormalization" in ops("raw.onnx") and "Exp" not in ops("raw.onnx"), "constants are folded all the same"
    tools.ok("onnxsim", "in.onnx", "unfolded.onnx", "--skip-constant-folding")
    assert {"Exp", "ReduceSum"} <= set(ops("unfolded.onnx"))
    tools.ok("onnxsim", "in.onnx", "small.onnx", "--no-large-tensor=2B")
    assert "Expand" in ops("small.onnx")
    done = tools.ok("onnxsim", "in.onnx", "notes.onnx", "--skip-optimization", "fold-pad", "made_up", "--skip-shape-inference", "--custom-lib", "x.so")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["--skip-shape-inference", "--custom-lib", "--skip-optimization made_up"]
    assert re.fullmatch(r"onnxsim of lathe [\d.]+\n", tools.ok("onnxsim", "-v").stdout)


def test_onnxsim_says_what_is_wrong(tools):
    for code, words, says in [
        (2, ["relu.onnx"], "two or three"), (1, ["none.onnx", "o.onnx"], "none.onnx"), (2, ["relu.onnx", "o.onnx", "often"], "check_n"),
        (2, ["relu.onnx", "o.onnx", "--overwrite-input-shape", "z:1,4"], "'z'"), (2, ["two.onnx", "o.onnx", "--overwrite-input-shape", "1,3"], "names no input"),
        (2, ["relu.onnx", "o.onnx", "--overwrite-input-shape", "x:1,q"], "1,q"), (2, ["relu.onnx", "o.onnx", "--no-large-tensor=big"], "big"),
        (2, ["relu.onnx", "o.onnx", "--overwrite-input-shape", "x:1,5"], "axis 1"), (1, ["relu.onnx", "o.onnx", "--unused-output", "y"], "--unused-output"),
        (1, ["relu.onnx", "no/o.onnx"], "no/o.onnx"),
    ]:  # fmt: skip
        done = tools("onnxsim", *words)
        assert done.returncode == code and says in done.stderr and done.stderr.startswith("onnxsim: "), (words, done.returncode, done.stderr)
        assert not (tools.folder / "o.onnx").exists()
