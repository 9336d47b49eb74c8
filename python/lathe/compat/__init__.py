# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Scripts written for TensorRT and PyCUDA, unchanged, on Lathe's engines: on a GPU, or on the CPU, where "device memory" is the host's.

    lathe python detect.py --tensorrt 8          # or, from Python:

    import lathe.compat
    lathe.compat.install(8)                      # tensorrt, pycuda and cuda-python are these modules from here on, in this process
    import tensorrt as trt

``tensorrt/`` is the API of TensorRT 7, 8 or 10, ``pycuda/`` PyCUDA's, ``cuda_python.py`` the part of cuda-python that samples use. All of them reach
memory through ``machine.py``. Nothing here is installed under those names. docs/migrate.md says what maps to what.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

MAJORS = (7, 8, 10)


@dataclass
class Settings:
    """What scripts cannot say in TensorRT's words; `lathe python` has an option for each."""

    device: str = ""  # "cpu", "cuda", "cuda:N"; "": the first GPU, else the CPU
    budget: float | str = 60.0  # for timing candidates
    verify: bool = True
    cache: bool = True


settings = Settings()


class CompatError(RuntimeError):
    """A call that the emulated library would have crashed on, or that has no counterpart here."""


def modules(major: int) -> dict[str, object]:
    """The modules by the names that scripts import."""
    from lathe.compat import cuda_python, pycuda, tensorrt

    found = {"tensorrt": tensorrt.api(major), "pycuda": pycuda}
    for name in ("driver", "autoinit", "autoprimaryctx", "gpuarray", "tools", "compiler"):
        found[f"pycuda.{name}"] = importlib.import_module(f"lathe.compat.pycuda.{name}")
    return {**found, **cuda_python.modules()}


def install(major: int = 8) -> None:
    """From now on ``import tensorrt``, ``import pycuda`` and ``from cuda import cudart`` give these modules, in this process alone."""
    sys.modules.update(modules(major))
