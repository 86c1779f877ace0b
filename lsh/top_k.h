#pragma once

#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/selection.h"
#include "lsh/select_request.h"

namespace tandem::lsh {

/// The rows with the highest true logits, per query head: an oracle that reads every key.
struct TopKParams {
  double budget = 0.02;  ///< share of the visible rows, in (0, 1]; at least one row is taken

  friend bool operator==(const TopKParams&, const TopKParams&) = default;
};
void validate(const TopKParams& params);  ///< throws Error(invalid_argument) naming the field and the value

struct TopKScratch {
  cpu::AlignedVector<float> decoded, block_scores;
  std::vector<float> logits, order;
  std::vector<std::uint64_t> masks;
};

/// Rows taken of `visible`: ceil(budget * visible), at least 1 when there is any.
std::int64_t top_k_count(const TopKParams& params, std::int64_t visible) noexcept;

/// Each head's k highest logits (after softcap and ALiBi; ties to the lowest row), united over the group.
void select_top_k(const TopKParams& params, const SelectRequest& request, TopKScratch& scratch,
                  cpu::Selection& selection);

}  // namespace tandem::lsh
