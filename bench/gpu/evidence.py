# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What a GPU machine shows of Lathe, into one folder: tests, whole networks beside PyTorch, times to a usable engine, the example's boxes, the profile.

    python bench/gpu/evidence.py OUT [PART ...] [--zoo FOLDER] [--models FOLDER] [--networks NAME,...] [--quick] [--again] [--commit HASH]

PART (default: all, in this order):
    machine   the GPU, the driver, versions
    models    the zoo's skeletons of --zoo (zoo.tar.xz, zoo_fill.py) with their seeded weights, and what PyTorch exports, into --models
    python    builds the package lathe for this Python, and runs tests/gpu/interop.py
    tests     bin/gpu_test
    engines   YOLOv5l: first usable engine, cached build, loading beside a CUDA context and in a cold process
    batches   the networks in fp32 and fp16 (ResNet-18 in tf32 too), batches 1 to 32 from one engine: verified, without steps on the host, and a picture's
              outputs the same in every batch
    boxes     the example's picture through an engine on the CPU and one on the GPU in FP16
    profile   YOLOv5l: time over floor per step, and the ten worst
    networks  bench/gpu/net_bench.py
    summary   OUT/summary.md from what is there

Runs in an unpacked bundle (`make gpu-bundle`) or in a checkout with build/release. A part that has its file in OUT is not run again unless --again, so
that a sitting that was cut off goes on. Parts that failed leave a file too, with "ok": false, and are tried again."""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tarfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IN_BUNDLE = (ROOT / "bin" / "lathe").exists()
BIN = ROOT / "bin" if IN_BUNDLE else ROOT / "build" / "release" / "bin"
GPU_TEST = ROOT / "bin" / "gpu_test" if IN_BUNDLE else ROOT / "build" / "release" / "tests" / "gpu_test"
LIBRARY = ROOT / "lib" / "liblathe.so" if IN_BUNDLE else ROOT / "build" / "release" / "liblathe.so"
PACKAGE = ROOT / "python" if IN_BUNDLE else ROOT / "build" / "release" / "python"
ZOO = ["yolov5s", "yolov5n", "yolov5l-352x416", "resnet50", "resnet18", "mobilenet_v2", "unet", "real_vit_base", "real_bert_base"]
# What is wanted, in milliseconds; and of the boxes.
LIMITS, LEAST_IOU = {"first_engine_ms": 10_000, "cached_build_ms": 2_000, "load_ms": 100}, 0.98
# Held out from the example's training; eight classes, thirteen objects.
SCENE = 1241


class Failed(Exception):
    """A part found something wrong; its facts are kept."""

    def __init__(self, message, facts):
        super().__init__(message)
        self.facts = facts


class Sitting:
    def __init__(self, options):
        self.options, self.out = options, options.out.resolve()
        self.models = (options.models or self.out / "models").resolve()
        self.work = self.out / "work"
        for folder in (self.out, self.models, self.work):
            folder.mkdir(parents=True, exist_ok=True)
        sys.path.insert(0, str(PACKAGE))
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))}
        self.environment.setdefault("LATHE_CACHE_DIR", str(self.work / "cache"))
        os.environ["LATHE_CACHE_DIR"] = self.environment["LATHE_CACHE_DIR"]
        if IN_BUNDLE:
            self.environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [str(ROOT / "lib"), os.environ.get("LD_LIBRARY_PATH")]))

    def run(self, *command, log=None, seconds=540, **environment):
        """Its output, and how long it took."""
        started = time.perf_counter()
        done = subprocess.run(
            [str(word) for word in command], env={**self.environment, **environment}, capture_output=True, text=True, timeout=seconds, check=False
        )
        took = time.perf_counter() - started
        if log:
            (self.out / log).write_text(done.stdout + done.stderr)
        if done.returncode:
            raise Failed(
                f"`{' '.join(str(word) for word in command[:3])} ...` ended with exit code {done.returncode}: {(done.stdout + done.stderr)[-3000:]}", {}
            )
        return done.stdout, took

    def python(self, code, *arguments, **environment):
        """A process of its own; its last line is JSON."""
        text, _ = self.run(sys.executable, "-c", code, *arguments, **environment)
        return json.loads(text.strip().splitlines()[-1])

    def model(self, name):
        path = self.models / f"{name}.onnx"
        if not path.exists():
            raise Failed(f"there is no {path}: run the part models", {})
        return path


def machine(sitting):
    import torch

    text, _ = sitting.run("nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit", "--format=csv,noheader")
    devices, _ = sitting.run(BIN / "lathe", "devices", "--json")
    return {
        "gpu": torch.cuda.get_device_name(0),
        "nvidia_smi": text.strip(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
        "commit": sitting.options.commit,
        "lathe": json.loads(devices)["cuda"],
    }


def fill_one(job):
    folder, skeleton, target = job
    sys.path.insert(0, str(folder))
    import onnx
    import zoo_fill

    onnx.save(zoo_fill.fill(onnx.load(str(skeleton), load_external_data=False)), str(target))
    return target.name


def export(job):
    """What the zoo has not, by PyTorch itself: names and shapes are net_bench.py's."""
    function, name, inputs, target = job
    sys.path.insert(0, str(ROOT / "examples" / "yolov5"))
    import torch

    import model

    torch.onnx.export(
        getattr(model, function)().eval(),
        (torch.rand(inputs),),
        str(target),
        dynamo=False,
        opset_version=17,
        input_names=[name],
        output_names=["boxes"],
        dynamic_axes={name: {0: "batch"}, "boxes": {0: "batch"}},
    )
    return target.name


def models(sitting):
    jobs, exports = [], []
    wanted = sitting.options.only_models.split(",") if sitting.options.only_models else ZOO
    missing = [name for name in wanted if not (sitting.models / f"{name}.onnx").exists()]
    if missing:
        zoo = sitting.options.zoo
        if not zoo:
            raise Failed(f"{', '.join(missing)}: not in {sitting.models}, and no --zoo was given", {})
        skeletons = sitting.work / "skeletons"
        with tarfile.open(zoo / "zoo.tar.xz") as archive:
            for member in archive:
                if member.name.removesuffix(".onnx") in missing:
                    archive.extract(member, skeletons)
        jobs = [(zoo.resolve(), skeletons / f"{name}.onnx", sitting.models / f"{name}.onnx") for name in missing]
    for function, name, file, shape in (
        ("yolov5l", "image", "yolov5l", (1, 3, 640, 640)), ("yolov5n_scenes", "images", "yolov5n_scenes", (1, 3, 640, 640)),
        ("yolov5n", "image", "yolov5n-batches", (1, 3, 640, 640)), ("yolov5s", "image", "yolov5s-batches", (1, 3, 640, 640)),
        ("yolov5l", "image", "yolov5l-352x416-batches", (1, 3, 352, 416)),
    ):  # fmt: skip
        if not (sitting.models / f"{file}.onnx").exists():
            exports.append((function, name, shape, sitting.models / f"{file}.onnx"))
    # Fresh processes: this one may hold a CUDA context.
    with concurrent.futures.ProcessPoolExecutor(min(8, os.cpu_count()), multiprocessing.get_context("spawn")) as pool:
        made = [*pool.map(fill_one, jobs), *pool.map(export, exports)]
    return {"made": made, "have": sorted(path.name for path in sitting.models.glob("*.onnx"))}


def python(sitting):
    facts = {}
    if IN_BUNDLE and not any((PACKAGE / "lathe").glob("_lathe*.so")):
        _, facts["build_s"] = sitting.run(ROOT / "python" / "build.sh", PYTHON=sys.executable, log="python-build.log")
    text, facts["seconds"] = sitting.run(sys.executable, ROOT / "tests" / "gpu" / "interop.py", log="interop.log")
    facts["cases"] = re.findall(r"^ok +(\w+)", text, re.M)
    facts["summary"] = text.strip().splitlines()[-1]
    return facts


def tests(sitting):
    _, seconds = sitting.run(GPU_TEST, "--gtest_brief=1", f"--gtest_output=json:{sitting.out / 'gpu_test.json'}", log="gpu_test.log")
    report = json.loads((sitting.out / "gpu_test.json").read_text())
    return {"seconds": seconds, "tests": report["tests"], "failures": report["failures"]}


LOADING = """
import json, sys, time
import numpy as np
path, shape, beside = sys.argv[1], [int(x) for x in sys.argv[2].split("x")], sys.argv[3] == "torch"
if beside:
    import torch
    held = torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
import lathe
image = np.random.default_rng(1).random(shape, np.float32)
times = []
for _ in range(4 if beside else 1):
    t0 = time.perf_counter()
    engine = lathe.load(path, device="cuda")
    t1 = time.perf_counter()
    context = engine.create_context()
    outputs = context.run([image])
    t2 = time.perf_counter()
    context.run([image])
    t3 = time.perf_counter()
    times.append({"load_ms": (t1 - t0) * 1e3, "first_run_ms": (t2 - t1) * 1e3, "second_run_ms": (t3 - t2) * 1e3})
    del context, engine
print(json.dumps(times))
"""


def engines(sitting):
    """The zoo's YOLOv5l, whose weights have the moments of trained ones, is verified; the one at 640x640 has random weights that leave FP16's range, so it
    is timed without."""
    facts = {}

    def build(name, model, image, engine, cache, *more):
        if not name.startswith("cached"):
            subprocess.run(["rm", "-rf", str(cache)], check=True)
        words = ["--device", "cuda", "--precision", "fp16", "--shape", f"image:{image}", "-q", "-o", engine]
        _, seconds = sitting.run(BIN / "lathe", "build", sitting.model(model), *words, *more, LATHE_CACHE_DIR=str(cache))
        report = sitting.python(f"import json, lathe; print(json.dumps(lathe.load({str(engine)!r}).report))")
        facts[name] = {
            "seconds": seconds, "inside": report["seconds"], "tuning": report["tuning"], "verified": report["verify"]["passed"], "verify": report["verify"]["summary"],
            "engine_bytes": engine.stat().st_size,
        }  # fmt: skip

    small, large = sitting.work / "yolov5l-352x416.engine", sitting.work / "yolov5l-640.engine"
    cache, other = sitting.work / "fresh-cache", sitting.work / "unverified-cache"
    build("first_640_unverified", "yolov5l", "1x3x640x640", large, other, "--no-verify")
    build("cached_640_unverified", "yolov5l", "1x3x640x640", large, other, "--no-verify")
    build("first", "yolov5l-352x416", "1x3x352x416", small, cache)
    build("cached", "yolov5l-352x416", "1x3x352x416", small, cache)
    for name, beside in (("load_beside_a_context", "torch"), ("load_cold", "alone")):
        facts[name] = sitting.python(LOADING, small, "1x3x352x416", beside, LATHE_CACHE_DIR=str(cache))
    beside, cold = facts["load_beside_a_context"][0], facts["load_cold"][0]
    verdict = {
        "first_engine_ms": facts["first"]["seconds"] * 1e3,
        "first_640_unverified_ms": facts["first_640_unverified"]["seconds"] * 1e3,
        "cached_build_ms": facts["cached"]["seconds"] * 1e3,
        "load_ms": beside["load_ms"],
        "load_and_first_run_ms": beside["load_ms"] + beside["first_run_ms"],
        "cold_load_ms": cold["load_ms"],
    }
    facts["verdict"] = verdict
    over = [f"{what} is {verdict[what]:.0f}, wanted below {limit}" for what, limit in LIMITS.items() if verdict[what] > limit]
    if over:
        raise Failed("; ".join(over), facts)
    return facts


PICTURE, YOLO = {"input": (3, 224, 224)}, {"image": (3, 640, 640)}
# File, a sample's inputs.
ANY_BATCH = {
    "resnet18": PICTURE, "resnet50": PICTURE, "mobilenet_v2": PICTURE, "unet": {"input": (3, 256, 256)}, "yolov5n-batches": YOLO, "yolov5s-batches": YOLO,
    "yolov5l-352x416-batches": {"image": (3, 352, 416)}, "yolov5l": YOLO, "real_vit_base": {"pixel_values": (3, 224, 224)},
    "real_bert_base": {"input_ids": (128,), "attention_mask": (128,)},
}  # fmt: skip

BATCHES = """
import json, sys, time
import numpy as np, lathe
engine = lathe.load(sys.argv[1], device="cuda")
rng, inputs = np.random.default_rng(7), {}
for name, (dtype, *dims) in json.loads(sys.argv[2]).items():
    dims = (32, *dims)
    if "mask" in name:
        inputs[name] = np.ones(dims, dtype)
    elif np.dtype(dtype).kind == "i":
        inputs[name] = rng.integers(0, 30000, dims).astype(dtype)
    else:
        inputs[name] = (0.25 + 0.5 * rng.standard_normal(dims)).astype(dtype)
whole, worst, ms = engine.run(inputs), 0.0, {}
for batch in (1, 2, 3, 8, 17, 31, 32):
    for start in (0, 32 - batch):
        part = {name: value[start : start + batch].copy() for name, value in inputs.items()}
        t0 = time.perf_counter()
        found = engine.run(part)
        ms[batch] = (time.perf_counter() - t0) * 1e3
        for name, wanted in whole.items():
            wanted = wanted[start : start + batch].astype(np.float64)
            assert found[name].shape == wanted.shape and np.isfinite(wanted).all() and wanted.std() > 0, (name, batch, found[name].shape, wanted.shape)
            worst = max(worst, float(np.abs(found[name] - wanted).max() / np.abs(wanted).max()))
print(json.dumps({"worst_difference": worst, "call_ms": ms, "host_steps": engine.report.get("host_steps", []), "report": engine.report}))
"""


def batches(sitting):
    """A picture may differ between batches by what another order of summation makes: the kernels chosen are the same, the split of long sums is not."""

    def one(job):
        name, precision = job
        inputs, engine = ANY_BATCH[name], sitting.work / f"{name}-{precision}.engine"
        shapes = [word for at, dims in inputs.items() for word in ("--shape", f"{at}:" + ":".join("x".join(map(str, (batch, *dims))) for batch in (1, 1, 32)))]
        try:
            words = ["--device", "cuda", "--precision", precision, *shapes, "--budget", "20s", "-q", "-o", engine]
            _, seconds = sitting.run(BIN / "lathe", "build", sitting.model(name), *words)
            types = {at: ("int64" if len(dims) == 1 else "float32", *dims) for at, dims in inputs.items()}
            facts = sitting.python(BATCHES, engine, json.dumps(types))
            report = facts.pop("report")
            facts |= {
                "build_s": seconds, "section": report.get("section"), "steps": report["steps"], "verified": report["verify"]["passed"],
                "verify": report["verify"]["summary"],
            }  # fmt: skip
            limit = 2e-2 if precision == "fp16" else 2e-3 if precision == "tf32" else 2e-4
            facts["ok"] = bool(facts["verified"] and not facts["host_steps"] and facts["worst_difference"] <= limit)
        except Exception as error:
            facts = {"ok": False, "error": str(error)}
        return f"{name} {precision}", facts

    jobs = [(name, precision) for name in ANY_BATCH for precision in ("fp16", "fp32")] + [("resnet18", "tf32")]
    with concurrent.futures.ThreadPoolExecutor(max(1, min(5, os.cpu_count() // 3))) as pool:
        facts = dict(pool.map(one, jobs))
    if bad := {name: row for name, row in facts.items() if not row["ok"]}:
        raise Failed(json.dumps(bad, indent=1)[:6000], facts)
    return facts


def boxes(sitting):
    sys.path.insert(0, str(ROOT / "examples" / "yolov5"))
    import lathe
    from demo import match
    from detect import CLASSES, Detector, engine_runner
    from scenes import HELD_OUT, make_scene

    onnx = str(sitting.model("yolov5n_scenes"))
    scene = make_scene(HELD_OUT + SCENE)
    on_cpu = lathe.build(onnx, shapes={"images": (1, 3, 640, 640)}, budget=5)
    wanted = Detector(engine_runner(on_cpu), CLASSES)(scene.image)
    facts = {"objects": len(wanted[1])}
    for precision in ("fp16", "fp32"):
        on_gpu = lathe.build(onnx, device="cuda", precision=precision, shapes={"images": (1, 3, 640, 640)})
        found = Detector(engine_runner(on_gpu), CLASSES)(scene.image)
        pairs = match(wanted, found)
        facts[precision] = {
            "boxes": len(found[1]),
            "least_iou": min((overlap for _, overlap in pairs), default=0.0),
            "largest_score_difference": max((abs(float(wanted[1][k]) - float(found[1][at])) for k, (at, _) in enumerate(pairs) if at >= 0), default=0.0),
            "section": on_gpu.section,
        }
    half = facts["fp16"]
    if not facts["objects"] or half["boxes"] != facts["objects"] or half["least_iou"] <= LEAST_IOU:
        raise Failed(f"FP16 finds {half['boxes']} of {facts['objects']} boxes, least overlap {half['least_iou']:.4f} (wanted above {LEAST_IOU})", facts)
    return facts


def profile(sitting):
    engine = sitting.work / "yolov5l-640.engine"
    if not engine.exists():
        raise Failed("there is no engine of YOLOv5l: run the part engines", {})
    text, _ = sitting.run(BIN / "lathe", "profile", engine, "--json", "--time", "3s", LATHE_CACHE_DIR=str(sitting.work / "unverified-cache"))
    report = json.loads(text)
    worst = sorted(report["steps"], key=lambda step: -step["lost_ms"])[:10]
    about = {
        "network": "yolov5l-640-b1",
        "gpu": re.sub(r".*\((.*)\)", r"\1", report["section"]),
        "date": time.strftime("%Y-%m-%d"),
        "commit": sitting.options.commit,
    }
    whole = {key: value for key, value in report.items() if key not in ("steps", "model")}
    kept = {"about": about, **whole, "step_count": len(report["steps"]), "worst": worst}
    # As bench/results keeps it, for docs/gpu.md.
    (sitting.out / "h200-profile.json").write_text(json.dumps(kept, indent=1) + "\n")
    return {**kept, "steps": report["steps"]}


def networks(sitting):
    more = ["--only", sitting.options.networks] if sitting.options.networks else []
    more += ["--quick"] if sitting.options.quick else []
    more += ["--rivals", sitting.options.rivals] if sitting.options.rivals else []
    target = sitting.out / "h200-networks.json"
    sitting.run(
        sys.executable, ROOT / "bench" / "gpu" / "net_bench.py", LIBRARY, sitting.models, target, "--commit", sitting.options.commit, *more, log="networks.log"
    )
    return json.loads(target.read_text())


PARTS = {part.__name__: part for part in (machine, models, python, tests, engines, boxes, profile, batches, networks)}


def summary(sitting):
    known = {name: json.loads((sitting.out / f"{name}.json").read_text()) for name in PARTS if (sitting.out / f"{name}.json").exists()}
    lines = ["# Evidence", ""]
    for name in PARTS:
        result = known.get(name)
        lines.append(
            f"* {name}: "
            + ("not run" if not result else f"ok ({result['took_s']:.0f} s)" if result["ok"] else f"FAILED: {result['error'].splitlines()[0][:300]}")
        )
    facts = {name: result.get("facts") or {} for name, result in known.items()}
    if verdict := facts.get("engines", {}).get("verdict"):
        lines += ["", "| YOLOv5l, FP16 | ms | wanted below |", "| --- | ---: | ---: |"]
        for what, text in (
            ("first_engine_ms", "352x416: ONNX file to verified engine file, nothing cached"), ("first_640_unverified_ms", "640x640, not verified"),
            ("cached_build_ms", "352x416 again, verified again"), ("load_ms", "loading beside a CUDA context"), ("load_and_first_run_ms", "and to the first output"),
            ("cold_load_ms", "loading in a cold process"),
        ):  # fmt: skip
            lines.append(f"| {text} | {verdict[what]:.1f} | {LIMITS.get(what, '-')} |")
    if facts.get("batches"):
        lines += [
            "",
            "| batches 1 to 32 from one engine | verified | steps on the host | worst difference of a sample between batches, of the scale |",
            "| --- | --- | ---: | ---: |",
        ]
        for name, row in facts["batches"].items():
            lines.append(
                f"| {name} | {row.get('error', '')[:200] or row['verified']} | {len(row.get('host_steps', []))} | {row.get('worst_difference', float('nan')):.1e} |"
            )
    if facts.get("boxes"):
        lines += [
            "",
            f"Boxes: {facts['boxes']['objects']} on the CPU; least overlap in FP16 {facts['boxes']['fp16']['least_iou']:.5f} (wanted above {LEAST_IOU}).",
        ]
    if facts.get("networks", {}).get("networks"):
        lines += ["", "| network | PyTorch, fastest way, ms | Lathe, ms |", "| --- | ---: | ---: |"]
        for name, row in facts["networks"]["networks"].items():
            rivals = [value for contender, value in row["median_ms"].items() if contender != "lathe"]
            lines.append(f"| {name} | {min(rivals) if rivals else float('nan'):.3f} | {row['median_ms']['lathe']:.3f} |")
    if worst := facts.get("profile", {}).get("worst"):
        report = facts["profile"]
        lines += ["", f"Profile: {report['run_ms']:.3f} ms as one graph, steps {report['steps_ms']:.3f} ms, floors {report['floor_ms']:.3f} ms.", ""]
        lines += ["| step | kernel | us | floor, us | time/floor |", "| --- | --- | ---: | ---: | ---: |"]
        lines += [f"| {s['label'][:70]} | {s['kernel']} | {s['ms'] * 1e3:.1f} | {s['floor_ms'] * 1e3:.1f} | {s['time_over_floor'] or 0:.1f} |" for s in worst]
    text = "\n".join(lines) + "\n"
    (sitting.out / "summary.md").write_text(text)
    print(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--zoo", type=Path, default=os.environ.get("LATHE_ZOO") and Path(os.environ["LATHE_ZOO"]))
    parser.add_argument("--models", type=Path, help="where the ONNX files are, or go (default: OUT/models)")
    parser.add_argument("--only-models", default="", help="of the zoo, these alone")
    parser.add_argument("--networks", default="", help="of net_bench.py, these alone")
    parser.add_argument("--rivals", default="", help="for net_bench.py")
    parser.add_argument("--quick", action="store_true", help="for net_bench.py")
    parser.add_argument("--again", action="store_true", help="parts that are done, too")
    parser.add_argument("--commit", default="")
    options = parser.parse_intermixed_args()
    for part in options.parts:
        if part not in PARTS and part != "summary":
            parser.error(f"there is no part {part}; there are {', '.join(PARTS)}, summary")
    sitting, failed = Sitting(options), False
    for name, part in PARTS.items():
        if options.parts and name not in options.parts:
            continue
        file = sitting.out / f"{name}.json"
        if file.exists() and not options.again and json.loads(file.read_text())["ok"]:
            print(f"{name}: done before", flush=True)
            continue
        started = time.perf_counter()
        result = {"ok": True}
        try:
            result["facts"] = part(sitting)
        except Exception as error:  # the others go on
            result = {"ok": False, "error": str(error) if isinstance(error, Failed) else traceback.format_exc(), "facts": getattr(error, "facts", {})}
            failed = True
        result["took_s"] = time.perf_counter() - started
        file.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {'ok' if result['ok'] else 'FAILED: ' + result['error']} ({result['took_s']:.1f} s)", flush=True)
    if not options.parts or "summary" in options.parts:
        summary(sitting)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
