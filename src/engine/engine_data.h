// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an engine file holds, in memory: the builder fills it, the writer stores it, the reader hands it to the runtime.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "plan/program.h"
#include "trust/signature.h"

namespace lathe::engine {

/// Compiled device code of one program, as bytes: whoever would run it asks native_code.h whether it may be looked into.
struct NativeCode {
  std::span<const std::byte> bytes;  ///< kept alive by EngineData::owners; empty: there is none
  Hash128 hash;                      ///< that the file gives
  std::vector<trust::Signature> signatures;
};

/// One way to run the model: tuned for a device, or the generic one that any CPU runs.
struct DeviceSection {
  std::string device;       ///< "cpu", "cpu-generic", "cuda:sm_90a"
  std::string needs;        ///< CPU features required, separated by spaces ("avx512f avx512bf16"); "" = none
  std::string description;  ///< machine it was tuned on, for `lathe show`
  plan::Program program;
  NativeCode native = {};
};

struct EngineData {
  std::string producer;  ///< "lathe 0.1.0"
  std::string model_name;
  std::vector<DeviceSection> sections;                 ///< preferred first
  std::vector<plan::Blob> blobs;                       ///< shared by all sections; offsets are set by the writer
  std::vector<std::span<const std::byte>> blob_bytes;  ///< one per blob
  std::vector<std::shared_ptr<const void>> owners;     ///< keep blob_bytes alive
  std::string portable_graph;                          ///< ONNX bytes; weights refer to raw blobs by name
  std::vector<plan::PrecisionEntry> precision;
  std::vector<std::string> custom_ops;  ///< "domain::name@version" needed to load
  std::vector<std::pair<std::string, std::string>> metadata;
  std::string report_json;  ///< the build report
};

}  // namespace lathe::engine
