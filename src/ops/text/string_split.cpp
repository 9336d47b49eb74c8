// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// StringSplit: each element cut at a delimiter, or at runs of white space; short rows end in empty strings.
#include <limits>

#include "ops/ref_util.h"
#include "ops/shape_util.h"
#include "ops/text/text.h"

namespace lathe::ops {
namespace {

void split_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  if (!x) {
    ctx.set_unknown(0, DType::kString);
    return ctx.set_unknown(1, DType::kInt64);
  }
  Shape pieces = *x;
  pieces.push_back(ctx.fresh_symbol());
  ctx.set(1, DType::kInt64, *x);
  ctx.set(0, DType::kString, std::move(pieces));
}

using Pieces = std::vector<std::string_view>;

void split_at(std::string_view text, std::string_view delimiter, std::int64_t most, Pieces& pieces) {
  while (most-- > 0) {
    const std::size_t at = text.find(delimiter);
    if (at == std::string_view::npos) break;
    pieces.push_back(text.substr(0, at));
    text.remove_prefix(at + delimiter.size());
  }
  pieces.push_back(text);
}

void split_at_space(std::string_view text, std::int64_t most, Pieces& pieces) {
  const auto skip = [&text] {
    while (const std::size_t space = leading_space(text)) text.remove_prefix(space);
  };
  skip();
  while (!text.empty()) {
    // The rest that is not split keeps the white space inside it, but not what stands at its end.
    const bool rest = most-- == 0;
    std::size_t end = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t space = leading_space(text.substr(at));
      if (space && !rest) break;
      at += space ? space : 1;
      if (!space) end = at;
    }
    pieces.push_back(text.substr(0, end));
    if (rest) return;
    text.remove_prefix(end);
    skip();
  }
}

void split_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::string delimiter = ctx.attrs().get_string("delimiter", "");
  std::int64_t most = ctx.attrs().get_int("maxsplit", -1);
  if (most < 0) most = std::numeric_limits<std::int64_t>::max();
  std::vector<Pieces> rows(static_cast<std::size_t>(x.size()));
  std::vector<std::int64_t> counts;
  std::size_t widest = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string& text = x.string_data()[i];
    if (delimiter.empty()) split_at_space(text, most, rows[i]);
    else split_at(text, delimiter, most, rows[i]);
    counts.push_back(static_cast<std::int64_t>(rows[i].size()));
    widest = std::max(widest, rows[i].size());
  }
  Dims dims = x.dims();
  dims.push_back(static_cast<std::int64_t>(widest));
  Tensor out(DType::kString, std::move(dims));
  auto& strings = out.mutable_string_data();
  for (std::size_t i = 0; i < rows.size(); ++i)
    for (std::size_t k = 0; k < rows[i].size(); ++k) strings[i * widest + k] = rows[i][k];
  ctx.set_output(0, std::move(out));
  ctx.set_output(1, from_int64s(DType::kInt64, x.dims(), counts));
}

}  // namespace

std::vector<OpDef> string_split_ops() {
  return {{.name = "StringSplit",
           .versions = {{20, "X:T1 -> Y:T2 Z:T3", "delimiter:string? maxsplit:int?", "T1: string; T2: string; T3: int64"}},
           .infer = split_infer,
           .reference = split_reference,
           .doc = "strings cut at a delimiter or at white space, and how many pieces each has"}};
}

}  // namespace lathe::ops
