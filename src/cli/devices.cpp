// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe devices`: what this machine offers, and the environment variables that change what is made of it. docs/knobs.md is made from its JSON.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "backend/cpu/features.h"
#ifdef LATHE_HAVE_ONEDNN
#include "backend/cpu/onednn.h"
#endif
#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cudnn.h"
#include "backend/cuda/module.h"
#include "backend/cuda/nvrtc.h"
#include "base/knobs.h"
#include "base/os.h"
#include "cli/command.h"
#include "cli/doctor_facts.h"
#include "cli/machine_rates.h"

namespace lathe::cli {
namespace {

void print_knobs(bool json) {
  nlohmann::json out = nlohmann::json::array();
  for (const Knob& row : knob_table()) {
    const std::string value = knob(row.name);
    out.push_back({{"name", row.name}, {"default", row.default_value}, {"value", value}, {"help", row.help}});
    if (!json) fmt::print("{}{}\n    {}\n", row.name, value.empty() ? "" : "=" + value, row.help);
  }
  if (json) fmt::print("{}\n", out.dump(2));
}

/// GPUs as the driver shows them, and what is missing where there are none.
nlohmann::json describe_cuda() {
  std::string why, no_nvrtc;
  nlohmann::json out = {{"devices", describe_gpus(&why)}};
  if (!why.empty()) out["why_none"] = why;
  const cuda::Nvrtc* nvrtc = cuda::Nvrtc::find(&no_nvrtc);
  out["nvrtc"] = nvrtc ? fmt::format("{}.{}", nvrtc->major(), nvrtc->minor()) : no_nvrtc;
  std::string no_cublaslt, no_cudnn;
  const cuda::cublaslt::Library* cublaslt = cuda::cublaslt::Library::find(&no_cublaslt);
  out["cublaslt"] = cublaslt ? cublaslt->version_text() : no_cublaslt;
  const cuda::cudnn::Library* cudnn = cuda::cudnn::Library::find(&no_cudnn);
  out["cudnn"] = cudnn ? cudnn->version_text() : no_cudnn;
  out["embedded_kernels"] = cuda::embedded_modules().size();
  return out;
}

void print_cuda(const nlohmann::json& cuda) {
  for (const auto& device : cuda["devices"])
    fmt::print("{:8} {} ({}, {} multiprocessors, {:.0f} GB, {:.0f} GB/s by the driver's figures)\n", device["device"].get<std::string>(),
               device["name"].get<std::string>(), device["arch"].get<std::string>(), device["multiprocessors"].get<int>(),
               device["memory_bytes"].get<double>() * 1e-9, device["memory_gbytes_per_s"].get<double>());
  if (cuda.contains("why_none")) fmt::print("cuda     none: {}\n", cuda["why_none"].get<std::string>());
  fmt::print("         NVRTC: {}\n         cuBLASLt: {}\n         cuDNN: {}\n", cuda["nvrtc"].get<std::string>(), cuda["cublaslt"].get<std::string>(),
             cuda["cudnn"].get<std::string>());
}

}  // namespace

void add_devices(CLI::App& app, Action& action) {
  struct Options {
    bool json = false, knobs = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "devices", "What this machine offers, with measured rates",
                              {"lathe devices", "lathe devices --json", "lathe devices --knobs     which environment variables are heeded, and their values"});
  command->add_flag("--json", options->json, "Print as JSON");
  command->add_flag("--knobs", options->knobs, "The environment variables that Lathe reads and their values, instead");
  command->callback([options, &action] {
    action = [options] {
      if (options->knobs) {
        print_knobs(options->json);
        return 0;
      }
      const MachineRates rates = measure_machine_rates();
      const std::string features = cpu::cpu_features().describe();
      std::string no_onednn = "not in this build", onednn_version;
#ifdef LATHE_HAVE_ONEDNN
      if (const cpu::onednn::Library* library = cpu::onednn::Library::find(&no_onednn)) onednn_version = library->version();
#endif
      const std::string onednn = onednn_version.empty() ? no_onednn : onednn_version;
      if (options->json) {
        const nlohmann::json out = {{"cpu",
                                     {{"model", os::cpu_model()},
                                      {"threads", os::available_cpus()},
                                      {"features", features},
                                      {"onednn", onednn},
                                      {"fp32_gflops", rates.flops * 1e-9},
                                      {"copy_gbytes_per_s", rates.bytes * 1e-9}}},
                                    {"cuda", describe_cuda()}};
        fmt::print("{}\n", out.dump(2));
        return 0;
      }
      fmt::print("cpu      {} ({} threads)\n         features: {}\n         measured: {:.0f} GFLOP/s fp32, {:.1f} GB/s copying\n         oneDNN: {}\n",
                 os::cpu_model(), os::available_cpus(), features, rates.flops * 1e-9, rates.bytes * 1e-9, onednn);
      print_cuda(describe_cuda());
      return 0;
    };
  });
}

}  // namespace lathe::cli
