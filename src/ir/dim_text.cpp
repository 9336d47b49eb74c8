// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Reads extent expressions: what Dim::to_string() writes, and the spellings that exporters put into dim_param
// ("2*s0 + 1", "(s0//2)", "Max(1, s0)", "s0**2", "a % 8"). Names that are no plain identifier stand in single quotes.

#include <cctype>
#include <charconv>

#include "ir/dim_algebra.h"
#include "lathe/status.h"

namespace lathe::ir {
namespace {

bool starts_name(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '?'; }
bool continues_name(char c) { return starts_name(c) || std::isdigit(static_cast<unsigned char>(c)) || c == '.' || c == ':'; }

bool is_function(std::string_view name) {
  return name == "floordiv" || name == "ceildiv" || name == "mod" || name == "min" || name == "max" || name == "Min" || name == "Max" || name == "Mod" ||
         name == "FloorDiv" || name == "CeilDiv";
}

std::string quoted(const std::string& name) {
  bool plain = !name.empty() && starts_name(name[0]) && !is_function(name);
  for (const char c : name) plain = plain && continues_name(c);
  if (plain) return name;
  std::string text = "'";
  for (const char c : name) {
    if (c == '\'' || c == '\\') text += '\\';
    text += c;
  }
  return text + '\'';
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Dim parse() {
    const Dim result = sum();
    skip_space();
    if (at_ != text_.size()) fail("unexpected text");
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Code::kInvalidArgument, "extent expression '" + std::string(text_) + "': " + what + " at position " + std::to_string(at_));
  }
  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool accept(std::string_view token) {
    skip_space();
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  void expect(std::string_view token) {
    if (!accept(token)) fail("expected '" + std::string(token) + "'");
  }

  Dim sum() {
    if (++depth_ > 200) fail("nested too deeply");
    Dim result = term();
    for (;;) {
      if (accept("+")) {
        result = result + term();
      } else if (accept("-")) {
        result = result - term();
      } else {
        break;
      }
    }
    --depth_;
    return result;
  }

  Dim term() {
    Dim result = signed_factor();
    for (;;) {
      if (accept("//") || accept("/")) {
        result = Dim::floordiv(result, signed_factor());
      } else if (accept("%")) {
        result = Dim::mod(result, signed_factor());
      } else if (accept("*")) {
        result = result * signed_factor();
      } else {
        return result;
      }
    }
  }

  Dim signed_factor() {
    bool negative = false;
    while (accept("-")) negative = !negative;
    const Dim base = factor();
    Dim result = base;
    if (accept("**")) {
      const auto power = factor().constant();
      if (!power || *power < 1 || *power > 16) fail("a power must be a number from 1 to 16");
      for (std::int64_t i = 1; i < *power; ++i) result = result * base;
    }
    return negative ? Dim(-1) * result : result;
  }

  Dim factor() {
    skip_space();
    if (at_ >= text_.size()) fail("unexpected end");
    const char c = text_[at_];
    if (accept("(")) {
      const Dim inner = sum();
      expect(")");
      return inner;
    }
    if (std::isdigit(static_cast<unsigned char>(c))) {
      std::uint64_t value = 0;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
      if (error != std::errc() || value > (1ull << 63)) fail("number too large");
      at_ = static_cast<std::size_t>(end - text_.data());
      return Dim(static_cast<std::int64_t>(value));
    }
    if (c == '\'') return quoted_symbol();
    if (!starts_name(c)) fail("expected a number, a name or '('");
    const std::size_t start = at_;
    while (at_ < text_.size() && continues_name(text_[at_])) ++at_;
    const std::string_view name = text_.substr(start, at_ - start);
    if (is_function(name) && accept("(")) return call(name);
    return Dim::symbol(std::string(name));
  }

  Dim quoted_symbol() {
    std::string name;
    for (++at_; at_ < text_.size() && text_[at_] != '\''; ++at_) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
      name += text_[at_];
    }
    if (at_ >= text_.size()) fail("unterminated name");
    ++at_;
    return Dim::symbol(std::move(name));
  }

  Dim call(std::string_view name) {
    const Dim a = sum();
    expect(",");
    const Dim b = sum();
    expect(")");
    if (name == "floordiv" || name == "FloorDiv") return Dim::floordiv(a, b);
    if (name == "ceildiv" || name == "CeilDiv") return Dim::ceildiv(a, b);
    if (name == "mod" || name == "Mod") return Dim::mod(a, b);
    return name == "min" || name == "Min" ? Dim::min(a, b) : Dim::max(a, b);
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Dim Dim::symbol(std::string name) {
  auto atom = std::make_shared<Atom>();
  atom->kind = AtomKind::kSymbol;
  atom->text = quoted(name);
  atom->name = std::move(name);
  return DimAlgebra::from_atom(std::move(atom));
}

Dim Dim::parse(std::string_view text) { return Parser(text).parse(); }

}  // namespace lathe::ir
