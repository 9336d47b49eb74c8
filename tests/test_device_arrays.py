# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Arrays in a GPU's memory through the Python package, and lathe.compat there: the cases of tests/fake_cuda/device_array_cases.py and compat_cases.py, in
processes whose CUDA driver is the one that checks calls and has no GPU (a process has one driver)."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo import absent, build_dir

HERE = Path(__file__).resolve().parent

if not (build_dir() / "python" / "lathe").is_dir() and importlib.util.find_spec("lathe") is None:
    absent("the Python package lathe is not built")


@pytest.mark.parametrize("name", ["device_array_cases", "compat_cases"])
def test_with_the_driver_that_checks_calls(name):
    driver = build_dir() / "tests" / "liblathe_fake_cuda.so"
    if not driver.exists():
        absent(f"{driver} is not built")
    environment = {**os.environ, "LATHE_CUDA_DRIVER": str(driver), "LATHE_CUBLASLT": "none", "LATHE_CUDNN": "none"}
    cases = HERE / "fake_cuda" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)], env=environment, cwd=HERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
