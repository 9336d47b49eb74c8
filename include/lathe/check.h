// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What `lathe check` finds in an ONNX file: every defect at once.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/export.h"

namespace lathe {

/// kError: the file breaks a rule of the format or of an operator. kWarning: it is valid, but odd, or Lathe cannot build it.
enum class Severity : std::uint8_t { kWarning, kError };

struct Defect {                          ///< One thing wrong in a file. Texts are empty where they do not apply.
  std::string code;                      ///< stable: "unknown-operator", "shape-conflict", ...
  Severity severity = Severity::kError;  ///< does it make the file invalid?
  std::string node;                      ///< the node's name, or "#index"
  std::string op;                        ///< its op type, with the domain where that is not ai.onnx
  std::string tensor;                    ///< the tensor (or initializer, input, output)
  std::string where;                     ///< the nested graph or local function that it lies in; "" in the main graph
  std::string what;                      ///< what is wrong: one sentence without full stop
  std::string expected;                  ///< what was expected instead; "" when `what` says it
  std::string remedy;                    ///< what to do
  std::string spec;                      ///< the section of the ONNX specification that the rule is from: "IR.md#nodes"; "" when it is none of its
};

struct CheckReport {                                         ///< All defects of a file, and what it says of itself.
  std::string source;                                        ///< the file, as given
  std::int64_t ir_version = 0;                               ///< version of the format, as the file says
  std::vector<std::pair<std::string, std::int64_t>> opsets;  ///< domain as written, version
  std::size_t nodes = 0;                                     ///< nested graphs and functions included
  std::vector<Defect> defects;                               ///< errors first

  std::size_t errors() const noexcept;                                         ///< How many make it invalid.
  std::size_t warnings() const noexcept { return defects.size() - errors(); }  ///< How many do not.
  bool valid() const noexcept { return errors() == 0; }                        ///< No errors: warnings are allowed.
  /// Grouped by code; at most `per_group` lines each (0: all).
  LATHE_API std::string text(std::size_t per_group = 10) const;
  LATHE_API std::string json() const;  ///< The whole report; its fields are those of this struct.
};

inline std::size_t CheckReport::errors() const noexcept {
  std::size_t n = 0;
  for (const Defect& defect : defects) n += defect.severity == Severity::kError ? 1 : 0;
  return n;
}

/// Looks at the whole file and throws only where it cannot be read at all: Error(kIo). Garbage is a defect like others.
LATHE_API CheckReport check(const std::filesystem::path& onnx_file);
/// External data is looked up in `base_dir`.
LATHE_API CheckReport check(std::span<const std::byte> onnx, const std::filesystem::path& base_dir = {});

}  // namespace lathe
