# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Compiles Lathe's CUDA kernels with NVRTC and holds them against their limits, without a GPU: all for sm_90a, and a seeded tenth of what there is for the
other architectures, so that a few runs see everything and one takes minutes; then random regions as the emitter writes them.

python tools/cuda_compile_all.py BUILD_FOLDER [--all] [--seed TEXT] [--jobs N]

The seed is the commit, or the date outside a repository; it is printed, and names the same part again. Images whose sources have not changed are kept."""

import argparse
import concurrent.futures
import datetime
import hashlib
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALWAYS = "sm_90a"
REGIONS = 12


def default_seed():
    done = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else datetime.date.today().isoformat()


def part(images, seed, everything):
    """The images to compile: [(source, arch, image)] in a fixed order."""
    chosen = [image for image in images if everything or image[1] == ALWAYS]
    others = sorted(image for image in images if image not in chosen)
    return chosen + sorted(random.Random(seed).sample(others, math.ceil(len(others) / 10)))


def region_images(build, seed, archs, everything):
    """A source of random regions, for sm_90a and one other architecture (all: for each that makes machine code)."""
    number = int(hashlib.sha256(seed.encode()).hexdigest()[:7], 16)
    source = build / "gen" / "cuda" / f"regions-{seed}.cu"
    subprocess.run([str(build / "bin" / "lathe_cuda_regions"), str(source), str(number), str(REGIONS)], check=True)
    others = sorted(arch for arch in archs if arch != ALWAYS and arch.startswith("sm_"))
    return source, [
        (str(source), arch, str(source.with_suffix(f".{arch}.bin"))) for arch in [ALWAYS, *(others if everything else [random.Random(seed).choice(others)])]
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--all", action="store_true", help="every kernel for every architecture")
    parser.add_argument("--seed", default="")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    build = options.build.resolve()
    compiler = build / "lathe_cuda_compile"
    listed = build / "gen" / "cuda" / "images.txt"
    if not compiler.exists() or not listed.exists():
        print(f"{build} has no compiler of CUDA kernels: NVRTC (PyPI: nvidia-cuda-nvrtc) was not there when it was configured", file=sys.stderr)
        return 3
    seed = options.seed or default_seed()
    images = [tuple(line.split(" ")) for line in listed.read_text().splitlines()]
    chosen = part(images, seed, options.all)
    source, regions = region_images(build, seed, {arch for _, arch, _ in images}, options.all)
    print(f"seed {seed}: {len(chosen)} of {len(images)} images and {REGIONS} regions, {options.jobs} at a time", flush=True)

    def compile_one(image):
        source, arch, output = image
        started = time.monotonic()
        done = subprocess.run([str(compiler), source, arch, output, str(ROOT / "src"), f"{output}.d"], capture_output=True, text=True, check=False)
        return image, done, time.monotonic() - started

    started, failed = time.monotonic(), 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for (name, arch, _), done, seconds in pool.map(compile_one, chosen + regions):
            print(f"{'FAILED ' if done.returncode else ''}{Path(name).name} for {arch}: {seconds:.1f} s", flush=True)
            if done.returncode:
                failed += 1
                print(done.stdout + done.stderr, file=sys.stderr, flush=True)
    if not failed:
        for _, _, output in regions:
            for file in (output, f"{output}.key", f"{output}.d"):
                Path(file).unlink(missing_ok=True)
        source.unlink()
    print(
        f"{len(chosen) + len(regions) - failed} compiled, {failed} failed, {time.monotonic() - started:.0f} s; again: --seed {seed}{' --all' if options.all else ''}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
