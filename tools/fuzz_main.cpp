// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target where the compiler brings no libFuzzer: every file of the given folders once, then mutations of them for a while.
// With -runs=0 it is the test that replays a corpus. It knows nothing of coverage; the preset `asan` (clang) searches.
//
//   reader_fuzz [-runs=100000] [-seed=1] [-seconds=60] FILE_OR_FOLDER...

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "base/sanitizers.h"
#if LATHE_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

std::string last_input;

void run(const std::string& input) {
  last_input = input;
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

void keep_last_input() {
  // Without operator new: a target may have limited it.
  if (std::FILE* file = std::fopen("crash-input", "wb")) {
    std::fwrite(last_input.data(), 1, last_input.size(), file);
    std::fclose(file);
  }
  std::fputs("the input is kept in ./crash-input\n", stderr);
}

std::string mutated(const std::vector<std::string>& corpus, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return n ? static_cast<std::size_t>(random() % n) : 0; };
  std::string s = corpus[below(corpus.size())];
  for (std::size_t i = 1 + below(6); i > 0; --i) {
    const std::size_t at = below(s.size() + 1);
    switch (below(6)) {
      case 0:
        if (at < s.size()) s[at] = static_cast<char>(random());
        break;
      case 1:
        if (at < s.size()) s[at] = static_cast<char>(s[at] ^ (1 << below(8)));
        break;
      case 2:
        if (at < s.size()) s.erase(at, 1 + below(32));
        break;
      case 3: s.insert(at, 1 + below(8), static_cast<char>(random())); break;
      case 4: {
        const std::string& other = corpus[below(corpus.size())];
        const std::size_t from = below(other.size());
        s.insert(at, other.substr(from, below(256)));
        break;
      }
      default: s.resize(at);
    }
  }
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  long runs = 100000, seed = 1, seconds = 60;
  std::vector<std::string> corpus{""};
  const auto add = [&](const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  };
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("-runs=", 0) == 0) runs = std::atol(argument.c_str() + 6);
    else if (argument.rfind("-seed=", 0) == 0) seed = std::atol(argument.c_str() + 6);
    else if (argument.rfind("-seconds=", 0) == 0) seconds = std::atol(argument.c_str() + 9);
    else if (std::filesystem::is_directory(argument)) {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(argument))
        if (entry.is_regular_file()) add(entry.path());
    } else add(argument);
  }
  std::signal(SIGABRT, [](int) { keep_last_input(); });  // what targets do on a finding
#if !LATHE_ADDRESS_SANITIZER
  for (const int fault : {SIGSEGV, SIGFPE, SIGBUS, SIGILL})
    std::signal(fault, [](int which) {
      keep_last_input();
      std::signal(which, SIG_DFL);
      std::raise(which);
    });
#endif
#if LATHE_ADDRESS_SANITIZER
  __asan_set_death_callback(keep_last_input);
#endif
  for (const std::string& input : corpus) run(input);
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  long done = 0;
  for (; done < runs && std::chrono::steady_clock::now() < end; ++done) run(mutated(corpus, random));
  std::printf("%zu inputs and %ld mutations of them: no finding\n", corpus.size(), done);
  return 0;
}
