#include "gpu/window_policy/kept_tokens.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "runtime/base/error.h"

namespace tandem::gpu {
namespace {

/// The score of a token that has left: adding to it changes nothing, and it is below every floor.
constexpr float kLeft = -std::numeric_limits<float>::infinity();

void check_mass(const char* part, std::size_t index, float mass) {
  TANDEM_CHECK(std::isfinite(mass) && mass >= 0, invalid_argument, "mass.", part, "[", index, "] is ", mass,
               "; allowed: finite values from 0");
}

std::size_t checked_recents(std::int32_t max_recent) {
  TANDEM_CHECK(max_recent >= 1, invalid_argument, "max_recent is ", max_recent, "; allowed: from 1");
  return static_cast<std::size_t>(max_recent);
}

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

const char* to_string(ScoreSource source) {
  return source == ScoreSource::none ? "none" : source == ScoreSource::attention ? "attention" : "external";
}

}  // namespace

KeptTokens::KeptTokens(const KeepRule& rule, std::int64_t first_position, std::int32_t max_recent)
    : rule_(rule),
      first_position_(first_position),
      recent_begin_(first_position),
      length_(first_position),
      tokens_(static_cast<std::size_t>(rule.slots)),
      slots_(static_cast<std::size_t>(rule.slots)),
      recent_(checked_recents(max_recent)),
      candidates_(tokens_.size() + recent_.size()),
      vacated_(tokens_.size()),
      promotions_(recent_.size()) {
  std::iota(slots_.begin(), slots_.end(), 0);
}

void KeptTokens::check_room(std::size_t count) const {
  const auto recents = static_cast<std::size_t>(length_ - recent_begin_);
  TANDEM_CHECK(count <= recent_.size() - recents, invalid_argument, "count is ", count, ", and ", recents,
               " tokens are recent; allowed together: ", recent_.size());
}

void KeptTokens::append(std::int64_t count) {
  TANDEM_CHECK(rule_.scores != ScoreSource::external, invalid_argument, "scores are missing for ", count,
               " tokens; a policy with external scores needs one for each token");
  TANDEM_CHECK(count >= 0, invalid_argument, "count is ", count, "; allowed: from 0");
  check_room(static_cast<std::size_t>(count));
  for (; count > 0; --count) recent_[ring_index(length_++)] = 0.f;
}

void KeptTokens::append(std::span<const float> scores) {
  TANDEM_CHECK(rule_.scores == ScoreSource::external, invalid_argument, "scores of ", scores.size(),
               " tokens were given; this policy's source of scores is ", to_string(rule_.scores));
  check_room(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    TANDEM_CHECK(std::isfinite(scores[i]), invalid_argument, "scores[", i, "] is ", scores[i],
                 "; allowed: finite values");
  }
  for (const float score : scores) recent_[ring_index(length_++)] = score;
}

void KeptTokens::accumulate(const WindowMass& mass) {
  TANDEM_CHECK(rule_.scores == ScoreSource::attention, invalid_argument,
               "mass was given; this policy's source of scores is ", to_string(rule_.scores));
  const auto recents = static_cast<std::size_t>(length_ - recent_begin_);
  TANDEM_CHECK(mass.kept.size() == tokens_.size(), invalid_argument, "mass.kept has ", mass.kept.size(),
               " values; needed: one for each of ", tokens_.size(), " slots");
  TANDEM_CHECK(mass.recent.size() == recents, invalid_argument, "mass.recent has ", mass.recent.size(),
               " values; needed: one for each of ", recents, " recent tokens");
  for (const std::int32_t slot : slots()) check_mass("kept", index(slot), mass.kept[index(slot)]);
  for (std::size_t i = 0; i < recents; ++i) check_mass("recent", i, mass.recent[i]);
  for (const std::int32_t slot : slots()) tokens_[index(slot)].score += mass.kept[index(slot)];
  std::size_t at = ring_index(recent_begin_);
  for (const float m : mass.recent) {
    recent_[at] += m;
    at = at + 1 == recent_.size() ? 0 : at + 1;
  }
}

bool KeptTokens::better(const Token& a, const Token& b) noexcept {
  return a.score > b.score || (a.score == b.score && a.position > b.position);
}

/// The best candidate that cannot stay, or one that all others are better than.
KeptTokens::Token KeptTokens::best_of_the_others(std::int64_t count) noexcept {
  std::size_t size = 0;
  for (const std::int32_t slot : slots()) candidates_[size++] = slot_of(slot);
  for (std::int64_t p = recent_begin_; p < recent_begin_ + count; ++p) {
    if (const Token token{p, recent_score(p)}; token.score >= rule_.floor) candidates_[size++] = token;
  }
  if (size <= tokens_.size()) return {-1, kLeft};
  const auto first = candidates_.begin();
  const auto cut = first + static_cast<std::ptrdiff_t>(tokens_.size());
  std::nth_element(first, cut, first + static_cast<std::ptrdiff_t>(size), better);
  return *cut;
}

/// Moves the slots of kept tokens that are not better behind those that are; both stay in order of position.
void KeptTokens::vacate_unless_better(const Token& than) noexcept {
  std::int32_t staying = 0, vacated = 0;
  for (const std::int32_t slot : slots()) {
    if (better(slot_of(slot), than)) {
      slots_[index(staying++)] = slot;
    } else {
      vacated_[index(vacated++)] = slot;
    }
  }
  std::copy_n(vacated_.begin(), vacated, slots_.begin() + staying);
  num_kept_ = staying;
}

std::span<const Promotion> KeptTokens::promote(std::int64_t count) {
  TANDEM_CHECK(count >= 0 && count <= length_ - recent_begin_, invalid_argument, "count is ", count, "; allowed: 0 to ",
               length_ - recent_begin_, ", the tokens that are recent");
  const Token limit = best_of_the_others(count);
  vacate_unless_better(limit);
  for (std::int64_t i = 0; i < count; ++i) {
    const Token token{recent_begin_ + i, recent_score(recent_begin_ + i)};
    Promotion promotion;
    if (token.score >= rule_.floor && better(token, limit)) {
      // As many are better as there are slots, at most. Where one was vacated, none stays free, so none is lost.
      promotion.slot = slots_[index(num_kept_++)];
      Token& slot = tokens_[index(promotion.slot)];
      promotion.replaced = slot.position;
      slot = token;
    }
    promotions_[static_cast<std::size_t>(i)] = promotion;
  }
  recent_begin_ += count;
  return {promotions_.data(), static_cast<std::size_t>(count)};
}

void KeptTokens::truncate(std::int64_t length, std::int64_t recent_begin) {
  const std::int64_t end = std::clamp(length, first_position_, length_);
  const std::int64_t begin = std::clamp(recent_begin, first_position_, std::min(recent_begin_, end));
  TANDEM_CHECK(end - begin <= static_cast<std::int64_t>(recent_.size()), invalid_argument, "recent_begin is ",
               recent_begin, ", which makes ", end - begin, " tokens recent; allowed: ", recent_.size());
  for (std::int64_t p = begin; p < std::min(recent_begin_, end); ++p) recent_[ring_index(p)] = kLeft;
  while (num_kept_ > 0) {  // from the latest on: slots that are freed then follow those that are kept
    Token& token = tokens_[index(slots().back())];
    if (token.position < begin) break;
    if (token.position < end) recent_[ring_index(token.position)] = token.score;
    token = {};
    --num_kept_;
  }
  recent_begin_ = begin;
  length_ = end;
}

}  // namespace tandem::gpu
