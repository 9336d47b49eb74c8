// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See command.h.

#include "cli/command.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <fstream>

#include "base/knobs.h"
#include "base/os.h"
#include "builder/hints.h"

namespace lathe::cli {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;

void on_interrupt(int) {
  if (g_interrupted) _exit(130);  // the second Ctrl-C does not wait
  g_interrupted = 1;
}

}  // namespace

bool interrupted() noexcept { return g_interrupted != 0; }

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

TerminalProgress::TerminalProgress(bool quiet) : enabled_(!quiet && isatty(2) != 0) {}

TerminalProgress::~TerminalProgress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

bool TerminalProgress::update(std::string_view phase, std::int64_t done, std::int64_t total, double seconds_left) noexcept {
  const double now = os::now_seconds();
  if (enabled_ && (now - last_ > 0.1 || done == total)) {
    last_ = now;
    drawn_ = true;
    constexpr int kWidth = 30;
    const int filled = total > 0 ? static_cast<int>(kWidth * done / total) : 0;
    std::fprintf(stderr, "\r\033[K%-24.*s [", static_cast<int>(phase.size()), phase.data());
    for (int i = 0; i < kWidth; ++i) std::fputc(i < filled ? '#' : '.', stderr);
    std::fprintf(stderr, "] %lld/%lld", static_cast<long long>(done), static_cast<long long>(total));
    if (seconds_left >= 0) std::fprintf(stderr, "  about %.0f s left", std::ceil(seconds_left));
    std::fflush(stderr);
  }
  return !interrupted();
}

void BuildFlags::add_to(CLI::App& command) {
  command.add_option("--device", device, "cpu (see `lathe devices`)")->capture_default_str()->type_name("DEVICE");
  command.add_option("--precision", precision, "Lowest type allowed for weights and activations between contractions: fp32, bf16, fp16")
      ->capture_default_str()
      ->type_name("TYPE");
  command.add_option("--shape", shapes, "Shape of an input: NAME:1x3x640x640 fixes it, NAME:MIN:OPT:MAX gives a range to tune for; repeatable")
      ->type_name("NAME:SHAPE");
  command.add_option("--budget", budget, "Time for tuning: 30s, 2m; 0 takes modelled costs")->capture_default_str()->type_name("TIME");
  command.add_flag("--exact", exact, "Forbid algorithms of error class 'fast' (Winograd)");
  command.add_flag("--no-verify", no_verify, "Leave out the comparison with the oracle");
  command.add_flag("--no-cache", no_cache, "Neither read nor write the tuning cache");
  command.add_flag("-q,--quiet", quiet, "No progress");
}

BuildConfig BuildFlags::config(Progress* progress) const {
  BuildConfig config;
  config.device = device;
  config.precision = precision;
  config.budget_seconds = parse_seconds(budget);
  config.exact = exact;
  config.verify = !no_verify;
  config.use_cache = !no_cache;
  config.progress = progress;
  for (const std::string& text : shapes) {
    const auto [name, range] = builder::parse_shape_option(text);
    config.shapes[name] = {range.min, range.opt, range.max};
  }
  return config;
}

double parse_seconds(const std::string& text) {
  std::size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string unit = text.substr(used);
  const double scale = unit.empty() || unit == "s" ? 1 : unit == "ms" ? 1e-3 : unit == "m" || unit == "min" ? 60 : unit == "h" ? 3600 : -1;
  if (used == 0 || scale < 0 || value < 0)
    throw Error(Code::kInvalidArgument, fmt::format("'{}' is not a time", text)).with_remedy("Write 30s, 500ms, 2m or plain seconds.");
  return value * scale;
}

bool is_engine_file(const std::string& path) {
  if (!std::filesystem::exists(path))
    throw Error(Code::kIo, "there is no such file").in_source(path).with_remedy("Check the path.");
  if (std::filesystem::is_directory(path)) throw Error(Code::kIo, "this is a folder, not a model or an engine").in_source(path);
  std::ifstream file(path, std::ios::binary);
  char head[16] = {};
  file.read(head, sizeof head);
  if (!file && file.gcount() == 0 && !file.eof()) throw Error(Code::kIo, "the file cannot be read").in_source(path);
  const std::string_view text(head, static_cast<std::size_t>(file.gcount()));
  return text.find("LATHE") != std::string_view::npos;
}

Engine open_engine(const std::string& path, const BuildFlags& flags) {
  if (is_engine_file(path)) return Engine::load(path);
  TerminalProgress progress(flags.quiet);
  return build(path, flags.config(&progress));
}

std::string human_bytes(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

std::string human_time(double seconds) {
  if (seconds < 0) return "-";
  if (seconds < 1e-3) return fmt::format("{:.1f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.3f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i)
      line += i == 0 ? fmt::format("{:<{}}", row[i], widths[i]) : fmt::format("  {:>{}}", row[i], widths[i]);
    while (!line.empty() && line.back() == ' ') line.pop_back();
    text += line + "\n";
  }
  return text;
}

int run_python(const std::vector<std::string>& arguments) {
  std::string python = knob("LATHE_PYTHON");
  if (python.empty()) {
    const auto venv = os::executable_path().parent_path() / "../../../.venv/bin/python";
    std::error_code ignored;
    if (const char* active = std::filesystem::exists(venv, ignored) ? venv.c_str() : nullptr) python = active;
    if (python.empty()) python = "python3";
  }
  std::vector<char*> argv{python.data()};
  std::vector<std::string> copies = arguments;
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw Error(Code::kMachine, "the system refuses a new process for Python");
  if (child == 0) {
    execvp(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  if (code == 127)
    throw Error(Code::kMachine, fmt::format("Python ('{}') cannot be started", python))
        .with_remedy("Install Python 3 with the package lathe, or point LATHE_PYTHON at one.");
  return code;
}

}  // namespace lathe::cli
