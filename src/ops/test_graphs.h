// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Graphs of tests that look at inferred types.

#include <memory>
#include <string>

#include "ir/text.h"
#include "ops/infer.h"

namespace lathe::ops {

inline std::shared_ptr<ir::Graph> inferred(const std::string& text) {
  auto graph = ir::parse_graph(text);
  infer_graph(*graph);
  return graph;
}

inline std::string type_of(const ir::Graph& graph, const char* name) { return graph.find(name)->type.to_string(); }

/// The type of `y` in a graph whose body computes it.
inline std::string result(const std::string& inputs, const std::string& body) {
  return type_of(*inferred("graph g(" + inputs + ") -> (y) {\n" + body + "\n}"), "y");
}

}  // namespace lathe::ops
