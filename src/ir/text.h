// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The graph's text form: what `lathe show` and --dump-after print, and what pass tests are written in. The parser reads what the
// printer writes, constants included up to a size (larger ones print as a hash and parse back only with their model at hand).
//
//   graph main(x: float[batch, 3, 640, 640]) -> (y) {
//     w: float[16, 3, 6, 6] = const splat(0.5)                 // or const {1, 2, 3}, const random(seed)
//     c: float[batch, 16, 320, 320] = Conv(x, w) {pads=[2, 2, 2, 2], strides=[2, 2]} @"/model.0/Conv"
//     y = Relu(c)
//   }
//
// Absent inputs and outputs are "_"; unknown rank is "float[?]"; names that are no plain word stand in double quotes; a node name that
// differs from its first source follows as #"name"; nested graphs are attribute values: {then_branch=graph t() -> (a) {...}}.

#include <memory>
#include <string>
#include <string_view>

#include "ir/graph.h"

namespace lathe::ir {

struct PrintOptions {
  bool types = true;               ///< ": float[1, 3]" after each name
  bool sources = true;             ///< @"onnx node"
  bool contents = false;           ///< propagated contents as comments
  int max_constant_elements = 16;  ///< larger constants print as const hash(0x...)
};

std::string print(const Graph& graph, const PrintOptions& options = {});
/// Throws Error(kInvalidArgument) with line and column. Constants that print as hashes are looked up by that hash in `constants_from`
/// (the graph that was printed, nested graphs included); without it such a line is an error.
std::shared_ptr<Graph> parse_graph(std::string_view text, const Graph* constants_from = nullptr);

}  // namespace lathe::ir
