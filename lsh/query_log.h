#pragma once

#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "lsh/sketch_map.h"
#include "numa/memory_ledger.h"

namespace tandem::lsh {

/// Query vectors of one GQA group that calibration fits and tests its maps on: those of the latest tokens.
///
/// Holds kLoggedQueries vectors (at least two tokens' worth) in bf16, each token once, in ascending order of positions.
/// Not thread-safe.
class QueryLog {
 public:
  static constexpr int kLoggedQueries = 128;

  /// Takes all its memory at once. `ledger` must outlive the log. Throws Error(out_of_memory).
  QueryLog(int group_size, int padded_k, numa::MemoryLedger& ledger);

  /// Vectors (num_tokens * group_size, padded_k), scaled as logits need, of the tokens from first_position on. Tokens
  /// up to the latest one in the log are passed over: a query may come with td_append and again with td_attend, and a
  /// step may attend in several calls. What is logged does not depend on how tokens are grouped in calls.
  void add(std::int64_t first_position, std::int64_t num_tokens, const float* vectors) noexcept;
  /// Forgets the tokens from position `length` on, so that those positions may be logged again. What they displaced
  /// does not come back: the log is shorter until others come.
  void truncate(std::int64_t length) noexcept;
  /// Latest tokens that add() keeps; more are of no use.
  [[nodiscard]] std::int64_t max_tokens() const noexcept { return max_tokens_; }

  [[nodiscard]] std::int64_t num_vectors() const noexcept { return std::int64_t{group_size_} * num_tokens_; }
  /// The vectors (count, padded_k) of every second token, counted from the oldest: `odd` false for fitting, true for
  /// testing.
  [[nodiscard]] std::vector<float> half(bool odd) const;
  /// Up to `count` of the vectors (count, padded_k), from tokens at equal distances and from different heads.
  [[nodiscard]] cpu::AlignedVector<float> spread(std::int64_t count) const;
  /// Both halves, in the parts that they play.
  [[nodiscard]] CalibrationQueries halves() const { return {half(false), half(true)}; }
  [[nodiscard]] QueryLog fork() const;

 private:
  /// The slot of the t-th token, counted from the oldest.
  [[nodiscard]] std::int64_t slot_of(std::int64_t t) const noexcept {
    return (next_ - num_tokens_ + t + max_tokens_) % max_tokens_;
  }

  /// Of the latest token; -1 when there is none.
  [[nodiscard]] std::int64_t last_position() const noexcept {
    return num_tokens_ == 0 ? -1 : positions_[static_cast<std::size_t>(slot_of(num_tokens_ - 1))];
  }

  int group_size_;
  int padded_k_;
  std::int64_t max_tokens_;
  numa::MemoryLedger* ledger_;
  numa::Reservation reservation_;
  std::vector<std::uint16_t> vectors_;   // ring of max_tokens tokens
  std::vector<std::int64_t> positions_;  // of the tokens in the ring
  std::int64_t num_tokens_ = 0;
  std::int64_t next_ = 0;  // slot of the next token
};

}  // namespace tandem::lsh
