// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the subcommands share: registration, exit codes, progress, Ctrl-C, option texts. One file per subcommand calls add_<name>().

#include <CLI/CLI.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/engine_data.h"
#include "lathe/lathe.hpp"

namespace lathe::cli {

/// The chosen subcommand stores its action here; main runs it and turns lathe::Error into text and exit code.
using Action = std::function<int()>;

/// A subcommand with its one-line description and, below its help, examples: one a line.
CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description, const std::vector<std::string>& examples);

/// Runs `action`; what it throws becomes one paragraph on stderr, "<tool>: ...", and an exit code.
int guarded(std::string_view tool, const Action& action);

/// The candidate that `word` may be a slip of; "" when none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

void add_export(CLI::App& app, Action& action);
void add_check(CLI::App& app, Action& action);
void add_simplify(CLI::App& app, Action& action);
void add_show(CLI::App& app, Action& action);
void add_build(CLI::App& app, Action& action);
void add_run(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_profile(CLI::App& app, Action& action);
void add_ops(CLI::App& app, Action& action);
void add_devices(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);
void add_engine(CLI::App& app, Action& action);
void add_completion(CLI::App& app, Action& action);
void add_python(CLI::App& app, Action& action);
void add_install_shims(CLI::App& app, Action& action);

/// An array file that does not fit the model: exit code 1 (the data is at fault), where the library's own code says wrong argument (2).
struct DataError : Error {
  using Error::Error;
};

/// Ctrl-C ends the process at once (exit code 130), except while one of these lives: then it only sets interrupted(), for whoever polls
/// that to end well. A second Ctrl-C never waits.
class InterruptScope {
 public:
  InterruptScope() noexcept;
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
};

/// Progress on stderr: one line that is redrawn on a terminal, nothing otherwise. Ctrl-C asks the work to stop.
class TerminalProgress : public Progress {
 public:
  explicit TerminalProgress(bool quiet);
  ~TerminalProgress() override;
  bool update(std::string_view phase, std::int64_t done, std::int64_t total, double seconds_left) noexcept override;

 private:
  InterruptScope interrupts_;
  bool drawn_ = false, enabled_;
  double last_ = 0;
};

/// The options of every command that may build an engine in memory.
struct BuildFlags {
  std::string device = "cpu", precision = "fp32", budget = "60s", libraries = "cublaslt";
  std::vector<std::string> shapes;
  bool exact = false, no_verify = false, no_cache = false, quiet = false;
  void add_to(CLI::App& command);
  BuildConfig config(Progress* progress) const;
  /// An engine is built already: throws Error(kInvalidArgument) when an option that only a build heeds was given for it. --device, too, but where
  /// the engine is loaded on it.
  void refuse_for_engine(const std::string& path, bool loaded_on_device = false) const;
  /// Where an engine must run: "" unless --device was given.
  std::string engine_device() const { return device_->count() > 0 ? device : ""; }

 private:
  std::vector<const CLI::Option*> build_only_;
  const CLI::Option* device_ = nullptr;
};

/// Check of an option that is a number of things: its own words, where CLI11 prints the range of doubles.
CLI::Validator at_least(int least);
/// "60s", "2m", "500ms" or plain seconds; throws Error(kInvalidArgument).
double parse_seconds(const std::string& text);
/// True for a file that starts like an engine (by magic, not by name); false: treated as ONNX. Throws Error(kIo) when unreadable.
/// A file that is named *.engine and is none is refused: as a model it could only be called garbage.
bool is_engine_file(const std::string& path);
/// The same without a look at the name.
bool has_engine_magic(const std::string& path);
/// Throws Error(kInvalidArgument) when the file is an engine; `command` and `instead` are for the message.
void require_onnx(const std::string& path, std::string_view command, std::string_view instead);
/// Throws Error(kIo) when `path` cannot be written, before long work is done for it; Error(kInvalidArgument) when it is `input` itself.
void check_output(const std::string& path, const std::string& input);
/// `lathe build` without its words: checks both paths, builds with progress, saves unless `output` is empty.
Engine build_file(const std::string& model, const std::string& output, BuildConfig config, bool quiet);
/// What it says of an engine that was built: steps, host steps, verification.
std::string built_text(const Engine& engine, const std::string& output, double seconds);
/// The lowest type that an engine's plan stores, as --precision spells it.
std::string engine_precision(const engine::EngineData& engine);
/// Loads an engine, or builds one in memory from an ONNX file.
Engine open_engine(const std::string& path, const BuildFlags& flags);

std::string human_bytes(double bytes);
std::string human_time(double seconds);
/// Columns of numbers are right-aligned, others left. The first row is the heading.
std::string table(const std::vector<std::vector<std::string>>& rows);

/// The Python that has the package: LATHE_PYTHON, else the one that a wheel's command was installed for, else the active virtual environment's, else
/// the one that this command was built with, else python3.
struct PythonChoice {
  std::string program;
  std::string why;      ///< "the knob LATHE_PYTHON", ...
  std::string package;  ///< folder that goes in front of its path: of a build tree; "" for an installed package
};
PythonChoice choose_python();

/// Runs `main(arguments)` of a module of the Python package, by that Python and with this process's streams; returns its exit code. Throws
/// Error(kMachine) when there is none or the package is missing there.
int run_python(const std::string& module, const std::vector<std::string>& arguments);

/// Ctrl-C (or SIGTERM) came while an InterruptScope lived.
bool interrupted() noexcept;
void catch_interrupts();

}  // namespace lathe::cli
