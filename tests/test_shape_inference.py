# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""On real exports our shape inference is never weaker than the format's own: where that one knows a rank or an extent, so do we."""

import onnx
from onnx import shape_inference

import zoo
from ops_tool import ops_tool


def their_extents(type_proto):
    """(elem_type, dims or None); a dim is a number or None."""
    if not type_proto.HasField("tensor_type"):
        return None
    tensor = type_proto.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]


def strip_value_info(model):
    """What the exporter wrote about inner values would hide what inference finds."""
    del model.graph.value_info[:]


def weaknesses(theirs, ours):
    found = []
    for value in [*theirs.graph.value_info, *theirs.graph.output]:
        expected = their_extents(value.type)
        if expected is None:
            continue
        mine = ours.get(value.name)
        if mine is None:  # a value inside a local function, or one that the upgrade rewrote
            continue
        elem_type, dims = expected
        if elem_type and onnx.helper.tensor_dtype_to_string(elem_type) and mine["dtype"] == "undefined":
            found.append(f"{value.name}: no element type")
        if dims is None:
            continue
        if mine["shape"] is None or len(mine["shape"]) != len(dims) or any(d is not None and d != m for d, m in zip(dims, mine["shape"], strict=True)):
            found.append(f"{value.name}: {mine['type']}, theirs {dims}")
    return found


def test_never_weaker_than_the_format(tmp_path):
    problems, compared = [], 0
    for name in zoo.part_6():
        model = onnx.load(zoo.stripped(name), load_external_data=False)
        strip_value_info(model)
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        theirs = shape_inference.infer_shapes(model, data_prop=True, strict_mode=False)
        report = ops_tool("infer", path)[0]
        assert not report["without_rule"], (name, report["without_rule"])
        ours = report["values"]
        known = sum(v.name in ours for v in theirs.graph.value_info)
        assert known >= 0.9 * len(theirs.graph.value_info), (name, known, len(theirs.graph.value_info))
        compared += known
        problems += [f"{name}: {text}" for text in weaknesses(theirs, ours)]
        if report["unknown_shapes"]:
            problems.append(f"{name}: {report['unknown_shapes']} values without a rank")
    assert not problems, f"{len(problems)} of {compared} values\n" + "\n".join(problems[:60])
    assert compared > 5000, compared


def test_the_comparison_sees_a_weakness():
    graph = onnx.helper.make_graph([], "g", [], [onnx.helper.make_tensor_value_info("y", 1, [2, 3])])
    theirs = onnx.helper.make_model(graph)
    assert not weaknesses(theirs, {"y": {"dtype": "float", "shape": [2, 3], "type": ""}})
    assert weaknesses(theirs, {"y": {"dtype": "float", "shape": [2, "?0"], "type": ""}})
    assert weaknesses(theirs, {"y": {"dtype": "float", "shape": None, "type": ""}})
    assert weaknesses(theirs, {"y": {"dtype": "float", "shape": [2, 3, 1], "type": ""}})
