#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/support/scored_window.h"

namespace tandem::testing {

/// Keeping tokens by the rule as it is told: a list of (position, score) in double, searched for the least whenever
/// there is one too many.
struct GreedyWindow {
  struct Token {
    std::int64_t position;
    double score;
  };
  RandomLogits logits;
  std::int64_t recent, step, cap;
  double floor = 0;
  double quantum = 0;
  bool external = false;
  std::vector<Token> tokens = {};       // by position: kept ones, then recents
  std::vector<std::int64_t> left = {};  // positions, in the order in which they left
  std::int64_t length = 0, num_recent = 0;

  void decode() {
    tokens.push_back({length, external ? ScoredWindow::external_score(logits, length) : 0.0});
    ++length, ++num_recent;
    for (int head = 0; !external && head < logits.group; ++head) attend(head);
    if (num_recent < recent + step) return;
    const auto first_leaving = static_cast<std::int64_t>(tokens.size()) - num_recent;
    num_recent -= step;
    for (std::int64_t i = step; i-- > 0;) {
      if (tokens[static_cast<std::size_t>(first_leaving + i)].score < floor) drop(first_leaving + i);
    }
    while (static_cast<std::int64_t>(tokens.size()) - num_recent > cap) drop(lowest_candidate());
  }
  [[nodiscard]] std::vector<std::int64_t> positions() const {
    std::vector<std::int64_t> all;
    for (const Token& token : tokens) all.push_back(token.position);
    return all;
  }
  [[nodiscard]] std::vector<double> scores() const {
    std::vector<double> all;
    for (const Token& token : tokens) all.push_back(token.score);
    return all;
  }

 private:
  void attend(int head) {
    const auto p = softmax(logits, head, length - 1, positions());
    for (std::size_t i = 0; i < p.size(); ++i) tokens[i].score += std::round(p[i] / quantum) * quantum;
  }
  /// The first one of those with the least score: the lowest position.
  [[nodiscard]] std::int64_t lowest_candidate() const {
    const auto least = std::min_element(tokens.begin(), tokens.end() - num_recent,
                                        [](const Token& a, const Token& b) { return a.score < b.score; });
    return least - tokens.begin();
  }
  void drop(std::int64_t index) {
    left.push_back(tokens[static_cast<std::size_t>(index)].position);
    tokens.erase(tokens.begin() + index);
  }
};

}  // namespace tandem::testing
