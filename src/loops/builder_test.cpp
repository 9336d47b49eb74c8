// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Regions built from definitions, run by the interpreter, against straightforward loops.
#include "loops/builder.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "lathe/status.h"
#include "loops/interpreter.h"

namespace lathe::loops {
namespace {

using Indices = RegionBuilder::Indices;
using B = RegionBuilder;

ir::Value make_value(std::string name, DType dtype, ir::Shape shape) {
  ir::Value v;
  v.name = std::move(name);
  v.type = ir::Type::tensor(dtype, std::move(shape));
  return v;
}

Tensor random_tensor(Dims dims, unsigned seed) {
  Tensor t(DType::kFloat32, std::move(dims));
  std::mt19937 gen(seed);
  std::uniform_real_distribution<float> dist(-3, 3);
  for (float& x : t.mutable_data<float>()) x = dist(gen);
  return t;
}

Tensor run_one(const LoopRegion& region, std::vector<Tensor> inputs, const ir::Bindings& symbols) {
  EXPECT_TRUE(find_defects(region).empty()) << find_defects(region).front() << region.to_string();
  EXPECT_EQ(parse_region(region.to_string()).to_string(), region.to_string());
  EXPECT_EQ(parse_region(region.serialize()).to_string(), region.to_string());
  return interpret(region, inputs, symbols).at(0);
}

const ir::Dim kRows = ir::Dim::symbol("rows"), kN = ir::Dim::symbol("n");

TEST(Builder, SoftmaxStoresExpOnceAndMatchesLoops) {
  const ir::Value x = make_value("x", DType::kFloat32, {kRows, kN}), y = make_value("y", DType::kFloat32, {kRows, kN});
  B b;
  const ir::Value* m = b.temporary("max", DType::kFloat32, {kRows});
  const ir::Value* e = b.temporary("e", DType::kFloat32, {kRows, kN});
  const ir::Value* s = b.temporary("sum", DType::kFloat32, {kRows});
  b.define_reduction(
      m, Reduce::kMax, {kN},
      [&](B& r, const Indices& k, const Indices& j) {
        return r.read(&x, {k[0], j[0]});
      },
      DType::kFloat32);
  b.define(e, [&, m](B& r, const Indices& i) { return r.unary(ExprOp::kExp, r.binary(ExprOp::kSub, r.read(&x, i), r.read(m, {i[0]}))); });
  b.define_reduction(
      s, Reduce::kSum, {kN},
      [e](B& r, const Indices& k, const Indices& j) {
        return r.read(e, {k[0], j[0]});
      },
      DType::kFloat32);
  b.define(&y, [=](B& r, const Indices& i) { return r.binary(ExprOp::kDiv, r.read(e, i), r.read(s, {i[0]})); });
  const ir::Value* in[] = {&x};
  const ir::Value* out[] = {&y};
  const LoopRegion region = b.finish(in, out);
  EXPECT_EQ(region.stages.size(), 4u) << region.to_string();  // max, e, sum, y
  const Tensor data = random_tensor({5, 7}, 1);
  const Tensor result = run_one(region, {data}, {{"rows", 5}, {"n", 7}});
  const auto xs = data.data<float>();
  for (int r = 0; r < 5; ++r) {
    double sum = 0;
    for (int j = 0; j < 7; ++j) sum += std::exp(static_cast<double>(xs[r * 7 + j]));
    for (int j = 0; j < 7; ++j) EXPECT_NEAR(result.data<float>()[r * 7 + j], std::exp(static_cast<double>(xs[r * 7 + j])) / sum, 1e-6);
  }
}

TEST(Builder, LayerNormKeepsStatisticsPerRow) {
  const ir::Value x = make_value("x", DType::kFloat32, {kRows, kN}), g = make_value("g", DType::kFloat32, {kN}),
                  y = make_value("y", DType::kFloat32, {kRows, kN});
  B b;
  const ir::Value* mean = b.temporary("mean", DType::kFloat32, {kRows});
  const ir::Value* sum = b.temporary("sum", DType::kFloat32, {kRows});
  const ir::Value* squares = b.temporary("squares", DType::kFloat32, {kRows});
  const ir::Value* inverse = b.temporary("inverse", DType::kFloat32, {kRows});
  const auto count = [](B& r) { return r.cast(r.dim(kN), DType::kFloat32); };
  b.define_reduction(
      sum, Reduce::kSum, {kN},
      [&](B& r, const Indices& k, const Indices& j) {
        return r.read(&x, {k[0], j[0]});
      },
      DType::kFloat32);
  b.define(mean, [=](B& r, const Indices& i) { return r.binary(ExprOp::kDiv, r.read(sum, i), count(r)); });
  const auto centred = [&x, mean](B& r, const Indices& i) { return r.binary(ExprOp::kSub, r.read(&x, i), r.read(mean, {i[0]})); };
  b.define_reduction(
      squares, Reduce::kSum, {kN},
      [=](B& r, const Indices& k, const Indices& j) {
        const ExprId d = centred(r, {k[0], j[0]});
        return r.binary(ExprOp::kMul, d, d);
      },
      DType::kFloat32);
  b.define(inverse, [=](B& r, const Indices& i) {
    return r.unary(ExprOp::kRsqrt, r.binary(ExprOp::kAdd, r.binary(ExprOp::kDiv, r.read(squares, i), count(r)), r.constant(1e-5, DType::kFloat32)));
  });
  b.define(&y, [=, &g](B& r, const Indices& i) {
    return r.binary(ExprOp::kMul, r.binary(ExprOp::kMul, centred(r, i), r.read(inverse, {i[0]})), r.read(&g, {i[1]}));
  });
  const ir::Value* in[] = {&x, &g};
  const ir::Value* out[] = {&y};
  const LoopRegion region = b.finish(in, out);
  for (const Buffer& buffer : region.buffers) {
    if (buffer.role != Role::kTemporary) continue;
    EXPECT_EQ(buffer.shape.size(), 1u) << region.to_string();
  }
  const Tensor data = random_tensor({3, 16}, 2), scale = random_tensor({16}, 3);
  const Tensor result = run_one(region, {data, scale}, {{"rows", 3}, {"n", 16}});
  const auto xs = data.data<float>();
  for (int r = 0; r < 3; ++r) {
    double mu = 0, var = 0;
    for (int j = 0; j < 16; ++j) mu += xs[r * 16 + j] / 16.0;
    for (int j = 0; j < 16; ++j) var += (xs[r * 16 + j] - mu) * (xs[r * 16 + j] - mu) / 16.0;
    for (int j = 0; j < 16; ++j) EXPECT_NEAR(result.data<float>()[r * 16 + j], (xs[r * 16 + j] - mu) / std::sqrt(var + 1e-5) * scale.data<float>()[j], 1e-5);
  }
}

TEST(Builder, PadOfAnInputAndOfAComputedValue) {
  const ir::Value x = make_value("x", DType::kFloat32, {4, kN});
  const ir::Value half = make_value("half", DType::kFloat32, {2, kN}), y = make_value("y", DType::kFloat32, {5, kN + ir::Dim(3)});
  B b;
  b.define(&half, [&](B& r, const Indices& i) {  // rows 1..2 of x, plus one
    return r.binary(ExprOp::kAdd, r.read(&x, {r.binary(ExprOp::kAdd, i[0], r.integer(1)), i[1]}), r.constant(1, DType::kFloat32));
  });
  b.define(&y, [&](B& r, const Indices& i) {
    return r.read_or(&half, {r.binary(ExprOp::kSub, i[0], r.integer(1)), r.binary(ExprOp::kSub, i[1], r.integer(2))}, r.constant(9, DType::kFloat32));
  });
  const ir::Value* in[] = {&x};
  const ir::Value* out[] = {&y};
  const LoopRegion region = b.finish(in, out);
  const Tensor data = random_tensor({4, 6}, 4);
  const Tensor result = run_one(region, {data}, {{"n", 6}});
  for (int r = 0; r < 5; ++r) {
    for (int c = 0; c < 9; ++c) {
      const bool inside = r >= 1 && r < 3 && c >= 2 && c < 8;
      EXPECT_FLOAT_EQ(result.data<float>()[r * 9 + c], inside ? data.data<float>()[r * 6 + c - 2] + 1 : 9) << r << ' ' << c;
    }
  }
}

TEST(Builder, ConcatOfTransposedAndPlainParts) {
  const ir::Value x = make_value("x", DType::kFloat32, {3, 4}), z = make_value("z", DType::kFloat32, {2, 3});
  const ir::Value t = make_value("t", DType::kFloat32, {4, 3}), c = make_value("c", DType::kFloat32, {6, 3}), y = make_value("y", DType::kFloat32, {6, 3});
  B b;
  b.define(&t, [&](B& r, const Indices& i) { return r.read(&x, {i[1], i[0]}); });
  b.define_parts(&c, 0, {{4, [&](B& r, const Indices& i) { return r.read(&t, i); }}, {2, [&](B& r, const Indices& i) { return r.read(&z, i); }}});
  b.define(&y, [&](B& r, const Indices& i) { return r.unary(ExprOp::kNeg, r.read(&c, i)); });
  const ir::Value* in[] = {&x, &z};
  const ir::Value* out[] = {&y, &c};
  const LoopRegion region = b.finish(in, out);
  const Tensor a = random_tensor({3, 4}, 5), d = random_tensor({2, 3}, 6);
  const Tensor result = run_one(region, {a, d}, {});
  for (int r = 0; r < 6; ++r) {
    for (int k = 0; k < 3; ++k) EXPECT_EQ(result.data<float>()[r * 3 + k], -(r < 4 ? a.data<float>()[k * 4 + r] : d.data<float>()[(r - 4) * 3 + k]));
  }
}

TEST(Builder, ExpensiveValueUnderTwoIndexMapsIsStoredCheapOneIsNot) {
  for (const bool expensive : {true, false}) {
    const ir::Value x = make_value("x", DType::kFloat32, {8}), e = make_value("e", DType::kFloat32, {8}), y = make_value("y", DType::kFloat32, {8});
    B b;
    b.define(&e, [&, expensive](B& r, const Indices& i) { return r.unary(expensive ? ExprOp::kExp : ExprOp::kNeg, r.read(&x, i)); });
    b.define(&y, [&](B& r, const Indices& i) { return r.binary(ExprOp::kSub, r.read(&e, i), r.read(&e, {r.binary(ExprOp::kSub, r.integer(7), i[0])})); });
    const ir::Value* in[] = {&x};
    const ir::Value* out[] = {&y};
    const LoopRegion region = b.finish(in, out);
    EXPECT_EQ(region.stages.size(), expensive ? 2u : 1u);
    const Tensor data = random_tensor({8}, 7);
    const Tensor result = run_one(region, {data}, {});
    const auto f = [&](int i) { return expensive ? std::exp(static_cast<double>(data.data<float>()[i])) : -data.data<float>()[i]; };
    for (int i = 0; i < 8; ++i) EXPECT_NEAR(result.data<float>()[i], f(i) - f(7 - i), 1e-5);
  }
}

TEST(Builder, BroadcastThatOnlyTheRunCanJudge) {
  const ir::Value x = make_value("x", DType::kFloat32, {kRows, kN}), y = make_value("y", DType::kFloat32, {ir::Dim::min(4, kN)}),
                  z = make_value("z", DType::kFloat32, {kRows, kN});
  B b;
  b.define(&z, [&](B& r, const Indices& i) { return r.binary(ExprOp::kAdd, r.read(&x, i), r.read_broadcast(&y, z.shape(), i)); });
  const ir::Value* in[] = {&x, &y};
  const ir::Value* out[] = {&z};
  const LoopRegion region = b.finish(in, out);
  ASSERT_EQ(region.requirements.size(), 1u);
  const Tensor rows = random_tensor({2, 3}, 1), row = random_tensor({3}, 2);
  const Tensor sum = run_one(region, {rows, row}, {{"rows", 2}, {"n", 3}});
  for (int k = 0; k < 6; ++k) EXPECT_EQ(sum.data<float>()[k], rows.data<float>()[k] + row.data<float>()[k % 3]);
  const Tensor one = run_one(region, {random_tensor({2, 1}, 1), random_tensor({1}, 2)}, {{"rows", 2}, {"n", 1}});
  EXPECT_EQ(one.dims(), (Dims{2, 1}));
  const Tensor wide[] = {random_tensor({2, 6}, 1), random_tensor({4}, 2)};
  try {
    interpret(region, wide, {{"rows", 2}, {"n", 6}});
    FAIL() << "six elements took part of four";
  } catch (const Error& error) {
    EXPECT_EQ(
        std::string(error.what()),
        "tensor 'y': the extent min(4, n) = 4 does not broadcast to n = 6. Give inputs whose extents agree; a number on one side is a limit of the model.");
  }
}

TEST(Builder, ArgMaxTakesTheFirstUnlessLast) {
  for (const bool last : {false, true}) {
    const ir::Value x = make_value("x", DType::kFloat32, {2, 4}), y = make_value("y", DType::kInt64, {2});
    B b;
    b.define_reduction(
        &y, last ? Reduce::kArgMaxLast : Reduce::kArgMax, {4},
        [&](B& r, const Indices& k, const Indices& j) {
          return r.read(&x, {k[0], j[0]});
        },
        DType::kFloat32);
    const ir::Value* in[] = {&x};
    const ir::Value* out[] = {&y};
    const LoopRegion region = b.finish(in, out);
    const float values[] = {1, 5, 5, 2, -1, -7, -1, -1};
    const Tensor result = run_one(region, {Tensor::from<float>(DType::kFloat32, {2, 4}, values)}, {});
    EXPECT_EQ(result.data<std::int64_t>()[0], last ? 2 : 1);
    EXPECT_EQ(result.data<std::int64_t>()[1], last ? 3 : 0);
  }
}

}  // namespace
}  // namespace lathe::loops
