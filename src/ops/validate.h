// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Checks of one node against one version of its op's schema: arity, attributes, types. Import runs all of them with the file's opset;
// shape inference runs the type check again when types are known.

#include <vector>

#include "lathe/status.h"
#include "ops/schema.h"

namespace lathe::ops {

/// An Error(kInvalidModel) that names the node; `detail` is one sentence.
Error node_error(const ir::Node& node, std::string detail, Code code = Code::kInvalidModel);
/// In the handler of `error`: throws it on, at this node unless it names one.
[[noreturn]] void rethrow_at(const ir::Node& node, const Error& error);
/// "'/model.0/Conv'" or "#12" for a nameless node of a file.
std::string node_name(const ir::Node& node);

/// Appends a defect for each broken rule: input and output counts, left-out inputs, missing, unknown or ill-typed attributes.
void check_node_form(const ir::Node& node, const Schema& schema, std::vector<Error>& defects);
/// Appends a defect for each input or output whose (known) type the schema forbids, or that disagrees with the others.
void check_node_types(const ir::Node& node, const Schema& schema, bool outputs_too, std::vector<Error>& defects);

}  // namespace lathe::ops
