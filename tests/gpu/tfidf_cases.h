// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of cuda.tfidf, whose kernels a GPU and, through tests/host_cuda, the CPU run: see kernel_cases.h.

#include "kernel_cases.h"
#include "ops/ml/ml_test_models.h"
#include "ops/text/tfidf_plan.h"

namespace lathe::testing_gpu {

struct TfIdfCase {
  Dims dims;
  std::string mode = "TF";
  std::int64_t shortest = 1, longest = 1, skips = 0;
  std::vector<std::int64_t> grams{4};  ///< how many of each length the model has
  std::int64_t distinct = 5;           ///< tokens there are
  std::int64_t spread = 1;             ///< apart from each other
  std::int64_t coordinates = 0;        ///< of which the n-grams have some; 0: each its own
  bool weights = true;
  DType type = DType::kInt64, y_type = DType::kFloat32;
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const {
    return fmt::format("{} of {} {} n-grams of {} to {} skips {} in all {} tokens {} apart {} coordinates {}{} to {} extra {} shift {}", mode, dtype_name(type),
                       to_string(dims), shortest, longest, skips, to_string(grams), distinct, spread, coordinates, weights ? " weights" : "",
                       dtype_name(y_type), extra, shift);
  }

  ir::Attrs attrs() const {
    ops::testing::Random random{static_cast<std::uint64_t>(17 + grams.front() + skips % 1000 + distinct)};
    std::vector<std::int64_t> pool, starts, indexes;
    for (std::size_t level = 0; level < grams.size(); ++level) {
      starts.push_back(static_cast<std::int64_t>(pool.size()));
      for (std::int64_t gram = 0; gram < grams[level]; ++gram) {
        // Some stand there twice, of which the last counts.
        for (std::size_t k = 0; k <= level; ++k) pool.push_back((random.below(distinct) - distinct / 3) * spread);
        indexes.push_back(coordinates > 0 ? random.below(coordinates) : static_cast<std::int64_t>(indexes.size()));
      }
    }
    for (std::size_t i = indexes.size(); coordinates == 0 && i-- > 1;)
      std::swap(indexes[i], indexes[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i + 1)))]);
    ir::Attrs all;
    all.set("mode", mode);
    all.set("min_gram_length", shortest);
    all.set("max_gram_length", longest);
    all.set("max_skip_count", skips);
    all.set("ngram_counts", starts);
    all.set("ngram_indexes", indexes);
    all.set("pool_int64s", pool);
    // Sums of thirds are of another value in another order.
    if (weights) {
      std::vector<float> values;
      for (std::size_t i = 0; i < indexes.size(); ++i) values.push_back(static_cast<float>(random.number() / 3));
      all.set("weights", values);
    }
    return all;
  }
};

struct TfIdfTensors {
  GuardedTensor x, y;
  std::vector<std::byte> tables;
  Tensor wanted;

  explicit TfIdfTensors(const TfIdfCase& c) {
    Tensor input(c.type, c.dims);
    ops::testing::Random random{static_cast<std::uint64_t>(input.size() + c.distinct)};
    for (std::int64_t i = 0; i < input.size(); ++i) input.set_from_int64(i, (random.below(c.distinct + 1) - c.distinct / 3) * c.spread);
    x = GuardedTensor(rows_desc(c.type, c.dims, c.extra), c.shift);
    x.fill(input);
    ir::Graph graph;
    ir::Value* in = graph.add_input("x", ir::Type::tensor(c.type, ir::Shape(c.dims.begin(), c.dims.end())));
    const ir::Node* node = graph.add_node("", "TfIdfVectorizer", {in}, {"y"}, c.attrs());
    wanted = ops::evaluate_node(*node, std::span(&input, 1))[0].cast(c.y_type);
    y = GuardedTensor(rows_desc(c.y_type, wanted.dims(), c.extra), c.shift);
    tables = plan::find_pack_function("cuda.tfidf.pack")->pack(c.attrs(), {});
  }
  void compare() {
    const Tensor got = y.read();
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const double a = got.as_double(i), b = wanted.as_double(i);
      ASSERT_TRUE(a == b && std::signbit(a) == std::signbit(b)) << "element " << i << ": " << a << " instead of " << b;
    }
    EXPECT_TRUE(y.is_intact()) << "bytes beside the result were written";
  }
};

/// `large`: what a CPU which plays a GPU takes long for, too.
inline std::vector<TfIdfCase> tfidf_cases(bool large) {
  std::vector<TfIdfCase> cases;
  std::int64_t number = 0;
  constexpr std::int64_t kAny = std::int64_t{1} << 62;
  for (const char* mode : {"TF", "IDF", "TFIDF"})
    for (const std::int64_t skips : {std::int64_t{0}, std::int64_t{1}, std::int64_t{4}, kAny})
      for (const auto& [shortest, longest] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {1, 3}, {2, 2}, {2, 3}, {3, 3}, {1, 9}, {4, 7}})
        for (const std::int64_t coordinates : {0, 7, 1000}) {
          ++number;
          cases.push_back({.dims = number % 3 == 0 ? Dims{41} : Dims{3, 1 + number % 30},
                           .mode = mode,
                           .shortest = shortest,
                           .longest = longest,
                           .skips = skips,
                           .grams = {4, 11, 17},
                           .distinct = 3 + number % 4,
                           .spread = number % 2   ? 1
                                     : number % 4 ? 1000003
                                                  : 100,
                           .coordinates = coordinates,
                           .weights = number % 5 != 0,
                           .type = number % 2 ? DType::kInt32 : DType::kInt64,
                           .extra = number % 4,
                           .shift = static_cast<std::size_t>(number % 2)});
        }
  // Tokens that 32 bits do not hold.
  cases.push_back({.dims = {2, 50}, .longest = 2, .skips = 1, .grams = {5, 9}, .distinct = 9, .spread = std::int64_t{1} << 32});
  cases.push_back({.dims = {2, 50}, .longest = 2, .skips = 1, .grams = {5, 9}, .distinct = 9, .spread = (std::int64_t{1} << 32) + 1, .type = DType::kInt32});
  // Rows of no tokens, no rows, one token, rows of several blocks.
  for (const Dims& dims : {Dims{0}, Dims{3, 0}, Dims{0, 4}, Dims{1}, Dims{1, 1}, Dims{255}, Dims{256}, Dims{257}, Dims{2, 700}})
    cases.push_back({.dims = dims, .mode = "TFIDF", .longest = 2, .skips = 2, .grams = {3, 5}, .coordinates = 4});
  // Many n-grams, none of a wanted length, none at all of the second.
  cases.push_back({.dims = {4, 300}, .mode = "TFIDF", .longest = 3, .skips = 3, .grams = {400, 3000, 900}, .distinct = 40, .coordinates = 2000});
  cases.push_back({.dims = {2, 30}, .mode = "TFIDF", .shortest = 3, .longest = 5, .grams = {4, 6}});
  cases.push_back({.dims = {2, 30}, .mode = "TFIDF", .longest = 3, .skips = 2, .grams = {4, 0, 12}, .distinct = 3});
  // Types that the result may be stored in.
  for (const DType type : {DType::kFloat16, DType::kBFloat16})
    cases.push_back({.dims = {3, 20}, .mode = "TFIDF", .longest = 2, .grams = {4, 6}, .distinct = 4, .coordinates = 5, .y_type = type, .extra = 1});
  if (large) {
    cases.push_back({.dims = {65540, 2}, .mode = "IDF", .grams = {2}, .distinct = 3});
    cases.push_back({.dims = {2, 200000}, .mode = "TFIDF", .longest = 3, .skips = 5, .grams = {300, 9000, 20000}, .distinct = 100, .coordinates = 9000});
    cases.push_back({.dims = {300000}, .longest = 2, .grams = {2, 2}, .distinct = 2, .type = DType::kInt32});
    cases.push_back({.dims = {3000, 200}, .mode = "TFIDF", .longest = 2, .skips = 1, .grams = {2000, 9000}, .distinct = 3000});
    cases.push_back({.dims = {2, 5000}, .mode = "TFIDF", .shortest = 2, .longest = 2, .skips = kAny, .grams = {0, 50}, .distinct = 30});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
