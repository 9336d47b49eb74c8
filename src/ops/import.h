// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From the opset of a file to the canonical form: every node is validated against the version of its op that the file's opset puts
// in force, then rewritten by the op's own upgrade to the newest version. The rest of Lathe sees one form per op.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "lathe/status.h"

namespace lathe::ops {

/// The opset of ai.onnx whose forms are canonical.
inline constexpr std::int64_t kCanonicalOpset = 28;

/// All defects of all nodes (nested graphs and function bodies too) against the model's own opsets. Nodes of unknown domains and
/// unknown ops are passed over: they are no defect of form (see unsupported_nodes in ops/reference_runner.h).
std::vector<Error> find_node_defects(const ir::Model& model);

/// Brings the nodes of a graph, which are valid in these opsets, to the newest form. Throws where an op's upgrade cannot.
void upgrade_nodes(ir::Graph& graph, const std::map<std::string, std::int64_t>& opset_imports);

/// Validates, upgrades, then replaces Gradient nodes by what computes the derivatives (training/gradient.h). Throws the first defect, with
/// the number of the others in its text. Idempotent.
void canonicalise_opsets(ir::Model& model);

}  // namespace lathe::ops
