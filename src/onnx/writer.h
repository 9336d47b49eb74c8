// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// ir::Model -> ONNX file: valid for onnx.checker, byte-stable (the same model gives the same bytes), weights streamed from where
// they lie without a second copy. Models above 2 GiB put large tensors into one data file beside the model.

#include <filesystem>
#include <functional>
#include <string>

#include "ir/graph.h"

namespace lathe::onnx {

struct WriteOptions {
  /// Tensors of at least this many bytes go to "<file>.data" once the model would exceed `single_file_limit`.
  std::size_t external_threshold = 1024;
  std::size_t single_file_limit = std::size_t{2000} << 20;
  /// When set, called for each initializer; a non-empty answer replaces its data by an external reference with this location (the
  /// engine's portable graph points at blobs).
  std::function<std::string(const ir::Value&)> external_location;
};

/// Throws Error(kIo). The target appears only when complete.
void write_model(const ir::Model& model, const std::filesystem::path& path, const WriteOptions& options = {});
std::string model_bytes(const ir::Model& model, const WriteOptions& options = {});

}  // namespace lathe::onnx
