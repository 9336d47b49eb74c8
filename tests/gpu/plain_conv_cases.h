// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of the plain kernels of Conv and ConvTranspose, which a GPU and, through tests/host_cuda, the CPU in a GPU's place run: see kernel_cases.h.

#include "kernel_cases.h"
#include "regions/plain_conv/plain_conv_plan.h"

namespace lathe::testing_gpu {

struct PlainConvCase {
  Dims x, w;
  bool transposed = false, bias = false, channels_last = false;
  std::int64_t group = 1;
  Dims strides = {}, dilations = {}, pads = {}, output_padding = {}, output_shape = {};
  std::string auto_pad = {};
  DType type = DType::kFloat32, w_type = DType::kUndefined, y_type = DType::kUndefined;  ///< as `type`
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const {
    return fmt::format("{} of {} {} by {} {} to {}{}{} group {} strides {} dilations {} pads {} {} output_padding {} output_shape {} extra {} shift {}",
                       transposed ? "ConvTranspose" : "Conv", dtype_name(type), to_string(x), dtype_name(w_type), to_string(w), dtype_name(y_type),
                       bias ? " with a bias" : "", channels_last ? " channels-last" : "", group, to_string(strides), to_string(dilations), to_string(pads),
                       auto_pad, to_string(output_padding), to_string(output_shape), extra, shift);
  }
};

struct PlainConvTensors {
  GuardedTensor x, w, b, y;
  ir::Attrs params;
  Tensor wanted;
  std::vector<GuardedTensor*> inputs() {
    std::vector<GuardedTensor*> list{&x, &w};
    if (b.desc.dtype != DType::kUndefined) list.push_back(&b);
    return list;
  }

  explicit PlainConvTensors(const PlainConvCase& c) {
    const auto or_type = [&](DType type) { return type == DType::kUndefined ? c.type : type; };
    std::uint64_t state = 5;
    // Small whole numbers, whose sums are exact in any order.
    const auto fill = [&](const Dims& dims) {
      Tensor t(DType::kFloat64, dims);
      for (std::int64_t i = 0; i < t.size(); ++i) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        t.set_from_double(i, static_cast<double>(static_cast<std::int64_t>(state >> 33) % 5 - 2));
      }
      return t;
    };
    const auto place = [&](GuardedTensor& into, DType type, const Dims& dims, bool image) {
      plan::TensorDesc desc = plan::TensorDesc::row_major(type, dims);
      desc.strides = regions::testing::strides_in(image && c.channels_last ? ops::Layout::kChannelsLast : ops::Layout::kRowMajor, dims, c.extra);
      into = GuardedTensor(std::move(desc), c.shift);
    };
    for (const auto& [name, list] : {std::pair<const char*, const Dims&>{"strides", c.strides},
                                     {"dilations", c.dilations},
                                     {"pads", c.pads},
                                     {"output_padding", c.output_padding},
                                     {"output_shape", c.output_shape}})
      if (!list.empty()) params.set(name, list);
    if (!c.auto_pad.empty()) params.set("auto_pad", c.auto_pad);
    params.set("group", c.group);
    std::vector<Tensor> tensors{fill(c.x), fill(c.w)};
    if (c.bias) tensors.push_back(fill({c.transposed ? c.w[1] * c.group : c.w[0]}));
    GuardedTensor* const to[] = {&x, &w, &b};
    const DType types[] = {c.type, or_type(c.w_type), c.type};
    ir::Graph graph;
    std::vector<ir::Value*> values;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      place(*to[i], types[i], tensors[i].dims(), i == 0);
      to[i]->fill(tensors[i]);
      const Dims& dims = tensors[i].dims();
      values.push_back(graph.add_input(fmt::format("in{}", i), ir::Type::tensor(DType::kFloat64, ir::Shape(dims.begin(), dims.end()))));
    }
    const ir::Node* node = graph.add_node("", c.transposed ? "ConvTranspose" : "Conv", values, {"y"}, params);
    wanted = ops::evaluate_node(*node, tensors)[0].cast(or_type(c.y_type));
    place(y, or_type(c.y_type), wanted.dims(), true);
    params.set("transposed", std::int64_t{c.transposed});
  }
  void compare() {
    const Tensor got = y.read();
    for (std::int64_t i = 0; i < got.size(); ++i) ASSERT_EQ(got.as_double(i), wanted.as_double(i)) << "element " << i;
    EXPECT_TRUE(y.is_intact()) << "bytes beside the result were written";
  }
};

inline std::vector<PlainConvCase> plain_conv_cases(bool large) {
  std::vector<PlainConvCase> cases;
  constexpr DType kAll[] = {DType::kFloat64, DType::kFloat32, DType::kFloat16, DType::kBFloat16};
  for (const DType type : kAll)
    for (const bool transposed : {false, true})
      for (const bool last : {false, true}) {
        cases.push_back({.x = {2, 6, 7, 9},
                         .w = transposed ? Dims{6, 2, 3, 2} : Dims{4, 3, 3, 2},
                         .transposed = transposed,
                         .bias = true,
                         .channels_last = last,
                         .group = 2,
                         .strides = {2, 1},
                         .dilations = {1, 2},
                         .pads = {1, 0, 2, 1},
                         .type = type,
                         .extra = 2,
                         .shift = 1});
        cases.push_back({.x = {2, 3, 4, 5, 3}, .w = {3, 3, 2, 3, 1}, .transposed = transposed, .channels_last = last, .strides = {1, 2, 1}, .type = type});
        cases.push_back(
            {.x = {3, 4, 20}, .w = {4, 1, 5}, .transposed = transposed, .bias = true, .channels_last = last, .group = 4, .dilations = {3}, .type = type});
      }
  // Every window over one axis.
  for (const bool transposed : {false, true})
    for (const std::int64_t kernel : {1, 2, 3})
      for (const std::int64_t stride : {1, 2, 3})
        for (const std::int64_t dilation : {1, 2})
          for (const std::int64_t begin : {-1, 0, 2})
            for (const std::int64_t end : {-1, 0, 3})
              if (!transposed || 6 * stride + (kernel - 1) * dilation + 1 >= begin + end)
                cases.push_back({.x = {2, 2, 7},
                                 .w = {2, 2, kernel},
                                 .transposed = transposed,
                                 .strides = {stride},
                                 .dilations = {dilation},
                                 .pads = {begin, end},
                                 .type = kernel == 2 ? DType::kFloat64 : DType::kFloat32});
  for (const char* automatic : {"SAME_UPPER", "SAME_LOWER", "VALID"})
    for (const bool transposed : {false, true})
      for (const std::int64_t kernel : {1, 2, 3, 4})
        for (const std::int64_t stride : {1, 2, 3})
          cases.push_back({.x = {1, 2, 8, 7}, .w = {2, 2, kernel, 3}, .transposed = transposed, .strides = {stride, 2}, .auto_pad = automatic});
  for (const std::int64_t output : {9, 10, 13, 17, 18, 25})
    for (const char* automatic : {"NOTSET", "SAME_UPPER", "SAME_LOWER"}) {
      cases.push_back({.x = {1, 2, 8}, .w = {2, 3, 3}, .transposed = true, .strides = {2}, .output_shape = {output}, .auto_pad = automatic});
      cases.push_back({.x = {1, 2, 8},
                       .w = {2, 3, 3},
                       .transposed = true,
                       .bias = true,
                       .strides = {2},
                       .output_padding = {1},
                       .output_shape = {1, 3, output},
                       .auto_pad = automatic});
    }
  cases.push_back({.x = {2, 3, 5, 5}, .w = {3, 2, 3, 3}, .transposed = true, .bias = true, .strides = {3, 2}, .pads = {1, 1, 1, 1}, .output_padding = {2, 1}});
  cases.push_back({.x = {0, 3, 5, 5}, .w = {4, 3, 3, 3}, .bias = true});
  cases.push_back({.x = {2, 3, 2, 5}, .w = {4, 3, 3, 3}, .bias = true, .pads = {0, 1, 0, 1}});
  cases.push_back({.x = {2, 3, 5, 5}, .w = {4, 3, 3, 3}, .type = DType::kFloat16, .w_type = DType::kFloat32, .y_type = DType::kFloat32});
  cases.push_back({.x = {2, 3, 5, 5}, .w = {4, 3, 3, 3}, .type = DType::kFloat32, .w_type = DType::kFloat64, .y_type = DType::kBFloat16});
  cases.push_back({.x = {1, 40, 9, 11}, .w = {30, 40, 3, 3}, .type = DType::kFloat64});
  if (large) {
    for (const DType type : kAll) {
      cases.push_back({.x = {2, 32, 60, 70}, .w = {48, 32, 3, 3}, .bias = true, .pads = {1, 1, 1, 1}, .type = type});
      cases.push_back({.x = {2, 32, 30, 35}, .w = {32, 24, 4, 4}, .transposed = true, .strides = {2, 2}, .pads = {1, 1, 1, 1}, .type = type});
      cases.push_back({.x = {1, 8, 12, 20, 20}, .w = {8, 8, 3, 3, 3}, .pads = {1, 1, 1, 1, 1, 1}, .type = type});
    }
    cases.push_back({.x = {70000, 2, 3}, .w = {2, 2, 3}});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
