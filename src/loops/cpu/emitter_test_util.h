// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs a region through the kernel "cpu.loops" for tests: tensors laid out with the strides asked for, guard bytes around every output
// and the scratch, one and three threads (whose results must be the same bytes), every instruction set of this CPU.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "loops/cpu/kernels.h"
#include "loops/region.h"
#include "plan/kernel.h"

namespace lathe::loops::cpu::testing {

/// A strided tensor in guarded memory.
class StridedTensor {
 public:
  explicit StridedTensor(plan::TensorDesc desc) : desc_(std::move(desc)), element_(dtype_bytes(desc_.dtype, 1)) {
    std::int64_t last = 0;
    for (std::size_t d = 0; d < desc_.dims.size(); ++d) last += std::max<std::int64_t>(desc_.dims[d] - 1, 0) * desc_.strides[d];
    store_.assign((desc_.elements() == 0 ? 0 : static_cast<std::size_t>(last + 1) * element_) + 2 * kGuard + 64, kFill);
    const auto at = reinterpret_cast<std::uintptr_t>(store_.data()) + kGuard;
    begin_ = static_cast<std::size_t>(((at + 63) & ~std::uintptr_t{63}) - reinterpret_cast<std::uintptr_t>(store_.data()));
  }
  const plan::TensorDesc& desc() const { return desc_; }
  std::byte* data() { return store_.data() + begin_; }
  /// All of the memory, guards included, and where the tensor begins in it.
  std::vector<std::byte>& store() { return store_; }
  std::size_t begin() const { return begin_; }

  void write(const Tensor& dense) {
    const Tensor source = dense.dtype() == desc_.dtype ? dense : dense.cast(desc_.dtype);
    visit([&](std::int64_t i, std::int64_t at) {
      std::memcpy(data() + static_cast<std::size_t>(at) * element_, source.raw() + static_cast<std::size_t>(i) * element_, element_);
    });
  }
  Tensor read() {
    Tensor dense(desc_.dtype, desc_.dims);
    std::byte* out = dense.mutable_raw();
    visit([&](std::int64_t i, std::int64_t at) {
      std::memcpy(out + static_cast<std::size_t>(i) * element_, data() + static_cast<std::size_t>(at) * element_, element_);
    });
    return dense;
  }
  /// True when only elements of the tensor were written.
  bool intact() {
    std::vector<bool> own(store_.size(), false);
    visit([&](std::int64_t, std::int64_t at) {
      for (std::size_t b = 0; b < element_; ++b) own[begin_ + static_cast<std::size_t>(at) * element_ + b] = true;
    });
    for (std::size_t i = 0; i < store_.size(); ++i)
      if (!own[i] && store_[i] != kFill) return false;
    return true;
  }

 private:
  template <class F>
  void visit(F f) {
    const std::int64_t count = desc_.elements();
    Dims index(desc_.dims.size(), 0);
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t at = 0;
      for (std::size_t d = 0; d < index.size(); ++d) at += index[d] * desc_.strides[d];
      f(i, at);
      for (std::size_t d = index.size(); d-- > 0;) {
        if (++index[d] < desc_.dims[d]) break;
        index[d] = 0;
      }
    }
  }
  static constexpr std::size_t kGuard = 192;
  static constexpr std::byte kFill{0xA5};
  plan::TensorDesc desc_;
  std::size_t element_, begin_ = 0;
  std::vector<std::byte> store_;
};

/// Dimensions in a random memory order, with gaps now and then.
inline plan::TensorDesc random_layout(DType dtype, const Dims& dims, std::mt19937& gen) {
  plan::TensorDesc desc = plan::TensorDesc::row_major(dtype, dims);
  const int kind = static_cast<int>(gen() % 3);
  if (kind == 0 || dims.empty()) return desc;
  std::vector<std::size_t> order(dims.size());
  for (std::size_t d = 0; d < order.size(); ++d) order[d] = d;
  if (kind == 1 && dims.size() >= 3) {  // channels-last
    order.erase(order.begin() + 1);
    order.push_back(1);
  } else {
    std::shuffle(order.begin(), order.end(), gen);
  }
  std::int64_t stride = gen() % 8 == 0 ? 2 : 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    desc.strides[order[i]] = stride;
    stride = stride * std::max<std::int64_t>(dims[order[i]], 1) + (gen() % 4 == 0 ? static_cast<std::int64_t>(gen() % 5) : 0);
  }
  return desc;
}

struct EmitterCase {
  LoopRegion region;
  ir::Bindings symbols;
  std::vector<Tensor> inputs;               ///< in the logical types
  std::vector<plan::TensorDesc> ins, outs;  ///< how they lie in memory
};

/// Outputs in the stored types.
inline std::vector<Tensor> run_emitter(const EmitterCase& c, int threads) {
  ir::Attrs params;
  params.set("region", c.region.serialize());
  std::vector<StridedTensor> ins, outs;
  for (std::size_t i = 0; i < c.ins.size(); ++i) ins.emplace_back(c.ins[i]).write(c.inputs[i]);
  for (const plan::TensorDesc& desc : c.outs) outs.emplace_back(desc);
  std::vector<const void*> in;
  std::vector<void*> out;
  for (StridedTensor& t : ins) in.push_back(t.data());
  for (StridedTensor& t : outs) out.push_back(t.data());
  const std::vector<const void*> constants(in.size(), nullptr);
  const plan::BindRequest request{params, c.ins, c.outs, constants, {}, c.symbols, threads};
  const auto kernel = plan::find_kernel("cpu.loops")->bind(request);
  // What was compiled again into the same memory must be the same.
  if (threads > 1) {
    EXPECT_TRUE(kernel->rebind(request));
  }
  StridedTensor scratch(plan::TensorDesc::row_major(DType::kUint8, {static_cast<std::int64_t>(kernel->scratch_bytes())}));
  ThreadPool pool(threads);
  const plan::KernelIo io{in.data(), out.data(), scratch.data(), &pool};
  const Status status = kernel->run(io);
  EXPECT_TRUE(status) << status.message();
  EXPECT_TRUE(scratch.intact()) << "written beside the scratch";
  std::vector<Tensor> results;
  for (StridedTensor& t : outs) {
    EXPECT_TRUE(t.intact()) << "written beside an output";
    results.push_back(t.read());
  }
  return results;
}

/// Calls f(name) once per instruction set of this CPU, the kernels of which are then in use.
template <class F>
void for_each_target(F f) {
  for (const Kernels* table : all_kernels()) {
    choose_kernels(table);
    f(table->target);
    choose_kernels(nullptr);
  }
}

}  // namespace lathe::loops::cpu::testing
