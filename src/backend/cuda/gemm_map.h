// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The map through which the copy engine of compute capability 9.0 reads A of a product: encoded by the driver for an address, so when the
// product runs.

#include "backend/cuda/driver.h"
#include "backend/cuda/kernels/gemm_params.h"

namespace lathe::cuda {

/// Fills params.map where params.map_kind asks for one; params.a is set. `rows`: of a tile; `items`: of the product. Where the driver knows no
/// such maps or refuses, map_kind becomes kGathered: the kernels' threads then copy themselves.
void encode_map(const Driver& driver, PipeParams& params, int rows, int items) noexcept;

}  // namespace lathe::cuda
