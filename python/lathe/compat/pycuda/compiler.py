# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""pycuda.compiler: kernels of a script's own are not compiled here."""

from __future__ import annotations

from typing import Any

from lathe.compat import CompatError


class SourceModule:
    def __init__(self, *_: Any, **__: Any):
        raise CompatError(
            "CUDA kernels of a script's own are not compiled by Lathe's pycuda: write that step with NumPy, or use the real PyCUDA with `import lathe`."
        )


compile = SourceModule
