// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of the kernels that a GPU and, through tests/host_cuda, the CPU run: tensors with guard bytes, one node's text, and what its reference makes of it.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "ir/text.h"
#include "base/thread_pool.h"
#include "ops/evaluate.h"
#include "plan/kernel.h"
#include "regions/candidate_test_util.h"

namespace lathe::testing_gpu {

/// A strided tensor between guard bytes; on a GPU its bytes are those of a block there.
struct GuardedTensor {
  static constexpr std::size_t kGuard = 256;
  plan::TensorDesc desc;
  std::vector<std::byte> bytes;
  std::size_t begin = 0, lead = 0;

  GuardedTensor() = default;
  /// `shift`: elements that it begins behind a multiple of 256 bytes.
  GuardedTensor(plan::TensorDesc d, std::size_t shift) : desc(std::move(d)) {
    std::int64_t last = 0;
    for (std::size_t i = 0; i < desc.dims.size(); ++i) last += std::max<std::int64_t>(desc.dims[i] - 1, 0) * desc.strides[i];
    begin = kGuard + shift * dtype_bytes(desc.dtype, 1);
    bytes.assign(begin + (desc.elements() == 0 ? 0 : dtype_bytes(desc.dtype, last + 1)) + 2 * kGuard, std::byte{0xA5});
    lead = (kGuard - reinterpret_cast<std::uintptr_t>(bytes.data()) % kGuard) % kGuard;
  }
  /// On the host. The block of bytes itself stands anywhere: what is used of it begins where 256 divides the address.
  std::byte* data() { return bytes.data() + lead + begin; }
  void fill(const Tensor& values) {
    const Tensor stored = values.cast(desc.dtype);
    const std::size_t each = dtype_bytes(desc.dtype, 1);
    regions::testing::for_each_offset(desc, [&](std::int64_t i, std::int64_t at) {
      std::memcpy(data() + static_cast<std::size_t>(at) * each, stored.raw() + static_cast<std::size_t>(i) * each, each);
    });
  }
  Tensor read() {
    Tensor result(desc.dtype, desc.dims);
    const std::size_t each = dtype_bytes(desc.dtype, 1);
    if (result.bytes() == 0) return result;
    std::byte* to = result.mutable_raw();
    regions::testing::for_each_offset(desc, [&](std::int64_t i, std::int64_t at) {
      std::memcpy(to + static_cast<std::size_t>(i) * each, data() + static_cast<std::size_t>(at) * each, each);
    });
    return result;
  }
  /// Was nothing beside the elements written?
  bool is_intact() {
    std::vector<bool> inside(bytes.size(), false);
    const std::size_t each = dtype_bytes(desc.dtype, 1), from = lead + begin;
    regions::testing::for_each_offset(desc, [&](std::int64_t, std::int64_t at) {
      for (std::size_t b = 0; b < each; ++b) inside[from + static_cast<std::size_t>(at) * each + b] = true;
    });
    for (std::size_t i = 0; i < bytes.size(); ++i)
      if (!inside[i] && bytes[i] != std::byte{0xA5}) return false;
    return true;
  }
};

/// Row-major with `extra` elements between the rows of the last axis.
inline plan::TensorDesc rows_desc(DType dtype, const Dims& dims, std::int64_t extra) {
  plan::TensorDesc desc = plan::TensorDesc::row_major(dtype, dims);
  desc.strides = regions::testing::strides_in(ops::Layout::kRowMajor, dims, extra);
  return desc;
}

/// The kernel on the CPU, as bound and moved there from other extents.
inline void run_on_cpu(std::string_view name, const ir::Attrs& params, const std::vector<GuardedTensor*>& inputs, const std::vector<GuardedTensor*>& outputs) {
  const plan::KernelType* type = plan::find_kernel(name);
  ASSERT_TRUE(type) << name;
  std::vector<plan::TensorDesc> ins, outs;
  std::vector<const void*> in, constants(inputs.size(), nullptr);
  std::vector<void*> out;
  for (GuardedTensor* t : inputs) ins.push_back(t->desc), in.push_back(t->desc.dtype == DType::kUndefined ? nullptr : t->data());
  for (GuardedTensor* t : outputs) outs.push_back(t->desc), out.push_back(t->data());
  const ir::Bindings symbols;
  const plan::BindRequest request{params, ins, outs, constants, {}, symbols, 2};
  const std::unique_ptr<plan::Kernel> kernel = type->bind(request);
  ASSERT_TRUE(kernel->rebind(request));
  const std::size_t bytes = kernel->scratch_bytes();
  std::vector<std::byte> scratch(bytes + 128, std::byte{0xA5});
  std::byte* const begin = scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64) % 64;
  const Status status = kernel->run({in.data(), out.data(), begin, &default_pool()});
  ASSERT_TRUE(status) << status.message();
  for (const std::byte* at = begin + bytes; at < scratch.data() + scratch.size(); ++at) ASSERT_EQ(*at, std::byte{0xA5}) << "written behind the workspace";
}

// ---- TopK ----

struct TopKCase {
  DType type = DType::kFloat32;
  Dims dims;
  std::int64_t axis = -1, k = 1;
  bool largest = true, values = true, indices = true;
  DType value_type = DType::kUndefined;  ///< as the input
  std::int64_t extra = 0;
  std::size_t shift = 0;
  int distinct = 97;  ///< how many different numbers there are about

  std::size_t along() const { return static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(dims.size()) : axis); }
  Dims result_dims() const {
    Dims out = dims;
    out[along()] = k;
    return out;
  }
  std::string describe() const {
    return fmt::format("{} {} axis {} k {} {}{}{} extra {} shift {}", dtype_name(type), to_string(dims), axis, k, largest ? "largest" : "smallest",
                       values ? " values" : "", indices ? " indices" : "", extra, shift);
  }
};

/// Many equal elements, zeros of both signs, infinities and NaN where floating, the ends of the range where not.
inline Tensor topk_input(const TopKCase& c) {
  Tensor x(c.type, c.dims);
  std::uint64_t state = 7 + static_cast<std::uint64_t>(c.k);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    const auto draw = static_cast<std::int64_t>(state >> 33) % c.distinct;
    if (is_float(c.type))
      x.set_from_double(i, draw == 0   ? std::nan("")
                           : draw == 1 ? -0.0
                           : draw == 2 ? 0.0
                           : draw == 3 ? INFINITY
                           : draw == 4 ? -INFINITY
                                       : 0.25 * static_cast<double>(draw - c.distinct / 2));
    else {
      const bool has_sign = is_signed_integer(c.type);
      const int bits = dtype_bits(c.type);
      const std::int64_t top = has_sign ? static_cast<std::int64_t>((1ull << (bits - 1)) - 1) : bits == 64 ? -1 : (std::int64_t{1} << bits) - 1;
      x.set_from_int64(i, draw == 0   ? top
                          : draw == 1 ? (has_sign ? -top - 1 : 0)
                          : bits == 8 ? draw % 100 - (has_sign ? 50 : 0)
                                      : draw - (has_sign ? c.distinct / 2 : 0));
    }
  }
  return x;
}

struct TopKTensors {
  GuardedTensor x, values, indices;  ///< the results without type where left out
  Tensor wanted_values, wanted_indices;

  explicit TopKTensors(const TopKCase& c) {
    const Tensor input = topk_input(c);
    x = GuardedTensor(rows_desc(c.type, c.dims, c.extra), c.shift);
    x.fill(input);
    const DType stored = c.value_type == DType::kUndefined ? c.type : c.value_type;
    if (c.values) values = GuardedTensor(rows_desc(stored, c.result_dims(), c.extra), c.shift);
    if (c.indices) indices = GuardedTensor(rows_desc(DType::kInt64, c.result_dims(), c.extra), c.shift);
    ir::Graph graph;
    ir::Attrs attrs;
    attrs.set("axis", c.axis);
    attrs.set("largest", static_cast<std::int64_t>(c.largest));
    ir::Value* in = graph.add_input("x", ir::Type::tensor(c.type, ir::Shape(c.dims.begin(), c.dims.end())));
    const std::int64_t k[] = {c.k};
    ir::Node* node = graph.add_node("", "TopK", {in, graph.add_constant("k", Tensor::vector(k))}, {"v", "i"}, attrs);
    const Tensor inputs[] = {input, Tensor::vector(k)};
    const auto results = ops::evaluate_node(*node, inputs);
    wanted_values = results[0].cast(stored);
    wanted_indices = results[1];
  }
  void compare() {
    if (indices.desc.dtype != DType::kUndefined) {
      const Tensor got = indices.read();
      for (std::int64_t i = 0; i < got.size(); ++i) ASSERT_EQ(got.as_int64(i), wanted_indices.as_int64(i)) << "index " << i;
      EXPECT_TRUE(indices.is_intact()) << "bytes beside the indices were written";
    }
    if (values.desc.dtype != DType::kUndefined) {
      const Tensor got = values.read();
      if (is_integer(got.dtype()) || got.dtype() == values.desc.dtype) {
        for (std::int64_t i = 0; i < got.size(); ++i) {
          const double a = got.as_double(i), b = wanted_values.as_double(i);
          ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << "value " << i << ": " << a << " instead of " << b;
        }
      }
      EXPECT_TRUE(values.is_intact()) << "bytes beside the values were written";
    }
  }
};

/// `large`: rows that a CPU which plays a GPU takes long for, too.
inline std::vector<TopKCase> topk_cases(bool large) {
  std::vector<TopKCase> cases;
  constexpr DType kAll[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64, DType::kInt8,   DType::kInt16,
                            DType::kInt32,   DType::kInt64,   DType::kUint8,    DType::kUint16,  DType::kUint32, DType::kUint64};
  for (const DType type : kAll)
    for (const bool largest : {true, false}) {
      cases.push_back({.type = type, .dims = {3, 33}, .k = 31, .largest = largest});
      cases.push_back({.type = type, .dims = {2, 1000}, .k = 7, .largest = largest, .extra = 3, .shift = 1});
    }
  for (const std::int64_t n : {1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 1000, 2047, 2048, 2049, 4100})
    for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, n / 2, n - 1, n}) {
      if (k < 0 || k > n) continue;
      const bool odd = (n + k) % 2 != 0;
      cases.push_back({.dims = {n > 2000 ? 1 : 5, n}, .k = k, .largest = odd, .distinct = odd ? 97 : 5000});
    }
  cases.push_back({.dims = {2, 5, 3}, .axis = 1, .k = 4});
  cases.push_back({.type = DType::kFloat16, .dims = {3, 70, 2, 5}, .axis = 1, .k = 9, .extra = 2});
  cases.push_back({.type = DType::kInt64, .dims = {65, 4, 3}, .axis = 0, .k = 65, .largest = false});
  cases.push_back({.dims = {0, 4}, .k = 2});
  cases.push_back({.dims = {4, 0}, .k = 0});
  cases.push_back({.dims = {2, 300}, .k = 8, .values = false});
  cases.push_back({.dims = {2, 300}, .k = 8, .indices = false});
  cases.push_back({.type = DType::kBFloat16, .dims = {2, 300}, .k = 8, .value_type = DType::kFloat32});
  cases.push_back({.dims = {2, 300}, .k = 300, .value_type = DType::kFloat16});
  cases.push_back({.type = DType::kFloat64, .dims = {1, 5000}, .k = 4000});
  cases.push_back({.dims = {2, 9000}, .k = 1300, .distinct = 3});
  cases.push_back({.dims = {1, 20011}, .k = 50});
  cases.push_back({.type = DType::kUint64, .dims = {1, 9001}, .k = 9001, .distinct = 100000});
  if (large) {
    for (const std::int64_t k : {1, 100, 512, 513, 2048, 5000, 100003})
      cases.push_back({.dims = {2, 100003}, .k = k, .largest = k % 2 != 0, .distinct = 30000});
    cases.push_back({.type = DType::kFloat16, .dims = {3, 151936}, .k = 50});
    cases.push_back({.type = DType::kInt64, .dims = {100003, 2}, .axis = 0, .k = 100003, .distinct = 50000});
    cases.push_back({.dims = {100003, 8}, .k = 2});
    cases.push_back({.dims = {70001, 33}, .k = 3});
    cases.push_back({.dims = {3000, 1000}, .k = 5, .extra = 1});
    cases.push_back({.type = DType::kFloat64, .dims = {1, 1000003}, .k = 300, .distinct = 900000});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
