// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Network: a model between reading and building.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "api/impl.h"
#include "base/tensor.h"
#include "base/version.h"
#include "builder/progress.h"
#include "engine/engine.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "onnx/reader.h"
#include "onnx/writer.h"
#include "passes/simplify.h"

namespace lathe {

std::string_view version() noexcept { return kVersion; }

namespace {

Network make_network(std::shared_ptr<ir::Model> model) {
  onnx::inline_functions(*model);
  auto impl = std::make_shared<Network::Impl>();
  impl->model = std::move(model);
  return Network(std::move(impl));
}

IoInfo value_info(const ir::Value& value) { return api::io_info(value.name, value.type); }

}  // namespace

namespace api {

IoInfo io_info(std::string name, DType dtype, const ir::Shape& shape) {
  IoInfo info;
  info.name = std::move(name);
  info.dtype = dtype;
  for (const ir::Dim& dim : shape) {
    info.shape.push_back(dim.constant().value_or(-1));
    info.shape_text.push_back(dim.to_string());
  }
  return info;
}

IoInfo io_info(std::string name, const ir::Type& type) {
  if (type.is_tensor() && type.shape) return io_info(std::move(name), type.dtype, *type.shape);
  return {std::move(name), type.is_tensor() ? type.dtype : DType::kUndefined, {}, {"?"}, {}, type.to_string()};
}

builder::BuildOptions build_options(const BuildConfig& config) {
  builder::BuildOptions options;
  options.device = config.device;
  options.precision = builder::parse_precision(config.precision);
  for (const auto& [name, range] : config.shapes) {
    if (range.opt.empty()) throw Error(Code::kInvalidArgument, fmt::format("the shape given for input '{}' has no extents", name));
    builder::ShapeRange out{range.min, range.opt, range.max};
    if (out.min.empty()) out.min = out.opt;
    if (out.max.empty()) out.max = out.opt;
    if (out.min.size() != out.opt.size() || out.max.size() != out.opt.size())
      throw Error(Code::kInvalidArgument, fmt::format("least, preferred and greatest shape of input '{}' differ in rank", name));
    for (std::size_t i = 0; i < out.opt.size(); ++i)
      if (out.min[i] < 0 || out.min[i] > out.opt[i] || out.opt[i] > out.max[i])
        throw Error(Code::kInvalidArgument, fmt::format("input '{}', axis {}: {} <= {} <= {} does not hold", name, i, out.min[i], out.opt[i], out.max[i]));
    options.shapes.emplace(name, std::move(out));
  }
  if (!(config.budget_seconds >= 0)) throw Error(Code::kInvalidArgument, fmt::format("the budget of {} seconds is no time", config.budget_seconds));
  options.budget_seconds = config.budget_seconds;
  options.libraries = builder::parse_libraries(config.libraries);
  options.exact = config.exact;
  options.verify = config.verify;
  options.use_cache = config.use_cache;
  options.native = config.native;
  options.progress = config.progress;
  builder::check_target(options);
  return options;
}

}  // namespace api

Network::Network(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

namespace {

/// A frequent slip, which the reader of ONNX could only call garbage.
void refuse_engine(std::span<const std::byte> head, const std::string& source) {
  if (engine::looks_like_engine(head))
    throw Error(Code::kInvalidArgument, "this is an engine, not an ONNX model")
        .in_source(source)
        .with_remedy("Load it with Engine::load; it is built already.");
}

}  // namespace

Network Network::parse(const std::filesystem::path& file) {
  return api::guarded("read the model", [&] {
    std::array<char, 8> head{};
    std::ifstream(file, std::ios::binary).read(head.data(), head.size());  // a file that cannot be read is read_model's to tell
    refuse_engine(std::as_bytes(std::span(head)), file.string());
    return make_network(onnx::read_model(file));
  });
}

Network Network::parse(std::span<const std::byte> bytes, const std::filesystem::path& base_dir) {
  return api::guarded("read the model", [&] {
    refuse_engine(bytes, "model in memory");
    auto copy = std::make_shared<std::vector<std::byte>>(bytes.begin(), bytes.end());
    const std::span<const std::byte> view(*copy);
    return make_network(onnx::read_model(view, std::move(copy), base_dir));
  });
}

std::vector<IoInfo> Network::inputs() const {
  std::vector<IoInfo> list;
  for (const ir::Value* value : impl_->model->graph->inputs()) list.push_back(value_info(*value));
  return list;
}

std::vector<IoInfo> Network::outputs() const {
  std::vector<IoInfo> list;
  for (const ir::Value* value : impl_->model->graph->outputs()) list.push_back(value_info(*value));
  return list;
}

std::size_t Network::node_count() const {
  std::size_t count = 0;
  ir::for_each_node_deep(*impl_->model->graph, [&](ir::Node&) { ++count; });
  return count;
}

std::string Network::to_text() const { return ir::print(*impl_->model->graph); }

void Network::mark_output(std::string_view tensor) {
  ir::Value* value = impl_->model->graph->find(tensor);
  if (!value)
    throw Error(Code::kInvalidArgument, fmt::format("the model has no tensor '{}'", tensor))
        .in_source(impl_->model->source)
        .with_remedy("`lathe show` lists the tensors' names.");
  if (value->is_graph_output()) return;
  if (value->kind != ir::ValueKind::kNodeOutput)
    throw Error(Code::kInvalidArgument, fmt::format("'{}' is {}, not the result of a node", tensor, value->is_constant() ? "a constant" : "an input"))
        .in_source(impl_->model->source);
  impl_->model->graph->add_output(value);
}

std::string Network::simplify() {
  const passes::SimplifyReport report = api::guarded("simplify the model", [&] { return passes::simplify(*impl_->model); });
  std::size_t width = 3;
  for (const auto& [op, counts] : report.ops) width = std::max(width, op.size());
  std::string text = fmt::format("{:<{}}  {:>6}  {:>6}\n", "op", width, "before", "after");
  for (const auto& [op, counts] : report.ops) text += fmt::format("{:<{}}  {:>6}  {:>6}\n", op, width, counts.first, counts.second);
  return text + fmt::format("{:<{}}  {:>6}  {:>6}\n", "all", width, report.nodes_before, report.nodes_after);
}

void Network::save(const std::filesystem::path& file) const {
  api::guarded("write the model", [&] { onnx::write_model(*impl_->model, file); });
}

Engine Network::build(const BuildConfig& config) const {
  return api::guarded("build the engine", [&] {
    try {
      return api::make_engine(builder::build_engine(impl_->model, api::build_options(config)).engine, config.device);
    } catch (Error& error) {
      if (error.source().empty()) error.in_source(impl_->model->source);
      throw;
    }
  });
}

namespace {

template <class Read>
Engine read_and_build(Read&& read, const BuildConfig& config) {
  api::build_options(config);  // a wrong option is told before a large file is read
  builder::Phase phase(config.progress, "reading", 1);
  const Network network = read();
  phase.finish();
  return network.build(config);
}

}  // namespace

Engine build(const std::filesystem::path& onnx_file, const BuildConfig& config) {
  return read_and_build([&] { return Network::parse(onnx_file); }, config);
}

Engine build(std::span<const std::byte> onnx, const BuildConfig& config, const std::filesystem::path& base_dir) {
  return read_and_build([&] { return Network::parse(onnx, base_dir); }, config);
}

}  // namespace lathe
