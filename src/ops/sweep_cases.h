// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The cases of sweep_test.cpp, which holds definitions against each other, and of lowered_ops_test.cpp, which holds what the emitters make
// of the lowerings: a case is the text of a graph.

#include <cmath>
#include <random>
#include <string>

#include "ir/text.h"
#include "loops/builder.h"
#include "ops/infer.h"
#include "ops/op_def.h"

namespace lathe::ops::testing {

struct Case {
  const char* name;
  const char* inputs;
  const char* body;               ///< ends by defining y
  const char* decline = nullptr;  ///< a word of the reason when it must not lower; nullptr: it must
};

inline const ir::Bindings::value_type kSymbols[] = {{"n", 2}, {"h", 7}, {"w", 5}, {"t", 4}, {"one", 1}};

inline Tensor random_input(const ir::Value& value, const ir::Bindings& symbols, unsigned seed) {
  Tensor tensor(value.dtype(), *ir::evaluate(value.shape(), symbols));
  std::mt19937 generator(seed);
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    const double unit = static_cast<double>(generator() % 2001) / 1000.0 - 1.0;  // [-1, 1], the same on every machine
    if (is_float(value.dtype())) tensor.set_from_double(i, 3 * unit);
    else tensor.set_from_int64(i, value.dtype() == DType::kBool ? unit > 0 : std::lround(20 * unit));
  }
  return tensor;
}

/// A case read, with its symbols and its inputs.
struct Swept {
  std::shared_ptr<ir::Graph> graph;
  ir::Bindings symbols;
  std::vector<Tensor> inputs;
};

inline Swept read_case(const Case& c) {
  Swept s{ir::parse_graph(std::string("graph g(") + c.inputs + ") -> (y) {\n" + c.body + "\n}"), {std::begin(kSymbols), std::end(kSymbols)}, {}};
  infer_graph(*s.graph);
  unsigned seed = 1;
  for (const ir::Value* input : s.graph->inputs()) s.inputs.push_back(random_input(*input, s.symbols, seed++));
  return s;
}

/// The region of all nodes, with the tensors that it reads; its text is `reason` when there is none.
struct SweptRegion {
  bool lowered = false;
  std::string reason;
  loops::LoopRegion region;
  std::vector<Tensor> tensors;
};

inline SweptRegion lower_case(const Swept& s) {
  SweptRegion result;
  std::vector<const ir::Node*> nodes;
  for (const ir::Node* node : s.graph->nodes()) nodes.push_back(node);
  std::vector<const ir::Value*> inputs;
  for (std::size_t i = 0; i < s.inputs.size(); ++i) {
    inputs.push_back(s.graph->inputs()[i]);
    result.tensors.push_back(s.inputs[i]);
  }
  for (const ir::Value* value : s.graph->values()) {
    if (!value->is_constant()) continue;
    inputs.push_back(value);
    result.tensors.push_back(value->constant);
  }
  const ir::Value* outputs[] = {s.graph->outputs()[0]};
  result.lowered = loops::lower_nodes(nodes, inputs, outputs, result.region, result.reason);
  return result;
}

inline constexpr const char* kImage = "x: float[n, 3, h, w]";
inline constexpr const char* kNone = "no lowering";

inline const Case kCases[] = {
    // Contractions: oracle sweeps over groups, pads, dilations, types, and extents beyond one block in rows, columns and depth.
    {"conv", "x: float[n, 5, h, w], k: float[7, 5, 3, 3], b: float[7]", "y = Conv(x, k, b) {pads=[1, 1, 1, 1]}", kNone},
    {"conv_grouped", "x: float[n, 6, h, w], k: float[4, 3, 3, 2]", "y = Conv(x, k) {group=2, strides=[2, 1], dilations=[1, 2], pads=[0, 1, 2, 0]}", kNone},
    {"conv_depthwise", "x: float[1, 6, h, w], k: float[12, 1, 3, 3]", "y = Conv(x, k) {group=6, auto_pad=\"SAME_UPPER\", strides=[2, 2]}", kNone},
    {"conv_same_lower", "x: float[1, 2, h, w], k: float[3, 2, 2, 4]", "y = Conv(x, k) {auto_pad=\"SAME_LOWER\"}", kNone},
    {"conv_1d", "x: float[n, 4, 20], k: float[5, 4, 5]", "y = Conv(x, k) {dilations=[3], pads=[6, 6]}", kNone},
    {"conv_3d", "x: float[1, 2, 5, 4, 6], k: float[3, 2, 2, 3, 1]", "y = Conv(x, k) {pads=[1, 0, 0, 0, 1, 2]}", kNone},
    {"conv_wide", "x: float[1, 40, 9, 9], k: float[70, 40, 1, 1]", "y = Conv(x, k)", kNone},
    {"conv_blocks", "x: float[1, 20, 20, 17], k: float[150, 20, 3, 3], b: float[150]", "y = Conv(x, k, b) {pads=[1, 1, 1, 1]}", kNone},
    {"conv_blocks_grouped", "x: float[2, 66, 9, 11], k: float[264, 33, 2, 5]", "y = Conv(x, k) {group=2, pads=[0, 3, 1, 0], dilations=[2, 1]}", kNone},
    {"conv_half", "x: float16[1, 8, 5, 5], k: float16[4, 8, 3, 3]", "y = Conv(x, k) {pads=[1, 1, 1, 1]}", kNone},
    {"conv_negative_pads", "x: float[1, 2, 8, 8], k: float[3, 2, 3, 3]", "y = Conv(x, k) {pads=[-1, 0, 0, -2]}", kNone},
    {"conv_empty_batch", "x: float[0, 2, 4, 4], k: float[3, 2, 3, 3]", "y = Conv(x, k)", kNone},
    {"conv_transpose", "x: float[n, 4, h, w], k: float[4, 3, 3, 3], b: float[3]",
     "y = ConvTranspose(x, k, b) {strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 0]}", kNone},
    {"conv_transpose_grouped", "x: float[1, 4, 5, 6], k: float[4, 2, 2, 3]", "y = ConvTranspose(x, k) {group=2, dilations=[2, 1], strides=[1, 3]}", kNone},
    {"conv_transpose_output_shape", "x: float[1, 2, 3, 3], k: float[2, 2, 3, 3]", "y = ConvTranspose(x, k) {strides=[3, 2], output_shape=[10, 8]}", kNone},
    {"conv_transpose_same", "x: float[1, 2, 4, 3], k: float[2, 2, 3, 3]", "y = ConvTranspose(x, k) {strides=[2, 2], auto_pad=\"SAME_UPPER\"}", kNone},
    {"conv_transpose_blocks", "x: float[1, 40, 9, 8], k: float[40, 17, 3, 3]", "y = ConvTranspose(x, k) {strides=[2, 1], pads=[1, 0, 0, 1]}", kNone},
    {"matmul", "a: float[h, 33], b: float[33, 70]", "y = MatMul(a, b)", kNone},
    {"matmul_stacks", "a: float[n, 1, h, 9], b: float[3, 9, w]", "y = MatMul(a, b)", kNone},
    {"matmul_blocks", "a: float[70, 300], b: float[300, 261]", "y = MatMul(a, b)", kNone},
    {"matmul_vectors", "a: float[17], b: float[17]", "y = MatMul(a, b)", kNone},
    {"matmul_row", "a: float[8], b: float[n, 8, w]", "y = MatMul(a, b)", kNone},
    {"matmul_bf16", "a: bfloat16[5, 64], b: bfloat16[64, 6]", "y = MatMul(a, b)", kNone},
    {"matmul_double", "a: double[5, 300], b: double[300, 6]", "y = MatMul(a, b)", kNone},
    {"matmul_int32", "a: int32[5, 9], b: int32[9, 6]", "y = MatMul(a, b)", kNone},
    {"matmul_no_sum", "a: float[3, 0], b: float[0, 4]", "y = MatMul(a, b)", kNone},
    {"gemm", "a: float[h, 40], b: float[40, 66], c: float[66]", "y = Gemm(a, b, c) {alpha=0.5, beta=-2.0}", kNone},
    {"gemm_transposed", "a: float[40, h], b: float[6, 40], c: float[h, 1]", "y = Gemm(a, b, c) {transA=1, transB=1}", kNone},
    {"gemm_blocks", "a: float[290, 67], b: float[131, 290], c: float[131]", "y = Gemm(a, b, c) {transA=1, transB=1}", kNone},
    {"gemm_scalar_c", "a: float[3, 4], b: float[4, 5], c: float[]", "y = Gemm(a, b, c)", kNone},
    // Pools.
    {"max_pool", kImage, "y = MaxPool(x) {kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]}"},
    {"max_pool_ceil", kImage, "y = MaxPool(x) {kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1}"},
    {"max_pool_dilated", kImage, "y = MaxPool(x) {kernel_shape=[3, 2], dilations=[2, 3]}"},
    {"max_pool_1d", "x: float[n, 3, t]", "y = MaxPool(x) {kernel_shape=[2], pads=[1, 0]}"},
    {"max_pool_int8", "x: int8[n, 3, h, w]", "y = MaxPool(x) {kernel_shape=[3, 3], pads=[1, 1, 1, 1]}"},
    {"max_pool_same", kImage, "y = MaxPool(x) {kernel_shape=[3, 3], auto_pad=\"SAME_UPPER\"}", "SAME"},
    {"max_pool_indices_alone", kImage, "_, y = MaxPool(x) {kernel_shape=[2, 2]}"},
    {"average_pool", kImage, "y = AveragePool(x) {kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]}"},
    {"average_pool_include", kImage, "y = AveragePool(x) {kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 0, 1], count_include_pad=1}"},
    {"average_pool_ceil_include", kImage, "y = AveragePool(x) {kernel_shape=[3, 3], strides=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1, ceil_mode=1}"},
    {"average_pool_dilated", "x: float[n, 3, 12, 11]", "y = AveragePool(x) {kernel_shape=[3, 2], dilations=[2, 3], pads=[2, 1, 1, 3]}"},
    {"average_pool_3d", "x: float[1, 2, 4, h, w]", "y = AveragePool(x) {kernel_shape=[2, 2, 2]}"},
    {"lp_pool", kImage, "y = LpPool(x) {kernel_shape=[2, 2], p=3}"},
    {"lp_pool_strided", "x: float16[n, 3, h, w]", "y = LpPool(x) {kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 0, 1]}"},
    {"lp_pool_one", "x: bfloat16[n, 3, t]", "y = LpPool(x) {kernel_shape=[2], dilations=[2], p=1, pads=[1, 1]}"},
    {"lp_pool_same", "x: float[n, 3, 7, 4]", "y = LpPool(x) {kernel_shape=[3, 3], auto_pad=\"SAME_LOWER\", strides=[2, 2]}"},
    {"global_lp", kImage, "y = GlobalLpPool(x)"},
    {"global_lp_four", "x: double[n, 3, h]", "y = GlobalLpPool(x) {p=4}"},
    {"max_pool_same_known", "x: float[n, 3, 7, 6]", "y = MaxPool(x) {kernel_shape=[3, 3], auto_pad=\"SAME_UPPER\", strides=[2, 2]}"},
    {"average_pool_same_known", "x: float[n, 3, 7, 6]", "y = AveragePool(x) {kernel_shape=[3, 2], auto_pad=\"SAME_LOWER\", strides=[2, 2]}"},
    {"max_pool_indices", kImage, "v, y = MaxPool(x) {kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]}"},
    {"max_pool_indices_columns", "x: float16[2, 3, 7, 5]", "v, y = MaxPool(x) {kernel_shape=[2, 3], dilations=[2, 1], storage_order=1, ceil_mode=1}"},
    {"max_unpool", "x: float[n, 3, 8, 6]",
     "v, i = MaxPool(x) {kernel_shape=[2, 2], strides=[2, 2]}\n y = MaxUnpool(v, i) {kernel_shape=[2, 2], strides=[2, 2]}"},
    {"max_unpool_overlapping", "x: float[n, 2, 7, 9]",
     "v, i = MaxPool(x) {kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 0]}\n w = Neg(v)\n y = MaxUnpool(w, i) {kernel_shape=[3, 3], strides=[2, 2], "
     "pads=[1, 0, 1, "
     "0]}"},
    {"max_unpool_larger", "x: float16[1, 2, 8]",
     "z: int64[3] = const {1, 3, 11}\n v, i = MaxPool(x) {kernel_shape=[3], strides=[1]}\n y = MaxUnpool(v, i, z) {kernel_shape=[3], strides=[1]}"},
    {"max_unpool_anywhere", "x: float[1, 1, 2, 2]", "i: int64[1, 1, 2, 2] = const {5, 7, 13, 15}\n y = MaxUnpool(x, i) {kernel_shape=[2, 2], strides=[2, 2]}",
     "anywhere"},
    {"max_unpool_other_window", "x: float[n, 3, 8, 6]",
     "v, i = MaxPool(x) {kernel_shape=[2, 2], strides=[2, 2]}\n y = MaxUnpool(v, i) {kernel_shape=[3, 3], strides=[2, 2]}", "anywhere"},
    {"global_average", kImage, "y = GlobalAveragePool(x)"},
    {"global_average_half", "x: float16[n, 3, h, w]", "y = GlobalAveragePool(x)"},
    {"global_max", "x: float[n, 3, 4, h, w]", "y = GlobalMaxPool(x)"},
    // Resize.
    {"resize_nearest", kImage,
     "s: float[4] = const {1.0, 1.0, 2.0, 2.0}\n y = Resize(x, _, s) {coordinate_transformation_mode=\"asymmetric\", nearest_mode=\"floor\"}"},
    {"resize_nearest_half_pixel", kImage, "s: float[4] = const {1.0, 1.0, 3.0, 0.5}\n y = Resize(x, _, s)"},
    {"resize_linear", kImage, "s: float[4] = const {1.0, 1.0, 2.0, 1.5}\n y = Resize(x, _, s) {mode=\"linear\"}"},
    {"resize_linear_align", kImage,
     "z: int64[4] = const {2, 3, 11, 4}\n y = Resize(x, _, _, z) {mode=\"linear\", coordinate_transformation_mode=\"align_corners\"}"},
    {"resize_linear_align_fraction", "x: float[1, 2, 5, 4]",
     "s: float[4] = const {1.0, 1.0, 0.5, 1.2}\n y = Resize(x, _, s) {mode=\"linear\", coordinate_transformation_mode=\"align_corners\"}"},
    {"resize_nearest_align_fraction", "x: float[n, 2, h, 7]",
     "s: float[4] = const {1.0, 1.0, 1.5, 0.6}\n y = Resize(x, _, s) {coordinate_transformation_mode=\"align_corners\"}"},
    {"resize_nearest_same_extent", "x: float[1, 2, 4, 3]",
     "s: float[4] = const {1.0, 1.0, 1.2, 1.25}\n y = Resize(x, _, s) {coordinate_transformation_mode=\"asymmetric\", nearest_mode=\"floor\"}"},
    {"resize_linear_pytorch", kImage,
     "z: int64[2] = const {14, 1}\n y = Resize(x, _, _, z) {mode=\"linear\", coordinate_transformation_mode=\"pytorch_half_pixel\", axes=[2, 3]}"},
    {"resize_run_time_scales", "x: float[1, 2, 4, 3]",
     "c: float[4] = const {1.0, 1.0, 0.6, 1.2}\n s = Identity(c)\n y: float[1, 2, 2, 3] = Resize(x, _, s) {mode=\"linear\"}", "only a run tells"},
    {"resize_cubic", kImage, "s: float[4] = const {1.0, 1.0, 2.0, 2.0}\n y = Resize(x, _, s) {mode=\"cubic\"}"},
    {"resize_cubic_smaller", "x: float16[n, 3, h, 9]", "s: float[4] = const {1.0, 1.0, 0.75, 0.5}\n y = Resize(x, _, s) {mode=\"cubic\", cubic_coeff_a=-0.5}"},
    {"resize_cubic_align", kImage,
     "z: int64[4] = const {2, 3, 11, 4}\n y = Resize(x, _, _, z) {mode=\"cubic\", coordinate_transformation_mode=\"align_corners\"}"},
    {"resize_cubic_inside", "x: float[2, h, w]",
     "s: float[3] = const {1.5, 2.0, 0.5}\n y = Resize(x, _, s) {mode=\"cubic\", exclude_outside=1, coordinate_transformation_mode=\"asymmetric\"}"},
    {"resize_cubic_pytorch", "x: double[n, h, w]",
     "z: int64[1] = const {1}\n y = Resize(x, _, _, z) {mode=\"cubic\", coordinate_transformation_mode=\"pytorch_half_pixel\", axes=[1]}"},
    {"resize_cubic_same", kImage, "s: float[4] = const {1.0, 1.0, 1.0, 1.0}\n y = Resize(x, _, s) {mode=\"cubic\"}"},
    {"resize_cubic_integers", "x: int32[n, h]", "s: float[2] = const {1.0, 2.0}\n y = Resize(x, _, s) {mode=\"cubic\"}", "integers"},
    {"resize_antialias", kImage, "s: float[4] = const {1.0, 1.0, 0.5, 0.5}\n y = Resize(x, _, s) {mode=\"linear\", antialias=1}", "antialias"},
    // Data movement, reductions, normalisations: one or two cases each.
    {"transpose", "x: float[n, 3, h, w]", "y = Transpose(x) {perm=[0, 2, 3, 1]}"},
    {"reshape", "x: float[n, 6, h, w]", "t: int64[5] = const {0, 2, 3, -1, 5}\n y = Reshape(x, t)"},
    {"flatten", "x: float[n, 6, h, w]", "y = Flatten(x) {axis=2}"},
    {"squeeze", "x: float[n, 1, h]", "a: int64[1] = const {1}\n y = Squeeze(x, a)"},
    {"unsqueeze", "x: float[n, h]", "a: int64[2] = const {0, -1}\n y = Unsqueeze(x, a)"},
    {"concat", "a: float[n, h], b: float[n, 3], c: float[n, w]", "y = Concat(a, b, c) {axis=1}"},
    {"slice", "x: float[n, 3, h, 5]",
     "b: int64[2] = const {1, -1}\n e: int64[2] = const {7, -9}\n a: int64[2] = const {2, 3}\n s: int64[2] = const {2, -2}\n y = Slice(x, b, e, a, s)"},
    {"gather", "x: float[h, w]", "i: int64[2, 2] = const {0, -1, 3, 2}\n y = Gather(x, i)"},
    {"expand", "x: float[n, 1, w]", "z: int64[3] = const {1, 4, 1}\n y = Expand(x, z)"},
    {"cast", "x: float[n, h]", "y = Cast(x) {to=6}"},
    {"depth_to_space", "x: float[n, 8, h, w]", "y = DepthToSpace(x) {blocksize=2, mode=\"CRD\"}"},
    {"space_to_depth", "x: float[n, 2, 4, 6]", "y = SpaceToDepth(x) {blocksize=2}"},
    {"reduce_mean", "x: float[n, 3, h, w]", "a: int64[2] = const {2, 3}\n y = ReduceMean(x, a) {keepdims=0}"},
    {"reduce_mean_int32", "x: int32[n, 3, h, w]", "a: int64[2] = const {2, 3}\n y = ReduceMean(x, a) {keepdims=0}"},
    {"reduce_mean_int64", "x: int64[n, h]", "a: int64[1] = const {-1}\n y = ReduceMean(x, a)"},
    {"reduce_mean_large", "x: int64[n, h]", "f: int64[] = const {400000000000000000}\n a: int64[1] = const {-1}\n l = Mul(x, f)\n y = ReduceMean(l, a)"},
    {"reduce_mean_uint32", "x: int64[n, h]", "a: int64[1] = const {0}\n u = Cast(x) {to=12}\n y = ReduceMean(u, a)"},
    {"reduce_mean_uint64", "x: int64[n, h]", "a: int64[1] = const {0}\n p = Abs(x)\n u = Cast(p) {to=13}\n y = ReduceMean(u, a)"},
    {"reduce_mean_of_none", "x: int32[n, 0, h]", "a: int64[1] = const {1}\n y = ReduceMean(x, a)"},
    {"reduce_l2_int32", "x: int32[n, h]", "y = ReduceL2(x)"},
    {"reduce_l2_int64", "x: int64[n, h]", "a: int64[1] = const {-1}\n y = ReduceL2(x, a) {keepdims=0}"},
    {"reduce_l2_wraps", "x: int32[n, h]", "f: int32[] = const {90000000}\n a: int64[1] = const {0}\n l = Mul(x, f)\n y = ReduceL2(l, a)"},
    {"reduce_l2_uint32", "x: int64[n, h]", "a: int64[1] = const {0}\n u = Cast(x) {to=12}\n y = ReduceL2(u, a)"},
    {"reduce_l2_uint64", "x: int64[n, h]", "a: int64[1] = const {0}\n p = Abs(x)\n u = Cast(p) {to=13}\n y = ReduceL2(u, a)"},
    {"reduce_max", "x: int32[n, 3, h, w]", "a: int64[1] = const {-1}\n y = ReduceMax(x, a)"},
    {"reduce_l2", "x: float[n, h]", "y = ReduceL2(x)"},
    {"arg_max", "x: float[n, h]", "y = ArgMax(x) {axis=1, keepdims=0}"},
    {"softmax", "x: float[n, h, w]", "y = Softmax(x) {axis=1}"},
    {"log_softmax", "x: float[n, h]", "y = LogSoftmax(x)"},
    {"layer_norm", "x: float[n, h, 8], s: float[8], b: float[8]", "y = LayerNormalization(x, s, b)"},
    {"instance_norm", "x: float[n, 3, h, w], s: float[3], b: float[3]", "y = InstanceNormalization(x, s, b)"},
    {"batch_norm", "x: float[n, 3, h, w], s: float[3], b: float[3], m: float[3]",
     "v: float[3] = const {0.5, 1.0, 2.5}\n y = BatchNormalization(x, s, b, m, v)"},
    {"batch_norm_training", "x: float[n, 3, h, w], s: float[3], b: float[3], m: float[3]",
     "v: float[3] = const {0.5, 1.0, 2.5}\n z, k, q = BatchNormalization(x, s, b, m, v) {training_mode=1, momentum=0.8}\n"
     " a: int64[2] = const {1, 2}\n t = Unsqueeze(k, a)\n u = Unsqueeze(q, a)\n w0 = Add(z, t)\n y = Add(w0, u)"},
    {"batch_norm_training_flat", "x: double[h], s: double[1], b: double[1], m: double[1]",
     "v: double[1] = const {0.5}\n z, k, q = BatchNormalization(x, s, b, m, v) {training_mode=1}\n w0 = Sub(z, k)\n y = Mul(w0, q)"},
    // Recurrences have no lowering; their inference and run must agree.
    {"lstm", "x: float[t, n, 5], w0: float[2, 12, 5], r: float[2, 12, 3]", "y = LSTM(x, w0, r) {hidden_size=3, direction=\"bidirectional\"}", kNone},
    {"gru", "x: float[t, n, 5], w0: float[1, 9, 5], r: float[1, 9, 3]", "y = GRU(x, w0, r) {hidden_size=3, direction=\"reverse\"}", kNone},
    {"rnn", "x: float[n, t, 5], w0: float[1, 3, 5], r: float[1, 3, 3]", "y = RNN(x, w0, r) {hidden_size=3, layout=1}", kNone},
    // Pads, products by letters, samples.
    {"pad_constant", kImage, "p: int64[8] = const {0, 0, 1, 2, 0, 1, 0, 3}\n v: float[] = const {1.5}\n y = Pad(x, p, v)"},
    {"pad_negative", kImage, "p: int64[8] = const {0, 0, -1, 2, 0, -1, 3, -2}\n y = Pad(x, p)"},
    {"pad_axes", kImage, "p: int64[4] = const {1, 2, 0, 3}\n a: int64[2] = const {-1, 2}\n y = Pad(x, p, _, a)"},
    {"pad_edge", "x: float[2, 3, 7, 5]", "p: int64[8] = const {0, 1, 3, 2, 0, 0, 9, -2}\n y = Pad(x, p) {mode=\"edge\"}"},
    {"pad_reflect", "x: float[2, 7, 5]", "p: int64[6] = const {0, 3, 9, 0, -2, 11}\n y = Pad(x, p) {mode=\"reflect\"}"},
    {"pad_reflect_one", "x: float[2, 1]", "p: int64[4] = const {0, 3, 0, 2}\n y = Pad(x, p) {mode=\"reflect\"}"},
    {"pad_wrap", "x: float[2, 7, 5]", "p: int64[6] = const {0, 8, -1, 0, 2, 11}\n y = Pad(x, p) {mode=\"wrap\"}"},
    {"pad_int8", "x: int8[3, n]", "p: int64[4] = const {1, 1, 1, 1}\n y = Pad(x, p)"},
    {"pad_maybe_empty", kImage, "p: int64[8] = const {0, 0, -1, 1, 0, 0, 1, 1}\n y = Pad(x, p) {mode=\"edge\"}", "may be empty"},
    {"center_crop_pad", kImage, "s: int64[2] = const {4, 8}\n y = CenterCropPad(x, s) {axes=[2, 3]}"},
    {"einsum_matmul", "a: float[h, 6], b: float[6, w]", "y = Einsum(a, b) {equation=\"ij,jk->ik\"}"},
    {"einsum_heads", "a: float[n, h, 3, 4], b: float[n, w, 3, 4]", "y = Einsum(a, b) {equation=\"bqhd,bkhd->bhqk\"}"},
    {"einsum_ellipsis", "a: float[n, 1, h, 4], b: float[3, 4, w]", "y = Einsum(a, b) {equation=\"...ij,...jk->...ik\"}"},
    {"einsum_diagonal", "a: float[4, 4, n]", "y = Einsum(a) {equation=\"iij->ji\"}"},
    {"einsum_trace", "a: float[4, 4]", "y = Einsum(a) {equation=\"ii\"}"},
    {"einsum_three", "a: float[3, 4], b: float[4, 5], c: float[5]", "y = Einsum(a, b, c) {equation=\"ab,bc,c->a\"}"},
    {"einsum_implicit", "a: float[3, 4], b: float[3, 4]", "y = Einsum(a, b) {equation=\"ba,ba\"}"},
    {"einsum_int", "a: int32[3, 4], b: int32[4, 5]", "y = Einsum(a, b) {equation=\"ij,jk\"}"},
    {"grid_sample", "x: float[n, 3, 7, 5], g: float[n, h, w, 2]", "y = GridSample(x, g)"},
    {"grid_sample_border", "x: float[n, 3, 7, 5], g: float[n, h, w, 2]", "y = GridSample(x, g) {padding_mode=\"border\", align_corners=1}"},
    {"grid_sample_reflection", "x: float[n, 3, 7, 5], g: float[n, h, w, 2]", "y = GridSample(x, g) {padding_mode=\"reflection\"}"},
    {"grid_sample_corners", "x: float[n, 3, 7, 1], g: float[n, h, w, 2]", "y = GridSample(x, g) {padding_mode=\"reflection\", align_corners=1}"},
    {"grid_sample_cubic", "x: float[n, 2, 7, 5], g: float[n, h, w, 2]", "y = GridSample(x, g) {mode=\"cubic\", padding_mode=\"reflection\"}"},
    {"grid_sample_cubic_zeros", "x: float[n, 2, 7, 5], g: float[n, h, w, 2]", "y = GridSample(x, g) {mode=\"cubic\", align_corners=1}"},
    {"grid_sample_nearest", "x: float[n, 3, 7, 5], g: float[n, h, w, 2]", "y = GridSample(x, g) {mode=\"nearest\"}"},
    {"grid_sample_3d", "x: float[1, 2, 3, 4, 5], g: float[1, 2, h, w, 3]", "y = GridSample(x, g) {padding_mode=\"border\"}"},
    {"affine_grid", "t: float[n, 2, 3]", "s: int64[4] = const {2, 3, 4, 5}\n y = AffineGrid(t, s)"},
    {"affine_grid_fixed", "t: float[2, 2, 3]", "s: int64[4] = const {2, 3, 4, 5}\n y = AffineGrid(t, s)"},
    {"affine_grid_3d", "t: float[2, 3, 4]", "s: int64[5] = const {2, 3, 4, 5, 1}\n y = AffineGrid(t, s) {align_corners=1}"},
    {"col2im", "x: float[n, 12, 9]", "i: int64[2] = const {4, 4}\n b: int64[2] = const {2, 2}\n y = Col2Im(x, i, b)"},
    {"col2im_strided", "x: float[n, 18, 6]",
     "i: int64[2] = const {7, 6}\n b: int64[2] = const {3, 2}\n y = Col2Im(x, i, b) {strides=[3, 2], pads=[1, 0, 0, 0], dilations=[1, 1]}"},
    // Quantised.
    {"quantize", kImage, "s: float[] = const {0.03125}\n z: uint8[] = const {120}\n y = QuantizeLinear(x, s, z)"},
    {"quantize_axis", "x: float[n, 3, h]",
     "s: float[3] = const {0.03125, 0.5, 0.015625}\n z: int8[3] = const {1, -7, 100}\n y = QuantizeLinear(x, s, z) {axis=1}"},
    {"quantize_block", "x: float[2, 6]",
     "s: float[2, 3] = const {0.03125, 0.5, 0.015625, 1.0, 2.0, 0.25}\n y = QuantizeLinear(x, s) {axis=1, block_size=2, output_dtype=5}"},
    {"quantize_half", "x: float16[n, 8]", "s: float16[] = const {0.03}\n y = QuantizeLinear(x, s) {output_dtype=3}"},
    {"dequantize", "x: uint8[n, 3, h]", "s: float[] = const {0.03}\n z: uint8[] = const {120}\n y = DequantizeLinear(x, s, z)"},
    {"dequantize_axis", "x: int8[n, 3, h]", "s: float[3] = const {0.03, 0.5, 0.01}\n y = DequantizeLinear(x, s)"},
    {"dequantize_int32", "x: int32[n, 3]", "s: float[3] = const {0.03, 0.5, 0.01}\n z: int32[3] = const {0, 0, 0}\n y = DequantizeLinear(x, s, z)"},
    {"dequantize_block", "x: int8[2, 6]", "s: float16[2, 2] = const {0.5, 1.0, 2.0, 0.25}\n y = DequantizeLinear(x, s) {axis=1, block_size=3}"},
    {"dynamic_quantize", "x: float[7, 5]", "q, s, z = DynamicQuantizeLinear(x)\n y = DequantizeLinear(q, s, z)"},
    {"matmul_integer", "a: uint8[h, 9], b: int8[9, w]", "y = MatMulInteger(a, b)"},
    {"matmul_integer_zero", "a: uint8[h, 9], b: uint8[9, 4], p: uint8[], q: uint8[4]", "y = MatMulInteger(a, b, p, q)"},
    {"matmul_integer_stack", "a: int8[n, h, 9], b: int8[9, w], p: int8[]", "y = MatMulInteger(a, b, p)"},
    {"conv_integer", "x: uint8[n, 4, h, w], k: int8[6, 4, 3, 3]", "y = ConvInteger(x, k) {pads=[1, 1, 1, 1]}"},
    {"conv_integer_zero", "x: uint8[n, 4, h, w], k: uint8[6, 2, 3, 3], p: uint8[], q: uint8[6]", "y = ConvInteger(x, k, p, q) {group=2}"},
    {"conv_integer_strided", "x: uint8[n, 4, h, w], k: uint8[6, 4, 2, 3], p: uint8[]", "y = ConvInteger(x, k, p) {strides=[2, 1], pads=[0, 1, 1, 1]}"},
    {"matmul_integer_rows", "a: uint8[n, h, 9], b: int8[n, 9, w], p: uint8[h], q: int8[n, 1, w]", "y = MatMulInteger(a, b, p, q)"},
    {"matmul_integer_depth", "a: uint8[t, h], b: int8[h, t], p: uint8[1]", "y = MatMulInteger(a, b, p)"},
    {"matmul_integer_vectors", "a: uint8[h], b: int8[n, h, w], p: uint8[]", "y = MatMulInteger(a, b, p)"},
    {"conv_integer_same", "x: int8[n, 4, 9], k: int8[8, 2, 3], p: int8[1]",
     "y = ConvInteger(x, k, p) {auto_pad=\"SAME_UPPER\", group=2, strides=[2], dilations=[2]}"},
    {"conv_integer_same_open", "x: int8[n, 4, w], k: int8[8, 4, 3]", "y = ConvInteger(x, k) {auto_pad=\"SAME_UPPER\"}", "SAME"},
    {"qlinear_matmul", "a: uint8[h, 9], b: int8[9, w]",
     "s: float[] = const {0.02}\n z: uint8[] = const {7}\n v: int8[] = const {-3}\n y = QLinearMatMul(a, s, z, b, s, v, s, z)", kNone},
    {"qlinear_matmul_axis", "a: uint8[h, 9], b: int8[9, 3]",
     "s: float[] = const {0.02}\n t: float[3] = const {0.02, 0.1, 0.01}\n z: uint8[] = const {7}\n v: int8[3] = const {-3, 0, 5}\n"
     " y = QLinearMatMul(a, s, z, b, t, v, s, z)",
     kNone},
    {"qlinear_matmul_stack", "a: int8[n, h, 9], b: int8[n, 9, 2]",
     "s: float[] = const {0.02}\n z: int8[] = const {7}\n y = QLinearMatMul(a, s, z, b, s, z, s, z)", kNone},
    {"qlinear_conv", "x: uint8[n, 4, h, w], k: int8[6, 4, 3, 3], b: int32[6]",
     "s: float[] = const {0.02}\n z: uint8[] = const {7}\n v: int8[] = const {-3}\n y = QLinearConv(x, s, z, k, s, v, s, z, b) {pads=[1, 1, 1, 1]}", kNone},
    {"qlinear_conv_channels", "x: uint8[n, 4, h, w], k: int8[3, 4, 1, 1]",
     "s: float[] = const {0.02}\n t: float[3] = const {0.02, 0.1, 0.01}\n z: uint8[] = const {7}\n v: int8[3] = const {-3, 0, 2}\n"
     " y = QLinearConv(x, s, z, k, t, v, s, z)",
     kNone},
    {"qlinear_conv_grouped", "x: int8[n, 4, h, w], k: int8[4, 1, 3, 3]",
     "s: float[] = const {0.02}\n z: int8[] = const {7}\n y = QLinearConv(x, s, z, k, s, z, s, z) {group=4, strides=[2, 2]}", kNone},
    // Losses, windows, positions.
    {"likelihood_loss", "x: float[4, 5, 3]",
     "t: int64[4, 3] = const {0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1}\n y = NegativeLogLikelihoodLoss(x, t) {ignore_index=2}"},
    {"likelihood_loss_weights", "x: float[4, 5], w: float[5]",
     "t: int64[4] = const {0, 3, 2, 1}\n y = NegativeLogLikelihoodLoss(x, t, w) {reduction=\"none\"}"},
    {"entropy_loss", "x: float[4, 5, 3], w: float[5]",
     "t: int32[4, 3] = const {0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1}\n y = SoftmaxCrossEntropyLoss(x, t, w) {reduction=\"sum\", ignore_index=-1}"},
    {"entropy_loss_mean", "x: float[4, 5]", "t: int64[4] = const {0, 3, 2, 1}\n l, p = SoftmaxCrossEntropyLoss(x, t)\n y = Add(l, p)"},
    {"hann_window", "x: float[1]", "s: int64[] = const {13}\n w = HannWindow(s)\n y = Mul(w, x)"},
    {"blackman_window", "x: float[1]", "s: int64[] = const {8}\n w = BlackmanWindow(s) {periodic=0}\n y = Mul(w, x)"},
    {"rotary", "x: float[n, 2, h, 8], c: float[n, h, 4], s: float[n, h, 4]", "y = RotaryEmbedding(x, c, s)"},
    {"rotary_interleaved", "x: float[n, 2, h, 8], c: float[n, h, 4], s: float[n, h, 4]", "y = RotaryEmbedding(x, c, s) {interleaved=1}"},
    {"rotary_partial", "x: float[2, 3, 16], c: float[9, 2], s: float[9, 2]",
     "p: int64[2, 3] = const {0, 3, 8, 1, 1, 2}\n y = RotaryEmbedding(x, c, s, p) {num_heads=2, rotary_embedding_dim=4}"},
    {"causal_conv", "x: float[n, 3, h], k: float[3, 1, 4], b: float[3], p: float[n, 3, 3]", "y, q = CausalConvWithState(x, k, b, p) {activation=\"silu\"}"},
    // Elements picked and placed by index, running sums, small matrices.
    {"gather_nd", "x: float[h, w, 3], r: int64[n, 4, 2]", "m: int64[2] = const {7, 5}\n i = Mod(r, m)\n y = GatherND(x, i)"},
    {"gather_nd_negative", "x: float16[7, 5, 3]", "i: int64[3, 2] = const {-7, -1, 6, 4, 0, -5}\n y = GatherND(x, i)"},
    {"gather_nd_batch", "x: int32[n, h, 6], r: int64[n, 3, 1]", "m: int64[] = const {7}\n i = Mod(r, m)\n y = GatherND(x, i) {batch_dims=1}"},
    {"gather_nd_whole", "x: bfloat16[n, 3]", "i: int64[4, 2] = const {0, 0, 1, 2, -1, -3, 0, 1}\n y = GatherND(x, i)"},
    {"gather_nd_empty", "x: float[7, 5], i: int64[0, 1]", "y = GatherND(x, i)"},
    {"one_hot", "i: int64[n, h]", "d: int64[] = const {9}\n v: float[2] = const {-1.5, 4.0}\n y = OneHot(i, d, v)"},
    {"one_hot_axis", "i: int32[n, h], v: float16[2]", "d: int64[1] = const {20}\n y = OneHot(i, d, v) {axis=-2}"},
    {"one_hot_float", "i: float[h]", "d: float[] = const {3.0}\n v: int8[2] = const {0, 1}\n y = OneHot(i, d, v) {axis=0}"},
    {"one_hot_symbol", "i: int64[h], x: float[n, w]",
     "z = Shape(x)\n o: int64[1] = const {1}\n d = Gather(z, o)\n v: int64[2] = const {0, 1}\n y = OneHot(i, d, v)"},
    {"one_hot_none", "i: int64[0, w]", "d: int64[] = const {4}\n v: float[2] = const {0.0, 1.0}\n y = OneHot(i, d, v)"},
    {"reverse_sequence", "x: float[h, 4, w]", "l: int64[4] = const {7, 1, 0, 3}\n y = ReverseSequence(x, l)"},
    {"reverse_sequence_rows", "x: uint8[t, h], r: int64[t]", "m: int64[] = const {8}\n l = Mod(r, m)\n y = ReverseSequence(x, l) {batch_axis=0, time_axis=-1}"},
    {"eye_like", "x: float[h, w]", "y = EyeLike(x)"},
    {"eye_like_off", "x: int32[w, 9]", "y = EyeLike(x) {k=-2, dtype=10}"},
    {"eye_like_empty", "x: bool[0, 3]", "y = EyeLike(x) {k=1, dtype=9}"},
    {"cum_sum", "x: float[n, 9, w]", "a: int64[] = const {-2}\n y = CumSum(x, a)"},
    {"cum_sum_exclusive", "x: int32[n, 9]", "a: int32[] = const {1}\n y = CumSum(x, a) {exclusive=1}"},
    {"cum_sum_reverse", "x: float16[n, 64]", "a: int64[1] = const {1}\n y = CumSum(x, a) {reverse=1}"},
    {"cum_sum_both", "x: int64[33, w]", "a: int64[] = const {0}\n y = CumSum(x, a) {reverse=1, exclusive=1}"},
    {"cum_sum_symbol", "x: float[n, h, w]", "a: int64[] = const {1}\n y = CumSum(x, a)"},
    {"cum_sum_blocks", "x: float[n, 199, 3]", "a: int64[] = const {1}\n y = CumSum(x, a)"},
    {"cum_sum_blocks_exclusive", "x: int64[n, 160]", "a: int64[] = const {1}\n y = CumSum(x, a) {exclusive=1}"},
    {"cum_sum_blocks_reverse", "x: uint32[n, 65]", "a: int64[] = const {1}\n y = CumSum(x, a) {reverse=1}"},
    {"cum_sum_blocks_both", "x: float[2, 100]", "a: int64[] = const {1}\n y = CumSum(x, a) {reverse=1, exclusive=1}"},
    {"cum_sum_empty", "x: float[0, h]", "a: int64[] = const {0}\n y = CumSum(x, a)"},
    {"cum_sum_long", "x: float[n, 100000]", "a: int64[] = const {1}\n y = CumSum(x, a)", "long"},
    {"cum_sum_axis", "x: float[3, 4], a: int64[]", "o: int64[] = const {2}\n m = Mod(a, o)\n y = CumSum(x, m)", "axis"},
    {"cum_prod", "x: float[n, 6, w]", "a: int64[] = const {1}\n y = CumProd(x, a)"},
    {"cum_prod_reverse", "x: int32[n, w]", "a: int64[] = const {-1}\n y = CumProd(x, a) {reverse=1, exclusive=1}"},
    {"det_one", "x: float[n, 1, 1]", "y = Det(x)"},
    {"det_two", "x: float[n, h, 2, 2]", "y = Det(x)"},
    {"det_three", "x: float16[h, 3, 3]", "y = Det(x)"},
    {"det_four", "x: double[4, 4]", "y = Det(x)"},
    {"det_five", "x: float[5, 5]", "y = Det(x)", "4 rows"},
    // Scatters: constant slices in closed form, few updates one by one, more by a reduction.
    {"crop_and_resize", "x: float[n, 3, h, w], r: float[6, 4], m: int32[6]",
     "k: int32[] = const {2}\n i = Mod(m, k)\n s: float[] = const {0.5}\n b = Mul(r, s)\n z: int32[2] = const {4, 3}\n y = com.microsoft::CropAndResize(x, b, "
     "i, z) "
     "{extrapolation_value=0.25}"},
    {"crop_and_resize_nearest", "x: float[2, 3, 7, 5], r: float[t, 4]",
     "i: int32[4] = const {0, 1, 1, 0}\n s: float[] = const {0.25}\n b = Mul(r, s)\n z: int32[2] = const {1, 5}\n y = com.microsoft::CropAndResize(x, b, i, z) "
     "{mode=\"nearest\"}"},
    {"crop_and_resize_sizes", "x: float[2, 3, 7, 5], r: float[2, 4], z: int32[2]",
     "i: int32[2] = const {0, 1}\n k: int32[] = const {3}\n m = Mod(z, k)\n c = Add(m, k)\n y = com.microsoft::CropAndResize(x, r, i, c)", "run time"},
    {"inverse", "x: float[n, 4, 4]", "y = com.microsoft::Inverse(x)"},
    {"inverse_3", "x: double[n, h, 3, 3]", "y = com.microsoft::Inverse(x)"},
    {"inverse_2", "x: float16[2, 2]", "y = com.microsoft::Inverse(x)"},
    {"inverse_1", "x: float[w, 1, 1]", "y = com.microsoft::Inverse(x)"},
    {"inverse_5", "x: float[n, 5, 5]", "y = com.microsoft::Inverse(x)", "4 rows"},
    {"scatter_slice", "x: float[7, w], u: float[3, w]", "i: int64[3, 1] = const {1, 3, 5}\n y = ScatterND(x, i, u)"},
    {"scatter_slice_back", "x: int32[7, 5], u: int32[2, 3]", "i: int64[2, 3, 2] = const {-1, 4, -1, 3, -1, 2, 4, 4, 4, 3, 4, 2}\n y = ScatterND(x, i, u)"},
    {"scatter_slice_add", "x: float16[7, 5, w], u: float16[2, 1, w]", "i: int64[2, 1, 2] = const {0, 2, 6, 2}\n y = ScatterND(x, i, u) {reduction=\"add\"}"},
    {"scatter_nd", "x: float[7, 5, w], r: int64[4, 2], u: float[4, w]", "m: int64[2] = const {7, 5}\n i = Mod(r, m)\n y = ScatterND(x, i, u)"},
    {"scatter_nd_twice", "x: float[4, w], u: float[5, w]", "i: int64[5, 1] = const {1, -3, 0, 1, -1}\n y = ScatterND(x, i, u)"},
    {"scatter_nd_last", "x: float[3, 2], r: int64[5, 7, 2], u: float[5, 7]", "m: int64[2] = const {3, 2}\n i = Mod(r, m)\n y = ScatterND(x, i, u)"},
    {"scatter_nd_add", "x: float[5], r: int64[20, 1], u: float[20]", "m: int64[] = const {5}\n i = Mod(r, m)\n y = ScatterND(x, i, u) {reduction=\"add\"}"},
    {"scatter_nd_mul", "x: int8[9, 2], r: int64[20, 1], u: int8[20, 2]", "m: int64[] = const {9}\n i = Mod(r, m)\n y = ScatterND(x, i, u) {reduction=\"mul\"}"},
    {"scatter_nd_max", "x: bfloat16[9], r: int64[20, 1], u: bfloat16[20]",
     "m: int64[] = const {9}\n i = Mod(r, m)\n y = ScatterND(x, i, u) {reduction=\"max\"}"},
    {"scatter_nd_min", "x: int64[9], r: int64[20, 1], u: int64[20]", "m: int64[] = const {9}\n i = Mod(r, m)\n y = ScatterND(x, i, u) {reduction=\"min\"}"},
    {"scatter_nd_bool", "x: bool[9], r: int64[12, 1], u: bool[12]", "m: int64[] = const {9}\n i = Mod(r, m)\n y = ScatterND(x, i, u) {reduction=\"mul\"}"},
    {"scatter_nd_bool_few", "x: bool[9], r: int64[4, 1], u: bool[4]", "m: int64[] = const {9}\n i = Mod(r, m)\n y = ScatterND(x, i, u) {reduction=\"add\"}"},
    {"scatter_nd_none", "x: float[3, w], i: int64[0, 1], u: float[0, w]", "y = ScatterND(x, i, u)"},
    {"scatter_nd_whole", "x: float[3, w], u: float[2, 3, w]", "i: int64[2, 0] = const {}\n y = ScatterND(x, i, u)"},
    {"scatter_nd_many", "x: float[3, w], r: int64[100, 1], u: float[100, w]", "m: int64[] = const {3}\n i = Mod(r, m)\n y = ScatterND(x, i, u)", "many"},
    {"scatter_nd_symbol", "x: float[3, w], r: int64[n, 1], u: float[n, w]", "m: int64[] = const {3}\n i = Mod(r, m)\n y = ScatterND(x, i, u)", "run time"},
    {"scatter_elements", "x: float[n, h, w], r: int64[n, 3, w], u: float[n, 3, w]",
     "m: int64[] = const {7}\n i = Mod(r, m)\n y = ScatterElements(x, i, u) {axis=1}"},
    {"scatter_elements_part", "x: float[h, w], r: int32[3, 4], u: float[3, 4]",
     "m: int32[] = const {5}\n i = Mod(r, m)\n y = ScatterElements(x, i, u) {axis=-1, reduction=\"add\"}"},
    {"scatter_elements_line", "x: int16[n, 7], u: int16[2, 3]", "i: int64[2, 3] = const {-1, 4, 2, -1, 4, 2}\n y = ScatterElements(x, i, u) {axis=1}"},
    {"scatter_elements_line_mul", "x: float[4, w], u: float[2, 5]",
     "i: int64[2, 5] = const {1, 1, 1, 1, 1, 2, 2, 2, 2, 2}\n y = ScatterElements(x, i, u) {axis=0, reduction=\"mul\"}"},
    {"scatter_elements_last", "x: float16[4, 6], r: int64[4, 31], u: float16[4, 31]",
     "m: int64[] = const {6}\n i = Mod(r, m)\n y = ScatterElements(x, i, u) {axis=1}"},
    {"scatter_elements_max", "x: float[3, 6], r: int64[2, 31], u: float[2, 31]",
     "m: int64[] = const {6}\n i = Mod(r, m)\n y = ScatterElements(x, i, u) {axis=1, reduction=\"max\"}"},
    {"scatter_elements_uint8", "x: uint8[6], r: int64[31], u: uint8[31]",
     "m: int64[] = const {6}\n i = Mod(r, m)\n y = ScatterElements(x, i, u) {reduction=\"min\"}"},
    {"scatter_elements_rows", "x: float[n, h], r: int64[n, 20], u: float[n, 20]",
     "m: int64[] = const {7}\n i = Mod(r, m)\n y = ScatterElements(x, i, u) {axis=1}"},
    {"scatter_elements_symbol", "x: float[h], r: int64[h], u: float[h]", "m: int64[] = const {7}\n i = Mod(r, m)\n y = ScatterElements(x, i, u)", "run time"},
    {"tensor_scatter", "x: float[n, 3, h, w], u: float[n, 3, 2, w]", "s: int64[2] = const {0, 5}\n y = TensorScatter(x, u, s)"},
    {"tensor_scatter_circular", "x: float16[n, h, w], u: float16[n, t, w], s: int64[n]", "y = TensorScatter(x, u, s) {mode=\"circular\", axis=1}"},
    {"tensor_scatter_start", "x: int32[2, h], u: int32[2, 3]", "y = TensorScatter(x, u) {axis=-1}"},
    {"roi_align", "x: float[n, 3, h, w]",
     "r: float[3, 4] = const {0.5, 1.0, 4.0, 6.5, -3.0, -2.0, 9.0, 8.0, 1.0, 1.0, 1.2, 5.0}\n i: int64[3] = const {1, 0, 1}\n"
     " y = RoiAlign(x, r, i) {output_height=3, output_width=2, sampling_ratio=2}"},
    {"roi_align_scaled", "x: float16[2, 3, 9, 8], r: float16[4, 4]",
     "i: int64[4] = const {1, 0, 1, 1}\n y = RoiAlign(x, r, i) {output_height=2, output_width=3, sampling_ratio=3, spatial_scale=2.5, "
     "coordinate_transformation_mode=\"output_half_pixel\"}"},
    {"roi_align_max", "x: float[2, 3, h, w], r: float[n, 4], b: int64[n]",
     "m: int64[] = const {2}\n i = Mod(b, m)\n y = RoiAlign(x, r, i) {output_height=2, output_width=2, sampling_ratio=2, mode=\"max\", spatial_scale=2.0}"},
    {"roi_align_none", "x: float[2, 3, h, w], r: float[0, 4], i: int64[0]", "y = RoiAlign(x, r, i) {sampling_ratio=2}"},
    {"roi_align_adaptive", "x: float[2, 3, h, w], r: float[n, 4]", "i: int64[2] = const {1, 0}\n y = RoiAlign(x, r, i)", "boxes"},
    {"max_roi_pool", "x: float[n, 3, 7, 5]",
     "r: float[4, 5] = const {1.0, 0.0, 0.0, 3.0, 6.0, 0.0, -2.5, 1.5, 9.0, 4.0, 1.0, 7.0, 9.0, 8.0, 9.0, 0.0, 2.0, 2.0, 2.0, 2.0}\n"
     " y = MaxRoiPool(x, r) {pooled_shape=[3, 2]}"},
    {"max_roi_pool_scaled", "x: float16[1, 3, 9, 8], r: float16[n, 5]",
     "z: float16[5] = const {0.0, 1.0, 1.0, 1.0, 1.0}\n s = Mul(r, z)\n y = MaxRoiPool(x, s) {pooled_shape=[2, 3], spatial_scale=1.5}"},
    {"max_roi_pool_large", "x: float[n, 3, h, w], r: float[1, 5]",
     "z: float[5] = const {0.0, 1.0, 1.0, 1.0, 1.0}\n s = Mul(r, z)\n"
     " y = MaxRoiPool(x, s) {pooled_shape=[2, 3]}",
     "large"},
    {"bit_cast", "x: int32[n, h]", "y = BitCast(x) {to=12}"},
    {"bit_cast_narrow", "x: uint8[n, h]", "y = BitCast(x) {to=3}"},
    {"bit_cast_float", "x: float[n, h]", "y = BitCast(x) {to=6}", "bits"},
    // One step of an optimiser.
    {"adagrad", "r: float[], s: int64[], x: float[n, w], g: float[n, w], q: float[n, w]",
     "p = Abs(q)\n t = Abs(s)\n y, h = \"ai.onnx.preview.training\"::Adagrad(r, t, x, g, p) {norm_coefficient=0.01, decay_factor=0.1, epsilon=0.001}"},
    {"adagrad_state", "r: float[1], x: double[w], z: double[n], g: double[w], f: double[n], q: double[w], c: double[n]",
     "t: int64[1] = const {0}\n p = Abs(q)\n d = Abs(c)\n u, v, o, y = \"ai.onnx.preview.training\"::Adagrad(r, t, x, z, g, f, p, d) {epsilon=0.001}"},
    {"adam", "r: float[], x: float[n, w], g: float[n, w], v: float[n, w], q: float[n, w]",
     "t: int64[] = const {9}\n p = Abs(q)\n y, m, k = \"ai.onnx.preview.training\"::Adam(r, t, x, g, v, p) {norm_coefficient=0.01, norm_coefficient_post=0.02, "
     "epsilon=0.001}"},
    {"adam_first", "r: double[], x: float[w], g: float[w], v: float[w], q: float[w]",
     "t: int64[] = const {0}\n p = Abs(q)\n k, m, y = \"ai.onnx.preview.training\"::Adam(r, t, x, g, v, p)"},
    {"momentum", "r: float[], s: int64[], x: float[n, w], g: float[n, w], v: float[n, w]",
     "t = Abs(s)\n y, k = \"ai.onnx.preview.training\"::Momentum(r, t, x, g, v) {alpha=0.9, beta=0.5, mode=\"standard\", norm_coefficient=0.01}"},
    {"momentum_nesterov", "r: float[], x: float[w], g: float[w], v: float[w]",
     "t: int64[] = const {0}\n y, k = \"ai.onnx.preview.training\"::Momentum(r, t, x, g, v) {alpha=0.9, beta=0.5, mode=\"nesterov\", norm_coefficient=0.0}"},
    {"deform_conv", "x: float[n, 4, h, w], k: float[3, 4, 3, 3], o: float[n, 18, h, w]", "y = DeformConv(x, k, o) {pads=[1, 1, 1, 1]}"},
    {"deform_conv_masked", "x: float[2, 4, 6, 5], k: float[6, 2, 2, 3], o: float[2, 24, 3, 3], b: float[6], m: float[2, 12, 3, 3]",
     "y = DeformConv(x, k, o, b, m) {group=2, offset_group=2, strides=[2, 1], pads=[0, 0, 1, 0]}"},
    {"deform_conv_line", "x: float16[1, 2, 9], k: float16[2, 2, 3], o: float16[1, 3, 5]", "y = DeformConv(x, k, o) {dilations=[2]}"},
    {"causal_conv_state", "x: float[n, 3, 2], k: float[3, 1, 4], p: float[n, 3, 3]", "o, y = CausalConvWithState(x, k, _, p)"},
};

}  // namespace lathe::ops::testing
