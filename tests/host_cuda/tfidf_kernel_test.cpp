// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernels of TfIdfVectorizer, as they are, on the CPU: every launch of a plan, exactly as the op's reference. And n-grams that would lead them
// astray, which are refused.

#include "../gpu/tfidf_cases.h"
#include "base/sanitizers.h"
#include "host_cuda.h"
#include "ops/text/tfidf.cu"

namespace lathe {
namespace {

using ops::TfIdfKernelKind;

bool plan_of(const testing_gpu::TfIdfTensors& t, std::span<const std::byte> tables, ops::TfIdfPlan& plan, std::string& why) {
  const std::vector<plan::TensorDesc> ins{t.x.desc}, outs{t.y.desc};
  return ops::tfidf_read(tables, plan, why) && ops::tfidf_plan(ins, outs, plan, why);
}

TEST(TfIdfKernels, CountAsTheReferenceDoes) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers do not follow fibers";
#endif
  for (const testing_gpu::TfIdfCase& c : testing_gpu::tfidf_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::TfIdfTensors t(c);
    ops::TfIdfPlan plan;
    std::string why;
    ASSERT_TRUE(plan_of(t, t.tables, plan, why)) << why;
    // As if rows were many.
    if (c.shift > 0) plan.slab = std::min<std::int64_t>(plan.slab, 2);
    struct alignas(64) Piece {
      std::byte bytes[64];
    };
    // At a multiple of 64 bytes, as the runtime has them; counts of nonsense.
    std::vector<Piece> tables(t.tables.size() / 64 + 1);
    std::memcpy(tables.data(), t.tables.data(), t.tables.size());
    std::vector<std::byte> scratch(plan.scratch_bytes() + 128, std::byte{0xFF});
    std::byte* const begin = scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64) % 64;
    cuda::TfIdfParams params = plan.params;
    plan.set_addresses(params, tables.data(), begin);
    params.x = t.x.data();
    params.y = t.y.data();
    ASSERT_TRUE(ops::tfidf_launches(plan, params, [&](TfIdfKernelKind kind, unsigned grid_x, unsigned grid_y, const cuda::TfIdfParams& p) {
      const auto kernel = kind == TfIdfKernelKind::kClear ? tfidf_clear : kind == TfIdfKernelKind::kCount ? tfidf_count : tfidf_weigh;
      const std::string wrong = host_cuda::launch(grid_x, grid_y, 1, cuda::kTfIdfThreads, [&] { kernel(p); });
      EXPECT_EQ(wrong, "");
      return wrong.empty();
    }));
    for (const std::byte* at = begin + plan.scratch_bytes(); at < scratch.data() + scratch.size(); ++at)
      ASSERT_EQ(*at, std::byte{0xFF}) << "written behind the workspace";
    t.compare();
    if (HasFailure()) return;
  }
}

/// An engine file may say anything.
TEST(TfIdfKernels, RefuseNGramsThatLeadAstray) {
  testing_gpu::TfIdfTensors t({.dims = {3, 20}, .longest = 3, .grams = {4, 6, 5}, .coordinates = 30});
  ops::TfIdfPlan good;
  std::string why;
  ASSERT_TRUE(plan_of(t, t.tables, good, why)) << why;
  ASSERT_LT(good.header.used, good.header.size);
  const auto refuses = [&](std::size_t at, auto value, const char* what) {
    std::vector<std::byte> damaged = t.tables;
    std::memcpy(damaged.data() + at, &value, sizeof value);
    ops::TfIdfPlan plan;
    std::string reason;
    EXPECT_FALSE(plan_of(t, damaged, plan, reason)) << what << ": " << value;
    EXPECT_NE(reason, "");
  };
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{8}, sizeof(ops::TfIdfHeader), t.tables.size() - 1}) {
    ops::TfIdfPlan plan;
    EXPECT_FALSE(plan_of(t, std::span(t.tables).first(bytes), plan, why)) << bytes << " bytes";
  }
  constexpr std::int64_t kFar = std::int64_t{1} << 40;
  const std::size_t fields = sizeof(ops::TfIdfHeader) / sizeof(std::int64_t);
  for (std::size_t field = 0; field < fields; ++field) {
    refuses(field * sizeof kFar, std::int64_t{-1}, "a count");
    refuses(field * sizeof kFar, -kFar, "a count");
    if (field + 1 < fields) refuses(field * sizeof kFar, kFar, "a count");  // tokens in between are any number
  }
  for (std::size_t field = 0; field < 4; ++field) refuses(field * sizeof kFar, std::int64_t{100000}, "a count");
  const auto last = static_cast<std::size_t>(good.header.nodes);
  for (const int value : {-1000, 1000, 2147483647, static_cast<int>(-2147483647 - 1)}) {
    for (const std::size_t i : {std::size_t{0}, std::size_t{1}, last}) refuses(good.layout.edges + i * sizeof value, value, "edges");
    refuses(good.layout.grams, value, "an n-gram");
    for (const std::int64_t i : {std::int64_t{0}, std::int64_t{1}, good.header.used})
      refuses(good.layout.starts + static_cast<std::size_t>(i) * sizeof value, value, "a coordinate's n-grams");
    refuses(good.layout.coordinates, value, "a coordinate");
  }
  refuses(good.layout.edges, 1, "edges");
  refuses(good.layout.starts, 1, "a coordinate's n-grams");
  // Tensors of another form.
  const auto refuses_tensors = [&](auto change, const char* what) {
    testing_gpu::TfIdfTensors other({.dims = {3, 20}, .longest = 3, .grams = {4, 6, 5}, .coordinates = 30});
    change(other.x.desc, other.y.desc);
    ops::TfIdfPlan plan;
    EXPECT_FALSE(plan_of(other, other.tables, plan, why)) << what;
  };
  refuses_tensors([](auto& x, auto&) { x.dtype = DType::kFloat32; }, "tokens of floats");
  refuses_tensors([](auto&, auto& y) { y.dtype = DType::kInt32; }, "a result of integers");
  refuses_tensors([](auto& x, auto&) { x.dims[0] = 4; }, "more rows");
  refuses_tensors([](auto&, auto& y) { y.dims[1] += 1; }, "a longer result");
  refuses_tensors([](auto&, auto& y) { y.dims = {3}, y.strides = {1}; }, "a result of another rank");
}

}  // namespace
}  // namespace lathe
