#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/tandem/split_bench.h"

namespace tandem::cli {

/// Which cases a sweep has: all combinations of these lists.
struct SplitGrid {
  std::vector<std::int64_t> contexts;
  std::vector<int> batches;
  std::vector<Split> splits;
};

/// How cases are measured.
struct SplitSweep {
  SplitShape shape;
  std::int64_t steps = 8;                     ///< timed ones; one more comes before them
  std::int64_t exact_steps = 2;               ///< of made-up heads: all steps of a trace are compared
  std::shared_ptr<const tools::Trace> trace;  ///< that the asked cases are measured over, its tokens being their
                                              ///< context; none: made-up heads
  std::uint64_t seed = 1;
  int threads = 1;  ///< for what is not timed
  std::string isa;
  std::int64_t cache_bytes = 0;  ///< last level
};

/// A case that could not be measured, and why.
struct SplitRefusal {
  SplitCase at;
  std::string why;
};

struct SplitMeasurements {
  std::vector<SplitSample> fit, asked;
  std::vector<SplitRefusal> refused;
};

/// Measures every case of both grids. All that memory holds at a time take turns, step by step, so that whatever
/// disturbs the machine disturbs all of them; the cases of `fit` stay and take their turns with each group of others.
/// Those of `fit` are made up always: what predictions are of is time, which the data changes little. Cases for which
/// there is no memory at all are refused, and the others go on. Shows progress. Throws Interrupted,
/// td::Error, and Error(out_of_memory) when `fit` does not fit.
SplitMeasurements measure_grids(const SplitSweep& sweep, const SplitGrid& fit, const SplitGrid& asked);

}  // namespace tandem::cli
