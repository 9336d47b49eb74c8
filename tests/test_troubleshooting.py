# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""docs/troubleshooting.md: each error that it quotes is provoked, and is what the page says, word for word. `...` in the page stands for what differs
between machines; `<!-- on a machine with a GPU -->` above a block asks for the driver that the tests have in place of one.

    python tests/test_troubleshooting.py        writes what is printed now into the page
"""

import code
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from zoo import ROOT, absent, build_dir, program

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
FAKE = build_dir() / "tests" / "liblathe_fake_cuda.so"
NO_DRIVER = "/nowhere/libcuda.so.1"  # on machines that have one too
BLOCK = re.compile(r"(<!-- on a machine with a GPU -->\n)?```(?:\w*)\n((?:\$|>>>) .*?)```", re.S)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345678\n"


def network(**changes):
    """images [batch, 3, 64, 64] -> scores, as detectors are exported."""
    given = {"op": "Relu", "domain": "", "features": 4, "opset": 17, **changes}
    shapes = {"weight": (4, 3, 3, 3), "head": (given["features"], 10)}
    constants = [onnx.numpy_helper.from_array(np.linspace(-1, 1, np.prod(shape), dtype=np.float32).reshape(shape), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["images", "weight"], ["c"], name="conv1"),
        helper.make_node(given["op"], ["c"], ["r"], name="act1", domain=given["domain"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "head"], ["scores"], name="classifier"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("images", ["batch", 3, 64, 64]), ("scores", ["batch", 10]))]
    opsets = [helper.make_opsetid("", given["opset"]), *([helper.make_opsetid(given["domain"], 1)] if given["domain"] else [])]
    return helper.make_model(helper.make_graph(nodes, "detector", values[:1], values[1:], constants), opset_imports=opsets, ir_version=9)


def lay_out(folder):
    """The files that the page's commands name."""
    onnx.save(network(), folder / "model.onnx")
    onnx.save(network(op="MyActivation", domain="my.plugins"), folder / "plugin.onnx")
    onnx.save(network(features=5), folder / "mismatch.onnx")
    onnx.save(network(), folder / "split.onnx", save_as_external_data=True, location="split.weights", size_threshold=0)
    (folder / "split.weights").unlink()
    onnx.save(network(opset=99), folder / "future.onnx")
    (folder / "pointer.onnx").write_text(POINTER)
    (folder / "cut.onnx").write_bytes((folder / "model.onnx").read_bytes()[:300])
    images = np.linspace(0, 1, 3 * 64 * 64, dtype=np.float32).reshape(1, 3, 64, 64)
    np.save(folder / "images.npy", images)
    np.save(folder / "doubles.npy", images.astype(np.float64))
    np.save(folder / "hwc.npy", images.transpose(0, 2, 3, 1).copy())
    np.save(folder / "sixteen.npy", np.repeat(images, 16, 0))
    (folder / "tensorrt.engine").write_bytes(b"ptrt" + bytes(2000))
    (folder / "model.py").write_text("def make():\n    raise SystemExit('not started')\n")
    for words in (["-o", "model.engine"], ["-o", "ranged.engine", "--shape", "images:1x3x64x64:1x3x64x64:8x3x64x64"]):
        done = run(folder, ["build", "model.onnx", *words, "--budget", "0", "-q"])
        assert done.returncode == 0, done.stderr
    (folder / "cut.engine").write_bytes((folder / "model.engine").read_bytes()[:5000])


def run(folder, words, gpu=False, **variables):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LATHE_")}
    environment = {**clean, "LATHE_PYTHON": sys.executable, "LATHE_CACHE_DIR": str(folder / "cache"), "LATHE_CUBLASLT": "none", "LATHE_CUDNN": "none",
                   "COLUMNS": "120", "LATHE_CUDA_DRIVER": str(FAKE) if gpu else NO_DRIVER, **variables}  # fmt: skip
    return subprocess.run([program("lathe"), *words], capture_output=True, text=True, cwd=folder, env=environment, timeout=120, check=False)


def printed_by_shell(line, folder, gpu):
    words = line.split()
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    assert words[0] == "lathe"
    done = run(folder, words[1:], gpu, **variables)
    assert done.returncode in (1, 2, 3), done
    assert not done.stdout
    return done.stderr


def printed_by_python(lines, folder):
    """What the interpreter shows, without the traceback's lines. `net` is a PyTorch module, as far as Lathe looks."""
    import lathe

    out = io.StringIO()
    console = code.InteractiveConsole({"np": np, "lathe": lathe, "net": type("Net", (), {"state_dict": dict})()})
    console.write = out.write
    before = os.getcwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out):
            for line in lines:
                console.push(line)
    finally:
        os.chdir(before)
    shown = out.getvalue().strip().split("\n")
    return "\n".join(line for line in shown if not line.startswith(("Traceback", "  "))) + "\n"


def cases():
    for gpu, block in BLOCK.findall(PAGE):
        lines = block.rstrip("\n").split("\n")
        prompts = [line for line in lines if line.startswith(("$ ", ">>> "))]
        yield bool(gpu), prompts, "\n".join(lines[len(prompts) :]) + "\n"


def pattern(expected):
    return ".*?".join(re.escape(part) for part in expected.split("..."))


def printed(prompts, folder, gpu):
    if prompts[0].startswith("$"):
        return printed_by_shell(prompts[0][2:], folder, gpu)
    return printed_by_python([prompt[4:] for prompt in prompts], folder)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    lay_out(folder)
    return folder


@pytest.mark.parametrize(("gpu", "prompts", "expected"), [pytest.param(*case, id=case[1][-1][:60]) for case in cases()])
def test_the_error_is_the_pages(desk, gpu, prompts, expected):
    if gpu and not FAKE.exists():
        absent(f"{FAKE} is not built")
    got = printed(prompts, desk, gpu)
    assert re.fullmatch(pattern(expected), got), got


def test_there_are_twenty():
    titles = re.findall(r"^## (\d+)\. (.+)$", PAGE, re.M)
    assert [int(number) for number, _ in titles] == list(range(1, len(titles) + 1)) and len(titles) >= 20
    for part in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        if re.match(r"\d+\. ", part):
            assert BLOCK.search(part), part
            assert "*Cause:*" in part and "*Remedy:*" in part, part
    for _, title in titles:
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        assert f"-{anchor})" in PAGE.split("## 1.")[0], f"the list on top lacks {title}"


def write():
    """The page with each block as it is printed now."""
    page = PAGE
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder))
        for gpu, prompts, expected in cases():
            got = printed(prompts, Path(folder), gpu)
            if not re.fullmatch(pattern(expected), got):
                block = "\n".join(prompts) + "\n"
                page = page.replace(block + expected, block + got.replace(NO_DRIVER, "..."))
    (ROOT / "docs" / "troubleshooting.md").write_text(page)


if __name__ == "__main__":
    write()
