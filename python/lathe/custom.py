# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Operators of one's own in Python: docs/custom_ops.md."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from typing import Any

from lathe import _lathe

Function = Callable[..., Any]


def register_op(
    domain: str,
    name: str,
    run: Function | None = None,
    *,
    shape: Function | None = None,
    inputs: str = "x:T",
    outputs: str = "y:T",
    types: str = "T: @num13",
    attributes: str = "",
    version: int = 1,
    doc: str = "",
    deterministic: bool = True,
    cuda: str = "",
    cuda_block: int = 256,
    cuda_elements: int = 1,
) -> None:
    """Makes an operator known to this process: models that use it can be built from now on, and engines that need it loaded.

        lathe.register_op("my.domain", "Scale", lambda x, alpha: x * alpha, types="T: float", attributes="alpha:float=2")

    domain: as the model's nodes have it; not that of a standard.
    name: the nodes' op type.
    run: called as run(*inputs, **attributes) with read-only NumPy views, None for an input that is left out, and attributes with their defaults;
        returns the output's array, or a tuple with one for each output. Views are good during the call alone. Any thread may call it.
    shape: called as shape(*shapes, **attributes) with an ``InputShape`` for each input; returns the output's extents, or a list with those of each
        output: ints, and ``Extent`` for free ones. Without it every output has the first input's shape.
    inputs: names with types: "x:T scale?:float rest*:T" ("?" optional, "*" any number of them at the end, "+" at least one).
    outputs: the same.
    types: what the variables among them may be: "T: float double; I: int32 int64", or the sets @num13 (all numbers), @float13 (the real ones).
    attributes: "alpha:float=1 axis:int mode:string? sizes:ints=1,2": "=" with a default, "?" optional, neither: required.
    version: of the domain, from which on models may use it; an engine runs with the version that it was built with.
    doc: a line for ``lathe ops``.
    deterministic: False for one that gives other outputs for the same inputs: it is never folded, merged or planned.
    cuda: CUDA C++ with an `extern "C" __global__` kernel of the operator's name, for engines on a GPU; without ``run`` the CPU's part of an
        engine runs it on the GPU too.
    cuda_block: threads of a block.
    cuda_elements: elements of the first output for each thread; 0: a block for each.

    Raises Error with code "invalid_argument" for texts that say nothing, and for a name that is taken.
    """
    rule = None if shape is None else _rule(shape)
    _lathe.register_op(domain, name, version, inputs, outputs, types, attributes, doc, run, rule, deterministic, cuda, cuda_block, cuda_elements)


def custom_op(name: str, **options: Any) -> Callable[[Function], Function]:
    """Registers the function that it decorates.

        @lathe.custom_op("my.domain::Scale", types="T: float", attributes="alpha:float=2")
        def scale(x, alpha):
            return x * alpha

    name: domain and op type.
    options: those of ``register_op``.
    """
    domain, _, op = name.rpartition("::")

    def register(run: Function) -> Function:
        options.setdefault("doc", (run.__doc__ or "").strip().partition("\n")[0])
        register_op(domain, op, run, **options)
        return run

    return register


class InputShape(tuple):
    """An input's extents, as a shape rule sees them: a tuple of ints and ``Extent``, with the input's element type."""

    dtype: str
    _content: Callable[[], tuple[Any, ...]]

    @property
    def content(self) -> tuple[Any, ...]:
        """The elements of an integer input that the shape depends on. Where only a run tells them, the rule ends here and is asked again then."""
        return self._content()


def _rule(shape: Function) -> Callable[[_lathe.CustomShapes], None]:
    def rule(shapes: _lathe.CustomShapes) -> None:
        inputs: list[InputShape | None] = []
        for i in range(shapes.input_count()):
            if not shapes.has_input(i):
                inputs.append(None)
                continue
            extents = InputShape(shapes.shape(i))
            extents.dtype = shapes.dtype(i)
            extents._content = lambda i=i: shapes.content(i)
            inputs.append(extents)
        result = shape(*inputs, **shapes.attributes())
        several = isinstance(result, list) and all(isinstance(item, (tuple, list)) for item in result)
        for i, extents in enumerate(result if several else [result]):
            shapes.output(i, tuple(extents))

    return rule


atexit.register(_lathe.forget_ops)
