// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Fuzzer of the text form: any text ends with an Error, or gives a graph that prints, parses and prints the same again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "ir/text.h"
#include "lathe/status.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lathe;
  std::shared_ptr<ir::Graph> graph;
  try {
    graph = ir::parse_graph({reinterpret_cast<const char*>(data), size});
  } catch (const Error& error) {
    if (error.code() == Code::kInternal) std::abort();
    return 0;
  }
  const std::string text = ir::print(*graph);
  if (ir::print(*ir::parse_graph(text, graph.get())) != text) std::abort();
  return 0;
}
