"""A detector around an engine file, in the way of the guides: load, letterbox, run, suppress, print boxes.

python yolo_8.py yolov5.engine picture.png
"""

import json
import sys

import numpy as np
import pycuda.autoinit
import pycuda.driver as cuda
import tensorrt as trt
from PIL import Image

from postprocess import detections, letterbox, scale_back, to_input


class YoLov5TRT:
    def __init__(self, engine_file_path):
        # Create a context on this device
        self.ctx = pycuda.autoinit.context
        stream = cuda.Stream()
        TRT_LOGGER = trt.Logger(trt.Logger.INFO)
        runtime = trt.Runtime(TRT_LOGGER)
        with open(engine_file_path, "rb") as f:
            engine = runtime.deserialize_cuda_engine(f.read())
        context = engine.create_execution_context()
        self.host_inputs, self.cuda_inputs, self.host_outputs, self.cuda_outputs, self.bindings = [], [], [], [], []
        for binding in engine:
            print("binding:", binding, engine.get_binding_shape(binding), file=sys.stderr)
            size = trt.volume(engine.get_binding_shape(binding)) * engine.max_batch_size
            dtype = trt.nptype(engine.get_binding_dtype(binding))
            host_mem = cuda.pagelocked_empty(size, dtype)
            cuda_mem = cuda.mem_alloc(host_mem.nbytes)
            self.bindings.append(int(cuda_mem))
            if engine.binding_is_input(binding):
                self.input_h, self.input_w = engine.get_binding_shape(binding)[-2], engine.get_binding_shape(binding)[-1]
                self.host_inputs.append(host_mem)
                self.cuda_inputs.append(cuda_mem)
            else:
                self.output_shape = engine.get_binding_shape(binding)
                self.host_outputs.append(host_mem)
                self.cuda_outputs.append(cuda_mem)
        self.stream, self.context, self.engine = stream, context, engine

    def infer(self, image):
        self.ctx.push()
        fitted, fit = letterbox(image, self.input_h, self.input_w)
        np.copyto(self.host_inputs[0], to_input(fitted).ravel())
        cuda.memcpy_htod_async(self.cuda_inputs[0], self.host_inputs[0], self.stream)
        self.context.execute_async_v2(bindings=self.bindings, stream_handle=self.stream.handle)
        cuda.memcpy_dtoh_async(self.host_outputs[0], self.cuda_outputs[0], self.stream)
        self.stream.synchronize()
        self.ctx.pop()
        boxes, scores, labels = detections(self.host_outputs[0].reshape(self.output_shape)[0], 0.25, 0.45)
        return scale_back(boxes, fit, *image.shape[:2]), scores, labels

    def destroy(self):
        self.ctx.pop()


if __name__ == "__main__":
    detector = YoLov5TRT(sys.argv[1])
    found = {}
    for path in sys.argv[2:]:
        boxes, scores, labels = detector.infer(np.asarray(Image.open(path).convert("RGB")))
        found[path] = {"boxes": boxes.tolist(), "scores": scores.tolist(), "labels": labels.tolist()}
    detector.destroy()
    print(json.dumps(found))
