#include "lsh/sketch_params.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"

namespace tandem::lsh {

void validate(const SketchParams& params) {
  TANDEM_CHECK(params.budget > 0 && params.budget <= 1, invalid_argument, "budget is ", params.budget,
               "; allowed: above 0, up to 1 (a share of the host rows)");
  TANDEM_CHECK(params.error >= 0 && params.error < 1, invalid_argument, "error is ", params.error,
               "; allowed: 0 (spend the budget), or a relative error above 0 and below 1");
  TANDEM_CHECK(params.bits_per_dim >= 0 && params.bits_per_dim <= 2, invalid_argument, "sketch_bits is ",
               params.bits_per_dim, "; allowed: 1, 2, or 0 (1 where that is enough)");
  TANDEM_CHECK(!params.top_k || (params.error == 0 && !params.unbiased), invalid_argument,
               "error and unbiased need a random draw; a top-k selection has no error estimate");
}

std::int64_t drawn_rows(double share, std::int64_t visible) noexcept {
  const auto wanted = static_cast<std::int64_t>(std::ceil(share * static_cast<double>(visible)));
  return std::min(visible, std::max(wanted, kFewestDrawn));
}

std::int64_t pilot_rows(std::int64_t visible) noexcept { return drawn_rows(kPilotShare, visible); }

std::int64_t rows_for_error(std::int64_t visible, double excess) noexcept {
  constexpr double kCaution = 1.3;  // estimates err on both sides
  const double rows = static_cast<double>(pilot_rows(visible)) * std::pow(std::max(1.0, kCaution * excess), 1.5);
  const std::int64_t most = std::max(pilot_rows(visible), drawn_rows(kMostShare, visible));
  return rows < static_cast<double>(most) ? static_cast<std::int64_t>(rows) : visible;
}

}  // namespace tandem::lsh
