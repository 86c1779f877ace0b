#include "cpu/attention_pass.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tandem::cpu {
namespace {

constexpr float kHidden = -std::numeric_limits<float>::infinity();

template <typename T>
void grow(AlignedVector<T>& buffer, std::size_t size) {
  if (buffer.size() < size) buffer.resize(size);
}

}  // namespace

AttentionPass::AttentionPass(const Kernels& kernels, const RowLayout& layout, const QueryBlock& queries,
                             const LogitRule& logits, const CollisionRule* rule, AttentionScratch& scratch)
    : kernels_(kernels), layout_(layout), queries_(queries), logits_(logits), rule_(rule), scratch_(scratch) {
  const auto vectors = static_cast<std::size_t>(queries.num_vectors());
  grow(scratch.decoded,
       static_cast<std::size_t>(kBlockRows) * static_cast<std::size_t>(std::max(layout.padded_k, layout.padded_v)));
  grow(scratch.scores, vectors * kBlockRows);
  if (rule != nullptr) grow(scratch.log_weights, vectors * kBlockRows);
  grow(scratch.max, vectors);
  grow(scratch.sum, vectors);
  grow(scratch.variance, vectors);
  grow(scratch.acc, vectors * static_cast<std::size_t>(layout.padded_v));
  std::fill_n(scratch.max.begin(), vectors, kHidden);
  std::fill_n(scratch.sum.begin(), vectors, 0.f);
  std::fill_n(scratch.variance.begin(), vectors, 0.f);
  std::fill_n(scratch.acc.begin(), vectors * static_cast<std::size_t>(layout.padded_v), 0.f);
}

void AttentionPass::add(const RowBlock& block, const RowBlock* next) noexcept {
  if (block.count == 0) return;
  const RowPointers rows{block.rows.data(), block.count, next == nullptr ? nullptr : next->rows.data(),
                         next == nullptr ? 0 : next->count};
  const int vectors = queries_.num_vectors();
  const auto dtype = static_cast<std::size_t>(layout_.dtype);
  kernels_.scores[dtype](queries_.q, vectors, layout_.padded_k, rows, scratch_.decoded.data(), scratch_.scores.data());
  if (rule_ != nullptr) add_log_weights(block);  // from the plain scores: the angle knows no cap and no bias
  if (logits_.softcap > 0.f) {
    kernels_.softcap(scratch_.scores.data(), static_cast<std::int64_t>(vectors) * kBlockRows, logits_.softcap);
  }
  if (logits_.alibi != nullptr) apply_alibi(block);
  if (rule_ != nullptr) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(vectors) * kBlockRows; ++i)
      scratch_.scores[i] += scratch_.log_weights[i];
  }
  hide(block);
  kernels_.accumulate[dtype](scratch_.scores.data(), rule_ == nullptr ? nullptr : scratch_.log_weights.data(), vectors,
                             layout_.padded_v, layout_.v_offset, rows, scratch_.decoded.data(),
                             {scratch_.max.data(), scratch_.sum.data(), scratch_.variance.data(), scratch_.acc.data()});
}

void AttentionPass::add_log_weights(const RowBlock& block) noexcept {
  for (int v = 0; v < queries_.num_vectors(); ++v) {
    const int head = v % queries_.group_size;
    float* weights = scratch_.log_weights.data() + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    kernels_.collision_log_weights(rule_->weight, scratch_.scores.data() + static_cast<std::ptrdiff_t>(v) * kBlockRows,
                                   block.inverse_norms.data(), block.count, rule_->query_offsets[head],
                                   rule_->inverse_query_norms[head], weights);
    std::fill(weights + block.count, weights + kBlockRows, 0.f);
  }
}

void AttentionPass::apply_alibi(const RowBlock& block) noexcept {
  for (int v = 0; v < queries_.num_vectors(); ++v) {
    const float slope = logits_.alibi[v % queries_.group_size];
    const std::int64_t position = queries_.positions[v / queries_.group_size];
    float* scores = scratch_.scores.data() + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    for (int r = 0; r < block.count; ++r) {
      scores[r] += slope * static_cast<float>(block.positions[static_cast<std::size_t>(r)] - position);
    }
  }
}

void AttentionPass::hide(const RowBlock& block) noexcept {
  const std::int64_t first = block.positions[0];
  const std::int64_t last = block.positions[static_cast<std::size_t>(block.count - 1)];
  for (int v = 0; v < queries_.num_vectors(); ++v) {
    const std::int64_t position = queries_.positions[v / queries_.group_size];
    const std::int64_t first_visible = logits_.first_visible(position);
    float* scores = scratch_.scores.data() + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    std::fill(scores + block.count, scores + kBlockRows, kHidden);  // softcap and weights made the tail finite
    if (last > position || first < first_visible) {
      for (int r = 0; r < block.count; ++r) {
        const std::int64_t p = block.positions[static_cast<std::size_t>(r)];
        if (p > position || p < first_visible) scores[r] = kHidden;
      }
    }
    if (block.has_mask) {
      const std::uint64_t head = std::uint64_t{1} << (v % queries_.group_size);
      for (int r = 0; r < block.count; ++r) {
        if ((block.head_mask[static_cast<std::size_t>(r)] & head) == 0) scores[r] = kHidden;
      }
    }
  }
}

void AttentionPass::finish(PartialAttention result, float* lse_variance) const noexcept {
  for (std::int64_t v = 0; v < result.rows; ++v) {
    const auto i = static_cast<std::size_t>(v);
    const float sum = scratch_.sum[i];
    const bool empty = !(sum > 0.f);
    const float inverse = empty ? 0.f : 1.f / sum;
    const float* acc = scratch_.acc.data() + v * layout_.padded_v;
    for (std::int64_t d = 0; d < result.dim; ++d) result.out[v * result.dim + d] = acc[d] * inverse;
    result.lse[v] = empty ? kHidden : scratch_.max[i] + std::log(sum);
    if (lse_variance != nullptr) lse_variance[v] = scratch_.variance[i] * inverse * inverse;
  }
}

}  // namespace tandem::cpu
