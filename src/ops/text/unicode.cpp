// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// UTF-8 by utf8proc, which never reads beyond the length that it is given.
#include <utf8proc.h>

#include "ops/text/text.h"

namespace lathe::ops {

std::optional<std::vector<std::int32_t>> code_points(std::string_view text) {
  std::vector<std::int32_t> points;
  points.reserve(text.size());
  const auto* data = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t at = 0; at < text.size();) {
    utf8proc_int32_t point = -1;
    const auto taken = utf8proc_iterate(data + at, static_cast<utf8proc_ssize_t>(text.size() - at), &point);
    if (taken <= 0 || point < 0) return std::nullopt;
    points.push_back(point);
    at += static_cast<std::size_t>(taken);
  }
  return points;
}

std::string utf8(const std::vector<std::int32_t>& points) {
  std::string text;
  text.reserve(points.size());
  utf8proc_uint8_t bytes[4];
  for (const std::int32_t point : points) {
    const auto length = utf8proc_encode_char(point, bytes);
    text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length));
  }
  return text;
}

std::size_t leading_space(std::string_view text) {
  if (text.empty()) return 0;
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return first == ' ' || (first >= '\t' && first <= '\r') || (first >= 0x1c && first <= 0x1f) ? 1 : 0;
  utf8proc_int32_t point = -1;
  const auto taken = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()), &point);
  if (taken <= 0) return 0;
  const auto category = utf8proc_category(point);
  const bool space = point == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
  return space ? static_cast<std::size_t>(taken) : 0;
}

}  // namespace lathe::ops
