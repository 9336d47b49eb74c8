// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See lowering.h. One slot per value in its planned layout and type; further slots for the same value in other layouts are made by copy
// steps at first need and shared by later readers.

#include "builder/lowering.h"

#include <fmt/format.h>

#include <map>
#include <tuple>

namespace lathe::builder {

using ops::Layout;
using plan::SlotId;

namespace {

class Lowering {
 public:
  Lowering(const ir::Graph& graph, const ValuePlans& plans, BlobStore& blobs, std::vector<bool>& used, std::string_view copy_kernel)
      : graph_(graph), plans_(plans), blobs_(blobs), used_(used), copy_kernel_(copy_kernel) {}

  plan::Program run(const std::vector<PlannedRegion>& regions, std::vector<plan::SymbolHint> symbols, Phase& phase) {
    program_.symbols = std::move(symbols);
    for (const ir::Value* input : graph_.inputs()) {
      plan::Slot slot = describe(input, input->dtype(), Layout::kRowMajor);
      slot.storage = plan::Storage::kInput;
      const SlotId id = add(std::move(slot));
      primary_[input] = id;
      program_.inputs.push_back({input->name, id, -1});
      const ValuePlan* plan = plans_.find(input);
      if (is_padded(plan)) {
        const SlotId whole = add_padded(input);
        primary_[input] = part_of(whole, input, static_cast<int>(innermost_axis(plan->rows->layout, input->shape().size())), 0);
        copy(id, whole, input);
        program_.steps.back().kind = plan::StepKind::kKernel;
        program_.steps.back().kernel = "cuda.pad";
        continue;
      }
      // An input that is stored in another type inside: one copy converts it and gives it its memory order.
      if (plans_.storage(input) == input->dtype()) continue;
      plan::Slot inside = describe(input, plans_.storage(input), plan->layout == Layout::kAny ? Layout::kRowMajor : plan->layout);
      inside.name.clear();
      inside.storage = plan::Storage::kArena;
      primary_[input] = add(std::move(inside));
      copy(id, primary_[input], input);
    }
    std::vector<const ops::WeightRequest*> requests;
    for (const PlannedRegion& region : regions)
      if (region.kind == RegionKind::kCandidate)
        for (const ops::WeightRequest& request : region.plan.weights) requests.push_back(&request);
    blobs_.pack_ahead(requests);
    for (const PlannedRegion& region : regions) {
      lower(region);
      phase.step();
    }
    for (const ir::Value* output : graph_.outputs()) {
      SlotId id = primary(output);
      if (program_.slots[static_cast<std::size_t>(id)].storage != plan::Storage::kOutput || !claimed_.insert({id, true}).second) {
        plan::Slot slot = describe(output, output->dtype(), Layout::kRowMajor);
        slot.storage = plan::Storage::kOutput;
        const SlotId target = add(std::move(slot));
        copy(id, target, output);
        id = target;
      }
      program_.outputs.push_back({output->name, id, -1});
    }
    program_.segments.push_back({0, static_cast<std::int32_t>(program_.steps.size())});
    return std::move(program_);
  }

 private:
  static plan::Slot describe(const ir::Value* value, DType dtype, Layout layout) {
    plan::Slot slot;
    slot.name = value->name;
    slot.dtype = dtype;
    if (!value->has_shape()) throw Error(Code::kUnsupported, "the rank of a tensor is not known").at_tensor(value->name);
    slot.shape = value->shape();
    slot.order = layout_order(layout, slot.shape.size());
    return slot;
  }

  SlotId add(plan::Slot slot) {
    program_.slots.push_back(std::move(slot));
    return static_cast<SlotId>(program_.slots.size() - 1);
  }

  plan::Slot& at(SlotId id) { return program_.slots[static_cast<std::size_t>(id)]; }

  SlotId part_of(SlotId parent, const ir::Value* part, int axis, const ir::Dim& offset) {
    plan::Slot slot = describe(part, at(parent).dtype, Layout::kRowMajor);
    if (axis != kWholeView) slot.order = at(parent).order;
    slot.storage = plan::Storage::kAlias;
    slot.parent = parent;
    slot.alias_axis = axis;
    slot.alias_offset = offset;
    return add(std::move(slot));
  }

  static bool is_padded(const ValuePlan* plan) {
    return plan && plan->rows && (plan->layout == Layout::kAny ? Layout::kRowMajor : plan->layout) == plan->rows->layout;
  }

  /// The memory of a value that is stored in wider rows.
  SlotId add_padded(const ir::Value* value) {
    const RowPadding& rows = *plans_.find(value)->rows;
    plan::Slot slot = describe(value, plans_.storage(value), rows.layout);
    slot.name.clear();
    slot.storage = plan::Storage::kArena;
    ir::Dim& innermost = slot.shape[innermost_axis(rows.layout, slot.shape.size())];
    innermost = ir::Dim::ceildiv(innermost, rows.multiple) * rows.multiple;
    return add(std::move(slot));
  }

  /// A slice whose elements do not lie side by side.
  bool is_strided(SlotId id) {
    for (; at(id).storage == plan::Storage::kAlias; id = at(id).parent) {
      if (at(id).alias_axis < 0) continue;
      if (!at(id).order.empty()) return true;
      for (std::int32_t axis = 0; axis < at(id).alias_axis; ++axis)
        if (!(at(id).shape[static_cast<std::size_t>(axis)] == ir::Dim(1))) return true;
    }
    return false;
  }

  plan::BlobId use(plan::BlobId blob) {
    if (used_.size() <= static_cast<std::size_t>(blob)) used_.resize(static_cast<std::size_t>(blob) + 1, false);
    used_[static_cast<std::size_t>(blob)] = true;
    return blob;
  }

  /// The slot that holds a value in its planned layout and type.
  SlotId primary(const ir::Value* value) {
    if (const auto found = primary_.find(value); found != primary_.end()) return found->second;
    SlotId id = -1;
    const ValuePlan* plan = plans_.find(value);
    const Layout layout = plan && plan->layout != Layout::kAny ? plan->layout : Layout::kRowMajor;
    if (value->is_constant()) {
      plan::Slot slot = describe(value, value->dtype(), Layout::kRowMajor);
      slot.storage = plan::Storage::kConstant;
      slot.blob = use(blobs_.add_raw(*value));
      id = add(std::move(slot));
    } else if (plan && plan->slice) {
      const SlotId parent = primary(plan->slice->parent);
      id = part_of(parent, value, plan->slice->axis, plan->slice->offset);
    } else if (is_padded(plan)) {
      const SlotId whole = add_padded(value);
      id = part_of(whole, value, static_cast<int>(innermost_axis(plan->rows->layout, value->shape().size())), 0);
    } else {
      plan::Slot slot = describe(value, plans_.storage(value), layout);
      const bool output = value->is_graph_output() && value->kind == ir::ValueKind::kNodeOutput && slot.order.empty() && slot.dtype == value->dtype();
      slot.storage = output ? plan::Storage::kOutput : plan::Storage::kArena;
      id = add(std::move(slot));
    }
    primary_[value] = id;
    return id;
  }

  /// The value in `layout`: its own slot, the same memory seen in the other order, or a copy. `strides`: the reader takes rows of any stride.
  SlotId in_layout(const ir::Value* value, Layout layout, bool strides = false) {
    const SlotId own = primary(value);
    if (layout == Layout::kAny) return own;
    const std::vector<std::int32_t> order = layout_order(layout, at(own).shape.size());
    if (at(own).order == order && !(layout == Layout::kRowMajor && !strides && is_strided(own))) return own;
    const auto key = std::make_tuple(value, order);
    if (const auto found = converted_.find(key); found != converted_.end()) return found->second;
    plan::Slot slot = describe(value, at(own).dtype, layout);
    SlotId id = -1;
    if (layouts_coincide(at(own).shape) && !is_strided(own)) {
      slot.storage = plan::Storage::kAlias;
      slot.parent = own;
      id = add(std::move(slot));
    } else {
      slot.storage = plan::Storage::kArena;
      id = add(std::move(slot));
      copy(own, id, value);
    }
    converted_.emplace(key, id);
    return id;
  }

  void copy(SlotId from, SlotId to, const ir::Value* value) {
    plan::Step step;
    step.kind = plan::StepKind::kCopy;
    step.kernel = copy_kernel_;
    step.label = fmt::format("copy {}", value->name);
    step.inputs = {from};
    step.outputs = {to};
    if (value->producer) step.sources = value->producer->sources;
    program_.steps.push_back(std::move(step));
  }

  void lower(const PlannedRegion& region) {
    switch (region.kind) {
      case RegionKind::kCandidate: return lower_step(region);
      case RegionKind::kView: return lower_view(region);
      case RegionKind::kGather: return lower_gather(*region.region.nodes.front());
      case RegionKind::kScatter: return lower_scatter(*region.region.nodes.front());
    }
  }

  void lower_step(const PlannedRegion& region) {
    plan::Step step;
    if (region.on_host) step.kind = plan::StepKind::kHostOp;
    step.label = region.report.label;
    step.kernel = region.plan.kernel;
    step.params = region.plan.params;
    step.sources = region.report.sources;
    step.flops = region.plan.flops;
    step.bytes = region.plan.bytes;
    step.measured_seconds = region.seconds;
    const bool strides =
        region.candidate && region.candidate->name.starts_with("cuda.") && region.candidate->name != "cuda.custom";  // every other kernel for GPUs reads them
    for (std::size_t i = 0; i < region.plan.inputs.size(); ++i) {
      const ir::Value* value = region.plan.inputs[i];
      step.inputs.push_back(!value ? -1 : value->is_constant() ? primary(value) : in_layout(value, region.input_layouts[i], strides));
    }
    std::vector<std::pair<SlotId, const ir::Value*>> converted;
    for (std::size_t i = 0; i < region.plan.outputs.size(); ++i) {
      const ir::Value* value = region.plan.outputs[i];
      if (!value) {
        step.outputs.push_back(-1);
        continue;
      }
      const SlotId own = primary(value);
      const Layout layout = region.output_layouts[i];
      const auto order = layout_order(layout, at(own).shape.size());
      const bool dense_needed = layout == Layout::kRowMajor && !strides && is_strided(own);
      if (layout == Layout::kAny || (order == at(own).order && !dense_needed)) {
        step.outputs.push_back(own);
        continue;
      }
      plan::Slot slot = describe(value, at(own).dtype, layout);
      if (layouts_coincide(at(own).shape) && !dense_needed) {
        slot.storage = plan::Storage::kAlias;
        slot.parent = own;
        step.outputs.push_back(add(std::move(slot)));
      } else {
        const SlotId temporary = add(std::move(slot));
        step.outputs.push_back(temporary);
        converted.emplace_back(temporary, value);
      }
    }
    for (const ops::WeightRequest& request : region.plan.weights) step.weights.push_back(use(blobs_.add_packed(request)));
    program_.steps.push_back(std::move(step));
    for (const auto& [from, value] : converted) copy(from, primary(value), value);
  }

  void lower_view(const PlannedRegion& region) {
    const ir::Node& node = *region.region.nodes.front();
    const ir::Value* output = node.output();
    if (const ValuePlan* input = plans_.find(node.input(0)); input && input->slice && input->slice->parent == output && input->slice->axis == kWholeView) {
      primary(output);  // its source wrote into it already
      return;
    }
    const SlotId source = in_layout(node.input(0), Layout::kRowMajor);
    const ValuePlan* plan = plans_.find(output);
    // Its readers were planned for its own type, which is another where the source leaves the graph.
    if (output->is_graph_output() || (plan && plan->slice) || plans_.storage(output) != at(source).dtype) {
      const SlotId target = primary(output);
      if (at(source).storage == plan::Storage::kArena && at(source).dtype == at(target).dtype && at(target).storage == plan::Storage::kOutput) {
        // The producer writes straight into the output.
        at(source).storage = plan::Storage::kAlias;
        at(source).parent = target;
        return;
      }
      plan::Slot slot = describe(output, at(source).dtype, Layout::kRowMajor);
      slot.storage = plan::Storage::kAlias;
      slot.parent = source;
      const SlotId view = add(std::move(slot));
      copy(view, target, output);
      return;
    }
    plan::Slot slot = describe(output, at(source).dtype, Layout::kRowMajor);
    slot.storage = plan::Storage::kAlias;
    slot.parent = source;
    primary_[output] = add(std::move(slot));
  }

  void lower_gather(const ir::Node& node) {
    const SlotId whole = primary(node.output());
    const std::int64_t rank = static_cast<std::int64_t>(node.output()->shape().size()), given = node.attrs.get_int("axis", 0);
    const auto axis = static_cast<std::size_t>(given < 0 ? given + rank : given);
    ir::Dim offset = 0;
    for (const ir::Value* input : node.inputs) {
      const ValuePlan* plan = plans_.find(input);
      if (!(plan && plan->slice && plan->slice->parent == node.output())) copy(primary(input), part_of(whole, input, static_cast<int>(axis), offset), input);
      offset = offset + input->shape()[axis];
    }
  }

  void lower_scatter(const ir::Node& node) {
    const SlotId whole = primary(node.input(0));
    ir::Dim offset = 0;
    for (const ir::Value* output : node.outputs) {
      if (!output) continue;
      const ValuePlan* plan = plans_.find(output);
      if (!(plan && plan->slice && plan->slice->parent == node.input(0))) copy(part_of(whole, output, 1, offset), primary(output), output);
      offset = offset + output->shape()[1];
    }
  }

  const ir::Graph& graph_;
  const ValuePlans& plans_;
  BlobStore& blobs_;
  std::vector<bool>& used_;
  std::string copy_kernel_;
  plan::Program program_;
  std::unordered_map<const ir::Value*, SlotId> primary_;
  std::map<std::tuple<const ir::Value*, std::vector<std::int32_t>>, SlotId> converted_;
  std::map<SlotId, bool> claimed_;  // output slots that an output already names
};

}  // namespace

plan::Program lower_program(const ir::Graph& graph, const std::vector<PlannedRegion>& regions, const ValuePlans& plans, std::vector<plan::SymbolHint> symbols,
                            BlobStore& blobs, std::vector<bool>& used, Phase& phase, std::string_view copy_kernel) {
  return Lowering(graph, plans, blobs, used, copy_kernel).run(regions, std::move(symbols), phase);
}

}  // namespace lathe::builder
