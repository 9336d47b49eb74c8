# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""docs/cli.md from the command's own subcommands and options (`lathe completion --json`), and from the help of what reads its options elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

SHIMS = ("onnx2trt", "trtexec", "onnxsim")


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def usage(path: str, node: dict[str, Any]) -> str:
    words = ["lathe", *path.split()]
    if node["commands"]:
        words.append("COMMAND ...")
    for argument in node["arguments"]:
        word = argument["name"].upper() if argument["kind"] == "words" else argument["value"]
        words.append((word if argument["required"] else f"[{word}]") + (" ..." if argument["repeatable"] else ""))
    words += [f"{option['names'][0]} {option['value']}" for option in node["options"] if option["required"]]
    optional = any(not option["required"] for option in node["options"])
    return " ".join([*words, *(["[OPTIONS]"] if optional else [])])


def option_rows(node: dict[str, Any]) -> list[str]:
    rows = []
    for entry in [*node["arguments"], *node["options"]]:
        if "-h" in entry.get("names", []):
            continue
        names = ", ".join(f"`{name}`" for name in entry["names"]) if "names" in entry else f"*{entry['name']}*"
        value = f"`{cell(entry['value'])}`" if "value" in entry else ""
        default = "required" if entry["required"] else f"`{cell(entry['default'])}`" if "default" in entry else ""
        rows.append(f"| {names} | {value} | {default} | {cell(entry['help'])} |")
    return rows


def help_of(program: str, *words: str, name: str = "lathe") -> str:
    """By the command itself; `name` is what it is called by."""
    # Python's own help is as wide as COLUMNS says.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LATHE_")}
    clean |= {"COLUMNS": "120", "LATHE_PYTHON": sys.executable, "NO_COLOR": "1"}
    return subprocess.run([name, *words, "--help"], executable=program, check=True, capture_output=True, text=True, env=clean).stdout.strip()


def command_lines(program: str, path: str, node: dict[str, Any]) -> list[str]:
    level = "#" * (2 + path.count(" "))
    lines = [f"{level} lathe {path}", "", node["description"] + ".", ""]
    if node["passed_on"]:
        return [*lines, "```", help_of(program, *path.split()), "```", ""]
    lines += ["```", usage(path, node), "```", ""]
    rows = option_rows(node)
    if rows:
        lines += ["| option | value | default | what it does |", "| --- | --- | --- | --- |", *rows, ""]
    if node["examples"]:
        lines += ["```", *node["examples"], "```", ""]
    for command in node["commands"]:
        lines += command_lines(program, f"{path} {command['name']}", command)
    return lines


def index_lines(path: str, node: dict[str, Any]) -> list[str]:
    lines = []
    for command in node["commands"]:
        whole = f"{path} {command['name']}".strip()
        anchor = re.sub(r"[^\w -]", "", f"lathe {whole}").replace(" ", "-")
        lines.append(f"| [`lathe {whole}`](#{anchor}) | {cell(command['description'])} |")
        lines += index_lines(whole, command)
    return lines


def page(program: str, tree: dict[str, Any]) -> str:
    lines = [
        "# The command line",
        "",
        "Made by `make docs` from the command's own options; a test fails when it is stale. `lathe COMMAND --help` prints the same, `lathe completion bash` and `zsh` complete it.",
        "",
        re.search(r"^Exit codes: .*$", help_of(program), re.M)[0],
        "Whatever fails is one paragraph on stderr: [errors that are met most](troubleshooting.md).",
        "",
        "| command | what it does |",
        "| --- | --- |",
        *index_lines("", tree),
        "",
    ]
    for command in tree["commands"]:
        lines += command_lines(program, command["name"], command)
    lines += ["## Commands of the guides", "", "`lathe install-shims` puts these into a folder: [from TensorRT](migrate.md).", ""]
    for shim in SHIMS:
        lines += [f"### {shim}", "", "```", help_of(program, name=shim), "```", ""]
    return "\n".join(lines).rstrip() + "\n"
