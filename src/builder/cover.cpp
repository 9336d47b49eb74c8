// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See cover.h. The minimum-cost choice: on the chain behind an anchor, cost(alternative) = its best candidate's time + the modelled cost of
// the nodes that it leaves to others; conversions of memory order count where a candidate wants another one than its neighbours.

#include "builder/cover.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "builder/progress.h"
#include "builder/proposals.h"
#include "ops/nearest_ops.h"
#include "ops/quantize/whole_numbers.h"

namespace lathe::builder {

using ops::Layout;

namespace {

// Model of the machine for what is not measured: bytes per second beyond cache, flops per second, cost of a step.
struct Rates {
  double bandwidth, flops, step_seconds;
};
/// How much slower than the chosen an option may be to be tried in the whole run, and how many are.
constexpr double kClose = 1.3;
constexpr std::size_t kMostClose = 4;

constexpr Rates kCpuRates{1.5e10, 5e10, 2e-6}, kGpuRates{2e12, 1e14, 1.5e-6};

struct Option {
  const ops::Candidate* candidate = nullptr;
  ops::StepPlan plan;
  std::vector<Layout> inputs, outputs;
  double seconds = -1;  ///< measured or modelled time of the step
  double cost = 0;      ///< seconds + conversions + what is left to others
  std::size_t choice = 0;
  bool modelled = true;
};

double bytes_of(const ir::Value* value, const CoverRequest& request) {
  const plan::TensorDesc desc = request.plans.desc(value, Layout::kAny, request.hints);
  return static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
}

const Rates& rates(const CoverRequest& request) { return request.options.device_handle ? kGpuRates : kCpuRates; }

bool is_for_cuda(const ops::Candidate& candidate) { return candidate.name.substr(0, 5) == "cuda."; }

bool is_generic(const ops::Candidate& candidate) {
  return candidate.name == "cpu.loops" || candidate.name == "cuda.loops" || candidate.name == "cpu.reference" ||
         candidate.name.substr(candidate.name.rfind('.') + 1) == "generic";
}

Layout wanted(const ops::Candidate& candidate, const ops::Region& region, bool is_output, std::size_t index, const ir::Value* value) {
  if (!value || !value->has_shape() || value->shape().size() < 3) return Layout::kRowMajor;
  return candidate.layout ? candidate.layout(region, is_output, index) : Layout::kRowMajor;
}

std::size_t index_in(const std::vector<ir::Value*>& list, const ir::Value* value) {
  return static_cast<std::size_t>(std::find(list.begin(), list.end(), value) - list.begin());
}

/// Asks one candidate for one region: fills the choice for --explain and appends the options that it offers.
void ask(const ops::Candidate& candidate, const ops::Region& region, const CoverRequest& request, std::vector<Choice>& choices, std::vector<Option>& options) {
  std::vector<Layout> in_layouts, out_layouts;
  std::vector<plan::TensorDesc> in_descs, out_descs;
  for (std::size_t i = 0; i < region.inputs.size(); ++i) {
    in_layouts.push_back(region.inputs[i]->is_constant() ? Layout::kRowMajor : wanted(candidate, region, false, i, region.inputs[i]));
    in_descs.push_back(request.plans.desc(region.inputs[i], in_layouts.back(), request.hints));
  }
  for (std::size_t i = 0; i < region.outputs.size(); ++i) {
    out_layouts.push_back(wanted(candidate, region, true, i, region.outputs[i]));
    out_descs.push_back(request.plans.desc(region.outputs[i], out_layouts.back(), request.hints));
  }
  const int threads = request.options.threads;
  // Sums of whole numbers are exact, and what is made of them counts on it.
  const bool whole = std::any_of(region.nodes.begin(), region.nodes.end(), [](const ir::Node* node) { return ops::is_whole_product(*node); });
  const bool exact = request.options.exact || whole;
  const ops::PlanRequest ask{region,
                             in_descs,
                             out_descs,
                             in_layouts,
                             out_layouts,
                             exact,
                             request.options.cpu_features,
                             threads,
                             request.hints,
                             is_for_cuda(candidate) ? request.options.device_handle : nullptr,
                             request.options.precision == Precision::kTensorFloat32,
                             request.tuner && request.tuner->budget_left(),
                             request.options.libraries};
  const ops::Verdict verdict = candidate.supports(ask);
  if (!verdict.yes) {
    choices.push_back({std::string(candidate.name), "", false, false, verdict.reason, -1, false});
    return;
  }
  for (ops::StepPlan& plan : candidate.plan(ask)) {
    if (request.generic_only) {
      const plan::KernelType* kernel = plan::find_kernel(plan.kernel);
      if (kernel && !kernel->needs.empty()) continue;
    }
    if (plan.fast_class && exact) {
      choices.push_back({std::string(candidate.name), plan.variant, false, false,
                         whole ? "error class fast: a product of whole numbers must be exact" : "error class fast is forbidden by --exact", -1, false});
      continue;
    }
    Option option;
    option.candidate = &candidate;
    for (const ir::Value* value : plan.inputs) {
      const std::size_t i = index_in(region.inputs, value);
      option.inputs.push_back(value && i < in_layouts.size() ? in_layouts[i] : Layout::kRowMajor);
    }
    for (const ir::Value* value : plan.outputs) {
      const std::size_t i = index_in(region.outputs, value);
      option.outputs.push_back(value && i < out_layouts.size() ? out_layouts[i] : Layout::kRowMajor);
    }
    option.plan = std::move(plan);
    options.push_back(std::move(option));
  }
}

/// Times of the options, measured side by side.
void measure(std::vector<Option>& options, const CoverRequest& request) {
  std::vector<TimedOption> timed;
  for (const Option& option : options)
    timed.push_back({&option.plan, option.candidate->name, request.plans.descs(option.plan.inputs, option.inputs, request.hints),
                     request.plans.descs(option.plan.outputs, option.outputs, request.hints)});
  const std::vector<double> seconds = request.tuner->time(timed, request.hints);
  for (std::size_t i = 0; i < options.size(); ++i) {
    options[i].seconds = seconds[i];
    options[i].modelled = seconds[i] < 0;
  }
}

/// Time of an option, modelled where it was not measured; and the conversions that its layouts cause at fixed neighbours.
void cost(Option& option, const CoverRequest& request) {
  if (option.modelled) {
    const double slow = is_generic(*option.candidate) && !option.candidate->name.ends_with(".loops") ? 50 : 1;
    option.seconds = std::max(slow * option.plan.flops / rates(request).flops, option.plan.bytes / rates(request).bandwidth) + rates(request).step_seconds;
  }
  option.cost = option.seconds * option.plan.burden;
  const auto convert = [&](const std::vector<ir::Value*>& values, const std::vector<Layout>& layouts) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!values[i] || values[i]->is_constant()) continue;
      const ValuePlan* plan = request.plans.find(values[i]);
      if (!plan || plan->layout == Layout::kAny || layouts[i] == Layout::kAny || plan->layout == layouts[i]) continue;
      if (layouts_coincide(values[i]->shape())) continue;
      option.cost += 2 * bytes_of(values[i], request) / rates(request).bandwidth + rates(request).step_seconds;
    }
  };
  convert(option.plan.inputs, option.inputs);
  convert(option.plan.outputs, option.outputs);
}

/// Nodes of `wide` that `narrow` leaves to other steps, as time.
double left_over(const ops::Region& wide, const ops::Region& narrow, const CoverRequest& request) {
  double seconds = 0;
  for (const ir::Node* node : wide.nodes) {
    if (std::find(narrow.nodes.begin(), narrow.nodes.end(), node) != narrow.nodes.end()) continue;
    double bytes = 0;
    for (const ir::Value* value : node->inputs)
      if (value && !value->is_constant()) bytes += bytes_of(value, request);
    for (const ir::Value* value : node->outputs)
      if (value) bytes += bytes_of(value, request);
    seconds += bytes / rates(request).bandwidth + rates(request).step_seconds;
  }
  return seconds;
}

std::string label_of(const ops::Region& region) {
  const ir::Node& anchor = *region.nodes.front();
  return fmt::format("{} {}", region.pattern, anchor.name.empty() ? anchor.op : anchor.name);
}

PlannedRegion planned(ops::Region region, Option option, std::vector<Choice> choices) {
  PlannedRegion result;
  result.candidate = option.candidate;
  result.plan = std::move(option.plan);
  result.input_layouts = std::move(option.inputs);
  result.output_layouts = std::move(option.outputs);
  result.seconds = option.modelled ? -1 : option.seconds;
  result.choice = option.choice;
  result.report.label = label_of(region);
  result.report.pattern = region.pattern;
  result.report.flops = result.plan.flops;
  result.report.bytes = result.plan.bytes;
  result.report.choices = std::move(choices);
  for (const ir::Node* node : region.nodes) result.report.sources.insert(result.report.sources.end(), node->sources.begin(), node->sources.end());
  result.region = std::move(region);
  return result;
}

/// Could `other` take the place of `chosen` in a program, and might it be the faster one there? Of another maker's library only where that is needed anyway.
bool is_close(const Option& other, const Option& chosen) {
  if (other.modelled || chosen.modelled || other.seconds > kClose * chosen.seconds) return false;
  if (other.plan.burden > 1 && chosen.plan.burden <= 1) return false;
  return other.plan.inputs == chosen.plan.inputs && other.plan.outputs == chosen.plan.outputs && other.inputs == chosen.inputs &&
         other.outputs == chosen.outputs;
}

/// Best option over all alternatives of one anchor; false when no candidate accepts any of them. `on_host`: among the CPU's candidates,
/// for a step of a GPU's program that has no kernel there.
bool choose(const std::vector<ops::Region>& alternatives, const CoverRequest& request, bool time_them, PlannedRegion& result, bool on_host = false) {
  const bool on_cuda = request.options.device_handle && !on_host;
  std::vector<Choice> choices;
  std::vector<std::pair<std::size_t, Option>> all;
  bool measured_one = false;
  for (std::size_t a = 0; a < alternatives.size(); ++a) {
    std::vector<Option> options;
    bool accepted_special = false;
    for (const ops::Candidate* candidate : ops::candidates_for(alternatives[a].pattern)) {
      if (is_for_cuda(*candidate) != on_cuda) continue;
      // The generic one is the last resort: it is asked only when nothing else took the region.
      if (is_generic(*candidate) && accepted_special) continue;
      const std::size_t before = options.size();
      ask(*candidate, alternatives[a], request, choices, options);
      accepted_special |= options.size() > before && !is_generic(*candidate);
    }
    // Shorter alternatives are measured only when no wider one could be: the tail that they leave never comes for free.
    if (time_them && request.tuner && accepted_special && !measured_one && options.size() > 1) measure(options, request);
    for (Option& option : options) {
      cost(option, request);
      option.choice = choices.size();
      choices.push_back({std::string(option.candidate->name), option.plan.variant, true, false, "", option.seconds, option.modelled, option.plan.burden > 1});
      option.cost += left_over(alternatives.front(), alternatives[a], request);
    }
    measured_one |= accepted_special;
    for (Option& option : options) all.emplace_back(a, std::move(option));
    if (measured_one) break;
  }
  if (all.empty()) return false;
  const auto best = std::min_element(all.begin(), all.end(), [](const auto& x, const auto& y) { return x.second.cost < y.second.cost; });
  choices[best->second.choice].chosen = true;
  std::vector<CloseOption> close;
  if (on_cuda && request.tuner)
    for (auto other = all.begin(); other != all.end(); ++other)
      if (other != best && other->first == best->first && is_close(other->second, best->second))
        close.push_back({other->second.candidate, std::move(other->second.plan), other->second.seconds, other->second.choice});
  std::stable_sort(close.begin(), close.end(), [](const CloseOption& x, const CloseOption& y) { return x.seconds < y.seconds; });
  if (close.size() > kMostClose) close.resize(kMostClose);
  result = planned(alternatives[best->first], std::move(best->second), std::move(choices));
  result.on_host = on_host;
  result.close = std::move(close);
  return true;
}

/// One node by whatever takes it. On a GPU that is the CPU: a kernel of the node's own there, else its region, else the defining reference.
bool choose_last_resort(const ir::Node& node, const CoverRequest& request, PlannedRegion& result) {
  const bool on_host = request.options.device_handle != nullptr;
  if (on_host) {
    std::vector<ops::Region> alone = propose_anchored(node);
    std::erase_if(alone, [](const ops::Region& region) { return region.nodes.size() != 1; });
    if (!alone.empty() && choose(alone, request, false, result, true)) return true;
    if (choose({make_region("loops", {&node})}, request, false, result, true)) return true;
  }
  return choose({make_region("single", {&node})}, request, false, result, on_host);
}

/// Memory order of a value that no candidate has fixed: channels-last when something around it already is.
Layout settle(const ir::Value* value, const PlannedRegion* producer, const std::vector<const PlannedRegion*>& consumers, const ValuePlans& plans) {
  const auto asks = [&](const PlannedRegion* region, bool output) {
    const auto& values = output ? region->plan.outputs : region->plan.inputs;
    const auto& layouts = output ? region->output_layouts : region->input_layouts;
    for (std::size_t i = 0; i < values.size(); ++i)
      if (values[i] == value && layouts[i] != Layout::kAny) return layouts[i];
    return Layout::kAny;
  };
  int last = 0, major = 0;
  const auto vote = [&](Layout layout) { (layout == Layout::kChannelsLast ? last : layout == Layout::kRowMajor ? major : last) += layout != Layout::kAny; };
  if (producer) vote(asks(producer, true));
  for (const PlannedRegion* consumer : consumers) vote(asks(consumer, false));
  if (last + major > 0) return last >= major ? Layout::kChannelsLast : Layout::kRowMajor;
  // Free on both sides: follow the inputs of the producer.
  if (producer && producer->kind == RegionKind::kCandidate)
    for (const ir::Value* input : producer->plan.inputs) {
      if (!input || input->is_constant() || !input->has_shape() || input->shape().size() != value->shape().size()) continue;
      const ValuePlan* plan = plans.find(input);
      if (plan && plan->layout == Layout::kChannelsLast) return Layout::kChannelsLast;
    }
  return Layout::kRowMajor;
}

}  // namespace

std::vector<PlannedRegion> choose_cover(const CoverRequest& request) {
  const auto nodes = request.graph.nodes();
  NodeSet taken;
  std::vector<PlannedRegion> regions;
  std::vector<const ir::Node*> unsupported;

  // Concats and splits whose parts live inside the other value need no step of their own.
  for (const ir::Node* node : nodes) {
    const bool gather = node->is("Concat") && std::any_of(node->inputs.begin(), node->inputs.end(), [&](const ir::Value* v) {
                          const ValuePlan* plan = request.plans.find(v);
                          return plan && plan->slice && plan->slice->parent == node->output();
                        });
    const bool scatter = node->is("Split") && std::any_of(node->outputs.begin(), node->outputs.end(), [&](const ir::Value* v) {
                           const ValuePlan* plan = v ? request.plans.find(v) : nullptr;
                           return plan && plan->slice && plan->slice->parent == node->input(0);
                         });
    if (!gather && !scatter) continue;
    PlannedRegion region;
    region.kind = gather ? RegionKind::kGather : RegionKind::kScatter;
    region.region = make_region(gather ? "concat" : "split", {node});
    region.report.label = label_of(region.region);
    region.report.pattern = region.region.pattern;
    region.report.sources = node->sources;
    regions.push_back(std::move(region));
    taken.insert(node);
  }

  // Anchored regions, last anchor first: of two convolutions that end in one Add, the later one takes it.
  // The phase counts nodes from the last to the first; what is left after the anchors takes no time beside their measurements.
  Phase phase(request.options.progress, request.tuner ? "timing candidates" : "choosing generic kernels", static_cast<std::int64_t>(nodes.size()),
              request.tuner ? request.options.budget_seconds : std::numeric_limits<double>::infinity());
  for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
    const ir::Node* node = *it;
    phase.at(it - nodes.rbegin());
    if (taken.count(node)) continue;
    std::vector<ops::Region> alternatives = propose_anchored(*node);
    std::erase_if(alternatives, [&](const ops::Region& region) {
      return std::any_of(region.nodes.begin(), region.nodes.end(), [&](const ir::Node* member) { return taken.count(member) > 0; });
    });
    if (alternatives.empty()) continue;
    if (request.tuner) request.tuner->next_region();
    PlannedRegion region;
    if (!choose(alternatives, request, true, region)) continue;
    for (const ir::Node* member : region.region.nodes) taken.insert(member);
    // A choice fixes the memory order of what it touches, for the candidates asked after it.
    for (std::size_t i = 0; i < region.plan.inputs.size(); ++i)
      if (region.plan.inputs[i] && region.input_layouts[i] == Layout::kChannelsLast) {
        ValuePlan& plan = request.plans[region.plan.inputs[i]];
        if (plan.layout == Layout::kAny) plan.layout = Layout::kChannelsLast;
      }
    for (std::size_t i = 0; i < region.plan.outputs.size(); ++i)
      if (region.plan.outputs[i] && region.output_layouts[i] == Layout::kChannelsLast) {
        ValuePlan& plan = request.plans[region.plan.outputs[i]];
        if (plan.layout == Layout::kAny) plan.layout = Layout::kChannelsLast;
      }
    regions.push_back(std::move(region));
  }

  // Plain views, then the region language, then the defining reference.
  for (const ir::Node* node : nodes) {
    if (taken.count(node) || !is_view(*node)) continue;
    const ValuePlan* source = request.plans.find(node->input(0));
    const bool placed = source && source->slice && source->slice->parent == node->output();
    const bool alone = std::all_of(node->output()->uses.begin(), node->output()->uses.end(), [&](const ir::Use& use) { return taken.count(use.node) > 0; });
    const bool fed = !node->input(0)->producer || taken.count(node->input(0)->producer);
    if (!alone && !fed && !placed) continue;  // between fusable nodes: becomes index arithmetic
    if (!alone && !placed && !layouts_coincide(node->input(0)->shape()) && request.plans.find(node->input(0)) &&
        request.plans.find(node->input(0))->layout == Layout::kChannelsLast)
      continue;  // reading the channels-last image in place beats converting it first
    PlannedRegion region;
    region.kind = RegionKind::kView;
    region.region = make_region("view", {node});
    region.report.label = label_of(region.region);
    region.report.pattern = "view";
    region.report.sources = node->sources;
    regions.push_back(std::move(region));
    taken.insert(node);
  }
  for (ops::Region& fused : propose_fused(request.graph, taken)) {
    phase.poll();
    PlannedRegion region;
    if (!choose({fused}, request, false, region)) {
      // The whole does not lower: each node by itself.
      for (const ir::Node* node : fused.nodes) {
        PlannedRegion single;
        if (choose({make_region("loops", {node})}, request, false, single) || choose_last_resort(*node, request, single)) {
          regions.push_back(std::move(single));
        } else {
          unsupported.push_back(node);
        }
        taken.insert(node);
      }
      continue;
    }
    for (const ir::Node* node : fused.nodes) taken.insert(node);
    regions.push_back(std::move(region));
  }
  for (const ir::Node* node : nodes) {
    if (taken.count(node)) continue;
    PlannedRegion single;
    if (choose_last_resort(*node, request, single)) {
      regions.push_back(std::move(single));
    } else {
      unsupported.push_back(node);
    }
  }
  if (!unsupported.empty()) {
    std::string list;
    for (const ir::Node* node : unsupported) list += fmt::format("{}{}", list.empty() ? "" : ", ", node->describe());
    throw Error(Code::kUnsupported, fmt::format("no candidate executes {} node(s): {}", unsupported.size(), list))
        .with_remedy(std::string(ops::kUnknownOpRemedy));
  }

  // Execution order: a region runs when all that it reads is there.
  std::unordered_map<const ir::Value*, std::size_t> producer;
  std::map<const ir::Node*, std::size_t> position;
  for (std::size_t i = 0; i < nodes.size(); ++i) position[nodes[i]] = i;
  std::stable_sort(regions.begin(), regions.end(),
                   [&](const PlannedRegion& a, const PlannedRegion& b) { return position[a.region.nodes.back()] < position[b.region.nodes.back()]; });
  for (std::size_t i = 0; i < regions.size(); ++i)
    for (const ir::Value* output : regions[i].region.outputs) producer[output] = i;
  std::vector<int> missing(regions.size(), 0);
  std::vector<std::vector<std::size_t>> readers(regions.size());
  for (std::size_t i = 0; i < regions.size(); ++i)
    for (const ir::Value* input : regions[i].region.inputs)
      if (const auto found = producer.find(input); found != producer.end() && found->second != i) {
        readers[found->second].push_back(i);
        ++missing[i];
      }
  std::vector<std::size_t> order, ready;
  for (std::size_t i = 0; i < regions.size(); ++i)
    if (missing[i] == 0) ready.push_back(i);
  std::make_heap(ready.begin(), ready.end(), std::greater<>());
  while (!ready.empty()) {
    std::pop_heap(ready.begin(), ready.end(), std::greater<>());
    const std::size_t at = ready.back();
    ready.pop_back();
    order.push_back(at);
    for (const std::size_t reader : readers[at])
      if (--missing[reader] == 0) {
        ready.push_back(reader);
        std::push_heap(ready.begin(), ready.end(), std::greater<>());
      }
  }
  if (order.size() != regions.size()) throw Error(Code::kInternal, "the chosen regions depend on each other in a cycle");
  std::vector<PlannedRegion> sorted;
  for (const std::size_t i : order) sorted.push_back(std::move(regions[i]));

  // Memory order of every value that crosses a region's edge.
  std::unordered_map<const ir::Value*, const PlannedRegion*> made_by;
  std::unordered_map<const ir::Value*, std::vector<const PlannedRegion*>> read_by;
  for (const PlannedRegion& region : sorted)
    for (const ir::Value* input : region.region.inputs) read_by[input].push_back(&region);
  for (const PlannedRegion& region : sorted)
    for (const ir::Value* output : region.region.outputs) made_by[output] = &region;
  for (const PlannedRegion& region : sorted)
    for (const ir::Value* output : region.region.outputs) {
      ValuePlan& plan = request.plans[output];
      if (!output->has_shape() || output->shape().size() < 3) {
        plan.layout = Layout::kRowMajor;
      } else if (plan.layout == Layout::kAny || !plan.slice) {
        const bool pinned = plan.layout == Layout::kChannelsLast &&
                            std::any_of(read_by[output].begin(), read_by[output].end(), [](const PlannedRegion* r) { return r->kind == RegionKind::kScatter; });
        if (!pinned && region.kind != RegionKind::kGather)
          plan.layout = region.kind == RegionKind::kView ? Layout::kRowMajor : settle(output, &region, read_by[output], request.plans);
      }
    }
  phase.finish();
  return sorted;
}

}  // namespace lathe::builder
