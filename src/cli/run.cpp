// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe run`: one run on arrays from files. Names and arrays are checked against the model before anything is built.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/npz.h"

namespace lathe::cli {
namespace {

struct Options {
  std::string model, output;
  std::vector<std::string> inputs;
  BuildFlags flags;
  bool json = false;
};

[[noreturn]] void bad_array(const std::string& file, std::string message, std::string remedy = "") {
  DataError error(Code::kInvalidArgument, std::move(message));
  error.in_source(file);
  error.with_remedy(std::move(remedy));
  throw error;
}

std::string shape_of(const Tensor& tensor) { return fmt::format("[{}]", fmt::join(tensor.dims(), ", ")); }

bool has_rank(const IoInfo& info) { return info.type.empty(); }
bool is_sequence(const IoInfo& info) { return info.type.starts_with("seq(") || info.type.starts_with("optional(seq("); }

/// `symbols` collects what the arrays so far make of the model's symbolic extents.
void check_array(const IoInfo& info, const Tensor& tensor, const std::string& file, std::map<std::string, std::int64_t>& symbols) {
  const bool bits = info.dtype == DType::kBFloat16 && tensor.dtype() == DType::kUint16;
  if (info.dtype != DType::kUndefined && tensor.dtype() != info.dtype && !bits)
    bad_array(file, fmt::format("input '{}' has type {}, the array has {}", info.name, dtype_name(info.dtype), dtype_name(tensor.dtype())),
              info.dtype == DType::kBFloat16 ? "Give the bits of the bfloat16 numbers as uint16." : "Convert it in NumPy: array.astype(...).");
  if (!has_rank(info)) return;
  const std::string wanted = fmt::format("[{}]", fmt::join(info.shape_text, ", "));
  if (tensor.dims().size() != info.shape.size())
    bad_array(file,
              fmt::format("input '{}' has {} axes, {}; the array has {}, {}", info.name, info.shape.size(), wanted, tensor.dims().size(), shape_of(tensor)));
  for (std::size_t axis = 0; axis < info.shape.size(); ++axis) {
    const std::int64_t extent = tensor.dims()[axis];
    if (info.shape[axis] >= 0 && info.shape[axis] != extent)
      bad_array(file, fmt::format("input '{}' has shape {}, the array has {}", info.name, wanted, shape_of(tensor)));
    if (info.shape[axis] >= 0) continue;
    const auto [known, fresh] = symbols.emplace(info.shape_text[axis], extent);
    if (!fresh && known->second != extent)
      bad_array(file, fmt::format("'{}' is {} by another array, but axis {} of input '{}' makes it {}", known->first, known->second, axis, info.name, extent));
  }
}

/// The arrays in the order of the model's inputs; of a sequence each array that is given is an item.
std::vector<Tensor> read_inputs(const std::vector<IoInfo>& infos, const std::vector<std::string>& options) {
  std::vector<Tensor> tensors(infos.size());
  std::map<std::string, std::int64_t> symbols;
  const auto names = [&] {
    std::string known;
    for (const IoInfo& info : infos) known += fmt::format("{}'{}'", known.empty() ? "" : ", ", info.name);
    return known.empty() ? std::string("none") : known;
  };
  for (const std::string& text : options) {
    // Names may hold '=', files rarely do: the longest known name in front of a '=' wins.
    const IoInfo* found = nullptr;
    for (const IoInfo& info : infos)
      if (text.size() > info.name.size() && text.starts_with(info.name) && text[info.name.size()] == '=' && (!found || info.name.size() > found->name.size()))
        found = &info;
    std::string file = found ? text.substr(found->name.size() + 1) : text;
    if (!found) {
      const auto cut = text.find('=');
      if (cut != std::string::npos || infos.size() != 1)
        throw Error(Code::kInvalidArgument, cut == std::string::npos ? fmt::format("'{}' names no input; the inputs are {}", text, names())
                                                                     : fmt::format("there is no input '{}'; the inputs are {}", text.substr(0, cut), names()))
            .with_remedy("Write --input NAME=FILE.npy.");
      found = &infos[0];
    }
    Tensor& tensor = tensors[static_cast<std::size_t>(found - infos.data())];
    if (found->type.starts_with("map("))
      throw Error(Code::kUnsupported, fmt::format("input '{}' is a map, which no array file holds", found->name)).with_remedy("Run it from Python or C++.");
    if (is_sequence(*found)) {
      std::vector<Tensor> items = tensor.defined() ? tensor.items() : std::vector<Tensor>();
      items.push_back(read_npy(file));
      tensor = Tensor::sequence(std::move(items));
      continue;
    }
    if (tensor.defined()) throw Error(Code::kInvalidArgument, fmt::format("input '{}' was given twice", found->name));
    tensor = read_npy(file);
    check_array(*found, tensor, file, symbols);
  }
  std::string missing, remedy;
  for (std::size_t i = 0; i < infos.size(); ++i)
    if (!tensors[i].defined()) {
      if (infos[i].type.starts_with("optional(")) continue;
      missing += fmt::format("{}'{}'", missing.empty() ? "" : ", ", infos[i].name);
      remedy += fmt::format(" --input {}=FILE.npy", infos[i].name);
    }
  if (!missing.empty()) throw Error(Code::kInvalidArgument, fmt::format("no array was given for {}", missing)).with_remedy(fmt::format("Add{}.", remedy));
  return tensors;
}

void save(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& outputs) {
  if (!path.ends_with(".npy")) return write_npz(path, outputs);
  write_npy(path, outputs.front().second);
}

/// A value as arrays with names: a sequence's items are NAME.0, NAME.1, ..., a map's parts NAME.keys and NAME.values.
void flatten(const std::string& name, const Tensor& value, std::vector<std::pair<std::string, Tensor>>& into) {
  if (value.is_tensor()) return into.emplace_back(name, value), void();
  if (value.is_nothing()) return;
  for (std::size_t i = 0; i < value.items().size(); ++i)
    flatten(value.is_map() ? name + (i == 0 ? ".keys" : ".values") : fmt::format("{}.{}", name, i), value.items()[i], into);
}

/// Range and mean of the finite elements.
nlohmann::json statistics(const Tensor& tensor) {
  if (tensor.dtype() == DType::kString || tensor.dtype() == DType::kComplex64 || tensor.dtype() == DType::kComplex128)
    return {{"dtype", dtype_name(tensor.dtype())}, {"shape", tensor.dims()}, {"not_finite", 0}, {"min", nullptr}, {"max", nullptr}, {"mean", nullptr}};
  double low = INFINITY, high = -INFINITY, sum = 0;
  std::int64_t finite = 0;
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    const double value = tensor.as_double(i);
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
    sum += value;
    ++finite;
  }
  nlohmann::json out = {{"dtype", dtype_name(tensor.dtype())}, {"shape", tensor.dims()}, {"not_finite", tensor.size() - finite}};
  for (const auto& [key, value] :
       {std::pair("min", low), std::pair("max", high), std::pair("mean", sum / static_cast<double>(std::max<std::int64_t>(finite, 1)))})
    out[key] = finite > 0 ? nlohmann::json(value) : nlohmann::json();
  return out;
}

int run(const Options& options) {
  const bool built = is_engine_file(options.model);
  if (built) options.flags.refuse_for_engine(options.model, true);
  if (built && !options.flags.shapes.empty())
    throw Error(Code::kInvalidArgument, "this is an engine: the arrays alone give the shapes of a run")
        .in_source(options.model)
        .with_remedy("Leave --shape out.");
  if (!options.output.empty()) check_output(options.output, options.model);

  std::vector<Tensor> tensors;
  const Engine engine = [&] {
    if (built) {
      Engine loaded = Engine::load(options.model, options.flags.engine_device());
      tensors = read_inputs(loaded.inputs(), options.inputs);
      return loaded;
    }
    TerminalProgress progress(options.flags.quiet);
    BuildConfig config = options.flags.config(&progress);
    const Network network = Network::parse(options.model);
    const std::vector<IoInfo> infos = network.inputs();
    tensors = read_inputs(infos, options.inputs);
    // Built for this run: where no other shape was asked for, it is tuned for the arrays'.
    for (std::size_t i = 0; i < infos.size(); ++i) {
      if (!tensors[i].is_tensor()) continue;
      const Dims& dims = tensors[i].dims();
      const bool free = !has_rank(infos[i]) || std::any_of(infos[i].shape.begin(), infos[i].shape.end(), [](std::int64_t extent) { return extent < 0; });
      if (free && !dims.empty()) config.shapes.try_emplace(infos[i].name, InputRange{dims, dims, dims});
    }
    return network.build(config);
  }();
  const std::vector<IoInfo> infos = engine.outputs();
  const bool several = infos.size() != 1 || is_sequence(infos[0]) || infos[0].type.starts_with("map(");
  if (options.output.ends_with(".npy") && several)
    throw Error(Code::kInvalidArgument, fmt::format("a .npy file holds one array, the model has {} outputs", infos.size()))
        .with_remedy("Write --output FILE.npz.");

  std::vector<Value> values, made;
  const std::vector<IoInfo> inputs = engine.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Tensor& tensor = tensors[i];
    // The bits of bfloat16 numbers came as unsigned integers.
    if (tensor.is_tensor() && inputs[i].dtype == DType::kBFloat16 && tensor.dtype() == DType::kUint16)
      tensor = Tensor::view(DType::kBFloat16, tensor.dims(), tensor.raw(), tensor.bytes(), std::make_shared<Tensor>(tensor));
    values.push_back(tensor.defined() ? Value(std::make_shared<const Tensor>(tensor)) : Value());
  }
  Context context = engine.create_context();
  if (const Status status = context.run(values, made); !status) {
    if (status.code() == Code::kInvalidArgument) throw DataError(status.code(), std::string(status.message()));
    throw Error(status.code(), std::string(status.message()));
  }
  std::vector<std::pair<std::string, Tensor>> outputs;
  for (std::size_t i = 0; i < infos.size(); ++i) flatten(infos[i].name, *made[i].impl(), outputs);
  if (!options.output.empty()) save(options.output, outputs);

  nlohmann::json report = nlohmann::json::object();
  std::vector<std::vector<std::string>> rows{{"output", "type", "shape", "min", "max", "mean"}};
  std::string notes;
  for (const auto& [name, tensor] : outputs) {
    const nlohmann::json& entry = report[name] = statistics(tensor);
    const auto number = [&](const char* key) { return entry[key].is_null() ? std::string("-") : fmt::format("{:.6g}", entry[key].get<double>()); };
    rows.push_back({name, std::string(dtype_name(tensor.dtype())), shape_of(tensor), number("min"), number("max"), number("mean")});
    if (const auto bad = entry["not_finite"].get<std::int64_t>(); bad > 0)
      notes += fmt::format("{}: {} of {} values are not finite\n", name, bad, tensor.size());
    if (tensor.dtype() == DType::kBFloat16 && !options.output.empty())
      notes += fmt::format("{}: NumPy has no bfloat16, so its bits were written as uint16\n", name);
  }
  if (options.json) fmt::print("{}\n", report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  else fmt::print("{}{}", table(rows), notes);
  return 0;
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "run", "Run a model or an engine on arrays from .npy files",
                              {"lathe run m.engine --input images=x.npy --output y.npz",
                               "lathe run m.engine -i x.npy --json      statistics of the outputs; the name may be left out where there is one input",
                               "lathe run m.onnx -i ids=ids.npy -i mask=mask.npy -o y.npz   built in memory for these shapes"});
  command->add_option("model", options->model, "Engine, or ONNX file (built in memory)")->required()->type_name("M.engine|M.onnx");
  command->add_option("-i,--input", options->inputs, "NAME=FILE.npy for each input (the name may be left out when there is one); repeatable")
      ->allow_extra_args(false)
      ->type_name("NAME=X.npy");
  command->add_option("-o,--output", options->output, "Where to write the outputs: an .npz with one array per output name, or a .npy for a single output")
      ->type_name("Y.npz|Y.npy");
  options->flags.add_to(*command);
  command->add_flag("--json", options->json, "Print types, shapes and statistics of the outputs as JSON");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace lathe::cli
