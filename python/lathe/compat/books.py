# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The books of memory: which addresses are whose, and which were once. And host memory as bytes, given as an array or as an address."""

from __future__ import annotations

import bisect
import threading
from typing import Any

import numpy as np

from lathe import compat


class BadAddress(compat.CompatError):
    """`kind`: what the emulated call reports ("invalid argument", "out of memory", ...)."""

    def __init__(self, message: str, kind: str = "invalid argument"):
        super().__init__(message)
        self.kind = kind


class Block:
    """A live range of addresses; `owner` keeps host memory, None on a GPU."""

    def __init__(self, address: int, nbytes: int, owner: np.ndarray | None):
        self.address, self.nbytes, self.owner = address, nbytes, owner


class Books:
    """Which addresses are whose, and which were once."""

    def __init__(self, word: str):
        self.word, self.starts, self.blocks = word, [], {}
        self.freed: dict[int, int] = {}
        self.lock = threading.Lock()

    def add(self, block: Block) -> None:
        with self.lock:
            bisect.insort(self.starts, block.address)
            self.blocks[block.address] = block
            self.freed.pop(block.address, None)

    def remove(self, address: int) -> Block:
        with self.lock:
            block = self.blocks.pop(address, None)
            if block is None:
                again = address in self.freed
                raise BadAddress(f"the {self.word} at 0x{address:x} was freed already" if again else f"0x{address:x} is no {self.word} that was allocated here")
            self.starts.remove(address)
            if len(self.freed) > 4096:
                self.freed.clear()
            self.freed[address] = block.nbytes
            return block

    def find(self, address: int) -> Block | None:
        with self.lock:
            at = bisect.bisect_right(self.starts, address) - 1
            block = self.blocks[self.starts[at]] if at >= 0 else None
        return block if block and address < block.address + max(block.nbytes, 1) else None

    def was(self, address: int) -> bool:
        return any(start <= address < start + max(nbytes, 1) for start, nbytes in self.freed.items())

    def require(self, address: int, nbytes: int, what: str, foreign: bool) -> Block | None:
        """The block that holds these bytes. `foreign`: memory that others made is let through (None): the driver judges it."""
        if nbytes < 0:
            raise BadAddress(f"{what} is to have {nbytes} bytes")
        block = self.find(address)
        if block is None:
            if address == 0:
                raise BadAddress(f"{what} is a null pointer")
            if self.was(address):
                raise BadAddress(f"{what} is 0x{address:x}, which was freed")
            if foreign:
                return None
            raise BadAddress(f"{what} is 0x{address:x}, which lies in no {self.word} that was allocated")
        room = block.address + block.nbytes - address
        if nbytes > room:
            raise BadAddress(f"{what} needs {nbytes} bytes from 0x{address:x} on, and the allocation ends after {room}")
        return block


def host_bytes(buffer: Any, writable: bool, what: str) -> memoryview:
    """A dense host array as bytes."""
    try:
        view = memoryview(buffer)
        if view.ndim == 0 and isinstance(buffer, np.ndarray):
            view = memoryview(buffer.reshape(1))
    except (TypeError, ValueError, BufferError) as error:
        if not isinstance(buffer, np.ndarray):
            raise TypeError(f"{what} is an array in the host's memory, not {type(buffer).__name__}: {error}") from None
        if not buffer.flags.c_contiguous:
            raise BadAddress(f"{what} is not contiguous: give numpy.ascontiguousarray of it") from None
        view = memoryview(buffer.view(np.uint8).reshape(-1))
    if not view.c_contiguous:
        if isinstance(buffer, np.ndarray) and buffer.flags.f_contiguous:
            view = memoryview(buffer.T)
        else:
            raise BadAddress(f"{what} is not contiguous: give numpy.ascontiguousarray of it")
    if writable and view.readonly:
        raise BadAddress(f"{what} is read-only")
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def mapped(address: int, nbytes: int, writable: bool) -> bool:
    """Does the process own these bytes of host memory?"""
    if nbytes <= 0 or address <= 0:
        return False
    try:
        with open("/proc/self/maps") as maps:
            for line in maps:
                span, rights = line.split(maxsplit=2)[:2]
                low, high = (int(text, 16) for text in span.split("-"))
                if low <= address < high:
                    if rights[0] != "r" or (writable and rights[1] != "w"):
                        return False
                    if address + nbytes <= high:
                        return True
                    nbytes -= high - address
                    address = high
    except OSError:
        return False
    return nbytes == 0
