"""TensorRT 10: tensors by name, set_tensor_address and execute_async_v3, memory by cuda-python.

python modern_10.py model.onnx engine.trt inputs.npz outputs.npz --profile images:1x3x8x8:2x3x16x16:4x3x32x32
"""

import argparse
import ctypes

import numpy as np
import tensorrt as trt
from cuda import cuda, cudart

LOGGER = trt.Logger(trt.Logger.INFO)


def check_cuda_err(err):
    if isinstance(err, cuda.CUresult) and err != cuda.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"Cuda Error: {err}")
    if isinstance(err, cudart.cudaError_t) and err != cudart.cudaError_t.cudaSuccess:
        raise RuntimeError(f"Cuda Runtime Error: {err}")


def cuda_call(call):
    err, res = call[0], call[1:]
    check_cuda_err(err)
    return res[0] if len(res) == 1 else res


class Buffers:
    """A page-locked host array and device memory of the same size."""

    def __init__(self, size, dtype):
        dtype = np.dtype(dtype)
        self.nbytes = max(size * dtype.itemsize, 1)
        host_mem = cuda_call(cudart.cudaMallocHost(self.nbytes))
        pointer_type = ctypes.POINTER(np.ctypeslib.as_ctypes_type(dtype))
        self.host = np.ctypeslib.as_array(ctypes.cast(host_mem, pointer_type), (size,))
        self.device = cuda_call(cudart.cudaMalloc(self.nbytes))

    def free(self):
        cuda_call(cudart.cudaFree(self.device))
        cuda_call(cudart.cudaFreeHost(self.host.ctypes.data))


def build(path, profiles, fp16):
    builder = trt.Builder(LOGGER)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, LOGGER)
    with open(path, "rb") as f:
        if not parser.parse(f.read(), path):
            raise SystemExit("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 28)
    if fp16:
        config.set_flag(trt.BuilderFlag.FP16)
    if profiles:
        profile = builder.create_optimization_profile()
        for name, low, best, high in profiles:
            profile.set_shape(name, low, best, high)
        config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("onnx")
    parser.add_argument("engine")
    parser.add_argument("inputs")
    parser.add_argument("outputs")
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("--fp16", action="store_true")
    args = parser.parse_args()
    profiles = []
    for text in args.profile:
        name, low, best, high = text.split(":")
        profiles.append((name, *[tuple(int(v) for v in part.split("x")) for part in (low, best, high)]))

    plan = build(args.onnx, profiles, args.fp16)
    print("plan of", plan.nbytes, "bytes")
    with open(args.engine, "wb") as f:
        f.write(plan)
    with trt.Runtime(LOGGER) as runtime:
        engine = runtime.deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    given = np.load(args.inputs)

    stream = cuda_call(cudart.cudaStreamCreate())
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    for name in names:
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            assert context.set_input_shape(name, given[name].shape)
    assert context.infer_shapes() == []
    buffers = {}
    for name in names:
        dtype, shape = trt.nptype(engine.get_tensor_dtype(name)), context.get_tensor_shape(name)
        buffers[name] = Buffers(trt.volume(shape), dtype)
        context.set_tensor_address(name, buffers[name].device)
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            np.copyto(buffers[name].host, given[name].astype(dtype).ravel())
            to_device = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
            cuda_call(cudart.cudaMemcpyAsync(buffers[name].device, buffers[name].host, buffers[name].nbytes, to_device, stream))
    assert context.execute_async_v3(stream_handle=stream)
    outputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
    for name in outputs:
        to_host = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        cuda_call(cudart.cudaMemcpyAsync(buffers[name].host, buffers[name].device, buffers[name].nbytes, to_host, stream))
    cuda_call(cudart.cudaStreamSynchronize(stream))
    np.savez(args.outputs, **{name: buffers[name].host.reshape(tuple(context.get_tensor_shape(name))) for name in outputs})
    for buffer in buffers.values():
        buffer.free()
    cuda_call(cudart.cudaStreamDestroy(stream))


if __name__ == "__main__":
    main()
