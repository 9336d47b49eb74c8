// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See machine_rates.h: the rates of a GPU. Memory is measured by a copy several times larger than any cache; products are the architecture's figure,
// since what the kernels reach is what a floor is there to judge.

#include <algorithm>

#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "cli/machine_rates.h"

namespace lathe::cli {
namespace {

constexpr std::size_t kCopyBytes = std::size_t{256} << 20;
constexpr int kRounds = 8;

/// Bytes read and written a second; 0 when the device has no room for it.
double copy_rate(const std::shared_ptr<cuda::Device>& device) try {
  const cuda::Current current(*device);
  const cuda::Stream stream(device);
  const cuda::Event start(device), stop(device);
  const cuda::Block from(device, kCopyBytes), to(device, kCopyBytes);
  const cuda::Driver& driver = device->driver();
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    if (!start.record(stream.handle())) return best;
    if (driver.copy_on_device(to.address(), from.address(), kCopyBytes, stream.handle()) != cuda::kSuccess) return best;
    if (!stop.record(stream.handle()) || !stop.synchronize()) return best;
    if (const double seconds = stop.seconds_since(start); seconds > 0) best = std::max(best, 2.0 * kCopyBytes / seconds);
  }
  return best;
} catch (const Error&) {
  return 0;
}

}  // namespace

GpuRates measure_gpu_rates(const std::shared_ptr<cuda::Device>& device) {
  GpuRates rates;
  rates.half_flops = device->info().half_flops();
  rates.bytes = copy_rate(device);
  rates.measured = rates.bytes > 0;
  if (!rates.measured) rates.bytes = device->info().memory_bytes_per_second;
  return rates;
}

}  // namespace lathe::cli
