#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/tandem/exact.h"
#include "tools/tandem/output.h"
#include "tools/tandem/replay.h"

namespace tandem::cli {

/// Everything measured in one layer of a replay, step by step.
class LayerSamples {
 public:
  /// `exact` and `recorded` (dec_out, may be without data) outlive this object.
  LayerSamples(const tools::TraceMeta& meta, const tools::TraceLayer& layer, const ExactResults& exact)
      : meta_(meta), layer_(layer), exact_(exact) {}

  /// Compares `step` with the exact results of that step and notes its times and counts.
  void add(std::int64_t step, const LayerStep& result);
  /// The index of one copy after the prompt.
  void add_index(const td_seq_info& info);
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  /// Steps that attended to every host row that they saw.
  [[nodiscard]] std::int64_t dense_steps() const noexcept { return dense_steps_; }
  /// Whether any step ran its selector.
  [[nodiscard]] bool selected() const noexcept { return selected_; }
  /// The layer's entry in the JSON report: means, quantiles and medians over the steps.
  [[nodiscard]] Json figures() const;

 private:
  /// What the library said about the error that was added last.
  void add_estimate(double estimate, bool certified);

  enum Time { kAppend, kWindow, kSelect, kAttend, kMerge, kTotal, kNumTimes };

  const tools::TraceMeta& meta_;
  const tools::TraceLayer& layer_;
  const ExactResults& exact_;
  std::vector<double> errors_, lse_errors_;  // per step and query head
  std::array<std::vector<double>, kNumTimes> us_;
  std::vector<double> lse_error_estimates_, error_estimates_;
  std::int64_t certified_ = 0, covered_ = 0, estimated_ = 0;  // of all; of those that were estimated and certified
  double recorded_diff_ = 0;
  std::int64_t steps_ = 0, dense_steps_ = 0, bytes_ = 0;
  bool selected_ = false;
  std::int64_t rows_host_ = 0, rows_gathered_ = 0, keys_visible_ = 0, keys_attended_ = 0;
  std::int64_t rows_window_ = 0;
  std::int64_t index_bytes_ = 0;
  double index_build_us_ = 0;
  double indexed_rows_ = 0;  // host rows of all copies and KV heads
};

/// Numbers averaged over `layers`, objects field by field; null when any layer has null. Without "layer".
Json mean_over_layers(const std::vector<Json>& layers);

/// Says that steps ran dense although `selector` is to select, and why; empty when none did.
std::string dense_note(const std::vector<LayerSamples>& layers, const td_selector& selector, bool always_select);

/// One line per layer and one for the mean.
std::string replay_table(const Json& layers, const Json& mean);

}  // namespace tandem::cli
