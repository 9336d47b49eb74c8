# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Writes the generated pages: docs/ops.md and docs/knobs.md from the command's own tables, and the README's speed table from bench/results.

python tools/make_docs.py            write
python tools/make_docs.py --check    exit 1 when a page is stale
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- speed table: tools/make_docs.py -->", "<!-- end of speed table -->"


def lathe():
    build = os.environ.get("LATHE_BUILD_DIR", str(ROOT / "build" / "release"))
    return str(Path(build) / "bin" / "lathe")


def ask(*arguments):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LATHE_")}
    return json.loads(subprocess.run([lathe(), *arguments, "--json"], check=True, capture_output=True, text=True, env=clean).stdout)


def cell(text):
    return text.replace("|", "\\|")


def ops_page():
    ops = ask("ops")
    lines = [
        "# Operators",
        "",
        "Made by `make docs` from `lathe ops --json`; a test fails when it is stale.",
        "",
        f"{len(ops)} operators are defined. Every version of the format is accepted and brought to the newest form. *Executed by* lists the candidates, preferred first; `cpu.loops` is the",
        "region language's emitter, `cpu.reference` the defining loop: correct, slow, the last resort. Where oneDNN is there, `cpu.conv.onednn` and `cpu.matmul.onednn` compete.",
        "",
        "| operator | versions | executed by | what it does |",
        "| --- | --- | --- | --- |",
    ]
    for op in sorted(ops, key=lambda op: (op["domain"], op["name"])):
        name = f"{op['domain']}::{op['name']}" if op["domain"] else op["name"]
        versions = ", ".join(map(str, op["versions"]))
        # A build without oneDNN's headers lacks its candidates; the page is the same for all builds.
        candidates = ", ".join(f"`{c}`" for c in op["candidates"] if not c.endswith(".onednn")) or "through an upgrade"
        lines.append(f"| {name} | {versions} | {candidates} | {cell(op['doc'])} |")
    return "\n".join(lines) + "\n"


def knobs_page():
    lines = [
        "# Environment variables",
        "",
        "Made by `make docs` from the table in `src/base/knobs.cpp`, the one place where Lathe reads its environment; `lathe devices --knobs` prints the values in force.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| `{knob['name']}` | {'`' + knob['default'] + '`' if knob['default'] else 'unset'} | {cell(knob['help'])} |" for knob in ask("devices", "--knobs")
    ]
    return "\n".join(lines) + "\n"


def speed_tables():
    """One table a machine, widest instruction set first."""
    found = sorted((ROOT / "bench" / "results").glob("cpu-*.json"), key=lambda path: (-len(path.stem), path.stem))
    return "\n\n".join(speed_table(json.loads(path.read_text())) for path in found) or "No measurement is committed yet: `make bench` makes one."


def speed_table(results):
    columns = results["columns"]
    lines = [
        f"{results['machine']}, {results['threads']} threads, {results['date']}; median latency in ms, all entries alternating in one process; in brackets the time relative to the fastest rival of the "
        f"same precision (below 1: Lathe is faster). Made by `{results['command']}`.",
        "",
        "| model | " + " | ".join(columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for row in results["rows"]:
        cells = []
        for column in columns:
            value = row["median_ms"].get(column)
            ratio = row.get("ratio", {}).get(column)
            cells.append("-" if value is None else f"{value:.1f}" + (f" ({ratio:.2f})" if ratio else ""))
        lines.append(f"| {row['model']} | " + " | ".join(cells) + " |")
    if results.get("openvino_bf16_runs_as") == "f32":
        lines += ["", "Without instructions for bfloat16, OpenVINO multiplies in float32 when asked for it."]
    memory = results["memory"]
    lines += [
        "",
        f"{memory['model']} in fp32 loads in {memory['load_ms']:.0f} ms; its process peaks at {memory['peak_memory_bytes'] / 2**20:.0f} MiB, "
        f"{memory['peak_over_planned']:.2f} times its weights and planned activations.",
    ]
    return "\n".join(lines)


def gpu_table(path):
    results = json.loads(path.read_text())
    about, contenders = results["about"], {"eager": "PyTorch", "graph": "in a CUDA graph", "compile": "torch.compile", "lathe": "Lathe"}
    lines = [
        f"{about['gpu']}, {about['date']}, PyTorch {about['torch']}; {about['what']}; in brackets the time relative to the fastest of PyTorch's "
        f"(below 1: Lathe is faster). Made by `{about['command']}`.",
        "",
        "| network | " + " | ".join(contenders.values()) + " | steps | on the host |",
        "| --- |" + " ---: |" * (len(contenders) + 2),
    ]
    for name, row in results["networks"].items():
        medians = row["median_ms"]
        rivals = [medians[c] for c in contenders if c != "lathe" and c in medians]
        cells = [f"{medians[c]:.3f}" if c in medians else "-" for c in contenders]
        if rivals:
            cells[-1] += f" ({medians['lathe'] / min(rivals):.2f})"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['steps']} | {row['host_steps']} |")
    return "\n".join(lines)


def gpu_tables():
    return "\n\n".join(gpu_table(path) for path in sorted((ROOT / "bench" / "results").glob("*-networks.json")))


def with_tables(page, tables):
    """The page with what stands between its two marks made anew."""
    before, _, rest = (ROOT / page).read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def readme_page():
    return with_tables("README.md", speed_tables)


def gpu_page():
    return with_tables("docs/gpu.md", gpu_tables)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is stale")
    options = parser.parse_args()
    stale = []
    for name, make in {"docs/ops.md": ops_page, "docs/knobs.md": knobs_page, "README.md": readme_page, "docs/gpu.md": gpu_page}.items():
        path = ROOT / name
        page = make()
        if path.exists() and path.read_text() == page:
            continue
        if options.check:
            stale.append(name)
        else:
            path.write_text(page)
            print(f"wrote {name}")
    if stale:
        print(f"stale: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
