// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See network.h.

#include "network.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <tuple>

#include "api/impl.h"
#include "lathe/status.h"
#include "ops/import.h"
#include "ops/reference_runner.h"

namespace lathe::python {

ir::Model& NetworkObject::model() const { return *network.impl()->model; }

ir::Value& NetworkObject::tensor(const std::string& name) const {
  ir::Value* value = model().graph->find(name);
  if (!value) throw Error(Code::kInvalidArgument, "the model has no tensor '" + name + "'").in_source(model().source);
  return *value;
}

void NetworkObject::rename(const std::string& from, const std::string& to) const {
  ir::Value& value = tensor(from);
  if (from == to) return;
  ir::Graph& graph = *model().graph;
  if (to.empty() || !graph.is_free(to)) throw Error(Code::kInvalidArgument, "the tensor '" + from + "' cannot be named '" + to + "': another has that name");
  graph.rename(&value, to);
}

void NetworkObject::unmark_output(const std::string& name) const {
  const ir::Value& value = tensor(name);
  ir::Graph& graph = *model().graph;
  for (std::size_t i = 0; i < graph.outputs().size(); ++i)
    if (graph.outputs()[i] == &value) return graph.remove_output(i);
  throw Error(Code::kInvalidArgument, "'" + name + "' is no output");
}

void NetworkObject::set_dtype(const std::string& name, const std::string& dtype) const {
  ir::Value* value = &tensor(name);
  const std::optional<DType> wanted = parse_dtype(dtype);
  if (!wanted || !(is_float(*wanted) || is_integer(*wanted) || *wanted == DType::kBool))
    throw Error(Code::kInvalidArgument, "'" + dtype + "' is no element type that an input or output may have");
  if (value->dtype() == *wanted) return;
  ir::Graph& graph = *model().graph;
  const bool is_input = value->kind == ir::ValueKind::kInput;
  if (!is_input && !value->is_graph_output())
    throw Error(Code::kInvalidArgument, "'" + name + "' is neither an input nor an output: its type follows from them");
  const DType own = value->dtype();
  ir::Attrs attrs;
  attrs.set("to", static_cast<std::int64_t>(is_input ? own : *wanted));
  if (is_input) {
    const std::vector<ir::Node*> nodes = graph.nodes();
    ir::Node* cast =
        graph.add_node("", "Cast", {}, {graph.unique_name(name + "_as_" + std::string(dtype_name(own)))}, attrs, nodes.empty() ? nullptr : nodes.front());
    ir::Value* inner = cast->output();
    inner->type = value->type;
    if (!graph.replace_all_uses(value, inner)) throw Error(Code::kInvalidArgument, "'" + name + "' is an output too: it cannot have another element type");
    graph.set_input(cast, 0, value);
    value->type.dtype = *wanted;
    value->content.reset();
    return;
  }
  graph.rename(value, graph.unique_name(name + "_as_" + std::string(dtype_name(own))));
  ir::Node* cast = graph.add_node("", "Cast", {value}, {name}, attrs);
  cast->output()->type = value->type;
  cast->output()->type.dtype = *wanted;
  for (std::size_t i = 0; i < graph.outputs().size(); ++i)
    if (graph.outputs()[i] == value) graph.set_output(i, cast->output());
}

namespace {

NetworkObject* parse(nb::handle model, const std::string& folder) {
  if (nb::isinstance<nb::bytes>(model)) {
    const nb::bytes bytes = nb::borrow<nb::bytes>(model);
    const std::span<const std::byte> view(reinterpret_cast<const std::byte*>(bytes.c_str()), bytes.size());
    nb::gil_scoped_release released;
    return new NetworkObject(Network::parse(view, folder));
  }
  const std::string path = nb::cast<std::string>(model);
  nb::gil_scoped_release released;
  return new NetworkObject(Network::parse(std::filesystem::path(path)));
}

using NodeText = std::tuple<std::string, std::string, std::vector<std::string>, std::vector<std::string>>;

std::vector<NodeText> nodes_of(const NetworkObject& self) {
  std::vector<NodeText> list;
  const auto names = [](const std::vector<ir::Value*>& values) {
    std::vector<std::string> texts;
    for (const ir::Value* value : values) texts.push_back(value ? value->name : std::string());
    return texts;
  };
  for (const ir::Node* node : self.model().graph->nodes()) list.emplace_back(node->name, node->op, names(node->inputs), names(node->outputs));
  return list;
}

/// Nodes whose operators Lathe lacks.
std::vector<std::string> unsupported(const NetworkObject& self) {
  nb::gil_scoped_release released;
  const std::shared_ptr<ir::Model> model = self.model().clone();
  ops::canonicalise_opsets(*model);
  std::vector<std::string> names;
  for (const ir::Node* node : ops::unsupported_nodes(*model->graph)) names.push_back(node->describe());
  return names;
}

/// None for what is no tensor, or one whose shape the file does not tell.
std::optional<IoInfo> info_of(const NetworkObject& self, const std::string& name) {
  const ir::Value& value = self.tensor(name);
  if (!value.type.is_tensor() || !value.has_shape()) return std::nullopt;
  return api::io_info(value.name, value.type);
}

}  // namespace

void register_network(nb::module_& m) {
  nb::class_<NetworkObject>(m, "Network", "A model between reading and building; its interface may be changed.")
      .def_static("parse", &parse, nb::arg("model"), nb::arg("folder") = "", "An ONNX file's path or its bytes; `folder`: where bytes find external data.")
      .def_prop_ro("inputs", [](const NetworkObject& self) { return self.network.inputs(); })
      .def_prop_ro("outputs", [](const NetworkObject& self) { return self.network.outputs(); })
      .def_prop_ro("name", [](const NetworkObject& self) { return self.model().graph->name; })
      .def_prop_ro("nodes", &nodes_of, "(name, op, input tensors, output tensors) of each.")
      .def_prop_ro("unsupported", &unsupported, "Nodes that no engine can be built with, described.")
      .def("tensor", &info_of, nb::arg("name"))
      .def(
          "mark_output", [](NetworkObject& self, const std::string& name) { self.network.mark_output(name); }, nb::arg("name"))
      .def("unmark_output", &NetworkObject::unmark_output, nb::arg("name"))
      .def("rename", &NetworkObject::rename, nb::arg("name"), nb::arg("to"))
      .def("set_dtype", &NetworkObject::set_dtype, nb::arg("name"), nb::arg("dtype"), "Converts behind an input, or in front of an output.")
      .def(
          "set_metadata", [](const NetworkObject& self, const std::string& key, const std::string& value) { self.model().metadata[key] = value; },
          nb::arg("key"), nb::arg("value"), "Travels into the engine: Engine.metadata.");
}

}  // namespace lathe::python
