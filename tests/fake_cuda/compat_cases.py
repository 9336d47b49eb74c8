# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""lathe.compat on a GPU, with the driver that runs nothing and checks every call: addresses, streams, copies and lifetimes. Run by
tests/test_device_arrays.py in a process of its own, where LATHE_CUDA_DRIVER names that driver."""

import ctypes
import gc
import os

import numpy as np
import pytest

import models
from lathe import compat
from lathe.compat import cuda_python
from lathe.compat.machine import machine
from lathe.compat.pycuda import driver as cuda
from lathe.compat.pycuda import gpuarray
from lathe.compat.tensorrt import api

compat.settings.budget, compat.settings.cache, compat.settings.verify = 0, False, False
X = np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32)

driver = ctypes.CDLL(os.environ["LATHE_CUDA_DRIVER"])
driver.fake_cuda_violations.restype = ctypes.c_char_p
for name in ("fake_cuda_launched_with", "fake_cuda_calls"):
    getattr(driver, name).restype = ctypes.c_size_t


def calls(what):
    return driver.fake_cuda_calls(what.encode())


class Live(ctypes.Structure):
    _fields_ = [
        (n, ctypes.c_size_t)
        for n in ("bytes", "blocks", "pinned_blocks", "streams", "events", "modules", "graphs", "contexts", "launches", "graph_launches", "captured")
    ]


driver.fake_cuda_count.restype = Live


@pytest.fixture(autouse=True)
def right_calls():
    driver.fake_cuda_reset()
    yield
    assert driver.fake_cuda_violations() == b""


class Log:
    def __init__(self):
        self.lines = []

    def log(self, severity, message):
        self.lines.append((severity.name, message))


@pytest.fixture(scope="module", params=[8, 10])
def engine(request):
    trt, log = api(request.param), Log()
    builder = trt.Builder(log)
    network = builder.create_network(1)
    assert trt.OnnxParser(network, log).parse(models.relu_add().SerializeToString())
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.FP16)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, log.lines
    assert not any("FP16" in message for _, message in log.lines) and builder.platform_has_fast_fp16
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    assert engine._engine.device.startswith("cuda")
    return trt, engine


def test_runs_go_to_the_addresses_on_the_stream(engine):
    trt, engine = engine
    assert machine().name == "cuda:0"
    context, stream = engine.create_execution_context(), cuda.Stream()
    x, y = cuda.mem_alloc(X.nbytes), cuda.mem_alloc(X.nbytes)
    host = cuda.pagelocked_empty(X.shape, np.float32)
    np.copyto(host, X)
    context.set_input_shape("x", X.shape)
    assert context.execute_v2([int(x), int(y)])  # the first run of a shape binds and uploads
    assert driver.fake_cuda_launched_with(ctypes.c_ulonglong(int(x))) and driver.fake_cuda_launched_with(ctypes.c_ulonglong(int(y)))
    driver.fake_cuda_reset()
    cuda.memcpy_htod_async(x, host, stream)
    waits = calls("cuStreamSynchronize")
    if trt._major == 8:
        assert context.set_binding_shape(0, X.shape) and context.execute_async_v2([int(x), int(y)], stream.handle)
    else:
        assert context.set_input_shape("x", X.shape)
        assert context.set_tensor_address("x", int(x)) and context.set_tensor_address("y", int(y)) and context.execute_async_v3(stream.handle)
    assert calls("cuStreamSynchronize") == waits, "nothing waits for an asynchronous run"
    assert calls("cuMemcpyHtoDAsync") == 1 and calls("cuMemcpyDtoDAsync") == 0
    cuda.memcpy_dtoh_async(host, y, stream)
    stream.synchronize()
    assert calls("cuMemcpyDtoHAsync") == 1
    assert context.execute_v2([int(x), int(y)]) and calls("cuStreamSynchronize") > waits + 1


def test_wrong_addresses_never_reach_the_driver(engine):
    trt, engine = engine
    context = engine.create_execution_context()
    context.set_input_shape("x", X.shape)
    x, small, freed = cuda.to_device(X), cuda.mem_alloc(X.nbytes - 4), cuda.mem_alloc(X.nbytes)
    gone = int(freed)
    freed.free()
    driver.fake_cuda_reset()
    for y, words in [(int(small), "ends after 28"), (gone, "freed"), (0, "null")]:
        with pytest.raises(compat.CompatError, match=words):
            context.execute_v2([int(x), y])
    assert driver.fake_cuda_count().launches == 0
    # Memory that nobody here made: the driver knows it or does not.
    assert context.execute_v2([int(x), X.ctypes.data]) is False
    assert "knows no such memory" in engine._logger.lines[-1][1]
    other = ctypes.c_uint64()
    handle = ctypes.c_void_p()
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(handle), 7) == 0 and driver.cuCtxPushCurrent_v2(handle) == 0
    assert driver.cuMemAlloc_v2(ctypes.byref(other), ctypes.c_size_t(X.nbytes)) == 0
    assert context.execute_v2([int(x), other.value]) is True
    driver.cuMemFree_v2(other)
    driver.cuCtxPopCurrent_v2(ctypes.byref(handle))
    driver.cuDevicePrimaryCtxRelease_v2(7)


def test_memory_and_copies():
    gc.collect()
    before = driver.fake_cuda_count()
    array = np.arange(8, dtype=np.float32)
    one, other, stream = cuda.to_device(array), cuda.mem_alloc(array.nbytes), cuda.Stream()
    cuda.memcpy_dtod_async(other, one, array.nbytes, stream)
    back = np.zeros_like(array)
    cuda.memcpy_dtoh_async(back, other, stream)
    stream.synchronize()
    np.testing.assert_array_equal(back, array)
    cuda.memset_d8(one, 0, 4)
    assert cuda.from_device(one, 2, np.float32).tolist() == [0, 1]
    with pytest.raises(cuda.LogicError, match="ends after 32"):
        cuda.memcpy_htod(one, np.zeros(9, np.float32))
    with pytest.raises(cuda.MemoryError, match="out of memory"):
        cuda.mem_alloc(1 << 40)
    start, end = cuda.Event().record(stream), cuda.Event().record(stream)
    assert start.time_till(end) >= 0
    cuda.memcpy_htod_async(one, array, stream)
    waits = calls("cuStreamSynchronize")
    cuda.Context.synchronize()
    assert calls("cuStreamSynchronize") >= waits + 2 and not machine().under_way
    free, total = cuda.mem_get_info()
    assert 0 < free < total and cuda.Device(0).compute_capability() == (9, 0) and cuda.Device.count() == 1 and cuda.Device(0).name()
    locked = cuda.pagelocked_empty((2, 3), np.int32)
    assert driver.fake_cuda_count().pinned_blocks == before.pinned_blocks + 1 and locked.shape == (2, 3)
    assert gpuarray.to_gpu(array).get().tolist() == array.tolist()
    error, address = cuda_python.cudaMalloc(16)
    assert error == 0 and cuda_python.cudaMemcpy(address, array[:4], 16, 1) == (0,) and cuda_python.cudaFree(address) == (0,)
    del one, other, stream, start, end, locked
    gc.collect()
    after = driver.fake_cuda_count()
    assert [after.blocks, after.pinned_blocks, after.streams, after.events] == [before.blocks, before.pinned_blocks, before.streams, before.events]


def test_64_bits_go_through_the_host():
    """An engine with an int64 output under version 8, which has no such type."""
    import lathe

    trt, log = api(8), Log()
    built = lathe.build(models.two_in_two_out(), device="cuda", budget=0, cache=False, verify=False)
    engine = trt.Runtime(log).deserialize_cuda_engine(built.to_bytes())
    context = engine.create_execution_context()
    left = np.ones((2, 3), np.float32)
    memory = {"left": cuda.to_device(left), "right": cuda.to_device(left), "sum/out:0": cuda.mem_alloc(24), "index": cuda.mem_alloc(8)}
    for name in ("left", "right"):
        context.set_input_shape(name, (2, 3))
    for name, address in memory.items():
        context.set_tensor_address(name, int(address))
    assert engine.get_tensor_dtype("index") == trt.int32 and context.execute_async_v3(cuda.Stream().handle), log.lines
