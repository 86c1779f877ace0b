#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tools/formats/safetensors.h"

namespace tandem::tools {

/// meta.json of a trace folder (tools/data/README.md has the format).
struct TraceMeta {
  std::int64_t tokens = 0;  ///< T: prompt tokens
  std::int64_t steps = 0;   ///< decode steps
  std::int32_t num_q_heads = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim_k = 0;
  std::int32_t head_dim_v = 0;
  float scale = 0.f;
  std::vector<std::int32_t> layers;  ///< the layers that have a file
};

/// One layer: tensors (heads, tokens, head_dim). k, v: the prompt; dec_*: decode step s, at position T + s, which sees
/// the prompt and dec_k/dec_v[0..s].
struct TraceLayer {
  std::int32_t layer = 0;
  std::shared_ptr<const SafetensorsFile> file;  ///< keeps the tensors alive
  Tensor k, v, dec_q, dec_k, dec_v;
  Tensor q_tail;            ///< queries of the last q_tail.shape[1] prompt tokens; data is nullptr when there are none
  Tensor dec_out, dec_lse;  ///< exact results as recorded, f32; data is nullptr when the trace has none
};

struct Trace {
  TraceMeta meta;
  std::vector<TraceLayer> layers;
};

/// Prompt tokens whose queries a recording keeps.
inline constexpr std::int64_t kMaxQueryTail = 1024;

/// Loads a trace folder. Throws Error(io) or Error(invalid_argument) naming file, tensor and what is wrong (missing or
/// misshapen tensors, impossible meta values, NaN or infinity).
Trace load_trace(const std::filesystem::path& folder);
/// The same in two steps: what the folder has, and of it only `layers`, in that order; no other file is opened.
TraceMeta load_trace_meta(const std::filesystem::path& folder);
Trace load_trace(const std::filesystem::path& folder, TraceMeta meta, const std::vector<std::int32_t>& layers);

/// Collects a trace in memory, layer by layer, and writes it as a folder that load_trace reads.
class TraceRecorder {
 public:
  /// `dtype` is that of q, k and v. meta.tokens and meta.steps are not read: what is added counts. Throws
  /// Error(invalid_argument) for an impossible shape; the add functions throw it for a layer outside meta.layers.
  TraceRecorder(const TraceMeta& meta, DType dtype);

  /// Rows (tokens, heads, head_dim) fp32 of prompt tokens; consecutive calls for one layer append. May be called with
  /// any number of tokens, but not after add_step: Error(invalid_state). `q` (tokens, num_q_heads, head_dim_k) is
  /// optional; the queries of the last kMaxQueryTail tokens are kept, and later calls must have theirs as well:
  /// Error(invalid_state).
  void add_prompt(std::int32_t layer, std::int64_t tokens, const float* k, const float* v, const float* q = nullptr);
  /// One decode step: q (num_q_heads, head_dim_k), k, v (num_kv_heads, ..), out (num_q_heads, head_dim_v), lse.
  void add_step(std::int32_t layer, const float* q, const float* k, const float* v, const float* out, const float* lse);
  /// Writes meta.json and layer{i}.safetensors; creates the folder; Error(io) when it exists and is not empty,
  /// Error(invalid_state) when layers differ in length or have no prompt or step, Error(invalid_argument) for values
  /// that are not finite in `dtype`.
  void write(const std::filesystem::path& folder) const;

 private:
  struct Layer;
  [[nodiscard]] Layer& layer_at(std::int32_t layer) const;

  TraceMeta meta_;
  DType dtype_;
  std::vector<std::shared_ptr<Layer>> layers_;
};

}  // namespace tandem::tools
