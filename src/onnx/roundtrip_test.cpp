// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Whatever stands in a file is in the graph, and back in the file that the writer makes.

#include "onnx/test_messages.h"

namespace lathe::onnx::testing {
namespace {

using ir::AttrType;
namespace f = field;

/// The first initializer after reading, writing and reading again.
Tensor back(const Message& initializer) {
  const auto model = read(roundtrip(testing::model(relu_graph({{f::graph::kInitializer, initializer}}))));
  const ir::Value* value = model->graph->find("w");
  return value ? value->constant : Tensor();
}

TEST(Roundtrip, RawBytesOfEveryType) {
  for (int number = 1; number < kDTypeCount; ++number) {
    const auto dtype = static_cast<DType>(number);
    if (dtype == DType::kString) continue;
    std::string raw;
    for (std::size_t i = 0; i < dtype_bytes(dtype, 5); ++i) raw += static_cast<char>(17 * i + 3);
    if (dtype == DType::kBool) raw = std::string("\1\0\1\1\0", 5);
    const Tensor tensor = back(testing::tensor("w", dtype, {5}, raw));
    ASSERT_EQ(tensor.dtype(), dtype);
    EXPECT_EQ(tensor.dims(), Dims{5});
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(tensor.raw()), tensor.bytes()), raw) << dtype_name(dtype);
  }
}

TEST(Roundtrip, StringTensors) {
  Message t;
  t.packed_numbers(f::tensor::kDims, std::vector<std::int64_t>{3});
  t.number(f::tensor::kDataType, static_cast<int>(DType::kString));
  for (const char* text : {"one", "", "drei \xc3\xa4"}) t.string(f::tensor::kStringData, text);
  t.string(f::tensor::kName, "w");
  EXPECT_EQ(back(t).string_data(), (std::vector<std::string>{"one", "", "drei \xc3\xa4"}));
}

TEST(Roundtrip, TypedFields) {
  const auto typed = [](DType dtype, std::int64_t count, const std::function<void(Message&)>& fill) {
    Message t;
    t.packed_numbers(f::tensor::kDims, std::vector<std::int64_t>{count});
    t.number(f::tensor::kDataType, static_cast<int>(dtype));
    t.string(f::tensor::kName, "w");
    fill(t);
    return back(t);
  };
  const std::vector<std::int64_t> small{1, 0, 3};
  for (const DType dtype : {DType::kInt32, DType::kInt16, DType::kInt8, DType::kUint16, DType::kUint8}) {
    const Tensor t = typed(dtype, 3, [&](Message& m) { m.packed_numbers(f::tensor::kInt32Data, small); });
    EXPECT_EQ(t.to_int64_vector(), small) << dtype_name(dtype);
  }
  // Not packed, as proto2 writers may do; and negative numbers.
  const Tensor loose = typed(DType::kInt64, 2, [](Message& m) { m.number(f::tensor::kInt64Data, -5), m.number(f::tensor::kInt64Data, 7); });
  EXPECT_EQ(loose.to_int64_vector(), (std::vector<std::int64_t>{-5, 7}));
  const Tensor negative = typed(DType::kInt8, 2, [](Message& m) { m.packed_numbers(f::tensor::kInt32Data, std::vector<std::int64_t>{-128, 127}); });
  EXPECT_EQ(negative.to_int64_vector(), (std::vector<std::int64_t>{-128, 127}));
  const Tensor truth = typed(DType::kBool, 3, [](Message& m) { m.packed_numbers(f::tensor::kInt32Data, std::vector<std::int64_t>{0, 1, 256}); });
  EXPECT_EQ(truth.to_int64_vector(), (std::vector<std::int64_t>{0, 1, 1}));
  for (const DType dtype : {DType::kUint64, DType::kUint32}) {
    const Tensor t = typed(dtype, 3, [&](Message& m) { m.packed_numbers(f::tensor::kUint64Data, small); });
    EXPECT_EQ(t.to_int64_vector(), small);
  }
  const Tensor floats = typed(DType::kFloat32, 2, [](Message& m) { m.packed_floats(f::tensor::kFloatData, {1.5f, -0.0f}); });
  EXPECT_EQ(floats.as_double(0), 1.5);
  EXPECT_TRUE(std::signbit(floats.as_double(1)));
  const Tensor complex = typed(DType::kComplex64, 1, [](Message& m) { m.packed_floats(f::tensor::kFloatData, {1, 2}); });
  EXPECT_EQ(complex.bytes(), 8u);
  const Tensor doubles = typed(DType::kFloat64, 2, [](Message& m) { m.string(f::tensor::kDoubleData, raw_of<double>({1e300, 2})); });
  EXPECT_EQ(doubles.as_double(0), 1e300);
  // Bit patterns of 16-bit floats, bytes of packed types.
  const Tensor halves = typed(DType::kFloat16, 2, [](Message& m) { m.packed_numbers(f::tensor::kInt32Data, std::vector<std::int64_t>{0x3c00, 0xc000}); });
  EXPECT_EQ(halves.as_double(0), 1);
  EXPECT_EQ(halves.as_double(1), -2);
  const Tensor nibbles = typed(DType::kUint4, 3, [](Message& m) { m.packed_numbers(f::tensor::kInt32Data, std::vector<std::int64_t>{0x21, 0x03}); });
  EXPECT_EQ(nibbles.to_int64_vector(), (std::vector<std::int64_t>{1, 2, 3}));
}

/// Reads and writes a node with one attribute; returns the attribute as read from what was written.
ir::Attribute back_attribute(const std::function<void(Message&)>& fill, AttrType kind) {
  Message a;
  a.string(f::attribute::kName, "a");
  fill(a);
  if (kind != AttrType::kUndefined) a.number(f::attribute::kKind, static_cast<int>(kind));
  const std::string bytes = testing::model(
      graph({{f::graph::kNode, node("Custom", {"x"}, {"y"}, {a})}, {f::graph::kInput, float_value("x")}, {f::graph::kOutput, float_value("y")}}));
  return *read(roundtrip(bytes))->graph->nodes()[0]->attrs.find("a");
}

TEST(Roundtrip, EveryKindOfAttribute) {
  EXPECT_EQ(std::get<float>(back_attribute([](Message& m) { m.single(f::attribute::kFloat, 0.25f); }, AttrType::kFloat).value), 0.25f);
  EXPECT_EQ(std::get<std::int64_t>(back_attribute([](Message& m) { m.number(f::attribute::kInt, -9); }, AttrType::kInt).value), -9);
  EXPECT_EQ(std::get<std::string>(back_attribute([](Message& m) { m.string(f::attribute::kString, "s"); }, AttrType::kString).value), "s");
  // A number that is zero is left out by some writers.
  EXPECT_EQ(std::get<std::int64_t>(back_attribute([](Message&) {}, AttrType::kInt).value), 0);
  // Files older than the kind field.
  EXPECT_EQ(std::get<std::int64_t>(back_attribute([](Message& m) { m.number(f::attribute::kInt, 4); }, AttrType::kUndefined).value), 4);
  EXPECT_EQ(std::get<std::vector<float>>(back_attribute(
                                             [](Message& m) {
                                               m.packed_floats(f::attribute::kFloats, {1, 2});
                                             },
                                             AttrType::kFloats)
                                             .value),
            (std::vector<float>{1, 2}));
  EXPECT_EQ(std::get<std::vector<std::int64_t>>(
                back_attribute([](Message& m) { m.number(f::attribute::kInts, 1), m.number(f::attribute::kInts, -2); }, AttrType::kInts).value),
            (std::vector<std::int64_t>{1, -2}));
  EXPECT_TRUE(std::get<std::vector<std::int64_t>>(back_attribute([](Message&) {}, AttrType::kInts).value).empty());
  EXPECT_EQ(std::get<std::vector<std::string>>(
                back_attribute([](Message& m) { m.string(f::attribute::kStrings, "a"), m.string(f::attribute::kStrings, ""); }, AttrType::kStrings).value),
            (std::vector<std::string>{"a", ""}));
  const Message four = testing::tensor("", DType::kInt64, {}, raw_of<std::int64_t>({4}));
  EXPECT_EQ(std::get<Tensor>(back_attribute([&](Message& m) { m.message(f::attribute::kTensor, four); }, AttrType::kTensor).value).as_int64(0), 4);
  const auto tensors =
      back_attribute([&](Message& m) { m.message(f::attribute::kTensors, four), m.message(f::attribute::kTensors, four); }, AttrType::kTensors);
  EXPECT_EQ(std::get<std::vector<Tensor>>(tensors.value).size(), 2u);
  const Message type = tensor_type(DType::kInt8, {"n"});
  EXPECT_EQ(std::get<ir::Type>(back_attribute([&](Message& m) { m.message(f::attribute::kType, type); }, AttrType::kType).value).to_string(), "int8[n]");
  EXPECT_EQ(std::get<std::vector<ir::Type>>(back_attribute([&](Message& m) { m.message(f::attribute::kTypes, type); }, AttrType::kTypes).value).size(), 1u);
  Message sparse;
  sparse.message(f::sparse::kValues, testing::tensor("", DType::kFloat32, {1}, raw_of<float>({5})));
  sparse.message(f::sparse::kIndices, testing::tensor("", DType::kInt64, {1, 2}, raw_of<std::int64_t>({1, 1})));
  sparse.packed_numbers(f::sparse::kDims, std::vector<std::int64_t>{2, 2});
  const auto s = back_attribute([&](Message& m) { m.message(f::attribute::kSparse, sparse); }, AttrType::kSparseTensor);
  EXPECT_EQ(std::get<ir::SparseTensor>(s.value).dims, (Dims{2, 2}));
  EXPECT_EQ(std::get<ir::SparseTensor>(s.value).values.as_double(0), 5);
  const auto ss = back_attribute([&](Message& m) { m.message(f::attribute::kSparses, sparse); }, AttrType::kSparseTensors);
  EXPECT_EQ(std::get<std::vector<ir::SparseTensor>>(ss.value).size(), 1u);
  const auto gs = back_attribute([&](Message& m) { m.message(f::attribute::kGraphs, graph({}, "a")), m.message(f::attribute::kGraphs, graph({}, "b")); },
                                 AttrType::kGraphs);
  EXPECT_EQ(std::get<std::vector<ir::GraphPtr>>(gs.value)[1]->name, "b");
}

TEST(Roundtrip, Types) {
  const auto back_type = [](const Message& type) {
    const auto model = read(roundtrip(testing::model(relu_graph({{f::graph::kInput, value_info("v", type)}}))));
    return model->graph->find("v")->type;
  };
  Message sequence, optional, map, inner;
  inner.message(f::type::kElement, tensor_type(DType::kFloat32, {"n", "", "4"}));
  sequence.message(f::type::kSequence, inner);
  EXPECT_EQ(back_type(sequence).to_string().substr(0, 7), "seq(flo");
  Message of_sequence;
  of_sequence.message(f::type::kElement, sequence);
  optional.message(f::type::kOptional, of_sequence);
  EXPECT_EQ(back_type(optional).kind, ir::TypeKind::kOptional);
  EXPECT_EQ(back_type(optional).element->kind, ir::TypeKind::kSequence);
  EXPECT_EQ(back_type(optional).element->element->shape->size(), 3u);
  Message pair;
  pair.number(f::type::kKeyType, static_cast<int>(DType::kString));
  pair.message(f::type::kValueType, tensor_type(DType::kInt64, {}));
  map.message(f::type::kMap, pair);
  EXPECT_EQ(back_type(map).dtype, DType::kString);
  EXPECT_EQ(back_type(map).element->dtype, DType::kInt64);
  Message opaque, named;
  named.string(1, "domain"), named.string(2, "name");
  opaque.message(f::type::kOpaque, named);
  opaque.string(f::type::kDenotation, "THING");
  EXPECT_EQ(back_type(opaque).extra->opaque, bytes_of(named));
  EXPECT_EQ(back_type(opaque).denotation, "THING");
  Message dim, shape, tensor, denoted;
  dim.number(f::type::kDimValue, 3), dim.string(f::type::kDimDenotation, "CHANNELS");
  shape.message(f::type::kDim, Message()), shape.message(f::type::kDim, dim);
  tensor.number(f::type::kElement, 1), tensor.message(f::type::kShape, shape);
  denoted.message(f::type::kTensor, tensor);
  EXPECT_EQ(back_type(denoted).extra->dim_denotations, (std::vector<std::string>{"", "CHANNELS"}));
}

TEST(Roundtrip, NamesOfExtents) {
  // Texts that are no identifiers, two that would become the same one, an extent without a name.
  const std::string bytes =
      testing::model(relu_graph({{f::graph::kInput, float_value("v", {"batch size", "batch_size", "batch-size", "", "batch size", "2*n + 1"})}}));
  const auto model = read(bytes);
  const ir::Shape& shape = model->graph->find("v")->shape();
  EXPECT_EQ(shape[0], shape[4]);
  EXPECT_NE(shape[0], shape[1]);
  EXPECT_NE(shape[1], shape[2]);
  EXPECT_NE(shape[0], shape[2]);
  EXPECT_TRUE(shape[3].is_symbol());
  EXPECT_TRUE(shape[5].is_symbol());
  const std::string written = roundtrip(bytes);
  for (const char* text : {"batch size", "batch_size", "batch-size", "2*n + 1"}) EXPECT_NE(written.find(text), std::string::npos) << text;
  EXPECT_EQ(written.find("v_dim_3"), std::string::npos) << "the file gave no name";
}

TEST(Roundtrip, NestedGraphsWithCaptures) {
  const Message then_graph = graph({{f::graph::kNode, node("Add", {"x", "k"}, {"t"})},
                                    {f::graph::kInitializer, testing::tensor("k", DType::kFloat32, {}, raw_of<float>({1}))},
                                    {f::graph::kOutput, float_value("t")}},
                                   "then");
  const Message inner = graph({{f::graph::kNode, node("Mul", {"x", "x"}, {"deep"})}, {f::graph::kOutput, float_value("deep")}}, "inner");
  const Message else_graph =
      graph({{f::graph::kNode, node("If", {"c"}, {"e"}, {graph_attribute("then_branch", inner), graph_attribute("else_branch", then_graph)})},
             {f::graph::kOutput, float_value("e")}},
            "else");
  const std::string bytes = testing::model(
      graph({{f::graph::kNode, node("If", {"c"}, {"y"}, {graph_attribute("then_branch", then_graph), graph_attribute("else_branch", else_graph)})},
             {f::graph::kInput, float_value("x")},
             {f::graph::kInput, value_info("c", tensor_type(DType::kBool, {}))},
             {f::graph::kOutput, float_value("y")}}));
  const auto model = read(roundtrip(bytes));
  EXPECT_EQ(model->graph->find("x")->uses.size(), 4u);  // one Add in each of two graphs, twice by the Mul
}

TEST(Roundtrip, NodesInAnyOrder) {
  // The If stands before what its branch captures.
  const Message branch = graph({{f::graph::kNode, node("Relu", {"late"}, {"t"})}, {f::graph::kOutput, float_value("t")}});
  const std::string bytes =
      testing::model(graph({{f::graph::kNode, node("Relu", {"b"}, {"y"})},
                            {f::graph::kNode, node("If", {"c"}, {"b"}, {graph_attribute("then_branch", branch), graph_attribute("else_branch", branch)})},
                            {f::graph::kNode, node("Relu", {"x"}, {"late"})},
                            {f::graph::kInput, float_value("x")},
                            {f::graph::kInput, value_info("c", tensor_type(DType::kBool, {}))},
                            {f::graph::kOutput, float_value("y")}}));
  const auto model = read(roundtrip(bytes));
  EXPECT_EQ(model->graph->nodes()[0]->outputs[0]->name, "late");
  EXPECT_EQ(model->graph->nodes()[2]->outputs[0]->name, "y");
}

TEST(Roundtrip, SparseInitializers) {
  Message sparse;
  sparse.message(f::sparse::kValues, testing::tensor("w", DType::kInt64, {2}, raw_of<std::int64_t>({5, INT64_MAX})));
  sparse.message(f::sparse::kIndices, testing::tensor("", DType::kInt64, {2}, raw_of<std::int64_t>({1, 5})));
  sparse.packed_numbers(f::sparse::kDims, std::vector<std::int64_t>{2, 3});
  const auto model = read(roundtrip(testing::model(relu_graph({{f::graph::kSparseInitializer, sparse}}))));
  EXPECT_EQ(model->graph->find("w")->constant.to_int64_vector(), (std::vector<std::int64_t>{0, 5, 0, 0, 0, INT64_MAX}));
}

TEST(Roundtrip, MetadataAndTexts) {
  Message entry;
  entry.string(f::entry::kKey, "k"), entry.string(f::entry::kValue, "v");
  Message n = node("Relu", {"x"}, {"y"});
  n.string(f::node::kDoc, "node doc"), n.message(f::node::kMetadata, entry);
  Message input = float_value("x");
  input.string(f::value_info::kDoc, "input doc"), input.message(f::value_info::kMetadata, entry);
  Message g = graph({{f::graph::kNode, n}, {f::graph::kInput, input}, {f::graph::kOutput, float_value("y")}});
  g.string(f::graph::kDoc, "graph doc"), g.message(f::graph::kMetadata, entry);
  const auto model = read(roundtrip(testing::model(g, {{f::model::kMetadata, entry}})));
  const std::map<std::string, std::string> expected{{"k", "v"}};
  EXPECT_EQ(model->metadata, expected);
  EXPECT_EQ(model->graph->metadata, expected);
  EXPECT_EQ(model->graph->doc, "graph doc");
  EXPECT_EQ(model->graph->nodes()[0]->metadata, expected);
  EXPECT_EQ(model->graph->nodes()[0]->doc, "node doc");
  EXPECT_EQ(model->graph->inputs()[0]->metadata, expected);
  EXPECT_EQ(model->graph->inputs()[0]->doc, "input doc");
}

TEST(Roundtrip, KeepsWhatItDoesNotKnow) {
  const auto unknown = [](const char* text) {
    Message m;
    m.string(900, text);
    return m;
  };
  Message n = node("Relu", {"x"}, {"y"});
  n.message(f::node::kDevices, unknown("device of a node"));
  Message w = testing::tensor("w", DType::kFloat32, {1}, raw_of<float>({1}));
  w.string(901, "field of a tensor");
  Message input = float_value("x");
  input.single(902, 2.5f);
  Message g = graph({{f::graph::kNode, n},
                     {f::graph::kInput, input},
                     {f::graph::kOutput, float_value("y")},
                     {f::graph::kInitializer, w},
                     {f::graph::kQuantization, unknown("annotation one")},
                     {f::graph::kQuantization, unknown("annotation two")}});
  const std::string written = roundtrip(
      testing::model(g, {{f::model::kTrainingInfo, unknown("training")}, {f::model::kConfiguration, unknown("configuration")}, {4000, unknown("future")}}));
  for (const char* text : {"device of a node", "field of a tensor", "annotation one", "annotation two", "training", "configuration", "future"})
    EXPECT_NE(written.find(text), std::string::npos) << text;
  EXPECT_LT(written.find("annotation one"), written.find("annotation two"));
  const auto copy = read(written)->clone();
  EXPECT_EQ(copy->unread.size(), 3u);
  EXPECT_EQ(copy->graph->unread.size(), 1u);
  EXPECT_EQ(copy->graph->inputs()[0]->unread.count(902), 1u);
  EXPECT_EQ(copy->graph->nodes()[0]->unread.size(), 1u);
}

TEST(Roundtrip, InitializersThatAreInputs) {
  const auto model = read(testing::model(
      relu_graph({{f::graph::kInput, float_value("w", {"1"})}, {f::graph::kInitializer, testing::tensor("w", DType::kFloat32, {1}, raw_of<float>({1}))}}), {},
      3));
  ASSERT_EQ(model->graph->inputs().size(), 1u);
  EXPECT_TRUE(model->graph->find("w")->is_constant());
  EXPECT_EQ(read(model_bytes(*model))->ir_version, 4) << "the IR version in which an initializer need not be an input";
}

TEST(Roundtrip, OutputsThatAreConstants) {
  const auto model = read(roundtrip(testing::model(
      relu_graph({{f::graph::kOutput, float_value("w", {"1"})}, {f::graph::kInitializer, testing::tensor("w", DType::kFloat32, {1}, raw_of<float>({7}))}}))));
  ASSERT_EQ(model->graph->outputs().size(), 2u);
  EXPECT_EQ(model->graph->outputs()[1]->name, "w");
}

TEST(Roundtrip, AbsentInputsAndOutputs) {
  const std::string bytes = testing::model(
      graph({{f::graph::kNode, node("Custom", {"", "x", ""}, {"", "y"})}, {f::graph::kInput, float_value("x")}, {f::graph::kOutput, float_value("y")}}));
  const auto model = read(roundtrip(bytes));
  const ir::Node& n = *model->graph->nodes()[0];
  ASSERT_EQ(n.inputs.size(), 3u);
  EXPECT_EQ(n.inputs[0], nullptr);
  EXPECT_EQ(n.inputs[2], nullptr);
  ASSERT_EQ(n.outputs.size(), 2u);
  EXPECT_EQ(n.outputs[0], nullptr);
}

TEST(Roundtrip, IrVersionFollowsTheTypes) {
  const auto version = [](DType dtype, std::int64_t stated) {
    const std::string raw(dtype_bytes(dtype, 4), '\0');
    return read(roundtrip(testing::model(relu_graph({{f::graph::kInitializer, testing::tensor("w", dtype, {4}, raw)}}), {}, stated)))->ir_version;
  };
  EXPECT_EQ(version(DType::kFloat32, 7), 7);
  EXPECT_EQ(version(DType::kFloat8E5M2, 7), 9);
  EXPECT_EQ(version(DType::kInt4, 7), 10);
  EXPECT_EQ(version(DType::kFloat4E2M1, 12), 12);
  EXPECT_EQ(version(DType::kInt2, 10), 13);
}

}  // namespace
}  // namespace lathe::onnx::testing
