#include "tools/formats/trace.h"

#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/shape.h"
#include "tools/formats/json_fields.h"

namespace tandem::tools {
namespace {

constexpr std::int64_t kMaxTokens = INT32_MAX;
constexpr std::int64_t kMaxHeads = 1 << 16;
constexpr std::int64_t kMaxLayers = 1 << 16;

TraceMeta load_meta(const std::filesystem::path& path) {
  const JsonFields fields = JsonFields::read(path);
  TraceMeta meta;
  meta.tokens = fields.integer("T", 1, kMaxTokens);
  meta.steps = fields.integer("steps", 1, kMaxTokens);
  meta.num_q_heads = static_cast<std::int32_t>(fields.integer("H", 1, kMaxHeads));
  meta.num_kv_heads = static_cast<std::int32_t>(fields.integer("KV", 1, kMaxHeads));
  meta.head_dim_k = static_cast<std::int32_t>(fields.integer("head_dim", 1, kMaxHeadDim));
  meta.head_dim_v = static_cast<std::int32_t>(fields.integer("head_dim_v", 1, kMaxHeadDim, meta.head_dim_k));
  meta.scale = fields.positive("scale");
  for (const std::int64_t layer : fields.integers("layers", 0, kMaxLayers - 1)) {
    meta.layers.push_back(static_cast<std::int32_t>(layer));
  }
  TANDEM_CHECK(meta.num_q_heads % meta.num_kv_heads == 0 && meta.num_q_heads / meta.num_kv_heads <= kMaxGroupSize, io,
               path.string(), ": H is ", meta.num_q_heads, "; allowed: 1 to ", kMaxGroupSize, " times KV, which is ",
               meta.num_kv_heads);
  return meta;
}

/// Reads the tensors of one layer's file, checked against `meta`.
class LayerReader {
 public:
  LayerReader(std::filesystem::path path, const TraceMeta& meta)
      : path_(std::move(path)), meta_(meta), file_(std::make_shared<SafetensorsFile>(SafetensorsFile::open(path_))) {}

  TraceLayer read(std::int32_t layer) const {
    const std::int64_t q_heads = meta_.num_q_heads;
    const std::int64_t kv_heads = meta_.num_kv_heads;
    TraceLayer result;
    result.layer = layer;
    result.file = file_;
    result.k = finite("k", {kv_heads, meta_.tokens, meta_.head_dim_k});
    result.v = finite("v", {kv_heads, meta_.tokens, meta_.head_dim_v});
    result.q_tail = query_tail();
    result.dec_q = finite("dec_q", {q_heads, meta_.steps, meta_.head_dim_k});
    result.dec_k = finite("dec_k", {kv_heads, meta_.steps, meta_.head_dim_k});
    result.dec_v = finite("dec_v", {kv_heads, meta_.steps, meta_.head_dim_v});
    result.dec_out = exact_result("dec_out", {q_heads, meta_.steps, meta_.head_dim_v});
    result.dec_lse = exact_result("dec_lse", {q_heads, meta_.steps});
    return result;
  }

 private:
  Tensor finite(const std::string& name, const std::vector<std::int64_t>& shape) const {
    const Tensor& tensor = file_->at(name, shape);
    TANDEM_CHECK(all_finite(tensor.dtype, tensor.data, tensor.elements()), io, path_.string(), ": tensor '", name,
                 "' holds NaN or infinity; allowed: finite values");
    return tensor;
  }

  /// Optional: as many tokens as the file has, of the prompt's.
  Tensor query_tail() const {
    if (!file_->contains("q_tail")) return {};
    const auto& shape = file_->at("q_tail").shape;
    const std::int64_t tokens = shape.size() == 3 ? shape[1] : 0;
    TANDEM_CHECK(shape.size() == 3 && tokens >= 1 && tokens <= meta_.tokens, io, path_.string(),
                 ": tensor 'q_tail' has ", tokens, " tokens; allowed: three dimensions, 1 to ", meta_.tokens,
                 " tokens");
    return finite("q_tail", {meta_.num_q_heads, tokens, meta_.head_dim_k});
  }

  /// Optional; what a runtime's results are compared with is kept in full precision.
  Tensor exact_result(const std::string& name, const std::vector<std::int64_t>& shape) const {
    if (!file_->contains(name)) return {};
    Tensor tensor = finite(name, shape);
    TANDEM_CHECK(tensor.dtype == DType::f32, io, path_.string(), ": tensor '", name, "' has dtype ",
                 to_string(tensor.dtype), "; allowed: f32");
    return tensor;
  }

  std::filesystem::path path_;
  const TraceMeta& meta_;
  std::shared_ptr<const SafetensorsFile> file_;
};

}  // namespace

TraceMeta load_trace_meta(const std::filesystem::path& folder) { return load_meta(folder / "meta.json"); }

Trace load_trace(const std::filesystem::path& folder) {
  const TraceMeta meta = load_trace_meta(folder);
  return load_trace(folder, meta, meta.layers);
}

Trace load_trace(const std::filesystem::path& folder, TraceMeta meta, const std::vector<std::int32_t>& layers) {
  Trace trace;
  trace.meta = std::move(meta);
  for (const std::int32_t layer : layers) {
    const LayerReader reader(folder / concat("layer", layer, ".safetensors"), trace.meta);
    trace.layers.push_back(reader.read(layer));
  }
  return trace;
}

}  // namespace tandem::tools
