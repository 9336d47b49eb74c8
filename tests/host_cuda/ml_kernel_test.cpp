// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernels of tree ensembles and support vector machines, as they are, on the CPU: every launch of a plan, bit by bit as the ops' references, since
// they add in the same order. And tables that would lead them astray, which are refused.

#include "../gpu/ml_cases.h"
#include "base/sanitizers.h"
#include "host_cuda.h"
#include "ops/ml/svm_plan.h"
#include "ops/ml/trees_plan.h"

#undef __shared__
#define __shared__ static
#include "ops/ml/svm.cu"
#include "ops/ml/trees.cu"

namespace lathe {
namespace {

/// What `use` is given begins at a multiple of 64 bytes, as the runtime has it, and nothing behind it may be written.
template <class Use>
void with_memory(std::size_t bytes, Use use) {
  std::vector<std::byte> memory(bytes + 192, std::byte{0xFF});  // NaN: what is read before it is written shows
  std::byte* const begin = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
  use(begin);
  for (const std::byte* at = begin + bytes; at < memory.data() + memory.size(); ++at) ASSERT_EQ(*at, std::byte{0xFF}) << "written behind the workspace";
}

void run(const ops::TreesPlan& plan, testing_gpu::MlTensors& t) {
  with_memory(t.tables.size(), [&](std::byte* tables) {
    std::memcpy(tables, t.tables.data(), t.tables.size());
    with_memory(plan.scratch_bytes(), [&](std::byte* scratch) {
      cuda::TreesParams p = plan.params;
      plan.set_addresses(p, tables, scratch);
      p.rows.x = t.x.data();
      p.rows.labels = t.wanted_labels.defined() ? reinterpret_cast<long long*>(t.labels.data()) : nullptr;
      p.rows.scores = t.wanted_scores.defined() ? t.scores.data() : nullptr;
      const bool wide = plan.header.wide != 0;
      // No block, no launch.
      ASSERT_EQ(host_cuda::launch(plan.walk_grid, 1, 1, cuda::kTreesThreads, [&] { wide ? trees_walk_double(p) : trees_walk_float(p); }), "");
      ASSERT_EQ(host_cuda::launch(plan.finish_grid, 1, 1, cuda::kTreesFinishThreads, [&] { wide ? trees_finish_double(p) : trees_finish_float(p); }), "");
    });
  });
}

ops::TreesPlan plan_of(const testing_gpu::MlTensors& t, std::span<const std::byte> tables, std::string& why) {
  ops::TreesPlan plan;
  const std::vector<plan::TensorDesc> ins{t.x.desc}, outs = t.outputs();
  if (ops::trees_spec(t.params, plan.spec, why) && ops::trees_read(tables, plan, why)) ops::trees_plan(ins, outs, plan, why);
  return plan;
}

TEST(TreesKernels, VoteAsTheReferenceDoes) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers do not follow fibers";
#endif
  for (const testing_gpu::MlCase& c : testing_gpu::tree_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::MlTensors t(c);
    std::string why;
    const ops::TreesPlan plan = plan_of(t, t.tables, why);
    ASSERT_EQ(why, "");
    run(plan, t);
    if (HasFailure()) return;
    t.compare(true);
    if (HasFailure()) return;
  }
}

/// An engine file may say anything.
TEST(TreesKernels, RefuseTablesThatLeadAstray) {
  ops::testing::Random random{5};
  testing_gpu::MlTensors t({.op = "TreeEnsemble", .attrs = ops::testing::ensemble(DType::kFloat32, true, random), .dims = {9, 3}, .targets = 2});
  std::string why;
  const ops::TreesPlan good = plan_of(t, t.tables, why);
  ASSERT_EQ(why, "");
  ASSERT_GT(good.header.sets, 0);
  const auto refuses = [&](std::size_t at, auto value, const char* what) {
    std::vector<std::byte> damaged = t.tables;
    std::memcpy(damaged.data() + at, &value, sizeof value);
    std::string reason;
    plan_of(t, damaged, reason);
    EXPECT_NE(reason, "") << what << ": " << value;
  };
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{8}, sizeof(ops::TreesHeader), t.tables.size() - 1}) {
    std::string reason;
    plan_of(t, std::span(t.tables).first(bytes), reason);
    EXPECT_NE(reason, "") << bytes << " bytes";
  }
  constexpr std::int64_t kFar = std::int64_t{1} << 40;
  for (std::size_t field = 0; field < sizeof(ops::TreesHeader) / sizeof(std::int64_t); ++field)
    for (const std::int64_t value : {std::int64_t{-1}, std::int64_t{1000}, kFar, -kFar}) refuses(field * sizeof value, value, "a count");
  for (const int value : {-1000, 1000, 2147483647, static_cast<int>(-2147483647 - 1)}) {
    refuses(good.layout.roots, value, "a root");
    refuses(good.layout.nodes + offsetof(cuda::TreesNode, yes), value, "a branch");
    refuses(good.layout.nodes + sizeof(cuda::TreesNode) + offsetof(cuda::TreesNode, no), value, "a branch");
    refuses(good.layout.sets, value, "a set's members");
    refuses(good.layout.sets + 4, value, "a set's members");
    refuses(good.layout.leaves, value, "a leaf's votes");
    refuses(good.layout.leaves + 4, value, "a leaf's votes");
    refuses(good.layout.targets, value, "a target");
  }
  refuses(good.layout.nodes + offsetof(cuda::TreesNode, yes), 0, "a branch back");
  refuses(good.layout.nodes, 3u, "a feature");
  refuses(good.layout.nodes, cuda::kTreesFeatures - 1, "a feature");
  for (std::int64_t i = 0; i < good.header.nodes; ++i) {
    cuda::TreesNode node;
    const std::size_t at = good.layout.nodes + static_cast<std::size_t>(i) * sizeof node;
    std::memcpy(&node, t.tables.data() + at, sizeof node);
    if (node.test / cuda::kTreesFeatures & cuda::kTreesMember) refuses(at + offsetof(cuda::TreesNode, split), 1000u, "a set");
  }
  // A type for which the tables are not made; parameters of no step.
  t.x.desc.dtype = DType::kFloat64;
  plan_of(t, t.tables, why);
  EXPECT_NE(why, "");
  t.x.desc.dtype = DType::kFloat32;
  for (const auto& [name, value] : {std::pair{"targets", 0}, {"targets", 3}, {"aggregate", 4}, {"transform", -1}, {"single", 1}, {"classifies", 1}}) {
    testing_gpu::MlTensors other({.op = "TreeEnsemble", .attrs = t.alone.node->attrs, .dims = {9, 3}, .targets = 2});
    other.params.set(name, value);
    why.clear();
    plan_of(other, other.tables, why);
    EXPECT_NE(why, "") << name << " " << value;
  }
}

ops::SvmPlan svm_plan_of(const testing_gpu::MlTensors& t, std::span<const std::byte> lists, std::string& why) {
  ops::SvmPlan plan;
  const std::vector<plan::TensorDesc> ins{t.x.desc}, outs = t.outputs();
  if (ops::svm_spec(t.params, plan.spec, why) && ops::svm_read(lists, plan, why)) ops::svm_plan(ins, outs, plan, why);
  return plan;
}

TEST(SvmKernels, DecideAsTheReferenceDoes) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers do not follow fibers";
#endif
  for (const testing_gpu::MlCase& c : testing_gpu::svm_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::MlTensors t(c);
    std::string why;
    const ops::SvmPlan plan = svm_plan_of(t, t.tables, why);
    ASSERT_EQ(why, "");
    with_memory(t.tables.size(), [&](std::byte* lists) {
      std::memcpy(lists, t.tables.data(), t.tables.size());
      with_memory(plan.scratch_bytes(), [&](std::byte* scratch) {
        cuda::SvmParams params = plan.params;
        plan.set_addresses(params, lists, scratch);
        params.rows.x = t.x.data();
        params.rows.labels = t.wanted_labels.defined() ? reinterpret_cast<long long*>(t.labels.data()) : nullptr;
        params.rows.scores = t.wanted_scores.defined() ? t.scores.data() : nullptr;
        ASSERT_TRUE(ops::svm_launches(plan, params, [&](ops::SvmKernelKind kind, unsigned grid, const cuda::SvmParams& p) {
          const auto kernel = kind == ops::SvmKernelKind::kRespond ? svm_respond : kind == ops::SvmKernelKind::kDecide ? svm_decide : svm_finish;
          const std::string wrong = host_cuda::launch(grid, 1, 1, cuda::kSvmThreads, [&] { kernel(p); });
          EXPECT_EQ(wrong, "");
          return wrong.empty();
        }));
      });
    });
    if (HasFailure()) return;
    t.compare(true);
    if (HasFailure()) return;
  }
}

TEST(SvmKernels, RefuseListsThatLeadAstray) {
  ops::testing::Random random{6};
  testing_gpu::MlTensors t({.op = "SVMClassifier", .attrs = ops::testing::support_vectors_of_classes(3, 5, true, random), .dims = {9, 5}, .targets = 3});
  std::string why;
  const ops::SvmPlan good = svm_plan_of(t, t.tables, why);
  ASSERT_EQ(why, "");
  const auto refuses = [&](std::size_t at, auto value, const char* what) {
    std::vector<std::byte> damaged = t.tables;
    std::memcpy(damaged.data() + at, &value, sizeof value);
    std::string reason;
    svm_plan_of(t, damaged, reason);
    EXPECT_NE(reason, "") << what << ": " << value;
  };
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{8}, sizeof(ops::SvmHeader), t.tables.size() - 1}) {
    std::string reason;
    svm_plan_of(t, std::span(t.tables).first(bytes), reason);
    EXPECT_NE(reason, "") << bytes << " bytes";
  }
  constexpr std::int64_t kFar = std::int64_t{1} << 60;
  for (std::size_t field = 0; field < sizeof(ops::SvmHeader) / sizeof(std::int64_t); ++field)
    for (const std::int64_t value : {std::int64_t{-1}, std::int64_t{1000}, kFar, -kFar}) refuses(field * sizeof value, value, "a count");
  for (std::size_t i = 0; i < 4; ++i)
    for (const int value : {-1, 1000, 2147483647}) refuses(good.layout.starts_at + i * sizeof value, value, "a class's vectors");
  refuses(good.layout.starts_at, 1, "a class's vectors");
  testing_gpu::MlTensors narrow({.op = "SVMClassifier", .attrs = t.alone.node->attrs, .dims = {9, 5}, .targets = 3});
  narrow.x.desc.dims[1] = 4;
  svm_plan_of(narrow, narrow.tables, why);
  EXPECT_NE(why, "");
  for (const char* name : {"kind", "transform"})
    for (const int value : {-1, 9}) {
      t.params.set(name, value);
      why.clear();
      svm_plan_of(t, t.tables, why);
      EXPECT_NE(why, "") << name << " " << value;
      t.params.erase(name);
    }
}

}  // namespace
}  // namespace lathe
