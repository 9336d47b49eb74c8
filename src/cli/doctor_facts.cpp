// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See doctor_facts.h. Whatever opens a library of others is asked in a child process.

#include "cli/doctor_facts.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "backend/cpu/features.h"
#ifdef LATHE_HAVE_ONEDNN
#include "backend/cpu/onednn.h"
#endif
#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cudnn.h"
#include "backend/cuda/device.h"
#include "backend/cuda/nvrtc.h"
#include "base/beside.h"
#include "base/knobs.h"
#include "base/os.h"
#include "base/thread_pool.h"
#include "cli/command.h"
#include "cli/probes.h"
#include "engine/engine.h"
#include "ir/text.h"
#include "lathe/lathe.hpp"
#include "onnx/writer.h"
#include "ops/import.h"

namespace lathe::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr double kPatience = 20;  // seconds: a cold disk, a Python that starts slowly, a machine at other work

// Each in a child ---------------------------------------------------------------------------------------------------

json none(const std::string& why) { return {{"found", false}, {"why_none", why}}; }

/// Of a library that is open now: from the file's name where it was searched, from the knob's value where that has another.
json found_library(const std::string& version, const std::string& name, const char* knob_name) {
  const std::string file = open_library(name);
  std::error_code failed;
  const fs::path real = fs::canonical(file.empty() ? fs::path(knob(knob_name)) : fs::path(file), failed);
  return {{"found", true}, {"version", version}, {"file", failed ? file : real.string()}};
}

json ask_onednn() {
#ifdef LATHE_HAVE_ONEDNN
  std::string why;
  if (const cpu::onednn::Library* library = cpu::onednn::Library::find(&why)) return found_library(std::string(library->version()), "libdnnl", "LATHE_ONEDNN");
  return none(why);
#else
  return none("this build has no support for it");
#endif
}

json ask_nvrtc() {
  std::string why;
  const cuda::Nvrtc* nvrtc = cuda::Nvrtc::find(&why);
  if (!nvrtc) return none(why);
  json out = found_library(fmt::format("{}.{}", nvrtc->major(), nvrtc->minor()), "libnvrtc.so", "LATHE_NVRTC");
  out["number"] = nvrtc->major() + 0.1 * nvrtc->minor();
  return out;
}

template <class Library>
json ask_optional(const char* name, const char* knob_name) {
  std::string why;
  const Library* library = Library::find(&why);
  return library ? found_library(library->version_text(), name, knob_name) : none(why);
}

json ask_driver() {
  std::string why;
  json out = {{"devices", json::array()}};
  out["devices"] = describe_gpus(&why);
  if (const cuda::Driver* driver = cuda::Driver::find()) {
    out["driver"] = found_library(fmt::format("{}.{}", driver->version / 1000, driver->version % 1000 / 10), "libcuda.so", "LATHE_CUDA_DRIVER");
    out["driver"]["cuda"] = driver->version / 1000;
  } else {
    out["driver"] = none(why);
  }
  return out;
}

json ask_library(const fs::path& file) {
  void* const handle = dlopen(file.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (!handle) return none(dlerror());
  const auto version = reinterpret_cast<const char* (*)()>(dlsym(handle, "lathe_version"));
  return version ? json{{"found", true}, {"version", version()}, {"file", file.string()}} : none(file.string() + " is no liblathe");
}

/// The default job in small: a convolution from ONNX bytes to numbers out of a loaded engine.
json self_test() {
  const double started = os::now_seconds();
  ir::Model model;
  model.ir_version = 10;
  model.opset_imports[""] = ops::kCanonicalOpset;
  model.graph = ir::parse_graph(
      "graph self_test(x: float[1, 1, 8, 8]) -> (y) {\n"
      "  w: float[1, 1, 1, 1] = const {3}\n"
      "  c: float[1, 1, 8, 8] = Conv(x, w)\n"
      "  y: float[1, 1, 8, 8] = Relu(c)\n}\n");
  const std::string onnx = onnx::model_bytes(model);
  BuildConfig config;
  config.budget_seconds = 0;
  config.use_cache = false;
  const Engine built = build(std::as_bytes(std::span(onnx)), config);
  const Engine engine = Engine::load(built.to_bytes());
  std::array<float, 64> x{}, y{};
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - 32;
  const std::array<std::int64_t, 4> shape{1, 1, 8, 8};
  Context context = engine.create_context();
  const ConstTensorView input{x.data(), DType::kFloat32, shape};
  const TensorView output{y.data(), DType::kFloat32, shape};
  if (const Status status = context.run({&input, 1}, {&output, 1}); !status) throw Error(status.code(), std::string(status.message()));
  for (std::size_t i = 0; i < x.size(); ++i)
    if (y[i] != std::max(0.0f, 3 * x[i])) throw Error(Code::kVerification, fmt::format("a convolution of {} by 3 gives {}", x[i], y[i]));
  return {{"passed", true}, {"ms", (os::now_seconds() - started) * 1e3}};
}

/// Looks without importing, but for the package itself: whether the extension fits this Python shows when it is loaded.
constexpr const char* kPython = R"py(
import importlib.metadata, importlib.util, json, sys
sys.path[:] = [folder for folder in sys.path if folder]
if sys.argv[1]:
    sys.path.insert(0, sys.argv[1])
found = {"version": "%d.%d.%d" % sys.version_info[:3], "program": sys.executable, "packages": {}}
for name in ("numpy", "torch", "onnx", "onnxscript", "onnxruntime", "openvino"):
    try:
        if importlib.util.find_spec(name) is not None:
            found["packages"][name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found["packages"][name] = "of unknown version"
    except Exception:
        pass
try:
    import lathe
    found["lathe"] = {"version": lathe.__version__, "file": lathe.__file__}
except Exception as error:
    found["why_no_lathe"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
)py";

// In this process ---------------------------------------------------------------------------------------------------

/// First number of a file; negative where there is none.
double number_in(const char* path) {
  std::ifstream file(path);
  double value = -1;
  return file >> value ? value : -1;
}

json describe_command() {
  json out = {{"file", os::executable_path().string()}};
  const char* path = std::getenv("PATH");
  std::string rest = path ? path : "";
  while (!rest.empty()) {
    const auto cut = rest.find(':');
    const fs::path candidate = fs::path(rest.substr(0, cut)) / "lathe";
    rest = cut == std::string::npos ? "" : rest.substr(cut + 1);
    if (access(candidate.c_str(), X_OK) != 0) continue;
    // pip's command beside a Python is a script that hands over to the package's.
    std::error_code failed;
    std::ifstream file(candidate);
    std::string head(2, ' ');
    file.read(head.data(), 2);
    if (!fs::equivalent(candidate, os::executable_path(), failed) && head != "#!") out["first_on_path"] = candidate.string();
    break;
  }
  return out;
}

json describe_cpu() {
  const cpu::CpuFeatures &used = cpu::cpu_features(), hardware = cpu::detect_cpu_features();
  cpu_set_t set;
  CPU_ZERO(&set);
  const int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  const long online = sysconf(_SC_NPROCESSORS_ONLN), asked = knob_int("LATHE_THREADS");
  const int usable = os::available_cpus(), threads = asked > 0 ? static_cast<int>(asked) : usable;
  json out = {{"model", os::cpu_model()}, {"features", used.describe()}, {"level", cpu::isa_name(used.isa())}, {"online", online}, {"allowed", allowed},
              {"usable", usable},         {"threads", threads}};
  if (hardware.mask != used.mask) out["hardware"] = hardware.describe();
  out["cores"] = fmt::format("kernels use {} thread(s): {} online, {} by the affinity mask{}{}", threads, online, allowed,
                             usable < allowed ? fmt::format(", {} by the cgroup's quota", usable) : "", asked > 0 ? ", LATHE_THREADS is set" : "");
  return out;
}

json describe_memory() {
  json out = json::object();
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  for (double kib = 0; file >> name >> kib;) {
    if (name == "MemTotal:") out["total_bytes"] = kib * 1024;
    if (name == "MemAvailable:") out["available_bytes"] = kib * 1024;
    std::getline(file, unit);
  }
  const auto limit = [&](double bytes, double used, const char* by) {
    if (bytes <= 0 || bytes >= out.value("total_bytes", 1e300)) return;
    if (out.contains("limit_bytes") && out["limit_bytes"].get<double>() <= bytes) return;
    out["limit_bytes"] = bytes;
    out["limited_by"] = by;
    out["available_bytes"] = std::min(out.value("available_bytes", bytes), std::max(0.0, bytes - used));
  };
  limit(number_in("/sys/fs/cgroup/memory.max"), number_in("/sys/fs/cgroup/memory.current"), "cgroup");
  limit(number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes"), number_in("/sys/fs/cgroup/memory/memory.usage_in_bytes"), "cgroup");
  rlimit space{};
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) limit(static_cast<double>(space.rlim_cur), 0, "ulimit -v");
  return out;
}

json describe_cache() {
  const fs::path folder = os::cache_dir();
  std::error_code failed;
  json out = {{"folder", folder.string()}, {"there", fs::is_directory(folder, failed)}};
  fs::path nearest = fs::absolute(folder, failed);
  while (!nearest.empty() && !fs::exists(nearest, failed) && nearest != nearest.root_path()) nearest = nearest.parent_path();
  // Asked by making a file without a name: access() tells nothing of read-only and full disks.
  bool writable = false;
  if (const int file = open(nearest.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600); file >= 0) {
    writable = write(file, "x", 1) == 1;
    close(file);
  } else if (errno == EOPNOTSUPP || errno == EISDIR) {
    writable = access(nearest.c_str(), W_OK) == 0;
  }
  out["writable"] = writable && fs::is_directory(nearest, failed);
  if (const fs::space_info space = fs::space(nearest, failed); !failed) out["free_bytes"] = static_cast<double>(space.available);
  double bytes = 0;
  int files = 0;
  constexpr int kMost = 20000;
  for (fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, failed), end; !failed && at != end && files < kMost;
       at.increment(failed)) {
    std::error_code gone;
    if (!at->is_regular_file(gone)) continue;
    const auto size = at->file_size(gone);
    if (gone) continue;
    bytes += static_cast<double>(size);
    ++files;
  }
  out["bytes"] = bytes;
  out["files"] = files;
  out["counted_all"] = files < kMost;
  return out;
}

/// GPUs of NVIDIA's on the PCI bus: they show without a driver.
json nvidia_on_pci() {
  json out = json::array();
  std::error_code failed;
  for (const auto& device : fs::directory_iterator("/sys/bus/pci/devices", failed)) {
    std::string vendor, kind;
    std::ifstream(device.path() / "vendor") >> vendor;
    std::ifstream(device.path() / "class") >> kind;
    if (vendor == "0x10de" && kind.starts_with("0x03")) out.push_back("PCI " + device.path().filename().string());
  }
  return out;
}

json describe_kernels() {
  std::set<std::string> archs;
  for (const cuda::EmbeddedModule& module : cuda::embedded_modules())
    archs.insert(module.ptx ? fmt::format("sm_{} and newer (PTX)", module.arch) : fmt::format("sm_{}{}", module.arch, module.specific ? "a" : ""));
  return {{"images", cuda::embedded_modules().size()}, {"archs", fmt::format("{}", fmt::join(archs, ", "))}};
}

}  // namespace

json describe_gpus(std::string* why) {
  json out = json::array();
  std::set<std::string_view> modules;
  for (const cuda::EmbeddedModule& module : cuda::embedded_modules()) modules.insert(module.name);
  for (const cuda::DeviceInfo& info : cuda::list_devices(why)) {
    const bool supported =
        std::all_of(modules.begin(), modules.end(), [&](std::string_view name) { return cuda::choose_embedded(name, info.major, info.minor); });
    out.push_back({{"device", fmt::format("cuda:{}", info.ordinal)},
                   {"name", info.name},
                   {"arch", info.arch_name()},
                   {"supported", supported && !modules.empty()},
                   {"multiprocessors", info.multiprocessors},
                   {"memory_bytes", info.memory_bytes},
                   {"l2_bytes", info.l2_bytes},
                   {"memory_gbytes_per_s", info.memory_bytes_per_second * 1e-9}});
  }
  return out;
}

json gather_facts() {
  Probes probes;
  const PythonChoice python = choose_python();
  std::vector<fs::path> library = os::files_beside("liblathe.so.0");
  if (std::error_code failed; fs::exists(os::own_folder().parent_path() / "liblathe.so.0", failed))  // a build tree
    library.push_back(fs::canonical(os::own_folder().parent_path() / "liblathe.so.0", failed));
  probes.ask_program("python", {python.program, "-c", kPython, python.package});
  probes.ask("onednn", ask_onednn);
  probes.ask("nvrtc", ask_nvrtc);
  probes.ask("cublaslt", [] { return ask_optional<cuda::cublaslt::Library>("libcublasLt.so", "LATHE_CUBLASLT"); });
  probes.ask("cudnn", [] { return ask_optional<cuda::cudnn::Library>("libcudnn.so", "LATHE_CUDNN"); });
  probes.ask("driver", ask_driver);
  if (!library.empty()) probes.ask("library", [&] { return ask_library(library.front()); });
  probes.ask("self_test", self_test);

  json facts = {{"version", std::string(version())}, {"engine_format", fmt::format("{}.{}", engine::kFormatMajor, engine::kFormatMinor)}};
  facts["command"] = describe_command();
  facts["cpu"] = describe_cpu();
  facts["memory"] = describe_memory();
  facts["cache"] = describe_cache();
  facts["knobs"] = json::object();
  for (const Knob& row : knob_table())
    if (const std::string value = knob(row.name); value != row.default_value) facts["knobs"][std::string(row.name)] = value;

  std::map<std::string, Answer> answers = probes.wait(kPatience);
  const auto answer = [&](const char* name) {
    const Answer& given = answers[name];
    json out = given.failure.empty() ? given.value : none(given.failure);
    if (!given.failure.empty()) out["damaged"] = true;
    return out;
  };
  facts["library"] = library.empty() ? none("liblathe.so is not beside the command; programs in C and C++ need it") : answer("library");
  facts["onednn"] = answer("onednn");
  json cuda = {{"kernels", describe_kernels()}, {"pci", nvidia_on_pci()}, {"devices", json::array()}};
  for (const char* name : {"nvrtc", "cublaslt", "cudnn", "driver"}) cuda[name] = answer(name);
  if (cuda["driver"].contains("driver")) {
    const json driver = cuda["driver"];
    cuda["devices"] = driver["devices"];
    cuda["driver"] = driver["driver"];
  }
  facts["cuda"] = cuda;
  const Answer& asked = answers["python"];
  facts["python"] =
      asked.failure.empty() ? asked.value : json{{"found", false}, {"why_none", asked.failure}, {"packages", json::object()}, {"program", python.program}};
  if (asked.failure.empty()) facts["python"]["found"] = true;
  facts["python"]["why"] = python.why;
  facts["self_test"] = answer("self_test");
  if (!facts["self_test"].value("passed", false)) facts["self_test"] = {{"passed", false}, {"why", answers["self_test"].failure}};
  return facts;
}

}  // namespace lathe::cli
