// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where the shared libraries lie that are opened at run time and travel with Lathe: in a build tree, an installed tree, a bundle, a wheel.

#include <filesystem>
#include <string_view>
#include <vector>

namespace lathe::os {

/// Files called `name`, links resolved, that belong to the command, liblathe.so or Python extension that this code is part of: beside it, in lib/
/// (build tree, wheel), in lathe/ (installed liblathe.so), in ../lib (bundle, a wheel's command) and ../lib/lathe (installed command).
std::vector<std::filesystem::path> files_beside(std::string_view name);

/// Folder, links resolved, of the command or library that this code is part of; empty when it cannot be told.
std::filesystem::path own_folder();

}  // namespace lathe::os
