// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Plugins of TensorRT as files for it carry them. Exporters disagree about the domain: PyTorch's writes TRT, graph surgery leaves it empty, and
// ONNX Runtime wants trt.plugins; all three name the same op.
#include "ops/trt/trt.h"

#include "ops/registry_internal.h"

namespace lathe::ops {

std::span<const OpDef> ops_trt() {
  static const std::vector<OpDef> ops = [] {
    std::vector<OpDef> list;
    for (const auto& family : {nms_plugins(), region_plugins()})
      for (const OpDef& op : family)
        for (const std::string_view domain : {"TRT", "", "trt.plugins"}) {
          list.push_back(op);
          list.back().domain = domain;
        }
    return list;
  }();
  return ops;
}

}  // namespace lathe::ops
