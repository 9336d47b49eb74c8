// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/features.h"

#include <unistd.h>

#include <cctype>

#include "base/knobs.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace lathe::cpu {
namespace {

struct Name {
  std::string_view text;
  std::uint64_t bit;
};
constexpr Name kNames[] = {
    {"sse4.2", CpuFeatures::kSse42},
    {"avx", CpuFeatures::kAvx},
    {"avx2", CpuFeatures::kAvx2},
    {"fma", CpuFeatures::kFma},
    {"f16c", CpuFeatures::kF16c},
    {"avx512f", CpuFeatures::kAvx512F},
    {"avx512bw", CpuFeatures::kAvx512Bw},
    {"avx512dq", CpuFeatures::kAvx512Dq},
    {"avx512vl", CpuFeatures::kAvx512Vl},
    {"avx512_vnni", CpuFeatures::kAvx512Vnni},
    {"avx512_bf16", CpuFeatures::kAvx512Bf16},
    {"avx512_fp16", CpuFeatures::kAvx512Fp16},
    {"avx_vnni", CpuFeatures::kAvxVnni},
    {"neon", CpuFeatures::kNeon},
    {"fp16", CpuFeatures::kArmFp16},
    {"dotprod", CpuFeatures::kArmDotProd},
    {"i8mm", CpuFeatures::kArmI8mm},
    {"bf16", CpuFeatures::kArmBf16},
    {"sve", CpuFeatures::kSve},
    {"sve2", CpuFeatures::kSve2},
};

constexpr std::uint64_t kNeedAvx2 = CpuFeatures::kAvx | CpuFeatures::kAvx2 | CpuFeatures::kFma | CpuFeatures::kF16c;
constexpr std::uint64_t kNeedAvx512 = kNeedAvx2 | CpuFeatures::kAvx512F | CpuFeatures::kAvx512Bw | CpuFeatures::kAvx512Dq | CpuFeatures::kAvx512Vl;
constexpr std::uint64_t kNeedAvx512Bf16 = kNeedAvx512 | CpuFeatures::kAvx512Bf16;
constexpr std::uint64_t kAboveAvx512 = CpuFeatures::kAvx512Bf16 | CpuFeatures::kAvx512Fp16;
constexpr std::uint64_t kAboveAvx2 =
    kAboveAvx512 | CpuFeatures::kAvx512F | CpuFeatures::kAvx512Bw | CpuFeatures::kAvx512Dq | CpuFeatures::kAvx512Vl | CpuFeatures::kAvx512Vnni;
constexpr std::uint64_t kAboveNeon =
    CpuFeatures::kArmFp16 | CpuFeatures::kArmDotProd | CpuFeatures::kArmI8mm | CpuFeatures::kArmBf16 | CpuFeatures::kSve | CpuFeatures::kSve2;
constexpr std::uint64_t kAboveGeneric = kAboveAvx2 | kNeedAvx2 | CpuFeatures::kAvxVnni | CpuFeatures::kNeon | kAboveNeon;

}  // namespace

Isa CpuFeatures::isa() const noexcept {
  if (has(kNeedAvx512Bf16)) return Isa::kAvx512Bf16;
  if (has(kNeedAvx512)) return Isa::kAvx512;
  if (has(kNeedAvx2)) return Isa::kAvx2;
  if (has(CpuFeatures::kNeon)) return Isa::kNeon;
  return Isa::kGeneric;
}

CpuFeatures CpuFeatures::limited_to(Isa level) const noexcept {
  switch (level) {
    case Isa::kGeneric: return {mask & ~kAboveGeneric};
    case Isa::kAvx2: return {mask & ~kAboveAvx2};
    case Isa::kAvx512: return {mask & ~kAboveAvx512};
    case Isa::kNeon: return {mask & ~kAboveNeon};
    case Isa::kAvx512Bf16: break;
  }
  return *this;
}

std::string CpuFeatures::describe() const {
  std::string text(isa_name(isa()));
  text += " (";
  bool any = false;
  for (const Name& name : kNames) {
    if (!has(name.bit)) continue;
    if (any) text += ' ';
    text += name.text;
    any = true;
  }
  return text + ")";
}

std::string_view isa_name(Isa isa) noexcept {
  switch (isa) {
    case Isa::kGeneric: return "generic";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kAvx512Bf16: return "avx512bf16";
    case Isa::kNeon: return "neon";
  }
  return "?";
}

CpuFeatures detect_cpu_features() noexcept {
  CpuFeatures f;
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
  auto set = [&f](bool on, std::uint64_t bit) { f.mask |= on ? bit : 0; };
  set(c & bit_SSE4_2, CpuFeatures::kSse42);
  std::uint32_t xcr0 = 0;
  if (c & bit_OSXSAVE) {
    std::uint32_t high = 0;
    asm volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
  }
  const bool os_avx = (xcr0 & 0x6) == 0x6, os_avx512 = (xcr0 & 0xe6) == 0xe6;
  set(os_avx && (c & bit_AVX), CpuFeatures::kAvx);
  set(os_avx && (c & bit_FMA), CpuFeatures::kFma);
  set(os_avx && (c & bit_F16C), CpuFeatures::kF16c);
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    const unsigned leaves = a;
    set(os_avx && (b & bit_AVX2), CpuFeatures::kAvx2);
    set(os_avx512 && (b & bit_AVX512F), CpuFeatures::kAvx512F);
    set(os_avx512 && (b & bit_AVX512BW), CpuFeatures::kAvx512Bw);
    set(os_avx512 && (b & bit_AVX512DQ), CpuFeatures::kAvx512Dq);
    set(os_avx512 && (b & bit_AVX512VL), CpuFeatures::kAvx512Vl);
    set(os_avx512 && (c & (1u << 11)), CpuFeatures::kAvx512Vnni);
    set(os_avx512 && (d & (1u << 23)), CpuFeatures::kAvx512Fp16);
    if (leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
      set(os_avx512 && (a & (1u << 5)), CpuFeatures::kAvx512Bf16);
      set(os_avx && (a & (1u << 4)), CpuFeatures::kAvxVnni);
    }
  }
#elif defined(__aarch64__)
  // The bits of Linux's interface (Documentation/arch/arm64/elf_hwcaps.rst); headers of older C libraries lack the later names.
  const unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
  auto set = [&f](unsigned long bit, std::uint64_t name) { f.mask |= bit ? name : 0; };
  set(one & 1ul << 1, CpuFeatures::kNeon);
  set(one & 1ul << 10, CpuFeatures::kArmFp16);
  set(one & 1ul << 20, CpuFeatures::kArmDotProd);
  set(one & 1ul << 22, CpuFeatures::kSve);
  set(two & 1ul << 1, CpuFeatures::kSve2);
  set(two & 1ul << 13, CpuFeatures::kArmI8mm);
  set(two & 1ul << 14, CpuFeatures::kArmBf16);
#endif
  return f;
}

CpuFeatures mask_cpu_features(CpuFeatures features, std::string_view text) {
  for (const Isa level : kAllIsas) {
    if (text == isa_name(level)) return features.limited_to(level);
  }
  CpuFeatures kept;
  bool known = false;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = text.find_first_of(", ", at);
    const std::string_view word = text.substr(at, end == std::string_view::npos ? end : end - at);
    for (const Name& name : kNames) {
      if (name.text == word) {
        kept.mask |= name.bit;
        known = true;
      }
    }
    if (end == std::string_view::npos) break;
    at = end + 1;
  }
  return known ? CpuFeatures{features.mask & kept.mask} : features;
}

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = mask_cpu_features(detect_cpu_features(), knob("LATHE_CPU_FEATURES"));
  return features;
}

const CacheSizes& cache_sizes() noexcept {
  static const CacheSizes sizes = [] {
    CacheSizes s{32 << 10, 1 << 20, 16 << 20};
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    auto ask = [](int name, std::int64_t& size) {
      const long answer = sysconf(name);
      if (answer > 0) size = answer;
    };
    ask(_SC_LEVEL1_DCACHE_SIZE, s.l1d);
    ask(_SC_LEVEL2_CACHE_SIZE, s.l2);
    ask(_SC_LEVEL3_CACHE_SIZE, s.l3);
#endif
    return s;
  }();
  return sizes;
}

void evict_from_caches(const void* data, std::size_t bytes) noexcept {
#if defined(__x86_64__)
  const char* p = static_cast<const char*>(data);
  for (std::size_t i = 0; i < bytes; i += 64) _mm_clflush(p + i);
  _mm_mfence();
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace lathe::cpu
