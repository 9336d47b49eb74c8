// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The sweep over the pointwise table: every row, every element type of its newest version, several attribute settings, special values
// and broadcasts, kernel "cpu.loops" against the row's reference within the row's bound, on every instruction set of this CPU.

#include <limits>

#include "base/swept.h"
#include "loops/builder.h"
#include "loops/cpu/emitter_test_util.h"
#include "ops/evaluate.h"
#include "ops/infer.h"
#include "ops/pointwise/row.h"
#include "ops/registry.h"
#include "ops/schema.h"

namespace lathe::ops::pointwise {
namespace {

DType dtype_of(const std::string& type) {  // "tensor(float)"
  const std::string inner = type.substr(7, type.size() - 8);
  for (const DType t : {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16, DType::kBool, DType::kInt8, DType::kUint8, DType::kInt16,
                        DType::kUint16, DType::kInt32, DType::kUint32, DType::kInt64, DType::kUint64})
    if (inner == dtype_name(t)) return t;
  return DType::kUndefined;  // strings, complex, packed and 8-bit floating types have no loops
}

/// Special values first, then ordinary ones of both signs.
Tensor contents(DType dtype, Dims dims, unsigned seed, bool with_special) {
  Tensor t(dtype, std::move(dims));
  constexpr double kInf = std::numeric_limits<double>::infinity();
  static constexpr double kSpecial[] = {0.0,   -0.0,   1.0,  -1.0,  kInf, -kInf, NAN, 1e-40, -1e-40, 3e38, -3e38,  88.6,
                                        -87.5, -103.0, 20.0, -20.0, 0.5,  -0.5,  1.5, 2.5,   -2.5,   1e-6, 9000.0, 1.17549435e-38};
  std::mt19937 gen(seed);
  for (std::int64_t i = 0; i < t.size(); ++i) {
    const bool special = with_special && i < static_cast<std::int64_t>(std::size(kSpecial)) * 2 && i % 2 == 0;
    if (dtype == DType::kBool) {
      t.set_from_int64(i, gen() % 2);
    } else if (is_float(dtype)) {
      const double ordinary = (static_cast<double>(gen() % 200001) - 100000) / (gen() % 3 == 0 ? 5e3 : 5e4);
      t.set_from_double(i, special ? kSpecial[i / 2] : ordinary);
    } else {
      const std::int64_t high = static_cast<std::int64_t>((~std::uint64_t{0}) >> (64 - dtype_bits(dtype) + (is_signed_integer(dtype) ? 1 : 0)));
      const std::int64_t ends[] = {0, 1, high, is_signed_integer(dtype) ? -high - 1 : high, is_signed_integer(dtype) ? -1 : 2};
      t.set_from_int64(i, special && i < 10 ? ends[i / 2] : static_cast<std::int64_t>(gen() % 13) - (is_signed_integer(dtype) ? 6 : 0));
    }
  }
  return t;
}

/// Half a unit in the last place twice: the reference and the candidate each round once.
double rounding(DType type, double value) {
  switch (type) {
    case DType::kFloat16: return std::max(std::fabs(value) * 0x1p-10, 0x1p-24);
    case DType::kBFloat16: return std::max(std::fabs(value) * 0x1p-7, 0x1p-133);
    case DType::kFloat64: return std::fabs(value) * 0x1p-52;
    default: return std::max(std::fabs(value) * 0x1p-24, 0x1p-149);
  }
}

struct Instance {
  std::string op;
  std::vector<DType> types;
  std::vector<Dims> shapes;
  ir::Attrs attrs;
  unsigned seed = 1;
  bool special = true;
};

std::string describe(const Instance& instance) {
  std::string text = instance.op + "(";
  for (std::size_t i = 0; i < instance.types.size(); ++i)
    text += std::string(i ? ", " : "") + std::string(dtype_name(instance.types[i])) + " " + to_string(instance.shapes[i]);
  return text + ")";
}

/// With `large` in the place of infinity.
std::vector<Tensor> made_finite(std::vector<Tensor> tensors, double large) {
  for (Tensor& t : tensors)
    for (std::int64_t i = 0; i < t.size(); ++i)
      if (is_float(t.dtype()) && std::isinf(t.as_double(i))) t.set_from_double(i, std::copysign(large, t.as_double(i)));
  return tensors;
}

/// False when the op has no loops over these types.
bool check(const Instance& instance) {
  SCOPED_TRACE(describe(instance));
  ir::Graph graph;
  std::vector<ir::Value*> inputs;
  std::vector<Tensor> data;
  loops::cpu::testing::EmitterCase c;
  std::mt19937 gen(instance.seed);
  for (std::size_t i = 0; i < instance.types.size(); ++i) {
    std::string name = "x";
    name += std::to_string(i);
    inputs.push_back(graph.add_input(name, ir::Type::tensor(instance.types[i], ir::Shape(instance.shapes[i].begin(), instance.shapes[i].end()))));
    data.push_back(contents(instance.types[i], instance.shapes[i], instance.seed + static_cast<unsigned>(i), instance.special));
    c.ins.push_back(loops::cpu::testing::random_layout(instance.types[i], instance.shapes[i], gen));
  }
  ir::Node* node = graph.add_node("", instance.op, inputs, {"y"}, instance.attrs);
  graph.add_output(node->output());
  infer_graph(graph);
  const Tensor expected = evaluate_node(*node, data).at(0);

  const ir::Node* nodes[] = {node};
  const ir::Value* outputs[] = {node->output()};
  const std::vector<const ir::Value*> values(inputs.begin(), inputs.end());
  std::string reason;
  if (!loops::lower_nodes(nodes, values, outputs, c.region, reason)) return false;
  c.inputs = data;
  c.outs.push_back(loops::cpu::testing::random_layout(node->output()->dtype(), expected.dims(), gen));
  Tensor got;
  try {
    got = loops::cpu::testing::run_emitter(c, 2).at(0);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUnsupported) << error.what();
    return false;
  }
  const Tolerance tolerance = row_of(instance.op).tolerance;
  const DType type = expected.dtype();
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    if (!is_float(type)) {
      EXPECT_EQ(got.as_int64(i), expected.as_int64(i)) << "element " << i;
      if (got.as_int64(i) != expected.as_int64(i)) return true;
      continue;
    }
    const double a = got.as_double(i), b = expected.as_double(i);
    const bool same = (std::isnan(a) && std::isnan(b)) || a == b;
    // NaN comes out where the difference of infinities does.
    bool near = same || std::fabs(a - b) <= tolerance.absolute + tolerance.relative * std::fabs(b) + rounding(type, b);
    // A factor within the bound of 0 may be 0, and 0 times an infinite operand is no number.
    if (!near && std::isinf(b) && std::isnan(a) && tolerance.absolute > 0) {
      const double large = type == DType::kFloat16 ? 65504.0 : 0x1p127;
      near = std::fabs(evaluate_node(*node, made_finite(data, large)).at(0).as_double(i)) <= tolerance.absolute * large;
    }
    if (!near) {
      std::string operands;
      if (data[0].dims() == expected.dims() && is_float(data[0].dtype())) operands = " of " + std::to_string(data[0].as_double(i));
      ADD_FAILURE() << "element " << i << operands << ": " << a << " instead of " << b;
      return true;
    }
  }
  return true;
}

/// Settings of the attributes that matter: the defaults, and others.
std::vector<ir::Attrs> settings(const Row& row, const Schema& schema) {
  std::vector<ir::Attrs> list(1);
  for (const AttributeDef& attribute : schema.attributes) {
    std::vector<ir::Attribute> values;
    if (attribute.name == "approximate") values = {ir::Attribute("tanh"), ir::Attribute("none")};
    else if (attribute.name == "direction") values = {ir::Attribute("LEFT"), ir::Attribute("RIGHT")};
    else if (attribute.type == ir::AttrType::kInt) values = {ir::Attribute(0), ir::Attribute(1)};
    else if (attribute.type == ir::AttrType::kFloat) values = {ir::Attribute(0.3f), ir::Attribute(1.7f)};
    else ADD_FAILURE() << row.name << ": no settings known for " << attribute.name;
    if (attribute.required) {
      for (ir::Attrs& attrs : list) attrs.set(attribute.name, values[0]);
    }
    for (const ir::Attribute& value : values) {
      ir::Attrs other = list[0];
      other.set(attribute.name, value);
      list.push_back(other);
    }
  }
  return list;
}

int sweep_row(const Row& row, DType type) {
  const Schema& schema = newest_schema(*find_op("", row.name));
  int checked = 0;
  for (const ir::Attrs& attrs : settings(row, schema)) {
    // fmod of floating types needs its attribute, the other way round for integers either will do.
    if (row.name == "Mod" && is_float(type) && attrs.get_int("fmod", 0) == 0) continue;
    Instance instance;
    instance.op = row.name;
    instance.attrs = attrs;
    instance.seed = static_cast<unsigned>(checked) + 7u * static_cast<unsigned>(type);
    const std::vector<Dims> broadcast{{2, 3, 1, 17}, {3, 5, 1}, {17}};
    const auto formals = row.variadic ? std::size_t{3} : schema.inputs.size();
    for (std::size_t i = 0; i < formals; ++i) {
      const Formal& formal = row.variadic ? schema.inputs[0] : schema.inputs[i];
      const TypeConstraint* constraint = schema.constraint(formal.type);
      const bool own = !constraint || row.variadic || formal.type == schema.inputs[row.type_input()].type;
      instance.types.push_back(own ? type : dtype_of(constraint->types.front()));
      if (row.name == "Clip" && i > 0) instance.shapes.push_back({});
      else instance.shapes.push_back(formals == 1 ? Dims{3, 37} : broadcast[i]);
    }
    if (row.name == "PRelu") instance.shapes = {{2, 3, 4, 17}, {3, 1, 1}};
    instance.special = !row.variadic;  // sums of huge numbers overflow in float32 only
    checked += check(instance);
    if (row.name == "Pow")
      for (const DType exponent : {DType::kFloat32, DType::kInt32, DType::kInt64}) {
        instance.types[1] = exponent;
        checked += check(instance);
      }
    // Of one shape, long enough for several vectors and a tail.
    for (std::size_t i = 0; i < formals; ++i)
      if (!(row.name == "Clip" && i > 0)) instance.shapes[i] = row.name == "PRelu" && i == 1 ? Dims{1} : Dims{7, 181};
    instance.special = false;
    checked += check(instance);
  }
  return checked;
}

TEST(Pointwise, EveryRowTypeAndSettingMatchesItsReference) {
  loops::cpu::testing::for_each_target([](std::string_view target) {
    SCOPED_TRACE(std::string(target));
    std::uint64_t number = 0;
    for (const Row& row : all_rows()) {
      const Schema& schema = newest_schema(*find_op("", row.name));
      const TypeConstraint* constraint = schema.constraint(schema.inputs[row.type_input()].type);
      ASSERT_NE(constraint, nullptr) << row.name;
      for (const std::string& name : constraint->types) {
        const DType type = dtype_of(name);
        if (type == DType::kUndefined || !test::swept(number++)) continue;
        const int checked = sweep_row(row, type);
        // The emitter has no 64-bit unsigned arithmetic: those go to another candidate.
        if (type != DType::kUint64) {
          EXPECT_GT(checked, 0) << row.name << " over " << dtype_name(type) << " does not compile";
        }
      }
    }
  });
}

TEST(Pointwise, EmptyScalarAndSingleElementTensors) {
  for (const Dims& dims : {Dims{}, Dims{1}, Dims{0}, Dims{3, 0, 2}, Dims{1, 1, 1}}) {
    Instance instance;
    instance.op = "Sigmoid";
    instance.types = {DType::kFloat32};
    instance.shapes = {dims};
    EXPECT_TRUE(check(instance));
    instance.op = "Add";
    instance.types = {DType::kFloat32, DType::kFloat32};
    instance.shapes = {dims, {1}};
    EXPECT_TRUE(check(instance));
  }
}

}  // namespace
}  // namespace lathe::ops::pointwise
