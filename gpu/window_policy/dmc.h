#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gpu/window_policy/dmc_decision.h"

namespace tandem::gpu {

/// Tokens of one KV head, in order, as they enter its compressed cache.
struct DmcTokens {
  std::span<const float> k;                ///< (tokens, dim_k), before RoPE
  std::span<const float> v;                ///< (tokens, dim_v)
  std::span<const DmcDecision> decisions;  ///< (tokens)
};

/// The entry that a token went into, as it was then.
struct DmcEntry {
  std::int64_t index = 0;  ///< in the cache; equal to that of the token before where this one merged
  bool is_final = false;   ///< the next token of the same call begins a new entry, so this one is as it will stay

  friend bool operator==(const DmcEntry&, const DmcEntry&) = default;
};

/// DMC's streaming merge for one (sequence, layer, kv_head): which tokens share an entry, and what the entries are.
///
/// An entry is the average, weighted, of the latest `window` tokens of a run that begins with an appended token and
/// goes on with merged ones; its key is rotated at the position of the latest. Token t is at position t, and the first
/// one always begins an entry. An entry is open, and changes, until the next one begins: only then may an index have
/// it. Query t sees the entries before token t's, which are final, and token t's as it is after token t has entered.
///
/// The state holds the latest window + rollback tokens as they came, in fp32, and every average is taken anew over what
/// it holds: sums never drift, bits depend neither on how tokens were grouped into calls nor on what was truncated. A
/// copy is a fork. All memory is reserved at construction. Not thread-safe.
class DmcHead {
 public:
  /// Throws Error(invalid_argument) as validate() does, and for dimensions below 1.
  DmcHead(const DmcParams& params, const cpu::RopeParams& rope, std::int32_t dim_k, std::int32_t dim_v);

  [[nodiscard]] std::int64_t tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::int64_t entries() const noexcept { return entries_; }
  /// The last entry may still change.
  [[nodiscard]] bool has_open_entry() const noexcept { return tokens_ > oldest_; }
  /// Entries [0, finalised()) stay as they are, short of a truncation.
  [[nodiscard]] std::int64_t finalised() const noexcept { return entries_ - (has_open_entry() ? 1 : 0); }

  /// Appends or merges each token: keys (tokens, dim_k), rotated, values (tokens, dim_v) and entries (tokens) say which
  /// entry it went into and what that is now. A decode step has one token; a prefill writes the entries that are final,
  /// and the last, to the cache, and attends to the others once. Throws Error(invalid_argument), and changes nothing,
  /// for shapes that do not fit and weights that are missing (0), negative, NaN or too large.
  void append(const DmcTokens& tokens, std::span<float> keys, std::span<float> values, std::span<DmcEntry> entries);
  /// The open entry: key (dim_k), rotated, value (dim_v). Needs has_open_entry().
  void open_entry(std::span<float> key, std::span<float> value) const noexcept;

  /// The least length that truncate() takes: tokens() - rollback or less, though never before the last seal(). What has
  /// been cut counts against rollback until as many tokens have entered again.
  [[nodiscard]] std::int64_t restorable_length() const noexcept;
  /// Forgets the tokens from `length` on. To the last bit, everything is as if they had never come, and the owner
  /// writes open_entry(), if there is one, over the last entry. A length beyond the end changes nothing. Throws
  /// Error(invalid_argument) below restorable_length().
  void truncate(std::int64_t length);
  /// Goes to where the first `tokens` tokens make up the first `entries` entries, all of them final: the next token
  /// begins an entry whatever is decided. Exact where it would have begun one anyway, and the way back to the end of
  /// any entry when nothing is left of its tokens; between two ends there is no way back but to enter the tokens again.
  /// Throws Error(invalid_argument) for counts that cannot be.
  void seal(std::int64_t tokens, std::int64_t entries);

 private:
  struct Contribution {
    float weight = 0.f;
    std::int32_t run = 0;  ///< tokens, this one the last, that its entry is the average of
    bool begins_entry = false;
  };
  [[nodiscard]] std::size_t ring_index(std::int64_t token) const noexcept {
    return static_cast<std::size_t>(token) % contributions_.size();
  }
  [[nodiscard]] const Contribution& contribution(std::int64_t token) const noexcept {
    return contributions_[ring_index(token)];
  }
  void check(const DmcTokens& tokens, std::span<float> keys, std::span<float> values,
             std::span<DmcEntry> entries) const;
  void enter(const float* k, const float* v, const DmcDecision& decision) noexcept;

  DmcParams params_;
  cpu::RopeParams rope_;
  std::size_t dim_k_, dim_v_;
  std::int64_t tokens_ = 0;
  std::int64_t entries_ = 0;
  std::int64_t sealed_ = 0;                  // length at the last seal: nothing earlier is known
  std::int64_t oldest_ = 0;                  // first token of the history
  std::vector<Contribution> contributions_;  // token t at t mod size
  std::vector<float> rows_;                  // k then v of each
};

}  // namespace tandem::gpu
