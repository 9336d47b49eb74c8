# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Small models made by onnx.helper, with their answers by NumPy where those are short."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def make(nodes, inputs, outputs, weights=None, opset=17, name="model"):
    """inputs, outputs: {name: (type, shape)}; weights: {name: array}."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model


def relu_add():
    """y = Relu(x) + (1, 2, 3, 4) for x: float[batch, 4]."""
    return make(
        [helper.make_node("Relu", ["x"], ["r"], name="relu"), helper.make_node("Add", ["r", "c"], ["y"], name="add")],
        {"x": (FLOAT, ["batch", 4])},
        {"y": (FLOAT, ["batch", 4])},
        {"c": np.array([1, 2, 3, 4], np.float32)},
    )


def relu_add_answer(x):
    return np.maximum(x, 0) + np.array([1, 2, 3, 4], np.float32)


def choice():
    """(y, both): y = relu(x) if flag else -x, and the sequence of y and x: what only a run decides."""

    def branch(name, op):
        return helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [helper.make_tensor_value_info(name, 1, ["n", 4])])

    nodes = [
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("then", "Relu"), else_branch=branch("other", "Neg")),
        helper.make_node("SequenceConstruct", ["y", "x"], ["both"]),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, ["n", 4]), helper.make_tensor_value_info("flag", 9, [])]
    outputs = [helper.make_tensor_value_info("y", 1, ["n", 4]), helper.make_tensor_sequence_value_info("both", 1, None)]
    graph = helper.make_graph(nodes, "choice", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def two_in_two_out():
    """ "sum/out:0" = left + right and "index" = ArgMax(left) for float[batch, 3] each: names as exporters make them, two types."""
    return make(
        [
            helper.make_node("Add", ["left", "right"], ["sum/out:0"], name="add"),
            helper.make_node("ArgMax", ["left"], ["index"], name="arg_max", axis=1, keepdims=0),
        ],
        {"left": (FLOAT, ["batch", 3]), "right": (FLOAT, ["batch", 3])},
        {"sum/out:0": (FLOAT, ["batch", 3]), "index": (INT64, ["batch"])},
    )


def convolutions(count=2, channels=8, size=16, batch=1, seed=0):
    """A chain of 3x3 convolutions, no two alike, ending in a global average: image -> features."""
    rng = np.random.default_rng(seed)
    nodes, weights, value, width = [], {}, "image", 3
    for i in range(count):
        next_width = channels + i
        weights[f"w{i}"] = (rng.standard_normal((next_width, width, 3, 3)) / np.sqrt(9 * width)).astype(np.float32)
        weights[f"b{i}"] = rng.standard_normal(next_width).astype(np.float32)
        nodes.append(helper.make_node("Conv", [value, f"w{i}", f"b{i}"], [f"c{i}"], name=f"conv{i}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}"))
        value, width = f"r{i}", next_width
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["features"], name="pool"))
    return make(nodes, {"image": (FLOAT, [batch, 3, size, size])}, {"features": (FLOAT, [batch, width, 1, 1])}, weights)


def identity(dtype, shape=(2, 3), name="same"):
    """Passes any element type through."""
    return make([helper.make_node("Identity", ["x"], ["y"], name=name)], {"x": (dtype, list(shape))}, {"y": (dtype, list(shape))})


def scalar():
    """y = x * 2 without axes."""
    return make([helper.make_node("Mul", ["x", "two"], ["y"])], {"x": (FLOAT, [])}, {"y": (FLOAT, [])}, {"two": np.array(2, np.float32)})


def save(model, path):
    onnx.save(model, path)
    return path
