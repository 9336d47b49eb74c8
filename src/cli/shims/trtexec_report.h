// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What trtexec prints and exports: its line form, performance summary, profile, layers and outputs, with the fields that scripts read.

#include <string>
#include <vector>

#include "base/tensor.h"
#include "cli/bench_runs.h"
#include "lathe/lathe.hpp"

namespace lathe::cli::trtexec_report {

/// "[11/29/2026-21:00:00] [I] text" on stdout.
void say(char severity, const std::string& text);

struct Summary {
  std::vector<SplitRun::Moments> runs;  ///< of all streams, by their beginning
  double wall_seconds = 0;
  std::vector<double> percentiles;  ///< 90, 95, 99
  int average_of = 0;               ///< > 0: averages of so many runs in front of the summary
};
void print_summary(const Summary& summary);
std::string times_json(const Summary& summary);

/// A layer is a step of the engine: seconds of each profiled run.
struct LayerTimes {
  std::string name;
  std::vector<double> seconds;
};
void print_profile(const std::vector<LayerTimes>& layers);
std::string profile_json(const std::vector<LayerTimes>& layers);

void print_layers(const Engine& engine);
std::string layers_json(const Engine& engine);

void print_outputs(const Engine& engine, const std::vector<Tensor>& outputs);
std::string outputs_json(const Engine& engine, const std::vector<Tensor>& outputs);

}  // namespace lathe::cli::trtexec_report
