// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The little language of the pointwise table: C-like expressions over input and attribute names, with `name = expression;` in front
// for shared parts. One text gives the reference, the shape rule's value propagation and the lowering; each is a back end of eval().
//
//   ?:  || &&  == !=  < <= > >=  | ^ &  << >>  + -  * / %(divisor's sign)  unary - ! ~   f(x)   name == "text" (string attributes)
//   given(x, y): input x where the node has it, else y.  lowest, highest: ends of T's range.  inf, nan.
//   `fold F(a, b)` combines a variadic list; `fold F(a, b) then G(a, n)` finishes with the count n.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loops/region.h"

namespace lathe::ops::pointwise {

enum class AstKind : std::uint8_t { kNumber, kName, kStringEqual, kGiven, kUnary, kBinary, kSelect };

struct AstNode {
  AstKind kind = AstKind::kNumber;
  loops::ExprOp op = loops::ExprOp::kConst;
  double number = 0;
  std::string name, text;  ///< kName, kStringEqual (attribute, literal), kGiven (input)
  std::vector<int> args;   ///< earlier nodes
};

struct Ast {
  std::vector<AstNode> nodes;  ///< arguments first; shared parts are shared
  int root = -1;
  int finish = -1;  ///< variadic: root of the part after "then"
  bool fold = false;
};

/// Throws Error(kInternal) that quotes the text: the table is our own.
Ast parse_expression(std::string_view text);

/// A back end B has a type Value and: number(double), name(string), equals(attribute, literal), has(input), unary(op, v),
/// binary(op, v, w), select(c, v, w).
template <class B>
typename B::Value eval(const Ast& ast, int root, B& back_end) {
  std::vector<std::optional<typename B::Value>> done(ast.nodes.size());
  auto visit = [&](auto& self, int i) -> typename B::Value {
    if (done[static_cast<std::size_t>(i)]) return *done[static_cast<std::size_t>(i)];
    const AstNode& n = ast.nodes[static_cast<std::size_t>(i)];
    typename B::Value v{};
    switch (n.kind) {
      case AstKind::kNumber: v = back_end.number(n.number); break;
      case AstKind::kName: v = back_end.name(n.name); break;
      case AstKind::kStringEqual: v = back_end.number(back_end.equals(n.name, n.text) ? 1 : 0); break;
      case AstKind::kGiven: v = back_end.has(n.name) ? back_end.name(n.name) : self(self, n.args[0]); break;
      case AstKind::kUnary: v = back_end.unary(n.op, self(self, n.args[0])); break;
      case AstKind::kBinary: {
        const auto a = self(self, n.args[0]);
        v = back_end.binary(n.op, a, self(self, n.args[1]));
        break;
      }
      case AstKind::kSelect: {
        const auto c = self(self, n.args[0]);
        if (const auto known = back_end.known(c)) {
          v = self(self, n.args[*known ? 1 : 2]);
        } else {
          const auto a = self(self, n.args[1]);
          v = back_end.select(c, a, self(self, n.args[2]));
        }
        break;
      }
    }
    done[static_cast<std::size_t>(i)] = v;
    return v;
  };
  return visit(visit, root);
}

}  // namespace lathe::ops::pointwise
