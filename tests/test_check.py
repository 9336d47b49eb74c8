# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""`lathe check`: the exact text of each kind of defect, agreement with onnx.checker and ONNX Runtime on mutants, and files that are no models."""

import json
import random
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import check_cases
import check_mutants
import mutants
import zoo

lathe = zoo.need("lathe", "build with LATHE_PYTHON=ON")

EXPECTED = zoo.ROOT / "tests" / "check_expected.txt"
F = TensorProto.FLOAT


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    return folder, check_cases.reports(folder)


def run(*arguments):
    return subprocess.run([zoo.program("lathe"), "check", *map(str, arguments)], capture_output=True, text=True, check=False)


def test_schemas_are_the_formats():
    """src/check/schemas.inc says what the onnx package says (python tools/make_schemas.py writes it)."""
    sys.path.insert(0, str(zoo.ROOT / "tools"))
    import make_schemas

    assert make_schemas.TARGET.read_text() == make_schemas.page()


def test_texts(found):
    """Every case's whole report, word for word. After a change that is meant: python tests/check_cases.py, and read the difference."""
    folder, reports = found
    expected = dict(re.findall(r"^## (\w+) \[.*?\]\n(.*?)(?=^## |\Z)", EXPECTED.read_text(), re.S | re.M))
    got = dict(re.findall(r"^## (\w+) \[.*?\]\n(.*?)(?=^## |\Z)", check_cases.texts(reports, folder), re.S | re.M))
    assert got.keys() == expected.keys()
    for name, text in got.items():
        assert text.strip() == expected[name].strip(), name


def test_every_code_is_reached(found):
    codes = set(re.findall(r'CodeInfo\{"([\w-]+)"', (zoo.ROOT / "src" / "check" / "codes.cpp").read_text()))
    assert codes == {code for code, _ in check_cases.CASES.values()}
    for name, (code, report) in found[1].items():
        assert code in {d.code for d in report}, name
        assert report.valid == (not report.errors)


def test_sound_models():
    assert not list(lathe.check(check_cases.sound()))
    for make in mutants.MADE:
        assert lathe.check(make()), make


def test_all_defects_at_once():
    model = check_cases.sound()
    model.graph.node[0].op_type = "Relo"
    model.graph.node[1].input[1] = "d"
    model.graph.initializer[0].raw_data = b"1"
    model.graph.output.append(helper.make_tensor_value_info("nowhere", F, [1]))
    model.graph.node.append(helper.make_node("Softmax", ["x"], ["s"], name="soft", axis=1.0, more=2))
    model.metadata_props.add(key="k", value="1")
    model.metadata_props.add(key="k", value="2")
    codes = [d.code for d in lathe.check(model)]
    assert codes == ["metadata-duplicate", "undefined-input", "undefined-output", "unknown-operator", "unknown-attribute", "attribute-type", "tensor-data"]


def test_command(tmp_path):
    sound, broken = tmp_path / "sound.onnx", tmp_path / "broken.onnx"
    onnx.save(check_cases.sound(), sound)
    model = check_cases.sound()
    for i in range(12):
        model.graph.node.append(helper.make_node("Relo", ["x"], [f"z{i}"], name=f"n{i}"))
    onnx.save(model, broken)
    done = run(sound)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{sound}: valid (IR version 10, ai.onnx 20, 2 nodes)\n"
    done = run(broken)
    assert (done.returncode, done.stderr) == (1, "")
    assert "error unknown-operator: the operator does not exist (12)\n" in done.stdout and "  ... and 2 more\n" in done.stdout
    assert done.stdout.startswith(f"{broken}: invalid, 12 errors (IR version 10, ai.onnx 20, 14 nodes)\n")
    assert run(broken, "--all").stdout.count("did you mean Relu?") == 12
    done = run(broken, "--json")
    data = json.loads(done.stdout)
    assert done.returncode == 1 and data["errors"] == 12 and not data["valid"] and data["opsets"] == [{"domain": "", "version": 20}]
    assert data["defects"][0] == {
        "code": "unknown-operator",
        "severity": "error",
        "node": "n0",
        "op": "Relo",
        "tensor": "",
        "where": "",
        "what": "there is no operator Relo in ai.onnx",
        "expected": "Relu?",
        "remedy": "correct the name, or move the operator to a domain of its own",
        "spec": "IR.md#operators",
    }
    done = run(tmp_path / "absent.onnx")
    assert done.returncode == 1 and done.stdout == "" and "there is no such file" in done.stderr


def test_python(tmp_path):
    model = check_cases.sound()
    model.graph.node[0].op_type = "Relo"
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    reports = [lathe.check(given) for given in (model, model.SerializeToString(), bytearray(model.SerializeToString()), path, str(path))]
    for report in reports:
        assert not report and not report.valid and len(report) == 1 and report.errors[0].expected == "Relu?" and report.warnings == ()
        assert report.ir_version == 10 and report.opsets == (("", 20),) and report.nodes == 2
    assert reports[0].text == str(reports[0]) and reports[3].source == str(path)
    with pytest.raises(TypeError, match="not int"):
        lathe.check(3)
    with pytest.raises(lathe.Error, match="absent"):
        lathe.check(tmp_path / "absent.onnx")


def test_external_data_of_bytes(tmp_path):
    model = check_cases.sound()
    check_cases.external(model, location="data.bin")
    (tmp_path / "data.bin").write_bytes(bytes(16))
    assert lathe.check(model, base_dir=tmp_path)
    assert [d.code for d in lathe.check(model, base_dir=tmp_path / "elsewhere")] == ["external-missing"]


def test_zoo(tmp_path):
    """Every export of the zoo is valid, and no warning is about anything but operators that Lathe has not yet."""
    with open(tmp_path / "random", "wb") as weights:
        weights.truncate(1 << 36)
    wrong = []
    for name in zoo.names():
        report = lathe.check(zoo.stripped(name).read_bytes(), base_dir=tmp_path)
        if name == "ort_hf_t5":  # ONNX Runtime's optimiser puts an operator of its own into ai.onnx; onnx.checker refuses it too
            assert {d.code for d in report.errors} == {"unknown-operator"}
            continue
        odd = {d.code for d in report} - {"unsupported-operator", "node-name-duplicate", "value-info-stray", "opset-duplicate"}
        if not report or odd:
            wrong.append(f"{name}: {report}")
    assert not wrong, "\n".join(wrong[:5])


def test_mutants():
    """Nothing that onnx.checker refuses is accepted; nothing that it and ONNX Runtime accept is refused, but by the specification."""
    results = check_mutants.run(20261, 400, jobs=2)
    kinds = check_mutants.kinds(results)
    assert len(results) == 400
    for kind in check_mutants.BAD:
        assert not kinds[kind], kinds[kind][:3]
    assert len(kinds["both accept"]) > 40 and len(kinds["both refuse"]) > 150
    cited = kinds["refused by the specification, both accept"]
    assert len(cited) < 40, cited


def damaged(rng):
    data = bytearray(mutants.source(rng, mutants.small_names())[0].SerializeToString())
    for _ in range(rng.choice([1, 2, 8, 64])):
        at, way = rng.randrange(len(data)), rng.randrange(4)
        if way == 0:
            data[at] = rng.randrange(256)
        elif way == 1:
            del data[at : at + rng.randrange(1, 40)]
        elif way == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif rng.random() < 0.1:
            del data[at + 1 :]
        if not data:
            break
    return bytes(data)


def test_damaged_bytes():
    verdicts = set()
    for index in range(600):
        rng = random.Random(f"bytes:{index}")
        data = damaged(rng) if rng.random() < 0.9 else rng.randbytes(rng.randrange(2000))
        report = lathe.check(data)
        assert report.valid == (not report.errors)
        str(report).encode()  # printable, whatever names the file has
        verdicts.add(report.valid)
    assert verdicts == {True, False}


def test_hostile_sizes():
    """Sizes that a file merely states allocate nothing."""
    model = check_cases.sound()
    model.graph.input.append(helper.make_tensor_value_info("long", TensorProto.INT64, [1 << 40]))
    for op, inputs in {
        "Reshape": ["x", "long"],
        "Expand": ["x", "long"],
        "ConstantOfShape": ["long"],
        "Unsqueeze": ["x", "long"],
        "Tile": ["x", "long"],
    }.items():
        model.graph.node.append(helper.make_node(op, inputs, [op + "_long"], name=op))
    huge = helper.make_tensor("h", F, [1], [1.0])
    huge.dims[0] = 1 << 40
    model.graph.initializer.append(huge)
    for value in ([1 << 40, 1 << 40], [1 << 30, 4]):
        name = f"s{len(model.graph.node)}"
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
        model.graph.node.append(helper.make_node("ConstantOfShape", [name], [name + "_out"], name=name))
        model.graph.node.append(helper.make_node("Expand", ["c", name], [name + "_ex"], name=name + "_e"))
    report = lathe.check(model)
    assert "tensor-data" in {d.code for d in report}
    ranks = [d.op for d in report.errors if "would have rank 1099511627776" in d.what or "rank 1099511627778" in d.what]
    assert {"Reshape", "Expand", "ConstantOfShape", "Unsqueeze"} <= set(ranks)


def test_calls_that_multiply():
    """A chain of functions, each calling the next twice: 2^60 calls. The walk is bounded."""
    functions = []
    for i in range(60):
        body = [helper.make_node(f"F{i + 1}", ["a"], ["t"], domain="local"), helper.make_node(f"F{i + 1}", ["t"], ["b"], domain="local")]
        functions.append(check_cases.function(f"F{i}", body))
    functions.append(check_cases.function("F60", [helper.make_node("Relu", ["a"], ["b"])]))
    graph = helper.make_graph(
        [helper.make_node("F0", ["x"], ["y"], domain="local")], "g", [helper.make_tensor_value_info("x", F, [1])], [helper.make_tensor_value_info("y", F, [1])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("local", 1)], functions=functions, ir_version=10)
    assert lathe.check(model)
