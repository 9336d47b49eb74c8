# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The format's own cases of operators that a pass replaces by their parts although they have a reference: the engines made of the parts."""

import warnings

import numpy as np
import onnx
import pytest

from programs import run_model

EXPANDED = {"Attention", "DFT", "Resize", "STFT"}
HELD = {"DFT", "Resize", "STFT"}  # all but the first input are constants of models
HALF = {onnx.TensorProto.FLOAT16: 4e-3}


def collected():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = {case.name: case for case in collect_testcases(None)}
    return {name: case for name, case in cases.items() if [node.op_type for node in case.model.graph.node] in [[op] for op in EXPANDED]}


CASES = collected()


def plain(value):
    return value.dtype.kind in "biuf" if isinstance(value, np.ndarray) else False


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if all(plain(v) for part in case.data_sets[0] for v in part)])
def test_case(name, tmp_path):
    case = CASES[name]
    feeds, expected = case.data_sets[0]
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    inputs = {value.name: array for value, array in zip(model.graph.input, feeds, strict=True)}
    held = model.graph.node[0].op_type in HELD
    for value in list(model.graph.input)[1:] if held else []:
        model.graph.initializer.append(onnx.numpy_helper.from_array(inputs.pop(value.name), value.name))
        model.graph.input.remove(value)
    outputs = run_model(tmp_path, model, inputs)
    for value, want in zip(case.model.graph.output, expected, strict=True):
        got = outputs[value.name]
        tolerance = HALF.get(value.type.tensor_type.elem_type, 1e-4)
        assert got.shape == want.shape and got.dtype == want.dtype
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance, err_msg=value.name)
