// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// build_engine: the stages in order. Each is in its own file; this one hands results from one to the next.

#include "builder/builder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "backend/cpu/features.h"
#include "backend/cuda/device.h"
#include "base/log.h"
#include "base/os.h"
#include "builder/assemble.h"
#include "builder/hints.h"
#include "builder/native.h"
#include "builder/progress.h"
#include "builder/verified.h"
#include "engine/semantic_verifier.h"
#include "ops/candidate.h"
#include "ops/import.h"
#include "ops/nearest_ops.h"
#include "ops/reference_runner.h"
#include "ops/registry.h"
#include "passes/simplify.h"
#include "runtime/context.h"

namespace lathe::builder {
namespace {

/// Told first and all at once: what stands on such a node could only be told to have no shape.
void refuse_unknown_ops(const ir::Graph& graph) {
  std::vector<std::string> nodes;
  std::set<std::string> explained;
  for (const ir::Node* node : ops::unsupported_nodes(graph)) {
    nodes.push_back(node->describe());
    if (!explained.insert(ops::full_name(node->domain, node->op)).second) continue;  // every operator's neighbours are named once
    if (const auto near = ops::nearest_ops(node->domain, node->op); !near.empty())
      nodes.back() += fmt::format(" (known and spelled much like it: {})", fmt::join(near, ", "));
  }
  if (nodes.empty()) return;
  throw Error(Code::kUnsupported, nodes.size() == 1 ? fmt::format("the operator of this node is not supported: {}", nodes.front())
                                                    : fmt::format("the operators of {} nodes are not supported: {}", nodes.size(), fmt::join(nodes, ", ")))
      .with_remedy(std::string(ops::kUnknownOpRemedy));
}

void check_inputs(const ir::Graph& graph) {
  for (const ir::Value* input : graph.inputs()) {
    const ir::Type* type = &input->type;
    while (type->element) type = type->element.get();  // of a sequence, an optional
    if (type->kind == ir::TypeKind::kUnknown || (type->is_tensor() && type->dtype == DType::kUndefined))
      throw Error(Code::kInvalidModel, "the model gives this input no element type").at_tensor(input->name).with_remedy("Export the model again.");
  }
}

/// Attributes that only a function's body may have.
void check_attributes(const ir::Graph& graph) {
  ir::for_each_node_deep(graph, [](const ir::Node& node) {
    for (const auto& [name, attribute] : node.attrs)
      if (!attribute.ref_name.empty())
        throw Error(Code::kInvalidModel, fmt::format("the attribute '{}' refers to '{}' of a function, but this is none", name, attribute.ref_name))
            .at_node(node.name, node.op)
            .with_remedy("Export the model again.");
  });
}

/// Extents that are known by now and that no engine can hold.
void check_sizes(const ir::Graph& graph) {
  const auto look = [](const ir::Graph& g) {
    for (const ir::Value* value : g.values()) {
      const auto dims = value->type.is_tensor() && value->type.shape ? ir::constant_dims(*value->type.shape) : std::nullopt;
      if (!dims || value->dtype() == DType::kUndefined || value->dtype() == DType::kString) continue;
      try {
        if (dtype_bytes(value->dtype(), element_count(*dims)) <= static_cast<std::size_t>(engine::kMaxSlotBytes)) continue;
      } catch (const Error&) {  // they cannot even be multiplied
      }
      throw Error(Code::kInvalidModel, fmt::format("its shape {} is larger than any machine can hold", to_string(*dims))).at_tensor(value->name);
    }
  };
  look(graph);
  ir::for_each_node_deep(graph, [&](ir::Node& node) {
    for (const ir::Graph* nested : ir::nested_graphs(node)) look(*nested);
  });
}

Prepared prepare(const ir::Model& model, const BuildOptions& options, BuildReport& report) {
  const double started = os::now_seconds();
  Prepared prepared;
  Phase phase(options.progress, "simplifying", 1);
  prepared.model = model.clone();
  ops::canonicalise_opsets(*prepared.model);
  refuse_unknown_ops(*prepared.model->graph);
  check_inputs(*prepared.model->graph);
  check_attributes(*prepared.model->graph);
  apply_fixed_shapes(*prepared.model, options.shapes);
  passes::SimplifyOptions simplify;
  simplify.for_running = true;
  simplify.fast_whole_products =
      options.device == "cpu" && cpu::includes(cpu::CpuFeatures{options.cpu_features & cpu::cpu_features().mask}.isa(), cpu::Isa::kAvx512Bf16);
  simplify.half_in_float = options.device == "cpu";
  simplify.for_gpu = options.device != "cpu";
  simplify.before_pass = [&] { phase.poll(); };
  const passes::SimplifyReport simplified = passes::simplify(*prepared.model, simplify);
  check_sizes(*prepared.model->graph);
  report.nodes_read = simplified.nodes_before;
  report.nodes_simplified = simplified.nodes_after;
  prepared.hints = hint_bindings(*prepared.model->graph, options.shapes);
  prepared.symbols = symbol_hints(*prepared.model->graph, options.shapes, prepared.hints);
  report.simplify_seconds = os::now_seconds() - started;
  phase.finish();
  return prepared;
}

std::vector<Dims> input_dims(const Prepared& prepared, const ir::Bindings& symbols) {
  std::vector<Dims> dims;
  for (const ir::Value* input : prepared.model->graph->inputs()) dims.push_back(concrete_dims(*input, symbols));
  return dims;
}

/// Other extents whose code is worth keeping: the least and the greatest where the caller gave such, and one odd set, for sizes that are no limits
/// (and which verification has compiled anyway).
std::vector<ir::Bindings> other_bindings(const Prepared& prepared, const BuildOptions& options) {
  ir::Bindings least = prepared.hints, most = prepared.hints;
  bool limited = false;
  for (const plan::SymbolHint& hint : prepared.symbols) {
    if (hint.max < 0) continue;
    limited = true;
    least[hint.symbol] = hint.min;
    most[hint.symbol] = hint.max;
  }
  std::vector<ir::Bindings> list;
  if (limited) list = {least, most};
  if (ir::Bindings odd = odd_bindings(*prepared.model->graph, options.shapes, prepared.hints); !odd.empty()) list.push_back(std::move(odd));
  return list;
}

/// Fourier transforms keep float32: in narrow numbers the loud drowns what is quiet, which the logarithm behind them shows again.
std::vector<std::string> wide_nodes(const ir::Model& model, Precision precision) {
  std::vector<std::string> names;
  if (precision == Precision::kFloat32) return names;
  ir::for_each_node_deep(*model.graph, [&](const ir::Node& node) {
    if (node.is("DFT") || node.is("STFT")) names.insert(names.end(), node.sources.begin(), node.sources.end());
  });
  return names;
}

/// Nodes that keep float32 from the next round on: those of the first region that disagrees, for what disagrees behind it may only follow; at
/// once those of every region whose numbers lie beyond float16; and where the rounds run out, of all that disagree.
std::set<std::string> spoilt_nodes(const BuildReport& report, Precision precision, bool all) {
  constexpr double kLargestFloat16 = 65504;
  std::set<std::string> labels, regions;
  for (const RegionReport& region : report.regions) regions.insert(region.label);
  for (const VerifyReport::Tensor& tensor : report.verify.tensors) {
    if (!regions.contains(tensor.region)) continue;  // a copy, a view
    const bool beyond = precision == Precision::kFloat16 && !(tensor.scale <= kLargestFloat16);
    if (!tensor.passed && (all || labels.empty() || beyond)) labels.insert(tensor.region);
  }
  std::set<std::string> nodes;
  for (const RegionReport& region : report.regions)
    if (labels.contains(region.label)) nodes.insert(region.sources.begin(), region.sources.end());
  return nodes;
}

/// Planned activations at the hint shapes.
std::size_t planned_bytes(const std::shared_ptr<const runtime::Engine>& engine, const Prepared& prepared) {
  if (engine->program().dynamic) return 0;  // only runs tell
  runtime::Context context(engine);
  const std::vector<Dims> dims = input_dims(prepared, prepared.hints);
  if (const Status status = context.prepare(dims); !status) throw Error(status.code(), std::string(status.message()));
  return context.arena_bytes();
}

}  // namespace

unsigned parse_libraries(std::string_view text) {
  if (text == "none") return 0;
  unsigned libraries = 0;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    const std::string_view name = text.substr(at, comma - at);
    if (name == "cublaslt") libraries |= ops::kCublasLt;
    else if (name == "cudnn") libraries |= ops::kCudnn;
    else
      throw Error(Code::kInvalidArgument, fmt::format("there is no library '{}' that steps could run on", name))
          .with_remedy("Use none, cublaslt, cudnn, or both with a comma between them.");
    at = comma + 1;
  }
  return libraries;
}

std::optional<int> cuda_ordinal(std::string_view device) {
  if (device == "cpu") return std::nullopt;
  int ordinal = 0;
  if (device == "cuda") return ordinal;
  if (device.starts_with("cuda:")) {
    const std::string_view number = device.substr(5);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), ordinal);
    if (error == std::errc() && end == number.data() + number.size() && ordinal >= 0) return ordinal;
  }
  throw Error(Code::kInvalidArgument, fmt::format("there is no device '{}'", device))
      .with_remedy("Use cpu, cuda or cuda:N; `lathe devices` lists what this machine offers.");
}

void check_target(const BuildOptions& options) {
  if (cuda_ordinal(options.device)) {
    cuda::Driver::get();
    return;
  }
  if (options.precision == Precision::kFloat16 || options.precision == Precision::kTensorFloat32)
    throw Error(Code::kInvalidArgument, fmt::format("{} is not available on the cpu device", precision_name(options.precision)))
        .with_remedy("Use --precision bf16 or fp32.");
}

BuildResult build_engine(std::shared_ptr<const ir::Model> model, const BuildOptions& given) {
  check_target(given);
  BuildOptions options = given;
  const std::optional<int> ordinal = cuda_ordinal(options.device);
  const std::shared_ptr<cuda::Device> device = ordinal ? cuda::Device::open(*ordinal) : nullptr;
  options.device_handle = device.get();
  const double started = os::now_seconds();
  BuildResult result;
  BuildReport& report = result.report;
  const Prepared prepared = prepare(*model, options, report);

  // A region that lower precision spoils is pinned to float32 and the engine is assembled again; each round pins more.
  std::vector<std::string> pinned = wide_nodes(*model, options.precision);
  constexpr int kRounds = 12, kOneByOne = 8;
  for (int round = 0;; ++round) {
    result.engine = assemble(prepared, options, pinned, report);
    if (!options.verify) break;
    const double spent = report.verify.seconds;
    report.verify = verify_once(*model, result.engine, options);
    report.verify.seconds += spent;
    report.verify.pinned = pinned;
    if (report.verify.passed) break;
    const auto offender =
        std::find_if(report.verify.tensors.begin(), report.verify.tensors.end(), [](const VerifyReport::Tensor& tensor) { return !tensor.passed; });
    const std::size_t before = pinned.size();
    if (options.precision != Precision::kFloat32 && round < kRounds)
      for (const std::string& source : spoilt_nodes(report, options.precision, round >= kOneByOne))
        if (std::find(pinned.begin(), pinned.end(), source) == pinned.end()) pinned.push_back(source);
    if (pinned.size() == before)
      throw Error(Code::kVerification, report.verify.summary)
          .at_tensor(offender == report.verify.tensors.end() ? "" : offender->name)
          .with_remedy(remedy_of(report.verify, options.precision));
    log(LogLevel::kInfo, "pinned to float32: {} nodes more, {} in all", pinned.size() - before, pinned.size());
  }
  result.engine.report_json.clear();
  const auto engine = runtime::Engine::create(result.engine, result.engine.sections.front().device, ordinal.value_or(0));
  report.weight_bytes = engine->weight_bytes();
  if (device && options.native) engine->cuda()->device()->keep_code();
  report.arena_bytes = planned_bytes(engine, prepared);
  if (device && options.native && !engine->program().dynamic) {
    std::vector<std::vector<Dims>> others;
    for (const ir::Bindings& symbols : other_bindings(prepared, options)) others.push_back(input_dims(prepared, symbols));
    add_native_code(result.engine, engine, others);
  }
  report.total_seconds = os::now_seconds() - started;
  result.engine.report_json = report.to_json();
  log(LogLevel::kInfo, "built {} steps from {} nodes ({} after simplification) in {:.2f} s; {}", report.steps, report.nodes_read, report.nodes_simplified,
      report.total_seconds, options.verify ? report.verify.summary : "not verified");
  return result;
}

}  // namespace lathe::builder
