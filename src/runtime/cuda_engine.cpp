// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See cuda_engine.h.

#include "runtime/cuda_engine.h"

#include <fmt/format.h>

#include "backend/cuda/stream.h"

namespace lathe::runtime {
namespace {

constexpr std::size_t kAlignment = 256;

void mark(const plan::Program& program, std::vector<bool>& named) {
  const auto note = [&](plan::BlobId id) {
    if (id >= 0 && static_cast<std::size_t>(id) < named.size()) named[static_cast<std::size_t>(id)] = true;
  };
  for (const plan::Step& step : program.steps)
    if (step.kind != plan::StepKind::kHostOp)
      for (const plan::BlobId id : step.weights) note(id);
  for (const plan::Slot& slot : program.slots)
    if (slot.storage == plan::Storage::kConstant) note(slot.blob);
  for (const plan::Program& sub : program.subprograms) mark(sub, named);
}

}  // namespace

CudaEngine::CudaEngine(const engine::EngineData& data, const plan::Program& program, int ordinal) : device_(cuda::Device::open(ordinal)) {
  std::vector<bool> named(data.blobs.size(), false);
  mark(program, named);
  offsets_.assign(named.size(), -1);
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < named.size(); ++i) {
    if (!named[i]) continue;
    offsets_[i] = static_cast<std::ptrdiff_t>(bytes);
    bytes += (data.blob_bytes[i].size() + kAlignment - 1) / kAlignment * kAlignment;
  }
  if (bytes == 0) return;
  memory_ = cuda::Block(device_, bytes);
  const cuda::Current current(*device_);
  const cuda::Stream stream(device_);
  const cuda::Driver& driver = device_->driver();
  for (std::size_t i = 0; i < named.size(); ++i)
    if (named[i] && !data.blob_bytes[i].empty())
      driver.require(driver.copy_to_device(memory_.address() + static_cast<std::size_t>(offsets_[i]), data.blob_bytes[i].data(), data.blob_bytes[i].size(),
                                           stream.handle()),
                     "cuMemcpyHtoDAsync of the weights");
  if (const Status status = stream.synchronize(); !status) throw Error(status.code(), std::string(status.message()));
}

const void* CudaEngine::blob(plan::BlobId id) const noexcept {
  const std::ptrdiff_t offset = id < 0 || static_cast<std::size_t>(id) >= offsets_.size() ? -1 : offsets_[static_cast<std::size_t>(id)];
  return offset < 0 ? nullptr : static_cast<const std::byte*>(memory_.data()) + offset;
}

std::string cuda_section_unfit(const std::string& device, int ordinal) {
  std::string why;
  const std::vector<cuda::DeviceInfo> devices = cuda::list_devices(&why);
  if (devices.empty()) return fmt::format("the section '{}' needs an NVIDIA GPU: {}", device, why);
  if (ordinal < 0 || static_cast<std::size_t>(ordinal) >= devices.size())
    return fmt::format("the section '{}' was asked for on GPU {}, the driver shows {}", device, ordinal, devices.size());
  const cuda::DeviceInfo& info = devices[static_cast<std::size_t>(ordinal)];
  if (device != "cuda:" + info.arch_name())
    return fmt::format("the section '{}' is for another architecture than {} ({})", device, info.arch_name(), info.name);
  return {};
}

}  // namespace lathe::runtime
