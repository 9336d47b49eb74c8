// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See specialisation.h.

#include "runtime/specialisation.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "base/thread_pool.h"

namespace lathe::runtime {

using plan::SlotId;
using plan::Storage;

Specialisation::Specialisation(const Engine& engine, const plan::ShapeProgram& shapes, plan::ShapeClass shape_class, const ir::Bindings& bindings,
                               SpecialisationOptions options)
    : engine_(engine), program_(engine.program()), shapes_(shapes), class_(std::move(shape_class)), options_(options), bindings_(bindings) {
  find_blocks();
  refs_.resize(program_.slots.size());
  output_capacity_.resize(program_.outputs.size());
  input_pointers.resize(program_.inputs.size());
  output_pointers.resize(program_.outputs.size());
  std::size_t widest_in = 0, widest_out = 0;
  for (const plan::Step& step : program_.steps) {
    widest_in = std::max(widest_in, step.inputs.size());
    widest_out = std::max(widest_out, step.outputs.size());
  }
  in.resize(widest_in);
  out.resize(widest_out);

  ir::Bindings largest = bindings;
  for (std::size_t i = 0; i < class_.size(); ++i) largest.at(shapes_.symbols()[i]) = class_[i].high;
  if (options_.at_largest && largest != bindings) reserve(largest);
  move_to(bindings);
}

/// Lifetimes of arena blocks: from the first to the last step that touches any slot living in them.
void Specialisation::find_blocks() {
  std::vector<SlotId> root_of(program_.slots.size());
  for (std::size_t i = 0; i < root_of.size(); ++i) {
    std::size_t at = i;
    for (std::size_t hops = 0; program_.slots[at].storage == Storage::kAlias && hops <= root_of.size(); ++hops)
      at = static_cast<std::size_t>(program_.slots[at].parent);
    root_of[i] = static_cast<SlotId>(at);
  }
  block_of_.assign(program_.slots.size(), -1);
  const auto touch = [&](SlotId id, std::int32_t step) {
    if (id < 0) return;
    const SlotId root = root_of[static_cast<std::size_t>(id)];
    if (program_.slots[static_cast<std::size_t>(root)].storage != Storage::kArena) return;
    std::int32_t& at = block_of_[static_cast<std::size_t>(root)];
    if (at < 0) {
      at = static_cast<std::int32_t>(blocks_.size());
      blocks_.push_back({0, step, step});
      block_root_.push_back(root);
    }
    plan::Block& block = blocks_[static_cast<std::size_t>(at)];
    block.first = std::min(block.first, step);
    block.last = std::max(block.last, step);
  };
  const auto last_step = static_cast<std::int32_t>(program_.steps.size());
  for (std::int32_t s = 0; s < last_step; ++s) {
    for (const SlotId id : program_.steps[static_cast<std::size_t>(s)].inputs) touch(id, s);
    for (const SlotId id : program_.steps[static_cast<std::size_t>(s)].outputs) touch(id, s);
  }
  for (const plan::Io& io : program_.outputs) touch(io.slot, std::max(0, last_step - 1));
}

/// Memory for the largest shape of the class. Not every class has one that the model accepts (extents that must divide each other): its
/// memory then grows with the shapes that come.
void Specialisation::reserve(const ir::Bindings& largest) {
  try {
    move_to(largest);
  } catch (const Error&) {
    steps_.clear();
  }
}

void Specialisation::move_to(const ir::Bindings& bindings) {
  static std::atomic<std::uint64_t> versions{0};
  version_ = ++versions;
  for (auto& [symbol, value] : bindings_) value = bindings.at(symbol);
  shapes_.resolve(bindings_, slots_);
  grow_blocks();
  place_slots();
  if (steps_.empty()) make_steps();
  for (std::size_t s = 0; s < steps_.size(); ++s) bind_step(program_.steps[s], steps_[s]);
}

/// Blocks only grow, so that the offsets hold for every shape seen; extents that fall as a symbol rises are met here too.
void Specialisation::grow_blocks() {
  bool grown = memory_.offsets.size() != blocks_.size();
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    const plan::TensorDesc& owner = desc(block_root_[b]);
    const std::size_t need = dtype_bytes(owner.dtype, plan::span_elements(owner));
    if (need <= blocks_[b].bytes) continue;
    blocks_[b].bytes = need;
    grown = true;
  }
  if (grown) memory_ = plan::plan_memory(blocks_, !options_.keep_intermediates);
  for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
    const plan::TensorDesc& output = desc(program_.outputs[i].slot);
    output_capacity_[i] = std::max(output_capacity_[i], dtype_bytes(output.dtype, output.elements()));
  }
}

/// Where each slot's bytes are.
void Specialisation::place_slots() {
  for (std::size_t i = 0; i < refs_.size(); ++i) {
    const plan::ResolvedSlot& slot = slots_[i];
    const auto root = static_cast<std::size_t>(slot.root);
    Ref& ref = refs_[i];
    ref = {};
    ref.offset = dtype_bytes(slot.desc.dtype, slot.offset);
    switch (program_.slots[root].storage) {
      case Storage::kArena:
        if (block_of_[root] < 0) break;  // never touched
        ref.kind = Ref::kArena;
        ref.offset += memory_.offsets[static_cast<std::size_t>(block_of_[root])];
        break;
      case Storage::kConstant:
        ref.kind = Ref::kConstant;
        ref.constant = static_cast<const std::byte*>(engine_.address(program_.slots[root].blob)) + ref.offset;
        ref.host_constant = engine_.blob(program_.slots[root].blob).data() + ref.offset;
        break;
      case Storage::kInput:
      case Storage::kOutput: {
        const bool input = program_.slots[root].storage == Storage::kInput;
        const auto& list = input ? program_.inputs : program_.outputs;
        const auto found = std::find_if(list.begin(), list.end(), [&](const plan::Io& io) { return io.slot == slot.root; });
        if (found == list.end()) break;
        ref.kind = input ? Ref::kInput : Ref::kOutput;
        ref.index = static_cast<std::int32_t>(found - list.begin());
        break;
      }
      case Storage::kAlias: break;  // roots are never aliases
    }
  }
}

void Specialisation::make_steps() {
  steps_.resize(program_.steps.size());
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    const plan::Step& step = program_.steps[s];
    BoundStep& bound = steps_[s];
    if (step.kind == plan::StepKind::kKernel || step.kind == plan::StepKind::kCopy || step.kind == plan::StepKind::kHostOp) {
      bound.type = plan::find_kernel(step.kernel);
      if (!bound.type)
        throw Error(Code::kUnsupported, fmt::format("this build has no kernel '{}'", step.kernel)).with_remedy("Build the engine again with this version.");
      // A kernel of the host's would take the device's addresses for its own.
      const bool on_device = engine_.cuda() && step.kind != plan::StepKind::kHostOp;
      if (step.kernel.starts_with("cuda.") != on_device)
        throw Error(Code::kCorruptFile, fmt::format("the kernel '{}' cannot run on the {}", step.kernel, on_device ? "GPU" : "CPU"))
            .at_node(step.label, step.kernel);
    } else if (step.kind != plan::StepKind::kView) {
      throw Error(Code::kUnsupported, "a step of this kind cannot run yet").at_node(step.label, step.kernel);
    }
    bound.inputs.resize(step.inputs.size());
    bound.outputs.resize(step.outputs.size());
    bound.input_descs.resize(step.inputs.size());
    bound.output_descs.resize(step.outputs.size());
    bound.constants.resize(step.inputs.size());
    for (const plan::BlobId id : step.weights) bound.weights.push_back(engine_.blob(id));
    if (!engine_.cuda()) continue;
    bound.on_host = step.kind == plan::StepKind::kHostOp;
    has_host_steps_ |= bound.on_host;
    if (!bound.on_host)
      for (const plan::BlobId id : step.weights) bound.device_weights.push_back(engine_.address(id));
  }
}

plan::BindRequest Specialisation::request_of(const BoundStep& bound, const ir::Attrs& params, const StepKernel& kernel) {
  bind_memory_.reset();
  return {params,
          bound.input_descs,
          bound.output_descs,
          bound.constants,
          kernel.weights,
          bindings_,
          default_pool().size(),
          &bind_memory_,
          engine_.cuda() && !bound.on_host ? engine_.cuda()->device().get() : nullptr,
          kernel.device_weights};
}

void Specialisation::bind_other(std::size_t step, const ir::Attrs& params, StepKernel& other) {
  other.kernel = other.type->bind(request_of(steps_[step], params, other));
}

void Specialisation::bind_step(const plan::Step& step, BoundStep& bound) {
  bool same = bound.kernel != nullptr;
  const auto settle = [&](const std::vector<SlotId>& ids, std::vector<Ref>& refs, std::vector<plan::TensorDesc>& descs) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0) continue;  // left out: stays undefined
      refs[i] = ref(ids[i]);
      if (descs[i] == desc(ids[i])) continue;
      descs[i] = desc(ids[i]);
      same = false;
    }
  };
  settle(step.inputs, bound.inputs, bound.input_descs);
  settle(step.outputs, bound.outputs, bound.output_descs);
  for (std::size_t i = 0; i < bound.constants.size(); ++i) {
    same = same && bound.constants[i] == bound.inputs[i].host_constant;
    bound.constants[i] = bound.inputs[i].host_constant;
  }
  if (!bound.type || (same && !bound.kernel->reads_symbols())) return;
  const plan::BindRequest request = request_of(bound, step.params, bound);
  if (!bound.kernel || !bound.kernel->rebind(request)) bound.kernel = bound.type->bind(request);
  if (!bound.on_host) scratch_bytes_ = std::max(scratch_bytes_, bound.kernel->scratch_bytes());
}

bool Specialisation::covers(const ir::Bindings& bindings) const {
  if (!options_.widened) return false;
  for (std::size_t i = 0; i < class_.size(); ++i) {
    const std::int64_t value = bindings.at(shapes_.symbols()[i]);
    if (value < class_[i].low || value > class_[i].high) return false;
  }
  return true;
}

bool Specialisation::stands_at(std::span<const plan::Extents> inputs) const noexcept {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Dims& dims = desc(program_.inputs[i].slot).dims;
    if (!std::equal(dims.begin(), dims.end(), inputs[i].begin(), inputs[i].end())) return false;
  }
  return true;
}

}  // namespace lathe::runtime
