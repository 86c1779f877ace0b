#include "lsh/top_k.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "runtime/base/error.h"

namespace tandem::lsh {
namespace {

/// Logits (group_size, visible) of every visible row.
void score_all(const SelectRequest& request, TopKScratch& scratch) {
  const int group = request.queries.group_size;
  const std::int64_t visible = request.end - request.begin;
  const cpu::RowLayout& layout = request.store.layout();
  scratch.decoded.resize(static_cast<std::size_t>(cpu::kBlockRows) * static_cast<std::size_t>(layout.padded_k));
  scratch.block_scores.resize(static_cast<std::size_t>(group) * cpu::kBlockRows);
  scratch.logits.resize(static_cast<std::size_t>(group * visible));
  const std::byte* rows[cpu::kBlockRows];
  for (std::int64_t first = request.begin; first < request.end; first += cpu::kBlockRows) {
    const int count = static_cast<int>(std::min<std::int64_t>(cpu::kBlockRows, request.end - first));
    request.store.rows(first, count, rows);
    request.kernels.scores[layout.dtype](request.queries.q, group, layout.padded_k, {rows, count},
                                         scratch.decoded.data(), scratch.block_scores.data());
    if (request.logits.softcap > 0.f) {
      request.kernels.softcap(scratch.block_scores.data(), std::int64_t{group} * cpu::kBlockRows,
                              request.logits.softcap);
    }
    for (std::int64_t h = 0; h < group; ++h) {
      const float slope = request.logits.alibi == nullptr ? 0.f : request.logits.alibi[h];
      for (int r = 0; r < count; ++r) {
        const auto distance = static_cast<float>(request.first_position + first + r - request.queries.positions[0]);
        scratch.logits[static_cast<std::size_t>(h * visible + first - request.begin + r)] =
            scratch.block_scores[static_cast<std::size_t>(h * cpu::kBlockRows + r)] + slope * distance;
      }
    }
  }
}

/// Sets bit `head` in the masks of the k highest of `logits`.
void mark_highest(const float* logits, std::int64_t visible, std::int64_t k, int head, TopKScratch& scratch) {
  scratch.order.assign(logits, logits + visible);
  const auto kth = scratch.order.begin() + (k - 1);
  std::nth_element(scratch.order.begin(), kth, scratch.order.end(), std::greater<>());
  const float threshold = *kth;
  std::int64_t ties = k - std::count_if(scratch.order.begin(), kth, [&](float x) { return x > threshold; });
  const std::uint64_t bit = std::uint64_t{1} << head;
  for (std::int64_t r = 0; r < visible; ++r) {
    if (logits[r] > threshold || (logits[r] == threshold && ties-- > 0))
      scratch.masks[static_cast<std::size_t>(r)] |= bit;
  }
}

}  // namespace

void validate(const TopKParams& params) {
  TANDEM_CHECK(params.budget > 0.0 && params.budget <= 1.0, invalid_argument, "budget is ", params.budget,
               "; allowed: above 0, up to 1 (share of the host rows)");
}

std::int64_t top_k_count(const TopKParams& params, std::int64_t visible) noexcept {
  // 0.07 of 100 is 7, though the product in double is a little more.
  const double exact = params.budget * static_cast<double>(visible);
  const auto wanted = static_cast<std::int64_t>(std::ceil(exact * (1 - 1e-12)));
  return std::clamp<std::int64_t>(wanted, visible > 0 ? 1 : 0, visible);
}

void select_top_k(const TopKParams& params, const SelectRequest& request, TopKScratch& scratch,
                  cpu::Selection& selection) {
  selection.clear();
  const std::int64_t visible = request.end - request.begin;
  if (visible <= 0) return;
  score_all(request, scratch);
  scratch.masks.assign(static_cast<std::size_t>(visible), 0);
  selection.bytes_read =
      visible * request.store.layout().dim_k * static_cast<std::int64_t>(bytes_of(request.store.layout().dtype));
  const std::int64_t k = top_k_count(params, visible);
  for (int h = 0; h < request.queries.group_size; ++h) {
    mark_highest(scratch.logits.data() + h * visible, visible, k, h, scratch);
  }
  for (std::int64_t r = 0; r < visible; ++r) {
    if (scratch.masks[static_cast<std::size_t>(r)] == 0) continue;
    selection.rows.push_back(static_cast<std::uint32_t>(request.begin + r));
    selection.head_mask.push_back(scratch.masks[static_cast<std::size_t>(r)]);
  }
}

}  // namespace tandem::lsh
