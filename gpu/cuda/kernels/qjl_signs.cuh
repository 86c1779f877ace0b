#pragma once

#include "gpu/cuda/kernels/shared_softmax.cuh"

// Sums of a query's sketch with the signs that a key's bits say, four columns at a time: of the sixteen signed sums of
// four columns, eight are the negatives of the others, so that a table of eight, looked up by the lower three bits, and
// a sign do. Eight entries of four vectors are as wide as shared memory: lookups of a warp meet no bank conflict.

namespace tandem::gpu::cuda {

inline constexpr int kWarpColumns = 64;  ///< of a sketch, that a warp has tables of
inline constexpr int kWarpNibbles = kWarpColumns / 4;

/// Sums of columns 0 to 3 of each nibble: entry e has the signs of e's bits for the first three, and minus the fourth.
template <int Vectors>
struct SignTables {
  Floats<Vectors> entries[kWarpNibbles][9];  // nine: else a warp that writes tables would meet conflicts
};

/// Makes a warp's tables of columns 2 lane and 2 lane + 1 of each lane. By the whole warp, which then meets.
template <int Vectors>
__device__ inline void make_sign_tables(const float2 (&columns)[Vectors], SignTables<Vectors>& tables) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool upper = lane % 2 != 0;  // two lanes have a nibble's columns; each makes the entries of one value of bit 2
  Floats<Vectors> entries[4];
#pragma unroll
  for (int v = 0; v < Vectors; ++v) {
    const float x = columns[v].x, y = columns[v].y;
    const float other_x = __shfl_xor_sync(kWholeWarp, x, 1, 32), other_y = __shfl_xor_sync(kWholeWarp, y, 1, 32);
    const float first = upper ? other_x : x, second = upper ? other_y : y;
    const float rest = upper ? x - y : -other_x - other_y;
    entries[0].x[v] = rest - first - second;
    entries[1].x[v] = rest + first - second;
    entries[2].x[v] = rest - first + second;
    entries[3].x[v] = rest + first + second;
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) tables.entries[lane / 2][(upper ? 4 : 0) + e] = entries[e];
  __syncwarp();
}

/// Adds the signed columns of word `half` of a warp's two.
template <int Vectors>
__device__ inline void add_signed(const SignTables<Vectors>& tables, int half, unsigned word, float (&sums)[Vectors]) {
  const unsigned fourth = word & 0x88888888u;
  const unsigned entries =
      word ^ (fourth - (fourth >> 3));  // the lower three bits, all turned over where the fourth is
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const Floats<Vectors> entry = tables.entries[half * 8 + n][entries >> 4 * n & 7u];
    const float sign = __uint_as_float(0x3f800000u | (fourth << (28 - 4 * n) & 0x80000000u));
#pragma unroll
    for (int v = 0; v < Vectors; ++v) sums[v] = fmaf(sign, entry.x[v], sums[v]);
  }
}

}  // namespace tandem::gpu::cuda
