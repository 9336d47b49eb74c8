// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Two models against each other by their defining references: `lathe simplify` writes nothing before this has passed.

#include <map>
#include <string>

#include "builder/builder.h"
#include "ir/graph.h"

namespace lathe::builder {

struct Equality {
  double max_relative_error = 0;  ///< largest difference of an output, as a share of its scale
  int input_sets = 0;
};

/// Runs both models on `sets` seeded inputs at the given (or hint) shapes, and at other extents where `model` still has symbols. Floating outputs
/// may differ by `tolerance` of their scale (round-off of folded weights), others not at all; NaN equals NaN. Throws
/// Error(kVerification) naming the output, Error(kUnsupported) when an op has no reference.
Equality check_equality(const ir::Model& original, const ir::Model& model, const std::map<std::string, ShapeRange>& shapes, int sets = 2,
                        double tolerance = 1e-4);

/// How far two runs may differ whose model rounds every node to this narrow type, while an engine or a simplified model rounds fewer: a few units in
/// the last place, as a share of the scale. 0 for other types.
double narrow_share(DType dtype);

}  // namespace lathe::builder
