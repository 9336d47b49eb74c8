// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See probes.h.

#include "cli/probes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <link.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/os.h"

namespace lathe::cli {
namespace {

constexpr int kCannotStart = 127;

void write_all(int pipe, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = write(pipe, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    done += static_cast<std::size_t>(n);
  }
}

std::string how_it_ended(int status) {
  if (!WIFSIGNALED(status)) return WEXITSTATUS(status) == kCannotStart ? "it cannot be started" : fmt::format("it ended with code {}", WEXITSTATUS(status));
  const int signal = WTERMSIG(status);
  const bool damaged = signal == SIGBUS || signal == SIGSEGV || signal == SIGILL;
  return fmt::format("it ended its process by signal {} ({}){}", signal, strsignal(signal), damaged ? ": the file is damaged, or not for this machine" : "");
}

}  // namespace

Probes::~Probes() {
  for (auto& [name, child] : children_) {
    if (child.pid > 0) {
      kill(-child.pid, SIGKILL);
      kill(child.pid, SIGKILL);
      waitpid(child.pid, nullptr, 0);
    }
    if (child.pipe >= 0) close(child.pipe);
  }
}

void Probes::start(const std::string& name, const std::function<void(int)>& in_child) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return;
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    for (const int signal : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGABRT, SIGINT, SIGTERM, SIGPIPE}) std::signal(signal, SIG_DFL);
    const int nowhere = open("/dev/null", O_RDWR);
    dup2(nowhere, STDIN_FILENO);
    dup2(nowhere, STDERR_FILENO);
    dup2(ends[1], STDOUT_FILENO);
    in_child(ends[1]);
    _exit(0);
  }
  close(ends[1]);
  children_[name] = {static_cast<int>(pid), ends[0], ""};
}

void Probes::ask(const std::string& name, const std::function<nlohmann::json()>& question) {
  start(name, [&](int pipe) {
    nlohmann::json answer;
    try {
      answer["value"] = question();
    } catch (const std::exception& error) {
      answer["failure"] = error.what();
    }
    write_all(pipe, answer.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  });
}

void Probes::ask_program(const std::string& name, const std::vector<std::string>& words) {
  start(name, [&](int) {
    std::vector<std::string> copies = words;
    std::vector<char*> argv;
    argv.reserve(copies.size() + 1);
    for (std::string& word : copies) argv.push_back(word.data());
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(kCannotStart);
  });
}

std::map<std::string, Answer> Probes::wait(double seconds) {
  const double until = os::now_seconds() + seconds;
  std::map<std::string, Answer> answers;
  for (;;) {
    std::vector<pollfd> open;
    for (const auto& [name, child] : children_)
      if (child.pipe >= 0) open.push_back({child.pipe, POLLIN, 0});
    const double left = until - os::now_seconds();
    if (open.empty() || left <= 0) break;
    if (poll(open.data(), open.size(), static_cast<int>(left * 1e3) + 1) <= 0) continue;
    for (auto& [name, child] : children_) {
      const auto ready = std::find_if(open.begin(), open.end(), [&, pipe = child.pipe](const pollfd& each) { return each.fd == pipe; });
      if (ready == open.end() || ready->revents == 0) continue;
      char piece[4096];
      const ssize_t n = read(child.pipe, piece, sizeof piece);
      if (n > 0) {
        child.text.append(piece, static_cast<std::size_t>(n));
      } else if (n == 0 || errno != EINTR) {
        close(child.pipe);
        child.pipe = -1;
      }
    }
  }
  for (auto& [name, child] : children_) {
    Answer& answer = answers[name];
    if (child.pid < 0) {
      answer.failure = "the system refuses a new process";
      continue;
    }
    if (child.pipe >= 0) continue;  // the destructor ends it
    int status = 0;
    while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
    }
    child.pid = -1;
    const auto json = nlohmann::json::parse(child.text, nullptr, false);
    if (status != 0 || !json.is_object()) {
      answer.failure = status != 0 ? how_it_ended(status) : "its answer cannot be read";
    } else if (json.contains("failure")) {
      answer.failure = json["failure"].get<std::string>();
    } else {
      answer.value = json.contains("value") ? json["value"] : json;
    }
  }
  for (auto& [name, child] : children_)
    if (child.pipe >= 0) answers[name].failure = fmt::format("no answer within {:.0f} s", seconds);
  return answers;
}

std::string open_library(const std::string& name) {
  struct Search {
    const std::string& name;
    std::string found;
  } search{name, ""};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        Search& wanted = *static_cast<Search*>(data);
        const std::filesystem::path file = info->dlpi_name ? info->dlpi_name : "";
        if (wanted.found.empty() && file.filename().string().starts_with(wanted.name)) wanted.found = file.string();
        return 0;
      },
      &search);
  return search.found;
}

}  // namespace lathe::cli
