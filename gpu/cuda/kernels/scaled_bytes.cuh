#pragma once

#include "gpu/cuda/kernels/coded_tile.cuh"
#include "gpu/cuda/kernels/elements.cuh"

// Attention over blocks of codecs int8 and fp8, see cpu/codec/scaled_bytes.h.

namespace tandem::gpu::cuda {

/// What a byte of codec int8 stands for before its token's scale.
struct Int8Coding {
  /// Of the 4 bytes of a word. A byte in the fraction of 2^23 costs no conversion, of which a processor does few.
  __device__ static void unpack(unsigned word, float* x) {
    constexpr float kOffset = 8388608.f + 128.f;
    word ^= 0x80808080u;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) x[i] = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7540u + i)) - kOffset;
  }
};

/// The same of codec fp8.
struct Fp8Coding {
  /// A shift that keeps the sign leaves the exponent 120 too low, as in fp8_to_float().
  __device__ static void unpack(unsigned word, float* x) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto shifted = static_cast<unsigned>(static_cast<int>(word << (24 - 8 * i)) >> 4);
      x[i] = __uint_as_float(shifted & 0x87f00000u) * __uint_as_float((127u + 120u) << 23);
    }
  }
};

/// Codec of coded_attention(). `Lanes` lanes share a row, 8 elements each.
template <typename Coding>
struct ScaledBytes {
  static constexpr bool kHasCode = true;
  static constexpr int kRowsAtOnce = 4;  ///< of each group of lanes: their loads are under way together

  template <int Lanes, int Vectors>
  struct Keys {
    float4 queries[Vectors][2 * Lanes];
  };

  template <int Lanes, int Vectors>
  __device__ static void load(const CodedJob& job, std::int32_t first, int count, Keys<Lanes, Vectors>& keys) {
    const int padded_k = job.format->padded_k;
    for (int i = static_cast<int>(threadIdx.x); i < Vectors * 2 * Lanes; i += kCodedThreads) {
      const int x = i / (2 * Lanes), quad = i % (2 * Lanes);
      const float* vector = job.queries.q + static_cast<std::int64_t>(first + x) * padded_k;
      keys.queries[x][quad] =
          x < count && quad * 4 < padded_k ? reinterpret_cast<const float4*>(vector)[quad] : float4{0.f, 0.f, 0.f, 0.f};
    }
  }

  __device__ static float key_factor(const CodedTile& tile, int token) {
    return side(tile, tile.format->k_side, token);
  }
  __device__ static float value_factor(const CodedTile& tile, int token) {
    return side(tile, tile.format->v_side, token);
  }

  __device__ static int element(int lane, int i) { return lane * 8 + i; }

  template <int Lanes, int Vectors>
  __device__ static void scores(const CodedTile& tile, Keys<Lanes, Vectors>& keys, TileScores<Vectors>& scores) {
    constexpr int kDots = kRowsAtOnce * Vectors, kOfLane = kDots > Lanes ? kDots / Lanes : 1;
    const int lane = static_cast<int>(threadIdx.x) % Lanes;
#pragma unroll 1
    for (int row = 0; row < kTileTokens; row += kRowsAtOnce * 32 / Lanes) {
      float k[kRowsAtOnce][8], dots[kDots];
      load_rows<Lanes>(tile, tile.format->k_codes, tile.format->padded_k, row, k);
#pragma unroll
      for (int x = 0; x < Vectors; ++x) {
        const float4 low = keys.queries[x][2 * lane], high = keys.queries[x][2 * lane + 1];
#pragma unroll
        for (int u = 0; u < kRowsAtOnce; ++u) dots[u * Vectors + x] = dot(low, high, k[u]);
      }
      reduce_transposed<kDots, Lanes>(dots);
      const int index = reduced_index<kDots, Lanes>();
#pragma unroll
      for (int i = 0; i < kOfLane; ++i)
        scores.of[token_of<Lanes>(row, (index + i) / Vectors)][(index + i) % Vectors] = dots[i];
    }
  }

  template <int Lanes, int Vectors>
  __device__ static void accumulate(const CodedTile& tile, const TileScores<Vectors>& weights,
                                    float (&out)[Vectors][8]) {
#pragma unroll 1
    for (int row = 0; row < kTileTokens; row += kRowsAtOnce * 32 / Lanes) {
      float v[kRowsAtOnce][8];
      load_rows<Lanes>(tile, tile.format->v_codes, tile.format->padded_v, row, v);
#pragma unroll
      for (int u = 0; u < kRowsAtOnce; ++u) {
        const float(&of_token)[Vectors] = weights.of[token_of<Lanes>(row, u)];
#pragma unroll
        for (int x = 0; x < Vectors; ++x) {
#pragma unroll
          for (int i = 0; i < 8; ++i) out[x][i] = fmaf(of_token[x], v[u][i], out[x][i]);
        }
      }
    }
  }

 private:
  __device__ static float side(const CodedTile& tile, std::int64_t offset, int token) {
    return reinterpret_cast<const float*>(tile.block + offset)[tile.first + token];
  }

  /// The token of a tile that the group of lanes has as its number u from `row` on.
  template <int Lanes>
  __device__ static int token_of(int row, int u) {
    return row + u * (32 / Lanes) + static_cast<int>(threadIdx.x) % 32 / Lanes;
  }

  template <int Lanes>
  __device__ static void load_rows(const CodedTile& tile, std::int64_t offset, int padded_dim, int row,
                                   float (&x)[kRowsAtOnce][8]) {
    const int lane = static_cast<int>(threadIdx.x) % Lanes;
    uint2 raw[kRowsAtOnce];
#pragma unroll
    for (int u = 0; u < kRowsAtOnce; ++u) {
      const std::byte* source = tile.block + offset + (tile.first + token_of<Lanes>(row, u)) * padded_dim + lane * 8;
      raw[u] = lane * 8 < padded_dim ? *reinterpret_cast<const uint2*>(source) : uint2{0, 0};
    }
#pragma unroll
    for (int u = 0; u < kRowsAtOnce; ++u) {
      Coding::unpack(raw[u].x, x[u]);
      Coding::unpack(raw[u].y, x[u] + 4);
    }
  }

  __device__ static float dot(const float4& low, const float4& high, const float (&k)[8]) { return dot8(low, high, k); }
};

}  // namespace tandem::gpu::cuda
