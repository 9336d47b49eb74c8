// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See in_place.h. What is remembered is a ratio of two runs' times, under the program as it was chosen then, the steps and their other kernel: each
// answer follows from those before it, so a build from the cache takes the same way.

#include "builder/in_place.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "base/hash.h"
#include "base/log.h"
#include "base/os.h"
#include "builder/progress.h"

namespace lathe::builder {
namespace {

constexpr double kMostSeconds = 2, kPartOfBudget = 0.1;
constexpr double kCannot = 1e6;  // the ratio of what cannot stand there

class InPlace {
 public:
  InPlace(std::vector<PlannedRegion>& regions, const WholeRunRequest& request, Tuner& tuner, BuildReport& report)
      : regions_(regions),
        request_(request),
        tuner_(tuner),
        report_(report.in_run),
        limit_(std::min(kMostSeconds, kPartOfBudget * request.options.budget_seconds)) {
    for (const PlannedRegion& region : regions_) texts_.push_back(text_of(region));
    hash_state();
  }

  void run() {
    const std::vector<std::vector<std::size_t>> groups = make_groups();
    for (const auto& group : groups) all_ += static_cast<std::int64_t>(regions_[group[0]].close.size());
    for (const auto& group : groups)
      for (std::size_t option = 0; option < regions_[group[0]].close.size(); ++option, ++done_) {
        const CloseOption& close = regions_[group[0]].close[option];
        if (close.plan.burden > 1 && regions_[group[0]].plan.burden <= 1) continue;  // the library's own step lost its place meanwhile
        const std::optional<double> ratio = ask(group, option);
        if (!ratio) continue;
        ++report_.tried;
        for (const std::size_t r : group)
          if (*ratio < kCannot) regions_[r].report.choices[regions_[r].close[option].choice].in_run_gain = 1 - *ratio;
        if (*ratio < 1) take(group, option);
      }
    if (phase_) phase_->finish();
  }

 private:
  TimedOption timed(const PlannedRegion& region, const ops::StepPlan& plan, const ops::Candidate& candidate) const {
    const ValuePlans& plans = request_.plans;
    return {&plan, candidate.name, plans.descs(plan.inputs, region.input_layouts, request_.hints),
            plans.descs(plan.outputs, region.output_layouts, request_.hints)};
  }

  /// A region as a part of its program.
  std::string text_of(const PlannedRegion& region) const {
    std::string text = fmt::format("{}|{}", static_cast<int>(region.kind), region.report.label);
    for (const auto* list : {&region.region.inputs, &region.region.outputs})
      for (const ir::Value* value : *list) text += fmt::format("|{}", value->name);
    if (region.candidate) text += tuner_.key(timed(region, region.plan, *region.candidate));
    return text;
  }

  void hash_state() {
    std::string all;
    for (const std::string& text : texts_) (all += text) += '\n';
    state_ = hash128(all.data(), all.size()).hex();
  }

  /// Regions that have other options, equal ones together; those that take longest first.
  std::vector<std::vector<std::size_t>> make_groups() const {
    std::map<std::string, std::vector<std::size_t>> by_key;
    for (std::size_t r = 0; r < regions_.size(); ++r) {
      const PlannedRegion& region = regions_[r];
      if (region.close.empty()) continue;
      std::string key = tuner_.key(timed(region, region.plan, *region.candidate));
      for (const CloseOption& close : region.close) key += tuner_.key(timed(region, close.plan, *close.candidate));
      by_key[key].push_back(r);
    }
    std::vector<std::vector<std::size_t>> groups;
    for (auto& [key, group] : by_key) groups.push_back(std::move(group));
    const auto seconds = [&](const std::vector<std::size_t>& group) { return regions_[group[0]].seconds * static_cast<double>(group.size()); };
    std::sort(groups.begin(), groups.end(), [&](const auto& a, const auto& b) { return seconds(a) != seconds(b) ? seconds(a) > seconds(b) : a[0] < b[0]; });
    return groups;
  }

  /// The run's time with this option over that without: remembered or measured. Nothing where time is up or the device failed.
  std::optional<double> ask(const std::vector<std::size_t>& group, std::size_t option) {
    const PlannedRegion& region = regions_[group[0]];
    const CloseOption& close = region.close[option];
    const std::string key = fmt::format("in the run of {}|{}|{}", state_, fmt::join(group, ","), tuner_.key(timed(region, close.plan, *close.candidate)));
    measured_ = false;
    if (const auto known = tuner_.cache().find(key)) return known;
    // What there was no time for is passed over by the next build as well, unless that may take longer.
    const std::string left_out = fmt::format("{}|not within {:.3f} s", key, limit_);
    if (failed_ || tuner_.cache().find(left_out)) return std::nullopt;
    if (report_.seconds >= limit_) {
      tuner_.cache().store(left_out, 1);
      return std::nullopt;
    }
    try {
      if (!run_) {
        run_ = std::make_unique<WholeRun>(request_);
        report_.seconds += run_->made_in();
      }
      const double started = os::now_seconds();
      if (!phase_) phase_.emplace(request_.options.progress, "timing in the whole run", all_, limit_);
      phase_->at(done_);
      std::vector<const ops::StepPlan*> plans;
      for (const std::size_t r : group) plans.push_back(&regions_[r].close[option].plan);
      const double ratio = run_->compare(group, plans).value_or(kCannot);
      report_.seconds += os::now_seconds() - started;
      const double kept = std::round(ratio * 1e6) / 1e6;  // as the cache gives it back
      tuner_.cache().store(key, kept);
      measured_ = true;
      return kept;
    } catch (const Error& error) {
      if (error.code() == Code::kCancelled) throw;
      log(LogLevel::kWarning, "kernels are chosen by their times alone, not in the whole run: {}", error.what());
      failed_ = true;
      run_.reset();
      return std::nullopt;
    }
  }

  void take(const std::vector<std::size_t>& group, std::size_t option) {
    if (measured_) run_->keep();
    else run_.reset();  // it would run another program now
    for (const std::size_t r : group) {
      PlannedRegion& region = regions_[r];
      CloseOption& close = region.close[option];
      std::swap(region.candidate, close.candidate);
      std::swap(region.plan, close.plan);
      std::swap(region.seconds, close.seconds);
      region.report.choices[region.choice].chosen = false;
      std::swap(region.choice, close.choice);
      region.report.choices[region.choice].chosen = true;
      texts_[r] = text_of(region);
    }
    hash_state();
    ++report_.taken;
    report_.steps += static_cast<std::int64_t>(group.size());
  }

  std::vector<PlannedRegion>& regions_;
  const WholeRunRequest& request_;
  Tuner& tuner_;
  InRunReport& report_;
  double limit_;
  std::vector<std::string> texts_;  // by region
  std::string state_;               // of all of them
  std::unique_ptr<WholeRun> run_;   // from the first question on that the cache cannot answer
  std::optional<Phase> phase_;
  std::int64_t done_ = 0, all_ = 0;
  bool measured_ = false;  // the last answer, and not remembered
  bool failed_ = false;
};

}  // namespace

void choose_in_place(std::vector<PlannedRegion>& regions, const WholeRunRequest& request, Tuner& tuner, BuildReport& report) {
  if (request.options.budget_seconds <= 0) return;
  // Host steps keep a run from being one graph.
  if (std::any_of(regions.begin(), regions.end(), [](const PlannedRegion& region) { return region.on_host; })) return;
  InPlace(regions, request, tuner, report).run();
}

}  // namespace lathe::builder
