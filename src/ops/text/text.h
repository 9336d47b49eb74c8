// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The definitions of this folder, one function for each file, and what they share: UTF-8 and whitespace.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

std::vector<OpDef> string_normalizer_ops();  // string_normalizer.cpp: StringNormalizer
std::vector<OpDef> string_split_ops();       // string_split.cpp: StringSplit
std::vector<OpDef> tfidf_ops();              // tfidf.cpp: TfIdfVectorizer

/// The code points of UTF-8 text; nullopt when it is none.
std::optional<std::vector<std::int32_t>> code_points(std::string_view text);
std::string utf8(const std::vector<std::int32_t>& points);
/// Bytes of the white space (Unicode's White_Space) that `text` begins with; 0 when it begins with something else.
std::size_t leading_space(std::string_view text);

}  // namespace lathe::ops
