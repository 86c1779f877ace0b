#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "gpu/device.h"
#include "runtime/base/view.h"
#include "runtime/borrowed/visibility.h"

namespace tandem {

/// K and V of new tokens of one layer, grouped by sequence: num_tokens[i] rows belong to sequences[i], in order.
struct AppendRequest {
  std::int32_t layer = 0;
  std::span<const std::uint64_t> sequences;
  std::span<const std::int64_t> num_tokens;
  KvView kv;
  std::optional<TensorView> q;    ///< optional queries of the same tokens; checked
  gpu::CallerStream stream = {};  ///< of tensors that lie in the device's memory
  // (sum of num_tokens, num_kv_heads), where the window's policy takes them from the engine; see td_append_args.
  const float* keep = nullptr;
  const float* merge = nullptr;
  const float* importance = nullptr;
};

/// Attention of the last num_queries[i] appended tokens of sequences[i], in one layer.
struct AttendRequest {
  std::int32_t layer = 0;
  bool use_window = true;
  bool use_host = true;
  bool exact = false;  ///< every host row, whatever the selector
  std::span<const std::uint64_t> sequences;
  std::span<const std::int64_t> num_queries;
  TensorView q;
  MutableTensorView out;
  gpu::CallerStream stream = {};       ///< of tensors that lie in the device's memory
  float* lse = nullptr;                ///< optional (sum of num_queries, num_q_heads), in the memory of `out`
  float* error = nullptr;              ///< optional, likewise: estimated |out - dense| / |dense|; -1 where unknown
  std::uint8_t* certified = nullptr;   ///< optional, likewise: 1 where the estimate holds as stated
  const float* sink_logits = nullptr;  ///< optional (num_q_heads), of learned attention sinks
  const float* alibi = nullptr;        ///< optional (num_q_heads)
  std::int64_t sliding_window = 0;
};

/// Attention of queries over the rows of a pool that each sees.
struct AttendRowsRequest {
  std::uint64_t pool = 0;
  bool exact = false;  ///< every row, whatever the selector
  Visibility visible;
  TensorView q;  ///< (num_queries, num_q_heads, head_dim_k)
  MutableTensorView out;
  float* lse = nullptr;  ///< these as in AttendRequest
  float* error = nullptr;
  std::uint8_t* certified = nullptr;
  const float* sink_logits = nullptr;
  const float* bias_factors = nullptr;  ///< optional (num_q_heads), of what the mask adds
};

struct PoolInfo {
  std::int64_t num_lists = 0;
  std::int64_t indexed_rows = 0;
  std::int64_t index_bytes = 0;
  std::int64_t rows_reindexed = 0;
  std::int64_t rows_found = 0;
};

struct SequenceInfo {
  std::int64_t length = 0;
  std::int64_t window_rows = 0;
  std::int64_t host_rows = 0;
  std::int64_t kv_bytes = 0;
  std::int64_t index_bytes = 0;
  std::int64_t calibrated_rows = 0;  ///< that the index in use was calibrated on, least of the KV heads; 0: it was not
  double index_us = 0;
  std::int64_t coded_rows = 0;      ///< of the window's rows, those that are compressed
  std::int64_t dropped_rows = 0;    ///< tokens that left the window without a host tier
  std::int64_t window_bytes = 0;    ///< of device memory, all KV heads
  std::int64_t window_entries = 0;  ///< rows and coded rows of the window, all KV heads
};

}  // namespace tandem
