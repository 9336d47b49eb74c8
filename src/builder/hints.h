// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Shape hints: --shape options, and the concrete extents at which regions are timed and engines verified.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "builder/builder.h"
#include "ir/graph.h"
#include "plan/program.h"

namespace lathe::builder {

/// Values of every symbol of the graph's inputs at the hint shapes: from `opt` where given, else 1 for the first axis and a size that
/// the model accepts for others, of pictures 128 unless some tensor then becomes huge.
ir::Bindings hint_bindings(const ir::Graph& graph, const std::map<std::string, ShapeRange>& shapes);
/// The same with every free symbol moved to another, odd value (for verification); empty when no symbol is free.
ir::Bindings odd_bindings(const ir::Graph& graph, const std::map<std::string, ShapeRange>& shapes, const ir::Bindings& hints);
/// Gives every symbol of `symbols` that `bindings` lacks the extent of one that it must equal in `graph` (what a product sums over has one extent in both
/// operands; what meets element by element is taken for equal), else `otherwise`.
void bind_unknown(const ir::Graph& graph, const std::set<std::string>& symbols, std::int64_t otherwise, ir::Bindings& bindings);
/// No count of padded results (First) is above what they are padded to: candidates refuse to read beyond.
void limit_counts(const ir::Graph& graph, ir::Bindings& bindings);
/// Fixes input extents whose range is one value: renames symbols to constants. Throws Error(kInvalidArgument) naming the input.
void apply_fixed_shapes(ir::Model& model, const std::map<std::string, ShapeRange>& shapes);
/// One entry per symbol with its range.
std::vector<plan::SymbolHint> symbol_hints(const ir::Graph& graph, const std::map<std::string, ShapeRange>& shapes, const ir::Bindings& hints);
/// The ranges that an engine was built for, of inputs of `graph` that `shapes` does not name.
void take_ranges(const ir::Graph& graph, const plan::Program& program, std::map<std::string, ShapeRange>& shapes);
/// Extents of `shape` under `bindings`; throws Error(kUnsupported) naming the tensor when an extent depends on data.
Dims concrete_dims(const ir::Value& value, const ir::Bindings& bindings);

}  // namespace lathe::builder
