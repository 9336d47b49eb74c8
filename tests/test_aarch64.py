# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The cross-built programs for 64-bit Arm under qemu-user, beside this machine's own: `make test-aarch64`, which names the build folder in LATHE_AARCH64 and
the share of the sweeps in LATHE_SWEEP ("10:SEED": a tenth, chosen by the seed)."""

import json
import os
import subprocess
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

import models
import test_golden
import test_references
from ops_tool import write_case
from programs import arrays, given, started
from zoo import program

BUILD = os.environ.get("LATHE_AARCH64")
if not BUILD:
    pytest.skip("LATHE_AARCH64 names no cross-built tree (make test-aarch64)", allow_module_level=True)
ARM = Path(BUILD).resolve()
QEMU = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
# Without bf16, SVE and the like: what a Jetson has; and everything that qemu knows.
CPUS = ("cortex-a57", "max")


def arm(name, *words, cpu="max", code=0, **variables):
    environment = {**os.environ, "LATHE_CUDA_DRIVER": "none", **variables}
    command = [*QEMU, "-cpu", cpu, ARM / "bin" / name, *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment, timeout=400, check=False)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done


def here(name, *words, code=0, **variables):
    return started(program(name), *words, code=code, **variables)


def assert_near(got, want, tolerance):
    assert got.keys() == want.keys()
    for name, expected in want.items():
        assert got[name].shape == expected.shape and got[name].dtype == expected.dtype, name
        scale = np.abs(expected).max()
        assert scale > 0.01, f"{name} is too small to tell anything"
        assert np.abs(got[name] - expected).max() <= tolerance * scale, name


def test_programs_are_the_other_machines():
    for name in ("lathe", "lathe_ops_tool"):
        head = (ARM / "bin" / name).read_bytes()[:20]
        assert head[:4] == b"\x7fELF" and head[18:20] == b"\xb7\x00"  # EM_AARCH64
    assert arm("lathe", "--version").stdout == here("lathe", "--version").stdout


def taken(names):
    """The share of the sweep."""
    share, _, seed = os.environ.get("LATHE_SWEEP", "10").partition(":")
    generator = np.random.default_rng(int(seed or 0))
    return sorted(generator.choice(sorted(names), max(1, len(names) // int(share)), replace=False))


# The C library's functions are correct to a unit in the last place, and each machine has its own.
LIBRARY_ULPS = 4


def same_numbers(one, other, dtype):
    if one == other:
        return True
    kind = {onnx.TensorProto.FLOAT: np.int32, onnx.TensorProto.DOUBLE: np.int64, onnx.TensorProto.FLOAT16: np.int16, onnx.TensorProto.BFLOAT16: np.int16}
    if len(one) != len(other) or dtype not in kind:
        return False
    a, b = (np.frombuffer(data, kind[dtype]).astype(np.int64) for data in (one, other))
    return np.abs(a - b).max() <= LIBRARY_ULPS


def difference(ours, theirs):
    """What sets a value apart from the other machine's, or None: kind, type, extents, texts and numbers, its own and its items'."""
    said, other = ({key: told for key, told in value.items() if key not in ("file", "items")} for value in (ours, theirs))
    items, others = ours.get("items", []), theirs.get("items", [])
    if said != other or len(items) != len(others):
        return f"{theirs}, here {ours}"
    if "file" in ours and not same_numbers(Path(ours["file"]).read_bytes(), Path(theirs["file"]).read_bytes(), ours["dtype"]):
        return "other bytes"
    return next(filter(None, map(difference, items, others)), None)


def draws(model):
    """Whether each run gives other numbers."""
    return any(node.op_type in test_references.RANDOM and not any(a.name == "seed" for a in node.attribute) for node in model.graph.node)


def test_references_give_the_same_numbers(tmp_path):
    """The format's node cases by both machines' references, which test_references.py holds against the format's expectations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = {case.name: case for case in collect_testcases(None) if not draws(case.model)}
    folders = {machine: tmp_path / machine for machine in ("arm", "here")}
    for folder in folders.values():
        folder.mkdir()
    for name in taken(cases):
        for folder in folders.values():
            write_case(folder / name, cases[name].model, test_references.inputs_of(cases[name]))
    lines = {
        "arm": arm("lathe_ops_tool", "run-cases", folders["arm"]).stdout,
        "here": here("lathe_ops_tool", "run-cases", folders["here"]).stdout,
    }
    outcome = {machine: {line["case"]: line for line in map(json.loads, text.splitlines())} for machine, text in lines.items()}
    assert outcome["arm"].keys() == outcome["here"].keys()
    ran, differ = 0, []
    for name, ours in outcome["here"].items():
        theirs = outcome["arm"][name]
        if ours["status"] != theirs["status"]:
            differ.append(f"{name}: {theirs['status']} ({theirs.get('message')}), here {ours['status']}")
        if ours["status"] != "ok" or theirs["status"] != "ok":
            continue
        ran += 1
        for a, b in zip(ours["outputs"], theirs["outputs"], strict=True):
            if text := difference(a, b):
                differ.append(f"{name}: {text}")
    assert not differ, "\n".join(differ)
    assert ran > 0.6 * len(outcome["here"])


@pytest.mark.parametrize("engine", test_golden.ENGINES, ids=lambda e: f"{e.parent.name}-{e.stem}")
@pytest.mark.parametrize("cpu", CPUS)
def test_engines_of_x86_run_on_their_generic_section_and_say_so(engine, cpu, tmp_path):
    """Made on x86-64, with a section tuned for a level that no Arm has."""
    section = json.loads(arm("lathe", "show", engine, "--json", cpu=cpu).stdout)["section"]
    assert section.startswith("cpu-generic (any CPU)") and "this machine offers neon" in section and "tuned for avx" in section, section
    for batch, (values, outputs) in test_golden.recorded(engine).items():
        done = arm("lathe", "run", engine, *given(tmp_path, values), "--output", tmp_path / f"{batch}.npz", cpu=cpu)
        assert section in done.stderr
        test_golden.assert_close(engine, arrays(tmp_path / f"{batch}.npz"), outputs)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_builds_what_this_machine_builds(cpu, precision, tmp_path):
    model = models.save(models.convolutions(count=3, size=18), tmp_path / "model.onnx")
    image = np.random.default_rng(3).standard_normal((1, 3, 18, 18)).astype(np.float32)
    words = ["--precision", precision, "--budget", "5", "-q"]
    cache = {"LATHE_CACHE_DIR": str(tmp_path / "cache")}
    arm("lathe", "build", model, "-o", tmp_path / "arm.engine", *words, cpu=cpu, **cache)
    here("lathe", "build", model, "-o", tmp_path / "here.engine", *words, **cache)
    shown = json.loads(arm("lathe", "show", tmp_path / "arm.engine", "--json", cpu=cpu).stdout)["section"]
    assert shown == "cpu (neon)"
    arm("lathe", "run", tmp_path / "arm.engine", *given(tmp_path, {"image": image}), "--output", tmp_path / "arm.npz", cpu=cpu)
    here("lathe", "run", tmp_path / "here.engine", *given(tmp_path, {"image": image}), "--output", tmp_path / "here.npz")
    tolerance = {"fp32": 2e-4, "bf16": 3e-2}[precision]
    assert_near(arrays(tmp_path / "arm.npz"), arrays(tmp_path / "here.npz"), tolerance)
    # And back: Arm's engine runs here, on the section that any CPU runs.
    done = here("lathe", "run", tmp_path / "arm.engine", *given(tmp_path, {"image": image}), "--output", tmp_path / "back.npz")
    assert "tuned for neon, this machine offers" in done.stderr
    assert_near(arrays(tmp_path / "back.npz"), arrays(tmp_path / "here.npz"), tolerance)


def test_a_feature_mask_is_heeded(tmp_path):
    model = models.save(models.relu_add(), tmp_path / "model.onnx")
    x = np.array([[-1, 2, -3, 4]], np.float32)
    for features in ("generic", "neon"):
        words = ["run", model, *given(tmp_path, {"x": x}), "--output", tmp_path / "y.npz"]
        arm("lathe", *words, LATHE_CPU_FEATURES=features, LATHE_CACHE_DIR=str(tmp_path / "cache"))
        np.testing.assert_array_equal(arrays(tmp_path / "y.npz")["y"], models.relu_add_answer(x))


def test_check_finds_the_same_defects(tmp_path):
    node = onnx.helper.make_node("Conf", ["x", "w"], ["y"], name="first")
    other = onnx.helper.make_node("Add", ["y", "late"], ["z"], alpha=1)
    floats = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 4]) for name in ("x", "w", "z")]
    path = tmp_path / "broken.onnx"
    path.write_bytes(onnx.helper.make_model(onnx.helper.make_graph([node, other], "g", floats[:2], floats[2:])).SerializeToString())
    here = subprocess.run([program("lathe"), "check", str(path)], capture_output=True, text=True)
    assert here.returncode == 1 and "Conf" in here.stdout + here.stderr
    done = arm("lathe", "check", path, code=1)
    assert done.stdout + done.stderr == here.stdout + here.stderr
