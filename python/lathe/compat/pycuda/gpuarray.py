# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""pycuda.gpuarray: arrays in device memory that are made, filled, read back and bound. Arithmetic on them is NumPy's to do."""

from __future__ import annotations

from typing import Any

import numpy as np

from lathe.compat import CompatError
from lathe.compat.pycuda import driver


class GPUArray:
    def __init__(self, shape: Any, dtype: Any = np.float64, allocator: Any = driver.mem_alloc, base: Any = None, gpudata: Any = None, order: str = "C"):
        self.shape = tuple(int(extent) for extent in shape) if hasattr(shape, "__iter__") else (int(shape),)
        self.dtype = np.dtype(dtype)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.mem_size = self.size * self.dtype.itemsize
        self.base, self.allocator = base, allocator
        self.gpudata = gpudata if gpudata is not None else allocator(max(self.nbytes, 1))

    ptr = property(lambda self: int(self.gpudata))
    ndim = property(lambda self: len(self.shape))
    itemsize = property(lambda self: self.dtype.itemsize)

    def __int__(self) -> int:
        return self.ptr

    __index__ = __int__

    def __len__(self) -> int:
        return self.shape[0]

    def set(self, ary: np.ndarray, async_: bool = False, stream: Any = None) -> GPUArray:
        if ary.shape != self.shape or ary.dtype != self.dtype:
            raise ValueError(f"the array is {ary.dtype}{ary.shape}, the GPUArray {self.dtype}{self.shape}")
        driver.memcpy_htod(self.gpudata, np.ascontiguousarray(ary))
        return self

    def set_async(self, ary: np.ndarray, stream: Any = None) -> GPUArray:
        return self.set(ary)

    def get(self, ary: np.ndarray | None = None, pagelocked: bool = False, async_: bool = False, stream: Any = None) -> np.ndarray:
        if ary is None:
            ary = driver.pagelocked_empty(self.shape, self.dtype) if pagelocked else np.empty(self.shape, self.dtype)
        if ary.nbytes != self.nbytes:
            raise ValueError(f"the array has {ary.nbytes} bytes, the GPUArray {self.nbytes}")
        if stream is not None:
            driver.memcpy_dtoh_async(ary, self.gpudata, stream)
        else:
            driver.memcpy_dtoh(ary, self.gpudata)
        return ary

    def get_async(self, stream: Any = None, ary: np.ndarray | None = None) -> np.ndarray:
        return self.get(ary, stream=stream)

    def fill(self, value: Any, stream: Any = None) -> GPUArray:
        return self.set(np.full(self.shape, value, self.dtype))

    def copy(self) -> GPUArray:
        other = GPUArray(self.shape, self.dtype)
        driver.memcpy_dtod(other.gpudata, self.gpudata, self.nbytes)
        return other

    def reshape(self, *shape: Any) -> GPUArray:
        wanted = np.empty(self.shape, np.bool_).reshape(*shape).shape
        return GPUArray(wanted, self.dtype, base=self, gpudata=self.gpudata)

    def ravel(self) -> GPUArray:
        return self.reshape(self.size)

    def astype(self, dtype: Any) -> GPUArray:
        return to_gpu(self.get().astype(dtype))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"GPUArray.{name} is not in Lathe's pycuda: get() the array and go on in NumPy.")

    def _no_arithmetic(self, *_: Any) -> Any:
        raise CompatError("arithmetic on GPUArrays is not in Lathe's pycuda: get() the array and go on in NumPy.")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __getitem__ = _no_arithmetic

    def __repr__(self) -> str:
        return repr(self.get())


def to_gpu(ary: np.ndarray, allocator: Any = driver.mem_alloc) -> GPUArray:
    return GPUArray(ary.shape, ary.dtype, allocator).set(ary)


def to_gpu_async(ary: np.ndarray, allocator: Any = driver.mem_alloc, stream: Any = None) -> GPUArray:
    return to_gpu(ary, allocator)


def empty(shape: Any, dtype: Any = np.float64, allocator: Any = driver.mem_alloc, order: str = "C") -> GPUArray:
    return GPUArray(shape, dtype, allocator)


def zeros(shape: Any, dtype: Any = np.float64, allocator: Any = driver.mem_alloc, order: str = "C") -> GPUArray:
    return GPUArray(shape, dtype, allocator).fill(0)


def ones(shape: Any, dtype: Any = np.float64, allocator: Any = driver.mem_alloc, order: str = "C") -> GPUArray:
    return GPUArray(shape, dtype, allocator).fill(1)


def empty_like(other: Any) -> GPUArray:
    return GPUArray(other.shape, other.dtype)


def zeros_like(other: Any) -> GPUArray:
    return zeros(other.shape, other.dtype)
