# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What ``lathe.check`` returns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Defect:
    """One thing wrong in an ONNX file. Texts are empty where they do not apply."""

    code: str  #: stable: "unknown-operator", "shape-conflict", ...
    severity: str  #: "error": the file is invalid; "warning": valid, but odd, or Lathe cannot build it
    node: str  #: the node's name, or "#index"
    op: str  #: its op type, with the domain where that is not ai.onnx
    tensor: str  #: the tensor, input, output or initializer
    where: str  #: the nested graph or local function; empty in the main graph
    what: str  #: what is wrong
    expected: str  #: what was expected
    remedy: str  #: what to do
    spec: str  #: the section of the ONNX specification that the rule is from


@dataclass(frozen=True)
class CheckReport:
    """All defects of an ONNX file, errors first. True in a condition when the file is valid; ``str()`` gives what ``lathe check`` prints."""

    valid: bool  #: no errors; warnings are allowed
    source: str  #: the file, as given
    ir_version: int  #: version of the format, as the file says
    opsets: tuple[tuple[str, int], ...]  #: domain as written, version
    nodes: int  #: nested graphs and functions included
    defects: tuple[Defect, ...]  #: errors first
    text: str = field(repr=False)  #: as ``lathe check`` prints it

    @property
    def errors(self) -> tuple[Defect, ...]:
        """What makes the file invalid."""
        return tuple(d for d in self.defects if d.severity == "error")

    @property
    def warnings(self) -> tuple[Defect, ...]:
        """What does not."""
        return tuple(d for d in self.defects if d.severity == "warning")

    def __bool__(self) -> bool:
        return self.valid

    def __iter__(self) -> Iterator[Defect]:
        return iter(self.defects)

    def __len__(self) -> int:
        return len(self.defects)

    def __str__(self) -> str:
        return self.text


def report_from(text: str, encoded: str) -> CheckReport:
    """From the two texts that the extension gives."""
    data = json.loads(encoded)
    return CheckReport(
        valid=data["valid"],
        source=data["source"],
        ir_version=data["ir_version"],
        opsets=tuple((o["domain"], o["version"]) for o in data["opsets"]),
        nodes=data["nodes"],
        defects=tuple(Defect(**d) for d in data["defects"]),
        text=text,
    )
