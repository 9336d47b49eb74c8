// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What the rules in ops/ do not say: old versions' own limits, ops that are shaped like others, inputs that shapes depend on.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "check/inference.h"

namespace lathe::checker {
namespace {

constexpr std::size_t kInt32 = static_cast<std::size_t>(-1);

std::optional<std::size_t> rank_of(const ir::Node& node, std::size_t input) {
  const ir::Value* value = node.input(input);
  return value && value->type.shape ? std::optional(value->type.shape->size()) : std::nullopt;
}

std::string split(const ops::Schema& schema, const ir::Node& node) {
  const bool sizes = node.attrs.has("split") || node.input(1);
  if (schema.since >= 18) {
    if (!sizes && !node.attrs.has("num_outputs")) return "it has neither the input 'split' nor the attribute 'num_outputs'";
    if (sizes && node.attrs.has("num_outputs")) return "it has both the input 'split' and the attribute 'num_outputs'";
    return "";
  }
  const auto rank = rank_of(node, 0);
  if (sizes || !rank || *rank == 0) return "";
  std::int64_t axis = node.attrs.get_int("axis", 0);
  if (axis < 0) axis += static_cast<std::int64_t>(*rank);
  if (axis < 0 || axis >= static_cast<std::int64_t>(*rank)) return "";  // the common rule says it
  const auto extent = (*node.input(0)->type.shape)[static_cast<std::size_t>(axis)].constant();
  const auto parts = static_cast<std::int64_t>(node.outputs.size());
  if (extent && parts > 0 && *extent % parts != 0) return fmt::format("axis {} of extent {} does not split into {} equal parts", axis, *extent, parts);
  return "";
}

/// Before opset 13 these flatten their input at `axis`.
std::string flattening(const ops::Schema& schema, const ir::Node& node) {
  const auto rank = rank_of(node, 0);
  if (schema.since >= 13 || !rank) return "";
  const auto r = static_cast<std::int64_t>(*rank);
  const std::int64_t axis = node.attrs.get_int("axis", 1), least = schema.since >= 11 ? -r : 0;
  return axis < least || axis >= r ? fmt::format("axis {} is out of range for rank {}", axis, r) : "";
}

std::string window_lists(const ir::Node& node) {
  const auto rank = rank_of(node, 0);
  if (!rank || *rank < 2) return "";
  const std::size_t axes = *rank - 2;
  for (const auto& [name, want] : {std::pair{"kernel_shape", axes}, std::pair{"strides", axes}, std::pair{"dilations", axes}, std::pair{"pads", 2 * axes}})
    if (node.attrs.has(name) && node.attrs.get_ints(name).size() != want)
      return fmt::format("attribute '{}' has {} values; {} spatial axes need {}", name, node.attrs.get_ints(name).size(), axes, want);
  if (const std::int64_t ceil = node.attrs.get_int("ceil_mode", 0); ceil != 0 && ceil != 1)
    return fmt::format("attribute 'ceil_mode' is {}; expected 0 or 1", ceil);
  if (!node.is("ConvTranspose")) {
    for (const std::int64_t pad : node.attrs.get_ints("pads"))
      if (pad < 0) return fmt::format("attribute 'pads' has the value {}; pads are at least 0", pad);
    return "";
  }
  for (const char* name : {"output_padding", "output_shape"})
    if (node.attrs.has(name) && node.attrs.get_ints(name).size() != axes)
      return fmt::format("attribute '{}' has {} values; {} spatial axes need {}", name, node.attrs.get_ints(name).size(), axes, axes);
  if (const auto kernel = node.attrs.get_ints("kernel_shape"); !kernel.empty() && rank_of(node, 1) == *rank)
    for (std::size_t axis = 0; axis < axes; ++axis)
      if (const auto extent = (*node.input(1)->type.shape)[axis + 2].constant(); extent && *extent != kernel[axis])
        return "attribute 'kernel_shape' differs from the weight's shape";
  if (node.attrs.has("pads") && node.attrs.get_string("auto_pad", "NOTSET") != "NOTSET") return "it has both pads and auto_pad";
  return "";
}

/// What a constant target asks of any input.
std::string reshape(const ir::Node& node) {
  std::vector<std::int64_t> target = node.attrs.get_ints("shape");
  const ir::Value* given = node.input(1);
  if (given && given->is_constant() && given->constant.dtype() == DType::kInt64) target = given->constant.to_int64_vector();
  const bool allow_zero = node.attrs.get_int("allowzero", 0) != 0;
  const ir::Value* in = node.input(0);
  std::int64_t product = 1;
  bool open = false;
  for (std::size_t i = 0; i < target.size(); ++i) {
    std::int64_t extent = target[i];
    if (extent == -1) open = true;
    if (extent < 0) continue;
    if (extent == 0 && !allow_zero) {
      const bool known = in && in->type.shape && i < in->type.shape->size();
      const auto copied = known ? (*in->type.shape)[i].constant() : std::nullopt;
      if (!copied) continue;
      extent = *copied;
    }
    if (__builtin_mul_overflow(product, extent, &product)) return fmt::format("the target shape {} is larger than any tensor", to_string(Dims(target)));
  }
  if (open && product == 0) return fmt::format("the target shape {} leaves -1 undefined: the other extents have the product 0", to_string(Dims(target)));
  return "";
}

}  // namespace

std::string old_rule(const ops::Schema& schema, const ir::Node& node) {
  if (node.is("Split")) return split(schema, node);
  if (node.is("Softmax") || node.is("LogSoftmax") || node.is("Hardmax")) return flattening(schema, node);
  if (node.is("ConstantOfShape"))
    if (const Tensor value = node.attrs.get_tensor("value"); value.defined() && value.rank() != 1)
      return fmt::format("attribute 'value' has the shape {}; expected one element", to_string(value.dims()));
  if (node.is("ConstantOfShape"))
    if (const auto rank = rank_of(node, 0); rank && *rank != 1) return fmt::format("its input has rank {}; expected 1", *rank);
  if (node.is("Expand") || node.is("Reshape"))
    if (const auto rank = rank_of(node, 1); rank && *rank != 1) return fmt::format("its target shape has rank {}; expected 1", *rank);
  if (node.is("Gemm"))
    for (const char* name : {"transA", "transB"})
      if (const std::int64_t flag = node.attrs.get_int(name, 0); flag != 0 && flag != 1)
        return fmt::format("attribute '{}' is {}; expected 0 or 1", name, flag);
  if (node.is("BatchNormalization") && schema.since >= 14) {
    const std::size_t want = node.attrs.get_int("training_mode", 0) != 0 ? 3 : 1;
    if (node.outputs.size() != want)
      return fmt::format("it has {} outputs; with training_mode {} it gives {}", node.outputs.size(), node.attrs.get_int("training_mode", 0), want);
  }
  if (node.is("Reshape")) return reshape(node);
  if (node.is("Conv") || node.is("MaxPool") || node.is("AveragePool") || node.is("LpPool") || node.is("ConvTranspose")) return window_lists(node);
  if (node.domain.empty() && (node.op.starts_with("Reduce") || node.op == "ArgMax" || node.op == "ArgMin"))
    if (const std::int64_t keep = node.attrs.get_int("keepdims", 1); keep != 0 && keep != 1)
      return fmt::format("attribute 'keepdims' is {}; expected 0 or 1", keep);
  return "";
}

const Proxy* proxy_of(std::string_view op) {
  static const std::array<Proxy, 4> kProxies{{
      {"MatMulInteger", "MatMul", {0, 1}, kInt32},
      {"QLinearMatMul", "MatMul", {0, 3}, 7},
      {"ConvInteger", "Conv", {0, 1}, kInt32},
      {"QLinearConv", "Conv", {0, 3}, 7},
  }};
  const auto at = std::find_if(kProxies.begin(), kProxies.end(), [&](const Proxy& p) { return p.op == op; });
  return at == kProxies.end() ? nullptr : &*at;
}

void as_the_package_infers(std::string_view domain, std::string_view op, const ir::Attrs& attrs, std::vector<ir::Type>& types) {
  // One score for each intercept, or one for each of two labels; none where there are no intercepts, which may be left out.
  if (domain != "ai.onnx.ml" || op != "LinearClassifier" || types.size() < 2 || !types[1].shape || types[1].shape->size() != 2) return;
  const std::size_t texts = attrs.get_strings("classlabels_strings").size(), labels = texts ? texts : attrs.get_ints("classlabels_ints").size();
  const std::size_t intercepts = attrs.get_floats("intercepts").size();
  types[1].shape->back() = ir::Dim(intercepts == 1 && labels == 2 ? 2 : static_cast<std::int64_t>(intercepts));
}

bool decides_shapes(std::string_view op, std::size_t input) {
  constexpr std::array kSecond{"AffineGrid",      "CenterCropPad", "Expand", "OneHot", "Reshape",  "Split",
                               "SplitToSequence", "Squeeze",       "Tile",   "TopK",   "Unsqueeze"};
  if (std::find(kSecond.begin(), kSecond.end(), op) != kSecond.end() || op.starts_with("Reduce")) return input == 1;
  if (op == "Slice") return input >= 1;
  if (op == "Pad") return input == 1 || input == 3;
  if (op == "Resize") return input == 2 || input == 3;
  if (op == "Upsample") return input == 1;
  if (op == "Range" || op == "BlackmanWindow" || op == "HammingWindow" || op == "HannWindow") return true;
  return op == "ConstantOfShape" && input == 0;
}

}  // namespace lathe::checker
