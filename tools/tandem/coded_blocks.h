#pragma once

#include <cstdint>

#include "cpu/codec/block_codec.h"
#include "tandem/tandem.h"

namespace tandem::cli {

/// The codec that a runtime of `config` has for one head. Throws Error as td_create fails; config.window_codec must be
/// set.
cpu::BlockCodec block_codec_of(const td_config& config, std::int32_t layer, std::int32_t kv_head);

/// Bytes that one token of one KV head takes in a large window of `config`: of a coded block, or of a row where there
/// is no codec. Throws likewise.
double bytes_per_coded_token(const td_config& config);

}  // namespace tandem::cli
