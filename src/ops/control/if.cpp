// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// If: one of two graphs, by a condition.
#include "lathe/status.h"
#include "ops/control/control.h"
#include "ops/control/types.h"

namespace lathe::ops {
namespace {

/// Types and contents of a branch's outputs.
struct Branch {
  ir::GraphPtr graph;
  std::vector<ir::Type> types;
};

Branch infer_branch(InferContext& ctx, std::string_view name) {
  Branch branch{nested_graph(ctx, name), {}};
  branch.types = ctx.infer_subgraph(*branch.graph, {});
  if (branch.types.size() < ctx.node().outputs.size()) {
    ctx.fail("has " + std::to_string(ctx.node().outputs.size()) + " outputs, but its " + std::string(name) + " gives " + std::to_string(branch.types.size()));
  }
  return branch;
}

void if_infer(InferContext& ctx) {
  if (!ctx.has_input(0)) ctx.fail("has no condition");
  const std::size_t outputs = ctx.node().outputs.size();
  if (const auto taken = known_flag(ctx.node().input(0))) {
    const Branch branch = infer_branch(ctx, *taken ? "then_branch" : "else_branch");
    try {
      infer_branch(ctx, *taken ? "else_branch" : "then_branch");
    } catch (const Error&) {
      // It need not even be valid for these inputs: exporters write "if the extent is 1 then Squeeze".
    }
    for (std::size_t i = 0; i < outputs; ++i) {
      ctx.set_type(i, branch.types[i]);
      if (const auto& content = branch.graph->outputs()[i]->content) ctx.set_content(i, *content);
    }
    return;
  }
  const Branch then_branch = infer_branch(ctx, "then_branch"), else_branch = infer_branch(ctx, "else_branch");
  for (std::size_t i = 0; i < outputs; ++i) {
    TypeJoin join(ctx);
    const auto type = join(then_branch.types[i], else_branch.types[i]);
    if (!type) {
      ctx.fail("output " + std::to_string(i) + " is " + then_branch.types[i].to_string() + " in its then_branch, but " + else_branch.types[i].to_string() +
               " in its else_branch");
    }
    ctx.set_type(i, *type);
    const auto &a = then_branch.graph->outputs()[i]->content, &b = else_branch.graph->outputs()[i]->content;
    if (a && b && *a == *b) ctx.set_content(i, *a);
  }
}

void if_reference(RefContext& ctx) {
  const char* name = condition_of(ctx, ctx.input(0), "the condition") ? "then_branch" : "else_branch";
  const ir::GraphPtr branch = nested_graph(ctx, name);
  std::vector<Tensor> results = ctx.run_subgraph(*branch, {});
  if (results.size() < ctx.output_count()) {
    ctx.fail("has " + std::to_string(ctx.output_count()) + " outputs, but its " + name + " gives " + std::to_string(results.size()));
  }
  for (std::size_t i = 0; i < ctx.output_count(); ++i) ctx.set_output(i, std::move(results[i]));
}

}  // namespace

OpDef if_op() {
  constexpr std::string_view kIo = "cond:B -> outputs++:V", kAttrs = "then_branch:graph else_branch:graph";
  static const std::string types[] = {"B: bool; V: " + std::string(kPassed1),  "B: bool; V: " + std::string(kPassed13), "B: bool; V: " + std::string(kPassed16),
                                      "B: bool; V: " + std::string(kPassed19), "B: bool; V: " + std::string(kPassed21), "B: bool; V: " + std::string(kPassed23),
                                      "B: bool; V: " + std::string(kPassed24), "B: bool; V: " + std::string(kPassed25)};
  return {.name = "If",
          .versions = {{1, kIo, kAttrs, types[0]},
                       {11, kIo, kAttrs, types[0]},
                       {13, kIo, kAttrs, types[1]},
                       {16, kIo, kAttrs, types[2]},
                       {19, kIo, kAttrs, types[3]},
                       {21, kIo, kAttrs, types[4]},
                       {23, kIo, kAttrs, types[5]},
                       {24, kIo, kAttrs, types[6]},
                       {25, kIo, kAttrs, types[7]}},
          .infer = if_infer,
          .reference = if_reference,
          .doc = "one of two graphs, by a condition"};
}

}  // namespace lathe::ops
