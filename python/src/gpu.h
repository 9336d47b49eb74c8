// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// lathe._lathe.Gpu: memory, copies, streams and events of one GPU by address and handle, for lathe.compat (which keeps the books).

#include "arrays.h"

namespace lathe::python {

void register_gpu(nb::module_& m);

}  // namespace lathe::python
