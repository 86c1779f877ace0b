#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/aligned_vector.h"
#include "gpu/device.h"
#include "runtime/config.h"
#include "runtime/leaving_pages.h"
#include "runtime/requests.h"
#include "runtime/sequence.h"
#include "runtime/split.h"
#include "runtime/step_stats.h"
#include "runtime/worker_scratch.h"

namespace tandem {

/// Some queries of one sequence, one KV head: the unit of a step's results.
struct Task {
  LayerState* layer;
  const lsh::Selector* selector;
  std::uint64_t sequence;
  std::int64_t head;
  std::int64_t first_row;       ///< of the queries in the request's tensors
  std::int64_t first_position;  ///< of the first query
  int num_queries;
  bool exact = false;            ///< attends every host row that its queries see
  std::int64_t first_range = 0;  ///< of the host rows that an exact task attends, see kRangeRows
  std::int64_t last_range = 0;   ///< one past the last
  bool streamed = false;         ///< exact, and its host rows go to the device: see streamed_tasks.h
  bool is_measured = false;      ///< of one query, and its worker time goes to Split
  bool is_probe = false;         ///< it runs the other way than what is decided
  std::int64_t mass = -1;        ///< of its window's tokens in StepBuffers::mass; -1: nobody asks
  std::int32_t first_piece = 0;
  std::int32_t num_pieces = 0;
  std::int32_t unfinished = 0;  ///< pieces; counted down by the workers
  double helped_us = 0;         ///< of a measured task that selects: numa::HelpedTime

  [[nodiscard]] HeadState& head_state() const noexcept { return layer->heads[static_cast<std::size_t>(head)]; }
};

/// Rows of a leaf of the tree (PartialTree) in which the partials of an exact task are merged. Constant: it decides
/// bits.
inline constexpr std::int64_t kRangeRows = 4096;

/// The unit of work of a step: a whole task, or a subtree of the host rows of one that is cut.
struct Piece {
  std::int32_t task;
  std::int64_t index;   ///< of the subtree in its level, StepBuffers::piece_level
  std::int64_t offset;  ///< of its partial in StepBuffers::partials
};

/// A head whose index lacks rows, and what it becomes.
struct UnindexedHead {
  const Task* task;  ///< the first of the head
  lsh::HeadIndex::Extension extension;
  double us;
};

/// A layer that comes into another block of kSplitTokens positions, once its step has succeeded.
struct SplitTurn {
  LayerState* layer;
  std::uint64_t sequence;
  std::int32_t layer_index;
  std::int64_t position;  ///< the first that is decided by `next`
  TakenSplit next;
  std::int64_t crossover;         ///< the fewest visible rows for which selecting pays; -1: never
  std::int64_t former_crossover;  ///< likewise, before
  SplitFigures figures;           ///< the reason
};

/// What one call keeps besides its workers' scratch. Lent by a LeasePool.
struct StepBuffers {
  std::vector<std::shared_ptr<Sequence>> sequences;
  std::vector<UnindexedHead> unindexed;
  std::vector<Task> tasks;
  std::vector<SplitTurn> turns;
  std::vector<Piece> pieces;
  int piece_level = 0;                        ///< of all pieces in the tree of ranges
  std::vector<float> partials;                ///< of pieces: out (num_vectors, dim_v), then lse (num_vectors)
  std::vector<int> nodes;                     ///< of the heads or pieces that run
  std::vector<StepStats> parts;               ///< by piece
  std::vector<StepStats> finished;            ///< by task
  std::vector<float> observed;                ///< queries of one head on their way to its log
  std::vector<gpu::DmcDecision> decisions;    ///< of new tokens, (KV heads, tokens)
  std::vector<float> scores;                  ///< of the new tokens of one head
  ClosedEntries closed;                       ///< entries of one head on their way into its window
  std::vector<float> mass;                    ///< of the tasks: attention that the tokens of their windows got
  LeavingPages leaving;                       ///< of all heads
  cpu::AlignedVector<std::byte> tensors;      ///< of the request that lie in the device's memory
  std::vector<TaskMemory> memories;           ///< of the tasks whose windows a device attends meanwhile; never fewer
  std::vector<gpu::WindowAttention> windows;  ///< of the tasks, likewise
  /// Of the streamed tasks, head by head.
  std::vector<gpu::HostRowsAttention> streamed;
};

/// Fills `tasks`: sequences in order, at most 64 query vectors each, KV heads innermost. With Config::never_slower, the
/// queries for which selecting does not pay get exact tasks; each is judged by the rows that it sees, as if it were
/// alone, so that results do not depend on which queries share a step. Fills `turns` with Config::auto_split, by what
/// `split` has measured. Throws Error(invalid_argument) when a sequence holds fewer tokens than it has queries.
void plan_tasks(const AttendRequest& request, const SequenceLock& sequences, const Config& config, const Split& split,
                StepBuffers& buffers);

/// Makes exact tasks of those that select as a probe only; false where there are none.
bool give_up_probes(const AttendRequest& request, std::vector<Task>& tasks);

/// With Config::never_slower: makes exact tasks of those whose index, which must be up to date, can only take all rows.
void plan_without_index(const AttendRequest& request, const Config& config, std::vector<Task>& tasks);

/// Fills `pieces` and sizes what they write: exact tasks are cut until there is work for `num_workers`, however few
/// tasks there are. Pieces of a task are consecutive; streamed tasks have none. `parts` has one more than there are
/// pieces, for what is streamed.
void plan_pieces(const AttentionShape& shape, int num_workers, StepBuffers& buffers);

/// The sum over all pieces and tasks, in the order of the plan, so that it keeps its bits.
StepStats summed_up(const StepBuffers& buffers);

/// Sums of estimates over `num_vectors` query vectors become means; -1 where one is unknown.
void average_errors(StepStats& total, std::int64_t num_vectors) noexcept;

}  // namespace tandem
