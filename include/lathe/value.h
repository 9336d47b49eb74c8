// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Values of every type that the format has, owned: for models whose inputs or outputs are texts, sequences, maps or optionals, or as large
// as the data make them.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lathe/dtype.h"
#include "lathe/export.h"

namespace lathe {

struct ConstTensorView;
class Tensor;

enum class ValueForm : std::uint8_t { kTensor, kSequence, kMap, kNothing };  ///< What a value is; kNothing: an optional without content.

/// Copies share what they hold; nothing changes it.
class LATHE_API Value {
 public:
  Value();                                                                              ///< nothing
  static Value tensor(ConstTensorView view);                                            ///< a copy of numbers
  static Value texts(std::vector<std::string> texts, std::vector<std::int64_t> shape);  ///< a tensor of texts, row-major
  static Value sequence(std::vector<Value> items);                                      ///< of any values
  /// From keys (int64 or texts) to values, each a tensor of one axis, as long as the other. Throws Error(kInvalidArgument).
  static Value map(const Value& keys, const Value& values);

  ValueForm form() const noexcept;                       ///< what it is
  DType dtype() const noexcept;                          ///< of a tensor's elements; kUndefined for what is none
  std::span<const std::int64_t> shape() const noexcept;  ///< of a tensor
  ConstTensorView view() const;                          ///< of a tensor of numbers, alive as long as this. Throws Error(kInvalidArgument) for others.
  const std::vector<std::string>& texts() const;         ///< Throws Error(kInvalidArgument) for what is no tensor of texts.
  std::vector<Value> items() const;                      ///< of a sequence; of a map its keys and its values. Throws Error(kInvalidArgument) for others.

  explicit Value(std::shared_ptr<const Tensor> impl);
  const std::shared_ptr<const Tensor>& impl() const noexcept { return impl_; }

 private:
  std::shared_ptr<const Tensor> impl_;
};

}  // namespace lathe
