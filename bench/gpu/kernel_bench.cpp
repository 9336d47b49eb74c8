// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The product kernels on a GPU, held against plain loops and timed.
//   kernel_bench --check                       every kernel over shapes chosen to meet every path (check_cases.h); exit 1 on a failure
//   kernel_bench --time FILE [--type f16|bf16|tf32|f32] [--network NAME] [--plans N|all] [--json FILE] [--sweep FILE] [--images FOLDER] [--only PLANS: the
//   beginning of their names]
// FILE holds lines as bench/kernels/conv_problems.txt does, and lines "matmul NETWORK COUNT OUTER INNER ROWS COLUMNS DEPTH packed|nk|kn".
// Times are microseconds per call of a graph of dependent calls, with bias and SiLU (products: bias), weights and activations in the
// second-level cache where they fit; `cold_us`: each call has its own copy of the weights, together larger than that cache.
// Every timed plan is first held against the reference.

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <utility>

#include "backend/cuda/gemm_map.h"
#include "check_cases.h"
#include "harness.h"
#include "window_checks.h"

namespace lathe::bench {
namespace {

using namespace lathe::cuda;

double tolerance(const Case& c) {
  if (c.stored == kElementBFloat16 || c.product == kProductBF16) return 4e-3;
  if (c.stored == kElementFloat16 || c.product == kProductF16) return 6e-4;
  return c.product == kProductTF32 ? 1e-3 : 3e-6;
}

ConvOperands operands_of(const Case& c) {
  ConvOperands o = c.conv_operands();
  if (c.pairs) o.src_pixel = 8;
  return o;
}

float rounded(float v, ProductType product) {
  if (product == kProductF16) return half_to_float(float_to_half(v));
  if (product == kProductBF16) return bfloat16_to_float(float_to_bfloat16(v));
  return v;
}

ElementType product_element(ProductType product) {
  return product == kProductF16 ? kElementFloat16 : product == kProductBF16 ? kElementBFloat16 : kElementFloat32;
}

/// Operands of a case on the device, and what its result must be.
class Problem {
 public:
  Problem(Gpu& gpu, const Case& c) : gpu_(gpu), case_(c) {
    setup = c.matmul ? matmul_setup(c.product_shape, c.product_operands()) : conv_setup(c.pairs ? paired_shape(c.conv) : c.conv, operands_of(c));
    const GemmParams& p = setup.params;
    rows_ = static_cast<long long>(p.rows);
    columns_ = c.matmul ? c.product_shape.columns : c.conv.cout;
    items_ = c.matmul ? setup.items : 1;
    pixel_ = p.c_pixel;
    const float scale = static_cast<float>(1.5 / std::sqrt(static_cast<double>(p.channels) * p.kernel_h * p.kernel_w));
    src_ = random_block(gpu, c.src_elements(), c.src, 1);
    std::vector<float> weights;
    if (setup.packed_items > 0) {
      const std::size_t count =
          c.matmul ? static_cast<std::size_t>(setup.packed_items) * static_cast<std::size_t>(columns_) * static_cast<std::size_t>(c.product_shape.depth)
                   : static_cast<std::size_t>(c.conv.cout * (c.conv.cin / c.conv.groups) * c.conv.kh * c.conv.kw);
      weights_ = random_block(gpu, count, kElementFloat32, scale, &weights);
      for (float& w : weights) w = rounded(w, c.product);
      gpu.upload(weights_, weights.data(), count * 4);
      packed_host_.resize(packed_bytes(setup));
      if (c.pairs) weights = paired_weights(c.conv, weights.data());
      const WeightStrides strides =
          c.matmul ? WeightStrides{columns_ * c.product_shape.depth, c.product_shape.depth, 0, 0, 1} : oihw_strides(c.pairs ? paired_shape(c.conv) : c.conv);
      pack_weights(setup, weights.data(), strides, packed_host_);
      packed_ = Block(gpu.device, packed_host_.size());
      gpu.upload(packed_, packed_host_.data(), packed_host_.size());
    } else {
      weights_ = random_block(gpu, static_cast<std::size_t>(items_ * c.product_operands().b_inner), product_element(c.product), scale);
    }
    if (c.bias) bias_ = random_block(gpu, static_cast<std::size_t>(columns_), kElementFloat32, 0.5f);
    out_ = Block(gpu.device, static_cast<std::size_t>(items_ * rows_ * pixel_ + pixel_) * bytes_of(c.stored));
    if (c.residual) residual_ = random_block(gpu, static_cast<std::size_t>(items_ * rows_ * pixel_), c.stored, 1);
    expect();
  }

  GemmLaunch launch_of(const GemmPlan& plan) {
    GemmLaunch launch = gemm_launch(setup, plan, gpu_.limits);
    scratch_.reserve(gpu_, launch);
    PipeParams& p = launch.params;
    p.a = src_.data();
    p.b = setup.packed_items > 0 ? packed_.data() : weights_.data();
    p.bias = case_.bias ? static_cast<const float*>(bias_.data()) : nullptr;
    p.residual = case_.residual ? residual_.data() : nullptr;
    p.c = out_.data();
    p.partials = static_cast<float*>(scratch_.partials.data());
    p.counters = static_cast<unsigned*>(scratch_.counters.data());
    p.epilogue.activation = case_.activation;
    p.epilogue.alpha = case_.alpha;
    p.epilogue.beta = case_.beta;
    p.epilogue.scale = case_.scale;
    p.epilogue.residual_after = case_.residual == 2;
    encode_map(gpu_.device->driver(), p, launch.map_rows, setup.items);
    return launch;
  }
  Function function_of(const GemmLaunch& launch) { return gpu_.function(launch.module, launch.kernel, launch.shared_bytes); }

  /// "" or what is wrong.
  std::string check(const GemmPlan& plan) {
    const GemmLaunch launch = launch_of(plan);
    const Function function = function_of(launch);
    for (int run = 0; run < 2; ++run) {  // the second finds counters that the first did not leave at zero
      gpu_.fill(out_, 0xff);
      require(launch_gemm(gpu_, launch, function));
    }
    std::string wrong;
    for (const auto& [first, rows] : checked_rows_) {
      const long long at = first * pixel_ * static_cast<long long>(bytes_of(case_.stored));
      const Verdict v = compare(gpu_, static_cast<const char*>(out_.data()) + at, static_cast<const float*>(expected_.data()) + expected_at(first),
                                case_.stored, rows, columns_, pixel_, pixel_ - columns_);
      worst_ = std::max(worst_, v.relative);
      if (v.bad || v.guards || !(v.relative < tolerance(case_)))
        wrong += fmt::format(" rows {}+{}: error {:.2e} (largest {:.3g}), {} unwritten or not finite, {} written outside;", first, rows, v.relative, v.largest,
                             v.bad, v.guards);
    }
    return wrong;
  }
  double worst() const { return worst_; }

  double time(const GemmPlan& plan, int calls, int replays) {
    const GemmLaunch launch = launch_of(plan);
    const Function function = function_of(launch);
    return gpu_.time([&](int) { return launch_gemm(gpu_, launch, function); }, calls, replays);
  }
  double time_cold(const GemmPlan& plan, int replays) {
    if (packed_host_.empty()) return 0;  // no weights
    const std::size_t copies = std::clamp<std::size_t>(150000000 / packed_host_.size(), 2, 40);
    std::vector<Block> all;
    for (std::size_t i = 0; i < copies; ++i) {
      all.emplace_back(gpu_.device, packed_host_.size());
      gpu_.upload(all.back(), packed_host_.data(), packed_host_.size());
    }
    GemmLaunch launch = launch_of(plan);
    const Function function = function_of(launch);
    return gpu_.time(
        [&](int i) {
          launch.params.b = all[static_cast<std::size_t>(i) % copies].data();
          return launch_gemm(gpu_, launch, function);
        },
        static_cast<int>(copies), replays);
  }
  /// Seconds: operations at the measured rate of such a GPU, or bytes at its memory's, and a step's cost.
  double floor(double operations_per_second, double bytes_per_second) const {
    const double in = static_cast<double>(src_.bytes()), w = static_cast<double>(setup.packed_items > 0 ? packed_.bytes() : weights_.bytes());
    const double out = static_cast<double>(items_ * rows_ * columns_) * static_cast<double>(bytes_of(case_.stored)) * (case_.residual ? 2 : 1);
    return std::max(setup.flops / operations_per_second, (in + w + out) / bytes_per_second) + 0.75e-6;
  }

  GemmSetup setup;

 private:
  long long expected_at(long long first) const { return (first == 0 ? 0 : checked_rows_[0].second) * columns_; }

  void expect() {
    const Case& c = case_;
    // Whole results up to 40 G operations, else as many rows from both ends.
    long long all = items_ * rows_, part = all;
    if (setup.flops > 40e9 && !c.matmul) part = std::max<long long>(1, static_cast<long long>(static_cast<double>(all) * 20e9 / setup.flops));
    checked_rows_ =
        part == all ? std::vector<std::pair<long long, long long>>{{0, all}} : std::vector<std::pair<long long, long long>>{{0, part}, {all - part, part}};
    long long total = 0;
    for (const auto& [first, rows] : checked_rows_) total += rows;
    expected_ = Block(gpu_.device, static_cast<std::size_t>(total * columns_) * 4);
    const ReferenceEpilogue epilogue{c.activation, c.residual, c.alpha, c.beta, c.scale, c.stored};
    const float* bias = c.bias ? static_cast<const float*>(bias_.data()) : nullptr;
    if (c.matmul) {
      const MatMulOperands o = c.product_operands();
      const MatMulShape& s = c.product_shape;
      const bool packed = setup.packed_items > 0;
      ReferenceMatMul r{src_.data(),
                        weights_.data(),
                        bias,
                        residual_.data(),
                        static_cast<float*>(expected_.data()),
                        static_cast<int>(s.rows),
                        static_cast<int>(s.columns),
                        static_cast<int>(s.depth),
                        static_cast<int>(items_),
                        static_cast<int>(s.inner),
                        o.a_row,
                        o.a_column,
                        o.a_outer,
                        o.a_inner,
                        packed || !o.b_across ? 1 : o.b_row,
                        packed       ? s.depth
                        : o.b_across ? 1
                                     : o.b_row,
                        packed ? o.b_outer * s.columns * s.depth * s.inner : o.b_outer,
                        packed ? o.b_inner * s.columns * s.depth : o.b_inner,
                        o.residual_row,
                        o.residual_outer,
                        o.residual_inner,
                        o.a_type,
                        packed ? kElementFloat32 : product_element(c.product),
                        c.product,
                        epilogue};
      gpu_.reference("reference_matmul", r, static_cast<std::size_t>(all * columns_));
      return;
    }
    const ConvShape& s = c.conv;
    const GemmParams& p = setup.params;
    const long long pixel = c.planar ? 1 : s.cin + c.src_extra, row = c.planar ? s.w : s.w * pixel, image = c.planar ? s.cin * s.h * s.w : s.h * row;
    for (const auto& [first, rows] : checked_rows_) {
      ReferenceConv r{src_.data(),
                      static_cast<const float*>(weights_.data()),
                      bias,
                      residual_.data(),
                      static_cast<float*>(expected_.data()) + expected_at(first),
                      static_cast<int>(s.h),
                      static_cast<int>(s.w),
                      static_cast<int>(s.cin),
                      static_cast<int>(s.cout),
                      static_cast<int>(s.kh),
                      static_cast<int>(s.kw),
                      static_cast<int>(s.stride_h),
                      static_cast<int>(s.stride_w),
                      static_cast<int>(s.pad_top),
                      static_cast<int>(s.pad_left),
                      static_cast<int>(s.dilation_h),
                      static_cast<int>(s.dilation_w),
                      static_cast<int>(s.groups),
                      static_cast<int>(s.oh()),
                      static_cast<int>(s.ow()),
                      image,
                      row,
                      pixel,
                      c.planar ? s.h * s.w : 1,
                      p.residual_pixel,
                      c.src,
                      c.product,
                      first,
                      rows,
                      epilogue};
      gpu_.reference("reference_conv", r, static_cast<std::size_t>(rows * columns_));
    }
  }

  Gpu& gpu_;
  Case case_;
  long long rows_ = 0, columns_ = 0, items_ = 1, pixel_ = 0;
  Block src_, weights_, packed_, bias_, residual_, out_, expected_;
  std::vector<std::byte> packed_host_;
  std::vector<std::pair<long long, long long>> checked_rows_;
  SplitScratch scratch_;
  double worst_ = 0;
};

int check_all(Gpu& gpu, const std::string& only) {
  int failed = 0, ran = 0;
  std::map<std::string, double> worst;
  const auto report = [&](const Case& c, const GemmPlan& plan, const std::string& wrong) {
    if (!wrong.empty() && ++failed <= 40) fmt::print("WRONG {} [{}]:{}\n", c.text(), describe(plan), wrong);
  };
  for (const Case& c : check_cases()) {
    Problem problem(gpu, c);
    std::vector<GemmPlan> plans = all_gemm_plans(problem.setup, gpu.limits);
    GpuLimits older = gpu.limits;  // what GPUs without clusters do
    older.arch = 80;
    for (const GemmPlan& plan : all_gemm_plans(problem.setup, older))
      if (plan.splits > 1 && gpu.limits.arch > 80) plans.push_back(plan);
    if (plans.empty()) {
      ++failed;
      fmt::print("NO PLAN {}\n", c.text());
    }
    for (const GemmPlan& plan : plans) {
      if ((plan.splits > 8 && plan.splits != 16) || describe(plan).rfind(only, 0) != 0) continue;
      ++ran;
      report(c, plan, problem.check(plan));
    }
    // On few multiprocessors the blocks that stay walk over several tiles and share some.
    const int all = std::exchange(gpu.limits.multiprocessors, 3);
    for (const GemmPlan& plan : all_gemm_plans(problem.setup, gpu.limits)) {
      if (plan.core != GemmCore::kPipe || describe(plan).rfind(only, 0) != 0) continue;
      ++ran;
      report(c, plan, problem.check(plan));
    }
    gpu.limits.multiprocessors = all;
    double& w = worst[c.type_text()];
    w = std::max(w, problem.worst());
  }
  for (const auto& [type, error] : worst) fmt::print("{}: largest relative error {:.2e}\n", type, error);
  fmt::print("checked {} runs, {} wrong\n", ran, failed);
  if (only.empty()) failed += check_windows(gpu);
  return failed ? 1 : 0;
}

struct Options {
  std::string file, network, json, sweep, images, only;
  ProductType product = kProductF16;
  std::size_t plans = 0;  ///< 0: all
};

int time_all(Gpu& gpu, const Options& o) {
  // What random bf16 products and copies reach on an H100 or H200; rivals' floors use the same rate.
  const double operations = 790e12 * (o.product == kProductTF32  ? 0.5
                                      : o.product == kProductF32 ? 1.0 / 6
                                                                 : 1),
               bandwidth = gpu.device->info().memory_bytes_per_second;
  std::ofstream json, sweep;
  if (!o.json.empty()) json.open(o.json);
  if (!o.sweep.empty()) sweep.open(o.sweep);
  std::map<std::string, std::array<double, 3>> sums;
  int failed = 0;
  for (const Case& c : read_cases(o.file, o.product)) {
    if (!o.network.empty() && c.network != o.network) continue;
    Problem problem(gpu, c);
    const std::vector<GemmPlan> plans = o.plans ? gemm_plans(problem.setup, gpu.limits, o.plans) : all_gemm_plans(problem.setup, gpu.limits);
    std::vector<std::pair<double, std::size_t>> times;
    const int calls = problem.setup.flops > 3e10 ? 4 : 20;
    for (std::size_t i = 0; i < plans.size(); ++i) {
      if (!o.only.empty() && describe(plans[i]).rfind(o.only, 0) != 0) continue;
      if (const std::string wrong = problem.check(plans[i]); !wrong.empty()) {
        ++failed;
        fmt::print("WRONG {} [{}]:{}\n", c.text(), describe(plans[i]), wrong);
        continue;
      }
      times.emplace_back(problem.time(plans[i], calls, 3), i);
      if (sweep)
        sweep << fmt::format("{}\t{}\t{:.3f}\t{:.3f}\n", c.text(), describe(plans[i]), times.back().first,
                             modelled_time(problem.setup, plans[i], gpu.limits) * 1e6);
    }
    if (times.empty()) continue;
    std::sort(times.begin(), times.end());
    double best = 1e30;
    GemmPlan winner;
    for (std::size_t i = 0; i < std::min<std::size_t>(3, times.size()); ++i) {
      const double t = problem.time(plans[times[i].second], calls, 11);
      if (t < best) best = t, winner = plans[times[i].second];
    }
    const double copied = problem.time_cold(winner, 5), cold = copied > 0 ? copied : best, least = problem.floor(operations, bandwidth) * 1e6;
    fmt::print("{:<58} {:>8.2f} us cold {:>8.2f} floor {:>7.2f}  {:>6.1f} TFLOP/s  {}\n", c.text(), best, cold, least, problem.setup.flops / best * 1e-6,
               describe(winner));
    std::array<double, 3>& sum = sums[c.network];
    sum[0] += best * c.count, sum[1] += cold * c.count, sum[2] += least * c.count;
    if (json.is_open())
      json << fmt::format(R"({{"problem": "{}", "network": "{}", "count": {}, "us": {:.3f}, "cold_us": {:.3f}, "floor_us": {:.3f}, "plan": "{}"}})", c.line,
                          c.network, c.count, best, cold, least, describe(winner))
           << "\n";
  }
  for (const auto& [network, sum] : sums) fmt::print("SUM {:<22} {:>9.1f} us, cold weights {:>9.1f} us, floor {:>8.1f} us\n", network, sum[0], sum[1], sum[2]);
  return failed ? 1 : 0;
}

int run(int argc, char** argv) {
  Options o;
  bool check = false;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string(); };
    if (a == "--check") check = true;
    else if (a == "--time") o.file = value();
    else if (a == "--network") o.network = value();
    else if (a == "--json") o.json = value();
    else if (a == "--only") o.only = value();
    else if (a == "--images") o.images = value();
    else if (a == "--sweep") o.sweep = value();
    else if (a == "--plans") {
      const std::string v = value();
      o.plans = v == "all" ? 0 : std::stoul(v);
    } else if (a == "--type") {
      const std::string v = value();
      o.product = v == "bf16" ? kProductBF16 : v == "tf32" ? kProductTF32 : v == "f32" ? kProductF32 : kProductF16;
    } else {
      std::cerr << "unknown option " << a << "\n";
      return 2;
    }
  }
  setvbuf(stdout, nullptr, _IOLBF, 0);
  Gpu gpu(o.images);
  fmt::print("{}, {} multiprocessors\n", gpu.device->info().name, gpu.limits.multiprocessors);
  int result = check ? check_all(gpu, o.only) : 0;
  if (!o.file.empty()) result |= time_all(gpu, o);
  return result;
}

}  // namespace
}  // namespace lathe::bench

int main(int argc, char** argv) {
  try {
    return lathe::bench::run(argc, argv);
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 3;
  }
}
