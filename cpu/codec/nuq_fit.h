#pragma once

#include <cstdint>
#include <span>

#include "cpu/codec/nuq_calibration.h"

namespace tandem::cpu {

/// Keys and values of one layer to learn from, token by token.
struct NuqSamples {
  std::int64_t tokens = 0;
  const float* k = nullptr;  ///< (tokens, num_kv_heads, head_dim_k), before RoPE
  const float* v = nullptr;  ///< (tokens, num_kv_heads, head_dim_v)
  /// How much the square of each element's error counts, shaped like k and v; nullptr: all alike. The source takes the
  /// Fisher information, squared gradients of the loss, which an inference runtime does not have.
  const float* k_weights = nullptr;
  const float* v_weights = nullptr;
};

/// Learns one layer: the range of each K channel leaves out the lowest and the highest `outliers / 2` of its samples;
/// the levels for each of `bits` are those of weighted k-means over what the ranges leave, normalised. Deterministic.
///
/// Throws Error(invalid_argument) for no tokens, values that are not finite or of a magnitude of kMaxMagnitude (twice
/// that for K, which lost its RoPE) and more, weights that are negative or not finite, and bits out of range.
NuqLayer fit_nuq_layer(const NuqShape& shape, const NuqSamples& samples, std::span<const std::int32_t> bits);

/// By how much codes of `bits` bits are off, with all outliers exact, as a share of the length of all K and of all V; 0
/// where these are zero. Weights are not read.
struct NuqError {
  double k = 0, v = 0;
};
NuqError nuq_error(const NuqShape& shape, const NuqLayer& layer, const NuqSamples& samples, std::int32_t bits);

}  // namespace tandem::cpu
