// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Engines out of engines: parts left out, programs for several devices in one. Weights stay where they are; those of equal content are one.

#include <string>
#include <vector>

#include "engine/engine_data.h"

namespace lathe::engine {

struct Strip {
  bool native = false;                    ///< leave out native code
  bool report = false;                    ///< leave out the report of the build
  std::vector<std::string> devices = {};  ///< keep only the programs of these ("cuda:sm_90", "cpu"), and cpu-generic; empty: all
};

/// Throws Error(kInvalidArgument) when there is no program for a device that is to stay.
void strip_engine(EngineData& data, const Strip& what);

/// One engine with the programs of all `parts`, in their order; the generic program is the first part's and comes last. Report, precision plan
/// and metadata are the first part's. `names` are for messages. Throws Error(kInvalidArgument) when graphs or weights differ or two parts
/// have a program for the same device.
EngineData merge_engines(std::vector<EngineData> parts, const std::vector<std::string>& names);

/// The program with other blob ids: `ids` by old ones.
void renumber(plan::Program& program, const std::vector<plan::BlobId>& ids);

}  // namespace lathe::engine
