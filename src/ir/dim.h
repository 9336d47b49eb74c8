// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Symbolic extents: integer expressions over named symbols ("batch", "height"), kept in a canonical form so that equality of
// expressions is equality of their text. A sum of products of atoms with integer coefficients; an atom is a symbol or an opaque
// function (floordiv, ceildiv, mod, min, max) of canonical expressions. Immutable; copies share.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lathe::ir {

/// Values of symbols, by name.
using Bindings = std::unordered_map<std::string, std::int64_t>;

class Dim {
 public:
  Dim() : Dim(0) {}
  Dim(std::int64_t constant);  // NOLINT(google-explicit-constructor): extents are written as numbers everywhere
  static Dim symbol(std::string name);
  /// Reads what to_string() writes: "2*height + 1", "floordiv(w - 1, 2) + 1", "min(a, 8)". Throws Error(kInvalidArgument).
  static Dim parse(std::string_view text);

  bool is_constant() const noexcept;
  std::optional<std::int64_t> constant() const noexcept;
  bool is_symbol() const noexcept;  ///< exactly one symbol with coefficient 1
  std::string to_string() const;
  std::string symbol_name() const;  ///< of is_symbol(): the bare name, which to_string() puts in quotes unless it is a plain word

  friend Dim operator+(const Dim& a, const Dim& b);
  friend Dim operator-(const Dim& a, const Dim& b);
  friend Dim operator*(const Dim& a, const Dim& b);
  friend bool operator==(const Dim& a, const Dim& b) noexcept;
  friend bool operator!=(const Dim& a, const Dim& b) noexcept { return !(a == b); }
  static Dim floordiv(const Dim& a, const Dim& b);  ///< rounds towards minus infinity; simplifies exact divisions
  static Dim ceildiv(const Dim& a, const Dim& b);
  static Dim mod(const Dim& a, const Dim& b);  ///< result has the divisor's sign
  static Dim min(const Dim& a, const Dim& b);
  static Dim max(const Dim& a, const Dim& b);
  /// Exact quotient when the canonical form shows that b divides a (Reshape's -1), else nullopt.
  static std::optional<Dim> exact_div(const Dim& a, const Dim& b);

  /// Lower bound when every symbol is at least 1 (nullopt: unknown). Used to drop max(0, x) and to tell "is it 1?".
  std::optional<std::int64_t> lower_bound() const;
  std::optional<std::int64_t> upper_bound() const;
  /// Lower bound where every symbol is known to be an extent: also one that stands for data ("?N") is then at least 0.
  std::optional<std::int64_t> lower_bound_of_extents() const;

  /// Value under `bindings`; nullopt when a symbol is unbound or a division by zero occurs.
  std::optional<std::int64_t> evaluate(const Bindings& bindings) const;
  /// Replaces symbols by expressions.
  Dim substitute(const std::unordered_map<std::string, Dim>& replacements) const;
  void collect_symbols(std::set<std::string>& into) const;
  std::uint64_t hash() const noexcept;

 private:
  struct Expr;
  explicit Dim(std::shared_ptr<const Expr> expr);
  std::int64_t constant_ = 0;  // used when expr_ is null
  std::shared_ptr<const Expr> expr_;
  friend struct DimAlgebra;  // dim.cpp's implementation
};

using Shape = std::vector<Dim>;
Dim product(const Shape& shape);
std::string to_string(const Shape& shape);  ///< "[batch, 3, 640, 640]"
std::optional<std::vector<std::int64_t>> evaluate(const Shape& shape, const Bindings& bindings);
std::optional<std::vector<std::int64_t>> constant_dims(const Shape& shape);

}  // namespace lathe::ir
