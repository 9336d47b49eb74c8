// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What the Python tests of the reader, the writer and the simplifier ask of C++. Tests never parse its text but for the lines below.
//
//   roundtrip IN OUT          read, write
//   roundtrip-many LIST       LIST holds lines "IN<tab>OUT"; one line of answer each: "ok", or "error <code>: <message>"
//   simplify IN OUT           as `lathe simplify --no-check` without shapes; prints "ok BEFORE AFTER SECONDS"
//   simplify-many LIST        as roundtrip-many; "ok BEFORE AFTER SECONDS" each
//   text IN                   the graph's text form

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <string>

#include "ir/text.h"
#include "lathe/status.h"
#include "onnx/reader.h"
#include "onnx/writer.h"
#include "passes/simplify.h"

namespace {

std::string roundtrip(const std::string& in, const std::string& out) {
  lathe::onnx::write_model(*lathe::onnx::read_model(in), out);
  return "ok";
}

std::string simplify(const std::string& in, const std::string& out) {
  const auto model = lathe::onnx::read_model(in);
  lathe::onnx::inline_functions(*model);
  lathe::passes::SimplifyOptions options;
  options.verify = true;
  const auto report = lathe::passes::simplify(*model, options);
  lathe::onnx::write_model(*model, out);
  return fmt::format("ok {} {} {:.3f}", report.nodes_before, report.nodes_after, report.seconds);
}

int each_line(const std::string& list, const std::function<std::string(const std::string&, const std::string&)>& act) {
  std::ifstream lines(list);
  if (!lines) throw lathe::Error(lathe::Code::kIo, "cannot read " + list);
  for (std::string line; std::getline(lines, line);) {
    const auto tab = line.find('\t');
    std::string answer;
    try {
      answer = act(line.substr(0, tab), line.substr(tab + 1));
    } catch (const lathe::Error& error) {
      answer = fmt::format("error {}: {}", lathe::code_name(error.code()), error.what());
    }
    for (char& c : answer)
      if (c == '\n') c = ' ';
    fmt::print("{}\n", answer);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  try {
    if (command == "roundtrip" && argc == 4) fmt::print("{}\n", roundtrip(argv[2], argv[3]));
    else if (command == "roundtrip-many" && argc == 3) return each_line(argv[2], roundtrip);
    else if (command == "simplify" && argc == 4) fmt::print("{}\n", simplify(argv[2], argv[3]));
    else if (command == "simplify-many" && argc == 3) return each_line(argv[2], simplify);
    else if (command == "text" && argc == 3) fmt::print("{}", lathe::ir::print(*lathe::onnx::read_model(argv[2])->graph));
    else {
      fmt::print(stderr, "usage: lathe_onnx_tool roundtrip|simplify IN OUT, roundtrip-many|simplify-many LIST, text IN\n");
      return 2;
    }
  } catch (const lathe::Error& error) {
    fmt::print(stderr, "{}: {}\n", lathe::code_name(error.code()), error.what());
    return lathe::exit_code(error.code());
  }
  return 0;
}
