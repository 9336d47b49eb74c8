// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Matrix products against a plain double loop: types, packed and plain B, transposed operands, strides, batches, epilogues, empty extents.
#include "backend/cpu/gemm.h"

#include "backend/cpu/test_util.h"

namespace lathe::cpu {
namespace {

using namespace testing;

float rounded(float x, DType type) { return type == kBF16 ? bfloat16_to_float(float_to_bfloat16(x)) : x; }

struct Case {
  GemmProblem p;
  Epilogue e;
  bool bias = false;
  int residual = 0;  ///< 0 none, 1 per element, 2 one row for all
  DType residual_type = kF32;
  std::int64_t extra = 0;  ///< leading dimensions beyond dense
  int threads = 2;
  DType packed_from = kF32;
};

// Matrices lie as [outer][inner][rows] rows of one buffer.
void check(Case c) {
  GemmProblem& p = c.p;
  const std::int64_t batch = p.batch_outer * p.batch_inner;
  const std::int64_t a_rows = p.trans_a ? p.k : p.m, a_cols = p.trans_a ? p.m : p.k;
  const std::int64_t b_rows = p.trans_b ? p.n : p.k, b_cols = p.trans_b ? p.k : p.n;
  Random random(static_cast<std::uint64_t>(p.m * 131 + p.n * 17 + p.k));
  Buffer a(batch * a_rows, a_cols, a_cols + c.extra, p.a), b(batch * b_rows, b_cols, b_cols + c.extra, p.packed_b ? c.packed_from : p.b);
  Buffer added(batch * p.m, p.n, p.n + c.extra, c.residual_type), out(batch * p.m, p.n, p.n + c.extra, p.c);
  a.fill(random);
  b.fill(random);
  added.fill(random);
  std::vector<float> biases(static_cast<std::size_t>(p.n));
  for (float& x : biases) x = random.uniform();
  p.lda = a.stride();
  p.ldb = b.stride();
  p.ldc = out.stride();
  p.a_inner = a_rows * p.lda;
  p.a_outer = p.a_inner * p.batch_inner;
  p.c_inner = p.m * p.ldc;
  p.c_outer = p.c_inner * p.batch_inner;
  p.b_inner = b_rows * p.ldb;
  p.b_outer = p.b_inner * p.batch_inner;

  GemmArgs args;
  args.a = a.data();
  args.b = b.data();
  std::vector<Scratch> packed;
  if (p.packed_b) {
    const std::size_t bytes = gemm_packed_b_bytes(p), step = (bytes + 63) / 64 * 64;
    packed.emplace_back(step * static_cast<std::size_t>(batch));
    for (std::int64_t i = 0; i < batch; ++i) {
      const char* from = static_cast<const char*>(b.data()) + i * b_rows * b.stride() * (c.packed_from == kF32 ? 4 : 2);
      pack_gemm_b(p, from, c.packed_from, static_cast<char*>(packed[0].data()) + step * static_cast<std::size_t>(i));
    }
    ASSERT_TRUE(packed[0].intact());
    args.b = packed[0].data();
    p.b_inner = static_cast<std::int64_t>(step);
    p.b_outer = p.b_inner * p.batch_inner;
  }
  args.c = out.data();
  args.bias = c.bias ? biases.data() : nullptr;
  if (c.residual) {
    args.residual = added.data();
    args.residual_stride = c.residual == 1 ? added.stride() : 0;
    args.residual_inner = c.residual == 1 ? p.m * added.stride() : 0;
    args.residual_outer = args.residual_inner * p.batch_inner;
    args.residual_type = c.residual_type;
  }
  Scratch scratch(gemm_scratch_bytes(p, c.threads));
  args.scratch = scratch.data();
  ThreadPool pool(c.threads);
  run_gemm(p, c.e, args, pool);
  ASSERT_TRUE(out.intact());
  ASSERT_TRUE(scratch.intact());
  for (std::int64_t i = 0; i < batch; ++i) {
    for (std::int64_t m = 0; m < p.m; ++m) {
      for (std::int64_t n = 0; n < p.n; ++n) {
        double sum = 0, mass = 0;
        for (std::int64_t k = 0; k < p.k; ++k) {
          const double x = rounded(p.trans_a ? a.at(i * a_rows + k, m) : a.at(i * a_rows + m, k), p.b);
          const double y = rounded(p.trans_b ? b.at(i * b_rows + n, k) : b.at(i * b_rows + k, n), p.b);
          sum += x * y;
          mass += std::fabs(x * y);
        }
        sum *= c.e.scale;
        const double r = c.residual == 0 ? 0 : c.e.residual_scale * (c.residual == 1 ? added.at(i * p.m + m, n) : added.at(0, n));
        double x = sum + (c.bias ? biases[static_cast<std::size_t>(n)] : 0);
        if (!c.e.residual_after) x += r;
        double want = activate(c.e, x);
        if (c.e.residual_after) want += r;
        const double got = out.at(i * p.m + m, n);
        ASSERT_LE(std::fabs(got - want), tolerance(2, p.k, mass + std::fabs(r) + 1, want, p.c))
            << isa_name(kernel_table().isa) << " batch " << i << " row " << m << " column " << n << ": " << got << " instead of " << want << "; " << p.m << "x"
            << p.n << "x" << p.k << " ta " << p.trans_a << " tb " << p.trans_b << " packed " << p.packed_b;
      }
    }
  }
}

void check_all_levels(const Case& c) {
  for_each_isa([&](Isa) {
    if (!::testing::Test::HasFatalFailure()) check(c);
  });
}

TEST(Gemm, SizesOperandsAndTypes) {
  for (const DType type : {kF32, kBF16}) {
    for (const bool packed : {false, true}) {
      for (const bool trans_a : {false, true}) {
        for (const bool trans_b : {false, true}) {
          for (const auto& [m, n, k] : std::vector<std::array<std::int64_t, 3>>{
                   {1, 1, 1}, {1, 33, 7}, {3, 16, 64}, {5, 17, 9}, {14, 32, 32}, {29, 100, 31}, {197, 40, 65}, {64, 257, 16}, {2, 1000, 130}, {31, 35, 1029}}) {
            Case c;
            c.p.m = m;
            c.p.n = n;
            c.p.k = k;
            c.p.trans_a = trans_a;
            c.p.trans_b = trans_b;
            c.p.packed_b = packed;
            c.p.a = c.p.b = c.p.c = type;
            c.extra = n % 3 == 1 ? 5 : 0;
            c.bias = k % 2;
            c.packed_from = trans_a && type == kBF16 ? kBF16 : kF32;
            check_all_levels(c);
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST(Gemm, MixedTypes) {
  for (const DType a : {kF32, kBF16}) {
    for (const DType b : {kF32, kBF16}) {
      for (const DType out : {kF32, kBF16}) {
        Case c;
        c.p.m = 23;
        c.p.n = 50;
        c.p.k = 77;
        c.p.a = a;
        c.p.b = b;
        c.p.c = out;
        c.p.packed_b = out == kF32;
        c.p.trans_b = a == kF32;
        check_all_levels(c);
      }
    }
  }
}

TEST(Gemm, BatchesAndEpilogues) {
  for (int activation = 0; activation < kActivationCount; ++activation) {
    for (const int residual : {0, 1, 2}) {
      Case c;
      c.p.m = 11;
      c.p.n = 37;
      c.p.k = 20;
      c.p.batch_outer = 2;
      c.p.batch_inner = 3;
      c.p.trans_b = activation % 2;
      c.p.packed_b = residual == 1;
      c.e = make_epilogue(static_cast<Activation>(activation));
      c.e.scale = 0.25f;
      c.e.residual_scale = 1.5f;
      c.e.residual_after = activation % 3 == 0;
      c.bias = true;
      c.residual = residual;
      c.residual_type = activation % 2 ? kBF16 : kF32;
      c.extra = 2;
      check_all_levels(c);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Gemm, EmptyExtents) {
  for (const auto& [m, n, k] : std::vector<std::array<std::int64_t, 3>>{{0, 5, 4}, {5, 0, 4}, {5, 4, 0}, {0, 0, 0}}) {
    for (const bool packed : {false, true}) {
      Case c;
      c.p.m = m;
      c.p.n = n;
      c.p.k = k;
      c.p.packed_b = packed;
      c.bias = true;  // an empty sum is the bias
      check_all_levels(c);
    }
  }
}

// One chain of 12,544 additions errs by some 4e-6 of the result's scale, chains of a few hundred steps that are added up by 5e-7.
TEST(Gemm, LongSumsKeepTheirAccuracy) {
  for_each_isa([](Isa isa) {
    GemmProblem p;
    p.m = 60;
    p.n = 64;
    p.k = 12544;
    Buffer a(p.m, p.k, p.k, kF32), b(p.k, p.n, p.n, kF32), c(p.m, p.n, p.n, kF32);
    Random random(11);
    b.fill(random);
    for (std::int64_t m = 0; m < p.m; ++m) {
      for (std::int64_t k = 0; k < p.k; ++k) a.set(m, k, random.uniform() + 1);
    }
    ThreadPool pool(1);
    Scratch scratch(gemm_scratch_bytes(p, 1));
    GemmArgs args;
    args.a = a.data();
    args.b = b.data();
    args.c = c.data();
    args.scratch = scratch.data();
    run_gemm(p, {}, args, pool);
    double scale = 0, worst = 0;
    for (std::int64_t m = 0; m < p.m; ++m) {
      for (std::int64_t n = 0; n < p.n; ++n) {
        double sum = 0;
        for (std::int64_t k = 0; k < p.k; ++k) sum += static_cast<double>(a.at(m, k)) * b.at(k, n);
        scale = std::max(scale, std::fabs(sum));
        worst = std::max(worst, std::fabs(sum - c.at(m, n)));
      }
    }
    EXPECT_LT(worst / scale, 1.2e-6) << isa_name(isa);
  });
}

// An odd k in bf16 is padded to a pair: what lies beside it in memory must not take part, not even times zero.
TEST(Gemm, OddPairsDoNotReachTheirNeighbours) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const bool trans_a : {false, true}) {
    for (const bool trans_b : {false, true}) {
      for_each_isa([&](Isa isa) {
        GemmProblem p;
        p.m = 20;
        p.n = 35;
        p.k = 5;
        p.trans_a = trans_a;
        p.trans_b = trans_b;
        p.a = p.b = kBF16;
        // One element more along k everywhere, and that one is NaN.
        Buffer a(trans_a ? 6 : 20, trans_a ? 20 : 6, trans_a ? 20 : 6, kBF16), b(trans_b ? 35 : 6, trans_b ? 6 : 35, trans_b ? 6 : 35, kBF16),
            c(20, 35, 35, kF32);
        Random random(3);
        a.fill(random);
        b.fill(random);
        for (std::int64_t m = 0; m < 20; ++m) trans_a ? a.set(5, m, nan) : a.set(m, 5, nan);
        for (std::int64_t n = 0; n < 35; ++n) trans_b ? b.set(n, 5, nan) : b.set(5, n, nan);
        p.lda = a.stride();
        p.ldb = b.stride();
        ThreadPool pool(2);
        Scratch scratch(gemm_scratch_bytes(p, 2));
        GemmArgs args;
        args.a = a.data();
        args.b = b.data();
        args.c = c.data();
        args.scratch = scratch.data();
        run_gemm(p, {}, args, pool);
        for (std::int64_t m = 0; m < 20; ++m) {
          for (std::int64_t n = 0; n < 35; ++n) ASSERT_FALSE(std::isnan(c.at(m, n))) << isa_name(isa) << " " << m << "," << n;
        }
      });
    }
  }
}

TEST(Gemm, OneThreadAndManyGiveTheSameBytes) {
  Case c;
  c.p.m = 150;
  c.p.n = 300;
  c.p.k = 200;
  c.threads = 1;
  check_all_levels(c);
  Random random(5);
  Buffer a(150, 200, 200, kF32), b(200, 300, 300, kF32), x(150, 300, 300, kF32), y(150, 300, 300, kF32);
  a.fill(random);
  b.fill(random);
  for (Buffer* out : {&x, &y}) {
    ThreadPool pool(out == &x ? 1 : 3);
    Scratch scratch(gemm_scratch_bytes(c.p, pool.size()));
    GemmArgs args;
    args.a = a.data();
    args.b = b.data();
    args.c = out->data();
    args.scratch = scratch.data();
    run_gemm(c.p, {}, args, pool);
  }
  EXPECT_EQ(std::memcmp(x.data(), y.data(), 150 * 300 * 4), 0);
}

}  // namespace
}  // namespace lathe::cpu
