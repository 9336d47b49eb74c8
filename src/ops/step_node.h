// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// How the parameters of a step say which node it evaluates: "domain", "op", and each attribute under its name behind "attr:". Written where
// steps are planned (candidates, dynamic programs), read where they run.

#include <string>

#include "ir/attribute.h"

namespace lathe::ops {

void set_node(ir::Attrs& params, std::string domain, std::string op, const ir::Attrs& attrs = {});
void set_node_attribute(ir::Attrs& params, const std::string& name, ir::Attribute attribute);
ir::Attrs node_attributes(const ir::Attrs& params);

}  // namespace lathe::ops
