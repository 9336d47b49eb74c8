// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the subcommands share: registration, exit codes, progress, Ctrl-C, option texts. One file per subcommand calls add_<name>().

#include <CLI/CLI.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "lathe/lathe.hpp"

namespace lathe::cli {

/// The chosen subcommand stores its action here; main runs it and turns lathe::Error into text and exit code.
using Action = std::function<int()>;

void add_export(CLI::App& app, Action& action);
void add_simplify(CLI::App& app, Action& action);
void add_show(CLI::App& app, Action& action);
void add_build(CLI::App& app, Action& action);
void add_run(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_profile(CLI::App& app, Action& action);
void add_ops(CLI::App& app, Action& action);
void add_devices(CLI::App& app, Action& action);
void add_completion(CLI::App& app, Action& action);

/// Progress on stderr: one line that is redrawn on a terminal, nothing otherwise. Ctrl-C asks the work to stop.
class TerminalProgress : public Progress {
 public:
  explicit TerminalProgress(bool quiet);
  ~TerminalProgress() override;
  bool update(std::string_view phase, std::int64_t done, std::int64_t total, double seconds_left) noexcept override;

 private:
  bool drawn_ = false, enabled_;
  double last_ = 0;
};

/// The options of every command that may build an engine in memory.
struct BuildFlags {
  std::string device = "cpu", precision = "fp32", budget = "60s";
  std::vector<std::string> shapes;
  bool exact = false, no_verify = false, no_cache = false, quiet = false;
  void add_to(CLI::App& command);
  BuildConfig config(Progress* progress) const;
};

/// "60s", "2m", "500ms" or plain seconds; throws Error(kInvalidArgument).
double parse_seconds(const std::string& text);
/// True for a file that starts like an engine (by magic, not by name); false: treated as ONNX. Throws Error(kIo) when unreadable.
bool is_engine_file(const std::string& path);
/// Loads an engine, or builds one in memory from an ONNX file.
Engine open_engine(const std::string& path, const BuildFlags& flags);

std::string human_bytes(double bytes);
std::string human_time(double seconds);
/// Left-aligned first column, right-aligned others.
std::string table(const std::vector<std::vector<std::string>>& rows);

/// Runs Python with arguments and this process's streams; returns its exit code. Python is LATHE_PYTHON, else the virtual environment's,
/// else python3. Throws Error(kMachine) when there is none.
int run_python(const std::vector<std::string>& arguments);

/// Where the user's Ctrl-C is noted.
bool interrupted() noexcept;
void catch_interrupts();

}  // namespace lathe::cli
