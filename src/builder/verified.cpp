// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See verified.h. A file of the cache folder's "verified" is named by its key and holds the summary of the verification that passed.

#include "builder/verified.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>

#include "backend/cpu/features.h"
#include "backend/cuda/device.h"
#include "backend/cuda/nvrtc.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread_pool.h"
#include "builder/progress.h"
#include "engine/engine.h"
#include "onnx/writer.h"

namespace lathe::builder {
namespace {

constexpr std::string_view kAgain = "the same engine passed here before, by the same build of Lathe: ";

std::filesystem::path file_of(const std::string& key) { return os::cache_dir() / "verified" / (key + ".txt"); }

/// Of the file that holds this code; read once a process.
const std::string& binary_hash() {
  static const std::string once = [] {
    try {
      const auto file = os::MappedFile::open(os::own_binary());
      return hash128(file->bytes().data(), file->bytes().size()).hex();
    } catch (const std::exception&) {
      return std::string();
    }
  }();
  return once;
}

}  // namespace

std::string verification_key(const ir::Model& model, const engine::EngineData& engine, const BuildOptions& options) {
  if (binary_hash().empty()) return {};
  std::string all = fmt::format("{}\n{}\n", binary_hash(), engine::run_hash(engine).hex());
  onnx::WriteOptions write;
  write.external_location = [&](const ir::Value& value) {
    all += fmt::format("{}:{:x}:{}\n", value.name, value.constant.content_hash(), value.constant.bytes());
    return "weight";
  };
  const std::string graph = onnx::model_bytes(model, write);
  all += hash128(graph.data(), graph.size()).hex();
  all += fmt::format("\n{} {} {} {} {:x}\n", options.device, precision_name(options.precision), options.exact, options.verify_gflop, options.cpu_features);
  for (const auto& [name, range] : options.shapes)
    all += fmt::format("{} {} {} {}\n", name, fmt::join(range.min, "x"), fmt::join(range.opt, "x"), fmt::join(range.max, "x"));
  all += fmt::format("{} {} {}\n", os::cpu_model(), cpu::cpu_features().describe(), default_pool().size());
  if (options.device_handle) {
    const auto& device = *static_cast<const cuda::Device*>(options.device_handle);
    const cuda::Nvrtc* nvrtc = cuda::Nvrtc::find();
    all += fmt::format("{} {} {} {}.{}\n", device.info().name, device.info().multiprocessors, device.driver().version, nvrtc ? nvrtc->major() : 0,
                       nvrtc ? nvrtc->minor() : 0);
  }
  return hash128(all.data(), all.size()).hex();
}

VerifyReport verify_once(const ir::Model& model, const engine::EngineData& engine, const BuildOptions& options) {
  const double started = os::now_seconds();
  std::filesystem::path file;
  if (options.use_cache && engine.custom_ops.empty()) {  // what a custom operator's function does is not known from its name
    try {
      if (const std::string key = verification_key(model, engine, options); !key.empty()) file = file_of(key);
      if (!file.empty() && std::filesystem::exists(file)) {
        Phase phase(options.progress, "verifying", 1);
        VerifyReport report;
        report.ran = report.passed = true;
        report.summary = std::string(kAgain) + os::read_text(file);
        report.seconds = os::now_seconds() - started;
        phase.finish();
        return report;
      }
    } catch (const std::exception& error) {
      log(LogLevel::kWarning, "what was verified before is not known: {}", error.what());
      file.clear();
    }
  }
  VerifyReport report = verify_engine(model, engine, options);
  if (!report.passed || file.empty()) return report;
  try {
    std::filesystem::create_directories(file.parent_path());
    os::AtomicFile out(file);
    out.write(report.summary);
    out.commit();
  } catch (const std::exception& error) {
    log(LogLevel::kWarning, "that the engine passed is not kept: {}", error.what());
  }
  return report;
}

}  // namespace lathe::builder
