# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Shared by all Python tests: their helper modules can be imported by name, and the built package is found without an installation."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE / "tools"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from zoo import build_dir  # noqa: E402

# The Python tests hold the CPU, on machines with a GPU too; tests/gpu holds the GPU.
os.environ.setdefault("LATHE_CUDA_DRIVER", "none")

if (build_dir() / "python" / "lathe").is_dir():
    sys.path.insert(0, str(build_dir() / "python"))
