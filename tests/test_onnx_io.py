# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Reading and writing changes nothing: real exports and the format's own cases go through C++ and come back valid, equal in meaning, and
from then on byte for byte the same."""

import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test import loader

import zoo

ZOO_SMALL = 300_000  # bytes of a stripped file that the default run takes; LATHE_TEST_FULL=1 takes all


def tool(*args):
    return subprocess.run([zoo.program("lathe_onnx_tool"), *map(str, args)], capture_output=True, text=True, check=False)


def write_twice(models, folder):
    """{name: (answer, first bytes, second bytes)} of read + write, and of read + write of that."""
    paths = {}
    lines = [[], []]
    for i, (name, model) in enumerate(models.items()):
        paths[name] = [folder / f"{i}.{k}.onnx" for k in range(3)]
        paths[name][0].write_bytes(model.SerializeToString())
        for k in range(2):
            lines[k].append(f"{paths[name][k]}\t{paths[name][k + 1]}")
    answers = []
    for k in range(2):
        (folder / "list").write_text("\n".join(lines[k]) + "\n")
        result = tool("roundtrip-many", folder / "list")
        assert result.returncode == 0, result.stderr
        answers.append(result.stdout.splitlines())
        assert len(answers[k]) == len(models)
    results = {}
    for i, name in enumerate(models):
        answer = answers[0][i] if answers[0][i] != "ok" else answers[1][i]
        results[name] = (answer, *(p.read_bytes() if answer == "ok" else b"" for p in paths[name][1:]))
    return results


# What reader.h says is normalised, applied to the original before it is compared -----------------------------------------------------


def normal_tensor(tensor, name):
    if tensor.data_type == TensorProto.STRING:
        result = TensorProto(dims=tensor.dims, data_type=tensor.data_type, string_data=tensor.string_data)
    else:
        result = TensorProto()
        result.CopyFrom(tensor)
        if not tensor.HasField("raw_data"):
            result = numpy_helper.from_array(numpy_helper.to_array(tensor))
        result.data_type = tensor.data_type
        del result.dims[:]
        result.dims.extend(tensor.dims)
    result.name = name
    result.doc_string = tensor.doc_string if name else ""
    if not result.doc_string:
        result.ClearField("doc_string")
    if result.data_location == TensorProto.DEFAULT:
        result.ClearField("data_location")
    return result


def dense(sparse):
    array = numpy_helper.to_array(sparse.values)
    indices = numpy_helper.to_array(sparse.indices)
    result = np.zeros(list(sparse.dims), array.dtype)
    for value, index in zip(array, indices, strict=True):
        result[tuple(index) if indices.ndim == 2 else np.unravel_index(index, result.shape)] = value
    return numpy_helper.from_array(result, sparse.values.name)


def normal_type(value_type):
    for field in ("tensor_type", "sparse_tensor_type"):
        if value_type.HasField(field):
            for dim in getattr(value_type, field).shape.dim:
                if dim.HasField("dim_value") and dim.dim_value < 0 or dim.HasField("dim_param") and not dim.dim_param:
                    dim.ClearField("value")


def normal_attribute(attribute):
    if attribute.type == onnx.AttributeProto.TENSOR:
        attribute.t.CopyFrom(normal_tensor(attribute.t, ""))
    for i, tensor in enumerate(attribute.tensors):
        attribute.tensors[i].CopyFrom(normal_tensor(tensor, ""))
    for sparse in [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else attribute.sparse_tensors:
        sparse.values.CopyFrom(normal_tensor(sparse.values, ""))
        sparse.indices.CopyFrom(normal_tensor(sparse.indices, ""))
    for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
        normal_graph(graph)


def replace(field, items):
    items = list(items)
    copies = []
    for item in items:
        copy = type(item)()
        copy.CopyFrom(item)
        copies.append(copy)
    del field[:]
    field.extend(copies)


def normal_nodes(holder):
    for node in holder.node:
        node.domain = "" if node.domain == "ai.onnx" else node.domain
        for attribute in node.attribute:
            normal_attribute(attribute)
        replace(node.attribute, sorted(node.attribute, key=lambda a: a.name))
        replace(node.metadata_props, sorted(node.metadata_props, key=lambda p: p.key))
        if not node.name:
            node.ClearField("name")
        if not node.doc_string:
            node.ClearField("doc_string")
        if not node.domain:
            node.ClearField("domain")


def normal_graph(graph):
    replace(graph.initializer, [normal_tensor(t, t.name) for t in graph.initializer] + [dense(s) for s in graph.sparse_initializer])
    del graph.sparse_initializer[:]
    constants = {t.name for t in graph.initializer}
    replace(graph.input, [v for v in graph.input if v.name not in constants])
    made = {o for n in graph.node for o in n.output} - {v.name for v in graph.output}
    infos = {v.name: v for v in graph.value_info if v.name in made}
    replace(graph.value_info, [v for _, v in sorted(infos.items()) if v.ByteSize() > len(v.name) + 2])
    for value in [*graph.input, *graph.output, *graph.value_info]:
        normal_type(value.type)
        replace(value.metadata_props, sorted(value.metadata_props, key=lambda p: p.key))
        if not value.doc_string:
            value.ClearField("doc_string")
    normal_nodes(graph)
    replace(graph.metadata_props, sorted(graph.metadata_props, key=lambda p: p.key))
    if not graph.doc_string:
        graph.ClearField("doc_string")


def normal(model):
    result = onnx.ModelProto()
    result.CopyFrom(model)
    imports = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
    replace(result.opset_import, [helper.make_opsetid(d, v) for d, v in sorted(imports.items())])
    for imported in result.opset_import:
        if not imported.domain:
            imported.ClearField("domain")
    replace(result.metadata_props, sorted(result.metadata_props, key=lambda p: p.key))
    normal_graph(result.graph)
    for function in result.functions:
        normal_nodes(function)
        replace(function.opset_import, sorted(function.opset_import, key=lambda o: o.domain))
        for imported in function.opset_import:
            if not imported.domain:
                imported.ClearField("domain")
        replace(function.value_info, sorted(function.value_info, key=lambda v: v.name))
        if not function.doc_string:
            function.ClearField("doc_string")
    result.ir_version = max(result.ir_version, 4)
    for field in ("producer_name", "producer_version", "domain", "doc_string"):
        if not getattr(result, field):
            result.ClearField(field)
    if not result.model_version:
        result.ClearField("model_version")
    return result


def first_difference(a, b):
    for x, y in zip(str(a).splitlines(), str(b).splitlines(), strict=False):
        if x != y:
            return f"{x!r} became {y!r}"
    return "one is longer"


def check_all(models, folder, refused=()):
    """Every model comes back valid, equal and stable; the names in `refused` are answered with an error instead."""
    failures = []
    for name, (answer, first, second) in write_twice(models, folder).items():
        if answer != "ok":
            if name not in refused:
                failures.append(f"{name}: {answer}")
            continue
        if name in refused:
            failures.append(f"{name}: read, although it ought to be refused")
            continue
        back = onnx.load_from_string(first)
        if first != second:
            failures.append(f"{name}: a second write differs from the first")
        try:
            onnx.checker.check_model(models[name])
        except onnx.checker.ValidationError:
            pass  # not ours to mend
        else:
            try:
                onnx.checker.check_model(back)
            except onnx.checker.ValidationError as error:
                failures.append(f"{name}: invalid after writing: {error}")
        before, after = normal(models[name]), normal(back)
        after.ir_version = before.ir_version if after.ir_version >= before.ir_version else after.ir_version
        if before != after:
            failures.append(f"{name}: {first_difference(before, after)}")
    assert not failures, f"{len(failures)} of {len(models)}:\n" + "\n".join(failures[:20])


@pytest.mark.filterwarnings("ignore")
def test_node_cases(tmp_path):
    cases = [c for c in loader.load_model_tests(kind="node") if c.model is not None]
    assert len(cases) > 1500
    check_all({c.name: c.model for c in cases}, tmp_path)


def test_stored_cases(tmp_path):
    """Models that other exporters of the past wrote."""
    models = {}
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for case in loader.load_model_tests(kind=kind):
            models[f"{kind}/{case.name}"] = onnx.load(f"{case.model_dir}/model.onnx")
    assert len(models) > 130
    check_all(models, tmp_path)


def shrunk(name):
    """The zoo model with a byte pattern in place of each large weight, cut to 4096 elements: reading never looks at a weight."""
    model = onnx.load(zoo.stripped(name), load_external_data=False)
    for tensor in zoo.tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            keep = min(int(np.prod(tensor.dims)), 4096)
            size = keep * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            replace(tensor.external_data, [])
            tensor.ClearField("data_location")
            tensor.dims[:] = [keep]
            tensor.raw_data = (bytes(range(256)) * (size // 256 + 1))[:size]
    return model


def test_zoo(tmp_path):
    chosen = [n for n in zoo.names() if zoo.FULL or zoo.stripped(n).stat().st_size < ZOO_SMALL]
    assert len(chosen) > 100
    for start in range(0, len(chosen), 20):
        check_all({name: shrunk(name) for name in chosen[start : start + 20]}, tmp_path)


def test_external_data(tmp_path):
    """A model whose weights lie in a file beside it is read, and refuses a location outside its folder."""
    model = zoo.load_filled("espcn")
    onnx.save(zoo.load_filled("espcn"), tmp_path / "in.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size > 1000
    result = tool("roundtrip", tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert result.returncode == 0, result.stderr
    assert normal(onnx.load(tmp_path / "out.onnx")) == normal(model)

    (tmp_path / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes()[:-1])
    result = tool("roundtrip", tmp_path / "in.onnx", tmp_path / "cut.onnx")
    assert result.returncode == 1
    assert "weights.bin" in result.stderr and not (tmp_path / "cut.onnx").exists()

    outside = onnx.load(tmp_path / "in.onnx", load_external_data=False)
    for tensor in outside.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../" + entry.value
    (tmp_path / "outside.onnx").write_bytes(outside.SerializeToString())
    result = tool("roundtrip", tmp_path / "outside.onnx", tmp_path / "cut.onnx")
    assert result.returncode == 1 and "outside the model's folder" in result.stderr


def test_the_comparison_can_fail():
    """The normal form keeps what a user would miss."""
    model = zoo.load_filled("espcn")
    for change in (
        lambda m: m.graph.node[0].attribute[0].ints.append(1),
        lambda m: m.graph.node.pop(),
        lambda m: setattr(m.graph.node[0], "name", "another"),
        lambda m: setattr(m.graph.initializer[0], "raw_data", m.graph.initializer[0].raw_data[:-1] + b"\1"),
        lambda m: m.graph.input[0].type.tensor_type.shape.dim.add(),
        lambda m: m.metadata_props.add(key="k", value="v"),
    ):
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        change(changed)
        assert normal(changed) != normal(model)
