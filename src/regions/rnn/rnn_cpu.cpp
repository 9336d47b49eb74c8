// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of rnn: binds src/backend/cpu/rnn.h to concrete tensors of either layout, and packs its weights.

#include <array>
#include <cstring>

#include <fmt/format.h>

#include "base/thread_pool.h"
#include "plan/kernel_list.h"
#include "regions/rnn/rnn.h"

namespace lathe::plan {
namespace {

cpu::RnnProblem problem_of(const ir::Attrs& params) {
  std::string why;
  auto p = regions::rnn_problem(params.get_string("op", ""), params, why);
  if (!p) throw Error(Code::kUnsupported, fmt::format("a recurrent step with {}", why));
  p->in = params.get_int("input_size", 0);
  p->hidden = params.get_int("hidden_size", 0);
  if (p->in < 0 || p->hidden < 1) throw Error(Code::kCorruptFile, "a recurrent step without extents");
  return *p;
}

class RnnKernel final : public Kernel {
 public:
  explicit RnnKernel(const BindRequest& request) : problem_(problem_of(request.params)), batch_first_(request.params.get_int("layout", 0) != 0) {
    if (request.inputs.size() != 4 || request.outputs.size() != 3 || request.weights.size() != 3)
      throw Error(Code::kCorruptFile, "a recurrent step with another number of tensors than it takes");
    fit(request);
    check(request.weights[0], cpu::rnn_input_weight_bytes(problem_));
    check(request.weights[1], cpu::rnn_recurrent_weight_bytes(problem_));
    check(request.weights[2], static_cast<std::size_t>(cpu::rnn_bias_count(problem_) * problem_.directions) * sizeof(float));
    args_.w = request.weights[0].data();
    args_.r = request.weights[1].data();
    args_.bias = reinterpret_cast<const float*>(request.weights[2].data());
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return scratch_; }

  Status run(const KernelIo& io) const noexcept override {
    if (empty_) return Status::ok();
    cpu::RnnArgs args = args_;
    args.x = io.inputs[0];
    args.lengths = static_cast<const std::int32_t*>(io.inputs[1]);
    args.initial_h = io.inputs[2];
    args.initial_c = io.inputs[3];
    args.y = io.outputs[0];
    args.last_h = io.outputs[1];
    args.last_c = io.outputs[2];
    args.scratch = io.scratch;
    cpu::run_rnn(problem_, args, *io.pool);
    return Status::ok();
  }

 private:
  void fit(const BindRequest& request) {
    cpu::RnnProblem& p = problem_;
    const TensorDesc& x = request.inputs[0];
    require(x.dims.size() == 3 && x.dims[2] == p.in && (p.in <= 1 || x.strides[2] == 1) && stored(x), "X");
    const std::size_t time = batch_first_ ? 1 : 0, batch = 1 - time;
    p.steps = x.dims[time];
    p.batch = x.dims[batch];
    p.x_step = x.strides[time];
    p.x_batch = x.strides[batch];
    p.x = x.dtype;
    if (const TensorDesc& y = request.outputs[0]; y.dtype != DType::kUndefined) {
      // [seq, directions, batch, hidden], or [batch, seq, directions, hidden].
      const std::size_t ys = batch_first_ ? 1 : 0, yd = batch_first_ ? 2 : 1, yb = batch_first_ ? 0 : 2;
      require(y.dims.size() == 4 && y.dims[ys] == p.steps && y.dims[yd] == p.directions && y.dims[yb] == p.batch && y.dims[3] == p.hidden &&
                  (p.hidden == 1 || y.strides[3] == 1) && stored(y),
              "Y");
      p.y = y.dtype;
      p.y_step = y.strides[ys];
      p.y_direction = y.strides[yd];
      p.y_batch = y.strides[yb];
    }
    bool typed = false;
    const auto state = [&](const TensorDesc& s, const char* name, std::int64_t& direction_stride, std::int64_t& batch_stride) {
      if (s.dtype == DType::kUndefined) return;
      const std::size_t sd = batch_first_ ? 1 : 0, sb = 1 - sd;
      require(s.dims.size() == 3 && s.dims[sd] == p.directions && s.dims[sb] == p.batch && s.dims[2] == p.hidden && (p.hidden == 1 || s.strides[2] == 1) &&
                  stored(s),
              name);
      require(!typed || p.state == s.dtype, name);
      p.state = s.dtype;
      typed = true;
      // Both tensors of a pair share their strides.
      require(direction_stride == 0 || (direction_stride == s.strides[sd] && batch_stride == s.strides[sb]), name);
      direction_stride = s.strides[sd];
      batch_stride = s.strides[sb];
    };
    p.state_direction = p.state_batch = p.last_direction = p.last_batch = 0;
    state(request.inputs[2], "initial_h", p.state_direction, p.state_batch);
    state(request.inputs[3], "initial_c", p.state_direction, p.state_batch);
    state(request.outputs[1], "Y_h", p.last_direction, p.last_batch);
    state(request.outputs[2], "Y_c", p.last_direction, p.last_batch);
    if (const TensorDesc& lengths = request.inputs[1]; lengths.dtype != DType::kUndefined) {
      require(lengths.dtype == DType::kInt32 && lengths.dims.size() == 1 && lengths.dims[0] == p.batch && (p.batch <= 1 || lengths.strides[0] == 1),
              "sequence_lens");
      p.ragged = true;
    }
    empty_ = p.batch == 0;
    scratch_ = empty_ ? 0 : cpu::rnn_scratch_bytes(p, request.threads);
  }

  static bool stored(const TensorDesc& desc) { return desc.dtype == DType::kFloat32 || desc.dtype == DType::kBFloat16; }
  static void require(bool holds, const char* what) {
    if (!holds)
      throw Error(Code::kInvalidArgument, fmt::format("{} of a recurrent step does not have the extents, type or memory order that its plan says", what));
  }
  static void check(std::span<const std::byte> blob, std::size_t bytes) {
    if (blob.size() != bytes) throw Error(Code::kCorruptFile, "packed weights of a recurrent step have the wrong size");
  }

  cpu::RnnProblem problem_;
  cpu::RnnArgs args_;
  std::size_t scratch_ = 0;
  bool batch_first_ = false, empty_ = false;
};

std::unique_ptr<Kernel> bind_rnn(const BindRequest& request) { return std::make_unique<RnnKernel>(request); }

Tensor as_floats(const Tensor& source, const Dims& dims) {
  const Tensor values = source.cast(DType::kFloat32).make_aligned();
  if (values.dims() != dims)
    throw Error(Code::kInvalidModel, fmt::format("recurrent weights of shape {} where {} belongs", to_string(values.dims()), to_string(dims)));
  return values;
}

std::vector<std::byte> pack_input(const ir::Attrs& params, std::span<const Tensor> sources) {
  const cpu::RnnProblem p = problem_of(params);
  const Tensor w = as_floats(sources[0], {p.directions, cpu::rnn_gates(p.kind) * p.hidden, p.in});
  std::vector<std::byte> packed(cpu::rnn_input_weight_bytes(p));
  cpu::pack_rnn_input(p, w.data<float>().data(), packed.data());
  return packed;
}

std::vector<std::byte> pack_recurrent(const ir::Attrs& params, std::span<const Tensor> sources) {
  const cpu::RnnProblem p = problem_of(params);
  const Tensor r = as_floats(sources[0], {p.directions, cpu::rnn_gates(p.kind) * p.hidden, p.hidden});
  std::vector<std::byte> packed(cpu::rnn_recurrent_weight_bytes(p));
  cpu::pack_rnn_recurrent(p, r.data<float>().data(), packed.data());
  return packed;
}

std::vector<std::byte> pack_bias(const ir::Attrs& params, std::span<const Tensor> sources) {
  const cpu::RnnProblem p = problem_of(params);
  std::vector<float> bias(static_cast<std::size_t>(cpu::rnn_bias_count(p) * p.directions));
  if (sources[0].defined()) {
    const Tensor b = as_floats(sources[0], {p.directions, 2 * cpu::rnn_gates(p.kind) * p.hidden});
    cpu::pack_rnn_bias(p, b.data<float>().data(), bias.data());
  } else {
    cpu::pack_rnn_bias(p, nullptr, bias.data());
  }
  std::vector<std::byte> packed(bias.size() * sizeof(float));
  std::memcpy(packed.data(), bias.data(), packed.size());
  return packed;
}

constexpr std::array<KernelType, 1> kKernels{{{"cpu.rnn", bind_rnn, ""}}};
constexpr std::array<PackFunction, 3> kPacks{
    {{"cpu.rnn.pack_input", pack_input}, {"cpu.rnn.pack_recurrent", pack_recurrent}, {"cpu.rnn.pack_bias", pack_bias}}};

}  // namespace

KernelSet kernels_rnn() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
