#pragma once

#include "gpu/cuda/kernels/value_groups.cuh"

namespace tandem::gpu::cuda {

/// Attention over blocks of codec kivi, see cpu/codec/kivi.h: a Codec of coded_attention(). The codes of a channel lie
/// together, so that tokens are lanes, and scores are summed over 4 lanes once for a tile.
template <int Bits>
struct Kivi {
  static constexpr int kSubchannels = 4;     ///< channels of a load of the warp, whose lanes are (8 pieces, 4)
  static constexpr int kChannelsAtOnce = 4;  ///< of a lane: their loads are under way together

  template <int Vectors>
  struct alignas(Vectors * 4 < 16 ? 4 : 16) ChannelQueries {
    float of[Vectors];
  };

  template <int Lanes, int Vectors>
  struct Keys {
    ChannelQueries<Vectors> queries[Lanes * 8];
    GroupSide sides[kCodedWarps][2][Lanes * 8];  ///< of the groups of a warp's tile
  };

  template <int Lanes, int Vectors>
  __device__ static void load(const CodedJob& job, std::int32_t first, int count, Keys<Lanes, Vectors>& keys) {
    const int padded_k = job.format->padded_k;
    for (int i = static_cast<int>(threadIdx.x); i < Vectors * padded_k; i += kCodedThreads) {
      const int x = i / padded_k, channel = i % padded_k;
      keys.queries[channel].of[x] =
          x < count ? job.queries.q[static_cast<std::int64_t>(first + x) * padded_k + channel] : 0.f;
    }
  }

  __device__ static float key_factor(const CodedTile& /*tile*/, int /*token*/) { return 1.f; }
  __device__ static float value_factor(const CodedTile& /*tile*/, int /*token*/) { return 1.f; }
  __device__ static int element(int lane, int i) { return code_of_piece<Bits>(lane, i); }

  template <int Lanes, int Vectors>
  __device__ static void scores(const CodedTile& tile, Keys<Lanes, Vectors>& keys, TileScores<Vectors>& scores) {
    const cpu::BlockFormat& format = *tile.format;
    const int lane = static_cast<int>(threadIdx.x) % 32, piece = lane / kSubchannels, sub = lane % kSubchannels;
    auto& sides = keys.sides[threadIdx.x / 32];
    load_sides(tile, sides);
    __syncwarp();
    const int low_group = code_of_piece<Bits>(piece, 0) / format.group;
    const int high_group = code_of_piece<Bits>(piece, kPieceCodes / 2) / format.group;
    const std::byte* codes = tile.block + format.k_codes +
                             tile.first / kTileTokens * format.padded_k * format.k_stride + sub * format.k_stride +
                             piece * Bits;
    float dots[kPieceCodes * Vectors] = {};
#pragma unroll 1
    for (int first = sub; first < format.padded_k; first += kChannelsAtOnce * kSubchannels) {
      unsigned raw[kChannelsAtOnce];
#pragma unroll
      for (int u = 0; u < kChannelsAtOnce; ++u) raw[u] = load_piece<Bits>(codes + u * kSubchannels * format.k_stride);
      codes += kChannelsAtOnce * kSubchannels * format.k_stride;
#pragma unroll
      for (int u = 0; u < kChannelsAtOnce; ++u) {
        const int channel = first + u * kSubchannels;
        float k[kPieceCodes];
        unpack_piece<Bits>(raw[u], k);
        const GroupSide low = sides[low_group][channel], high = Bits == 4 ? low : sides[high_group][channel];
#pragma unroll
        for (int i = 0; i < kPieceCodes; ++i) k[i] = value_of(i < kPieceCodes / 2 ? low : high, k[i]);
        const ChannelQueries<Vectors> q = keys.queries[channel];
#pragma unroll
        for (int i = 0; i < kPieceCodes; ++i) {
#pragma unroll
          for (int x = 0; x < Vectors; ++x) dots[i * Vectors + x] = fmaf(q.of[x], k[i], dots[i * Vectors + x]);
        }
      }
    }
    reduce_transposed<kPieceCodes * Vectors, kSubchannels>(dots);
    constexpr int kOfLane = kPieceCodes / kSubchannels;
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
#pragma unroll
      for (int x = 0; x < Vectors; ++x)
        scores.of[code_of_piece<Bits>(piece, sub * kOfLane + i)][x] = dots[i * Vectors + x];
    }
  }

  template <int Lanes, int Vectors>
  __device__ static void accumulate(const CodedTile& tile, const TileScores<Vectors>& weights,
                                    float (&out)[Vectors][kPieceCodes]) {
    accumulate_value_groups<Bits, Lanes>(tile, weights, out);
  }

 private:
  /// Scales and minima of the one or two groups of tokens that a tile is in. All lanes of the warp call it.
  template <int Channels>
  __device__ static void load_sides(const CodedTile& tile, GroupSide (&sides)[2][Channels]) {
    const cpu::BlockFormat& format = *tile.format;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int g = 0; g == 0 || g * format.group < kTileTokens; ++g) {
      const auto* scales = reinterpret_cast<const unsigned short*>(tile.block + format.k_side) +
                           2 * (tile.first / format.group + g) * format.padded_k;
      for (int channel = lane; channel < format.padded_k; channel += 32)
        sides[g][channel] = group_side(scales[channel], scales[format.padded_k + channel]);
    }
  }
};

}  // namespace tandem::gpu::cuda
