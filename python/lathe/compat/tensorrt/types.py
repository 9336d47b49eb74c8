# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The small parts of TensorRT's API: enumerations, shapes, loggers, and base classes that scripts derive from."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np


class Guarded:
    """As TensorRT's classes: an attribute that the class has not cannot be set either."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            getattr(type(self), name)  # one that this version has no more tells so itself
        object.__setattr__(self, name, value)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        return None


class DataType(enum.IntEnum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64, INT4 = range(10)

    @property
    def itemsize(self) -> int:
        return {0: 4, 1: 2, 2: 1, 3: 4, 4: 1, 5: 1, 6: 1, 7: 2, 8: 8, 9: 1}[int(self)]

    def __str__(self) -> str:
        return f"DataType.{self.name}"


NUMPY = {
    DataType.FLOAT: "float32", DataType.HALF: "float16", DataType.INT8: "int8", DataType.INT32: "int32", DataType.BOOL: "bool", DataType.UINT8: "uint8",
    DataType.FP8: "float8_e4m3fn", DataType.BF16: "bfloat16", DataType.INT64: "int64",
}  # fmt: skip
OF_NUMPY = {**{name: kind for kind, name in NUMPY.items()}, "float8e4m3fn": DataType.FP8}


def nptype(trt_type: DataType) -> type:
    """NumPy's type for TensorRT's."""
    try:
        return {"bool": np.bool_}.get(NUMPY[trt_type]) or np.dtype(NUMPY[trt_type]).type
    except (KeyError, TypeError):
        raise TypeError(f"NumPy has no type for {trt_type}") from None


def volume(iterable: Iterable[int]) -> int:
    """Product of the extents; 1 for none."""
    total = 1
    for extent in iterable:
        total *= int(extent)
    return total


class Dims(list):
    """Extents; looks like a tuple and can be written to."""

    MAX_DIMS = 8

    def __init__(self, shape: Iterable[int] = ()):
        super().__init__(int(extent) for extent in shape)

    def __repr__(self) -> str:
        return repr(tuple(self))

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (list, tuple)) and tuple(self) == tuple(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Any) -> Any:
        return tuple(self) + tuple(other)

    def __radd__(self, other: Any) -> Any:
        return tuple(other) + tuple(self)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return tuple(found) if isinstance(index, slice) else found

    @property
    def nbDims(self) -> int:
        return len(self)


class Dims2(Dims):
    pass


class Dims3(Dims):
    pass


class Dims4(Dims):
    pass


class DimsHW(Dims):
    @property
    def h(self) -> int:
        return self[0]

    @property
    def w(self) -> int:
        return self[1]


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __str__(self) -> str:
        return f"Severity.{self.name}"


class ILogger:
    """Derive from it and write log(severity, msg)."""

    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self) -> None:
        pass

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError("a logger derived from ILogger has a method log(severity, msg)")


class Logger(ILogger):
    """To stderr what is as grave as `min_severity`."""

    def __init__(self, min_severity: Severity = Severity.WARNING):
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity: Severity, msg: str) -> None:
        if severity <= self.min_severity:
            letter = {Severity.INTERNAL_ERROR: "F", Severity.ERROR: "E", Severity.WARNING: "W", Severity.INFO: "I", Severity.VERBOSE: "V"}[severity]
            print(f"[TRT] [{letter}] {msg}", file=sys.stderr)


def tell(logger: Any, severity: Severity, message: str) -> None:
    """To the script's logger; a script that gave none still sees errors."""
    if logger is not None:
        logger.log(severity, message)
    elif severity <= Severity.ERROR:
        print(f"[TRT] [E] {message}", file=sys.stderr)


def of_bits(name: str, bits: str, **more: int) -> Any:
    """An enumeration whose members count from 0 (TensorRT's flags are shifted by them)."""
    return enum.IntEnum(name, {**{word: i for i, word in enumerate(bits.split())}, **more})


NetworkDefinitionCreationFlag = of_bits("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH STRONGLY_TYPED", EXPLICIT_PRECISION=2, PREFER_AOT_PYTHON_PLUGINS=3)
BuilderFlag = of_bits(
    "BuilderFlag",
    "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS "
    "DIRECT_IO REJECT_EMPTY_ALGORITHMS VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME FP8 ERROR_ON_TIMING_CACHE_MISS BF16 DISABLE_COMPILATION_CACHE STRIP_PLAN WEIGHTLESS REFIT_IDENTICAL "
    "WEIGHT_STREAMING INT4",
)
MemoryPoolType = of_bits("MemoryPoolType", "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM TACTIC_SHARED_MEMORY")
TensorIOMode = of_bits("TensorIOMode", "NONE INPUT OUTPUT")
TensorLocation = of_bits("TensorLocation", "DEVICE HOST")
TensorFormat = of_bits("TensorFormat", "LINEAR CHW2 HWC8 CHW4 CHW16 CHW32 DHWC8 CDHW32 HWC DLA_LINEAR DLA_HWC4 HWC16 DHWC")
ProfilingVerbosity = of_bits("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED", DEFAULT=0, VERBOSE=2)
LayerInformationFormat = of_bits("LayerInformationFormat", "ONELINE JSON")
EngineCapability = of_bits("EngineCapability", "STANDARD SAFETY DLA_STANDALONE", DEFAULT=0, SAFE_GPU=1, SAFE_DLA=2)
DeviceType = of_bits("DeviceType", "GPU DLA")
TacticSource = of_bits("TacticSource", "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS")
HardwareCompatibilityLevel = of_bits("HardwareCompatibilityLevel", "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY")
PreviewFeature = of_bits(
    "PreviewFeature", "FASTER_DYNAMIC_SHAPES_0805 DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805 PROFILE_SHARING_0806 ALIASED_PLUGIN_IO_10_03"
)
ExecutionContextAllocationStrategy = of_bits("ExecutionContextAllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED")
OnnxParserFlag = of_bits("OnnxParserFlag", "NATIVE_INSTANCENORM ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA REPORT_CAPABILITY_DLA")
ErrorCode = of_bits(
    "ErrorCode",
    "SUCCESS INTERNAL_ERROR MEM_ALLOC_FAILED MODEL_DESERIALIZE_FAILED INVALID_VALUE INVALID_GRAPH INVALID_NODE UNSUPPORTED_GRAPH UNSUPPORTED_NODE",
)
CalibrationAlgoType = of_bits("CalibrationAlgoType", "LEGACY_CALIBRATION ENTROPY_CALIBRATION ENTROPY_CALIBRATION_2 MINMAX_CALIBRATION")


class IHostMemory(bytes):
    """A serialised engine; anything that takes a buffer takes it."""

    @property
    def nbytes(self) -> int:
        return len(self)

    @property
    def dtype(self) -> DataType:
        return DataType.INT8


class IProfiler:
    """Derive from it and write report_layer_time(layer_name, ms)."""

    def __init__(self) -> None:
        pass

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError("a profiler derived from IProfiler has a method report_layer_time(layer_name, ms)")


class Profiler(IProfiler):
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        print(f"{layer_name}: {ms:.6f}ms")


class IOutputAllocator:
    """Derive from it and write reallocate_output(tensor_name, memory, size, alignment) and notify_shape(tensor_name, shape)."""

    def __init__(self) -> None:
        pass


class _Derivable:
    """For scripts that declare such a class, wherever they use it or not."""

    def __init__(self, *_: Any) -> None:
        pass


class IInt8Calibrator(_Derivable):
    pass


class IInt8LegacyCalibrator(IInt8Calibrator):
    pass


class IInt8EntropyCalibrator(IInt8Calibrator):
    pass


class IInt8EntropyCalibrator2(IInt8Calibrator):
    pass


class IInt8MinMaxCalibrator(IInt8Calibrator):
    pass


class IErrorRecorder(_Derivable):
    pass


class IGpuAllocator(_Derivable):
    pass


class IProgressMonitor(_Derivable):
    pass


class PluginRegistry:
    """Lathe has operators instead of plugins (`lathe ops`)."""

    plugin_creator_list: tuple[Any, ...] = ()
    all_creators: tuple[Any, ...] = ()
    error_recorder = None

    def get_plugin_creator(self, *_: Any) -> None:
        return None

    get_creator = get_plugin_creator


def init_libnvinfer_plugins(logger: Any = None, namespace: str = "") -> bool:
    """Nothing is to be loaded: what Lathe runs is built in."""
    return True


def get_plugin_registry() -> PluginRegistry:
    return PluginRegistry()
