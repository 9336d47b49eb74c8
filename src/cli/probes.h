// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Questions whose answer may kill who asks: opening a damaged library ends a process by a signal. Each is asked in a child process, all at once, and
// the answers are waited for together.

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lathe::cli {

struct Answer {          // NOLINT(bugprone-exception-escape): moving JSON does not throw
  nlohmann::json value;  ///< null where `failure` says why there is none
  std::string failure;
};

class Probes {
 public:
  Probes() = default;
  ~Probes();  ///< ends children that still run
  Probes(const Probes&) = delete;
  Probes& operator=(const Probes&) = delete;
  /// `question` runs in a child; what it throws becomes the failure. To be called before this process has threads.
  void ask(const std::string& name, const std::function<nlohmann::json()>& question);
  /// A program that prints JSON on its standard output.
  void ask_program(const std::string& name, const std::vector<std::string>& words);
  /// All answers; who has not given one in so many seconds is ended and has failed.
  std::map<std::string, Answer> wait(double seconds);

 private:
  struct Child {
    int pid = -1, pipe = -1;
    std::string text;
  };
  void start(const std::string& name, const std::function<void(int)>& in_child);
  std::map<std::string, Child> children_;
};

/// The file of a shared library that this process has open, by the beginning of its name: "libnvrtc.so"; "" when there is none.
std::string open_library(const std::string& name);

}  // namespace lathe::cli
