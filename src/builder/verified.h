// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Verification that remembers: an engine that this very build of Lathe held against the same model on this machine, and that passed, passes again. So a
// build whose timings are all known takes a second where the oracle takes many.

#include <string>

#include "builder/builder.h"

namespace lathe::builder {

/// verify_engine(), or what it said before of the same engine. Only passing is remembered, and only with options.use_cache.
VerifyReport verify_once(const ir::Model& model, const engine::EngineData& engine, const BuildOptions& options);

/// All that the outcome depends on, as one hash: Lathe's own binary, the model as read with its weights, the engine's programs and weights, shapes, options,
/// the processor and threads, and of a GPU its name, size, driver and compiler. Empty when the binary cannot be read: nothing is remembered then.
std::string verification_key(const ir::Model& model, const engine::EngineData& engine, const BuildOptions& options);

}  // namespace lathe::builder
