#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "cpu/by_row_format.h"
#include "cpu/codec/sketch.h"
#include "runtime/base/dtype.h"

namespace tandem::cpu {

/// One GQA group's queries against the codes of one head, as lookup tables: the estimate of head h for a token is
/// factor * (slopes[h] * sum of entries + intercepts[h]), the factor as stored.
struct SketchQuery {
  int group_size = 0;
  int code_bytes = 0;
  const std::uint8_t* luts = nullptr;  ///< (group_size, lut_bytes(code_bytes)), 64-byte aligned
  const float* slopes = nullptr;       ///< (group_size)
  const float* intercepts = nullptr;   ///< (group_size)
};

/// How estimates become logits in nats: x = alibi + cap(shrink * estimate + offset), per head; and logits become
/// weights: e^(x - reference) and, tempered, e^(temper * (x - reference)).
struct SketchProposal {
  const float* shrinks = nullptr;     ///< (group_size)
  const float* offsets = nullptr;     ///< (group_size)
  const float* alibi = nullptr;       ///< (group_size) slope per row, or nullptr
  std::int64_t alibi_origin = 0;      ///< row whose bias is 0
  float softcap = 0.f;                ///< 0: none
  const float* references = nullptr;  ///< (group_size)
  const float* tempers = nullptr;     ///< (group_size), in (0, 1]
  const float* scales = nullptr;      ///< (group_size) of the tempered weights in a row's share
};

/// Which rows the scan reports. A row's share is g = sum_h scale_h * (tempered weight of head h); row i is reported
/// when uniform(key, i) < rate * g_i + floor. Rows for which that is 1 or more are certain (take-all in survey
/// sampling).
struct SketchDraw {
  float rate = 0.f;
  float floor = 0.f;
  std::uint64_t key = 0;      ///< of the random numbers; see sketch_uniform()
  bool certain_only = false;  ///< report no other rows
};

/// What a scan reads: rows [begin, end) of contiguous blocks.
struct SketchRun {
  const std::byte* blocks = nullptr;
  std::int64_t first_row = 0;  ///< of the first block, a multiple of kSketchBlockRows
  std::int64_t begin = 0;
  std::int64_t end = 0;
  const std::byte* next = nullptr;  ///< blocks that another scan reads next, or nullptr: asked for in time
};

/// Rows that a scan reports, ascending. The arrays have room for every scanned row.
struct SketchCandidates {
  std::uint32_t* rows;
  float* shares;    ///< g
  float* uniforms;  ///< the row's random number
  float* weights;   ///< (count, group_size): e^(x - reference)
  std::int64_t count = 0;
};

/// Sums over the scanned rows that are not certain.
struct SketchSums {
  float* weights;  ///< (group_size) of e^(x - reference); written
  float share = 0.f;
  std::int64_t rows = 0;
};

/// Moments of values above -inf.
struct SketchMoments {
  float sum = 0.f;
  float sum_of_squares = 0.f;
  float max = 0.f;  ///< -inf when there are none
  int count = 0;
};

/// The kernels of the sketch index, of one instruction set. All are thread-safe; float arrays are 64-byte aligned.
/// Weights are e^x within 3 %, clamped to 0 .. 2^100: they only propose.
struct SketchKernels {
  /// out (count, padded_dim) = the first padded_dim elements of each row, minus mean (padded_dim).
  using CentreFn = void (*)(const std::byte* const* rows, int count, int padded_dim, const float* mean,
                            float* out) noexcept;
  ByRowFormat<CentreFn> centre;

  /// out (num_vectors, num_planes) = vectors (num_vectors, padded_dim) x planes (padded_dim, num_planes); num_planes a
  /// multiple of kDimPadding.
  void (*project)(const float* vectors, std::int64_t num_vectors, int padded_dim, const float* planes, int num_planes,
                  float* out) noexcept;

  /// Codes z (count, format.padded_dims) as rows first_row.. of contiguous `blocks`.
  void (*encode)(const SketchFormat& format, const float* z, int count, std::byte* blocks,
                 std::int64_t first_row) noexcept;

  /// Bytes of one head's tables: how many bits a table covers is up to the instruction set.
  int (*lut_bytes)(int code_bytes) noexcept;
  /// The tables of one head from the weights of a code's bits (8 * code_bytes), and slope and intercept of the sum of
  /// their entries.
  void (*luts)(const float* bit_weights, int code_bytes, std::uint8_t* luts, float* slope, float* intercept) noexcept;

  /// estimates (group_size, kSketchBlockRows) of one block, heads `stride` values apart; -inf for rows that must not be
  /// used. Returns the sum of the squared factors as stored.
  float (*estimates)(const SketchQuery& query, const std::byte* block, float* estimates, std::int64_t stride) noexcept;
  /// Estimates of head `head` for rows first_row.. become logits, in place. `count` is a multiple of kDimPadding, as
  /// below.
  void (*logits)(const SketchProposal& proposal, int head, std::int64_t first_row, float* values, int count) noexcept;
  SketchMoments (*moments)(const float* values, int count) noexcept;
  /// values = e^(temper * (values - reference)); returns their sum.
  float (*weigh)(float* values, int count, float temper, float reference) noexcept;
  /// The sum of min(1, rate * share + floor).
  float (*expected_rows)(const float* shares, int count, float rate, float floor) noexcept;

  /// Appends what `draw` reports of the run's rows to `found`.
  void (*scan)(const SketchQuery& query, const SketchProposal& proposal, const SketchDraw& draw, const SketchRun& run,
               SketchCandidates& found, SketchSums& sums) noexcept;
};

/// The rounds of a 32-bit hash with low bias (Wellons 2018); the second half of the key enters between them.
constexpr std::uint32_t sketch_hash(std::uint64_t key, std::uint32_t x) noexcept {
  x = x * 0x9e3779b1u + static_cast<std::uint32_t>(key);
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) + static_cast<std::uint32_t>(key >> 32);
  x = (x ^ (x >> 13)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

/// What tells the rows of a block apart: any words whose differences have few trailing zeros.
alignas(64) inline constexpr auto kSketchPoints = [] {
  std::array<std::uint32_t, kSketchBlockRows> points{};
  for (std::uint32_t t = 0; t < kSketchBlockRows; ++t) points[t] = sketch_hash(0x5bd1e9955bd1e995u, t);
  return points;
}();

/// The random numbers of a block: row t has the upper bits of kSketchPoints[t] * factor + offset modulo 2^32.
struct SketchBits {
  std::uint32_t factor;  ///< odd
  std::uint32_t offset;
};
constexpr SketchBits sketch_bits(std::uint64_t key, std::int64_t block) noexcept {
  const auto i = static_cast<std::uint32_t>(2 * block);
  return {sketch_hash(key, i) | 1u, sketch_hash(key, i + 1)};
}

/// A number in (0, 1) for each (key, row): what scan() compares. Each is uniform over the keys, those of two rows are
/// independent, which is what inclusion probabilities and variances ask for, and those of two blocks altogether. The
/// rows of a block are not independent beyond pairs: a factor and an offset serve all 64, for a fifth of the work.
/// Source: pairwise independent hashing (Carter & Wegman 1979; multiply-shift, Dietzfelbinger 1996).
constexpr float sketch_uniform(std::uint64_t key, std::uint32_t row) noexcept {
  const SketchBits bits = sketch_bits(key, row / kSketchBlockRows);
  const std::uint32_t word = kSketchPoints[row % kSketchBlockRows] * bits.factor + bits.offset;
  return static_cast<float>(word >> 8) * 0x1p-24f + 0x1p-25f;
}

}  // namespace tandem::cpu
