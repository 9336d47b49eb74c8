# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""`lathe export` and lathe.export: every source, both of PyTorch's exporters, and the refusal to write what does not agree with PyTorch."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest

from zoo import absent, build_dir, program

if importlib.util.find_spec("torch") is None:
    absent("PyTorch is not installed (requirements/export.txt), so exporting cannot be tested")
if not (build_dir() / "python" / "lathe").is_dir() and importlib.util.find_spec("lathe") is None:
    absent("the Python package lathe is not built")

import torch
from torch import nn

import lathe
from lathe import exporter
from lathe.exporter import ExportError, export, parse_dynamic, parse_input

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
    def forward(self, images):
        x = torch.relu(self.norm(self.conv(images)))
        return x, x.mean((2, 3)).argmax(1)

def make():
    print("a word on stdout")
    return Net()

def not_a_module():
    return 42

def fails():
    raise RuntimeError("no weights here")

ready = Net()
"""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        return self.dropout(torch.relu(self.conv(images)))


class Linear(nn.Module):
    """Small enough to export in a blink: two inputs, a dict of outputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)

    def forward(self, x, scale):
        y = self.layer(x) * scale
        return {"scores": y, "best": y.argmax(-1)}


@pytest.fixture
def source(tmp_path):
    (tmp_path / "model.py").write_text(SOURCE)
    return tmp_path / "model.py"


def command(folder, *arguments):
    environment = {**os.environ, "LATHE_PYTHON": sys.executable}
    return subprocess.run(
        [program("lathe"), "export", *map(str, arguments)], capture_output=True, text=True, cwd=folder, env=environment, timeout=300, check=False
    )


def shape_of(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if p.name not in ("model.py", "__pycache__"))


# The command ------------------------------------------------------------------------------------------------------


def test_command_exports_a_function(source):
    done = command(source.parent, "model.py:make", "-o", "m.onnx", "--input", "1x3x8x8", "--output-names", "features,best")
    assert done.returncode == 0, done.stderr
    assert "equal to PyTorch" in done.stdout and "m.onnx" in done.stdout and "a word on stdout" not in done.stdout
    model = onnx.load(source.parent / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input] == ["images"] and [o.name for o in model.graph.output] == ["features", "best"]
    assert leftovers(source.parent) == ["m.onnx"]


def test_command_reports_json_and_named_axes(source):
    done = command(
        source.parent, "model.py:ready", "-o", "m.onnx", "--input", "pictures:1x3x8x12", "--dynamic", "pictures:0=batch,2=height,3=width",
        "--opset", "16", "--exporter", "torchscript", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["exporter"] == "torchscript" and report["opset"] == 16 and report["failed"] == []
    assert report["inputs"] == [{"name": "pictures", "dtype": "float", "shape": ["batch", 3, "height", "width"]}]
    assert "lathe" in report["checked_with"] and report["max_relative_error"] < 1e-4
    assert [2, 3, 16, 24] in [trial[0] for trial in report["checked_shapes"]]  # the named axes were moved
    model = onnx.load(source.parent / "m.onnx")
    assert shape_of(model.graph.input[0]) == ["batch", 3, "height", "width"]


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["model.py:make", "-o", "m.onnx"], 2, ["--input"]),
        (["model.py", "-o", "m.onnx", "--input", "1x3x8x8"], 2, ["model.py:make_model"]),
        (["model.py:make", "-o", "m.onnx", "--input", "1x3xbig"], 2, ["1x3xbig"]),
        (["model.py:make", "-o", "no/folder/m.onnx", "--input", "1x3x8x8"], 1, ["no/folder"]),
        (["model.py:make", "-o", ".", "--input", "1x3x8x8"], 1, ["folder"]),
        (["nothing.py:make", "-o", "m.onnx", "--input", "1x3x8x8"], 1, ["nothing.py"]),
        (["m.engine", "-o", "m.onnx", "--input", "1x3x8x8"], 1, ["m.engine", "FILE.py:FUNCTION"]),
    ],
)  # fmt: skip
def test_command_tells_what_is_wrong(source, arguments, code, words):
    (source.parent / "m.engine").write_bytes(b"\x89LATHE\r\n" + bytes(100))
    done = command(source.parent, *arguments)
    assert done.returncode == code and done.stdout == ""
    assert done.stderr.startswith("lathe: ") and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr
    assert leftovers(source.parent) == ["m.engine"]


# Sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, word",
    [("nothing", "make"), ("not_a_module", "int, not an nn.Module"), ("fails", "no weights here")],
)
def test_functions_that_make_no_module(source, name, word):
    with pytest.raises(ExportError, match=word):
        export(f"{source}:{name}", source.parent / "m.onnx", ["1x3x8x8"])
    assert leftovers(source.parent) == []


def test_files_that_cannot_be_read(tmp_path):
    torch.save(Net().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "garbage.pt").write_bytes(b"garbage" * 100)
    (tmp_path / "garbage.pt2").write_bytes(b"garbage" * 100)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(5)\n")
    for name, word in [("weights.pt", "FILE.py:FUNCTION"), ("garbage.pt", "TorchScript"), ("garbage.pt2", "torch.export"), ("no.pt", "no file"),
                       ("broken.py:f", "nothing_of_this_name"), ("exits.py:f", "SystemExit")]:  # fmt: skip
        with pytest.raises(ExportError, match=word) as caught:
            export(str(tmp_path / name), tmp_path / "m.onnx", ["1x3x8x8"])
        assert caught.value.exit_code == 1 and isinstance(caught.value, lathe.Error)
    assert not (tmp_path / "m.onnx").exists()


def test_torchscript_file(tmp_path):
    torch.jit.script(Net().eval()).save(str(tmp_path / "scripted.pt"))
    report = export(str(tmp_path / "scripted.pt"), tmp_path / "m.onnx", ["1x3x8x8"])
    assert report.exporter == "torchscript" and "lathe" in report.checked_with
    # Asked for the exporter that does not take TorchScript: the other one steps in, and the report says so.
    report = export(str(tmp_path / "scripted.pt"), tmp_path / "m.onnx", ["1x3x8x8"], exporter="dynamo")
    assert report.exporter == "torchscript" and [item["exporter"] for item in report.failed] == ["dynamo"]


def test_torch_export_program(tmp_path):
    program_ = torch.export.export(Net().eval(), (torch.zeros(1, 3, 8, 8),))
    torch.export.save(program_, tmp_path / "m.pt2")
    report = export(str(tmp_path / "m.pt2"), tmp_path / "m.onnx", ["images:1x3x8x8"])
    assert report.max_relative_error < 1e-4 and report.inputs[0]["name"] == "images"
    with pytest.raises(ExportError, match="pt2") as caught:
        export(str(tmp_path / "m.pt2"), tmp_path / "h.onnx", ["images:1x3x8x8"], half=True)
    assert caught.value.exit_code == 2 and not (tmp_path / "h.onnx").exists()


# Options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["dynamo", "torchscript"])
def test_both_exporters_with_names_and_several_outputs(tmp_path, which):
    path = tmp_path / "m.onnx"
    report = export(Linear(), path, ["x:2x4", "scale:1"], exporter=which, input_names=["x", "factor"])
    assert report.exporter == which and not report.failed
    model = onnx.load(path)
    assert [i.name for i in model.graph.input] == ["x", "factor"] and [o.name for o in model.graph.output] == ["scores", "best"]
    x, scale = torch.rand(2, 4), torch.rand(1)
    expected = Linear().eval()(x, scale)
    got = lathe.build(path, budget=0, cache=False).run({"x": x, "factor": scale})
    np.testing.assert_allclose(got["scores"], expected["scores"].detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got["best"], expected["best"].numpy())


@pytest.mark.parametrize("which", ["dynamo", "torchscript"])
def test_named_axes_stay_open(tmp_path, which):
    path = tmp_path / "m.onnx"
    report = export(Net(), path, ["images:2x3x8x8"], exporter=which, dynamic={"images": {0: "batch", 3: "width"}})
    assert report.exporter == which, report.failed
    assert shape_of(onnx.load(path).graph.input[0]) == ["batch", 3, 8, "width"]
    module, engine = Net().eval(), lathe.build(path, budget=0, cache=False)
    for batch, width in ((1, 5), (3, 20)):
        x = torch.rand(batch, 3, 8, width)
        np.testing.assert_allclose(engine.run([x])["output0"], module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_frozen_axis_is_refused(tmp_path):
    class Frozen(nn.Module):
        def forward(self, x):
            return x.reshape(int(x.shape[0]), -1)[: len(x.tolist())]  # the tracer bakes both in

    try:
        report = export(Frozen(), tmp_path / "m.onnx", ["x:2x3x4"], exporter="torchscript", dynamic={"x": {0: "batch"}})
    except ExportError as error:
        assert "torchscript" in str(error) and not (tmp_path / "m.onnx").exists()
    else:  # the other exporter found a way; the traced file must have been turned down
        assert report.exporter == "dynamo" and report.failed[0]["exporter"] == "torchscript"


def test_half(tmp_path):
    module = Net()
    report = export(module, tmp_path / "m.onnx", ["images:1x3x8x8"], half=True)
    assert report.inputs[0]["dtype"] == report.outputs[0]["dtype"] == "float16"
    assert next(module.parameters()).dtype == torch.float32  # the caller's module stays as it was
    assert report.checked_with


def test_the_callers_module_keeps_its_mode(tmp_path):
    module = Net().train()
    module.conv.eval()
    export(module, tmp_path / "m.onnx", [torch.zeros(1, 3, 8, 8)])
    assert module.training and module.dropout.training and not module.conv.training


def test_tensors_as_inputs_and_integer_inputs(tmp_path):
    class Embed(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 3)

        def forward(self, ids, mask):
            return self.table(ids) * mask.unsqueeze(-1)

    report = export(Embed(), tmp_path / "m.onnx", ["ids:1x5:int64", "mask:1x5:bool"])
    assert [i["dtype"] for i in report.inputs] == ["int64", "bool"]
    report = export(Embed(), tmp_path / "m.onnx", [torch.tensor([[6, 0, 3]]), torch.ones(1, 3)])
    assert [i["name"] for i in report.inputs] == ["ids", "mask"] and report.checked_shapes == [[[1, 3], [1, 3]]]


def test_wrong_options(tmp_path):
    for options, word in [
        ({"dynamic": {"pictures": {0: "batch"}}}, "pictures"), ({"dynamic": {"images": {7: "batch"}}}, "axis 7"),
        ({"input_names": ["a", "b"]}, "2 input names"), ({"output_names": ["a", "b"]}, "2 output names"),
    ]:  # fmt: skip
        with pytest.raises(ExportError, match=word) as caught:
            export(Net(), tmp_path / "m.onnx", ["images:1x3x8x8"], **options)
        assert caught.value.exit_code == 2
    with pytest.raises(ExportError, match="itself fails on inputs of shapes 1x5x8x8"):
        export(Net(), tmp_path / "m.onnx", ["images:1x5x8x8"])
    with pytest.raises(ExportError, match="opset|version"):
        export(Net(), tmp_path / "m.onnx", ["images:1x3x8x8"], opset=999)
    with pytest.raises(ExportError, match="/proc"):
        export(Net(), "/proc/m.onnx", ["images:1x3x8x8"])
    assert list(tmp_path.iterdir()) == []


def test_input_and_dynamic_texts():
    assert parse_input("1x3x352x416") == exporter.InputSpec((1, 3, 352, 416))
    assert parse_input("input:0:1x2:int64") == exporter.InputSpec((1, 2), "input:0", "int64")
    assert parse_input("t:scalar") == exporter.InputSpec((), "t")
    assert parse_input("n:5") == exporter.InputSpec((5,), "n")
    for text in ("", "x:", "1x", "axb", "x:1x2:"):
        with pytest.raises(ExportError):
            parse_input(text)
    assert parse_dynamic([""], ["a", "b"]) == {"a": {0: "batch"}, "b": {0: "batch"}}
    assert parse_dynamic(["0=n,2"], ["a"]) == {"a": {0: "n", 2: "a_d2"}}
    assert parse_dynamic(["a:0=n", "b:1=m"], ["a", "b"]) == {"a": {0: "n"}, "b": {1: "m"}}
    for text in ("0=n", "a:x=n", "a:0=9"):
        with pytest.raises(ExportError):
            parse_dynamic([text], ["a", "b"])


# Agreement with PyTorch -------------------------------------------------------------------------------------------


class Random(nn.Module):
    def forward(self, x):
        return x + torch.nn.functional.dropout(torch.ones_like(x), training=True)


class Branch(nn.Module):
    """What is recorded depends on the data: right for the first inputs, wrong for others."""

    def forward(self, x):
        return x * 2 if bool(x[0, 0] > 0.5) else x - 1


def test_disagreement_is_refused(tmp_path):
    old = tmp_path / "m.onnx"
    old.write_text("an older file")
    with pytest.raises(ExportError, match="nothing was written") as caught:
        export(Random(), old, ["x:2x8"])
    assert caught.value.code == "invalid_model" and caught.value.exit_code == 1
    assert old.read_text() == "an older file" and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_recorded_branch_is_refused(tmp_path):
    seeds = [seed for seed in range(50) if (torch.rand(1, 4, generator=torch.Generator().manual_seed(seed))[0, 0] > 0.5)
             != (torch.rand(1, 4, generator=torch.Generator().manual_seed(seed + 1))[0, 0] > 0.5)]  # fmt: skip
    with pytest.raises(ExportError, match="differs from PyTorch's"):
        export(Branch(), tmp_path / "m.onnx", ["x:1x4"], exporter="torchscript", seed=seeds[0])
    assert not (tmp_path / "m.onnx").exists()


def test_damaged_output_is_caught_and_the_other_exporter_taken(tmp_path, monkeypatch):
    """One exporter writes a wrong file: the comparison finds it, the other one is taken, and the report says so."""
    real = exporter._export_once

    def damaging(attempt, module, inputs, path, *rest):
        warned = real(attempt, module, inputs, path, *rest)
        if attempt == "dynamo":
            model = onnx.load(path)
            for tensor in model.graph.initializer:
                values = onnx.numpy_helper.to_array(tensor).copy()
                if values.dtype == np.float32 and values.ndim == 4:
                    values[0, 0, 0, 0] += 0.1
                    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
            onnx.save(model, path)
        return warned

    monkeypatch.setattr(exporter, "_export_once", damaging)
    report = export(Net(), tmp_path / "m.onnx", ["images:1x3x8x8"])
    assert report.exporter == "torchscript"
    (failure,) = report.failed
    assert failure["exporter"] == "dynamo" and "differs from PyTorch's" in failure["reason"]


def test_differences_see_everything():
    def differ(got, want, half=False, rounding=0.0):
        return exporter._differences("test", [np.asarray(g) for g in got], [torch.as_tensor(w) for w in want], half, lambda: [rounding])

    assert differ([np.float32([1, 2])], [np.float32([1, 2])]) == 0
    assert 0 < differ([np.float32([1, 2.0002])], [np.float32([1, 2])]) < 1e-3
    assert differ([np.float32([np.nan, np.inf, 1])], [np.float32([np.nan, np.inf, 1])]) == 0
    # A network that magnifies rounding: four times what PyTorch itself loses, and no more than a hundredth.
    assert differ([np.float32([1, 2.004])], [np.float32([1, 2])], rounding=6e-4) > 1e-3
    for rounding, off in ((6e-4, 2.008), (1.0, 2.03)):
        with pytest.raises(exporter.ExportError, match="differs from PyTorch's"):
            differ([np.float32([1, off])], [np.float32([1, 2])], rounding=rounding)
    for got, want in [
        ([np.float32([1, 2.01])], [np.float32([1, 2])]), ([np.float32([1])], [np.float32([[1]])]), ([], [np.float32([1])]),
        ([np.int64([1])], [np.int64([2])]), ([np.float32([np.nan])], [np.float32([1])]), ([np.float32([1])], [np.float32([np.nan])]),
        ([np.float32([np.inf])], [np.float32([-np.inf])]), ([np.float32([1])], [np.float32([np.inf])]),
    ]:  # fmt: skip
        with pytest.raises(ExportError):
            differ(got, want)


def test_build_takes_a_module(tmp_path):
    module = Net().eval()
    engine = lathe.build(module, inputs=["images:1x3x8x8"], budget=0, cache=False)
    x = torch.rand(1, 3, 8, 8)
    (output,) = engine.run([x]).values()
    np.testing.assert_allclose(output, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(lathe.Error, match="example inputs"):
        lathe.build(module)
    with pytest.raises(lathe.Error, match="differs from PyTorch's|agrees with PyTorch"):
        lathe.build(Random(), inputs=["x:2x8"], budget=0)


def test_needs_pytorch(tmp_path):
    """Without PyTorch: one sentence and exit code 3."""
    (tmp_path / "torch.py").write_text("raise ImportError('No module named torch')\n")
    (tmp_path / "model.py").write_text(SOURCE)
    script = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        from lathe import exporter
        sys.exit(exporter.main([sys.argv[1] + "/model.py:make", "-o", sys.argv[1] + "/m.onnx", "--input", "1x3"]))
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(build_dir() / "python")}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 3 and "lathe-engine[export]" in done.stderr
    assert done.stderr.count("\n") == 1
