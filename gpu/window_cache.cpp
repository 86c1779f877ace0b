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
    : device_(&device), layout_(layout), params_(params), nodes_(nodes) {
  heads_.reserve(nodes.size());
  for (const int node : nodes) heads_.emplace_back(device, (sink_tokens() + ring()) * layout.row_bytes, node);
}

std::int64_t WindowCache::evicted_at(std::int64_t length) const noexcept {
  const std::int64_t excess = length - sink_tokens() - ring();
  return excess <= 0 ? 0 : (excess + cpu::kPageRows - 1) / cpu::kPageRows * cpu::kPageRows;
}

WindowCache::Slice WindowCache::next_slice(std::int64_t waiting) const noexcept {
  const std::int64_t room = ring() - (length_ - local_begin());
  const bool evicts = room <= 0 && waiting > 0;
  return {std::min<std::int64_t>({waiting, evicts ? cpu::kPageRows : room, cpu::kPageRows}), evicts};
}

WindowView WindowCache::view(std::int64_t head) const noexcept {
  return {heads_[static_cast<std::size_t>(head)].data(), layout_, sink_tokens(), ring(), local_begin(), length_};
}

void WindowCache::read_oldest_page(const cpu::RowLayout& host_layout, std::byte* host_rows, Stream stream) const {
  for (std::int64_t head = 0; head < num_heads(); ++head) {
    device_->read_rows(view(head), local_begin(), cpu::kPageRows, host_layout,
                       host_rows + head * host_layout.page_bytes(), stream);
  }
  device_->wait(stream);
}

void WindowCache::append(const KvView& kv, Stream stream) {
  for (std::int64_t head = 0; head < num_heads(); ++head) device_->write_rows(view(head), length_, kv, head, stream);
  length_ += kv.k.tokens;
}

WindowCache::Cut WindowCache::cut_at(std::int64_t length, const cpu::RowLayout& host_layout,
                                     const HostRow& host_row) const {
  Cut cut{std::min(length, length_), std::min(evicted_, evicted_at(length)), {}};
  const std::int64_t tokens = std::min(evicted_, cut.length - sink_tokens()) - cut.evicted;
  if (tokens <= 0) return cut;
  cut.rows.resize(static_cast<std::size_t>(num_heads() * tokens * row_floats()));
  float* row = cut.rows.data();
  for (std::int64_t head = 0; head < num_heads(); ++head) {
    for (std::int64_t t = 0; t < tokens; ++t, row += row_floats()) {
      cpu::load_key(host_layout, host_row(head, cut.evicted + t), row);
      cpu::load_value(host_layout, host_row(head, cut.evicted + t), row + layout_.padded_k);
    }
  }
  return cut;
}

void WindowCache::truncate(const Cut& cut, Stream stream) {
  const std::int64_t tokens = static_cast<std::int64_t>(cut.rows.size()) / (num_heads() * row_floats());
  const std::int64_t stride = row_floats() * static_cast<std::int64_t>(sizeof(float));
  const auto part = [&](const float* data, std::int64_t dim) {
    return TensorView{reinterpret_cast<const std::byte*>(data), DType::f32, tokens, 1, dim, stride, 0};
  };
  for (std::int64_t head = 0; tokens > 0 && head < num_heads(); ++head) {
    const float* rows = cut.rows.data() + head * tokens * row_floats();
    // The slots are free: whatever used them after these tokens left lies a whole ring further on.
    device_->write_rows(view(head), sink_tokens() + cut.evicted,
                        {part(rows, layout_.dim_k), part(rows + layout_.padded_k, layout_.dim_v)}, 0, stream);
  }
  if (tokens > 0) device_->wait(stream);
  length_ = cut.length;
  evicted_ = cut.evicted;
}

WindowCache WindowCache::fork(std::int64_t length, const cpu::RowLayout& host_layout, const HostRow& host_row,
                              Stream stream) const {
  WindowCache copy(*device_, layout_, params_, nodes_);
  for (std::size_t head = 0; head < heads_.size(); ++head) {
    device_->copy(copy.heads_[head].data(), heads_[head].data(), heads_[head].bytes(), stream);
  }
  copy.length_ = length_;
  copy.evicted_ = evicted_;
  copy.truncate(copy.cut_at(length, host_layout, host_row), stream);
  return copy;
}

}  // namespace tandem::gpu
