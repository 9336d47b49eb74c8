// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See context.h. Shapes seen before are found by comparing extents: no allocation, no hashing of text. The arena is shared by all
// specialisations of a Context (only one runs at a time) and sized for the largest, rounded up so that neighbouring shapes fit too.

#include "runtime/context.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "base/half.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread_pool.h"
#include "plan/kernel.h"
#include "plan/memory_plan.h"
#include "plan/shape_program.h"

namespace lathe::runtime {

using plan::SlotId;
using plan::Storage;

namespace {

constexpr std::size_t kMaxSpecialisations = 32;
constexpr std::size_t kAlignment = 64;

/// A pointer that is known before a run (arena, constant) or that the run supplies (input, output).
struct Ref {
  enum Kind : std::uint8_t { kNone, kArena, kConstant, kInput, kOutput } kind = kNone;
  std::int32_t index = -1;        // of the input or output
  std::size_t offset = 0;         // bytes
  const void* constant = nullptr;
};

struct BoundStep {
  std::unique_ptr<plan::Kernel> kernel;
  std::vector<Ref> inputs, outputs;
};

}  // namespace

struct Context::Memory {
  explicit Memory(Allocator* a) : allocator(a) {}
  ~Memory() {
    release(arena, arena_bytes);
    for (auto& [data, bytes] : outputs) release(data, bytes);
  }
  void release(void* data, std::size_t bytes) {
    if (data) allocator->deallocate(data, bytes, MemorySpace::kHost, nullptr);
  }
  void* grow(void* data, std::size_t& have, std::size_t need) {
    if (need <= have && data) return data;
    release(data, have);
    // A power of two and a half: shapes of the same class then share the block.
    std::size_t bytes = 4096;
    while (bytes < need) bytes = bytes + bytes / 2 >= need ? bytes + bytes / 2 : bytes * 2;
    // Large blocks are not rounded up: memory matters more than a second growth.
    if (need > (std::size_t{1} << 22)) bytes = (need + 4095) / 4096 * 4096;
    void* memory = allocator->allocate(bytes, kAlignment, MemorySpace::kHost, nullptr);
    have = memory ? bytes : 0;
    if (!memory) throw Error(Code::kOutOfMemory, fmt::format("the allocator gave no {} bytes for activations", bytes));
    return memory;
  }
  Allocator* allocator;
  void* arena = nullptr;
  std::size_t arena_bytes = 0;
  std::vector<std::pair<void*, std::size_t>> outputs;
};

struct Context::Specialisation {
  std::vector<Dims> input_dims;
  std::vector<plan::ResolvedSlot> slots;
  std::vector<Ref> slot_refs;
  std::vector<BoundStep> steps;
  std::size_t arena_bytes = 0, scratch_offset = 0;
  std::vector<Dims> output_dims;
  std::vector<std::size_t> output_bytes;
  bool kept = false;
  // Filled by each run.
  std::vector<const void*> input_pointers;
  std::vector<void*> output_pointers;
  std::vector<const void*> in;   // for the widest step
  std::vector<void*> out;
};

Context::Context(std::shared_ptr<const Engine> engine, Allocator* allocator)
    : engine_(std::move(engine)), allocator_(allocator ? allocator : &default_allocator()), memory_(std::make_unique<Memory>(allocator_)) {
  memory_->outputs.assign(engine_->program().outputs.size(), {nullptr, 0});
  times_.resize(engine_->program().steps.size());
}

Context::~Context() = default;

void Context::keep_intermediates(bool keep) {
  keep_ = keep;
  specialisations_.clear();
  current_ = nullptr;
}

void Context::start_profile() {
  profiling_ = true;
  std::fill(times_.begin(), times_.end(), StepTime{});
}

std::vector<StepTime> Context::profile() const { return times_; }
std::size_t Context::arena_bytes() const noexcept { return current_ ? current_->arena_bytes : 0; }
std::size_t Context::bound_shapes() const noexcept { return specialisations_.size(); }

std::unique_ptr<Context::Specialisation> Context::bind(const ir::Bindings& bindings, std::span<const Dims> dims) {
  const plan::Program& program = engine_->program();
  auto spec = std::make_unique<Specialisation>();
  spec->input_dims.assign(dims.begin(), dims.end());
  spec->kept = keep_;
  spec->slots = plan::resolve_slots(program, bindings);

  // Lifetimes of arena blocks: from the first to the last step that touches any slot living in them.
  const auto last_step = static_cast<std::int32_t>(program.steps.size());
  std::vector<plan::Block> blocks;
  std::vector<std::int32_t> block_of(program.slots.size(), -1);
  const auto touch = [&](SlotId id, std::int32_t step) {
    if (id < 0) return;
    const auto root = static_cast<std::size_t>(spec->slots[static_cast<std::size_t>(id)].root);
    if (program.slots[root].storage != Storage::kArena) return;
    if (block_of[root] < 0) {
      block_of[root] = static_cast<std::int32_t>(blocks.size());
      const plan::TensorDesc& desc = spec->slots[root].desc;
      blocks.push_back({dtype_bytes(desc.dtype, plan::span_elements(desc)), step, step});
    }
    plan::Block& block = blocks[static_cast<std::size_t>(block_of[root])];
    block.first = std::min(block.first, step);
    block.last = std::max(block.last, step);
  };
  for (std::int32_t s = 0; s < last_step; ++s) {
    for (const SlotId id : program.steps[static_cast<std::size_t>(s)].inputs) touch(id, s);
    for (const SlotId id : program.steps[static_cast<std::size_t>(s)].outputs) touch(id, s);
  }
  for (const plan::Io& io : program.outputs) touch(io.slot, std::max(0, last_step - 1));
  const plan::MemoryPlan memory = plan::plan_memory(blocks, !keep_);

  // Where each slot's bytes are.
  spec->slot_refs.resize(program.slots.size());
  for (std::size_t i = 0; i < program.slots.size(); ++i) {
    const plan::ResolvedSlot& slot = spec->slots[i];
    const auto root = static_cast<std::size_t>(slot.root);
    Ref& ref = spec->slot_refs[i];
    ref.offset = dtype_bytes(slot.desc.dtype, slot.offset);
    switch (program.slots[root].storage) {
      case Storage::kArena:
        if (block_of[root] < 0) break;  // never touched
        ref.kind = Ref::kArena;
        ref.offset += memory.offsets[static_cast<std::size_t>(block_of[root])];
        break;
      case Storage::kConstant: {
        const auto bytes = engine_->blob(program.slots[root].blob);
        ref.kind = Ref::kConstant;
        ref.constant = bytes.data() + ref.offset;
        break;
      }
      case Storage::kInput:
      case Storage::kOutput: {
        const bool input = program.slots[root].storage == Storage::kInput;
        const auto& list = input ? program.inputs : program.outputs;
        const auto found = std::find_if(list.begin(), list.end(), [&](const plan::Io& io) { return io.slot == static_cast<SlotId>(root); });
        if (found == list.end()) break;
        ref.kind = input ? Ref::kInput : Ref::kOutput;
        ref.index = static_cast<std::int32_t>(found - list.begin());
        break;
      }
      case Storage::kAlias: break;  // roots are never aliases
    }
  }

  std::size_t scratch = 0, widest_in = 0, widest_out = 0;
  for (const plan::Step& step : program.steps) {
    BoundStep bound;
    std::vector<plan::TensorDesc> inputs, outputs;
    std::vector<const void*> constants;
    for (const SlotId id : step.inputs) {
      bound.inputs.push_back(id < 0 ? Ref{} : spec->slot_refs[static_cast<std::size_t>(id)]);
      inputs.push_back(id < 0 ? plan::TensorDesc{} : spec->slots[static_cast<std::size_t>(id)].desc);
      constants.push_back(bound.inputs.back().kind == Ref::kConstant ? bound.inputs.back().constant : nullptr);
    }
    for (const SlotId id : step.outputs) {
      bound.outputs.push_back(id < 0 ? Ref{} : spec->slot_refs[static_cast<std::size_t>(id)]);
      outputs.push_back(id < 0 ? plan::TensorDesc{} : spec->slots[static_cast<std::size_t>(id)].desc);
    }
    if (step.kind == plan::StepKind::kKernel || step.kind == plan::StepKind::kCopy || step.kind == plan::StepKind::kHostOp) {
      const plan::KernelType* type = plan::find_kernel(step.kernel);
      if (!type) throw Error(Code::kUnsupported, fmt::format("this build has no kernel '{}'", step.kernel)).with_remedy("Build the engine again with this version.");
      std::vector<std::span<const std::byte>> weights;
      for (const plan::BlobId id : step.weights) weights.push_back(engine_->blob(id));
      bound.kernel = type->bind({step.params, inputs, outputs, constants, weights, bindings, default_pool().size()});
      scratch = std::max(scratch, bound.kernel->scratch_bytes());
    } else if (step.kind != plan::StepKind::kView) {
      throw Error(Code::kUnsupported, "a step of this kind cannot run on the CPU yet").at_node(step.label, step.kernel);
    }
    widest_in = std::max(widest_in, bound.inputs.size());
    widest_out = std::max(widest_out, bound.outputs.size());
    spec->steps.push_back(std::move(bound));
  }
  spec->scratch_offset = memory.arena_bytes;
  spec->arena_bytes = memory.arena_bytes + scratch;
  spec->in.resize(widest_in);
  spec->out.resize(widest_out);
  spec->input_pointers.resize(program.inputs.size());
  spec->output_pointers.resize(program.outputs.size());
  for (const plan::Io& io : program.outputs) {
    const plan::TensorDesc& desc = spec->slots[static_cast<std::size_t>(io.slot)].desc;
    spec->output_dims.push_back(desc.dims);
    spec->output_bytes.push_back(dtype_bytes(desc.dtype, desc.elements()));
  }
  return spec;
}

Context::Specialisation* Context::find_or_bind(std::span<const InputView> inputs, Status& status) noexcept {
  for (std::size_t s = 0; s < specialisations_.size(); ++s) {
    const auto& known = specialisations_[s]->input_dims;
    bool same = true;
    for (std::size_t i = 0; same && i < inputs.size(); ++i)
      same = std::equal(known[i].begin(), known[i].end(), inputs[i].dims.begin(), inputs[i].dims.end());
    if (!same) continue;
    std::rotate(specialisations_.begin(), specialisations_.begin() + static_cast<std::ptrdiff_t>(s), specialisations_.begin() + static_cast<std::ptrdiff_t>(s) + 1);
    return specialisations_.front().get();
  }
  try {
    std::vector<Dims> dims;
    for (const InputView& input : inputs) dims.emplace_back(input.dims.begin(), input.dims.end());
    ir::Bindings bindings;
    status = plan::bind_symbols(engine_->program(), dims, bindings);
    if (!status) return nullptr;
    auto spec = bind(bindings, dims);
    memory_->arena = memory_->grow(memory_->arena, memory_->arena_bytes, spec->arena_bytes);
    for (std::size_t i = 0; i < spec->output_bytes.size(); ++i) {
      auto& [data, bytes] = memory_->outputs[i];
      data = memory_->grow(data, bytes, spec->output_bytes[i]);
    }
    if (specialisations_.size() >= kMaxSpecialisations) specialisations_.pop_back();
    specialisations_.insert(specialisations_.begin(), std::move(spec));
    return specialisations_.front().get();
  } catch (const Error& error) {
    status = Status(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    status = Status(Code::kOutOfMemory, "there is not enough memory for these shapes");
  } catch (const std::exception& error) {
    status = Status(Code::kInternal, error.what());
  }
  return nullptr;
}

Status Context::prepare(std::span<const Dims> input_dims) noexcept {
  Status status;
  std::array<InputView, 64> views;
  if (input_dims.size() != engine_->program().inputs.size() || input_dims.size() > views.size())
    return {Code::kInvalidArgument, "the number of shapes is not the engine's number of inputs"};
  for (std::size_t i = 0; i < input_dims.size(); ++i) views[i] = {nullptr, DType::kUndefined, input_dims[i]};
  current_ = find_or_bind(std::span(views.data(), input_dims.size()), status);
  return status;
}

Status Context::run(std::span<const InputView> inputs, std::span<const OutputView> outputs) noexcept {
  const plan::Program& program = engine_->program();
  char text[254];
  const auto fail = [&](Code code, std::string_view format, const auto&... args) {
    const auto end = fmt::format_to_n(text, sizeof text, fmt::runtime(format), args...);
    return Status(code, std::string_view(text, std::min(end.size, sizeof text)));
  };
  if (inputs.size() != program.inputs.size())
    return fail(Code::kInvalidArgument, "{} inputs were given, the engine has {}", inputs.size(), program.inputs.size());
  if (outputs.size() > program.outputs.size())
    return fail(Code::kInvalidArgument, "{} outputs were given, the engine has {}", outputs.size(), program.outputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const plan::Slot& slot = program.slots[static_cast<std::size_t>(program.inputs[i].slot)];
    if (inputs[i].dtype != slot.dtype)
      return fail(Code::kInvalidArgument, "input '{}' has type {}, expected {}", program.inputs[i].name, dtype_name(inputs[i].dtype), dtype_name(slot.dtype));
  }
  Status status;
  Specialisation* spec = find_or_bind(inputs, status);
  if (!spec) return status;
  current_ = spec;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].data && spec->slots[static_cast<std::size_t>(program.inputs[i].slot)].desc.elements() > 0)
      return fail(Code::kInvalidArgument, "input '{}' has no data", program.inputs[i].name);
    spec->input_pointers[i] = inputs[i].data;
  }
  for (std::size_t i = 0; i < program.outputs.size(); ++i) {
    spec->output_pointers[i] = memory_->outputs[i].first;
    if (i >= outputs.size() || !outputs[i].data) continue;
    const plan::Slot& slot = program.slots[static_cast<std::size_t>(program.outputs[i].slot)];
    if (outputs[i].dtype != slot.dtype)
      return fail(Code::kInvalidArgument, "output '{}' has type {}, expected {}", program.outputs[i].name, dtype_name(outputs[i].dtype), dtype_name(slot.dtype));
    if (!std::equal(outputs[i].dims.begin(), outputs[i].dims.end(), spec->output_dims[i].begin(), spec->output_dims[i].end()))
      return fail(Code::kInvalidArgument, "output '{}' was given the shape {}, this run makes {}", program.outputs[i].name, fmt::join(outputs[i].dims, "x"),
                  fmt::join(spec->output_dims[i], "x"));
    spec->output_pointers[i] = outputs[i].data;
  }
  std::byte* arena = static_cast<std::byte*>(memory_->arena);
  ThreadPool& pool = default_pool();
  const auto pointer = [&](const Ref& ref) -> const void* {
    switch (ref.kind) {
      case Ref::kArena: return arena + ref.offset;
      case Ref::kConstant: return ref.constant;
      case Ref::kInput: return static_cast<const std::byte*>(spec->input_pointers[static_cast<std::size_t>(ref.index)]) + ref.offset;
      case Ref::kOutput: return static_cast<const std::byte*>(spec->output_pointers[static_cast<std::size_t>(ref.index)]) + ref.offset;
      case Ref::kNone: return nullptr;
    }
    return nullptr;
  };
  for (std::size_t s = 0; s < spec->steps.size(); ++s) {
    const BoundStep& step = spec->steps[s];
    if (!step.kernel) continue;
    for (std::size_t i = 0; i < step.inputs.size(); ++i) spec->in[i] = pointer(step.inputs[i]);
    for (std::size_t i = 0; i < step.outputs.size(); ++i) spec->out[i] = const_cast<void*>(pointer(step.outputs[i]));
    const double start = profiling_ ? os::now_seconds() : 0;
    status = step.kernel->run({spec->in.data(), spec->out.data(), arena + spec->scratch_offset, &pool});
    if (profiling_) {
      times_[s].seconds += os::now_seconds() - start;
      ++times_[s].runs;
    }
    if (!status) return fail(status.code(), "step '{}': {}", program.steps[s].label, status.message());
  }
  return Status::ok();
}

InputView Context::output(std::size_t index) const noexcept {
  if (!current_ || index >= current_->output_pointers.size()) return {};
  const plan::Program& program = engine_->program();
  return {current_->output_pointers[index], program.slots[static_cast<std::size_t>(program.outputs[index].slot)].dtype, current_->output_dims[index]};
}

Tensor Context::slot(std::string_view name) const {
  if (!current_) return {};
  const plan::Program& program = engine_->program();
  for (std::size_t i = 0; i < program.slots.size(); ++i) {
    if (program.slots[i].name != name) continue;
    const Ref& ref = current_->slot_refs[i];
    const std::byte* data = nullptr;
    if (ref.kind == Ref::kArena && current_->kept) data = static_cast<const std::byte*>(memory_->arena) + ref.offset;
    if (ref.kind == Ref::kOutput) data = static_cast<const std::byte*>(current_->output_pointers[static_cast<std::size_t>(ref.index)]) + ref.offset;
    if (ref.kind == Ref::kConstant) data = static_cast<const std::byte*>(ref.constant);
    if (!data) continue;
    const plan::TensorDesc& desc = current_->slots[i].desc;
    const int bits = dtype_bits(desc.dtype);
    if (bits < 8) continue;
    const std::size_t width = static_cast<std::size_t>(bits) / 8;
    Tensor dense(desc.dtype, desc.dims);
    std::byte* out = dense.mutable_raw();
    Dims at(desc.dims.size(), 0);
    std::int64_t offset = 0;
    for (std::int64_t k = 0; k < dense.size(); ++k) {
      std::memcpy(out + static_cast<std::size_t>(k) * width, data + static_cast<std::size_t>(offset) * width, width);
      for (std::size_t axis = at.size(); axis-- > 0;) {
        offset += desc.strides[axis];
        if (++at[axis] < desc.dims[axis]) break;
        offset -= desc.strides[axis] * desc.dims[axis];
        at[axis] = 0;
      }
    }
    return dense.dtype() == DType::kBFloat16 || dense.dtype() == DType::kFloat16 ? dense.cast(DType::kFloat32) : dense;
  }
  return {};
}

}  // namespace lathe::runtime
