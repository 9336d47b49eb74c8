// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The CPU's name, as tuning caches and reports give it: what Linux says on x86, elsewhere the board and the kinds of its cores.

#include "base/cpu_model.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/os.h"

namespace lathe::os {
namespace {

// Implementer and part, as /proc/cpuinfo of 64-bit Arm gives them (the register MIDR_EL1). Others go by their numbers.
struct Core {
  unsigned implementer, part;
  std::string_view name;
};
constexpr Core kCores[] = {
    {0x41, 0xd03, "Cortex-A53"},  {0x41, 0xd05, "Cortex-A55"},      {0x41, 0xd07, "Cortex-A57"},    {0x41, 0xd08, "Cortex-A72"},   {0x41, 0xd0b, "Cortex-A76"},
    {0x41, 0xd0c, "Neoverse-N1"}, {0x41, 0xd40, "Neoverse-V1"},     {0x41, 0xd41, "Cortex-A78"},    {0x41, 0xd42, "Cortex-A78AE"}, {0x41, 0xd49, "Neoverse-N2"},
    {0x41, 0xd4f, "Neoverse-V2"}, {0x4e, 0x003, "NVIDIA Denver 2"}, {0x4e, 0x004, "NVIDIA Carmel"},
};

std::string_view value_of(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return {};
  const std::size_t first = line.find_first_not_of(" \t", colon + 1);
  return first == std::string_view::npos ? std::string_view() : line.substr(first);
}

unsigned number_in(std::string_view text) {
  const int base = text.starts_with("0x") ? 16 : 10;
  unsigned number = 0;
  if (base == 16) text.remove_prefix(2);
  std::from_chars(text.data(), text.data() + text.size(), number, base);
  return number;
}

std::string name_of(unsigned implementer, unsigned part) {
  for (const Core& core : kCores)
    if (core.implementer == implementer && core.part == part) return std::string(core.name);
  std::ostringstream text;
  text << std::hex << "Arm core 0x" << implementer << ":0x" << part;
  return text.str();
}

}  // namespace

std::string cpu_model_in(std::string_view cpuinfo, std::string_view board) {
  std::string kinds, last;
  unsigned implementer = 0;
  while (!cpuinfo.empty()) {
    const std::size_t end = cpuinfo.find('\n');
    const std::string_view line = cpuinfo.substr(0, end);
    cpuinfo = end == std::string_view::npos ? std::string_view() : cpuinfo.substr(end + 1);
    if (line.starts_with("model name") && !value_of(line).empty()) return std::string(value_of(line));
    if (line.starts_with("CPU implementer")) implementer = number_in(value_of(line));
    if (!line.starts_with("CPU part")) continue;
    // Cores of one kind follow each other.
    if (std::string kind = name_of(implementer, number_in(value_of(line))); kind != last) {
      kinds += (kinds.empty() ? "" : " + ") + kind;
      last = std::move(kind);
    }
  }
  if (kinds.empty()) return "unknown CPU";
  board = board.substr(0, board.find_first_of(std::string_view("\0\n", 2)));
  return board.empty() ? kinds : std::string(board) + ", " + kinds;
}

std::string cpu_model() {
  const auto text_of = [](const char* path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  return cpu_model_in(text_of("/proc/cpuinfo"), text_of("/proc/device-tree/model"));
}

}  // namespace lathe::os
