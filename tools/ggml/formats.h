#pragma once

#include <optional>

#include "ggml.h"
#include "tandem/tandem.h"

namespace tandem::ggml {

/// What Tandem calls rows of a ggml type; none for types that it cannot read.
inline std::optional<td_dtype> row_format(ggml_type type) noexcept {
  switch (type) {
    case GGML_TYPE_F32:
      return TD_F32;
    case GGML_TYPE_F16:
      return TD_F16;
    case GGML_TYPE_BF16:
      return TD_BF16;
    case GGML_TYPE_Q8_0:
      return TD_Q8_0;
    case GGML_TYPE_Q4_0:
      return TD_Q4_0;
    default:
      return std::nullopt;
  }
}

/// Those that a KV cache has when attention reads it where it lies: llama.cpp casts a cache of f32 to f16 at every
/// step.
inline bool is_cache_format(ggml_type type) noexcept { return type != GGML_TYPE_F32 && row_format(type).has_value(); }

}  // namespace tandem::ggml
