// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Between EngineData and the FlatBuffers object tree, in both directions. Private to src/engine.

#include "engine/engine_data.h"
#include "lathe/status.h"
#include "engine_generated.h"

namespace lathe::engine {

fb::EngineT to_tree(const EngineData& data);
/// Checks enumerators and texts; ids are left to the semantic verifier. Throws Error(kCorruptFile).
EngineData from_tree(const fb::EngineT& tree);

}  // namespace lathe::engine
