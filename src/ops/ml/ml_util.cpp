// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "ops/ml/ml_util.h"

#include <bit>
#include <cmath>
#include <numeric>

#include "ops/ref_util.h"

namespace lathe::ops {

void reject(std::string what) { throw Error(Code::kInvalidModel, std::move(what)); }

void check_length(std::string_view name, std::size_t length, std::size_t expected, std::string_view of) {
  if (length == expected) return;
  reject(std::string(name) + " has " + std::to_string(length) + " entries; expected " + std::to_string(expected) + ", " + std::string(of));
}

Rows rows_of(const Tensor& x) {
  if (x.rank() == 1) return {1, x.dims()[0]};
  if (x.rank() == 2) return {x.dims()[0], x.dims()[1]};
  reject("X has shape " + lathe::to_string(x.dims()) + "; expected [N, C] or [C]");
}

RowDims infer_rows(InferContext& ctx) {
  const auto& shape = ctx.shape(0);
  if (!shape) return {ctx.fresh_symbol(), ctx.fresh_symbol()};
  if (shape->size() == 1) return {Dim(1), (*shape)[0]};
  if (shape->size() == 2) return {(*shape)[0], (*shape)[1]};
  reject("X has shape " + ir::to_string(*shape) + "; expected [N, C] or [C]");
}

std::vector<double> feature_values(const Tensor& x) {
  auto values = to_doubles(x);
  if (x.dtype() != DType::kFloat64)
    for (double& v : values) v = static_cast<float>(v);
  return values;
}

bool is_feature_type(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kInt32 || dtype == DType::kInt64; }

Tensor Labels::tensor() const { return is_text() ? Tensor::strings({static_cast<std::int64_t>(texts.size())}, texts) : Tensor::vector(numbers); }

Labels class_labels(const Attrs& attrs, std::string_view numbers, std::string_view texts) {
  Labels labels{attrs.get_ints(numbers), attrs.get_strings(texts)};
  if (labels.numbers.empty() == labels.texts.empty()) {
    reject("gives " + std::string(labels.texts.empty() ? "neither " : "both ") + std::string(numbers) + (labels.texts.empty() ? " nor " : " and ") +
           std::string(texts) + "; expected one of them");
  }
  return labels;
}

Tensor label_tensor(const Labels& labels, const std::vector<std::int64_t>& chosen) {
  const Dims dims{static_cast<std::int64_t>(chosen.size())};
  if (labels.is_text()) {
    std::vector<std::string> texts;
    texts.reserve(chosen.size());
    for (const auto i : chosen) texts.push_back(i >= 0 ? labels.texts[static_cast<std::size_t>(i)] : i == kPositive ? "1" : "0");
    return Tensor::strings(dims, std::move(texts));
  }
  std::vector<std::int64_t> numbers;
  numbers.reserve(chosen.size());
  for (const auto i : chosen) numbers.push_back(i >= 0 ? labels.numbers[static_cast<std::size_t>(i)] : i == kPositive ? 1 : 0);
  return from_int64s(DType::kInt64, dims, numbers);
}

std::int64_t key_of(double v) { return std::isnan(v) ? std::bit_cast<std::int64_t>(std::nan("")) : std::bit_cast<std::int64_t>(v == 0 ? 0.0 : v); }

Lookup::Lookup(const Tensor& keys) : dtype_(keys.dtype()) {
  for (std::int64_t i = 0; i < keys.size(); ++i) {
    if (dtype_ == DType::kString) texts_[keys.string_data()[static_cast<std::size_t>(i)]] = i;
    else numbers_[number(keys, i)] = i;
  }
}

std::int64_t Lookup::find(const Tensor& x, std::int64_t i) const {
  if (dtype_ == DType::kString) {
    const auto it = texts_.find(x.string_data()[static_cast<std::size_t>(i)]);
    return it == texts_.end() ? -1 : it->second;
  }
  const auto it = numbers_.find(number(x, i));
  return it == numbers_.end() ? -1 : it->second;
}

bool expand_text_labels(ExpandContext& ctx, std::string_view numbers, std::string_view texts) {
  const auto labels = ctx.attrs().get_strings(texts);
  if (labels.size() < 2) return false;  // the label of a single class is told by its score
  std::vector<std::int64_t> indices(labels.size());
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  Attrs attrs = ctx.attrs();
  attrs.erase(texts);
  attrs.set(std::string(numbers), indices);
  Node* classifier = ctx.add_node(ctx.node.op, ctx.node.inputs, ctx.node.outputs.size(), std::move(attrs), kMlDomain);
  Attrs encoder;
  encoder.set("keys_int64s", indices);
  encoder.set("values_strings", labels);
  if (ctx.node.output(0)) ctx.replace(0, ctx.add("LabelEncoder", {classifier->output(0)}, std::move(encoder), "label", kMlDomain));
  ctx.replace(1, classifier->output(1));
  return true;
}

}  // namespace lathe::ops
