// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// run M.onnx: checks the file, builds an engine, saves it, loads it and runs it on ones, where its inputs are float32.
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "lathe/lathe.hpp"

int main(int argc, char** argv) try {
  if (argc != 2) return std::fprintf(stderr, "usage: run M.onnx\n"), 2;
  if (const lathe::CheckReport report = lathe::check(argv[1]); !report.valid()) return std::fputs(report.text().c_str(), stderr), 1;
  lathe::BuildConfig config;
  config.budget_seconds = 5;
  lathe::build(argv[1], config).save("m.engine");

  const lathe::Engine engine = lathe::Engine::load("m.engine");
  std::vector<std::vector<std::int64_t>> shapes;
  std::vector<std::vector<float>> values;
  std::vector<lathe::ConstTensorView> inputs;
  for (const lathe::IoInfo& info : engine.inputs()) {
    if (info.dtype != lathe::DType::kFloat32) throw lathe::Error(lathe::Code::kInvalidArgument, "an input is not float32");
    std::int64_t count = 1;
    shapes.push_back(info.shape);
    for (std::int64_t& extent : shapes.back()) count *= extent = extent < 0 ? 2 : extent;  // free extents: 2
    values.emplace_back(static_cast<std::size_t>(count), 1.0f);
  }
  for (std::size_t i = 0; i < values.size(); ++i) inputs.push_back({values[i].data(), lathe::DType::kFloat32, shapes[i]});

  lathe::Context context = engine.create_context();  // one for each thread
  if (const lathe::Status status = context.run(inputs); !status) throw lathe::Error(status.code(), std::string(status.message()));
  for (std::size_t i = 0; i < engine.outputs().size(); ++i) {
    const lathe::ConstTensorView output = context.output(i);
    std::printf("%s: %s, %zu axes\n", engine.outputs()[i].name.c_str(), std::string(lathe::dtype_name(output.dtype)).c_str(), output.shape.size());
  }
} catch (const lathe::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return lathe::exit_code(error.code());
}
