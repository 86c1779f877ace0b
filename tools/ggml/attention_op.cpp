#include "tools/ggml/attention_op.h"

#include <cmath>
#include <cstring>

#include "ggml.h"
#include "tools/ggml/cache_tensor.h"
#include "tools/ggml/cpu_conversions.h"
#include "tools/ggml/formats.h"

namespace tandem::ggml {
namespace {

// Limits of td_config and td_pool_args.
constexpr std::int64_t kMaxHeadDim = 1024;
constexpr std::int64_t kMaxGroupSize = 64;
constexpr float kMaxScale = 1e3f;
constexpr float kMinSoftcap = 1e-3f;
constexpr std::int64_t kDimStep = 16;

float float_parameter(const ggml_tensor& node, int index) {
  float value = 0;
  std::memcpy(&value, node.op_params + index, sizeof(value));
  return value;
}

bool is_dim_allowed(std::int64_t dim, std::int64_t block) {
  return dim <= kMaxHeadDim && dim % kDimStep == 0 && dim % block == 0;
}

bool are_rows_allowed(const AttentionOp& op) {
  const ggml_tensor& k = *op.k;
  const ggml_tensor& v = *op.v;
  const std::int64_t block = ggml_blck_size(k.type);
  return k.type == v.type && row_format(k.type).has_value() && cpu_conversions(k.type).has_value() &&
         is_dim_allowed(k.ne[0], block) && is_dim_allowed(v.ne[0], block) && k.ne[1] == v.ne[1] && k.ne[2] == v.ne[2] &&
         k.ne[3] == op.streams() && v.ne[3] == op.streams() && k.nb[0] == ggml_type_size(k.type) &&
         v.nb[0] == k.nb[0] && k.nb[1] == v.nb[1] && k.nb[2] == v.nb[2] && op.num_q_heads() % k.ne[2] == 0 &&
         op.num_q_heads() / k.ne[2] <= kMaxGroupSize;
}

bool is_mask_allowed(const AttentionOp& op) {
  if (op.mask == nullptr) return op.max_bias <= 0;
  const ggml_tensor& mask = *op.mask;
  return mask.type == GGML_TYPE_F16 && mask.nb[0] == sizeof(ggml_fp16_t) && mask.ne[0] >= op.columns() &&
         mask.ne[1] >= op.tokens() && mask.ne[2] == 1 && (mask.ne[3] == 1 || mask.ne[3] == op.streams());
}

/// Where the first row of a view begins in its root, in rows; -1 when not at a row.
std::int64_t row_of_view(const ggml_tensor& view) {
  return view.view_offs % view.nb[1] == 0 ? static_cast<std::int64_t>(view.view_offs / view.nb[1]) : -1;
}

/// One half of reads_cache(): `view` consists of whole rows of its root.
bool is_cache_view(const ggml_tensor& view, CacheKind kind) {
  const ggml_tensor& root = *root_of(&view);
  const std::size_t row_bytes = ggml_row_size(root.type, root.ne[0]);
  return cache_kind(root) == kind && ggml_is_contiguous(&root) && root.type == view.type &&
         is_cache_format(view.type) && view.nb[1] == row_bytes &&
         view.nb[2] * static_cast<std::size_t>(view.ne[2]) <= row_bytes && view.nb[3] % row_bytes == 0 &&
         row_of_view(view) >= 0;
}

}  // namespace

std::int64_t AttentionOp::tokens() const noexcept { return q->ne[1]; }
std::int64_t AttentionOp::streams() const noexcept { return q->ne[3]; }
std::int64_t AttentionOp::num_queries() const noexcept { return tokens() * streams(); }
std::int64_t AttentionOp::columns() const noexcept { return k->ne[1]; }
std::int64_t AttentionOp::num_q_heads() const noexcept { return q->ne[2]; }
std::int64_t AttentionOp::num_kv_heads() const noexcept { return k->ne[2]; }

AttentionOp attention_op(const ggml_tensor& node) noexcept {
  return {node.src[0],
          node.src[1],
          node.src[2],
          node.src[3],
          node.src[4],
          &node,
          float_parameter(node, 0),
          float_parameter(node, 1),
          float_parameter(node, 2)};
}

bool reads_cache(const AttentionOp& op) noexcept {
  // With MLA, V is a part of K's rows.
  const bool v_in_k = root_of(op.k) == root_of(op.v) && op.v->view_offs == op.k->view_offs;
  return is_cache_view(*op.k, CacheKind::k) && is_cache_view(*op.v, v_in_k ? CacheKind::k : CacheKind::v) &&
         cache_rows(*root_of(op.k)) == cache_rows(*root_of(op.v)) && row_of_view(*op.k) == row_of_view(*op.v) &&
         op.k->nb[3] == op.v->nb[3];
}

std::int64_t first_row(const AttentionOp& op, std::int64_t stream) noexcept {
  return row_of_view(*op.k) + stream * static_cast<std::int64_t>(op.k->nb[3] / op.k->nb[1]);
}

bool is_computable(const AttentionOp& op) noexcept {
  return op.q->type == GGML_TYPE_F32 && op.q->nb[0] == sizeof(float) && op.out->type == GGML_TYPE_F32 &&
         ggml_is_contiguous(op.out) && are_rows_allowed(op) && is_mask_allowed(op) && op.scale > 0 &&
         op.scale <= kMaxScale && (op.softcap == 0 || op.softcap >= kMinSoftcap) &&
         (op.sinks == nullptr || (op.sinks->type == GGML_TYPE_F32 && ggml_is_contiguous(op.sinks)));
}

float alibi_slope(float max_bias, std::int64_t num_heads, std::int64_t head) noexcept {
  // As ggml has it: powers for the largest power of two of the heads, those between for the rest.
  const auto largest = static_cast<std::int64_t>(1) << static_cast<int>(std::floor(std::log2(num_heads)));
  const float first = std::pow(2.f, -max_bias / static_cast<float>(largest));
  const float between = std::pow(2.f, -(max_bias / 2.f) / static_cast<float>(largest));
  return head < largest ? std::pow(first, static_cast<float>(head + 1))
                        : std::pow(between, static_cast<float>(2 * (head - largest) + 1));
}

}  // namespace tandem::ggml
