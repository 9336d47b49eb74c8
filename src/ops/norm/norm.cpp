// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The list of normalisations.
#include "ops/norm/norm_defs.h"
#include "ops/registry_internal.h"

namespace lathe::ops {

std::span<const OpDef> ops_norm() {
  static const std::vector<OpDef> ops{
      batch_normalization(), layer_normalization(), rms_normalization(),           instance_normalization(),
      group_normalization(), lp_normalization(),    mean_variance_normalization(), local_response_normalization(),
  };
  return ops;
}

}  // namespace lathe::ops
