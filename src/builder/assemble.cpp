// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See assemble.h.

#include "builder/assemble.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

#include "backend/cpu/features.h"
#include "backend/cuda/device.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread_pool.h"
#include "base/version.h"
#include "builder/blob_store.h"
#include "builder/cover.h"
#include "builder/dynamic_lowering.h"
#include "builder/hints.h"
#include "builder/in_place.h"
#include "builder/lowering.h"
#include "builder/progress.h"
#include "builder/random_inputs.h"
#include "builder/tuner.h"
#include "builder/value_plan.h"
#include "engine/edit.h"
#include "onnx/writer.h"
#include "ops/custom/custom.h"
#include "passes/simplify.h"
#include "regions/attention/join_projections.h"
#include "regions/matmul_block/matmul_block.h"
#include "runtime/dynamic_run.h"

namespace lathe::builder {
namespace {

/// By how much the chosen steps of other makers' libraries shorten a run, as a part of it; infinite where there are none. Loading such a library
/// takes a good part of a second in every process, which a step's own time does not show.
constexpr double kLeastLibraryGain = 0.05;
double gain_by_libraries(const std::vector<PlannedRegion>& regions) {
  double run = 0, gain = 0;
  bool any = false;
  for (const PlannedRegion& region : regions) {
    const auto& choices = region.report.choices;
    const auto chosen = std::find_if(choices.begin(), choices.end(), [](const Choice& choice) { return choice.chosen; });
    if (chosen == choices.end()) continue;
    run += std::max(chosen->seconds, 0.0);
    if (!chosen->by_library) continue;
    any = true;
    double own = std::numeric_limits<double>::infinity();
    for (const Choice& choice : choices)
      if (choice.accepted && !choice.by_library && choice.seconds > 0) own = std::min(own, choice.seconds);
    gain += own - chosen->seconds;
  }
  return any ? gain / std::max(run, 1e-9) : std::numeric_limits<double>::infinity();
}

/// Extents of the symbols that only data tell, for which no run has told any.
constexpr std::int64_t kUnknownExtent = 16;

class Assembly {
 public:
  Assembly(const Prepared& prepared, const BuildOptions& options, const std::vector<std::string>& pinned, BuildReport& report)
      : prepared_(prepared), graph_(*prepared.model->graph), options_(options), pinned_(pinned), report_(report), blobs_(&packed_), hints_(prepared.hints) {
    options_.threads = pool_.size();
    options_.cpu_features = options.cpu_features & cpu::cpu_features().mask;
    if (!is_static(graph_)) cut_ = cut_graph(graph_);
    draws_on_gpu_ = options.device_handle && has_draws_for_gpu(graph_);
    if (draws_on_gpu_ && !is_static(graph_, Draws::kPlannedOnGpu)) gpu_cut_ = cut_graph(graph_, Draws::kPlannedOnGpu);
  }

  engine::EngineData run() {
    data_.producer = fmt::format("lathe {}", kVersion);
    data_.model_name = graph_.name;
    for (const auto& [key, value] : prepared_.model->metadata) data_.metadata.emplace_back(key, value);
    // The generic one: what any CPU runs, by modelled costs. It shares every weight whose packing does not depend on the machine.
    engine::DeviceSection generic;
    const auto make_generic = [&] {
      generic.device = "cpu-generic";
      generic.description = "any CPU";
      generic.program = whole_program([&](const ir::Graph& graph) { return generic_program(graph); });
    };
    if (cut_) {
      make_generic();
      if (options_.budget_seconds > 0) learn_extents(generic);
    }
    data_.sections.push_back(tuned_section());
    if (!cut_) make_generic();
    data_.sections.push_back(std::move(generic));
    finish();
    return std::move(data_);
  }

 private:
  plan::Program whole_program(const LowerIsland& lower) { return cut_ ? lower_dynamic(*cut_, prepared_.symbols, blobs_, used_, lower) : lower(graph_); }

  /// The first section: every candidate of the device that is built for, timed.
  engine::DeviceSection tuned_section() {
    const double started = os::now_seconds();
    report_.regions.clear();
    report_.host_steps.clear();
    report_.in_run = {.seconds = report_.in_run.seconds};
    engine::DeviceSection section;
    Tuner tuner(options_, report_, pool_, passes::constant_bytes(graph_));
    if (options_.device_handle) {
      const cuda::DeviceInfo& info = static_cast<const cuda::Device*>(options_.device_handle)->info();
      section.device = "cuda:" + info.arch_name();
      section.description = fmt::format("{}, {} multiprocessors", info.name, info.multiprocessors);
      if (draws_on_gpu_) std::swap(cut_, gpu_cut_);
      section.program = whole_program([&](const ir::Graph& graph) { return gpu_program(graph, tuner); });
      if (cut_) add_host_ops(section.program);
      if (draws_on_gpu_) std::swap(cut_, gpu_cut_);
    } else {
      section.device = "cpu";
      const cpu::CpuFeatures features{options_.cpu_features};
      section.needs = features.isa() == cpu::Isa::kGeneric ? "" : std::string(cpu::isa_name(features.isa()));
      section.description = fmt::format("{}, {} threads, {}", os::cpu_model(), pool_.size(), features.describe());
      section.program = whole_program([&](const ir::Graph& graph) { return cpu_program(graph, tuner); });
    }
    report_.tune_seconds += os::now_seconds() - started;
    report_.steps = section.program.steps.size();
    for (const plan::Program& sub : section.program.subprograms) report_.steps += sub.steps.size();
    return section;
  }

  /// Ranges of the symbols of a graph's inputs: those of the model's, and none for what only the data tell.
  std::vector<plan::SymbolHint> symbols_of(const ir::Graph& graph) const {
    if (!cut_) return prepared_.symbols;
    std::vector<plan::SymbolHint> hints;
    for (const std::string& symbol : input_symbols(graph)) {
      const auto known = std::find_if(prepared_.symbols.begin(), prepared_.symbols.end(), [&](const plan::SymbolHint& hint) { return hint.symbol == symbol; });
      hints.push_back(known == prepared_.symbols.end() ? plan::SymbolHint{symbol, 0, -1, -1} : *known);
    }
    return hints;
  }

  static std::set<std::string> input_symbols(const ir::Graph& graph) {
    std::set<std::string> symbols;
    for (const ir::Value* input : graph.inputs())
      for (const ir::Dim& dim : input->shape())
        if (dim.is_symbol()) symbols.insert(dim.symbol_name());
    return symbols;
  }

  ir::Bindings hints_of(const ir::Graph& graph) const {
    ir::Bindings hints = hints_;
    if (cut_) {
      bind_unknown(graph, input_symbols(graph), kUnknownExtent, hints);
      limit_counts(graph, hints);
    }
    return hints;
  }

  plan::Program lower(const ir::Graph& graph, const std::vector<PlannedRegion>& regions, const ValuePlans& plans, std::string_view what,
                      std::string_view copy_kernel = "cpu.copy") {
    Phase packing(options_.progress, std::string(what), static_cast<std::int64_t>(regions.size()));
    plan::Program program = lower_program(graph, regions, plans, symbols_of(graph), blobs_, used_, packing, copy_kernel);
    packing.finish();
    return program;
  }

  void add_precision(std::vector<plan::PrecisionEntry> entries) {
    data_.precision.insert(data_.precision.end(), std::make_move_iterator(entries.begin()), std::make_move_iterator(entries.end()));
  }

  void add_report(const std::vector<PlannedRegion>& regions) {
    for (const PlannedRegion& region : regions) {
      report_.regions.push_back(region.report);
      if (region.on_host) report_.host_steps.push_back(region.report.label);
    }
  }

  /// What a dynamic program's values need not leave the device for: it makes constants, asks for extents, or cuts, repeats and joins where they lie
  /// (ops/control/join.h).
  static constexpr std::string_view kMoved[] = {"Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Identity", "Reshape",
                                                "Shape",  "Size",     "Slice",           "Split",  "Squeeze", "Unsqueeze"};

  /// Nodes of a dynamic program that their definitions run. Control flow, sequences and extents are the host's anywhere: only what computes on tensors
  /// counts as a step away from the GPU.
  void add_host_ops(const plan::Program& program) {
    const auto is_whole = [&](plan::SlotId at) {
      const auto* type = at < 0 ? nullptr : &program.slots[static_cast<std::size_t>(at)].type;
      return type && *type && !(*type)->is_tensor();
    };
    for (const plan::Step& step : program.steps) {
      if (step.kind != plan::StepKind::kHostOp || !step.regions.empty()) continue;
      const std::string op = step.params.get_string("op", "");
      if (std::find(std::begin(kMoved), std::end(kMoved), op) != std::end(kMoved)) continue;
      if (std::any_of(step.inputs.begin(), step.inputs.end(), is_whole) || std::any_of(step.outputs.begin(), step.outputs.end(), is_whole)) continue;
      report_.host_steps.push_back(step.label);
    }
    for (const plan::Program& sub : program.subprograms)
      if (sub.dynamic) add_host_ops(sub);
  }

  /// Of the CPU's section.
  plan::Program cpu_program(const ir::Graph& graph, Tuner& tuner) {
    ValuePlans plans;
    add_precision(plan_precision(graph, options_.precision, plans, pinned_));
    if (cpu::includes(cpu::CpuFeatures{options_.cpu_features}.isa(), cpu::Isa::kAvx512Bf16)) plan_whole_numbers(graph, plans);
    plan_slices(graph, plans);
    const auto regions = choose_cover({graph, plans, hints_of(graph), options_, &tuner, false});
    add_report(regions);
    return lower(graph, regions, plans, "packing weights");
  }

  /// Of a GPU's section.
  plan::Program gpu_program(const ir::Graph& source, Tuner& tuner) {
    // A graph of its own: rewrites that pay with the GPU's kernels alone.
    const std::shared_ptr<ir::Graph> own = source.clone();
    const ir::Graph& graph = *own;
    if (options_.precision == Precision::kFloat16 || options_.precision == Precision::kBFloat16) {
      regions::compute_wide_operands(*own);
      for (auto& [whole, parts] : regions::join_projections(*own, regions::kMostAttentionDepth)) blobs_.made_of(whole, std::move(parts));
    }
    data_.owners.push_back(own);
    const ir::Bindings hints = hints_of(graph);
    const std::vector<plan::SymbolHint> symbols = symbols_of(graph);
    ValuePlans plans;
    std::vector<plan::PrecisionEntry> precision;
    const InRunReport of_others = report_.in_run;
    const auto cover = [&](const BuildOptions& with) {
      plans = ValuePlans();
      precision = plan_precision(graph, options_.precision, plans, pinned_, true);
      plan_slices(graph, plans);
      plan_rows(graph, plans);
      return choose_cover({graph, plans, hints, with, &tuner, false});
    };
    const auto choose = [&](const BuildOptions& with) {
      auto regions = cover(with);
      if (with.libraries && gain_by_libraries(regions) < kLeastLibraryGain) return regions;
      const double seconds = report_.in_run.seconds;  // those of a cover that is given up count as well
      report_.in_run = of_others;
      report_.in_run.seconds = seconds;
      choose_in_place(regions, {graph, regions, plans, hints, symbols, with, packed_}, tuner, report_);
      return regions;
    };
    auto regions = choose(options_);
    if (gain_by_libraries(regions) < kLeastLibraryGain) {
      BuildOptions without = options_;
      without.libraries = 0;
      regions = choose(without);
    }
    add_precision(std::move(precision));
    add_report(regions);
    return lower(graph, regions, plans, "packing weights", "cuda.copy");
  }

  plan::Program generic_program(const ir::Graph& graph) {
    BuildOptions generic = options_;
    generic.cpu_features = 0;
    generic.device_handle = nullptr;
    // Beside a GPU's section the CPU's keeps the model's own types: none of its kernels stores fp16.
    if (options_.device_handle) generic.precision = Precision::kFloat32;
    ValuePlans plans;
    plan_precision(graph, generic.precision, plans, pinned_);
    plan_slices(graph, plans);
    const auto regions = choose_cover({graph, plans, hints_of(graph), generic, nullptr, true});
    return lower(graph, regions, plans, "packing generic weights");
  }

  /// Runs the generic program once on seeded inputs: the extents that its islands see are those that candidates are timed at.
  void learn_extents(const engine::DeviceSection& generic) {
    const double started = os::now_seconds();
    Phase phase(options_.progress, "trying the extents that data tell", 1);
    try {
      engine::EngineData trial;
      for (std::size_t i = 0; i < blobs_.size(); ++i) {
        const auto id = static_cast<plan::BlobId>(i);
        trial.blobs.push_back(blobs_.blob(id));
        trial.blob_bytes.push_back(blobs_.bytes(id));
      }
      trial.sections.push_back(generic);
      const auto engine = runtime::Engine::create(std::move(trial));
      runtime::DynamicRun run(engine, {.note_symbols = true});
      const std::map<std::string, Tensor> inputs = random_inputs(graph_, hints_, 1);
      std::vector<Tensor> ordered;
      for (const ir::Value* input : graph_.inputs()) ordered.push_back(inputs.at(input->name));
      run.run(ordered);
      for (const auto& [symbol, extent] : run.symbols())
        if (extent > 0) hints_.emplace(symbol, extent);
    } catch (const Error& error) {
      log(LogLevel::kInfo, "no run told the extents that depend on data, {} is taken for each: {}", kUnknownExtent, error.what());
    }
    phase.finish();
    report_.tune_seconds += os::now_seconds() - started;
  }

  static void collect_custom_ops(const plan::Program& program, std::set<std::string>& into) {
    for (const plan::Step& step : program.steps) {
      if (const CustomOp* op = ops::find_custom_op(step.params.get_string("domain", ""), step.params.get_string("op", "")))
        into.insert(ops::custom_op_key(*op));
    }
    for (const plan::Program& sub : program.subprograms) collect_custom_ops(sub, into);
  }

  /// The portable graph's constants: an engine can be built again from it anywhere.
  void finish() {
    std::unordered_map<const ir::Value*, plan::BlobId> constants;
    for (const ir::Value* value : graph_.values()) {
      if (!value->is_constant() || value->dtype() == DType::kString) continue;
      const plan::BlobId id = blobs_.add_raw(*value);
      constants[value] = id;
      blobs_.keep(id);
    }
    const std::vector<plan::BlobId> ids = blobs_.move_into(data_, used_);
    std::set<std::string> custom;
    for (engine::DeviceSection& section : data_.sections) {
      engine::renumber(section.program, ids);
      collect_custom_ops(section.program, custom);
    }
    data_.custom_ops.assign(custom.begin(), custom.end());
    onnx::WriteOptions write;
    write.external_location = [&](const ir::Value& value) {
      const auto found = constants.find(&value);
      return found == constants.end() ? std::string() : fmt::format("blob:{}", ids[static_cast<std::size_t>(found->second)]);
    };
    data_.portable_graph = onnx::model_bytes(*prepared_.model, write);
    data_.owners.push_back(prepared_.model);
  }

  const Prepared& prepared_;
  const ir::Graph& graph_;
  BuildOptions options_;
  const std::vector<std::string>& pinned_;
  BuildReport& report_;
  ThreadPool& pool_ = default_pool();
  engine::EngineData data_;
  PackedWeights packed_;
  BlobStore blobs_;
  std::vector<bool> used_;
  ir::Bindings hints_;
  std::optional<CutGraph> cut_;
  bool draws_on_gpu_ = false;  // the graph has random numbers, for which a GPU has kernels: it is cut another way there, or not at all
  std::optional<CutGraph> gpu_cut_;
};

}  // namespace

engine::EngineData assemble(const Prepared& prepared, const BuildOptions& options, const std::vector<std::string>& pinned, BuildReport& report) {
  return Assembly(prepared, options, pinned, report).run();
}

}  // namespace lathe::builder
