#include "runtime/merged_tokens.h"

#include <algorithm>

namespace tandem {
namespace {

void reserve_floats(std::vector<float>& buffer, std::int64_t size) { buffer.reserve(static_cast<std::size_t>(size)); }
void resize(std::vector<float>& buffer, std::int64_t size) { buffer.resize(static_cast<std::size_t>(size)); }

}  // namespace

void ClosedEntries::reserve(std::int64_t entries, const cpu::RowLayout& layout) {
  reserve_floats(k, entries * layout.dim_k);
  reserve_floats(v, entries * layout.dim_v);
  visible_from.reserve(static_cast<std::size_t>(entries));
}

KvView ClosedEntries::view(const cpu::RowLayout& layout) const noexcept {
  return {dense_view(k.data(), DType::f32, size(), 1, layout.dim_k),
          dense_view(v.data(), DType::f32, size(), 1, layout.dim_v)};
}

MergedTokens::MergedTokens(const gpu::DmcParams& params, const cpu::RopeParams& rope, const cpu::RowLayout& layout)
    : entries_(params, rope, layout.dim_k, layout.dim_v),
      dim_k_(layout.dim_k),
      dim_v_(layout.dim_v),
      padded_k_(layout.padded_k),
      padded_v_(layout.padded_v) {}

std::int64_t MergedTokens::closing(std::span<const gpu::DmcDecision> decisions) const noexcept {
  if (decisions.empty()) return 0;
  const auto begun = std::count_if(decisions.begin(), decisions.end(), [](const auto& d) { return !d.merge; });
  if (entries_.has_open_entry()) return begun;
  return begun - (decisions.front().merge ? 0 : 1);  // the first one begins an entry, whatever is decided
}

void MergedTokens::reserve(std::int64_t tokens) {
  for (auto* buffer : {&k_, &keys_}) reserve_floats(*buffer, tokens * dim_k_);
  for (auto* buffer : {&v_, &values_}) reserve_floats(*buffer, tokens * dim_v_);
  reserve_floats(own_, tokens * (padded_k_ + padded_v_));
  states_.reserve(static_cast<std::size_t>(tokens));
}

void MergedTokens::append(const KvView& kv, std::int64_t head, std::span<const gpu::DmcDecision> decisions,
                          ClosedEntries& closed) {
  const std::int64_t tokens = kv.k.tokens;
  for (auto* buffer : {&k_, &keys_}) resize(*buffer, tokens * dim_k_);
  for (auto* buffer : {&v_, &values_}) resize(*buffer, tokens * dim_v_);
  states_.resize(static_cast<std::size_t>(tokens));
  for (std::int64_t t = 0; t < tokens; ++t) {
    load_f32(kv.k.dtype, kv.k.row(t, head), k_.data() + t * dim_k_, dim_k_);
    load_f32(kv.v.dtype, kv.v.row(t, head), v_.data() + t * dim_v_, dim_v_);
  }
  closed.k.clear(), closed.v.clear(), closed.visible_from.clear();
  if (tokens == 0) return;
  const std::int64_t first = entries_.tokens();
  if (entries_.has_open_entry() && !decisions.front().merge) {
    closed.k.resize(static_cast<std::size_t>(dim_k_));
    closed.v.resize(static_cast<std::size_t>(dim_v_));
    entries_.open_entry(closed.k, closed.v);
    closed.visible_from.push_back(first);
  }
  entries_.append({k_, v_, decisions}, keys_, values_, states_);
  own_.assign(static_cast<std::size_t>(tokens * (padded_k_ + padded_v_)), 0.f);
  num_own_ = tokens;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const float* key = keys_.data() + t * dim_k_;
    const float* value = values_.data() + t * dim_v_;
    float* own = own_.data() + t * (padded_k_ + padded_v_);
    std::copy_n(key, dim_k_, own);
    std::copy_n(value, dim_v_, own + padded_k_);
    if (!states_[static_cast<std::size_t>(t)].is_final) continue;
    closed.k.insert(closed.k.end(), key, key + dim_k_);
    closed.v.insert(closed.v.end(), value, value + dim_v_);
    closed.visible_from.push_back(first + t + 1);
  }
}

std::int64_t MergedTokens::finalised_at(std::int64_t length) const {
  gpu::DmcHead entries = entries_;
  if (length == 0) return 0;
  entries.truncate(length);
  return entries.finalised();
}

void MergedTokens::cut(std::int64_t length) {
  if (length >= tokens()) return;
  if (length == 0) {
    entries_.seal(0, 0);
  } else {
    entries_.truncate(length);
  }
  num_own_ = 0;
}

}  // namespace tandem
