# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Every model of the zoo: checked, simplified, built, run, verified and held against ONNX Runtime (zoo_accuracy.py); what `make zoo` does, or

    python tests/zoo_sweep.py [--modelled] [--limit SECONDS] [NAME ...]
    python tests/zoo_sweep.py --summary        bench/results/zoo_cpu.json, which docs/zoo.md is made from, of what is recorded

Each model in a process of its own. Results stand in <build folder>/zoo/NAME.json. What an unchanged library has measured is not measured again,
and sweeps that run side by side share the models between them. --modelled leaves the builds out that time their candidates."""

import argparse
import datetime
import fcntl
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx

import zoo
import zoo_accuracy
import zoo_detectors
import zoo_inputs
from zoo_accuracy import MODELLED, WAYS, WEIGHT_SEEDS

WEIGHTS = 12_000_000  # of a model whose simplified form is run beside the one that was read
SUMMARY = zoo.ROOT / "bench" / "results" / "zoo_cpu.json"


@lru_cache(maxsize=1)
def library():
    """Names what is measured: the built extension's bytes and those of the files that say how."""
    import lathe._lathe

    digest = hashlib.sha256()
    for path in (lathe._lathe.__file__, zoo_accuracy.__file__, zoo_detectors.__file__, zoo_inputs.__file__):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def record_path(name):
    folder = zoo.build_dir() / "zoo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.json"


def recorded(name):
    """What is known of a model with this library: {"results": {"SEED WAY": result}, "file": what check and simplify say}."""
    try:
        record = json.loads(record_path(name).read_text())
    except FileNotFoundError:
        record = {}
    return record if record.get("library") == library() else {"library": library(), "results": {}}


def keep(name, record):
    part = record_path(name).with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(record, indent=1))
    part.replace(record_path(name))


@contextmanager
def claimed(name, wait=False):
    """Whether this process may measure a model; False while another one does, unless it waits."""
    with open(record_path(name).with_suffix(".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def complete(name, ways=WAYS):
    """Measures what is not yet recorded of a model; returns its record."""
    record = recorded(name)
    if "file" not in record:
        record["file"] = of_file(name)
        keep(name, record)
    for seed in WEIGHT_SEEDS:
        # Candidates do not depend on the weights' values: timing them once is enough.
        wanted = {w: a for w, a in (ways if seed == WEIGHT_SEEDS[0] else MODELLED).items() if w in ways and f"{seed} {w}" not in record["results"]}
        if wanted:
            record["results"] |= {f"{seed} {way}": result for way, result in measure(name, seed, wanted).items()}
            keep(name, record)
    return record


def measure(name, seed, ways):
    if name in zoo_detectors.DETECTORS:
        return zoo_detectors.measure(name, seed, ways)
    return zoo_accuracy.measure(name, seed, ways)


def of_file(name):
    """What `check` and `simplify` say of the file; the simplified one is valid by the format's own checker."""
    import lathe

    path = str(zoo.filled(name))
    stored = onnx.load(path, load_external_data=False)
    small = sum(int(np.prod(t.dims)) for t in zoo.tensors(stored.graph)) < WEIGHTS
    # ONNX Runtime's optimiser writes an operator of its own into ai.onnx, which the format's checker refuses as well.
    foreign = {("unknown-operator", "SimplifiedLayerNormalization")}
    errors = [f"{d.code} {d.node}: {d.what}" for d in lathe.check(path).errors if (d.code, d.op) not in foreign]
    fixed = {i: extents[1] for i, extents in zoo_inputs.ranges(name, zoo_accuracy.session(path).get_inputs()).items()}
    simplified = lathe.simplify(path, shapes=fixed, check=small)
    domains = {o.domain for o in stored.opset_import}
    if domains <= {"", "ai.onnx", "ai.onnx.ml"}:  # the checker knows no others
        model = onnx.load_from_string(simplified["model"])
        if model.ByteSize() < 1 << 31:
            onnx.checker.check_model(model)
    return {"check": errors, "simplified": simplified["nodes_after"], "simplify_error": simplified["max_relative_error"] if small else None}


def defects(name, record):
    found = [f"check: {text}" for text in record["file"]["check"]]
    for key, result in record["results"].items():
        found += [f"weights {key}: {text}" for text in zoo_accuracy.defects(name, key.split(" ", 1)[1], result)]
    return found


def row(name, record):
    """One line of the table: the worst error with and without `exact`, region outputs that were compared, seconds."""
    results = record["results"]
    worst = {e: max([max(r["errors"].values()) for k, r in results.items() if WAYS[k.split(" ", 1)[1]]["exact"] == e], default=0) for e in (True, False)}
    inner = [r["regions"] for r in results.values() if "regions" in r]
    seen = f"{inner[0]['count']} regions, {max(r['error'] for r in inner):.1e}" if inner else ""
    one = next(iter(results.values()))
    seconds = sum(r["seconds"] for r in results.values())
    return f"| {name} | {one['shapes']} | {one['steps']} | {worst[True]:.1e} | {worst[False]:.1e} | {seen} | {seconds:.0f} |"


def sweep(names, options):
    todo, failed, done = list(names), {}, {}
    while todo:
        before = len(todo)
        for name in list(todo):
            with claimed(name) as mine:
                if not mine:
                    continue
                todo.remove(name)
                failed[name] = measured_apart(name, options)
                if not failed[name]:
                    done[name] = recorded(name)
                    failed[name] = defects(name, done[name])
            print(row(name, done[name]) if name in done else f"| {name} | failed |", flush=True)
            for text in failed[name]:
                print(f"FAILED {name}: {text}", flush=True)
        if len(todo) == before:
            time.sleep(5)  # another process works on what is left
    print(f"{len(done)} models measured, {sum(map(bool, failed.values()))} with defects")
    for (name, output), (exact, fast, cause) in zoo_accuracy.EXCEPTIONS.items():
        print(f"exception: {name} {output} may reach {exact:.0e} and {fast:.0e}: {cause}")
    for name, texts in failed.items():
        for text in texts:
            print("FAILED", name, text)
    return 1 if any(failed.values()) else 0


def measured_apart(name, options):
    """Measures a model in a process of its own; returns what went wrong, as texts. The sweep goes on; the list at its end says what failed."""
    command = [sys.executable, __file__, "--one", name] + (["--modelled"] if options.modelled else [])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.limit, check=False)
    except subprocess.TimeoutExpired:
        return [f"took longer than {options.limit} s"]
    if done.returncode == 0:
        return []
    return [f"process ended with {done.returncode}: {' '.join(done.stderr.strip().splitlines()[-1:])}"]


def summary():
    """Of every recorded model one row for docs/zoo.md."""
    import onnxruntime

    models, timed = {}, True
    for name in zoo.names():
        record = recorded(name)
        if not record["results"]:
            continue
        results = record["results"]
        timed = timed and len(results) == len(WAYS) + len(MODELLED)
        first = results.get("0 fast") or next(iter(results.values()))
        shares = [e / zoo_accuracy.limit_of(name, o, WAYS[k.split(" ", 1)[1]]["exact"]) for k, r in results.items() for o, e in r["errors"].items()]
        models[name] = {
            "nodes": first["nodes"],
            "simplified": record["file"]["simplified"],
            "steps": first["steps"],
            "islands": first["islands"],
            "host": len(first["host"]),
            "shapes": first["shapes"],
            "builds": len(results),
            "error_share": float(f"{max(shares):.2g}"),
            "verified": "regions" in first and not first["regions"]["failed"],
            "build_seconds": first["build_seconds"],
            "run_ms": first["run_ms"],
            "by_definition": first["by_definition"],
            "defects": len(defects(name, record)),
        }
    exceptions = [{"model": m, "what": o, "cause": f"{cause} (up to {fast:.0e})"} for (m, o), (_, fast, cause) in zoo_accuracy.EXCEPTIONS.items()]
    cause = "an order of nearly equal scores: the parts before and behind it are compared, the latter fed with ONNX Runtime's tensors"
    exceptions += [{"model": m, "what": "the outputs", "cause": cause} for m in zoo_detectors.DETECTORS]
    about = {
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        # Builds that time their candidates are part of `make zoo`, not of a quicker sweep.
        "command": "make zoo" if timed else "python tests/zoo_sweep.py --modelled",
        "onnxruntime": onnxruntime.__version__,
        "models_of_the_zoo": len(zoo.names()),
    }
    SUMMARY.write_text(json.dumps({"about": about, "exceptions": exceptions, "models": models}, indent=1) + "\n")
    print(f"wrote {SUMMARY.relative_to(zoo.ROOT)}: {len(models)} models")


def machine():
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} threads"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--modelled", action="store_true", help="no builds that time their candidates")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one model")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--one", action="store_true", help="measure here, under the claim of the process that asks")
    options = parser.parse_args()
    if options.summary:
        return summary()
    if options.one:
        complete(options.names[0], MODELLED if options.modelled else WAYS)
        return 0
    return sweep(options.names or zoo.names(), options)


if __name__ == "__main__":
    import conftest  # noqa: F401  finds the built package

    sys.exit(main())
