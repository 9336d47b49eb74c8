// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Machine code for sources that Lathe wrote itself: from the cache folder of this user, else from NVRTC. Of an engine file only code that this
// user trusts stands in front of it (Device::offer_code), so a file from a stranger runs nothing of its own on the GPU.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "trust/digest.h"

namespace lathe::cuda {

/// The key of a source: equal sources for equal architectures have equal keys, and nobody can make others that do.
using CodeKey = trust::Digest;
CodeKey code_key(std::string_view source, const std::string& arch);

/// Throws Error(kMachine) when the code is not cached and there is no NVRTC, Error(kInternal) when it does not compile.
std::vector<std::byte> cached_code(std::string_view source, const std::string& arch, const CodeKey& key);

}  // namespace lathe::cuda
