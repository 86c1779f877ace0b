#include "cpu/codec/codec_params.h"

#include "cpu/codec/nuq_calibration.h"
#include "runtime/base/error.h"

namespace tandem::cpu {
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
    case CodecKind::qjl:
      fail(ErrorCode::unsupported, "codec kind is ", to_string(params.kind), ", which this build has no code for");
  }
  fail(ErrorCode::invalid_argument, "codec kind is ", static_cast<int>(params.kind), "; allowed: 0 to ",
       kNumCodecKinds - 1);
}

}  // namespace tandem::cpu
