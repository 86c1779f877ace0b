#pragma once

#include <cstddef>

#include "runtime/base/dtype.h"

namespace tandem::cpu {

/// One kernel for each format of host rows.
template <typename Kernel>
struct ByRowFormat {
  Kernel kernels[kNumRowFormats];

  constexpr Kernel operator[](DType format) const noexcept { return kernels[static_cast<std::size_t>(format)]; }
};

}  // namespace tandem::cpu
