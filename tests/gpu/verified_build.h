// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the tests of this folder ask of every build for the GPU.

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "builder/builder.h"

namespace lathe {

/// Builds for the GPU and asks that every region was verified, none fell back to a wider type and none to the host; nullopt where it threw.
inline std::optional<builder::BuildResult> verified_build(std::shared_ptr<const ir::Model> model, const char* precision, double budget = 3,
                                                          std::map<std::string, builder::ShapeRange> shapes = {}) {
  builder::BuildOptions options;
  options.device = "cuda";
  options.precision = builder::parse_precision(precision);
  options.use_cache = false;
  options.budget_seconds = budget;
  options.shapes = std::move(shapes);
  try {
    builder::BuildResult result = builder::build_engine(std::move(model), options);
    EXPECT_TRUE(result.report.verify.passed) << result.report.verify.summary;
    EXPECT_TRUE(result.report.verify.pinned.empty()) << result.report.verify.pinned.front();
    EXPECT_TRUE(result.report.host_steps.empty());
    return result;
  } catch (const Error& error) {
    ADD_FAILURE() << error.what();
    return std::nullopt;
  }
}

}  // namespace lathe
