// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What verification grants narrow tensors is the rounding of their own type, whatever else an engine stores.
#include <gtest/gtest.h>

#include "builder/builder.h"
#include "builder/test_models.h"

namespace lathe::builder {
namespace {

TEST(Verify, GrantsTheRoundingOfTheNarrowTypeAlone) {
  test::ModelMaker m(5);
  ir::Value* x = m.input("x", {8, 64});
  ir::Value* y = m.add("Relu", {m.add("MatMul", {x, m.weight({64, 64}, 64)})});
  ir::Value* z = m.add("MatMul", {y, m.weight({64, 32}, 64)});
  ir::Attrs to;
  to.set("to", static_cast<std::int64_t>(DType::kInt64));
  ir::Value* whole = m.add("Cast", {m.add("Mul", {z, m.add("Exp", {z})})}, to);  // stored last, and no float
  BuildOptions options;
  options.precision = Precision::kBFloat16;
  options.budget_seconds = 0;
  options.use_cache = false;
  std::shared_ptr<const ir::Model> model = m.finish({z, whole});
  VerifyReport report;
  try {
    report = build_engine(model, options).report.verify;
  } catch (const Error& error) {
    GTEST_SKIP() << "whole numbers may fall to the other side: " << error.what();
  }
  int narrow = 0;
  for (const VerifyReport::Tensor& tensor : report.tensors) {
    if (!(tensor.scale > 0) || tensor.name == whole->name) continue;
    EXPECT_LT(tensor.max_allowed, 0.1 * tensor.scale) << tensor.name;
    ++narrow;
  }
  EXPECT_GT(narrow, 1);
}

}  // namespace
}  // namespace lathe::builder
