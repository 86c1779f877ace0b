#pragma once

#include <cstdint>

namespace tandem::cpu {

/// Vectors whose codes, or rows whose marks, one word of bits covers.
inline constexpr int kCodeBlock = 64;

/// Signed Walsh-Hadamard rounds: vectors are padded to `block` (a power of two, at least padded_dim), multiplied by the
/// first row of signs and transformed; num_blocks times, the result is multiplied by a further row and transformed
/// again.
struct HadamardRounds {
  const float* signs;  ///< (1 + num_blocks, block), each +1 or -1
  int padded_dim;
  int block;
  int num_blocks;
};

/// One query head's two bits in a byte per row, which counts collisions up to two: `once` is set by the first, `twice`
/// by a further one. 0 for `twice` stops at one.
struct CollisionMark {
  std::uint8_t once;
  std::uint8_t twice;
};

/// Kernels of SimHash codes and their tables, part of Kernels. Raw pointers and counts; all noexcept and thread-safe.
struct SimHashKernels {
  /// bits[b] gets bit v: component b of vector v is positive, for num_vectors <= kCodeBlock rows of `vectors`
  /// (num_vectors, padded_dim) and num_blocks * block components. `work` is scratch for 32 * block floats, 64-byte
  /// aligned. Without fused operations: equal to the bit on every instruction set.
  void (*hadamard_bits)(const float* vectors, int num_vectors, const HadamardRounds& rounds, float* work,
                        std::uint64_t* bits);

  /// codes (num_tables, kCodeBlock): bit i of table t is bits[sampled[t * bits_per_table + i]], of num_vectors vectors;
  /// what lies beyond them is undefined.
  void (*sample_codes)(const std::uint64_t* bits, int num_vectors, const std::uint16_t* sampled, int bits_per_table,
                       int num_tables, std::uint16_t* codes);

  /// Marks those of kCodeBlock rows whose codes (num_tables, kCodeBlock) equal query_codes (num_tables) in some table.
  void (*mark_equal_codes)(const std::uint16_t* codes, const std::uint16_t* query_codes, int num_tables,
                           CollisionMark mark, std::uint8_t* marks);

  /// found[w] gets bit r: marks[w * kCodeBlock + r] has a bit of `wanted`; or-ed in. num_rows a multiple of kCodeBlock.
  void (*find_marked)(const std::uint8_t* marks, std::int64_t num_rows, std::uint8_t wanted, std::uint64_t* found);
};

}  // namespace tandem::cpu
