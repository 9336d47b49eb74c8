// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Operators whose lowerings serve every type and mode of theirs, as steps of an engine on the driver that checks every call: none runs on the host.

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

}  // namespace
}  // namespace lathe
