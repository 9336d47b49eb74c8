// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of the random operators, whose kernels a GPU and through tests/host_cuda the CPU run: with a seed exactly what the references make, without one the
// distribution, by moments and chi-square within margins that chance does not leave.

#include <optional>

#include "kernel_cases.h"
#include "ops/random/random_plan.h"

namespace lathe::testing_gpu {

struct RandomCase {
  cuda::RandomKind kind = cuda::kRandomUniform;
  DType type = DType::kFloat32;
  Dims dims;  ///< of the result
  std::optional<float> seed = std::nullopt;
  std::int64_t classes = 0;
  DType x_type = DType::kFloat32, stored = DType::kUndefined;  ///< as `type`
  float scale = 1, offset = 0;
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const {
    return fmt::format("kind {} {}{} {} {} classes of {} scale {} offset {} extra {} shift {}", static_cast<int>(kind), dtype_name(type),
                       stored == DType::kUndefined ? "" : fmt::format(" as {}", dtype_name(stored)), to_string(dims), classes, dtype_name(x_type), scale,
                       offset, extra, shift) +
           (seed ? fmt::format(" seed {}", *seed) : "");
  }
};

struct RandomTensors {
  RandomCase c;
  GuardedTensor x, y;
  ir::Attrs params;
  Tensor input, wanted;  ///< wanted: with a seed

  explicit RandomTensors(const RandomCase& of) : c(of) {
    const bool bernoulli = c.kind == cuda::kRandomBernoulli, multinomial = c.kind == cuda::kRandomMultinomial;
    ir::Graph graph;
    ir::Attrs attrs;
    attrs.set("dtype", static_cast<std::int64_t>(c.type));
    if (c.seed) attrs.set("seed", *c.seed);
    std::vector<ir::Value*> given;
    std::vector<Tensor> inputs;
    const auto rows = [&](DType type, const Dims& dims) { return dims.empty() ? plan::TensorDesc::row_major(type, dims) : rows_desc(type, dims, c.extra); };
    if (bernoulli || multinomial) {
      input = Tensor(c.x_type, multinomial ? Dims{c.dims[0], c.classes} : c.dims);
      for (std::int64_t i = 0; i < input.size(); ++i) input.set_from_double(i, multinomial ? logarithm(i % c.classes) : probability(i));
      x = GuardedTensor(rows(c.x_type, input.dims()), c.shift);
      x.fill(input);
      given = {graph.add_input("x", ir::Type::tensor(c.x_type, ir::Shape(input.dims().begin(), input.dims().end())))};
      inputs = {input};
      if (multinomial) attrs.set("sample_size", c.dims[1]);
    } else {
      attrs.set("shape", c.dims);
      if (c.kind == cuda::kRandomNormal) attrs.set("scale", c.scale), attrs.set("mean", c.offset);
      else attrs.set("low", c.offset), attrs.set("high", c.offset + c.scale);
    }
    constexpr const char* kOps[] = {"RandomUniform", "RandomNormal", "Bernoulli", "Multinomial"};
    const ir::Node* node = graph.add_node("", kOps[c.kind], given, {"y"}, attrs);
    const DType stored = c.stored == DType::kUndefined ? c.type : c.stored;
    if (c.seed) wanted = ops::evaluate_node(*node, inputs)[0].cast(stored);
    y = GuardedTensor(rows(stored, c.dims), c.shift);
    params.set("kind", static_cast<std::int64_t>(c.kind));
    params.set("dtype", static_cast<std::int64_t>(c.type));
    if (!given.empty()) {
      if (c.seed) params.set("seed", static_cast<std::int64_t>(*ops::seed_of(attrs)));
      return;
    }
    const ops::Drawing drawing = c.kind == cuda::kRandomNormal ? ops::Drawing::normal_of(attrs, c.type) : ops::Drawing::uniform_of(attrs, c.type);
    params.set("scale", static_cast<float>(drawing.scale));
    params.set("offset", static_cast<float>(drawing.offset));
    if (c.seed) params.set("seed", static_cast<std::int64_t>(*ops::seed_of(attrs)));
  }

  /// Bernoulli's by place; what is none, too.
  static double probability(std::int64_t i) {
    constexpr double kProbabilities[] = {0, 1, 0.5, 0.25, 0.9, 0.03125, 0.7, NAN, -0.5, 2, INFINITY, -INFINITY};
    return kProbabilities[static_cast<std::size_t>(i) % std::size(kProbabilities)];
  }
  /// Multinomial's by class; some have no share.
  static double logarithm(std::int64_t k) { return k % 5 == 3 ? -INFINITY : static_cast<double>(k % 7) * 0.25 - 1; }

  void compare() {
    const Tensor got = y.read();
    for (std::int64_t i = 0; i < got.size(); ++i) ASSERT_EQ(got.as_double(i), wanted.as_double(i)) << "element " << i << " of " << got.size();
    EXPECT_TRUE(y.is_intact()) << "bytes beside the result were written";
  }

  /// Are `got` numbers of the distribution, each independent of those around?
  void judge(const Tensor& got) const {
    if (c.kind == cuda::kRandomBernoulli) return judge_trials(got);
    if (c.kind == cuda::kRandomMultinomial) return judge_classes(got);
    const auto n = static_cast<double>(got.size());
    const bool normal = c.kind == cuda::kRandomNormal, wide = dtype_bits(c.type) >= 32;
    double sum = 0, squares = 0, fourth = 0;
    constexpr int kBins = 64;
    std::vector<double> standard(static_cast<std::size_t>(got.size())), bins(kBins, 0);
    for (std::size_t i = 0; i < standard.size(); ++i) {
      const double u = (got.as_double(static_cast<std::int64_t>(i)) - static_cast<double>(c.offset)) / static_cast<double>(c.scale);
      ASSERT_TRUE(normal ? std::isfinite(u) : u >= 0 && (wide ? u < 1 : u <= 1)) << "element " << i << " is " << u;
      const double share = normal ? 0.5 * std::erfc(-u / std::sqrt(2.0)) : u;
      ++bins[static_cast<std::size_t>(std::min(share * kBins, kBins - 1.0))];
      const double v = standard[i] = normal ? u : (u - 0.5) * std::sqrt(12.0);
      sum += v, squares += v * v, fourth += v * v * v * v;
    }
    // Margins of eight deviations; those of the narrow types' steps come on top.
    const double step = wide ? 0 : 4e-3;
    EXPECT_NEAR(sum / n, 0, 8 / std::sqrt(n) + step);
    EXPECT_NEAR(squares / n, 1, 8 * std::sqrt(2 / n) + step);
    EXPECT_NEAR(fourth / n, normal ? 3 : 1.8, 8 * std::sqrt(96 / n) + 4 * step);
    if (wide) {
      EXPECT_LT(chi_square(bins, std::vector<double>(kBins, n / kBins)), kBins - 1 + 8 * std::sqrt(2.0 * kBins));
    }
    for (const std::size_t apart : {1, 2, 3, 4, 512, 1024}) {
      double product = 0;
      if (standard.size() < 4 * apart) break;
      for (std::size_t i = apart; i < standard.size(); ++i) product += standard[i] * standard[i - apart];
      EXPECT_NEAR(product / n, 0, 8 / std::sqrt(n) + step) << apart << " elements apart";
    }
  }

 private:
  static double chi_square(const std::vector<double>& found, const std::vector<double>& wanted) {
    double sum = 0;
    for (std::size_t i = 0; i < found.size(); ++i) sum += wanted[i] > 0 ? (found[i] - wanted[i]) * (found[i] - wanted[i]) / wanted[i] : found[i] > 0 ? 1e9 : 0;
    return sum;
  }
  void judge_trials(const Tensor& got) const {
    constexpr std::int64_t kPeriod = 12;
    for (std::int64_t k = 0; k < kPeriod; ++k) {
      const double given = probability(k), p = given > 0 ? std::min(given, 1.0) : 0;
      double ones = 0, n = 0;
      for (std::int64_t i = k; i < got.size(); i += kPeriod) {
        const double one = got.as_double(i);
        ASSERT_TRUE(one == 0 || one == 1) << one;
        ones += one, ++n;
      }
      EXPECT_LE(std::fabs(ones - n * p), 8 * std::sqrt(n * p * (1 - p))) << "probability " << given;
    }
  }
  void judge_classes(const Tensor& got) const {
    std::vector<double> found(static_cast<std::size_t>(c.classes), 0), wanted_shares(found);
    double sum = 0;
    for (std::int64_t k = 0; k < c.classes; ++k) sum += wanted_shares[static_cast<std::size_t>(k)] = std::exp(logarithm(k));
    for (double& share : wanted_shares) share *= static_cast<double>(got.size()) / sum;
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const std::int64_t k = got.as_int64(i);
      ASSERT_TRUE(k >= 0 && k < c.classes) << k;
      ++found[static_cast<std::size_t>(k)];
    }
    const auto classes = static_cast<double>(c.classes);
    EXPECT_LT(chi_square(found, wanted_shares), classes + 8 * std::sqrt(2 * classes));
  }
};

/// With seeds, where nothing is left to chance.
inline std::vector<RandomCase> seeded_cases(bool large) {
  std::vector<RandomCase> cases;
  using enum cuda::RandomKind;
  constexpr DType kFloats[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64};
  for (const DType type : kFloats)
    for (const cuda::RandomKind kind : {kRandomUniform, kRandomNormal}) {
      cases.push_back({.kind = kind, .type = type, .dims = {3, 5}, .seed = 7.0F});
      cases.push_back({.kind = kind, .type = type, .dims = {2, 3, 333}, .seed = 0.0F, .scale = 3, .offset = -1.25F, .extra = 3, .shift = 1});
    }
  for (const DType stored : {DType::kFloat16, DType::kBFloat16}) {
    cases.push_back({.kind = kRandomNormal, .dims = {9, 70}, .seed = 3.0F, .stored = stored, .scale = 0.3F, .offset = 5});
    cases.push_back({.kind = kRandomBernoulli, .dims = {9, 70}, .seed = 3.0F, .stored = stored, .extra = 1});
  }
  for (const float seed : {-1.0F, 4294967296.0F, 1e30F, 12.75F}) cases.push_back({.dims = {17}, .seed = seed});
  for (const DType type : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64, DType::kBool, DType::kInt8, DType::kUint8, DType::kInt16,
                           DType::kUint16, DType::kInt32, DType::kUint32, DType::kInt64, DType::kUint64})
    cases.push_back({.kind = kRandomBernoulli, .type = type, .dims = {5, 7, 33}, .seed = 11.0F, .extra = 2, .shift = 1});
  for (const DType x_type : kFloats) {
    cases.push_back({.kind = kRandomBernoulli, .dims = {1000}, .seed = 2.0F, .x_type = x_type});
    cases.push_back({.kind = kRandomMultinomial, .type = DType::kInt32, .dims = {4, 90}, .seed = 2.0F, .classes = 11, .x_type = x_type, .extra = 1});
  }
  for (const std::int64_t classes : {1, 2, 255, 256, 257, 1000, 5000})
    cases.push_back({.kind = kRandomMultinomial, .type = DType::kInt64, .dims = {3, 300}, .seed = 5.0F, .classes = classes, .shift = 1});
  for (const cuda::RandomKind kind : {kRandomUniform, kRandomNormal, kRandomBernoulli}) {
    cases.push_back({.kind = kind, .dims = {}, .seed = 1.0F});
    cases.push_back({.kind = kind, .dims = {3, 0, 2}, .seed = 1.0F});
    cases.push_back({.kind = kind, .dims = {2, 1, 3, 2, 1, 5, 2, 3}, .seed = 1.0F, .extra = 1});
  }
  cases.push_back({.kind = kRandomMultinomial, .type = DType::kInt32, .dims = {0, 3}, .seed = 1.0F, .classes = 4});
  if (large) {
    cases.push_back({.kind = kRandomNormal, .dims = {3000, 1001}, .seed = 4.0F, .extra = 1});
    cases.push_back({.kind = kRandomBernoulli, .dims = {3000, 1001}, .seed = 4.0F});
    cases.push_back({.kind = kRandomMultinomial, .type = DType::kInt64, .dims = {70, 3000}, .seed = 4.0F, .classes = 151936});
  }
  return cases;
}

/// Without: many elements each.
inline std::vector<RandomCase> unseeded_cases(bool large) {
  std::vector<RandomCase> cases;
  using enum cuda::RandomKind;
  const std::int64_t rows = large ? 3000 : 60;
  for (const DType type : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64})
    for (const cuda::RandomKind kind : {kRandomUniform, kRandomNormal}) {
      cases.push_back({.kind = kind, .type = type, .dims = {rows, 1001}});
      cases.push_back({.kind = kind, .type = type, .dims = {rows, 3, 501}, .scale = 2, .offset = -1, .extra = 3, .shift = 1});
    }
  for (const DType type : {DType::kFloat32, DType::kBool, DType::kInt64})
    cases.push_back(
        {.kind = kRandomBernoulli, .type = type, .dims = {rows, 1200}, .x_type = type == DType::kBool ? DType::kFloat64 : DType::kFloat32, .extra = 1});
  for (const std::int64_t classes : {2, 10, 700})
    cases.push_back({.kind = kRandomMultinomial, .type = DType::kInt32, .dims = {rows / 10, 5001}, .classes = classes});
  return cases;
}

}  // namespace lathe::testing_gpu
