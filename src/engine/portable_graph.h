// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The portable graph's references to weights ("blob:N"), rewritten without knowing anything else of ONNX: blobs get other numbers where
// engines are merged or programs are left out.

#include <functional>
#include <string>
#include <string_view>

#include "plan/program.h"

namespace lathe::engine {

/// The same ONNX model with `location(N)` in the place of each "blob:N". Throws Error(kCorruptFile) when the bytes are no protobuf message.
std::string with_locations(std::string_view onnx, const std::function<std::string(plan::BlobId)>& location);

}  // namespace lathe::engine
