// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Attention and normalised rows as steps of an engine, on the driver that checks every call: which of them are chosen, and that they run at any batch
// and length.

#include <algorithm>

#include "engine_fixture.h"
#include "regions/attention/test_models.h"

namespace lathe {
namespace {

using builder::test::attention_model;
using builder::test::AttentionCase;
using builder::test::Mask;
using builder::test::ModelMaker;
using builder::test::Spelling;

class Transformers : public FakeEngine {
 protected:
  static int steps_by(const engine::EngineData& data, std::string_view kernel) {
    const auto& steps = data.sections[0].program.steps;
    return static_cast<int>(std::count_if(steps.begin(), steps.end(), [&](const plan::Step& step) { return step.kernel == kernel; }));
  }
  static Status run(runtime::Context& context, std::int64_t batch, std::int64_t tokens, std::int64_t width, bool masked) {
    std::vector<float> x(static_cast<std::size_t>(batch * tokens * width), 1), mask(static_cast<std::size_t>(batch * tokens));
    const std::int64_t dims[] = {batch, tokens, width}, mask_dims[] = {batch, 1, 1, tokens};
    const runtime::InputView views[] = {{x.data(), DType::kFloat32, dims}, {mask.data(), DType::kFloat32, mask_dims}};
    return context.run(std::span(views, masked ? 2 : 1), {});
  }
};

TEST_F(Transformers, AnAttentionIsOneStepBehindOneProjection) {
  for (const Spelling spelling : {Spelling::kSeparate, Spelling::kSplit}) {
    AttentionCase c;
    c.batch = ir::Dim::symbol("batch");
    c.queries = c.keys = ir::Dim::symbol("tokens");
    c.heads = 3;
    c.mask = Mask::kKeys;
    c.spelling = spelling;
    builder::BuildResult built = builder::build_engine(attention_model(c), options("fp16"));
    EXPECT_EQ(steps_by(built.engine, "cuda.attention"), 1);
    EXPECT_EQ(steps_by(built.engine, "cuda.matmul"), 2) << "queries, keys and values together, and the one behind";
    const auto engine = runtime::Engine::create(std::move(built.engine));
    runtime::Context context(engine);
    for (const auto& [batch, tokens] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {2, 60}, {16, 520}, {1, 197}, {7, 3}, {2, 60}}) {
      const Status status = run(context, batch, tokens, 192, true);
      ASSERT_TRUE(status) << batch << "x" << tokens << ": " << status.message();
    }
  }
}

TEST_F(Transformers, WideHeadsAndFloat32AreNoSuchStep) {
  AttentionCase wide;
  wide.size = 136;
  EXPECT_EQ(steps_by(builder::build_engine(attention_model(wide), options("fp16")).engine, "cuda.attention"), 0);
  EXPECT_EQ(steps_by(builder::build_engine(attention_model({}), options("fp32")).engine, "cuda.attention"), 0);
  EXPECT_EQ(steps_by(builder::build_engine(attention_model({}), options("bf16")).engine, "cuda.attention"), 1);
}

TEST_F(Transformers, HeadsOfOddLengthRunToo) {
  AttentionCase c;
  c.size = c.value_size = 17;
  c.heads = 1;
  c.spelling = Spelling::kSplit;
  builder::BuildResult built = builder::build_engine(attention_model(c), options("fp16"));
  ASSERT_EQ(steps_by(built.engine, "cuda.attention"), 1);
  const auto engine = runtime::Engine::create(std::move(built.engine));
  runtime::Context context(engine);
  const Status status = run(context, 1, 16, 17, false);
  EXPECT_TRUE(status) << status.message();
}

TEST_F(Transformers, RowsAreNormalisedByTheirOwnKernel) {
  struct Case {
    ir::Shape x;
    Dims scale;
    std::int64_t axis;
    int steps;
  };
  const ir::Dim batch = ir::Dim::symbol("batch");
  for (const Case& c : {Case{{batch, 8, 8}, {8}, -1, 1},
                        {{batch, 8, 8}, {1, 1, 8}, -1, 1},
                        {{batch, 6, 8}, {6, 8}, 1, 1},
                        // One number per row, not per column; a scale for every token; a single number.
                        {{batch, 8, 8}, {8, 1}, -1, 0},
                        {{batch, 6, 8}, {6, 8}, -1, 0},
                        {{batch, 6, 8}, {1}, -1, 0}}) {
    SCOPED_TRACE(ir::to_string(c.x) + " by " + to_string(c.scale));
    ModelMaker m(2);
    const auto model = m.finish({m.add("LayerNormalization", {m.input("x", c.x), m.weight(c.scale, 16, 1)}, builder::test::attrs_of("axis", c.axis))});
    builder::BuildResult built = builder::build_engine(model, options("fp16"));
    EXPECT_EQ(steps_by(built.engine, "cuda.row_norm"), c.steps);
    const auto engine = runtime::Engine::create(std::move(built.engine));
    runtime::Context context(engine);
    for (const std::int64_t n : {2, 1, 9}) {
      std::vector<float> x(static_cast<std::size_t>(n * 8 * 8), 1);
      const std::int64_t dims[] = {n, *c.x[1].constant(), 8};
      const runtime::InputView view{x.data(), DType::kFloat32, dims};
      const Status status = context.run(std::span(&view, 1), {});
      ASSERT_TRUE(status) << status.message();
    }
  }
}

}  // namespace
}  // namespace lathe
