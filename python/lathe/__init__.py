# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Lathe: from a trained network to a verified engine that runs as fast as the machine allows.

    import lathe

    engine = lathe.build("model.onnx", precision="bf16")    # or lathe.load("model.engine")
    engine.save("model.engine")
    outputs = engine.run({"images": pixels})                # {name: array}

NumPy arrays and tensors that offer DLPack go in without a copy, and outputs may be written into the caller's arrays. Failures raise
``lathe.Error``, whose fields name the code, the ONNX node, the tensor, the file and the remedy.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from lathe._lathe import Context, Engine, Error, IoInfo
from lathe import _lathe

__all__ = ["Context", "Engine", "Error", "IoInfo", "build", "export", "load", "simplify"]
__version__: str = _lathe.version()

Shape = Sequence[int]
ShapeRange = Union[Shape, tuple[Shape, Shape, Shape], Mapping[str, Shape]]
Progress = Callable[[str, int, int, Optional[float]], Any]


def load(file: Any) -> Engine:
    """Loads an engine from a path (mapped: weights are not copied) or from bytes (copied)."""
    return _lathe.load(bytes(file) if isinstance(file, (bytes, bytearray, memoryview)) else os.fspath(file))


def build(
    model: Any,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    shapes: Optional[Mapping[str, ShapeRange]] = None,
    exact: bool = False,
    budget: Union[float, str] = 60.0,
    verify: bool = True,
    cache: bool = True,
    progress: Optional[Progress] = None,
    inputs: Optional[Sequence[Any]] = None,
) -> Engine:
    """Builds an engine.

    model: an ONNX file's path, its bytes, an ``onnx.ModelProto``, or a PyTorch module (then ``inputs`` are its example inputs: tensors, or
        texts such as "images:1x3x640x640").
    precision: the lowest type allowed between contractions: "fp32", "bf16", "fp16".
    shapes: {input: extents} fixes an input's shape; {input: (min, opt, max)} gives the range to serve and the size to tune for.
    exact: forbids algorithms whose error is above plain summation's (Winograd).
    budget: seconds for timing candidates (or "30s", "2m"); 0 takes modelled costs.
    verify: hold the engine against the reference execution of the model as read, and raise when it disagrees.
    cache: read and write this machine's tuning cache.
    progress: called as progress(phase, done, total, seconds_left or None); return False to cancel. Ctrl-C cancels too.
    """
    with _source(model, inputs) as source:
        return _lathe.build(source, device, precision, _ranges(shapes), exact, _seconds(budget), verify, cache, progress)


def simplify(
    model: Any, out: Optional[Union[str, os.PathLike]] = None, *, shapes: Optional[Mapping[str, Shape]] = None, check: bool = True
) -> dict[str, Any]:
    """Folds, merges and removes what need not run; the numbers are compared before anything is written.

    Returns node counts before and after (also by op), and the largest difference; without ``out`` also the ONNX bytes as "model".
    """
    with _source(model, None) as source:
        return _lathe.simplify(source, None if out is None else os.fspath(out), _ranges(shapes), check)


def export(*args: Any, **kwargs: Any) -> Any:
    """PyTorch to ONNX, compared with PyTorch before the file is kept: see ``lathe.exporter.export``."""
    from lathe.exporter import export as run

    return run(*args, **kwargs)


class _source:
    """What the extension takes: a path or bytes. Keeps the exported file of a PyTorch module until the build is over."""

    def __init__(self, model: Any, inputs: Optional[Sequence[Any]]):
        self.model, self.inputs, self.folder = model, inputs, None

    def __enter__(self) -> Union[str, bytes]:
        model = self.model
        if isinstance(model, (str, os.PathLike)):
            return os.fspath(model)
        if isinstance(model, (bytes, bytearray, memoryview)):
            return bytes(model)
        if hasattr(model, "SerializeToString"):
            return model.SerializeToString()
        if hasattr(model, "state_dict") or type(model).__name__ == "ExportedProgram":
            if self.inputs is None:
                raise TypeError("building a PyTorch module needs inputs=[...]: example tensors, or texts such as 'images:1x3x640x640'")
            from lathe.exporter import export as run

            self.folder = tempfile.TemporaryDirectory(prefix="lathe-")
            path = Path(self.folder.name) / "model.onnx"
            run(model, str(path), self.inputs, check=False)
            return str(path)
        raise TypeError(f"model is a path, bytes, an onnx.ModelProto or a PyTorch module, not {type(model).__name__}")

    def __exit__(self, *_: Any) -> None:
        if self.folder:
            self.folder.cleanup()


def _ranges(shapes: Optional[Mapping[str, ShapeRange]]) -> dict[str, tuple[list[int], list[int], list[int]]]:
    ranges = {}
    for name, given in (shapes or {}).items():
        if isinstance(given, Mapping):
            parts = [given.get("min"), given["opt"], given.get("max")]
        elif len(given) == 3 and all(isinstance(part, Sequence) for part in given):
            parts = list(given)
        else:
            parts = [given, given, given]
        ranges[name] = tuple([int(extent) for extent in (part if part is not None else parts[1])] for part in parts)
    return ranges


def _seconds(value: Union[float, str]) -> float:
    if not isinstance(value, str):
        return float(value)
    for unit, factor in (("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
        if value.endswith(unit):
            return float(value[: -len(unit)]) * factor
    return float(value)


def _save(self: Engine, file: Union[str, os.PathLike]) -> None:
    """Writes the engine file; the target appears only when complete."""
    self._save(os.fspath(file))


def _report(self: Engine) -> dict[str, Any]:
    """The build report: regions with the candidates taken and refused, verification, times."""
    return json.loads(self.report_json or "{}")


def _repr(self: Engine) -> str:
    def texts(items: Sequence[IoInfo]) -> str:
        return ", ".join(repr(item)[7:-1] for item in items)

    return f"<lathe.Engine ({texts(self.inputs)}) -> ({texts(self.outputs)}), {self.section}>"


Engine.save = _save
Engine.report = property(_report)
Engine.__repr__ = _repr
Engine.__str__ = _repr
