#pragma once

#include <cstdint>

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
/// `excess` times what is wanted. The error of a draw falls like rows^-2/3; where that asks for more than 15 % of the
/// rows, all.
std::int64_t pilot_rows(std::int64_t visible) noexcept;
std::int64_t rows_for_error(std::int64_t visible, double excess) noexcept;

/// Rows of a budget: ceil(share * visible), at least kFewestDrawn, at most visible.
std::int64_t drawn_rows(double share, std::int64_t visible) noexcept;

}  // namespace tandem::lsh
