#pragma once

#include "cpu/codec/nuq_layout.h"
#include "gpu/cuda/kernels/rope.cuh"

// Units of codes of codec nuq and residuals of its outliers, see cpu/codec/nuq.h.

namespace tandem::gpu::cuda {

/// The bytes that one lane has of a unit, a line each, as codes of fields. Bits above a code do not matter: tables
/// repeat their levels up to 16. Four bits, or fewer.
template <bool IsFour>
struct NuqLane {
  unsigned lines[IsFour ? 4 : 2];
  unsigned upper;  ///< of 3 bits

  /// `unit` points to the lane's first byte.
  __device__ NuqLane(const std::byte* unit, int bits) {
#pragma unroll
    for (int i = 0; i < (IsFour ? 4 : 2); ++i) lines[i] = static_cast<unsigned>(unit[i * cpu::kNuqLanes]);
    upper = bits == 3 ? static_cast<unsigned>(unit[2 * cpu::kNuqLanes]) : 0u;
  }
  /// Of a field below kNuqFields.
  [[nodiscard]] __device__ unsigned code(int field) const {
    if (IsFour) return lines[field / 2] >> field % 2 * 4 & 15u;
    return (lines[field / 4] >> field % 4 * 2 & 3u) | (upper >> field & 1u) << 2;
  }
};

/// One code of a lane, whose first byte is `unit`.
__device__ inline int nuq_code(const std::byte* unit, int bits, int field) {
  const auto line = [unit](int i) { return static_cast<unsigned>(unit[i * cpu::kNuqLanes]); };
  if (bits == 4) return static_cast<int>(line(field / 2) >> field % 2 * 4 & 15u);
  const unsigned lower = line(field / 4) >> field % 4 * 2 & 3u;
  return static_cast<int>(bits == 3 ? lower | (line(2) >> field & 1u) << 2 : lower);
}

/// Writes the bytes of a lane. `codes` has that of field i in the four bits from 4 i on.
__device__ inline void store_nuq_lane(unsigned codes, int bits, std::byte* unit) {
  unsigned lines[4] = {};
#pragma unroll
  for (int field = 0; field < cpu::kNuqFields; ++field) {
    const unsigned code = codes >> 4 * field & 15u;
    if (bits == 4) {
      lines[field / 2] |= code << field % 2 * 4;
    } else {
      lines[field / 4] |= (code & 3u) << field % 4 * 2;
      lines[2] |= code >> 2 << field;
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < bits) unit[i * cpu::kNuqLanes] = static_cast<std::byte>(lines[i]);
  }
}

__device__ inline float residual_of(unsigned word) { return __uint_as_float(word & ~cpu::kNuqPlaceMask); }
__device__ inline int place_of(unsigned word) { return static_cast<int>(word & cpu::kNuqPlaceMask); }

__device__ inline const unsigned* key_residuals(const cpu::BlockFormat& format, const std::byte* block) {
  return reinterpret_cast<const unsigned*>(block + format.k_side);
}

/// V's scales, offsets and residuals of the tokens of a block.
struct NuqValueSide {
  const float* scales;
  const float* offsets;
  const unsigned* residuals;

  __device__ NuqValueSide(const cpu::BlockFormat& format, const std::byte* block)
      : scales(reinterpret_cast<const float*>(block + format.v_side)),
        offsets(scales + cpu::kNuqBlockRows),
        residuals(reinterpret_cast<const unsigned*>(offsets + cpu::kNuqBlockRows)) {}
};

}  // namespace tandem::gpu::cuda
