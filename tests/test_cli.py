# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The command as a person meets it: help, exit codes, JSON, errors of one paragraph, files whole or not at all, Ctrl-C, progress."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

import models
from zoo import need, program

COMMANDS = [
    "export",
    "check",
    "simplify",
    "show",
    "build",
    "run",
    "bench",
    "verify",
    "profile",
    "engine",
    "ops",
    "devices",
    "doctor",
    "completion",
    "python",
    "install-shims",
]
QUICK = ["--budget", "0"]


class Cli:
    """Runs the command in a folder of its own, with a tuning cache of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.cache = folder / "cache"
        self.environment = {**os.environ, "LATHE_CACHE_DIR": str(self.cache), "LATHE_PYTHON": sys.executable}

    def __call__(self, *arguments, **options):
        command = [str(program("lathe")), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=self.environment, timeout=120, check=False, **options)

    def ok(self, *arguments):
        done = self(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.ok(*arguments, "--json"))

    def fails(self, code, *arguments, says=()):
        """One paragraph on stderr, nothing on stdout, and all of `says` in it."""
        done = self(*arguments)
        message = done.stderr
        assert done.returncode == code, f"exit code {done.returncode}: {message}"
        assert done.stdout == ""
        assert message.startswith("lathe: ") and message.endswith("\n") and message.count("\n") == 1, message
        assert message.rstrip().endswith((".", "`")), message
        assert "Traceback" not in message and "\033" not in message, message
        for word in [says] if isinstance(says, str) else says:
            assert word in message, f"{word!r} is not in: {message}"
        return message


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Files that tests only read: models, engines, arrays."""
    folder = tmp_path_factory.mktemp("shelf")
    cli = Cli(folder)
    for name in ("relu_add", "two_in_two_out", "convolutions"):
        models.save(getattr(models, name)(), folder / f"{name}.onnx")
        cli.ok("build", f"{name}.onnx", "-o", f"{name}.engine", *QUICK)
    np.save(folder / "x.npy", np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32))
    np.save(folder / "left.npy", np.array([[1, 5, 2], [9, 0, 1]], np.float32))
    np.save(folder / "right.npy", np.array([[1, 1, 1], [2, 2, 2]], np.float32))
    return folder


@pytest.fixture
def cli(shelf, tmp_path):
    for file in shelf.iterdir():
        if file.is_file():
            (tmp_path / file.name).symlink_to(file)
    return Cli(tmp_path)


def new_files(cli):
    return sorted(p.name for p in cli.folder.iterdir() if not p.is_symlink() and p.name != "cache")


# Help and usage ---------------------------------------------------------------------------------------------------


def test_help_lists_the_commands_and_exit_codes(cli):
    text = cli.ok("--help")
    for command in COMMANDS:
        assert re.search(rf"^\s+{command}\s", text, re.MULTILINE), command
    assert "Exit codes: 0 ok, 1 the model or data is at fault, 2 wrong usage, 3 the machine lacks something" in text
    assert re.fullmatch(r"lathe \d+\.\d+\.\d+\n", cli.ok("--version"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_examples(cli, command):
    text = cli.ok(command, "--help")
    assert re.search(rf"^\s*(?:eval \"\$\()?lathe {command}", text, re.MULTILINE), text
    assert len(text) > 200


@pytest.mark.parametrize(
    "arguments",
    [[], ["biuld"], ["build"], ["build", "relu_add.onnx"], ["build", "relu_add.onnx", "-o", "y", "--fast"], ["show"],
     ["bench", "relu_add.engine", "--runs", "-3"], ["completion", "fish"], ["devices", "extra"]],
)  # fmt: skip
def test_wrong_usage(cli, arguments):
    done = cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.startswith("lathe: ") and "--help" in done.stderr


# Files that are not what they should be ----------------------------------------------------------------------------

READERS = {
    "simplify": ["simplify", "FILE", "out.onnx"],
    "show": ["show", "FILE"],
    "build": ["build", "FILE", "-o", "out.engine"],
    "run": ["run", "FILE", "-i", "x=x.npy"],
    "bench": ["bench", "FILE"],
    "verify": ["verify", "FILE"],
    "profile": ["profile", "FILE"],
}


@pytest.mark.parametrize("reader", READERS)
def test_files_that_are_missing_garbage_or_cut_short(cli, reader):
    whole = (cli.folder / "convolutions.onnx").read_bytes()
    bad = {
        "missing.onnx": (None, "no such file"),
        "empty.onnx": (b"", "empty"),
        "text.onnx": (b"This is no model at all, it is a sentence.\n" * 20, ""),
        "zeros.onnx": (bytes(4096), ""),
        "cut.onnx": (whole[: len(whole) // 2], ""),
        "cut.engine": ((cli.folder / "convolutions.engine").read_bytes()[:5000], "cut short"),
        "head.engine": ((cli.folder / "convolutions.engine").read_bytes()[:12], ""),
    }
    for name, (content, word) in bad.items():
        if content is not None:
            (cli.folder / name).write_bytes(content)
        if reader == "verify" and name.endswith(".engine"):
            continue  # asks for --onnx first
        if reader in ("simplify", "build") and name.endswith(".engine"):
            word = "engine"
        code = 2 if reader in ("simplify", "build") and name.endswith(".engine") else 1
        cli.fails(code, *[name if word == "FILE" else word for word in READERS[reader]], says=[name, word])
    cli.fails(1, *[str(cli.folder) if word == "FILE" else word for word in READERS[reader]], says="folder")
    assert set(new_files(cli)) <= set(bad)


def test_engine_where_a_model_is_expected(cli):
    cli.fails(2, "build", "relu_add.engine", "-o", "again.engine", says=["relu_add.engine", "engine", "ONNX"])
    cli.fails(2, "simplify", "relu_add.engine", "out.onnx", says=["engine", "ONNX"])
    cli.fails(2, "verify", "relu_add.engine", says="--onnx")
    cli.fails(2, "verify", "relu_add.engine", "--onnx", "relu_add.engine", says="ONNX file")
    cli.fails(2, "verify", "relu_add.onnx", "--onnx", "relu_add.onnx", says="--onnx")
    cli.fails(2, "bench", "relu_add.engine", "--against", "onnxruntime", says="--onnx")
    assert new_files(cli) == []


def test_build_options_on_an_engine_are_refused(cli):
    for option in (["--precision", "bf16"], ["--budget", "1s"], ["--exact"], ["--no-verify"], ["--no-cache"]):
        cli.fails(2, "run", "relu_add.engine", "-i", "x.npy", *option, says=[option[0], "engine"])
        cli.fails(2, "bench", "relu_add.engine", *option, says=[option[0], "engine"])
    cli.fails(2, "run", "relu_add.engine", "-i", "x.npy", "--shape", "x:2x4", says="--shape")


def test_an_engine_runs_on_the_device_that_is_asked_for(cli):
    for command in (["run", "relu_add.engine", "-i", "x.npy"], ["bench", "relu_add.engine", "--runs", "1"], ["profile", "relu_add.engine", "--time", "10ms"]):
        cli.ok(*command, "--device", "cpu")
        cli.fails(3, *command, "--device", "cuda", says=["cuda", "--device cpu"])
        cli.fails(2, *command, "--device", "abacus", says="abacus")
    cli.fails(2, "verify", "relu_add.engine", "--onnx", "relu_add.onnx", "--device", "cpu", says=["--device", "engine"])


def test_unknown_device_precision_time_and_shape(cli):
    build = ["build", "relu_add.onnx", "-o", "out.engine", "--budget", "0"]
    cli.fails(3, *build, "--device", "cuda", says=["cuda", "--device cpu"])
    cli.fails(2, *build, "--device", "abacus", says=["abacus", "Use cpu, cuda or cuda:N"])
    cli.fails(2, *build, "--precision", "fp12", says=["fp12", "fp32"])
    cli.fails(2, *build[:4], "--budget", "soon", says=["soon", "30s"])
    for shape, word in {"x": "NAME:SHAPE", "x:2xq": "2xq", "x:": "NAME:SHAPE", "x:4x4:2x4:8x4": "MIN <= OPT <= MAX", "x:1x4:2x4": "MIN:OPT:MAX",
                        "z:1x4": "'x'", "x:1x2x4": "3 axes", "x:1x5": "axis 1"}.items():  # fmt: skip
        cli.fails(2, *build, "--shape", shape, says=word)
    cli.fails(2, "bench", "relu_add.engine", "--shape", "z:1x4", says="'x'")
    cli.fails(2, "bench", "relu_add.engine", "--shape", "x:1x5", says="axis 1")
    cli.fails(2, "bench", "relu_add.engine", "--time", "later", says="later")
    assert new_files(cli) == []


# Outputs ----------------------------------------------------------------------------------------------------------


def test_outputs_appear_whole_or_not_at_all(cli):
    kept = cli.folder / "kept.engine"
    kept.write_text("an older engine")
    cli.fails(2, "build", "relu_add.onnx", "-o", "kept.engine", "--precision", "fp12")
    assert kept.read_text() == "an older engine"
    cli.fails(1, "build", "relu_add.onnx", "-o", "no/such/folder/m.engine", *QUICK, says=["no/such/folder", "does not exist"])
    cli.fails(1, "build", "relu_add.onnx", "-o", "/proc/m.engine", *QUICK, says="/proc/m.engine")
    cli.fails(1, "build", "relu_add.onnx", "-o", ".", *QUICK, says="folder")
    cli.fails(2, "build", "relu_add.onnx", "-o", "./relu_add.onnx", *QUICK, says="replace the input")
    cli.fails(1, "run", "relu_add.engine", "-i", "x.npy", "-o", "no/folder/y.npz", says="no/folder")
    cli.fails(1, "run", "relu_add.engine", "-i", "x.npy", "-o", "/proc/y.npz", says="/proc/y.npz")
    cli.fails(1, "simplify", "relu_add.onnx", "no/folder/s.onnx", says="no/folder")
    assert new_files(cli) == ["kept.engine"]
    cli.ok("build", "relu_add.onnx", "-o", "kept.engine", *QUICK)
    assert kept.read_bytes().startswith(b"\x89LATHE") and new_files(cli) == ["kept.engine"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_full_disks_are_told(cli):
    cli.fails(1, "build", "relu_add.onnx", "-o", "/dev/full", *QUICK, says="No space left")
    cli.fails(1, "run", "relu_add.engine", "-i", "x.npy", "-o", "/dev/full", says="No space left")
    with open("/dev/full", "w") as full:
        done = subprocess.run([str(program("lathe")), "ops"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "standard output" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root writes into read-only folders")
def test_read_only_folder(cli):
    folder = cli.folder / "locked"
    folder.mkdir(mode=0o500)
    cli.fails(1, "build", "relu_add.onnx", "-o", "locked/m.engine", *QUICK, says=["locked", "permissions"])


# Run --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["onnx", "engine"])
def test_run_writes_one_array_for_each_output(cli, suffix):
    text = cli.ok("run", f"two_in_two_out.{suffix}", "-i", "left=left.npy", "--input", "right=right.npy", "-o", "out.npz",
                  *(QUICK if suffix == "onnx" else []))  # fmt: skip
    assert "sum/out:0" in text and "index" in text
    left, right = np.load(cli.folder / "left.npy"), np.load(cli.folder / "right.npy")
    with np.load(cli.folder / "out.npz") as arrays:
        assert sorted(arrays.files) == ["index", "sum/out:0"]
        assert arrays["index"].dtype == np.int64 and arrays["sum/out:0"].dtype == np.float32
        np.testing.assert_array_equal(arrays["index"], left.argmax(1))
        np.testing.assert_array_equal(arrays["sum/out:0"], left + right)


def test_run_reports_and_single_outputs(cli):
    report = cli.json("run", "relu_add.engine", "-i", "x.npy", "-o", "y.npy")
    answer = models.relu_add_answer(np.load(cli.folder / "x.npy"))
    assert report["y"]["shape"] == [2, 4] and report["y"]["dtype"] == "float" and report["y"]["not_finite"] == 0
    assert report["y"]["max"] == answer.max() and report["y"]["min"] == answer.min() and report["y"]["mean"] == pytest.approx(answer.mean())
    np.testing.assert_array_equal(np.load(cli.folder / "y.npy"), answer)
    cli.fails(2, "run", "two_in_two_out.engine", "-i", "left=left.npy", "-i", "right=right.npy", "-o", "one.npy", says=".npz")
    np.save(cli.folder / "odd.npy", np.array([[np.nan, np.inf, 1, 2]], np.float32))
    report = cli.json("run", "relu_add.engine", "-i", "odd.npy")
    assert report["y"]["not_finite"] == 2 and report["y"]["max"] == 6
    np.save(cli.folder / "none.npy", np.zeros((0, 4), np.float32))
    report = cli.json("run", "relu_add.engine", "-i", "none.npy")
    assert report["y"]["shape"] == [0, 4] and report["y"]["max"] is None


def test_run_with_wrong_inputs(cli):
    for name, array in {
        "f64": np.zeros((2, 4)), "i32": np.zeros((2, 4), np.int32), "wide": np.zeros((2, 5), np.float32), "flat": np.zeros(4, np.float32),
        "deep": np.zeros((1, 2, 4), np.float32), "three": np.zeros((3, 3), np.float32), "half": np.zeros((2, 4), np.float16),
    }.items():  # fmt: skip
        np.save(cli.folder / f"{name}.npy", array)
    for model in ("relu_add.engine", "relu_add.onnx"):
        run = ["run", model]
        cli.fails(2, *run, says=["'x'", "--input x="])
        cli.fails(2, *run, "-i", "q=x.npy", says=["'q'", "'x'"])
        cli.fails(2, *run, "-i", "x.npy", "-i", "x=x.npy", says="twice")
        cli.fails(1, *run, "-i", "x=nothing.npy", says="nothing.npy")
        cli.fails(1, *run, "-i", "f64.npy", says=["f64.npy", "'x'", "float", "double"])
        cli.fails(1, *run, "-i", "half.npy", says="float16")
        cli.fails(1, *run, "-i", "i32.npy", says="int32")
        cli.fails(1, *run, "-i", "wide.npy", says=["[batch, 4]", "[2, 5]"])
        cli.fails(1, *run, "-i", "flat.npy", says=["2 axes", "[4]"])
        cli.fails(1, *run, "-i", "deep.npy", says="[1, 2, 4]")
    cli.fails(2, "run", "two_in_two_out.engine", "-i", "left.npy", says=["'left'", "'right'"])
    cli.fails(2, "run", "two_in_two_out.engine", "-i", "left=left.npy", says=["'right'", "--input right="])
    cli.fails(1, "run", "two_in_two_out.engine", "-i", "left=left.npy", "-i", "right=three.npy", says=["batch", "3", "2"])
    assert not list(cli.folder.glob("*.npz"))


def test_array_files_that_are_not_arrays(cli):
    np.savez(cli.folder / "pack.npz", x=np.zeros((2, 4), np.float32))
    whole = (cli.folder / "x.npy").read_bytes()
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }"

    def npy(text):
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(32)

    for name, content, word in [
        ("text.npy", b"1 2 3 4", "not a .npy file"), ("cut.npy", whole[:-4], "bytes"), ("head.npy", whole[:30], "cut off"),
        ("short.npy", whole[:9], "not a .npy file"), ("descr.npy", npy(header.replace(b"descr", b"dscr")), "descr"),
        ("shape.npy", npy(header.replace(b"(2, 4)", b"(2, -4)")), "shape"), ("huge.npy", npy(header.replace(b"(2, 4)", b"(4294967296, 4294967296, 4)")), "shape"),
        ("order.npy", npy(header.replace(b"False", b"Maybe")), "fortran_order"), ("version.npy", b"\x93NUMPY\x09" + whole[7:], "version 9"),
    ]:  # fmt: skip
        (cli.folder / name).write_bytes(content)
        cli.fails(1, "run", "relu_add.engine", "-i", name, says=[name, word])
    cli.fails(1, "run", "relu_add.engine", "-i", "pack.npz", says=["pack.npz", ".npy"])
    for name, array in {"object": np.array([{}]), "text": np.array(["a"]), "record": np.zeros(2, [("a", "f4")]), "date": np.zeros(2, "M8[s]")}.items():
        np.save(cli.folder / f"{name}.npy", array)
        cli.fails(1, "run", "relu_add.engine", "-i", f"{name}.npy", says=f"{name}.npy")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"])
def test_arrays_of_every_type_and_order(cli, dtype):
    models.save(models.identity(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [3, 2, 4]), cli.folder / "same.onnx")
    cli.ok("build", "same.onnx", "-o", "same.engine", *QUICK)
    array = (np.arange(24).reshape(3, 2, 4) * 7 % 5).astype(dtype)
    variants = {"plain": array, "fortran": np.asfortranarray(array), "big": array.astype(array.dtype.newbyteorder(">")),
                "both": np.asfortranarray(array.astype(array.dtype.newbyteorder(">")))}  # fmt: skip
    for name, variant in variants.items():
        with open(cli.folder / f"{name}.npy", "wb") as file:
            np.lib.format.write_array(file, variant, version=(2, 0) if name == "big" else None)
        cli.ok("run", "same.engine", "-i", f"{name}.npy", "-o", "y.npy")
        result = np.load(cli.folder / "y.npy")
        assert result.dtype == array.dtype
        np.testing.assert_array_equal(result, array)


def test_scalars_and_bfloat16(cli):
    models.save(models.scalar(), cli.folder / "scalar.onnx")
    np.save(cli.folder / "three.npy", np.float32(3))
    cli.ok("run", "scalar.onnx", "-i", "three.npy", "-o", "six.npy", *QUICK)
    six = np.load(cli.folder / "six.npy")
    assert six.shape == () and six == 6
    models.save(models.identity(onnx.TensorProto.BFLOAT16, [2]), cli.folder / "bf16.onnx")
    bits = np.array([0x3F80, 0xC000], np.uint16)  # 1 and -2
    np.save(cli.folder / "bits.npy", bits)
    text = cli.ok("run", "bf16.onnx", "-i", "bits.npy", "-o", "y.npy", *QUICK)
    assert "uint16" in text and "-2" in text
    np.testing.assert_array_equal(np.load(cli.folder / "y.npy"), bits)


# Reports ----------------------------------------------------------------------------------------------------------


def test_show(cli):
    text = cli.ok("show", "convolutions.onnx")
    assert "Conv" in text and "image" in text and "conv0" in text
    shown = cli.json("show", "convolutions.onnx")
    assert shown["kind"] == "onnx" and shown["nodes"] == 5 and shown["ops"]["Conv"] == 2 and shown["opsets"] == {"ai.onnx": 17}
    assert shown["inputs"] == [{"name": "image", "dtype": "float", "shape": ["1", "3", "16", "16"]}]
    text = cli.ok("show", "relu_add.engine")
    for word in ("x: float[batch, 4]", "in use:", "device cpu:", "device cpu-generic:", "weights:"):
        assert word in text, word
    shown = cli.json("show", "convolutions.engine")
    assert shown["kind"] == "engine" and shown["device"] == "cpu" and shown["weight_bytes"] > 0
    assert [d["device"] for d in shown["devices"]] == ["cpu", "cpu-generic"]
    nodes = [node for step in shown["devices"][0]["steps"] for node in step["onnx_nodes"]]
    assert {"conv0", "conv1", "pool"} <= set(nodes)
    assert shown["report"]["verify"]["passed"] is True


def test_show_without_the_weights_file(cli):
    model = models.convolutions()
    onnx.save(model, cli.folder / "split.onnx", save_as_external_data=True, location="split.weights", size_threshold=0)
    (cli.folder / "split.weights").unlink()
    assert "Conv" in cli.ok("show", "split.onnx")
    cli.fails(1, "build", "split.onnx", "-o", "m.engine", *QUICK, says="split.weights")


def test_build_reports(cli):
    text = cli.ok("build", "convolutions.onnx", "-o", "m.engine", "--explain", *QUICK)
    assert ">>>" in text and "verified:" in text and "m.engine" in text
    report = cli.json("build", "convolutions.onnx", "-o", "m.engine", *QUICK)
    assert report["verify"]["passed"] and report["steps"] >= 2 and report["nodes_read"] == 5
    assert {"simplify", "tune", "total", "verify"} <= set(report["seconds"])
    chosen = [c["candidate"] for r in report["regions"] for c in r.get("choices", []) if c["chosen"]]
    assert chosen
    assert "not verified (--no-verify)" in cli.ok("build", "convolutions.onnx", "-o", "m.engine", "--no-verify", *QUICK)
    assert "bfloat16" in cli.ok("build", "convolutions.onnx", "-o", "b.engine", "--precision", "bf16", *QUICK) + cli.ok("show", "b.engine")


def test_bench(cli):
    report = cli.json("bench", "convolutions.engine", "--runs", "5")
    assert set(report["latency_ms"]) == {"min", "median", "mean", "p90", "p99", "max"}
    latency = report["latency_ms"]
    assert 0 < latency["min"] <= latency["median"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert report["runs"] == 5 and report["batch"] == 1 and report["throughput"] == pytest.approx(1e3 / latency["mean"])
    for key in ("load_ms", "peak_memory_bytes", "weight_bytes"):
        assert report[key] > 0, key
    report = cli.json("bench", "relu_add.engine", "--runs", "2", "--shape", "x:7x4")
    assert report["batch"] == 7
    built = cli.json("bench", "relu_add.onnx", "--runs", "2", *QUICK)
    assert built["load_ms"] > 0 and built["build_seconds"] > 0
    text = cli.ok("bench", "convolutions.engine", "--time", "50ms")
    assert "median" in text and "items/s" in text


def test_bench_against_rivals(cli):
    need("onnxruntime", "requirements/test.txt")
    report = cli.json("bench", "convolutions.onnx", "--against", "onnxruntime", "--runs", "3", *QUICK)
    assert {"latency_ms", "throughput", "load_ms", "peak_memory_bytes"} <= set(report)
    (rival,) = report["rivals"]
    assert rival["name"].startswith("ONNX Runtime") and rival["max_relative_error"] < 1e-4 and rival["latency_ms"]["median"] > 0
    text = cli.ok("bench", "convolutions.engine", "--onnx", "convolutions.onnx", "--against", "onnxruntime", "--runs", "3")
    assert "ONNX Runtime" in text and "median ms" in text
    cli.fails(2, "bench", "convolutions.onnx", "--against", "tvm", says=["tvm", "onnxruntime"])
    cli.fails(2, "bench", "convolutions.onnx", "--against", "torch", *QUICK, says="--torch")
    cli.fails(2, "bench", "convolutions.onnx", "--torch", "m.py:make", says="--against")


def test_verify(cli):
    text = cli.ok("verify", "convolutions.onnx", "--all", *QUICK)
    assert "verified:" in text and "features" in text and "max error" in text and "ONNX Runtime" in text
    report = cli.json("verify", "convolutions.engine", "--onnx", "convolutions.onnx")
    assert report["ran"] and report["passed"] and report["tensors"][0]["max_error"] <= report["tensors"][0]["max_allowed"]
    if report["onnxruntime"]["compared"]:
        assert report["onnxruntime"]["passed"] and report["onnxruntime"]["max_relative_error"] < 1e-4
    cli.ok("verify", "convolutions.onnx", "--precision", "bf16", *QUICK)


def test_verify_takes_the_ranges_of_the_engine(cli):
    cli.ok("build", "relu_add.onnx", "-o", "range.engine", "--shape", "x:4x4:6x4:8x4", *QUICK)
    report = cli.json("verify", "range.engine", "--onnx", "relu_add.onnx", "--no-onnxruntime")
    assert report["passed"]
    cli.fails(2, "verify", "range.engine", "--onnx", "relu_add.onnx", "--shape", "x:1x4", "--no-onnxruntime", says="below the least value")


def test_verify_finds_another_models_engine(cli):
    models.save(models.convolutions(seed=1), cli.folder / "other.onnx")
    done = cli("verify", "convolutions.engine", "--onnx", "other.onnx")
    assert done.returncode == 1 and "NOT verified" in done.stdout and "DIFFERS" in done.stdout
    report = json.loads(cli("verify", "convolutions.engine", "--onnx", "other.onnx", "--json").stdout)
    assert report["passed"] is False
    damaged = bytearray((cli.folder / "convolutions.engine").read_bytes())
    damaged[-200] ^= 0x55
    (cli.folder / "damaged.engine").write_bytes(damaged)
    done = cli("verify", "damaged.engine", "--onnx", "convolutions.onnx")
    assert done.returncode == 1
    cli.fails(1, "verify", "relu_add.engine", "--onnx", "convolutions.onnx", says="built from")


def test_profile(cli):
    text = cli.ok("profile", "convolutions.engine", "--time", "50ms", "--nodes")
    assert "time/floor" in text and "conv0" in text and "GFLOP/s" in text
    report = cli.json("profile", "convolutions.engine", "--time", "50ms")
    assert report["runs"] >= 3 and report["run_ms"] > 0 and report["gflops_peak"] > 0
    assert {"label", "kernel", "ms", "floor_ms", "flops", "bytes", "onnx_nodes"} <= set(report["steps"][0])
    assert sum(step["flops"] for step in report["steps"]) > 0
    chosen = {
        (region["label"], choice["variant"])
        for region in cli.json("show", "convolutions.engine")["report"]["regions"]
        for choice in region.get("choices", [])
        if choice["chosen"]
    }
    named = [(step["label"], step["variant"]) for step in report["steps"] if "variant" in step]
    assert named and set(named) <= chosen


def test_simplify(cli):
    report = cli.json("simplify", "convolutions.onnx", "s.onnx")
    assert report["checked"] and report["nodes_before"] == 5 and report["nodes_after"] <= 5 and "Conv" in report["ops"]
    onnx.checker.check_model(str(cli.folder / "s.onnx"))
    text = cli.ok("simplify", "relu_add.onnx", "fixed.onnx", "--shape", "x:3x4")
    assert "before" in text and "after" in text
    dims = onnx.load(cli.folder / "fixed.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [3, 4]


def test_ops_and_devices(cli):
    ops = cli.json("ops")
    conv = next(op for op in ops if op["name"] == "Conv")
    assert 11 in conv["versions"] and conv["candidates"]
    assert f"{len(ops)} operators" in cli.ok("ops")
    devices = cli.json("devices")
    assert devices["cpu"]["threads"] >= 1 and devices["cpu"]["fp32_gflops"] > 0 and devices["cpu"]["model"]
    assert devices["cpu"]["model"] in cli.ok("devices")


def test_python_that_lacks_the_package(cli, tmp_path):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 127\n")
    fake.chmod(0o755)
    cli.environment["LATHE_PYTHON"] = str(tmp_path / "no-python")
    cli.fails(3, "export", "m.py:f", "-o", "m.onnx", "--input", "1x3", says=["no-python", "LATHE_PYTHON"])


# Progress and Ctrl-C ----------------------------------------------------------------------------------------------


def on_terminal(cli, *arguments, until=None, then=None):
    """Runs with stderr on a terminal; at the first match of `until`, `then(process)` is called. Returns code, stdout, stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(program("lathe")), *map(str, arguments)], cwd=cli.folder, env=cli.environment, stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    text, acted = "", False
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        text += piece.decode()
        if until and not acted and re.search(until, text):
            acted = True
            then(process)
    os.close(ours)
    out = process.communicate(timeout=60)[0]
    assert acted or not until, text
    return process.returncode, out, text


def test_progress_only_on_a_terminal(cli):
    done = cli("build", "convolutions.onnx", "-o", "m.engine", *QUICK)
    assert done.returncode == 0 and done.stderr == ""
    code, out, text = on_terminal(cli, "build", "convolutions.onnx", "-o", "m.engine", *QUICK)
    assert code == 0 and "verified" in out
    for phase in ("simplifying", "timing candidates", "packing weights", "verifying"):
        assert phase in text, phase
    assert text.endswith("\r\x1b[K")  # the line is taken away
    code, out, text = on_terminal(cli, "build", "convolutions.onnx", "-o", "m.engine", "--quiet", *QUICK)
    assert code == 0 and text == ""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_keeps_its_tuning(cli, how):
    models.save(models.convolutions(24, channels=12, size=40), cli.folder / "long.onnx")
    started = time.monotonic()
    code, out, text = on_terminal(
        cli, "build", "long.onnx", "-o", "long.engine", "--budget", "100s",
        until=r"timing candidates +\[#{4,}", then=lambda process: process.send_signal(how),
    )  # fmt: skip
    assert code == 130 and out == ""
    assert "cancelled" in text and "tuning cache" in text
    assert time.monotonic() - started < 30
    assert new_files(cli) == ["long.onnx"]
    assert list(cli.cache.glob("*.txt"))
    report = cli.json("build", "long.onnx", "-o", "long.engine", "--budget", "0", "--no-verify")
    assert report["tuning"]["cache_hits"] > 0
    assert new_files(cli) == ["long.engine", "long.onnx"]


def test_interrupted_bench(cli):
    process = subprocess.Popen(
        [str(program("lathe")), "bench", "convolutions.engine", "--time", "60s"], cwd=cli.folder, env=cli.environment, stdout=subprocess.PIPE, text=True
    )
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=10)[0]
    assert process.returncode == 130 and out == ""


def test_paths_with_odd_names(cli):
    folder = cli.folder / "a folder ü"
    folder.mkdir()
    model = models.save(models.relu_add(), folder / "m=x model.onnx")
    np.save(folder / "x=1.npy", np.ones((1, 4), np.float32))
    cli.ok("build", model, "-o", folder / "m.engine", *QUICK)
    cli.ok("run", folder / "m.engine", "-i", f"x={folder / 'x=1.npy'}", "-o", folder / "y.npz")
    with np.load(folder / "y.npz") as arrays:
        np.testing.assert_array_equal(arrays["y"], [[2, 3, 4, 5]])
    assert not [p for p in Path(folder).iterdir() if p.name.startswith(".")]
