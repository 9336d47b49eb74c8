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
import copy
import functools
import importlib.util
import inspect
import io
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lathe

EXIT_OK, EXIT_MODEL, EXIT_USAGE, EXIT_MACHINE = 0, 1, 2, 3


class ExportError(lathe.Error):
    """What went wrong and what to do about it, with the fields of ``lathe.Error`` and the command's exit code."""

    def __init__(self, message: str, remedy: str = "", exit_code: int = EXIT_MODEL):
        super().__init__(message + (" " + remedy if remedy else ""))
        self.message, self.remedy, self.exit_code = message, remedy, exit_code
        self.code = {EXIT_USAGE: "invalid_argument", EXIT_MACHINE: "machine"}.get(exit_code, "invalid_model")


@dataclass
class InputSpec:
    """One dummy input: name ("" = the model's own), extents and dtype ("float32", "int64", ...)."""

    shape: tuple[int, ...]
    name: str = ""
    dtype: str = "float32"


@dataclass
class ExportReport:
    """What was done: exporter that worked, opset, attempts that failed, and the comparison per output."""

    path: str  #: the file that was written
    exporter: str  #: "dynamo" or "torchscript": the one that worked
    opset: int  #: of the file
    nodes: int  #: of its graph
    inputs: list[dict[str, Any]]  #: name, dtype and shape of each
    outputs: list[dict[str, Any]]  #: name, dtype and shape of each
    failed: list[dict[str, str]] = field(default_factory=list)  #: attempts before: exporter and reason
    checked_with: list[str] = field(default_factory=list)  #: what ran the file: Lathe, ONNX Runtime
    checked_shapes: list[list[list[int]]] = field(default_factory=list)  #: per comparison, per input
    max_relative_error: float = 0.0  #: largest difference to PyTorch over the output's scale
    notes: list[str] = field(default_factory=list)  #: what a reader should know
    seconds: float = 0.0  #: the whole export took


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
                raise ExportError(f"--dynamic '{text}' names no input and there are {len(names)}.", "Write NAME:0=batch.", EXIT_USAGE)
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
        raise ExportError(f"PyTorch is needed to export ({error}).", "Install the extra: pip install 'lathe-engine[export]'.", EXIT_MACHINE) from None
    return torch


def load_source(source: str) -> Any:
    """A module from FILE.py:FUNCTION, a TorchScript file or a .pt2 program. Code of the file runs: use files that you trust.

    What that code prints goes to stderr, so that the report on stdout stays readable by programs.
    """
    match = re.fullmatch(r"(.+\.py):([A-Za-z_]\w*)", source)
    path = Path(match[1] if match else source)
    if path.suffix == ".py" and not match:
        raise ExportError("Name the function that makes the model.", f"For example {path}:make_model.", EXIT_USAGE)
    if not path.is_file():
        what = f"'{path}' is a folder" if path.is_dir() else f"There is no file '{path}'"
        raise ExportError(what + ".", "Give FILE.py:FUNCTION, a TorchScript file or a .pt2 file.")
    with open(path, "rb") as file:
        head = file.read(16)
    if path.suffix == ".onnx" or head.startswith(b"\x89LATHE"):
        raise ExportError(f"'{path}' is no PyTorch file.", "Give FILE.py:FUNCTION, a TorchScript file or a .pt2 file.")
    torch = _torch()
    if match:
        with contextlib.redirect_stdout(sys.stderr):
            return _made_by(path, match[2], torch)
    try:
        if path.suffix == ".pt2":
            return torch.export.load(str(path))
        return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        kind = "a torch.export program" if path.suffix == ".pt2" else "a TorchScript file"
        raise ExportError(
            f"'{path}' cannot be read as {kind}: {_first_line(error)}.",
            "Weights alone, and pickled modules, hold no network that can be exported: give the code that builds it (FILE.py:FUNCTION).",
        ) from error


def _made_by(path: Path, name: str, torch: Any) -> Any:
    """What the function (or class, or module) `name` of a Python file gives."""
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ExportError(f"'{path}' cannot be imported: {_first_line(error)}.") from error
    function = getattr(module, name, None)
    if not callable(function):
        found = sorted(key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_"))
        raise ExportError(f"'{path}' has no function '{name}'.", f"It has: {', '.join(found) or 'none'}.")
    if isinstance(function, torch.nn.Module):
        return function
    try:
        made = function()
    except (Exception, SystemExit) as error:
        raise ExportError(f"{name}() of '{path}' failed: {_first_line(error)}.", "It is called without arguments.") from error
    if not isinstance(made, torch.nn.Module):
        raise ExportError(f"{name}() of '{path}' returned {type(made).__name__}, not an nn.Module.")
    return made


def _first_line(error: BaseException) -> str:
    line = next((text.strip() for text in str(error).splitlines() if text.strip()), "")
    return f"{type(error).__name__}: {line}".rstrip(".: ")


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
    parameters: list[str] = []
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        parameters = [name for name in inspect.signature(module.forward).parameters if name not in ("self", "args", "kwargs")]
    names = []
    for index, spec in enumerate(specs):
        names.append(spec.name or (parameters[index] if index < len(parameters) else f"input{index}"))
    return names


def _export_once(exporter, module, inputs, path, names, output_names, dynamic, opset) -> list[str]:
    """One of PyTorch's exporters; returns the tracer's warnings, which say where data decided what was recorded."""
    torch = _torch()
    silent = io.StringIO()
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        stack.enter_context(contextlib.redirect_stdout(silent))
        stack.enter_context(contextlib.redirect_stderr(silent))
        stack.enter_context(torch.no_grad())
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.CRITICAL)  # the exporters' own talk; what fails is raised
        warnings.simplefilter("always")
        if exporter == "torchscript":
            if isinstance(module, torch.export.ExportedProgram):
                module = module.module()
            torch.onnx.export(
                module,
                inputs,
                path,
                input_names=names,
                output_names=output_names,
                opset_version=opset,
                dynamic_axes={name: axes for name, axes in dynamic.items()} or None,
                dynamo=False,
                do_constant_folding=False,
            )
        else:
            if isinstance(module, torch.jit.ScriptModule):
                raise RuntimeError("it does not take TorchScript")
            shapes = None
            if dynamic and not isinstance(module, torch.export.ExportedProgram):
                symbols = {symbol: torch.export.Dim(symbol) for axes in dynamic.values() for symbol in axes.values()}
                shapes = tuple({axis: symbols[symbol] for axis, symbol in dynamic.get(name, {}).items()} or None for name in names)
            program = torch.onnx.export(
                module,
                inputs,
                input_names=names,
                output_names=output_names,
                opset_version=opset,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
            program.save(path, external_data=False)
    return [str(item.message).splitlines()[0] for item in caught if issubclass(item.category, torch.jit.TracerWarning)]


def _runtimes(path: str) -> dict[str, Any]:
    """Functions from feeds to outputs, by every runtime at hand that takes the file: Lathe itself and ONNX Runtime; text where one does not."""
    found: dict[str, Any] = {}
    try:
        context = lathe.build(path, budget=0, verify=False, exact=True).create_context()
        found["lathe"] = lambda feeds: list(context.run(feeds).values())
    except lathe.Error as error:
        found["lathe"] = str(error)
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found["onnxruntime"] = lambda feeds: session.run(None, feeds)
    except ImportError:
        pass
    except Exception as error:
        found["onnxruntime"] = _first_line(error)
    return found


def float32_rounding(module: Any, inputs: Sequence[Any], expected: Sequence[Any]) -> list[float]:
    """By how much of its scale each float32 output of PyTorch differs from the same module's in float64: what the network makes of rounding.
    Zeros where the module cannot be run in float64."""
    try:
        wide = copy.deepcopy(module).double()
        exact = list(_run_torch(wide, [t.double() if t.is_floating_point() else t for t in inputs]).values())
        return [float((want.double() - made).abs().max() / made.abs().max().clamp_min(1e-20)) for want, made in zip(expected, exact)]
    except Exception:
        return [0.0] * len(expected)


def _differences(runtime: str, outputs: Sequence[Any], expected: Sequence[Any], half: bool, rounding: Callable[[], list[float]]) -> float:
    """Largest difference as a share of an output's scale; raises ExportError where it is more than exporting explains: a thousandth, or,
    for a network that magnifies rounding, four times what PyTorch's own float32 loses."""
    import numpy as np

    worst, base = 0.0, 2e-2 if half else 1e-3
    if len(outputs) != len(expected):
        raise ExportError(f"The file has {len(outputs)} outputs, the PyTorch model {len(expected)}.")
    for index, (got, want) in enumerate(zip(outputs, expected)):
        got, want = np.asarray(got), want.detach().numpy()
        if got.shape != want.shape:
            raise ExportError(f"Output {index} has shape {list(got.shape)} in the file and {list(want.shape)} in PyTorch.")
        if want.dtype.kind in "iub":
            if not np.array_equal(got, want):
                raise ExportError(f"Output {index} (integers) differs from PyTorch's, run by {runtime}.")
            continue
        got, want = got.astype(np.float64), want.astype(np.float64)
        finite = np.isfinite(want)
        if not np.array_equal(np.isfinite(got), finite) or not np.array_equal(got[~finite], want[~finite], equal_nan=True):
            raise ExportError(f"Output {index} has NaN or infinity in other places than PyTorch's, run by {runtime}.")
        scale = max(float(np.abs(want[finite]).max(initial=0.0)), 1e-20)
        error = float(np.abs(got[finite] - want[finite]).max(initial=0.0)) / scale
        worst = max(worst, error)
        allowed = base
        if error > base and not half:
            allowed = max(base, min(4 * rounding()[index], 1e-2))
        if not error <= allowed:
            raise ExportError(
                f"Output {index} differs from PyTorch's by {error:.2e} of its scale (allowed {allowed:.0e}), run by {runtime}.",
                "Check the model for randomness, for train mode, and for branches that depend on the data.",
            )
    return worst


def _compare(module: Any, path: str, names: Sequence[str], trials: Sequence[tuple[Any, Any]], half: bool, report: ExportReport) -> None:
    """Runs the file on every trial (inputs, PyTorch's outputs) by every runtime at hand and fills the report."""
    import onnx

    wanted = {value.name for value in onnx.load(path, load_external_data=False).graph.input}
    for runtime, run in _runtimes(path).items():
        if isinstance(run, str):
            report.notes.append(f"{runtime} cannot run the file: {run}")
            continue
        for inputs, expected in trials:
            feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs) if name in wanted}
            try:
                outputs = run(feeds)
            except Exception as error:
                raise ExportError(f"The file fails on inputs of shapes {[list(t.shape) for t in inputs]}, run by {runtime}: {_first_line(error)}.") from error
            rounding = functools.partial(float32_rounding, module, inputs, expected)
            report.max_relative_error = max(report.max_relative_error, _differences(runtime, outputs, expected, half, rounding))
        report.checked_with.append(runtime)
    if not report.checked_with:
        raise ExportError("No runtime at hand runs the file, so it cannot be compared with PyTorch. " + "; ".join(report.notes))
    report.checked_shapes = [[list(tensor.shape) for tensor in inputs] for inputs, _ in trials]


def _grown(specs: Sequence[InputSpec], names: Sequence[str], dynamic: dict[str, dict[int, str]]) -> list[InputSpec]:
    """The same inputs with every named axis at twice its extent: an axis that was frozen shows there."""
    grown = []
    for name, spec in zip(names, specs):
        axes = dynamic.get(name, {})
        grown.append(InputSpec(tuple(2 * extent if axis in axes else extent for axis, extent in enumerate(spec.shape)), spec.name, spec.dtype))
    return grown


def _check_axes(report: ExportReport, dynamic: dict[str, dict[int, str]]) -> None:
    shapes = {value["name"]: value["shape"] for value in report.inputs}
    for name, axes in dynamic.items():
        for axis, symbol in axes.items():
            if name in shapes and shapes[name][axis] != symbol:
                raise ExportError(f"Axis {axis} of input '{name}' came out as {shapes[name][axis]!r}, not as '{symbol}'.")


def _target(path: str | os.PathLike) -> Path:
    target = Path(path)
    if target.is_dir():
        raise ExportError(f"'{target}' is a folder.", "Give the name of the ONNX file.")
    if not target.parent.is_dir():
        raise ExportError(f"The folder '{target.parent}' does not exist.", "Create it first.")
    return target


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
    """Exports a PyTorch model to ONNX; the file is run and compared with PyTorch before it is kept. The module itself is not changed.

    model: an nn.Module, ScriptModule or ExportedProgram, or a source text as `lathe export` takes: "FILE.py:FUNCTION", a .pt or .pt2 file.
    path: the file to write.
    inputs: one for each input: tensors, or texts such as "images:1x3x640x640" or "ids:1x128:int64" (seeded values are drawn).
    half: convert the module and its inputs to float16.
    dynamic: {input: {axis: symbol}}: axes that may change, numbered from 0.
    opset: of ONNX; without it 20 by dynamo, 17 by torchscript.
    input_names: names of the inputs; without them those of the module's parameters, or those in the texts.
    output_names: names of the outputs; without them the keys of a dict, else output0, output1, ...
    exporter: "dynamo" or "torchscript": which to try first.
    check: run the file and compare.
    seed: of the drawn inputs.

    Raises ExportError, a lathe.Error; nothing is written then.
    """
    torch = _torch()
    started = time.monotonic()
    target = _target(path)
    specs = [parse_input(item) if isinstance(item, str) else item for item in inputs]
    module = load_source(model) if isinstance(model, (str, os.PathLike)) else model
    seeded = all(isinstance(item, InputSpec) for item in specs)
    if seeded:
        tensors = make_inputs(specs, half, seed)
    elif all(isinstance(item, torch.Tensor) for item in specs):
        tensors = tuple(item.half() if half and item.is_floating_point() else item for item in specs)
        specs = [InputSpec(tuple(t.shape), dtype=str(t.dtype).replace("torch.", "")) for t in tensors]
    else:
        raise ExportError("Inputs are all tensors, or all texts such as 'images:1x3x640x640'.", exit_code=EXIT_USAGE)
    is_program = isinstance(module, torch.export.ExportedProgram)
    if half and is_program:
        raise ExportError("--half cannot change a .pt2 program.", "Export the module itself, or convert it before torch.export.", EXIT_USAGE)
    callable_module = module.module() if is_program else module
    names = list(input_names) if input_names else _input_names(callable_module, specs)
    if len(names) != len(specs):
        raise ExportError(f"{len(names)} input names were given for {len(specs)} inputs.", exit_code=EXIT_USAGE)
    dynamic = dict(dynamic or {})
    for name, axes in dynamic.items():
        if name not in names:
            raise ExportError(f"--dynamic names '{name}', but the inputs are {', '.join(names)}.", exit_code=EXIT_USAGE)
        rank = len(specs[names.index(name)].shape)
        if any(not 0 <= axis < rank for axis in axes):
            raise ExportError(f"--dynamic names axis {max(axes)} of '{name}', which has {rank} axes.", exit_code=EXIT_USAGE)
    with _evaluation_mode(callable_module, half and not is_program) as ready:
        named = _run_torch(ready, tensors)
        if output_names and len(output_names) != len(named):
            raise ExportError(f"{len(output_names)} output names were given, the model has {len(named)} outputs.", exit_code=EXIT_USAGE)
        output_names = list(output_names or named)
        trials = [(tensors, list(named.values()))]
        if seeded and check:  # other numbers, and other extents where they may change
            more = [make_inputs(specs, half, seed + 1)]
            if dynamic:
                more.append(make_inputs(_grown(specs, names, dynamic), half, seed + 2))
            for other in more:
                with contextlib.suppress(ExportError):  # not every network takes every extent
                    trials.append((other, list(_run_torch(ready, other).values())))
        subject = module if is_program else ready
        return _export_checked(subject, target, tensors, trials, names, output_names, dynamic, opset, exporter, check, half, started)


@contextlib.contextmanager
def _evaluation_mode(module: Any, half: bool):
    """The module in evaluation mode (a copy of it in float16); modes are put back."""
    if half:
        yield copy.deepcopy(module).eval().half()
        return
    modes = [(part, part.training) for part in module.modules()]
    with contextlib.suppress(NotImplementedError):  # an exported program has the mode that it was exported in
        module.eval()
    try:
        yield module
    finally:
        for part, training in modes:
            part.training = training


def _run_torch(module: Any, tensors: Sequence[Any]) -> dict[str, Any]:
    """PyTorch's own outputs, by the keys of a dict of tensors, else as output0, output1, ..."""
    torch = _torch()
    with torch.no_grad():
        try:
            made = module(*(tensor.clone() for tensor in tensors))
        except Exception as error:
            shapes = ", ".join("x".join(map(str, tensor.shape)) or "scalar" for tensor in tensors)
            raise ExportError(f"The PyTorch model itself fails on inputs of shapes {shapes}: {_first_line(error)}.", "Check --input.") from error
    outputs = [tensor.detach().clone() for tensor in flatten(made)]
    if not outputs:
        raise ExportError("The PyTorch model returns no tensor.")
    keys = list(made.keys()) if hasattr(made, "keys") else []
    plain = len(keys) == len(outputs) and all(isinstance(key, str) for key in keys)
    return dict(zip(keys if plain else [f"output{index}" for index in range(len(outputs))], outputs))


def _export_checked(module, target, tensors, trials, names, output_names, dynamic, opset, exporter, check, half, started) -> ExportReport:
    """Tries the exporters in turn; the first file that agrees with PyTorch takes its final name."""
    torch = _torch()
    # Named axes keep their names through tracing, and TorchScript is what one of the two does not take.
    traced_first = isinstance(module, torch.jit.ScriptModule) or (bool(dynamic) and not isinstance(module, torch.export.ExportedProgram))
    order = [exporter] if exporter else []
    order += [name for name in (("torchscript", "dynamo") if traced_first else ("dynamo", "torchscript")) if name not in order]
    failed: list[dict[str, str]] = []
    try:
        folder = tempfile.mkdtemp(dir=target.parent, prefix=".lathe-export-")
    except OSError as error:
        raise ExportError(f"The folder '{target.parent}' cannot be written: {error.strerror}.", "Check the permissions.") from None
    try:
        for attempt in order:
            draft = str(Path(folder) / f"{attempt}.onnx")
            try:
                warned = _export_once(attempt, module, tensors, draft, names, output_names, dynamic, opset or (20 if attempt == "dynamo" else 17))
                report = _describe(draft, attempt, failed)
                report.notes += warned
                if opset and report.opset != opset:
                    raise ExportError(f"The file came out with opset {report.opset}, not {opset}.")
                _check_axes(report, dynamic)
                if check:
                    _compare(module, draft, names, trials, half, report)
            except ExportError as error:
                failed.append({"exporter": attempt, "reason": str(error)})
            except Exception as error:
                failed.append({"exporter": attempt, "reason": _first_line(error) + ".", "trace": traceback.format_exc(limit=-3)})
            else:
                os.replace(draft, target)
                report.path, report.seconds = str(target), time.monotonic() - started
                return report
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    reasons = " ".join(f"{item['exporter']}: {item['reason']}" for item in failed)
    raise ExportError(f"Neither exporter gave a file that agrees with PyTorch; nothing was written. {reasons}")


def _describe(path: str, exporter: str, failed: list[dict[str, str]]) -> ExportReport:
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
    return ExportReport(path, exporter, opset, len(model.graph.node), values(model.graph.input), values(model.graph.output), failed)


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
    parser.add_argument("--output-names", metavar="A,B", help="names of the outputs (default: the keys of a dict, else output0, output1, ...)")
    parser.add_argument("--exporter", choices=["dynamo", "torchscript"], help="which of PyTorch's exporters to try first")
    parser.add_argument("--seed", type=int, default=0, help="seed of the dummy inputs")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    try:
        if not options.input:
            raise ExportError("No input was given.", "Add --input 1x3x640x640 for each input of the model.", EXIT_USAGE)
        specs = [parse_input(text) for text in options.input]
        _target(options.output)
        module = load_source(options.source)
        torch = _torch()
        names = _input_names(module.module() if isinstance(module, torch.export.ExportedProgram) else module, specs)
        report = export(
            module, options.output, specs, half=options.half, dynamic=parse_dynamic(options.dynamic, names), opset=options.opset,
            input_names=names, output_names=options.output_names.split(",") if options.output_names else None,
            exporter=options.exporter, seed=options.seed,
        )  # fmt: skip
    except ExportError as error:
        print(f"lathe: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("lathe: stopped; nothing was written.", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(report.__dict__, indent=2))
        return EXIT_OK
    for item in report.failed:
        print(f"the {item['exporter']} exporter failed, so the other was taken: {item['reason']}")

    def line(values):
        return ", ".join(f"{v['name']} {v['dtype']}[{', '.join(map(str, v['shape']))}]" for v in values)

    print(f"{report.path}: {report.nodes} nodes, opset {report.opset}, exporter {report.exporter}")
    print(f"  inputs  {line(report.inputs)}\n  outputs {line(report.outputs)}")
    shapes = "; ".join(dict.fromkeys(", ".join("x".join(map(str, extents)) or "scalar" for extents in trial) for trial in report.checked_shapes))
    print(
        f"  equal to PyTorch within {report.max_relative_error:.1e} of the outputs' scale on {len(report.checked_shapes)} sets of inputs"
        f" ({shapes}), run by {' and '.join(report.checked_with)}; {report.seconds:.1f} s"
    )
    for note in report.notes:
        print(f"  note: {note}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
