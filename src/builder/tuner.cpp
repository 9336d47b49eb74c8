// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See tuner.h. Buffers are filled with small random numbers: zeros and denormals would time differently. A step finds its input in cache,
// where the step before left it; its weights only when those of the whole network stay there.

#include "builder/tuner.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <utility>

#include "backend/cpu/features.h"
#include "base/half.h"
#include "base/os.h"
#include "base/thread_pool.h"
#include "backend/cuda/device.h"
#include "builder/cuda_timer.h"
#include "plan/kernel.h"

namespace lathe::builder {
namespace {

// Raised when kernels change so much that old timings mislead.
constexpr int kTuningVersion = 2;
constexpr int kRounds = 3;

struct Aligned {
  explicit Aligned(std::size_t bytes)
      : bytes(bytes), data(static_cast<std::byte*>(default_allocator().allocate(std::max<std::size_t>(bytes, 64), 64, MemorySpace::kHost, nullptr))) {
    if (!data) throw Error(Code::kOutOfMemory, fmt::format("no memory for {} bytes while timing candidates", bytes));
  }
  ~Aligned() { default_allocator().deallocate(data, std::max<std::size_t>(bytes, 64), MemorySpace::kHost, nullptr); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  std::size_t bytes;
  std::byte* data;
};

}  // namespace

std::size_t extent_bytes(const plan::TensorDesc& desc) {
  std::int64_t last = 0;
  for (std::size_t i = 0; i < desc.dims.size(); ++i) {
    if (desc.dims[i] == 0) return 0;
    last += (desc.dims[i] - 1) * desc.strides[i];
  }
  return dtype_bytes(desc.dtype, last + 1);
}

void fill_random(std::byte* data, std::size_t bytes, DType dtype, std::uint32_t seed) {
  std::minstd_rand random(seed + 1);
  const auto unit = [&] { return static_cast<float>(random() % 2001) / 1000.0F - 1.0F; };
  if (dtype == DType::kFloat32) {
    for (std::size_t i = 0; i + 4 <= bytes; i += 4) {
      const float value = unit();
      std::memcpy(data + i, &value, 4);
    }
  } else if (dtype == DType::kBFloat16 || dtype == DType::kFloat16) {
    for (std::size_t i = 0; i + 2 <= bytes; i += 2) {
      const float value = unit();
      const std::uint16_t bits = dtype == DType::kBFloat16 ? float_to_bfloat16(value) : float_to_half(value);
      std::memcpy(data + i, &bits, 2);
    }
  } else {
    std::memset(data, 0, bytes);  // indices and masks: zero is always in range
  }
}

Tuner::Tuner(const BuildOptions& options, BuildReport& report, ThreadPool& pool, std::size_t weight_bytes)
    : options_(options),
      report_(report),
      pool_(pool),
      cache_(options.use_cache),
      started_(os::now_seconds()),
      cold_weights_(weight_bytes > static_cast<std::size_t>(cpu::cache_sizes().l3) / 4) {
  machine_ = fmt::format("v{} {} t{} f{:x}{}", kTuningVersion, os::cpu_model(), pool.size(), options.cpu_features, cold_weights_ ? " cold" : "");
  if (options.device_handle) {
    const cuda::DeviceInfo& info = static_cast<const cuda::Device*>(options.device_handle)->info();
    machine_ = fmt::format("v{} {} {}", kTuningVersion, info.name, info.arch_name());
  }
}

Tuner::~Tuner() = default;

void Tuner::next_region() {
  packed_ = {};
  if (cuda_) cuda_->next_region();
}

bool Tuner::budget_left() const { return os::now_seconds() - started_ < options_.budget_seconds; }

std::string Tuner::key(const TimedOption& option) const {
  const ops::StepPlan& plan = *option.plan;
  std::string key = fmt::format("{}|{}|{}|{}|{}", machine_, option.candidate, plan.variant, plan.kernel, attrs_key(plan.params));
  for (const auto* list : {&option.inputs, &option.outputs}) {
    key += '|';
    for (const plan::TensorDesc& desc : *list)
      key += fmt::format("{}[{}]({})", static_cast<int>(desc.dtype), fmt::join(desc.dims, "x"), fmt::join(desc.strides, ","));
  }
  return key;
}

/// One option ready to run: its kernel bound to buffers that it shares with the other options.
struct Tuner::Trial {
  std::size_t option;
  std::string key;
  std::unique_ptr<plan::Kernel> kernel;
  std::vector<std::span<const std::byte>> weights;
  std::vector<const void*> in;
  std::vector<void*> out;
  double best = -1;
};

/// Buffers by their role and size: options of one region read the same input and write the same output.
class Tuner::Buffers {
 public:
  std::byte* get(std::size_t role, std::size_t bytes) {
    auto& buffer = buffers_[{role, bytes}];
    if (!buffer) {
      buffer = std::make_unique<Aligned>(bytes);
      fresh_ = true;
    }
    return buffer->data;
  }
  bool take_fresh() { return std::exchange(fresh_, false); }

 private:
  std::map<std::pair<std::size_t, std::size_t>, std::unique_ptr<Aligned>> buffers_;
  bool fresh_ = false;
};

std::vector<double> Tuner::time(std::span<const TimedOption> options, const ir::Bindings& symbols) {
  std::vector<double> seconds(options.size(), -1);
  std::vector<Trial> trials;
  Buffers buffers;
  std::size_t scratch_bytes = 0;
  for (std::size_t i = 0; i < options.size(); ++i) {
    std::string id = key(options[i]);
    if (const auto known = cache_.find(id)) {
      ++report_.cache_hits;
      seconds[i] = *known;
    } else if (!budget_left()) {
      report_.budget_exhausted = true;
    } else if (options_.device_handle) {
      const TimedOption& option = options[i];
      if (!cuda_) cuda_ = std::make_unique<CudaTimer>(options_.device_handle);
      double best = -1;
      for (const double known : seconds)
        if (known > 0 && (best < 0 || known < best)) best = known;
      seconds[i] = cuda_->time(*option.plan, option.inputs, option.outputs, symbols, packed_weights(*option.plan), best);
      ++report_.timed;
      cache_.store(id, seconds[i]);
    } else {
      Trial trial = prepare(options[i], buffers, symbols);
      trial.option = i;
      trial.key = std::move(id);
      scratch_bytes = std::max(scratch_bytes, trial.kernel->scratch_bytes());
      trials.push_back(std::move(trial));
    }
  }
  // In rounds, and the least of all: other work on the machine comes and goes, and only ever adds time.
  const Aligned scratch(scratch_bytes);
  for (int round = 0; round < kRounds; ++round)
    for (Trial& trial : trials) {
      if (round > 0 && !budget_left()) break;
      const double now = run(trial, scratch.data);
      trial.best = trial.best < 0 ? now : std::min(trial.best, now);
    }
  for (const Trial& trial : trials) {
    ++report_.timed;
    cache_.store(trial.key, trial.best);
    seconds[trial.option] = trial.best;
  }
  return seconds;
}

std::vector<std::span<const std::byte>> Tuner::packed_weights(const ops::StepPlan& plan) {
  std::vector<std::span<const std::byte>> weights;
  for (const ops::WeightRequest& request : plan.weights) {
    const Tensor& packed = *packed_.get(request).tensor;
    weights.emplace_back(packed.raw(), packed.bytes());
  }
  return weights;
}

Tuner::Trial Tuner::prepare(const TimedOption& option, Buffers& buffers, const ir::Bindings& symbols) {
  const ops::StepPlan& plan = *option.plan;
  const plan::KernelType* type = plan::find_kernel(plan.kernel);
  if (!type) throw Error(Code::kInternal, fmt::format("no kernel is called '{}'", plan.kernel));
  Trial trial;
  trial.weights = packed_weights(plan);
  std::vector<const void*> constants;
  for (std::size_t i = 0; i < option.inputs.size(); ++i) {
    const ir::Value* value = i < plan.inputs.size() ? plan.inputs[i] : nullptr;
    const bool constant = value && value->is_constant();
    constants.push_back(constant ? value->constant.raw() : nullptr);
    if (!value || constant) {
      trial.in.push_back(constants.back());
      continue;
    }
    const std::size_t bytes = extent_bytes(option.inputs[i]);
    std::byte* data = buffers.get(i, bytes);
    if (buffers.take_fresh()) fill_random(data, bytes, option.inputs[i].dtype, static_cast<std::uint32_t>(i));
    trial.in.push_back(data);
  }
  for (std::size_t i = 0; i < option.outputs.size(); ++i) {
    const plan::TensorDesc& desc = option.outputs[i];
    trial.out.push_back(desc.dtype == DType::kUndefined ? nullptr : buffers.get(option.inputs.size() + i, extent_bytes(desc)));
    buffers.take_fresh();
  }
  trial.kernel = type->bind({plan.params, option.inputs, option.outputs, constants, trial.weights, symbols, pool_.size()});
  return trial;
}

double Tuner::run(const Trial& trial, std::byte* scratch) {
  const plan::KernelIo io{trial.in.data(), trial.out.data(), scratch, &pool_};
  const auto once = [&] {
    if (cold_weights_)
      for (const std::span<const std::byte> weights : trial.weights) cpu::evict_from_caches(weights.data(), weights.size());
    const double start = os::now_seconds();
    if (const Status status = trial.kernel->run(io); !status) throw Error(status.code(), std::string(status.message()));
    return os::now_seconds() - start;
  };
  once();  // first touch of buffers and code
  double best = once(), spent = best;
  for (int i = 0; i < 12 && spent < 0.004; ++i) {
    const double seconds = once();
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

}  // namespace lathe::builder
