// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The phases of a transposed convolution against its definition: which input meets which tap at which output.

#include "regions/conv_transpose/conv_transpose_phases.h"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

namespace lathe::regions {
namespace {

using Meeting = std::tuple<std::int64_t, std::int64_t, std::int64_t>;  // output, input, tap

TEST(TransposePhases, EveryTapMeetsTheInputsOfTheDefinition) {
  for (std::int64_t stride = 1; stride <= 4; ++stride)
    for (std::int64_t taps = 1; taps <= 5; ++taps)
      for (std::int64_t dilation = 1; dilation <= 3; ++dilation)
        for (std::int64_t pad = 0; pad <= 3; ++pad)
          for (std::int64_t extra = 0; extra < stride; ++extra)
            for (const std::int64_t in : {1, 2, 5}) {
              cpu::ConvTransposeProblem p;
              p.w = in;
              p.kw = taps;
              p.stride_w = stride;
              p.dilation_w = dilation;
              p.pad_left = pad;
              p.output_pad_w = extra;
              const std::int64_t out = p.ow();
              if (out < 1) continue;
              std::set<Meeting> defined, made;
              for (std::int64_t i = 0; i < in; ++i)
                for (std::int64_t k = 0; k < taps; ++k)
                  if (const std::int64_t o = i * stride - pad + k * dilation; o >= 0 && o < out) defined.insert({o, i, k});
              const TransposePhases t = transpose_phases(p);
              ASSERT_GE(t.shape.pad_left, 0);
              ASSERT_EQ(t.shape.ow(), (out + stride - 1) / stride);
              ASSERT_EQ(t.shape.oh(), 1);
              ASSERT_EQ(t.shape.cout, stride);
              for (std::int64_t q = 0; q < t.shape.ow(); ++q)
                for (std::int64_t k = 0; k < taps; ++k) {
                  const std::int64_t at = t.x.offset_of(k) - t.x.first;  // the window's tap that holds k
                  ASSERT_TRUE(at >= 0 && at < t.x.window);
                  const std::int64_t i = q - t.shape.pad_left + at, o = q * stride + t.x.phase_of(k);
                  if (i >= 0 && i < in && o < out) made.insert({o, i, k});
                }
              ASSERT_EQ(made, defined) << "stride " << stride << " taps " << taps << " dilation " << dilation << " pad " << pad << " input " << in;
            }
}

}  // namespace
}  // namespace lathe::regions
