#pragma once

#include <cstdint>

#include "cpu/row_layout.h"
#include "lsh/cost_profile.h"
#include "lsh/selector.h"

namespace tandem::lsh {

/// Predicts whether selecting rows costs less than attending to all of them, for one query token of one GQA group.
///
/// A pure function of profile, policy, row layout and group size; no allocation, no clock. Rows scale with their bytes
/// (512 in the profile), arithmetic with the group (4) and, for codes, with the dimensions (128). A larger budget never
/// makes a selection pay that did not; for the sketch, neither does seeing fewer rows.
class SelectionCost {
 public:
  SelectionCost(const CostProfile& profile, const SelectorParams& params, const cpu::RowLayout& rows,
                int group_size) noexcept;

  [[nodiscard]] double dense_ns(double visible) const noexcept { return dense_row_ * visible; }
  [[nodiscard]] double select_ns(double visible) const noexcept;
  /// True when selecting among `visible` rows is predicted to take less than kMostOfDense of the dense pass.
  /// `selecting_over_dense`: how much slower selecting has turned out to be than predicted, beside dense attention; at
  /// most 1e6 and at least 1e-6.
  [[nodiscard]] bool pays(std::int64_t visible, double selecting_over_dense = 1) const noexcept;
  /// The fewest visible rows for which it pays; -1: none below `most`.
  [[nodiscard]] std::int64_t crossover(std::int64_t most, double selecting_over_dense = 1) const noexcept;

 private:
  double dense_row_ = 0;
  double gathered_row_ = 0;
  double share_ = 1;           // of the visible rows that a selection gathers
  double fewest_ = 0;          // rows that it gathers at least
  double row_ = 0;             // of visible rows, besides what is gathered
  double fixed_ = 0;           // of a selection
  double segment_ = 0;         // of each segment of LSH tables
  bool always_dense_ = false;  // SelectAll
};

/// Predictions are not exact, and dense attention has no error: a selection has to promise this much.
inline constexpr double kMostOfDense = 0.9;

/// Share of the rows that LSH tables are expected to give a group, from the agreement of single bits. Heads of a group
/// are taken as independent, which is on the safe side.
double expected_share(const LshParams& params, double bit_agreement, int group_size) noexcept;

}  // namespace tandem::lsh
