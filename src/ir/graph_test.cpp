// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Graph surgery: uses, names, outputs, nested graphs, clones, sorting; and that the verifier sees what is broken.

#include "ir/graph.h"

#include <gtest/gtest.h>

#include "ir/text.h"
#include "ir/verify.h"
#include "lathe/status.h"

namespace lathe::ir {
namespace {

constexpr const char* kWithBranch = R"(
graph main(c: bool[], x: float[n]) -> (y) {
  a: float[n] = Relu(x) @"relu"
  y: float[n] = If(c) {else_branch=graph e() -> (f) {
    f = Neg(a)
  }, then_branch=graph t() -> (g) {
    h = Exp(a)
    g = Add(h, x)
  }}
}
)";

void expect_sound(const Graph& graph) {
  for (const std::string& defect : find_defects(graph)) ADD_FAILURE() << defect;
}

Node* node_of(const Graph& graph, std::string_view value) { return graph.find(value)->producer; }

TEST(Graph, UsesCountCapturesOfNestedGraphs) {
  const auto graph = parse_graph(kWithBranch);
  expect_sound(*graph);
  EXPECT_EQ(graph->find("a")->uses.size(), 2u);
  EXPECT_EQ(graph->find("x")->uses.size(), 2u);
  const Graph* then_branch = node_of(*graph, "y")->attrs.get_graph("then_branch").get();
  EXPECT_EQ(captured_values(*then_branch), (std::vector<Value*>{graph->find("a"), graph->find("x")}));
  int nodes = 0;
  for_each_node_deep(*graph, [&](Node&) { ++nodes; });
  EXPECT_EQ(nodes, 5);
}

TEST(Graph, ReplaceReachesIntoNestedGraphs) {
  const auto graph = parse_graph(kWithBranch);
  Value* a = graph->find("a");
  EXPECT_TRUE(graph->replace_all_uses(a, graph->find("x")));
  EXPECT_TRUE(a->uses.empty());
  graph->erase(a->producer);
  expect_sound(*graph);
  EXPECT_EQ(graph->find("x")->uses.size(), 3u);
  EXPECT_EQ(graph->node_count(), 1u);
}

TEST(Graph, ErasingANodeReleasesWhatItsBranchesCapture) {
  const auto graph = parse_graph(kWithBranch);
  Node* conditional = node_of(*graph, "y");
  graph->set_output(0, graph->find("a"));
  graph->erase(conditional);
  EXPECT_TRUE(graph->find("a")->uses.empty());
  expect_sound(*graph);
}

TEST(Graph, NestedGraphMayOutliveItsParent) {
  GraphPtr kept;
  {
    const auto graph = parse_graph(kWithBranch);
    kept = node_of(*graph, "y")->attrs.get_graph("then_branch");
  }
  EXPECT_EQ(kept->node_count(), 2u);
  EXPECT_EQ(kept->nodes()[0]->input(0), nullptr);  // the captured value died with the parent
}

TEST(Graph, ReplacingAGraphOutputMovesItsName) {
  const auto graph = parse_graph(R"(
graph main(x: float[n]) -> (y) {
  a: float[n] = Relu(x)
  y: float[n] = Identity(a)
}
)");
  Value* y = graph->find("y");
  Node* identity = y->producer;
  EXPECT_TRUE(graph->replace_all_uses(y, graph->find("a")));
  graph->erase(identity);
  expect_sound(*graph);
  ASSERT_EQ(graph->outputs().size(), 1u);
  EXPECT_EQ(graph->outputs()[0]->name, "y");
  EXPECT_EQ(graph->outputs()[0]->producer->op, "Relu");
  EXPECT_EQ(graph->find("a"), nullptr);
}

TEST(Graph, ReplaceRefusesToLoseAnInterfaceName) {
  const auto graph = parse_graph(R"(
graph main(x: float[2]) -> (y, z, v) {
  k: float[2] = const {1.0, 2.0}
  y = Identity(x)
  z = Neg(x)
  v = Identity(z)
}
)");
  const std::string before = print(*graph);
  EXPECT_FALSE(graph->replace_all_uses(graph->find("y"), graph->find("x")));  // a graph input
  EXPECT_FALSE(graph->replace_all_uses(graph->find("v"), graph->find("z")));  // another graph output
  EXPECT_FALSE(graph->replace_all_uses(graph->find("y"), graph->find("k")));  // a constant
  EXPECT_EQ(print(*graph), before);
}

TEST(Graph, OutputsThatAreNotItsOwnPassThroughIdentity) {
  const auto graph = parse_graph(kWithBranch);
  Graph* branch = node_of(*graph, "y")->attrs.get_graph("then_branch").get();
  branch->set_output(0, graph->find("a"));
  EXPECT_EQ(branch->outputs()[0]->producer->op, "Identity");
  expect_sound(*graph);
}

TEST(Graph, NamesAreUniqueAcrossNestedGraphs) {
  const auto graph = parse_graph(kWithBranch);
  EXPECT_EQ(graph->unique_name("fresh"), "fresh");
  const std::string name = graph->unique_name("h");  // "h" lives in a branch
  EXPECT_NE(name, "h");
  EXPECT_EQ(graph->find(name), nullptr);
  EXPECT_THROW(graph->add_input("a", Type::tensor(DType::kFloat32)), Error);
  graph->rename(graph->find("a"), "renamed");
  EXPECT_EQ(graph->find("a"), nullptr);
  EXPECT_TRUE(graph->is_free("a"));
  EXPECT_NE(graph->unique_name("a"), "a");  // something else would go by the name
  EXPECT_THROW(graph->rename(graph->find("renamed"), "x"), Error);
  expect_sound(*graph);
}

TEST(Graph, AFailedAddLeavesNothingBehind) {
  const auto graph = parse_graph(kWithBranch);
  const std::string before = print(*graph);
  EXPECT_THROW(graph->add_node("", "Split", {graph->find("x")}, {"new", "a"}), Error);
  EXPECT_EQ(print(*graph), before);
  EXPECT_TRUE(graph->is_free("new"));
}

TEST(Graph, CloneIsDeepAndKeepsCapturesInside) {
  const auto graph = parse_graph(kWithBranch);
  const auto copy = graph->clone();
  EXPECT_EQ(print(*copy), print(*graph));
  expect_sound(*copy);
  const std::size_t uses = graph->find("a")->uses.size();
  copy->replace_all_uses(copy->find("a"), copy->find("x"));
  EXPECT_EQ(graph->find("a")->uses.size(), uses);
  expect_sound(*graph);
  // A branch cloned into the graph around it still captures the same values.
  Graph* branch = node_of(*graph, "y")->attrs.get_graph("then_branch").get();
  const std::size_t before = graph->find("a")->uses.size();
  {
    const auto inlined = branch->clone(graph.get());
    EXPECT_EQ(graph->find("a")->uses.size(), before + 1);
  }
  EXPECT_EQ(graph->find("a")->uses.size(), before);
}

TEST(Graph, SortIsStableAndSeesCaptures) {
  const auto graph = parse_graph(kWithBranch);
  graph->move_before(node_of(*graph, "y"), node_of(*graph, "a"));
  EXPECT_FALSE(find_defects(*graph).empty());
  graph->sort_topologically();
  expect_sound(*graph);
  EXPECT_EQ(graph->nodes()[0]->op, "Relu");
}

TEST(Graph, SortNamesANodeOfACycle) {
  const auto graph = parse_graph(R"(
graph main(x: float[n]) -> (b) {
  a = Add(x, x) @"first"
  b = Relu(a) @"second"
}
)");
  graph->set_input(node_of(*graph, "a"), 1, graph->find("b"));
  try {
    graph->sort_topologically();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidModel);
    EXPECT_EQ(error.node(), "first");
  }
}

TEST(Graph, ErasingAnyNodeWhileIterating) {
  const auto graph = parse_graph(R"(
graph main(x: float[n]) -> (d) {
  a = Relu(x)
  b = Neg(a)
  c = Exp(b)
  d = Abs(a)
}
)");
  std::vector<std::string> seen;
  graph->for_each([&](Node& node) {
    seen.push_back(node.op);
    if (node.op != "Relu") return;
    graph->erase(node_of(*graph, "c"));
    graph->erase(node_of(*graph, "b"));
    graph->add_node("", "Sqrt", {graph->find("a")}, {"e"});
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"Relu", "Abs"}));
  expect_sound(*graph);
}

TEST(Graph, EraseRefusesWhatIsUsed) {
  const auto graph = parse_graph(kWithBranch);
  EXPECT_THROW(graph->erase(node_of(*graph, "a")), Error);
  EXPECT_THROW(graph->erase(node_of(*graph, "y")), Error);
  EXPECT_THROW(graph->remove_input(1), Error);
  EXPECT_THROW(graph->remove_node_output(node_of(*graph, "y"), 0), Error);
}

TEST(Graph, RemovedOutputsStayValues) {
  const auto graph = parse_graph(kWithBranch);
  const std::size_t before = graph->outputs().size();
  graph->add_output(graph->find("a"));
  EXPECT_TRUE(graph->find("a")->is_graph_output());
  graph->remove_output(before);
  EXPECT_EQ(graph->outputs().size(), before);
  EXPECT_FALSE(graph->find("a")->is_graph_output());
  EXPECT_THROW(graph->remove_output(before), std::out_of_range);
  expect_sound(*graph);
}

TEST(Graph, UnusedConstantsGoUsedOnesStay) {
  const auto graph = parse_graph(R"(
graph main(c: bool[]) -> (y) {
  k: float[1] = const {1.0}
  unused: float[1] = const {2.0}
  y = If(c) {then_branch=graph t() -> (a) {
    inner: float[1] = const {3.0}
    a = Neg(k)
  }, else_branch=graph e() -> (b) {
    b = Exp(k)
  }}
}
)");
  graph->erase_unused_constants();
  EXPECT_NE(graph->find("k"), nullptr);
  EXPECT_EQ(graph->find("unused"), nullptr);
  EXPECT_EQ(node_of(*graph, "y")->attrs.get_graph("then_branch")->find("inner"), nullptr);
  expect_sound(*graph);
}

TEST(Verify, SeesWhatIsBroken) {
  const auto broken = [](const std::function<void(Graph&)>& damage) {
    const auto graph = parse_graph(kWithBranch);
    damage(*graph);
    const std::size_t count = find_defects(*graph).size();
    if (count > 0) {
      EXPECT_THROW(verify(*graph, "test"), Error);
    }
    return count > 0;
  };
  EXPECT_FALSE(broken([](Graph&) {}));
  EXPECT_TRUE(broken([](Graph& g) { node_of(g, "a")->inputs[0] = g.find("y"); }));
  EXPECT_TRUE(broken([](Graph& g) { g.find("a")->uses.pop_back(); }));
  EXPECT_TRUE(broken([](Graph& g) { g.find("a")->uses.push_back(g.find("a")->uses[0]); }));
  EXPECT_TRUE(broken([](Graph& g) { g.find("a")->graph_output_count = 1; }));
  EXPECT_TRUE(broken([](Graph& g) { g.find("a")->producer = nullptr; }));
  EXPECT_TRUE(broken([](Graph& g) { g.find("a")->producer_index = 1; }));
  EXPECT_TRUE(broken([](Graph& g) { g.add_constant("k", Tensor::scalar(3))->type.dtype = DType::kInt32; }));
  EXPECT_TRUE(broken([](Graph& g) { g.add_constant("k", Tensor::scalar(3))->type.shape = Shape{2}; }));
  EXPECT_TRUE(broken([](Graph& g) { node_of(g, "a")->op.clear(); }));
  EXPECT_TRUE(broken([](Graph& g) { g.move_before(node_of(g, "y"), node_of(g, "a")); }));
  // A value of a sibling branch is out of sight.
  EXPECT_TRUE(broken([](Graph& g) {
    Graph* then_branch = node_of(g, "y")->attrs.get_graph("then_branch").get();
    Graph* else_branch = node_of(g, "y")->attrs.get_graph("else_branch").get();
    g.set_input(else_branch->nodes()[0], 0, then_branch->find("h"));
  }));
}

}  // namespace
}  // namespace lathe::ir
