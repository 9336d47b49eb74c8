// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See emitter.h. One kernel a wave; inside, blocks go to parts; inside a part, threads go to points or to lanes of reductions.

#include "loops/cuda/emitter.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "lathe/status.h"
#include "loops/cuda/expressions.h"
#include "loops/cuda/schedule.h"
#include "loops/scalar.h"

namespace lathe::loops::cuda {
namespace {

constexpr std::int64_t kNarrow = std::int64_t{1} << 30;  // counters and offsets below it fit in 32 bits, steps included

/// The numbers of one kernel's parameters.
struct Parameters {
  std::vector<std::int64_t> numbers;
  std::string add(std::int64_t value) {
    numbers.push_back(value);
    return fmt::format("p.n[{}]", numbers.size() - 1);
  }
};

class KernelWriter {
 public:
  KernelWriter(const LoopRegion& region, std::span<const plan::TensorDesc> buffers, const Wave& wave, bool wide)
      : region_(region), buffers_(buffers), wave_(wave), wide_(wide) {
    around_.buffers = buffers;
    around_.number = [this](std::int64_t v) { return v == 0 || v == 1 ? fmt::format("{}", v) : parameters_.add(v); };
    around_.pointer = [this](BufferId b) {
      if (std::find(pointers_.begin(), pointers_.end(), b) == pointers_.end()) pointers_.push_back(b);
      return fmt::format("b{}", b);
    };
    // One order for all forms of the kernel.
    for (std::size_t b = 0; b < buffers.size(); ++b)
      for (const Part& part : wave)
        for (const ScheduledStage& stage : part.stages) {
          const auto id = static_cast<BufferId>(b);
          if (stage.nest->store.buffer == id ||
              std::any_of(stage.nest->loads.begin(), stage.nest->loads.end(), [&](const auto& load) { return load.second.buffer == id; }))
            around_.pointer(id);
        }
  }

  /// The whole kernel and its parameter struct.
  std::string write(const std::string& name) {
    std::string body;
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < wave_.size(); ++i) {
      const Part& part = wave_[i];
      if (wave_.size() > 1) {
        const std::string end = parameters_.add(begin + part.blocks);
        body += fmt::format("  {}if (blockIdx.x < {}) {{\n", i == 0 ? "" : "else ", end);
      } else {
        body += "  {\n";
      }
      body +=
          fmt::format("    const idx block = (idx)blockIdx.x - {}, blocks = {};\n", begin == 0 ? "0" : parameters_.add(begin), parameters_.add(part.blocks));
      body += part.slices > 0 ? sliced(part) : whole(part.stages.front());
      body += "  }\n";
      begin += part.blocks;
    }
    std::string pointers;
    for (std::size_t i = 0; i < pointers_.size(); ++i) {
      const auto b = static_cast<std::size_t>(pointers_[i]);
      const std::string type = storage_type(buffers_[b].dtype);
      if (region_.buffers[b].role == Role::kInput) pointers += fmt::format("  const {0}* __restrict__ b{1} = (const {0}*)p.b[{2}];\n", type, b, i);
      else pointers += fmt::format("  {0}* b{1} = ({0}*)p.b[{2}];\n", type, b, i);
    }
    return fmt::format(
        "struct Parameters_{0} {{ void* b[{1}]; idx n[{2}]; }};\nextern \"C\" __global__ void __launch_bounds__({3}) {0}(const Parameters_{0} p) {{\n  "
        "LATHE_BEGIN\n{4}{5}{6}}}\n",
        name, std::max<std::size_t>(pointers_.size(), 1), std::max<std::size_t>(parameters_.numbers.size(), 1), kThreads,
        shared_ ? fmt::format("  __shared__ double shared[{}];\n", kThreads * 2) : "", pointers, body);
  }

  const std::vector<BufferId>& pointers() const { return pointers_; }

  std::vector<std::byte> bytes() const {
    const std::size_t count = std::max<std::size_t>(pointers_.size(), 1), numbers = std::max<std::size_t>(parameters_.numbers.size(), 1), size = wide_ ? 8 : 4;
    std::vector<std::byte> bytes((count * 8 + numbers * size + 7) / 8 * 8);
    for (std::size_t i = 0; i < parameters_.numbers.size(); ++i) {
      const std::int64_t v = parameters_.numbers[i];
      const auto narrow = static_cast<std::int32_t>(static_cast<std::uint32_t>(v));
      std::memcpy(bytes.data() + count * 8 + i * size, wide_ ? static_cast<const void*>(&v) : &narrow, size);
    }
    return bytes;
  }

  std::vector<std::uint32_t> alignment() const {
    std::vector<std::uint32_t> list;
    for (const BufferId b : pointers_) {
      const auto found = alignment_.find(b);
      list.push_back(found == alignment_.end() ? 1 : found->second);
    }
    return list;
  }

 private:
  /// `flat` cut into the counters of loops [from, to), the last fastest.
  std::string counters(const ScheduledStage& stage, std::string flat, int from, int to, std::int64_t last_step = 1) {
    std::string text;
    for (int l = to - 1; l >= from; --l) {
      const std::string times = l == to - 1 && last_step > 1 ? fmt::format(" * {}", last_step) : "";
      if (l == from) {
        text += fmt::format("      const idx i{} = {}{};\n", l, times.empty() ? flat : "(" + flat + ")", times);
        break;
      }
      const std::int64_t extent =
          std::max<std::int64_t>(stage.nest->loops[static_cast<std::size_t>(l)].extent / (times.empty() ? 1 : last_step), 1);  // of nothing, nothing is cut
      const std::string e = parameters_.add(extent), quotient = fmt::format("q{}", next_++);
      if (wide_) {
        text += fmt::format("      const idx {} = ({}) / {};\n", quotient, flat, e);
      } else {
        const int shift = std::bit_width(static_cast<std::uint64_t>(extent - 1));
        const std::uint64_t magic =
            ((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift) - static_cast<std::uint64_t>(extent))) / static_cast<std::uint64_t>(extent) + 1;
        text += fmt::format("      const idx {} = divide({}, {}, {});\n", quotient, flat, parameters_.add(static_cast<std::int64_t>(magic)),
                            parameters_.add(shift));
      }
      text += fmt::format("      const idx i{} = (({}) - {} * {}){};\n", l, flat, quotient, e, times);
      flat = quotient;
    }
    return text;
  }

  /// One stage over the whole grid.
  std::string whole(const ScheduledStage& stage) {
    if (stage.nest->stage->reduce != Reduce::kNone)
      return reduction(stage, fmt::format("block * {}", kThreads / stage.lanes), "blocks", kThreads, "__syncthreads();");
    return points(stage, fmt::format("block * {} + (idx)threadIdx.x", kThreads), fmt::format("blocks * {}", kThreads));
  }

  std::string sliced(const Part& part) {
    const char* sync = part.group == kThreads ? "__syncthreads();" : "__syncwarp();";
    const int at_once = kThreads / part.group;
    std::string text = fmt::format("    for (idx slice = block * {0} + (idx)threadIdx.x / {1}; slice < {2}; slice += blocks * {0}) {{\n", at_once, part.group,
                                   parameters_.add(part.slices));
    for (const ScheduledStage& stage : part.stages) {
      text += "    {\n" + counters(stage, "slice", 0, stage.shared);
      if (stage.nest->stage->reduce != Reduce::kNone) text += reduction(stage, "0", "1", part.group, sync);
      else text += points(stage, fmt::format("(idx)threadIdx.x % {}", part.group), fmt::format("{}", part.group));
      text += fmt::format("    }}\n    {}\n", sync);
    }
    return text + "    }\n";
  }

  std::string points(const ScheduledStage& stage, const std::string& start, const std::string& step) {
    Expressions e(region_, stage, around_);
    const Stage& s = *stage.nest->stage;
    const auto b = static_cast<std::size_t>(stage.nest->store.buffer);
    const DType value_type = region_.exprs[static_cast<std::size_t>(s.value)].type, logical = region_.buffers[b].dtype, stored = buffers_[b].dtype;
    const int v = stage.vector, from = stage.shared, to = stage.shared + stage.kept;
    std::string text = fmt::format("    for (idx t = {}; t < {}; t += {}) {{\n", start, parameters_.add(stage.points / v), step);
    text += counters(stage, "t", from, to, v);
    if (v == 1) {
      const std::string value = e.value(s.value), offset = e.offset(stage.nest->store);
      text += e.take();
      return text +
             fmt::format("      {}[{}] = {};\n    }}\n", around_.pointer(stage.nest->store.buffer), offset, stored_text(value, value_type, logical, stored));
    }
    const int last = to - 1;
    const std::string where = fmt::format("{} + ({})", around_.pointer(stage.nest->store.buffer), e.offset(stage.nest->store));
    text += e.load_packs();
    text += fmt::format(
        "      Pack<{0}, {1}> result;\n      const idx base = i{2};\n      #pragma unroll\n      for (int u = 0; u < {1}; ++u) {{\n      const idx i{2} = base "
        "+ u; (void)i{2};\n",
        storage_type(stored), v, last);
    const std::string value = e.value(s.value);
    text += e.take();
    text += fmt::format("      result.v[u] = {};\n      }}\n      *(Pack<{}, {}>*)({}) = result;\n    }}\n", stored_text(value, value_type, logical, stored),
                        storage_type(stored), v, where);
    for (const auto& [buffer, bytes] : e.alignment()) align(buffer, bytes);
    align(stage.nest->store.buffer, static_cast<std::uint32_t>(std::min<std::size_t>(16, dtype_bytes(stored, v))));
    return text;
  }

  void align(BufferId buffer, std::uint32_t bytes) {
    std::uint32_t& needed = alignment_[buffer];
    needed = std::max(needed, bytes);
  }

  /// `group` threads take group / lanes points at a time, from `first` on, `apart` groups of them apart.
  std::string reduction(const ScheduledStage& stage, const std::string& first, const std::string& apart, int group, const char* sync) {
    Expressions e(region_, stage, around_);
    const Stage& s = *stage.nest->stage;
    const auto b = static_cast<std::size_t>(stage.nest->store.buffer);
    const bool is_arg = is_arg_reduce(s.reduce);
    const DType value_type = region_.exprs[static_cast<std::size_t>(s.value)].type, type = is_arg ? value_type : s.accumulate;
    const int lanes = stage.lanes, side = group / lanes;
    const std::string t = compute_type(type), running = is_arg ? fmt::format("Best<{}>", t) : t, n = parameters_.add(stage.points);
    std::string text = fmt::format("    for (idx k0 = {}; k0 < {}; k0 += {} * {}) {{\n", first, n, apart, side);
    text += fmt::format("      const int me = (int)threadIdx.x % {};\n", group);
    text += stage.reduction_fastest ? fmt::format("      const int lane = me % {0};\n      const idx k = k0 + me / {0};\n", lanes)
                                    : fmt::format("      const int lane = me / {0};\n      const idx k = k0 + me % {0};\n", side);
    if (stage.kept > 0) text += counters(stage, "k", stage.shared, stage.shared + stage.kept);
    const Scalar identity = is_arg ? Scalar{} : reduce_identity(s.reduce, type);
    text += is_arg ? fmt::format("      {} total = {{{}, -1}};\n", running, literal(type, 0, 0))
                   : fmt::format("      {} total = {};\n", running, literal(type, identity.real, identity.whole));
    text += fmt::format("      if (k < {}) for (idx r = lane; r < {}; r += {}) {{\n", n, parameters_.add(stage.reduction), lanes);
    if (stage.reduced > 0) text += counters(stage, "r", stage.shared + stage.kept, stage.shared + stage.kept + stage.reduced);
    const std::string value = e.value(s.value);
    const std::string position = is_arg ? e.affine(stage.nest->position) : "";
    text += e.take();
    const std::string next = is_arg ? fmt::format("{}{{{}, (i64)({})}}", running, value, position) : cast_text(value, value_type, type);
    text += fmt::format("      total = {};\n      }}\n", combined(s.reduce, type, "total", next));
    if (lanes > 1) {
      shared_ = true;
      text += fmt::format(
          "      {{ {0}* all = ({0}*)shared; {1} all[threadIdx.x] = total;\n      for (int half = {2}; half > 0; half /= 2) {{ {1} if (lane < half) {{ total = "
          "{3}; all[threadIdx.x] = total; }} }} {1} }}\n",
          running, sync, lanes / 2, combined(s.reduce, type, "total", fmt::format("all[(int)threadIdx.x + half * {}]", stage.reduction_fastest ? 1 : side)));
    }
    const std::string offset = e.offset(stage.nest->store), result = is_arg ? "(total.at < 0 ? (i64)0 : total.at)" : "total";
    text += e.take();
    return text + fmt::format("      if (k < {} && lane == 0) {}[{}] = {};\n    }}\n", n, around_.pointer(stage.nest->store.buffer), offset,
                              stored_text(result, is_arg ? DType::kInt64 : type, region_.buffers[b].dtype, buffers_[b].dtype));
  }

  static std::string combined(Reduce reduce, DType type, const std::string& a, const std::string& b) {
    const std::string t = compute_type(type);
    switch (reduce) {
      case Reduce::kSum: return binary_text(ExprOp::kAdd, type, a, b);
      case Reduce::kProd: return binary_text(ExprOp::kMul, type, a, b);
      case Reduce::kMax: return binary_text(ExprOp::kMax, type, a, b);
      case Reduce::kMin: return binary_text(ExprOp::kMin, type, a, b);
      case Reduce::kAnd: return fmt::format("({})({})", t, binary_text(ExprOp::kAnd, type, a, b));
      case Reduce::kOr: return fmt::format("({})({})", t, binary_text(ExprOp::kOr, type, a, b));
      case Reduce::kArgMax: return fmt::format("best_of<true, false, {}>({}, {})", t, a, b);
      case Reduce::kArgMin: return fmt::format("best_of<false, false, {}>({}, {})", t, a, b);
      case Reduce::kArgMaxLast: return fmt::format("best_of<true, true, {}>({}, {})", t, a, b);
      case Reduce::kArgMinLast: return fmt::format("best_of<false, true, {}>({}, {})", t, a, b);
      case Reduce::kNone: break;
    }
    throw Error(Code::kInternal, "a reduction without an operator");
  }

  const LoopRegion& region_;
  std::span<const plan::TensorDesc> buffers_;
  const Wave& wave_;
  const bool wide_;
  Surroundings around_;
  Parameters parameters_;
  std::vector<BufferId> pointers_;
  std::unordered_map<BufferId, std::uint32_t> alignment_;
  bool shared_ = false;
  int next_ = 0;
};

bool needs_wide(const Wave& wave, std::span<const plan::TensorDesc> buffers) {
  for (const plan::TensorDesc& desc : buffers) {
    std::int64_t span = 1;
    for (std::size_t d = 0; d < desc.dims.size(); ++d) span += std::max<std::int64_t>(desc.dims[d] - 1, 0) * std::abs(desc.strides[d]);
    if (span >= kNarrow) return true;
  }
  for (const Part& part : wave)
    for (const ScheduledStage& stage : part.stages) {
      if (stage.points >= kNarrow || stage.reduction >= kNarrow || part.slices >= kNarrow) return true;
      bool large = false;
      const auto check = [&](const cpu::Affine& a) {
        large |= std::abs(a.c) >= kNarrow;
        for (std::size_t l = 0; l < stage.nest->loops.size(); ++l)
          large |= std::abs(a.k[l]) * std::max<std::int64_t>(stage.nest->loops[l].extent, 1) >= kNarrow;
      };
      stage.nest->for_each_affine([&](cpu::Affine& a) { check(a); });
      if (large) return true;
    }
  return false;
}

std::uint32_t blocks_of(const Wave& wave) {
  std::uint32_t blocks = 0;
  for (const Part& part : wave) blocks += part.blocks;
  return blocks;
}

bool has_vectors(const Wave& wave) {
  return std::any_of(wave.begin(), wave.end(), [](const Part& part) {
    return std::any_of(part.stages.begin(), part.stages.end(), [](const ScheduledStage& s) { return s.vector > 1; });
  });
}

}  // namespace

Emitted emit(const LoopRegion& region, std::span<const plan::TensorDesc> buffers, const ir::Bindings& symbols, const EmitOptions& options) {
  Emitted emitted;
  std::pmr::monotonic_buffer_resource memory;
  std::vector<Wave> waves = schedule(region, buffers, symbols, options, &memory);
  const bool wide = std::any_of(waves.begin(), waves.end(), [&](const Wave& wave) { return needs_wide(wave, buffers); });
  if (!waves.empty()) emitted.source = wide ? "typedef long long idx;\n" : "typedef int idx;\n";
  std::vector<Wave> rest(std::make_move_iterator(waves.rbegin()), std::make_move_iterator(waves.rend()));  // the next one last
  while (!rest.empty()) {
    Wave wave = std::move(rest.back());
    rest.pop_back();
    Launch launch;
    launch.kernel = fmt::format("{}{}", options.prefix, emitted.launches.size());
    launch.blocks = blocks_of(wave);
    KernelWriter writer(region, buffers, wave, wide);
    std::string source = writer.write(launch.kernel);
    launch.pointers = writer.pointers();
    launch.parameters = writer.bytes();
    launch.alignment = writer.alignment();
    if (has_vectors(wave)) {
      const Wave plain = without_vectors(wave, options);
      launch.unaligned_kernel = launch.kernel + "s";
      launch.unaligned_blocks = blocks_of(plain);
      KernelWriter single(region, buffers, plain, wide);
      source += single.write(launch.unaligned_kernel);
      launch.unaligned_parameters = single.bytes();
      if (single.pointers() != launch.pointers) throw Error(Code::kInternal, "the two forms of a kernel take different buffers");
    }
    if (std::max(launch.parameters.size(), launch.unaligned_parameters.size()) > kMaxParameterBytes) {
      if (wave.size() == 1) throw Error(Code::kUnsupported, "a fused region with more parameters than a kernel takes");
      // Its parts do not wait for each other: they may as well come one half after the other.
      const auto middle = wave.begin() + static_cast<std::ptrdiff_t>(wave.size() / 2);
      rest.emplace_back(std::make_move_iterator(middle), std::make_move_iterator(wave.end()));
      wave.erase(middle, wave.end());
      rest.push_back(std::move(wave));
      continue;
    }
    emitted.source += source;
    emitted.launches.push_back(std::move(launch));
  }
  return emitted;
}

}  // namespace lathe::loops::cuda
