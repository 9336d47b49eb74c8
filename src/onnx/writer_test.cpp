// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Weights on their way through: never copied while reading, streamed while writing, split off where a single file would grow too large.

#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "base/os.h"
#include "onnx/test_messages.h"

namespace lathe::onnx::testing {
namespace {

namespace f = field;
namespace fs = std::filesystem;

class WriterTest : public ::testing::Test {
 protected:
  WriterTest() : folder_(os::make_temp_dir()) {}
  ~WriterTest() override { fs::remove_all(folder_); }
  std::size_t files() const { return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), {})); }
  fs::path folder_;
};

std::string with_weights(std::size_t floats, int tensors = 1) {
  Parts parts;
  for (int i = 0; i < tensors; ++i) {
    std::vector<float> values(floats);
    for (std::size_t k = 0; k < floats; ++k) values[k] = static_cast<float>(k % 1000 + static_cast<std::size_t>(i));
    parts.emplace_back(f::graph::kInitializer,
                       testing::tensor("w" + std::string(1, static_cast<char>('0' + i)), DType::kFloat32, {static_cast<std::int64_t>(floats)}, raw_of(values)));
  }
  return testing::model(relu_graph(parts));
}

TEST_F(WriterTest, AHundredMegabytesAreReadWithoutACopy) {
  const fs::path path = folder_ / "big.onnx", copy = folder_ / "copy.onnx";
  {
    const std::string bytes = with_weights(25u << 20);
    os::AtomicFile file(path);
    file.write(bytes);
    file.commit();
  }
  ASSERT_GT(fs::file_size(path), 100u << 20);
  const std::size_t before = os::current_rss_bytes();
  const auto model = read_model(path);
  const std::size_t after_reading = os::current_rss_bytes();
  EXPECT_LT(after_reading, before + (5u << 20));
  EXPECT_EQ(model->graph->find("w0")->constant.dims(), Dims{25 << 20});
  // Mapped pages count while they are touched, so only what writing allocates shows: the peak of the heap stays far below a copy.
  const auto clone = model->clone();
  EXPECT_EQ(clone->graph->find("w0")->constant.raw(), model->graph->find("w0")->constant.raw());
  write_model(*model, copy);
  EXPECT_EQ(fs::file_size(copy), fs::file_size(path));
  const auto again = read_model(copy);
  EXPECT_TRUE(again->graph->find("w0")->constant.same_bytes(model->graph->find("w0")->constant));
}

TEST_F(WriterTest, LargeModelsAreSplit) {
  const auto model = read(with_weights(3000, 3));
  WriteOptions options;
  options.single_file_limit = 20000;
  options.external_threshold = 1024;
  const fs::path path = folder_ / "m.onnx";
  write_model(*model, path, options);
  EXPECT_TRUE(fs::exists(folder_ / "m.onnx.data"));
  EXPECT_LT(fs::file_size(path), 2000u);
  const auto again = read_model(path);
  for (const char* name : {"w0", "w1", "w2"}) EXPECT_TRUE(again->graph->find(name)->constant.same_bytes(model->graph->find(name)->constant)) << name;
  // Moved elsewhere both files go together.
  fs::create_directory(folder_ / "sub");
  fs::rename(path, folder_ / "sub" / "m.onnx");
  EXPECT_THROW(read_model(folder_ / "sub" / "m.onnx"), Error);
  fs::rename(folder_ / "m.onnx.data", folder_ / "sub" / "m.onnx.data");
  EXPECT_NO_THROW(read_model(folder_ / "sub" / "m.onnx"));
}

TEST_F(WriterTest, WritingOverTheFileThatIsMapped) {
  const fs::path path = folder_ / "m.onnx";
  { std::ofstream(path, std::ios::binary) << with_weights(5000); }
  const auto model = read_model(path);
  write_model(*model, path);  // renames over it; the mapping keeps the old one
  EXPECT_TRUE(read_model(path)->graph->find("w0")->constant.same_bytes(model->graph->find("w0")->constant));
}

TEST_F(WriterTest, ReferencesInsteadOfData) {
  const auto model = read(with_weights(1000));
  WriteOptions options;
  options.external_location = [](const ir::Value& value) { return "blob/" + value.name; };
  const std::string bytes = model_bytes(*model, options);
  EXPECT_LT(bytes.size(), 500u);
  EXPECT_NE(bytes.find("blob/w0"), std::string::npos);
}

TEST_F(WriterTest, EqualModelsGiveEqualBytes) {
  const std::string bytes = with_weights(10, 3);
  EXPECT_EQ(model_bytes(*read(bytes)), model_bytes(*read(bytes)->clone()));
}

TEST_F(WriterTest, NothingIsLeftWhereWritingFails) {
  const auto model = read(with_weights(1 << 16));
  EXPECT_THROW(write_model(*model, folder_ / "no" / "such" / "folder.onnx"), Error);
  EXPECT_EQ(files(), 0u);
  // A file that cannot grow beyond 64 KiB stands for a full disk.
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{64 << 10, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  Code code = Code::kOk;
  try {
    write_model(*model, folder_ / "m.onnx");
  } catch (const Error& error) {
    code = error.code();
  }
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(code, Code::kIo);
  EXPECT_EQ(files(), 0u);
}

}  // namespace
}  // namespace lathe::onnx::testing
