// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Control flow and sequences: types over several rounds, runs of the reference, and the errors of both.
#include <gtest/gtest.h>

#include "lathe/status.h"
#include "ops/import.h"
#include "ops/reference_runner.h"
#include "ops/test_graphs.h"

namespace lathe::ops {
namespace {

Tensor numbers(DType dtype, Dims dims, const std::vector<double>& values) {
  Tensor tensor(dtype, std::move(dims));
  for (std::size_t i = 0; i < values.size(); ++i) tensor.set_from_double(static_cast<std::int64_t>(i), values[i]);
  return tensor;
}

Tensor floats(Dims dims, const std::vector<double>& values) { return numbers(DType::kFloat32, std::move(dims), values); }
Tensor flag(bool value) { return numbers(DType::kBool, {}, {value ? 1.0 : 0.0}); }

/// "2x2{1, 2, 3, 4}", "seq(...)".
std::string text_of(const Tensor& tensor) {
  if (tensor.is_nothing()) return "nothing";
  std::string text;
  if (tensor.is_sequence()) {
    for (const Tensor& item : tensor.items()) text += (text.empty() ? "" : ", ") + text_of(item);
    return "seq(" + text + ")";
  }
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    std::string number = std::to_string(tensor.as_double(i));
    number.erase(number.find_last_not_of('0') + 1);
    if (number.back() == '.') number.pop_back();
    text += (i ? ", " : "") + number;
  }
  return lathe::to_string(tensor.dims()) + "{" + text + "}";
}

/// What `y` is in a run, or the error.
std::string run(const std::string& inputs, const std::string& body, const std::vector<Tensor>& values, RunnerOptions options = {}) {
  try {
    const auto graph = inferred("graph g(" + inputs + ") -> (y) {\n" + body + "\n}");
    return text_of(ReferenceRunner(*graph, std::move(options)).run(values).at(0));
  } catch (const Error& error) {
    return error.what();
  }
}

std::string failure(const std::string& inputs, const std::string& body) {
  try {
    return "no error, but " + result(inputs, body);
  } catch (const Error& error) {
    return error.what();
  }
}

void expect_in(const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

// If -----------------------------------------------------------------------------------------------------------------------------------

constexpr const char* kRelu = "graph t() -> (a) { a = Relu(x) }";

TEST(ControlFlow, BranchesJoinTheirTypes) {
  const std::string x = "c: bool[], x: float[n, 4], z: float[n, 5], w: float[4]";
  const auto branches = [](const char* other) { return std::string("y = If(c) {then_branch=") + kRelu + ", else_branch=graph e() -> (b) { " + other + " }}"; };
  EXPECT_EQ(result(x, branches("b = Neg(x)")), "float[n, 4]");
  EXPECT_EQ(result(x, branches("b = Neg(z)")), "float[n, ?0]");
  EXPECT_EQ(result(x, branches("b = Neg(w)")), "float[?]");
  expect_in(failure(x, branches("b = Cast(x) {to=7}")), "output 0 is float[n, 4] in its then_branch, but int64[n, 4] in its else_branch");
  expect_in(failure(x, "y, q = If(c) {then_branch=" + std::string(kRelu) + ", else_branch=" + kRelu + "}"), "has 2 outputs, but its then_branch gives 1");
}

TEST(ControlFlow, AKnownConditionDecides) {
  const auto decided = [](const char* yes) {
    return std::string("c: bool[] = const {") + yes +
           "}\n y = If(c) {then_branch=graph t() -> (a) { ax: int64[1] = const {0}\n a = Squeeze(x, ax) }, else_branch=graph e() -> (b) { b = Identity(x) }}";
  };
  EXPECT_EQ(result("x: float[1, 4]", decided("1")), "float[4]");
  // Squeezing an extent of 3 is an error that nobody meets.
  EXPECT_EQ(result("x: float[3, 4]", decided("0")), "float[3, 4]");
  EXPECT_EQ(run("x: float[3]", decided("0"), {floats({3}, {1, 2, 3})}), "3{1, 2, 3}");
}

TEST(ControlFlow, BranchesRunWithWhatTheyCapture) {
  const std::string body = R"(k = Add(x, x)
    y = If(c) {then_branch=graph t() -> (a) { i = If(d) {then_branch=graph tt() -> (aa) { aa = Mul(k, x) }, else_branch=graph te() -> (ab) { ab = Neg(k) }}
                 a = Add(i, k) },
               else_branch=graph e() -> (b) { b = Sub(x, k) }})";
  const std::string inputs = "c: bool[], d: bool[], x: float[2]";
  EXPECT_EQ(run(inputs, body, {flag(true), flag(true), floats({2}, {1, 3})}), "2{4, 24}");
  EXPECT_EQ(run(inputs, body, {flag(true), flag(false), floats({2}, {1, 3})}), "2{0, 0}");
  EXPECT_EQ(run(inputs, body, {flag(false), flag(false), floats({2}, {1, 3})}), "2{-1, -3}");
  expect_in(run("c: bool[?], x: float[2]", "y = If(c) {then_branch=graph t() -> (a) { a = Neg(x) }, else_branch=graph e() -> (b) { b = Abs(x) }} @\"/if\"",
                {numbers(DType::kBool, {2}, {1, 0}), floats({2}, {1, 3})}),
            "the condition has shape 2; it must be one bool");
}

// Loop ---------------------------------------------------------------------------------------------------------------------------------

/// A loop whose body ends by defining `keep` and `next`, from `i`, `go` and `v`.
std::string loop(const std::string& arguments, const std::string& body, const std::string& outputs = "keep, next") {
  return "y = Loop(" + arguments + ") {body=graph b(i: int64[], go: bool[], v) -> (" + outputs + ") {\n" + body + "\n}} @\"/loop\"";
}

TEST(ControlFlow, CarriedTypesAreWidened) {
  const std::string m = "m: int64[], x: float[2, n]";
  EXPECT_EQ(result(m, loop("m, _, x", "keep = Identity(go)\n next = Neg(v)")), "float[2, n]");
  // The carried tensor grows.
  const std::string grows = "keep = Identity(go)\n next = Concat(v, x) {axis=0}";
  EXPECT_EQ(result(m, loop("m, _, x", grows)).substr(0, 7), "float[?");
  EXPECT_NE(result(m, loop("m, _, x", grows)).find(", n]"), std::string::npos);
  EXPECT_EQ(result(m, "z: float[2, n] = Loop(m, _, x) {body=graph b(i: int64[], go: bool[], v) -> (keep, next) {\n" + grows + "\n}}\n y = Neg(z)").substr(0, 7),
            "float[?");
  // Its rank changes.
  EXPECT_EQ(result(m, loop("m, _, x", "keep = Identity(go)\n a: int64[1] = const {0}\n next = Unsqueeze(v, a)")), "float[?]");
  expect_in(failure(m, loop("m, _, x", "keep = Identity(go)\n next = Cast(v) {to=7}")), "carries float[2, n] as value 0, but its body gives int64[2, n]");
  expect_in(failure(m, "y = Loop(m, _, x) {body=graph b(i: int64[], go: bool[]) -> (go2) { go2 = Identity(go) }}"),
            "carries 1 values, but its body takes 2 inputs; it must take 3");
}

TEST(ControlFlow, WideningForgetsWhatOneTripSaid) {
  // In the first trip the extent is 1, and its body must not go on believing so; nor a file, which exporters let say so.
  for (const char* declared : {"v", "v: float[q, 4]", "v: float[1, 4]"}) {
    const auto graph = inferred(R"(graph g(m: int64[], x: float[1, 4]) -> (y) {
    y = Loop(m, _, x) {body=graph b(i: int64[], go: bool[], )" +
                                std::string(declared) + R"() -> (keep, next) {
      keep = Identity(go)
      s = Shape(v)
      next = Concat(v, x) {axis=0}
    }}
  })");
    const ir::Graph& body = *graph->find("y")->producer->attrs.get_graph("body");
    const auto content = known_content(*body.find("s"));
    ASSERT_TRUE(content);
    EXPECT_FALSE((*content)[0].is_constant()) << ir::to_string(*content);
    EXPECT_EQ((*content)[1], ir::Dim(4));
  }
}

TEST(ControlFlow, StackedOutputs) {
  const std::string body = "keep = Identity(go)\n next = Identity(v)\n each = Mul(v, v)";
  const auto stacked = [&](const std::string& count) {
    return count + "\n _, y = Loop(m, _, x) {body=graph b(i: int64[], go: bool[], v) -> (keep, next, each) {\n" + body + "\n}} @\"/loop\"";
  };
  EXPECT_EQ(result("x: float[n, 3]", stacked("m: int64[] = const {7}")), "float[7, n, 3]");
  EXPECT_EQ(result("x: float[n, 3]", stacked("m: int64[] = const {-2}")), "float[0, n, 3]");
  EXPECT_EQ(result("x: float[n, 3]", stacked("s = Shape(x)\n k: int64[] = const {0}\n m = Gather(s, k)")), "float[n, n, 3]");
  EXPECT_EQ(result("x: float[n, 3], q: int64[]", stacked("m = Neg(q)")).substr(0, 7), "float[?");
  EXPECT_EQ(run("x: float[n, 1]", stacked("m: int64[] = const {2}"), {floats({2, 1}, {3, 4})}), "2x2x1{9, 16, 9, 16}");
  // Without a trip the other extents are still those of the input.
  EXPECT_EQ(run("x: float[n, 3]", stacked("m: int64[] = const {0}"), {floats({2, 3}, {1, 2, 3, 4, 5, 6})}), "0x2x3{}");
}

TEST(ControlFlow, LoopsEndEarlyOrNever) {
  const std::string body = "one: float[] = const {1}\n ten: float[] = const {10}\n next = Add(v, one)\n keep = Less(next, ten)";
  EXPECT_EQ(run("x: float[]", "yes: bool[] = const {1}\n" + loop("_, yes, x", body), {floats({}, {2})}), "scalar{10}");
  EXPECT_EQ(run("x: float[]", "no: bool[] = const {0}\n" + loop("_, no, x", body), {floats({}, {2})}), "scalar{2}");
  EXPECT_EQ(run("x: float[]", "most: int64[] = const {3}\n" + loop("most, _, x", body), {floats({}, {2})}), "scalar{5}");
  const std::string endless = "most: int64[] = const {9223372036854775807}\n" + loop("most, _, x", "keep = Identity(go)\n next = Neg(v)");
  RunnerOptions options;
  options.most_trips = 1000;
  const std::string text = run("x: float[]", endless, {floats({}, {2})}, options);
  expect_in(text, "took more than 1000 trips");
  expect_in(text, "/loop");
  options.most_trips = 8;
  EXPECT_EQ(run("x: float[]", "yes: bool[] = const {1}\n" + loop("_, yes, x", body), {floats({}, {2})}, options), "scalar{10}");
}

TEST(ControlFlow, NestedLoopsSeeTheLoopsAround) {
  const std::string body = R"(two: int64[] = const {2}
    y = Loop(two, _, x) {body=graph outer(i: int64[], go: bool[], v) -> (keep, next) {
      keep = Identity(go)
      scale = Add(i, two)
      next = Loop(two, _, v) {body=graph inner(j: int64[], on: bool[], u) -> (stay, after) {
        stay = Identity(on)
        sum = Add(scale, j)
        f = Cast(sum) {to=1}
        m = Mul(u, f)
        after = Add(m, x)
      }}
    }})";
  // i = 0: (1*2+1)*3+1 = 10; i = 1: (10*3+1)*4+1 = 125.
  EXPECT_EQ(run("x: float[1]", body, {floats({1}, {1})}), "1{125}");
  EXPECT_EQ(result("x: float[n]", body), "float[n]");
}

// Scan ---------------------------------------------------------------------------------------------------------------------------------

std::string scan(const std::string& attributes) {
  return "s0: float[1] = const {0}\n _, y = Scan(s0, x) {num_scan_inputs=1" + attributes +
         ", body=graph b(s, v) -> (t, o) {\n ax: int64[1] = const {0}\n r = ReduceSum(v, ax)\n t = Add(s, r)\n o = Add(v, s)\n}} @\"/scan\"";
}

TEST(ControlFlow, ScansGoAlongAxesInBothDirections) {
  const Tensor x = floats({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(result("x: float[n, 3]", scan("")), "float[n, 3]");
  EXPECT_EQ(run("x: float[n, 3]", scan(""), {x}), "2x3{1, 2, 3, 10, 11, 12}");
  EXPECT_EQ(run("x: float[n, 3]", scan(", scan_input_directions=[1]"), {x}), "2x3{4, 5, 6, 16, 17, 18}");
  EXPECT_EQ(run("x: float[n, 3]", scan(", scan_output_directions=[1]"), {x}), "2x3{10, 11, 12, 1, 2, 3}");
  EXPECT_EQ(result("x: float[n, 3]", scan(", scan_input_axes=[-1]")), "float[3, n]");
  EXPECT_EQ(run("x: float[n, 3]", scan(", scan_input_axes=[-1]"), {x}), "3x2{1, 4, 7, 10, 15, 18}");
  EXPECT_EQ(result("x: float[n, 3]", scan(", scan_input_axes=[1], scan_output_axes=[1]")), "float[n, 3]");
  EXPECT_EQ(run("x: float[n, 3]", scan(", scan_input_axes=[1], scan_output_axes=[-1]"), {x}), "2x3{1, 7, 15, 4, 10, 18}");
  EXPECT_EQ(run("x: float[n, 3]", scan(""), {floats({0, 3}, {})}), "0x3{}");
  expect_in(failure("x: float[n, 3]", scan(", scan_input_axes=[2]")), "axis 2 is out of range for rank 2");
  expect_in(failure("x: float[n, 3]", scan(", scan_input_directions=[2]")), "attribute 'scan_input_directions' holds 2; it must be 0 or 1");
  expect_in(failure("x: float[n, 3]", scan(", scan_output_axes=[0, 0]")), "attribute 'scan_output_axes' has 2 values; it needs 1");
}

TEST(ControlFlow, StatesKeepTheirShape) {
  const std::string body = "y, _ = Scan(s, x) {num_scan_inputs=1, body=graph b(a, v) -> (t, o) { t = Concat(a, a) {axis=0}\n o = Identity(v) }}";
  expect_in(failure("s: float[1], x: float[2]", body), "state 0 is float[1] at first, but its body gives float[2]");
  expect_in(run("s: float[k], x: float[2]", body, {floats({1}, {1}), floats({2}, {1, 2})}), "state 0 changes its shape from 1 to 2");
}

TEST(ControlFlow, TheFirstScanHadABatch) {
  const auto graph = ir::parse_graph(R"(graph g(n: int64[2], s: float[2, 1], x: float[2, 3, 1]) -> (t, y) {
    t, y = Scan(n, s, x) {num_scan_inputs=1, directions=[1], body=graph b(a: float[1], v: float[1]) -> (c, o) {
      c = Add(a, v)
      o = Mul(a, v)
    }}
  })");
  upgrade_nodes(*graph, {{"", 8}});
  infer_graph(*graph);
  EXPECT_EQ(type_of(*graph, "t"), "float[2, 1]");
  const auto results =
      ReferenceRunner(*graph).run(std::vector<Tensor>{numbers(DType::kInt64, {2}, {3, 2}), floats({2, 1}, {1, 10}), floats({2, 3, 1}, {1, 2, 3, 4, 5, 6})});
  EXPECT_EQ(text_of(results[0]), "2x1{7, 19}");
  EXPECT_EQ(text_of(results[1]), "2x3x1{3, 8, 6, 50, 60, 0}");
}

// Sequences ----------------------------------------------------------------------------------------------------------------------------

TEST(Sequences, ElementsAreFollowed) {
  const std::string x = "x: float[n, 3], z: float[n, 4], p: int64[]";
  EXPECT_EQ(result(x, "q = SequenceConstruct(x, z)\n y = SequenceAt(q, p)").substr(0, 10), "float[n, ?");
  EXPECT_EQ(result(x, "k: int64[] = const {-1}\n q = SequenceConstruct(x, z)\n y = SequenceAt(q, k)"), "float[n, 4]");
  EXPECT_EQ(result(x, "q = SequenceConstruct(x, z)\n y = ConcatFromSequence(q) {axis=1}"), "float[n, 7]");
  EXPECT_EQ(result(x, "q = SequenceConstruct(x, x)\n y = ConcatFromSequence(q) {axis=-1, new_axis=1}"), "float[n, 3, 2]");
  EXPECT_EQ(result(x, "e = SequenceEmpty()\n a = SequenceInsert(e, x)\n b = SequenceInsert(a, x)\n y = ConcatFromSequence(b) {axis=1}"), "float[n, 6]");
  EXPECT_EQ(result(x, "s: int64[] = const {2}\n q = SplitToSequence(x, s) {axis=1}\n k: int64[] = const {1}\n y = SequenceAt(q, k)"), "float[n, 1]");
  EXPECT_EQ(result("x: seq(float[a, 3]), p: int64[]", "y = SequenceAt(x, p)").substr(0, 7), "float[?");
  expect_in(failure(x, "k: int64[] = const {2}\n q = SequenceConstruct(x, z)\n y = SequenceAt(q, k)"), "position 2 is outside the sequence of 2 elements");
  expect_in(failure(x, "i = Cast(x) {to=7}\n e = SequenceEmpty()\n y = SequenceInsert(e, i)"), "puts int64[n, 3] into seq(float[?])");
}

TEST(Sequences, ALoopThatFillsOneKnowsItsElements) {
  const std::string body = R"(e = SequenceEmpty()
    q = Loop(m, _, e) {body=graph b(i: int64[], go: bool[], v) -> (keep, next) {
      keep = Identity(go)
      next = SequenceInsert(v, x)
    }}
    y = ConcatFromSequence(q) {axis=0, new_axis=1})";
  EXPECT_EQ(result("m: int64[], x: float[n, 3]", body).substr(0, 7), "float[?");
  expect_in(result("m: int64[], x: float[n, 3]", body), ", n, 3]");
  EXPECT_EQ(run("m: int64[], x: float[2]", body, {Tensor::scalar(2), floats({2}, {1, 2})}), "2x2{1, 2, 1, 2}");
  expect_in(run("m: int64[], x: float[2]", body, {Tensor::scalar(0), floats({2}, {1, 2})}), "joins the elements of an empty sequence");
}

TEST(Sequences, NamesInTheirTypesBindNothing) {
  // Every element has an extent of its own, whatever name the file gives to all of them.
  EXPECT_EQ(result("x: float[n, 3], p: int64[]", "s: seq(float[k, 3]) = SplitToSequence(x, p)\n a = SequenceAt(s, p)\n y = Identity(a)").substr(0, 7),
            "float[?");
  EXPECT_EQ(result("x: seq(float[k, 3]), z: float[k], p: int64[]", "y = SequenceAt(x, p)"), "float[k, 3]");
}

TEST(Sequences, AreMadeChangedAndRead) {
  const std::string x = "x: float[4]";
  const std::vector<Tensor> values{floats({4}, {1, 2, 3, 4})};
  EXPECT_EQ(run(x, "y = SplitToSequence(x) {keepdims=0}", values), "seq(scalar{1}, scalar{2}, scalar{3}, scalar{4})");
  EXPECT_EQ(run(x, "s: int64[] = const {3}\n y = SplitToSequence(x, s)", values), "seq(3{1, 2, 3}, 1{4})");
  EXPECT_EQ(run(x, "s: int64[2] = const {1, 3}\n p: int64[] = const {-1}\n q = SplitToSequence(x, s)\n y = SequenceInsert(q, x, p)", values),
            "seq(1{1}, 4{1, 2, 3, 4}, 3{2, 3, 4})");
  EXPECT_EQ(run(x, "s: int64[2] = const {1, 3}\n q = SplitToSequence(x, s)\n y = SequenceErase(q)", values), "seq(1{1})");
  EXPECT_EQ(run(x, "q = SplitToSequence(x)\n y = SequenceLength(q)", values), "scalar{4}");
  expect_in(run(x, "s: int64[2] = const {1, 2}\n y = SplitToSequence(x, s)", values), "the lengths do not add up to 4, the extent of axis 0");
  expect_in(run(x, "s: int64[] = const {0}\n y = SplitToSequence(x, s)", values), "cuts into parts of length 0; they need 1 at least");
}

TEST(Sequences, GraphsTakeThem) {
  const Tensor pair = Tensor::sequence({floats({1}, {5}), floats({2}, {6, 7})});
  EXPECT_EQ(run("x: seq(float[?])", "y = Identity(x)", {pair}), "seq(1{5}, 2{6, 7})");
  EXPECT_EQ(run("x: seq(float[?]), t: float[1]", "y = SequenceMap(x, t) {body=graph b(v, w) -> (o) { o = Add(v, w) }}", {pair, floats({1}, {10})}),
            "seq(1{15}, 2{16, 17})");
  expect_in(run("x: seq(float[?])", "y = Identity(x)", {floats({1}, {5})}), "the input is a tensor, expected seq(float[?])");
  expect_in(run("x: float[1]", "y = Identity(x)", {pair}), "the input is a sequence, expected float[1]");
  expect_in(run("x: seq(int64[?])", "y = Identity(x)", {pair}), "element 0 of the sequence: the input has type float, expected int64");
  EXPECT_EQ(run("x: optional(float[1])", "y = OptionalHasElement(x)", {Tensor::nothing()}), "scalar{0}");
  EXPECT_EQ(run("x: optional(float[1])", "y = OptionalGetElement(x)", {floats({1}, {5})}), "1{5}");
  expect_in(run("x: optional(float[1])", "y = OptionalGetElement(x)", {Tensor::nothing()}), "takes the element of an optional that holds none");
}

// Declarations -------------------------------------------------------------------------------------------------------------------------

TEST(ControlFlow, NamesThatNoInputBindsKnowLess) {
  // Both extents are the number of non-zeros, whatever the file calls them.
  const auto graph = inferred(R"(graph g(x: float[n]) -> (a, b) {
    i = NonZero(x)
    s = Shape(i)
    c = ConstantOfShape(s)
    a: float[one, many] = Add(c, c)
    b: float[1, 5] = Neg(c)
  })");
  EXPECT_EQ(type_of(*graph, "a"), "float[1, ?0]");
  EXPECT_EQ(type_of(*graph, "b"), "float[1, 5]");
}

}  // namespace
}  // namespace lathe::ops
