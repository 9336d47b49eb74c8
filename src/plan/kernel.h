// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The run half of a candidate: what the runtime needs to execute a step. A Kernel is a step bound to one set of concrete shapes;
// binding may allocate and prepare, moving to other extents and running may not. Nothing here knows graphs, importers or timing.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/attribute.h"
#include "ir/dim.h"
#include "lathe/dtype.h"
#include "lathe/status.h"

namespace lathe {
class ThreadPool;
}

namespace lathe::plan {

/// A concrete strided tensor: logical extents in ONNX order, strides in elements. A channels-last activation has dims N,C,H,W and
/// strides H*W*C, 1, W*C, C (larger ones when it is a slice of a wider buffer).
struct TensorDesc {
  DType dtype = DType::kUndefined;
  Dims dims;
  std::vector<std::int64_t> strides;
  std::int64_t elements() const;
  bool is_dense_row_major() const;
  bool is_channels_last() const;  ///< rank >= 3, channel stride 1, pixels in row-major order; a pixel stride above C is allowed
  static TensorDesc row_major(DType dtype, Dims dims);
  friend bool operator==(const TensorDesc&, const TensorDesc&) = default;
};

/// What binding sees. Everything pointed to outlives the kernel (weights live in the engine's mapping).
struct BindRequest {
  const ir::Attrs& params;                      ///< the plan: plain data from the engine
  std::span<const TensorDesc> inputs, outputs;  ///< dtype kUndefined = optional input left out
  /// For inputs whose value is a constant of the engine: its bytes (dense, as its desc says); nullptr otherwise.
  std::span<const void* const> constants;
  std::span<const std::span<const std::byte>> weights;  ///< packed blobs in the plan's order
  const ir::Bindings& symbols;                          ///< values of the program's symbols
  int threads = 1;
  /// For what binding itself needs: memory that need not be given back and is void when the call returns. nullptr: the heap.
  std::pmr::memory_resource* memory = nullptr;
  /// The GPU (a cuda::Device) that the step runs on, and where `weights` lie in its memory; nullptr and empty on the host.
  void* device = nullptr;
  std::span<const void* const> device_weights = {};
};

struct KernelIo {
  const void* const* inputs;  ///< one per input; nullptr where left out
  void* const* outputs;
  void* scratch;  ///< Kernel::scratch_bytes() bytes, 64-byte aligned
  ThreadPool* pool;
  void* stream = nullptr;  ///< of a GPU: run() enqueues there and returns; all pointers are then the device's
  /// Of a GPU: large weights that the next step with such will read. A kernel may have the cache fetch them while it computes.
  const void* next_weights = nullptr;
  std::size_t next_bytes = 0;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual std::size_t scratch_bytes() const noexcept { return 0; }
  /// Moves the kernel to other extents of the step that it was bound to: params, weights, types, ranks and memory orders are the same.
  /// Allocates nothing when scratch and tensors are no larger than some that it was bound or moved to before. False: it cannot; what it
  /// is then good for is to be destroyed, and bind() says why or does it.
  virtual bool rebind(const BindRequest&) noexcept { return false; }
  /// Does the kernel look at symbols beside its tensors' extents (a value that is a symbol)? Then it is moved when any of them changes.
  virtual bool reads_symbols() const noexcept { return false; }
  /// No allocation, no throw. May be called from several threads at once (with different io): keep no state.
  virtual Status run(const KernelIo& io) const noexcept = 0;
};

/// For rebind(): does `fit` (which throws what bind() would) go through?
template <class Fit>
bool fits(Fit fit) noexcept {
  try {
    fit();
    return true;
  } catch (...) {
    return false;
  }
}

/// A kind of kernel, by name ("cpu.conv.direct"). Registered through an explicit generated list (see kernel_list.h).
struct KernelType {
  std::string_view name;
  std::unique_ptr<Kernel> (*bind)(const BindRequest& request);  ///< throws Error when the machine or the shapes do not fit
  /// CPU features without which bind() refuses ("" = none), e.g. "avx512f"; several separated by spaces.
  std::string_view needs = "";
  /// Why a step with these parameters cannot run on this machine ("" = it can). Asked before an engine's section is chosen; nullptr:
  /// nothing beyond `needs`.
  std::string (*unfit)(const ir::Attrs& params) = nullptr;
};

/// A pure function from source constants to a packed weight blob; the recipe of a blob names it.
struct PackFunction {
  std::string_view name;  ///< "cpu.conv.pack_nhwc16"
  std::vector<std::byte> (*pack)(const ir::Attrs& params, std::span<const Tensor> sources);
};

const KernelType* find_kernel(std::string_view name);
const PackFunction* find_pack_function(std::string_view name);
std::vector<const KernelType*> all_kernels();

}  // namespace lathe::plan
