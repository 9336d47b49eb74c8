// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of ScatterElements and ScatterND on the CPU. The data are copied; then the updates go to their targets in their order. Those that differ in
// another axis than the indexed one (ScatterElements) or in their place within a slice (ScatterND) never meet: these are the tasks.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include <fmt/format.h>

#include "base/half.h"
#include "base/thread_pool.h"
#include "ops/scatter/scatter_plan.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

constexpr std::int64_t kTaskElements = 8192;

std::int64_t offset_in(const cuda::ScatterTensor& t, std::int64_t place) noexcept {
  if (t.dense) return place;
  std::int64_t at = 0;
  for (int axis = t.axes - 1; axis >= 0; --axis) {
    at += place % t.extent[axis] * t.step[axis];
    place /= t.extent[axis];
  }
  return at;
}

/// How an element of type T is read, combined and written: narrow floating-point numbers as float32.
template <class T>
struct As {
  using Value = T;
  static T load(const void* p, std::int64_t at) noexcept { return static_cast<const T*>(p)[at]; }
  static void store(void* p, std::int64_t at, T value) noexcept { static_cast<T*>(p)[at] = value; }
};
struct F16 {};
struct Bf16 {};
template <>
struct As<F16> {
  using Value = float;
  static float load(const void* p, std::int64_t at) noexcept { return half_to_float(static_cast<const std::uint16_t*>(p)[at]); }
  static void store(void* p, std::int64_t at, float value) noexcept { static_cast<std::uint16_t*>(p)[at] = float_to_half(value); }
};
template <>
struct As<Bf16> {
  using Value = float;
  static float load(const void* p, std::int64_t at) noexcept { return bfloat16_to_float(static_cast<const std::uint16_t*>(p)[at]); }
  static void store(void* p, std::int64_t at, float value) noexcept { static_cast<std::uint16_t*>(p)[at] = float_to_bfloat16(value); }
};

/// Calls `visit` with a value of the type that stands for the element type.
template <class Visit>
void with_type(int type, const Visit& visit) noexcept {
  switch (type) {
    case cuda::kScatterFloat32: visit(As<float>()); break;
    case cuda::kScatterFloat16: visit(As<F16>()); break;
    case cuda::kScatterBFloat16: visit(As<Bf16>()); break;
    case cuda::kScatterFloat64: visit(As<double>()); break;
    case cuda::kScatterInt8: visit(As<std::int8_t>()); break;
    case cuda::kScatterInt16: visit(As<std::int16_t>()); break;
    case cuda::kScatterInt32: visit(As<std::int32_t>()); break;
    case cuda::kScatterInt64: visit(As<std::int64_t>()); break;
    case cuda::kScatterUint16: visit(As<std::uint16_t>()); break;
    case cuda::kScatterUint32: visit(As<std::uint32_t>()); break;
    case cuda::kScatterUint64: visit(As<std::uint64_t>()); break;
    default: visit(As<std::uint8_t>()); break;
  }
}

template <class T>
T combined(int reduction, bool is_bool, T old, T update) noexcept {
  if (reduction == cuda::kScatterNone) return update;
  if constexpr (std::is_integral_v<T>) {
    using U = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;  // which wrap
    const bool any = reduction == cuda::kScatterAdd || reduction == cuda::kScatterMax;
    if (is_bool) return static_cast<T>(any ? old | update : old & update);
    if (reduction == cuda::kScatterAdd) return static_cast<T>(static_cast<U>(old) + static_cast<U>(update));
    if (reduction == cuda::kScatterMul) return static_cast<T>(static_cast<U>(old) * static_cast<U>(update));
  } else {
    if (reduction == cuda::kScatterAdd) return old + update;
    if (reduction == cuda::kScatterMul) return old * update;
    if (old != old) return old;
  }
  const bool stays = reduction == cuda::kScatterMax ? old > update : old < update;
  return stays ? old : update;
}

class ScatterKernel final : public Kernel {
 public:
  explicit ScatterKernel(const BindRequest& request) { fit(request); }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  Status run(const KernelIo& io) const noexcept override {
    const cuda::ScatterParams& p = p_;
    copy(io);
    if (p.tuples == 0 || p.slices == 0) return Status::ok();
    // An update: (outer, along, inner), where those of one (outer, inner) are done in order.
    std::int64_t outer = 1, along = 1, inner = p.inner;
    if (p.axis < 0) along = p.tuples;
    for (int axis = 0; p.axis >= 0 && axis < p.at.axes; ++axis) (axis < p.axis ? outer : axis == p.axis ? along : inner) *= p.at.extent[axis];
    const std::int64_t width = std::clamp<std::int64_t>(kTaskElements / along, 1, inner), pieces = (inner + width - 1) / width;
    const std::int64_t rows = std::max<std::int64_t>(1, kTaskElements / (along * width)), groups = (outer + rows - 1) / rows;
    std::atomic<std::int64_t> wrong{-1};
    with_type(p.data_type, [&](auto from) {
      io.pool->parallel_for(groups * pieces, [&](std::int64_t task, int) {
        const std::int64_t first = task % pieces * width, last = std::min(inner, first + width), begin = task / pieces * rows;
        for (std::int64_t o = begin; o < std::min(outer, begin + rows); ++o)
          for (std::int64_t a = 0; a < along; ++a)
            if (!update<decltype(from)>(io, (o * along + a) * inner, first, last)) wrong.store((o * along + a) * inner + first, std::memory_order_relaxed);
      });
    });
    const std::int64_t at = wrong.load();
    return at < 0 ? Status::ok() : out_of_bounds(io, at);
  }

 private:
  void fit(const BindRequest& request) {
    if (request.inputs.size() != 3 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "a scatter step with the wrong number of tensors");
    const std::int64_t reduction = request.params.get_int("reduction", 0);
    if (reduction < 0 || reduction > cuda::kScatterMin) throw Error(Code::kCorruptFile, "a scatter step of an unknown reduction");
    std::string why;
    if (!ops::scatter_plan(request.inputs[0], request.inputs[1], request.inputs[2], request.outputs[0], request.params.get_int("axis", -1),
                           static_cast<ops::Reduction>(reduction), p_, why))
      throw Error(Code::kUnsupported, "a scatter step: " + why);
    // Dense, and all other axes as long as the data's: places need no taking apart.
    direct_ = p_.axis >= 0 && p_.from.dense && p_.to.dense && p_.at.dense && p_.brought.dense;
    inner_ = 1;
    for (int axis = 0; axis < p_.from.axes; ++axis) {
      if (axis != p_.axis) direct_ = direct_ && p_.at.extent[axis] == p_.from.extent[axis];
      if (axis > p_.axis) inner_ *= p_.from.extent[axis];
    }
  }

  void copy(const KernelIo& io) const noexcept {
    const cuda::ScatterParams& p = p_;
    const std::int64_t elements = p.slices * p.inner;
    if (elements == 0) return;
    const bool same = p.data_type == p.out_type;
    with_type(p.data_type, [&](auto from) {
      with_type(p.out_type, [&](auto to) {
        using From = decltype(from);
        using To = decltype(to);
        if constexpr (std::is_same_v<typename From::Value, typename To::Value>)
          io.pool->parallel_for((elements + kTaskElements - 1) / kTaskElements, [&](std::int64_t task, int) {
            const std::int64_t begin = task * kTaskElements, end = std::min(elements, begin + kTaskElements);
            if (same && p.from.dense && p.to.dense) {
              const auto each = static_cast<std::size_t>(p.bytes);
              std::memcpy(static_cast<std::byte*>(io.outputs[0]) + static_cast<std::size_t>(begin) * each,
                          static_cast<const std::byte*>(io.inputs[0]) + static_cast<std::size_t>(begin) * each, static_cast<std::size_t>(end - begin) * each);
              return;
            }
            for (std::int64_t i = begin; i < end; ++i) To::store(io.outputs[0], offset_in(p.to, i), From::load(io.inputs[0], offset_in(p.from, i)));
          });
      });
    });
  }

  std::int64_t index_at(const KernelIo& io, std::int64_t place) const noexcept {
    const std::int64_t at = offset_in(p_.at, place);
    return p_.wide ? static_cast<const std::int64_t*>(io.inputs[1])[at] : static_cast<const std::int32_t*>(io.inputs[1])[at];
  }
  /// [0, extent), or -1.
  static std::int64_t checked(std::int64_t index, std::int64_t extent) noexcept {
    if (index < 0) index += extent;
    return index < 0 || index >= extent ? -1 : index;
  }

  /// The updates [first, last) behind `row`; false when an index is out of bounds.
  template <class From>
  bool update(const KernelIo& io, std::int64_t row, std::int64_t first, std::int64_t last) const noexcept {
    const cuda::ScatterParams& p = p_;
    if (p.axis < 0) {
      std::int64_t target = 0;
      for (int k = 0; k < p.depth; ++k) {
        const std::int64_t index = checked(index_at(io, row / p.inner * p.depth + k), p.from.extent[k]);
        if (index < 0) return false;
        target = target * p.from.extent[k] + index;
      }
      for (std::int64_t i = first; i < last; ++i) apply<From>(io, target * p.inner + i, row + i);
      return true;
    }
    bool all = true;
    if (direct_) {
      const std::int64_t extent = p.from.extent[p.axis], inner = inner_, outer = row / (p.at.extent[p.axis] * inner);
      for (std::int64_t i = first; i < last; ++i) {
        const std::int64_t index =
            checked(p.wide ? static_cast<const std::int64_t*>(io.inputs[1])[row + i] : static_cast<const std::int32_t*>(io.inputs[1])[row + i], extent);
        if (index < 0) all = false;
        else apply<From>(io, (outer * extent + index) * inner + i, row + i);
      }
      return all;
    }
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t index = checked(index_at(io, row + i), p.from.extent[p.axis]);
      if (index < 0) {
        all = false;
        continue;
      }
      std::int64_t rest = row + i, target = 0, weight = 1;
      for (int axis = p.from.axes - 1; axis >= 0; --axis) {
        target += (axis == p.axis ? index : rest % p.at.extent[axis]) * weight;
        weight *= p.from.extent[axis];
        rest /= p.at.extent[axis];
      }
      apply<From>(io, target, row + i);
    }
    return all;
  }

  template <class From>
  void apply(const KernelIo& io, std::int64_t target, std::int64_t place) const noexcept {
    const cuda::ScatterParams& p = p_;
    const std::int64_t to = offset_in(p.to, target), from = offset_in(p.brought, place);
    const bool is_bool = p.out_type == cuda::kScatterBool;
    if (p.data_type == p.out_type && p.data_type == p.type) {
      From::store(io.outputs[0], to, combined(p.reduction, is_bool, From::load(io.outputs[0], to), From::load(io.inputs[2], from)));
      return;
    }
    with_type(p.out_type, [&](auto out) {
      with_type(p.type, [&](auto brought) {
        using Out = decltype(out);
        using Brought = decltype(brought);
        if constexpr (std::is_same_v<typename Out::Value, float> && std::is_same_v<typename Brought::Value, float>)
          Out::store(io.outputs[0], to, combined(p.reduction, false, Out::load(io.outputs[0], to), Brought::load(io.inputs[2], from)));
      });
    });
  }

  Status out_of_bounds(const KernelIo& io, std::int64_t place) const noexcept {
    const cuda::ScatterParams& p = p_;
    char text[200];
    const auto told = [&](std::int64_t index, int axis) {
      const auto end = fmt::format_to_n(text, sizeof text, "index {} is out of bounds for axis {} of extent {}", index, axis, p.from.extent[axis]);
      return Status(Code::kInvalidArgument, std::string_view(text, std::min(end.size, sizeof text)));
    };
    for (int k = 0; p.axis < 0 && k < p.depth; ++k) {
      const std::int64_t index = index_at(io, place / p.inner * p.depth + k);
      if (checked(index, p.from.extent[k]) < 0) return told(index, k);
    }
    for (std::int64_t i = place; p.axis >= 0 && i < p.tuples; ++i)
      if (const std::int64_t index = index_at(io, i); checked(index, p.from.extent[p.axis]) < 0) return told(index, p.axis);
    return {Code::kInvalidArgument, "an index is out of bounds"};
  }

  cuda::ScatterParams p_;
  bool direct_ = false;
  std::int64_t inner_ = 1;  ///< elements of the data behind the axis
};

std::unique_ptr<Kernel> bind_scatter(const BindRequest& request) { return std::make_unique<ScatterKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cpu.scatter", bind_scatter, ""}}};

}  // namespace

KernelSet kernels_scatter() { return {kKernels, {}}; }

}  // namespace lathe::plan
