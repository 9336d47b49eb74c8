# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Engines of real exports against ONNX Runtime in float32: 2e-5 of an output's scale with `exact`, 2e-4 without, at two seeds and, where the
model has free extents, at three shapes from one engine. Each comparison proves that it could fail: another input moves every output by at
least a hundred times the tolerance, or the region outputs are held against the oracle instead."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "tools"))
from ops_tool import absent, unpack_zoo, zoo_dir
from test_shape_inference import in_zoo

ort = pytest.importorskip("onnxruntime")
try:
    import lathe
except ImportError as error:
    lathe = None
    MISSING = str(error)

TOLERANCE = {True: 2e-5, False: 2e-4}
# Values of free extents, by the exporters' names: what the network's strides divide.
FREE = {
    "batch": (1, 2, 3),
    "height": (128, 96, 160),
    "width": (128, 160, 96),
    "h": (64, 96, 80),
    "w": (64, 48, 112),
    "time": (16, 7, 23),
}
# Outputs that need not meet the tolerance, with the cause. At most three.
EXCEPTIONS = {}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    if lathe is None:
        absent(f"the Python package lathe cannot be imported: {MISSING}")
    files = unpack_zoo(tmp_path_factory.mktemp("zoo"), in_zoo)
    assert len(files) >= 48, sorted(files)
    return files


def names():
    families = """alexnet convnext_tiny dcgan densenet121 efficientnet_b0 espcn googlenet hf_vit inception_v3 mnasnet1_0 mobilenet_v2
        mobilenet_v3_large resnet18 resnet50 rnn_gru rnn_lstm shufflenet_v2_x1_0 squeezenet1_1 unet vgg11 yolov5l-352x416 yolov5n
        yolov5s-dynamic yolov5s""".split()
    return [f"{name}{exporter}.onnx" for name in families for exporter in ("", ".dynamo")]


def shape_sets(session):
    """Concrete shapes of all inputs: one set, or three when the model has free extents."""
    free = {d for i in session.get_inputs() for d in i.shape if not isinstance(d, int)}
    unknown = {d for d in free if d not in FREE}
    assert not unknown, f"extents without a choice of values: {unknown}"
    return [{i.name: [d if isinstance(d, int) else FREE[d][k] for d in i.shape] for i in session.get_inputs()} for k in range(3 if free else 1)]


def feeds(session, shapes, seed):
    random = np.random.default_rng(seed)
    made = {}
    for i in session.get_inputs():
        assert i.type == "tensor(float)", i.type
        made[i.name] = random.normal(0.2, 0.6, shapes[i.name]).astype(np.float32)
    return made


def fill(source, target):
    subprocess.run([sys.executable, zoo_dir() / "zoo_fill.py", source, target], check=True)


@pytest.mark.parametrize("name", names())
def test_engine_agrees_with_onnxruntime(zoo, name, tmp_path):
    model = tmp_path / name
    fill(zoo[name], model)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    outputs = [o.name for o in session.get_outputs()]
    sets = shape_sets(session)
    cases = []  # (inputs, expected outputs), two seeds a shape
    for shapes in sets:
        for seed in (1, 2):
            inputs = feeds(session, shapes, seed)
            cases.append((inputs, dict(zip(outputs, session.run(None, inputs), strict=True))))
    for exact in (True, False):
        engine = lathe.build(str(model), exact=exact, budget=0, verify=False)
        insensitive = set()
        for k, (inputs, expected) in enumerate(cases):
            got = engine.run(inputs)
            other = cases[k ^ 1][1]
            for output in outputs:
                want = expected[output]
                assert got[output].dtype == want.dtype and got[output].shape == want.shape, output
                if not np.issubdtype(want.dtype, np.floating):
                    assert np.array_equal(got[output], want), f"{output}: indices differ"
                    continue
                scale = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
                error = float(np.abs(got[output] - want).max(initial=0.0)) / max(scale, 1e-30)
                limit = EXCEPTIONS.get((name, output), TOLERANCE[exact])
                assert error <= limit, f"{output}: error {error:.2e} of its scale at shape {want.shape}, exact={exact}"
                if float(np.abs(other[output] - want).max(initial=0.0)) < 100 * TOLERANCE[exact] * scale:
                    insensitive.add(output)
        if insensitive:
            # The outputs hardly depend on the input: look inside. build() verifies each region's output against the oracle.
            lathe.build(str(model), exact=exact, budget=0, verify=True)
        del engine


def test_exceptions_are_few():
    assert len(EXCEPTIONS) <= 3
