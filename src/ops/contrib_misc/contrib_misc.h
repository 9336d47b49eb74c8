// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The files of this folder; contrib_misc.cpp lists the ops.

#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

std::vector<OpDef> crop_ops();     // crop_and_resize.cpp: CropAndResize
std::vector<OpDef> inverse_ops();  // inverse.cpp: Inverse

}  // namespace lathe::ops
