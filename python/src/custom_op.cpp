// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See custom_op.h. Any thread may run an operator: the GIL is taken for the call. The callables are dropped at exit, so that none outlives Python.

#include "custom_op.h"

#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "base/printable.h"
#include "lathe/custom_op.h"
#include "ops/custom/custom.h"
#include "values.h"

namespace lathe::python {
namespace {

struct Callable {
  nb::object function;
};

/// Those of all operators, for the end of the process.
std::vector<std::shared_ptr<Callable>>& callables() {
  static auto& list = *new std::vector<std::shared_ptr<Callable>>;
  return list;
}

/// None: nothing to call.
std::shared_ptr<Callable> kept(nb::object function) {
  if (function.is_none()) return nullptr;
  callables().push_back(std::make_shared<Callable>(std::move(function)));
  return callables().back();
}

nb::object function_of(const Callable& callable) {
  if (!callable.function.is_valid()) throw Error(Code::kCancelled, "Python is about to end");
  return callable.function;
}

[[noreturn]] void fail(const char* what, const nb::python_error& error) {
  const std::string type = nb::cast<std::string>(nb::str(error.type().attr("__name__"))), text = nb::cast<std::string>(nb::str(error.value()));
  throw Error(Code::kInvalidArgument, std::string(what) + " raised " + type + (text.empty() ? "" : ": " + text));
}

// Extents ----------------------------------------------------------------------------------------------------------

nb::object object_of_extent(const Extent& extent) {
  if (const auto number = extent.number()) return nb::int_(*number);
  return nb::cast(extent);
}

Extent extent_of(nb::handle object) {
  if (nb::isinstance<Extent>(object)) return nb::cast<Extent>(object);
  if (PyUnicode_Check(object.ptr())) return Extent::parse(nb::cast<std::string>(object));
  const nb::object index = nb::steal(PyNumber_Index(object.ptr()));
  if (!index.is_valid()) throw nb::python_error();
  return Extent(nb::cast<std::int64_t>(index));
}

nb::tuple tuple_of(const std::vector<Extent>& extents) {
  nb::list list;
  for (const Extent& extent : extents) list.append(object_of_extent(extent));
  return nb::tuple(list);
}

nb::dict dict_of(const ir::Attrs& attrs) {
  nb::dict dict;
  for (const auto& [name, attribute] : attrs) {
    const auto set = [&, key = nb::str(as_utf8(name).c_str())](nb::object value) { dict[key] = std::move(value); };
    if (const auto* f = std::get_if<float>(&attribute.value)) set(nb::float_(static_cast<double>(*f)));
    if (const auto* i = std::get_if<std::int64_t>(&attribute.value)) set(nb::int_(*i));
    if (const auto* s = std::get_if<std::string>(&attribute.value)) set(nb::str(as_utf8(*s).c_str()));
    if (const auto* t = std::get_if<Tensor>(&attribute.value)) set(object_of(*t));
    if (const auto* list = std::get_if<std::vector<float>>(&attribute.value)) set(nb::cast(*list));
    if (const auto* list = std::get_if<std::vector<std::int64_t>>(&attribute.value)) set(nb::cast(*list));
    if (const auto* list = std::get_if<std::vector<std::string>>(&attribute.value)) {
      nb::list texts;
      for (const std::string& text : *list) texts.append(nb::str(as_utf8(text).c_str()));
      set(std::move(texts));
    }
  }
  return dict;
}

// Shapes -----------------------------------------------------------------------------------------------------------

/// CustomShapes as long as the rule runs.
struct ShapesObject {
  CustomShapes* shapes;
  bool later = false;  // it asked for elements that only a run tells

  CustomShapes& get() const {
    if (!shapes) throw Error(Code::kInvalidArgument, "the shape rule is over");
    return *shapes;
  }
};

nb::object content(ShapesObject& self, std::size_t input) {
  try {
    return tuple_of(self.get().content(input));
  } catch (const ops::Later&) {
    self.later = true;
    PyErr_SetString(PyExc_RuntimeError, "only a run tells these elements: the shape rule is asked again then");
    throw nb::python_error();
  }
}

void set_output(ShapesObject& self, std::size_t index, const nb::object& shape) {
  std::vector<Extent> extents;
  for (const nb::handle extent : shape) extents.push_back(extent_of(extent));
  self.get().output(index, std::move(extents));
}

void run_shape_rule(const Callable& callable, CustomShapes& shapes) {
  nb::gil_scoped_acquire held;
  const auto object = std::make_shared<ShapesObject>(ShapesObject{&shapes});
  try {
    function_of(callable)(nb::cast(object));
    object->shapes = nullptr;
  } catch (nb::python_error& error) {
    object->shapes = nullptr;
    if (object->later) throw ops::Later();
    fail("the shape rule", error);
  }
}

// Runs -------------------------------------------------------------------------------------------------------------

std::string text_of(DType dtype, std::span<const std::int64_t> shape) {
  std::string text = numpy_name(dtype) + "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::string list_of(nb::handle shape) {
  std::string text;
  for (const nb::handle extent : shape) text += (text.empty() ? "[" : ", ") + nb::cast<std::string>(nb::str(extent));
  return (text.empty() ? "[" : text) + "]";
}

/// A result into the memory of output `i`.
void write(nb::handle result, const TensorView& view, std::size_t i) {
  const nb::object array = nb::module_::import_("numpy").attr("asarray")(result);
  const nb::object target = array_view(view.data, view.dtype, view.shape, true);
  const bool fits = array.attr("dtype").equal(target.attr("dtype")) && array.attr("shape").equal(target.attr("shape"));
  if (!fits)
    throw Error(Code::kInvalidArgument, "the Python function returned " + nb::cast<std::string>(nb::str(nb::handle(array.attr("dtype")))) +
                                            list_of(array.attr("shape")) + " as output " + std::to_string(i) + ", expected " + text_of(view.dtype, view.shape));
  nb::module_::import_("numpy").attr("copyto")(target, array);
}

void run_function(const Callable& callable, const CustomCall& call) {
  nb::gil_scoped_acquire held;
  try {
    nb::list arguments;
    for (const ConstTensorView& view : call.inputs) {
      if (view.dtype == DType::kUndefined) arguments.append(nb::none());
      else arguments.append(array_view(const_cast<void*>(view.data), view.dtype, view.shape, false));
    }
    const nb::object result = function_of(callable)(*nb::tuple(arguments), **dict_of(call.attributes.impl()));
    if (call.outputs.size() == 1 && !PyTuple_Check(result.ptr())) return write(result, call.outputs[0], 0);
    if (!PyTuple_Check(result.ptr()) && !PyList_Check(result.ptr()))
      throw Error(Code::kInvalidArgument, "the Python function has " + std::to_string(call.outputs.size()) + " outputs to return: a tuple of arrays");
    const nb::tuple results(result);
    if (results.size() < call.outputs.size())
      throw Error(Code::kInvalidArgument,
                  "the Python function returned " + std::to_string(results.size()) + " arrays, expected " + std::to_string(call.outputs.size()));
    for (std::size_t i = 0; i < call.outputs.size(); ++i)
      if (call.outputs[i].dtype != DType::kUndefined) write(results[i], call.outputs[i], i);
  } catch (nb::python_error& error) {
    fail("the Python function", error);
  }
}

void add(const std::string& domain, const std::string& name, int version, const std::string& inputs, const std::string& outputs, const std::string& types,
         const std::string& attributes, const std::string& doc, nb::object run, nb::object shape, bool deterministic, const std::string& cuda, int cuda_block,
         int cuda_elements) {
  CustomOp op;
  op.domain = domain;
  op.name = name;
  op.version = version;
  op.inputs = inputs;
  op.outputs = outputs;
  op.types = types;
  op.attributes = attributes;
  op.doc = doc;
  op.deterministic = deterministic;
  op.cuda = cuda;
  op.cuda_block = cuda_block;
  op.cuda_elements = cuda_elements;
  if (auto rule = kept(std::move(shape))) op.shape = [rule](CustomShapes& shapes) { run_shape_rule(*rule, shapes); };
  if (auto function = kept(std::move(run))) op.run = [function](const CustomCall& call) { run_function(*function, call); };
  register_op(std::move(op));
}

}  // namespace

void register_custom_op(nb::module_& m) {
  const auto both = [](Extent (*act)(const Extent&, const Extent&)) {
    return [act](const Extent& self, nb::handle other) { return object_of_extent(act(self, extent_of(other))); };
  };
  const auto swapped = [](Extent (*act)(const Extent&, const Extent&)) {
    return [act](const Extent& self, nb::handle other) { return object_of_extent(act(extent_of(other), self)); };
  };
  const auto plus = [](const Extent& a, const Extent& b) { return a + b; };
  const auto minus = [](const Extent& a, const Extent& b) { return a - b; };
  const auto times = [](const Extent& a, const Extent& b) { return a * b; };
  const auto quotient = [](const Extent& a, const Extent& b) { return a / b; };
  const auto remainder = [](const Extent& a, const Extent& b) { return a % b; };
  nb::class_<Extent>(m, "Extent",
                     "A free extent of a shape, or an expression over such. It adds, subtracts, multiplies, ``//`` and ``%`` with ints and its like.")
      .def("__add__", both(plus))
      .def("__radd__", swapped(plus))
      .def("__sub__", both(minus))
      .def("__rsub__", swapped(minus))
      .def("__mul__", both(times))
      .def("__rmul__", swapped(times))
      .def("__floordiv__", both(quotient))
      .def("__rfloordiv__", swapped(quotient))
      .def("__mod__", both(remainder))
      .def("__rmod__", swapped(remainder))
      .def("__eq__", [](const Extent& self, nb::handle other) { return nb::isinstance<Extent>(other) && nb::cast<Extent>(other) == self; })
      .def("__hash__", [](const Extent& self) { return std::hash<std::string>()(self.text()); })
      .def("__str__", &Extent::text)
      .def("__repr__", [](const Extent& self) { return "Extent('" + self.text() + "')"; });
  nb::class_<ShapesObject>(m, "CustomShapes")
      .def("input_count", [](const ShapesObject& self) { return self.get().input_count(); })
      .def("has_input", [](const ShapesObject& self, std::size_t i) { return self.get().has_input(i); })
      .def("dtype", [](const ShapesObject& self, std::size_t i) { return numpy_name(self.get().dtype(i)); })
      .def("shape", [](const ShapesObject& self, std::size_t i) { return tuple_of(self.get().shape(i)); })
      .def("content", &content)
      .def("attributes", [](const ShapesObject& self) { return dict_of(self.get().attributes().impl()); })
      .def("output", &set_output);
  m.def("register_op", &add, nb::arg("domain"), nb::arg("name"), nb::arg("version"), nb::arg("inputs"), nb::arg("outputs"), nb::arg("types"),
        nb::arg("attributes"), nb::arg("doc"), nb::arg("run").none(), nb::arg("shape").none(), nb::arg("deterministic"), nb::arg("cuda"), nb::arg("cuda_block"),
        nb::arg("cuda_elements"));
  m.def("forget_ops", [] {
    for (const auto& callable : callables()) callable->function.reset();
  });
}

}  // namespace lathe::python
