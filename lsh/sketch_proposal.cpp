#include "lsh/sketch_proposal.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace tandem::lsh {
namespace {

constexpr std::int64_t kPilotStride = 16;       // of the blocks, every 16th tells the scale of estimates and shares
constexpr std::int64_t kMostPilotBlocks = 256;  // as many tell as much of a context of any length
constexpr std::int64_t kPilotAhead = 8;         // blocks on their way from memory
constexpr float kLeastShrink = 0.2f;
constexpr float kMostNoise = 2.f;  // nats of estimate noise from which weights are tempered

/// Blocks of the pilot lie too far apart for the processor to see what comes next.
void ask_for(const CodedRows& rows, std::int64_t block) {
  const std::byte* begin = rows.block(block);
  for (std::int64_t i = 0; i < rows.map->format.block_bytes(); i += 64) __builtin_prefetch(begin + i);
}

}  // namespace

Proposal::Proposal(const CodedRows& rows, const SelectRequest& request, SketchScratch& scratch)
    : rows_(rows), request_(request), scratch_(scratch) {
  transform_queries();
  read_pilot();
  for (int h = 0; h < query_.group_size; ++h) fit_head(h);
}

void Proposal::transform_queries() {
  const SketchMap& map = *rows_.map;
  const int group = request_.queries.group_size;
  const int padded_k = request_.store.layout().padded_k;
  scratch_.queries.prepare(request_.kernels.sketch, map, request_.queries.q, group, padded_k, map.format.factor_scale);
  query_ = scratch_.queries.view();
  for (int h = 0; h < group; ++h) {
    const auto i = static_cast<std::size_t>(h);
    const float* q = request_.queries.q + std::ptrdiff_t{h} * padded_k;
    // What centring took from every logit. Only a cap can tell.
    offsets_[i] = request_.logits.softcap > 0.f ? std::inner_product(q, q + padded_k, map.mean.data(), 0.f) : 0.f;
    alibi_[i] = request_.logits.alibi == nullptr ? 0.f : request_.logits.alibi[h];
    shrinks_[i] = tempers_[i] = 1.f;
    references_[i] = scales_[i] = 0.f;
  }
  weights_ = {.shrinks = shrinks_.data(),
              .offsets = offsets_.data(),
              .alibi = request_.logits.alibi == nullptr ? nullptr : alibi_.data(),
              .alibi_origin = request_.end,
              .softcap = request_.logits.softcap,
              .references = references_.data(),
              .tempers = tempers_.data(),
              .scales = scales_.data()};
}

/// Estimates of every head for the pilot's blocks, (group_size, pilot_rows), into scratch.estimates.
void Proposal::read_pilot() {
  first_block_ = (request_.begin + cpu::kSketchBlockRows - 1) / cpu::kSketchBlockRows;
  const std::int64_t blocks = request_.end / cpu::kSketchBlockRows - first_block_;
  block_stride_ = std::max(std::clamp<std::int64_t>(blocks / kPilotStride, 1, kPilotStride), blocks / kMostPilotBlocks);
  const std::int64_t read = (blocks + block_stride_ - 1) / block_stride_;
  pilot_rows_ = static_cast<int>(read * cpu::kSketchBlockRows);
  const std::int64_t group = query_.group_size;
  scratch_.estimates.resize(static_cast<std::size_t>(group * pilot_rows_));
  scratch_.shares.resize(static_cast<std::size_t>(pilot_rows_));
  float squares = 0;
  for (std::int64_t i = 0; i < std::min(kPilotAhead, read); ++i) ask_for(rows_, first_block_ + i * block_stride_);
  for (std::int64_t i = 0; i < read; ++i) {
    if (i + kPilotAhead < read) ask_for(rows_, first_block_ + (i + kPilotAhead) * block_stride_);
    squares += request_.kernels.sketch.estimates(query_, rows_.block(first_block_ + i * block_stride_),
                                                 scratch_.estimates.data() + i * cpu::kSketchBlockRows, pilot_rows_);
  }
  mean_factor_square_ = squares / static_cast<float>(std::max(1, pilot_rows_));
}

/// Shrinking, tempering and scale of head h from the pilot; turns its estimates into tempered weights.
void Proposal::fit_head(int h) {
  const auto i = static_cast<std::size_t>(h);
  const cpu::SketchKernels& kernels = request_.kernels.sketch;
  float* values = scratch_.estimates.data() + std::ptrdiff_t{h} * pilot_rows_;
  const cpu::SketchMoments raw = kernels.moments(values, pilot_rows_);
  const float n = static_cast<float>(std::max(1, raw.count));
  const float mean = raw.sum / n;
  const float variance = std::max(0.f, raw.sum_of_squares / n - mean * mean);
  const float noise = rows_.map->noise * scratch_.queries.square(h) * mean_factor_square_;
  const float shrink = variance > 0.f ? std::clamp(1.f - noise / variance, kLeastShrink, 1.f) : 1.f;
  shrinks_[i] = shrink;
  offsets_[i] += (1.f - shrink) * mean;
  const float left = std::sqrt(noise * shrink);
  tempers_[i] = left > kMostNoise ? kMostNoise / left : 1.f;
  if (request_.logits.alibi == nullptr) {
    kernels.logits(weights_, h, 0, values, pilot_rows_);
  } else {
    for (int b = 0; b * cpu::kSketchBlockRows < pilot_rows_; ++b) {
      kernels.logits(weights_, h, (first_block_ + b * block_stride_) * cpu::kSketchBlockRows,
                     values + std::ptrdiff_t{b} * cpu::kSketchBlockRows, cpu::kSketchBlockRows);
    }
  }
  const cpu::SketchMoments logits = kernels.moments(values, pilot_rows_);
  references_[i] = logits.count > 0 ? logits.max : 0.f;
  const float total = kernels.weigh(values, pilot_rows_, tempers_[i], references_[i]);
  const auto visible = static_cast<float>(request_.end - request_.begin);
  const float usable = static_cast<float>(std::max(1, logits.count));
  scales_[i] = 1.f / (static_cast<float>(query_.group_size) * std::max(total, 1e-30f) * visible / usable);
}

float Proposal::add_up_shares(float budget) const {
  std::fill(scratch_.shares.begin(), scratch_.shares.end(), 0.f);
  for (int h = 0; h < query_.group_size; ++h) {
    const float* values = scratch_.estimates.data() + std::ptrdiff_t{h} * pilot_rows_;
    const float scale = scales_[static_cast<std::size_t>(h)];
    for (int i = 0; i < pilot_rows_; ++i) scratch_.shares[static_cast<std::size_t>(i)] += scale * values[i];
  }
  return budget * static_cast<float>(pilot_rows_) / static_cast<float>(request_.end - request_.begin);
}

float Proposal::rate_for(float budget, float floor) const {
  const float wanted = add_up_shares(budget);
  const auto expected = [&](float rate) {
    return request_.kernels.sketch.expected_rows(scratch_.shares.data(), pilot_rows_, rate, floor);
  };
  // Shares add up to about 1, so `budget` is the rate when no row is certain.
  float low = budget;
  float high = budget;
  for (int i = 0; i < 40 && expected(high) < wanted; ++i) {
    low = high;
    high *= 2.f;
  }
  for (int i = 0; i < 6 && low < high; ++i) {
    const float middle = std::sqrt(low * high);
    (expected(middle) < wanted ? low : high) = middle;
  }
  return high;
}

float Proposal::rate_for_certain(float budget) const {
  const float wanted = add_up_shares(budget);
  const auto last = scratch_.shares.begin() + std::min(pilot_rows_ - 1, static_cast<int>(wanted));
  std::nth_element(scratch_.shares.begin(), last, scratch_.shares.begin() + pilot_rows_, std::greater<>());
  return 1.f / std::max(*last, 1.f / kMostRate);
}

}  // namespace tandem::lsh
