#include "cpu/codec/block_codec.h"

#include "cpu/codec/kivi.h"
#include "cpu/codec/nuq.h"
#include "cpu/codec/qjl.h"
#include "cpu/codec/scaled_bytes.h"

namespace tandem::cpu {

BlockCodec::BlockCodec(const CodecParams& params, const AttentionShape& shape, const RopeParams& rope,
                       std::int32_t layer, std::int32_t head) {
  validate(params, shape, rope);
  switch (params.kind) {
    case CodecKind::none:
      break;
    case CodecKind::int8:
    case CodecKind::fp8:
      format_ = scaled_bytes_format(params.kind, shape);
      break;
    case CodecKind::kivi:
      format_ = kivi_format(params, shape);
      break;
    case CodecKind::qjl:
      format_ = qjl_format(params, shape);
      tables_ = set_qjl_projection(params, format_);
      break;
    case CodecKind::nuq: {
      const auto tables = nuq_tables(params.calibration, layer, head, params.bits);
      format_ = nuq_format(*tables, params.bits, params.calibration->shape().key_outliers());
      tables_ = tables;
      break;
    }
  }
}

void BlockCodec::encode(const float* k, const float* v, std::int64_t first_position, std::byte* block) const {
  switch (format_.kind) {
    case CodecKind::none:
      break;
    case CodecKind::int8:
    case CodecKind::fp8:
      return encode_scaled_bytes(format_, k, v, block);
    case CodecKind::kivi:
      return encode_kivi(format_, k, v, block);
    case CodecKind::qjl:
      return encode_qjl(format_, k, v, block);
    case CodecKind::nuq:
      return encode_nuq(format_, k, v, first_position, block);
  }
}

void BlockCodec::decode(const std::byte* block, std::int64_t first_position, int first, int count, float* k,
                        float* v) const {
  switch (format_.kind) {
    case CodecKind::none:
      break;
    case CodecKind::int8:
    case CodecKind::fp8:
      return decode_scaled_bytes(format_, block, first, count, k, v);
    case CodecKind::kivi:
      return decode_kivi(format_, block, first, count, k, v);
    case CodecKind::qjl:
      return decode_qjl(format_, block, first, count, k, v);
    case CodecKind::nuq:
      return decode_nuq(format_, block, first_position, first, count, k, v);
  }
}

}  // namespace tandem::cpu
