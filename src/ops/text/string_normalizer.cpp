// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// StringNormalizer: drops stop words, then changes the case of what is left. Case is Unicode's, one code point for one, whatever the
// machine's locale; of the attribute `locale` only a language whose i has its own pairs (Turkish, Azerbaijani) makes a difference.
#include <utf8proc.h>

#include <unordered_set>

#include "ops/ref_util.h"
#include "ops/shape_util.h"
#include "ops/text/text.h"

namespace lathe::ops {
namespace {

enum class Case : std::uint8_t { kAsIs, kLower, kUpper };

std::optional<Case> case_of(const Attrs& attrs) {
  const std::string action = attrs.get_string("case_change_action", "NONE");
  if (action == "NONE") return Case::kAsIs;
  if (action == "LOWER") return Case::kLower;
  if (action == "UPPER") return Case::kUpper;
  return std::nullopt;
}

std::string wrong_case(const Attrs& attrs) { return "case_change_action is '" + attrs.get_string("case_change_action", "") + "'; it is LOWER, UPPER or NONE"; }

void normalizer_infer(InferContext& ctx) {
  if (!case_of(ctx.attrs())) ctx.fail(wrong_case(ctx.attrs()));
  const auto& x = ctx.shape(0);
  if (!x) return ctx.set_unknown(0, DType::kString);
  const bool row = x->size() == 2;
  if (!row && x->size() != 1) ctx.fail("takes strings of shape [C] or [1, C], got " + ir::to_string(*x));
  if (const auto rows = x->front().constant(); row && rows && *rows != 1) ctx.fail("takes strings of shape [C] or [1, C], got " + ir::to_string(*x));
  // Nothing is left out without stop words; where nothing came, one empty string does.
  const bool same = ctx.attrs().get_strings("stopwords").empty() && x->back().lower_bound().value_or(0) >= 1;
  Shape out = row ? Shape{Dim(1)} : Shape{};
  out.push_back(same ? x->back() : ctx.fresh_symbol());
  ctx.set(0, DType::kString, std::move(out));
}

class CaseMap {
 public:
  explicit CaseMap(const std::string& locale) : dotted_(locale.starts_with("tr") || locale.starts_with("az")) {}
  std::int32_t lower(std::int32_t c) const {
    if (dotted_ && c == 'I') return 0x131;
    return utf8proc_tolower(c);
  }
  std::int32_t upper(std::int32_t c) const {
    if (dotted_ && c == 'i') return 0x130;
    return c == 0xdf ? c : utf8proc_toupper(c);  // the sharp s has no upper case of one letter that texts use
  }
  /// Texts that differ in case alone have the same.
  std::int32_t folded(std::int32_t c) const { return lower(upper(c)); }

 private:
  bool dotted_;
};

void normalizer_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  if ((x.rank() != 1 && x.rank() != 2) || (x.rank() == 2 && x.dims()[0] != 1))
    ctx.fail("takes strings of shape [C] or [1, C], got " + lathe::to_string(x.dims()));
  const auto action = case_of(ctx.attrs());
  if (!action) ctx.fail(wrong_case(ctx.attrs()));
  const CaseMap map(ctx.attrs().get_string("locale", ""));
  const bool sensitive = ctx.attrs().get_int("is_case_sensitive", 0) != 0;
  const auto decode = [&](const std::string& text, const std::string& what) {
    auto points = code_points(text);
    if (!points) ctx.fail(what + " is no valid UTF-8");
    return std::move(*points);
  };
  const auto folded = [&](std::vector<std::int32_t> points) {
    for (auto& c : points) c = map.folded(c);
    return utf8(points);
  };
  std::unordered_set<std::string> stops;
  for (const auto& word : ctx.attrs().get_strings("stopwords")) stops.insert(sensitive ? word : folded(decode(word, "the stop word '" + word + "'")));

  std::vector<std::string> kept;
  for (std::size_t i = 0; i < x.string_data().size(); ++i) {
    const std::string& text = x.string_data()[i];
    if (sensitive && stops.contains(text)) continue;
    const bool compared = !sensitive && !stops.empty();
    if (!compared && *action == Case::kAsIs) {
      kept.push_back(text);
      continue;
    }
    auto points = decode(text, "element " + std::to_string(i));
    if (compared && stops.contains(folded(points))) continue;
    if (*action == Case::kAsIs) {
      kept.push_back(text);
      continue;
    }
    for (auto& c : points) c = *action == Case::kLower ? map.lower(c) : map.upper(c);
    kept.push_back(utf8(points));
  }
  if (kept.empty()) kept.emplace_back();
  Dims dims{static_cast<std::int64_t>(kept.size())};
  if (x.rank() == 2) dims.insert(dims.begin(), 1);
  ctx.set_output(0, Tensor::strings(std::move(dims), std::move(kept)));
}

}  // namespace

std::vector<OpDef> string_normalizer_ops() {
  return {{.name = "StringNormalizer",
           .versions = {{10, "X:string -> Y:string", "case_change_action:string=NONE is_case_sensitive:int=0 locale:string? stopwords:strings?", ""}},
           .infer = normalizer_infer,
           .reference = normalizer_reference,
           .doc = "strings without stop words, in lower or upper case"}};
}

}  // namespace lathe::ops
