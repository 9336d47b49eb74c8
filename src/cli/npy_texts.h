// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Texts in .npy files: NumPy keeps them in fields of one width, as UTF-32 ("<U5") or bytes ("|S5"), filled up with zeros.

#include <optional>
#include <string>
#include <string_view>

#include "base/tensor.h"

namespace lathe::cli {

/// Of an element type: where its numbers are characters of texts.
struct TextField {
  std::size_t characters = 0;
  bool wide = false;     ///< UTF-32
  bool swapped = false;  ///< the other byte order
  std::size_t bytes() const noexcept { return wide ? 4 * characters : characters; }
};
std::optional<TextField> text_field(std::string_view descr);

/// `count` texts, one after the other, as UTF-8.
std::vector<std::string> read_texts(const TextField& field, const std::byte* from, std::int64_t count);

/// The array as NumPy keeps it: element type and bytes. Texts that are no UTF-8 are bytes.
struct NumpyTexts {
  std::string descr, bytes;
};
NumpyTexts write_texts(const Tensor& texts);

}  // namespace lathe::cli
