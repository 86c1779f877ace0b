#include <cerrno>
#include <cstring>
#include <fstream>

#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "runtime/base/shape.h"
#include "tools/formats/trace.h"

namespace tandem::tools {
namespace {

/// Rows of one tensor in the order of recording, (tokens, heads, dim), already in the file's dtype.
class Rows {
 public:
  Rows(DType dtype, std::int64_t heads, std::int64_t dim) : dtype_(dtype), heads_(heads), dim_(dim) {}

  void add(std::int64_t tokens, const float* values) {
    const std::int64_t count = tokens * heads_ * dim_;
    const std::size_t begin = bytes_.size();
    bytes_.resize(begin + static_cast<std::size_t>(count) * bytes_of(dtype_));
    store_f32(dtype_, values, bytes_.data() + begin, count);
    tokens_ += tokens;
  }

  /// Forgets all but the last `tokens` tokens.
  void keep_last(std::int64_t tokens) {
    if (tokens_ <= tokens) return;
    const std::int64_t row = heads_ * dim_ * static_cast<std::int64_t>(bytes_of(dtype_));
    bytes_.erase(bytes_.begin(), bytes_.begin() + (tokens_ - tokens) * row);
    tokens_ = tokens;
  }

  [[nodiscard]] std::int64_t tokens() const noexcept { return tokens_; }
  [[nodiscard]] bool finite() const noexcept { return all_finite(dtype_, bytes_.data(), tokens_ * heads_ * dim_); }

  /// (heads, tokens, dim), as the file has it.
  [[nodiscard]] std::vector<std::byte> by_head() const {
    const std::size_t row = static_cast<std::size_t>(dim_) * bytes_of(dtype_);
    std::vector<std::byte> result(bytes_.size());
    std::byte* target = result.data();
    for (std::int64_t head = 0; head < heads_; ++head) {
      for (std::int64_t token = 0; token < tokens_; ++token, target += row) {
        std::memcpy(target, bytes_.data() + static_cast<std::size_t>(token * heads_ + head) * row, row);
      }
    }
    return result;
  }

  [[nodiscard]] std::vector<std::int64_t> shape() const { return {heads_, tokens_, dim_}; }
  [[nodiscard]] DType dtype() const noexcept { return dtype_; }

 private:
  DType dtype_;
  std::int64_t heads_, dim_;
  std::int64_t tokens_ = 0;
  std::vector<std::byte> bytes_;
};

void check_meta(const TraceMeta& meta) {
  validate(AttentionShape{.num_layers = 1,
                          .num_q_heads = meta.num_q_heads,
                          .num_kv_heads = meta.num_kv_heads,
                          .head_dim_k = meta.head_dim_k,
                          .head_dim_v = meta.head_dim_v,
                          .scale = meta.scale});
  TANDEM_CHECK(!meta.layers.empty(), invalid_argument, "layers is empty; a trace needs at least one");
}

void check_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  TANDEM_CHECK(!error && std::filesystem::is_directory(folder), io, folder.string(), ": cannot be created",
               error ? ": " + error.message() : "");
  TANDEM_CHECK(std::filesystem::is_empty(folder, error) && !error, io, folder.string(),
               ": not empty; allowed: a new or an empty folder");
}

void write_meta(const std::filesystem::path& path, const TraceMeta& meta) {
  nlohmann::ordered_json json = {{"T", meta.tokens},
                                 {"steps", meta.steps},
                                 {"H", meta.num_q_heads},
                                 {"KV", meta.num_kv_heads},
                                 {"head_dim", meta.head_dim_k}};
  if (meta.head_dim_v != meta.head_dim_k) json["head_dim_v"] = meta.head_dim_v;
  json["layers"] = meta.layers;
  json["scale"] = meta.scale;
  errno = 0;
  std::ofstream file(path);
  file << json.dump(1) << '\n' << std::flush;
  TANDEM_CHECK(file.good(), io, path.string(), ": cannot be written: ", std::strerror(errno));
}

}  // namespace

struct TraceRecorder::Layer {
  std::int32_t layer;
  Rows k, v, q_tail, dec_q, dec_k, dec_v, dec_out, dec_lse;

  Layer(std::int32_t number, const TraceMeta& meta, DType dtype)
      : layer(number),
        k(dtype, meta.num_kv_heads, meta.head_dim_k),
        v(dtype, meta.num_kv_heads, meta.head_dim_v),
        q_tail(dtype, meta.num_q_heads, meta.head_dim_k),
        dec_q(dtype, meta.num_q_heads, meta.head_dim_k),
        dec_k(dtype, meta.num_kv_heads, meta.head_dim_k),
        dec_v(dtype, meta.num_kv_heads, meta.head_dim_v),
        dec_out(DType::f32, meta.num_q_heads, meta.head_dim_v),
        dec_lse(DType::f32, meta.num_q_heads, 1) {}

  [[nodiscard]] std::map<std::string, const Rows*> named() const {
    std::map<std::string, const Rows*> rows = {{"k", &k},
                                               {"v", &v},
                                               {"dec_q", &dec_q},
                                               {"dec_k", &dec_k},
                                               {"dec_v", &dec_v},
                                               {"dec_out", &dec_out},
                                               {"dec_lse", &dec_lse}};
    if (q_tail.tokens() > 0) rows["q_tail"] = &q_tail;
    return rows;
  }

  void check_finite() const {
    for (const auto& [name, rows] : named()) {
      TANDEM_CHECK(rows->finite(), invalid_argument, "layer ", layer, ": ", name,
                   " holds NaN, infinity or a value too large for ", to_string(rows->dtype()));
    }
  }

  void write(const std::filesystem::path& folder) const {
    std::map<std::string, Tensor> tensors;
    std::map<std::string, std::vector<std::byte>> storage;
    for (const auto& [name, rows] : named()) {
      storage[name] = rows->by_head();
      tensors[name] = {rows->dtype(), rows->shape(), storage[name].data()};
    }
    tensors["dec_lse"].shape.pop_back();
    write_safetensors(folder / concat("layer", layer, ".safetensors"), tensors,
                      {{"layer", std::to_string(layer)}, {"layout", "[heads, tokens, head_dim]"}});
  }
};

TraceRecorder::TraceRecorder(const TraceMeta& meta, DType dtype) : meta_(meta), dtype_(dtype) {
  if (meta_.head_dim_v == 0) meta_.head_dim_v = meta_.head_dim_k;
  check_meta(meta_);
  for (const std::int32_t layer : meta_.layers) layers_.push_back(std::make_shared<Layer>(layer, meta_, dtype_));
}

TraceRecorder::Layer& TraceRecorder::layer_at(std::int32_t layer) const {
  for (const auto& candidate : layers_) {
    if (candidate->layer == layer) return *candidate;
  }
  fail(ErrorCode::invalid_argument, "layer ", layer, " is not among the layers of the trace");
}

void TraceRecorder::add_prompt(std::int32_t layer, std::int64_t tokens, const float* k, const float* v,
                               const float* q) {
  Layer& rows = layer_at(layer);
  TANDEM_CHECK(tokens >= 0, invalid_argument, "tokens is ", tokens, "; it must not be negative");
  TANDEM_CHECK(rows.dec_q.tokens() == 0, invalid_state, "layer ", layer, ": a prompt cannot follow decode steps");
  TANDEM_CHECK(q != nullptr || rows.q_tail.tokens() == 0, invalid_state, "layer ", layer,
               ": q is missing; queries of earlier prompt tokens were given");
  if (q != nullptr) {
    rows.q_tail.add(tokens, q);
    rows.q_tail.keep_last(kMaxQueryTail);
  }
  rows.k.add(tokens, k);
  rows.v.add(tokens, v);
}

void TraceRecorder::add_step(std::int32_t layer, const float* q, const float* k, const float* v, const float* out,
                             const float* lse) {
  Layer& rows = layer_at(layer);
  rows.dec_q.add(1, q);
  rows.dec_k.add(1, k);
  rows.dec_v.add(1, v);
  rows.dec_out.add(1, out);
  rows.dec_lse.add(1, lse);
}

void TraceRecorder::write(const std::filesystem::path& folder) const {
  TraceMeta meta = meta_;
  meta.tokens = layers_.front()->k.tokens();
  meta.steps = layers_.front()->dec_q.tokens();
  TANDEM_CHECK(meta.tokens >= 1 && meta.steps >= 1, invalid_state, "a trace needs a prompt and a decode step; it has ",
               meta.tokens, " prompt tokens and ", meta.steps, " steps");
  for (const auto& layer : layers_) {
    TANDEM_CHECK(layer->k.tokens() == meta.tokens && layer->dec_q.tokens() == meta.steps, invalid_state, "layer ",
                 layer->layer, " has ", layer->k.tokens(), " prompt tokens and ", layer->dec_q.tokens(),
                 " steps, layer ", meta.layers.front(), " has ", meta.tokens, " and ", meta.steps);
    layer->check_finite();
  }
  check_folder(folder);
  for (const auto& layer : layers_) layer->write(folder);
  write_meta(folder / "meta.json", meta);  // last: without it the folder is no trace
}

}  // namespace tandem::tools
