# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Everything that a person can be told to be wrong: command lines and lines of Python, by class, each with the error code that it must end with.

`python tests/error_cases.py` runs them and writes the texts to errors_expected.txt, which test_errors.py holds them against. Read the difference as
the person who meets it: what is wrong, where (file, node, tensor), and what to do.
"""

import contextlib
import ctypes
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import made_models
import models
import zoo

HERE = Path(__file__).resolve().parent
EXPECTED = HERE / "errors_expected.txt"
GOLDEN = HERE / "golden" / "1.0" / "image.engine"
F, I64 = TensorProto.FLOAT, TensorProto.INT64

# (class, code, line). A line that begins with ">>> " is Python, others are for a shell. The code is the enumerator of lathe::Code without its k;
# "Ok" marks what must run; "Usage" is the command's own (exit code 2).
CASES = [
    # Files that are no models
    ("not a model", "Io", "lathe build missing.onnx -o out.engine"),
    ("not a model", "Io", "lathe build . -o out.engine"),
    ("not a model", "CorruptFile", "lathe build empty.onnx -o out.engine"),
    ("not a model", "CorruptFile", "lathe build text.onnx -o out.engine"),
    ("not a model", "CorruptFile", "lathe simplify zeros.onnx out.onnx"),
    ("not a model", "CorruptFile", "lathe show noise.onnx"),
    ("not a model", "CorruptFile", "lathe build picture.png -o out.engine"),
    ("not a model", "CorruptFile", "lathe build network.pt -o out.engine"),
    ("not a model", "InvalidArgument", "lathe build image.engine -o out.engine"),
    ("not a model", "Io", "lathe export missing.py:make -o out.onnx --input 1x4"),
    ("not a model", "CorruptFile", ">>> lathe.build(b'garbage' * 30)"),
    ("not a model", "Io", ">>> lathe.build('missing.onnx')"),
    ("not a model", "TypeError", ">>> lathe.build(42)"),
    # Truncated models
    ("truncated model", "CorruptFile", "lathe build cut_1.onnx -o out.engine"),
    ("truncated model", "CorruptFile", "lathe build cut_half.onnx -o out.engine"),
    ("truncated model", "CorruptFile", "lathe simplify cut_last.onnx out.onnx"),
    ("truncated model", "CorruptFile", ">>> lathe.build(open('cut_half.onnx', 'rb').read())"),
    # Newer versions
    ("newer model", "Unsupported", "lathe build ir_99.onnx -o out.engine"),
    ("newer model", "Unsupported", "lathe build opset_99.onnx -o out.engine"),
    ("newer model", "InvalidModel", "lathe build too_new.onnx -o out.engine"),
    ("newer model", "Unsupported", ">>> lathe.simplify('ir_99.onnx')"),
    # Flipped bits
    ("flipped bits in a model", "CorruptFile", "lathe build flip_length.onnx -o out.engine"),
    ("flipped bits in a model", "Unsupported", "lathe build flip_op.onnx -o out.engine"),
    ("flipped bits in a model", "InvalidModel", "lathe build flip_dims.onnx -o out.engine"),
    ("flipped bits in a model", "InvalidModel", "lathe build flip_name.onnx -o out.engine"),
    ("flipped bits in a model", "InvalidModel", "lathe build flip_type.onnx -o out.engine"),
    # External data
    ("external data", "Io", "lathe build no_data.onnx -o out.engine"),
    ("external data", "CorruptFile", "lathe build short_data.onnx -o out.engine"),
    ("external data", "InvalidModel", "lathe build outside_data.onnx -o out.engine"),
    ("external data", "InvalidModel", "lathe build length_data.onnx -o out.engine"),
    ("external data", "Io", "lathe run no_data.onnx -i x.npy"),
    ("external data", "Io", ">>> lathe.build(onnx.load('no_data.onnx', load_external_data=False))"),
    # Models that break rules
    ("broken rules", "InvalidModel", "lathe build cycle.onnx -o out.engine"),
    ("broken rules", "InvalidModel", "lathe build undefined.onnx -o out.engine"),
    ("broken rules", "InvalidModel", "lathe build shapes.onnx -o out.engine"),
    ("broken rules", "InvalidModel", "lathe build attribute.onnx -o out.engine"),
    ("broken rules", "InvalidModel", "lathe build types.onnx -o out.engine"),
    ("broken rules", "InvalidModel", "lathe build declared.onnx -o out.engine"),
    ("broken rules", "InvalidModel", "lathe build control.onnx -o out.engine"),
    # Valid, but not here
    ("not supported", "Unsupported", "lathe build foreign.onnx -o out.engine"),
    ("not supported", "Unsupported", "lathe build misspelt.onnx -o out.engine"),
    ("not supported", "Unsupported", "lathe build foreign_inside.onnx -o out.engine"),
    ("not supported", "Unsupported", "lathe run misspelt.onnx -i x.npy"),
    ("not supported", "Unsupported", ">>> lathe.build('foreign.onnx')"),
    # Engine files
    ("not an engine", "CorruptFile", "lathe run noise.engine -i x.npy"),
    ("not an engine", "CorruptFile", ">>> lathe.load(b'')"),
    ("not an engine", "CorruptFile", ">>> lathe.load('model.onnx')"),
    ("not an engine", "Io", ">>> lathe.load('missing.engine')"),
    ("not an engine", "CorruptFile", "lathe bench magic.engine"),
    ("truncated engine", "CorruptFile", "lathe run cut_header.engine -i x.npy"),
    ("truncated engine", "CorruptFile", "lathe run cut_half.engine -i x.npy"),
    ("truncated engine", "CorruptFile", "lathe show cut_last.engine"),
    ("truncated engine", "CorruptFile", "lathe show longer.engine"),
    ("truncated engine", "CorruptFile", ">>> lathe.load('cut_half.engine')"),
    ("newer engine", "Unsupported", "lathe run newer_major.engine -i x.npy"),
    ("newer engine", "Unsupported", "lathe run newer_minor.engine -i x.npy"),
    ("newer engine", "Unsupported", ">>> lathe.load('newer_major.engine')"),
    ("flipped bits in an engine", "CorruptFile", "lathe run flip_header.engine -i x.npy"),
    ("flipped bits in an engine", "CorruptFile", "lathe run flip_metadata.engine -i x.npy"),
    ("flipped bits in an engine", "CorruptFile", "lathe show flip_program.engine"),
    ("flipped bits in an engine", "CorruptFile", "lathe verify flip_weights.engine --onnx model.onnx --no-onnxruntime"),
    ("flipped bits in an engine", "CorruptFile", ">>> lathe.load('flip_metadata.engine')"),
    # Inputs of a run
    ("wrong inputs", "InvalidArgument", "lathe run model.onnx -i z=x.npy"),
    ("wrong inputs", "InvalidArgument", "lathe run model.onnx"),
    ("wrong inputs", "InvalidArgument", "lathe run model.onnx -i x.npy -i x=x.npy"),
    ("wrong inputs", "Io", "lathe run model.onnx -i missing.npy"),
    ("wrong inputs", "Data", "lathe run model.onnx -i doubles.npy"),
    ("wrong inputs", "Data", "lathe run model.onnx -i flat.npy"),
    ("wrong inputs", "Data", "lathe run model.onnx -i wide.npy"),
    ("wrong inputs", "Data", "lathe run two.onnx -i left=left.npy -i right=long.npy"),
    ("wrong inputs", "CorruptFile", "lathe run model.onnx -i text.onnx"),
    ("wrong inputs", "CorruptFile", "lathe run model.onnx -i cut.npy"),
    ("wrong inputs", "Unsupported", "lathe run model.onnx -i objects.npy"),
    ("wrong inputs", "InvalidArgument", ">>> engine.run({'z': X})"),
    ("wrong inputs", "InvalidArgument", ">>> engine.run({})"),
    ("wrong inputs", "InvalidArgument", ">>> engine.run([X, X])"),
    ("wrong inputs", "InvalidArgument", ">>> engine.run({'x': X.astype(np.float64)})"),
    ("wrong inputs", "InvalidArgument", ">>> engine.run({'x': X[0]})"),
    ("wrong inputs", "InvalidArgument", ">>> engine.run({'x': np.zeros((2, 5), np.float32)})"),
    ("wrong inputs", "InvalidArgument", ">>> engine.run({'x': 'text'})"),
    ("wrong inputs", "InvalidArgument", ">>> engine.run({'x': np.array([{}])})"),
    ("wrong inputs", "InvalidArgument", ">>> two.run({'left': np.zeros((2, 3), np.float32), 'right': np.zeros((4, 3), np.float32)})"),
    # Arrays of other layouts
    ("layouts", "Ok", ">>> engine.run({'x': np.ones((4, 2), np.float32).T})['y'].shape"),
    ("layouts", "Ok", ">>> engine.run({'x': np.ones((2, 8), np.float32)[:, ::2]})['y'].shape"),
    ("layouts", "Ok", ">>> engine.run({'x': np.zeros((0, 4), np.float32)})['y'].shape"),
    ("layouts", "Ok", ">>> engine.run({'x': X[::-1, ::-1]})['y'].shape"),
    ("layouts", "Ok", ">>> engine.run({'x': np.ones((2, 4), '>f4')})['y'].shape"),
    ("layouts", "InvalidArgument", ">>> engine.run({'x': X}, outputs={'y': np.zeros((4, 2), np.float32).T})"),
    ("layouts", "InvalidArgument", ">>> engine.run({'x': X}, outputs={'y': np.zeros((2, 3), np.float32)})"),
    ("layouts", "InvalidArgument", ">>> engine.run({'x': X}, outputs={'q': np.zeros((2, 4), np.float32)})"),
    ("layouts", "InvalidArgument", ">>> engine.run({'x': X}, outputs={'y': np.frombuffer(bytes(32), np.float32).reshape(2, 4)})"),
    ("layouts", "Ok", "lathe run model.onnx -i none.npy"),
    # Sizes
    ("huge sizes", "InvalidModel", "lathe build overflow_weight.onnx -o out.engine"),
    ("huge sizes", "InvalidModel", "lathe build overflow_input.onnx -o out.engine"),
    ("huge sizes", "InvalidModel", "lathe build overflow_reshape.onnx -o out.engine"),
    ("huge sizes", "InvalidArgument", "lathe build model.onnx -o out.engine --shape x:4611686018427387904x4"),
    ("huge sizes", "InvalidArgument", "lathe build model.onnx -o out.engine --shape x:99999999999999999999x4"),
    ("huge sizes", "OutOfMemory", "ulimit -v 4000000; lathe build model.onnx -o out.engine --budget 0 --shape x:4000000000x4"),
    ("huge sizes", "OutOfMemory", "ulimit -v 4000000; lathe build grows.onnx -o out.engine --budget 0 --no-verify"),
    ("huge sizes", "InvalidArgument", ">>> lathe.build('model.onnx', shapes={'x': (1 << 62, 4)})"),
    ("huge sizes", "InvalidArgument", ">>> lathe.build('model.onnx', shapes={'x': (1 << 70, 4)})"),
    # Options
    ("wrong options", "InvalidArgument", "lathe build model.onnx -o out.engine --shape z:1x4"),
    ("wrong options", "InvalidArgument", "lathe build model.onnx -o out.engine --shape x:1x2x4"),
    ("wrong options", "InvalidArgument", "lathe build model.onnx -o out.engine --shape x:1x5"),
    ("wrong options", "InvalidArgument", "lathe build model.onnx -o out.engine --shape x:4x4:2x4:8x4"),
    ("wrong options", "InvalidArgument", "lathe build model.onnx -o out.engine --precision fp12"),
    ("wrong options", "InvalidArgument", "lathe build model.onnx -o out.engine --budget soon"),
    ("wrong options", "InvalidArgument", "lathe build model.onnx -o out.engine --libraries mkl"),
    ("wrong options", "InvalidArgument", "lathe run image.engine -i x.npy --precision bf16"),
    ("wrong options", "InvalidArgument", "lathe run image.engine -i x.npy --shape x:2x4"),
    ("wrong options", "InvalidArgument", "lathe verify image.engine"),
    ("wrong options", "Usage", "lathe biuld model.onnx"),
    ("wrong options", "Usage", "lathe build model.onnx"),
    ("wrong options", "Usage", "lathe build model.onnx -o out.engine --fast"),
    ("wrong options", "Usage", "lathe bench image.engine --runs -3"),
    ("wrong options", "InvalidArgument", ">>> lathe.build('model.onnx', precision='fp12')"),
    ("wrong options", "InvalidArgument", ">>> lathe.build('model.onnx', shapes={'z': (1, 4)})"),
    ("wrong options", "InvalidArgument", ">>> lathe.build('model.onnx', shapes={'x': 5})"),
    ("wrong options", "InvalidArgument", ">>> lathe.build('model.onnx', budget='soon')"),
    # Places that cannot be written
    ("outputs", "Io", "lathe build model.onnx -o no/such/folder/out.engine"),
    ("outputs", "Io", "lathe build model.onnx -o ."),
    ("outputs", "Io", "lathe build model.onnx -o model.onnx/out.engine"),
    ("outputs", "InvalidArgument", "lathe build model.onnx -o ./model.onnx"),
    ("outputs", "Io", "lathe build model.onnx -o /proc/out.engine"),
    ("outputs", "Io", "lathe build model.onnx -o locked/out.engine"),
    ("outputs", "Io", "lathe run model.onnx -i x.npy -o /proc/y.npz"),
    ("outputs", "InvalidArgument", "lathe run two.onnx -i left=left.npy -i right=left.npy -o y.npy"),
    ("outputs", "Io", ">>> engine.save('no/such/folder/out.engine')"),
    ("full disk", "Io", "lathe build model.onnx -o /dev/full --budget 0"),
    ("full disk", "Io", "lathe simplify model.onnx /dev/full"),
    ("full disk", "Io", "lathe run model.onnx -i x.npy -o /dev/full"),
    ("full disk", "Io", "lathe ops > /dev/full"),
    ("full disk", "Io", "ulimit -f 2; lathe build model.onnx -o out.engine --budget 0 --no-cache"),
    ("full disk", "Io", "ulimit -f 1; lathe simplify layers.onnx out.onnx"),
    ("full disk", "Io", ">>> with_file_limit(2048, lambda: engine.save('out.engine'))"),
    ("full disk", "Io", ">>> with_file_limit(1024, lambda: lathe.simplify('layers.onnx', 'out.onnx'))"),
    # Stopped
    ("stopped", "Cancelled", "timeout --foreground --preserve-status -s INT 3 lathe build long.onnx -o out.engine --budget 100s"),
    ("stopped", "Cancelled", "LATHE_CACHE_DIR=cache/2 timeout --foreground --preserve-status -s TERM 3 lathe build long.onnx -o out.engine --budget 100s"),
    ("stopped", "Silent", "timeout --foreground --preserve-status -s INT 2 lathe bench image.engine --time 60s"),
    ("stopped", "Cancelled", ">>> lathe.build('model.onnx', progress=lambda *_: False)"),
    ("stopped", "KeyboardInterrupt", ">>> lathe.build('long.onnx', budget=100, cache=False, progress=interrupt_once())"),
    # Machines that lack something
    ("wrong device", "Machine", "lathe build model.onnx -o out.engine --device cuda"),
    ("wrong device", "Machine", "lathe run image.engine -i x.npy --device cuda"),
    ("wrong device", "InvalidArgument", "lathe build model.onnx -o out.engine --device abacus"),
    ("wrong device", "InvalidArgument", "lathe build model.onnx -o out.engine --device cuda:-1"),
    ("wrong device", "InvalidArgument", "lathe build model.onnx -o out.engine --precision fp16"),
    ("wrong device", "Machine", ">>> lathe.build('model.onnx', device='cuda')"),
    ("wrong device", "Machine", ">>> lathe.load('image.engine', device='cuda')"),
    ("missing library", "Machine", "LATHE_CUDA_DRIVER=/no/libcuda.so lathe build model.onnx -o out.engine --device cuda"),
    ("missing library", "Machine", "LATHE_PYTHON=/no/python lathe export m.py:make -o out.onnx --input 1x4"),
    ("missing library", "Machine", "LATHE_PYTHON=bare/python lathe bench model.onnx --against onnxruntime --budget 0"),
    # Another model's numbers
    ("verification", "Verification", "lathe verify image.engine --onnx two.onnx --no-onnxruntime"),
    ("verification", "Verification", "lathe verify image.engine --onnx model.onnx --no-onnxruntime"),
    # Other tools' command lines
    ("other tools' commands", "InvalidArgument", "onnx2trt model.onnx --fast -o out.trt"),
    ("other tools' commands", "CorruptFile", "onnx2trt cut_half.onnx -o out.trt"),
    ("other tools' commands", "InvalidArgument", "trtexec --onnx=model.onnx --fp12"),
    ("other tools' commands", "Io", "trtexec --loadEngine=missing.engine"),
    ("other tools' commands", "Io", "onnxsim missing.onnx out.onnx"),
]

# Codes that no command line and no line of Python meets: where they are tested.
ELSEWHERE = [
    ("Internal", "src/engine/engine_file_test.cpp", "Code::kInternal", "an engine that its own writer finds unsound"),
    ("Internal", "src/passes/simplify_test.cpp", "Code::kInternal", "a pass that leaves an unsound graph"),
    ("Verification", "src/builder/mutation_test.cpp", "EXPECT", "kernels, weights and plans that were damaged on purpose"),
    ("Io", "src/base/atomic_file_test.cpp", "FailingWrites", "each call to the system fails in turn"),
    ("Io", "src/builder/failing_disk_test.cpp", "FailingWrites", "a disk that is full at any moment of a build"),
    ("OutOfMemory", "tests/out_of_memory_test.cpp", "kOutOfMemory", "each allocation of loading and running fails in turn"),
    ("Machine", "tests/fake_cuda/failures_test.cpp", "kMachine", "drivers and GPUs that fail"),
]

EXIT = {"Ok": 0, "InvalidArgument": 2, "Usage": 2, "Machine": 3, "OutOfMemory": 3, "Cancelled": 130, "Silent": 130}  # others: 1


# Files -----------------------------------------------------------------------------------------------------------------


def grows():
    """y = Tile(x, (100000, 100000)): a small file, a small input, and 40 GB."""
    return models.make(
        [helper.make_node("Tile", ["x", "n"], ["y"], name="tile")], {"x": (F, ["batch", 4])}, {"y": (F, ["a", "b"])}, {"n": np.array([100000, 100000])}
    )


def unchecked(nodes, inputs, outputs, weights=(), opset=17, ir=8):
    def info(name, dtype, shape):
        return helper.make_tensor_value_info(name, dtype, shape)

    graph = helper.make_graph(nodes, "g", [info(*i) for i in inputs], [info(*o) for o in outputs], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def external(location, **more):
    model = models.relu_add()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def replaced(data, old, new):
    assert data.count(old) >= 1 and len(old) == len(new)
    return data.replace(old, new, 1)


def model_files():
    """{name: model or bytes}."""
    relu_add = models.relu_add()
    whole = relu_add.SerializeToString()
    node = helper.make_node
    x, y = ("x", F, ["batch", 4]), ("y", F, ["batch", 4])
    files = {
        "model": relu_add,
        "two": models.two_in_two_out(),
        "layers": models.convolutions(),
        "long": models.convolutions(48, channels=64, size=80),
        "grows": grows(),
        "empty": b"",
        "text": b"This is no model at all, it is a sentence.\n" * 20,
        "zeros": bytes(4096),
        "noise": np.random.default_rng(0).bytes(5000),
        "cut_1": whole[:1],
        "cut_half": whole[: len(whole) // 2],
        "cut_last": whole[:-1],
        "flip_length": replaced(whole, b"\x12\x01r", b"\x12\x7fr"),
        "flip_op": replaced(whole, b"Relu", b"Selu".replace(b"S", b"Q")),
        "flip_name": replaced(whole, b"\x0a\x01r", b"\x0a\x01q"),
        "no_data": external("weights.bin"),
        "short_data": external("short.bin"),
        "outside_data": external("../weights.bin"),
        "length_data": external("enough.bin", length="7"),
        "cycle": unchecked([node("Add", ["x", "b"], ["a"], name="first"), node("Relu", ["a"], ["b"], name="second")], [x], [("b", F, None)]),
        "undefined": unchecked([node("Add", ["x", "nowhere"], ["y"], name="add")], [x], [y]),
        "shapes": unchecked([node("Add", ["x", "c"], ["y"], name="add")], [x], [("y", F, None)], [numpy_helper.from_array(np.ones(3, np.float32), "c")]),
        "attribute": unchecked([node("Softmax", ["x"], ["y"], name="soft", axes=1)], [x], [y]),
        "types": unchecked([node("Add", ["x", "c"], ["y"], name="add")], [x], [y], [numpy_helper.from_array(np.ones(4, np.int32), "c")]),
        "declared": unchecked([node("Relu", ["x"], ["y"], name="relu")], [("x", F, [2, 4])], [("y", F, [2, 5])]),
        "control": unchecked([node("Add", ["x", "no\x1b[2Jwhere\n"], ["y"], name="a\nb")], [x], [y]),
        "misspelt": unchecked([node("Relo", ["x"], ["y"], name="relu")], [x], [y]),
        "too_new": unchecked([node("Gelu", ["x"], ["y"], name="gelu")], [x], [y], opset=19),
        "overflow_input": unchecked([node("Relu", ["x"], ["y"], name="relu")], [("x", F, [1 << 40, 1 << 40])], [("y", F, [1 << 40, 1 << 40])]),
        "overflow_reshape": unchecked(
            [node("Reshape", ["x", "s"], ["y"], name="reshape")], [x], [("y", F, None)], [numpy_helper.from_array(np.array([1 << 40, 1 << 40, -1]), "s")]
        ),
    }
    # Of a domain that nobody here knows; the second time inside a branch.
    files["foreign"] = models.relu_add()
    files["foreign_inside"] = made_models.made_if()
    for model, nodes in ((files["foreign"], files["foreign"].graph.node), (files["foreign_inside"], files["foreign_inside"].graph.node)):
        model.opset_import.append(helper.make_opsetid("com.example", 1))
        inner = [a.g for n in nodes for a in n.attribute if a.HasField("g")]
        changed = (inner[0].node if inner else nodes)[0]
        changed.op_type, changed.domain = "Thing", "com.example"
    for name, change in {
        "ir_99": lambda m: setattr(m, "ir_version", 99),
        "opset_99": lambda m: setattr(m.opset_import[0], "version", 99),
        "flip_dims": lambda m: m.graph.initializer[0].dims.__setitem__(0, 4 + 64),
        "flip_type": lambda m: setattr(m.graph.initializer[0], "data_type", 1 + 64),
        "overflow_weight": lambda m: m.graph.initializer[0].dims.extend([1 << 40, 1 << 40]),
    }.items():
        files[name] = models.relu_add()
        change(files[name])
    return files


def engine_files():
    """Of a golden engine, whose bytes are the same everywhere."""
    whole = GOLDEN.read_bytes()
    import mutation_inputs

    sound = mutation_inputs.Sound("golden", whole)

    def flipped(at):
        return whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]

    def section(kind):
        return next(at for k, at, size, _ in sound.sections if k == kind and size)

    def version(at, value):
        return whole[:at] + bytes([value]) + whole[at + 1 :]

    return {
        "image": whole,
        "noise": np.random.default_rng(1).bytes(5000),
        "magic": b"\x89LATHE\n\n" + whole[8:],
        "cut_header": whole[:20],
        "cut_half": whole[: len(whole) // 2],
        "cut_last": whole[:-1],
        "longer": whole + bytes(10),
        "newer_major": version(8, 2),
        "newer_minor": version(14, 7),
        "flip_header": flipped(17),
        "flip_metadata": flipped(64 + sound.metadata // 2),
        "flip_program": flipped(section(4) + 100),
        "flip_weights": flipped(section(1) + 100),
    }


def prepare(folder):
    """Every file that the lines name."""
    for name, model in model_files().items():
        (folder / f"{name}.onnx").write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    for name, data in engine_files().items():
        (folder / f"{name}.engine").write_bytes(data)
    (folder / "short.bin").write_bytes(bytes(8))
    (folder / "enough.bin").write_bytes(bytes(64))
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(60))
    (folder / "network.pt").write_bytes(b"PK\x03\x04" + bytes(26) + b"network/data.pkl" + bytes(200))
    x = np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32)
    arrays = {"x": x, "doubles": x.astype(np.float64), "flat": x[0], "wide": np.zeros((2, 5), np.float32), "none": x[:0]}
    arrays |= {"left": np.ones((2, 3), np.float32), "long": np.ones((4, 3), np.float32)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    (folder / "cut.npy").write_bytes((folder / "x.npy").read_bytes()[:-9])
    (folder / "locked").mkdir(mode=0o500)
    (folder / "bare").mkdir()
    (folder / "bare" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    (folder / "bare" / "python").chmod(0o755)
    (folder / "bin").mkdir()
    for name in ("lathe", "onnx2trt", "trtexec", "onnxsim"):
        (folder / "bin" / name).symlink_to(zoo.program("lathe"))
    (folder / "cache").mkdir()


# Running ---------------------------------------------------------------------------------------------------------------


class Runner:
    """Runs lines in a folder that holds prepare()'s files; what a line leaves there is told and taken away."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "LATHE_CACHE_DIR": str(folder / "cache"),
                            "LATHE_PYTHON": sys.executable, "LATHE_CUDA_DRIVER": "none", "LC_ALL": "C"}  # fmt: skip
        self.environment.pop("VIRTUAL_ENV", None)
        prepare(folder)
        self.known = self.files()
        self.names = None

    def files(self):
        return {p.name for p in self.folder.iterdir()}

    def new_files(self):
        found = sorted(self.files() - self.known)
        for name in found:
            (self.folder / name).unlink()
        return found

    def shell(self, line):
        """(exit code, stdout, stderr)."""
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False, preexec_fn=as_anybody
        )
        return done.returncode, done.stdout, self.plain(done.stderr)

    def python(self, line):
        """(class of the exception or "", its code, text or value)."""
        import lathe

        if self.names is None:
            options = {"budget": 0, "cache": False}
            self.names = {"lathe": lathe, "np": np, "onnx": onnx, "X": np.load(self.folder / "x.npy"), "with_file_limit": with_file_limit,
                          "interrupt_once": interrupt_once, "engine": lathe.build(models.relu_add(), **options),
                          "two": lathe.build(models.two_in_two_out(), **options)}  # fmt: skip
        with contextlib.chdir(self.folder):
            try:
                return "", "Ok", repr(eval(line, dict(self.names)))  # noqa: S307
            except BaseException as error:  # noqa: BLE001
                name = type(error).__name__
                code = "".join(word.capitalize() for word in error.code.split("_")) if isinstance(error, lathe.Error) else name
                return ("lathe." if code != name else "") + name, code, self.plain(str(error))

    def plain(self, text):
        text = text.replace(str(self.folder), "{dir}").replace(sys.executable, "{python}")
        return re.sub(r"/proc/self/fd/\d+", "/proc/self/fd/N", text)


def as_anybody():
    """Root writes into read-only folders; without CAP_DAC_OVERRIDE not any more."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP; refused where it is not root


def with_file_limit(size, action):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        return action()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def interrupt_once():
    """A progress callback at whose third call the person presses Ctrl-C."""
    import signal

    calls = []

    def progress(*_):
        calls.append(1)
        if len(calls) == 3:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it otherwise
            signal.raise_signal(signal.SIGINT)

    return progress


def outcome(runner, case):
    """(text for the catalogue, complaints)."""
    _, code, line = case
    complaints = []
    if line.startswith(">>> "):
        kind, got, text = runner.python(line[4:])
        if got != code:
            complaints.append(f"ends with {got}, not {code}")
        shown = f"{kind}: {text}" if kind else text
        message = text if kind.startswith("lathe.") else ""
    else:
        exit_code, out, error = runner.shell(line)
        if exit_code != EXIT.get(code, 1):
            complaints.append(f"exit code {exit_code}, {EXIT.get(code, 1)} belongs to {code}")
        shim = not line.startswith(("lathe ", "ulimit ", "timeout ", "LATHE_"))  # their words are the tools'
        if code != "Ok" and out and not shim:
            complaints.append(f"on stdout: {out}")
        shown = f"exit {exit_code}\n{out if code == 'Ok' else error}".rstrip()
        message = error
        if code not in ("Ok", "Silent") and not re.fullmatch(r"(?:lathe|(?:\w+: [^\n]*\n)?(?:onnx2trt|trtexec|onnxsim)): [^\n]*[.`]\n", error):
            complaints.append(f"not one paragraph: {error!r}")
    if message and any(ord(c) < 32 and c != "\n" for c in message):
        complaints.append(f"not printable: {message!r}")
    if left := [name for name in runner.new_files() if code != "Ok"]:
        complaints.append(f"left behind: {left}")
    return shown, complaints


def catalogue(runner):
    """(the text of errors_expected.txt, complaints)."""
    text, complaints, before = "Every kind of error: `python tests/error_cases.py` writes this file from its cases.\n", [], None
    for case in CASES:
        shown, wrong = outcome(runner, case)
        if case[0] != before:
            text += f"\n## {case[0]}\n"
            before = case[0]
        text += f"\n{'' if case[2].startswith('>>> ') else '$ '}{case[2]}\n[{case[1]}] {shown}\n"
        complaints += [f"{case[2]}: {w}" for w in wrong]
    text += "\n## tested elsewhere\n\n" + "".join(f"[{code}] {file}: {what}\n" for code, file, _, what in ELSEWHERE)
    return text, complaints


if __name__ == "__main__":
    import tempfile

    sys.path.insert(0, str(zoo.build_dir() / "python"))
    os.environ["LATHE_CUDA_DRIVER"] = "none"
    with tempfile.TemporaryDirectory() as name:
        text, complaints = catalogue(Runner(Path(name).resolve()))
    EXPECTED.write_text(text)
    print(*complaints, EXPECTED, sep="\n")
    sys.exit(bool(complaints))
