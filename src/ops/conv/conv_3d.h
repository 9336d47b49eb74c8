// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// OpDef::expand of Conv: over three axes, as convolutions over two.

#include "ops/op_def.h"

namespace lathe::ops {

bool expand_conv_3d(ExpandContext& ctx);

}  // namespace lathe::ops
