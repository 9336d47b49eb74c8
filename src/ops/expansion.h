// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Ops that are compositions of others: their nodes replaced, evaluated and inferred by what OpDef::expand makes of them.

#include <span>
#include <vector>

#include "ops/evaluate.h"
#include "ops/op_def.h"

namespace lathe::ops {

/// Replaces the node by what its op expands to and erases it; false: this instance stays. (An `expand` decides before it adds nodes.)
bool expand_node(ir::Node& node);
/// The same in a graph that is made for a GPU, for ops of the format that only there gain from it: the op of lathe.internal with the same name says how.
bool expand_node_for_gpu(ir::Node& node);

/// Evaluates a node whose op has `expand` but no reference: a graph of the node alone, in which every input is a constant, is expanded,
/// inferred and run. The result matches node.outputs.
std::vector<Tensor> evaluate_expanded(const ir::Node& node, std::span<const Tensor> inputs, const EvaluateOptions& options);

/// The shape rule of a composition: that of its parts. Where this instance does not expand, only the dtypes are set.
void infer_expanded(InferContext& ctx);
/// Sets the dtype of every output by the schema's type variables, and no shape.
void infer_dtypes(InferContext& ctx);

}  // namespace lathe::ops
