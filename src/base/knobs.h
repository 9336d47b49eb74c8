// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one table of environment knobs (LATHE_*). Reading an environment variable anywhere else is a defect.
// docs/knobs.md is generated from the table.

#include <span>
#include <string>
#include <string_view>

namespace lathe {

struct Knob {
  std::string_view name;           ///< "LATHE_THREADS"
  std::string_view default_value;  ///< as text; "" = unset
  std::string_view help;
};

std::span<const Knob> knob_table() noexcept;
/// The environment's value or the default. `name` must be in the table (asserted).
std::string knob(std::string_view name);
long knob_int(std::string_view name);
bool knob_bool(std::string_view name);

}  // namespace lathe
