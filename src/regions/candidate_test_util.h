// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Drives a candidate as the builder does (layouts, plan, packing, binding, run), for the tests of the region folders: seeded inputs in
// the storage types, memory orders and strides asked for, guard bytes around every output. Tests compare with their own plain loops.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "backend/cpu/features.h"
#include "base/half.h"
#include "base/thread_pool.h"
#include "ir/text.h"
#include "ops/candidate.h"
#include "plan/kernel.h"

namespace lathe::regions::testing {

struct RunOptions {
  DType storage = DType::kFloat32;          ///< of run-time float32 values
  std::map<std::string, DType> storage_of;  ///< exceptions, by name
  std::int64_t extra = 0;                   ///< elements between rows (pixels) beyond dense
  int threads = 2;
  std::uint64_t cpu_features = ~0ull;
  bool exact = false;
  ir::Bindings bindings;
  ir::Bindings run_bindings;            ///< bound at these instead (the plan must serve other shapes); empty: as planned
  std::map<std::string, Tensor> given;  ///< inputs with set contents
};

/// Row-major dense float32 (or the integer type's values) contents.
struct Dense {
  Dims dims;
  std::vector<double> values;
  double operator()(std::initializer_list<std::int64_t> index) const {
    std::int64_t at = 0;
    std::size_t axis = 0;
    for (const std::int64_t i : index) at = at * dims[axis++] + i;
    return values[static_cast<std::size_t>(at)];
  }
};

struct RunResult {
  std::string variant, kernel;
  std::map<std::string, Dense> outputs;
};

inline std::vector<std::int64_t> strides_in(ops::Layout layout, const Dims& dims, std::int64_t extra) {
  const std::size_t rank = dims.size();
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < rank; ++i)
    if (!(layout == ops::Layout::kChannelsLast && rank >= 3 && i == 1)) order.push_back(i);
  if (order.size() < rank) order.push_back(1);
  std::vector<std::int64_t> strides(rank, 1);
  std::int64_t stride = 1;
  for (std::size_t i = rank; i-- > 0;) {
    strides[order[i]] = stride;
    stride *= std::max<std::int64_t>(dims[order[i]], 1) + (i + 1 == rank ? extra : 0);
  }
  return strides;
}

template <class F>
void for_each_offset(const plan::TensorDesc& desc, F&& f) {
  const std::int64_t count = desc.elements();
  Dims index(desc.dims.size(), 0);
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t at = 0;
    for (std::size_t axis = 0; axis < index.size(); ++axis) at += index[axis] * desc.strides[axis];
    f(i, at);
    for (std::size_t axis = index.size(); axis-- > 0;) {
      if (++index[axis] < desc.dims[axis]) break;
      index[axis] = 0;
    }
  }
}

/// Memory of one tensor with guards; 64-byte aligned.
class Memory {
 public:
  explicit Memory(const plan::TensorDesc& desc) : desc_(desc) {
    std::int64_t last = 0;
    for (std::size_t i = 0; i < desc.dims.size(); ++i) last += std::max<std::int64_t>(desc.dims[i] - 1, 0) * desc.strides[i];
    bytes_ = desc.elements() == 0 ? 0 : dtype_bytes(desc.dtype, last + 1);
    store_.assign(bytes_ + 3 * kGuard, std::byte{0xA5});
  }
  std::byte* data() {
    const auto at = reinterpret_cast<std::uintptr_t>(store_.data()) + kGuard;
    return reinterpret_cast<std::byte*>((at + 63) & ~std::uintptr_t{63});
  }
  void fill(const std::vector<double>& values) {
    Tensor element(desc_.dtype, {1});
    for_each_offset(desc_, [&](std::int64_t i, std::int64_t at) {
      element.set_from_double(0, values[static_cast<std::size_t>(i)]);
      std::memcpy(data() + dtype_bytes(desc_.dtype, at), element.raw(), element.bytes());
    });
  }
  Dense read() {
    Dense dense{desc_.dims, std::vector<double>(static_cast<std::size_t>(desc_.elements()))};
    Tensor element(desc_.dtype, {1});
    for_each_offset(desc_, [&](std::int64_t i, std::int64_t at) {
      std::memcpy(element.mutable_raw(), data() + dtype_bytes(desc_.dtype, at), element.bytes());
      dense.values[static_cast<std::size_t>(i)] = element.as_double(0);
    });
    return dense;
  }
  /// True when nothing but the tensor's elements was written.
  bool intact() {
    std::vector<bool> inside(store_.size(), false);
    const std::size_t begin = static_cast<std::size_t>(data() - store_.data());
    const std::size_t each = dtype_bytes(desc_.dtype, 1);
    for_each_offset(desc_, [&](std::int64_t, std::int64_t at) {
      for (std::size_t b = 0; b < each; ++b) inside[begin + static_cast<std::size_t>(at) * each + b] = true;
    });
    for (std::size_t i = 0; i < store_.size(); ++i)
      if (!inside[i] && store_[i] != std::byte{0xA5}) return false;
    return true;
  }

 private:
  static constexpr std::size_t kGuard = 128;
  plan::TensorDesc desc_;
  std::size_t bytes_ = 0;
  std::vector<std::byte> store_;
};

class CandidateRunner {
 public:
  CandidateRunner(const ops::Region& region, const ops::Candidate& candidate, RunOptions options)
      : region_(region), candidate_(candidate), options_(std::move(options)) {
    if (options_.run_bindings.empty()) options_.run_bindings = options_.bindings;
    for (std::size_t i = 0; i < region.inputs.size(); ++i)
      in_layouts_.push_back(region.inputs[i]->is_constant() ? ops::Layout::kRowMajor : layout(false, i, region.inputs[i]));
    for (std::size_t i = 0; i < region.outputs.size(); ++i) out_layouts_.push_back(layout(true, i, region.outputs[i]));
    std::uint64_t seed = 1;
    for (const ir::Value* value : region.inputs) contents(value, seed++);
  }

  ops::Verdict verdict() const { return candidate_.supports(request(plan_inputs(), plan_outputs())); }

  /// What the candidate reads: values as stored.
  const Dense& input(const std::string& name) const { return inputs_.at(name); }

  /// Runs every plan.
  std::vector<RunResult> run() {
    std::vector<RunResult> results;
    const auto ins = plan_inputs(), outs = plan_outputs();
    for (const ops::StepPlan& plan : candidate_.plan(request(ins, outs))) results.push_back(run_plan(plan));
    return results;
  }

 private:
  ops::Layout layout(bool output, std::size_t i, const ir::Value* value) const {
    if (value->shape().size() < 3) return ops::Layout::kRowMajor;
    return candidate_.layout(region_, output, i);
  }
  plan::TensorDesc desc(const ir::Value* value, ops::Layout layout, const ir::Bindings& bindings) const {
    plan::TensorDesc result;
    result.dtype = value->dtype();
    if (!value->is_constant() && value->dtype() == DType::kFloat32) {
      const auto found = options_.storage_of.find(value->name);
      result.dtype = found == options_.storage_of.end() ? options_.storage : found->second;
    }
    result.dims = value->is_constant() ? value->constant.dims() : *ir::evaluate(value->shape(), bindings);
    result.strides = strides_in(layout, result.dims, value->is_constant() ? 0 : options_.extra);
    return result;
  }
  std::vector<plan::TensorDesc> plan_inputs() const {
    std::vector<plan::TensorDesc> result;
    for (std::size_t i = 0; i < region_.inputs.size(); ++i) result.push_back(desc(region_.inputs[i], in_layouts_[i], options_.bindings));
    return result;
  }
  std::vector<plan::TensorDesc> plan_outputs() const {
    std::vector<plan::TensorDesc> result;
    for (std::size_t i = 0; i < region_.outputs.size(); ++i) result.push_back(desc(region_.outputs[i], out_layouts_[i], options_.bindings));
    return result;
  }
  ops::PlanRequest request(const std::vector<plan::TensorDesc>& ins, const std::vector<plan::TensorDesc>& outs) const {
    return {region_, ins, outs, in_layouts_, out_layouts_, options_.exact, options_.cpu_features, options_.threads, options_.bindings};
  }

  void contents(const ir::Value* value, std::uint64_t seed) {
    const plan::TensorDesc d = desc(value, ops::Layout::kRowMajor, options_.run_bindings);
    Dense dense{d.dims, std::vector<double>(static_cast<std::size_t>(d.elements()))};
    Tensor element(d.dtype, {1});
    std::uint64_t state = seed * 0x9E3779B97F4A7C15ull + 12345;
    const auto given = options_.given.find(value->name);
    for (std::size_t i = 0; i < dense.values.size(); ++i) {
      double x;
      if (value->is_constant()) {
        x = value->constant.as_double(static_cast<std::int64_t>(i));
      } else if (given != options_.given.end()) {
        x = given->second.as_double(static_cast<std::int64_t>(i));
      } else {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        x = static_cast<double>(state >> 40) / (1 << 23) - 1.0;
        if (is_integer(d.dtype)) x = is_signed_integer(d.dtype) ? std::floor(x * 5) : std::floor(std::fabs(x) * 5);
      }
      element.set_from_double(0, x);
      dense.values[i] = element.as_double(0);
    }
    inputs_[value->name] = std::move(dense);
  }

  RunResult run_plan(const ops::StepPlan& plan) {
    RunResult result{plan.variant, plan.kernel, {}};
    const plan::KernelType* type = plan::find_kernel(plan.kernel);
    if (!type) {
      ADD_FAILURE() << "no kernel is called " << plan.kernel;
      return result;
    }
    std::vector<Tensor> blobs;
    std::vector<std::span<const std::byte>> weights;
    for (const ops::WeightRequest& request : plan.weights) {
      const plan::PackFunction* pack = plan::find_pack_function(request.pack);
      if (!pack) {
        ADD_FAILURE() << "no pack function is called " << request.pack;
        return result;
      }
      std::vector<Tensor> sources;
      for (const ir::Value* source : request.sources) sources.push_back(source ? source->constant : Tensor());
      const std::vector<std::byte> bytes = pack->pack(request.params, sources);
      Tensor blob(DType::kUint8, {static_cast<std::int64_t>(bytes.size())});
      if (!bytes.empty()) std::memcpy(blob.mutable_raw(), bytes.data(), bytes.size());
      blobs.push_back(std::move(blob));
    }
    for (const Tensor& blob : blobs) weights.emplace_back(blob.raw(), blob.bytes());

    std::vector<plan::TensorDesc> ins, outs, planned_ins, planned_outs;  // at the extents of the run, and at those of the plan
    std::vector<std::unique_ptr<Memory>> memory;
    std::vector<const void*> in, constants;
    std::vector<void*> out;
    for (const ir::Value* value : plan.inputs) {
      if (!value) {
        ins.emplace_back();
        planned_ins.emplace_back();
        in.push_back(nullptr);
        constants.push_back(nullptr);
        continue;
      }
      const auto at = static_cast<std::size_t>(std::find(region_.inputs.begin(), region_.inputs.end(), value) - region_.inputs.begin());
      const ops::Layout layout = at < in_layouts_.size() ? in_layouts_[at] : ops::Layout::kRowMajor;
      ins.push_back(desc(value, layout, options_.run_bindings));
      planned_ins.push_back(desc(value, layout, options_.bindings));
      memory.push_back(std::make_unique<Memory>(ins.back()));
      memory.back()->fill(inputs_.at(value->name).values);
      in.push_back(memory.back()->data());
      constants.push_back(value->is_constant() ? in.back() : nullptr);
    }
    std::vector<Memory*> written;
    for (const ir::Value* value : plan.outputs) {
      if (!value) {
        outs.emplace_back();
        planned_outs.emplace_back();
        out.push_back(nullptr);
        written.push_back(nullptr);
        continue;
      }
      const auto at = static_cast<std::size_t>(std::find(region_.outputs.begin(), region_.outputs.end(), value) - region_.outputs.begin());
      const ops::Layout layout = at < out_layouts_.size() ? out_layouts_[at] : ops::Layout::kRowMajor;
      outs.push_back(desc(value, layout, options_.run_bindings));
      planned_outs.push_back(desc(value, layout, options_.bindings));
      memory.push_back(std::make_unique<Memory>(outs.back()));
      out.push_back(memory.back()->data());
      written.push_back(memory.back().get());
    }
    ThreadPool pool(options_.threads);
    const plan::BindRequest request{plan.params, ins, outs, constants, weights, options_.run_bindings, options_.threads};
    const auto kernel = type->bind(request);
    // One that comes from other extents must do the same.
    const auto moved = type->bind({plan.params, planned_ins, planned_outs, constants, weights, options_.bindings, options_.threads});
    EXPECT_TRUE(plan.kernel == "cpu.reference" || moved->rebind(request)) << plan.kernel << " " << plan.variant << " does not move";
    Memory scratch(plan::TensorDesc::row_major(DType::kUint8, {static_cast<std::int64_t>(std::max(kernel->scratch_bytes(), moved->scratch_bytes()))}));
    const plan::KernelIo io{in.data(), out.data(), scratch.data(), &pool};
    std::vector<std::vector<double>> first;
    for (const plan::Kernel* each :
         {kernel.get(), plan.kernel == "cpu.reference" ? kernel.get() : moved.get()}) {  // nor may a run depend on what one before left
      const Status status = each->run(io);
      EXPECT_TRUE(status) << status.message();
      for (std::size_t i = 0; i < written.size(); ++i) {
        if (!written[i]) {
          first.emplace_back();
          continue;
        }
        std::vector<double> values = written[i]->read().values;
        if (each == moved.get() && !values.empty()) {
          EXPECT_EQ(0, std::memcmp(first[i].data(), values.data(), values.size() * sizeof(double))) << plan.kernel << " " << plan.variant << " moved";
        }
        first.push_back(std::move(values));
      }
    }
    EXPECT_TRUE(scratch.intact()) << "scratch overrun by " << plan.kernel << " " << plan.variant;
    for (std::size_t i = 0; i < plan.outputs.size(); ++i) {
      if (!plan.outputs[i]) continue;
      EXPECT_TRUE(written[i]->intact()) << "bytes beside the output were written by " << plan.kernel << " " << plan.variant;
      result.outputs[plan.outputs[i]->name] = written[i]->read();
    }
    return result;
  }

  const ops::Region& region_;
  const ops::Candidate& candidate_;
  RunOptions options_;
  std::vector<ops::Layout> in_layouts_, out_layouts_;
  std::map<std::string, Dense> inputs_;
};

inline const ops::Candidate& find_candidate(std::span<const ops::Candidate> list, std::string_view name) {
  for (const ops::Candidate& candidate : list)
    if (candidate.name == name) return candidate;
  throw Error(Code::kInternal, "no candidate is called " + std::string(name));
}

/// The node of this op type (the only one, or the first).
inline const ir::Node& find_node(const ir::Graph& graph, std::string_view op) {
  for (const ir::Node* node : graph.nodes())
    if (node->op == op) return *node;
  throw Error(Code::kInternal, "no node " + std::string(op));
}

/// bf16 rounding where the storage says so.
inline double as_stored(double x, DType dtype) { return dtype == DType::kBFloat16 ? bfloat16_to_float(float_to_bfloat16(static_cast<float>(x))) : x; }

/// What a sum of k products with absolute mass `mass` may be off, plus the rounding of bf16 operands and storage.
inline double bound(std::int64_t k, double mass, double result, bool bf16_products, DType stored, double c = 2) {
  const double eps = 1.0 / (1 << 23);
  return c * eps * std::sqrt(static_cast<double>(k) + 1) * mass + 1e-6 * (1 + std::fabs(result)) + (bf16_products ? mass / 128 : 0) +
         (stored == DType::kBFloat16 ? std::fabs(result) / 200 : 0);
}

}  // namespace lathe::regions::testing
