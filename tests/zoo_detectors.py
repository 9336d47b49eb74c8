# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Detectors whose last boxes depend on the order of nearly equal scores, which the random weights of the zoo make plenty of: a rounding exchanges
two rows, and a suppression then goes another way. Such a model is cut where order begins to count. The part before it is held against ONNX
Runtime by tolerance, and each later part is fed with ONNX Runtime's tensors, so that both sort the same numbers. It is cut before exponentials
too: of logits in the thousands, which random weights make, a rounding in the seventh digit becomes one in the third."""

import time
from dataclasses import dataclass

import numpy as np
import onnx

import zoo
import zoo_accuracy
import zoo_inputs

# Of torchvision's detectors those that need it; at most eight.
DETECTORS = ("maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "ssd300_vgg16", "ssdlite320_mobilenet_v3_large")
# What makes an order, or a number of rows, of numbers.
ORDERS = {"TopK", "NonMaxSuppression", "NonZero", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
# What makes relative errors of differences.
MAGNIFIES = {"Exp", "Sigmoid", "Softmax"}
COMPUTES = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
EXACT, MAGNIFIED, CONTRACTED = range(3)


@dataclass
class Part:
    nodes: list
    inputs: list  # names of tensors that earlier parts make, or the model's inputs
    outputs: list  # names of tensors that later parts read, or the model's outputs


def parts(model):
    """The parts of a model, in order. A part ends where numbers that a contraction of it made are first ordered or magnified."""
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    stage = {i.name: (0, EXACT) for i in graph.input if i.name not in constants}  # tensor: (part, what rounds it there)
    found = []
    for node in graph.node:
        states = [stage[i] for i in names_read(node) if i in stage]
        if not states:
            continue  # of constants alone: every part that needs it makes it
        at = max(s for s, _ in states)
        rounds = max(r for s, r in states if s == at)
        if (node.op_type in ORDERS and rounds != EXACT) or (node.op_type in MAGNIFIES and rounds == CONTRACTED):
            at, rounds = at + 1, EXACT
        if node.op_type in COMPUTES:
            rounds = CONTRACTED
        elif node.op_type in MAGNIFIES:
            rounds = max(rounds, MAGNIFIED)
        stage |= {o: (at, rounds) for o in node.output if o}
        while len(found) <= at:
            found.append([])
        found[at].append(node)
    made = {o: k for k, nodes in enumerate(found) for n in nodes for o in n.output}
    last = {o.name for o in graph.output}
    result = []
    for k, nodes in enumerate(found):
        read = dict.fromkeys(i for n in nodes for i in names_read(n) if i in stage and made.get(i, -1) < k)
        later = {i for other in found[k + 1 :] for n in other for i in names_read(n)} | last
        result.append(Part(nodes, list(read), [o for n in nodes for o in n.output if o in later]))
    return result


def names_read(node):
    """What a node reads, and what the graphs nested in it read from outside; names made inside do no harm, for nothing else has them."""
    names = list(node.input)
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
            names += [i for n in graph.node for i in names_read(n)]
            names += [o.name for o in graph.output]
    return names


def info(name, array):
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, array.shape)


def extract(model, part, values):
    """A model of one part, whose inputs have the shapes of `values`, and the nodes on constants that it needs."""
    made = {o: n for n in model.graph.node for o in n.output}
    inside = {id(n) for n in part.nodes}
    todo, stop = [i for n in part.nodes for i in names_read(n)], set(part.inputs)
    while todo:
        name = todo.pop()
        node = made.get(name)
        if node is None or name in stop or id(node) in inside:
            continue
        inside.add(id(node))
        todo += names_read(node)
    nodes = [n for n in model.graph.node if id(n) in inside]
    read = {i for n in nodes for i in names_read(n)}
    weights = [t for t in model.graph.initializer if t.name in read]
    graph = onnx.helper.make_graph(nodes, "part", [info(i, values[i]) for i in part.inputs], [info_of(o, values[o]) for o in part.outputs], weights)
    out = onnx.helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions)
    out.ir_version = model.ir_version
    return out


def info_of(name, array):
    """An output's extents may follow from numbers: only its rank is told."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, [None] * array.ndim)


def tensors(model, feeds):
    """{tensor: array by ONNX Runtime} of all that passes between the parts, and the model's inputs and outputs."""
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    there = {o.name for o in model.graph.output}
    for name in dict.fromkeys(o for part in parts(model) for o in part.outputs):
        if name not in there:
            wider.graph.output.add(name=name)
    reference = zoo_accuracy.session(wider.SerializeToString())
    names = [o.name for o in reference.get_outputs()]
    return feeds | dict(zip(names, map(np.asarray, reference.run(None, feeds)), strict=True))


def measure(name, seed, ways):
    """As zoo_accuracy.measure: errors are of parts, and the whole is built and run as well."""
    import lathe

    started = time.monotonic()
    model = zoo.load_filled(name, seed)
    reference = zoo_accuracy.session(str(zoo.filled(name, seed)))
    inputs, outputs = reference.get_inputs(), [o.name for o in reference.get_outputs()]
    shapes = zoo_inputs.sets(name, inputs)[0]
    cases = [zoo_inputs.draw(model, inputs, shapes, input_seed) for input_seed in zoo_accuracy.INPUT_SEEDS]
    reference_ms = zoo_accuracy.median_ms(reference.run, None, cases[0])
    del reference
    cases = [tensors(model, feeds) for feeds in cases]
    cut = parts(model)
    # Of what is ordered: numbers that no input moves order nothing.
    floats = [t for t in cut[0].outputs if cases[0][t].dtype == np.float32]
    shift = {"part 0": max(zoo_accuracy.moved(cases[1][t], cases[0][t]) for t in floats)}
    shared = time.monotonic() - started
    results = {}
    for way, arguments in ways.items():
        started = time.monotonic()
        arguments = {"cache": False, **arguments}
        engine = regions = None
        if (seed, way) == zoo_accuracy.VERIFIED or shift["part 0"] < zoo_accuracy.SENSITIVE * zoo_accuracy.tolerance(name, arguments["exact"]):
            engine, regions = zoo_accuracy.verified(zoo.filled(name, seed), arguments)
        engine = engine or lathe.build(str(zoo.filled(name, seed)), verify=False, **arguments)
        result = {"shapes": 1, "moved": shift} | zoo_accuracy.made_of(engine)
        if regions:
            result["regions"] = regions
        # Of the whole: the outputs that there are, and their types.
        whole = engine.run({i.name: cases[0][i.name] for i in inputs})
        same = all(whole[o].dtype == cases[0][o].dtype and whole[o].ndim == cases[0][o].ndim for o in outputs)
        result["errors"] = {"kinds of the outputs": 0.0 if same else float("inf")}
        result["run_ms"] = [zoo_accuracy.median_ms(engine.run, {i.name: cases[0][i.name] for i in inputs}), reference_ms]
        result["by_definition"] = zoo_accuracy.by_definition(engine, {i.name: cases[0][i.name] for i in inputs})
        for k, part in enumerate(cut):
            worst = 0.0
            for values in cases:
                engine = lathe.build(extract(model, part, values), verify=False, **arguments)
                got = engine.run({i: values[i] for i in part.inputs})
                worst = max([worst, *(zoo_accuracy.error_of(got[o], values[o]) for o in part.outputs)])
            result["errors"][f"part {k}"] = worst
        result["seconds"] = round(time.monotonic() - started + shared / len(ways), 2)
        results[way] = result
    return results
