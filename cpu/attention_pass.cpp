#include "cpu/attention_pass.h"

#include <algorithm>
#include <cassert>
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
  const std::size_t values = vectors * static_cast<std::size_t>(layout.padded_v);
  grow(scratch.decoded,
       static_cast<std::size_t>(kBlockRows) * static_cast<std::size_t>(std::max(layout.padded_k, layout.padded_v)));
  for (auto* buffer : {&scratch.scores, &scratch.log_weights}) grow(*buffer, vectors * kBlockRows);
  for (auto* buffer : {&scratch.max, &scratch.sum, &scratch.spread_weight}) grow(*buffer, vectors);
  for (auto* buffer : {&scratch.acc, &scratch.spread_value}) grow(*buffer, values);
  grow(scratch.spread_square, vectors);
  std::fill_n(scratch.max.begin(), vectors, kHidden);
  std::fill_n(scratch.sum.begin(), vectors, 0.f);
  std::fill_n(scratch.acc.begin(), values, 0.f);
}

void AttentionPass::ask_for(const RowBlock& block) const noexcept {
  for (int r = 0; r < block.count; ++r) {
    const std::byte* row = block.rows[static_cast<std::size_t>(r)];
    for (std::int64_t line = 0; line < layout_.row_bytes; line += 64) __builtin_prefetch(row + line, 0, 2);
  }
}

void AttentionPass::add(const RowBlock& block, const RowBlock* next) noexcept {
  if (block.count == 0) return;
  // While a line is read, another is fetched: each kernel takes the share of the next rows that it reads of these.
  const int upcoming = next == nullptr ? 0 : next->count;
  const int early = upcoming * layout_.padded_k / (layout_.padded_k + layout_.padded_v);
  const std::byte* const* fetched = next == nullptr ? nullptr : next->rows.data();
  const RowPointers keys{block.rows.data(), block.count, fetched, early, layout_.row_bytes};
  const RowPointers values{block.rows.data(), block.count, fetched + early, upcoming - early, layout_.row_bytes};
  const int vectors = queries_.num_vectors();
  kernels_.scores[layout_.dtype](queries_.q, vectors, layout_.padded_k, keys, scratch_.decoded.data(),
                                 scratch_.scores.data());
  const RowLogWeights weights = log_weights_of(block);
  if (logits_.softcap > 0.f) {
    kernels_.softcap(scratch_.scores.data(), static_cast<std::int64_t>(vectors) * kBlockRows, logits_.softcap);
  }
  if (logits_.alibi != nullptr) apply_alibi(block);
  if (weights.values != nullptr) add_log_weights(weights);
  hide(block);
  SoftmaxState state{scratch_.max.data(), scratch_.sum.data(), scratch_.acc.data()};
  if (has_spread_) {
    state.spread_weight = scratch_.spread_weight.data();
    state.spread_value = scratch_.spread_value.data();
    state.spread_square = scratch_.spread_square.data();
  }
  kernels_.accumulate[layout_.dtype](scratch_.scores.data(), weights, vectors, layout_.padded_v, layout_.v_offset,
                                     values, scratch_.decoded.data(), state);
}

RowLogWeights AttentionPass::log_weights_of(const RowBlock& block) noexcept {
  assert(rule_ == nullptr || !block.has_inclusion);
  if (rule_ == nullptr && !block.has_inclusion) return {};
  const auto vectors = static_cast<std::size_t>(queries_.num_vectors());
  if (!has_spread_) {
    has_spread_ = true;
    std::fill_n(scratch_.spread_weight.begin(), vectors, 0.f);
    std::fill_n(scratch_.spread_value.begin(), vectors * static_cast<std::size_t>(layout_.padded_v), 0.f);
    std::fill_n(scratch_.spread_square.begin(), vectors, 0.0);
  }
  if (block.has_inclusion) {
    kernels_.inclusion_log_weights(block.inclusion.data(), block.count, scratch_.log_weights.data());
    std::fill(scratch_.log_weights.data() + block.count, scratch_.log_weights.data() + kBlockRows, 0.f);
    return {scratch_.log_weights.data(), 0};
  }
  for (int v = 0; v < queries_.num_vectors(); ++v) {  // from the plain scores: the angle knows no cap and no bias
    const int head = v % queries_.group_size;
    float* weights = scratch_.log_weights.data() + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    kernels_.simhash.collision_log_weights(
        rule_->weight, scratch_.scores.data() + static_cast<std::ptrdiff_t>(v) * kBlockRows, block.inverse_norms.data(),
        block.count, rule_->query_offsets[head], rule_->inverse_query_norms[head], weights);
    std::fill(weights + block.count, weights + kBlockRows, 0.f);
  }
  return {scratch_.log_weights.data(), kBlockRows};
}

void AttentionPass::add_log_weights(RowLogWeights weights) noexcept {
  for (int v = 0; v < queries_.num_vectors(); ++v) {
    const float* values = weights.values + v * weights.stride;
    float* scores = scratch_.scores.data() + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    for (int r = 0; r < kBlockRows; ++r) scores[r] += values[r];
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

void AttentionPass::finish(PartialAttention result, SampleSpread spread) const noexcept {
  const auto natural = [&](const float* kept) {
    kernels_.to_natural_order[layout_.dtype](kept, layout_.padded_v, scratch_.decoded.data());
    return scratch_.decoded.data();
  };
  for (std::int64_t v = 0; v < result.rows; ++v) {
    const auto i = static_cast<std::size_t>(v);
    const float sum = scratch_.sum[i];
    const bool empty = !(sum > 0.f);
    const float inverse = empty ? 0.f : 1.f / sum;
    const float* acc = natural(scratch_.acc.data() + v * layout_.padded_v);
    for (std::int64_t d = 0; d < result.dim; ++d) result.out[v * result.dim + d] = acc[d] * inverse;
    result.lse[v] = empty ? kHidden : scratch_.max[i] + std::log(sum);
    // Without rows there is no spread either, and what the buffers hold is another pass's.
    const float unit = has_spread_ ? inverse * inverse : 0.f;
    if (spread.weight != nullptr) spread.weight[v] = has_spread_ ? scratch_.spread_weight[i] * unit : 0.f;
    if (spread.square != nullptr) {
      spread.square[v] = has_spread_ ? static_cast<float>(scratch_.spread_square[i] * static_cast<double>(unit)) : 0.f;
    }
    if (spread.value == nullptr) continue;
    const float* value = natural(scratch_.spread_value.data() + v * layout_.padded_v);
    for (std::int64_t d = 0; d < result.dim; ++d)
      spread.value[v * result.dim + d] = has_spread_ ? value[d] * unit : 0.f;
  }
}

}  // namespace tandem::cpu
