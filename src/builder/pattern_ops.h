// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which candidates can execute an operator, for `lathe ops` and docs/ops.md.

#include <string>
#include <vector>

#include "ops/op_def.h"

namespace lathe::builder {

/// Names of candidates, preferred first: those of the patterns that the op anchors, the region language, the defining reference.
std::vector<std::string> candidates_of(const ops::OpDef& op);

}  // namespace lathe::builder
