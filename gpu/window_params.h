#pragma once

#include <cstdint>

#include "cpu/codec/codec_params.h"
#include "runtime/base/dtype.h"

namespace tandem::gpu {

/// What stays in the window: the first tokens of a sequence for good, and the latest ones, of which the older may be
/// compressed. Source: attention sinks, Xiao et al., arXiv:2309.17453.
struct WindowParams {
  std::int32_t sink_tokens = 4;
  std::int32_t local_tokens = 256;     ///< at least this many, as soon as there are; up to one page more
  DType dtype = DType::f32;            ///< of the rows that no codec compresses
  cpu::CodecParams codec = {};         ///< of the local tokens but the latest
  std::int32_t residual_tokens = 128;  ///< with a codec: at least this many of the latest stay as they are

  friend bool operator==(const WindowParams&, const WindowParams&) = default;
};

/// Throws Error(invalid_argument) naming the field, the value and what is allowed.
void validate(const WindowParams& params, const AttentionShape& shape, const cpu::RopeParams& rope);

}  // namespace tandem::gpu
