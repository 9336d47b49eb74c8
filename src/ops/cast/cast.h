// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Conversion of whole tensors by the format's rules, strings included.

#include <string_view>

#include "base/tensor.h"

namespace lathe::ops {

/// `saturate` concerns 8-bit floats, `round_mode` ("up", "down", "nearest") float8e8m0. Throws Error(kInvalidModel) on text that is
/// no number and on complex types.
Tensor convert_tensor(const Tensor& input, DType to, bool saturate, std::string_view round_mode);

}  // namespace lathe::ops
