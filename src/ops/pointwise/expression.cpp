// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Precedence-climbing parser of the table's expressions.
#include "ops/pointwise/expression.h"

#include <array>
#include <cctype>
#include <cstdlib>
#include <map>

#include "lathe/status.h"

namespace lathe::ops::pointwise {
namespace {

using loops::ExprOp;

struct Infix {
  std::string_view token;
  int level;
  ExprOp op;
};

// Longer tokens first, so that "<=" is not read as "<".
constexpr std::array kInfix = {Infix{"||", 1, ExprOp::kOr},        Infix{"&&", 2, ExprOp::kAnd},          Infix{"==", 3, ExprOp::kEqual},
                               Infix{"!=", 3, ExprOp::kNotEqual},  Infix{"<<", 8, ExprOp::kShiftLeft},    Infix{">>", 8, ExprOp::kShiftRight},
                               Infix{"<=", 4, ExprOp::kLessEqual}, Infix{">=", 4, ExprOp::kGreaterEqual}, Infix{"<", 4, ExprOp::kLess},
                               Infix{">", 4, ExprOp::kGreater},    Infix{"|", 5, ExprOp::kBitOr},         Infix{"^", 6, ExprOp::kBitXor},
                               Infix{"&", 7, ExprOp::kBitAnd},     Infix{"+", 9, ExprOp::kAdd},           Infix{"-", 9, ExprOp::kSub},
                               Infix{"*", 10, ExprOp::kMul},       Infix{"/", 10, ExprOp::kDiv},          Infix{"%", 10, ExprOp::kMod}};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Ast parse() {
    ast_.fold = keyword("fold");
    for (;;) {
      const std::size_t before = at_;
      const std::string name = identifier();
      if (!name.empty() && peek() == '=' && text_.substr(at_, 2) != "==") {
        ++at_;
        const int value = ternary();
        expect(';');
        shared_[name] = value;
        continue;
      }
      at_ = before;
      break;
    }
    ast_.root = ternary();
    if (keyword("then")) ast_.finish = ternary();
    if (peek() != '\0') fail();
    return std::move(ast_);
  }

 private:
  [[noreturn]] void fail() const {
    throw Error(Code::kInternal, "pointwise expression \"" + std::string(text_) + "\": unexpected text at offset " + std::to_string(at_));
  }
  char peek() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  void expect(char c) {
    if (peek() != c) fail();
    ++at_;
  }
  static bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
  std::string identifier() {
    if (!std::isalpha(static_cast<unsigned char>(peek()))) return {};
    const std::size_t start = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    return std::string(text_.substr(start, at_ - start));
  }
  bool keyword(std::string_view word) {
    const std::size_t before = at_;
    if (identifier() == word) return true;
    at_ = before;
    return false;
  }

  int add(AstNode node) {
    ast_.nodes.push_back(std::move(node));
    return static_cast<int>(ast_.nodes.size()) - 1;
  }
  int apply(AstKind kind, ExprOp op, std::vector<int> args) {
    AstNode n;
    n.kind = kind;
    n.op = op;
    n.args = std::move(args);
    return add(std::move(n));
  }

  int ternary() {
    const int condition = infix(1);
    if (peek() != '?') return condition;
    ++at_;
    const int a = ternary();
    expect(':');
    const int b = ternary();
    return apply(AstKind::kSelect, ExprOp::kSelect, {condition, a, b});
  }

  int infix(int level) {
    int left = prefix();
    for (;;) {
      peek();
      const Infix* found = nullptr;
      for (const Infix& candidate : kInfix) {
        if (text_.substr(at_, candidate.token.size()) == candidate.token) {
          found = &candidate;
          break;
        }
      }
      if (!found || found->level < level) return left;
      at_ += found->token.size();
      if (found->op == ExprOp::kEqual && peek() == '"') {  // a string attribute
        AstNode n = ast_.nodes[static_cast<std::size_t>(left)];
        const std::size_t end = text_.find('"', at_ + 1);
        if (n.kind != AstKind::kName || end == std::string_view::npos) fail();
        n.kind = AstKind::kStringEqual;
        n.text = std::string(text_.substr(at_ + 1, end - at_ - 1));
        at_ = end + 1;
        left = add(std::move(n));
        continue;
      }
      const int right = infix(found->level + 1);
      left = apply(AstKind::kBinary, found->op, {left, right});
    }
  }

  int prefix() {
    const char c = peek();
    if (c == '-' || c == '!' || c == '~') {
      ++at_;
      return apply(AstKind::kUnary, c == '-' ? ExprOp::kNeg : c == '!' ? ExprOp::kNot : ExprOp::kBitNot, {prefix()});
    }
    if (c == '(') {
      ++at_;
      const int inner = ternary();
      expect(')');
      return inner;
    }
    AstNode n;
    if (std::isdigit(static_cast<unsigned char>(c))) {
      std::size_t length = 0;
      n.number = std::stod(std::string(text_.substr(at_)), &length);
      at_ += length;
      return add(std::move(n));
    }
    n.name = identifier();
    if (n.name.empty()) fail();
    if (peek() != '(') {
      if (const auto it = shared_.find(n.name); it != shared_.end()) return it->second;
      n.kind = AstKind::kName;
      return add(std::move(n));
    }
    ++at_;
    if (n.name == "given") {
      n.kind = AstKind::kGiven;
      n.name = identifier();
      expect(',');
      n.args = {ternary()};
      expect(')');
      return add(std::move(n));
    }
    const auto op = loops::find_expr_op(n.name);
    if (!op || loops::op_arity(*op) < 1 || loops::op_arity(*op) > 2) fail();
    std::vector<int> args{ternary()};
    if (loops::op_arity(*op) == 2) {
      expect(',');
      args.push_back(ternary());
    }
    expect(')');
    return apply(loops::op_arity(*op) == 1 ? AstKind::kUnary : AstKind::kBinary, *op, std::move(args));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  Ast ast_;
  std::map<std::string, int> shared_;
};

}  // namespace

Ast parse_expression(std::string_view text) { return Parser(text).parse(); }

}  // namespace lathe::ops::pointwise
