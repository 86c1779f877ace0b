#pragma once

#include <cstdint>

namespace tandem {

/// Attention of `rows` query vectors over one set of keys, not owned.
///
/// out (rows, dim) row-major, normalised by the softmax denominator; lse (rows), natural log of that denominator.
/// An empty key set is out = 0, lse = -inf.
template <typename Float>
struct BasicPartialAttention {
  Float* out = nullptr;
  Float* lse = nullptr;
  std::int64_t rows = 0;
  std::int64_t dim = 0;
};

using PartialAttention = BasicPartialAttention<float>;
using ConstPartialAttention = BasicPartialAttention<const float>;

inline ConstPartialAttention as_const(PartialAttention p) noexcept { return {p.out, p.lse, p.rows, p.dim}; }

/// Makes `p` the attention over no key: out = 0, lse = -inf.
void set_empty(PartialAttention p) noexcept;

/// Merges `b` into `a`: attention over two disjoint key sets becomes attention over their union.
///
/// lse = logaddexp(lse_a, lse_b); out = out_a e^(lse_a - lse) + out_b e^(lse_b - lse). Commutative, and associative up
/// to rounding; empty is neutral, empty + empty stays empty, never NaN. `a` and `b` have equal rows and dim and do not
/// alias. Thread-safe on distinct `a`. No errors.
/// Source: Milakov & Gimelshein, arXiv:1805.02867; FlashInfer's recursive attention, arXiv:2501.01005.
void merge_state(PartialAttention a, ConstPartialAttention b) noexcept;

/// Adds one attention sink per row: a key of logit sink[row] and value 0 that only takes mass away.
/// Source: Agarwal et al. (gpt-oss) learned sinks; Xiao et al., arXiv:2309.17453.
void merge_sinks(PartialAttention a, const float* sink) noexcept;

}  // namespace tandem
