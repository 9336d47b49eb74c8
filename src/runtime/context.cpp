// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See context.h. A run looks first for a specialisation that stands at its shapes, then for the one of their class, which moves there. The
// arena is shared by all specialisations of a Context (only one runs at a time) and as large as the largest needs.

#include "runtime/context.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>

#include "base/half.h"
#include "base/os.h"
#include "base/thread_pool.h"
#include "plan/kernel.h"
#include "plan/shape_program.h"
#include "runtime/cuda_run.h"
#include "runtime/dynamic_run.h"
#include "runtime/specialisation.h"

namespace lathe::runtime {
namespace {

constexpr std::size_t kMaxSpecialisations = 32;
constexpr std::size_t kAlignment = 64, kDeviceAlignment = 256;

/// What a run on a GPU is told about the caller's tensors; kept, so that runs allocate nothing.
struct CudaTensors {
  std::vector<const void*> inputs;
  std::vector<void*> outputs, own;
  std::vector<std::size_t> input_bytes, output_bytes;
};

/// Writing the message allocates nothing.
template <class... Args>
Status failure(Code code, fmt::format_string<Args...> format, Args&&... args) noexcept {
  char text[254];
  const auto end = fmt::format_to_n(text, sizeof text, format, std::forward<Args>(args)...);
  return Status(code, std::string_view(text, std::min(end.size, sizeof text)));
}

Status check_counts(const plan::Program& program, std::size_t inputs, std::size_t outputs) noexcept {
  if (inputs != program.inputs.size()) return failure(Code::kInvalidArgument, "{} inputs were given, the engine has {}", inputs, program.inputs.size());
  if (outputs > program.outputs.size()) return failure(Code::kInvalidArgument, "{} outputs were given, the engine has {}", outputs, program.outputs.size());
  return Status::ok();
}

/// The caller's memory for an output against what the run makes.
Status check_output(const std::string& name, const OutputView& view, DType dtype, std::span<const std::int64_t> dims) noexcept {
  if (view.dtype != dtype) return failure(Code::kInvalidArgument, "output '{}' has type {}, expected {}", name, dtype_name(view.dtype), dtype_name(dtype));
  if (!std::equal(view.dims.begin(), view.dims.end(), dims.begin(), dims.end()))
    return failure(Code::kInvalidArgument, "output '{}' was given the shape {}, this run makes {}{}", name, fmt::join(view.dims, "x"),
                   dims.empty() ? "scalar" : "", fmt::join(dims, "x"));
  return Status::ok();
}

/// `value` without memory of the caller's: what passes through a dynamic program unchanged is a view of an input.
Tensor detached(const Tensor& value, std::span<const InputView> inputs) {
  if (value.is_sequence()) {
    std::vector<Tensor> items;
    for (const Tensor& item : value.items()) items.push_back(detached(item, inputs));
    return Tensor::sequence(std::move(items));
  }
  if (!value.is_tensor()) return value;
  const bool callers = std::any_of(inputs.begin(), inputs.end(), [&](const InputView& view) { return view.data && view.data == value.raw(); });
  if (!callers) return value;
  Tensor copy(value.dtype(), value.dims());
  if (value.bytes() > 0) std::memcpy(copy.mutable_raw(), value.raw(), value.bytes());
  return copy;
}

}  // namespace

struct Context::Memory {
  Memory(Allocator* a, CudaRun* run) : allocator(a), cuda(run) {}
  ~Memory() {
    release(arena, arena_bytes);
    for (auto& [data, bytes] : outputs) release(data, bytes);
  }
  void release(void* data, std::size_t bytes) {
    if (data && cuda) cuda->settle();  // an allocator may give it to others at once
    if (data) allocator->deallocate(data, bytes, cuda ? MemorySpace::kDevice : MemorySpace::kHost, nullptr);
  }
  /// A first block is as large as asked for; one that proves too small is followed by one with room for some growth.
  void grow(void*& data, std::size_t& have, std::size_t need) {
    if (need <= have && data) return;
    const std::size_t bytes = (std::max<std::size_t>(data ? need + need / 4 : need, 1) + kAlignment - 1) / kAlignment * kAlignment;
    release(data, have);
    data = cuda ? allocator->allocate(bytes, kDeviceAlignment, MemorySpace::kDevice, nullptr)
                : allocator->allocate(bytes, kAlignment, MemorySpace::kHost, nullptr);
    have = data ? bytes : 0;
    if (!data) throw Error(Code::kOutOfMemory, fmt::format("the allocator gave no {} bytes {}for activations", bytes, cuda ? "of device memory " : ""));
    if (cuda) cuda->clear(data, bytes);
  }
  Allocator* allocator;
  CudaRun* cuda;
  void* arena = nullptr;
  std::size_t arena_bytes = 0;
  std::vector<std::pair<void*, std::size_t>> outputs;
  CudaTensors tensors;
};

/// Shapes of a call, for as long as it is looked for what runs it.
struct Context::Query {
  explicit Query(const plan::Program& program) : shapes(program), bindings(shapes.make_bindings()), inputs(program.inputs.size()) {}
  plan::ShapeProgram shapes;
  ir::Bindings bindings;
  plan::ShapeClass shape_class;
  std::vector<plan::Extents> inputs;
};

Context::Context(std::shared_ptr<const Engine> engine, Allocator* allocator)
    : engine_(std::move(engine)),
      dynamic_(engine_->program().dynamic ? std::make_unique<DynamicRun>(engine_, DynamicOptions{.allocator = allocator}) : nullptr),
      cuda_(engine_->cuda() && !dynamic_ ? std::make_unique<CudaRun>(engine_->cuda()->device()) : nullptr),
      device_allocator_(cuda_ && !allocator ? std::make_unique<cuda::DeviceAllocator>(cuda_->device()) : nullptr),
      allocator_(allocator           ? allocator
                 : device_allocator_ ? device_allocator_.get()
                                     : &default_allocator()),
      query_(dynamic_ ? nullptr : std::make_unique<Query>(engine_->program())),
      memory_(std::make_unique<Memory>(allocator_, cuda_.get())) {
  memory_->outputs.assign(engine_->program().outputs.size(), {nullptr, 0});
  times_.steps.resize(engine_->program().steps.size());
  CudaTensors& t = memory_->tensors;
  t.inputs.resize(engine_->program().inputs.size());
  t.input_bytes.resize(t.inputs.size());
  t.outputs.resize(engine_->program().outputs.size());
  t.own.resize(t.outputs.size());
  t.output_bytes.resize(t.outputs.size());
}

Context::~Context() = default;

void Context::keep_intermediates(bool keep) {
  keep_ = keep;
  // The default is of the host: on a GPU its calls have their own.
  Allocator* const given = allocator_ == &default_allocator() ? nullptr : allocator_;
  if (dynamic_) dynamic_ = std::make_unique<DynamicRun>(engine_, DynamicOptions{.keep_values = keep, .allocator = given});
  specialisations_.clear();
  current_ = nullptr;
}

void Context::start_profile() {
  profiling_ = true;
  std::fill(times_.steps.begin(), times_.steps.end(), StepTime{});
  times_.whole = {};
  if (dynamic_) dynamic_->start_profile();
}

std::vector<ProfiledStep> Context::profiled_steps() const {
  std::vector<ProfiledStep> list;
  if (dynamic_) {
    dynamic_->add_profile(list);
    return list;
  }
  const plan::Program& program = engine_->program();
  for (std::size_t s = 0; s < program.steps.size(); ++s) list.push_back({&program, &program.steps[s], times_.steps[s]});
  return list;
}

std::size_t Context::arena_bytes() const noexcept { return dynamic_ ? dynamic_->arena_bytes() : current_ ? current_->arena_bytes() : 0; }
std::size_t Context::specialisations() const noexcept { return dynamic_ ? dynamic_->specialisations() : specialisations_.size(); }

void Context::make_room(const Specialisation& spec) {
  memory_->grow(memory_->arena, memory_->arena_bytes, spec.arena_bytes());
  for (std::size_t i = 0; i < memory_->outputs.size(); ++i) memory_->grow(memory_->outputs[i].first, memory_->outputs[i].second, spec.output_capacity(i));
}

Specialisation* Context::make_specialisation() {
  const bool widened = query_->shapes.widen(query_->bindings, specialisations_.empty() ? nullptr : &specialisations_.front()->bindings(), query_->shape_class);
  const auto make = [&](bool at_largest) {
    auto spec =
        std::make_unique<Specialisation>(*engine_, query_->shapes, query_->shape_class, query_->bindings, SpecialisationOptions{keep_, at_largest, widened});
    make_room(*spec);
    if (specialisations_.size() >= kMaxSpecialisations) specialisations_.pop_back();
    specialisations_.insert(specialisations_.begin(), std::move(spec));
    return specialisations_.front().get();
  };
  try {
    return make(true);
  } catch (const Error& error) {
    if (error.code() != Code::kOutOfMemory) throw;
  } catch (const std::bad_alloc&) {
  }
  return make(false);  // the largest shape of the class may be far from the one asked for
}

/// What runs the shapes in query_->inputs, moved there; null and the reason in `status` when nothing can. Puts it in front.
Specialisation* Context::find_or_make(Status& status) noexcept try {
  const auto to_front = [&](std::size_t at) {
    const auto begin = specialisations_.begin();
    std::rotate(begin, begin + static_cast<std::ptrdiff_t>(at), begin + static_cast<std::ptrdiff_t>(at) + 1);
    return specialisations_.front().get();
  };
  for (std::size_t s = 0; s < specialisations_.size(); ++s) {
    if (!specialisations_[s]->stands_at(query_->inputs)) continue;
    Specialisation* spec = to_front(s);
    make_room(*spec);  // it had room; a larger shape that found none may have given it up
    return spec;
  }
  status = query_->shapes.solve(query_->inputs, query_->bindings);
  if (!status) return nullptr;
  query_->shapes.classify(query_->bindings, query_->shape_class);
  for (std::size_t s = 0; s < specialisations_.size(); ++s) {
    if (specialisations_[s]->shape_class() != query_->shape_class && !specialisations_[s]->covers(query_->bindings)) continue;
    Specialisation* spec = to_front(s);
    try {
      spec->move_to(query_->bindings);
      make_room(*spec);
    } catch (...) {
      if (current_ == spec) current_ = nullptr;
      specialisations_.erase(specialisations_.begin());
      throw;
    }
    return spec;
  }
  return make_specialisation();
} catch (const Error& error) {
  // The model was found valid when it was built: what it does not take now is the caller's.
  status = Status(error.code() == Code::kInvalidModel ? Code::kInvalidArgument : error.code(), error.what());
  return nullptr;
} catch (const std::bad_alloc&) {
  status = Status(Code::kOutOfMemory, "there is not enough memory for these shapes");
  return nullptr;
} catch (const std::exception& error) {
  status = Status(Code::kInternal, error.what());
  return nullptr;
}

std::int64_t Context::graph_runs() const noexcept { return cuda_ ? cuda_->graph_runs() : 0; }
void* Context::stream() const noexcept {
  if (dynamic_ && dynamic_->device_values()) return dynamic_->device_values()->stream();
  return cuda_ ? cuda_->stream() : nullptr;
}

Status Context::prepare(std::span<const Dims> input_dims) noexcept {
  if (dynamic_) return Status::ok();  // what its parts see, only the data tell
  if (input_dims.size() != query_->inputs.size()) return {Code::kInvalidArgument, "the number of shapes is not the engine's number of inputs"};
  std::copy(input_dims.begin(), input_dims.end(), query_->inputs.begin());
  std::optional<cuda::Current> current;
  if (cuda_) current.emplace(*cuda_->device());
  Status status;
  if (Specialisation* spec = find_or_make(status)) current_ = spec;
  return status;
}

Status Context::run_on_cuda(Specialisation& spec, std::span<const InputView> inputs, std::span<const OutputView> outputs, void* stream) noexcept {
  const plan::Program& program = engine_->program();
  CudaTensors& t = memory_->tensors;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const plan::TensorDesc& desc = spec.desc(program.inputs[i].slot);
    t.inputs[i] = inputs[i].data;
    t.input_bytes[i] = dtype_bytes(desc.dtype, desc.elements());
  }
  for (std::size_t i = 0; i < program.outputs.size(); ++i) {
    const plan::TensorDesc& desc = spec.desc(program.outputs[i].slot);
    t.outputs[i] = i < outputs.size() ? outputs[i].data : nullptr;
    t.output_bytes[i] = dtype_bytes(desc.dtype, desc.elements());
    t.own[i] = memory_->outputs[i].first;
  }
  const CudaCall call{
      t.inputs, t.outputs, t.input_bytes, t.output_bytes, t.own, static_cast<std::byte*>(memory_->arena), stream, profiling_ ? &times_ : nullptr};
  return cuda_->run(spec, program, call);
}

Status Context::run(std::span<const InputView> inputs, std::span<const OutputView> outputs, void* stream) noexcept {
  if (dynamic_) return run_dynamic(inputs, outputs, stream);
  const plan::Program& program = engine_->program();
  if (const Status counts = check_counts(program, inputs.size(), outputs.size()); !counts) return counts;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const plan::Slot& slot = program.slots[static_cast<std::size_t>(program.inputs[i].slot)];
    if (inputs[i].dtype != slot.dtype)
      return failure(Code::kInvalidArgument, "input '{}' has type {}, expected {}", program.inputs[i].name, dtype_name(inputs[i].dtype),
                     dtype_name(slot.dtype));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) query_->inputs[i] = inputs[i].dims;
  std::optional<cuda::Current> current;
  if (cuda_) current.emplace(*cuda_->device());
  Status status;
  Specialisation* spec = find_or_make(status);
  if (!spec) return status;
  current_ = spec;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].data && spec->desc(program.inputs[i].slot).elements() > 0)
      return failure(Code::kInvalidArgument, "input '{}' has no data", program.inputs[i].name);
    spec->input_pointers[i] = inputs[i].data;
  }
  for (std::size_t i = 0; i < program.outputs.size(); ++i) {
    spec->output_pointers[i] = memory_->outputs[i].first;
    if (i >= outputs.size() || !outputs[i].data) continue;
    const plan::Slot& slot = program.slots[static_cast<std::size_t>(program.outputs[i].slot)];
    status = check_output(program.outputs[i].name, outputs[i], slot.dtype, spec->desc(program.outputs[i].slot).dims);
    if (!status) return status;
    spec->output_pointers[i] = outputs[i].data;
  }
  if (cuda_) return run_on_cuda(*spec, inputs, outputs, stream);
  if (stream) return failure(Code::kInvalidArgument, "a stream was given, but the engine runs on the CPU");
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
  const double begin = profiling_ ? os::now_seconds() : 0;
  for (std::size_t s = 0; s < spec->steps().size(); ++s) {
    const BoundStep& step = spec->steps()[s];
    if (!step.kernel) continue;
    for (std::size_t i = 0; i < step.inputs.size(); ++i) spec->in[i] = pointer(step.inputs[i]);
    for (std::size_t i = 0; i < step.outputs.size(); ++i) spec->out[i] = const_cast<void*>(pointer(step.outputs[i]));
    const double start = profiling_ ? os::now_seconds() : 0;
    status = step.kernel->run({spec->in.data(), spec->out.data(), arena + spec->scratch_offset(), &pool});
    if (profiling_) {
      times_.steps[s].seconds += os::now_seconds() - start;
      ++times_.steps[s].runs;
    }
    if (!status) return failure(status.code(), "step '{}': {}", program.steps[s].label, status.message());
  }
  if (profiling_) {
    times_.whole.seconds += os::now_seconds() - begin;
    ++times_.whole.runs;
  }
  return Status::ok();
}

/// Runs, and brings the results where they are to be: into the caller's memory on a GPU, else to the host.
Status Context::run_program(std::span<const Tensor> inputs, std::span<const OutputView> outputs, const ValueRun& how) noexcept try {
  const plan::Program& program = engine_->program();
  const double begin = profiling_ ? os::now_seconds() : 0;
  DeviceValues* const there = dynamic_->device_values().get();
  if (how.stream && !there) return {Code::kInvalidArgument, "a stream was given, but the engine runs on the CPU"};
  if (how.stream) there->follow(static_cast<cuda::StreamHandle>(how.stream));
  // However it ends: what is under way reads and writes the caller's memory.
  struct Settled {
    const DeviceValues* there;
    ~Settled() {
      if (there) there->settle();
    }
  } settled{there};
  std::vector<void*>& on_device = memory_->tensors.outputs;
  std::fill(on_device.begin(), on_device.end(), nullptr);
  dynamic_outputs_.clear();
  std::vector<Tensor> made = dynamic_->run(inputs);
  for (std::size_t i = 0; i < made.size(); ++i) {
    Tensor& value = made[i];
    const bool has_numbers = value.is_tensor() && value.dtype() != DType::kString;
    void* to = nullptr;  // on the device
    if (i < outputs.size() && outputs[i].data) {
      if (!has_numbers) return {Code::kInvalidArgument, fmt::format("output '{}' is no tensor of numbers: take it as a value", program.outputs[i].name)};
      if (const Status status = check_output(program.outputs[i].name, outputs[i], value.dtype(), value.dims()); !status) return status;
      if (there && value.bytes() > 0 && there->is_here(outputs[i].data)) to = outputs[i].data;
    } else if (there && how.place && has_numbers) {
      to = how.place(i, value.dtype(), value.dims());
    }
    if (to) {
      if (value.bytes() > 0) there->copy(value, to);
      on_device[i] = to;
      value = there->wrap(value.dtype(), value.dims(), to);
      continue;
    }
    value = value.local();
  }
  if (there) there->wait();
  settled.there = nullptr;
  dynamic_outputs_ = std::move(made);
  if (profiling_) {
    times_.whole.seconds += os::now_seconds() - begin;
    ++times_.whole.runs;
  }
  return Status::ok();
} catch (const Error& error) {
  // The model was found valid when it was built: what it does not take now is the caller's.
  // Nor does its remedy, which is about the file, help.
  Error of_run(error.code() == Code::kInvalidModel ? Code::kInvalidArgument : error.code(), error.message());
  if (!error.node().empty() || !error.op().empty()) of_run.at_node(error.node(), error.op());
  if (!error.tensor().empty()) of_run.at_tensor(error.tensor());
  const bool placed = !error.node().empty() || !error.tensor().empty();
  return {of_run.code(), placed ? std::string_view(of_run.what()) : std::string_view(of_run.message())};
} catch (const std::bad_alloc&) {
  return {Code::kOutOfMemory, "there is not enough memory for this run"};
} catch (const std::exception& error) {
  return {Code::kInternal, error.what()};
}

Status Context::run_values(std::span<const Tensor> inputs, std::vector<Tensor>& outputs, const ValueRun& how) noexcept try {
  if (!dynamic_) return {Code::kInvalidArgument, "the engine's inputs and outputs are tensors: run it with views of them"};
  if (const Status status = run_program(inputs, {}, how); !status) return status;
  outputs = dynamic_outputs_;
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (memory_->tensors.outputs[i]) outputs[i] = Tensor();
  return Status::ok();
} catch (const std::bad_alloc&) {
  return {Code::kOutOfMemory, "there is not enough memory for this run"};
}

Tensor Context::device_value(DType dtype, const Dims& dims, const void* address) {
  if (!dynamic_ || !dynamic_->device_values()) throw Error(Code::kInvalidArgument, "the engine runs on the CPU");
  return dynamic_->device_values()->wrap(dtype, dims, address);
}

Status Context::run_dynamic(std::span<const InputView> inputs, std::span<const OutputView> outputs, void* stream) noexcept try {
  const plan::Program& program = engine_->program();
  DeviceValues* const there = dynamic_->device_values().get();
  if (const Status counts = check_counts(program, inputs.size(), outputs.size()); !counts) return counts;
  std::vector<Tensor> given;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const InputView& view = inputs[i];
    if (view.dtype == DType::kUndefined) {
      given.emplace_back();
      continue;
    }
    if (view.dtype == DType::kString) return {Code::kInvalidArgument, fmt::format("input '{}' holds texts: give it as a value", program.inputs[i].name)};
    const Dims dims(view.dims.begin(), view.dims.end());
    const std::size_t bytes = dtype_bytes(view.dtype, element_count(dims));
    if (!view.data && bytes > 0) return {Code::kInvalidArgument, fmt::format("input '{}' has no data", program.inputs[i].name)};
    const bool on_device = there && bytes > 0 && there->is_here(view.data);
    given.push_back(on_device ? there->wrap(view.dtype, dims, view.data) : Tensor::view(view.dtype, dims, view.data, bytes, nullptr));
  }
  if (const Status status = run_program(given, outputs, {.stream = stream, .place = {}}); !status) return status;
  for (std::size_t i = 0; i < dynamic_outputs_.size(); ++i) {
    Tensor& value = dynamic_outputs_[i];
    if (memory_->tensors.outputs[i]) continue;
    value = detached(value, inputs);
    if (i < outputs.size() && outputs[i].data && value.bytes() > 0) std::memcpy(outputs[i].data, value.raw(), value.bytes());
  }
  return Status::ok();
} catch (const Error& error) {
  return {error.code(), error.what()};
} catch (const std::bad_alloc&) {
  return {Code::kOutOfMemory, "there is not enough memory for this run"};
}

const plan::TensorDesc& Context::output_desc(std::size_t index) const noexcept { return current_->desc(engine_->program().outputs[index].slot); }

InputView Context::output(std::size_t index) const noexcept {
  if (dynamic_) {
    if (index >= dynamic_outputs_.size()) return {};
    const Tensor& value = dynamic_outputs_[index];
    if (const void* given = memory_->tensors.outputs[index]) return {given, value.dtype(), value.dims()};
    return value.is_tensor() && value.dtype() != DType::kString ? InputView{value.raw(), value.dtype(), value.dims()} : InputView{};
  }
  if (!current_ || index >= current_->output_pointers.size()) return {};
  const plan::Program& program = engine_->program();
  const void* data = current_->output_pointers[index];
  if (cuda_) data = memory_->tensors.outputs[index] ? memory_->tensors.outputs[index] : cuda_->host_output(index);
  return {data, program.slots[static_cast<std::size_t>(program.outputs[index].slot)].dtype, current_->desc(program.outputs[index].slot).dims};
}

Tensor Context::slot(std::string_view name) const {
  if (dynamic_) return dynamic_->value(name);
  if (!current_) return {};
  const plan::Program& program = engine_->program();
  for (std::size_t i = 0; i < program.slots.size(); ++i) {
    if (program.slots[i].name != name) continue;
    const Ref& ref = current_->ref(static_cast<plan::SlotId>(i));
    const std::byte* data = nullptr;
    if (ref.kind == Ref::kArena && current_->options().keep_intermediates) data = static_cast<const std::byte*>(memory_->arena) + ref.offset;
    if (ref.kind == Ref::kOutput) data = static_cast<const std::byte*>(current_->output_pointers[static_cast<std::size_t>(ref.index)]) + ref.offset;
    if (ref.kind == Ref::kConstant) data = static_cast<const std::byte*>(ref.host_constant);
    if (!data) continue;
    const plan::TensorDesc& desc = current_->desc(static_cast<plan::SlotId>(i));
    std::vector<std::byte> fetched;
    if (cuda_ && ref.kind != Ref::kConstant) {
      fetched = cuda_->fetch(data, dtype_bytes(desc.dtype, plan::span_elements(desc)));
      data = fetched.data();
    }
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
