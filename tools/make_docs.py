# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Writes the generated pages: docs/ops.md, docs/knobs.md and docs/cli.md from the command's own tables, docs/python.md from docstrings, docs/api.md from the
public headers, the README's and docs/gpu.md's tables and docs/zoo.md from bench/results.

python tools/make_docs.py            write
python tools/make_docs.py --check    exit 1 when a page is stale
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import api_docs
import cli_docs
import python_docs
import zoo_docs

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- speed table: tools/make_docs.py -->", "<!-- end of speed table -->"
GPU_BEGIN, GPU_END = "<!-- GPU table: tools/make_docs.py -->", "<!-- end of GPU table -->"
WORST_BEGIN, WORST_END = "<!-- worst steps: tools/make_docs.py -->", "<!-- end of worst steps -->"


def lathe():
    build = os.environ.get("LATHE_BUILD_DIR", str(ROOT / "build" / "release"))
    return str(Path(build) / "bin" / "lathe")


def ask(*arguments):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LATHE_")}
    return json.loads(subprocess.run([lathe(), *arguments, "--json"], check=True, capture_output=True, text=True, env=clean).stdout)


def cell(text):
    return text.replace("|", "\\|")


def replaced(op):
    """Is the operator replaced by others: by its own definition, or by the pass quantised-products, which looks at the weights."""
    return op["expands"] or op["name"] in ("QLinearConv", "QLinearMatMul")


def ops_page():
    ops = ask("ops")
    lines = [
        "# Operators",
        "",
        "Made by `make docs` from `lathe ops --json`; a test fails when it is stale.",
        "",
        f"{len(ops)} operators are defined. Every version of the format is accepted and brought to the newest form. *Executed by* lists the candidates, preferred first; `cpu.loops` is the",
        "region language's emitter, `cpu.reference` the defining loop: correct, slow, the last resort. Where oneDNN is there, `cpu.conv.onednn` and `cpu.matmul.onednn` compete.",
        "*Its parts*: the operator is replaced by others while the graph is simplified.",
        "",
        "| operator | versions | executed by | what it does |",
        "| --- | --- | --- | --- |",
    ]
    for op in sorted(ops, key=lambda op: (op["domain"], op["name"])):
        name = f"{op['domain']}::{op['name']}" if op["domain"] else op["name"]
        versions = ", ".join(map(str, op["versions"]))
        # A build without oneDNN's headers lacks its candidates; the page is the same for all builds.
        candidates = ", ".join(["its parts"] * replaced(op) + [f"`{c}`" for c in op["candidates"] if not c.endswith(".onednn")]) or "through an upgrade"
        lines.append(f"| {name} | {versions} | {candidates} | {cell(op['doc'])} |")
    # By name alone: three domains carry TensorRT's.
    left = {op["name"] for op in ops if op["candidates"] and not replaced(op) and not any(c.startswith("cuda.") for c in op["candidates"])}
    lines += [
        "",
        "## Without a kernel on GPUs",
        "",
        "What is neither replaced nor has a candidate on GPUs. Control flow, sequences, optionals, maps and texts are the host's in any engine (their tensors stay on the GPU), constants are made",
        "when an engine is built, and anchors and mel weights follow from attributes and sizes.",
        "",
        ", ".join(f"`{name}`" for name in sorted(left)) + ".",
    ]
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


def short_gpu_table():
    """Of the newest measurement on the largest GPU: a row a network, the fastest of PyTorch's ways beside Lathe."""
    found = [json.loads(path.read_text()) for path in sorted((ROOT / "bench" / "results").glob("*-networks.json"))]
    found = [results for results in found if any(len(row["median_ms"]) > 1 for row in results["networks"].values())]
    if not found:
        return "No measurement beside PyTorch is committed yet: `python bench/gpu/evidence.py` makes one."
    results = max(found, key=lambda results: results["about"]["date"])
    about = results["about"]
    lines = [
        f"{about['gpu']}, {about['date']}, FP16; milliseconds of GPU time per run beside the fastest of PyTorch {about['torch']} eager, in a CUDA graph and "
        "compiled; below 1, Lathe is faster. [All of it](docs/gpu.md).",
        "",
        "| network | PyTorch | Lathe | Lathe / PyTorch |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, row in results["networks"].items():
        medians = row["median_ms"]
        rivals = [value for contender, value in medians.items() if contender != "lathe"]
        if rivals and "lathe" in medians:
            lines.append(f"| {name} | {min(rivals):.3f} | {medians['lathe']:.3f} | {medians['lathe'] / min(rivals):.2f} |")
    return "\n".join(lines)


def worst_steps():
    """What `lathe profile --json` found furthest above its floor, as bench/gpu/evidence.py keeps it."""
    tables = []
    for path in sorted((ROOT / "bench" / "results").glob("*-profile.json")):
        report = json.loads(path.read_text())
        about = report["about"]
        lines = [
            f"{about['network']}, {about['gpu']}, {about['date']}: {report['run_ms']:.3f} ms as one graph; {report['step_count']} steps take {report['steps_ms']:.3f} ms "
            f"one after the other (the rest, {report['outside_steps_ms']:.3f} ms, lies between them; negative: they overlap), their floors {report['floor_ms']:.3f} ms. "
            f"Floors: {report['gflops_peak'] * 1e-3:.0f} TFLOP/s ({report['gflops_peak_is']}), {report['gbytes_per_s']:.0f} GB/s ({report['gbytes_per_s_is']}). "
            "The ten steps that lose most above their floor:",
            "",
            "| step | kernel | us | floor | time/floor | lost |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
        ]
        for step in report["worst"]:
            over = f"{step['time_over_floor']:.1f}" if step["time_over_floor"] else "-"
            lines.append(
                f"| {cell(step['label'])} | `{step['kernel']}` | {step['ms'] * 1e3:.1f} | {step['floor_ms'] * 1e3:.1f} | {over} | {step['lost_ms'] * 1e3:.1f} |"
            )
        tables.append("\n".join(lines))
    return "\n\n".join(tables) or "No profile is committed yet: `python bench/gpu/evidence.py` makes one."


def with_tables(page, *tables):
    """The page with what stands between pairs of marks made anew: (begin, end, what makes it)."""
    text = (ROOT / page).read_text()
    for begin, end, make in tables:
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{page} lacks its marks {begin} ... {end}")
        text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


def readme_page():
    return with_tables("README.md", (BEGIN, END, speed_tables), (GPU_BEGIN, GPU_END, short_gpu_table))


def gpu_page():
    return with_tables("docs/gpu.md", (BEGIN, END, gpu_tables), (WORST_BEGIN, WORST_END, worst_steps))


def cli_page():
    return cli_docs.page(lathe(), ask("completion"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is stale")
    options = parser.parse_args()
    stale = []
    pages = {
        "docs/ops.md": ops_page,
        "docs/knobs.md": knobs_page,
        "docs/cli.md": cli_page,
        "docs/python.md": python_docs.page,
        "docs/api.md": api_docs.page,
        "README.md": readme_page,
        "docs/gpu.md": gpu_page,
        "docs/zoo.md": zoo_docs.page,
    }
    for name, make in pages.items():
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
