// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The command `lathe`: picks the subcommand, runs it, turns errors into one paragraph on stderr and an exit code
// (0 ok, 1 the model or data is at fault, 2 wrong usage, 3 the machine lacks something).

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "cli/command.h"

namespace {

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

/// True when the word is no subcommand; says then which one may be meant.
bool unknown_command(const CLI::App& app, const std::string& word) {
  std::string best;
  std::size_t least = 3;  // as far as a slip goes
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    if (const std::size_t distance = edit_distance(word, command->get_name()); distance < least) {
      least = distance;
      best = command->get_name();
    }
  if (best == word) return false;
  std::fprintf(stderr, "lathe: there is no subcommand '%s'%s. See `lathe --help`.\n", word.c_str(),
               best.empty() ? "" : fmt::format("; did you mean '{}'?", best).c_str());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace lathe::cli;
  CLI::App app{
      "Lathe: from a trained network to an engine that runs as fast as the machine allows, with verified numbers.\n\n"
      "  lathe export model.py:make -o m.onnx --input 1x3x640x640   PyTorch to ONNX, checked\n"
      "  lathe build m.onnx -o m.engine                            simplify, fuse, time, verify\n"
      "  lathe run m.engine --input images=x.npy --output y.npz    run it\n"
      "  lathe bench m.onnx --against onnxruntime                  how fast, paired with a rival\n"
      "\nExit codes: 0 ok, 1 the model or data is at fault, 2 wrong usage, 3 the machine lacks something, 130 stopped by Ctrl-C.\n"};
  app.name("lathe");
  app.set_version_flag("--version", std::string("lathe ") + std::string(lathe::version()));
  app.require_subcommand(1);
  Action action;
  for (auto* add : {add_export, add_simplify, add_show, add_build, add_run, add_bench, add_verify, add_profile, add_ops, add_devices, add_completion})
    add(app, action);
  if (argc > 1 && argv[1][0] != '-' && unknown_command(app, argv[1])) return 2;
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    const std::string command = app.get_subcommands().empty() ? "" : app.get_subcommands()[0]->get_name() + " ";
    std::fprintf(stderr, "lathe: %s. See `lathe %s--help`.\n", command.empty() && argc == 1 ? "name a subcommand" : error.what(), command.c_str());
    return 2;
  }
  catch_interrupts();
  try {
    const int code = action();
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) throw std::system_error(errno, std::generic_category());
    return code;
  } catch (const DataError& error) {
    std::fprintf(stderr, "lathe: %s\n", error.what());
    return 1;
  } catch (const lathe::Error& error) {
    std::fprintf(stderr, "lathe: %s\n", error.what());
    return error.code() == lathe::Code::kCancelled ? 130 : lathe::exit_code(error.code());
  } catch (const std::system_error& error) {  // fmt and iostreams, on stdout
    std::fprintf(stderr, "lathe: the report cannot be written to standard output: %s.\n", error.code().message().c_str());
    return 1;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "lathe: the machine has not enough memory for this.\n");
    return 3;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lathe: unexpected failure: %s. Please report it with the model.\n", error.what());
    return 1;
  }
}
