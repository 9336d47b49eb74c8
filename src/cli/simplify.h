// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// One file simplified, compared and written: what `lathe simplify` and `onnxsim` do.

#include <map>
#include <string>

#include "builder/equality.h"
#include "passes/simplify.h"

namespace lathe::cli {

struct SimplifyJob {
  std::string input, output;
  std::map<std::string, builder::ShapeRange> shapes;        ///< to fix
  std::map<std::string, builder::ShapeRange> check_shapes;  ///< of inputs that stay free: only for the comparison
  passes::SimplifyOptions options;
  bool check = true;
  int input_sets = 2;  ///< at the first shapes
};

struct Simplified {
  passes::SimplifyReport report;
  builder::Equality equality;
};

/// Writes only after the numbers equalled the original's (unless that is left out). Throws Error.
Simplified simplify_file(const SimplifyJob& job);

}  // namespace lathe::cli
