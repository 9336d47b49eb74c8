// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What must hold of an engine's numbers before anything uses them as indices or sizes: step 4 of the checks in docs/engine_format.md.
// The reader runs it on what a file says, the writer on what the builder made.

#include <cstdint>
#include <optional>
#include <string>

#include "engine/engine_data.h"

namespace lathe::engine {

/// Every condition, by name: semantic_verifier_test.cpp lets each of them fail alone and proves that what it refuses passes without it.
enum class Check : std::uint8_t {
  // Slots
  kSlotCount,
  kSlotType,
  kStringConstant,
  kSlotRank,
  kOrderSize,
  kOrder,
  kSlotBytes,
  kConstantBlob,
  kConstantShape,
  kConstantOrder,
  kConstantBytes,
  kStrayBlob,
  kAliasParent,
  kStrayParent,
  kStrayAxis,
  kAliasCycle,
  kAliasChain,
  kAliasType,
  kAliasSpace,
  kViewSize,
  kSlicePacked,
  kSliceAxis,
  kSliceRank,
  kSliceBegin,
  kSliceEnd,
  kSliceExtent,
  // Inputs, outputs, symbols
  kInputSlot,
  kInputStorage,
  kInputOrder,
  kInputText,
  kInputName,
  kDonation,
  kOutputSlot,
  kOutputStorage,
  kOutputOrder,
  kOutputText,
  kInterface,
  kUnboundSymbol,
  kSymbolTwice,
  kSymbolMin,
  kSymbolOpt,
  kSymbolMax,
  // Steps
  kStepCount,
  kStepInput,
  kStepOutput,
  kStepTarget,
  kStepWeight,
  kKernelName,
  kReadSymbol,
  kCopyForm,
  kRegionCount,
  kRegion,
  kReadBeforeWrite,
  kOutputWritten,
  kSegment,
  kSegmentsEnd,
  kNesting,
  // Dynamic programs
  kDynamicSlot,
  kStaticType,
  kDynamicStep,
  kCallInputs,
  kCallCarrier,
  kCallOutputs,
  kNodeName,
  kNodeInputs,
  kBodyInputs,
  kBodyDynamic,
  // Weights, sections
  kBlobCount,
  kBlobSource,
  kRawSources,
  kRawRank,
  kRawShape,
  kRawBytes,
  kPrograms,
  kSameInterface,
};
inline constexpr int kCheckCount = static_cast<int>(Check::kSameInterface) + 1;

struct Defect {
  Check check;
  std::string text;
};

/// The first defect as one sentence that names section, slot or step; empty when sound.
std::string find_defect(const EngineData& data);

/// The same for one program over the blobs of an engine.
std::string find_program_defect(const plan::Program& program, const std::vector<plan::Blob>& blobs);

/// The first defect with the name of its condition. `without`: a condition that is passed over, for the tests that prove it needed; what is
/// found sound without it must not be used.
std::optional<Defect> first_defect(const EngineData& data, std::optional<Check> without = std::nullopt);

inline constexpr std::size_t kMaxItems = std::size_t{1} << 19;  ///< slots, steps, blobs
inline constexpr std::size_t kMaxRank = 64;
inline constexpr std::int64_t kMaxSlotBytes = std::int64_t{1} << 44;
inline constexpr int kMaxNesting = 16;
inline constexpr std::size_t kMaxAliasChain = 10'000;
inline constexpr std::size_t kMaxDimText = 4096;

}  // namespace lathe::engine
