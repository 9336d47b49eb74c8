// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs one bound kernel on guarded tensors (kernel_cases.h) in a device's memory: as bound, moved there from other extents, and as a replayed graph.

#include "backend/cuda/device.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "kernel_cases.h"
#ifdef LATHE_FAKE_CUDA
#include "fake_cuda.h"
#endif

namespace lathe::testing_gpu {

/// The driver that checks calls computes nothing: then nothing is compared.
#ifdef LATHE_FAKE_CUDA
inline constexpr bool kComputes = false;
#else
inline constexpr bool kComputes = true;
#endif

inline void expect_right_calls() {
#ifdef LATHE_FAKE_CUDA
  EXPECT_STREQ(fake_cuda_violations(), "");
#endif
}

class KernelRunner {
 public:
  explicit KernelRunner(std::shared_ptr<cuda::Device> device) : device_(std::move(device)), current_(*device_), stream_(device_) {}

  struct Step {
    std::string kernel;
    ir::Attrs params;
    std::vector<GuardedTensor*> inputs, outputs;  ///< without type: left out
    std::vector<std::vector<std::byte>> weights;
    bool moves = false;  ///< also from these
    std::vector<plan::TensorDesc> other_inputs, other_outputs;
  };

  /// Leaves the results in the outputs after each way; `compare` is called then.
  template <class Compare>
  void run(const Step& step, Compare compare) {
    const cuda::Driver& driver = device_->driver();
    std::vector<cuda::Block> weight_blocks, blocks;
    std::vector<std::span<const std::byte>> weights;
    std::vector<const void*> device_weights, in, constants(step.inputs.size(), nullptr);
    for (const auto& bytes : step.weights) {
      weight_blocks.emplace_back(device_, bytes.size() + 64);
      if (!bytes.empty()) driver.require(driver.copy_to_device(weight_blocks.back().address(), bytes.data(), bytes.size(), stream_.handle()), "upload");
      weights.emplace_back(bytes);
      device_weights.push_back(weight_blocks.back().data());
    }
    std::vector<plan::TensorDesc> ins, outs;
    std::vector<void*> out;
    const auto place = [&](GuardedTensor& t) -> void* {
      if (t.desc.dtype == DType::kUndefined) return nullptr;
      blocks.emplace_back(device_, t.bytes.size());
      upload(blocks.back(), t);
      return static_cast<std::byte*>(blocks.back().data()) + t.begin;
    };
    for (GuardedTensor* t : step.inputs) ins.push_back(t->desc), in.push_back(place(*t));
    const std::size_t first_out = blocks.size();
    for (GuardedTensor* t : step.outputs) outs.push_back(t->desc), out.push_back(place(*t));
    const plan::KernelType* type = plan::find_kernel(step.kernel);
    ASSERT_TRUE(type);
    const plan::BindRequest request{step.params, ins, outs, constants, weights, {}, 1, nullptr, device_.get(), device_weights};
    const auto once = [&](const plan::Kernel& kernel, bool captured) {
      const cuda::Block scratch(device_, kernel.scratch_bytes() + 128);
      const std::vector<std::byte> dirt(kernel.scratch_bytes() + 128, std::byte{0xFF});  // NaN, and no place
      driver.require(driver.copy_to_device(scratch.address(), dirt.data(), dirt.size(), stream_.handle()), "upload");
      std::size_t at = first_out;
      for (GuardedTensor* t : step.outputs) {
        if (t->desc.dtype == DType::kUndefined) continue;
        std::fill(t->bytes.begin(), t->bytes.end(), std::byte{0xA5});
        upload(blocks[at++], *t);
      }
      const plan::KernelIo io{in.data(), out.data(), static_cast<std::byte*>(scratch.data()) + 64, nullptr, stream_.handle()};
      Status status;
      if (captured) {
        cuda::Graph graph;
        status = cuda::Graph::capture(
            device_, stream_.handle(), [&] { return kernel.run(io); }, graph);
        if (status) status = graph.launch(stream_.handle());
      } else {
        status = kernel.run(io);
      }
      ASSERT_TRUE(status) << status.message();
      at = first_out;
      for (GuardedTensor* t : step.outputs) {
        if (t->desc.dtype == DType::kUndefined) continue;
        driver.require(driver.copy_to_host(t->bytes.data() + t->lead, blocks[at++].address(), t->bytes.size() - t->lead, stream_.handle()), "download");
      }
      std::vector<std::byte> after(dirt.size());
      driver.require(driver.copy_to_host(after.data(), scratch.address(), after.size(), stream_.handle()), "download");
      ASSERT_TRUE(stream_.synchronize());
      for (std::size_t i = 0; i < after.size(); ++i)
        if (i < 64 || i >= 64 + kernel.scratch_bytes()) {
          ASSERT_EQ(after[i], std::byte{0xFF}) << "bytes beside the workspace were written";
        }
      compare();
    };
    try {
      const auto kernel = type->bind(request);
      once(*kernel, false);
      if (testing::Test::HasFatalFailure() || !step.moves) return;
      const auto moved = type->bind({step.params, step.other_inputs, step.other_outputs, constants, weights, {}, 1, nullptr, device_.get(), device_weights});
      ASSERT_TRUE(moved->rebind(request)) << "it does not move";
      once(*moved, true);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
  }

  cuda::Device& device() { return *device_; }

 private:
  void upload(const cuda::Block& block, GuardedTensor& t) {
    const cuda::Driver& driver = device_->driver();
    driver.require(driver.copy_to_device(block.address(), t.bytes.data() + t.lead, t.bytes.size() - t.lead, stream_.handle()), "upload");
    ASSERT_TRUE(stream_.synchronize());
  }

  std::shared_ptr<cuda::Device> device_;
  cuda::Current current_;
  cuda::Stream stream_;
};

/// Each case up to the first that fails: its tensors, the step that `step_of(case, tensors)` says, run in every way. `compare(case, tensors)` is asked
/// where the device computes.
template <class Tensors, class Case, class StepOf, class Compare>
void run_cases(const std::vector<Case>& cases, StepOf step_of, Compare compare) {
  KernelRunner runner(cuda::Device::open(0));
  for (const Case& c : cases) {
    SCOPED_TRACE(c.describe());
    Tensors t(c);
    runner.run(step_of(c, t), [&] {
      if (kComputes) compare(c, t);
    });
    if (testing::Test::HasFailure()) return;
  }
  expect_right_calls();
}
template <class Tensors, class Case, class StepOf>
void run_cases(const std::vector<Case>& cases, StepOf step_of) {
  run_cases<Tensors>(cases, step_of, [](const Case&, Tensors& t) { t.compare(); });
}

}  // namespace lathe::testing_gpu
