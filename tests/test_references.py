# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The format's own node cases, run by our references. Inference is checked by the way: each tensor of each run is held against the
type, shape and content that it inferred."""

import warnings
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ops_tool import ops_tool, produced, write_case

# How many cases passed when this line was last raised.
PASSING_AT_LEAST = 1800

# Cases whose expected output is random, drawn from a state that no attribute tells (test_random_ops.py holds seeded nodes by value): of
# these type and shape are compared, and that they are zeros and ones where they must be.
RANDOM = {"Bernoulli", "RandomUniformLike"}
RANDOM_CASES = {"test_training_dropout", "test_training_dropout_default", "test_training_dropout_default_mask", "test_training_dropout_mask"}

# Cases whose model declares other extents than it computes: what inference took from there is not held against the run.
MISDECLARED = {"test_loop16_seq_none": "a sequence of scalars, it says, and puts vectors into it"}

HALF_EPSILON = {onnx.TensorProto.FLOAT16: 2.0**-10, onnx.TensorProto.BFLOAT16: 2.0**-7}


@pytest.fixture(scope="module")
def defined():
    return {(op["domain"], op["name"]) for op in ops_tool("schemas")[0]}


def op_types(graph):
    for node in graph.node:
        yield (node.domain if node.domain != "ai.onnx" else "", node.op_type)
        for attribute in node.attribute:
            for nested in [attribute.g, *attribute.graphs]:
                yield from op_types(nested)


def as_proto(value, type_proto):
    """The message that a test file would hold for a value of a graph's input."""
    kind = type_proto.WhichOneof("value")
    if kind == "optional_type":
        message = onnx.OptionalProto()
        if value is None:
            return message
        inner = type_proto.optional_type.elem_type
        if inner.WhichOneof("value") == "tensor_type":
            message.elem_type = onnx.OptionalProto.TENSOR
            message.tensor_value.CopyFrom(as_proto(value, inner))
        else:
            message.elem_type = onnx.OptionalProto.SEQUENCE
            message.sequence_value.CopyFrom(as_proto(value, inner))
        return message
    if kind == "sequence_type":
        inner = type_proto.sequence_type.elem_type
        message = onnx.SequenceProto()
        if inner.WhichOneof("value") == "tensor_type":
            message.elem_type = onnx.SequenceProto.TENSOR
            message.tensor_values.extend(as_proto(v, inner) for v in value)
        elif inner.WhichOneof("value") == "map_type":
            message.elem_type = onnx.SequenceProto.MAP
            message.map_values.extend(as_proto(v, inner) for v in value)
        else:
            message.elem_type = onnx.SequenceProto.SEQUENCE
            message.sequence_values.extend(as_proto(v, inner) for v in value)
        return message
    if kind == "map_type":
        return numpy_helper.from_dict(value)
    return value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value))


def inputs_of(case):
    return [as_proto(value, case.model.graph.input[i].type) for i, value in enumerate(case.data_sets[0][0])]


def as_array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def mismatch(case, output, expected):
    if output["form"] == "nothing":
        return None if expected is None or (isinstance(expected, list) and expected == [None]) else f"nothing, expected {expected}"
    if output["form"] == "map":
        keys, values = output["items"]
        return mismatch(case, keys, np.asarray(list(expected.keys()))) or mismatch(case, values, np.asarray(list(expected.values())))
    if output["form"] == "sequence":
        if len(output["items"]) != len(expected):
            return f"a sequence of {len(output['items'])} elements, expected {len(expected)}"
        return "; ".join(filter(None, (mismatch(case, o, e) for o, e in zip(output["items"], expected, strict=True)))) or None
    actual, expected = produced(output), as_array(expected)
    if actual.shape != expected.shape:
        return f"shape {actual.shape}, expected {expected.shape}"
    if actual.dtype != expected.dtype and {actual.dtype.kind, expected.dtype.kind} - set("OUS"):
        return f"dtype {actual.dtype}, expected {expected.dtype}"
    if case.name in RANDOM_CASES:
        return None
    if any(node.op_type in RANDOM for node in case.model.graph.node):
        return None if np.isin(actual, (0, 1)).all() else f"neither zeros nor ones: {actual.tolist()}"
    if actual.dtype.kind in "OUS":
        same = np.array_equal(actual.astype(str), expected.astype(str))
        return None if same else f"{actual.tolist()}, expected {expected.tolist()}"
    if actual.dtype.kind not in "biufc":
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    rtol = case.rtol
    if output["dtype"] in HALF_EPSILON and len(case.model.graph.node) > 1:
        # A chain of nodes rounds at each, the expectation's one expression elsewhere: two units in the last place between them.
        rtol = max(rtol, 2 * HALF_EPSILON[output["dtype"]])
    try:
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=case.atol)
    except AssertionError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def results(defined, tmp_path_factory):
    """{case name: text of the failure or None}, and the ops that kept cases out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = {case.name: case for case in collect_testcases(None)}
    folder, left_out, chosen = tmp_path_factory.mktemp("cases"), Counter(), {}
    for name, case in cases.items():
        # Calls of local functions are inlined; only real ops count.
        local = {(f.domain, f.name) for f in case.model.functions}
        missing = set(op_types(case.model.graph)) - defined - local
        if missing:
            left_out.update(op for _, op in missing)
            continue
        chosen[name] = case
        write_case(folder / name, case.model, inputs_of(case))
    outcome = {}
    for line in ops_tool("run-cases", folder):
        case = chosen[line["case"]]
        if line["status"] == "unsupported":
            left_out[line["message"]] += 1
            continue
        text = line.get("message")
        if line["status"] == "ok":
            expected = case.data_sets[0][1]
            pairs = zip(line["outputs"], expected, strict=True)
            text = "; ".join(filter(None, [*(mismatch(case, o, e) for o, e in pairs), *([] if case.name in MISDECLARED else line["inference"])])) or None
        outcome[line["case"]] = text
    return outcome, left_out


def test_every_case_of_defined_ops_passes(results):
    outcome, _ = results
    failed = {name: text for name, text in outcome.items() if text}
    assert not failed, f"{len(failed)} of {len(outcome)} cases fail\n" + "\n".join(f"{n}: {' '.join(t.split())[:300]}" for n, t in failed.items())


def test_the_count_does_not_shrink(results):
    outcome, left_out = results
    passed = sum(text is None for text in outcome.values())
    assert passed >= PASSING_AT_LEAST, f"{passed} cases pass; left out for: {left_out.most_common()}"
