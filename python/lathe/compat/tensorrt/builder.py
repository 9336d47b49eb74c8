# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""From a network to an engine: Builder, IBuilderConfig, IOptimizationProfile. What concerns TensorRT's own tuning is taken and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import lathe
from lathe import _lathe, compat
from lathe.compat.machine import machine
from lathe.compat.tensorrt.network import INetworkDefinition
from lathe.compat.tensorrt.types import BuilderFlag, Dims, Guarded, IHostMemory, MemoryPoolType, Severity, tell

METADATA = "lathe.compat.tensorrt"  # what an engine cannot say otherwise: implicit batch, profiles
LONGEST = 65536  # a free extent that no profile limits


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
                network._graph,
                place.name,
                self._precision(network, config),
                _ranges(shapes),
                False,
                budget,
                settings.verify,
                settings.cache,
                None,
                "cublaslt",
                True,
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
