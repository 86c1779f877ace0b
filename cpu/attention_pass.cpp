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
    : kernels_(kernels), layout_(&layout), queries_(queries), logits_(logits), rule_(rule), scratch_(scratch) {
  start(layout.padded_k, layout.padded_v);
}

AttentionPass::AttentionPass(const Kernels& kernels, const BlockFormat& format, const QueryBlock& queries,
                             const LogitRule& logits, AttentionScratch& scratch)
    : kernels_(kernels), format_(&format), queries_(queries), logits_(logits), rule_(nullptr), scratch_(scratch) {
  start(format.padded_k, format.padded_v);
  prepared_ = queries.q;
  if (const auto prepare = kernels.codecs[format.kind].prepare; prepare != nullptr) {
    grow(scratch.prepared,
         static_cast<std::size_t>(queries.num_vectors()) * static_cast<std::size_t>(format.prepared_dim));
    prepare(format, queries.q, queries.num_vectors(), scratch.prepared.data());
    prepared_ = scratch.prepared.data();
  }
}

void AttentionPass::start(int padded_k, int padded_v) {
  padded_v_ = padded_v;
  const auto vectors = static_cast<std::size_t>(queries_.num_vectors());
  const std::size_t values = vectors * static_cast<std::size_t>(padded_v);
  grow(scratch_.decoded, static_cast<std::size_t>(kBlockRows) * static_cast<std::size_t>(std::max(padded_k, padded_v)));
  for (auto* buffer : {&scratch_.scores, &scratch_.log_weights}) grow(*buffer, vectors * kBlockRows);
  for (auto* buffer : {&scratch_.max, &scratch_.sum, &scratch_.spread_weight}) grow(*buffer, vectors);
  for (auto* buffer : {&scratch_.acc, &scratch_.spread_value}) grow(*buffer, values);
  grow(scratch_.spread_square, vectors);
  std::fill_n(scratch_.max.begin(), vectors, kHidden);
  std::fill_n(scratch_.sum.begin(), vectors, 0.f);
  std::fill_n(scratch_.acc.begin(), values, 0.f);
}

void AttentionPass::ask_for(const RowBlock& block) const noexcept {
  const auto ask = [](const std::byte* first, std::int64_t bytes) {
    for (std::int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(first + line, 0, 2);
  };
  for (int r = 0; r < block.count; ++r) {
    const std::byte* row = block.rows[static_cast<std::size_t>(r)];
    if (layout_->is_split) {
      ask(row, key_bytes());
      ask(row + layout_->v_offset, layout_->kv_bytes - key_bytes());
    } else {
      ask(row, layout_->row_bytes);
    }
  }
}

void AttentionPass::add(const RowBlock& block, const RowBlock* next) noexcept {
  if (next == nullptr) return add(block, {}, {});
  // While a line is read, another is fetched: each kernel takes the share of the next rows that it reads of these, or,
  // where K and V lie apart, its own part of all.
  const std::byte* const* fetched = next->rows.data();
  if (layout_->is_split) {
    add(block, {fetched, next->count, key_bytes()},
        {fetched, next->count, layout_->kv_bytes - key_bytes(), layout_->v_offset});
  } else {
    const int early = next->count * layout_->padded_k / (layout_->padded_k + layout_->padded_v);
    add(block, {fetched, early, layout_->row_bytes}, {fetched + early, next->count - early, layout_->row_bytes});
  }
}

void AttentionPass::add(const RowBlock& block, const UpcomingRows& with_keys,
                        const UpcomingRows& with_values) noexcept {
  if (block.count == 0) return;
  const RowPointers keys{block.rows.data(), block.count, with_keys};
  const RowPointers values{block.rows.data(), block.count, with_values};
  const int vectors = queries_.num_vectors();
  score(keys);
  const RowLogWeights weights = log_weights_of(block);
  apply_rule(block, weights);
  SoftmaxState state{scratch_.max.data(), scratch_.sum.data(), scratch_.acc.data()};
  if (has_spread_) {
    state.spread_weight = scratch_.spread_weight.data();
    state.spread_value = scratch_.spread_value.data();
    state.spread_square = scratch_.spread_square.data();
  }
  kernels_.accumulate[layout_->dtype](scratch_.scores.data(), weights, vectors, layout_->padded_v, layout_->v_offset,
                                      values, scratch_.decoded.data(), state);
}

std::int64_t AttentionPass::key_bytes() const noexcept { return bytes_of(layout_->dtype, layout_->dim_k); }

void AttentionPass::score(const RowPointers& keys) noexcept {
  kernels_.scores[layout_->dtype](queries_.q, queries_.num_vectors(), layout_->padded_k, keys, scratch_.decoded.data(),
                                  scratch_.scores.data());
}

void AttentionPass::add_mass(const RowBlock& block, const float* lse, float* mass) noexcept {
  if (block.count == 0) return;
  score({block.rows.data(), block.count});
  apply_rule(block, {});
  float* sums = scratch_.log_weights.data();  // of the rows; free, since rows have no weights here
  std::fill_n(sums, kBlockRows, 0.f);
  for (int v = 0; v < queries_.num_vectors(); ++v) {
    if (lse[v] == kHidden) continue;
    kernels_.add_probabilities(scratch_.scores.data() + static_cast<std::ptrdiff_t>(v) * kBlockRows, lse[v], sums);
  }
  for (int r = 0; r < block.count; ++r) mass[r] += sums[r];
}

void AttentionPass::add_coded(const CodedRows& rows) noexcept {
  if (rows.count == 0) return;
  const BlockCodecKernels& kernels = kernels_.codecs[format_->kind];
  // As in add(): scores fetch the share of the bytes that they read of these, in whole lines.
  CodedRows keys = rows, values = rows;
  keys.upcoming_bytes = rows.upcoming_bytes * format_->v_codes / format_->block_bytes / 64 * 64;
  values.upcoming += keys.upcoming_bytes;
  values.upcoming_bytes -= keys.upcoming_bytes;
  const int vectors = queries_.num_vectors();
  kernels.scores(*format_, keys, prepared_, vectors, scratch_.decoded.data(), scratch_.scores.data());
  RowBlock block;
  block.count = rows.count;
  for (int r = 0; r < rows.count; ++r)
    block.positions[static_cast<std::size_t>(r)] = rows.first_position + rows.first + r;
  apply_rule(block, {});
  kernels.accumulate(*format_, values, scratch_.scores.data(), vectors, scratch_.decoded.data(),
                     {scratch_.max.data(), scratch_.sum.data(), scratch_.acc.data()});
}

void AttentionPass::add_coded_run(const std::byte* blocks, std::int64_t first, std::int64_t end,
                                  std::int64_t first_position) noexcept {
  const std::int64_t rows_of_block = format_->block_rows;
  const std::int64_t calls_of_block = rows_of_block / kBlockRows;
  const std::int64_t share = format_->block_bytes / calls_of_block / 64 * 64;
  for (std::int64_t begin = first; begin < end;) {
    const std::int64_t stop = std::min(end, (begin / kBlockRows + 1) * kBlockRows);
    const std::int64_t index = begin / rows_of_block, row = begin % rows_of_block;
    CodedRows rows{blocks + index * format_->block_bytes, static_cast<int>(row), static_cast<int>(stop - begin),
                   first_position + index * rows_of_block};
    if ((index + 1) * rows_of_block < end) {  // each call of a block fetches its share of the next
      const bool last = row / kBlockRows == calls_of_block - 1;
      rows.upcoming = rows.block + format_->block_bytes + row / kBlockRows * share;
      rows.upcoming_bytes = last ? format_->block_bytes - (calls_of_block - 1) * share : share;
    }
    add_coded(rows);
    begin = stop;
  }
}

void AttentionPass::apply_rule(const RowBlock& block, RowLogWeights weights) noexcept {
  if (logits_.softcap > 0.f) {
    kernels_.softcap(scratch_.scores.data(), static_cast<std::int64_t>(queries_.num_vectors()) * kBlockRows,
                     logits_.softcap);
  }
  if (logits_.alibi != nullptr) apply_alibi(block);
  if (block.bias != nullptr) apply_bias(block);
  if (weights.values != nullptr) add_log_weights(weights);
  hide(block);
}

RowLogWeights AttentionPass::log_weights_of(const RowBlock& block) noexcept {
  assert(rule_ == nullptr || !block.has_inclusion);
  if (rule_ == nullptr && !block.has_inclusion) return {};
  const auto vectors = static_cast<std::size_t>(queries_.num_vectors());
  if (!has_spread_) {
    has_spread_ = true;
    std::fill_n(scratch_.spread_weight.begin(), vectors, 0.f);
    std::fill_n(scratch_.spread_value.begin(), vectors * static_cast<std::size_t>(padded_v_), 0.f);
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

void AttentionPass::apply_bias(const RowBlock& block) noexcept {
  for (int v = 0; v < queries_.num_vectors(); ++v) {
    const float* bias = block.bias + static_cast<std::ptrdiff_t>(v / queries_.group_size) * kBlockRows;
    const float factor = logits_.bias_factors == nullptr ? 1.f : logits_.bias_factors[v % queries_.group_size];
    float* scores = scratch_.scores.data() + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    for (int r = 0; r < block.count; ++r) {
      scores[r] = bias[r] == kHidden ? kHidden : scores[r] + factor * bias[r];  // a factor of 0 hides nothing by itself
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
    if (format_ != nullptr) return kept;
    kernels_.to_natural_order[layout_->dtype](kept, padded_v_, scratch_.decoded.data());
    return static_cast<const float*>(scratch_.decoded.data());
  };
  for (std::int64_t v = 0; v < result.rows; ++v) {
    const auto i = static_cast<std::size_t>(v);
    const float sum = scratch_.sum[i];
    const bool empty = !(sum > 0.f);
    const float inverse = empty ? 0.f : 1.f / sum;
    const float* acc = natural(scratch_.acc.data() + v * padded_v_);
    for (std::int64_t d = 0; d < result.dim; ++d) result.out[v * result.dim + d] = acc[d] * inverse;
    result.lse[v] = empty ? kHidden : scratch_.max[i] + std::log(sum);
    // Without rows there is no spread either, and what the buffers hold is another pass's.
    const float unit = has_spread_ ? inverse * inverse : 0.f;
    if (spread.weight != nullptr) spread.weight[v] = has_spread_ ? scratch_.spread_weight[i] * unit : 0.f;
    if (spread.square != nullptr) {
      spread.square[v] = has_spread_ ? static_cast<float>(scratch_.spread_square[i] * static_cast<double>(unit)) : 0.f;
    }
    if (spread.value == nullptr) continue;
    const float* value = natural(scratch_.spread_value.data() + v * padded_v_);
    for (std::int64_t d = 0; d < result.dim; ++d)
      spread.value[v * result.dim + d] = has_spread_ ? value[d] * unit : 0.f;
  }
}

}  // namespace tandem::cpu
