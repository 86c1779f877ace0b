#pragma once

#include "cpu/codec/codec_params.h"
#include "gpu/window_params.h"
#include "tandem/tandem.h"

namespace tandem {

/// What a td_codec of this version asks for; zeros become defaults as tandem.h says, and a calibration is read. Throws
/// Error(invalid_argument) for an unknown kind or projection, and what reading the calibration throws; the other values
/// are cpu::validate()'s to check.
cpu::CodecParams codec_of(const td_codec& codec);

/// The td_codec that asks for `params`, nothing left to defaults but the file of a calibration, which `params` do not
/// name.
td_codec to_td_codec(const cpu::CodecParams& params);

/// Sets what a td_window_policy asks for; zeros become defaults as tandem.h says. Throws Error(invalid_argument) for an
/// unknown kind or source; the other values are gpu::validate()'s to check.
void set_policy(const td_window_policy& policy, gpu::WindowParams& window);

/// The td_window_policy that asks for the policy of `window`, nothing left to defaults.
td_window_policy to_td_window_policy(const gpu::WindowParams& window);

}  // namespace tandem
