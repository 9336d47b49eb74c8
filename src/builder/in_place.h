// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The last choice among kernels that are about as fast where each is timed alone, its weights in cache: what they make of the whole run. For a
// GPU's section, behind choose_cover().

#include "builder/tuner.h"
#include "builder/whole_run.h"

namespace lathe::builder {

/// Lets close options take the steps of `regions` where the run gets shorter: all equal steps at once. The tuning cache answers what it knows; only
/// for the rest is the program run. A device that fails ends it with a warning: what was chosen stays. Throws Error(kCancelled).
void choose_in_place(std::vector<PlannedRegion>& regions, const WholeRunRequest& request, Tuner& tuner, BuildReport& report);

}  // namespace lathe::builder
