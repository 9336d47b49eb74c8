// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The random kernels, as they are, on the CPU: against the ops' references with a seed, against the distributions without one, and Philox against the numbers
// that its authors publish with Random123.

#include <array>

#include "../gpu/random_cases.h"
#include "base/sanitizers.h"
#include "host_cuda.h"

#undef __shared__
#define __shared__ static
#include "ops/random/random.cu"

namespace lathe {
namespace {

/// As the host half does it. `runs`: without a seed.
void run(testing_gpu::RandomTensors& t, unsigned long long* runs, std::array<std::uint32_t, 2> key) {
  ops::RandomHow how;
  cuda::RandomParams p;
  std::string why;
  ASSERT_TRUE(ops::random_how(t.params, how, why)) << why;
  const plan::TensorDesc inputs[] = {t.x.desc}, outputs[] = {t.y.desc};
  ASSERT_TRUE(ops::random_plan(std::span(inputs).first(ops::reads_input(how.kind) ? 1 : 0), outputs, how, p, why)) << why;
  if (p.count == 0) return;
  Tensor numbers;
  unsigned long long run = ~0ull;
  p.x = ops::reads_input(how.kind) ? t.x.data() : nullptr;
  p.y = t.y.data();
  if (how.seed) {
    numbers = ops::random_numbers(how, p.count);
    ASSERT_TRUE(numbers.defined());
    p.numbers = numbers.raw();
  } else {
    p.key[0] = key[0], p.key[1] = key[1];
    p.runs = runs;
    p.run = &run;
    ASSERT_EQ(host_cuda::launch(1, 1, 1, 32, [&] { ::random_count(p); }), "");
  }
  const auto kernel = [&] {
    if (p.kind == cuda::kRandomBernoulli) ::random_bernoulli(p);
    else if (p.kind == cuda::kRandomMultinomial) ::random_multinomial(p);
    else if (p.seeded) ::random_copy(p);
    else ::random_draw(p);
  };
  ASSERT_EQ(host_cuda::launch(static_cast<unsigned>(ops::random_blocks(p)), 1, 1, cuda::kRandomThreads, kernel), "");
}

TEST(RandomKernels, PhiloxGivesThePublishedNumbers) {
  struct Known {
    std::uint32_t counter[4], key[2], words[4];
  };
  constexpr Known kKnown[] = {{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
                              {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
                              {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};
  for (const Known& known : kKnown) {
    const auto half = [&](int i) { return known.counter[i] | static_cast<cuda::u64>(known.counter[i + 1]) << 32; };
    const cuda::RandomWords words = cuda::philox(half(0), half(2), known.key[0], known.key[1]);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(words.word[i], known.words[i]) << i;
  }
}

TEST(RandomKernels, SeedsGiveWhatTheReferencesDo) {
  for (const testing_gpu::RandomCase& c : testing_gpu::seeded_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::RandomTensors t(c);
    run(t, nullptr, {});
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(RandomKernels, WithoutASeedTheDistributionIsRightAndNoTwoRunsAreAlike) {
  for (const testing_gpu::RandomCase& c : testing_gpu::unseeded_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::RandomTensors t(c);
    unsigned long long runs = 0, others = 0;
    const auto drawn = [&](unsigned long long* counter, std::array<std::uint32_t, 2> key) {
      run(t, counter, key);
      EXPECT_TRUE(t.y.is_intact()) << "bytes beside the result were written";
      const Tensor got = t.y.read();
      t.judge(got);
      return got;
    };
    const Tensor first = drawn(&runs, {0x12345678, 0x9abcdef0}), second = drawn(&runs, {0x12345678, 0x9abcdef0}),
                 other = drawn(&others, {0x12345679, 0x9abcdef0});
    EXPECT_EQ(runs, 2u);
    EXPECT_FALSE(first.same_bytes(second));
    EXPECT_FALSE(first.same_bytes(other));
    others = 1;
    EXPECT_TRUE(second.same_bytes(drawn(&others, {0x12345678, 0x9abcdef0}))) << "key and run tell all";
    if (HasFailure()) return;
  }
}

TEST(RandomKernels, AnElementIsAWordOfItsCounter) {
  testing_gpu::RandomTensors t({.dims = {5000}});
  unsigned long long runs = 0x500000003;
  run(t, &runs, {77, 88});
  const Tensor got = t.y.read();
  for (std::int64_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(got.as_double(i), (cuda::philox(static_cast<cuda::u64>(i / 4), 0x500000003, 77, 88).word[i % 4] >> 8) * 0x1p-24) << i;
}

TEST(RandomKernels, ARowThatIsNoDistributionGivesItsLastClass) {
  for (const float value : {-INFINITY, INFINITY, NAN}) {
    testing_gpu::RandomTensors t({.kind = cuda::kRandomMultinomial, .type = DType::kInt32, .dims = {2, 9}, .classes = 300});
    Tensor input(DType::kFloat32, {2, 300});
    for (std::int64_t i = 0; i < input.size(); ++i) input.set_from_double(i, static_cast<double>(value));
    t.x.fill(input);
    unsigned long long runs = 0;
    run(t, &runs, {1, 2});
    const Tensor got = t.y.read();
    for (std::int64_t i = 0; i < got.size(); ++i) EXPECT_EQ(got.as_int64(i), 299) << value;
  }
}

}  // namespace
}  // namespace lathe
