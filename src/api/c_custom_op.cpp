// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Custom operators of the C API: plain functions around which the C++ API's closures are made.

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "api/c_status.h"
#include "lathe/custom_op.h"

struct lathe_attributes {
  const lathe::CustomAttributes& attributes;
};

struct lathe_custom_shapes {
  lathe::CustomShapes& shapes;
  lathe_attributes attributes;
  std::vector<std::vector<std::string>> extents;
};

namespace {

using lathe::Code;
using lathe::api::c_guarded;
using lathe::api::need;
using lathe::api::tensor_of;

/// `get` out of attributes, into what the caller gave.
template <class Get>
lathe_status read(const lathe_attributes* attributes, const char* name, bool targets, Get get) {
  return c_guarded([&] {
    need(attributes && name && targets, "attributes, name and the value");
    get(attributes->attributes);
  });
}

void throw_text(const char* text) {
  if (text) throw lathe::Error(Code::kInvalidArgument, text);
}

void run(const lathe_custom_op& op, const lathe::CustomCall& call) {
  // Calls of a few tensors, as all are, allocate nothing.
  std::array<lathe_tensor, 32> few;
  std::vector<lathe_tensor> many;
  lathe_tensor* tensors = few.data();
  if (call.inputs.size() + call.outputs.size() > few.size()) {
    many.resize(call.inputs.size() + call.outputs.size());
    tensors = many.data();
  }
  for (std::size_t i = 0; i < call.inputs.size(); ++i) tensors[i] = tensor_of(call.inputs[i]);
  for (std::size_t i = 0; i < call.outputs.size(); ++i) tensors[call.inputs.size() + i] = tensor_of(call.outputs[i]);
  const lathe_attributes attributes{call.attributes};
  const lathe_custom_call c{sizeof(lathe_custom_call), tensors, call.inputs.size(), tensors + call.inputs.size(), call.outputs.size(), &attributes};
  throw_text(op.run(op.user, &c));
}

void say_shapes(const lathe_custom_op& op, lathe::CustomShapes& shapes) {
  lathe_custom_shapes s{shapes, {shapes.attributes()}, {}};
  for (std::size_t i = 0; i < shapes.input_count(); ++i) {
    s.extents.emplace_back();
    if (!shapes.has_input(i)) continue;
    for (const lathe::Extent& extent : shapes.shape(i)) s.extents.back().push_back(extent.text());
  }
  throw_text(op.shape(op.user, &s));
}

}  // namespace

extern "C" {

lathe_status lathe_attribute_int(const lathe_attributes* attributes, const char* name, int64_t* value) {
  return read(attributes, name, value != nullptr, [&](const lathe::CustomAttributes& from) { *value = from.integer(name); });
}

lathe_status lathe_attribute_float(const lathe_attributes* attributes, const char* name, double* value) {
  return read(attributes, name, value != nullptr, [&](const lathe::CustomAttributes& from) { *value = from.number(name); });
}

lathe_status lathe_attribute_ints(const lathe_attributes* attributes, const char* name, const int64_t** values, size_t* count) {
  return read(attributes, name, values && count, [&](const lathe::CustomAttributes& from) {
    const auto list = from.integers(name);
    *values = list.data();
    *count = list.size();
  });
}

lathe_status lathe_attribute_floats(const lathe_attributes* attributes, const char* name, const float** values, size_t* count) {
  return read(attributes, name, values && count, [&](const lathe::CustomAttributes& from) {
    const auto list = from.numbers(name);
    *values = list.data();
    *count = list.size();
  });
}

lathe_status lathe_attribute_string(const lathe_attributes* attributes, const char* name, const char** text, size_t* bytes) {
  return read(attributes, name, text && bytes, [&](const lathe::CustomAttributes& from) {
    const auto value = from.text(name);
    *text = value.data();
    *bytes = value.size();
  });
}

int32_t lathe_shapes_rank(const lathe_custom_shapes* shapes, size_t input) {
  return shapes && shapes->shapes.has_input(input) ? static_cast<std::int32_t>(shapes->extents[input].size()) : -1;
}

int32_t lathe_shapes_dtype(const lathe_custom_shapes* shapes, size_t input) {
  return shapes && shapes->shapes.has_input(input) ? static_cast<std::int32_t>(shapes->shapes.dtype(input)) : 0;
}

const char* lathe_shapes_extent(const lathe_custom_shapes* shapes, size_t input, int32_t axis) {
  if (lathe_shapes_rank(shapes, input) <= axis || axis < 0) return nullptr;
  return shapes->extents[input][static_cast<std::size_t>(axis)].c_str();
}

const lathe_attributes* lathe_shapes_attributes(const lathe_custom_shapes* shapes) { return shapes ? &shapes->attributes : nullptr; }

lathe_status lathe_shapes_output(lathe_custom_shapes* shapes, size_t output, int32_t dtype, int32_t rank, const char* const* extents) {
  return c_guarded([&] {
    need(shapes && (extents || rank == 0), "shapes and extents");
    if (rank < 0 || dtype < 0 || dtype >= lathe::kDTypeCount) throw lathe::Error(Code::kInvalidArgument, "there is no such rank or element type");
    std::vector<lathe::Extent> shape;
    for (std::int32_t axis = 0; axis < rank; ++axis) {
      need(extents[axis] != nullptr, "an extent");
      shape.push_back(lathe::Extent::parse(extents[axis]));
    }
    if (dtype == 0) shapes->shapes.output(output, std::move(shape));
    else shapes->shapes.output(output, static_cast<lathe::DType>(dtype), std::move(shape));
  });
}

void lathe_custom_op_init(lathe_custom_op* op, size_t struct_size) {
  lathe_custom_op defaults{};
  defaults.version = 1;
  defaults.inputs = "x:T";
  defaults.outputs = "y:T";
  defaults.types = "T: @num13";
  defaults.attributes = "";
  defaults.doc = "";
  defaults.deterministic = 1;
  defaults.cuda_block = 256;
  defaults.cuda_elements = 1;
  lathe::api::init_struct(op, defaults, struct_size);
}

lathe_status lathe_register_op(const lathe_custom_op* given) {
  return c_guarded([&] {
    need(given != nullptr, "op");
    lathe_custom_op c;
    lathe_custom_op_init(&c, sizeof c);
    lathe::api::read_struct(c, *given, offsetof(lathe_custom_op, user) + sizeof(void*), "operator", "lathe_custom_op_init");
    need(c.domain && c.name, "domain and name");
    const auto text = [](const char* from) { return std::string(from ? from : ""); };
    lathe::CustomOp op;
    op.domain = c.domain;
    op.name = c.name;
    op.version = c.version;
    op.inputs = text(c.inputs);
    op.outputs = text(c.outputs);
    op.types = text(c.types);
    op.attributes = text(c.attributes);
    op.doc = text(c.doc);
    op.deterministic = c.deterministic != 0;
    op.cuda = text(c.cuda);
    op.cuda_block = c.cuda_block;
    op.cuda_elements = c.cuda_elements;
    if (c.run) op.run = [c](const lathe::CustomCall& call) { run(c, call); };
    if (c.shape) op.shape = [c](lathe::CustomShapes& shapes) { say_shapes(c, shapes); };
    lathe::register_op(std::move(op));
  });
}

}  // extern "C"
