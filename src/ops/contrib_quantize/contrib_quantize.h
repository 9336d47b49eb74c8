// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The files of this folder; contrib_quantize.cpp lists the ops.

#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

std::vector<OpDef> quantized_product_ops();  // products.cpp: QGemm, MatMulIntegerToFloat, DynamicQuantizeMatMul, DynamicQuantizeLSTM, QLinearConv

}  // namespace lathe::ops
