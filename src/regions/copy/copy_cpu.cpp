// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.copy": the same logical elements from one strided layout (and float type) to another. The builder inserts it where memory orders
// differ: at the edges of channels-last stretches, and for concat parts that could not live in place.
//
// The axes are sorted by the destination's strides and merged where both sides allow. What is left is rows (both sides contiguous),
// or a transposition of two axes, which is walked in square blocks so that both sides touch whole cache lines.

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/half.h"
#include "base/thread_pool.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

struct Loop {
  std::int64_t extent, src, dst;  // strides in elements
};

constexpr std::int64_t kBlock = 16;

template <class S, class D>
D convert(S value) noexcept {
  return static_cast<D>(value);
}
struct Bf16 {
  std::uint16_t bits;
};
struct F16 {
  std::uint16_t bits;
};
template <>
Bf16 convert(float value) noexcept {
  return {float_to_bfloat16(value)};
}
template <>
float convert(Bf16 value) noexcept {
  return bfloat16_to_float(value.bits);
}
template <>
F16 convert(float value) noexcept {
  return {float_to_half(value)};
}
template <>
float convert(F16 value) noexcept {
  return half_to_float(value.bits);
}

/// `rows` x `columns` with dst contiguous along columns and src contiguous along rows.
template <class S, class D>
void transpose_block(const S* src, std::int64_t src_column, D* dst, std::int64_t dst_row, std::int64_t rows, std::int64_t columns) noexcept {
  for (std::int64_t r0 = 0; r0 < rows; r0 += kBlock)
    for (std::int64_t c0 = 0; c0 < columns; c0 += kBlock) {
      const std::int64_t r1 = std::min(rows, r0 + kBlock), c1 = std::min(columns, c0 + kBlock);
      for (std::int64_t r = r0; r < r1; ++r)
        for (std::int64_t c = c0; c < c1; ++c) dst[r * dst_row + c] = convert<S, D>(src[c * src_column + r]);
    }
}

/// The axes of both tensors by falling destination stride, merged where both sides allow; at least one. `loops` keeps its memory.
void merge_loops(const TensorDesc& src, const TensorDesc& dst, std::vector<Loop>& loops) {
  loops.clear();
  for (std::size_t axis = 0; axis < dst.dims.size(); ++axis) {
    if (dst.dims[axis] == 1) continue;
    const Loop loop{dst.dims[axis], src.strides[axis], dst.strides[axis]};
    const auto after = std::find_if(loops.begin(), loops.end(), [&](const Loop& other) { return other.dst < loop.dst; });
    loops.insert(after, loop);
  }
  std::size_t kept = 0;
  for (const Loop& loop : loops) {
    if (kept > 0 && loops[kept - 1].src == loop.src * loop.extent && loops[kept - 1].dst == loop.dst * loop.extent) {
      loops[kept - 1] = {loops[kept - 1].extent * loop.extent, loop.src, loop.dst};
    } else {
      loops[kept++] = loop;
    }
  }
  loops.resize(kept);
  if (loops.empty()) loops.push_back({1, 1, 1});
}

template <class S, class D>
class CopyKernel final : public Kernel {
 public:
  explicit CopyKernel(const BindRequest& request) {
    loops_.reserve(request.outputs[0].dims.size() + 2);
    fit(request);
  }

  bool rebind(const BindRequest& request) noexcept override {
    if (request.inputs[0].dims != request.outputs[0].dims) return false;
    fit(request);
    return true;
  }

  Status run(const KernelIo& io) const noexcept override {
    const S* src = static_cast<const S*>(io.inputs[0]);
    D* dst = static_cast<D*>(io.outputs[0]);
    if (tasks_ == 0 || inner_.extent == 0) return Status::ok();
    const std::int64_t work = tasks_ * pieces_;
    // Small pieces go in groups, so that taking a task costs less than doing it.
    const std::int64_t each = inner_.extent * (transposes_ ? across_.extent : 1) / pieces_ + 1;
    const std::int64_t group = std::max<std::int64_t>(1, 16384 / each);
    io.pool->parallel_for((work + group - 1) / group, [&](std::int64_t chunk, int) {
      for (std::int64_t task = chunk * group; task < std::min(work, (chunk + 1) * group); ++task) one(src, dst, task);
    });
    return Status::ok();
  }

 private:
  void fit(const BindRequest& request) {
    merge_loops(request.inputs[0], request.outputs[0], loops_);
    while (loops_.size() < 2) loops_.insert(loops_.begin(), Loop{1, 0, 0});
    inner_ = loops_.back();
    loops_.pop_back();
    across_ = {1, 1, 1};
    transposes_ = false;
    // The axis along which the source is contiguous, when it is not the inner one, makes a block transposition.
    if (inner_.src != 1) {
      for (std::size_t i = 0; i < loops_.size(); ++i)
        if (loops_[i].src == 1 && loops_[i].extent > 1) {
          across_ = loops_[i];
          loops_.erase(loops_.begin() + static_cast<std::ptrdiff_t>(i));
          transposes_ = inner_.dst == 1;
          if (!transposes_) loops_.push_back(across_);
          break;
        }
    }
    tasks_ = 1;
    for (const Loop& loop : loops_) tasks_ *= loop.extent;
    cut_ = 0;
    pieces_ = 1;
    // A single big transposition is cut along its rows.
    if (transposes_ && tasks_ < 64) {
      cut_ = std::max<std::int64_t>(kBlock, (across_.extent / 8 + kBlock - 1) / kBlock * kBlock);
      pieces_ = (across_.extent + cut_ - 1) / cut_;
    } else if (!transposes_ && inner_.src == 1 && inner_.dst == 1 && tasks_ < 16 && inner_.extent > 65536) {
      cut_ = 32768;
      pieces_ = (inner_.extent + cut_ - 1) / cut_;
    }
  }

  void one(const S* src, D* dst, std::int64_t task) const noexcept {
    const std::int64_t piece = task % pieces_;
    std::int64_t rest = task / pieces_;
    for (std::size_t i = loops_.size(); i-- > 0;) {
      const std::int64_t at = rest % loops_[i].extent;
      rest /= loops_[i].extent;
      src += at * loops_[i].src;
      dst += at * loops_[i].dst;
    }
    if (transposes_) {
      const std::int64_t from = piece * cut_, to = pieces_ == 1 ? across_.extent : std::min(across_.extent, from + cut_);
      transpose_block<S, D>(src + from, inner_.src, dst + from * across_.dst, across_.dst, to - from, inner_.extent);
      return;
    }
    const std::int64_t from = piece * cut_, to = pieces_ == 1 ? inner_.extent : std::min(inner_.extent, from + cut_);
    if constexpr (std::is_same_v<S, D>) {
      if (inner_.src == 1 && inner_.dst == 1) {
        std::memcpy(dst + from, src + from, static_cast<std::size_t>(to - from) * sizeof(S));
        return;
      }
    }
    for (std::int64_t i = from; i < to; ++i) dst[i * inner_.dst] = convert<S, D>(src[i * inner_.src]);
  }

  std::vector<Loop> loops_;
  Loop inner_{1, 1, 1}, across_{1, 1, 1};
  bool transposes_ = false;
  std::int64_t tasks_ = 1, cut_ = 0, pieces_ = 1;
};

std::unique_ptr<Kernel> bind_copy(const BindRequest& request) {
  if (request.inputs.size() != 1 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "cpu.copy without source or target");
  const TensorDesc& src = request.inputs[0];
  const TensorDesc& dst = request.outputs[0];
  if (src.dims != dst.dims)
    throw Error(Code::kInvalidArgument, fmt::format("a copy between different extents {} and {}", to_string(src.dims), to_string(dst.dims)));
  const auto is = [&](DType a, DType b) { return src.dtype == a && dst.dtype == b; };
  if (src.dtype == dst.dtype) {
    switch (dtype_bits(src.dtype)) {
      case 8: return std::make_unique<CopyKernel<std::uint8_t, std::uint8_t>>(request);
      case 16: return std::make_unique<CopyKernel<std::uint16_t, std::uint16_t>>(request);
      case 32: return std::make_unique<CopyKernel<std::uint32_t, std::uint32_t>>(request);
      case 64: return std::make_unique<CopyKernel<std::uint64_t, std::uint64_t>>(request);
      default: break;
    }
  }
  if (is(DType::kFloat32, DType::kBFloat16)) return std::make_unique<CopyKernel<float, Bf16>>(request);
  if (is(DType::kBFloat16, DType::kFloat32)) return std::make_unique<CopyKernel<Bf16, float>>(request);
  if (is(DType::kFloat32, DType::kFloat16)) return std::make_unique<CopyKernel<float, F16>>(request);
  if (is(DType::kFloat16, DType::kFloat32)) return std::make_unique<CopyKernel<F16, float>>(request);
  throw Error(Code::kUnsupported, fmt::format("cpu.copy from {} to {} has no kernel", dtype_name(src.dtype), dtype_name(dst.dtype)));
}

}  // namespace

KernelSet kernels_copy() {
  static const KernelType kernels[] = {{"cpu.copy", bind_copy, ""}};
  return {kernels, {}};
}

}  // namespace lathe::plan
