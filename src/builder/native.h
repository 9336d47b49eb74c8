// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Native code of an engine under construction: what its regions were compiled to here, so that other machines need no compiler for it.

#include <memory>
#include <vector>

#include "engine/engine_data.h"
#include "runtime/engine.h"

namespace lathe::builder {

/// Takes what the device of `engine` (which runs `data`) has compiled since Device::keep_code(), and what it compiles at the input shapes
/// of `more`, as native code of the first section, and signs it by this user's own key. Where there is no such key it stays unsigned, and the log says why.
void add_native_code(engine::EngineData& data, const std::shared_ptr<const runtime::Engine>& engine, const std::vector<std::vector<Dims>>& more);

}  // namespace lathe::builder
