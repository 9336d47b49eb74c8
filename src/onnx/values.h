// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// SequenceProto, OptionalProto and MapProto -> host values: what a file with one value of a graph's interface holds.

#include "ir/type.h"
#include "onnx/tensor_reader.h"

namespace lathe::onnx {

/// The value that `bytes` encode, of the kind that `type` says (a tensor where it says nothing). Throws Error(kCorruptFile, kInvalidModel)
/// on sparse tensors and on anything nested too deeply.
Tensor read_value(protozero::data_view bytes, const ir::Type& type, ReadState& state);

}  // namespace lathe::onnx
