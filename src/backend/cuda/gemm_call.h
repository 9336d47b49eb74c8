// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A tensor-core product ready to run on a device: the functions of its kernels and the parameters for the extents that it stands at.
// Whether operands may be read by 16-byte copies depends on strides (known when it is fitted) and on addresses (known when it runs), so it
// stands ready for both ways. The plan that was timed serves the extents that it was timed at and those near them; others get the model's choice.

#include <array>
#include <cstdint>
#include <vector>

#include "backend/cuda/device.h"
#include "backend/cuda/kernels/gemm_plan.h"

namespace lathe::cuda {

GpuLimits limits_of(const DeviceInfo& info) noexcept;

/// May it be accessed by 16 bytes?
inline bool wide(const void* pointer) noexcept { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

/// Addresses and the parts of the epilogue that no set-up knows.
struct GemmOperands {
  const void* a = nullptr;
  const void* b = nullptr;
  const void* bias = nullptr;
  const void* residual = nullptr;
  void* c = nullptr;
  void* c_second = nullptr;    ///< of two products side by side
  const void* next = nullptr;  ///< weights of a later step, for the cache
  std::size_t next_bytes = 0;
};

class GemmCall {
 public:
  /// `tuned_rows`: rows times items at which `plan` was timed. Throws Error when the build has no kernels for the device.
  GemmCall(Device& device, const GemmSetup& setup, const GemmPlan& plan, std::int64_t tuned_rows);
  /// Moves to other extents of the same product: the type and the way that B is stored are the same. Allocates nothing. False: no kernel.
  bool fit(const GemmSetup& setup) noexcept;
  /// Device memory that run() needs beside the operands; 0 where splits add through clusters.
  std::size_t scratch_bytes() const noexcept { return scratch_; }
  /// Enqueues. `epilogue`: activation, its numbers, scales, order; the set-up's parts are kept.
  Status run(StreamHandle stream, const GemmOperands& operands, const EpilogueParams& epilogue, void* scratch) const noexcept;

 private:
  /// One way of loading A and B: functions by tile, and the launch that stands.
  struct Way {
    bool exists = false;
    OperandA a = kVectorA;
    OperandB b = kPackedB;
    GemmPlan tuned;
    GemmGrid launch;
    Function function;
    struct Tile {
      GemmPlan plan;  ///< of which the tile counts
      Function function;
    };
    std::vector<Tile> tiles;
  };
  bool fit(Way& way, const GemmSetup& setup) noexcept;
  Device& device_;
  GpuLimits limits_;
  std::int64_t tuned_rows_ = 0;
  Way vector_, element_;
  std::size_t scratch_ = 0;
};

}  // namespace lathe::cuda
