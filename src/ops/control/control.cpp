// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The list of control flow.
#include "ops/control/control.h"

#include "ops/registry_internal.h"

namespace lathe::ops {

bool condition_of(const RefContext& ctx, const Tensor& tensor, const char* what) {
  if (tensor.dtype() != DType::kBool) ctx.fail(std::string(what) + " is no bool");
  if (tensor.size() != 1) ctx.fail(std::string(what) + " has shape " + lathe::to_string(tensor.dims()) + "; it must be one bool");
  return tensor.as_int64(0) != 0;
}

std::span<const OpDef> ops_control() {
  static const std::vector<OpDef> ops{if_op(), loop_op(), scan_op(), sequence_map_op()};
  return ops;
}

}  // namespace lathe::ops
