// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A row of the pointwise table, parsed, and the functions that serve every row. Private to this folder.

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/op_def.h"
#include "ops/pointwise/expression.h"

namespace lathe::ops::pointwise {

struct Row {
  std::string_view name, expression;
  std::vector<std::string> inputs;  ///< formal names; a variadic row has one
  bool variadic = false;
  bool gives_bool = false;
  std::vector<std::pair<std::string, std::string>> defaults;  ///< attribute, its default as text
  Ast ast;
  Tolerance tolerance;

  /// The input that decides T: the first that is not a condition.
  const std::string& attribute_default(std::string_view attribute) const;  ///< throws Error(kInternal) for a name without one
  std::size_t type_input() const { return inputs.front() == "condition" ? 1 : 0; }
};

/// The row of an op by name; asserted to exist.
const Row& row_of(std::string_view op);
std::span<const Row> all_rows();

/// NumPy broadcasting of symbolic extents; false when two constants clash. `unknown` makes the extent that only sizes at run time tell.
bool broadcast(const ir::Shape& a, const ir::Shape& b, ir::Shape& out, const std::function<ir::Dim()>& unknown = {});

void infer_row(InferContext& context);
void reference_row(RefContext& context);
bool lower_row(const Node& node, loops::RegionBuilder& builder);
void upgrade_row(UpgradeContext& context);

}  // namespace lathe::ops::pointwise
