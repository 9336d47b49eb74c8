// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The runtime's Engine: immutable, shared by threads. Picks the section that fits this machine.

#include <memory>
#include <span>
#include <string>

#include "engine/engine_data.h"

namespace lathe::runtime {

class Engine {
 public:
  /// Takes over what the reader mapped or the builder made. `section` picks by device name; "" = the first that this machine can run.
  /// Throws Error(kMachine) when none can.
  static std::shared_ptr<const Engine> create(engine::EngineData data, std::string_view section = {});

  const engine::EngineData& data() const noexcept { return data_; }
  const engine::DeviceSection& section() const noexcept { return *section_; }
  const plan::Program& program() const noexcept { return section_->program; }
  /// "cpu (avx512bf16)", or the generic one and why the tuned one does not fit.
  const std::string& section_note() const noexcept { return note_; }
  std::span<const std::byte> blob(plan::BlobId id) const { return data_.blob_bytes.at(static_cast<std::size_t>(id)); }
  std::size_t weight_bytes() const;   ///< of the blobs that the section's steps name

 private:
  engine::EngineData data_;
  const engine::DeviceSection* section_ = nullptr;
  std::string note_;
};

}  // namespace lathe::runtime
