// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// ONNX file -> ir::Model, by protozero over a read-only mapping: initialisers with raw data stay views of the file.
//
// Rules that the reader adds to the format's: an initialiser that is also a graph input (the old way, or an overridable default) is
// a constant and leaves the inputs; nodes may stand in any order that has no cycle.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

#include "ir/graph.h"

namespace lathe::onnx {

struct ReadOptions {
  /// Tensors whose data lies outside the file and cannot be had become zeros (structure only: `lathe show`, tests on stripped files).
  bool allow_missing_weights = false;
};

/// Throws Error(kIo, kCorruptFile, kInvalidModel) naming file, node and tensor.
std::shared_ptr<ir::Model> read_model(const std::filesystem::path& path, const ReadOptions& options = {});
/// From memory that `owner` keeps alive; external data is looked up in `base_dir`.
std::shared_ptr<ir::Model> read_model(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::filesystem::path& base_dir = {},
                                      const ReadOptions& options = {});

/// Expands every call of a local function (functions that call functions too) and drops the functions. Throws Error(kInvalidModel) on
/// recursion or unknown attributes.
void inline_functions(ir::Model& model);

}  // namespace lathe::onnx
