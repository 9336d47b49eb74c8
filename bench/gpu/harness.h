// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the GPU benchmarks share: a device with a stream, buffers of random data, launches of product plans, times by events over graphs
// of repeated launches.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "backend/cuda/kernels/gemm_plan.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/module.h"
#include "backend/cuda/nvrtc.h"
#include "backend/cuda/stream.h"
#include "base/half.h"
#include "reference.h"

namespace lathe::bench {

inline void require(const Status& status) {
  if (!status) throw Error(status.code(), std::string(status.message()));
}

class Gpu {
 public:
  /// `images`: a folder of .cubin files that take the place of the embedded kernels; "" = none.
  explicit Gpu(std::string images)
      : device(cuda::Device::open(0)), current(*device), stream(device), start_(device), stop_(device), images_(std::move(images)) {
    const cuda::DeviceInfo& info = device->info();
    limits = {info.arch(), info.multiprocessors, info.shared_per_block, info.shared_per_multiprocessor};
    const cuda::Compiled code = cuda::Nvrtc::get().compile({kReferenceSource, "reference.cu", info.compile_arch(), {}, {}});
    reference_ = device->load_module("reference", code.image);
  }

  cuda::Function function(const std::string& module, const std::string& name, std::size_t shared) {
    cuda::Function f = module_of(module).function(name.c_str());
    if (shared > 32 * 1024 && allowed_.insert(name).second) f.allow_shared(shared);
    return f;
  }
  template <class Params>
  void reference(const char* name, const Params& params, std::size_t threads) {
    cuda::LaunchShape shape;
    shape.block = 256;
    shape.grid_x = static_cast<std::uint32_t>((threads + 255) / 256);
    require(reference_->function(name).launch_with(stream.handle(), shape, params));
  }
  void fill(const cuda::Block& block, unsigned char byte) {
    device->driver().require(device->driver().fill_bytes(block.address(), byte, block.bytes(), stream.handle()), "cuMemsetD8Async");
  }
  void upload(const cuda::Block& block, const void* data, std::size_t bytes) {
    device->driver().require(device->driver().copy_to_device(block.address(), data, bytes, stream.handle()), "cuMemcpyHtoDAsync");
    require(stream.synchronize());
  }
  void download(void* data, const cuda::Block& block, std::size_t bytes) {
    device->driver().require(device->driver().copy_to_host(data, block.address(), bytes, stream.handle()), "cuMemcpyDtoHAsync");
    require(stream.synchronize());
  }

  /// Microseconds of one call: the least of `replays` replays of a graph of `calls` calls.
  double time(const std::function<Status(int)>& call, int calls, int replays) {
    cuda::Graph graph;
    require(cuda::Graph::capture(
        device, stream.handle(),
        [&]() -> Status {
          for (int i = 0; i < calls; ++i)
            if (const Status status = call(i); !status) return status;
          return Status::ok();
        },
        graph));
    std::vector<double> times;
    require(graph.launch(stream.handle()));
    for (int i = 0; i < replays; ++i) {
      require(start_.record(stream.handle()));
      require(graph.launch(stream.handle()));
      require(stop_.record(stream.handle()));
      require(stop_.synchronize());
      times.push_back(stop_.seconds_since(start_) * 1e6 / calls);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  const cuda::Module& module_of(const std::string& name) {
    if (images_.empty()) return device->builtin_module(name);
    std::shared_ptr<const cuda::Module>& module = loaded_[name];
    if (!module) {
      const std::string path = images_ + "/" + name + ".cubin";
      std::ifstream file(path, std::ios::binary);
      if (!file) throw Error(Code::kIo, "cannot read " + path);
      const std::string image{std::istreambuf_iterator<char>(file), {}};
      module = device->load_module(path, std::as_bytes(std::span(image)));
    }
    return *module;
  }

  std::shared_ptr<cuda::Device> device;
  cuda::Current current;
  cuda::Stream stream;
  cuda::GpuLimits limits;
  std::mt19937 random{1234};

 private:
  cuda::Event start_, stop_;
  std::shared_ptr<const cuda::Module> reference_;
  std::set<std::string> allowed_;
  std::string images_;
  std::map<std::string, std::shared_ptr<const cuda::Module>> loaded_;
};

inline std::size_t bytes_of(cuda::ElementType type) { return type == cuda::kElementFloat32 ? 4 : 2; }

/// Uniform in [-scale, scale], rounded to the type; on the device and, where asked, as floats here.
inline cuda::Block random_block(Gpu& gpu, std::size_t count, cuda::ElementType type, float scale, std::vector<float>* values = nullptr) {
  // A million different values are random enough for larger tensors; the period is odd, so that rows differ.
  const std::size_t period = std::min<std::size_t>(count, 1000003);
  std::vector<std::byte> bytes(count * bytes_of(type));
  std::uniform_real_distribution<float> uniform(-scale, scale);
  if (values) values->resize(count);
  for (std::size_t i = 0; i < period; ++i) {
    const float v = uniform(gpu.random);
    if (type == cuda::kElementFloat32) {
      std::memcpy(&bytes[i * 4], &v, 4);
      if (values) (*values)[i] = v;
    } else {
      const std::uint16_t half = type == cuda::kElementFloat16 ? float_to_half(v) : float_to_bfloat16(v);
      std::memcpy(&bytes[i * 2], &half, 2);
      if (values) (*values)[i] = type == cuda::kElementFloat16 ? half_to_float(half) : bfloat16_to_float(half);
    }
  }
  for (std::size_t i = period; i < count; i += period) std::memcpy(&bytes[i * bytes_of(type)], bytes.data(), std::min(period, count - i) * bytes_of(type));
  if (values)
    for (std::size_t i = period; i < count; ++i) (*values)[i] = (*values)[i - period];
  cuda::Block block(gpu.device, bytes.size());
  gpu.upload(block, bytes.data(), bytes.size());
  return block;
}

/// Scratch for split products, zero at first.
struct SplitScratch {
  cuda::Block partials, counters;
  void reserve(Gpu& gpu, const cuda::GemmLaunch& launch) {
    if (partials.bytes() < launch.partial_bytes) partials = cuda::Block(gpu.device, launch.partial_bytes);
    if (counters.bytes() < launch.counters * 4) {
      counters = cuda::Block(gpu.device, launch.counters * 4);
      gpu.fill(counters, 0);
    }
  }
};

inline Status launch_gemm(Gpu& gpu, const cuda::GemmLaunch& launch, const cuda::Function& function) {
  cuda::LaunchShape shape;
  shape.grid_x = launch.grid[0];
  shape.grid_y = launch.grid[1];
  shape.grid_z = launch.grid[2];
  shape.block = launch.block;
  shape.cluster_y = launch.cluster_y;
  shape.shared_bytes = launch.shared_bytes;
  shape.overlaps = gpu.limits.arch >= 90;
  return function.launch_with(gpu.stream.handle(), shape, launch.params);
}

struct Verdict {
  double relative = 0, largest = 0;
  unsigned bad = 0, guards = 0;
};
inline Verdict compare(Gpu& gpu, const void* out, const float* reference, cuda::ElementType type, long long rows, long long columns, long long pixel,
                       long long guard) {
  const cuda::Block result(gpu.device, 32);
  gpu.fill(result, 0);
  ReferenceCompare c{out,
                     reference,
                     type,
                     rows,
                     columns,
                     pixel,
                     guard,
                     static_cast<double*>(result.data()),
                     reinterpret_cast<unsigned*>(static_cast<char*>(result.data()) + 16)};
  gpu.reference("reference_compare", c, std::min<std::size_t>(static_cast<std::size_t>(rows * columns), 132 * 1024));
  struct {
    double error, size;
    float largest;
    unsigned bad, guards, spare;
  } host;
  gpu.download(&host, result, 32);
  return {host.size > 0 ? std::sqrt(host.error / host.size) : INFINITY, host.largest, host.bad, host.guards};
}

}  // namespace lathe::bench
