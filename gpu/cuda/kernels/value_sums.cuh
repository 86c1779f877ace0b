#pragma once

#include "gpu/cuda/kernels/shared_softmax.cuh"

// V in groups of 32 elements of 2 bits, as cpu/codec/value_groups.h lays it out, weighted and summed.

namespace tandem::gpu::cuda {

inline constexpr int kGroupElements = 32;
inline constexpr int kMostGroups = 8;  ///< of 256 elements

/// What scales and minima of uniform_group.h stand for.
__device__ inline float group_scale(unsigned bits) { return __uint_as_float(bits << 15); }
__device__ inline float group_minimum(unsigned bits) { return __uint_as_float(bits << 16); }

/// Where a block's V lies, from its first byte of codes on.
struct ValueGroups {
  int stride;  ///< bytes of codes of a token: 16 for each 64 elements
  int groups;
  int bytes;

  __device__ explicit ValueGroups(const cpu::BlockFormat& format)
      : stride(static_cast<int>(format.v_stride)),
        groups(format.dim_v / kGroupElements),
        bytes(kTileTokens * (stride + 4 * groups)) {}
};

/// Weights of a tile's tokens times four times the scales of their groups.
template <int Vectors>
struct GroupWeights {
  Floats<Vectors> of[kMostGroups][kTileTokens + 1];  // one more, so that two groups are not in the same banks
};

/// Sums over V of a block of Threads threads, each with the four elements of one byte of some of the rows.
///
/// An element is minimum + code * scale = (minimum + 1.5 scale) + ((1 + code / 4) - 1.375) 4 scale: a code is two bits
/// of the fraction of a number in [1, 2), without a conversion, and what is summed has either sign, so that sums stay
/// as small as they can. The first part is the same for a group, and summed apart.
template <int Vectors, int Threads>
struct ValueSums {
  static constexpr int kWarps = Threads / 32;
  static constexpr int kGroupsOfWarp = kMostGroups / kWarps;
  float elements[4][Vectors];             ///< 16 apart
  float offsets[kGroupsOfWarp][Vectors];  ///< of the groups of the thread's warp, over the lane's tokens

  __device__ void clear() {
#pragma unroll
    for (int v = 0; v < Vectors; ++v) {
#pragma unroll
      for (int e = 0; e < 4; ++e) elements[e][v] = 0.f;
#pragma unroll
      for (int g = 0; g < kGroupsOfWarp; ++g) offsets[g][v] = 0.f;
    }
  }

  /// Folds scales into a tile's weights, and adds the offsets. By all threads; a barrier comes after it.
  template <int Warps>
  __device__ void fold(const ValueGroups& values, const std::byte* block, const SharedSoftmax<Vectors, Warps>& softmax,
                       GroupWeights<Vectors>& folded) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const auto* sides = reinterpret_cast<const std::uint16_t*>(block + kTileTokens * values.stride);
#pragma unroll
    for (int i = 0; i < kGroupsOfWarp; ++i) {
      const int group = warp + i * kWarps;
      if (group >= values.groups) break;
#pragma unroll
      for (int v = 0; v < Vectors; ++v) offsets[i][v] *= softmax.kept[v];
#pragma unroll
      for (int token = lane; token < kTileTokens; token += 32) {
        const float scale = group_scale(sides[2 * group * kTileTokens + token]);
        const float offset = fmaf(1.5f, scale, group_minimum(sides[(2 * group + 1) * kTileTokens + token]));
        const Floats<Vectors> weight = softmax.weights[token];
        Floats<Vectors> scaled;
#pragma unroll
        for (int v = 0; v < Vectors; ++v) {
          scaled.x[v] = weight.x[v] * (4.f * scale);
          offsets[i][v] = fmaf(weight.x[v], offset, offsets[i][v]);
        }
        folded.of[group][token] = scaled;
      }
    }
  }

  /// Threads that share a row; those from values.stride on have no byte of it.
  __device__ static int columns(const ValueGroups& values) {
    return values.stride <= 16 ? 16 : values.stride <= 32 ? 32 : 64;
  }

  /// Adds a tile. By all threads.
  template <int Warps>
  __device__ void add(const ValueGroups& values, const std::byte* block, const SharedSoftmax<Vectors, Warps>& softmax,
                      const GroupWeights<Vectors>& folded) {
    const int width = columns(values), column = static_cast<int>(threadIdx.x) % width;
    if (column >= values.stride) return;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
#pragma unroll
      for (int v = 0; v < Vectors; ++v) elements[e][v] *= softmax.kept[v];
    }
    // The last 16 bytes may hold one group; its two upper elements are then nobody's.
    const int lower = column / 16 * 2, upper = min(lower + 1, values.groups - 1);
    const int rows = kTileTokens * width / Threads, first = static_cast<int>(threadIdx.x) / width * rows;
#pragma unroll 4
    for (int row = first; row < first + rows; ++row) {
      const auto codes = static_cast<unsigned>(block[row * values.stride + column]);
      const Floats<Vectors> weights[2] = {folded.of[lower][row], folded.of[upper][row]};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float value = __uint_as_float(0x3f800000u | (codes << (21 - 2 * e) & 0x600000u)) - 1.375f;
#pragma unroll
        for (int v = 0; v < Vectors; ++v) elements[e][v] = fmaf(weights[e / 2].x[v], value, elements[e][v]);
      }
    }
  }

  /// Joins what threads have of one vector, in `sums` (4 * Threads) and `group_sums` (kMostGroups), and writes its
  /// (dim_v), times `factor`, where `out` is not nullptr. By all threads.
  __device__ void write(const ValueGroups& values, int v, float factor, float* sums, float* group_sums,
                        float* out) const {
    const int thread = static_cast<int>(threadIdx.x), width = columns(values), dim_v = values.groups * kGroupElements;
    __syncthreads();
#pragma unroll
    for (int e = 0; e < 4; ++e)
      sums[thread / width * 4 * width + thread % width / 16 * 64 + e * 16 + thread % 16] = elements[e][v];
#pragma unroll
    for (int i = 0; i < kGroupsOfWarp; ++i) {
      float offset = offsets[i][v];
#pragma unroll
      for (int delta = 16; delta > 0; delta /= 2) offset += __shfl_xor_sync(kWholeWarp, offset, delta, 32);
      if (thread % 32 == 0) group_sums[thread / 32 + i * kWarps] = offset;
    }
    __syncthreads();
    for (int d = thread; d < dim_v && out != nullptr; d += Threads) {
      float sum = group_sums[d / kGroupElements];
      for (int part = 0; part < Threads / width; ++part) sum += sums[part * 4 * width + d];
      out[d] = sum * factor;
    }
  }
};

}  // namespace tandem::gpu::cuda
