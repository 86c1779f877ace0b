#pragma once

#include <cstddef>
#include <cstdint>

#include "tools/probes/team.h"

namespace tandem::probes {

/// Rows of one size at scattered places of an array, as a selection reads them.
struct GatherPlan {
  std::int64_t row_bytes = 512;  ///< a multiple of 128
  std::int64_t rows = 0;         ///< to read, of all members together
  std::int64_t first = 0;        ///< in the scattered order, which has every row of the array once
  bool prefetch = true;          ///< each row is asked for 32 rows ahead
};

/// 1e9 bytes of rows per second. The array, at a multiple of 64, has at least one row.
double gather_gb_per_s(Team& team, const std::byte* array, std::int64_t bytes, const GatherPlan& plan);

}  // namespace tandem::probes
