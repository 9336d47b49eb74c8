// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// A file cut off anywhere, altered anywhere, or made of noise ends with an Error or is read; nothing else may happen. What is read must be
// writable again.

#include <random>

#include "onnx/test_messages.h"

namespace lathe::onnx::testing {
namespace {

namespace f = field;

/// A small file with a part of every kind.
std::string sample() {
  const Message branch = graph({{f::graph::kNode, node("Add", {"x", "w"}, {"t"})}, {f::graph::kOutput, float_value("t", {"n", "3"})}}, "branch");
  Message typed;
  typed.packed_numbers(f::tensor::kDims, std::vector<std::int64_t>{3});
  typed.number(f::tensor::kDataType, 1);
  typed.string(f::tensor::kName, "v");
  typed.packed_floats(f::tensor::kFloatData, {1, 2, 3});
  Message ints, value;
  ints.string(f::attribute::kName, "axes"), ints.packed_numbers(f::attribute::kInts, std::vector<std::int64_t>{0, 1}), ints.number(f::attribute::kKind, 7);
  value.string(f::attribute::kName, "value"), value.message(f::attribute::kTensor, testing::tensor("", DType::kInt64, {1}, raw_of<std::int64_t>({5})));
  value.number(f::attribute::kKind, 4);
  Message sparse;
  sparse.message(f::sparse::kValues, testing::tensor("s", DType::kFloat32, {1}, raw_of<float>({5})));
  sparse.message(f::sparse::kIndices, testing::tensor("", DType::kInt64, {1}, raw_of<std::int64_t>({1})));
  sparse.packed_numbers(f::sparse::kDims, std::vector<std::int64_t>{2});
  Message function;
  function.string(f::function::kName, "F"), function.string(f::function::kDomain, "d"), function.string(f::function::kInput, "a"),
      function.string(f::function::kOutput, "b");
  function.message(f::function::kNode, node("Relu", {"a"}, {"b"}));
  function.message(f::function::kOpsetImport, opset("", 20));
  Message sequence, element;
  element.message(f::type::kElement, tensor_type(DType::kFloat32, {"n"}));
  sequence.message(f::type::kSequence, element);
  Message call = node("F", {"x"}, {"z"});
  call.string(f::node::kDomain, "d");
  return testing::model(
      graph({{f::graph::kNode, node("If", {"c"}, {"y"}, {graph_attribute("then_branch", branch), graph_attribute("else_branch", branch)}, "if")},
             {f::graph::kNode, node("Custom", {"x"}, {"u"}, {ints, value})},
             {f::graph::kNode, call},
             {f::graph::kInitializer, testing::tensor("w", DType::kFloat32, {3}, raw_of<float>({1, 2, 3}))},
             {f::graph::kInitializer, typed},
             {f::graph::kSparseInitializer, sparse},
             {f::graph::kInput, float_value("x", {"n", "3"})},
             {f::graph::kInput, value_info("c", tensor_type(DType::kBool, {}))},
             {f::graph::kInput, value_info("q", sequence)},
             {f::graph::kOutput, float_value("y", {"n", "3"})}}),
      {{f::model::kFunctions, function}, {f::model::kOpsetImport, opset("d", 1)}});
}

/// True when it was read.
bool survives(const std::string& bytes) {
  try {
    const auto model = read(bytes);
    const std::string written = model_bytes(*model);
    EXPECT_FALSE(written.empty());
    inline_functions(*model);
    return true;
  } catch (const Error& error) {
    EXPECT_NE(error.code(), Code::kOk);
    EXPECT_NE(error.code(), Code::kInternal) << error.what();
    EXPECT_FALSE(error.message().empty());
    return false;
  }
}

TEST(Damage, TheSampleIsGood) {
  ASSERT_TRUE(survives(sample()));
  EXPECT_EQ(roundtrip(sample()), model_bytes(*read(sample())));
}

TEST(Damage, CutOffAtEveryByte) {
  const std::string whole = sample();
  int read = 0;
  for (std::size_t size = 0; size < whole.size(); ++size) read += survives(whole.substr(0, size)) ? 1 : 0;
  // Only between fields of the model message, behind the graph, can a cut go unnoticed: protobuf has no end mark.
  EXPECT_LE(read, 3);
}

TEST(Damage, EveryByteAltered) {
  const std::string whole = sample();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff, static_cast<unsigned char>(whole[at]) ^ 0x10, static_cast<unsigned char>(whole[at]) + 1}) {
      std::string altered = whole;
      altered[at] = static_cast<char>(value);
      survives(altered);
    }
  }
}

TEST(Damage, ManyBytesAltered) {
  const std::string whole = sample();
  std::mt19937 random(7);
  for (int round = 0; round < 4000; ++round) {
    std::string altered = whole;
    for (int i = 0; i < 1 + round % 8; ++i) altered[random() % altered.size()] = static_cast<char>(random());
    if (round % 5 == 0) altered.erase(random() % altered.size(), random() % 40);
    if (round % 7 == 0) altered.insert(random() % altered.size(), altered.substr(random() % altered.size(), random() % 60));
    survives(altered);
  }
}

TEST(Damage, Noise) {
  std::mt19937 random(11);
  for (int round = 0; round < 2000; ++round) {
    std::string noise(random() % 300, '\0');
    for (char& c : noise) c = static_cast<char>(random());
    survives(noise);
  }
}

}  // namespace
}  // namespace lathe::onnx::testing
