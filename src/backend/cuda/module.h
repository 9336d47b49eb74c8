// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Code on a device: modules (machine code or PTX), their functions, and launching. Lathe's own kernels are compiled when Lathe is built
// and lie in the library as EmbeddedModules.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "backend/cuda/driver.h"
#include "lathe/status.h"

namespace lathe::cuda {

/// One compiled file of kernels. Equal names differ in architecture.
struct EmbeddedModule {
  std::string_view name;  ///< the source's name without ".cu"
  int arch = 0;           ///< 90
  bool specific = false;  ///< sm_90a: runs on compute capability 9.0 alone
  bool ptx = false;       ///< compiled by the driver when loaded; for any later architecture
  std::span<const std::byte> image;
};

std::span<const EmbeddedModule> embedded_modules() noexcept;
/// The best image for a device: its own architecture, an earlier one of the same major version, then PTX. nullptr: none fits.
const EmbeddedModule* choose_embedded(std::string_view name, int major, int minor) noexcept;
/// The same over a given list.
const EmbeddedModule* choose_embedded(std::span<const EmbeddedModule> list, std::string_view name, int major, int minor) noexcept;

struct LaunchShape {
  std::uint32_t grid_x = 1, grid_y = 1, grid_z = 1;
  std::uint32_t block = 128;
  std::uint32_t shared_bytes = 0;
  /// Blocks of a thread block cluster (compute capability 9.0 and later); 1, 1, 1: none.
  std::uint32_t cluster_x = 1, cluster_y = 1, cluster_z = 1;
  /// The kernel may start before the one in front of it has ended (it waits by griddepcontrol.wait before it reads): programmatic
  /// dependent launch, compute capability 9.0 and later. Ask for it only for kernels that wait.
  bool overlaps = false;
};

/// A kernel of a loaded module. Plain handle: valid as long as its module.
class Function {
 public:
  Function() = default;
  Function(const Driver& driver, FunctionHandle handle) : driver_(&driver), handle_(handle) {}
  explicit operator bool() const noexcept { return handle_ != nullptr; }
  /// Allows more than 48 KB of dynamic shared memory. Throws Error.
  void allow_shared(std::size_t bytes) const;
  int attribute(FunctionAttribute which) const;
  /// `arguments`: one pointer per kernel parameter. The context must be current.
  Status launch(StreamHandle stream, const LaunchShape& shape, void** arguments) const noexcept;
  /// A kernel whose one parameter is a struct passed by value.
  template <class Params>
  Status launch_with(StreamHandle stream, const LaunchShape& shape, const Params& params) const noexcept {
    void* arguments[] = {const_cast<Params*>(&params)};
    return launch(stream, shape, arguments);
  }

 private:
  const Driver* driver_ = nullptr;
  FunctionHandle handle_ = nullptr;
};

/// A module loaded into the context that was current.
class Module {
 public:
  Module(const Driver& driver, std::span<const std::byte> image);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  /// Throws Error(kInternal) when the module has no such kernel.
  Function function(const char* name) const;

 private:
  const Driver& driver_;
  ModuleHandle handle_ = nullptr;
};

}  // namespace lathe::cuda
