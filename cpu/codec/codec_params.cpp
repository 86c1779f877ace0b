#include "cpu/codec/codec_params.h"

#include "cpu/codec/nuq_calibration.h"
#include "cpu/codec/qjl.h"
#include "runtime/base/error.h"

namespace tandem::cpu {
namespace {

void validate_kivi(const CodecParams& params, const AttentionShape& shape) {
  TANDEM_CHECK(params.bits == 2 || params.bits == 4, invalid_argument, "codec bits of kivi is ", params.bits,
               "; allowed: 2 or 4");
  TANDEM_CHECK(params.group == 32 || params.group == 64 || params.group == 128, invalid_argument,
               "codec group of kivi is ", params.group, "; allowed: 32, 64 or 128");
  TANDEM_CHECK(shape.head_dim_v % params.group == 0, invalid_argument, "codec group of kivi is ", params.group,
               "; allowed: divisors of head_dim_v, which is ", shape.head_dim_v);
}

}  // namespace

const char* to_string(CodecKind kind) noexcept {
  switch (kind) {
    case CodecKind::none:
      return "none";
    case CodecKind::int8:
      return "int8";
    case CodecKind::fp8:
      return "fp8";
    case CodecKind::kivi:
      return "kivi";
    case CodecKind::qjl:
      return "qjl";
    case CodecKind::nuq:
      return "nuq";
  }
  return "unknown";
}

void validate(const CodecParams& params, const AttentionShape& shape, const RopeParams& rope) {
  switch (params.kind) {
    case CodecKind::none:
    case CodecKind::int8:
    case CodecKind::fp8:
      return;
    case CodecKind::nuq:
      TANDEM_CHECK(params.calibration != nullptr, invalid_argument,
                   "calibration is missing; codec nuq needs that of the model, which tandem calibrate writes");
      return check_fits(*params.calibration, shape, rope, params.bits);
    case CodecKind::kivi:
      return validate_kivi(params, shape);
    case CodecKind::qjl:
      return validate_qjl(params, shape);
  }
  fail(ErrorCode::invalid_argument, "codec kind is ", static_cast<int>(params.kind), "; allowed: 0 to ",
       kNumCodecKinds - 1);
}

}  // namespace tandem::cpu
