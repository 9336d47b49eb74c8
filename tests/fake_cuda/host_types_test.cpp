// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Operators whose lowerings serve every type and mode of theirs, as steps of an engine on the driver that checks every call: none runs on the host.

#include <cmath>

#include "engine_fixture.h"

namespace lathe {
namespace {

using builder::test::ModelMaker;

class NoHostStepsOfTypes : public FakeEngine {};

/// Results padded to fewer places than are taken where no run tells a count: cut on the device none the less.
TEST_F(NoHostStepsOfTypes, FewerPlacesThanTakenForACount) {
  ir::Attrs first;
  first.set("axis", std::int64_t{0});
  for (const char* op : {"NonZero", "Compress", "Unique", "NonMaxSuppression"}) {
    SCOPED_TRACE(op);
    ModelMaker m(6);
    ir::Value* y = nullptr;
    if (op == std::string("NonZero")) y = m.add(op, {m.input("x", {3, 2})});
    if (op == std::string("Compress")) y = m.add(op, {m.input("x", {6, 3}), m.input("which", {6}, DType::kBool)}, first);
    if (op == std::string("Unique")) y = m.add_all(op, {m.input("x", {6, 3})}, 1, first)->output(0);
    if (op == std::string("NonMaxSuppression"))
      y = m.add(op, {m.input("boxes", {1, 6, 4}), m.input("scores", {1, 2, 6}), m.ints({3}), m.weight({1}, 1), m.weight({1}, 1)});
    const builder::BuildResult built = builder::build_engine(m.finish({y}), options());
    EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
  }
}

/// Preparation of tables, as exporters write it: of double and of integers too.
TEST_F(NoHostStepsOfTypes, FeaturesOfDoubleAndIntegers) {
  const ir::Dim rows = ir::Dim::symbol("rows");
  ir::Attrs scaled, norm, filled, hot, labels;
  scaled.set("offset", std::vector<float>{1, 2, 3, 4});
  norm.set("norm", "L2");
  filled.set("imputed_value_floats", std::vector<float>{1});
  filled.set("imputed_value_int64s", std::vector<std::int64_t>{1});
  hot.set("cats_int64s", std::vector<std::int64_t>{1, 5});
  labels.set("keys_floats", std::vector<float>{1, NAN, 3});
  labels.set("values_int64s", std::vector<std::int64_t>{1, 2, 3});
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64}) {
    SCOPED_TRACE(dtype_name(type));
    ModelMaker m(5);
    ir::Value* x = m.input("x", {rows, 4}, type);
    std::vector<ir::Value*> outputs{m.add("ai.onnx.ml::Scaler", {x}, scaled), m.add("ai.onnx.ml::Normalizer", {x}, norm),
                                    m.add("ai.onnx.ml::Imputer", {x}, filled), m.add("ai.onnx.ml::Binarizer", {x}),
                                    m.add("ai.onnx.ml::OneHotEncoder", {x}, hot)};
    if (type == DType::kFloat32) outputs.push_back(m.add("ai.onnx.ml::LabelEncoder", {x}, labels));
    const builder::BuildResult built = builder::build_engine(m.finish(outputs), options());
    EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
  }
}

TEST_F(NoHostStepsOfTypes, StatisticsOfTraining) {
  ModelMaker m(5);
  ir::Attrs training;
  training.set("training_mode", std::int64_t{1});
  ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 3, 8, 8});
  const ir::Node* norm = m.add_all("BatchNormalization", {x, m.weight({3}, 3), m.weight({3}, 3), m.weight({3}, 3), m.weight({3}, 3)}, 3, training);
  const builder::BuildResult built = builder::build_engine(m.finish({norm->output(0), norm->output(1), norm->output(2)}), options());
  EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
}

TEST_F(NoHostStepsOfTypes, MasksThatKeepEverything) {
  ModelMaker m(5);
  const ir::Node* dropout = m.add_all("Dropout", {m.input("x", {ir::Dim::symbol("batch"), 8})}, 2);
  const builder::BuildResult built = builder::build_engine(m.finish({m.add("Exp", {dropout->output(0)}), dropout->output(1)}), options());
  EXPECT_FALSE(built.engine.sections[0].program.dynamic);
  EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
}

TEST_F(NoHostStepsOfTypes, MeansAndLengthsOfIntegers) {
  for (const char* op : {"ReduceMean", "ReduceL2"})
    for (const DType type : {DType::kInt32, DType::kInt64, DType::kUint32, DType::kUint64}) {
      SCOPED_TRACE(std::string(op) + " of " + std::string(dtype_name(type)));
      ModelMaker m(5);
      ir::Value* y = m.add(op, {m.input("x", {ir::Dim::symbol("batch"), 8}, type), m.ints({1})});
      const builder::BuildResult built = builder::build_engine(m.finish({y}), options());
      EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
    }
}

}  // namespace
}  // namespace lathe
