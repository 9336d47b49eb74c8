# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs lathe_ops_tool for the tests of the op definitions."""

import json
import subprocess

import zoo


def ops_tool(*args, check=True):
    """The program's output: one JSON value a line."""
    program = zoo.program("lathe_ops_tool")
    result = subprocess.run([program, *map(str, args)], capture_output=True, text=True, check=False)
    if check and result.returncode != 0:
        raise AssertionError(f"lathe_ops_tool {' '.join(map(str, args))}: {result.stderr or result.stdout}")
    return [json.loads(line) for line in result.stdout.splitlines()]
