// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Machine code for sources that Lathe wrote itself: from the cache folder of this user, else from NVRTC. Engine files carry no machine
// code, so a file from a stranger runs nothing of its own on the GPU; the price is one compilation a machine.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::cuda {

/// Throws Error(kMachine) when the code is not cached and there is no NVRTC, Error(kInternal) when it does not compile.
std::vector<std::byte> cached_code(std::string_view source, const std::string& arch);
/// The key of a source: equal sources for equal architectures have equal keys.
std::string code_key(std::string_view source, const std::string& arch);

}  // namespace lathe::cuda
