// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See whole_run.h.

#include "builder/whole_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "base/os.h"
#include "builder/cuda_timer.h"
#include "builder/hints.h"
#include "builder/lowering.h"
#include "builder/progress.h"
#include "engine/edit.h"

namespace lathe::builder {
namespace {

constexpr int kRounds = 6;
constexpr double kRoundSeconds = 0.0015;  // of replays, for each of the two graphs
constexpr int kMostRuns = 32;
constexpr double kLeastGain = 0.002;            // of the run
constexpr double kHopeless = 1.01;              // times the run in both of two rounds: not measured further; after three any loss in all of them
constexpr std::size_t kMoreScratch = 32 << 20;  // kernels that want more than this above the program's own are not tried

void require(const Status& status) {
  if (!status) throw Error(status.code(), std::string(status.message()));
}

/// The step of each region that has one; the program's other steps are copies.
std::vector<std::size_t> steps_of(const std::vector<PlannedRegion>& regions, const plan::Program& program) {
  std::vector<std::size_t> result(regions.size(), program.steps.size());
  std::size_t at = 0;
  for (std::size_t r = 0; r < regions.size(); ++r) {
    if (regions[r].kind != RegionKind::kCandidate) continue;
    while (at < program.steps.size() && (program.steps[at].kernel != regions[r].plan.kernel || program.steps[at].label != regions[r].report.label)) ++at;
    if (at == program.steps.size()) throw Error(Code::kInternal, fmt::format("the program has no step for '{}'", regions[r].report.label));
    result[r] = at++;
  }
  return result;
}

std::vector<std::string> texts_of(const ops::StepPlan& plan) {
  std::vector<std::string> texts;
  for (const ops::WeightRequest& request : plan.weights) texts.push_back(PackedWeights::text_of(request));
  return texts;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

/// What lies between the quarters of the rounds.
double spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() - 1 - values.size() / 4] - values[values.size() / 4];
}

}  // namespace

WholeRun::WholeRun(const WholeRunRequest& request) : packed_(request.packed) {
  const auto& info = static_cast<const cuda::Device*>(request.options.device_handle)->info();
  engine::EngineData data;
  engine::DeviceSection section;
  section.device = "cuda:" + info.arch_name();
  {
    BlobStore blobs(&packed_);
    std::vector<bool> used;
    Phase packing(request.options.progress, "packing weights", static_cast<std::int64_t>(request.regions.size()));
    section.program = lower_program(request.graph, request.regions, request.plans, request.symbols, blobs, used, packing, "cuda.copy");
    packing.finish();
    engine::renumber(section.program, blobs.move_into(data, used));
  }
  step_of_ = steps_of(request.regions, section.program);
  weights_.resize(section.program.steps.size());
  for (std::size_t r = 0; r < request.regions.size(); ++r)
    if (request.regions[r].kind == RegionKind::kCandidate) weights_[step_of_[r]] = texts_of(request.regions[r].plan);
  const double started = os::now_seconds();
  const std::string device_name = section.device;
  data.sections.push_back(std::move(section));
  engine_ = runtime::Engine::create(std::move(data), device_name, cuda_ordinal(request.options.device).value_or(0));
  const std::shared_ptr<cuda::Device>& device = engine_->cuda()->device();
  const cuda::Current current(*device);

  std::vector<Dims> dims;
  for (const ir::Value* input : request.graph.inputs()) dims.push_back(concrete_dims(*input, request.hints));
  const std::vector<plan::Extents> extents(dims.begin(), dims.end());
  const plan::Program& program = engine_->program();
  shapes_ = std::make_unique<plan::ShapeProgram>(program);
  ir::Bindings bindings = shapes_->make_bindings();
  require(shapes_->solve(extents, bindings));
  plan::ShapeClass shape_class;
  shapes_->classify(bindings, shape_class);
  spec_ = std::make_unique<runtime::Specialisation>(*engine_, *shapes_, shape_class, bindings, runtime::SpecialisationOptions{});

  run_ = std::make_unique<runtime::CudaRun>(device);
  start_ = std::make_unique<cuda::Event>(device);
  stop_ = std::make_unique<cuda::Event>(device);
  scratch_bytes_ = spec_->arena_bytes() - spec_->scratch_offset() + kMoreScratch;
  arena_ = cuda::Block(device, spec_->scratch_offset() + scratch_bytes_);
  run_->clear(arena_.data(), arena_.bytes());
  const auto add_tensor = [&](const plan::Io& io) -> cuda::Block& {
    const plan::TensorDesc& desc = spec_->desc(io.slot);
    tensors_.emplace_back(device, std::max<std::size_t>(dtype_bytes(desc.dtype, desc.elements()), 256));
    return tensors_.back();
  };
  for (std::size_t i = 0; i < program.inputs.size(); ++i) {
    const cuda::Block& block = add_tensor(program.inputs[i]);
    fill_random(*device, run_->stream(), block, spec_->desc(program.inputs[i].slot).dtype, static_cast<std::uint32_t>(i));
    inputs_.push_back(block.data());
  }
  for (const plan::Io& io : program.outputs) outputs_.push_back(add_tensor(io).data());
  require(run_->record(*spec_, program, call(), graph_));
  made_in_ = os::now_seconds() - started;
}

runtime::CudaCall WholeRun::call() const {
  runtime::CudaCall call{};
  call.inputs = inputs_;
  call.outputs = outputs_;
  call.arena = static_cast<std::byte*>(arena_.data());
  return call;
}

void WholeRun::exchange(Other& other) noexcept {
  for (std::size_t i = 0; i < other.steps.size(); ++i) spec_->exchange(other.steps[i], other.kernels[i]);
}

/// False: such a kernel cannot stand there.
bool WholeRun::bind(std::size_t step, const ops::StepPlan& plan, Other& other) {
  const runtime::BoundStep& bound = spec_->steps()[step];
  const std::shared_ptr<cuda::Device>& device = run_->device();
  runtime::StepKernel kernel;
  kernel.type = plan::find_kernel(plan.kernel);
  if (!kernel.type) throw Error(Code::kInternal, fmt::format("no kernel is called '{}'", plan.kernel));
  std::vector<std::string> texts = texts_of(plan);
  for (std::size_t w = 0; w < texts.size(); ++w) {
    // Most kernels for one region read the same packed bytes: those are on the device.
    if (w < weights_[step].size() && weights_[step][w] == texts[w]) {
      kernel.weights.push_back(bound.weights[w]);
      kernel.device_weights.push_back(bound.device_weights[w]);
      continue;
    }
    const Tensor& packed = *packed_.get(plan.weights[w]).tensor;
    cuda::Block& block = other.uploaded.emplace_back(device, std::max<std::size_t>(packed.bytes(), 16));
    if (packed.bytes() > 0)
      device->driver().require(device->driver().copy_to_device(block.address(), packed.raw(), packed.bytes(), run_->stream()), "cuMemcpyHtoDAsync");
    kernel.weights.emplace_back(packed.raw(), packed.bytes());
    kernel.device_weights.push_back(block.data());
  }
  try {
    spec_->bind_other(step, plan.params, kernel);
  } catch (const Error& error) {
    if (error.code() != Code::kUnsupported && error.code() != Code::kInvalidArgument && error.code() != Code::kCorruptFile) throw;
    return false;
  }
  if (kernel.kernel->scratch_bytes() > scratch_bytes_) return false;
  other.steps.push_back(step);
  other.kernels.push_back(std::move(kernel));
  other.weights.push_back(std::move(texts));
  return true;
}

std::optional<double> WholeRun::compare(std::span<const std::size_t> regions, std::span<const ops::StepPlan* const> plans) {
  const cuda::Current current(*run_->device());
  last_ = Other();
  Other other;
  for (std::size_t i = 0; i < regions.size(); ++i)
    if (!bind(step_of_[regions[i]], *plans[i], other)) return std::nullopt;
  exchange(other);
  const Status recorded = run_->record(*spec_, engine_->program(), call(), other.graph);
  exchange(other);
  require(recorded);
  const double result = ratio(other.graph);
  last_ = std::move(other);
  return result;
}

void WholeRun::keep() {
  exchange(last_);
  for (std::size_t i = 0; i < last_.steps.size(); ++i) weights_[last_.steps[i]] = std::move(last_.weights[i]);
  std::move(last_.uploaded.begin(), last_.uploaded.end(), std::back_inserter(kept_));
  graph_ = std::move(last_.graph);
  last_ = Other();
}

double WholeRun::seconds(const cuda::Graph& graph, int runs) {
  require(start_->record(run_->stream()));
  for (int i = 0; i < runs; ++i) require(graph.launch(run_->stream()));
  require(stop_->record(run_->stream()));
  require(stop_->synchronize());
  const double seconds = stop_->seconds_since(*start_) / runs;
  if (seconds <= 0) throw Error(Code::kMachine, "the GPU's events tell no time");
  return seconds;
}

/// In turn, since a GPU's clock drifts.
double WholeRun::ratio(const cuda::Graph& other) {
  seconds(other, 1);  // brought to the device
  const int runs = std::clamp(static_cast<int>(kRoundSeconds / seconds(graph_, 1)), 1, kMostRuns);
  std::vector<double> present, changed;
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    present.push_back(seconds(graph_, runs));
    changed.push_back(seconds(other, runs));
    best = std::min(best, changed.back() / present.back());
    if ((round == 1 && best > kHopeless) || (round > 1 && best >= 1)) break;
  }
  const double now = median(present), then = median(changed);
  return std::abs(now - then) <= std::max(kLeastGain * now, spread(present)) ? 1 : then / now;
}

}  // namespace lathe::builder
