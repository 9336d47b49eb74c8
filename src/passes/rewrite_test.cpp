// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Every case of every pass (rewrite_cases.h): the pass alone gives the expected graph or leaves it alone; what it gives is sound, computes
// the same under the same names, keeps sources and interface, prints and parses back; and the whole pipeline computes the same too.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "ir/text.h"
#include "ir/verify.h"
#include "lathe/status.h"
#include "ops/infer.h"
#include "passes/pass.h"
#include "passes/rewrite_cases.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

std::set<std::string> sources_of(const Graph& graph) {
  std::set<std::string> sources;
  ir::for_each_node_deep(graph, [&](Node& node) { sources.insert(node.sources.begin(), node.sources.end()); });
  return sources;
}

void name_sources(const Graph& graph) {
  ir::for_each_node_deep(graph, [](Node& node) {
    if (node.sources.empty() && node.output(0)) node.sources.push_back(node.outputs[0]->name);
  });
}

/// Outputs keep their order, names and types; an unknown shape may be known now, and an expression another one of the same value.
void expect_same_interface(const Graph& before, const Graph& after) {
  ASSERT_EQ(before.outputs().size(), after.outputs().size());
  for (std::size_t i = 0; i < before.outputs().size(); ++i) {
    const Value &old_output = *before.outputs()[i], &new_output = *after.outputs()[i];
    EXPECT_EQ(old_output.name, new_output.name);
    EXPECT_EQ(old_output.dtype(), new_output.dtype()) << old_output.name;
    if (!old_output.has_shape()) continue;
    ASSERT_TRUE(new_output.has_shape() && old_output.shape().size() == new_output.shape().size()) << old_output.name;
    for (std::size_t axis = 0; axis < old_output.shape().size(); ++axis) {
      const auto extent = old_output.shape()[axis].constant();
      EXPECT_TRUE(!extent || new_output.shape()[axis].constant() == extent) << old_output.name << " became " << new_output.type.to_string();
    }
  }
  std::vector<std::string> names;
  for (const Value* input : after.inputs()) names.push_back(input->name);
  std::size_t at = 0;
  for (const Value* input : before.inputs()) {
    const bool kept = at < names.size() && names[at] == input->name;
    at += kept ? 1 : 0;
    EXPECT_TRUE(kept || input->constant.defined()) << "the input '" << input->name << "' is gone";
  }
  EXPECT_EQ(at, names.size()) << "inputs were added or moved";
}

std::shared_ptr<Graph> parsed(const std::string& text) {
  auto graph = ir::parse_graph(text);
  name_sources(*graph);
  return graph;
}

SimplifyOptions only(const RewriteCase& test) {
  SimplifyOptions options = test.options;
  options.verify = true;
  for (const Pass& pass : pipeline()) {
    if (pass.name != test.pass) options.disabled.emplace_back(pass.name);
  }
  return options;
}

std::vector<ir::Bindings> sizes_of(const Graph& graph, const RewriteCase& test) {
  if (!test.sizes.empty()) return test.sizes;
  std::set<std::string> symbols;
  for (const Value* input : graph.inputs()) {
    if (!input->has_shape()) continue;
    for (const ir::Dim& dim : input->shape()) dim.collect_symbols(symbols);
  }
  std::vector<ir::Bindings> sizes(symbols.empty() ? 1 : 2);
  std::int64_t next = 3;
  for (const std::string& symbol : symbols) {
    sizes[0][symbol] = next++;
    sizes[1][symbol] = 1;
  }
  return sizes;
}

/// Inputs by name for a graph that may have fewer of them.
std::vector<Tensor> inputs_for(const Graph& graph, const Graph& drawn_for, const std::vector<Tensor>& tensors) {
  std::vector<Tensor> chosen;
  for (const Value* input : graph.inputs()) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (drawn_for.inputs()[i]->name == input->name) chosen.push_back(tensors[i]);
    }
  }
  return chosen;
}

/// Graph inputs that became constants keep their default, which the original must run with as well.
void fix_bound_defaults(const Graph& before, const Graph& after, std::vector<Tensor>& tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Value* input = before.inputs()[i];
    const Value* same = after.find(input->name);
    if (input->constant.defined() && (!same || same->is_constant())) tensors[i] = input->constant;
  }
}

class Rewrite : public testing::TestWithParam<RewriteCase> {
 protected:
  /// Runs both on seeded inputs. `inner`: values that both name are compared too; otherwise short types may round in other places.
  void expect_same_numbers(const Graph& before, const Graph& after, const Comparison& comparison, bool inner) {
    const RewriteCase& test = GetParam();
    for (const ir::Bindings& sizes : sizes_of(before, test)) {
      for (unsigned seed = 1; seed <= 3; ++seed) {
        auto tensors = draw_inputs(before, test, sizes, seed, seed > 1);
        ASSERT_TRUE(tensors) << "the inputs cannot be drawn: say 'not run', or give sizes";
        fix_bound_defaults(before, after, *tensors);
        const RunResult old_run = run_graph(before, *tensors, sizes);
        const RunResult new_run = run_graph(after, inputs_for(after, before, *tensors), sizes);
        ASSERT_EQ(old_run.outputs.size(), new_run.outputs.size());
        EXPECT_EQ(old_run.mistyped + new_run.mistyped, "");
        for (std::size_t i = 0; i < old_run.outputs.size(); ++i) {
          Comparison by_type = comparison;
          const DType dtype = old_run.outputs[i].dtype();
          if (!inner && dtype == DType::kFloat16) by_type.tolerance = std::max(by_type.tolerance, 4e-3);
          if (!inner && dtype == DType::kBFloat16) by_type.tolerance = std::max(by_type.tolerance, 3e-2);
          EXPECT_EQ(difference(old_run.outputs[i], new_run.outputs[i], by_type), "") << "in output '" << before.outputs()[i]->name << "', seed " << seed << '\n'
                                                                                     << ir::print(after);
        }
        for (const auto& [name, tensor] : old_run.values) {
          const auto found = new_run.values.find(name);
          if (!inner || found == new_run.values.end()) continue;
          // What is computed in a wider type keeps its name: it is the tensor up to the rounding.
          const bool wider = test.options.half_in_float && tensor.dtype() == DType::kFloat16 && found->second.dtype() == DType::kFloat32;
          EXPECT_EQ(difference(tensor, wider ? found->second.cast(DType::kFloat16) : found->second, comparison), "")
              << "in '" << name << "', seed " << seed << ": a name must mean the same tensor";
        }
      }
    }
  }

  static void expect_sound(const Graph& graph, const char* what) {
    for (const std::string& defect : ir::find_defects(graph)) ADD_FAILURE() << what << ": " << defect;
    const std::string text = ir::print(graph);
    EXPECT_EQ(ir::print(*ir::parse_graph(text, &graph)), text) << what << " does not parse back";
  }
};

TEST_P(Rewrite, Case) {
  register_test_ops();
  const RewriteCase& test = GetParam();
  SCOPED_TRACE(test.file + ":" + std::to_string(test.line) + ": " + test.title);
  ASSERT_EQ(test.defect, "");

  const auto model = model_of(parsed(test.before), test.ir_version);
  ops::infer_graph(*model->graph);
  const auto before = model->graph->clone();
  const auto all_passes = model->clone();

  const SimplifyReport report = simplify(*model, only(test));
  const Graph& after = *model->graph;
  const auto& count = *std::find_if(report.passes.begin(), report.passes.end(), [&](const PassCount& c) { return c.pass == test.pass; });
  EXPECT_TRUE(report.converged);
  expect_sound(after, "the result");
  expect_same_interface(*before, after);
  if (test.fires) {
    if (test.rewrites) {
      EXPECT_EQ(count.rewrites, *test.rewrites);
    } else {
      EXPECT_GT(count.rewrites, 0) << "it did not fire";
    }
    const auto expected = parsed(test.after);
    ops::infer_graph(*expected);
    EXPECT_EQ(comparable_text(after), comparable_text(*expected));
  } else {
    EXPECT_EQ(count.rewrites, 0) << "it fired:\n" << comparable_text(after);
    EXPECT_EQ(comparable_text(after), comparable_text(*before));
  }

  // Sources: exactly those that the case names are gone, and every node has one.
  std::set<std::string> gone = sources_of(*before);
  for (const std::string& kept : sources_of(after)) EXPECT_EQ(gone.erase(kept), 1u) << "a source from nowhere: " << kept;
  EXPECT_EQ(gone, std::set<std::string>(test.gone.begin(), test.gone.end())) << "sources without a node";
  ir::for_each_node_deep(after, [](Node& node) { EXPECT_FALSE(node.sources.empty()) << node.describe(); });

  if (test.run && test.fires) expect_same_numbers(*before, after, {test.tolerance, 0, test.zero_signs_free}, true);

  SimplifyOptions options = test.options;
  options.verify = true;
  const SimplifyReport all = simplify(*all_passes, options);
  EXPECT_TRUE(all.converged);
  expect_sound(*all_passes->graph, "the whole pipeline's result");
  expect_same_interface(*before, *all_passes->graph);
  if (test.run) expect_same_numbers(*before, *all_passes->graph, {std::max(test.tolerance, 1e-5), 0, true}, false);
}

std::string case_name(const testing::TestParamInfo<RewriteCase>& info) {
  std::string name = info.param.pass + "_line_" + std::to_string(info.param.line);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Passes, Rewrite, testing::ValuesIn(all_rewrite_cases()), case_name);

TEST(RewriteCases, EveryPassHasBothKinds) {
  for (const Pass& pass : pipeline()) {
    int fires = 0, holds = 0;
    for (const RewriteCase& test : all_rewrite_cases()) {
      if (test.pass == pass.name && test.defect.empty()) ++(test.fires ? fires : holds);
    }
    EXPECT_GT(fires, 0) << "no case shows that '" << pass.name << "' fires";
    EXPECT_GT(holds, 0) << "no case shows where '" << pass.name << "' must not fire";
  }
}

}  // namespace
}  // namespace lathe::passes
