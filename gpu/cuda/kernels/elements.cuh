#pragma once

#include "gpu/cuda/kernels/platform.cuh"

// Elements of rows and tensors as fp32 and back. Integer arithmetic where that is enough, so that a V100, which has no
// bf16, runs the same code.

namespace tandem::gpu::cuda {

/// Element types, as template arguments: their values in memory are kBytes each.
struct F32 {
  static constexpr int kBytes = 4;
};
struct F16 {
  static constexpr int kBytes = 2;
};
struct Bf16 {
  static constexpr int kBytes = 2;
};

__device__ inline float bf16_to_float(unsigned bits) { return __uint_as_float(bits << 16); }

/// Rounds a finite value to nearest even.
__device__ inline unsigned float_to_bf16(float value) {
  const unsigned bits = __float_as_uint(value);
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

/// Of a finite half.
__device__ inline float f16_to_float(unsigned bits) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<unsigned short>(bits)));
  return value;
#else
  // The exponents differ by 112, and the product is exact for subnormal halves too.
  const float magnitude = __uint_as_float((bits & 0x7fffu) << 13) * __uint_as_float((127u + 112u) << 23);
  return __uint_as_float(__float_as_uint(magnitude) | (bits & 0x8000u) << 16);
#endif
}

/// Rounds a value that a half can hold to nearest even.
__device__ inline unsigned float_to_f16(float value) {
#if defined(__CUDA_ARCH__)
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#else
  const unsigned sign = __float_as_uint(value) >> 16 & 0x8000u;
  const unsigned magnitude = __float_as_uint(value) & 0x7fffffffu;
  if (magnitude < 0x38800000u) {  // below the least normal half: adding 1/2 leaves multiples of 2^-24 in the fraction
    return sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u);
  }
  return sign | ((magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
#endif
}

/// e4m3, see cpu/codec/fp8.h. Exact: the exponents differ by 120, subnormals included.
__device__ inline float fp8_to_float(unsigned bits) {
  const float magnitude = __uint_as_float((bits & 0x7fu) << 20) * __uint_as_float((127u + 120u) << 23);
  return __uint_as_float(__float_as_uint(magnitude) | (bits & 0x80u) << 24);
}

/// Rounds a value of magnitude at most 448 to nearest even.
__device__ inline unsigned float_to_fp8(float value) {
  const unsigned sign = __float_as_uint(value) >> 24 & 0x80u;
  const unsigned magnitude = __float_as_uint(value) & 0x7fffffffu;
  if (magnitude < 0x3c800000u) {  // below the least normal number: adding 2^14 leaves multiples of 2^-9 in the fraction
    return sign | (__float_as_uint(__uint_as_float(magnitude) + 16384.f) - 0x46800000u);
  }
  return sign | ((magnitude - (120u << 23) + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20);
}

/// 16 bytes, which are read once and need no place in the L1 cache; zeros where they are not there. On a GPU loads stay
/// in the order of the source among themselves and before the products that follow, so that all are under way at once.
__device__ inline uint4 load_once(const std::byte* source, bool is_there) {
#if defined(__CUDA_ARCH__)
  uint4 words;
  asm volatile(
      "{\n"
      "  .reg .pred there;\n"
      "  setp.ne.u32 there, %5, 0;\n"
      "  mov.u32 %0, 0;\n  mov.u32 %1, 0;\n  mov.u32 %2, 0;\n  mov.u32 %3, 0;\n"
      "  @there ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\n"
      "}"
      : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
      : "l"(__cvta_generic_to_global(source)), "r"(static_cast<unsigned>(is_there)));
  return words;
#else
  return is_there ? *reinterpret_cast<const uint4*>(source) : uint4{0, 0, 0, 0};
#endif
}

/// Eight consecutive elements as they lie in memory: loading them early, and converting them when they are needed,
/// keeps many loads under way.
template <typename T>
struct Raw8 {
  uint4 words[T::kBytes / 2];
};

/// `source` is aligned to 16 bytes.
template <typename T>
__device__ inline Raw8<T> load_raw8(const std::byte* source) {
  Raw8<T> raw;
#pragma unroll
  for (int i = 0; i < T::kBytes / 2; ++i) raw.words[i] = reinterpret_cast<const uint4*>(source)[i];
  return raw;
}

__device__ inline void unpack8(const Raw8<F32>& raw, float (&x)[8]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    x[4 * i] = __uint_as_float(raw.words[i].x);
    x[4 * i + 1] = __uint_as_float(raw.words[i].y);
    x[4 * i + 2] = __uint_as_float(raw.words[i].z);
    x[4 * i + 3] = __uint_as_float(raw.words[i].w);
  }
}

__device__ inline void unpack8(const Raw8<Bf16>& raw, float (&x)[8]) {
  const unsigned words[4] = {raw.words[0].x, raw.words[0].y, raw.words[0].z, raw.words[0].w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = __uint_as_float(words[i] << 16);
    x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

__device__ inline void unpack8(const Raw8<F16>& raw, float (&x)[8]) {
  const unsigned words[4] = {raw.words[0].x, raw.words[0].y, raw.words[0].z, raw.words[0].w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = f16_to_float(words[i] & 0xffffu);
    x[2 * i + 1] = f16_to_float(words[i] >> 16);
  }
}

/// <(low, high), x>
__device__ inline float dot8(const float4& low, const float4& high, const float (&k)[8]) {
  float dot = low.x * k[0];
  dot = fmaf(low.y, k[1], dot);
  dot = fmaf(low.z, k[2], dot);
  dot = fmaf(low.w, k[3], dot);
  dot = fmaf(high.x, k[4], dot);
  dot = fmaf(high.y, k[5], dot);
  dot = fmaf(high.z, k[6], dot);
  return fmaf(high.w, k[7], dot);
}

}  // namespace tandem::gpu::cuda
