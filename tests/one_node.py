# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Models of one node, run by our references, by the format's and by ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ops_tool import ops_tool


def model_of(op, inputs, outputs=1, *, opset=23, domain="", shapes=None, **attributes):
    """A model of one node; `inputs` are arrays, None for one that is left out. Attributes that are None are left out too."""
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], domain=domain, **{k: v for k, v in attributes.items() if v is not None})
    infos = []
    for i, array in enumerate(inputs):
        if array is not None:
            dtype = onnx.TensorProto.STRING if array.dtype == object else helper.np_dtype_to_tensor_dtype(array.dtype)
            infos.append(helper.make_tensor_value_info(f"x{i}", dtype, shapes[i] if shapes else array.shape))
    graph = helper.make_graph([node], "graph", infos, [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)])
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def text(*strings, shape=None):
    array = np.empty(len(strings), dtype=object)
    array[:] = strings
    return array if shape is None else array.reshape(shape)


def proto(array):
    if array.dtype != object:
        return numpy_helper.from_array(array)
    tensor = onnx.TensorProto(data_type=onnx.TensorProto.STRING, dims=array.shape)
    tensor.string_data.extend(s if isinstance(s, bytes) else s.encode() for s in array.ravel())
    return tensor


def ours(folder, model, inputs):
    """What our reference gives: arrays, or the text of the error. What it infers holds of them."""
    onnx.save(model, Path(folder) / "model.onnx")
    words = ["run", Path(folder) / "model.onnx", "--out", folder]
    for i, array in enumerate(inputs):
        if array is not None:
            (Path(folder) / f"x{i}.pb").write_bytes(proto(array).SerializeToString())
            words.append(f"x{i}={folder}/x{i}.pb")
    (line,) = ops_tool(*words, check=False)
    if line["status"] != "ok":
        return line["message"]
    assert not line["inference"], line["inference"]
    results = []
    for output in line["outputs"]:
        if "strings" in output:
            results.append(text(*output["strings"], shape=output["shape"]))
        else:
            tensor = onnx.TensorProto(data_type=output["dtype"], dims=output["shape"], raw_data=Path(output["file"]).read_bytes())
            results.append(numpy_helper.to_array(tensor))
    return results


def the_formats(model, inputs):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, {f"x{i}": array for i, array in enumerate(inputs) if array is not None})


def onnx_runtimes(model, inputs):
    import onnxruntime

    model = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {f"x{i}": array for i, array in enumerate(inputs) if array is not None})


def same(actual, expected, rtol=0):
    assert not isinstance(actual, str), actual
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        e = np.asarray(e)
        assert a.shape == e.shape, (a.shape, e.shape)
        if a.dtype == object:
            assert a.tolist() == e.tolist()
        else:
            assert a.dtype == e.dtype
            np.testing.assert_allclose(a, e, rtol=rtol, atol=0) if rtol else np.testing.assert_array_equal(a, e)
