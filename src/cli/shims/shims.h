// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The commands of the guides (onnx2trt, trtexec, onnxsim) as names of this one: `lathe install-shims` makes links, and main looks at the name that it
// was called by. What they do is the subcommands' own code; here are only their flags, words and files.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/lathe.hpp"

namespace lathe::cli {

struct Shim {
  const char* name;
  const char* stands_for;  ///< one line for help and for `lathe install-shims`
  int (*run)(const std::vector<std::string>& arguments);
};

/// By the last part of a path; nullptr when it is none of them.
const Shim* find_shim(std::string_view called);
const std::vector<Shim>& shims();

int onnx2trt(const std::vector<std::string>& arguments);
int trtexec(const std::vector<std::string>& arguments);
int onnxsim(const std::vector<std::string>& arguments);

/// How an option of such a tool is written, and what becomes of it.
struct Flag {
  enum Kind {
    kSwitch,     ///< stands alone
    kValue,      ///< --flag=value, --flag value, -f value
    kOptional,   ///< a value only by '='
    kList,       ///< takes the words behind it, up to the next option
    kNote,       ///< kSwitch that changes nothing here: `text` says what it did there and what to use here
    kNoteValue,  ///< the same with a value
  };
  std::vector<std::string> names;
  Kind kind;
  std::string text;
};

/// A command line by a table of flags. Notes go to stderr, one line each.
class Arguments {
 public:
  /// Throws Error(kInvalidArgument) for an unknown flag (naming the nearest) and for a missing value.
  Arguments(std::string_view tool, const std::vector<Flag>& flags, const std::vector<std::string>& words);
  bool has(std::string_view name) const { return values_.count(std::string(name)) > 0; }
  std::string value(std::string_view name, std::string fallback = "") const;  ///< of the last time it was given
  std::vector<std::string> all(std::string_view name) const;
  const std::vector<std::string>& words() const noexcept { return words_; }
  /// Throws Error(kInvalidArgument) where the value is no number of the range.
  double number(std::string_view name, double fallback, double least, double greatest = 1e18) const;

 private:
  std::map<std::string, std::vector<std::string>> values_;  ///< by the flag's first name
  std::vector<std::string> words_;
};

/// The flags' names and texts; notes below the others.
std::string flags_text(const std::vector<Flag>& flags);

/// One line on stderr: "<tool>: ...".
void note(std::string_view tool, const std::string& text);

/// Where a GPU tool's engine runs: `asked` ("cpu", "cuda:N"), else the first GPU, else the CPU, which is said.
std::string shim_device(std::string_view tool, const std::string& asked);

/// "fp16" where the device computes in it, else float32, which is said: these flags allow a type, they do not demand it.
std::string shim_precision(std::string_view tool, std::string_view flag, const std::string& device);

/// The ranges that a batch of 1 to `most` makes of a model whose first axes are free; empty, with a word, where the model fixes it or has other
/// free extents that `shapes` does not give.
std::map<std::string, InputRange> batch_ranges(std::string_view tool, const std::string& flag, const std::vector<IoInfo>& inputs, std::int64_t most);

/// "1x3x640x640" or "1,3,640,640". Throws Error(kInvalidArgument); -1 only where allowed.
std::vector<std::int64_t> parse_extents(const std::string& text, bool free_allowed = false);

}  // namespace lathe::cli
