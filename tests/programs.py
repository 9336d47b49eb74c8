# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Programs that tests start, and models that the command runs."""

import os
import re
import subprocess

import numpy as np
import onnx

from zoo import build_dir, program


def started(*words, code=0, cwd=None, **variables):
    """What a program said that ended with `code`; it sees no GPU."""
    environment = {**os.environ, "LATHE_CUDA_DRIVER": "none", **variables}
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done


def compiler(language):
    """The compiler of the build, for CXX or C."""
    cache = (build_dir() / "CMakeCache.txt").read_text()
    return re.search(rf"^CMAKE_{language}_COMPILER:\w+=(.*)$", cache, re.M)[1]


def given(folder, values):
    """Words that give {input: array} to the command, by files in `folder`."""
    words = []
    for name, array in values.items():
        np.save(folder / f"{name}.npy", array)
        words += ["--input", f"{name}={folder / name}.npy"]
    return words


def arrays(path):
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def run_model(folder, model, values):
    """{output: array} of the command `run` on a model."""
    onnx.save(model, folder / "model.onnx")
    words = ["run", folder / "model.onnx", *given(folder, values), "--output", folder / "out.npz", "--budget", "0", "-q", "--no-cache"]
    started(program("lathe"), *words)
    return arrays(folder / "out.npz")
