// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What this machine can do at best, for floors: measured in a fraction of a second.

#include <memory>

namespace lathe::cuda {
class Device;
}

namespace lathe::cli {

struct MachineRates {
  double flops;  ///< fp32 FLOP/s over all threads of the pool, measured with the matrix kernel
  double bytes;  ///< bytes per second of a large copy (read + written)
};

MachineRates measure_machine_rates();

struct GpuRates {
  double half_flops = 0;  ///< dense FP16 products by the architecture's figures; 0: an architecture that is not known
  double bytes = 0;       ///< bytes per second of a large copy (read + written), or the driver's figure
  bool measured = false;  ///< the bytes were
};

GpuRates measure_gpu_rates(const std::shared_ptr<cuda::Device>& device);

}  // namespace lathe::cli
