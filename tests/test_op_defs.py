# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Every version of every op that we define says exactly what the format's own definition says."""

import onnx
import pytest
from onnx import defs

from ops_tool import ops_tool

# How many of the format's ops were defined when this line was last raised: an op that vanishes is a failure.
DEFINED_AT_LEAST = 100

# What ONNX Runtime and files for TensorRT have in the format's domain though the format does not have it.
FOREIGN = {
    "SimplifiedLayerNormalization",
    "EfficientNMS_TRT",
    "BatchedNMS_TRT",
    "BatchedNMSDynamic_TRT",
    "ROIAlign_TRT",
    "GridAnchor_TRT",
    "GridAnchorRect_TRT",
}

# The op's versions that are ONNX Runtime's alone.
FOREIGN_VERSIONS = {("", "LayerNormalization"): [1]}

OPTION = {
    defs.OpSchema.FormalParameterOption.Single: "single",
    defs.OpSchema.FormalParameterOption.Optional: "optional",
    defs.OpSchema.FormalParameterOption.Variadic: "variadic",
}


@pytest.fixture(scope="module")
def every():
    return {(op["domain"], op["name"]): op for op in ops_tool("schemas")[0]}


@pytest.fixture(scope="module")
def ours(every):
    """Those of the format's domains; test_contrib_ops.py has the others."""
    return {key: op for key, op in every.items() if key[0].startswith("ai.onnx") or (key[0] == "" and key[1] not in FOREIGN)}


@pytest.fixture(scope="module")
def theirs():
    history = {}
    for schema in defs.get_all_schemas_with_history():
        history.setdefault((schema.domain, schema.name), {})[schema.since_version] = schema
    return history


def formals(parameters):
    described = []
    for p in parameters:
        item = {"name": p.name, "option": OPTION[p.option], "type": p.type_str}
        if item["option"] == "variadic":
            item["min_arity"] = p.min_arity
            item["homogeneous"] = p.is_homogeneous
        described.append(item)
    return described


def attributes(schema):
    described = {}
    for name, a in schema.attributes.items():
        item = {"type": {"SPARSE_TENSOR": "sparse_tensor", "TYPE_PROTO": "type_proto"}.get(a.type.name, a.type.name.lower()), "required": a.required}
        if a.default_value.name:
            value = onnx.helper.get_attribute_value(a.default_value)
            if isinstance(value, bytes):
                value = value.decode()
            elif isinstance(value, list):
                value = [v.decode() if isinstance(v, bytes) else v for v in value]
            item["default"] = value
        described[name] = item
    return described


def described(schema):
    return {
        "since": schema.since_version,
        "deprecated": schema.deprecated,
        "inputs": formals(schema.inputs),
        "outputs": formals(schema.outputs),
        "attributes": attributes(schema),
        "constraints": {c.type_param_str: sorted(c.allowed_type_strs) for c in schema.type_constraints},
    }


def differences(ours, theirs):
    texts = []
    for key, expected in theirs.items():
        if expected != ours[key]:
            texts.append(f"{key}: ours {ours[key]!r}, the format's {expected!r}")
    return texts


def test_versions_are_complete(ours, theirs):
    wrong = []
    for key, op in ours.items():
        if key not in theirs:
            wrong.append(f"{key}: the format has no such op")
            continue
        mine, its = [v["since"] for v in op["versions"]], FOREIGN_VERSIONS.get(key, []) + sorted(theirs[key])
        if mine != its:
            wrong.append(f"{key}: we define versions {mine}, the format {its}")
    assert not wrong, "\n".join(wrong)


def test_schemas_agree(ours, theirs):
    wrong = []
    for key, op in ours.items():
        for version in op["versions"]:
            schema = theirs.get(key, {}).get(version["since"])
            if schema is not None:
                wrong += [f"{key[1]} {version['since']} {text}" for text in differences(version, described(schema))]
    assert not wrong, f"{len(wrong)} differences\n" + "\n".join(wrong)


def test_the_comparison_sees_a_change(ours, theirs):
    """Guards the test above: every part of a schema, once changed, is reported."""
    conv = next(v for v in ours[("", "Conv")]["versions"] if v["since"] == 22)
    expected = described(theirs[("", "Conv")][22])
    assert not differences(conv, expected)
    for key, value in {
        "deprecated": True,
        "inputs": conv["inputs"][:2],
        "outputs": [],
        "attributes": {**conv["attributes"], "group": {"type": "int", "required": False, "default": 2}},
        "constraints": {"T": ["tensor(float)"]},
    }.items():
        assert differences({**conv, key: value}, expected), key


def test_every_op_can_be_inferred_and_run(every):
    # An op that the format withdrew is rewritten at import and never met afterwards.
    living = [op for op in every.values() if not op["versions"][-1]["deprecated"]]
    lacking = [f"{op['name']}: no {part}" for op in living for part in ("infer", "reference") if not op[part]]
    assert not lacking, lacking


def test_no_op_vanished(ours):
    standard = [key for key in ours if key[0] == ""]
    assert len(standard) >= DEFINED_AT_LEAST, len(standard)
