# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Runtime and ICudaEngine: Lathe's engine under TensorRT's names for its inputs and outputs, by number (bindings, before 10) and by name (from 8 on).

With several profiles a binding's number says which one it belongs to, as there: number = profile x tensors + tensor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import lathe
from lathe import _lathe, compat
from lathe.compat.machine import machine
from lathe.compat.tensorrt.builder import LONGEST, METADATA
from lathe.compat.tensorrt.types import (
    OF_NUMPY,
    DataType,
    Dims,
    Guarded,
    HardwareCompatibilityLevel,
    IHostMemory,
    LayerInformationFormat,
    Severity,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    tell,
)

MAGIC = b"\x89LATHE"
NARROWED = {"int64": "int32", "float64": "float32"}  # before 10 there were no 64-bit types


class Tensor:
    """An input or output of an engine. `dtype` is what scripts see, `own` the engine's."""

    def __init__(self, info: _lathe.IoInfo, is_input: bool, narrow: bool):
        self.name, self.is_input, self.own = info.name, is_input, info.dtype
        self.dtype = NARROWED.get(info.dtype, info.dtype) if narrow else info.dtype
        self.texts = tuple(info.shape)
        self.shape = tuple(-1 if isinstance(extent, str) else extent for extent in info.shape)

    @property
    def kind(self) -> DataType:
        if self.dtype not in OF_NUMPY:
            raise TypeError(f"'{self.name}' has elements of type {self.dtype}, which TensorRT has not")
        return OF_NUMPY[self.dtype]


class Runtime(Guarded):
    DLA_core = -1
    max_threads = 1
    gpu_allocator: Any = None
    error_recorder: Any = None
    engine_host_code_allowed = False
    temporary_directory = ""
    tempfile_control_flags = 0
    _api: Any = None

    def __init__(self, logger: Any = None):
        self._logger = logger

    logger = property(lambda self: self._logger)
    num_DLA_cores = property(lambda self: 0)

    def deserialize_cuda_engine(self, serialized_engine: Any, *_: Any) -> Any:
        """None, and a word to the logger, for what is no engine of Lathe's."""
        try:
            content = bytes(serialized_engine)
        except TypeError:
            raise TypeError(f"an engine is deserialised from bytes, not from {type(serialized_engine).__name__}") from None
        if not content.startswith(MAGIC):
            tell(
                self._logger, Severity.ERROR,
                "this is no engine of Lathe's. Plans of TensorRT hold code for its own runtime: build the engine again from the ONNX file, with this script, "
                "onnx2trt, trtexec or `lathe build`.",
            )  # fmt: skip
            return None
        try:
            engine = lathe.load(content, device=machine().name)
        except lathe.Error as error:
            tell(self._logger, Severity.ERROR, str(error))
            return None
        return self._api.ICudaEngine(self._api, self._logger, engine)

    def get_plugin_registry(self) -> Any:
        return self._api.get_plugin_registry()


class ICudaEngine(Guarded):
    error_recorder: Any = None
    weight_streaming_budget = 0
    weight_streaming_budget_v2 = 0

    def __init__(self, api: Any, logger: Any, engine: _lathe.Engine):
        self._api, self._logger, self._engine = api, logger, engine
        try:
            about = json.loads(engine.metadata.get(METADATA, "{}"))
        except ValueError:
            about = {}
        self._implicit = bool(about.get("implicit_batch")) and api._major < 10
        self._max_batch = int(about.get("max_batch", 1)) if self._implicit else 1
        self._profiles = about.get("profiles") or [{}]
        narrow = api._major < 10
        self._tensors = [Tensor(info, True, narrow) for info in engine.inputs] + [Tensor(info, False, narrow) for info in engine.outputs]
        self._by_name = {tensor.name: tensor for tensor in self._tensors}

    # What both ways share ------------------------------------------------------------------------------------------

    def _shown(self, shape: tuple[int, ...]) -> Dims:
        return Dims(shape[1:] if self._implicit else shape)

    def _at(self, key: Any) -> tuple[Tensor, int]:
        """The tensor and the profile of a binding's number or name."""
        if isinstance(key, str):
            name, _, rest = key.partition(" [profile ")
            if name not in self._by_name:
                raise KeyError(f"the engine has no binding '{key}'; it has {', '.join(repr(tensor.name) for tensor in self._tensors)}")
            return self._by_name[name], int(rest[:-1] or 0) if rest else 0
        index = int(key)
        if not 0 <= index < self._count:
            raise IndexError(f"binding {index} is asked for; the engine has {self._count}")
        return self._tensors[index % len(self._tensors)], index // len(self._tensors)

    @property
    def _count(self) -> int:
        return len(self._tensors) * (len(self._profiles) if self._api._major < 10 else 1)

    def _range(self, tensor: Tensor, profile: int) -> list[Dims]:
        if not 0 <= profile < len(self._profiles):
            raise IndexError(f"profile {profile} is asked for; the engine has {len(self._profiles)}")
        given = self._profiles[profile].get(tensor.name)
        if given:
            return [Dims(part) for part in given]
        low, best, high = [], [], []
        for extent in tensor.texts:
            if isinstance(extent, int):
                low.append(extent), best.append(extent), high.append(extent)
                continue
            least, tuned, most = self._engine.ranges.get(extent, (1, -1, -1))
            low.append(least), best.append(tuned if tuned >= 0 else least), high.append(most if most >= 0 else LONGEST)
        return [self._shown(tuple(part)) for part in (low, best, high)]

    def _named(self, name: str) -> Tensor:
        if name not in self._by_name:
            raise ValueError(f"the engine has no tensor '{name}'; it has {', '.join(repr(tensor.name) for tensor in self._tensors)}")
        return self._by_name[name]

    # By number -----------------------------------------------------------------------------------------------------

    num_bindings = property(lambda self: self._count)
    max_batch_size = property(lambda self: self._max_batch)
    has_implicit_batch_dimension = property(lambda self: self._implicit)

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: Any) -> Any:
        """A number's name; before 10 also a name's number."""
        if isinstance(key, str):
            return self._index(key)
        tensor, profile = self._at(key)
        return tensor.name if profile == 0 else f"{tensor.name} [profile {profile}]"

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(self._count))

    def _index(self, name: str) -> int:
        try:
            tensor, profile = self._at(name)
        except KeyError:
            return -1
        return profile * len(self._tensors) + self._tensors.index(tensor)

    def get_binding_index(self, name: str) -> int:
        return self._index(name)

    def get_binding_name(self, index: int) -> str:
        return self[int(index)]

    def get_binding_shape(self, binding: Any) -> Dims:
        return self._shown(self._at(binding)[0].shape)

    def get_binding_dtype(self, binding: Any) -> DataType:
        return self._at(binding)[0].kind

    def binding_is_input(self, binding: Any) -> bool:
        return self._at(binding)[0].is_input

    def is_shape_binding(self, binding: Any) -> bool:
        return False

    def is_execution_binding(self, binding: Any) -> bool:
        return True

    def get_location(self, binding: Any) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_binding_format(self, binding: Any) -> TensorFormat:
        return TensorFormat.LINEAR

    def get_binding_format_desc(self, binding: Any) -> str:
        return f"Row major linear {self._at(binding)[0].dtype} format"

    def get_binding_vectorized_dim(self, binding: Any) -> int:
        return -1

    def get_binding_bytes_per_component(self, binding: Any) -> int:
        return self._at(binding)[0].kind.itemsize

    def get_binding_components_per_element(self, binding: Any) -> int:
        return 1

    def get_profile_shape(self, profile_index: int, binding: Any) -> list[Dims]:
        return self._range(self._at(binding)[0], profile_index)

    def get_profile_shape_input(self, profile_index: int, binding: Any) -> list[Any]:
        return []

    # By name -------------------------------------------------------------------------------------------------------

    num_io_tensors = property(lambda self: len(self._tensors))

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index].name

    def get_tensor_shape(self, name: str) -> Dims:
        return self._shown(self._named(name).shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._named(name).kind

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        if name not in self._by_name:
            return TensorIOMode.NONE
        return TensorIOMode.INPUT if self._by_name[name].is_input else TensorIOMode.OUTPUT

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_format(self, name: str, profile_index: int = 0) -> TensorFormat:
        return TensorFormat.LINEAR

    def get_tensor_format_desc(self, name: str, profile_index: int = 0) -> str:
        return f"Row major linear {self._named(name).dtype} format"

    def get_tensor_vectorized_dim(self, name: str, profile_index: int = 0) -> int:
        return -1

    def get_tensor_bytes_per_component(self, name: str, profile_index: int = 0) -> int:
        return self._named(name).kind.itemsize

    def get_tensor_components_per_element(self, name: str, profile_index: int = 0) -> int:
        return 1

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        return self._range(self._named(name), profile_index)

    # The engine as a whole -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._engine.to_text().split("'", 2)[1]

    num_optimization_profiles = property(lambda self: len(self._profiles))
    num_layers = property(lambda self: int(self._engine.report.get("steps", 0)))
    device_memory_size = property(lambda self: int(self._engine.report.get("arena_bytes", 0)))
    device_memory_size_v2 = device_memory_size
    max_workspace_size = property(lambda self: 0)
    refittable = property(lambda self: False)
    engine_capability = property(lambda self: 0)
    tactic_sources = property(lambda self: 0)
    profiling_verbosity = property(lambda self: 0)
    num_aux_streams = property(lambda self: 0)
    hardware_compatibility_level = property(lambda self: HardwareCompatibilityLevel.NONE)

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._engine.to_bytes())

    def create_serialization_config(self) -> Any:
        return None

    def serialize_with_config(self, config: Any) -> IHostMemory:
        return self.serialize()

    def create_execution_context(self, strategy: Any = None) -> Any:
        return self._api.IExecutionContext(self)

    def create_execution_context_without_device_memory(self) -> Any:
        return self._api.IExecutionContext(self)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)

    def get_device_memory_size_for_profile(self, profile_index: int) -> int:
        return self.device_memory_size


class EngineInspector:
    """The engine's steps; `lathe show` tells more of them."""

    execution_context: Any = None
    error_recorder: Any = None

    def __init__(self, engine: ICudaEngine):
        self._regions = engine._engine.report.get("regions", [])
        self._bindings = [tensor.name for tensor in engine._tensors]

    def _layer(self, index: int) -> dict[str, Any]:
        region = self._regions[index]
        chosen = next((choice for choice in region.get("choices", []) if choice.get("chosen")), {})
        return {
            "Name": region.get("label", ""),
            "LayerType": region.get("pattern", ""),
            "TacticName": chosen.get("candidate", ""),
            "OnnxNodes": region.get("sources", []),
        }

    def get_layer_information(self, layer_index: int, format: LayerInformationFormat = LayerInformationFormat.ONELINE) -> str:
        layer = self._layer(layer_index)
        return json.dumps(layer) if format == LayerInformationFormat.JSON else f"{layer['Name']} ({layer['LayerType']}): {layer['TacticName']}"

    def get_engine_information(self, format: LayerInformationFormat = LayerInformationFormat.ONELINE) -> str:
        if format == LayerInformationFormat.JSON:
            return json.dumps({"Layers": [self._layer(i) for i in range(len(self._regions))], "Bindings": self._bindings})
        lines = [self.get_layer_information(i) for i in range(len(self._regions))]
        return "\n".join(["Layers:", *lines, "", "Bindings:", *self._bindings])


def require(condition: bool, message: str) -> None:
    if not condition:
        raise compat.CompatError(message)
