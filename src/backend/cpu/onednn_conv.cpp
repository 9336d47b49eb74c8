// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See onednn_conv.h.

#include "backend/cpu/onednn_conv.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <map>
#include <thread>
#include <tuple>

#include "backend/cpu/reorder.h"
#include "base/thread_pool.h"
#include "lathe/status.h"

namespace lathe::cpu::onednn {
namespace {

struct Eltwise {
  dnnl_alg_kind_t kind;
  float alpha, beta;
};

/// The activation in oneDNN's words; kind undef: none.
Eltwise eltwise_of(const Epilogue& e) {
  switch (e.activation) {
    case Activation::kNone: break;
    case Activation::kRelu: return {dnnl_eltwise_relu, 0, 0};
    case Activation::kLeakyRelu: return {dnnl_eltwise_relu, e.alpha, 0};
    case Activation::kClip: return {dnnl_eltwise_clip, e.alpha, e.beta};
    case Activation::kSilu: return {dnnl_eltwise_swish, 1, 0};
    case Activation::kHardSwish: return {dnnl_eltwise_hardswish, 1.0F / 6, 0.5F};
    case Activation::kHardSigmoid: return {dnnl_eltwise_hardsigmoid, e.alpha, e.beta};
    case Activation::kSigmoid: return {dnnl_eltwise_logistic, 0, 0};
    case Activation::kGeluErf: return {dnnl_eltwise_gelu_erf, 0, 0};
    case Activation::kGeluTanh: return {dnnl_eltwise_gelu_tanh, 0, 0};
    case Activation::kTanh: return {dnnl_eltwise_tanh, 0, 0};
    case Activation::kElu: return {dnnl_eltwise_elu, e.alpha, 0};
    case Activation::kMish: return {dnnl_eltwise_mish, 0, 0};
  }
  return {dnnl_alg_kind_undef, 0, 0};
}

/// oneDNN bounds a NaN like a number too low.
bool hides_nan(const Epilogue& e) {
  switch (e.activation) {
    case Activation::kRelu:
    case Activation::kClip:
    case Activation::kHardSigmoid: return true;
    case Activation::kLeakyRelu: return e.alpha == 0;
    default: return false;
  }
}

std::size_t aligned(std::size_t bytes) { return (bytes + 63) & ~std::size_t{63}; }
std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::int64_t element_bytes(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

/// oneDNN's kernels count an image's elements, and the weights, in ints.
bool is_counted(const ConvProblem& p) {
  const auto fits = [](std::initializer_list<std::int64_t> extents) {
    std::int64_t product = 1;
    for (const std::int64_t extent : extents)
      if (extent < 0 || __builtin_mul_overflow(product, extent, &product) || product > std::numeric_limits<std::int32_t>::max()) return false;
    return true;
  };
  return fits({p.h, p.w, p.cin}) && fits({p.kh, p.kw, p.cin, p.cout}) && fits({p.oh(), p.ow(), p.cout});
}

/// All pixels of an image are one row: no piece needs another's input.
bool is_flat(const ConvProblem& p) {
  return p.kh == 1 && p.kw == 1 && p.stride_h == 1 && p.stride_w == 1 && p.pad_top == 0 && p.pad_left == 0 && p.pad_bottom == 0 && p.pad_right == 0;
}

}  // namespace

/// The geometry of one piece; equal ones share a primitive.
struct Conv::Shape {
  std::int64_t ih = 1, iw = 1, oh = 1, ow = 1, pad_top = 0, pad_bottom = 0, cout = 1;
  auto operator<=>(const Shape&) const = default;
};

struct Conv::Part {
  std::int64_t begin = 0, cout = 0;
  std::size_t weights_at = 0;  ///< in the packed bytes
  Memory weights, bias;
};

struct Conv::Variant {
  Shape shape;
  MemoryDesc src, dst, residual;
  PrimitiveDesc desc;
  const_dnnl_memory_desc_t scratchpad = nullptr;  ///< owned by `desc`
  Primitive primitive;
};

struct Conv::Piece {
  std::size_t variant = 0, part = 0;
  std::int64_t src_pixel = 0, dst_pixel = 0;  ///< first pixel in the image
};

/// Memory objects for one thread at a time: a call of oneDNN takes its addresses from them.
struct Conv::Lane {
  std::atomic<bool> busy{false};
  Stream stream;
  struct Set {
    Memory src, dst, residual, scratchpad;
  };
  std::vector<Set> sets;  ///< one per variant
};

Conv::Conv(Conv&&) noexcept = default;
Conv::~Conv() = default;

std::string conv_unsupported(const ConvSpec& spec) {
  const ConvProblem& p = spec.problem;
  if (p.weights == DType::kBFloat16 && !Library::get().multiplies_bf16()) return "the CPU has no products in bfloat16";
  if (std::min({p.pad_top, p.pad_left, p.pad_bottom, p.pad_right}) < 0) return "negative padding";
  if (std::max(p.pad_top, p.pad_bottom) >= (p.kh - 1) * p.dilation_h + 1 || std::max(p.pad_left, p.pad_right) >= (p.kw - 1) * p.dilation_w + 1)
    return "the padding is wider than the window";
  if (p.oh() < 1 || p.ow() < 1) return "no output";
  if (hides_nan(spec.epilogue)) return "oneDNN's activation turns NaN into a number";
  return "";
}

std::vector<ConvSplit> conv_splits(const ConvProblem& p, std::int64_t images, bool dense, int threads) {
  std::vector<ConvSplit> splits;
  const std::int64_t rows = is_flat(p) ? p.oh() * p.ow() : p.oh(), team = threads;
  const auto add = [&](bool channels, std::int64_t count) {
    if (std::none_of(splits.begin(), splits.end(), [&](const ConvSplit& s) { return s.channels == channels && s.count == count; }))
      splits.push_back({channels, count});
  };
  // As many pieces as make the threads' shares equal.
  const std::int64_t bands = images >= 3 * team || images % team == 0 ? 1 : std::min(team, rows);
  // Small enough that what goes through scratch stays in the second cache level.
  const std::int64_t bytes = p.h * p.w * p.cin * element_bytes(p.src) + p.oh() * p.ow() * p.cout * element_bytes(p.dst);
  const std::int64_t small = std::min(ceil_div(ceil_div(2 * bytes, cache_sizes().l2), team) * team, rows / 2);
  if (!dense && small > bands) {
    add(false, small);
    add(false, bands);
  } else {
    add(false, bands);
    if (small > bands) add(false, small);
  }
  // Few pixels and many weights: each thread reads its own weights instead of all.
  if (team > 1 && p.groups == 1 && p.cout >= 32 * team && p.oh() * p.ow() * images <= 512) add(true, team);
  return splits;
}

std::string no_implementation(ConvSpec spec, const std::vector<ConvSplit>& splits) {
  std::string why;
  for (const ConvSplit& split : splits) {
    spec.split = split;
    try {
      const Conv probe(spec);
      return "";
    } catch (const Error& error) {
      why = error.message();
    }
  }
  return why;
}

Conv::Conv(const ConvSpec& spec) : spec_(spec) {
  if (!is_counted(spec.problem)) throw Error(Code::kUnsupported, "more elements than oneDNN counts");
  const SingleThread one;  // primitives are planned for the threads of who describes them
  cut();
  const ConvProblem& p = spec_.problem;
  // The piece that comes most often chooses the weights' format; the others must do with it.
  std::vector<std::size_t> often(variants_.size(), 0), order;
  for (const Piece& piece : pieces_) ++often[piece.variant];
  for (std::size_t i = 0; i < variants_.size(); ++i) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return often[a] > often[b]; });
  std::map<std::int64_t, const_dnnl_memory_desc_t> formats;  // by output channels
  for (const std::size_t at : order) {
    Variant& v = variants_[at];
    const auto found = formats.find(v.shape.cout);
    v.desc = describe_primitive(v.shape, found == formats.end() ? nullptr : found->second);
    formats.emplace(v.shape.cout, functions().primitive_desc_query_md(v.desc.get(), dnnl_query_weights_md, 0));
    v.scratchpad = functions().primitive_desc_query_md(v.desc.get(), dnnl_query_scratchpad_md, 0);
    const char* name = "";
    require(functions().primitive_desc_query(v.desc.get(), dnnl_query_impl_info_str, 0, &name), "implementation's name");
    if (const std::string_view text = name; !text.starts_with("br") && !text.starts_with("jit"))  // brgconv, brdgmm_dw, jit_dw, ...
      throw Error(Code::kUnsupported, fmt::format("oneDNN has no direct kernel for it, only '{}'", text));
    const std::array<std::int64_t, 4> src{1, p.cin, v.shape.ih, v.shape.iw}, dst{1, v.shape.cout, v.shape.oh, v.shape.ow};
    v.src = make_desc(src, data_type(p.weights), dnnl_nhwc);
    v.dst = make_desc(dst, data_type(p.dst), dnnl_nhwc);
    if (spec_.residual) v.residual = make_desc(dst, data_type(spec_.residual_type), dnnl_nhwc);
  }
  for (Part& part : parts_) {
    part.weights_at = weight_bytes_;
    weight_bytes_ += aligned(functions().memory_desc_get_size(formats.at(part.cout)));
  }
}

void Conv::cut() {
  const ConvProblem& p = spec_.problem;
  const bool flat = is_flat(p);
  const auto variant_of = [&](const Shape& shape) {
    const auto found = std::find_if(variants_.begin(), variants_.end(), [&](const Variant& v) { return v.shape == shape; });
    if (found != variants_.end()) return static_cast<std::size_t>(found - variants_.begin());
    variants_.emplace_back();
    variants_.back().shape = shape;
    return variants_.size() - 1;
  };
  const std::int64_t count = std::max<std::int64_t>(spec_.split.count, 1);
  // Output channels in whole vectors.
  const std::int64_t each = spec_.split.channels ? std::min(p.cout, (ceil_div(p.cout, count) + 15) / 16 * 16) : p.cout;
  for (std::int64_t begin = 0; begin < p.cout; begin += each) {
    parts_.emplace_back();
    parts_.back().begin = begin;
    parts_.back().cout = std::min(each, p.cout - begin);
  }
  const std::int64_t rows = flat ? p.oh() * p.ow() : p.oh(), band = spec_.split.channels ? rows : ceil_div(rows, std::min(count, rows));
  for (std::int64_t first = 0; first < rows; first += band) {
    const std::int64_t last = std::min(first + band, rows);
    Shape shape;
    Piece piece;
    if (flat) {
      shape.iw = shape.ow = last - first;
      piece.src_pixel = piece.dst_pixel = first;
    } else {
      const std::int64_t from = first * p.stride_h - p.pad_top, to = (last - 1) * p.stride_h - p.pad_top + (p.kh - 1) * p.dilation_h + 1;
      shape.pad_top = std::max<std::int64_t>(-from, 0);
      shape.pad_bottom = std::max<std::int64_t>(to - p.h, 0);
      shape.ih = std::min(to, p.h) - std::max<std::int64_t>(from, 0);
      shape.iw = p.w;
      shape.oh = last - first;
      shape.ow = p.ow();
      piece.src_pixel = std::max<std::int64_t>(from, 0) * p.w;
      piece.dst_pixel = first * p.ow();
      if (shape.ih < 1) throw Error(Code::kUnsupported, "a band of rows reads padding alone");
    }
    for (piece.part = 0; piece.part < parts_.size(); ++piece.part) {
      shape.cout = parts_[piece.part].cout;
      piece.variant = variant_of(shape);
      pieces_.push_back(piece);
    }
  }
}

PrimitiveDesc Conv::describe_primitive(const Shape& shape, const_dnnl_memory_desc_t weights) const {
  const ConvProblem& p = spec_.problem;
  const std::array<std::int64_t, 4> src_dims{1, p.cin, shape.ih, shape.iw}, dst_dims{1, shape.cout, shape.oh, shape.ow};
  const std::array<std::int64_t, 1> bias_dims{shape.cout};
  std::vector<std::int64_t> weight_dims{shape.cout / p.groups, p.cin / p.groups, p.kh, p.kw};
  if (p.groups > 1) weight_dims.insert(weight_dims.begin(), p.groups);
  const MemoryDesc src = make_desc(src_dims, data_type(p.weights), dnnl_nhwc), dst = make_desc(dst_dims, data_type(p.dst), dnnl_nhwc);
  const MemoryDesc bias = spec_.bias ? make_desc(bias_dims, dnnl_f32, dnnl_a) : nullptr;
  const MemoryDesc any = make_desc(weight_dims, data_type(p.weights), dnnl_format_tag_any);

  const Functions& f = functions();
  dnnl_post_ops_t raw_ops = nullptr;
  require(f.post_ops_create(&raw_ops), "list of post-operations");
  const PostOps ops(raw_ops);
  const Eltwise act = eltwise_of(spec_.epilogue);
  const auto add_residual = [&] {
    const MemoryDesc residual = make_desc(dst_dims, data_type(spec_.residual_type), dnnl_nhwc);
    require(f.post_ops_append_binary(ops.get(), dnnl_binary_add, residual.get()), "post-operation");
  };
  if (spec_.residual && !spec_.epilogue.residual_after) add_residual();
  if (act.kind != dnnl_alg_kind_undef) require(f.post_ops_append_eltwise(ops.get(), act.kind, act.alpha, act.beta), "post-operation");
  if (spec_.residual && spec_.epilogue.residual_after) add_residual();

  dnnl_primitive_attr_t raw_attributes = nullptr;
  require(f.primitive_attr_create(&raw_attributes), "attributes");
  const Attributes attributes(raw_attributes);
  require(f.primitive_attr_set_scratchpad_mode(attributes.get(), dnnl_scratchpad_mode_user), "scratchpad mode");
  require(f.primitive_attr_set_post_ops(attributes.get(), ops.get()), "attributes");
  const dnnl_dims_t strides = {p.stride_h, p.stride_w}, dilations = {p.dilation_h - 1, p.dilation_w - 1};
  // What the last column leaves over needs no padding; oneDNN wants the exact extents.
  const std::int64_t right = (shape.ow - 1) * p.stride_w + (p.kw - 1) * p.dilation_w + 1 - shape.iw - p.pad_left;
  const dnnl_dims_t before = {shape.pad_top, p.pad_left}, behind = {shape.pad_bottom, std::max<std::int64_t>(right, 0)};
  dnnl_primitive_desc_t desc = nullptr;
  require(
      f.convolution_forward_primitive_desc_create(&desc, Library::get().engine(), dnnl_forward_inference, dnnl_convolution_direct, src.get(),
                                                  weights ? weights : any.get(), bias.get(), dst.get(), strides, dilations, before, behind, attributes.get()),
      "convolution");
  return PrimitiveDesc(desc);
}

const_dnnl_memory_desc_t Conv::format_of(const Part& part) const {
  const auto v = std::find_if(variants_.begin(), variants_.end(), [&](const Variant& each) { return each.shape.cout == part.cout; });
  return functions().primitive_desc_query_md(v->desc.get(), dnnl_query_weights_md, 0);
}

std::string Conv::implementation() const {
  const char* name = "";
  require(functions().primitive_desc_query(variants_[pieces_.front().variant].desc.get(), dnnl_query_impl_info_str, 0, &name), "implementation's name");
  return name;
}

std::string Conv::weight_format() const {
  std::string text;
  for (const Part& part : parts_) {
    text += (text.empty() ? "" : "; ") + describe(format_of(part));
  }
  return text;
}

std::vector<std::byte> Conv::pack(const float* oihw) const {
  const SingleThread one;
  const ConvProblem& p = spec_.problem;
  const Functions& f = functions();
  std::vector<std::byte> packed(weight_bytes_);
  for (const Part& part : parts_) {
    const_dnnl_memory_desc_t format = format_of(part);
    std::vector<std::int64_t> dims{part.cout / p.groups, p.cin / p.groups, p.kh, p.kw};
    if (p.groups > 1) dims.insert(dims.begin(), p.groups);
    const MemoryDesc plain = make_desc(dims, dnnl_f32, p.groups > 1 ? dnnl_abcde : dnnl_abcd);
    dnnl_primitive_desc_t raw = nullptr;
    require(f.reorder_primitive_desc_create(&raw, plain.get(), Library::get().engine(), format, Library::get().engine(), nullptr), "reorder");
    const PrimitiveDesc desc(raw);
    dnnl_primitive_t primitive = nullptr;
    require(f.primitive_create(&primitive, desc.get()), "reorder");
    const Primitive reorder(primitive);
    const Memory from = make_memory(plain.get(), const_cast<float*>(oihw + part.begin * (p.cin / p.groups) * p.kh * p.kw));
    const Memory to = make_memory(format, packed.data() + part.weights_at);
    const Stream stream = make_stream();
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from.get()}, {DNNL_ARG_TO, to.get()}};
    require(execute(reorder.get(), stream.get(), args), "reorder");
  }
  return packed;
}

void Conv::prepare(const void* weights, const float* bias, const ConvStrides& strides, int threads) {
  const SingleThread one;
  prepare_pool_threads();
  const ConvProblem& p = spec_.problem;
  const Functions& f = functions();
  threads_ = threads;
  strides_ = strides;
  copy_src_ = strides.src_pixel != p.cin || p.src != p.weights;
  copy_dst_ = strides.dst_pixel != p.cout || parts_.size() > 1;
  copy_residual_ = spec_.residual && (strides.residual_pixel != p.cout || parts_.size() > 1);
  for (Part& part : parts_) {
    auto* const at = const_cast<std::byte*>(static_cast<const std::byte*>(weights)) + part.weights_at;
    part.weights = make_memory(format_of(part), at);
    if (!spec_.bias) continue;
    const std::array<std::int64_t, 1> dims{part.cout};
    const MemoryDesc desc = make_desc(dims, dnnl_f32, dnnl_a);
    part.bias = make_memory(desc.get(), const_cast<float*>(bias + part.begin));
  }
  std::size_t scratchpad = 0, src = 0, dst = 0, residual = 0;
  for (Variant& v : variants_) {
    dnnl_primitive_t primitive = nullptr;
    require(f.primitive_create(&primitive, v.desc.get()), "convolution");
    v.primitive.reset(primitive);
    scratchpad = std::max(scratchpad, f.memory_desc_get_size(v.scratchpad));
    src = std::max(src, f.memory_desc_get_size(v.src.get()));
    dst = std::max(dst, f.memory_desc_get_size(v.dst.get()));
    if (spec_.residual) residual = std::max(residual, f.memory_desc_get_size(v.residual.get()));
  }
  src_at_ = aligned(scratchpad);
  dst_at_ = src_at_ + (copy_src_ ? aligned(src) : 0);
  residual_at_ = dst_at_ + (copy_dst_ ? aligned(dst) : 0);
  scratch_each_ = residual_at_ + (copy_residual_ ? aligned(residual) : 0);
  // Some more than the threads of one run: others wait until one is free.
  lane_count_ = threads + 4;
  lanes_ = std::make_unique<Lane[]>(static_cast<std::size_t>(lane_count_));
  for (int i = 0; i < lane_count_; ++i) {
    Lane& lane = lanes_[static_cast<std::size_t>(i)];
    lane.stream = make_stream();
    for (const Variant& v : variants_) {
      lane.sets.push_back({make_memory(v.src.get()), make_memory(v.dst.get()), v.residual ? make_memory(v.residual.get()) : nullptr,
                           f.memory_desc_get_size(v.scratchpad) > 0 ? make_memory(v.scratchpad) : nullptr});
    }
  }
}

bool Conv::move_to(const ConvStrides& strides) noexcept {
  const ConvProblem& p = spec_.problem;
  if ((strides.src_pixel != p.cin && !copy_src_) || (strides.dst_pixel != p.cout && !copy_dst_)) return false;
  if (spec_.residual && strides.residual_pixel != p.cout && !copy_residual_) return false;
  strides_ = strides;
  return true;
}

Conv::Lane& Conv::claim(int worker) const noexcept {
  for (int at = worker % lane_count_;; at = (at + 1) % lane_count_) {
    Lane& lane = lanes_[static_cast<std::size_t>(at)];
    if (!lane.busy.load(std::memory_order_relaxed) && !lane.busy.exchange(true, std::memory_order_acquire)) return lane;
    if (at == (worker + lane_count_ - 1) % lane_count_) std::this_thread::yield();
  }
}

bool Conv::run_piece(const Piece& piece, const ConvTensors& tensors, std::int64_t image, std::byte* scratch, Lane& lane, ThreadPool& pool) const noexcept {
  const ConvProblem& p = spec_.problem;
  const Variant& v = variants_[piece.variant];
  const Part& part = parts_[piece.part];
  const Lane::Set& set = lane.sets[piece.variant];
  const std::int64_t src_pixels = v.shape.ih * v.shape.iw, dst_pixels = v.shape.oh * v.shape.ow;
  const std::int64_t residual_bytes = element_bytes(spec_.residual_type);
  const char* src = static_cast<const char*>(tensors.src) + (image * strides_.src_image + piece.src_pixel * strides_.src_pixel) * element_bytes(p.src);
  char* const dst = static_cast<char*>(tensors.dst) + (image * strides_.dst_image + piece.dst_pixel * strides_.dst_pixel + part.begin) * element_bytes(p.dst);
  void* to = copy_dst_ ? static_cast<void*>(scratch + dst_at_) : dst;
  if (copy_src_) {
    copy_rows(src_pixels, p.cin, p.src, src, strides_.src_pixel, p.weights, scratch + src_at_, p.cin, pool);
    src = reinterpret_cast<const char*>(scratch + src_at_);
  }
  const Functions& f = functions();
  bool good = f.memory_set_data_handle(set.src.get(), const_cast<char*>(src)) == dnnl_success && f.memory_set_data_handle(set.dst.get(), to) == dnnl_success;
  std::array<dnnl_exec_arg_t, 6> args;
  std::size_t count = 0;
  args[count++] = {DNNL_ARG_SRC, set.src.get()};
  args[count++] = {DNNL_ARG_WEIGHTS, part.weights.get()};
  args[count++] = {DNNL_ARG_DST, set.dst.get()};
  if (part.bias) args[count++] = {DNNL_ARG_BIAS, part.bias.get()};
  if (set.scratchpad) {
    good = good && f.memory_set_data_handle(set.scratchpad.get(), scratch) == dnnl_success;
    args[count++] = {DNNL_ARG_SCRATCHPAD, set.scratchpad.get()};
  }
  if (spec_.residual) {
    const char* residual = static_cast<const char*>(tensors.residual) +
                           (image * strides_.residual_image + piece.dst_pixel * strides_.residual_pixel + part.begin) * residual_bytes;
    if (copy_residual_) {
      copy_rows(dst_pixels, part.cout, spec_.residual_type, residual, strides_.residual_pixel, spec_.residual_type, scratch + residual_at_, part.cout, pool);
      residual = reinterpret_cast<const char*>(scratch + residual_at_);
    }
    good = good && f.memory_set_data_handle(set.residual.get(), const_cast<char*>(residual)) == dnnl_success;
    const int position = spec_.epilogue.residual_after && spec_.epilogue.activation != Activation::kNone ? 1 : 0;
    args[count++] = {DNNL_ARG_ATTR_MULTIPLE_POST_OP(position) | DNNL_ARG_SRC_1, set.residual.get()};
  }
  good = good && execute(v.primitive.get(), lane.stream.get(), std::span(args.data(), count)) == dnnl_success;
  if (good && copy_dst_) copy_rows(dst_pixels, part.cout, p.dst, to, part.cout, p.dst, dst, strides_.dst_pixel, pool);
  return good;
}

bool Conv::run(const ConvTensors& tensors, std::int64_t images, ThreadPool& pool) const noexcept {
  std::atomic<bool> good{true};
  const auto pieces = static_cast<std::int64_t>(pieces_.size());
  pool.parallel_for(images * pieces, [&](std::int64_t task, int worker) {
    Lane& lane = claim(worker);
    std::byte* const scratch = static_cast<std::byte*>(tensors.scratch) + static_cast<std::size_t>(worker) * scratch_each_;
    if (!run_piece(pieces_[static_cast<std::size_t>(task % pieces)], tensors, task / pieces, scratch, lane, pool)) good.store(false, std::memory_order_relaxed);
    lane.busy.store(false, std::memory_order_release);
  });
  return good.load();
}

}  // namespace lathe::cpu::onednn
