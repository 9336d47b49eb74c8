// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The compressions of TIFF that are read: none, PackBits, LZW, Deflate.

#include "image/formats.h"

namespace lathe::image {

bool can_unpack(std::uint32_t compression);
/// The first `size` bytes of a strip or tile; what the data lack is broken().
std::vector<std::uint8_t> unpack_strip(Bytes data, std::uint32_t compression, std::size_t size);

}  // namespace lathe::image
