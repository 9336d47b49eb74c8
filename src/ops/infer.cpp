// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Shape inference over a graph: context, merging, driver.
#include "ops/infer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "ops/evaluate.h"
#include "ops/registry.h"
#include "ops/validate.h"

namespace lathe::ops {
namespace {

/// State of one inference run, shared by nested graphs.
struct Run {
  const InferOptions& options;
  InferReport report;
  std::int64_t next_symbol = 0;
  std::set<std::string> extents;        // fresh symbols that are some tensor's extent, thus never negative
  std::set<std::string> input_symbols;  // those of the outermost graph's inputs
  // A nested graph may be inferred several times, with other types of its inputs: what its values had at the first time.
  std::unordered_map<const Value*, ir::Type> declared;
  std::set<const Node*> reported;  // in without_rule

  Dim fresh() {
    std::string name(1, '?');
    name += std::to_string(next_symbol++);
    return Dim::symbol(std::move(name));
  }
};

void note_extents(const std::optional<Shape>& shape, std::set<std::string>& into) {
  if (!shape) return;
  for (const auto& dim : *shape) {
    if (!dim.is_constant()) dim.collect_symbols(into);
  }
}

[[noreturn]] void conflict(const Node& node, const Value& value, const std::string& found, const std::string& declared) {
  auto error = node_error(node, "computes " + found + ", but the model declares " + declared);
  throw error.at_tensor(value.name).with_remedy("The model contradicts itself: export it again, or drop its value_info.");
}

/// How a rule's result and the declaration become one type.
struct Merge {
  const Node& node;
  const Value& value;
  const Run& run;
  std::int64_t first_own;  // fresh symbols from this number on were made by the rule at work: they say nothing yet
  bool nested;             // in a nested graph a declared extent may be that of one run of many
  bool loops;              // what a loop's trips are known to change is not what a file declares, be it of the trip that the exporter saw

  bool only_input_symbols(const Dim& dim) const {
    std::set<std::string> symbols;
    dim.collect_symbols(symbols);
    return std::all_of(symbols.begin(), symbols.end(), [&](const std::string& s) { return run.input_symbols.count(s) > 0; });
  }
  bool is_own(const Dim& dim) const { return dim.is_symbol() && fresh_number(dim.to_string()) >= first_own; }
  Dim operator()(const Dim& found, const Dim& declared, bool& clash) const {
    if (found == declared) return found;
    if (found.is_constant() && declared.is_constant()) {
      clash = true;
      return found;
    }
    if (found.is_constant() || !has_fresh(found)) return found;
    if (has_fresh(declared)) return !nested && is_own(found) ? declared : found;  // of an earlier inference
    if (loops) return found;
    if (is_own(found)) return declared;
    // The rule knows the extent as that of other tensors. A name that no input binds knows less.
    if (nested || !(declared.is_constant() || only_input_symbols(declared))) return found;
    return declared;
  }
};

ir::Type merge_type(const Merge& merge, const ir::Type& found, const ir::Type& declared) {
  if (declared.kind == ir::TypeKind::kUnknown) return found;
  if (found.kind == ir::TypeKind::kUnknown) return declared;
  if (found.kind != declared.kind) {
    // An optional that holds something is what it holds: the declaration says which it is.
    ir::Type merged = declared;
    if (declared.kind == ir::TypeKind::kOptional && declared.element) {
      merged.element = std::make_shared<const ir::Type>(merge_type(merge, found, *declared.element));
      return merged;
    }
    if (found.kind == ir::TypeKind::kOptional && found.element && found.element->kind == declared.kind) return merge_type(merge, *found.element, declared);
    conflict(merge.node, merge.value, found.to_string(), declared.to_string());
  }
  ir::Type merged = found;
  if (merged.denotation.empty()) merged.denotation = declared.denotation;
  if (found.dtype == DType::kUndefined) merged.dtype = declared.dtype;
  if (declared.dtype != DType::kUndefined && merged.dtype != declared.dtype) conflict(merge.node, merge.value, found.to_string(), declared.to_string());
  if (found.element && declared.element) {
    merged.element = std::make_shared<const ir::Type>(merge_type(merge, *found.element, *declared.element));
  } else if (!found.element) {
    merged.element = declared.element;
  }
  if (!found.shape) {
    merged.shape = declared.shape;
  } else if (declared.shape) {
    bool clash = found.shape->size() != declared.shape->size();
    for (std::size_t i = 0; !clash && i < found.shape->size(); ++i) (*merged.shape)[i] = merge((*found.shape)[i], (*declared.shape)[i], clash);
    if (clash) conflict(merge.node, merge.value, found.to_string(), declared.to_string());
  }
  return merged;
}

/// The elements of a sequence need not be equal in the extents that a file leaves open or names: these become fresh symbols, which in a
/// sequence's element mean just that (control/types.h).
ir::Type with_open_elements(const ir::Type& type, Run& run, bool in_sequence = false) {
  ir::Type result = type;
  if (result.shape && in_sequence) {
    for (Dim& dim : *result.shape) {
      std::set<std::string> symbols;
      if (!dim.is_constant()) dim.collect_symbols(symbols);
      const bool known = std::all_of(symbols.begin(), symbols.end(), [&](const std::string& s) { return s.starts_with("?") || run.input_symbols.count(s); });
      if (!known || dim.constant().value_or(0) < 0) dim = run.fresh();
    }
  }
  if (result.element) {
    const bool inside = in_sequence || type.kind == ir::TypeKind::kSequence;
    result.element = std::make_shared<const ir::Type>(with_open_elements(*type.element, run, inside));
  }
  return result;
}

void infer_into(ir::Graph& graph, Run& run);

class Context final : public InferContext {
 public:
  Context(Run& run, Node& node, bool declared_counts) : run_(run), node_(node), declared_counts_(declared_counts), first_own_(run.next_symbol) {}

  Node& node() override { return node_; }
  std::optional<std::vector<Dim>> content(std::size_t i) override { return known_content(*node_.input(i), run_.options.content_limit); }
  Tensor constant(std::size_t i) override { return constant_of(*node_.input(i)); }
  void set_type(std::size_t output, ir::Type type) override {
    Value* value = node_.output(output);
    if (!value) return;
    if (type.shape) {
      for (const auto& dim : *type.shape) {
        if (const auto c = dim.constant(); c && *c < 0) {
          auto error = node_error(node_, "the output's shape " + ir::to_string(*type.shape) + " has a negative extent");
          throw error.at_tensor(value->name);
        }
      }
    }
    value->type = declared_counts_ ? merge_type(merge_into(*value), type, with_open_elements(value->type, run_)) : std::move(type);
    note_extents(value->type.shape, run_.extents);
  }
  void set_content(std::size_t output, std::vector<Dim> content) override {
    Value* value = node_.output(output);
    if (value && content.size() <= run_.options.content_limit) value->content = std::move(content);
  }
  Dim fresh_symbol() override {
    ++run_.report.fresh_symbols;
    return run_.fresh();
  }
  bool is_extent(const Dim& dim) override {
    std::set<std::string> symbols;
    if (!dim.is_constant()) dim.collect_symbols(symbols);
    return std::all_of(symbols.begin(), symbols.end(), [&](const std::string& s) { return !s.starts_with("?") || run_.extents.count(s); });
  }
  std::int64_t opset() override { return newest_version_; }
  std::vector<ir::Type> infer_subgraph(ir::Graph& graph, std::span<const ir::Type> inputs) override {
    const auto& formals = graph.inputs();
    if (inputs.size() != formals.size()) {
      fail("its nested graph '" + graph.name + "' takes " + std::to_string(formals.size()) + " inputs, but gets " + std::to_string(inputs.size()));
    }
    for (Value* value : graph.values()) {
      if (value->is_constant()) continue;
      const auto [at, first] = run_.declared.try_emplace(value, value->type);
      if (!first) value->type = at->second;
    }
    const bool loops = node_.is("Loop");
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Value* formal = formals[i];
      formal->content.reset();
      if (inputs[i].kind == ir::TypeKind::kUnknown) continue;
      // What flows in decides. Only a rank that the caller never knew leaves the declared one.
      const Value* actual = loops ? node_.input(i) : nullptr;
      const bool widened = actual && actual->has_shape() && inputs[i].is_tensor() && !inputs[i].shape;
      if (run_.options.discard_previous || widened) {
        formal->type = inputs[i];
      } else {
        formal->type = merge_type(merge_into(*formal), inputs[i], with_open_elements(formal->type, run_));
      }
    }
    // A loop's body runs only while the condition holds.
    if (loops && formals.size() > 1 && formals[1]->dtype() == DType::kBool) formals[1]->content = std::vector<Dim>{Dim(1)};
    infer_into(graph, run_);
    std::vector<ir::Type> types;
    for (const Value* out : graph.outputs()) types.push_back(out->type);
    return types;
  }
  [[noreturn]] void fail(std::string message) override { throw node_error(node_, std::move(message)); }

 private:
  static constexpr std::int64_t newest_version_ = 28;
  Merge merge_into(const Value& value) const { return {node_, value, run_, first_own_, value.graph && value.graph->parent() != nullptr, node_.is("Loop")}; }
  Run& run_;
  Node& node_;
  bool declared_counts_;
  std::int64_t first_own_;
};

void infer_node(Node& node, Run& run) {
  const OpDef* op = find_op(node.domain, node.op);
  const auto rule = op ? op->infer : nullptr;
  if (!rule) {
    if (run.reported.insert(&node).second) run.report.without_rule.push_back(node.describe());
  } else {
    if (op && run.options.check_types) {
      std::vector<Error> defects;
      check_node_types(node, newest_schema(*op), false, defects);
      if (!defects.empty()) throw defects.front();
    }
    for (Value* out : node.outputs) {
      if (out && !out->is_constant()) out->content.reset();
    }
    Context context(run, node, !run.options.discard_previous);
    if (run.options.discard_previous) {
      for (Value* out : node.outputs) {
        if (out) out->type = {};
      }
    }
    try {
      rule(context);
    } catch (const Error& error) {
      rethrow_at(node, error);  // of extents too large, say: the rule's helpers do not know the node
    }
  }
}

void infer_into(ir::Graph& graph, Run& run) {
  for (const Value* input : graph.inputs()) note_extents(input->type.shape, run.extents);
  for (Node* node : graph.nodes()) infer_node(*node, run);
}

/// Nodes, and outputs without a rank, once each however often their graph was inferred.
void count_nodes(const ir::Graph& graph, InferReport& report) {
  ir::for_each_node_deep(graph, [&](Node& node) {
    ++report.nodes;
    for (const Value* out : node.outputs) {
      if (!out) continue;
      if (out->type.kind == ir::TypeKind::kUnknown || (out->type.is_tensor() && !out->type.shape)) ++report.unknown_shapes;
    }
  });
}

/// New symbols must differ from those that an earlier run left in types and contents.
std::int64_t first_free_symbol(const ir::Graph& graph) {
  std::int64_t next = 0;
  const auto look = [&](const Dim& dim) {
    if (dim.is_constant()) return;
    std::set<std::string> symbols;
    dim.collect_symbols(symbols);
    for (const auto& s : symbols) next = std::max(next, fresh_number(s) + 1);
  };
  const auto look_graph = [&](const ir::Graph& g) {
    for (const Value* v : g.values()) {
      for (const ir::Type* type = &v->type; type; type = type->element.get())
        if (type->shape) std::for_each(type->shape->begin(), type->shape->end(), look);
      if (v->content) std::for_each(v->content->begin(), v->content->end(), look);
    }
  };
  look_graph(graph);
  ir::for_each_node_deep(graph, [&](Node& node) {
    for (const auto& [name, attribute] : node.attrs) {
      if (const auto* g = std::get_if<ir::GraphPtr>(&attribute.value)) look_graph(**g);
    }
  });
  return next;
}

/// An extent that the file leaves open without a name gets one: two such extents are not known to be equal.
void name_open_inputs(ir::Graph& graph) {
  for (Value* input : graph.inputs()) {
    if (!input->type.shape) continue;
    for (std::size_t axis = 0; axis < input->type.shape->size(); ++axis) {
      Dim& dim = (*input->type.shape)[axis];
      if (const auto c = dim.constant(); (c && *c < 0) || has_fresh(dim)) dim = Dim::symbol(input->name + "_dim" + std::to_string(axis));
    }
  }
}

}  // namespace

Tensor constant_of(const Value& value) {
  if (value.is_constant()) return value.constant;
  if (value.producer && value.producer->is("Constant")) return evaluate_node(*value.producer, {}).front();
  return {};
}

std::int64_t fresh_number(const std::string& symbol) {
  std::int64_t number = -1;
  if (symbol.starts_with("?")) std::from_chars(symbol.data() + 1, symbol.data() + symbol.size(), number);
  return number;
}

bool has_fresh(const Dim& dim) {
  if (dim.is_constant()) return false;
  std::set<std::string> symbols;
  dim.collect_symbols(symbols);
  return std::any_of(symbols.begin(), symbols.end(), [](const std::string& s) { return s.starts_with("?"); });
}

std::optional<std::vector<Dim>> known_content(const ir::Value& value, std::size_t limit) {
  // What folding made of a value beats what was known of it before.
  if (value.content && !value.is_constant()) return value.content;
  const Tensor t = constant_of(value);
  if (!t.defined()) return value.content;
  if (!t.is_tensor() || t.size() > static_cast<std::int64_t>(limit)) return std::nullopt;
  std::vector<Dim> content;
  content.reserve(static_cast<std::size_t>(t.size()));
  const bool whole = is_integer(t.dtype()) || t.dtype() == DType::kBool;
  if (!whole && !is_float(t.dtype())) return std::nullopt;
  for (std::int64_t i = 0; i < t.size(); ++i) {
    if (whole) {
      content.emplace_back(t.as_int64(i));
      continue;
    }
    const double v = t.as_double(i);
    if (!(std::abs(v) < 9.0e15) || v != std::floor(v) || (v == 0 && std::signbit(v))) return std::nullopt;
    content.emplace_back(static_cast<std::int64_t>(v));
  }
  return content;
}

InferReport infer_graph(ir::Graph& graph, const InferOptions& options) {
  name_open_inputs(graph);
  Run run{options, {}, options.discard_previous ? 0 : first_free_symbol(graph), {}, {}, {}, {}};
  for (const Value* input : graph.inputs()) note_extents(input->type.shape, run.input_symbols);
  for (Value* input : graph.inputs())
    if (input->type.element) input->type = with_open_elements(input->type, run);
  infer_into(graph, run);
  count_nodes(graph, run.report);
  return std::move(run.report);
}

InferReport infer_graph(ir::Model& model, const InferOptions& options) {
  try {
    return infer_graph(*model.graph, options);
  } catch (Error& error) {
    if (!model.source.empty() && error.source().empty()) error.in_source(model.source);
    throw;
  }
}

}  // namespace lathe::ops
