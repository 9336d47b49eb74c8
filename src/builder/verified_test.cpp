// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What was verified is remembered by content: any change to model, engine, shapes or options asks the oracle again.

#include "builder/verified.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "builder/test_models.h"

namespace lathe::builder {
namespace {

std::shared_ptr<ir::Model> model(unsigned seed) {
  test::ModelMaker m(seed);
  ir::Value* x = m.input("x", {1, 8, 12, 12});
  return m.finish({m.conv(m.silu(m.conv(x, 8, 16, 3)), 16, 8, 1)});
}

class Verified : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("lathe-verified-" + std::to_string(::getpid()));
    if (const char* cache = std::getenv("LATHE_CACHE_DIR")) before_ = cache;
    setenv("LATHE_CACHE_DIR", folder_.c_str(), 1);
    options_.budget_seconds = 0;
  }
  void TearDown() override {
    before_.empty() ? unsetenv("LATHE_CACHE_DIR") : setenv("LATHE_CACHE_DIR", before_.c_str(), 1);
    std::filesystem::remove_all(folder_);
  }
  bool remembered(const BuildResult& result) { return result.report.verify.summary.find("the same engine passed here before") == 0; }
  BuildOptions options_;
  std::filesystem::path folder_;
  std::string before_;
};

TEST_F(Verified, TheSameEngineIsVerifiedOnce) {
  const BuildResult first = build_engine(model(1), options_), second = build_engine(model(1), options_);
  EXPECT_TRUE(first.report.verify.passed && second.report.verify.passed);
  EXPECT_FALSE(remembered(first));
  EXPECT_FALSE(first.report.verify.tensors.empty());
  EXPECT_TRUE(remembered(second)) << second.report.verify.summary;
  EXPECT_NE(second.report.verify.summary.find(first.report.verify.summary), std::string::npos);
}

TEST_F(Verified, WhatDiffersIsHeldAgainstTheOracle) {
  ASSERT_FALSE(remembered(build_engine(model(1), options_)));
  EXPECT_FALSE(remembered(build_engine(model(2), options_))) << "other weights";
  BuildOptions other = options_;
  other.precision = Precision::kBFloat16;
  EXPECT_FALSE(remembered(build_engine(model(1), other)));
  other = options_;
  other.exact = true;
  EXPECT_FALSE(remembered(build_engine(model(1), other)));
  other = options_;
  other.use_cache = false;
  EXPECT_FALSE(remembered(build_engine(model(1), other)));
  EXPECT_TRUE(remembered(build_engine(model(1), options_)));
}

TEST_F(Verified, ADamagedEngineHasAnotherKey) {
  const auto source = model(1);
  BuildResult built = build_engine(source, options_);
  const std::string key = verification_key(*source, built.engine, options_);
  ASSERT_FALSE(key.empty());
  EXPECT_EQ(key, verification_key(*source, built.engine, options_));
  built.engine.sections[0].program.steps[0].measured_seconds = 7;
  EXPECT_EQ(key, verification_key(*source, built.engine, options_)) << "times are no part of it";
  built.engine.blobs[0].hash.low ^= 1;
  EXPECT_NE(key, verification_key(*source, built.engine, options_));
  built.engine.blobs[0].hash.low ^= 1;
  built.engine.sections[0].program.steps.back().label += "?";
  EXPECT_NE(key, verification_key(*source, built.engine, options_));
  // A damaged one fails although its sound sibling passed: only what passed is kept, under its own key.
  BuildResult again = build_engine(source, options_);
  EXPECT_TRUE(remembered(again));
}

TEST_F(Verified, FailingIsNotRemembered) {
  const auto source = model(1), other = model(2);
  const BuildResult built = build_engine(source, options_);
  EXPECT_FALSE(verify_once(*other, built.engine, options_).passed);
  EXPECT_FALSE(verify_once(*other, built.engine, options_).passed);
  EXPECT_TRUE(verify_once(*source, built.engine, options_).passed);
}

}  // namespace
}  // namespace lathe::builder
