#include "tools/tandem/coded_blocks.h"

#include "cpu/row_layout.h"
#include "runtime/window_settings.h"

namespace tandem::cli {
namespace {

AttentionShape shape_of(const td_config& c) {
  return resolved({c.num_layers, c.num_q_heads, c.num_kv_heads, c.head_dim_k, c.head_dim_v, c.scale, c.softcap});
}

}  // namespace

cpu::BlockCodec block_codec_of(const td_config& config, std::int32_t layer, std::int32_t kv_head) {
  const cpu::RopeParams rope{config.rope_theta, config.rope_dims, config.rope_interleaved != 0};
  return {codec_of(*config.window_codec), shape_of(config), rope, layer, kv_head};
}

double bytes_per_coded_token(const td_config& config) {
  if (config.window_codec == nullptr) {
    const auto dtype = static_cast<DType>(config.window_dtype);
    return static_cast<double>(cpu::RowLayout::of(shape_of(config), dtype).row_bytes);
  }
  const auto codec = block_codec_of(config, /*layer=*/0, /*kv_head=*/0);
  return static_cast<double>(codec.format().block_bytes) / codec.format().block_rows;
}

}  // namespace tandem::cli
