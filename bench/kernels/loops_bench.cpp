// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Times regions of the loop emitter against memcpy of the bytes that they must move, alternating in one process.
//   loops_bench [--threads N] [--rounds N] [--network NAME] [--plans]       NAME: part of a problem's name
// --plans prints the regions. ratio = memcpy time / own time: 1 is the speed of memory (or of cache where the tensors fit).
#include <algorithm>

#include "bench_util.h"
#include "ir/text.h"
#include "loops/builder.h"
#include "plan/kernel.h"

namespace {

using namespace lathe;
using namespace lathe::bench;

struct Problem {
  const char* name;
  const char* graph;
  const char* layout = "";  ///< per tensor, inputs then outputs: r row-major, c channels-last
};

constexpr Problem kProblems[] = {
    {"sigmoid_mul_1m", R"(graph g(x: float[1, 64, 128, 128]) -> (y) {
      s: float[1, 64, 128, 128] = Sigmoid(x)
      y: float[1, 64, 128, 128] = Mul(x, s)
    })"},
    {"add_relu_1m", R"(graph g(x: float[1, 64, 128, 128], z: float[1, 64, 128, 128]) -> (y) {
      s: float[1, 64, 128, 128] = Add(x, z)
      y: float[1, 64, 128, 128] = Relu(s)
    })",
     "ccc"},
    {"bias_per_channel_nhwc", R"(graph g(x: float[1, 64, 128, 128], b: float[64, 1, 1]) -> (y) {
      y: float[1, 64, 128, 128] = Mul(x, b)
    })",
     "crc"},
    {"layer_norm_197x768", R"(graph g(x: float[1, 197, 768], g: float[768], b: float[768]) -> (y) {
      y: float[1, 197, 768] = LayerNormalization(x, g, b) {axis=-1}
    })"},
    {"add_layer_norm_197x768", R"(graph g(x: float[1, 197, 768], z: float[1, 197, 768], g: float[768], b: float[768]) -> (s, y) {
      s: float[1, 197, 768] = Add(x, z)
      y: float[1, 197, 768] = LayerNormalization(s, g, b) {axis=-1}
    })"},
    {"softmax_12x197x197", R"(graph g(x: float[1, 12, 197, 197]) -> (y) {
      y: float[1, 12, 197, 197] = Softmax(x) {axis=-1}
    })"},
    {"gelu_197x3072", R"(graph g(x: float[1, 197, 3072]) -> (y) {
      y: float[1, 197, 3072] = Gelu(x)
    })"},
    {"instance_norm_64x128x128", R"(graph g(x: float[1, 64, 128, 128], s: float[64], b: float[64]) -> (y) {
      y: float[1, 64, 128, 128] = InstanceNormalization(x, s, b)
    })"},
    {"instance_norm_nhwc", R"(graph g(x: float[1, 64, 128, 128], s: float[64], b: float[64]) -> (y) {
      y: float[1, 64, 128, 128] = InstanceNormalization(x, s, b)
    })",
     "crrc"},
    {"reduce_mean_hw_nhwc", R"(graph g(x: float[1, 64, 128, 128]) -> (y) {
      a: int64[2] = const {2, 3}
      y: float[1, 64, 1, 1] = ReduceMean(x, a) {keepdims=1}
    })",
     "cr"},
    {"yolo_decode", R"(graph g(x: float[1, 255, 80, 80], grid: float[1, 3, 80, 80, 2], anchor: float[1, 3, 80, 80, 2]) -> (y) {
      shape: int64[5] = const {1, 3, 85, 80, 80}
      r: float[1, 3, 85, 80, 80] = Reshape(x, shape)
      t: float[1, 3, 80, 80, 85] = Transpose(r) {perm=[0, 1, 3, 4, 2]}
      s: float[1, 3, 80, 80, 85] = Sigmoid(t)
      parts: int64[3] = const {2, 2, 81}
      xy: float[1, 3, 80, 80, 2], wh: float[1, 3, 80, 80, 2], rest: float[1, 3, 80, 80, 81] = Split(s, parts) {axis=4}
      two: float[] = const {2}
      stride: float[] = const {8}
      xy2: float[1, 3, 80, 80, 2] = Mul(xy, two)
      xyg: float[1, 3, 80, 80, 2] = Add(xy2, grid)
      xys: float[1, 3, 80, 80, 2] = Mul(xyg, stride)
      wh2: float[1, 3, 80, 80, 2] = Mul(wh, two)
      whp: float[1, 3, 80, 80, 2] = Pow(wh2, two)
      wha: float[1, 3, 80, 80, 2] = Mul(whp, anchor)
      cat: float[1, 3, 80, 80, 85] = Concat(xys, wha, rest) {axis=4}
      flat: int64[3] = const {1, 19200, 85}
      y: float[1, 19200, 85] = Reshape(cat, flat)
    })",
     "crrr"},
    {"upsample_2x_nhwc", R"(graph g(x: float[1, 128, 40, 40]) -> (y) {
      scales: float[4] = const {1, 1, 2, 2}
      y: float[1, 128, 80, 80] = Resize(x, _, scales) {mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"}
    })",
     "cc"},
    {"nchw_to_nhwc", R"(graph g(x: float[1, 64, 128, 128]) -> (y) {
      y: float[1, 128, 128, 64] = Transpose(x) {perm=[0, 2, 3, 1]}
    })"},
    {"nhwc_to_nchw", R"(graph g(x: float[1, 128, 128, 64]) -> (y) {
      y: float[1, 64, 128, 128] = Transpose(x) {perm=[0, 3, 1, 2]}
    })"},
    {"heads_transpose", R"(graph g(x: float[1, 197, 12, 64]) -> (y) {
      y: float[1, 12, 197, 64] = Transpose(x) {perm=[0, 2, 1, 3]}
    })"},
    {"slice_stride2_nhwc", R"(graph g(x: float[1, 64, 128, 128]) -> (y) {
      starts: int64[2] = const {0, 0}
      ends: int64[2] = const {128, 128}
      axes: int64[2] = const {2, 3}
      steps: int64[2] = const {2, 2}
      y: float[1, 64, 64, 64] = Slice(x, starts, ends, axes, steps)
    })",
     "cc"},
    {"channel_shuffle_nhwc", R"(graph g(x: float[1, 116, 28, 28]) -> (y) {
      a: int64[5] = const {1, 2, 58, 28, 28}
      r: float[1, 2, 58, 28, 28] = Reshape(x, a)
      t: float[1, 58, 2, 28, 28] = Transpose(r) {perm=[0, 2, 1, 3, 4]}
      b: int64[4] = const {1, 116, 28, 28}
      y: float[1, 116, 28, 28] = Reshape(t, b)
    })",
     "cc"},
    {"depth_to_space_nhwc", R"(graph g(x: float[1, 36, 128, 128]) -> (y) {
      y: float[1, 4, 384, 384] = DepthToSpace(x) {blocksize=3}
    })",
     "cr"},
    {"small_add_16k", R"(graph g(x: float[1, 16, 32, 32], z: float[1, 16, 32, 32]) -> (y) {
      y: float[1, 16, 32, 32] = Add(x, z)
    })",
     "ccc"},
};

plan::TensorDesc describe(const ir::Value& value, char layout) {
  plan::TensorDesc desc = plan::TensorDesc::row_major(value.dtype(), *ir::evaluate(value.shape(), {}));
  if (layout == 'c' && desc.dims.size() == 4) {
    const Dims& d = desc.dims;
    desc.strides = {d[1] * d[2] * d[3], 1, d[3] * d[1], d[1]};
  }
  return desc;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  if (!parse(argc, argv, o)) {
    std::fprintf(stderr, "loops_bench: unknown option\n");
    return 2;
  }
  ThreadPool pool(o.threads);
  for (const Problem& p : kProblems) {
    if (!o.network.empty() && std::string(p.name).find(o.network) == std::string::npos) continue;
    const auto graph = ir::parse_graph(p.graph);
    std::vector<const ir::Node*> nodes;
    for (const ir::Node* node : graph->nodes()) nodes.push_back(node);
    std::vector<const ir::Value*> inputs(graph->inputs().begin(), graph->inputs().end()), outputs(graph->outputs().begin(), graph->outputs().end());
    loops::LoopRegion region;
    std::string reason;
    if (!loops::lower_nodes(nodes, inputs, outputs, region, reason)) {
      std::fprintf(stderr, "%s: %s\n", p.name, reason.c_str());
      return 1;
    }
    if (o.plans) std::puts(region.to_string().c_str());
    std::vector<plan::TensorDesc> ins, outs;
    std::vector<std::unique_ptr<Aligned>> memory;
    std::vector<const void*> in;
    std::vector<void*> out;
    std::size_t bytes = 0;
    const std::string layout = p.layout;
    for (const auto* list : {&inputs, &outputs})
      for (const ir::Value* value : *list) {
        const std::size_t at = ins.size() + outs.size();
        plan::TensorDesc desc = describe(*value, at < layout.size() ? layout[at] : 'r');
        const auto size = static_cast<std::size_t>(desc.elements()) * 4;
        bytes += size;
        memory.push_back(std::make_unique<Aligned>(size));
        fill(memory.back()->data, desc.elements(), DType::kFloat32);
        if (list == &inputs) in.push_back(memory.back()->data), ins.push_back(desc);
        else out.push_back(memory.back()->data), outs.push_back(desc);
      }
    ir::Attrs params;
    params.set("region", region.serialize());
    const std::vector<const void*> constants(in.size(), nullptr);
    const auto kernel = plan::find_kernel("cpu.loops")->bind({params, ins, outs, constants, {}, {}, o.threads});
    Aligned scratch(kernel->scratch_bytes()), from(bytes / 2), to(bytes / 2);
    const plan::KernelIo io{in.data(), out.data(), scratch.data, &pool};
    const std::size_t half = bytes / 2, piece = (half / static_cast<std::size_t>(o.threads) + 63) / 64 * 64;
    std::vector<Timed> runs;
    // Repeated, so that the clock's grain does not count.
    const int repeat = static_cast<int>(std::clamp<std::size_t>(std::size_t{4'000'000} / bytes, 1, 50));
    runs.push_back({"own", false, true, [&] {
                      for (int i = 0; i < repeat; ++i)
                        if (!kernel->run(io)) std::abort();
                    }});
    runs.push_back({"memcpy", false, true, [&] {
                      for (int i = 0; i < repeat; ++i)
                        pool.parallel_for(o.threads, [&](std::int64_t t, int) {
                          const std::size_t begin = std::min(half, static_cast<std::size_t>(t) * piece), end = std::min(half, begin + piece);
                          std::memcpy(static_cast<char*>(to.data) + begin, static_cast<const char*>(from.data) + begin, end - begin);
                        });
                    }});
    alternate(runs, o.rounds);
    const double own = runs[0].best / repeat, copy = runs[1].best / repeat;
    std::printf("%-26s %9.1f us  %6.1f GB/s  memcpy %8.1f us  ratio %.2f  stages %zu  scratch %zu\n", p.name, own * 1e6,
                static_cast<double>(bytes) / own * 1e-9, copy * 1e6, copy / own, region.stages.size(), kernel->scratch_bytes());
    std::fflush(stdout);
  }
  return 0;
}
