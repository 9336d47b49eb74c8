// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a stranger's file calls things may be any bytes: reports and errors show them as printable UTF-8 of bounded length.

#include <cstddef>
#include <string>
#include <string_view>

namespace lathe {

/// `text` with control characters and bytes that are no UTF-8 as \xNN; cut off with "..." beyond `longest` bytes.
std::string printable(std::string_view text, std::size_t longest = 2000);

/// Does it hold UTF-8 and nothing else? Control characters are UTF-8, too.
bool is_utf8(std::string_view text) noexcept;
/// `text` with bytes that are no UTF-8 as \xNN, and all others kept: for what other languages take as a text.
std::string as_utf8(std::string_view text);

/// The longest front of `text` of at most `bytes` bytes that does not end within a character.
std::string_view whole_characters(std::string_view text, std::size_t bytes) noexcept;

}  // namespace lathe
