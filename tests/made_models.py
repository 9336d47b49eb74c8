# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Small generated models with what exports seldom have (control flow, sequences, functions, quantisation, trees): sources of mutants.py."""

import functools

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

F, I64, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def _model(nodes, inputs, outputs, weights=(), opset=20, ir=10, functions=(), extra=(), sparse=()):
    graph = helper.make_graph(nodes, "made", inputs, outputs, list(weights))
    graph.sparse_initializer.extend(sparse)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in extra)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=ir)


def _info(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def made_if():
    then = helper.make_graph([helper.make_node("Relu", ["x"], ["t"], name="inner_relu")], "then_g", [], [_info("t", F, ["n", 4])])
    els = helper.make_graph([helper.make_node("Add", ["x", "w"], ["e"], name="inner_add")], "else_g", [], [_info("e", F, ["n", 4])])
    return _model(
        [
            helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0, name="max"),
            helper.make_node("Greater", ["m", "zero"], ["c"], name="greater"),
            helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=els, name="if"),
            helper.make_node("Abs", ["y"], ["z"], name="abs"),
        ],
        [_info("x", F, ["n", 4])],
        [_info("z", F, ["n", 4])],
        [numpy_helper.from_array(np.zeros((), np.float32), "zero"), numpy_helper.from_array(np.ones(4, np.float32), "w")],
    )


def made_loop():
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["cond_in"], ["cond_out"], name="keep"),
            helper.make_node("Add", ["state", "step"], ["next"], name="add"),
            helper.make_node("Mul", ["next", "two"], ["scan"], name="mul"),
        ],
        "body",
        [_info("i", I64, []), _info("cond_in", B, []), _info("state", F, [3])],
        [_info("cond_out", B, []), _info("next", F, [3]), _info("scan", F, [3])],
        [numpy_helper.from_array(np.array([2, 2, 2], np.float32), "two")],
    )
    return _model(
        [helper.make_node("Loop", ["trips", "go", "init"], ["final", "all"], body=body, name="loop"), helper.make_node("Neg", ["all"], ["y"], name="neg")],
        [_info("init", F, [3]), _info("step", F, [3])],
        [_info("final", F, [3]), _info("y", F, ["k", 3])],
        [numpy_helper.from_array(np.array(4, np.int64), "trips"), numpy_helper.from_array(np.array(True), "go")],
    )


def made_scan():
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "e"], ["s2"], name="add"), helper.make_node("Relu", ["s2"], ["o"], name="relu")],
        "scan_body",
        [_info("s", F, [2]), _info("e", F, [2])],
        [_info("s2", F, [2]), _info("o", F, [2])],
    )
    return _model(
        [helper.make_node("Scan", ["init", "seq"], ["last", "out"], num_scan_inputs=1, body=body, name="scan")],
        [_info("init", F, [2]), _info("seq", F, [5, 2])],
        [_info("last", F, [2]), _info("out", F, [5, 2])],
    )


def made_functions():
    inner = helper.make_function(
        "local",
        "Scale",
        ["a"],
        ["b"],
        [helper.make_node("Constant", [], ["k"], value=helper.make_tensor("v", F, [1], [3.0])), helper.make_node("Mul", ["a", "k"], ["b"], name="mul")],
        [helper.make_opsetid("", 20)],
    )
    node = helper.make_node("LeakyRelu", ["s"], ["out"], name="leaky")
    ref = AttributeProto(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
    node.attribute.append(ref)
    outer = helper.make_function(
        "local",
        "Block",
        ["x", "w"],
        ["out"],
        [helper.make_node("MatMul", ["x", "w"], ["p"], name="product"), helper.make_node("Scale", ["p"], ["s"], domain="local", name="scale"), node],
        [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)],
        ["slope"],
    )
    return _model(
        [
            helper.make_node("Block", ["x", "w1"], ["h"], domain="local", slope=0.1, name="one"),
            helper.make_node("Block", ["h", "w2"], ["y"], domain="local", slope=0.2, name="two"),
        ],
        [_info("x", F, ["n", 4]), _info("w1", F, [4, 6])],
        [_info("y", F, ["n", 2])],
        [numpy_helper.from_array(np.ones((6, 2), np.float32), "w2")],
        functions=[inner, outer],
        extra=[("local", 1)],
    )


def made_sequence():
    return _model(
        [
            helper.make_node("SequenceEmpty", [], ["s0"], dtype=F, name="empty"),
            helper.make_node("SequenceInsert", ["s0", "x"], ["s1"], name="insert"),
            helper.make_node("SequenceConstruct", ["x", "y"], ["s2"], name="construct"),
            helper.make_node("SequenceAt", ["s2", "one"], ["a"], name="at"),
            helper.make_node("ConcatFromSequence", ["s2"], ["c"], axis=0, name="concat"),
            helper.make_node("SplitToSequence", ["c", "two"], ["s3"], axis=0, name="split"),
            helper.make_node("SequenceLength", ["s1"], ["len"], name="length"),
            helper.make_node("SequenceErase", ["s3"], ["s4"], name="erase"),
            helper.make_node("Relu", ["a"], ["r"], name="relu"),
        ],
        [_info("x", F, [2, 3]), _info("y", F, [2, 3])],
        [_info("r", F, [2, 3]), _info("len", I64, []), helper.make_tensor_sequence_value_info("s4", F, None)],
        [numpy_helper.from_array(np.array(1, np.int64), "one"), numpy_helper.from_array(np.array(2, np.int64), "two")],
    )


def made_optional():
    optional = helper.make_value_info("o", helper.make_optional_type_proto(helper.make_tensor_type_proto(F, [2, 3])))
    return _model(
        [
            helper.make_node("OptionalHasElement", ["o"], ["has"], name="has"),
            helper.make_node("OptionalGetElement", ["o"], ["e"], name="get"),
            helper.make_node("Sigmoid", ["e"], ["y"], name="sigmoid"),
        ],
        [optional],
        [_info("y", F, [2, 3]), _info("has", B, [])],
    )


def made_sparse():
    sparse = helper.make_sparse_tensor(helper.make_tensor("w", F, [3], [1.0, 2.0, 3.0]), helper.make_tensor("", I64, [3], [0, 3, 5]), [2, 3])
    dense = numpy_helper.from_array(np.ones((2, 3), np.float32), "d")
    return _model([helper.make_node("Add", ["x", "d"], ["y"], name="add")], [_info("x", F, [2, 3])], [_info("y", F, [2, 3])], [dense], sparse=[sparse])


def made_quantised():
    return _model(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="dq"),
            helper.make_node("DynamicQuantizeLinear", ["d"], ["dx", "ds", "dz"], name="dyn"),
            helper.make_node("MatMulInteger", ["dx", "w", "dz"], ["i"], name="mmi"),
            helper.make_node("Cast", ["i"], ["f"], to=F, name="cast"),
        ],
        [_info("x", F, ["n", 4])],
        [_info("f", F, ["n", 3])],
        [
            numpy_helper.from_array(np.array(0.1, np.float32), "s"),
            numpy_helper.from_array(np.array(3, np.uint8), "z"),
            numpy_helper.from_array(np.ones((4, 3), np.uint8), "w"),
        ],
    )


def made_layers(opset):
    """The usual layers, in an old and a new opset."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2], name="conv"),
        helper.make_node("BatchNormalization", ["c", "b", "b", "b", "b"], ["n"], name="bn"),
        helper.make_node("MaxPool", ["n"], ["p"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        helper.make_node("Concat", ["p", "p"], ["cc"], axis=1, name="concat"),
        helper.make_node("Transpose", ["cc"], ["t"], perm=[0, 2, 3, 1], name="transpose"),
        helper.make_node("Reshape", ["t", "shape"], ["r"], name="reshape"),
        helper.make_node("Gemm", ["r", "g"], ["y"], transB=1, name="gemm"),
        helper.make_node("Softmax", ["y"], ["soft"], axis=1, name="softmax"),
        helper.make_node("Cast", ["soft"], ["h"], to=TensorProto.FLOAT16, name="cast"),
        helper.make_node("Gather", ["cc", "index"], ["gathered"], axis=1, name="gather"),
        helper.make_node("Shape", ["gathered"], ["sh"], name="shape_of"),
        helper.make_node("Expand", ["one", "sh"], ["ex"], name="expand"),
    ]
    if opset >= 13:
        nodes.append(helper.make_node("Split", ["cc"], ["sa", "sb"], axis=1, **({"num_outputs": 2} if opset >= 18 else {}), name="split"))
        nodes.append(helper.make_node("Squeeze", ["ex", "axes"], ["sq"], name="squeeze"))
    outputs = [_info("h", TensorProto.FLOAT16, [4, 5]), _info("ex", F, None)]
    rank = helper.make_tensor_value_info("ex", F, ["a", "b", "c", "d"])
    outputs[1] = rank
    return _model(
        nodes,
        [_info("x", F, [1, 3, 16, 16])],
        outputs,
        [
            numpy_helper.from_array(np.ones((6, 3, 3, 3), np.float32), "w"),
            numpy_helper.from_array(np.ones(6, np.float32), "b"),
            numpy_helper.from_array(np.array([4, -1], np.int64), "shape"),
            numpy_helper.from_array(np.ones((5, 48), np.float32), "g"),
            numpy_helper.from_array(np.array([0, 2], np.int64), "index"),
            numpy_helper.from_array(np.array([1.0], np.float32), "one"),
            numpy_helper.from_array(np.array([0], np.int64), "axes"),
        ],
        opset=opset,
        ir=8,
    )


def made_trees():
    node = helper.make_node("LabelEncoder", ["x"], ["l"], domain="ai.onnx.ml", keys_int64s=[1, 2, 3], values_floats=[1.0, 2.0, 3.0], name="encode")
    return _model(
        [
            node,
            helper.make_node("Scaler", ["l"], ["s"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0], name="scale"),
            helper.make_node(
                "LinearClassifier",
                ["s"],
                ["label", "prob"],
                domain="ai.onnx.ml",
                coefficients=[1.0, 2.0, 3.0, 4.0],
                intercepts=[0.0, 0.0],
                classlabels_ints=[0, 1],
                name="classify",
            ),
        ],
        [_info("x", I64, ["n", 2])],
        [_info("label", I64, ["n"]), _info("prob", F, ["n", 2])],
        extra=[("ai.onnx.ml", 4)],
    )


MADE = [
    made_if,
    made_loop,
    made_scan,
    made_functions,
    made_sequence,
    made_optional,
    made_sparse,
    made_quantised,
    functools.partial(made_layers, 12),
    functools.partial(made_layers, 17),
    functools.partial(made_layers, 21),
    made_trees,
]
