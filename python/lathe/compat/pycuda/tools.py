# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""pycuda.tools: contexts, and pools that are plain allocations."""

from __future__ import annotations

from typing import Any

from lathe.compat.pycuda import driver


def make_default_context(ctx_maker: Any = None) -> driver.Context:
    return ctx_maker(driver.Device(0)) if ctx_maker else driver.Device(0).make_context()


def get_default_device(default: int = 0) -> driver.Device:
    return driver.Device(default)


def clear_context_caches() -> None:
    return None


class DeviceMemoryPool:
    def allocate(self, size: int) -> driver.DeviceAllocation:
        return driver.mem_alloc(size)

    def free_held(self) -> None:
        return None

    stop_holding = free_held


class PageLockedMemoryPool:
    def allocate(self, shape: Any, dtype: Any, order: str = "C") -> Any:
        return driver.pagelocked_empty(shape, dtype, order)

    def free_held(self) -> None:
        return None

    stop_holding = free_held
