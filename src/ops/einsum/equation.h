// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// An Einsum equation read: "ij,jk->ik", with letters a-z and A-Z, blanks anywhere, and "..." for axes without a letter.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::ops {

/// Axes are labels: letters as themselves, axes of an ellipsis as negative numbers (-1 the last of them), broadcast among the inputs.
struct Equation {
  std::vector<std::vector<int>> inputs;
  std::vector<int> output;
  std::vector<int> summed;  ///< labels that the output lacks, in order of first appearance
};

/// Reads `text` for inputs of these ranks. On a defect returns it in `defect`.
Equation parse_equation(std::string_view text, const std::vector<std::size_t>& ranks, std::string& defect);

std::string label_name(int label);  ///< "i", or "axis -2 of '...'"

}  // namespace lathe::ops
