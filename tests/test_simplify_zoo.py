# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The simplifier on real exports: what it writes is valid, computes the same, and has no more nodes than the best of the other simplifiers
leaves (zoo_baseline.json). The default run takes models with few weights; LATHE_TEST_FULL=1 takes all."""

import json
import subprocess

import numpy as np
import onnx
import pytest

import zoo

ort = pytest.importorskip("onnxruntime")

SMALL = 12_000_000  # weights in the default run, in all a model
LIGHT = 1_300  # nodes in the default run
# Values of free extents by the exporters' names: what the networks' strides divide.
FREE = {"batch": (1, 2), "height": (96, 64), "width": (64, 128), "h": (32, 64), "w": (64, 32), "time": (9, 16)}
# Folded weights are rounded once more than the operations that they replace; a share of the output's scale.
TOLERANCE = 5e-5


def weights(name):
    model = onnx.load(zoo.stripped(name), load_external_data=False)
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer)


def chosen():
    return [n for n in zoo.part_6() if zoo.FULL or weights(n) < SMALL]


@pytest.fixture(scope="module")
def simplified(tmp_path_factory):
    """{name: (answer, file)} of one process over all models."""
    folder = tmp_path_factory.mktemp("simplified")
    names = chosen()
    assert len(names) >= 20
    (folder / "list").write_text("".join(f"{zoo.filled(n)}\t{folder / n}.onnx\n" for n in names))
    tool = subprocess.run([zoo.program("lathe_onnx_tool"), "simplify-many", folder / "list"], capture_output=True, text=True, check=False)
    assert tool.returncode == 0, tool.stderr
    return {n: (answer, folder / f"{n}.onnx") for n, answer in zip(names, tool.stdout.splitlines(), strict=True)}


@pytest.fixture(scope="module")
def baseline():
    return json.loads((zoo.zoo_dir() / "zoo_baseline.json").read_text())


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def draw(inputs, which):
    """Seeded inputs; `which` also picks the values of free extents."""
    random = np.random.default_rng(which)
    feeds = {}
    for value in inputs:
        shape = [FREE[d][which] if isinstance(d, str) else d for d in value.shape]
        if value.type == "tensor(int64)":
            feeds[value.name] = random.integers(0, 10, shape)
        else:
            assert value.type in ("tensor(float)", "tensor(float16)"), value.type
            feeds[value.name] = random.standard_normal(shape).astype(np.float32 if "16" not in value.type else np.float16)
    return feeds


def difference(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.array_equal(np.isfinite(a), np.isfinite(b))
    scale = np.abs(a, where=np.isfinite(a), out=np.zeros_like(a)).max(initial=0)
    return float(np.abs(np.nan_to_num(a) - np.nan_to_num(b)).max(initial=0) / max(scale, 1e-30))


def shared_values(original, model, weights):
    """Float tensors that both models make under one name: evenly chosen ones, and what the nodes that read `weights` make."""

    def made(graph):
        return {o for n in graph.node for o in n.output if o} - {v.name for v in graph.output}

    floats = {v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    both = made(original.graph) & made(model.graph) & floats
    names = [o for n in model.graph.node for o in n.output if o in both]
    behind = [o for n in model.graph.node for o in n.output if o in both and not weights.isdisjoint(n.input)]
    return list(dict.fromkeys(names[:: len(names) // 24 + 1] + behind))


def with_outputs(model, names):
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    for name in names:
        extended.graph.output.add(name=name)
        extended.graph.output[-1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return extended.SerializeToString()


def weights_to_mutate(model):
    weights = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) >= 2 and np.prod(t.dims) > 64]
    read = {i: k for k, n in enumerate(model.graph.node) for i in n.input}
    weights.sort(key=lambda t: read[t.name])
    return {t.name: t for t in (weights[len(weights) // 2], weights[-1])}


def mutate(weights):
    """Changes one weight tensor at a time, for as long as the caller looks."""
    for name, tensor in weights.items():
        kept = tensor.raw_data
        wrong = onnx.numpy_helper.to_array(tensor).copy()
        wrong.flat[::2] *= np.float32(1.05)  # not all: a normalisation behind would undo that
        tensor.raw_data = wrong.tobytes()
        yield name
        tensor.raw_data = kept


def names_to_test():
    try:
        return chosen()
    except (pytest.skip.Exception, pytest.fail.Exception):
        return ["zoo"]  # the fixture skips, or fails, with the reason


@pytest.mark.parametrize("name", names_to_test())
def test_simplified(name, simplified, baseline):
    answer, path = simplified[name]
    assert answer.startswith("ok"), answer
    _, before, after, _ = answer.split()
    best = min(result[0] for result in (baseline[name]["onnxsim"], baseline[name]["onnxslim"]) if result)
    assert int(after) <= best, f"{before} nodes became {after}; the best of the others leaves {best}"

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert len(model.graph.node) == int(after)
    original = onnx.load(zoo.filled(name))
    assert [v.name for v in model.graph.output] == [v.name for v in original.graph.output]
    constants = {t.name for t in original.graph.initializer}
    assert [v.name for v in model.graph.input] == [v.name for v in original.graph.input if v.name not in constants]

    # A tensor that keeps its name keeps its numbers (ir/graph.h), so inner ones are compared too.
    weights = weights_to_mutate(model)
    shared = shared_values(original, model, set(weights))
    reference, ours = session(with_outputs(original, shared)), session(with_outputs(model, shared))
    for which in (0, 1):
        feeds = draw(reference.get_inputs(), which)
        expected = reference.run(None, feeds)
        for info, a, b in zip(reference.get_outputs(), expected, ours.run(None, feeds), strict=True):
            assert difference(a, b) <= TOLERANCE, f"{info.name}: {difference(a, b):.1e} of its scale"
    # The comparison can fail: a weight in the middle, or the last one, wrong by a twentieth is seen.
    for tensor in mutate(weights):
        wrong = session(with_outputs(model, shared)).run(None, feeds)
        assert max(map(difference, expected, wrong)) > 2 * TOLERANCE, f"a wrong {tensor} would go unnoticed"
