// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the kernels "cpu.custom" and "cuda.custom" have in common: the op of a step, its attributes, and whether op and tensors fit.

#include <string>

#include "ops/custom/custom.h"
#include "plan/kernel.h"

namespace lathe::ops {

/// The op and its attributes out of a step's parameters ("domain", "op", "attr:NAME"), held against the tensors that the step is bound to, whose
/// extents the op's own shape rule must confirm: a file may say anything.
class CustomStep {
 public:
  /// Throws Error: kUnsupported where the op is not registered.
  explicit CustomStep(const ir::Attrs& params);
  /// Throws Error(kCorruptFile) where op and tensors do not fit.
  void check(const plan::BindRequest& request) const;

  const CustomOp& op() const noexcept { return *op_; }
  const ir::Attrs& attrs() const noexcept { return attrs_; }    ///< with defaults
  const std::string& where() const noexcept { return where_; }  ///< "domain::name 'node'"

 private:
  const CustomOp* op_;
  ir::Attrs attrs_;
  std::string name_, where_;
};

/// Inputs and outputs that a call sees at least: what a node leaves out at the end is left out, not absent.
struct CustomArity {
  std::size_t inputs = 0, outputs = 0;
};
CustomArity custom_arity(const CustomOp& op);

}  // namespace lathe::ops
