# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Writes src/check/schemas.inc: every version of every operator that the format defines, for `lathe check`, from the onnx package.

python tools/make_schemas.py            write
python tools/make_schemas.py --check    exit 1 when the file is stale

The file is in git, so that a build needs no onnx; tests/test_check.py holds it against the installed package.
"""

import argparse
import sys
from pathlib import Path

import onnx
from onnx import defs

TARGET = Path(__file__).resolve().parents[1] / "src" / "check" / "schemas.inc"

INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
FLOATS = ["float16", "float", "double"]
FLOAT8 = ["float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"]


def named_sets():
    """The sets that ops/schema.h gives names to."""
    all_ = [*INTEGERS, *FLOATS, "string", "bool", "complex64", "complex128"]
    sets = {
        "@float": FLOATS,
        "@float13": [*FLOATS, "bfloat16"],
        "@num": [*INTEGERS, *FLOATS],
        "@num13": [*INTEGERS, *FLOATS, "bfloat16"],
        "@high": ["uint32", "uint64", "int32", "int64", *FLOATS],
        "@high13": ["uint32", "uint64", "int32", "int64", *FLOATS, "bfloat16"],
        "@all": all_,
        "@all13": [*all_, "bfloat16"],
        "@all19": [*all_, "bfloat16", *FLOAT8],
    }
    for name, base, more in (
        ("@all21", "@all19", ["uint4", "int4"]),
        ("@all23", "@all21", ["float4e2m1"]),
        ("@all24", "@all23", ["float8e8m0"]),
        ("@all25", "@all24", ["uint2", "int2"]),
        ("@all28", "@all25", ["float6e2m3", "float6e3m2"]),
    ):
        sets[name] = [*sets[base], *more]
    return {name: frozenset(members) for name, members in sets.items()}


SETS = named_sets()

# Counts that the package keeps to itself: either all of the optional outputs or none.
OUTPUT_COUNTS = {("", "BatchNormalization", since): "1,5" for since in (1, 6, 7, 9)} | {("", "BatchNormalization", since): "1,3" for since in (14, 15)}

# LayerNormalization takes any attribute.
UNCHECKED = {("", "LayerNormalization", 17)}


def dtype_set(dtypes):
    """The shortest text: a named set with what lacks or is too much, or the list."""
    best = " ".join(sorted(dtypes))
    for name, members in SETS.items():
        text = " ".join([name, *sorted(dtypes - members), *("-" + t for t in sorted(members - dtypes))])
        best = min(best, text, key=len)
    return best


def bare(text):
    text = text.replace(" ", "")
    return text[7:-1] if text.startswith("tensor(") else text


def type_set(types):
    groups, rest = {}, []
    for text in types:
        text = text.replace(" ", "")
        for prefix in ("tensor(", "seq(tensor(", "optional(tensor(", "optional(seq(tensor("):
            inner = text[len(prefix) :].rstrip(")")
            if text.startswith(prefix) and "(" not in inner and "," not in inner:
                groups.setdefault(prefix, set()).add(inner)
                break
        else:
            rest.append(text)
    parts = []
    for prefix, members in groups.items():
        wrap = prefix.removesuffix("tensor(")
        close = ")" * wrap.count("(")
        # A removal names the wrapped type too.
        parts += [("-" if t.startswith("-") else "") + wrap + t.removeprefix("-") + close for t in dtype_set(members).split()]
    return " ".join(parts + sorted(rest))


def formal(p):
    option = p.option.name
    mark = {"Single": "", "Optional": "?", "Variadic": ("" if p.is_homogeneous else "*+"[p.min_arity]) + "*+"[p.min_arity] if option == "Variadic" else ""}[
        option
    ]
    return f"{p.name}{mark}:{bare(p.type_str)}"


def attribute(a):
    kind = {"SPARSE_TENSOR": "sparse_tensor", "TYPE_PROTO": "type_proto"}.get(a.type.name, a.type.name.lower())
    return f"{a.name}:{kind}" + ("" if a.required else "?")


def version(s):
    signature = " ".join(map(formal, s.inputs)) + " -> " + " ".join(map(formal, s.outputs))
    attributes = " ".join(attribute(a) for _, a in sorted(s.attributes.items()))
    types = "; ".join(f"{c.type_param_str}:{type_set(c.allowed_type_strs)}" for c in s.type_constraints)
    flags = " ".join(
        ["deprecated"] * s.deprecated
        + ["experimental"] * (s.support_level == defs.OpSchema.SupportType.EXPERIMENTAL)
        + ["unchecked"] * ((s.domain, s.name, s.since_version) in UNCHECKED)
        + [f"outputs={OUTPUT_COUNTS[key]}" for key in [(s.domain, s.name, s.since_version)] if key in OUTPUT_COUNTS]
    )
    return f"{s.since_version}|{signature.strip()}|{attributes}|{types}|{flags}".rstrip("|")


def page():
    ops = {}
    for s in defs.get_all_schemas_with_history():
        ops.setdefault((s.domain, s.name), []).append(s)
    lines = [
        "// SPDX-FileCopyrightText: Lathe contributors",
        "// SPDX-License-Identifier: Apache-2.0",
        f"// Made by tools/make_schemas.py from onnx {onnx.__version__}; a test holds it against the package. A line `=domain name`, then one line a version:",
        "// since|signature|attributes|types|flags, in the grammar of ops/schema.h.",
    ]
    body = []
    for (domain, name), versions in sorted(ops.items()):
        body.append(f"={domain} {name}")
        body += [version(s) for s in sorted(versions, key=lambda s: s.since_version)]
    # Several literals: compilers need not take long ones.
    chunks = [body[i : i + 40] for i in range(0, len(body), 40)]
    return "\n".join(lines + ['R"~(' + "\n".join(chunk) + '\n)~"' for chunk in chunks]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    text = page()
    if parser.parse_args().check:
        stale = TARGET.read_text() != text
        if stale:
            print(f"{TARGET} is stale: run python tools/make_schemas.py", file=sys.stderr)
        return int(stale)
    TARGET.write_text(text)
    print(f"{TARGET}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
