#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace tandem::cli {

/// The share of the host rows that a kind of selector gathers, learned where it was measured.
class GatheredShares {
 public:
  /// At a context of so many tokens. `budget` 0: the selector has none.
  void add(std::int64_t tokens, double budget, double share);

  struct Range {
    double value = 0, low = 0, high = 0;
  };
  /// Of a selector without a budget: between the contexts that were seen shares are taken to follow a power of the
  /// context; low and high are the least and the most that was seen. None beyond these contexts.
  [[nodiscard]] std::optional<Range> at(std::int64_t tokens) const;
  /// Of a selector that takes its budget for each query head: heads want different rows in part, as if there were so
  /// many of them that have none in common. `budget` itself where nothing was seen.
  [[nodiscard]] double united(double budget) const;

 private:
  struct Seen {
    std::int64_t tokens;
    double budget, share;
  };
  std::vector<Seen> seen_;
};

}  // namespace tandem::cli
