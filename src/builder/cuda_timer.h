// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Times planned steps on a GPU, by events around graphs of repeated launches. Keeps its stream and buffers from step to step: most of a build's
// steps have tensors of a few sizes, and what they hold does not matter.

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "ops/candidate.h"

namespace lathe::builder {

class CudaTimer {
 public:
  /// The builder keeps the device (a cuda::Device) open for as long as it times.
  explicit CudaTimer(void* device);

  /// Seconds of one run: the least of several rounds; of one that is much slower than `best` (negative: none yet) a rough figure. `weights` are
  /// packed bytes in the plan's order. Throws what binding and running throw.
  double time(const ops::StepPlan& plan, std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, const ir::Bindings& symbols,
              std::span<const std::span<const std::byte>> weights, double best);
  /// Forgets the weights and constants that the options of one region share.
  void next_region() { uploaded_.clear(); }

 private:
  const void* uploaded(std::span<const std::byte> bytes);
  void* buffer(std::size_t role, DType type, std::size_t bytes, bool fill);
  std::shared_ptr<cuda::Device> device_;
  cuda::Stream stream_;
  cuda::Event start_, stop_;
  std::map<const void*, cuda::Block> uploaded_;
  std::map<std::pair<std::size_t, DType>, cuda::Block> buffers_;
};

/// Small random numbers in `bytes` bytes of a type: zeros and denormals would time differently. On a device they repeat after some megabytes.
void fill_random(std::byte* data, std::size_t bytes, DType dtype, std::uint32_t seed);
void fill_random(const cuda::Device& device, cuda::StreamHandle stream, const cuda::Block& block, DType dtype, std::uint32_t seed);
/// Bytes from the first to the last element of a strided tensor.
std::size_t extent_bytes(const plan::TensorDesc& desc);

}  // namespace lathe::builder
