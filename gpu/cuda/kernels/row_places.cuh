#pragma once

#include "gpu/cuda/kernels/work.cuh"

namespace tandem::gpu::cuda {

struct RowPlace {
  const std::byte* row;
  std::int64_t position;
};

/// Where row `index` of a job lies.
__device__ inline RowPlace place_of(const RowJob& job, std::int32_t index) {
  if (index < job.num_sinks) {
    return {job.rows[index], index};
  }
  index -= job.num_sinks;
  if (index < job.num_recent) {
    std::int32_t slot = job.first_recent_slot + index;
    if (slot >= job.ring) slot -= job.ring;
    return {job.rows[job.ring_begin + slot], job.first_recent + index};
  }
  index -= job.num_recent;
  return {job.kept_rows[job.kept_slots[index]], job.kept_positions[index]};
}

}  // namespace tandem::gpu::cuda
