#include "runtime/window_codec.h"

#include "runtime/base/error.h"

namespace tandem {

cpu::CodecParams codec_of(const td_codec& codec) {
  TANDEM_CHECK(codec.kind >= 0 && codec.kind < cpu::kNumCodecKinds, invalid_argument, "window_codec.kind is ",
               codec.kind, "; allowed: 0 (none), 1 (int8), 2 (fp8), 3 (kivi), 4 (qjl), 5 (nuq)");
  TANDEM_CHECK(codec.projection == TD_PROJECTION_ORTHOGONAL || codec.projection == TD_PROJECTION_GAUSSIAN,
               invalid_argument, "window_codec.projection is ", codec.projection,
               "; allowed: 0 (orthogonal), 1 (gaussian)");
  cpu::CodecParams params;
  params.kind = static_cast<cpu::CodecKind>(codec.kind);
  if (codec.bits != 0) params.bits = codec.bits;
  if (codec.group != 0) params.group = codec.group;
  if (codec.sketch_bits != 0) params.sketch_bits = codec.sketch_bits;
  params.outlier_bits = codec.outlier_bits;
  if (codec.outliers != 0) params.outliers = codec.outliers == -1 ? 0 : codec.outliers;
  params.orthogonal = codec.projection == TD_PROJECTION_ORTHOGONAL;
  if (codec.seed != 0) params.seed = codec.seed;
  return params;
}

td_codec to_td_codec(const cpu::CodecParams& params) {
  td_codec codec;
  TD_INIT(codec);
  codec.kind = static_cast<std::int32_t>(params.kind);
  codec.bits = params.bits;
  codec.group = params.group;
  codec.sketch_bits = params.sketch_bits;
  codec.outlier_bits = params.outlier_bits;
  codec.outliers = params.outliers == 0 ? -1 : params.outliers;
  codec.projection = params.orthogonal ? TD_PROJECTION_ORTHOGONAL : TD_PROJECTION_GAUSSIAN;
  codec.seed = params.seed;
  return codec;
}

}  // namespace tandem
