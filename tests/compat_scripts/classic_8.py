"""TensorRT 8: explicit batch, a profile for free extents, bindings by number, execute_v2 and execute_async_v2.

python classic_8.py model.onnx engine.trt inputs.npz outputs.npz --profile images:1x3x8x8:2x3x16x16:4x3x32x32 --sync
"""

import argparse
import os
import sys

import numpy as np
import pycuda.driver as cuda
import tensorrt as trt

import pycuda.autoinit  # noqa: F401  isort: skip

EXPLICIT_BATCH = 1 << (int)(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


class MyLogger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
        self.lines = []

    def log(self, severity, msg):
        self.lines.append((severity, msg))
        if severity <= trt.Logger.WARNING:
            print("[log]", severity, msg, file=sys.stderr)


logger = MyLogger()


def build(onnx_path, engine_path, profiles, fp16):
    builder = trt.Builder(logger)
    network = builder.create_network(EXPLICIT_BATCH)
    config = builder.create_builder_config()
    parser = trt.OnnxParser(network, logger)
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    else:
        config.max_workspace_size = 1 << 30
    if not parser.parse_from_file(onnx_path):
        for i in range(parser.num_errors):
            print("ERROR:", parser.get_error(i).desc())
        sys.exit(1)
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        print("input", tensor.name, tensor.shape, tensor.dtype)
    for i in range(network.num_outputs):
        tensor = network.get_output(i)
        print("output", tensor.name, tensor.shape, tensor.dtype)
    if fp16 and builder.platform_has_fast_fp16:
        config.set_flag(trt.BuilderFlag.FP16)
    elif fp16:
        config.set_flag(trt.BuilderFlag.FP16)
        print("FP16 is not fast here")
    if profiles:
        profile = builder.create_optimization_profile()
        for name, low, best, high in profiles:
            profile.set_shape(name, low, best, high)
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        sys.exit("the engine was not built")
    with open(engine_path, "wb") as f:
        f.write(plan)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("onnx")
    parser.add_argument("engine")
    parser.add_argument("inputs")
    parser.add_argument("outputs")
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("--sync", action="store_true")
    parser.add_argument("--fp16", action="store_true")
    args = parser.parse_args()

    profiles = []
    for text in args.profile:
        name, low, best, high = text.split(":")
        profiles.append((name, *[tuple(int(v) for v in part.split("x")) for part in (low, best, high)]))
    if not os.path.exists(args.engine):
        build(args.onnx, args.engine, profiles, args.fp16)

    runtime = trt.Runtime(logger)
    trt.init_libnvinfer_plugins(logger, "")
    with open(args.engine, "rb") as f:
        engine = runtime.deserialize_cuda_engine(f.read())
    context = engine.create_execution_context()
    given = np.load(args.inputs)

    # Shapes first: they decide how large the outputs are.
    for i in range(engine.num_bindings):
        if engine.binding_is_input(i):
            name = engine.get_binding_name(i)
            if -1 in tuple(engine.get_binding_shape(i)):
                low, best, high = engine.get_profile_shape(0, i)
                print("profile of", name, low, best, high)
                assert context.set_binding_shape(i, given[name].shape)
    assert context.all_binding_shapes_specified

    stream = cuda.Stream()
    start, end = cuda.Event(), cuda.Event()
    bindings, host_outputs, device = [None] * engine.num_bindings, {}, []
    for i in range(engine.num_bindings):
        name, dtype, shape = engine.get_binding_name(i), trt.nptype(engine.get_binding_dtype(i)), tuple(context.get_binding_shape(i))
        if engine.binding_is_input(i):
            array = np.ascontiguousarray(given[name]).astype(dtype)
            memory = cuda.mem_alloc(array.nbytes)
            cuda.memcpy_htod_async(memory, array, stream)
        else:
            array = cuda.pagelocked_empty(shape, dtype)
            memory = cuda.mem_alloc(array.nbytes)
            host_outputs[name] = (array, memory)
        device.append(memory)
        bindings[engine.get_binding_index(name)] = int(memory)
    stream.synchronize()
    start.record(stream)
    done = context.execute_v2(bindings) if args.sync else context.execute_async_v2(bindings=bindings, stream_handle=stream.handle)
    end.record(stream)
    assert done
    for array, memory in host_outputs.values():
        cuda.memcpy_dtoh_async(array, memory, stream)
    stream.synchronize()
    print(f"took {start.time_till(end):.3f} ms")
    np.savez(args.outputs, **{name: array for name, (array, _) in host_outputs.items()})


if __name__ == "__main__":
    main()
