// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// A disk that ends anywhere: each call to the system fails in turn, the target is as before or whole, and nothing is left beside it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <string>

#include "base/failing_writes.h"
#include "base/file_calls.h"
#include "base/os.h"
#include "base/printable.h"
#include "lathe/status.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

class AtomicFiles : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    folder_ = os::make_temp_dir();
    if (!GetParam()) return;
    // A file system without nameless files.
    os::file_calls().open = [](const char* path, int flags, mode_t mode) {
      if ((flags & O_TMPFILE) != O_TMPFILE) return ::open(path, flags, mode);
      errno = EOPNOTSUPP;
      return -1;
    };
  }
  void TearDown() override {
    os::file_calls() = before_;
    fs::remove_all(folder_);
  }
  std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder_)) found.insert(entry.path().filename());
    return found;
  }
  static std::string text_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void put(const fs::path& path, std::string_view text) { std::ofstream(path, std::ios::binary) << text; }

  fs::path folder_;
  os::FileCalls before_ = os::file_calls();
};

TEST_P(AtomicFiles, AreWholeOrAsBefore) {
  const std::string content = std::string(3 << 20, 'a') + "end";
  for (const int code : {ENOSPC, EIO})
    for (const bool ever_after : {false, true})
      for (const bool replaces : {false, true}) {
        const fs::path path = folder_ / "out";
        int nth = 1;
        for (;; ++nth) {
          fs::remove(path);
          if (replaces) put(path, "old");
          std::string error;
          {
            const test::FailingWrites failing(nth, code, ever_after);
            try {
              os::AtomicFile file(path);
              file.write("begin");
              file.pad_to(64);
              file.write(content);
              file.commit();
            } catch (const Error& e) {
              error = e.what();
              EXPECT_EQ(e.code(), Code::kIo);
              EXPECT_EQ(e.source(), path.string());
              EXPECT_FALSE(e.remedy().empty());
            }
            if (!test::FailingWrites::failed()) break;
          }
          EXPECT_NE(error.find(code == ENOSPC ? "No space left" : "Input/output error"), std::string::npos) << nth << ": " << error;
          EXPECT_EQ(names(), replaces ? std::set<std::string>{"out"} : std::set<std::string>{}) << nth;
          if (replaces) {
            EXPECT_EQ(text_of(path), "old") << nth;
          }
        }
        EXPECT_GE(nth, 6) << "open, two writes, fsync, close, rename";
        EXPECT_EQ(text_of(path), "begin" + std::string(59, '\0') + content);
        EXPECT_EQ(names(), std::set<std::string>{"out"});
        fs::remove(path);
      }
}

TEST_P(AtomicFiles, ThatBelongTogetherAppearTogether) {
  for (const bool replaces : {false, true}) {
    const fs::path first = folder_ / "data", second = folder_ / "model";
    for (int nth = 1;; ++nth) {
      for (const fs::path& path : {first, second}) {
        fs::remove(path);
        if (replaces) put(path, "old");
      }
      bool threw = false;
      {
        const test::FailingWrites failing(nth, ENOSPC, true);
        try {
          os::AtomicFile a(first), b(second);
          a.write("new");
          b.write("new");
          os::AtomicFile::commit_both(a, b);
        } catch (const Error&) {
          threw = true;
        }
        EXPECT_EQ(threw, test::FailingWrites::failed()) << nth;
      }
      const std::string expected = threw ? replaces ? "old" : "" : "new";
      EXPECT_EQ(text_of(first), expected) << nth;
      EXPECT_EQ(text_of(second), expected) << nth;
      EXPECT_EQ(names().size(), expected.empty() ? 0u : 2u) << nth;
      if (!threw) break;
    }
  }
}

TEST_P(AtomicFiles, AreTakenAwayByAProcessThatEndsAtOnce) {
  const fs::path path = folder_ / "out";
  static std::function<void()> at_rename;
  at_rename = [&] {
    EXPECT_EQ(names().size(), 1u);  // hidden, whole, not yet in its place
    os::remove_temporaries();
    EXPECT_EQ(names(), std::set<std::string>{});
  };
  os::file_calls().rename = [](const char* from, const char* to) {
    at_rename();
    return ::rename(from, to);
  };
  {
    os::AtomicFile file(path);
    file.write("text");
    EXPECT_THROW(file.commit(), Error);
  }
  EXPECT_EQ(names(), std::set<std::string>{});
  at_rename = [] {};
  for (int i = 0; i < 40; ++i) {  // places are given back
    os::AtomicFile file(path);
    file.commit();
  }
  put(path, "kept");
  os::remove_temporaries();
  EXPECT_EQ(text_of(path), "kept");
}

INSTANTIATE_TEST_SUITE_P(Files, AtomicFiles, testing::Bool(), [](const auto& info) { return info.param ? "Named" : "Nameless"; });

TEST(ErrorText, IsOneParagraphThatATerminalShows) {
  Error error(Code::kInvalidModel, "the type \x1b[2J is\nnot known");
  error.at_node("a\tb\xff", "Op").at_tensor("t").with_remedy("Export it again.");
  EXPECT_EQ(std::string(error.what()), "node 'a\\x09b\\xff' (Op): tensor 't': the type \\x1b[2J is\\x0anot known. Export it again.");
  EXPECT_LT(std::string_view(Error(Code::kInvalidModel, std::string(100000, 'x')).at_node(std::string(100000, 'y'), "Op").what()).size(), 4000u);
  EXPECT_STREQ(Error(Code::kOutOfMemory, "").what(), "out of memory. Choose smaller shapes, or a machine with more memory.");
}

TEST(StatusText, IsCutBetweenCharactersAndSaysSo) {
  std::string text(250, 'x');
  text += "\xc3\xa9\xc3\xa9\xc3\xa9";  // the cut falls within the first
  const Status status(Code::kIo, text);
  EXPECT_EQ(status.message(), std::string(250, 'x') + "...");
  EXPECT_EQ(Status(Code::kIo, std::string(254, 'x')).message(), std::string(254, 'x'));
  EXPECT_EQ(whole_characters("a\xc3\xa9", 2), "a");
}

}  // namespace
}  // namespace lathe
