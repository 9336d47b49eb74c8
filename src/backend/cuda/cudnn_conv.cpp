// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See cudnn_conv.h.

#include "backend/cuda/cudnn_conv.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <future>
#include <map>

#include "backend/cuda/cudnn_graph.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "base/half.h"

namespace lathe::cuda::cudnn {
namespace {

constexpr std::size_t kMostWorkspace = 64 << 20;
constexpr std::size_t kMostPlans = 256;

/// A handle for the time of a call.
class Lease {
 public:
  explicit Lease(Handles& handles) noexcept : handles_(handles), status_(handles.take(handle_)) {}
  ~Lease() {
    if (status_) handles_.give_back(handle_);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  const Status& status() const noexcept { return status_; }
  Handle get() const noexcept { return handle_; }
  Handle need() const {
    if (!status_) throw Error(status_.code(), std::string(status_.message()));
    return handle_;
  }

 private:
  Handles& handles_;
  Handle handle_ = nullptr;
  Status status_;
};

std::string key_of(const ConvProblem& p) {
  const ConvShape& s = p.shape;
  return fmt::format("{}", fmt::join(std::array<std::int64_t, 27>{s.n,
                                                                  s.h,
                                                                  s.w,
                                                                  s.cin,
                                                                  s.cout,
                                                                  s.kh,
                                                                  s.kw,
                                                                  s.stride_h,
                                                                  s.stride_w,
                                                                  s.pad_top,
                                                                  s.pad_left,
                                                                  s.pad_bottom,
                                                                  s.pad_right,
                                                                  s.dilation_h,
                                                                  s.dilation_w,
                                                                  s.groups,
                                                                  p.src,
                                                                  p.stored,
                                                                  p.src_pixel,
                                                                  p.dst_pixel,
                                                                  p.residual_pixel,
                                                                  p.residual,
                                                                  p.residual_after,
                                                                  p.bias,
                                                                  p.narrow_bias,
                                                                  p.activation,
                                                                  std::bit_cast<std::int32_t>(p.alpha)},
                                     " "));
}

/// What was made or asked for a device.
struct Known {
  struct Offer {
    std::vector<EngineChoice> choices;
    std::string why;
  };
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<const ConvPlan>> plans;
  std::map<std::string, Offer> offers;
};

Known& known(Device& device) {
  Handles::of(device);  // made first, destroyed last
  return *static_cast<Known*>(device.companion("cudnn plans", [] { return std::shared_ptr<void>(std::make_shared<Known>()); }).get());
}

}  // namespace

std::string describe(const EngineChoice& choice) {
  std::string knobs;
  for (const auto& [type, value] : choice.knobs) knobs += fmt::format("{}{}={}", knobs.empty() ? "" : " ", type, value);
  return knobs.empty() ? fmt::format("engine {}", choice.engine) : fmt::format("engine {} ({})", choice.engine, knobs);
}

std::shared_ptr<const ConvPlan> ConvPlan::get(Device& device, const ConvProblem& problem, const EngineChoice& choice) {
  Known& k = known(device);
  const std::string key = key_of(problem) + " by " + describe(choice);
  {
    const std::lock_guard lock(k.mutex);
    if (const auto found = k.plans.find(key); found != k.plans.end()) return found->second;
  }
  auto plan = std::make_shared<const ConvPlan>(device, problem, choice);  // without the lock: compiling takes its time
  const std::lock_guard lock(k.mutex);
  if (k.plans.size() >= kMostPlans) std::erase_if(k.plans, [](const auto& each) { return each.second.use_count() == 1; });
  return k.plans.emplace(key, std::move(plan)).first->second;
}

namespace {

/// An activation that compares: it may turn NaN into a number, which ours do not.
bool compares(int activation) { return activation == kActRelu || activation == kActLeakyRelu; }

/// Runs a plan on nothing but NaN.
bool keeps_nan(Device& device, const ConvPlan& plan, const ConvProblem& p) {
  const std::shared_ptr<Device> here(std::shared_ptr<void>(), &device);
  const ConvShape& s = p.shape;
  const std::int64_t out = s.n * s.oh() * s.ow(), written = out * p.dst_pixel * bytes_of(p.stored);
  const std::int64_t read = std::max({s.n * s.h * s.w * p.src_pixel * bytes_of(p.src), s.cout * (s.cin / s.groups) * s.kh * s.kw * bytes_of(p.src),
                                      s.cout * std::int64_t{4}, out * p.residual_pixel * bytes_of(p.stored)});
  const Block in(here, static_cast<std::size_t>(read)), result(here, static_cast<std::size_t>(written)), workspace(here, plan.workspace_bytes() + 1);
  const Stream stream(here);
  const Driver& driver = device.driver();
  driver.require(driver.fill_bytes(in.address(), 0xFF, in.bytes(), stream.handle()), "cuMemsetD8Async");
  driver.require(driver.fill_bytes(result.address(), 0, result.bytes(), stream.handle()), "cuMemsetD8Async");
  const Status ran = plan.run(stream.handle(), {in.data(), in.data(), in.data(), in.data(), result.data(), workspace.data()});
  std::uint32_t first = 0;
  driver.require(driver.copy_to_host(&first, result.address(), static_cast<std::size_t>(bytes_of(p.stored)), stream.handle()), "cuMemcpyDtoHAsync");
  if (!ran || !stream.synchronize()) return false;
  const auto narrow = static_cast<std::uint16_t>(first);
  return std::isnan(p.stored == kElementFloat32   ? std::bit_cast<float>(first)
                    : p.stored == kElementFloat16 ? half_to_float(narrow)
                                                  : bfloat16_to_float(narrow));
}

/// Makes the plan; why it cannot be used, "" = it can.
std::string fault_of_plan(Device& device, const ConvProblem& problem, const EngineChoice& choice) {
  try {
    const auto plan = ConvPlan::get(device, problem, choice);
    const Current current(device);
    if (compares(problem.activation) && !keeps_nan(device, *plan, problem)) return "its activation turns NaN into a number";
    return "";
  } catch (const Error& error) {
    return error.message();
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

std::shared_ptr<const ConvPlan> ConvPlan::find(Device& device, const ConvProblem& problem, const EngineChoice& choice) {
  Known& k = known(device);
  const std::lock_guard lock(k.mutex);
  const auto found = k.plans.find(key_of(problem) + " by " + describe(choice));
  return found == k.plans.end() ? nullptr : found->second;
}

std::vector<EngineChoice> ConvPlan::offered(Device& device, const ConvProblem& problem, std::size_t most, std::string& why) try {
  Known& k = known(device);
  const std::string key = fmt::format("{} most {}", key_of(problem), most);
  {
    const std::lock_guard lock(k.mutex);
    if (const auto found = k.offers.find(key); found != k.offers.end()) {
      why = found->second.why;
      return found->second.choices;
    }
  }
  Known::Offer offer;
  try {
    const Current current(device);
    std::vector<Config> configs;
    {
      const Lease lease(Handles::of(device));
      std::vector<Descriptor> parts = room_for_graph();
      const RawDescriptor graph = make_graph(problem, lease.need(), parts);
      for (const Mode mode : {kHeuristicsBest, kHeuristicsInstant}) {
        try {
          configs = ask(graph, mode);
        } catch (const Error& error) {
          offer.why = error.message();
        }
        if (!configs.empty()) break;
      }
    }
    std::erase_if(configs, [&](const Config& config) { return !arithmetic_suits(problem, config.notes); });
    for (std::size_t begin = 0; begin < configs.size() && offer.choices.size() < most; begin += most) {
      // Making a plan compiles its kernel: the next ones at once.
      std::vector<std::future<std::string>> made;
      for (std::size_t i = begin; i < std::min(begin + most, configs.size()); ++i)
        made.push_back(std::async(std::launch::async, [&device, &problem, &choice = configs[i].choice] { return fault_of_plan(device, problem, choice); }));
      for (std::size_t i = 0; i < made.size(); ++i) {
        const std::string fault = made[i].get();
        if (!fault.empty()) offer.why = fault;
        else if (offer.choices.size() < most) offer.choices.push_back(configs[begin + i].choice);
      }
    }
    if (offer.choices.empty() && offer.why.empty()) offer.why = "cuDNN's heuristics offer no engine of plain arithmetic";
  } catch (const Error& error) {
    offer.why = error.message();
  } catch (const std::exception& error) {
    offer.why = error.what();
  }
  if (!offer.choices.empty()) offer.why.clear();
  const std::lock_guard lock(k.mutex);
  const auto& kept = k.offers.emplace(key, std::move(offer)).first->second;
  why = kept.why;
  return kept.choices;
} catch (const Error& error) {  // the library does not start
  why = error.message();
  return {};
}

ConvPlan::ConvPlan(Device& device, const ConvProblem& problem, const EngineChoice& choice)
    : device_(device), handles_(Handles::of(device)), parts_(room_for_graph()), bias_(problem.bias), residual_(problem.residual) {
  const Current current(device);
  const Lease lease(handles_);
  const Handle handle = lease.need();
  const RawDescriptor graph = make_graph(problem, handle, parts_);
  Descriptor& engine = parts_.emplace_back(kEngine);
  engine.set(kEngineGraph, kTypeDescriptor, 1, &graph);
  engine.set(kEngineIndex, choice.engine);
  engine.finalize("an engine for such a graph");
  if (choice.knobs.size() > static_cast<std::size_t>(kMostKnobs)) throw Error(Code::kCorruptFile, "an engine of cuDNN with more settings than there are");
  std::vector<RawDescriptor> raw;
  for (const auto& [type, value] : choice.knobs) {
    Descriptor& knob = parts_.emplace_back(kKnobChoice);
    knob.set_number(kKnobType, kTypeKnob, static_cast<int>(type));
    knob.set(kKnobValue, value);
    knob.finalize("a setting of an engine");
    raw.push_back(knob.raw());
  }
  Descriptor& config = parts_.emplace_back(kEngineConfig);
  config.set(kConfigEngine, engine);
  if (!raw.empty()) config.set(kConfigKnobs, kTypeDescriptor, static_cast<std::int64_t>(raw.size()), raw.data());
  config.finalize("the settings of an engine");
  Descriptor& plan = parts_.emplace_back(kExecutionPlan);
  plan.set(kPlanHandle, kTypeHandle, 1, &handle);
  plan.set(kPlanConfig, config);
  plan.finalize("a plan by this engine");
  std::int64_t bytes = 0;
  plan.get(kPlanWorkspace, kTypeInt64, 1, &bytes);
  if (bytes < 0 || static_cast<std::size_t>(bytes) > kMostWorkspace)
    throw Error(Code::kUnsupported, fmt::format("the plan would take {} bytes of workspace", bytes));
  workspace_ = static_cast<std::size_t>(bytes);
  plan_ = plan.raw();
  ids_ = {kX, kW, kY};
  if (bias_) ids_.push_back(kBias);
  if (residual_) ids_.push_back(kResidual);
}

Status ConvPlan::run(StreamHandle stream, const ConvPointers& at) const noexcept {
  const Library& library = *Library::find();
  std::array<const void*, 5> pointers{at.x, at.w, at.y};
  std::size_t count = 3;
  if (bias_) pointers[count++] = at.bias;
  if (residual_) pointers[count++] = at.residual;
  for (std::size_t i = 0; i < count; ++i)
    if (reinterpret_cast<std::uintptr_t>(pointers[i]) % kAlignment != 0)
      return {Code::kUnsupported, "a convolution by cuDNN on addresses that are not multiples of 16 bytes"};
  const auto workspace =
      workspace_ == 0 ? 0 : (reinterpret_cast<std::uintptr_t>(at.workspace) + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
  const auto* workspace_at = reinterpret_cast<const void*>(workspace);
  const Lease lease(handles_);
  if (!lease.status()) return lease.status();
  RawDescriptor pack = nullptr;
  Result result = library.descriptor_create(kVariantPack, &pack);
  if (result != kSuccess) return library.status(result, "cudnnBackendCreateDescriptor");
  result = library.set_attribute(pack, kPackIds, kTypeInt64, static_cast<std::int64_t>(count), ids_.data());
  if (result == kSuccess) result = library.set_attribute(pack, kPackPointers, kTypePointer, static_cast<std::int64_t>(count), pointers.data());
  if (result == kSuccess) result = library.set_attribute(pack, kPackWorkspace, kTypePointer, 1, &workspace_at);
  if (result == kSuccess) result = library.finalize(pack);
  if (result == kSuccess) result = library.set_stream(lease.get(), stream);
  if (result == kSuccess) result = library.execute(lease.get(), plan_, pack);
  library.descriptor_destroy(pack);
  return library.status(result, "cudnnBackendExecute");
}

}  // namespace lathe::cuda::cudnn
