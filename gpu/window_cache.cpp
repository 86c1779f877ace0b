#include "gpu/window_cache.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace tandem::gpu {

namespace {

std::optional<KeptTokens> kept_tokens_of(const WindowParams& params) {
  if (keep_rule(params.policy).scores == ScoreSource::none) return {};
  return kept_tokens(params.policy, params.sink_tokens, params.local_tokens + params.page_tokens);
}

}  // namespace

WindowCache::WindowCache(Device& device, const cpu::RowLayout& layout, const WindowParams& params,
                         const cpu::BlockCodec* codec, int node)
    : device_(&device),
      layout_(layout),
      params_(params),
      codec_(codec != nullptr && *codec ? codec : nullptr),
      node_(node),
      kept_(kept_tokens_of(params)),
      rows_(device, sink_tokens() + ring(), layout.row_bytes, cpu::kPageRows, node, params.on_demand()) {
  device.prepare(layout, codec_);
  if (codec_ != nullptr)
    blocks_ = PagedSlots(device, ring_blocks(), codec_->format().block_bytes, 1, node, params.on_demand());
  if (kept_) {
    kept_slots_ = PagedSlots(device, kept_->rule().slots, layout.row_bytes, cpu::kPageRows, node, params.on_demand());
    kept_rows_.reserve(static_cast<std::size_t>(kept_->rule().slots));
  }
  if (params.merge) visible_from_.resize(static_cast<std::size_t>(rows_.slots()));
}

std::int64_t WindowCache::ring_blocks() const noexcept {
  if (codec_ == nullptr) return 0;
  return (params_.local_tokens - params_.residual_tokens + page_rows() - 1) / page_rows();
}

std::int64_t WindowCache::left_at(std::int64_t length) const noexcept {
  const std::int64_t excess = length - sink_tokens() - ring();
  return excess <= 0 ? 0 : (excess + page_rows() - 1) / page_rows() * page_rows();
}

std::int64_t WindowCache::evicted_at(std::int64_t length) const noexcept {
  return std::max<std::int64_t>(0, left_at(length) - ring_blocks() * page_rows());
}

WindowCache::Slice WindowCache::next_slice(std::int64_t waiting) const noexcept {
  const std::int64_t room = ring() - (length_ - raw_begin());
  const bool leaves = room <= 0 && waiting > 0;
  return {std::min<std::int64_t>({waiting, leaves ? page_rows() : room, cpu::kPageRows}), leaves};
}

WindowView WindowCache::view() const noexcept {
  WindowView view{rows_.table(), layout_, sink_tokens(), ring(), local_begin(), raw_begin(), length_};
  if (codec_ != nullptr) {
    view.blocks = blocks_.table();
    view.ring_blocks = ring_blocks();
    view.codec = codec_;
    view.format = &codec_->format();
  }
  if (kept_) {
    view.kept_rows = kept_slots_.table();
    view.kept = &*kept_;
  }
  if (!visible_from_.empty()) view.visible_from = visible_from_.data();
  return view;
}

void WindowCache::read_leaving_page(const cpu::RowLayout& host_layout, std::byte* host_rows, Stream stream) const {
  device_->read_rows(view(), raw_begin(), page_rows(), host_layout, host_rows, stream);
}

void WindowCache::release_page(Stream stream) {
  const std::int64_t page = raw_begin();
  if (kept_) {
    const WindowView before = view();
    const std::span<const Promotion> promotions = kept_->promote(page_rows());
    for (std::size_t i = 0; i < promotions.size(); ++i) {
      if (promotions[i].slot < 0) continue;
      device_->copy(before.kept_rows[promotions[i].slot], before.row(page + static_cast<std::int64_t>(i)),
                    layout_.row_bytes, stream);
    }
    list_kept_rows();
  }
  left_ += page_rows();
  evicted_ = std::max(evicted_, left_ - ring_blocks() * page_rows());
  if (codec_ != nullptr) device_->encode_block(view(), page, stream);
}

void WindowCache::list_kept_rows() {
  kept_rows_.clear();
  for (const std::int32_t slot : kept_->slots())
    kept_rows_.push_back(static_cast<std::uint32_t>(kept_->position(slot) - sink_tokens()));
}

void WindowCache::reserve(std::int64_t count) {
  rows_.reserve(length_ + count);
  const std::int64_t leaving = leaving_for(count);
  if (codec_ != nullptr) blocks_.reserve((left_ + leaving) / page_rows());
  // Slots are taken from the lowest on, and a token that leaves takes one at most.
  if (kept_) kept_slots_.reserve(static_cast<std::int64_t>(kept_rows_.size()) + leaving);
}

void WindowCache::append(const KvView& kv, std::int64_t head, Stream stream, std::span<const float> scores,
                         std::span<const std::int64_t> visible_from) {
  const std::int64_t sinks = std::clamp<std::int64_t>(sink_tokens() - length_, 0, kv.k.tokens);  // the first of these
  if (kept_ && kept_->rule().scores == ScoreSource::external) {
    kept_->append(scores.subspan(static_cast<std::size_t>(sinks)));
  } else if (kept_) {
    kept_->append(kv.k.tokens - sinks);
  }
  const WindowView target = view();
  device_->write_rows(target, length_, kv, head, stream);
  for (std::size_t i = 0; i < visible_from.size(); ++i)
    visible_from_[static_cast<std::size_t>(target.slot(length_ + static_cast<std::int64_t>(i)))] = visible_from[i];
  length_ += kv.k.tokens;
}

/// Tokens [first, last), counted from the end of the sinks.
std::vector<float> WindowCache::tokens_between(std::int64_t first, std::int64_t last, const cpu::RowLayout& host_layout,
                                               const HostRow& host_row) const {
  const std::int64_t tokens = last - first;
  if (tokens <= 0) return {};
  std::vector<float> result(static_cast<std::size_t>(tokens * row_floats()));
  const cpu::RowLayout& layout = host_row ? host_layout : layout_;
  std::vector<std::byte> own(host_row ? 0 : static_cast<std::size_t>(tokens * layout.row_bytes));
  if (!host_row) {
    device_->read_rows(view(), sink_tokens() + first, tokens, layout, own.data(), kWindowStream);
    device_->wait(kWindowStream);
  }
  float* row = result.data();
  for (std::int64_t t = 0; t < tokens; ++t, row += row_floats()) {
    const std::byte* source = host_row ? host_row(first + t) : own.data() + t * layout.row_bytes;
    cpu::load_key(layout, source, row);
    cpu::load_value(layout, source, row + layout_.padded_k);
  }
  return result;
}

WindowCache::Cut WindowCache::cut_at(std::int64_t length, const cpu::RowLayout& host_layout,
                                     const HostRow& host_row) const {
  length = std::min(length, length_);
  const bool forgets_all = length <= sink_tokens();
  assert(host_row || forgets_all || length >= shortest_cut());
  const std::int64_t least_evicted = host_row || forgets_all ? 0 : evicted_;
  Cut cut{length,
          std::max(std::min(evicted_, evicted_at(length)), least_evicted),
          std::max(std::min(left_, left_at(length)), least_evicted),
          {},
          {}};
  cut.blocks = tokens_between(cut.evicted, std::min(evicted_, cut.left), host_layout, host_row);
  cut.rows = tokens_between(cut.left, std::min(left_, length - sink_tokens()), host_layout, host_row);
  return cut;
}

/// (tokens, padded K then padded V) to the positions from `first` on.
void WindowCache::write_tokens(const std::vector<float>& tokens, std::int64_t first, Stream stream) {
  const std::int64_t count = static_cast<std::int64_t>(tokens.size()) / row_floats();
  if (count == 0) return;
  const std::int64_t stride = row_floats() * static_cast<std::int64_t>(sizeof(float));
  const auto part = [&](const float* data, std::int64_t dim) {
    return TensorView{reinterpret_cast<const std::byte*>(data), DType::f32, count, 1, dim, stride, 0};
  };
  device_->write_rows(view(), first,
                      {part(tokens.data(), layout_.dim_k), part(tokens.data() + layout_.padded_k, layout_.dim_v)}, 0,
                      stream);
}

void WindowCache::truncate(const Cut& cut, Stream stream) {
  length_ = cut.length;
  evicted_ = cut.evicted;
  left_ = cut.left;
  if (kept_) {
    kept_->truncate(length_, std::max(raw_begin(), sink_tokens()));
    list_kept_rows();
  }
  // The slots are free: whatever used them after these tokens left lies a whole ring further on.
  write_tokens(cut.blocks, sink_tokens() + cut.evicted, stream);
  write_tokens(cut.rows, raw_begin(), stream);
  if (visible_from_.empty()) return;
  // Entries that come back are final: every later query sees them.
  const std::int64_t back = static_cast<std::int64_t>(cut.rows.size()) / row_floats();
  const WindowView target = view();
  for (std::int64_t p = raw_begin(); p < raw_begin() + back; ++p)
    visible_from_[static_cast<std::size_t>(target.slot(p))] = 0;
}

WindowCache WindowCache::fork(std::int64_t length, const cpu::RowLayout& host_layout, const HostRow& host_row,
                              Stream stream) const {
  const Cut cut = cut_at(length, host_layout, host_row);
  WindowCache copy(*device_, layout_, params_, codec_, node_);
  copy.rows_.copy_from(rows_, stream);
  copy.blocks_.copy_from(blocks_, stream);
  copy.kept_slots_.copy_from(kept_slots_, stream);
  if (kept_) copy.kept_ = *kept_;
  copy.visible_from_ = visible_from_;
  copy.truncate(cut, stream);
  return copy;
}

}  // namespace tandem::gpu
