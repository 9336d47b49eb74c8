// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe install-shims DIR`: links by which this command is called as onnx2trt, trtexec and onnxsim.

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "base/os.h"
#include "cli/command.h"
#include "cli/shims/shims.h"

namespace lathe::cli {
namespace {

namespace fs = std::filesystem;

/// A link of an earlier installation: it leads to a `lathe`, there or gone.
bool is_ours(const fs::path& path) {
  std::error_code failed;
  const fs::path target = fs::read_symlink(path, failed);
  return !failed && target.filename() == os::executable_path().filename();
}

bool on_path(const fs::path& folder) {
  const char* path = std::getenv("PATH");
  std::string rest = path ? path : "";
  while (!rest.empty()) {
    const auto cut = rest.find(':');
    std::error_code ignored;
    if (fs::equivalent(rest.substr(0, cut), folder, ignored)) return true;
    rest = cut == std::string::npos ? "" : rest.substr(cut + 1);
  }
  return false;
}

int install(const std::string& where, bool force) {
  std::error_code failed;
  const fs::path folder = fs::absolute(where).lexically_normal();
  fs::create_directories(folder, failed);
  if (!fs::is_directory(folder)) throw Error(Code::kIo, "the folder cannot be made").in_source(where).with_remedy("Name a folder that you may write to.");
  // All of them are looked at before one is written.
  for (const Shim& shim : shims()) {
    const fs::path path = folder / shim.name;
    const fs::file_status status = fs::symlink_status(path, failed);
    if (fs::is_directory(status)) throw Error(Code::kInvalidArgument, "a folder stands where the command would").in_source(path.string());
    if (fs::exists(status) && !force && !is_ours(path))
      throw Error(Code::kInvalidArgument, "there is such a file already, and it is not Lathe's")
          .in_source(path.string())
          .with_remedy("Name another folder, or add --force to replace it.");
  }
  const fs::path command = os::executable_path();
  for (const Shim& shim : shims()) {
    const fs::path path = folder / shim.name, fresh = folder / fmt::format(".{}.lathe", shim.name);
    fs::remove(fresh, failed);
    fs::create_symlink(command, fresh, failed);
    if (!failed) fs::rename(fresh, path, failed);
    if (failed) {
      const std::string why = failed.message();
      fs::remove(fresh, failed);
      throw Error(Code::kIo, fmt::format("the link cannot be made: {}", why)).in_source(path.string()).with_remedy("Name a folder that you may write to.");
    }
    fmt::print("{:<40} {}\n", path.string(), shim.stands_for);
  }
  const std::string line = fmt::format("export PATH=\"{}:$PATH\"", folder.string());
  fmt::print("{}\n", on_path(folder) ? "The folder is on your PATH." : "Put the folder on your PATH:\n  " + line);
  fmt::print("Scripts that import tensorrt and pycuda: lathe python SCRIPT --tensorrt 8\n");
  return 0;
}

}  // namespace

void add_install_shims(CLI::App& app, Action& action) {
  struct Options {
    std::string folder;
    bool force = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "install-shims", "Put onnx2trt, trtexec and onnxsim into a folder: links to this command, which takes their flags",
                              {"lathe install-shims ~/.local/lathe-shims && export PATH=~/.local/lathe-shims:$PATH",
                               "lathe install-shims shims --force     replaces files of other makers"});
  command->add_option("folder", options->folder, "Folder for the links; made where it is missing")->required()->type_name("DIR");
  command->add_flag("--force", options->force, "Replace files that are not Lathe's");
  command->callback([options, &action] { action = [options] { return install(options->folder, options->force); }; });
}

}  // namespace lathe::cli
