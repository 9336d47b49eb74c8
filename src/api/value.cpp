// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Value of the public API: the library's own host value behind a pointer.

#include "lathe/value.h"

#include <cstring>

#include "api/impl.h"
#include "base/tensor.h"

namespace lathe {
namespace {

Value wrap(Tensor tensor) { return Value(std::make_shared<const Tensor>(std::move(tensor))); }

}  // namespace

Value::Value() : Value(std::make_shared<const Tensor>(Tensor::nothing())) {}
Value::Value(std::shared_ptr<const Tensor> impl) : impl_(std::move(impl)) {}

Value Value::tensor(ConstTensorView view) {
  return api::guarded("copy a tensor", [&] {
    if (view.dtype == DType::kString) throw Error(Code::kInvalidArgument, "texts have no view").with_remedy("Use Value::texts.");
    if (view.dtype == DType::kUndefined) throw Error(Code::kInvalidArgument, "the tensor has no element type");
    Tensor tensor(view.dtype, Dims(view.shape.begin(), view.shape.end()));
    if (tensor.bytes() > 0 && !view.data) throw Error(Code::kInvalidArgument, "the tensor has no data");
    if (tensor.bytes() > 0) std::memcpy(tensor.mutable_raw(), view.data, tensor.bytes());
    return wrap(std::move(tensor));
  });
}

Value Value::texts(std::vector<std::string> texts, std::vector<std::int64_t> shape) {
  return api::guarded("keep texts", [&] {
    try {
      return wrap(Tensor::strings(std::move(shape), std::move(texts)));
    } catch (const Error& error) {
      throw Error(Code::kInvalidArgument, error.message());
    }
  });
}

Value Value::sequence(std::vector<Value> items) {
  return api::guarded("make a sequence", [&] {
    std::vector<Tensor> inner;
    for (const Value& item : items) inner.push_back(*item.impl());
    return wrap(Tensor::sequence(std::move(inner)));
  });
}

Value Value::map(const Value& keys, const Value& values) {
  return api::guarded("make a map", [&] { return wrap(Tensor::map(*keys.impl(), *values.impl())); });
}

ValueForm Value::form() const noexcept { return impl_->form(); }
DType Value::dtype() const noexcept { return impl_->dtype(); }
std::span<const std::int64_t> Value::shape() const noexcept { return impl_->dims(); }

ConstTensorView Value::view() const {
  if (!impl_->is_tensor() || impl_->dtype() == DType::kString) throw Error(Code::kInvalidArgument, "the value is no tensor of numbers");
  return {impl_->raw(), impl_->dtype(), impl_->dims()};
}

const std::vector<std::string>& Value::texts() const {
  if (impl_->dtype() != DType::kString) throw Error(Code::kInvalidArgument, "the value is no tensor of texts");
  return impl_->string_data();
}

std::vector<Value> Value::items() const {
  if (!impl_->is_sequence() && !impl_->is_map()) throw Error(Code::kInvalidArgument, "the value is no sequence and no map");
  return api::guarded("read a sequence", [&] {
    std::vector<Value> items;
    for (const Tensor& item : impl_->items()) items.push_back(wrap(item));
    return items;
  });
}

Status Context::run(std::span<const Value> inputs, std::vector<Value>& outputs) noexcept try {
  const runtime::Engine& engine = impl_->context.engine();
  std::vector<Tensor> given;
  for (const Value& input : inputs) given.push_back(input.impl()->is_nothing() ? Tensor() : *input.impl());
  std::vector<Tensor> made;
  if (engine.program().dynamic) {
    if (Status status = impl_->context.run_values(given, made); !status) return status;
  } else {
    std::vector<ConstTensorView> views;
    for (const Tensor& tensor : given) views.push_back({tensor.raw(), tensor.dtype(), tensor.dims()});
    if (Status status = run(views); !status) return status;
    for (std::size_t i = 0; i < impl_->outputs.size(); ++i) {
      const ConstTensorView view = output(i);
      made.emplace_back(view.dtype, Dims(view.shape.begin(), view.shape.end()));
      if (made.back().bytes() > 0) std::memcpy(made.back().mutable_raw(), view.data, made.back().bytes());
    }
  }
  outputs.clear();
  for (Tensor& tensor : made) outputs.push_back(wrap(std::move(tensor)));
  return Status::ok();
} catch (const Error& error) {
  return {error.code(), error.what()};
} catch (const std::bad_alloc&) {
  return {Code::kOutOfMemory, "there is not enough memory for this run"};
}

}  // namespace lathe
