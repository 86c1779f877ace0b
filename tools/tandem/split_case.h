#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tandem/tandem.h"
#include "tools/plan/linear_costs.h"
#include "tools/tandem/output.h"

namespace tandem::cli {

/// What a split is made for: attention of a model's layers, at one context and batch.
struct SplitShape {
  std::int32_t num_layers = 1;
  std::int32_t num_q_heads = 32;
  std::int32_t num_kv_heads = 8;
  std::int32_t head_dim = 128;
  float scale = 0;  ///< of logits; 0: 1 / sqrt(head_dim)
};

/// One way to divide the work of a decode step: what the window holds and how, how host rows are stored, which of them
/// are attended to, and by how many threads.
struct Split {
  int threads = 1;
  std::string device = "host";
  std::int32_t sinks = 4;
  std::int32_t local = 64;
  std::string codec = "none";       ///< of the window, as parse_codec() reads it
  std::string host_dtype = "bf16";  ///< also the window's, unless these rows are quantized: bf16 then
  std::string selector = "all";     ///< as parse_selector() reads it

  friend bool operator==(const Split&, const Split&) = default;
};

td_selector selector_of(const Split& split);
bool is_sketch(const td_selector& selector) noexcept;
bool reads_all(const Split& split);
/// Whether the data decides how many rows it gathers, and no budget: LSH tables, and sketches that are to meet an
/// error.
bool gathers_by_data(const td_selector& selector) noexcept;

/// "sketch2:0.02, int8, window 512 kivi4, 2 threads"
std::string name_of(const Split& split);

/// Bytes of K and V of a token and KV head in the host tier.
std::int64_t row_bytes(const std::string& host_dtype, const SplitShape& shape);

/// The configuration that td_create_json takes: `layers` layers of `shape`, always selecting.
Json config_of(const Split& split, const SplitShape& shape, std::int32_t layers);

/// A split at a context and batch.
struct SplitCase {
  Split split;
  std::int64_t tokens = 0;
  int batch = 1;
};

/// Host rows of one sequence and KV head once the prompt is there, and those that its selector gathers of them.
struct SplitRows {
  double window = 0;
  double host = 0;
  double gathered = 0;
};

/// `gathered_share` of the host rows: what was seen of this selector elsewhere; negative: not known, then it follows
/// from the budget. Sketches gather kFewestDrawn rows at least.
SplitRows rows_of(const SplitCase& at, double gathered_share);

/// The work of a decode step of one layer: calls, KV heads, rows by what is done with them.
plan::WorkCounts work_of(const SplitCase& at, const SplitShape& shape, const SplitRows& rows);

/// Every kind of work that `splits` may do, in microseconds of `threads` threads, as the built-in profile expects it.
plan::WorkCounts expected_costs(const std::vector<Split>& splits, const SplitShape& shape, int threads);

}  // namespace tandem::cli
