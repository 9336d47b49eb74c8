// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The checker's parts that Python does not see: the table of schemas, the codes, printable texts. What it finds is tested in tests/test_check.py.

#include "lathe/check.h"

#include <gtest/gtest.h>

#include <set>

#include "base/printable.h"
#include "check/codes.h"
#include "check/schema_table.h"
#include "check/tree.h"
#include "onnx/test_messages.h"
#include "ops/registry.h"

namespace lathe::checker {
namespace {

TEST(SchemaTable, FindsVersionsAndNames) {
  ASSERT_TRUE(find_schema("", "Conv", 20));
  EXPECT_EQ(find_schema("", "Conv", 20)->text.since, 11);
  EXPECT_EQ(find_schema("", "Conv", 22)->text.since, 22);
  EXPECT_FALSE(find_schema("", "Gelu", 19));
  EXPECT_EQ(first_version("", "Gelu"), 20);
  EXPECT_EQ(first_version("", "Gelo"), 0);
  EXPECT_TRUE(find_schema("ai.onnx.ml", "Scaler", 1));
  EXPECT_EQ(nearest_op("", "Gelo"), "Gelu");
  EXPECT_EQ(nearest_op("", "softmax"), "Softmax");
  EXPECT_EQ(nearest_op("", "TotallyDifferentThing"), "");
  EXPECT_EQ(newest_opset(""), 28);
  EXPECT_EQ(newest_opset("com.microsoft"), 0);
}

/// The table and our own definitions are of one format.
TEST(SchemaTable, AgreesWithOps) {
  for (const ops::OpDef* op : ops::all_ops()) {
    const int first = first_version(op->domain, op->name);
    if (first == 0) continue;  // an operator of another domain
    for (const ops::VersionDef& version : op->versions) {
      if (version.since < first) continue;  // what other tools write into files of older opsets
      const SchemaVersion* found = find_schema(op->domain, op->name, version.since);
      ASSERT_TRUE(found) << op->name;
      EXPECT_EQ(found->text.since, version.since) << op->name;
      const ops::Schema &ours = ops::schema_of(*op, version), &theirs = found->schema();
      EXPECT_EQ(ours.inputs.size(), theirs.inputs.size()) << op->name << ' ' << version.since;
      EXPECT_EQ(ours.outputs.size(), theirs.outputs.size()) << op->name << ' ' << version.since;
      EXPECT_EQ(ours.attributes.size(), theirs.attributes.size()) << op->name << ' ' << version.since;
      ASSERT_EQ(ours.constraints.size(), theirs.constraints.size()) << op->name << ' ' << version.since;
      for (const ops::TypeConstraint& constraint : ours.constraints) {
        ASSERT_TRUE(theirs.constraint(constraint.variable)) << op->name << ' ' << version.since;
        EXPECT_EQ(theirs.constraint(constraint.variable)->types, constraint.types) << op->name << ' ' << version.since;
      }
    }
  }
}

TEST(Codes, AreUniqueAndSayWhatToDo) {
  std::set<std::string_view> seen;
  for (const CodeInfo& info : all_codes()) {
    EXPECT_TRUE(seen.insert(info.code).second) << info.code;
    EXPECT_FALSE(info.remedy.empty() || info.meaning.empty()) << info.code;
  }
}

TEST(Printable, EscapesWhatIsNot) {
  EXPECT_EQ(printable("a/b:0 \xc3\xa9"), "a/b:0 \xc3\xa9");
  EXPECT_EQ(printable("\x1b[2J\n"), "\\x1b[2J\\x0a");
  EXPECT_EQ(printable("\xff\xc0\x80"), "\\xff\\xc0\\x80");
  EXPECT_LT(printable(std::string(100000, 'x')).size(), 3000u);
}

TEST(Check, ReadsBytes) {
  using namespace onnx::testing;
  const std::string good = model(relu_graph());
  const auto report_of = [](const std::string& bytes) { return lathe::check(std::as_bytes(std::span(bytes))); };
  EXPECT_TRUE(report_of(good).valid()) << report_of(good).text();
  EXPECT_EQ(report_of(good).nodes, 1u);
  const CheckReport bad = report_of(model(relu_graph({{onnx::field::graph::kNode, onnx::testing::node("Relu", {"nothing"}, {"z"})}})));
  ASSERT_EQ(bad.errors(), 1u);
  EXPECT_EQ(bad.defects[0].code, "undefined-input");
  EXPECT_EQ(bad.defects[0].node, "#1");
  EXPECT_THROW(lathe::check(std::filesystem::path("/no/such/file.onnx")), Error);
}

}  // namespace
}  // namespace lathe::checker
