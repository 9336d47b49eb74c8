// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Fused attention on a GPU: every spelling, mask and head size, odd numbers of queries and keys, held against the oracle by the builder's own
// verification; then many batches and lengths from one engine against the CPU's.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>

#include "regions/attention/test_models.h"
#include "builder/builder.h"
#include "runtime/context.h"
#include "verified_build.h"

namespace lathe {
namespace {

using builder::test::attention_model;
using builder::test::AttentionCase;
using builder::test::Mask;
using builder::test::Spelling;

std::shared_ptr<const runtime::Engine> build(const std::shared_ptr<ir::Model>& model, const char* precision,
                                             std::map<std::string, builder::ShapeRange> shapes = {}) {
  auto result = verified_build(model, precision, 3, std::move(shapes));
  if (!result) return nullptr;
  EXPECT_TRUE(std::any_of(result->report.regions.begin(), result->report.regions.end(), [](const auto& region) { return region.pattern == "attention"; }));
  return runtime::Engine::create(std::move(result->engine));
}

TEST(GpuAttention, Spellings) {
  using D = ir::Dim;
  const AttentionCase cases[] = {
      {D(1), D(197), D(197), 3, 64, 64, Mask::kNone, Spelling::kSeparate, false},
      {D(2), D(197), D(197), 4, 64, 64, Mask::kNone, Spelling::kGather, false},
      {D(2), D(128), D(128), 2, 64, 64, Mask::kKeys, Spelling::kSplit, false},
      {D(3), D(50), D(50), 4, 32, 32, Mask::kNone, Spelling::kFlat, false},
      {D(2), D(33), D(77), 2, 64, 64, Mask::kNone, Spelling::kSeparate, true},
      {D(2), D(65), D(300), 2, 80, 80, Mask::kNone, Spelling::kFlat, true},
      {D(1), D(130), D(130), 2, 128, 128, Mask::kCausal, Spelling::kSeparate, false},
      {D(1), D(40), D(40), 2, 96, 64, Mask::kFull, Spelling::kSplit, false},
      {D(1), D(40), D(40), 2, 64, 128, Mask::kCausal, Spelling::kSplit, false},
      {D(2), D(20), D(20), 2, 64, 64, Mask::kEmptyRow, Spelling::kSeparate, false},
      {D(1), D(1), D(513), 4, 64, 64, Mask::kKeys, Spelling::kSeparate, true},
      {D(1), D(9), D(9), 3, 20, 20, Mask::kNone, Spelling::kSeparate, false},  // no whole 16 bytes
      {D(1), D(9), D(9), 1, 17, 17, Mask::kNone, Spelling::kSplit, false},
      {D(1), D(1024), D(1024), 4, 64, 64, Mask::kNone, Spelling::kSeparate, false},
      {D(8), D(256), D(256), 12, 64, 64, Mask::kNone, Spelling::kSplit, false},
  };
  std::uint32_t seed = 1;
  for (const AttentionCase& c : cases)
    for (const char* precision : {"fp16", "bf16"}) {
      SCOPED_TRACE(fmt::format("{} x {} by {}, {} heads of {} and {}, mask {}, spelling {}, {}", c.batch.to_string(), c.queries.to_string(), c.keys.to_string(),
                               c.heads, c.size, c.value_size, static_cast<int>(c.mask), static_cast<int>(c.spelling), precision));
      build(attention_model(c, seed++), precision);
    }
}

TEST(GpuAttention, OneEngineForManyBatchesAndLengths) {
  AttentionCase c;
  c.batch = ir::Dim::symbol("batch");
  c.queries = c.keys = ir::Dim::symbol("tokens");
  c.heads = 3;
  c.mask = Mask::kKeys;
  const auto model = attention_model(c);
  const auto engine = build(model, "fp16", {{"x", {{1, 1, 192}, {2, 60, 192}, {16, 520, 192}}}, {"mask", {{1, 1, 1, 1}, {2, 1, 1, 60}, {16, 1, 1, 520}}}});
  ASSERT_TRUE(engine);
  builder::BuildOptions on_cpu;
  on_cpu.use_cache = false;
  on_cpu.budget_seconds = 0;
  const auto reference = runtime::Engine::create(builder::build_engine(model, on_cpu).engine);
  runtime::Context context(engine), truth(reference);
  for (const std::int64_t n : {1, 2, 5, 16})
    for (const std::int64_t t : {1, 2, 15, 16, 17, 63, 64, 65, 130, 257, 520}) {
      std::vector<float> x(static_cast<std::size_t>(n * t * 192)), mask(static_cast<std::size_t>(n * t));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 2654435761u) % 1000) / 500.0F - 1;
      for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = static_cast<std::int64_t>(i) % t > 0 && i % 3 == 1 ? -3.4e38F : 0.0F;
      const std::int64_t dims[] = {n, t, 192}, mask_dims[] = {n, 1, 1, t};
      const runtime::InputView views[] = {{x.data(), DType::kFloat32, dims}, {mask.data(), DType::kFloat32, mask_dims}};
      ASSERT_TRUE(context.run(views, {})) << n << "x" << t;
      ASSERT_TRUE(truth.run(views, {}));
      const auto got = context.output(0), want = truth.output(0);
      ASSERT_TRUE(std::equal(got.dims.begin(), got.dims.end(), want.dims.begin(), want.dims.end()));
      const auto *a = static_cast<const float*>(got.data), *b = static_cast<const float*>(want.data);
      float scale = 0, error = 0;
      for (std::int64_t i = 0; i < n * t * 192; ++i) {
        scale = std::max(scale, std::abs(b[i]));
        error = std::max(error, std::abs(a[i] - b[i]));
        ASSERT_TRUE(std::isfinite(a[i])) << n << "x" << t << " at " << i;
      }
      ASSERT_LE(error, 5e-3F * scale) << n << "x" << t;
    }
}

}  // namespace
}  // namespace lathe
