// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See nearest.h.

#include "base/nearest.h"

#include <algorithm>
#include <cctype>
#include <numeric>

namespace lathe {
namespace {

constexpr std::size_t kLongest = 64;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

}  // namespace

std::size_t spelling_distance(std::string_view first, std::string_view second) {
  const std::string a = lower(first.substr(0, kLongest)), b = lower(second);
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::size_t most_spelling_distance(std::string_view word) { return std::max<std::size_t>(1, std::min(word.size(), kLongest) / 3); }

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  std::size_t best = most_spelling_distance(word) + 1;
  std::string found;
  for (const std::string& candidate : candidates) {
    const std::size_t d = spelling_distance(word, candidate);
    if (d < best) {
      best = d;
      found = candidate;
    }
  }
  return found;
}

}  // namespace lathe
