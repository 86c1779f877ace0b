// The td_* functions that the decoder calls, as plain exact attention: fp32 rows, one sequence per call, no tiers. It
// lets the decoder be tested without the runtime.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tandem/tandem.h"

namespace {

struct LayerCache {
  std::vector<float> k, v;
  std::int64_t tokens = 0;
};

using SequenceCache = std::vector<LayerCache>;

thread_local std::string last_error = "no error";

td_status refuse(td_status status, const char* text) {
  last_error = text;
  return status;
}

float dot(const float* a, const float* b, std::int64_t dim) {
  constexpr std::int64_t kLanes = 8;
  float sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < dim; ++i) sums[0] += a[i] * b[i];
  float total = 0.f;
  for (const float sum : sums) total += sum;
  return total;
}

/// One query over `keys` rows that lie `stride` floats apart; returns the log-sum-exp.
float attend_one(const float* q, const float* k, const float* v, std::int64_t keys, std::int64_t stride,
                 std::int64_t dim, float scale, float* out) {
  static thread_local std::vector<float> logits;
  logits.resize(static_cast<std::size_t>(keys));
  for (std::int64_t j = 0; j < keys; ++j) logits[static_cast<std::size_t>(j)] = scale * dot(q, k + j * stride, dim);
  const float highest = *std::max_element(logits.begin(), logits.end());
  std::fill_n(out, dim, 0.f);
  double sum = 0;
  for (std::int64_t j = 0; j < keys; ++j) {
    const float weight = std::exp(logits[static_cast<std::size_t>(j)] - highest);
    sum += weight;
    for (std::int64_t i = 0; i < dim; ++i) out[i] += weight * v[j * stride + i];
  }
  for (std::int64_t i = 0; i < dim; ++i) out[i] /= static_cast<float>(sum);
  return highest + static_cast<float>(std::log(sum));
}

bool is_dense_f32(const td_tensor& tensor) {
  return tensor.data != nullptr && tensor.dtype == TD_F32 && tensor.stride[0] == 0 && tensor.stride[1] == 0;
}

}  // namespace

struct td_rt {
  td_config config;
  std::map<td_seq, SequenceCache> sequences;
  td_seq next = 1;

  LayerCache* find(td_seq seq, std::int32_t layer) {
    const auto found = sequences.find(seq);
    if (found == sequences.end() || layer < 0 || layer >= config.num_layers) return nullptr;
    return &found->second[static_cast<std::size_t>(layer)];
  }
};

const char* td_last_error(void) { return last_error.c_str(); }

td_status td_create(const td_config* config, td_rt** out) {
  if (config->size != sizeof(td_config) || config->abi != TANDEM_ABI) return refuse(TD_EINVAL, "abi");
  *out = new td_rt{*config, {}, 1};
  return TD_OK;
}

void td_destroy(td_rt* rt) { delete rt; }

td_status td_seq_create(td_rt* rt, td_seq* out) {
  *out = rt->next++;
  rt->sequences[*out].resize(static_cast<std::size_t>(rt->config.num_layers));
  return TD_OK;
}

td_status td_seq_destroy(td_rt* rt, td_seq seq) {
  return rt->sequences.erase(seq) == 1 ? TD_OK : refuse(TD_ESTATE, "no such sequence");
}

td_status td_seq_length(td_rt* rt, td_seq seq, int32_t layer, int64_t* out) {
  const LayerCache* cache = rt->find(seq, layer);
  if (cache == nullptr) return refuse(TD_ESTATE, "no such sequence");
  *out = cache->tokens;
  return TD_OK;
}

td_status td_append(td_rt* rt, const td_append_args* args) {
  if (args->num_seqs != 1 || !is_dense_f32(args->k) || !is_dense_f32(args->v)) return refuse(TD_EINVAL, "append");
  LayerCache* cache = rt->find(args->seqs[0], args->layer);
  if (cache == nullptr) return refuse(TD_ESTATE, "no such sequence");
  const std::int64_t count = args->num_tokens[0] * rt->config.num_kv_heads * rt->config.head_dim_k;
  const auto* k = static_cast<const float*>(args->k.data);
  const auto* v = static_cast<const float*>(args->v.data);
  cache->k.insert(cache->k.end(), k, k + count);
  cache->v.insert(cache->v.end(), v, v + count);
  cache->tokens += args->num_tokens[0];
  if (args->stats != nullptr) args->stats->bytes[TD_APPEND] = 2 * count * static_cast<std::int64_t>(sizeof(float));
  return TD_OK;
}

td_status td_attend(td_rt* rt, const td_attend_args* args) {
  if (args->num_seqs != 1 || !is_dense_f32(args->q) || !is_dense_f32(args->out)) return refuse(TD_EINVAL, "attend");
  const LayerCache* cache = rt->find(args->seqs[0], args->layer);
  if (cache == nullptr) return refuse(TD_ESTATE, "no such sequence");
  const std::int64_t dim = rt->config.head_dim_k;
  const std::int64_t q_heads = rt->config.num_q_heads;
  const std::int64_t kv_heads = rt->config.num_kv_heads;
  const float scale = 1.f / std::sqrt(static_cast<float>(dim));
  const std::int64_t queries = args->num_queries[0];
  std::int64_t visible = 0;
  for (std::int64_t row = 0; row < queries * q_heads; ++row) {
    const std::int64_t head = row % q_heads / (q_heads / kv_heads) * dim;
    const std::int64_t keys = cache->tokens - queries + row / q_heads + 1;
    const auto* q = static_cast<const float*>(args->q.data) + row * dim;
    auto* out = static_cast<float*>(args->out.data) + row * dim;
    const float lse =
        attend_one(q, cache->k.data() + head, cache->v.data() + head, keys, kv_heads * dim, dim, scale, out);
    if (args->lse != nullptr) args->lse[row] = lse;
    visible += keys;
  }
  if (args->stats != nullptr) args->stats->keys_visible = args->stats->keys_attended = visible;
  return TD_OK;
}
