// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// cuBLASLt as an optional source of matrix products, opened at run time: nothing links it, and a process that runs none of its steps loads
// nothing of its hundreds of megabytes. The handles and numbers of its binary interface are here in our own words.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "backend/cuda/device.h"

namespace lathe::cuda::cublaslt {

using Result = int;  ///< 0: success
using Handle = struct HandleTag*;
using MatmulDesc = struct MatmulDescTag*;
using Layout = struct LayoutTag*;
using Preference = struct PreferenceTag*;

inline constexpr Result kSuccess = 0, kAllocationFailed = 3, kInvalidValue = 7, kNotSupported = 15;
enum DataType : int { kFloat32 = 0, kFloat16 = 2, kBFloat16 = 14 };
enum ComputeType : int { kCompute32F = 68, kComputeTF32 = 77 };
enum Operation : std::int32_t { kAsStored = 0, kTransposed = 1 };
enum LayoutAttribute : int { kLayoutRows = 2, kLayoutColumns = 3, kLayoutLeading = 4, kLayoutBatch = 5, kLayoutBatchStride = 6 };
enum MatmulAttribute : int { kMatmulTransA = 3, kMatmulTransB = 4, kMatmulEpilogue = 7, kMatmulBias = 8 };
enum Epilogue : std::uint32_t { kEpilogueNone = 1, kEpilogueBias = 4, kEpilogueGeluTanh = 32 };  ///< flags, but for kEpilogueNone
enum PreferenceAttribute : int { kPreferWorkspace = 1, kPreferAlignmentA = 5, kPreferAlignmentB = 6, kPreferAlignmentC = 7, kPreferAlignmentD = 8 };
/// What an algorithm is made of; all but the last two are 32 bits wide, those 16.
enum ConfigAttribute : int { kConfigId = 0, kConfigInnerShape = 7, kConfigCluster = 8 };
inline constexpr int kConfigCount = 9;

struct Algorithm {
  std::array<std::uint64_t, 8> data{};  ///< the library's own
};
struct Heuristic {
  Algorithm algorithm;
  std::size_t workspace = 0;
  Result state = 0;
  float waves = 0;
  std::array<int, 4> reserved{};
};
static_assert(sizeof(Heuristic) == 96, "as the library lays it out");

// X(member, symbol, result, parameters)
#define LATHE_CUBLASLT(X)                                                                                                                                 \
  X(version, "cublasLtGetVersion", std::size_t, ())                                                                                                       \
  X(create, "cublasLtCreate", Result, (Handle*))                                                                                                          \
  X(destroy, "cublasLtDestroy", Result, (Handle))                                                                                                         \
  X(matmul_create, "cublasLtMatmulDescCreate", Result, (MatmulDesc*, int, int))                                                                           \
  X(matmul_destroy, "cublasLtMatmulDescDestroy", Result, (MatmulDesc))                                                                                    \
  X(matmul_set, "cublasLtMatmulDescSetAttribute", Result, (MatmulDesc, int, const void*, std::size_t))                                                    \
  X(layout_create, "cublasLtMatrixLayoutCreate", Result, (Layout*, int, std::uint64_t, std::uint64_t, std::int64_t))                                      \
  X(layout_destroy, "cublasLtMatrixLayoutDestroy", Result, (Layout))                                                                                      \
  X(layout_set, "cublasLtMatrixLayoutSetAttribute", Result, (Layout, int, const void*, std::size_t))                                                      \
  X(preference_create, "cublasLtMatmulPreferenceCreate", Result, (Preference*))                                                                           \
  X(preference_destroy, "cublasLtMatmulPreferenceDestroy", Result, (Preference))                                                                          \
  X(preference_set, "cublasLtMatmulPreferenceSetAttribute", Result, (Preference, int, const void*, std::size_t))                                          \
  X(heuristics, "cublasLtMatmulAlgoGetHeuristic", Result, (Handle, MatmulDesc, Layout, Layout, Layout, Layout, Preference, int, Heuristic*, int*))        \
  X(config_get, "cublasLtMatmulAlgoConfigGetAttribute", Result, (const Algorithm*, int, void*, std::size_t, std::size_t*))                                \
  X(matmul, "cublasLtMatmul", Result,                                                                                                                     \
    (Handle, MatmulDesc, const void*, const void*, Layout, const void*, Layout, const void*, const void*, Layout, void*, Layout, const Algorithm*, void*, \
     std::size_t, StreamHandle))

class Library {
 public:
  /// The process's one; opened at the first call. nullptr: not there, and `why` says what brings it.
  static const Library* find(std::string* why = nullptr);
  /// Throws Error(kMachine) instead.
  static const Library& get();
  /// For tests: what find() would find if the knob LATHE_CUBLASLT were `asked`.
  static std::unique_ptr<const Library> open(const std::string& asked, std::string& why);

#define LATHE_CUBLASLT_MEMBER(member, symbol, result, parameters) result(*member) parameters = nullptr;
  LATHE_CUBLASLT(LATHE_CUBLASLT_MEMBER)
#undef LATHE_CUBLASLT_MEMBER
  /// "13.1.0": algorithms are chosen by it.
  const std::string& version_text() const noexcept { return version_; }

 private:
  std::string version_;
};

/// The library's handle of a device, as long as the device is open; for any thread. Throws Error(kMachine).
Handle handle_of(Device& device);
Status status(Result result, std::string_view call) noexcept;
void require(Result result, std::string_view call);

}  // namespace lathe::cuda::cublaslt
