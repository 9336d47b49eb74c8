# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""From ONNX to an engine: Builder, INetworkDefinition, OnnxParser, IBuilderConfig, IOptimizationProfile. The network is Lathe's own Network; what fails
goes to the script's logger, and the call returns None or False, as scripts expect."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import lathe
from lathe import _lathe, compat
from lathe.compat.machine import machine
from lathe.compat.tensorrt.types import (
    NUMPY,
    OF_NUMPY,
    BuilderFlag,
    DataType,
    Dims,
    ErrorCode,
    Guarded,
    IHostMemory,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    Severity,
    TensorLocation,
    tell,
)

METADATA = "lathe.compat.tensorrt"  # what an engine cannot say otherwise: implicit batch, profiles
LONGEST = 65536  # a free extent that no profile limits


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


class IOptimizationProfile(Guarded):
    extra_memory_target = 1.0

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Dims, Dims, Dims]] = {}

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:
        if not len(min) == len(opt) == len(max) or any(not 0 <= a <= b <= c for a, b, c in zip(min, opt, max)):
            raise ValueError(f"the profile of '{input}' does not hold: {tuple(min)} <= {tuple(opt)} <= {tuple(max)}")
        self._shapes[input] = (Dims(min), Dims(opt), Dims(max))

    def get_shape(self, input: str) -> list[Dims]:
        return list(self._shapes.get(input, []))

    def set_shape_input(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:
        """Values of a shape tensor: Lathe reads them at each run and needs no range."""

    def get_shape_input(self, input: str) -> list[list[int]]:
        return []

    def __bool__(self) -> bool:
        return True


class IBuilderConfig(Guarded):
    """Flags allow lower precision, as they do there. What concerns TensorRT's own tuning is taken and changes nothing."""

    avg_timing_iterations = 1
    min_timing_iterations = 1
    engine_capability = 0
    default_device_type = 0
    DLA_core = -1
    profiling_verbosity = 0
    builder_optimization_level = 3
    hardware_compatibility_level = 0
    max_aux_streams = 0
    profile_stream = 0
    int8_calibrator: Any = None
    progress_monitor: Any = None
    algorithm_selector: Any = None
    quantization_flags = 0
    max_num_tactics = -1
    tiling_optimization_level = 0
    runtime_platform = 0
    l2_limit_for_tiling = -1

    def __init__(self, api: Any, logger: Any):
        self._api, self._logger = api, logger
        self.flags = 1 << int(BuilderFlag.TF32)
        self._workspace = 1 << 30
        self._pools: dict[int, int] = {}
        self._profiles: list[IOptimizationProfile] = []

    flags = 0
    num_optimization_profiles = property(lambda self: len(self._profiles))

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: BuilderFlag) -> bool:
        return bool(self.flags >> int(flag) & 1)

    @property
    def max_workspace_size(self) -> int:
        return self._workspace

    @max_workspace_size.setter
    def max_workspace_size(self, size: int) -> None:
        self._workspace = int(size)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self._pools[int(pool)] = int(pool_size)
        if pool == MemoryPoolType.WORKSPACE:
            self._workspace = int(pool_size)

    def get_memory_pool_limit(self, pool: MemoryPoolType) -> int:
        return self._pools.get(int(pool), self._workspace if pool == MemoryPoolType.WORKSPACE else 0)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
        return True

    def get_calibration_profile(self) -> None:
        return None

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        return True

    def get_tactic_sources(self) -> int:
        return 0

    def set_preview_feature(self, feature: int, enable: bool) -> None:
        return None

    def get_preview_feature(self, feature: int) -> bool:
        return False

    def set_quantization_flag(self, flag: int) -> None:
        return None

    def set_device_type(self, layer: Any, device_type: int) -> None:
        return None

    def can_run_on_DLA(self, layer: Any) -> bool:
        return False

    def create_timing_cache(self, serialized: Any) -> ITimingCache:
        return ITimingCache()

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool = False) -> bool:
        return True

    def get_timing_cache(self) -> ITimingCache:
        return ITimingCache()

    def reset(self) -> None:
        self.__init__(self._api, self._logger)


class ITimingCache:
    """Lathe keeps its own, in LATHE_CACHE_DIR."""

    def serialize(self) -> IHostMemory:
        return IHostMemory()

    def combine(self, other: Any, ignore_mismatch: bool = False) -> bool:
        return True

    def reset(self) -> bool:
        return True


class Builder(Guarded):
    max_batch_size = 1
    fp16_mode = False
    int8_mode = False
    strict_type_constraints = False
    debug_sync = False
    average_find_iterations = 1
    min_find_iterations = 1
    max_threads = 1
    int8_calibrator: Any = None
    gpu_allocator: Any = None
    error_recorder: Any = None
    _api: Any = None

    def __init__(self, logger: Any):
        self._logger, self._workspace = logger, 1 << 30

    logger = property(lambda self: self._logger)
    platform_has_fast_fp16 = property(lambda self: machine().gpu is not None)
    platform_has_fast_int8 = property(lambda self: False)
    platform_has_tf32 = property(lambda self: machine().gpu is not None)
    num_DLA_cores = property(lambda self: 0)
    max_DLA_batch_size = property(lambda self: 0)

    @property
    def max_workspace_size(self) -> int:
        return self._workspace

    @max_workspace_size.setter
    def max_workspace_size(self, size: int) -> None:
        self._workspace = int(size)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return self._api.INetworkDefinition(self._api, self._logger, int(flags))

    def create_builder_config(self) -> IBuilderConfig:
        return self._api.IBuilderConfig(self._api, self._logger)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return self._api.IOptimizationProfile()

    def reset(self, *_: Any) -> None:
        return None

    def is_network_supported(self, network: INetworkDefinition, config: Any = None) -> bool:
        return network._graph is not None

    def build_cuda_engine(self, network: INetworkDefinition) -> Any:
        """With the builder's own switches, as before there was a config."""
        config = self.create_builder_config()
        if self.fp16_mode:
            config.set_flag(BuilderFlag.FP16)
        if self.int8_mode:
            config.set_flag(BuilderFlag.INT8)
        return self.build_engine(network, config)

    def build_engine(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        engine = self._build(network, config)
        return None if engine is None else self._api.ICudaEngine(self._api, self._logger, engine)

    def build_engine_with_config(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        return Builder.build_engine(self, network, config)

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        engine = self._build(network, config)
        return None if engine is None else IHostMemory(engine.to_bytes())

    def _build(self, network: INetworkDefinition, config: IBuilderConfig) -> _lathe.Engine | None:
        if network._graph is None or not network._graph.outputs:
            tell(self._logger, Severity.ERROR, "the network has no outputs: nothing was parsed into it, or parsing failed (parser.get_error).")
            return None
        place, settings = machine(), compat.settings
        try:
            shapes = self._shapes(network, config)
            network._graph.set_metadata(METADATA, json.dumps(self._about(network, config)))
            from lathe import _ranges, _seconds

            budget = 0.0 if getattr(config, "builder_optimization_level", 3) == 0 else _seconds(settings.budget)
            engine = _lathe.build(
                network._graph, place.name, self._precision(network, config), _ranges(shapes), False, budget, settings.verify, settings.cache, None, "cublaslt"
            )
        except lathe.Error as error:
            tell(self._logger, Severity.ERROR, str(error))
            return None
        tell(self._logger, Severity.INFO, f"built for {place.name}: {engine.report.get('verify', {}).get('summary', '')}")
        return engine

    def _precision(self, network: INetworkDefinition, config: IBuilderConfig) -> str:
        wants = {flag for flag in BuilderFlag if config.get_flag(flag)}
        on_gpu = machine().gpu is not None
        quantised = any(op in ("QuantizeLinear", "DequantizeLinear") for _, op, _, _ in network._graph.nodes)
        if BuilderFlag.INT8 in wants and not quantised:
            tell(
                self._logger,
                Severity.WARNING,
                "INT8 was allowed; Lathe calibrates nothing and uses the wider type. Export a quantised model (QuantizeLinear) for 8 bits.",
            )
        if BuilderFlag.FP16 in wants:
            if on_gpu:
                return "fp16"
            tell(self._logger, Severity.WARNING, "FP16 was allowed; on the CPU Lathe computes in float32 (BuilderFlag.BF16 is the lower precision there).")
        if BuilderFlag.BF16 in wants:
            return "bf16"
        return "tf32" if on_gpu and BuilderFlag.TF32 in wants else "fp32"

    def _shapes(self, network: INetworkDefinition, config: IBuilderConfig) -> dict[str, Any]:
        """Per input that something is known of: (least, preferred, greatest). Several profiles make one range, tuned for the first."""
        shapes = {}
        for info in network._graph.inputs:
            profiles = [profile._shapes[info.name] for profile in config._profiles if info.name in profile._shapes]
            chosen = network._shapes.get(info.name)
            free_batch = network._implicit and info.shape and isinstance(info.shape[0], str)
            if not profiles and chosen is None and not free_batch:
                continue
            axes = []
            for axis, extent in enumerate(info.shape):
                if profiles:
                    if any(len(part) != len(info.shape) for profile in profiles for part in profile):
                        raise lathe._wrong(f"The profile of input '{info.name}' has not as many axes as the model: {len(info.shape)}.")
                    low, high = min(profile[0][axis] for profile in profiles), max(profile[2][axis] for profile in profiles)
                    axes.append((low, profiles[0][1][axis], high))
                elif free_batch and axis == 0:
                    axes.append((1, self.max_batch_size, self.max_batch_size))
                elif chosen is not None and chosen[axis] >= 0:
                    axes.append((chosen[axis],) * 3)
                elif isinstance(extent, str):
                    axes.append((1, 1 if axis == 0 else 128 if len(info.shape) >= 4 else 16, LONGEST))
                else:
                    axes.append((extent,) * 3)
            shapes[info.name] = tuple(tuple(part) for part in zip(*axes))
        known = {info.name for info in network._graph.inputs}
        for profile in config._profiles:
            for name in profile._shapes:
                if name not in known:
                    raise lathe._wrong(f"The profile names an input '{name}', which the model has not; it has {', '.join(sorted(known))}.")
        return shapes

    def _about(self, network: INetworkDefinition, config: IBuilderConfig) -> dict[str, Any]:
        profiles = [{name: [list(part) for part in shapes] for name, shapes in profile._shapes.items()} for profile in config._profiles]
        return {"implicit_batch": network._implicit, "max_batch": self.max_batch_size if network._implicit else 1, "profiles": profiles}
