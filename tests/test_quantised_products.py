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


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_factors_of_whole_numbers_are_truncated_once(dtype):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = [helper.make_tensor_value_info(n, kind, s) for n, s in (("a", [2, 3]), ("b", [3, 4]), ("c", [4]), ("y", [2, 4]))]
    graph = helper.make_graph([helper.make_node("Gemm", ["a", "b", "c"], ["y"], alpha=0.5, beta=0.5)], "g", values[:3], values[3:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    rng = np.random.default_rng(0)
    least = 0 if np.issubdtype(dtype, np.unsignedinteger) else -9
    a, b, c = (rng.integers(least, 9, shape).astype(dtype) for shape in ((2, 3), (3, 4), (4,)))
    got = lathe.build(model, budget=0, cache=False).run({"a": a, "b": b, "c": c})["y"]
    want = np.trunc(0.5 * (a.astype(np.float64) @ b.astype(np.float64)) + 0.5 * c.astype(np.float64)).astype(dtype)
    assert ((a @ b) % 2 + c % 2 == 2).any(), "two halves that make a whole"
    assert np.array_equal(got, want)
