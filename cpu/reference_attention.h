#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem::cpu::reference {

/// One query vector against a list of keys, in double precision: the oracle of tests and of `tandem run`.
struct Problem {
  std::span<const double> q;       ///< (dim_k)
  std::span<const double> k;       ///< (num_keys, dim_k)
  std::span<const double> v;       ///< (num_keys, dim_v)
  std::span<const double> biases;  ///< (num_keys) added to the logits after softcap, or empty; -inf hides a key
  double scale = 1.0;
  double softcap = 0.0;  ///< 0: none
};

struct Result {
  std::vector<double> out;  ///< (dim_v), zeros when no key is visible
  double lse = 0.0;         ///< natural log, -inf when no key is visible
};

/// Naive softmax attention: no blocks, no SIMD, exact maximum first.
Result attention(const Problem& problem, std::int64_t dim_v);

}  // namespace tandem::cpu::reference
