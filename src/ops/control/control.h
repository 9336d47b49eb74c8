// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Control flow, one file an op; control.cpp lists them.

#include "ops/op_def.h"

namespace lathe::ops {

OpDef if_op();            // if.cpp
OpDef loop_op();          // loop.cpp
OpDef scan_op();          // scan.cpp
OpDef sequence_map_op();  // sequence_map.cpp

/// The types that If and Loop pass on, by version of the format.
inline constexpr std::string_view kPassed1 = "@all", kPassed13 = "@all seq(@all)", kPassed16 = "@all13 seq(@all13) optional(@all13) optional(seq(@all13))",
                                  kPassed19 = "@all19 seq(@all19) optional(@all19) optional(seq(@all13))",
                                  kPassed21 = "@all21 seq(@all21) optional(@all21) optional(seq(@all13))",
                                  kPassed23 = "@all23 seq(@all23) optional(@all23) optional(seq(@all13))",
                                  kPassed24 = "@all24 seq(@all24) optional(@all24) optional(seq(@all13))",
                                  kPassed25 = "@all25 seq(@all25) optional(@all25) optional(seq(@all13))";

/// The condition of an If or a Loop: one bool. Fails for others.
bool condition_of(const RefContext& ctx, const Tensor& tensor, const char* what);

}  // namespace lathe::ops
