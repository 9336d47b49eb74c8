// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Files that break the format's rules: one clear error that names the culprit.

#include "onnx/test_messages.h"

namespace lathe::onnx::testing {
namespace {

namespace f = field;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Error with_initializer(const Message& tensor) { return error_of(testing::model(relu_graph({{f::graph::kInitializer, tensor}}))); }

TEST(Defects, WrongByteSizeNamesTheTensor) {
  const Error error = with_initializer(testing::tensor("conv.weight", DType::kFloat32, {2, 3}, std::string(20, 'x')));
  EXPECT_EQ(error.code(), Code::kInvalidModel);
  EXPECT_EQ(error.tensor(), "conv.weight");
  EXPECT_TRUE(has(error.message(), "24") && has(error.message(), "20") && has(error.message(), "2x3")) << error.message();
}

TEST(Defects, WrongElementCount) {
  Message t;
  t.packed_numbers(f::tensor::kDims, std::vector<std::int64_t>{1000000000, 1000});
  t.number(f::tensor::kDataType, 1);
  t.string(f::tensor::kName, "huge");
  t.packed_floats(f::tensor::kFloatData, {1, 2});
  const Error error = with_initializer(t);
  EXPECT_EQ(error.tensor(), "huge");
  EXPECT_EQ(error.code(), Code::kInvalidModel);
}

TEST(Defects, ImpossibleShapes) {
  EXPECT_EQ(with_initializer(testing::tensor("w", DType::kFloat32, {-1}, "")).tensor(), "w");
  EXPECT_EQ(with_initializer(testing::tensor("w", DType::kFloat32, {INT64_MAX, 8}, "")).tensor(), "w");
  Message unknown;
  unknown.number(f::tensor::kDataType, 99), unknown.string(f::tensor::kName, "w");
  EXPECT_TRUE(has(with_initializer(unknown).message(), "99"));
}

TEST(Defects, SparseTensors) {
  const auto sparse = [](std::vector<std::int64_t> indices, Dims index_dims, Dims dims) {
    Message s;
    s.message(f::sparse::kValues, testing::tensor("w", DType::kFloat32, {1}, raw_of<float>({1})));
    s.message(f::sparse::kIndices, testing::tensor("", DType::kInt64, index_dims, raw_of<std::int64_t>(indices)));
    s.packed_numbers(f::sparse::kDims, dims);
    return error_of(testing::model(relu_graph({{f::graph::kSparseInitializer, s}})));
  };
  EXPECT_TRUE(has(sparse({6}, {1}, {2, 3}).message(), "outside"));
  EXPECT_TRUE(has(sparse({-1}, {1}, {2, 3}).message(), "outside"));
  EXPECT_TRUE(has(sparse({0, 3}, {1, 2}, {2, 3}).message(), "outside")) << "a column that does not exist, though the element would";
  EXPECT_EQ(sparse({0, 1}, {2}, {2, 3}).tensor(), "w") << "two indices for one value";
  EXPECT_EQ(sparse({0}, {1}, {1 << 20, 1 << 20}).code(), Code::kUnsupported) << "must not be allocated";
  EXPECT_EQ(sparse({0}, {1}, {INT64_MAX, INT64_MAX}).tensor(), "w");
}

TEST(Defects, UndefinedInput) {
  const Error error = error_of(testing::model(graph(
      {{f::graph::kNode, node("Add", {"x", "ghost"}, {"y"}, {}, "/layer/Add")}, {f::graph::kInput, float_value("x")}, {f::graph::kOutput, float_value("y")}})));
  EXPECT_EQ(error.code(), Code::kInvalidModel);
  EXPECT_EQ(error.node(), "/layer/Add");
  EXPECT_TRUE(has(error.message(), "ghost"));
}

TEST(Defects, EveryDefectOfAGraphAtOnce) {
  const Error error = error_of(testing::model(
      graph({{f::graph::kNode, node("Relu", {"ghost"}, {"a"})}, {f::graph::kNode, node("Relu", {"spook"}, {"y"})}, {f::graph::kOutput, float_value("y")}})));
  EXPECT_TRUE(has(error.message(), "ghost") && has(error.message(), "spook")) << error.message();
}

TEST(Defects, DuplicateNames) {
  const auto two = [](const Parts& parts) { return error_of(testing::model(relu_graph(parts))); };
  EXPECT_TRUE(has(two({{f::graph::kNode, node("Relu", {"x"}, {"y"})}}).message(), "'y'"));
  EXPECT_EQ(two({{f::graph::kInput, float_value("x")}}).tensor(), "x");
  const Message w = testing::tensor("w", DType::kFloat32, {1}, raw_of<float>({1}));
  EXPECT_EQ(two({{f::graph::kInitializer, w}, {f::graph::kInitializer, w}}).tensor(), "w");
  EXPECT_TRUE(has(two({{f::graph::kNode, node("Relu", {"x"}, {"w"})}, {f::graph::kInitializer, w}}).message(), "'w'"));
  Message a;
  a.string(f::attribute::kName, "a"), a.number(f::attribute::kInt, 1), a.number(f::attribute::kKind, 2);
  EXPECT_TRUE(has(two({{f::graph::kNode, node("Relu", {"x"}, {"z"}, {a, a})}}).message(), "'a' is given twice"));
}

TEST(Defects, Cycle) {
  const Error error = error_of(testing::model(graph({{f::graph::kNode, node("Add", {"x", "b"}, {"a"})},
                                                     {f::graph::kNode, node("Relu", {"a"}, {"b"})},
                                                     {f::graph::kInput, float_value("x")},
                                                     {f::graph::kOutput, float_value("b")}})));
  EXPECT_EQ(error.code(), Code::kInvalidModel);
  EXPECT_TRUE(has(error.message(), "cycle"));
}

TEST(Defects, OutputThatNobodyMakes) {
  EXPECT_EQ(error_of(testing::model(graph({{f::graph::kInput, float_value("x")}, {f::graph::kOutput, float_value("lost")}}))).tensor(), "lost");
}

TEST(Defects, InnerNameThatHidesAnOuterOne) {
  const Message branch = graph({{f::graph::kNode, node("Relu", {"x"}, {"y"})}, {f::graph::kOutput, float_value("y")}});
  const Error error = error_of(
      testing::model(graph({{f::graph::kNode, node("If", {"c"}, {"y"}, {graph_attribute("then_branch", branch), graph_attribute("else_branch", branch)})},
                            {f::graph::kInput, float_value("x")},
                            {f::graph::kInput, value_info("c", tensor_type(DType::kBool, {}))},
                            {f::graph::kOutput, float_value("y")}})));
  EXPECT_EQ(error.code(), Code::kInvalidModel);
  EXPECT_TRUE(has(error.what(), "'y'")) << error.what();
}

TEST(Defects, Versions) {
  EXPECT_EQ(error_of(testing::model(relu_graph(), {}, 15)).code(), Code::kUnsupported);
  EXPECT_TRUE(has(error_of(testing::model(relu_graph(), {}, 15)).message(), "15"));
  EXPECT_EQ(error_of(testing::model(relu_graph(), {}, 0)).code(), Code::kCorruptFile);
  EXPECT_EQ(error_of(testing::model(relu_graph(), {}, 10, 29)).code(), Code::kUnsupported);
  EXPECT_TRUE(has(error_of(testing::model(relu_graph(), {}, 10, 29)).message(), "29"));
  EXPECT_EQ(error_of(testing::model(relu_graph(), {}, 10, 0)).code(), Code::kInvalidModel);
}

TEST(Defects, NotAModel) {
  EXPECT_EQ(error_of("").code(), Code::kCorruptFile);
  EXPECT_EQ(error_of("<html>404 not found</html>").code(), Code::kCorruptFile);
  EXPECT_EQ(error_of(std::string(1000, '\0')).code(), Code::kCorruptFile);
  EXPECT_EQ(error_of("version https://git-lfs.github.com/spec/v1\n").code(), Code::kCorruptFile);
  Message no_graph;
  no_graph.number(f::model::kIrVersion, 8);
  EXPECT_EQ(error_of(bytes_of(no_graph)).code(), Code::kCorruptFile);
}

TEST(Defects, FieldOfTheWrongWireType) {
  Message n;
  n.number(f::node::kOpType, 5);  // a number where a text belongs
  EXPECT_EQ(error_of(testing::model(graph({{f::graph::kNode, n}}))).code(), Code::kCorruptFile);
  Message m;
  m.string(f::model::kIrVersion, "8");
  EXPECT_EQ(error_of(bytes_of(m)).code(), Code::kCorruptFile);
}

TEST(Defects, EndlessNesting) {
  Message g = graph({});
  for (int i = 0; i < 500; ++i) g = graph({{f::graph::kNode, node("If", {}, {}, {graph_attribute("then_branch", g)})}});
  EXPECT_TRUE(has(error_of(testing::model(g)).message(), "nested too deeply"));
  Message type = tensor_type(DType::kFloat32, {});
  for (int i = 0; i < 500; ++i) {
    Message inner, outer;
    inner.message(f::type::kElement, type);
    outer.message(f::type::kSequence, inner);
    type = outer;
  }
  EXPECT_EQ(error_of(testing::model(relu_graph({{f::graph::kInput, value_info("deep", type)}}))).tensor(), "deep");
}

TEST(Defects, AttributeWithoutItsValue) {
  Message a;
  a.string(f::attribute::kName, "body"), a.number(f::attribute::kKind, static_cast<int>(ir::AttrType::kGraph));
  const Error error = error_of(testing::model(graph({{f::graph::kNode, node("Loop", {}, {"y"}, {a}, "loop")}, {f::graph::kOutput, float_value("y")}})));
  EXPECT_EQ(error.node(), "loop");
  EXPECT_TRUE(has(error.message(), "'body'"));
}

TEST(Defects, ExternalDataAway) {
  const auto external = [](const std::string& location) {
    Message t, entry;
    t.packed_numbers(f::tensor::kDims, std::vector<std::int64_t>{2});
    t.number(f::tensor::kDataType, 1);
    t.string(f::tensor::kName, "w");
    entry.string(f::entry::kKey, "location"), entry.string(f::entry::kValue, location);
    t.message(f::tensor::kExternal, entry);
    t.number(f::tensor::kLocation, 1);
    return error_of(testing::model(relu_graph({{f::graph::kInitializer, t}})), "/nonexistent");
  };
  EXPECT_EQ(external("weights.bin").tensor(), "w");
  EXPECT_EQ(external("weights.bin").code(), Code::kIo);
  for (const char* outside : {"../secret", "/etc/passwd", "a/../../b"}) EXPECT_TRUE(has(external(outside).message(), "outside")) << outside;
}

}  // namespace
}  // namespace lathe::onnx::testing
