# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Random operators: with a seed the numbers of the format's reference, which are NumPy's; without one other numbers at each run."""

import subprocess

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

import zoo
from one_node import model_of, ours, same, the_formats

TYPES = {np.float32: 1, np.float16: 10, np.float64: 11, ml_dtypes.bfloat16: 16}


def check(folder, op, inputs, **attributes):
    model = model_of(op, inputs, **attributes)
    same(ours(folder, model, inputs), the_formats(model, inputs))


@pytest.mark.parametrize("dtype", TYPES.values())
@pytest.mark.parametrize("seed", [0.0, 3.7, 123456.0])
def test_shaped(tmp_path, seed, dtype):
    check(tmp_path, "RandomNormal", [], seed=seed, dtype=dtype, shape=[3, 5], mean=0.7, scale=1.3)
    check(tmp_path, "RandomUniform", [], seed=seed, dtype=dtype, shape=[2, 1, 7], low=-0.3, high=2.1)


@pytest.mark.parametrize("dtype", [None, *TYPES.values()])
def test_like(tmp_path, dtype):
    x = np.zeros((4, 3), np.float16)
    check(tmp_path, "RandomNormalLike", [x], seed=5.0, dtype=dtype, scale=0.1, mean=-2.0)
    check(tmp_path, "RandomUniformLike", [x], seed=5.0, dtype=dtype)


@pytest.mark.parametrize("dtype", [None, 1, 2, 7, 9, 10, 11])
def test_bernoulli(tmp_path, dtype):
    x = np.random.default_rng(1).random((40, 5)).astype(np.float32)
    x[:2] = [0, 1, 0.5, 0, 1]
    check(tmp_path, "Bernoulli", [x], seed=11.0, dtype=dtype)


def test_what_is_no_probability(tmp_path):
    x = np.array([1.5, np.inf, -0.5, -np.inf, np.nan], np.float32)
    same(ours(tmp_path, model_of("Bernoulli", [x]), [x]), [np.array([1, 1, 0, 0, 0], np.float32)])


def test_multinomial(tmp_path):
    # The format has no reference: NumPy's choice, row by row.
    x = np.array([[0.1, 2.0, -1.0], [-np.inf, 0.0, 0.0], [700.0, -700.0, 699.0]])
    state = np.random.RandomState(9)
    shares = np.exp(x - x.max(axis=1, keepdims=True))
    expected = [state.choice(3, size=20, p=row / row.sum()) for row in shares]
    for dtype, kind in ((6, np.int32), (7, np.int64)):
        model = model_of("Multinomial", [x], seed=9.0, sample_size=20, dtype=dtype)
        same(ours(tmp_path, model, [x]), [np.array(expected, kind)])


@pytest.mark.parametrize("op", ["RandomNormal", "RandomUniform"])
def test_without_a_seed_no_two_runs_are_alike(tmp_path, op):
    model = model_of(op, [], shape=[20000])
    first, second = ours(tmp_path, model, [])[0], ours(tmp_path, model, [])[0]
    assert not np.array_equal(first, second)
    mean, deviation = (0, 1) if op == "RandomNormal" else (0.5, 12**-0.5)
    assert abs(first.mean() - mean) < 0.05 and abs(first.std() - deviation) < 0.05


def test_two_nodes_are_two(tmp_path):
    """Nothing merges or folds them, not even with a seed."""
    nodes = [helper.make_node("RandomUniform", [], [name], shape=[8]) for name in "ab"]
    nodes.append(helper.make_node("Sub", ["a", "b"], ["y"]))
    graph = helper.make_graph(nodes, "graph", [], [helper.make_tensor_value_info("y", 1, [8])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    assert ours(tmp_path, model, [])[0].all()


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "why"),
    [
        ("RandomNormal", [], {"shape": [2, -1]}, "has the extent -1"),
        ("RandomNormal", [], {"shape": [2**40, 2**40]}, "more elements than any machine"),
        ("RandomNormal", [], {"shape": [2], "dtype": 7}, "dtype 7 is none of"),
        ("RandomUniform", [], {"shape": [2], "dtype": 999}, "dtype 999 is none of"),
        ("RandomUniform", [], {"shape": [2], "seed": np.inf}, "the seed is infinite"),
        ("RandomUniformLike", [np.zeros(2, np.int64)], {}, "needs the attribute dtype"),
        ("Multinomial", [np.zeros(2, np.float32)], {}, "[batch, classes]"),
        ("Multinomial", [np.zeros((2, 0), np.float32)], {}, "no distribution"),
        ("Multinomial", [np.full((1, 2), -np.inf, np.float32)], {}, "no distribution"),
        ("Multinomial", [np.zeros((1, 2), np.float32)], {"sample_size": 0}, "sample_size is 0"),
        ("Multinomial", [np.zeros((1, 2), np.float32)], {"dtype": 1}, "neither int32 nor int64"),
    ],
)
def test_errors(tmp_path, op, inputs, attributes, why):
    message = ours(tmp_path, model_of(op, inputs, **attributes), inputs)
    assert isinstance(message, str) and op in message and why in message, message


def test_engines_of_random_numbers_alone_are_verified(tmp_path):
    onnx.save(model_of("RandomUniform", [], shape=[3]), tmp_path / "model.onnx")
    done = subprocess.run([zoo.program("lathe"), "build", tmp_path / "model.onnx", "-o", tmp_path / "a.engine"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "random numbers in the shapes of the model; there is nothing else to compare" in done.stdout + done.stderr


@pytest.mark.parametrize("seed", [-1.0, 2.0**32 + 512, np.nan])
def test_seeds_that_numpy_refuses(tmp_path, seed):
    assert not isinstance(ours(tmp_path, model_of("RandomUniform", [], shape=[2], seed=seed), []), str)
