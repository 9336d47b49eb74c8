# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""ai.onnx.preview.training::Gradient from file to engine: a step of training, second derivatives, and what is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lathe

TRAINING = "ai.onnx.preview.training"


def model_of(nodes, inputs, outputs):
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    graph = helper.make_graph(nodes, "gradients", infos, results)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid(TRAINING, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def gradient(inputs, outputs, **attributes):
    return helper.make_node("Gradient", inputs, outputs, domain=TRAINING, **attributes)


def regression():
    """The mean of (x w + b - t)^2."""
    return [
        helper.make_node("Gemm", ["x", "w", "b"], ["p"]),
        helper.make_node("Sub", ["p", "t"], ["e"]),
        helper.make_node("Mul", ["e", "e"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["loss"], keepdims=0),
    ]


INPUTS = {"x": ["n", 3], "w": [3, 2], "b": [2], "t": ["n", 2]}


def drawn(rows=5):
    rng = np.random.default_rng(1)
    shapes = {"x": (rows, 3), "w": (3, 2), "b": (2,), "t": (rows, 2)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("rows", [1, 5])
def test_a_step_of_training(rows):
    nodes = [*regression(), gradient(["w", "b", "x", "t"], ["dw", "db"], xs=["w", "b"], zs=["x", "t"], y="loss")]
    model = model_of(nodes, INPUTS, {"loss": [], "dw": [3, 2], "db": [2]})
    assert lathe.check(model), str(lathe.check(model))
    values = drawn(rows)
    found = lathe.build(model).run(values)
    error = values["x"] @ values["w"] + values["b"] - values["t"]
    np.testing.assert_allclose(found["loss"], (error**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(found["dw"], values["x"].T @ (2 * error / error.size), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["db"], (2 * error / error.size).sum(axis=0), rtol=1e-4, atol=1e-6)


def test_derivatives_of_derivatives():
    nodes = [
        helper.make_node("Sin", ["x"], ["y"]),
        gradient(["x"], ["d"], xs=["x"], y="y"),
        gradient(["x"], ["dd"], xs=["x"], y="d"),
    ]
    x = np.linspace(-2, 2, 7, dtype=np.float32)
    found = lathe.build(model_of(nodes, {"x": [7]}, {"d": [7], "dd": [7]})).run({"x": x})
    np.testing.assert_allclose(found["d"], np.cos(x), atol=1e-6)
    np.testing.assert_allclose(found["dd"], -np.sin(x), atol=1e-6)


def test_an_operator_without_derivative_is_named():
    nodes = [helper.make_node("Det", ["x"], ["y"], name="determinant"), gradient(["x"], ["d"], xs=["x"], y="y")]
    with pytest.raises(lathe.Error, match="determinant.*Det has no derivative here"):
        lathe.build(model_of(nodes, {"x": [3, 3]}, {"d": [3, 3]}))


def test_a_simplified_file_has_the_derivatives_nodes():
    nodes = [*regression(), gradient(["w"], ["dw"], xs=["w"], y="loss")]
    model = model_of(nodes, INPUTS, {"dw": [3, 2]})
    simplified = onnx.load_model_from_string(lathe.simplify(model)["model"])
    assert "Gradient" not in {node.op_type for node in simplified.graph.node}
    onnx.checker.check_model(simplified)
