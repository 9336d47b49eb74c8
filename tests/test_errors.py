# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What a person is told when something is wrong: the exact texts and exit codes (errors_expected.txt), every error code of the library, two builds
of one output at once, and thousands of broken files (mutation_runs.py; LATHE_MUTATIONS says how many)."""

import collections
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import error_cases
import models
import mutation_runs
import zoo

lathe = zoo.need("lathe", "build with LATHE_PYTHON=ON")

MUTATIONS = int(os.environ.get("LATHE_MUTATIONS", "10000" if zoo.FULL else "1000"))
SEED = int(os.environ.get("LATHE_MUTATION_SEED", "1"))


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return error_cases.Runner(tmp_path_factory.mktemp("errors").resolve())


def test_catalogue(runner):
    """Every line's whole text, word for word. After a change that is meant: python tests/error_cases.py, and read the difference."""
    text, complaints = error_cases.catalogue(runner)
    assert not complaints, "\n".join(complaints)
    expected = error_cases.EXPECTED.read_text().split("\n\n")
    got = text.split("\n\n")
    for one, other in zip(got, expected):
        assert one == other
    assert len(got) == len(expected)


def test_every_code_is_reached():
    header = (zoo.ROOT / "include" / "lathe" / "status.h").read_text()
    codes = set(re.findall(r"^  k(\w+)", re.search(r"enum class Code.*?\{(.*?)\};", header, re.S)[1], re.M)) - {"Ok"}
    assert len(codes) >= 10
    lines = collections.Counter(code for _, code, _ in error_cases.CASES)
    assert {code for code in codes if not lines[code]} == {"Internal"}  # no line is known that meets it: that would be a defect
    assert codes <= set(lines) | {code for code, *_ in error_cases.ELSEWHERE}
    for code, file, word, _ in error_cases.ELSEWHERE:
        assert word in (zoo.ROOT / file).read_text(), (code, file)


def test_classes_have_cases():
    classes = collections.Counter(name for name, code, _ in error_cases.CASES if code != "Ok")
    assert len(classes) >= 12 and min(classes.values()) >= 2 and sum(count >= 3 for count in classes.values()) >= 12, classes


def test_exit_codes_are_the_librarys():
    """EXIT of the cases says what lathe::exit_code says."""
    source = (zoo.ROOT / "src" / "base" / "status.cpp").read_text()
    body = re.search(r"int exit_code\(Code code\).*?\n}\n", source, re.S)[0]
    numbers, waiting = {}, []
    for code, number in re.findall(r"case Code::k(\w+):(?: return (\d);)?", body):
        waiting.append(code)
        if number:
            numbers.update(dict.fromkeys(waiting, int(number)))
            waiting = []
    assert numbers == {"Ok": 0, "InvalidArgument": 2, "Machine": 3, "OutOfMemory": 3}
    assert all(error_cases.EXIT[code] == number for code, number in numbers.items())


def test_two_builds_of_one_output_at_once(tmp_path):
    """Both end well, and the file is one of the two, whole."""
    environment = {**os.environ, "LATHE_CACHE_DIR": str(tmp_path / "cache"), "LATHE_CUDA_DRIVER": "none"}
    answers = {"a": 2, "b": 3}
    for name, count in answers.items():
        models.save(models.convolutions(count, seed=count), tmp_path / f"{name}.onnx")
    for _ in range(3):
        builds = [
            subprocess.Popen(
                [zoo.program("lathe"), "build", f"{name}.onnx", "-o", "out.engine", "--budget", "200ms"],
                cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for name in ("a", "b", "a", "b")
        ]  # fmt: skip
        for build in builds:
            out, error = build.communicate(timeout=120)
            assert build.returncode == 0 and error == "" and "out.engine" in out, error
        done = lathe.load(tmp_path / "out.engine").run({"image": np.ones((1, 3, 16, 16), np.float32)})
        assert done["features"].shape in {(1, 8 + count - 1, 1, 1) for count in answers.values()}
        assert {p.name for p in tmp_path.iterdir()} == {"a.onnx", "b.onnx", "out.engine", "cache"}
        assert not [p for p in (tmp_path / "cache").rglob(".*")]


# Broken files ---------------------------------------------------------------------------------------------------------


def test_mutations(tmp_path):
    """One error paragraph each or a correct run: no crash, no hang, no more than 4 GiB. All ten thousand: LATHE_MUTATIONS=10000."""
    results, findings, _ = mutation_runs.run_all(SEED, MUTATIONS, keep=zoo.ROOT / "out" / "mutation_findings")
    assert not findings, "\n\n".join(findings)
    assert sum(results.values()) == MUTATIONS
    # The inputs are worth something: many pass, many are refused, for several reasons.
    for kind in ("onnx", "engine"):
        assert results[f"{kind}: ran"] > MUTATIONS // 40, results
        assert results[f"{kind}: corrupt_file"] > MUTATIONS // 40, results
    assert results["onnx: invalid_model"] > MUTATIONS // 40 and results["onnx: unsupported"] > MUTATIONS // 100, results


def test_inputs_found_before():
    """What once crashed, hung or was told badly (tests/mutation_findings)."""
    files = sorted((zoo.ROOT / "tests" / "mutation_findings").iterdir())
    environment = {**os.environ, "LATHE_CUDA_DRIVER": "none", "LATHE_THREADS": "1", "LATHE_MAX_TRIPS": "1000"}
    done = subprocess.run(
        [sys.executable, zoo.ROOT / "tests" / "mutation_runs.py", *files], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"after {done.stdout.splitlines()[-1:]}: {done.stderr[-3000:]}"
    assert len(done.stdout.splitlines()) == len(files)
