# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoders that are given what they remember: each step reads one token and caches, and gives caches one longer. An engine and ONNX Runtime walk the
same tokens, each with its own caches, and are compared at the end; the engine may hold few specialisations for all lengths on the way.

    python tests/zoo_decoders.py [--steps N] [NAME ...]      of the zoo's real ones, 512 steps; what `make zoo` does"""

import argparse
import json
import sys
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import zoo
import zoo_accuracy
import zoo_inputs

REAL = ("real_gpt2_past", "real_llama_past")
SPECIALISATIONS = 10  # one to each power of two up to 512


def small(layers=2, width=32, heads=2, tokens=50, seed=0):
    """A decoder of GPT's kind with random weights, small enough for every run of the tests; its inputs and outputs are named as the zoo's."""
    random, size = np.random.default_rng(seed), width // heads
    weights, nodes = {}, []

    def weight(name, *shape, scale=0.15):
        weights[name] = random.normal(0, scale, shape).astype(np.float32)
        return name

    def constant(name, values):
        weights[name] = np.array(values, np.int64)
        return name

    def node(op, *inputs, outputs=None, **attributes):
        made = outputs or f"{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [made], name=f"{op}_{len(nodes)}", **attributes))
        return made

    def norm(value, name):
        weights[f"{name}.scale"], weights[f"{name}.bias"] = np.ones(width, np.float32), np.zeros(width, np.float32)
        return node("LayerNormalization", value, f"{name}.scale", f"{name}.bias", axis=-1)

    split = constant("split", [0, 0, heads, size])
    join = constant("join", [0, 0, width])
    zero, one, axis_0 = (constant(n, v) for n, v in (("zero", 0), ("one", 1), ("axes_0", [0])))
    # Position k of the whole may be seen from position q of this step when k <= past + q.
    length = node("Gather", node("Shape", "input_ids"), one)
    past = node("Gather", node("Shape", "past.0.key"), constant("two", 2))
    total = node("Add", past, length)
    ids = node("Range", past, total, one)
    columns = node("Unsqueeze", node("Range", zero, total, one), axis_0)
    causal = node("LessOrEqual", columns, node("Unsqueeze", ids, constant("axes_1", [1])))
    weights["none"], weights["lowest"] = np.array(0, np.float32), np.array(-1e9, np.float32)
    mask = node("Where", causal, "none", "lowest")
    x = node("Add", node("Gather", weight("tokens", tokens, width, scale=1), "input_ids"), node("Gather", weight("positions", 1024, width), ids))
    outputs = []
    for k in range(layers):
        y = norm(x, f"{k}.norm")
        parts = []
        for part in ("query", "key", "value"):
            product = node("MatMul", y, weight(f"{k}.{part}", width, width))
            parts.append(node("Transpose", node("Reshape", product, split), perm=[0, 2, 1, 3]))
        keys = node("Concat", f"past.{k}.key", parts[1], outputs=f"present.{k}.key", axis=2)
        values = node("Concat", f"past.{k}.value", parts[2], outputs=f"present.{k}.value", axis=2)
        outputs += [keys, values]
        weights["share"] = np.array(size**-0.5, np.float32)
        scores = node("Mul", node("MatMul", parts[0], node("Transpose", keys, perm=[0, 1, 3, 2])), "share")
        seen = node("MatMul", node("Softmax", node("Add", scores, mask), axis=-1), values)
        y = node("MatMul", node("Reshape", node("Transpose", seen, perm=[0, 2, 1, 3]), join), weight(f"{k}.out", width, width))
        x = node("Add", x, y)
        y = node("Gelu", node("MatMul", norm(x, f"{k}.mlp"), weight(f"{k}.up", width, 4 * width)))
        x = node("Add", x, node("MatMul", y, weight(f"{k}.down", 4 * width, width)))
    node("MatMul", norm(x, "last"), weight("head", width, tokens), outputs="logits")

    def info(name, shape, kind=TensorProto.FLOAT):
        return helper.make_tensor_value_info(name, kind, shape)

    cache = [f"{k}.{part}" for k in range(layers) for part in ("key", "value")]
    inputs = [info("input_ids", ["batch", "seq"], TensorProto.INT64)] + [info(f"past.{c}", ["batch", heads, "past", size]) for c in cache]
    results = [info("logits", ["batch", "seq", tokens])] + [info(o, ["batch", heads, "total", size]) for o in outputs]
    graph = helper.make_graph(nodes, "decoder", inputs, results, [numpy_helper.from_array(v, n) for n, v in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    return model


class Walker:
    """One of the two that walk: `run` takes {input: array} and gives {output: array}."""

    def __init__(self, run, infos, batch):
        self.run, self.mask = run, any(i.name == "attention_mask" for i in infos)
        self.cache = {i.name: np.zeros([batch, i.shape[1], 0, i.shape[3]], np.float32) for i in infos if i.name.startswith("past.")}
        self.outputs, self.seconds = {}, []

    def step(self, tokens):
        feeds = {"input_ids": tokens, **self.cache}
        if self.mask:
            past = next(iter(self.cache.values())).shape[2]
            feeds["attention_mask"] = np.ones([len(tokens), past + tokens.shape[1]], np.int64)
        started = time.perf_counter()
        self.outputs = self.run(feeds)
        self.seconds.append(time.perf_counter() - started)
        self.cache = {name: self.outputs[name.replace("past", "present", 1)] for name in self.cache}


def walk(engine, reference, rows, steps, batch=1, prompt=5, seed=1):
    """What `steps` steps of one token behind a prompt leave: errors of every output as shares of its scale, specialisations, milliseconds."""
    infos, names = reference.get_inputs(), [o.name for o in reference.get_outputs()]
    context = engine.create_context()
    ours = Walker(context.run, infos, batch)
    theirs = Walker(lambda feeds: dict(zip(names, reference.run(None, feeds), strict=True)), infos, batch)
    random = np.random.default_rng(seed)
    tokens = random.integers(0, rows, [batch, prompt + steps])
    for k in range(steps + 1):
        part = tokens[:, :prompt] if k == 0 else tokens[:, prompt + k - 1 : prompt + k]
        ours.step(part)
        theirs.step(part)
    errors = {o: zoo_accuracy.error_of(ours.outputs[o], theirs.outputs[o]) for o in names}
    worst = max(errors, key=errors.get)
    steady = [round(float(np.median(w.seconds[-max(1, steps // 8) :])) * 1e3, 3) for w in (ours, theirs)]
    slowest = [round(max(w.seconds[1:]) * 1e3, 3) for w in (ours, theirs)]
    return {
        "steps": steps,
        "length": next(iter(ours.cache.values())).shape[2],
        "error": errors[worst],
        "worst": worst,
        "specialisations": context.specialisations,
        "steady_ms": steady,  # ours, ONNX Runtime's
        "slowest_ms": slowest,
    }


def defects(result):
    found = []
    if not result["error"] <= zoo_accuracy.TOLERANCE[False]:
        found.append(f"{result['worst']}: error {result['error']:.1e} of its scale after {result['steps']} steps")
    if result["specialisations"] > SPECIALISATIONS:
        found.append(f"{result['specialisations']} specialisations for {result['steps']} steps")
    return found


def of_zoo(name, steps):
    import lathe

    path = zoo.filled(name)
    rows = zoo_inputs.rows_gathered(onnx.load(path, load_external_data=False), "input_ids")
    reference = zoo_accuracy.session(path)
    ranges = zoo_inputs.ranges(name, reference.get_inputs())
    engine = lathe.build(str(path), budget=0, verify=False, cache=False, shapes=ranges)
    return walk(engine, reference, rows, steps, prompt=zoo_inputs.FIXED.get(name, {}).get("seq", 5))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=REAL)
    parser.add_argument("--steps", type=int, default=512)
    options = parser.parse_args()
    failed = []
    for name in options.names:
        result = of_zoo(name, options.steps)
        folder = zoo.build_dir() / "zoo"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.decode.json").write_text(json.dumps(result, indent=1))
        print(name, result, flush=True)
        failed += [f"FAILED {name}: {text}" for text in defects(result)]
    print("\n".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    import conftest  # noqa: F401  finds the built package

    sys.exit(main())
