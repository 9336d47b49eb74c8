// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The runtime's Engine: immutable, shared by threads. Picks the section that fits this machine.

#include <memory>
#include <span>
#include <string>

#include "engine/engine_data.h"
#include "runtime/cuda_engine.h"

namespace lathe::runtime {

class Engine {
 public:
  /// Takes over what the reader mapped or the builder made. `section` picks by device name ("cuda*" by its beginning); "" = the first that this
  /// machine can run.
  /// Throws Error(kMachine) when none can, Error(kUnsupported) when it needs a custom operator that is not registered (`to_run` false: for looking at
  /// it alone, which needs none). `ordinal`: the GPU of a CUDA section; its weights are uploaded.
  static std::shared_ptr<const Engine> create(engine::EngineData data, std::string_view section = {}, int ordinal = 0, bool to_run = true);

  /// One of the subprograms that a dynamic program calls, as an engine of its own. `whole` keeps weights and device.
  static std::shared_ptr<const Engine> part(std::shared_ptr<const Engine> whole, const plan::Program& program);

  const engine::EngineData& data() const noexcept { return whole_ ? whole_->data() : data_; }
  const engine::DeviceSection& section() const noexcept { return *section_; }
  const plan::Program& program() const noexcept { return part_ ? *part_ : section_->program; }
  /// "cpu (avx512bf16)", or the generic one and why the tuned one does not fit.
  const std::string& section_note() const noexcept { return note_; }
  /// Of a section for a GPU with native code: who signed it, or why it is ignored; "" where there is none.
  const std::string& native_note() const noexcept { return native_note_; }
  std::span<const std::byte> blob(plan::BlobId id) const { return data().blob_bytes.at(static_cast<std::size_t>(id)); }
  /// Where kernels of the section find a blob: on the section's device.
  const void* address(plan::BlobId id) const { return cuda_ ? cuda_->blob(id) : blob(id).data(); }
  /// What the section's device keeps of the engine; nullptr on the host.
  const CudaEngine* cuda() const noexcept { return cuda_.get(); }
  std::size_t weight_bytes() const;  ///< of the blobs that the section's steps name

 private:
  engine::EngineData data_;
  const engine::DeviceSection* section_ = nullptr;
  std::string note_, native_note_;
  std::shared_ptr<const CudaEngine> cuda_;
  std::shared_ptr<const Engine> whole_;  // of a part
  const plan::Program* part_ = nullptr;  // inside of whole_
};

}  // namespace lathe::runtime
