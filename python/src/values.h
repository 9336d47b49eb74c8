// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Python objects as values of every type that the format has, and back: arrays (of texts too), lists for sequences, dicts for maps, None for
// an optional that holds nothing.

#include <nanobind/nanobind.h>

#include <memory>
#include <string>
#include <vector>

#include "arrays.h"
#include "base/tensor.h"
#include "ir/type.h"
#include "lathe/lathe.hpp"

namespace lathe::python {

/// The value of an input of this type. Numbers stay where they are: what they lie in goes to `kept`, which must outlive the value. Throws Error naming the
/// input.
Tensor value_of(nb::handle object, const ir::Type& type, const IoInfo& info, std::vector<Array>& kept);
/// A fresh object: NumPy arrays (of str objects for texts), list, dict or None.
nb::object object_of(const Tensor& value);

}  // namespace lathe::python
