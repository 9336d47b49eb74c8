// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Dim's interval arithmetic under "every symbol is at least 1", and min/max, which use it. Symbols whose name starts with '?' stand
// for data (they may be anything, -1 included), so they have no bounds.

#include <algorithm>

#include "ir/dim_algebra.h"

namespace lathe::ir {
namespace {

using Bound = std::optional<std::int64_t>;

Bound add(const Bound& a, const Bound& b) {
  std::int64_t sum;
  if (!a || !b || __builtin_add_overflow(*a, *b, &sum)) return std::nullopt;
  return sum;
}

Bound multiply(const Bound& a, const Bound& b) {
  std::int64_t result;
  if (!a || !b || __builtin_mul_overflow(*a, *b, &result)) return std::nullopt;
  return result;
}

Interval scale(const Interval& x, std::int64_t factor) {
  if (factor == 0) return {0, 0};
  Interval result{multiply(x.low, factor), multiply(x.high, factor)};
  if (factor < 0) std::swap(result.low, result.high);
  return result;
}

Interval times(const Interval& x, const Interval& y) {
  if (x.low && y.low && *x.low >= 0 && *y.low >= 0) return {multiply(x.low, y.low), multiply(x.high, y.high)};
  const Bound corners[] = {multiply(x.low, y.low), multiply(x.low, y.high), multiply(x.high, y.low), multiply(x.high, y.high)};
  Interval result{corners[0], corners[0]};
  for (const Bound& corner : corners) {
    if (!corner) return {};
    result.low = std::min(result.low, corner);
    result.high = std::max(result.high, corner);
  }
  return result;
}

Interval atom_interval(const Atom& atom, const Interval& data) {
  if (atom.kind == AtomKind::kSymbol) return atom.name.starts_with('?') ? data : Interval{1, std::nullopt};
  const Interval a = DimAlgebra::interval(atom.a, data), b = DimAlgebra::interval(atom.b, data);
  Interval result;
  switch (atom.kind) {
    case AtomKind::kFloorDiv:
      if (!b.low || *b.low < 1) return {};
      if (a.low) result.low = *a.low < 0 ? floor_divide(*a.low, *b.low) : b.high ? floor_divide(*a.low, *b.high) : 0;
      if (a.high) result.high = *a.high >= 0 ? floor_divide(*a.high, *b.low) : b.high ? floor_divide(*a.high, *b.high) : -1;
      return result;
    case AtomKind::kMin:
      if (a.low && b.low) result.low = std::min(*a.low, *b.low);
      result.high = !a.high ? b.high : !b.high ? a.high : std::min(a.high, b.high);
      return result;
    case AtomKind::kMax:
      if (a.high && b.high) result.high = std::max(*a.high, *b.high);
      result.low = !a.low ? b.low : !b.low ? a.low : std::max(a.low, b.low);
      return result;
    case AtomKind::kSymbol: break;
  }
  return {};
}

Interval intersect(const Interval& x, const Interval& y) {
  return {!x.low ? y.low : !y.low ? x.low : std::max(x.low, y.low), !x.high ? y.high : !y.high ? x.high : std::min(x.high, y.high)};
}

}  // namespace

Interval DimAlgebra::interval(const Dim& dim, const Interval& data) {
  const Terms terms = terms_of(dim);
  Interval sum{0, 0};
  for (const Term& term : terms) {
    Interval value{1, 1};
    for (const AtomPtr& atom : term.atoms) value = times(value, atom_interval(*atom, data));
    value = scale(value, term.factor);
    sum = {add(sum.low, value.low), add(sum.high, value.high)};
  }
  if (terms.size() < 2) return sum;
  // m*k*floordiv(x, k) = m*x - m*mod(x, k) with mod in [0, k - 1]: sharp where x cancels against another term.
  for (const Term& term : terms) {
    if (term.atoms.size() != 1 || term.atoms[0]->kind != AtomKind::kFloorDiv) continue;
    const std::int64_t k = term.atoms[0]->b.constant().value_or(0);
    if (k <= 0 || term.factor % k != 0) continue;
    const std::int64_t m = term.factor / k;
    const Dim without = dim - from_term(term) + term.atoms[0]->a * Dim(m);
    const Interval other = interval(without, data), remainder = scale({0, k - 1}, -m);
    return intersect(sum, {add(other.low, remainder.low), add(other.high, remainder.high)});
  }
  return sum;
}

std::optional<std::int64_t> Dim::lower_bound() const { return DimAlgebra::interval(*this).low; }
std::optional<std::int64_t> Dim::upper_bound() const { return DimAlgebra::interval(*this).high; }
std::optional<std::int64_t> Dim::lower_bound_of_extents() const { return DimAlgebra::interval(*this, {0, std::nullopt}).low; }

// min(min(a, b), c) in any nesting and order becomes one sorted chain; an argument that another one dominates is dropped.
namespace {

/// min(p, q) never exceeds what p or q never exceeds, and max(p, q) is never below what p or q is never below (absorption): for the loser of an
/// extremum of the kind `kind`, is `a` such a function of the other kind?
bool absorbed(AtomKind kind, const Dim& a, const Dim& b) {
  const Terms& terms = DimAlgebra::terms_of(a);
  const AtomKind other = kind == AtomKind::kMin ? AtomKind::kMax : AtomKind::kMin;
  if (terms.size() != 1 || terms[0].factor != 1 || terms[0].atoms.size() != 1 || terms[0].atoms[0]->kind != other) return false;
  for (const Dim& side : {terms[0].atoms[0]->a, terms[0].atoms[0]->b}) {
    if (side == b || absorbed(kind, side, b)) return true;
    const Interval difference = DimAlgebra::interval(side - b);
    if (kind == AtomKind::kMin ? difference.low && *difference.low >= 0 : difference.high && *difference.high <= 0) return true;
  }
  return false;
}

}  // namespace

Dim DimAlgebra::extremum(AtomKind kind, const Dim& a, const Dim& b) {
  std::vector<Dim> arguments;
  const auto flatten = [&](const Dim& dim, const auto& self) -> void {
    const Terms terms = terms_of(dim);
    if (terms.size() == 1 && terms[0].factor == 1 && terms[0].atoms.size() == 1 && terms[0].atoms[0]->kind == kind) {
      self(terms[0].atoms[0]->a, self);
      self(terms[0].atoms[0]->b, self);
    } else {
      arguments.push_back(dim);
    }
  };
  flatten(a, flatten);
  flatten(b, flatten);
  std::vector<Dim> kept;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    bool dominated = false;
    for (std::size_t j = 0; j < arguments.size() && !dominated; ++j) {
      if (i == j) continue;
      if (arguments[i] == arguments[j]) {
        dominated = j < i;
        continue;
      }
      const Interval difference = interval(arguments[i] - arguments[j]);
      // i is not needed when j always wins; two that always tie are equal in text or keep the first.
      const bool loses = kind == AtomKind::kMin ? difference.low && *difference.low >= 0 : difference.high && *difference.high <= 0;
      const bool ties = difference.low && difference.high && *difference.low == 0 && *difference.high == 0;
      dominated = (loses && (!ties || j < i)) || absorbed(kind, arguments[i], arguments[j]);
    }
    if (!dominated) kept.push_back(arguments[i]);
  }
  std::sort(kept.begin(), kept.end(), [](const Dim& x, const Dim& y) { return x.to_string() < y.to_string(); });
  Dim result = kept[0];
  for (std::size_t i = 1; i < kept.size(); ++i) result = function(kind, result, kept[i]);
  return result;
}

Dim Dim::min(const Dim& a, const Dim& b) { return DimAlgebra::extremum(AtomKind::kMin, a, b); }
Dim Dim::max(const Dim& a, const Dim& b) { return DimAlgebra::extremum(AtomKind::kMax, a, b); }

}  // namespace lathe::ir
