# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch to ONNX: what `lathe export` runs and `lathe.export` calls.

Takes a function of a Python file that returns a module, an ``nn.Module``, a TorchScript file or a ``torch.export`` program, writes
ONNX with one of PyTorch's two exporters (the other is tried when the first fails, and the report says so), then runs the file and
compares its outputs with PyTorch's own on the same inputs. Only an agreeing file takes its final name.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXIT_OK, EXIT_MODEL, EXIT_USAGE, EXIT_MACHINE = 0, 1, 2, 3


class ExportError(Exception):
    """What went wrong, what to do about it, and the command's exit code."""

    def __init__(self, message: str, remedy: str = "", code: int = EXIT_MODEL):
        super().__init__(message + (" " + remedy if remedy else ""))
        self.code = code


@dataclass
class InputSpec:
    """One dummy input: name ("" = the model's own), extents and dtype ("float32", "int64", ...)."""

    shape: tuple[int, ...]
    name: str = ""
    dtype: str = "float32"


@dataclass
class ExportReport:
    """What was done: exporter that worked, opset, attempts that failed, and the comparison per output."""

    path: str
    exporter: str
    opset: int
    nodes: int
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    failed: list[dict[str, str]] = field(default_factory=list)
    checked_with: list[str] = field(default_factory=list)
    max_relative_error: float = 0.0
    seconds: float = 0.0


def parse_input(text: str) -> InputSpec:
    """Reads "1x3x640x640", "images:1x3x640x640" or "ids:1x128:int64"; "scalar" is rank 0."""
    match = re.fullmatch(r"(?:(?P<name>.+?):)?(?P<shape>\d+(?:x\d+)*|scalar)(?::(?P<dtype>[a-z]+\d*))?", text)
    if not match:
        raise ExportError(f"'{text}' is not an input.", "Write 1x3x640x640, NAME:1x3x640x640 or NAME:1x128:int64.", EXIT_USAGE)
    shape = match["shape"]
    dims = () if shape == "scalar" else tuple(int(extent) for extent in shape.split("x"))
    return InputSpec(dims, match["name"] or "", match["dtype"] or "float32")


def parse_dynamic(texts: Sequence[str], names: Sequence[str]) -> dict[str, dict[int, str]]:
    """Reads "images:0=batch,2=height" (the name may be left out when there is one input) into {input: {axis: symbol}}."""
    axes: dict[str, dict[int, str]] = {}
    for text in texts:
        if text == "":  # a bare --dynamic: the first axis of every input
            for name in names:
                axes.setdefault(name, {})[0] = "batch"
            continue
        name, _, spec = text.rpartition(":")
        if not name:
            if len(names) != 1:
                raise ExportError(
                    f"--dynamic '{text}' names no input and there are {len(names)}.", "Write NAME:0=batch.", EXIT_USAGE
                )
            name = names[0]
        for part in spec.split(","):
            match = re.fullmatch(r"(\d+)(?:=([A-Za-z_]\w*))?", part)
            if not match:
                raise ExportError(
                    f"'{part}' in --dynamic is not AXIS=SYMBOL.",
                    "For example --dynamic images:0=batch,2=height,3=width.",
                    EXIT_USAGE,
                )
            axis = int(match[1])
            axes.setdefault(name, {})[axis] = match[2] or f"{name}_d{axis}"
    return axes


def _torch():
    try:
        import torch
    except ImportError as error:
        raise ExportError(
            f"PyTorch is needed to export ({error}).", "Install the extra: pip install 'lathe-engine[export]'.", EXIT_MACHINE
        ) from None
    return torch


def load_source(source: str) -> Any:
    """A module from FILE.py:FUNCTION, a TorchScript file or a .pt2 program. Code of the file runs: use files that you trust."""
    torch = _torch()
    match = re.fullmatch(r"(.+\.py):([A-Za-z_]\w*)", source)
    path = Path(match[1] if match else source)
    if not path.is_file():
        raise ExportError(f"There is no file '{path}'.", "Give FILE.py:FUNCTION, a TorchScript file or a .pt2 file.")
    if match:
        sys.path.insert(0, str(path.resolve().parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise ExportError(f"'{path}' cannot be imported: {type(error).__name__}: {error}.") from error
        function = getattr(module, match[2], None)
        if function is None:
            found = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise ExportError(f"'{path}' has no function '{match[2]}'.", f"It has: {', '.join(sorted(found)) or 'none'}.")
        if isinstance(function, torch.nn.Module):
            return function
        made = function()
        if not isinstance(made, torch.nn.Module):
            raise ExportError(f"{match[2]}() of '{path}' returned {type(made).__name__}, not an nn.Module.")
        return made
    if path.suffix == ".py":
        raise ExportError("Name the function that makes the model.", f"For example {path}:make_model.", EXIT_USAGE)
    if path.suffix == ".pt2":
        return torch.export.load(str(path))
    try:
        return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise ExportError(
            f"'{path}' is neither a TorchScript file nor a .pt2 program: {str(error).strip().splitlines()[0]}.",
            "Weights alone hold no network: export from the code that builds it (FILE.py:FUNCTION).",
        ) from error


def make_inputs(specs: Sequence[InputSpec], half: bool, seed: int) -> tuple[Any, ...]:
    """Seeded tensors: floats uniform in [0, 1), integers in {0, 1} (valid indices of any table), booleans true."""
    torch = _torch()
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for spec in specs:
        dtype = getattr(torch, spec.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ExportError(f"'{spec.dtype}' is not a torch dtype.", "For example float32, float16, int64, bool.", EXIT_USAGE)
        if dtype.is_floating_point:
            tensors.append(torch.rand(spec.shape, generator=generator).to(torch.float16 if half else dtype))
        elif dtype == torch.bool:
            tensors.append(torch.ones(spec.shape, dtype=dtype))
        else:
            tensors.append(torch.randint(0, 2, spec.shape, generator=generator).to(dtype))
    return tuple(tensors)


def flatten(value: Any) -> list[Any]:
    """Tensors of nested tuples, lists, dicts and dataclass-like outputs, in order; what the exporters make outputs of."""
    torch = _torch()
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict) or hasattr(value, "keys"):
        return [tensor for key in value.keys() for tensor in flatten(value[key])]  # noqa: SIM118 (ModelOutput is no dict)
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in flatten(item)]
    return []


def _input_names(module: Any, specs: Sequence[InputSpec]) -> list[str]:
    """Names given by the caller, else the forward's parameter names."""
    import inspect

    parameters: list[str] = []
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        parameters = [name for name in inspect.signature(module.forward).parameters if name not in ("self", "args", "kwargs")]
    names = []
    for index, spec in enumerate(specs):
        names.append(spec.name or (parameters[index] if index < len(parameters) else f"input{index}"))
    return names


def _export_once(exporter, module, inputs, path, names, output_names, dynamic, opset):
    torch = _torch()
    silent = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent), torch.no_grad():
        warnings.simplefilter("ignore")
        if exporter == "torchscript":
            if isinstance(module, torch.export.ExportedProgram):
                module = module.module()
            torch.onnx.export(
                module,
                inputs,
                path,
                input_names=names,
                output_names=output_names or None,
                opset_version=opset,
                dynamic_axes={name: axes for name, axes in dynamic.items()} or None,
                dynamo=False,
                do_constant_folding=False,
            )
            return
        if isinstance(module, torch.jit.ScriptModule):
            raise RuntimeError("the dynamo exporter does not take TorchScript")
        shapes = None
        if dynamic:
            symbols = {symbol: torch.export.Dim(symbol) for axes in dynamic.values() for symbol in axes.values()}
            shapes = tuple({axis: symbols[symbol] for axis, symbol in dynamic.get(name, {}).items()} or None for name in names)
        program = torch.onnx.export(
            module,
            inputs,
            input_names=names,
            output_names=output_names or None,
            opset_version=opset,
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
        program.save(path, external_data=False)


def _run_file(path: str, feeds: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    """Outputs of the file by every runtime at hand: Lathe itself and ONNX Runtime."""
    results = []
    with contextlib.suppress(ImportError):
        import lathe

        if hasattr(lathe, "build"):
            outputs = lathe.build(path, budget=0, verify=False).run(feeds)
            results.append(("lathe", list(outputs.values())))
    with contextlib.suppress(ImportError):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        results.append(("onnxruntime", session.run(None, feeds)))
    if not results:
        raise ExportError(
            "Neither Lathe's engine nor ONNX Runtime can be imported to check the file.", "Install lathe-engine.", EXIT_MACHINE
        )
    return results


def _compare(path: str, names, inputs, expected, half: bool) -> tuple[list[str], float]:
    import numpy as np

    feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs)}
    worst, used = 0.0, []
    for runtime, outputs in _run_file(path, feeds):
        if len(outputs) != len(expected):
            raise ExportError(f"The file has {len(outputs)} outputs, the PyTorch model {len(expected)}.")
        for index, (got, want) in enumerate(zip(outputs, expected)):
            got, want = np.asarray(got), want.detach().numpy()
            if got.shape != want.shape:
                raise ExportError(f"Output {index} has shape {got.shape} in the file and {want.shape} in PyTorch.")
            if want.dtype.kind in "iub":
                if not np.array_equal(got, want):
                    raise ExportError(f"Output {index} (integers) differs from PyTorch's, run by {runtime}.")
                continue
            got, want = got.astype(np.float64), want.astype(np.float64)
            if not np.array_equal(np.isnan(got), np.isnan(want)):
                raise ExportError(f"Output {index} has NaN in other places than PyTorch's, run by {runtime}.")
            scale = max(float(np.nanmax(np.abs(want), initial=0.0)), 1e-20)
            error = float(np.nanmax(np.abs(np.nan_to_num(got) - np.nan_to_num(want)), initial=0.0)) / scale
            worst = max(worst, error)
            allowed = 2e-2 if half else 1e-3
            if error > allowed:
                raise ExportError(
                    f"Output {index} differs from PyTorch's by {error:.2e} of its scale (allowed {allowed:.0e}), run by {runtime}; nothing was written.",
                    "Try the other exporter (--exporter), or check the model for randomness and train mode.",
                )
        used.append(runtime)
    return used, worst


def export(
    model: Any,
    path: str | os.PathLike,
    inputs: Sequence[Any],
    *,
    half: bool = False,
    dynamic: dict[str, dict[int, str]] | None = None,
    opset: int | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    exporter: str | None = None,
    check: bool = True,
    seed: int = 0,
) -> ExportReport:
    """Exports `model` (nn.Module, ScriptModule, ExportedProgram, or a source text as `lathe export` takes) to `path`.

    inputs: tensors, or texts such as "images:1x3x640x640". dynamic: {input: {axis: symbol}}. Raises ExportError.
    """
    torch = _torch()
    started = time.monotonic()
    module = load_source(model) if isinstance(model, str) else model
    specs = [parse_input(item) if isinstance(item, str) else item for item in inputs]
    if all(isinstance(item, InputSpec) for item in specs):
        tensors = make_inputs(specs, half, seed)
    else:
        tensors = tuple(specs)
        specs = [InputSpec(tuple(t.shape), dtype=str(t.dtype).replace("torch.", "")) for t in tensors]
    is_program = isinstance(module, torch.export.ExportedProgram)
    if not is_program:
        module = module.eval()
        if half:
            module = module.half()
    elif half:
        raise ExportError(
            "--half cannot change a .pt2 program.", "Export the module itself, or convert before torch.export.", EXIT_USAGE
        )
    names = list(input_names) if input_names else _input_names(module.module() if is_program else module, specs)
    if len(names) != len(specs):
        raise ExportError(f"{len(names)} input names were given for {len(specs)} inputs.", code=EXIT_USAGE)
    dynamic = dict(dynamic or {})
    for name in dynamic:
        if name not in names:
            raise ExportError(f"--dynamic names '{name}', but the inputs are {', '.join(names)}.", code=EXIT_USAGE)
    with torch.no_grad():
        try:
            expected = flatten((module.module() if is_program else module)(*tensors))
        except Exception as error:
            raise ExportError(
                f"The PyTorch model itself fails on these inputs: {type(error).__name__}: {error}.", "Check --input."
            ) from error
    order = (
        [exporter]
        if exporter
        else (["torchscript", "dynamo"] if isinstance(module, torch.jit.ScriptModule) else ["dynamo", "torchscript"])
    )
    if exporter is None and dynamic and not is_program:
        order = ["torchscript", "dynamo"]  # named axes keep their names through tracing
    for name in ("torchscript", "dynamo"):  # an asked-for exporter that fails gives way to the other, and the report says so
        if name not in order:
            order.append(name)
    target = Path(path)
    if target.is_dir():
        raise ExportError(f"'{target}' is a folder.", "Give the name of the ONNX file.", EXIT_USAGE)
    if not target.parent.exists():
        raise ExportError(f"There is no folder '{target.parent}'.", code=EXIT_USAGE)
    failed: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(dir=target.parent or ".", prefix=".lathe-export-") as folder:
        for attempt in order:
            draft = str(Path(folder) / f"{attempt}.onnx")
            try:
                _export_once(
                    attempt, module, tensors, draft, names, output_names, dynamic, opset or (20 if attempt == "dynamo" else 17)
                )
                used, worst = _compare(draft, names, tensors, expected, half) if check else ([], 0.0)
            except ExportError as error:
                failed.append({"exporter": attempt, "reason": str(error)})
                continue
            except Exception as error:
                line = next((text for text in str(error).strip().splitlines() if text.strip()), type(error).__name__)
                failed.append(
                    {"exporter": attempt, "reason": f"{type(error).__name__}: {line}", "trace": traceback.format_exc(limit=-3)}
                )
                continue
            report = _describe(draft, attempt, failed, used, worst)
            os.replace(draft, target)
            report.path, report.seconds = str(target), time.monotonic() - started
            return report
    reasons = "; ".join(f"{item['exporter']}: {item['reason']}" for item in failed)
    raise ExportError(f"Neither exporter gave a file that agrees with PyTorch. {reasons}")


def _describe(path: str, exporter: str, failed, used, worst) -> ExportReport:
    import onnx

    model = onnx.load(path)
    initializers = {item.name for item in model.graph.initializer}

    def values(items):
        return [
            {"name": v.name, "dtype": onnx.helper.tensor_dtype_to_string(v.type.tensor_type.elem_type).replace("TensorProto.", "").lower(),
             "shape": [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]}
            for v in items if v.name not in initializers
        ]  # fmt: skip

    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    return ExportReport(
        path, exporter, opset, len(model.graph.node), values(model.graph.input), values(model.graph.output), failed, used, worst
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="lathe export", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="PyTorch to ONNX; the file is run and compared with PyTorch before it is written.",
        epilog="examples:\n  lathe export model.py:make -o m.onnx --input 1x3x352x416\n"
               "  lathe export model.py:make -o m.onnx --input images:1x3x640x640 --dynamic images:0=batch,2=height,3=width\n"
               "  lathe export scripted.pt -o m.onnx --input 1x3x224x224 --half",
    )  # fmt: skip
    parser.add_argument("source", help="FILE.py:FUNCTION (returns an nn.Module), a TorchScript file, or a torch.export .pt2 file")
    parser.add_argument("-o", "--output", required=True, metavar="M.onnx", help="file to write")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME:]SHAPE[:DTYPE]",
        help="dummy input, once per input: 1x3x640x640, ids:1x128:int64",
    )
    parser.add_argument("--half", action="store_true", help="convert the module and its inputs to float16")
    parser.add_argument("--dynamic", action="append", nargs="?", const="", default=[], metavar="[NAME:]AXIS=SYMBOL,...",
                        help="axes that may change: images:0=batch,2=height,3=width; without a value: the first axis of every input")  # fmt: skip
    parser.add_argument("--opset", type=int, help="ONNX opset (default: 20 by dynamo, 17 by torchscript)")
    parser.add_argument("--output-names", metavar="A,B", help="names of the outputs")
    parser.add_argument("--exporter", choices=["dynamo", "torchscript"], help="which of PyTorch's exporters to try first")
    parser.add_argument("--seed", type=int, default=0, help="seed of the dummy inputs")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    try:
        if not options.input:
            raise ExportError("No input was given.", "Add --input 1x3x640x640 for each input of the model.", EXIT_USAGE)
        module = load_source(options.source)
        specs = [parse_input(text) for text in options.input]
        torch = _torch()
        names = _input_names(module.module() if isinstance(module, torch.export.ExportedProgram) else module, specs)
        report = export(
            module, options.output, specs, half=options.half, dynamic=parse_dynamic(options.dynamic, names), opset=options.opset,
            input_names=names, output_names=options.output_names.split(",") if options.output_names else None,
            exporter=options.exporter, seed=options.seed,
        )  # fmt: skip
    except ExportError as error:
        print(f"lathe: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("lathe: stopped; nothing was written", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(report.__dict__, indent=2))
        return EXIT_OK
    for item in report.failed:
        print(f"the {item['exporter']} exporter failed ({item['reason']}); the other was taken")
    shapes = ", ".join(f"{value['name']} {value['dtype']}{value['shape']}" for value in report.inputs)
    outputs = ", ".join(f"{value['name']} {value['dtype']}{value['shape']}" for value in report.outputs)
    print(
        f"{report.path}: {report.nodes} nodes, opset {report.opset}, exporter {report.exporter}\n  inputs  {shapes}\n  outputs {outputs}"
    )
    print(
        f"  equal to PyTorch within {report.max_relative_error:.1e} of the output's scale (run by {', '.join(report.checked_with)}), {report.seconds:.1f} s"
    )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
