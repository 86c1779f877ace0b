#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>

#include "lsh/selection_cost.h"

namespace tandem {

// Where selecting begins to pay, corrected while running (td_config.auto_split): lsh::SelectionCost predicts what a
// query takes either way, and Split keeps how far what it took was from that.

/// Positions at which decisions may change. Constant, like those below: they decide bits.
inline constexpr std::int64_t kSplitTokens = 1024;
/// From one probe of a sequence to the next: a query that runs the other way in one layer, the layers taking turns, the
/// query before it being measured as it runs, for comparison under like conditions.
inline constexpr std::int64_t kProbeTokens = 1024;
/// Likewise, until enough is known for a decision: otherwise that would take thousands of tokens.
inline constexpr std::int64_t kFirstProbeTokens = 64;
/// Measurements of either way before they count.
inline constexpr int kLeastProbes = 7;
/// The latest measurements of either way, whose median counts: half of them may be disturbed by whatever else runs.
inline constexpr int kKeptProbes = 15;
/// Fewer visible rows are not measured: they lie in caches, and calls and clocks weigh more than they do.
inline constexpr std::int64_t kLeastMeasuredRows = 1024;
/// What a layer has taken over stays until the measured quotient differs by this factor.
inline constexpr double kLeastChange = 1.25;

/// Worker time of one query token of one layer, over all KV heads that ran the same way.
struct SplitMeasurement {
  double measured_ns = 0;
  double predicted_ns = 0;
  std::int64_t rows = 0;  ///< visible, of all heads

  [[nodiscard]] double ratio() const noexcept { return measured_ns / predicted_ns; }
};

/// What is known about one way to attend.
struct MeasuredWay {
  SplitMeasurement median;  ///< by its ratio, of those kept
  std::int64_t steps = 0;   ///< measured so far
};

/// What is known about both.
struct SplitFigures {
  MeasuredWay dense;
  MeasuredWay selecting;

  [[nodiscard]] bool is_known() const noexcept {
    return dense.steps >= kLeastProbes && selecting.steps >= kLeastProbes;
  }
  /// By how much more than dense attention selecting is slower than predicted, from 1e-6 to 1e6; 1 until it is known.
  [[nodiscard]] double selecting_over_dense() const noexcept;
};

/// Collects measurements of a runtime's steps. Thread-safe; allocates nothing.
class Split {
 public:
  enum class Way { dense, selecting };
  /// One without time or prediction is ignored.
  void add(Way way, const SplitMeasurement& measurement) noexcept;
  [[nodiscard]] SplitFigures figures() const noexcept;
  /// From here to the next, see kProbeTokens.
  [[nodiscard]] std::int64_t probe_tokens() const noexcept {
    return is_known_.load(std::memory_order_relaxed) || is_refused_.load(std::memory_order_relaxed) ? kProbeTokens
                                                                                                    : kFirstProbeTokens;
  }
  /// A probe found no memory for its index: trying again soon would cost as much each time.
  void refuse_probe() noexcept { is_refused_.store(true, std::memory_order_relaxed); }

 private:
  struct Kept {
    std::array<SplitMeasurement, kKeptProbes> latest;
    std::int64_t count = 0;
  };
  static MeasuredWay summed_up(const Kept& kept) noexcept;

  mutable std::mutex mutex_;  // of what follows; taken where something is measured or taken over, not in other steps
  Kept dense_;
  Kept selecting_;
  std::atomic<bool> is_known_ = false;
  std::atomic<bool> is_refused_ = false;
};

/// What a layer of a sequence decides by, between two multiples of kSplitTokens.
struct TakenSplit {
  double selecting_over_dense = 1;
  std::int64_t block = -1;  ///< of kSplitTokens positions, for which it was taken over

  static constexpr std::int64_t block_of(std::int64_t position) noexcept { return position / kSplitTokens; }
  /// As the layer is cut to `length` tokens: it takes over again at the next multiple.
  [[nodiscard]] TakenSplit cut(std::int64_t length) const noexcept;
};

/// `measured`, where that is another decision than `taken`; `cost` is the sequence's, of stores of up to `most` rows.
double next_quotient(double taken, double measured, const lsh::SelectionCost& cost, std::int64_t most) noexcept;

}  // namespace tandem
