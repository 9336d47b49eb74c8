# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The Python package: build, load, save, run; arrays without copies; wrong things; threads; pickling; neighbours in one process."""

import copy
import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import models
from zoo import absent, build_dir, need

if not (build_dir() / "python" / "lathe").is_dir() and importlib.util.find_spec("lathe") is None:
    absent("the Python package lathe is not built")

import lathe
import lathe.backend

QUICK = {"budget": 0, "cache": False}
X = np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32)


@pytest.fixture(scope="module")
def relu_add():
    return lathe.build(models.relu_add(), **QUICK)


@pytest.fixture(scope="module")
def two():
    return lathe.build(models.two_in_two_out(), **QUICK)


@pytest.fixture(scope="module")
def convolutions():
    return lathe.build(models.convolutions(), **QUICK)


# Build, load, save ------------------------------------------------------------------------------------------------


def test_builds_from_path_bytes_and_model(tmp_path):
    model = models.relu_add()
    path = models.save(model, tmp_path / "m.onnx")
    bytes_ = model.SerializeToString()
    for given in (path, str(path), bytes_, bytearray(bytes_), memoryview(bytes_), model):
        engine = lathe.build(given, **QUICK)
        np.testing.assert_array_equal(engine.run({"x": X})["y"], models.relu_add_answer(X))


def test_saves_and_loads(tmp_path, convolutions):
    image = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    expected = convolutions.run({"image": image})["features"]
    path = tmp_path / "m.engine"
    convolutions.save(path)
    content = path.read_bytes()
    for given in (path, str(path), content, bytearray(content), memoryview(content)):
        np.testing.assert_array_equal(lathe.load(given).run([image])["features"], expected)
    assert convolutions.to_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["m.engine"]


def test_engine_tells_about_itself(relu_add, convolutions):
    (x,), (y,) = relu_add.inputs, relu_add.outputs
    assert (x.name, x.dtype, x.shape, x.tuned_shape) == ("x", "float32", ("batch", 4), (1, 4))
    assert (y.name, y.dtype, y.shape) == ("y", "float32", ("batch", 4))
    assert repr(x) == "IoInfo(x: float32[batch, 4])"
    assert "x: float32[batch, 4]" in repr(relu_add) and "y: float32" in str(relu_add)
    assert relu_add.device == "cpu" and "cpu" in relu_add.section
    assert convolutions.weight_bytes > 0 and "conv0" in convolutions.to_text()
    assert convolutions.report["verify"]["passed"] is True
    assert lathe.__version__.count(".") == 2


def test_shapes_give_limits_and_fix(tmp_path):
    ranged = lathe.build(models.relu_add(), shapes={"x": ((1, 4), (2, 4), (8, 4))}, **QUICK)
    assert ranged.inputs[0].tuned_shape == (2, 4)
    assert ranged.run([np.ones((8, 4), np.float32)])["y"].shape == (8, 4)
    by_name = lathe.build(models.relu_add(), shapes={"x": {"min": (1, 4), "opt": (2, 4), "max": (8, 4)}}, **QUICK)
    assert by_name.inputs[0].shape == ("batch", 4)
    fixed = lathe.build(models.relu_add(), shapes={"x": (np.int64(3), 4)}, **QUICK)
    assert fixed.inputs[0].shape == (3, 4)
    with pytest.raises(lathe.Error, match=r"\[3, 4\]"):
        fixed.run([X])


def test_precision_and_exact():
    image = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    exact = lathe.build(models.convolutions(), exact=True, **QUICK).run([image])["features"]
    lower = lathe.build(models.convolutions(), precision="bf16", **QUICK).run([image])["features"]
    assert lower.dtype == np.float32 and 0 < np.abs(lower - exact).max() < 0.05 * np.abs(exact).max()


# Run --------------------------------------------------------------------------------------------------------------


def test_inputs_by_name_by_order_and_alone(relu_add, two):
    expected = models.relu_add_answer(X)
    for given in ({"x": X}, [X], (X,), X, {"x": X.tolist()}, [X.tolist()]):
        np.testing.assert_array_equal(relu_add.run(given)["y"], expected)
    left, right = np.float32([[1, 5, 2]]), np.float32([[1, 1, 1]])
    for outputs in (two.run([left, right]), two.run({"right": right, "left": left}), two.run({"left": [[1, 5, 2]], "right": [[1, 1, 1]]})):
        assert list(outputs) == ["sum/out:0", "index"]
        np.testing.assert_array_equal(outputs["sum/out:0"], left + right)
        assert outputs["index"].dtype == np.int64 and outputs["index"].tolist() == [1]


def test_outputs_are_the_callers(relu_add):
    y = np.full((2, 4), -1, np.float32)
    outputs = relu_add.run({"x": X}, outputs={"y": y})
    assert outputs["y"] is y
    np.testing.assert_array_equal(y, models.relu_add_answer(X))
    first, second = relu_add.run([X])["y"], relu_add.run([X * 2])["y"]  # fresh arrays, no shared memory
    np.testing.assert_array_equal(first, models.relu_add_answer(X))
    assert not np.shares_memory(first, second)
    context = relu_add.create_context()
    first = context.run([X])["y"]
    context.run([X * 2])
    np.testing.assert_array_equal(first, models.relu_add_answer(X))


@pytest.mark.parametrize(
    "wrong, word",
    [
        (np.zeros((2, 5), np.float32), "y"), (np.zeros((2, 4)), "y"), (np.zeros((2, 8), np.float32)[:, ::2], "C-contiguous"),
        ("text", "array"), (np.zeros((4, 2), np.float32).T, "C-contiguous"),
    ],
)  # fmt: skip
def test_wrong_output_arrays(relu_add, wrong, word):
    with pytest.raises(lathe.Error, match=word) as caught:
        relu_add.run({"x": X}, outputs={"y": wrong})
    assert caught.value.code == "invalid_argument"


def test_read_only_output_and_unknown_output(relu_add):
    locked = np.zeros((2, 4), np.float32)
    locked.flags.writeable = False
    with pytest.raises(lathe.Error, match="writable"):
        relu_add.run({"x": X}, outputs={"y": locked})
    assert not locked.any()
    with pytest.raises(lathe.Error, match="'z'"):
        relu_add.run({"x": X}, outputs={"z": np.zeros((2, 4), np.float32)})


def test_arrays_of_any_layout(relu_add):
    wide = np.random.default_rng(0).random((6, 8), np.float32)
    locked = wide[:, :4].copy()
    locked.flags.writeable = False
    for array in (wide[::2, ::2], wide[:3, 4:], np.asfortranarray(wide[:, :4]), wide.T[:4].T, locked, wide[::-1, 3::-1], np.zeros((0, 4), np.float32)):
        np.testing.assert_array_equal(relu_add.run({"x": array})["y"], models.relu_add_answer(array))
    swapped = X.astype(">f4")
    np.testing.assert_array_equal(relu_add.run({"x": swapped})["y"], models.relu_add_answer(X))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"])
def test_every_element_type(dtype):
    engine = lathe.build(models.identity(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))), **QUICK)
    array = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
    result = engine.run([array])["y"]
    assert result.dtype == array.dtype and engine.inputs[0].dtype == dtype
    np.testing.assert_array_equal(result, array)


def test_bfloat16():
    ml_dtypes = need("ml_dtypes", "requirements/test.txt")
    engine = lathe.build(models.identity(TensorProto.BFLOAT16), **QUICK)
    array = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    for given in (array, array.view(np.uint16)):
        result = engine.run([given])["y"]
        assert result.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(result.astype(np.float32), array.astype(np.float32))
    target = np.zeros((2, 3), ml_dtypes.bfloat16)
    assert engine.run([array], outputs={"y": target})["y"] is target and (target == array).all()


def test_scalars():
    engine = lathe.build(models.scalar(), **QUICK)
    for given in (np.float32(3), np.array(3, np.float32), 3.0, 3):
        result = engine.run({"x": given})["y"]
        assert result.shape == () and result == 6


def test_inputs_are_not_copied():
    """A large input of which the model reads one row: its pages stay untouched."""
    rows = 1 << 24
    model = models.make(
        [helper.make_node("Slice", ["x", "from", "to"], ["y"])],
        {"x": (TensorProto.FLOAT, ["rows", 16])},
        {"y": (TensorProto.FLOAT, [1, 16])},
        {"from": np.array([0], np.int64), "to": np.array([1], np.int64)},
    )
    engine = lathe.build(model, **QUICK)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    x = np.zeros((rows, 16), np.float32)  # 1 GiB that the system gives page by page
    context = engine.create_context()
    context.run([x[:16]])
    before = resident()
    context.run([x])
    assert resident() - before < 64 << 20


# DLPack -----------------------------------------------------------------------------------------------------------


def test_torch_tensors_in_and_out(relu_add):
    torch = need("torch", "requirements/export.txt")
    x = torch.from_numpy(X.copy())
    np.testing.assert_array_equal(relu_add.run({"x": x})["y"], models.relu_add_answer(X))
    y = torch.zeros(2, 4)
    outputs = relu_add.run({"x": x}, outputs={"y": y})
    assert outputs["y"] is y
    np.testing.assert_array_equal(y.numpy(), models.relu_add_answer(X))
    np.testing.assert_array_equal(relu_add.run([x.t().contiguous().t()])["y"], models.relu_add_answer(X))  # not dense: copied
    with pytest.raises(lathe.Error, match="dense"):
        relu_add.run([x], outputs={"y": torch.zeros(4, 2).t()})
    with pytest.raises(lathe.Error, match="float64"):
        relu_add.run([x.double()])
    learned = torch.zeros(2, 4, requires_grad=True)
    np.testing.assert_array_equal(relu_add.run([learned.detach()])["y"], models.relu_add_answer(np.zeros((2, 4), np.float32)))
    half = lathe.build(models.identity(TensorProto.BFLOAT16), **QUICK)
    result = half.run([torch.ones(2, 3, dtype=torch.bfloat16)])["y"]
    assert (result.astype(np.float32) == 1).all()


def test_dlpack_is_read_without_a_copy(relu_add):
    class Lender:
        """Not NumPy's own class, so only the protocol can be used."""

        def __init__(self, array):
            self.array, self.asked = array, 0

        def __dlpack__(self, **options):
            self.asked += 1
            return self.array.__dlpack__(**{k: v for k, v in options.items() if v is not None})

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    lender, target = Lender(X.copy()), Lender(np.zeros((2, 4), np.float32))
    before = sys.getrefcount(lender.array)
    assert relu_add.run({"x": lender}, outputs={"y": target})["y"] is target
    assert lender.asked == 1
    np.testing.assert_array_equal(target.array, models.relu_add_answer(X))  # written through the protocol, so no copy
    after = sys.getrefcount(lender.array)  # (not inside an assert, which holds one itself)
    assert after == before


# Wrong things -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, word",
    [
        ({}, "'x' was not given"), ([], "'x' was not given"), ({"q": X}, "no input 'q'; it has 'x'"), ([X, X], "2 inputs were given"), ({"x": X.astype(np.float64)}, "float64, expected float32"),
        ({"x": X.astype(np.int32)}, "int32"), ({"x": X[0]}, "'x'"), ({"x": X[None]}, "'x'"), ({"x": np.zeros((2, 5), np.float32)}, "2x5"), ({"x": "text"}, "'x'"),
        ({"x": None}, "'x'"), ({"x": np.array([{}])}, "'x'"), ({"x": [[1, 2], [3]]}, "'x'"), ("text", "'x'"), (None, "'x'"), ({3: X}, "by name"),
    ],
)  # fmt: skip
def test_wrong_inputs(relu_add, given, word):
    with pytest.raises(lathe.Error, match=word) as caught:
        relu_add.run(given)
    assert caught.value.code == "invalid_argument"
    np.testing.assert_array_equal(relu_add.run([X])["y"], models.relu_add_answer(X))  # and goes on


def test_errors_carry_fields(tmp_path):
    with pytest.raises(lathe.Error) as caught:
        lathe.build(tmp_path / "no.onnx")
    error = caught.value
    assert isinstance(error, RuntimeError) and error.code == "io" and error.source.endswith("no.onnx") and error.message and "no.onnx" in str(error)
    with pytest.raises(lathe.Error) as caught:
        lathe.build(b"garbage" * 30)
    assert caught.value.code in ("corrupt_file", "invalid_model")
    model = models.relu_add()
    model.graph.node[0].op_type = "Rellu"
    with pytest.raises(lathe.Error) as caught:
        lathe.build(model, **QUICK)
    assert "Rellu" in str(caught.value) and "relu" in str(caught.value) and caught.value.code in ("unsupported", "invalid_model")
    with pytest.raises(lathe.Error) as caught:
        lathe.load(models.relu_add().SerializeToString())
    assert caught.value.code == "corrupt_file" and "ONNX" in str(caught.value)
    (tmp_path / "cut.engine").write_bytes(lathe.build(models.relu_add(), **QUICK).to_bytes()[:3000])
    with pytest.raises(lathe.Error, match="cut short") as caught:
        lathe.load(tmp_path / "cut.engine")
    assert caught.value.code == "corrupt_file" and caught.value.source.endswith("cut.engine") and caught.value.remedy
    assert lathe.Error("made in Python").code == "internal"
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, lathe.Error) and again.code == "io" and again.source == error.source


@pytest.mark.parametrize(
    "options, code, word",
    [
        ({"device": "cuda"}, "machine", "cuda"), ({"device": "abacus"}, "invalid_argument", "abacus"), ({"precision": "fp12"}, "invalid_argument", "fp12"),
        ({"budget": "soon"}, "invalid_argument", "soon"), ({"budget": -1}, "invalid_argument", "-1"), ({"shapes": {"z": (1, 4)}}, "invalid_argument", "'x'"),
        ({"shapes": {"x": 5}}, "invalid_argument", "'x'"), ({"shapes": {"x": (1, 2, 4)}}, "invalid_argument", "3 axes"), ({"shapes": {"x": (2.5, 4)}}, "invalid_argument", "'x'"),
        ({"shapes": {"x": ((4, 4), (2, 4), (8, 4))}}, "invalid_argument", "axis 0"), ({"inputs": ["1x4"]}, "invalid_argument", "inputs"),
    ],
)  # fmt: skip
def test_wrong_build_options(options, code, word):
    with pytest.raises(lathe.Error, match=word) as caught:
        lathe.build(models.relu_add(), **{**QUICK, **options})
    assert caught.value.code == code


def test_wrong_types():
    with pytest.raises(TypeError, match="int"):
        lathe.build(42)
    with pytest.raises(TypeError):
        lathe.load(3.5)
    with pytest.raises(TypeError):
        lathe.build(models.relu_add(), "cpu")  # options are named


# Progress, log ----------------------------------------------------------------------------------------------------


def test_progress_and_cancelling():
    calls = []
    lathe.build(models.convolutions(), progress=lambda *call: calls.append(call), **QUICK)
    phases = list(dict.fromkeys(call[0] for call in calls))
    assert phases[:4] == ["reading", "simplifying", "timing candidates", "packing weights"] and phases[-1] == "verifying"
    assert all(0 <= done <= total and (left is None or left >= 0) for _, done, total, left in calls)
    for stop_at in phases:
        with pytest.raises(lathe.Error) as caught:
            lathe.build(models.convolutions(), progress=lambda phase, *_, stop_at=stop_at: phase != stop_at, **QUICK)
        assert caught.value.code == "cancelled"

    def fails(phase, *_):
        raise ValueError(f"from {phase}")

    with pytest.raises(ValueError, match="from reading"):
        lathe.build(models.convolutions(), progress=fails, **QUICK)


def test_log_goes_to_a_callable(capfd):
    lines = []
    lathe.set_log(lambda level, text: lines.append((level, text)), "debug")
    try:
        lathe.build(models.convolutions(), **QUICK)
        count = len(lines)
        lathe.set_log(lambda level, text: lines.append((level, text)), "error")
        lathe.build(models.convolutions(), **QUICK)
    finally:
        lathe.set_log(None)
    assert count == len(lines) > 0 and {level for level, _ in lines} <= {"debug", "info", "warning"}
    assert capfd.readouterr().err == ""
    with pytest.raises(lathe.Error, match="loud"):
        lathe.set_log(None, "loud")


# Threads ----------------------------------------------------------------------------------------------------------


def test_contexts_on_threads(convolutions):
    images = np.random.default_rng(0).random((4, 1, 3, 16, 16), np.float32)
    expected = [convolutions.run([image])["features"] for image in images]
    wrong = []

    def work(index, run):
        for _ in range(60):
            if not np.array_equal(run([images[index]])["features"], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i, convolutions.create_context().run if i % 2 else convolutions.run)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_lock_of_python_is_free_during_a_run():
    engine = lathe.build(models.convolutions(4, channels=48, size=160), verify=False, **QUICK)
    context, image = engine.create_context(), np.zeros((1, 3, 160, 160), np.float32)
    context.run([image])
    begin = time.perf_counter()
    context.run([image])
    once = time.perf_counter() - begin
    ticks, running = [], threading.Event()

    def count():
        running.wait()
        while running.is_set():
            ticks.append(time.perf_counter())
            time.sleep(once / 50)

    counter = threading.Thread(target=count)
    counter.start()
    running.set()
    spans = []
    for _ in range(5):
        begin = time.perf_counter()
        context.run([image])
        spans.append((begin, time.perf_counter()))
    running.clear()
    counter.join()
    inside = [sum(begin + 0.1 * (end - begin) < tick < end - 0.1 * (end - begin) for tick in ticks) for begin, end in spans]
    assert sum(inside) >= 5, f"another Python thread hardly ran: {inside} of runs of {once * 1e3:.1f} ms"


def test_a_context_in_two_threads_is_refused():
    engine = lathe.build(models.convolutions(3, channels=32, size=128), verify=False, **QUICK)
    context, image = engine.create_context(), np.zeros((1, 3, 128, 128), np.float32)
    errors = []

    def work():
        for _ in range(20):
            try:
                context.run([image])
            except lathe.Error as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors and all(e.code == "invalid_argument" and "one Context per thread" in str(e) for e in errors)
    context.run([image])


def test_runs_in_a_forked_child(convolutions):
    """multiprocessing on Linux forks: the pool's threads are not there in the child."""
    image = np.zeros((1, 3, 16, 16), np.float32)
    expected = convolutions.run([image])["features"]
    script = """
import os, sys, numpy as np, lathe
engine = lathe.load(sys.argv[1])
image = np.zeros((1, 3, 16, 16), np.float32)
first = engine.run([image])["features"]
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(engine.run([image])["features"], first) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    with tempfile.NamedTemporaryFile(suffix=".engine") as file:
        convolutions.save(file.name)
        done = subprocess.run([sys.executable, "-c", script, file.name], env=environment(), timeout=60, check=False)
    assert done.returncode == 0 and expected.size


# Copies and pickles -----------------------------------------------------------------------------------------------


def test_engines_pickle_and_contexts_refuse(relu_add):
    again = pickle.loads(pickle.dumps(relu_add))
    np.testing.assert_array_equal(again.run([X])["y"], models.relu_add_answer(X))
    assert copy.copy(relu_add) is relu_add and copy.deepcopy(relu_add) is relu_add
    with pytest.raises(TypeError, match="pickle its Engine"):
        pickle.dumps(relu_add.create_context())


def test_a_context_keeps_its_engine_alive(tmp_path):
    path = tmp_path / "m.engine"
    lathe.build(models.relu_add(), **QUICK).save(path)
    engine = lathe.load(path)
    context = engine.create_context()
    del engine
    path.unlink()
    np.testing.assert_array_equal(context.run([X])["y"], models.relu_add_answer(X))


def test_profile(convolutions):
    context = convolutions.create_context()
    context.start_profile()
    for _ in range(3):
        context.run([np.zeros((1, 3, 16, 16), np.float32)])
    steps = context.profile()
    assert any("conv0" in step["sources"] for step in steps) and all(step["seconds"] >= 0 for step in steps)
    assert context.activation_bytes > 0


# Neighbours -------------------------------------------------------------------------------------------------------


def environment():
    return {**os.environ, "PYTHONPATH": str(build_dir() / "python")}


@pytest.mark.parametrize("order", ["lathe first", "lathe last"])
def test_lives_with_torch_onnx_and_onnxruntime(order, tmp_path):
    others = [name for name in ("torch", "onnx", "onnxruntime") if importlib.util.find_spec(name)]
    names = ["lathe", *others] if order == "lathe first" else [*others, "lathe"]
    script = f"""
import {", ".join(names)}
import numpy as np
model = {models.relu_add().SerializeToString()!r}
x = np.ones((2, 4), np.float32)
engine = lathe.build(model, budget=0, cache=False)
if "onnxruntime" in {others}:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
if "torch" in {others}:
    torch.nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 32, 32))
for _ in range(3):
    y = engine.run([x])["y"]
    assert (y == [2, 3, 4, 5]).all()
    if "onnxruntime" in {others}:
        assert (session.run(None, {{"x": x}})[0] == y).all()
    if "torch" in {others}:
        torch.nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 32, 32))
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), timeout=120, check=False)
    assert done.stdout == "fine\n" and done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_importing_is_light():
    script = "import sys, lathe; print([m for m in ('torch', 'onnx', 'onnxruntime', 'google.protobuf') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), timeout=60, check=True)
    assert done.stdout == "[]\n"


# Simplify, backend ------------------------------------------------------------------------------------------------


def test_simplify(tmp_path):
    model = models.make(
        [
            helper.make_node("Identity", ["x"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Add", ["one", "two"], ["three"]),
            helper.make_node("Mul", ["b", "three"], ["y"]),
        ],
        {"x": (TensorProto.FLOAT, ["n", 4])},
        {"y": (TensorProto.FLOAT, ["n", 4])},
        {"one": np.ones(4, np.float32), "two": np.full(4, 2, np.float32)},
    )
    report = lathe.simplify(model)
    assert report["nodes_before"] == 4 and report["nodes_after"] == 2 and report["checked"] and report["max_relative_error"] <= 1e-6
    assert report["ops"]["Identity"] == (1, 0)
    onnx.checker.check_model(report["model"])
    out = tmp_path / "s.onnx"
    report = lathe.simplify(model.SerializeToString(), out, shapes={"x": (2, 4)})
    assert "model" not in report and [n.op_type for n in onnx.load(out).graph.node] == ["Relu", "Mul"]
    assert onnx.load(out).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    with pytest.raises(lathe.Error):
        lathe.simplify(b"garbage" * 30)


NODES = [
    ("Abs", [np.float32([[-1, 2], [0, -3]])], {}),
    ("Add", [np.float32([[1, 2]]), np.float32([[10], [20]])], {}),
    ("Clip", [np.float32([-2, 0.5, 9]), np.float32(0), np.float32(1)], {}),
    ("Concat", [np.ones((2, 1), np.float32), np.zeros((2, 3), np.float32)], {"axis": 1}),
    ("Gather", [np.arange(12, dtype=np.float32).reshape(4, 3), np.int64([3, 0])], {"axis": 0}),
    ("MatMul", [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((3, 4), np.float32)], {}),
    ("MaxPool", [np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("ReduceMean", [np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.int64([1])], {"keepdims": 0}),
    ("Softmax", [np.float32([[1, 2, 3], [0, 0, 9]])], {"axis": 1}),
    ("Split", [np.arange(8, dtype=np.float32).reshape(2, 4)], {"axis": 1, "num_outputs": 2}),
    ("Transpose", [np.arange(6, dtype=np.float32).reshape(1, 2, 3)], {"perm": [2, 0, 1]}),
    ("Where", [np.array([True, False]), np.float32([1, 2]), np.float32([3, 4])], {}),
    ("Conv", [np.arange(50, dtype=np.float32).reshape(1, 2, 5, 5), np.ones((3, 2, 3, 3), np.float32)], {"pads": [1, 1, 1, 1]}),
    ("Resize", [np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2), "", np.float32([1, 1, 2, 2])], {"mode": "nearest"}),
]


@pytest.mark.parametrize("op, arrays, attributes", NODES, ids=[case[0] for case in NODES])
def test_backend_runs_nodes(op, arrays, attributes):
    reference = need("onnx.reference", "requirements/test.txt")
    names = [f"i{k}" if not isinstance(a, str) else "" for k, a in enumerate(arrays)]
    node = helper.make_node(op, names, ["a", "b"][: attributes.get("num_outputs", 1)], **attributes)
    given = [a for a in arrays if not isinstance(a, str)]
    outputs = lathe.backend.run_node(node, given)
    expected = reference.ReferenceEvaluator(node).run(None, dict(zip([n for n in names if n], given)))
    assert len(outputs) == len(expected)
    for got, want in zip(outputs, expected):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_backend_prepares_models():
    prepared = lathe.backend.prepare(models.relu_add(), "CPU")
    for given in ([X], {"x": X}, X):
        np.testing.assert_array_equal(prepared.run(given)[0], models.relu_add_answer(X))
    np.testing.assert_array_equal(prepared.run([X]).y, models.relu_add_answer(X))
    assert lathe.backend.supports_device("CPU") and lathe.backend.supports_device("CPU:0") and not lathe.backend.supports_device("CUDA")
    with pytest.raises(lathe.Error, match="CUDA"):
        lathe.backend.prepare(models.relu_add(), "CUDA")
    node = helper.make_node("Add", ["a", "b"], ["c"])
    with pytest.raises(lathe.Error, match="2 inputs"):
        lathe.backend.run_node(node, [X])


def test_memory_does_not_grow(relu_add):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    content = relu_add.to_bytes()

    def cycle():
        engine = lathe.load(content)
        engine.create_context().run([X])

    for _ in range(100):
        cycle()
    before = resident()
    for _ in range(300):
        cycle()
    grown = resident() - before
    assert grown < 1 << 20, f"grew by {grown} bytes"
