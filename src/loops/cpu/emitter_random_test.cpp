// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Seeded random regions (random_regions.h), emitter against interpreter.

#include "base/swept.h"
#include "loops/cpu/random_regions.h"

namespace lathe::loops::cpu::testing {
namespace {

void check(unsigned seed) {
  const EmitterCase c = Generator(seed).make();
  const auto defects = find_defects(c.region);
  ASSERT_TRUE(defects.empty()) << "seed " << seed << ": " << defects.front() << "\n" << c.region.to_string();
  const std::vector<Tensor> expected = interpret(c.region, c.inputs, c.symbols);
  const double mass = mass_of(c);
  std::vector<Tensor> first;
  try {
    first = run_emitter(c, 1);
  } catch (const Error& error) {
    FAIL() << "seed " << seed << ": " << error.what() << "\n" << c.region.to_string();
  }
  const std::vector<Tensor> threaded = run_emitter(c, 3);
  for (std::size_t o = 0; o < expected.size(); ++o) {
    ASSERT_TRUE(first[o].same_bytes(threaded[o])) << "seed " << seed << ": the thread count changes the result\n" << c.region.to_string();
    for (std::int64_t i = 0; i < expected[o].size(); ++i) {
      if (is_float(expected[o].dtype())) {
        ASSERT_TRUE(close(first[o].as_double(i), expected[o].as_double(i), expected[o].dtype(), mass))
            << "seed " << seed << " output " << o << " element " << i << ": " << first[o].as_double(i) << " instead of " << expected[o].as_double(i) << "\n"
            << c.region.to_string();
      } else {
        ASSERT_EQ(first[o].as_int64(i), expected[o].as_int64(i)) << "seed " << seed << " output " << o << " element " << i << "\n" << c.region.to_string();
      }
    }
  }
}

TEST(Emitter, RandomRegionsMatchTheInterpreter) {
  for_each_target([](std::string_view target) {
    SCOPED_TRACE(std::string(target));
    for (unsigned seed = 0; seed < 1000 && !::testing::Test::HasFailure(); ++seed)
      if (test::swept(seed)) check(seed);
  });
}

}  // namespace
}  // namespace lathe::loops::cpu::testing
