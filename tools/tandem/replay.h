#pragma once

#include <cstdint>
#include <vector>

#include "tandem/tandem.hpp"
#include "tools/formats/trace.h"
#include "tools/tandem/progress.h"

namespace tandem::cli {

/// What one decode step of one layer gave.
struct LayerStep {
  std::vector<float> out;               ///< (num_q_heads, head_dim_v)
  std::vector<float> lse;               ///< (num_q_heads)
  std::vector<float> error_estimates;   ///< (num_q_heads), see td_attend_args.error
  std::vector<std::uint8_t> certified;  ///< (num_q_heads)
  td_stats append{};
  td_stats attend{};
};

/// Plays the decode steps of a trace through a runtime, on one or several independent copies of its prompt. The runtime
/// and the trace must outlive it; layer i of the runtime is trace.layers[i].
class Replay {
 public:
  Replay(const td::Runtime& runtime, const tools::Trace& trace) : runtime_(runtime), trace_(trace) {}

  /// Appends the prompt to a fresh sequence (a fork would share its pages), its last tokens with the queries of the
  /// trace, and has the runtime index it. `progress` advances by tokens * layers.
  void add_copy(Progress& progress);
  void drop_copy() { copies_.pop_back(); }
  [[nodiscard]] int num_copies() const noexcept { return static_cast<int>(copies_.size()); }
  /// Keys, values and index of the first copy, both tiers, all layers.
  [[nodiscard]] std::int64_t bytes_per_copy() const;
  [[nodiscard]] td_seq_info info(int copy, std::size_t layer) const;

  /// Appends the decode rows before `step` that `copy` still lacks.
  void catch_up(int copy, std::int64_t step);
  /// One decode step of one layer: append, then attend. Every layer of the copy must have caught up to `step`.
  LayerStep step(int copy, std::size_t layer, std::int64_t step);

 private:
  struct Copy {
    td::Sequence sequence;
    std::int64_t steps_done = 0;
  };
  td_stats attend(const td::Sequence& sequence, std::size_t layer, std::int64_t step, LayerStep& result) const;
  /// Decode rows [first, first + tokens).
  td_stats append(const td::Sequence& sequence, std::size_t layer, std::int64_t first, std::int64_t tokens) const;

  const td::Runtime& runtime_;
  const tools::Trace& trace_;
  std::vector<Copy> copies_;
};

}  // namespace tandem::cli
