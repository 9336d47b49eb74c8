// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Any bytes are a picture or an Error.
#include <cstdint>

#include "image/decode.h"
#include "lathe/status.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    lathe::image::to_grey(lathe::image::decode({data, size}));
  } catch (const lathe::Error&) {
  }
  return 0;
}
