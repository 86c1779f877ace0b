#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/codec/sketch.h"
#include "cpu/kernels.h"
#include "cpu/kv_store.h"

namespace tandem::lsh {

/// What calibration found for one (layer, KV head): where keys and queries are taken before they meet. Immutable.
///
/// Balanced coordinates: k' = P_k (k - mean) and q' = P_q q with <q', k'> = <q, k - mean> up to the dimensions left
/// out, and with equal covariances, which makes the product of both quantisation errors smallest. In them both
/// covariances are diagonal, so the most important coordinates come first; a random rotation inside each bit group
/// evens out what shares a number of bits.
struct SketchMap {
  cpu::SketchFormat format;
  cpu::AlignedVector<float> mean;          ///< (padded_k) of the keys
  cpu::AlignedVector<float> key_planes;    ///< (padded_k, format.padded_dims): column i gives coordinate i
  cpu::AlignedVector<float> query_planes;  ///< likewise
  std::vector<float> mean_value;           ///< (dim_v): mean of V
  /// Standard deviation, in nats, of exact logits about estimates, over queries that the map was not fitted to;
  /// infinite when there were none.
  double sigma = std::numeric_limits<double>::infinity();
  float slope = 1.f;      ///< of exact logits over estimates there; below 1, for estimates are noisy
  float noise = 0.f;      ///< variance of an estimate's error = noise * |q'|^2 * (stored factor)^2
  std::int64_t rows = 0;  ///< that the store had

  [[nodiscard]] std::int64_t bytes() const noexcept;
};

/// Queries (num, padded_k), scaled as logits need.
struct CalibrationQueries {
  std::vector<float> fit;   ///< decide the coordinates
  std::vector<float> test;  ///< choose the bit allocation and measure sigma
};

/// A head whose estimates are this near (nats) has an error estimate that holds; see runtime/DESIGN.md.
inline constexpr double kCertifiedSigma = 0.7;

/// Fewest queries that say anything; with fewer, the map balances the keys alone.
inline constexpr std::int64_t kFewestQueries = 16;

/// Fits a map to the first `rows` rows of `store` (sampled, at least one) and chooses the bit allocation whose
/// estimates are nearest to the logits of the test queries. Constant keys, or too few queries for their dimensions, are
/// no error: the ridges keep every map finite. Takes milliseconds. Thread-safe.
/// Source: balanced truncation (Moore 1981) for the coordinates; constants measured, see runtime/DESIGN.md.
SketchMap calibrate(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t rows, int bits_per_dim,
                    const CalibrationQueries& queries, std::uint64_t seed);

}  // namespace tandem::lsh
