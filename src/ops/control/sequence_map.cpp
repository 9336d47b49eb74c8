// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// SequenceMap: a graph run on each element of a sequence.
#include "ops/control/control.h"
#include "ops/control/types.h"

namespace lathe::ops {
namespace {

std::string outputs_defect(const Node& node, std::size_t given) {
  return "has " + std::to_string(node.outputs.size()) + " outputs, but its body gives " + std::to_string(given);
}

void sequence_map_infer(InferContext& ctx) {
  const ir::GraphPtr body = nested_graph(ctx, "body");
  const LaterSymbols inner(ctx);
  std::vector<ir::Type> types;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.has_input(i)) ctx.fail("input " + std::to_string(i) + " is left out");
    const ir::Type& type = ctx.node().input(i)->type;
    if (i == 0 && type.kind != ir::TypeKind::kSequence && type.kind != ir::TypeKind::kUnknown)
      ctx.fail("its first input is no sequence, but " + type.to_string());
    types.push_back(type.kind == ir::TypeKind::kSequence ? element_type(ctx, type) : type);
  }
  const auto results = ctx.infer_subgraph(*body, types);
  if (results.size() < ctx.node().outputs.size()) ctx.fail(outputs_defect(ctx.node(), results.size()));
  for (std::size_t i = 0; i < ctx.node().outputs.size(); ++i) ctx.set_type(i, sequence_type(inner.outside(results[i])));
}

void sequence_map_reference(RefContext& ctx) {
  const ir::GraphPtr body = nested_graph(ctx, "body");
  if (!ctx.input(0).is_sequence()) ctx.fail("its first input is no sequence");
  const std::size_t count = ctx.input(0).items().size();
  for (std::size_t i = 1; i < ctx.input_count(); ++i) {
    if (ctx.input(i).is_sequence() && ctx.input(i).items().size() != count) {
      ctx.fail("maps sequences of " + std::to_string(count) + " and " + std::to_string(ctx.input(i).items().size()) + " elements");
    }
  }
  std::vector<std::vector<Tensor>> lists(ctx.output_count());
  for (std::size_t at = 0; at < count; ++at) {
    std::vector<Tensor> arguments;
    for (std::size_t i = 0; i < ctx.input_count(); ++i) arguments.push_back(ctx.input(i).is_sequence() ? ctx.input(i).items()[at] : ctx.input(i));
    std::vector<Tensor> results = ctx.run_subgraph(*body, arguments);
    if (results.size() < lists.size()) ctx.fail(outputs_defect(ctx.node(), results.size()));
    for (std::size_t i = 0; i < lists.size(); ++i) lists[i].push_back(std::move(results[i]));
  }
  for (std::size_t i = 0; i < lists.size(); ++i) ctx.set_output(i, Tensor::sequence(std::move(lists[i])));
}

}  // namespace

OpDef sequence_map_op() {
  return {.name = "SequenceMap",
          .versions = {{17, "input_sequence:S additional_inputs**:V -> out_sequence++:S", "body:graph", "S: seq(@all); V: @all seq(@all)"}},
          .infer = sequence_map_infer,
          .reference = sequence_map_reference,
          .doc = "a graph run on each element of a sequence"};
}

}  // namespace lathe::ops
