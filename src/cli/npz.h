// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// NumPy's .npy and .npz files: what `lathe run` reads and writes. Formats: NEP 1 (npy 1.0/2.0), ZIP with stored entries.

#include <string>
#include <utility>
#include <vector>

#include "base/tensor.h"

namespace lathe::cli {

/// Reads a .npy file: a view of the mapped file, or a copy where its byte order or Fortran order must be turned. bfloat16 has no NumPy
/// type: it is read as uint16. Throws Error(kIo, kCorruptFile, kUnsupported).
Tensor read_npy(const std::string& path);
/// Writes one array per name. Compatible with numpy.load.
void write_npz(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& arrays);
void write_npy(const std::string& path, const Tensor& tensor);

}  // namespace lathe::cli
