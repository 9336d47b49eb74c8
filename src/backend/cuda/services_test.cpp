// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The services of the CUDA back end through a driver that checks every call and has no GPU (tests/fake_cuda).

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "backend/cuda/memory.h"
#include "backend/cuda/nvrtc.h"
#include "backend/cuda/stream.h"
#include "fake_cuda.h"

namespace lathe::cuda {
namespace {

// Before anything asks for the driver.
const int chosen = setenv("LATHE_CUDA_DRIVER", LATHE_FAKE_CUDA, 1);

class CudaServices : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(chosen, 0);
    fake_cuda_reset();
    device = Device::open(0);
  }
  void TearDown() override {
    device.reset();
    EXPECT_STREQ(fake_cuda_violations(), "");
    const fake_cuda_live live = fake_cuda_count();
    EXPECT_EQ(live.contexts, 0u);
    EXPECT_EQ(live.blocks + live.pinned_blocks + live.streams + live.events + live.modules + live.graphs, 0u) << "something was left behind";
  }
  std::shared_ptr<Device> device;
};

constexpr const char* kSource = R"(
struct Params { const float* x; float* y; int count; };
extern "C" __global__ void scale(const Params p) { int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < p.count) p.y[i] = 2 * p.x[i]; }
)";
struct ScaleParams {
  const float* x;
  float* y;
  int count;
};

std::vector<std::byte> compiled() { return Nvrtc::get().compile({kSource, "scale.cu", "sm_90a", {}, {}}).image; }

TEST_F(CudaServices, DeviceTellsItsLimits) {
  const DeviceInfo& info = device->info();
  EXPECT_EQ(info.arch_name(), "sm_90");
  EXPECT_EQ(info.compile_arch(), "sm_90a");
  EXPECT_EQ(info.multiprocessors, 132);
  EXPECT_NEAR(info.memory_bytes_per_second, 3.35e12, 1e10);
  try {
    Device::open(3);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kMachine);
    EXPECT_NE(std::string(error.what()).find("cuda:3"), std::string::npos) << error.what();
  }
}

TEST_F(CudaServices, ADeviceKeepsALibrarysObjectsUntilItCloses) {
  int made = 0, destroyed = 0, with_context = 0;
  const auto make = [&] {
    ++made;
    with_context += fake_cuda_has_context();
    return std::shared_ptr<void>(&made, [&](void*) {
      ++destroyed;
      with_context += fake_cuda_has_context();
    });
  };
  const auto first = device->companion("a", make).get();
  EXPECT_EQ(device->companion("a", make).get(), first);
  EXPECT_EQ(made, 1);
  device->companion("b", make);
  device.reset();
  EXPECT_EQ(made, 2);
  EXPECT_EQ(destroyed, 2);
  EXPECT_EQ(with_context, 4);
}

TEST_F(CudaServices, MemoryComesAndGoes) {
  DeviceAllocator allocator(device);
  Stream stream(device);
  for (const MemorySpace space : {MemorySpace::kHost, MemorySpace::kPinned, MemorySpace::kDevice}) {
    void* data = allocator.allocate(1000, 64, space, nullptr);
    ASSERT_NE(data, nullptr);
    EXPECT_EQ(is_device_memory(*device, data), space == MemorySpace::kDevice);
    allocator.deallocate(data, 1000, space, nullptr);
  }
  void* ordered = allocator.allocate(1000, 64, MemorySpace::kDevice, stream.handle());
  ASSERT_NE(ordered, nullptr);
  allocator.deallocate(ordered, 1000, MemorySpace::kDevice, stream.handle());
  EXPECT_EQ(allocator.allocate(1000, 4096, MemorySpace::kDevice, nullptr), nullptr) << "more alignment than the driver promises";
}

TEST_F(CudaServices, OutOfMemoryIsOneErrorAndTheNextRequestIsFine) {
  fake_cuda_set_memory(1 << 20);
  DeviceAllocator allocator(device);
  EXPECT_EQ(allocator.allocate(2 << 20, 64, MemorySpace::kDevice, nullptr), nullptr);
  try {
    Block block(device, 2 << 20);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("2097152 bytes"), std::string::npos) << error.what();
  }
  Block block(device, 1 << 19);
  EXPECT_NE(block.data(), nullptr);
}

TEST_F(CudaServices, CopiesGoThereAndBack) {
  const Current current(*device);
  Stream stream(device);
  Block a(device, 400), b(device, 400);
  std::vector<float> out(100), in(100);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  const Driver& driver = device->driver();
  driver.require(driver.copy_to_device(a.address(), in.data(), 400, stream.handle()), "copy");
  driver.require(driver.copy_on_device(b.address(), a.address(), 400, stream.handle()), "copy");
  driver.require(driver.copy_to_host(out.data(), b.address(), 400, stream.handle()), "copy");
  EXPECT_TRUE(stream.synchronize());
  EXPECT_EQ(in, out);
}

TEST_F(CudaServices, GraphsHoldWhatWasEnqueued) {
  if (!Nvrtc::find()) GTEST_SKIP() << "no NVRTC here";
  const Current current(*device);
  const auto module = device->load_module("scale", compiled());
  EXPECT_EQ(module, device->load_module("scale", {}));  // loaded once
  const Function function = module->function("scale");
  EXPECT_THROW(module->function("absent"), Error);
  fake_cuda_fail("cuModuleGetFunction", 1, kErrorOutOfMemory);  // kernels are loaded when they are first asked for
  try {
    module->function("scale");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kOutOfMemory) << error.what();
  }
  Stream stream(device);
  Block x(device, 400), y(device, 400);
  const ScaleParams params{static_cast<float*>(x.data()), static_cast<float*>(y.data()), 100};
  LaunchShape shape;
  shape.overlaps = true;
  EXPECT_TRUE(function.launch_with(stream.handle(), shape, params));
  Graph graph;
  EXPECT_TRUE(Graph::capture(
      device, stream.handle(), [&] { return function.launch_with(stream.handle(), shape, params); }, graph));
  ASSERT_TRUE(graph);
  EXPECT_TRUE(graph.launch(stream.handle()));
  EXPECT_EQ(fake_cuda_count().captured, 1u);
  EXPECT_EQ(fake_cuda_count().graph_launches, 1u);
  // A failure inside ends the capture and leaves no graph.
  Graph none;
  const Status failed = Graph::capture(
      device, stream.handle(), [] { return Status(Code::kInternal, "stopped"); }, none);
  EXPECT_EQ(failed.message(), "stopped");
  EXPECT_FALSE(none);
  EXPECT_TRUE(stream.synchronize());
}

TEST_F(CudaServices, EventsMeasure) {
  const Current current(*device);
  Stream stream(device);
  Event start(device), stop(device);
  EXPECT_TRUE(start.record(stream.handle()));
  EXPECT_TRUE(stop.record(stream.handle()));
  EXPECT_TRUE(stop.synchronize());
  EXPECT_GT(stop.seconds_since(start), 0);
}

TEST_F(CudaServices, TheDriversWordsReachTheStatus) {
  const Current current(*device);
  Stream stream(device);
  fake_cuda_fail("cuStreamSynchronize", 1, kErrorOutOfMemory);
  const Status status = stream.synchronize();
  EXPECT_EQ(status.code(), Code::kOutOfMemory);
  EXPECT_EQ(status.message(), "cuStreamSynchronize: out of memory (CUDA_ERROR_OUT_OF_MEMORY)");
  EXPECT_TRUE(stream.synchronize());
}

TEST_F(CudaServices, WrongCallsAreCaught) {
  // The fake driver itself: without this, green tests above would say little.
  const Current current(*device);
  const Driver& driver = device->driver();
  Block block(device, 256);
  char host[512] = {};
  EXPECT_NE(driver.copy_to_device(block.address() + 100, host, 200, nullptr), kSuccess);
  EXPECT_NE(driver.release(block.address() + 8), kSuccess);
  EXPECT_NE(driver.stream_synchronize(reinterpret_cast<StreamHandle>(host)), kSuccess);
  if (Nvrtc::find()) {
    const Function function = device->load_module("scale", compiled())->function("scale");
    LaunchShape shape;
    const ScaleParams freed{reinterpret_cast<float*>(block.address()), reinterpret_cast<float*>(block.address() + 4096), 1};
    EXPECT_FALSE(function.launch_with(nullptr, shape, freed));
    shape.block = 2048;
    const ScaleParams good{static_cast<float*>(block.data()), static_cast<float*>(block.data()), 1};
    EXPECT_FALSE(function.launch_with(nullptr, shape, good));
    shape.block = 128;
    shape.shared_bytes = 100000;
    EXPECT_FALSE(function.launch_with(nullptr, shape, good));
    function.allow_shared(100000);
    EXPECT_TRUE(function.launch_with(nullptr, shape, good));
  }
  EXPECT_STRNE(fake_cuda_violations(), "");
  fake_cuda_reset();
}

TEST(CudaNvrtc, SourceThatDoesNotCompileIsAnErrorWithTheLog) {
  const Nvrtc* nvrtc = Nvrtc::find();
  if (!nvrtc) GTEST_SKIP() << "no NVRTC here";
  EXPECT_GE(nvrtc->major(), 12);
  try {
    nvrtc->compile({"__global__ void f() { nonsense; }", "bad.cu", "sm_90a", {}, {}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("nonsense"), std::string::npos);
  }
  const Compiled ptx = nvrtc->compile({kSource, "scale.cu", "compute_80", {}, {}});
  EXPECT_NE(std::strstr(reinterpret_cast<const char*>(ptx.image.data()), ".target sm_80"), nullptr);
}

TEST(CudaModules, TheBestImageIsChosen) {
  const EmbeddedModule list[] = {
      {"a", 80, false, false, {}}, {"a", 86, false, false, {}}, {"a", 90, true, false, {}}, {"a", 80, false, true, {}}, {"b", 90, true, false, {}}};
  const auto arch = [&](const char* name, int major, int minor) {
    const EmbeddedModule* m = choose_embedded(list, name, major, minor);
    return m ? m->arch + (m->ptx ? 1000 : 0) : 0;
  };
  EXPECT_EQ(arch("a", 8, 0), 80);
  EXPECT_EQ(arch("a", 8, 9), 86);
  EXPECT_EQ(arch("a", 9, 0), 90);
  EXPECT_EQ(arch("a", 10, 0), 1080) << "sm_90a runs on 9.0 alone: PTX";
  EXPECT_EQ(arch("a", 7, 5), 0);
  EXPECT_EQ(arch("b", 8, 6), 0);
}

}  // namespace
}  // namespace lathe::cuda
