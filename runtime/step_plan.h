#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/requests.h"
#include "runtime/sequence.h"
#include "runtime/step_stats.h"

namespace tandem {

/// Some queries of one sequence, one KV head: the unit of work of a step.
struct Task {
  LayerState* layer;
  const lsh::Selector* selector;
  std::int64_t head;
  std::int64_t first_row;       ///< of the queries in the request's tensors
  std::int64_t first_position;  ///< of the first query
  int num_queries;
};

/// What one attend call keeps besides its workers' scratch. Lent by a LeasePool.
struct StepBuffers {
  std::vector<std::shared_ptr<Sequence>> sequences;
  std::vector<HeadState*> unindexed;  ///< heads whose index lacks rows
  std::vector<Task> tasks;
  std::vector<int> nodes;        ///< of the heads or tasks that run
  std::vector<StepStats> parts;  ///< by task
  std::vector<float> observed;   ///< queries of one head on their way to its log
};

/// Fills `tasks`: sequences in order, at most 64 query vectors each, KV heads innermost. Throws Error(invalid_argument)
/// when a sequence holds fewer tokens than it has queries.
void plan_tasks(const AttendRequest& request, const SequenceLock& sequences, const AttentionShape& shape,
                std::vector<Task>& tasks);

}  // namespace tandem
