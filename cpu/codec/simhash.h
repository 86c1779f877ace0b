#pragma once

#include <cstdint>

#include "cpu/aligned_vector.h"
#include "cpu/kernels.h"

namespace tandem::cpu {

inline constexpr int kMaxBitsPerTable = 12;
inline constexpr int kMaxTables = 300;

/// SimHash: num_tables codes of bits_per_table sign bits each, from Gaussian directions.
///
/// The planes are a pure function of (seed, dim, bits_per_table, num_tables), the same on every machine. Two vectors at
/// angle t agree in one bit with probability 1 - t / pi. Source: Charikar 2002; MagicPIG, arXiv:2410.16179, section 4.
class SimHash {
 public:
  SimHash(std::uint64_t seed, int dim, int bits_per_table, int num_tables);

  /// codes (num_vectors, num_tables): the code of each vector in each table, in [0, 2^bits_per_table). vectors
  /// (num_vectors, padded(dim)) 64-byte aligned, zero-padded. Bit i of code t is plane t * bits_per_table + i.
  /// `bits` is scratch. Thread-safe on distinct scratch.
  void encode(const Kernels& kernels, const float* vectors, std::int64_t num_vectors, std::uint16_t* codes,
              AlignedVector<std::uint64_t>& bits) const;

  [[nodiscard]] int bits_per_table() const noexcept { return bits_per_table_; }
  [[nodiscard]] int num_tables() const noexcept { return num_tables_; }
  /// The direction of one bit, (padded dim) with stride num_planes(); for tests.
  [[nodiscard]] const float* planes() const noexcept { return planes_.data(); }
  [[nodiscard]] int num_planes() const noexcept { return num_planes_; }

 private:
  int padded_dim_;
  int bits_per_table_;
  int num_tables_;
  int num_planes_;               // bits_per_table * num_tables, rounded up to whole words
  AlignedVector<float> planes_;  // (padded_dim, num_planes)
};

/// The probability that vectors which agree in one bit with probability p share their code in at least `min_collisions`
/// (1 or 2) of the tables, prepared for the kernel: u = 1 - sum_{j < m} C(L, j) x^j (1 - x)^(L - j) with x = p^K.
CollisionWeight collision_weight(int bits_per_table, int num_tables, int min_collisions);

}  // namespace tandem::cpu
