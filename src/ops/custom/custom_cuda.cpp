// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.custom": the kernel of a custom operator's source. In front of the source stand the types of the step's tensors under the names of the op's
// texts and its attributes as constants, so one source serves every type; extents come as a parameter, so it is compiled once for all shapes.
// The source is the process's own: an engine file only names the op.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "backend/cuda/device.h"
#include "ops/custom/step.h"
#include "ops/registry.h"
#include "ops/schema.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

constexpr std::size_t kMaxParameterBytes = 4096;  // of a kernel, on every architecture
constexpr std::size_t kMostAxes = 8, kShapeWords = kMostAxes + 2;

constexpr std::string_view kPrelude = R"cuda(
struct half_t { unsigned short bits; };
struct bf16_t { unsigned short bits; };
struct lathe_shape { long long size, rank, extent[8]; };
struct lathe_shapes { long long count; lathe_shape inputs[LATHE_INPUTS]; lathe_shape outputs[LATHE_OUTPUTS]; };
template <class X> __device__ __forceinline__ float to_float(X x) { return (float)x; }
template <> __device__ __forceinline__ float to_float(half_t x) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x.bits)); return f; }
template <> __device__ __forceinline__ float to_float(bf16_t x) { return __uint_as_float((unsigned)x.bits << 16); }
template <class X> struct lathe_from { static __device__ __forceinline__ X of(float f) { return (X)f; } };
template <> struct lathe_from<half_t> {
  static __device__ __forceinline__ half_t of(float f) { half_t h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(f)); return h; }
};
template <> struct lathe_from<bf16_t> {
  static __device__ __forceinline__ bf16_t of(float f) {
    bf16_t h;
    const unsigned u = __float_as_uint(f);
    h.bits = f != f ? 0x7fc0 : (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
    return h;
  }
};
template <class X> __device__ __forceinline__ X from_float(float f) { return lathe_from<X>::of(f); }
)cuda";

std::string_view cuda_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return "float";
    case DType::kFloat64: return "double";
    case DType::kFloat16: return "half_t";
    case DType::kBFloat16: return "bf16_t";
    case DType::kInt8: return "signed char";
    case DType::kInt16: return "short";
    case DType::kInt32: return "int";
    case DType::kInt64: return "long long";
    case DType::kUint16: return "unsigned short";
    case DType::kUint32: return "unsigned int";
    case DType::kUint64: return "unsigned long long";
    case DType::kBool: return "bool";
    default: return "unsigned char";
  }
}

bool is_identifier(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !text.empty() && letter(text.front()) && std::all_of(text.begin(), text.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

/// "typedef float T;" for each variable of the op's texts that has one type here.
std::string typedefs(const ops::Schema& schema, const BindRequest& request) {
  std::map<std::string, DType> types;
  const auto look = [&](std::span<const TensorDesc> descs, const std::vector<ops::Formal>& formals) {
    for (std::size_t i = 0; i < descs.size(); ++i) {
      const ops::Formal* formal = ops::Schema::formal_at(formals, i);
      if (formal && formal->homogeneous && descs[i].dtype != DType::kUndefined && schema.constraint(formal->type)) types.emplace(formal->type, descs[i].dtype);
    }
  };
  look(request.inputs, schema.inputs);
  look(request.outputs, schema.outputs);
  std::string text;
  for (const auto& [name, dtype] : types)
    if (is_identifier(name)) text += fmt::format("typedef {} {};\n", cuda_type(dtype), name);
  return text;
}

std::string number(float value) {
  if (!std::isfinite(value)) throw Error(Code::kUnsupported, "an attribute that is not finite, of a custom operator with a CUDA kernel");
  return fmt::format("(float){:.9g}", value);
}
std::string number(std::int64_t value) {
  return value == std::numeric_limits<std::int64_t>::min() ? "(-9223372036854775807ll - 1)" : fmt::format("{}ll", value);
}

template <class T>
std::string constants(std::string_view type, const std::string& name, const std::vector<T>& values) {
  std::string text = fmt::format("constexpr int {}_count = {};\n", name, values.size());
  if (values.empty()) return text;
  text += fmt::format("__device__ constexpr {} {}[] = {{", type, name);
  for (const T value : values) text += number(value) + ", ";
  return text + "};\n";
}

/// The numbers among the attributes, as constants.
std::string attributes(const ir::Attrs& attrs) {
  std::string text = "namespace attr {\n";
  for (const auto& [name, attribute] : attrs) {
    if (!is_identifier(name)) continue;
    if (const auto* f = std::get_if<float>(&attribute.value)) text += fmt::format("constexpr float {} = {};\n", name, number(*f));
    if (const auto* i = std::get_if<std::int64_t>(&attribute.value)) text += fmt::format("constexpr long long {} = {};\n", name, number(*i));
    if (const auto* list = std::get_if<std::vector<float>>(&attribute.value)) text += constants("float", name, *list);
    if (const auto* list = std::get_if<std::vector<std::int64_t>>(&attribute.value)) text += constants("long long", name, *list);
  }
  return text + "}\n";
}

class CustomCudaKernel final : public Kernel {
 public:
  explicit CustomCudaKernel(const BindRequest& request) : step_(request.params) {
    if (!request.device) throw Error(Code::kInternal, "a CUDA kernel was bound without a device");
    const CustomOp& op = step_.op();
    if (op.cuda.empty()) throw Error(Code::kUnsupported, fmt::format("{} has no CUDA kernel in this process", step_.where()));
    fit(request);
    auto& device = *static_cast<cuda::Device*>(request.device);
    const ops::Schema& schema = ops::newest_schema(*ops::find_op(op.domain, op.name));
    const std::string source =
        fmt::format("#define LATHE_INPUTS {}\n#define LATHE_OUTPUTS {}\n{}{}{}#line 1 \"{}.cu\"\n{}\n", std::max<std::size_t>(inputs_, 1),
                    std::max<std::size_t>(outputs_, 1), kPrelude, typedefs(schema, request), attributes(step_.attrs()), op.name, op.cuda);
    try {
      module_ = device.compiled_module(source);
      function_ = module_->function(op.name.c_str());
    } catch (const Error& error) {
      if (error.code() != Code::kInternal) throw;
      throw Error(Code::kInvalidArgument, fmt::format("the CUDA source of the custom operator {}::{}: {}", op.domain, op.name, error.message()))
          .with_remedy("It must define `extern \"C\" __global__ void " + op.name + "(...)`: see docs/custom_ops.md.");
    }
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  Status run(const KernelIo& io) const noexcept override {
    if (blocks_ == 0) return Status::ok();
    // Nothing stale lies behind the pointers, which a driver that checks would take for parameters.
    std::array<const void*, kMaxParameterBytes / sizeof(void*)> pointers{};
    std::array<void*, kMaxParameterBytes / sizeof(void*) + 1> arguments;
    std::size_t count = 0;
    for (std::size_t i = 0; i < inputs_; ++i) pointers[count++] = i < given_ ? io.inputs[i] : nullptr;
    for (std::size_t i = 0; i < outputs_; ++i) pointers[count++] = i < asked_ ? io.outputs[i] : nullptr;
    for (std::size_t i = 0; i < count; ++i) arguments[i] = &pointers[i];
    arguments[count] = const_cast<std::int64_t*>(shapes_.data());
    cuda::LaunchShape shape;
    shape.grid_x = blocks_;
    shape.block = static_cast<std::uint32_t>(step_.op().cuda_block);
    return function_.launch(static_cast<cuda::StreamHandle>(io.stream), shape, arguments.data());
  }

 private:
  void fit(const BindRequest& request) {
    step_.check(request);
    given_ = request.inputs.size();
    asked_ = request.outputs.size();
    const ops::CustomArity arity = ops::custom_arity(step_.op());
    inputs_ = std::max(given_, arity.inputs);
    outputs_ = std::max(asked_, arity.outputs);
    const std::size_t tensors = std::max<std::size_t>(inputs_, 1) + std::max<std::size_t>(outputs_, 1);
    if ((inputs_ + outputs_) * sizeof(void*) + (1 + tensors * kShapeWords) * sizeof(std::int64_t) > kMaxParameterBytes)
      throw Error(Code::kUnsupported, fmt::format("{} has more tensors than a CUDA kernel takes", step_.where()));
    shapes_.assign(1 + tensors * kShapeWords, 0);
    const auto write = [&](std::span<const TensorDesc> descs, std::size_t at) {
      for (const TensorDesc& desc : descs) {
        if (desc.dims.size() > kMostAxes) throw Error(Code::kUnsupported, fmt::format("{} has a tensor of more than {} axes", step_.where(), kMostAxes));
        if (desc.dtype != DType::kUndefined) {
          shapes_[at] = desc.elements();
          shapes_[at + 1] = static_cast<std::int64_t>(desc.dims.size());
          std::copy(desc.dims.begin(), desc.dims.end(), shapes_.begin() + static_cast<std::ptrdiff_t>(at) + 2);
        }
        at += kShapeWords;
      }
    };
    write(request.inputs, 1);
    write(request.outputs, 1 + std::max<std::size_t>(inputs_, 1) * kShapeWords);
    const std::int64_t count = request.outputs.empty() || request.outputs[0].dtype == DType::kUndefined ? 0 : request.outputs[0].elements();
    shapes_[0] = count;
    const CustomOp& op = step_.op();
    const std::int64_t each = op.cuda_elements == 0 ? 1 : std::int64_t{op.cuda_elements} * op.cuda_block;
    const std::int64_t blocks = count / each + (count % each != 0 ? 1 : 0);
    if (blocks > std::numeric_limits<std::int32_t>::max()) throw Error(Code::kUnsupported, fmt::format("{} would need {} blocks", step_.where(), blocks));
    blocks_ = static_cast<std::uint32_t>(blocks);
  }

  ops::CustomStep step_;
  std::shared_ptr<const cuda::Module> module_;
  cuda::Function function_;
  std::size_t inputs_ = 0, outputs_ = 0, given_ = 0, asked_ = 0;  // parameters; of them the step has
  std::vector<std::int64_t> shapes_;                              // lathe_shapes
  std::uint32_t blocks_ = 0;
};

std::unique_ptr<Kernel> bind_custom(const BindRequest& request) { return std::make_unique<CustomCudaKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.custom", bind_custom, ""}}};

}  // namespace

KernelSet kernels_custom_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
