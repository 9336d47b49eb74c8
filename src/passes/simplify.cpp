// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The simplifier's driver: rounds of the pipeline to a fixed point, inference in between, the report.

#include "passes/simplify.h"

#include <algorithm>
#include <cstdio>

#include "base/knobs.h"
#include "base/log.h"
#include "base/os.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "ops/import.h"
#include "ops/infer.h"
#include "ops/registry.h"
#include "passes/pass.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;

#ifdef NDEBUG
constexpr bool kVerifyAlways = false;
#else
constexpr bool kVerifyAlways = true;
#endif

using OpCounts = std::map<std::string, std::size_t>;

OpCounts count_ops(const Graph& graph) {
  OpCounts counts;
  ir::for_each_node_deep(graph, [&](Node& node) { ++counts[ops::full_name(node.domain, node.op)]; });
  return counts;
}

// The pass on the graph, then on the graphs nested in what is left.
int run_deep(const Pass& pass, Graph& graph, PassContext& context) {
  int rewrites = pass.run(graph, context);
  for (Node* node : graph.nodes()) {
    for (Graph* nested : ir::nested_graphs(*node)) rewrites += run_deep(pass, *nested, context);
  }
  return rewrites;
}

void infer(ir::Model& model, bool first) {
  ops::InferOptions options;
  options.check_types = first;  // rewrites keep types; once is enough
  ops::infer_graph(model, options);
}

class Driver {
 public:
  Driver(ir::Model& model, const SimplifyOptions& options) : model_(model), options_(options), context_{model, options, constant_bytes(*model.graph)} {
    dump_after_ = options.dump_after.empty() ? knob("LATHE_DUMP_AFTER") : options.dump_after;
    for (const Pass& pass : pipeline()) {
      if (std::find(options.disabled.begin(), options.disabled.end(), pass.name) == options.disabled.end()) passes_.push_back(&pass);
      report_.passes.push_back({std::string(pass.name), 0, 0});
    }
    check_names();
  }

  SimplifyReport run() {
    const double start = os::now_seconds();
    for (const auto& [op, count] : count_ops(*model_.graph)) {
      report_.ops[op].first = count;
      report_.nodes_before += count;
    }
    ops::canonicalise_opsets(model_);
    infer(model_, true);
    int rewrites = 1;
    while (rewrites > 0 && report_.rounds < options_.max_rounds) {
      rewrites = round();
      ++report_.rounds;
    }
    report_.converged = rewrites == 0;
    if (!report_.converged) log(LogLevel::kWarning, "simplify: stopped after {} rounds with rewrites left", report_.rounds);
    for (const auto& [op, count] : count_ops(*model_.graph)) {
      report_.ops[op].second = count;
      report_.nodes_after += count;
    }
    report_.seconds = os::now_seconds() - start;
    return std::move(report_);
  }

 private:
  void check_names() const {
    const auto known = [](std::string_view name) {
      return std::any_of(pipeline().begin(), pipeline().end(), [&](const Pass& pass) { return pass.name == name; });
    };
    std::vector<std::string> names = options_.disabled;
    if (!dump_after_.empty() && dump_after_ != "all") names.push_back(dump_after_);
    for (const std::string& name : names) {
      if (known(name)) continue;
      std::string all;
      for (const Pass& pass : pipeline()) all += (all.empty() ? "" : ", ") + std::string(pass.name);
      throw Error(Code::kInvalidArgument, "there is no pass '" + name + "'").with_remedy("The passes are: " + all + ".");
    }
  }

  int round() {
    int total = 0;
    for (const Pass* pass : passes_) {
      if (options_.before_pass) options_.before_pass();
      const double start = os::now_seconds();
      const int rewrites = run_deep(*pass, *model_.graph, context_);
      if (rewrites > 0) infer(model_, false);
      PassCount& count = report_.passes[static_cast<std::size_t>(pass - pipeline().data())];
      count.rewrites += rewrites;
      count.seconds += os::now_seconds() - start;
      total += rewrites;
      if (rewrites > 0) log(LogLevel::kDebug, "simplify: round {}, {}: {} rewrites", report_.rounds, pass->name, rewrites);
      if (options_.verify || kVerifyAlways) ir::verify(*model_.graph, pass->name);
      const bool named = dump_after_ == pass->name || dump_after_ == "all";
      if (named && (rewrites > 0 || report_.rounds == 0)) {
        const std::string text = ir::print(*model_.graph);
        std::fprintf(stderr, "// after %s, round %d, %d rewrites\n%s", std::string(pass->name).c_str(), report_.rounds, rewrites, text.c_str());
      }
    }
    return total;
  }

  ir::Model& model_;
  const SimplifyOptions& options_;
  PassContext context_;
  std::string dump_after_;
  std::vector<const Pass*> passes_;
  SimplifyReport report_;
};

}  // namespace

std::size_t constant_bytes(const Graph& graph) {
  std::size_t bytes = 0;
  for (const ir::Value* value : graph.values()) {
    if (value->is_constant()) bytes += value->constant.bytes();
  }
  for (const Node* node : graph.nodes()) {
    for (const Graph* nested : ir::nested_graphs(*node)) bytes += constant_bytes(*nested);
  }
  return bytes;
}

SimplifyReport simplify(ir::Model& model, const SimplifyOptions& options) { return Driver(model, options).run(); }

std::vector<PassInfo> pass_list() {
  std::vector<PassInfo> list;
  for (const Pass& pass : pipeline()) list.push_back({std::string(pass.name), std::string(pass.doc)});
  return list;
}

}  // namespace lathe::passes
