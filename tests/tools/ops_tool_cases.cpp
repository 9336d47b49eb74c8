// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Runs one model by references and holds every tensor against what shape inference said about it.
#include <cstdio>
#include <filesystem>

#include "base/os.h"
#include "cli/npz.h"
#include "lathe/status.h"
#include "onnx/reader.h"
#include "onnx/tensor_reader.h"
#include "ops/import.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"
#include "ops_tool.h"

namespace lathe::tool {
namespace {

Tensor read_input(const std::string& path) {
  if (path.ends_with(".npy")) return cli::read_npy(path);
  const auto file = os::MappedFile::open(path);
  onnx::ReadState state;
  state.source = path;
  state.owner = file;
  const auto bytes = file->bytes();
  return onnx::read_tensor({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, state).tensor;
}

/// Binds the symbols of the graph's inputs, then judges each tensor of the run.
class InferenceCheck {
 public:
  void operator()(const ir::Value& value, const Tensor& tensor) {
    if (!tensor.defined()) return;
    if (value.kind == ir::ValueKind::kInput && value.has_shape()) {
      for (std::size_t i = 0; i < value.shape().size() && i < tensor.dims().size(); ++i)
        if (value.shape()[i].is_symbol()) bindings_.emplace(value.shape()[i].to_string(), tensor.dims()[i]);
    }
    if (value.type.is_tensor() && value.dtype() != DType::kUndefined && value.dtype() != tensor.dtype())
      defect(value, "dtype " + std::string(dtype_name(value.dtype())) + ", is " + std::string(dtype_name(tensor.dtype())));
    if (value.type.is_tensor() && value.has_shape()) {
      bool fits = value.shape().size() == tensor.dims().size();
      for (std::size_t i = 0; fits && i < tensor.dims().size(); ++i) {
        const auto extent = value.shape()[i].evaluate(bindings_);
        fits = !extent || *extent == tensor.dims()[i];
      }
      if (!fits) defect(value, "shape " + ir::to_string(value.shape()) + ", is " + lathe::to_string(tensor.dims()));
    }
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

Json output_json(const std::string& name, const Tensor& tensor, const std::string& path) {
  Json item{{"name", name}, {"dtype", static_cast<int>(tensor.dtype())}, {"shape", tensor.dims()}};
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
  if (const auto missing = ops::unsupported_nodes(graph); !missing.empty()) return {{"status", "unsupported"}, {"message", missing.front()}};
  ops::infer_graph(*model);

  std::vector<Tensor> inputs(graph.inputs().size());
  std::size_t next = 0;
  for (const auto& given : request.inputs) {
    const auto equal = given.find('=');
    if (equal == std::string::npos) {
      if (next >= inputs.size()) throw Error(Code::kInvalidArgument, "more input files than inputs");
      inputs[next++] = read_input(given);
      continue;
    }
    bool found = false;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (graph.inputs()[i]->name != given.substr(0, equal)) continue;
      inputs[i] = read_input(given.substr(equal + 1));
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
