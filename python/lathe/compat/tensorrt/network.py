# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What is parsed: OnnxParser, INetworkDefinition and its tensors and layers, over Lathe's own Network. What fails goes to the script's logger, and the
call returns None or False, as scripts expect."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import lathe
from lathe import _lathe
from lathe.compat.tensorrt.types import (
    NUMPY,
    OF_NUMPY,
    DataType,
    Dims,
    ErrorCode,
    Guarded,
    NetworkDefinitionCreationFlag,
    Severity,
    TensorLocation,
    tell,
)


class ITensor(Guarded):
    """A tensor of a network under construction."""

    allowed_formats = 1
    dynamic_range: Any = None
    location = TensorLocation.DEVICE

    def __init__(self, network: INetworkDefinition, name: str):
        self._network, self._name = network, name

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._network._graph.rename(self._name, name)
        self._network._shapes = {name if known == self._name else known: shape for known, shape in self._network._shapes.items()}
        self._name = name

    @property
    def _info(self) -> _lathe.IoInfo | None:
        return self._network._graph.tensor(self._name)

    @property
    def shape(self) -> Dims:
        info = self._info
        extents = [-1 if isinstance(extent, str) else extent for extent in info.shape] if info else []
        chosen = self._network._shapes.get(self._name)
        if chosen is not None:
            extents = list(chosen)
        return Dims(extents[1:] if self._network._implicit else extents)

    @shape.setter
    def shape(self, shape: Sequence[int]) -> None:
        if not self.is_network_input:
            raise AttributeError(f"'{self._name}' is no input: its shape follows from the inputs'")
        info, wanted = self._info, [int(extent) for extent in shape]
        known = [-1 if isinstance(extent, str) else extent for extent in info.shape] if info else [-1] * len(wanted)
        if self._network._implicit:
            wanted = known[:1] + wanted
        if len(wanted) != len(known) or any(a not in (b, -1) and b >= 0 or (a < 0 <= b) for a, b in zip(wanted, known)):
            tell(
                self._network._logger, Severity.ERROR,
                f"input '{self._name}' has the shape {tuple(known)} in the model, and {tuple(wanted)} is another: only free extents (-1) can be chosen. "
                "Export the model with dynamic axes.",
            )  # fmt: skip
            raise ValueError(f"input '{self._name}' cannot have the shape {tuple(wanted)}: the model says {tuple(known)}")
        self._network._shapes[self._name] = wanted

    @property
    def dtype(self) -> DataType:
        info = self._info
        return OF_NUMPY.get(info.dtype, DataType.FLOAT) if info else DataType.FLOAT

    @dtype.setter
    def dtype(self, dtype: DataType) -> None:
        self._network._graph.set_dtype(self._name, NUMPY[DataType(dtype)])

    @property
    def is_network_input(self) -> bool:
        return any(info.name == self._name for info in self._network._graph.inputs)

    @property
    def is_network_output(self) -> bool:
        return any(info.name == self._name for info in self._network._graph.outputs)

    is_shape_tensor = property(lambda self: False)
    is_execution_tensor = property(lambda self: True)

    def set_dynamic_range(self, low: float, high: float) -> bool:
        return False  # ranges are for INT8

    def reset_dynamic_range(self) -> None:
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ITensor) and (self._network, self._name) == (other._network, other._name)

    def __hash__(self) -> int:
        return hash(self._name)


class ILayer(Guarded):
    """An ONNX node. Types are not set by layer here: an engine is held against the oracle, and what lower precision spoils is kept in float32."""

    def __init__(self, network: INetworkDefinition, node: tuple[str, str, list[str], list[str]]):
        self._network = network
        self._name, self._op, self._inputs, self._outputs = node

    name = property(lambda self: self._name)
    type = property(lambda self: self._op)
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    precision_is_set = property(lambda self: False)

    def get_input(self, index: int) -> ITensor | None:
        return ITensor(self._network, self._inputs[index]) if index < len(self._inputs) and self._inputs[index] else None

    def get_output(self, index: int) -> ITensor | None:
        return ITensor(self._network, self._outputs[index]) if index < len(self._outputs) and self._outputs[index] else None

    def _no_precision(self) -> None:
        tell(
            self._network._logger,
            Severity.WARNING,
            f"the precision of layer '{self._name}' is not set by hand here: verification keeps what needs it in float32.",
        )

    @property
    def precision(self) -> DataType:
        return DataType.FLOAT

    @precision.setter
    def precision(self, _: DataType) -> None:
        self._no_precision()

    def set_output_type(self, index: int, dtype: DataType) -> None:
        self._no_precision()

    def reset_precision(self) -> None:
        return None


class INetworkDefinition(Guarded):
    """What the parser read. Layers are not added by hand: build them in PyTorch, or with onnx.helper, and export."""

    error_recorder: Any = None

    def __init__(self, api: Any, logger: Any, flags: int):
        self._api, self._logger, self._flags = api, logger, flags
        explicit = api._major >= 10 or bool(flags >> int(NetworkDefinitionCreationFlag.EXPLICIT_BATCH) & 1)
        self._implicit = not explicit
        self._graph: Any = None
        self._shapes: dict[str, list[int]] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("add_"):
            raise AttributeError(f"{name}: networks are not made by hand here. Make the model in PyTorch or with onnx.helper, export it to ONNX, and parse it.")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    @property
    def name(self) -> str:
        return self._graph.name if self._graph else "Unnamed Network 0"

    @name.setter
    def name(self, _: str) -> None:
        return None

    has_implicit_batch_dimension = property(lambda self: self._implicit)
    has_explicit_precision = property(lambda self: False)
    flags = property(lambda self: self._flags)
    num_inputs = property(lambda self: len(self._graph.inputs) if self._graph else 0)
    num_outputs = property(lambda self: len(self._graph.outputs) if self._graph else 0)
    num_layers = property(lambda self: len(self._graph.nodes) if self._graph else 0)

    def get_flag(self, flag: int) -> bool:
        return bool(self._flags >> int(flag) & 1)

    def get_input(self, index: int) -> ITensor:
        return ITensor(self, self._graph.inputs[index].name)

    def get_output(self, index: int) -> ITensor:
        return ITensor(self, self._graph.outputs[index].name)

    def get_layer(self, index: int) -> ILayer:
        return ILayer(self, self._graph.nodes[index])

    def __len__(self) -> int:
        return self.num_layers

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, index: int) -> ILayer:
        return ILayer(self, self._graph.nodes[index])

    def mark_output(self, tensor: ITensor) -> None:
        self._graph.mark_output(tensor._name)

    def unmark_output(self, tensor: ITensor) -> None:
        self._graph.unmark_output(tensor._name)


class ParserError:
    """One reason why a file was not parsed."""

    def __init__(self, message: str, node: int = -1, code: ErrorCode = ErrorCode.INVALID_GRAPH):
        self._message, self._node, self._code = message, node, code

    def code(self) -> ErrorCode:
        return self._code

    def desc(self) -> str:
        return self._message

    def node(self) -> int:
        return self._node

    def node_name(self) -> str:
        return ""

    def node_operator(self) -> str:
        return ""

    def file(self) -> str:
        return ""

    def line(self) -> int:
        return 0

    def func(self) -> str:
        return ""

    def __repr__(self) -> str:
        return f"In node {self._node}: {self._code.name}: {self._message}"

    __str__ = __repr__


class OnnxParser(Guarded):
    flags = 0

    def __init__(self, network: INetworkDefinition, logger: Any):
        self._network, self._logger, self._errors = network, logger, []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors = []

    def set_flag(self, flag: int) -> None:
        return None

    def clear_flag(self, flag: int) -> None:
        return None

    def get_flag(self, flag: int) -> bool:
        return True

    def parse(self, model: Any, path: str | None = None) -> bool:
        """The bytes of an ONNX file; `path` is where its external data lies."""
        content = model.SerializeToString() if hasattr(model, "SerializeToString") else bytes(model)
        return self._take(content, os.path.dirname(os.path.abspath(path)) if path else "")

    def parse_from_file(self, model: Any) -> bool:
        return self._take(os.fspath(model), "")

    def parse_with_weight_descriptors(self, model: Any) -> bool:
        return self.parse(model)

    def supports_model(self, model: Any, path: str | None = None) -> tuple[bool, list[Any]]:
        other = OnnxParser(INetworkDefinition(self._network._api, None, self._network._flags), None)
        good = other.parse(model, path)
        self._errors += other._errors
        return good, []

    def _take(self, model: str | bytes, folder: str) -> bool:
        try:
            graph = _lathe.Network.parse(model, folder)
            missing = graph.unsupported
        except lathe.Error as error:
            return self._failed(
                ParserError(str(error), code=ErrorCode.MODEL_DESERIALIZE_FAILED if error.code in ("io", "corrupt_file") else ErrorCode.INVALID_GRAPH)
            )
        if missing:
            for text in missing:
                self._failed(
                    ParserError(f"the operator of this node is not supported: {text}. `lathe ops` lists the supported ones.", code=ErrorCode.UNSUPPORTED_NODE)
                )
            return False
        if self._network._implicit:
            flat = [info.name for info in [*graph.inputs, *graph.outputs] if not info.shape]
            if flat:
                return self._failed(
                    ParserError(
                        f"'{flat[0]}' has no axes, and a network without EXPLICIT_BATCH takes the first one as the batch: "
                        "create_network(1 << int(NetworkDefinitionCreationFlag.EXPLICIT_BATCH))"
                    )
                )
        if self._network._api._major < 10:
            # Older versions had no 64-bit types: interfaces are narrowed, as their parser did.
            for info in [*graph.inputs, *graph.outputs]:
                if narrow := {"int64": "int32", "float64": "float32"}.get(info.dtype):
                    tell(
                        self._logger, Severity.WARNING, f"'{info.name}' is {info.dtype} in the model; its binding is {narrow}, as TensorRT before 10 makes it."
                    )
                    graph.set_dtype(info.name, narrow)
        self._network._graph = graph
        return True

    def _failed(self, error: ParserError) -> bool:
        self._errors.append(error)
        tell(self._logger, Severity.ERROR, error.desc())
        return False
