// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Drives a candidate for GPUs as the builder and the runtime do: layouts, plans, packing, binding, moving to other extents, a plain run and a replay
// of a captured graph; and compares with the ops' references. The device is a real one or the tests' fake.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "builder/proposals.h"
#include "builder/test_models.h"
#include "ops/candidate.h"
#include "ops/reference_runner.h"
#include "regions/candidate_test_util.h"

namespace lathe::testing_gpu {

struct Trial {
  DType storage = DType::kFloat16;  ///< of run-time float32 values
  bool tf32 = false;
  std::int64_t extra = 0;    ///< elements between rows (pixels) beyond dense
  ir::Bindings planned, at;  ///< extents that it is planned for; and runs at
  double allowed = 2e-3;     ///< of the result's scale
  std::size_t shift = 0;     ///< elements that every tensor begins behind a multiple of 256 bytes
  std::string nan_input;     ///< the first element of this input is NaN
};

inline const ops::Candidate& gpu_candidate(std::string_view name) {
  for (const ops::Candidate* candidate : ops::all_candidates())
    if (candidate->name == name) return *candidate;
  throw Error(Code::kInternal, "no candidate is called " + std::string(name));
}

/// Numbers that every storage type holds: multiples of 1/8 from -1 to 1.
inline void coarsen(Tensor& tensor, std::uint32_t seed) {
  std::minstd_rand random(seed + 7);
  for (float& value : tensor.mutable_data<float>()) value = static_cast<float>(static_cast<int>(random() % 17) - 8) / 8;
}

class GpuCandidate {
 public:
  /// The widest region around the first node of this op.
  GpuCandidate(std::shared_ptr<cuda::Device> device, std::shared_ptr<ir::Model> model, std::string_view op, std::string_view candidate, Trial trial)
      : device_(std::move(device)), model_(std::move(model)), candidate_(gpu_candidate(candidate)), trial_(std::move(trial)), stream_(device_) {
    for (const ir::Node* node : model_->graph->nodes())
      if (regions_.empty() && node->is(op)) regions_ = builder::propose_anchored(*node);
    if (regions_.empty()) throw Error(Code::kInternal, "no region");
    for (const ir::Value* value : region().inputs)
      in_layouts_.push_back(value->is_constant() ? ops::Layout::kRowMajor : layout(false, in_layouts_.size(), value));
    for (const ir::Value* value : region().outputs) out_layouts_.push_back(layout(true, out_layouts_.size(), value));
  }

  ops::Verdict verdict() { return candidate_.supports(request()); }
  std::vector<ops::StepPlan> plans() { return candidate_.plan(request()); }

  /// Runs every plan and compares; returns how many there were.
  std::size_t check() {
    const ops::Verdict supported = verdict();
    EXPECT_TRUE(supported.yes) << supported.reason;
    if (!supported.yes) return 0;
    const cuda::Current current(*device_);
    prepare();
    const auto all = plans();
    for (const ops::StepPlan& plan : all) run(plan);
    return all.size();
  }

  /// Of a plan for fixed extents: it moves to another first extent where a step like it was bound before, and only there.
  void check_moves_where_bound(std::int64_t first) {
    const ops::Verdict supported = verdict();
    ASSERT_TRUE(supported.yes) << supported.reason;
    const cuda::Current current(*device_);
    const ops::StepPlan plan = plans().at(0);
    const Weights weights = pack(plan);
    const std::vector<const void*> constants(plan.inputs.size(), nullptr);
    const auto descs = [&](const std::vector<ir::Value*>& values, const std::vector<ir::Value*>& all, const std::vector<ops::Layout>& layouts, bool moved) {
      std::vector<plan::TensorDesc> result;
      for (const ir::Value* value : values) {
        const ops::Layout layout = layouts[static_cast<std::size_t>(std::find(all.begin(), all.end(), value) - all.begin())];
        plan::TensorDesc& each = result.emplace_back(desc(value, layout, {}));
        if (moved) each.dims[0] = first;
        each.strides = regions::testing::strides_in(layout, each.dims, trial_.extra);
      }
      return result;
    };
    const auto ins = descs(plan.inputs, region().inputs, in_layouts_, false), outs = descs(plan.outputs, region().outputs, out_layouts_, false);
    const auto ins_there = descs(plan.inputs, region().inputs, in_layouts_, true), outs_there = descs(plan.outputs, region().outputs, out_layouts_, true);
    const plan::BindRequest here{plan.params, ins, outs, constants, weights.spans, {}, 1, nullptr, device_.get(), weights.pointers};
    const plan::BindRequest there{plan.params, ins_there, outs_there, constants, weights.spans, {}, 1, nullptr, device_.get(), weights.pointers};
    const plan::KernelType* type = plan::find_kernel(plan.kernel);
    const auto kernel = type->bind(here);
    EXPECT_FALSE(kernel->rebind(there));
    const auto other = type->bind(there);
    EXPECT_TRUE(kernel->rebind(there));
    EXPECT_TRUE(kernel->rebind(here));
    EXPECT_TRUE(other->rebind(here));
  }

 private:
  struct Memory {
    plan::TensorDesc desc;
    cuda::Block block;
    std::size_t begin = 0;
    void* data() const { return static_cast<std::byte*>(block.data()) + begin; }
  };

  const ops::Region& region() const { return regions_.front(); }
  ops::Layout layout(bool output, std::size_t i, const ir::Value* value) const {
    return value->shape().size() < 3 || !candidate_.layout ? ops::Layout::kRowMajor : candidate_.layout(region(), output, i);
  }
  plan::TensorDesc desc(const ir::Value* value, ops::Layout layout, const ir::Bindings& bindings) const {
    plan::TensorDesc result;
    result.dtype = value->is_constant() || value->dtype() != DType::kFloat32 ? value->dtype() : trial_.storage;
    result.dims = value->is_constant() ? value->constant.dims() : *ir::evaluate(value->shape(), bindings);
    result.strides = regions::testing::strides_in(layout, result.dims, value->is_constant() ? 0 : trial_.extra);
    return result;
  }
  ops::PlanRequest request() {
    std::vector<plan::TensorDesc> ins, outs;
    for (std::size_t i = 0; i < region().inputs.size(); ++i) ins.push_back(desc(region().inputs[i], in_layouts_[i], trial_.planned));
    for (std::size_t i = 0; i < region().outputs.size(); ++i) outs.push_back(desc(region().outputs[i], out_layouts_[i], trial_.planned));
    return {region(), ins, outs, in_layouts_, out_layouts_, false, ~0ull, 1, trial_.planned, device_.get(), trial_.tf32, true, ops::kCublasLt | ops::kCudnn};
  }

  /// Inputs of the region at the extents of the run, and what the references make of them.
  void prepare() {
    std::map<std::string, Tensor> inputs;
    std::uint32_t seed = 1;
    for (const ir::Value* value : model_->graph->inputs()) {
      Tensor tensor(DType::kFloat32, *ir::evaluate(value->shape(), trial_.at));
      coarsen(tensor, seed++);
      if (value->name == trial_.nan_input) tensor.mutable_data<float>()[0] = NAN;
      inputs[value->name] = std::move(tensor);
    }
    ops::RunnerOptions options;
    options.observe = [&](const ir::Value& value, Tensor& tensor) { known_[value.name] = tensor; };
    ops::ReferenceRunner(*model_->graph, options).run(inputs);
    for (auto& [name, tensor] : inputs) known_[name] = tensor;
  }

  Memory place(const ir::Value* value, ops::Layout layout, bool filled) {
    Memory memory{desc(value, layout, trial_.at), {}, 0};
    std::int64_t last = 0;
    for (std::size_t i = 0; i < memory.desc.dims.size(); ++i) last += std::max<std::int64_t>(memory.desc.dims[i] - 1, 0) * memory.desc.strides[i];
    memory.begin = 256 + trial_.shift * dtype_bytes(memory.desc.dtype, 1);
    std::vector<std::byte> bytes(memory.begin + dtype_bytes(memory.desc.dtype, last + 1) + 256, std::byte{0xA5});
    if (filled) {
      const Tensor stored = known_.at(value->name).cast(memory.desc.dtype);
      const std::size_t each = dtype_bytes(memory.desc.dtype, 1);
      regions::testing::for_each_offset(memory.desc, [&](std::int64_t i, std::int64_t at) {
        std::memcpy(bytes.data() + memory.begin + static_cast<std::size_t>(at) * each, stored.raw() + static_cast<std::size_t>(i) * each, each);
      });
    }
    memory.block = cuda::Block(device_, bytes.size());
    upload(memory.block, bytes);
    return memory;
  }
  void upload(const cuda::Block& block, std::span<const std::byte> bytes) {
    const cuda::Driver& driver = device_->driver();
    driver.require(driver.copy_to_device(block.address(), bytes.data(), bytes.size(), stream_.handle()), "upload");
    ASSERT_TRUE(stream_.synchronize());
  }
  void expect(const Memory& memory, const Tensor& want, const std::string& what) {
    std::vector<std::byte> bytes(memory.block.bytes());
    const cuda::Driver& driver = device_->driver();
    driver.require(driver.copy_to_host(bytes.data(), memory.block.address(), bytes.size(), stream_.handle()), "download");
    ASSERT_TRUE(stream_.synchronize());
    const std::size_t each = dtype_bytes(memory.desc.dtype, 1);
    std::vector<bool> inside(bytes.size(), false);
    Tensor element(memory.desc.dtype, {1});
    double scale = 0, worst = 0;
    std::int64_t worst_at = -1, nans = 0;
    regions::testing::for_each_offset(memory.desc, [&](std::int64_t i, std::int64_t at) {
      const std::size_t from = memory.begin + static_cast<std::size_t>(at) * each;
      for (std::size_t b = 0; b < each; ++b) inside[from + b] = true;
      std::memcpy(element.mutable_raw(), bytes.data() + from, each);
      const double expected = want.as_double(i), got = element.as_double(0);
      nans += std::isnan(expected) != std::isnan(got);
      if (std::isnan(expected)) return;
      scale = std::max(scale, std::fabs(expected));
      if (!(std::fabs(got - expected) <= worst)) worst = std::fabs(got - expected), worst_at = i;
    });
    EXPECT_EQ(nans, 0) << what << ": NaN where none should be, or none where one should";
    EXPECT_LE(worst, trial_.allowed * std::max(scale, 1.0)) << what << ": element " << worst_at << " at scale " << scale;
    for (std::size_t i = 0; i < bytes.size(); ++i)
      if (!inside[i] && bytes[i] != std::byte{0xA5}) {
        ADD_FAILURE() << what << ": bytes beside the result were written";
        break;
      }
  }

  /// A step's weights, packed and in the device's memory.
  struct Weights {
    std::vector<std::vector<std::byte>> packed;
    std::vector<cuda::Block> blocks;
    std::vector<std::span<const std::byte>> spans;
    std::vector<const void*> pointers;
  };
  Weights pack(const ops::StepPlan& plan) {
    Weights weights;
    for (const ops::WeightRequest& request : plan.weights) {
      std::vector<Tensor> sources;
      for (const ir::Value* source : request.sources) sources.push_back(source ? source->constant : Tensor());
      weights.packed.push_back(plan::find_pack_function(request.pack)->pack(request.params, sources));
    }
    for (const auto& bytes : weights.packed) {
      weights.blocks.emplace_back(device_, bytes.size());
      upload(weights.blocks.back(), bytes);
      weights.spans.emplace_back(bytes);
      weights.pointers.push_back(weights.blocks.back().data());
    }
    return weights;
  }

  void run(const ops::StepPlan& plan) {
    SCOPED_TRACE(plan.kernel + " " + plan.variant);
    const plan::KernelType* type = plan::find_kernel(plan.kernel);
    ASSERT_TRUE(type);
    EXPECT_EQ(type->unfit ? type->unfit(plan.params) : "", "");
    const Weights weights = pack(plan);
    std::vector<plan::TensorDesc> planned_ins, planned_outs, ins, outs;
    std::vector<Memory> memory;
    std::vector<const void*> in, constants(plan.inputs.size(), nullptr);
    std::vector<void*> out;
    for (const ir::Value* value : plan.inputs) {
      const auto at = static_cast<std::size_t>(std::find(region().inputs.begin(), region().inputs.end(), value) - region().inputs.begin());
      memory.push_back(place(value, in_layouts_[at], true));
      ins.push_back(memory.back().desc);
      planned_ins.push_back(desc(value, in_layouts_[at], trial_.planned));
      in.push_back(memory.back().data());
    }
    const ir::Value* result = plan.outputs.at(0);
    planned_outs.push_back(desc(result, out_layouts_[0], trial_.planned));
    const auto bind = [&](const std::vector<plan::TensorDesc>& from, const std::vector<plan::TensorDesc>& to, const ir::Bindings& symbols) {
      return plan::BindRequest{plan.params, from, to, constants, weights.spans, symbols, 1, nullptr, device_.get(), weights.pointers};
    };
    const Tensor& want = known_.at(result->name);
    const auto run_once = [&](const plan::Kernel& kernel, const char* how) {
      const cuda::Block scratch(device_, kernel.scratch_bytes() + 64);
      std::byte* scratch_at = static_cast<std::byte*>(scratch.data()) + 64;  // no more aligned than the runtime's
      for (const bool captured : {false, true}) {
        Memory target = place(result, out_layouts_[0], false);
        out = {target.data()};
        const plan::KernelIo io{in.data(), out.data(), scratch_at, nullptr, stream_.handle()};
        Status status;
        if (captured) {
          cuda::Graph graph;
          status = cuda::Graph::capture(
              device_, stream_.handle(), [&] { return kernel.run(io); }, graph);
          if (status) status = graph.launch(stream_.handle());
        } else {
          status = kernel.run(io);
        }
        ASSERT_TRUE(status) << how << ": " << status.message();
        expect(target, want, std::string(how) + (captured ? ", captured" : ""));
      }
    };
    outs.push_back(desc(result, out_layouts_[0], trial_.at));
    try {
      const auto kernel = type->bind(bind(ins, outs, trial_.at));
      run_once(*kernel, "bound");
      const auto moved = type->bind(bind(planned_ins, planned_outs, trial_.planned));
      EXPECT_TRUE(moved->rebind(bind(ins, outs, trial_.at))) << "it does not move";
      run_once(*moved, "moved");
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
  }

  std::shared_ptr<cuda::Device> device_;
  std::shared_ptr<ir::Model> model_;
  const ops::Candidate& candidate_;
  Trial trial_;
  cuda::Stream stream_;
  std::vector<ops::Region> regions_;
  std::vector<ops::Layout> in_layouts_, out_layouts_;
  std::map<std::string, Tensor> known_;
};

}  // namespace lathe::testing_gpu
