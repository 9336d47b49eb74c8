# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The operators of com.microsoft against ONNX Runtime, and those of TensorRT's plugins against NumPy (contrib_cases.py). Every case is a
model of one node; all are run by our references in one go, which also holds each tensor against what shape inference said of it."""

from functools import cache

import numpy as np
import pytest
from onnx import numpy_helper

import zoo
from contrib_cases import all_cases
from ops_tool import ops_tool, produced, write_case
from programs import run_model

ort = zoo.need("onnxruntime", "ONNX Runtime defines the operators of com.microsoft")

CASES = {case.name: case for case in all_cases()}


def expected(case):
    return case.expected if case.expected is not None else by_onnxruntime(case.name)


@cache
def by_onnxruntime(name):
    case = CASES[name]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(case.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, case.feeds)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{case name: what the tool said of it}"""
    folder = tmp_path_factory.mktemp("contrib")
    for name, case in CASES.items():
        write_case(folder / name, case.model, map(numpy_helper.from_array, case.feeds.values()))
    return {line["case"]: line for line in ops_tool("run-cases", folder)}


@pytest.mark.parametrize("name", CASES)
def test_reference(results, name):
    case, line = CASES[name], results[name]
    assert line["status"] == "ok", line["message"]
    assert not line["inference"], line["inference"]
    for output, want in zip(line["outputs"], expected(case), strict=True):
        case.compare(produced(output), np.asarray(want), output["name"])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.engine])
def test_engine(name, tmp_path):
    """The parts that a node is built of; building holds them against the reference on drawn inputs by the way."""
    case = CASES[name]
    outputs = run_model(tmp_path, case.model, case.feeds)
    names = [v.name for v in case.model.graph.output]
    for key, want in zip(names, expected(case), strict=True):
        case.compare(outputs[key], np.asarray(want), key)


def test_schemas_agree_with_onnxruntime():
    """Every definition of com.microsoft says what ONNX Runtime's own says."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    theirs = {s.name: s for s in native.get_all_operator_schema() if s.domain == "com.microsoft"}
    wrong = []
    for op in ops_tool("schemas")[0]:
        if op["domain"] != "com.microsoft":
            continue
        schema, version = theirs[op["name"]], op["versions"][-1]
        for part, mine, its in (("inputs", version["inputs"], schema.inputs), ("outputs", version["outputs"], schema.outputs)):
            expected = [(p.name, str(p.option).rpartition(".")[2].lower(), p.typeStr) for p in its]
            if [(p["name"], p["option"], p["type"]) for p in mine] != expected:
                wrong.append(f"{op['name']}: {part} {mine}, theirs {expected}")
        names = {n: (str(a.type).rpartition(".")[2].lower(), a.required) for n, a in schema.attributes.items()}
        if {n: (a["type"], a["required"]) for n, a in version["attributes"].items()} != names:
            wrong.append(f"{op['name']}: attributes {version['attributes']}, theirs {names}")
        types = {c.type_param_str: sorted(c.allowed_type_strs) for c in schema.type_constraints}
        if version["constraints"] != types:
            wrong.append(f"{op['name']}: types {version['constraints']}, theirs {types}")
    assert not wrong, "\n".join(wrong)
