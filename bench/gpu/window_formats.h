#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/codec/codec_params.h"

namespace tandem::bench {

/// Windows have a multiple of this many tokens: whole blocks of every codec.
inline constexpr std::int64_t kWindowTokensStep = 128;

/// What a window's tokens are stored as.
struct WindowFormat {
  std::string name;
  cpu::CodecParams codec;  ///< kind none: bf16 rows
  cpu::RopeParams rope;    ///< for codecs that need to know it
};

/// bf16 rows, and what CUDA kernels know of codecs, for heads of `head_dim`.
std::vector<WindowFormat> window_formats(std::int32_t head_dim);
std::vector<std::string> window_format_names();

}  // namespace tandem::bench
