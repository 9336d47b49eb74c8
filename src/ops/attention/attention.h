// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The definitions of this folder, one function for each file.

#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

bool attention_expand(ExpandContext& context);  // attention_expand.cpp
std::vector<OpDef> rotary_ops();                // rotary.cpp: RotaryEmbedding
std::vector<OpDef> causal_conv_ops();           // causal_conv.cpp: CausalConvWithState

}  // namespace lathe::ops
