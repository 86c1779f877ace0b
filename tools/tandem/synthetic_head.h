#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tandem::cli {

/// What the heads of a large model look like, from attention that is spread over everything to a few keys. They differ
/// in the spread of their logits; `retrieval` heads have planted needles besides, `positional` ones put their content
/// into the fast RoPE pairs.
enum class HeadKind { diffuse, medium, broad, peaked, retrieval, positional };
inline constexpr int kNumHeadKinds = 6;

std::string to_string(HeadKind kind);
/// "mixed", then the kinds: what a command line may ask for.
std::vector<std::string> head_kind_names();
/// The kind of that name; none for "mixed", which stands for all of them in turn, and for names that are none.
std::optional<HeadKind> head_kind_named(const std::string& name);
/// Standard deviation of the logits of one query over the keys of the prompt, in nats.
double logit_sd(HeadKind kind);

/// The random process that the rows of one KV head and the queries of its group are drawn from.
///
/// Content: 48 topic coordinates of unit variance with a power-law weight j^-1/2, each a mixture of fast (0.3) and slow
/// (0.97) AR(1) noise and white noise, so that neighbouring tokens resemble each other. Keys see it through a random
/// basis that lies mostly in the slow RoPE pairs, around a mean with four huge slow channels; RoPE in halves, theta
/// 5e5. Values see the same topics through another basis, under more noise of their own. Queries aim at a topic of
/// their own, related within the group and a little to the latest tokens, through the dual of the keys' basis.
///
/// Numbers depend on (kind, seed, head, dim, position) and, by less than 1e-6, on the first token of a call to rows().
/// Const members are thread-safe.
class SyntheticHead {
 public:
  /// `dim` is even, `head` below 2^27.
  SyntheticHead(HeadKind kind, std::uint64_t seed, std::int64_t head, std::int64_t dim);

  [[nodiscard]] HeadKind kind() const noexcept { return kind_; }
  /// Keys after RoPE and values of tokens [first, first + count), each (count, dim).
  void rows(std::int64_t first, std::int64_t count, float* k, float* v) const;
  /// Topic coordinates averaged over the last tokens before `end`: what a query follows.
  [[nodiscard]] std::vector<float> topic_before(std::int64_t end) const;
  /// Queries (group, dim) after RoPE of the token at `position`; their scale is not yet set.
  void queries(std::int64_t position, std::int64_t group, const std::vector<float>& topic, float* q) const;
  /// The stream of random numbers (runtime/base/random.h) that places needle number `needle`.
  [[nodiscard]] std::uint64_t needle_stream(std::int64_t needle) const noexcept;

 private:
  [[nodiscard]] std::vector<float> topics(std::int64_t first, std::int64_t count) const;
  void make_means();
  void make_dual();
  void rotate(std::int64_t position, float* row) const;

  HeadKind kind_;
  std::uint64_t seed_;
  std::int64_t head_, dim_, rank_;
  std::vector<float> weights_, key_mean_, value_mean_, query_mean_;  // (dim)
  std::vector<float> key_basis_, value_basis_, dual_;                // (rank, dim)
  std::vector<double> frequencies_;                                  // (dim / 2) radians per token
};

}  // namespace tandem::cli
