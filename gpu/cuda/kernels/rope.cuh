#pragma once

#include "gpu/cuda/kernels/work.cuh"

namespace tandem::gpu::cuda {

template <typename T>
struct Rotation {
  T cosine;
  T sine;
};

/// Of an angle in whole turns times 2^64, which wraps as angles do: RopeTable::turns() times a position needs no
/// reduction. Exact to rounding, by Taylor's series of less than an eighth of a turn: no table, and no slow path.
template <typename T>
__device__ __forceinline__ Rotation<T> rotation(std::uint64_t turns) {
  const auto quarters = static_cast<unsigned>((turns + (std::uint64_t{1} << 61)) >> 62);
  const auto rest = static_cast<std::int64_t>(turns - (static_cast<std::uint64_t>(quarters) << 62));
  const T x = static_cast<T>(rest) * static_cast<T>(3.40612158008655458933e-19);  // 2 pi / 2^64
  const T y = x * x;
  T sine = static_cast<T>(1.0 / 362880), cosine = static_cast<T>(-1.0 / 3628800);
  if (sizeof(T) > sizeof(float)) {
    sine = ((static_cast<T>(-1.0 / 1307674368000) * y + static_cast<T>(1.0 / 6227020800)) * y -
            static_cast<T>(1.0 / 39916800)) *
               y +
           sine;
    cosine = ((static_cast<T>(1.0 / 20922789888000) * y - static_cast<T>(1.0 / 87178291200)) * y +
              static_cast<T>(1.0 / 479001600)) *
                 y +
             cosine;
  }
  sine = sine * y - static_cast<T>(1.0 / 5040);
  sine = sine * y + static_cast<T>(1.0 / 120);
  sine = sine * y - static_cast<T>(1.0 / 6);
  sine = sine * y * x + x;
  cosine = cosine * y + static_cast<T>(1.0 / 40320);
  cosine = cosine * y - static_cast<T>(1.0 / 720);
  cosine = cosine * y + static_cast<T>(1.0 / 24);
  cosine = cosine * y - static_cast<T>(0.5);
  cosine = cosine * y + static_cast<T>(1);
  const T c = quarters % 2 != 0 ? sine : cosine, s = quarters % 2 != 0 ? cosine : sine;
  return {quarters == 1 || quarters == 2 ? -c : c, quarters >= 2 ? -s : s};
}

/// Elements of a row, as RopeTable::elements().
struct PairElements {
  std::int32_t first;
  std::int32_t second;
};
__device__ inline PairElements pair_elements(const cpu::BlockFormat& format, std::int32_t pair) {
  if (pair >= format.rope_pairs || format.rope_interleaved) return {2 * pair, 2 * pair + 1};
  return {pair, pair + format.rope_pairs};
}

}  // namespace tandem::gpu::cuda
