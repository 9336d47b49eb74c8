// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Prints graphs; the grammar's other half is text_parser.cpp.

#include <fmt/format.h>

#include <cmath>

#include "ir/text.h"

namespace lathe::ir {
namespace {

bool is_plain_name(std::string_view name) {
  if (name.empty() || name == "_" || name == "graph" || name.find("//") != std::string_view::npos) return false;
  for (const char c : name) {
    const bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '/';
    if (!ok) return false;
  }
  return true;
}

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string name_text(std::string_view name) { return is_plain_name(name) ? std::string(name) : quote(name); }

template <class T>
std::string float_text(T value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string element_text(const Tensor& tensor, std::int64_t i) {
  if (tensor.dtype() == DType::kString) return quote(tensor.string_data()[static_cast<std::size_t>(i)]);
  if (tensor.dtype() == DType::kFloat64) return float_text(tensor.as_double(i));
  if (is_float(tensor.dtype())) return float_text(static_cast<float>(tensor.as_double(i)));
  if (tensor.dtype() == DType::kUint64) return fmt::format("{}", static_cast<std::uint64_t>(tensor.as_int64(i)));
  return fmt::format("{}", tensor.as_int64(i));
}

bool is_splat(const Tensor& tensor) {
  const int bits = dtype_bits(tensor.dtype());
  if (bits < 8 || tensor.size() < 2) return false;
  const std::size_t step = static_cast<std::size_t>(bits) / 8;
  for (std::size_t at = step; at < tensor.bytes(); ++at) {
    if (tensor.raw()[at] != tensor.raw()[at - step]) return false;
  }
  return true;
}

class Printer {
 public:
  explicit Printer(const PrintOptions& options) : options_(options) {}

  void graph(const Graph& graph, int indent) {
    out_ += "graph " + name_text(graph.name.empty() ? "main" : graph.name) + '(';
    bool first = true;
    for (const Value* input : graph.inputs()) {
      if (!first) out_ += ", ";
      first = false;
      out_ += name_text(input->name) + ": " + input->type.to_string();
      if (input->constant.defined()) out_ += " = const " + tensor_body(input->constant);
    }
    out_ += ") -> (";
    for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
      if (i > 0) out_ += ", ";
      out_ += name_text(graph.outputs()[i]->name);
    }
    out_ += ") {\n";
    const std::string pad(static_cast<std::size_t>(indent) + 2, ' ');
    for (const Value* value : graph.values()) {
      if (!value->is_constant()) continue;
      out_ += pad + name_text(value->name) + ": " + value->type.to_string() + " = const " + tensor_body(value->constant) + '\n';
    }
    for (const Node* node : graph.nodes()) {
      out_ += pad;
      print_node(*node, indent + 2);
      out_ += '\n';
    }
    out_ += std::string(static_cast<std::size_t>(indent), ' ') + '}';
  }

  std::string take() { return std::move(out_); }

 private:
  void print_node(const Node& node, int indent) {
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (i > 0) out_ += ", ";
      const Value* value = node.outputs[i];
      out_ += value ? name_text(value->name) : "_";
      if (value && options_.types && value->type.kind != TypeKind::kUnknown) out_ += ": " + value->type.to_string();
    }
    if (!node.outputs.empty()) out_ += " = ";
    if (!node.domain.empty()) out_ += name_text(node.domain) + "::";
    out_ += name_text(node.op);
    if (!node.overload.empty()) out_ += '!' + name_text(node.overload);
    out_ += '(';
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (i > 0) out_ += ", ";
      out_ += node.inputs[i] ? name_text(node.inputs[i]->name) : "_";
    }
    out_ += ')';
    if (!node.attrs.empty()) {
      out_ += " {";
      bool first = true;
      for (const auto& [key, attribute] : node.attrs) {
        if (!first) out_ += ", ";
        first = false;
        out_ += name_text(key) + '=';
        print_attribute(attribute, indent);
      }
      out_ += '}';
    }
    if (options_.sources) {
      for (const std::string& source : node.sources) out_ += " @" + quote(source);
      const std::string implied = node.sources.empty() ? std::string() : node.sources[0];
      if (node.name != implied) out_ += " #" + quote(node.name);
    }
    if (options_.contents) print_contents(node);
  }

  void print_contents(const Node& node) {
    for (const Value* value : node.outputs) {
      if (!value || !value->content) continue;
      out_ += "  // " + value->name + " = " + to_string(*value->content);
    }
  }

  void print_attribute(const Attribute& attribute, int indent) {
    if (!attribute.ref_name.empty()) {
      out_ += '$' + name_text(attribute.ref_name) + ':' + std::to_string(static_cast<int>(attribute.ref_type));
      return;
    }
    std::visit([&](const auto& value) { print_value(value, indent); }, attribute.value);
  }

  void print_value(std::monostate, int) { out_ += "none"; }
  void print_value(float value, int) { out_ += float_text(value); }
  void print_value(std::int64_t value, int) { out_ += std::to_string(value); }
  void print_value(const std::string& value, int) { out_ += quote(value); }
  void print_value(const Tensor& value, int) { out_ += tensor_text(value); }
  void print_value(const GraphPtr& value, int indent) {
    if (value) {
      graph(*value, indent);
    } else {
      out_ += "none";
    }
  }
  void print_value(const Type& value, int) { out_ += "type " + value.to_string(); }
  void print_value(const SparseTensor& value, int) {
    out_ += "sparse " + bracketed(value.dims) + ' ' + tensor_text(value.values) + ' ' + tensor_text(value.indices);
  }
  template <class T>
  void print_value(const std::vector<T>& list, int indent) {
    // An empty list names its kind; the others show it by their elements.
    if (list.empty()) {
      if constexpr (std::is_same_v<T, float>) out_ += "floats";
      if constexpr (std::is_same_v<T, std::string>) out_ += "strings";
      if constexpr (std::is_same_v<T, Tensor>) out_ += "tensors";
      if constexpr (std::is_same_v<T, GraphPtr>) out_ += "graphs";
      if constexpr (std::is_same_v<T, SparseTensor>) out_ += "sparses";
      if constexpr (std::is_same_v<T, Type>) out_ += "types";
    }
    out_ += '[';
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (i > 0) out_ += ", ";
      print_value(list[i], indent);
    }
    out_ += ']';
  }

  static std::string bracketed(const Dims& dims) { return to_string(Shape(dims.begin(), dims.end())); }

  std::string tensor_text(const Tensor& tensor) const {
    if (!tensor.defined()) return "none";
    return "tensor " + std::string(dtype_name(tensor.dtype())) + bracketed(tensor.dims()) + ' ' + tensor_body(tensor);
  }

  std::string tensor_body(const Tensor& tensor) const {
    const bool complex = tensor.dtype() == DType::kComplex64 || tensor.dtype() == DType::kComplex128;
    if (tensor.size() > options_.max_constant_elements || complex) {
      if (!complex && tensor.dtype() != DType::kString && is_splat(tensor)) return "splat(" + element_text(tensor, 0) + ')';
      return fmt::format("hash(0x{:016x})", tensor.content_hash());
    }
    std::string text = "{";
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      if (i > 0) text += ", ";
      text += element_text(tensor, i);
    }
    return text + '}';
  }

  const PrintOptions& options_;
  std::string out_;
};

}  // namespace

std::string print(const Graph& graph, const PrintOptions& options) {
  Printer printer(options);
  printer.graph(graph, 0);
  return printer.take() + '\n';
}

}  // namespace lathe::ir
