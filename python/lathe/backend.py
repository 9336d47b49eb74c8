# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Lathe as a backend of ONNX's own test suite (``onnx.backend.base``): every model and node goes through a full build.

import lathe.backend as backend
outputs = backend.run_model(model, [x])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict

import lathe

_DEVICES = ("CPU",)


class LatheRep(BackendRep):
    """A prepared model: `run` takes inputs in order (or by name) and returns outputs in order."""

    def __init__(self, engine: lathe.Engine):
        self.engine = engine
        self._context = engine.create_context()

    def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
        named = dict(inputs) if isinstance(inputs, Mapping) else list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        outputs = self._context.run(named)
        return namedtupledict("Outputs", list(outputs))(*outputs.values())


def _node_model(node: onnx.NodeProto, inputs: dict[str, np.ndarray], constants: dict[str, np.ndarray], opset: int) -> onnx.ModelProto:
    values = [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in inputs.items()]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    imports = [onnx.helper.make_opsetid("", opset)]
    if node.domain:
        imports.append(onnx.helper.make_opsetid(node.domain, 1))
    graph = onnx.helper.make_graph([node], node.op_type, values, outputs, weights)
    return onnx.helper.make_model(graph, opset_imports=imports)


class LatheBackend(Backend):
    """Builds without tuning and without the built-in verification: the caller compares."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **options: Any) -> LatheRep:
        if not cls.supports_device(device):
            raise lathe.Error(f"this build has no backend for the device '{device}'")
        super().prepare(model, device)
        settings = {"budget": 0.0, "verify": False, "cache": False, **options}
        return LatheRep(lathe.build(model, **settings))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **options: Any) -> tuple[Any, ...]:
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **options: Any,
    ) -> tuple[Any, ...]:
        opset = options.pop("opset_version", None) or onnx.defs.onnx_opset_version()
        super().run_node(node, inputs, device, outputs_info, opset_version=opset)
        names = [name for name in node.input if name]
        arrays = [np.asarray(value) for value in inputs]
        if len(arrays) != len(names):
            raise lathe.Error(f"node '{node.name or node.op_type}' has {len(names)} inputs, {len(arrays)} were given")
        feeds = dict(zip(names, arrays))
        settings = {"budget": 0.0, "verify": False, "cache": False, **options}
        try:
            return LatheRep(lathe.build(_node_model(node, feeds, {}, opset), **settings)).run(feeds)
        except lathe.Error as error:
            # Extents that depend on an input's contents (axes, scales, a target shape): those inputs become constants of the model.
            small = {name: array for name, array in feeds.items() if name != node.input[0] and array.ndim <= 1}
            if error.code != "unsupported" or not small:
                raise
            rest = {name: array for name, array in feeds.items() if name not in small}
            return LatheRep(lathe.build(_node_model(node, rest, small, opset), **settings)).run(rest)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.split(":")[0] in _DEVICES


prepare = LatheBackend.prepare
run_model = LatheBackend.run_model
run_node = LatheBackend.run_node
supports_device = LatheBackend.supports_device
is_compatible = LatheBackend.is_compatible
