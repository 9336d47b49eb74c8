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
#endif

namespace {
std::atomic<int> isa_cap{static_cast<int>(Isa::kAvx512Bf16)};
}

const KernelTable& kernel_table(Isa level) noexcept {
#if defined(__x86_64__)
  switch (level) {
    case Isa::kAvx512Bf16: return kAvx512Bf16Kernels;
    case Isa::kAvx512: return kAvx512Kernels;
    case Isa::kAvx2: return kAvx2Kernels;
    case Isa::kGeneric: break;
  }
#else
  (void)level;
#endif
  return kGenericKernels;
}

const KernelTable& kernel_table() noexcept {
  const int have = static_cast<int>(cpu_features().isa()), cap = isa_cap.load(std::memory_order_relaxed);
  return kernel_table(static_cast<Isa>(have < cap ? have : cap));
}

void limit_kernel_isa(Isa level) noexcept { isa_cap.store(static_cast<int>(level), std::memory_order_relaxed); }

}  // namespace lathe::cpu
