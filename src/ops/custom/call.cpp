// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The public classes that shape rules and run functions of custom operators meet: extents, attributes, shapes, calls.

#include <fmt/format.h>

#include "base/thread_pool.h"
#include "ops/custom/custom.h"
#include "ops/validate.h"

namespace lathe {

using ir::Dim;

// Extent -----------------------------------------------------------------------------------------------------------

Extent::Extent(std::int64_t number) : impl_(std::make_shared<const Dim>(number)) {}
Extent::Extent(std::shared_ptr<const Dim> impl) : impl_(std::move(impl)) {}

namespace {

Extent wrap(Dim dim) { return Extent(std::make_shared<const Dim>(std::move(dim))); }

const Dim& divisor(const Extent& extent) {
  if (extent.impl().constant() == 0) throw Error(Code::kInvalidArgument, "an extent is divided by zero");
  return extent.impl();
}

}  // namespace

Extent Extent::parse(std::string_view text) { return wrap(Dim::parse(text)); }
Extent Extent::min(const Extent& a, const Extent& b) { return wrap(Dim::min(a.impl(), b.impl())); }
Extent Extent::max(const Extent& a, const Extent& b) { return wrap(Dim::max(a.impl(), b.impl())); }
std::optional<std::int64_t> Extent::number() const noexcept { return impl_->constant(); }
std::string Extent::text() const { return impl_->to_string(); }
Extent Extent::plus(const Extent& other) const { return wrap(impl() + other.impl()); }
Extent Extent::minus(const Extent& other) const { return wrap(impl() - other.impl()); }
Extent Extent::times(const Extent& other) const { return wrap(impl() * other.impl()); }
Extent Extent::divided_by(const Extent& other) const { return wrap(Dim::floordiv(impl(), divisor(other))); }
Extent Extent::remainder(const Extent& other) const { return wrap(Dim::mod(impl(), divisor(other))); }
bool Extent::equals(const Extent& other) const noexcept { return impl() == other.impl(); }

// CustomAttributes -------------------------------------------------------------------------------------------------

namespace {

template <class T>
const T& attribute(const ir::Attrs& attrs, std::string_view name, const char* type) {
  const ir::Attribute* found = attrs.find(name);
  if (!found) throw Error(Code::kInvalidArgument, fmt::format("there is no attribute '{}'", name));
  if (const T* value = std::get_if<T>(&found->value)) return *value;
  throw Error(Code::kInvalidArgument, fmt::format("attribute '{}' is no {}", name, type));
}

}  // namespace

bool CustomAttributes::has(std::string_view name) const noexcept { return impl_->has(name); }
std::int64_t CustomAttributes::integer(std::string_view name) const { return attribute<std::int64_t>(*impl_, name, "int"); }
double CustomAttributes::number(std::string_view name) const {
  const ir::Attribute* found = impl_->find(name);
  if (found && std::holds_alternative<std::int64_t>(found->value)) return static_cast<double>(std::get<std::int64_t>(found->value));
  return static_cast<double>(attribute<float>(*impl_, name, "float"));
}
std::string_view CustomAttributes::text(std::string_view name) const { return attribute<std::string>(*impl_, name, "string"); }
std::span<const std::int64_t> CustomAttributes::integers(std::string_view name) const { return attribute<std::vector<std::int64_t>>(*impl_, name, "ints"); }
std::span<const float> CustomAttributes::numbers(std::string_view name) const { return attribute<std::vector<float>>(*impl_, name, "floats"); }
std::span<const std::string> CustomAttributes::texts(std::string_view name) const { return attribute<std::vector<std::string>>(*impl_, name, "strings"); }
ConstTensorView CustomAttributes::tensor(std::string_view name) const {
  const Tensor& tensor = attribute<Tensor>(*impl_, name, "tensor");
  return {tensor.raw(), tensor.dtype(), tensor.dims()};
}

// CustomShapes -----------------------------------------------------------------------------------------------------

namespace {

void require_input(const ops::CustomShapesImpl& impl, std::size_t input) {
  if (input >= impl.dtypes.size() || impl.dtypes[input] == DType::kUndefined)
    throw ops::node_error(impl.node, fmt::format("its shape rule reads input {}, which the node has not", input), Code::kInvalidArgument);
}

std::vector<Extent> extents_of(const ir::Shape& shape) {
  std::vector<Extent> extents;
  for (const Dim& dim : shape) extents.push_back(wrap(dim));
  return extents;
}

}  // namespace

std::size_t CustomShapes::input_count() const noexcept { return impl_->dtypes.size(); }
bool CustomShapes::has_input(std::size_t input) const noexcept { return input < impl_->dtypes.size() && impl_->dtypes[input] != DType::kUndefined; }
DType CustomShapes::dtype(std::size_t input) const {
  require_input(*impl_, input);
  return impl_->dtypes[input];
}
std::vector<Extent> CustomShapes::shape(std::size_t input) const {
  require_input(*impl_, input);
  return extents_of(impl_->shapes[input]);
}
std::vector<Extent> CustomShapes::content(std::size_t input) const {
  require_input(*impl_, input);
  const auto content = impl_->content(input);
  if (!content) throw ops::Later();
  return extents_of(*content);
}
const CustomAttributes& CustomShapes::attributes() const noexcept { return impl_->attributes; }
std::size_t CustomShapes::output_count() const noexcept { return impl_->outputs.size(); }

void CustomShapes::output(std::size_t index, std::vector<Extent> shape) {
  if (index >= impl_->outputs.size()) return;  // one that this node does not ask for
  ir::Shape dims;
  for (const Extent& extent : shape) {
    if (const auto number = extent.number(); number && *number < 0) fail(fmt::format("its shape rule makes an extent {} of output {}", *number, index));
    dims.push_back(extent.impl());
  }
  impl_->outputs[index] = std::move(dims);
}
void CustomShapes::output(std::size_t index, DType dtype, std::vector<Extent> shape) {
  if (index >= impl_->outputs.size()) return;
  if (impl_->output_types[index] != DType::kUndefined && impl_->output_types[index] != dtype)
    fail(fmt::format("its shape rule makes output {} {}, its texts say {}", index, dtype_name(dtype), dtype_name(impl_->output_types[index])));
  impl_->output_types[index] = dtype;
  output(index, std::move(shape));
}
void CustomShapes::fail(std::string message) const { throw ops::node_error(impl_->node, std::move(message), Code::kInvalidArgument); }

// CustomCall -------------------------------------------------------------------------------------------------------

void CustomCall::parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& task) const {
  default_pool().parallel_for(count, [&](std::int64_t i, int) { task(i); });
}

std::size_t CustomCall::elements(DType dtype, std::span<const std::int64_t> shape, std::size_t bytes_of_one) {
  if (dtype == DType::kUndefined) return 0;
  if (static_cast<std::size_t>(dtype_bits(dtype)) != 8 * bytes_of_one)
    throw Error(Code::kInvalidArgument, fmt::format("elements of {} are read or written as ones of {} bytes", dtype_name(dtype), bytes_of_one));
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  return count;
}

}  // namespace lathe
