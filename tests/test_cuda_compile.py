# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Every CUDA kernel compiles within its limits: here the commit's part of them (`make cuda-compile-all ALL=1` takes all)."""

import subprocess
import sys
from pathlib import Path

from zoo import absent, build_dir

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import cuda_compile_all  # noqa: E402


def test_this_commits_part_of_the_kernels():
    if not (build_dir() / "lathe_cuda_compile").exists():
        absent("NVRTC was not there when Lathe was built")
    done = subprocess.run([sys.executable, ROOT / "tools" / "cuda_compile_all.py", build_dir()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout and done.stdout.startswith("seed ")


def test_the_parts_of_a_few_commits_are_everything():
    images = [(f"{source}.cu", arch, "") for source in "abcdef" for arch in ("sm_75", "sm_80", "sm_90a", "sm_100", "compute_80")]
    always = {image for image in images if image[1] == "sm_90a"}
    seen = set()
    for seed in range(100):
        chosen = cuda_compile_all.part(images, str(seed), False)
        assert chosen == cuda_compile_all.part(images, str(seed), False), "a seed names its part"
        assert always <= set(chosen) and len(chosen) == len(always) + 3
        seen |= set(chosen)
    assert seen == set(images) == set(cuda_compile_all.part(images, "any", True))


def test_a_kernel_over_its_limits_fails(tmp_path):
    compiler = build_dir() / "lathe_cuda_compile"
    if not compiler.exists():
        absent("NVRTC was not there when Lathe was built")
    source = tmp_path / "k.cu"
    for limits, wrong in (
        ("k: registers 255, shared 4096, spill 0", ""),
        ("k: registers 255, shared 64, spill 0", "over their limits"),
        ("q: registers 1, shared 1, spill 0", "no line"),
    ):
        source.write_text(
            f'//! limits {limits}\nextern "C" __global__ void k(float* x) {{\n  __shared__ float s[256];\n  s[threadIdx.x] = x[threadIdx.x];\n'
            "  __syncthreads();\n  x[threadIdx.x] = s[255 - threadIdx.x];\n}\n"
        )
        done = subprocess.run([str(compiler), source, "sm_80", tmp_path / "k.bin", tmp_path], capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is not bool(wrong) and wrong in done.stderr, done.stderr
