# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Whole networks on a GPU: Lathe beside PyTorch (eager, eager in a CUDA graph, torch.compile), paired per network in one process, FP16, everything
on the device, CUDA events around each run, medians over alternating rounds.

net_bench.py LIBLATHE MODELS OUT.json [--only NAME,...] [--rivals eager,graph,compile] [--quick] [--again] [--verify] [--commit HASH]

MODELS holds the ONNX files (see NETWORKS; yolov5l.onnx is exported here when it is missing). OUT.json is read first: networks and contenders that it
holds are not measured again unless --again. Needs PyTorch, and torchvision and transformers for their networks."""

import argparse
import ctypes
import json
import statistics
import sys
import time
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "yolov5"))


def yolo(size):
    def make():
        from model import seeded

        return seeded(size)

    return make


def torchvision(name):
    def make():
        import torchvision.models

        return getattr(torchvision.models, name)(weights=None)

    return make


def bert():
    import torch
    from transformers import BertConfig, BertModel

    class Bert(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = BertModel(BertConfig(), add_pooling_layer=False)

        def forward(self, ids, mask):
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    return Bert()


# name: (ONNX file, inputs, PyTorch module)
NETWORKS = {
    "yolov5l-352x416-b1": ("yolov5l-352x416", {"image": (1, 3, 352, 416)}, yolo("l")),
    "yolov5l-640-b1": ("yolov5l", {"image": (1, 3, 640, 640)}, yolo("l")),
    "yolov5s-640-b1": ("yolov5s", {"image": (1, 3, 640, 640)}, yolo("s")),
    "yolov5n-640-b1": ("yolov5n", {"image": (1, 3, 640, 640)}, yolo("n")),
    "resnet50-b1": ("resnet50", {"input": (1, 3, 224, 224)}, torchvision("resnet50")),
    "vit_b_16-b1": ("real_vit_base", {"pixel_values": (1, 3, 224, 224)}, torchvision("vit_b_16")),
    "bert_base-b1-s128": ("real_bert_base", {"input_ids": (1, 128), "attention_mask": (1, 128)}, bert),
    "resnet18-b1": ("resnet18", {"input": (1, 3, 224, 224)}, torchvision("resnet18")),
    "mobilenet_v2-b1": ("mobilenet_v2", {"input": (1, 3, 224, 224)}, torchvision("mobilenet_v2")),
    "yolov5l-640-b32": ("yolov5l", {"image": (32, 3, 640, 640)}, yolo("l")),
    "resnet50-b32": ("resnet50", {"input": (32, 3, 224, 224)}, torchvision("resnet50")),
    "vit_b_16-b32": ("real_vit_base", {"pixel_values": (32, 3, 224, 224)}, torchvision("vit_b_16")),
    "bert_base-b32-s128": ("real_bert_base", {"input_ids": (32, 128), "attention_mask": (32, 128)}, bert),
}


class InputShape(Structure):
    _fields_ = [("name", c_char_p), ("rank", c_int32), ("min", POINTER(c_int64)), ("opt", POINTER(c_int64)), ("max", POINTER(c_int64))]


class BuildConfig(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_char_p),
        ("precision", c_char_p),
        ("budget_seconds", c_double),
        ("exact", c_int32),
        ("verify", c_int32),
        ("use_cache", c_int32),
        ("shapes", POINTER(InputShape)),
        ("shape_count", c_size_t),
        ("progress", c_void_p),
        ("progress_user", c_void_p),
    ]


class TensorView(Structure):
    _fields_ = [("data", c_void_p), ("dtype", c_int32), ("rank", c_int32), ("shape", POINTER(c_int64))]


def extents(dims):
    return (c_int64 * len(dims))(*dims)


class Lathe:
    """The C API, as much as is needed here."""

    def __init__(self, library):
        self.library = ctypes.CDLL(library)
        self.library.lathe_last_error.restype = c_char_p
        self.library.lathe_engine_report_json.restype = c_char_p

    def check(self, status):
        if status:
            raise RuntimeError(self.library.lathe_last_error().decode())

    def build(self, path, inputs, dynamic, verify):
        config = BuildConfig()
        self.library.lathe_build_config_init(byref(config), c_size_t(ctypes.sizeof(config)))
        config.device, config.precision, config.verify = b"cuda", b"fp16", int(verify)
        config.budget_seconds = 60
        shapes = (InputShape * len(inputs))()
        for at, (name, dims) in zip(shapes, inputs.items()):
            low = extents((1, *dims[1:])) if dynamic else extents(dims)
            at.name, at.rank, at.min, at.opt, at.max = name.encode(), len(dims), low, extents(dims), extents(dims)
        config.shapes, config.shape_count = shapes, len(inputs)
        engine = c_void_p()
        self.check(self.library.lathe_build(str(path).encode(), byref(config), byref(engine)))
        return engine

    def report(self, engine):
        return json.loads(self.library.lathe_engine_report_json(engine).decode())

    def context(self, engine):
        context = c_void_p()
        self.check(self.library.lathe_context_create(engine, byref(context)))
        return context

    def runner(self, context, tensors, stream):
        """A call without arguments that enqueues one run; inputs and outputs lie on the device."""
        import torch

        types = {torch.float32: 1, torch.int64: 7, torch.float16: 10}
        names = {number: kind for kind, number in types.items()}

        def views(list_of_tensors):
            return (TensorView * len(list_of_tensors))(*[TensorView(t.data_ptr(), types[t.dtype], t.dim(), extents(t.shape)) for t in list_of_tensors])

        ins = views(tensors)
        self.check(self.library.lathe_context_run(context, ins, c_size_t(len(ins)), None, c_size_t(0)))  # tells the outputs' extents
        outputs, view = [], TensorView()
        while self.library.lathe_context_output(context, c_size_t(len(outputs)), byref(view)) == 0:
            outputs.append(torch.empty([view.shape[i] for i in range(view.rank)], dtype=names[view.dtype], device="cuda"))
        outs = views(outputs)
        run, arguments = self.library.lathe_context_run_on, (context, ins, c_size_t(len(ins)), outs, c_size_t(len(outs)), c_void_p(stream.cuda_stream))

        def call():
            self.check(run(*arguments))

        call.outputs = outputs
        return call


def make_inputs(inputs):
    import torch

    torch.manual_seed(1)
    tensors = {}
    for name, dims in inputs.items():
        if "ids" in name:
            tensors[name] = torch.randint(0, 30000, dims, device="cuda")
        elif "mask" in name:
            tensors[name] = torch.ones(dims, dtype=torch.int64, device="cuda")
        else:
            tensors[name] = torch.rand(dims, device="cuda")
    return tensors


def timed(call, stream, count):
    import torch

    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(count)]
    with torch.cuda.stream(stream):
        call()
        for start, stop in events:
            start.record(stream)
            call()
            stop.record(stream)
    stream.synchronize()
    return [start.elapsed_time(stop) for start, stop in events]


def in_graph(module, tensors, stream):
    import torch

    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(3):
            module(*tensors)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph, stream=stream):
        module(*tensors)
    return graph.replay


def contenders(lathe, name, options):
    """name of the contender -> (call, facts)."""
    import torch

    file, inputs, make = NETWORKS[name]
    stream = torch.cuda.Stream()
    tensors = make_inputs(inputs)
    calls, facts = {}, {}
    path = options.models / f"{file}.onnx"
    if not path.exists():
        first = next(iter(inputs))
        torch.onnx.export(
            make().eval(),
            (torch.rand(1, *inputs[first][1:]),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=[first],
            output_names=["boxes"],
            dynamic_axes={first: {0: "batch"}, "boxes": {0: "batch"}},
        )
    batch = next(iter(inputs.values()))[0]
    started = time.perf_counter()
    engine = lathe.build(path, inputs, batch > 1, options.verify)
    facts["build_s"] = time.perf_counter() - started
    report = lathe.report(engine)
    facts.update(steps=report["steps"], host_steps=len(report.get("host_steps", [])), verified=report["verify"].get("passed") if options.verify else None)
    context = lathe.context(engine)
    calls["lathe"] = lathe.runner(context, list(tensors.values()), stream)
    if options.rivals:
        module = make().eval().cuda().half()
        images = [t.half().to(memory_format=torch.channels_last) if t.is_floating_point() else t for t in tensors.values()]
        if len(images) == 1:
            module = module.to(memory_format=torch.channels_last)
        if "eager" in options.rivals:

            def eager():
                with torch.no_grad():
                    module(*images)

            calls["eager"] = eager
        if "graph" in options.rivals:
            calls["graph"] = in_graph(module, images, stream)
        if "compile" in options.rivals:
            compiled = torch.compile(module, mode="reduce-overhead")

            def run_compiled():
                with torch.no_grad():
                    compiled(*images)

            started = time.perf_counter()
            with torch.cuda.stream(stream):
                for _ in range(4):
                    run_compiled()
            stream.synchronize()
            facts["torch_compile_s"] = time.perf_counter() - started
            calls["compile"] = run_compiled
    return calls, facts, stream


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("models", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--rivals", default="eager,graph,compile")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no torch.compile")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--verify", action="store_true", help="let the build hold the engine against the oracle")
    parser.add_argument("--commit", default="")
    options = parser.parse_args()
    options.rivals = [r for r in options.rivals.split(",") if r and not (options.quick and r == "compile")]
    import torch

    rounds, count = (3, 20) if options.quick else (5, 40)
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    results["about"] = {
        "gpu": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "what": "milliseconds of GPU time per run, FP16, inputs and outputs on the device, medians of alternating rounds",
        "command": f"python bench/gpu/net_bench.py {Path(sys.argv[1]).name} MODELS {' '.join([Path(sys.argv[3]).name, *sys.argv[4:]])}",
        "commit": options.commit,
        "date": time.strftime("%Y-%m-%d"),
    }
    torch.backends.cudnn.benchmark = True
    lathe = Lathe(options.library)
    networks = results.setdefault("networks", {})
    for name in NETWORKS:
        if options.only and name not in options.only.split(","):
            continue
        known = networks.get(name, {})
        if not options.again and all(c in known.get("median_ms", {}) for c in ["lathe", *options.rivals]):
            continue
        try:
            calls, facts, stream = contenders(lathe, name, options)
            times = {contender: [] for contender in calls}
            for _ in range(rounds):
                for contender, call in calls.items():
                    times[contender] += timed(call, stream, count)
        except Exception as error:  # the others go on
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            continue
        networks[name] = {
            "median_ms": {c: round(statistics.median(t), 4) for c, t in times.items()},
            "min_ms": {c: round(min(t), 4) for c, t in times.items()},
            **facts,
        }
        print(name, json.dumps(networks[name]), flush=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
        del calls
        torch.compiler.reset()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
