// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe run`: one run on arrays from files.

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/npz.h"

namespace lathe::cli {

void add_run(CLI::App& app, Action& action) {
  struct Options {
    std::string model, output;
    std::vector<std::string> inputs;
    BuildFlags flags;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("run",
                                     "Run a model or an engine on arrays from .npy files\n"
                                     "  lathe run m.engine --input images=x.npy --output y.npz");
  command->add_option("model", options->model, "Engine, or ONNX file (built in memory)")->required()->type_name("FILE");
  command->add_option("-i,--input", options->inputs, "NAME=FILE.npy for each input (the name may be left out when there is one)")->type_name("NAME=FILE");
  command->add_option("-o,--output", options->output, "Where to write the outputs: an .npz with one array per output name")->type_name("FILE.npz");
  options->flags.add_to(*command);
  command->add_flag("--json", options->json, "Print shapes and statistics of the outputs as JSON");
  command->callback([options, &action] {
    action = [options] {
      const Engine engine = open_engine(options->model, options->flags);
      const auto infos = engine.inputs();
      std::vector<Tensor> tensors(infos.size());
      for (const std::string& text : options->inputs) {
        const auto cut = text.find('=');
        std::string name = cut == std::string::npos ? "" : text.substr(0, cut);
        const std::string file = cut == std::string::npos ? text : text.substr(cut + 1);
        if (name.empty() && infos.size() == 1) name = infos[0].name;
        const auto at = std::find_if(infos.begin(), infos.end(), [&](const IoInfo& info) { return info.name == name; });
        if (at == infos.end()) {
          std::string known;
          for (const IoInfo& info : infos) known += fmt::format("{}'{}'", known.empty() ? "" : ", ", info.name);
          throw Error(Code::kInvalidArgument, fmt::format("there is no input '{}'; the inputs are {}", name, known)).with_remedy("Write --input NAME=FILE.npy.");
        }
        tensors[static_cast<std::size_t>(at - infos.begin())] = read_npy(file);
      }
      std::vector<ConstTensorView> views;
      for (std::size_t i = 0; i < infos.size(); ++i) {
        if (!tensors[i].defined())
          throw Error(Code::kInvalidArgument, fmt::format("input '{}' has no array", infos[i].name)).with_remedy(fmt::format("Add --input {}=FILE.npy.", infos[i].name));
        DType dtype = tensors[i].dtype();
        if (infos[i].dtype == DType::kBFloat16 && dtype == DType::kUint16) dtype = DType::kBFloat16;
        views.push_back({tensors[i].raw(), dtype, tensors[i].dims()});
      }
      Context context = engine.create_context();
      if (const Status status = context.run(views); !status) throw Error(status.code(), std::string(status.message()));
      std::vector<std::pair<std::string, Tensor>> outputs;
      nlohmann::json report = nlohmann::json::object();
      const auto output_infos = engine.outputs();
      for (std::size_t i = 0; i < output_infos.size(); ++i) {
        const ConstTensorView view = context.output(i);
        Tensor tensor(view.dtype, Dims(view.shape.begin(), view.shape.end()));
        if (tensor.bytes() > 0) std::memcpy(tensor.mutable_raw(), view.data, tensor.bytes());
        double low = INFINITY, high = -INFINITY, sum = 0;
        std::int64_t bad = 0;
        for (std::int64_t k = 0; k < tensor.size(); ++k) {
          const double value = tensor.as_double(k);
          if (!std::isfinite(value)) ++bad;
          else low = std::min(low, value), high = std::max(high, value), sum += value;
        }
        report[output_infos[i].name] = {{"dtype", dtype_name(tensor.dtype())}, {"shape", tensor.dims()}, {"min", low}, {"max", high},
                                        {"mean", tensor.size() > bad ? sum / static_cast<double>(tensor.size() - bad) : 0.0}, {"not_finite", bad}};
        if (!options->json)
          fmt::print("{}: {} {}  min {:.6g}  max {:.6g}{}\n", output_infos[i].name, dtype_name(tensor.dtype()), to_string(tensor.dims()), low, high,
                     bad ? fmt::format("  ({} values are not finite)", bad) : "");
        outputs.emplace_back(output_infos[i].name, std::move(tensor));
      }
      if (!options->output.empty()) write_npz(options->output, outputs);
      if (options->json) fmt::print("{}\n", report.dump(2));
      return 0;
    };
  });
}

}  // namespace lathe::cli
