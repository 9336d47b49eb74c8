// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Fuzzer of the whole way: an ONNX file (or a graph in the text form, which mutations leave sound more often) is read, simplified, built
// without timing, written, loaded and run. Every stage ends with an Error or a Status that says what is wrong, or gives an engine that
// makes the same bits twice. Memory is limited, and models of larger tensors than kMostElements are left alone: they would only be slow.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "api/impl.h"
#include "base/failing_allocations.h"
#include "ir/text.h"
#include "lathe/lathe.hpp"
#include "ops/import.h"
#include "ops/infer.h"
#include "ops/registry.h"

namespace {

using namespace lathe;

constexpr std::int64_t kMostElements = 1 << 12, kSymbolAtMost = 8;
constexpr std::size_t kLargestBlock = std::size_t{64} << 20;
constexpr std::int64_t kMostBytes = std::int64_t{512} << 20;

Network read(std::string_view input) {
  if (!input.starts_with("graph")) return Network::parse(std::as_bytes(std::span(input)));
  auto impl = std::make_shared<Network::Impl>();
  impl->model = std::make_shared<ir::Model>();
  impl->model->ir_version = 10;
  impl->model->opset_imports[""] = ops::kCanonicalOpset;
  impl->model->graph = api::guarded("read the text", [&] { return ir::parse_graph(input); });
  return Network(std::move(impl));
}

/// As far as shapes tell. What is wrong with the model is for the pipeline to say.
bool is_small(const ir::Model& model) try {
  const auto trial = model.clone();
  ops::canonicalise_opsets(*trial);
  ops::infer_graph(*trial);
  const auto graph_is_small = [](const ir::Graph& graph) {
    for (const ir::Value* value : graph.values()) {
      if (!value->has_shape()) continue;
      std::set<std::string> symbols;
      for (const ir::Dim& dim : value->shape()) dim.collect_symbols(symbols);
      ir::Bindings bindings;
      for (const std::string& symbol : symbols) bindings[symbol] = kSymbolAtMost;
      std::int64_t elements = 1;
      for (const ir::Dim& dim : value->shape()) {
        const std::int64_t extent = dim.evaluate(bindings).value_or(1);
        if (extent > kMostElements || (elements *= std::max<std::int64_t>(extent, 1)) > kMostElements) return false;
      }
    }
    return true;
  };
  bool small = graph_is_small(*trial->graph);
  ir::for_each_node_deep(*trial->graph, [&](ir::Node& node) {
    for (const ir::Graph* nested : ir::nested_graphs(node)) small = small && graph_is_small(*nested);
  });
  return small;
} catch (const Error&) {
  return true;
}

/// Dense values that most operators take: small, some negative; indices stay small.
std::vector<std::byte> make_input(DType dtype, const std::vector<std::int64_t>& shape) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : shape) elements *= extent;
  if (elements > 64 * kMostElements || dtype_bits(dtype) == 0) return {};
  Tensor tensor(dtype, shape);
  if (dtype == DType::kComplex64 || dtype == DType::kComplex128) return std::vector<std::byte>(tensor.raw(), tensor.raw() + tensor.bytes());
  for (std::int64_t i = 0; i < elements; ++i) {
    if (is_float(dtype)) tensor.set_from_double(i, static_cast<double>(i % 7) * 0.5 - 1);
    else tensor.set_from_int64(i, i % 2);
  }
  return std::vector<std::byte>(tensor.raw(), tensor.raw() + tensor.bytes());
}

/// Does every run draw other numbers?
bool draws(const ir::Graph& graph) {
  bool found = false;
  ir::for_each_node_deep(graph, [&](const ir::Node& node) { found |= !ops::is_deterministic(node); });
  return found;
}

void check(Code code, std::string_view message) {
  if (code != Code::kInternal) return;
  std::fprintf(stderr, "internal error: %.*s\n", static_cast<int>(message.size()), message.data());
  std::abort();
}

void go(std::string_view input) {
  static const bool limited = setenv("LATHE_MAX_TRIPS", "64", 1) == 0;  // endless loops end soon
  if (!limited) return;
  Network network = read(input);
  if (!is_small(*network.impl()->model)) return;
  BuildConfig config;
  config.budget_seconds = 0;
  config.use_cache = false;
  config.verify = false;
  Engine engine = Engine::load(network.build(config).to_bytes());
  network.simplify();
  Context context = engine.create_context();
  const std::vector<IoInfo> infos = engine.inputs();
  std::vector<std::vector<std::int64_t>> shapes;
  std::vector<std::vector<std::byte>> data;
  std::vector<ConstTensorView> views;
  for (const IoInfo& info : infos) {
    shapes.push_back(info.tuned_shape);
    for (std::int64_t& extent : shapes.back())
      if (extent < 0) extent = 2;
    data.push_back(make_input(info.dtype, shapes.back()));
  }
  for (std::size_t i = 0; i < infos.size(); ++i) views.push_back({data[i].data(), infos[i].dtype, shapes[i]});
  std::vector<std::vector<std::byte>> first;
  const bool random = draws(*network.impl()->model->graph);
  for (int round = 0; round < 2; ++round) {
    if (const Status status = context.run(views); !status) return check(status.code(), status.message());
    for (std::size_t i = 0; i < engine.outputs().size(); ++i) {
      const ConstTensorView out = context.output(i);
      std::int64_t elements = 1;
      for (const std::int64_t extent : out.shape) elements *= extent;
      const auto* bytes = static_cast<const std::byte*>(out.data);
      const std::size_t count = dtype_bytes(out.dtype, elements);
      if (round == 0) first.emplace_back(bytes, bytes + count);
      else if (random) continue;
      else if (count != first[i].size() || (count > 0 && std::memcmp(bytes, first[i].data(), count) != 0)) check(Code::kInternal, "two runs differ");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const test::AllocationLimit limit(kLargestBlock, kMostBytes);
  try {
    go({reinterpret_cast<const char*>(data), size});
  } catch (const Error& error) {
    check(error.code(), error.what());
  }
  return 0;
}
