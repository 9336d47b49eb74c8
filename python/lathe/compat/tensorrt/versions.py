# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What each major version of TensorRT has. Everything is written once, for all; this table takes away what a version no longer has or has not yet, so that
scripts that look (hasattr, __version__) see the version that they asked for, and others are told what to use instead."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

from lathe import compat
from lathe.compat.tensorrt import builder, context, engine, network
from lathe.compat.tensorrt import types as basic

VERSIONS = {7: "7.2.3.4", 8: "8.6.1", 10: "10.9.0"}

# Class, attributes, first and last major version that has them, and what to use where it has not.
TABLE = [
    ("Builder", "fp16_mode int8_mode strict_type_constraints debug_sync average_find_iterations min_find_iterations", 7, 7, "config.set_flag(trt.BuilderFlag.FP16), and the like"),
    ("Builder", "max_workspace_size", 7, 7, "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)"),
    ("Builder", "build_cuda_engine", 7, 7, "build_serialized_network(network, config) and Runtime.deserialize_cuda_engine"),
    ("Builder", "build_engine", 7, 8, "build_serialized_network(network, config) and Runtime.deserialize_cuda_engine"),
    ("Builder", "max_batch_size", 7, 8, "an optimization profile: config.add_optimization_profile"),
    ("Builder", "int8_calibrator", 7, 7, "config.int8_calibrator"),
    ("Builder", "build_serialized_network", 8, 10, "build_engine(network, config), then engine.serialize()"),
    ("Builder", "build_engine_with_config", 10, 10, "build_engine(network, config)"),
    ("IBuilderConfig", "max_workspace_size", 7, 8, "set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)"),
    ("IBuilderConfig", "min_timing_iterations", 7, 8, "avg_timing_iterations"),
    ("IBuilderConfig", "set_memory_pool_limit get_memory_pool_limit", 8, 10, "config.max_workspace_size = size"),
    ("IBuilderConfig", "builder_optimization_level hardware_compatibility_level max_aux_streams set_preview_feature get_preview_feature", 8, 10, "nothing: it came with TensorRT 8"),
    ("IBuilderConfig", "progress_monitor max_num_tactics tiling_optimization_level runtime_platform l2_limit_for_tiling", 10, 10, "nothing: it came with TensorRT 10"),
    ("INetworkDefinition", "has_implicit_batch_dimension has_explicit_precision", 7, 8, "nothing: every batch is explicit"),
    ("ICudaEngine", "num_bindings", 7, 8, "num_io_tensors"),
    ("ICudaEngine", "get_binding_name", 7, 8, "get_tensor_name(index)"),
    ("ICudaEngine", "get_binding_index", 7, 8, "the tensor's name"),
    ("ICudaEngine", "get_binding_shape", 7, 8, "get_tensor_shape(name)"),
    ("ICudaEngine", "get_binding_dtype", 7, 8, "get_tensor_dtype(name)"),
    ("ICudaEngine", "binding_is_input", 7, 8, "get_tensor_mode(name) == trt.TensorIOMode.INPUT"),
    ("ICudaEngine", "is_shape_binding is_execution_binding", 7, 8, "is_shape_inference_io(name)"),
    ("ICudaEngine", "get_location", 7, 8, "get_tensor_location(name)"),
    ("ICudaEngine", "get_binding_format get_binding_format_desc", 7, 8, "get_tensor_format(name)"),
    ("ICudaEngine", "get_binding_vectorized_dim get_binding_bytes_per_component get_binding_components_per_element", 7, 8, "the get_tensor_... of the same name"),
    ("ICudaEngine", "get_profile_shape get_profile_shape_input", 7, 8, "get_tensor_profile_shape(name, profile)"),
    ("ICudaEngine", "max_batch_size has_implicit_batch_dimension", 7, 8, "the first extent of get_tensor_shape(name)"),
    ("ICudaEngine", "max_workspace_size", 7, 7, "device_memory_size"),
    ("ICudaEngine", "num_io_tensors", 8, 10, "num_bindings"),
    ("ICudaEngine", "get_tensor_name get_tensor_shape get_tensor_dtype get_tensor_mode get_tensor_location get_tensor_format get_tensor_format_desc "
                    "get_tensor_vectorized_dim get_tensor_bytes_per_component get_tensor_components_per_element is_shape_inference_io "
                    "get_tensor_profile_shape", 8, 10, "the get_binding_... of the same name"),
    ("ICudaEngine", "create_engine_inspector profiling_verbosity tactic_sources num_aux_streams hardware_compatibility_level", 8, 10, "nothing: it came with TensorRT 8"),
    ("ICudaEngine", "device_memory_size_v2 create_serialization_config serialize_with_config get_device_memory_size_for_profile weight_streaming_budget "
                    "weight_streaming_budget_v2", 10, 10, "nothing: it came with TensorRT 10"),
    ("IExecutionContext", "execute", 7, 8, "execute_v2(bindings) or execute_async_v3(stream)"),
    ("IExecutionContext", "execute_async execute_async_v2", 7, 8, "set_tensor_address(name, address) for each tensor, then execute_async_v3(stream)"),
    ("IExecutionContext", "set_binding_shape", 7, 8, "set_input_shape(name, shape)"),
    ("IExecutionContext", "get_binding_shape", 7, 8, "get_tensor_shape(name)"),
    ("IExecutionContext", "get_strides", 7, 8, "get_tensor_strides(name)"),
    ("IExecutionContext", "set_shape_input get_shape all_shape_inputs_specified", 7, 8, "set_tensor_address(name, address)"),
    ("IExecutionContext", "all_binding_shapes_specified", 7, 8, "infer_shapes()"),
    ("IExecutionContext", "execute_async_v3 set_tensor_address get_tensor_address", 8, 10, "execute_async_v2(bindings, stream)"),
    ("IExecutionContext", "set_input_shape", 8, 10, "set_binding_shape(index, shape)"),
    ("IExecutionContext", "get_tensor_shape get_tensor_strides infer_shapes get_max_output_size", 8, 10, "get_binding_shape(index)"),
    ("IExecutionContext", "set_output_allocator get_output_allocator set_input_consumed_event get_input_consumed_event temporary_allocator nvtx_verbosity "
                          "persistent_cache_limit enqueue_emits_profile report_to_profiler set_aux_streams", 8, 10, "nothing: it came with TensorRT 8"),
    ("IExecutionContext", "set_device_memory update_device_memory_size_for_shapes", 10, 10, "nothing: it came with TensorRT 10"),
    ("Runtime", "engine_host_code_allowed temporary_directory tempfile_control_flags max_threads get_plugin_registry", 8, 10, "nothing: it came with TensorRT 8"),
    ("OnnxParser", "set_flag clear_flag get_flag flags", 8, 10, "nothing: it came with TensorRT 8"),
    ("OnnxParser", "parse_with_weight_descriptors", 8, 10, "parse(bytes)"),
]  # fmt: skip

# Names of the module: (first, last, instead).
MODULE_TABLE = {
    "MemoryPoolType": (8, 10, "config.max_workspace_size"), "TensorIOMode": (8, 10, "engine.binding_is_input(index)"),
    "HardwareCompatibilityLevel": (8, 10, "nothing: it came with TensorRT 8"), "PreviewFeature": (8, 10, "nothing: it came with TensorRT 8"),
    "LayerInformationFormat": (8, 10, "nothing: it came with TensorRT 8"), "EngineInspector": (8, 10, "nothing: it came with TensorRT 8"),
    "IOutputAllocator": (8, 10, "nothing: it came with TensorRT 8"), "ITimingCache": (8, 10, "nothing: it came with TensorRT 8"),
    "OnnxParserFlag": (8, 10, "nothing: it came with TensorRT 8"), "TacticSource": (7, 10, ""),
    "ExecutionContextAllocationStrategy": (10, 10, "create_execution_context_without_device_memory"),
    "IProgressMonitor": (10, 10, "nothing: it came with TensorRT 10"),
    "uint8": (8, 10, "trt.int8"), "fp8": (8, 10, "trt.float16"), "bfloat16": (10, 10, "trt.float16"), "int64": (10, 10, "trt.int32"),
}  # fmt: skip

# Enumerations that lose members.
ENUM_TABLE = [
    ("DataType", "UINT8 FP8", 8, 10), ("DataType", "BF16 INT64 INT4", 10, 10),
    ("BuilderFlag", "STRICT_TYPES", 7, 8), ("BuilderFlag", "BF16 INT4 STRIP_PLAN WEIGHT_STREAMING REFIT_IDENTICAL WEIGHTLESS", 10, 10),
    ("BuilderFlag", "SPARSE_WEIGHTS SAFETY_SCOPE OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS FP8 VERSION_COMPATIBLE", 8, 10),
    ("NetworkDefinitionCreationFlag", "EXPLICIT_PRECISION", 7, 8), ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED PREFER_AOT_PYTHON_PLUGINS", 10, 10),
]  # fmt: skip

# What is asked for in old scripts and has no counterpart.
ABSENT = {
    "UffParser": "UFF went with TensorRT 9, and Lathe reads ONNX: convert the model with tf2onnx.",
    "CaffeParser": "Lathe reads ONNX: convert the Caffe model to it.",
    "Refitter": "engines are not refitted: build again, which takes seconds from the tuning cache.",
    "IPluginV2": "Lathe has no plugins; `lathe ops` lists the operators that are built in.",
    "IPluginV2DynamicExt": "Lathe has no plugins; `lathe ops` lists the operators that are built in.",
    "IPluginV3": "Lathe has no plugins; `lathe ops` lists the operators that are built in.",
    "PluginField": "Lathe has no plugins; `lathe ops` lists the operators that are built in.",
}

ALIASES = {
    "float32": basic.DataType.FLOAT, "float16": basic.DataType.HALF, "int8": basic.DataType.INT8, "int32": basic.DataType.INT32, "bool": basic.DataType.BOOL,
    "uint8": basic.DataType.UINT8, "fp8": basic.DataType.FP8, "bfloat16": basic.DataType.BF16, "int64": basic.DataType.INT64,
}  # fmt: skip


class Gone:
    """An attribute that this version has not."""

    def __init__(self, text: str):
        self.text = text

    def __get__(self, *_: Any) -> Any:
        raise AttributeError(self.text)

    def __set__(self, *_: Any) -> None:
        raise AttributeError(self.text)


def _missing(owner: str, name: str, major: int, first: int, last: int, instead: str) -> str:
    when = f"is not in TensorRT {major} yet (it came with {first})" if major < first else f"is no more in TensorRT {major}"
    use = "" if instead.startswith("nothing") or not instead else f" Use {instead}."
    other = f" To run a script of another version: lathe python SCRIPT --tensorrt {first if major < first else last}"
    return f"{owner}.{name} {when}.{use}{other}"


def _no_setter(name: str) -> property:
    def refuse(self: Any, _: Any) -> None:
        raise AttributeError(f"{name} is read-only in this version of TensorRT: use set_optimization_profile_async(index, stream)")

    return property(lambda self: self._profile, refuse)


class Api(types.ModuleType):
    """The module `tensorrt` of one version."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        major = self.__dict__["_major"]
        if name in ABSENT:
            raise AttributeError(f"tensorrt.{name}: {ABSENT[name]}")
        if name in MODULE_TABLE:
            raise AttributeError(_missing("tensorrt", name, major, *MODULE_TABLE[name]))
        raise AttributeError(f"lathe.compat.tensorrt has no '{name}': docs/migrate.md of Lathe lists what there is.")


@functools.cache
def api(major: int) -> Api:
    if major not in compat.MAJORS:
        raise compat.CompatError(f"TensorRT {major} is not emulated: 7, 8 and 10 are")
    module = Api("tensorrt", f"TensorRT {major}'s API on Lathe's engines; see lathe.compat.tensorrt.")
    module._major = major
    module.__version__ = VERSIONS[major]
    module.__path__ = []  # a package, for `import tensorrt.something` to fail plainly
    classes = [
        member for part in (network, builder, engine, context) for _, member in inspect.getmembers(part, inspect.isclass) if member.__module__ == part.__name__
    ]
    for cls in classes:
        fields: dict[str, Any] = {"__module__": "tensorrt", "__doc__": cls.__doc__, "_api": module}
        for owner, names, first, last, instead in TABLE:
            if owner == cls.__name__ and not first <= major <= last:
                fields.update({name: Gone(_missing(owner, name, major, first, last, instead)) for name in names.split()})
        if cls.__name__ == "IExecutionContext" and major >= 10:
            fields["active_optimization_profile"] = _no_setter("active_optimization_profile")
        setattr(module, cls.__name__, type(cls.__name__, (cls,), fields))
    for name, member in inspect.getmembers(basic):
        own = getattr(member, "__module__", "") == basic.__name__ and (inspect.isclass(member) or inspect.isfunction(member))
        if own and not name.startswith("_") and name not in ("Guarded", "tell", "of_bits"):
            setattr(module, name, member)
    for name in ("NetworkDefinitionCreationFlag", "BuilderFlag", "MemoryPoolType", "TensorIOMode", "TensorLocation", "TensorFormat", "ProfilingVerbosity",
                 "LayerInformationFormat", "EngineCapability", "DeviceType", "TacticSource", "HardwareCompatibilityLevel", "PreviewFeature",
                 "ExecutionContextAllocationStrategy", "OnnxParserFlag", "ErrorCode", "CalibrationAlgoType"):  # fmt: skip
        setattr(module, name, getattr(basic, name))
    for name, members, first, last in ENUM_TABLE:
        if not first <= major <= last:
            setattr(module, name, _without(getattr(module, name), members.split(), major, first, last))
    for name, kind in ALIASES.items():
        setattr(module, name, kind)
    for name, (first, last, _) in MODULE_TABLE.items():
        if not first <= major <= last:
            module.__dict__.pop(name, None)
    return module


class _Fewer:
    """An enumeration less what a version has not. Its members are the whole one's, so that they mean the same everywhere."""

    def __init__(self, whole: Any, hidden: dict[str, str]):
        self._whole, self._hidden = whole, hidden
        self.__name__, self.__doc__ = whole.__name__, whole.__doc__

    def __getattr__(self, name: str) -> Any:
        if name in self._hidden:
            raise AttributeError(self._hidden[name])
        return getattr(self._whole, name)

    def __getitem__(self, name: str) -> Any:
        if name in self._hidden:
            raise KeyError(self._hidden[name])
        return self._whole[name]

    def __call__(self, value: Any) -> Any:
        return self._whole(value)

    def __iter__(self) -> Any:
        return (member for member in self._whole if member.name not in self._hidden)

    def __contains__(self, value: Any) -> bool:
        return value in self._whole

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, self._whole)

    @property
    def __members__(self) -> dict[str, Any]:
        return {name: member for name, member in self._whole.__members__.items() if name not in self._hidden}


def _without(whole: Any, names: list[str], major: int, first: int, last: int) -> _Fewer:
    hidden = {name: _missing(f"trt.{whole.__name__}", name, major, first, last, "") for name in names}
    if isinstance(whole, _Fewer):
        return _Fewer(whole._whole, {**whole._hidden, **hidden})
    return _Fewer(whole, hidden)
