// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a prepared graph to an engine's sections: for each the cover is chosen and lowered, whole or island by island; weights are packed, the
// portable graph is written.

#include <memory>
#include <string>
#include <vector>

#include "builder/builder.h"

namespace lathe::builder {

/// The simplified graph and what was decided at the hint shapes.
struct Prepared {
  std::shared_ptr<ir::Model> model;
  ir::Bindings hints;
  std::vector<plan::SymbolHint> symbols;
};

/// `pinned`: nodes that keep float32 whatever the precision. Throws Error.
engine::EngineData assemble(const Prepared& prepared, const BuildOptions& options, const std::vector<std::string>& pinned, BuildReport& report);

}  // namespace lathe::builder
