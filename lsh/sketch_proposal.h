#pragma once

#include <array>
#include <cstdint>

#include "lsh/coded_rows.h"
#include "lsh/select_request.h"
#include "lsh/sketch_scratch.h"
#include "runtime/base/shape.h"

namespace tandem::lsh {

/// How the scan turns the codes of rows into shares for the queries of one group: the probabilities with which a draw
/// should take them, up to a rate. A row's share is the mean over the heads of its estimated attention.
///
/// What it takes to make shares of estimates, and the rate for a number of rows, come from a pilot: estimates for
/// blocks at equal distances. Source: runtime/DESIGN.md.
class Proposal {
 public:
  /// Of rows [request.begin, request.end), two whole blocks of codes at least. All arguments must outlive the proposal,
  /// which uses `scratch` for itself alone: its queries, estimates and shares.
  Proposal(const CodedRows& rows, const SelectRequest& request, SketchScratch& scratch);
  Proposal(const Proposal&) = delete;  // weights() points into it
  Proposal& operator=(const Proposal&) = delete;

  [[nodiscard]] const cpu::SketchQuery& query() const noexcept { return query_; }
  [[nodiscard]] const cpu::SketchProposal& weights() const noexcept { return weights_; }

  /// The rate at which the pilot's rows, drawn with probability min(1, rate * share + floor), would be `budget` of all.
  [[nodiscard]] float rate_for(float budget, float floor) const;
  /// The rate at which `budget` of all rows would be certain by their shares alone, if they were like the pilot's.
  [[nodiscard]] float rate_for_certain(float budget) const;

  static constexpr float kMostRate = 1e30f;  ///< of rate_for_certain()

 private:
  using PerHead = std::array<float, kMaxGroupSize>;

  void transform_queries();
  void read_pilot();
  void fit_head(int h);
  /// Shares of the pilot's rows; returns how many of them `budget` of all rows would be.
  float add_up_shares(float budget) const;

  const CodedRows& rows_;
  const SelectRequest& request_;
  SketchScratch& scratch_;
  PerHead shrinks_, offsets_, alibi_, references_, tempers_, scales_;
  cpu::SketchQuery query_;
  cpu::SketchProposal weights_;

  int pilot_rows_ = 0;             // hidden ones included
  std::int64_t first_block_ = 0;   // of the pilot
  std::int64_t block_stride_ = 1;  // from one of its blocks to the next
  float mean_factor_square_ = 0;
};

}  // namespace tandem::lsh
