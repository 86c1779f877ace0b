#pragma once

#include "gpu/cuda/kernels/work.cuh"

// Attention of many query vectors over rows that come in pieces, one after the other, through the same memory. A query
// vector's state (maximum, sum, weighted values) goes from piece to piece in device memory. So that a few hundred
// vectors keep a GPU busy, the rows of a piece are dealt to kPrefillSplits states of each vector, which
// merge_prefill_states joins at the end.

namespace tandem::gpu::cuda {

/// Parts of a piece whose states are apart. Decides bits.
inline constexpr int kPrefillSplits = 4;
/// Rows that kernels take at once, at most: a split begins at a multiple of these.
inline constexpr int kPrefillTileRows = 64;

/// A piece of a store's rows, back to back: rows [0, count), of which split s has those from s * split_rows on.
struct PrefillRows {
  const std::byte* rows;
  const std::uint32_t* left_out;  ///< bit r % 32 of word r / 32: row r takes no part; or nullptr
  std::int64_t first_position;
  std::int32_t count;
  std::int32_t split_rows;  ///< a multiple of kPrefillTileRows
  std::int32_t row_bytes;
  std::int32_t v_offset;
  std::int32_t padded_k;
  std::int32_t padded_v;
};

/// Of each split and query vector: what it has seen so far, with weights 2^(logit - reference), logits in base 2.
struct PrefillStates {
  float* out;        ///< (kPrefillSplits, num_vectors, padded_v): weighted sums of values
  float* reference;  ///< (kPrefillSplits, num_vectors); -inf: no row
  float* sum;        ///< likewise, of weights
  std::int32_t num_vectors;
};

}  // namespace tandem::gpu::cuda
