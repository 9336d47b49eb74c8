// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// One phase of a build as the caller's Progress sees it: begin and end are always told, and every call may end the build.

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "lathe/services.h"

namespace lathe::builder {

class Phase {
 public:
  /// Tells 0 of `total` (at least 1). `progress` may be nullptr. `most_seconds` bounds the estimate (a budget). Every member throws
  /// Error(kCancelled) when the caller asks to stop.
  Phase(Progress* progress, std::string_view name, std::int64_t total, double most_seconds = std::numeric_limits<double>::infinity());
  /// `done` of the total is over, as far as one can say: held between 0 and total.
  void at(std::int64_t done);
  void step() { at(done_ + 1); }
  /// Asks whether to go on, where there is nothing to count.
  void poll() { at(done_); }
  /// Tells total of total, once.
  void finish();

 private:
  Progress* progress_;
  std::string name_;
  std::int64_t total_, done_ = 0;
  double started_, most_seconds_;
};

}  // namespace lathe::builder
