// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Times matrix products of a few networks (gemm_problems.txt) against oneDNN's matmul, alternating in one process; see bench_util.h.
//   gemm_bench [--threads N] [--type f32|bf16|both] [--network NAME] [--rounds N] [--json FILE] [problems.txt]
// bench/results/kernels_gemm.json: gemm_bench --type both --rounds 3 --json bench/results/kernels_gemm.json
#include <sstream>

#include "backend/cpu/gemm.h"
#include "bench_util.h"

namespace {

using namespace lathe;
using namespace lathe::cpu;
using namespace lathe::bench;

struct Problem {
  std::string network;
  int count = 1;
  std::int64_t batch = 1, m = 1, n = 1, k = 1;
  bool trans_b = false, packed = true;
};

#if defined(LATHE_HAVE_ONEDNN)
class OneDnnRun {
 public:
  OneDnnRun(const Problem& p, DType type) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using dt = dnnl::memory::data_type;
    using tag = dnnl::memory::format_tag;
    const auto dtype = type == DType::kFloat32 ? dt::f32 : dt::bf16;
    const dnnl::memory::desc a({p.batch, p.m, p.k}, dtype, tag::abc), c({p.batch, p.m, p.n}, dtype, tag::abc);
    const dnnl::memory::desc b({p.batch, p.k, p.n}, dtype, p.packed ? tag::any : p.trans_b ? tag::acb : tag::abc);
    const dnnl::memory::desc bias({1, 1, p.n}, dt::f32, tag::abc);
    const dnnl::matmul::primitive_desc pd = p.packed ? dnnl::matmul::primitive_desc(engine_, a, b, bias, c) : dnnl::matmul::primitive_desc(engine_, a, b, c);
    name_ = std::string("onednn ") + pd.impl_info_str();
    primitive_ = dnnl::matmul(pd);
    const auto memory = [&](const dnnl::memory::desc& d) {
      dnnl::memory m(d, engine_);
      const bool wide = d.get_data_type() == dt::f32;
      fill(m.get_data_handle(), static_cast<std::int64_t>(d.get_size() / (wide ? 4 : 2)), wide ? DType::kFloat32 : DType::kBFloat16);
      return m;
    };
    args_ = {{DNNL_ARG_SRC, memory(pd.src_desc())}, {DNNL_ARG_WEIGHTS, memory(pd.weights_desc())}, {DNNL_ARG_DST, memory(pd.dst_desc())}};
    if (p.packed) args_.emplace(DNNL_ARG_BIAS, memory(bias));
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

Result bench_problem(const Problem& problem, DType type, const Options& o, ThreadPool& pool, QuietProbe& probe, double peak) {
  GemmProblem p;
  p.m = problem.m;
  p.n = problem.n;
  p.k = problem.k;
  p.a = p.b = p.c = type;
  p.trans_b = problem.trans_b;
  p.packed_b = problem.packed;
  p.batch_inner = problem.batch;
  p.a_inner = p.m * p.k;
  p.c_inner = p.m * p.n;
  p.b_inner = p.k * p.n;
  const std::int64_t size = type == DType::kFloat32 ? 4 : 2;
  Aligned a(static_cast<std::size_t>(problem.batch * p.a_inner * size)), b(static_cast<std::size_t>(problem.batch * p.b_inner * size)),
      c(static_cast<std::size_t>(problem.batch * p.c_inner * size)), bias(static_cast<std::size_t>(p.n * 4)), packed(gemm_packed_b_bytes(p)),
      scratch(gemm_scratch_bytes(p, pool.size()));
  fill(a.data, problem.batch * p.a_inner, type);
  fill(b.data, problem.batch * p.b_inner, type);
  fill(bias.data, p.n, DType::kFloat32);
  GemmArgs args;
  args.a = a.data;
  args.b = b.data;
  args.c = c.data;
  args.scratch = scratch.data;
  if (problem.packed) {
    pack_gemm_b(p, b.data, type, packed.data);
    args.b = packed.data;
    args.bias = static_cast<const float*>(bias.data);
    p.b_inner = 0;
  }
  std::vector<Timed> runs;
  runs.push_back({problem.packed ? "packed" : "dynamic", false, true, [&] { run_gemm(p, {}, args, pool); }});
#if defined(LATHE_HAVE_ONEDNN)
  try {
    auto rival = std::make_shared<OneDnnRun>(problem, type);
    runs.push_back({rival->name(), false, false, [rival] { (*rival)(); }});
  } catch (const dnnl::error&) {
  }
#endif
  const double disturbed = alternate(runs, o.rounds, probe);
  Result r = best_of(runs);
  r.disturbed = disturbed;
  r.network = problem.network;
  r.count = problem.count;
  r.type = type_name(type);
  r.flops = 2.0 * static_cast<double>(problem.batch * p.m * p.n) * static_cast<double>(p.k);
  char text[160];
  std::snprintf(text, sizeof text, "%ldx %ldx%ldx%ld%s", static_cast<long>(problem.batch), static_cast<long>(p.m), static_cast<long>(p.n),
                static_cast<long>(p.k),
                problem.packed    ? " packed"
                : problem.trans_b ? " A Bt"
                                  : " A B");
  r.problem = text;
  std::printf("%-14s %s x%-2d %-30s %8.1f us %5.1f%%  rival %8.1f us %5.1f%%  ratio %.2f  %s\n", problem.network.c_str(), r.type.c_str(), problem.count, text,
              r.own * 1e6, r.flops / r.own * 1e-7 / peak, r.rival * 1e6, r.rival > 0 ? r.flops / r.rival * 1e-7 / peak : 0.0, r.rival / r.own,
              r.rival_name.c_str());
  std::fflush(stdout);
  return r;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  o.file = "bench/kernels/gemm_problems.txt";
  if (!parse(argc, argv, o)) {
    std::fprintf(stderr, "gemm_bench: unknown option\n");
    return 2;
  }
  ThreadPool pool(o.threads);
  std::vector<Result> results;
  std::vector<std::pair<std::string, double>> peaks;
  for (const DType type : o.types) {
    std::ifstream file(o.file);
    if (!file) {
      std::fprintf(stderr, "gemm_bench: cannot read %s\n", o.file.c_str());
      return 2;
    }
    double peak = measure_peak(pool, type);
    QuietProbe probe(pool, type);
    std::string line;
    while (std::getline(file, line)) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream in(line);
      Problem p;
      in >> p.network >> p.count >> p.batch >> p.m >> p.n >> p.k >> p.trans_b >> p.packed;
      if (!in || (!o.network.empty() && p.network != o.network)) continue;
      peak = std::max(peak, measure_peak(pool, type));
      results.push_back(bench_problem(p, type, o, pool, probe, peak));
    }
    peaks.emplace_back(type_name(type), peak);
  }
  print_summary(results);
  if (!o.json.empty()) write_json(o.json, "gemm_bench", o, peaks, results);
  return 0;
}
