// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// One driver for every definition: a case is the text of a graph. Its inferred types are held against the run, its blocked oracle and
// its lowering to the region language against the defining reference.
#include <gtest/gtest.h>

#include "lathe/status.h"
#include "loops/interpreter.h"
#include "ops/reference_runner.h"
#include "ops/registry.h"
#include "ops/sweep_cases.h"

namespace lathe::ops {
namespace {

using testing::Case;
using testing::kCases;

void expect_close(const Tensor& actual, const Tensor& expected, double relative, double absolute, const std::string& what) {
  ASSERT_EQ(actual.dtype(), expected.dtype()) << what;
  ASSERT_EQ(actual.dims(), expected.dims()) << what;
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    const double a = actual.as_double(i), e = expected.as_double(i);
    if (std::isnan(a) && std::isnan(e)) continue;
    if (a == e) continue;
    ASSERT_NEAR(a, e, relative * std::fabs(e) + absolute) << what << ", element " << i;
  }
}

class Sweep : public ::testing::TestWithParam<Case> {};

TEST_P(Sweep, InferenceOracleAndLoweringAgreeWithTheReference) {
  const Case& c = GetParam();
  const testing::Swept swept = testing::read_case(c);
  const auto& graph = swept.graph;
  const auto& symbols = swept.symbols;
  const auto& inputs = swept.inputs;
  const auto check_types = [&](const ir::Value& value, Tensor& tensor) {
    ASSERT_EQ(value.dtype(), tensor.dtype()) << value.name;
    ASSERT_TRUE(value.has_shape()) << value.name;
    const auto dims = ir::evaluate(value.shape(), symbols);
    if (dims) {
      ASSERT_EQ(*dims, tensor.dims()) << value.name << " inferred as " << value.type.to_string();
    } else {
      ASSERT_EQ(value.shape().size(), tensor.dims().size());
    }
  };
  const Tensor expected = ReferenceRunner(*graph, {.oracle = false, .observe = check_types}).run(inputs).at(0);
  const Tensor oracle = ReferenceRunner(*graph, {.oracle = true}).run(inputs).at(0);
  // Both accumulate in double, so they differ by one rounding to the stored type at most.
  const double unit = expected.dtype() == DType::kFloat64   ? 1e-12
                      : expected.dtype() == DType::kFloat32 ? 1.2e-7
                      : expected.dtype() == DType::kFloat16 ? 1e-3
                                                            : 8e-3;
  expect_close(oracle, expected, is_float(expected.dtype()) ? unit : 0, 1e-12, "oracle");

  const auto [lowered, reason, region, tensors] = testing::lower_case(swept);
  if (c.decline) {
    EXPECT_FALSE(lowered);
    EXPECT_NE(reason.find(c.decline), std::string::npos) << reason;
    return;
  }
  ASSERT_TRUE(lowered) << reason;
  EXPECT_TRUE(loops::find_defects(region).empty()) << loops::find_defects(region).front() << "\n" << region.to_string();
  const Tensor looped = loops::interpret(region, tensors, symbols).at(0);
  expect_close(looped, expected, is_float(expected.dtype()) ? 2 * unit + 2e-6 : 0, 2e-6, "lowering");
}

INSTANTIATE_TEST_SUITE_P(Ops, Sweep, ::testing::ValuesIn(kCases), [](const auto& info) { return std::string(info.param.name); });

TEST(SweepCoverage, EveryOracleIsSwept) {
  for (const OpDef* op : all_ops()) {
    if (!op->oracle) continue;
    int cases = 0;
    for (const Case& c : kCases) cases += std::string(c.body).find("= " + std::string(op->name) + "(") != std::string::npos;
    EXPECT_GE(cases, 3) << op->name;
  }
}

}  // namespace
}  // namespace lathe::ops
