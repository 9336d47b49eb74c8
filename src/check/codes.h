// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The kinds of defects: stable codes with what to do and the section of the specification that the rule is from.

#include <span>
#include <string_view>

#include "lathe/check.h"

namespace lathe::checker {

struct CodeInfo {
  std::string_view code;
  Severity severity;
  std::string_view meaning;  ///< the heading of its group
  std::string_view spec;     ///< "@": the operator's own section
  std::string_view remedy;
};

std::span<const CodeInfo> all_codes();
const CodeInfo& code_info(std::string_view code);  ///< precondition: it is one of the list

}  // namespace lathe::checker
