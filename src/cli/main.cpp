// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The command `lathe`: picks the subcommand, runs it, turns errors into one paragraph on stderr and an exit code
// (0 ok, 1 the model or data is at fault, 2 wrong usage, 3 the machine lacks something). Called by another tool's name it is that tool (shims/).

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/shims/shims.h"

namespace {

/// True when the word is no subcommand; says then which one may be meant.
bool unknown_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) names.push_back(command->get_name());
  const std::string best = lathe::cli::nearest(word, names);
  if (best == word) return false;
  std::fprintf(stderr, "lathe: there is no subcommand '%s'%s See `lathe --help`.\n", word.c_str(),
               best.empty() ? "." : fmt::format("; did you mean '{}'?", best).c_str());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace lathe::cli;
  if (const Shim* shim = argc > 0 ? find_shim(argv[0]) : nullptr) {
    catch_interrupts();
    return guarded(shim->name, [&] { return shim->run({argv + 1, argv + argc}); });
  }
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
  for (auto* add : {add_export, add_check, add_simplify, add_show, add_build, add_run, add_bench, add_verify, add_profile, add_engine, add_ops, add_devices,
                    add_doctor, add_completion, add_python, add_install_shims})
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
  return guarded("lathe", action);
}
