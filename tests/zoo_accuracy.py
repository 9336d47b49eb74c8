# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""How far engines of the zoo's models are from ONNX Runtime in float32. test_zoo_accuracy.py judges a part of this in every `make test`;
the whole sweep is `make zoo`, or

    python tests/zoo_accuracy.py [NAME ...]

Every model at two weight seeds, with and without `exact`, by modelled and by timed choice of candidates; for each engine two input seeds at
every shape: three shapes from one engine where the model has free extents. Results stand in <build folder>/zoo/NAME.json. What an unchanged
library has measured is not measured again, and processes that run side by side share the models between them."""

import fcntl
import hashlib
import json
import os
import sys
import time
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import onnx

import zoo

# A share of the output's scale.
TOLERANCE = {True: 2e-5, False: 2e-4}
WEIGHT_SEEDS = (0, 1)
INPUT_SEEDS = (1, 2)
# Ways to build: arguments of lathe.build. Timed builds take whatever candidate is fastest at that moment, so over time all of them are met.
MODELLED = {"exact": {"exact": True, "budget": 0}, "fast": {"exact": False, "budget": 0}}
TIMED = {"exact timed": {"exact": True, "budget": 10}, "fast timed": {"exact": False, "budget": 10}}
WAYS = MODELLED | TIMED
# Outputs that need not meet the tolerance: {(model, output): (limit with exact, limit without, cause)}. At most three.
EXCEPTIONS = {}


def session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def shape_sets(inputs):
    """Concrete shapes of all inputs: one set, or three when the model has free extents."""
    free = {d for i in inputs for d in i.shape if not isinstance(d, int)}
    unknown = free - zoo.FREE.keys()
    assert not unknown, f"extents without a choice of values: {unknown}"
    return [{i.name: [d if isinstance(d, int) else zoo.FREE[d][k] for d in i.shape] for i in inputs} for k in range(3 if free else 1)]


def rows_gathered(model, name):
    """How many rows the tables have that an integer input selects from."""
    tables = {t.name: t.dims[0] for t in model.graph.initializer if t.dims}
    rows = [tables[n.input[0]] for n in model.graph.node if n.op_type == "Gather" and n.input[1] == name and n.input[0] in tables]
    assert rows, f"nothing tells which integers the input {name} may hold"
    return min(rows)


def draw(model, inputs, shapes, seed):
    random = np.random.default_rng(seed)
    feeds = {}
    for i in inputs:
        if i.type == "tensor(int64)":
            feeds[i.name] = random.integers(0, rows_gathered(model, i.name), shapes[i.name])
        else:
            assert i.type == "tensor(float)", i.type
            feeds[i.name] = random.normal(0.2, 0.6, shapes[i.name]).astype(np.float32)
    return feeds


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
    """How far another input moves an output, as a share of its scale."""
    if not np.issubdtype(want.dtype, np.floating):
        return float("inf") if not np.array_equal(other, want) else 0.0
    both = np.isfinite(want) & np.isfinite(other)
    return share(np.abs(other[both].astype(np.float64) - want[both]), want)


def measure(name, seed, ways):
    """{way: result}: the worst error over shapes and inputs of each output, and how far another input moves it."""
    import lathe

    path = zoo.filled(name, seed)
    model = onnx.load(path, load_external_data=False)
    started = time.monotonic()
    reference = session(path)
    outputs = [o.name for o in reference.get_outputs()]
    cases = []  # (inputs, expected outputs); the two of a shape are neighbours
    for shapes in shape_sets(reference.get_inputs()):
        for input_seed in INPUT_SEEDS:
            feeds = draw(model, reference.get_inputs(), shapes, input_seed)
            cases.append((feeds, dict(zip(outputs, reference.run(None, feeds), strict=True))))
    del reference, model
    shift = {o: min(moved(cases[k ^ 1][1][o], expected[o]) for k, (_, expected) in enumerate(cases)) for o in outputs}
    shared = time.monotonic() - started
    results = {}
    for way, arguments in ways.items():
        started = time.monotonic()
        result = {"shapes": len(cases) // len(INPUT_SEEDS), "moved": shift}
        arguments = {"cache": False, **arguments}
        engine = None
        if min(shift.values()) < 100 * TOLERANCE[arguments["exact"]]:
            # An output hardly depends on the input: look inside this engine, at each tensor that it stores.
            engine, result["regions"] = verified(path, arguments)
        engine = engine or lathe.build(str(path), verify=False, **arguments)
        result["steps"] = engine.report["steps"]
        errors = {o: 0.0 for o in outputs}
        for feeds, expected in cases:
            got = engine.run(feeds)
            errors = {o: max(worst, error_of(got[o], expected[o])) for o, worst in errors.items()}
        del engine
        result |= {"errors": errors, "seconds": round(time.monotonic() - started + shared / len(ways), 2)}
        results[way] = result
    return results


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


def defects(name, way, result):
    """What is wrong with a result, as texts."""
    found = []
    exact = WAYS[way]["exact"]
    for output, error in result["errors"].items():
        limit = TOLERANCE[exact]
        if (name, output) in EXCEPTIONS:
            limit = EXCEPTIONS[name, output][0 if exact else 1]
        if not error <= limit:
            found.append(f"{output}: error {error:.2e} of its scale, allowed {limit:.0e}")
    insensitive = [o for o, share in result["moved"].items() if share < 100 * TOLERANCE[exact]]
    if insensitive:
        inner = result["regions"]
        if inner["failed"]:
            found.append(f"region outputs: {inner['failed']}")
        elif inner["count"] < 3:
            found.append(f"another input moves {insensitive} too little, and only {inner['count']} region outputs were compared")
    return found


# Records ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def library():
    """Names what is measured: the built extension's bytes and this file's."""
    import lathe._lathe

    digest = hashlib.sha256()
    for path in (lathe._lathe.__file__, __file__):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def record_path(name):
    folder = zoo.build_dir() / "zoo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.json"


def recorded(name):
    """{"SEED WAY": result} of this library."""
    try:
        record = json.loads(record_path(name).read_text())
    except FileNotFoundError:
        return {}
    return record["results"] if record["library"] == library() else {}


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


def complete(name):
    """Measures what is not yet recorded of a model; returns its results."""
    results = recorded(name)
    for seed in WEIGHT_SEEDS:
        # Candidates do not depend on the weights' values: timing them once is enough.
        ways = {w: a for w, a in (WAYS if seed == WEIGHT_SEEDS[0] else MODELLED).items() if f"{seed} {w}" not in results}
        if not ways:
            continue
        results |= {f"{seed} {way}": result for way, result in measure(name, seed, ways).items()}
        part = record_path(name).with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"library": library(), "results": results}, indent=1))
        part.replace(record_path(name))
    return results


def row(name, results):
    """One line of the table: the worst error with and without `exact`, whether region outputs were needed, seconds."""
    worst = {exact: max(max(r["errors"].values()) for k, r in results.items() if WAYS[k.split(" ", 1)[1]]["exact"] == exact) for exact in TOLERANCE}
    inner = [r["regions"] for r in results.values() if "regions" in r]
    seen = f"{inner[0]['count']} regions, {max(r['error'] for r in inner):.1e}" if inner else ""
    shapes = next(iter(results.values()))["shapes"]
    return f"| {name} | {shapes} | {worst[True]:.1e} | {worst[False]:.1e} | {seen} | {sum(r['seconds'] for r in results.values()):.0f} |"


def main(names):
    todo, failed, done = list(names or zoo.part_6()), [], {}
    while todo:
        before = len(todo)
        for name in list(todo):
            with claimed(name) as mine:
                if not mine:
                    continue
                todo.remove(name)
                try:
                    done[name] = complete(name)
                except Exception as error:  # the sweep goes on; the list at the end says what failed
                    failed.append(f"{name}: {type(error).__name__}: {error}")
                    continue
            failed += [f"{name}, weights {key}: {text}" for key, r in done[name].items() for text in defects(name, key.split(" ", 1)[1], r)]
            print(row(name, done[name]), flush=True)
        if len(todo) == before:
            time.sleep(5)  # another process works on what is left
    print("| model | shapes | exact | fast | where the output is insensitive | seconds |\n| --- | --- | --- | --- | --- | --- |")
    for name in sorted(done):
        print(row(name, done[name]))
    for (name, output), (exact, fast, cause) in EXCEPTIONS.items():
        print(f"exception: {name} {output} may reach {exact:.0e} and {fast:.0e}: {cause}")
    for text in failed:
        print("FAILED", text)
    return 1 if failed else 0


if __name__ == "__main__":
    import conftest  # noqa: F401  finds the built package

    sys.exit(main(sys.argv[1:]))
