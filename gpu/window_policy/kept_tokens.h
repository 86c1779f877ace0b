#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem::gpu {

inline constexpr std::int32_t kMaxKeptTokens = 1 << 24;

/// Where the scores come from by which a window policy keeps tokens.
enum class ScoreSource {
  none,       ///< nothing is kept, so nothing is scored
  attention,  ///< the attention that a token has drawn within the window: KeptTokens::accumulate()
  external,   ///< given with each token, e.g. by an engine's trained evictor: KeptTokens::append(scores)
};

/// What every policy that scores tokens comes down to.
struct KeepRule {
  std::int32_t slots = 0;  ///< tokens that can be kept beyond the recents
  float floor = 0.f;       ///< a token with a lower score is not kept when it leaves the recents; finite
  ScoreSource scores = ScoreSource::none;

  friend bool operator==(const KeepRule&, const KeepRule&) = default;
};

/// Attention that one or more queries paid to the tokens of a window: softmax probabilities over what the window holds,
/// added over the queries and over the query heads of a group.
struct WindowMass {
  std::span<const float> kept;    ///< by slot; free slots are ignored
  std::span<const float> recent;  ///< tokens from recent_begin() on, in order
};

/// What becomes of one token that leaves the recents.
struct Promotion {
  std::int32_t slot = -1;      ///< it is kept in this slot; -1: it leaves the window
  std::int64_t replaced = -1;  ///< position of the token that leaves the window for it; -1: the slot was free

  friend bool operator==(const Promotion&, const Promotion&) = default;
};

/// Which tokens of one KV head outlive the recents: positions and fp32 scores, no rows.
///
/// Tokens enter the recents in order of position. When the oldest of them leave, they and the kept tokens are
/// candidates; those with the largest scores are kept, ties going to the higher position, and the others leave for
/// good. A score moves with its token. A copy is a fork. All memory is reserved at construction. Not thread-safe.
class KeptTokens {
 public:
  /// Tokens before `first_position` (the sinks) are none of this object's; at most `max_recent` (>= 1)
  /// recents at a time. Throws Error(invalid_argument).
  KeptTokens(const KeepRule& rule, std::int64_t first_position, std::int32_t max_recent);

  [[nodiscard]] const KeepRule& rule() const noexcept { return rule_; }
  [[nodiscard]] std::int64_t recent_begin() const noexcept { return recent_begin_; }
  [[nodiscard]] std::int64_t length() const noexcept { return length_; }  ///< one beyond the last recent token
  /// Slots of the kept tokens, by ascending position.
  [[nodiscard]] std::span<const std::int32_t> slots() const noexcept {
    return {slots_.data(), static_cast<std::size_t>(num_kept_)};
  }
  /// Position of the token in a slot, -1 if free.
  [[nodiscard]] std::int64_t position(std::int32_t slot) const noexcept { return slot_of(slot).position; }
  [[nodiscard]] float score(std::int32_t slot) const noexcept { return slot_of(slot).score; }
  /// Score of a token among the recents; -inf if it had left the window before a truncation made it recent again.
  [[nodiscard]] float recent_score(std::int64_t at) const noexcept { return recent_[ring_index(at)]; }

  /// `count` tokens enter the recents with a score of 0; not for external scores. Throws Error(invalid_argument) when
  /// they would exceed max_recent.
  void append(std::int64_t count);
  /// Tokens enter with these scores, one each. Throws Error(invalid_argument) for a score that is not finite, and where
  /// scores are not external.
  void append(std::span<const float> scores);
  /// Adds what one or more queries paid; tokens that queries see are appended before. Throws Error(invalid_argument),
  /// and changes nothing, for a wrong number of values, negative or not finite ones, or scores of another source.
  void accumulate(const WindowMass& mass);
  /// The `count` oldest recents leave: one Promotion each, oldest first, valid until the next change. Kept tokens that
  /// are not named as replaced stay where they are. Throws Error(invalid_argument) for more than there are.
  std::span<const Promotion> promote(std::int64_t count);

  /// Forgets the tokens from `length` on and frees their slots. Recents begin at `recent_begin` afterwards, at most
  /// where they began before: a cut gives a window the recents back that it would hold. Kept tokens among these return
  /// to the recents with their scores; tokens that had left return as well, but are never kept again. What forgotten
  /// queries added to the scores of others stays, as do the losses of tokens that forgotten ones had replaced: scores
  /// are sums over the past that cannot be taken apart. Throws Error(invalid_argument) for too many recents.
  void truncate(std::int64_t length, std::int64_t recent_begin);

 private:
  struct Token {
    std::int64_t position = -1;
    float score = 0.f;
  };
  [[nodiscard]] const Token& slot_of(std::int32_t slot) const noexcept {
    return tokens_[static_cast<std::size_t>(slot)];
  }
  [[nodiscard]] std::size_t ring_index(std::int64_t position) const noexcept {
    return static_cast<std::size_t>(position) % recent_.size();
  }
  void check_room(std::size_t count) const;
  [[nodiscard]] static bool better(const Token& a, const Token& b) noexcept;
  [[nodiscard]] Token best_of_the_others(std::int64_t count) noexcept;
  void vacate_unless_better(const Token& than) noexcept;

  KeepRule rule_;
  std::int64_t first_position_;
  std::int64_t recent_begin_;
  std::int64_t length_;
  std::int32_t num_kept_ = 0;
  // Every vector has its final size from the start: a copy could lose capacity, but not size.
  std::vector<Token> tokens_;        // by slot
  std::vector<std::int32_t> slots_;  // a permutation: kept ones by ascending position, then free ones
  std::vector<float> recent_;        // scores, position p at p mod size
  std::vector<Token> candidates_;    // scratch of promote()
  std::vector<std::int32_t> vacated_;
  std::vector<Promotion> promotions_;
};

}  // namespace tandem::gpu
