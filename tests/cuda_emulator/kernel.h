#pragma once
#include <cstdint>
#include <functional>

#include "cuda_emulator/emulator.h"

namespace emulator {

/// A launch that has passed CUDA's checks.
struct Grid {
  dim3 size;
  dim3 block;
  std::size_t dynamic_bytes = 0;
  int device = 0;
};

/// Runs all blocks on the calling thread of the host, one after the other; throws Fault, or DeviceFailure where the
/// device is lost meanwhile.
void run_grid(const Grid& grid, const Config& config, const std::function<void()>& thread);

}  // namespace emulator
