// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.matmul.cublaslt and cuda.conv.cudnn from plan to run against the ops' references: types, orders of operands, strides, tails, batches, moving to
// other extents, graphs. Compiled twice: for machines with a GPU and NVIDIA's libraries, and over fakes of all three, which compute on the host.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cudnn.h"
#include "candidate_runner.h"

namespace lathe {
namespace {

using builder::test::ModelMaker;
using testing_gpu::GpuCandidate;
using testing_gpu::Trial;

class VendorTest : public testing::Test {
 protected:
  void SetUp() override { device = cuda::Device::open(0); }
  void check(std::shared_ptr<ir::Model> model, const char* op, const char* candidate, const Trial& trial, const std::string& what) {
    SCOPED_TRACE(what);
    EXPECT_GE(GpuCandidate(device, std::move(model), op, candidate, trial).check(), 1U);
  }
  std::string declined(std::shared_ptr<ir::Model> model, const char* op, const char* candidate, const Trial& trial) {
    const ops::Verdict verdict = GpuCandidate(device, std::move(model), op, candidate, trial).verdict();
    EXPECT_FALSE(verdict.yes);
    return verdict.reason;
  }
  std::shared_ptr<cuda::Device> device;
};

Trial trial_in(const char* precision) {
  Trial trial;
  if (precision == std::string("bf16")) trial.storage = DType::kBFloat16, trial.allowed = 1.2e-2;
  if (precision == std::string("tf32")) trial.storage = DType::kFloat32, trial.tf32 = true, trial.allowed = 5e-4;
  if (precision == std::string("fp32")) trial.storage = DType::kFloat32, trial.allowed = 1e-5;
  return trial;
}

/// A constant of coarse numbers, exact in every storage type.
ir::Value* coarse(ModelMaker& m, Dims dims) {
  static std::uint32_t seed = 0;
  ir::Value* value = m.weight(std::move(dims));
  testing_gpu::coarsen(value->constant, ++seed);
  return value;
}

class Cublaslt : public VendorTest {
 protected:
  void SetUp() override {
    VendorTest::SetUp();
    std::string why;
    if (!cuda::cublaslt::Library::find(&why)) GTEST_SKIP() << why;
  }
};
constexpr const char* kCublaslt = "cuda.matmul.cublaslt";

ir::Attrs tanh_gelu() {
  ir::Attrs attrs;
  attrs.set("approximate", std::string("tanh"));
  return attrs;
}

struct MatMulCase {
  std::int64_t batch, rows, depth, columns;
  bool bias, gelu;
  int residual;  // 0: none; 1: added to the product
  bool gemm;
};

std::shared_ptr<ir::Model> product(const MatMulCase& c, const ir::Dim& batch) {
  ModelMaker m(11);
  ir::Value* y = nullptr;
  ir::Shape in{batch, c.rows, c.depth}, out{batch, c.rows, c.columns};
  if (c.gemm) in = {batch, c.depth}, out = {batch, c.columns};
  ir::Value* x = m.input("x", in);
  if (c.gemm) {
    ir::Attrs attrs;
    attrs.set("transB", std::int64_t{1});
    attrs.set("alpha", 0.5F);
    attrs.set("beta", 2.0F);
    y = c.bias ? m.add("Gemm", {x, coarse(m, {c.columns, c.depth}), coarse(m, {c.columns})}, attrs)
               : m.add("Gemm", {x, coarse(m, {c.columns, c.depth})}, attrs);
  } else {
    y = m.add("MatMul", {x, coarse(m, {c.depth, c.columns})});
    if (c.bias) y = m.add("Add", {y, coarse(m, {c.columns})});
  }
  if (c.residual) y = m.add("Add", {y, m.input("r", out)});
  if (c.gelu) y = m.add("Gelu", {y}, tanh_gelu());
  return m.finish({y});
}

TEST_F(Cublaslt, ProductsWithConstantsInEveryTypeAtOtherBatches) {
  const MatMulCase cases[] = {{3, 7, 32, 40, true, false, 0, false},   {2, 13, 24, 16, true, true, 0, false}, {1, 64, 128, 96, false, false, 1, false},
                              {4, 5, 64, 24, true, false, 1, false},   {6, 1, 48, 72, true, true, 0, true},   {5, 1, 33, 17, true, false, 0, true},
                              {2, 50, 64, 192, true, false, 0, false}, {1, 9, 40, 600, false, false, 0, true}};
  for (const char* precision : {"fp16", "bf16", "tf32", "fp32"})
    for (const MatMulCase& c : cases)
      for (const std::int64_t extra : {0, 8}) {
        Trial trial = trial_in(precision);
        trial.extra = extra;
        trial.planned = {{"n", 2}};
        trial.at = {{"n", c.batch}};
        check(product(c, ir::Dim::symbol("n")), c.gemm ? "Gemm" : "MatMul", kCublaslt, trial,
              fmt::format("{}: {} x {} x {} x {}, rows {} apart", precision, c.batch, c.rows, c.depth, c.columns, extra));
      }
}

TEST_F(Cublaslt, ReadsAndWritesAtAddressesThatFillNoPiece) {
  for (const char* precision : {"fp16", "tf32"}) {
    Trial trial = trial_in(precision);
    trial.shift = 1;
    trial.planned = trial.at = {{"n", 2}};
    check(product({2, 12, 32, 24, true, false, 0, false}, ir::Dim::symbol("n")), "MatMul", kCublaslt, trial, precision);
  }
}

TEST_F(Cublaslt, ProductsOfTwoRuntimeOperands) {
  for (const char* precision : {"fp16", "bf16", "tf32"})
    for (const std::vector<std::int64_t>& order : {std::vector<std::int64_t>{0, 1, 2}, {0, 2, 1}}) {
      ModelMaker m(2);
      ir::Attrs perm;
      perm.set("perm", order);
      const ir::Dim n = ir::Dim::symbol("n");
      const bool turned = order[1] == 2;
      ir::Value* b = m.input("b", turned ? ir::Shape{n, 24, 32} : ir::Shape{n, 32, 24});
      if (turned) b = m.add("Transpose", {b}, perm);
      ir::Value* y = m.add("Mul", {m.add("MatMul", {m.input("a", {n, 16, 32}), b}), m.floats({0.25F})});
      Trial trial = trial_in(precision);
      trial.planned = {{"n", 4}};
      trial.at = {{"n", 6}};
      check(m.finish({y}), "MatMul", kCublaslt, trial, fmt::format("{} {}", precision, turned ? "turned" : "as it is"));
    }
}

/// [batch, tokens, heads, size] read as [batch, heads, tokens, size]: two batch axes that do not merge.
std::shared_ptr<ir::Model> attention(std::int64_t batch, std::int64_t heads) {
  ModelMaker m(3);
  ir::Attrs rows, columns;
  rows.set("perm", std::vector<std::int64_t>{0, 2, 1, 3});
  columns.set("perm", std::vector<std::int64_t>{0, 2, 3, 1});
  ir::Value* q = m.add("Transpose", {m.input("q", {batch, 10, heads, 16})}, rows);
  ir::Value* k = m.add("Transpose", {m.input("k", {batch, 10, heads, 16})}, columns);
  return m.finish({m.add("MatMul", {q, k})});
}

TEST_F(Cublaslt, BatchesOfHeads) {
  for (const auto& [batch, heads] : {std::pair<std::int64_t, std::int64_t>{1, 3}, {2, 5}, {5, 2}})
    check(attention(batch, heads), "MatMul", kCublaslt, trial_in("fp16"), fmt::format("{} x {} heads", batch, heads));
  EXPECT_NE(declined(attention(8, 6), "MatMul", kCublaslt, trial_in("fp16")).find("calls of cuBLASLt"), std::string::npos);
}

TEST_F(Cublaslt, DeclinesWhatMeansSomethingElse) {
  const auto with = [](const char* op, ir::Attrs attrs, bool residual) {
    ModelMaker m(4);
    ir::Value* y = m.add(op, {m.add("MatMul", {m.input("x", {4, 32}), coarse(m, {32, 16})})}, std::move(attrs));
    if (residual) y = m.add("Add", {y, m.input("r", {4, 16})});
    return m.finish({y});
  };
  EXPECT_NE(declined(with("Gelu", {}, false), "MatMul", kCublaslt, trial_in("fp16")).find("no such activation"), std::string::npos);
  EXPECT_NE(declined(with("Relu", {}, false), "MatMul", kCublaslt, trial_in("fp16")).find("turns NaN into 0"), std::string::npos);
  EXPECT_NE(declined(with("Gelu", tanh_gelu(), true), "MatMul", kCublaslt, trial_in("fp16")).find("behind an activation"), std::string::npos);
}

TEST_F(Cublaslt, KeepsNan) {
  for (const char* precision : {"fp16", "bf16", "tf32"})
    for (const char* activation : {"", "Gelu"}) {
      ModelMaker m(5);
      ir::Value* y = m.add("MatMul", {m.input("x", {40, 64}), coarse(m, {64, 72})});
      if (*activation) y = m.add(activation, {y}, activation == std::string("Gelu") ? tanh_gelu() : ir::Attrs{});
      Trial trial = trial_in(precision);
      trial.nan_input = "x";
      check(m.finish({y}), "MatMul", kCublaslt, trial, fmt::format("{} '{}'", precision, activation));
    }
}

class Cudnn : public VendorTest {
 protected:
  void SetUp() override {
    VendorTest::SetUp();
    std::string why;
    if (!cuda::cudnn::Library::find(&why)) GTEST_SKIP() << why;
  }
  int fused = 0, not_fused = 0;
};
constexpr const char* kCudnn = "cuda.conv.cudnn";

struct ConvCase {
  std::int64_t cin, cout, kernel, stride, pad, dilation, groups, height, width;
  bool bias;
  const char* activation;
  int residual;  // 0: none; 1: before the activation; 2: behind it
};

/// Between two copies, so that what it reads and writes is no memory of the caller's.
std::shared_ptr<ir::Model> convolution(const ConvCase& c, const ir::Dim& height, const ir::Dim& n = ir::Dim(2)) {
  ModelMaker m(6);
  ir::Value* x = m.add("Neg", {m.input("x", {n, c.cin, height, c.width})});
  ir::Attrs attrs;
  attrs.set("kernel_shape", std::vector<std::int64_t>{c.kernel, c.kernel});
  attrs.set("strides", std::vector<std::int64_t>{c.stride, c.stride});
  attrs.set("pads", std::vector<std::int64_t>{c.pad, c.pad, c.pad, c.pad});
  attrs.set("dilations", std::vector<std::int64_t>{c.dilation, c.dilation});
  attrs.set("group", c.groups);
  ir::Value* w = coarse(m, {c.cout, c.cin / c.groups, c.kernel, c.kernel});
  ir::Value* y = c.bias ? m.add("Conv", {x, w, coarse(m, {c.cout})}, attrs) : m.add("Conv", {x, w}, attrs);
  const auto add = [&] { y = m.add("Add", {y, m.add("Neg", {m.input("r", {n, c.cout, height, c.width})})}); };
  if (c.residual == 1) add();
  const std::string activation = c.activation;
  if (activation == "Silu") y = m.silu(y);
  else if (!activation.empty()) y = m.add(activation, {y});
  if (c.residual == 2) add();
  return m.finish({m.add("Neg", {y})});
}

TEST_F(Cudnn, ConvolutionsInEveryType) {
  const ConvCase cases[] = {{32, 64, 3, 1, 1, 1, 1, 9, 11, true, "Silu", 0}, {64, 32, 1, 1, 0, 1, 1, 8, 8, true, "", 1},
                            {16, 48, 3, 2, 1, 1, 1, 14, 10, true, "", 0},    {32, 32, 3, 1, 2, 2, 1, 12, 12, true, "Silu", 2},
                            {64, 64, 3, 1, 1, 1, 4, 7, 7, false, "Silu", 0}, {24, 40, 1, 1, 0, 1, 1, 5, 6, true, "Sigmoid", 0}};
  for (const char* precision : {"fp16", "bf16", "tf32"})
    for (const ConvCase& c : cases)
      for (const std::int64_t extra : {0, 8}) {
        Trial trial = trial_in(precision);
        trial.extra = extra;
        const std::string what = fmt::format("{}: {}x{} kernel, {} to {} channels, {} groups, '{}', residual {}, pixels {} more apart", precision, c.kernel,
                                             c.kernel, c.cin, c.cout, c.groups, c.activation, c.residual, extra);
        // What the library fuses is its own matter; that it says no is none of a failure.
        const ops::Verdict verdict = GpuCandidate(device, convolution(c, c.height), "Conv", kCudnn, trial).verdict();
        if (!verdict.yes && verdict.reason.starts_with("cuDNN does not run it")) {
          std::printf("%s: %s\n", what.c_str(), verdict.reason.c_str());
          ++not_fused;
          continue;
        }
        check(convolution(c, c.height), "Conv", kCudnn, trial, what);
        ++fused;
      }
  EXPECT_GT(fused, not_fused);
}

TEST_F(Cudnn, KeepsNan) {
  for (const char* precision : {"fp16", "bf16", "tf32"})
    for (const char* activation : {"", "Relu", "LeakyRelu", "Silu", "Sigmoid"}) {
      Trial trial = trial_in(precision);
      trial.nan_input = "x";
      const auto model = convolution({32, 64, 3, 1, 1, 1, 1, 9, 11, true, activation, 0}, 9);
      if (GpuCandidate(device, model, "Conv", kCudnn, trial).verdict().yes) check(model, "Conv", kCudnn, trial, fmt::format("{} '{}'", precision, activation));
    }
}

TEST_F(Cudnn, MovesToPlansThatExist) {
  GpuCandidate(device, convolution({32, 48, 3, 1, 1, 1, 1, 9, 11, true, "Silu", 0}, 9), "Conv", kCudnn, trial_in("fp16")).check_moves_where_bound(5);
}

TEST_F(Cudnn, DeclinesWithReasons) {
  const ConvCase c{32, 32, 3, 1, 1, 1, 1, 8, 8, true, "Silu", 0};
  const auto reason = [&](ConvCase changed, const char* precision, ir::Dim height = ir::Dim(8), ir::Dim batch = ir::Dim(2)) {
    Trial trial = trial_in(precision);
    trial.planned = trial.at = {{"n", 2}, {"h", 8}};
    return declined(convolution(changed, height, batch), "Conv", kCudnn, trial);
  };
  EXPECT_NE(reason(c, "fp32").find("TF32"), std::string::npos);
  EXPECT_NE(reason(c, "fp16", ir::Dim::symbol("h")).find("not fixed"), std::string::npos);
  EXPECT_NE(reason(c, "fp16", ir::Dim(8), ir::Dim::symbol("n")).find("not fixed"), std::string::npos);
  ConvCase changed = c;
  changed.activation = "HardSwish";
  EXPECT_NE(reason(changed, "fp16").find("no such activation"), std::string::npos);
  changed = c;
  changed.groups = 32;
  EXPECT_NE(reason(changed, "fp16").find("narrow"), std::string::npos);
  changed = c;
  changed.cin = 12;
  EXPECT_NE(reason(changed, "fp16").find("16 bytes"), std::string::npos);
  // The caller's own memory may begin anywhere.
  ModelMaker m(7);
  const auto model = m.finish({m.conv(m.input("x", {2, 32, 8, 8}), 32, 32, 3)});
  EXPECT_NE(declined(model, "Conv", kCudnn, trial_in("fp16")).find("16 bytes"), std::string::npos);
}

}  // namespace
}  // namespace lathe
