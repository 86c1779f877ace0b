#pragma once

#include "gpu/cuda/kernels/elements.cuh"

// Products on tensor cores: of elements of 16 bits, and of small integers with fp32 numbers, of bf16 and without loss:
// an integer of 8 bits is a bf16 number, and an fp32 number the sum of three.

namespace tandem::gpu::cuda {

/// Whether the kernels that need bf16 tensor cores have code in this compilation, and those that do their work without.
#if defined(TANDEM_CUDA_EMULATED)
inline constexpr bool kForTensorCores = true, kForOlderDevices = true;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
inline constexpr bool kForTensorCores = false, kForOlderDevices = true;
#else
inline constexpr bool kForTensorCores = true, kForOlderDevices = false;
#endif
inline constexpr int kTensorCoreMajor = 8;  ///< of the compute capability, at least

/// A lane of a warp is (row, column) of fragments: a 16x8 matrix has the rows `row` and `row` + 8, and the columns
/// 2 `column` and the next of them.
struct FragmentLane {
  int row;
  int column;
};
__device__ inline FragmentLane fragment_lane() {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return {lane / 4, lane % 4};
}

#if defined(TANDEM_CUDA_EMULATED)
/// What multiply_add() does; `half` is an element of a word, as fp32.
template <typename Half>
void emulate_multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const Half& half) {
  struct Operands {
    unsigned a[8][32][4], b[8][32][2];  // of 8 warps at most
  };
  TANDEM_SHARED(Operands, operands);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int i = 0; i < 4; ++i) operands.a[warp][lane][i] = a[i];
  operands.b[warp][lane][0] = b0;
  operands.b[warp][lane][1] = b1;
  __syncwarp();
  const FragmentLane at = fragment_lane();
  for (int i = 0; i < 4; ++i) {
    const int lower = i / 2, column = 2 * at.column + i % 2;
    for (int k = 0; k < 16; ++k) {
      const int owner = k % 8 / 2, upper = k / 8;
      sum[i] += half(operands.a[warp][at.row * 4 + owner][2 * upper + lower] >> (k % 2 * 16) & 0xffffu) *
                half(operands.b[warp][column * 4 + owner][upper] >> (k % 2 * 16) & 0xffffu);
    }
  }
  __syncwarp();
}
#endif

/// sum (16, 8) += a (16, 16) b (16, 8), fp32 += bf16 * bf16. With k0..k3 = 2 column + {0, 1, 8, 9} of a lane:
///
///   a = [row: k0, k1 | row + 8: k0, k1 | row: k2, k3 | row + 8: k2, k3]     the first in the low half of each word
///   b = [k0, k1 | k2, k3], of column `row`
///   sum = [row: 2 column, 2 column + 1 | row + 8: the same]
///
/// Which k is which does not matter to the sum as long as a and b agree. All lanes of the warp call it.
__device__ inline void multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if defined(TANDEM_CUDA_EMULATED)
  emulate_multiply_add(sum, a, b0, b1, bf16_to_float);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/// The same of elements of a type.
__device__ inline void multiply_add(Bf16, float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  multiply_add(sum, a, b0, b1);
}
__device__ inline void multiply_add(F16, float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if defined(TANDEM_CUDA_EMULATED)
  emulate_multiply_add(sum, a, b0, b1, f16_to_float);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/// The transpose of an 8x8 matrix of elements of 16 bits, of which a lane has columns 2 `column` and the next of its
/// row, the first in the low half, before and after. All lanes of the warp call it.
__device__ inline unsigned transposed(unsigned pair) {
#if defined(TANDEM_CUDA_EMULATED)
  struct Pairs {
    unsigned of_lane[8][32];  // of 8 warps at most
  };
  TANDEM_SHARED(Pairs, pairs);
  const auto& matrix = pairs.of_lane[threadIdx.x / 32];
  pairs.of_lane[threadIdx.x / 32][threadIdx.x % 32] = pair;
  __syncwarp();
  const FragmentLane at = fragment_lane();
  const auto element = [&](int row) { return matrix[row * 4 + at.row / 2] >> (at.row % 2 * 16) & 0xffffu; };
  const unsigned result = element(2 * at.column) | element(2 * at.column + 1) << 16;
  __syncwarp();
  return result;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(pair));
  return result;
#else
  return pair;
#endif
}

/// Two numbers rounded to nearest even, the first in the low half; those of F16 must be in its range.
__device__ inline unsigned rounded_pair(Bf16, float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return float_to_bf16(low) | float_to_bf16(high) << 16;
#endif
}
__device__ inline unsigned rounded_pair(F16, float low, float high) {
  return float_to_f16(low) | float_to_f16(high) << 16;
}
__device__ inline float element_of(Bf16, unsigned bits) { return bf16_to_float(bits); }
__device__ inline float element_of(F16, unsigned bits) { return f16_to_float(bits); }

inline constexpr int kBf16Parts = 3;

/// Four numbers as sums of bf16 numbers: part p of the first two in pairs[p][0], of the others in pairs[p][1].
struct Bf16Sums {
  unsigned pairs[kBf16Parts][2];
};

__device__ inline Bf16Sums bf16_sums(float (&x)[4]) {
  constexpr unsigned kUpper = 0xffff0000u;
  Bf16Sums sums;
#pragma unroll
  for (int p = 0; p < kBf16Parts; ++p) {
    sums.pairs[p][0] = __byte_perm(__float_as_uint(x[0]), __float_as_uint(x[1]), 0x7632);
    sums.pairs[p][1] = __byte_perm(__float_as_uint(x[2]), __float_as_uint(x[3]), 0x7632);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] -= __uint_as_float(__float_as_uint(x[i]) & kUpper);
  }
  return sums;
}

/// sum += a times the numbers.
__device__ inline void multiply_add(float (&sum)[4], const unsigned (&a)[4], const Bf16Sums& b) {
#pragma unroll
  for (int p = 0; p < kBf16Parts; ++p) multiply_add(sum, a, b.pairs[p][0], b.pairs[p][1]);
}

/// The sums of two pairs of bf16 numbers, which must be such numbers too.
__device__ inline unsigned add_bf16_pairs(unsigned x, unsigned y) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned sum;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(0x3f803f80u), "r"(y));
  return sum;
#else
  const float low = __uint_as_float(x << 16) + __uint_as_float(y << 16);
  const float high = __uint_as_float(x & 0xffff0000u) + __uint_as_float(y & 0xffff0000u);
  return __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
#endif
}

/// The codes of `Bits` bits from bit `place` of each half of `pair` on, as bf16 numbers less centre_of_codes(). They
/// become the upper part of the fraction of 2^Bits. What has a mean of about 0 adds up with less error than codes do,
/// all the more as tensor cores round towards 0.
template <int Bits>
__device__ inline unsigned code_pair(unsigned pair, int place) {
  constexpr int kTarget = 7 - Bits;
  constexpr unsigned kMask = ((1u << Bits) - 1) << kTarget, kBase = static_cast<unsigned>(127 + Bits) << 7;
  constexpr unsigned kLess = 0x8000u | kBase | (64u - (64u >> Bits));  // 2^Bits + centre_of_codes()
  const unsigned moved = place < kTarget ? pair << (kTarget - place) : pair >> (place - kTarget);
  return add_bf16_pairs((moved & (kMask | kMask << 16)) | (kBase | kBase << 16), kLess | kLess << 16);
}

template <int Bits>
__device__ constexpr float centre_of_codes() {
  return 0.5f * static_cast<float>((1 << Bits) - 1);
}

}  // namespace tandem::gpu::cuda
