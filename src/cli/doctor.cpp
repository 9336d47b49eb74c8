// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe doctor`: what is here, what is missing, what for, and what to install. Facts are gathered by doctor_facts.cpp; whether the default job can be
// done is not concluded from them but tried.

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/doctor_facts.h"
#include "lathe/lathe.hpp"

namespace lathe::cli {
namespace {

using nlohmann::json;

struct Missing {
  std::string what, needed_for, install;
  bool required = false;
};

std::string text(const json& value, const char* key) { return value.contains(key) && value[key].is_string() ? value[key].get<std::string>() : ""; }
double number(const json& value, const char* key) { return value.contains(key) && value[key].is_number() ? value[key].get<double>() : 0; }
bool found(const json& part) { return part.value("found", false); }

std::vector<Missing> what_is_missing(const json& facts) {
  std::vector<Missing> missing;
  const auto add = [&](std::string what, std::string needed_for, std::string install, bool required = false) {
    missing.push_back({std::move(what), std::move(needed_for), std::move(install), required});
  };
  const auto off = [](const json& part) { return text(part, "why_none").find("is 'none'") != std::string::npos; };
  const json &cpu = facts["cpu"], &cuda = facts["cuda"], &python = facts["python"], &packages = python["packages"], &cache = facts["cache"];
  const bool damaged = facts["onednn"].value("damaged", false);
  if (damaged) add("a sound oneDNN", "nothing, but builds open it", "install onednn-cpu-gomp (or the wheel) again, or set LATHE_ONEDNN=none", true);
  if (!facts["self_test"].value("passed", false) && !damaged)
    add("a working build (" + text(facts["self_test"], "why") + ")", "everything",
        "install Lathe again; report it with `lathe doctor --json` when that does not help", true);
  if (cpu["level"] == "generic") add("AVX2", "fast kernels: without it engines run portable ones", "nothing; unset LATHE_CPU_FEATURES if it is set");
  if (!found(facts["onednn"]) && !damaged && !off(facts["onednn"]))
    add("oneDNN", "more candidates for convolutions and products on the CPU", "pip install onednn-cpu-gomp, and point LATHE_ONEDNN at its libdnnl.so.3");
  if (!cache.value("writable", false))
    add("a writable cache folder", "builds that remember what they timed", "point LATHE_CACHE_DIR at a folder that you may write to");
  if (cache.contains("free_bytes") && number(cache, "free_bytes") < 1e9) add("disk space", "engines and caches", "free some, or move LATHE_CACHE_DIR");
  if (number(facts["memory"], "available_bytes") < 1e9)
    add("memory", "building larger models: weights are held about three times", "end other programs, or raise the limit");
  if (const std::string other = text(facts["command"], "first_on_path"); !other.empty())
    add("this command in front on the PATH", "typing `lathe`: " + other + " is another one", "put this one's folder first");

  if (!found(python)) {
    add("Python 3.11 or newer", "lathe export, lathe python, rivals in verify and bench",
        "install it with the package lathe-engine, or point LATHE_PYTHON at one");
  } else {
    if (!python.contains("lathe"))
      add("the Python package lathe", "lathe export, lathe python, rivals in verify and bench", text(python, "program") + " -m pip install lathe-engine");
    const auto package = [&](const char* name, const char* needed_for, const char* install) {
      if (!packages.contains(name)) add(name, needed_for, install);
    };
    package("numpy", "running engines from Python", "pip install numpy");
    package("torch", "lathe export, and building from a PyTorch module", "pip install torch");
    package("onnx", "lathe export", "pip install onnx");
    package("onnxscript", "lathe export by the newer of PyTorch's exporters", "pip install onnxscript");
    package("onnxruntime", "a second opinion in lathe verify, lathe bench --against onnxruntime", "pip install onnxruntime");
    package("openvino", "lathe bench --against openvino", "pip install openvino");
  }

  const json& driver = cuda["driver"];
  if (number(cuda["kernels"], "images") == 0)
    add("CUDA kernels in this build", "--device cuda", "build with NVRTC beside it (requirements/build.txt) and LATHE_CUDA=ON");
  if (!found(driver) && !off(driver)) {
    const bool there = !cuda["pci"].empty();
    add("the NVIDIA driver",
        there ? "--device cuda (there is a GPU: " + cuda["pci"][0].get<std::string>() + ")" : "--device cuda, on a machine with an NVIDIA GPU",
        "NVIDIA's driver for CUDA 11.8 or newer (Debian: nvidia-driver); a container needs it passed in (docker run --gpus all)");
  }
  if (found(driver) && cuda["devices"].empty()) add("a GPU that the driver shows", "--device cuda", "look at CUDA_VISIBLE_DEVICES, and at nvidia-smi");
  for (const json& device : cuda["devices"])
    if (!device.value("supported", true))
      add("kernels for " + text(device, "name"), fmt::format("--device {} ({})", text(device, "device"), text(device, "arch")),
          "build Lathe with LATHE_CUDA_ARCHS=all; the least is sm_75");
  if (!found(cuda["nvrtc"]) && !off(cuda["nvrtc"])) add("NVRTC", "building for --device cuda, where nodes are fused", "pip install nvidia-cuda-nvrtc");
  if (found(driver) && found(cuda["nvrtc"]) && number(driver, "cuda") < std::floor(number(cuda["nvrtc"], "number")))
    add("a newer driver", fmt::format("code by NVRTC {}: this driver is for CUDA {}", text(cuda["nvrtc"], "version"), text(driver, "version")),
        "update the driver, or point LATHE_NVRTC at an older NVRTC");
  if (!found(cuda["cublaslt"]) && !off(cuda["cublaslt"])) add("cuBLASLt", "more candidates for products on --device cuda", "pip install nvidia-cublas");
  if (!found(cuda["cudnn"]) && !off(cuda["cudnn"])) add("cuDNN", "--device cuda --libraries cudnn", "pip install nvidia-cudnn-cu13");
  return missing;
}

/// "3.2.0, /path/libdnnl.so.3", or why not; what to install stands below all facts.
std::string library_text(const json& part) {
  if (!found(part)) return "none: " + text(part, "why_none").substr(0, text(part, "why_none").find("; "));
  return text(part, "version") + (text(part, "file").empty() ? "" : ", ") + text(part, "file");
}

void line(std::string_view label, const std::string& value) { fmt::print("  {:<11}{}\n", label, value); }

void print_facts(const json& facts) {
  const json &command = facts["command"], &cpu = facts["cpu"], &memory = facts["memory"], &cuda = facts["cuda"], &python = facts["python"],
             &cache = facts["cache"];
  fmt::print("lathe {}\n", text(facts, "version"));
  line("command", text(command, "file"));
  line("library", found(facts["library"]) ? library_text(facts["library"]) : text(facts["library"], "why_none"));
  line("engines", fmt::format("format {}", text(facts, "engine_format")));
  fmt::print("CPU: {}\n", text(cpu, "model"));
  line("kernels",
       fmt::format("for {}{}", text(cpu, "features"), text(cpu, "hardware").empty() ? "" : fmt::format("; the hardware has {}", text(cpu, "hardware"))));
  line("cores", text(cpu, "cores"));
  line("memory",
       fmt::format(
           "{} available of {}{}", human_bytes(number(memory, "available_bytes")), human_bytes(number(memory, "total_bytes")),
           memory.contains("limit_bytes") ? fmt::format(", limited to {} ({})", human_bytes(number(memory, "limit_bytes")), text(memory, "limited_by")) : ""));
  line("oneDNN", library_text(facts["onednn"]));
  line("self-test", facts["self_test"].value("passed", false)
                        ? fmt::format("a convolution was built, verified, saved, loaded and run in {:.0f} ms", number(facts["self_test"], "ms"))
                        : "FAILED: " + text(facts["self_test"], "why"));
  fmt::print("NVIDIA GPUs\n");
  line("driver", found(cuda["driver"]) ? fmt::format("for CUDA {}", library_text(cuda["driver"])) : library_text(cuda["driver"]));
  for (const json& device : cuda["devices"])
    line(text(device, "device"), fmt::format("{}, {}, {}{}", text(device, "name"), text(device, "arch"), human_bytes(number(device, "memory_bytes")),
                                             device.value("supported", true) ? "" : ", NOT supported by this build"));
  line("kernels", number(cuda["kernels"], "images") == 0 ? "none in this build" : fmt::format("in this build for {}", text(cuda["kernels"], "archs")));
  line("NVRTC", library_text(cuda["nvrtc"]));
  line("cuBLASLt", library_text(cuda["cublaslt"]));
  line("cuDNN", library_text(cuda["cudnn"]));
  if (found(python)) {
    fmt::print("Python {}: {} ({})\n", text(python, "version"), text(python, "program"), text(python, "why"));
    line("lathe", python.contains("lathe") ? fmt::format("{}, {}", text(python["lathe"], "version"), text(python["lathe"], "file"))
                                           : "none: " + text(python, "why_no_lathe"));
    std::string packages;
    for (const auto& [name, version] : python["packages"].items())
      packages += fmt::format("{}{} {}", packages.empty() ? "" : ", ", name, version.get<std::string>());
    line("packages", packages.empty() ? "none of those that Lathe uses" : packages);
  } else {
    fmt::print("Python: none ({}: {})\n", text(python, "program"), text(python, "why_none"));
  }
  fmt::print("Files\n");
  line("cache", fmt::format("{}: {}, {}{}", text(cache, "folder"),
                            cache.value("there", false) ? fmt::format("{} in {} files{}", human_bytes(number(cache, "bytes")), number(cache, "files"),
                                                                      cache.value("counted_all", true) ? "" : " and more")
                                                        : "not made yet",
                            cache.value("writable", false) ? "writable" : "NOT writable",
                            cache.contains("free_bytes") ? fmt::format("; {} free", human_bytes(number(cache, "free_bytes"))) : ""));
  for (const auto& [name, value] : facts["knobs"].items()) line("variable", fmt::format("{}={}", name, value.get<std::string>()));
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  auto json_asked = std::make_shared<bool>(false);
  auto* command =
      add_command(app, "doctor", "What is here, what is missing, what for, and what to install; exit code 3 when engines cannot be built and run on this CPU",
                  {"lathe doctor", "lathe doctor --json"});
  command->add_flag("--json", *json_asked, "Print as JSON");
  command->callback([json_asked, &action] {
    action = [json_asked] {
      json facts = gather_facts();
      const std::vector<Missing> missing = what_is_missing(facts);
      bool able = true;
      facts["missing"] = json::array();
      for (const Missing& each : missing) {
        able = able && !each.required;
        facts["missing"].push_back({{"what", each.what}, {"needed_for", each.needed_for}, {"install", each.install}, {"required", each.required}});
      }
      facts["able"] = able;
      if (*json_asked) {
        fmt::print("{}\n", facts.dump(2, ' ', false, json::error_handler_t::replace));
        return able ? 0 : 3;
      }
      print_facts(facts);
      if (!missing.empty()) fmt::print("Missing\n");
      for (const Missing& each : missing)
        fmt::print("  {}{}\n    for  {}\n    get  {}\n", each.what, each.required ? " (REQUIRED)" : "", each.needed_for, each.install);
      fmt::print("{}\nErrors that are met most, with causes and remedies: docs/troubleshooting.md\n",
                 able ? "Engines can be built and run on this CPU." : "Engines can NOT be built and run on this CPU.");
      return able ? 0 : 3;
    };
  });
}

}  // namespace lathe::cli
