// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Custom operators whose functions are Python's: what lathe/custom.py registers.

#include "arrays.h"

namespace lathe::python {

void register_custom_op(nb::module_& m);

}  // namespace lathe::python
