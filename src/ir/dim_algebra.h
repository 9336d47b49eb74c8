// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Inside of Dim: the canonical polynomial and its atoms. Private to dim*.cpp.
//
// Canonical form: terms by falling degree, then by their atoms' text (graded lexicographic order, which is compatible with
// multiplication, so polynomial division is exact); equal monomials merged; zero terms dropped; the constant last. ceildiv and mod
// are rewritten to floordiv at once (ceildiv(a, b) = -floordiv(-a, b), mod(a, b) = a - b * floordiv(a, b)), because one opaque
// function instead of three lets far more expressions of equal meaning meet in one text.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/dim.h"

namespace lathe::ir {

enum class AtomKind : std::uint8_t { kSymbol, kFloorDiv, kMin, kMax };

struct Atom {
  AtomKind kind;
  std::string name;  ///< symbols: the raw name
  std::string text;  ///< as printed; the ordering key
  Dim a, b;          ///< functions: the arguments
};
using AtomPtr = std::shared_ptr<const Atom>;

struct Term {
  std::int64_t factor = 0;
  std::vector<AtomPtr> atoms;  ///< sorted by text, repeated for powers; empty for the constant
};
using Terms = std::vector<Term>;

struct Interval {
  std::optional<std::int64_t> low, high;
};

struct Dim::Expr {
  Terms terms;
  std::string text;
  std::uint64_t hash = 0;
};

struct DimAlgebra {
  static Terms terms_of(const Dim& dim);
  static Dim make(Terms terms);  ///< sorts, merges, drops zeros
  static Dim from_atom(AtomPtr atom);
  static Dim from_term(Term term);
  static Dim function(AtomKind kind, const Dim& a, const Dim& b);
  static Dim floordiv_constant(Dim a, std::int64_t k);
  static Dim floordiv_symbolic(Dim a, Dim b);
  static Dim extremum(AtomKind kind, const Dim& a, const Dim& b);
  /// `data`: what a symbol may be that stands for data.
  static Interval interval(const Dim& dim, const Interval& data = {});
};

/// Below zero when `a` comes first in canonical order.
int compare_monomials(const std::vector<AtomPtr>& a, const std::vector<AtomPtr>& b);
/// Quotient monomial, or nullopt when `divisor` does not divide.
std::optional<std::vector<AtomPtr>> divide_monomial(const std::vector<AtomPtr>& a, const std::vector<AtomPtr>& divisor);

std::int64_t checked_add(std::int64_t a, std::int64_t b);
std::int64_t checked_mul(std::int64_t a, std::int64_t b);
std::int64_t floor_divide(std::int64_t a, std::int64_t b);

}  // namespace lathe::ir
