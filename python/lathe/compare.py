# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""An engine against ONNX Runtime on seeded inputs: the second judge of `lathe verify`, which reads the report that this writes."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lathe
from lathe.paired_bench import RivalMissing, onnxruntime_entry, parse_shapes, random_feeds, relative_error

# Of the output's scale; bf16 and fp16 are judged by the oracle's noise floor, this is only a second opinion.
ALLOWED = {"fp32": 2e-4, "exact": 2e-5, "bf16": 1e-1, "fp16": 2e-2}


def compare(onnx_file: str, engine_file: str, precision: str, shapes: dict[str, tuple[int, ...]], exact: bool) -> dict[str, Any]:
    """{"compared": False, "reason"}, or the largest difference at two seeds and whether it is allowed."""
    try:
        rival = onnxruntime_entry(onnx_file)
    except RivalMissing as error:
        return {"compared": False, "reason": str(error)}
    except Exception as error:
        return {"compared": False, "reason": f"it cannot load the model: {str(error).strip().splitlines()[0]}"}
    context = lathe.load(engine_file).create_context()
    worst = 0.0
    for seed in (0, 1):
        feeds = random_feeds(onnx_file, shapes, seed)
        try:
            expected = rival.run(feeds)
        except Exception as error:
            return {"compared": False, "reason": f"it cannot run the model: {str(error).strip().splitlines()[0]}"}
        worst = max(worst, relative_error(list(context.run(feeds).values()), expected))
    allowed = ALLOWED["exact" if exact and precision == "fp32" else precision]
    return {
        "compared": True,
        "name": rival.name,
        "max_relative_error": worst if math.isfinite(worst) else None,
        "allowed": allowed,
        "passed": worst <= allowed,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lathe.compare", description=__doc__)
    parser.add_argument("model", help="ONNX file")
    parser.add_argument("--engine", required=True, help="engine built from it")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--shape", action="append", default=[])
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--report", required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    try:
        report = compare(options.model, options.engine, options.precision, parse_shapes(options.shape), options.exact)
    except lathe.Error as error:
        print(f"lathe: {error}", file=sys.stderr)
        return 1
    Path(options.report).write_text(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
