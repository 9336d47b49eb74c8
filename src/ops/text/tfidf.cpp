// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// TfIdfVectorizer: how often each n-gram of a list stands in a row of tokens, or a weight where it does. The members of an n-gram may
// be up to max_skip_count tokens apart, always equally far.
#include <unordered_map>

#include "ops/ref_util.h"
#include "ops/shape_util.h"
#include "ops/text/text.h"
#include "ops/text/tfidf_grams.h"

namespace lathe::ops {
namespace {

/// The n-grams, as a tree whose edges are tokens.
class Grams {
 public:
  template <class Context>
  Grams(Context& ctx, DType input) : grams_(ctx.attrs(), input == DType::kString, [&](const std::string& why) { ctx.fail(why); }) {
    std::vector<std::int64_t> pool;
    pool.reserve(static_cast<std::size_t>(grams_.tokens()));
    for (const auto& token : grams_.strings) pool.push_back(static_cast<std::int64_t>(words_.emplace(token, words_.size()).first->second));
    for (const std::int64_t token : grams_.numbers) pool.push_back(static_cast<std::int64_t>(numbers_.emplace(token, numbers_.size()).first->second));
    grams_.for_each([&](std::int64_t gram, std::int64_t first, std::int64_t n) {
      std::uint32_t node = 0;
      for (std::int64_t k = 0; k < n; ++k) {
        const auto [it, fresh] = edges_.emplace(Edge{node, pool[static_cast<std::size_t>(first + k)]}, static_cast<std::uint32_t>(gram_.size()));
        node = it->second;
        if (fresh) gram_.push_back(-1);
      }
      gram_[node] = gram;
    });
  }

  std::int64_t size() const noexcept { return grams_.size; }

  std::vector<std::int64_t> tokens(const Tensor& x) const {
    std::vector<std::int64_t> tokens(static_cast<std::size_t>(x.size()));
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (x.dtype() == DType::kString) {
        const auto it = words_.find(x.string_data()[i]);
        tokens[i] = it == words_.end() ? -1 : static_cast<std::int64_t>(it->second);
      } else {
        const auto it = numbers_.find(x.as_int64(static_cast<std::int64_t>(i)));
        tokens[i] = it == numbers_.end() ? -1 : static_cast<std::int64_t>(it->second);
      }
    }
    return tokens;
  }

  /// What one row gives; `counts` is for it to use.
  void vectorize(std::span<const std::int64_t> row, std::span<float> out, std::vector<std::int64_t>& counts) const {
    counts.assign(grams_.coordinates.size(), 0);
    count(row, counts);
    for (std::size_t g = 0; g < counts.size(); ++g) {
      if (counts[g] == 0) continue;
      float& y = out[static_cast<std::size_t>(grams_.coordinates[g])];
      const auto weight = static_cast<double>(grams_.weight(static_cast<std::int64_t>(g)));
      if (grams_.mode == cuda::kTfIdfIdf) y = static_cast<float>(weight);
      else y += static_cast<float>(static_cast<double>(counts[g]) * weight);
    }
  }

 private:
  void count(std::span<const std::int64_t> row, std::vector<std::int64_t>& counts) const {
    const auto length = static_cast<std::int64_t>(row.size());
    std::int64_t shortest = grams_.shortest;
    for (std::int64_t step = 1; step - 1 <= grams_.skips && shortest <= grams_.longest; ++step) {
      if (shortest > 1 && step > (length - 1) / (shortest - 1)) break;  // no n-gram of that reach fits
      for (std::int64_t start = 0; start < length; ++start) {
        std::uint32_t node = 0;
        std::int64_t n = 1;
        for (std::int64_t at = start; at < length && n <= grams_.longest; at += step, ++n) {
          const auto next = edges_.find(Edge{node, row[static_cast<std::size_t>(at)]});
          if (next == edges_.end()) break;
          node = next->second;
          if (n >= shortest && gram_[node] >= 0) ++counts[static_cast<std::size_t>(gram_[node])];
        }
      }
      if (shortest == 1) shortest = 2;  // single tokens are the same whatever the step
    }
  }

  struct Edge {
    std::uint32_t from;
    std::int64_t token;
    bool operator==(const Edge&) const = default;
  };
  struct EdgeHash {
    std::size_t operator()(const Edge& e) const noexcept {
      return (static_cast<std::size_t>(e.from) * 0x9e3779b97f4a7c15u) ^ (static_cast<std::size_t>(e.token) * 0xc2b2ae3d27d4eb4fu);
    }
  };

  TfIdfGrams grams_;
  std::unordered_map<std::string, std::size_t> words_;
  std::unordered_map<std::int64_t, std::size_t> numbers_;
  std::unordered_map<Edge, std::uint32_t, EdgeHash> edges_;
  std::vector<std::int64_t> gram_{-1};  // of each node: the n-gram that ends there, or -1
};

void tfidf_infer(InferContext& ctx) {
  const Grams grams(ctx, ctx.dtype(0));
  const auto& x = ctx.shape(0);
  if (!x) return ctx.set_unknown(0, DType::kFloat32);
  if (x->empty() || x->size() > 2) ctx.fail("takes tokens of shape [C] or [N, C], got " + ir::to_string(*x));
  Shape out = *x;
  out.back() = Dim(grams.size());
  ctx.set(0, DType::kFloat32, std::move(out));
}

void tfidf_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto kept = ctx.kept<Grams>([&] { return Grams(ctx, x.dtype()); });
  const Grams& grams = *kept;
  if (x.rank() < 1 || x.rank() > 2) ctx.fail("takes tokens of shape [C] or [N, C], got " + lathe::to_string(x.dims()));
  const auto tokens = grams.tokens(x);
  const auto length = static_cast<std::size_t>(x.dims().back());
  Dims dims = x.dims();
  dims.back() = grams.size();
  Tensor out(DType::kFloat32, dims);
  const auto y = out.mutable_data<float>();
  const std::size_t rows = x.rank() == 2 ? static_cast<std::size_t>(dims[0]) : 1, width = static_cast<std::size_t>(grams.size());
  std::vector<std::int64_t> counts;
  for (std::size_t r = 0; r < rows; ++r) grams.vectorize(std::span(tokens).subspan(r * length, length), y.subspan(r * width, width), counts);
  ctx.set_output(0, std::move(out));
}

}  // namespace

std::vector<OpDef> tfidf_ops() {
  return {{.name = "TfIdfVectorizer",
           .versions = {{9, "X:T -> Y:T1",
                         "max_gram_length:int max_skip_count:int min_gram_length:int mode:string ngram_counts:ints ngram_indexes:ints pool_int64s:ints? "
                         "pool_strings:strings? weights:floats?",
                         "T: string int32 int64; T1: float"}},
           .infer = tfidf_infer,
           .reference = tfidf_reference,
           .doc = "counts or weights of the n-grams of token rows"}};
}

}  // namespace lathe::ops
