#include "gpu/window_cache.h"

#include <algorithm>

#include "runtime/base/error.h"

namespace tandem::gpu {
namespace {

constexpr std::int32_t kMaxWindowTokens = 1 << 24;

}  // namespace

void validate(const WindowParams& params) {
  TANDEM_CHECK(params.sink_tokens >= 0 && params.sink_tokens <= kMaxWindowTokens, invalid_argument, "sink_tokens is ",
               params.sink_tokens, "; allowed: 0 to ", kMaxWindowTokens);
  TANDEM_CHECK(params.local_tokens >= 1 && params.local_tokens <= kMaxWindowTokens, invalid_argument,
               "local_tokens is ", params.local_tokens, "; allowed: 1 to ", kMaxWindowTokens);
  TANDEM_CHECK(!is_quantized(params.dtype), invalid_argument, "window_dtype is ", to_string(params.dtype),
               ", which only rows of the host tier can be; allowed: f32, f16, bf16");
}

WindowCache::WindowCache(Device& device, const cpu::RowLayout& layout, const WindowParams& params,
                         const std::vector<int>& nodes)
    : device_(&device),
      layout_(layout),
      params_(params),
      nodes_(nodes),
      sinks_(params.sink_tokens),
      ring_(std::int64_t{params.local_tokens} + cpu::kPageRows) {
  heads_.reserve(nodes.size());
  for (const int node : nodes) heads_.emplace_back(device, (sinks_ + ring_) * layout.row_bytes, node);
}

std::int64_t WindowCache::evicted_at(std::int64_t length) const noexcept {
  const std::int64_t excess = length - sinks_ - ring_;
  return excess <= 0 ? 0 : (excess + cpu::kPageRows - 1) / cpu::kPageRows * cpu::kPageRows;
}

WindowCache::Slice WindowCache::next_slice(std::int64_t waiting) const noexcept {
  const std::int64_t room = ring_ - (length_ - local_begin());
  const bool evicts = room <= 0 && waiting > 0;
  return {std::min<std::int64_t>({waiting, evicts ? cpu::kPageRows : room, cpu::kPageRows}), evicts};
}

WindowView WindowCache::view(std::int64_t head) const noexcept {
  return {heads_[static_cast<std::size_t>(head)].data(), layout_, sinks_, ring_, local_begin(), length_};
}

void WindowCache::read_oldest_page(std::int64_t head, const cpu::RowLayout& host_layout, std::byte* host_rows,
                                   Stream stream) const {
  device_->read_rows(view(head), local_begin(), cpu::kPageRows, host_layout, host_rows, stream);
}

void WindowCache::append(const KvView& kv, Stream stream) {
  for (std::size_t head = 0; head < heads_.size(); ++head) {
    device_->write_rows(view(static_cast<std::int64_t>(head)), length_, kv, static_cast<std::int64_t>(head), stream);
  }
  length_ += kv.k.tokens;
}

void WindowCache::truncate(std::int64_t length, const cpu::RowLayout& host_layout, const HostRow& host_row,
                           Stream stream) {
  if (length >= length_) return;
  const std::int64_t kept = evicted_at(length);
  const std::int64_t end = std::min(evicted_, length - sinks_);
  for (std::int64_t head = 0; head < static_cast<std::int64_t>(heads_.size()); ++head) {
    for (std::int64_t row = kept; row < end; ++row) {
      float key[kMaxHeadDim], value[kMaxHeadDim];
      cpu::load_key(host_layout, host_row(head, row), key);
      cpu::load_value(host_layout, host_row(head, row), value);
      const TensorView k{reinterpret_cast<const std::byte*>(key), DType::f32, 1, 1, host_layout.dim_k, 0, 0};
      const TensorView v{reinterpret_cast<const std::byte*>(value), DType::f32, 1, 1, host_layout.dim_v, 0, 0};
      // The slot is free: whatever used it after this token left lies a whole ring further on, beyond `length`.
      device_->write_rows(view(head), sinks_ + row, {k, v}, 0, stream);
    }
  }
  length_ = length;
  evicted_ = kept;
}

WindowCache WindowCache::fork(std::int64_t length, const cpu::RowLayout& host_layout, const HostRow& host_row,
                              Stream stream) const {
  WindowCache copy(*device_, layout_, params_, nodes_);
  for (std::size_t head = 0; head < heads_.size(); ++head) {
    device_->copy(copy.heads_[head].data(), heads_[head].data(), heads_[head].bytes(), stream);
  }
  copy.length_ = length_;
  copy.evicted_ = evicted_;
  copy.truncate(length, host_layout, host_row, stream);
  return copy;
}

}  // namespace tandem::gpu
