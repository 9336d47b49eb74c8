// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What is decided about each value of the simplified graph before candidates are asked: its storage type (precision plan), its memory
// order, and whether it lives inside another value's memory (concat slices, split parts).

#include <optional>
#include <unordered_map>
#include <vector>

#include "builder/builder.h"
#include "ops/candidate.h"
#include "plan/kernel.h"

namespace lathe::builder {

/// The value occupies indices [offset, offset + its extent) of `axis` of `parent`; axis kWholeView: it is the parent's elements in
/// another shape.
inline constexpr int kWholeView = -1;
struct SliceOf {
  const ir::Value* parent = nullptr;
  int axis = 1;
  ir::Dim offset;
};

/// In this memory order the innermost axis (channels-last: the channels of a pixel; row-major: the last axis) is stored wider than it is, up to
/// a multiple of so many elements: rows of whole 16-byte pieces are read and written by wide accesses. What lies between rows is undefined, but
/// zero in a graph's input.
struct RowPadding {
  ops::Layout layout = ops::Layout::kChannelsLast;
  std::int64_t multiple = 8;
};

struct ValuePlan {
  DType storage = DType::kUndefined;
  ops::Layout layout = ops::Layout::kAny;  ///< kAny: not yet decided
  std::optional<SliceOf> slice;
  std::optional<RowPadding> rows;
};

class ValuePlans {
 public:
  ValuePlan& operator[](const ir::Value* value) { return plans_[value]; }
  const ValuePlan* find(const ir::Value* value) const {
    const auto found = plans_.find(value);
    return found == plans_.end() ? nullptr : &found->second;
  }
  DType storage(const ir::Value* value) const;
  /// Concrete desc of `value` in `layout` (kAny: the planned one, else row-major), slices with their parents' strides when the layouts
  /// agree.
  plan::TensorDesc desc(const ir::Value* value, ops::Layout layout, const ir::Bindings& bindings) const;
  /// Of a step's inputs or outputs; an empty one for what is left out (nullptr).
  std::vector<plan::TensorDesc> descs(const std::vector<ir::Value*>& values, const std::vector<ops::Layout>& layouts, const ir::Bindings& bindings) const;

 private:
  std::unordered_map<const ir::Value*, ValuePlan> plans_;
};

/// Memory order as a permutation, outermost axis first; empty for row-major.
std::vector<std::int32_t> layout_order(ops::Layout layout, std::size_t rank);
/// Dense strides of `dims` in `layout`.
std::vector<std::int64_t> dense_strides(const Dims& dims, ops::Layout layout);
/// The axis whose elements lie side by side.
inline std::size_t innermost_axis(ops::Layout layout, std::size_t rank) { return layout == ops::Layout::kChannelsLast && rank >= 3 ? 1 : rank - 1; }
/// True when both layouts put the same element at the same offset (1x1 images, one channel).
bool layouts_coincide(const ir::Shape& shape);

/// Convolutions, matrix products and recurrent layers: where lower precision pays and accumulation is wide.
bool is_contraction(const ir::Node& node);

/// What products of whole numbers read is stored as bfloat16 where that is exact: for machines that multiply it faster.
void plan_whole_numbers(const ir::Graph& graph, ValuePlans& plans);

/// Fills storage types. Values from which a graph output is reachable without passing another contraction stay as the model says; the
/// rest takes `precision` when its own type is float. With `inputs`, float inputs that feed a contraction are
/// converted once as they come in. Returns the plan's entries for the engine.
std::vector<plan::PrecisionEntry> plan_precision(const ir::Graph& graph, Precision precision, ValuePlans& plans, const std::vector<std::string>& pinned_nodes,
                                                 bool inputs = false);

/// Marks concat inputs and split outputs that can live inside the other value's memory: along the channels of channels-last images, and
/// along any axis where row-major producers accept strides.
void plan_slices(const ir::Graph& graph, ValuePlans& plans);

/// For a GPU: which values are stored in wider rows. Images of few channels that a convolution reads; what convolutions make with channel
/// counts that fill no 16 bytes; run-time operands and results of matrix products likewise.
void plan_rows(const ir::Graph& graph, ValuePlans& plans);

}  // namespace lathe::builder
