// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.loops": a region of the region language on a GPU, and "cuda.copy": the same elements in another memory order or floating type, which
// is a region too. Binding emits the source for the concrete strides and asks the device for its compiled module.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/cuda/device.h"
#include "loops/cuda/emitter.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

using loops::BufferId;
using loops::LoopRegion;
using loops::Role;
using loops::cuda::kMaxParameterBytes;
using loops::cuda::Launch;

std::size_t align(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

class LoopsKernel final : public Kernel {
 public:
  LoopsKernel(const LoopRegion& region, std::span<const TensorDesc> inputs, std::span<const TensorDesc> outputs, const BindRequest& request) {
    if (!request.device) throw Error(Code::kInternal, "a CUDA kernel was bound without a device");
    auto& device = *static_cast<cuda::Device*>(request.device);
    loops::check_requirements(region, request.symbols);
    std::vector<TensorDesc> descs;
    std::size_t in = 0, out = 0;
    for (const loops::Buffer& buffer : region.buffers) {
      const auto dims = ir::evaluate(buffer.shape, request.symbols);
      if (!dims) throw Error(Code::kCorruptFile, fmt::format("the shape of '{}' has an unbound symbol", buffer.name));
      if (buffer.role == Role::kTemporary) {
        descs.push_back(TensorDesc::row_major(buffer.dtype, *dims));
        places_.push_back({Place::kScratch, scratch_});
        scratch_ += align(dtype_bytes(buffer.dtype, descs.back().elements()));
        continue;
      }
      const bool is_input = buffer.role == Role::kInput;
      const auto list = is_input ? inputs : outputs;
      const std::size_t at = is_input ? in++ : out++;
      if (at >= list.size()) throw Error(Code::kCorruptFile, "a loops step has fewer tensors than its region has buffers");
      if (list[at].dims != *dims)
        throw Error(Code::kInternal, fmt::format("'{}' has the extents {}, its region says {}", buffer.name, to_string(list[at].dims), to_string(*dims)));
      descs.push_back(list[at]);
      places_.push_back({is_input ? Place::kInput : Place::kOutput, at});
    }
    loops::cuda::EmitOptions options;
    options.multiprocessors = device.info().multiprocessors;
    loops::cuda::Emitted emitted = loops::cuda::emit(region, descs, request.symbols, options);
    overlaps_ = device.info().major >= 9;
    symbolic_ = !request.symbols.empty();
    if (emitted.launches.empty()) return;
    module_ = device.compiled_module(std::string(loops::cuda::device_prelude()) + emitted.source);
    for (Launch& launch : emitted.launches) {
      Ready ready;
      ready.function = module_->function(launch.kernel.c_str());
      if (!launch.unaligned_kernel.empty()) ready.unaligned = module_->function(launch.unaligned_kernel.c_str());
      ready.launch = std::move(launch);
      launches_.push_back(std::move(ready));
    }
  }

  std::size_t scratch_bytes() const noexcept override { return scratch_; }
  /// Extents stand in expressions too: bound anew when any symbol changes.
  bool reads_symbols() const noexcept override { return symbolic_; }

  Status run(const KernelIo& io) const noexcept override {
    for (const Ready& ready : launches_) {
      const Launch& launch = ready.launch;
      alignas(16) std::array<std::byte, kMaxParameterBytes> parameters;
      std::array<const void*, kMaxParameterBytes / sizeof(void*)> pointers;
      bool aligned = true;
      for (std::size_t i = 0; i < launch.pointers.size(); ++i) {
        pointers[i] = pointer(io, launch.pointers[i]);
        aligned = aligned && reinterpret_cast<std::uintptr_t>(pointers[i]) % launch.alignment[i] == 0;
      }
      const bool plain = !aligned && ready.unaligned;
      const auto& numbers = plain ? launch.unaligned_parameters : launch.parameters;
      std::memcpy(parameters.data(), numbers.data(), numbers.size());
      std::memcpy(parameters.data(), pointers.data(), launch.pointers.size() * sizeof(void*));
      cuda::LaunchShape shape;
      shape.grid_x = plain ? launch.unaligned_blocks : launch.blocks;
      shape.block = loops::cuda::kThreads;
      shape.overlaps = overlaps_;
      void* arguments[] = {parameters.data()};
      if (const Status status = (plain ? ready.unaligned : ready.function).launch(static_cast<cuda::StreamHandle>(io.stream), shape, arguments); !status)
        return status;
    }
    return Status::ok();
  }

 private:
  struct Place {
    enum Kind { kInput, kOutput, kScratch } kind;
    std::size_t at;  // index of the tensor, or offset in the scratch
  };
  struct Ready {
    Launch launch;
    cuda::Function function, unaligned;
  };

  const void* pointer(const KernelIo& io, BufferId buffer) const noexcept {
    const Place& place = places_[static_cast<std::size_t>(buffer)];
    switch (place.kind) {
      case Place::kInput: return io.inputs[place.at];
      case Place::kOutput: return io.outputs[place.at];
      case Place::kScratch: break;
    }
    return static_cast<const std::byte*>(io.scratch) + place.at;
  }

  std::vector<Place> places_;
  std::shared_ptr<const cuda::Module> module_;
  std::vector<Ready> launches_;
  std::size_t scratch_ = 0;
  bool overlaps_ = false, symbolic_ = false;
};

std::unique_ptr<Kernel> bind_loops(const BindRequest& request) {
  return std::make_unique<LoopsKernel>(loops::parse_region(request.params.get_string("region", "")), request.inputs, request.outputs, request);
}

/// Types that a copy between equal types may treat as plain bytes.
DType carrier(DType type) {
  switch (dtype_bits(type)) {
    case 8: return DType::kUint8;
    case 16: return DType::kUint16;
    case 32: return DType::kUint32;
    case 64: return DType::kUint64;
    default: throw Error(Code::kUnsupported, fmt::format("cuda.copy of {} has no kernel", dtype_name(type)));
  }
}

/// Every element of `to` is that of `from` at the same index; with `pad`, zero where there is none.
LoopRegion copy_region(const TensorDesc& src, const TensorDesc& dst, DType logical, bool pad) {
  LoopRegion region;
  ir::Shape from(src.dims.begin(), src.dims.end()), to(dst.dims.begin(), dst.dims.end());
  region.buffers = {{"from", logical, from, Role::kInput}, {"to", logical, to, Role::kOutput}};
  loops::Stage stage;
  loops::Expr load;
  load.op = pad ? loops::ExprOp::kLoadOr : loops::ExprOp::kLoad;
  load.type = logical;
  load.index = 0;
  for (std::size_t d = 0; d < to.size(); ++d) {
    loops::Expr axis;
    axis.op = loops::ExprOp::kAxis;
    axis.type = DType::kInt64;
    axis.index = static_cast<std::int32_t>(d);
    load.args.push_back(static_cast<loops::ExprId>(d));
    stage.store_index.push_back(static_cast<loops::ExprId>(d));
    stage.axes.push_back({to[d], false});
    region.exprs.push_back(std::move(axis));
  }
  if (pad) {
    loops::Expr zero;
    zero.type = logical;
    load.args.push_back(static_cast<loops::ExprId>(region.exprs.size()));
    region.exprs.push_back(std::move(zero));
  }
  stage.value = static_cast<loops::ExprId>(region.exprs.size());
  stage.target = 1;
  region.exprs.push_back(std::move(load));
  region.stages.push_back(std::move(stage));
  return region;
}

std::unique_ptr<Kernel> bind_copy(const BindRequest& request) {
  if (request.inputs.size() != 1 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "cuda.copy without source or target");
  TensorDesc src = request.inputs[0], dst = request.outputs[0];
  if (src.dims != dst.dims)
    throw Error(Code::kInternal, fmt::format("cuda.copy between different extents {} and {}", to_string(src.dims), to_string(dst.dims)));
  DType logical = DType::kFloat32;
  if (src.dtype == dst.dtype) logical = src.dtype = dst.dtype = carrier(src.dtype);
  else if (!is_float(src.dtype) || !is_float(dst.dtype) || dtype_bits(src.dtype) < 16 || dtype_bits(dst.dtype) < 16)
    throw Error(Code::kUnsupported, fmt::format("cuda.copy from {} to {} has no kernel", dtype_name(src.dtype), dtype_name(dst.dtype)));
  return std::make_unique<LoopsKernel>(copy_region(src, dst, logical, false), std::array{src}, std::array{dst}, request);
}

/// A copy to larger extents; the surplus is zero.
std::unique_ptr<Kernel> bind_pad(const BindRequest& request) {
  if (request.inputs.size() != 1 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "cuda.pad without source or target");
  const TensorDesc &src = request.inputs[0], &dst = request.outputs[0];
  if (src.dims.size() != dst.dims.size() || !is_float(src.dtype) || !is_float(dst.dtype) || dtype_bits(src.dtype) < 16 || dtype_bits(dst.dtype) < 16)
    throw Error(Code::kUnsupported, fmt::format("cuda.pad from {} {} to {} {} has no kernel", dtype_name(src.dtype), to_string(src.dims), dtype_name(dst.dtype),
                                                to_string(dst.dims)));
  return std::make_unique<LoopsKernel>(copy_region(src, dst, DType::kFloat32, true), std::array{src}, std::array{dst}, request);
}

constexpr std::array<KernelType, 3> kKernels{{{"cuda.loops", bind_loops, ""}, {"cuda.copy", bind_copy, ""}, {"cuda.pad", bind_pad, ""}}};

}  // namespace

KernelSet kernels_loops_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
