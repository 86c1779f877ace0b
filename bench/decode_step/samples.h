#pragma once

#include <map>
#include <string>
#include <vector>

#include "bench/decode_step/contender.h"
#include "tools/formats/trace.h"
#include "tools/tandem/exact.h"

namespace tandem::bench {

/// min, p10, median, p90, max and mean of some values; all zero when there are none.
Json spread_of(std::vector<double> values);

/// Everything measured of one contender.
class Samples {
 public:
  /// `exact` holds the first `exact_steps` steps and outlives this object.
  Samples(const tools::TraceMeta& meta, const cli::ExactResults& exact, std::int64_t exact_steps)
      : meta_(meta), exact_(exact), exact_steps_(exact_steps) {}

  /// A step that is not timed still counts for the error.
  void add(std::int64_t step, const StepResult& result, bool timed);
  /// The figures of one row of the report; GB/s are what reads with the same threads reach.
  [[nodiscard]] Json figures(double sequential_gb_per_s, double scattered_gb_per_s) const;

 private:
  void add_errors(std::int64_t step, const StepResult& result);

  const tools::TraceMeta& meta_;
  const cli::ExactResults& exact_;
  std::int64_t exact_steps_;
  std::vector<double> us_, errors_, lse_errors_, estimates_;
  std::map<std::string, std::vector<double>> stage_us_;
  double bytes_ = 0, scattered_bytes_ = 0, rows_host_ = 0, rows_gathered_ = 0, keys_visible_ = 0, keys_attended_ = 0;
};

}  // namespace tandem::bench
