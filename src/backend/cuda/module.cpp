// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See module.h.

#include "backend/cuda/module.h"

#include <fmt/format.h>

namespace lathe::cuda {

const EmbeddedModule* choose_embedded(std::string_view name, int major, int minor) noexcept { return choose_embedded(embedded_modules(), name, major, minor); }

const EmbeddedModule* choose_embedded(std::span<const EmbeddedModule> list, std::string_view name, int major, int minor) noexcept {
  const int here = major * 10 + minor;
  // Higher is better; 0 does not run.
  const auto fitness = [&](const EmbeddedModule& m) {
    if (m.name != name || m.arch > here) return 0;
    if (m.ptx) return 1 + m.arch;
    if (m.specific) return m.arch == here ? 3000 : 0;
    return m.arch / 10 == major ? 1000 + m.arch : 0;
  };
  const EmbeddedModule* best = nullptr;
  for (const EmbeddedModule& m : list)
    if (fitness(m) > (best ? fitness(*best) : 0)) best = &m;
  return best;
}

Module::Module(const Driver& driver, std::span<const std::byte> image) : driver_(driver) {
  driver_.require(driver_.module_load(&handle_, image.data()), "cuModuleLoadData");
}

Module::~Module() {
  if (handle_) driver_.module_unload(handle_);
}

Function Module::function(const char* name) const {
  FunctionHandle handle = nullptr;
  const Result result = driver_.module_function(&handle, handle_, name);
  if (result == kErrorNotFound)
    throw Error(Code::kInternal, fmt::format("the kernel '{}' is not in its module ({})", name, driver_.status(result, "cuModuleGetFunction").message()));
  driver_.require(result, "cuModuleGetFunction");
  return {driver_, handle};
}

void Function::allow_shared(std::size_t bytes) const {
  driver_->require(driver_->function_set_attribute(handle_, kMaxDynamicSharedBytes, static_cast<int>(bytes)), "cuFuncSetAttribute");
}

int Function::attribute(FunctionAttribute which) const {
  int value = 0;
  driver_->require(driver_->function_attribute(&value, which, handle_), "cuFuncGetAttribute");
  return value;
}

Status Function::launch(StreamHandle stream, const LaunchShape& shape, void** arguments) const noexcept {
  LaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (shape.overlaps) {
    attributes[count].id = kLaunchAttributeProgrammaticSerialization;
    attributes[count++].flag = 1;
  }
  if (shape.cluster_x * shape.cluster_y * shape.cluster_z > 1) {
    attributes[count].id = kLaunchAttributeCluster;
    attributes[count].extents[0] = shape.cluster_x;
    attributes[count].extents[1] = shape.cluster_y;
    attributes[count++].extents[2] = shape.cluster_z;
  }
  LaunchSpec spec;
  spec.grid[0] = shape.grid_x;
  spec.grid[1] = shape.grid_y;
  spec.grid[2] = shape.grid_z;
  spec.block[0] = shape.block;
  spec.shared_bytes = shape.shared_bytes;
  spec.stream = stream;
  spec.attributes = count ? attributes : nullptr;
  spec.attribute_count = count;
  return driver_->status(driver_->launch(&spec, handle_, arguments, nullptr), "cuLaunchKernelEx");
}

}  // namespace lathe::cuda
