#pragma once

#include "gpu/cuda/kernels/coded_tile.cuh"
#include "gpu/cuda/kernels/packed_codes.cuh"

namespace tandem::gpu::cuda {

inline constexpr int kValueTokens = 4;  ///< consecutive ones whose sides a lane loads at once

/// Sides of kValueTokens consecutive rows of a block.
struct ValueSides {
  uint2 scales;
  uint2 minima;

  __device__ GroupSide operator[](int u) const {
    const unsigned shift = u % 2 == 0 ? 0 : 16;
    return group_side((u < 2 ? scales.x : scales.y) >> shift & 0xffffu,
                      (u < 2 ? minima.x : minima.y) >> shift & 0xffffu);
  }
};

/// Of group `group` of elements and the rows from `row` on; zeros beyond the last group.
__device__ inline ValueSides load_value_sides(const CodedTile& tile, int group, int row) {
  const cpu::BlockFormat& format = *tile.format;
  if (group * format.group >= format.dim_v) return {};
  const std::byte* scales = tile.block + format.v_side + 2 * (2 * group * format.block_rows + row);
  return {*reinterpret_cast<const uint2*>(scales), *reinterpret_cast<const uint2*>(scales + 2 * format.block_rows)};
}

/// Adds the weighted values of a tile whose V is in groups (cpu/codec/value_groups.h), by one warp: `Lanes` lanes share
/// a token, a piece of codes each, and out[x][i] of a lane is a part of element code_of_piece(lane % Lanes, i).
template <int Bits, int Lanes, int Vectors>
__device__ void accumulate_value_groups(const CodedTile& tile, const TileScores<Vectors>& weights,
                                        float (&out)[Vectors][kPieceCodes]) {
  const cpu::BlockFormat& format = *tile.format;
  const int piece = static_cast<int>(threadIdx.x) % Lanes, of_warp = static_cast<int>(threadIdx.x) % 32 / Lanes;
  const bool has_codes = piece * Bits < format.v_stride;
  const int low_group = code_of_piece<Bits>(piece, 0) / format.group;
  const int high_group = code_of_piece<Bits>(piece, kPieceCodes / 2) / format.group;
#pragma unroll 1
  for (int first = of_warp * kValueTokens; first < kTileTokens; first += 32 / Lanes * kValueTokens) {
    const std::byte* codes = tile.block + format.v_codes + (tile.first + first) * format.v_stride + piece * Bits;
    unsigned raw[kValueTokens];
#pragma unroll
    for (int u = 0; u < kValueTokens; ++u) raw[u] = has_codes ? load_piece<Bits>(codes + u * format.v_stride) : 0u;
    const ValueSides low = load_value_sides(tile, low_group, tile.first + first);
    const ValueSides high = Bits == 4 ? low : load_value_sides(tile, high_group, tile.first + first);
#pragma unroll
    for (int u = 0; u < kValueTokens; ++u) {
      float v[kPieceCodes];
      unpack_piece<Bits>(raw[u], v);
      const GroupSide sides[2] = {low[u], high[u]};
#pragma unroll
      for (int i = 0; i < kPieceCodes; ++i) v[i] = value_of(sides[i / (kPieceCodes / 2)], v[i]);
#pragma unroll
      for (int x = 0; x < Vectors; ++x) {
        const float weight = weights.of[first + u][x];
#pragma unroll
        for (int i = 0; i < kPieceCodes; ++i) out[x][i] = fmaf(weight, v[i], out[x][i]);
      }
    }
  }
}

}  // namespace tandem::gpu::cuda
