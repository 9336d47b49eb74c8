// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See bench_inputs.h. Floats are uniform in [0, 1); integers small, so that they are valid indices of any embedding.

#include "cli/bench_inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <random>

#include "builder/hints.h"

namespace lathe::cli {

BenchInputs::BenchInputs(const Engine& engine, const std::vector<std::string>& shapes) {
  std::map<std::string, Dims> given;
  for (const std::string& text : shapes) {
    auto [name, range] = builder::parse_shape_option(text);
    given[name] = range.opt;
  }
  const std::vector<IoInfo> infos = engine.inputs();
  for (const auto& [name, dims] : given)
    if (std::none_of(infos.begin(), infos.end(), [&wanted = name](const IoInfo& info) { return info.name == wanted; })) {
      std::string known;
      for (const IoInfo& info : infos) known += fmt::format("{}'{}'", known.empty() ? "" : ", ", info.name);
      throw Error(Code::kInvalidArgument, fmt::format("there is no input '{}'; the inputs are {}", name, known)).with_remedy("Name one of them in --shape.");
    }
  std::map<std::string, std::int64_t> symbols;
  std::minstd_rand random(1);
  for (const IoInfo& info : infos) {
    Dims dims(info.shape.begin(), info.shape.end());
    const auto found = given.find(info.name);
    if (found != given.end() && found->second.size() != dims.size())
      throw Error(Code::kInvalidArgument, fmt::format("input '{}' has {} axes, the given shape has {}", info.name, dims.size(), found->second.size()));
    for (std::size_t axis = 0; axis < dims.size(); ++axis) {
      if (found != given.end()) {
        if (dims[axis] >= 0 && dims[axis] != found->second[axis])
          throw Error(Code::kInvalidArgument, fmt::format("input '{}' has extent {} on axis {}, not {}", info.name, dims[axis], axis, found->second[axis]));
        symbols.emplace(info.shape_text[axis], found->second[axis]);
        dims[axis] = found->second[axis];
      } else if (dims[axis] < 0) {
        dims[axis] = symbols.emplace(info.shape_text[axis], std::max<std::int64_t>(info.tuned_shape[axis], 1)).first->second;
      }
    }
    Tensor tensor(info.dtype, dims);
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      if (is_float(info.dtype)) tensor.set_from_double(i, static_cast<double>(random() % 10000) / 10000.0);
      else tensor.set_from_int64(i, static_cast<std::int64_t>(random() % 2));
    }
    tensors_.push_back(std::move(tensor));
  }
  for (const Tensor& tensor : tensors_) views_.push_back({tensor.raw(), tensor.dtype(), tensor.dims()});
}

std::int64_t BenchInputs::batch() const noexcept { return tensors_.empty() || tensors_[0].dims().empty() ? 1 : tensors_[0].dims()[0]; }

}  // namespace lathe::cli
