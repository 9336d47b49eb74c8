# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Models that cannot be planned whole, from Python and from the command line: texts, sequences, maps, optionals, control flow, extents that
only the data tell."""

import subprocess
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import made_models
import models
from zoo import program

lathe = pytest.importorskip("lathe")

QUICK = {"budget": 0, "cache": False}
F = TensorProto.FLOAT
WORDS = np.array([["a", "", "zwei Wörter"], ["42", "日本", "x" * 40]], object)


def build(model, **more):
    engine = lathe.build(model, **QUICK, **more)
    # Through the file, as everybody's engines come.
    return lathe.load(engine.to_bytes())


def counting_loop(limit=None):
    """x doubled n times (for ever without a limit), and every step of it."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "s"], ["s2"], name="double"),
            helper.make_node("Identity", ["s2"], ["each"], name="keep"),
            helper.make_node("Identity", ["c"], ["c2"], name="go"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", F, None),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s2", F, None),
            helper.make_tensor_value_info("each", F, None),
        ],
    )
    node = helper.make_node("Loop", ["n" if limit is None else "", "yes", "x"], ["y", "all"], name="loop", body=body)
    inputs = [helper.make_tensor_value_info("x", F, ["k"])]
    if limit is None:
        inputs.append(helper.make_tensor_value_info("n", TensorProto.INT64, []))
    outputs = [helper.make_tensor_value_info("y", F, ["k"]), helper.make_tensor_value_info("all", F, [None, "k"])]
    graph = helper.make_graph([node], "g", inputs, outputs, [numpy_helper.from_array(np.array(True), "yes")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def sequences():
    """The parts of x, and the one that k names."""
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["parts"], axis=0, keepdims=0, name="split"),
        helper.make_node("SequenceInsert", ["more", "one"], ["longer"], name="insert"),
        helper.make_node("SequenceAt", ["longer", "k"], ["item"], name="at"),
        helper.make_node("Relu", ["item"], ["y"], name="relu"),
    ]
    seq = helper.make_tensor_sequence_value_info
    inputs = [
        helper.make_tensor_value_info("x", F, ["n", 2]),
        seq("more", F, None),
        helper.make_tensor_value_info("one", F, None),
        helper.make_tensor_value_info("k", TensorProto.INT64, []),
    ]
    graph = helper.make_graph(nodes, "g", inputs, [seq("parts", F, None), helper.make_tensor_value_info("y", F, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_texts():
    engine = build(models.identity(TensorProto.STRING))
    assert engine.inputs[0].dtype == "object"
    got = engine.run({"x": WORDS})["y"]
    assert got.dtype == object
    assert got.tolist() == WORDS.tolist()
    assert engine.run({"x": WORDS.astype(str)})["y"].tolist() == WORDS.tolist()
    with pytest.raises(lathe.Error, match="holds texts"):
        engine.run({"x": np.zeros((2, 3))})
    with pytest.raises(lathe.Error, match="rank 1, expected 2"):
        engine.run({"x": np.array(["a"])})


@pytest.mark.parametrize("trips", [0, 1, 5])
def test_a_loop(trips):
    engine = build(counting_loop())
    x = np.arange(3, dtype=np.float32)
    got = engine.run({"x": x, "n": np.array(trips)})
    np.testing.assert_array_equal(got["y"], x * 2**trips)
    np.testing.assert_array_equal(got["all"], [x * 2 ** (i + 1) for i in range(trips)] if trips else np.zeros((0, 3), np.float32))


def test_the_steps_of_a_loop_are_timed():
    context = build(counting_loop()).create_context()
    feeds = {"x": np.arange(3, dtype=np.float32), "n": np.array(6)}
    context.run(feeds)
    context.start_profile()
    for _ in range(4):
        context.run(feeds)
    steps = context.profile()
    assert steps[0]["label"].startswith("Loop loop") and steps[0]["calls"] == 1
    assert steps[1:] and {step["calls"] for step in steps[1:]} == {6}
    assert all(step["seconds"] > 0 for step in steps)
    assert sum(step["seconds"] for step in steps) <= context.profile_seconds


def test_an_endless_loop_ends(monkeypatch):
    monkeypatch.setenv("LATHE_MAX_TRIPS", "50")
    engine = build(counting_loop(limit=0), verify=False)
    with pytest.raises(lathe.Error, match="^node 'loop' .*50 trips"):
        engine.run({"x": np.zeros(1, np.float32)})


def test_sequences_go_in_and_out():
    engine = build(sequences(), verify=False)
    assert engine.inputs[1].type.startswith("seq(")
    assert repr(engine.inputs[1]).startswith("IoInfo(more: seq(")
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    items = [np.ones(3, np.float32), np.float32(-4), np.zeros((2, 0), np.float32)]
    got = engine.run({"x": x, "more": items, "one": np.full(5, -1, np.float32), "k": np.array(-1)})
    assert [part.tolist() for part in got["parts"]] == x.tolist()
    np.testing.assert_array_equal(got["y"], np.zeros(5))
    np.testing.assert_array_equal(engine.run({"x": x, "more": items, "one": items[0], "k": np.array(1)})["y"], 0)
    with pytest.raises(lathe.Error, match="give a list"):
        engine.run({"x": x, "more": x, "one": x, "k": np.array(0)})
    with pytest.raises(lathe.Error, match="^node 'at' .*position 9 is outside the sequence of 4 elements.$"):
        engine.run({"x": x, "more": items, "one": items[0], "k": np.array(9)})


def test_optionals():
    engine = build(made_models.made_optional(), verify=False)
    x = np.ones((2, 3), np.float32)
    assert engine.inputs[0].type.startswith("optional(")
    got = engine.run({"o": x})
    assert got.get("has", True)
    with pytest.raises(lathe.Error):
        engine.run({"o": None})  # its content is asked for


def test_extents_that_data_tell_from_four_threads():
    nodes = [helper.make_node("NonZero", ["x"], ["at"], name="places"), helper.make_node("Transpose", ["at"], ["y"], name="rows")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", F, ["n", "m"])], [helper.make_tensor_value_info("y", TensorProto.INT64, None)])
    engine = build(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    wrong = []

    def work(seed):
        random = np.random.default_rng(seed)
        for _ in range(30):
            x = (random.random((random.integers(0, 6), random.integers(1, 7))) > 0.5).astype(np.float32)
            if not np.array_equal(engine.run({"x": x})["y"], np.argwhere(x)):
                wrong.append(x)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_command_line(tmp_path):
    onnx.save(models.identity(TensorProto.STRING), tmp_path / "texts.onnx")
    onnx.save(sequences(), tmp_path / "sequences.onnx")
    np.save(tmp_path / "words.npy", WORDS.astype(str))
    np.save(tmp_path / "x.npy", np.arange(4, dtype=np.float32).reshape(2, 2))
    np.save(tmp_path / "k.npy", np.array(1))

    def run(*arguments):
        return subprocess.run([str(program("lathe")), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    done = run("run", "texts.onnx", "-i", "x=words.npy", "-o", "y.npz")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "y.npz")["y"].tolist() == WORDS.tolist()
    done = run(
        "run", "sequences.onnx", "--no-verify", "-i", "x=x.npy", "-i", "more=x.npy", "-i", "more=k32.npy", "-i", "one=x.npy", "-i", "k=k.npy", "-o", "s.npz"
    )
    assert done.returncode != 0, "there is no k32.npy"
    np.save(tmp_path / "k32.npy", np.full(3, 7, np.float32))
    done = run(
        "run", "sequences.onnx", "--no-verify", "-i", "x=x.npy", "-i", "more=x.npy", "-i", "more=k32.npy", "-i", "one=x.npy", "-i", "k=k.npy", "-o", "s.npz"
    )
    assert done.returncode == 0, done.stderr
    saved = np.load(tmp_path / "s.npz")
    assert sorted(saved) == ["parts.0", "parts.1", "y"]
    np.testing.assert_array_equal(saved["y"], [7, 7, 7])
