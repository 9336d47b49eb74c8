// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the families of ai.onnx.ml share: a matrix seen as rows of features, class labels, checked lists. What is wrong is thrown as
// Error(kInvalidModel) without a node; inference and evaluation add it.

#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

inline constexpr std::string_view kMlDomain = "ai.onnx.ml";
/// Classes or targets of a model: more are taken for a defect of the file.
inline constexpr std::int64_t kMostClasses = std::int64_t{1} << 24;

[[noreturn]] void reject(std::string what);
/// Fails unless list `name` has `expected` entries; `of` says whose count that is.
void check_length(std::string_view name, std::size_t length, std::size_t expected, std::string_view of);

/// [N, C], or [C] as one row.
struct Rows {
  std::int64_t count = 1, width = 0;
};
Rows rows_of(const Tensor& x);
/// The same of what is inferred; unknown extents are fresh symbols.
struct RowDims {
  Dim count, width;
};
RowDims infer_rows(InferContext& ctx);
/// Elements as doubles, first rounded to float32 unless they are double: the type in which the format's models were fitted.
std::vector<double> feature_values(const Tensor& x);
bool is_feature_type(DType dtype);  ///< float, double, int32, int64

/// The labels of a classifier's classes: numbers or texts.
struct Labels {
  std::vector<std::int64_t> numbers;
  std::vector<std::string> texts;
  bool is_text() const { return !texts.empty(); }
  std::size_t count() const { return is_text() ? texts.size() : numbers.size(); }
  DType dtype() const { return is_text() ? DType::kString : DType::kInt64; }
  Tensor tensor() const;
};
/// One and only one of the two lists must be given.
Labels class_labels(const Attrs& attrs, std::string_view numbers, std::string_view texts);
/// The chosen label per row. Index -1 and -2 stand for the numbers 0 and 1 that a single score is told by where there are no two labels.
Tensor label_tensor(const Labels& labels, const std::vector<std::int64_t>& chosen);
inline constexpr std::int64_t kNegative = -1, kPositive = -2;

/// Every NaN is one key, both zeros are.
std::int64_t key_of(double v);

/// Positions of keys; of equal ones the last counts.
class Lookup {
 public:
  explicit Lookup(const Tensor& keys);
  /// Where element i of `x`, of the keys' type, is; -1: nowhere.
  std::int64_t find(const Tensor& x, std::int64_t i) const;

 private:
  static std::int64_t number(const Tensor& t, std::int64_t i) { return is_float(t.dtype()) ? key_of(t.as_double(i)) : t.as_int64(i); }

  DType dtype_;
  std::unordered_map<std::string, std::int64_t> texts_;
  std::unordered_map<std::int64_t, std::int64_t> numbers_;
};

/// In what an expansion computes: float32 in itself, double and integers in double as the references do.
inline DType wide_type(DType dtype) { return dtype == DType::kFloat32 ? dtype : DType::kFloat64; }

/// A constant for each feature.
template <class T>
Value* per_feature(ExpandContext& ctx, std::string_view hint, DType dtype, const std::vector<T>& list) {
  Tensor tensor(dtype, {static_cast<std::int64_t>(list.size())});
  for (std::size_t i = 0; i < list.size(); ++i) {
    if constexpr (std::is_integral_v<T>) tensor.set_from_int64(static_cast<std::int64_t>(i), list[i]);
    else tensor.set_from_double(static_cast<std::int64_t>(i), list[i]);
  }
  return ctx.constant(hint, std::move(tensor));
}

/// Features that an expansion knows: a constant for each of them makes no axis.
inline bool has_features(const Value* x) { return is_feature_type(x->dtype()) && (!x->has_shape() || !x->shape().empty()); }

/// expand: a classifier with texts for labels becomes one with their indices and a LabelEncoder, so that kernels meet numbers only.
bool expand_text_labels(ExpandContext& ctx, std::string_view numbers, std::string_view texts);

}  // namespace lathe::ops
