// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// CastMap, DictVectorizer and ZipMap on maps; the types that they are inferred to have.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/text.h"
#include "ops/evaluate.h"
#include "ops/infer.h"

namespace lathe::ops {
namespace {

Tensor numbers(const std::vector<std::int64_t>& v) { return Tensor::vector(v); }
Tensor words(std::vector<std::string> v) {
  const auto count = static_cast<std::int64_t>(v.size());
  return Tensor::strings({count}, std::move(v));
}
Tensor floats(const std::vector<float>& v) { return Tensor::from<float>(DType::kFloat32, {static_cast<std::int64_t>(v.size())}, v); }

/// The result of one node of ai.onnx.ml with a map (or a tensor) for X.
Tensor run(const std::string& op, const Tensor& x, ir::Attrs attrs) {
  ir::Graph graph;
  ir::Value* in = graph.add_input("x", {});
  const ir::Node* node = graph.add_node("ai.onnx.ml", op, {in}, {"y"}, std::move(attrs));
  return evaluate_node(*node, std::span(&x, 1)).front();
}

std::string message(const std::string& op, const Tensor& x, ir::Attrs attrs) {
  try {
    run(op, x, std::move(attrs));
  } catch (const Error& error) {
    return error.message();
  }
  return "";
}

std::vector<double> values(const Tensor& t) {
  std::vector<double> v;
  for (std::int64_t i = 0; i < t.size(); ++i) v.push_back(t.as_double(i));
  return v;
}

ir::Attrs cast_to(const char* type, const char* form = "DENSE", std::int64_t length = 1) {
  ir::Attrs attrs;
  attrs.set("cast_to", type);
  attrs.set("map_form", form);
  attrs.set("max_map", length);
  return attrs;
}

TEST(Maps, CastMapOrdersByKey) {
  const Tensor x = Tensor::map(numbers({7, 1, 3}), floats({4.5f, 8.0f, -8.75f}));
  const Tensor dense = run("CastMap", x, cast_to("TO_FLOAT"));
  EXPECT_EQ(dense.dims(), (Dims{1, 3}));
  EXPECT_EQ(values(dense), (std::vector<double>{8, -8.75, 4.5}));
  EXPECT_EQ(values(run("CastMap", x, cast_to("TO_INT64"))), (std::vector<double>{8, -8, 4}));
  EXPECT_EQ(run("CastMap", x, cast_to("TO_STRING")).string_data(), (std::vector<std::string>{"8.000000", "-8.750000", "4.500000"}));
  EXPECT_EQ(values(run("CastMap", x, cast_to("TO_FLOAT", "SPARSE", 5))), (std::vector<double>{0, 8, 0, -8.75, 0}));
  const Tensor text = Tensor::map(numbers({2, 0}), words({"4.5", "-3"}));
  EXPECT_EQ(values(run("CastMap", text, cast_to("TO_FLOAT"))), (std::vector<double>{-3, 4.5}));
  EXPECT_EQ(run("CastMap", text, cast_to("TO_STRING", "SPARSE", 3)).string_data(), (std::vector<std::string>{"-3", "", "4.5"}));
}

TEST(Maps, CastMapSaysWhatIsWrong) {
  const Tensor text = Tensor::map(numbers({-2}), words({"four"}));
  EXPECT_EQ(message("CastMap", text, cast_to("TO_INT64")), "the map's value 'four' is no number");
  EXPECT_EQ(message("CastMap", text, cast_to("TO_STRING", "SPARSE", 3)), "the map has the negative key -2");
  EXPECT_EQ(message("CastMap", text, cast_to("TO_BOOL")), "cast_to 'TO_BOOL' is none of TO_FLOAT, TO_STRING, TO_INT64");
  EXPECT_EQ(message("CastMap", text, cast_to("TO_FLOAT", "SPARSE", std::int64_t{1} << 60)), "max_map is 1152921504606846976; expected 1 to 16777216");
  EXPECT_EQ(message("CastMap", floats({1}), cast_to("TO_FLOAT")), "X is no map");
  EXPECT_EQ(message("CastMap", Tensor::map(numbers({1}), floats({INFINITY})), cast_to("TO_INT64")), "the map's value inf is no int64");
}

TEST(Maps, DictVectorizerFollowsItsVocabulary) {
  ir::Attrs by_word;
  by_word.set("string_vocabulary", std::vector<std::string>{"a", "c", "b", "z"});
  const Tensor x = Tensor::map(words({"c", "a", "unknown"}), floats({8, 4, 1}));
  const Tensor y = run("DictVectorizer", x, by_word);
  EXPECT_EQ(y.dims(), (Dims{1, 4}));
  EXPECT_EQ(values(y), (std::vector<double>{4, 8, 0, 0}));
  ir::Attrs by_number;
  by_number.set("int64_vocabulary", std::vector<std::int64_t>{3, 1});
  EXPECT_EQ(run("DictVectorizer", Tensor::map(numbers({1}), words({"one"})), by_number).string_data(), (std::vector<std::string>{"", "one"}));
  EXPECT_EQ(message("DictVectorizer", x, by_number), "X has keys of type string, its vocabulary int64");
  EXPECT_EQ(message("DictVectorizer", x, {}), "gives neither int64_vocabulary nor string_vocabulary; expected one of them");
}

TEST(Maps, ZipMapMakesOneMapARow) {
  ir::Attrs attrs;
  attrs.set("classlabels_strings", std::vector<std::string>{"no", "yes"});
  const Tensor y = run("ZipMap", Tensor::from<float>(DType::kFloat32, {2, 2}, std::vector<float>{1, 2, 3, 4}), attrs);
  ASSERT_TRUE(y.is_sequence());
  ASSERT_EQ(y.items().size(), 2u);
  EXPECT_EQ(y.items()[1].items()[0].string_data(), (std::vector<std::string>{"no", "yes"}));
  EXPECT_EQ(values(y.items()[1].items()[1]), (std::vector<double>{3, 4}));
  EXPECT_EQ(run("ZipMap", floats({1, 2}), attrs).items().size(), 1u);
  EXPECT_EQ(message("ZipMap", floats({1, 2, 3}), attrs), "X has 3 columns for 2 keys");
}

TEST(Maps, TypesAreInferred) {
  const auto graph = ir::parse_graph(R"(graph g(x: float[n, 2], m: map(string, double[?])) -> (z, v, c) {
  z: ? = ai.onnx.ml::ZipMap(x) {classlabels_int64s=[4, 5]}
  v: ? = ai.onnx.ml::DictVectorizer(m) {string_vocabulary=["a", "b", "c"]}
  c: ? = ai.onnx.ml::Scaler(x) {offset=[1.0], scale=[2.0]}
}
)");
  infer_graph(*graph);
  EXPECT_EQ(graph->find("z")->type.to_string(), "seq(map(int64, float[?]))");
  EXPECT_EQ(graph->find("v")->type.to_string(), "double[1, 3]");
  EXPECT_EQ(graph->find("c")->type.to_string(), "float[n, 2]");
}

}  // namespace
}  // namespace lathe::ops
