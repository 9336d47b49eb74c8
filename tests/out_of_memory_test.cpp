// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Memory that ends anywhere on the way from an engine file to results: allocation number n fails, for n = 1, 2, 3, ... until the whole
// passes. Each failure is an Error or a Status "out of memory", leaves nothing behind, and the next try with the same objects gives the
// same bits. The engines are the golden ones: between them they have a step of almost every kernel, reference steps included.
//
//   out_of_memory_test --cold FILE   the walk of a process that has not loaded anything yet, for TheFirstLoadOfAProcess

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "base/failing_allocations.h"
#include "base/sanitizers.h"
#include "lathe/lathe.h"
#include "lathe/lathe.hpp"

namespace lathe {
namespace {

const char* const kEngines[] = {"image", "sequence"};

std::filesystem::path path_of(const std::string& name) { return std::filesystem::path(LATHE_GOLDEN_DIR) / (name + ".engine"); }

std::vector<std::byte> bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

/// One call at a batch size. Everything that it needs is allocated before.
struct Call {
  std::vector<std::int64_t> shape;
  std::vector<float> pixels;
  ConstTensorView view;
  Call(const Engine& engine, std::int64_t batch) : shape(engine.inputs().front().tuned_shape) {
    shape[0] = batch;
    std::size_t elements = 1;
    for (const std::int64_t extent : shape) elements *= static_cast<std::size_t>(extent);
    pixels.resize(elements);
    for (std::size_t i = 0; i < elements; ++i) pixels[i] = static_cast<float>(i % 13) / 8.0F - 0.7F;
    view = {pixels.data(), DType::kFloat32, shape};
  }
  Call(const Call&) = delete;
  Status run(Context& context) const { return context.run(std::span(&view, 1)); }
};

std::string results(const Context& context, std::size_t outputs) {
  std::string bits;
  for (std::size_t i = 0; i < outputs; ++i) {
    const ConstTensorView view = context.output(i);
    std::int64_t elements = 1;
    for (const std::int64_t extent : view.shape) elements *= extent;
    bits.append(static_cast<const char*>(view.data), dtype_bytes(view.dtype, elements));
  }
  return bits;
}

/// Two classes of shapes, the second at two sizes, and back.
constexpr std::array<std::int64_t, 4> kBatches{1, 3, 2, 1};

struct Expected {
  std::vector<std::unique_ptr<Call>> calls;
  std::vector<std::string> bits;
  explicit Expected(const Engine& engine) {
    Context context = engine.create_context();
    for (const std::int64_t batch : kBatches) {
      calls.push_back(std::make_unique<Call>(engine, batch));
      const Status status = calls.back()->run(context);
      if (!status) throw Error(status.code(), std::string(status.message()));
      bits.push_back(results(context, engine.outputs().size()));
    }
  }
};

// Under a sanitizer a part of the numbers, in strides that divide nothing: ten times slower, and a forked process slower still.
constexpr bool kSanitized = LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER;
constexpr std::int64_t kStride = kSanitized ? 7 : 1, kColdStride = kSanitized ? 23 : 1;

/// Calls `attempt` while allocation n fails, n = 1, 2, ..., until none fails any more. The last number that failed.
std::int64_t walk(bool ever_after, const std::function<void(std::int64_t)>& attempt) {
  for (std::int64_t nth = 1;; nth += kStride) {
    test::fail_allocation(nth, ever_after);
    attempt(nth);
    test::stop_failing();
    if (!test::allocation_failed()) return nth - kStride;
    if (testing::Test::HasFailure()) return nth;
  }
}

void expect_out_of_memory(const Error& error, std::int64_t nth) {
  test::stop_failing();
  EXPECT_EQ(error.code(), Code::kOutOfMemory) << "allocation " << nth << ": " << error.what();
  EXPECT_NE(std::string_view(error.what()).find("memory"), std::string_view::npos) << "allocation " << nth << ": " << error.what();
}

TEST(OutOfMemory, LoadingAnEngine) {
  for (const std::string name : kEngines) {
    const std::filesystem::path path = path_of(name);
    const std::vector<std::byte> bytes = bytes_of(path);
    Engine::load(bytes);  // what a process makes once
    Engine::load(path);
    for (const bool ever_after : {false, true})
      for (const bool from_file : {false, true}) {
        const std::int64_t before = test::live_blocks();
        const std::int64_t failures = walk(ever_after, [&](std::int64_t nth) {
          try {
            if (from_file) Engine::load(path);
            else Engine::load(bytes);
          } catch (const Error& error) {
            expect_out_of_memory(error, nth);
          }
        });
        EXPECT_EQ(test::live_blocks(), before) << name;
        EXPECT_GT(failures, 200) << name;
      }
    const Engine engine = Engine::load(bytes);
    EXPECT_NO_THROW(Expected{engine});
  }
}

TEST(OutOfMemory, RunningAnEngine) {
  for (const std::string name : kEngines) {
    const Engine engine = Engine::load(path_of(name));
    const std::size_t outputs = engine.outputs().size();
    const Expected expected(engine);
    for (const bool ever_after : {false, true}) {
      const std::int64_t before = test::live_blocks();
      std::int64_t refused = 0;
      const std::int64_t failures = walk(ever_after, [&](std::int64_t nth) {
        std::optional<Context> context;
        try {
          context.emplace(engine.create_context());
        } catch (const Error& error) {
          expect_out_of_memory(error, nth);
          ++refused;
          return;
        }
        for (std::size_t i = 0; i < expected.calls.size(); ++i) {
          Status status = expected.calls[i]->run(*context);
          if (!status) {
            ++refused;
            ASSERT_EQ(status.code(), Code::kOutOfMemory) << "allocation " << nth << ": " << status.message();
            test::stop_failing();  // the same context goes on as soon as there is memory again
            status = expected.calls[i]->run(*context);
            ASSERT_TRUE(status) << "after allocation " << nth << ": " << status.message();
          }
          const std::int64_t left = test::allocation_rules.countdown.exchange(0);
          EXPECT_EQ(results(*context, outputs), expected.bits[i]) << "allocation " << nth << ", run " << i;
          test::allocation_rules.countdown = left;
        }
      });
      EXPECT_EQ(test::live_blocks(), before) << name;
      EXPECT_GT(failures, 200) << name;
      EXPECT_GT(refused, ever_after ? failures / kStride / 2 : 2) << name;
    }
  }
}

/// The application's own source of activations, which gives nothing at call number `nth`.
struct StingyAllocator final : Allocator {
  void* allocate(std::size_t bytes, std::size_t alignment, MemorySpace space, void* stream) noexcept override {
    if (++calls == nth) return nullptr;
    void* block = default_allocator().allocate(bytes, alignment, space, stream);
    live += block != nullptr;
    return block;
  }
  void deallocate(void* pointer, std::size_t bytes, MemorySpace space, void* stream) noexcept override {
    --live;
    default_allocator().deallocate(pointer, bytes, space, stream);
  }
  int calls = 0, nth = 0, live = 0;
};

TEST(OutOfMemory, AnApplicationsAllocator) {
  for (const std::string name : kEngines) {
    const Engine engine = Engine::load(path_of(name));
    const Expected expected(engine);
    int refused = 0;
    StingyAllocator allocator;
    for (allocator.nth = 1;; ++allocator.nth) {
      allocator.calls = 0;
      {
        Context context = engine.create_context(&allocator);
        for (std::size_t i = 0; i < expected.calls.size(); ++i) {
          Status status = expected.calls[i]->run(context);
          if (!status) {
            ++refused;
            EXPECT_EQ(status.code(), Code::kOutOfMemory) << status.message();
            EXPECT_NE(status.message().find("the allocator gave no"), std::string_view::npos) << status.message();
            status = expected.calls[i]->run(context);
          }
          ASSERT_TRUE(status) << "call " << allocator.nth << ": " << status.message();
          EXPECT_EQ(results(context, engine.outputs().size()), expected.bits[i]) << "call " << allocator.nth;
        }
      }
      EXPECT_EQ(allocator.live, 0) << "call " << allocator.nth;
      if (allocator.calls < allocator.nth) break;
    }
    EXPECT_GT(allocator.nth, 3) << name;
    // A class that has no memory at its largest shape is tried at the shape that came: one refusal alone need not show.
    StingyAllocator none;
    Context context = engine.create_context(&none);
    for (none.nth = 1; none.nth < 8; ++none.nth) {
      none.calls = none.nth - 1;
      (void)expected.calls[0]->run(context);
    }
    none.nth = 0;
    ASSERT_TRUE(expected.calls[0]->run(context));
    EXPECT_EQ(results(context, engine.outputs().size()), expected.bits[0]);
  }
}

TEST(OutOfMemory, TheCApi) {
  const std::string path = path_of("image");
  const auto attempt = [&](lathe_engine*& engine, lathe_context*& context) {
    lathe_status status = lathe_engine_load(path.c_str(), &engine);
    if (status == LATHE_OK) status = lathe_context_create(engine, &context);
    return status;
  };
  const auto put_away = [](lathe_engine*& engine, lathe_context*& context) {
    lathe_context_destroy(context);
    lathe_engine_destroy(engine);
    context = nullptr;
    engine = nullptr;
  };
  lathe_engine* engine = nullptr;
  lathe_context* context = nullptr;
  ASSERT_EQ(attempt(engine, context), LATHE_OK);
  put_away(engine, context);
  const std::int64_t before = test::live_blocks();
  const std::int64_t failures = walk(true, [&](std::int64_t nth) {
    const lathe_status status = attempt(engine, context);
    test::stop_failing();
    EXPECT_EQ(status, test::allocation_failed() ? LATHE_OUT_OF_MEMORY : LATHE_OK) << "allocation " << nth << ": " << lathe_last_error();
    put_away(engine, context);
  });
  EXPECT_EQ(test::live_blocks(), before);
  EXPECT_GT(failures, 200);
}

// Cold --------------------------------------------------------------------------------------------------------------

enum ColdResult : int { kRecovered = 0, kNothingFailed = 10, kWrong = 11 };

/// In a child that has loaded nothing: from the file to two runs with one failing allocation, then the same without.
int cold_attempt(const std::filesystem::path& path, std::int64_t nth, const std::vector<float>& pixels, const std::vector<std::int64_t>& shape) {
  const ConstTensorView view{pixels.data(), DType::kFloat32, shape};
  const auto attempt = [&](bool may_fail) {
    try {
      const Engine engine = Engine::load(path);
      Context context = engine.create_context();
      for (int i = 0; i < 2; ++i) {
        const Status status = context.run(std::span(&view, 1));
        if (!status && !(may_fail && status.code() == Code::kOutOfMemory)) {
          std::fprintf(stderr, "allocation %lld: %.*s\n", static_cast<long long>(nth), static_cast<int>(status.message().size()), status.message().data());
          return false;
        }
      }
      return true;
    } catch (const Error& error) {
      if (may_fail && error.code() == Code::kOutOfMemory) return true;
      std::fprintf(stderr, "allocation %lld: %s\n", static_cast<long long>(nth), error.what());
      return false;
    }
  };
  test::fail_allocation(nth);
  const bool good = attempt(true);
  test::stop_failing();
  if (!good || !attempt(false)) return kWrong;
  return test::allocation_failed() ? kRecovered : kNothingFailed;
}

int cold(const std::filesystem::path& path) {
  // The input of "image"; this process must not ask an engine for it.
  const std::vector<std::int64_t> shape{1, 3, 20, 28};
  const std::vector<float> pixels(3 * 20 * 28, 0.25F);
  for (std::int64_t nth = 1;; nth += kColdStride) {
    const pid_t child = fork();
    if (child < 0) return kWrong;
    if (child == 0) _exit(cold_attempt(path, nth, pixels, shape));
    int state = 0;
    waitpid(child, &state, 0);
    if (WIFEXITED(state) && WEXITSTATUS(state) == kRecovered) continue;
    if (WIFEXITED(state) && WEXITSTATUS(state) == kNothingFailed) return nth > 200 ? 0 : kWrong;
    std::fprintf(stderr, "allocation %lld: the process ended with state %d\n", static_cast<long long>(nth), state);
    return kWrong;
  }
}

std::string program;

TEST(OutOfMemory, TheFirstLoadOfAProcess) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const std::string path = path_of("image");
    execl(program.c_str(), program.c_str(), "--cold", path.c_str(), static_cast<char*>(nullptr));
    _exit(kWrong);
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  EXPECT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == 0) << "state " << state;
}

}  // namespace
}  // namespace lathe

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--cold") == 0) return lathe::cold(argv[2]);
  lathe::program = argv[0];
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
