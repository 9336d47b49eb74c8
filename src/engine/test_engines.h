// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Engines made by hand, for the tests of src/engine and src/runtime: they need no builder.

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "engine/engine_data.h"
#include "engine/native_code.h"
#include "ir/text.h"

namespace lathe::engine::test {

inline plan::Slot slot(std::string name, ir::Shape shape, plan::Storage storage, DType dtype = DType::kFloat32) {
  plan::Slot s;
  s.name = std::move(name);
  s.dtype = dtype;
  s.shape = std::move(shape);
  s.storage = storage;
  return s;
}

inline plan::Step copy_step(plan::SlotId from, plan::SlotId to, std::string label = "copy") {
  plan::Step step;
  step.kind = plan::StepKind::kCopy;
  step.kernel = "cpu.copy";
  step.label = std::move(label);
  step.inputs = {from};
  step.outputs = {to};
  return step;
}

inline plan::BlobId add_blob(EngineData& data, std::string name, Tensor tensor) {
  auto owner = std::make_shared<Tensor>(std::move(tensor));
  plan::Blob blob;
  blob.name = std::move(name);
  blob.dtype = owner->dtype();
  blob.dims = owner->dims();
  blob.bytes = owner->bytes();
  blob.hash = hash128(owner->raw(), owner->bytes());
  data.blobs.push_back(std::move(blob));
  data.blob_bytes.emplace_back(owner->raw(), owner->bytes());
  data.owners.push_back(std::move(owner));
  return static_cast<plan::BlobId>(data.blobs.size() - 1);
}

inline Tensor ramp(Dims dims, float first = 0) {
  Tensor tensor(DType::kFloat32, std::move(dims));
  for (float& value : tensor.mutable_data<float>()) value = first++;
  return tensor;
}

/// y = concat(x, w) along axis 1, for x: float[batch, 3, height, width] and the constant w of one channel at batch 1: x goes through a
/// channels-last activation and back; z = x, flattened.
inline EngineData concat_engine() {
  EngineData data;
  data.producer = "lathe test";
  data.model_name = "concat";
  using plan::Storage;
  const ir::Dim height = ir::Dim::symbol("height"), width = ir::Dim::symbol("width");
  const plan::BlobId w = add_blob(data, "w", ramp({1, 1, 4, 5}, 100));
  plan::Program program;
  program.slots = {
      slot("x", {1, 3, height, width}, Storage::kInput),           // 0
      slot("y", {1, 4, height, width}, Storage::kOutput),          // 1
      slot("", {1, 3, height, width}, Storage::kArena),            // 2 channels-last copy of x
      slot("", {1, 3, height, width}, Storage::kAlias),            // 3 the first channels of y
      slot("", {1, 1, 4, 5}, Storage::kAlias),                     // 4 the last channel of y
      slot("w", {1, 1, 4, 5}, Storage::kConstant),                 // 5
      slot("z", {ir::Dim(3) * height * width}, Storage::kOutput),  // 6
      slot("", {1, 3, height, width}, Storage::kAlias),            // 7 z in the shape of x
  };
  program.slots[2].order = {0, 2, 3, 1};
  program.slots[3].parent = program.slots[4].parent = 1;
  program.slots[3].alias_axis = program.slots[4].alias_axis = 1;
  program.slots[4].alias_offset = 3;
  program.slots[5].blob = w;
  program.slots[7].parent = 6;
  program.steps = {copy_step(0, 2, "to channels-last"), copy_step(2, 3, "into y"), copy_step(5, 4, "constant into y"), copy_step(2, 7, "into z")};
  program.steps[1].sources = {"Concat_0"};
  program.segments = {{0, 4}};
  program.inputs = {{"x", 0, -1}};
  program.outputs = {{"y", 1, -1}, {"z", 6, -1}};
  program.symbols = {{"height", 1, 4, 64}, {"width", 1, 5, -1}};
  data.sections.push_back({"cpu-generic", "", "any CPU", program});
  data.report_json = R"({"steps":4})";
  data.portable_graph = std::string("not a real graph\0with a zero", 28);
  return data;
}

/// The least that is an ELF file for CUDA: a header and one section, the names.
inline std::vector<std::byte> tiny_cubin(std::byte filling = std::byte{0}) {
  std::vector<std::byte> file(64 + 64 + 16, filling);
  const auto put = [&](std::size_t at, std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) file[at + static_cast<std::size_t>(i)] = static_cast<std::byte>(value >> (8 * i));
  };
  std::fill_n(file.begin(), 128, std::byte{0});
  std::memcpy(file.data(),
              "\x7f"
              "ELF\x02\x01\x01",
              7);
  put(18, 190, 2);  // machine
  put(40, 64, 8);   // sections
  put(52, 64, 2);
  put(58, 64, 2);
  put(60, 1, 2);
  put(64 + 4, 3, 4);     // a table of names,
  put(64 + 24, 128, 8);  // which lies here
  put(64 + 32, 16, 8);
  file[128] = file[143] = std::byte{0};
  return file;
}

inline trust::PrivateKey test_key(char digit = '1') { return trust::PrivateKey::parse("lathe-private-key-1 " + std::string(64, digit)); }

/// Gives a section native code of two images, signed by test_key().
inline void add_native(EngineData& data, std::size_t section) {
  const std::vector<std::byte> a = tiny_cubin(), b = tiny_cubin(std::byte{7});
  std::vector<NativeImage> images{{trust::digest(a), "sm_90a", a}, {trust::digest(b), "sm_90a", b}};
  auto bytes = std::make_shared<const std::vector<std::byte>>(pack_native(std::move(images)));
  NativeCode& native = data.sections.at(section).native;
  native.bytes = *bytes;
  native.hash = hash128(bytes->data(), bytes->size());
  native.signatures.clear();
  sign_native(native, test_key());
  data.owners.push_back(std::move(bytes));
}

/// Every kind of parameter and every field of a program, with values that differ from the defaults. Sound, but not to be run.
inline EngineData rich_engine() {
  EngineData data = concat_engine();
  ir::Attrs attrs;
  attrs.set("float", 0.1F);
  attrs.set("int", std::int64_t{-5});
  attrs.set("string", std::string("two\nlines \0 and zero", 20));
  attrs.set("floats", std::vector<float>{1, -0.0F, 3e-40F});
  attrs.set("ints", std::vector<std::int64_t>{INT64_MIN, 0, INT64_MAX});
  attrs.set("strings", std::vector<std::string>{"", "b"});
  attrs.set("tensor", ramp({2, 3}));
  attrs.set("scalar", Tensor::scalar(7));
  attrs.set("texts", Tensor::strings({2}, {"p", ""}));
  attrs.set("tensors", std::vector<Tensor>{ramp({1}), Tensor(DType::kInt4, {3})});
  attrs.set("sparse", ir::SparseTensor{ramp({2}), Tensor::vector(std::vector<std::int64_t>{1, 4}), {9}});
  ir::Type element = ir::Type::tensor(DType::kInt64, {ir::Dim::symbol("n"), 2}), sequence;
  sequence.kind = ir::TypeKind::kSequence;
  sequence.element = std::make_shared<const ir::Type>(element);
  attrs.set("type", sequence);
  attrs.set("graph", ir::parse_graph("graph g(a: float[n]) -> (b) {\n  k: float[1] = const {0.1}\n  b: float[n] = Mul(a, k)\n}\n"));
  attrs.set("undefined", ir::Attribute());
  plan::Program& program = data.sections[0].program;
  program.steps[0].params = attrs;
  program.steps[0].weights = {0};
  program.steps[0].measured_seconds = 1e-5;
  program.steps[0].flops = 2e9;
  program.steps[0].bytes = 3e6;
  program.steps[0].pinned = "bf16 was too coarse";
  program.steps[0].inputs.push_back(-1);
  program.steps[0].kind = plan::StepKind::kKernel;
  program.inputs[0].donated_to = 1;
  program.subprograms.push_back(concat_engine().sections[0].program);
  plan::Step call;
  call.kind = plan::StepKind::kBranch;
  call.label = "branch";
  call.regions = {0, 0};
  program.steps.push_back(call);
  plan::Step size;
  size.kind = plan::StepKind::kReadSize;
  size.read_symbol = "found";
  program.steps.push_back(size);
  program.slots.push_back(slot("late", {ir::Dim::floordiv(ir::Dim::symbol("found") - 1, 2) + 1, ir::Dim::max(ir::Dim::symbol("height"), 8)},
                               plan::Storage::kArena, DType::kBFloat16));
  program.segments = {{0, 6}};
  plan::Blob packed;
  packed.pack = "test.pack";
  packed.pack_params = attrs;
  packed.sources = {0, -1};
  static const std::array<std::byte, 3> kBytes{std::byte{1}, std::byte{2}, std::byte{3}};
  packed.bytes = kBytes.size();
  packed.hash = hash128(kBytes.data(), kBytes.size());
  data.blobs.push_back(packed);
  data.blob_bytes.emplace_back(kBytes);
  add_blob(data, "same bytes as w", ramp({1, 1, 4, 5}, 100));
  data.blobs.back().dims = {20};
  add_blob(data, "empty", Tensor(DType::kFloat32, {0, 3}));
  data.precision = {{"x", DType::kBFloat16, DType::kFloat32, "asked for"}};
  data.custom_ops = {"com.example::Thing@2"};
  data.metadata = {{"author", "someone"}, {"empty", ""}};
  DeviceSection second = concat_engine().sections[0];
  second.device = "cpu";
  second.needs = "avx2";
  second.description = "a machine";
  data.sections.insert(data.sections.begin(), second);
  add_native(data, 0);
  return data;
}

/// A dynamic program with a call, a sequence and a nested graph; sound and to be run: y = z = x.
inline EngineData dynamic_engine() {
  const ir::Dim height = ir::Dim::symbol("height");
  const auto host = [](const char* op, std::vector<plan::SlotId> inputs, std::vector<plan::SlotId> outputs, std::int64_t own) {
    plan::Step step;
    step.kind = plan::StepKind::kHostOp;
    step.label = op;
    step.kernel = std::string("host.") + op;
    step.params.set("op", op);
    step.params.set("inputs", own);
    step.inputs = std::move(inputs);
    step.outputs = std::move(outputs);
    return step;
  };
  plan::Program called;
  called.slots = {slot("x", {height}, plan::Storage::kInput), slot("carrier", {ir::Dim::symbol("n"), 0}, plan::Storage::kInput, DType::kUint8),
                  slot("y", {height}, plan::Storage::kOutput)};
  plan::Step copy;
  copy.kind = plan::StepKind::kCopy;
  copy.kernel = "cpu.copy";
  copy.inputs = {0};
  copy.outputs = {2};
  called.steps = {copy};
  called.segments = {{0, 1}};
  called.inputs = {{"x", 0, -1}, {"carrier", 1, -1}};
  called.outputs = {{"y", 2, -1}};
  plan::Program body;
  body.dynamic = true;
  body.slots = {slot("a", {height}, plan::Storage::kInput), slot("b", {height}, plan::Storage::kOutput)};
  body.steps = {host("Identity", {0}, {1}, 1)};
  body.segments = {{0, 1}};
  body.inputs = {{"a", 0, -1}};
  body.outputs = {{"b", 1, -1}};

  EngineData data;
  data.producer = "test";
  DeviceSection section;
  section.device = "cpu-generic";
  plan::Program& program = section.program;
  program.dynamic = true;
  program.slots = {slot("x", {height}, plan::Storage::kInput), slot("y", {height}, plan::Storage::kOutput), slot("s", {}, plan::Storage::kArena),
                   slot("z", {height}, plan::Storage::kOutput), slot("c", {}, plan::Storage::kInput, DType::kBool)};
  program.slots[2].dtype = DType::kUndefined;
  ir::Type sequence;
  sequence.kind = ir::TypeKind::kSequence;
  sequence.element = std::make_shared<const ir::Type>(ir::Type::tensor(DType::kFloat32));
  program.slots[2].type = sequence;
  plan::Step call;
  call.kind = plan::StepKind::kCall;
  call.label = "call";
  call.params.set("carriers", std::vector<std::int64_t>{0});
  call.inputs = {0, 0};
  call.outputs = {1};
  call.regions = {0};
  plan::Step branch = host("If", {4, 1, 1}, {3}, 1);
  branch.params.set("graphs", std::vector<std::string>{"then_branch", "else_branch"});
  branch.params.set("formals", std::vector<std::int64_t>{0, 0});
  branch.regions = {1, 1};
  program.steps = {call, host("SequenceConstruct", {1}, {2}, 1), branch};
  program.segments = {{0, 3}};
  program.inputs = {{"x", 0, -1}, {"c", 4, -1}};
  program.outputs = {{"y", 1, -1}, {"z", 3, -1}};
  program.symbols = {{"height", 1, 4, 64}};
  program.subprograms = {called, body};
  data.sections.push_back(std::move(section));
  return data;
}

}  // namespace lathe::engine::test
