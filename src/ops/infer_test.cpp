// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Shape inference on symbolic extents, above all through the arithmetic that exporters write: Shape, Gather, Slice, Concat, Reshape.
#include "ops/infer.h"

#include <gtest/gtest.h>

#include "lathe/status.h"
#include "ops/shape_util.h"
#include "ops/test_graphs.h"

namespace lathe::ops {
namespace {

std::string content_of(const ir::Graph& graph, const char* name) {
  const auto content = known_content(*graph.find(name));
  return content ? ir::to_string(*content) : "unknown";
}

std::string failure(const std::string& inputs, const std::string& body) {
  try {
    const std::string type = result(inputs, body);
    return "no error, but " + type;
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Infer, FlattenWrittenAsShapeGatherConcatReshape) {
  const auto graph = inferred(R"(graph g(x: float[batch, 512, h, w]) -> (y) {
    zero: int64[] = const {0}
    rest: int64[1] = const {-1}
    axes: int64[1] = const {0}
    s = Shape(x)
    n = Gather(s, zero)
    n1 = Unsqueeze(n, axes)
    target = Concat(n1, rest) {axis=0}
    y = Reshape(x, target)
  })");
  EXPECT_EQ(content_of(*graph, "s"), "[batch, 512, h, w]");
  EXPECT_EQ(content_of(*graph, "n"), "[batch]");
  EXPECT_EQ(content_of(*graph, "target"), "[batch, -1]");
  EXPECT_EQ(type_of(*graph, "y"), "float[batch, 512*h*w]");
}

TEST(Infer, ChannelShuffle) {
  // shufflenet: [n, c, h, w] -> [n, 2, c / 2, h, w] -> swap -> back.
  const auto graph = inferred(R"(graph g(x: float[n, 116, h, w]) -> (y) {
    i0: int64[] = const {0}
    i2: int64[] = const {2}
    i3: int64[] = const {3}
    ax: int64[1] = const {0}
    groups: int64[1] = const {2}
    half: int64[1] = const {58}
    all: int64[1] = const {-1}
    s = Shape(x)
    n = Gather(s, i0)
    h = Gather(s, i2)
    w = Gather(s, i3)
    nu = Unsqueeze(n, ax)
    hu = Unsqueeze(h, ax)
    wu = Unsqueeze(w, ax)
    t1 = Concat(nu, groups, half, hu, wu) {axis=0}
    a = Reshape(x, t1)
    b = Transpose(a) {perm=[0, 2, 1, 3, 4]}
    t2 = Concat(nu, all, hu, wu) {axis=0}
    y = Reshape(b, t2)
  })");
  EXPECT_EQ(type_of(*graph, "b"), "float[n, 58, 2, h, w]");
  EXPECT_EQ(type_of(*graph, "y"), "float[n, 116, h, w]");
}

TEST(Infer, ArithmeticOnExtents) {
  const auto graph = inferred(R"(graph g(x: float[n, c, h, w]) -> (y) {
    st: int64[1] = const {2}
    en: int64[1] = const {9223372036854775807}
    two: int64[1] = const {2}
    nc: int64[2] = const {0, 0}
    s = Shape(x)
    hw = Slice(s, st, en)
    twice = Mul(hw, two)
    half = Div(hw, two)
    sum = Add(twice, half)
    less = Sub(sum, two)
    asfloat = Cast(less) {to=1}
    back = Cast(asfloat) {to=7}
    target = Concat(nc, back) {axis=0}
    one: float[1] = const {0}
    y = Expand(one, less)
  })");
  EXPECT_EQ(content_of(*graph, "hw"), "[h, w]");
  EXPECT_EQ(content_of(*graph, "twice"), "[2*h, 2*w]");
  EXPECT_EQ(content_of(*graph, "half"), "[floordiv(h, 2), floordiv(w, 2)]");
  EXPECT_EQ(content_of(*graph, "less"), "[floordiv(h, 2) + 2*h - 2, floordiv(w, 2) + 2*w - 2]");
  EXPECT_EQ(content_of(*graph, "back"), content_of(*graph, "less"));
}

TEST(Infer, ReshapeRules) {
  const std::string x = "x: float[n, 6, 4]";
  EXPECT_EQ(result(x, "t: int64[2] = const {0, -1}\n y = Reshape(x, t)"), "float[n, 24]");
  EXPECT_EQ(result(x, "t: int64[3] = const {-1, 3, 8}\n y = Reshape(x, t)"), "float[n, 3, 8]");
  EXPECT_EQ(result(x, "t: int64[2] = const {-1, 4}\n y = Reshape(x, t)"), "float[6*n, 4]");
  EXPECT_EQ(result(x, "t: int64[1] = const {-1}\n y = Reshape(x, t)"), "float[24*n]");
  EXPECT_EQ(result("x: float[2, 0, 3], t: int64[3]", "y = Reshape(x, t)"), "float[?0, ?1, ?2]");
  EXPECT_EQ(result("x: float[0, 3]", "t: int64[2] = const {0, 7}\n y = Reshape(x, t) {allowzero=1}"), "float[0, 7]");
  EXPECT_EQ(result("x: float[2, 3], t: int64[?]", "y = Reshape(x, t)"), "float[?]");
}

TEST(Infer, SliceRules) {
  const std::string x = "x: float[n, 10]";
  const auto slice = [&](const std::string& begin, const std::string& end, const std::string& axis, const std::string& step) {
    return result(x, "b: int64[1] = const {" + begin + "}\n e: int64[1] = const {" + end + "}\n a: int64[1] = const {" + axis + "}\n s: int64[1] = const {" +
                         step + "}\n y = Slice(x, b, e, a, s)");
  };
  EXPECT_EQ(slice("2", "7", "1", "1"), "float[n, 5]");
  EXPECT_EQ(slice("2", "7", "-1", "2"), "float[n, 3]");
  EXPECT_EQ(slice("-3", "9223372036854775807", "1", "1"), "float[n, 3]");
  EXPECT_EQ(slice("-1", "-9223372036854775808", "1", "-1"), "float[n, 10]");
  EXPECT_EQ(slice("8", "2", "1", "-2"), "float[n, 3]");
  EXPECT_EQ(slice("7", "2", "1", "1"), "float[n, 0]");
  EXPECT_EQ(slice("0", "9223372036854775807", "0", "1"), "float[n, 10]");
}

TEST(Infer, BroadcastOfSymbols) {
  EXPECT_EQ(result("a: float[n, 1], b: float[1, m]", "y = Add(a, b)"), "float[n, m]");
  EXPECT_EQ(result("a: float[n, 4], b: float[n, 4]", "y = Add(a, b)"), "float[n, 4]");
  EXPECT_EQ(result("a: float[n], b: float[4]", "y = Add(a, b)"), "float[4]");
  // They are equal, or one of them is 1.
  EXPECT_EQ(result("a: float[n], b: float[m]", "y = Add(a, b)"), "float[max(m, n)]");
  // A table sliced to a length: the cap does not bite where the sum is valid.
  EXPECT_EQ(result("a: float[n], t: float[512]", "s = Shape(a)\nzero: int64[1] = const {0}\nb = Slice(t, zero, s)\ny = Add(a, b)"), "float[n]");
  // Any function of n alone that is 1 where n is: above that only n itself broadcasts with it.
  EXPECT_EQ(result("a: float[n], t: float[512]",
                   "s = Shape(a)\ntwo: int64[1] = const {2}\none: int64[1] = const {1}\nzero: int64[1] = const {0}\n"
                   "m = Mul(s, two)\nl = Sub(m, one)\nd = Div(l, two)\ne = Add(d, one)\nb = Slice(t, zero, e)\ny = Add(b, a)"),
            "float[n]");
  // One of them may be empty: with n = 1 so is the sum.
  EXPECT_EQ(result("a: float[n]", "two: int64[1] = const {2}\nend: int64[1] = const {99999}\nb = Slice(a, two, end)\ny = Add(a, b)"),
            "float[max(-min(2, n) + min(99999, n), n)*min(1, max(-min(2, n) + min(99999, n), 0))]");
}

TEST(Infer, TheCommonExtentIsRightForEveryTwoThatBroadcast) {
  const auto extent = [](const std::string& text) { return ir::Dim::parse(text); };
  const auto never = []() -> ir::Dim { throw std::logic_error("an extent of its own"); };
  const std::string texts[] = {"n", "m", "n + 1", "2*n - 1", "?0", "max(n - 2, 0)", "min(n, 3)", "max(0, 3 - n)", "n*m", "floordiv(n, 2)", "?0 + ?1", "4"};
  for (const std::string& a : texts)
    for (const std::string& b : texts) {
      const auto common = broadcast_extent(extent(a), extent(b), never);
      ASSERT_TRUE(common) << a << ", " << b;
      for (std::int64_t n = 1; n < 6; ++n)
        for (std::int64_t m = 1; m < 6; ++m)
          for (std::int64_t zero = 0; zero < 4; ++zero)
            for (std::int64_t one = 0; one < 4; ++one) {
              const ir::Bindings at{{"n", n}, {"m", m}, {"?0", zero}, {"?1", one}};
              const std::int64_t x = *extent(a).evaluate(at), y = *extent(b).evaluate(at);
              if (x != y && x != 1 && y != 1) continue;  // refused by what computes it
              ASSERT_EQ(common->evaluate(at), x == 1 ? y : x) << a << ", " << b << ": " << common->to_string();
            }
    }
}

TEST(Infer, SliceOfAPositionWhoseSignTheRunTells) {
  // Positions around the middle of a table, as relative positions of a sequence take them.
  const auto graph = inferred(R"(graph g(x: float[n, 3], t: float[9, 3]) -> (y) {
    s = Shape(x)
    zero: int64[1] = const {0}
    one: int64[1] = const {1}
    five: int64[1] = const {5}
    n = Slice(s, zero, one)
    begin = Sub(five, n)
    end = Add(five, n)
    y = Slice(t, begin, end)
  })");
  const ir::Dim extent = ir::Dim::parse(type_of(*graph, "y").substr(6, type_of(*graph, "y").rfind(", ") - 6));
  for (std::int64_t n = 1; n < 20; ++n) {
    const std::int64_t begin = 5 - n < 0 ? std::max<std::int64_t>(14 - n, 0) : 5 - n, end = std::min<std::int64_t>(5 + n, 9);
    EXPECT_EQ(extent.evaluate({{"n", n}}), std::max<std::int64_t>(end - begin, 0)) << n;
  }
}

TEST(Infer, AnExtentOfDataIsNeverNegative) {
  // What an exporter writes for expand(-1, 4): an extent that only data tell is no -1.
  const auto graph = inferred(R"(graph g(x: float[n]) -> (y) {
    i = NonZero(x)
    s = Shape(i)
    minus: int64[2] = const {-1, -1}
    ones: int64[2] = const {1, 1}
    e = Equal(s, minus)
    w = Where(e, ones, s)
    z: float[1] = const {0}
    y = Expand(z, w)
  })");
  EXPECT_EQ(type_of(*graph, "y"), "float[1, ?0]");
}

TEST(Infer, ConvolutionAndPoolingOfSymbols) {
  EXPECT_EQ(result("x: float[n, 3, h, w], k: float[16, 3, 3, 3]", "y = Conv(x, k) {pads=[1, 1, 1, 1], strides=[2, 2]}"),
            "float[n, 16, floordiv(h + 1, 2), floordiv(w + 1, 2)]");
  EXPECT_EQ(result("x: float[n, 3, h, 7], k: float[16, 3, 3, 3]", "y = Conv(x, k) {pads=[1, 1, 1, 1]}"), "float[n, 16, h, 7]");
  EXPECT_EQ(result("x: float[n, 8, h, 9], k: float[8, 4, 2, 2]", "y = ConvTranspose(x, k) {strides=[2, 2]}"), "float[n, 4, 2*h, 18]");
  EXPECT_EQ(result("x: float[1, 4, 5, 6]", "y = MaxPool(x) {kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1}"), "float[1, 4, 3, 3]");
  // The last window would start in the right pad: it is dropped.
  EXPECT_EQ(result("x: float[1, 1, 2, 2]", "y = MaxPool(x) {kernel_shape=[1, 1], strides=[2, 2], ceil_mode=1}"), "float[1, 1, 1, 1]");
  EXPECT_EQ(result("x: float[n, 4, h, w]", "y = GlobalAveragePool(x)"), "float[n, 4, 1, 1]");
}

TEST(Infer, MatMulGemmAndRecurrence) {
  EXPECT_EQ(result("a: float[n, t, 8], b: float[8, m]", "y = MatMul(a, b)"), "float[n, t, m]");
  EXPECT_EQ(result("a: float[8], b: float[n, 8, m]", "y = MatMul(a, b)"), "float[n, m]");
  EXPECT_EQ(result("a: float[8], b: float[8]", "y = MatMul(a, b)"), "float[]");
  EXPECT_EQ(result("a: float[8, n], b: float[5, 8]", "y = Gemm(a, b) {transA=1, transB=1}"), "float[n, 5]");
  EXPECT_EQ(result("x: float[t, n, 10], w: float[2, 80, 10], r: float[2, 80, 20]", "y = LSTM(x, w, r) {hidden_size=20, direction=\"bidirectional\"}"),
            "float[t, 2, n, 20]");
  EXPECT_EQ(result("x: float[n, t, 10], w: float[1, 60, 10], r: float[1, 60, 20]", "_, y = GRU(x, w, r) {hidden_size=20, layout=1}"), "float[n, 1, 20]");
}

TEST(Infer, ResizeByScalesAndBySizes) {
  EXPECT_EQ(result("x: float[n, 3, h, w]", "s: float[4] = const {1.0, 1.0, 2.0, 1.5}\n y = Resize(x, _, s)"), "float[n, 3, 2*h, floordiv(w, 2) + w]");
  const auto graph = inferred(R"(graph g(x: float[n, 3, h, w], like: float[n, 8, hh, ww]) -> (y) {
    a: int64[1] = const {0}
    b: int64[1] = const {2}
    c: int64[1] = const {4}
    sx = Shape(x)
    sl = Shape(like)
    nc = Slice(sx, a, b)
    hw = Slice(sl, b, c)
    sizes = Concat(nc, hw) {axis=0}
    y = Resize(x, _, _, sizes) {mode="linear"}
  })");
  EXPECT_EQ(type_of(*graph, "y"), "float[n, 3, hh, ww]");
}

TEST(Infer, DataDependentExtentsGetFreshSymbols) {
  const auto graph = inferred("graph g(x: float[n, m]) -> (i, u) {\n i = NonZero(x)\n u = Transpose(i) {perm=[1, 0]}\n}");
  EXPECT_EQ(type_of(*graph, "i"), "int64[2, ?0]");
  EXPECT_EQ(type_of(*graph, "u"), "int64[?0, 2]");
}

TEST(Infer, ConstantNodesAreSeenThrough) {
  EXPECT_EQ(result("x: float[n, 3, 4, 4]", "s = Constant() {value=tensor float[4] {1.0, 1.0, 2.0, 2.0}}\n y = Resize(x, _, s)"), "float[n, 3, 8, 8]");
}

TEST(Infer, DeclaredTypesAreMerged) {
  // A rule's expression wins over the number of a traced example; a declared extent wins over an unknown one.
  EXPECT_EQ(result("x: float[n, 4]", "y: float[1, 4] = Relu(x)"), "float[n, 4]");
  EXPECT_EQ(result("x: float[2, 3], t: int64[2]", "y: float[6, one] = Reshape(x, t)"), "float[6, one]");
  const std::string text = failure("x: float[n, 4]", "y: float[n, 5] = Relu(x) @\"/act\"");
  EXPECT_NE(text.find("float[n, 4]"), std::string::npos) << text;
  EXPECT_NE(text.find("float[n, 5]"), std::string::npos) << text;
  EXPECT_NE(text.find("/act"), std::string::npos) << text;
}

TEST(Infer, ErrorsNameTheNodeAndBothSides) {
  const auto expect = [](const std::string& inputs, const std::string& body, std::initializer_list<const char*> words) {
    const std::string text = failure(inputs, body);
    for (const char* word : words) EXPECT_NE(text.find(word), std::string::npos) << "no '" << word << "' in: " << text;
  };
  expect("x: float[1, 6, 8, 8], w: float[16, 3, 3, 3]", "y = Conv(x, w) @\"/stem/Conv\"", {"/stem/Conv", "Conv", "6 channels", "takes 3"});
  expect("x: float[1, 6, 8, 8], w: float[15, 3, 3, 3]", "y = Conv(x, w) {group=2} @\"/c\"", {"/c", "15 output channels", "2 groups"});
  expect("x: float[1, 6, 8, 8], w: float[16, 6, 3]", "y = Conv(x, w) @\"/c\"", {"/c", "rank 4", "rank 3"});
  expect("x: float[1, 6, 8, 8], w: float[16, 6, 3, 3]", "y = Conv(x, w) {strides=[1]} @\"/c\"", {"/c", "strides", "1 values", "2 spatial"});
  expect("a: float[2, 3], b: float[4, 5]", "y = MatMul(a, b) @\"/fc\"", {"/fc", "inner extents", "[2, 3]", "[4, 5]"});
  expect("a: float[2, 3], b: float[3, 5], c: float[4]", "y = Gemm(a, b, c) @\"/fc\"", {"/fc", "[4]", "[2, 5]"});
  expect("a: float[2, 3], b: float[2, 4]", "y = Add(a, b) @\"/add\"", {"/add", "3", "4"});
  expect("a: float[2, 3], b: float[2, 4]", "y = Concat(a, b) {axis=0} @\"/cat\"", {"/cat"});
  expect("x: float[2, 3]", "t: int64[1] = const {7}\n y = Reshape(x, t) @\"/view\"", {"/view", "[2, 3]", "[7]"});
  expect("x: float[2, 3]", "y = Transpose(x) {perm=[0, 0]} @\"/t\"", {"/t", "perm"});
  expect("x: float[2, 3]", "y = Softmax(x) {axis=2} @\"/s\"", {"/s", "axis 2", "rank 2"});
  expect("x: float[2, 3]", "y = MaxPool(x) {kernel_shape=[2, 2]} @\"/p\"", {"/p", "rank 2"});
  expect("x: float[1, 3, 4, 4]", "y = AveragePool(x) {kernel_shape=[7, 7]} @\"/p\"", {"/p", "7", "[1, 3, 4, 4]"});
  expect("x: float[1, 3, 4, 4]", "s: float[2] = const {2.0, 2.0}\n y = Resize(x, _, s) @\"/up\"", {"/up", "2 elements", "4 axes"});
  expect("x: float[2], i: float[2]", "y = Gather(x, i) @\"/g\"", {"/g", "tensor(float)"});
}

}  // namespace
}  // namespace lathe::ops
