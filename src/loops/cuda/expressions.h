// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Scalar expressions of a stage as CUDA C++ statements.

#include <functional>
#include <string>
#include <unordered_map>
#include <utility>

#include "loops/cuda/schedule.h"

namespace lathe::loops::cuda {

/// The C++ type that a number of this type is computed in; throws Error(kUnsupported) for types without one.
std::string compute_type(DType type);
/// The C++ type that it is stored as.
std::string storage_type(DType type);
/// `text` of type `from` as a value of type `to`.
std::string cast_text(const std::string& text, DType from, DType to);
/// `text`, a value of the floating or whole type `from`, as the storage type of `stored`; `logical` is the type that the region gives the buffer.
std::string stored_text(const std::string& text, DType from, DType logical, DType stored);
/// A number that the type holds, exactly.
std::string literal(DType type, double real, std::int64_t whole);
std::string binary_text(ExprOp op, DType type, const std::string& a, const std::string& b);
std::string unary_text(ExprOp op, DType type, const std::string& a);

/// What expressions need of the kernel around them.
struct Surroundings {
  std::function<std::string(std::int64_t)> number;  ///< a parameter that holds it (a literal for 0 and 1)
  std::function<std::string(BufferId)> pointer;     ///< the buffer's name
  std::span<const plan::TensorDesc> buffers;
};

/// Statements for one stage. Loop counters are called i0, i1, ... in the nest's order.
class Expressions {
 public:
  Expressions(const LoopRegion& region, const ScheduledStage& stage, const Surroundings& around) : region_(region), stage_(stage), around_(around) {}

  /// Text of an affine function of the loop counters.
  std::string affine(const cpu::Affine& a) const;
  /// The offset of an access in elements, non-affine dimensions included.
  std::string offset(const cpu::Access& access);
  /// The name of the expression's value; statements that make it are appended.
  std::string value(ExprId e);
  /// Statements made since the last call.
  std::string take() { return std::exchange(statements_, {}); }
  /// In front of the loop over a thread's elements `u`: loads that fetch all of them at once. Call before value().
  std::string load_packs();
  /// Bytes to which each buffer must be aligned for those loads.
  const std::unordered_map<BufferId, std::uint32_t>& alignment() const { return alignment_; }

 private:
  std::string guard(const cpu::Access& access);
  std::string define(DType type, const std::string& text);
  std::string load(ExprId id, const Expr& e);

  const LoopRegion& region_;
  const ScheduledStage& stage_;
  const Surroundings& around_;
  std::unordered_map<ExprId, std::string> names_;
  std::unordered_map<ExprId, std::string> packs_;
  std::unordered_map<BufferId, std::uint32_t> alignment_;
  std::string statements_;
  int next_ = 0;
};

}  // namespace lathe::loops::cuda
