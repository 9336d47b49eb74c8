// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/kernel_table.h"

#include <atomic>

namespace lathe::cpu {

extern const KernelTable kGenericKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAvx512Bf16Kernels;
#elif defined(__aarch64__)
extern const KernelTable kNeonKernels;
#endif

namespace {
std::atomic<bool> capped{false};
std::atomic<Isa> cap{Isa::kGeneric};
}  // namespace

const KernelTable& kernel_table(Isa level) noexcept {
#if defined(__x86_64__)
  switch (level) {
    case Isa::kAvx512Bf16: return kAvx512Bf16Kernels;
    case Isa::kAvx512: return kAvx512Kernels;
    case Isa::kAvx2: return kAvx2Kernels;
    case Isa::kNeon:
    case Isa::kGeneric: break;
  }
#elif defined(__aarch64__)
  if (level == Isa::kNeon) return kNeonKernels;
#else
  (void)level;
#endif
  return kGenericKernels;
}

const KernelTable& kernel_table() noexcept {
  const Isa have = cpu_features().isa();
  const Isa level = capped.load(std::memory_order_relaxed) ? cap.load(std::memory_order_relaxed) : have;
  return kernel_table(includes(have, level) ? level : have);
}

void limit_kernel_isa(std::optional<Isa> level) noexcept {
  cap.store(level.value_or(Isa::kGeneric), std::memory_order_relaxed);
  capped.store(level.has_value(), std::memory_order_relaxed);
}

}  // namespace lathe::cpu
