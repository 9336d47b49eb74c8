# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Latency of Lathe beside its rivals in one process: every round runs each of them once, so that noise of the machine hits all alike.

What `lathe bench --against` runs; also used by bench/run.py and the demo. Rivals: onnxruntime, openvino (at the same precision) and
torch (needs a module). Each gets the machine's CPUs; outputs are compared with Lathe's before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RIVALS = ("onnxruntime", "openvino", "torch")
Runner = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


class RivalMissing(Exception):
    """The rival is not installed; the message names the package."""


class UsageError(Exception):
    """A wrong option; the message says what to write."""


@dataclass
class Entry:
    """One contestant: a name for the table and a function from inputs to outputs. `times` are seconds per run."""

    name: str
    run: Runner
    precision: str = "fp32"
    times: list[float] = field(default_factory=list)
    max_relative_error: float | None = None

    def milliseconds(self) -> dict[str, float]:
        ordered = sorted(self.times)

        def at(share: float) -> float:
            return ordered[round(share * (len(ordered) - 1))] * 1e3

        return {
            "min": at(0),
            "median": statistics.median(ordered) * 1e3,
            "mean": statistics.fmean(ordered) * 1e3,
            "p90": at(0.9),
            "p99": at(0.99),
            "max": at(1),
        }


def cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lathe_entry(model: str, precision: str = "fp32", name: str | None = None, **build: Any) -> Entry:
    """Lathe on an ONNX file (built now) or an engine file."""
    import lathe

    if model.endswith(".engine"):
        engine = lathe.load(model)
    else:
        engine = lathe.build(model, precision=precision, **build)
    context = engine.create_context()
    return Entry(name or f"Lathe {precision}", lambda feeds: list(context.run(feeds).values()), precision)


def onnxruntime_entry(model: str) -> Entry:
    try:
        import onnxruntime
    except ImportError as error:
        raise RivalMissing("onnxruntime is not installed: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpu_count()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Entry(f"ONNX Runtime {onnxruntime.__version__}", lambda feeds: session.run(None, feeds))


def openvino_entry(model: str, precision: str = "fp32") -> Entry:
    try:
        import openvino
    except ImportError as error:
        raise RivalMissing("openvino is not installed: pip install openvino") from error
    kind = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision]
    core = openvino.Core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": cpu_count()}
    compiled = core.compile_model(core.read_model(model), "CPU", config)
    request = compiled.create_infer_request()
    version = openvino.__version__.split("-")[0]

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        request.infer(feeds, share_inputs=True, share_outputs=True)
        return [request.get_output_tensor(i).data for i in range(len(compiled.outputs))]

    return Entry(f"OpenVINO {version} {precision}", run, precision)


def torch_entry(module: Any, names: Sequence[str], compile_it: bool = False) -> Entry:
    try:
        import torch
    except ImportError as error:
        raise RivalMissing("torch is not installed: pip install torch") from error
    torch.set_num_threads(cpu_count())
    module = module.eval()
    if compile_it:
        module = torch.compile(module)

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        from lathe.exporter import flatten

        with torch.inference_mode():
            return [tensor.numpy() for tensor in flatten(module(*(torch.from_numpy(feeds[name]) for name in names)))]

    return Entry(f"PyTorch {torch.__version__.split('+')[0]}{' compile' if compile_it else ''}", run)


def random_feeds(model: str, shapes: dict[str, tuple[int, ...]] | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded inputs for an ONNX file. Symbolic extents: from `shapes`, else 1 for the first axis, 128 for images, 16 otherwise."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    constants = {item.name for item in graph.initializer}
    inputs = {value.name: value.type.tensor_type for value in graph.input if value.name not in constants}
    symbols: dict[str, int] = {}
    for name, extents in (shapes or {}).items():
        if name not in inputs:
            raise UsageError(f"the model has no input '{name}'; its inputs are {', '.join(map(repr, inputs))}.")
        dims = inputs[name].shape.dim
        if len(dims) != len(extents):
            raise UsageError(f"the shape given for input '{name}' has {len(extents)} axes, the model's has {len(dims)}.")
        symbols |= {dim.dim_param: extent for dim, extent in zip(dims, extents) if dim.dim_param}
    rng = np.random.default_rng(seed)
    feeds = {}
    for name, tensor in inputs.items():
        given = (shapes or {}).get(name)
        dims = []
        for axis, dim in enumerate(tensor.shape.dim):
            fallback = 1 if axis == 0 else 128 if len(tensor.shape.dim) >= 4 and axis >= 2 else 16
            if given:
                dims.append(given[axis])
            elif dim.HasField("dim_value"):
                dims.append(dim.dim_value)
            else:
                dims.append(symbols.setdefault(dim.dim_param or f"{name} {axis}", fallback))
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if np.issubdtype(dtype, np.floating) or dtype.name == "bfloat16":
            feeds[name] = rng.random(dims, dtype=np.float32).astype(dtype)
        else:
            feeds[name] = rng.integers(0, 2, dims).astype(dtype)
    return feeds


def relative_error(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    """Largest |got - want| over the largest |want|, over all floating outputs; infinite when integers or shapes differ."""
    worst = 0.0
    for a, b in zip(got, want):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape:
            return float("inf")
        if b.dtype.kind in "iub":
            worst = worst if np.array_equal(a, b) else float("inf")
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        scale = max(float(np.abs(b).max(initial=0.0)), 1e-20)
        worst = max(worst, float(np.abs(a - b).max(initial=0.0)) / scale)
    return worst


def wait_for_idle_threads(longest: float = 0.2) -> None:
    """Returns when the process's threads are parked. Some runtimes' workers spin for tens of milliseconds after a run; whoever ran next
    would pay for them."""
    end = time.perf_counter() + longest
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(0.002)
        if time.process_time() - before < 0.0005:
            return


def alternate(entries: Sequence[Entry], feeds: dict[str, np.ndarray], seconds: float = 5.0, runs: int = 0, warmup: int = 3) -> None:
    """Fills `times`: rounds over all entries, rotating who goes first, until `seconds` or `runs` rounds. First entry is the reference
    that outputs are compared with."""
    reference: list[np.ndarray] | None = None
    for entry in entries:
        for _ in range(warmup):
            outputs = entry.run(feeds)
        outputs = [np.array(item) for item in outputs]
        if reference is None:
            reference = outputs
        entry.max_relative_error = relative_error(outputs, reference)
    begin, rounds = time.perf_counter(), 0
    while rounds < 3 or (rounds < runs if runs else time.perf_counter() - begin < seconds):
        for offset in range(len(entries)):
            entry = entries[(rounds + offset) % len(entries)]
            wait_for_idle_threads()
            start = time.perf_counter()
            entry.run(feeds)
            entry.times.append(time.perf_counter() - start)
        rounds += 1


def as_table(entries: Sequence[Entry], baseline: Entry | None = None) -> str:
    base = baseline or entries[0]
    rows = [("", "median ms", "min ms", f"x {base.name}")]
    for entry in entries:
        ms = entry.milliseconds()
        rows.append((entry.name, f"{ms['median']:.2f}", f"{ms['min']:.2f}", f"{ms['median'] / base.milliseconds()['median']:.2f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(row[0].ljust(widths[0]) + "".join("  " + row[i].rjust(widths[i]) for i in range(1, 4)) for row in rows)


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The preferred extents of --shape options, NAME:SHAPE or NAME:MIN:OPT:MAX, as the command itself reads them."""
    from lathe import _lathe

    return {name: tuple(preferred) for name, (_, preferred, _) in map(_lathe.parse_shape, texts)}


def make_rival(name: str, model: str, precision: str, torch_source: str | None, feeds: dict[str, np.ndarray]) -> Entry:
    if name == "onnxruntime":
        return onnxruntime_entry(model)
    if name == "openvino":
        return openvino_entry(model, precision)
    if name == "torch":
        if not torch_source:
            raise UsageError("the rival torch needs its module: add --torch FILE.py:FUNCTION.")
        from lathe.exporter import load_source

        return torch_entry(load_source(torch_source), list(feeds))
    raise UsageError(f"there is no rival '{name}'; use onnxruntime, openvino, torch.")


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Entry]]:
    """Lathe first, then its rivals, all in this process."""
    import lathe

    shapes = parse_shapes(options.shape)
    feeds = random_feeds(options.model, shapes)
    rivals = [name.strip() for name in options.against.split(",") if name.strip()]
    for name in rivals:
        if name not in RIVALS:
            raise UsageError(f"there is no rival '{name}'; use {', '.join(RIVALS)}.")
    report: dict[str, Any] = {"model": options.model, "threads": cpu_count()}
    begin = time.perf_counter()
    if options.engine:
        engine = lathe.load(options.engine)
        report["load_ms"] = (time.perf_counter() - begin) * 1e3
    else:
        built = lathe.build(
            options.model, device=options.device, precision=options.precision, exact=options.exact, budget=options.budget,
            verify=not options.no_verify, cache=not options.no_cache, shapes={name: value.shape for name, value in feeds.items()},
        )  # fmt: skip
        report["build_seconds"] = time.perf_counter() - begin
        with tempfile.TemporaryDirectory(prefix="lathe-") as folder:
            file = os.path.join(folder, "bench.engine")
            built.save(file)
            del built
            begin = time.perf_counter()
            engine = lathe.load(file)
            report["load_ms"] = (time.perf_counter() - begin) * 1e3
    context = engine.create_context()
    entries = [Entry(f"Lathe {options.precision}", lambda feeds: list(context.run(feeds).values()), options.precision)]
    missing = []
    for name in rivals:
        try:
            entries.append(make_rival(name, options.model, options.precision, options.torch, feeds))
        except RivalMissing as error:
            missing.append(str(error))
    alternate(entries, feeds, options.time, options.runs, options.warmup)
    batch = next((value.shape[0] for value in feeds.values() if value.ndim), 1)
    own = entries[0].milliseconds()
    report |= {
        "section": engine.section,
        "batch": batch,
        "runs": len(entries[0].times),
        "latency_ms": own,
        "throughput": batch * 1e3 / own["mean"],
        "weight_bytes": engine.weight_bytes,
        "activation_bytes": context.activation_bytes,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "rivals": [
            {
                "name": entry.name,
                "latency_ms": entry.milliseconds(),
                "throughput": batch * 1e3 / entry.milliseconds()["mean"],
                "lathe_over_rival": own["median"] / entry.milliseconds()["median"],
                "max_relative_error": entry.max_relative_error if math.isfinite(entry.max_relative_error or 0.0) else None,
            }
            for entry in entries[1:]
        ],
        "missing": missing,
    }
    return report, entries


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lathe bench --against", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="ONNX file")
    parser.add_argument("--against", default="onnxruntime", help="onnxruntime, openvino, torch; separated by commas")
    parser.add_argument("--engine", help="measure this engine instead of building the model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--shape", action="append", default=[], help="NAME:1x3x640x640")
    parser.add_argument("--time", type=float, default=5.0, help="seconds")
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--no-verify", action="store_true")
    parser.add_argument("--no-cache", action="store_true")
    parser.add_argument("--torch", metavar="FILE.py:FUNCTION", help="the PyTorch model, for the rival torch")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    import lathe

    try:
        report, entries = measure(options)
    except (UsageError, lathe.Error) as error:
        print(f"lathe: {error}", file=sys.stderr)
        if isinstance(error, UsageError):
            return 2
        return {"invalid_argument": 2, "machine": 3, "out_of_memory": 3, "cancelled": 130}.get(error.code, 1)
    except KeyboardInterrupt:
        print("lathe: stopped.", file=sys.stderr)
        return 130
    except Exception as error:
        code = getattr(error, "code", None)  # an ExportError of the torch module
        print(f"lathe: {error if isinstance(code, int) else f'{type(error).__name__}: {error}'}", file=sys.stderr)
        return code if isinstance(code, int) else 1
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print(as_table(entries))
        for entry in entries[1:]:
            print(f"outputs of {entry.name} and Lathe agree within {entry.max_relative_error:.1e} of their scale")
        for text in report["missing"]:
            print(f"left out: {text}")
    return 3 if report["missing"] and len(entries) == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
