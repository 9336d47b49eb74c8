// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Per-channel scale and shift into weights. Layouts of the output channel:
//   Conv           W[c, ...]                    ConvTranspose  W[in, c within its group, ...]
//   Gemm, transB   B[c, k]      else B[k, c]    MatMul         W[..., k, c]

#include "passes/channel_fold.h"

#include <cmath>

#include "ops/quantize/whole_numbers.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

constexpr std::size_t kSharedCopyLimit = 64 * 1024;  // bytes of a shared weight that may be copied for one user

bool is_plain_float(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kFloat16 || dtype == DType::kBFloat16; }

bool weight_may_change(const Value* weight) {
  return is_constant(weight) && is_plain_float(weight->dtype()) && (weight->uses.size() == 1 || weight->constant.bytes() <= kSharedCopyLimit);
}

// Which channel element `i` of the weight belongs to.
struct ChannelIndex {
  std::int64_t inner = 1;       // elements per channel step
  std::int64_t channels = 1;    // channels along that axis
  std::int64_t outer_step = 0;  // ConvTranspose: rows per group
  std::int64_t operator()(std::int64_t i) const {
    const std::int64_t along = (i / inner) % channels;
    if (outer_step == 0) return along;
    const std::int64_t row = i / (inner * channels);
    return row / outer_step * channels + along;
  }
};

ChannelIndex channel_index(const Node& node) {
  const Dims& dims = node.inputs[1]->constant.dims();
  ChannelIndex index;
  std::size_t axis = 0;
  if (node.is("ConvTranspose")) {
    axis = 1;
    index.outer_step = dims[0] / node.attrs.get_int("group", 1);
  } else if (node.is("Gemm")) {
    axis = node.attrs.get_int("transB", 0) != 0 ? 0 : 1;
  } else if (node.is("MatMul")) {
    axis = dims.size() - 1;
  }
  index.channels = dims[axis];
  for (std::size_t i = axis + 1; i < dims.size(); ++i) index.inner *= dims[i];
  return index;
}

// Elements of Gemm's C as one per column.
std::optional<std::vector<double>> bias_of(const Node& node, std::int64_t channels) {
  const Value* bias = node.input(2);
  if (!bias) return std::vector<double>(static_cast<std::size_t>(channels), 0.0);
  if (!is_constant(bias) || !is_plain_float(bias->dtype())) return std::nullopt;
  const Tensor& tensor = bias->constant;
  // [channels], [1, channels] or a single number; a C with rows of its own is no bias.
  if (tensor.size() != 1 && (tensor.size() != channels || tensor.dims().back() != channels)) return std::nullopt;
  std::vector<double> values;
  for (std::int64_t c = 0; c < channels; ++c) values.push_back(tensor.as_double(tensor.size() == 1 ? 0 : c));
  return values;
}

}  // namespace

bool adds_non_finite(const Tensor& made, const Tensor* from) {
  const auto finite = [](const Tensor& tensor) {
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      if (!std::isfinite(tensor.as_double(i))) return false;
    }
    return true;
  };
  return !finite(made) && (!from || finite(*from));
}

std::optional<std::int64_t> foldable_channels(const Node& node) {
  const bool is_conv = node.is("Conv"), is_transposed = node.is("ConvTranspose"), is_gemm = node.is("Gemm"), is_matmul = node.is("MatMul");
  if (!is_conv && !is_transposed && !is_gemm && !is_matmul) return std::nullopt;
  const Value* weight = node.input(1);
  if (!weight_may_change(weight) || ops::is_whole_product(node)) return std::nullopt;  // a factor would round what is exact
  const Dims& dims = weight->constant.dims();
  if (dims.size() < 2 || weight->constant.size() == 0) return std::nullopt;
  std::int64_t channels = dims.back();
  if (is_conv) channels = dims[0];
  if (is_gemm) channels = node.attrs.get_int("transB", 0) != 0 ? dims[0] : dims[1];
  if (is_transposed) {
    const std::int64_t group = node.attrs.get_int("group", 1);
    if (group < 1 || dims[0] % group != 0) return std::nullopt;
    channels = dims[1] * group;
  }
  if (!is_matmul && !bias_of(node, channels)) return std::nullopt;
  return channels;
}

bool fold_affine(Graph& graph, Node& node, const ChannelAffine& affine) {
  const Value* old_weight = node.inputs[1];
  const auto channels = static_cast<std::int64_t>(affine.scale.size());
  bool scales = false;
  for (const double s : affine.scale) scales = scales || s != 1;

  Tensor weight = old_weight->constant;
  if (scales) {
    weight = Tensor(weight.dtype(), weight.dims());
    const ChannelIndex index = channel_index(node);
    for (std::int64_t i = 0; i < weight.size(); ++i) {
      weight.set_from_double(i, old_weight->constant.as_double(i) * affine.scale[static_cast<std::size_t>(index(i))]);
    }
    if (adds_non_finite(weight, &old_weight->constant)) return false;
  }
  if (!node.is("MatMul") && (node.input(2) || !affine.shift.empty())) {
    const double beta = node.is("Gemm") ? node.attrs.get_float("beta", 1.0f) : 1.0;
    const std::vector<double> old_bias = *bias_of(node, channels);
    Tensor bias(weight.dtype(), {channels});
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto k = static_cast<std::size_t>(c);
      bias.set_from_double(c, beta * old_bias[k] * affine.scale[k] + (affine.shift.empty() ? 0 : affine.shift[k]));
    }
    if (adds_non_finite(bias, node.input(2) ? &node.inputs[2]->constant : nullptr)) return false;
    const std::string name = node.input(2) ? node.inputs[2]->name : old_weight->name + "_bias";
    graph.set_input(&node, 2, add_constant(graph, name, std::move(bias)));
    node.attrs.erase("beta");
  }
  if (scales) graph.set_input(&node, 1, add_constant(graph, old_weight->name, std::move(weight)));
  return true;
}

std::optional<std::vector<double>> per_channel(const Value* constant, std::int64_t channel_axis, std::int64_t rank, std::int64_t channels) {
  if (!is_constant(constant) || !is_plain_float(constant->dtype())) return std::nullopt;
  const Tensor& tensor = constant->constant;
  if (tensor.rank() > rank || tensor.size() == 0) return std::nullopt;
  for (int i = 0; i < tensor.rank(); ++i) {
    const std::int64_t axis = rank - tensor.rank() + i;
    const std::int64_t extent = tensor.dims()[static_cast<std::size_t>(i)];
    if (extent != 1 && (axis != channel_axis || extent != channels)) return std::nullopt;
  }
  std::vector<double> values;
  for (std::int64_t c = 0; c < channels; ++c) values.push_back(tensor.as_double(tensor.size() == 1 ? 0 : c));
  return values;
}

}  // namespace lathe::passes
