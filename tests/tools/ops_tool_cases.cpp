// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Runs one model by references and holds every tensor against what shape inference said about it.
#include <cstdio>
#include <filesystem>

#include "base/os.h"
#include "cli/npz.h"
#include "lathe/status.h"
#include "onnx/reader.h"
#include "onnx/values.h"
#include "ops/import.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"
#include "ops_tool.h"

namespace lathe::tool {
namespace {

Tensor read_input(const std::string& path, const ir::Type& type) {
  if (path.ends_with(".npy")) return cli::read_npy(path);
  const auto file = os::MappedFile::open(path);
  onnx::ReadState state;
  state.source = path;
  state.owner = file;
  const auto bytes = file->bytes();
  return onnx::read_value({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, type, state);
}

/// Binds the symbols of the graph's inputs, then judges each tensor of the run.
class InferenceCheck {
 public:
  void operator()(const ir::Value& value, const Tensor& tensor) {
    if (!tensor.defined()) return;
    const bool outermost = !value.graph->parent();  // an extent of a nested graph is another in each of its runs
    if (value.kind == ir::ValueKind::kInput && value.has_shape() && outermost) {
      for (std::size_t i = 0; i < value.shape().size() && i < tensor.dims().size(); ++i)
        if (value.shape()[i].is_symbol()) bindings_.emplace(value.shape()[i].to_string(), tensor.dims()[i]);
    }
    check(value, value.type, tensor);
    if (!tensor.is_tensor()) return;
    if (value.content && static_cast<std::int64_t>(value.content->size()) != tensor.size()) {
      defect(value, "a content of " + std::to_string(value.content->size()) + " elements, has " + std::to_string(tensor.size()));
    } else if (value.content) {
      for (std::int64_t i = 0; i < tensor.size(); ++i) {
        const auto element = (*value.content)[static_cast<std::size_t>(i)].evaluate(bindings_);
        if (element && static_cast<double>(*element) != tensor.as_double(i))
          defect(value, "element " + std::to_string(i) + " = " + std::to_string(*element) + ", is " + std::to_string(tensor.as_double(i)));
      }
    }
  }
  const std::vector<std::string>& defects() const { return defects_; }

 private:
  void check(const ir::Value& value, const ir::Type& type, const Tensor& tensor) {
    using Kind = ir::TypeKind;
    if (type.kind == Kind::kOptional) {
      if (!tensor.is_nothing() && type.element) check(value, *type.element, tensor);
      return;
    }
    const bool fits_kind = type.kind == Kind::kUnknown || (type.kind == Kind::kSequence && tensor.is_sequence()) ||
                           (type.kind == Kind::kMap && tensor.is_map()) || (type.is_tensor() && tensor.is_tensor());
    if (!fits_kind) return defect(value, type.to_string() + ", is a value of form " + std::to_string(static_cast<int>(tensor.form())));
    if (tensor.is_sequence() && type.element)
      for (const Tensor& item : tensor.items()) check(value, *type.element, item);
    if (!tensor.is_tensor()) return;
    if (type.is_tensor() && type.dtype != DType::kUndefined && type.dtype != tensor.dtype())
      defect(value, "dtype " + std::string(dtype_name(type.dtype)) + ", is " + std::string(dtype_name(tensor.dtype())));
    if (type.is_tensor() && type.shape) {
      bool fits = type.shape->size() == tensor.dims().size();
      for (std::size_t i = 0; fits && i < tensor.dims().size(); ++i) {
        const auto extent = (*type.shape)[i].evaluate(bindings_);
        fits = !extent || *extent == tensor.dims()[i];
      }
      if (!fits) defect(value, "shape " + ir::to_string(*type.shape) + ", is " + lathe::to_string(tensor.dims()));
    }
  }
  void defect(const ir::Value& value, const std::string& what) { defects_.push_back(value.name + ": inferred " + what); }
  ir::Bindings bindings_;
  std::vector<std::string> defects_;
};

void write_bytes(const std::string& path, const Tensor& tensor) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  const bool written = file && (tensor.bytes() == 0 || std::fwrite(tensor.raw(), 1, tensor.bytes(), file) == tensor.bytes());
  if (file) std::fclose(file);
  if (!written) throw Error(Code::kIo, "cannot write " + path);
}

/// A tensor's dtype, shape and where its elements are; of another value its form and its items.
Json output_json(const std::string& name, const Tensor& tensor, const std::string& path) {
  if (!tensor.is_tensor()) {
    Json item{{"name", name}, {"form", tensor.is_sequence() ? "sequence" : tensor.is_map() ? "map" : "nothing"}};
    Json items = Json::array();
    if (!tensor.is_nothing())
      for (const Tensor& part : tensor.items()) items.push_back(output_json(name, part, path + "." + std::to_string(items.size())));
    item["items"] = items;
    return item;
  }
  Json item{{"name", name}, {"form", "tensor"}, {"dtype", static_cast<int>(tensor.dtype())}, {"shape", tensor.dims()}};
  if (tensor.dtype() == DType::kString) {
    item["strings"] = tensor.string_data();
  } else {
    write_bytes(path, tensor);
    item["file"] = path;
  }
  return item;
}

Json run(const RunRequest& request) {
  const auto model = onnx::read_model(request.model);
  onnx::inline_functions(*model);
  ops::canonicalise_opsets(*model);
  const ir::Graph& graph = *model->graph;
  if (const auto missing = ops::unsupported_nodes(graph); !missing.empty()) return {{"status", "unsupported"}, {"message", missing.front()->describe()}};
  ops::infer_graph(*model);

  std::vector<Tensor> inputs(graph.inputs().size());
  std::size_t next = 0;
  for (const auto& given : request.inputs) {
    const auto equal = given.find('=');
    if (equal == std::string::npos) {
      if (next >= inputs.size()) throw Error(Code::kInvalidArgument, "more input files than inputs");
      inputs[next] = read_input(given, graph.inputs()[next]->type);
      ++next;
      continue;
    }
    bool found = false;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (graph.inputs()[i]->name != given.substr(0, equal)) continue;
      inputs[i] = read_input(given.substr(equal + 1), graph.inputs()[i]->type);
      found = true;
    }
    if (!found) throw Error(Code::kInvalidArgument, "no such input").at_tensor(given.substr(0, equal));
  }
  InferenceCheck check;
  ops::ReferenceRunner runner(graph, {.oracle = request.oracle, .observe = [&](const ir::Value& v, Tensor& t) { check(v, t); }});
  const auto outputs = runner.run(inputs);
  Json list = Json::array();
  for (std::size_t i = 0; i < outputs.size(); ++i)
    list.push_back(output_json(graph.outputs()[i]->name, outputs[i], request.out + "/output_" + std::to_string(i) + ".bin"));
  return {{"status", "ok"}, {"inference", check.defects()}, {"outputs", list}};
}

}  // namespace

Json run_model(const RunRequest& request) {
  try {
    return run(request);
  } catch (const std::exception& error) {
    return {{"status", "error"}, {"message", error.what()}};
  }
}

}  // namespace lathe::tool
