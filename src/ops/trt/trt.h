// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The files of this folder; trt.cpp lists the ops.

#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

std::vector<OpDef> nms_plugins();     // nms_plugins.cpp: EfficientNMS_TRT, BatchedNMS_TRT, BatchedNMSDynamic_TRT
std::vector<OpDef> region_plugins();  // region_plugins.cpp: ROIAlign_TRT, GridAnchor_TRT, GridAnchorRect_TRT

}  // namespace lathe::ops
