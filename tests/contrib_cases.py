# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Seeded models of one node each, for the operators of com.microsoft and TensorRT (test_contrib_ops.py)."""

import zlib
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MS = "com.microsoft"
OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]


@dataclass
class Case:
    name: str
    model: onnx.ModelProto
    feeds: dict
    rtol: float
    atol: float  # of the expected tensor's largest magnitude, but for integers
    expected: list | None = None
    differing: float = 0.0  # share of an integer tensor's elements that may differ, by one
    visible: dict = field(default_factory=dict)  # output -> index of what counts in it
    engine: bool = True  # False: its extents depend on data, which engines do not have yet

    def compare(self, actual, want, name):
        assert actual.shape == want.shape, f"{name}: shape {actual.shape}, expected {want.shape}"
        assert actual.dtype == want.dtype, f"{name}: dtype {actual.dtype}, expected {want.dtype}"
        if name in self.visible:
            actual, want = actual[self.visible[name]], want[self.visible[name]]
        if actual.dtype.kind in "iub":
            off = np.abs(actual.astype(np.int64) - want.astype(np.int64))
            assert off.max(initial=0) <= (1 if self.differing else 0), f"{name}: off by {off.max()}"
            assert (off > 0).mean() <= self.differing if off.size else True, f"{name}: {(off > 0).mean():.1%} differ"
            return
        scale = float(np.abs(want[np.isfinite(want)]).max(initial=0))
        wide = np.float64
        np.testing.assert_allclose(actual.astype(wide), want.astype(wide), rtol=self.rtol, atol=self.atol * max(scale, 1e-6), err_msg=name)


def seeded(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def case(
    name,
    op,
    inputs,
    outputs=1,
    domain=MS,
    const=(),
    rtol=2e-5,
    atol=2e-6,
    expected=None,
    opsets=None,
    free=(),
    differing=0.0,
    visible=None,
    engine=True,
    **attrs,
):
    """`inputs`: arrays, None where left out; those whose number is in `const` are initializers. `outputs`: how many, or a string with a
    '-' for each that is left out. `free`: inputs whose first extent is a symbol."""
    names, feeds, graph_inputs, initializers = [], {}, [], []
    for i, array in enumerate(inputs):
        if array is None:
            names.append("")
            continue
        tensor = array if isinstance(array, TensorProto) else numpy_helper.from_array(np.asarray(array), f"x{i}")
        tensor.name = f"x{i}"
        names.append(tensor.name)
        if i in const:
            initializers.append(tensor)
            continue
        dims = list(tensor.dims)
        if i in free:
            dims[0] = "batch"
        graph_inputs.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, dims))
        feeds[tensor.name] = numpy_helper.to_array(tensor)
    outputs = "+" * outputs if isinstance(outputs, int) else outputs
    out_names = [f"y{i}" if mark == "+" else "" for i, mark in enumerate(outputs)]
    node = helper.make_node(op, names, out_names, name="node", domain=domain, **attrs)
    graph_outputs = [helper.ValueInfoProto(name=n) if hasattr(helper, "ValueInfoProto") else onnx.ValueInfoProto(name=n) for n in out_names if n]
    graph = helper.make_graph([node], name, graph_inputs, graph_outputs, initializers)
    model = helper.make_model(graph, opset_imports=opsets or OPSETS, ir_version=10)
    return Case(name, model, feeds, rtol, atol, expected, differing, visible or {}, engine)


def floats(rng, *shape, dtype=np.float32, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(dtype)


def octets(rng, *shape, dtype=np.uint8):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape, dtype=dtype)


def scalar(value, dtype=np.float32):
    return np.array(value, dtype)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def activations():
    rng = seeded("activations")
    x, b = floats(rng, 3, 5, 24), floats(rng, 24)
    yield case("gelu", "Gelu", [x])
    yield case("fast_gelu", "FastGelu", [x], atol=2e-5)
    yield case("fast_gelu_bias", "FastGelu", [x, b], const={1}, atol=2e-5)
    yield case("bias_gelu", "BiasGelu", [x, b], const={1}, free={0})
    yield case("quick_gelu", "QuickGelu", [x], alpha=1.702, free={0})
    yield case("quick_gelu_default", "QuickGelu", [x])
    skip = floats(rng, 3, 5, 24)
    yield case("bias_add", "BiasAdd", [x, b, skip], expected=[x + b + skip])
    from math import erf

    s = x + b
    half = s[..., 12:]
    gelu = half * 0.5 * (1 + np.vectorize(erf)(half / np.sqrt(2)))
    yield case("bias_split_gelu", "BiasSplitGelu", [x, b], expected=[(s[..., :12] * gelu).astype(np.float32)])
    y = floats(rng, 2, 3, 4, 6)
    inner = floats(rng, 2, 1, 1, 6)
    yield case("bias_softmax_inner", "BiasSoftmax", [y, inner], axis=3, is_inner_broadcast=1, expected=[softmax(y + inner)])
    outer = floats(rng, 4, 6)
    yield case("bias_softmax_outer", "BiasSoftmax", [y, outer], axis=2, is_inner_broadcast=0, expected=[softmax((y + outer).reshape(6, 24)).reshape(y.shape)])


def products():
    rng = seeded("products")
    a, b = floats(rng, 2, 3, 5, 7), floats(rng, 2, 3, 7, 4)
    t = dict(rtol=1e-4, atol=1e-5)
    yield case("fused_matmul", "FusedMatMul", [a, b], alpha=0.25, free={0, 1}, **t)
    yield case("fused_matmul_ta", "FusedMatMul", [a.swapaxes(2, 3).copy(), b], transA=1, **t)
    yield case("fused_matmul_tb", "FusedMatMul", [a, floats(rng, 4, 7)], transB=1, alpha=-2.0, const={1}, **t)
    yield case("fused_matmul_tab", "FusedMatMul", [floats(rng, 7, 5), floats(rng, 4, 7)], transA=1, transB=1, alpha=2.0, **t)
    yield case("fused_matmul_batch_a", "FusedMatMul", [floats(rng, 5, 2, 3, 7), b], transBatchA=1, **t)
    yield case("fused_matmul_batch_b", "FusedMatMul", [a, floats(rng, 7, 2, 3, 4)], transBatchB=1, alpha=0.5, **t)
    yield case("fused_matmul_batch_ta", "FusedMatMul", [floats(rng, 7, 2, 3, 5), b], transBatchA=1, transA=1, **t)
    yield case("fused_matmul_vector", "FusedMatMul", [floats(rng, 7), floats(rng, 7, 4)], transA=1, alpha=3.0, **t)
    yield case("fused_matmul_f64", "FusedMatMul", [floats(rng, 3, 7, dtype=np.float64), floats(rng, 4, 7, dtype=np.float64)], transB=1, **t)
    yield case("transpose_matmul", "TransposeMatMul", [a, floats(rng, 2, 3, 4, 7)], transB=1, alpha=0.5, **t)
    x, w, bias, z = floats(rng, 2, 6, 9, 8), floats(rng, 8, 3, 3, 3), floats(rng, 8), floats(rng, 2, 8, 5, 4)
    conv = dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], group=2, **t)
    for name, params in {"Relu": [], "Tanh": [], "Sigmoid": [], "LeakyRelu": [0.2], "Clip": [-0.5, 0.75], "HardSigmoid": [0.3, 0.4]}.items():
        extra = {"activation_params": params} if params else {}
        yield case(f"fused_conv_{name}", "FusedConv", [x, w, bias], const={1, 2}, free={0}, activation=name, **extra, **conv)
    yield case("fused_conv_plain", "FusedConv", [x, w], const={1}, **conv)
    yield case("fused_conv_add", "FusedConv", [x, w, bias, z], const={1, 2}, activation="Relu", **conv)
    yield case("fused_conv_add_no_bias", "FusedConv", [x, w, None, z], const={1}, activation="Relu", **conv)
    yield case("fused_conv_1d", "FusedConv", [floats(rng, 1, 4, 11), floats(rng, 3, 4, 3)], activation="Relu", dilations=[2], **t)
    m, n, c = floats(rng, 5, 7), floats(rng, 7, 4), floats(rng, 4)
    for name, extra in {
        "Relu": {},
        "LeakyRelu": dict(activation_alpha=0.3),
        "Sigmoid": {},
        "Tanh": {},
        "Elu": dict(activation_alpha=0.5),
        "HardSigmoid": dict(activation_alpha=0.3, activation_beta=0.4),
        "Softplus": {},
        "Softsign": {},
    }.items():
        yield case(f"fused_gemm_{name}", "FusedGemm", [m, n, c], activation=name, alpha=0.5, beta=2.0, **extra, **t)
    yield case("fused_gemm_trans", "FusedGemm", [m.T.copy(), n.T.copy()], activation="Relu", transA=1, transB=1, **t)
    h = m @ n + c
    expected = 0.5 * h * (1 + np.tanh(0.7978845608 * (h + 0.044715 * h**3)))
    yield case("gemm_fast_gelu", "GemmFastGelu", [m, n, c], expected=[expected.astype(np.float32)], **t)
    q = octets(rng, 2, 9, 8, 5, dtype=np.int8)
    pool = dict(kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    yield case("nhwc_max_pool", "NhwcMaxPool", [q], **pool)
    yield case("nhwc_max_pool_ceil", "NhwcMaxPool", [octets(rng, 1, 8, 7, 3)], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    image = floats(rng, 2, 9, 8, 6)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), (1, 2))[:, ::2, ::2]
    halves = [np.einsum("nhwcij,ocij->nhwo", windows[:, :, :, 3 * g : 3 * g + 3], w[4 * g : 4 * g + 4]) for g in range(2)]
    expected = (np.concatenate(halves, -1) + bias).astype(np.float32)
    yield case("nhwc_conv", "NhwcConv", [image, w.transpose(0, 2, 3, 1).copy(), bias], expected=[expected], **conv)
    yield case("nhwc_fused_conv", "NhwcFusedConv", [image, w, bias], activation="Relu", expected=[np.maximum(expected, 0)], **conv)


def packed_bits(q, bits):
    """Rows of numbers below 2^bits to bytes, the first number lowest."""
    rows = (q[..., None].astype(np.uint8) >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(rows.reshape(*q.shape[:-1], -1), axis=-1, bitorder="little")


def nbits():
    for name, (k, n, bits, block, zeros, extra) in {
        "nbits_4": (64, 12, 4, 32, None, {}),
        "nbits_4_zeros": (96, 7, 4, 32, "packed", {}),
        "nbits_4_odd_k": (83, 5, 4, 16, "packed", {}),
        "nbits_4_float_zeros": (64, 6, 4, 16, "float", {}),
        "nbits_4_bias": (64, 6, 4, 64, None, dict(bias=True)),
        "nbits_8": (64, 6, 8, 32, "packed", {}),
        "nbits_8_no_zeros": (40, 6, 8, 16, None, {}),
        "nbits_2": (128, 5, 2, 32, "packed", {}),
        "nbits_4_half": (64, 6, 4, 32, "packed", dict(dtype=np.float16)),
    }.items():
        rng = seeded(name)
        dtype = extra.get("dtype", np.float32)
        blocks = -(-k // block)
        q = rng.integers(0, 2**bits, (n, blocks * block))
        scales = (rng.random((n, blocks)) * 0.1 + 0.01).astype(dtype)
        z, stored = np.full((n, blocks), 2.0 ** (bits - 1)), None
        if zeros == "packed":
            z = rng.integers(0, 2**bits, (n, blocks))
            stored = packed_bits(np.pad(z, ((0, 0), (0, -blocks % (8 // bits)))), bits)
        elif zeros == "float":
            z = stored = (rng.random((n, blocks)) * 15).astype(dtype)
        packed = packed_bits(q, bits).reshape(n, blocks, block * bits // 8)
        a = floats(rng, 3, 4, k, dtype=dtype)
        bias = floats(rng, n, dtype=dtype) if extra.get("bias") else None
        w = ((q.reshape(n, blocks, block) - z[..., None]) * scales[..., None].astype(np.float64)).reshape(n, -1)[:, :k]
        expected = a.astype(np.float64) @ w.T + (0 if bias is None else bias)
        inputs = [a, packed, scales, stored, None, bias] if bias is not None else [a, packed, scales, stored] if stored is not None else [a, packed, scales]
        tolerance = dict(rtol=5e-3, atol=2e-3) if dtype == np.float16 else dict(rtol=1e-4, atol=1e-5)
        # A half-precision product in ONNX Runtime, and zero points that are no integers: against the definition.
        own = dtype == np.float16 or zeros == "float" or bits == 2
        yield case(
            name,
            "MatMulNBits",
            inputs,
            const={1, 2, 3, 5},
            K=k,
            N=n,
            bits=bits,
            block_size=block,
            expected=[expected.astype(dtype)] if own else None,
            **tolerance,
        )


def norms():
    rng = seeded("norms")
    x, skip, g, b, bias = floats(rng, 2, 5, 24), floats(rng, 2, 5, 24), floats(rng, 24), floats(rng, 24), floats(rng, 24)
    t = dict(rtol=1e-4, atol=1e-5)
    yield case("simplified_norm", "SimplifiedLayerNormalization", [x, g], domain="", axis=-1, epsilon=1e-6, free={0}, **t)
    yield case("simplified_norm_inv", "SimplifiedLayerNormalization", [x, floats(rng, 5, 24)], 2, domain="", axis=1, expected=None, **t)
    yield case("old_layer_norm", "LayerNormalization", [x, g, b], domain="", epsilon=1e-5, opsets=[helper.make_opsetid("", 13)], **t)
    yield case("skip_norm", "SkipLayerNormalization", [x, skip, g, b, bias], epsilon=1e-5, free={0, 1}, **t)
    yield case("skip_norm_no_beta", "SkipLayerNormalization", [x, skip, g], **t)
    yield case("skip_norm_sum", "SkipLayerNormalization", [x, skip, g, b], "+--+", epsilon=1e-5, **t)
    yield case("skip_norm_broadcast", "SkipLayerNormalization", [x, skip[0], g, b], epsilon=1e-5, **t)
    yield case("skip_norm_broadcast_1", "SkipLayerNormalization", [x, skip[:1], g, b, bias], "+--+", epsilon=1e-5, **t)
    half = [v.astype(np.float16) for v in (x, skip, g, b, bias)]
    yield case("skip_norm_half", "SkipLayerNormalization", half, epsilon=1e-5, rtol=1e-2, atol=4e-3)
    yield case("skip_simplified", "SkipSimplifiedLayerNormalization", [x, skip, g], epsilon=1e-6, **t)
    yield case("skip_simplified_sum", "SkipSimplifiedLayerNormalization", [x, skip, g, bias], "+--+", epsilon=1e-6, **t)
    ids, seg = rng.integers(0, 30, (3, 7)).astype(np.int32), rng.integers(0, 2, (3, 7)).astype(np.int32)
    words, places, segments = floats(rng, 30, 24), floats(rng, 12, 24), floats(rng, 2, 24)
    mask = (np.arange(7) < np.array([[7], [3], [5]])).astype(np.int32)
    yield case("embed", "EmbedLayerNormalization", [ids, seg, words, places, segments, g, b, mask], 3, epsilon=1e-5, **t)
    yield case("embed_no_segments", "EmbedLayerNormalization", [ids, None, words, places, None, g, b], 2, epsilon=1e-5, **t)
    at = rng.integers(0, 12, (3, 7)).astype(np.int32)
    yield case("embed_positions", "EmbedLayerNormalization", [ids, seg, words, places, segments, g, b, None, at], "+-+", epsilon=1e-5, **t)

    image, gamma, beta = floats(rng, 2, 4, 3, 8), floats(rng, 8), floats(rng, 8)

    def group_norm(v, groups):  # channels last
        parts = v.reshape(2, -1, groups, 8 // groups)
        mean, var = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
        return ((parts - mean) / np.sqrt(var + 1e-5)).reshape(v.shape) * gamma + beta

    def silu(v):
        return v / (1 + np.exp(-v))

    y = group_norm(image, 4)
    yield case("group_norm", "GroupNorm", [image, gamma, beta], groups=4, activation=0, expected=[y], **t)
    yield case("group_norm_silu", "GroupNorm", [image, gamma, beta], groups=4, activation=1, expected=[silu(y)], **t)
    first = image.transpose(0, 3, 1, 2).copy()
    yield case("group_norm_first", "GroupNorm", [first, gamma, beta], groups=4, activation=0, channels_last=0, expected=[y.transpose(0, 3, 1, 2)], **t)
    more, per_channel = floats(rng, 2, 8), floats(rng, 8)
    total = image + more[:, None, None] + per_channel
    yield case(
        "skip_group_norm",
        "SkipGroupNorm",
        [image, gamma, beta, more, per_channel],
        2,
        groups=2,
        activation=1,
        expected=[silu(group_norm(total, 2)), total],
        **t,
    )


def quantised():
    rng = seeded("quantised")
    f = scalar
    # Where ratios of scales are short fractions, ties are frequent, and the two add the zero point before or after rounding.
    sa, sb, sc = f(0.0311), f(0.0217), f(0.0413)
    for dtype in (np.uint8, np.int8):
        kind = np.dtype(dtype).name
        z = partial(np.array, dtype=dtype)
        a, b = octets(rng, 2, 3, 5, 7, dtype=dtype), octets(rng, 2, 3, 5, 7, dtype=dtype)
        near = dict(differing=0.02)
        yield case(f"qlinear_add_{kind}", "QLinearAdd", [a, sa, z(3), b, sb, z(9), sc, z(5)], free={0, 3}, **near)
        yield case(f"qlinear_add_no_c_zero_{kind}", "QLinearAdd", [a, sa, z(0), b, sb, z(0), sc], **near)
        yield case(f"qlinear_add_broadcast_{kind}", "QLinearAdd", [a, sa, z(3), b[0, :1, :1], sb, z(9), sc, z(5)], **near)
        yield case(f"qlinear_mul_{kind}", "QLinearMul", [a, sa, z(3), b, sb, z(9), sc, z(5)], **near)
        yield case(f"qlinear_leaky_{kind}", "QLinearLeakyRelu", [a, f(0.03), z(3), f(0.025), z(5)], alpha=0.2, **near)
        yield case(f"qlinear_sigmoid_{kind}", "QLinearSigmoid", [a, f(0.03), z(3), f(1 / 256), z(0)], const={1, 2, 3, 4}, **near)
        lowest = z(np.iinfo(dtype).min)
        soft = dict(opset=13, differing=0.1)
        yield case(f"qlinear_softmax_{kind}", "QLinearSoftmax", [a, f(0.03), z(3), f(1 / 256), lowest], axis=-1, const={1, 2, 3, 4}, **soft)
        yield case(f"qlinear_softmax_axis_{kind}", "QLinearSoftmax", [a, f(0.02), z(3), f(1 / 256), lowest], axis=1, const={1, 2, 3, 4}, **soft)
        old = dict(opset=12, differing=0.1)
        yield case(f"qlinear_softmax_12_{kind}", "QLinearSoftmax", [a, f(0.02), z(3), f(1 / 2048), lowest], axis=2, const={1, 2, 3, 4}, **old)
        yield case(f"qlinear_global_{kind}", "QLinearGlobalAveragePool", [a, sa, z(3), sb, z(5)], free={0}, **near)
        yield case(f"qlinear_global_last_{kind}", "QLinearGlobalAveragePool", [a, sa, z(3), sb, z(5)], channels_last=1, **near)
        pool = dict(kernel_shape=[2, 3], strides=[1, 2], pads=[1, 0, 0, 1])
        yield case(f"qlinear_average_{kind}", "QLinearAveragePool", [a, sa, z(3), sb, z(5)], **pool, **near)
        yield case(f"qlinear_average_pad_{kind}", "QLinearAveragePool", [a, sa, z(3), sb, z(5)], count_include_pad=1, **pool, **near)
        yield case(f"qlinear_average_last_{kind}", "QLinearAveragePool", [a, sa, z(3), sb, z(5)], channels_last=1, **pool, **near)
        where = [rng.random((2, 3, 5, 7)) < 0.5, a, f(0.03), z(3), b, f(0.02), z(9), f(0.04), z(5)]
        yield case(f"qlinear_where_{kind}", "QLinearWhere", where, const={2, 3, 5, 6, 7, 8}, **near)
        concat = [f(0.04), z(5), a, f(0.03), z(3), b[:, :2], f(0.02), z(9), a[:, :1], f(0.04), z(5)]
        yield case(f"qlinear_concat_{kind}", "QLinearConcat", concat, axis=1, const={0, 1, 3, 4, 6, 7, 9, 10}, **near)

        m, n = octets(rng, 6, 16, dtype=dtype), octets(rng, 16, 9, dtype=np.int8)
        zb = scalar(2, np.int8)
        c = rng.integers(-3000, 3000, 9).astype(np.int32)
        gemm = [m, f(0.03), z(7), n, f(0.01), zb, c]
        yield case(f"qgemm_{kind}", "QGemm", [*gemm, f(0.5), z(5)], const={3, 4, 5, 6, 7, 8}, **near)
        yield case(f"qgemm_float_{kind}", "QGemm", gemm, alpha=0.5)
        yield case(f"qgemm_no_c_{kind}", "QGemm", [*gemm[:6], None, f(0.5), z(5)], **near)
        columns = (rng.random(9) * 0.02 + 0.001).astype(np.float32)
        turned = [m, f(0.03), z(7), n.T.copy(), columns, octets(rng, 9, dtype=np.int8) // 8, c, f(0.5), z(5)]
        yield case(f"qgemm_columns_{kind}", "QGemm", turned, transB=1, **near)
        yield case(f"qgemm_trans_a_{kind}", "QGemm", [m.T.copy(), *gemm[1:], f(0.5), z(5)], transA=1, alpha=0.75, **near)
        bias = floats(rng, 9)
        yield case(f"integer_to_float_{kind}", "MatMulIntegerToFloat", [m, n, f(0.03), columns, z(7), octets(rng, 9, dtype=np.int8) // 8, bias])
        yield case(f"integer_to_float_plain_{kind}", "MatMulIntegerToFloat", [octets(rng, 2, 6, 16, dtype=dtype), n, f(0.03), f(0.01)], free={0})
        image, w = octets(rng, 1, 4, 8, 7, dtype=dtype), octets(rng, 6, 4, 3, 3, dtype=np.int8)
        conv = [image, f(0.02), z(8), w, f(0.01), scalar(0, np.int8), f(0.3), z(5), rng.integers(-900, 900, 6).astype(np.int32)]
        yield case(f"qlinear_conv_{kind}", "QLinearConv", conv, const={1, 2, 3, 4, 5, 6, 7, 8}, kernel_shape=[3, 3], pads=[1, 1, 1, 1], **near)
        last = [image.transpose(0, 2, 3, 1).copy(), *conv[1:]]
        yield case(
            f"qlinear_conv_last_{kind}", "QLinearConv", last, const={1, 2, 3, 4, 5, 6, 7, 8}, kernel_shape=[3, 3], pads=[1, 1, 1, 1], channels_last=1, **near
        )
        a2 = floats(rng, 2, 6, 16)
        yield case(
            f"dynamic_matmul_{kind}",
            "DynamicQuantizeMatMul",
            [a2, octets(rng, 16, 9, dtype=dtype), f(0.02), z(5), bias],
            const={1, 2, 3, 4},
            rtol=1e-4,
            atol=1e-5,
        )
        yield case(
            f"dynamic_matmul_columns_{kind}", "DynamicQuantizeMatMul", [a2, octets(rng, 16, 9, dtype=dtype), columns], const={1, 2}, rtol=1e-4, atol=1e-5
        )
    for dtype in (np.uint8, np.int8, np.uint16, np.int16):
        kind = np.dtype(dtype).name
        q = octets(rng, 3, 4, 5, dtype=dtype)
        yield case(f"dequantize_{kind}", "DequantizeLinear", [q, f(0.02), scalar(7, dtype)])
        scales = (rng.random(4) + 0.1).astype(np.float32)
        yield case(f"dequantize_axis_{kind}", "DequantizeLinear", [q, scales, octets(rng, 4, dtype=dtype)], axis=1)
        x = floats(rng, 3, 4, 5, scale=20)
        yield case(f"quantize_{kind}", "QuantizeLinear", [x, f(0.3), scalar(7, dtype)], differing=0.02)
        yield case(f"quantize_axis_{kind}", "QuantizeLinear", [x, scales, octets(rng, 4, dtype=dtype)], axis=1, differing=0.02)
    q32 = rng.integers(-1000, 1000, (3, 4)).astype(np.int32)
    yield case("dequantize_int32", "DequantizeLinear", [q32, f(0.02)])
    for name, direction, per in (
        ("dynamic_lstm", "forward", False),
        ("dynamic_lstm_both", "bidirectional", False),
        ("dynamic_lstm_columns", "bidirectional", True),
    ):
        d, inputs, hidden, steps = (2 if direction == "bidirectional" else 1), 10, 8, 5
        x = floats(rng, steps, 3, inputs)
        w, r = octets(rng, d, inputs, 4 * hidden, dtype=np.int8), octets(rng, d, hidden, 4 * hidden, dtype=np.int8)
        shape = (d, 4 * hidden) if per else (d,)
        ws, rs = ((rng.random(shape) * 0.004 + 0.001).astype(np.float32) for _ in range(2))
        wz, rz = np.zeros(shape, np.int8), np.zeros(shape, np.int8)
        h, c = floats(rng, d, 3, hidden, scale=0.3), floats(rng, d, 3, hidden, scale=0.3)
        given = [x, w, r, floats(rng, d, 8 * hidden, scale=0.2), None, h, c, None, ws, wz, rs, rz]
        # ONNX Runtime rounds the activations to 8 bits as well.
        yield case(name, "DynamicQuantizeLSTM", given, 3, const={1, 2, 3, 8, 9, 10, 11}, direction=direction, hidden_size=hidden, rtol=0, atol=0.03)


def attentions():
    rng = seeded("attentions")
    t = dict(rtol=1e-3, atol=1e-5)
    batch, steps, hidden, heads, past = 2, 5, 24, 4, 3
    size = hidden // heads
    x, w, b = floats(rng, batch, steps, 16), floats(rng, 16, 3 * hidden, scale=0.3), floats(rng, 3 * hidden)
    common = dict(num_heads=heads, const={1, 2}, **t)
    yield case("attention", "Attention", [x, w, b], free={0}, **common)
    yield case("attention_no_bias", "Attention", [x, w], **common)
    yield case("attention_causal", "Attention", [x, w, b], unidirectional=1, **common)
    yield case("attention_scale", "Attention", [x, w, b], scale=0.3, **common)
    ends = np.array([5, 3], np.int32)
    yield case("attention_lengths", "Attention", [x, w, b, ends], free={0, 3}, **common)
    yield case("attention_lengths_filter", "Attention", [x, w, b, ends], mask_filter_value=-5.0, **common)
    yield case("attention_ends_starts", "Attention", [x, w, b, np.array([5, 4, 1, 2], np.int32)], **common)
    mask = np.array([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]], np.int32)
    yield case("attention_mask", "Attention", [x, w, b, mask], free={0, 3}, **common)
    yield case("attention_mask_causal", "Attention", [x, w, b, np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)], unidirectional=1, **common)
    cube = (rng.random((batch, steps, steps)) < 0.7).astype(np.int32)
    yield case("attention_mask_3d", "Attention", [x, w, b, cube], **common)
    big = np.tril(np.ones((batch, 1, 12, 12), np.int32))
    parts = [(x @ w + b)[..., i * hidden : (i + 1) * hidden].reshape(batch, steps, heads, size).transpose(0, 2, 1, 3) for i in range(3)]
    scores = parts[0] @ parts[1].swapaxes(2, 3) / np.float32(np.sqrt(size)) + np.where(big[:, :, :steps, :steps], 0, np.float32(-10000))
    expected = (softmax(scores) @ parts[2]).transpose(0, 2, 1, 3).reshape(batch, steps, hidden)
    yield case("attention_mask_4d", "Attention", [x, w, b, big], expected=[expected.astype(np.float32)], **common)
    old = floats(rng, 2, batch, heads, past, size)
    yield case("attention_past", "Attention", [x, w, b, None, old], 2, **common)
    yield case("attention_past_causal", "Attention", [x, w, b, None, old], 2, unidirectional=1, **common)
    wide = np.ones((batch, past + steps), np.int32)
    wide[0, :2] = 0
    yield case("attention_past_mask", "Attention", [x, w, b, wide, old], 2, **common)
    yield case("attention_present", "Attention", [x, w, b], 2, **common)
    bias = floats(rng, batch, heads, steps, steps)
    yield case("attention_score_bias", "Attention", [x, w, b, None, None, bias], **common)
    yield case("attention_score_bias_1", "Attention", [x, w, b, mask, None, bias[:1, :1]], **common)
    own = floats(rng, 16, 24 + 24 + 16, scale=0.3)
    yield case("attention_sizes", "Attention", [x, own, floats(rng, 64)], qkv_hidden_sizes=[24, 24, 16], **common)

    q8, w8 = octets(rng, batch, steps, 16), octets(rng, 16, 3 * hidden, dtype=np.int8)
    rest = [b, scalar(0.02), scalar(0.005), None, scalar(120, np.uint8), scalar(0, np.int8)]
    whole = dict(num_heads=heads, const={1, 2, 3, 4, 6, 7}, **t)
    yield case("qattention", "QAttention", [q8, w8, *rest], **whole)
    yield case("qattention_causal", "QAttention", [q8, w8, *rest], unidirectional=1, **whole)
    masked = [*rest]
    masked[3] = mask
    yield case("qattention_mask", "QAttention", [q8, w8, *masked], **whole)
    yield case("qattention_past", "QAttention", [q8, w8, *rest, old], 2, **whole)

    q, k, v = floats(rng, batch, steps, hidden), floats(rng, batch, 7, hidden), floats(rng, batch, 7, 16)
    several = dict(num_heads=heads, **t)
    yield case("mha", "MultiHeadAttention", [q, k, v], free={0, 1, 2}, **several)
    biases = floats(rng, 2 * hidden + 16)
    yield case("mha_bias", "MultiHeadAttention", [q, k, v, biases], const={3}, **several)
    yield case("mha_scale", "MultiHeadAttention", [q, k, v], scale=0.2, **several)
    padding = np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0]], np.int32)
    yield case("mha_mask", "MultiHeadAttention", [q, k, v, None, padding], **several)
    yield case("mha_lengths", "MultiHeadAttention", [q, k, v, None, np.array([7, 4], np.int32)], **several)
    yield case("mha_score_bias", "MultiHeadAttention", [q, k, v, None, None, floats(rng, 1, heads, steps, 7)], **several)
    yield case("mha_causal", "MultiHeadAttention", [q, q, q], unidirectional=1, **several)
    pk, pv = floats(rng, batch, heads, past, size), floats(rng, batch, heads, past, size)
    yield case("mha_past", "MultiHeadAttention", [q, q, q, None, None, None, pk, pv], 3, **several)
    yield case("mha_past_causal", "MultiHeadAttention", [q, q, q, None, None, None, pk, pv], 3, unidirectional=1, **several)
    yield case("mha_cross", "MultiHeadAttention", [q, floats(rng, batch, heads, 7, size), floats(rng, batch, heads, 7, size)], **several)
    rows = floats(rng, batch, steps, heads, 3, size)

    def heads_last(y):
        return y.transpose(0, 2, 1, 3).reshape(batch, steps, -1)

    a, c, d = (rows[:, :, :, i].transpose(0, 2, 1, 3) for i in range(3))
    packed = heads_last(softmax(a @ c.swapaxes(2, 3) / np.sqrt(size)) @ d)
    yield case("mha_packed", "MultiHeadAttention", [rows], expected=[packed.astype(np.float32)], **several)
    pairs = floats(rng, batch, 7, heads, 2, size)
    a, c, d = q.reshape(batch, steps, heads, size).transpose(0, 2, 1, 3), pairs[:, :, :, 0].transpose(0, 2, 1, 3), pairs[:, :, :, 1].transpose(0, 2, 1, 3)
    packed = heads_last(softmax(a @ c.swapaxes(2, 3) / np.sqrt(size)) @ d)
    yield case("mha_packed_pair", "MultiHeadAttention", [q, pairs], expected=[packed.astype(np.float32)], **several)

    cos, sin = np.cos(floats(rng, 20, 3)), np.sin(floats(rng, 20, 3))
    at = rng.integers(0, 20, (batch, steps)).astype(np.int64)
    yield case("rotary", "RotaryEmbedding", [q, at, cos, sin], const={2, 3}, free={0, 1}, **t)
    yield case("rotary_interleaved", "RotaryEmbedding", [q, at, cos, sin], interleaved=1, const={2, 3}, **t)
    yield case("rotary_offset", "RotaryEmbedding", [q, np.array([4], np.int64), cos, sin], const={2, 3}, **t)
    four = floats(rng, batch, heads, steps, size)
    yield case("rotary_4d", "RotaryEmbedding", [four, at, cos, sin], const={2, 3}, **t)
    part = dict(num_heads=3, rotary_embedding_dim=6)
    yield case("rotary_part", "RotaryEmbedding", [q, at, cos, sin], const={2, 3}, **part, **t)


def group_queries():
    rng = seeded("group_queries")
    t = dict(rtol=1e-3, atol=1e-5)
    heads, kv_heads, size = 6, 2, 16
    cos, sin = np.cos(floats(rng, 40, size // 2)), np.sin(floats(rng, 40, size // 2))

    def inputs(batch, steps, past, lengths, total, rotary=False, buffer=None):
        q, k, v = floats(rng, batch, steps, heads * size), floats(rng, batch, steps, kv_heads * size), floats(rng, batch, steps, kv_heads * size)
        rows = past if buffer is None else buffer
        pk, pv = (floats(rng, batch, kv_heads, rows, size) for _ in range(2))
        ends = (np.array(lengths) - 1).astype(np.int32)
        given = [q, k, v, pk, pv, ends, np.array([total], np.int32)]
        return given + [cos, sin] if rotary else given

    common = dict(num_heads=heads, kv_num_heads=kv_heads, const={6, 7, 8}, **t)
    turned = dict(do_rotary=1, **common)
    yield case("gqa_prompt", "GroupQueryAttention", inputs(2, 5, 0, [5, 5], 5), 3, **common)
    yield case("gqa_prompt_rotary", "GroupQueryAttention", inputs(2, 5, 0, [5, 5], 5, True), 3, **turned)
    padded = dict(visible={"y0": (1, slice(0, 3)), "y1": (1, slice(None), slice(0, 3)), "y2": (1, slice(None), slice(0, 3))})
    yield case("gqa_prompt_padded", "GroupQueryAttention", inputs(2, 5, 0, [5, 3], 5, True), 3, **padded, **turned)
    yield case("gqa_step", "GroupQueryAttention", inputs(2, 1, 4, [5, 5], 5), 3, free={0}, **common)
    yield case("gqa_step_rotary", "GroupQueryAttention", inputs(1, 1, 4, [5], 5, True), 3, **turned)
    yield case("gqa_step_interleaved", "GroupQueryAttention", inputs(1, 1, 4, [5], 5, True), 3, rotary_interleaved=1, **turned)
    uneven = dict(visible={"y1": (1, slice(None), slice(0, 4)), "y2": (1, slice(None), slice(0, 4))})
    yield case("gqa_step_uneven", "GroupQueryAttention", inputs(2, 1, 5, [6, 4], 6, True), 3, **uneven, **turned)
    yield case("gqa_chunk", "GroupQueryAttention", inputs(1, 3, 4, [7], 7, True), 3, **turned)
    yield case("gqa_window", "GroupQueryAttention", inputs(1, 6, 0, [6], 6, True), 3, local_window_size=3, **turned)
    yield case("gqa_window_step", "GroupQueryAttention", inputs(1, 1, 7, [8], 8, True), 3, local_window_size=4, **turned)
    yield case("gqa_softcap", "GroupQueryAttention", inputs(1, 4, 0, [4], 4), 3, softcap=5.0, scale=0.4, **common)
    yield case("gqa_smooth", "GroupQueryAttention", inputs(1, 4, 0, [4], 4), 3, smooth_softmax=1, **common)
    sink = [*inputs(1, 4, 0, [4], 4), None, None, None, None, floats(rng, heads)]
    yield case("gqa_sink", "GroupQueryAttention", sink, 3, **common)
    biased = [*inputs(1, 1, 4, [5], 5, True), None, floats(rng, 1, heads, 1, 5)]
    yield case("gqa_bias", "GroupQueryAttention", biased, 3, **turned)
    q, k, v, *rest = inputs(2, 5, 0, [5, 5], 5, True)
    yield case("gqa_packed", "GroupQueryAttention", [np.concatenate([q, k, v], -1), None, None, *rest], 3, **turned)
    first = inputs(2, 5, 0, [5, 5], 5, True)
    first[3] = first[4] = None
    yield case("gqa_no_past", "GroupQueryAttention", first, 3, **turned)


def miscellaneous():
    rng = seeded("miscellaneous")
    x = floats(rng, 2, 3, 6, 5)
    yield case("ms_trilu", "Trilu", [x], free={0})
    yield case("ms_trilu_lower", "Trilu", [x, np.array(-1, np.int64)], upper=0, const={1})
    yield case("ms_pad", "Pad", [x, np.array([0, 1, 2, 0, 0, 0, -1, 3], np.int64), np.array([0.5], np.float32)], const={1, 2}, free={0})
    yield case("ms_pad_row", "Pad", [x, np.array([[0, 0, 2, 1, 0, 0, 1, 3]], np.int64)], mode="edge", const={1})
    yield case("ms_pad_reflect", "Pad", [x, np.array([0, 0, 2, 1, 0, 0, 1, 3], np.int64)], mode="reflect", engine=False)
    yield case("ms_expand_dims", "ExpandDims", [x, np.array(2, np.int32)], const={1}, free={0})
    yield case("ms_expand_dims_back", "ExpandDims", [x, np.array(-1, np.int32)], const={1})
    yield case("ms_gather_nd", "GatherND", [x, np.array([[0, 1], [1, 2]], np.int32)])
    yield case("ms_gather_nd_64", "GatherND", [x, np.array([[[0, 1, 5]], [[1, 2, 0]]], np.int64)])
    for dtype in (np.float32, np.int32, np.int64, np.int16):
        kind = np.dtype(dtype).name
        yield case(f"ms_range_{kind}", "Range", [np.array(2, dtype), np.array(17, dtype), np.array(3, dtype)], engine=False)
        yield case(f"ms_range_vectors_{kind}", "Range", [np.array([2], dtype), np.array([9], dtype)], const={0, 1})
    yield case("ms_unique", "Unique", [np.array([3, 1, 3, 2, 1, 1, 7], np.float32)], 3, engine=False)
    grid = (rng.random((2, 4, 7, 2)) * 2.4 - 1.2).astype(np.float32)
    t = dict(rtol=1e-4, atol=1e-5)
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            if (mode, padding) == ("bicubic", "border"):
                continue  # the format's definition clamps positions, ONNX Runtime the pixels around them
            yield case(f"ms_grid_sample_{mode}_{padding}", "GridSample", [x, grid], mode=mode, padding_mode=padding, **t)
    yield case("ms_grid_sample_aligned", "GridSample", [x, grid], align_corners=1, **t)
    a, b = floats(rng, 7, 12), floats(rng, 5, 12)
    yield case("cdist", "CDist", [a, b], free={0}, **t)
    yield case("cdist_euclidean", "CDist", [a, b], metric="euclidean", **t)
    yield case("cdist_f64", "CDist", [a.astype(np.float64), b.astype(np.float64)], **t)
    yield case("inverse", "Inverse", [floats(rng, 2, 3, 6, 6)], rtol=1e-2, atol=1e-4)
    yield case("inverse_f64", "Inverse", [floats(rng, 5, 5, dtype=np.float64)])
    rois = np.array([[0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1], [-0.2, 0.1, 0.6, 1.3]], np.float32)
    crop = [x, rois, np.array([0, 1, 1, 0], np.int32), np.array([4, 3], np.int32)]
    yield case("crop_and_resize", "CropAndResize", crop, const={3}, **t)
    yield case("crop_and_resize_outside", "CropAndResize", crop, extrapolation_value=-2.0, engine=False, **t)
    yield case("crop_and_resize_nearest", "CropAndResize", crop, mode="nearest", const={3}, **t)
    yield case("crop_and_resize_one", "CropAndResize", [*crop[:3], np.array([1, 1], np.int32)], engine=False, **t)


# TensorRT: what its plugins' documentation says, in NumPy ---------------------------------------------------------------------------


def overlap(a, b, more=0.0):
    """Intersection over union; `more` is what a side counts beyond its length."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a, b
    w, h = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    if w < 0 or h < 0:
        return 0.0
    common = (w + more) * (h + more)
    total = (ax2 - ax1 + more) * (ay2 - ay1 + more) + (bx2 - bx1 + more) * (by2 - by1 + more) - common
    return common / total if total > 0 else 0.0


def efficient_nms(boxes, scores, rows, least, iou, background=-1, agnostic=False):
    """`boxes`: corners, [images, boxes, classes, 4]."""
    images = len(boxes)
    out = np.zeros((images, 1), np.int32), np.zeros((images, rows, 4), np.float32), np.zeros((images, rows), np.float32), np.zeros((images, rows), np.int32)
    for i in range(images):
        pairs = [(-scores[i, b, c], b, c) for b in range(scores.shape[1]) for c in range(scores.shape[2]) if scores[i, b, c] >= least and c != background]
        taken = []
        for score, b, c in sorted(pairs):
            box = boxes[i, b, c]
            if all((not agnostic and c != d) or overlap(box, other) < iou for other, d in taken) and len(taken) < rows:
                n = len(taken)
                out[1][i, n], out[2][i, n], out[3][i, n] = box, -score, c
                taken.append((box, c))
        out[0][i] = len(taken)
    return list(out)


def batched_nms(boxes, scores, each, rows, least, iou, background=-1, clip=True, more=0.0):
    images = len(boxes)
    out = (
        np.zeros((images, 1), np.int32),
        np.zeros((images, rows, 4), np.float32),
        np.zeros((images, rows), np.float32),
        np.full((images, rows), -1, np.float32),
    )
    for i in range(images):
        found = []
        for c in range(scores.shape[2]):
            best = sorted((-scores[i, b, c], b) for b in range(scores.shape[1]) if scores[i, b, c] > least)[:each] if c != background else []
            taken = []
            for score, b in best:
                if all(overlap(boxes[i, b, c], other, more) <= iou for other in taken):
                    taken.append(boxes[i, b, c])
                    found.append((score, c, b))
        found = sorted(found)[:rows]
        for n, (score, c, b) in enumerate(found):
            out[1][i, n], out[2][i, n], out[3][i, n] = np.clip(boxes[i, b, c], 0, 1) if clip else boxes[i, b, c], -score, c
        out[0][i] = len(found)
    return list(out)


def ssd_anchors(low, high, ratios, grids, variance):
    """One array for each (height, width) of `grids`."""
    n, results = len(grids), []
    scales = [low + (high - low) * i / (n - 1) for i in range(n)] + [1.0]
    for i, (height, width) in enumerate(grids):
        shapes = list(zip([0.1, scales[0], scales[0]], ratios)) if i == 0 else [(scales[i], r) for r in ratios] + [((scales[i] * scales[i + 1]) ** 0.5, 1.0)]
        rows = []
        for y in range(height):
            for x in range(width):
                for s, r in shapes:
                    cx, cy, w, h = (x + 0.5) / width, (y + 0.5) / height, s * r**0.5 / 2, s / r**0.5 / 2
                    rows += [cx - w, cy - h, cx + w, cy + h]
        results.append(np.array([rows, variance * (len(rows) // 4)], np.float32)[..., None])
    return results


def plugins():
    rng = seeded("plugins")
    images, count, classes = 2, 60, 3
    corner = rng.random((images, count, 1, 2)) * 0.7
    boxes = np.concatenate([corner, corner + rng.random((images, count, 1, 2)) * 0.5 + 0.05], -1).astype(np.float32)
    scores = rng.random((images, count, classes)).astype(np.float32)
    each = np.broadcast_to(boxes, (images, count, classes, 4))

    def plugin(name, op, inputs, outputs, domain="TRT", **attrs):
        opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        return case(name, op, inputs, outputs, domain=domain, opsets=opsets, plugin_version="1", **attrs)

    common = dict(score_threshold=0.3, iou_threshold=0.45, max_output_boxes=20)
    for name, domain in (("trt", "TRT"), ("plain", ""), ("plugins", "trt.plugins")):
        want = efficient_nms(each, scores, 20, 0.3, 0.45)
        flags = dict(background_class=-1, score_activation=0, box_coding=0)
        yield plugin(f"efficient_nms_{name}", "EfficientNMS_TRT", [boxes[:, :, 0], scores], 4, domain, expected=want, free={0, 1}, **flags, **common)
    want = efficient_nms(each, scores, 20, 0.3, 0.45, agnostic=True)
    yield plugin("efficient_nms_agnostic", "EfficientNMS_TRT", [boxes, scores], 4, class_agnostic=1, expected=want, **common)
    own = (each + rng.random((1, 1, classes, 1)) * 0.1).astype(np.float32)
    want = efficient_nms(own, scores, 20, 0.3, 0.45, background=1)
    yield plugin("efficient_nms_each_class", "EfficientNMS_TRT", [own, scores], 4, background_class=1, expected=want, **common)
    centred = np.concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)[:, :, 0]
    logits = np.log(scores / (1 - scores))
    want = efficient_nms(each, scores, 200, 0.6, 0.45)
    many = dict(score_threshold=0.6, iou_threshold=0.45, max_output_boxes=200, rtol=1e-4, atol=1e-5)
    yield plugin("efficient_nms_centres", "EfficientNMS_TRT", [centred, logits], 4, box_coding=1, score_activation=1, expected=want, **many)
    anchors = np.concatenate([rng.random((1, count, 2)), rng.random((1, count, 2)) + 0.2], -1).astype(np.float32)
    raw = np.concatenate([(centred[..., :2] - anchors[..., :2]) / anchors[..., 2:], np.log(centred[..., 2:] / anchors[..., 2:])], -1)
    yield plugin("efficient_nms_anchors", "EfficientNMS_TRT", [raw, scores, anchors], 4, box_coding=1, expected=want, **many)
    none = efficient_nms(each, scores, 5, 2.0, 0.5)
    yield plugin("efficient_nms_none", "EfficientNMS_TRT", [boxes, scores], 4, score_threshold=2.0, iou_threshold=0.5, max_output_boxes=5, expected=none)

    numbers = dict(numClasses=classes, topK=25, keepTopK=15, scoreThreshold=0.3, iouThreshold=0.45, backgroundLabelId=-1, isNormalized=1)
    wide = (boxes * 1.3 - 0.1).astype(np.float32)
    want = batched_nms(np.broadcast_to(wide, each.shape), scores, 25, 15, 0.3, 0.45)
    for op in ("BatchedNMS_TRT", "BatchedNMSDynamic_TRT"):
        yield plugin(op.lower(), op, [wide, scores], 4, shareLocation=1, expected=want, free={0, 1}, **numbers)
    want = batched_nms(own * 100, scores, 25, 15, 0.3, 0.45, background=0, clip=False, more=1.0)
    pixels = {**numbers, "isNormalized": 0, "backgroundLabelId": 0}
    yield plugin("batched_nms_pixels", "BatchedNMSDynamic_TRT", [own * 100, scores], 4, "", shareLocation=0, clipBoxes=0, expected=want, **pixels)

    ratios, variance = [1.0, 2.0, 0.5, 3.0, 0.33], [0.1, 0.1, 0.2, 0.2]
    common = dict(minSize=0.2, maxSize=0.95, aspectRatios=ratios, variance=variance, rtol=1e-5, atol=1e-6)
    want = ssd_anchors(0.2, 0.95, ratios, [(5, 5), (3, 3), (1, 1)], variance)
    yield plugin("grid_anchor", "GridAnchor_TRT", [], 3, numLayers=3, featureMapShapes=[5, 3, 1], expected=want, **common)
    want = ssd_anchors(0.2, 0.95, ratios, [(5, 4), (3, 2)], variance)
    yield plugin("grid_anchor_rect", "GridAnchorRect_TRT", [], 2, "", featureMapShapes=[5, 4, 3, 2], expected=want, **common)


def all_cases():
    for group in (activations, products, nbits, norms, quantised, attentions, group_queries, miscellaneous, plugins):
        yield from group()
