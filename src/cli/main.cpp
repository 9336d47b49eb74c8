// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The command `lathe`: picks the subcommand, runs it, turns errors into one paragraph on stderr and an exit code
// (0 ok, 1 the model or data is at fault, 2 wrong usage, 3 the machine lacks something).

#include <cstdio>

#include "cli/command.h"

int main(int argc, char** argv) {
  using namespace lathe::cli;
  CLI::App app{"Lathe: from a trained network to an engine that runs as fast as the machine allows, with verified numbers.\n\n"
               "  lathe export model.py:make -o m.onnx --input 1x3x640x640   PyTorch to ONNX, checked\n"
               "  lathe build m.onnx -o m.engine                            simplify, fuse, time, verify\n"
               "  lathe run m.engine --input images=x.npy --output y.npz    run it\n"
               "  lathe bench m.engine --against onnxruntime                how fast, paired with a rival\n"};
  app.name("lathe");
  app.set_version_flag("--version", std::string("lathe ") + std::string(lathe::version()));
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::help);
  Action action;
  for (auto* add : {add_export, add_simplify, add_show, add_build, add_run, add_bench, add_verify, add_profile, add_ops, add_devices, add_completion})
    add(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "lathe: %s\nSee `lathe --help`%s.\n", error.what(),
                 app.get_subcommands().empty() ? "" : (" or `lathe " + app.get_subcommands()[0]->get_name() + " --help`").c_str());
    return 2;
  }
  catch_interrupts();
  try {
    return action();
  } catch (const lathe::Error& error) {
    std::fprintf(stderr, "lathe: %s\n", error.what());
    return error.code() == lathe::Code::kCancelled ? 130 : lathe::exit_code(error.code());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "lathe: the machine has not enough memory for this.\n");
    return 3;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lathe: unexpected failure: %s. Please report it with the model.\n", error.what());
    return 1;
  }
}
