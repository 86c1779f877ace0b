#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "tools/ggml/attention_op.h"
#include "tools/ggml/pools.h"
#include "tools/ggml/runtimes.h"
#include "tools/ggml/settings.h"
#include "tools/ggml/visible_columns.h"
#include "tools/ggml/write_order.h"

namespace tandem::ggml {

/// What one llama_context computes here: its runtimes, the pools of its KV caches, and the memory of a call. Not
/// thread-safe; the functions throw std::exception when a node cannot be computed.
class Attention {
 public:
  explicit Attention(const Settings& settings) : settings_(settings), runtimes_(settings), pools_(settings) {}

  void set_engine_threads(int num_threads) noexcept { engine_threads_ = num_threads; }

  /// Computes a FLASH_ATTN_EXT: by the selector where K and V are a KV cache, else exactly. What a selector fails at is
  /// computed exactly.
  void attend(const AttentionOp& op);

  /// Computes a SET_ROWS for which is_cache_write() holds.
  void write(const ggml_tensor& op);

 private:
  /// When the rows of a cache were written; NULL when none was.
  WriteOrder* order_of(const AttentionOp& op);
  void call(const td::Runtime& runtime, td_attend_rows_args& args);

  Settings settings_;
  int engine_threads_ = 0;
  Runtimes runtimes_;
  CachePools pools_;                          // unbound before their runtimes end
  std::map<const void*, WriteOrder> orders_;  // of K's roots, by their memory
  VisibleColumns visible_;
  std::vector<float> queries_;
  std::vector<float> slopes_;
  std::vector<std::int64_t> written_;
};

}  // namespace tandem::ggml
