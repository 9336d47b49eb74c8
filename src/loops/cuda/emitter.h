// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a region and concrete tensors to CUDA C++: the text of the kernels and what each launch passes. Extents, strides and offsets are
// parameters, so shapes of equal structure share one text (and one compiled module). Stages that need not wait for each other share a
// launch, each in its own blocks; stages that hand rows to each other (softmax, normalisation) share a block or a warp per row.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loops/region.h"
#include "plan/kernel.h"

namespace lathe::loops::cuda {

struct EmitOptions {
  int multiprocessors = 132;
  std::int64_t enough_threads = 16384;  ///< below it a thread makes one element, however much it could
  std::string prefix = "k";             ///< of kernel names
};

inline constexpr int kThreads = 256;                     ///< of a block, in every kernel
inline constexpr std::size_t kMaxParameterBytes = 4096;  ///< of a kernel, on every architecture

struct Launch {
  std::string kernel;  ///< its name in the source
  std::uint32_t blocks = 1;
  /// Parameters: one pointer per entry of `pointers` (to be filled in for a run), then the numbers.
  std::vector<BufferId> pointers;
  std::vector<std::byte> parameters;
  /// Parallel to `pointers`: bytes to which the kernel needs each aligned. Where one is not, `unaligned_kernel` takes the same parameters.
  std::vector<std::uint32_t> alignment;
  std::string unaligned_kernel;  ///< "" = the kernel needs no more than each element's own alignment
  std::uint32_t unaligned_blocks = 1;
  std::vector<std::byte> unaligned_parameters;
};

struct Emitted {
  std::string source;  ///< without the prelude; empty when there is nothing to compute
  std::vector<Launch> launches;
};

/// `buffers`: how each buffer of the region lies in memory (temporaries: dense). Throws Error(kUnsupported) for what has no CUDA form
/// (types without one, more than 16 loops, one stage of more tensors than a kernel takes).
Emitted emit(const LoopRegion& region, std::span<const plan::TensorDesc> buffers, const ir::Bindings& symbols, const EmitOptions& options);

/// What every source needs in front: types, conversions and functions with the meaning of the region language's operators.
std::string_view device_prelude();

}  // namespace lathe::loops::cuda
