# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""One engine at many shapes: models with free extents at five shapes from four threads at once, and decoders whose caches grow, against ONNX
Runtime. `make test` takes models that cost little; the real decoders, 512 steps long, are `make zoo` and LATHE_TEST_FULL=1 (zoo_decoders.py)."""

import threading

import numpy as np
import onnx
import pytest

import zoo
import zoo_accuracy
import zoo_decoders
import zoo_inputs

pytest.importorskip("onnxruntime")
try:
    import lathe
except ImportError as error:
    zoo.absent(f"the Python package lathe cannot be imported: {error}")

THREADS = 4
# Free in batch, in length, in height and width, in two lengths, in rows; the last are dynamic programs.
MODELS = ("hf_bert", "hf_t5", "rnn_lstm", "unet", "wavenet", "skl_pca_mlp", "skl_onehot")
# Five values for each free extent.
SIZES = {
    "batch": (1, 3, 2, 1, 4),
    "seq": (4, 9, 17, 1, 6),
    "time": (5, 12, 1, 30, 8),
    "h": (32, 64, 48, 96, 32),
    "w": (48, 32, 64, 32, 80),
    "t": (40, 33, 64, 21, 50),
    None: (2, 7, 1, 40, 16),
}


@pytest.mark.parametrize("name", MODELS)
def test_five_shapes_from_four_threads(name):
    path = zoo.filled(name)
    model = onnx.load(path, load_external_data=False)
    reference = zoo_accuracy.session(path)
    outputs = [o.name for o in reference.get_outputs()]
    cases = []
    for k in range(5):
        shapes = {i.name: [d if isinstance(d, int) else SIZES[d][k] for d in i.shape] for i in reference.get_inputs()}
        feeds = zoo_inputs.draw(model, reference.get_inputs(), shapes, seed=k)
        cases.append((feeds, dict(zip(outputs, reference.run(None, feeds), strict=True))))
    engine = lathe.build(str(path), budget=0, verify=False, cache=False)
    start, found, errors = threading.Barrier(THREADS), [], []

    def work(which):
        try:
            # Two of the threads have contexts of their own, the others share what the engine keeps.
            run = engine.create_context().run if which % 2 else engine.run
            start.wait()
            for turn in range(10):
                feeds, expected = cases[(which + turn) % len(cases)]
                got = run(feeds)
                errors.extend(zoo_accuracy.error_of(got[o], expected[o]) for o in outputs)
        except BaseException as error:  # told below: a thread's own end is not seen
            found.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not found, found
    assert len(errors) == THREADS * 10 * len(outputs)
    assert max(errors) <= zoo_accuracy.TOLERANCE[False], max(errors)


def test_a_decoder_with_a_growing_cache():
    model = zoo_decoders.small()
    engine = lathe.build(model, budget=0, verify=False, cache=False)
    result = zoo_decoders.walk(engine, zoo_accuracy.session(model.SerializeToString()), rows=50, steps=64, batch=2)
    assert result["length"] == 69
    assert not zoo_decoders.defects(result), result
    assert result["specialisations"] > 1


def test_a_wrong_cache_is_seen():
    """Of the walk: what one step forgets is not equal at its end."""
    model = zoo_decoders.small()
    engine, reference = lathe.build(model, budget=0, verify=False, cache=False), zoo_accuracy.session(model.SerializeToString())
    infos = reference.get_inputs()
    walkers = [zoo_decoders.Walker(engine.create_context().run, infos, 1) for _ in range(2)]
    for k in range(8):
        for which, walker in enumerate(walkers):
            walker.step(np.array([[k + (which and k == 2)]]))
    assert zoo_accuracy.error_of(walkers[0].outputs["logits"], walkers[1].outputs["logits"]) > 10 * zoo_accuracy.TOLERANCE[False]


if zoo.FULL:

    @pytest.mark.parametrize("name", zoo_decoders.REAL)
    def test_real_decoders(name):
        result = zoo_decoders.of_zoo(name, steps=512)
        assert not zoo_decoders.defects(result), result
