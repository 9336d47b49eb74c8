# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What `make bench` runs: the example's YOLOv5 networks in PyTorch, ONNX Runtime, OpenVINO and Lathe, in turns within one process, and
what loading and running YOLOv5l takes of time and memory. The figures go to bench/results/cpu-LEVEL.json, LEVEL being the
instruction set; tools/make_docs.py shows them.

Every round runs each contestant once, after the threads of the one before have parked. Figures are medians; a rerun is never picked.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = (("YOLOv5n 640x640", "yolov5n_scenes", 640, 640), ("YOLOv5s 640x640", "yolov5s", 640, 640), ("YOLOv5l 352x416", "yolov5l", 352, 416))
MEMORY_MODEL = "YOLOv5l 352x416"
COLUMNS = ("PyTorch", "ONNX Runtime", "OpenVINO fp32", "OpenVINO bf16", "Lathe fp32", "Lathe bf16")
RIVALS = {"Lathe fp32": ("PyTorch", "ONNX Runtime", "OpenVINO fp32"), "Lathe bf16": ("OpenVINO bf16",)}


def column_of(name: str) -> str:
    """The column of an entry's name: without the version."""
    words = name.split()
    return " ".join(word for word in words if not word[0].isdigit())


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


def commit() -> str:
    """The commit that is measured; with "+" when the tree differs from it."""
    try:
        changed = output_of("git", "status", "--porcelain", "--untracked-files=no")
        return output_of("git", "rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def prepare(program: Path, out: Path, function: str, height: int, width: int, budget: str) -> tuple[Path, dict[str, Path]]:
    """Exports a network of the example and builds its engines; the commands are shown."""

    def run(*words: str | Path) -> None:
        print("$ lathe " + " ".join(map(str, words)), flush=True)
        subprocess.run([program, *map(str, words)], check=True, cwd=ROOT)

    onnx = out / f"{function}_{height}x{width}.onnx"
    run("export", f"examples/yolov5/model.py:{function}", "-o", onnx, "--input", f"images:1x3x{height}x{width}")
    engines = {}
    for precision in ("fp32", "bf16"):
        engines[precision] = onnx.with_name(f"{onnx.stem}_{precision}.engine")
        # Unverified here: the outputs are held against PyTorch's below.
        run("build", onnx, "-o", engines[precision], "--precision", precision, "--budget", budget, "--no-verify", "--quiet")
    return onnx, engines


def latencies(function: str, onnx: Path, engines: dict[str, Path], seconds: float) -> dict:
    """One row of the table."""
    import model
    from lathe.paired_bench import RivalMissing, alternate, lathe_entry, onnxruntime_entry, openvino_entry, random_feeds, torch_entry

    feeds = random_feeds(str(onnx))
    makers = [lambda: torch_entry(getattr(model, function)(), list(feeds)), lambda: onnxruntime_entry(str(onnx))]
    makers += [lambda p=p: openvino_entry(str(onnx), p) for p in ("fp32", "bf16")]
    makers += [lambda p=p: lathe_entry(str(engines[p]), p) for p in ("fp32", "bf16")]
    entries, versions = [], {}
    for make in makers:
        try:
            entries.append(make())
        except RivalMissing as error:
            print(f"left out: {error}")
    alternate(entries, feeds, seconds)
    medians, lows, errors = {}, {}, {}
    for entry in entries:
        column, figures = column_of(entry.name), entry.milliseconds()
        medians[column], lows[column] = round(figures["median"], 3), round(figures["min"], 3)
        errors[column] = float(f"{entry.max_relative_error:.2g}")
        versions[column] = entry.name
    ratios = {}
    for column, rivals in RIVALS.items():
        present = [medians[rival] for rival in rivals if rival in medians]
        if column in medians and present:
            ratios[column] = round(medians[column] / min(present), 3)
    return {
        "median_ms": medians,
        "min_ms": lows,
        "ratio": ratios,
        "runs": len(entries[0].times),
        "max_error_to_first": errors,
        "entries": versions,
    }


def openvino_precision(onnx: Path) -> str | None:
    """The type that OpenVINO multiplies in when it is asked for bf16: machines without bf16 instructions get f32."""
    try:
        import openvino
    except ImportError:
        return None
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(onnx)), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    return compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()


def memory(program: Path, engine: Path) -> dict:
    """Load time (the file is in the page cache) and peak memory of a process that loads and runs the engine."""
    reports = [json.loads(output_of(str(program), "bench", str(engine), "--runs", "3", "--json")) for _ in range(3)]
    best = min(reports, key=lambda report: report["load_ms"])
    planned = best["weight_bytes"] + best["activation_bytes"]
    return {
        "load_ms": round(best["load_ms"], 2),
        "weight_bytes": best["weight_bytes"],
        "activation_bytes": best["activation_bytes"],
        "peak_memory_bytes": max(report["peak_memory_bytes"] for report in reports),
        "peak_over_planned": round(max(report["peak_memory_bytes"] for report in reports) / planned, 3),
    }


def as_text(results: dict) -> str:
    lines = ["".ljust(16) + "".join(column.rjust(15) for column in results["columns"])]
    for row in results["rows"]:
        cells = []
        for column in results["columns"]:
            ratio = f" ({row['ratio'][column]:.2f})" if column in row["ratio"] else ""
            cells.append((f"{row['median_ms'][column]:.1f}{ratio}" if column in row["median_ms"] else "-").rjust(15))
        lines.append(row["model"].ljust(16) + "".join(cells))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lathe", type=Path, default=ROOT / "build/release/bin/lathe", help="the command; its Python package lies beside it")
    parser.add_argument("--out", type=Path, default=ROOT / "out/bench", help="folder for models and engines")
    parser.add_argument("--results", type=Path, help="where the figures go (default: bench/results/cpu-LEVEL.json)")
    parser.add_argument("--seconds", type=float, default=25.0, help="measuring time per network")
    parser.add_argument("--budget", default="60s", help="tuning time of each build")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    program = options.lathe.resolve()
    if not program.is_file():
        print(f"bench: there is no command '{program}': run `make build`, or give --lathe", file=sys.stderr)
        return 2
    package = str(program.parent.parent / "python")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    os.environ["LATHE_PYTHON"] = sys.executable
    sys.path[:0] = [package, str(ROOT / "examples/yolov5")]
    from lathe.paired_bench import cpu_count

    options.out.mkdir(parents=True, exist_ok=True)
    cpu = json.loads(output_of(str(program), "devices", "--json"))["cpu"]
    level = cpu["features"].split(" ")[0]
    target = options.results or ROOT / f"bench/results/cpu-{level}.json"
    results = {
        "machine": f"{cpu['model']} ({level})",
        "threads": cpu_count(),
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", "bench/run.py", *given]) if given else "make bench",
        "commit": commit(),
        "columns": list(COLUMNS),
        "rows": [],
    }
    for title, function, height, width in MODELS:
        onnx, engines = prepare(program, options.out, function, height, width, options.budget)
        results["rows"].append({"model": title, **latencies(function, onnx, engines, options.seconds)})
        if title == MEMORY_MODEL:
            results["memory"] = {"model": title, **memory(program, engines["fp32"])}
    results["openvino_bf16_runs_as"] = openvino_precision(onnx)
    used = {column for row in results["rows"] for column in row["median_ms"]}
    results["columns"] = [column for column in COLUMNS if column in used]
    results["versions"] = results["rows"][0]["entries"]
    for row in results["rows"]:
        del row["entries"]
    print("\nMedian latency in ms, batch 1; in brackets relative to the fastest rival of the same precision (below 1: Lathe is faster)\n")
    print(as_text(results))
    m = results["memory"]
    print(
        f"\n{m['model']} fp32: loads in {m['load_ms']} ms; peak memory {m['peak_memory_bytes'] / 2**20:.0f} MiB, {m['peak_over_planned']} of weights and planned activations"
    )
    target.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
