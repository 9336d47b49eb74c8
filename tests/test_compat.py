# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""lathe.compat: scripts as they are written for TensorRT 7, 8 and 10 (tests/compat_scripts) run unchanged by `lathe python` and give what
lathe.build(...).run gives; and what goes wrong in such a script is one clear error."""

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import models
from zoo import absent, build_dir, program

try:
    import lathe
except ImportError:
    absent("the Python package lathe is not built")

from lathe import compat
from lathe.compat import cuda_python
from lathe.compat.pycuda import autoinit, gpuarray
from lathe.compat.pycuda import driver as cuda
from lathe.compat.tensorrt import api

SCRIPTS = Path(__file__).resolve().parent / "compat_scripts"
QUICK = {"budget": 0, "cache": False}
compat.settings.device, compat.settings.budget, compat.settings.cache = "cpu", 0, False


def python(folder, *words, **more):
    environment = {**os.environ, "LATHE_PYTHON": sys.executable, "LATHE_CACHE_DIR": str(folder / "cache"), **more}
    command = [str(program("lathe")), "python", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120, check=False)


def ran(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Whole scripts ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Models with inputs and the answers of lathe.build(...).run."""
    folder = tmp_path_factory.mktemp("compat")
    rng = np.random.default_rng(7)

    def add(name, model, arrays, **inputs):
        models.save(model, folder / f"{name}.onnx")
        np.savez(folder / f"{name}.npz", **inputs)
        answer = lathe.build(str(folder / f"{name}.onnx"), **QUICK)
        arrays[name] = {
            key: np.concatenate([answer.run({n: x[i : i + 1] for n, x in inputs.items()})[key] for i in range(4)])
            for key in answer.run({n: x[:1] for n, x in inputs.items()})
        }

    answers = {}
    add("two", models.two_in_two_out(), answers, left=rng.standard_normal((4, 3)).astype(np.float32), right=rng.standard_normal((4, 3)).astype(np.float32))
    image = rng.standard_normal((4, 3, 16, 16)).astype(np.float32)
    add("fixed", models.convolutions(), answers, image=image)  # a batch of 1, fixed
    add("free", models.convolutions(batch="batch"), answers, image=image)
    return folder, answers


PROFILES = {
    "two": ["--profile", "left:1x3:2x3:8x3", "--profile", "right:1x3:2x3:8x3"],
    "free": ["--profile", "image:1x3x16x16:4x3x16x16:8x3x16x16"],
}
STYLES = [
    ("classic_7.py", 7, ["--batch", "4"], "two fixed free"),
    ("classic_7.py", 7, ["--batch", "8", "--run", "4", "--fp16"], "free"),
    ("classic_8.py", 8, ["--sync"], "two"),
    ("classic_8.py", 8, ["--fp16"], "free"),
    ("modern_10.py", 10, [], "two free"),
    ("modern_10.py", 10, ["--fp16"], "free"),
]


@pytest.mark.parametrize(("script", "version", "words", "name"), [(s, v, w, n) for s, v, w, names in STYLES for n in names.split()])
def test_scripts_give_what_the_engine_gives(shelf, tmp_path, script, version, words, name):
    folder, answers = shelf
    words = [*words, *([] if script.endswith("7.py") else PROFILES[name])]
    done = python(
        tmp_path, SCRIPTS / script, folder / f"{name}.onnx", "m.engine", folder / f"{name}.npz", "out.npz", *words, "--tensorrt", version, "--budget", "0"
    )
    text = ran(done)
    assert "run on the CPU" in done.stderr and done.stderr.count("lathe:") == 1, done.stderr
    assert ("FP16 was allowed" in done.stderr) == ("--fp16" in words), done.stderr
    if script.endswith("7.py"):
        assert "TensorRT 7.2" in text and "implicit batch: True" in text
    with np.load(tmp_path / "out.npz") as got:
        assert set(got.files) == set(answers[name])
        for key, wanted in answers[name].items():
            assert got[key].shape == wanted.shape
            assert got[key].dtype == (np.int32 if version < 10 and wanted.dtype == np.int64 else wanted.dtype)
            np.testing.assert_allclose(got[key], wanted, rtol=1e-4, atol=1e-5)
    # The file is an engine like any other.
    assert lathe.load(tmp_path / "m.engine").metadata["lathe.compat.tensorrt"]


def test_a_script_of_another_version_is_told_what_to_use(shelf, tmp_path):
    folder, _ = shelf
    words = [folder / "free.onnx", "m.engine", folder / "free.npz", "out.npz", "--budget", "0"]
    done = python(tmp_path, SCRIPTS / "classic_7.py", *words, "--batch", "4", "--tensorrt", "10")
    assert done.returncode == 1 and "AttributeError" in done.stderr
    assert "Builder.build_cuda_engine is no more in TensorRT 10" in done.stderr or "max_workspace_size is no more in TensorRT 10" in done.stderr
    assert "lathe python SCRIPT --tensorrt 7" in done.stderr
    done = python(tmp_path, SCRIPTS / "classic_8.py", *words, *PROFILES["free"], "--tensorrt", "10")
    assert done.returncode == 1 and "ICudaEngine.num_bindings is no more in TensorRT 10. Use num_io_tensors" in done.stderr
    done = python(tmp_path, SCRIPTS / "modern_10.py", *words, *PROFILES["free"], "--tensorrt", "7")
    assert done.returncode == 1 and "is not in TensorRT 7 yet" in done.stderr
    assert not (tmp_path / "out.npz").exists()


def test_lathe_python_as_a_command(tmp_path):
    (tmp_path / "args.py").write_text(
        "import sys, tensorrt, pycuda, cuda\nfrom cuda.bindings import runtime\nprint(tensorrt.__version__, sys.argv, __name__, sys.path[0])\nsys.exit(int(sys.argv[-1]))\n"
    )
    done = python(tmp_path, "args.py", "--size", "4", "--tensorrt=10", "--", "--tensorrt", "9", "5")
    assert done.returncode == 5 and done.stdout.startswith("10.") and "['args.py', '--size', '4', '--tensorrt', '9', '5'] __main__" in done.stdout
    done = python(tmp_path, "-m", "args", "0")
    assert done.returncode == 0 and done.stdout.startswith("8."), done.stderr
    (tmp_path / "plain.py").write_text("import importlib.util, sys\nprint([n for n in sys.modules if n.startswith(('tensorrt', 'pycuda'))])\n")
    done = subprocess.run([sys.executable, "plain.py"], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
    for words, code, says in [
        ([], 2, "Usage: lathe python"), (["args.py", "--tensorrt", "9"], 2, "7, 8 or 10"), (["none.py"], 1, "no such file"), (["--tensorrt"], 2, "needs a value"),
        (["--device", "abacus", "args.py"], 2, "abacus"), (["--budget", "soon", "args.py"], 2, "soon"), (["--fast", "args.py"], 2, "--fast"),
    ]:  # fmt: skip
        done = python(tmp_path, *words)
        assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
    done = python(tmp_path, "args.py", LATHE_PYTHON="/nowhere/python")
    assert done.returncode == 3 and "LATHE_PYTHON" in done.stderr
    assert not any(path.name == "tensorrt" and path.parent.name != "compat" for path in (build_dir() / "python").rglob("tensorrt"))


# The API, call by call --------------------------------------------------------------------------------------------


class Log:
    def __init__(self):
        self.lines = []

    def log(self, severity, message):
        self.lines.append((severity.name, message))

    def said(self, level, *words):
        return any(name == level and all(word in message for word in words) for name, message in self.lines)


def parsed(trt, model, flags=1, log=None):
    log = log or Log()
    builder = trt.Builder(log)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    assert parser.parse(model.SerializeToString()), log.lines
    return builder, network, builder.create_builder_config(), log


def engine_of(trt, model, *profiles):
    builder, network, config, log = parsed(trt, model)
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name, triple in shapes.items():
            profile.set_shape(name, *triple)
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, log.lines
    return trt.Runtime(log).deserialize_cuda_engine(plan), log


RELU = {"x": ((1, 4), (2, 4), (4, 4))}
X = np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32)


@pytest.fixture
def ready():
    engine, log = engine_of(api(8), models.relu_add(), RELU)
    context = engine.create_execution_context()
    assert context.set_binding_shape(0, X.shape)
    return engine, context, log


def test_memory_that_is_wrong_is_told_before_anything_runs(ready):
    engine, context, log = ready
    x, y = cuda.to_device(X), cuda.mem_alloc(X.nbytes)
    small, freed = cuda.mem_alloc(X.nbytes - 1), cuda.mem_alloc(X.nbytes)
    gone = int(freed)
    freed.free()
    assert context.execute_v2([int(x), int(y)]) is True
    np.testing.assert_array_equal(cuda.from_device_like(y, X), models.relu_add_answer(X))
    for bindings, words in [
        ([int(x), int(small)], ["output 'y'", "32 bytes", "ends after 31"]),
        ([int(x) + 4, int(y)], ["input 'x'", "ends after 28"]),
        ([int(x), gone], ["output 'y'", "freed"]),
        ([int(x), 0], ["output 'y'", "null pointer"]),
        ([1234567, int(y)], ["input 'x'", "no device memory"]),
        ([X.ctypes.data, int(y)], ["input 'x'", "no device memory"]),
        ([int(x)], ["1 bindings", "2"]),
    ]:
        with pytest.raises(compat.CompatError) as error:
            context.execute_v2(bindings)
        assert all(word in str(error.value) for word in words), str(error.value)
    with pytest.raises(TypeError, match="binding of 'x'"):
        context.execute_v2([None, int(y)])
    with pytest.raises(compat.CompatError, match="no stream"):
        context.execute_async_v2([int(x), int(y)], 999)
    np.testing.assert_array_equal(cuda.from_device_like(y, X), models.relu_add_answer(X))
    assert not log.said("ERROR")


def test_pycuda_errors_are_pycudas():
    memory, host = cuda.mem_alloc(16), np.zeros(4, np.float32)
    big = np.zeros(5, np.float32)
    for call, words in [
        (lambda: cuda.memcpy_htod(memory, big), ["cuMemcpyHtoD failed", "20 bytes", "ends after 16"]),
        (lambda: cuda.memcpy_dtoh(big, memory), ["cuMemcpyDtoH failed", "ends after 16"]),
        (lambda: cuda.memcpy_htod(int(memory) + 8, host), ["ends after 8"]),
        (lambda: cuda.memcpy_htod(12345, host), ["no device memory"]),
        (lambda: cuda.memcpy_dtod(memory, memory, 17), ["cuMemcpyDtoD"]),
        (lambda: cuda.memset_d8(memory, 0, 17), ["cuMemsetD8"]),
        (lambda: cuda.memcpy_htod(memory, np.zeros((4, 4), np.float32)[:, 1]), ["not contiguous"]),
        (lambda: cuda.memcpy_dtoh(b"0123456789abcdef", memory), ["read-only"]),
        (lambda: cuda.mem_alloc(0), ["cuMemAlloc failed", "0 bytes"]),
        (lambda: cuda.memcpy_htod_async(memory, host, 4711), ["cuMemcpyHtoDAsync", "no stream"]),
        (lambda: cuda.Event().time_till(cuda.Event()), ["not recorded"]),
        (lambda: cuda.Device(99), ["device 99"]),
    ]:
        with pytest.raises(cuda.LogicError) as error:
            call()
        assert all(word in str(error.value) for word in words), str(error.value)
    with pytest.raises(cuda.MemoryError, match="out of memory"):
        cuda.mem_alloc(1 << 62)
    memory.free()
    for call in (memory.free, lambda: cuda.memcpy_htod(memory, host), lambda: int(memory)):
        with pytest.raises(cuda.LogicError, match="freed"):
            call()
    with pytest.raises(TypeError):
        cuda.memcpy_htod(cuda.mem_alloc(16), object())
    with pytest.raises(compat.CompatError, match="NumPy"):
        gpuarray.zeros(4, np.float32) + 1


def test_random_calls_end_in_errors_or_right(capfd):
    """Addresses in, beside and outside of what lives, sizes of all kinds: a crash would end the process."""
    engine, _ = engine_of(api(8), models.relu_add(), RELU)
    context, rng, live, outcomes = engine.create_execution_context(), random.Random(11), [], Counter()

    def address():
        return (
            int(rng.choice(live)) + rng.choice([0, 0, 4, 16, 1])
            if live and rng.random() < 0.8
            else rng.choice([0, -1, 2**63, 2**64 + 5, rng.getrandbits(47), 12345])
        )

    def array():
        return np.zeros(rng.choice([0, 1, 4, 8, 1000]), np.float32)

    calls = [
        lambda: live.append(cuda.mem_alloc(rng.choice([1, 16, 32, 64, 4096]))),
        lambda: live.pop(rng.randrange(len(live) or 1)).free(),
        lambda: context.set_binding_shape(0, [rng.choice([0, 1, 2, 4, 4, -1]) for _ in range(rng.choice([1, 2, 2, 2, 3]))]),
        lambda: context.execute_v2([address(), address()]),
        lambda: context.execute_async_v2([address(), address()], rng.choice([0, 0, 5])),
        lambda: cuda.memcpy_htod(address(), array()),
        lambda: cuda.memcpy_dtoh(array(), address()),
        lambda: cuda.memcpy_dtod(address(), address(), rng.choice([0, 1, 16, 10**6, -1])),
        lambda: cuda_python.cudaMemcpy(
            *rng.choice([(address(), array(), 16, 1), (array(), address(), 16, 2), (address(), array(), 4, 4), (address(), address(), 16, 3)])
        ),
    ]
    for _ in range(3000):
        try:
            outcomes[rng.choice(calls)() is True] += 1
        except (compat.CompatError, cuda.Error, IndexError):
            outcomes["error"] += 1
    assert outcomes[True] > 20 and outcomes["error"] > 300, outcomes
    capfd.readouterr()


def test_pycuda_memory_streams_and_arrays():
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    stream, start, end = cuda.Stream(), cuda.Event(), cuda.Event()
    start.record(stream)
    one, other = cuda.to_device(array), cuda.mem_alloc(array.nbytes)
    cuda.memcpy_dtod_async(other, one, array.nbytes, stream)
    end.record(stream)
    stream.synchronize()
    assert end.query() and start.time_till(end) >= 0 and stream.handle > 2
    np.testing.assert_array_equal(cuda.from_device(other, array.shape, array.dtype), array)
    part = np.empty(4, np.int32)
    cuda.memcpy_dtoh(part, int(one) + 4 * 4)
    assert part.tolist() == [4, 5, 6, 7]
    cuda.memset_d32(other, 7, 3)
    assert cuda.from_device(other, 4, np.int32).tolist() == [7, 7, 7, 3]
    locked = cuda.pagelocked_zeros((2, 3), np.float16)
    assert locked.shape == (2, 3) and locked.dtype == np.float16 and not locked.any()
    assert cuda.pagelocked_empty_like(array).shape == array.shape and cuda.pagelocked_empty(5, np.uint8).nbytes == 5
    fortran = np.asfortranarray(array[0])
    cuda.memcpy_htod(other, fortran)
    assert cuda.from_device(other, 12, np.int32).tolist() == array[0].T.ravel().tolist()
    on_device = gpuarray.to_gpu(array)
    assert on_device.ptr == int(on_device.gpudata) and on_device.nbytes == array.nbytes
    np.testing.assert_array_equal(on_device.reshape(6, 4).get(), array.reshape(6, 4))
    assert gpuarray.zeros((2, 2), np.float32).get().tolist() == [[0, 0], [0, 0]] and gpuarray.empty(3).size == 3
    buffer = one.as_buffer(8)
    one.free()
    assert np.frombuffer(buffer, np.int32).tolist() == [0, 1], "a view keeps what it shows"
    cuda.Context.synchronize()
    free, total = cuda.mem_get_info()
    assert 0 < free <= total
    device = cuda.Device(0)
    assert cuda.Device.count() >= 1 and "CPU" in device.name() and len(device.compute_capability()) == 2
    context = device.make_context()
    assert cuda.Context.get_current() is context
    context.push()
    context.pop()
    context.pop()
    context.detach()
    with pytest.raises(cuda.LogicError):
        while True:
            cuda.Context.pop()
    assert autoinit.device == cuda.Device(0) and autoinit.context is cuda.Context.get_current()


def test_cuda_python_returns_codes(capsys):
    error, address = cuda_python.cudaMalloc(16)
    assert error == cuda_python.cudaError_t.cudaSuccess and isinstance(address, int)
    host = np.arange(4, dtype=np.float32)
    to_device, to_host = cuda_python.cudaMemcpyKind.cudaMemcpyHostToDevice, cuda_python.cudaMemcpyKind.cudaMemcpyDeviceToHost
    assert cuda_python.cudaMemcpy(address, host, 16, to_device) == (0,)
    back = np.zeros(4, np.float32)
    assert cuda_python.cudaMemcpy(back.ctypes.data, address, 16, to_host) == (0,)
    np.testing.assert_array_equal(back, host)
    assert cuda_python.cudaMemcpy(back, address, 16, cuda_python.cudaMemcpyKind.cudaMemcpyDefault) == (0,)
    for arguments in [(address, host, 17, to_device), (address + 4, host, 16, to_device), (back, 4096, 16, to_host), (16, address, 16, to_host)]:
        assert cuda_python.cudaMemcpy(*arguments) == (cuda_python.cudaError_t.cudaErrorInvalidValue,)
    assert capsys.readouterr().err.count("cudaMemcpy: ") == 4
    _, pinned = cuda_python.cudaMallocHost(16)
    assert cuda_python.cudaMemcpyAsync(pinned, address, 16, to_host, 0) == (0,)
    assert cuda_python.cudaFreeHost(pinned) == (0,) and cuda_python.cudaFreeHost(pinned)[0] != 0
    assert cuda_python.cudaFree(address) == (0,) and cuda_python.cudaFree(address)[0] != 0 and cuda_python.cudaFree(0) == (0,)
    assert cuda_python.cudaMalloc(1 << 62) == (cuda_python.cudaError_t.cudaErrorMemoryAllocation, None)
    error, stream = cuda_python.cudaStreamCreate()
    assert cuda_python.cudaStreamSynchronize(stream) == (0,) and cuda_python.cudaStreamDestroy(stream) == (0,)
    assert cuda_python.cudaStreamSynchronize(stream) == (cuda_python.cudaError_t.cudaErrorInvalidResourceHandle,)


def test_shapes_are_held_against_the_profile(ready):
    engine, context, log = ready
    assert engine.get_profile_shape(0, "x") == [(1, 4), (2, 4), (4, 4)] and engine.num_optimization_profiles == 1
    for shape, words in [((5, 4), "outside of the profile, 1 to 4"), ((2, 5), "extent 4 on axis 1"), ((2,), "2 axes")]:
        assert context.set_binding_shape(0, shape) is False and log.said("ERROR", "'x'", words), log.lines
    assert context.get_binding_shape(1) == (2, 4), "what was set before holds"
    assert context.set_binding_shape(1, (2, 4)) is False
    fresh = engine.create_execution_context()
    assert not fresh.all_binding_shapes_specified and fresh.get_binding_shape(1) == (-1, 4) and fresh.infer_shapes() == ["x"]
    x, y = cuda.to_device(X), cuda.mem_alloc(X.nbytes)
    assert fresh.execute_v2([int(x), int(y)]) is False and log.said("ERROR", "shapes of x", "set_binding_shape")
    assert fresh.execute_async_v3(0) is False
    fresh.set_input_shape("x", (2, 4))
    assert fresh.set_tensor_address("x", int(x)) and fresh.execute_async_v3(0) is False and log.said("ERROR", "no address", "y")
    with pytest.raises(ValueError, match="'z'"):
        fresh.set_tensor_address("z", 1)


def test_several_profiles_have_bindings_of_their_own():
    trt = api(8)
    engine, log = engine_of(trt, models.relu_add(), {"x": ((1, 4), (1, 4), (2, 4))}, {"x": ((4, 4), (8, 4), (8, 4))})
    assert engine.num_bindings == 4 and engine.num_optimization_profiles == 2 and list(engine) == ["x", "y", "x [profile 1]", "y [profile 1]"]
    assert engine.get_binding_index("y [profile 1]") == 3 and engine.get_binding_index("none") == -1
    assert engine.get_profile_shape(1, 2) == [(4, 4), (8, 4), (8, 4)]
    context = engine.create_execution_context()
    assert context.set_binding_shape(0, (4, 4)) is False
    context.active_optimization_profile = 1
    assert context.set_binding_shape(0, (1, 4)) is False and context.set_binding_shape(2, (4, 4))
    x = np.arange(16, dtype=np.float32).reshape(4, 4) - 8
    dx, dy = cuda.to_device(x), cuda.mem_alloc(x.nbytes)
    assert context.execute_v2([0, 0, int(dx), int(dy)])
    np.testing.assert_array_equal(cuda.from_device_like(dy, x), models.relu_add_answer(x))
    assert context.set_optimization_profile_async(2, 0) is False
    assert api(10).Runtime(log).deserialize_cuda_engine(engine.serialize()).num_io_tensors == 2


def test_implicit_batch_has_limits():
    trt = api(7)
    builder, network, config, log = parsed(trt, models.relu_add(), 0)
    assert network.has_implicit_batch_dimension and network.get_input(0).shape == (4,)
    builder.max_batch_size = 3
    engine = builder.build_engine(network, config)
    assert engine.max_batch_size == 3 and engine.get_binding_shape(0) == (4,) and engine.has_implicit_batch_dimension
    context = engine.create_execution_context()
    x, y = cuda.mem_alloc(48), cuda.mem_alloc(48)
    cuda.memcpy_htod(x, np.ones(12, np.float32))
    assert context.execute(3, [int(x), int(y)]) and context.execute(bindings=[x, y])
    assert context.execute(4, [int(x), int(y)]) is False and log.said("ERROR", "1 to 3")
    assert context.execute_v2([int(x), int(y)]) is False and log.said("ERROR", "implicit batch")
    assert trt.Runtime(log).deserialize_cuda_engine(bytearray(engine.serialize())).max_batch_size == 3
    scalar = trt.OnnxParser(builder.create_network(), log)
    assert not scalar.parse(models.scalar().SerializeToString()) and "EXPLICIT_BATCH" in scalar.get_error(0).desc()


def test_networks_can_be_changed_before_they_are_built():
    trt = api(8)
    builder, network, config, log = parsed(trt, models.relu_add())
    assert [network.num_inputs, network.num_outputs, network.num_layers, len(network)] == [1, 1, 2, 2]
    relu = network.get_layer(0)
    assert relu.name == "relu" and relu.type == "Relu" and relu.get_output(0).name == "r" and network[1].get_input(0).name == "r"
    network.mark_output(relu.get_output(0))
    network.get_input(0).name = "pixels"
    network.get_input(0).shape = [3, 4]
    network.get_output(1).dtype = trt.float16
    with pytest.raises(ValueError, match="pixels"):
        network.get_input(0).shape = (3, 5)
    relu.precision = trt.float32
    assert log.said("WARNING", "relu", "float32")
    with pytest.raises(AttributeError, match="export it to ONNX"):
        network.add_convolution_nd()
    engine = builder.build_engine(network, config)
    assert [(name, engine.get_binding_shape(name), engine.get_binding_dtype(name)) for name in engine] == [
        ("pixels", (3, 4), trt.float32), ("y", (3, 4), trt.float32), ("r", (3, 4), trt.float16),
    ]  # fmt: skip
    x = np.array([[-1, 2, 3, 4]] * 3, np.float32)
    out = engine._engine.run({"pixels": x})
    np.testing.assert_array_equal(out["r"], np.maximum(x, 0).astype(np.float16))
    network.unmark_output(network.get_output(1))
    assert network.num_outputs == 1


def test_what_cannot_be_parsed_is_listed(tmp_path):
    trt, log = api(8), Log()
    builder = trt.Builder(log)
    parser = trt.OnnxParser(builder.create_network(1), log)
    assert parser.parse(b"no model at all") is False and parser.num_errors == 1 and parser.get_error(0).desc() and log.said("ERROR")
    parser.clear_errors()
    assert parser.parse_from_file(str(tmp_path / "none.onnx")) is False and "none.onnx" in parser.get_error(0).desc()
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="odd", domain="my.ops")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "g", value[:1], value[1:]), opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]
    )
    model.ir_version = 10
    parser.clear_errors()
    assert parser.parse(model.SerializeToString()) is False
    assert "Frobnicate" in parser.get_error(0).desc() and "odd" in str(parser.get_error(0)) and parser.get_error(0).node() == -1
    assert builder.build_serialized_network(parser._network, builder.create_builder_config()) is None and log.said("ERROR", "no outputs")
    builder, network, config, log = parsed(trt, models.relu_add())
    profile = builder.create_optimization_profile()
    profile.set_shape("nobody", (1, 4), (1, 4), (1, 4))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is None and log.said("ERROR", "nobody")
    with pytest.raises(ValueError, match="does not hold"):
        profile.set_shape("x", (2, 4), (1, 4), (4, 4))


def test_foreign_plans_and_damaged_engines():
    trt, log = api(8), Log()
    runtime = trt.Runtime(log)
    assert runtime.deserialize_cuda_engine(b"ptrt" + bytes(100)) is None and log.said("ERROR", "no engine of Lathe's", "onnx2trt")
    engine, _ = engine_of(trt, models.relu_add(), RELU)
    content = bytes(engine.serialize())
    assert runtime.deserialize_cuda_engine(content[: len(content) // 2]) is None and log.said("ERROR", "cut short")
    with pytest.raises(TypeError, match="bytes"):
        runtime.deserialize_cuda_engine(object())


@pytest.mark.parametrize("version", [8, 10])
def test_engines_built_elsewhere_keep_their_64_bits_where_the_version_has_them(version):
    trt, log = api(version), Log()
    built = lathe.build(models.two_in_two_out(), shapes={"left": ((1, 3), (2, 3), (4, 3)), "right": ((1, 3), (2, 3), (4, 3))}, **QUICK)
    engine = trt.Runtime(log).deserialize_cuda_engine(built.to_bytes())
    context = engine.create_execution_context()
    left, right = np.array([[1, 5, 2], [9, 0, 1]], np.float32), np.ones((2, 3), np.float32)
    memory = {"left": cuda.to_device(left), "right": cuda.to_device(right), "sum/out:0": cuda.mem_alloc(24), "index": cuda.mem_alloc(16)}
    for name in ("left", "right"):
        assert engine.get_tensor_profile_shape(name, 0) == [(1, 3), (2, 3), (4, 3)]
        assert context.set_input_shape(name, (2, 3))
    for name, address in memory.items():
        context.set_tensor_address(name, int(address))
    assert context.execute_async_v3(0)
    kind = engine.get_tensor_dtype("index")
    assert kind == (trt.DataType.INT32 if version == 8 else trt.int64)
    assert cuda.from_device(memory["index"], 2, trt.nptype(kind)).tolist() == [1, 0]
    np.testing.assert_array_equal(cuda.from_device(memory["sum/out:0"], (2, 3), np.float32), left + right)


def test_output_allocators_profilers_inspectors_and_events():
    trt = api(10)
    engine, log = engine_of(trt, models.relu_add(), RELU)

    class Allocator(trt.IOutputAllocator):
        def __init__(self):
            trt.IOutputAllocator.__init__(self)
            self.memory, self.shape = None, None

        def reallocate_output(self, name, memory, size, alignment):
            self.memory = cuda.mem_alloc(size)
            return int(self.memory)

        def notify_shape(self, name, shape):
            self.shape = tuple(shape)

    class Profiler(trt.IProfiler):
        def __init__(self):
            trt.IProfiler.__init__(self)
            self.layers = []

        def report_layer_time(self, name, ms):
            self.layers.append((name, ms))

    context, allocator, profiler, x = engine.create_execution_context(), Allocator(), Profiler(), cuda.to_device(X)
    context.set_input_shape("x", X.shape)
    context.set_tensor_address("x", int(x))
    context.set_output_allocator("y", allocator)
    context.profiler = profiler
    event = cuda.Event().record()
    context.set_input_consumed_event(event.handle)
    assert context.execute_async_v3(cuda.Stream().handle)
    assert allocator.shape == (2, 4) and len(profiler.layers) == engine.num_layers == 1 and profiler.layers[0][1] > 0
    np.testing.assert_array_equal(cuda.from_device(allocator.memory, (2, 4), np.float32), models.relu_add_answer(X))
    inspector = engine.create_engine_inspector()
    assert '"relu"' in inspector.get_engine_information(trt.LayerInformationFormat.JSON) and "cpu" in inspector.get_layer_information(0)
    with pytest.raises(AttributeError, match="read-only"):
        context.active_optimization_profile = 0


def test_precision_flags_allow_and_say_what_is_done():
    trt = api(10)
    for flag, words in [(trt.BuilderFlag.FP16, "float32"), (trt.BuilderFlag.INT8, "INT8"), (trt.BuilderFlag.BF16, None)]:
        builder, network, config, log = parsed(trt, models.convolutions())
        config.set_flag(flag)
        assert config.get_flag(flag) and config.flags & 1 << int(flag)
        config.builder_optimization_level = 0
        plan = builder.build_serialized_network(network, config)
        assert plan.nbytes == len(plan) > 0 and memoryview(plan).nbytes == plan.nbytes
        assert words is None or log.said("WARNING", words), log.lines
        text = trt.Runtime(log).deserialize_cuda_engine(plan)._engine.to_text()
        assert ("stored in other types" in text) == (flag == trt.BuilderFlag.BF16)
    assert not builder.platform_has_fast_fp16 and not builder.platform_has_fast_int8


def test_versions_have_what_they_had():
    seven, eight, ten = api(7), api(8), api(10)
    assert [int(version.__version__.split(".")[0]) for version in (seven, eight, ten)] == [7, 8, 10]
    with pytest.raises(compat.CompatError):
        api(9)
    has = {
        "build_cuda_engine": (True, False, False), "build_engine": (True, True, False), "build_serialized_network": (False, True, True),
        "max_batch_size": (True, True, False), "fp16_mode": (True, False, False),
    }  # fmt: skip
    for name, versions in has.items():
        assert tuple(hasattr(version.Builder, name) for version in (seven, eight, ten)) == versions, name
    for name, versions in {
        "execute_async": (1, 1, 0),
        "execute_v2": (1, 1, 1),
        "execute_async_v2": (1, 1, 0),
        "execute_async_v3": (0, 1, 1),
        "set_binding_shape": (1, 1, 0),
    }.items():
        assert tuple(hasattr(version.IExecutionContext, name) for version in (seven, eight, ten)) == tuple(map(bool, versions)), name
    for name, versions in {"get_binding_shape": (1, 1, 0), "num_io_tensors": (0, 1, 1), "get_tensor_mode": (0, 1, 1), "max_batch_size": (1, 1, 0)}.items():
        assert tuple(hasattr(version.ICudaEngine, name) for version in (seven, eight, ten)) == tuple(map(bool, versions)), name
    for name, versions in {"MemoryPoolType": (0, 1, 1), "TensorIOMode": (0, 1, 1), "int64": (0, 0, 1), "float32": (1, 1, 1), "UffParser": (0, 0, 0)}.items():
        assert tuple(hasattr(version, name) for version in (seven, eight, ten)) == tuple(map(bool, versions)), name
    assert hasattr(ten.DataType, "BF16") and not hasattr(eight.DataType, "BF16") and hasattr(eight.BuilderFlag, "STRICT_TYPES")
    for broken, words in [
        (lambda: ten.Builder(Log()).build_cuda_engine, "build_serialized_network"), (lambda: setattr(ten.Builder(Log()), "max_workspace_size", 1), "set_memory_pool_limit"),
        (lambda: setattr(eight.Builder(Log()), "no_such_mode", 1), "no_such_mode"), (lambda: ten.UffParser, "tf2onnx"), (lambda: ten.IPluginV2, "lathe ops"),
        (lambda: ten.Nonsense, "docs/migrate.md"), (lambda: seven.MemoryPoolType, "max_workspace_size"), (lambda: eight.DataType.INT64, "TensorRT 8"),
    ]:  # fmt: skip
        with pytest.raises(AttributeError, match=words):
            broken()


def test_small_things_behave():
    trt = api(8)
    dims = trt.Dims((1, 3, 4))
    dims[0] = 2
    assert dims == (2, 3, 4) and dims == [2, 3, 4] and str(dims) == "(2, 3, 4)" and dims[1:] == (3, 4) and len(dims) == dims.nbDims == 3 and -1 not in dims
    assert (
        np.zeros(dims).shape == (2, 3, 4)
        and tuple(dims) + (1,) == (2, 3, 4, 1)
        and (9,) + dims == (9, 2, 3, 4)
        and trt.volume(dims) == 24
        and trt.volume(()) == 1
    )
    assert trt.nptype(trt.float32) is np.float32 and trt.nptype(trt.bool) is np.bool_ and trt.float16.itemsize == 2
    assert int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH) == 0 and 1 << int(trt.BuilderFlag.FP16) == 1
    assert trt.Logger.WARNING == trt.Logger.Severity.WARNING and trt.Logger(trt.Logger.VERBOSE).min_severity == trt.Logger.VERBOSE
    with pytest.raises(NotImplementedError):
        trt.ILogger().log(trt.Logger.ERROR, "x")

    class Calibrator(trt.IInt8EntropyCalibrator2):
        def __init__(self):
            trt.IInt8EntropyCalibrator2.__init__(self)

    assert Calibrator() and trt.init_libnvinfer_plugins(None, "") and trt.get_plugin_registry().plugin_creator_list == ()


def test_loggers_print_what_is_grave_enough(capfd):
    trt = api(8)
    trt.Logger().log(trt.Logger.INFO, "quiet")
    trt.Logger(trt.Logger.INFO).log(trt.Logger.INFO, "loud")
    assert capfd.readouterr().err == "[TRT] [I] loud\n"
