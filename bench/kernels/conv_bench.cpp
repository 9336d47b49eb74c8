// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Times every plan of each convolution of a few networks (conv_problems.txt), with bias and SiLU, against oneDNN's best of channels-last and
// blocked layouts, alternating in one process. Prints GFLOP/s, percent of the multiply peak measured in the same run, and summed
// ratios (oneDNN time / own time; above 1 is faster).
//   conv_bench [--threads N] [--type f32|bf16] [--network NAME] [--rounds N] [--plans] [--exact] [problems.txt]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "backend/cpu/conv.h"
#include "backend/cpu/kernel_table.h"
#include "base/half.h"
#include "base/thread_pool.h"

#if defined(LATHE_HAVE_ONEDNN)
#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace {

using namespace lathe;
using namespace lathe::cpu;

struct Options {
  int threads = 2, rounds = 9;
  DType type = DType::kFloat32;
  std::string network, file = "bench/kernels/conv_problems.txt";
  bool plans = false, exact = false;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Aligned {
  explicit Aligned(std::size_t bytes) : data(std::aligned_alloc(64, (bytes + 127) / 64 * 64)) { std::memset(data, 0, bytes); }
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  void* data;
};

void fill(void* data, std::int64_t count, DType type) {
  std::uint32_t x = 12345;
  for (std::int64_t i = 0; i < count; ++i) {
    x = x * 1664525u + 1013904223u;
    const float v = static_cast<float>(x >> 8) / (1 << 23) - 1.0f;
    if (type == DType::kFloat32) {
      static_cast<float*>(data)[i] = v;
    } else {
      static_cast<std::uint16_t*>(data)[i] = float_to_bfloat16(v);
    }
  }
}

// Multiply peak of the type: one register tile in first-level cache on every worker.
double measure_peak(ThreadPool& pool, DType type) {
  const KernelTable& k = kernel_table();
  const auto& tiles = type == DType::kFloat32 ? k.f32 : k.bf16;
  constexpr std::int64_t kSteps = 64, kCalls = 3000;
  double best = 1e9;
  for (int round = 0; round < 8; ++round) {
    const double t0 = now();
    pool.parallel_for(pool.size(), [&](std::int64_t, int) {
      alignas(64) static thread_local float a[14 * (kSteps + 16)], w[kSteps * 32], acc[14 * 32];
      TileArgs t{};
      t.a_stride = (kSteps + 16) * 4;
      t.a0 = reinterpret_cast<const char*>(a);
      t.a1 = t.a0 + (k.max_rows + 1) / 2 * t.a_stride;
      t.w = reinterpret_cast<const char*>(w);
      t.w_stride = k.max_units * 64;
      t.k = kSteps;
      t.outer = t.inner = 1;
      t.acc = acc;
      t.acc_stride = k.max_units * 16;
      for (int i = 0; i < kCalls; ++i) tiles[k.max_units][k.max_rows](t);
    });
    best = std::min(best, now() - t0);
  }
  const double per_step = type == DType::kFloat32 ? 2.0 : 4.0;
  return per_step * k.max_rows * k.max_units * 16 * kSteps * kCalls * pool.size() / best * 1e-9;
}

struct Timed {
  std::string name;
  bool fast = false, own = true;
  std::function<void()> run;
  double best = 1e9;
};

class OwnRun {
 public:
  OwnRun(const ConvProblem& p, const ConvPlan& plan, const std::vector<float>& weights, const float* bias, const void* src, void* dst, ThreadPool& pool)
      : p_(p), plan_(plan), packed_(conv_weight_bytes(p, plan)), scratch_(conv_scratch_bytes(p, plan, pool.size())), pool_(pool) {
    pack_conv_weights(p, plan, weights.data(), packed_.data);
    args_.src = src;
    args_.dst = dst;
    args_.weights = packed_.data;
    args_.bias = bias;
    args_.scratch = scratch_.data;
    epilogue_.activation = Activation::kSilu;
  }
  void operator()() { run_conv(p_, plan_, epilogue_, args_, pool_); }

 private:
  ConvProblem p_;
  ConvPlan plan_;
  Aligned packed_, scratch_;
  ThreadPool& pool_;
  ConvArgs args_;
  Epilogue epilogue_;
};

#if defined(LATHE_HAVE_ONEDNN)
class OneDnnRun {
 public:
  OneDnnRun(const ConvProblem& p, bool channels_last) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using dt = dnnl::memory::data_type;
    using tag = dnnl::memory::format_tag;
    const auto type = p.src == DType::kFloat32 ? dt::f32 : dt::bf16;
    const auto layout = channels_last ? tag::nhwc : tag::any;
    dnnl::memory::desc src({p.n, p.cin, p.h, p.w}, type, layout), dst({p.n, p.cout, p.oh(), p.ow()}, type, layout);
    const dnnl::memory::dims wd = p.groups == 1 ? dnnl::memory::dims{p.cout, p.cin, p.kh, p.kw}
                                                : dnnl::memory::dims{p.groups, p.cout / p.groups, p.cin / p.groups, p.kh, p.kw};
    dnnl::memory::desc weights(wd, type, tag::any), bias({p.cout}, dt::f32, tag::x);
    dnnl::post_ops ops;
    ops.append_eltwise(dnnl::algorithm::eltwise_swish, 1.0f, 0.0f);
    dnnl::primitive_attr attr;
    attr.set_post_ops(ops);
    dnnl::convolution_forward::primitive_desc pd(engine_, dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, src,
                                                 weights, bias, dst, {p.stride_h, p.stride_w}, {p.dilation_h - 1, p.dilation_w - 1},
                                                 {p.pad_top, p.pad_left}, {p.pad_bottom, p.pad_right}, attr);
    name_ = std::string("onednn ") + (channels_last ? "nhwc " : "any ") + pd.impl_info_str();
    primitive_ = dnnl::convolution_forward(pd);
    auto memory = [&](const dnnl::memory::desc& d) {
      dnnl::memory m(d, engine_);
      fill(m.get_data_handle(), static_cast<std::int64_t>(d.get_size() / (d.get_data_type() == dt::f32 ? 4 : 2)),
           d.get_data_type() == dt::f32 ? DType::kFloat32 : DType::kBFloat16);
      return m;
    };
    args_ = {{DNNL_ARG_SRC, memory(pd.src_desc())}, {DNNL_ARG_WEIGHTS, memory(pd.weights_desc())}, {DNNL_ARG_BIAS, memory(bias)},
             {DNNL_ARG_DST, memory(pd.dst_desc())}};
  }
  const std::string& name() const { return name_; }
  void operator()() {
    primitive_.execute(stream_, args_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::unordered_map<int, dnnl::memory> args_;
  std::string name_;
};
#endif

struct Sum {
  double flops = 0, own = 0, exact = 0, rival = 0;
};

void bench_problem(const std::string& network, int count, ConvProblem p, const Options& o, ThreadPool& pool, double peak, Sum& sum) {
  p.src = p.weights = p.dst = o.type;
  std::vector<float> weights(static_cast<std::size_t>(p.cout * (p.cin / p.groups) * p.kh * p.kw)), bias(static_cast<std::size_t>(p.cout));
  fill(weights.data(), static_cast<std::int64_t>(weights.size()), DType::kFloat32);
  fill(bias.data(), p.cout, DType::kFloat32);
  const std::int64_t in = p.n * p.h * p.w * p.cin, out = p.n * p.oh() * p.ow() * p.cout;
  Aligned src(static_cast<std::size_t>(in) * 4), dst(static_cast<std::size_t>(out) * 4);
  fill(src.data, in, o.type);
  std::vector<Timed> runs;
  auto add_own = [&](const ConvProblem& problem, const char* prefix) {
    for (const ConvPlan& plan : conv_plans(problem, cpu_features(), pool.size(), o.exact)) {
      auto run = std::make_shared<OwnRun>(problem, plan, weights, bias.data(), src.data, dst.data, pool);
      Timed t;
      t.name = prefix + describe(plan);
      t.fast = plan.fast();
      t.run = [run] { (*run)(); };
      runs.push_back(t);
    }
  };
  add_own(p, "");
  if (p.cin <= 4) {
    ConvProblem planar = p;
    planar.src_nchw = true;
    add_own(planar, "nchw ");
  }
#if defined(LATHE_HAVE_ONEDNN)
  for (bool channels_last : {true, false}) {
    try {
      auto run = std::make_shared<OneDnnRun>(p, channels_last);
      Timed t;
      t.name = run->name();
      t.own = false;
      t.run = [run] { (*run)(); };
      runs.push_back(t);
    } catch (const dnnl::error&) {
    }
  }
#endif
  for (int round = 0; round < o.rounds; ++round) {
    bool was_own = true;
    for (Timed& t : runs) {
      if (t.own != was_own) std::this_thread::sleep_for(std::chrono::milliseconds(2));   // let the other side's threads park
      was_own = t.own;
      t.run();
      for (int i = 0; i < 3; ++i) {
        const double t0 = now();
        t.run();
        t.best = std::min(t.best, now() - t0);
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const Timed *own = nullptr, *exact = nullptr, *rival = nullptr;
  for (const Timed& t : runs) {
    if (!t.own && (!rival || t.best < rival->best)) rival = &t;
    if (t.own && (!own || t.best < own->best)) own = &t;
    if (t.own && !t.fast && (!exact || t.best < exact->best)) exact = &t;
  }
  const double flops = p.flops() * count;
  sum.flops += flops;
  sum.own += own->best * count;
  sum.exact += exact->best * count;
  if (rival) sum.rival += rival->best * count;
  auto rate = [&](const Timed& t) { return p.flops() / t.best * 1e-9; };
  std::printf("%-15s x%-2d %4ldx%-4ld %4ld->%-4ld k%ldx%ld s%ld g%-4ld %8.1f us %7.1f GF/s %5.1f%%  exact %5.1f%%  rival %5.1f%%  ratio %.2f (exact %.2f)  %s\n",
              network.c_str(), count, static_cast<long>(p.h), static_cast<long>(p.w), static_cast<long>(p.cin), static_cast<long>(p.cout),
              static_cast<long>(p.kh), static_cast<long>(p.kw), static_cast<long>(p.stride_h), static_cast<long>(p.groups),
              own->best * 1e6, rate(*own), rate(*own) / peak * 100, rate(*exact) / peak * 100, rival ? rate(*rival) / peak * 100 : 0.0,
              rival ? rival->best / own->best : 0.0, rival ? rival->best / exact->best : 0.0, own->name.c_str());
  if (o.plans) {
    for (const Timed& t : runs) std::printf("    %8.1f us %5.1f%%  %s\n", t.best * 1e6, rate(t) / peak * 100, t.name.c_str());
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string(); };
    if (a == "--threads") o.threads = std::atoi(value().c_str());
    else if (a == "--rounds") o.rounds = std::atoi(value().c_str());
    else if (a == "--type") o.type = value() == "bf16" ? DType::kBFloat16 : DType::kFloat32;
    else if (a == "--network") o.network = value();
    else if (a == "--plans") o.plans = true;
    else if (a == "--exact") o.exact = true;
    else o.file = a;
  }
  setenv("OMP_NUM_THREADS", std::to_string(o.threads).c_str(), 1);
  ThreadPool pool(o.threads);
  std::ifstream file(o.file);
  if (!file) {
    std::fprintf(stderr, "conv_bench: cannot read %s\n", o.file.c_str());
    return 2;
  }
  std::map<std::string, Sum> sums;
  std::vector<std::string> order;
  std::string line;
  double peak = measure_peak(pool, o.type);
  std::printf("%s, %d threads, peak %.0f GFLOP/s\n", cpu_features().describe().c_str(), o.threads, peak);
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream in(line);
    std::string network;
    int count = 0;
    ConvProblem p;
    in >> network >> count >> p.n >> p.h >> p.w >> p.cin >> p.cout >> p.kh >> p.kw >> p.stride_h >> p.stride_w >> p.pad_top >> p.pad_left >>
        p.pad_bottom >> p.pad_right >> p.dilation_h >> p.dilation_w >> p.groups;
    if (!in || (!o.network.empty() && network != o.network)) continue;
    if (!sums.count(network)) order.push_back(network);
    peak = std::max(peak, measure_peak(pool, o.type));
    bench_problem(network, count, p, o, pool, peak, sums[network]);
  }
  for (const std::string& network : order) {
    const Sum& s = sums[network];
    std::printf("%-15s own %.2f ms (%.0f GF/s), exact only %.2f ms (%.1f%% of peak), oneDNN %.2f ms (%.1f%%): ratio %.3f, exact %.3f\n",
                network.c_str(), s.own * 1e3, s.flops / s.own * 1e-9, s.exact * 1e3, s.flops / s.exact * 1e-7 / peak, s.rival * 1e3,
                s.rival > 0 ? s.flops / s.rival * 1e-7 / peak : 0.0, s.rival / s.own, s.rival / s.exact);
  }
  return 0;
}
