// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Any bytes give one report that can be printed.

#include <cstdint>
#include <cstdlib>

#include "lathe/check.h"
#include "lathe/status.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::CheckReport report = lathe::check(std::span(reinterpret_cast<const std::byte*>(data), size), "/nonexistent");
  if (report.text().empty() || report.json().empty()) std::abort();
  return 0;
}
