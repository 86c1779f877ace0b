#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "gpu/window_policy/kept_tokens.h"
#include "runtime/base/random.h"

namespace tandem::testing {

/// Logits of a group of query heads for any pair of positions, some keys heavier than others.
struct RandomLogits {
  std::uint64_t seed = 1;
  int group = 1;
  double spread = 2.0;

  [[nodiscard]] double operator()(int head, std::int64_t query, std::int64_t key) const {
    CounterRandom heavy(seed, static_cast<std::uint64_t>(key));
    CounterRandom pair(seed + 1, static_cast<std::uint64_t>((query * 4096 + key) * group + head));
    return spread * (heavy.normal() + 0.5 * pair.normal());
  }
};

/// Naive softmax in double of one query over the keys at `positions`.
inline std::vector<double> softmax(const RandomLogits& logits, int head, std::int64_t query,
                                   const std::vector<std::int64_t>& positions) {
  std::vector<double> p;
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const std::int64_t key : positions) p.push_back(logits(head, query, key));
  for (const double x : p) top = std::max(top, x);
  for (double& x : p) sum += x = std::exp(x - top);
  for (double& x : p) x /= sum;
  return p;
}

/// A KeptTokens as a window would drive it: attention over what it holds, recents that leave `step` at a time.
class ScoredWindow {
 public:
  /// Masses are rounded to multiples of `quantum`, so that fp32 sums of them are exact; 0: not rounded.
  ScoredWindow(gpu::KeptTokens state, RandomLogits logits, std::int64_t recent, std::int64_t step, double quantum = 0)
      : state_(std::move(state)), logits_(logits), recent_(recent), step_(step), quantum_(quantum) {}

  /// Positions of kept tokens, then of the recents.
  [[nodiscard]] std::vector<std::int64_t> positions() const {
    std::vector<std::int64_t> all;
    for (const std::int32_t slot : state_.slots()) all.push_back(state_.position(slot));
    for (std::int64_t p = state_.recent_begin(); p < state_.length(); ++p) all.push_back(p);
    return all;
  }
  [[nodiscard]] std::vector<double> scores() const {
    std::vector<double> all;
    for (const std::int32_t slot : state_.slots()) all.push_back(state_.score(slot));
    for (std::int64_t p = state_.recent_begin(); p < state_.length(); ++p) all.push_back(state_.recent_score(p));
    return all;
  }
  /// One decode step: a token enters, its query heads attend, and recents leave when there are recent + step.
  void decode() {
    if (state_.rule().scores == gpu::ScoreSource::attention) {
      state_.append(1);
      for (int head = 0; head < logits_.group; ++head) attend(head);
    } else {
      state_.append(std::vector{external_score(logits_, state_.length())});
    }
    if (state_.length() - state_.recent_begin() >= recent_ + step_) state_.promote(step_);
  }
  [[nodiscard]] static float external_score(const RandomLogits& logits, std::int64_t position) {
    return static_cast<float>(std::round(logits(0, 0, position) * 8) / 8);  // coarse: ties happen
  }
  [[nodiscard]] gpu::KeptTokens& state() { return state_; }

 private:
  void attend(int head) {
    const auto p = softmax(logits_, head, state_.length() - 1, positions());
    const auto rounded = [&](double x) {
      return static_cast<float>(quantum_ > 0 ? std::round(x / quantum_) * quantum_ : x);
    };
    std::vector<float> kept(static_cast<std::size_t>(state_.rule().slots), std::nanf("")), recent;
    for (const std::int32_t slot : state_.slots()) kept[static_cast<std::size_t>(slot)] = 0.f;
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (i < state_.slots().size()) {
        kept[static_cast<std::size_t>(state_.slots()[i])] = rounded(p[i]);
      } else {
        recent.push_back(rounded(p[i]));
      }
    }
    state_.accumulate({kept, recent});
  }

  gpu::KeptTokens state_;
  RandomLogits logits_;
  std::int64_t recent_, step_;
  double quantum_;
};

}  // namespace tandem::testing
