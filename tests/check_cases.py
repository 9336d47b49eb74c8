# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""One broken model for each code of `lathe check`, for tests/test_check.py: a function that breaks a sound model, by the name of the case."""

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, TrainingInfoProto, helper, numpy_helper

import made_models

F, F16, I64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
CASES = {}


def sound():
    """y = Relu(x) + c for x: float[n, 4]."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"], name="relu"), helper.make_node("Add", ["r", "c"], ["y"], name="add")],
        "g",
        [helper.make_tensor_value_info("x", F, ["n", 4])],
        [helper.make_tensor_value_info("y", F, ["n", 4])],
        [numpy_helper.from_array(np.arange(4, dtype=np.float32), "c")],
        value_info=[helper.make_tensor_value_info("r", F, ["n", 4])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def case(code, base=sound):
    """Registers a function that breaks `base()` in place (or returns another model, or bytes)."""

    def register(change):
        def make():
            model = base()
            changed = change(model)
            return model if changed is None else changed

        CASES[change.__name__] = (code, make)
        return change

    return register


def node(m, name):
    return next(n for n in m.graph.node if n.name == name)


def add(m, *args, at=None, **kwargs):
    m.graph.node.insert(len(m.graph.node) if at is None else at, helper.make_node(*args, **kwargs))


def function(name, nodes, domain="local", inputs=("a",), outputs=("b",), opset=20, attributes=()):
    return helper.make_function(
        domain, name, list(inputs), list(outputs), nodes, [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)], list(attributes)
    )


# The file ------------------------------------------------------------------------------------------------------------


@case("not-onnx")
def empty_file(m):
    return b""


@case("not-onnx")
def garbage(m):
    return b"\x89PNG\r\n\x1a\n" + bytes(range(200))


@case("not-onnx")
def truncated(m):
    return m.SerializeToString()[:-5]


@case("not-onnx")
def no_graph(m):
    return ModelProto(ir_version=10).SerializeToString()


@case("broken-encoding")
def broken_node(m):
    # The second node's operator name claims more bytes than there are.
    return m.SerializeToString().replace(b"\x22\x03Add", b"\x22\x60Add")


@case("nested-too-deeply")
def deep_graphs(m):
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["t"])], "leaf", [], [])
    encoded = graph.SerializeToString()

    def field(tag, data):
        size, head = len(data), [tag << 3 | 2]
        while size > 127:
            head.append(size & 127 | 128)
            size >>= 7
        return bytes([*head, size]) + data

    for _ in range(80):
        encoded = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, encoded)))
    return b"\x08\x0a" + field(7, encoded)


@case("ir-version")
def ir_version_missing(m):
    m.ClearField("ir_version")


@case("ir-version")
def ir_version_unknown(m):
    m.ir_version = 99


@case("ir-version-rule")
def functions_too_early(m):
    m.ir_version = 7
    m.opset_import.append(helper.make_opsetid("local", 1))
    m.functions.append(function("Twice", [helper.make_node("Add", ["a", "a"], ["b"])]))


@case("opset-missing")
def no_opsets(m):
    del m.opset_import[:]


@case("opset-missing")
def domain_not_imported(m):
    add(m, "Scaler", ["y"], ["z"], name="scale", domain="ai.onnx.ml")


@case("opset-duplicate")
def two_opsets(m):
    m.opset_import.append(helper.make_opsetid("ai.onnx", 13))


@case("opset-version")
def future_opset(m):
    m.opset_import[0].version = 99


@case("metadata-duplicate")
def metadata_twice(m):
    for value in "12":
        m.metadata_props.add(key="author", value=value)


@case("training-info")
def training(m):
    info = TrainingInfoProto()
    info.algorithm.name = "step"
    info.update_binding.add(key="nothing", value="nowhere")
    m.training_info.append(info)


# Functions -----------------------------------------------------------------------------------------------------------


@case("function-form", made_models.made_functions)
def function_output_twice(m):
    m.functions[1].output.append("out")


@case("function-duplicate", made_models.made_functions)
def function_twice(m):
    m.functions.append(m.functions[0])


@case("function-recursive", made_models.made_functions)
def function_recursion(m):
    m.functions[0].opset_import.append(helper.make_opsetid("local", 1))
    m.functions[0].node.append(helper.make_node("Block", ["a", "a"], ["more"], domain="local", name="again"))


@case("function-opset", made_models.made_functions)
def function_of_another_opset(m):
    m.functions[1].opset_import[0].version = 8


# Graphs and names ----------------------------------------------------------------------------------------------------


@case("graph-name")
def graph_without_name(m):
    m.graph.name = ""


@case("value-info")
def input_without_shape(m):
    m.graph.input[0].type.tensor_type.ClearField("shape")


@case("value-info-stray")
def stray_value_info(m):
    m.graph.value_info.append(helper.make_tensor_value_info("gone", F, [1]))


@case("name-missing")
def initializer_without_name(m):
    m.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32)))


@case("name-clash")
def output_twice(m):
    add(m, "Neg", ["x"], ["r"], name="neg")


@case("name-shadowed", made_models.made_loop)
def shadowed_input(m):
    m.graph.node.insert(0, helper.make_node("Relu", ["init"], ["state"], name="outer"))
    m.graph.output.append(helper.make_tensor_value_info("state", F, [3]))


@case("node-name-duplicate")
def node_names_twice(m):
    m.graph.node[1].name = "relu"


@case("initializer-not-input")
def initializer_in_old_ir(m):
    m.ir_version = 3


@case("initializer-is-input", made_models.made_loop)
def nested_initializer_is_input(m):
    body = m.graph.node[0].attribute[0].g
    body.initializer.append(helper.make_tensor("state", F, [3], [1.0, 2.0, 3.0]))


@case("undefined-input")
def undefined_input(m):
    node(m, "add").input[1] = "d"


@case("undefined-output")
def undefined_output(m):
    m.graph.output[0].name = "z"


@case("not-sorted")
def unsorted(m):
    add(m, "Neg", ["y"], ["z"], name="early", at=0)


@case("cycle")
def cycle(m):
    node(m, "relu").input[0] = "y"


# Nodes ---------------------------------------------------------------------------------------------------------------


@case("node-form")
def no_operator(m):
    node(m, "relu").op_type = ""


@case("unknown-operator")
def misspelt_operator(m):
    node(m, "relu").op_type = "Relo"


@case("operator-too-new")
def too_new(m):
    m.opset_import[0].version = 19
    node(m, "relu").op_type = "Gelu"


@case("operator-deprecated")
def withdrawn(m):
    add(m, "Upsample", ["x", "c"], ["z"], name="up")


@case("operator-experimental")
def experimental(m):
    m.opset_import.append(helper.make_opsetid("ai.onnx.preview", 1))
    add(m, "FlexAttention", ["q", "q", "q"], ["z"], name="flex", domain="ai.onnx.preview")
    m.graph.input.append(helper.make_tensor_value_info("q", F, [1, 2, 3, 4]))


@case("unsupported-operator")
def not_built(m):
    m.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    add(m, "BifurcationDetector", ["x"], ["z"], name="own", domain="com.microsoft")


@case("input-count")
def too_many_inputs(m):
    node(m, "relu").input.append("c")


@case("input-count")
def left_out_input(m):
    node(m, "add").input[0] = ""


@case("input-count")
def blank_variadic_member(m):
    add(m, "SequenceConstruct", ["x", ""], ["blank_list"], name="own")


@case("output-count")
def too_many_outputs(m):
    node(m, "relu").output.append("more")


@case("unknown-attribute")
def misspelt_attribute(m):
    add(m, "Softmax", ["y"], ["z"], name="softmax", axes=1)


@case("missing-attribute")
def missing_attribute(m):
    add(m, "Cast", ["y"], ["z"], name="cast")


@case("attribute-type")
def wrong_attribute_type(m):
    add(m, "Softmax", ["y"], ["z"], name="softmax", axis=1.0)


@case("attribute-form")
def attribute_without_type(m):
    add(m, "Softmax", ["y"], ["z"], name="softmax", axis=1)
    m.graph.node[-1].attribute[0].ClearField("type")


@case("attribute-form")
def reference_outside_functions(m):
    add(m, "Softmax", ["y"], ["z"], name="softmax")
    m.graph.node[-1].attribute.append(AttributeProto(name="axis", type=AttributeProto.INT, ref_attr_name="where"))


@case("attribute-duplicate")
def attribute_twice(m):
    add(m, "Softmax", ["y"], ["z"], name="softmax", axis=1)
    m.graph.node[-1].attribute.append(m.graph.node[-1].attribute[0])


# Types and shapes ----------------------------------------------------------------------------------------------------


@case("type-mismatch")
def mixed_types(m):
    m.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.arange(4), "c"))


@case("type-mismatch")
def type_not_taken(m):
    add(m, "Shape", ["x"], ["s"], name="shape")
    add(m, "Sin", ["s"], ["z"], name="sin")


@case("shape-rule")
def shapes_do_not_broadcast(m):
    m.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.arange(3, dtype=np.float32), "c"))


@case("shape-rule")
def axis_out_of_range(m):
    add(m, "Softmax", ["y"], ["z"], name="softmax", axis=2)


@case("shape-rule")
def target_shape_that_is_no_list(m):
    m.graph.initializer.append(numpy_helper.from_array(np.array([[2, 4]]), "target"))
    add(m, "Expand", ["y", "target"], ["z"], name="expand")
    add(m, "Reshape", ["y", "target"], ["w"], name="reshape")


@case("shape-rule")
def negative_pads(m):
    m.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2]), "image"))
    add(m, "Reshape", ["y", "image"], ["i"], name="reshape")
    add(m, "MaxPool", ["i"], ["z"], name="pool", kernel_shape=[1, 1], pads=[0, -1, 0, 0])


@case("unknown-type", made_models.made_functions)
def untyped_call(m):
    m.functions[1].node[1].domain = "far.away"
    m.functions[1].opset_import.append(helper.make_opsetid("far.away", 1))


@case("type-conflict")
def declared_type(m):
    m.graph.output[0].type.tensor_type.elem_type = F16


@case("shape-conflict")
def declared_shape(m):
    m.graph.value_info[0].type.tensor_type.shape.dim[1].dim_value = 5


@case("nested-graph", made_models.made_if)
def branch_without_output(m):
    del next(a for a in m.graph.node[2].attribute if a.name == "else_branch").g.output[:]


@case("negative-dim")
def negative_extent(m):
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1


# Data ----------------------------------------------------------------------------------------------------------------


@case("tensor-type")
def unknown_element_type(m):
    m.graph.initializer[0].data_type = 77


@case("tensor-data")
def too_little_data(m):
    m.graph.initializer[0].raw_data = m.graph.initializer[0].raw_data[:10]


@case("tensor-data")
def two_data_fields(m):
    m.graph.initializer[0].float_data.append(1.0)


@case("tensor-padding")
def too_much_data(m):
    m.graph.initializer[0].raw_data += b"\0\0\0\0"


@case("sparse-tensor", made_models.made_sparse)
def sparse_index_outside(m):
    m.graph.sparse_initializer[0].indices.int64_data[2] = 6


def external(m, **entries):
    tensor = m.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


@case("external-data")
def external_outside_the_folder(m):
    external(m, location="../weights.bin")


@case("external-data")
def external_length(m):
    external(m, location="data.bin", length="12")


@case("external-missing")
def external_missing(m):
    external(m, location="absent.bin")


@case("external-range")
def external_range(m):
    external(m, location="data.bin", offset="8192")


@case("external-misaligned")
def external_misaligned(m):
    external(m, location="data.bin", offset="6")


@case("external-shape", lambda: made_models.made_layers(17))
def external_shape(m):
    shape = next(t for t in m.graph.initializer if t.name == "shape")
    shape.ClearField("raw_data")
    shape.data_location = TensorProto.EXTERNAL
    shape.external_data.add(key="location", value="data.bin")


def reports(folder):
    """{case: (code, report)} of all cases, with a data file of 8200 bytes beside the models."""
    import lathe

    (folder / "data.bin").write_bytes(bytes(8200))
    found = {}
    for name, (code, make) in CASES.items():
        model = make()
        path = folder / "m.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        found[name] = (code, lathe.check(path))
    return found


def texts(found, folder):
    """The reports as one text, for check_expected.txt."""
    return "\n".join(f"## {name} [{code}]\n{str(report).replace(str(folder) + '/', '')}" for name, (code, report) in found.items())


if __name__ == "__main__":
    import sys
    import tempfile
    from pathlib import Path

    import zoo

    sys.path.insert(0, str(zoo.build_dir() / "python"))
    with tempfile.TemporaryDirectory() as name:
        target = Path(__file__).with_name("check_expected.txt")
        target.write_text(texts(reports(Path(name)), name))
        print(target)
