#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/page_pool.h"
#include "cpu/selection.h"
#include "lsh/query_tables.h"
#include "lsh/select_request.h"
#include "lsh/sketch_map.h"
#include "runtime/base/shape.h"

namespace tandem::lsh {

/// Sampling rows with probabilities in proportion to their estimated attention, from a scan of all codes.
///
/// Either a budget or an error is asked for. A wanted error is met, as far as the estimate of the error tells, by a
/// first draw of 1 % of the rows and a larger one where that was not enough; heads whose estimates are too rough for
/// the error to be known run dense.
struct SketchParams {
  double budget = 0.02;   ///< share of the visible rows that a step gathers, in (0, 1]; at least kFewestDrawn of them
  double error = 0;       ///< wanted |out - dense| / |dense|, in [0, 1); 0: spend the budget
  int bits_per_dim = 0;   ///< of a key's code: 1, 2, or 0: 1 for heads for which that is enough
  bool top_k = false;     ///< the rows with the largest shares instead of a draw: no random numbers, no error estimate
  bool unbiased = false;  ///< plain Horvitz-Thompson: no tail calibration, no shrinking
  std::uint64_t seed = 1;

  friend bool operator==(const SketchParams&, const SketchParams&) = default;
};
void validate(const SketchParams& params);  ///< throws Error(invalid_argument) naming the field and the value

/// Fewer rows than these tell nothing about the rest; a step that sees no more takes them all.
inline constexpr std::int64_t kFewestDrawn = 64;

/// With SketchParams::error: shares of the visible rows that the first draw takes, and the second one at most.
inline constexpr double kPilotShare = 0.01;
inline constexpr double kMostShare = 0.15;

/// With SketchParams::error: rows of the first draw, and of the second when the first one's estimated error was
/// `excess` times what is wanted. The error of a draw falls like rows^-2/3;
/// where that asks for more than 15 % of the rows, all.
std::int64_t pilot_rows(std::int64_t visible) noexcept;
std::int64_t rows_for_error(std::int64_t visible, double excess) noexcept;

/// Rows of a budget: ceil(share * visible), at least kFewestDrawn, at most visible.
std::int64_t drawn_rows(double share, std::int64_t visible) noexcept;

/// What the scan of one piece of the rows found: candidates, and sums over the rows that are not loud.
struct SketchPiece {
  cpu::SketchCandidates found;
  std::array<double, kMaxGroupSize> quiet_weights;
  double quiet_share;
  std::int64_t quiet_rows;

  cpu::AlignedVector<std::uint32_t> rows;  // memory of `found`
  cpu::AlignedVector<float> shares, uniforms, weights;
};

struct SketchScratch {
  cpu::AlignedVector<float> keys, z;  // of a chunk to code
  QueryTables queries;
  cpu::AlignedVector<float> estimates, shares;  // of the sampled blocks: (group_size, rows), (rows)
  std::vector<SketchPiece> pieces;
  std::vector<float> loud_shares;
  std::vector<std::pair<float, std::uint32_t>> largest;  // shares and rows
};

/// Codes lie in pages of this many rows.
inline constexpr std::int64_t kCodePageBlocks = 32;
inline constexpr std::int64_t kCodePageRows = kCodePageBlocks * cpu::kSketchBlockRows;

/// The codes of one head.
struct SketchCodes {
  const SketchMap& map;
  std::span<const cpu::PageRef> pages;
};

/// Draws about `budget` of the rows [request.begin, request.end). Certain rows go to selection.rows, others with their
/// probabilities to selection.sampled. `key` decides the random numbers; a larger budget with the same key draws a
/// superset. Source: runtime/DESIGN.md; Poisson sampling with probabilities proportional to size (Hajek 1964).
void draw_sketched_rows(const SketchParams& params, const SketchCodes& codes, const SelectRequest& request,
                        std::int64_t budget, std::uint64_t key, SketchScratch& scratch, cpu::Selection& selection);

}  // namespace tandem::lsh
