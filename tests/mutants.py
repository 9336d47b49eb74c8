# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Seeded defective models for the tests of `lathe check`: pieces of the zoo's exports and small generated models, each damaged in one or two places."""

import copy
import functools
import random

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

import zoo
from made_models import I64, MADE, F

SMALL = 4096  # bytes of an initializer that stays one; larger ones become inputs


# Sources -------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=24)
def _typed(name):
    """The stored model with the types of all its tensors."""
    model = onnx.load(zoo.stripped(name), load_external_data=False)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def piece(name, rng):
    """A run of nodes of a zoo model as a model of its own; large weights become inputs."""
    model = _typed(name)
    graph = model.graph
    size = rng.choice([1, 2, 4, 8, 16, 30])
    start = rng.randrange(max(1, len(graph.node) - size + 1))
    nodes = list(graph.node[start : start + size])
    types = {v.name: v for v in [*graph.value_info, *graph.input, *graph.output]}
    weights = {t.name: t for t in graph.initializer}
    constants = {n.output[0]: n for n in graph.node[:start] if n.op_type == "Constant"}
    made, reads = set(), []

    def collect(node):
        reads.extend(i for i in node.input if i)
        for a in node.attribute:
            for g in [a.g] if a.type == AttributeProto.GRAPH else a.graphs:
                inner = {o for n in g.node for o in n.output} | {v.name for v in g.input} | {t.name for t in g.initializer}
                before = len(reads)
                for n in g.node:
                    collect(n)
                reads[before:] = [r for r in reads[before:] if r not in inner]

    for node in nodes:
        collect(node)
        made.update(node.output)
    needed = {r: None for r in reads if r not in made}
    for name_ in needed:
        if name_ in constants:
            nodes.insert(0, constants[name_])
            made.add(name_)
    inputs, initializers, known = [], [], {}
    for name_ in needed:
        if name_ in made:
            continue
        tensor = weights.get(name_)
        if tensor is not None and tensor.data_location != TensorProto.EXTERNAL and len(tensor.raw_data) <= SMALL:
            initializers.append(tensor)
        elif tensor is not None:
            inputs.append(helper.make_tensor_value_info(name_, tensor.data_type, list(tensor.dims)))
        elif name_ in types and types[name_].type.WhichOneof("value"):
            inputs.append(types[name_])
        else:
            return None
        known[name_] = True
    outputs, infos = [], []
    read = set(reads)
    for node in nodes:
        for output in node.output:
            if not output or output not in types:
                continue
            (infos if output in read and rng.random() < 0.8 else outputs).append(types[output])
    if not outputs:
        return None
    for v in [*inputs, *outputs]:
        if v.type.HasField("tensor_type") and not v.type.tensor_type.HasField("shape"):
            return None
    made_graph = helper.make_graph([copy.deepcopy(n) for n in nodes], "piece", inputs, outputs, initializers, value_info=infos)
    imports = [copy.deepcopy(o) for o in model.opset_import]
    return helper.make_model(made_graph, opset_imports=imports, functions=list(model.functions), ir_version=model.ir_version)


def whole(name):
    """A small zoo model, large weights as inputs."""
    model = copy.deepcopy(_typed(name))
    kept = []
    taken = {v.name for v in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            kept.append(tensor)
        elif tensor.name not in taken:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


# Mutations: each changes a model in place, or returns False where it finds nothing to change. ------------------------------------------


def graphs_of(model):
    """Every graph, nested ones too, and functions (which have nodes as well)."""
    found = []

    def walk(holder):
        found.append(holder)
        for node in holder.node:
            for a in node.attribute:
                if a.type == AttributeProto.GRAPH:
                    walk(a.g)
                for g in a.graphs:
                    walk(g)

    walk(model.graph)
    for f in model.functions:
        walk(f)
    return found


def any_graph(model, rng):
    found = graphs_of(model)
    return found[0] if rng.random() < 0.5 else rng.choice(found)


def any_node(model, rng):
    nodes = [n for g in graphs_of(model) for n in g.node] if rng.random() < 0.4 else list(model.graph.node)
    return rng.choice(nodes) if nodes else None


def names_of(model):
    return sorted({name for g in graphs_of(model) for n in g.node for name in [*n.input, *n.output]} - {""}) or ["x"]


def drop(holder, index):
    items = list(holder)
    del holder[:]
    holder.extend(items[:index] + items[index + 1 :])


def drop_node(m, rng):
    g = any_graph(m, rng)
    if not g.node:
        return False
    drop(g.node, rng.randrange(len(g.node)))


def duplicate_node(m, rng):
    g = any_graph(m, rng)
    if not g.node:
        return False
    node = copy.deepcopy(rng.choice(list(g.node)))
    if rng.random() < 0.5:
        node.name += "_again"
        for i, name in enumerate(node.output):
            node.output[i] = name + "_again" if name else name
    g.node.append(node)


def swap_nodes(m, rng):
    g = any_graph(m, rng)
    if len(g.node) < 2:
        return False
    i, j = rng.sample(range(len(g.node)), 2)
    a, b = copy.deepcopy(g.node[i]), copy.deepcopy(g.node[j])
    g.node[i].CopyFrom(b)
    g.node[j].CopyFrom(a)


def rename_op(m, rng):
    node = any_node(m, rng)
    if node is None:
        return False
    op = node.op_type
    node.op_type = rng.choice(
        [op.lower(), op + "X", op[:-1], op[1:], "", "Relu", "Add", "Gelu", "Identity", "Upsample", "Scatter", "Swish", "BitCast", "LpNormalization", op[::-1]]
    )


def change_domain(m, rng):
    node = any_node(m, rng)
    if node is None:
        return False
    node.domain = rng.choice(["ai.onnx", "ai.onnx.ml", "com.microsoft", "nowhere", "", "ai.onnx.training", "local", "AI.ONNX"])


def drop_input(m, rng):
    node = any_node(m, rng)
    if node is None or not node.input:
        return False
    drop(node.input, rng.randrange(len(node.input)))


def blank_input(m, rng):
    node = any_node(m, rng)
    if node is None or not node.input:
        return False
    node.input[rng.randrange(len(node.input))] = ""


def add_input(m, rng):
    node = any_node(m, rng)
    if node is None:
        return False
    node.input.append(rng.choice([*names_of(m), "", "nothing"]))


def rewire_input(m, rng):
    node = any_node(m, rng)
    if node is None or not node.input:
        return False
    node.input[rng.randrange(len(node.input))] = rng.choice([*names_of(m), "ghost"])


def drop_output(m, rng):
    node = any_node(m, rng)
    if node is None or not node.output:
        return False
    drop(node.output, rng.randrange(len(node.output)))


def rename_output(m, rng):
    node = any_node(m, rng)
    if node is None or not node.output:
        return False
    node.output[rng.randrange(len(node.output))] = rng.choice([*names_of(m), "", "fresh"])


def add_output(m, rng):
    node = any_node(m, rng)
    if node is None:
        return False
    node.output.append(rng.choice(["", "more", *names_of(m)]))


def rename_node(m, rng):
    node = any_node(m, rng)
    if node is None:
        return False
    node.name = rng.choice(["", "same", m.graph.node[0].name if m.graph.node else ""])


def with_attributes(m, rng):
    nodes = [n for g in graphs_of(m) for n in g.node if n.attribute]
    return rng.choice(nodes) if nodes else None


def drop_attribute(m, rng):
    node = with_attributes(m, rng)
    if node is None:
        return False
    drop(node.attribute, rng.randrange(len(node.attribute)))


def rename_attribute(m, rng):
    node = with_attributes(m, rng)
    if node is None:
        return False
    a = rng.choice(list(node.attribute))
    a.name = rng.choice([a.name + "s", a.name[:-1], "", "axis", "__own", "axes", a.name.upper()])


def duplicate_attribute(m, rng):
    node = with_attributes(m, rng)
    if node is None:
        return False
    node.attribute.append(copy.deepcopy(rng.choice(list(node.attribute))))


def add_attribute(m, rng):
    node = any_node(m, rng)
    if node is None:
        return False
    name = rng.choice(["axis", "alpha", "keepdims", "to", "perm", "pads", "unknown", "mode", "axes", "group", "epsilon", "value", "auto_pad", "dtype"])
    node.attribute.append(helper.make_attribute(name, rng.choice([0, 1, -1, 5, 1.5, "same", [0], [1, 0], [1.0], [0, 0, 0, 0]])))


def retype_attribute(m, rng):
    node = with_attributes(m, rng)
    if node is None:
        return False
    a = rng.choice(list(node.attribute))
    way = rng.randrange(4)
    if way == 0:
        a.type = rng.choice([0, 1, 2, 3, 4, 6, 7, 8])
    elif way == 1:
        fresh = helper.make_attribute(a.name or "x", rng.choice([1, 2.0, "text", [1, 2], [1.0], ["s"]]))
        a.CopyFrom(fresh)
    elif way == 2:
        a.i = 3
    else:
        a.ref_attr_name = "outer"


def change_attribute(m, rng):
    nodes = [n for g in graphs_of(m) for n in g.node if any(a.type in (1, 2, 3, 6, 7) for a in n.attribute)]
    if not nodes:
        return False
    a = rng.choice([a for a in rng.choice(nodes).attribute if a.type in (1, 2, 3, 6, 7)])
    if a.type == AttributeProto.INT:
        a.i = rng.choice([-1, 0, 1, 2, 3, -5, 7, 10, 1000, 2**40, a.i + 1])
    elif a.type == AttributeProto.FLOAT:
        a.f = rng.choice([0.0, -1.0, 1e30, float("nan")])
    elif a.type == AttributeProto.STRING:
        a.s = rng.choice([b"", b"SAME_UPPER", b"VALID", b"NOTSET", b"nonsense", b"linear"])
    elif a.type == AttributeProto.INTS:
        way = rng.randrange(4)
        if way == 0 and a.ints:
            a.ints[rng.randrange(len(a.ints))] = rng.choice([-1, 0, 1, 2, 3, 9, -7, 100])
        elif way == 1:
            a.ints.append(rng.choice([0, 1, 2, -1]))
        elif way == 2 and a.ints:
            a.ints.pop()
        else:
            del a.ints[:]
    elif a.floats:
        a.floats.pop()


def any_value(m, rng):
    g = rng.choice([g for g in graphs_of(m) if isinstance(g, onnx.GraphProto)])
    values = [*g.input, *g.output, *g.value_info]
    return rng.choice(values) if values else None


def tensor_type(v):
    t = v.type
    for _ in range(4):
        which = t.WhichOneof("value")
        if which in ("tensor_type", "sparse_tensor_type"):
            return getattr(t, which)
        if which not in ("sequence_type", "optional_type"):
            return None
        t = getattr(t, which).elem_type
    return None


def retype_value(m, rng):
    v = any_value(m, rng)
    if v is None:
        return False
    way = rng.randrange(6)
    t = tensor_type(v)
    if way < 3 and t is not None:
        t.elem_type = rng.choice([0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 16, 17, 22, 99])
    elif way == 3:
        v.ClearField("type")
    elif way == 4:
        v.type.CopyFrom(helper.make_sequence_type_proto(helper.make_tensor_type_proto(F, None)))
    elif t is not None:
        t.ClearField("elem_type")


def reshape_value(m, rng):
    v = any_value(m, rng)
    t = tensor_type(v) if v is not None else None
    if t is None:
        return False
    dims = list(t.shape.dim)
    way = rng.randrange(7)
    if way == 0:
        t.ClearField("shape")
    elif way == 1:
        t.shape.dim.add().dim_value = rng.choice([1, 3])
    elif way == 2 and dims:
        drop(t.shape.dim, rng.randrange(len(dims)))
    elif way == 3 and dims:
        rng.choice(list(t.shape.dim)).dim_param = rng.choice(["n", "batch", "other", ""])
    elif way == 4 and dims:
        rng.choice(list(t.shape.dim)).ClearField("value")
    elif dims:
        d = rng.choice(list(t.shape.dim))
        d.dim_value = rng.choice([d.dim_value + 1, 0, 1, -1, 7, d.dim_value * 2, 2**40])


def drop_value(m, rng):
    g = rng.choice([g for g in graphs_of(m) if isinstance(g, onnx.GraphProto)])
    holder = rng.choice([g.input, g.output, g.value_info])
    if not holder:
        return False
    drop(holder, rng.randrange(len(holder)))


def rename_value(m, rng):
    v = any_value(m, rng)
    if v is None:
        return False
    v.name = rng.choice(["", "renamed", *names_of(m)])


def duplicate_value(m, rng):
    g = rng.choice([g for g in graphs_of(m) if isinstance(g, onnx.GraphProto)])
    holder = rng.choice([g.input, g.output, g.value_info])
    if not holder:
        return False
    holder.append(copy.deepcopy(rng.choice(list(holder))))


def any_tensor(m, rng):
    tensors = []
    for g in graphs_of(m):
        if isinstance(g, onnx.GraphProto):
            tensors += [*g.initializer, *(s.values for s in g.sparse_initializer), *(s.indices for s in g.sparse_initializer)]
        tensors += [a.t for n in g.node for a in n.attribute if a.type == AttributeProto.TENSOR]
    return rng.choice(tensors) if tensors else None


def damage_tensor(m, rng):
    t = any_tensor(m, rng)
    if t is None:
        return False
    way = rng.randrange(13)
    if way == 0:
        t.data_type = rng.choice([0, 1, 2, 6, 7, 8, 9, 10, 11, 14, 16, 17, 21, 22, 23, 25, 50])
    elif way == 1:
        t.raw_data = t.raw_data[:-1]
    elif way == 2:
        t.raw_data = t.raw_data + b"\0\0\0\0"
    elif way == 3:
        t.dims.append(rng.choice([0, 1, 2, -1]))
    elif way == 4 and t.dims:
        t.dims.pop()
    elif way == 5 and t.dims:
        t.dims[rng.randrange(len(t.dims))] += rng.choice([1, -1, 5, -100])
    elif way == 6:
        t.float_data.append(1.0)
    elif way == 7:
        t.ClearField("raw_data")
    elif way == 8:
        t.name = rng.choice(["", *names_of(m)])
    elif way == 9:
        t.int32_data.append(3)
    elif way == 10:
        t.ClearField("data_type")
    elif way == 11 and t.raw_data:
        array = numpy_helper.to_array(t)
        if array.dtype == np.float32:
            t.ClearField("raw_data")
            t.float_data.extend(array.ravel().tolist()[: max(0, array.size - rng.randrange(2))])
        elif array.dtype == np.int64:
            t.ClearField("raw_data")
            t.int64_data.extend(array.ravel().tolist()[: max(0, array.size - rng.randrange(2))])
    elif t.raw_data:
        data = bytearray(t.raw_data)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        t.raw_data = bytes(data)


def external_tensor(m, rng):
    t = any_tensor(m, rng)
    if t is None:
        return False
    t.data_location = TensorProto.EXTERNAL
    keep = rng.random() < 0.2
    data = t.raw_data
    if not keep:
        t.ClearField("raw_data")
    size = len(data)
    for key, value in (
        ("location", rng.choice(["data.bin", "absent.bin", "../up.bin", "/etc/hostname", "", "sub/data.bin", "data..bin"])),
        ("offset", rng.choice(["0", "4096", "-1", "x", "1", "99999999"])),
        ("length", rng.choice([str(size), str(size + 1), "0", "x"])),
    ):
        if rng.random() < 0.85:
            t.external_data.add(key=key, value=value)


def drop_initializer(m, rng):
    if not m.graph.initializer:
        return False
    drop(m.graph.initializer, rng.randrange(len(m.graph.initializer)))


def duplicate_initializer(m, rng):
    if not m.graph.initializer:
        return False
    t = copy.deepcopy(rng.choice(list(m.graph.initializer)))
    if rng.random() < 0.5:
        m.graph.input.append(helper.make_tensor_value_info(t.name, rng.choice([t.data_type, F]), list(t.dims)))
    else:
        m.graph.initializer.append(t)


def damage_sparse(m, rng):
    if not m.graph.sparse_initializer:
        return False
    s = rng.choice(list(m.graph.sparse_initializer))
    way = rng.randrange(4)
    if way == 0:
        s.dims[rng.randrange(len(s.dims))] = rng.choice([0, -1, 1, 100])
    elif way == 1:
        del s.dims[:]
    elif way == 2:
        s.ClearField("indices")
    else:
        s.indices.CopyFrom(helper.make_tensor("", I64, [3], rng.choice([[0, 0, 5], [5, 3, 0], [-1, 0, 1], [0, 3, 6]])))


def change_opset(m, rng):
    holder = rng.choice([m, *m.functions]).opset_import if rng.random() < 0.8 else m.opset_import
    way = rng.randrange(6)
    if way == 0 and holder:
        drop(holder, rng.randrange(len(holder)))
    elif way == 1 and holder:
        holder.append(copy.deepcopy(holder[0]))
        holder[-1].version = rng.choice([1, 7, 13, holder[0].version])
    elif way == 2 and holder:
        holder[0].domain = rng.choice(["ai.onnx", "ai.onnx.ml", "other"])
    elif way == 3:
        holder.append(helper.make_opsetid(rng.choice(["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "local"]), rng.choice([1, 2, 3, 20])))
    elif holder:
        rng.choice(list(holder)).version = rng.choice([0, -1, 1, 5, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 19, 21, 22, 23, 24, 28, 29, 1000, 2**40])


def change_ir(m, rng):
    m.ir_version = rng.choice([0, -1, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13, 14, 15, 99])


def change_metadata(m, rng):
    m.metadata_props.add(key="a", value="1")
    m.metadata_props.add(key=rng.choice(["a", "b"]), value="2")


def graph_name(m, rng):
    g = rng.choice([g for g in graphs_of(m) if isinstance(g, onnx.GraphProto)])
    g.name = ""


def damage_function(m, rng):
    if not m.functions:
        return False
    f = rng.choice(list(m.functions))
    way = rng.randrange(9)
    if way == 0:
        m.functions.append(copy.deepcopy(f))
    elif way == 1:
        f.name = rng.choice(["", f.name + "2"])
    elif way == 2:
        f.domain = rng.choice(["", "elsewhere", "ai.onnx"])
    elif way == 3 and f.input:
        f.input[rng.randrange(len(f.input))] = rng.choice(["a", "x", "other", ""])
    elif way == 4 and f.output:
        f.output[rng.randrange(len(f.output))] = rng.choice(["p", "s", "other", ""])
    elif way == 5:
        f.attribute.append(rng.choice(["slope", "more"]))
    elif way == 6:
        f.node.append(helper.make_node(f.name, list(f.input), ["again"], domain=f.domain))
    elif way == 7:
        del f.attribute[:]
    else:
        m.functions.remove(f)


def damage_nested(m, rng):
    holders = [a for g in graphs_of(m) for n in g.node for a in n.attribute if a.type == AttributeProto.GRAPH]
    if not holders:
        return False
    g = rng.choice(holders).g
    way = rng.randrange(6)
    if way == 0 and g.output:
        drop(g.output, rng.randrange(len(g.output)))
    elif way == 1:
        g.input.append(helper.make_tensor_value_info("extra", F, [1]))
    elif way == 2 and g.input:
        drop(g.input, rng.randrange(len(g.input)))
    elif way == 3 and g.output:
        g.output.append(copy.deepcopy(g.output[0]))
    elif way == 4 and g.output:
        g.output[0].ClearField("type")
    elif g.input:
        g.initializer.append(helper.make_tensor(g.input[0].name, F, [1], [1.0]))


def use_later(m, rng):
    g = any_graph(m, rng)
    if len(g.node) < 2:
        return False
    i = rng.randrange(len(g.node) - 1)
    if not g.node[i].input:
        return False
    later = rng.choice(list(g.node[i + 1 :]))
    if later.output:
        g.node[i].input[0] = later.output[0]


def change_constant(m, rng):
    """Other numbers in a small constant: a shape, axes, indices."""
    tensors = [
        t
        for t in [*m.graph.initializer, *(a.t for n in m.graph.node for a in n.attribute if a.type == AttributeProto.TENSOR)]
        if t.data_type in (I64, TensorProto.INT32) and 0 < len(t.raw_data) <= 256
    ]
    if not tensors:
        return False
    t = rng.choice(tensors)
    array = numpy_helper.to_array(t).copy()
    flat = array.reshape(-1)
    flat[rng.randrange(flat.size)] = rng.choice([-1, 0, 1, 2, 3, 4, 5, 16, -2, 1000])
    t.CopyFrom(numpy_helper.from_array(array, t.name))


def drop_value_info(m, rng):
    if not m.graph.value_info:
        return False
    for _ in range(rng.randrange(1, 4)):
        if m.graph.value_info:
            drop(m.graph.value_info, rng.randrange(len(m.graph.value_info)))


def rename_consistently(m, rng):
    """Valid as before, unless names meet."""
    old, new = rng.choice(names_of(m)), rng.choice(["renamed", "a b/c:0", *names_of(m)[:2]])
    for g in graphs_of(m):
        for n in g.node:
            for names in (n.input, n.output):
                for i, name in enumerate(names):
                    if name == old:
                        names[i] = new
        if isinstance(g, onnx.GraphProto):
            for item in [*g.input, *g.output, *g.value_info, *g.initializer]:
                if item.name == old:
                    item.name = new


def external_consistently(m, rng):
    """A float tensor's data moved to a file that is there."""
    tensors = [t for t in m.graph.initializer if t.data_type == F and 0 < len(t.raw_data) <= 60000]
    if not tensors:
        return False
    t = rng.choice(tensors)
    size = len(t.raw_data)
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "data.bin"), ("offset", rng.choice(["0", "4096", "2"])), ("length", str(size))):
        t.external_data.add(key=key, value=value)


MUTATIONS = [
    *[
        drop_node,
        duplicate_node,
        swap_nodes,
        rename_op,
        change_domain,
        drop_input,
        blank_input,
        add_input,
        rewire_input,
        drop_output,
        rename_output,
        add_output,
    ],
    *[rename_node, drop_attribute, rename_attribute, duplicate_attribute, add_attribute, retype_attribute, change_attribute, retype_value, reshape_value],
    *[
        drop_value,
        rename_value,
        duplicate_value,
        damage_tensor,
        external_tensor,
        drop_initializer,
        duplicate_initializer,
        damage_sparse,
        change_opset,
        change_ir,
    ],
    *[
        change_constant,
        change_constant,
        change_attribute,
        change_attribute,
        reshape_value,
        rename_node,
        drop_value_info,
        drop_value_info,
        rename_consistently,
        external_consistently,
    ],
    *[change_metadata, graph_name, damage_function, damage_nested, use_later, change_attribute, retype_value, reshape_value, damage_tensor, rewire_input],
]


@functools.lru_cache(maxsize=1)
def small_names():
    return [n for n in zoo.names() if zoo.stripped(n).stat().st_size < 60_000]


def source(rng, names=None):
    """A sound model and where it is from."""
    while True:
        draw = rng.random()
        if draw < 0.45:
            made = rng.choice(MADE)
            return made(), getattr(made, "__name__", None) or f"{made.func.__name__}({made.args[0]})"
        name = rng.choice(names or zoo.names())
        if draw > 0.93 and name in small_names():
            return whole(name), name
        model = piece(name, rng)
        if model is not None:
            return model, "piece of " + name


def mutant(seed, index, names=None):
    """(model, description): the same for the same seed and index."""
    rng = random.Random(f"{seed}:{index}")
    model, origin = source(rng, names)
    done = []
    wanted = 1 if rng.random() < 0.75 else 2
    for _ in range(40):
        change = rng.choice(MUTATIONS)
        try:
            changed = change(model, rng)
        except (TypeError, ValueError, IndexError):
            continue
        if changed is not False:
            done.append(change.__name__)
        if len(done) == wanted:
            break
    return model, f"{origin}: {', '.join(done)}"
