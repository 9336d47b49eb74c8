// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See step_node.h.
#include "ops/step_node.h"

#include <string_view>
#include <utility>

namespace lathe::ops {
namespace {

constexpr std::string_view kAttributePrefix = "attr:";

}  // namespace

void set_node(ir::Attrs& params, std::string domain, std::string op, const ir::Attrs& attrs) {
  params.set("domain", std::move(domain));
  params.set("op", std::move(op));
  for (const auto& [name, attribute] : attrs) set_node_attribute(params, name, attribute);
}

void set_node_attribute(ir::Attrs& params, const std::string& name, ir::Attribute attribute) {
  params.set(std::string(kAttributePrefix) + name, std::move(attribute));
}

ir::Attrs node_attributes(const ir::Attrs& params) {
  ir::Attrs attrs;
  for (const auto& [name, attribute] : params)
    if (name.starts_with(kAttributePrefix)) attrs.set(name.substr(kAttributePrefix.size()), attribute);
  return attrs;
}

}  // namespace lathe::ops
