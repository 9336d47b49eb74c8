# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Engines of released format versions still run to the recorded numbers, on this machine's own section and, with the CPU's features masked
away, on the generic one, which says so. tests/golden/README.md tells where they come from."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from programs import arrays, given
from zoo import program

GOLDEN = Path(__file__).resolve().parent / "golden"
ENGINES = sorted(GOLDEN.glob("*/*.engine"))
# Share of an output's scale. The generic section sums in another order.
TOLERANCE = {"fp32": 2e-5, "bf16": 3e-2}


def recorded(engine):
    """{batch: ({input: array}, {output: array})}"""
    import lathe

    names = {info.name for info in lathe.load(engine).inputs}
    with np.load(engine.with_name(engine.name.split(".")[0] + ".npz")) as stored:
        cases = {}
        for key in stored.files:
            batch, name = key.split("/", 1)
            cases.setdefault(batch, ({}, {}))[name not in names][name] = stored[key]
    return cases


def assert_close(engine, got, want):
    assert got.keys() == want.keys()
    tolerance = TOLERANCE["bf16" if ".bf16" in engine.name else "fp32"]
    for name, expected in want.items():
        assert got[name].shape == expected.shape and got[name].dtype == expected.dtype
        scale = np.abs(expected).max()
        assert scale > 0.01, f"{name} is too small to tell anything"
        worst = np.abs(got[name] - expected).max() / scale
        assert worst <= tolerance, f"{name}: {worst:.1e} of its scale"


def lathe_command(*words, features=None):
    environment = {name: value for name, value in os.environ.items() if name != "LATHE_CPU_FEATURES"}
    if features:
        environment["LATHE_CPU_FEATURES"] = features
    done = subprocess.run([program("lathe"), *map(str, words)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def test_every_format_version_is_kept():
    text = (GOLDEN.parents[1] / "docs" / "engine_format.md").read_text()
    version = re.search(r"Format version: \*\*(\d+\.\d+)\*\*", text)[1]
    assert (GOLDEN / version).is_dir(), f"no golden engine of format {version}: run tests/golden/make_golden.py"
    assert len(ENGINES) >= 3


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: f"{e.parent.name}-{e.stem}")
def test_runs_to_the_recorded_numbers(engine):
    import lathe

    context = lathe.load(engine).create_context()
    cases = recorded(engine)
    assert len(cases) >= 2
    for inputs, outputs in [*cases.values(), *cases.values()]:  # the second time from the specialisations that the Context holds
        assert_close(engine, context.run(inputs), outputs)


def test_native_code_of_1_1_is_read_and_not_trusted():
    engine = GOLDEN / "1.1" / "sequence.engine"
    listed = json.loads(lathe_command("engine", "list", engine, "--json").stdout)
    assert listed["format"] == "1.1" and [device["device"] for device in listed["devices"]] == ["cuda:sm_90", "cpu", "cpu-generic"]
    native = listed["devices"][0]["native"]
    assert native["trust"] == "unknown key" and [signature["fits"] for signature in native["signatures"]] == [True]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: f"{e.parent.name}-{e.stem}")
def test_generic_section_gives_the_same_numbers_and_says_so(engine, tmp_path):
    tuned = json.loads(lathe_command("show", engine, "--json").stdout)["section"]
    masked = json.loads(lathe_command("show", engine, "--json", features="generic").stdout)["section"]
    assert masked.startswith("cpu-generic (any CPU)") and "this machine offers generic" in masked, masked
    assert "cpu-generic" not in tuned or "this machine offers generic" in tuned, tuned
    bench = lathe_command("bench", engine, "--runs", "2", "--json", features="generic")
    assert json.loads(bench.stdout)["section"] == masked and masked in bench.stderr
    for batch, (inputs, outputs) in recorded(engine).items():
        words = given(tmp_path, inputs)
        done = lathe_command("run", engine, *words, "--output", tmp_path / f"{batch}.npz", features="generic")
        assert masked in done.stderr, done.stderr
        assert_close(engine, arrays(tmp_path / f"{batch}.npz"), outputs)
    own = lathe_command("run", engine, *words, "--output", tmp_path / "own.npz")
    assert ("cpu-generic" in own.stderr) == ("cpu-generic" in tuned)
