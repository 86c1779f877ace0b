#pragma once

#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/kernels.h"

namespace tandem::cpu {

inline constexpr int kMaxBitsPerTable = 12;
inline constexpr int kMaxTables = 300;
inline constexpr int kMinSharedBits = 128;
inline constexpr int kMaxSharedBits = 2048;

/// Where the sign bits of a SimHash come from.
enum class HashPlanes : std::int32_t {
  hadamard,  ///< orthogonal blocks of signed Walsh-Hadamard transforms; every table samples its bits from these
  gaussian,  ///< one independent Gaussian direction per bit of every table
};

struct SimHashParams {
  int bits_per_table = 10;  ///< K, 1 to kMaxBitsPerTable
  int num_tables = 150;     ///< L, 1 to kMaxTables
  HashPlanes planes = HashPlanes::hadamard;
  int shared_bits = 1024;  ///< m of `hadamard`: a multiple of 64, kMinSharedBits to kMaxSharedBits, made whole blocks
};

/// Memory that calls of SimHash::encode share.
struct HashScratch {
  AlignedVector<std::uint64_t> bits;
  AlignedVector<float> work;
};

/// SimHash: num_tables codes of bits_per_table sign bits each.
///
/// A pure function of (seed, dim, params), the same on every machine; hadamard codes are equal to the bit on every
/// instruction set, gaussian ones up to sums that round to the other side of zero. Two vectors at angle t agree in one
/// bit with probability 1 - t / pi. Gaussian tables are independent; hadamard tables share bits, so that collisions in
/// two tables are positively correlated (tests/lsh/tables_laws_test.cpp says how much that matters). Sources: Charikar
/// 2002; MagicPIG, arXiv:2410.16179, section 4; Andoni et al., arXiv:1509.02897, section 4 (signed Hadamard rounds).
class SimHash {
 public:
  SimHash(std::uint64_t seed, int dim, const SimHashParams& params = {});

  /// Codes in blocks of kCodeBlock vectors, (num_blocks(num_vectors), num_tables, kCodeBlock): see code_index. Entries
  /// beyond num_vectors are undefined. vectors (num_vectors, padded(dim)) 64-byte aligned, zero-padded. Thread-safe on
  /// distinct scratch.
  void encode(const Kernels& kernels, const float* vectors, std::int64_t num_vectors, std::uint16_t* codes,
              HashScratch& scratch) const;

  [[nodiscard]] static std::int64_t num_blocks(std::int64_t num_vectors) noexcept {
    return (num_vectors + kCodeBlock - 1) / kCodeBlock;
  }
  [[nodiscard]] std::int64_t codes_size(std::int64_t num_vectors) const noexcept {
    return num_blocks(num_vectors) * params_.num_tables * kCodeBlock;
  }
  /// Where encode() puts the code of a vector in a table.
  [[nodiscard]] std::size_t code_index(std::int64_t vector, int table) const noexcept {
    return static_cast<std::size_t>((vector / kCodeBlock * params_.num_tables + table) * kCodeBlock +
                                    vector % kCodeBlock);
  }

  [[nodiscard]] int bits_per_table() const noexcept { return params_.bits_per_table; }
  [[nodiscard]] int num_tables() const noexcept { return params_.num_tables; }
  /// Bits per vector: shared_bits in whole blocks, or bits_per_table * num_tables in whole words.
  [[nodiscard]] int num_bits() const noexcept { return num_bits_; }
  /// Bit i of code t is bit sampled()[t * bits_per_table + i] of the vector.
  [[nodiscard]] const std::vector<std::uint16_t>& sampled() const noexcept { return sampled_; }
  /// Gaussian: the direction of one bit, (padded dim) with stride num_bits(). Hadamard: signs (1 + num_bits / block,
  /// block), see HadamardRounds.
  [[nodiscard]] const float* planes() const noexcept { return planes_.data(); }
  [[nodiscard]] int padded_dim() const noexcept { return padded_dim_; }
  /// Dimensions of one Hadamard transform, a power of two; 0 for gaussian.
  [[nodiscard]] int block() const noexcept { return block_; }

 private:
  void encode_block(const Kernels& kernels, const float* vectors, int count, std::uint16_t* codes,
                    HashScratch& scratch) const;

  SimHashParams params_;
  int padded_dim_;
  int block_ = 0;  // dimensions of one transform, a power of two; hadamard only
  int num_bits_ = 0;
  AlignedVector<float> planes_;         // gaussian: (padded_dim, num_bits); hadamard: signs (1 + blocks, block)
  std::vector<std::uint16_t> sampled_;  // (num_tables, bits_per_table)
};

/// The probability that vectors which agree in one bit with probability p share their code in at least `min_collisions`
/// (1 or 2) of the tables, prepared for the kernel: u = 1 - sum_{j < m} C(L, j) x^j (1 - x)^(L - j) with x = p^K.
CollisionWeight collision_weight(int bits_per_table, int num_tables, int min_collisions);

}  // namespace tandem::cpu
