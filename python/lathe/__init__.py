# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Lathe: from a trained network to a verified engine that runs as fast as the machine allows.

    import lathe

    engine = lathe.build("model.onnx", precision="bf16")    # or lathe.load("model.engine")
    engine.save("model.engine")
    outputs = engine.run({"images": pixels})                # {name: array}

NumPy arrays and tensors that offer DLPack go in without a copy, and outputs may be written into the caller's arrays. An engine for a GPU
(``device="cuda"``) takes and gives arrays in its memory: see ``Context.run``. Failures raise
``lathe.Error``, whose fields name the code, the ONNX node, the tensor, the file and the remedy.
"""

from __future__ import annotations

import atexit
import json
import operator
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from lathe import _lathe
from lathe._lathe import Context, DeviceArray, Engine, Error, Extent, IoInfo
from lathe.checking import CheckReport, Defect, report_from
from lathe.custom import InputShape, custom_op, register_op

__all__ = [
    "CheckReport",
    "Context",
    "Defect",
    "DeviceArray",
    "Engine",
    "Error",
    "Extent",
    "InputShape",
    "IoInfo",
    "build",
    "check",
    "custom_op",
    "export",
    "load",
    "register_op",
    "set_log",
    "simplify",
]
__version__: str = _lathe.version()

Shape = Sequence[int]
ShapeRange = Union[Shape, tuple[Shape, Shape, Shape], Mapping[str, Shape]]
Progress = Callable[[str, int, int, Optional[float]], Any]


def load(file: Any, *, device: str | None = None) -> Engine:
    """Loads an engine from a path (mapped: weights are not copied) or from bytes (copied).

    device: "cpu", "cuda" or "cuda:N": there or not at all. Without it, wherever the file's first section that fits runs (a GPU's on the first GPU);
        ``Engine.section`` says where that is, and why.

    Raises Error with code "io" (no such file), "corrupt_file" (no engine, cut short, altered), "unsupported" (a newer version of the format) or
    "machine" (no section runs on ``device``).
    """
    return _lathe.load(bytes(file) if isinstance(file, (bytes, bytearray, memoryview)) else os.fspath(file), device or "")


def build(
    model: Any,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    shapes: Mapping[str, ShapeRange] | None = None,
    exact: bool = False,
    budget: float | str = 60.0,
    verify: bool = True,
    cache: bool = True,
    progress: Progress | None = None,
    inputs: Sequence[Any] | None = None,
    libraries: str = "cublaslt",
    native: bool = True,
) -> Engine:
    """Builds an engine: reads, simplifies, times candidates, verifies.

    model: an ONNX file's path, its bytes, an ``onnx.ModelProto`` or a PyTorch module (then ``inputs`` are its example inputs: tensors, or
        texts such as "images:1x3x640x640"; with ``verify`` the exported file is compared with PyTorch too).
    device: "cpu", "cuda" or "cuda:N".
    precision: the lowest type allowed between contractions: "fp32", "bf16"; on "cuda" also "tf32" (products alone) and "fp16".
    shapes: {input: extents} fixes an input's shape; {input: (min, opt, max)} gives the range to serve and the size to tune for.
    exact: forbids algorithms whose error is above plain summation's (Winograd).
    budget: seconds for timing candidates (or "30s", "2m"); 0 takes modelled costs.
    verify: hold the engine against the reference execution of the model as read, and raise when it disagrees.
    cache: read and write this machine's tuning cache.
    libraries: NVIDIA's that steps on "cuda" may depend on, where found and worth their loading: "none", "cublaslt", "cudnn" or "cublaslt,cudnn".
    native: on "cuda" keep the machine code of fused regions in the engine, signed by this user's own key (``lathe engine``).
    progress: called as progress(phase, done, total, seconds_left or None); return False to cancel. Ctrl-C cancels too.

    Raises Error with code "invalid_model", "unsupported" (an operator that Lathe lacks), "invalid_argument", "verification", "machine" (``device``
    is not there), "cancelled", "io", "corrupt_file", "out_of_memory"; TypeError for a model of another kind.
    """
    ranges, seconds = _ranges(shapes), _seconds(budget)
    with _Source(model, inputs, verify) as source:
        return _lathe.build(source, device, precision, ranges, exact, seconds, verify, cache, progress, libraries, native)


def check(model: Any, *, base_dir: str | os.PathLike = "") -> CheckReport:
    """Finds every defect of an ONNX model and says what is wrong, where, what was expected and what to do. Raises for none of them: look at the report.

        report = lathe.check("model.onnx")
        if not report:
            print(report)                      # as `lathe check` prints it
        for defect in report.errors:
            print(defect.code, defect.node, defect.what)

    It finds all that ``onnx.checker.check_model(..., full_check=True)`` finds, and more; operators that are valid but that Lathe cannot build yet
    are warnings.

    model: an ONNX file's path, its bytes, or an ``onnx.ModelProto``.
    base_dir: where external data lies, for bytes and protos; of a path it is the file's folder.

    Raises Error with code "io" where the file cannot be read at all; TypeError for a model of another kind.
    """
    if isinstance(model, (str, os.PathLike)):
        source: Any = os.fspath(model)
    elif isinstance(model, (bytes, bytearray, memoryview)):
        source = bytes(model)
    elif hasattr(model, "SerializeToString"):
        source = model.SerializeToString()
    else:
        raise TypeError(f"model is a path, bytes or an onnx.ModelProto, not {type(model).__name__}")
    return report_from(*_lathe.check(source, os.fspath(base_dir)))


def simplify(model: Any, out: str | os.PathLike | None = None, *, shapes: Mapping[str, Shape] | None = None, check: bool = True) -> dict[str, Any]:
    """Folds, merges and removes what need not run; the numbers are compared before anything is written.

    model: an ONNX file's path, its bytes, an ``onnx.ModelProto`` or a PyTorch module.
    out: the ONNX file to write; without it the result has its bytes as "model".
    shapes: {input: extents} fixes an input's shape.
    check: compare outputs before and after on two sets of inputs.

    Returns a dict: "nodes_before", "nodes_after", "ops" ({op: (before, after)}), "seconds", "checked", "max_relative_error" (the largest difference
    over the output's scale). Raises Error as build() does.
    """
    ranges = _ranges(shapes)
    with _Source(model) as source:
        return _lathe.simplify(source, None if out is None else os.fspath(out), ranges, check)


def set_log(callback: Callable[[str, str], Any] | None, level: str = "warning") -> None:
    """Sends the process's messages somewhere else than to stderr.

    callback: called as callback(level, message), from any thread; None: back to stderr.
    level: the least grave that is sent: "error", "warning", "info" or "debug".

    Raises Error with code "invalid_argument" for another level.
    """
    _lathe.set_log(callback, level)


atexit.register(_lathe.set_log, None, "warning")


def export(*args: Any, **kwargs: Any) -> Any:
    """PyTorch to ONNX, compared with PyTorch before the file is kept: see ``lathe.exporter.export``."""
    from lathe.exporter import export as run

    return run(*args, **kwargs)


def _wrong(message: str, remedy: str = "") -> Error:
    error = Error(f"{message} {remedy}".strip())
    error.code, error.message, error.remedy = "invalid_argument", message, remedy
    return error


class _Source:
    """What the extension takes: a path or bytes. Keeps the exported file of a PyTorch module until the build is over."""

    def __init__(self, model: Any, inputs: Sequence[Any] | None = None, check: bool = True):
        self.model, self.inputs, self.check, self.folder = model, inputs, check, None

    def __enter__(self) -> str | bytes:
        model = self.model
        is_module = hasattr(model, "state_dict") or type(model).__name__ == "ExportedProgram"
        if self.inputs is not None and not is_module:
            raise _wrong("inputs=[...] are examples for exporting a PyTorch module, and the model is none.", "Leave them out; shapes= gives shapes.")
        if isinstance(model, (str, os.PathLike)):
            return os.fspath(model)
        if isinstance(model, (bytes, bytearray, memoryview)):
            return bytes(model)
        if hasattr(model, "SerializeToString"):
            return model.SerializeToString()
        if is_module:
            if self.inputs is None:
                raise _wrong("A PyTorch module needs example inputs.", "Add inputs=[...]: tensors, or texts such as 'images:1x3x640x640'.")
            from lathe.exporter import export as run

            self.folder = tempfile.TemporaryDirectory(prefix="lathe-")
            path = Path(self.folder.name) / "model.onnx"
            try:
                run(model, str(path), self.inputs, check=self.check)
            except BaseException:
                self.__exit__()
                raise
            return str(path)
        raise TypeError(f"model is a path, bytes, an onnx.ModelProto or a PyTorch module, not {type(model).__name__}")

    def __exit__(self, *_: Any) -> None:
        if self.folder:
            self.folder.cleanup()


def _ranges(shapes: Mapping[str, ShapeRange] | None) -> dict[str, tuple[list[int], list[int], list[int]]]:
    ranges = {}
    for name, given in (shapes or {}).items():
        try:
            if isinstance(given, Mapping):
                parts = [given.get("min"), given["opt"], given.get("max")]
            elif len(given) == 3 and all(isinstance(part, Sequence) for part in given):
                parts = list(given)
            else:
                parts = [given, given, given]
            ranges[name] = tuple([operator.index(extent) for extent in (parts[1] if part is None else part)] for part in parts)
            if any(not 0 <= extent < 1 << 63 for part in ranges[name] for extent in part):
                raise _wrong(f"The shape given for input '{name}' has an extent that no array can have: {given!r}.", "Give extents from 0 on.")
        except (TypeError, KeyError):
            raise _wrong(
                f"The shape given for input '{name}' is neither extents nor (min, opt, max): {given!r}.", "For example shapes={'x': (1, 3, 640, 640)}."
            ) from None
    return ranges


def _seconds(value: float | str) -> float:
    text = str(value)
    for unit, factor in (("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)):
        if text.endswith(unit):
            try:
                return float(text[: len(text) - len(unit)]) * factor
            except ValueError:
                break
    raise _wrong(f"'{value}' is not a time.", "Write seconds, or '30s', '2m', '500ms'.")


def _save(self: Engine, file: str | os.PathLike) -> None:
    """Writes the engine file; the target appears only when complete. Raises Error with code "io"."""
    self._save(os.fspath(file))


def _report(self: Engine) -> dict[str, Any]:
    """The build report as a dict: regions with the candidates taken and refused, verification, times in seconds."""
    return json.loads(self.report_json or "{}")


def _repr(self: Engine) -> str:
    def texts(items: Sequence[IoInfo]) -> str:
        return ", ".join(repr(item)[7:-1] for item in items)

    return f"<lathe.Engine ({texts(self.inputs)}) -> ({texts(self.outputs)}), {self.section}>"


def _reduce(self: Engine) -> tuple[Any, ...]:
    return load, (self.to_bytes(),)


def _same(self: Engine, *_: Any) -> Engine:
    return self  # immutable


def _no_pickle(self: Context) -> Any:
    raise TypeError("a Context belongs to its process and thread: pickle its Engine and create a Context there")


Engine.save = _save
Engine.report = property(_report)
Engine.__repr__ = _repr
Engine.__str__ = _repr
Engine.__reduce__ = _reduce
Engine.__copy__ = _same
Engine.__deepcopy__ = _same
Context.__reduce__ = _no_pickle
