// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Signatures against the vectors of RFC 8032 and RFC 7693, and the folder of keys: made once, read by its owner alone, never by files that others can write.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "base/os.h"
#include "lathe/status.h"
#include "trust/digest.h"
#include "trust/key_store.h"

namespace lathe::trust {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

TEST(Trust, SignsAsTheStandardSays) {
  // RFC 8032, section 7.1, test 2.
  const PrivateKey key = PrivateKey::parse("lathe-private-key-1 4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb\n");
  EXPECT_EQ(hex(key.public_key().bytes), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  Signature signature = sign(key, bytes_of("\x72"));
  EXPECT_EQ(hex(signature.bytes),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
  EXPECT_TRUE(signature.fits(bytes_of("\x72")));
  EXPECT_FALSE(signature.fits(bytes_of("\x73")));
  signature.key = PrivateKey::make().public_key();
  EXPECT_FALSE(signature.fits(bytes_of("\x72")));
}

TEST(Trust, DigestsAsTheStandardSays) {
  // RFC 7693, appendix A.
  EXPECT_EQ(hex(long_digest(bytes_of("abc"))),
            "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923");
  EXPECT_NE(digest(bytes_of("abc")), digest(bytes_of("abd")));
  std::array<std::byte, 2> two;
  EXPECT_TRUE(from_hex("aF09", two));
  EXPECT_EQ(hex(two), "af09");
  for (const char* wrong : {"", "af0", "af091", "af0g", "af 9"}) EXPECT_FALSE(from_hex(wrong, two)) << wrong;
}

TEST(Trust, KeysAreOneLineOfText) {
  const PrivateKey key = PrivateKey::make();
  EXPECT_EQ(PrivateKey::parse(key.text()).public_key(), key.public_key());
  EXPECT_EQ(parse_public_key("  " + key.public_key().text() + "\n"), key.public_key());
  EXPECT_EQ(parse_public_key(hex(key.public_key().bytes)), key.public_key());
  EXPECT_NE(PrivateKey::make().public_key(), key.public_key());
  const auto message = [](auto&& call) {
    try {
      call();
    } catch (const Error& error) {
      return std::string(error.message());
    }
    return std::string("nothing was thrown");
  };
  EXPECT_NE(message([&] { parse_public_key(key.text()); }).find("private half"), std::string::npos);
  EXPECT_NE(message([&] { PrivateKey::parse(key.public_key().text()); }).find("public half"), std::string::npos);
  for (const std::string& wrong : {std::string(), std::string("x"), std::string(63, 'a'), key.text().substr(0, 40), std::string(1, '\0')}) {
    EXPECT_THROW(parse_public_key(wrong), Error);
    EXPECT_THROW(PrivateKey::parse(wrong), Error);
  }
}

class KeyStore : public testing::Test {
 protected:
  void SetUp() override {
    folder = os::make_temp_dir();
    setenv("LATHE_CACHE_DIR", folder.c_str(), 1);
  }
  void TearDown() override {
    unsetenv("LATHE_CACHE_DIR");
    fs::remove_all(folder);
  }
  static mode_t mode(const fs::path& path) {
    struct stat info {};
    return stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
  }
  fs::path folder;
};

TEST_F(KeyStore, TheOwnKeyIsMadeOnceByWhoeverIsFirst) {
  EXPECT_FALSE(read_keys().own);
  // Processes and threads at once: all get the same.
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      const PublicKey key = own_key().public_key();
      std::ofstream(folder / ("seen-" + std::to_string(i))) << hex(key.bytes);
      _exit(0);
    }
    children.push_back(child);
  }
  std::vector<PublicKey> seen(4);
  std::vector<std::thread> threads;
  for (PublicKey& key : seen) threads.emplace_back([&key] { key = own_key().public_key(); });
  for (std::thread& thread : threads) thread.join();
  std::set<std::string> all;
  for (const PublicKey& key : seen) all.insert(hex(key.bytes));
  for (std::size_t i = 0; i < children.size(); ++i) {
    int status = 0;
    waitpid(children[i], &status, 0);
    EXPECT_EQ(status, 0);
    all.insert(os::read_text(folder / ("seen-" + std::to_string(i))));
  }
  EXPECT_EQ(all.size(), 1U);
  EXPECT_EQ(hex(read_keys().own.value().bytes), *all.begin());
  EXPECT_EQ(mode(key_folder() / "own.key"), 0600U);
  EXPECT_EQ(mode(key_folder()), 0700U);
  EXPECT_EQ(std::distance(fs::directory_iterator(key_folder()), fs::directory_iterator()), 1) << "nothing half done is left";
}

TEST_F(KeyStore, FilesThatOthersCanWriteDoNotCount) {
  const PublicKey own = own_key().public_key();
  chmod((key_folder() / "own.key").c_str(), 0640);
  KeyRing ring = read_keys();
  EXPECT_FALSE(ring.own);
  ASSERT_EQ(ring.unusable.size(), 1U);
  EXPECT_NE(ring.unusable[0].find("chmod 600"), std::string::npos) << ring.unusable[0];
  EXPECT_THROW(own_key(), Error) << "and no other takes its place";
  chmod((key_folder() / "own.key").c_str(), 0600);
  EXPECT_EQ(read_keys().own, own);

  const PublicKey alice = PrivateKey::make().public_key();
  trust_key(alice, "alice");
  EXPECT_EQ(read_keys().who(alice), "'alice'");
  const fs::path file = key_folder() / "trusted" / "alice.pub";
  chmod(file.c_str(), 0666);
  EXPECT_FALSE(read_keys().trusts(alice));
  chmod(file.c_str(), 0644);
  EXPECT_TRUE(read_keys().trusts(alice)) << "no secret";
  chmod(file.parent_path().c_str(), 0777);
  ring = read_keys();
  EXPECT_FALSE(ring.trusts(alice)) << "another file could be put in its place";
  EXPECT_EQ(ring.unusable.size(), 1U);
  chmod(file.parent_path().c_str(), 0700);

  std::ofstream(key_folder() / "own.key") << "nonsense";
  ring = read_keys();
  EXPECT_FALSE(ring.own);
  EXPECT_TRUE(ring.trusts(alice)) << "one bad file is one bad file";
}

TEST_F(KeyStore, KeysAreTrustedAndNoLonger) {
  const mode_t before = umask(0002);  // as where every user has a group
  const PublicKey alice = PrivateKey::make().public_key(), bob = PrivateKey::make().public_key();
  trust_key(alice, "alice");
  umask(before);
  trust_key(alice, "alice");
  trust_key(bob, "bob@work");
  EXPECT_THROW(trust_key(bob, "alice"), Error) << "a name stands for one key";
  for (const char* name : {"", "..", ".hidden", "a/b", "../up", "-rf", "two words"}) EXPECT_THROW(trust_key(bob, name), Error) << name;
  KeyRing ring = read_keys();
  ASSERT_EQ(ring.trusted.size(), 2U);
  EXPECT_EQ(ring.trusted[0].name, "alice");
  EXPECT_TRUE(ring.unusable.empty());
  EXPECT_EQ(ring.who(bob), "'bob@work'");
  EXPECT_THROW(distrust_key("carol"), Error);
  EXPECT_THROW(distrust_key("../trusted/alice"), Error);
  EXPECT_EQ(distrust_key(alice.id()), "alice");
  EXPECT_FALSE(read_keys().trusts(alice));
  EXPECT_EQ(distrust_key("bob@work"), "bob@work");
  EXPECT_FALSE(read_keys().trusts(bob));
}

TEST_F(KeyStore, AFolderThatCannotBeMadeIsAnError) {
  std::ofstream(folder / "file") << "x";
  setenv("LATHE_CACHE_DIR", (folder / "file").c_str(), 1);
  EXPECT_THROW(own_key(), Error);
  EXPECT_FALSE(read_keys().own);
}

}  // namespace
}  // namespace lathe::trust
