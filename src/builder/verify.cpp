// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// verify_engine: the engine's region outputs against the oracle on the graph as read, no pass applied.
//
// float32: an output may differ by a share of its scale (class exact 2e-5, fast 2e-4). Lower storage types: the noise floor is what
// rounding every tensor to its storage type does to the oracle itself; three times that is allowed, in the maximum and in the RMS.
// Models whose products exceed the limit are sampled: unsampled contractions are taken from the engine, and every evaluated node reads
// the engine's own tensors, so an error shows in the region that makes it. So it does in dynamic programs and in quantised models, where a
// rounding may choose another step or order: what follows from that is then the same for both.

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <random>
#include <unordered_map>
#include <unordered_set>

#include "base/os.h"
#include "base/thread_pool.h"
#include "builder/agreeing_sizes.h"
#include "builder/builder.h"
#include "builder/hints.h"
#include "builder/equality.h"
#include "builder/progress.h"
#include "builder/random_inputs.h"
#include "builder/value_plan.h"
#include "ops/import.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"
#include "ops/registry.h"
#include "runtime/context.h"

namespace lathe::builder {
namespace {

constexpr double kExactShare = 2e-5, kFastShare = 2e-4, kFloorFactor = 3;

/// The larger of two errors; NaN is the largest.
double worse(double a, double b) { return std::isnan(a) || a > b ? a : b; }

struct Errors {
  double max = 0, sum_squares = 0, scale = 0;
  std::int64_t count = 0;
  bool shape_differs = false, not_finite = false;
  void add(const Errors& part) {
    max = worse(max, part.max);
    sum_squares += part.sum_squares;
    scale = std::max(scale, part.scale);
    count += part.count;
    shape_differs |= part.shape_differs;
    not_finite |= part.not_finite;
  }
  double rms() const { return count > 0 ? std::sqrt(sum_squares / static_cast<double>(count)) : 0; }
};

/// By blocks on all threads, added up in their order. Sequences and maps item by item; texts are equal or not.
Errors compare(const Tensor& expected, const Tensor& actual) {
  Errors e;
  if (expected.form() != actual.form() || expected.dtype() != actual.dtype()) {
    e.shape_differs = true;
    return e;
  }
  if (!expected.is_tensor()) {
    if (expected.is_nothing()) return e;
    e.shape_differs = expected.items().size() != actual.items().size();
    for (std::size_t i = 0; i < expected.items().size() && !e.shape_differs; ++i) e.add(compare(expected.items()[i], actual.items()[i]));
    return e;
  }
  if (expected.dtype() == DType::kString) {
    e.shape_differs = !expected.same_bytes(actual);
    return e;
  }
  e.shape_differs = expected.dims() != actual.dims();
  if (e.shape_differs) return e;
  e.count = expected.size();
  const bool floats = expected.dtype() == DType::kFloat32 && actual.dtype() == DType::kFloat32;
  const Tensor want = floats ? expected.make_aligned() : expected, got = floats ? actual.make_aligned() : actual;
  constexpr std::int64_t kBlock = std::int64_t{1} << 16;
  std::vector<Errors> parts(static_cast<std::size_t>((e.count + kBlock - 1) / kBlock));
  default_pool().parallel_for(static_cast<std::int64_t>(parts.size()), [&](std::int64_t block, int) {
    Errors part;
    const auto one = [&](double wanted, double found) {
      if (std::isnan(wanted) || std::isinf(wanted)) {
        part.not_finite |= std::isnan(wanted) ? !std::isnan(found) : wanted != found;
        return;
      }
      part.scale = std::max(part.scale, std::fabs(wanted));
      const double error = std::fabs(wanted - found);
      part.max = worse(part.max, error);
      part.sum_squares += error * error;
    };
    const std::int64_t end = std::min(e.count, (block + 1) * kBlock);
    if (floats) {
      const auto x = want.data<float>(), y = got.data<float>();
      for (std::int64_t i = block * kBlock; i < end; ++i) one(x[static_cast<std::size_t>(i)], y[static_cast<std::size_t>(i)]);
    } else {
      for (std::int64_t i = block * kBlock; i < end; ++i) one(want.as_double(i), got.as_double(i));
    }
    parts[static_cast<std::size_t>(block)] = part;
  });
  for (const Errors& part : parts) e.add(part);
  return e;
}

/// The products' own rounding under --precision tf32, float32 with 10 bits of mantissa: packed weights are rounded, of activations the tensor cores
/// leave the other bits out.
void round_to_tf32(Tensor& tensor, bool packed) {
  if (!tensor.defined() || tensor.dtype() != DType::kFloat32) return;
  Tensor rounded(DType::kFloat32, tensor.dims());
  const Tensor aligned = tensor.make_aligned();  // a weight may lie anywhere in its file
  const auto from = aligned.data<float>();
  const auto to = rounded.mutable_data<float>();
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(from[i]);
    const auto up = packed ? 0xFFF + ((bits >> 13) & 1) : 0;
    to[i] = std::isfinite(from[i]) ? std::bit_cast<float>((bits + up) & ~std::uint32_t{0x1FFF}) : from[i];
  }
  tensor = std::move(rounded);
}

void round_to(Tensor& tensor, DType storage) {
  if (tensor.is_tensor() && tensor.dtype() == DType::kFloat32) tensor = tensor.cast(storage).cast(DType::kFloat32);
}

/// Rounds to few steps: a number on the edge between two may go to either, and one step is then no error.
bool quantises(const ir::Node& node) {
  return node.op == "QuantizeLinear" || node.op == "DynamicQuantizeLinear" || node.op.starts_with("QLinear") || node.op == "QGemm" || node.op == "QAttention";
}

/// The part of a quantised tensor's elements that may be one step off, and the largest step as a part of the tensor's scale.
constexpr double kStepShare = 2e-3, kDequantisedShare = 0.25, kStep = 1.0 / 64;

/// Two steps of a tensor that was just dequantised by one scale, and what rounding adds to them; 0 of any other. Two: its region may
/// have rounded to steps inside as well (x * sigmoid(x) of quantised files).
double dequantised_steps(const ir::Value& value) {
  const ir::Value* scales = value.producer && value.producer->is("DequantizeLinear") ? value.producer->input(1) : nullptr;
  if (!scales || !scales->is_constant() || scales->constant.size() != 1) return 0;
  return 2 * scales->constant.as_double(0) * (1 + 1e-5);
}

/// What the engine stores under the model's tensor names.
struct Stored {
  std::string region;
  DType dtype = DType::kUndefined;
};

class Verifier {
 public:
  Verifier(const ir::Model& model, const engine::EngineData& data, const BuildOptions& options)
      : options_(options), model_(model.clone()), engine_(runtime::Engine::create(data, {}, cuda_ordinal(options.device).value_or(0))) {
    ops::canonicalise_opsets(*model_);
    apply_fixed_shapes(*model_, options.shapes);
    ops::infer_graph(*model_->graph);
    note_stored(engine_->program());
    ir::for_each_node_deep(*model_->graph, [&](const ir::Node& node) {
      quantised_ |= quantises(node);
      for (const ir::Value* output : node.outputs)
        if (output && output->type.is_tensor()) model_unit_ = std::max(model_unit_, narrow_share(output->dtype()));
    });
    tf32_ = options.precision == Precision::kTensorFloat32;
    // A model whose own types are narrow needs no floor of ours.
    narrow_ &= options.precision != Precision::kFloat32 || !engine_->data().precision.empty();
  }

  VerifyReport run() {
    const double started = os::now_seconds();
    report_.ran = true;
    report_.passed = true;
    const ir::Graph& graph = *model_->graph;
    ir::Bindings hints = hint_bindings(graph, options_.shapes), odd = odd_bindings(graph, options_.shapes, hints);
    // Each set of inputs runs the oracle once, and once more for the noise floor.
    Phase phase(options_.progress, "verifying", static_cast<std::int64_t>(graph.nodes().size()) * (odd.empty() ? 1 : 2) * (narrow_ ? 2 : 1));
    phase_ = &phase;
    double flops = 0;
    const auto both_sets = [&] {
      flops = one_set(hints, 1);
      if (!odd.empty()) flops += one_set(odd, 2);
    };
    try {
      both_sets();
    } catch (const Error& error) {
      if (error.code() != Code::kInvalidModel || odd.empty() || !make_sizes_agree(graph, {&hints, &odd})) throw;
      worst_.clear();
      order_.clear();
      both_sets();
    }
    const int sets = odd.empty() ? 1 : 2;
    finish(sets, flops);
    if (const double amplified = amplified_by_model(); !report_.passed && amplified > 0) {
      // A model may make much of a rounding (a softmax, a normalisation of little). Then each region answers for itself, on the engine's own tensors.
      forced_ = true;
      report_ = {};
      report_.ran = true;
      worst_.clear();
      order_.clear();
      both_sets();
      finish(sets, flops);
      if (report_.passed)
        report_.summary += fmt::format("; each region by itself: rounding that the model amplifies reaches {:.1e} of a tensor's scale", amplified);
    }
    phase.finish();
    report_.seconds = os::now_seconds() - started;
    return std::move(report_);
  }

 private:
  /// The largest error as a part of its tensor's scale, when that may be rounding that the model amplifies; else 0.
  double amplified_by_model() const {
    if (forced_ || quantised_ || engine_->program().dynamic || sampled_) return 0;
    const double most = narrow_ ? 5e-2 : 1e-2;
    double worst = 0;
    for (const auto& [name, tensor] : worst_) {
      if (tensor.passed) continue;
      if (!(tensor.max_allowed > 0) || !(tensor.max_error <= most * tensor.scale)) return 0;
      worst = std::max(worst, tensor.max_error / tensor.scale);
    }
    return worst;
  }

  /// What calls of a dynamic program compute inside counts, too: their regions are named rather than the calls.
  void note_stored(const plan::Program& program) {
    // A tensor that is stored twice, for readers of two types, may be asked for in either.
    const auto note = [this](const plan::Slot& slot, const std::string& label) {
      const auto [at, added] = stored_.try_emplace(slot.name, Stored{label, slot.dtype});
      if (!added && at->second.dtype == DType::kFloat32) at->second.dtype = slot.dtype;
    };
    for (const plan::Step& step : program.steps)
      if (program.dynamic && step.kind == plan::StepKind::kCall) note_stored(program.subprograms[static_cast<std::size_t>(step.regions[0])]);
    for (const plan::Step& step : program.steps) {
      fast_ |= step.params.has("plan") && !step.params.get_ints("plan").empty() && step.params.get_ints("plan")[0] >= 2;
      for (const plan::SlotId id : step.outputs) {
        if (id < 0) continue;
        const plan::Slot& slot = program.slots[static_cast<std::size_t>(id)];
        if (!slot.name.empty()) note(slot, step.label);
        // A copy without a name counts too: what a product of float32 tensors reads in a narrower type.
        if (slot.dtype != DType::kBFloat16 && slot.dtype != DType::kFloat16) continue;
        narrow_ = true;
        narrow_type_ = slot.dtype;
      }
    }
    // Views, concats and splits that need no step hold tensors all the same.
    for (const plan::Slot& slot : program.slots)
      if (!slot.name.empty() && slot.storage != plan::Storage::kConstant && slot.storage != plan::Storage::kInput) note(slot, "view " + slot.name);
  }

  /// Steps whose contractions are evaluated when all would be too many: the cheapest share of a seeded shuffle, at least one.
  std::unordered_set<std::string> unsampled(double flops, std::uint64_t seed) const {
    std::unordered_set<std::string> left_out;
    if (flops <= options_.verify_gflop * 1e9) return left_out;
    std::vector<const plan::Step*> steps;
    for_each_step([&](const plan::Step& step) {
      if (step.flops > 0) steps.push_back(&step);
    });
    std::shuffle(steps.begin(), steps.end(), std::mt19937_64(seed));
    double spent = 0;
    const double scale = flops / std::max(1.0, total_flops());
    for (const plan::Step* step : steps) {
      if (spent == 0 || spent + step->flops * scale <= options_.verify_gflop * 1e9) spent += step->flops * scale;
      else left_out.insert(step->sources.begin(), step->sources.end());
    }
    return left_out;
  }

  /// Progress: one step for each node of the outermost graph, at its first output.
  void count(const ir::Value& value) {
    if (value.producer && value.graph == model_->graph.get() && value.producer_index == 0) phase_->step();
  }

  double total_flops() const {
    double flops = 0;
    for_each_step([&](const plan::Step& step) { flops += step.flops; });
    return flops;
  }

  /// Steps of the outermost graph; of a dynamic program those inside its calls.
  template <class Visit>
  void for_each_step(const Visit& visit) const {
    const plan::Program& program = engine_->program();
    for (const plan::Step& step : program.steps) {
      if (!program.dynamic || step.kind != plan::StepKind::kCall) {
        visit(step);
        continue;
      }
      for (const plan::Step& inner : program.subprograms[static_cast<std::size_t>(step.regions[0])].steps) visit(inner);
    }
  }

  void run_engine(runtime::Context& context, const std::map<std::string, Tensor>& inputs) {
    std::vector<Tensor> ordered;
    for (const plan::Io& io : engine_->program().inputs) {
      const auto found = inputs.find(io.name);
      if (found == inputs.end())
        throw Error(Code::kVerification, "the engine has an input that the model has not")
            .at_tensor(io.name)
            .with_remedy("Give the model that it was built from.");
      ordered.push_back(found->second);
    }
    Status status;
    if (engine_->program().dynamic) {
      std::vector<Tensor> outputs;
      status = context.run_values(ordered, outputs);
    } else {
      std::vector<runtime::InputView> views;
      for (const Tensor& tensor : ordered) views.push_back({tensor.raw(), tensor.dtype(), tensor.dims()});
      status = context.run(views, {});
    }
    if (!status) throw Error(status.code(), std::string(status.message()));
  }

  /// One set of inputs. Returns the products that the oracle computed.
  double one_set(const ir::Bindings& bindings, std::uint64_t seed) {
    const ir::Graph& graph = *model_->graph;
    const std::map<std::string, Tensor> inputs = random_inputs(graph, bindings, seed);

    runtime::Context context(engine_);
    context.keep_intermediates(true);
    run_engine(context, inputs);

    const double flops = total_flops();
    const auto left_out = unsampled(flops, seed);
    sampled_ |= !left_out.empty();
    // Each node reads the engine's own tensors: what a rounding moves across a threshold, or to another place in an order, is then the same for both.
    const bool forced = !left_out.empty() || engine_->program().dynamic || quantised_ || forced_;
    const auto engine_tensor = [&](const ir::Value& value) {
      Tensor tensor = context.slot(value.name);
      return tensor.is_tensor() && tensor.dtype() != value.dtype() ? tensor.cast(value.dtype()) : tensor;
    };

    // Random numbers are the engine's own in any case.
    const auto is_forced = [&](const ir::Value& value) { return forced || (value.producer && !ops::is_deterministic(*value.producer)); };
    const auto take_engine_tensor = [&](const ir::Value& value, Tensor& tensor) {
      if (Tensor actual = engine_tensor(value); actual.defined() || !left_out.empty()) tensor = std::move(actual);
    };

    ops::RunnerOptions runner;
    runner.oracle = true;
    if (forced)
      runner.skip = [&](const ir::Node& node) {
        return std::any_of(node.sources.begin(), node.sources.end(), [&](const std::string& source) { return left_out.count(source) > 0; });
      };
    // The noise floor first: its tensors are kept and compared with the exact ones as those are made.
    std::unordered_map<std::string, Tensor> rounded;
    if (tf32_) {
      runner.observe = [&](const ir::Value& value, Tensor& tensor) {
        if (std::any_of(value.uses.begin(), value.uses.end(), [](const ir::Use& use) { return use.node && is_contraction(*use.node); }))
          round_to_tf32(tensor, value.is_constant());
        if (!value.is_constant() && value.graph == model_->graph.get() && stored_.count(value.name) && tensor.defined()) rounded[value.name] = tensor;
        if (is_forced(value) && !value.is_constant() && value.graph == model_->graph.get() && stored_.count(value.name)) take_engine_tensor(value, tensor);
      };
      ops::ReferenceRunner(*model_->graph, runner).run(inputs);
    } else if (narrow_) {
      const auto contraction_constant = [](const ir::Value& value) {
        return value.is_constant() &&
               std::any_of(value.uses.begin(), value.uses.end(), [](const ir::Use& use) { return use.node && is_contraction(*use.node); });
      };
      runner.observe = [&](const ir::Value& value, Tensor& tensor) {
        count(value);
        if (value.is_constant()) {
          if (tensor.rank() >= 2 && contraction_constant(value)) round_to(tensor, narrow_type_);
          return;
        }
        const auto found = stored_.find(value.name);
        if (found == stored_.end() || value.graph != model_->graph.get()) {
          if (value.kind == ir::ValueKind::kInput) round_to(tensor, narrow_type_);
          return;
        }
        if (tensor.defined() && found->second.dtype == narrow_type_) round_to(tensor, narrow_type_);
        if (tensor.defined()) rounded[value.name] = tensor;
        if (is_forced(value)) take_engine_tensor(value, tensor);
      };
      ops::ReferenceRunner(*model_->graph, runner).run(inputs);
    }
    runner.observe = [&](const ir::Value& value, Tensor& tensor) {
      count(value);
      if (value.is_constant() || value.graph != model_->graph.get()) return;
      const auto found = stored_.find(value.name);
      if (found == stored_.end()) return;
      const Tensor actual = engine_tensor(value);
      if (value.kind == ir::ValueKind::kInput) {
        // Stored in another type: no result, but what the engine goes on from.
        if (forced && actual.defined()) tensor = actual;
        return;
      }
      if (value.producer && !ops::is_deterministic(*value.producer)) {
        // Another draw: what reads it is compared, and of itself the shape.
        if (actual.defined() && tensor.is_tensor() && actual.dims() != tensor.dims()) return judge(value, found->second, tensor, actual, rounded);
        if (actual.defined()) {
          tensor = actual;
          drawn_.insert(value.name);
        }
        return;
      }
      if (tensor.defined() && actual.defined()) judge(value, found->second, tensor, actual, rounded);
      if (forced && (actual.defined() || !left_out.empty())) tensor = actual;
    };
    ops::ReferenceRunner(*model_->graph, runner).run(inputs);
    return left_out.empty() ? flops : options_.verify_gflop * 1e9;
  }

  void judge(const ir::Value& value, const Stored& stored, const Tensor& expected, const Tensor& actual,
             const std::unordered_map<std::string, Tensor>& rounded) {
    const Errors e = compare(expected, actual);
    VerifyReport::Tensor entry;
    entry.name = value.name;
    entry.region = stored.region;
    entry.max_error = e.max;
    entry.rms_error = e.rms();
    entry.scale = e.scale;
    if (is_float(expected.dtype())) {
      const double share = fast_ ? kFastShare : kExactShare;
      // Rounding of the type itself counts for narrow models.
      const double unit = std::max(model_unit_, expected.dtype() == DType::kFloat16 ? 1.0 / 1024 : expected.dtype() == DType::kBFloat16 ? 1.0 / 128 : 0);
      entry.max_allowed = std::max(share, unit) * e.scale;
      // Of few elements the mean may be the largest.
      constexpr std::int64_t kFew = 16;
      entry.rms_allowed = e.count < kFew ? entry.max_allowed : entry.max_allowed / 4;
      if (const auto floor = rounded.find(value.name); floor != rounded.end()) {
        const Errors f = compare(expected, floor->second);
        entry.max_allowed += kFloorFactor * f.max;
        entry.rms_allowed += kFloorFactor * f.rms();
      }
    }
    // Steps of quantisation, and what they are when dequantised; as few as one where a tensor is small.
    const double step = is_float(expected.dtype()) ? std::max(kStep * e.scale, dequantised_steps(value)) : dtype_bits(expected.dtype()) <= 8 ? 1 : 0;
    // Where no tensor between is named, many layers' steps come together in the last.
    const double part = is_float(expected.dtype()) ? kDequantisedShare : kStepShare;
    if (quantised_ && e.max <= step && e.sum_squares <= std::max(1.0, part * static_cast<double>(e.count)) * step * step) {
      entry.max_allowed = std::max(entry.max_allowed, step);
      entry.rms_allowed = std::max(entry.rms_allowed, step);
    }
    entry.passed = !e.shape_differs && !e.not_finite && e.max <= entry.max_allowed && entry.rms_error <= entry.rms_allowed;
    auto& slot = worst_[value.name];
    const auto ratio = [](const VerifyReport::Tensor& t) { return t.max_allowed > 0 ? t.max_error / t.max_allowed : t.max_error; };
    if (slot.name.empty()) order_.push_back(value.name);
    if (slot.name.empty() || (slot.passed && !entry.passed) || (slot.passed == entry.passed && ratio(entry) > ratio(slot))) slot = entry;
  }

  void finish(int sets, double flops) {
    const auto is_output = [&](const std::string& name) {
      const auto& outputs = model_->graph->outputs();
      return std::any_of(outputs.begin(), outputs.end(), [&](const ir::Value* value) { return value->name == name; });
    };
    std::vector<std::string> failed;
    double worst_share = 0;
    for (const std::string& name : order_)
      if (is_output(name)) report_.tensors.push_back(worst_.at(name));
    // Inner tensors in the order in which they are made: the first failure is the culprit.
    for (const std::string& name : order_) {
      const VerifyReport::Tensor& tensor = worst_.at(name);
      if (!tensor.passed) failed.push_back(name);
      if (!is_output(name)) report_.tensors.push_back(tensor);
      if (is_output(name) && tensor.scale > 0) worst_share = std::max(worst_share, tensor.max_error / tensor.scale);
    }
    if (!failed.empty()) {
      // The first offender leads the list.
      const auto at = std::find_if(report_.tensors.begin(), report_.tensors.end(), [&](const VerifyReport::Tensor& t) { return t.name == failed.front(); });
      std::rotate(report_.tensors.begin(), at, at + 1);
    }
    report_.passed = failed.empty() && (!order_.empty() || !drawn_.empty());
    const char* how = sampled_ ? "sampled" : "all";
    if (report_.passed && order_.empty()) {
      report_.summary = fmt::format("{} tensors are random numbers in the shapes of the model; there is nothing else to compare", drawn_.size());
    } else if (report_.passed) {
      report_.summary = fmt::format("{} region outputs agree with the oracle ({}, {} shape set{}, {:.1f} GFLOP); largest output error {:.1e} of its scale",
                                    order_.size(), how, sets, sets > 1 ? "s" : "", flops * 1e-9, worst_share);
    } else if (order_.empty()) {
      report_.summary = "no tensor of the engine bears a name of the model: nothing could be compared";
    } else {
      const VerifyReport::Tensor& t = worst_.at(failed.front());
      report_.summary = fmt::format(
          "{} of {} region outputs disagree with the oracle; the first is '{}' of {}: error {:.3e} (RMS {:.3e}) at scale {:.3e}, allowed {:.3e} (RMS {:.3e})",
          failed.size(), order_.size(), t.name, t.region, t.max_error, t.rms_error, t.scale, t.max_allowed, t.rms_allowed);
    }
  }

  const BuildOptions& options_;
  Phase* phase_ = nullptr;  // lives while run() does
  std::shared_ptr<ir::Model> model_;
  std::shared_ptr<const runtime::Engine> engine_;
  std::unordered_map<std::string, Stored> stored_;
  bool forced_ = false;     // each node reads the engine's own tensors
  bool quantised_ = false;  // some node rounds to few steps
  double model_unit_ = 0;   // what the model's own narrow types leave open
  bool narrow_ = false, tf32_ = false, fast_ = false, sampled_ = false;
  DType narrow_type_ = DType::kBFloat16;
  VerifyReport report_;
  std::unordered_map<std::string, VerifyReport::Tensor> worst_;
  std::vector<std::string> order_;
  std::unordered_set<std::string> drawn_;  // outputs of random operators
};

}  // namespace

VerifyReport verify_engine(const ir::Model& model, const engine::EngineData& engine, const BuildOptions& options) {
  return Verifier(model, engine, options).run();
}

}  // namespace lathe::builder
