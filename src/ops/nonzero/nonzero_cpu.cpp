// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of NonZeroPadded on the CPU. The elements are cut into shares; one pass counts in each, so that the second knows where each share's
// places begin. The result does not depend on the number of threads.

#include <algorithm>
#include <array>
#include <cstring>

#include "base/thread_pool.h"
#include "ops/nonzero/nonzero_plan.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

constexpr std::int64_t kLeastShare = 32768, kMostShares = 64;

class NonZeroKernel final : public Kernel {
 public:
  explicit NonZeroKernel(const BindRequest& request) { fit(request); }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return kMostShares * sizeof(std::int64_t); }

  Status run(const KernelIo& io) const noexcept override {
    switch (bits_.bytes) {
      case 1: run_on<std::uint8_t>(io); break;
      case 2: run_on<std::uint16_t>(io); break;
      case 4: run_on<std::uint32_t>(io); break;
      default: run_on<std::uint64_t>(io); break;
    }
    return Status::ok();
  }

 private:
  void fit(const BindRequest& request) {
    if (request.inputs.size() != 1 || request.outputs.size() != 2) throw Error(Code::kCorruptFile, "a NonZero step with the wrong number of tensors");
    const TensorDesc &x = request.inputs[0], &places = request.outputs[0];
    const auto bits = ops::non_zero_bits(x.dtype);
    if (!bits || !ops::non_zero_fits(x, places, request.outputs[1])) throw Error(Code::kCorruptFile, "a NonZero step whose tensors do not fit");
    bits_ = *bits;
    elements_ = x.elements();
    share_ = std::max(kLeastShare, (elements_ + kMostShares - 1) / kMostShares);
    extents_.assign(x.dims.begin(), x.dims.end());
    steps_.assign(x.strides.begin(), x.strides.end());
    row_step_ = places.strides[0];
    column_step_ = places.strides[1];
    dense_ = x.is_dense_row_major();
  }

  /// Calls `visit` with the row-major places in [begin, end) of what is set.
  template <class T, class Visit>
  void for_each_set(const T* x, std::int64_t begin, std::int64_t end, const Visit& visit) const noexcept {
    const T mask = static_cast<T>(bits_.mask);
    if (!dense_) {
      for (std::int64_t i = begin; i < end; ++i) {
        std::int64_t rest = i, at = 0;
        for (std::size_t axis = extents_.size(); axis-- > 0; rest /= extents_[axis]) at += rest % extents_[axis] * steps_[axis];
        if (x[at] & mask) visit(i);
      }
      return;
    }
    constexpr std::int64_t kBlock = 64;
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t stop = std::min(end, i + kBlock);
      T any = 0;  // most masks are empty for long
      for (std::int64_t j = i; j < stop; ++j) any |= x[j];
      if (any & mask)
        for (std::int64_t j = i; j < stop; ++j)
          if (x[j] & mask) visit(j);
      i = stop;
    }
  }

  template <class T>
  void run_on(const KernelIo& io) const noexcept {
    const auto* x = static_cast<const T*>(io.inputs[0]);
    auto* places = static_cast<std::int64_t*>(io.outputs[0]);
    auto* begins = static_cast<std::int64_t*>(io.scratch);
    const std::int64_t shares = (elements_ + share_ - 1) / share_;
    const auto end_of = [&](std::int64_t share) { return std::min(elements_, (share + 1) * share_); };
    if (shares > 1)
      io.pool->parallel_for(shares, [&](std::int64_t share, int) {
        std::int64_t count = 0;
        for_each_set(x, share * share_, end_of(share), [&](std::int64_t) { ++count; });
        begins[share] = count;
      });
    std::int64_t all = 0;
    if (shares == 1) begins[0] = 0;
    for (std::int64_t share = 0; shares > 1 && share < shares; ++share) {
      const std::int64_t count = begins[share];
      begins[share] = all;
      all += count;
    }
    io.pool->parallel_for(shares, [&](std::int64_t share, int) {
      const std::int64_t first = begins[share];
      std::int64_t column = first;
      // A scalar has no axis to be at, and is counted all the same.
      for_each_set(x, share * share_, end_of(share), [&](std::int64_t i) {
        if (!extents_.empty()) places[column * column_step_] = i;
        ++column;
      });
      if (shares == 1) begins[0] = column;
      // The first row has the row-major places until the other axes are split off, the last of which changes fastest.
      for (std::size_t axis = extents_.size(); axis-- > 1;) {
        const std::int64_t extent = extents_[axis];
        std::int64_t* row = places + static_cast<std::int64_t>(axis) * row_step_;
        for (std::int64_t c = first; c < column; ++c) {
          std::int64_t& place = places[c * column_step_];
          const std::int64_t rest = place / extent;
          row[c * column_step_] = place - rest * extent;
          place = rest;
        }
      }
    });
    *static_cast<std::int64_t*>(io.outputs[1]) = shares == 1 ? begins[0] : all;
  }

  ops::NonZeroBits bits_;
  std::int64_t elements_ = 0, share_ = 1, row_step_ = 0, column_step_ = 1;
  bool dense_ = true;
  std::vector<std::int64_t> extents_, steps_;
};

std::unique_ptr<Kernel> bind_non_zero(const BindRequest& request) { return std::make_unique<NonZeroKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cpu.nonzero", bind_non_zero, ""}}};

}  // namespace

KernelSet kernels_nonzero() { return {kKernels, {}}; }

}  // namespace lathe::plan
