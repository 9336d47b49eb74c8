// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See progress.h.

#include "builder/progress.h"

#include <algorithm>

#include "base/os.h"
#include "lathe/status.h"

namespace lathe::builder {

Phase::Phase(Progress* progress, std::string_view name, std::int64_t total, double most_seconds)
    : progress_(progress), name_(name), total_(std::max<std::int64_t>(total, 1)), started_(os::now_seconds()), most_seconds_(most_seconds) {
  at(0);
}

void Phase::at(std::int64_t done) {
  done_ = std::clamp<std::int64_t>(done, 0, total_);
  if (!progress_) return;
  const double spent = os::now_seconds() - started_;
  const double left = done_ == total_ ? 0
                      : done_ == 0
                          ? -1
                          : std::min(spent / static_cast<double>(done_) * static_cast<double>(total_ - done_), std::max(0.0, most_seconds_ - spent) + 1);
  if (!progress_->update(name_, done_, total_, left))
    throw Error(Code::kCancelled, "the work was cancelled")
        .with_remedy("Candidates timed so far are kept in the tuning cache: the next build goes on from there.");
}

void Phase::finish() {
  if (done_ < total_) at(total_);
}

}  // namespace lathe::builder
