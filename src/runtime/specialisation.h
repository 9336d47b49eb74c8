// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A program bound to a class of shapes: one memory plan for all of them, made at the largest, and kernels that stand at the shape of the
// last run. Going to another shape of the class resolves the slots anew and moves the kernels that see a difference.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/arena.h"
#include "plan/kernel.h"
#include "plan/memory_plan.h"
#include "plan/shape_program.h"
#include "runtime/engine.h"

namespace lathe::runtime {

/// A pointer that is known before a run (arena, constant) or that the run supplies (input, output).
struct Ref {
  enum Kind : std::uint8_t { kNone, kArena, kConstant, kInput, kOutput } kind = kNone;
  std::int32_t index = -1;         // of the input or output
  std::size_t offset = 0;          // bytes
  const void* constant = nullptr;  // on the device that runs
  const void* host_constant = nullptr;
};

/// What a step runs on, beside its tensors.
struct StepKernel {
  const plan::KernelType* type = nullptr;  // null: a view, nothing to do
  std::unique_ptr<plan::Kernel> kernel;
  std::vector<std::span<const std::byte>> weights;
  std::vector<const void*> device_weights;  // empty on the host
};

struct BoundStep : StepKernel {
  std::vector<Ref> inputs, outputs;
  std::vector<plan::TensorDesc> input_descs, output_descs;
  std::vector<const void*> constants;
  bool on_host = false;  // a host-op of a section for another device
};

struct SpecialisationOptions {
  bool keep_intermediates = false;  ///< every arena slot has its own bytes
  bool at_largest = true;           ///< plan memory for the whole class, not for the first shape alone
  bool widened = false;             ///< its class is wider than classify() makes them
};

class Specialisation {
 public:
  /// `engine` and `shapes` outlive it. Throws Error when a kernel cannot be bound.
  Specialisation(const Engine& engine, const plan::ShapeProgram& shapes, plan::ShapeClass shape_class, const ir::Bindings& bindings,
                 SpecialisationOptions options);

  const plan::ShapeClass& shape_class() const noexcept { return class_; }
  /// Do the extents lie in its class? Of a widened one, which overlaps others.
  bool covers(const ir::Bindings& bindings) const;
  /// What its symbols are at the moment.
  const ir::Bindings& bindings() const noexcept { return bindings_; }
  const SpecialisationOptions& options() const noexcept { return options_; }
  bool stands_at(std::span<const plan::Extents> inputs) const noexcept;
  /// Allocates nothing while the class' memory suffices and every kernel moves. Throws Error, and is then good for destruction only.
  void move_to(const ir::Bindings& bindings);

  /// Another one, in the whole process, whenever the kernels stand at other shapes or the memory is laid out anew.
  std::uint64_t version() const noexcept { return version_; }
  bool has_host_steps() const noexcept { return has_host_steps_; }
  std::size_t arena_bytes() const noexcept { return memory_.arena_bytes + scratch_bytes_; }
  std::size_t scratch_offset() const noexcept { return memory_.arena_bytes; }
  std::size_t output_capacity(std::size_t output) const noexcept { return output_capacity_[output]; }
  const plan::TensorDesc& desc(plan::SlotId slot) const { return slots_[static_cast<std::size_t>(slot)].desc; }
  const Ref& ref(plan::SlotId slot) const { return refs_[static_cast<std::size_t>(slot)]; }
  const std::vector<BoundStep>& steps() const noexcept { return steps_; }

  /// Other kernels for a step, for the builder to compare inside a run: binds one of `other`'s type, with its weights, where the step stands. Throws Error.
  void bind_other(std::size_t step, const ir::Attrs& params, StepKernel& other);
  /// Exchanges what a step runs on. No scratch is reserved, and the specialisation moves to no other shape from then on.
  void exchange(std::size_t step, StepKernel& other) noexcept { std::swap(static_cast<StepKernel&>(steps_[step]), other); }

  // What a run fills in: no other state belongs to it.
  std::vector<const void*> input_pointers;
  std::vector<void*> output_pointers;
  std::vector<const void*> in;  // for the widest step
  std::vector<void*> out;

 private:
  void find_blocks();
  void reserve(const ir::Bindings& largest);
  void grow_blocks();
  void place_slots();
  void make_steps();
  void bind_step(const plan::Step& step, BoundStep& bound);
  plan::BindRequest request_of(const BoundStep& bound, const ir::Attrs& params, const StepKernel& kernel);

  const Engine& engine_;
  const plan::Program& program_;
  const plan::ShapeProgram& shapes_;
  plan::ShapeClass class_;
  SpecialisationOptions options_;

  ir::Bindings bindings_;
  std::vector<plan::ResolvedSlot> slots_;
  std::vector<Ref> refs_;
  std::vector<plan::Block> blocks_;       // lifetimes, and the most bytes that any shape so far needed
  std::vector<plan::SlotId> block_root_;  // the slot that owns each block
  std::vector<std::int32_t> block_of_;    // by slot; -1: no block
  plan::MemoryPlan memory_;
  std::vector<BoundStep> steps_;
  std::size_t scratch_bytes_ = 0;
  std::uint64_t version_ = 0;
  bool has_host_steps_ = false;
  std::vector<std::size_t> output_capacity_;
  Arena bind_memory_;
};

}  // namespace lathe::runtime
