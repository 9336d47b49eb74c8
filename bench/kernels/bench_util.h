// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the kernel benchmarks share: buffers, seeded data, alternating rounds of own and rival runs, sums, and the JSON of a result.
// Own and rival runs alternate in one process; the least time of all rounds counts, since other work on the machine only adds time.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "backend/cpu/features.h"
#include "backend/cpu/kernel_table.h"
#include "base/half.h"
#include "base/os.h"
#include "base/thread_pool.h"

#if defined(LATHE_HAVE_ONEDNN)
#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace lathe::bench {

struct Options {
  int threads = 2, rounds = 9;
  std::vector<DType> types{DType::kFloat32};
  std::string network, file, json;
  bool plans = false, exact = false;
};

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
inline const char* type_name(DType type) { return type == DType::kFloat32 ? "fp32" : "bf16"; }

struct Aligned {
  explicit Aligned(std::size_t bytes) : data(std::aligned_alloc(64, (bytes + 127) / 64 * 64)) { std::memset(data, 0, bytes); }
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  void* data;
};

inline void fill(void* data, std::int64_t count, DType type) {
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

/// Multiply peak of the type: one register tile in first-level cache on every worker.
inline double measure_peak(ThreadPool& pool, DType type) {
  const cpu::KernelTable& k = cpu::kernel_table();
  const auto& tiles = type == DType::kFloat32 ? k.f32 : k.bf16;
  constexpr std::int64_t kSteps = 64, kCalls = 3000;
  double best = 1e9;
  for (int round = 0; round < 8; ++round) {
    const double t0 = now();
    pool.parallel_for(pool.size(), [&](std::int64_t, int) {
      alignas(64) static thread_local float a[14 * (kSteps + 16)], w[kSteps * 32], acc[14 * 32];
      cpu::TileArgs t{};
      t.a_stride = (kSteps + 16) * 4;
      t.a0 = reinterpret_cast<const char*>(a);
      t.a1 = t.a0 + (k.max_rows + 1) / 2 * t.a_stride;
      t.w = reinterpret_cast<const char*>(w);
      t.w_stride = k.max_units * 64;
      t.w_unit = 64;
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

/// Tells whether the machine is ours: a fixed short work on every worker at once must take as long as on the caller alone. A rival whose threads
/// meet at barriers suffers far more from other load than a pool that steals, so timings under load compare nothing.
class QuietProbe {
 public:
  QuietProbe(ThreadPool& pool, DType type) : pool_(pool), type_(type) { alone_ = run(60, 1); }
  bool quiet() {
    alone_ = std::min(alone_, run(1, 1));
    return run(2, pool_.size()) < alone_ * 1.15;  // the first wakes parked workers
  }

 private:
  double run(int times, int workers) {
    const cpu::KernelTable& k = cpu::kernel_table();
    const auto& tiles = type_ == DType::kFloat32 ? k.f32 : k.bf16;
    constexpr std::int64_t kSteps = 64, kCalls = 400;
    double best = 1e9;
    for (int i = 0; i < times; ++i) {
      const double t0 = now();
      pool_.parallel_for(workers, [&](std::int64_t, int) {
        alignas(64) static thread_local float a[14 * (kSteps + 16)], w[kSteps * 32], acc[14 * 32];
        cpu::TileArgs t{};
        t.a_stride = (kSteps + 16) * 4;
        t.a0 = reinterpret_cast<const char*>(a);
        t.a1 = t.a0 + (k.max_rows + 1) / 2 * t.a_stride;
        t.w = reinterpret_cast<const char*>(w);
        t.w_stride = k.max_units * 64;
        t.w_unit = 64;
        t.k = kSteps;
        t.outer = t.inner = 1;
        t.acc = acc;
        t.acc_stride = k.max_units * 16;
        for (int c = 0; c < kCalls; ++c) tiles[k.max_units][k.max_rows](t);
      });
      best = std::min(best, now() - t0);
    }
    return best;
  }
  ThreadPool& pool_;
  DType type_;
  double alone_;
};

/// Every run once a round, own and rival in turn; a timing counts when the machine was quiet before and after it. Returns the share of
/// timings that found no quiet moment in a few tries and count all the same.
inline double alternate(std::vector<Timed>& runs, int rounds, QuietProbe& probe) {
  int disturbed = 0;
  for (int round = 0; round < rounds; ++round) {
    bool was_own = true;
    for (Timed& t : runs) {
      if (t.own != was_own) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // let the other side's threads park
      was_own = t.own;
      for (int attempt = 0;; ++attempt) {
        bool quiet = probe.quiet();
        if (!t.own) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the probe's threads park too
        t.run();
        double best = 1e9;
        for (int i = 0; i < 3; ++i) {
          const double t0 = now();
          t.run();
          best = std::min(best, now() - t0);
        }
        quiet = probe.quiet() && quiet;
        if (!quiet && attempt < 6) {
          std::this_thread::sleep_for(std::chrono::milliseconds(3));
          continue;
        }
        t.best = std::min(t.best, best);
        disturbed += !quiet;
        break;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return static_cast<double>(disturbed) / static_cast<double>(std::max<std::size_t>(1, runs.size() * static_cast<std::size_t>(rounds)));
}

struct Result {
  std::string network, problem, type, own_name, rival_name;
  int count = 1;
  double flops = 0, own = 0, exact = 0, rival = 0;  ///< seconds; rival 0: none
  double disturbed = 0;                             ///< share of timings taken beside other load
};

/// Best of own, of own without class fast, of the rival.
inline Result best_of(const std::vector<Timed>& runs) {
  Result r;
  for (const Timed& t : runs) {
    if (!t.own && (r.rival == 0 || t.best < r.rival)) r.rival = t.best, r.rival_name = t.name;
    if (t.own && (r.own == 0 || t.best < r.own)) r.own = t.best, r.own_name = t.name;
    if (t.own && !t.fast && (r.exact == 0 || t.best < r.exact)) r.exact = t.best;
  }
  return r;
}

/// Problems of which more timings were disturbed are listed, not summed.
inline constexpr double kDisturbed = 0.5;

/// Per network and type: summed times, geometric mean and worst of the ratios rival / own.
struct Summary {
  std::string network, type;
  double own = 0, exact = 0, rival = 0, geometric_mean = 0, worst = 0;
  int problems = 0;
};
inline std::vector<Summary> summarise(const std::vector<Result>& results) {
  std::vector<Summary> list;
  for (const Result& r : results) {
    if (r.rival == 0 || r.disturbed > kDisturbed) continue;
    for (const std::string& network : {r.network, std::string("all")}) {
      auto s = std::find_if(list.begin(), list.end(), [&](const Summary& x) { return x.network == network && x.type == r.type; });
      if (s == list.end()) s = list.insert(list.end(), Summary{network, r.type});
      const double ratio = r.rival / r.own;
      s->own += r.own * r.count;
      s->exact += r.exact * r.count;
      s->rival += r.rival * r.count;
      s->geometric_mean += std::log(ratio);
      s->worst = s->problems == 0 ? ratio : std::min(s->worst, ratio);
      ++s->problems;
    }
  }
  for (Summary& s : list) s.geometric_mean = std::exp(s.geometric_mean / s.problems);
  return list;
}

inline void print_summary(const std::vector<Result>& results) {
  for (const Summary& s : summarise(results))
    std::printf("%-16s %s own %8.2f ms, exact only %8.2f ms, rival %8.2f ms: ratio %.3f (exact %.3f), geometric mean %.3f, worst %.3f over %d problems\n",
                s.network.c_str(), s.type.c_str(), s.own * 1e3, s.exact * 1e3, s.rival * 1e3, s.rival / s.own, s.rival / s.exact, s.geometric_mean, s.worst,
                s.problems);
}

inline void write_json(const std::string& path, const char* bench, const Options& o, const std::vector<std::pair<std::string, double>>& peaks,
                       const std::vector<Result>& results) {
  std::ofstream out(path);
  char line[512];
  const auto print = [&](auto... values) {
    std::snprintf(line, sizeof line, values...);
    out << line;
  };
  print("{\n  \"benchmark\": \"%s\",\n  \"machine\": \"%s\",\n  \"features\": \"%s\",\n  \"threads\": %d,\n  \"rounds\": %d,\n", bench, os::cpu_model().c_str(),
        std::string(cpu::isa_name(cpu::cpu_features().isa())).c_str(), o.threads, o.rounds);
  print(
      "  \"rival\": \"oneDNN, the better of channels-last and its own layout\",\n  \"ratio\": \"rival time / own time; above 1 is faster\",\n  "
      "\"peak_gflops\": {");
  for (std::size_t i = 0; i < peaks.size(); ++i) print("%s\"%s\": %.1f", i ? ", " : "", peaks[i].first.c_str(), peaks[i].second);
  out << "},\n  \"summary\": [\n";
  const auto summary = summarise(results);
  for (std::size_t i = 0; i < summary.size(); ++i) {
    const Summary& s = summary[i];
    print(
        "    {\"network\": \"%s\", \"type\": \"%s\", \"problems\": %d, \"own_ms\": %.3f, \"exact_ms\": %.3f, \"rival_ms\": %.3f, \"ratio\": %.3f, "
        "\"geometric_mean\": %.3f, \"worst\": %.3f}%s\n",
        s.network.c_str(), s.type.c_str(), s.problems, s.own * 1e3, s.exact * 1e3, s.rival * 1e3, s.rival / s.own, s.geometric_mean, s.worst,
        i + 1 < summary.size() ? "," : "");
  }
  out << "  ],\n  \"problems\": [\n";
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Result& r = results[i];
    print("    {\"network\": \"%s\", \"problem\": \"%s\", \"count\": %d, \"type\": \"%s\", \"own_us\": %.1f, \"own\": \"%s\", \"exact_us\": %.1f, ",
          r.network.c_str(), r.problem.c_str(), r.count, r.type.c_str(), r.own * 1e6, r.own_name.c_str(), r.exact * 1e6);
    print("\"gflops\": %.1f, \"rival_us\": %.1f, \"rival\": \"%s\", \"ratio\": %.3f, \"disturbed\": %.2f}%s\n", r.flops / r.own * 1e-9, r.rival * 1e6,
          r.rival_name.c_str(), r.rival / r.own, r.disturbed, i + 1 < results.size() ? "," : "");
  }
  out << "  ]\n}\n";
  if (!out) std::fprintf(stderr, "%s: cannot write %s\n", bench, path.c_str());
}

/// Common options; false = an unknown one was given. OpenMP reads its thread count when it is loaded, so the program starts itself again
/// with the count in its environment.
inline bool parse(int argc, char** argv, Options& o) {
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string(); };
    if (a == "--threads") o.threads = std::atoi(value().c_str());
    else if (a == "--rounds") o.rounds = std::atoi(value().c_str());
    else if (a == "--type") {
      const std::string type = value();
      if (type == "bf16") o.types = {DType::kBFloat16};
      else if (type == "both") o.types = {DType::kFloat32, DType::kBFloat16};
      else o.types = {DType::kFloat32};
    } else if (a == "--network") o.network = value();
    else if (a == "--json") o.json = value();
    else if (a == "--plans") o.plans = true;
    else if (a == "--exact") o.exact = true;
    else if (a.starts_with("--")) return false;
    else o.file = a;
  }
  const std::string threads = std::to_string(o.threads);
  const char* set = std::getenv("OMP_NUM_THREADS");
  if (!set || threads != set) {
    setenv("OMP_NUM_THREADS", threads.c_str(), 1);
    execv("/proc/self/exe", argv);
  }
  return true;
}

}  // namespace lathe::bench
