// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the generated op list needs.

#include <span>

#include "ops/op_def.h"

namespace lathe::ops {
void add_builtin_ops(void (*add)(std::span<const OpDef>));
}
