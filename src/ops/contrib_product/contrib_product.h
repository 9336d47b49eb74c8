// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The files of this folder; contrib_product.cpp lists the ops.

#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

std::vector<OpDef> block_quantized_ops();  // matmul_nbits.cpp: MatMulNBits

}  // namespace lathe::ops
