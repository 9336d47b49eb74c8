# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Holds `lathe check` against onnx.checker (full_check) and ONNX Runtime on seeded mutants.

python tests/check_mutants.py --count 5000 --seed 1 [--jobs 2] [--show 20]

A mutant is judged by Lathe and by onnx.checker with strict shape inference; where Lathe refuses what onnx accepts, ONNX Runtime makes a session
with its optimisations off. Two kinds of disagreement count: Lathe accepts what onnx refuses; Lathe refuses what both accept. Of the latter those
whose errors all name a section of the specification are counted apart. Exit code 1 when there is any of the others.
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
from pathlib import Path

HERE = Path(__file__).resolve().parent


def judge(seed, index, names=None, folder=None):
    """What the three say, without ever raising for what they say."""
    import onnx

    import lathe
    import mutants

    model, description = mutants.mutant(seed, index, names)
    data = model.SerializeToString()
    result = {"index": index, "mutant": description}
    path = Path(folder) / "m.onnx"
    path.write_bytes(data)
    report = lathe.check(path)
    result["lathe"] = report.valid
    result["codes"] = sorted({d.code for d in report.errors})
    result["cited"] = all(d.spec for d in report.errors)
    result["text"] = "; ".join(f"{d.code}: {d.op} {d.node} {d.tensor}: {d.what}" for d in report.errors[:3])
    yield result  # before the others, which may crash
    try:
        onnx.checker.check_model(str(path), full_check=True)
        result["onnx"] = True
    except Exception as error:  # noqa: BLE001
        result["onnx"], result["why"] = False, str(error)[:300]
    yield result
    if result["onnx"] and not result["lathe"]:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            result["ort"] = True
        except Exception as error:  # noqa: BLE001
            result["ort"], result["ort_why"] = False, str(error)[:200]
        yield result


def prepare(folder):
    (Path(folder) / "data.bin").write_bytes(bytes(1 << 16))
    (Path(folder) / "sub").mkdir(exist_ok=True)
    (Path(folder) / "sub" / "data.bin").write_bytes(bytes(1 << 16))


def worker(seed, indices, names):
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))  # what hangs or grows without end dies, and is counted as a crash
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        for index in indices:
            signal.alarm(60)
            print(json.dumps({"begin": index}), flush=True)
            last = None
            for last in judge(seed, index, names, folder):
                print(json.dumps({"part": last}), flush=True)
            print(json.dumps({"done": last}), flush=True)


def run(seed, count, jobs=2, names=None, start=0):
    """Judges mutants start..start+count in `jobs` processes; one that dies is noted and gone on from."""
    results = []
    streams = []
    for job in range(jobs):
        streams.append({"left": list(range(start + job, start + count, jobs)), "process": None})

    def begin(stream):
        command = [sys.executable, str(HERE / "check_mutants.py"), "--worker", json.dumps([seed, stream["left"], names])]
        stream["process"] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ)
        stream["part"] = None

    import threading

    def follow(stream):
        while stream["left"]:
            begin(stream)
            current = None
            for line in stream["process"].stdout:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # what the rivals print
                if not isinstance(message, dict):
                    continue
                if "begin" in message:
                    current, stream["part"] = message["begin"], None
                elif "part" in message:
                    stream["part"] = message["part"]
                elif "done" in message:
                    results.append(message["done"])
                    stream["left"].remove(current)
                    current = None
            stream["process"].wait()
            if stream["left"]:
                crashed = current if current is not None else stream["left"][0]
                part = stream["part"] or {"index": crashed, "mutant": "?"}
                part["crash"] = "lathe" if "lathe" not in part else "onnx" if "onnx" not in part else "ort"
                results.append(part)
                stream["left"].remove(crashed)

    threads = [threading.Thread(target=follow, args=(s,)) for s in streams]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return sorted(results, key=lambda r: r["index"])


def kinds(results):
    """Results by kind of (dis)agreement."""
    found = collections.defaultdict(list)
    for r in results:
        if r.get("crash") == "lathe":
            found["lathe crashed"].append(r)
        elif "onnx" not in r:
            found["a rival crashed"].append(r)
        elif r["lathe"] and r["onnx"]:
            found["both accept"].append(r)
        elif not r["lathe"] and not r["onnx"]:
            found["both refuse"].append(r)
        elif r["lathe"]:
            found["accepted, onnx refuses"].append(r)
        elif r.get("ort"):
            found["refused by the specification, both accept" if r["cited"] else "refused, both accept"].append(r)
        else:
            found["refused, ONNX Runtime too"].append(r)
    return found


BAD = ("lathe crashed", "accepted, onnx refuses", "refused, both accept")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--show", type=int, default=10, help="disagreements to print of each kind")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*json.loads(arguments.worker))
        return 0
    found = kinds(run(arguments.seed, arguments.count, arguments.jobs, start=arguments.start))
    for kind, results in sorted(found.items()):
        print(f"{len(results):6} {kind}")
    for kind in (*BAD, "refused by the specification, both accept", "a rival crashed"):
        for r in found[kind][: arguments.show]:
            print(f"\n{kind}: #{r['index']} {r['mutant']}\n  lathe: {r.get('text') or 'accepts'}\n  onnx: {r.get('why', 'accepts')}")
    return int(any(found[kind] for kind in BAD))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    build = Path(os.environ.get("LATHE_BUILD_DIR", HERE.parent / "build" / "release"))
    sys.path.insert(0, str(build / "python"))
    sys.exit(main())
