#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/support/reference_sequence.h"

namespace tandem::testing {

/// The tokens that a window keeps for one KV head by their scores, as the rule is told: a list in double, searched for
/// the least whenever there is one too many.
class ReferenceWindow {
 public:
  struct Rule {
    std::int64_t sinks, local, page, cap;
    double floor = 0;
  };
  struct Token {
    std::int64_t position;
    double score;
  };
  explicit ReferenceWindow(const Rule& rule) : rule_(rule) {}

  /// One token enters, after a page of the latest has left where there is no room.
  void append(double score = 0) {
    if (length_ >= rule_.sinks) {
      if (num_recent_ == rule_.local + rule_.page) page_leaves();
      tokens_.push_back({length_, score});
      ++num_recent_;
    }
    ++length_;
  }
  /// One query vector at `position` attends to what is held: its softmax probabilities are added to the scores.
  cpu::reference::Result attend(const ReferenceSequence& sequence, const float* q, int q_head, std::int64_t position) {
    const cpu::reference::Result result = sequence.attend_over(q, q_head, held(position));
    for (Token& token : tokens_) {
      if (token.position <= position) token.score += std::exp(sequence.logit(q, q_head, token.position) - result.lse);
    }
    return result;
  }
  /// Without a host tier: nothing comes back, and scores stay.
  void truncate(std::int64_t length) {
    while (!tokens_.empty() && tokens_.back().position >= length) tokens_.pop_back(), --num_recent_;
    length_ = length;
  }
  /// Positions that are held and that a query at `last` sees.
  [[nodiscard]] std::vector<std::int64_t> held(std::int64_t last) const {
    std::vector<std::int64_t> positions;
    for (std::int64_t p = 0; p < std::min({rule_.sinks, length_, last + 1}); ++p) positions.push_back(p);
    for (const Token& token : tokens_) {
      if (token.position <= last) positions.push_back(token.position);
    }
    return positions;
  }
  [[nodiscard]] std::int64_t length() const { return length_; }
  [[nodiscard]] std::int64_t num_kept() const { return static_cast<std::int64_t>(tokens_.size()) - num_recent_; }
  /// The least distance, so far, between a score that stayed and one that left for it, other than equal ones: what
  /// rounding must not exceed for a comparison to mean anything.
  [[nodiscard]] double closest_call() const { return closest_; }
  [[nodiscard]] std::int64_t ties() const { return ties_; }

 private:
  void page_leaves() {
    const std::int64_t kept = num_kept();
    num_recent_ -= rule_.page;
    for (std::int64_t i = rule_.page; i-- > 0;) {
      if (tokens_[static_cast<std::size_t>(kept + i)].score < rule_.floor) tokens_.erase(tokens_.begin() + kept + i);
    }
    while (num_kept() > rule_.cap) drop_least();
  }
  /// Of those with the least score the first: the lowest position.
  void drop_least() {
    const auto end = tokens_.end() - num_recent_;
    const auto less = [](const Token& a, const Token& b) { return a.score < b.score; };
    const auto least = std::min_element(tokens_.begin(), end, less);
    const double score = least->score;
    tokens_.erase(least);
    for (auto token = tokens_.begin(); token != tokens_.end() - num_recent_; ++token) {
      if (token->score > score) closest_ = std::min(closest_, token->score - score);
      ties_ += token->score == score ? 1 : 0;
    }
  }

  Rule rule_;
  std::vector<Token> tokens_;  // by position: kept ones, then the latest
  std::int64_t num_recent_ = 0, length_ = 0, ties_ = 0;
  double closest_ = std::numeric_limits<double>::infinity();
};

}  // namespace tandem::testing
