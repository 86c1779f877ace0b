#include "gpu/window_policy/dmc.h"

#include <algorithm>

#include "runtime/base/error.h"

namespace tandem::gpu {
namespace {

const DmcParams& checked(const DmcParams& params, std::int32_t dim_k, std::int32_t dim_v) {
  validate(params);
  TANDEM_CHECK(dim_k >= 1, invalid_argument, "dim_k is ", dim_k, "; allowed: from 1");
  TANDEM_CHECK(dim_v >= 1, invalid_argument, "dim_v is ", dim_v, "; allowed: from 1");
  return params;
}

void check_size(const char* field, std::size_t size, std::size_t needed) {
  TANDEM_CHECK(size == needed, invalid_argument, field, " has ", size, " elements; needed: ", needed);
}

void add_share(float share, const float* row, std::span<float> sum) noexcept {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += share * row[i];
}

}  // namespace

DmcHead::DmcHead(const DmcParams& params, const cpu::RopeParams& rope, std::int32_t dim_k, std::int32_t dim_v)
    : params_(checked(params, dim_k, dim_v)),
      rope_(rope),
      dim_k_(static_cast<std::size_t>(dim_k)),
      dim_v_(static_cast<std::size_t>(dim_v)),
      contributions_(static_cast<std::size_t>(params.window + params.rollback)),
      rows_(contributions_.size() * (dim_k_ + dim_v_)) {}

void DmcHead::check(const DmcTokens& tokens, std::span<float> keys, std::span<float> values,
                    std::span<DmcEntry> entries) const {
  const std::size_t count = tokens.decisions.size();
  check_size("k", tokens.k.size(), count * dim_k_);
  check_size("v", tokens.v.size(), count * dim_v_);
  check_size("keys", keys.size(), count * dim_k_);
  check_size("values", values.size(), count * dim_v_);
  check_size("entries", entries.size(), count);
  for (std::size_t i = 0; i < count; ++i) {
    const float weight = tokens.decisions[i].weight;
    TANDEM_CHECK(weight > 0 && weight <= kMaxDmcWeight, invalid_argument, "decisions[", i, "].weight is ", weight,
                 "; allowed: above 0, to ", kMaxDmcWeight);
  }
}

void DmcHead::enter(const float* k, const float* v, const DmcDecision& decision) noexcept {
  const bool merges = decision.merge && has_open_entry();
  const std::int32_t run = merges ? std::min(contribution(tokens_ - 1).run + 1, params_.window) : 1;
  contributions_[ring_index(tokens_)] = {decision.weight, run, !merges};
  float* row = rows_.data() + ring_index(tokens_) * (dim_k_ + dim_v_);
  std::copy_n(v, dim_v_, std::copy_n(k, dim_k_, row));
  entries_ += merges ? 0 : 1;
  ++tokens_;
  oldest_ = std::max(oldest_, tokens_ - static_cast<std::int64_t>(contributions_.size()));
}

void DmcHead::append(const DmcTokens& tokens, std::span<float> keys, std::span<float> values,
                     std::span<DmcEntry> entries) {
  check(tokens, keys, values, entries);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    enter(tokens.k.data() + i * dim_k_, tokens.v.data() + i * dim_v_, tokens.decisions[i]);
    entries[i] = {entries_ - 1, false};
    if (i > 0) entries[i - 1].is_final = entries[i - 1].index < entries[i].index;
    open_entry(keys.subspan(i * dim_k_, dim_k_), values.subspan(i * dim_v_, dim_v_));
  }
}

void DmcHead::open_entry(std::span<float> key, std::span<float> value) const noexcept {
  const std::int64_t first = tokens_ - contribution(tokens_ - 1).run;
  float sum = 0.f;
  for (std::int64_t t = first; t < tokens_; ++t) sum += contribution(t).weight;
  std::fill(key.begin(), key.end(), 0.f);
  std::fill(value.begin(), value.end(), 0.f);
  for (std::int64_t t = first; t < tokens_; ++t) {
    const float* row = rows_.data() + ring_index(t) * (dim_k_ + dim_v_);
    const float share = contribution(t).weight / sum;  // 1 for a token alone, so that it stays as it is
    add_share(share, row, key);
    add_share(share, row + dim_k_, value);
  }
  rotate_for_dmc(params_, rope_, tokens_ - 1, key);
}

std::int64_t DmcHead::restorable_length() const noexcept {
  // If a length can be restored, so can the next: its entry is averaged over the same tokens and one more, or begins.
  std::int64_t length = tokens_;
  while (length > oldest_ && contribution(length - 1).run <= length - oldest_) --length;
  return length == sealed_ ? length : length + 1;
}

void DmcHead::truncate(std::int64_t length) {
  const std::int64_t least = restorable_length();
  TANDEM_CHECK(length >= least, invalid_argument, "length is ", length, "; allowed: from ", least,
               ", as far back as the tokens of an entry are still known");
  for (; tokens_ > length; --tokens_) entries_ -= contribution(tokens_ - 1).begins_entry ? 1 : 0;
}

void DmcHead::seal(std::int64_t tokens, std::int64_t entries) {
  TANDEM_CHECK(tokens >= 0, invalid_argument, "tokens is ", tokens, "; allowed: from 0");
  TANDEM_CHECK(entries >= std::min<std::int64_t>(tokens, 1) && entries <= tokens, invalid_argument, "entries is ",
               entries, "; allowed with ", tokens, " tokens: ", std::min<std::int64_t>(tokens, 1), " to ", tokens);
  tokens_ = sealed_ = oldest_ = tokens;
  entries_ = entries;
}

}  // namespace tandem::gpu
