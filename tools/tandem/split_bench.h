#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tandem/tandem.hpp"
#include "tools/formats/trace.h"
#include "tools/probes/memory_reader.h"
#include "tools/tandem/exact.h"
#include "tools/tandem/progress.h"
#include "tools/tandem/split_case.h"
#include "tools/tandem/synthetic_trace.h"

namespace tandem::cli {

/// What a decode step of one layer took, and what it was worth.
struct SplitSample {
  SplitCase at;
  double us = 0;         ///< wall clock of append and attend: the lower quartile over the steps
  double median_us = 0;  ///< likewise
  double append_us = 0, window_us = 0, select_us = 0, attend_us = 0, merge_us = 0;  ///< worker time / threads, medians
  double bytes = 0;           ///< of K, V and index that a step read
  double host_rows = 0;       ///< that a query saw, per KV head
  double gathered_share = 0;  ///< of the host rows
  double window_bytes = 0;    ///< of one sequence and layer, all KV heads
  double host_bytes = 0;      ///< likewise: rows and index
  double error = 0;           ///< |out - dense| / |dense|, mean over query heads and steps
  double error_p95 = 0;
};

/// The prompt that splits are measured over, and what its decode steps should give.
struct SplitText {
  /// `trace` has one layer.
  SplitText(tools::Trace trace, std::int64_t steps_to_compare, int threads,
            std::shared_ptr<const SyntheticTrace> made = nullptr);

  const std::shared_ptr<const SyntheticTrace> made;  ///< holds the tensors of a made-up trace
  const tools::Trace trace;
  const std::int64_t exact_steps;
  const ExactResults exact;  ///< of the first exact_steps decode steps
};

std::shared_ptr<const SplitText> made_up_text(const SyntheticShape& shape, std::int64_t steps_to_compare, int threads);

/// What empties the caches before every step, with so many threads.
struct CacheWash {
  probes::MemoryReader reader;
  int threads;
};

/// Splits that differ in their selector alone: they share one runtime and the pages of its sequences, and take turns,
/// step by step. The text and the wash outlive it.
class SplitContest {
 public:
  /// Appends and indexes the text for every split; `progress` advances by work(). Throws td::Error and Interrupted.
  SplitContest(const SplitShape& shape, const std::string& isa, std::shared_ptr<const SplitText> text,
               std::vector<Split> splits, int batch, const CacheWash& wash, Progress& progress);
  ~SplitContest();
  SplitContest(const SplitContest&) = delete;
  SplitContest& operator=(const SplitContest&) = delete;

  /// Units by which building it advances a progress.
  static std::int64_t work(std::int64_t tokens, int batch) noexcept;

  /// One decode step of each split; the first round is not timed. Nothing once the text has no more steps.
  void round(Progress& progress);
  /// Of all rounds so far, at least two.
  [[nodiscard]] std::vector<SplitSample> samples() const;
  [[nodiscard]] std::size_t size() const noexcept { return splits_.size(); }

 private:
  struct Steps;
  class Batch;
  td::Sequence prompt(const tools::TraceMeta& meta, Progress& progress) const;
  void take_step(std::size_t i);
  void add_errors(Steps& steps) const;
  [[nodiscard]] SplitSample summed_up(std::size_t i) const;

  const SplitShape shape_;
  const std::shared_ptr<const SplitText> text_;
  const std::vector<Split> splits_;
  const int batch_;
  const CacheWash& wash_;
  const td::Runtime runtime_;
  std::vector<Batch> batches_, preludes_;  // by split; preludes over a short text, which loads code into the caches
  std::vector<Steps> steps_;
  std::vector<float> out_;
  std::int64_t step_ = 0;
};

}  // namespace tandem::cli
