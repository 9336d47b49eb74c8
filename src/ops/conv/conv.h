// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Geometry of a Conv node, shared by its definition and the regions that execute it.

#include "ops/window.h"

namespace lathe::ops {

/// Concrete extents of one convolution. Spatial lists have one entry per spatial axis.
struct ConvGeometry {
  std::int64_t batch = 1, channels_in = 1, channels_out = 1, groups = 1;
  Dims input, output;  ///< spatial
  Window window;       ///< pads concrete
};

/// Throws Error(kInvalidModel) when weight and input do not fit.
ConvGeometry conv_geometry(const Attrs& attrs, const Dims& input, const Dims& weight);

}  // namespace lathe::ops
