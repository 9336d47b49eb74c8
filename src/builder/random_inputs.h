// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Seeded inputs for verification and equality checks.

#include <cstdint>
#include <map>
#include <string>

#include "ir/graph.h"

namespace lathe::builder {

/// Floats: normal around 0.25 (images lie in 0..1, features around zero: a bit of both). Integers and bools: 0 or 1, which is in range
/// for any index. Bytes that ImageDecoder reads: a picture. Texts: a few words. Sequences, maps: three of each.
std::map<std::string, Tensor> random_inputs(const ir::Graph& graph, const ir::Bindings& bindings, std::uint64_t seed);

/// The ImageDecoder that decodes an input's bytes, when one does.
const ir::Node* decoder_of(const ir::Value& input);

}  // namespace lathe::builder
