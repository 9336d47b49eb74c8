// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "ops/einsum/equation.h"

#include <algorithm>
#include <cctype>
#include <map>

namespace lathe::ops {
namespace {

struct Term {
  std::string before, after;  // letters before and after the ellipsis
  bool ellipsis = false;
};

bool read_term(std::string_view text, Term& term, std::string& defect) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ') continue;
    if (c == '.') {
      if (term.ellipsis || text.substr(i, 3) != "...") {
        defect = "a term has one ellipsis '...' at most";
        return false;
      }
      term.ellipsis = true;
      i += 2;
    } else if (std::isalpha(static_cast<unsigned char>(c))) {
      (term.ellipsis ? term.after : term.before) += c;
    } else {
      defect = std::string("'") + c + "' is no letter";
      return false;
    }
  }
  return true;
}

std::vector<int> labels_of(const Term& term, std::size_t rank, bool& fits) {
  const std::size_t letters = term.before.size() + term.after.size();
  fits = term.ellipsis ? rank >= letters : rank == letters;
  std::vector<int> labels(term.before.begin(), term.before.end());
  for (std::size_t i = rank; term.ellipsis && fits && i > letters; --i) labels.push_back(-static_cast<int>(i - letters));
  labels.insert(labels.end(), term.after.begin(), term.after.end());
  return labels;
}

}  // namespace

std::string label_name(int label) { return label > 0 ? std::string(1, static_cast<char>(label)) : "axis " + std::to_string(label) + " of '...'"; }

Equation parse_equation(std::string_view text, const std::vector<std::size_t>& ranks, std::string& defect) {
  Equation equation;
  const std::size_t arrow = text.find("->");
  const std::string_view left = text.substr(0, arrow);
  std::vector<Term> terms(1);
  std::size_t from = 0;
  for (std::size_t i = 0; i <= left.size(); ++i) {
    if (i < left.size() && left[i] != ',') continue;
    if (!read_term(left.substr(from, i - from), terms.back(), defect)) return equation;
    from = i + 1;
    if (i < left.size()) terms.emplace_back();
  }
  if (terms.size() != ranks.size()) {
    defect = "the equation has " + std::to_string(terms.size()) + " terms for " + std::to_string(ranks.size()) + " inputs";
    return equation;
  }
  std::map<int, int> uses;
  std::vector<int> order;
  int most = 0;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    bool fits = false;
    equation.inputs.push_back(labels_of(terms[i], ranks[i], fits));
    if (!fits) {
      defect = "term " + std::to_string(i + 1) + " does not fit an input of rank " + std::to_string(ranks[i]);
      return equation;
    }
    for (const int label : equation.inputs.back()) {
      if (uses[label]++ == 0) order.push_back(label);
      most = std::max(most, -label);
    }
  }
  if (arrow == std::string_view::npos) {
    // Without an output: the ellipsis, then every letter that stands once, in alphabetical order.
    for (int i = most; i > 0; --i) equation.output.push_back(-i);
    for (const auto& [label, count] : uses)
      if (label > 0 && count == 1) equation.output.push_back(label);
  } else {
    Term term;
    if (!read_term(text.substr(arrow + 2), term, defect)) return equation;
    bool fits = false;
    equation.output = labels_of(term, term.before.size() + term.after.size() + (term.ellipsis ? static_cast<std::size_t>(most) : 0), fits);
    for (const int label : equation.output) {
      if (!uses.count(label)) defect = label_name(label) + " of the output is in no input";
      if (std::count(equation.output.begin(), equation.output.end(), label) > 1) defect = label_name(label) + " stands twice in the output";
    }
  }
  for (const int label : order)
    if (std::find(equation.output.begin(), equation.output.end(), label) == equation.output.end()) equation.summed.push_back(label);
  return equation;
}

}  // namespace lathe::ops
