// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Reading into a ModelTree. See structure.h.

#include <fmt/format.h>

#include "check/structure.h"

namespace lathe::checker {
namespace {

constexpr int kMaxDepth = 64;

/// Runs `read`; a broken encoding is a defect of `what`.
template <class F>
void tolerant(Findings& findings, const GraphTree* graph, const NodeTree* node, const std::string& what, F&& read) {
  try {
    read();
  } catch (const onnx::TooDeep& error) {
    findings.add("nested-too-deeply", graph, node, {}, fmt::format("{}: {}", what, error.what()));
  } catch (const protozero::exception& error) {
    findings.add("broken-encoding", graph, node, {}, fmt::format("{} cannot be read: {}", what, reason(error)));
  }
}

ValueTree read_value(data_view bytes, const GraphTree& graph, const char* what, Findings& findings) {
  ValueTree value;
  tolerant(findings, &graph, nullptr, what, [&] {
    onnx::ValueInfoRecord record = onnx::parse_value_info(bytes);
    value.name = std::move(record.name);
    if (record.has_type) value.type = onnx::parse_type(record.type);
    value.has_type = record.has_type;
  });
  return value;
}

InitializerTree read_initializer(data_view bytes, bool sparse, const GraphTree& graph, Findings& findings) {
  InitializerTree init;
  init.bytes = bytes;
  init.sparse = sparse;
  init.usable = false;
  tolerant(findings, &graph, nullptr, "an initializer", [&] {
    if (sparse) {
      const onnx::SparseRecord record = onnx::parse_sparse(bytes);
      if (record.has_values) {
        const onnx::TensorRecord values = onnx::parse_tensor(record.values);
        init.name = values.name;
        init.dtype = values.dtype;
      }
      if (record.has_indices) onnx::parse_tensor(record.indices);
      init.dims = record.dims;
    } else {
      onnx::TensorRecord record = onnx::parse_tensor(bytes);
      init.name = std::move(record.name);
      init.dtype = record.dtype;
      init.dims = std::move(record.dims);
    }
    init.usable = true;
  });
  return init;
}

void read_nodes(const std::vector<data_view>& views, GraphTree& graph, Findings& findings, int depth) {
  graph.nodes.resize(views.size());
  for (std::size_t i = 0; i < views.size(); ++i) {
    NodeTree& node = graph.nodes[i];
    node.record.index = i;
    node.unreadable = node.form_broken = true;
    tolerant(findings, &graph, nullptr, fmt::format("node #{}", i), [&] {
      node.record = onnx::parse_node(views[i], i);
      node.unreadable = node.form_broken = false;
    });
    node.domain = node.record.domain == "ai.onnx" ? "" : node.record.domain;
    for (const data_view view : node.record.attributes) {
      tolerant(findings, &graph, &node, "an attribute", [&] {
        AttributeTree attribute{onnx::parse_attribute(view), {}};
        for (const data_view inner : attribute.record.graphs) {
          auto tree = std::make_unique<GraphTree>();
          const std::string here = fmt::format("{} of {} '{}'", attribute.record.name, node.record.op, node.label());
          // Names of names of names: a deep nest must not make texts of square size.
          const std::string where = graph.where.empty() ? here : depth < 3 ? here + " in " + graph.where : fmt::format("{} ({} graphs deep)", here, depth + 1);
          read_graph_tree(inner, *tree, where, findings, depth + 1);
          attribute.graphs.push_back(std::move(tree));
        }
        for (const data_view inner : attribute.record.types) onnx::parse_type(inner);
        node.attributes.push_back(std::move(attribute));
      });
    }
  }
}

}  // namespace

void read_graph_tree(data_view bytes, GraphTree& graph, std::string where, Findings& findings, int depth) {
  if (depth > kMaxDepth) throw onnx::TooDeep();
  graph.where = std::move(where);
  onnx::GraphRecord record = onnx::parse_graph(bytes);
  graph.name = std::move(record.name);
  for (const data_view view : record.inputs) graph.inputs.push_back(read_value(view, graph, "an input", findings));
  for (const data_view view : record.outputs) graph.outputs.push_back(read_value(view, graph, "an output", findings));
  for (const data_view view : record.value_infos) graph.value_infos.push_back(read_value(view, graph, "a value_info", findings));
  for (const data_view view : record.initializers) graph.initializers.push_back(read_initializer(view, false, graph, findings));
  for (const data_view view : record.sparse_initializers) graph.initializers.push_back(read_initializer(view, true, graph, findings));
  read_nodes(record.nodes, graph, findings, depth);
}

std::unique_ptr<ModelTree> read_tree(data_view bytes, Findings& findings) {
  auto model = std::make_unique<ModelTree>();
  if (bytes.empty()) {
    findings.add("not-onnx", nullptr, nullptr, {}, "the file is empty");
    return nullptr;
  }
  bool readable = true;
  try {
    model->record = onnx::parse_model(bytes);
  } catch (const protozero::exception& error) {
    findings.add("not-onnx", nullptr, nullptr, {}, fmt::format("the file is cut off or is not an ONNX model: {}", reason(error)));
    readable = false;
  }
  if (readable && !model->record.has_graph) findings.add("not-onnx", nullptr, nullptr, {}, "the file holds no graph");
  if (!readable || !model->record.has_graph) return nullptr;
  for (const onnx::OpsetRecord& opset : model->record.opsets) model->opsets[opset.domain] = opset.version;
  if (model->record.opsets.empty() && model->record.ir_version < 3) model->opsets[""] = 1;
  tolerant(findings, nullptr, nullptr, "the graph", [&] { read_graph_tree(model->record.graph, model->graph, "", findings, 0); });
  for (const data_view view : model->record.functions) {
    tolerant(findings, nullptr, nullptr, "a local function", [&] {
      auto function = std::make_unique<FunctionTree>();
      function->record = onnx::parse_function(view);
      for (const data_view inner : function->record.value_infos) onnx::parse_value_info(inner);
      for (const onnx::OpsetRecord& opset : function->record.opsets) function->opsets[opset.domain] = opset.version;
      function->body.where = fmt::format("function {}", function->id());
      read_nodes(function->record.nodes, function->body, findings, 0);
      model->functions.push_back(std::move(function));
    });
  }
  model->index_functions();
  return model;
}

}  // namespace lathe::checker
