#include "lsh/query_log.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "runtime/base/dtype.h"

namespace tandem::lsh {

QueryLog::QueryLog(int group_size, int padded_k, numa::MemoryLedger& ledger)
    : group_size_(group_size),
      padded_k_(padded_k),
      max_tokens_(std::max(2, kLoggedQueries / group_size)),
      ledger_(&ledger),
      reservation_(ledger.reserve(max_tokens_ * (group_size * padded_k * 2 + 8), "observed queries")),
      vectors_(static_cast<std::size_t>(max_tokens_ * group_size * padded_k)),
      positions_(static_cast<std::size_t>(max_tokens_)) {}

void QueryLog::add(std::int64_t first_position, std::int64_t num_tokens, const float* vectors) noexcept {
  const std::int64_t per_token = std::int64_t{group_size_} * padded_k_;
  for (std::int64_t t = std::max<std::int64_t>(0, num_tokens - max_tokens_); t < num_tokens; ++t) {
    if (first_position + t <= last_position()) continue;
    const float* token = vectors + t * per_token;
    std::uint16_t* slot = vectors_.data() + next_ * per_token;
    for (std::int64_t i = 0; i < per_token; ++i) {  // to nearest; queries are finite, so nothing else needs a thought
      slot[i] = static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(token[i]) + 0x8000u) >> 16);
    }
    positions_[static_cast<std::size_t>(next_)] = first_position + t;
    next_ = (next_ + 1) % max_tokens_;
    num_tokens_ = std::min(num_tokens_ + 1, max_tokens_);
  }
}

void QueryLog::truncate(std::int64_t length) noexcept {
  while (num_tokens_ > 0 && last_position() >= length) {
    next_ = slot_of(num_tokens_ - 1);
    --num_tokens_;
  }
}

std::vector<float> QueryLog::half(bool odd) const {
  const std::int64_t per_token = std::int64_t{group_size_} * padded_k_;
  std::vector<float> result;
  for (std::int64_t t = odd ? 1 : 0; t < num_tokens_; t += 2) {
    const auto first = vectors_.begin() + slot_of(t) * per_token;
    std::transform(first, first + per_token, std::back_inserter(result), bf16_to_f32);
  }
  return result;
}

cpu::AlignedVector<float> QueryLog::spread(std::int64_t count) const {
  count = std::min(count, num_vectors());
  cpu::AlignedVector<float> result(static_cast<std::size_t>(count * padded_k_));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t vector = i * num_vectors() / count;
    const std::int64_t head = (vector + i) % group_size_;
    const auto first = vectors_.begin() + (slot_of(vector / group_size_) * group_size_ + head) * padded_k_;
    std::transform(first, first + padded_k_, result.begin() + i * padded_k_, bf16_to_f32);
  }
  return result;
}

QueryLog QueryLog::fork() const {
  QueryLog copy(group_size_, padded_k_, *ledger_);
  copy.vectors_ = vectors_;
  copy.positions_ = positions_;
  copy.num_tokens_ = num_tokens_;
  copy.next_ = next_;
  return copy;
}

}  // namespace tandem::lsh
