#pragma once

#include <cstdint>
#include <functional>

#include "tools/probes/gpu/figures.h"

namespace tandem::probes {

/// How long and how large.
struct GpuPlan {
  std::int64_t repetitions = 60;    ///< of copies and reads
  std::int64_t round_trips = 5000;  ///< of each hand-off, and launches
  std::int64_t device_bytes = std::int64_t{1} << 30;
  std::int64_t pinned_bytes = std::int64_t{1} << 28;  ///< of the largest copy between host and device

  static GpuPlan quick() noexcept { return {15, 500, std::int64_t{1} << 28, std::int64_t{1} << 26}; }
};

/// CUDA devices of this machine that this build can use; 0 without a driver or in a build without CUDA.
int count_gpus() noexcept;

/// What one device does, whatever attention asks of it: {"emulated", "device", "bandwidth", "launches", "hand_offs"},
/// which plan::gpu_from_measurement() reads. Calls `tick` now and then, which may throw. Throws
/// Error(invalid_argument | unsupported) for a device that there is not, Error(out_of_memory | device_lost).
Json measure_gpu(int ordinal, const GpuPlan& plan, const std::function<void()>& tick);

}  // namespace tandem::probes
