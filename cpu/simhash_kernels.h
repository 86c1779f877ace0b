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

/// -ln of the probability that a key shares a bucket with the query in at least m of L tables of K bits, as a function
/// of their angle: p = 1 - angle / pi, x = p^K, u = P(Binomial(L, x) >= m). See cpu/codec/simhash.h.
struct CollisionWeight {
  static constexpr int kTerms = 7;
  int bits_per_table = 0;
  float power = 0.f;  ///< u = 1 - (1 - x)^power (1 + slope x), used for L x >= series_below
  float slope = 0.f;
  float series_below = 0.f;
  int leading_power = 1;  ///< else u = x^m sum_i series[i] x^i, where that difference would cancel
  float series[kTerms] = {};
};

/// Kernels of SimHash codes and their tables, part of Kernels. Raw pointers and counts; all thread-safe.
struct SimHashKernels {
  /// bits[v] gets one bit per plane: <vectors[v], plane> > 0. vectors (num_vectors, padded_dim); planes is
  /// (padded_dim, num_planes) row-major, num_planes a multiple of 64; bits is (num_vectors, num_planes / 64) words.
  void (*sign_bits)(const float* vectors, std::int64_t num_vectors, int padded_dim, const float* planes, int num_planes,
                    std::uint64_t* bits) noexcept;

  /// bits[b] gets bit v: component b of vector v is positive, for num_vectors <= kCodeBlock rows of `vectors`
  /// (num_vectors, padded_dim) and num_blocks * block components. `work` is scratch for 32 * block floats, 64-byte
  /// aligned. Without fused operations: equal to the bit on every instruction set.
  void (*hadamard_bits)(const float* vectors, int num_vectors, const HadamardRounds& rounds, float* work,
                        std::uint64_t* bits) noexcept;

  /// codes (num_tables, kCodeBlock): bit i of table t is bits[sampled[t * bits_per_table + i]], of num_vectors vectors;
  /// what lies beyond them is undefined.
  void (*sample_codes)(const std::uint64_t* bits, int num_vectors, const std::uint16_t* sampled, int bits_per_table,
                       int num_tables, std::uint16_t* codes) noexcept;

  /// Marks those of kCodeBlock rows whose codes (num_tables, kCodeBlock) equal query_codes (num_tables) in some table.
  void (*mark_equal_codes)(const std::uint16_t* codes, const std::uint16_t* query_codes, int num_tables,
                           CollisionMark mark, std::uint8_t* marks) noexcept;

  /// found[w] gets bit r: marks[w * kCodeBlock + r] has a bit of `wanted`; or-ed in. num_rows a multiple of kCodeBlock.
  void (*find_marked)(const std::uint8_t* marks, std::int64_t num_rows, std::uint8_t wanted,
                      std::uint64_t* found) noexcept;

  /// weights[r] = -ln u(angle) of one query vector against `count` <= kBlockRows keys, where cos(angle) =
  /// (scores[r] - offset) * inverse_norms[r] * inverse_scale, clamped to [-1, 1]. Always finite and >= 0.
  void (*collision_log_weights)(const CollisionWeight& weight, const float* scores, const float* inverse_norms,
                                int count, float offset, float inverse_scale, float* weights) noexcept;
};

}  // namespace tandem::cpu
