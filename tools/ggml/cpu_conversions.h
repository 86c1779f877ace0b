#pragma once

#include <optional>

#include "ggml-cpu.h"

namespace tandem::ggml {

/// How the host's CPU backend rounds numbers: its kernels for this machine and libggml-base's portable ones give
/// different bits, and what a cache holds, and what a query is multiplied with, must be what the CPU backend makes of
/// it.
struct CpuConversions {
  /// From n floats to a row of the type, as the CPU backend writes it.
  ggml_from_float_t to_type;
  /// The type to which the CPU backend rounds what it multiplies with rows of the type, and its two directions;
  /// to_float is NULL for f32.
  ggml_type factor_type;
  ggml_from_float_t to_factor;
  ggml_to_float_t factor_to_float;
};

/// Those of the CPU backend that this process has loaded, wherever from: the plugin does not link it. None when there
/// is no such backend, or when it does not say. Thread-safe; the search is done once.
std::optional<CpuConversions> cpu_conversions(ggml_type type);

}  // namespace tandem::ggml
