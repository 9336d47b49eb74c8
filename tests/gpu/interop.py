# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Arrays of PyTorch and CuPy on a real GPU, in and out of engines: python tests/gpu/interop.py. Needs torch, onnx and the package lathe; CuPy where it
is installed. Plain asserts, since such machines may lack pytest; exit code 1 when a case fails. The rules themselves are held without a GPU:
tests/test_device_arrays.py."""

import gc
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lathe
import models

QUICK = {"budget": 0, "cache": False}
ENGINES = {}


def engine(name, **options):
    """Built once; verified where it is built."""
    key = (name, *options.items())
    if key not in ENGINES:
        ENGINES[key] = lathe.build(getattr(models, name)(), device="cuda", **QUICK, **options)
        assert ENGINES[key].device.startswith("cuda:"), ENGINES[key].section
    return ENGINES[key]


def refused(words, call):
    try:
        call()
    except lathe.Error as error:
        assert words in str(error) and error.code == "invalid_argument", error
        return
    raise AssertionError(f"nothing was raised; expected: {words}")


def random_rows(count):
    return torch.randn(count, 4, device="cuda")


def answer(x):
    return torch.relu(x) + torch.tensor([1.0, 2.0, 3.0, 4.0], device=x.device)


def torch_tensors_go_in_and_out():
    x = random_rows(1000)
    out = engine("relu_add").run({"x": x}, device_outputs=True)["y"]
    y = torch.from_dlpack(out)
    assert y.data_ptr() == out.__cuda_array_interface__["data"][0], "no copy"
    assert torch.equal(y, answer(x))
    target = torch.zeros_like(x)
    assert engine("relu_add").run([x], outputs={"y": target})["y"] is target
    assert torch.equal(target, answer(x))
    assert torch.equal(torch.from_dlpack(engine("relu_add").run([out], device_outputs=True)["y"]), answer(y)), "outputs go in again"
    np.testing.assert_array_equal(out.numpy(), y.cpu().numpy())


def numpy_stays_numpy():
    x = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    y = engine("relu_add").run({"x": x})["y"]
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, models.relu_add_answer(x))
    np.testing.assert_array_equal(engine("relu_add").run([torch.from_numpy(x)])["y"], y)


def both_memories_give_the_same_numbers():
    for precision in ("fp32", "fp16"):
        e = engine("convolutions", precision=precision)
        image = torch.rand(1, 3, 16, 16)
        on_host = e.run([image.numpy()])["features"]
        on_device = e.run([image.cuda()], device_outputs=True)["features"]
        np.testing.assert_array_equal(on_device.numpy(), on_host)


def a_stream_orders_the_run():
    """What the input waits for is slow; whoever reads the output may be early."""
    context, slow = engine("relu_add").create_context(), torch.randn(4096, 4096, device="cuda")
    for trial in range(6):
        side = torch.cuda.Stream()
        x, target = torch.zeros(5000, 4, device="cuda"), torch.zeros(5000, 4, device="cuda")
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            z = slow
            for _ in range(8):
                z = z @ slow * 1e-4
            x += float(trial + 1)
            # The run and what stands behind it on the same stream.
            context.run([x], {"y": target}, stream=side)
            after = target * 2
        side.synchronize()
        assert torch.equal(after, answer(x) * 2)
        # Another stream reads it through DLPack.
        with torch.cuda.stream(side):
            for _ in range(8):
                z = z @ slow * 1e-4
            x += 1.0
            out = context.run([x], stream=side.cuda_stream, device_outputs=True)["y"]
        seen = torch.from_dlpack(out) * 1.0  # on the current stream
        torch.cuda.synchronize()
        assert torch.equal(seen, answer(x))
        # No stream given: the producer's is waited for.
        with torch.cuda.stream(side):
            for _ in range(8):
                z = z @ slow * 1e-4
            x += 1.0
            y = context.run([x], device_outputs=True)["y"].numpy()
        np.testing.assert_array_equal(y, answer(x).cpu().numpy())


def the_default_stream_has_the_handle_0():
    assert torch.cuda.current_stream().cuda_stream == 0
    context, x = engine("relu_add").create_context(), random_rows(64)
    for _ in range(3):
        x += 1
        y = torch.from_dlpack(context.run([x], stream=torch.cuda.current_stream(), device_outputs=True)["y"])
        assert torch.equal(y, answer(x))


def a_run_on_the_callers_stream_does_not_wait():
    context, x, target = engine("relu_add").create_context(), random_rows(64), random_rows(64)
    side, slow = torch.cuda.Stream(), torch.randn(8192, 8192, device="cuda")
    context.run([x], {"y": target}, stream=side)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        for _ in range(20):
            slow = slow @ slow * 1e-4
        context.run([x], {"y": target}, stream=side)
    assert not side.query(), "the call came back before the work was done"
    side.synchronize()
    assert torch.equal(target, answer(x))


def changing_addresses_are_served():
    context, kept = engine("relu_add").create_context(), []
    for count in (64, 128, 64):
        for _ in range(12):
            x = random_rows(count)
            kept.append((x, torch.from_dlpack(context.run([x], device_outputs=True)["y"])))
    for x, y in kept:
        assert torch.equal(y, answer(x))


def lent_memory_outlives_everything():
    e = lathe.build(models.relu_add(), device="cuda", verify=False, **QUICK)
    x = random_rows(1 << 20)
    y = torch.from_dlpack(e.run([x], device_outputs=True)["y"])
    del e
    gc.collect()
    other = [torch.full((1 << 20, 4), 7.0, device="cuda") for _ in range(8)]
    assert torch.equal(y, answer(x)) and other[0][0, 0] == 7


def memory_stays_flat():
    context, x = engine("relu_add").create_context(), random_rows(1 << 18)
    for _ in range(20):
        context.run([x], device_outputs=True)
    gc.collect()
    before = torch.cuda.mem_get_info()[0]
    for _ in range(300):
        context.run([x], device_outputs=True)
    assert before - torch.cuda.mem_get_info()[0] < 8 << 20


def what_cannot_be_taken_is_told():
    e, x = engine("relu_add"), random_rows(8)
    refused("dense and row-major", lambda: e.run([torch.randn(4, 8, device="cuda").t()]))
    refused("float64, expected float32", lambda: e.run([x.double()]))
    refused("gradient", lambda: e.run([x.clone().requires_grad_()]))
    refused("8x5", lambda: e.run([torch.randn(8, 5, device="cuda")]))
    refused("dense", lambda: e.run([x], outputs={"y": torch.zeros(4, 8, device="cuda").t()}))
    on_cpu = lathe.build(models.relu_add(), **QUICK)
    refused("the engine runs on the CPU", lambda: on_cpu.run([x]))
    refused("stream", lambda: on_cpu.run([x.cpu()], stream=torch.cuda.current_stream()))
    assert torch.equal(torch.from_dlpack(e.run([x], device_outputs=True)["y"]), answer(x))


def cupy_arrays_go_in_and_out():
    try:
        import cupy
    except ImportError:
        print("  (CuPy is not installed)")
        return
    x = cupy.random.standard_normal((100, 4), dtype=cupy.float32)
    expected = cupy.maximum(x, 0) + cupy.asarray([1, 2, 3, 4], cupy.float32)
    out = engine("relu_add").run([x], device_outputs=True)["y"]
    assert (cupy.from_dlpack(out) == expected).all() and (cupy.asarray(out) == expected).all()

    class OnlyInterface:
        def __init__(self, array):
            self.__cuda_array_interface__ = array.__cuda_array_interface__

    target = cupy.zeros_like(x)
    stream = cupy.cuda.Stream(non_blocking=True)
    engine("relu_add").run([OnlyInterface(x)], {"y": OnlyInterface(target)}, stream=stream)
    stream.synchronize()
    assert (target == expected).all()
    refused("dense", lambda: engine("relu_add").run([OnlyInterface(cupy.zeros((4, 100), cupy.float32).T)]))


def profiles_are_the_devices_time():
    context, x = engine("convolutions", precision="fp16").create_context(), torch.rand(1, 3, 16, 16, device="cuda")
    for _ in range(3):
        context.run([x])
    context.start_profile()
    for _ in range(20):
        context.run([x])
    steps = [step for step in context.profile() if step["kernel"]]
    assert 0 < context.profile_seconds < 1e-2 and any(step["seconds"] > 0 for step in steps)


def main():
    cases = [
        torch_tensors_go_in_and_out, numpy_stays_numpy, both_memories_give_the_same_numbers, a_stream_orders_the_run, the_default_stream_has_the_handle_0,
        a_run_on_the_callers_stream_does_not_wait, changing_addresses_are_served, lent_memory_outlives_everything, memory_stays_flat,
        what_cannot_be_taken_is_told, cupy_arrays_go_in_and_out, profiles_are_the_devices_time,
    ]  # fmt: skip
    failed = 0
    for case in cases:
        started = time.monotonic()
        try:
            case()
            print(f"ok      {case.__name__} ({time.monotonic() - started:.2f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {case.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} cases passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
