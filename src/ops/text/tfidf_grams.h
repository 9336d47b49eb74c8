// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A TfIdfVectorizer's attributes, checked: for the reference, and for kernels that have its n-grams in tables.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "ir/attribute.h"
#include "ops/text/tfidf_params.h"

namespace lathe::ops {

// A coordinate is any number in a file, and each row of the output has as many elements.
inline constexpr std::int64_t kTfIdfMostCoordinates = std::int64_t{1} << 28;

struct TfIdfGrams {
  cuda::TfIdfMode mode = cuda::kTfIdfTf;
  std::int64_t shortest = 1, longest = 1, skips = 0, size = 0;  ///< size: of a row of the output
  std::vector<std::int64_t> coordinates;                        ///< of each n-gram
  std::vector<float> weights;                                   ///< or none
  std::vector<std::string> strings;                             ///< one of the two: the tokens of all n-grams
  std::vector<std::int64_t> numbers;
  std::vector<std::int64_t> starts;  ///< of the n-grams of each length among the tokens

  /// `fail(text)` throws.
  template <class Fail>
  TfIdfGrams(const ir::Attrs& attrs, bool of_texts, Fail fail) {
    const std::string name = attrs.get_string("mode", "");
    if (name != "TF" && name != "IDF" && name != "TFIDF") fail("mode is '" + name + "'; it is TF, IDF or TFIDF");
    mode = name == "TF" ? cuda::kTfIdfTf : name == "IDF" ? cuda::kTfIdfIdf : cuda::kTfIdfTfIdf;
    shortest = attrs.get_int("min_gram_length", 0);
    longest = attrs.get_int("max_gram_length", 0);
    skips = attrs.get_int("max_skip_count", 0);
    if (shortest < 1 || longest < shortest) fail("n-grams of " + std::to_string(shortest) + " to " + std::to_string(longest) + " tokens are asked for");
    if (skips < 0) fail("max_skip_count " + std::to_string(skips) + " is negative");
    coordinates = attrs.get_ints("ngram_indexes");
    for (const std::int64_t at : coordinates) {
      if (at < 0 || at >= kTfIdfMostCoordinates)
        fail("ngram_indexes holds " + std::to_string(at) + "; coordinates are from 0 to " + std::to_string(kTfIdfMostCoordinates - 1));
      size = std::max(size, at + 1);
    }
    if (coordinates.empty()) fail("ngram_indexes is empty");
    weights = attrs.get_floats("weights");
    if (!weights.empty() && weights.size() != coordinates.size())
      fail("has " + std::to_string(weights.size()) + " weights for " + std::to_string(coordinates.size()) + " ngram_indexes");
    strings = attrs.get_strings("pool_strings");
    numbers = attrs.get_ints("pool_int64s");
    if (strings.empty() == numbers.empty()) fail("needs one of pool_strings and pool_int64s");
    if (of_texts != numbers.empty()) fail(numbers.empty() ? "its n-grams are of strings, its input is not" : "its n-grams are of numbers, its input is not");
    starts = attrs.get_ints("ngram_counts");
    check_starts(fail);
  }

  std::int64_t tokens() const noexcept { return static_cast<std::int64_t>(std::max(strings.size(), numbers.size())); }
  float weight(std::int64_t gram) const noexcept { return weights.empty() || mode == cuda::kTfIdfTf ? 1.0F : weights[static_cast<std::size_t>(gram)]; }

  /// Calls use(gram, first, n) for each n-gram of a wanted length: its number, and where its tokens are. Of equal ones the last counts.
  template <class Use>
  void for_each(Use use) const {
    std::int64_t gram = 0;
    for (std::size_t level = 0; level < starts.size(); ++level) {
      const auto n = static_cast<std::int64_t>(level) + 1;
      for (std::int64_t at = starts[level]; at < end_of(level); at += n, ++gram)
        if (n >= shortest && n <= longest) use(gram, at, n);
    }
  }

 private:
  std::int64_t end_of(std::size_t level) const noexcept { return level + 1 < starts.size() ? starts[level + 1] : tokens(); }

  template <class Fail>
  void check_starts(Fail fail) const {
    const std::int64_t total = tokens();
    if (total >= std::int64_t{1} << 32) fail("its pool is too long");
    std::int64_t grams = 0;
    for (std::size_t level = 0; level < starts.size(); ++level) {
      const std::int64_t begin = starts[level], end = end_of(level), n = static_cast<std::int64_t>(level) + 1;
      if (begin < 0 || begin > end || end > total) fail("ngram_counts does not ascend within the pool of " + std::to_string(total) + " tokens");
      if ((end - begin) % n != 0) fail("the pool has " + std::to_string(end - begin) + " tokens for n-grams of " + std::to_string(n));
      grams += (end - begin) / n;
      if (grams > static_cast<std::int64_t>(coordinates.size()))
        fail("the pool has more n-grams than ngram_indexes, which has " + std::to_string(coordinates.size()));
    }
  }
};

}  // namespace lathe::ops
