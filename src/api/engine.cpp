// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Engine and Context of the public API over runtime::Engine and runtime::Context.

#include "engine/engine.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "api/impl.h"
#include "backend/cuda/driver.h"
#include "base/tensor.h"
#include "engine/native_code.h"

namespace lathe {

// Engine -----------------------------------------------------------------------------------------------------------

namespace api {

Engine make_engine(engine::EngineData data, std::string_view device, bool to_run) {
  auto impl = std::make_shared<Engine::Impl>();
  if (device.empty()) {
    impl->engine = runtime::Engine::create(std::move(data), {}, 0, to_run);
  } else {
    const std::optional<int> ordinal = builder::cuda_ordinal(device);
    if (ordinal) cuda::Driver::get();  // a machine without is told so before the engine is looked at
    impl->engine = runtime::Engine::create(std::move(data), ordinal ? "cuda*" : "cpu*", ordinal.value_or(0), to_run);
  }
  const plan::Program& program = impl->engine->program();
  ir::Bindings tuned;
  for (const plan::SymbolHint& hint : program.symbols)
    if (hint.opt >= 0) tuned[hint.symbol] = hint.opt;
  const auto describe = [&](const plan::Io& io) {
    const plan::Slot& slot = program.slots[static_cast<std::size_t>(io.slot)];
    if (slot.type) return io_info(io.name, *slot.type);
    IoInfo info = io_info(io.name, slot.dtype, slot.shape);
    for (const ir::Dim& dim : slot.shape) info.tuned_shape.push_back(dim.evaluate(tuned).value_or(-1));
    return info;
  };
  for (const plan::Io& io : program.inputs) impl->inputs.push_back(describe(io));
  for (const plan::Io& io : program.outputs) impl->outputs.push_back(describe(io));
  return Engine(std::move(impl));
}

void out_of_memory(std::string_view doing) {
  try {
    throw Error(Code::kOutOfMemory, fmt::format("there is not enough memory to {}", doing));
  } catch (const std::bad_alloc&) {
    throw Error(Code::kOutOfMemory, "out of memory");  // strings this short need no memory of their own
  }
}

}  // namespace api

Engine::Engine(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

namespace {

Engine load_file(const std::filesystem::path& file, std::string_view device, bool to_run) {
  return api::guarded("load the engine", [&] {
    try {
      return api::make_engine(engine::read_engine(file), device, to_run);
    } catch (Error& error) {
      if (error.source().empty()) error.in_source(file.string());
      throw;
    }
  });
}

}  // namespace

Engine api::look_at(const std::filesystem::path& file) { return load_file(file, {}, false); }
Engine Engine::load(const std::filesystem::path& file, std::string_view device) { return load_file(file, device, true); }

Engine Engine::load(std::span<const std::byte> bytes, std::string_view device) {
  return api::guarded("load the engine", [&] {
    auto copy = std::make_shared<Tensor>(DType::kUint8, Dims{static_cast<std::int64_t>(bytes.size())});
    if (!bytes.empty()) std::memcpy(copy->mutable_raw(), bytes.data(), bytes.size());
    const std::span<const std::byte> view(copy->raw(), copy->bytes());
    return api::make_engine(engine::read_engine(view, std::move(copy)), device);
  });
}

void Engine::save(const std::filesystem::path& file) const {
  api::guarded("write the engine", [&] { engine::write_engine(impl_->engine->data(), file); });
}
std::vector<std::byte> Engine::to_bytes() const {
  return api::guarded("write the engine", [&] { return engine::write_engine(impl_->engine->data()); });
}

std::vector<IoInfo> Engine::inputs() const { return impl_->inputs; }
std::vector<IoInfo> Engine::outputs() const { return impl_->outputs; }

Context Engine::create_context(Allocator* allocator) const {
  return api::guarded("make a context", [&] { return Context(std::make_unique<Context::Impl>(impl_, allocator)); });
}

std::string Engine::device() const {
  const std::string& device = impl_->engine->section().device;
  return device.substr(0, device.find('-'));  // "cpu-generic" runs on the device "cpu"
}
std::string Engine::section() const { return impl_->engine->section_note(); }
std::string Engine::native_code() const { return impl_->engine->native_note(); }
std::string Engine::report_json() const { return impl_->engine->data().report_json; }
std::size_t Engine::weight_bytes() const { return impl_->engine->weight_bytes(); }

namespace {

std::string slot_text(const plan::Program& program, plan::SlotId id) {
  if (id < 0) return "_";
  const plan::Slot& slot = program.slots[static_cast<std::size_t>(id)];
  std::string described =
      slot.type ? fmt::format("%{} {}", id, slot.type->to_string()) : fmt::format("%{} {}{}", id, dtype_name(slot.dtype), ir::to_string(slot.shape));
  if (!slot.order.empty()) described += fmt::format(" order {}", fmt::join(slot.order, ""));
  if (slot.storage == plan::Storage::kAlias)
    described += slot.alias_axis < 0 ? fmt::format(" = %{}", slot.parent)
                                     : fmt::format(" = %{} from {} on axis {}", slot.parent, slot.alias_offset.to_string(), slot.alias_axis);
  if (slot.storage == plan::Storage::kConstant) described += fmt::format(" = weight {}", slot.blob);
  if (!slot.name.empty()) described += fmt::format(" '{}'", slot.name);
  return described;
}

/// Steps with their slots; what calls and nested graphs run is set off.
void list_steps(const plan::Program& program, const std::string& indent, std::string& text) {
  for (std::size_t i = 0; i < program.steps.size(); ++i) {
    const plan::Step& step = program.steps[i];
    text += fmt::format("\n{}{:4}  {}  [{}]", indent, i, step.label, step.kernel.empty() ? "call" : step.kernel);
    if (step.measured_seconds >= 0) text += fmt::format("  {:.4f} ms", step.measured_seconds * 1e3);
    if (step.flops > 0) text += fmt::format("  {:.2f} MFLOP", step.flops * 1e-6);
    text += '\n';
    for (const plan::SlotId id : step.inputs) text += fmt::format("{}        in  {}\n", indent, slot_text(program, id));
    for (const plan::SlotId id : step.outputs) text += fmt::format("{}        out {}\n", indent, slot_text(program, id));
    if (step.pinned) text += fmt::format("{}        pinned: {}\n", indent, *step.pinned);
    for (const std::int32_t region : step.regions) list_steps(program.subprograms[static_cast<std::size_t>(region)], indent + "    ", text);
  }
}

}  // namespace

std::string Engine::to_text() const {
  const engine::EngineData& data = impl_->engine->data();
  const plan::Program& program = impl_->engine->program();
  std::string text = fmt::format("engine '{}' by {}\n", data.model_name, data.producer);
  const auto list_io = [&](std::string_view word, const std::vector<IoInfo>& list) {
    for (const IoInfo& info : list)
      text += info.type.empty() ? fmt::format("  {} {}: {}[{}]\n", word, info.name, dtype_name(info.dtype), fmt::join(info.shape_text, ", "))
                                : fmt::format("  {} {}: {}\n", word, info.name, info.type);
  };
  list_io("input ", impl_->inputs);
  list_io("output", impl_->outputs);
  for (const plan::SymbolHint& hint : program.symbols)
    text += fmt::format("  {}: {}..{}, tuned at {}\n", hint.symbol, hint.min, hint.max < 0 ? "any" : std::to_string(hint.max),
                        hint.opt < 0 ? "no size" : std::to_string(hint.opt));
  text += fmt::format("in use: {}\n", section());
  const trust::KeyRing keys = trust::read_keys();
  for (const engine::DeviceSection& device : data.sections) {
    text += fmt::format("device {}: needs {}; {}; {} steps\n", device.device, device.needs.empty() ? "nothing special" : device.needs, device.description,
                        device.program.steps.size());
    if (device.native.bytes.empty()) continue;
    const engine::NativeJudgement judgement = engine::judge_native(device.native, keys);
    text += fmt::format("  {:.1f} KiB of native code: {}\n", static_cast<double>(device.native.bytes.size()) / 1024,
                        judgement.why.empty() ? "signed by " + judgement.by : "ignored, " + judgement.why);
  }
  if (!data.custom_ops.empty()) text += fmt::format("custom operators, to be registered before it runs: {}\n", fmt::join(data.custom_ops, ", "));
  std::size_t stored = 0;
  for (const auto& blob : data.blob_bytes) stored += blob.size();
  text += fmt::format("weights: {:.2f} MiB in use, {:.2f} MiB in {} blobs stored\n", static_cast<double>(weight_bytes()) / (1 << 20),
                      static_cast<double>(stored) / (1 << 20), data.blobs.size());
  if (!data.precision.empty()) {
    text += "stored in other types than the model's:";
    for (const plan::PrecisionEntry& entry : data.precision) text += fmt::format(" {}={}", entry.tensor, dtype_name(entry.storage));
    text += '\n';
  }
  list_steps(program, "", text);
  return text;
}

// Context ----------------------------------------------------------------------------------------------------------

Context::Context(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;
Context::~Context() = default;

Status Context::prepare(std::span<const std::vector<std::int64_t>> input_shapes) { return impl_->context.prepare(input_shapes); }

Status Context::run(std::span<const ConstTensorView> inputs, std::span<const TensorView> outputs, void* stream) noexcept {
  Impl& impl = *impl_;
  // Too many views: the runtime's own message counts them; the surplus is never looked at.
  const std::size_t in = std::min(inputs.size(), impl.inputs.size()), out = std::min(outputs.size(), impl.outputs.size());
  if (inputs.size() != impl.inputs.size() || outputs.size() > impl.outputs.size()) {
    char text[128];
    const bool wrong_inputs = inputs.size() != impl.inputs.size();
    const auto end = fmt::format_to_n(text, sizeof text, "{} {} were given, the engine has {}", wrong_inputs ? inputs.size() : outputs.size(),
                                      wrong_inputs ? "inputs" : "outputs", wrong_inputs ? impl.inputs.size() : impl.outputs.size());
    return {Code::kInvalidArgument, std::string_view(text, std::min(end.size, sizeof text))};
  }
  for (std::size_t i = 0; i < in; ++i) impl.inputs[i] = {inputs[i].data, inputs[i].dtype, inputs[i].shape};
  for (std::size_t i = 0; i < out; ++i) impl.outputs[i] = {outputs[i].data, outputs[i].dtype, outputs[i].shape};
  return impl.context.run(impl.inputs, std::span<const runtime::OutputView>(impl.outputs.data(), out), stream);
}

Status Context::run(std::initializer_list<std::pair<std::string_view, ConstTensorView>> inputs,
                    std::initializer_list<std::pair<std::string_view, TensorView>> outputs) noexcept {
  Impl& impl = *impl_;
  const auto fail = [](std::string_view format, const auto&... args) {
    char text[254];
    const auto end = fmt::format_to_n(text, sizeof text, fmt::runtime(format), args...);
    return Status(Code::kInvalidArgument, std::string_view(text, std::min(end.size, sizeof text)));
  };
  std::fill(impl.inputs.begin(), impl.inputs.end(), runtime::InputView{});
  std::fill(impl.outputs.begin(), impl.outputs.end(), runtime::OutputView{});
  const auto place = [](const std::vector<IoInfo>& infos, std::string_view name) {
    return static_cast<std::size_t>(std::find_if(infos.begin(), infos.end(), [&](const IoInfo& info) { return info.name == name; }) - infos.begin());
  };
  for (const auto& [name, view] : inputs) {
    const std::size_t at = place(impl.engine->inputs, name);
    if (at == impl.inputs.size()) return fail("the engine has no input '{}'", name);
    impl.inputs[at] = {view.data, view.dtype, view.shape};
  }
  for (std::size_t i = 0; i < impl.inputs.size(); ++i)
    if (impl.inputs[i].dtype == DType::kUndefined) return fail("the input '{}' was not given", impl.engine->inputs[i].name);
  for (const auto& [name, view] : outputs) {
    const std::size_t at = place(impl.engine->outputs, name);
    if (at == impl.outputs.size()) return fail("the engine has no output '{}'", name);
    impl.outputs[at] = {view.data, view.dtype, view.shape};
  }
  return impl.context.run(impl.inputs, impl.outputs);
}

ConstTensorView Context::output(std::size_t index) const noexcept {
  const runtime::InputView view = impl_->context.output(index);
  return {view.data, view.dtype, view.dims};
}

void Context::start_profile() { impl_->context.start_profile(); }

std::vector<StepProfile> Context::profile() const {
  const auto runs = static_cast<double>(std::max<std::int64_t>(1, impl_->context.profile().whole.runs));
  const bool dynamic = impl_->engine->engine->program().dynamic;
  std::vector<StepProfile> list;
  for (const auto& [program, step, time] : impl_->context.profiled_steps()) {
    const plan::SlotId first = step->inputs.empty() ? -1 : step->inputs.front();
    const DType dtype = first < 0 ? DType::kUndefined : program->slots[static_cast<std::size_t>(first)].dtype;
    // A planned program's steps all run as often; what a dynamic one runs is a mean over its own runs.
    const double passes = dynamic ? runs : static_cast<double>(std::max<std::int64_t>(1, time.runs));
    list.push_back({step->label, step->kernel, step->sources, time.seconds / passes, step->flops, step->bytes, dtype, step->kind == plan::StepKind::kHostOp,
                    static_cast<double>(time.runs) / passes});
  }
  return list;
}

RunProfile Context::run_profile() const {
  const runtime::RunTimes& times = impl_->context.profile();
  return {times.whole.runs > 0 ? times.whole.seconds / static_cast<double>(times.whole.runs) : 0, times.whole.runs, times.replayed};
}

std::size_t Context::activation_bytes() const noexcept { return impl_->context.arena_bytes(); }

}  // namespace lathe
