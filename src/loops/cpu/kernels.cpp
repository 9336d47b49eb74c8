// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernel table, compiled once per instruction set by Highway's foreach_target.

// The plain fallback, AVX2 and AVX-512; NEON on Arm. The steps between would cost build time and serve no machine that runs networks, and the
// kernels keep vectors in structs, which SVE's cannot be.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loops/cpu/kernels.cpp"
#include "hwy/foreach_target.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "backend/cpu/features.h"
#include "hwy/highway.h"
#include "loops/cpu/kernels.h"
#include "loops/cpu/kernels_move-inl.h"
#include "loops/cpu/kernels_plain-inl.h"
#include "loops/cpu/kernels_real-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::loops::HWY_NAMESPACE {

KernelFn unary_of(ExprOp op, VmType type) {
  switch (type) {
    case VmType::kF32: return unary_f32(op);
    case VmType::kF64: return unary_plain<double>(op);
    case VmType::kI32: return unary_plain<std::int32_t>(op);
    default: return unary_plain<std::int64_t>(op);
  }
}

KernelFn binary_of(ExprOp op, VmType type, Mode mode) {
  switch (type) {
    case VmType::kF32: return binary_f32(op, mode);
    case VmType::kF64: return binary_plain<double>(op, mode);
    case VmType::kI32: return binary_plain<std::int32_t>(op, mode);
    default: return binary_plain<std::int64_t>(op, mode);
  }
}

KernelFn cast_of(VmType from, DType to) {
  switch (from) {
    case VmType::kF32: return cast_from<float>(to);
    case VmType::kF64: return cast_from<double>(to);
    case VmType::kI32: return cast_from<std::int32_t>(to);
    default: return cast_from<std::int64_t>(to);
  }
}

KernelFn select_of(VmType type, int scalars) { return cpu::vm_size(type) == 4 ? select_4_bytes(scalars) : select_8_bytes<std::int64_t>(scalars); }

KernelFn fill_of(VmType type) { return cpu::vm_size(type) == 4 ? fill_plain<std::int32_t> : fill_plain<std::int64_t>; }

const cpu::Kernels* kernel_table() {
  static const cpu::Kernels table{hwy::TargetName(HWY_TARGET),
                                  unary_of,
                                  binary_of,
                                  cast_of,
                                  mul_add_f32,
                                  silu_f32,
                                  select_of,
                                  fill_of,
                                  load_of,
                                  store_of,
                                  store_fill_of,
                                  reduce_of,
                                  arg_reduce_of,
                                  copy_elements};
  return &table;
}

}  // namespace lathe::loops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::loops::cpu {

HWY_EXPORT(kernel_table);

namespace {

/// Is the instruction set of this Highway target within what the features leave?
bool allowed(std::int64_t target, lathe::cpu::Isa isa) {
#if HWY_ARCH_X86
  if (target < HWY_AVX2) return isa >= lathe::cpu::Isa::kAvx512;
  if (target == HWY_AVX2) return isa >= lathe::cpu::Isa::kAvx2;
#endif
  (void)target;
  (void)isa;
  return true;
}

std::vector<const Kernels*> tables_of_this_cpu() {
  std::vector<const Kernels*> found;
  const lathe::cpu::Isa isa = lathe::cpu::cpu_features().isa();
  // Highway's NEON wants AES as well, which no kernel uses: the target that everything is compiled for is there in any case.
  const std::int64_t all = (hwy::SupportedTargets() & HWY_TARGETS) | HWY_STATIC_TARGET;
  for (std::int64_t bits = all; bits != 0; bits &= bits - 1) {  // the lowest bit is the best target
    const std::int64_t target = bits & -bits;
    if (!allowed(target, isa)) continue;
    hwy::GetChosenTarget().Update(target);
    const Kernels* table = HWY_DYNAMIC_DISPATCH(kernel_table)();
    if (std::find(found.begin(), found.end(), table) == found.end()) found.push_back(table);
  }
  hwy::GetChosenTarget().Update(all);
  return found;
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

std::span<const Kernels* const> all_kernels() {
  static const std::vector<const Kernels*> tables = tables_of_this_cpu();
  return tables;
}

const Kernels& kernels() {
  const Kernels* table = chosen.load(std::memory_order_relaxed);
  return table ? *table : *all_kernels().front();
}

void choose_kernels(const Kernels* table) { chosen = table; }

VmType vm_type(DType type) noexcept {
  switch (type) {
    case DType::kFloat64: return VmType::kF64;
    case DType::kBool:
    case DType::kInt8:
    case DType::kUint8:
    case DType::kInt16:
    case DType::kUint16:
    case DType::kInt32: return VmType::kI32;
    case DType::kUint32:
    case DType::kInt64:
    case DType::kUint64: return VmType::kI64;
    default: return VmType::kF32;
  }
}

}  // namespace lathe::loops::cpu
#endif
