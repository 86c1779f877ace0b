#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/by_row_format.h"
#include "cpu/codec_kernels.h"
#include "cpu/isa.h"
#include "cpu/row_layout.h"
#include "cpu/simhash_kernels.h"
#include "cpu/sketch_kernels.h"

namespace tandem::cpu {

/// Scores of one block: (num_vectors, kPageRows) fp32. Entries beyond the block's rows are -inf.
inline constexpr int kBlockRows = kPageRows;

/// Dimensions of a row at most, padding included.
inline constexpr int kMostPaddedDim = padded(kMaxHeadDim);

/// Rows that a later call will read, of which bytes [offset, offset + bytes) are fetched into the cache.
struct UpcomingRows {
  const std::byte* const* rows = nullptr;
  int count = 0;
  std::int64_t bytes = 0;
  std::int64_t offset = 0;
};

/// Up to kBlockRows rows of one layout, anywhere in memory, and what is fetched while they are computed.
struct RowPointers {
  const std::byte* const* rows;
  int count;
  UpcomingRows upcoming = {};
};

/// Running softmax of `num_vectors` query vectors: the sum over seen keys is sum * e^max, and likewise acc. The spread
/// is that of sampled rows, b = (1 - pi) a^2 in units of e^(2 max); its pointers are nullptr until a row has a weight.
struct SoftmaxState {
  float* max;                       ///< (num_vectors), -inf before the first key
  float* sum;                       ///< (num_vectors)
  float* acc;                       ///< (num_vectors, padded_v), see Kernels::to_natural_order
  float* spread_weight = nullptr;   ///< (num_vectors): sum of b
  float* spread_value = nullptr;    ///< (num_vectors, padded_v): sum of b v
  double* spread_square = nullptr;  ///< (num_vectors): sum of b |v|^2, which may exceed fp32 before it is normalised
};

/// -ln pi of the rows of one block, already added to their scores.
struct RowLogWeights {
  const float* values = nullptr;  ///< (kBlockRows) for vector v at v * stride; nullptr: every row has weight 1
  std::ptrdiff_t stride = 0;      ///< 0: all vectors share them
};

/// The kernels of one instruction set. Raw pointers and counts only; float arrays are 64-byte aligned, dimensions
/// padded to kDimPadding with zeros. All are thread-safe.
struct Kernels {
  Isa isa;

  /// scores[v][r] = <queries[v], K of rows[r]>. `decoded` is scratch for (kBlockRows, padded_k) floats.
  using ScoresFn = void (*)(const float* queries, int num_vectors, int padded_k, RowPointers rows, float* decoded,
                            float* scores) noexcept;
  const ByRowFormat<ScoresFn>& scores;

  /// Adds the block's keys to the running softmax; -inf scores are left out. `scores` becomes e^(score - max).
  /// `log_weights` feed the spread. `decoded` is scratch for (kBlockRows, padded_v).
  using AccumulateFn = void (*)(float* scores, RowLogWeights log_weights, int num_vectors, int padded_v,
                                std::int64_t v_offset, RowPointers rows, float* decoded, SoftmaxState state) noexcept;
  const ByRowFormat<AccumulateFn>& accumulate;

  /// natural (padded_v) = one vector of SoftmaxState::acc or spread_value, which `accumulate` keeps in an order of its
  /// own, in the order of the dimensions. `kept` and `natural` do not overlap.
  using ToNaturalOrderFn = void (*)(const float* kept, int padded_v, float* natural) noexcept;
  const ByRowFormat<ToNaturalOrderFn>& to_natural_order;

  /// scores = cap * tanh(scores / cap) for `count` values, a multiple of kDimPadding; -inf becomes -cap.
  void (*softcap)(float* scores, std::int64_t count, float cap) noexcept;

  /// weights[r] = -ln inclusion[r] for `count` <= kBlockRows probabilities in (0, 1]; exactly 0 for 1.
  void (*inclusion_log_weights)(const float* inclusion, int count, float* weights) noexcept;

  /// sums[r] += e^(scores[r] - lse) for kBlockRows scores of at most lse, up to rounding; -inf adds nothing.
  void (*add_probabilities)(const float* scores, float lse, float* sums) noexcept;

  const SimHashKernels& simhash;
  const SketchKernels& sketch;
  const ByCodecKind& codecs;
};

/// The table of an available ISA (see available_isas).
const Kernels& kernels_for(Isa isa) noexcept;

}  // namespace tandem::cpu
