# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Where scripts' "device" is: a GPU, or the host's memory. One small interface under tensorrt, pycuda and cuda_python, which keeps the books of every
allocation, so that an address, a size or a lifetime that is wrong becomes an error on the CPU and, for memory made here, on a GPU too."""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
import time
from typing import Any

import numpy as np

import lathe
from lathe import _lathe, compat
from lathe.compat.books import BadAddress, Block, Books, host_bytes, mapped

ALIGNMENT = 256  # the driver's


class Machine:
    """What both places share: the books of device memory and of page-locked host memory, streams' and events' numbers."""

    name = ""
    gpu: Any = None

    def __init__(self) -> None:
        self.device, self.pinned_blocks = Books("device memory"), Books("page-locked memory")

    def require(self, address: int, nbytes: int, what: str) -> None:
        self.device.require(int(address), int(nbytes), what, foreign=self.gpu is not None)

    def host_at(self, address: int, nbytes: int, writable: bool, what: str) -> memoryview:
        """Host memory by its address: page-locked memory made here, or anything that the process owns."""
        if nbytes == 0:
            return memoryview(bytearray())
        if self.device.find(address) is not None:
            raise BadAddress(f"{what} is 0x{address:x}, which is device memory, and the call says that it is the host's")
        if self.pinned_blocks.find(address) is not None:  # what was freed may be another array's by now
            self.pinned_blocks.require(address, nbytes, what, foreign=False)
        elif not mapped(address, nbytes, writable):
            raise BadAddress(f"{what} is 0x{address:x}, and {nbytes} bytes from there on are not memory of this process")
        return memoryview((ctypes.c_ubyte * nbytes).from_address(address)).cast("B")

    def pin(self, array: np.ndarray) -> np.ndarray:
        """Notes page-locked memory that lives as long as a script wants (cudaMallocHost)."""
        self.pinned_blocks.add(Block(array.ctypes.data, array.nbytes, array))
        return array

    def unpin(self, address: int) -> None:
        self.pinned_blocks.remove(address)

    def free(self, address: int) -> None:
        self.device.remove(int(address))


class CpuMachine(Machine):
    """Device memory is host memory; streams finish their work at once."""

    name = "cpu"
    compute_capability = (0, 0)

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count(0x10)
        self.streams: set[int] = set()
        self.events: dict[int, float | None] = {}

    @property
    def title(self) -> str:
        return "CPU (Lathe)"

    def allocate(self, nbytes: int) -> int:
        if nbytes <= 0:
            raise BadAddress(f"{nbytes} bytes cannot be allocated")
        try:
            room = np.empty(nbytes + ALIGNMENT, np.uint8)
        except (MemoryError, ValueError):
            raise BadAddress(f"{nbytes} bytes are more than there is memory", "out of memory") from None
        address = -(-room.ctypes.data // ALIGNMENT) * ALIGNMENT
        self.device.add(Block(address, nbytes, room))
        return address

    def memory(self) -> tuple[int, int]:
        free = total = 0
        try:
            with open("/proc/meminfo") as file:
                kib = {line.split(":")[0]: int(line.split()[1]) for line in file if ":" in line}
            free, total = kib.get("MemAvailable", 0) * 1024, kib.get("MemTotal", 0) * 1024
        except (OSError, ValueError, IndexError):
            pass
        return free, total

    def pinned(self, nbytes: int) -> np.ndarray:
        return np.empty(nbytes, np.uint8)

    def bytes_at(self, address: int, nbytes: int, what: str) -> np.ndarray:
        """A view that keeps the memory, whatever a script frees meanwhile."""
        room = self.device.require(int(address), int(nbytes), what, foreign=False).owner
        start = int(address) - room.ctypes.data
        return room[start : start + nbytes]

    def copy_in(self, to: int, buffer: Any, stream: int | None = None) -> None:
        self.require_stream(stream)
        source = host_bytes(buffer, False, "the source")
        self.bytes_at(to, source.nbytes, "the destination")[:] = np.frombuffer(source, np.uint8)

    def copy_out(self, buffer: Any, from_: int, stream: int | None = None) -> None:
        self.require_stream(stream)
        target = host_bytes(buffer, True, "the destination")
        np.frombuffer(target, np.uint8)[:] = self.bytes_at(from_, target.nbytes, "the source")

    def copy_within(self, to: int, from_: int, nbytes: int, stream: int | None = None) -> None:
        self.require_stream(stream)
        self.bytes_at(to, nbytes, "the destination")[:] = self.bytes_at(from_, nbytes, "the source").copy()

    def fill(self, to: int, value: int, nbytes: int, stream: int | None = None) -> None:
        self.require_stream(stream)
        self.bytes_at(to, nbytes, "the destination")[:] = value

    def view(self, address: int, dtype: str, shape: tuple[int, ...], what: str) -> np.ndarray:
        """What Context.run takes for device memory. bfloat16 and 8-bit floats go as their bits."""
        kind = storage(dtype)
        return self.bytes_at(address, int(np.prod(shape, dtype=np.int64)) * kind.itemsize, what).view(kind).reshape(shape)

    def host_copy(self, address: int, dtype: str, shape: tuple[int, ...], what: str) -> np.ndarray:
        return self.view(address, dtype, shape, what).copy()

    def require_stream(self, stream: int | None) -> None:
        if stream not in self.streams and stream not in (None, 0, 1, 2):
            raise BadAddress(f"{stream} is no stream that lives", "invalid resource handle")

    def run_stream(self, stream: int | None) -> Any:
        self.require_stream(stream)
        return None

    def stream_create(self) -> int:
        stream = next(self.numbers)
        self.streams.add(stream)
        return stream

    def stream_destroy(self, stream: int) -> None:
        self.require_stream(stream)
        self.streams.discard(stream)

    def stream_synchronize(self, stream: int) -> None:
        self.require_stream(stream)

    def synchronize(self) -> None:
        return None

    def stream_wait(self, stream: int, event: int) -> None:
        self.require_stream(stream)
        self.require_event(event)

    def require_event(self, event: int) -> None:
        if event not in self.events:
            raise BadAddress(f"{event} is no event that lives", "invalid resource handle")

    def event_create(self) -> int:
        event = next(self.numbers)
        self.events[event] = None
        return event

    def event_destroy(self, event: int) -> None:
        self.require_event(event)
        del self.events[event]

    def event_record(self, event: int, stream: int = 0) -> None:
        self.require_stream(stream)
        self.require_event(event)
        self.events[event] = time.perf_counter()

    def event_synchronize(self, event: int) -> None:
        self.require_event(event)

    def event_elapsed(self, start: int, end: int) -> float:
        self.require_event(start)
        self.require_event(end)
        if self.events[start] is None or self.events[end] is None:
            raise BadAddress("the time between two events is asked for, and one was not recorded", "invalid resource handle")
        return (self.events[end] - self.events[start]) * 1e3


class OnGpu:
    """Dense elements in a GPU's memory, as Context.run takes them."""

    def __init__(self, address: int, dtype: str, shape: tuple[int, ...]):
        self.__cuda_array_interface__ = {"shape": shape, "typestr": storage(dtype).str, "data": (address, False), "version": 2}


class GpuMachine(Machine):
    """The driver's memory. What it is asked to copy asynchronously is kept until the stream was waited for."""

    def __init__(self, ordinal: int):
        super().__init__()
        self.gpu = _lathe.Gpu(ordinal)
        self.name = f"cuda:{ordinal}"
        self.title, self.compute_capability = self.gpu.name, self.gpu.compute_capability
        self.streams: set[int] = set()
        self.under_way: dict[int, list[Any]] = {}

    def allocate(self, nbytes: int) -> int:
        if nbytes <= 0:
            raise BadAddress(f"{nbytes} bytes cannot be allocated")
        address = self.asked(self.gpu.allocate, nbytes)
        self.device.add(Block(address, nbytes, None))
        return address

    def free(self, address: int) -> None:
        super().free(address)
        self.asked(self.gpu.release, int(address))

    def memory(self) -> tuple[int, int]:
        return self.asked(lambda: self.gpu.memory)

    def pinned(self, nbytes: int) -> np.ndarray:
        return self.asked(self.gpu.pinned, nbytes)

    def copy_in(self, to: int, buffer: Any, stream: int | None = None) -> None:
        source = host_bytes(buffer, False, "the source")
        self.require(to, source.nbytes, "the destination")
        if source.nbytes:
            self.asked(self.gpu.copy_in, to, source, stream or 0)
        self.keep(stream, source)

    def copy_out(self, buffer: Any, from_: int, stream: int | None = None) -> None:
        target = host_bytes(buffer, True, "the destination")
        self.require(from_, target.nbytes, "the source")
        if target.nbytes:
            self.asked(self.gpu.copy_out, target, from_, stream or 0)
        self.keep(stream, target)

    def copy_within(self, to: int, from_: int, nbytes: int, stream: int | None = None) -> None:
        self.require(to, nbytes, "the destination")
        self.require(from_, nbytes, "the source")
        self.asked(self.gpu.copy_within, to, from_, nbytes, stream or 0)

    def fill(self, to: int, value: int, nbytes: int, stream: int | None = None) -> None:
        self.require(to, nbytes, "the destination")
        self.asked(self.gpu.fill, to, value, nbytes, stream or 0)

    def keep(self, stream: int | None, buffer: memoryview) -> None:
        """Without a stream the call waits for the copy."""
        if stream is None:
            self.stream_synchronize(0)
        else:
            self.under_way.setdefault(stream, []).append(buffer)
            if len(self.under_way[stream]) > 1024:  # a script that waits in ways of its own
                self.stream_synchronize(stream)

    def view(self, address: int, dtype: str, shape: tuple[int, ...], what: str) -> OnGpu:
        self.require(address, int(np.prod(shape, dtype=np.int64)) * storage(dtype).itemsize, what)
        return OnGpu(address, dtype, shape)

    def host_copy(self, address: int, dtype: str, shape: tuple[int, ...], what: str) -> np.ndarray:
        array = np.empty(shape, storage(dtype))
        self.copy_out(array, address)
        return array

    def run_stream(self, stream: int | None) -> Any:
        """Without one the default stream, which is in order with what a script put on its own."""
        return stream or 0

    def stream_create(self) -> int:
        stream = self.asked(self.gpu.stream_create)
        self.streams.add(stream)
        return stream

    def stream_destroy(self, stream: int) -> None:
        if self.under_way.get(stream):
            self.stream_synchronize(stream)
        self.streams.discard(stream)
        self.asked(self.gpu.stream_destroy, stream)

    def synchronize(self) -> None:
        """Whatever was put on a stream that was made here, or on the default one."""
        for stream in [*self.streams, 0]:
            self.stream_synchronize(stream)

    def stream_synchronize(self, stream: int) -> None:
        self.asked(self.gpu.stream_synchronize, stream)
        self.under_way.pop(stream, None)

    def stream_wait(self, stream: int, event: int) -> None:
        self.asked(self.gpu.stream_wait, stream, event)

    def event_create(self) -> int:
        return self.asked(self.gpu.event_create)

    def event_destroy(self, event: int) -> None:
        self.asked(self.gpu.event_destroy, event)

    def event_record(self, event: int, stream: int = 0) -> None:
        self.asked(self.gpu.event_record, event, stream)

    def event_synchronize(self, event: int) -> None:
        self.asked(self.gpu.event_synchronize, event)

    def event_elapsed(self, start: int, end: int) -> float:
        return self.asked(self.gpu.event_elapsed, start, end)

    def asked(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except lathe.Error as error:
            raise BadAddress(str(error), "out of memory" if error.code == "out_of_memory" else "invalid argument") from None


def storage(dtype: str) -> np.dtype:
    """NumPy's type, or the bits' for types that it has not."""
    if dtype == "bfloat16":
        return np.dtype(np.uint16)
    return np.dtype(np.uint8 if dtype.startswith("float8") else dtype)


_lock = threading.Lock()
_machine: Machine | None = None


def gpu_count() -> int:
    return 0 if compat.settings.device == "cpu" else _lathe.gpus()[0]


def machine() -> Machine:
    """The place of this process, chosen at the first use; a machine without a GPU says so once."""
    global _machine
    with _lock:
        if _machine is None:
            device = compat.settings.device
            count, why = (0, "") if device == "cpu" else _lathe.gpus()
            if device == "cpu" or (not device and count == 0):
                _machine = CpuMachine()
                reason = "as asked for" if device else f"no GPU is usable here ({why.rstrip('.')})"
                print(f"lathe: {reason}: tensorrt and pycuda run on the CPU, with its memory as device memory.", file=sys.stderr)
            else:
                _machine = GpuMachine(int(device.partition(":")[2] or 0))
        return _machine
