# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""`lathe completion`: what bash and zsh offer, asked of the shells themselves; and the examples of every help, which are real command lines."""

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from zoo import program

FILES = ["only.onnx", "m.engine", "x.npy", "notes.txt", "detect.py", "two words.onnx"]


def lathe(*words, **options):
    return subprocess.run([program("lathe"), *words], capture_output=True, text=True, check=True, **options).stdout


@pytest.fixture(scope="module")
def tree():
    return json.loads(lathe("completion", "--json"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for name in FILES:
        (folder / name).touch()
    (folder / "build").mkdir()  # no slash may stand behind a subcommand for that
    for shell in ("bash", "zsh"):
        (folder / f".script.{shell}").write_text(lathe("completion", shell))
    return folder


def nodes(node, path=()):
    """Every subcommand with its path."""
    for command in node["commands"]:
        yield (*path, command["name"]), command
        yield from nodes(command, (*path, command["name"]))


def test_the_tree_has_all_options(tree):
    """As the help texts name them."""
    found = dict(nodes(tree))
    assert len(found) >= 15 and ("build",) in found
    for path, node in found.items():
        if node["passed_on"]:
            continue
        text = lathe(*path, "--help")
        below = text[text.index("Options:") :]
        assert {n for names in re.findall(r"^  (-\S+)", below, re.M) for n in names.split(",")} == {n for o in node["options"] for n in o["names"]}
        for argument in node["arguments"]:
            assert re.search(rf"^  {argument['name']} ", text, re.M)


def test_the_options_that_python_reads():
    """Those of `lathe export` and `lathe python` are declared twice: here for the shells, there for use."""
    tree = json.loads(lathe("completion", "--json"))
    for path, node in nodes(tree):
        if not node["passed_on"]:
            continue
        text = lathe(*path, "--help", env={**os.environ, "LATHE_PYTHON": sys.executable})
        there = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text[: text.lower().index("examples:")])) - {"-m", "-h", "--help"}
        ours = {name for option in node["options"] for name in option["names"]} - {"-h", "--help"}
        assert ours == there, path


# bash ----------------------------------------------------------------------------------------------------------------

# Line up to the cursor: what is offered. None: at least these.
BASH = {
    "lathe bu": {"build"},
    "lathe ": None,
    "lathe build --prec": {"--precision"},
    "lathe build --precision ": {"fp32", "tf32", "bf16", "fp16"},
    "lathe build --precision f": {"fp32", "fp16"},
    "lathe build --precision=f": {"fp32", "fp16"},
    "lathe build --device cuda:": {"0"},
    "lathe build ": {"only.onnx", "two words.onnx", "build"},
    "lathe build only.onnx -o ": {"m.engine", "build"},
    "lathe build only.onnx -o m.engine --js": {"--json"},
    "lathe build --budget ": set(),
    "lathe show ": {"only.onnx", "two words.onnx", "m.engine", "build"},
    "lathe build two\\ w": {"two words.onnx"},
    "lathe run m.engine -i images=": {"x.npy", "build"},
    "lathe run m.engine --input images=x": {"x.npy"},
    "lathe run m.engine -i x": {""},
    "lathe bench m.engine --against onnxruntime,o": {"onnxruntime,onnxruntime", "onnxruntime,openvino"},
    "lathe profile --by ": {"time", "lost"},
    "lathe completion ": {"bash", "zsh"},
    "lathe install-shims ": {"build"},
    "lathe export ": {"detect.py", "build"},
    "lathe python --tensorrt ": {"7", "8", "10"},
    "lathe check only.onnx --a": {"--all"},
    "lathe check no": {"notes.txt"},
    "LATHE_THREADS=1 lathe bu": {"build"},
}


def test_bash(place, tree):
    lines = [". ./.script.bash"]
    for line in BASH:
        words = re.findall(r"(?:\\.|[^\s=:\\])+|[=:]+", line) + ([""] if line.endswith(" ") else [])
        lines += [
            f"COMP_LINE={shlex.quote(line)} COMP_POINT=${{#COMP_LINE}}",
            f"COMP_WORDS=({' '.join(map(shlex.quote, words))}) COMP_CWORD={len(words) - 1} COMP_WORDBREAKS=$' \\t\\n\"\\'><=;|&(:'",
            "_lathe; printf '%s\\n' \"${COMPREPLY[@]}\"; echo ====",
        ]
    done = subprocess.run(["bash", "--norc", "-c", "\n".join(lines)], capture_output=True, text=True, cwd=place, check=True)
    assert done.stderr == ""
    offered = [set(part.split("\n")) - {""} for part in done.stdout.split("====\n")]
    for line, got in zip(BASH, offered):
        if line == "lathe ":
            assert got == {command["name"] for command in tree["commands"]}
        else:
            assert got == (BASH[line] or set()) - {""}, line


class Terminal:
    """An interactive shell with a person at it."""

    def __init__(self, words, folder):
        environment = {"PATH": f"{program('lathe').parent}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb", "PS1": "", "LC_ALL": "C"}
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(words[0], words, environment)
        self.text = ""

    def types(self, text, until, seconds=20):
        """Until `until` shows."""
        self.text = ""
        os.write(self.end, text.encode())
        end = time.monotonic() + seconds
        while not re.search(until, re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r|\x07", "", self.text)):
            assert time.monotonic() < end, f"after {text!r}: {self.text!r}"
            if select.select([self.end], [], [], 0.2)[0]:
                self.text += os.read(self.end, 65536).decode(errors="replace")

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.end)


@pytest.fixture
def bash(place):
    shell = Terminal(["bash", "--norc", "--noprofile", "-i"], place)
    shell.types(". ./.script.bash; echo rea''dy\n", "ready")
    yield shell
    shell.close()


def test_bash_at_a_terminal(bash):
    bash.types("lathe bui\t", r"lathe build $")
    bash.types("on\t", r"only\.onnx $")
    bash.types("--libr\tcubl\t", r"--libraries cublaslt $")
    bash.types("--device=cud\t:\t", r"--device=cuda:0 $")
    bash.types("-o m.e\t", r"-o m\.engine $")
    bash.types("\x15lathe run m.engine -i images=x\t", r"images=x\.npy $")
    bash.types("\x15lathe show tw\t", r"two\\ words\.onnx $")


@pytest.fixture
def zsh(place):
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed (Debian: package zsh)")
    shell = Terminal(["zsh", "-f", "-i"], place)
    shell.types("unsetopt zle_bracketed_paste; autoload -Uz compinit && compinit -u -D; source ./.script.zsh; echo rea''dy\n", "ready")
    yield shell
    shell.close()


def test_zsh_at_a_terminal(zsh):
    zsh.types("lathe bui\t", r"lathe build ?$")
    zsh.types("on\t", r"only\.onnx ?$")
    zsh.types("--prec\t", r"--precision=?$")
    zsh.types("bf\t", r"bf16 ?$")
    zsh.types(" -o m.e\t", r"m\.engine ?$")
    zsh.types("\x15lathe run m.engine -i images=x\t", r"images=x\.npy ?$")
    zsh.types("\x15lathe devices --\t\t", r"environment variables")  # the texts show
    zsh.types("\x15lathe install-sh\t", r"install-shims ?$")
    zsh.types("\x15lathe bench --against onnxruntime,openv\t", r"openvino,?$")


def test_zsh_reads_the_script(place):
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed (Debian: package zsh)")
    subprocess.run(["zsh", "-n", place / ".script.zsh"], check=True)


# Examples ------------------------------------------------------------------------------------------------------------


def examples(tree):
    for path, node in nodes(tree):
        if node["commands"]:
            continue
        text = lathe(*path, "--help", env={**os.environ, "LATHE_PYTHON": sys.executable})
        below = re.split(r"^examples:$", text, flags=re.M | re.I)[1]
        found = [line.strip() for line in below.split("\n") if line.strip()]
        yield path, node, found


def words_of(example):
    """Of `lathe` in an example, without the words of explanation behind it and without what the shell does."""
    line = re.split(r"\s{3,}", example)[0]
    line = re.search(r"lathe [^>&)]*", line)[0]
    return shlex.split(line)[1:]


def test_examples_are_command_lines(tree):
    """Two to four for each subcommand, of options that there are, with values that they take."""
    for path, node, found in examples(tree):
        assert 2 <= len(found) <= 4, (path, found)
        options = {name: option for option in node["options"] for name in option["names"]}
        for example in found:
            words = words_of(example)
            assert tuple(words[: len(path)]) == path, example
            rest, arguments = words[len(path) :], 0
            while rest:
                word = rest.pop(0)
                if word == "--":
                    break
                if not word.startswith("-"):
                    arguments += 1
                    continue
                if path == ("python",) and arguments:
                    continue  # the script's own
                name, _, value = word.partition("=")
                assert name in options, example
                if "value" in options[name] and not value:
                    value = rest.pop(0)
                if options[name].get("kind") == "words":
                    assert value in options[name]["words"], example
            assert arguments >= sum(a["required"] for a in node["arguments"]), example


def convolution():
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 3, 3, 3], np.linspace(-1, 1, 54))
    node = helper.make_node("Conv", ["images", "w"], ["output0"], name="conv", pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w_"])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["n", 2, "h", "w_"])], [weights],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def two_inputs():
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, [1, "time"]) for name in ("ids", "mask", "sum")]
    graph = helper.make_graph([helper.make_node("Mul", ["ids", "mask"], ["sum"])], "g", values[:2], values[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


# Subcommands whose examples run on two small models. Those of Python have their own tests, others need files of their own.
RUN = {"check", "simplify", "show", "build", "run", "bench", "verify", "profile", "ops", "devices", "doctor", "completion", "install-shims"}


def test_examples_run(tree, tmp_path):
    """Those that need no other package; long measurements are shortened."""
    np.save(tmp_path / "x.npy", np.ones((1, 3, 640, 640), np.float32))
    for name in ("ids", "mask"):
        np.save(tmp_path / f"{name}.npy", np.ones((1, 4), np.int64))
    onnx.save(convolution(), tmp_path / "conv.onnx")
    onnx.save(two_inputs(), tmp_path / "two.onnx")
    environment = {**os.environ, "LATHE_PYTHON": sys.executable, "LATHE_CACHE_DIR": str(tmp_path / "cache"), "HOME": str(tmp_path), "LATHE_CUDA_DRIVER": "none"}

    def run(*words):
        return subprocess.run([program("lathe"), *words], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False)

    assert run("build", "conv.onnx", "-o", "conv.engine", "--budget", "0").returncode == 0
    ran = 0
    for path, _, found in examples(tree):
        if path[0] not in RUN:
            continue
        for example in found:
            words = words_of(example)
            if "--against" in words:
                continue
            model = "two.onnx" if "ids=ids.npy" in words else "conv.onnx"
            for name in ("m.onnx", "in.onnx", "model.onnx"):
                shutil.copyfile(tmp_path / model, tmp_path / name)
            shutil.copyfile(tmp_path / "conv.engine", tmp_path / "m.engine")
            words = [str(tmp_path / word[2:]) if word.startswith("~/") else word for word in words]
            if path[0] in ("bench", "profile"):
                words += ["--time", "50ms"]
            done = run(*words)
            assert done.returncode == 0 and done.stdout, (example, done.stderr)
            ran += 1
    assert ran >= 25
