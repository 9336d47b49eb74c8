// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// "Did you mean": the known words that are spelled most like one that is not.

#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// Insertions, deletions and replacements that make one word of the other; case counts nothing.
std::size_t spelling_distance(std::string_view a, std::string_view b);
/// How far a candidate may be from `word` to be worth naming.
std::size_t most_spelling_distance(std::string_view word);
/// The candidate that is spelled most like `word`, if any is near; "" otherwise.
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace lathe
