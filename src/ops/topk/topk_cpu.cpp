// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of TopK. Elements become integers that order as they do; those above the k-th best so far are collected, and whenever
// twice k came together the worse half goes. A block none of whose elements is above is passed over by one vectorised comparison, which is
// what almost every block of a long row is. Each row is one task's, and the result does not depend on the number of threads.

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <limits>

#include "base/half.h"
#include "base/thread_pool.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

constexpr std::int64_t kBlock = 64, kTaskElements = 16384;

struct Bf16 {
  std::uint16_t bits;
};
struct F16 {
  std::uint16_t bits;
};

/// Signed integers that order as floating bit patterns do: -0 like +0, NaN above all.
template <class I, class U>
I ordered(U bits, U infinity) noexcept {
  const auto magnitude = static_cast<U>(bits & static_cast<U>(std::numeric_limits<I>::max()));
  if (magnitude > infinity) return std::numeric_limits<I>::max();
  const auto number = static_cast<I>(magnitude);
  return static_cast<I>(bits) < 0 ? static_cast<I>(-number) : number;
}
std::int32_t key_of(float x) noexcept { return ordered<std::int32_t, std::uint32_t>(std::bit_cast<std::uint32_t>(x), 0x7f800000u); }
std::int64_t key_of(double x) noexcept { return ordered<std::int64_t, std::uint64_t>(std::bit_cast<std::uint64_t>(x), 0x7ff0000000000000u); }
std::int32_t key_of(Bf16 x) noexcept { return key_of(bfloat16_to_float(x.bits)); }
std::int32_t key_of(F16 x) noexcept { return ordered<std::int16_t, std::uint16_t>(x.bits, 0x7c00u); }
template <class T>
auto key_of(T x) noexcept {
  if constexpr (sizeof(T) < 4) return static_cast<std::int32_t>(x);
  else if constexpr (std::is_signed_v<T>) return x;
  else return static_cast<std::make_signed_t<T>>(x ^ (T{1} << (8 * sizeof(T) - 1)));
}

/// A key and its place; of equal keys the earlier place is greater.
struct WideEntry {
  std::int64_t key, place;
  WideEntry() = default;
  WideEntry(std::int64_t k, std::int64_t at) : key(k), place(at) {}
  std::int64_t where() const noexcept { return place; }
  bool operator>(const WideEntry& other) const noexcept { return key != other.key ? key > other.key : place < other.place; }
};
/// The same for keys of 32 bits, in one number.
struct NarrowEntry {
  std::int64_t both;
  NarrowEntry() = default;
  NarrowEntry(std::int32_t key, std::int64_t place) : both(static_cast<std::int64_t>(key) * (std::int64_t{1} << 32) + (0xffffffffll - place)) {}
  std::int64_t where() const noexcept { return 0xffffffffll - (both & 0xffffffffll); }
  bool operator>(const NarrowEntry& other) const noexcept { return both > other.both; }
};

template <class T>
using KeyOf = decltype(key_of(T{}));
template <class T>
using EntryOf = std::conditional_t<sizeof(KeyOf<T>) == 8, WideEntry, NarrowEntry>;

/// The best k of n elements, `stride` apart, best first, at the front of `kept` (which holds `room` entries, at least k + 1).
template <class T, bool kLargest>
void select(const T* src, std::int64_t stride, std::int64_t n, std::int64_t k, EntryOf<T>* kept, std::int64_t room) noexcept {
  using Key = KeyOf<T>;
  const auto key_at = [=](std::int64_t i) {
    const Key key = key_of(src[i * stride]);
    return kLargest ? key : static_cast<Key>(~key);
  };
  std::int64_t count = 0;
  bool full = false;
  Key least = 0;  // of the best k so far, once there were more
  const auto drop_the_worse = [&] {
    std::nth_element(kept, kept + (k - 1), kept + count, std::greater<>());
    count = k;
    full = true;
    least = key_at(kept[k - 1].where());
  };
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t end = std::min(n, begin + kBlock);
    if (full && stride == 1 && end - begin == kBlock) {
      Key best = std::numeric_limits<Key>::min();
      for (std::int64_t j = 0; j < kBlock; ++j) {
        const Key key = key_of(src[begin + j]);
        best = std::max(best, kLargest ? key : static_cast<Key>(~key));
      }
      if (best <= least) continue;  // an equal element comes later and loses
    }
    for (std::int64_t i = begin; i < end; ++i) {
      const Key key = key_at(i);
      if (full && key <= least) continue;
      kept[count++] = EntryOf<T>(key, i);
      if (count == room) drop_the_worse();
    }
  }
  if (count > k) drop_the_worse();
  std::sort(kept, kept + k, std::greater<>());
}

template <class T>
void store(T value, DType stored, void* dst, std::int64_t at) noexcept {
  if constexpr (std::is_same_v<T, float>) {
    if (stored == DType::kBFloat16) {
      static_cast<std::uint16_t*>(dst)[at] = float_to_bfloat16(value);
      return;
    }
  } else if constexpr (std::is_same_v<T, Bf16>) {
    if (stored == DType::kFloat32) {
      static_cast<float*>(dst)[at] = bfloat16_to_float(value.bits);
      return;
    }
  }
  static_cast<T*>(dst)[at] = value;
}

/// All axes but the chosen one, as one count of rows with their offsets in each tensor.
struct Rows {
  struct Axis {
    std::int64_t extent, src, values, indices;
  };
  std::vector<Axis> axes;
  std::int64_t count = 1;
};

void require(bool holds, const char* what) {
  if (!holds) throw Error(Code::kCorruptFile, std::string("a TopK step with ") + what);
}

void check_extents(const BindRequest& request, std::size_t axis) {
  const TensorDesc &x = request.inputs[0], &values = request.outputs[0], &indices = request.outputs[1];
  const TensorDesc& some = values.dtype == DType::kUndefined ? indices : values;
  for (const TensorDesc* out : {&values, &indices}) {
    if (out->dtype == DType::kUndefined) continue;
    require(out->dims.size() == x.dims.size() && out->dims[axis] == some.dims[axis] && out->dims[axis] <= x.dims[axis], "extents that do not fit");
    for (std::size_t i = 0; i < x.dims.size(); ++i) require(i == axis || out->dims[i] == x.dims[i], "extents that do not fit");
  }
  if (x.dims[axis] >= (std::int64_t{1} << 32)) throw Error(Code::kUnsupported, "TopK over 2^32 elements and more");
}

template <class T, bool kLargest>
class TopKKernel final : public Kernel {
 public:
  TopKKernel(const BindRequest& request, std::size_t axis) : axis_(axis) { fit(request); }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] {
      check_extents(request, axis_);
      fit(request);
    });
  }

  std::size_t scratch_bytes() const noexcept override { return static_cast<std::size_t>(room_ * threads_) * sizeof(EntryOf<T>); }

  Status run(const KernelIo& io) const noexcept override {
    if (empty_) return Status::ok();
    const std::int64_t group = std::max<std::int64_t>(1, kTaskElements / n_);
    io.pool->parallel_for((rows_.count + group - 1) / group, [&](std::int64_t task, int worker) {
      auto* kept = static_cast<EntryOf<T>*>(io.scratch) + static_cast<std::int64_t>(worker) * room_;
      for (std::int64_t row = task * group; row < std::min(rows_.count, (task + 1) * group); ++row) one(io, row, kept);
    });
    return Status::ok();
  }

 private:
  void fit(const BindRequest& request) {
    const TensorDesc &x = request.inputs[0], &values = request.outputs[0], &indices = request.outputs[1];
    const auto stride = [](const TensorDesc& desc, std::size_t i) { return desc.dtype == DType::kUndefined ? 0 : desc.strides[i]; };
    rows_.axes.clear();
    rows_.count = 1;
    for (std::size_t i = 0; i < x.dims.size(); ++i) {
      if (i == axis_) continue;
      rows_.axes.push_back({x.dims[i], x.strides[i], stride(values, i), stride(indices, i)});
      rows_.count *= x.dims[i];
    }
    threads_ = std::max(request.threads, 1);
    n_ = x.dims[axis_];
    k_ = (values.dtype == DType::kUndefined ? indices : values).dims[axis_];
    stride_ = x.strides[axis_];
    value_stride_ = stride(values, axis_);
    index_stride_ = stride(indices, axis_);
    value_type_ = values.dtype;
    room_ = std::min(n_, std::max(2 * k_, k_ + 256)) + 1;
    empty_ = rows_.count == 0 || k_ == 0;
  }

  void one(const KernelIo& io, std::int64_t row, EntryOf<T>* kept) const noexcept {
    std::int64_t src = 0, values = 0, indices = 0;
    for (std::size_t i = rows_.axes.size(); i-- > 0;) {
      const Rows::Axis& axis = rows_.axes[i];
      const std::int64_t at = row % axis.extent;
      row /= axis.extent;
      src += at * axis.src;
      values += at * axis.values;
      indices += at * axis.indices;
    }
    const T* first = static_cast<const T*>(io.inputs[0]) + src;
    select<T, kLargest>(first, stride_, n_, k_, kept, room_);
    for (std::int64_t j = 0; j < k_; ++j) {
      const std::int64_t place = kept[j].where();
      if (io.outputs[0]) store(first[place * stride_], value_type_, io.outputs[0], values + j * value_stride_);
      if (io.outputs[1]) static_cast<std::int64_t*>(io.outputs[1])[indices + j * index_stride_] = place;
    }
  }

  std::size_t axis_;
  Rows rows_;
  std::int64_t n_ = 0, k_ = 0, stride_ = 1, value_stride_ = 1, index_stride_ = 1, room_ = 0;
  int threads_ = 1;
  DType value_type_ = DType::kUndefined;
  bool empty_ = false;
};

template <class T>
std::unique_ptr<Kernel> make(const BindRequest& request, std::size_t axis) {
  if (request.params.get_int("largest", 1) != 0) return std::make_unique<TopKKernel<T, true>>(request, axis);
  return std::make_unique<TopKKernel<T, false>>(request, axis);
}

bool is_stored(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

std::unique_ptr<Kernel> bind_topk(const BindRequest& request) {
  require(request.inputs.size() == 1 && request.outputs.size() == 2, "the wrong number of tensors");
  const TensorDesc &x = request.inputs[0], &values = request.outputs[0], &indices = request.outputs[1];
  const auto rank = static_cast<std::int64_t>(x.dims.size());
  std::int64_t axis = request.params.get_int("axis", -1);
  require(axis >= -rank && axis < rank, "an axis outside of its input");
  if (axis < 0) axis += rank;
  const auto at = static_cast<std::size_t>(axis);
  require(values.dtype != DType::kUndefined || indices.dtype != DType::kUndefined, "no output");
  require(values.dtype == DType::kUndefined || values.dtype == x.dtype || (is_stored(values.dtype) && is_stored(x.dtype)), "values of another type");
  require(indices.dtype == DType::kUndefined || indices.dtype == DType::kInt64, "positions that are not int64");
  check_extents(request, at);
  switch (x.dtype) {
    case DType::kFloat32: return make<float>(request, at);
    case DType::kFloat64: return make<double>(request, at);
    case DType::kBFloat16: return make<Bf16>(request, at);
    case DType::kFloat16: return make<F16>(request, at);
    case DType::kInt8: return make<std::int8_t>(request, at);
    case DType::kInt16: return make<std::int16_t>(request, at);
    case DType::kInt32: return make<std::int32_t>(request, at);
    case DType::kInt64: return make<std::int64_t>(request, at);
    case DType::kUint8: return make<std::uint8_t>(request, at);
    case DType::kUint16: return make<std::uint16_t>(request, at);
    case DType::kUint32: return make<std::uint32_t>(request, at);
    case DType::kUint64: return make<std::uint64_t>(request, at);
    default: throw Error(Code::kUnsupported, "TopK of " + std::string(dtype_name(x.dtype)) + " elements");
  }
}

constexpr std::array<KernelType, 1> kKernels{{{"cpu.topk", bind_topk, ""}}};

}  // namespace

KernelSet kernels_topk() { return {kKernels, {}}; }

}  // namespace lathe::plan
