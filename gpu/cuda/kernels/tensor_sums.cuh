#pragma once

#include "gpu/cuda/kernels/tensor_core.cuh"

// Attention on tensor cores over rows of 16 bits, as they are. Queries and weights are sums of two numbers of the rows'
// type, off by 2^-17 (bf16) or 2^-22 (f16) of themselves: two products where one would do. With weights of one bf16
// number out is off by 2^-9 of the mean |v|, and that has been more than 2e-3 of |out|. Sums of weights are fp32.

namespace tandem::gpu::cuda {

inline constexpr int kTensorParts = 2;

/// Where F16 is used, units of queries are powers of two that bring their largest element to [1, 2), and weights are
/// multiplied with 2^14: both far from where halves overflow, and from where they become subnormal.
template <typename T>
inline constexpr bool kHasSmallRange = false;
template <>
inline constexpr bool kHasSmallRange<F16> = true;
template <typename T>
inline constexpr float kWeightBits = kHasSmallRange<T> ? 14.f : 0.f;

/// Two numbers, the first in the low halves, as the sums of the parts.
struct TensorSums {
  unsigned parts[kTensorParts];
};
template <typename T>
__device__ TensorSums tensor_sums(float low, float high) {
  const unsigned rounded = rounded_pair(T{}, low, high);
  return {
      {rounded, rounded_pair(T{}, low - element_of(T{}, rounded & 0xffffu), high - element_of(T{}, rounded >> 16))}};
}

/// Writes a query vector, or zeros in place of nullptr, as words of pairs: part p to parts[p], which has `words` of
/// them, zeros beyond padded_k. Returns what the elements are multiples of. All lanes of a warp call it.
template <typename T>
__device__ float load_query(const float* query, std::int32_t padded_k, int words,
                            unsigned* const (&parts)[kTensorParts]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto* q = reinterpret_cast<const float2*>(query);
  const int there = query == nullptr ? 0 : padded_k / 2;
  float unit = 1.f, inverse = 1.f;
  if constexpr (kHasSmallRange<T>) {
    float most = 0.f;
    for (int i = lane; i < there; i += 32) most = fmaxf(most, fmaxf(fabsf(q[i].x), fabsf(q[i].y)));
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, offset, 32));
    // 2^e and 2^-e, both normal.
    const unsigned exponent = min(max(__float_as_uint(most) >> 23, 1u), 253u);
    unit = __uint_as_float(exponent << 23);
    inverse = __uint_as_float((254u - exponent) << 23);
  }
  for (int i = lane; i < words; i += 32) {
    const float2 x = i < there ? q[i] : float2{0.f, 0.f};
    const TensorSums sums = tensor_sums<T>(x.x * inverse, x.y * inverse);
#pragma unroll
    for (int part = 0; part < kTensorParts; ++part) parts[part][i] = sums.parts[part];
  }
  return unit;
}

}  // namespace tandem::gpu::cuda
