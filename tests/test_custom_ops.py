# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Custom operators from Python, and the examples of docs/custom_ops.md. Operators live as long as a process: each test has names of its own, or a process."""

import importlib.util
import re
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import programs
from zoo import ROOT, absent, build_dir, program

if not (build_dir() / "python" / "lathe").is_dir() and importlib.util.find_spec("lathe") is None:
    absent("the Python package lathe is not built")

import lathe

QUICK = {"budget": 0, "cache": False}
DOMAIN = "test.custom"
PAGE = (ROOT / "docs" / "custom_ops.md").read_text()
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, inputs=None, outputs=None, functions=(), domain=DOMAIN):
    graph = helper.make_graph(nodes, "g", inputs or [value("x", ["n", 4])], outputs or [value("y", None)])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)


def node(op, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), name=f"the_{op}", domain=DOMAIN, **attributes)


def failing(code, act):
    with pytest.raises(lathe.Error) as caught:
        act()
    assert caught.value.code == code, str(caught.value)
    return str(caught.value)


def test_a_function_runs_is_saved_and_loaded():
    @lathe.custom_op(f"{DOMAIN}::Scale", types="T: float", attributes="alpha:float=2 names:strings=a,b")
    def scale(x, alpha, names):
        assert not x.flags.writeable and names == ["a", "b"]
        return x * np.float32(alpha)

    nodes = [helper.make_node("Neg", ["x"], ["a"]), node("Scale", ["a"], ["b"], alpha=3.0), helper.make_node("Neg", ["b"], ["y"])]
    engine = lathe.build(model(nodes), budget=1, cache=False)
    np.testing.assert_array_equal(engine.run({"x": X})["y"], 3 * X)
    np.testing.assert_array_equal(lathe.load(engine.to_bytes()).run({"x": X[:1]})["y"], 3 * X[:1])
    assert engine.report["verify"]["passed"]
    assert f"{DOMAIN}::Scale@1" in engine.to_text() and "[cpu.custom]" in engine.to_text()


def test_shape_rules_see_free_extents_types_and_elements():
    seen = []

    def shape(x, size, factor):
        seen.append((x, x.dtype, size.content))
        return [(x[0] * factor, 1 + x[1] // 2 - 1), size.content]

    def run(x, size, factor):
        return np.repeat(x[:, ::2], factor, 0), np.full(size, 7, np.int64)

    lathe.register_op(DOMAIN, "Shapes", run, shape=shape, inputs="x:T size:int64", outputs="y:T z:int64", attributes="factor:int=2")
    size = helper.make_tensor("size", TensorProto.INT64, [2], [3, 1])
    constant = helper.make_node("Constant", [], ["size"], value=size)
    made = model([constant, node("Shapes", ["x", "size"], ["y", "z"])], outputs=[value("y", None), value("z", None, TensorProto.INT64)])
    engine = lathe.build(made, **QUICK)
    assert engine.outputs[0].shape == ("2*n", 2) and engine.outputs[1].shape == (3, 1)
    assert any(isinstance(x[0], lathe.Extent) and str(x[0]) == "n" and x[1] == 4 and dtype == "float32" and content == (3, 1) for x, dtype, content in seen)
    out = engine.run({"x": X})
    np.testing.assert_array_equal(out["y"], np.repeat(X[:, ::2], 2, 0))
    assert out["z"].tolist() == [[7], [7], [7]]
    # The same where a run alone tells the elements.
    open_ = model(
        [node("Shapes", ["x", "size"], ["y", "z"])], [value("x", ["n", 4]), value("size", [2], TensorProto.INT64)], [value("z", None, TensorProto.INT64)]
    )
    out = lathe.build(open_, **QUICK).run({"x": X, "size": np.array([2, 2])})
    assert out["z"].shape == (2, 2)


def test_optional_inputs_and_scalars():
    lathe.register_op(DOMAIN, "Offset", lambda x, by: x if by is None else x + by, inputs="x:T by?:T", types="T: double int32")
    inputs = [value("x", [], TensorProto.DOUBLE)]
    for inner, expected in (("x", 5.0), ("", 2.5)):
        engine = lathe.build(model([node("Offset", ["x", inner] if inner else ["x"])], inputs, [value("y", [], TensorProto.DOUBLE)]), **QUICK)
        assert engine.run({"x": np.float64(2.5)})["y"] == expected


def test_what_the_function_raises_and_wrong_shapes_name_the_node():
    def run(x, wrong):
        if wrong == 1:
            raise ValueError("no such luck")
        return {0: x, 2: x[0], 3: x.astype(np.float64), 4: None}[wrong]

    lathe.register_op(DOMAIN, "Wrong", run, attributes="wrong:int=0", types="T: float")
    made = {i: model([node("Wrong", wrong=i)]) for i in range(5)}
    np.testing.assert_array_equal(lathe.build(made[0], **QUICK).run({"x": X})["y"], X)
    for i, text in ((1, "ValueError: no such luck"), (2, "float32[4] as output 0, expected float32[2, 4]"), (3, "float64[2, 4]"), (4, "object[]")):
        engine = lathe.build(made[i], verify=False, **QUICK)
        message = failing("invalid_argument", lambda engine=engine: engine.run({"x": X}))
        assert text in message and "the_Wrong" in message, message
        assert "the_Wrong" in failing("invalid_argument", lambda i=i: lathe.build(made[i], **QUICK))


def test_a_shape_rule_that_fails_names_the_node():
    def shape(x):
        return (x[7],)

    lathe.register_op(DOMAIN, "WrongShape", lambda x: x, shape=shape)
    message = failing("invalid_argument", lambda: lathe.build(model([node("WrongShape")]), **QUICK))
    assert "IndexError" in message and "the_WrongShape" in message


def test_two_threads_are_in_the_function_at_once():
    barrier = threading.Barrier(2, timeout=60)

    def run(x):
        if armed:
            barrier.wait()
        return x + 1

    armed = False
    lathe.register_op(DOMAIN, "Meet", run, types="T: float")
    engine = lathe.build(model([node("Meet")]), **QUICK)
    armed = True
    results = []
    threads = [threading.Thread(target=lambda: results.append(engine.run({"x": X})["y"])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2
    for result in results:
        np.testing.assert_array_equal(result, X + 1)


def test_an_engine_says_what_it_needs(tmp_path):
    lathe.register_op(DOMAIN, "Needed", lambda x: x, types="T: float")
    lathe.build(model([node("Needed")]), **QUICK).save(tmp_path / "m.engine")
    script = "import sys, lathe\ntry:\n    lathe.load(sys.argv[1])\nexcept lathe.Error as error:\n    print(error.code, error)\n"
    done = started(sys.executable, "-c", script, tmp_path / "m.engine")
    assert done.stdout.startswith("unsupported ") and f"{DOMAIN}::Needed (version 1)" in done.stdout and "Register it before loading" in done.stdout
    command = program("lathe")
    assert f"{DOMAIN}::Needed@1" in started(command, "show", tmp_path / "m.engine").stdout
    assert f'"{DOMAIN}::Needed@1"' in started(command, "show", tmp_path / "m.engine", "--json").stdout
    assert f"{DOMAIN}::Needed" in started(command, "bench", tmp_path / "m.engine", code=1).stderr


def test_unknown_operators_name_their_neighbours_and_the_way_out():
    message = failing("unsupported", lambda: lathe.build(model([helper.make_node("Relo", ["x"], ["y"], name="r")]), **QUICK))
    assert "Relo 'r' (known and spelled much like it: Relu" in message and "docs/custom_ops.md" in message and "local function" in message
    lathe.register_op(DOMAIN, "Squeak", lambda x: x)
    assert f"{DOMAIN}::Squeak" in failing("unsupported", lambda: lathe.build(model([node("Sqeak")]), **QUICK))


def test_a_name_is_taken_once_and_texts_are_checked():
    lathe.register_op(DOMAIN, "Once", lambda x: x)
    assert "is registered already" in failing("invalid_argument", lambda: lathe.register_op(DOMAIN, "Once", lambda x: x))
    assert "format's own domain" in failing("invalid_argument", lambda: lathe.register_op("", "Relu", lambda x: x))
    assert "neither a function" in failing("invalid_argument", lambda: lathe.register_op(DOMAIN, "Empty"))
    assert "has no type" in failing("invalid_argument", lambda: lathe.register_op(DOMAIN, "Bad", lambda x: x, inputs="x"))


def test_a_local_function_of_a_made_up_domain_needs_no_code():
    body = [helper.make_node("Mul", ["a", "a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    function = helper.make_function("made.up", "MinusSquare", ["a"], ["c"], body, [helper.make_opsetid("", 21)])
    made = model([helper.make_node("MinusSquare", ["x"], ["y"], domain="made.up")], functions=[function], domain="made.up")
    np.testing.assert_array_equal(lathe.build(made, **QUICK).run({"x": X})["y"], -X * X)


# The page ---------------------------------------------------------------------------------------------------------


def examples(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


started = partial(programs.started, PYTHONPATH=str(build_dir() / "python"))


@pytest.fixture
def folder(tmp_path):
    scale = helper.make_node("Scale", ["x"], ["y"], name="the_scale", domain="my.domain", alpha=3.0)
    onnx.save(model([scale], domain="my.domain"), tmp_path / "model.onnx")
    return tmp_path


def test_examples_are_short():
    for language in ("python", "cpp"):
        for example in examples(language):
            assert example.count("\n") < 30


def test_the_python_examples(folder):
    done = started(sys.executable, "-c", examples("python")[0], cwd=folder)
    assert done.stdout.split() == "[[3. 3. 3. 3.] [3. 3. 3. 3.]]".split()
    halves = helper.make_node("Halves", ["x"], ["a", "y"], domain="my.domain", axis=1)
    onnx.save(model([halves], domain="my.domain"), folder / "halves.onnx")
    script = f"import numpy as np\n{examples('python')[1]}\ne = lathe.build('halves.onnx')\nprint(e.outputs[0].shape, e.run([np.arange(8, dtype='f4').reshape(2, 4)])['y'].tolist())"
    assert started(sys.executable, "-c", script, cwd=folder).stdout == "('n', 2) [[2.0, 3.0], [6.0, 7.0]]\n"


def test_the_cpp_example(folder):
    library = next(build_dir().glob("lib/liblathe.so"), None) or next(build_dir().glob("liblathe.so"), None)
    if not library:
        absent("liblathe.so is not built")
    (folder / "scale.cpp").write_text(examples("cpp")[0])
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-I", ROOT / "include", "-L", library.parent, f"-Wl,-rpath,{library.parent}"]
    started(programs.compiler("CXX"), *flags, "scale.cpp", "-llathe", "-o", "scale", cwd=folder)
    assert started(folder / "scale", cwd=folder).stdout == "24\n"


def test_the_cuda_example(folder):
    """Compiled by NVRTC, launched and captured through the driver that checks calls and computes nothing."""
    driver = build_dir() / "tests" / "liblathe_fake_cuda.so"
    if not driver.exists():
        absent("the driver of the tests is not built")
    script = examples("python")[2].replace('device="cuda"', 'device="cuda", verify=False, budget=0, cache=False')
    script += "import numpy as np\nprint(engine.device, '[cuda.custom]' in engine.to_text(), [engine.run({'x': np.ones((n, 4), 'f4')})['y'].shape for n in (2, 2, 2, 3)])\n"
    variables = {"LATHE_CUDA_DRIVER": str(driver), "LATHE_CUBLASLT": "none", "LATHE_CUDNN": "none", "LATHE_CACHE_DIR": str(folder / "cache")}
    if not any(True for _ in Path(sys.prefix).glob("lib/python3*/site-packages/nvidia/*/lib/libnvrtc.so*")):
        absent("NVRTC is not installed")
    done = started(sys.executable, "-c", script, cwd=folder, **variables)
    assert done.stdout == "cuda:sm_90 True [(2, 4), (2, 4), (2, 4), (3, 4)]\n"
    # Without a function the CPU's part runs the kernel on the GPU too.
    on_cpu = script.replace('device="cuda", ', "")
    assert started(sys.executable, "-c", on_cpu, cwd=folder, **variables).stdout == "cpu False [(2, 4), (2, 4), (2, 4), (3, 4)]\n"
    broken = script.replace("if (i < shapes.count)", "if (i < shapes.none)").replace("engine = ", "try:\n    engine = ").split("import numpy")[0]
    broken += "except lathe.Error as error:\n    print(error.code, error)\n"
    done = started(sys.executable, "-c", broken, cwd=folder, **variables)
    assert done.stdout.startswith("invalid_argument") and "Scale.cu(4)" in done.stdout and "none" in done.stdout, done.stdout
