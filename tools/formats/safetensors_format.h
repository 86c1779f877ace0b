#pragma once

#include "runtime/base/dtype.h"

namespace tandem::tools {

/// The entry of a safetensors header that is no tensor.
inline constexpr const char* kMetadataKey = "__metadata__";

/// As headers write it; empty for formats that no tensor of a file has.
inline const char* name_in_file(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
    case DType::int8:
    case DType::k8v4:
    case DType::q8_0:
    case DType::q4_0:
      break;  // rows of the host tier, never tensors
  }
  return "";
}

}  // namespace tandem::tools
