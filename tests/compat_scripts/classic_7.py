"""TensorRT 7: implicit batch, build_cuda_engine, a pickle of host and device buffers, execute_async.

python classic_7.py model.onnx engine.trt inputs.npz outputs.npz --batch 4
"""

import argparse

import numpy as np
import pycuda.autoinit  # noqa: F401
import pycuda.driver as cuda
import tensorrt as trt

TRT_LOGGER = trt.Logger(trt.Logger.WARNING)


class HostDeviceMem:
    def __init__(self, host_mem, device_mem):
        self.host = host_mem
        self.device = device_mem

    def __str__(self):
        return "Host:\n" + str(self.host) + "\nDevice:\n" + str(self.device)


def build_engine(onnx_path, max_batch, fp16):
    with trt.Builder(TRT_LOGGER) as builder, builder.create_network() as network, trt.OnnxParser(network, TRT_LOGGER) as parser:
        builder.max_workspace_size = 1 << 28
        builder.max_batch_size = max_batch
        builder.fp16_mode = fp16
        with open(onnx_path, "rb") as model:
            if not parser.parse(model.read()):
                for error in range(parser.num_errors):
                    print(parser.get_error(error))
                return None
        if network.num_outputs == 0:
            last = network.get_layer(network.num_layers - 1)
            network.mark_output(last.get_output(0))
        print("building for a batch of", builder.max_batch_size)
        return builder.build_cuda_engine(network)


def allocate_buffers(engine):
    inputs, outputs, bindings = [], [], []
    stream = cuda.Stream()
    for binding in engine:
        size = trt.volume(engine.get_binding_shape(binding)) * engine.max_batch_size
        dtype = trt.nptype(engine.get_binding_dtype(binding))
        host_mem = cuda.pagelocked_empty(size, dtype)
        device_mem = cuda.mem_alloc(host_mem.nbytes)
        bindings.append(int(device_mem))
        if engine.binding_is_input(binding):
            inputs.append(HostDeviceMem(host_mem, device_mem))
        else:
            outputs.append(HostDeviceMem(host_mem, device_mem))
    return inputs, outputs, bindings, stream


def do_inference(context, bindings, inputs, outputs, stream, batch_size=1):
    [cuda.memcpy_htod_async(inp.device, inp.host, stream) for inp in inputs]
    context.execute_async(batch_size=batch_size, bindings=bindings, stream_handle=stream.handle)
    [cuda.memcpy_dtoh_async(out.host, out.device, stream) for out in outputs]
    stream.synchronize()
    return [out.host for out in outputs]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("onnx")
    parser.add_argument("engine")
    parser.add_argument("inputs")
    parser.add_argument("outputs")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--run", type=int, default=0)
    parser.add_argument("--fp16", action="store_true")
    args = parser.parse_args()
    batch = args.run or args.batch

    engine = build_engine(args.onnx, args.batch, args.fp16)
    with open(args.engine, "wb") as f:
        f.write(engine.serialize())
    with open(args.engine, "rb") as f, trt.Runtime(TRT_LOGGER) as runtime:
        engine = runtime.deserialize_cuda_engine(f.read())

    given = np.load(args.inputs)
    with engine.create_execution_context() as context:
        inputs, outputs, bindings, stream = allocate_buffers(engine)
        names = [name for name in engine if engine.binding_is_input(name)]
        for name, buffer in zip(names, inputs):
            flat = given[name].ravel()
            np.copyto(buffer.host[: flat.size], flat)
        results = do_inference(context, bindings, inputs, outputs, stream, batch)
        found = {}
        for name, result in zip([name for name in engine if not engine.binding_is_input(name)], results):
            shape = (batch,) + tuple(engine.get_binding_shape(name))
            found[name] = result[: trt.volume(shape)].reshape(shape)
    np.savez(args.outputs, **found)
    print("TensorRT", trt.__version__, "implicit batch:", engine.has_implicit_batch_dimension)


if __name__ == "__main__":
    main()
