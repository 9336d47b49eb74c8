// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// "cuda.topk" inside another kernel: the places of the largest or smallest keys along an axis, equal ones as they lie. Defined in topk_cuda.cpp.

#include <array>
#include <memory>

#include "plan/kernel.h"

namespace lathe::plan {

class TopKSort {
 public:
  TopKSort(std::int64_t axis, bool largest);
  /// `places`: int64, as many along the axis as are wanted. Throws Error.
  void bind(const BindRequest& request, const TensorDesc& keys, const TensorDesc& places);
  bool is_bound() const noexcept { return kernel_ != nullptr; }
  bool rebind(const BindRequest& request, const TensorDesc& keys, const TensorDesc& places) noexcept;
  std::size_t scratch_bytes() const noexcept { return kernel_->scratch_bytes(); }
  /// `scratch`: as many bytes.
  Status run(const KernelIo& io, const void* keys, void* places, void* scratch) const noexcept;

 private:
  BindRequest request_of(const BindRequest& request, const TensorDesc& keys, const TensorDesc& places);

  ir::Attrs params_;
  std::array<TensorDesc, 1> inputs_;
  std::array<TensorDesc, 2> outputs_;
  std::unique_ptr<Kernel> kernel_;
};

}  // namespace lathe::plan
