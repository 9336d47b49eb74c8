// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The files of this folder; contrib_attention.cpp lists the ops.

#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

OpDef group_query_attention();  // group_query.cpp

}  // namespace lathe::ops
