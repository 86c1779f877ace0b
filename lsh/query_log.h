#pragma once

#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "lsh/sketch_map.h"
#include "numa/memory_ledger.h"

namespace tandem::lsh {

/// Query vectors of one GQA group that calibration fits and tests its maps on: those of the latest tokens.
///
/// Holds kLoggedQueries vectors (at least two tokens' worth) in bf16. Not thread-safe.
class QueryLog {
 public:
  static constexpr int kLoggedQueries = 128;

  /// Takes all its memory at once. `ledger` must outlive the log. Throws Error(out_of_memory).
  QueryLog(int group_size, int padded_k, numa::MemoryLedger& ledger);

  /// Vectors (num_tokens * group_size, padded_k), scaled as logits need, of the tokens from first_position on. A token
  /// that was the last one seen is passed over: a step may attend in several calls.
  void add(std::int64_t first_position, std::int64_t num_tokens, const float* vectors) noexcept;
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
  [[nodiscard]] std::int64_t bytes() const noexcept { return static_cast<std::int64_t>(vectors_.size()) * 2; }

 private:
  /// The slot of the t-th token, counted from the oldest.
  [[nodiscard]] std::int64_t slot_of(std::int64_t t) const noexcept {
    return (next_ - num_tokens_ + t + max_tokens_) % max_tokens_;
  }

  int group_size_;
  int padded_k_;
  std::int64_t max_tokens_;
  numa::MemoryLedger* ledger_;
  numa::Reservation reservation_;
  std::vector<std::uint16_t> vectors_;  // ring of max_tokens tokens
  std::int64_t num_tokens_ = 0;
  std::int64_t next_ = 0;  // slot of the next token
  std::int64_t last_position_ = -1;
};

}  // namespace tandem::lsh
