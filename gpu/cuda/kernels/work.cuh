#pragma once

#include "cpu/codec/block_format.h"
#include "gpu/cuda/kernels/platform.cuh"

// What kernels are told to do; host code reads this, too. All pointers are to device memory.
//
// The rows, or coded tokens, of one (window, query block) are a job. A launch works on the jobs of all windows of a
// step, of whatever lengths, cut into items of about equal size; a block of threads computes one item, for some of the
// job's query vectors, and writes a partial. merge_partials then merges the partials of each query vector. Partials lie
// in rows: out (rows, dim_v) and lse (rows), natural log.

namespace tandem::gpu::cuda {

/// Slots of one size, in pages: gpu/slot_table.h as kernels see it.
struct Slots {
  std::byte* const* pages;
  std::int64_t slot_bytes;
  std::int32_t page_shift;  ///< log2 of the slots of a page

  __device__ std::byte* operator[](std::int32_t slot) const {
    return pages[slot >> page_shift] + (slot & ((1 << page_shift) - 1)) * slot_bytes;
  }
};

/// What one query sees: positions [first, end) of rows and coded tokens.
struct QuerySpan {
  std::int64_t position;
  std::int64_t first;
  std::int64_t end;
};

/// Query vectors of one KV head: vector v belongs to query v / group_size.
struct Queries {
  const float* q;          ///< (num_vectors, padded_k), multiplied by the scale, padding zero
  const QuerySpan* spans;  ///< by query
  const float* alibi;      ///< slopes by head of the group, or nullptr
  float softcap;           ///< 0: none
  std::int32_t num_vectors;
  std::int32_t group_size;
};

/// Rows of a window: sinks, then recent ones, then kept ones. Items index them in that order.
struct RowJob {
  Queries queries;
  Slots rows;  ///< of sinks and recent rows
  std::int32_t padded_k;
  std::int32_t padded_v;
  std::int32_t dim_v;
  std::int32_t v_offset;  ///< bytes from a row's start to its V
  std::int32_t num_sinks;
  std::int32_t first_recent_slot;  ///< in the ring
  std::int32_t num_recent;
  std::int64_t first_recent;  ///< position
  std::int32_t ring;          ///< slots of the ring, which follows slot ring_begin - 1
  std::int32_t ring_begin;
  Slots kept_rows;
  const std::int32_t* kept_slots;
  const std::int64_t* kept_positions;
  std::int32_t num_kept;
};

/// Coded tokens of a window: positions [begin, end), in blocks of format->block_rows of which block b holds the
/// positions from origin + b * block_rows on and lies in slot b % ring_blocks. Items index them from origin on, and
/// begin at a multiple of 64 tokens.
struct CodedJob {
  Queries queries;
  Slots blocks;
  const cpu::BlockFormat* format;  ///< whose pointers are to device memory too
  float* prepared;                 ///< (num_vectors, prepared_dim()): queries as the codec's kernels take them
  std::int64_t origin;             ///< position of the first token of block 0
  std::int64_t begin;
  std::int64_t end;
  std::int32_t ring_blocks;
};

/// One run of bytes that moves: both ends and the length are multiples of 16, and runs of a launch do not overlap.
struct MoveItem {
  std::byte* target;
  const std::byte* source;
  std::int64_t bytes;
};

/// One row as fp32: k (padded_k), v (padded_v).
struct UnpackItem {
  const std::byte* row;
  float* k;
  float* v;
};

/// A block to encode, from k (block_rows, padded_k) and v (block_rows, padded_v), at positions first_position and on.
struct EncodeItem {
  const float* k;
  const float* v;
  std::int64_t first_position;
  std::byte* block;
};

/// Rows [first, first + count) of a block to decode, to k (count, padded_k) and v (count, padded_v).
struct DecodeItem {
  const std::byte* block;
  std::int64_t first_position;
  std::int32_t first;
  std::int32_t count;
  float* k;
  float* v;
};

/// The work of one block of threads: tokens [begin, end) of a job, for the query vectors from first_vector on, as many
/// as the kernel takes at a time. Writes row partial_row + i of the partials for vector first_vector + i.
struct WorkItem {
  std::int32_t job;
  std::int32_t first_vector;
  std::int64_t begin;
  std::int64_t end;
  std::int64_t partial_row;
};

/// Attention that rows [begin, end) of a job, none of them a sink, got from all its query vectors, whose lse within the
/// window is known: written to mass[index - num_sinks].
struct MassItem {
  std::int32_t job;
  std::int64_t begin;
  std::int64_t end;
  const float* lse;  ///< (num_vectors)
  float* mass;
};

struct Partials {
  float* out;  ///< (rows, dim_v), normalised
  float* lse;  ///< (rows)
};

/// One query vector's partials: rows first_row + i * stride, i < count.
struct MergeItem {
  std::int64_t first_row;
  std::int32_t stride;
  std::int32_t count;
  const float* own_query;  ///< (padded_k), with own_entry
  const float* own_entry;  ///< one more (key (padded_k), value) that the vector sees, or nullptr
  float softcap;
  std::int32_t padded_k;
  float* out;  ///< (dim_v)
  float* lse;
};

/// Rows (tokens, heads) of the same length, from one layout to another; strides in bytes.
struct TensorCopy {
  const std::byte* source;
  std::byte* target;
  std::int64_t source_strides[2];
  std::int64_t target_strides[2];
  std::int64_t num_rows;  ///< tokens * heads
  std::int32_t heads;
  std::int32_t row_bytes;
};

}  // namespace tandem::gpu::cuda
