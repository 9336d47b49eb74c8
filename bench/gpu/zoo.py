# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The zoo on a GPU: every model built for it and verified, with the steps that run on the host.

    python bench/gpu/zoo.py OUT.json --zoo FOLDER [--precisions fp32,fp16] [--jobs 8] [--seconds 500] [--budget 0] [NAME ...]

FOLDER holds zoo.tar.xz and zoo_fill.py. Needs onnx and NumPy; runs in an unpacked bundle (`make gpu-bundle`) or in a checkout with build/release. What
stands in OUT.json already is not done again, so a sitting that was cut off goes on: models begin as long as there are seconds left, small ones first."""

import argparse
import concurrent.futures
import json
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import onnx

ROOT = Path(__file__).resolve().parents[2]
LATHE = ROOT / "bin" / "lathe" if (ROOT / "bin" / "lathe").exists() else ROOT / "build" / "release" / "bin" / "lathe"


sys.path.insert(0, str(ROOT / "tests"))
import zoo_inputs  # noqa: E402  of the tests, or beside them in the bundle


def shapes_of(model, name):
    """Words that say which sizes a model takes whose file says less than it means, and one small set for a model that is slow to verify."""
    fixed, values = zoo_inputs.FIXED.get(name, {}), zoo_inputs.values_of(name)
    words = []
    for value in onnx.load(model, load_external_data=False).graph.input if fixed or name in zoo_inputs.OF_MODEL else []:
        dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        small = fixed or {d: values[d][0] for d in dims if not isinstance(d, int)}
        ranges = [[d] * 3 if isinstance(d, int) else [small[d]] * 3 if d in small else [1, values[d][0], zoo_inputs.LARGEST] for d in dims]
        words += ["--shape", ":".join([value.name, *("x".join(str(r[k]) for r in ranges) for k in range(3))])]
    return words


def build(model, shapes, precision, budget, limit):
    """What `lathe build` says of one model."""
    with tempfile.TemporaryDirectory() as folder:
        command = [LATHE, "build", model, "-o", f"{folder}/m.engine", "--device", "cuda", "--precision", precision, "--budget", budget]
        command += [*shapes, "--libraries", "none", "--no-cache", "--no-native", "-q", "--json"]
        started = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return {"ok": False, "error": f"not built in {limit:.0f} s"}
        seconds = round(time.monotonic() - started, 1)
        if done.returncode != 0:
            return {"ok": False, "error": done.stderr.strip()[-500:], "seconds": seconds}
        report = json.loads(done.stdout)
        verify = report["verify"]
        host = report.get("host_steps", [])
        return {"ok": bool(verify.get("passed")), "steps": report["steps"], "host_steps": host, "verified": verify.get("summary", ""), "seconds": seconds}


def filled(zoo, name, folder):
    """The model with its seeded weights."""
    path = Path(folder) / f"{name}.onnx"
    subprocess.run([sys.executable, zoo / "zoo_fill.py", Path(folder) / "zoo" / f"{name}.onnx", path], check=True, capture_output=True)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--precisions", default="fp32,fp16")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--limit", type=float, default=150, help="seconds for one build")
    parser.add_argument("--budget", default="0")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    record = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"models": {}}
    record["command"] = "python bench/gpu/zoo.py " + " ".join(sys.argv[1:])
    record["date"] = time.strftime("%Y-%m-%d")
    record["version"] = subprocess.run([LATHE, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    record["devices"] = subprocess.run([LATHE, "devices"], capture_output=True, text=True, check=False).stdout.strip().splitlines()
    lock = threading.Lock()

    def work(name, folder):
        try:
            if time.monotonic() > deadline:
                return
            model = filled(arguments.zoo, name, folder)
            shapes = shapes_of(model, name)
            for precision in arguments.precisions.split(","):
                left = deadline - time.monotonic()
                if left < 5 or record["models"].get(name, {}).get(precision, {}).get("ok"):
                    continue
                result = build(model, shapes, precision, arguments.budget, min(arguments.limit, left + 30))
                with lock:
                    record["models"].setdefault(name, {})[precision] = result
                    arguments.out.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
            model.unlink()
        except Exception as error:  # one model must not end the others
            with lock:
                record["models"].setdefault(name, {})["fill"] = {"ok": False, "error": repr(error)[-300:]}

    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(arguments.zoo / "zoo.tar.xz") as archive:
            archive.extractall(Path(folder) / "zoo", filter="data")
        # What comes with its weights is as large as it is; of the others the description of each weight counts.
        names = [p.stem for p in sorted((Path(folder) / "zoo").glob("*.onnx"), key=lambda p: p.stat().st_size)]
        chosen = [n for n in names if not arguments.names or n in arguments.names]
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda n: work(n, folder), chosen))
    results = [r for m in record["models"].values() for r in m.values()]
    print(f"{sum(r['ok'] for r in results)} of {len(results)} verified")
    for name, by in sorted(record["models"].items()):
        for precision, r in by.items():
            if not r["ok"]:
                print(name, precision, r.get("error") or r.get("verified"))


if __name__ == "__main__":
    main()
