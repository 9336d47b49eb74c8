// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Dim: construction, ring operations, evaluation, substitution. Division lies in dim_divide.cpp, bounds and min/max in
// dim_bounds.cpp, the text form in dim_text.cpp.

#include "ir/dim.h"

#include <algorithm>

#include "base/hash.h"
#include "ir/dim_algebra.h"
#include "lathe/status.h"

namespace lathe::ir {
namespace {

constexpr std::size_t kMaxTerms = 4096;
constexpr std::size_t kMaxText = std::size_t{1} << 16;  // a % b % c ... names its arguments twice, so that a short line could double without end

Error too_large() {
  return Error(Code::kUnsupported, "an extent expression grew beyond what Lathe handles (64-bit coefficients, 4096 terms, 65536 characters)")
      .with_remedy("Fix the input shapes, for example with --shape.");
}

std::string monomial_text(const std::vector<AtomPtr>& atoms) {
  std::string text;
  for (const AtomPtr& atom : atoms) {
    if (!text.empty()) text += '*';
    text += atom->text;
  }
  return text;
}

std::string terms_text(const Terms& terms) {
  std::string text;
  for (const Term& term : terms) {
    const bool negative = term.factor < 0;
    if (text.empty()) {
      if (negative) text += '-';
    } else {
      text += negative ? " - " : " + ";
    }
    const std::uint64_t magnitude = negative ? 0ull - static_cast<std::uint64_t>(term.factor) : static_cast<std::uint64_t>(term.factor);
    if (term.atoms.empty()) {
      text += std::to_string(magnitude);
    } else {
      if (magnitude != 1) text += std::to_string(magnitude) + '*';
      text += monomial_text(term.atoms);
    }
  }
  return text;
}

}  // namespace

std::int64_t checked_add(std::int64_t a, std::int64_t b) {
  std::int64_t result;
  if (__builtin_add_overflow(a, b, &result)) throw too_large();
  return result;
}

std::int64_t checked_mul(std::int64_t a, std::int64_t b) {
  std::int64_t result;
  if (__builtin_mul_overflow(a, b, &result)) throw too_large();
  return result;
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (b == -1) return checked_mul(a, -1);
  const std::int64_t quotient = a / b;
  return (a % b != 0 && ((a < 0) != (b < 0))) ? quotient - 1 : quotient;
}

int compare_monomials(const std::vector<AtomPtr>& a, const std::vector<AtomPtr>& b) {
  if (a.size() != b.size()) return a.size() > b.size() ? -1 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    if (const int order = a[i]->text.compare(b[i]->text); order != 0) return order;
  }
  return 0;
}

Terms DimAlgebra::terms_of(const Dim& dim) {
  if (dim.expr_) return dim.expr_->terms;
  if (dim.constant_ == 0) return {};
  return {Term{dim.constant_, {}}};
}

Dim DimAlgebra::make(Terms terms) {
  std::sort(terms.begin(), terms.end(), [](const Term& a, const Term& b) { return compare_monomials(a.atoms, b.atoms) < 0; });
  Terms merged;
  for (Term& term : terms) {
    if (!merged.empty() && compare_monomials(merged.back().atoms, term.atoms) == 0) {
      merged.back().factor = checked_add(merged.back().factor, term.factor);
    } else {
      if (!merged.empty() && merged.back().factor == 0) merged.pop_back();
      merged.push_back(std::move(term));
    }
  }
  if (!merged.empty() && merged.back().factor == 0) merged.pop_back();
  if (merged.empty()) return Dim(0);
  if (merged.size() == 1 && merged[0].atoms.empty()) return Dim(merged[0].factor);
  if (merged.size() > kMaxTerms) throw too_large();
  auto expr = std::make_shared<Dim::Expr>();
  expr->text = terms_text(merged);
  if (expr->text.size() > kMaxText) throw too_large();
  expr->hash = hash64(expr->text);
  expr->terms = std::move(merged);
  return Dim(std::shared_ptr<const Dim::Expr>(std::move(expr)));
}

Dim DimAlgebra::from_atom(AtomPtr atom) { return make({Term{1, {std::move(atom)}}}); }
Dim DimAlgebra::from_term(Term term) { return make({std::move(term)}); }

Dim DimAlgebra::function(AtomKind kind, const Dim& a, const Dim& b) {
  const char* name = kind == AtomKind::kFloorDiv ? "floordiv" : kind == AtomKind::kMin ? "min" : "max";
  auto atom = std::make_shared<Atom>();
  atom->kind = kind;
  atom->text = std::string(name) + '(' + a.to_string() + ", " + b.to_string() + ')';
  atom->a = a;
  atom->b = b;
  return from_atom(std::move(atom));
}

Dim::Dim(std::int64_t constant) : constant_(constant) {}
Dim::Dim(std::shared_ptr<const Expr> expr) : expr_(std::move(expr)) {}

bool Dim::is_constant() const noexcept { return expr_ == nullptr; }
std::optional<std::int64_t> Dim::constant() const noexcept { return expr_ ? std::nullopt : std::optional(constant_); }

bool Dim::is_symbol() const noexcept {
  return expr_ && expr_->terms.size() == 1 && expr_->terms[0].factor == 1 && expr_->terms[0].atoms.size() == 1 &&
         expr_->terms[0].atoms[0]->kind == AtomKind::kSymbol;
}

std::string Dim::to_string() const { return expr_ ? expr_->text : std::to_string(constant_); }

std::uint64_t Dim::hash() const noexcept { return expr_ ? expr_->hash : static_cast<std::uint64_t>(constant_) * 0x9e3779b97f4a7c15ull; }

bool operator==(const Dim& a, const Dim& b) noexcept {
  if (a.expr_ == b.expr_) return a.expr_ || a.constant_ == b.constant_;
  return a.expr_ && b.expr_ && a.expr_->hash == b.expr_->hash && a.expr_->text == b.expr_->text;
}

Dim operator+(const Dim& a, const Dim& b) {
  if (!a.expr_ && !b.expr_) return Dim(checked_add(a.constant_, b.constant_));
  Terms terms = DimAlgebra::terms_of(a);
  for (Term& term : DimAlgebra::terms_of(b)) terms.push_back(std::move(term));
  return DimAlgebra::make(std::move(terms));
}

Dim operator-(const Dim& a, const Dim& b) { return a + b * Dim(-1); }

Dim operator*(const Dim& a, const Dim& b) {
  if (!a.expr_ && !b.expr_) return Dim(checked_mul(a.constant_, b.constant_));
  const Terms left = DimAlgebra::terms_of(a), right = DimAlgebra::terms_of(b);
  if (left.size() * right.size() > kMaxTerms) throw too_large();
  Terms terms;
  terms.reserve(left.size() * right.size());
  for (const Term& x : left) {
    for (const Term& y : right) {
      Term term{checked_mul(x.factor, y.factor), {}};
      term.atoms.resize(x.atoms.size() + y.atoms.size());
      std::merge(x.atoms.begin(), x.atoms.end(), y.atoms.begin(), y.atoms.end(), term.atoms.begin(),
                 [](const AtomPtr& p, const AtomPtr& q) { return p->text < q->text; });
      terms.push_back(std::move(term));
    }
  }
  return DimAlgebra::make(std::move(terms));
}

std::optional<std::int64_t> Dim::evaluate(const Bindings& bindings) const {
  if (!expr_) return constant_;
  std::int64_t sum = 0;
  for (const Term& term : expr_->terms) {
    std::int64_t value = term.factor;
    for (const AtomPtr& atom : term.atoms) {
      std::int64_t factor = 0;
      if (atom->kind == AtomKind::kSymbol) {
        const auto found = bindings.find(atom->name);
        if (found == bindings.end()) return std::nullopt;
        factor = found->second;
      } else {
        const auto a = atom->a.evaluate(bindings), b = atom->b.evaluate(bindings);
        if (!a || !b) return std::nullopt;
        if (atom->kind == AtomKind::kFloorDiv) {
          if (*b == 0) return std::nullopt;
          factor = floor_divide(*a, *b);
        } else {
          factor = atom->kind == AtomKind::kMin ? std::min(*a, *b) : std::max(*a, *b);
        }
      }
      if (__builtin_mul_overflow(value, factor, &value)) return std::nullopt;
    }
    if (__builtin_add_overflow(sum, value, &sum)) return std::nullopt;
  }
  return sum;
}

Dim Dim::substitute(const std::unordered_map<std::string, Dim>& replacements) const {
  if (!expr_) return *this;
  Dim sum;
  for (const Term& term : expr_->terms) {
    Dim value(term.factor);
    for (const AtomPtr& atom : term.atoms) {
      switch (atom->kind) {
        case AtomKind::kSymbol: {
          const auto found = replacements.find(atom->name);
          value = value * (found == replacements.end() ? DimAlgebra::from_atom(atom) : found->second);
          break;
        }
        case AtomKind::kFloorDiv: value = value * floordiv(atom->a.substitute(replacements), atom->b.substitute(replacements)); break;
        case AtomKind::kMin: value = value * min(atom->a.substitute(replacements), atom->b.substitute(replacements)); break;
        case AtomKind::kMax: value = value * max(atom->a.substitute(replacements), atom->b.substitute(replacements)); break;
      }
    }
    sum = sum + value;
  }
  return sum;
}

std::string Dim::symbol_name() const { return expr_->terms.front().atoms.front()->name; }

void Dim::collect_symbols(std::set<std::string>& into) const {
  if (!expr_) return;
  for (const Term& term : expr_->terms) {
    for (const AtomPtr& atom : term.atoms) {
      if (atom->kind == AtomKind::kSymbol) {
        into.insert(atom->name);
      } else {
        atom->a.collect_symbols(into);
        atom->b.collect_symbols(into);
      }
    }
  }
}

Dim product(const Shape& shape) {
  Dim result(1);
  for (const Dim& dim : shape) result = result * dim;
  return result;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += shape[i].to_string();
  }
  return text + ']';
}

std::optional<std::vector<std::int64_t>> evaluate(const Shape& shape, const Bindings& bindings) {
  std::vector<std::int64_t> dims;
  dims.reserve(shape.size());
  for (const Dim& dim : shape) {
    const auto value = dim.evaluate(bindings);
    if (!value) return std::nullopt;
    dims.push_back(*value);
  }
  return dims;
}

std::optional<std::vector<std::int64_t>> constant_dims(const Shape& shape) {
  std::vector<std::int64_t> dims;
  dims.reserve(shape.size());
  for (const Dim& dim : shape) {
    const auto value = dim.constant();
    if (!value) return std::nullopt;
    dims.push_back(*value);
  }
  return dims;
}

}  // namespace lathe::ir
