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

inline cpu::CodecParams qjl(int sketch_bits, int outliers, int outlier_bits = 0, bool orthogonal = true,
                            std::uint64_t seed = 1) {
  cpu::CodecParams params;
  params.kind = cpu::CodecKind::qjl;
  params.sketch_bits = sketch_bits;
  params.outlier_bits = outlier_bits;
  params.outliers = outliers;
  params.orthogonal = orthogonal;
  params.seed = seed;
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
          kivi(4, 128),
          qjl(256, 0),
          qjl(192, 8, 64)};
}

/// As the name of a test.
inline std::string name_of(const cpu::CodecParams& params) {
  const std::string kind = cpu::to_string(params.kind);
  if (params.kind == cpu::CodecKind::kivi) return concat(kind, params.bits, "_group", params.group);
  if (params.kind == cpu::CodecKind::qjl) return concat(kind, params.sketch_bits, "_outliers", params.outliers);
  return kind;
}

/// Values of head_dim_v that a group does not divide have no such codec, nor have keys of few channels that are mostly
/// outliers.
inline bool allows(const cpu::CodecParams& params, int head_dim_k, int head_dim_v) {
  if (params.kind == cpu::CodecKind::kivi) return head_dim_v % params.group == 0;
  return params.kind != cpu::CodecKind::qjl || (head_dim_v % 32 == 0 && params.outliers <= head_dim_k / 2);
}

}  // namespace tandem::testing
