// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See proposals.h: the list of anchored patterns, on one screen.

#include "builder/proposals.h"

#include <algorithm>
#include <iterator>

#include "builder/pattern_ops.h"
#include "ops/custom/custom.h"
#include "ops/registry.h"
#include "regions/attention/attention.h"
#include "regions/conv_block/conv_block.h"
#include "regions/conv_siblings/conv_siblings.h"
#include "regions/conv_transpose/conv_transpose.h"
#include "regions/loops/propose.h"
#include "regions/matmul_block/matmul_block.h"
#include "regions/pool/pool.h"
#include "regions/rnn/rnn.h"

namespace lathe::builder {
namespace {

struct Pattern {
  std::string_view name;
  std::vector<ops::Region> (*propose)(const ir::Node&);
  std::vector<std::string_view> anchors;  ///< op types
};

const std::vector<Pattern>& patterns() {
  static const std::vector<Pattern> list{
      {"conv_siblings", regions::propose_conv_siblings, {"Conv"}},
      {"conv_block", regions::propose_conv_block, {"Conv"}},
      {"attention", regions::propose_attention, {"MatMul"}},
      {"matmul_block", regions::propose_matmul_block, {"MatMul", "Gemm"}},
      {"conv_transpose", regions::propose_conv_transpose, {"ConvTranspose"}},
      {"pool", regions::propose_pool, {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}},
      {"rnn", regions::propose_rnn, {"LSTM", "GRU", "RNN"}},
  };
  return list;
}

}  // namespace

std::vector<ops::Region> propose_anchored(const ir::Node& node) {
  std::vector<ops::Region> all;
  for (const Pattern& pattern : patterns()) {
    auto regions = pattern.propose(node);
    std::move(regions.begin(), regions.end(), std::back_inserter(all));
  }
  if (!all.empty()) return all;
  // A candidate whose pattern is an op's name serves that node alone: an op with a kernel of its own needs no entry in the list.
  if (auto name = ops::full_name(node.domain, node.op); !ops::candidates_for(name).empty()) return {make_region(std::move(name), {&node})};
  if (ops::find_custom_op(node)) return {make_region("custom", {&node})};
  return {};
}

std::vector<std::string> candidates_of(const ops::OpDef& op) {
  std::vector<std::string> names;
  for (const Pattern& pattern : patterns()) {
    if (!op.domain.empty() || std::find(pattern.anchors.begin(), pattern.anchors.end(), op.name) == pattern.anchors.end()) continue;
    for (const ops::Candidate* candidate : ops::candidates_for(pattern.name)) names.emplace_back(candidate->name);
  }
  for (const ops::Candidate* candidate : ops::candidates_for(ops::full_name(op.domain, op.name))) names.emplace_back(candidate->name);
  if (const CustomOp* custom = ops::find_custom_op(op.domain, op.name)) {
    names.emplace_back("cpu.custom");
    if (!custom->cuda.empty()) names.emplace_back("cuda.custom");
    return names;
  }
  if (op.lower) names.insert(names.end(), {"cpu.loops", "cuda.loops"});
  if (op.reference || op.expand) names.emplace_back("cpu.reference");
  return names;
}

std::vector<ops::Region> propose_fused(const ir::Graph& graph, const NodeSet& taken) { return regions::propose_loops(graph, taken); }

ops::Region make_region(std::string pattern, std::vector<const ir::Node*> nodes) { return regions::make_region(std::move(pattern), std::move(nodes)); }

bool is_view(const ir::Node& node) {
  if (!node.domain.empty() || !node.output() || !node.input(0)) return false;
  if (node.input(0)->is_constant() || !node.input(0)->has_shape() || !node.output()->has_shape()) return false;
  return node.op == "Reshape" || node.op == "Flatten" || node.op == "Squeeze" || node.op == "Unsqueeze" || node.op == "Identity";
}

}  // namespace lathe::builder
