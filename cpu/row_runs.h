#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tandem::cpu {

/// Rows [begin, begin + count).
struct RowRun {
  std::int64_t begin;
  std::int64_t count;
  friend bool operator==(const RowRun&, const RowRun&) = default;
};

/// A list of rows, in order, as runs that do not touch: neighbours in the list that are neighbours in memory share one.
class RowRuns {
 public:
  void clear() noexcept {
    runs_.clear();
    count_ = 0;
  }
  void add(std::int64_t begin, std::int64_t count) {
    if (count <= 0) return;
    count_ += count;
    if (!runs_.empty() && runs_.back().begin + runs_.back().count == begin) {
      runs_.back().count += count;
    } else {
      runs_.push_back({begin, count});
    }
  }
  /// Drops all but the first `count` rows.
  void truncate(std::int64_t count) noexcept {
    while (count_ > count) {
      const std::int64_t dropped = std::min(count_ - count, runs_.back().count);
      runs_.back().count -= dropped;
      count_ -= dropped;
      if (runs_.back().count == 0) runs_.pop_back();
    }
  }

  [[nodiscard]] std::int64_t count() const noexcept { return count_; }
  [[nodiscard]] const std::vector<RowRun>& runs() const noexcept { return runs_; }

  /// visit(begin, count) for the runs of the rows at the indices [first, last).
  template <typename Visit>
  void visit(std::int64_t first, std::int64_t last, const Visit& visit) const {
    std::int64_t index = 0;  // of the run's first row
    for (const RowRun& run : runs_) {
      if (index >= last) return;
      const std::int64_t begin = std::max(first, index), end = std::min(last, index + run.count);
      if (begin < end) visit(run.begin + begin - index, end - begin);
      index += run.count;
    }
  }

  /// How many rows both lists have in common at their starts.
  [[nodiscard]] std::int64_t common_prefix(const RowRuns& other) const noexcept {
    std::int64_t common = 0;
    const std::size_t most = std::min(runs_.size(), other.runs_.size());
    for (std::size_t i = 0; i < most; ++i) {
      const RowRun &a = runs_[i], &b = other.runs_[i];
      if (a.begin != b.begin) return common;
      common += std::min(a.count, b.count);
      if (a.count != b.count) return common;
    }
    return common;
  }

 private:
  std::vector<RowRun> runs_;
  std::int64_t count_ = 0;
};

}  // namespace tandem::cpu
