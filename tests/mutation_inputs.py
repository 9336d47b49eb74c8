# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The inputs of mutation_runs.py: small models and engines, each changed by a seed. Models are changed as protobuf sees them (mutants.py) and byte
by byte; engines byte by byte and number by number, with the hashes left alone (damage) or put right again (malice)."""

import copy
import ctypes
import functools
import random
import struct
from pathlib import Path

from onnx import TensorProto

import made_models
import models
import mutants

GOLDEN = Path(__file__).resolve().parent / "golden" / "1.0"
HEADER, PAGE, WEIGHTS = 64, 4096, 1  # src/engine/file_header.h
MOST_ELEMENTS = 1 << 16  # of a tensor that a piece of the zoo names; larger ones are only slow

INTERESTING = [0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF]
INTERESTING += [(1 << 64) - n for n in (1, 2, 3, 16, 1 << 31)] + [1 << 33, 1 << 40, 1 << 63]


# Models ----------------------------------------------------------------------------------------------------------------

SOUND = [
    models.relu_add,
    models.two_in_two_out,
    models.convolutions,
    models.scalar,
    functools.partial(models.identity, TensorProto.INT64),
    functools.partial(models.identity, TensorProto.FLOAT16),
    *made_models.MADE,
]


def is_small(model):
    def elements(shape):
        count = 1
        for dim in shape.dim:
            count *= max(dim.dim_value, 1)
        return count

    infos = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    return all(elements(v.type.tensor_type.shape) <= MOST_ELEMENTS for v in infos)


def sound_model(rng):
    """A model of a few nodes: a made one, or a run of nodes of a zoo export whose tensors are small."""
    if rng.random() < 0.7:
        made = rng.choice(SOUND)
        return made(), getattr(made, "__name__", None) or f"{made.func.__name__}({made.args[0]})"
    while True:
        name = rng.choice(mutants.small_names())
        model = mutants.piece(name, rng)
        if model is not None and is_small(model):
            return model, "piece of " + name


def changed_model(rng):
    model, origin = sound_model(rng)
    model, done = copy.deepcopy(model), []
    wanted = rng.choice([1, 1, 1, 2, 3])
    for _ in range(40):
        change = rng.choice(mutants.MUTATIONS)
        try:
            if change(model, rng) is not False:
                done.append(change.__name__)
        except (TypeError, ValueError, IndexError):
            continue
        if len(done) == wanted:
            break
    return model.SerializeToString(), f"{origin}: {', '.join(done)}"


# Bytes -----------------------------------------------------------------------------------------------------------------


def flip(data, rng, other):
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data, rng, other):
    for _ in range(rng.choice([1, 1, 2, 4])):
        data[rng.randrange(len(data))] = rng.choice([0, 1, 2, 8, 16, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)])


def number(data, rng, other):
    width = rng.choice([1, 2, 4, 8])
    at = rng.randrange(0, max(1, len(data) - width + 1)) // width * width
    data[at : at + width] = (rng.choice(INTERESTING) & ((1 << 8 * width) - 1)).to_bytes(width, "little")


def cut(data, rng, other):
    del data[rng.randrange(len(data)) :]


def drop(data, rng, other):
    at = rng.randrange(len(data))
    del data[at : at + rng.choice([1, 2, 4, 8, 64, 1024])]


def insert(data, rng, other):
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice([bytes(rng.choice([1, 4, 64, 5000])), rng.randbytes(rng.choice([1, 4, 64]))])


def repeat(data, rng, other):
    at = rng.randrange(len(data))
    piece = data[at : at + rng.choice([1, 4, 16, 256])]
    data[at:at] = piece * rng.choice([1, 2, 50])


def move(data, rng, other):
    at, to, size = rng.randrange(len(data)), rng.randrange(len(data)), rng.choice([4, 8, 16, 64, 512])
    piece = data[at : at + size]
    data[to : to + len(piece)] = piece


def splice(data, rng, other):
    """The front of one file and the end of another."""
    data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


BYTES = [flip, flip, overwrite, number, number, cut, drop, insert, repeat, move, splice]
SAME_SIZE = [flip, overwrite, number, number, number, move]


def changed_bytes(data, rng, changes, other=b"\0"):
    data, done = bytearray(data), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if data:
            change = rng.choice(changes)
            change(data, rng, other)
            done.append(change.__name__)
    return data, done


# Engines ---------------------------------------------------------------------------------------------------------------


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


@functools.lru_cache(maxsize=1)
def _xxhash():
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype, library.XXH3_128bits.restype = ctypes.c_uint64, _Hash128
    for function in (library.XXH3_64bits, library.XXH3_128bits):
        function.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library


def hash128(data):
    value = _xxhash().XXH3_128bits(bytes(data), len(data))
    return struct.pack("<QQ", value.low, value.high)


class Sound:
    """A sound engine's bytes, and where its sections and their hashes lie."""

    def __init__(self, name, data):
        self.name, self.data = name, bytes(data)
        self.metadata = struct.unpack_from("<Q", data, 24)[0]
        base = (HEADER + self.metadata + PAGE - 1) // PAGE * PAGE
        self.sections = []  # (kind, first byte, size, place of the hash)
        for table in self._sections():
            vtable = table - struct.unpack_from("<i", data, table)[0]
            kind, offset, size, hashed = (self._field(table, vtable, i) for i in range(4))
            at = base + (struct.unpack_from("<Q", data, offset)[0] if offset else 0)
            bytes_ = struct.unpack_from("<Q", data, size)[0] if size else 0
            self.sections.append((data[kind], at, bytes_, hashed))

    def _field(self, table, vtable, index):
        """Where a flatbuffer's field lies; 0: it has its default."""
        if 4 + 2 * index >= struct.unpack_from("<H", self.data, vtable)[0]:
            return 0
        offset = struct.unpack_from("<H", self.data, vtable + 4 + 2 * index)[0]
        return table + offset if offset else 0

    def _sections(self):
        root = HEADER + struct.unpack_from("<I", self.data, HEADER)[0]
        field = self._field(root, root - struct.unpack_from("<i", self.data, root)[0], 2)
        vector = field + struct.unpack_from("<I", self.data, field)[0]
        for i in range(struct.unpack_from("<I", self.data, vector)[0]):
            at = vector + 4 + 4 * i
            yield at + struct.unpack_from("<I", self.data, at)[0]

    def put_right(self, data):
        """Every hash and size as the writer would have set them."""
        if len(data) < HEADER + self.metadata:
            return
        for _, at, size, hashed in self.sections:
            if at + size <= len(data) and any(self.data[hashed : hashed + 16]):  # weights have hashes of their own
                data[hashed : hashed + 16] = hash128(data[at : at + size])
        data[16:24] = struct.pack("<Q", len(data))
        data[32:48] = hash128(data[HEADER : HEADER + self.metadata])
        data[56:64] = struct.pack("<Q", _xxhash().XXH3_64bits(bytes(data[:56]), 56))


@functools.lru_cache(maxsize=1)
def sound_engines():
    import lathe

    built = [models.relu_add, models.two_in_two_out, models.convolutions, models.scalar, made_models.made_if, made_models.made_loop, made_models.made_scan,
             functools.partial(made_models.made_layers, 17)]  # fmt: skip
    engines = []
    for make in built:
        name = getattr(make, "__name__", None) or f"{make.func.__name__}({make.args[0]})"
        try:
            engines.append(Sound(name, lathe.build(make(), budget=0, verify=False, cache=False).to_bytes()))
        except lathe.Error as error:
            if error.code != "unsupported":
                raise
    return engines + [Sound(path.stem, path.read_bytes()) for path in sorted(GOLDEN.glob("*.engine"))]


def changed_engine(rng):
    engine = rng.choice(sound_engines())
    if rng.random() < 0.3:
        data, done = changed_bytes(engine.data, rng, BYTES, rng.choice(sound_engines()).data)
        return bytes(data), f"engine {engine.name}: {', '.join(done)}"
    # Metadata and what a section says, weights seldom: a changed weight is only another number.
    places = [(HEADER, engine.metadata)] + [(at, size) for kind, at, size, _ in engine.sections if size and (kind != WEIGHTS or rng.random() < 0.1)]
    at, size = rng.choice(places)
    piece, done = changed_bytes(engine.data[at : at + size], rng, SAME_SIZE)
    data = bytearray(engine.data)
    data[at : at + size] = piece[:size]
    engine.put_right(data)
    return bytes(data), f"engine {engine.name}, hashes put right: {', '.join(done)}"


# All -------------------------------------------------------------------------------------------------------------------


def changed(seed, index):
    """(kind, bytes, description): the same for the same seed and index, and for an engine the same build of Lathe."""
    rng = random.Random(f"{seed}:{index}")
    draw = rng.random()
    if draw < 0.4:
        return ("onnx", *changed_model(rng))
    if draw < 0.55:
        model, origin = sound_model(rng)
        other, _ = sound_model(rng)
        data, done = changed_bytes(model.SerializeToString(), rng, BYTES, other.SerializeToString())
        return "onnx", bytes(data), f"{origin}: bytes, {', '.join(done)}"
    return ("engine", *changed_engine(rng))
