# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""ONNX's own backend suite through ``lathe.backend``: every case of the CPU but the `Real` models, which would be downloaded. Each builds an
engine and runs it; the suite compares."""

import unittest
import warnings

import numpy as np
import onnx
import onnx.backend.test.runner
import pytest

import lathe.backend

# Bernoulli draws without a seed: the expected values are one draw of NumPy's own stream. Held by distribution below.
BY_DISTRIBUTION = {f"test_bernoulli{kind}{expanded}_cpu" for kind in ("", "_double", "_seed") for expanded in ("", "_expanded")}
# Cases that must be there and pass; raised with the onnx package.
CASES, PASSING_AT_LEAST = 2024, 2018


class WithScalars(onnx.backend.test.runner.Runner):
    """The suite's own comparison, which asks for the length of each item of a sequence, and scalars have none."""

    @classmethod
    def assert_similar_outputs(cls, ref_outputs, outputs, *args, **kwargs):
        if isinstance(outputs, np.ndarray) and outputs.ndim == 0 and np.ndim(ref_outputs) == 0:
            ref_outputs, outputs = np.reshape(ref_outputs, 1), outputs.reshape(1)
        super().assert_similar_outputs(ref_outputs, outputs, *args, **kwargs)


def cases():
    """{name: bound unittest}, built once; creating them reads the node cases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = WithScalars(lathe.backend, __name__)
        found = {}
        for kind, suite in runner.test_cases.items():
            if "Real" in kind:
                continue
            for name in unittest.defaultTestLoader.getTestCaseNames(suite):
                if name.endswith("_cpu"):
                    found[name] = suite(name)
    return found


def outcome(case):
    """None when it passes, else the last line of why not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            case.debug()
        except unittest.SkipTest as skipped:
            return f"skipped: {skipped}"
        except Exception as error:  # whatever a case raises is its outcome
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


@pytest.fixture(scope="module")
def outcomes():
    return {name: outcome(case) for name, case in cases().items()}


def test_the_suite_is_whole(outcomes):
    assert len(outcomes) >= CASES
    assert set(outcomes) >= BY_DISTRIBUTION


def test_every_case_passes(outcomes):
    failed = {name: why for name, why in outcomes.items() if why and name not in BY_DISTRIBUTION}
    passed = sum(why is None for name, why in outcomes.items() if name not in BY_DISTRIBUTION)
    listing = "\n".join(f"{name}: {why}" for name, why in sorted(failed.items()))
    assert passed >= PASSING_AT_LEAST, f"{passed} cases pass, {len(failed)} fail\n{listing}"


@pytest.mark.parametrize("seed", [None, 0.0])
def test_bernoulli_by_distribution(seed):
    attributes = {} if seed is None else {"seed": seed}
    node = onnx.helper.make_node("Bernoulli", ["p"], ["y"], **attributes)
    chances = np.repeat(np.array([0.0, 0.1, 0.5, 0.9, 1.0], np.float32), 20000)
    (drawn,) = lathe.backend.run_node(node, [chances])
    assert set(np.unique(drawn)) <= {0.0, 1.0}
    means = drawn.reshape(5, -1).mean(axis=1)
    # Five standard deviations of 20,000 draws.
    np.testing.assert_allclose(means, [0.0, 0.1, 0.5, 0.9, 1.0], atol=5 * 0.5 / 20000**0.5)
    assert means[0] == 0 and means[4] == 1
