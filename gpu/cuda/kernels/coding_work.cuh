#pragma once

#include "gpu/cuda/kernels/platform.cuh"

// What kernels that code keys for an index are told; host code reads this, too. All pointers are to device memory.

namespace tandem::gpu::cuda {

/// What the K of a host row consists of. Integers have their scale behind them, see cpu/row_layout.h.
enum class KeyType : std::int32_t { f32, f16, bf16, int8 };

/// Keys of one head, in rows that begin at multiples of 16 bytes.
struct KeyRows {
  const std::byte* rows;
  const float* mean;      ///< (padded_k), subtracted
  std::int32_t stride;    ///< bytes
  std::int32_t count;     ///< of rows
  std::int32_t padded_k;  ///< a multiple of 16
  KeyType type;
};

/// A SketchFormat and the planes of keys, see cpu/codec/sketch.h; the arrays are aligned to 16 bytes.
struct SketchCoding {
  const float* planes;         ///< (padded_k, padded_dims)
  const float* inverse_steps;  ///< (padded_dims), and so are steps and levels
  const float* steps;
  const float* levels;
  const std::uint16_t* bits;  ///< (8 code_bytes): where each bit of a code comes from, see sketch_bit()
  float inverse_factor_scale;
  std::int32_t padded_dims;  ///< a multiple of 16
  std::int32_t code_bytes;
};

/// SketchCoding::bits: bit `plane` (0 to 3) of the level of coordinate `dim`.
constexpr std::uint16_t sketch_bit(int dim, int plane) { return static_cast<std::uint16_t>(dim * 4 + plane); }

/// A SimHash, see cpu/codec/simhash.h.
struct HashCoding {
  const float* planes;           ///< gaussian: (padded_k, num_bits); hadamard: signs (1 + num_bits / block, block)
  const std::uint16_t* sampled;  ///< (num_tables, bits_per_table)
  std::int32_t bits_per_table;
  std::int32_t num_tables;
  std::int32_t num_bits;  ///< a multiple of 32
  std::int32_t block;     ///< of a Hadamard transform: 16, 32, .. 256; 0: gaussian
};

}  // namespace tandem::gpu::cuda
