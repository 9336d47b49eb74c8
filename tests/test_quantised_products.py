# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Engines' products of 8-bit integers at their extremes: the same integers as ONNX Runtime, at every precision, by kernels."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import lathe

TYPES = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8}


def extremes(rng, shape, dtype):
    """Mostly the least and the greatest number."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    return rng.choice(np.array([least, most, least, most, int(rng.integers(least, most))], dtype), shape).astype(dtype)


def expect_equal(node, feeds, constants, output_type):
    inputs = [helper.make_tensor_value_info(k, TYPES[v.dtype], v.shape) for k, v in feeds.items()]
    outputs = [helper.make_tensor_value_info("y", output_type, None)]
    graph = helper.make_graph([node], "g", inputs, outputs, [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    want = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    for precision in ("fp32", "bf16"):
        engine = lathe.build(onnx.load_from_string(model), budget=0, verify=False, cache=False, precision=precision)
        chosen = {c["candidate"] for region in engine.report["regions"] for c in region.get("choices", []) if c["chosen"]}
        assert not chosen & {"cpu.conv.winograd", "cpu.reference"}
        np.testing.assert_array_equal(np.asarray(engine.run(feeds)["y"]), want, err_msg=precision)


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "run-time"])
@pytest.mark.parametrize("k", [17, 514, 1500])
def test_matmul_integer(k, constant):
    rng = np.random.default_rng(k)
    a, b = extremes(rng, (9, k), np.uint8), extremes(rng, (k, 33), np.int8)
    feeds, constants = {"a": a}, {"za": extremes(rng, (), np.uint8), "zb": np.int8(-128)}
    (constants if constant else feeds)["b"] = b
    expect_equal(helper.make_node("MatMulInteger", ["a", "b", "za", "zb"], ["y"]), feeds, constants, TensorProto.INT32)


@pytest.mark.parametrize(("channels", "group"), [(3, 1), (64, 1), (200, 1), (32, 32)])
def test_conv(channels, group):
    rng = np.random.default_rng(channels)
    outputs = channels if group > 1 else 40
    x, w = extremes(rng, (1, channels, 14, 14), np.uint8), extremes(rng, (outputs, channels // group, 3, 3), np.int8)
    node = helper.make_node("ConvInteger", ["x", "w", "zx"], ["y"], pads=[1] * 4, group=group)
    expect_equal(node, {"x": x}, {"w": w, "zx": np.uint8(128)}, TensorProto.INT32)
    node = helper.make_node("QLinearConv", ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "b"], ["y"], pads=[1] * 4, group=group)
    constants = {
        "w": w,
        "sx": np.float32(0.02),
        "zx": np.uint8(7),
        "sw": rng.uniform(0.001, 0.01, outputs).astype(np.float32),
        "zw": np.zeros(outputs, np.int8),
        "sy": np.float32(0.7),
        "zy": np.uint8(100),
        "b": rng.integers(-(2**26), 2**26, outputs).astype(np.int32),
    }
    expect_equal(node, {"x": x}, constants, TensorProto.UINT8)
