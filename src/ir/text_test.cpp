// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The text form: parse(print(g)) prints the same for hand-written and for random graphs; errors carry their place.

#include "ir/text.h"

#include <gtest/gtest.h>

#include <random>

#include "ir/verify.h"
#include "lathe/status.h"

namespace lathe::ir {
namespace {

void expect_round_trip(const Graph& graph) {
  const std::string text = print(graph);
  const auto again = parse_graph(text, &graph);
  EXPECT_EQ(print(*again), text);
  for (const std::string& defect : find_defects(*again)) ADD_FAILURE() << defect << "\n" << text;
}

TEST(Text, PrintsAsDocumented) {
  const char* text = R"(graph main(x: float[batch, 3, 640, 640]) -> (y) {
  w: float[16, 3, 6, 6] = const splat(0.5)
  c: float[batch, 16, 320, 320] = Conv(x, w) {pads=[2, 2, 2, 2], strides=[2, 2]} @"/model.0/Conv"
  y = Relu(c)
}
)";
  const auto graph = parse_graph(text);
  EXPECT_EQ(print(*graph), text);
  const Node* conv = graph->nodes()[0];
  EXPECT_EQ(conv->attrs.get_ints("pads"), (std::vector<std::int64_t>{2, 2, 2, 2}));
  EXPECT_EQ(conv->name, "/model.0/Conv");
  EXPECT_EQ(conv->inputs[1]->constant.as_double(1727), 0.5);
}

TEST(Text, EveryConstructSurvives) {
  const auto graph = parse_graph(R"(
graph "my model"("in put": float16[?], s: seq(int64[?]), o: optional(float[n]), m: map(int64, string[?]), sp: sparse(float[4, 4]),
                 q: ?, d: float[2] = const {1.0, -0.0}) -> ("out//put") {
  i: int64[3] = const {1, -2, 9223372036854775807}
  u: uint64[1] = const {18446744073709551615}
  f: float[4] = const {nan, inf, -inf, 1e-45}
  st: string[2] = const {"a\"b\\", "line\x0abreak"}
  e: float[0, 3] = const {}
  sc: double[] = const {0.1}
  h: float16[2] = const {65504.0, 0.00006103515625}
  b: bool[2] = const {1, 0}
  i4: int4[3] = const {-8, 7, 1}
  big: float[5, 5] = const random(3)
  a, _, c = my.domain::Op!v2(i, _, d) {f1=1.0, f2=1e+20, i1=-3, s1="x, y", fs=[1.0, 2.5], is=[1, 2], ss=["p", "q"], e0=[], e1=floats[],
     e2=strings[], t=tensor int64[2] {3, 4}, ts=[tensor float[] {1.5}, tensor bool[1] {1}], ty=type seq(float[?]), tys=[type float[2], type int32[]],
     sp=sparse [4, 4] tensor float[1] {2.0} tensor int64[1, 2] {1, 2}, r=$outer:2} @"one" @"two" #"three"
  n: float[floordiv(h + 1, 2), 'a b', min(n, 8)] = Foo(a) @"x" #""
  Print(n)
  "out//put" = If(b) {then_branch=graph t() -> (w) {
    k: int64[1] = const {5}
    w = Loop(k, _, n) {body=graph body(it: int64[], cond: bool[], st2: float[?]) -> (cond2, r2) {
      cond2 = Identity(cond)
      r2 = Add(st2, n)
    }}
  }, graphs=[graph g0() -> (z0) {
    z0 = Neg(n)
  }]}
}
)");
  EXPECT_TRUE(find_defects(*graph).empty());
  expect_round_trip(*graph);
  const Node* op = graph->nodes()[0];
  EXPECT_EQ(op->domain, "my.domain");
  EXPECT_EQ(op->overload, "v2");
  EXPECT_EQ(op->outputs[1], nullptr);
  EXPECT_EQ(op->inputs[1], nullptr);
  EXPECT_EQ(op->sources, (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(op->name, "three");
  EXPECT_EQ(op->attrs.find("e0")->type(), AttrType::kInts);
  EXPECT_EQ(op->attrs.find("e1")->type(), AttrType::kFloats);
  EXPECT_EQ(op->attrs.find("r")->type(), AttrType::kInt);
  EXPECT_EQ(graph->find("st")->constant.string_data()[1], "line\nbreak");
  EXPECT_EQ(static_cast<std::uint64_t>(graph->find("u")->constant.as_int64(0)), 18446744073709551615ull);
  EXPECT_TRUE(graph->find("d")->constant.defined());
}

TEST(Text, LargeConstantsNeedTheirModel) {
  const auto graph = parse_graph("graph g() -> (y) {\n  w: float[9, 9] = const random(1)\n  y = Neg(w)\n}");
  const std::string text = print(*graph);
  EXPECT_NE(text.find("hash(0x"), std::string::npos);
  EXPECT_THROW(parse_graph(text), Error);
  EXPECT_TRUE(parse_graph(text, graph.get())->find("w")->constant.same_bytes(graph->find("w")->constant));
}

TEST(Text, ErrorsSayWhere) {
  const auto message = [](const char* text) -> std::string {
    try {
      parse_graph(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kInvalidArgument);
      return error.message();
    }
    return "no error";
  };
  EXPECT_NE(message("graph g(x: float[2]) -> (y) {\n  y = Add(x, z)\n}").find("line 2, column 15"), std::string::npos)
      << message("graph g(x: float[2]) -> (y) {\n  y = Add(x, z)\n}");
  EXPECT_NE(message("graph g(x: flaot[2]) -> () {\n}").find("unknown type 'flaot'"), std::string::npos);
  EXPECT_NE(message("graph g() -> (y) {\n}").find("'y' is not defined"), std::string::npos);
  EXPECT_NE(message("graph g() -> () {\n  k: int64[2] = const {1}\n}").find("expected ','"), std::string::npos);
  EXPECT_NE(message("graph g() -> () {\n  k: int64[1] = const {1, 2}\n}").find("after 1 elements"), std::string::npos);
  EXPECT_NE(message("graph g(x: float[2]) -> () {\n  x = Neg(x)\n}").find("defined twice"), std::string::npos);
  EXPECT_NE(message("graph g() -> () {").find("expected"), std::string::npos);
  EXPECT_NE(message("graph g() -> () {\n}\nmore").find("unexpected text"), std::string::npos);
}

// A random graph over made-up ops: enough to reach every printing path in odd combinations.
std::shared_ptr<Graph> random_graph(std::mt19937& rng) {
  const auto pick = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  auto graph = std::make_shared<Graph>();
  graph->name = "g";
  const char* odd_names[] = {"x", "a b", "onnx::Conv_1", "/m/0", "_", "graph", "9", "q\"t", "c//d", "é"};
  const auto fresh = [&] { return graph->unique_name(odd_names[pick(10)]); };
  const auto random_type = [&] {
    if (pick(5) == 0) return Type();
    if (pick(4) == 0) return Type::tensor(DType::kInt64);
    Shape shape;
    for (int i = pick(4); i > 0; --i) shape.push_back(pick(2) ? Dim(pick(9)) : Dim::floordiv(Dim::symbol("b b") + pick(5), 2));
    return Type::tensor(DType::kFloat16, shape);
  };
  std::vector<Value*> pool{nullptr};
  for (int i = pick(3); i >= 0; --i) pool.push_back(graph->add_input(fresh(), random_type()));
  for (int i = pick(4); i > 0; --i) {
    const DType dtypes[] = {DType::kFloat32, DType::kInt8, DType::kBool, DType::kBFloat16, DType::kUint4, DType::kFloat8E5M2};
    Tensor tensor(dtypes[pick(6)], Dims{pick(3), 1 + pick(12)});
    for (std::int64_t k = 0; k < tensor.size(); ++k) tensor.set_from_int64(k, pick(2));
    pool.push_back(graph->add_constant(fresh(), std::move(tensor)));
  }
  for (int i = 1 + pick(8); i > 0; --i) {
    std::vector<Value*> inputs;
    for (int k = pick(4); k > 0; --k) inputs.push_back(pool[static_cast<std::size_t>(pick(static_cast<int>(pool.size())))]);
    Attrs attrs;
    if (pick(2)) attrs.set("alpha", Attribute(static_cast<float>(pick(100)) / 7.0f));
    if (pick(2)) attrs.set("odd name", Attribute(std::vector<float>(static_cast<std::size_t>(pick(3)), 2.0f)));
    std::vector<std::string> names;
    names.push_back(fresh());
    Node* node = graph->add_node(pick(3) ? "" : "com.x", "Op", std::move(inputs), std::move(names), std::move(attrs));
    node->outputs[0]->type = random_type();
    if (pick(2)) node->sources.push_back("s" + std::to_string(i));
    if (pick(3) == 0) node->name = "n";
    pool.push_back(node->outputs[0]);
    if (pick(3) == 0) graph->add_output(node->outputs[0]);
  }
  return graph;
}

TEST(Text, RandomGraphsRoundTrip) {
  std::mt19937 rng(5);
  for (int i = 0; i < 300; ++i) expect_round_trip(*random_graph(rng));
}

}  // namespace
}  // namespace lathe::ir
