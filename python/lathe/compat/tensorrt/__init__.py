# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT's Python API as far as scripts that parse ONNX, build, save, load and run need it; ``api(major)`` is the module as version 7, 8 or 10 has it
(versions.py: what is gone or not yet there raises AttributeError naming what to use). This module itself is version 8's, which knows both ways of
binding.

types.py: enumerations, Dims, loggers; network.py: what is parsed; builder.py: from it to an engine; engine.py: Runtime and ICudaEngine; context.py: running.
"""

from __future__ import annotations

from typing import Any

from lathe.compat.tensorrt.versions import api

__all__ = ["api"]


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__version__":
        raise AttributeError(name)
    return getattr(api(8), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(api(8))})
