// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See islands.h. Every node gets a time: islands run at even times, nodes by their definitions at odd ones. A node of an island runs as early as
// its inputs and the symbols of its shapes allow, and all of one time are one island.

#include "builder/islands.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "lathe/status.h"
#include "ops/candidate.h"
#include "ops/registry.h"

namespace lathe::builder {
namespace {

using ir::Dim;
using Symbols = std::set<std::string>;

void collect(const ir::Shape& shape, Symbols& into) {
  for (const Dim& dim : shape) dim.collect_symbols(into);
}

/// A tensor of numbers of known rank: what planned programs hold.
bool is_plain(const ir::Value* value) {
  return value->type.is_tensor() && value->type.shape && value->dtype() != DType::kUndefined && value->dtype() != DType::kString &&
         value->dtype() != DType::kComplex64 && value->dtype() != DType::kComplex128;
}

bool draws_on_gpu(const ir::Node& node) {
  if (ops::is_deterministic(node)) return false;
  const auto candidates = ops::candidates_for(ops::full_name(node.domain, node.op));
  return std::any_of(candidates.begin(), candidates.end(), [](const ops::Candidate* candidate) { return candidate->name.starts_with("cuda."); });
}

bool can_be_planned(const ir::Node& node, Draws draws) {
  if (!ir::nested_graphs(node).empty()) return false;
  if (!ops::is_deterministic(node) && !(draws == Draws::kPlannedOnGpu && draws_on_gpu(node))) return false;
  const auto plain = [](const ir::Value* value) { return !value || is_plain(value); };
  return std::all_of(node.inputs.begin(), node.inputs.end(), plain) && std::all_of(node.outputs.begin(), node.outputs.end(), plain);
}

/// What a graph knows of symbols.
struct Scope {
  std::unordered_map<std::string, std::vector<SymbolSource>> sources;

  void add(const ir::Value* value) {
    if (value->type.is_tensor() && value->type.shape)
      for (std::size_t axis = 0; axis < value->shape().size(); ++axis)
        if (value->shape()[axis].is_symbol()) sources[value->shape()[axis].symbol_name()].push_back({value, static_cast<std::int64_t>(axis)});
    if (value->content && value->type.is_tensor())
      for (std::size_t k = 0; k < value->content->size(); ++k)
        if ((*value->content)[k].is_symbol()) sources[(*value->content)[k].symbol_name()].push_back({value, -1 - static_cast<std::int64_t>(k)});
  }
  const std::vector<SymbolSource>* find(const std::string& symbol) const {
    const auto found = sources.find(symbol);
    return found == sources.end() ? nullptr : &found->second;
  }
};

/// Symbols in the shapes of a graph's values, nested ones too.
void shape_symbols(const ir::Graph& graph, Symbols& into) {
  const auto look = [&](const ir::Graph& g) {
    for (const ir::Value* value : g.values())
      if (value->type.is_tensor() && value->type.shape) collect(value->shape(), into);
  };
  look(graph);
  ir::for_each_node_deep(graph, [&](ir::Node& node) {
    for (const ir::Graph* nested : ir::nested_graphs(node)) look(*nested);
  });
}

class Cutter {
 public:
  Cutter(const ir::Graph& graph, std::vector<const ir::Value*> captures, Draws draws) : graph_(graph), draws_(draws) {
    cut_.graph = &graph;
    cut_.captures = std::move(captures);
    for (const ir::Value* input : graph.inputs()) scope_.add(input);
    for (const ir::Value* value : cut_.captures) scope_.add(value);
  }

  CutGraph run() {
    graph_.for_each([&](const ir::Node& node) {
      if (can_be_planned(node, draws_) && place_in_island(node)) return;
      place_alone(node);
    });
    build();
    return std::move(cut_);
  }

 private:
  int time_of(const ir::Value* value) const {
    const auto found = made_at_.find(value);
    return found == made_at_.end() ? -1 : found->second;
  }

  /// The earliest time of an island that can read `source` (nothing of its own time can).
  int readable_at(const SymbolSource& source) const {
    const int made = time_of(source.value);
    return made < 0 ? 0 : made % 2 == 0 ? made + 2 : made + 1;
  }

  /// Extents of an output that an element of an input is: where the element is an expression of what may be negative, the extent has a symbol of its own,
  /// which that element tells.
  void add_told_extents(const ir::Node& node) {
    const ir::Value *sizes = node.is("Resize") ? node.input(3) : nullptr, *output = node.output();
    if (!sizes || sizes->is_constant() || !output || node.attrs.has("axes") || node.attrs.get_string("keep_aspect_ratio_policy", "stretch") != "stretch")
      return;
    if (!sizes->has_shape() || sizes->shape() != ir::Shape{static_cast<std::int64_t>(output->shape().size())}) return;
    for (std::size_t k = 0; k < output->shape().size(); ++k)
      if (const Dim& dim = output->shape()[k]; dim.is_symbol() && !scope_.find(dim.symbol_name()))
        scope_.sources[dim.symbol_name()].push_back({sizes, -1 - static_cast<std::int64_t>(k)});
  }

  /// False when a symbol of its shapes cannot be known before it runs.
  bool place_in_island(const ir::Node& node) {
    add_told_extents(node);
    int time = 0;
    Symbols symbols, extents;
    const auto note = [&](const ir::Shape& shape) {
      collect(shape, symbols);
      for (const Dim& dim : shape)
        if (dim.is_symbol()) extents.insert(dim.symbol_name());
    };
    for (const ir::Value* input : node.inputs) {
      if (!input) continue;
      const int made = time_of(input);
      time = std::max(time, made < 0 ? 0 : made % 2 == 0 ? made : made + 1);
      note(input->shape());
    }
    for (const ir::Value* output : node.outputs)
      if (output) note(output->shape());
    for (const std::string& symbol : symbols) {
      const std::vector<SymbolSource>* sources = scope_.find(symbol);
      if (!sources) return false;  // only this node's run tells, or it is of a graph around and nothing carries it
      // An element may be negative, which no carrier brings, unless it is an extent as well.
      int earliest = std::numeric_limits<int>::max();
      for (const SymbolSource& source : *sources)
        if (source.place >= 0 || extents.count(symbol)) earliest = std::min(earliest, readable_at(source));
      if (earliest == std::numeric_limits<int>::max()) return false;
      time = std::max(time, earliest);
    }
    island_nodes_[time].push_back(&node);
    finish(node, time);
    return true;
  }

  void place_alone(const ir::Node& node) {
    int time = 1;
    const auto wait_for = [&](const ir::Value* value) {
      const int made = time_of(value);
      time = std::max(time, made < 0 ? 1 : made % 2 == 0 ? made + 1 : made);
    };
    for (const ir::Value* input : node.inputs)
      if (input) wait_for(input);
    Piece piece;
    piece.node = &node;
    for (const ir::Graph* nested : ir::nested_graphs(node)) {
      std::vector<const ir::Value*> captures;
      for (const ir::Value* value : ir::captured_values(*nested)) captures.push_back(value);
      add_symbol_captures(*nested, captures);
      for (const ir::Value* value : captures) {
        wait_for(value);
        read_alone_.insert(value);
      }
      piece.bodies.push_back(Cutter(*nested, std::move(captures), draws_).run());
    }
    for (const ir::Value* input : node.inputs)
      if (input) read_alone_.insert(input);
    alone_[time].push_back(std::move(piece));
    finish(node, time);
  }

  /// Symbols of shapes in the nested graph that neither it nor its captures tell, but this graph does: one more capture each.
  void add_symbol_captures(const ir::Graph& nested, std::vector<const ir::Value*>& captures) const {
    Symbols wanted;
    shape_symbols(nested, wanted);
    for (const ir::Value* value : captures)
      if (is_plain(value)) collect(value->shape(), wanted);
    Scope inside;
    for (const ir::Value* input : nested.inputs()) inside.add(input);
    for (const ir::Value* value : captures) inside.add(value);
    for (const std::string& symbol : wanted) {
      if (inside.find(symbol)) continue;
      const std::vector<SymbolSource>* sources = scope_.find(symbol);
      if (!sources) continue;
      // A source that this graph has when the node runs: an axis, since an element may be negative and then tells islands nothing.
      const SymbolSource* here = nullptr;
      for (const SymbolSource& source : *sources)
        if (!source.value->is_constant() && (!here || (here->place < 0 && source.place >= 0))) here = &source;
      if (!here) continue;
      captures.push_back(here->value);
      inside.add(here->value);
    }
  }

  void finish(const ir::Node& node, int time) {
    for (const ir::Value* output : node.outputs) {
      if (!output) continue;
      made_at_[output] = time;
      scope_.add(output);
    }
    last_time_ = std::max(last_time_, time);
  }

  void build() {
    for (int time = 0; time <= last_time_; ++time) {
      if (const auto found = island_nodes_.find(time); found != island_nodes_.end()) choose_sources(time, found->second);
    }
    for (int time = 0; time <= last_time_; ++time) {
      if (const auto found = island_nodes_.find(time); found != island_nodes_.end()) cut_.pieces.push_back(make_island(time, found->second));
      if (const auto found = alone_.find(time); found != alone_.end())
        for (Piece& piece : found->second) cut_.pieces.push_back(std::move(piece));
    }
  }

  /// Which symbols an island needs that its inputs' shapes do not give, and from where: those values must be outputs of what makes them.
  void choose_sources(int time, const std::vector<const ir::Node*>& nodes) {
    Symbols needed, given;
    const auto is_own = [&](const ir::Value* value) { return time_of(value) == time; };
    for (const ir::Node* node : nodes) {
      for (const ir::Value* input : node->inputs) {
        if (!input) continue;
        collect(input->shape(), needed);
        if (is_own(input) || input->is_constant()) continue;
        for (const Dim& dim : input->shape())
          if (dim.is_symbol()) given.insert(dim.symbol_name());
      }
      for (const ir::Value* output : node->outputs)
        if (output) collect(output->shape(), needed);
    }
    for (const std::string& symbol : needed) {
      if (given.count(symbol)) continue;
      const SymbolSource* chosen = nullptr;  // an axis rather than an element
      for (const SymbolSource& source : *scope_.find(symbol))
        if (readable_at(source) <= time && (!chosen || (chosen->place < 0 && source.place >= 0))) chosen = &source;
      carriers_[time].push_back({symbol, *chosen});
      read_alone_.insert(chosen->value);
    }
  }

  Piece make_island(int time, const std::vector<const ir::Node*>& nodes) {
    Piece piece;
    piece.island = std::make_shared<ir::Graph>();
    ir::Graph& island = *piece.island;
    island.name = graph_.name;
    Symbols bound;
    std::unordered_map<const ir::Value*, ir::Value*> copies;
    const auto copy_of = [&](const ir::Value* value) -> ir::Value* {
      if (!value) return nullptr;
      if (const auto found = copies.find(value); found != copies.end()) return found->second;
      ir::Value* copy = nullptr;
      if (value->is_constant()) {
        copy = island.add_constant(value->name, value->constant);
        copy->content = value->content;
      } else {
        copy = island.add_input(value->name, value->type);
        piece.inputs.push_back(value);
        for (const Dim& dim : value->shape())
          if (dim.is_symbol()) bound.insert(dim.symbol_name());
      }
      return copies[value] = copy;
    };
    for (const ir::Node* node : nodes) {
      std::vector<ir::Value*> inputs;
      for (const ir::Value* input : node->inputs) inputs.push_back(copy_of(input));
      std::vector<std::string> names;
      for (const ir::Value* output : node->outputs) names.push_back(output ? output->name : "");
      ir::Node* made = island.add_node(node->domain, node->op, std::move(inputs), std::move(names), node->attrs);
      made->name = node->name;
      made->sources = node->sources;
      for (std::size_t i = 0; i < node->outputs.size(); ++i) {
        if (!node->outputs[i]) continue;
        made->outputs[i]->type = node->outputs[i]->type;
        copies[node->outputs[i]] = made->outputs[i];
      }
    }
    for (const auto& [symbol, source] : carriers_[time]) {
      if (!bound.insert(symbol).second) continue;
      island.add_input(island.unique_name("carrier"), ir::Type::tensor(DType::kUint8, {Dim::symbol(symbol), Dim(0)}));
      piece.carriers.push_back(source);
    }
    // Contents are expressions that lowerings may use: only of symbols that the island knows.
    for (const auto& [value, copy] : copies) {
      if (!value->content || value->is_constant()) continue;
      Symbols used;
      collect(*value->content, used);
      if (std::includes(bound.begin(), bound.end(), used.begin(), used.end())) copy->content = value->content;
    }
    for (const ir::Node* node : nodes)
      for (const ir::Value* output : node->outputs) {
        if (!output) continue;
        const bool elsewhere = std::any_of(output->uses.begin(), output->uses.end(), [&](const ir::Use& use) {
          return use.node->graph != &graph_ || use.node->outputs.empty() || time_of_node(*use.node) != time;
        });
        if (!elsewhere && !output->is_graph_output() && !read_alone_.count(output)) continue;
        island.add_output(copies.at(output));
        piece.outputs.push_back(output);
      }
    return piece;
  }

  int time_of_node(const ir::Node& node) const {
    for (const ir::Value* output : node.outputs)
      if (output) return time_of(output);
    return -1;
  }

  const ir::Graph& graph_;
  const Draws draws_;
  Scope scope_;
  CutGraph cut_;
  std::unordered_map<const ir::Value*, int> made_at_;
  std::map<int, std::vector<const ir::Node*>> island_nodes_;
  std::map<int, std::vector<Piece>> alone_;
  std::map<int, std::vector<std::pair<std::string, SymbolSource>>> carriers_;
  std::unordered_set<const ir::Value*> read_alone_;  // by nodes run by their definitions, by nested graphs, as carriers
  int last_time_ = -1;
};

}  // namespace

bool has_draws_for_gpu(const ir::Graph& graph) {
  bool found = false;
  ir::for_each_node_deep(graph, [&](const ir::Node& node) { found |= draws_on_gpu(node); });
  return found;
}

bool is_static(const ir::Graph& graph, Draws draws) {
  Symbols bound;
  for (const ir::Value* input : graph.inputs()) {
    if (!is_plain(input)) return false;
    for (const Dim& dim : input->shape())
      if (dim.is_symbol()) bound.insert(dim.symbol_name());
  }
  bool whole = true;
  graph.for_each([&](const ir::Node& node) {
    if (!whole) return;
    whole = can_be_planned(node, draws);
    if (!whole) return;
    Symbols used;
    for (const ir::Value* output : node.outputs)
      if (output) collect(output->shape(), used);
    whole = std::includes(bound.begin(), bound.end(), used.begin(), used.end());
  });
  return whole;
}

CutGraph cut_graph(const ir::Graph& graph, Draws draws) { return Cutter(graph, {}, draws).run(); }

}  // namespace lathe::builder
