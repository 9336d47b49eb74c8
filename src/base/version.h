// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The version, in one place for the code; CMakeLists.txt and pyproject.toml name the same (a test holds them together).

#include <string_view>

namespace lathe {

inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace lathe
