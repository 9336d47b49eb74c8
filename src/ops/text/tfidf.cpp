// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// TfIdfVectorizer: how often each n-gram of a list stands in a row of tokens, or a weight where it does. The members of an n-gram may
// be up to max_skip_count tokens apart, always equally far.
#include <unordered_map>

#include "ops/ref_util.h"
#include "ops/shape_util.h"
#include "ops/text/text.h"

namespace lathe::ops {
namespace {

// A coordinate is any number in a file, and each row of the output has as many elements.
constexpr std::int64_t kMostCoordinates = std::int64_t{1} << 28;

enum class Mode : std::uint8_t { kTf, kIdf, kTfIdf };

/// The n-grams, as a tree whose edges are tokens.
class Grams {
 public:
  template <class Context>
  Grams(Context& ctx, DType input) {
    const Attrs& attrs = ctx.attrs();
    const std::string mode = attrs.get_string("mode", "");
    if (mode != "TF" && mode != "IDF" && mode != "TFIDF") ctx.fail("mode is '" + mode + "'; it is TF, IDF or TFIDF");
    mode_ = mode == "TF" ? Mode::kTf : mode == "IDF" ? Mode::kIdf : Mode::kTfIdf;
    shortest_ = attrs.get_int("min_gram_length", 0);
    longest_ = attrs.get_int("max_gram_length", 0);
    skips_ = attrs.get_int("max_skip_count", 0);
    if (shortest_ < 1 || longest_ < shortest_)
      ctx.fail("n-grams of " + std::to_string(shortest_) + " to " + std::to_string(longest_) + " tokens are asked for");
    if (skips_ < 0) ctx.fail("max_skip_count " + std::to_string(skips_) + " is negative");
    coordinates_ = attrs.get_ints("ngram_indexes");
    for (const std::int64_t at : coordinates_) {
      if (at < 0 || at >= kMostCoordinates)
        ctx.fail("ngram_indexes holds " + std::to_string(at) + "; coordinates are from 0 to " + std::to_string(kMostCoordinates - 1));
      size_ = std::max(size_, at + 1);
    }
    if (coordinates_.empty()) ctx.fail("ngram_indexes is empty");
    weights_ = attrs.get_floats("weights");
    if (!weights_.empty() && weights_.size() != coordinates_.size())
      ctx.fail("has " + std::to_string(weights_.size()) + " weights for " + std::to_string(coordinates_.size()) + " ngram_indexes");
    const auto strings = attrs.get_strings("pool_strings");
    const auto numbers = attrs.get_ints("pool_int64s");
    if (strings.empty() == numbers.empty()) ctx.fail("needs one of pool_strings and pool_int64s");
    if ((input == DType::kString) != numbers.empty())
      ctx.fail(numbers.empty() ? "its n-grams are of strings, its input is not" : "its n-grams are of numbers, its input is not");
    std::vector<std::int64_t> pool;
    pool.reserve(std::max(strings.size(), numbers.size()));
    for (const auto& token : strings) pool.push_back(static_cast<std::int64_t>(words_.emplace(token, words_.size()).first->second));
    for (const std::int64_t token : numbers) pool.push_back(static_cast<std::int64_t>(numbers_.emplace(token, numbers_.size()).first->second));
    plant(ctx, pool, attrs.get_ints("ngram_counts"));
  }

  std::int64_t size() const noexcept { return size_; }

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
    counts.assign(coordinates_.size(), 0);
    count(row, counts);
    for (std::size_t g = 0; g < counts.size(); ++g) {
      if (counts[g] == 0) continue;
      float& y = out[static_cast<std::size_t>(coordinates_[g])];
      const double weight = weights_.empty() || mode_ == Mode::kTf ? 1.0 : static_cast<double>(weights_[g]);
      if (mode_ == Mode::kIdf) y = static_cast<float>(weight);
      else y += static_cast<float>(static_cast<double>(counts[g]) * weight);
    }
  }

 private:
  void count(std::span<const std::int64_t> row, std::vector<std::int64_t>& counts) const {
    const auto length = static_cast<std::int64_t>(row.size());
    std::int64_t shortest = shortest_;
    for (std::int64_t step = 1; step - 1 <= skips_ && shortest <= longest_; ++step) {
      if (shortest > 1 && step > (length - 1) / (shortest - 1)) break;  // no n-gram of that reach fits
      for (std::int64_t start = 0; start < length; ++start) {
        std::uint32_t node = 0;
        std::int64_t n = 1;
        for (std::int64_t at = start; at < length && n <= longest_; at += step, ++n) {
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

  template <class Context>
  void plant(Context& ctx, const std::vector<std::int64_t>& pool, const std::vector<std::int64_t>& starts) {
    const auto total = static_cast<std::int64_t>(pool.size());
    if (total >= std::int64_t{1} << 32) ctx.fail("its pool is too long");
    std::int64_t gram = 0;
    for (std::size_t level = 0; level < starts.size(); ++level) {
      const std::int64_t begin = starts[level], end = level + 1 < starts.size() ? starts[level + 1] : total;
      const auto n = static_cast<std::int64_t>(level) + 1;
      if (begin < 0 || begin > end || end > total) ctx.fail("ngram_counts does not ascend within the pool of " + std::to_string(total) + " tokens");
      if ((end - begin) % n != 0) ctx.fail("the pool has " + std::to_string(end - begin) + " tokens for n-grams of " + std::to_string(n));
      const bool wanted = n >= shortest_ && n <= longest_;
      for (std::int64_t at = begin; at < end; at += n, ++gram) {
        if (gram >= static_cast<std::int64_t>(coordinates_.size()))
          ctx.fail("the pool has more n-grams than ngram_indexes, which has " + std::to_string(coordinates_.size()));
        if (!wanted) continue;
        std::uint32_t node = 0;
        for (std::int64_t k = 0; k < n; ++k) {
          const auto [it, fresh] = edges_.emplace(Edge{node, pool[static_cast<std::size_t>(at + k)]}, static_cast<std::uint32_t>(gram_.size()));
          node = it->second;
          if (fresh) gram_.push_back(-1);
        }
        gram_[node] = gram;
      }
    }
  }

  Mode mode_ = Mode::kTf;
  std::int64_t shortest_ = 1, longest_ = 1, skips_ = 0, size_ = 0;
  std::vector<std::int64_t> coordinates_;
  std::vector<float> weights_;
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
