// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.svm": a task is a few rows. The support vectors lie feature by feature, so that one row's kernels with all of them grow side by side in
// vector registers; each is summed in double precision in the order of the features, as the defining loop does.

#include <algorithm>

#include "base/thread_pool.h"
#include "ops/ml/ml_kernels.h"
#include "ops/ml/svm_scores.h"

namespace lathe::plan {
namespace {

using ops::SvmKernel;
using ops::SvmShape;

constexpr std::int64_t kTaskProducts = 1 << 15, kMost = std::int64_t{1} << 31;

void require(bool holds, const char* what) {
  if (!holds) throw Error(Code::kCorruptFile, std::string("a support vector machine's step with ") + what);
}

class SvmStep final : public Kernel {
 public:
  explicit SvmStep(const BindRequest& request) {
    const ir::Attrs& p = request.params;
    coefficients_ = p.get_floats("coefficients");
    rho_ = p.get_floats("rho");
    prob_a_ = p.get_floats("prob_a");
    prob_b_ = p.get_floats("prob_b");
    starts_ = p.get_ints("starts");
    labels_ = p.get_ints("labels");
    const auto vectors = p.get_floats("vectors");
    const std::int64_t kind = p.get_int("kind", 0), transform = p.get_int("transform", 0), count = p.get_int("count", 0), features = p.get_int("features", 0);
    require(kind >= 0 && kind <= 3 && transform >= 0 && transform <= 4, "an unknown kernel or transform");
    require(count >= 0 && count < kMost && features > 0 && features < kMost, "no features");
    shape_.kind = static_cast<SvmKernel>(kind);
    shape_.gamma = p.get_float("gamma", 0);
    shape_.coef0 = p.get_float("coef0", 0);
    shape_.degree = p.get_float("degree", 0);
    shape_.transform = static_cast<ops::PostTransform>(transform);
    shape_.count = static_cast<std::size_t>(count);
    shape_.features = static_cast<std::size_t>(features);
    shape_.classes = labels_.size();
    shape_.all_positive = p.get_int("all_positive", 0) != 0;
    shape_.one_class = p.get_int("one_class", 0) != 0;
    check(vectors.size());
    shape_.coefficients = coefficients_;
    shape_.rho = rho_;
    shape_.prob_a = prob_a_;
    shape_.prob_b = prob_b_;
    shape_.starts = starts_;
    lanes_ = shape_.responses();
    const auto& source = shape_.count > 0 ? vectors : coefficients_;
    columns_.resize(source.size());
    for (std::size_t v = 0; v < lanes_; ++v)
      for (std::size_t k = 0; k < shape_.features; ++k) columns_[k * lanes_ + v] = source[v * shape_.features + k];
    fit(request);
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  std::size_t scratch_bytes() const noexcept override { return worker_doubles_ * static_cast<std::size_t>(threads_) * sizeof(double); }

  Status run(const KernelIo& io) const noexcept override {
    if (rows_ == 0) return Status::ok();
    io.pool->parallel_for((rows_ + group_ - 1) / group_, [&](std::int64_t task, int worker) {
      double* scratch = static_cast<double*>(io.scratch) + static_cast<std::size_t>(worker) * worker_doubles_;
      for (std::int64_t row = task * group_; row < std::min(rows_, (task + 1) * group_); ++row) one(io, row, scratch);
    });
    return Status::ok();
  }

 private:
  /// Everything that finish_svm() reads.
  void check(std::size_t vectors) const {
    const std::size_t classes = shape_.classes, count = shape_.count;
    require(classes < 65536, "too many classes");
    require(prob_a_.size() == prob_b_.size(), "probabilities that do not fit");
    if (count == 0) {
      require(!rho_.empty() && coefficients_.size() == std::max<std::size_t>(classes, 1) * shape_.features, "coefficients that do not fit");
      return;
    }
    require(vectors == count * shape_.features, "support vectors that do not fit");
    if (classes == 0) {
      require(!rho_.empty() && coefficients_.size() == count, "coefficients that do not fit");
      return;
    }
    require(classes > 1 && coefficients_.size() == (classes - 1) * count && rho_.size() >= shape_.pairs(), "coefficients that do not fit");
    require(prob_a_.empty() || prob_a_.size() >= shape_.pairs(), "probabilities that do not fit");
    require(starts_.size() == classes + 1 && starts_.front() == 0 && starts_.back() == static_cast<std::int64_t>(count) &&
                std::is_sorted(starts_.begin(), starts_.end()),
            "classes that do not fit");
  }

  void fit(const BindRequest& request) {
    require(request.inputs.size() == 1 && request.outputs.size() == 2, "the wrong number of tensors");
    const TensorDesc &x = request.inputs[0], &labels = request.outputs[0], &scores = request.outputs[1];
    require(x.dims.size() == 1 || x.dims.size() == 2, "an input that is no matrix");
    const bool one_row = x.dims.size() == 1;
    rows_ = one_row ? 1 : x.dims[0];
    if (x.dims.back() != static_cast<std::int64_t>(shape_.features)) {
      throw Error(Code::kInvalidArgument, "X has " + std::to_string(x.dims.back()) + " features, the model is for " + std::to_string(shape_.features));
    }
    row_stride_ = one_row ? 0 : x.strides[0];
    feature_stride_ = x.strides.back();
    type_ = x.dtype;
    require(type_ == DType::kFloat32 || type_ == DType::kFloat64 || type_ == DType::kInt32 || type_ == DType::kInt64, "features of another type");
    label_stride_ = score_row_ = score_column_ = 0;
    if (labels.dtype != DType::kUndefined) {
      require(shape_.classes > 0 && labels.dtype == DType::kInt64 && labels.dims.size() == 1 && labels.dims[0] == rows_, "labels that do not fit");
      label_stride_ = labels.strides[0];
    }
    if (scores.dtype != DType::kUndefined) {
      require(scores.dtype == DType::kFloat32 && scores.dims.size() == 2 && scores.dims[0] == rows_, "scores that do not fit");
      require(scores.dims[1] == static_cast<std::int64_t>(shape_.width()), "scores that do not fit");
      score_row_ = scores.strides[0];
      score_column_ = scores.strides[1];
    }
    threads_ = std::max(request.threads, 1);
    group_ = std::max<std::int64_t>(1, kTaskProducts / static_cast<std::int64_t>(columns_.size()));
    worker_doubles_ = (lanes_ + shape_.scratch() + shape_.width() + 7) / 8 * 8;
  }

  double value(const void* x, std::int64_t at) const noexcept {
    switch (type_) {
      case DType::kFloat32: return static_cast<const float*>(x)[at];
      case DType::kFloat64: return static_cast<const double*>(x)[at];
      case DType::kInt32: return static_cast<float>(static_cast<const std::int32_t*>(x)[at]);
      default: return static_cast<float>(static_cast<const std::int64_t*>(x)[at]);
    }
  }

  void one(const KernelIo& io, std::int64_t row, double* scratch) const noexcept {
    double *kernels = scratch, *out = kernels + lanes_, *rest = out + shape_.width();
    std::fill_n(kernels, lanes_, 0.0);
    const SvmKernel kind = shape_.response_kind();
    const double* column = columns_.data();
    for (std::size_t k = 0; k < shape_.features; ++k, column += lanes_) {
      const double x = value(io.inputs[0], row * row_stride_ + static_cast<std::int64_t>(k) * feature_stride_);
      if (kind == SvmKernel::kRbf)
        for (std::size_t v = 0; v < lanes_; ++v) kernels[v] += (x - column[v]) * (x - column[v]);
      else
        for (std::size_t v = 0; v < lanes_; ++v) kernels[v] += x * column[v];
    }
    for (std::size_t v = 0; v < lanes_; ++v) kernels[v] = ops::svm_response(shape_, kind, kernels[v]);
    const std::int64_t best = ops::finish_svm(shape_, kernels, rest, std::span(out, shape_.width()));
    if (io.outputs[0]) static_cast<std::int64_t*>(io.outputs[0])[row * label_stride_] = shape_.classes == 1 ? best : labels_[static_cast<std::size_t>(best)];
    if (!io.outputs[1]) return;
    for (std::size_t c = 0; c < shape_.width(); ++c)
      static_cast<float*>(io.outputs[1])[row * score_row_ + static_cast<std::int64_t>(c) * score_column_] = static_cast<float>(out[c]);
  }

  SvmShape shape_;
  std::vector<float> coefficients_, rho_, prob_a_, prob_b_;
  std::vector<std::int64_t> starts_, labels_;
  std::vector<double> columns_;  // [feature][support vector]
  std::size_t lanes_ = 1, worker_doubles_ = 0;
  DType type_ = DType::kUndefined;
  int threads_ = 1;
  std::int64_t rows_ = 0, group_ = 1, row_stride_ = 0, feature_stride_ = 1, label_stride_ = 0, score_row_ = 0, score_column_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> bind_svm(const BindRequest& request) {
  require(request.inputs.size() == 1, "the wrong number of tensors");
  return std::make_unique<SvmStep>(request);
}

}  // namespace lathe::plan
