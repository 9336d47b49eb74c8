// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See engine.h.

#include "runtime/engine.h"

#include <fmt/format.h>

#include <set>

#include "backend/cpu/features.h"
#include "base/log.h"
#include "engine/native_code.h"
#include "lathe/status.h"
#include "ops/custom/custom.h"
#include "ops/evaluate.h"
#include "ops/registry.h"
#include "plan/kernel.h"

namespace lathe::runtime {
namespace {

/// `section` is a section's name, its beginning and '*', or empty: any.
bool asked_for(std::string_view section, const std::string& device) {
  if (section.empty()) return true;
  return section.back() == '*' ? device.starts_with(section.substr(0, section.size() - 1)) : device == section;
}

/// Why the first step that cannot run here cannot; empty when all can.
std::string unfit_step(const plan::Program& program, bool to_run) {
  for (const plan::Step& step : program.steps) {
    if (program.dynamic) {
      if (step.kind != plan::StepKind::kHostOp || !to_run) continue;
      const std::string domain = step.params.get_string("domain", ""), op = step.params.get_string("op", "");
      if (!ops::can_evaluate(ops::find_op(domain, op))) return fmt::format("it needs the operator '{}', which this version lacks", ops::full_name(domain, op));
      continue;
    }
    if (step.kernel.empty()) continue;
    const plan::KernelType* kernel = plan::find_kernel(step.kernel);
    if (!kernel) return fmt::format("it needs the kernel '{}', which this version lacks", step.kernel);
    if (kernel->unfit)
      if (std::string why = kernel->unfit(step.params); !why.empty()) return why;
  }
  for (const plan::Program& sub : program.subprograms)
    if (std::string why = unfit_step(sub, to_run); !why.empty()) return why;
  return {};
}

/// Hands native code that this user trusts to the device; what may not run is made again where it is needed. Returns the line about it.
std::string offer_native(const engine::NativeCode& native, cuda::Device& device) {
  engine::OpenedNative opened = engine::open_native(native);
  if (opened.ignored) log(LogLevel::kWarning, "{}", opened.note);
  if (opened.images.empty()) return std::move(opened.note);
  std::vector<cuda::Device::Image> images;
  for (engine::NativeImage& image : opened.images) images.push_back({image.key, std::move(image.arch), image.code});
  device.offer_code(images, std::move(opened.owner));
  return std::move(opened.note);
}

}  // namespace

std::shared_ptr<const Engine> Engine::create(engine::EngineData data, std::string_view section, int ordinal, bool to_run) {
  for (const std::string& key : data.custom_ops) {
    if (!to_run) break;
    if (const std::string why = ops::custom_op_missing(key); !why.empty())
      throw Error(Code::kUnsupported, fmt::format("the engine cannot run in this process: {}", why))
          .with_remedy("Register it before loading: lathe.register_op in Python, lathe::register_op in C++ (docs/custom_ops.md).");
  }
  auto engine = std::make_shared<Engine>();
  engine->data_ = std::move(data);
  const cpu::CpuFeatures here = cpu::cpu_features();
  std::string refused;
  for (const engine::DeviceSection& candidate : engine->data_.sections) {
    if (!asked_for(section, candidate.device)) continue;
    if (candidate.device.rfind("cuda:", 0) == 0) {
      std::string unfit = cuda_section_unfit(candidate.device, ordinal);
      if (unfit.empty())
        if (const std::string why = unfit_step(candidate.program, to_run); !why.empty())
          unfit = fmt::format("the section '{}' cannot run here: {}", candidate.device, why);
      if (!unfit.empty()) {
        refused = std::move(unfit);
        continue;
      }
      engine->section_ = &candidate;
      engine->cuda_ = std::make_shared<const CudaEngine>(engine->data_, candidate.program, ordinal);
      engine->note_ = fmt::format("{} ({})", candidate.device, engine->cuda_->device()->info().name);
      engine->native_note_ = offer_native(candidate.native, *engine->cuda_->device());
      return engine;
    }
    if (candidate.device.rfind("cpu", 0) != 0) continue;
    // Sections name the kernel level that they were tuned for.
    cpu::Isa needed = cpu::Isa::kGeneric;
    bool known = candidate.needs.empty();
    for (const cpu::Isa isa : cpu::kAllIsas)
      if (candidate.needs == cpu::isa_name(isa)) {
        needed = isa;
        known = true;
      }
    if (!known || !cpu::includes(here.isa(), needed)) {
      refused = fmt::format("the section '{}' is tuned for {}, this machine offers {}", candidate.device, candidate.needs, cpu::isa_name(here.isa()));
      continue;
    }
    if (const std::string why = unfit_step(candidate.program, to_run); !why.empty()) {
      refused = fmt::format("the section '{}' cannot run here: {}", candidate.device, why);
      continue;
    }
    engine->section_ = &candidate;
    const std::string_view level = candidate.needs.empty() ? "any CPU" : std::string_view(candidate.needs);
    engine->note_ = refused.empty() ? fmt::format("{} ({})", candidate.device, level)
                                    : fmt::format("{} ({}): {}; build again here for full speed", candidate.device, level, refused);
    if (!refused.empty()) log(LogLevel::kWarning, "the engine runs on its section {}", engine->note_);
    return engine;
  }
  const bool for_gpu = section.starts_with("cuda");
  if (refused.empty() && section.empty()) refused = "the engine has no section for this machine's CPU";
  if (refused.empty())
    refused = for_gpu ? "the engine was built for the CPU: it has no section for a GPU" : fmt::format("the engine has no section '{}'", section);
  throw Error(Code::kMachine, refused)
      .with_remedy(for_gpu ? "Build it again with --device cuda on a machine with this GPU, or leave the device open."
                           : "Build the engine again on this machine.");
}

std::shared_ptr<const Engine> Engine::part(std::shared_ptr<const Engine> whole, const plan::Program& program) {
  auto part = std::make_shared<Engine>();
  part->section_ = whole->section_;
  part->note_ = whole->note_;
  part->native_note_ = whole->native_note_;
  part->cuda_ = whole->cuda_;
  part->part_ = &program;
  part->whole_ = std::move(whole);
  return part;
}

std::size_t Engine::weight_bytes() const {
  std::set<plan::BlobId> named;
  const auto visit = [&](auto&& self, const plan::Program& program) -> void {
    for (const plan::Step& step : program.steps) named.insert(step.weights.begin(), step.weights.end());
    for (const plan::Slot& slot : program.slots)
      if (slot.storage == plan::Storage::kConstant) named.insert(slot.blob);
    for (const plan::Program& sub : program.subprograms) self(self, sub);
  };
  visit(visit, program());
  std::size_t bytes = 0;
  for (const plan::BlobId id : named)
    if (id >= 0) bytes += blob(id).size();
  return bytes;
}

}  // namespace lathe::runtime
