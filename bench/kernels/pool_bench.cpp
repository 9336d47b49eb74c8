// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Times poolings of a few networks (pool_problems.txt) against oneDNN, alternating in one process; see bench_util.h.
//   pool_bench [--threads N] [--type f32|bf16|both] [--network NAME] [--rounds N] [--json FILE] [problems.txt]
// bench/results/kernels_pool.json: pool_bench --type both --rounds 3 --json bench/results/kernels_pool.json
#include <sstream>

#include "backend/cpu/pool.h"
#include "bench_util.h"

namespace {

using namespace lathe;
using namespace lathe::cpu;
using namespace lathe::bench;

#if defined(LATHE_HAVE_ONEDNN)
class OneDnnRun {
 public:
  OneDnnRun(const PoolProblem& p, bool channels_last) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using dt = dnnl::memory::data_type;
    using tag = dnnl::memory::format_tag;
    const auto type = p.src == DType::kFloat32 ? dt::f32 : dt::bf16;
    const auto layout = channels_last ? tag::nhwc : tag::nChw16c;
    const dnnl::memory::desc src({p.n, p.c, p.h, p.w}, type, layout), dst({p.n, p.c, p.oh(), p.ow()}, type, layout);
    const auto kind = p.kind == PoolKind::kMax ? dnnl::algorithm::pooling_max : dnnl::algorithm::pooling_avg_exclude_padding;
    dnnl::pooling_forward::primitive_desc pd(engine_, dnnl::prop_kind::forward_inference, kind, src, dst, {p.stride_h, p.stride_w}, {p.kh, p.kw}, {0, 0},
                                             {p.pad_top, p.pad_left}, {p.pad_bottom, p.pad_right});
    name_ = std::string("onednn ") + (channels_last ? "nhwc " : "nChw16c ") + pd.impl_info_str();
    primitive_ = dnnl::pooling_forward(pd);
    dnnl::memory in(src, engine_), out(dst, engine_);
    fill(in.get_data_handle(), p.n * p.c * p.h * p.w, p.src);
    args_ = {{DNNL_ARG_SRC, in}, {DNNL_ARG_DST, out}};
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

}  // namespace

int main(int argc, char** argv) {
  Options o;
  o.file = "bench/kernels/pool_problems.txt";
  if (!parse(argc, argv, o)) {
    std::fprintf(stderr, "pool_bench: unknown option\n");
    return 2;
  }
  ThreadPool pool(o.threads);
  std::vector<Result> results;
  for (const DType type : o.types) {
    std::ifstream file(o.file);
    if (!file) {
      std::fprintf(stderr, "pool_bench: cannot read %s\n", o.file.c_str());
      return 2;
    }
    QuietProbe probe(pool, type);
    std::string line;
    while (std::getline(file, line)) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream in(line);
      std::string network, kind;
      int count = 0;
      PoolProblem p;
      std::int64_t k = 0, stride = 1, pad = 0;
      in >> network >> count >> p.n >> p.h >> p.w >> p.c >> kind >> k >> stride >> pad;
      if (!in || (!o.network.empty() && network != o.network)) continue;
      const bool global = kind[0] == 'g';
      p.kind = kind.ends_with("max") ? PoolKind::kMax : PoolKind::kAverage;
      p.kh = global ? p.h : k;
      p.kw = global ? p.w : k;
      p.stride_h = p.stride_w = stride;
      p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = pad;
      p.src = p.dst = type;
      Aligned src(static_cast<std::size_t>(p.n * p.h * p.w * p.c * 4)), dst(static_cast<std::size_t>(p.n * p.oh() * p.ow() * p.c * 4));
      fill(src.data, p.n * p.h * p.w * p.c, type);
      std::vector<Timed> runs;
      if (global) {
        runs.push_back({"global", false, true, [&] { run_global_pool({p.kind, p.n, p.h * p.w, p.c, type, type, 0, 0}, src.data, dst.data, pool); }});
      } else {
        runs.push_back({"window", false, true, [&] { run_pool(p, src.data, dst.data, pool); }});
      }
#if defined(LATHE_HAVE_ONEDNN)
      for (const bool last : {true, false}) {
        try {
          auto rival = std::make_shared<OneDnnRun>(p, last);
          runs.push_back({rival->name(), false, false, [rival] { (*rival)(); }});
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
      r.flops = static_cast<double>(p.n * p.oh() * p.ow() * p.c * p.kh * p.kw);
      char text[160];
      std::snprintf(text, sizeof text, "%s %ldx%ldx%ld k%ld s%ld", kind.c_str(), static_cast<long>(p.h), static_cast<long>(p.w), static_cast<long>(p.c),
                    static_cast<long>(p.kh), static_cast<long>(stride));
      r.problem = text;
      std::printf("%-14s %s x%-2d %-26s %8.1f us  rival %8.1f us  ratio %.2f  %s\n", network.c_str(), r.type.c_str(), count, text, r.own * 1e6, r.rival * 1e6,
                  r.rival / r.own, r.rival_name.c_str());
      std::fflush(stdout);
      results.push_back(r);
    }
  }
  print_summary(results);
  if (!o.json.empty()) write_json(o.json, "pool_bench", o, {}, results);
  return 0;
}
