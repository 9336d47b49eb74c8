// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Matching arithmetic irrespective of how it is bracketed: exporters write x * 0.5 * (1 + erf(x / sqrt 2)) in half a dozen ways.

#include <optional>
#include <vector>

#include "ir/graph.h"

namespace lathe::passes {

/// A product of values and numbers: `factor` * terms[0] * terms[1] * ...
struct Product {
  double factor = 1;
  std::vector<ir::Value*> terms;
  std::vector<ir::Node*> nodes;  ///< Mul and Div nodes that were opened, the root first
};
/// Opens a Mul or a Div by a constant; inner ones too when nothing else reads them. Only numbers and shape-keeping steps are opened.
Product product_of(ir::Node& root);

/// True when `a` is `b` up to what the dtype's rounding allows for a constant in a formula.
bool close_to(double a, double b, DType dtype);
/// value = x * k (Mul or Div by a number) -> x, when k is close to `k`; also value = x when k is 1.
ir::Value* unscaled(ir::Value* value, double k);
/// value = x + c with a number c -> x.
ir::Value* without_offset(ir::Value* value, double c);

}  // namespace lathe::passes
