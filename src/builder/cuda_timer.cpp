// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See cuda_timer.h.

#include "builder/cuda_timer.h"

#include <fmt/format.h>

#include <algorithm>

#include "plan/kernel.h"

namespace lathe::builder {
namespace {

constexpr int kMostRuns = 20, kRounds = 4;
constexpr double kGraphSeconds = 4e-4;         // of one graph: a few of these per option
constexpr double kHopeless = 1.3;              // times slower than the best: not measured further
constexpr std::size_t kPattern = 2 << 20;      // bytes of random numbers, repeated in larger buffers
constexpr std::size_t kScratchRole = 1000000;  // beside those of inputs and outputs

void require(const Status& status) {
  if (!status) throw Error(status.code(), std::string(status.message()));
}

}  // namespace

void fill_random(const cuda::Device& device, cuda::StreamHandle stream, const cuda::Block& block, DType dtype, std::uint32_t seed) {
  const cuda::Driver& driver = device.driver();
  std::vector<std::byte> random(std::min(block.bytes(), kPattern));
  fill_random(random.data(), random.size(), dtype, seed);
  driver.require(driver.copy_to_device(block.address(), random.data(), random.size(), stream), "cuMemcpyHtoDAsync");
  for (std::size_t have = random.size(); have < block.bytes(); have *= 2)
    driver.require(driver.copy_on_device(block.address() + have, block.address(), std::min(have, block.bytes() - have), stream), "cuMemcpyDtoDAsync");
  driver.require(driver.stream_synchronize(stream), "cuStreamSynchronize");
}

CudaTimer::CudaTimer(void* device) : device_(std::shared_ptr<void>(), static_cast<cuda::Device*>(device)), stream_(device_), start_(device_), stop_(device_) {}

const void* CudaTimer::uploaded(std::span<const std::byte> bytes) {
  const auto found = uploaded_.find(bytes.data());
  if (found != uploaded_.end()) return found->second.data();
  cuda::Block block(device_, std::max<std::size_t>(bytes.size(), 16));
  const cuda::Driver& driver = device_->driver();
  if (!bytes.empty()) driver.require(driver.copy_to_device(block.address(), bytes.data(), bytes.size(), stream_.handle()), "cuMemcpyHtoDAsync");
  require(stream_.synchronize());  // `bytes` may go
  return uploaded_.emplace(bytes.data(), std::move(block)).first->second.data();
}

/// The memory for a role (an input, an output, scratch) in this type, at least so large. Filled when it grows: with random numbers, or zeros.
void* CudaTimer::buffer(std::size_t role, DType type, std::size_t bytes, bool fill) {
  cuda::Block& block = buffers_[{role, type}];
  if (block.data() && block.bytes() >= bytes) return block.data();
  block = cuda::Block();
  block = cuda::Block(device_, std::max<std::size_t>(bytes, 256));
  const cuda::Driver& driver = device_->driver();
  if (!fill) {
    driver.require(driver.fill_bytes(block.address(), 0, block.bytes(), stream_.handle()), "cuMemsetD8Async");
    return block.data();
  }
  fill_random(*device_, stream_.handle(), block, type, static_cast<std::uint32_t>(role));
  return block.data();
}

double CudaTimer::time(const ops::StepPlan& plan, std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs,
                       const ir::Bindings& symbols, std::span<const std::span<const std::byte>> weights, double best) {
  const cuda::Current current(*device_);
  const plan::KernelType* type = plan::find_kernel(plan.kernel);
  if (!type) throw Error(Code::kInternal, fmt::format("no kernel is called '{}'", plan.kernel));
  std::vector<const void*> in, constants, device_weights;
  std::vector<void*> out;
  for (const auto& bytes : weights) device_weights.push_back(uploaded(bytes));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const ir::Value* value = i < plan.inputs.size() ? plan.inputs[i] : nullptr;
    constants.push_back(value && value->is_constant() ? value->constant.raw() : nullptr);
    in.push_back(!value                 ? nullptr
                 : value->is_constant() ? uploaded({value->constant.raw(), value->constant.bytes()})
                                        : buffer(i, inputs[i].dtype, extent_bytes(inputs[i]), true));
  }
  for (std::size_t i = 0; i < outputs.size(); ++i)
    out.push_back(outputs[i].dtype == DType::kUndefined ? nullptr : buffer(inputs.size() + i, outputs[i].dtype, extent_bytes(outputs[i]), true));
  const auto kernel = type->bind({plan.params, inputs, outputs, constants, weights, symbols, 1, nullptr, device_.get(), device_weights});
  void* scratch = buffer(kScratchRole, DType::kUint8, kernel->scratch_bytes(), false);
  const auto once = [&] { return kernel->run({in.data(), out.data(), scratch, nullptr, stream_.handle()}); };
  const auto timed = [&](auto&& work) {
    require(start_.record(stream_.handle()));
    require(work());
    require(stop_.record(stream_.handle()));
    require(stop_.synchronize());
    return std::max(0.0, stop_.seconds_since(start_));
  };
  require(once());  // code is loaded by the first run
  const double rough = timed(once);
  const int runs = std::clamp(static_cast<int>(kGraphSeconds / std::max(rough, 1e-6)), 2, kMostRuns);
  cuda::Graph graph;
  require(cuda::Graph::capture(
      device_, stream_.handle(),
      [&] {
        Status status;
        for (int i = 0; i < runs && status; ++i) status = once();
        return status;
      },
      graph));
  double least = -1;
  for (int round = 0; round < kRounds; ++round) {
    const double seconds = timed([&] { return graph.launch(stream_.handle()); }) / runs;
    if (seconds > 0 && (least < 0 || seconds < least)) least = seconds;
    if (round > 0 && best > 0 && least > kHopeless * best) break;
  }
  return least;
}

}  // namespace lathe::builder
