#pragma once

#include <cstdint>

namespace tandem::cpu {

/// How the older local tokens of a window are compressed, a block at a time. The values are those of td_codec_kind.
enum class CodecKind : std::int32_t {
  none = 0,  ///< not at all
  int8 = 1,  ///< 8-bit integers with a scale per token, for K and for V
  fp8 = 2,   ///< e4m3 with a scale per token, for K and for V
  kivi = 3,  ///< 2 or 4 bits: K in groups of tokens per channel, V in groups of elements per token; arXiv:2402.02750
  qjl = 4,   ///< signs of a random projection of K, 2-bit V; arXiv:2406.03482
  nuq = 5,   ///< calibrated non-uniform 2 to 4 bits of pre-RoPE K and of V, outliers apart; KVQuant, arXiv:2401.18079
};
inline constexpr int kNumCodecKinds = 6;

const char* to_string(CodecKind kind) noexcept;

}  // namespace tandem::cpu
