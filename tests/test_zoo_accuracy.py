# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Engines of real exports against ONNX Runtime: 2e-5 of an output's scale with `exact`, 2e-4 without, at two seeds and, where the model has free
extents, at three shapes from one engine. Each comparison proves that it could fail: another input moves every output by at least a hundred times
the tolerance, or each tensor that the engine stores is held against the oracle as well (zoo_accuracy.py).

`make test` takes a tenth of the zoo: EVERY_TIME, and of the other models that cost little as many as make it a tenth, drawn by LATHE_TEST_SEED
(default: the day, so that within weeks all of them are met). LATHE_TEST_FULL=1 takes the whole zoo, adds builds that time their candidates, and
goes on from what `make zoo` has recorded for this library."""

import datetime
import os
import random

import numpy as np
import onnx
import pytest

import zoo
import zoo_accuracy
import zoo_detectors
import zoo_sweep

pytest.importorskip("onnxruntime")
try:
    import lathe  # noqa: F401
except ImportError as error:
    MISSING = str(error)
else:
    MISSING = None

# A kind of file each: convolutions, attention, recurrence, free extents, quantised, fused, trees, texts.
EVERY_TIME = ("dcgan", "espcn.dynamo", "hf_bert", "mobilenet_v2", "ort_hf_gpt2", "q_dyn_hf_bert", "rnn_lstm", "skl_forest", "skl_onehot", "yolov5n")
WEIGHTS, NODES = 5_000_000, 700  # of a model that costs little


def costs_little(name):
    model = onnx.load(zoo.stripped(name), load_external_data=False)
    return sum(int(np.prod(t.dims)) for t in zoo.tensors(model.graph)) < WEIGHTS and len(model.graph.node) < NODES


def chosen():
    """Names: all, or a tenth."""
    try:
        names = zoo.names()
    except (pytest.skip.Exception, pytest.fail.Exception):
        return []  # the test below says so
    if zoo.FULL:
        return names
    seed = int(os.environ.get("LATHE_TEST_SEED", datetime.date.today().toordinal()))
    others = random.Random(seed).sample(names, len(names))
    drawn = [n for n in others if n not in EVERY_TIME and costs_little(n)]
    return [*EVERY_TIME, *drawn[: -(-len(names) // 10) - len(EVERY_TIME)]]


def test_the_zoo_is_there():
    if MISSING:
        zoo.absent(f"the Python package lathe cannot be imported: {MISSING}")
    zoo.zoo_dir()
    assert len(zoo.names()) >= 216
    assert len(chosen()) >= len(zoo.names()) / 10
    assert {n for prefix in zoo.PART_6 for n in zoo.part_6() if n.startswith(prefix)} == set(zoo.part_6())


@pytest.mark.parametrize("name", chosen())
def test_engine_agrees_with_onnxruntime(name):
    if MISSING:
        zoo.absent(f"the Python package lathe cannot be imported: {MISSING}")
    if zoo.FULL:
        with zoo_sweep.claimed(name, wait=True):
            record = zoo_sweep.complete(name)
    else:
        record = {"file": zoo_sweep.of_file(name), "results": {}}
        # What is drawn by turns costs less: one seed, and verification only where the outputs are insensitive.
        always = name in EVERY_TIME
        for seed in zoo_accuracy.WEIGHT_SEEDS if always else (0,):
            results = zoo_accuracy.measure(name, seed, zoo_accuracy.MODELLED, verify=zoo_accuracy.VERIFIED if always else None)
            record["results"] |= {f"{seed} {way}": r for way, r in results.items()}
    found = zoo_sweep.defects(name, record)
    assert not found, "\n".join(found)


def test_exceptions_are_few():
    assert len(zoo_accuracy.EXCEPTIONS) <= 3
    assert len(zoo_detectors.DETECTORS) <= 8
    assert set(zoo_detectors.DETECTORS) <= set(zoo.names())
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
    # Of a quantised file equal steps are enough, those that are one off are not.
    equal = still | {"errors": {"y": 0.0}, "regions": {"count": 1, "error": 1e-6, "failed": ""}}
    assert not zoo_accuracy.defects("q_m", "exact", equal) and zoo_accuracy.defects("m", "exact", equal)
    assert zoo_accuracy.defects("q_m", "exact", equal | {"errors": {"y": 1e-3}})
    assert zoo_accuracy.defects("q_m", "exact", equal | {"moved": {"y": 0.0}})
