// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Text: StringConcat, RegexFullMatch here, the others in files of their own. Strings are UTF-8 where it matters, and bytes elsewhere.
#include "ops/text/text.h"

#include <re2/re2.h>

#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

// StringConcat -------------------------------------------------------------------------------------------------------

void concat_infer(InferContext& ctx) {
  const auto &x = ctx.shape(0), &y = ctx.shape(1);
  if (!x || !y) return ctx.set_unknown(0, DType::kString);
  ctx.set(0, DType::kString, broadcast_shape(ctx, *x, *y));
}

void concat_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &y = ctx.input(1);
  const std::size_t rank = std::max(x.dims().size(), y.dims().size());
  Dims dims(rank, 1), x_strides(rank, 0), y_strides(rank, 0);
  const auto place = [&](const Tensor& t, Dims& strides) {
    const Dims own = strides_of(t.dims());
    for (std::size_t i = 0; i < own.size(); ++i) {
      const std::size_t axis = rank - own.size() + i;
      const std::int64_t extent = t.dims()[i];
      if (extent == 1) continue;
      if (dims[axis] != 1 && dims[axis] != extent) ctx.fail(lathe::to_string(x.dims()) + " and " + lathe::to_string(y.dims()) + " do not broadcast");
      dims[axis] = extent;
      strides[axis] = own[i];
    }
  };
  place(x, x_strides);
  place(y, y_strides);
  Tensor out(DType::kString, dims);
  auto& strings = out.mutable_string_data();
  std::size_t next = 0;
  for_each_index(dims, [&](const Dims& at) {
    std::int64_t from_x = 0, from_y = 0;
    for (std::size_t axis = 0; axis < rank; ++axis) {
      from_x += at[axis] * x_strides[axis];
      from_y += at[axis] * y_strides[axis];
    }
    strings[next++] = x.string_data()[static_cast<std::size_t>(from_x)] + y.string_data()[static_cast<std::size_t>(from_y)];
  });
  ctx.set_output(0, std::move(out));
}

// RegexFullMatch: the syntax is RE2's, whose time and memory are bounded for any pattern and text ------------------------------------

class Pattern {
 public:
  template <class Context>
  explicit Pattern(Context& ctx) : regex_(text_of(ctx), quiet()) {
    if (!regex_.ok()) ctx.fail("the pattern '" + regex_.pattern() + "' is no regular expression of RE2's: " + regex_.error());
  }
  bool matches(const std::string& text) const { return RE2::FullMatch(text, regex_); }

 private:
  template <class Context>
  static std::string text_of(Context& ctx) {
    if (!ctx.attrs().has("pattern")) ctx.fail("lacks the attribute 'pattern'");
    return ctx.attrs().get_string("pattern", "");
  }
  static RE2::Options quiet() {
    RE2::Options options;
    options.set_log_errors(false);
    options.set_never_capture(true);
    return options;
  }
  RE2 regex_;
};

void match_infer(InferContext& ctx) {
  const Pattern pattern(ctx);  // says what is wrong with it
  set_like_input(ctx, DType::kBool);
}

void match_reference(RefContext& ctx) {
  const auto pattern = ctx.kept<Pattern>([&] { return Pattern(ctx); });
  const Tensor& x = ctx.input(0);
  Tensor out(DType::kBool, x.dims());
  for (std::int64_t i = 0; i < x.size(); ++i) out.set_from_int64(i, pattern->matches(x.string_data()[static_cast<std::size_t>(i)]));
  ctx.set_output(0, std::move(out));
}

}  // namespace

std::span<const OpDef> ops_text() {
  static const std::vector<OpDef> ops = [] {
    std::vector<OpDef> all{
        {.name = "StringConcat",
         .versions = {{20, "X:T Y:T -> Z:T", "", "T: string"}},
         .infer = concat_infer,
         .reference = concat_reference,
         .doc = "strings of one tensor followed by those of the other"},
        {.name = "RegexFullMatch",
         .versions = {{20, "X:T1 -> Y:T2", "pattern:string?", "T1: string; T2: bool"}},
         .infer = match_infer,
         .reference = match_reference,
         .doc = "whether whole strings match a regular expression (RE2's syntax)"},
    };
    for (const auto& more : {string_normalizer_ops(), string_split_ops(), tfidf_ops()}) all.insert(all.end(), more.begin(), more.end());
    return all;
  }();
  return ops;
}

}  // namespace lathe::ops
