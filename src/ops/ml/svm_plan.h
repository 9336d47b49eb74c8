// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a support vector machine's lists and tensors to the launches of svm.cu: what the candidate, the kernel and the tests without a GPU share.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "ir/attribute.h"
#include "ops/ml/ml_rows.h"
#include "ops/ml/svm_params.h"

namespace lathe::ops {

/// The packed lists begin with it; it tells all lengths.
struct SvmHeader {
  std::int64_t features = 0, count = 0, classes = 0;
  std::int64_t probable = 0;

  std::int64_t responses() const noexcept { return count > 0 ? count : std::max<std::int64_t>(classes, 1); }
  std::int64_t pairs() const noexcept { return classes * (classes - 1) / 2; }
  std::int64_t decisions() const noexcept { return classes == 0 ? 1 : count > 0 ? pairs() : classes; }
  std::int64_t width() const noexcept { return classes == 0 ? 1 : count == 0 || probable ? classes : std::max<std::int64_t>(pairs(), 2); }
  /// Of the workspace, for a row.
  std::int64_t row_doubles() const noexcept { return responses() + (classes == 0 ? 0 : decisions() + classes + (probable ? 2 * classes * (1 + classes) : 0)); }
};

/// How long each list is, and where it begins, bytes.
struct SvmLayout {
  std::int64_t vectors = 0, coefficients = 0, rho = 0, probabilities = 0, starts = 0, labels = 0;
  std::size_t vectors_at = 0, coefficients_at = 0, rho_at = 0, a_at = 0, b_at = 0, starts_at = 0, labels_at = 0, bytes = 0;
};

/// nullopt: no machine, or one beyond what the kernels count with or have room for.
inline std::optional<SvmLayout> svm_layout(const SvmHeader& h) noexcept {
  constexpr std::int64_t kMost = std::int64_t{1} << 30, kMostOfRow = std::int64_t{1} << 27;
  if (h.features < 1 || h.features > kMost || h.count < 0 || h.count > kMost || h.classes < 0 || h.classes > 32767) return std::nullopt;
  if ((h.count > 0 && h.classes == 1) || h.probable < 0 || h.probable > (h.count > 0 && h.classes > 0 ? 1 : 0)) return std::nullopt;
  if (h.row_doubles() > kMostOfRow) return std::nullopt;
  SvmLayout l;
  l.vectors = h.responses() * h.features;  // below 2^60
  l.coefficients = h.count == 0 ? 0 : std::max<std::int64_t>(h.classes - 1, 1) * h.count;
  l.rho = h.classes == 0 || h.count == 0 ? 1 : h.pairs();
  l.probabilities = h.probable ? h.pairs() : 0;
  l.starts = h.count > 0 && h.classes > 0 ? h.classes + 1 : 0;
  l.labels = h.classes;
  if (l.vectors > std::int64_t{1} << 36 || l.coefficients > std::int64_t{1} << 36) return std::nullopt;
  std::size_t at = 64;
  static_assert(sizeof(SvmHeader) <= 64);
  const auto list = [&](std::int64_t count, std::size_t each) {
    const std::size_t begin = at;
    at += (static_cast<std::size_t>(count) * each + 63) / 64 * 64;
    return begin;
  };
  l.vectors_at = list(l.vectors, sizeof(float));
  l.coefficients_at = list(l.coefficients, sizeof(float));
  l.rho_at = list(l.rho, sizeof(float));
  l.a_at = list(l.probabilities, sizeof(float));
  l.b_at = list(l.probabilities, sizeof(float));
  l.starts_at = list(l.starts, sizeof(int));
  l.labels_at = list(l.labels, sizeof(std::int64_t));
  l.bytes = at;
  return l;
}

struct SvmSpec {
  int kind = cuda::kSvmLinear, transform = cuda::kMlNone;
  double gamma = 0, coef0 = 0, degree = 0;
  bool one_class = false, all_positive = false;
};

enum class SvmKernelKind { kRespond, kDecide, kFinish };

/// A step at concrete extents.
struct SvmPlan {
  SvmSpec spec;
  SvmHeader header;
  SvmLayout layout;
  cuda::SvmParams params;  ///< without addresses

  std::size_t kernel_doubles() const noexcept { return static_cast<std::size_t>(params.slab) * static_cast<std::size_t>(params.responses); }
  std::size_t scratch_bytes() const noexcept { return static_cast<std::size_t>(params.slab * header.row_doubles()) * sizeof(double); }
  /// `lists`: where the packed ones lie.
  void set_addresses(cuda::SvmParams& p, const void* lists, void* scratch) const noexcept {
    const auto at = [&](std::size_t offset) { return static_cast<const void*>(static_cast<const std::byte*>(lists) + offset); };
    p.vectors = static_cast<const float*>(at(layout.vectors_at));
    p.coefficients = static_cast<const float*>(at(layout.coefficients_at));
    p.rho = static_cast<const float*>(at(layout.rho_at));
    p.prob_a = static_cast<const float*>(at(layout.a_at));
    p.prob_b = static_cast<const float*>(at(layout.b_at));
    p.starts = static_cast<const int*>(at(layout.starts_at));
    p.label_values = static_cast<const long long*>(at(layout.labels_at));
    const auto slab = static_cast<std::size_t>(params.slab), n = static_cast<std::size_t>(header.classes);
    p.kernels = static_cast<double*>(scratch);
    if (params.classes == 0) return;
    p.scores = p.kernels + kernel_doubles();
    p.votes = p.scores + slab * static_cast<std::size_t>(params.decisions);
    if (!params.probable) return;
    p.shares = p.votes + slab * n;
    p.products = p.shares + slab * n;
    p.pairwise = p.products + slab * n;
    p.matrix = p.pairwise + slab * n * n;
  }
};

/// What a step's parameters say beside the lists. False: no step of this version's.
inline bool svm_spec(const ir::Attrs& params, SvmSpec& spec, std::string& why) {
  const std::int64_t kind = params.get_int("kind", 0), transform = params.get_int("transform", 0);
  if (kind < 0 || kind > 3 || transform < 0 || transform > 4) {
    why = "an unknown kernel or transform";
    return false;
  }
  spec.kind = static_cast<int>(kind);
  spec.transform = static_cast<int>(transform);
  spec.gamma = params.get_float("gamma", 0);
  spec.coef0 = params.get_float("coef0", 0);
  spec.degree = params.get_float("degree", 0);
  spec.one_class = params.get_int("one_class", 0) != 0;
  spec.all_positive = params.get_int("all_positive", 0) != 0;
  return true;
}

/// Takes the packed lists when nothing in them leads a kernel astray. False, and in `why` the reason, where something does.
inline bool svm_read(std::span<const std::byte> lists, SvmPlan& into, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  if (lists.size() < sizeof(SvmHeader)) return refuse("lists that end too soon");
  std::memcpy(&into.header, lists.data(), sizeof into.header);
  const auto layout = svm_layout(into.header);
  if (!layout || layout->bytes != lists.size()) return refuse("lists of another size than they say");
  into.layout = *layout;
  int before = 0;
  for (std::int64_t i = 0; i < layout->starts; ++i) {
    int start = 0;
    std::memcpy(&start, lists.data() + layout->starts_at + static_cast<std::size_t>(i) * sizeof start, sizeof start);
    if (start < before || (i == 0 && start != 0) || start > into.header.count) return refuse("classes that do not fit");
    before = start;
  }
  if (layout->starts > 0 && before != into.header.count) return refuse("classes that do not fit");
  return true;
}

/// Spec and lists are set. False, and in `why` the reason, when the kernels cannot run it.
inline bool svm_plan(std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, SvmPlan& into, std::string& why) {
  const SvmSpec& spec = into.spec;
  const SvmHeader& h = into.header;
  cuda::SvmParams& p = into.params;
  p = {};
  std::int64_t width = 0;
  if (!ml_rows(inputs, outputs, h.classes > 0, h.width(), p.rows, width, why)) return false;
  if (width != h.features) {
    why = "rows of another number of features";
    return false;
  }
  p.rows.transform = spec.transform;
  p.gamma = spec.gamma, p.coef0 = spec.coef0, p.degree = spec.degree;
  p.kind = h.count > 0 ? spec.kind : cuda::kSvmLinear;
  p.one_class = spec.one_class;
  p.all_positive = spec.all_positive;
  p.features = static_cast<int>(h.features);
  p.count = static_cast<int>(h.count);
  p.classes = static_cast<int>(h.classes);
  p.responses = static_cast<int>(h.responses());
  p.decisions = static_cast<int>(h.decisions());
  p.width = static_cast<int>(h.width());
  p.probable = static_cast<int>(h.probable);
  // Rows go in rounds whose workspace has an end. That also bounds the blocks of a launch: fewer than doubles.
  constexpr std::int64_t kMostDoubles = std::int64_t{1} << 23, kMostRows = std::int64_t{1} << 20;
  p.slab = static_cast<int>(std::min<std::int64_t>(p.rows.count, std::clamp<std::int64_t>(kMostDoubles / h.row_doubles(), 1, kMostRows)));
  return true;
}

/// Calls launch(kind, grid, params) for each launch, in order, until one says false.
template <class Launch>
bool svm_launches(const SvmPlan& plan, const cuda::SvmParams& params, Launch launch) {
  cuda::SvmParams p = params;
  const auto blocks = [](std::int64_t items) { return static_cast<std::uint32_t>((items + cuda::kSvmThreads - 1) / cuda::kSvmThreads); };
  for (p.first = 0; p.first < p.rows.count; p.first += p.slab) {
    p.many = static_cast<int>(std::min<std::int64_t>(p.slab, p.rows.count - p.first));
    const auto tiles = static_cast<std::uint32_t>((p.many + cuda::kSvmRows - 1) / cuda::kSvmRows);
    if (!launch(SvmKernelKind::kRespond, tiles * blocks(p.responses), p)) return false;
    if (!launch(SvmKernelKind::kDecide, blocks(std::int64_t{p.many} * p.decisions), p)) return false;
    if (plan.header.classes > 0 && !launch(SvmKernelKind::kFinish, blocks(p.many), p)) return false;
  }
  return true;
}

}  // namespace lathe::ops
