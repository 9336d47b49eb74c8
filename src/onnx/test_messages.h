// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Encoded ONNX messages for the tests of this folder: files that no exporter would write, and small good ones to damage.

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lathe/status.h"
#include "onnx/fields.h"
#include "onnx/message.h"
#include "onnx/reader.h"
#include "onnx/writer.h"

namespace lathe::onnx::testing {

inline std::string bytes_of(const Message& message) {
  std::string bytes;
  message.write_to([&](std::span<const std::byte> part) { bytes.append(reinterpret_cast<const char*>(part.data()), part.size()); });
  return bytes;
}

template <class T>
std::string raw_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

inline Message tensor(const std::string& name, DType dtype, const std::vector<std::int64_t>& dims, const std::string& raw) {
  Message out;
  out.packed_numbers(field::tensor::kDims, dims);
  out.number(field::tensor::kDataType, static_cast<int>(dtype));
  out.string_if(field::tensor::kName, name);
  out.string(field::tensor::kRawData, raw);
  return out;
}

/// Digits are an extent, "" an extent without name, other texts a name.
inline Message tensor_type(DType dtype, const std::vector<std::string>& dims) {
  Message shape;
  for (const std::string& text : dims) {
    Message dim;
    if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos) dim.number(field::type::kDimValue, std::stoll(text));
    else if (!text.empty()) dim.string(field::type::kDimParam, text);
    shape.message(field::type::kDim, dim);
  }
  Message inner, out;
  inner.number(field::type::kElement, static_cast<int>(dtype));
  inner.message(field::type::kShape, shape);
  out.message(field::type::kTensor, inner);
  return out;
}

inline Message value_info(const std::string& name, const Message& type) {
  Message out;
  out.string(field::value_info::kName, name);
  out.message(field::value_info::kType, type);
  return out;
}

inline Message float_value(const std::string& name, const std::vector<std::string>& dims = {"2", "3"}) {
  return value_info(name, tensor_type(DType::kFloat32, dims));
}

inline Message node(const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                    const std::vector<Message>& attributes = {}, const std::string& name = {}) {
  Message out;
  for (const auto& input : inputs) out.string(field::node::kInput, input);
  for (const auto& output : outputs) out.string(field::node::kOutput, output);
  out.string_if(field::node::kName, name);
  out.string(field::node::kOpType, op);
  for (const auto& attribute : attributes) out.message(field::node::kAttribute, attribute);
  return out;
}

inline Message graph_attribute(const std::string& name, const Message& graph) {
  Message out;
  out.string(field::attribute::kName, name);
  out.message(field::attribute::kGraph, graph);
  out.number(field::attribute::kKind, static_cast<int>(ir::AttrType::kGraph));
  return out;
}

/// The parts of a graph or model, each a (field number, message).
using Parts = std::vector<std::pair<std::uint32_t, Message>>;

inline Message graph(const Parts& parts, const std::string& name = "g") {
  Message out;
  out.string(field::graph::kName, name);
  for (const auto& [tag, part] : parts) out.message(tag, part);
  return out;
}

inline Message opset(const std::string& domain, std::int64_t version) {
  Message out;
  out.string_if(field::opset::kDomain, domain);
  out.number(field::opset::kVersion, version);
  return out;
}

inline std::string model(const Message& graph, const Parts& more = {}, std::int64_t ir_version = 10, std::int64_t opset_version = 20) {
  Message out;
  out.number(field::model::kIrVersion, ir_version);
  out.message(field::model::kGraph, graph);
  out.message(field::model::kOpsetImport, opset("", opset_version));
  for (const auto& [tag, part] : more) out.message(tag, part);
  return bytes_of(out);
}

/// x: float[2, 3] -> Relu -> y, and what else `parts` says.
inline Message relu_graph(const Parts& parts = {}) {
  Parts all{{field::graph::kNode, node("Relu", {"x"}, {"y"}, {}, "relu")}, {field::graph::kInput, float_value("x")}, {field::graph::kOutput, float_value("y")}};
  all.insert(all.end(), parts.begin(), parts.end());
  return graph(all);
}

inline std::shared_ptr<ir::Model> read(const std::string& bytes, const std::filesystem::path& base_dir = {}) {
  auto owner = std::make_shared<std::string>(bytes);
  return read_model(std::as_bytes(std::span(owner->data(), owner->size())), owner, base_dir);
}

/// What read, write gives; and a second round must give the same bytes.
inline std::string roundtrip(const std::string& bytes) {
  const std::string once = model_bytes(*read(bytes)), twice = model_bytes(*read(once));
  EXPECT_EQ(once, twice) << "a second round gives other bytes";
  return once;
}

/// The error that reading gives; fails the test when there is none.
inline Error error_of(const std::string& bytes, const std::filesystem::path& base_dir = {}) {
  try {
    read(bytes, base_dir);
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "the file was read without an error";
  return Error(Code::kOk, "");
}

}  // namespace lathe::onnx::testing
