// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of the random operators on CUDA devices: "cuda.random" binds the kernels of random.cu to strided tensors. A bound kernel owns a little memory
// of the device: a counter of its runs beside a key that only it has, or the numbers of the seed.

#include <array>
#include <random>

#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "ops/random/random_plan.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class RandomKernel final : public Kernel {
 public:
  explicit RandomKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    std::string why;
    if (!ops::random_how(request.params, how_, why)) throw Error(Code::kCorruptFile, "a step of random numbers with " + why);
    fit(request);
    const bool bernoulli = how_.kind == cuda::kRandomBernoulli, multinomial = how_.kind == cuda::kRandomMultinomial;
    count_ = device_.builtin_function("random", "random_count");
    draw_ = device_.builtin_function("random", bernoulli ? "random_bernoulli" : multinomial ? "random_multinomial" : how_.seed ? "random_copy" : "random_draw");
    const cuda::Current current(device_);
    // Whoever has the kernel has the device.
    const std::shared_ptr<cuda::Device> device(std::shared_ptr<cuda::Device>(), &device_);
    if (how_.seed) keep_numbers(device);
    else begin_runs(device);
  }

  /// Fewer numbers of a seed are the first of those that are there.
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); }) && (!how_.seed || params_.count <= kept_);
  }
  std::size_t scratch_bytes() const noexcept override { return how_.seed ? 0 : sizeof(unsigned long long); }

  Status run(const KernelIo& io) const noexcept override {
    if (params_.count == 0) return Status::ok();
    cuda::RandomParams p = params_;
    p.x = ops::reads_input(how_.kind) ? io.inputs[0] : nullptr;
    p.y = io.outputs[0];
    const auto stream = static_cast<cuda::StreamHandle>(io.stream);
    cuda::LaunchShape shape;
    shape.overlaps = device_.info().major >= 9;
    if (how_.seed) {
      p.numbers = memory_.data();
    } else {
      p.key[0] = key_[0], p.key[1] = key_[1];
      p.runs = static_cast<unsigned long long*>(memory_.data());
      p.run = static_cast<unsigned long long*>(io.scratch);
      shape.block = 32;
      if (const Status status = count_.launch_with(stream, shape, p); !status) return status;
    }
    shape.block = cuda::kRandomThreads;
    shape.grid_x = static_cast<std::uint32_t>(ops::random_blocks(p));
    return draw_.launch_with(stream, shape, p);
  }

 private:
  void fit(const BindRequest& request) {
    std::string why;
    if (!ops::random_plan(request.inputs, request.outputs, how_, params_, why)) throw Error(Code::kUnsupported, "a step of random numbers: " + why);
  }

  void begin_runs(const std::shared_ptr<cuda::Device>& device) {
    std::random_device random;
    for (std::uint32_t& word : key_) word = random();
    memory_ = cuda::Block(device, sizeof(unsigned long long));
    const cuda::Stream stream(device);
    device_.driver().require(device_.driver().fill_bytes(memory_.address(), 0, memory_.bytes(), stream.handle()), "cuMemsetD8Async of a counter");
    wait_for(stream);
  }

  void keep_numbers(const std::shared_ptr<cuda::Device>& device) {
    kept_ = params_.count;
    if (kept_ == 0) return;
    const Tensor numbers = ops::random_numbers(how_, kept_);
    if (!numbers.defined())
      throw Error(Code::kUnsupported, "a Bernoulli step: a number of its seed is so near to 1 that the format's reference may draw again");
    memory_ = cuda::Block(device, numbers.bytes());
    const cuda::Stream stream(device);
    device_.driver().require(device_.driver().copy_to_device(memory_.address(), numbers.raw(), numbers.bytes(), stream.handle()),
                             "cuMemcpyHtoDAsync of the numbers of a seed");
    wait_for(stream);
  }

  static void wait_for(const cuda::Stream& stream) {
    if (const Status status = stream.synchronize(); !status) throw Error(status.code(), std::string(status.message()));
  }

  cuda::Device& device_;
  ops::RandomHow how_;
  cuda::RandomParams params_;
  std::array<std::uint32_t, 2> key_{};
  cuda::Block memory_;
  std::int64_t kept_ = 0;  ///< numbers of a seed
  cuda::Function count_, draw_;
};

std::unique_ptr<Kernel> bind_random(const BindRequest& request) { return std::make_unique<RandomKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.random", bind_random, ""}}};

}  // namespace

KernelSet kernels_random_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
