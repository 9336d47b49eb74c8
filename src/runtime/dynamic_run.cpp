// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See dynamic_run.h. A value lives from the step that makes it to the last one that reads it.

#include "runtime/dynamic_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "base/os.h"
#include "ops/evaluate.h"
#include "ops/step_node.h"

namespace lathe::runtime {

using plan::SlotId;
using plan::StepKind;
using plan::Storage;

namespace {

/// Deeper nesting than any file is read with.
constexpr int kMaxDepth = 64;

/// What stands for a nested graph when an op's definition asks for it to be run: its inputs and outputs with their types.
std::shared_ptr<ir::Graph> stand_in(const plan::Program& program, std::size_t formals) {
  auto graph = std::make_shared<ir::Graph>();
  const auto slot = [&](const plan::Io& io) -> const plan::Slot& { return program.slots[static_cast<std::size_t>(io.slot)]; };
  for (std::size_t i = 0; i < formals; ++i) graph->add_input(fmt::format("in{}", i), slot(program.inputs[i]).value_type());
  std::vector<std::string> names;
  for (std::size_t i = 0; i < program.outputs.size(); ++i) names.push_back(fmt::format("out{}", i));
  ir::Node* node = graph->add_node("lathe", "NestedProgram", {}, names);
  for (std::size_t i = 0; i < names.size(); ++i) {
    node->output(i)->type = slot(program.outputs[i]).value_type();
    graph->add_output(node->output(i));
  }
  return graph;
}

/// Does a value fit what the program says of an input? Only what later steps rely on is asked.
std::string misfit(const plan::Slot& slot, const Tensor& value) {
  const ir::Type type = slot.value_type();
  const bool optional = type.kind == ir::TypeKind::kOptional;
  const ir::Type& wanted = optional && type.element ? *type.element : type;
  if (value.is_nothing()) return optional ? "" : "it is empty, and the model wants a value";
  if (wanted.kind == ir::TypeKind::kSequence) return value.is_sequence() ? "" : "the model wants a sequence";
  if (wanted.kind == ir::TypeKind::kMap) return value.is_map() ? "" : "the model wants a map";
  if (!wanted.is_tensor()) return "";
  if (!value.is_tensor()) return "the model wants a tensor";
  if (wanted.dtype != DType::kUndefined && value.dtype() != wanted.dtype)
    return fmt::format("it has type {}, expected {}", dtype_name(value.dtype()), dtype_name(wanted.dtype));
  if (!wanted.shape) return "";
  const auto& shape = *wanted.shape;
  if (shape.size() != value.dims().size()) return fmt::format("it has rank {}, expected {}: {}", value.rank(), shape.size(), ir::to_string(shape));
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (const auto extent = shape[axis].constant(); extent && *extent != value.dims()[axis])
      return fmt::format("it has shape {}, expected {} (axis {} must be {})", to_string(value.dims()), ir::to_string(shape), axis, *extent);
  return "";
}

}  // namespace

struct DynamicRun::Step {
  std::vector<std::int64_t> carriers;  // of a call
  std::shared_ptr<const Engine> part;
  std::unique_ptr<Context> context;
  std::unique_ptr<ir::Graph> graph;  // of a node: what it lies in
  ir::Node* node = nullptr;
  std::shared_ptr<const void> kept;  // by its reference
  std::size_t given = 0;             // of its inputs are the node's own
  std::vector<std::shared_ptr<ir::Graph>> nested;
  std::vector<std::unique_ptr<Body>> bodies;  // one per nested graph
  std::vector<std::size_t> formals;
  std::vector<SlotId> dead;  // after the step
  StepTime time;             // while profiling
};

struct DynamicRun::Body {
  const plan::Program* program = nullptr;
  std::vector<Step> steps;
  std::vector<Tensor> values;
  std::vector<bool> kept;  // constants and what nobody may free
};

DynamicRun::DynamicRun(std::shared_ptr<const Engine> engine, DynamicOptions options) : engine_(std::move(engine)), options_(options) {
  if (const CudaEngine* cuda = engine_->cuda()) device_values_ = DeviceValues::create(cuda->device(), options_.allocator);
  main_ = make_body(engine_->program(), 0);
}

DynamicRun::~DynamicRun() {
  // The planned steps' memory goes with their Contexts.
  if (device_values_) device_values_->settle();
}

std::unique_ptr<DynamicRun::Body> DynamicRun::make_body(const plan::Program& program, int depth) {
  if (depth > kMaxDepth) throw Error(Code::kCorruptFile, "the programs of nested graphs are nested too deeply");
  auto body = std::make_unique<Body>();
  body->program = &program;
  body->values.resize(program.slots.size());
  body->kept.assign(program.slots.size(), options_.keep_values && depth == 0);
  for (std::size_t i = 0; i < program.slots.size(); ++i) {
    const plan::Slot& slot = program.slots[i];
    if (slot.storage == Storage::kOutput) body->kept[i] = true;
    if (slot.storage != Storage::kConstant) continue;
    const auto dims = ir::constant_dims(slot.shape);
    if (!dims) throw Error(Code::kCorruptFile, fmt::format("the constant '{}' has no shape", slot.name));
    const std::size_t bytes = dtype_bytes(slot.dtype, element_count(*dims));
    const auto blob = engine_->blob(slot.blob);
    if (blob.size() < bytes) throw Error(Code::kCorruptFile, fmt::format("the constant '{}' is larger than its weight", slot.name));
    body->values[i] = Tensor::view(slot.dtype, *dims, blob.data(), bytes, engine_).make_aligned();
    body->kept[i] = true;
  }
  std::unordered_map<SlotId, std::size_t> last;
  for (std::size_t s = 0; s < program.steps.size(); ++s) {
    const plan::Step& step = program.steps[s];
    for (const SlotId id : step.inputs) last[id] = s;
    for (const SlotId id : step.outputs) last[id] = s;
  }
  body->steps.resize(program.steps.size());
  for (std::size_t s = 0; s < program.steps.size(); ++s) {
    const plan::Step& step = program.steps[s];
    Step& made = body->steps[s];
    if (step.kind == StepKind::kCall) {
      made.carriers = step.params.get_ints("carriers");
      made.part = Engine::part(engine_, program.subprograms[static_cast<std::size_t>(step.regions.at(0))]);
    } else if (step.kind == StepKind::kHostOp) {
      make_node(program, step, made, depth);
    } else {
      throw Error(Code::kUnsupported, "a step of this kind cannot run in a dynamic program").at_node(step.label, step.kernel);
    }
  }
  for (const auto& [id, s] : last)
    if (id >= 0 && !body->kept[static_cast<std::size_t>(id)]) body->steps[s].dead.push_back(id);
  return body;
}

void DynamicRun::make_node(const plan::Program& program, const plan::Step& step, Step& made, int depth) {
  made.graph = std::make_unique<ir::Graph>();
  made.given = static_cast<std::size_t>(step.params.get_int("inputs", 0));
  const auto slot = [&](SlotId id) -> const plan::Slot& { return program.slots[static_cast<std::size_t>(id)]; };
  ir::Attrs attrs = ops::node_attributes(step.params);
  const std::vector<std::string> graphs = step.params.get_strings("graphs");
  const std::vector<std::int64_t> formals = step.params.get_ints("formals");
  for (std::size_t r = 0; r < step.regions.size(); ++r) {
    const plan::Program& body = program.subprograms[static_cast<std::size_t>(step.regions[r])];
    made.formals.push_back(static_cast<std::size_t>(formals.at(r)));
    made.nested.push_back(stand_in(body, made.formals.back()));
    made.bodies.push_back(make_body(body, depth + 1));
    attrs.set(graphs.at(r), ir::Attribute(ir::GraphPtr(made.nested.back())));
  }
  std::vector<ir::Value*> inputs;
  for (std::size_t i = 0; i < made.given; ++i)
    inputs.push_back(step.inputs[i] < 0 ? nullptr : made.graph->add_input(fmt::format("in{}", i), slot(step.inputs[i]).value_type()));
  std::vector<std::string> names;
  for (std::size_t i = 0; i < step.outputs.size(); ++i) names.push_back(step.outputs[i] < 0 ? "" : fmt::format("out{}", i));
  made.node = made.graph->add_node(step.params.get_string("domain", ""), step.params.get_string("op", ""), inputs, names, attrs);
  made.node->name = step.params.get_string("name", step.label);
  for (std::size_t i = 0; i < step.outputs.size(); ++i)
    if (ir::Value* output = made.node->output(i)) output->type = slot(step.outputs[i]).value_type();
  if (!ops::can_evaluate(*made.node)) throw Error(Code::kUnsupported, fmt::format("this build has no definition of the operator '{}'", made.node->op));
}

void DynamicRun::call(Body& body, const plan::Step& step, Step& state) {
  if (!state.context) {
    state.context = std::make_unique<Context>(state.part, options_.allocator);
    state.context->keep_intermediates(options_.keep_values);
    if (profiling_) state.context->start_profile();
  }
  const plan::Program& callee = state.part->program();
  const std::size_t carried = step.inputs.size() - state.carriers.size();
  std::vector<Dims> dims(step.inputs.size());
  std::vector<InputView> inputs(step.inputs.size());
  for (std::size_t i = 0; i < step.inputs.size(); ++i) {
    Tensor& value = body.values[static_cast<std::size_t>(step.inputs[i])];
    const plan::Slot& formal = callee.slots[static_cast<std::size_t>(callee.inputs[i].slot)];
    if (i < carried) {
      if (!value.is_tensor()) throw Error(Code::kInvalidArgument, "a planned step was given no tensor").at_tensor(formal.name);
      dims[i] = value.dims();
      const bool there = device_values_ && value.bytes() > 0;
      if (there) value = device_values_->bring(value);  // once for all that read it
      inputs[i] = {there ? value.remote_bytes()->address() : value.raw(), value.dtype(), dims[i]};
    } else {
      const std::int64_t at = state.carriers[i - carried];
      std::int64_t extent = 0;
      if (at >= 0) {
        if (at >= value.rank()) throw Error(Code::kInvalidArgument, fmt::format("the tensor has no axis {}", at)).at_tensor(formal.name);
        extent = value.dims()[static_cast<std::size_t>(at)];
      } else {
        if (-1 - at >= value.size()) throw Error(Code::kInvalidArgument, fmt::format("the tensor has no element {}", -1 - at)).at_tensor(formal.name);
        extent = value.as_int64(-1 - at);
      }
      static const float nothing = 0;
      dims[i] = {extent, 0};
      inputs[i] = {&nothing, formal.dtype, dims[i]};
    }
    if (!options_.note_symbols) continue;
    for (std::size_t axis = 0; axis < std::min(dims[i].size(), formal.shape.size()); ++axis)
      if (formal.shape[axis].is_symbol()) symbols_[formal.shape[axis].symbol_name()] = dims[i][axis];
  }
  const auto check = [](const Status& status) {
    if (!status) throw Error(status.code(), std::string(status.message()));
  };
  check(state.context->prepare(dims));
  std::vector<OutputView> outputs(step.outputs.size());
  std::vector<Tensor> made;
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    const plan::TensorDesc& desc = state.context->output_desc(i);
    const bool there = device_values_ && desc.elements() > 0;
    made.push_back(there ? device_values_->make(desc.dtype, desc.dims) : Tensor::to_be_filled(desc.dtype, desc.dims));
    outputs[i] = {there ? const_cast<void*>(made[i].remote_bytes()->address()) : made[i].mutable_raw(), desc.dtype, made[i].dims()};
  }
  check(state.context->run(inputs, outputs, device_values_ ? device_values_->stream() : nullptr));
  for (std::size_t i = 0; i < step.outputs.size(); ++i)
    if (step.outputs[i] >= 0) body.values[static_cast<std::size_t>(step.outputs[i])] = std::move(made[i]);
}

void DynamicRun::evaluate(Body& body, const plan::Step& step, Step& state) {
  const auto value = [&](SlotId id) { return id < 0 ? Tensor() : body.values[static_cast<std::size_t>(id)]; };
  std::vector<Tensor> inputs(state.given);
  for (std::size_t i = 0; i < state.given; ++i) inputs[i] = value(step.inputs[i]);
  ops::EvaluateOptions options;
  options.oracle = true;
  options.most_trips = most_trips_;
  options.kept = &state.kept;
  options.run_subgraph = [&](const ir::Graph& graph, std::span<const Tensor> arguments) {
    std::size_t first = state.given;
    for (std::size_t r = 0; r < state.nested.size(); ++r) {
      Body& nested = *state.bodies[r];
      const std::size_t captures = nested.program->inputs.size() - state.formals[r];
      if (state.nested[r].get() != &graph) {
        first += captures;
        continue;
      }
      if (arguments.size() != state.formals[r])
        throw Error(Code::kInvalidArgument, fmt::format("a nested graph takes {} inputs and got {}", state.formals[r], arguments.size()));
      std::vector<Tensor> all(arguments.begin(), arguments.end());
      for (std::size_t i = 0; i < captures; ++i) all.push_back(value(step.inputs[first + i]));
      return run_body(nested, std::move(all));
    }
    throw Error(Code::kInternal, "an operator ran a graph that it does not have");
  };
  std::vector<Tensor> results = ops::evaluate_node(*state.node, inputs, options);
  for (std::size_t i = 0; i < step.outputs.size(); ++i)
    if (step.outputs[i] >= 0) body.values[static_cast<std::size_t>(step.outputs[i])] = std::move(results[i]);
}

std::vector<Tensor> DynamicRun::run_body(Body& body, std::vector<Tensor> inputs) {
  const plan::Program& program = *body.program;
  for (std::size_t i = 0; i < program.inputs.size(); ++i)
    body.values[static_cast<std::size_t>(program.inputs[i].slot)] = inputs[i].is_tensor() ? inputs[i].make_aligned() : std::move(inputs[i]);
  for (std::size_t s = 0; s < program.steps.size(); ++s) {
    const plan::Step& step = program.steps[s];
    Step& state = body.steps[s];
    const double start = profiling_ ? os::now_seconds() : 0;
    try {
      if (step.kind == StepKind::kCall) call(body, step, state);
      else evaluate(body, step, state);
    } catch (Error& error) {
      if (error.node().empty() && step.kind == StepKind::kHostOp) error.at_node(state.node->name, state.node->op);
      throw;
    }
    if (profiling_) {
      state.time.seconds += os::now_seconds() - start;
      ++state.time.runs;
    }
    for (const SlotId id : state.dead) body.values[static_cast<std::size_t>(id)] = Tensor();
  }
  std::vector<Tensor> outputs;
  for (const plan::Io& io : program.outputs) outputs.push_back(body.values[static_cast<std::size_t>(io.slot)]);
  if (!(options_.keep_values && &body == main_.get()))
    for (std::size_t i = 0; i < program.slots.size(); ++i)
      if (program.slots[i].storage != Storage::kConstant) body.values[i] = Tensor();
  return outputs;
}

std::vector<Tensor> DynamicRun::run(std::span<const Tensor> inputs) {
  const plan::Program& program = *main_->program;
  if (inputs.size() != program.inputs.size())
    throw Error(Code::kInvalidArgument, fmt::format("{} inputs were given, the engine has {}", inputs.size(), program.inputs.size()));
  std::vector<Tensor> given(inputs.begin(), inputs.end());
  ir::Bindings symbols;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const plan::Slot& slot = program.slots[static_cast<std::size_t>(program.inputs[i].slot)];
    const auto refuse = [&](const std::string& why) { throw Error(Code::kInvalidArgument, fmt::format("input '{}': {}", program.inputs[i].name, why)); };
    if (!given[i].defined()) {
      if (!slot.type || slot.type->kind != ir::TypeKind::kOptional) refuse("it was not given");
      given[i] = Tensor::nothing();
    }
    if (const std::string why = misfit(slot, given[i]); !why.empty()) refuse(why);
    for (std::size_t axis = 0; axis < slot.shape.size(); ++axis) {
      if (!slot.shape[axis].is_symbol()) continue;
      const auto [at, added] = symbols.emplace(slot.shape[axis].to_string(), given[i].dims()[axis]);
      if (!added && at->second != given[i].dims()[axis])
        refuse(fmt::format("it has extent {} on axis {}, but '{}' is {} in another input or axis", given[i].dims()[axis], axis, at->first, at->second));
    }
  }
  for (const plan::SymbolHint& hint : program.symbols) {
    const auto at = symbols.find(ir::Dim::symbol(hint.symbol).to_string());
    if (at == symbols.end()) continue;
    if (hint.max >= 0 && at->second > hint.max)
      throw Error(Code::kInvalidArgument,
                  fmt::format("'{}' is {}, above the largest value {} that the engine was built for", hint.symbol, at->second, hint.max));
    if (hint.min > 1 && at->second < hint.min)
      throw Error(Code::kInvalidArgument, fmt::format("'{}' is {}, below the least value {} that the engine was built for", hint.symbol, at->second, hint.min));
  }
  std::vector<Tensor> made = run_body(*main_, std::move(given));
  if (device_values_) device_values_->wait();
  for (std::size_t i = 0; i < made.size(); ++i) {
    if (!made[i].is_tensor()) continue;
    if (const std::string why = misfit(program.slots[static_cast<std::size_t>(program.outputs[i].slot)], made[i]); !why.empty())
      throw Error(Code::kInvalidArgument, fmt::format("this run makes another output '{}' than the model declares: {}", program.outputs[i].name, why));
  }
  return made;
}

Tensor DynamicRun::value(std::string_view name) const {
  const plan::Program& program = *main_->program;
  for (std::size_t i = 0; i < program.slots.size(); ++i)
    if (program.slots[i].name == name && main_->values[i].defined()) return main_->values[i];
  for (const Step& step : main_->steps)
    if (step.context)
      if (Tensor inner = step.context->slot(name); inner.defined()) return inner;
  return {};
}

namespace {

template <class Body, class Visit>
void for_each_context(const Body& body, const Visit& visit) {
  for (const auto& step : body.steps) {
    if (step.context) visit(*step.context);
    for (const auto& nested : step.bodies) for_each_context(*nested, visit);
  }
}

}  // namespace

void DynamicRun::start_profile() {
  profiling_ = true;
  const auto start = [](const auto& self, Body& body) -> void {
    for (Step& step : body.steps) {
      step.time = {};
      if (step.context) step.context->start_profile();
      for (const auto& nested : step.bodies) self(self, *nested);
    }
  };
  start(start, *main_);
}

void DynamicRun::add_profile(std::vector<ProfiledStep>& into) const { add_profile(*main_, into); }

/// Returns the seconds of all that was added.
double DynamicRun::add_profile(const Body& body, std::vector<ProfiledStep>& into) {
  double all = 0;
  for (std::size_t s = 0; s < body.steps.size(); ++s) {
    const Step& step = body.steps[s];
    const std::size_t own = into.size();
    into.push_back({body.program, &body.program->steps[s], step.time});
    double inside = 0;
    if (step.context) {
      for (const ProfiledStep& inner : step.context->profiled_steps()) {
        into.push_back(inner);
        inside += inner.time.seconds;
      }
      // A GPU's run goes through the steps once more, unmarked.
      if (step.context->engine().cuda()) inside += step.context->profile().whole.seconds;
    }
    for (const auto& nested : step.bodies) inside += add_profile(*nested, into);
    into[own].time.seconds = std::max(0.0, step.time.seconds - inside);
    all += step.time.seconds;
  }
  return all;
}

std::size_t DynamicRun::arena_bytes() const noexcept {
  std::size_t bytes = 0;
  for_each_context(*main_, [&](const Context& context) { bytes += context.arena_bytes(); });
  return bytes;
}

std::size_t DynamicRun::specialisations() const noexcept {
  std::size_t most = 0;
  for_each_context(*main_, [&](const Context& context) { most = std::max(most, context.specialisations()); });
  return most;
}

}  // namespace lathe::runtime
