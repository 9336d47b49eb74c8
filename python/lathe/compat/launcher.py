# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What `lathe python` runs: a script, with Lathe in the place of TensorRT and PyCUDA, for this run alone."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

from lathe import Error, _seconds, compat

USAGE = """Run a script that was written for TensorRT and PyCUDA on Lathe's engines; nothing is installed under those names.

Usage: lathe python [OPTIONS] SCRIPT [ARGUMENTS]      or  lathe python [OPTIONS] -m MODULE [ARGUMENTS]

Lathe's options may stand before the script or after it, as long as the script has none of that name; what follows -- is the script's alone.
  --tensorrt 7|8|10   Version that `import tensorrt` shows (default 8, which knows bindings and names)
  --device DEVICE     cpu, cuda or cuda:N (default: the first GPU, else the CPU)
  --budget TIME       For timing candidates in builds: 30s, 2m; 0 takes modelled costs (default 60s)
  --no-verify         Leave out the comparison with the oracle in builds
  --no-cache          Neither read nor write the tuning cache

Examples:
  lathe python detect.py --tensorrt 8 --image bus.jpg
  lathe python build_engine.py model.onnx --tensorrt 7 --budget 20s
  lathe python --tensorrt 10 --device cpu infer.py -- --device 0
"""


class UsageError(Exception):
    pass


def parse(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """The version, and the script's command line; the other options go into compat.settings."""
    major, words, rest = 8, [], list(arguments)
    settings = compat.settings
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        name, _, value = word.partition("=")
        if name in ("--tensorrt", "--device", "--budget"):
            if "=" not in word:
                if not rest:
                    raise UsageError(f"{name} needs a value")
                value = rest.pop(0)
            if name == "--device":
                if value != "cpu" and value.partition(":")[0] != "cuda":
                    raise UsageError(f"'{value}' is no device: --device takes cpu, cuda or cuda:N (a script's own --device goes behind --)")
                settings.device = value
            elif name == "--budget":
                try:
                    settings.budget = _seconds(value)
                except Error as error:
                    raise UsageError(str(error)) from None
            elif value not in map(str, compat.MAJORS):
                raise UsageError(f"TensorRT '{value}' is not emulated: --tensorrt takes 7, 8 or 10")
            else:
                major = int(value)
        elif word == "--no-verify":
            settings.verify = False
        elif word == "--no-cache":
            settings.cache = False
        else:
            words.append(word)
    return major, words


def main(arguments: Sequence[str]) -> int:
    if not arguments or (arguments[0] in ("-h", "--help")):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    try:
        major, words = parse(arguments)
        by_module = words[:1] == ["-m"]
        words = words[1:] if by_module else words
        if not words or (not by_module and words[0].startswith("-")):
            raise UsageError("name a script" if not words else f"'{words[0]}' is no option of lathe python, and a script's options stand behind the script")
        if not by_module and not os.path.exists(words[0]):
            print(f"lathe: there is no such file: {words[0]}. Check the path.", file=sys.stderr)
            return 1
    except UsageError as error:
        print(f"lathe: {error}. See `lathe python --help`.", file=sys.stderr)
        return 2
    compat.install(major)
    sys.argv[:] = words
    if by_module:
        sys.path.insert(0, os.getcwd())
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
        runpy.run_path(words[0], run_name="__main__")
    return 0
