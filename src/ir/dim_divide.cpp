// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Dim's division: exact polynomial division and the canonical floordiv.
//
// floordiv(P, k) with a constant k > 0 is reduced until nothing changes, keeping  value = rest + sign * floordiv(P, k):
//   gcd      floordiv(g*A + c, g*m)           = floordiv(A + floordiv(c, g), m)
//   residue  floordiv(P + q*k*M, k)           = floordiv(P, k) + q*M     coefficients into [-k/2, k/2], the constant into [0, k)
//   sign     floordiv(-P, k)                  = -floordiv(P + k - 1, k)  so that the leading coefficient is positive
//   nesting  floordiv(floordiv(A, m) + R, k)  = floordiv(A + m*R, k*m)
// so a chain of stride-2 convolutions, floordiv(floordiv(h - 1, 2) + 1 - 1, 2) + 1, is floordiv(h + 3, 4).

#include <algorithm>
#include <numeric>

#include "ir/dim_algebra.h"

namespace lathe::ir {

std::optional<std::vector<AtomPtr>> divide_monomial(const std::vector<AtomPtr>& a, const std::vector<AtomPtr>& divisor) {
  std::vector<AtomPtr> quotient;
  std::size_t j = 0;
  for (const AtomPtr& atom : a) {
    if (j < divisor.size() && atom->text == divisor[j]->text) {
      ++j;
    } else {
      quotient.push_back(atom);
    }
  }
  if (j != divisor.size()) return std::nullopt;
  return quotient;
}

namespace {

// The only floordiv-by-constant atom with coefficient +-1 that can be unnested, or -1.
int find_nested(const Terms& terms) {
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const Term& term = terms[i];
    if (term.atoms.size() != 1 || (term.factor != 1 && term.factor != -1)) continue;
    const Atom& atom = *term.atoms[0];
    if (atom.kind == AtomKind::kFloorDiv && atom.b.constant().value_or(0) > 0) return static_cast<int>(i);
  }
  return -1;
}

std::int64_t symmetric_residue(std::int64_t c, std::int64_t k) {
  std::int64_t r = c - floor_divide(c, k) * k;  // [0, k)
  return r > k / 2 ? r - k : r;                 // (-k/2, k/2]
}

}  // namespace

Dim DimAlgebra::floordiv_constant(Dim a, std::int64_t k) {
  if (k < 0) {
    a = a * Dim(-1);
    k = checked_mul(k, -1);
  }
  Dim rest(0);
  std::int64_t sign = 1;
  for (;;) {
    if (const auto c = a.constant()) return rest + Dim(checked_mul(sign, floor_divide(*c, k)));
    Terms terms = terms_of(a);
    std::int64_t g = k, constant = 0;
    for (const Term& term : terms) {
      if (term.atoms.empty()) {
        constant = term.factor;
      } else {
        g = std::gcd(g, term.factor);
      }
    }
    Terms reduced, quotient;
    k /= g;
    for (const Term& term : terms) {
      if (term.atoms.empty()) continue;
      const std::int64_t factor = term.factor / g;
      std::int64_t residue = k == 1 ? 0 : symmetric_residue(factor, k);
      // k/2 and -k/2 are one class: a leading term keeps its sign, so floordiv(-h, 2) is -floordiv(h + 1, 2), not -h + floordiv(h, 2).
      if (reduced.empty() && factor < 0 && k > 1 && residue * 2 == k) residue = -residue;
      if (factor != residue) quotient.push_back({checked_mul(sign, (factor - residue) / k), term.atoms});
      if (residue != 0) reduced.push_back({residue, term.atoms});
    }
    constant = floor_divide(constant, g);
    const std::int64_t constant_quotient = floor_divide(constant, k);
    constant -= constant_quotient * k;
    quotient.push_back({checked_mul(sign, constant_quotient), {}});
    rest = rest + make(std::move(quotient));
    if (reduced.empty()) return rest;  // the constant left over lies in [0, k)
    if (reduced[0].factor < 0) {       // terms kept their canonical order, so [0] leads
      sign = -sign;
      for (Term& term : reduced) term.factor = -term.factor;
      constant = k - 1 - constant;
      reduced.push_back({constant, {}});
      a = make(std::move(reduced));
      continue;
    }
    if (const int i = find_nested(reduced); i >= 0) {
      const Term nested = reduced[static_cast<std::size_t>(i)];
      const Atom& atom = *nested.atoms[0];
      const std::int64_t m = *atom.b.constant();
      reduced.erase(reduced.begin() + i);
      reduced.push_back({constant, {}});
      // -floordiv(A, m) = floordiv(-A + m - 1, m)
      const Dim inner = nested.factor == 1 ? atom.a : Dim(m - 1) - atom.a;
      a = inner + make(std::move(reduced)) * Dim(m);
      k = checked_mul(k, m);
      continue;
    }
    reduced.push_back({constant, {}});
    return rest + Dim(sign) * function(AtomKind::kFloorDiv, make(std::move(reduced)), Dim(k));
  }
}

// Symbolic divisor: multiples of a one-term divisor come out, common factors cancel, the divisor's leading coefficient is positive.
Dim DimAlgebra::floordiv_symbolic(Dim a, Dim b) {
  if (const auto exact = Dim::exact_div(a, b)) return *exact;
  Terms divisor = terms_of(b);
  if (divisor[0].factor < 0) {
    a = a * Dim(-1);
    b = b * Dim(-1);
    divisor = terms_of(b);
  }
  Dim rest(0);
  Terms terms = terms_of(a);
  if (divisor.size() == 1) {
    Terms kept, quotient;
    for (const Term& term : terms) {
      const auto monomial = divide_monomial(term.atoms, divisor[0].atoms);
      if (monomial && term.factor % divisor[0].factor == 0) {
        quotient.push_back({term.factor / divisor[0].factor, *monomial});
      } else {
        kept.push_back(term);
      }
    }
    rest = make(std::move(quotient));
    terms = terms_of(make(std::move(kept)));
  }
  std::int64_t g = 0;
  std::vector<AtomPtr> common = divisor[0].atoms;
  const auto narrow = [&](const Terms& list) {
    for (const Term& term : list) {
      g = std::gcd(g, term.factor);
      std::vector<AtomPtr> both;
      std::set_intersection(common.begin(), common.end(), term.atoms.begin(), term.atoms.end(), std::back_inserter(both),
                            [](const AtomPtr& p, const AtomPtr& q) { return p->text < q->text; });
      common = std::move(both);
    }
  };
  narrow(divisor);
  narrow(terms);
  for (Terms* list : {&divisor, &terms}) {
    for (Term& term : *list) {
      term.factor /= g;
      term.atoms = *divide_monomial(term.atoms, common);
    }
  }
  a = make(std::move(terms));
  b = make(std::move(divisor));
  if (const auto k = b.constant()) return rest + floordiv_constant(a, *k);
  return rest + function(AtomKind::kFloorDiv, a, b);
}

Dim Dim::floordiv(const Dim& a, const Dim& b) {
  if (const auto k = b.constant()) {
    if (*k == 0) return DimAlgebra::function(AtomKind::kFloorDiv, a, b);  // evaluates to nothing
    if (*k == 1) return a;
    return DimAlgebra::floordiv_constant(a, *k);
  }
  return DimAlgebra::floordiv_symbolic(a, b);
}

Dim Dim::ceildiv(const Dim& a, const Dim& b) { return Dim(-1) * floordiv(Dim(-1) * a, b); }

Dim Dim::mod(const Dim& a, const Dim& b) { return a - b * floordiv(a, b); }

std::optional<Dim> Dim::exact_div(const Dim& a, const Dim& b) {
  if (b == Dim(0)) return std::nullopt;
  if (a == b) return Dim(1);
  Terms remainder = DimAlgebra::terms_of(a);
  const Terms divisor = DimAlgebra::terms_of(b);
  Terms quotient;
  // Each round removes the leading term and the divisor's others follow it in a graded order, so this ends.
  while (!remainder.empty()) {
    const auto monomial = divide_monomial(remainder[0].atoms, divisor[0].atoms);
    if (!monomial || remainder[0].factor % divisor[0].factor != 0) return std::nullopt;
    Term term{remainder[0].factor / divisor[0].factor, *monomial};
    const Dim subtracted = DimAlgebra::from_term(term) * b;
    remainder = DimAlgebra::terms_of(DimAlgebra::make(std::move(remainder)) - subtracted);
    quotient.push_back(std::move(term));
  }
  return DimAlgebra::make(std::move(quotient));
}

}  // namespace lathe::ir
