// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Operators of one's own: a function or the source of a CUDA kernel, and a shape rule. Registered once a process, before models that use
// them are read and engines that need them are loaded. docs/custom_ops.md walks through them.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/lathe.hpp"

namespace lathe {

namespace ir {
class Attrs;
class Dim;
}  // namespace ir
namespace ops {
struct CustomShapesImpl;
}

/// An extent of a shape: a number, or an expression over the model's free extents ("batch", "2*height + 1").
class LATHE_API Extent {
 public:
  Extent(std::int64_t number = 0);                      ///< A number: they are written as such. NOLINT(google-explicit-constructor)
  static Extent parse(std::string_view text);           ///< Reads what text() writes. Throws Error(kInvalidArgument).
  static Extent min(const Extent& a, const Extent& b);  ///< The smaller one.
  static Extent max(const Extent& a, const Extent& b);  ///< The greater one.

  std::optional<std::int64_t> number() const noexcept;  ///< where it is one
  std::string text() const;                             ///< "4", "batch", "floordiv(width - 1, 2) + 1"

  Extent plus(const Extent& other) const;           ///< a + b
  Extent minus(const Extent& other) const;          ///< a - b
  Extent times(const Extent& other) const;          ///< a * b
  Extent divided_by(const Extent& other) const;     ///< a / b, rounded down
  Extent remainder(const Extent& other) const;      ///< a % b, with the divisor's sign
  bool equals(const Extent& other) const noexcept;  ///< surely equal: the same expression
  friend Extent operator+(const Extent& a, const Extent& b) { return a.plus(b); }
  friend Extent operator-(const Extent& a, const Extent& b) { return a.minus(b); }
  friend Extent operator*(const Extent& a, const Extent& b) { return a.times(b); }
  friend Extent operator/(const Extent& a, const Extent& b) { return a.divided_by(b); }
  friend Extent operator%(const Extent& a, const Extent& b) { return a.remainder(b); }
  friend bool operator==(const Extent& a, const Extent& b) noexcept { return a.equals(b); }

  explicit Extent(std::shared_ptr<const ir::Dim> impl);    ///< Lathe's own
  const ir::Dim& impl() const noexcept { return *impl_; }  ///< the same

 private:
  std::shared_ptr<const ir::Dim> impl_;
};

/// A node's attributes, with the defaults of those that it leaves out. What is asked for and not there throws Error(kInvalidArgument).
class LATHE_API CustomAttributes {
 public:
  bool has(std::string_view name) const noexcept;                       ///< Given, or with a default?
  std::int64_t integer(std::string_view name) const;                    ///< of type int
  double number(std::string_view name) const;                           ///< of type float or int
  std::string_view text(std::string_view name) const;                   ///< of type string
  std::span<const std::int64_t> integers(std::string_view name) const;  ///< of type ints
  std::span<const float> numbers(std::string_view name) const;          ///< of type floats
  std::span<const std::string> texts(std::string_view name) const;      ///< of type strings
  ConstTensorView tensor(std::string_view name) const;                  ///< of type tensor

  explicit CustomAttributes(const ir::Attrs& impl) : impl_(&impl) {}  ///< Lathe's own
  const ir::Attrs& impl() const noexcept { return *impl_; }           ///< the same

 private:
  const ir::Attrs* impl_;
};

/// What a shape rule sees of a node, and where it says what the outputs are. It runs when a model is built, with expressions for free extents, and
/// again with numbers where only a run tells them.
class LATHE_API CustomShapes {
 public:
  std::size_t input_count() const noexcept;            ///< of the node; those that are left out count
  bool has_input(std::size_t input) const noexcept;    ///< Is it there, and not left out?
  DType dtype(std::size_t input) const;                ///< its element type
  std::vector<Extent> shape(std::size_t input) const;  ///< its extents
  /// The elements of an integer input that the shape depends on (sizes, axes). Where only a run tells them, the rule ends here and is asked again then.
  std::vector<Extent> content(std::size_t input) const;
  const CustomAttributes& attributes() const noexcept;  ///< with defaults
  std::size_t output_count() const noexcept;            ///< of the node

  void output(std::size_t index, std::vector<Extent> shape);               ///< Its type is what the op's texts say.
  void output(std::size_t index, DType dtype, std::vector<Extent> shape);  ///< The same with a type.
  [[noreturn]] void fail(std::string message) const;                       ///< Refuses the node: an Error that names it.

  explicit CustomShapes(ops::CustomShapesImpl& impl) : impl_(&impl) {}  ///< Lathe's own

 private:
  ops::CustomShapesImpl* impl_;
};

/// What a run sees: tensors that are dense and row-major. One that is left out has the type kUndefined and no data.
struct LATHE_API CustomCall {
  std::span<const ConstTensorView> inputs;  ///< as the node has them
  std::span<const TensorView> outputs;      ///< to be filled; their shapes are what the shape rule says
  const CustomAttributes& attributes;       ///< with defaults

  /// Calls `task` once with each number in [0, count), on Lathe's threads where they are free. It must not throw.
  void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& task) const;
  /// Input `i`'s elements, which must have this type. Throws Error(kInvalidArgument) for another size of element.
  template <class T>
  std::span<const T> in(std::size_t i) const {
    return {static_cast<const T*>(inputs[i].data), elements(inputs[i].dtype, inputs[i].shape, sizeof(T))};
  }
  template <class T>
  std::span<T> out(std::size_t i) const {
    return {static_cast<T*>(outputs[i].data), elements(outputs[i].dtype, outputs[i].shape, sizeof(T))};
  }  ///< The same of output `i`.

  static std::size_t elements(DType dtype, std::span<const std::int64_t> shape, std::size_t bytes_of_one);  ///< how many; checks the size of one
};

/// One operator. Only `domain`, `name` and one of `run` and `cuda` must be given.
struct CustomOp {
  std::string domain;  ///< as in the model's nodes; not that of a standard
  std::string name;    ///< the node's op type
  int version = 1;     ///< of the domain, from which on models may use it; an engine runs with the version that it was built with
  /// Names with types, separated by blanks: "x:T scale?:float rest*:T". After a name "?" optional, "*" any number (the last one), "+" at least one. A
  /// type is a variable of `types`, or a type ("float", "int64", "bfloat16").
  std::string inputs = "x:T";
  std::string outputs = "y:T";                 ///< The same. A variable that an input has too is of the input's type.
  std::string types = "T: @num13";             ///< "T: float double; I: int32 int64"; @num13 all numbers, @float13 all real ones, @all13 bool too
  std::string attributes;                      ///< "alpha:float=1 axis:int mode:string? sizes:ints=1,2": "=" a default, "?" optional, neither: required
  std::string doc;                             ///< a line for `lathe ops`
  std::function<void(CustomShapes&)> shape;    ///< empty: every output has the first input's shape
  std::function<void(const CustomCall&)> run;  ///< fills the outputs on the CPU; several threads may be inside. What it throws fails the run.
  bool deterministic = true;                   ///< the same outputs for the same inputs; else it is never folded, merged or planned
  /// CUDA C++ with `extern "C" __global__ void NAME(inputs..., outputs..., lathe_shapes shapes)`: pointers in the node's order, then extents.
  /// docs/custom_ops.md says what it may use. Without `run` the CPU's part of an engine runs it on the GPU too.
  std::string cuda;
  int cuda_block = 256;  ///< threads of a block
  /// Elements of the first output for each thread; 0: a block for each element.
  int cuda_elements = 1;
};

/// From now on models may use the op. Throws Error(kInvalidArgument) for texts that say nothing, and for a name that is taken.
LATHE_API void register_op(CustomOp op);

}  // namespace lathe
