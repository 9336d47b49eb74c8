// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Local functions: read, written, expanded.

#include <fmt/format.h>

#include "ir/verify.h"
#include "onnx/test_messages.h"

namespace lathe::onnx::testing {
namespace {

namespace f = field;

Message call(const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
             const std::vector<Message>& attributes = {}, const std::string& name = {}) {
  Message n = node(op, inputs, outputs, attributes, name);
  n.string(f::node::kDomain, "local");
  return n;
}

Message float_attribute(const std::string& name, float value) {
  Message a;
  a.string(f::attribute::kName, name), a.single(f::attribute::kFloat, value), a.number(f::attribute::kKind, 1);
  return a;
}

Message reference(const std::string& name, const std::string& to) {
  Message a;
  a.string(f::attribute::kName, name), a.number(f::attribute::kKind, 1), a.string(f::attribute::kRef, to);
  return a;
}

Message function(const std::string& name, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs, const std::vector<Message>& nodes,
                 const std::vector<std::string>& attributes = {}, const std::vector<Message>& defaults = {}, std::int64_t version = 20) {
  Message out;
  out.string(f::function::kName, name);
  for (const auto& input : inputs) out.string(f::function::kInput, input);
  for (const auto& output : outputs) out.string(f::function::kOutput, output);
  for (const auto& attribute : attributes) out.string(f::function::kAttribute, attribute);
  for (const auto& n : nodes) out.message(f::function::kNode, n);
  out.message(f::function::kOpsetImport, opset("", version));
  out.message(f::function::kOpsetImport, opset("local", 1));
  out.string(f::function::kDomain, "local");
  for (const auto& value : defaults) out.message(f::function::kAttributeProto, value);
  return out;
}

std::string model_with(const std::vector<Message>& nodes, const std::vector<Message>& functions) {
  Parts parts{{f::graph::kInput, float_value("x")}, {f::graph::kOutput, float_value("y")}}, more{{f::model::kOpsetImport, opset("local", 1)}};
  for (const auto& n : nodes) parts.emplace_back(f::graph::kNode, n);
  for (const auto& fn : functions) more.emplace_back(f::model::kFunctions, fn);
  return testing::model(graph(parts), more);
}

std::shared_ptr<ir::Model> inlined(const std::string& bytes) {
  const auto model = read(roundtrip(bytes));
  inline_functions(*model);
  ir::verify(*model->graph, "inlining");
  EXPECT_TRUE(model->functions.empty());
  return model;
}

std::vector<std::string> ops(const ir::Graph& graph) {
  std::vector<std::string> names;
  for (const ir::Node* n : graph.nodes()) names.push_back(n->op);
  return names;
}

TEST(Functions, AttributesDefaultsAndNames) {
  const std::vector<Message> functions{
      function("Leaky", {"a"}, {"b"}, {node("LeakyRelu", {"a"}, {"b"}, {reference("alpha", "slope")})}, {"slope"}),
      function("Gentle", {"a"}, {"b"}, {node("LeakyRelu", {"a"}, {"b"}, {reference("alpha", "slope")})}, {}, {float_attribute("slope", 0.25f)}),
      function("Open", {"a"}, {"b"}, {node("LeakyRelu", {"a"}, {"b"}, {reference("alpha", "slope")})}, {})};
  const auto model = inlined(model_with({call("Leaky", {"x"}, {"h"}, {float_attribute("slope", 0.5f)}, "first"), call("Gentle", {"h"}, {"i"}, {}, "second"),
                                         call("Open", {"i"}, {"y"}, {}, "third")},
                                        functions));
  const auto nodes = model->graph->nodes();
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_EQ(nodes[0]->attrs.get_float("alpha", 0), 0.5f);
  EXPECT_EQ(nodes[1]->attrs.get_float("alpha", 0), 0.25f);
  EXPECT_FALSE(nodes[2]->attrs.has("alpha")) << "without value and default the operator's own default holds";
  EXPECT_EQ(nodes[0]->outputs[0]->name, "h") << "the caller's names stay";
  EXPECT_EQ(nodes[2]->outputs[0]->name, "y");
  EXPECT_EQ(nodes[0]->sources, std::vector<std::string>{"first"});
}

TEST(Functions, FunctionsThatCallFunctions) {
  const auto model =
      inlined(model_with({call("Outer", {"x"}, {"y"})}, {function("Outer", {"a"}, {"c"}, {call("Inner", {"a"}, {"b"}), call("Inner", {"b"}, {"c"})}),
                                                         function("Inner", {"a"}, {"b"}, {node("Relu", {"a"}, {"t"}), node("Neg", {"t"}, {"b"})})}));
  EXPECT_EQ(ops(*model->graph), (std::vector<std::string>{"Relu", "Neg", "Relu", "Neg"}));
}

TEST(Functions, OutputThatIsAnInput) {
  const auto model = inlined(model_with({call("Same", {"x"}, {"y"})}, {function("Same", {"a"}, {"a"}, {})}));
  EXPECT_EQ(ops(*model->graph), std::vector<std::string>{"Identity"});
  EXPECT_EQ(model->graph->outputs()[0]->name, "y");
}

TEST(Functions, OneValueForTwoOutputs) {
  const auto model = inlined(
      model_with({call("Twice", {"x"}, {"p", "q"}), node("Add", {"p", "q"}, {"y"})}, {function("Twice", {"a"}, {"b", "b"}, {node("Relu", {"a"}, {"b"})})}));
  const ir::Node& add = *model->graph->nodes().back();
  EXPECT_EQ(add.inputs[0]->producer->op == "Relu" || add.inputs[0]->producer->op == "Identity", true);
  EXPECT_EQ(ops(*model->graph).front(), "Relu");
}

TEST(Functions, AbsentArguments) {
  const auto model =
      inlined(model_with({call("Clamp", {"x"}, {"y"})}, {function("Clamp", {"a", "low", "high"}, {"b"}, {node("Clip", {"a", "low", "high"}, {"b"})})}));
  EXPECT_EQ(model->graph->nodes()[0]->inputs.size(), 1u);
}

TEST(Functions, NestedGraphsInABody) {
  const Message branch = graph({{f::graph::kNode, node("Add", {"a", "a"}, {"t"})}, {f::graph::kOutput, float_value("t")}});
  const Message body = node("If", {"c"}, {"b"}, {graph_attribute("then_branch", branch), graph_attribute("else_branch", branch)});
  const auto model = inlined(model_with({node("Cast", {"x"}, {"k"}), call("Choose", {"k", "x"}, {"h"}), call("Choose", {"k", "h"}, {"y"})},
                                        {function("Choose", {"c", "a"}, {"b"}, {body})}));
  const auto nodes = model->graph->nodes();
  ASSERT_EQ(nodes.size(), 3u);
  const ir::Node& add = *nodes[2]->attrs.get_graph("then_branch")->nodes()[0];
  EXPECT_EQ(add.inputs[0]->name, "h") << "the second call's branch reads the first call's result";
}

TEST(Functions, Defects) {
  const auto error = [](const std::string& bytes) {
    try {
      const auto model = read(bytes);
      inline_functions(*model);
    } catch (const Error& e) {
      return e;
    }
    ADD_FAILURE() << "no error";
    return Error(Code::kOk, "");
  };
  const Error recursion = error(model_with({call("A", {"x"}, {"y"}, {}, "caller")},
                                           {function("A", {"a"}, {"b"}, {call("B", {"a"}, {"b"})}), function("B", {"a"}, {"b"}, {call("A", {"a"}, {"b"})})}));
  EXPECT_EQ(recursion.code(), Code::kInvalidModel);
  EXPECT_EQ(recursion.node(), "caller");
  // Calls that double at each level would take for ever.
  std::vector<Message> tower;
  for (int i = 0; i < 60; ++i) {
    const std::string next = fmt::format("T{}", i + 1);
    tower.push_back(function(fmt::format("T{}", i), {"a"}, {"c"}, {call(next, {"a"}, {"b"}), call(next, {"b"}, {"c"})}));
  }
  tower.push_back(function("T60", {"a"}, {"c"}, {node("Relu", {"a"}, {"c"})}));
  EXPECT_EQ(error(model_with({call("T0", {"x"}, {"y"})}, tower)).code(), Code::kInvalidModel);
  EXPECT_EQ(error(model_with({call("A", {"x"}, {"y", "z"})}, {function("A", {"a"}, {"b"}, {node("Relu", {"a"}, {"b"})})})).code(), Code::kInvalidModel);
  EXPECT_EQ(error(model_with({call("A", {"x", "x"}, {"y"})}, {function("A", {"a"}, {"b"}, {node("Relu", {"a"}, {"b"})})})).code(), Code::kInvalidModel);
  EXPECT_EQ(error(model_with({call("A", {"x"}, {"y"})}, {function("A", {"a"}, {"b"}, {node("Relu", {"a"}, {"b"})}, {}, {}, 7)})).code(), Code::kUnsupported);
  EXPECT_EQ(error(model_with({call("A", {"x"}, {"y"})}, {function("A", {"a"}, {"lost"}, {node("Relu", {"a"}, {"b"})})})).tensor(), "lost");
  EXPECT_EQ(error(model_with({call("A", {"x"}, {"y"})},
                             {function("A", {"a"}, {"b"}, {node("Relu", {"a"}, {"b"})}), function("A", {"a"}, {"b"}, {node("Neg", {"a"}, {"b"})})}))
                .code(),
            Code::kInvalidModel)
      << "two functions of one name";
}

}  // namespace
}  // namespace lathe::onnx::testing
