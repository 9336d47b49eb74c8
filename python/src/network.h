// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// lathe._lathe.Network: a model between reading and building, whose interface (names, element types, outputs) may be changed.
// What lathe.compat.tensorrt makes of its INetworkDefinition.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "arrays.h"
#include "ir/graph.h"
#include "lathe/lathe.hpp"

namespace lathe::python {

struct NetworkObject {
  explicit NetworkObject(Network n) : network(std::move(n)) {}
  Network network;

  ir::Model& model() const;
  /// Throws Error(kInvalidArgument) where the model has no tensor of this name.
  ir::Value& tensor(const std::string& name) const;
  void rename(const std::string& from, const std::string& to) const;
  void unmark_output(const std::string& name) const;
  /// Another element type at the interface: the model then converts behind an input, or in front of an output.
  void set_dtype(const std::string& name, const std::string& dtype) const;
};

void register_network(nb::module_& m);

}  // namespace lathe::python
