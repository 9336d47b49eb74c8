// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What must hold of an engine's numbers before anything uses them as indices or sizes: step 4 of the checks in docs/engine_format.md.
// The reader runs it on what a file says, the writer on what the builder made.

#include <string>

#include "engine/engine_data.h"

namespace lathe::engine {

/// The first defect as one sentence that names section, slot or step; empty when sound.
std::string find_defect(const EngineData& data);

/// The same for one program over the blobs of an engine.
std::string find_program_defect(const plan::Program& program, const std::vector<plan::Blob>& blobs);

inline constexpr std::size_t kMaxItems = std::size_t{1} << 19;  ///< slots, steps, blobs
inline constexpr std::size_t kMaxRank = 64;
inline constexpr std::int64_t kMaxSlotBytes = std::int64_t{1} << 44;
inline constexpr int kMaxNesting = 16;
inline constexpr std::size_t kMaxDimText = 4096;

}  // namespace lathe::engine
