# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""docs/python.md from the docstrings of the package. Signatures of what is written in C++ are those of python/lathe/_lathe.pyi.

A docstring is a first sentence, paragraphs, lines `name: text` for parameters (their continuation is indented), and code, which is indented.
``undocumented()`` lists public names without one, or with parameters that it does not name; a test wants it to be empty.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = ("build", "load", "check", "simplify", "register_op", "custom_op", "set_log")
CLASSES = ("Engine", "Context", "IoInfo", "DeviceArray", "Extent", "InputShape", "CheckReport", "Defect")
FIELDS = {
    "code": '"invalid_model", "invalid_argument", "unsupported", "corrupt_file", "io", "out_of_memory", "machine", "cancelled", "verification" or "internal"',
    "message": "what went wrong, alone",
    "node": 'name of the ONNX node, or "#index"; empty when it is about none',
    "op": "its op type",
    "tensor": "name of the tensor",
    "source": "the file",
    "remedy": "what to do",
}


def package() -> Any:
    """The package of the build tree, whatever else is installed."""
    folder = Path(os.environ.get("LATHE_BUILD_DIR", ROOT / "build" / "release")) / "python"
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    import lathe

    if not Path(lathe.__file__).is_relative_to(folder):
        raise SystemExit(f"make_docs: the package lathe that Python finds is {lathe.__file__}, not the one in {folder}")
    return lathe


def stubs() -> dict[str, ast.ClassDef]:
    tree = ast.parse((ROOT / "python" / "lathe" / "_lathe.pyi").read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def signature_of(node: ast.FunctionDef) -> str:
    node.args.args = [a for a in node.args.args if a.arg != "self"]
    text = re.sub(r"(?<=[\w\])])=(?=[\w'\[(-])", " = ", ast.unparse(node.args))
    return f"{node.name}({text})" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")


def code_of(name: str, function: Any) -> str:
    """A function's declaration; a long one with a line for each parameter."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    text = signature_of(node).removeprefix(node.name)
    if len(name) + len(text) > 110:
        inside, _, returns = text[1:].rpartition(") -> ")
        parts, depth = [""], 0
        for c in inside:
            depth += (c in "[({") - (c in "])}")
            if c == "," and depth == 0:
                parts.append("")
            else:
                parts[-1] += c
        text = "(\n" + "".join(f"    {part.strip()},\n" for part in parts) + f") -> {returns}"
    return name + text


def doc_of(thing: Any) -> str:
    """A docstring without what nanobind writes above it: the signature."""
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    return re.sub(r"^\w*\(.*\)( -> .*)?(\n+|$)", "", text)


def markdown(text: str) -> list[str]:
    """Parameters become a list, indented code a block; what belongs to a parameter follows it in one line."""
    lines: list[str] = []
    code = False
    for part in text.split("\n"):
        indented = part.startswith("    ")
        parameter = re.match(r"([a-z_]\w*): (.+)", part)
        if indented and lines and lines[-1].startswith("* ") and not code:
            lines[-1] += " " + part.strip()
            continue
        if code and part.strip() and not indented:
            while not lines[-1]:
                lines.pop()
            lines += ["```", ""]
            code = False
        if indented and not code:
            lines.append("```python")
            code = True
        if parameter and not code:
            if lines and lines[-1] and not lines[-1].startswith("* "):
                lines.append("")
            lines.append(f"* `{parameter[1]}`: {parameter[2]}")
            continue
        lines.append(part[4:] if indented else part)
    return [*lines, "```"] if code else lines


def comments_of(kind: type) -> dict[str, str]:
    """`#:` comments behind the fields of a dataclass."""
    return dict(re.findall(r"^    (\w+): .*#: (.*)$", inspect.getsource(kind), re.M))


def members(kind: type) -> list[tuple[str, str, str]]:
    """(name, code, docstring) of a class's public members, fields first."""
    if dataclasses.is_dataclass(kind) or kind.__name__ not in stubs():
        comments = comments_of(kind)
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        found = [(f.name, f"{f.name}: {f.type}", comments.get(f.name, "")) for f in fields]
        for name, value in vars(kind).items():
            if isinstance(value, property) and not name.startswith("_"):
                found.append((name, f"{name}: {inspect.signature(value.fget).return_annotation}", doc_of(value)))
        return found
    found = []
    for node in stubs()[kind.__name__].body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        value = inspect.getattr_static(kind, node.name, None)
        is_property = any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)
        code = f"{node.name}: {ast.unparse(node.returns)}" if is_property else signature_of(node)
        found.append((node.name, code, doc_of(value)))
    return sorted(found, key=lambda each: "(" in each[1])


def parameters_without_words(function: Any) -> list[str]:
    named = set(re.findall(r"^(\w+): ", doc_of(function), re.M)) | set(re.findall(r"``?(\w+)``?", doc_of(function)))
    return [name for name in inspect.signature(function).parameters if name not in named and name not in ("args", "kwargs")]


def documented_functions(lathe: Any) -> dict[str, Any]:
    from lathe import exporter

    return {**{f"lathe.{name}": getattr(lathe, name) for name in FUNCTIONS}, "lathe.export": exporter.export}


def undocumented() -> list[str]:
    lathe = package()
    from lathe import exporter

    missing = [f"lathe.{name}" for name in lathe.__all__ if name not in (*FUNCTIONS, *CLASSES, "export", "Error")]
    for name, function in documented_functions(lathe).items():
        missing += (
            [name]
            if not doc_of(function)
            else [f"{name}: {parameter}" for parameter in parameters_without_words(function) if parameter not in ("model", "callback", "file")]
        )
    for kind in [*(getattr(lathe, name) for name in CLASSES), exporter.ExportReport]:
        missing += [f"{kind.__name__}.{name}" for name, _, doc in members(kind) if not doc]
        missing += [kind.__name__] if not doc_of(kind) else []
        if kind.__name__ in stubs():  # what the stub does not know would be left out
            there = {n for n in dir(kind) if not n.startswith("_")}
            missing += [f"{kind.__name__}.{name} (not in _lathe.pyi)" for name in there - {name for name, _, _ in members(kind)}]
    missing += [f"Error.{name}" for name in set(FIELDS) ^ {n.target.id for n in stubs()["Error"].body if isinstance(n, ast.AnnAssign)}]
    return missing


def class_lines(kind: type, prefix: str = "lathe.") -> list[str]:
    lines = [f"### `{prefix}{kind.__name__}`", "", *markdown(doc_of(kind)), ""]
    found = members(kind)
    plain = [m for m in found if "(" not in m[1] or dataclasses.is_dataclass(kind)]
    if plain:
        lines += ["| name | what it is |", "| --- | --- |"]
        lines += [
            f"| `{code}` | {doc} |".replace(" | None", " or None")
            for _, code, doc in ((n, c.replace("|", "or"), d.replace("|", "\\|").replace("\n", " ")) for n, c, d in plain)
        ]
        lines.append("")
    for _, code, doc in (m for m in found if m not in plain):
        lines += [f"#### `{code}`", "", *markdown(doc), ""]
    return lines


def page() -> str:
    lathe = package()
    from lathe import backend, compat, exporter

    lines = [
        "# The Python package",
        "",
        "Made by `make docs` from the docstrings of `python/lathe`; a test fails when it is stale, or a public name has none. [Installing](install.md); [errors that are met most](troubleshooting.md).",
        "",
        *markdown(doc_of(lathe)),
        "",
        "## Functions",
        "",
    ]
    for name, function in documented_functions(lathe).items():
        lines += [f"### `{name}`", "", "```python", code_of(name, function), "```", "", *markdown(doc_of(function)), ""]
    lines += ["## Classes", ""]
    for name in CLASSES:
        lines += class_lines(getattr(lathe, name))
    lines += class_lines(exporter.ExportReport, "lathe.exporter.")
    lines += ["### `lathe.Error`", "", *markdown(doc_of(lathe.Error)), "", "| name | what it is |", "| --- | --- |"]
    lines += [f"| `{name}: str` | {text} |" for name, text in FIELDS.items()]
    lines += ["", "## `lathe.compat`", "", *markdown(doc_of(compat)), ""]
    for function in (compat.install, compat.modules):
        lines.append(f"* `{code_of(f'lathe.compat.{function.__name__}', function)}`: {doc_of(function)}")
    lines += ["", "[From TensorRT](migrate.md) tells what maps to what.", "", "## `lathe.backend`", "", *markdown(doc_of(backend))]
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?<!`)``(?!`)", "`", "\n".join(lines))).rstrip() + "\n"


if __name__ == "__main__":
    print("\n".join(undocumented()))
