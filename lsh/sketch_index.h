#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "cpu/selection.h"
#include "lsh/coded_rows.h"
#include "lsh/coding_job.h"
#include "lsh/drift_probe.h"
#include "lsh/query_log.h"
#include "lsh/select_request.h"
#include "lsh/sketch_map.h"
#include "lsh/sketch_sampling.h"

namespace tandem::lsh {

/// Codes of the rows of one (sequence, layer, kv_head), and the map that they were made with.
///
/// There is no index, and every step is dense, until the store has kFewestRows rows and kFewestObserved queries have
/// been seen; then a map is fitted and all rows are coded. Later rows are coded with the same map, so one by one equals
/// in bulk. Full pages of codes are immutable and shared by forks. Not thread-safe.
///
/// With a background thread, a new map is fitted when the rows have become kGrowth times those of the last calibration,
/// or when the estimates of rows that came since are off (DriftProbe) and the rows have doubled. That happens to the
/// first T rows, T the multiple of 64 at which the one or the other is seen, and away from the steps; at effect_at(T)
/// rows the new codes take over, with a wait if they are not done by then. Growth thus depends on the number of rows
/// alone, whatever the calls in which they came; what a map is fitted to besides, and drift, also depend on the queries
/// that had been observed when prepare() first saw those rows. Only the last of several maps that are due in one call
/// is fitted, in that call. A calibration that is due while fewer than kFewestObserved queries are logged, as after a
/// truncation, waits for more. Without memory for it a calibration is given up, and the next one is due when it would
/// have been after a success. With IndexMemory::calibrates_in_steps, growth has the same effects at the same sizes, and
/// drift none.
class SketchIndex {
 public:
  static constexpr std::int64_t kFewestRows = 1024;
  static constexpr std::int64_t kFewestObserved = 64;
  static constexpr std::int64_t kGrowth = 4;
  static constexpr std::int64_t kGrowthAfterDrift = 2;

  /// Rows at which a calibration on the first `rows` takes effect: 1,024 more, or a 32nd.
  [[nodiscard]] static std::int64_t effect_at(std::int64_t rows) noexcept;

  /// `stream` tells this head's random numbers from those of other heads. `memory` must outlive the index.
  SketchIndex(const SketchParams& params, const IndexMemory& memory, std::uint64_t stream)
      : params_(params), memory_(memory), stream_(stream) {}

  [[nodiscard]] bool lacks_rows_of(const cpu::KvStore& store, const QueryLog& queries) const noexcept;

 private:
  struct State {
    CodedRows rows;  // without a map: no index yet
    DriftProbe drift;
    std::int64_t calibrated = 0;         // rows of the last calibration, also of one that was refused
    std::shared_ptr<CodingJob> pending;  // fits the next map and codes the rows that it is fitted to
    std::shared_ptr<CodingJob> rest;     // codes most of the rows from there to where it takes effect
  };

 public:
  /// The state after coding some rows, on the side until commit().
  class Extension {
    friend class SketchIndex;
    State state;
  };
  /// Codes rows [size(), store.size()) without a change. Throws Error(out_of_memory), or what memory.coder throws.
  [[nodiscard]] Extension prepare(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries,
                                  SketchScratch& scratch) const;
  void commit(Extension&& extension) noexcept { state_ = std::move(extension.state); }
  /// An index of the first min(size, size()) rows, with the map of all; it shares a calibration that is under way
  /// unless that needs more rows. Throws Error(out_of_memory).
  [[nodiscard]] SketchIndex fork(std::int64_t size) const;

  /// Selects among rows [request.begin, request.end) for about `budget` of them; all of them when there is no index.
  void select(const SelectRequest& request, SketchScratch& scratch, cpu::Selection& selection) const;

  [[nodiscard]] std::int64_t size() const noexcept { return state_.rows.size; }
  /// Without those of a calibration under way.
  [[nodiscard]] std::int64_t bytes() const noexcept;
  [[nodiscard]] const SketchMap* map() const noexcept { return state_.rows.map.get(); }
  /// Standard deviation of the estimates' errors, in nats: that of the map, or a larger one that was seen since.
  [[nodiscard]] double sigma() const noexcept { return state_.drift.sigma(*map()); }
  [[nodiscard]] bool calibrating() const noexcept { return state_.pending != nullptr; }

 private:
  void take_due(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries, SketchScratch& scratch,
                State& next) const;
  void start_due(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries, State& next) const;

  SketchParams params_;
  IndexMemory memory_;
  std::uint64_t stream_;
  State state_;
};

}  // namespace tandem::lsh
