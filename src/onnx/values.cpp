// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Values of graph interfaces; see values.h. A message tells itself what it holds, so that `type` only names the outermost one.

#include "onnx/values.h"

namespace lathe::onnx {

namespace {

constexpr int kMaxDepth = 64;

namespace field {
constexpr std::uint32_t kSequenceTensor = 3, kSequenceSparse = 4, kSequenceSequence = 5, kSequenceMap = 6, kSequenceOptional = 7;
constexpr std::uint32_t kOptionalTensor = 3, kOptionalSparse = 4, kOptionalSequence = 5, kOptionalMap = 6, kOptionalOptional = 7;
constexpr std::uint32_t kMapKeyType = 2, kMapKeys = 3, kMapStringKeys = 4, kMapValues = 5;
}  // namespace field

class ValueReader {
 public:
  explicit ValueReader(ReadState& state) : state_(state) {}

  Tensor sequence(data_view bytes, int depth) {
    check(depth);
    std::vector<Tensor> items;
    FieldReader reader(bytes);
    while (reader.next()) {
      switch (reader.tag()) {
        case field::kSequenceTensor: items.push_back(read_tensor(reader.get_view(), state_).tensor); break;
        case field::kSequenceSequence: items.push_back(sequence(reader.get_view(), depth + 1)); break;
        case field::kSequenceMap: items.push_back(map(reader.get_view(), depth + 1)); break;
        case field::kSequenceOptional: items.push_back(optional(reader.get_view(), depth + 1)); break;
        case field::kSequenceSparse: refuse_sparse();
        default: reader.skip();
      }
    }
    return Tensor::sequence(std::move(items));
  }

  Tensor optional(data_view bytes, int depth) {
    check(depth);
    Tensor content = Tensor::nothing();
    FieldReader reader(bytes);
    while (reader.next()) {
      switch (reader.tag()) {
        case field::kOptionalTensor: content = read_tensor(reader.get_view(), state_).tensor; break;
        case field::kOptionalSequence: content = sequence(reader.get_view(), depth + 1); break;
        case field::kOptionalMap: content = map(reader.get_view(), depth + 1); break;
        case field::kOptionalOptional: content = optional(reader.get_view(), depth + 1); break;
        case field::kOptionalSparse: refuse_sparse();
        default: reader.skip();
      }
    }
    return content;
  }

  Tensor map(data_view bytes, int depth) {
    check(depth);
    std::int64_t key_type = 0;
    std::vector<std::int64_t> numbers;
    std::vector<std::string> strings;
    Tensor values;
    FieldReader reader(bytes);
    while (reader.next()) {
      switch (reader.tag()) {
        case field::kMapKeyType: key_type = reader.get_int32(); break;
        case field::kMapKeys:
          collect(
              reader, numbers, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); });
          break;
        case field::kMapStringKeys: strings.push_back(text(reader.get_view())); break;
        case field::kMapValues: values = sequence(reader.get_view(), depth + 1); break;
        default: reader.skip();
      }
    }
    const bool named = key_type == static_cast<std::int64_t>(DType::kString);
    const auto count = static_cast<std::int64_t>(named ? strings.size() : numbers.size());
    Tensor keys = named ? Tensor::strings({count}, std::move(strings)) : Tensor::vector(numbers);
    // The values of a map are one sequence, in which each has a tensor of its own.
    std::vector<Tensor> items = values.is_sequence() ? values.items() : std::vector<Tensor>();
    if (static_cast<std::int64_t>(items.size()) != count) state_.fail(Code::kInvalidModel, "a map has more keys than values, or fewer");
    const DType dtype = items.empty() ? DType::kFloat32 : items.front().dtype();
    Tensor joined(dtype == DType::kUndefined ? DType::kFloat32 : dtype, {count});
    for (std::int64_t i = 0; i < count; ++i) {
      const Tensor& item = items[static_cast<std::size_t>(i)];
      if (!item.is_tensor() || item.size() != 1 || item.dtype() != dtype)
        state_.fail(Code::kInvalidModel, "a map holds values that are no numbers of one type");
      if (dtype == DType::kString) joined.mutable_string_data()[static_cast<std::size_t>(i)] = item.string_data()[0];
      else if (is_float(dtype)) joined.set_from_double(i, item.as_double(0));
      else joined.set_from_int64(i, item.as_int64(0));
    }
    return Tensor::map(std::move(keys), std::move(joined));
  }

 private:
  void check(int depth) const {
    if (depth > kMaxDepth) state_.fail(Code::kInvalidModel, "the value is nested too deeply");
  }
  [[noreturn]] void refuse_sparse() const { state_.fail(Code::kUnsupported, "the value holds a sparse tensor"); }
  ReadState& state_;
};

}  // namespace

Tensor read_value(data_view bytes, const ir::Type& type, ReadState& state) {
  try {
    ValueReader reader(state);
    switch (type.kind) {
      case ir::TypeKind::kSequence: return reader.sequence(bytes, 0);
      case ir::TypeKind::kOptional: return reader.optional(bytes, 0);
      case ir::TypeKind::kMap: return reader.map(bytes, 0);
      default: return read_tensor(bytes, state).tensor;
    }
  } catch (const protozero::exception& error) {
    state.fail(Code::kCorruptFile, std::string("the value cannot be decoded: ") + error.what());
  }
}

}  // namespace lathe::onnx
