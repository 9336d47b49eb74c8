# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The page docs/zoo.md, from what `make zoo` left in bench/results/zoo_*.json (tests/zoo_sweep.py); part of tools/make_docs.py."""

import collections
import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "bench" / "results"

HEAD = """# The zoo

Made by `make docs` from `bench/results/zoo_*.json`, which `make zoo` writes; a test fails when it is stale.

The zoo is a set of real exports by both of PyTorch's exporters (`.dynamo`: the newer), by scikit-learn's, and of files that ONNX Runtime's tools quantised (`q_`),
fused (`ort_`) or converted to float16 (`fp16_`), with seeded weights. Each file is checked, simplified, built, run and held against ONNX Runtime
(`tests/zoo_accuracy.py`): at two weight seeds, with and without `exact`, at two inputs a shape, and at three shapes from one engine where it has free
extents. *Error* is the worst of all of that as a share of what is allowed, so that 1 would be a failure; *verified* says that each tensor that an engine stores was
held against the reference execution of the file as read. *Host* counts steps that run an operator by its definition, and *by definition* names the operator whose
such steps take most of a run, and how much of it; *islands* are the planned parts of a dynamic program.
Times are medians at the first shape, in milliseconds, for the record: they were taken beside whatever else the machine did (`make bench` measures with care)."""


def share(value):
    return "0" if value == 0 else f"{value:.2g}"


def table(results):
    about, models = results["about"], results["models"]
    good = sum(not m["defects"] for m in models.values())
    lines = [
        f"## {about['machine']}",
        "",
        f"{about['date']}, ONNX Runtime {about['onnxruntime']}, `{about['command']}`: {len(models)} of {about['models_of_the_zoo']} models, of which {good} without a defect and "
        f"{sum(m['verified'] for m in models.values())} verified.",
        "",
        "| model | nodes | simplified | steps | host | by definition | islands | shapes | engines | error | verified | build, s | run | ONNX Runtime | ratio |",
        "| --- |" + " ---: |" * 9 + " --- |" + " ---: |" * 4,
    ]
    for name, m in sorted(models.items()):
        ours, theirs = m["run_ms"]
        part, op = m["by_definition"]
        before = " | ".join(str(m[k]) for k in ("nodes", "simplified", "steps", "host"))
        counts = f"{before} | {100 * part:.1f} % {op} | " + " | ".join(str(m[k]) for k in ("islands", "shapes", "builds"))
        verdict = "yes" if m["verified"] else "no"
        error = share(m["error_share"]) + (f" (**{m['defects']} defects**)" if m["defects"] else "")
        lines.append(
            f"| {name} | {counts} | {error} | {verdict} | {m['build_seconds']:.1f} | {ours:.3g} | {theirs:.3g} | {ours / theirs if theirs else 0:.2f} |"
        )
    if results["exceptions"]:
        lines += ["", "Exceptions:", ""]
        lines += [f"* {e['model']}, {e['what']}: {e['cause']}" for e in results["exceptions"]]
    return "\n".join(lines)


def gpu_section(path):
    """The same files built for a GPU (bench/gpu/zoo.py): how many were verified, and every model of which a step runs on the host."""
    record = json.loads(path.read_text())
    device = next(line.split(":", 1)[1][1:].strip() for line in record["devices"] if line.startswith("cuda:0"))
    builds = [(name, precision, r) for name, m in sorted(record["models"].items()) for precision, r in sorted(m.items())]
    precisions = ", ".join(
        f"{sum(p == precision and r['ok'] for _, p, r in builds)} in {precision}" for precision in sorted({p for _, p, _ in builds}, reverse=True)
    )
    lines = [
        f"## {device}",
        "",
        f"{record['date']}, `{record['command']}`: {len(record['models'])} models; built and verified on the device, every tensor that an engine stores against the reference: "
        f"{precisions}. Control flow and sequences are the host's; steps that compute there:",
        "",
        "| model | precision | steps | on the host |",
        "| --- | --- | ---: | --- |",
    ]
    for name, precision, r in builds:
        if r.get("host_steps"):
            counts = collections.Counter(step.split()[0] for step in r["host_steps"])
            lines.append(f"| {name} | {precision} | {r['steps']} | {', '.join(f'{op} ({n})' if n > 1 else op for op, n in sorted(counts.items()))} |")
    lines += [f"| {name} | {precision} | | **not built**: {r.get('error') or r.get('verified')} |" for name, precision, r in builds if not r["ok"]]
    return "\n".join([*lines, "", "Every other model: none."])


def page():
    tables = [table(json.loads(path.read_text())) for path in sorted(RESULTS.glob("zoo_*.json"))]
    gpus = [gpu_section(path) for path in sorted(RESULTS.glob("*-zoo.json"))]
    return "\n\n".join([HEAD, *(tables or ["No sweep is committed yet."]), *gpus]) + "\n"
