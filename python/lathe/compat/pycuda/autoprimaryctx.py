# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""pycuda.autoprimaryctx: the same as autoinit, for every context here is the primary one's."""

from __future__ import annotations

from typing import Any

from lathe.compat.pycuda import autoinit


def __getattr__(name: str) -> Any:
    return getattr(autoinit, name)
