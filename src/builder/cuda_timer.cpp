// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See cuda_timer.h.

#include "builder/cuda_timer.h"

#include <fmt/format.h>

#include <algorithm>

#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "plan/kernel.h"

namespace lathe::builder {
namespace {

constexpr int kRunsPerGraph = 20, kRounds = 4;

void require(const Status& status) {
  if (!status) throw Error(status.code(), std::string(status.message()));
}

}  // namespace

double time_on_cuda(void* device_handle, const ops::StepPlan& plan, std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs,
                    const ir::Bindings& symbols, std::span<const std::span<const std::byte>> weights) {
  // The builder keeps the device open for as long as it times.
  auto& raw = *static_cast<cuda::Device*>(device_handle);
  const std::shared_ptr<cuda::Device> device(std::shared_ptr<void>(), &raw);
  const cuda::Driver& driver = device->driver();
  const cuda::Current current(*device);
  cuda::Stream stream(device);
  std::vector<cuda::Block> blocks;
  const auto upload = [&](std::span<const std::byte> bytes) -> void* {
    blocks.emplace_back(device, std::max<std::size_t>(bytes.size(), 16));
    if (!bytes.empty()) driver.require(driver.copy_to_device(blocks.back().address(), bytes.data(), bytes.size(), stream.handle()), "cuMemcpyHtoDAsync");
    require(stream.synchronize());  // `bytes` may go
    return blocks.back().data();
  };
  std::vector<const void*> in, constants, device_weights;
  std::vector<void*> out;
  for (const auto& bytes : weights) device_weights.push_back(upload(bytes));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const ir::Value* value = i < plan.inputs.size() ? plan.inputs[i] : nullptr;
    constants.push_back(value && value->is_constant() ? value->constant.raw() : nullptr);
    if (!value) {
      in.push_back(nullptr);
    } else if (value->is_constant()) {
      in.push_back(upload({value->constant.raw(), value->constant.bytes()}));
    } else {
      std::vector<std::byte> random(extent_bytes(inputs[i]));
      fill_random(random.data(), random.size(), inputs[i].dtype, static_cast<std::uint32_t>(i));
      in.push_back(upload(random));
    }
  }
  for (const plan::TensorDesc& desc : outputs) {
    if (desc.dtype == DType::kUndefined) {
      out.push_back(nullptr);
      continue;
    }
    blocks.emplace_back(device, std::max<std::size_t>(extent_bytes(desc), 16));
    out.push_back(blocks.back().data());
  }
  const plan::KernelType* type = plan::find_kernel(plan.kernel);
  if (!type) throw Error(Code::kInternal, fmt::format("no kernel is called '{}'", plan.kernel));
  const auto kernel = type->bind({plan.params, inputs, outputs, constants, weights, symbols, 1, nullptr, device_handle, device_weights});
  cuda::Block scratch(device, std::max<std::size_t>(kernel->scratch_bytes(), 256));
  driver.require(driver.fill_bytes(scratch.address(), 0, scratch.bytes(), stream.handle()), "cuMemsetD8Async");
  const auto once = [&] { return kernel->run({in.data(), out.data(), scratch.data(), nullptr, stream.handle()}); };
  require(once());
  require(stream.synchronize());
  cuda::Graph graph;
  require(cuda::Graph::capture(
      device, stream.handle(),
      [&] {
        Status status;
        for (int i = 0; i < kRunsPerGraph && status; ++i) status = once();
        return status;
      },
      graph));
  const cuda::Event start(device), stop(device);
  double best = -1;
  for (int round = 0; round < kRounds; ++round) {
    require(start.record(stream.handle()));
    require(graph.launch(stream.handle()));
    require(stop.record(stream.handle()));
    require(stop.synchronize());
    const double seconds = stop.seconds_since(start) / kRunsPerGraph;
    if (round > 0 && seconds > 0 && (best < 0 || seconds < best)) best = seconds;  // the first round warms up
  }
  return best;
}

}  // namespace lathe::builder
