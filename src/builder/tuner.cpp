// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See tuner.h. Buffers are filled with small random numbers: zeros and denormals would time differently.

#include "builder/tuner.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>

#include "base/half.h"
#include "base/os.h"
#include "base/thread_pool.h"
#include "builder/blob_store.h"
#include "plan/kernel.h"

namespace lathe::builder {
namespace {

// Raised when kernels change so much that old timings mislead.
constexpr int kTuningVersion = 2;

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

}  // namespace

Tuner::Tuner(const BuildOptions& options, BuildReport& report, ThreadPool& pool)
    : options_(options), report_(report), pool_(pool), cache_(options.use_cache), started_(os::now_seconds()) {
  machine_ = fmt::format("v{} {} t{} f{:x}", kTuningVersion, os::cpu_model(), pool.size(), options.cpu_features);
}

bool Tuner::budget_left() const { return os::now_seconds() - started_ < options_.budget_seconds; }

std::string Tuner::key(const ops::StepPlan& plan, std::string_view candidate, std::span<const plan::TensorDesc> inputs,
                       std::span<const plan::TensorDesc> outputs) const {
  std::string key = fmt::format("{}|{}|{}|{}|{}", machine_, candidate, plan.variant, plan.kernel, attrs_key(plan.params));
  for (const auto& list : {inputs, outputs}) {
    key += '|';
    for (const plan::TensorDesc& desc : list)
      key += fmt::format("{}[{}]({})", static_cast<int>(desc.dtype), fmt::join(desc.dims, "x"), fmt::join(desc.strides, ","));
  }
  return key;
}

double Tuner::time(const ops::StepPlan& plan, std::string_view candidate, std::span<const plan::TensorDesc> inputs,
                   std::span<const plan::TensorDesc> outputs, const ir::Bindings& symbols) {
  const std::string id = key(plan, candidate, inputs, outputs);
  if (const auto known = cache_.find(id)) {
    ++report_.cache_hits;
    return *known;
  }
  if (!budget_left()) {
    report_.budget_exhausted = true;
    return -1;
  }
  const double seconds = measure(plan, inputs, outputs, symbols);
  ++report_.timed;
  cache_.store(id, seconds);
  return seconds;
}

double Tuner::measure(const ops::StepPlan& plan, std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs,
                      const ir::Bindings& symbols) {
  const plan::KernelType* type = plan::find_kernel(plan.kernel);
  if (!type) throw Error(Code::kInternal, fmt::format("no kernel is called '{}'", plan.kernel));
  std::vector<std::span<const std::byte>> weights;
  for (const ops::WeightRequest& request : plan.weights) {
    std::string recipe = request.pack + attrs_key(request.params);
    for (const ir::Value* source : request.sources) recipe += fmt::format(",{}", static_cast<const void*>(source));
    auto found = packed_.find(recipe);
    if (found == packed_.end()) {
      const plan::PackFunction* pack = plan::find_pack_function(request.pack);
      if (!pack) throw Error(Code::kInternal, fmt::format("no pack function is called '{}'", request.pack));
      std::vector<Tensor> sources;
      for (const ir::Value* source : request.sources) sources.push_back(source ? source->constant : Tensor());
      found = packed_.emplace(std::move(recipe), aligned_copy(pack->pack(request.params, sources))).first;
    }
    weights.emplace_back(found->second.raw(), found->second.bytes());
  }
  std::vector<std::unique_ptr<Aligned>> buffers;
  std::vector<const void*> in, constants;
  std::vector<void*> out;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const ir::Value* value = i < plan.inputs.size() ? plan.inputs[i] : nullptr;
    if (!value) {
      in.push_back(nullptr);
      constants.push_back(nullptr);
    } else if (value->is_constant()) {
      in.push_back(value->constant.raw());
      constants.push_back(value->constant.raw());
    } else {
      buffers.push_back(std::make_unique<Aligned>(extent_bytes(inputs[i])));
      fill_random(buffers.back()->data, buffers.back()->bytes, inputs[i].dtype, static_cast<std::uint32_t>(i));
      in.push_back(buffers.back()->data);
      constants.push_back(nullptr);
    }
  }
  for (const plan::TensorDesc& desc : outputs) {
    if (desc.dtype == DType::kUndefined) {
      out.push_back(nullptr);
      continue;
    }
    buffers.push_back(std::make_unique<Aligned>(extent_bytes(desc)));
    out.push_back(buffers.back()->data);
  }
  const plan::BindRequest request{plan.params, inputs, outputs, constants, weights, symbols, pool_.size()};
  const auto kernel = type->bind(request);
  Aligned scratch(kernel->scratch_bytes());
  const plan::KernelIo io{in.data(), out.data(), scratch.data, &pool_};
  const auto run = [&] {
    const double start = os::now_seconds();
    if (const Status status = kernel->run(io); !status) throw Error(status.code(), std::string(status.message()));
    return os::now_seconds() - start;
  };
  run();  // first touch of buffers and code
  // The least of several runs: other work on the machine only ever adds time.
  double best = run(), spent = best;
  for (int i = 0; i < 30 && (i < 2 || spent < 0.010); ++i) {
    const double seconds = run();
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

}  // namespace lathe::builder
