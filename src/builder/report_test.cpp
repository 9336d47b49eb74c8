// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What a failed verification tells its user.

#include <gtest/gtest.h>

#include "builder/builder.h"

namespace lathe::builder {
namespace {

VerifyReport with(double scale, bool passed) {
  VerifyReport report;
  VerifyReport::Tensor tensor;
  tensor.name = "boxes";
  tensor.scale = scale;
  tensor.passed = passed;
  report.tensors = {tensor};
  return report;
}

TEST(Remedy, ValuesBeyondFloat16AreTheModels) {
  EXPECT_EQ(remedy_of(with(5.9e8, false), Precision::kFloat16), "'boxes' reaches 5.9e+08, and float16 ends at 65504: build with --precision bf16 or fp32.");
}

TEST(Remedy, ElseItIsLathes) {
  const std::string defect = remedy_of(with(1, false), Precision::kFloat16);
  EXPECT_EQ(defect.rfind("This is a defect of Lathe", 0), 0u);
  EXPECT_EQ(remedy_of(with(5.9e8, false), Precision::kBFloat16), defect) << "that type holds it";
  EXPECT_EQ(remedy_of(with(5.9e8, true), Precision::kFloat16), defect) << "it was not the one that failed";
}

}  // namespace
}  // namespace lathe::builder
