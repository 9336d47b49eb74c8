# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""IExecutionContext: a run on addresses, given by number (execute*, *_v2) or by name (*_v3). Every address is held against the memory that is known, with
the bytes that the shape needs, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import lathe
from lathe.compat.machine import machine, storage
from lathe.compat.tensorrt.engine import ICudaEngine, Tensor, require
from lathe.compat.tensorrt.types import Dims, Guarded, Severity, TensorIOMode, tell, volume


class IExecutionContext(Guarded):
    debug_sync = False
    nvtx_verbosity = 0
    persistent_cache_limit = 0
    enqueue_emits_profile = True
    temporary_allocator: Any = None
    error_recorder: Any = None
    name = ""
    profiler: Any = None
    device_memory = 0

    def __init__(self, engine: ICudaEngine):
        self._engine, self._logger = engine, engine._logger
        self._context = engine._engine.create_context()
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}  # of inputs with free extents, as the engine counts axes
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._consumed: Any = None
        self._told = False

    engine = property(lambda self: self._engine)

    def _fail(self, message: str) -> bool:
        tell(self._logger, Severity.ERROR, message)
        return False

    # Shapes --------------------------------------------------------------------------------------------------------

    def _shape_of(self, tensor: Tensor) -> tuple[int, ...]:
        """As known so far; -1 where not."""
        if tensor.is_input:
            return self._shapes.get(tensor.name, tensor.shape)
        if -1 not in tensor.shape or self._missing():
            return tensor.shape
        return self._prepared()[tensor.name]

    def _missing(self) -> list[str]:
        return [tensor.name for tensor in self._engine._tensors if tensor.is_input and -1 in self._shape_of(tensor)]

    def _prepared(self) -> dict[str, tuple[int, ...]]:
        return self._context.prepare({tensor.name: self._shape_of(tensor) for tensor in self._engine._tensors if tensor.is_input})

    def _set_shape(self, tensor: Tensor, shape: Sequence[int], profile: int) -> bool:
        wanted = tuple(int(extent) for extent in shape)
        if not tensor.is_input:
            return self._fail(f"'{tensor.name}' is an output: its shape follows from the inputs'")
        if len(wanted) != len(tensor.shape):
            return self._fail(f"input '{tensor.name}' has {len(tensor.shape)} axes, the given shape {wanted} has {len(wanted)}")
        low, _, high = self._engine._range(tensor, profile)
        for axis, extent in enumerate(wanted):
            if tensor.shape[axis] not in (-1, extent):
                return self._fail(f"input '{tensor.name}' has extent {tensor.shape[axis]} on axis {axis} in the engine, {extent} in the given shape {wanted}")
            if not low[axis] <= extent <= high[axis]:
                return self._fail(f"input '{tensor.name}', axis {axis}: {extent} is outside of the profile, {low[axis]} to {high[axis]}")
        self._shapes[tensor.name] = wanted
        return True

    def set_binding_shape(self, binding: int, shape: Sequence[int]) -> bool:
        tensor, profile = self._engine._at(binding)
        if self._engine._implicit:
            return self._fail("the engine has an implicit batch: its shapes are fixed, and execute() is given the batch size")
        if profile != self._profile:
            return self._fail(f"binding {binding} belongs to profile {profile}, and profile {self._profile} is active")
        return self._set_shape(tensor, shape, profile)

    def get_binding_shape(self, binding: int) -> Dims:
        return self._engine._shown(self._shape_of(self._engine._at(binding)[0]))

    def set_shape_input(self, binding: int, shape: Sequence[int]) -> bool:
        return self._fail("the engine has no shape inputs: values are read at each run, from where the binding points")

    def get_shape(self, binding: int) -> list[int]:
        return []

    def get_strides(self, binding: int) -> Dims:
        return _strides(self.get_binding_shape(binding))

    all_binding_shapes_specified = property(lambda self: self._engine._implicit or not self._missing())
    all_shape_inputs_specified = property(lambda self: True)

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        return self._set_shape(self._engine._named(name), shape, self._profile)

    def get_tensor_shape(self, name: str) -> Dims:
        return self._engine._shown(self._shape_of(self._engine._named(name)))

    def get_tensor_strides(self, name: str) -> Dims:
        return _strides(self.get_tensor_shape(name))

    def infer_shapes(self) -> list[str]:
        """Names of the inputs whose shapes are not set yet."""
        missing = self._missing()
        if not missing:
            self._prepared()
        return missing

    def get_max_output_size(self, name: str) -> int:
        tensor = self._engine._named(name)
        return volume(self._shape_of(tensor)) * tensor.kind.itemsize

    def update_device_memory_size_for_shapes(self) -> int:
        return 0

    # Profiles ------------------------------------------------------------------------------------------------------

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    @active_optimization_profile.setter
    def active_optimization_profile(self, index: int) -> None:
        self._choose_profile(index)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return self._choose_profile(profile_index)

    def _choose_profile(self, index: int) -> bool:
        if not 0 <= index < len(self._engine._profiles):
            return self._fail(f"profile {index} is asked for; the engine has {len(self._engine._profiles)}")
        if index != self._profile:
            self._shapes.clear()
        self._profile = index
        return True

    # Addresses -----------------------------------------------------------------------------------------------------

    def set_tensor_address(self, name: str, memory: Any) -> bool:
        self._addresses[self._engine._named(name).name] = int(memory)
        return True

    def set_input_consumed_event(self, event: int) -> bool:
        self._consumed = int(event)
        return True

    def get_input_consumed_event(self) -> int:
        return self._consumed or 0

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(self._engine._named(name).name, 0)

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self._allocators[self._engine._named(name).name] = output_allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        return self._allocators.get(name)

    def set_device_memory(self, memory: int, size: int) -> None:
        return None

    def set_aux_streams(self, aux_streams: Sequence[int]) -> None:
        return None

    # Running -------------------------------------------------------------------------------------------------------

    def execute(self, batch_size: int = 1, bindings: Sequence[Any] = ()) -> bool:
        return self._by_number(bindings, None, batch_size)

    def execute_async(self, batch_size: int = 1, bindings: Sequence[Any] = (), stream_handle: int = 0, input_consumed: Any = None) -> bool:
        return self._by_number(bindings, int(stream_handle), batch_size)

    def execute_v2(self, bindings: Sequence[Any]) -> bool:
        return self._by_number(bindings, None, None)

    def execute_async_v2(self, bindings: Sequence[Any], stream_handle: int, input_consumed: Any = None) -> bool:
        return self._by_number(bindings, int(stream_handle), None)

    def execute_async_v3(self, stream_handle: int) -> bool:
        tensors = self._engine._tensors
        if self._engine._implicit:
            return self._fail("the engine has an implicit batch: call execute() or execute_async() with the batch size")
        if missing := self._missing():
            return self._fail(f"the shapes of {', '.join(missing)} are not set: call set_input_shape")
        addresses = dict(self._addresses)
        for name, allocator in self._allocators.items():
            tensor = self._engine._named(name)
            if tensor.is_input or allocator is None:
                continue
            shape = self._shape_of(tensor)
            size, current = volume(shape) * tensor.kind.itemsize, addresses.get(name, 0)
            if hasattr(allocator, "reallocate_output_async"):
                memory = allocator.reallocate_output_async(name, current, size, 256, int(stream_handle))
            else:
                memory = allocator.reallocate_output(name, current, size, 256)
            addresses[name] = self._addresses[name] = int(memory or 0)
            allocator.notify_shape(name, Dims(shape))
        absent = [tensor.name for tensor in tensors if not addresses.get(tensor.name)]
        if absent:
            return self._fail(f"no address is set for {', '.join(absent)}: call set_tensor_address")
        return self._run({tensor.name: addresses[tensor.name] for tensor in tensors}, int(stream_handle))

    def _by_number(self, bindings: Sequence[Any], stream: int | None, batch: int | None) -> bool:
        engine = self._engine
        tensors, count = engine._tensors, len(engine._tensors)
        places = count if engine._api._major >= 10 else engine._count
        require(len(bindings) == places, f"{len(bindings)} bindings were given, the engine has {places}: {', '.join(tensor.name for tensor in tensors)}")
        offset = self._profile * count if places > count else 0
        addresses = {tensor.name: _address(bindings[offset + i], tensor.name) for i, tensor in enumerate(tensors)}
        if engine._implicit:
            if batch is None:
                return self._fail("the engine has an implicit batch: call execute() or execute_async() with the batch size")
            return self._run_batch(addresses, stream, int(batch))
        if missing := self._missing():
            return self._fail(f"the shapes of {', '.join(missing)} are not set: call set_binding_shape")
        return self._run(addresses, stream)

    def _run_batch(self, addresses: dict[str, int], stream: int | None, batch: int) -> bool:
        """An implicit batch. Where the model has a batch of its own, fixed, it runs as often as that goes into the one asked for."""
        tensors = self._engine._tensors
        if not 1 <= batch <= self._engine._max_batch:
            return self._fail(f"a batch of {batch} is asked for; the engine was built for 1 to {self._engine._max_batch} (builder.max_batch_size)")
        fixed = {tensor.shape[0] for tensor in tensors if tensor.is_input and tensor.shape[0] >= 0}
        if not fixed:
            self._shapes = {tensor.name: (batch, *tensor.shape[1:]) for tensor in tensors if tensor.is_input}
            return self._run(addresses, stream)
        own = max(fixed)
        if len(fixed) > 1 or batch % own or (batch > own and any(tensor.shape[0] != own for tensor in tensors)):
            return self._fail(
                f"a batch of {batch} is asked for, and the model's own is fixed at {', '.join(map(str, sorted(fixed)))}: export it with a dynamic batch"
            )
        strides = {tensor.name: volume(tensor.shape) * tensor.kind.itemsize for tensor in tensors}
        return all(self._run({name: address + part * strides[name] for name, address in addresses.items()}, stream) for part in range(batch // own))

    def _run(self, addresses: dict[str, int], stream: int | None) -> bool:
        place = machine()
        tensors = self._engine._tensors
        handle = place.run_stream(stream)
        inputs: dict[str, Any] = {}
        outputs: dict[str, Any] = {}
        converted: list[Tensor] = []
        try:
            shapes = self._prepared()
            for tensor in tensors:
                shape = self._shape_of(tensor) if tensor.is_input else shapes[tensor.name]
                what = f"{'input' if tensor.is_input else 'output'} '{tensor.name}' {shape} {tensor.dtype}"
                place.require(addresses[tensor.name], volume(shape) * storage(tensor.dtype).itemsize, what)
                if tensor.dtype == tensor.own:
                    (inputs if tensor.is_input else outputs)[tensor.name] = place.view(addresses[tensor.name], tensor.dtype, shape, what)
                    continue
                # 64-bit tensors of an engine that was built elsewhere: through the host.
                if tensor.is_input:
                    if stream is not None:
                        place.stream_synchronize(stream)
                    inputs[tensor.name] = place.host_copy(addresses[tensor.name], tensor.dtype, shape, what).astype(tensor.own)
                else:
                    outputs[tensor.name] = np.empty(shape, tensor.own)
                    converted.append(tensor)
            if self.profiler is not None:
                self._context.start_profile()
            self._context.run(inputs, outputs, stream=handle)
            if stream is None:
                place.stream_synchronize(0)
            for tensor in converted:
                place.copy_in(addresses[tensor.name], outputs[tensor.name].astype(tensor.dtype))
        except lathe.Error as error:
            return self._fail(str(error))
        if self.profiler is not None:
            for step in self._context.profile():
                self.profiler.report_layer_time(step["label"], step["seconds"] * 1e3)
        if self._consumed:
            place.event_record(self._consumed, stream or 0)
        return True

    def report_to_profiler(self) -> bool:
        return self.profiler is not None

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._engine.get_tensor_mode(name)


def _strides(shape: Dims) -> Dims:
    return Dims(volume(shape[axis + 1 :]) for axis in range(len(shape)))


def _address(binding: Any, name: str) -> int:
    try:
        return int(binding)
    except (TypeError, ValueError):
        raise TypeError(f"the binding of '{name}' is an address, or an allocation that int() turns into one, not {type(binding).__name__}") from None
