# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Makes the golden engines of the current format version: see README.md. Needs the built package (PYTHONPATH=build/release/python) and onnx. With a
driver (LATHE_CUDA_DRIVER=build/release/tests/liblathe_fake_cuda.so will do) they have a program for a GPU too, with native code."""

import argparse
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from zoo import program  # noqa: E402

BATCHES = (1, 3)


class Network:
    """A graph under construction with seeded weights."""

    def __init__(self, seed):
        self.rng, self.nodes, self.weights = np.random.default_rng(seed), [], []

    def weight(self, *shape, scale=None):
        fan_in = int(np.prod(shape[1:])) or 1
        return self.constant((self.rng.standard_normal(shape) * (scale or fan_in**-0.5)).astype(np.float32))

    def constant(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, *inputs, outputs=1, **attributes):
        names = [f"{op.lower()}{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def model(self, inputs, outputs):
        graph = helper.make_graph(self.nodes, "golden", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model


def value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def image_network():
    """A small detector's parts: stem, residual, depthwise, concat in place, pooling, upsampling, a sigmoid head, global pooling, Gemm, Softmax."""
    n = Network(1)
    silu = lambda x: n.node("Mul", x, n.node("Sigmoid", x))  # noqa: E731
    x = silu(n.node("Conv", "image", n.weight(16, 3, 3, 3), n.weight(16), kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]))
    inner = n.node("Relu", n.node("Conv", x, n.weight(16, 16, 3, 3), n.weight(16), kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    x = n.node("Add", x, inner)
    y = n.node(
        "Clip",
        n.node("Conv", x, n.weight(16, 1, 3, 3), n.weight(16), kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=16),
        n.constant(np.float32(0)),
        n.constant(np.float32(6)),
    )
    z = n.node("MaxPool", y, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
    x = silu(n.node("Conv", n.node("Concat", x, y, z, axis=1), n.weight(24, 48, 1, 1), n.weight(24), kernel_shape=[1, 1]))
    up = n.node("ConvTranspose", x, n.weight(24, 8, 2, 2), n.weight(8), kernel_shape=[2, 2], strides=[2, 2])
    boxes = n.node("Sigmoid", n.node("Conv", up, n.weight(6, 8, 1, 1), n.weight(6), kernel_shape=[1, 1]))
    n.nodes[-1].output[0] = "boxes"
    pooled = n.node("Flatten", n.node("GlobalAveragePool", x))
    logits = n.node("Gemm", pooled, n.weight(10, 24), n.weight(10), transB=1)
    n.node("Softmax", logits, axis=-1)
    n.nodes[-1].output[0] = "classes"
    del boxes
    return n.model([value("image", "batch", 3, 20, 28)], [value("boxes", "batch", 6, 20, 28), value("classes", "batch", 10)])


def sequence_network():
    """Attention of two heads with LayerNormalization, a Gelu block, an LSTM, a running sum, the three best of a row."""
    n = Network(2)
    x = n.node("LayerNormalization", "tokens", n.weight(16), n.weight(16), axis=-1, epsilon=1e-5)
    split = n.constant(np.array([0, 0, 2, 8], np.int64))
    q, k, v = (n.node("Transpose", n.node("Reshape", n.node("MatMul", x, n.weight(16, 16)), split), perm=[0, 2, 1, 3]) for _ in range(3))
    scores = n.node("Mul", n.node("MatMul", q, n.node("Transpose", k, perm=[0, 1, 3, 2])), n.constant(np.float32(8**-0.5)))
    mixed = n.node("MatMul", n.node("Softmax", scores, axis=-1), v)
    joined = n.node("Reshape", n.node("Transpose", mixed, perm=[0, 2, 1, 3]), n.constant(np.array([0, 0, 16], np.int64)))
    x = n.node("Add", "tokens", n.node("MatMul", joined, n.weight(16, 16)))
    wide = n.node("Add", n.node("MatMul", x, n.weight(16, 40)), n.weight(40))
    gelu = n.node(
        "Mul",
        n.node("Mul", wide, n.constant(np.float32(0.5))),
        n.node("Add", n.node("Erf", n.node("Mul", wide, n.constant(np.float32(2**-0.5)))), n.constant(np.float32(1))),
    )
    x = n.node("Add", x, n.node("MatMul", gelu, n.weight(40, 16)))
    steps = n.node("Transpose", x, perm=[1, 0, 2])
    states, _, _ = n.node("LSTM", steps, n.weight(1, 32, 16, scale=0.25), n.weight(1, 32, 8, scale=0.35), n.weight(1, 64, scale=0.1), outputs=3, hidden_size=8)
    n.node("CumSum", n.node("Transpose", n.node("Squeeze", states, n.constant(np.array([1], np.int64))), perm=[1, 0, 2]), n.constant(np.int64(1)))
    n.nodes[-1].output[0] = "sums"
    best, _ = n.node("TopK", n.node("ReduceMax", x, n.constant(np.array([1], np.int64)), keepdims=0), n.constant(np.array([3], np.int64)), outputs=2)
    n.nodes[-1].output[0] = "best"
    del best
    return n.model([value("tokens", "batch", 7, 16)], [value("sums", "batch", 7, 8), value("best", "batch", 3)])


def cases(model, seed):
    """{"<batch>/<tensor>": array}: inputs in [-1, 1] and the reference's outputs."""
    rng, reference, arrays = np.random.default_rng(seed), ReferenceEvaluator(model), {}
    for batch in BATCHES:
        (described,) = model.graph.input
        extents = [batch if dim.dim_param else dim.dim_value for dim in described.type.tensor_type.shape.dim]
        feeds = {described.name: rng.uniform(-1, 1, extents).astype(np.float32)}
        arrays |= {f"{batch}/{name}": array for name, array in feeds.items()}
        arrays |= {f"{batch}/{output.name}": result for output, result in zip(model.graph.output, reference.run(None, feeds))}
    return arrays


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replace", action="store_true", help="overwrite the folder of a version that was never released")
    parser.add_argument("names", nargs="*", help="of the engines; all without")
    options = parser.parse_args()

    image, sequence = image_network(), sequence_network()
    for name, model, precision in (("image", image, "fp32"), ("image.bf16", image, "bf16"), ("sequence", sequence, "fp32")):
        if options.names and name not in options.names:
            continue
        temporary = HERE / "new.engine"
        build(model, precision, temporary)
        major, minor = struct.unpack_from("<IH", temporary.read_bytes(), 8)
        folder = HERE / f"{major}.{minor}"
        target = folder / f"{name}.engine"
        if target.exists() and not options.replace:
            temporary.unlink()
            sys.exit(f"{target} exists: engines of a released version stay as they are")
        folder.mkdir(exist_ok=True)
        temporary.replace(target)
        np.savez_compressed(folder / f"{name.split('.')[0]}.npz", **cases(model, 3))
        print(f"{target.relative_to(HERE)}: {target.stat().st_size} bytes")


def build(model, precision, target):
    import lathe

    settings = {"precision": precision, "budget": 0, "cache": False, "shapes": {model.graph.input[0].name: bounds(model)}}
    on_cpu, on_gpu = target.with_suffix(".cpu"), target.with_suffix(".gpu")
    lathe.build(model, **settings).save(on_cpu)
    if os.environ.get("LATHE_CUDA_DRIVER", "none") == "none":
        on_cpu.replace(target)
        return
    lathe.build(model, device="cuda", verify=False, **settings).save(on_gpu)
    subprocess.run([program("lathe"), "engine", "merge", on_gpu, on_cpu, "-o", target], check=True)
    on_cpu.unlink()
    on_gpu.unlink()


def bounds(model):
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return tuple([batch if dim.dim_param else dim.dim_value for dim in dims] for batch in (1, 1, max(BATCHES)))


if __name__ == "__main__":
    main()
