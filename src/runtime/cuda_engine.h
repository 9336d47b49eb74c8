// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an Engine keeps on a GPU: the device, and one copy of the weights that its section names, shared by all Contexts.

#include <memory>
#include <vector>

#include "backend/cuda/memory.h"
#include "engine/engine_data.h"

namespace lathe::runtime {

class CudaEngine {
 public:
  /// Uploads. Throws Error(kMachine, kOutOfMemory).
  CudaEngine(const engine::EngineData& data, const plan::Program& program, int ordinal);
  const std::shared_ptr<cuda::Device>& device() const noexcept { return device_; }
  /// Where a blob lies in the device's memory; nullptr for one that the section does not name.
  const void* blob(plan::BlobId id) const noexcept;

 private:
  std::shared_ptr<cuda::Device> device_;
  cuda::Block memory_;
  std::vector<std::ptrdiff_t> offsets_;  // by blob; negative: not here
};

/// Why a section of this name ("cuda:sm_90") cannot run here on GPU `ordinal`; empty when it can.
std::string cuda_section_unfit(const std::string& device, int ordinal);

}  // namespace lathe::runtime
