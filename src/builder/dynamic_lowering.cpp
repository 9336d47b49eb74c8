// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See dynamic_lowering.h.

#include "builder/dynamic_lowering.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "lathe/status.h"
#include "ops/step_node.h"

namespace lathe::builder {
namespace {

using plan::SlotId;

class Lowering {
 public:
  Lowering(const CutGraph& cut, BlobStore& blobs, std::vector<bool>& used, const LowerIsland& lower_island)
      : cut_(cut), blobs_(blobs), used_(used), lower_island_(lower_island) {
    program_.dynamic = true;
  }

  plan::Program run() {
    for (const ir::Value* input : cut_.graph->inputs()) add_input(input);
    for (const ir::Value* value : cut_.captures)
      if (!value->is_constant()) add_input(value);
    for (const ir::Value* output : cut_.graph->outputs())
      if (output->kind == ir::ValueKind::kNodeOutput && output->graph == cut_.graph) is_output_.insert(output);
    for (const Piece& piece : cut_.pieces) piece.node ? lower_node(piece) : lower_call(piece);
    std::unordered_set<SlotId> claimed;
    for (const ir::Value* output : cut_.graph->outputs()) {
      SlotId id = slot_of(output);
      // A slot is one output: what is given twice, or is an input, is passed on once more.
      if (program_.slots[static_cast<std::size_t>(id)].storage != plan::Storage::kOutput || !claimed.insert(id).second) {
        plan::Slot slot = describe(output);
        slot.storage = plan::Storage::kOutput;
        const SlotId target = add(std::move(slot));
        plan::Step step = host_op("", "Identity", fmt::format("pass on {}", output->name));
        step.params.set("inputs", std::int64_t{1});
        step.inputs = {id};
        step.outputs = {target};
        program_.steps.push_back(std::move(step));
        id = target;
        claimed.insert(id);
      }
      program_.outputs.push_back({output->name, id, -1});
    }
    program_.segments.push_back({0, static_cast<std::int32_t>(program_.steps.size())});
    return std::move(program_);
  }

 private:
  static plan::Slot describe(const ir::Value* value) {
    plan::Slot slot;
    slot.name = value->name;
    if (value->type.is_tensor()) slot.dtype = value->dtype();
    if (value->type.is_tensor() && value->type.shape) slot.shape = value->shape();
    else slot.type = value->type;
    return slot;
  }

  SlotId add(plan::Slot slot) {
    program_.slots.push_back(std::move(slot));
    return static_cast<SlotId>(program_.slots.size() - 1);
  }

  void add_input(const ir::Value* value) {
    plan::Slot slot = describe(value);
    slot.storage = plan::Storage::kInput;
    slots_[value] = add(std::move(slot));
    program_.inputs.push_back({value->name, slots_[value], -1});
  }

  static plan::Step host_op(const std::string& domain, const std::string& op, std::string label) {
    plan::Step step;
    step.kind = plan::StepKind::kHostOp;
    step.kernel = "host." + op;
    step.label = std::move(label);
    ops::set_node(step.params, domain, op);
    return step;
  }

  SlotId slot_of(const ir::Value* value) {
    if (!value) return -1;
    if (const auto found = slots_.find(value); found != slots_.end()) return found->second;
    plan::Slot slot = describe(value);
    if (!value->is_constant()) {
      slot.storage = is_output_.count(value) ? plan::Storage::kOutput : plan::Storage::kArena;
      return slots_[value] = add(std::move(slot));
    }
    if (value->dtype() == DType::kString) {
      // Blobs are numbers: texts lie in the step that makes them.
      const SlotId id = add(std::move(slot));
      plan::Step step = host_op("", "Constant", fmt::format("constant {}", value->name));
      ops::set_node_attribute(step.params, "value", value->constant);
      step.params.set("inputs", std::int64_t{0});
      step.outputs = {id};
      program_.steps.push_back(std::move(step));
      return slots_[value] = id;
    }
    slot.storage = plan::Storage::kConstant;
    slot.shape = ir::Shape(value->constant.dims().begin(), value->constant.dims().end());
    slot.type.reset();
    slot.dtype = value->constant.dtype();
    slot.blob = blobs_.add_raw(*value);
    if (used_.size() <= static_cast<std::size_t>(slot.blob)) used_.resize(static_cast<std::size_t>(slot.blob) + 1, false);
    used_[static_cast<std::size_t>(slot.blob)] = true;
    return slots_[value] = add(std::move(slot));
  }

  void lower_call(const Piece& piece) {
    plan::Step step;
    step.kind = plan::StepKind::kCall;
    for (const ir::Value* input : piece.inputs) step.inputs.push_back(slot_of(input));
    std::vector<std::int64_t> carriers;
    for (const SymbolSource& source : piece.carriers) {
      step.inputs.push_back(slot_of(source.value));
      carriers.push_back(source.place);
    }
    step.params.set("carriers", std::move(carriers));
    for (const ir::Value* output : piece.outputs) step.outputs.push_back(slot_of(output));
    step.regions = {static_cast<std::int32_t>(program_.subprograms.size())};
    program_.subprograms.push_back(lower_island_(*piece.island));
    const plan::Program& callee = program_.subprograms.back();
    for (const plan::Step& inner : callee.steps) {
      step.flops += inner.flops;
      step.bytes += inner.bytes;
      step.sources.insert(step.sources.end(), inner.sources.begin(), inner.sources.end());
    }
    step.label = fmt::format("island of {} step{}", callee.steps.size(), callee.steps.size() == 1 ? "" : "s");
    program_.steps.push_back(std::move(step));
  }

  void lower_node(const Piece& piece) {
    const ir::Node& node = *piece.node;
    plan::Step step = host_op(node.domain, node.op, fmt::format("{} {}", node.op, node.name.empty() ? "" : node.name));
    step.params.set("name", node.name);
    step.params.set("inputs", static_cast<std::int64_t>(node.inputs.size()));
    step.sources = node.sources;
    for (const ir::Value* input : node.inputs) step.inputs.push_back(slot_of(input));
    std::vector<std::string> graphs;
    std::vector<std::int64_t> formals;
    std::size_t next = 0;
    for (const auto& [name, attribute] : node.attrs) {
      const auto* nested = std::get_if<ir::GraphPtr>(&attribute.value);
      if (!nested) {
        if (std::holds_alternative<std::vector<ir::GraphPtr>>(attribute.value))
          throw Error(Code::kUnsupported, fmt::format("the attribute '{}' is a list of graphs", name)).at_node(node.name, node.op);
        ops::set_node_attribute(step.params, name, attribute);
        continue;
      }
      const CutGraph& body = piece.bodies.at(next++);
      graphs.push_back(name);
      formals.push_back(static_cast<std::int64_t>(body.graph->inputs().size()));
      for (const ir::Value* value : body.captures)
        if (!value->is_constant()) step.inputs.push_back(slot_of(value));
      step.regions.push_back(static_cast<std::int32_t>(program_.subprograms.size()));
      program_.subprograms.push_back(Lowering(body, blobs_, used_, lower_island_).run());
    }
    step.params.set("graphs", std::move(graphs));
    step.params.set("formals", std::move(formals));
    for (const ir::Value* output : node.outputs) step.outputs.push_back(slot_of(output));
    program_.steps.push_back(std::move(step));
  }

  const CutGraph& cut_;
  BlobStore& blobs_;
  std::vector<bool>& used_;
  const LowerIsland& lower_island_;
  plan::Program program_;
  std::unordered_map<const ir::Value*, SlotId> slots_;
  std::unordered_set<const ir::Value*> is_output_;
};

}  // namespace

plan::Program lower_dynamic(const CutGraph& cut, std::vector<plan::SymbolHint> symbols, BlobStore& blobs, std::vector<bool>& used,
                            const LowerIsland& lower_island) {
  plan::Program program = Lowering(cut, blobs, used, lower_island).run();
  program.symbols = std::move(symbols);
  return program;
}

}  // namespace lathe::builder
