# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Seeded changes of small models and engines, each read, built and run: one error paragraph or a run whose outputs have the shapes that were
declared, in limited memory and time. Anything else is a finding.

python tests/mutation_runs.py --count 10000 --seed 1 [--jobs 2] [--keep FOLDER]
python tests/mutation_runs.py --only 1:4711 [--keep FOLDER]     one of them, in this process
python tests/mutation_runs.py FILE...                           files as they are, in this process

A finding's file is kept (FOLDER, by default out/mutation_findings); when its cause is repaired it goes to tests/mutation_findings, which
tests/test_errors.py replays.
"""

import argparse
import collections
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
MEMORY = 4 << 30  # of address space
SECONDS, WALL_SECONDS = 20, 300  # of the process's own time for one input; as a clock tells it
LARGEST_INPUT = 1 << 24  # bytes; a run with larger arrays is left out, it would only be slow


class Finding(Exception):
    pass


def arrays_for(engine, seed=0):
    """Arrays that most operators take, of the shapes that the engine was tuned for; None where the engine declares too much or no shape."""
    import ml_dtypes

    rng = np.random.default_rng(seed)
    arrays = {}
    for info in engine.inputs:
        if info.type or info.dtype == "object":
            return None
        shape = [2 if extent is None or extent < 0 else extent for extent in info.tuned_shape]
        try:
            dtype = np.dtype(info.dtype)
        except TypeError:
            if not hasattr(ml_dtypes, info.dtype):
                return None
            dtype = np.dtype(getattr(ml_dtypes, info.dtype))
        if int(np.prod([int(e) for e in shape], dtype=object)) * max(dtype.itemsize, 1) > LARGEST_INPUT:
            return None
        draw = rng.integers(0, 2, shape) if dtype.kind in "biu" else rng.standard_normal(shape)
        arrays[info.name] = np.asarray(draw).astype(dtype)
    return arrays


def run(engine):
    arrays = arrays_for(engine)
    if arrays is None:
        return "not run"
    known = {}
    for info in engine.inputs:
        known.update({text: extent for text, extent in zip(info.shape, arrays[info.name].shape) if isinstance(text, str)})
    for _ in range(2):
        outputs = engine.run(arrays)
        if set(outputs) != {info.name for info in engine.outputs}:
            raise Finding(f"outputs {sorted(outputs)}, declared {[info.name for info in engine.outputs]}")
        for info in engine.outputs:
            if info.shape is None or info.type:
                continue
            shape = outputs[info.name].shape
            fits = len(shape) == len(info.shape) and all(
                declared == got if isinstance(declared, int) and declared >= 0 else known.get(declared, got) == got for declared, got in zip(info.shape, shape)
            )
            if not fits:
                raise Finding(f"output {info.name!r} has shape {shape}, declared {info.shape}")
    return "ran"


def judge_text(error):
    text = str(error)
    if not text.strip() or "\n" in text or any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in text):
        raise Finding(f"the text is not one printable paragraph: {text!r}")
    if text.rstrip()[-1] not in ".`?!)":
        raise Finding(f"the text ends in the middle: {text!r}")
    if len(text) > 4000:
        raise Finding(f"the text has {len(text)} characters: {text[:300]!r}...")
    if error.code == "internal":
        raise Finding(f"internal error: {text}")


def refused(action):
    """What an Error's code is, or what the action gives."""
    import lathe

    try:
        return action()
    except lathe.Error as error:
        judge_text(error)
        return error.code


def judge(kind, data, variant=0):
    """The code of the error that ended it, or "ran". Raises Finding, or whatever else goes wrong."""
    import lathe

    if kind == "engine":
        return refused(lambda: run(lathe.load(data)))
    refused(lambda: lathe.check(data) and "")
    if variant % 3 == 0:
        refused(lambda: lathe.simplify(data) and "")

    def built():
        engine = lathe.build(data, budget=0, verify=variant % 4 == 0, cache=False)
        return run(lathe.load(engine.to_bytes()) if variant % 2 else engine)

    return refused(built)


# Processes ---------------------------------------------------------------------------------------------------------------


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def kept(folder, seed, index, kind):
    path = Path(folder) / f"{seed}-{index}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def worker(seed, indices, scratch, keep):
    """One line before and one after each input; the parent sees where the process died."""
    import mutation_inputs

    limit()
    for index in indices:
        kind, data, description = mutation_inputs.changed(seed, index)
        Path(scratch).write_bytes(data)
        print(json.dumps({"begin": index, "kind": kind, "what": description}), flush=True)
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WALL_SECONDS)
        try:
            result = {"result": judge(kind, data, index)}
        except (Exception, MemoryError) as error:  # noqa: BLE001
            result = {"finding": f"{type(error).__name__}: {error}"[:1000]}
            kept(keep, seed, index, kind).write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        print(json.dumps({"done": index, "seconds": round(time.process_time() - started, 3), **result}), flush=True)


class Stream:
    """The inputs of one job: processes one after another, each goes on behind the input at which the last one died."""

    def __init__(self, seed, indices, keep, folder, number):
        self.seed, self.left, self.keep = seed, list(indices), Path(keep)
        self.scratch = Path(folder) / f"{number}.bin"
        self.results, self.findings, self.slowest = collections.Counter(), [], (0.0, -1)

    def found(self, current, text):
        path = kept(self.keep, self.seed, current["begin"], current["kind"])
        self.findings.append(f"{self.seed}:{current['begin']} {current['what']}: {text} [{path}]")

    def follow(self):
        failures = 0
        while self.left and failures < 3:
            command = [sys.executable, str(HERE / "mutation_runs.py"), "--worker", json.dumps([self.seed, self.left, str(self.scratch), str(self.keep)])]
            environment = {
                **os.environ,
                "LATHE_THREADS": "1",
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "LATHE_CUDA_DRIVER": "none",
                "LATHE_MAX_TRIPS": "1000",
            }
            said = self.scratch.with_suffix(".stderr")
            with open(said, "w") as errors:
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
            current = None
            for line in process.stdout:
                message = json.loads(line)
                if "begin" in message:
                    current = message
                    continue
                self.left.remove(message["done"])
                self.slowest = max(self.slowest, (message["seconds"], message["done"]))
                if "finding" in message:
                    self.found(current, message["finding"])
                self.results[f"{current['kind']}: {message.get('result', 'finding')}"] += 1
                current = None
            process.wait()
            error = said.read_text(errors="replace")[-2000:]
            if current is None:
                if self.left:  # died between two inputs: the inputs' own making
                    failures += 1
                    self.findings.append(f"a worker ended with {process.returncode} before input {self.left[0]}: {error}")
                continue
            self.left.remove(current["begin"])
            kept(self.keep, self.seed, current["begin"], current["kind"]).write_bytes(self.scratch.read_bytes())
            died = "no answer within the time" if process.returncode in (-signal.SIGALRM, -signal.SIGPROF) else f"the process ended with {process.returncode}"
            self.found(current, f"{died}: {error}".strip())
            self.results[f"{current['kind']}: finding"] += 1


def run_all(seed, count, jobs=2, keep=HERE.parent / "out" / "mutation_findings", start=0):
    """(results by kind and code, findings, the slowest input)."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [Stream(seed, range(start + job, start + count, jobs), keep, folder, job) for job in range(jobs)]
        threads = [threading.Thread(target=stream.follow) for stream in streams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    results = sum((stream.results for stream in streams), collections.Counter())
    return results, [text for stream in streams for text in stream.findings], max(stream.slowest for stream in streams)


def judge_file(path):
    path = Path(path)
    data = path.read_bytes()
    kind = "engine" if path.suffix == ".engine" else "onnx"
    return [judge(kind, data, variant) for variant in ((0,) if kind == "engine" else (0, 1, 2, 3))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", metavar="SEED:INDEX")
    parser.add_argument("--keep", default=HERE.parent / "out" / "mutation_findings")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*json.loads(arguments.worker))
        return 0
    if arguments.files:
        limit()
        for path in arguments.files:
            print(path, judge_file(path), flush=True)
        return 0
    if arguments.only:
        import mutation_inputs

        limit()
        seed, index = map(int, arguments.only.split(":"))
        kind, data, description = mutation_inputs.changed(seed, index)
        print(description, flush=True)
        kept(arguments.keep, seed, index, kind).write_bytes(data)
        print(judge(kind, data, index))
        return 0
    results, findings, slowest = run_all(arguments.seed, arguments.count, arguments.jobs, arguments.keep, arguments.start)
    for kind, count in sorted(results.items()):
        print(f"{count:6} {kind}")
    print(f"slowest: {slowest[0]} s, input {arguments.seed}:{slowest[1]}")
    for finding in findings:
        print(f"\n{finding}")
    return int(bool(findings))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    build = Path(os.environ.get("LATHE_BUILD_DIR", HERE.parent / "build" / "release"))
    sys.path.insert(0, str(build / "python"))
    sys.exit(main())
