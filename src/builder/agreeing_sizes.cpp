// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See agreeing_sizes.h. Every sum is tried: what does not fit fails early in a model, where positions and masks are made.

#include "builder/agreeing_sizes.h"

#include <algorithm>

#include "base/log.h"
#include "builder/random_inputs.h"
#include "lathe/status.h"
#include "ops/reference_runner.h"

namespace lathe::builder {
namespace {

constexpr std::size_t kMostSymbols = 8;

bool runs(const ir::Graph& graph, const ir::Bindings& bindings) try {
  ops::RunnerOptions options;
  options.oracle = true;
  ops::ReferenceRunner(graph, options).run(random_inputs(graph, bindings, 1));
  return true;
} catch (const Error& error) {
  if (error.code() != Code::kInvalidModel) throw;
  return false;
}

}  // namespace

bool make_sizes_agree(const ir::Graph& graph, std::vector<ir::Bindings*> sets) {
  std::vector<std::string> symbols;
  for (const auto& [symbol, extent] : *sets.front()) symbols.push_back(symbol);
  if (symbols.size() < 2 || symbols.size() > kMostSymbols) return false;
  std::sort(symbols.begin(), symbols.end());
  const auto agree = [&](const std::string& sum, const std::string& a, const std::string& b) {
    std::vector<ir::Bindings> changed;
    for (const ir::Bindings* set : sets) {
      ir::Bindings bindings = *set;
      bindings[sum] = bindings.at(a) + bindings.at(b);
      if (!runs(graph, bindings)) return false;
      changed.push_back(std::move(bindings));
    }
    for (std::size_t i = 0; i < sets.size(); ++i) *sets[i] = std::move(changed[i]);
    log(LogLevel::kInfo, "the model runs where '{}' is '{}' and '{}' together: verified at such sizes", sum, a, b);
    return true;
  };
  for (const std::string& sum : symbols)
    for (std::size_t a = 0; a < symbols.size(); ++a)
      for (std::size_t b = a; b < symbols.size(); ++b)
        if (symbols[a] != sum && symbols[b] != sum && agree(sum, symbols[a], symbols[b])) return true;
  return false;
}

}  // namespace lathe::builder
