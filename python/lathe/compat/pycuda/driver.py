# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""pycuda.driver on lathe.compat.machine: wrong addresses, sizes and lifetimes raise LogicError, no memory MemoryError, as there."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from typing import Any

import numpy as np

from lathe.compat.books import BadAddress
from lathe.compat.machine import gpu_count, machine


class Error(Exception):
    """Base of what this module raises."""


class LogicError(Error):
    """A call that was wrong."""


class LaunchError(Error):
    """Work on the device failed."""


class RuntimeError(Error, RuntimeError):  # noqa: A001  PyCUDA's own name
    """The driver failed."""


class MemoryError(Error, MemoryError):  # noqa: A001  PyCUDA's own name
    """No memory is left on the device."""


@contextlib.contextmanager
def _named(call: str) -> Iterator[None]:
    try:
        yield
    except BadAddress as error:
        kind = MemoryError if error.kind == "out of memory" else LogicError
        raise kind(f"{call} failed: {error.kind}: {error}") from None


def init(flags: int = 0) -> None:
    return None


def get_version() -> tuple[int, int, int]:
    return (12, 0, 0)


def get_driver_version() -> int:
    return 12000


# Devices and contexts ---------------------------------------------------------------------------------------------


class device_attribute(enum.IntEnum):
    MULTIPROCESSOR_COUNT, COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 16, 75, 76


class Device:
    def __init__(self, number: int = 0):
        if not 0 <= int(number) < Device.count():
            raise LogicError(f"cuDeviceGet failed: invalid device ordinal: device {number} is asked for, there are {Device.count()}")
        self._number = int(number)

    @staticmethod
    def count() -> int:
        """The CPU counts as one device where it takes the place of a GPU."""
        return max(gpu_count(), 1)

    def name(self) -> str:
        return machine().title

    def compute_capability(self) -> tuple[int, int]:
        return tuple(machine().compute_capability)

    def total_memory(self) -> int:
        return machine().memory()[1]

    def get_attribute(self, attribute: int) -> int:
        major, minor = machine().compute_capability
        known = {16: machine().gpu.multiprocessors if machine().gpu else 1, 75: major, 76: minor}
        if int(attribute) not in known:
            raise LogicError(f"cuDeviceGetAttribute: attribute {attribute} is not told here")
        return known[int(attribute)]

    def pci_bus_id(self) -> str:
        return f"0000:{self._number:02x}:00.0"

    def make_context(self, flags: int = 0) -> Context:
        place = machine()
        if place.gpu is not None and place.gpu.ordinal != self._number:
            raise LogicError(f"a process works on one device here, which is {place.name}: run it with `lathe python SCRIPT --device cuda:{self._number}`")
        context = Context(self)
        context.push()
        return context

    def retain_primary_context(self) -> Context:
        return Context(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self._number == other._number

    def __hash__(self) -> int:
        return self._number


class Context:
    """Memory lies in the device's primary context whichever is current: contexts are counted so that push and pop stay in step."""

    _stack: list[Context] = []

    def __init__(self, device: Device):
        self._device = device

    def push(self) -> None:
        Context._stack.append(self)

    @staticmethod
    def pop() -> None:
        if not Context._stack:
            raise LogicError("context::pop failed: invalid device context: cannot pop a context that is not current")
        Context._stack.pop()

    def detach(self) -> None:
        if self in Context._stack:
            Context._stack.remove(self)

    @staticmethod
    def get_device() -> Device:
        return Context._stack[-1]._device if Context._stack else Device(0)

    @staticmethod
    def get_current() -> Context | None:
        return Context._stack[-1] if Context._stack else None

    @staticmethod
    def synchronize() -> None:
        with _named("cuCtxSynchronize"):
            machine().synchronize()

    @staticmethod
    def set_limit(limit: int, value: int) -> None:
        return None


class ctx_flags(enum.IntFlag):
    SCHED_AUTO, SCHED_SPIN, SCHED_YIELD, SCHED_BLOCKING_SYNC, MAP_HOST, LMEM_RESIZE_TO_MAX = 0, 1, 2, 4, 8, 16


# Streams and events -----------------------------------------------------------------------------------------------


class Stream:
    def __init__(self, flags: int = 0):
        with _named("cuStreamCreate"):
            self._handle = machine().stream_create()

    @property
    def handle(self) -> int:
        return self._handle

    @property
    def cuda_stream(self) -> int:
        return self._handle

    ptr = handle

    def synchronize(self) -> None:
        with _named("cuStreamSynchronize"):
            machine().stream_synchronize(self._handle)

    def wait_for_event(self, event: Event) -> None:
        with _named("cuStreamWaitEvent"):
            machine().stream_wait(self._handle, event._handle)

    def is_done(self) -> bool:
        self.synchronize()
        return True

    def __int__(self) -> int:
        return self._handle

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            machine().stream_destroy(self._handle)


def _handle(stream: Any) -> int:
    return 0 if stream is None else stream if isinstance(stream, int) else stream.handle


class event_flags(enum.IntFlag):
    DEFAULT, BLOCKING_SYNC, DISABLE_TIMING, INTERPROCESS = 0, 1, 2, 4


class Event:
    def __init__(self, flags: int = 0):
        self._recorded = False
        with _named("cuEventCreate"):
            self._handle = machine().event_create()

    handle = property(lambda self: self._handle)

    def record(self, stream: Any = None) -> Event:
        with _named("cuEventRecord"):
            machine().event_record(self._handle, _handle(stream))
        self._recorded = True
        return self

    def synchronize(self) -> Event:
        with _named("cuEventSynchronize"):
            machine().event_synchronize(self._handle)
        return self

    def query(self) -> bool:
        self.synchronize()
        return True

    def time_since(self, start: Event) -> float:
        """Milliseconds."""
        for event in (start, self):
            if not event._recorded:
                raise LogicError("cuEventElapsedTime failed: invalid resource handle: the event was not recorded")
        self.synchronize()
        with _named("cuEventElapsedTime"):
            return machine().event_elapsed(start._handle, self._handle)

    def time_till(self, end: Event) -> float:
        return end.time_since(self)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            machine().event_destroy(self._handle)


# Memory -----------------------------------------------------------------------------------------------------------


class DeviceAllocation:
    """Device memory; int() is its address. It goes with the object, or by free()."""

    def __init__(self, nbytes: int):
        self._address = 0
        with _named("cuMemAlloc"):
            self._address = machine().allocate(int(nbytes))
        self._nbytes = int(nbytes)

    def free(self) -> None:
        address, self._address = self._address, 0
        if address == 0:
            raise LogicError("DeviceAllocation.free failed: invalid argument: the memory was freed already")
        with _named("cuMemFree"):
            machine().free(address)

    def as_buffer(self, size: int, offset: int = 0) -> memoryview:
        place = machine()
        if place.gpu is not None:
            raise LogicError("as_buffer: a GPU's memory is no buffer of the host's")
        return memoryview(place.bytes_at(int(self) + offset, size, "the buffer"))

    def __int__(self) -> int:
        if self._address == 0:
            raise LogicError("the device memory was freed and is used again")
        return self._address

    __index__ = __int__

    def __add__(self, offset: int) -> int:
        return int(self) + int(offset)

    __radd__ = __add__

    def __hash__(self) -> int:
        return hash(self._address)

    def __eq__(self, other: object) -> bool:
        return int(self) == int(other) if hasattr(other, "__int__") else NotImplemented

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            if self._address:
                self.free()


class PooledDeviceAllocation(DeviceAllocation):
    pass


def mem_alloc(bytes: int) -> DeviceAllocation:
    if isinstance(bytes, (float, np.floating)):
        raise TypeError(f"mem_alloc takes a number of bytes, a whole one: {bytes!r}")
    return DeviceAllocation(int(bytes))


def mem_alloc_pitch(width: int, height: int, access_size: int) -> tuple[DeviceAllocation, int]:
    pitch = -(-int(width) // 256) * 256
    return DeviceAllocation(pitch * int(height)), pitch


def mem_alloc_like(ary: np.ndarray) -> DeviceAllocation:
    return DeviceAllocation(ary.nbytes)


def mem_get_info() -> tuple[int, int]:
    return machine().memory()


class host_alloc_flags(enum.IntFlag):
    PORTABLE, DEVICEMAP, WRITECOMBINED = 1, 2, 4


class mem_attach_flags(enum.IntFlag):
    GLOBAL, HOST, SINGLE = 1, 2, 4


def pagelocked_empty(shape: Any, dtype: Any = float, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    extents = tuple(int(extent) for extent in shape) if hasattr(shape, "__iter__") else (int(shape),)
    kind = np.dtype(dtype)
    with _named("cuMemHostAlloc"):
        room = machine().pinned(int(np.prod(extents, dtype=np.int64)) * kind.itemsize)
    return room.view(kind).reshape(extents, order=order)


def pagelocked_zeros(shape: Any, dtype: Any = float, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    array = pagelocked_empty(shape, dtype, order, mem_flags)
    array.fill(0)
    return array


def pagelocked_empty_like(array: np.ndarray, mem_flags: int = 0) -> np.ndarray:
    return pagelocked_empty(array.shape, array.dtype, "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C", mem_flags)


def pagelocked_zeros_like(array: np.ndarray, mem_flags: int = 0) -> np.ndarray:
    out = pagelocked_empty_like(array, mem_flags)
    out.fill(0)
    return out


aligned_empty, aligned_zeros = pagelocked_empty, pagelocked_zeros


def register_host_memory(ary: np.ndarray, flags: int = 0) -> np.ndarray:
    return ary


def memcpy_htod(dest: Any, src: Any) -> None:
    with _named("cuMemcpyHtoD"):
        machine().copy_in(int(dest), src)


def memcpy_htod_async(dest: Any, src: Any, stream: Any = None) -> None:
    with _named("cuMemcpyHtoDAsync"):
        machine().copy_in(int(dest), src, _handle(stream))


def memcpy_dtoh(dest: Any, src: Any) -> None:
    with _named("cuMemcpyDtoH"):
        machine().copy_out(dest, int(src))


def memcpy_dtoh_async(dest: Any, src: Any, stream: Any = None) -> None:
    with _named("cuMemcpyDtoHAsync"):
        machine().copy_out(dest, int(src), _handle(stream))


def memcpy_dtod(dest: Any, src: Any, size: int) -> None:
    with _named("cuMemcpyDtoD"):
        machine().copy_within(int(dest), int(src), int(size))


def memcpy_dtod_async(dest: Any, src: Any, size: int, stream: Any = None) -> None:
    with _named("cuMemcpyDtoDAsync"):
        machine().copy_within(int(dest), int(src), int(size), _handle(stream))


def memset_d8(dest: Any, data: int, count: int) -> None:
    with _named("cuMemsetD8"):
        machine().fill(int(dest), int(data), int(count))


def _memset(dest: Any, kind: Any, data: int, count: int, stream: Any) -> None:
    with _named("cuMemset"):
        machine().copy_in(int(dest), np.full(int(count), data, kind), None if stream is None else _handle(stream))


def memset_d16(dest: Any, data: int, count: int) -> None:
    _memset(dest, np.uint16, data, count, None)


def memset_d32(dest: Any, data: int, count: int) -> None:
    _memset(dest, np.uint32, data, count, None)


def memset_d8_async(dest: Any, data: int, count: int, stream: Any = None) -> None:
    with _named("cuMemsetD8Async"):
        machine().fill(int(dest), int(data), int(count), _handle(stream))


def memset_d32_async(dest: Any, data: int, count: int, stream: Any = None) -> None:
    _memset(dest, np.uint32, data, count, stream or 0)


def to_device(bf_obj: Any) -> DeviceAllocation:
    array = np.ascontiguousarray(bf_obj)
    memory = mem_alloc(array.nbytes)
    memcpy_htod(memory, array)
    return memory


def from_device(devptr: Any, shape: Any, dtype: Any, order: str = "C") -> np.ndarray:
    array = np.empty(shape, dtype, order)
    memcpy_dtoh(array, devptr)
    return array


def from_device_like(devptr: Any, other_ary: np.ndarray) -> np.ndarray:
    array = np.empty_like(other_ary)
    memcpy_dtoh(array, devptr)
    return array


class In:
    """For kernels, which are not compiled here."""

    def __init__(self, array: np.ndarray):
        self.array = array


class Out(In):
    pass


class InOut(In):
    pass
