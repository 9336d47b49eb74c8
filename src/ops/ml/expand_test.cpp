// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What the operators of ai.onnx.ml expand to computes what their references do.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/text.h"
#include "ops/expansion.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"

namespace lathe::ops {
namespace {

/// x, filled with small numbers of which some are equal to what the cases look for.
Tensor sample(const ir::Value& input, std::int64_t rows) {
  Dims dims;
  for (const Dim& dim : input.shape()) dims.push_back(dim.constant().value_or(rows));
  if (input.dtype() == DType::kString) {
    std::vector<std::string> texts;
    for (std::int64_t i = 0; i < element_count(dims); ++i) texts.emplace_back(1, static_cast<char>('a' + i * 7 % 5));
    return Tensor::strings(dims, std::move(texts));
  }
  Tensor x(input.dtype(), dims);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::int64_t draw = (i * 37 + 11) % 29;
    if (is_float(input.dtype()))
      x.set_from_double(i, draw == 0 ? std::nan("") : draw < 8 ? static_cast<double>(draw - 4) : 0.37 * static_cast<double>(draw - 15));
    else x.set_from_int64(i, draw - 12);
  }
  return x;
}

void expect_same(const Tensor& a, const Tensor& b, double tolerance) {
  ASSERT_EQ(a.dtype(), b.dtype());
  ASSERT_EQ(a.dims(), b.dims());
  if (a.dtype() == DType::kString) {
    EXPECT_EQ(a.string_data(), b.string_data());
    return;
  }
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const double x = a.as_double(i), y = b.as_double(i);
    if (std::isnan(x) && std::isnan(y)) continue;
    ASSERT_NEAR(x, y, tolerance * (1 + std::abs(x))) << "element " << i;
  }
}

/// `node`: "Op(x) {attributes}" of ai.onnx.ml on x of `type`, with these outputs.
void expect_expands(const std::string& type, const std::string& node, const std::string& outputs = "y: ?", double tolerance = 1e-6) {
  SCOPED_TRACE(type + " " + node);
  std::string names = outputs;
  for (std::size_t at; (at = names.find(": ?")) != std::string::npos;) names.erase(at, 3);
  const auto graph = ir::parse_graph("graph g(x: " + type + ") -> (" + names + ") {\n  " + outputs + " = ai.onnx.ml::" + node + "\n}\n");
  infer_graph(*graph);
  const Tensor x = sample(*graph->inputs()[0], 9);
  const auto expected = ReferenceRunner(*graph).run(std::span(&x, 1));
  std::vector<ir::Type> types;
  for (const ir::Value* out : graph->outputs()) types.push_back(out->type);
  ASSERT_TRUE(expand_node(*graph->nodes().front()));
  for (const ir::Node* n : graph->nodes()) EXPECT_TRUE(n->domain.empty() || n->op == "LabelEncoder" || n->op.ends_with("Classifier")) << n->op;
  infer_graph(*graph);
  for (std::size_t i = 0; i < types.size(); ++i) EXPECT_EQ(graph->outputs()[i]->type.to_string(), types[i].to_string());
  const auto got = ReferenceRunner(*graph).run(std::span(&x, 1));
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) expect_same(expected[i], got[i], tolerance);
}

TEST(MlExpansion, Features) {
  expect_expands("float[n, 4]", "Scaler(x) {offset=[1.0], scale=[2.5]}");
  expect_expands("float[4]", "Scaler(x) {offset=[1.0, 2.0, 3.0, 4.0], scale=[2.5, 0.5, -1.0, 0.0]}");
  for (const char* norm : {"MAX", "L1", "L2"}) {
    expect_expands("float[n, 3]", std::string("Normalizer(x) {norm=\"") + norm + "\"}", "y: ?", 1e-5);
    expect_expands("float[3]", std::string("Normalizer(x) {norm=\"") + norm + "\"}", "y: ?", 1e-5);
  }
  expect_expands("float[n, 4]", "Binarizer(x) {threshold=0.5}");
  expect_expands("double[4]", "Binarizer(x)");
  expect_expands("float[n, 2]", "Imputer(x) {imputed_value_floats=[7.0], replaced_value_float=nan}");
  expect_expands("float[n, 2]", "Imputer(x) {imputed_value_floats=[7.0, 8.0], replaced_value_float=1.0}");
}

TEST(MlExpansion, FeaturesOfDoubleAndIntegers) {
  for (const char* type : {"double", "int32", "int64"})
    for (const char* shape : {"[n, 4]", "[4]"}) {
      const std::string x = std::string(type) + shape;
      expect_expands(x, "Scaler(x) {offset=[1.0, 0.1, 3.0, 4.0], scale=[2.5, 0.5, -1.0, 0.0]}", "y: ?", 0);
      expect_expands(x, "Scaler(x) {scale=[0.3]}", "y: ?", 0);
      expect_expands(x, "Binarizer(x) {threshold=0.5}", "y: ?", 0);
      expect_expands(x, "Binarizer(x) {threshold=-3.7}", "y: ?", 0);
      for (const char* norm : {"MAX", "L1", "L2"}) expect_expands(x, std::string("Normalizer(x) {norm=\"") + norm + "\"}", "y: ?", 1e-7);
    }
  for (const char* hole : {"nan", "1.0", "-2.0"})
    for (const char* fill : {"[0.1]", "[7.0, 0.1]"})
      expect_expands("double[n, 2]", std::string("Imputer(x) {imputed_value_floats=") + fill + ", replaced_value_float=" + hole + "}", "y: ?", 0);
  for (const char* type : {"int32[n, 2]", "int64[n, 2]"})
    for (const char* hole : {"-12", "3", "4294967299"})  // the last is 3 in 32 bits, which it must not replace
      expect_expands(type, std::string("Imputer(x) {imputed_value_int64s=[70, -80], replaced_value_int64=") + hole + "}", "y: ?", 0);
}

TEST(MlExpansion, FeatureVectorizer) {
  for (const char* type : {"float[n, 4]", "int64[n, 4]", "double[4]", "int32[n, 2, 3]"}) expect_expands(type, "FeatureVectorizer(x, x)");
  expect_expands("float[n, 4]", "FeatureVectorizer(x)");
  for (const char* widths : {"4, 4", "2, 3", "6, 4", "0, 4"})
    for (const char* type : {"float[n, 4]", "double[4]"}) expect_expands(type, std::string("FeatureVectorizer(x, x) {inputdimensions=[") + widths + "]}");
}

TEST(MlExpansion, Encoders) {
  expect_expands("int64[n, 2]", "OneHotEncoder(x) {cats_int64s=[4, -1, 0]}");
  expect_expands("int32[n]", "OneHotEncoder(x) {cats_int64s=[4, -1, 0]}");
  expect_expands("string[n, 1]", "OneHotEncoder(x) {cats_strings=[\"c\", \"a\", \"zz\", \"a\"]}");
  expect_expands("int64[n, 2]", "LabelEncoder(x) {keys_int64s=[4, -1, 0, 4], values_floats=[1.5, 2.5, 3.5, 4.5]}");
  expect_expands("int64[n]", "LabelEncoder(x) {keys_int64s=[-12], values_int64s=[6], default_int64=9}");
}

TEST(MlExpansion, EncodersOfRealNumbers) {
  for (const char* type : {"float[n, 2]", "double[n, 2]", "double[n]"}) {
    expect_expands(type, "OneHotEncoder(x) {cats_int64s=[4, -1, 0]}", "y: ?", 0);
    expect_expands(type, "OneHotEncoder(x) {cats_int64s=[1, -9223372036854775807]}", "y: ?", 0);
  }
  for (const char* values : {"values_int64s=[1, 2, 3, 4, 5]", "values_floats=[1.5, 2.5, 3.5, 4.5, 5.5]"})
    for (const char* keys : {"[-4.0, 0.0, nan, -4.0, 1.0]", "[3.0, -0.0, 2.0, 1.5, 1.0]"})
      expect_expands("float[n, 2]", std::string("LabelEncoder(x) {keys_floats=") + keys + ", " + values + "}", "y: ?", 0);
  // Whole keys that lie too far apart for a table.
  expect_expands("int64[n, 2]", "LabelEncoder(x) {keys_int64s=[4, 9007199254740993, -1, 4], values_floats=[1.5, 2.5, 3.5, 4.5]}", "y: ?", 0);
}

TEST(MlExpansion, LinearModels) {
  for (const char* transform : {"NONE", "SOFTMAX", "LOGISTIC"}) {
    const std::string with = std::string(", post_transform=\"") + transform + "\"}";
    for (const char* type : {"int64[n, 2]", "int32[2]"}) {
      expect_expands(type, "LinearRegressor(x) {coefficients=[0.5, -1.5, 1.0, 0.25], intercepts=[0.125, 2.0], targets=2" + with);
      expect_expands(type, "LinearRegressor(x) {coefficients=[0.5, -1.5]" + with);
      const std::string three = "LinearClassifier(x) {coefficients=[0.5, -1.5, 1.0, 0.25, -0.5, 1.0], intercepts=[0.125, 2.0, 0.0], ";
      expect_expands(type, three + "classlabels_ints=[7, 3, 5]" + with, "y: ?, z: ?");
      expect_expands(type, three + "classlabels_strings=[\"u\", \"v\", \"w\"]" + with, "y: ?, z: ?");
    }
  }
}

TEST(MlExpansion, TextLabelsBecomeIndices) {
  expect_expands("int64[n, 2]",
                 "TreeEnsembleClassifier(x) {nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[1, 0, 0], nodes_modes=[\"BRANCH_LEQ\", "
                 "\"LEAF\", \"LEAF\"], nodes_values=[0.5, 0.0, 0.0], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0], class_treeids=[0, 0], "
                 "class_nodeids=[1, 2], class_ids=[0, 1], class_weights=[1.0, 1.0], classlabels_strings=[\"low\", \"high\"]}",
                 "y: ?, z: ?");
  expect_expands("int64[n, 2]",
                 "SVMClassifier(x) {coefficients=[1.0, -1.0], support_vectors=[0.0, 1.0, 1.0, 0.0], vectors_per_class=[1, 1], rho=[0.1], kernel_params=[0.1, "
                 "0.0, 1.0], kernel_type=\"RBF\", classlabels_strings=[\"no\", \"yes\"]}",
                 "y: ?, z: ?");
}

TEST(MlExpansion, SelectionOfColumns) {
  for (const char* type : {"float[n, 3]", "float[3]", "int64[2, n, 3]", "string[n, 3]"}) {
    const auto graph = ir::parse_graph(std::string("graph g(x: ") + type +
                                       ") -> (y) {\n  i: int64[1, 4] = const {2, 0, 0, 1}\n  y: ? = ai.onnx.ml::ArrayFeatureExtractor(x, i)\n}\n");
    infer_graph(*graph);
    const Tensor x = sample(*graph->inputs()[0], 5);
    const auto expected = ReferenceRunner(*graph).run(std::span(&x, 1));
    ASSERT_TRUE(expand_node(*graph->nodes().front()));
    infer_graph(*graph);
    expect_same(expected[0], ReferenceRunner(*graph).run(std::span(&x, 1))[0], 0);
  }
}

}  // namespace
}  // namespace lathe::ops
