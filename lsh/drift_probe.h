#pragma once

#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/kv_store.h"
#include "lsh/coded_rows.h"
#include "lsh/query_log.h"

namespace tandem::lsh {

/// How far estimates are from exact logits on the rows that came since a map was calibrated: a running variance, in
/// nats^2, over blocks of rows as they fill up and the queries of that time.
///
/// A value: it starts at the variance that the calibration measured and follows with a memory of about kMemory blocks.
class DriftProbe {
 public:
  static constexpr double kMemory = 16;
  static constexpr int kQueries = 8;           ///< per block, spread over those logged
  static constexpr std::int64_t kBlocks = 32;  ///< at most, per call: the latest; older ones would hardly count
  static constexpr double kMostGrowth = 1.5;   ///< of the standard deviation since calibration
  static constexpr double kFloor = 0.05;       ///< nats; nothing below is worth a re-calibration

  DriftProbe() = default;
  explicit DriftProbe(const SketchMap& map) : variance_(map.sigma * map.sigma) {}

  /// Looks at the blocks that filled up between `first` and rows.size rows. A few microseconds each.
  void observe(const cpu::Kernels& kernels, const cpu::KvStore& store, const CodedRows& rows, std::int64_t first,
               const QueryLog& queries, SketchScratch& scratch);
  /// The larger of what calibration measured and what was seen since; infinite when it had no queries to measure with.
  [[nodiscard]] double sigma(const SketchMap& map) const noexcept;
  /// True when `map` no longer fits.
  [[nodiscard]] bool drifted(const SketchMap& map) const noexcept;

 private:
  double variance_ = 0;
};

}  // namespace tandem::lsh
