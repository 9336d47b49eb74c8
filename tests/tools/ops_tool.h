// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// lathe_ops_tool: what the Python tests ask of the op definitions, as JSON on stdout. One function per subcommand.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace lathe::tool {

using Json = nlohmann::ordered_json;

/// Every op with every version's schema, and which of its parts (infer, reference, oracle, lower) exist.
Json all_schemas();
/// "dtype", "shape" (numbers and expressions as text; null = unknown rank) and, when known, "content".
Json describe_value(const ir::Value& value);

struct RunRequest {
  std::string model;
  std::vector<std::string> inputs;  ///< files in the order of the graph's inputs, or "name=file"
  std::string out;                  ///< folder for output_<i>.bin
  bool oracle = false;
};
/// {"status": ok | unsupported | error, "message", "outputs": [{"name", "form", "dtype", "shape", "file" | "strings"}]}; the form is
/// "tensor", or "sequence", "map", "nothing" with "items" of the same kind (a map's: keys, values). Shape inference runs too, and each tensor of the run is
/// held against the type and content that it inferred.
Json run_model(const RunRequest& request);

}  // namespace lathe::tool
