#include "lsh/selection_cost.h"

#include <algorithm>
#include <cmath>

#include "lsh/table_segment.h"

namespace tandem::lsh {
namespace {

constexpr double kRowBytes = 512;
constexpr double kDims = 128;
constexpr double kGroup = 4;

/// What a policy's selection costs, by its parameters.
struct Policy {
  double share = 1;    // of the visible rows that are gathered
  double fewest = 0;   // rows that are gathered at least
  double row = 0;      // per visible row
  double fixed = 0;    // per selection
  double segment = 0;  // per segment of LSH tables
};

struct PolicyOf {
  const CostProfile& profile;
  const cpu::RowLayout& rows;
  double group;

  Policy operator()(const SelectAllParams&) const { return {}; }

  Policy operator()(const TopKParams& p) const {
    const double key_bytes = static_cast<double>(rows.dim_k) * static_cast<double>(bytes_of(rows.dtype));
    return {.share = 1 - std::pow(1 - p.budget, group),  // of heads that want different rows
            .row = profile.scored_row_ns * std::max(key_bytes / (kRowBytes / 2), group / kGroup),
            .fixed = profile.selection_ns};
  }

  Policy operator()(const LshParams& p) const {
    const double lists = static_cast<double>(p.num_tables) * group;
    const double found = std::pow(profile.lsh_bit_agreement, p.bits_per_table);  // of a bucket's table
    return {.share = expected_share(p, profile.lsh_bit_agreement, static_cast<int>(group)),
            .row = profile.table_row_ns * group / kGroup + profile.table_id_ns * lists * found,
            .fixed = profile.selection_ns,
            .segment = profile.table_read_ns * lists};
  }

  Policy operator()(const SketchParams& p) const {
    // What bits_per_dim 0 becomes depends on the data; the dearer code is on the safe side.
    const double scan = p.bits_per_dim == 1 ? profile.scanned_row_1bit_ns : profile.scanned_row_2bit_ns;
    const double row = scan * static_cast<double>(rows.dim_k) / kDims * group / kGroup;
    const double fixed = profile.selection_ns;
    if (p.error <= 0) {
      return {.share = p.budget, .fewest = static_cast<double>(kFewestDrawn), .row = row, .fixed = fixed};
    }
    // A pilot, and as much as a second draw takes short of all rows: only the data can tell what is enough.
    return {.share = kPilotShare + kMostShare,
            .fewest = 2 * static_cast<double>(kFewestDrawn),
            .row = 2 * row,
            .fixed = 2 * fixed};
  }
};

}  // namespace

double expected_share(const LshParams& params, double bit_agreement, int group_size) noexcept {
  const double x = std::pow(bit_agreement, params.bits_per_table);
  const double none = std::pow(1 - x, params.num_tables);
  double missed = none;
  if (params.min_collisions == 2) missed += params.num_tables * x * std::pow(1 - x, params.num_tables - 1);
  return 1 - std::pow(std::min(1.0, missed), group_size);
}

SelectionCost::SelectionCost(const CostProfile& profile, const SelectorParams& params, const cpu::RowLayout& rows,
                             int group_size) noexcept {
  const double group = group_size;
  const double size = static_cast<double>(rows.kv_bytes) / kRowBytes;
  const double dims = static_cast<double>(rows.dim_k + rows.dim_v) / (2 * kDims);
  const double vectors = (group - kGroup) * profile.query_vector_ns * dims;
  // Fewer vectors than four cost less than the profile's row, but never nothing.
  dense_row_ = std::max(profile.dense_row_ns * size / kGroup, profile.dense_row_ns * size + vectors);
  gathered_row_ = std::max(profile.gathered_row_ns * size / kGroup, profile.gathered_row_ns * size + vectors);
  const Policy policy = std::visit(PolicyOf{profile, rows, group}, params);
  share_ = policy.share;
  fewest_ = policy.fewest;
  row_ = policy.row;
  fixed_ = policy.fixed;
  segment_ = policy.segment;
  always_dense_ = std::holds_alternative<SelectAllParams>(params);
}

double SelectionCost::select_ns(double visible) const noexcept {
  // No rounding to whole rows or segments: steps would let a selection pay, then not, then pay again.
  const double segments = std::max(1.0, visible / TableSegment::kMaxRows);
  return fixed_ + segment_ * segments + row_ * visible + gathered_row_ * std::max(fewest_, share_ * visible);
}

bool SelectionCost::pays(std::int64_t visible, double selecting_over_dense) const noexcept {
  const auto rows = static_cast<double>(visible);
  return !always_dense_ && rows > fewest_ && selecting_over_dense * select_ns(rows) < kMostOfDense * dense_ns(rows);
}

std::int64_t SelectionCost::crossover(std::int64_t most, double selecting_over_dense) const noexcept {
  const auto pays = [&](std::int64_t visible) { return this->pays(visible, selecting_over_dense); };
  std::int64_t low = 0;
  std::int64_t high = 1;
  while (high < most && !pays(high)) high = std::min(most, 2 * high);
  if (!pays(high)) return -1;
  low = high / 2;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (pays(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace tandem::lsh
