// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of steps as a stranger may write them into an engine file: missing, of other types, out of range, huge.

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "engine/engine.h"

namespace lathe {

/// Calls `visit` with what was changed, for each change to one parameter at a time; `attrs` is as before afterwards.
inline void for_each_damage(ir::Attrs& attrs, const std::function<void(const std::string&)>& visit) {
  static constexpr std::int64_t kNumbers[] = {0,
                                              1,
                                              2,
                                              15,
                                              -1,
                                              -2,
                                              64,
                                              65536,
                                              (std::int64_t{1} << 31) - 1,
                                              std::int64_t{1} << 31,
                                              std::int64_t{1} << 32,
                                              std::int64_t{1} << 62,
                                              std::numeric_limits<std::int64_t>::max(),
                                              std::numeric_limits<std::int64_t>::min()};
  const ir::Attrs before = attrs;
  for (const auto& [name, attribute] : before) {
    const auto changed = [&, &name = name, &attribute = attribute](ir::Attribute to, const std::string& how) {
      attrs.set(name, std::move(to));
      visit(fmt::format("{} {}", name, how));
      attrs.set(name, attribute);
    };
    attrs.erase(name);
    visit(name + " missing");
    attrs.set(name, attribute);
    changed(std::string("x"), "a string");
    changed(0.5F, "a float");
    changed(std::vector<std::int64_t>{}, "an empty list");
    for (const std::int64_t number : kNumbers) changed(number, fmt::format("{}", number));
    if (const auto* ints = std::get_if<std::vector<std::int64_t>>(&attribute.value)) {
      for (std::size_t i = 0; i < ints->size(); ++i) {
        std::vector<std::int64_t> next = *ints;
        next.erase(next.begin() + static_cast<std::ptrdiff_t>(i));
        changed(next, fmt::format("without [{}]", i));
        for (const std::int64_t number : kNumbers) {
          next = *ints;
          next[i] = number;
          changed(next, fmt::format("[{}] = {}", i, number));
        }
      }
      std::vector<std::int64_t> more = *ints;
      more.push_back(1);
      changed(more, "longer");
    }
    if (const auto* strings = std::get_if<std::vector<std::string>>(&attribute.value)) {
      for (std::size_t i = 0; i < strings->size(); ++i)
        for (const char* text :
             {"", "x", "(", "0", "-1", "3", "65536", "9223372036854775807", "2147483647", "batch*4611686018427387904", "floordiv(batch, 0)"}) {
          std::vector<std::string> next = *strings;
          next[i] = text;
          changed(next, fmt::format("[{}] = '{}'", i, text));
        }
    }
    if (std::holds_alternative<float>(attribute.value))
      for (const float number : {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
        changed(number, fmt::format("{}", number));
  }
}

}  // namespace lathe
