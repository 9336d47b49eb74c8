# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Arrays on a GPU through the Python package, with the driver that runs nothing and checks every call. Run by tests/test_device_arrays.py in a process
of its own, where LATHE_CUDA_DRIVER names that driver. The tensors of other libraries are imitated."""

import ctypes
import gc
import os
import threading

import numpy as np
import pytest

import lathe
import models

QUICK = {"budget": 0, "cache": False, "verify": False}
X = np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32)

driver = ctypes.CDLL(os.environ["LATHE_CUDA_DRIVER"])
driver.fake_cuda_violations.restype = ctypes.c_char_p
for name in ("fake_cuda_launched_with", "fake_cuda_waits", "fake_cuda_calls"):
    getattr(driver, name).restype = ctypes.c_size_t


class Live(ctypes.Structure):
    _fields_ = [
        (n, ctypes.c_size_t)
        for n in ("bytes", "blocks", "pinned_blocks", "streams", "events", "modules", "graphs", "contexts", "launches", "graph_launches", "captured")
    ]


driver.fake_cuda_count.restype = Live
context = ctypes.c_void_p()
assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 7) == 0
assert driver.cuCtxPushCurrent_v2(context) == 0


def live():
    gc.collect()
    return driver.fake_cuda_count()


def calls(what):
    return driver.fake_cuda_calls(what.encode())


def launched_with(pointer):
    return driver.fake_cuda_launched_with(ctypes.c_ulonglong(pointer))


class Memory:
    """Device memory with an array's elements."""

    def __init__(self, array):
        self.pointer, self.bytes = ctypes.c_uint64(), max(array.nbytes, 1)
        assert driver.cuMemAlloc_v2(ctypes.byref(self.pointer), ctypes.c_size_t(self.bytes)) == 0
        flat = np.ascontiguousarray(array)
        if flat.nbytes:
            assert driver.cuMemcpyHtoDAsync_v2(self.pointer, flat.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(flat.nbytes), None) == 0

    def __del__(self):
        driver.cuMemFree_v2(self.pointer)


class DlDevice(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("ordinal", ctypes.c_int32)]


class DlTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", DlDevice),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    ]


class DlManaged(ctypes.Structure):
    pass


Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(DlManaged))
DlManaged._fields_ = [("tensor", DlTensor), ("owner", ctypes.c_void_p), ("deleter", Deleter)]
ctypes.pythonapi.PyCapsule_New.restype = ctypes.py_object
ctypes.pythonapi.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
ctypes.pythonapi.PyCapsule_GetPointer.restype = ctypes.c_void_p
ctypes.pythonapi.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
CODES = {"i": 0, "u": 1, "f": 2, "b": 6}


class Tensor:
    """As PyTorch's: DLPack alone."""

    lent, given_back = 0, 0
    held = {}

    def __init__(self, array, strides=None, place=(2, 0), refuses=None, offset=0):
        self.memory, self.shape, self.dtype = Memory(array), array.shape, array.dtype
        self.strides, self.place, self.refuses, self.offset, self.streams = strides, place, refuses, offset, []

    @property
    def pointer(self):
        return self.memory.pointer.value

    def __dlpack_device__(self):
        return self.place

    def __dlpack__(self, *, stream=None):
        self.streams.append(stream)
        if self.refuses:
            raise BufferError(self.refuses)
        rank = len(self.shape)
        shape, strides = (ctypes.c_int64 * rank)(*self.shape), self.strides and (ctypes.c_int64 * rank)(*self.strides)
        tensor = DlTensor(
            self.pointer - self.offset, DlDevice(*self.place), rank, CODES[self.dtype.kind], self.dtype.itemsize * 8, 1, shape, strides, self.offset
        )

        def give_back(managed):
            Tensor.given_back += 1
            del Tensor.held[ctypes.addressof(managed.contents)]

        managed = DlManaged(tensor, None, Deleter(give_back))
        Tensor.held[ctypes.addressof(managed)] = (managed, shape, strides, self.memory)
        Tensor.lent += 1
        return ctypes.pythonapi.PyCapsule_New(ctypes.addressof(managed), b"dltensor", None)


class Interface:
    """As Numba's: __cuda_array_interface__ alone."""

    def __init__(self, array, **changes):
        self.memory = Memory(array)
        self.fields = {
            "shape": array.shape, "typestr": array.dtype.str, "data": (self.memory.pointer.value, False), "version": 3, "strides": None, "stream": None, **changes,
        }  # fmt: skip

    @property
    def pointer(self):
        return self.memory.pointer.value

    @property
    def __cuda_array_interface__(self):
        return self.fields


class Buffered(bytearray):
    """As CuPy's: both protocols, and a buffer that says nothing."""

    def __init__(self, array):
        super().__init__(8)
        self.tensor = Tensor(array)
        self.pointer, self.__dlpack__, self.__dlpack_device__ = self.tensor.pointer, self.tensor.__dlpack__, self.tensor.__dlpack_device__
        self.__cuda_array_interface__ = {"shape": array.shape, "typestr": array.dtype.str, "data": (self.pointer, False), "version": 3}


def new_stream():
    handle = ctypes.c_void_p()
    assert driver.cuStreamCreate(ctypes.byref(handle), 1) == 0
    return handle.value


@pytest.fixture(scope="module")
def engine():
    engine = lathe.build(models.relu_add(), device="cuda", **QUICK)
    assert engine.section.startswith("cuda:sm_90"), engine.section
    return engine


@pytest.fixture(autouse=True)
def right_calls():
    driver.fake_cuda_reset()
    yield
    assert driver.fake_cuda_violations() == b""


def test_arrays_of_the_host_come_and_go_as_before(engine):
    out = engine.create_context().run({"x": X})
    assert type(out["y"]) is np.ndarray and out["y"].shape == (2, 4) and out["y"].dtype == np.float32
    assert calls("cuMemcpyHtoDAsync") == 1 and calls("cuMemcpyDtoHAsync") == 1
    target = np.zeros((2, 4), np.float32)
    assert engine.run([X.tolist()], {"y": target})["y"] is target


@pytest.mark.parametrize("kind", [Tensor, Interface, Buffered])
def test_device_arrays_are_read_and_written_where_they_lie(engine, kind):
    x, y = kind(X), kind(X)
    driver.fake_cuda_reset()
    out = engine.create_context().run({"x": x}, outputs={"y": y})
    assert out["y"] is y
    assert launched_with(x.pointer) >= 1 and launched_with(y.pointer) >= 1
    assert calls("cuMemcpyHtoDAsync") == calls("cuMemcpyDtoHAsync") == calls("cuMemcpyDtoDAsync") == 0
    assert calls("cuStreamSynchronize") >= 1  # no stream was given: the run is over
    # One of the two on the host.
    driver.fake_cuda_reset()
    assert isinstance(engine.run([x])["y"], np.ndarray) and calls("cuMemcpyHtoDAsync") == 0
    assert engine.run([X], {"y": y})["y"] is y
    assert not Tensor.held and Tensor.lent == Tensor.given_back


def test_an_offset_counts(engine):
    x = Tensor(X, offset=64)
    engine.create_context().run([x])
    assert launched_with(x.pointer) >= 1


def test_outputs_stay_on_the_device(engine):
    before = live()
    out = engine.create_context().run({"x": Tensor(X)}, device_outputs=True)["y"]
    assert isinstance(out, lathe.DeviceArray)
    assert (out.shape, out.dtype, out.nbytes, out.device, out.__dlpack_device__()) == ((2, 4), "float32", 32, "cuda:0", (2, 0))
    assert repr(out) == "DeviceArray(float32[2, 4] on cuda:0)"
    interface = out.__cuda_array_interface__
    pointer, writable = interface.pop("data")
    assert interface == {"shape": (2, 4), "typestr": "<f4", "strides": None, "version": 3, "stream": None}
    assert launched_with(pointer) >= 1 and writable is False and calls("cuMemcpyDtoHAsync") == 0
    assert driver.cuMemcpyHtoDAsync_v2(ctypes.c_uint64(pointer), X.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(32), None) == 0
    np.testing.assert_array_equal(out.numpy(), X)
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(out)
    # It goes in again as it is.
    driver.fake_cuda_reset()
    engine.run([out])
    assert calls("cuMemcpyHtoDAsync") == 0
    del out
    assert live().bytes <= before.bytes + 4096  # what the engine's own Context keeps


def test_lent_memory_lives_as_long_as_the_borrower():
    engine = lathe.build(models.relu_add(), device="cuda", **QUICK)
    out = engine.run([X], device_outputs=True)["y"]
    pointer = out.__cuda_array_interface__["data"][0]
    capsule, unused = out.__dlpack__(), out.__dlpack__(max_version=(1, 0), dl_device=(2, 0), copy=False)
    managed = ctypes.cast(ctypes.pythonapi.PyCapsule_GetPointer(capsule, b"dltensor"), ctypes.POINTER(DlManaged))
    ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(capsule), ctypes.c_char_p(b"used_dltensor"))
    tensor = managed.contents.tensor
    assert (tensor.data, tensor.device.kind, tensor.device.ordinal, tensor.code, tensor.bits) == (pointer, 2, 0, 2, 32)
    assert [tensor.shape[i] for i in range(2)] == [2, 4] and [tensor.strides[i] for i in range(2)] == [4, 1]
    del out, engine, capsule, unused
    gc.collect()
    scratch = (ctypes.c_float * 8)()
    assert driver.cuMemcpyDtoHAsync_v2(scratch, ctypes.c_uint64(pointer), ctypes.c_size_t(32), None) == 0
    before = live()
    borrower = threading.Thread(target=lambda: managed.contents.deleter(managed))  # a thread of the other library
    borrower.start()
    borrower.join()
    assert live().blocks == before.blocks - 1


def test_dlpack_of_an_output_asks_for_what_it_can_give(engine):
    out = engine.run([X], device_outputs=True)["y"]
    for wrong in ({"dl_device": (1, 0)}, {"dl_device": (2, 1)}, {"copy": True}):
        with pytest.raises(BufferError):
            out.__dlpack__(**wrong)
    with pytest.raises(ValueError, match="0"):
        out.__dlpack__(stream=0)
    with pytest.raises(TypeError):
        out.__dlpack__(stream="legacy")


class TorchStream:
    def __init__(self, handle):
        self.cuda_stream = handle


class CupyStream:
    def __init__(self, handle):
        self.ptr = handle


class ProtocolStream:
    def __init__(self, handle):
        self.handle = handle

    def __cuda_stream__(self):
        return 0, self.handle


@pytest.mark.parametrize("wrap", [int, TorchStream, CupyStream, ProtocolStream])
@pytest.mark.parametrize("default", [False, True])
def test_a_stream_takes_the_run(engine, wrap, default):
    handle = 0 if default else new_stream()
    known_as = 1 if default else handle
    context, x = engine.create_context(), Tensor(X)
    context.run([x], device_outputs=True)  # binds and makes room
    assert x.streams[-1] not in (None, 0, 1, known_as)  # the Context's own
    driver.fake_cuda_reset()
    out = context.run([x], stream=wrap(handle), device_outputs=True)["y"]
    assert x.streams[-1] == known_as
    assert calls("cuStreamSynchronize") == 0, "the call waits for nothing"
    assert out.__cuda_array_interface__["stream"] == known_as
    # Whoever borrows it waits behind the run, unless on its stream or asked not to.
    other = new_stream()
    for stream, waits in ((other, 1), (known_as, 0), (-1, 0)):
        driver.fake_cuda_reset()
        out.__dlpack__(stream=stream)
        assert calls("cuStreamWaitEvent") == waits
    driver.fake_cuda_reset()
    out.__dlpack__()
    assert driver.fake_cuda_waits(ctypes.c_void_p(1)) == (0 if default else 1)  # None is the legacy default stream
    # A run of the same Context on another stream shares the activations: it waits.
    driver.fake_cuda_reset()
    context.run([x], stream=other, device_outputs=True)
    assert driver.fake_cuda_waits(ctypes.c_void_p(other)) == 1
    driver.fake_cuda_reset()
    context.run([x], stream=other, device_outputs=True)
    assert calls("cuStreamWaitEvent") == 0
    out.numpy()
    del context, out
    gc.collect()
    for stream in {other, handle} - {0}:
        assert driver.cuStreamDestroy_v2(ctypes.c_void_p(stream)) == 0


def test_arrays_of_the_host_make_a_run_on_a_stream_wait(engine):
    handle = new_stream()
    assert isinstance(engine.run([X], stream=handle)["y"], np.ndarray)
    assert calls("cuStreamSynchronize") >= 1
    assert driver.cuStreamDestroy_v2(ctypes.c_void_p(handle)) == 0


def test_the_stream_of_the_interface_is_waited_for(engine):
    mine, theirs = new_stream(), new_stream()
    context = engine.create_context()
    context.run([Interface(X)])
    for stream, waits in ((theirs, 1), (mine, 0), (None, 0), (1, 1)):
        x = Interface(X, stream=stream)
        driver.fake_cuda_reset()
        context.run([x], stream=mine, device_outputs=True)
        assert driver.fake_cuda_waits(ctypes.c_void_p(mine)) == waits, stream
    with pytest.raises(lathe.Error, match="stream 0"):
        context.run([Interface(X, stream=0)], stream=mine)
    del context
    gc.collect()
    for stream in (mine, theirs):
        assert driver.cuStreamDestroy_v2(ctypes.c_void_p(stream)) == 0


def test_addresses_that_keep_changing_need_no_graph_each(engine):
    context, kept = engine.create_context(), []
    for i in range(20):
        x = Tensor(X)
        kept.append(x)
        kept.append(context.run([x], device_outputs=True)["y"])
        if i == 8:
            settled = live()
    assert live().graphs == settled.graphs and calls("cuGraphInstantiate") == 5
    assert driver.fake_cuda_count().graph_launches == 15
    # Addresses that come again are used as they are.
    before = calls("cuMemcpyDtoDAsync")
    context.run([kept[0]], outputs={"y": kept[1]})
    assert calls("cuMemcpyDtoDAsync") == before


@pytest.mark.parametrize(
    "given, words",
    [
        (lambda: Tensor(X, strides=(1, 2)), "dense and row-major.*contiguous"),
        (lambda: Interface(X, strides=(4, 8)), "dense and row-major"),
        (lambda: Tensor(X, place=(2, 1)), "lies on cuda:1, and the engine runs on cuda:0"),
        (lambda: Tensor(X, place=(10, 0)), "DLPack's kind 10"),
        (lambda: Tensor(X.astype(np.float64)), "float64, expected float32"),
        (lambda: Tensor(X, refuses="Can't export tensors that require gradient"), "require gradient"),
        (lambda: Interface(X.astype(np.int32)), "int32, expected float32"),
        (lambda: Interface(X, typestr="<M8"), "type that engines do not take"),
        (lambda: Interface(X, mask=object()), "masked"),
        (lambda: Interface(X, data=(0xDEAD00, False)), "knows no such memory"),
        (lambda: Interface(X, shape="nonsense"), "__cuda_array_interface__"),
        (lambda: Interface(X, data=None), "__cuda_array_interface__"),
        (lambda: Tensor(X[:, :3]), "x"),
    ],
)
def test_what_cannot_be_taken_is_one_clear_error(engine, given, words):
    with pytest.raises(lathe.Error, match=words) as caught:
        engine.run({"x": given()})
    assert caught.value.code == "invalid_argument" and "'x'" in str(caught.value)
    engine.run({"x": Tensor(X)})  # the next run is fine


def test_wrong_outputs_and_options(engine):
    x = Tensor(X)
    for output, words in (
        (Tensor(X, strides=(1, 2)), "dense"), (Tensor(X[:1]), "shape 1x4"), (Tensor(X.astype(np.float16)), "float16"),
        (Interface(X, data=(x.pointer, True)), "read-only"), (Tensor(X, place=(2, 3)), "cuda:3"),
    ):  # fmt: skip
        with pytest.raises(lathe.Error, match=words):
            engine.run([x], {"y": output})
    for stream in ("0", object(), -3, True):
        with pytest.raises(lathe.Error, match="a stream is"):
            engine.run([x], stream=stream)
    on_cpu = lathe.build(models.relu_add(), **QUICK)
    with pytest.raises(lathe.Error, match=r"lies on cuda:0, and the engine runs on the CPU.*cpu\(\)"):
        on_cpu.run([x])
    with pytest.raises(lathe.Error, match="stream"):
        on_cpu.run([X], stream=0)
    with pytest.raises(lathe.Error, match="device_outputs"):
        on_cpu.run([X], device_outputs=True)
    np.testing.assert_array_equal(on_cpu.run([X])["y"], models.relu_add_answer(X))


@pytest.fixture(scope="module")
def dynamic():
    engine = lathe.build(models.choice(), device="cuda", **QUICK)
    assert engine.section.startswith("cuda:sm_90"), engine.section
    assert "if " in engine.to_text().lower()
    return engine


FLAG = np.array(True)


def test_outputs_that_data_shape_stay_on_the_device(dynamic):
    before, x = live(), Tensor(X)
    driver.fake_cuda_reset()
    out = dynamic.create_context().run({"x": x, "flag": FLAG}, device_outputs=True)
    assert isinstance(out["y"], lathe.DeviceArray) and out["y"].shape == (2, 4) and out["y"].dtype == "float32"
    assert launched_with(x.pointer) >= 1
    # What is no tensor comes to the host: two arrays of eight numbers.
    assert [a.shape for a in out["both"]] == [(2, 4), (2, 4)] and isinstance(out["both"][0], np.ndarray)
    assert out["y"].numpy().shape == (2, 4)
    assert Tensor.lent == Tensor.given_back
    del out, x
    assert live().bytes <= before.bytes + 4096


def test_outputs_that_data_shape_go_where_they_are_wanted(dynamic):
    x, y, stream = Tensor(X), Tensor(X), new_stream()
    driver.fake_cuda_reset()
    assert dynamic.run([x, FLAG], {"y": y})["y"] is y
    assert calls("cuMemcpyDtoDAsync") >= 1
    host = np.zeros((2, 4), np.float32)
    assert dynamic.run([X, FLAG], {"y": host}, device_outputs=True)["y"] is host
    driver.fake_cuda_reset()
    out = dynamic.run([x, FLAG], stream=stream, device_outputs=True)
    assert isinstance(out["y"], lathe.DeviceArray) and calls("cuStreamSynchronize") >= 2
    assert x.streams[-1] == stream  # what the lender has under way is waited for there


def test_arrays_without_elements_for_what_data_shape(dynamic):
    none = np.zeros((0, 4), np.float32)
    nowhere = Interface(none, data=(0, False))
    assert dynamic.run([none, FLAG], {"y": nowhere})["y"] is nowhere
    assert dynamic.run([Interface(none, data=(0, False)), FLAG], device_outputs=True)["y"].shape == (0, 4)


def test_wrong_arrays_for_what_data_shape(dynamic):
    x = Tensor(X)
    for inputs, outputs, words in (
        ([x, FLAG], {"y": Tensor(X[:1])}, r"output 'y'.*this run makes, float32 2x4"),
        ([x, FLAG], {"y": Tensor(X.astype(np.float16))}, "output 'y'"),
        ([x, FLAG], {"both": Tensor(X)}, "'both'.*which is no tensor"),
        ([Tensor(X.astype(np.float16)), FLAG], None, "input 'x' has type float16, expected float32"),
        ([Tensor(X, place=(2, 3)), FLAG], None, "cuda:3"),
    ):
        with pytest.raises(lathe.Error, match=words):
            dynamic.run(inputs, outputs)
    assert dynamic.run([x, FLAG])["y"].shape == (2, 4)
    context = dynamic.create_context()
    context.run([x, FLAG], device_outputs=True)
    driver.fake_cuda_fail(b"cuMemAlloc", 1, 2)
    with pytest.raises(lathe.Error, match="out of memory"):
        context.run([x, FLAG], device_outputs=True)
    context.run([x, FLAG], device_outputs=True)


def test_extents_of_one_and_none_have_any_strides(engine):
    x = Tensor(X[:1], strides=(77, 1))
    engine.create_context().run([x])
    assert launched_with(x.pointer) >= 1
    empty = engine.run([Tensor(X[:0])], device_outputs=True)["y"]
    assert empty.shape == (0, 4) and empty.numpy().shape == (0, 4) and empty.__cuda_array_interface__["data"][0] == 0


def test_out_of_device_memory_for_an_output(engine):
    context, x = engine.create_context(), Tensor(X)
    context.run([x])
    driver.fake_cuda_fail(b"cuMemAlloc", 1, 2)
    with pytest.raises(lathe.Error, match="out of memory") as caught:
        context.run([x], device_outputs=True)
    assert caught.value.code == "out_of_memory"
    context.run([x], device_outputs=True)


def test_engines_are_loaded_where_they_are_wanted(engine):
    content = engine.to_bytes()
    assert lathe.load(content, device="cuda").section.startswith("cuda:sm_90")
    assert lathe.load(content, device="cuda:0").section.startswith("cuda:sm_90")
    on_cpu = lathe.load(content, device="cpu")
    assert on_cpu.device == "cpu"
    np.testing.assert_array_equal(on_cpu.run([X])["y"], models.relu_add_answer(X))
    with pytest.raises(lathe.Error, match="GPU 4, the driver shows 1") as caught:
        lathe.load(content, device="cuda:4")
    assert caught.value.code == "machine"
    with pytest.raises(lathe.Error, match="no device 'gpu'"):
        lathe.load(content, device="gpu")
    with pytest.raises(lathe.Error, match="no section for a GPU"):
        lathe.load(lathe.build(models.relu_add(), **QUICK).to_bytes(), device="cuda")
    with pytest.raises(lathe.Error, match="no device cuda:4"):
        lathe.build(models.relu_add(), device="cuda:4", **QUICK)


def test_steps_are_timed_in_a_graph(engine):
    context = engine.create_context()
    x = Tensor(X)
    context.run([x])
    context.start_profile()
    driver.fake_cuda_reset()
    for _ in range(4):
        context.run([x])
    steps = context.profile()
    assert all(step["seconds"] > 0 for step in steps if step["kernel"]) and context.profile_seconds > 0
    assert driver.fake_cuda_count().graph_launches == 8  # each run once as it is, once with marks
    assert calls("cuEventRecordWithFlags") == len(steps) + 2


def test_nothing_is_left_behind():
    engine = lathe.build(models.relu_add(), device="cuda", **QUICK)
    before = live()
    for _ in range(50):
        context = engine.create_context()
        out = context.run([Tensor(X)], device_outputs=True)
        out["y"].__dlpack__()
    del context, out
    after = live()
    assert (after.bytes, after.streams, after.events, after.graphs) == (before.bytes, before.streams, before.events, before.graphs)
    assert not Tensor.held
