// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Times one planned step on a GPU, by events around a graph of repeated launches.

#include <span>
#include <vector>

#include "ops/candidate.h"

namespace lathe::builder {

/// Seconds of one run: the least of several rounds. `weights` are packed bytes in the plan's order. Throws what binding and running throw.
double time_on_cuda(void* device, const ops::StepPlan& plan, std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs,
                    const ir::Bindings& symbols, std::span<const std::span<const std::byte>> weights);

/// Small random numbers in `bytes` bytes of a type: zeros and denormals would time differently.
void fill_random(std::byte* data, std::size_t bytes, DType dtype, std::uint32_t seed);
/// Bytes from the first to the last element of a strided tensor.
std::size_t extent_bytes(const plan::TensorDesc& desc);

}  // namespace lathe::builder
