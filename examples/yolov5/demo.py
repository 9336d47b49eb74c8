# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What `make demo` runs: the trained detector from PyTorch to engines, its boxes on a held-out picture beside PyTorch's, and the speed
table of YOLOv5n, s and l beside PyTorch, ONNX Runtime and OpenVINO.

Every step is a command that a user would type; it is printed before it runs. Exit code 1 when a step fails, when a class differs from
PyTorch's or when a box overlaps PyTorch's by less than the limit of its precision.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LEAST_OVERLAP = {"fp32": 0.99, "bf16": 0.95}
# Held out from training; eight classes, thirteen objects, no score near the threshold, so both precisions must find the same.
SCENE = 1241
SPEED = (("YOLOv5n", "yolov5n_scenes", 640, 640), ("YOLOv5s", "yolov5s", 640, 640), ("YOLOv5l", "yolov5l", 352, 416))


class DemoFailure(Exception):
    """A step did not do what it should."""


class Demo:
    """Options, the command's environment, and the clock that every step's line shows."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.begin, self.steps = options, time.monotonic(), 0
        self.out = Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.lathe = Path(options.lathe)
        if not self.lathe.is_file():
            raise DemoFailure(f"There is no command '{self.lathe}': run `make build`, or give --lathe.")
        package = str(self.lathe.resolve().parent.parent / "python")
        sys.path.insert(0, package)  # the package of the same build as the command
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self.environment = {**os.environ, "PYTHONPATH": path, "LATHE_PYTHON": sys.executable}

    def title(self, text: str) -> None:
        self.steps += 1
        print(f"\n[{time.monotonic() - self.begin:5.1f} s]  {self.steps}. {text}", flush=True)

    def run(self, *arguments: str | Path) -> None:
        words = [str(word) for word in arguments]
        print("$ lathe " + " ".join(words), flush=True)
        code = subprocess.run([str(self.lathe), *words], env=self.environment, cwd=ROOT, check=False).returncode
        if code:
            raise DemoFailure(f"`lathe {words[0]}` ended with exit code {code}.")

    def export(self, function: str, name: str, height: int, width: int) -> Path:
        onnx = self.out / f"{name}.onnx"
        model = f"{(HERE / 'model.py').relative_to(ROOT)}:{function}"
        self.run("export", model, "-o", onnx, "--input", f"images:1x3x{height}x{width}")
        return onnx

    def build(self, onnx: Path, precision: str, *more: str) -> Path:
        engine = onnx.with_name(f"{onnx.stem}_{precision}.engine")
        self.run("build", onnx, "-o", engine, "--precision", precision, "--budget", self.options.budget, "--quiet", *more)
        return engine


def box_table(names: Sequence[str], wanted, found: dict, overlaps: dict) -> str:
    """One row per PyTorch detection, best first."""
    rows = [["class", "PyTorch", "box (x0 y0 x1 y1)", *(text for p in found for text in (f"Lathe {p}", "IoU"))]]
    for k, (box, score, label) in enumerate(zip(*wanted)):
        row = [names[label], f"{score:.4f}", " ".join(f"{value:6.1f}" for value in box)]
        for precision, (_, scores, _) in found.items():
            partner, overlap = overlaps[precision][k]
            row += [f"{scores[partner]:.4f}" if partner >= 0 else "missing", f"{overlap:.5f}" if partner >= 0 else "-"]
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))) for row in rows)


def match(wanted, found) -> list[tuple[int, float]]:
    """For each wanted detection the unclaimed found one of its class that overlaps it most: (index or -1, IoU)."""
    import numpy as np

    from postprocess import iou_matrix

    overlap = iou_matrix(wanted[0], found[0]) * (wanted[2][:, None] == found[2][None, :])
    claimed = np.zeros(len(found[0]), bool)
    pairs = []
    for row in overlap:
        row = np.where(claimed, 0, row)
        best = int(row.argmax()) if len(row) and row.max() > 0 else -1
        if best >= 0:
            claimed[best] = True
        pairs.append((best, float(row[best]) if best >= 0 else 0.0))
    return pairs


def boxes_step(demo: Demo, engines: dict[str, Path]) -> dict:
    """Runs the picture through PyTorch and both engines, draws it, and holds the boxes side by side."""
    import numpy as np
    from PIL import Image

    import lathe
    from detect import Detector, engine_runner, torch_runner
    from postprocess import to_input
    from scenes import HELD_OUT, make_scene

    scene = make_scene(HELD_OUT + SCENE)
    Image.fromarray(scene.image).save(demo.out / "scene.png")
    pixels = demo.out / "scene.npy"
    np.save(pixels, to_input(scene.image))
    demo.run("run", engines["fp32"], "--input", f"images={pixels}", "--output", demo.out / "scene.npz")
    run, names = torch_runner()
    wanted = Detector(run, names)(scene.image)
    loaded = {precision: lathe.load(str(path)) for precision, path in engines.items()}
    with np.load(demo.out / "scene.npz") as stored:
        by_command = stored[stored.files[0]]
    by_package = engine_runner(loaded["fp32"])(to_input(scene.image))
    if not np.array_equal(by_command, by_package):
        raise DemoFailure("The command and the Python package give different numbers on the same engine.")
    found, overlaps, faults = {}, {}, []
    for precision, engine in loaded.items():
        detector = Detector(engine_runner(engine), names)
        found[precision] = detector(scene.image)
        overlaps[precision] = match(wanted, found[precision])
        if len(found[precision][1]) != len(wanted[1]):
            faults.append(f"{precision}: {len(found[precision][1])} boxes, PyTorch has {len(wanted[1])}")
        for k, (_, overlap) in enumerate(overlaps[precision]):
            if overlap <= LEAST_OVERLAP[precision]:
                faults.append(f"{precision}: the {names[wanted[2][k]]} overlaps PyTorch's by {overlap:.4f}, not {LEAST_OVERLAP[precision]}")
    detector.draw(scene.image, found["fp32"]).save(demo.out / "demo.png")
    print(box_table(names, wanted, found, overlaps))
    print(f"{len(scene.labels)} objects were drawn; {demo.out / 'demo.png'} shows the fp32 engine's boxes")
    if faults or not len(wanted[1]):
        raise DemoFailure("; ".join(faults) or "PyTorch itself found nothing on the picture.")
    least = {precision: min(overlap for _, overlap in pairs) for precision, pairs in overlaps.items()}
    print("same classes; least IoU: " + ", ".join(f"{p} {value:.5f} (limit {LEAST_OVERLAP[p]})" for p, value in least.items()))
    return {"boxes": len(wanted[1]), "least_iou": least}


def measure(demo: Demo, function: str, onnx: Path, engines: dict[str, Path]) -> list:
    """All contestants on one network, in turns within one process; PyTorch is what outputs are compared with."""
    import model
    from lathe.paired_bench import RivalMissing, alternate, lathe_entry, onnxruntime_entry, openvino_entry, random_feeds, torch_entry

    feeds = random_feeds(str(onnx))
    entries = [torch_entry(getattr(model, function)(), list(feeds))]
    makers = [lambda: onnxruntime_entry(str(onnx))]
    makers += [lambda p=p: openvino_entry(str(onnx), p) for p in ("fp32", "bf16")]
    makers += [lambda p=p: lathe_entry(str(engines[p]), p) for p in ("fp32", "bf16")]
    for make in makers:
        try:
            entries.append(make())
        except RivalMissing as error:
            print(f"left out: {error}")
    alternate(entries, feeds, seconds=demo.options.seconds)
    return entries


def allowed_difference(function: str, onnx: Path) -> float:
    """What float32 outputs may differ from PyTorch's: a thousandth of their scale, or, where random weights magnify rounding, four times what
    PyTorch's own float32 outputs differ from float64."""
    import torch

    import model
    from lathe.exporter import flatten, float32_rounding
    from lathe.paired_bench import random_feeds

    network, inputs = getattr(model, function)().eval(), [torch.from_numpy(array) for array in random_feeds(str(onnx)).values()]
    with torch.inference_mode():
        expected = flatten(network(*inputs))
    return max(1e-3, 4 * max(float32_rounding(network, inputs, expected)))


def speed_table(results: dict[str, list]) -> str:
    """Medians in milliseconds, and how many times slower than Lathe at the same precision."""
    rows = [["ms (x Lathe of that precision)", *results]]
    for name in [entry.name for entry in next(iter(results.values()))]:
        row = [name]
        for entries in results.values():
            by_name = {entry.name: entry for entry in entries}
            if name not in by_name:
                row.append("-")
                continue
            mine = by_name[name]
            base = by_name[f"Lathe {mine.precision}"]
            median = mine.milliseconds()["median"]
            row.append(f"{median:.1f} ({median / base.milliseconds()['median']:.2f})")
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(row[0].ljust(widths[0]) + "".join("  " + cell.rjust(w) for cell, w in zip(row[1:], widths[1:])) for row in rows)


def speed_step(demo: Demo, prepared: dict[str, tuple[Path, dict[str, Path]]]) -> dict:
    from lathe.paired_bench import cpu_count

    results, allowed = {}, {}
    for title, function, height, width in SPEED:
        if function in prepared:
            onnx, engines = prepared[function]
        else:
            onnx = demo.export(function, function, height, width)
            # Unverified here: the table itself holds their outputs against PyTorch's.
            engines = {precision: demo.build(onnx, precision, "--no-verify") for precision in ("fp32", "bf16")}
        results[f"{title} {height}x{width}"] = measure(demo, function, onnx, engines)
        allowed[f"{title} {height}x{width}"] = allowed_difference(function, onnx)
    print(f"\nMedian latency, batch 1, {cpu_count()} threads, runs in turns. YOLOv5n has this example's weights, s and l seeded random ones.\n")
    print(speed_table(results))
    summary, faults = {}, []
    for title, entries in results.items():
        errors = {entry.name: entry.max_relative_error for entry in entries}
        # Random weights amplify rounding from layer to layer: bf16 is judged on the trained network's boxes.
        shown = [(n, e) for n, e in errors.items() if n != entries[0].name and ("bf16" not in n or title.startswith("YOLOv5n"))]
        print(f"{title}: outputs differ from PyTorch's by at most " + ", ".join(f"{e:.0e} ({n})" for n, e in shown))
        if errors["Lathe fp32"] > allowed[title]:
            faults.append(f"{title}: Lathe fp32 differs from PyTorch by {errors['Lathe fp32']:.1e} of the output's scale (allowed {allowed[title]:.0e})")
        summary[title] = {e.name: {**e.milliseconds(), "runs": len(e.times), "max_relative_error": e.max_relative_error} for e in entries}
    if faults:
        raise DemoFailure("; ".join(faults))
    return summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lathe", default=str(ROOT / "build/release/bin/lathe"), help="the command")
    parser.add_argument("--out", default=str(ROOT / "out"), help="folder for everything that is made")
    parser.add_argument("--budget", default="10s", help="tuning time of each build")
    parser.add_argument("--seconds", type=float, default=10.0, help="measuring time per network")
    parser.add_argument("--no-speed", action="store_true", help="stop after the boxes")
    options = parser.parse_args()
    try:
        demo = Demo(options)
        demo.title("Export from PyTorch and simplify")
        exported = demo.export("yolov5n_scenes", "yolov5n_exported", 640, 640)
        onnx = demo.out / "yolov5n.onnx"
        demo.run("simplify", exported, onnx)
        demo.title("Build engines; each is verified against the oracle before it is written")
        engines = {precision: demo.build(onnx, precision) for precision in ("fp32", "bf16")}
        demo.title("Verify the fp32 engine against the file as exported, and ONNX Runtime")
        demo.run("verify", engines["fp32"], "--onnx", exported, "--quiet")
        demo.title("Detect on a held-out picture, beside PyTorch")
        report = {"picture": boxes_step(demo, engines)}
        if not options.no_speed:
            demo.title("Measure")
            report["speed_ms"] = speed_step(demo, {"yolov5n_scenes": (onnx, engines)})
        (demo.out / "demo.json").write_text(json.dumps(report, indent=2) + "\n")
    except DemoFailure as failure:
        print(f"\ndemo: {failure}", file=sys.stderr)
        return 1
    print(f"\n[{time.monotonic() - demo.begin:5.1f} s]  done: {demo.out / 'demo.png'}, {demo.out / 'demo.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
