# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Seeded inputs for the models of the zoo: which shapes a model's free extents may have, and numbers, masks, tokens and texts to fill them with."""

import numpy as np

# Values for each free extent, by the exporters' names: what the networks' total strides divide. `total` is past + seq.
FREE = {
    "batch": (1, 2, 3),
    "height": (128, 96, 160),
    "width": (128, 160, 96),
    "h": (64, 96, 80),
    "w": (64, 48, 112),
    "t": (24, 40, 17),
    "time": (16, 7, 23),
    "seq": (9, 16, 5),
    "past": (7, 1, 12),
    None: (40, 1, 17),  # scikit-learn's rows have no name
}
# Where the above is far from what a model is for.
OF_MODEL = {"real_sd_unet": {"h": (32, 16, 24), "w": (32, 24, 16), "batch": (1, 2, 1)}}
# Extents that the file calls free, and that nodes in it take for these; ONNX Runtime fails at others, too.
FIXED = {
    "hf_mamba": {"seq": 32},  # the scan over the steps is written out
    "real_llama_past": {"seq": 1},  # heads are repeated for one token
    "hf_fastspeech2": {"batch": 1},  # a mask of the batch meets one of the length
}
LARGEST = 1024  # that an engine for a model with fixed extents serves


def values_of(name):
    values = FREE | OF_MODEL.get(name, {}) | {d: (v, v, v) for d, v in FIXED.get(name, {}).items()}
    values["total"] = tuple(p + s for p, s in zip(values["past"], values["seq"], strict=True))
    return values


def ranges(name, inputs):
    """What lathe.build is told of shapes: of the inputs with an extent that is only free by name."""
    fixed, values = FIXED.get(name, {}), values_of(name)

    def extents(shape, free):
        return [d if isinstance(d, int) else fixed.get(d, free(d)) for d in shape]

    return {
        i.name: (extents(i.shape, lambda d: 1), extents(i.shape, lambda d: values[d][0]), extents(i.shape, lambda d: LARGEST))
        for i in inputs
        if fixed.keys() & set(i.shape)
    }


def sets(name, inputs):
    """Concrete shapes of all inputs, {input: extents} each: one set, or three when the model has free extents."""
    free = {d for i in inputs for d in i.shape if not isinstance(d, int)}
    values = values_of(name)
    unknown = free - values.keys()
    assert not unknown, f"extents without a choice of values: {unknown}"
    return [{i.name: [d if isinstance(d, int) else values[d][k] for d in i.shape] for i in inputs} for k in range(3 if free else 1)]


def rows_gathered(model, name):
    """How many rows the tables have that an integer input selects from, looking through what only moves it or its table."""
    made = {o: n for n in model.graph.node for o in n.output}
    tables = {t.name: t.dims[0] for t in model.graph.initializer if len(t.dims) > 1}
    seen, todo, rows = set(), [name], []
    readers = {}
    for node in model.graph.node:
        for i in node.input:
            readers.setdefault(i, []).append(node)
    while todo:
        value = todo.pop()
        for node in readers.get(value, []):
            if node.op_type in ("Cast", "Reshape", "Unsqueeze", "Identity", "Squeeze") and node.output[0] not in seen:
                seen.add(node.output[0])
                todo.append(node.output[0])
            elif node.op_type in ("Gather", "GatherBlockQuantized") and node.input[1] == value:
                table = node.input[0]
                while table not in tables and table in made and made[table].op_type in ("DequantizeLinear", "Identity", "Cast"):
                    table = made[table].input[0]
                rows.append(tables.get(table, 0))
            elif node.op_type == "EmbedLayerNormalization" and node.input[0] == value:
                rows.append(tables.get(node.input[2], 0))
    rows = [r for r in rows if r]
    assert rows, f"nothing tells which integers the input {name} may hold"
    return min(rows)


def texts(model):
    """Texts that the model knows, and one that it does not."""
    known = [s.decode() for n in model.graph.node for a in n.attribute if a.name in ("cats_strings", "keys_strings") for s in a.strings]
    return np.array([*known[:: len(known) // 8 + 1], "no such text"], object)


def draw(model, inputs, shapes, seed):
    """{input: array} by `seed`. Masks are ones but for the last positions of the last row, as padding to the right leaves them."""
    random = np.random.default_rng(seed)
    feeds = {}
    for i in inputs:
        shape = shapes[i.name]
        if i.type == "tensor(int64)" and "mask" in i.name:
            feeds[i.name] = np.ones(shape, np.int64)
            if "total" not in i.shape and shape[-1] > 4:
                feeds[i.name][-1, -1 - seed :] = 0
        elif i.type == "tensor(int64)" and i.name == "timestep":
            feeds[i.name] = random.integers(0, 1000, shape)
        elif i.type == "tensor(int64)":
            feeds[i.name] = random.integers(0, rows_gathered(model, i.name), shape)
        elif i.type == "tensor(string)":
            feeds[i.name] = random.choice(texts(model), shape)
        else:
            assert i.type in ("tensor(float)", "tensor(float16)"), i.type
            # Features spread enough for classes to change.
            moments = (0, 2) if model.producer_name == "skl2onnx" else (0.2, 0.6)
            feeds[i.name] = random.normal(*moments, shape).astype(np.float16 if "16" in i.type else np.float32)
    return feeds
