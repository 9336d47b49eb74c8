# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""An engine against ONNX Runtime on seeded inputs: the second judge of `lathe verify`. Exit code 3 when ONNX Runtime is missing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lathe.paired_bench import RivalMissing, lathe_entry, onnxruntime_entry, random_feeds, relative_error

# Of the output's scale; bf16 and fp16 are judged by the oracle's noise floor, this is only a second opinion.
ALLOWED = {"fp32": 2e-4, "exact": 2e-5, "bf16": 1e-1, "fp16": 2e-2}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lathe.compare", description=__doc__)
    parser.add_argument("model", help="ONNX file")
    parser.add_argument("--engine", help="engine built from it (default: build now)")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--shape", action="append", default=[])
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args(arguments)
    shapes = {}
    for text in options.shape:
        name, _, shape = text.rpartition(":")
        shapes[name.split(":")[0]] = tuple(int(extent) for extent in shape.split("x"))
    try:
        rival = onnxruntime_entry(options.model)
    except RivalMissing as error:
        if not options.quiet:
            print(f"ONNX Runtime: not compared ({error})")
        return 3
    feeds = random_feeds(options.model, shapes)
    hints = {name: list(value.shape) for name, value in feeds.items()}
    engine = lathe_entry(
        options.engine or options.model,
        options.precision,
        **({} if options.engine else {"exact": options.exact, "verify": False, "shapes": hints}),
    )
    worst = 0.0
    for seed in (0, 1):
        feeds = random_feeds(options.model, {name: tuple(dims) for name, dims in hints.items()}, seed)
        worst = max(worst, relative_error(engine.run(feeds), rival.run(feeds)))
    allowed = ALLOWED["exact" if options.exact and options.precision == "fp32" else options.precision]
    if not options.quiet:
        print(
            f"{rival.name}: largest difference {worst:.2e} of the output's scale at two seeds (allowed {allowed:.0e}): {'ok' if worst <= allowed else 'FAILED'}"
        )
    return 0 if worst <= allowed else 1


if __name__ == "__main__":
    sys.exit(main())
