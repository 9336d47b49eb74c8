# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs lathe_ops_tool for the tests of the op definitions."""

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import zoo


def ops_tool(*args, check=True):
    """The program's output: one JSON value a line."""
    program = zoo.program("lathe_ops_tool")
    result = subprocess.run([program, *map(str, args)], capture_output=True, text=True, check=False)
    if check and result.returncode != 0:
        raise AssertionError(f"lathe_ops_tool {' '.join(map(str, args))}: {result.stderr or result.stdout}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def write_case(folder, model, inputs):
    """One of the cases that `run-cases` runs; `inputs` are messages."""
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    for i, message in enumerate(inputs):
        (folder / f"input_{i}.pb").write_bytes(message.SerializeToString())


def produced(output):
    """A tensor that the program wrote, as the format's own decoder reads it."""
    if "strings" in output:
        return np.array(output["strings"], dtype=object).reshape(output["shape"])
    tensor = onnx.TensorProto(data_type=output["dtype"], dims=output["shape"], raw_data=Path(output["file"]).read_bytes())
    return numpy_helper.to_array(tensor)
