#pragma once

#include <cstdint>
#include <vector>

#include "bench/gpu/window_formats.h"
#include "cpu/codec/block_codec.h"
#include "cpu/reference_attention.h"
#include "cpu/row_layout.h"
#include "gpu/device.h"

namespace tandem::bench {

/// The tokens of one KV head as a window of `tokens` holds them: a short run of normal keys and values, repeated, since
/// a million normal numbers take the host longer than all attention over them. Positions from 0 on, no sinks.
class TiledHead {
 public:
  /// `tokens` is a multiple of kWindowTokensStep.
  TiledHead(const WindowFormat& format, std::int32_t head_dim, std::int64_t tokens);

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] std::int64_t tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return repetitions_ * static_cast<std::int64_t>(tile_.size()); }
  /// What bytes() consist of, over and over.
  [[nodiscard]] const std::vector<std::byte>& tile() const noexcept { return tile_; }
  [[nodiscard]] const cpu::RowLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] const cpu::BlockCodec& codec() const noexcept { return codec_; }
  /// Of a copy of the head in a device's memory, where `*page` is and stays.
  [[nodiscard]] gpu::WindowView view(std::byte* const* page) const;
  /// Attention of `q` (padded_k), scaled, in double precision.
  [[nodiscard]] cpu::reference::Result exact(const float* q) const;

 private:
  [[nodiscard]] std::int64_t tile_tokens() const noexcept { return tokens_ / repetitions_; }
  void encode_tile();
  [[nodiscard]] cpu::reference::Result exact_tile(const float* q, std::int64_t first_position) const;

  std::string name_;
  cpu::RowLayout layout_;
  cpu::BlockCodec codec_;
  std::int64_t tokens_, repetitions_;
  std::vector<std::byte> tile_;
};

}  // namespace tandem::bench
