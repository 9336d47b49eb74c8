// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Gradient: every rule against central differences of the reference in double precision; what is fed, shared, left out or impossible.
#include "ops/training/gradient.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ir/text.h"
#include "ir/verify.h"
#include "ops/import.h"
#include "ops/reference_runner.h"

namespace lathe::ops {
namespace {

constexpr const char* kGradient = " = ai.onnx.preview.training::Gradient(";

std::shared_ptr<ir::Model> model_of(const std::string& text) {
  auto model = std::make_shared<ir::Model>();
  model->graph = ir::parse_graph(text);
  model->opset_imports = {{"", kCanonicalOpset}, {"ai.onnx.preview.training", 1}};
  return model;
}

/// The graph after canonicalisation, sound and without a Gradient.
std::shared_ptr<ir::Model> differentiated(const std::string& text) {
  auto model = model_of(text);
  canonicalise_opsets(*model);
  ir::verify(*model->graph, "gradients");
  ir::for_each_node_deep(*model->graph, [](ir::Node& node) { EXPECT_FALSE(is_gradient(node)); });
  return model;
}

std::string failure(const std::string& text) {
  try {
    differentiated(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void expect_in(const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

Tensor doubles(Dims dims, const std::vector<double>& values) { return Tensor::from<double>(DType::kFloat64, std::move(dims), values); }

/// Values apart from each other and from the corners of piecewise functions.
Tensor some(const Dims& dims, double from, double to, int seed) {
  Tensor tensor(DType::kFloat64, dims);
  double at = 0.31 + 0.17 * seed;
  for (double& v : tensor.mutable_data<double>()) {
    at = std::fmod(at + 0.6180339887, 1.0);
    v = from + (to - from) * at;
  }
  return tensor;
}

std::vector<double> values(const Tensor& t) {
  std::vector<double> v;
  for (std::int64_t i = 0; i < t.size(); ++i) v.push_back(t.as_double(i));
  return v;
}

struct Case {
  const char* inputs;  ///< "a: double[2, 3], b: double[3]": all are differentiated by
  const char* body;    ///< makes y
  double from = -1.6, to = 1.7;
};

Dims dims_of(const ir::Value& value) {
  Dims dims;
  for (const auto& dim : value.shape()) dims.push_back(dim.constant().value_or(3));  // a symbol is 3
  return dims;
}

/// The derivatives of the sum of y, by the nodes that Gradient becomes and by differences.
void hold(const Case& c) {
  SCOPED_TRACE(c.body);
  const std::string inputs = c.inputs, body = c.body;
  const auto plain = model_of("graph g(" + inputs + ") -> (y) {\n" + body + "\n}");
  canonicalise_opsets(*plain);
  std::string xs, names, outputs;
  std::vector<Tensor> point;
  for (const ir::Value* input : plain->graph->inputs()) {
    xs += (xs.empty() ? "\"" : ", \"") + input->name + "\"";
    names += (names.empty() ? "" : ", ") + input->name;
    outputs += (outputs.empty() ? "d_" : ", d_") + input->name;
    point.push_back(some(dims_of(*input), c.from, c.to, static_cast<int>(point.size())));
  }
  const auto model =
      differentiated("graph g(" + inputs + ") -> (" + outputs + ") {\n" + body + "\n" + outputs + kGradient + names + ") {xs=[" + xs + "], y=\"y\"}\n}");
  ReferenceRunner forward(*plain->graph), backward(*model->graph);
  const auto gradients = backward.run(point);
  const auto sum = [&] {
    double total = 0;
    for (const double v : values(forward.run(point)[0])) total += v;
    return total;
  };
  ASSERT_EQ(gradients.size(), point.size());
  for (std::size_t i = 0; i < point.size(); ++i) {
    ASSERT_EQ(gradients[i].dims(), point[i].dims());
    for (std::int64_t e = 0; e < point[i].size(); ++e) {
      constexpr double kStep = 1e-5;
      const Tensor kept = point[i];
      const double x = kept.as_double(e);
      point[i].set_from_double(e, x + kStep);
      const double above = sum();
      point[i].set_from_double(e, x - kStep);
      const double below = sum();
      point[i] = kept;
      const double expected = (above - below) / (2 * kStep);
      EXPECT_NEAR(gradients[i].as_double(e), expected, 1e-6 * (1 + std::abs(expected))) << "input " << i << ", element " << e << ", at " << x;
    }
  }
}

TEST(Gradient, UnaryRules) {
  for (const char* op : {"Identity", "Neg",      "Abs",      "Exp",  "Sin",       "Cos", "Sinh", "Cosh", "Tanh",        "Asinh", "Atan",  "Erf",
                         "Sigmoid",  "Softplus", "Softsign", "Relu", "LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "Mish",  "Swish", "Gelu"}) {
    hold({"x: double[2, 3]", (std::string("y = ") + op + "(x)").c_str()});
  }
  for (const char* op : {"Log", "Sqrt", "Reciprocal", "Tan", "ThresholdedRelu"}) {
    hold({"x: double[5]", (std::string("y = ") + op + "(x)").c_str(), 0.1, 1.45});
  }
  for (const char* op : {"Asin", "Acos", "Atanh"}) hold({"x: double[5]", (std::string("y = ") + op + "(x)").c_str(), -0.9, 0.9});
  hold({"x: double[5]", "y = Acosh(x)", 1.1, 3});
  hold({"x: double[12]", "y = HardSwish(x)", -5, 5});
  hold({"x: double[5]", "y = Gelu(x) {approximate=\"tanh\"}"});
  hold({"x: double[5]", "y = LeakyRelu(x) {alpha=0.3}"});
  hold({"x: double[5]", "y = Celu(x) {alpha=1.5}"});
  hold({"x: double[5]", "y = Selu(x) {alpha=1.5, gamma=0.7}"});
}

TEST(Gradient, BinaryRulesAndBroadcasts) {
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"}) {
    const std::string body = std::string("y = ") + op + "(a, b)";
    for (const char* inputs :
         {"a: double[2, 3], b: double[2, 3]", "a: double[2, 3], b: double[3]", "a: double[3], b: double[2, 3]", "a: double[2, 1], b: double[1, 3]",
          "a: double[], b: double[2, 2]", "a: double[n, 2], b: double[1, 2]", "a: double[n], b: double[n]"}) {
      hold({inputs, body.c_str(), 0.3, 2});
    }
  }
  hold({"a: double[2], b: double[2, 2], c: double[2, 1]", "y = Sum(a, b, c)"});
  hold({"a: double[2], b: double[2, 2], c: double[2, 1]", "y = Max(a, b, c)"});
  hold({"a: double[2, 3], b: double[3]", "c: bool[2, 3] = const {1, 0, 1, 0, 0, 1}\n y = Where(c, a, b)"});
  hold({"a: double[2, 3]", "l: double[] = const {-0.5}\n h: double[] = const {0.75}\n y = Clip(a, l, h)"});
  hold({"x: double[2, 3]", "y = Mul(x, x)"});
}

TEST(Gradient, Powers) {
  hold({"a: double[2, 3], b: double[3]", "y = Pow(a, b)", 0.2, 2});
  for (const char* n : {"0", "1", "2", "3", "-1"}) hold({"a: double[4]", ("n: double[] = const {" + std::string(n) + "}\n y = Pow(a, n)").c_str()});
  hold({"a: double[4]", "n: double[1, 1] = const {1.5}\n y = Pow(a, n)", 0.2, 2});
  hold({"a: double[4]", "n: int64[4] = const {0, 1, 2, 3}\n y = Pow(a, n)"});
  // At zero: 0^0 and 0^2 have the derivative 0 by the base, and nothing is NaN by the exponent.
  const auto model = differentiated(std::string("graph g(a: double[3], b: double[3]) -> (da, db) {\n y = Pow(a, b)\n da, db") + kGradient +
                                    "a, b) {xs=[\"a\", \"b\"], y=\"y\"}\n}");
  const auto at_zero = ReferenceRunner(*model->graph).run(std::vector{doubles({3}, {0, 0, 0}), doubles({3}, {0, 1, 2})});
  EXPECT_EQ(values(at_zero[0]), (std::vector<double>{0, 1, 0}));
  EXPECT_EQ(values(at_zero[1]), (std::vector<double>{0, 0, 0}));
}

TEST(Gradient, Products) {
  for (const char* inputs : {"a: double[2, 3], b: double[3, 4]", "a: double[3], b: double[3, 4]", "a: double[2, 3], b: double[3]", "a: double[3], b: double[3]",
                             "a: double[2, 2, 3], b: double[3, 2]", "a: double[2, 3], b: double[2, 3, 2]", "a: double[2, 1, 2, 3], b: double[3, 3, 2]",
                             "a: double[3], b: double[2, 3, 2]", "a: double[2, 2, 3], b: double[3]", "a: double[n, 2], b: double[2, 3]"}) {
    hold({inputs, "y = MatMul(a, b)"});
    hold({inputs, "t = MatMul(a, b)\n y = Tanh(t)"});
  }
  hold({"a: double[2, 3], b: double[3, 4], c: double[4]", "t = Gemm(a, b, c) {alpha=0.5, beta=2.0}\n y = Sin(t)"});
  hold({"a: double[3, 2], b: double[3, 4], c: double[2, 1]", "t = Gemm(a, b, c) {transA=1}\n y = Sin(t)"});
  hold({"a: double[2, 3], b: double[4, 3], c: double[]", "t = Gemm(a, b, c) {transB=1}\n y = Sin(t)"});
  hold({"a: double[3, 2], b: double[4, 3]", "t = Gemm(a, b) {transA=1, transB=1, alpha=0.5}\n y = Sin(t)"});
}

TEST(Gradient, Movement) {
  const std::string use = "\n y = Exp(t)";
  const auto moved = [&](const char* inputs, const std::string& body) { hold({inputs, (body + use).c_str()}); };
  moved("x: double[2, 3, 4]", "t = Transpose(x) {perm=[1, 2, 0]}");
  moved("x: double[2, 3, 4]", "t = Transpose(x)");
  moved("x: double[2, 6]", "s: int64[2] = const {3, -1}\n t = Reshape(x, s)");
  moved("x: double[n, 2]", "s: int64[1] = const {-1}\n t = Reshape(x, s)");
  moved("x: double[2, 3, 2]", "t = Flatten(x) {axis=2}");
  moved("x: double[2, 1, 3]", "s: int64[1] = const {1}\n t = Squeeze(x, s)");
  moved("x: double[2, 3]", "s: int64[2] = const {0, -1}\n t = Unsqueeze(x, s)");
  moved("x: double[2, 1]", "s: int64[3] = const {2, 2, 3}\n t = Expand(x, s)");
  moved("a: double[2, 3], b: double[2, 1], c: double[2, 2]", "t = Concat(a, b, c) {axis=-1}");
  moved("a: double[n, 2], b: double[1, 2]", "t = Concat(b, a) {axis=0}");
  hold({"x: double[6, 2]", "a, b, c = Split(x) {axis=0, num_outputs=3}\n d = Mul(a, c)\n y = Exp(d)"});
  hold({"x: double[3]", "f = Cast(x) {to=1}\n d = Cast(f) {to=11}\n z = Sub(x, x)\n e = Mul(z, d)\n y = Sin(e)"});
}

TEST(Gradient, Reductions) {
  for (const char* op : {"ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSumExp"}) {
    const std::string t = std::string("t = ") + op;
    hold({"x: double[2, 3]", (t + "(x)\n y = Exp(t)").c_str(), -0.4, 0.5});
    hold({"x: double[2, 3]", ("a: int64[1] = const {-1}\n " + t + "(x, a) {keepdims=0}\n y = Exp(t)").c_str()});
    hold({"x: double[2, 3, 2]", ("a: int64[2] = const {0, 2}\n " + t + "(x, a)\n y = Exp(t)").c_str(), -0.4, 0.5});
    hold({"x: double[2, n]", ("a: int64[1] = const {1}\n " + t + "(x, a) {keepdims=0}\n y = Exp(t)").c_str()});
  }
  hold({"x: double[2, 3]", "t = ReduceMean(x) {noop_with_empty_axes=1}\n y = Exp(t)"});
  hold({"x: double[2, 3]", "t = Softmax(x)\n y = Exp(t)"});
  hold({"x: double[2, 3]", "t = LogSoftmax(x) {axis=0}\n y = Sin(t)"});
  // The same value on several ways.
  hold({"x: double[2, 3], w: double[3, 3]", "a = MatMul(x, w)\n b = Tanh(a)\n c = Add(b, x)\n d = Mul(c, b)\n y = ReduceMean(d) {keepdims=0}"});
}

std::vector<Tensor> run(const std::string& text, const std::vector<Tensor>& inputs) {
  const auto model = differentiated(text);
  return ReferenceRunner(*model->graph).run(inputs);
}

TEST(Gradient, WhatIsFed) {
  const std::string head = "graph g(a: double[2], b: double[2], v: double[2]) -> (da, db) {\n c = Mul(a, b)\n y = Mul(c, a)\n ";
  const std::vector inputs{doubles({2}, {2, 3}), doubles({2}, {5, 7}), doubles({2}, {11, 13})};
  // Their own values: dy/da = 2ab, dy/db = a^2.
  auto d = run(head + "da, db" + kGradient + "a, b) {xs=[\"a\", \"b\"], y=\"y\"}\n}", inputs);
  EXPECT_EQ(values(d[0]), (std::vector<double>{20, 42}));
  EXPECT_EQ(values(d[1]), (std::vector<double>{4, 9}));
  // v instead of a.
  d = run(head + "da, db" + kGradient + "v, b) {xs=[\"a\", \"b\"], y=\"y\"}\n}", inputs);
  EXPECT_EQ(values(d[0]), (std::vector<double>{110, 182}));
  EXPECT_EQ(values(d[1]), (std::vector<double>{121, 169}));
  // v for both, and an input of the one for the other.
  d = run(head + "da, db" + kGradient + "v, v) {xs=[\"a\", \"b\"], y=\"y\"}\n}", inputs);
  EXPECT_EQ(values(d[0]), (std::vector<double>{242, 338}));
  EXPECT_EQ(values(d[1]), (std::vector<double>{121, 169}));
  d = run(head + "da, db" + kGradient + "b, a) {xs=[\"a\", \"b\"], y=\"y\"}\n}", inputs);
  EXPECT_EQ(values(d[0]), (std::vector<double>{20, 42}));
  EXPECT_EQ(values(d[1]), (std::vector<double>{25, 49}));
  // zs are fed, and not differentiated by; outputs may be left out.
  d = run("graph g(a: double[2], b: double[2], v: double[2]) -> (da) {\n y = Mul(a, b)\n da" + std::string(kGradient) +
              "a, v) {xs=[\"a\"], zs=[\"b\"], y=\"y\"}\n}",
          inputs);
  EXPECT_EQ(values(d[0]), (std::vector<double>{11, 13}));
  d = run("graph g(a: double[2], b: double[2]) -> (db) {\n y = Mul(a, b)\n _, db" + std::string(kGradient) + "a, b) {xs=[\"a\", \"b\"], y=\"y\"}\n}",
          {inputs[0], inputs[1]});
  EXPECT_EQ(values(d[0]), (std::vector<double>{2, 3}));
  // A tensor on the way, at its own value and at another.
  d = run("graph g(a: double[2], b: double[2], v: double[2]) -> (dc, de) {\n c = Exp(a)\n y = Mul(c, c)\n dc" + std::string(kGradient) +
              "c) {xs=[\"c\"], y=\"y\"}\n de" + kGradient + "v) {xs=[\"c\"], y=\"y\"}\n}",
          inputs);
  EXPECT_DOUBLE_EQ(d[0].as_double(0), 2 * std::exp(2.0));
  EXPECT_EQ(values(d[1]), (std::vector<double>{22, 26}));
}

TEST(Gradient, OfWhatDoesNotDependOnIt) {
  const auto inputs = std::vector{doubles({2}, {2, 3}), doubles({2}, {5, 7})};
  const auto of = [&](const std::string& body) {
    return run("graph g(a: double[2], b: double[2]) -> (da, db) {\n " + body + "\n da, db" + kGradient + "a, b) {xs=[\"a\", \"b\"], y=\"y\"}\n}", inputs);
  };
  auto d = of("y = Exp(a)");
  EXPECT_EQ(values(d[1]), (std::vector<double>{0, 0}));
  d = of("f = Floor(b)\n y = Mul(a, f)");
  EXPECT_EQ(values(d[0]), (std::vector<double>{5, 7}));
  EXPECT_EQ(values(d[1]), (std::vector<double>{0, 0}));
  // Through integers nothing flows; what only takes the shape does not matter either.
  d = of("i = Cast(b) {to=7}\n f = Cast(i) {to=11}\n s = Shape(b)\n e = Expand(f, s)\n y = Mul(a, e)");
  EXPECT_EQ(values(d[0]), (std::vector<double>{5, 7}));
  EXPECT_EQ(values(d[1]), (std::vector<double>{0, 0}));
  // By itself, and where the node that differentiates comes first in the file.
  d = run("graph g(a: double[2], y: double[2]) -> (da, dy) {\n da, dy" + std::string(kGradient) + "a, y) {xs=[\"a\", \"y\"], y=\"y\"}\n}", inputs);
  EXPECT_EQ(values(d[0]), (std::vector<double>{0, 0}));
  EXPECT_EQ(values(d[1]), (std::vector<double>{1, 1}));
}

TEST(Gradient, OfGradients) {
  // y = a^3 b: dy/da = 3a^2 b, then 6ab by a and 3a^2 by b, then 6b.
  const std::string n = "n: double[] = const {3}\n p = Pow(a, n)\n y = Mul(p, b)\n ", xs = ") {xs=[\"a\", \"b\"], y=\"";
  const auto d = run("graph g(a: double[2], b: double[2]) -> (da, daa, dab, daaa) {\n " + n + "da, _" + kGradient + "a, b" + xs + "y\"}\n daa, dab" +
                         kGradient + "a, b" + xs + "da\"}\n daaa" + kGradient + "a, b" + xs + "daa\"}\n}",
                     std::vector{doubles({2}, {2, 3}), doubles({2}, {5, 7})});
  EXPECT_EQ(values(d[0]), (std::vector<double>{60, 189}));
  EXPECT_EQ(values(d[1]), (std::vector<double>{60, 126}));
  EXPECT_EQ(values(d[2]), (std::vector<double>{12, 27}));
  EXPECT_EQ(values(d[3]), (std::vector<double>{30, 42}));
  // Each rule twice: differences of the first derivative.
  for (const char* op : {"Tanh", "Sigmoid", "Exp", "Sin", "Erf", "Softplus", "Gelu", "Elu", "Softmax"}) {
    hold({"x: double[4]", (std::string("f = ") + op + "(x)\n w = Mul(f, f)\n d" + kGradient + "x) {xs=[\"x\"], y=\"w\"}\n y = Mul(d, d)").c_str()});
  }
  hold({"x: double[2, 3]", (std::string("f = LogSoftmax(x)\n r = ReduceL2(f)\n d") + kGradient + "x) {xs=[\"x\"], y=\"r\"}\n y = Mul(d, d)").c_str()});
}

TEST(Gradient, InsideABranch) {
  const auto d = run("graph g(c: bool[], a: double[2]) -> (z) {\n z = If(c) {then_branch=graph t() -> (da) {\n y = Mul(a, a)\n da" + std::string(kGradient) +
                         "a) {xs=[\"a\"], y=\"y\"}\n}, else_branch=graph e() -> (i) { i = Identity(a) }}\n}",
                     [] {
                       Tensor yes(DType::kBool, {});
                       yes.set_from_int64(0, 1);
                       return std::vector{yes, doubles({2}, {2, 3})};
                     }());
  EXPECT_EQ(values(d[0]), (std::vector<double>{4, 6}));
}

TEST(Gradient, WhatCannotBe) {
  const auto of = [](const std::string& inputs, const std::string& body, const std::string& attributes, const std::string& fed = "a") {
    return failure("graph g(" + inputs + ") -> (da) {\n " + body + "\n da" + kGradient + fed + ") {" + attributes + "}\n}");
  };
  const std::string a = "a: float[2]", x = "xs=[\"a\"], y=\"y\"";
  expect_in(of(a, "y = Exp(a)", "xs=[\"a\"], y=\"q\""), "'q', but no tensor has that name");
  expect_in(of(a, "y = Exp(a)", "xs=[\"q\"], y=\"y\""), "xs names 'q'");
  expect_in(of(a, "y = Exp(a)", "xs=[\"a\", \"a\"], y=\"y\"", "a, a"), "twice");
  expect_in(of(a, "y = Exp(a)", "xs=[\"a\"], zs=[\"y\"], y=\"y\""), "inputs");
  expect_in(of("a: float[4, 4]", "y = Det(a)", x), "Det has no derivative here");
  expect_in(of("a: int64[2]", "y = Neg(a)", x), "only floating-point tensors");
  expect_in(of("a: float[n], b: float[m]", "y = Add(a, b)", x), "is not known before it runs");
  expect_in(of(a, "b = Exp(a)\n y = Exp(b)", "xs=[\"a\", \"b\"], y=\"y\"", "a, b"), "must be independent");
  // y follows from its own derivative, which no order of the nodes shows.
  const auto model = model_of("graph g(a: float[2]) -> (y) {\n b = Exp(a)\n y = Mul(a, b)\n da" + std::string(kGradient) + "a) {" + x + "}\n}");
  model->graph->set_input(model->graph->find("y")->producer, 1, model->graph->find("da"));
  EXPECT_THROW(canonicalise_opsets(*model), Error);
  expect_in(of("a: float[2], l: float[]", "y = Clip(a, l)", "xs=[\"l\"], y=\"y\"", "l"), "Clip has no derivative by its input 1 here");
  expect_in(of("c: bool[], a: float[2]", "y = If(c) {then_branch=graph t() -> (r) { r = Exp(a) }, else_branch=graph e() -> (i) { i = Identity(a) }}", x),
            "If has no derivative here");
  // Each derivative more than doubles the next: they end before memory does.
  std::string chain = "y0 = Mul(a, a)\n";
  for (int i = 1; i < 60; ++i) {
    const std::string y = "y" + std::to_string(i), before = "y" + std::to_string(i - 1);
    chain += "g" + y + kGradient + "a) {xs=[\"a\"], y=\"" + before + "\"}\n h" + y + " = Exp(g" + y + ")\n " + y + " = Mul(h" + y + ", g" + y + ")\n";
  }
  expect_in(failure("graph g(a: float[2]) -> (y59) {\n" + chain + "}"), "derivatives go through more than");
}

}  // namespace
}  // namespace lathe::ops
