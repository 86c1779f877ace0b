#pragma once

#include <cstdint>
#include <optional>

#include "cpu/codec/codec_params.h"
#include "gpu/window_policy/dmc_decision.h"
#include "gpu/window_policy/window_policy.h"
#include "runtime/base/dtype.h"

namespace tandem::gpu {

/// What stays in the window: the first tokens of a sequence for good, and the latest ones, of which the older may be
/// compressed. Source: attention sinks, Xiao et al., arXiv:2309.17453.
struct WindowParams {
  std::int32_t sink_tokens = 4;
  std::int32_t local_tokens = 256;      ///< at least this many, as soon as there are; up to one page more
  DType dtype = DType::f32;             ///< of the rows that no codec compresses
  cpu::CodecParams codec = {};          ///< of the local tokens but the latest
  std::int32_t residual_tokens = 128;   ///< with a codec: at least this many of the latest stay as they are
  WindowPolicy policy = Streaming{};    ///< which older tokens stay besides
  std::int32_t page_tokens = 64;        ///< with a policy that keeps older tokens: how many leave the latest at a time
  bool compact_sinks = false;           ///< attention sees the sinks right before the local tokens: sink_rotation()
  std::optional<DmcParams> merge = {};  ///< tokens are merged into entries, and what is said of tokens holds for these
  bool common_length = false;           ///< with merge: heads of a layer take the memory of the longest (DMC-C)
  bool stays_empty = false;             ///< no token will enter: rows are an engine's, and attended where they lie

  /// Memory is taken as heads need it, since they differ in length.
  [[nodiscard]] bool on_demand() const noexcept {
    return stays_empty || merge.has_value() || std::holds_alternative<Threshold>(policy);
  }

  friend bool operator==(const WindowParams&, const WindowParams&) = default;
};

/// Throws Error(invalid_argument) naming the field, the value and what is allowed.
void validate(const WindowParams& params, const AttentionShape& shape, const cpu::RopeParams& rope);

}  // namespace tandem::gpu
