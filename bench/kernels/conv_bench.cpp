// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Times every plan of each convolution of a few networks (conv_problems.txt), with bias and SiLU, against oneDNN's best of channels-last and
// blocked layouts, alternating in one process. Prints GFLOP/s, percent of the multiply peak measured in the same run, and summed
// ratios (oneDNN time / own time; above 1 is faster).
//   conv_bench [--threads N] [--type f32|bf16|both] [--network NAME] [--rounds N] [--plans] [--exact] [--json FILE] [problems.txt]
// bench/results/kernels_conv.json: conv_bench --type both --rounds 3 --json bench/results/kernels_conv.json
#include <sstream>

#include "backend/cpu/conv.h"
#include "bench_util.h"

namespace {

using namespace lathe;
using namespace lathe::cpu;
using namespace lathe::bench;

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
    const dnnl::memory::dims wd =
        p.groups == 1 ? dnnl::memory::dims{p.cout, p.cin, p.kh, p.kw} : dnnl::memory::dims{p.groups, p.cout / p.groups, p.cin / p.groups, p.kh, p.kw};
    dnnl::memory::desc weights(wd, type, tag::any), bias({p.cout}, dt::f32, tag::x);
    dnnl::post_ops ops;
    ops.append_eltwise(dnnl::algorithm::eltwise_swish, 1.0f, 0.0f);
    dnnl::primitive_attr attr;
    attr.set_post_ops(ops);
    dnnl::convolution_forward::primitive_desc pd(engine_, dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, src, weights, bias, dst,
                                                 {p.stride_h, p.stride_w}, {p.dilation_h - 1, p.dilation_w - 1}, {p.pad_top, p.pad_left},
                                                 {p.pad_bottom, p.pad_right}, attr);
    name_ = std::string("onednn ") + (channels_last ? "nhwc " : "any ") + pd.impl_info_str();
    primitive_ = dnnl::convolution_forward(pd);
    auto memory = [&](const dnnl::memory::desc& d) {
      dnnl::memory m(d, engine_);
      fill(m.get_data_handle(), static_cast<std::int64_t>(d.get_size() / (d.get_data_type() == dt::f32 ? 4 : 2)),
           d.get_data_type() == dt::f32 ? DType::kFloat32 : DType::kBFloat16);
      return m;
    };
    args_ = {{DNNL_ARG_SRC, memory(pd.src_desc())},
             {DNNL_ARG_WEIGHTS, memory(pd.weights_desc())},
             {DNNL_ARG_BIAS, memory(bias)},
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

Result bench_problem(const std::string& network, int count, ConvProblem p, DType type, const Options& o, ThreadPool& pool, QuietProbe& probe, double peak) {
  p.src = p.weights = p.dst = type;
  std::vector<float> weights(static_cast<std::size_t>(p.cout * (p.cin / p.groups) * p.kh * p.kw)), bias(static_cast<std::size_t>(p.cout));
  fill(weights.data(), static_cast<std::int64_t>(weights.size()), DType::kFloat32);
  fill(bias.data(), p.cout, DType::kFloat32);
  const std::int64_t in = p.n * p.h * p.w * p.cin, out = p.n * p.oh() * p.ow() * p.cout;
  Aligned src(static_cast<std::size_t>(in) * 4), dst(static_cast<std::size_t>(out) * 4);
  fill(src.data, in, type);
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
  const double disturbed = alternate(runs, o.rounds, probe);
  Result r = best_of(runs);
  r.disturbed = disturbed;
  r.network = network;
  r.count = count;
  r.type = type_name(type);
  r.flops = p.flops();
  char text[160];
  std::snprintf(text, sizeof text, "%ldx%ld %ld->%ld k%ldx%ld s%ld g%ld", static_cast<long>(p.h), static_cast<long>(p.w), static_cast<long>(p.cin),
                static_cast<long>(p.cout), static_cast<long>(p.kh), static_cast<long>(p.kw), static_cast<long>(p.stride_h), static_cast<long>(p.groups));
  r.problem = text;
  const auto percent = [&](double seconds) { return seconds > 0 ? p.flops() / seconds * 1e-7 / peak : 0.0; };
  std::printf("%-15s %s x%-2d %-28s %8.1f us %5.1f%%  exact %5.1f%%  rival %5.1f%%  ratio %.2f (exact %.2f)  %s\n", network.c_str(), r.type.c_str(), count,
              text, r.own * 1e6, percent(r.own), percent(r.exact), percent(r.rival), r.rival / r.own, r.rival / r.exact, r.own_name.c_str());
  if (o.plans) {
    for (const Timed& t : runs) std::printf("    %8.1f us %5.1f%%  %s\n", t.best * 1e6, percent(t.best), t.name.c_str());
  }
  std::fflush(stdout);
  return r;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  o.file = "bench/kernels/conv_problems.txt";
  if (!parse(argc, argv, o)) {
    std::fprintf(stderr, "conv_bench: unknown option\n");
    return 2;
  }
  ThreadPool pool(o.threads);
  std::vector<Result> results;
  std::vector<std::pair<std::string, double>> peaks;
  for (const DType type : o.types) {
    std::ifstream file(o.file);
    if (!file) {
      std::fprintf(stderr, "conv_bench: cannot read %s\n", o.file.c_str());
      return 2;
    }
    std::string line;
    double peak = measure_peak(pool, type);
    QuietProbe probe(pool, type);
    std::printf("%s, %d threads, %s peak %.0f GFLOP/s\n", cpu_features().describe().c_str(), o.threads, type_name(type), peak);
    while (std::getline(file, line)) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream in(line);
      std::string network;
      int count = 0;
      ConvProblem p;
      in >> network >> count >> p.n >> p.h >> p.w >> p.cin >> p.cout >> p.kh >> p.kw >> p.stride_h >> p.stride_w >> p.pad_top >> p.pad_left >> p.pad_bottom >>
          p.pad_right >> p.dilation_h >> p.dilation_w >> p.groups;
      if (!in || (!o.network.empty() && network != o.network)) continue;
      peak = std::max(peak, measure_peak(pool, type));
      results.push_back(bench_problem(network, count, p, type, o, pool, probe, peak));
    }
    peaks.emplace_back(type_name(type), peak);
  }
  print_summary(results);
  if (!o.json.empty()) write_json(o.json, "conv_bench", o, peaks, results);
  return 0;
}
