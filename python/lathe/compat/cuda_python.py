# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The part of cuda-python that TensorRT's samples use: `from cuda import cudart, cuda`, `cuda.bindings.runtime` and `.driver`. Calls return
(error, result...) and raise nothing, as there; what was wrong is written to stderr once more in words."""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Callable
from typing import Any

from lathe.compat.books import BadAddress, host_bytes
from lathe.compat.machine import gpu_count, machine


class cudaError_t(enum.IntEnum):
    cudaSuccess, cudaErrorInvalidValue, cudaErrorMemoryAllocation, cudaErrorInvalidDevice, cudaErrorInvalidResourceHandle = 0, 1, 2, 101, 400


class CUresult(enum.IntEnum):
    CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_HANDLE = 0, 1, 2, 101, 400


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault = range(5)


class CUstream(int):
    def getPtr(self) -> int:
        return int(self)


class CUevent(CUstream):
    pass


class CUdeviceptr(CUstream):
    pass


class cudaDeviceProp:
    def __init__(self) -> None:
        place = machine()
        self.name = place.title.encode()
        self.major, self.minor = place.compute_capability
        self.totalGlobalMem = place.memory()[1]
        self.multiProcessorCount = place.gpu.multiprocessors if place.gpu else 1


def _answers(errors: Any) -> Callable[[Callable[..., Any]], Callable[..., tuple[Any, ...]]]:
    """The function's result behind an error code of `errors`."""
    codes = {"out of memory": 2, "invalid resource handle": 400, "invalid device": 101}

    def wrap(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        def call(*arguments: Any, **named: Any) -> tuple[Any, ...]:
            try:
                result = function(*arguments, **named)
            except BadAddress as error:
                print(f"{function.__name__}: {error}", file=sys.stderr)
                return (errors(codes.get(error.kind, 1)), *[None] * (function.__annotations__.get("return") != "None"))
            return (errors(0), *([] if result is None else [result]))

        call.__name__, call.__doc__ = function.__name__, function.__doc__
        return call

    return wrap


_runtime, _driver = _answers(cudaError_t), _answers(CUresult)


def _copy(dst: Any, src: Any, count: int, kind: int, stream: int | None) -> None:
    place = machine()
    to_device = kind in (1, 3) or (kind == 4 and isinstance(dst, int) and place.device.find(int(dst)) is not None)
    from_device = kind in (2, 3) or (kind == 4 and isinstance(src, int) and place.device.find(int(src)) is not None)

    def host(buffer: Any, writable: bool, what: str) -> Any:
        if isinstance(buffer, int):
            if kind == 4:  # whose it is would be a guess
                place.pinned_blocks.require(int(buffer), count, what, foreign=False)
            return place.host_at(int(buffer), count, writable, what)
        view = host_bytes(buffer, writable, what)
        if count > view.nbytes:
            raise BadAddress(f"{what} has {view.nbytes} bytes, {count} are to be copied")
        return view[:count]

    if to_device and from_device:
        place.copy_within(int(dst), int(src), count, stream)
    elif to_device:
        place.copy_in(int(dst), host(src, False, "the source"), stream)
    elif from_device:
        place.copy_out(host(dst, True, "the destination"), int(src), stream)
    else:
        host(dst, True, "the destination")[:] = host(src, False, "the source")


# The runtime's functions ------------------------------------------------------------------------------------------


@_runtime
def cudaMalloc(size: int) -> int:
    return machine().allocate(int(size))


@_runtime
def cudaMallocAsync(size: int, hStream: int) -> int:
    return machine().allocate(int(size))


@_runtime
def cudaFree(devPtr: int) -> None:
    if int(devPtr):
        machine().free(int(devPtr))


@_runtime
def cudaFreeAsync(devPtr: int, hStream: int) -> None:
    if int(devPtr):
        machine().stream_synchronize(int(hStream))
        machine().free(int(devPtr))


@_runtime
def cudaMallocHost(size: int) -> int:
    return machine().pin(machine().pinned(int(size))).ctypes.data


@_runtime
def cudaHostAlloc(size: int, flags: int) -> int:
    return machine().pin(machine().pinned(int(size))).ctypes.data


@_runtime
def cudaFreeHost(ptr: int) -> None:
    if int(ptr):
        machine().unpin(int(ptr))


@_runtime
def cudaMemcpy(dst: Any, src: Any, count: int, kind: int) -> None:
    _copy(dst, src, int(count), int(kind), None)


@_runtime
def cudaMemcpyAsync(dst: Any, src: Any, count: int, kind: int, stream: int = 0) -> None:
    _copy(dst, src, int(count), int(kind), int(stream))


@_runtime
def cudaMemset(devPtr: int, value: int, count: int) -> None:
    machine().fill(int(devPtr), int(value) & 255, int(count))


@_runtime
def cudaMemsetAsync(devPtr: int, value: int, count: int, stream: int = 0) -> None:
    machine().fill(int(devPtr), int(value) & 255, int(count), int(stream))


@_runtime
def cudaStreamCreate() -> int:
    return CUstream(machine().stream_create())


@_runtime
def cudaStreamCreateWithFlags(flags: int) -> int:
    return CUstream(machine().stream_create())


@_runtime
def cudaStreamCreateWithPriority(flags: int, priority: int) -> int:
    return CUstream(machine().stream_create())


@_runtime
def cudaStreamDestroy(stream: int) -> None:
    machine().stream_destroy(int(stream))


@_runtime
def cudaStreamSynchronize(stream: int) -> None:
    machine().stream_synchronize(int(stream))


@_runtime
def cudaStreamWaitEvent(stream: int, event: int, flags: int = 0) -> None:
    machine().stream_wait(int(stream), int(event))


@_runtime
def cudaEventCreate() -> int:
    return CUevent(machine().event_create())


@_runtime
def cudaEventCreateWithFlags(flags: int) -> int:
    return CUevent(machine().event_create())


@_runtime
def cudaEventDestroy(event: int) -> None:
    machine().event_destroy(int(event))


@_runtime
def cudaEventRecord(event: int, stream: int = 0) -> None:
    machine().event_record(int(event), int(stream))


@_runtime
def cudaEventSynchronize(event: int) -> None:
    machine().event_synchronize(int(event))


@_runtime
def cudaEventElapsedTime(start: int, end: int) -> float:
    return machine().event_elapsed(int(start), int(end))


@_runtime
def cudaDeviceSynchronize() -> None:
    machine().synchronize()


@_runtime
def cudaGetDeviceCount() -> int:
    return max(gpu_count(), 1)


@_runtime
def cudaGetDevice() -> int:
    return machine().gpu.ordinal if machine().gpu else 0


@_runtime
def cudaSetDevice(device: int) -> None:
    here = machine().gpu.ordinal if machine().gpu else 0
    if int(device) != here:
        raise BadAddress(f"a process works on one device here, {machine().name}: run it with `lathe python SCRIPT --device cuda:{device}`", "invalid device")


@_runtime
def cudaGetDeviceProperties(device: int) -> cudaDeviceProp:
    return cudaDeviceProp()


@_runtime
def cudaMemGetInfo() -> tuple[int, int]:
    return machine().memory()


def _two(function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    def call() -> tuple[Any, ...]:
        error, pair = function()
        return (error, *pair)

    return call


def _error_text(error: int) -> tuple[Any, bytes]:
    return cudaError_t.cudaSuccess, cudaError_t(error).name.encode()


def _last_error() -> tuple[Any]:
    return (cudaError_t.cudaSuccess,)


# The driver's -----------------------------------------------------------------------------------------------------


@_driver
def cuInit(flags: int) -> None:
    return None


@_driver
def cuDeviceGet(ordinal: int) -> int:
    return int(ordinal)


@_driver
def cuDeviceGetCount() -> int:
    return max(gpu_count(), 1)


@_driver
def cuCtxCreate(flags: int, device: int) -> int:
    return 1


@_driver
def cuCtxDestroy(context: int) -> None:
    return None


@_driver
def cuCtxSynchronize() -> None:
    machine().synchronize()


@_driver
def cuMemAlloc(size: int) -> int:
    return CUdeviceptr(machine().allocate(int(size)))


@_driver
def cuMemFree(pointer: int) -> None:
    machine().free(int(pointer))


@_driver
def cuMemcpyHtoD(dst: int, src: Any, count: int) -> None:
    _copy(int(dst), src, int(count), 1, None)


@_driver
def cuMemcpyHtoDAsync(dst: int, src: Any, count: int, stream: int) -> None:
    _copy(int(dst), src, int(count), 1, int(stream))


@_driver
def cuMemcpyDtoH(dst: Any, src: int, count: int) -> None:
    _copy(dst, int(src), int(count), 2, None)


@_driver
def cuMemcpyDtoHAsync(dst: Any, src: int, count: int, stream: int) -> None:
    _copy(dst, int(src), int(count), 2, int(stream))


@_driver
def cuStreamCreate(flags: int) -> int:
    return CUstream(machine().stream_create())


@_driver
def cuStreamSynchronize(stream: int) -> None:
    machine().stream_synchronize(int(stream))


@_driver
def cuStreamDestroy(stream: int) -> None:
    machine().stream_destroy(int(stream))


def modules() -> dict[str, types.ModuleType]:
    """`cuda` and its modules, old names and new ones."""
    here = globals()

    def made(name: str, prefix: str, *more: str) -> types.ModuleType:
        module = types.ModuleType(name, "A part of cuda-python, on Lathe: see lathe.compat.cuda_python.")
        for word, value in here.items():
            if (word.startswith(prefix) and word[len(prefix) : len(prefix) + 1].isupper()) or word in more:
                setattr(module, word, value)
        return module

    runtime = made("cuda.cudart", "cuda", "cudaError_t", "cudaMemcpyKind", "cudaDeviceProp")
    runtime.cudaMemGetInfo = _two(cudaMemGetInfo)
    runtime.cudaGetErrorString = runtime.cudaGetErrorName = _error_text
    runtime.cudaGetLastError = runtime.cudaPeekAtLastError = _last_error
    runtime.cudaStream_t, runtime.cudaEvent_t = CUstream, CUevent
    runtime.cudaStreamNonBlocking, runtime.cudaStreamDefault, runtime.cudaEventDefault, runtime.cudaHostAllocDefault = 1, 0, 0, 0
    driver = made("cuda.cuda", "cu", "CUresult", "CUstream", "CUevent", "CUdeviceptr")
    top, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    for package in (top, bindings):
        package.__path__ = []
    top.cudart, top.cuda, top.bindings = runtime, driver, bindings
    bindings.runtime, bindings.driver = runtime, driver
    return {
        "cuda": top,
        "cuda.cudart": runtime,
        "cuda.cuda": driver,
        "cuda.bindings": bindings,
        "cuda.bindings.runtime": runtime,
        "cuda.bindings.driver": driver,
    }
