# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""pycuda.autoinit: importing it makes a context current. Which device that is shows at the first use."""

from __future__ import annotations

from typing import Any

from lathe.compat.pycuda import driver

_made: dict[str, Any] = {}


def __getattr__(name: str) -> Any:
    if name not in ("context", "device"):
        raise AttributeError(name)
    if not _made:
        _made["device"] = driver.Device(0)
        _made["context"] = _made["device"].make_context()
    return _made[name]
