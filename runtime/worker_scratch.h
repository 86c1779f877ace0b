#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/attention_pass.h"
#include "cpu/listed_attention.h"
#include "cpu/selection.h"
#include "lsh/selector.h"

namespace tandem {

/// What a task works on and what it finds, until its results are written. In a worker's scratch where one worker does
/// all of it, otherwise in StepBuffers. Buffers grow to the largest task and then stay.
struct TaskMemory {
  cpu::AlignedVector<float> queries;    // (num_vectors, padded_k), scaled
  std::vector<std::int64_t> positions;  // (num_queries)
  std::vector<float> out, lse;  // the window's partial, then the merged one: (num_vectors, dim_v), (num_vectors)
  std::vector<float> host_out, host_lse;                          // the host tier's partial
  std::vector<float> spread_weight, spread_value, spread_square;  // of the host tier's partial; see cpu::SampleSpread
  std::vector<std::uint8_t> certified;                            // (num_queries): the spread tells the error

  [[nodiscard]] cpu::SampleSpread spread() noexcept {
    return {spread_weight.data(), spread_value.data(), spread_square.data()};
  }
};

/// Everything that one worker writes besides the results. Grows likewise.
struct WorkerScratch {
  TaskMemory task;
  cpu::AttentionScratch attention;
  cpu::ListedScratch listed;  // of tasks that attend all heads of a token at once
  lsh::SelectScratch select;
  cpu::Selection selection;
  std::vector<float> subtrees;    // partials that wait for their siblings, see PartialTree
  std::vector<float> gathered;    // partials and spreads of parts of a selection
  std::vector<float> merged_row;  // (dim_v): one head, on trial
};

}  // namespace tandem
