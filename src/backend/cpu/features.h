// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the CPU offers, found by cpuid or told by the kernel (Arm) and reduced by the knob LATHE_CPU_FEATURES, so that every level can be tested on one machine
// and an engine can be built for a smaller one.

#include <cstdint>
#include <string>
#include <string_view>

namespace lathe::cpu {

/// Kernel levels. Engines keep their numbers.
enum class Isa : std::uint8_t { kGeneric = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Bf16 = 3, kNeon = 4 };
/// Every level, each architecture's in rising order.
inline constexpr Isa kAllIsas[] = {Isa::kGeneric, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kNeon};
/// Does a machine of level `have` run what was made for `level`? x86-64's levels imply those below; all imply the generic one.
constexpr bool includes(Isa have, Isa level) noexcept {
  return level == Isa::kGeneric || have == level || (have != Isa::kNeon && level != Isa::kNeon && have > level);
}

struct CpuFeatures {
  enum Bit : std::uint64_t {
    kSse42 = 1u << 0,
    kAvx = 1u << 1,
    kAvx2 = 1u << 2,
    kFma = 1u << 3,
    kF16c = 1u << 4,
    kAvx512F = 1u << 5,
    kAvx512Bw = 1u << 6,
    kAvx512Dq = 1u << 7,
    kAvx512Vl = 1u << 8,
    kAvx512Vnni = 1u << 9,
    kAvx512Bf16 = 1u << 10,
    kAvx512Fp16 = 1u << 11,
    kAvxVnni = 1u << 12,
    kNeon = 1u << 13,
    kArmFp16 = 1u << 14,
    kArmDotProd = 1u << 15,
    kArmI8mm = 1u << 16,
    kArmBf16 = 1u << 17,
    kSve = 1u << 18,
    kSve2 = 1u << 19,
  };
  std::uint64_t mask = 0;

  bool has(std::uint64_t bits) const noexcept { return (mask & bits) == bits; }
  Isa isa() const noexcept;                          ///< the highest kernel level that the mask allows
  CpuFeatures limited_to(Isa level) const noexcept;  ///< without what lies above `level`
  std::string describe() const;                      ///< "avx512bf16 (avx2 fma f16c avx512f ...)"
};

/// The hardware's features, unmasked. Operating-system support for the wide registers is part of the answer.
CpuFeatures detect_cpu_features() noexcept;
/// detect_cpu_features() reduced by LATHE_CPU_FEATURES: a level ("generic", "avx2", "avx512", "avx512bf16", "neon"), or a list of feature names
/// to keep, separated by commas or spaces; unset or unknown text keeps everything. Read once.
const CpuFeatures& cpu_features();
/// Parses the knob's text (exposed for tests).
CpuFeatures mask_cpu_features(CpuFeatures features, std::string_view knob_text);

std::string_view isa_name(Isa isa) noexcept;
/// Cache sizes in bytes, with defaults where the machine does not tell (32 KiB, 1 MiB, 16 MiB).
struct CacheSizes {
  std::int64_t l1d, l2, l3;
};
const CacheSizes& cache_sizes() noexcept;
/// Drops the lines from all cache levels, so that what reads them next waits for memory (where the CPU has an instruction for it).
void evict_from_caches(const void* data, std::size_t bytes) noexcept;

}  // namespace lathe::cpu
