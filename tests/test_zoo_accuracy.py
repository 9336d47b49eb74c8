# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Engines of real exports against ONNX Runtime in float32: 2e-5 of an output's scale with `exact`, 2e-4 without, at two seeds and, where the
model has free extents, at three shapes from one engine. Each comparison proves that it could fail: another input moves every output by at
least a hundred times the tolerance, or each tensor that the engine stores is held against the oracle as well (zoo_accuracy.py).

`make test` takes the models that cost little and LARGE of the others, drawn by LATHE_TEST_SEED (default 0). LATHE_TEST_FULL=1 takes all, adds
builds that time their candidates, and goes on from what `make zoo` has recorded for this library."""

import os
import random

import numpy as np
import pytest

import zoo
import zoo_accuracy

pytest.importorskip("onnxruntime")
try:
    import lathe  # noqa: F401
except ImportError as error:
    MISSING = str(error)
else:
    MISSING = None

# Cost little: both weight seeds, with and without `exact`, in a few seconds each.
SMALL = (
    "dcgan",
    "espcn",
    "hf_vit",
    "mnasnet1_0",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "rnn_gru",
    "rnn_lstm",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "unet",
    "yolov5n",
)
LARGE = 4


def chosen():
    """(model, weight seed) pairs."""
    try:
        names = zoo.part_6()
    except (pytest.skip.Exception, pytest.fail.Exception):
        return []  # the test below says so
    if zoo.FULL:
        return [(name, None) for name in names]
    small = [n for n in names if n.removesuffix(".dynamo") in SMALL]
    large = random.Random(int(os.environ.get("LATHE_TEST_SEED", "0"))).sample([n for n in names if n not in small], LARGE)
    return [(n, seed) for n in small for seed in zoo_accuracy.WEIGHT_SEEDS] + [(n, zoo_accuracy.WEIGHT_SEEDS[0]) for n in large]


def test_the_zoo_is_there():
    if MISSING:
        zoo.absent(f"the Python package lathe cannot be imported: {MISSING}")
    zoo.zoo_dir()
    assert len(zoo.part_6()) >= 48
    assert {n for prefix in zoo.PART_6 for n in zoo.part_6() if n.startswith(prefix)} == set(zoo.part_6())


@pytest.mark.parametrize(("name", "seed"), chosen())
def test_engine_agrees_with_onnxruntime(name, seed):
    if MISSING:
        zoo.absent(f"the Python package lathe cannot be imported: {MISSING}")
    if seed is None:
        with zoo_accuracy.claimed(name, wait=True):
            results = zoo_accuracy.complete(name)
    else:
        results = {f"{seed} {way}": r for way, r in zoo_accuracy.measure(name, seed, zoo_accuracy.MODELLED).items()}
    found = [f"weights {key}: {text}" for key, r in results.items() for text in zoo_accuracy.defects(name, key.split(" ", 1)[1], r)]
    assert not found, "\n".join(found)


def test_exceptions_are_few():
    assert len(zoo_accuracy.EXCEPTIONS) <= 3
    assert all(cause for _, _, cause in zoo_accuracy.EXCEPTIONS.values())


def test_the_comparison_sees_an_error():
    want = np.array([[1.0, -4.0, np.inf, np.nan]], np.float32)
    assert zoo_accuracy.error_of(want.copy(), want) == 0
    for index, value in ((0, 1.0005), (1, -4.0005), (2, 5.0), (2, -np.inf), (3, 0.0), (0, np.nan), (0, np.inf)):
        got = want.copy()
        got[0, index] = value
        assert zoo_accuracy.error_of(got, want) > 1e-4, (index, value)
    assert zoo_accuracy.error_of(want[0], want) == float("inf")
    assert zoo_accuracy.error_of(want.astype(np.float64), want) == float("inf")
    assert zoo_accuracy.error_of(np.array([1, 2]), np.array([1, 3])) == float("inf")

    assert zoo_accuracy.moved(2 * want, want) == 1.0

    result = {"errors": {"y": 1e-5}, "moved": {"y": 0.5}}
    assert not zoo_accuracy.defects("m", "exact", result)
    assert zoo_accuracy.defects("m", "exact", result | {"errors": {"y": 3e-5}})
    assert not zoo_accuracy.defects("m", "fast", result | {"errors": {"y": 3e-5}})
    assert zoo_accuracy.defects("m", "fast", result | {"errors": {"y": 3e-4}})
    assert zoo_accuracy.defects("m", "fast", result | {"errors": {"y": float("nan")}})
    # An output that hardly moves needs region outputs, and those must have agreed.
    still = result | {"moved": {"y": 1e-3}}
    assert not zoo_accuracy.defects("m", "exact", still | {"regions": {"count": 9, "error": 1e-6, "failed": ""}})
    assert zoo_accuracy.defects("m", "exact", still | {"regions": {"count": 0, "error": float("inf"), "failed": "tensor t differs"}})
    assert zoo_accuracy.defects("m", "exact", still | {"regions": {"count": 1, "error": 1e-6, "failed": ""}})
