#pragma once

#include "gpu/cuda/kernels/packed_codes.cuh"
#include "gpu/cuda/kernels/work.cuh"

// Blocks of codec kivi from rows and back: the bytes and values of cpu/codec/kivi.h.

namespace tandem::gpu::cuda {

inline constexpr int kKiviThreads = 128;
inline constexpr int kKiviSlices = 8;  ///< blocks of threads for one coded block

/// Scale and minimum as stored.
struct StoredSide {
  unsigned short scale;
  unsigned short minimum;
};

/// uniform_group() of cpu/codec/uniform_group.h.
__device__ inline StoredSide uniform_side(float least, float largest, int bits) {
  const unsigned of_least = __float_as_uint(least);
  const bool away_from_zero = (of_least >> 31) != 0 && (of_least & 0xffffu) != 0;
  const unsigned minimum = (of_least >> 16) + (away_from_zero ? 1u : 0u);
  const double range = static_cast<double>(largest) - static_cast<double>(__uint_as_float(minimum << 16));
  const double exact = range / static_cast<double>((1 << bits) - 1);
  const auto rounded = static_cast<float>(exact);
  const unsigned scale = __float_as_uint(rounded) + (static_cast<double>(rounded) < exact ? 1u : 0u);
  return {static_cast<unsigned short>((scale + 0x7fffu) >> 15), static_cast<unsigned short>(minimum)};
}

/// uniform_code() of cpu/codec/uniform_group.h.
__device__ inline unsigned uniform_code(const StoredSide& stored, int bits, float x) {
  if (stored.scale == 0) return 0;
  const GroupSide side = group_side(stored.scale, stored.minimum);
  const double steps = (static_cast<double>(x) - static_cast<double>(side.minimum)) / static_cast<double>(side.scale);
  return static_cast<unsigned>(rint(fmin(fmax(steps, 0.0), static_cast<double>((1 << bits) - 1))));
}

/// Elements of one channel or of one token, `stride` apart, in groups.
struct CodeLine {
  const float* x;
  int stride;
  int count;
  int group;

  /// In the order of the host, which decides on the sign of a zero.
  __device__ StoredSide side_of(int g, int bits) const {
    const float* element = x + static_cast<std::ptrdiff_t>(g) * group * stride;
    float least = *element, largest = least;
    for (int i = 1; i < group; ++i) {
      element += stride;
      least = *element < least ? *element : least;
      largest = *element > largest ? *element : largest;
    }
    return uniform_side(least, largest, bits);
  }
};

/// Encodes elements [first, first + kChunkCodes<Bits>) of a line to 16 bytes, by one thread, and writes the sides of
/// groups that begin there: scales[g * side_stride], and minima `to_minimum` further on.
template <int Bits>
__device__ void encode_chunk(const CodeLine& line, int first, std::byte* codes, unsigned short* scales,
                             std::ptrdiff_t side_stride, std::ptrdiff_t to_minimum) {
  constexpr int kVectors = 8 / Bits, kHalf = kChunkCodes<Bits> / 2;
  StoredSide sides[2] = {};
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int begin = first + h * kHalf, g = begin / line.group;
    if (begin >= line.count) continue;
    sides[h] = h == 1 && g == first / line.group ? sides[0] : line.side_of(g, Bits);
    if (begin % line.group != 0) continue;
    scales[g * side_stride] = sides[h].scale;
    scales[g * side_stride + to_minimum] = sides[h].minimum;
  }
#pragma unroll 1
  for (int w = 0; w < 4; ++w) {
    unsigned word = 0;
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
#pragma unroll 1
      for (int byte = 0; byte < 4; ++byte) {
        const int i = first + 16 * j + 4 * w + byte;
        if (i < line.count)
          word |= uniform_code(sides[2 * j / kVectors], Bits, line.x[static_cast<std::ptrdiff_t>(i) * line.stride])
                  << (8 * byte + Bits * j);
      }
    }
    reinterpret_cast<unsigned*>(codes)[w] = word;
  }
}

/// Block of threads b encodes chunks of item b / kKiviSlices.
template <int Bits>
__global__ void __launch_bounds__(kKiviThreads)
    encode_groups(const cpu::BlockFormat format, const EncodeItem* __restrict__ items) {
  constexpr int kChunk = kChunkCodes<Bits>, kSlab = 64, kThreads = kKiviSlices * kKiviThreads;
  const EncodeItem item = items[blockIdx.x / kKiviSlices];
  const int thread = static_cast<int>(blockIdx.x % kKiviSlices) * kKiviThreads + static_cast<int>(threadIdx.x);
  for (int i = thread; i < format.block_rows / kChunk * format.padded_k; i += kThreads) {
    const int channel = i % format.padded_k, first = i / format.padded_k * kChunk;
    std::byte* codes = item.block + format.k_codes + (first / kSlab * format.padded_k + channel) * format.k_stride +
                       first % kSlab / kChunk * 16;
    encode_chunk<Bits>({item.k + channel, format.padded_k, format.block_rows, format.group}, first, codes,
                       reinterpret_cast<unsigned short*>(item.block + format.k_side) + channel, 2 * format.padded_k,
                       format.padded_k);
  }
  const int chunks_v = static_cast<int>(format.v_stride / 16);
  for (int i = thread; i < format.block_rows * chunks_v; i += kThreads) {
    const int row = i / chunks_v, first = i % chunks_v * kChunk;
    encode_chunk<Bits>({item.v + row * format.padded_v, 1, format.dim_v, format.group}, first,
                       item.block + format.v_codes + row * format.v_stride + i % chunks_v * 16,
                       reinterpret_cast<unsigned short*>(item.block + format.v_side) + row, 2 * format.block_rows,
                       format.block_rows);
  }
  const std::int64_t end = format.v_side + 4 * format.block_rows * (format.dim_v / format.group);
  for (std::int64_t i = end + thread; i < format.block_bytes; i += kThreads) item.block[i] = std::byte{0};
}

/// Code i of a row of them.
template <int Bits>
__device__ inline unsigned packed_code(const std::byte* codes, int i) {
  const auto byte = static_cast<unsigned>(codes[i / kChunkCodes<Bits> * 16 + i % 16]);
  return byte >> (i % kChunkCodes<Bits> / 16 * Bits) & ((1u << Bits) - 1);
}

/// Block of threads b decodes elements of item b / kKiviSlices.
template <int Bits>
__global__ void __launch_bounds__(kKiviThreads)
    decode_groups(const cpu::BlockFormat format, const DecodeItem* __restrict__ items) {
  constexpr int kSlab = 64, kThreads = kKiviSlices * kKiviThreads;
  const DecodeItem item = items[blockIdx.x / kKiviSlices];
  const int thread = static_cast<int>(blockIdx.x % kKiviSlices) * kKiviThreads + static_cast<int>(threadIdx.x);
  for (int i = thread; i < item.count * format.padded_k; i += kThreads) {
    const int channel = i % format.padded_k, row = item.first + i / format.padded_k;
    const auto* scales = reinterpret_cast<const unsigned short*>(item.block + format.k_side) +
                         2 * (row / format.group) * format.padded_k + channel;
    const std::byte* codes = item.block + format.k_codes + (row / kSlab * format.padded_k + channel) * format.k_stride;
    item.k[i] = value_of(group_side(scales[0], scales[format.padded_k]),
                         static_cast<float>(packed_code<Bits>(codes, row % kSlab)));
  }
  for (int i = thread; i < item.count * format.padded_v; i += kThreads) {
    const int element = i % format.padded_v, row = item.first + i / format.padded_v;
    float value = 0.f;
    if (element < format.dim_v) {
      const auto* scales = reinterpret_cast<const unsigned short*>(item.block + format.v_side) +
                           2 * (element / format.group) * format.block_rows + row;
      value =
          value_of(group_side(scales[0], scales[format.block_rows]),
                   static_cast<float>(packed_code<Bits>(item.block + format.v_codes + row * format.v_stride, element)));
    }
    item.v[i] = value;
  }
}

}  // namespace tandem::gpu::cuda
