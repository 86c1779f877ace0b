#pragma once

#include <string>
#include <vector>

#include "cpu/codec/codec_params.h"
#include "runtime/base/error.h"

namespace tandem::testing {

inline cpu::CodecParams kivi(int bits, int group) {
  cpu::CodecParams params;
  params.kind = cpu::CodecKind::kivi;
  params.bits = bits;
  params.group = group;
  return params;
}

inline cpu::CodecParams codec_of(cpu::CodecKind kind) {
  cpu::CodecParams params;
  params.kind = kind;
  return params;
}

/// The codecs that the same tests run over.
inline std::vector<cpu::CodecParams> codecs_under_test() {
  return {codec_of(cpu::CodecKind::int8),
          codec_of(cpu::CodecKind::fp8),
          kivi(2, 32),
          kivi(4, 32),
          kivi(4, 64),
          kivi(2, 128),
          kivi(4, 128)};
}

/// As the name of a test.
inline std::string name_of(const cpu::CodecParams& params) {
  const std::string kind = cpu::to_string(params.kind);
  return params.kind == cpu::CodecKind::kivi ? concat(kind, params.bits, "_group", params.group) : kind;
}

/// Values of head_dim_v that a group does not divide have no such codec.
inline bool allows(const cpu::CodecParams& params, int head_dim_v) {
  return params.kind != cpu::CodecKind::kivi || head_dim_v % params.group == 0;
}

}  // namespace tandem::testing
