# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""How far engines of the zoo's models are from ONNX Runtime. test_zoo_accuracy.py judges a part of this in every `make test`; the whole sweep is
zoo_sweep.py.

Every model at two weight seeds, with and without `exact`, by modelled and by timed choice of candidates; for each engine two input seeds at
every shape: three shapes from one engine where the model has free extents."""

import re
import time

import numpy as np
import onnx

import zoo
import zoo_inputs

# A share of the output's scale, with `exact` and without. Files in float16 are rounded after every node by the rival and where a tensor is stored
# by us; where an integer of a quantised file is rounded the other way, what follows moves by a step.
TOLERANCE = {True: 2e-5, False: 2e-4}
COARSE = {"fp16_": 4e-3, "q_": 4e-2}
# Another input must move each output by so many tolerances, or inner tensors are compared as well.
SENSITIVE = 100
WEIGHT_SEEDS = (0, 1)
INPUT_SEEDS = (1, 2)
# Ways to build: arguments of lathe.build. Timed builds take whatever candidate is fastest at that moment, so over time all of them are met.
MODELLED = {"exact": {"exact": True, "budget": 0}, "fast": {"exact": False, "budget": 0}}
TIMED = {"exact timed": {"exact": True, "budget": 10}, "fast timed": {"exact": False, "budget": 10}}
WAYS = MODELLED | TIMED
# The one that is built with verification in any case, so that each tensor that it stores is held against the oracle.
VERIFIED = (0, "fast")
# Outputs that need not meet the tolerance: {(model, output): (limit with exact, limit without, cause)}. At most three.
_DPT = "ONNX Runtime itself is 3e-5 from double precision here, Lathe 6e-6"
EXCEPTIONS = {
    ("hf_dpt", "1028"): (5e-5, 2e-4, _DPT),
    ("hf_dpt.dynamo", "squeeze"): (5e-5, 2e-4, _DPT),
}


def session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"])


def tolerance(name, exact):
    return next((limit for prefix, limit in COARSE.items() if name.startswith(prefix)), TOLERANCE[exact])


def limit_of(name, output, exact):
    return EXCEPTIONS[name, output][0 if exact else 1] if (name, output) in EXCEPTIONS else tolerance(name, exact)


def error_of(got, want):
    """Error as a share of the scale; infinite when types, shapes, integers or non-finite elements differ."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return float("inf")
    if not np.issubdtype(want.dtype, np.floating):
        return 0.0 if np.array_equal(got, want) else float("inf")
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return float("inf")
    return share(np.abs(got[finite].astype(np.float64) - want[finite]), want)


def share(differences, want):
    """The largest difference as a share of the output's scale."""
    scale = np.abs(want[np.isfinite(want)]).max(initial=0)
    return float(differences.max(initial=0) / max(scale, 1e-30))


def moved(other, want):
    """How far another input moves an output, as a share of its scale; infinitely when it gets another shape."""
    if other.shape != want.shape:
        return float("inf")
    if not np.issubdtype(want.dtype, np.floating):
        return float("inf") if not np.array_equal(other, want) else 0.0
    both = np.isfinite(want) & np.isfinite(other)
    return share(np.abs(other[both].astype(np.float64) - want[both]), want)


def sensitivity(pairs):
    """How far another input moves an output at the shape where it moves least; classes that differ at one shape are enough."""
    shares = [moved(*pair) for pair in pairs]
    return min(shares) if np.issubdtype(pairs[0][0].dtype, np.floating) else max(shares)


def measure(name, seed, ways, verify=VERIFIED):
    """{way: result}: the worst error over shapes and inputs of each output, and how far another input moves it. `verify` is built with verification."""
    import lathe

    path = zoo.filled(name, seed)
    model = onnx.load(path, load_external_data=False)
    started = time.monotonic()
    reference = session(path)
    outputs = [o.name for o in reference.get_outputs()]
    cases = []  # (inputs, expected outputs); the two of a shape are neighbours
    for shapes in zoo_inputs.sets(name, reference.get_inputs()):
        for input_seed in INPUT_SEEDS:
            feeds = zoo_inputs.draw(model, reference.get_inputs(), shapes, input_seed)
            cases.append((feeds, dict(zip(outputs, reference.run(None, feeds), strict=True))))
    ranges = zoo_inputs.ranges(name, reference.get_inputs())
    reference_ms = median_ms(reference.run, None, cases[0][0])
    del reference, model
    shift = {o: sensitivity([(cases[k][1][o], cases[k + 1][1][o]) for k in range(0, len(cases), 2)]) for o in outputs}
    shared = time.monotonic() - started
    results = {}
    for way, arguments in ways.items():
        started = time.monotonic()
        result = {"shapes": len(cases) // len(INPUT_SEEDS), "moved": shift}
        arguments = {"cache": False, "shapes": ranges, **arguments}
        engine = None
        if (seed, way) == verify or min(shift.values()) < SENSITIVE * tolerance(name, arguments["exact"]):
            # Or an output hardly depends on the input: look inside this engine, at each tensor that it stores.
            engine, result["regions"] = verified(path, arguments)
        engine = engine or lathe.build(str(path), verify=False, **arguments)
        result |= made_of(engine)
        errors = {o: 0.0 for o in outputs}
        for feeds, expected in cases:
            got = engine.run(feeds)
            errors = {o: max(worst, error_of(got[o], expected[o])) for o, worst in errors.items()}
        result["run_ms"] = [median_ms(engine.run, cases[0][0]), reference_ms]
        result["by_definition"] = by_definition(engine, cases[0][0])
        del engine
        result |= {"errors": errors, "seconds": round(time.monotonic() - started + shared / len(ways), 2)}
        results[way] = result
    return results


def made_of(engine):
    """Counts that docs/zoo.md shows: nodes as read and simplified, steps, islands of a dynamic program, nodes that run by their definitions."""
    report, text = engine.report, engine.to_text()
    return {
        "nodes": report["nodes_read"],
        "simplified": report["nodes_simplified"],
        "steps": report["steps"],
        "islands": len(re.findall(r"^ *\d+  island of", text, re.M)),
        "host": sorted(re.findall(r"\[host\.(\w+)\]$", text, re.M) + re.findall(r"(\w+)  \[cpu\.reference\]$", text, re.M)),
        "build_seconds": round(report["seconds"]["total"] - report["seconds"]["verify"], 2),
    }


def by_definition(engine, feeds):
    """[share, operator]: the one whose nodes, run by the operator's definition, take the largest share of a run's time, and that share."""
    context = engine.create_context()
    context.run(feeds)
    context.start_profile()
    for _ in range(3):
        context.run(feeds)
    shares = {}
    for step in context.profile():
        host = re.fullmatch(r"host\.(\w+)", step["kernel"])
        if host or step["kernel"] == "cpu.reference":
            name = host[1] if host else step["label"]
            shares[name] = shares.get(name, 0) + step["seconds"] / context.profile_seconds
    return [round(shares[most], 4), most] if (most := max(shares, key=shares.get, default=None)) else [0.0, ""]


def median_ms(run, *arguments, budget=2.0):
    """The median of up to nine runs within some seconds."""
    times = []
    while len(times) < 9 and (not times or sum(times) < budget):
        started = time.perf_counter()
        run(*arguments)
        times.append(time.perf_counter() - started)
    return round(sorted(times)[len(times) // 2] * 1e3, 3)


def verified(path, arguments):
    """(engine, region outputs against the oracle: their count, the worst error, and what failed); no engine where something did."""
    import lathe

    try:
        engine = lathe.build(str(path), verify=True, **arguments)
    except lathe.Error as error:
        if error.code != "verification":
            raise
        return None, {"count": 0, "error": float("inf"), "failed": str(error)}
    tensors = engine.report["verify"]["tensors"]
    worst = max((t["max_error"] / t["scale"] for t in tensors if t["scale"] > 0), default=0.0)
    return engine, {"count": len(tensors), "error": worst, "failed": ""}


def is_met(share, error):
    """Whether an output that another input moves by a share was met so much more closely that it was no accident: equal steps of a quantised file."""
    return error is not None and share > 0 and share >= SENSITIVE * error


def defects(name, way, result):
    """What is wrong with a result, as texts."""
    found = []
    exact = WAYS[way]["exact"]
    for output, error in result["errors"].items():
        limit = limit_of(name, output, exact)
        if not error <= limit:
            found.append(f"{output}: error {error:.2e} of its scale, allowed {limit:.0e}")
    # Steps of coarse files are met or missed: equal ones that another input moves are no accident.
    coarse = tolerance(name, exact) > TOLERANCE[exact]
    met = {o for o, share in result["moved"].items() if coarse and is_met(share, result["errors"].get(o))}
    insensitive = [o for o, share in result["moved"].items() if share < SENSITIVE * tolerance(name, exact) and o not in met]
    inner = result.get("regions")
    if inner and inner["failed"]:
        found.append(f"region outputs: {inner['failed']}")
    elif insensitive and inner["count"] < 3:
        found.append(f"another input moves {insensitive} too little, and only {inner['count']} region outputs were compared")
    return found
