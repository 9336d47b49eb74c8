// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Models, graphs, nodes, attributes and functions. See reader.h for the rules, tensor_reader.cpp for tensors and types.

#include "onnx/reader.h"

#include <fmt/format.h>

#include <set>
#include <unordered_map>

#include "base/os.h"
#include "base/printable.h"
#include "ir/verify.h"
#include "onnx/fields.h"
#include "onnx/records.h"
#include "onnx/tensor_reader.h"
#include "ops/import.h"
#include "ops/op_def.h"

namespace lathe::onnx {

namespace {

constexpr int kMaxDepth = 64;
constexpr std::int64_t kNewestIrVersion = 14;

/// A node on its way into the graph.
struct Pending : NodeRecord {
  std::set<std::string> captures;  // tensors of graphs around that its nested graphs read
  int state = 0;                   // 0 untouched, 1 on the way, 2 made
};

std::shared_ptr<ir::Graph> read_graph(data_view bytes, ir::Graph* parent, ReadState& state);
void collect_attribute_captures(data_view attribute, std::set<std::string>& into, int depth);

/// Adds what the graph reads and does not make itself.
void collect_captures(data_view graph, std::set<std::string>& into, int depth) {
  if (depth > kMaxDepth) return;  // read_graph reports it
  std::set<std::string> reads, makes;
  FieldReader reader(graph);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::graph::kNode: {
        FieldReader node(reader.get_view());
        while (node.next()) {
          if (node.tag() == field::node::kInput) reads.insert(text(node.get_view()));
          else if (node.tag() == field::node::kOutput) makes.insert(text(node.get_view()));
          else if (node.tag() == field::node::kAttribute) collect_attribute_captures(node.get_view(), reads, depth + 1);
          else node.skip();
        }
        break;
      }
      case field::graph::kInitializer: makes.insert(name_of(reader.get_view(), field::tensor::kName)); break;
      case field::graph::kInput: makes.insert(name_of(reader.get_view(), field::value_info::kName)); break;
      case field::graph::kOutput: reads.insert(name_of(reader.get_view(), field::value_info::kName)); break;
      default: reader.skip();
    }
  }
  for (const std::string& name : reads)
    if (!name.empty() && !makes.contains(name)) into.insert(name);
}

void collect_attribute_captures(data_view attribute, std::set<std::string>& into, int depth) {
  FieldReader reader(attribute);
  while (reader.next()) {
    if (reader.tag() == field::attribute::kGraph || reader.tag() == field::attribute::kGraphs) collect_captures(reader.get_view(), into, depth);
    else reader.skip();
  }
}

Pending read_node(data_view bytes, std::size_t index) {
  Pending node{parse_node(bytes, index), {}, 0};
  if (node.domain == "ai.onnx") node.domain.clear();
  for (const data_view attribute : node.attributes) collect_attribute_captures(attribute, node.captures, 0);
  return node;
}

std::map<std::string, std::string> as_map(Entries entries) {
  std::map<std::string, std::string> map;
  for (auto& entry : entries) map.insert(std::move(entry));
  return map;
}

}  // namespace

std::pair<std::string, ir::Attribute> read_attribute(data_view bytes, ir::Graph* graph, ReadState& state) {
  return attribute_of(parse_attribute(bytes), graph, state);
}

std::pair<std::string, ir::Attribute> attribute_of(AttributeRecord a, ir::Graph* graph, ReadState& state) {
  ir::Attribute attribute;
  attribute.doc = std::move(a.doc);
  attribute.unread = std::move(a.unread);
  if (!a.ref.empty()) {
    attribute.ref_name = a.ref;
    attribute.ref_type = static_cast<ir::AttrType>(a.kind);
    return {a.name, std::move(attribute)};
  }
  if (a.kind == 0) a.kind = a.last_field;  // files older than the type field
  const auto need = [&](bool there) {
    if (!there) state.fail(Code::kInvalidModel, fmt::format("attribute '{}' has no value of its declared type", a.name));
  };
  std::string ignored;
  switch (static_cast<ir::AttrType>(a.kind)) {
    case ir::AttrType::kFloat: attribute.value = a.f; break;
    case ir::AttrType::kInt: attribute.value = a.i; break;
    case ir::AttrType::kString: attribute.value = std::move(a.s); break;
    case ir::AttrType::kTensor:
      need(!a.tensors.empty());
      attribute.value = read_tensor(a.tensors[0], state).tensor;
      break;
    case ir::AttrType::kGraph:
      need(!a.graphs.empty());
      attribute.value = read_graph(a.graphs[0], graph, state);
      break;
    case ir::AttrType::kFloats: attribute.value = std::move(a.floats); break;
    case ir::AttrType::kInts: attribute.value = std::move(a.ints); break;
    case ir::AttrType::kStrings: attribute.value = std::move(a.strings); break;
    case ir::AttrType::kTensors: {
      std::vector<Tensor> list;
      for (const data_view view : a.tensors) list.push_back(read_tensor(view, state).tensor);
      attribute.value = std::move(list);
      break;
    }
    case ir::AttrType::kGraphs: {
      std::vector<ir::GraphPtr> list;
      for (const data_view view : a.graphs) list.push_back(read_graph(view, graph, state));
      attribute.value = std::move(list);
      break;
    }
    case ir::AttrType::kSparseTensor:
      need(!a.sparses.empty());
      attribute.value = read_sparse_tensor(a.sparses[0], state, ignored);
      break;
    case ir::AttrType::kSparseTensors: {
      std::vector<ir::SparseTensor> list;
      for (const data_view view : a.sparses) list.push_back(read_sparse_tensor(view, state, ignored));
      attribute.value = std::move(list);
      break;
    }
    case ir::AttrType::kType:
      need(!a.types.empty());
      attribute.value = read_type(a.types[0], state, a.name);
      break;
    case ir::AttrType::kTypes: {
      std::vector<ir::Type> list;
      for (const data_view view : a.types) list.push_back(read_type(view, state, a.name));
      attribute.value = std::move(list);
      break;
    }
    default: state.fail(Code::kInvalidModel, fmt::format("attribute '{}' has the unknown type number {}", a.name, a.kind));
  }
  return {std::move(a.name), std::move(attribute)};
}

namespace {

/// Makes nodes in file order, or producers first where the file is not sorted.
class NodeMaker {
 public:
  NodeMaker(ir::Graph& graph, std::vector<Pending>& records, ReadState& state) : graph_(graph), records_(records), state_(state) {
    for (Pending& record : records)
      for (const std::string& output : record.outputs)
        if (!output.empty() && !producer_.emplace(output, &record).second) defect(record, fmt::format("two nodes make the tensor '{}'", output));
  }

  void run() {
    for (Pending& record : records_) make(record);
    if (defects_.empty()) return;
    Error error(Code::kInvalidModel, defects_.size() == 1 ? defects_[0] : fmt::format("{} (and {} more: {})", defects_[0], defects_.size() - 1, join(1)));
    if (!state_.source.empty()) error.in_source(state_.source);
    if (first_) error.at_node(first_->name.empty() ? fmt::format("#{}", first_->index) : first_->name, first_->op);
    throw error.with_remedy("The file breaks ONNX's rules; export it again.");
  }

 private:
  std::string join(std::size_t from) const {
    std::string all;
    for (std::size_t i = from; i < std::min<std::size_t>(defects_.size(), from + 8); ++i) all += (i > from ? "; " : "") + defects_[i];
    return all;
  }
  void defect(const Pending& record, std::string what) {
    if (!first_) first_ = &record;
    else what = fmt::format("{} '{}': {}", record.op, record.name.empty() ? fmt::format("#{}", record.index) : record.name, what);
    defects_.push_back(std::move(what));
  }

  void make(Pending& root) {
    // An explicit stack: a chain of a million unsorted nodes must not exhaust the real one.
    std::vector<Pending*> stack{&root};
    while (!stack.empty()) {
      Pending& record = *stack.back();
      if (record.state == 2) {
        stack.pop_back();
        continue;
      }
      record.state = 1;
      Pending* missing = nullptr;
      const auto look = [&](const std::string& input) {
        if (missing || input.empty() || graph_.find_outer(input)) return;
        const auto found = producer_.find(input);
        if (found == producer_.end() || found->second->state == 2) return;
        if (found->second->state == 1) defect(record, fmt::format("it needs its own result: the tensor '{}' is part of a cycle", input));
        else missing = found->second;
      };
      for (const std::string& input : record.inputs) look(input);
      for (const std::string& input : record.captures) look(input);
      if (missing) {
        stack.push_back(missing);
        continue;
      }
      finish(record);
      stack.pop_back();
    }
  }

  void finish(Pending& record) {
    record.state = 2;
    std::vector<ir::Value*> inputs;
    for (const std::string& name : record.inputs) {
      ir::Value* value = name.empty() ? nullptr : graph_.find_outer(name);
      if (!name.empty() && !value) defect(record, fmt::format("its input '{}' is made by no node, input or initializer", name));
      inputs.push_back(value);
    }
    for (const std::string& output : record.outputs)
      if (!output.empty() && graph_.find(output)) {
        defect(record, fmt::format("its output '{}' has the name of another tensor", output));
        return;
      }
    ir::Attrs attrs;
    for (const data_view view : record.attributes) {
      try {
        auto [name, attribute] = read_attribute(view, &graph_, state_);
        if (attrs.has(name)) defect(record, fmt::format("attribute '{}' is given twice", name));
        attrs.set(std::move(name), std::move(attribute));
      } catch (Error& error) {
        if (error.node().empty()) error.at_node(record.name.empty() ? fmt::format("#{}", record.index) : record.name, record.op);
        throw;
      }
    }
    ir::Node* node = graph_.add_node(record.domain, record.op, std::move(inputs), record.outputs, std::move(attrs));
    node->name = record.name;
    node->overload = record.overload;
    node->doc = record.doc;
    node->metadata = as_map(record.metadata);
    node->unread = record.unread;
    node->sources = {record.name.empty() ? fmt::format("#{}:{}", record.index, record.op) : record.name};
  }

  ir::Graph& graph_;
  std::vector<Pending>& records_;
  ReadState& state_;
  std::unordered_map<std::string, Pending*> producer_;
  std::vector<std::string> defects_;
  const Pending* first_ = nullptr;
};

struct ValueInfo {
  std::string name, doc;
  ir::Type type;
  std::map<std::string, std::string> metadata;
  ir::UnreadFields unread;
};

ValueInfo read_value_info(data_view bytes, ReadState& state) {
  ValueInfoRecord record = parse_value_info(bytes);
  ValueInfo info{std::move(record.name), std::move(record.doc), ir::Type{}, as_map(std::move(record.metadata)), std::move(record.unread)};
  if (record.has_type) info.type = read_type(record.type, state, info.name);
  return info;
}

std::shared_ptr<ir::Graph> read_graph(data_view bytes, ir::Graph* parent, ReadState& state) {
  if (++state.depth > kMaxDepth) state.fail(Code::kInvalidModel, "the graphs are nested too deeply");
  auto graph = std::make_shared<ir::Graph>(parent);
  GraphRecord record = parse_graph(bytes);
  graph->name = std::move(record.name);
  graph->doc = std::move(record.doc);
  graph->metadata = as_map(std::move(record.metadata));
  graph->unread = std::move(record.unread);
  std::vector<Pending> nodes;
  std::vector<NamedTensor> constants;
  std::vector<ValueInfo> inputs, outputs, infos;
  for (const data_view view : record.nodes) nodes.push_back(read_node(view, nodes.size()));
  for (const data_view view : record.initializers) constants.push_back(read_tensor(view, state));
  for (const data_view view : record.sparse_initializers) {
    NamedTensor dense;
    const ir::SparseTensor sparse = read_sparse_tensor(view, state, dense.name);
    dense.tensor = densify(sparse, dense.name, state);
    constants.push_back(std::move(dense));
  }
  for (const data_view view : record.inputs) inputs.push_back(read_value_info(view, state));
  for (const data_view view : record.outputs) outputs.push_back(read_value_info(view, state));
  for (const data_view view : record.value_infos) infos.push_back(read_value_info(view, state));
  const auto taken = [&](const std::string& name, const char* what) {
    if (graph->find(name)) state.fail(Code::kInvalidModel, fmt::format("two {} have this name", what), name);
  };
  for (NamedTensor& constant : constants) {
    if (constant.name.empty()) state.fail(Code::kInvalidModel, "an initializer has no name");
    taken(constant.name, "initializers");
    ir::Value* value = graph->add_constant(constant.name, std::move(constant.tensor));
    value->doc = std::move(constant.doc);
    value->metadata = std::move(constant.metadata);
    value->unread = std::move(constant.unread);
  }
  for (ValueInfo& input : inputs) {
    const ir::Value* same = graph->find(input.name);
    if (same && same->is_constant()) continue;  // an initializer of this name: a constant, see reader.h
    taken(input.name, "graph inputs");
    ir::Value* value = graph->add_input(input.name, std::move(input.type));
    value->doc = std::move(input.doc);
    value->metadata = std::move(input.metadata);
    value->unread = std::move(input.unread);
  }
  NodeMaker(*graph, nodes, state).run();
  const auto declare = [&](ValueInfo& info) {
    ir::Value* value = graph->find(info.name);
    if (!value || value->kind != ir::ValueKind::kNodeOutput) return;
    if (info.type.kind != ir::TypeKind::kUnknown) value->type = std::move(info.type);
    value->doc = std::move(info.doc);
    value->metadata = std::move(info.metadata);
    value->unread = std::move(info.unread);
  };
  for (ValueInfo& info : infos) declare(info);
  for (ValueInfo& output : outputs) {
    ir::Value* value = graph->find_outer(output.name);
    if (!value)
      state.fail(Code::kInvalidModel, "the graph's output is made by no node, input or initializer", output.name,
                 "The file breaks ONNX's rules; export it again.");
    declare(output);
    if (value->graph != graph.get() || value->is_constant()) {
      // A graph's outputs are its own inputs or node outputs (graph.h); the interface keeps the name.
      if (value->graph == graph.get()) graph->rename(value, graph->unique_name(output.name + "_value"));
      const std::string name = value->graph == graph.get() ? output.name : graph->unique_name(output.name + "_out");
      ir::Node* copy = graph->add_node("", "Identity", {value}, {name});
      copy->sources = {fmt::format("output '{}'", output.name)};
      copy->outputs[0]->type = value->type;
      value = copy->outputs[0];
    }
    graph->add_output(value);
  }
  --state.depth;
  return graph;
}

std::map<std::string, std::int64_t> opset_map(const std::vector<OpsetRecord>& opsets) {
  std::map<std::string, std::int64_t> map;
  for (const OpsetRecord& opset : opsets) map[opset.domain == "ai.onnx" ? "" : opset.domain] = opset.version;
  return map;
}

ir::Function read_function(data_view bytes, ReadState& state) {
  FunctionRecord record = parse_function(bytes);
  ir::Function function;
  function.name = std::move(record.name);
  function.domain = std::move(record.domain);
  function.overload = std::move(record.overload);
  function.doc = std::move(record.doc);
  function.attributes = std::move(record.attributes);
  function.opset_imports = opset_map(record.opsets);
  function.metadata = as_map(std::move(record.metadata));
  function.unread = std::move(record.unread);
  function.body = std::make_shared<ir::Graph>();
  std::vector<Pending> nodes;
  std::vector<ValueInfo> infos;
  for (const data_view view : record.attribute_defaults) {
    auto [name, attribute] = read_attribute(view, function.body.get(), state);
    function.attribute_defaults.set(std::move(name), std::move(attribute));
  }
  for (const data_view view : record.nodes) nodes.push_back(read_node(view, nodes.size()));
  for (const data_view view : record.value_infos) infos.push_back(read_value_info(view, state));
  for (const std::string& input : record.inputs) function.body->add_input(input, {});
  NodeMaker(*function.body, nodes, state).run();
  for (ValueInfo& info : infos) {
    ir::Value* value = function.body->find(info.name);
    if (!value) continue;
    value->type = std::move(info.type);
    value->doc = std::move(info.doc);
    value->metadata = std::move(info.metadata);
    value->unread = std::move(info.unread);
  }
  for (const std::string& output : record.outputs) {
    ir::Value* value = function.body->find(output);
    if (!value) state.fail(Code::kInvalidModel, fmt::format("the function '{}' makes no such output", function.name), output);
    function.body->add_output(value);
  }
  return function;
}

/// What the graph's own rules (ir/verify.h) find at this point is the file's fault.
void check_sound(const ir::Graph& graph, const ReadState& state) {
  const auto defects = ir::find_defects(graph);
  if (!defects.empty()) state.fail(Code::kInvalidModel, defects[0], {}, "The file breaks ONNX's rules; export it again.");
}

std::shared_ptr<ir::Model> read(std::span<const std::byte> bytes, ReadState& state) {
  auto model = std::make_shared<ir::Model>();
  model->source = state.source;
  model->storage = state.owner;
  ModelRecord record = parse_model({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  model->ir_version = record.ir_version;
  model->producer_name = std::move(record.producer_name);
  model->producer_version = std::move(record.producer_version);
  model->domain = std::move(record.domain);
  model->model_version = record.model_version;
  model->doc = std::move(record.doc);
  model->opset_imports = opset_map(record.opsets);
  model->metadata = as_map(std::move(record.metadata));
  model->unread = std::move(record.unread);
  for (const data_view view : record.functions) model->functions.push_back(read_function(view, state));
  const auto refuse_own = [&](const std::map<std::string, std::int64_t>& imports) {
    if (imports.contains(std::string(ops::kOwnDomain)))
      state.fail(Code::kInvalidModel, fmt::format("the file imports the domain '{}', whose operators are for use inside of Lathe", ops::kOwnDomain), {},
                 "Use the operators that they are parts of.");
  };
  refuse_own(model->opset_imports);
  for (const auto& function : model->functions) refuse_own(function.opset_imports);
  if (!record.has_graph)
    state.fail(Code::kCorruptFile, "the file holds no graph, so it is not an ONNX model", {}, "Give a file written by torch.onnx.export or `lathe export`.");
  if (model->ir_version <= 0) state.fail(Code::kCorruptFile, "the file has no IR version, so it is not an ONNX model");
  if (model->ir_version > kNewestIrVersion)
    state.fail(Code::kUnsupported, fmt::format("the file has IR version {}, the newest known is {}", model->ir_version, kNewestIrVersion), {},
               "Export with an older IR version.");
  if (model->opset_imports.empty()) state.fail(Code::kInvalidModel, "the file imports no operator set");
  const std::int64_t opset = model->opset();
  if (model->opset_imports.contains("") && opset < 1) state.fail(Code::kInvalidModel, fmt::format("the file imports opset {} of ai.onnx", opset));
  if (opset > ops::kCanonicalOpset)
    state.fail(Code::kUnsupported, fmt::format("the file uses opset {}, the newest known is {}", opset, ops::kCanonicalOpset), {},
               "Export with an older opset.");
  model->graph = read_graph(record.graph, nullptr, state);
  check_sound(*model->graph, state);
  for (const auto* interface : {&model->graph->inputs(), &model->graph->outputs()})
    for (const ir::Value* value : *interface)
      if (!is_utf8(value->name)) state.fail(Code::kInvalidModel, "the name of an input or output is no UTF-8 text", value->name);
  for (const ir::Function& function : model->functions) check_sound(*function.body, state);
  for (const auto& [symbol, param] : state.dim_params)
    if (symbol != param) model->dim_params.emplace(symbol, param);
  return model;
}

std::shared_ptr<ir::Model> guarded(std::span<const std::byte> bytes, ReadState& state) {
  try {
    return read(bytes, state);
  } catch (const protozero::exception& error) {
    const bool archive = bytes.size() > 2 && bytes[0] == std::byte{'P'} && bytes[1] == std::byte{'K'};  // PyTorch's .pt and .pt2 are ZIP files
    state.fail(Code::kCorruptFile, fmt::format("the file is cut off or is not an ONNX model ({})", reason(error)), {},
               archive ? "A PyTorch model is exported first: `lathe export`." : "Copy or export it again.");
  } catch (Error& error) {
    if (error.source().empty() && !state.source.empty()) error.in_source(state.source);
    throw;
  } catch (const std::bad_alloc&) {
    state.fail(Code::kOutOfMemory, "there is not enough memory to read the file");
  } catch (const std::length_error&) {
    state.fail(Code::kCorruptFile, "the file states sizes that no machine can hold");
  }
}

}  // namespace

std::shared_ptr<ir::Model> read_model(const std::filesystem::path& path, const ReadOptions& options) {
  const auto file = os::MappedFile::open(path);
  ReadState state;
  state.source = path.string();
  state.base_dir = path.parent_path();
  state.owner = file;
  state.options = options;
  if (file->bytes().empty()) state.fail(Code::kCorruptFile, "the file is empty", {}, "Copy or export it again.");
  return guarded(file->bytes(), state);
}

std::shared_ptr<ir::Model> read_model(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::filesystem::path& base_dir,
                                      const ReadOptions& options) {
  ReadState state;
  state.base_dir = base_dir;
  state.owner = std::move(owner);
  state.options = options;
  if (bytes.empty()) state.fail(Code::kCorruptFile, "the model is empty");
  return guarded(bytes, state);
}

}  // namespace lathe::onnx
