// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See command.h.

#include "cli/command.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <string_view>
#include <system_error>

#include "base/file_calls.h"
#include "base/knobs.h"
#include "base/os.h"
#include "builder/hints.h"
#include "engine/engine.h"

namespace lathe::cli {
namespace {

volatile std::sig_atomic_t g_interrupted = 0, g_scopes = 0;

void on_interrupt(int) {
  if (g_interrupted || g_scopes == 0) {
    os::remove_temporaries();
    _exit(130);
  }
  g_interrupted = 1;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t corner = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, corner + (a[i - 1] != b[j - 1])});
      corner = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t least = 3;  // as far as a slip goes
  for (const std::string& candidate : candidates)
    if (const std::size_t distance = edit_distance(word, candidate); distance < least) {
      least = distance;
      best = candidate;
    }
  return best;
}

int guarded(std::string_view tool, const Action& action) {
  const int length = static_cast<int>(tool.size());
  try {
    const int code = action();
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) throw std::system_error(errno, std::generic_category());
    return code;
  } catch (const DataError& error) {
    std::fprintf(stderr, "%.*s: %s\n", length, tool.data(), error.what());
    return 1;
  } catch (const lathe::Error& error) {
    std::fprintf(stderr, "%.*s: %s\n", length, tool.data(), error.what());
    return error.code() == lathe::Code::kCancelled ? 130 : lathe::exit_code(error.code());
  } catch (const std::system_error& error) {  // fmt and iostreams, on stdout
    std::fprintf(stderr, "%.*s: the report cannot be written to standard output: %s. Send it to a place with room.\n", length, tool.data(),
                 error.code().message().c_str());
    return 1;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%.*s: the machine has not enough memory for this.\n", length, tool.data());
    return 3;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%.*s: unexpected failure: %s. Please report it with the model.\n", length, tool.data(), error.what());
    return 1;
  }
}

InterruptScope::InterruptScope() noexcept { g_scopes = g_scopes + 1; }
InterruptScope::~InterruptScope() { g_scopes = g_scopes - 1; }

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
    std::fprintf(stderr, "\r\033[K%-24.*s", static_cast<int>(phase.size()), phase.data());
    if (total > 1) {
      constexpr int kWidth = 30;
      const int filled = static_cast<int>(kWidth * done / total);
      std::fputs(" [", stderr);
      for (int i = 0; i < kWidth; ++i) std::fputc(i < filled ? '#' : '.', stderr);
      std::fprintf(stderr, "] %lld/%lld", static_cast<long long>(done), static_cast<long long>(total));
      if (seconds_left >= 0.5) std::fprintf(stderr, "  about %.0f s left", std::ceil(seconds_left));
    }
    std::fflush(stderr);
  }
  return !interrupted();
}

CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description, const std::vector<std::string>& examples) {
  CLI::App* command = app.add_subcommand(name, description);
  std::string text = "Examples:";
  for (const std::string& example : examples) text += "\n  " + example;
  command->footer(text);
  return command;
}

void BuildFlags::add_to(CLI::App& command) {
  const auto build_only = [&](const CLI::Option* option) { build_only_.push_back(option); };
  device_ = command.add_option("--device", device, "cpu, cuda or cuda:N (see `lathe devices`)")->capture_default_str()->type_name("cpu|cuda|cuda:N");
  build_only(command
                 .add_option("--precision", precision,
                             "Lowest type allowed for weights and activations between contractions: fp32 or bf16; on cuda also tf32 (products alone) and fp16")
                 ->capture_default_str()
                 ->type_name("fp32|tf32|bf16|fp16"));
  command.add_option("--shape", shapes, "Shape of an input: NAME:1x3x640x640 fixes it, NAME:MIN:OPT:MAX gives a range to tune for; repeatable")
      ->allow_extra_args(false)
      ->type_name("NAME:SHAPE");
  build_only(command.add_option("--budget", budget, "Time for tuning: 30s, 2m; 0 takes modelled costs")->capture_default_str()->type_name("TIME"));
  build_only(command
                 .add_option("--libraries", libraries,
                             "NVIDIA's libraries that steps on cuda may depend on, where found and worth their loading: none, cublaslt, cudnn (slow to build "
                             "for and to load), or cublaslt,cudnn")
                 ->capture_default_str()
                 ->type_name("none|cublaslt|cudnn[,...]"));
  build_only(command.add_flag("--exact", exact, "Forbid algorithms of error class 'fast' (Winograd)"));
  build_only(command.add_flag("--no-verify", no_verify, "Leave out the comparison with the oracle"));
  build_only(command.add_flag("--no-cache", no_cache, "Neither read nor write the tuning cache"));
  command.add_flag("-q,--quiet", quiet, "No progress");
}

void BuildFlags::refuse_for_engine(const std::string& path, bool loaded_on_device) const {
  std::vector<const CLI::Option*> refused = build_only_;
  if (!loaded_on_device) refused.insert(refused.begin(), device_);
  for (const CLI::Option* option : refused)
    if (option->count() > 0)
      throw Error(Code::kInvalidArgument, fmt::format("this is an engine, built already, and {} would change nothing", option->get_name()))
          .in_source(path)
          .with_remedy(fmt::format("Leave {} out, or give the ONNX file.", option->get_name()));
}

BuildConfig BuildFlags::config(Progress* progress) const {
  BuildConfig config;
  config.device = device;
  config.precision = precision;
  config.budget_seconds = parse_seconds(budget);
  config.libraries = libraries;
  config.exact = exact;
  config.verify = !no_verify;
  config.use_cache = !no_cache;
  config.native = false;  // an engine in memory is not given on
  config.progress = progress;
  for (const std::string& text : shapes) {
    const auto [name, range] = builder::parse_shape_option(text);
    config.shapes[name] = {range.min, range.opt, range.max};
  }
  return config;
}

CLI::Validator at_least(int least) {
  return CLI::Validator(
      [least](const std::string& text) {
        char* end = nullptr;
        const long long value = std::strtoll(text.c_str(), &end, 10);
        return end && *end == '\0' && !text.empty() && value >= least ? std::string() : fmt::format("'{}' is no whole number from {} on", text, least);
      },
      "");
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

bool has_engine_magic(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) throw Error(Code::kIo, "there is no such file").in_source(path).with_remedy("Check the path.");
  if (std::filesystem::is_directory(path, ignored))
    throw Error(Code::kIo, "this is a folder, not a model or an engine").in_source(path).with_remedy("Give the path of a file.");
  std::ifstream file(path, std::ios::binary);
  char head[8] = {};
  file.read(head, sizeof head);
  if (!file && !file.eof())
    throw Error(Code::kIo, fmt::format("the file cannot be read: {}", std::strerror(errno))).in_source(path).with_remedy("Check its permissions.");
  if (file.gcount() == 0) throw Error(Code::kCorruptFile, "the file is empty").in_source(path).with_remedy("Write it again.");
  return engine::looks_like_engine(std::as_bytes(std::span(head, static_cast<std::size_t>(file.gcount()))));
}

bool is_engine_file(const std::string& path) {
  if (has_engine_magic(path)) return true;
  if (path.ends_with(".engine"))
    throw Error(Code::kCorruptFile, "this is not an engine file: its first bytes are others")
        .in_source(path)
        .with_remedy("Copy it again, or build it again from its model with `lathe build`.");
  return false;
}

void require_onnx(const std::string& path, std::string_view command, std::string_view instead) {
  if (is_engine_file(path))
    throw Error(Code::kInvalidArgument, fmt::format("this is an engine; `lathe {}` takes an ONNX file", command))
        .in_source(path)
        .with_remedy(std::string(instead));
}

void check_output(const std::string& path, const std::string& input) {
  std::error_code ignored;
  if (std::filesystem::equivalent(path, input, ignored))
    throw Error(Code::kInvalidArgument, "the output would replace the input").in_source(path).with_remedy("Give the output another name.");
  const os::AtomicFile trial(path);
}

std::string engine_precision(const engine::EngineData& engine) {
  const auto stores = [&](DType dtype) {
    return std::any_of(engine.precision.begin(), engine.precision.end(), [&](const plan::PrecisionEntry& entry) { return entry.storage == dtype; });
  };
  return stores(DType::kBFloat16) ? "bf16" : stores(DType::kFloat16) ? "fp16" : "fp32";
}

Engine open_engine(const std::string& path, const BuildFlags& flags) {
  if (is_engine_file(path)) {
    flags.refuse_for_engine(path, true);
    return Engine::load(path, flags.engine_device());
  }
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
  std::vector<bool> numbers;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    numbers.resize(widths.size(), true);
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
      if (&row != &rows.front() && !row[i].empty()) numbers[i] = numbers[i] && (std::isdigit(static_cast<unsigned char>(row[i][0])) || row[i][0] == '-');
    }
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i)
      line += (i == 0 ? "" : "  ") + (i > 0 && numbers[i] ? fmt::format("{:>{}}", row[i], widths[i]) : fmt::format("{:<{}}", row[i], widths[i]));
    while (!line.empty() && line.back() == ' ') line.pop_back();
    text += line + "\n";
  }
  return text;
}

PythonChoice choose_python() {
  std::error_code ignored;
  const std::filesystem::path here = os::executable_path().parent_path(), package = here.parent_path() / "python";
  PythonChoice choice{knob("LATHE_PYTHON"), "the knob LATHE_PYTHON", ""};
  // The package of the same build stands beside the command in a build tree; an installed one is found by Python itself.
  if (std::filesystem::exists(package / "lathe", ignored)) choice.package = package.string();
  const auto take = [&](const std::filesystem::path& candidate, const char* why) {
    if (!choice.program.empty() || !std::filesystem::exists(candidate, ignored)) return;
    choice.program = candidate.string();
    choice.why = why;
  };
  // In a wheel the command is lib/python3.X/site-packages/lathe/bin/lathe: that Python has the package.
  if (const std::filesystem::path library = here.parent_path().parent_path().parent_path();
      std::filesystem::exists(here.parent_path() / "__init__.py", ignored))
    take(library.parent_path().parent_path() / "bin" / library.filename(), "the one that the wheel was installed for");
  if (const char* active = std::getenv("VIRTUAL_ENV"); active && *active) take(std::filesystem::path(active) / "bin/python", "the active environment's");
  take(here / "../../../.venv/bin/python", "the source tree's");
  if (choice.program.empty()) {
    choice.program = "python3";
    choice.why = "the first on the path";
  }
  return choice;
}

int run_python(const std::string& module, const std::vector<std::string>& arguments) {
  constexpr const char* kStart = R"py(
import importlib, sys
sys.path[:] = [folder for folder in sys.path if folder]  # the current folder is no place for modules
if sys.argv[1]:
    sys.path.insert(0, sys.argv[1])
try:
    module = importlib.import_module(sys.argv[2])
except ImportError as error:
    print(f"lathe: the Python package lathe cannot be imported by {sys.executable} ({error}). "
          "Install lathe-engine there, or point LATHE_PYTHON at a Python that has it.", file=sys.stderr)
    sys.exit(3)
sys.exit(module.main(sys.argv[3:]))
)py";
  const PythonChoice choice = choose_python();
  const std::string& python = choice.program;
  std::vector<std::string> copies{python, "-c", kStart, choice.package, module};
  copies.insert(copies.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::fflush(nullptr);
  const InterruptScope interrupts;  // Ctrl-C reaches the child too, which says what it left
  const pid_t child = fork();
  if (child < 0) throw Error(Code::kMachine, "the system refuses a new process for Python");
  if (child == 0) {
    execvp(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    if (WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGTERM) return 130;
    throw Error(Code::kInternal, fmt::format("Python ('{}') died of signal {}", python, WTERMSIG(status)));
  }
  const int code = WEXITSTATUS(status);
  if (code == 127)
    throw Error(Code::kMachine, fmt::format("Python ('{}') cannot be started", python))
        .with_remedy("Install Python 3 with the package lathe-engine, or point LATHE_PYTHON at one.");
  return code;
}

}  // namespace lathe::cli
