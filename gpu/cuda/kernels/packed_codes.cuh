#pragma once

#include "gpu/cuda/kernels/platform.cuh"

// Codes of 2 or 4 bits as cpu/codec/packed_codes.h lays them out, and the scales and minima that go with them, see
// cpu/codec/uniform_group.h. A lane takes a piece of a row of codes: as many bytes as a code has bits, which hold 8.

namespace tandem::gpu::cuda {

inline constexpr int kPieceCodes = 8;
template <int Bits>
inline constexpr int kChunkCodes = 128 / Bits;  ///< in 16 bytes

/// Which code of a row is number i of a piece. The first four codes lie in one half of a chunk, the others in the same
/// (4 bits) or the other (2 bits).
template <int Bits>
__device__ inline int code_of_piece(int piece, int i) {
  constexpr int kPieces = 16 / Bits;
  return piece / kPieces * kChunkCodes<Bits> + i / Bits * 16 + piece % kPieces * Bits + i % Bits;
}

template <int Bits>
__device__ inline unsigned load_piece(const std::byte* source) {
  if constexpr (Bits == 4) {
    return *reinterpret_cast<const unsigned*>(source);
  } else {
    return *reinterpret_cast<const unsigned short*>(source);
  }
}

/// The codes of a piece as numbers. They become the low bits of a fraction where they lie: a mask and a sum each, and
/// no conversion, of which a processor does few.
template <int Bits>
__device__ inline void unpack_piece(unsigned piece, float (&x)[kPieceCodes]) {
  constexpr int kFractionBits = 23;
#pragma unroll
  for (int i = 0; i < kPieceCodes; ++i) {
    const int shift = 8 * (i % Bits) + i / Bits * Bits;
    const bool is_high = shift > kFractionBits - Bits;
    const int place = is_high ? shift - 16 : shift;
    const unsigned exponent = static_cast<unsigned>(127 + kFractionBits - place) << kFractionBits;
    const unsigned mask = ((1u << Bits) - 1) << place;
    x[i] = __uint_as_float(((is_high ? piece >> 16 : piece) & mask) | exponent) - __uint_as_float(exponent);
  }
}

/// What the codes of a group stand for: minimum + code * scale.
struct GroupSide {
  float scale;
  float minimum;
};

__device__ inline GroupSide group_side(unsigned scale, unsigned minimum) {
  return {__uint_as_float(scale << 15), __uint_as_float(minimum << 16)};
}

/// Rounded once: a code and a scale have 13 bits together.
__device__ inline float value_of(const GroupSide& side, float code) { return fmaf(code, side.scale, side.minimum); }

}  // namespace tandem::gpu::cuda
