// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Dim against plain integer arithmetic on random expressions and bindings (negative ones too), and the canonical forms that shape
// inference relies on.

#include "ir/dim.h"

#include <gtest/gtest.h>

#include <random>

#include "lathe/status.h"

namespace lathe::ir {
namespace {

Dim S(const char* name) { return Dim::symbol(name); }
std::int64_t floor_of(std::int64_t a, std::int64_t b) {
  std::int64_t q = a / b;
  return (a % b != 0 && ((a < 0) != (b < 0))) ? q - 1 : q;
}

TEST(Dim, PolynomialsHaveOneText) {
  const Dim h = S("h"), w = S("w");
  EXPECT_EQ((2 * h + 1).to_string(), "2*h + 1");
  EXPECT_EQ((1 - h).to_string(), "-h + 1");
  EXPECT_EQ((w * h * 3 - h * w).to_string(), "2*h*w");
  EXPECT_EQ(((h + w) * (h - w) - h * h + w * w).to_string(), "0");
  EXPECT_TRUE((h - h + 5).is_constant());
  EXPECT_EQ((h + 1) * (h + 1), h * h + 2 * h + 1);
  EXPECT_TRUE(h.is_symbol());
  EXPECT_FALSE((2 * h).is_symbol());
  EXPECT_NE(h, w);
  EXPECT_EQ((h + w).hash(), (w + h).hash());
}

TEST(Dim, ConvolutionChainsStayCompact) {
  const Dim h = S("h");
  Dim x = h;
  for (int i = 0; i < 5; ++i) x = Dim::floordiv(x - 1, 2) + 1;  // kernel 3, stride 2, pad 1
  EXPECT_EQ(x.to_string(), "floordiv(h + 31, 32)");
  EXPECT_EQ(x, Dim::floordiv(h - 1, 32) + 1);
  EXPECT_EQ(2 * (Dim::floordiv(h - 1, 32) + 1), 2 * x);
  // ceil(h / 2) in its spellings
  EXPECT_EQ(Dim::ceildiv(h, 2), Dim::floordiv(h + 1, 2));
  EXPECT_EQ(Dim::floordiv(h - 1, 2) + 1, -1 * Dim::floordiv(-1 * h, 2));
}

TEST(Dim, DivisionSimplifies) {
  const Dim h = S("h"), w = S("w");
  EXPECT_EQ(Dim::floordiv(6 * h + 4, 2), 3 * h + 2);
  EXPECT_EQ(Dim::floordiv(4 * h + 3, 4), h);
  EXPECT_EQ(Dim::floordiv(2 * Dim::floordiv(h, 4), 2), Dim::floordiv(h, 4));
  EXPECT_EQ(Dim::floordiv(h * w * 8, w * 4), 2 * h);
  EXPECT_EQ(Dim::floordiv(h * w, w * 4), Dim::floordiv(h, 4));
  EXPECT_EQ(Dim::mod(8 * h + 3, 8), Dim(3));
  EXPECT_EQ(Dim::mod(h * w, w), Dim(0));
  EXPECT_EQ(Dim::floordiv(Dim(-7), Dim(2)), Dim(-4));
  EXPECT_EQ(Dim::floordiv(h, Dim(-2)), Dim::floordiv(-1 * h, 2));
  // Padding up to a multiple of 8 is divisible by 8 (window attention).
  const Dim padded = h + Dim::mod(8 - Dim::mod(h, 8), 8);
  const auto windows = Dim::exact_div(padded, 8);
  ASSERT_TRUE(windows);
  EXPECT_EQ(*windows, Dim::ceildiv(h, 8));
}

TEST(Dim, ExactDivision) {
  const Dim b = S("b"), h = S("h"), w = S("w");
  EXPECT_EQ(*Dim::exact_div(12 * b * h * w, 3 * h), 4 * b * w);
  EXPECT_EQ(*Dim::exact_div((h + 1) * (w - 2) * b, (w - 2) * b), h + 1);
  EXPECT_EQ(*Dim::exact_div(h * h - w * w, h + w), h - w);
  EXPECT_FALSE(Dim::exact_div(h, 2));
  EXPECT_FALSE(Dim::exact_div(h * w + 1, w));
  EXPECT_FALSE(Dim::exact_div(h, Dim(0)));
  EXPECT_EQ(*Dim::exact_div(Dim(0), h), Dim(0));
}

TEST(Dim, BoundsAssumePositiveSymbols) {
  const Dim h = S("h"), w = S("w");
  EXPECT_EQ(h.lower_bound(), 1);
  EXPECT_FALSE(h.upper_bound());
  EXPECT_EQ((2 * h + 3 * w - 1).lower_bound(), 4);
  EXPECT_EQ(Dim::mod(h, 8).lower_bound(), 0);
  EXPECT_EQ(Dim::mod(h, 8).upper_bound(), 7);
  EXPECT_EQ((3 - h).upper_bound(), 2);
  EXPECT_EQ(Dim::floordiv(h + 31, 32).lower_bound(), 1);
  EXPECT_FALSE(S("?3").lower_bound());
  EXPECT_FALSE((h - w).lower_bound());
}

TEST(Dim, ExtentsOfDataAreAtLeastNothing) {
  EXPECT_FALSE(Dim::parse("?0 + 1").lower_bound());
  EXPECT_EQ(Dim::parse("?0 + 1").lower_bound_of_extents(), 1);
  EXPECT_EQ(Dim::parse("min(?0, 300)*n").lower_bound_of_extents(), 0);
  EXPECT_EQ(Dim::parse("n + floordiv(?0, 2)").lower_bound_of_extents(), 1);
  EXPECT_FALSE(Dim::parse("5 - ?0").lower_bound_of_extents());
}

TEST(Dim, MinAndMax) {
  const Dim h = S("h"), w = S("w"), data = S("?1");
  EXPECT_EQ(Dim::max(0, h), h);
  EXPECT_EQ(Dim::min(h, h + 2), h);
  EXPECT_EQ(Dim::max(h, h + 2), h + 2);
  EXPECT_EQ(Dim::min(Dim::min(h, w), 8), Dim::min(w, Dim::min(8, h)));
  EXPECT_EQ(Dim::min(h, w).to_string(), "min(h, w)");
  EXPECT_EQ(Dim::max(Dim::min(512, h), h), h);  // absorption
  EXPECT_EQ(Dim::min(h, Dim::max(h, 7)), h);
  EXPECT_NE(Dim::max(Dim::min(512, h), h - 1), h - 1);
  EXPECT_EQ(Dim::max(0, data).to_string(), "max(0, ?1)");  // data may be negative
  EXPECT_EQ(Dim::min(Dim(3), Dim(4)), Dim(3));
}

TEST(Dim, SubstituteAndEvaluate) {
  const Dim h = S("h"), w = S("w");
  const Dim x = Dim::floordiv(h + 31, 32) * w;
  EXPECT_EQ(x.substitute({{"h", Dim(640)}}), 20 * w);
  EXPECT_EQ(x.substitute({{"h", 64 * w}, {"w", Dim(2)}}).to_string(), "4*w");  // simultaneous: the new w stays
  EXPECT_EQ(x.evaluate({{"h", 33}, {"w", 5}}), 10);
  EXPECT_FALSE(x.evaluate({{"h", 33}}));
  EXPECT_FALSE(Dim::floordiv(h, w).evaluate({{"h", 1}, {"w", 0}}));
  std::set<std::string> symbols;
  x.collect_symbols(symbols);
  EXPECT_EQ(symbols, (std::set<std::string>{"h", "w"}));
}

TEST(Dim, ParserReadsExportersSpellings) {
  EXPECT_EQ(Dim::parse("(s0//2) + 1"), Dim::floordiv(S("s0"), 2) + 1);
  EXPECT_EQ(Dim::parse("s0**2 - 4*s1"), S("s0") * S("s0") - 4 * S("s1"));
  EXPECT_EQ(Dim::parse("past_sequence_length + 1"), S("past_sequence_length") + 1);
  EXPECT_EQ(Dim::parse("Max(1, 3)"), Dim(3));
  EXPECT_EQ(Dim::parse("floordiv(w - 1, 2) + 1"), Dim::ceildiv(S("w"), 2));
  EXPECT_EQ(Dim::parse("-2*(a - b)"), 2 * S("b") - 2 * S("a"));
  for (const char* bad : {"", "2*", "a b", "floordiv(a)", "(a", "'x", "99999999999999999999", "a**-1"}) {
    EXPECT_THROW(Dim::parse(bad), Error) << bad;
  }
}

TEST(Dim, AnyNameSurvivesTheText) {
  for (const char* name : {"batch size", "a+b", "min", "it's", "x\\y", "", "unk__12", "?7", "Größe"}) {
    const Dim dim = 2 * Dim::symbol(name) + 1;
    EXPECT_EQ(Dim::parse(dim.to_string()), dim) << dim.to_string();
    EXPECT_EQ(dim.evaluate({{name, 5}}), 11);
  }
}

TEST(Dim, OverflowIsAnErrorNotAWrongNumber) {
  const Dim big(std::int64_t{1} << 62);
  EXPECT_THROW(big * 4, Error);
  EXPECT_THROW(big + big, Error);
  EXPECT_FALSE((S("h") * big).evaluate({{"h", 4}}));
}

// A random expression, built twice: as a Dim, and as a function of the bindings in plain arithmetic.
struct RandomExpr {
  Dim dim;
  std::function<std::optional<std::int64_t>(const Bindings&)> value;
};

RandomExpr random_expr(std::mt19937& rng, int depth, bool with_extrema) {
  static const char* kSymbols[] = {"a", "b", "c"};
  const auto pick = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  if (depth == 0 || pick(6) == 0) {
    if (pick(2) == 0) {
      const std::int64_t c = pick(15) - 5;
      return {Dim(c), [c](const Bindings&) { return std::optional(c); }};
    }
    const std::string name = kSymbols[pick(3)];
    return {Dim::symbol(name), [name](const Bindings& bindings) { return std::optional(bindings.at(name)); }};
  }
  const RandomExpr x = random_expr(rng, depth - 1, with_extrema);
  const int op = pick(with_extrema ? 9 : 7);
  RandomExpr y = random_expr(rng, depth - 1, with_extrema);
  if (op >= 3 && op <= 6 && pick(3) != 0) {  // mostly constant divisors
    const std::int64_t c = (pick(2) ? 1 : -1) * (1 + pick(12));
    y = {Dim(c), [c](const Bindings&) { return std::optional(c); }};
  }
  const auto both = [x, y](auto f) {
    return [x, y, f](const Bindings& bindings) -> std::optional<std::int64_t> {
      const auto p = x.value(bindings), q = y.value(bindings);
      if (!p || !q) return std::nullopt;
      return f(*p, *q);
    };
  };
  using Result = std::optional<std::int64_t>;
  switch (op) {
    case 0: return {x.dim + y.dim, both([](auto p, auto q) -> Result { return p + q; })};
    case 1: return {x.dim - y.dim, both([](auto p, auto q) -> Result { return p - q; })};
    case 2: return {x.dim * y.dim, both([](auto p, auto q) -> Result { return p * q; })};
    case 3:
    case 4: return {Dim::floordiv(x.dim, y.dim), both([](auto p, auto q) -> Result { return q == 0 ? Result() : floor_of(p, q); })};
    case 5: return {Dim::ceildiv(x.dim, y.dim), both([](auto p, auto q) -> Result { return q == 0 ? Result() : -floor_of(-p, q); })};
    case 6: return {Dim::mod(x.dim, y.dim), both([](auto p, auto q) -> Result { return q == 0 ? Result() : p - q * floor_of(p, q); })};
    case 7: return {Dim::min(x.dim, y.dim), both([](auto p, auto q) -> Result { return std::min(p, q); })};
    default: return {Dim::max(x.dim, y.dim), both([](auto p, auto q) -> Result { return std::max(p, q); })};
  }
}

TEST(Dim, RandomExpressionsKeepTheirValue) {
  std::mt19937 rng(7);
  int compared = 0;
  for (int round = 0; round < 3000; ++round) {
    // min and max may use that symbols are positive; everything else holds for any integers.
    const bool with_extrema = round % 2 == 0;
    const RandomExpr e = random_expr(rng, 1 + round % 4, with_extrema);
    const Dim parsed = Dim::parse(e.dim.to_string());
    EXPECT_EQ(parsed, e.dim) << e.dim.to_string() << " parsed as " << parsed.to_string();
    const auto low = e.dim.lower_bound(), high = e.dim.upper_bound();
    for (int i = 0; i < 8; ++i) {
      const auto draw = [&] { return static_cast<std::int64_t>(rng() % 60) + (with_extrema ? 1 : -25); };
      const Bindings bindings{{"a", draw()}, {"b", draw()}, {"c", draw()}};
      const auto expected = e.value(bindings);
      if (!expected) continue;  // divided by zero; the simplified form may have cancelled the division
      ++compared;
      EXPECT_EQ(e.dim.evaluate(bindings), expected) << e.dim.to_string();
      std::unordered_map<std::string, Dim> replacements;
      for (const auto& [name, value] : bindings) replacements.emplace(name, Dim(value));
      EXPECT_EQ(e.dim.substitute(replacements), Dim(*expected)) << e.dim.to_string();
      if (with_extrema) {
        EXPECT_LE(low.value_or(*expected), *expected) << e.dim.to_string();
        EXPECT_GE(high.value_or(*expected), *expected) << e.dim.to_string();
      }
    }
  }
  EXPECT_GT(compared, 10000);
}

TEST(Dim, RandomExactDivisions) {
  std::mt19937 rng(11);
  for (int round = 0; round < 500; ++round) {
    const Dim a = random_expr(rng, 3, false).dim, b = random_expr(rng, 2, false).dim;
    if (b == Dim(0)) continue;
    const auto quotient = Dim::exact_div(a * b, b);
    ASSERT_TRUE(quotient) << a.to_string() << " * " << b.to_string();
    EXPECT_EQ(*quotient, a);
  }
}

}  // namespace
}  // namespace lathe::ir
